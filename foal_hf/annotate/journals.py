"""What has been found out so far: one line of JSON a file, in journals that are only ever appended to.

Every process has a journal of its own. A line stands once it ends; what a killed process has left of its last line
counts for nothing, and the file is annotated again. Where a file has several lines (tried again, or done twice because
claims failed), the one of the latest attempt counts, and a result counts more than an error: so each file comes up once
in the results, whatever has happened.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """What was recognised in a clip, or in one window of a longer one.

    Attributes:
        start_seconds, end_seconds (`float`): Which part of the file that is, half open.
        label (`str`, *optional*): The most likely emotion; None where there is no clear one.
        scores (`dict[str, float]`): Of every class, adding up to 1; empty where there was nothing to judge.
        modalities (`tuple[str, ...]`): What it rests on, a subset of `("audio", "video")`.
        reason (`str`, *optional*): Why there is no label.
    """

    start_seconds: float
    end_seconds: float
    label: str | None
    scores: dict[str, float]
    modalities: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True)
class Record:
    """What became of one file.

    Attributes:
        file (`str`): Its name in the results.
        segments (`tuple[Segment, ...]`): In the order of time; none where it failed.
        error_type, error (`str`, *optional*): Why it failed.
        duration_seconds (`float`, *optional*): Length of the medium, by its own account.
        seconds (`float`): Time spent on it: reading, and its share of the model's.
        attempts (`int`): How many times it has been tried.
        size_bytes, modified_ns (`int`): Of the file when it was read, to tell whether it has changed since.
    """

    file: str
    segments: tuple[Segment, ...]
    error_type: str | None
    error: str | None
    duration_seconds: float | None
    seconds: float
    attempts: int
    size_bytes: int
    modified_ns: int

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str | bytes) -> "Record":
        """From such a line."""
        fields = json.loads(line)
        segments = tuple(
            Segment(**{**segment, "modalities": tuple(segment["modalities"])}) for segment in fields["segments"]
        )
        return cls(**{**fields, "segments": segments})


class Entry(NamedTuple):
    """The line of a file that counts: where it is, and what decides whether the file has to be annotated again."""

    journal: str
    offset: int
    is_done: bool
    attempts: int
    size_bytes: int
    modified_ns: int

    def counts_more_than(self, other: "Entry | None") -> bool:
        """Whether it takes the place of another line; the same on every machine."""
        if other is None:
            return True
        rank, others = (self.attempts, self.is_done), (other.attempts, other.is_done)
        return rank > others or (rank == others and (self.journal, self.offset) < (other.journal, other.offset))


class Journals:
    """The journals of a job, of which one is this process' own.

    Args:
        folder (`Path`): Where they are; has to exist.

    Attributes:
        entries (`dict[str, Entry]`): By file, as of the last [`Journals.refresh`].
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / f"{uuid.uuid4().hex}.jsonl"
        self._handle: int | None = None
        self._num_read: dict[str, int] = {}
        self.entries: dict[str, Entry] = {}

    def add(self, record: Record) -> None:
        """Append a record. Once this returns, the end of the process does not lose it."""
        if self._handle is None:
            self._handle = os.open(self._own, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
        line = memoryview(f"{record.to_json()}\n".encode())
        while line:
            line = line[os.write(self._handle, line) :]

    def sync(self) -> None:
        """Put what was added on the disk, so that other machines see it and a power cut does not lose it."""
        if self._handle is not None:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close this process' journal; records can still be read."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def refresh(self) -> None:
        """Take in what all processes have added since."""
        with os.scandir(self._folder) as found:
            sizes = {entry.name: entry.stat().st_size for entry in found if entry.name.endswith(".jsonl")}
        for journal in sorted(sizes):
            if sizes[journal] > self._num_read.get(journal, 0):
                self._read_on(journal)

    def records(self, files: list[str]) -> Iterator[Record]:
        """The records that count, of the files that have one, one after the other."""
        handles = {}
        try:
            for file in files:
                entry = self.entries.get(file)
                if entry is None:
                    continue
                if entry.journal not in handles:
                    handles[entry.journal] = open(self._folder / entry.journal, "rb")  # noqa: SIM115
                handles[entry.journal].seek(entry.offset)
                yield Record.from_json(handles[entry.journal].readline())
        finally:
            for handle in handles.values():
                handle.close()

    def _read_on(self, journal: str) -> None:
        with open(self._folder / journal, "rb") as file:
            offset = self._num_read.get(journal, 0)
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written, or its process was killed at it
                    break
                try:
                    record = Record.from_json(line)
                except (ValueError, TypeError, KeyError):
                    logger.warning("%s has a damaged line; its file is annotated again.", self._folder / journal)
                else:
                    entry = Entry(
                        journal,
                        offset,
                        record.error_type is None,
                        record.attempts,
                        record.size_bytes,
                        record.modified_ns,
                    )
                    if entry.counts_more_than(self.entries.get(record.file)):
                        self.entries[record.file] = entry
                offset += len(line)
            self._num_read[journal] = offset


__all__ = ["Entry", "Journals", "Record", "Segment"]
