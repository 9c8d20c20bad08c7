"""What media hold, told by its digest, and remembered so that no file is read twice for it."""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ...foal_net.arrays_foal_net import frames_from_array
from ...foal_net.sources_foal_net import MediaError, is_url, source_name


_FILES = "files.jsonl"

logger = logging.getLogger(__name__)


class ContentDigests:
    """SHA-256 of what media hold.

    A file is read once: its digest is remembered, for as long as path, size, and the times of modification and of
    change stay the same.

    Args:
        store_dir (`str` or `os.PathLike`): Folder that remembers, in `files.jsonl`.
    """

    def __init__(self, store_dir: str | os.PathLike[str]) -> None:
        self._records = Path(store_dir) / _FILES
        self._known: dict[str, tuple[list[int], str]] = {}
        for record in read_records(self._records):
            if isinstance(record, list) and len(record) == 3:
                path, state, digest = record
                self._known[path] = (state, digest)

    def digest(self, source: Any) -> str:
        """Digest of the content of `source`: a path, bytes, a `datasets` row or decoder, or pictures in an array.

        Raises:
            MediaError: If it is a URL, or a file that is missing or cannot be read.
            TypeError: If it is none of these.
        """
        source = plain_source(source)
        if isinstance(source, str | os.PathLike):
            return self._of_file(_file_path(source))
        if isinstance(source, bytes | bytearray | memoryview):
            return hashlib.sha256(source).hexdigest()
        if hasattr(source, "shape") or isinstance(source, list | tuple) or hasattr(source, "convert"):
            frames = frames_from_array([source] if hasattr(source, "convert") else source).contiguous()
            digest = hashlib.sha256(f"frames {tuple(frames.shape)} ".encode())
            digest.update(frames.cpu().numpy().data)
            return digest.hexdigest()
        raise TypeError(
            f"Features of a {type(source).__name__} cannot be kept, since its content cannot be told again later; give "
            "a path, bytes, a datasets row or an array."
        )

    def read_ahead(self, sources: Iterable[Any], *, num_threads: int, progress: bool = False) -> None:
        """Digest many files at once; one that cannot be read is left to [`ContentDigests.digest`]."""
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
        """Whether `source` is a file that is no longer the one that was digested."""
        source = plain_source(source)
        return isinstance(source, str | os.PathLike) and not self._is_known(_file_path(source))

    def _is_known(self, path: str) -> bool:
        return path in self._known and self._known[path][0] == _state(path)

    def _try_file(self, path: str) -> None:
        with contextlib.suppress(MediaError):
            self._of_file(path)

    def _of_file(self, path: str) -> str:
        try:
            state = _state(path)
            if path in self._known and self._known[path][0] == state:
                return self._known[path][1]
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            is_settled = _state(path) == state
        except OSError as error:
            raise MediaError(path, f"cannot be read ({error.strerror}).") from error
        if not is_settled:
            raise MediaError(path, "was changed while it was read; wait until it is whole.")
        self._known[path] = (state, digest)
        append_record(self._records, [path, state, digest])
        return digest


def plain_source(source: Any) -> Any:
    """A `datasets` row or decoder as the path or bytes that it stands for; anything else as it is."""
    source = getattr(source, "_hf_encoded", None) or source
    if isinstance(source, Mapping) and ("bytes" in source or "path" in source):
        return source["bytes"] if source.get("bytes") is not None else source.get("path")
    return source


def read_records(path: Path) -> list[Any]:
    """The lines of a file that only grows; one that a killed process left unfinished is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            records.append(json.loads(line))
    return records


def append_record(path: Path, record: Any) -> None:
    """Add a line to such a file, if it may be written."""
    # In one piece, so that processes do not mix their lines; after a line break, in case the last line has none.
    line = f"\n{json.dumps(record)}\n".encode()
    try:
        with open(path, "ab", buffering=0) as file:
            file.write(line)
    except OSError as error:  # a store that may only be read, or a full disk: it is found out again next time
        logger.debug("%s cannot be written (%s)", path, error)


def _file_path(source: str | os.PathLike[str]) -> str:
    """The absolute path of a file.

    Raises:
        MediaError: If it is a URL or there is no such file.
    """
    if is_url(source):
        raise MediaError(
            source_name(source), "is an address; what it gives may change, so download it first to store its features."
        )
    path = os.path.abspath(os.fsdecode(source))
    if not os.path.isfile(path):
        raise MediaError(source_name(source), "no such file.")
    return path


def _state(path: str) -> list[int]:
    """What differs once a file has been written to or replaced, also by a copy that keeps the time of modification."""
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


__all__ = ["ContentDigests", "append_record", "plain_source", "read_records"]
