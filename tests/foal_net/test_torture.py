"""Difficult media: each ends as stated, in the reader and in the pipeline, and leaves nothing behind."""

import contextlib
import faulthandler
import itertools
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from media_builders import beep_start, flash_start
from torture_media import CASES, RATE, Case, Workshop
from torture_server import bad_server
from transformers import pipeline

from foal_hf import TINY_CHECKPOINT, AudioVideoEmotionPipeline, MediaError
from foal_hf.foal_net import sources_foal_net
from foal_hf.foal_net.media_foal_net import Clip, MediaFile, read_clip
from foal_hf.foal_net.windows_foal_net import read_windows


SECONDS_A_FILE = 30  # behind that it hangs
MEGABYTES_A_FILE = 400
each_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with bad_server() as server:
        yield Workshop(tmp_path_factory.mktemp("torture"), server)


@pytest.fixture(scope="module")
def classify() -> AudioVideoEmotionPipeline:
    return pipeline("audio-video-emotion", model=str(TINY_CHECKPOINT))


@pytest.fixture(scope="module")
def good(workshop: Workshop, classify: AudioVideoEmotionPipeline) -> tuple[Clip, Any]:
    """What the good clip gives before anything else was read."""
    return read_clip(workshop.good), classify(str(workshop.good))


@pytest.fixture(autouse=True)
def small_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Servers that hang are given up soon, streams are cut early; temporary files are seen, and have to be gone."""
    monkeypatch.setattr(sources_foal_net, "WAIT_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(sources_foal_net, "DOWNLOAD_TIMEOUT_SECONDS", 0.6)
    for reader in (read_clip, MediaFile.__init__):
        monkeypatch.setitem(reader.__kwdefaults__, "max_bytes", 10_000_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def within_the_limit(name: str, function: Callable[[], Any]) -> Any:
    """What `function` gives or raises; the test fails with `name` if it hangs."""
    ended: list[tuple[Any, BaseException | None]] = []

    def run() -> None:
        try:
            ended.append((function(), None))
        except BaseException as error:
            ended.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS_A_FILE)
    if not ended:
        faulthandler.dump_traceback(sys.__stderr__)
        pytest.fail(f"'{name}' is still being read after {SECONDS_A_FILE} s.")
    value, error = ended[0]
    if error is not None:
        raise error
    return value


@contextlib.contextmanager
def nothing_kept() -> Iterator[None]:
    """No file stays open, and at no time is much memory taken."""
    process = psutil.Process()
    files = sorted((file.fd, file.path) for file in process.open_files())
    with contextlib.suppress(OSError):  # Linux can forget the peak of the memory; elsewhere it is not looked at
        Path("/proc/self/clear_refs").write_text("5")
    before = peak_megabytes()
    yield
    assert sorted((file.fd, file.path) for file in process.open_files()) == files
    assert peak_megabytes() - before < MEGABYTES_A_FILE


def peak_megabytes() -> int:
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(peak[1]) // 1024 if peak else 0


def opened(source: Any, **options: Any) -> MediaFile:
    """A source, or a row of the pipeline."""
    if isinstance(source, dict) and "audio" in source:
        rate = source.get("sampling_rate")
        return MediaFile(audio=source["audio"], video=source.get("video"), source_sampling_rate=rate, **options)
    return MediaFile(source, **options)


def read(source: Any) -> Clip:
    """A source, or a row of the pipeline, with the reader."""
    if isinstance(source, dict) and "audio" in source:
        rate = source.get("sampling_rate")
        return read_clip(audio=source["audio"], video=source.get("video"), source_sampling_rate=rate)
    return read_clip(source)


def check_clip(clip: Clip, case: Case) -> None:
    stated = case.outcome
    assert clip.modalities == stated.modalities
    assert stated.ends is None or clip.end_seconds == pytest.approx(stated.ends, abs=0.1)
    if clip.waveform is not None:
        assert torch.isfinite(clip.waveform).all()
        assert len(clip.waveform) <= (clip.end_seconds + 1e-3) * RATE
        assert stated.beep is None or beep_start(clip.waveform, RATE) == pytest.approx(stated.beep, abs=0.05)
        assert stated.is_silent is None or (clip.waveform.abs().max() < 1e-3) == stated.is_silent
    if clip.frames is not None and clip.frame_seconds is not None:
        assert stated.flash is None or flash_start(clip.frames, clip.frame_seconds) == pytest.approx(stated.flash)
        assert stated.size in (None, tuple(clip.frames.shape[:1:-1]))
        assert stated.num_frames in (None, len(clip.frames))


@each_case
def test_reading_ends_as_stated(case: Case, workshop: Workshop, good: tuple[Clip, Any]):
    source = case.give(workshop)
    with nothing_kept():
        if case.outcome.error is None:
            check_clip(within_the_limit(case.name, lambda: read(source)), case)
        else:
            with pytest.raises(case.outcome.error, match=case.outcome.says) as caught:
                within_the_limit(case.name, lambda: read(source))
            assert type(caught.value) is case.outcome.error
        again = read_clip(workshop.good)
    assert again.waveform.equal(good[0].waveform) and again.frames.equal(good[0].frames)


def stretches(source: Any, *, in_order: bool) -> list[Clip] | tuple[type[Exception], str]:
    """The first stretches of a source, half a second each, or the error that came before one."""
    try:
        with opened(source, in_order=in_order) as media:
            windows = {"window_seconds": 1.0, "stride_seconds": 0.5}
            return [stride.segment for stride in itertools.islice(read_windows(media, **windows), 8)]
    except (MediaError, TypeError, ValueError) as error:
        return type(error), str(error)


def loudness(waveform: torch.Tensor) -> float:
    return waveform.square().mean().sqrt().item()


@each_case
def test_what_is_read_in_order_is_what_is_read_at_once(case: Case, workshop: Workshop):
    # Pictures as where reads may go anywhere. Sound as in one read: decoders that begin in the middle give other sound.
    anywhere = within_the_limit(case.name, lambda: stretches(case.give(workshop), in_order=False))
    in_order = within_the_limit(case.name, lambda: stretches(case.give(workshop), in_order=True))
    if isinstance(anywhere, tuple) or isinstance(in_order, tuple):
        assert in_order == anywhere
        return
    with opened(case.give(workshop)) as media:
        whole = media.read(0.0, 4.0).waveform
    assert len(in_order) == len(anywhere)
    for clip, same in zip(in_order, anywhere, strict=True):
        assert (clip.frames is None) == (same.frames is None)
        assert clip.frames is None or clip.frames.equal(same.frames)
        if clip.waveform is not None:
            at = round(clip.start_seconds * RATE)
            expected = whole[at : at + len(clip.waveform)]
            assert loudness(clip.waveform[: len(expected)]) == pytest.approx(loudness(expected), abs=0.05)
    if case.outcome.beep is not None and whole is not None:
        heard = torch.zeros(round(in_order[-1].end_seconds * RATE))
        for clip in in_order:
            if clip.waveform is not None:
                at = round(clip.start_seconds * RATE)
                heard[at : at + len(clip.waveform)] = clip.waveform
        assert beep_start(heard, RATE) == pytest.approx(beep_start(whole, RATE), abs=0.005)


@each_case
def test_the_pipeline_ends_the_same(
    case: Case, workshop: Workshop, classify: AudioVideoEmotionPipeline, good: tuple[Clip, Any]
):
    source = case.give(workshop)
    source = str(source) if isinstance(source, Path) else source
    with nothing_kept():
        result = within_the_limit(case.name, lambda: classify(source, on_error="skip", return_embeddings=True))
        again = classify(str(workshop.good))
    assert again == good[1]
    check_result(result, case)


def check_result(result: dict[str, Any], case: Case) -> None:
    stated = case.outcome
    if stated.error is not None:
        assert result["error_type"] == stated.error.__name__
        assert re.search(stated.says, result["error"]) or stated.error is not MediaError
    elif stated.too_short:
        assert "give a longer clip" in result["error"]
    else:
        assert tuple(result["modalities"]) == stated.modalities
        assert sum(entry["score"] for entry in result["scores"]) == pytest.approx(1.0, abs=1e-4)


def test_one_call_survives_all_of_them(workshop: Workshop, classify: AudioVideoEmotionPipeline):
    sources = [case.give(workshop) for case in CASES]
    sources = [str(source) if isinstance(source, Path) else source for source in sources]
    with nothing_kept():
        results = classify(sources, on_error="skip", return_embeddings=True, batch_size=5)
    assert len(results) == len(CASES)
    for case, result in zip(CASES, results, strict=True):
        check_result(result, case)


def test_the_set_is_large_and_every_kind_has_its_name():
    assert len(CASES) == 158  # CHANGELOG.md says so
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_time_limit_names_what_hangs(monkeypatch: pytest.MonkeyPatch):
    released = threading.Event()
    monkeypatch.setattr(sys.modules[__name__], "SECONDS_A_FILE", 0.05)
    with pytest.raises(pytest.fail.Exception, match="'a film that hangs' is still being read"):
        within_the_limit("a film that hangs", released.wait)
    released.set()
