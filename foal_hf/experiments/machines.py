"""How fast a machine is and what it holds: a GPU by the numbers of its maker, or this machine, measured in a second."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from ..results.latency import describe_hardware
from .counting import DeviceType, Work


# Shares of the published peaks that large operations reach in PyTorch, and the least that Python and the driver need
# for any operation. Round numbers, of no particular GPU.
_PRODUCTS_SHARE, _BANDWIDTH_SHARE, _LAUNCH_SECONDS = 0.6, 0.8, 8e-6
# Of the memory: the rest is the context of CUDA, or of Python and torch, and fragments.
_USABLE_SHARE = 0.9
_ROUNDS = 5


@dataclass(frozen=True)
class Machine:
    """What a device does in a second, and how much it holds.

    Args:
        name (`str`): In words.
        device_type (`"cpu"` or `"cuda"`): Its kind.
        single_flops, half_flops (`float`): Operations a second in products of fp32, and of fp16 or bf16.
        bytes_per_second (`float`): Read and written by other operations.
        launch_seconds (`float`): The least that an operation takes.
        usable_bytes (`int`): Memory for a training step.
        has_bf16 (`bool`): Whether it multiplies in bf16.
        assumptions (`tuple[str, ...]`): How these numbers were obtained, in sentences.
    """

    name: str
    device_type: DeviceType
    single_flops: float
    half_flops: float
    bytes_per_second: float
    launch_seconds: float
    usable_bytes: int
    has_bf16: bool = True
    assumptions: tuple[str, ...] = ()

    def seconds(self, work: Work) -> float:
        """Each operation takes as long as its products, or its bytes, or its launch, whichever is longest."""
        return sum(
            max(
                operation.flops / (self.half_flops if operation.is_half else self.single_flops),
                operation.num_bytes / self.bytes_per_second,
                self.launch_seconds,
            )
            for operation in work.operations
        )


def available_gpus() -> list[str]:
    """Names for [`gpu`]."""
    return list(_table())


def gpu(name: str) -> Machine:
    """A GPU by its published numbers.

    Args:
        name (`str`): One of [`available_gpus`]; case, blanks and hyphens do not matter.

    Raises:
        ValueError: If the table has no such GPU.
    """
    known = {_plain(each): each for each in _table()}
    if _plain(name) not in known:
        raise ValueError(
            f"Unknown GPU {name!r}; expected one of {', '.join(_table())}. Without a GPU's name the machine itself is "
            "measured."
        )
    name = known[_plain(name)]
    facts = _table()[name]
    return Machine(
        name=name,
        device_type="cuda",
        single_flops=_PRODUCTS_SHARE * facts["single"] * 1e12,
        half_flops=_PRODUCTS_SHARE * facts["half"] * 1e12,
        bytes_per_second=_BANDWIDTH_SHARE * facts["bandwidth"] * 1e9,
        launch_seconds=_LAUNCH_SECONDS,
        usable_bytes=round(_USABLE_SHARE * facts["memory"] * 2**30),
        has_bf16=facts["bf16"],
        assumptions=(
            f"The {name} reaches {_PRODUCTS_SHARE:.0%} of its published {facts['half']:g} TFLOP/s in half precision "
            f"({facts['single']:g} in fp32) in products, {_BANDWIDTH_SHARE:.0%} of its {facts['bandwidth']:g} GB/s in "
            f"all other operations, and needs {1e6 * _LAUNCH_SECONDS:g} µs for any. Nothing was measured.",
            f"{_USABLE_SHARE:.0%} of its {facts['memory']} GiB are usable.",
        ),
    )


def this_machine() -> Machine:
    """Measure the CUDA device, or else the CPU with torch's threads, in about a second."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = device.type == "cpu"
    size, length = (1024, 2**22) if on_cpu else (8192, 2**28)
    with torch.no_grad():
        single = torch.randn(size, size, device=device)
        values, others = torch.randn(2, length, device=device)
        small = torch.ones(1, device=device)
        product_seconds = _median_seconds(lambda: single @ single, device)
        half = product_seconds if on_cpu else _median_seconds(lambda: single.bfloat16() @ single.bfloat16(), device)
        sum_seconds = _median_seconds(lambda: values + others, device)
        launch_seconds = _median_seconds(lambda: [small + small for _ in range(1000)], device) / 1000
    memory = _cpu_memory() if on_cpu else torch.cuda.get_device_properties(device).total_memory
    flops, moved = 2.0 * size**3 / product_seconds, 3.0 * values.nbytes / sum_seconds
    return Machine(
        name=describe_hardware(device),
        device_type="cpu" if on_cpu else "cuda",
        single_flops=flops,
        half_flops=2.0 * size**3 / half,
        bytes_per_second=moved,
        launch_seconds=launch_seconds,
        usable_bytes=round(_USABLE_SHARE * memory),
        assumptions=(
            f"This machine was measured just now: {flops / 1e9:,.0f} GFLOP/s in a product of fp32, {moved / 1e9:,.1f} "
            f"GB/s in a sum, {1e6 * launch_seconds:.1f} µs for the least operation. Other work on it slows it down.",
            f"{_USABLE_SHARE:.0%} of its {memory / 2**30:.1f} GiB are usable.",
        ),
    )


def _median_seconds(function: Callable[[], object], device: torch.device) -> float:
    taken = []
    for _ in range(_ROUNDS + 1):  # the first is not counted
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def _cpu_memory() -> int:
    import psutil  # type: ignore[import-untyped]

    return int(psutil.virtual_memory().total)


def _table() -> dict[str, dict[str, Any]]:
    return yaml.safe_load((Path(__file__).parent / "gpus.yaml").read_text(encoding="utf-8"))


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


__all__ = ["Machine", "available_gpus", "gpu", "this_machine"]
