"""Recordings in the pipeline: read in windows, with evidence, scored in batches and merged into segments."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from .evidence_foal_net import measure_evidence, usable_part, why_nothing
from .media_foal_net import Clip, MediaFile
from .timeline_foal_net import ScoredSegment, merge_windows
from .windows_foal_net import Stride, read_windows


MODALITIES = {
    "both": ("audio", "video"),
    "audio": ("audio",),
    "video": ("video",),
    "auto": ("audio", "video"),
}
# What reading a file may raise. A missing decoder (ImportError) is not the fault of the file.
UNREADABLE = (ValueError, TypeError, OSError, RuntimeError, LookupError)
# Arguments of a call that need `window_seconds`.
TIMELINE_SETTINGS = ("stride_seconds", "stream", "progress")
# Fields of a row (a dict) beside its media; other columns are ignored.
_CLIP_FIELDS = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box", "sampling_rate")


@dataclass(frozen=True)
class PendingWindow:
    """One stride, and the clip that the model has to score for it.

    Attributes:
        segment (`ScoredSegment`): Without scores.
        clip (`Clip`, *optional*): The window that begins with the stride; None without a window or usable content.
        duration_seconds (`float`, *optional*): Of the whole recording, according to the file.
    """

    segment: ScoredSegment
    clip: Clip | None
    duration_seconds: float | None


class RecordingReader(IterableDataset):
    """The windows of one recording, read on demand, in this process or in a worker.

    An error is the last item and is not raised: an error raised in a worker reaches the caller as another type.

    Args:
        media (`dict`): Arguments of [`MediaFile`] except `in_order`.
        windows (`dict`): Arguments of `read_windows`.
        shortest_sound (`int`): Minimum number of audio samples that the model needs.
        skip_empty (`bool`): Whether the model does not get silent audio and black video.
        detect_speech (`bool`): Whether to detect speech.
    """

    def __init__(
        self,
        media: dict[str, Any],
        windows: dict[str, Any],
        *,
        shortest_sound: int,
        skip_empty: bool,
        detect_speech: bool,
    ):
        self._media = media
        self._windows = windows
        self._shortest_sound = shortest_sound
        self._skip_empty = skip_empty
        self._detect_speech = detect_speech

    def __iter__(self) -> Iterator[PendingWindow | Exception]:
        try:
            with MediaFile(**self._media, in_order=True) as media:
                for stride in read_windows(media, **self._windows):
                    yield self._prepared(stride, media.duration_seconds)
        except UNREADABLE as error:
            yield portable(error)

    def _prepared(self, stride: Stride, duration_seconds: float | None) -> PendingWindow:
        evidence = measure_evidence(stride.segment, detect_speech=self._detect_speech)
        clip = None if stride.window is None else self._usable(stride.window)
        segment = ScoredSegment(
            start_seconds=stride.start_seconds,
            end_seconds=stride.end_seconds,
            evidence=evidence,
            window_end_seconds=stride.end_seconds if stride.window is None else stride.window.end_seconds,
            scores=None,
            modalities=() if clip is None else clip.modalities,
            reason=why_nothing(evidence),
        )
        return PendingWindow(segment, clip, duration_seconds)

    def _usable(self, window: Clip) -> Clip | None:
        clip = drop_too_short_audio(window, self._shortest_sound)
        if clip is not None and self._skip_empty:
            clip = usable_part(clip, measure_evidence(clip, detect_speech=False))
        return clip


@dataclass(frozen=True)
class TimelinePredictor:
    """Predicts the segments of recordings, window by window.

    Args:
        reader_of (`Callable`): Returns the [`RecordingReader`] of a recording.
        score (`Callable`): Returns the probabilities `(clips, num_labels)` of a list of clips.
        describe (`Callable`): As in `merge_windows`.
        batch_size (`int`): Windows per forward pass.
        num_workers (`int`): 0, or 1 or more for one process that reads.
        show_progress (`bool`): Whether to show a progress bar.
    """

    reader_of: Callable[[Any], RecordingReader]
    score: Callable[[list[Clip]], torch.Tensor]
    describe: Callable[[torch.Tensor | None, str | None], dict[str, Any]]
    batch_size: int = 1
    num_workers: int = 0
    show_progress: bool = False

    def segments(self, recording: Any) -> Iterator[dict[str, Any]]:
        """The segments of one recording, each as soon as the windows that cover it are scored."""
        if isinstance(recording, Exception):
            raise recording
        yield from merge_windows(self._scored(self.reader_of(recording)), self.describe)

    def segments_and_error(self, recording: Any) -> Iterator[dict[str, Any]]:
        """As `segments`; an error is the last item, a dict with `error` and `error_type`."""
        try:
            yield from self.segments(recording)
        except UNREADABLE as error:
            yield {"error": str(error), "error_type": type(error).__name__}

    def _scored(self, reader: RecordingReader) -> Iterator[ScoredSegment]:
        from tqdm.auto import tqdm

        loader = DataLoader(reader, self.batch_size, num_workers=min(self.num_workers, 1), collate_fn=list)
        with tqdm(disable=not self.show_progress, unit="s", desc="recording") as bar:
            for batch in loader:
                windows = [item for item in batch if not isinstance(item, Exception)]
                for window, segment in zip(windows, self._scored_batch(windows), strict=True):
                    read = bar.n + segment.end_seconds - segment.start_seconds
                    bar.total = None if window.duration_seconds is None else max(window.duration_seconds, read)
                    bar.update(read - bar.n)
                    yield segment
                for error in batch[len(windows) :]:
                    raise copy.copy(error).with_traceback(error.__traceback__) from error.__cause__

    def _scored_batch(self, windows: list[PendingWindow]) -> list[ScoredSegment]:
        rows = [row for row, window in enumerate(windows) if window.clip is not None]
        clips = [window.clip for window in windows if window.clip is not None]
        scores = dict(zip(rows, self.score(clips), strict=True)) if clips else {}
        return [replace(window.segment, scores=scores.get(row)) for row, window in enumerate(windows)]


def check_windows(
    window_seconds: float,
    stride_seconds: float | None = None,
    max_seconds: float | None = None,
    return_embeddings: bool = False,
    **_: Any,
) -> None:
    """Raise `ValueError` where the arguments of a call with `window_seconds` do not go together."""
    if not (math.isfinite(window_seconds) and window_seconds > 0):
        raise ValueError(f"`window_seconds` must be above 0, got {window_seconds}.")
    if stride_seconds is not None and not 0 < stride_seconds <= window_seconds:
        raise ValueError(
            f"`stride_seconds` must be above 0 and at most `window_seconds` = {window_seconds:g}, got {stride_seconds}."
        )
    if return_embeddings:
        raise ValueError("`return_embeddings` cannot be used with `window_seconds`: a segment is a mean of windows.")
    if max_seconds is not None:
        raise ValueError("`max_seconds` cannot be used with `window_seconds`; use `end_seconds` to stop earlier.")


def source_and_settings(inputs: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to read, as arguments of `MediaFile`, and the settings updated with those of the row."""
    if not isinstance(inputs, dict):
        return {"source": inputs}, dict(settings)
    settings = settings | given({name: inputs.get(name) for name in _CLIP_FIELDS})
    if "audio" in inputs:
        return {"audio": inputs["audio"], "video": inputs.get("video")}, settings
    if "video" in inputs:
        return {"source": inputs["video"]}, settings
    if not inputs.keys() & {"path", "bytes", "array"}:
        raise ValueError(f"A row must have `audio` or `video`, got the keys {', '.join(map(str, inputs))}.")
    return {"source": inputs}, settings


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def drop_too_short_audio(clip: Any, shortest_sound: int) -> Any:
    """The clip without audio that is shorter than one frame of the audio encoder; None if nothing remains."""
    if clip.waveform is not None and len(clip.waveform) < shortest_sound:
        clip = replace(clip, waveform=None, sampling_rate=None)
    return clip if clip.modalities else None


def portable(error: Exception) -> Exception:
    """The error if it can be sent from a worker process; else one with the same message."""
    try:
        pickle.dumps(copy.copy(error))  # a copy is made as in the other process
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


__all__ = [
    "MODALITIES",
    "TIMELINE_SETTINGS",
    "UNREADABLE",
    "PendingWindow",
    "RecordingReader",
    "TimelinePredictor",
    "check_windows",
    "drop_too_short_audio",
    "given",
    "portable",
    "source_and_settings",
]
