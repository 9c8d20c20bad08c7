"""Decode workers and a model, side by side: what a machine does, or one actor of a cluster."""

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Self

from .job import Task
from .journals import Record
from .reading import ClipReader
from .scoring import Scorer
from .workers import DecodeWorkers


@dataclass(frozen=True)
class DecodeSettings:
    """How the work is done.

    Attributes:
        batch_size (`int`): Clips per pass of the model.
        num_workers (`int`): Processes that decode.
        time_limit_seconds (`float`): Longest that reading a clip may take.
        min_score (`float`, *optional*): Below this there is no label.
    """

    batch_size: int
    num_workers: int
    time_limit_seconds: float
    min_score: float | None = None


class LocalEngine:
    """Annotates files with the workers and the model of one process; a context manager.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Has the model.
        reader ([`ClipReader`]): What the workers read with.
        settings ([`DecodeSettings`]): How many of them, and so on.
    """

    def __init__(self, classify: Any, reader: ClipReader, settings: DecodeSettings) -> None:
        self._scorer = Scorer(classify, settings.batch_size, settings.min_score)
        self._workers: DecodeWorkers[Task] = DecodeWorkers(
            reader,
            num_workers=settings.num_workers,
            time_limit_seconds=settings.time_limit_seconds,
            num_ahead=2 * settings.batch_size,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._workers.close()

    @property
    def model_seconds(self) -> float:
        """Time that the model was at work so far."""
        return self._scorer.seconds

    def records(self, tasks: Iterable[Task]) -> Generator[Record]:
        """What becomes of the files, in the order in which they are done."""
        with contextlib.closing(self._workers.read(tasks)) as readings:
            yield from self._scorer.records(readings)


__all__ = ["LocalEngine", "DecodeSettings"]
