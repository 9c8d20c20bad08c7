"""Files that are written completely or not at all, and files with known names that are no planted links."""

import contextlib
import json
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path in the folder of `path`, which replaces `path` when the block ends without an error.

    Missing folders are made. The content reaches the disk before the name changes, so after a power cut the file is the
    old one or the new one; when the block has ended it is the new one.

    Raises:
        OSError: If it cannot be written; the error has the file name.

    Example:
        ```python
        with replacing("results.parquet") as partial:
            table.to_parquet(partial)
        ```
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: some writers choose the format by it.
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.partial{path.suffix}")
    with errors_naming(path):
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # fails if a link was planted
        try:
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can do that (Windows and some network disks cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_partial(path: Path | str) -> None:
    """Delete what killed processes left of `path` while they were replacing it. No other may be doing that now."""
    path = Path(path)
    start, end = f".{path.stem}.", f".partial{path.suffix}"
    for name in os.listdir(path.parent):
        if name.startswith(start) and name.endswith(end) and len(name) == len(start) + 8 + len(end):
            path.with_name(name).unlink(missing_ok=True)


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file completely or not at all. Text is written as UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file completely or not at all."""
    write_file(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def open_own(path: Path | str, flags: int) -> int:
    """Open a file with a known name, which may not be a symbolic link, and return its descriptor.

    Raises:
        OSError: If it cannot be opened, or is no regular file, such as a symbolic link that somebody planted.
    """
    planted = OSError(f"{path} is a symbolic link, device or pipe; it was not made by this program, delete it.")
    if os.path.islink(path):
        raise planted
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise planted
    return descriptor


@contextlib.contextmanager
def errors_naming(path: Path | str) -> Iterator[None]:
    """Give an `OSError` of the block, such as of a full disk, the name of the file if it has none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
