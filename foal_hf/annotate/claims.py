"""Which process works on which file, where several share a job.

A claim is a lock on one byte of a file, at a place that the name of the medium gives. The system takes it away at the
moment its process ends, however that comes about: so nothing is left behind by a killed process, nothing has to be
waited for, and no clock is compared. Machines that share the folder through NFS share the locks too.

Claims only save work. That each file comes up once in the results does not rest on them (see `journals.py`).
"""

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self


_WHOLE_JOB = 0  # the byte for what one process does at a time; the others stand for files
_FIRST_FILE = 1


class Claims:
    """What this process has claimed; a context manager.

    Args:
        path (`Path`): The file to lock; made where it does not exist, and always empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        self._has_all = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._handle)  # and with it all claims

    def take(self, name: str) -> bool:
        """Claim a file; False where another process has it."""
        return self._has_all or self._lock(_place(name), 1)

    def take_all(self) -> bool:
        """Claim every file there can be; False where another process has one."""
        self._has_all = self._has_all or self._lock(_FIRST_FILE, 0)  # 0 bytes: to the end, wherever that is
        return self._has_all

    def give_back(self, name: str) -> None:
        """Let others claim a file, once its result is on the disk."""
        if not self._has_all:
            fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, _place(name))

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other process is at this point of its code."""
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
                f"the file system of {self._path.parent} has no locks ({error.strerror}); write the output to another",
            ) from error
        return True


def _place(name: str) -> int:
    """The byte of a file: 62 bits of a digest, so that two files hardly ever share one (they would wait, no more)."""
    digest = hashlib.sha256(name.encode()).digest()
    return _FIRST_FILE + (int.from_bytes(digest[:8], "big") >> 2)


__all__ = ["Claims"]
