"""What a clip holds to judge by: whether its sound is silent, clipped or speech, its picture black or frozen.

An answer about a silent track or a black picture looks like any other answer. So the numbers here go along with it, and
`modality="auto"` of the pipeline leaves out what carries nothing.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import replace
from typing import Any

import torch

from .arrays_foal_net import resample


SILENT_DBFS = -60.0
"""Sound is silent where no tenth of a second is louder. 0 dBFS is the level of a full-scale square wave."""
CLIPPED_DBFS = -0.1
"""Samples from here on count as clipped: lossy codecs and resampling move a cut peak a little."""
CLIPPED_SHARE = 0.001
"""Sound is clipped where at least this share of its samples is."""
BLACK_LUMA = 0.1
"""A pixel is black below this share of white."""
BLACK_SHARE = 0.98
"""A picture is black where at least this share of its pixels is."""
FROZEN_DIFFERENCE = 0.004
"""Pictures are frozen where none differs from the first by more, on the mean over the pixels, as a share of white.

One picture as an H.264 film differs from itself by 0.002 to 0.003 (crf 18 to 28); drawn faces that talk, by 0.009.
"""

_LOWEST_DBFS = -120.0  # for digital silence, whose level would be minus infinity, which JSON cannot say
_LEVEL_SECONDS = 0.1
_LUMA = (0.299, 0.587, 0.114)
_SPEECH_RATE = 16_000


def measure_evidence(clip: Any, *, detect_speech: bool = True) -> dict[str, Any]:
    """What sound and picture of a clip carry.

    Args:
        clip ([`~foal_hf.Clip`]): As it was read: samples in [-1, 1], pictures of 0 to 255.
        detect_speech (`bool`, defaults to `True`): Look for speech, which takes about 30 ms of one CPU core for each
            second of sound. It needs the extra `speech` (the package silero-vad); without it the answer is None.

    Returns:
        `dict`: `audio` and `video`, each None where the clip has no such modality.

        - `audio`: `level_dbfs` (`float`, the level of the whole sound, -120 at the least), `silent` and `clipped`
          (`bool`), `speech` (`bool`, or None where nobody looked) and `speech_share` (`float` in [0, 1], or None).
        - `video`: `black` (`bool`: all pictures are), `frozen` (`bool`, or None for a single picture).

    Example:

    ```python
    >>> measure_evidence(read_clip("clip.mp4"))["audio"]["silent"]
    False
    ```
    """
    audio = video = None
    if clip.waveform is not None:
        audio = _measure_sound(clip.waveform, clip.sampling_rate, detect_speech)
    if clip.frames is not None:
        video = _measure_pictures(clip.frames)
    return {"audio": audio, "video": video}


def usable_part(clip: Any, evidence: dict[str, Any]) -> Any:
    """The clip without a sound that is silent and without pictures that are black; None where nothing is left.

    Sound without speech stays, since laughter and crying are no speech, and so do frozen pictures, since one picture
    shows a face.
    """
    if evidence["audio"] is not None and evidence["audio"]["silent"]:
        clip = replace(clip, waveform=None, sampling_rate=None)
    if evidence["video"] is not None and evidence["video"]["black"]:
        clip = replace(clip, frames=None, frame_seconds=None)
    return clip if clip.modalities else None


def why_nothing(evidence: dict[str, Any]) -> str:
    """Why there is nothing to judge, in words."""
    sound, picture = evidence["audio"], evidence["video"]
    heard = "no sound" if sound is None else "the sound is silent" if sound["silent"] else "the sound is too short"
    seen = "no picture" if picture is None else "the picture is black"
    return f"nothing to judge: {heard}, {seen}"


def _measure_sound(waveform: torch.Tensor, sampling_rate: int, detect_speech: bool) -> dict[str, Any]:
    parts = waveform.split(max(round(_LEVEL_SECONDS * sampling_rate), 1))
    loudest = max(part.square().mean().item() for part in parts)
    clipped = (waveform.abs() >= 10 ** (CLIPPED_DBFS / 20)).float().mean().item()
    silent = _dbfs(loudest) < SILENT_DBFS
    detector = _speech_detector() if detect_speech else None
    share = None
    if detector is not None:
        share = 0.0 if silent else _speech_share(waveform, sampling_rate, *detector)
    return {
        "level_dbfs": round(_dbfs(waveform.square().mean().item()), 1),
        "silent": silent,
        "clipped": clipped >= CLIPPED_SHARE,
        "speech": None if share is None else share > 0,
        "speech_share": None if share is None else round(share, 3),
    }


def _dbfs(mean_square: float) -> float:
    return max(10 * math.log10(mean_square), _LOWEST_DBFS) if mean_square > 0 else _LOWEST_DBFS


def _measure_pictures(frames: torch.Tensor) -> dict[str, Any]:
    weights = torch.tensor(_LUMA, device=frames.device).view(3, 1, 1) / 255
    first, black, frozen = None, True, True
    for frame in frames:  # one at a time: a clip of many large pictures fits into memory as bytes only
        luma = (frame.float() * weights).sum(0)
        black = black and (luma < BLACK_LUMA).float().mean().item() >= BLACK_SHARE
        first = luma if first is None else first
        frozen = frozen and (luma - first).abs().mean().item() <= FROZEN_DIFFERENCE
    return {"black": black, "frozen": frozen if len(frames) > 1 else None}


def _speech_share(waveform: torch.Tensor, sampling_rate: int, model: Any, get_speech_timestamps: Any) -> float:
    """Share of the sound in which somebody speaks."""
    waveform = resample(waveform.cpu(), sampling_rate, _SPEECH_RATE)
    if not len(waveform):
        return 0.0
    stretches = get_speech_timestamps(waveform, model, sampling_rate=_SPEECH_RATE)
    return sum(stretch["end"] - stretch["start"] for stretch in stretches) / len(waveform)


@functools.cache
def _speech_detector() -> tuple[Any, Any] | None:
    """Silero's network, whose weights lie in its package, and its function; None where it is not installed."""
    num_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is a TorchScript file, which torch warns of
            import silero_vad

            return silero_vad.load_silero_vad(), silero_vad.get_speech_timestamps
    except ImportError:
        return None
    finally:
        torch.set_num_threads(num_threads)  # the import sets it to 1 for the whole process


__all__ = ["measure_evidence", "usable_part", "why_nothing"]
