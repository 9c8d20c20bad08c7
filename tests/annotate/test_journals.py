"""The journals and claims behind a job, without a model."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from foal_hf.annotate.files import MediaPath, key_of
from foal_hf.annotate.job import Job, JobPaths
from foal_hf.annotate.journals import Journals, Record, Segment


def record(file: str, **fields: Any) -> Record:
    outcome = {"segments": (), "error_type": None, "error": None, "duration_seconds": 7.0, "seconds": 0.5}
    return Record(**{"file": file, **outcome, "attempts": 1, "size_bytes": -1, "modified_ns": -1, **fields})


def failed(file: str, **fields: Any) -> Record:
    return record(file, error_type="MediaError", error="is bad.", **fields)


def make_job(folder: Path) -> Job:
    return Job(JobPaths.of(folder / "results.parquet"), {"weights": "13"}, folder, ["happy"])


def test_an_unfinished_last_line_is_not_taken_until_it_ends(tmp_path: Path) -> None:
    complete, unfinished = record("a.mp4").to_json(), record("b.mp4").to_json()
    journal = tmp_path / "0.jsonl"
    journal.write_text(f"{complete}\n{unfinished}")  # all but the line break
    journals = Journals(tmp_path)
    journals.refresh()
    assert list(journals.entries) == [key_of("a.mp4", None, None)]
    journal.write_text(f"{complete}\n{unfinished}\n")
    journals.refresh()
    assert [found.file for found in journals.records(sorted(journals.entries))] == ["a.mp4", "b.mp4"]


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
    assert events[:2] == [journal, key_of("a.mp4", None, None)]


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


GOOD = json.loads(
    record(
        "a.mp4",
        segments=(Segment(0.0, 1.5, "happy", {"happy": 1.0}, ("audio",), None, {"audio": {"silent": False}}),),
    ).to_json()
)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {"file": "a.mp4"},
        GOOD | {"file": ["a.mp4"]},
        GOOD | {"attempts": "1"},
        GOOD | {"attempts": 2**40},
        GOOD | {"size_bytes": 2**70},
        GOOD | {"segments": [[]]},
        GOOD | {"segments": [GOOD["segments"][0] | {"scores": ["happy"]}]},
        GOOD | {"segments": [GOOD["segments"][0] | {"scores": {"happy": "1"}}]},
        GOOD | {"segments": [GOOD["segments"][0] | {"label": 3}]},
        GOOD | {"segments": [GOOD["segments"][0] | {"evidence": {"audio": [1]}}]},
    ],
)
def test_json_of_a_wrong_form_is_reported_and_its_file_annotated_again(
    tmp_path: Path, fields: Any, caplog: pytest.LogCaptureFixture
) -> None:
    file = MediaPath("a.mp4", "/none/a.mp4")
    with make_job(tmp_path) as job:
        (job.folder / "0.jsonl").write_text(json.dumps(fields) + "\n")
    with make_job(tmp_path) as job:
        assert "0.jsonl has a damaged line" in caplog.text
        assert [task.name for task in job.take([file])] == ["a.mp4"]
        assert job.collect([file]) == {"done": 0, "failed": 0, "pending": 1}
        job.add(Record.from_json(json.dumps(GOOD)))
        assert job.collect([file]) == {"done": 1, "failed": 0, "pending": 0}


@pytest.mark.parametrize("content", ["", "[]", '{"description": 3, "root": "/"}', "\0"])
def test_a_damaged_job_says_what_to_delete(tmp_path: Path, content: str) -> None:
    with make_job(tmp_path) as job:
        path = job.folder / "job.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"job\.json is damaged\. To annotate all files again, delete .*results\.job"):
        make_job(tmp_path)


@pytest.mark.parametrize("name", ["claims", "job.json"])
def test_a_planted_link_is_not_followed(tmp_path: Path, name: str) -> None:
    with make_job(tmp_path) as job:
        path = job.folder / name
    victim = tmp_path / "victim"
    victim.write_text(path.read_text())
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match=rf"{name} is a symbolic link, device or pipe"):
        make_job(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match=rf"{name} is a symbolic link, device or pipe|{name}"):
        make_job(tmp_path)


def test_a_planted_journal_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text(json.dumps(GOOD) + "\n")
    with make_job(tmp_path) as job:
        (job.folder / "0.jsonl").symlink_to(tmp_path / "victim")
        os.mkfifo(job.folder / "1.jsonl")
    with make_job(tmp_path) as job:
        assert job.collect([MediaPath("a.mp4", "/none/a.mp4")]) == {"done": 0, "failed": 0, "pending": 1}


def test_tables_that_a_killed_process_left_unfinished_are_deleted(tmp_path: Path) -> None:
    left = [".results.0123abcd.partial.parquet", ".results.manifest.0123abcd.partial.parquet"]
    kept = [".results.other.0123abcd.partial.parquet", ".results.partial.parquet"]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    with make_job(tmp_path):
        assert {path.name for path in tmp_path.glob(".*")} == set(kept)


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with make_job(tmp_path) as job:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            with pytest.raises(OSError, match=r"No space left on device: '.*\.jsonl'"):
                job.add(record("a.mp4"))
        with monkeypatch.context() as patch:
            patch.setattr("pyarrow.parquet.ParquetWriter.write_table", fail)
            with pytest.raises(OSError, match=r"No space left on device: '.*results\.manifest\.parquet'"):
                job.collect([MediaPath("a.mp4", "/none/a.mp4")])


CLAIM = """
import sys
from pathlib import Path
from foal_hf.annotate.files import MediaPath
from foal_hf.annotate.job import Job, JobPaths

folder = Path(sys.argv[1])
job = Job(JobPaths.of(folder / "results.parquet"), {"weights": "13"}, folder, ["happy"])
tasks = job.take([MediaPath(name, f"/none/{name}") for name in ("a.mp4", "b.mp4")])
print(next(tasks).name, next(tasks).name, flush=True)
sys.stdin.read()
"""


def test_the_files_of_a_killed_process_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [MediaPath(name, f"/none/{name}") for name in ("a.mp4", "b.mp4", "c.mp4")]
    with make_job(tmp_path) as job:
        other = subprocess.Popen(
            [sys.executable, "-c", CLAIM, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None and other.stdout.readline() == "a.mp4 b.mp4\n"
        assert [task.name for task in job.take(files)] == ["c.mp4"]
        job.add(record("c.mp4"))

        def kill(seconds: float) -> None:
            with make_job(tmp_path) as third:  # this one was done in time
                third.add(record("a.mp4"))
            other.kill()
            other.communicate()

        monkeypatch.setattr(time, "sleep", kill)
        assert job.wait_for_others() == [files[1]]
        assert other.returncode == -signal.SIGKILL
        assert [task.name for task in job.take([files[1]])] == ["b.mp4"]
        job.add(record("b.mp4"))
        assert job.wait_for_others() == []
        assert job.collect(files) == {"done": 3, "failed": 0, "pending": 0}
