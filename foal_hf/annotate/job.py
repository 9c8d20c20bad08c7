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

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..atomic_files import write_json
from ..identity import digest_of
from .claims import Claims
from .files import MediaPath
from .identity import difference
from .journals import Entry, Journals, Record
from .tables import write_manifest, write_results


_SYNC_SECONDS = 1.0  # a power cut may lose this much; the death of the process loses nothing


class Task(NamedTuple):
    """A file to annotate now.

    Attributes:
        name, path (`str`): As in [`MediaPath`].
        attempts (`int`): Number of tries, this one included.
        size_bytes, modified_ns (`int`): Of the file as it is now; -1 if it does not exist.
    """

    name: str
    path: str
    attempts: int
    size_bytes: int
    modified_ns: int


class Job:
    """An output and the records behind it; a context manager.

    Args:
        output (`Path`): The Parquet file of the results; its name has to end in `.parquet`.
        description (`Mapping[str, Any]`): From [`~foal_hf.annotate.identity.describe_job`].
        root (`Path`): The folder that file names are relative to.
        labels (`Sequence[str]`): Names of the classes, in the model's order.
        model_revision (`str`, *optional*): Commit of the checkpoint on the Hub, for the manifest.

    Raises:
        ValueError: If the output belongs to another job (other model, settings or root), or to none.
    """

    def __init__(
        self,
        output: Path,
        description: Mapping[str, Any],
        root: Path,
        labels: Sequence[str],
        model_revision: str | None = None,
    ) -> None:
        if output.suffix != ".parquet":
            raise ValueError(f"`output` has to end in .parquet, got {str(output)!r}.")
        self.results = output
        self.manifest = output.with_suffix(".manifest.parquet")
        self.folder = output.with_suffix(".job")
        if output.exists() and not self.folder.is_dir():
            raise ValueError(
                f"{output} exists, but its job folder {self.folder} does not. Move the file away, or choose another "
                "output."
            )
        self._labels, self._model_revision, self.fingerprint = list(labels), model_revision, digest_of(description)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claims = Claims(self.folder / "claims")
        try:
            with self._claims.exclusive():
                self._join({"description": dict(description), "root": os.path.realpath(root)})
        except BaseException:
            self._claims.__exit__()
            raise
        self._journals = Journals(self.folder)
        self._journals.refresh()
        self._refreshing = threading.Lock()  # tasks are taken in the workers' threads
        self._unsynced: list[str] = []
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sync()
        self._journals.close()
        self._claims.__exit__()

    def is_own(self, file: MediaPath) -> bool:
        """Whether a file is part of the output, which may lie in the annotated folder."""
        path = Path(file.path)
        return path in (self.results.absolute(), self.manifest.absolute()) or self.folder.absolute() in path.parents

    def num_settled(self, files: Iterable[MediaPath]) -> int:
        """Number of these files that have a result or an error."""
        return sum(file.name in self._journals.entries for file in files)

    def take(self, files: Iterable[MediaPath], *, retry_failed: bool = False) -> Iterator[Task]:
        """The files to annotate, each claimed when it is yielded.

        These are files without a record, files that have changed since, and with `retry_failed` those that failed
        before this call.
        """
        failed = {}
        if retry_failed:
            failed = {name: entry for name, entry in self._journals.entries.items() if not entry.is_done}
        for file in files:
            if self._needed(file, failed) is None or not self._claims.take(file.name):
                continue
            with self._refreshing:  # another process may have annotated and released it
                self._journals.refresh()
                task = self._needed(file, failed)
            if task is None:
                self._claims.release(file.name)
            else:
                yield task

    def take_all(self) -> bool:
        """Claim all files, for an engine that distributes them itself; False if another process has claims."""
        return self._claims.take_all()

    def add(self, record: Record) -> None:
        """Store the record of a file, and release its claim soon after."""
        self._journals.add(record)
        self._unsynced.append(record.file)
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
            names = sorted({*self._journals.entries, *(file.name for file in files)})
            about = {"fingerprint": self.fingerprint, "model_revision": self._model_revision}
            write_results(self.results, self._journals.records(names), self._labels, about)
            return write_manifest(self.manifest, self._journals.records(names), names, about)

    def _needed(self, file: MediaPath, failed: Mapping[str, Entry]) -> Task | None:
        entry = self._journals.entries.get(file.name)
        try:
            status = os.stat(file.path)
            size_bytes, modified_ns = status.st_size, status.st_mtime_ns
        except OSError:
            size_bytes = modified_ns = -1
        if entry is not None:
            has_changed = (size_bytes, modified_ns) != (entry.size_bytes, entry.modified_ns)
            is_retried = failed.get(file.name) == entry  # if another process has tried it meanwhile, once is enough
            if not (has_changed or is_retried):
                return None
        return Task(*file, 1 if entry is None else entry.attempts + 1, size_bytes, modified_ns)

    def _sync(self) -> None:
        self._journals.sync()
        for name in self._unsynced:
            self._claims.release(name)
        self._unsynced, self._synced = [], time.monotonic()

    def _join(self, job: dict[str, Any]) -> None:
        """Start the job, or continue one with the same settings."""
        path = self.folder / "job.json"
        if not path.exists():
            write_json(path, job, indent=2)
            return
        begun = json.loads(path.read_text(encoding="utf-8"))
        differs = difference(begun["description"], job["description"])
        if differs:
            raise ValueError(
                f"{self.results} holds results of another model or other settings: {differs}. Choose another output; "
                f"or, to annotate all files again, delete {self.results}, {self.manifest} and {self.folder}."
            )
        if begun["root"] != job["root"]:
            raise ValueError(
                f"File names in {self.results} are relative to {begun['root']}, those of this job to {job['root']}: "
                "two files could get the same name. Choose another output, or give the same `root`. If the folder has "
                f'moved, write its new path as "root" into {path}.'
            )


__all__ = ["Job", "Task"]
