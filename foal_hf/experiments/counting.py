"""What a step of a model computes and holds, counted on torch's meta device: no weight and no number is allocated.

Every operation of the forward and backward pass is seen once, with its shapes. That gives its floating-point
operations (a multiply and an add count as two), the bytes it reads and writes, and which tensors live at that time.

The meta device has neither a kernel for attention nor autocast. Both are put in place here as the target device has
them: on CUDA, attention that stores no weights, and half precision where autocast would use it; on a CPU, attention
that stores its weights where torch has no kernel with a gradient (dropout, or a bias that is trained).
"""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import flop_registry


DeviceType = Literal["cpu", "cuda"]
Kind = Literal["plain", "convolution", "convolution_backward", "random"]

# By a part of an operation's name.
_KINDS: dict[str, Kind] = {
    "convolution_backward": "convolution_backward",
    "convolution": "convolution",
    "bernoulli": "random",
    "native_dropout": "random",
    "rand": "random",
}
_HALF_UNDER_AUTOCAST = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, torch.conv1d, torch.conv2d, torch.conv3d, torch.einsum),
    *(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.mm, torch.addmm),
}
_SINGLE_UNDER_AUTOCAST = {
    *(F.layer_norm, F.group_norm, F.softmax, F.log_softmax, torch.softmax, torch.Tensor.softmax, F.normalize),
    *(F.cross_entropy, torch.Tensor.pow, torch.pow, torch.exp, torch.Tensor.exp, torch.log, torch.Tensor.log),
}


@dataclass(frozen=True)
class Operation:
    """One kernel.

    Args:
        flops (`float`): Floating-point operations.
        num_bytes (`float`): Bytes read and written.
        is_half (`bool`): Whether it works in half precision.
        kind (`str`): Convolutions, their backward pass, and random numbers (dropout) have rates of their own.
    """

    flops: float
    num_bytes: float
    is_half: bool = False
    kind: Kind = "plain"


@dataclass(frozen=True)
class Work:
    """What a step computes and holds.

    Args:
        operations (`tuple[Operation, ...]`): In their order, without those that only view memory.
        saved_bytes (`int`): Tensors that the forward pass keeps for the backward pass, without weights and inputs.
        peak_bytes (`int`): The most that lives at a time beside the weights: inputs, activations, gradients.
    """

    operations: tuple[Operation, ...]
    saved_bytes: int
    peak_bytes: int

    @property
    def flops(self) -> float:
        """Floating-point operations of matrix products, convolutions and attention."""
        return math.fsum(operation.flops for operation in self.operations)


def count_step(
    model: torch.nn.Module,
    make_batch: Callable[[], dict[str, torch.Tensor]],
    *,
    device_type: DeviceType = "cpu",
    half: torch.dtype | None = None,
    backward: bool = True,
) -> Work:
    """Count a forward pass, and the backward pass from its loss.

    Args:
        model (`torch.nn.Module`): On the meta device, in the mode (training, frozen parts) that is meant.
        make_batch (`Callable`): Makes the inputs of the model on the meta device.
        device_type (`"cpu"` or `"cuda"`): Whose attention and autocast to follow.
        half (`torch.dtype`, *optional*): Multiply in this precision, as autocast does; weights stay as they are.
        backward (`bool`, defaults to `True`): Whether the step trains.

    Returns:
        [`Work`]

    Raises:
        ValueError: If a weight is not on the meta device.
    """
    weights = [*model.parameters(), *model.buffers()]
    if any(weight.device.type != "meta" for weight in weights):
        raise ValueError("The model has to be on the meta device: make it under `torch.device('meta')`.")
    counter, saved = _Counter(), _Saved(weights)
    with torch.set_grad_enabled(backward):
        with counter:
            batch = make_batch()
            saved.known |= {_key(tensor) for tensor in batch.values()}
            with AsOn(device_type, half), saved.hooks():
                outputs = model(**batch)
            saved_bytes = sum(saved.sizes.values())
            if backward:
                outputs.loss.backward()
        model.zero_grad(set_to_none=True)
    return Work(tuple(counter.operations), saved_bytes, counter.peak)


class _Saved:
    """Sizes of the distinct storages that autograd keeps at the moment, by their key, unique among what lives."""

    def __init__(self, weights: list[torch.Tensor]) -> None:
        self.known = {_key(weight) for weight in weights}
        self.sizes: dict[int, int] = {}

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        if (key := _key(tensor)) not in self.known and key not in self.sizes:
            storage = tensor.untyped_storage()
            self.sizes[key] = storage.nbytes()
            weakref.finalize(storage, self.sizes.pop, key)  # results that are dropped free it before the backward pass
        return tensor


class _Counter(TorchDispatchMode):
    """Sees each operation below autograd, and the storages that it makes, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.peak = 0
        self._num_bytes = 0
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        if func.is_view:
            return outputs
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        written = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        made = {_key(tensor): tensor for tensor in written} if func._schema.is_mutable else {}
        old = {_key(tensor) for tensor in read}
        made |= {_key(tensor): tensor for tensor in written if _key(tensor) not in old}
        for key in made.keys() - old - self._live:
            storage = made[key].untyped_storage()
            self._live.add(key)
            self._num_bytes += storage.nbytes()
            weakref.finalize(storage, self._free, key, storage.nbytes())
        self.peak = max(self.peak, self._num_bytes)
        if made and "empty" not in func.__name__:
            num_bytes = sum(map(_num_bytes, [*read, *made.values()]))
            is_half = bool(read) and read[0].dtype.itemsize == 2
            kind: Kind = next((kind for part, kind in _KINDS.items() if part in func.__name__), "plain")
            self.operations.append(Operation(_flops(func, args, kwargs, outputs), num_bytes, is_half, kind))
        return outputs

    def _free(self, key: int, num_bytes: int) -> None:
        self._live.remove(key)
        self._num_bytes -= num_bytes


class AsOn(TorchFunctionMode):
    """Attention and autocast of a target device, for what is called inside. Backward passes are outside: gradient
    checkpointing, which runs layers again there, has to enter it by its `context_fn`.

    Args:
        device_type (`"cpu"` or `"cuda"`): Of the target.
        half (`torch.dtype`, *optional*): As in [`count_step`].
    """

    def __init__(self, device_type: DeviceType, half: torch.dtype | None) -> None:
        super().__init__()
        self.device_type, self.half = device_type, half
        self._half_weights: dict[int, torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        attends = func is F.scaled_dot_product_attention
        if self.half is not None:
            if attends or func in _HALF_UNDER_AUTOCAST:
                args, kwargs = tree_map(self._to_half, (args, kwargs))
            elif func in _SINGLE_UNDER_AUTOCAST:
                args, kwargs = tree_map(_to_single, (args, kwargs))
        return self._attend(*args, **kwargs) if attends else func(*args, **kwargs)

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        trains_bias = attn_mask is not None and attn_mask.requires_grad
        if self.device_type == "cpu" and (trains_bias or dropout_p > 0):
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **kwargs
            )
        bias = attn_mask
        if bias is not None:
            bias = torch.zeros_like(bias, dtype=query.dtype) if bias.dtype == torch.bool else bias
            bias = bias.expand(*query.shape[:-1], key.shape[-2])
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        return attend(query, key, value, bias, torch.is_grad_enabled(), dropout_p, is_causal, scale=scale)[0]

    def _to_half(self, value: Any) -> Any:
        if not (isinstance(value, torch.Tensor) and value.dtype == torch.float32):
            return value
        if not (value.is_leaf and value.requires_grad and torch.is_grad_enabled()):
            return value.to(self.half)
        if id(value) not in self._half_weights:  # autocast converts a weight that is trained once a pass
            self._half_weights[id(value)] = value.to(self.half)
        return self._half_weights[id(value)]


def _to_single(value: Any) -> Any:
    is_half = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype.itemsize == 2
    return value.float() if is_half else value


def _flops(func: Any, args: Any, kwargs: Any, outputs: Any) -> float:
    if func is torch.ops.aten.convolution_backward.default:
        # torch's own formula counts every group with the channels of all groups.
        gradient, _, weight, *_, output_mask = args
        forward = 2.0 * math.prod(weight.shape[1:]) * gradient.numel()
        return forward * sum(output_mask[:2])
    formula = flop_registry.get(func._overloadpacket)
    return 0.0 if formula is None else float(formula(*args, **kwargs, out_val=outputs))


def _num_bytes(tensor: torch.Tensor) -> int:
    """What a kernel reads or writes of a tensor; an expanded one is no larger than its storage."""
    return min(tensor.numel() * tensor.dtype.itemsize, tensor.untyped_storage().nbytes())


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


__all__ = ["AsOn", "DeviceType", "Operation", "Work", "count_step"]
