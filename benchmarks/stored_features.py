"""Stored features, written, read, and computed again: `python benchmarks/stored_features.py`.

Clips as long as those of IEMOCAP, features as wide as those of CLIP ViT-L/14, random numbers and weights. The same
bytes go through an Arrow file and through a plain file in the same run: the second is the limit of the machine.
"""

import argparse
import math
import os
import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
import torch
from harness import arguments, compare, save, seconds_of

from foal_hf import FoalNetConfig
from foal_hf.data.features import FeatureStore, embed
from foal_hf.experiments.quickstart import make_tiny_model, make_tiny_processor
from foal_hf.foal_net.vision_encoders_foal_net import encode_frames, make_vision_encoder
from foal_hf.synthetic import generate_corpus, read_metadata


WIDTH = 768
SHARD_CLIPS = 1000
WRITTEN, READ = "written, on the disk", "opened and read at random, checked"
PLAIN, COPIED = "limit: written as one plain file", "limit: copied in memory, clip by clip"
AGAIN = "computed again"


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"rounds": 1, "num_clips": 500, "num_speakers": 2},
        num_clips={"type": int, "default": 3000, "help": "clips in the store (%(default)s)"},
        frames_per_second={"type": float, "default": 5.0, "help": "frames of each second (%(default)s)"},
        encoder_layers={
            "type": int,
            "default": 4,
            "help": "of 24 that are timed: the others take as long (%(default)s)",
        },
        encoder_frames={"type": int, "default": 2, "help": "frames in a pass of the encoder (%(default)s)"},
        num_speakers={"type": int, "default": 6, "help": "of the generated corpus, 16 clips each (%(default)s)"},
        folder={"help": "where to write; a temporary folder by default"},
    )
    clips = make_clips(options.num_clips, options.frames_per_second)
    num_bytes = sum(clip.nbytes for clip in clips.values())
    frames_each = num_bytes / len(clips) / WIDTH / 2
    in_order = list(clips)
    at_random = random.Random(0).sample(in_order, len(in_order))
    plain = torch.cat(list(clips.values()))
    encode, times_layers = make_encoder(options)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store_dir, arrow_file, plain_file = (Path(folder) / name for name in ("store", "features.arrow", "plain"))
        store_dir.mkdir()
        write(clips, store_dir)
        write_arrow(clips, arrow_file)
        store, column = FeatureStore(store_dir), open_arrow(arrow_file)
        order = random.Random(0).sample(range(len(clips)), len(clips))
        ways = {
            WRITTEN: lambda: write(clips, store_dir),
            "opened and read in order, checked": lambda: read(FeatureStore(store_dir), in_order),
            READ: lambda: read(FeatureStore(store_dir), at_random),
            "read at random, from the second epoch on": lambda: read(store, at_random),
            "Arrow: written, on the disk": lambda: write_arrow(clips, Path(folder) / "again.arrow"),
            "Arrow: read at random, not checked": lambda: read_arrow(column, order),
            PLAIN: lambda: write_plain(plain, plain_file),
            COPIED: lambda: [clip.clone() for clip in clips.values()],
            AGAIN: encode,
        }
        times = compare(ways, options.rounds)
        times[AGAIN] = times[AGAIN].scaled(times_layers * len(clips) * frames_each / options.encoder_frames)
        more = [(size - num_bytes) / len(clips) for size in (store.num_bytes, arrow_file.stat().st_size)]
        rate_first, rate_again = embed_rates(Path(folder), options.num_speakers)

    def ratio(slow: str, fast: str) -> float:
        return times[slow].median / times[fast].median

    save(
        "stored_features",
        f"{len(clips)} clips of {frames_each:.1f} frames on average, {num_bytes / 1e6:.0f} MB as float16",
        {"all clips": "", "time": "s", "clips": "clips/s", "bytes": "MB/s"},
        [[name, timing, len(clips) / timing.median, num_bytes / timing.median / 1e6] for name, timing in times.items()],
        [
            f"A clip takes {num_bytes / len(clips):,.0f} bytes of features, and {more[0]:.0f} more in the store, "
            f"{more[1]:.0f} more in Arrow. Reading it at random and checking it is {ratio(AGAIN, READ):,.0f} times as "
            f"fast as computing it again, {times[AGAIN].median / len(clips) / frames_each:.3f} s a frame (the time of "
            f"{options.encoder_layers} layers of CLIP ViT-L/14, scaled to all).",
            f"What bounds it: writing takes {ratio(WRITTEN, PLAIN):.1f} times as long as the same bytes in one file, "
            f"and reading with its check {ratio(READ, COPIED):.1f} times as long as a copy in memory.",
            f"From generated mp4 files to a store with a tiny encoder, `embed` does {rate_first:.1f} clips a second, "
            f"and where all are there, {rate_again:,.0f}.",
        ],
        options=options,
    )


def make_clips(num_clips: int, frames_per_second: float) -> dict[str, torch.Tensor]:
    """Random features by key: log-normal lengths with mean 4.55 s and median 3.58 s, cut to 0.58 to 6 s."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(2 * math.log(4.55 / 3.58))
    seconds = (torch.randn(num_clips, generator=generator) * spread + math.log(3.58)).exp().clamp(0.58, 6.0)
    frames = (seconds * frames_per_second).ceil().int().tolist()
    keys = [f"{random.Random(index).getrandbits(128):032x}" for index in range(num_clips)]
    return {key: torch.randn(num, WIDTH, generator=generator).half() for key, num in zip(keys, frames, strict=True)}


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
    config.vision_config.num_hidden_layers = options.encoder_layers
    encoder = make_vision_encoder(config).eval().to(options.device, getattr(torch, options.dtype))
    pictures = torch.randn(1, options.encoder_frames, 3, 224, 224, device=options.device)

    def encode() -> object:
        with torch.inference_mode():
            return encode_frames(encoder, config.vision_interface, pictures).last_hidden_state.cpu()

    encode()
    return encode, num_layers / options.encoder_layers


def embed_rates(folder: Path, num_speakers: int) -> tuple[float, float]:
    """Clips a second of `embed`: decoding and a tiny encoder, and with nothing left to do."""
    corpus = generate_corpus(
        folder / "corpus", num_speakers=num_speakers, clips_per_emotion=4, num_workers=1, progress=False
    )
    rows, processor = read_metadata(corpus), make_tiny_processor()
    model = make_tiny_model()
    model.config.freeze_vision_encoder = True

    def run() -> None:
        embed(rows, model, processor, folder / "embedded", progress=False)

    first, again = (len(rows) / seconds_of(run) for _ in range(2))
    return first, again


if __name__ == "__main__":
    main()
