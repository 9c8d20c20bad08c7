"""Measured latency, and the hardware it was measured on."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import Latency


def measure_latency(
    run: Callable[[], Any],
    what: str,
    *,
    num_runs: int = 9,
    batch_size: int = 1,
    clip_seconds: float | None = None,
    device: str | torch.device = "cpu",
) -> Latency:
    """Time a function that processes clips, after one run that is not counted.

    Args:
        run (`Callable`): Processes `batch_size` clips.
        what (`str`): What is timed, in words.
        num_runs (`int`, defaults to 9): Timed runs, of which the median is taken.
        batch_size (`int`, defaults to 1): Clips per run.
        clip_seconds (`float`, *optional*): Length of a clip.
        device (`str` or `torch.device`, defaults to `"cpu"`): Where it runs; it is synchronised after each run.

    Returns:
        [`~foal_hf.results.Latency`]: Entry of a results file.

    Raises:
        ValueError: If `num_runs` or `batch_size` is below 1.
    """
    for name, value in (("num_runs", num_runs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"`{name}` has to be 1 or more, got {value}.")
    device = torch.device(device)
    seconds = []
    for _ in range(num_runs + 1):
        started = time.perf_counter()
        run()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return Latency(
        what=what,
        seconds_per_clip=statistics.median(seconds[1:]) / batch_size,
        hardware=describe_hardware(device),
        clip_seconds=clip_seconds,
        batch_size=batch_size,
        num_runs=num_runs,
    )


def describe_hardware(device: str | torch.device = "cpu") -> str:
    """A device in words, without names of the machine or user.

    Args:
        device (`str` or `torch.device`, defaults to `"cpu"`): Name in torch.

    Returns:
        `str`: Such as `"AMD EPYC 7763, 2 threads"` or `"NVIDIA H100 80GB HBM3"`.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return f"{device.type} of {_cpu_name()}"
    num_threads = torch.get_num_threads()
    return f"{_cpu_name()}, {num_threads} {'thread' if num_threads == 1 else 'threads'}"


def _cpu_name() -> str:
    """The name of the processor, or its architecture where the system gives no name."""
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.is_file():
        for line in cpu_info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return " ".join(value.split())
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
        if found:
            return found
    return platform.machine() or "unknown processor"


__all__ = ["describe_hardware", "measure_latency"]
