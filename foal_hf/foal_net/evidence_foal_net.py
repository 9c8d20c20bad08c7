"""What a clip contains: whether its audio is silent, clipped or speech, and its video black or frozen.

Scores from a silent track or black video look like any other scores. So these measurements accompany them, and
`modality="auto"` of the pipeline skips audio and video that contain nothing.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import replace
from typing import Any

import torch

from .arrays_foal_net import resample
from .faces_foal_net import FaceCounter


SILENT_DBFS = -60.0
"""Audio is silent if no tenth of a second is louder. 0 dBFS is the level of a full-scale square wave."""
CLIPPED_DBFS = -0.1
"""Samples from this level on count as clipped: lossy codecs and resampling move a cut peak slightly."""
CLIPPED_SHARE = 0.001
"""Audio is clipped if at least this share of its samples is."""
BLACK_LUMA = 0.1
"""A pixel is black below this share of white."""
BLACK_SHARE = 0.98
"""A frame is black if at least this share of its pixels is."""
FROZEN_DIFFERENCE = 0.004
"""Video is frozen if no frame differs from the first by more: mean over the pixels, as a share of white.

A still image encoded as H.264 differs from itself by 0.002 to 0.003 (crf 18 to 28); drawn talking faces by 0.009.
"""

_LOWEST_DBFS = -120.0  # for digital silence, whose level is minus infinity, which JSON cannot represent
_LEVEL_SECONDS = 0.1
_LUMA = (0.299, 0.587, 0.114)
_SPEECH_RATE = 16_000


class EvidenceMeter:
    """Measures a recording that is read clip by clip; memory does not grow with its length.

    Args:
        detect_speech (`bool`, defaults to `True`): See [`measure_evidence`].
    """

    def __init__(self, *, detect_speech: bool = True) -> None:
        self._detect_speech = detect_speech
        self._num_samples = self._num_clipped = self._num_frames = 0
        self._energy = self._loudest = self._spoken = 0.0  # sum of squares; largest mean square; samples with speech
        self._first_luma: torch.Tensor | None = None
        self._is_black = self._is_frozen = True
        self._notes: dict[str, None] = {}
        self._faces = FaceCounter()

    def add(self, clip: Any) -> None:
        """Measure the next clip of the recording."""
        self._notes |= dict.fromkeys(clip.notes)
        if clip.waveform is not None:
            self._add_audio(clip.waveform, clip.sampling_rate)
        for frame in () if clip.frames is None else clip.frames:  # one at a time, for memory
            self._add_frame(frame)
        self._faces.add(clip.faces or ())

    def evidence(self) -> dict[str, Any]:
        """The measurements of all clips so far, see [`measure_evidence`]."""
        audio = video = None
        if self._num_samples:
            share = self._spoken / self._num_samples if self._detector() is not None else None
            audio = {
                "level_dbfs": round(_dbfs(self._energy / self._num_samples), 1),
                "silent": _dbfs(self._loudest) < SILENT_DBFS,
                "clipped": self._num_clipped >= CLIPPED_SHARE * self._num_samples,
                "speech": None if share is None else share > 0,
                "speech_share": None if share is None else round(share, 3),
            }
        if self._num_frames:
            video = {"black": self._is_black, "frozen": self._is_frozen if self._num_frames > 1 else None}
            video |= self._faces.evidence() if self._faces.num_frames else {}
        return {"audio": audio, "video": video, "notes": list(self._notes)}

    def _detector(self) -> tuple[Any, Any] | None:
        return _speech_detector() if self._detect_speech else None

    def _add_audio(self, waveform: torch.Tensor, sampling_rate: int) -> None:
        parts = waveform.split(max(round(_LEVEL_SECONDS * sampling_rate), 1))
        loudest = max(part.square().mean().item() for part in parts)
        self._loudest = max(self._loudest, loudest)
        self._energy += waveform.square().mean().item() * len(waveform)
        self._num_clipped += int((waveform.abs() >= 10 ** (CLIPPED_DBFS / 20)).sum())
        self._num_samples += len(waveform)
        detector = self._detector()
        if detector is not None and _dbfs(loudest) >= SILENT_DBFS:
            self._spoken += _speech_share(waveform, sampling_rate, *detector) * len(waveform)

    def _add_frame(self, frame: torch.Tensor) -> None:
        weights = torch.tensor(_LUMA, device=frame.device).view(3, 1, 1) / 255
        luma = (frame.float() * weights).sum(0)
        self._num_frames += 1
        self._is_black = self._is_black and (luma < BLACK_LUMA).float().mean().item() >= BLACK_SHARE
        first = self._first_luma = luma if self._first_luma is None else self._first_luma
        self._is_frozen = self._is_frozen and (luma - first).abs().mean().item() <= FROZEN_DIFFERENCE


def measure_evidence(clip: Any, *, detect_speech: bool = True) -> dict[str, Any]:
    """Measure what the audio and video of a clip contain.

    Args:
        clip ([`~foal_hf.Clip`]): As read: samples in [-1, 1], frames in 0 to 255.
        detect_speech (`bool`, defaults to `True`): Detect speech, which takes about 30 ms of one CPU core for each
            second of audio. It needs the extra `speech` (the package silero-vad); without it the value is None.

    Returns:
        `dict`: `audio` and `video`, each None where the clip does not have it, and `notes`.

        - `audio`: `level_dbfs` (`float`, the level of all audio, at least -120), `silent` and `clipped` (`bool`),
          `speech` (`bool`, or None if speech detection was not run) and `speech_share` (`float` in [0, 1], or None).
        - `video`: `black` (`bool`: all frames are), `frozen` (`bool`, or None for a single frame). Where faces were
          looked for, also `crop` (`"face"`, or `"frame"` if there is none), `frames`, `frames_with_face` (`int`) and
          `face_box` (left, top, right, bottom in pixels: the mean box of the main face, or None). A checkpoint that was
          trained on faces has `crop` (`"frame"`) where they were not looked for.
        - `notes` (`list[str]`): What the reader skipped, moved or converted, such as high dynamic range.

    Example:

    ```python
    >>> measure_evidence(read_clip("clip.mp4"))["audio"]["silent"]
    False
    ```
    """
    meter = EvidenceMeter(detect_speech=detect_speech)
    meter.add(clip)
    return meter.evidence()


def usable_part(clip: Any, evidence: dict[str, Any]) -> Any:
    """The clip without silent audio and without black video; None if nothing remains.

    Audio without speech is kept, since laughter and crying are not speech; so is frozen video, since one frame shows a
    face.
    """
    if evidence["audio"] is not None and evidence["audio"]["silent"]:
        clip = replace(clip, waveform=None, sampling_rate=None)
    if evidence["video"] is not None and evidence["video"]["black"]:
        clip = replace(clip, frames=None, frame_seconds=None)
    return clip if clip.modalities else None


def why_nothing(evidence: dict[str, Any]) -> str:
    """The reason why there is nothing to score."""
    audio, video = evidence["audio"], evidence["video"]
    heard = "no audio" if audio is None else "the audio is silent" if audio["silent"] else "the audio is too short"
    seen = "no video" if video is None else "the video is black"
    return f"nothing to score: {heard}, {seen}"


def _dbfs(mean_square: float) -> float:
    return max(10 * math.log10(mean_square), _LOWEST_DBFS) if mean_square > 0 else _LOWEST_DBFS


def _speech_share(waveform: torch.Tensor, sampling_rate: int, model: Any, get_speech_timestamps: Any) -> float:
    """Share of the audio that is speech."""
    waveform = resample(waveform.cpu(), sampling_rate, _SPEECH_RATE)
    if not len(waveform):
        return 0.0
    segments = get_speech_timestamps(waveform, model, sampling_rate=_SPEECH_RATE)
    return sum(segment["end"] - segment["start"] for segment in segments) / len(waveform)


@functools.cache
def _speech_detector() -> tuple[Any, Any] | None:
    """Silero's model, whose weights come with its package, and its function; None if it is not installed."""
    num_threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it is a TorchScript file, which torch warns about
            import silero_vad

            return silero_vad.load_silero_vad(), silero_vad.get_speech_timestamps
    except ImportError:
        return None
    finally:
        torch.set_num_threads(num_threads)  # the import sets it to 1 for the whole process


__all__ = ["EvidenceMeter", "measure_evidence", "usable_part", "why_nothing"]
