"""Stored features, written, read, and computed again: `python benchmarks/stored_features.py`.

Clips as long as those of IEMOCAP, features as wide as those of CLIP ViT-L/14, random numbers and weights. The same
bytes go through an Arrow file and through a plain file in the same run: the second is the limit of the machine.
"""

import argparse
import math
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow
import safetensors
import torch

from foal_hf import FoalNetConfig
from foal_hf.encoders_foal_net import encode_pictures, make_vision_encoder
from foal_hf.features import FeatureStore, embed
from foal_hf.quickstart import make_tiny_model, make_tiny_processor
from foal_hf.synthetic import generate_corpus, read_metadata


WIDTH = 768
SHARD_CLIPS = 1000
ENCODER_LAYERS = 4  # of 24: the time of the rest is the same again, and a benchmark should be short


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-clips", type=int, default=3000, help="clips in the store (%(default)s)")
    parser.add_argument("--frames-per-second", type=float, default=5.0, help="frames of each second (%(default)s)")
    parser.add_argument("--encoder-frames", type=int, default=2, help="frames in a pass of the encoder (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions; the encoder has 3 at most (%(default)s)")
    parser.add_argument("--device", default="cpu", help="of the image encoder (%(default)s)")
    parser.add_argument("--dtype", default="float32", help="of the image encoder (%(default)s)")
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    options = parser.parse_args()

    clips = make_clips(options.num_clips, options.frames_per_second)
    num_bytes = sum(clip.nbytes for clip in clips.values())
    frames_each = num_bytes / len(clips) / WIDTH / 2
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor()
    print(f"{device or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, safetensors {safetensors.__version__}, pyarrow {pyarrow.__version__}")
    print(f"{len(clips)} clips of {frames_each:.1f} frames on average, {num_bytes / 1e6:.0f} MB as float16\n")
    print("| | median of all clips | clips a second | MB a second |\n| --- | --- | --- | --- |")
    seconds: dict[str, float] = {}

    def measure(name: str, run: Callable[[], object], repeats: int = options.repeats, times: float = 1.0) -> None:
        seconds[name] = median_seconds(run, repeats) * times
        rates = len(clips) / seconds[name], num_bytes / seconds[name] / 1e6
        shown = (f"{rate:,.0f}" if rate > 10 else f"{rate:.3g}" for rate in rates)
        print(f"| {name} | {seconds[name]:,.3f} s | {' | '.join(shown)} |", flush=True)

    in_order = list(clips)
    at_random = random.Random(0).sample(in_order, len(in_order))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store_dir, arrow_file = Path(folder) / "store", Path(folder) / "features.arrow"
        store_dir.mkdir()
        measure("written, on the disk", lambda: write(clips, store_dir))
        measure("opened and read in order, checked", lambda: read(FeatureStore(store_dir), in_order))
        measure("opened and read at random, checked", lambda: read(FeatureStore(store_dir), at_random))
        store = FeatureStore(store_dir)
        read(store, in_order)
        measure("read at random, from the second epoch on", lambda: read(store, at_random))
        measure("Arrow: written, on the disk", lambda: write_arrow(clips, arrow_file))
        column = open_arrow(arrow_file)
        order = random.Random(0).sample(range(len(clips)), len(clips))
        measure("Arrow: read at random, not checked", lambda: read_arrow(column, order))
        plain = torch.cat(list(clips.values()))
        measure("limit: written as one plain file", lambda: write_plain(plain, Path(folder) / "plain"))
        measure("limit: copied in memory, clip by clip", lambda: [clip.clone() for clip in clips.values()])
        encode, times = make_encoder(options)
        measure("computed again", encode, 3, times * len(clips) * frames_each / options.encoder_frames)
        sizes = store.num_bytes, arrow_file.stat().st_size
        rate_first, rate_again = embed_rates(Path(folder))

    again = seconds["computed again"]
    random_read = seconds["opened and read at random, checked"]
    print(f"\nbytes a clip: {num_bytes / len(clips):,.0f} of features, ", end="")
    print(" and ".join(f"{(size - num_bytes) / len(clips):.0f} more" for size in sizes), "as safetensors and Arrow")
    print(f"computed again: {again / len(clips) / frames_each:.3g} s a frame")
    print(f"read at random, checked, against computed again: {again / random_read:,.0f}x")
    slower = seconds["written, on the disk"] / seconds["limit: written as one plain file"]
    print(f"written, against the plain file: {slower:.1f}x the time")
    print(
        f"embed, generated mp4 files, tiny encoder: {rate_first:.0f} clips a second, complete store: {rate_again:.0f}"
    )


def make_clips(num_clips: int, frames_per_second: float) -> dict[str, torch.Tensor]:
    """Random features by key: log-normal lengths with mean 4.55 s and median 3.58 s, cut to 0.58 to 6 s."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(2 * math.log(4.55 / 3.58))
    seconds = (torch.randn(num_clips, generator=generator) * spread + math.log(3.58)).exp().clamp(0.58, 6.0)
    frames = (seconds * frames_per_second).ceil().int().tolist()
    keys = [f"{random.Random(index).getrandbits(128):032x}" for index in range(num_clips)]
    return {key: torch.randn(num, WIDTH, generator=generator).half() for key, num in zip(keys, frames, strict=True)}


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def write(clips: dict[str, torch.Tensor], folder: Path) -> None:
    store = FeatureStore(folder)
    keys = list(clips)
    for first in range(0, len(keys), SHARD_CLIPS):
        store.write({key: clips[key] for key in keys[first : first + SHARD_CLIPS]})


def read(store: FeatureStore, keys: Iterable[str]) -> None:
    for key in keys:
        store.get(key)


def write_arrow(clips: dict[str, torch.Tensor], path: Path) -> None:
    schema = pyarrow.schema([("key", pyarrow.string()), ("features", pyarrow.binary())])
    with open(path, "wb") as file:
        with pyarrow.ipc.new_file(file, schema) as writer:
            for key, clip in clips.items():
                columns = [pyarrow.array([key]), pyarrow.array([clip.numpy().tobytes()], pyarrow.binary())]
                writer.write_batch(pyarrow.record_batch(columns, schema=schema))
        file.flush()
        os.fsync(file.fileno())


def open_arrow(path: Path) -> pyarrow.ChunkedArray:
    return pyarrow.ipc.open_file(pyarrow.memory_map(str(path))).read_all().combine_chunks().column("features").chunk(0)


def read_arrow(column: pyarrow.Array, order: Iterable[int]) -> None:
    for index in order:
        torch.from_numpy(np.frombuffer(column[index].as_buffer(), np.float16).reshape(-1, WIDTH).copy())


def write_plain(features: torch.Tensor, path: Path) -> None:
    with open(path, "wb") as file:
        file.write(features.numpy().data)
        file.flush()
        os.fsync(file.fileno())


def make_encoder(options: argparse.Namespace) -> tuple[Callable[[], object], float]:
    """A pass of some layers of CLIP ViT-L/14, and how many times as long all of them take."""
    config = FoalNetConfig()
    num_layers = config.vision_config.num_hidden_layers
    config.vision_config.num_hidden_layers = ENCODER_LAYERS
    encoder = make_vision_encoder(config).eval().to(options.device, getattr(torch, options.dtype))
    pictures = torch.randn(1, options.encoder_frames, 3, 224, 224, device=options.device)

    def encode() -> object:
        with torch.inference_mode():
            return encode_pictures(encoder, config, pictures).cpu()

    encode()
    return encode, num_layers / ENCODER_LAYERS


def embed_rates(folder: Path) -> tuple[float, float]:
    """Clips a second of `embed`: decoding and a tiny encoder, and with nothing left to do."""
    corpus = generate_corpus(folder / "corpus", num_speakers=6, clips_per_emotion=4, num_workers=1, progress=False)
    rows, processor = read_metadata(corpus), make_tiny_processor()
    model = make_tiny_model()
    model.config.freeze_vision_encoder = True

    def run() -> None:
        embed(rows, model, processor, folder / "embedded", progress=False)

    first, again = (len(rows) / median_seconds(run, 1) for _ in range(2))
    return first, again


if __name__ == "__main__":
    main()
