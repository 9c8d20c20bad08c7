"""Which process works on which file, if several share a job.

A claim is a lock on one byte of a file; the position of the byte comes from the name of the recording. The operating
system releases it when its process ends, even by SIGKILL. So a killed process leaves no stale claim, and nothing
depends on timeouts or clocks. Machines that share the folder through NFS share the locks.

Claims only save work. Each file appears once in the results even without them (see `journals.py`).
"""

import contextlib
import errno
import fcntl
import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ..atomic_files import open_own
from .files import Key


_WHOLE_JOB = 0  # the byte of what only one process may do at a time; the others belong to files
_FIRST_FILE = 1


class Claims:
    """The claims of this process; a context manager.

    Args:
        path (`Path`): The file to lock; created if it does not exist, and always empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = open_own(path, os.O_RDWR | os.O_CREAT)
        self._has_all = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)  # releases all claims

    def take(self, key: Key) -> bool:
        """Claim a file; False if another process has it."""
        return self._has_all or self._lock(_position(key), 1)

    def take_all(self) -> bool:
        """Claim every possible file; False if another process has one."""
        self._has_all = self._has_all or self._lock(_FIRST_FILE, 0)  # 0 bytes: to the end of all positions
        return self._has_all

    def release(self, key: Key) -> None:
        """Let others claim a file, once its result is on the disk."""
        if not self._has_all:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _position(key))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait until no other process is inside such a block."""
        fcntl.lockf(self._handle, fcntl.LOCK_EX, 1, _WHOLE_JOB)
        try:
            yield
        finally:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _WHOLE_JOB)

    def _lock(self, start: int, num_bytes: int) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB, num_bytes, start)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise OSError(
                error.errno,
                f"The file system of {self._path.parent} does not support locks ({error.strerror}); write the output "
                "to another file system.",
            ) from error
        return True


def _position(key: Key) -> int:
    """The byte of a file: 62 bits of a digest. Two files that share one would only wait for each other."""
    name, start_seconds, end_seconds = key
    is_whole = start_seconds == 0 and end_seconds == math.inf
    digest = hashlib.sha256((name if is_whole else repr(key)).encode()).digest()
    return _FIRST_FILE + (int.from_bytes(digest[:8], "big") >> 2)


__all__ = ["Claims"]
