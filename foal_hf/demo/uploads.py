"""The recordings that the page has received and not deleted yet."""

import contextlib
import shutil
import tempfile
import threading
from pathlib import Path


class Uploads:
    """A folder of recordings, each in its own sub-folder until it is discarded.

    Args:
        folder (`pathlib.Path`): Nothing outside it is deleted.
        unclaimed_seconds (`float`, defaults to 60): An upload that no prediction claims in this time is deleted.
    """

    def __init__(self, folder: Path, unclaimed_seconds: float = 60.0):
        self.folder = folder.resolve()
        self._unclaimed_seconds = unclaimed_seconds
        self._timers: dict[Path, threading.Timer] = {}
        self._sessions: dict[Path, str | None] = {}
        self._closed: set[str | None] = set()

    def add(self, path: str | Path) -> Path:
        """Move an upload into its own sub-folder, and return its new path. Gradio's own is shared by equal files."""
        path = Path(path)
        own = Path(tempfile.mkdtemp(dir=self.folder)) / path.name
        path.rename(own)
        with contextlib.suppress(OSError):  # if another file is in it
            path.parent.rmdir()
        timer = self._timers[own] = threading.Timer(self._unclaimed_seconds, self._expire, [own])
        timer.daemon = True
        timer.start()
        return own

    def claim(self, path: str | Path, session: str | None = None) -> None:
        """Keep an upload until it is discarded or its session ends; not for a session that has ended already."""
        if session in self._closed:
            return
        self._sessions[Path(path)] = session
        if timer := self._timers.pop(Path(path), None):
            timer.cancel()

    def discard(self, path: str | Path) -> None:
        """Delete an upload with its sub-folder; what is not inside the folder stays."""
        if timer := self._timers.pop(Path(path), None):
            timer.cancel()
        self._sessions.pop(Path(path), None)
        upload = Path(path).resolve()
        if self.folder in upload.parents:
            own = self.folder / upload.relative_to(self.folder).parts[0]
            if own.is_dir():
                shutil.rmtree(own, ignore_errors=True)
            else:
                own.unlink(missing_ok=True)

    def _expire(self, path: Path) -> None:
        """Delete an upload that nobody has claimed; its timer may run out while it is claimed."""
        if self._timers.pop(path, None) is not None:
            self.discard(path)

    def discard_session(self, session: str | None) -> None:
        """Delete the uploads of a page that was closed."""
        self._closed.add(session)
        for path in [path for path, owner in self._sessions.items() if owner == session]:
            self.discard(path)

    def discard_unfinished(self) -> None:
        """Delete files of uploads that broke off. Only while no upload is running."""
        for path in self.folder.iterdir():
            if path.is_file():
                path.unlink(missing_ok=True)


__all__ = ["Uploads"]
