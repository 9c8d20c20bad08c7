"""Audio and frames that come as arrays: checks of layout and range, mixing and resampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .sources_foal_net import MediaError


# Hz. The resampling filter grows with the ratio of two rates, and headers may claim any.
MIN_SAMPLING_RATE, MAX_SAMPLING_RATE = 100, 10_000_000

_MAX_CHANNELS = 8
_CANCELLED_SHARE = 0.01
_MAX_AMPLITUDE = 2.0**32
_ZERO_CROSSINGS = 24  # of the sinc on either side: more is sharper and slower
_ROLLOFF = 0.95  # of the lower Nyquist frequency: where the filter's edge is centred
_FILTER_GROUP_TAPS = 2**20  # computed at once: bounds the memory where the rates have no common divisor


def mono_from_array(array: Any) -> torch.Tensor:
    """Audio from an array, its channels mixed to one.

    Args:
        array: `(samples,)`, `(channels, samples)` or `(samples, channels)`, up to 8 channels; floating point
            in [-1, 1], or PCM integers (`int16`, `int32`, `uint8`), which are scaled to it.

    Returns:
        `torch.Tensor` of shape `(samples,)`, float32.

    Raises:
        MediaError: If the layout is unclear, or it is empty, or holds NaN, infinity or what is far from audio.
    """
    return mix_to_mono(channels_from_array(array))[0]


def channels_from_array(array: Any) -> torch.Tensor:
    """Audio from an array as in `mono_from_array`, `(channels, samples)`, float32."""
    samples = _as_tensor(array, "audio array")
    if samples.ndim == 2:
        few, many = sorted(samples.shape)
        if not few <= _MAX_CHANNELS < many:
            raise MediaError(
                "audio array",
                f"its shape {tuple(samples.shape)} does not tell channels from samples; give (samples,), or (channels, "
                f"samples) with at most {_MAX_CHANNELS} channels. A batch of clips is a list.",
            )
        samples = samples if samples.shape[0] == few else samples.T
    elif samples.ndim == 1:
        samples = samples[None]
    else:
        raise MediaError(
            "audio array", f"has the shape {tuple(samples.shape)}; expected (samples,) or (channels, samples)."
        )
    if samples.numel() == 0:
        raise MediaError("audio array", "is empty; audio has at least one sample.")
    samples = pcm_to_float(samples)
    check_samples(samples, "audio array")
    return samples


def mix_to_mono(channels: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The mean of channels, or where they cancel each other out (left = -right) the louder one.

    Args:
        channels (`torch.Tensor` of shape `(channels, samples)`): Audio.

    Returns:
        `(torch.Tensor, bool)`: Shape `(samples,)`, and whether they cancel each other out: whether the mean has less
        than 1 % of the energy that it would have if they had nothing to do with each other.
    """
    mean = channels.mean(0)
    if len(channels) == 1:
        return mean, False
    energies = channels.square().sum(1)
    cancels = bool(mean.square().sum() < _CANCELLED_SHARE * energies.sum() / len(channels) ** 2)
    return (channels[energies.argmax()], True) if cancels else (mean, False)


def check_samples(samples: torch.Tensor, name: str) -> None:
    """Raise `MediaError` unless all samples are finite, and small enough for their squares to be.

    Audio lies in [-1, 1], but files of floating point with the range of integers exist.
    """
    if not (samples.abs() <= _MAX_AMPLITUDE).all():  # also false for NaN
        raise MediaError(name, f"holds NaN or infinity, or samples above {_MAX_AMPLITUDE:g}; audio lies in [-1, 1].")


def frames_from_array(frames: Any) -> torch.Tensor:
    """Frames from an array or a list.

    Args:
        frames: `(frames, 3, height, width)` or `(frames, height, width, 3)`, uint8 or floating point in [0, 1]; or a
            list of PIL images or of such arrays without the first axis.

    Returns:
        `torch.Tensor` of shape `(frames, 3, height, width)`, uint8.

    Raises:
        MediaError: If the layout is unclear, or it is empty, or values lie outside the range.
    """
    if isinstance(frames, Sequence):
        images = [_as_tensor(frame, "video array") for frame in frames]
        shapes = sorted({tuple(image.shape) for image in images})
        if len(shapes) > 1:
            raise MediaError(
                "video array", f"the frames differ in shape: {shapes[0]} and {shapes[-1]}; all have to be equal."
            )
        tensor = torch.stack(images) if images else torch.empty(0)
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
    samples: torch.Tensor, from_rate: int, to_rate: int, start_seconds: float = 0.0, num_samples: int | None = None
) -> torch.Tensor:
    """Samples of the same audio at another rate, band-limited.

        y[n] = sum_m x[m] h(c (p[n] - m))
        p[n] = from_rate (start + n / to_rate),   c = 0.95 min(1, to_rate / from_rate)

    `h` is a sinc under a Hann window of 24 zero crossings on either side, scaled to sum to 1. Before its begin and
    after its end the audio is silent.

    Args:
        samples (`torch.Tensor` of shape `(samples,)`): The audio.
        from_rate (`int`): Its sampling rate, Hz.
        to_rate (`int`): The wanted one, Hz.
        start_seconds (`float`, defaults to 0.0): Time of the first wanted sample, counted from the first given one;
            may be negative.
        num_samples (`int`, *optional*): How many at most. Default: up to the end of the audio.

    Returns:
        `torch.Tensor` of shape `(num_samples,)`, fewer where the audio ends earlier, float32.
    """
    start = start_seconds * from_rate  # in input samples
    left = math.ceil((len(samples) - start) * to_rate / from_rate - 1e-6)
    num_samples = max(left if num_samples is None else min(left, num_samples), 0)
    if from_rate == to_rate:
        return _padded_slice(samples, round(start), round(start) + num_samples)
    if num_samples == 0:
        return samples.new_zeros(0)
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    cutoff = min(1.0, up / down) * _ROLLOFF
    reach = math.ceil(_ZERO_CROSSINGS / cutoff)
    first = math.floor(start)
    repeats = -(-(2 * reach + 2) // down)  # rows of samples that do not overlap multiply without a copy
    up, down = up * repeats, down * repeats

    # Output n lies at input position first + (n // up) down + offsets[n % up]: every up-th output has the same filter.
    offsets = start - first + torch.arange(min(up, num_samples), dtype=torch.float64) * down / up
    taps = torch.arange(-reach, reach + 2)
    rounds = -(-num_samples // up)
    span = _padded_slice(samples, first - reach, first + rounds * down + int(offsets[-1]) + reach + 2)
    output = samples.new_empty(rounds, len(offsets))
    group = max(_FILTER_GROUP_TAPS // len(taps), 1)
    for begin in range(0, len(offsets), group):
        part = offsets[begin : begin + group]
        distances = cutoff * (taps - part.frac()[:, None])  # (phases, taps), in zero crossings
        window = torch.cos(distances.clamp(-_ZERO_CROSSINGS, _ZERO_CROSSINGS) * (math.pi / 2 / _ZERO_CROSSINGS)) ** 2
        filters = torch.sinc(distances) * window
        filters = (filters / filters.sum(1, keepdim=True)).to(samples)  # a constant stays what it is
        for phase, whole in enumerate(part.long().tolist()):
            taken = span[whole:].unfold(0, len(taps), down)[:rounds]
            torch.mv(taken, filters[phase], out=output[:, begin + phase])
    return output.flatten()[:num_samples]


def _padded_slice(samples: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """`samples[start:stop]` where indices may lie outside, with zeros there."""
    inside = samples[max(start, 0) : max(stop, 0)]
    left = min(max(-start, 0), stop - start)
    return torch.nn.functional.pad(inside, (left, stop - start - left - len(inside)))


def _as_tensor(array: Any, name: str) -> torch.Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach()
    try:
        array = array.convert("RGB") if hasattr(array, "convert") else array  # a PIL image
        array = np.array(array)  # a copy: read-only and reversed arrays cannot be shared
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except TypeError as error:
        raise MediaError(name, f"holds elements of the type {array.dtype}; expected numbers.") from error
    except (ValueError, OSError) as error:  # rows of different lengths; an image whose file is cut off
        raise MediaError(name, f"is no array ({error}).") from error


def pcm_to_float(samples: torch.Tensor) -> torch.Tensor:
    """Samples in [-1, 1], float32, from PCM integers or floating point."""
    if samples.is_floating_point():
        return samples.float()
    if samples.dtype == torch.uint8:
        return (samples.float() - 128) / 128
    if samples.dtype in (torch.int16, torch.int32):
        return samples.float() / -float(torch.iinfo(samples.dtype).min)
    raise MediaError(
        "audio array",
        f"has the type {samples.dtype}; expected floating point in [-1, 1], or int16, int32 or uint8 PCM.",
    )
