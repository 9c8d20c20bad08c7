"""The pipeline with its recordings read in another process."""

import functools
from pathlib import Path
from typing import Any

import pytest
from media_builders import make_clip
from test_annotate_workers import Named, read_or_fail

from foal_hf import TINY_CHECKPOINT, AudioVideoEmotionPipeline, MediaError
from foal_hf.annotate.isolated import IsolatedPipeline, _read_source, _windows
from foal_hf.annotate.workers import DecodeWorkers, TimeLimits
from foal_hf.registration import load_pipeline


def read_path(path: str) -> Any:
    return read_or_fail(Named(path))


def test_recordings_that_hang_or_crash_the_decoder_are_errors_that_name_them() -> None:
    read = functools.partial(_read_source, read_path)
    with DecodeWorkers[Any](read, num_workers=1, limits=TimeLimits(2.0), num_ahead=2) as workers:
        assert len(list(_windows(workers, "good-2"))) == 2
        with pytest.raises(TimeoutError, match=r"^hang-1: was not read within the time limit of 2 s for a clip"):
            list(_windows(workers, "hang-1"))
        with pytest.raises(RuntimeError, match=r"^crash-1: crashed the decoder process \(SIGSEGV\)"):
            list(_windows(workers, "crash-1"))
        with pytest.raises(MediaError, match=r"^bad-0: is bad\.$"):
            list(_windows(workers, "bad-0"))
        with pytest.raises(KeyError, match="wrong-0"):
            list(_windows(workers, "wrong-0"))
        assert len(list(_windows(workers, "good-1"))) == 1


@pytest.mark.slow
def test_results_are_those_of_the_pipeline(tmp_path: Path) -> None:
    clip = str(
        make_clip(tmp_path / "clip.mp4", video="testsrc=s=62x46:r=10:d=2", audio="sine=frequency=300:duration=2")
    )
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 101)
    files = [clip, str(tmp_path / "bad.mp4"), clip]
    plain: Any = load_pipeline()
    assert isinstance(plain, AudioVideoEmotionPipeline)
    with load_pipeline(TINY_CHECKPOINT, "cpu", pipeline_class=IsolatedPipeline) as isolated:
        for settings in ({}, {"window_seconds": 1.0, "stride_seconds": 0.5}):
            found, expected = (each(files, on_error="skip", **settings) for each in (isolated, plain))
            errors = [results.pop(1) for results in (found, expected)]
            assert found == expected
            assert [error["error_type"] for error in errors] == ["MediaError"] * 2
            assert all(error["error"].startswith(f"{files[1]}: cannot be decoded") for error in errors)
