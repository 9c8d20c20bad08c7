"""The convolutions between a waveform and an audio encoder, in the memory layout of the layer norms between them.

Where each convolution is followed by a layer norm over channels (`feat_extract_norm="layer"`), transformers transposes
before and after it, and torch's `Conv1d` copies both times: the copies took a quarter of the time. `Conv2d` takes and
gives `(batch, frames, channels)` in memory as it is, and both transpositions are views. Convolutions that are trained
stay as they are.

Frozen convolutions need no `no_grad`: neither they nor the waveform ask for a gradient, so autograd records nothing.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


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


__all__ = ["ChannelsLastConv1d", "use_channels_last"]
