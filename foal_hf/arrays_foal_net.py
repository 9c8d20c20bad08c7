"""Sound and pictures that come as arrays: checks of layout and range, and resampling of sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .sources_foal_net import MediaError


_MAX_CHANNELS = 8
_ZERO_CROSSINGS = 24  # of the sinc on either side: more is sharper and slower
_ROLLOFF = 0.95  # of the lower Nyquist frequency: where the filter's edge is centred
_OUTPUTS_AT_ONCE = 2**14


def mono_from_array(array: Any) -> torch.Tensor:
    """Sound from an array, channels averaged.

    Args:
        array: `(samples,)`, `(channels, samples)` or `(samples, channels)`, up to 8 channels; floating point in [-1,
            1], or PCM
            integers (`int16`, `int32`, `uint8`), which are scaled to [-1, 1].

    Returns:
        `torch.Tensor` of shape `(samples,)`, float32.

    Raises:
        MediaError: If the layout is unclear, or it is empty, or holds NaN or infinity.
    """
    samples = _as_tensor(array, "audio array")
    if samples.ndim == 2:
        few, many = sorted(samples.shape)
        if not few <= _MAX_CHANNELS < many:
            raise MediaError(
                "audio array",
                f"its shape {tuple(samples.shape)} does not tell channels from samples; give (samples,), or (channels, "
                f"samples) with at most {_MAX_CHANNELS} channels. A batch of sounds is a list.",
            )
        channel_axis = 0 if samples.shape[0] == few else 1
    elif samples.ndim != 1:
        raise MediaError(
            "audio array", f"has the shape {tuple(samples.shape)}; expected (samples,) or (channels, samples)."
        )
    if samples.numel() == 0:
        raise MediaError("audio array", "is empty; a sound has at least one sample.")
    samples = _pcm_to_float(samples)
    if samples.ndim == 2:
        samples = samples.mean(channel_axis)
    if not torch.isfinite(samples).all():
        raise MediaError("audio array", "holds NaN or infinity; every sample has to be finite.")
    return samples


def frames_from_array(frames: Any) -> torch.Tensor:
    """Pictures from an array or a list.

    Args:
        frames: `(frames, 3, height, width)` or `(frames, height, width, 3)`, uint8 or floating point in [0, 1]; or a
            list of PIL images or of such arrays without the first axis.

    Returns:
        `torch.Tensor` of shape `(frames, 3, height, width)`, uint8.

    Raises:
        MediaError: If the layout is unclear, or it is empty, or values lie outside the range.
    """
    if isinstance(frames, Sequence):
        pictures = [
            _as_tensor(frame.convert("RGB") if hasattr(frame, "convert") else frame, "video array") for frame in frames
        ]
        shapes = sorted({tuple(picture.shape) for picture in pictures})
        if len(shapes) > 1:
            raise MediaError(
                "video array", f"the frames differ in shape: {shapes[0]} and {shapes[-1]}; all have to be equal."
            )
        tensor = torch.stack(pictures) if pictures else torch.empty(0)
    else:
        tensor = _as_tensor(frames, "video array")
    if tensor.numel() == 0:
        raise MediaError("video array", "is empty; a video has at least one frame.")
    expected = "expected (frames, 3, height, width) or (frames, height, width, 3)"
    channels_first, channels_last = (tensor.ndim == 4 and tensor.shape[axis] == 3 for axis in (1, -1))
    if channels_first == channels_last:
        why = "could mean either layout" if channels_first else "is neither layout"
        raise MediaError("video array", f"its shape {tuple(tensor.shape)} {why}: {expected}.")
    if channels_last:
        tensor = tensor.movedim(-1, 1)
    if tensor.dtype == torch.uint8:
        return tensor
    if not tensor.is_floating_point():
        raise MediaError("video array", f"has the type {tensor.dtype}; expected uint8, or floating point in [0, 1].")
    low, high = tensor.aminmax()
    if not (low >= 0 and high <= 1):  # also false for NaN
        raise MediaError("video array", f"holds values from {low:g} to {high:g}; floating point frames lie in [0, 1].")
    return tensor.float().mul(255).round().to(torch.uint8)


def resample(
    samples: torch.Tensor, from_rate: int, to_rate: int, first: int = 0, stop: int | None = None
) -> torch.Tensor:
    """Samples of the same sound at another rate, band-limited.

        y[n] = sum_m x[m] h(c (n from_rate / to_rate - m)),   c = 0.95 min(1, to_rate / from_rate)

    `h` is a sinc under a Hann window of 24 zero crossings on either side, scaled to sum to 1; beyond its ends the
    sound is silent.

    Args:
        samples (`torch.Tensor` of shape `(samples,)`): The sound.
        from_rate (`int`): Its sampling rate, Hz.
        to_rate (`int`): The wanted one, Hz.
        first (`int`): Index, at the wanted rate, of the first sample that is wanted.
        stop (`int`, *optional*): Index after the last one. Default: the end of the sound.

    Returns:
        `torch.Tensor` of shape `(stop - first,)`, float32.
    """
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    end = -(-len(samples) * up // down)
    stop = end if stop is None else min(stop, end)
    if first >= stop:
        return samples.new_zeros(0)
    if up == down:
        return samples[first:stop]
    cutoff = min(1.0, up / down) * _ROLLOFF
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)

    # An output lies at the input position n down / up = whole + phase / up: one row of filter taps for each phase.
    indices = torch.arange(first, stop, device=samples.device)
    whole, phases = indices * down // up, indices * down % up
    used_phases, rows = phases.unique(return_inverse=True)
    taps = torch.arange(-reach, reach + 2, device=samples.device)
    distance = cutoff * (taps - used_phases[:, None].double() / up)  # (phases, taps), in zero crossings
    window = torch.cos(distance.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS) * (math.pi / 2 / _ZERO_CROSSINGS)) ** 2
    filters = torch.sinc(distance) * window
    filters = (filters / filters.sum(1, keepdim=True)).float()  # a constant stays what it is

    low, high = int(whole[0]) - reach, int(whole[-1]) + reach + 2
    inside = samples[max(low, 0) : high]
    padded = torch.nn.functional.pad(inside, (max(-low, 0), high - max(low, 0) - len(inside)))
    neighbourhoods = padded.unfold(0, len(taps), 1)  # (positions, taps), a view
    pieces = [
        torch.einsum("nt,nt->n", neighbourhoods[whole[part] - whole[0]], filters[rows[part]])
        for part in torch.arange(len(indices), device=samples.device).split(_OUTPUTS_AT_ONCE)
    ]
    return torch.cat(pieces)


def _as_tensor(array: Any, name: str) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach()
    array = np.asarray(array)
    try:
        return torch.from_numpy(np.array(array))  # a copy: read-only and reversed arrays cannot be shared
    except TypeError as error:
        raise MediaError(name, f"holds elements of the type {array.dtype}; expected numbers.") from error


def _pcm_to_float(samples: torch.Tensor) -> torch.Tensor:
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    if samples.dtype in (torch.int16, torch.int32):
        return (samples.double() / -float(torch.iinfo(samples.dtype).min)).float()
    raise MediaError(
        "audio array",
        f"has the type {samples.dtype}; expected floating point in [-1, 1], or int16, int32 or uint8 PCM.",
    )
