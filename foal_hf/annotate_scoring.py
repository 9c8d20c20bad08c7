"""From what the workers read to records, batched across files. The same for every engine."""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .annotate_job import Task
from .annotate_journals import Record, Segment
from .annotate_workers import Ended, Read
from .media_foal_net import Clip


_MOST_FAILURES_IN_A_ROW = 16  # of the model on clips of their own: then it is not the clips

logger = logging.getLogger(__name__)


class Scorer:
    """The model's part.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Gives the scores.
        batch_size (`int`): Clips per pass, of as many files as it takes.

    Attributes:
        seconds (`float`): Time that the model was at work so far.
    """

    def __init__(self, classify: Any, batch_size: int) -> None:
        self._classify, self._batch_size = classify, batch_size
        self._num_failures = 0
        self.seconds = 0.0

    def records(self, readings: Iterable[Read[Task] | Ended[Task]]) -> Iterator[Record]:
        """A record of each file, as soon as the last of its clips has its scores.

        Args:
            readings: From [`~foal_hf.annotate_workers.DecodeWorkers.read`].

        Raises:
            RuntimeError: If the model fails on one clip after the other.
        """
        in_work: dict[str, _InWork] = {}
        waiting: list[tuple[_InWork, Clip]] = []
        for reading in readings:
            file = in_work.setdefault(reading.file.name, _InWork(reading.file))
            if isinstance(reading, Read):
                file.duration_seconds = reading.duration_seconds
                file.num_waiting += 1
                waiting.append((file, reading.clip))
                if len(waiting) < self._batch_size:
                    continue
                self._score(waiting)
                waiting = []
            else:
                file.end(reading)
            yield from _complete(in_work)
        if waiting:
            self._score(waiting)
        yield from _complete(in_work)

    def _score(self, clips: list[tuple["_InWork", Clip]]) -> None:
        started = time.perf_counter()
        try:
            answers = self._answers([clip for _, clip in clips])
            self._num_failures = 0
        except Exception as error:  # perhaps one clip's fault, such as one too long for the memory
            self.seconds += time.perf_counter() - started
            if len(clips) > 1:
                for alone in clips:
                    self._score([alone])
                return
            self._num_failures += 1
            if self._num_failures >= _MOST_FAILURES_IN_A_ROW:
                raise RuntimeError(f"The model fails on every clip: {type(error).__name__}: {error}") from error
            answers = [error]
        else:
            self.seconds += time.perf_counter() - started
        spent = (time.perf_counter() - started) / len(clips)
        for (file, clip), answer in zip(clips, answers, strict=True):
            file.add(clip, answer, spent)

    def _answers(self, clips: list[Clip]) -> list[Any]:
        """The pipeline's own answer for each clip, which it would have read itself."""
        outputs = self._classify.forward({"clip": clips, "error": [None] * len(clips)})
        rows = ({name: value[row : row + 1] for name, value in outputs.items()} for row in range(len(clips)))
        return [self._classify.postprocess(row) for row in rows]


@dataclass
class _InWork:
    """A file of which something has come from the workers, and not yet everything from the model."""

    task: Task
    segments: list[Segment] = field(default_factory=list)
    error_type: str | None = None
    error: str | None = None
    duration_seconds: float | None = None
    seconds: float = 0.0
    num_waiting: int = 0
    has_ended: bool = False

    def end(self, ended: Ended[Task]) -> None:
        self.has_ended = True
        self.seconds += ended.seconds
        if ended.error_type is not None:
            self.error_type, self.error = ended.error_type, ended.error

    def add(self, clip: Clip, answer: Any, seconds: float) -> None:
        self.num_waiting -= 1
        self.seconds += seconds
        if isinstance(answer, Exception):
            self.error_type, self.error = type(answer).__name__, str(answer)
            return
        scores = {entry["label"]: entry["score"] for entry in answer}
        if not all(math.isfinite(score) for score in scores.values()):
            self.error_type, self.error = "ValueError", "the model gives scores that are no numbers."
            return
        label = max(scores, key=scores.__getitem__)
        self.segments.append(Segment(clip.start_seconds, clip.end_seconds, label, scores, clip.modalities))

    def record(self) -> Record:
        task = self.task
        return Record(
            file=task.name,
            segments=() if self.error_type is not None else tuple(self.segments),
            error_type=self.error_type,
            error=self.error,
            duration_seconds=self.duration_seconds,
            seconds=round(self.seconds, 6),
            attempts=task.attempts,
            size_bytes=task.size_bytes,
            modified_ns=task.modified_ns,
        )


def _complete(in_work: dict[str, _InWork]) -> Iterator[Record]:
    done = [name for name, file in in_work.items() if file.has_ended and not file.num_waiting]
    for name in done:
        yield in_work.pop(name).record()


__all__ = ["Scorer"]
