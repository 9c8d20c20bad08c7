"""Decode workers and a model side by side: the work of one machine, or of one actor of a cluster."""

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Self

from .job import Task
from .journals import Record
from .reading import ClipReader
from .scoring import Scorer
from .workers import DecodeWorkers, TimeLimits


@dataclass(frozen=True)
class DecodeSettings:
    """Settings that do not change the results.

    Attributes:
        batch_size (`int`): Clips per forward pass.
        num_workers (`int`): Decoding processes.
        limits ([`TimeLimits`]): Time limits for decoding.
        min_score (`float`, *optional*): Below this there is no label.
    """

    batch_size: int
    num_workers: int
    limits: TimeLimits
    min_score: float | None = None


class LocalEngine:
    """Annotates files with decode workers and the model of this process; a context manager.

    Args:
        classify ([`AudioVideoEmotionPipeline`]): Has the model.
        reader ([`ClipReader`]): Reads the files in the workers.
        settings ([`DecodeSettings`]): Number of workers, batch size, limits.
    """

    def __init__(self, classify: Any, reader: ClipReader, settings: DecodeSettings) -> None:
        self._scorer = Scorer(
            classify, settings.batch_size, settings.min_score, one_a_file=reader.window_seconds is None
        )
        self._workers: DecodeWorkers[Task] = DecodeWorkers(
            reader,
            num_workers=settings.num_workers,
            limits=settings.limits,
            num_ahead=2 * settings.batch_size,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._workers.close()

    @property
    def model_seconds(self) -> float:
        """Time spent in the model so far."""
        return self._scorer.seconds

    def records(self, tasks: Iterable[Task]) -> Generator[Record]:
        """A record for each file, in the order of completion."""
        with contextlib.closing(self._workers.read(tasks)) as readings:
            yield from self._scorer.records(readings)


__all__ = ["LocalEngine", "DecodeSettings"]
