"""A job on the disk: what it is about, and which of its files are still to be done.

| path | what it is |
| --- | --- |
| `results.parquet` | one row a clip or segment |
| `results.manifest.parquet` | one row a file |
| `results.job/` | what both are put together from, at any time |
| `results.job/job.json` | what the results depend on, and the folder that names start at |
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

from .claims import Claims
from .files import MediaPath
from .identity import difference, fingerprint
from .journals import Entry, Journals, Record
from .tables import write_manifest, write_results


_SYNC_SECONDS = 1.0  # what a power cut may lose; the end of the process alone loses nothing


class Task(NamedTuple):
    """A file that is to be annotated now.

    Attributes:
        name, path (`str`): As in [`MediaPath`].
        attempts (`int`): How many times it will have been tried.
        size_bytes, modified_ns (`int`): Of the file as it is now; -1 where it is not there.
    """

    name: str
    path: str
    attempts: int
    size_bytes: int
    modified_ns: int


class Job:
    """An output and what has been done for it; a context manager.

    Args:
        output (`Path`): The Parquet file of the results; its name has to end so.
        description (`Mapping[str, Any]`): From [`~foal_hf.annotate.identity.describe_job`].
        root (`Path`): What the names of files start at.
        labels (`Sequence[str]`): Names of the classes, in the model's order.
        model_revision (`str`, *optional*): Commit of the checkpoint on the Hub, for the manifest.

    Raises:
        ValueError: If the output belongs to another job: other model or settings, another root, or no job at all.
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
                f"{output} is there, and {self.folder}, which its job would go on from, is not. Move it away or choose "
                "another output."
            )
        self._labels, self._model_revision, self.fingerprint = list(labels), model_revision, fingerprint(description)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._claims = Claims(self.folder / "claims")
        try:
            with self._claims.alone():
                self._join({"description": dict(description), "root": os.path.realpath(root)})
        except BaseException:
            self._claims.__exit__()
            raise
        self._journals = Journals(self.folder)
        self._journals.refresh()
        self._refreshing = threading.Lock()  # files are handed out in the workers' threads
        self._unsynced: list[str] = []
        self._synced = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._sync()
        self._journals.close()
        self._claims.__exit__()

    def is_own(self, file: MediaPath) -> bool:
        """Whether a file is part of the output, which may lie in the folder that is annotated."""
        path = Path(file.path)
        return path in (self.results.absolute(), self.manifest.absolute()) or self.folder.absolute() in path.parents

    def num_settled(self, files: Iterable[MediaPath]) -> int:
        """How many of these files have a result or an error so far."""
        return sum(file.name in self._journals.entries for file in files)

    def take(self, files: Iterable[MediaPath], *, retry_failed: bool = False) -> Iterator[Task]:
        """Those files that are to be annotated, each claimed when it is handed out.

        That is: files without a record, files that have changed since, and with `retry_failed` those that failed before
        this call.
        """
        failed = {}
        if retry_failed:
            failed = {name: entry for name, entry in self._journals.entries.items() if not entry.is_done}
        for file in files:
            if self._needed(file, failed) is None or not self._claims.take(file.name):
                continue
            with self._refreshing:  # another process may have done it, and given it back
                self._journals.refresh()
                task = self._needed(file, failed)
            if task is None:
                self._claims.give_back(file.name)
            else:
                yield task

    def take_all(self) -> bool:
        """Claim whatever there is, for an engine that shares out the files by itself; False if others are at work."""
        return self._claims.take_all()

    def add(self, record: Record) -> None:
        """Keep what became of a file, and let it go."""
        self._journals.add(record)
        self._unsynced.append(record.file)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self._sync()

    def collect(self, files: Iterable[MediaPath]) -> dict[str, int]:
        """Write results and manifest from what all processes have found out so far.

        Args:
            files (`Iterable[MediaPath]`): Those of them that have no record stand in the manifest as pending.

        Returns:
            `dict[str, int]`: Number of files by status: `done`, `failed`, `pending`.
        """
        self._sync()
        with self._claims.alone(), self._refreshing:  # so that the last process to end writes what all have found
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
            is_retried = not entry.is_done and failed.get(file.name) == entry
            if not (has_changed or is_retried):
                return None
        return Task(*file, 1 if entry is None else entry.attempts + 1, size_bytes, modified_ns)

    def _sync(self) -> None:
        self._journals.sync()
        for name in self._unsynced:
            self._claims.give_back(name)
        self._unsynced, self._synced = [], time.monotonic()

    def _join(self, job: dict[str, Any]) -> None:
        """Begin the job, or go on with one that is the same."""
        path = self.folder / "job.json"
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(job, indent=2), encoding="utf-8")
            unfinished.replace(path)
            return
        begun = json.loads(path.read_text(encoding="utf-8"))
        differs = difference(begun["description"], job["description"])
        if differs:
            raise ValueError(
                f"{self.results} holds results of another model or other settings: {differs}. Write these to another "
                f"output; or, to do all files anew, delete {self.results}, {self.manifest} and {self.folder}."
            )
        if begun["root"] != job["root"]:
            raise ValueError(
                f"{self.results} names its files from {begun['root']}, and this job names them from {job['root']}: two "
                "files could come to have one name. Write these to another output, or give the same `root`. If the "
                f'folder has moved, put its new place under "root" in {path}.'
            )


__all__ = ["Job", "Task"]
