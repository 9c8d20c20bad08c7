"""The decode workers: files in parallel, and files that kill their worker."""

import importlib
import multiprocessing
import multiprocessing.forkserver
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch

from foal_hf import Clip, MediaError
from foal_hf.annotate.workers import DecodeWorkers, Ended, Read, TimeLimits, _serve_file
from foal_hf.foal_net.recordings_foal_net import PendingWindow
from foal_hf.foal_net.timeline_foal_net import ScoredSegment
from foal_hf.worker_server import PRELOADED, prepare_workers


class Named(NamedTuple):
    path: str


def clip(number: float) -> Clip:
    frames = torch.full((2, 3, 5, 7), int(number), dtype=torch.uint8)
    times = torch.tensor([0.0, 0.2], dtype=torch.float64)
    return Clip(torch.full((11,), number), 16_000, frames, times, number, number + 1)


def window(number: float) -> PendingWindow:
    segment = ScoredSegment(number, number + 1, {"audio": None}, number + 2, None, ("audio", "video"), None)
    return PendingWindow(segment, None if number == 1 else clip(number), 13.0)


def read_or_fail(file: Named) -> Iterator[PendingWindow]:
    """Stands for a decoder: what happens is what the path says, after so many clips."""
    path = file.path
    what, _, number = path.partition("-")
    if what == "missing":
        raise ImportError("no decoder here")
    for index in range(int(number or 1)):
        yield window(index)
    if what == "hang":
        while True:
            signal.pause()
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "bad":
        raise MediaError(path, "is bad.")
    if what == "wrong":
        raise KeyError(path)


def read_all(*paths: str, num_workers: int = 1, **settings: Any) -> dict[str, tuple[list[PendingWindow], Ended[Named]]]:
    """The windows of each path, and its end."""
    settings = {"limits": TimeLimits(60), "num_ahead": 2, **settings}
    windows: dict[str, list[PendingWindow]] = {path: [] for path in paths}
    ends = {}
    with DecodeWorkers[Named](read_or_fail, num_workers=num_workers, **settings) as workers:
        for found in workers.read(Named(path) for path in paths):
            if isinstance(found, Read):
                assert found.file.path not in ends
                windows[found.file.path].append(found.window)
            else:
                assert found.file.path not in ends
                ends[found.file.path] = found
    assert not multiprocessing.active_children()
    return {path: (windows[path], ends[path]) for path in paths}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_window_of_every_file_comes_once_and_whole(num_workers: int) -> None:
    found = read_all("good-2", "also-0", "more-5", "last-1", num_workers=num_workers)
    assert {path: len(windows) for path, (windows, _) in found.items()} == {
        "good-2": 2,
        "also-0": 0,
        "more-5": 5,
        "last-1": 1,
    }
    for windows, end in found.values():
        assert end.error_type is None and end.seconds >= 0
        for index, given in enumerate(windows):
            assert replace(given, clip=None) == replace(window(index), clip=None)
            assert (given.clip is None) == (index == 1)
            if given.clip is not None:
                for name in ("waveform", "frames", "frame_seconds"):
                    assert torch.equal(getattr(given.clip, name), getattr(clip(index), name))
                    assert getattr(given.clip, name).dtype == getattr(clip(index), name).dtype
                assert (given.clip.sampling_rate, given.clip.end_seconds) == (16_000, index + 1)


@pytest.mark.parametrize(
    ("path", "error_type", "error"),
    [
        ("hang-1", "TimeoutError", TimeLimits(2.0).error),
        ("crash-1", "DecoderCrash", "crashed the decoder process (SIGSEGV)."),
        ("exit-0", "DecoderCrash", "crashed the decoder process (exit code 3)."),
        ("bad-1", "MediaError", "is bad."),
        ("wrong-0", "KeyError", "'the file'"),
    ],
)
def test_a_file_that_kills_its_worker_fails_alone(path: str, error_type: str, error: str) -> None:
    found = read_all("before", path, "behind", "last", limits=TimeLimits(2.0))
    assert (found[path][1].error_type, found[path][1].error) == (error_type, error)
    for good in ("before", "behind", "last"):
        assert len(found[good][0]) == 1 and found[good][1].error_type is None


@pytest.mark.parametrize(
    ("numbers", "limits", "expected"),
    [
        ([2, 2, 2], TimeLimits(5.0), [5, 5, 5, 5]),
        ([2, 1, 1, 1, 2, 1], TimeLimits(5.0), [5, 5, 4, 3, 2, 5, 4]),  # window 1 has no clip
        ([1, 1, 1], TimeLimits(2.0), [2, 1, 1e-6, 1e-6]),
        ([2, 2, 2, 2], TimeLimits(5.0, 7.0), [5, 5, 5, 4, 3]),
        ([2] * 4, TimeLimits(0.05), [0.05, 0.05, 0.05, 1e-6, 1e-6]),  # 3 seconds for the file
    ],
)
def test_each_window_has_the_time_that_is_left_of_its_own_limit_and_of_the_file(
    numbers: list[int], limits: TimeLimits, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[float] = []
    sent: list[Any] = []
    clock = [0.0]

    def read(file: Named) -> Iterator[PendingWindow]:
        for number in numbers:
            clock[0] += 1
            yield window(number)

    monkeypatch.setattr("foal_hf.annotate.workers.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(signal, "setitimer", lambda which, seconds: timers.append(seconds))
    _serve_file(SimpleNamespace(send=sent.append), Named("clip.mp4"), read, limits)  # type: ignore[arg-type]
    assert timers[1::2] == [0] * len(expected)
    assert timers[::2] == pytest.approx(expected)
    assert len(sent) == len(numbers) + 1 and sent[-1].seconds == len(numbers)


def test_a_server_that_is_interrupted_goes_on(pids: Callable[[], set[int]]) -> None:
    prepare_workers()
    server = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGINT)
    with DecodeWorkers[Named](read_or_fail, num_workers=1, limits=TimeLimits(60), num_ahead=2) as workers:
        assert len(list(workers.read([Named("good-1")]))) == 2
    assert multiprocessing.forkserver._forkserver._forkserver_pid == server  # type: ignore[attr-defined]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_that_are_interrupted_while_they_start_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the start of the threads and that of their processes."""
    starting, interrupted = threading.Event(), threading.Event()
    start = multiprocessing.context.ForkServerProcess.start

    def start_later(self: Any) -> None:
        starting.set()
        assert interrupted.wait(60)
        start(self)

    class Interrupting(queue.Queue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if not interrupted.is_set():
                assert starting.wait(60)
                interrupted.set()
                raise KeyboardInterrupt
            return super().get(block, timeout)

    monkeypatch.setattr(multiprocessing.context.ForkServerProcess, "start", start_later)
    monkeypatch.setattr(queue, "Queue", Interrupting)
    with DecodeWorkers[Named](read_or_fail, num_workers=2, limits=TimeLimits(60), num_ahead=2) as workers:
        with pytest.raises(KeyboardInterrupt):
            list(workers.read(Named("good-1") for _ in range(5)))
        assert not [thread for thread in threading.enumerate() if "serve" in thread.name]
    assert not multiprocessing.active_children()


def test_a_missing_decoder_ends_the_job() -> None:
    with pytest.raises(ImportError, match="no decoder here"):
        read_all("good", "missing")
    assert not multiprocessing.active_children()


def test_no_more_is_read_ahead_than_was_asked_for() -> None:
    handed: list[str] = []

    def files() -> Iterator[Named]:
        for number in range(101):
            handed.append(f"good-{number % 2}")
            yield Named(handed[-1])

    with DecodeWorkers[Named](read_or_fail, num_workers=1, limits=TimeLimits(60), num_ahead=2) as workers:
        reading = workers.read(files())
        for _ in range(5):
            next(reading)
        # What was taken, what waits in the queue, and what the worker has in its hand.
        assert len(handed) <= 5 + 2 + 2
        reading.close()
    assert not multiprocessing.active_children()


def test_workers_can_be_left_while_one_of_them_hangs() -> None:
    with DecodeWorkers[Named](read_or_fail, num_workers=2, limits=TimeLimits(600), num_ahead=1) as workers:
        reading = workers.read(Named(path) for path in ("hang-0", "good-1", "good-1", "good-1"))
        assert isinstance(next(reading), Read)
        reading.close()
    assert not multiprocessing.active_children()


def test_the_same_workers_read_again(pids: Callable[[], set[int]]) -> None:
    with DecodeWorkers[Named](read_or_fail, num_workers=1, limits=TimeLimits(60), num_ahead=2) as workers:
        for _ in range(2):
            assert len(list(workers.read([Named("good-1")]))) == 2
            assert len(pids()) == 1
        first = pids()
        assert len(list(workers.read([Named("crash-0"), Named("good-1")]))) == 3
        assert len(pids()) == 1 and pids() != first


def test_a_worker_is_replaced_before_what_its_decoders_keep_adds_up(
    pids: Callable[[], set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foal_hf.annotate.workers._FILES_PER_PROCESS", 3)
    seen = []
    with DecodeWorkers[Named](read_or_fail, num_workers=1, limits=TimeLimits(60), num_ahead=2) as workers:
        for _ in range(7):
            assert len(list(workers.read([Named("good-1")]))) == 2
            seen += sorted(pids())
    assert [seen.count(pid) for pid in dict.fromkeys(seen)] == [3, 3, 1]


@pytest.mark.parametrize("name", PRELOADED)
def test_what_workers_preload_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__name__ == name


def name_the_parent(file: Named) -> Iterator[PendingWindow]:
    raise MediaError(file.path, str(os.getppid()))
    yield window(0)


def test_workers_are_forked_from_a_server_that_has_imported_torch() -> None:
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # another test may have started it
    with DecodeWorkers[Named](name_the_parent, num_workers=1, limits=TimeLimits(60), num_ahead=2) as workers:
        (end,) = workers.read([Named("clip.mp4")])
    assert isinstance(end, Ended) and end.error is not None
    assert "libtorch" in Path(f"/proc/{end.error}/maps").read_text()


@pytest.fixture
def pids() -> Callable[[], set[int]]:
    """Gives the worker processes of now."""
    return lambda: {process.pid or 0 for process in multiprocessing.active_children()}
