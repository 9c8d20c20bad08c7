"""The pipeline, with recordings read in a process of its own: no file can hang or crash the caller."""

import builtins
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from ..foal_net.pipeline_foal_net import AudioVideoEmotionPipeline
from ..foal_net.recordings_foal_net import UNREADABLE, PendingWindow
from ..foal_net.sources_foal_net import MediaError, source_name
from .workers import DecodeWorkers, Ended, Read, TimeLimits


_NUM_AHEAD = 16  # windows


class IsolatedPipeline(AudioVideoEmotionPipeline):
    """[`AudioVideoEmotionPipeline`] for paths and URLs, with time limits; a context manager.

    Attributes:
        limits ([`~foal_hf.annotate.workers.TimeLimits`]): For reading; a recording that exceeds them cannot be read.
    """

    limits = TimeLimits(60.0)
    _workers: DecodeWorkers[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    def _reading(self, settings: dict[str, Any]) -> Callable[[Any], Iterator[PendingWindow]]:
        self.__exit__()
        read = functools.partial(_read_source, super()._reading(settings))
        self._workers = DecodeWorkers(read, num_workers=1, limits=self.limits, num_ahead=_NUM_AHEAD)
        return functools.partial(_windows, self._workers)


class _Recording(NamedTuple):
    path: str


def _read_source(read: Callable[[Any], Iterator[PendingWindow]], recording: _Recording) -> Iterator[PendingWindow]:
    return read(recording.path)


def _windows(workers: DecodeWorkers[_Recording], path: str) -> Iterator[PendingWindow]:
    with contextlib.closing(workers.read([_Recording(path)])) as found:
        for item in found:
            if isinstance(item, Read):
                yield item.window
            elif item.error_type is not None:
                raise _error_of(item)


def _error_of(ended: Ended[_Recording]) -> Exception:
    """The error of a worker, as the pipeline raises it."""
    name = source_name(ended.file.path)
    if ended.error_type == "MediaError":
        return MediaError(name, str(ended.error))
    kind: Any = getattr(builtins, str(ended.error_type), None)
    if not (isinstance(kind, type) and issubclass(kind, UNREADABLE)):
        kind = RuntimeError
    return kind(f"{name}: {ended.error}")


__all__ = ["IsolatedPipeline"]
