"""Whole archives: the tables, killed jobs that resume, several processes on one job, and bad files."""

import fcntl
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from media_builders import make_clip
from requirements import need
from tiny_models import tiny_model
from tiny_processors import tiny_processor
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline
from foal_hf.annotate import Summary, annotate
from foal_hf.annotate.journals import Journals, Record
from foal_hf.annotate.workers import TimeLimits


LABELS = ("happy", "neutral", "sad", "angry")
SCORES = [f"score_{label}" for label in LABELS]
EVIDENCE = [f"audio_{name}" for name in ("level_dbfs", "silent", "clipped", "speech", "speech_share")]
EVIDENCE += ["video_black", "video_frozen"]
NUM_GOOD = 11  # in the archive


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classify(checkpoint: Path) -> AudioVideoEmotionPipeline:
    return pipeline("audio-video-emotion", model=str(checkpoint))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips with different contents; one has no audio and one no video."""
    folder = tmp_path_factory.mktemp("made")
    for number in range(NUM_GOOD):
        color = f"color=c=0x{number * 20:02x}40{250 - number * 20:02x}:s=62x46:r=30:d=1.{number:02d}"
        tone = f"sine=frequency={200 + 97 * number}:sample_rate=16000:duration=1.{number:02d}"
        path = folder / f"{'a' if number % 2 else 'b'}" / f"clip-{number:02d}.{'wav' if number == 3 else 'mp4'}"
        path.parent.mkdir(exist_ok=True)
        make_clip(path, video=None if number == 3 else color, audio=None if number == 4 else tone)
    return folder


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "archive"))


@pytest.fixture
def run(archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline) -> Callable[..., Summary]:
    """Annotates the archive to `results.parquet`."""

    def run(**settings: Any) -> Summary:
        settings = {"model": classify, "batch_size": 3, "num_workers": 1, "progress": False, **settings}
        return annotate(settings.pop("sources", archive), tmp_path / "results.parquet", **settings)

    return run


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(path).to_pylist()


def manifest_of(summary: Summary) -> dict[str, SimpleNamespace]:
    rows = rows_of(summary.manifest)
    assert len({row["file"] for row in rows}) == len(rows)
    return {row["file"]: SimpleNamespace(**row) for row in rows}


def lines_of(summary: Summary) -> list[Record]:
    """Everything that was ever written down, in all journals."""
    journals = summary.results.with_suffix(".job").glob("*.jsonl")
    return [Record.from_json(line) for path in journals for line in path.read_text().splitlines()]


def assert_complete(summary: Summary, archive: Path, classify: AudioVideoEmotionPipeline) -> None:
    """Every file of the archive is in the results once, with the pipeline's own scores."""
    rows = rows_of(summary.results)
    files = sorted(path.relative_to(archive).as_posix() for path in archive.rglob("*.*"))
    assert [row["file"] for row in rows] == files
    for row, answer in zip(rows, classify([str(archive / file) for file in files]), strict=True):
        assert {label: row[f"score_{label}"] for label in LABELS} == pytest.approx(
            {entry["label"]: entry["score"] for entry in answer}, abs=1e-5
        )
        assert row["label"] == answer[0]["label"]


# The tables


def test_results_are_those_of_the_pipeline(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    summary = run()
    assert (summary.num_files, summary.num_done, summary.num_failed, summary.num_pending) == (NUM_GOOD, NUM_GOOD, 0, 0)
    assert summary.num_annotated == NUM_GOOD and 0 < summary.model_seconds < summary.seconds
    assert_complete(summary, archive, classify)
    rows = {row["file"]: row for row in rows_of(summary.results)}
    assert {row["reason"] for row in rows.values()} == {None}
    assert list(rows["b/clip-00.mp4"]) == [
        "file",
        "start_seconds",
        "end_seconds",
        "label",
        "score",
        *SCORES,
        "modalities",
        *EVIDENCE,
        "reason",
        "notes",
    ]
    assert rows["b/clip-00.mp4"]["modalities"] == ["audio", "video"]
    assert rows["a/clip-03.wav"]["modalities"] == ["audio"]
    assert rows["b/clip-04.mp4"]["modalities"] == ["video"]
    assert rows["a/clip-07.mp4"]["start_seconds"] == 0
    assert rows["a/clip-07.mp4"]["end_seconds"] == pytest.approx(1.07, abs=0.05)


def test_results_do_not_depend_on_batches_and_workers(
    run: Callable[..., Summary], archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline
) -> None:
    one = rows_of(run().results)
    settings = {"model": classify, "batch_size": 4, "num_workers": 3, "progress": False}
    for row, other in zip(one, rows_of(annotate(archive, tmp_path / "other.parquet", **settings).results), strict=True):
        names = ["score", *SCORES]
        assert [row.pop(name) for name in names] == pytest.approx([other.pop(name) for name in names], abs=1e-5)
        assert row == other


def test_a_modality_can_be_chosen(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    summary = run(modality="audio")
    rows = {row["file"]: row for row in rows_of(summary.results)}
    expected = classify(str(archive / "b/clip-00.mp4"), modality="audio")
    assert {label: rows["b/clip-00.mp4"][f"score_{label}"] for label in LABELS} == pytest.approx(
        {entry["label"]: entry["score"] for entry in expected}, abs=1e-5
    )
    silent = manifest_of(summary)["b/clip-04.mp4"]
    assert (silent.status, silent.error) == ("failed", "holds no audio.")


def test_windows_give_the_segments_of_the_pipeline(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    (archive / "broken.mp4").write_bytes(b"\0" * 101)
    windows = {"window_seconds": 0.5, "stride_seconds": 0.2}
    summary = run(**windows)
    rows = rows_of(summary.results)
    manifest = manifest_of(summary)
    assert manifest.pop("broken.mp4").status == "failed"
    for file, about in manifest.items():
        expected = classify(str(archive / file), **windows, detect_speech=False)
        given = [row for row in rows if row["file"] == file]
        assert len(given) == len(expected) == about.num_segments > 3
        for row, segment in zip(given, expected, strict=True):
            assert {label: row[f"score_{label}"] for label in LABELS} == pytest.approx(
                {entry["label"]: entry["score"] for entry in segment["scores"]}, abs=1e-5
            )
            for name in ("start_seconds", "end_seconds", "label", "reason"):
                assert row[name] == segment[name]
            assert tuple(row["modalities"]) == segment["modalities"]


def test_a_long_file_has_one_row_for_all_of_it_or_for_its_first_seconds(
    archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline
) -> None:
    sweep = "aevalsrc=0.3*sin(2*PI*(200+40*t)*t):s=22050:d=7.3"
    long = make_clip(archive / "long.mp4", video="testsrc=s=62x46:r=10:d=7.3", audio=sweep)
    scores = []
    for number, settings in enumerate(({}, {"first_seconds": 2.0})):
        output = tmp_path / f"long-{number}.parquet"
        summary = annotate([long], output, model=classify, num_workers=1, progress=False, **settings)
        (row,) = rows_of(summary.results)
        expected = {entry["label"]: entry["score"] for entry in classify(long, **settings)}
        scores.append({label: row[f"score_{label}"] for label in LABELS})
        assert scores[-1] == pytest.approx(expected, abs=1e-5)
        assert (row["start_seconds"], row["end_seconds"]) == (
            0,
            pytest.approx(settings.get("first_seconds", 7.3), abs=0.05),
        )
    assert scores[0] != pytest.approx(scores[1], abs=1e-3)


def test_the_manifest_has_what_the_reader_changed(tmp_path: Path, classify: AudioVideoEmotionPipeline) -> None:
    opposite = "aevalsrc=0.3*sin(2*PI*440*t)|-0.3*sin(2*PI*440*t):s=16000:d=1"
    file = make_clip(tmp_path / "opposite.wav", video=None, audio=opposite)
    plain = make_clip(tmp_path / "plain.wav", video=None)
    for settings in ({}, {"window_seconds": 0.5}):
        output = tmp_path / f"results-{len(settings)}.parquet"
        summary = annotate(
            [file, plain], output, model=classify, root=tmp_path, num_workers=1, progress=False, **settings
        )
        notes = {name: row.notes for name, row in manifest_of(summary).items()}
        assert "cancel" in notes["opposite.wav"] and notes["plain.wav"] is None


def test_ranges_of_a_list_are_annotated_separately(
    run: Callable[..., Summary], archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline
) -> None:
    clip = make_clip(archive / "long.mp4", video="testsrc=s=62x46:r=10:d=3", audio="aevalsrc=sin(300*t*t):s=16000:d=3")
    rows = ["long.mp4,0,1", "long.mp4,1.5,", "b/clip-00.mp4,,", "missing.mp4,1,2"]
    table = archive / "list.csv"
    table.write_text("\n".join(["file, start_seconds, end_seconds", *rows]))
    for number in (3, 0):  # a second run finds all of it done
        summary = run(sources=table)
        assert (summary.num_annotated, summary.num_done, summary.num_failed) == (number + (number == 3), 3, 1)
    first, second = (row for row in rows_of(summary.results) if row["file"] == "long.mp4")
    for row, part in ((first, {"start_seconds": 0.0, "end_seconds": 1.0}), (second, {"start_seconds": 1.5})):
        expected = classify(str(clip), **part, return_evidence=True, detect_speech=False)
        assert {label: row[f"score_{label}"] for label in LABELS} == pytest.approx(
            {entry["label"]: entry["score"] for entry in expected["scores"]}, abs=1e-5
        )
        assert row["start_seconds"] == part["start_seconds"]
        assert row["end_seconds"] == pytest.approx(part.get("end_seconds", 3.0), abs=0.1)
        assert row["score"] == max(row[name] for name in SCORES)
        assert row["audio_level_dbfs"] == expected["evidence"]["audio"]["level_dbfs"]
        assert (row["audio_silent"], row["audio_speech"], row["video_black"]) == (False, None, False)
    ranges = [(row["file"], row["start_seconds"], row["end_seconds"]) for row in rows_of(summary.manifest)]
    assert ranges == [
        ("b/clip-00.mp4", None, None),
        ("long.mp4", None, 1.0),
        ("long.mp4", 1.5, None),
        ("missing.mp4", 1.0, 2.0),
    ]


def test_without_a_clear_score_there_is_no_label(run: Callable[..., Summary], archive: Path) -> None:
    black = "color=c=black:s=62x46:r=30:d=1"
    make_clip(archive / "dark.mp4", video=black, audio="anullsrc=sample_rate=16000:duration=1")
    rows = {row["file"]: row for row in rows_of(run(modality="auto", min_score=1.0).results)}
    unsure, dark = rows["b/clip-00.mp4"], rows["dark.mp4"]
    assert unsure["label"] is None and "below 1" in unsure["reason"] and unsure["score_sad"] > 0
    assert dark["label"] is None and dark["score_sad"] is None and dark["modalities"] == []
    assert dark["reason"] == "nothing to score: the audio is silent, the video is black"


def test_the_manifest_has_the_status_and_error_of_each_file(run: Callable[..., Summary], archive: Path) -> None:
    (archive / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(5003))
    (archive / "empty.mp4").touch()
    (archive / "playlist.mp4").write_text("#EXTM3U\n/secret/other.mp4\n")
    os.mkfifo(archive / "pipe.mp4")
    summary = run()
    manifest = manifest_of(summary)
    assert (summary.num_done, summary.num_failed, summary.num_files) == (NUM_GOOD, 4, NUM_GOOD + 4)
    assert list(manifest) == sorted(manifest)
    good = manifest["b/clip-06.mp4"]
    assert (good.status, good.error_type, good.error, good.attempts, good.num_segments) == ("done", None, None, 1, 1)
    assert good.duration_seconds == pytest.approx(1.06, abs=0.05)
    assert good.size_bytes == (archive / "b/clip-06.mp4").stat().st_size
    assert good.seconds_spent > 0 and len(good.fingerprint) == 64
    for file, error in (
        ("empty", "is empty (0 bytes)"),
        ("playlist", "is a playlist"),
        ("pipe", "is a device or pipe"),
    ):
        bad = manifest[f"{file}.mp4"]
        assert (bad.status, bad.error_type, bad.num_segments) == ("failed", "MediaError", 0) and error in bad.error
    assert str(archive) not in "".join(str(row.error) for row in manifest.values())
    assert "broken.mp4" not in {row["file"] for row in rows_of(summary.results)}


def test_nothing_is_written_but_the_output(run: Callable[..., Summary], archive: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.rglob("*")}
    run()
    assert {path: path.stat().st_mtime_ns for path in archive.rglob("*")} == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "archive",
        "results.parquet",
        "results.manifest.parquet",
        "results.job",
    }


def test_an_output_inside_the_archive_is_not_annotated(archive: Path, classify: AudioVideoEmotionPipeline) -> None:
    settings = {"model": classify, "num_workers": 1, "progress": False, "all_files": True}
    for _ in range(2):
        summary = annotate(archive, archive / "results.parquet", **settings)
        assert (summary.num_files, summary.num_done) == (NUM_GOOD, NUM_GOOD)


def test_a_name_that_is_not_utf_8_is_escaped_in_the_manifest(
    archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline
) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    shutil.copy(archive / "a/clip-01.mp4", path)
    settings = {"model": classify, "num_workers": 1, "root": tmp_path, "progress": False}
    summary = annotate([os.fsdecode(path)], tmp_path / "r.parquet", **settings)
    assert {name: row.status for name, row in manifest_of(summary).items()} == {"caf\\xe9.mp4": "done"}


# Killed, interrupted, and started again


def annotate_until_killed(archive: Path, output: Path, checkpoint: Path, num_records: int, moment: str) -> None:
    """Run by a child: annotate, and kill itself at a record, as `kill -9` would."""
    add = Journals.add
    added: list[Record] = []

    def add_or_die(self: Journals, record: Record) -> None:
        added.append(record)
        if len(added) < num_records:
            add(self, record)
            return
        if moment == "after the line":
            add(self, record)
        else:
            os.write(self._handle, record.to_json().encode()[:41])  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    Journals.add = add_or_die  # type: ignore[method-assign]
    annotate(archive, output, model=str(checkpoint), batch_size=2, num_workers=1, progress=False)


@pytest.mark.slow
def test_a_job_that_is_killed_repeatedly_neither_repeats_nor_loses_a_file(
    run: Callable[..., Summary], archive: Path, tmp_path: Path, checkpoint: Path, classify: AudioVideoEmotionPipeline
) -> None:
    written = 0
    for num_records, moment in ((3, "in the line"), (2, "after the line")):
        arguments = (archive, tmp_path / "results.parquet", checkpoint, num_records, moment)
        child = multiprocessing.get_context("forkserver").Process(target=annotate_until_killed, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        written += num_records - (moment != "after the line")
    assert not (tmp_path / "results.parquet").exists()
    summary = run()
    assert summary.num_annotated == NUM_GOOD - written
    assert summary.num_done == NUM_GOOD
    assert_complete(summary, archive, classify)
    assert {row.attempts for row in manifest_of(summary).values()} == {1}


def test_a_finished_job_annotates_nothing_again(run: Callable[..., Summary], archive: Path) -> None:
    first = run()
    before = rows_of(first.results)
    again = run()
    assert again.num_annotated == 0 and rows_of(again.results) == before
    assert len(lines_of(again)) == NUM_GOOD


def test_new_and_changed_files_are_added(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    (archive / "a/clip-01.mp4").rename(archive.parent / "later.mp4")
    (archive / "b/clip-02.mp4").write_bytes(b"\0" * 101)
    first = run()
    assert (first.num_done, first.num_failed) == (NUM_GOOD - 2, 1)
    (archive.parent / "later.mp4").rename(archive / "a/clip-01.mp4")
    shutil.copy(archive / "b/clip-04.mp4", archive / "b/clip-02.mp4")
    second = run()
    assert (second.num_annotated, second.num_done, second.num_failed) == (2, NUM_GOOD, 0)
    assert manifest_of(second)["b/clip-02.mp4"].attempts == 2
    assert_complete(second, archive, classify)


def test_ctrl_c_leaves_tables_of_what_is_done(
    run: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Journals.add

    def add_or_interrupt(self: Journals, record: Record) -> None:
        add(self, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(Journals, "add", add_or_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not multiprocessing.active_children()
    (row,) = rows_of(tmp_path / "results.parquet")
    status = {row["file"]: row["status"] for row in rows_of(tmp_path / "results.manifest.parquet")}
    assert status.pop(row["file"]) == "done"
    assert list(status.values()) == ["pending"] * (NUM_GOOD - 1)
    monkeypatch.undo()
    summary = run()
    assert (summary.num_annotated, summary.num_done) == (NUM_GOOD - 1, NUM_GOOD)


def test_a_damaged_line_costs_its_file_only(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    summary = run()
    (journal,) = summary.results.with_suffix(".job").glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[5] = b"\0" * (len(lines[5]) - 1) + b"\n"
    journal.write_bytes(b"".join(lines))
    assert run().num_annotated == 1
    assert_complete(summary, archive, classify)


# Several processes


def annotate_beside_another(archive: Path, output: Path, checkpoint: Path, both_began: Any) -> None:
    """Run by each of two children: annotate, and at the first record wait until the other has one too."""
    add = Journals.add
    waited: list[bool] = []

    def add_when_both(self: Journals, record: Record) -> None:
        if not waited:
            both_began.wait(120)
            waited.append(True)
        add(self, record)

    Journals.add = add_when_both  # type: ignore[method-assign]
    annotate(archive, output, model=str(checkpoint), batch_size=1, num_workers=1, progress=False)


@pytest.mark.slow
def test_two_processes_share_a_job(
    run: Callable[..., Summary], archive: Path, tmp_path: Path, checkpoint: Path, classify: AudioVideoEmotionPipeline
) -> None:
    context = multiprocessing.get_context("forkserver")
    arguments = (archive, tmp_path / "results.parquet", checkpoint, context.Barrier(2))
    children = [context.Process(target=annotate_beside_another, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    # The last of them has written the tables in full, without another call.
    assert [row["file"] for row in rows_of(tmp_path / "results.parquet")] == sorted(
        path.relative_to(archive).as_posix() for path in archive.rglob("*.*")
    )
    summary = run()
    assert summary.num_annotated == 0
    assert_complete(summary, archive, classify)
    lines = lines_of(summary)
    assert len(lines) == NUM_GOOD  # no file was done twice
    assert len(list((tmp_path / "results.job").glob("*.jsonl"))) == 2  # and both did some


def test_a_file_that_was_done_twice_comes_up_once(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline
) -> None:
    summary = run()
    (journal,) = summary.results.with_suffix(".job").glob("*.jsonl")
    twice = [json.loads(line) for line in journal.read_text().splitlines()]
    failed = [{**line, "segments": [], "error_type": "OSError", "error": "gone"} for line in twice[:2]]
    (journal.parent / "0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in failed + twice[2:]))
    assert run().num_annotated == 0
    assert_complete(summary, archive, classify)


# Bad files and bad luck


def test_failed_files_are_retried_on_request(run: Callable[..., Summary], archive: Path) -> None:
    for name in ("bad.mp4", "worse.mp4"):
        (archive / name).write_bytes(b"\0" * 101)
    assert run().num_failed == 2
    assert run().num_annotated == 0
    again = run(retry_failed=True)
    assert (again.num_annotated, again.num_failed, again.num_done) == (2, 2, NUM_GOOD)
    assert manifest_of(again)["bad.mp4"].attempts == 2
    assert manifest_of(again)["b/clip-00.mp4"].attempts == 1


@pytest.fixture
def blocked(archive: Path) -> Iterator[Path]:
    """A file that cannot be opened while a lease on it is held."""
    need("leases")
    path = archive / "a" / "blocked.mp4"
    shutil.copy(archive / "b/clip-00.mp4", path)
    handler = signal.signal(signal.SIGIO, signal.SIG_IGN)  # with it the system asks to give the lease back
    with path.open("r+b") as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield path
    signal.signal(signal.SIGIO, handler)


def test_a_file_that_blocks_fails_after_the_time_limit(run: Callable[..., Summary], blocked: Path) -> None:
    summary = run(time_limit_seconds=3)
    assert (summary.num_done, summary.num_failed) == (NUM_GOOD, 1)
    row = manifest_of(summary)["a/blocked.mp4"]
    assert (row.error_type, row.error) == ("TimeoutError", TimeLimits(3).error)


def test_a_clip_that_the_model_fails_on_fails_alone(
    run: Callable[..., Summary], classify: AudioVideoEmotionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = classify.forward

    def fail_without_sound(inputs: dict[str, Any]) -> Any:
        if any(clip.waveform is None for clip in inputs["clip"]):
            raise RuntimeError("out of memory")
        return forward(inputs)

    monkeypatch.setattr(classify, "forward", fail_without_sound)
    summary = run(batch_size=4)
    failed = {row.file: (row.error_type, row.error) for row in manifest_of(summary).values() if row.status == "failed"}
    assert failed == {"b/clip-04.mp4": ("RuntimeError", "out of memory")}
    monkeypatch.undo()
    assert run(retry_failed=True).num_done == NUM_GOOD


def test_a_file_whose_scores_are_not_finite_has_failed(
    run: Callable[..., Summary], classify: AudioVideoEmotionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = classify.forward

    def forget(inputs: dict[str, Any]) -> Any:
        outputs = forward(inputs)
        for row, clip in enumerate(inputs["clip"]):
            if clip.waveform is None:
                outputs["logits"][row] = torch.nan
        return outputs

    monkeypatch.setattr(classify, "forward", forget)
    summary = run(batch_size=NUM_GOOD)
    assert (summary.num_done, summary.num_failed) == (NUM_GOOD - 1, 1)
    row = manifest_of(summary)["b/clip-04.mp4"]
    assert (row.error_type, row.error) == ("ValueError", "the model's scores are not finite.")


def test_a_model_that_always_fails_ends_the_job(
    run: Callable[..., Summary], archive: Path, classify: AudioVideoEmotionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        shutil.copy(archive / "b/clip-00.mp4", archive / f"copy-{number}.mp4")

    def fail(inputs: dict[str, Any]) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(classify, "forward", fail)
    with pytest.raises(RuntimeError, match=r"fails on every file: RuntimeError: no such kernel"):
        run(batch_size=4)
    assert not multiprocessing.active_children()


# One output, one job


def test_results_of_two_models_never_mix(run: Callable[..., Summary]) -> None:
    summary = run()
    before = rows_of(summary.results)
    other = tiny_model(seed=1)
    with pytest.raises(ValueError, match=r"another model or other settings: other weights\. Choose another output"):
        run(model=AudioVideoEmotionPipeline(model=other, processor=tiny_processor()))
    with pytest.raises(ValueError, match=r"frames_per_second was 5\.0 and is now 7\.0"):
        run(model=AudioVideoEmotionPipeline(model=other, processor=tiny_processor(frames_per_second=7.0)))
    with pytest.raises(ValueError, match="modality was both and is now audio"):
        run(modality="audio")
    with pytest.raises(ValueError, match="window_seconds was None and is now 1"):
        run(window_seconds=1)
    assert rows_of(summary.results) == before


def test_the_same_model_loaded_again_is_the_same(run: Callable[..., Summary], checkpoint: Path) -> None:
    run()
    assert run(model=str(checkpoint), device="cpu", batch_size=2).num_annotated == 0


def test_names_from_two_folders_never_mix(run: Callable[..., Summary], archive: Path) -> None:
    run()
    with pytest.raises(ValueError, match=r"are relative to .*/archive, those of this job to .*/archive/a: two files"):
        run(sources=archive / "a")
    assert run(sources=archive / "a", root=archive).num_annotated == 0


def test_an_output_without_its_job_is_not_overwritten(run: Callable[..., Summary], tmp_path: Path) -> None:
    (tmp_path / "results.parquet").write_bytes(b"somebody's")
    with pytest.raises(ValueError, match=r"its job folder .*results\.job does not"):
        run()
    assert (tmp_path / "results.parquet").read_bytes() == b"somebody's"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "sound"}, "Unknown `modality` 'sound'; expected one of both, audio, video, auto"),
        ({"engine": "spark"}, "Unknown `engine` 'spark'; expected one of local, ray"),
        ({"batch_size": 0}, "`batch_size` has to be 1 or more, got 0"),
        ({"num_workers": 0}, "`num_workers` has to be 1 or more, got 0"),
        ({"time_limit_seconds": 0}, "`time_limit_seconds` has to be above 0, got 0"),
        ({"file_time_limit_seconds": -1}, "`file_time_limit_seconds` has to be above 0, got -1"),
        ({"window_seconds": float("nan")}, "`window_seconds` has to be above 0, got nan"),
        ({"stride_seconds": 3}, "`stride_seconds` has to be at most `window_seconds` = None, got 3"),
        ({"min_score": 2}, "`min_score` has to lie between 0 and 1, got 2"),
    ],
)
def test_invalid_arguments_are_named(run: Callable[..., Summary], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(**arguments)


def test_the_output_has_to_be_parquet(archive: Path, tmp_path: Path, classify: AudioVideoEmotionPipeline) -> None:
    with pytest.raises(ValueError, match=r"`output` has to end in \.parquet, got '.*results\.csv'"):
        annotate(archive, tmp_path / "results.csv", model=classify)


def test_a_larger_limit_of_a_frame_reads_what_had_failed(
    classify: AudioVideoEmotionPipeline, made: Path, tmp_path: Path
) -> None:
    clip = made / "b" / "clip-00.mp4"
    settings: dict[str, Any] = {"model": classify, "num_workers": 1}
    summary = annotate([clip], tmp_path / "table.parquet", max_pixels=100, **settings)
    assert (summary.num_done, summary.num_failed) == (0, 1)
    (row,) = pyarrow.parquet.read_table(summary.manifest).to_pylist()
    assert "above max_pixels = 100" in row["error"]
    summary = annotate([clip], tmp_path / "table.parquet", max_pixels=62 * 46, retry_failed=True, **settings)
    assert (summary.num_done, summary.num_failed) == (1, 0)
    with pytest.raises(ValueError, match="`max_pixels` has to be 1 or more, got 0"):
        annotate([clip], tmp_path / "other.parquet", max_pixels=0, **settings)
