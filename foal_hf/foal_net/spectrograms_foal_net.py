"""Waveforms to spectrograms, by the feature extractor of an audio encoder.

Each clip is extracted by itself, so that neither windows at its edges nor its normalization depend on other clips of
the batch. Extractors with a window of fixed length (Whisper) give the clip alone where they can; others (AST, CLAP)
fill the window as their encoder was trained.

Shapes: `frames` of a spectrogram, `bins` of a frame.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch


MIN_SECONDS = 0.04
"""Shorter audio counts as none: it has less than two frames of a spectrogram, which have no variance."""

_SHORT_SECONDS, _LONG_SECONDS = 0.1, 0.3  # whole frames of 10 ms


@dataclass
class _Layout:
    """What a feature extractor gives: found with noise of two lengths.

    Args:
        name (`str`): How it calls its output.
        is_spectrogram (`bool`): Whether that has frames of bins, and not samples.
        time_axis (`int`): The axis of time of one spectrogram.
        is_fixed (`bool`): Whether each clip fills a window.
        padding_row (`np.ndarray`, *optional*): A frame of padding in such a window.
        frames (`tuple[int, int]`): Frames of the two lengths.
    """

    name: str
    is_spectrogram: bool
    time_axis: int = 0
    is_fixed: bool = False
    padding_row: np.ndarray | None = None
    frames: tuple[int, int] = (0, 0)


_LAYOUTS: WeakKeyDictionary[Any, _Layout] = WeakKeyDictionary()


def gives_spectrograms(extractor: Any) -> bool:
    """Whether a feature extractor turns waveforms into spectrograms, and does not only scale them."""
    return _layout(extractor).is_spectrogram


def batch_spectrograms(
    extractor: Any, waveforms: Sequence[torch.Tensor | None], num_samples: int = 0
) -> dict[str, torch.Tensor]:
    """The spectrograms of clips, padded to the longest.

    Args:
        extractor (`SequenceFeatureExtractor`): Its `sampling_rate` is that of the waveforms.
        waveforms (`Sequence[torch.Tensor]`): `(samples,)` each; None for a clip without audio.
        num_samples (`int`, defaults to 0): Pad at least as far as audio of this length goes.

    Returns:
        The spectrograms under the name of the extractor's output, and `attention_mask` `(batch, frames)`, 1 for frames
        of the clip. Empty if no clip has audio.

    Raises:
        ValueError: If a clip is longer than the extractor's window.
    """
    layout, least = _layout(extractor), MIN_SECONDS * extractor.sampling_rate
    if all(waveform is None for waveform in waveforms):
        return {}
    rows = {
        row: _extract(extractor, layout, waveform.cpu().numpy(), f"Clip {row} of the batch")
        for row, waveform in enumerate(waveforms)
        if waveform is not None and len(waveform) >= least
    }
    widest = [len(waveform) for waveform in waveforms if waveform is not None]
    if not rows or (num_samples > max(widest) and not layout.is_fixed):
        filler = np.zeros(max(num_samples, math.ceil(least)), dtype=np.float32)
        example, _ = _extract(extractor, layout, filler, "Padding")
    else:
        example = max((spectrogram for spectrogram, _ in rows.values()), key=lambda each: each.shape[layout.time_axis])
    longest = example.shape[layout.time_axis]
    batch = torch.full((len(waveforms), *example.shape), float(extractor.padding_value))
    mask = torch.zeros(len(waveforms), longest, dtype=torch.long)
    for row, (spectrogram, frames) in rows.items():
        given = torch.from_numpy(np.asarray(spectrogram, dtype=np.float32))
        batch[row].narrow(layout.time_axis, 0, given.shape[layout.time_axis]).copy_(given)
        mask[row, :frames] = 1
    return {layout.name: batch, "attention_mask": mask}


def _layout(extractor: Any) -> _Layout:
    if extractor not in _LAYOUTS:
        _LAYOUTS[extractor] = _find_layout(extractor)
    return _LAYOUTS[extractor]


def _find_layout(extractor: Any) -> _Layout:
    rate = extractor.sampling_rate
    noise = np.random.default_rng(0).standard_normal(round(_LONG_SECONDS * rate)).astype(np.float32)
    name = extractor.model_input_names[0]
    short, long = (
        _call(extractor, noise[: round(seconds * rate)])[name][0] for seconds in (_SHORT_SECONDS, _LONG_SECONDS)
    )
    short, long = np.asarray(short), np.asarray(long)
    if short.ndim < 2:
        return _Layout(name, is_spectrogram=False)
    changed = [axis for axis in range(short.ndim) if short.shape[axis] != long.shape[axis]]
    if changed:
        return _Layout(name, is_spectrogram=True, time_axis=changed[0])
    row = short.reshape(-1, short.shape[-1])[-1]
    frames = tuple(_num_unlike(each, row) for each in (short, long))
    return _Layout(name, True, short.ndim - 2, is_fixed=True, padding_row=row, frames=frames)  # type: ignore[arg-type]


def _extract(extractor: Any, layout: _Layout, waveform: np.ndarray, which: str) -> tuple[np.ndarray, int]:
    """The spectrogram of one clip, and how many of its frames are of the clip."""
    most = getattr(extractor, "nb_max_samples", None)
    rate, samples = extractor.sampling_rate, len(waveform)
    window = None if most is None else most / rate
    if layout.is_fixed and most is not None and samples > most:
        raise _too_long(extractor, which, samples / rate, window)
    features = _call(extractor, waveform)
    spectrogram = np.asarray(features[layout.name][0])
    total = spectrogram.shape[layout.time_axis]
    if layout.is_fixed and most is not None:
        return spectrogram, math.ceil(samples * total / most)
    if layout.is_fixed:
        frames, hop = _num_unlike(spectrogram, layout.padding_row), _hop(extractor, layout)
        if layout.frames[0] + (samples / rate - _SHORT_SECONDS) * rate / hop > total + 2:
            raise _too_long(extractor, which, samples / rate, total * hop / rate)
        return spectrogram, frames
    if _multiple(extractor) is None and "attention_mask" in features:
        return spectrogram, int(np.asarray(features["attention_mask"][0]).sum())
    return spectrogram, total


def _call(extractor: Any, waveform: np.ndarray) -> Any:
    known = inspect.signature(type(extractor).__call__).parameters
    settings: dict[str, Any] = {"sampling_rate": extractor.sampling_rate, "return_tensors": "np"}
    # Where padding means to the longest clip or to a window, the clip alone; CLAP has other words for it.
    if "padding" in known and known["padding"].default in (True, False, "max_length"):
        settings |= {"padding": "longest", "truncation": False, "return_attention_mask": True}
    if (multiple := _multiple(extractor)) is not None:
        settings["pad_to_multiple_of"] = multiple
    return extractor(
        waveform, **{name: value for name, value in settings.items() if name in known or "kwargs" in known}
    )


def _multiple(extractor: Any) -> int | None:
    """Samples of two frames: encoders of extractors that pad to a window (Whisper) join two frames to a position."""
    padding = inspect.signature(type(extractor).__call__).parameters.get("padding")
    is_windowed = padding is not None and padding.default == "max_length"
    return 2 * extractor.hop_length if is_windowed else None


def _num_unlike(spectrogram: np.ndarray, row: np.ndarray | None) -> int:
    """Frames up to the last one that is not padding."""
    unlike = (spectrogram.reshape(-1, spectrogram.shape[-1]) != row).any(axis=1).nonzero()[0]
    return int(unlike[-1]) + 1 if len(unlike) else 0


def _hop(extractor: Any, layout: _Layout) -> float:
    short, long = layout.frames
    return (_LONG_SECONDS - _SHORT_SECONDS) * extractor.sampling_rate / max(long - short, 1)


def _too_long(extractor: Any, which: str, seconds: float, window: float | None) -> ValueError:
    return ValueError(
        f"{which} has {seconds:.2f} s of audio; {type(extractor).__name__} takes at most {window:.2f} s and would cut "
        "it. Lower `max_seconds`, or let the pipeline score windows of the recording."
    )


__all__ = ["MIN_SECONDS", "batch_spectrograms", "gives_spectrograms"]
