"""WavLM with attention through torch's `scaled_dot_product_attention`: transformers' weights and numbers, less time.

transformers' WavLM forms the attention weights of all heads, averages them and drops the average. It also reads the
weights of its projections without calling them, so that an adapter (LoRA) on a projection has no effect. Here the
default, `attn_implementation="sdpa"`, forms no weights; `"eager"` forms them to return them; both call the projections.

Shapes: `batch` clips, `frames` positions of the encoder, `heads` of `head_width`. Masks are True for audio and False
for padding.

Also here: the convolutions between a waveform and any audio encoder, in the memory layout of the layer norms between
them. Where each convolution is followed by a layer norm over channels (`feat_extract_norm="layer"`), transformers
transposes before and after it, and torch's `Conv1d` copies both times: the copies took a quarter of the time. `Conv2d`
reads and writes `(batch, frames, channels)` in memory as it is, and both transpositions are views. Convolutions that
are trained are not changed. Frozen ones need no `no_grad`: neither they nor the waveform require a gradient.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import WavLMConfig, WavLMModel
from transformers.models.wavlm.modeling_wavlm import WavLMAttention
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs


class WavLMGatedAttention(WavLMAttention):
    """WavLM's attention, `softmax(q k^T / sqrt(head_width) + gate(x) * position) v`.

    `position` is learned for each head and each bucket of distances; `gate` is one number for each head and query. The
    first layer looks `position` up, and all layers share it. The state dict is that of transformers' `WavLMAttention`.
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
        """Attend from each frame to all frames of audio.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, frames, heads * head_width)`): `x`.
            attention_mask (`torch.Tensor` of shape `(batch, frames)`, *optional*): True for audio, False for padding.
            position_bias (`torch.Tensor` of shape `(1, heads, frames, frames)`, *optional*): `position`, as the first
                layer returned it; None in the first layer.
            index (`int`, defaults to 0): Number of the layer; not used.
            **kwargs: `output_attentions=True` returns the weights, which the eager attention forms.

        Returns:
            The attended states, shaped like `hidden_states`; the weights `(batch, heads, frames, frames)` if they were
            formed, else None; `position`. transformers returns the mean of the weights over the heads instead.
        """
        if position_bias is None:
            position_bias = self.compute_bias(hidden_states.shape[1], hidden_states.shape[1])[None].contiguous()
        states = (  # (batch, heads, frames, head_width) each, and 1 wide the gate
            self._heads(self.q_proj(hidden_states)),
            self._heads(self.k_proj(hidden_states)),
            self._heads(self.v_proj(hidden_states)),
            self._gate(hidden_states),
        )
        dropout = self.dropout if self.training else 0.0
        is_plain_cpu = hidden_states.device.type == "cpu" and not _makes_a_graph()
        with_gradient = torch.is_grad_enabled() and any(each.requires_grad for each in (*states, position_bias))
        weights = None
        # On the CPU torch has no kernel with a gradient for the bias: its fallback forms the weights too, less exactly.
        is_eager = self.config._attn_implementation == "eager" or kwargs.get("output_attentions")
        if is_eager or (is_plain_cpu and with_gradient):
            attended, weights = _eager(*states, position_bias, attention_mask, dropout)
        elif not is_plain_cpu:
            attended = _sdpa(*states, position_bias, attention_mask, dropout)
        else:  # one clip at a time, so that only one clip's bias (heads, frames, frames) is in memory
            masks = [None] * len(hidden_states) if attention_mask is None else attention_mask.split(1)
            clips: Any = zip(*(each.split(1) for each in states), masks, strict=True)
            attended = torch.cat([_sdpa(q, k, v, g, position_bias, mask, dropout) for q, k, v, g, mask in clips])
        return self.out_proj(attended.transpose(1, 2).flatten(2)), weights, position_bias

    def _gate(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """How much of the position each query uses, `(batch, heads, frames, 1)`."""
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
            # Only the class changes: parameters, their names and their initialization are transformers' own.
            attention: Any = layer.attention
            attention.__class__ = WavLMGatedAttention
            attention.config = config

    @classmethod
    def is_custom_code(cls) -> bool:
        """False: transformers skips a part of the random initialization in models that are not its own."""
        return False

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """As in transformers; where a whole model uses flash or flex attention, this encoder uses sdpa."""
        if requested_attention and requested_attention.startswith(("flash", "flex")):
            requested_attention = "sdpa"
        return super().get_correct_attn_implementation(requested_attention, is_init_check)


def _makes_a_graph() -> bool:
    """Whether a graph is being made, in which nothing may depend on the number of clips."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def _sdpa(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    position_bias: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    bias = _bias(gate, position_bias, attention_mask, query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)


def _eager(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    gate: torch.Tensor,
    position_bias: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    scores = query @ key.mT * query.shape[-1] ** -0.5 + _bias(gate, position_bias, attention_mask, query.dtype)
    weights = F.dropout(scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype), dropout)
    return weights @ value, weights


def _bias(
    gate: torch.Tensor, position_bias: torch.Tensor, mask: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """What is added to the scores. Padding gets the lowest number: of -inf alone, softmax would make NaN."""
    bias = (gate * position_bias).to(dtype)  # (batch, heads, frames, frames)
    return bias if mask is None else bias.masked_fill_(~mask[:, None, None].bool(), torch.finfo(dtype).min)


class ChannelsLastConv1d(nn.Conv1d):
    """`Conv1d` without padding; its output `(batch, channels, frames)` has the channels last in memory."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As in torch, up to rounding."""
        if _makes_a_graph():  # its compiler decides on layouts
            return super().forward(input)
        if torch.is_grad_enabled() and self.weight.requires_grad:  # torch's own is faster backward
            return super().forward(input)
        if self.in_channels == 1:  # the waveform: a matrix product over its windows is faster than any convolution
            windows = input.squeeze(1).unfold(1, self.kernel_size[0], self.stride[0])  # (batch, frames, kernel)
            return F.linear(windows, self.weight.squeeze(1), self.bias).transpose(1, 2)
        stride = (1, self.stride[0])
        return F.conv2d(input.unsqueeze(2), self.weight.unsqueeze(2), self.bias, stride=stride).squeeze(2)


def use_channels_last(encoder: Any) -> None:
    """Make the convolutions of an audio encoder work channels last, if a layer norm follows each of them.

    Args:
        encoder (`PreTrainedModel`): A raw-waveform encoder; changed in place. Parameters and their names do not change.
    """
    layers = getattr(getattr(encoder, "feature_extractor", None), "conv_layers", [])
    if not all(isinstance(getattr(layer, "layer_norm", None), nn.LayerNorm) for layer in layers):
        return
    for layer in layers:
        plain = layer.conv.padding == (0,) and layer.conv.dilation == (1,) and layer.conv.groups == 1
        if plain and type(layer.conv) is nn.Conv1d:
            layer.conv.__class__ = ChannelsLastConv1d


__all__ = ["ChannelsLastConv1d", "SdpaWavLMModel", "WavLMGatedAttention", "use_channels_last"]
