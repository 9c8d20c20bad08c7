"""Annotating many short files: `python benchmarks/files.py`.

Generated clips of 2 to 6 seconds, each under many names. The job is compared, in the same run and on the same weights,
with a plain loop that calls the pipeline for one file after the other. Said is how many files a second it takes, for
which share of the time the model is busy, whether a file costs more late in the job than early, and the memory of all
processes early and late. Then the files are read alone, in threads and in processes.

By default the model is the tiny one that ships, which is hardly ever busy: decoding is the limit.
`--layers 4` takes encoders of the published widths with so many layers and random weights.
"""

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
import torchcodec
import transformers
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline, FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.annotate import annotate
from foal_hf.annotate.files import MediaPath, list_files
from foal_hf.annotate.job import Job
from foal_hf.annotate.reading import ClipReader
from foal_hf.annotate.workers import DecodeWorkers
from foal_hf.latency import describe_hardware
from foal_hf.synthetic import EMOTIONS, generate_recording
from foal_hf.tiny import make_tiny_processor


NUM_DISTINCT = 9
EARLY, LATE = 0.1, 1.0  # parts of the job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-files", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips per pass of the model (%(default)s)")
    parser.add_argument("--num-workers", type=int, help="decoding processes; what the job takes by default")
    parser.add_argument("--repeats", type=int, default=3, help="(%(default)s)")
    parser.add_argument(
        "--layers", type=int, help="of encoders of the published widths; the tiny checkpoint by default"
    )
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument("--dtype", default="float32", help="(%(default)s)")
    options = parser.parse_args()

    classify = make_pipeline(options)
    print(f"{describe_hardware(options.device)}; {os.cpu_count()} CPUs, Python {platform.python_version()}, ", end="")
    print(f"torch {torch.__version__}, torchcodec {torchcodec.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "archive", options.num_files)
        files = [file.path for file in list_files(archive)[0]]
        settings = {"batch_size": options.batch_size, "num_workers": options.num_workers}
        annotate(files[:NUM_DISTINCT], Path(folder) / "warm.parquet", model=classify, progress=False, **settings)
        runs, plain = [], []
        for number in range(options.repeats):  # in turns, since other work on the machine comes and goes
            runs.append(measure_job(archive, Path(folder) / f"{number}.parquet", classify, settings))
            plain.append(len(files) / seconds_of(lambda: [classify(file) for file in files]))
        print(f"\n{len(files)} files, batches of {options.batch_size}; medians of {options.repeats} runs\n")
        print_job(runs, statistics.median(plain))
        print_reading(files, classify, options.repeats)


def make_pipeline(options: argparse.Namespace) -> Any:
    settings = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    if options.layers is None:
        return pipeline("audio-video-emotion", **settings)  # type: ignore[call-overload]
    config = FoalNetConfig()
    config.audio_config.num_hidden_layers = config.vision_config.num_hidden_layers = options.layers
    torch.manual_seed(0)
    model = FoalNetForEmotionClassification(config).to(settings["dtype"]).eval()
    tiny = make_tiny_processor()
    processor = FoalNetProcessor(tiny.feature_extractor, type(tiny.video_processor)())  # pictures of CLIP ViT-L/14
    return AudioVideoEmotionPipeline(model=model, processor=processor, device=options.device)


def make_archive(folder: Path, num_files: int) -> Path:
    for number in range(NUM_DISTINCT):
        seconds = 2 + 4 * number / (NUM_DISTINCT - 1)
        generate_recording(
            folder / f"{number}.mp4", [EMOTIONS[number % len(EMOTIONS)]], speaker=number, seconds_each=seconds
        )
    for number in range(NUM_DISTINCT, num_files):
        shutil.copy(folder / f"{number % NUM_DISTINCT}.mp4", folder / f"{number}.mp4")
    return folder


def measure_job(archive: Path, output: Path, classify: Any, settings: dict[str, Any]) -> dict[str, float]:
    """One job: times since its start and memory, as its records come in."""
    num_files = len(list(archive.iterdir()))
    times: list[float] = []
    processor_times: list[float] = []
    memory: dict[float, float] = {}
    add = Job.add

    def add_and_note(self: Job, record: Any) -> None:
        add(self, record)
        times.append(time.perf_counter())
        processor_times.append(processor_seconds_of_all())
        for part in (EARLY, LATE):
            if len(times) == round(part * num_files):
                memory[part] = memory_of_all()

    Job.add = add_and_note  # type: ignore[method-assign]
    try:
        summary = annotate(archive, output, model=classify, progress=False, **settings)
    finally:
        Job.add = add  # type: ignore[method-assign]
    assert summary.num_done == num_files, summary
    early, middle = round(EARLY * num_files), num_files // 2
    # Processor time, which other work on the machine does not lengthen.
    first_half = (processor_times[middle - 1] - processor_times[early - 1]) / (middle - early)
    second_half = (processor_times[-1] - processor_times[middle - 1]) / (num_files - middle)
    # From the first records on: what starts the workers is paid once.
    steady = (num_files - early) / (times[-1] - times[early - 1])
    return {
        "files": num_files / summary.seconds,
        "steady": steady,
        "busy": summary.model_seconds / summary.seconds,
        "cost": second_half / first_half,
        "early": memory[EARLY],
        "late": memory[LATE],
        "growth": memory[LATE] / memory[EARLY],
    }


def memory_of_all() -> float:
    """Of this process and its workers, MB; what they share is counted once."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += getattr(process.memory_full_info(), "pss", process.memory_info().rss)
    return total / 1e6


def processor_seconds_of_all() -> float:
    """That this process and its workers have used so far."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:2])
    return total


def print_job(runs: list[dict[str, float]], plain: float) -> None:
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print("| | median |\n| --- | --- |")
    print(f"| the job, files a second, with its start and its tables | {median['files']:.1f} |")
    print(f"| the job, files a second, from a tenth on | {median['steady']:.1f} |")
    print(f"| a plain loop, files a second | {plain:.1f} |")
    print(f"| ratio, with start and tables | {median['files'] / plain:.2f} |")
    print(f"| ratio, from a tenth on | {median['steady'] / plain:.2f} |")
    print(f"| share of the time that the model is busy | {100 * median['busy']:.0f} % |")
    print(f"| processor time of a file, second half to first | {median['cost']:.2f} |")
    print(f"| memory of all processes at 10 % | {median['early']:.0f} MB |")
    print(f"| memory of all processes at 100 % | {median['late']:.0f} MB |")
    print(f"| ratio | {median['growth']:.3f} |")


def print_reading(files: list[str], classify: Any, repeats: int) -> None:
    reader = ClipReader(classify.processor, classify.model.config.shortest_sound)
    named = [MediaPath(file, file) for file in files]
    print("\n| reading alone | files a second, median | ratio to one |\n| --- | --- | --- |")
    for kind, start in (("thread", _threads), ("process", _processes)):
        one = 0.0
        for number in (1, 2):
            with contextlib.ExitStack() as stack:
                read = start(reader, named, number, stack)
                read()  # starts them
                rate = len(files) / statistics.median(seconds_of(read) for _ in range(repeats))
            one = one or rate
            print(f"| {number} x {kind} | {rate:.1f} | {rate / one:.2f} |")


def _threads(
    reader: ClipReader, files: list[MediaPath], number: int, stack: contextlib.ExitStack
) -> Callable[[], object]:
    pool = stack.enter_context(ThreadPoolExecutor(number))
    return lambda: sum(pool.map(lambda file: len(list(reader(file.path))), files))


def _processes(
    reader: ClipReader, files: list[MediaPath], number: int, stack: contextlib.ExitStack
) -> Callable[[], object]:
    workers = DecodeWorkers[MediaPath](reader, num_workers=number, time_limit_seconds=60, num_ahead=16)
    stack.enter_context(workers)
    return lambda: sum(1 for _ in workers.read(files))


def seconds_of(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
