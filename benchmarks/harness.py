"""What the benchmarks share: options, timing in turns, processes of their own, the machine's limits, and results.

A benchmark measures, in one run, on the same weights and inputs, what it compares. `save` writes what came out as
JSON, from which `report.py` makes RESULTS.md. Beside it, scripts import `published.py`, which says what the package is
compared with, and `workload.py`, which says on what.
"""

import argparse
import datetime
import importlib.metadata
import json
import multiprocessing
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from foal_hf.results.latency import describe_hardware


RESULTS = Path(__file__).parent / "results"
SHORT_RESULTS = Path("outputs/benchmarks")
PACKAGES = ("torch", "transformers", "torchcodec", "av", "safetensors", "pyarrow", "openvino", "onnxruntime")


def arguments(
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    rounds: int = 5,
    short: Mapping[str, Any] | None = None,
    **more: Mapping[str, Any],
) -> argparse.Namespace:
    """Options of a script; torch gets the threads that they name.

    Args:
        description (`str`): The script's docstring.
        argv (`Sequence[str]`, *optional*): Arguments in place of those of the command line, for tests.
        rounds (`int`, defaults to 5): Default of that option.
        short (`Mapping[str, Any]`, *optional*): Defaults of options in the short form.
        **more (`Mapping[str, Any]`): Options of this script by name, with what `add_argument` takes.

    Returns:
        `argparse.Namespace`: With `device`, `dtype` (a name of torch), `threads` (those there are), `rounds`, `short`,
        `output` (a folder), the script's own options, and `command`, the command line without paths of this machine.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for one on each core (%(default)s)")
    parser.add_argument("--rounds", type=int, default=rounds, help="times that each way is timed (%(default)s)")
    parser.add_argument("--short", action="store_true", help="smaller sizes, to see that it works")
    parser.add_argument("--output", type=Path, help=f"folder; benchmarks/results, {SHORT_RESULTS} with --short")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    argv = list(sys.argv[1:] if argv is None else argv)
    if parser.parse_args(argv).short:
        parser.set_defaults(**(short or {}))
    options = parser.parse_args(argv)
    options.output = options.output or (SHORT_RESULTS if options.short else RESULTS)
    options.threads = options.threads or num_cores()
    options.command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_without_folder, argv)])
    torch.set_num_threads(options.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return options


def num_cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Timing:
    """Seconds that something took, over several rounds: median and quartiles."""

    median: float
    low: float
    high: float
    num_rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timing":
        """Sum up what each round took."""
        if len(seconds) == 1:
            return cls(*seconds, *seconds, *seconds, num_rounds=1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))

    def scaled(self, factor: float) -> "Timing":
        """What so many times the work takes."""
        return Timing(factor * self.median, factor * self.low, factor * self.high, self.num_rounds)


def compare(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Time several ways in turns, since other work on a machine comes and goes.

    Each runs once before, uncounted. The order rotates, so that none always follows the same other one.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        seconds_of(functions[name])
    for round_ in range(rounds):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(functions[name]))
    return {name: Timing.of(taken) for name, taken in seconds.items()}


def seconds_of(function: Callable[[], object]) -> float:
    """Wall clock until what it started on a CUDA device is done, too."""
    _synchronize()
    started = time.perf_counter()
    function()
    _synchronize()
    return time.perf_counter() - started


def in_a_process(function: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """Run a function of a module in a fresh process, with as many threads as here.

    Args:
        function (`Callable`): Of the top level of a script. What it takes and gives is pickled: numbers and arrays
            rather than tensors, whose memory would go with the process.
        *args: Its arguments.

    Returns:
        `tuple[Any, int]`: What the function gave, and the most memory that the process held, in bytes: on the device
        where CUDA was used, resident otherwise.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_alone, function, args, torch.get_num_threads()).result()


def peak_memory() -> int:
    """The most that this process has held, in bytes: on the device where CUDA was used, resident otherwise."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.is_file():  # `resource` counts the parent's memory as well
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmHWM" in line)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


@dataclass(frozen=True)
class Limits:
    """What a machine does at best: multiply-adds of a matrix product count two."""

    flops_per_second: float
    bytes_per_second: float

    def seconds(self, flops: float = 0.0, num_bytes: float = 0.0) -> float:
        """The least that so many operations and bytes, read or written, take."""
        return max(flops / self.flops_per_second, num_bytes / self.bytes_per_second)


def limits(device: str = "cpu", dtype: str = "float32") -> Limits:
    """Measure them with the threads of torch: a matrix product that fits no cache, and a copy that fits none either."""
    on_cpu = torch.device(device).type == "cpu"
    size, num_bytes = (2048, 2**28) if on_cpu else (8192, 2**31)
    left, right = torch.randn(2, size, size, device=device).to(getattr(torch, dtype))
    source, target = torch.zeros(2, num_bytes, dtype=torch.uint8, device=device)
    product = min(seconds_of(lambda: left @ right) for _ in range(6))
    copy = min(seconds_of(lambda: target.copy_(source)) for _ in range(6))
    return Limits(2 * size**3 / product, 2 * num_bytes / copy)


def target(
    what: str, value: float | None, *, at_least: float | None = None, at_most: float | None = None, unit: str = "x"
) -> dict[str, Any]:
    """One target and what was measured, for `save`; None for what was not."""
    met = None
    if at_least is None and at_most is None:
        raise ValueError(f"{what}: a target is at least or at most something.")
    if value is not None:
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
    return {"what": what, "value": value, "at_least": at_least, "at_most": at_most, "unit": unit, "met": met}


def save(
    name: str,
    title: str,
    columns: Mapping[str, str],
    rows: Iterable[Sequence[Any]],
    notes: Sequence[str] = (),
    *,
    options: argparse.Namespace,
    targets: Sequence[Mapping[str, Any]] = (),
    limits: Limits | None = None,
) -> Path:
    """Write one table of results, and print it.

    Args:
        name (`str`): Of the file. Where it was measured on another device than the CPU, that is added.
        title (`str`): Heading of the table.
        columns (`Mapping[str, str]`): Heading of each column to its unit; [`show`] says which there are.
        rows (`Iterable[Sequence]`): Text, numbers, [`Timing`], or None for what was not measured.
        notes (`Sequence[str]`): What else there is to say, a paragraph each: what was compared, what bounds it.
        options (`argparse.Namespace`): Of [`arguments`].
        targets (`Sequence`, *optional*): Of [`target`].
        limits ([`Limits`], *optional*): Of the machine.

    Returns:
        `pathlib.Path`: The file.
    """
    device = torch.device(options.device).type
    rows = [[asdict(value) if isinstance(value, Timing) else value for value in row] for row in rows]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{len(columns)} columns ({', '.join(columns)}), and a row of {len(row)}: {row}")
    result = {
        "title": title,
        "columns": dict(columns),
        "rows": rows,
        "targets": list(targets),
        "notes": list(notes),
        "limits": asdict(limits) if limits else None,
        "machine": describe_hardware(options.device),
        "device": device,
        "dtype": options.dtype,
        "threads": options.threads,
        "versions": versions(),
        "date": datetime.date.today().isoformat(),
        "command": options.command,
        "short": options.short,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / f"{name}{'' if device == 'cpu' else f'-{device}'}.json"
    file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"## {title}\n\n{table(columns, rows)}\n")
    for each in targets:
        print(target_line(each))
    return file


def versions() -> dict[str, str]:
    """Of Python and of the packages that are there."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> str:
    """In Markdown."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[show(value, unit) for value, unit in zip(row, columns.values(), strict=True)] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def target_line(each: Mapping[str, Any]) -> str:
    """A target, what was measured, and whether that meets it."""
    bounds = [("at least", each["at_least"]), ("at most", each["at_most"])]
    asked = " and ".join(f"{how} {show(bound, each['unit'])}" for how, bound in bounds if bound is not None)
    verdict = {True: ", met", False: ", **missed**", None: ""}[each["met"]]
    return f"- {each['what']}: {asked} asked for, {show(each['value'], each['unit'])}{verdict}"


def show(value: Any, unit: str = "") -> str:
    """A cell: of a time (`"s"`) with its quartiles, a ratio (`"x"`), a share (`"%"`, of 1), a size (`"B"`), or of any
    other unit or none, with three digits. None is what was not measured.
    """
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return f"{show(value['median'], unit)} ({show(value['low'], unit)} to {show(value['high'], unit)})"
    if isinstance(value, str):
        return value
    if unit == "x":
        return f"{value:.2f}x" if value < 100 else f"{value:,.0f}x"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "s" and 0 < value < 1:
        return f"{_digits(1e3 * value)} ms" if value >= 1e-3 else f"{_digits(1e6 * value)} µs"
    if unit == "B" and value >= 1000:
        scale, prefix = next(
            (10**power, prefix) for power, prefix in ((9, "G"), (6, "M"), (3, "k")) if value >= 10**power
        )
        return f"{_digits(value / scale)} {prefix}B"
    return f"{_digits(value)} {unit}".rstrip()


def _digits(value: float) -> str:
    if isinstance(value, int) or value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:#.3g}"


def _alone(function: Callable[..., Any], args: tuple[Any, ...], num_threads: int) -> tuple[Any, int]:
    torch.set_num_threads(num_threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return function(*args), peak_memory()


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _without_folder(argument: str) -> str:
    """An argument without the folders of a path in it."""
    name, equals, value = argument.rpartition("=")
    return f"{name}{equals}{Path(value).name}" if os.sep in value else argument
