"""Files that are written completely or not at all."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path in the folder of `path`, which replaces `path` when the block ends without an error.

    Missing folders are made. The content reaches the disk before the name changes, so after a power cut the file is the
    old one or the new one. Processes and threads may write to one path: the last one wins. A killed process leaves
    `.{name}.{random}.partial{ending}` behind.

    Example:
        ```python
        with replacing("results.parquet") as partial:
            table.to_parquet(partial)
        ```
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ending stays: some writers choose the format by it.
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.partial{path.suffix}")
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
        with contextlib.suppress(OSError):  # not every system can do this with a folder
            _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def write_file(path: Path | str, content: bytes | str) -> None:
    """Write a file completely or not at all. Text is written as UTF-8."""
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file completely or not at all."""
    write_file(path, json.dumps(content, ensure_ascii=False, indent=indent) + "\n")


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
