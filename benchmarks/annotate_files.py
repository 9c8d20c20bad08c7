"""Annotating many short files: `python benchmarks/annotate_files.py`.

Generated clips of 2 to 6 seconds, each under many names. The job is compared, in the same run and on the same weights,
with a plain loop that calls the pipeline for one file after the other. Said is how many files a second it takes, for
which share of the time the model is busy, whether a file costs more late in the job than early, and the memory of all
processes early and late. Then some of the files are read alone, in threads and in processes.

By default the model is the tiny one that ships, which is hardly ever busy: decoding is the limit.
`--layers 4` takes encoders of the published widths with so many layers and random weights.
"""

import argparse
import contextlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch
from harness import Timing, arguments, compare, save, seconds_of, target
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline, FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.annotate import annotate
from foal_hf.annotate.files import MediaPath, list_files
from foal_hf.annotate.job import Job
from foal_hf.annotate.reading import ClipReader
from foal_hf.annotate.workers import DecodeWorkers, TimeLimits
from foal_hf.experiments.tiny import make_tiny_processor
from foal_hf.registration import TASK, TINY_CHECKPOINT
from foal_hf.synthetic import EMOTIONS, generate_recording


NUM_DISTINCT = 9
EARLY, LATE = 0.1, 1.0  # parts of the job


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        rounds=2,
        short={"rounds": 1, "num_files": 60, "num_plain": 30},
        num_files={"type": int, "default": 1000, "help": "(%(default)s)"},
        num_plain={"type": int, "default": 250, "help": "of them, in a plain loop and read alone (%(default)s)"},
        batch_size={"type": int, "default": 8, "help": "clips per pass of the model (%(default)s)"},
        num_workers={"type": int, "help": "decoding processes; what the job takes by default"},
        layers={"type": int, "help": "of encoders of the published widths; the tiny checkpoint by default"},
    )
    classify = make_pipeline(options)
    with tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "archive", options.num_files)
        files = [file.path for file in list_files(archive).files]
        settings = {"batch_size": options.batch_size, "num_workers": options.num_workers}
        annotate(files[:NUM_DISTINCT], Path(folder) / "warm.parquet", model=classify, progress=False, **settings)
        runs, plain = [], []
        for number in range(options.rounds):  # in turns, since other work on the machine comes and goes
            runs.append(measure_job(archive, Path(folder) / f"{number}.parquet", classify, settings))
            plain.append(seconds_of(lambda: [classify(file) for file in files[: options.num_plain]]))
        read = time_reading(files[: options.num_plain], classify, options.rounds)
    report(options, runs, [options.num_plain / seconds for seconds in plain], read)


def report(options: argparse.Namespace, runs: list[dict[str, float]], plain: list[float], read: dict) -> None:
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    loop = statistics.median(plain)
    rows = [
        ["the job, with its start and its tables", median["files"], median["files"] / loop],
        [f"the job, from {EARLY:.0%} of the files on", median["steady"], median["steady"] / loop],
        ["a plain loop over the pipeline", loop, 1.0],
        *([f"only read, {name}", options.num_plain / timing.median, None] for name, timing in read.items()),
    ]
    model = f"{options.layers} layers of the published widths" if options.layers else "the tiny checkpoint"
    save(
        "annotate_files",
        f"{options.num_files} files of 2 to 6 s, {model}, batches of {options.batch_size}",
        {"way": "", "files": "files/s", "to the plain loop": "x"},
        [[name, rate, "" if ratio is None else ratio] for name, rate, ratio in rows],
        [
            f"The model is busy for {median['busy']:.0%} of the time; for the rest it waits for files. A file of the "
            f"second half takes {median['cost']:.2f} times the processor time of one of the first. All processes "
            f"together hold {median['early'] / 1e3:.2f} GB at {EARLY:.0%} and {median['late'] / 1e3:.2f} GB "
            "at the end.",
            "Reading and the model share the cores where both are on the CPU. With the model on a device of its own, "
            "what is only read says how fast it can be fed.",
        ],
        options=options,
        targets=[
            target("1,000 files, seconds", 1000 * median["seconds"] / options.num_files, at_most=240, unit="s"),
            target("processor time of a file, second half to first", median["cost"], at_most=1.1),
            target(f"memory at the end, to that at {EARLY:.0%}", median["growth"], at_most=1.1),
        ],
    )


def make_pipeline(options: argparse.Namespace) -> Any:
    settings = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    if options.layers is None:
        return pipeline(TASK, model=str(TINY_CHECKPOINT), **settings)  # type: ignore[call-overload]
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
        "seconds": summary.seconds,
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


def time_reading(files: list[str], classify: Any, rounds: int) -> dict[str, Timing]:
    """Reading all files without the model, in threads and in processes."""
    reader = ClipReader(classify.processor, classify.model.config.min_audio_samples)
    named = [MediaPath(file, file) for file in files]
    with contextlib.ExitStack() as stack:
        ways = {
            f"{number} {kind}{'s' * (number > 1)}": start(reader, named, number, stack)
            for kind, start in (("thread", _threads), ("process", _processes))
            for number in (1, 2)
        }
        return compare({name.replace("processs", "processes"): way for name, way in ways.items()}, rounds)


def _threads(
    reader: ClipReader, files: list[MediaPath], number: int, stack: contextlib.ExitStack
) -> Callable[[], object]:
    pool = stack.enter_context(ThreadPoolExecutor(number))
    return lambda: sum(pool.map(lambda file: len(list(reader(file))), files))


def _processes(
    reader: ClipReader, files: list[MediaPath], number: int, stack: contextlib.ExitStack
) -> Callable[[], object]:
    workers = DecodeWorkers[MediaPath](reader, num_workers=number, limits=TimeLimits(60.0), num_ahead=16)
    stack.enter_context(workers)
    return lambda: sum(1 for _ in workers.read(files))


if __name__ == "__main__":
    main()
