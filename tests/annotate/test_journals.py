"""The journals and claims behind a job, without a model."""

import os
from pathlib import Path
from typing import Any

import pytest

from foal_hf.annotate.files import MediaPath
from foal_hf.annotate.job import Job
from foal_hf.annotate.journals import Journals, Record


def record(file: str, **fields: Any) -> Record:
    outcome = {"segments": (), "error_type": None, "error": None, "duration_seconds": 7.0, "seconds": 0.5}
    return Record(**{"file": file, **outcome, "attempts": 1, "size_bytes": -1, "modified_ns": -1, **fields})


def failed(file: str, **fields: Any) -> Record:
    return record(file, error_type="MediaError", error="is bad.", **fields)


def make_job(folder: Path) -> Job:
    return Job(folder / "results.parquet", {"weights": "13"}, folder, ["happy"])


def test_an_unfinished_last_line_is_not_taken_until_it_ends(tmp_path: Path) -> None:
    complete, unfinished = record("a.mp4").to_json(), record("b.mp4").to_json()
    journal = tmp_path / "0.jsonl"
    journal.write_text(f"{complete}\n{unfinished}")  # all but the line break
    journals = Journals(tmp_path)
    journals.refresh()
    assert list(journals.entries) == ["a.mp4"]
    journal.write_text(f"{complete}\n{unfinished}\n")
    journals.refresh()
    assert [found.file for found in journals.records(["a.mp4", "b.mp4"])] == ["a.mp4", "b.mp4"]


def test_a_claim_is_released_only_after_its_record_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    fsync = os.fsync

    def note_fsync(handle: int) -> None:
        events.append(os.readlink(f"/proc/self/fd/{handle}").rpartition("/")[2])
        fsync(handle)

    with make_job(tmp_path) as job:
        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(job._claims, "release", events.append)
        assert [task.name for task in job.take([MediaPath("a.mp4", "/none/a.mp4")])] == ["a.mp4"]
        job.add(record("a.mp4"))
        job.collect([])
        (journal,) = (path.name for path in job.folder.glob("*.jsonl"))
    assert events[:2] == [journal, "a.mp4"]


def test_retry_failed_tries_each_failed_file_once_and_no_other(tmp_path: Path) -> None:
    files = [MediaPath(name, f"/none/{name}") for name in ("bad.mp4", "good.mp4", "worse.mp4")]
    with make_job(tmp_path) as job:
        for outcome in (failed("bad.mp4"), record("good.mp4"), failed("worse.mp4")):
            job.add(outcome)
        job.collect(files)
    with make_job(tmp_path) as job:
        assert list(job.take(files)) == []
        tasks = job.take(files, retry_failed=True)
        first = next(tasks)
        assert (first.name, first.attempts) == ("bad.mp4", 2)
        with make_job(tmp_path) as other:  # another process retries the second one meanwhile, and it fails again
            other.add(failed("worse.mp4", attempts=2))
        assert list(tasks) == []
