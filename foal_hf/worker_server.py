"""The server process that decode workers are forked from, and the folder of their temporary files.

Imports only the standard library, so that the server can start before the main process imports torch.

The temporary folder is the one that multiprocessing makes for the socket of the server (`pymp-*`). This process holds a
lock on a file in it. The system releases the lock when the process ends, even by SIGKILL; a folder with a free lock
belongs to a killed process, and the next one deletes it.
"""

import contextlib
import fcntl
import functools
import glob
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import shutil
import signal
import stat
import tempfile


PRELOADED = (
    f"{__package__}.annotate.workers",
    f"{__package__}.annotate.reading",
    f"{__package__}.foal_net.processing_foal_net",
)
"""The imports of a worker. The server ignores names that it cannot import."""
_LOCK = "foal-hf.lock"


def prepare_workers() -> None:
    """Start the server, which imports what workers need, so that they start at once later."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    claim_temporary_folder()
    multiprocessing.resource_tracker.ensure_running()  # unblocks the signal, so it has to run before
    # The server inherits the blocked signal: Ctrl-C reaches all processes, and the main one ends the others.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    except OSError as error:
        if "AF_UNIX path too long" not in str(error):
            raise
        raise OSError(
            f"The path of the temporary folder is too long for the socket of the workers: {tempfile.gettempdir()}. Set "
            "the environment variable TMPDIR to a folder with a shorter path."
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def stop_server(*, for_good: bool = False) -> None:
    """End the server, which may still be importing; `for_good` deletes the temporary folder too."""
    server = getattr(multiprocessing.forkserver, "_forkserver", None)  # no public name gives its process
    pid = getattr(server, "_forkserver_pid", None)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if for_good and claim_temporary_folder.cache_info().currsize:
        shutil.rmtree(claim_temporary_folder(), ignore_errors=True)


@functools.cache
def claim_temporary_folder() -> str:
    """Lock the temporary folder of this process, delete those of killed processes, and return its path."""
    for lock in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), "pymp-*", _LOCK)):
        with contextlib.suppress(OSError):  # in use, or another process deletes it too
            _delete_if_free(lock)
    folder = multiprocessing.util.get_temp_dir()  # deleted when this process ends
    if multiprocessing.parent_process() is not None:  # then the folder is that of the parent
        return folder
    new = os.path.join(folder, f"{_LOCK}.new")
    fcntl.flock(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), fcntl.LOCK_EX)  # until the process ends
    os.rename(new, os.path.join(folder, _LOCK))
    return folder


def use_temporary_folder() -> None:
    """In a worker: make all temporary files in the folder of the main process."""
    tempfile.tempdir = multiprocessing.util.get_temp_dir()


def _delete_if_free(lock: str) -> None:
    folder = os.path.dirname(lock)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return
    descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


__all__ = ["PRELOADED", "claim_temporary_folder", "prepare_workers", "stop_server", "use_temporary_folder"]
