"""WavLM with its attention through torch's `scaled_dot_product_attention`: transformers' weights and numbers.

transformers' WavLM attends by a function that always forms the weights of all heads, averages them and drops the
average. Here `attn_implementation="sdpa"`, the default, does without, and `"eager"` is transformers' own way.

Shapes: `batch` clips, `frames` positions of the encoder, `heads` of `head_width`. Masks are True where there is
something. Kernels take the gated position as a mask `(batch, heads, frames, frames)`; on CPU it is formed for one clip,
or in training for some heads of a clip, at a time.

Also here: the convolutions between a waveform and any audio encoder, in the memory layout of the layer norms between
them. Where each convolution is followed by a layer norm over channels (`feat_extract_norm="layer"`), transformers
transposes before and after it, and torch's `Conv1d` copies both times: the copies took a quarter of the time. `Conv2d`
takes and gives `(batch, frames, channels)` in memory as it is, and both transpositions are views. Convolutions that are
trained stay as they are. Frozen ones need no `no_grad`: neither they nor the waveform ask for a gradient.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from transformers import WavLMConfig, WavLMModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs


# Of the weights of the heads that one core works on; half of the second cache of common cores.
_CACHE_BYTES = 2**19


class WavLMGatedAttention(WavLMAttention):
    """WavLM's attention, `softmax(q k^T / sqrt(head_width) + gate(x) * position) v`.

    `position` is learned for each head and each bucket of distances, `gate` is one number for each head and query. The
    first layer looks `position` up, and all layers share it. The state dict is that of transformers' `WavLMAttention`.
    The projections are called as modules, which transformers does not do: an adapter in their place has its effect.
    """

    config: WavLMConfig

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_bias: torch.Tensor | None = None,
        index: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None, Any]:
        """Let each frame look at all frames of sound.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, frames, heads * head_width)`): `x`.
            attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*): True for sound, False for padding.
            position_bias (`torch.Tensor` of shape `(1, heads, frames, frames)`, *optional*): `position`, as the first
                layer returned it; None in the first layer.
            index (`int`, defaults to 0): Number of the layer, which nothing depends on.
            **kwargs: `output_attentions=True` makes the layer attend as transformers does, to return weights.

        Returns:
            The attended states, shaped like `hidden_states`; the weights, None but in transformers' way; `position`.
        """
        if self.config._attn_implementation == "eager" or kwargs.get("output_attentions"):
            return super().forward(hidden_states, attention_mask, position_bias, index, **kwargs)
        if position_bias is None:
            position_bias = self.compute_bias(hidden_states.shape[1], hidden_states.shape[1])[None].contiguous()
        attended = _attend(
            self._heads(self.q_proj(hidden_states)),
            self._heads(self.k_proj(hidden_states)),
            self._heads(self.v_proj(hidden_states)),
            self._gate(hidden_states),
            position_bias,
            attention_mask,
            self.dropout if self.training else 0.0,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None, position_bias

    def _gate(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """How much of the position each query lets in, `(batch, heads, frames, 1)`."""
        projected = self.gru_rel_pos_linear(self._heads(hidden_states))  # (batch, heads, frames, 8)
        outer, inner = projected.unflatten(3, (2, 4)).sum(-1).sigmoid().chunk(2, dim=-1)
        return outer * (inner * self.gru_rel_pos_const - 1.0) + 2.0

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(2, (self.num_heads, self.head_dim)).transpose(1, 2)


class SdpaWavLMModel(WavLMModel):
    """transformers' [`WavLMModel`] with an `sdpa` attention: same parameters, same state dict, same results."""

    _supports_sdpa = True

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__(config)
        for layer in self.encoder.layers:
            # Only the class changes: parameters, their names and how they are initialized are transformers' own.
            attention: Any = layer.attention
            attention.__class__ = WavLMGatedAttention
            attention.config = config

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: transformers leaves out a part of the random initialization in models that are not its own."""
        return False

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """As in transformers; flash and flex attention, asked for the whole of a model, leave this encoder at sdpa."""
        if requested_attention and requested_attention.startswith(("flash", "flex")):
            requested_attention = "sdpa"
        return super().get_correct_attn_implementation(requested_attention, is_init_check)


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    position_bias: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Heads `(batch, heads, frames, head_width)`, gate and position to what the heads saw, shaped like `query`."""
    inputs = (query, key, value, gate, position_bias, attention_mask, dropout)
    # Other devices have kernels that are differentiable in the mask; a graph must not depend on the number of clips.
    if query.device.type != "cpu" or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return _sdpa(*inputs)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs[:5]):
        return _HeadsInParts.apply(*inputs)
    rows = [None] * query.shape[0] if attention_mask is None else attention_mask.split(1)
    clips = zip(query.split(1), key.split(1), value.split(1), gate.split(1), rows, strict=True)
    return torch.cat([_sdpa(*clip[:4], position_bias, clip[4], dropout) for clip in clips])


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    position_bias: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    mask = None if attention_mask is None else attention_mask[:, None, None]
    bias = _bias(gate, position_bias, mask, query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)


def _bias(
    gate: torch.Tensor, position_bias: torch.Tensor, mask: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """What is added to the scores. Padding gets the lowest number: of -inf alone, softmax would make NaN."""
    bias = (gate * position_bias).to(dtype)
    return bias if mask is None else bias.masked_fill_(~mask.bool(), torch.finfo(dtype).min)


class _HeadsInParts(torch.autograd.Function):
    """The same on CPU in training, where torch has no kernel with a gradient for the mask.

    One head of one clip fits the cache of a core. The backward pass forms the weights again from what goes in, so that
    all that is kept of `frames x frames` is where dropout struck, in one byte each.
    """

    @staticmethod
    def forward(ctx: Any, query, key, value, gate, position_bias, attention_mask, dropout):  # type: ignore[no-untyped-def]
        output, kept = torch.empty_like(query), []
        for part in _parts(query):
            weights = _weights(part, query, key, gate, position_bias, attention_mask)
            if dropout:
                weights, mask = torch.native_dropout(weights, dropout, True)
                kept.append(mask)
            output[part] = weights.to(value.dtype) @ value[part]
        ctx.save_for_backward(query, key, value, gate, position_bias, attention_mask, *kept)
        ctx.dropout = dropout
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output):  # type: ignore[no-untyped-def]
        query, key, value, gate, position_bias, attention_mask, *kept = ctx.saved_tensors
        scaling = query.shape[-1] ** -0.5
        grad_query, grad_key, grad_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        grad_gate, grad_position_bias = torch.empty_like(gate), torch.zeros_like(position_bias)
        for number, part in enumerate(_parts(query)):
            weights = _weights(part, query, key, gate, position_bias, attention_mask)
            seen, grad_weights = weights, (grad_output[part] @ value[part].mT).to(weights.dtype)
            if kept:
                scale = kept[number] / (1 - ctx.dropout)
                seen, grad_weights = weights * scale, grad_weights * scale
            grad_value[part] = seen.to(value.dtype).mT @ grad_output[part]
            grad_bias = weights * (grad_weights - (weights * grad_weights).sum(-1, keepdim=True))
            grad_scores = (grad_bias * scaling).to(query.dtype)
            grad_query[part] = grad_scores @ key[part]
            grad_key[part] = grad_scores.mT @ query[part]
            grad_gate[part] = (grad_bias * position_bias[0, part[1]]).sum(-1, keepdim=True)
            grad_position_bias[0, part[1]].addcmul_(grad_bias, gate[part])
        return grad_query, grad_key, grad_value, grad_gate, grad_position_bias, None, None


def _parts(query: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """Indices into `(batch, heads, ...)`: a clip, and for each thread as many of its heads as fit a cache."""
    batch, heads, frames = query.shape[:3]
    step = torch.get_num_threads() * max(1, _CACHE_BYTES // (4 * frames**2))
    return ((clip, slice(start, start + step)) for clip in range(batch) for start in range(0, heads, step))


def _weights(
    part: tuple[int, slice],
    query: torch.Tensor,
    key: torch.Tensor,
    gate: torch.Tensor,
    position_bias: torch.Tensor,
    attention_mask: torch.Tensor | None,
) -> torch.Tensor:
    """The weights `(some heads, frames, frames)` of one part, in float32 or better."""
    mask = None if attention_mask is None else attention_mask[part[0]]
    bias = _bias(gate[part], position_bias[0, part[1]], mask, query.dtype)
    scores = torch.baddbmm(bias, query[part], key[part].mT, alpha=query.shape[-1] ** -0.5)
    return scores.softmax(dim=-1, dtype=torch.promote_types(query.dtype, torch.float32))


class ChannelsLastConv1d(nn.Conv1d):
    """`Conv1d` without padding that gives `(batch, channels, frames)` with the channels last in memory."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As in torch, up to rounding."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():  # layouts are up to the compiler of the graph
            return super().forward(input)
        if torch.is_grad_enabled() and self.weight.requires_grad:  # trained along: torch's own is faster backward
            return super().forward(input)
        if self.in_channels == 1:  # of the waveform: a matrix product over its windows is faster than any convolution
            windows = input.squeeze(1).unfold(1, self.kernel_size[0], self.stride[0])  # (batch, frames, kernel)
            return F.linear(windows, self.weight.squeeze(1), self.bias).transpose(1, 2)
        stride = (1, self.stride[0])
        return F.conv2d(input.unsqueeze(2), self.weight.unsqueeze(2), self.bias, stride=stride).squeeze(2)


def use_channels_last(encoder: Any) -> None:
    """Let the convolutions of an audio encoder work channels last, if all of them are followed by a layer norm.

    Args:
        encoder (`PreTrainedModel`): A raw-waveform encoder; changed in place. Parameters and their names stay.
    """
    layers = getattr(encoder.feature_extractor, "conv_layers", [])
    if not all(isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm) for layer in layers):
        return
    for layer in layers:
        plain = layer.conv.padding == (0,) and layer.conv.dilation == (1,) and layer.conv.groups == 1
        if plain and type(layer.conv) is nn.Conv1d:
            layer.conv.__class__ = ChannelsLastConv1d


__all__ = ["ChannelsLastConv1d", "SdpaWavLMModel", "WavLMGatedAttention", "use_channels_last"]
