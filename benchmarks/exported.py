"""An exported checkpoint against the model in torch, on the CPU: `python benchmarks/exported.py`.

The whole inference path, both encoders and fusion, on random weights in the shape of WavLM-large and CLIP ViT-L/14 with
`--layers` layers each. Every way runs in a process of its own, so that its peak memory is its own. Medians, and ratios
to float32 in torch.

`--clips FOLDER` compares labels instead of times: of real recordings, by `--checkpoint` (the one that ships by default)
in torch and exported. With that checkpoint the labels say nothing about the people; they only have to be the same.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any


# Name, format of the export (None: torch), how its weights are kept, precision of the encoders.
WAYS = {
    "torch float32": (None, "float32", "float32"),
    "torch bfloat16 autocast": (None, "float32", "bfloat16"),
    "openvino float32": ("openvino", "float32", "float32"),
    "openvino bfloat16": ("openvino", "float16", "bfloat16"),
    "onnxruntime float32": ("onnx", "float32", "float32"),
}
PACKAGES = ("torch", "transformers", "openvino", "onnxruntime")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="of each encoder (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of sound (%(default)s)")
    parser.add_argument("--frames", type=int, default=4, help="of each clip (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="(%(default)s)")
    parser.add_argument("--clips", metavar="FOLDER", help="compare the labels of these recordings instead")
    parser.add_argument("--checkpoint", help="whose labels; the tiny one that ships by default")
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)  # what the process of its own does
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options, *options.way)))
        return 0
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    print(f"{processor_name()}, {options.threads} threads; {versions}\n")
    with tempfile.TemporaryDirectory() as folder:
        return compare_labels(options, Path(folder)) if options.clips else compare_times(options, Path(folder))


def compare_times(options: argparse.Namespace, folder: Path) -> int:
    from foal_hf.export import export_checkpoint

    save_checkpoint(folder / "checkpoint", options.layers)
    for name, (format, dtype, _) in WAYS.items():
        if format:
            export_checkpoint(folder / "checkpoint", folder / name, format=format, dtype=dtype)
    print("| way | seconds | ratio | CPU seconds | ratio | peak memory | share | load | difference |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    base: dict[str, Any] = {}
    for name in WAYS:
        result = run_alone(name, folder)
        base = base or result
        difference = max(abs(a - b) for a, b in zip(result["logits"], base["logits"], strict=True))
        speed = f"{result['seconds']:.2f} | {base['seconds'] / result['seconds']:.2f}"
        cpu = f"{result['cpu_seconds']:.2f} | {base['cpu_seconds'] / result['cpu_seconds']:.2f}"
        memory = f"{result['peak_mb']:.0f} MB | {result['peak_mb'] / base['peak_mb']:.0%}"
        print(
            f"| {name} | {speed} | {cpu} | {memory} | {result['load_seconds']:.1f} s | {difference:.0e} |", flush=True
        )
    return 0


def save_checkpoint(folder: Path, layers: int) -> None:
    """The published shapes with fewer layers, and random weights."""
    import torch

    from foal_hf.configuration_foal_net import FoalNetConfig
    from foal_hf.modeling_foal_net import FoalNetForEmotionClassification
    from foal_hf.tiny import make_tiny_processor

    torch.manual_seed(0)
    config = FoalNetConfig()
    config.audio_config.num_hidden_layers = config.vision_config.num_hidden_layers = layers
    FoalNetForEmotionClassification(config).save_pretrained(folder)
    make_tiny_processor().save_pretrained(folder)  # a part of every checkpoint; not used here


def run_alone(name: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--way", name, str(folder)]
    finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(finished.stdout)


def measure(options: argparse.Namespace, name: str, folder: str) -> dict[str, Any]:
    """Time and memory of one way, in this process."""
    import torch

    torch.set_num_threads(options.threads)
    format, _, dtype = WAYS[name]
    started = time.perf_counter()
    model = load(Path(folder), name)
    generator = torch.Generator().manual_seed(0)
    samples = round(options.seconds * 16_000)
    batch = {
        "input_values": torch.randn(options.batch_size, samples, generator=generator),
        "attention_mask": torch.ones(options.batch_size, samples, dtype=torch.long),
        "pixel_values_videos": torch.randn(options.batch_size, options.frames, 3, 224, 224, generator=generator),
    }
    batch["attention_mask"][-1, samples * 3 // 4 :] = 0
    half = format is None and dtype == "bfloat16"
    seconds, cpu_seconds, load_seconds = [], [], 0.0
    for repeat in range(options.repeats + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(**batch).logits
        seconds.append(time.perf_counter() - wall)
        cpu_seconds.append(time.process_time() - cpu)
        if repeat == 0:  # opens what is opened when it is needed
            load_seconds = time.perf_counter() - started
    return {
        "seconds": statistics.median(seconds[1:]),
        "cpu_seconds": statistics.median(cpu_seconds[1:]),
        "load_seconds": load_seconds,
        "peak_mb": peak_memory(),
        "logits": logits.float().flatten().tolist(),
    }


def peak_memory() -> float:
    """The most memory that this process has held, MB (Linux). `resource` would count that of the parent, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def load(folder: Path, name: str) -> Any:
    from foal_hf.exported import load_exported
    from foal_hf.modeling_foal_net import FoalNetForEmotionClassification

    format, _, dtype = WAYS[name]
    if format is None:
        return FoalNetForEmotionClassification.from_pretrained(folder / "checkpoint")
    return load_exported(folder / name, dtype=dtype)


def compare_labels(options: argparse.Namespace, folder: Path) -> int:
    import torch
    from transformers import pipeline
    from transformers.utils import logging

    from foal_hf.export import export_checkpoint
    from foal_hf.registration import TASK, TINY_CHECKPOINT, register

    register()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    checkpoint = options.checkpoint or str(TINY_CHECKPOINT)
    files = sorted(str(path) for path in Path(options.clips).glob("*.mp4"))
    expected: dict[str, list[Any]] = {}
    print("| way | modality | same label | largest difference of a score | of an embedding |")
    print("| --- | --- | --- | --- | --- |")
    for name, (format, dtype, _) in WAYS.items():
        if name == "torch float32":
            classify = pipeline(TASK, model=checkpoint, device="cpu")
        elif format is None:
            continue
        else:
            export_checkpoint(checkpoint, folder / name, format=format, dtype=dtype)
            classify = pipeline(TASK, model=load(folder, name), processor=str(folder / name))
        for modality in ("both", "audio", "video"):
            answers = list(
                classify((file for file in files), modality=modality, return_embeddings=True, detect_speech=False)
            )
            wanted = expected.setdefault(modality, answers)
            pairs = list(zip(answers, wanted, strict=True))
            same = sum(got["scores"][0]["label"] == want["scores"][0]["label"] for got, want in pairs)
            scores = max(difference_of_scores(got["scores"], want["scores"]) for got, want in pairs)
            embeds = max(
                float(abs(got[side] - want[side]).max())
                for got, want in pairs
                for side in ("audio_embeds", "video_embeds")
                if want[side] is not None
            )
            print(f"| {name} | {modality} | {same} of {len(files)} | {scores:.0e} | {embeds:.0e} |", flush=True)
    return 0


def difference_of_scores(got: list[dict[str, Any]], want: list[dict[str, Any]]) -> float:
    wanted = {score["label"]: score["score"] for score in want}
    return max(abs(score["score"] - wanted[score["label"]]) for score in got)


def processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    known = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if name in flags.split()]
    return f"{names[0] if names else platform.processor()} ({', '.join(known)})"


if __name__ == "__main__":
    raise SystemExit(main())
