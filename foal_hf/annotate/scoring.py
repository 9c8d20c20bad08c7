"""From clips to records, batched across files; the same for every engine."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from ..foal_net.media_foal_net import Clip
from ..foal_net.recordings_foal_net import PendingWindow
from ..foal_net.timeline_foal_net import (
    ScoredSegment,
    label_of,
    merge_into_one,
    merge_windows,
    named_scores,
    scores_of,
)
from .files import Key
from .job import Task
from .journals import Record, Segment
from .workers import Ended, Read


_LONGEST_WAIT_SECONDS = 2.0  # for more clips: if decoding is slow, a killed process loses little
_BATCHES_TO_CHOOSE_FROM = 4  # clips wait for this many batches, so that a batch has clips of similar length
_MOST_FAILURES_IN_A_ROW = 16  # if the model fails on this many files, the files are not the cause


class Scorer:
    """Scores clips with the model.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Has the model.
        batch_size (`int`): Clips per forward pass, from one or more files.
        min_score (`float`, *optional*): Below this there is no label.
        one_a_file (`bool`, defaults to `False`): Whether a file has one result, the mean of its windows.

    Attributes:
        seconds (`float`): Time spent in the model so far.
    """

    def __init__(
        self, classify: Any, batch_size: int, min_score: float | None = None, *, one_a_file: bool = False
    ) -> None:
        self._classify, self._batch_size, self._min_score = classify, batch_size, min_score
        self._one_a_file = one_a_file
        self._failing: set[Key] = set()  # files since the last clip that succeeded
        self._last_pass = time.perf_counter()
        self.seconds = 0.0

    def records(self, readings: Iterable[Read[Task] | Ended[Task]]) -> Iterator[Record]:
        """A record of each file, as soon as all of its clips are scored.

        Args:
            readings: From [`~foal_hf.annotate.workers.DecodeWorkers.read`].

        Raises:
            RuntimeError: If the model fails on one file after the other.
        """
        open_files: dict[Key, _OpenFile] = {}
        waiting: list[_Waiting] = []
        for reading in readings:
            file = open_files.setdefault(reading.file.key, _OpenFile(reading.file))
            if isinstance(reading, Read):
                waiting += file.add(reading.window)
                has_choice = len(waiting) >= _BATCHES_TO_CHOOSE_FROM * self._batch_size
                if has_choice or (waiting and time.perf_counter() - self._last_pass > _LONGEST_WAIT_SECONDS):
                    waiting = self._score_some(waiting)
            else:
                file.end(reading)
            yield from self._complete(open_files)
        while waiting:
            waiting = self._score_some(waiting)
            yield from self._complete(open_files)

    def _score_some(self, waiting: list["_Waiting"]) -> list["_Waiting"]:
        """Score the clip that waits longest and the closest ones in length, for little padding; return the others."""
        length = waiting[0].num_seconds
        by_closeness = sorted(range(len(waiting)), key=lambda place: abs(waiting[place].num_seconds - length))
        chosen = set(by_closeness[: self._batch_size])
        self._score([one for place, one in enumerate(waiting) if place in chosen])
        self._last_pass = time.perf_counter()
        return [one for place, one in enumerate(waiting) if place not in chosen]

    def _score(self, waiting: list["_Waiting"]) -> None:
        started = time.perf_counter()
        try:
            outputs = self._classify.forward({"clip": [one.clip for one in waiting]})
            results: Any = self._probabilities(outputs["logits"])
            self._failing.clear()
        except Exception as error:  # one clip may be the cause, such as one too long for the memory
            if len(waiting) > 1:
                for alone in waiting:
                    self._score([alone])
                return
            self._failing.add(waiting[0].file.task.key)
            if len(self._failing) >= _MOST_FAILURES_IN_A_ROW:
                raise RuntimeError(f"The model fails on every file: {type(error).__name__}: {error}") from error
            results = [error]
        spent = time.perf_counter() - started
        self.seconds += spent
        for one, result in zip(waiting, results, strict=True):
            one.file.set_scores(one.position, result, spent / len(waiting))

    def _probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        return scores_of(logits, self._classify.model.config)

    def _complete(self, open_files: dict[Key, "_OpenFile"]) -> Iterator[Record]:
        for key in [key for key, file in open_files.items() if file.has_ended and not file.num_waiting]:
            yield self._record(open_files.pop(key))

    def _record(self, file: "_OpenFile") -> Record:
        return Record(
            file=file.task.name,
            segments=() if file.error_type is not None else tuple(self._segments(file.segments)),
            error_type=file.error_type,
            error=file.error,
            duration_seconds=file.duration_seconds,
            seconds=round(file.seconds, 6),
            attempts=file.task.attempts,
            size_bytes=file.task.size_bytes,
            modified_ns=file.task.modified_ns,
            notes="; ".join(file.notes) or None,
            start_seconds=file.task.start_seconds,
            end_seconds=file.task.end_seconds,
        )

    def _segments(self, segments: list[ScoredSegment]) -> Iterator[Segment]:
        if self._one_a_file and segments:
            segments = [merge_into_one(segments)]
        for segment in merge_windows(segments, self._described):
            measured = segment.pop("evidence")
            evidence = {modality: measured.get(modality) for modality in ("audio", "video")}
            yield Segment(**segment, evidence=evidence, notes=tuple(measured.get("notes", ())))

    def _described(self, probabilities: torch.Tensor | None, reason: str | None) -> dict[str, Any]:
        if probabilities is None:
            return {"label": None, "scores": {}, "reason": reason}
        named = named_scores(probabilities, self._classify.model.config)
        best = label_of(named, self._classify.model.config, self._min_score)
        scores = {one["label"]: one["score"] for one in named}
        return {"label": best["label"], "scores": scores, "reason": best["reason"]}


class _Waiting(NamedTuple):
    """A clip that waits for the model."""

    file: "_OpenFile"
    position: int
    clip: Clip

    @property
    def num_seconds(self) -> float:
        return self.clip.end_seconds - self.clip.start_seconds


@dataclass
class _OpenFile:
    """A file whose clips are not all decoded and scored yet."""

    task: Task
    segments: list[ScoredSegment] = field(default_factory=list)
    error_type: str | None = None
    error: str | None = None
    duration_seconds: float | None = None
    seconds: float = 0.0
    num_waiting: int = 0
    notes: tuple[str, ...] = ()
    has_ended: bool = False

    def add(self, window: PendingWindow) -> list[_Waiting]:
        """Add a window; return its clip, if there is one to score."""
        self.duration_seconds, self.notes = window.duration_seconds, window.notes
        self.segments.append(window.segment)
        if window.clip is None:
            return []
        self.num_waiting += 1
        return [_Waiting(self, len(self.segments) - 1, window.clip)]

    def set_scores(self, position: int, result: Any, seconds: float) -> None:
        """Store the scores of a clip, or the error that its forward pass raised."""
        self.num_waiting -= 1
        self.seconds += seconds
        if isinstance(result, Exception):
            self.error_type, self.error = type(result).__name__, str(result)
        elif not torch.isfinite(result).all():
            self.error_type, self.error = "ValueError", "the model's scores are not finite."
        else:
            self.segments[position] = replace(self.segments[position], scores=result)

    def end(self, ended: Ended[Task]) -> None:
        """Store that all of the file is decoded, or why not."""
        self.has_ended = True
        self.seconds += ended.seconds
        if ended.error_type is not None:
            self.error_type, self.error = ended.error_type, ended.error


__all__ = ["Scorer"]
