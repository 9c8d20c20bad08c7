"""Processes that decode files for the model. A file that kills its process does not stop the job.

Processes instead of threads, because a decoder may hang or crash. A thread of the main process serves each of them: it
sends one file after the other, puts the decoded clips into a queue of limited length, and starts a new process if a
file has killed the old one. The processes are forked from a small server process that has imported this package once.
They are not forked from the main process, because its threads and its GPU would not survive a fork.
"""

import contextlib
import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch

from ..foal_net.recordings_foal_net import PendingWindow
from ..foal_net.sources_foal_net import MediaError
from ..worker_server import prepare_workers, use_temporary_folder


class HasPath(Protocol):
    """A file to read, and any other attributes that the reader or the caller needs; has to pickle."""

    @property
    def path(self) -> str: ...


Reader = Callable[[Any], Iterator[PendingWindow]]


@dataclass(frozen=True)
class TimeLimits:
    """Time limits for decoding; time that a worker waits for the model does not count.

    Attributes:
        window_seconds (`float`): For one clip or window. Windows without content do not start it again, so a recording
            with a huge gap cannot go on for ever.
        file_seconds (`float`, *optional*): For one file. Default: 60 times that of a window.
    """

    window_seconds: float
    file_seconds: float | None = None

    @property
    def of_file(self) -> float:
        """The limit of a file, in seconds."""
        return 60 * self.window_seconds if self.file_seconds is None else self.file_seconds

    @property
    def error(self) -> str:
        """The message if one of them is exceeded."""
        return (
            f"was not read within the time limit of {self.window_seconds:g} s for a clip or window "
            f"(`time_limit_seconds`), or {self.of_file:g} s for a file (`file_time_limit_seconds`)."
        )


_FILES_PER_PROCESS = 1000  # decoders leak memory: 15 kB for each file were measured
_TENSORS = ("waveform", "frames", "frame_seconds")  # of a clip
File = TypeVar("File", bound=HasPath)


@dataclass(frozen=True)
class Read(Generic[File]):
    """A clip of a file, or one of its windows.

    Attributes:
        file: As given to [`DecodeWorkers.read`].
        window ([`~foal_hf.foal_net.recordings_foal_net.PendingWindow`]): The decoded clip.
    """

    file: File
    window: PendingWindow


@dataclass(frozen=True)
class Ended(Generic[File]):
    """The file has no more clips.

    Attributes:
        file: As given to [`DecodeWorkers.read`].
        seconds (`float`): Time spent on decoding.
        error_type, error (`str`, *optional*): Why it could not be read to its end.
    """

    file: File
    seconds: float
    error_type: str | None = None
    error: str | None = None


class DecodeWorkers(Generic[File]):
    """A number of decoding processes; a context manager.

    Args:
        read (`Reader`): Yields the clips of a path; has to pickle.
        num_workers (`int`): Number of processes.
        limits ([`TimeLimits`]): When they are exceeded, the process is killed.
        num_ahead (`int`): Decoded clips in the queue, in addition to the one that each worker holds.

    Raises:
        RuntimeError: If the processes do not start.
    """

    def __init__(self, read: Reader, *, num_workers: int, limits: TimeLimits, num_ahead: int) -> None:
        self._processes = [_Process(read, limits) for _ in range(num_workers)]
        self._num_ahead = num_ahead

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.stop()

    def read(self, files: Iterable[File]) -> Generator[Read[File] | Ended[File]]:
        """Read files in parallel.

        Args:
            files: Sent to the workers in this order; iterated in other threads, one at a time.

        Yields:
            The clips of each file in order, then its [`Ended`]. Clips of several files are interleaved.

        Raises:
            ImportError: If a package that the workers decode with is missing.
            RuntimeError: If a worker does not start.
        """
        found: queue.Queue[Any] = queue.Queue(self._num_ahead)
        shared = _Shared(files)

        def serve(process: _Process) -> None:
            try:
                for file in shared:
                    for message in process.read(file):
                        found.put(message)
                        if shared.is_closed:
                            return
                found.put(None)
            except BaseException as error:  # raised in the caller's thread
                found.put(error)

        threads = [threading.Thread(target=serve, args=(process,), daemon=True) for process in self._processes]
        try:
            for thread in threads:
                thread.start()
            num_busy = len(threads)
            while num_busy:
                message = found.get()
                if isinstance(message, BaseException):
                    raise message
                if message is None:
                    num_busy -= 1
                else:
                    yield message
        finally:
            shared.is_closed = True
            while any(thread.is_alive() for thread in threads):  # left early: end what they wait for
                for process in self._processes:
                    process.kill()
                with contextlib.suppress(queue.Empty):
                    found.get(timeout=0.05)


class _Shared(Generic[File]):
    """An iterator that several threads take from."""

    def __init__(self, files: Iterable[File]) -> None:
        self._files = iter(files)
        self._lock = threading.Lock()
        self.is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> File:
        with self._lock:
            if self.is_closed:
                raise StopIteration
            return next(self._files)


class _Process:
    """A process that reads one file after the other, and is replaced if a file has killed it."""

    def __init__(self, read: Reader, limits: TimeLimits) -> None:
        self._read = read
        self._limits = limits
        self._num_files = 0
        self._process: Any = None
        self._connection: Connection | None = None

    def read(self, file: File) -> Iterator[Read[File] | Ended[File]]:
        started = time.perf_counter()
        try:
            connection = self._sent(file)
            while not isinstance(message := connection.recv(), _End):
                yield Read(file, _unpacked(message))
        except (EOFError, ConnectionError):
            yield Ended(file, time.perf_counter() - started, *self._cause_of_death())
        else:
            if message.is_fatal:
                raise ImportError(message.error)
            yield Ended(file, message.seconds, message.error_type, message.error)

    def kill(self) -> None:
        """End the process, from any thread; the thread that reads from it notices."""
        process = self._process
        with contextlib.suppress(ValueError):  # closed meanwhile
            if process is not None:
                process.kill()

    def stop(self) -> None:
        """End the process and close its connection."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None
        self._num_files = 0

    def _sent(self, file: File) -> Connection:
        if self._num_files >= _FILES_PER_PROCESS:
            self.stop()
        self._num_files += 1
        try:
            connection = self._started()
            connection.send(file)
        except ConnectionError:  # it died between two files; no file is the cause
            self.stop()
            connection = self._started()
            connection.send(file)
        return connection

    def _started(self) -> Connection:
        if self._connection is not None:
            return self._connection
        prepare_workers()
        context = multiprocessing.get_context("forkserver")
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._read, self._limits), daemon=True)
        try:
            process.start()
        except (EOFError, OSError) as error:
            raise RuntimeError(f"A decode worker did not start: {type(error).__name__}: {error}") from error
        self._process = process  # now it can be killed
        theirs.close()
        try:
            self._connection.recv()  # that it is ready
        except EOFError:
            raise RuntimeError(
                "A decode worker did not start. In a script, put the code that runs below "
                "`if __name__ == '__main__':`, because workers import the script."
            ) from None
        return self._connection

    def _cause_of_death(self) -> tuple[str, str]:
        self._process.join()
        code = self._process.exitcode
        self.stop()
        if code == -signal.SIGALRM:
            return "TimeoutError", self._limits.error
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return "DecoderCrash", f"crashed the decoder process ({how})."


class _End(NamedTuple):
    """A worker's last message about a file."""

    seconds: float
    error_type: str | None = None
    error: str | None = None
    is_fatal: bool = False


def _serve(connection: Connection, read: Reader, limits: TimeLimits) -> None:
    """The worker: receives files and sends clips, until the main process is gone."""
    use_temporary_folder()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the workers
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the system kills, even inside a decoder
    torch.set_num_threads(1)
    connection.send(None)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            _serve_file(connection, connection.recv(), read, limits)


def _serve_file(connection: Connection, file: HasPath, read: Reader, limits: TimeLimits) -> None:
    seconds = seconds_without_content = 0.0
    end = _End(0.0)
    windows = read(file)
    while True:
        started = time.perf_counter()
        rest = min(limits.window_seconds - seconds_without_content, limits.of_file - seconds)
        signal.setitimer(signal.ITIMER_REAL, max(rest, 1e-6))  # 0 would be no limit
        try:
            found = next(windows, None)
        except ImportError as error:
            found, end = None, _End(0.0, "ImportError", str(error), is_fatal=True)
        except Exception as error:  # fails this file only
            reason = error.reason if isinstance(error, MediaError) else str(error)
            found, end = None, _End(0.0, type(error).__name__, reason.replace(file.path, "the file"))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        spent = time.perf_counter() - started
        seconds += spent
        seconds_without_content += spent
        if found is None:
            connection.send(end._replace(seconds=seconds))
            return
        if found.clip is not None:
            seconds_without_content = 0.0
        connection.send(_packed(found))  # may wait for the model, which is not counted


def _packed(window: PendingWindow) -> Any:
    """Tensors as arrays: torch would send them through shared files that have to outlive this process."""
    if window.clip is None:
        return window, None
    arrays = {name: getattr(window.clip, name) for name in _TENSORS}
    arrays = {name: None if tensor is None else tensor.numpy() for name, tensor in arrays.items()}
    return replace(window, clip=replace(window.clip, waveform=None, frames=None, frame_seconds=None)), arrays


def _unpacked(message: Any) -> PendingWindow:
    window, arrays = message
    if arrays is None:
        return window
    tensors = {name: None if array is None else torch.from_numpy(array) for name, array in arrays.items()}
    return replace(window, clip=replace(window.clip, **tensors))


__all__ = ["DecodeWorkers", "Ended", "Read", "Reader", "TimeLimits"]
