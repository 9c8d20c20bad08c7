"""Recordings as the pipeline takes them: stride by stride, with their evidence and the windows that it is to judge."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .evidence_foal_net import measure_evidence, usable_part, why_nothing
from .media_foal_net import Clip, MediaFile
from .timeline_foal_net import JudgedStretch, merge_windows
from .windows_foal_net import Stretch, read_stretches


MODALITIES = {
    "both": ("audio", "video"),
    "audio": ("audio",),
    "video": ("video",),
    "auto": ("audio", "video"),
}
# What reading a medium may raise. A missing decoder (ImportError) is no fault of the medium.
UNREADABLE = (ValueError, TypeError, OSError, RuntimeError, LookupError)
# What a call with `window_seconds` takes beside the settings of every call.
TIMELINE_SETTINGS = ("stride_seconds", "stream", "progress")
# What a row (a dict) may say of its clip; other columns are not looked at.
_CLIP_FIELDS = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box", "sampling_rate")


@dataclass(frozen=True)
class PendingWindow:
    """One stride, and what the model is to judge of the window that begins with it.

    Attributes:
        stretch (`JudgedStretch`): Still without scores.
        clip (`Clip`, *optional*): For the model; None where there is no window, or nothing in it to judge by.
        duration_seconds (`float`, *optional*): Of the whole recording, as far as it says.
    """

    stretch: JudgedStretch
    clip: Clip | None
    duration_seconds: float | None


class RecordingReader(IterableDataset):
    """The windows of one recording, read as they are wanted, in this process or in a worker.

    An error comes as the last item and is not raised: a worker's error reaches the caller as another type.

    Args:
        medium (`dict`): Arguments of [`MediaFile`], all but `in_order`.
        windows (`dict`): Arguments of `read_stretches`.
        shortest_sound (`int`): Samples that the model needs at least.
        leaves_out_empty (`bool`): Whether silent sound and black pictures are kept from the model.
        detect_speech (`bool`): Whether to look for speech.
    """

    def __init__(
        self,
        medium: dict[str, Any],
        windows: dict[str, Any],
        *,
        shortest_sound: int,
        leaves_out_empty: bool,
        detect_speech: bool,
    ):
        self._medium = medium
        self._windows = windows
        self._shortest_sound = shortest_sound
        self._leaves_out_empty = leaves_out_empty
        self._detect_speech = detect_speech

    def __iter__(self) -> Iterator[PendingWindow | Exception]:
        try:
            with MediaFile(**self._medium, in_order=True) as media:
                for stretch in read_stretches(media, **self._windows):
                    yield self._prepared(stretch, media.duration_seconds)
        except UNREADABLE as error:
            yield portable(error)

    def _prepared(self, stretch: Stretch, duration_seconds: float | None) -> PendingWindow:
        evidence = measure_evidence(stretch.clip, detect_speech=self._detect_speech)
        clip = None if stretch.window is None else self._usable(stretch.window)
        judged = JudgedStretch(
            start_seconds=stretch.start_seconds,
            end_seconds=stretch.end_seconds,
            evidence=evidence,
            window_end_seconds=stretch.end_seconds if stretch.window is None else stretch.window.end_seconds,
            scores=None,
            modalities=() if clip is None else clip.modalities,
            reason=why_nothing(evidence),
        )
        return PendingWindow(judged, clip, duration_seconds)

    def _usable(self, window: Clip) -> Clip | None:
        clip = drop_too_short_audio(window, self._shortest_sound)
        if clip is not None and self._leaves_out_empty:
            clip = usable_part(clip, measure_evidence(clip, detect_speech=False))
        return clip


class TimelinePredictor:
    """The part of the pipeline that judges recordings window by window."""

    processor: Any
    model: Any
    forward: Any

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def _named(
        self, probabilities: torch.Tensor | None, reason: str | None, top_k: int | None, min_score: float | None
    ) -> list[dict[str, Any]]:
        raise NotImplementedError

    def judge_recordings(
        self,
        inputs: Any,
        settings: dict[str, Any],
        answers: dict[str, Any],
        *,
        skips_errors: bool,
        batch_size: int,
        num_workers: int,
    ) -> Any:
        """The answer of the pipeline's `__call__` with `window_seconds`.

        Args:
            inputs: One recording, or a list, generator or torch dataset of them.
            settings (`dict`): What to read.
            answers (`dict`): What to say: `top_k` and `min_score`.
            skips_errors (`bool`): Whether an error becomes a part of the answer.
            batch_size (`int`): Windows that are judged at once.
            num_workers (`int`): 0, or 1 or more for one process that reads.
        """
        _check(settings, answers)

        def answer(recording: Any) -> Any:
            segments = self._segments(recording, settings, answers, batch_size, num_workers)
            if settings.get("stream"):
                return _ended_by_error(segments) if skips_errors else segments
            return _until_error(segments) if skips_errors else list(segments)

        if isinstance(inputs, list):
            return [answer(recording) for recording in inputs]
        if isinstance(inputs, Dataset) and hasattr(inputs, "__len__"):
            return (answer(inputs[index]) for index in range(len(inputs)))
        if isinstance(inputs, IterableDataset) or inspect.isgenerator(inputs):
            return (answer(recording) for recording in inputs)
        return answer(inputs)

    def _segments(
        self,
        recording: Any,
        settings: dict[str, Any],
        answers: dict[str, Any],
        batch_size: int,
        num_workers: int,
    ) -> Iterator[dict[str, Any]]:
        """The segments of one recording, each as soon as the windows that cover it are judged."""
        if isinstance(recording, Exception):
            raise recording
        reader = self._reader(recording, settings)
        loader = DataLoader(reader, batch_size, num_workers=min(num_workers, 1), collate_fn=list)

        def describe(probabilities: torch.Tensor | None, reason: str | None) -> dict[str, Any]:
            named = self._named(probabilities, reason, answers.get("top_k"), answers.get("min_score"))
            scores = [entry for entry in named if entry["label"] is not None]
            return {
                "label": named[0]["label"],
                "score": named[0]["score"],
                "scores": scores,
                "reason": named[0].get("reason"),
            }

        yield from merge_windows(self._judged(loader, show_progress=settings.get("progress", False)), describe)

    def _judged(self, loader: DataLoader, *, show_progress: bool) -> Iterator[JudgedStretch]:
        from tqdm.auto import tqdm

        with tqdm(disable=not show_progress, unit="s", desc="recording") as bar:
            for batch in loader:
                items = [item for item in batch if not isinstance(item, Exception)]
                for stretch, duration_seconds in zip(
                    self._judge(items), (item.duration_seconds for item in items), strict=True
                ):
                    read = bar.n + stretch.end_seconds - stretch.start_seconds
                    bar.total = None if duration_seconds is None else max(duration_seconds, read)
                    bar.update(read - bar.n)
                    yield stretch
                for error in batch[len(items) :]:
                    raise copy.copy(error).with_traceback(error.__traceback__) from error.__cause__

    def _judge(self, items: list[PendingWindow]) -> list[JudgedStretch]:
        """The windows of one batch with their probabilities."""
        rows = [row for row, item in enumerate(items) if item.clip is not None]
        scores: dict[int, torch.Tensor] = {}
        if rows:
            outputs = self.forward({"clip": [items[row].clip for row in rows], "error": [None] * len(rows)})
            scores = dict(zip(rows, self._probabilities(outputs["logits"]), strict=True))
        return [replace(item.stretch, scores=scores.get(row)) for row, item in enumerate(items)]

    def _reader(self, recording: Any, settings: dict[str, Any]) -> RecordingReader:
        modality = settings.get("modality", "both")
        source, settings = source_and_settings(recording, settings)
        part = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box")
        medium = {
            **source,
            "sampling_rate": self.processor.sampling_rate,
            "frames_per_second": settings.get("frames_per_second", self.processor.frames_per_second),
            "modalities": MODALITIES[modality],
            "source_sampling_rate": settings.get("sampling_rate"),
        }
        windows = {
            "window_seconds": settings["window_seconds"],
            "stride_seconds": settings.get("stride_seconds", settings["window_seconds"] / 2),
            "transform": self.processor.video_processor.resize_and_crop,
            **{name: settings[name] for name in part if name in settings},
        }
        return RecordingReader(
            medium,
            windows,
            shortest_sound=self.model.config.shortest_sound,
            leaves_out_empty=modality == "auto",
            detect_speech=settings.get("detect_speech", True),
        )


def source_and_settings(inputs: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to read, as arguments of `MediaFile`, and the settings with those of the row."""
    if not isinstance(inputs, dict):
        return {"source": inputs}, dict(settings)
    settings = settings | given({name: inputs.get(name) for name in _CLIP_FIELDS})
    if "audio" in inputs:
        return {"audio": inputs["audio"], "video": inputs.get("video")}, settings
    if "video" in inputs:
        return {"source": inputs["video"]}, settings
    if not inputs.keys() & {"path", "bytes", "array"}:
        raise ValueError(f"A row has to have `audio` or `video`, got one with {', '.join(map(str, inputs))}.")
    return {"source": inputs}, settings


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def drop_too_short_audio(clip: Any, shortest_sound: int) -> Any:
    """The clip without a sound that is shorter than one step of the audio encoder, which hears nothing in it.

    None where nothing else is there.
    """
    if clip.waveform is not None and len(clip.waveform) < shortest_sound:
        clip = replace(clip, waveform=None, sampling_rate=None)
    return clip if clip.modalities else None


def portable(error: Exception) -> Exception:
    """The error if it can travel from a worker's process; else one that says the same."""
    try:
        pickle.dumps(copy.copy(error))  # a copy is made as at the other end
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _ended_by_error(segments: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from segments
    except UNREADABLE as error:
        yield {"error": str(error), "error_type": type(error).__name__}


def _until_error(segments: Iterator[dict[str, Any]]) -> list[dict[str, Any]] | dict[str, Any]:
    given = list(_ended_by_error(segments))
    return {**given.pop(), "segments": given} if given and "error" in given[-1] else given


def _check(settings: dict[str, Any], answers: dict[str, Any]) -> None:
    window = settings["window_seconds"]
    stride = settings.get("stride_seconds", window / 2)
    if not (math.isfinite(window) and window > 0):
        raise ValueError(f"`window_seconds` has to be above 0, got {window}.")
    if not 0 < stride <= window:
        raise ValueError(f"`stride_seconds` has to be above 0 and at most `window_seconds` = {window:g}, got {stride}.")
    if answers.get("return_embeddings"):
        raise ValueError("`return_embeddings` does not go with `window_seconds`: a segment is the mean of windows.")
    if settings.get("max_seconds") is not None:
        raise ValueError("`max_seconds` does not go with `window_seconds`; `end_seconds` says where to end.")


__all__ = [
    "MODALITIES",
    "TIMELINE_SETTINGS",
    "UNREADABLE",
    "TimelinePredictor",
    "given",
    "portable",
    "source_and_settings",
    "drop_too_short_audio",
]
