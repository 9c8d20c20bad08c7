"""How fast a machine is and what it holds: a GPU by the numbers of its maker, or this machine, measured in a second."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]

from ..results.latency import describe_hardware
from .counting import DeviceType, Operation, Work


# Shares of the published peaks that large operations reach in PyTorch, and the least that Python and the driver need
# for any operation. Round numbers, of no particular GPU.
_PRODUCTS_SHARE, _BANDWIDTH_SHARE, _LAUNCH_SECONDS = 0.6, 0.8, 8e-6
# Of the memory: the rest is the context of CUDA, or of Python and torch, and fragments.
_USABLE_SHARE = 0.9
_ROUNDS = 4


@dataclass(frozen=True)
class Machine:
    """What a device does in a second, and how much it holds.

    Args:
        name (`str`): In words.
        device_type (`"cpu"` or `"cuda"`): Its kind.
        single_flops, half_flops (`float`): Operations a second in products of fp32, and of fp16 or bf16.
        bytes_per_second (`float`): Read and written by other operations.
        convolution_share, convolution_backward_share (`float`, defaults to 1.0): Of the operations a second, what
            convolutions reach, and their backward pass.
        random_bytes_per_second (`float`, *optional*): Of random numbers; as other operations by default.
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
    convolution_share: float = 1.0
    convolution_backward_share: float = 1.0
    random_bytes_per_second: float | None = None
    assumptions: tuple[str, ...] = ()

    def seconds(self, work: Work) -> float:
        """Each operation takes as long as its products, or its bytes, or its launch, whichever is longest."""
        return sum(map(self._seconds_of, work.operations))

    def _seconds_of(self, operation: Operation) -> float:
        flops = self.half_flops if operation.is_half else self.single_flops
        moved = self.bytes_per_second
        if operation.kind == "convolution":
            flops *= self.convolution_share
        elif operation.kind == "convolution_backward":
            flops *= self.convolution_backward_share
        elif operation.kind == "random":
            moved = self.random_bytes_per_second or moved
        return max(operation.flops / flops, operation.num_bytes / moved, self.launch_seconds)


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
    size, length, channels = (1024, 2**22, 256) if on_cpu else (8192, 2**28, 512)
    with torch.no_grad():
        single = torch.randn(size, size, device=device)
        values, others = torch.randn(2, length, device=device)
        small = torch.ones(1, device=device)
        product = 2.0 * size**3 / _median_seconds(lambda: single @ single, device)
        half = product
        if not on_cpu:
            half = 2.0 * size**3 / _median_seconds(lambda: single.bfloat16() @ single.bfloat16(), device)
        moved = 3.0 * values.nbytes / _median_seconds(lambda: values + others, device)
        drawn = others[: length // 8]
        random = 2.0 * drawn.nbytes / _median_seconds(lambda: drawn.bernoulli_(0.9), device)
        launch_seconds = _median_seconds(lambda: [small + small for _ in range(1000)], device) / 1000
    forward, backward = _convolution_flops(device, channels)
    memory = _cpu_memory() if on_cpu else torch.cuda.get_device_properties(device).total_memory
    return Machine(
        name=describe_hardware(device),
        device_type="cpu" if on_cpu else "cuda",
        single_flops=product,
        half_flops=half,
        bytes_per_second=moved,
        launch_seconds=launch_seconds,
        usable_bytes=round(_USABLE_SHARE * memory),
        has_bf16=on_cpu or torch.cuda.is_bf16_supported(including_emulation=False),
        convolution_share=forward / product,
        convolution_backward_share=backward / product,
        random_bytes_per_second=random,
        assumptions=(
            f"This machine was measured just now: in fp32 {product / 1e9:,.0f} GFLOP/s in a product and "
            f"{forward / 1e9:,.0f} in a convolution ({backward / 1e9:,.0f} backward), {moved / 1e9:,.1f} GB/s in a sum "
            f"and {random / 1e9:,.2f} in random numbers, {1e6 * launch_seconds:.1f} µs for the least operation. Other "
            "work on it slows it down.",
            f"{_USABLE_SHARE:.0%} of its {memory / 2**30:.1f} GiB are usable.",
        ),
    )


def _convolution_flops(device: torch.device, channels: int) -> tuple[float, float]:
    """Operations a second in a plain convolution, and backward in a grouped one with a long kernel, as in WavLM."""
    states, kernel = torch.randn(1, channels, 4096, device=device), torch.randn(channels, channels, 3, device=device)
    forward = 2.0 * 4094 * kernel.numel() / _median_seconds(lambda: torch.conv1d(states, kernel), device)
    states = torch.randn(1, 2 * channels, 161, device=device, requires_grad=True)
    kernel = torch.randn(2 * channels, channels // 8, 128, device=device, requires_grad=True)
    output = torch.conv1d(states, kernel, padding=64, groups=16)
    both = 2.0 * 2.0 * output.numel() * math.prod(kernel.shape[1:])
    gradient = torch.ones_like(output)

    def run() -> object:
        return torch.autograd.grad(output, (states, kernel), gradient, retain_graph=True)

    return forward, both / _median_seconds(run, device)


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
