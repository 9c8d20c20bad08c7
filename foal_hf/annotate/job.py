"""A job on the disk: its settings, and which of its files still have to be annotated.

| path | content |
| --- | --- |
| `results.parquet` | one row for each clip or segment |
| `results.manifest.parquet` | one row for each file |
| `results.job/` | the source of both tables, complete at any time |
| `results.job/job.json` | what the results depend on, and the folder that file names are relative to |
| `results.job/claims` | see `claims.py` |
| `results.job/<number>.jsonl` | see `journals.py` |
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import TypeAdapter

from ..atomic_files import open_own, remove_partial, write_json
from ..identity import digest_of
from .claims import Claims
from .files import Key, MediaPath, as_text, key_of
from .identity import difference
from .journals import Entry, Journals, Record
from .tables import write_manifest, write_results


logger = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_SYNC_SECONDS = 1.0  # a power cut may lose this much; the death of the process loses nothing


@dataclass(frozen=True)
class _Begun:
    """Content of `job.json`."""

    description: dict[str, Any]
    root: str


class JobPaths(NamedTuple):
    """The files of an output: results, manifest, and the folder of the job."""

    results: Path
    manifest: Path
    folder: Path

    @classmethod
    def of(cls, output: str | os.PathLike[str]) -> "JobPaths":
        """The absolute paths that belong to the Parquet file of the results.

        Raises:
            ValueError: If its name does not end in `.parquet`.
        """
        path = Path(output)
        if path.suffix != ".parquet":
            raise ValueError(f"`output` has to end in .parquet, got {str(path)!r}.")
        return cls(path, path.with_suffix(".manifest.parquet"), path.with_suffix(".job"))


class Task(NamedTuple):
    """A file to annotate now.

    Attributes:
        name, path (`str`): As in [`MediaPath`].
        start_seconds, end_seconds (`float`, *optional*): As in [`MediaPath`].
        attempts (`int`): Number of tries, this one included.
        size_bytes, modified_ns (`int`): Of the file as it is now; -1 if it does not exist.
    """

    name: str
    path: str
    start_seconds: float | None
    end_seconds: float | None
    attempts: int
    size_bytes: int
    modified_ns: int

    @property
    def key(self) -> Key:
        """As of its [`MediaPath`]."""
        return key_of(self.name, self.start_seconds, self.end_seconds)


class Job:
    """An output and the records behind it; a context manager.

    Args:
        output (`JobPaths`): Where results, manifest and journals are.
        description (`Mapping[str, Any]`): From [`~foal_hf.annotate.identity.describe_job`].
        root (`Path`): The folder that file names are relative to.
        labels (`Sequence[str]`): Names of the classes, in the model's order.
        model_revision (`str`, *optional*): Commit of the checkpoint on the Hub, for the manifest.

    Raises:
        ValueError: If the output belongs to another job (other model, settings or root), or to none.
    """

    def __init__(
        self,
        output: "JobPaths",
        description: Mapping[str, Any],
        root: Path,
        labels: Sequence[str],
        model_revision: str | None = None,
    ) -> None:
        self.results, self.manifest, self.folder = output
        if self.results.exists() and not self.folder.is_dir():
            raise ValueError(
                f"{self.results} exists, but its job folder {self.folder} does not. Move the file away, or choose "
                "another output."
            )
        self._has_faces = "faces" in description
        self._labels, self._model_revision, self.fingerprint = list(labels), model_revision, digest_of(description)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claims = Claims(self.folder / "claims")
        try:
            with self._claims.exclusive():
                self._join({"description": dict(description), "root": as_text(os.path.realpath(root))})
                for table in (self.results, self.manifest):
                    remove_partial(table)
        except BaseException:
            self._claims.__exit__()
            raise
        self._journals = Journals(self.folder)
        self._journals.refresh()
        self._failed_before = {key: entry for key, entry in self._journals.entries.items() if not entry.is_done}
        self._refreshing = threading.Lock()  # tasks are taken in the workers' threads
        self._retried: Mapping[Key, Entry] = {}
        self._busy: list[MediaPath] = []  # that another process had at the last `take`
        self._unsynced: list[Key] = []
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sync()
        self._journals.close()
        self._claims.__exit__()

    def num_settled(self, files: Iterable[MediaPath]) -> int:
        """Number of these files that have a result or an error."""
        return sum(file.key in self._journals.entries for file in files)

    def take(self, files: Iterable[MediaPath], *, retry_failed: bool = False) -> Iterator[Task]:
        """The files to annotate, each claimed when it is yielded.

        These are files without a record, files that have changed since, and with `retry_failed` those that failed
        before this job was opened.
        """
        self._busy = []
        self._retried = failed = self._failed_before if retry_failed else {}
        for file in files:
            if self._needed(file, failed) is None:
                continue
            if not self._claims.take(file.key):
                self._busy.append(file)
                continue
            with self._refreshing:  # another process may have annotated and released it
                self._journals.refresh()
                task = self._needed(file, failed)
            if task is None:
                self._claims.release(file.key)
            else:
                yield task

    def wait_for_others(self) -> list[MediaPath]:
        """Wait for the files that other processes had at the last `take`.

        Returns:
            `list[MediaPath]`: Those that still have no record although nobody works on them, because a process was
            killed; empty once all of them have one.
        """
        self._sync()
        told = False
        while True:
            with self._refreshing:
                self._journals.refresh()
            self._busy = [file for file in self._busy if self._needed(file, self._retried) is not None]
            free = [file for file in self._busy if self._claims.take(file.key)]
            for file in free:
                self._claims.release(file.key)
            if free or not self._busy:
                return free
            if not told:
                logger.warning("Waiting for %d files that another process is annotating.", len(self._busy))
                told = True
            time.sleep(_POLL_SECONDS)

    def take_all(self) -> bool:
        """Claim all files, for an engine that distributes them itself; False if another process has claims."""
        return self._claims.take_all()

    def add(self, record: Record) -> None:
        """Store the record of a file, and release its claim soon after."""
        self._journals.add(record)
        self._unsynced.append(record.key)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def collect(self, files: Iterable[MediaPath]) -> dict[str, int]:
        """Write results and manifest from the records of all processes so far.

        Args:
            files (`Iterable[MediaPath]`): Files without a record are pending in the manifest.

        Returns:
            `dict[str, int]`: Number of files by status: `done`, `failed`, `pending`.
        """
        self._sync()
        with self._claims.exclusive(), self._refreshing:  # so that the last process to end writes all records
            self._journals.refresh()
            keys = sorted({*self._journals.entries, *(file.key for file in files)})
            about = {"fingerprint": self.fingerprint, "model_revision": self._model_revision}
            records = self._journals.records(keys)
            write_results(self.results, records, self._labels, about, has_faces=self._has_faces)
            return write_manifest(self.manifest, self._journals.records(keys), keys, about)

    def _needed(self, file: MediaPath, failed: Mapping[Key, Entry]) -> Task | None:
        entry = self._journals.entries.get(file.key)
        try:
            status = os.stat(file.path)
            size_bytes, modified_ns = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):  # ValueError: a NUL in the path
            size_bytes = modified_ns = -1
        if entry is not None:
            has_changed = (size_bytes, modified_ns) != (entry.size_bytes, entry.modified_ns)
            is_retried = failed.get(file.key) == entry  # if another process has tried it meanwhile, once is enough
            if not (has_changed or is_retried):
                return None
        return Task(*file, 1 if entry is None else entry.attempts + 1, size_bytes, modified_ns)

    def _sync(self) -> None:
        self._journals.sync()
        for key in self._unsynced:
            self._claims.release(key)
        self._unsynced, self._synced = [], time.monotonic()

    def _join(self, job: dict[str, Any]) -> None:
        """Start the job, or continue one with the same settings."""
        path = self.folder / "job.json"
        if not path.exists():
            write_json(path, job, indent=2)
            return
        try:
            with open(open_own(path, os.O_RDONLY), encoding="utf-8") as file:
                begun = TypeAdapter(_Begun).validate_json(file.read())
        except ValueError:
            raise ValueError(
                f"{path} is damaged. To annotate all files again, delete {self.results}, {self.manifest} and "
                f"{self.folder}."
            ) from None
        differs = difference(begun.description, job["description"])
        if differs:
            raise ValueError(
                f"{self.results} holds results of another model or other settings: {differs}. Choose another output; "
                f"or, to annotate all files again, delete {self.results}, {self.manifest} and {self.folder}."
            )
        if begun.root != job["root"]:
            raise ValueError(
                f"File names in {self.results} are relative to {begun.root}, those of this job to {job['root']}: "
                "two files could get the same name. Choose another output, or give the same `root`. If the folder has "
                f'moved, write its new path as "root" into {path}.'
            )


__all__ = ["Job", "Task"]
