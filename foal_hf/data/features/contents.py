"""Digests of media content. Each file is read once for its digest, which is then remembered."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ...foal_net.arrays_foal_net import frames_from_array
from ...foal_net.rows_foal_net import checked_source
from ...foal_net.sources_foal_net import MediaError, is_url, source_name
from ...identity import digest_of, digest_of_file, digest_of_tensors


_FILES = "files.jsonl"

logger = logging.getLogger(__name__)


class ContentDigests:
    """SHA-256 of media content.

    The digest of a file is remembered as long as its path, size, modification time and change time stay the same.

    Args:
        store_dir (`str` or `os.PathLike`): Folder of the record, `files.jsonl`.
    """

    def __init__(self, store_dir: str | os.PathLike[str]) -> None:
        self._records = Path(store_dir) / _FILES
        self._known: dict[str, tuple[list[int], str]] = {}
        for record in read_records(self._records):
            if isinstance(record, list) and len(record) == 3:
                path, state, digest = record
                self._known[path] = (state, digest)

    def digest(self, source: Any, side: str = "video") -> str:
        """Digest of the content of a path, bytes, a `datasets` row or decoder, or frames or samples in an array.

        Args:
            source: The content.
            side (`"audio"` or `"video"`): What an array holds.

        Raises:
            MediaError: If it is a URL, or a file that is missing or cannot be read.
            TypeError: If it is none of these.
        """
        source = plain_source(source)
        if isinstance(source, str | os.PathLike):
            return self._of_file(_file_path(source))
        if isinstance(source, bytes | bytearray | memoryview):
            return hashlib.sha256(source).hexdigest()
        if side == "audio" and (hasattr(source, "shape") or isinstance(source, list | tuple | Mapping)):
            return _digest_of_samples(source)
        if hasattr(source, "shape") or isinstance(source, list | tuple) or hasattr(source, "convert"):
            return digest_of_tensors({"frames": frames_from_array([source] if hasattr(source, "convert") else source)})
        raise TypeError(
            f"Cannot store features of a {type(source).__name__}: its content cannot be recognised later. Expected a "
            "path, bytes, a datasets row or an array."
        )

    def read_ahead(self, sources: Iterable[Any], *, num_threads: int, progress: bool = False) -> None:
        """Digest many files at once. Files that cannot be read raise later, in [`ContentDigests.digest`]."""
        plain = (plain_source(source) for source in sources)
        paths = {os.path.abspath(os.fsdecode(path)) for path in plain if isinstance(path, str | os.PathLike)}
        unread = [path for path in sorted(paths) if os.path.isfile(path) and not self._is_known(path)]
        with (
            ThreadPoolExecutor(max(num_threads, 1)) as pool,
            tqdm(total=len(unread), desc="Reading files", unit="file", disable=not (progress and unread)) as bar,
        ):
            for _ in pool.map(self._try_file, unread):
                bar.update()

    def has_changed(self, source: Any) -> bool:
        """Whether `source` is a file that has changed since it was digested."""
        source = plain_source(source)
        return isinstance(source, str | os.PathLike) and not self._is_known(_file_path(source))

    def _is_known(self, path: str) -> bool:
        return path in self._known and self._known[path][0] == _state(path)

    def _try_file(self, path: str) -> None:
        with contextlib.suppress(MediaError):
            self._of_file(path)

    def _of_file(self, path: str) -> str:
        try:
            if self._is_known(path):
                return self._known[path][1]
            state, digest = _state(path), digest_of_file(path)
            is_settled = _state(path) == state
        except OSError as error:
            raise MediaError(path, f"cannot be read ({error.strerror}).") from error
        if not is_settled:
            raise MediaError(path, "was changed while it was read; wait until it is complete.")
        self._known[path] = (state, digest)
        append_record(self._records, [path, state, digest])
        return digest


def _digest_of_samples(source: Any) -> str:
    """Digest of a waveform, given alone or as `{"array", "sampling_rate"}`."""
    known = checked_source(source) if isinstance(source, Mapping) else {"array": source}
    samples = torch.as_tensor(np.asarray(known["array"]))
    return digest_of([digest_of_tensors({"samples": samples}), known.get("sampling_rate")])


def plain_source(source: Any) -> Any:
    """The path or bytes of a `datasets` row or decoder; anything else unchanged."""
    source = getattr(source, "_hf_encoded", None) or source
    if isinstance(source, Mapping) and ("bytes" in source or "path" in source):
        return source["bytes"] if source.get("bytes") is not None else source.get("path")
    return source


def read_records(path: Path) -> list[Any]:
    """The lines of an append-only JSON file. Incomplete lines of killed processes are skipped."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def append_record(path: Path, record: Any) -> None:
    """Add a line to such a file. A file that cannot be written is left as it is: the record is computed again."""
    # One write call, so that processes do not mix their lines. It starts with a line break, because a killed process
    # may have left the last line without one.
    line = f"\n{json.dumps(record)}\n".encode()
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(line)
    except OSError as error:
        logger.debug("%s cannot be written (%s)", path, error)


def _file_path(source: str | os.PathLike[str]) -> str:
    """The absolute path of a file.

    Raises:
        MediaError: If it is a URL or there is no such file.
    """
    if is_url(source):
        raise MediaError(
            source_name(source), "is a URL, whose content may change: download the file first to store its features."
        )
    path = os.path.abspath(os.fsdecode(source))
    if not os.path.isfile(path):
        raise MediaError(source_name(source), "no such file.")
    return path


def _state(path: str) -> list[int]:
    """Differs once a file was written to or replaced, even by a copy that keeps the modification time."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


__all__ = ["ContentDigests", "append_record", "plain_source", "read_records"]
