"""The records of a job: append-only journals with one line of JSON for each file.

Every process writes a journal of its own. A line is valid only with its line break; the unfinished last line of a
killed process is ignored, and its file is annotated again. If a file has several lines (retried, or processed twice
because claims failed), the line of the latest attempt wins, and a result wins over an error. So each file appears
exactly once in the results.
"""

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from ..atomic_files import errors_naming, open_own
from .files import Key, key_of


logger = logging.getLogger(__name__)


_Int = Annotated[int, Field(ge=-1, lt=2**63)]


@dataclass(frozen=True)
class Segment:
    """The prediction for a clip, or for one stride of a recording.

    Attributes:
        start_seconds, end_seconds (`float`): Range in the file, half open.
        label (`str`, *optional*): The most likely emotion; None if no score reaches the minimum, nothing was scored, or
            the model predicts numbers.
        scores (`dict[str, float]`): Of every class, adding up to 1, or the numbers of a regression; empty if nothing
            was scored.
        modalities (`tuple[str, ...]`): What was scored, a subset of `("audio", "video")`.
        reason (`str`, *optional*): Why there is no label.
        evidence (`dict`, *optional*): `audio` and `video` of `measure_evidence`; None in journals of older versions.
        notes (`tuple[str, ...]`): What the reader skipped, moved or converted in this range.
    """

    start_seconds: float
    end_seconds: float
    label: str | None
    scores: dict[str, float]
    modalities: tuple[str, ...]
    reason: str | None = None
    evidence: dict[str, dict[str, Any] | None] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """The outcome for one file.

    Attributes:
        file (`str`): Its name in the results.
        start_seconds, end_seconds (`float`, *optional*): The range of it that was asked for.
        segments (`tuple[Segment, ...]`): In order of time; empty if the file failed.
        error_type, error (`str`, *optional*): Why it failed.
        duration_seconds (`float`, *optional*): Length that the file declares.
        seconds (`float`): Time spent on it: decoding, and its share of the forward passes.
        attempts (`int`): How many times it has been tried.
        size_bytes, modified_ns (`int`): Of the file when it was read, to tell whether it has changed since.
        notes (`str`, *optional*): What the reader skipped, moved or converted.
    """

    file: str
    segments: tuple[Segment, ...]
    error_type: str | None
    error: str | None
    duration_seconds: float | None
    seconds: float
    attempts: Annotated[int, Field(ge=0, lt=2**31)]
    size_bytes: _Int
    modified_ns: _Int
    notes: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def key(self) -> Key:
        """As of its [`MediaPath`]."""
        return key_of(self.file, self.start_seconds, self.end_seconds)

    def to_json(self) -> str:
        """One line of JSON, without its line break."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> "Record":
        """Read such a line.

        Raises:
            ValueError: If it is no JSON, or has missing fields or values of wrong types.
        """
        return _RECORD.validate_json(line, strict=True)


_RECORD = TypeAdapter(Record)


class Entry(NamedTuple):
    """The winning line of a file: its position, and what decides whether the file has to be annotated again."""

    journal: str
    offset: int
    is_done: bool
    attempts: int
    size_bytes: int
    modified_ns: int

    def wins_over(self, other: "Entry | None") -> bool:
        """Whether it replaces another line; the same on every machine."""
        if other is None:
            return True
        rank, others = (self.attempts, self.is_done), (other.attempts, other.is_done)
        return rank > others or (rank == others and (self.journal, self.offset) < (other.journal, other.offset))


class Journals:
    """All journals of a job; one of them belongs to this process.

    Args:
        folder (`Path`): Their folder; has to exist.

    Attributes:
        entries (`dict[Key, Entry]`): By file and range, as of the last [`Journals.refresh`].
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / f"{uuid.uuid4().hex}.jsonl"
        self._handle: int | None = None
        self._num_read: dict[str, int] = {}
        self.entries: dict[Key, Entry] = {}

    def add(self, record: Record) -> None:
        """Append a record. After this returns, the death of the process does not lose it."""
        if self._handle is None:
            self._handle = os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
        line = memoryview(f"{record.to_json()}\n".encode())
        with errors_naming(self._own):
            while line:
                line = line[os.write(self._handle, line) :]

    def sync(self) -> None:
        """Write added records to the disk. After this returns, other machines see them and a power cut loses none."""
        if self._handle is not None:
            with errors_naming(self._own):
                os.fsync(self._handle)

    def close(self) -> None:
        """Close this process' journal; records can still be read."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def refresh(self) -> None:
        """Read what all processes have added since the last call."""
        with os.scandir(self._folder) as found:
            journals = [entry for entry in found if entry.name.endswith(".jsonl")]
            sizes = {entry.name: entry.stat().st_size for entry in journals if entry.is_file(follow_symlinks=False)}
        for journal in sorted(sizes):
            if sizes[journal] > self._num_read.get(journal, 0):
                self._read_on(journal)

    def records(self, keys: list[Key]) -> Iterator[Record]:
        """The winning records of those files that have one, in the order of `keys`."""
        with contextlib.ExitStack() as stack:
            handles: dict[str, Any] = {}
            for key in keys:
                entry = self.entries.get(key)
                if entry is None:
                    continue
                if entry.journal not in handles:
                    handles[entry.journal] = stack.enter_context(self._open(entry.journal))
                handles[entry.journal].seek(entry.offset)
                yield Record.from_json(handles[entry.journal].readline())

    def _open(self, journal: str) -> Any:
        return open(open_own(self._folder / journal, os.O_RDONLY), "rb")

    def _read_on(self, journal: str) -> None:
        with self._open(journal) as file:
            offset = self._num_read.get(journal, 0)
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # still being written, or its process was killed
                    break
                try:
                    record = Record.from_json(line)
                except ValidationError:
                    logger.warning("%s has a damaged line; its file is annotated again.", self._folder / journal)
                else:
                    is_done = record.error_type is None
                    version = (record.size_bytes, record.modified_ns)
                    entry = Entry(journal, offset, is_done, record.attempts, *version)
                    if entry.wins_over(self.entries.get(record.key)):
                        self.entries[record.key] = entry
                offset += len(line)
            self._num_read[journal] = offset


__all__ = ["Entry", "Journals", "Record", "Segment"]
