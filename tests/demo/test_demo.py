"""What the page shows of a recording and does with it, without a browser."""

import base64
import csv
import html
import io
import json
import re
import shutil
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from media_builders import BEEP, make_clip

from foal_hf.cli import main
from foal_hf.demo.answer import TABLE_HEADERS, make_answer, mean_scores
from foal_hf.demo.explanation import describe_evidence
from foal_hf.demo.page import predict_recording
from foal_hf.demo.uploads import Uploads
from foal_hf.registration import TASK, TINY_CHECKPOINT, register


LABELS = ["calm", "<img src=x>", "${alert(1)}"]
NASTY = "<script>{{x}} `y` ${z}\"'&.mp4"


def segment(start: float, end: float, scores: list[float] | None = None, **fields: Any) -> dict[str, Any]:
    named = [{"label": label, "score": score} for label, score in zip(LABELS, scores or [], strict=bool(scores))]
    best = max(named, key=lambda entry: entry["score"], default={"label": None, "score": 0.0})
    return {
        "start_seconds": start,
        "end_seconds": end,
        **best,
        "scores": named,
        "reason": None if scores else "nothing to hear <or> see",
        "modalities": ("audio", "video") if scores else (),
        "evidence": {"audio": audio() if scores else None, "video": video() if scores else None},
        **fields,
    }


def audio(**fields: Any) -> dict[str, Any]:
    return {"level_dbfs": -23.1, "silent": False, "clipped": False, "speech": True, "speech_share": 0.5, **fields}


def video(**fields: Any) -> dict[str, Any]:
    return {"black": False, "frozen": False, **fields}


SEGMENTS = [segment(0.0, 3.0, [0.7, 0.2, 0.1]), segment(3.0, 8.0, [0.1, 0.6, 0.3]), segment(8.0, 10.0)]


def test_scores_of_a_recording_are_the_mean_over_its_segments() -> None:
    means = mean_scores(SEGMENTS, LABELS)
    assert list(means) == LABELS
    assert list(means.values()) == pytest.approx([(2.1 + 0.5) / 8, (0.6 + 3.0) / 8, (0.3 + 1.5) / 8])
    assert mean_scores([segment(0, 5)], LABELS) == {}


def test_an_answer_has_a_score_for_each_emotion_a_timeline_and_a_row_for_each_segment() -> None:
    answer = make_answer(SEGMENTS, LABELS, name="clip.mp4", modality="both")
    assert answer.label == mean_scores(SEGMENTS, LABELS)
    assert answer.about.splitlines()[:2] == [
        "clip.mp4, 10.0 s",
        f"perceived emotion: {LABELS[1]}, 45% on average over the recording",
    ]
    assert len(answer.timeline.axes) == 2
    assert answer.table == [
        ["0.00", "3.00", LABELS[0], "70%", "audio + video", "speech 50%"],
        ["3.00", "8.00", LABELS[1], "60%", "audio + video", "speech 50%"],
        ["8.00", "10.00", "nothing to hear <or> see", "", "nothing", ""],
    ]
    assert all(len(row) == len(TABLE_HEADERS) for row in answer.table)


def test_a_label_below_the_least_score_is_unsure() -> None:
    below = make_answer(SEGMENTS, LABELS, name="a", modality="both", min_score=0.47)
    assert below.label == "unsure" and f"highest score: {LABELS[1]}, 45%, which is below 47%" in below.about
    assert make_answer(SEGMENTS, LABELS, name="a", modality="both", min_score=0.43).label != "unsure"
    nothing = make_answer([segment(0, 5)], LABELS, name="a", modality="both", min_score=0.43)
    assert (nothing.label, nothing.timeline) == ("no prediction", None)
    assert "nothing to hear <or> see" in nothing.about


def test_a_file_name_in_the_links_becomes_neither_html_nor_a_template() -> None:
    links = make_answer(SEGMENTS, LABELS, name=NASTY, modality="both").downloads
    assert not re.search(r"<script|\$\{|\{\{|`", links)
    assert f'download="{NASTY.removesuffix(".mp4")}.json"' in html.unescape(links)


def test_downloads_hold_the_output_of_the_pipeline() -> None:
    answer = make_answer(SEGMENTS, LABELS, name="clip.of.mine.mp4", modality="both")
    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]*;base64,([^"]+)"', answer.downloads))
    assert list(links) == ["clip.of.mine.json", "clip.of.mine.csv", "clip.of.mine.vtt"]
    as_json, as_csv, as_vtt = (base64.b64decode(link).decode() for link in links.values())
    assert [entry["label"] for entry in json.loads(as_json)] == [LABELS[0], LABELS[1], None]
    assert [row["start_seconds"] for row in csv.DictReader(io.StringIO(as_csv))] == ["0.0", "3.0", "8.0"]
    assert as_vtt.startswith("WEBVTT")


@pytest.mark.parametrize(
    ("evidence", "modalities", "modality", "facts"),
    [
        (
            (audio(), video()),
            ("audio", "video"),
            "both",
            [
                "The prediction is based on audio and video.",
                "Speech was detected in 2.0 of 4.0 s.",
                "There is video throughout, neither black nor frozen.",
            ],
        ),
        (
            (audio(silent=True), video(frozen=True)),
            ("video",),
            "auto",
            [
                "The prediction is based on the video only.",
                "The audio is silent.",
                "The video is frozen.",
            ],
        ),
        (
            (audio(speech_share=0.0, clipped=True), None),
            ("audio",),
            "both",
            [
                "The prediction is based on the audio only.",
                "No speech was detected.",
                "The audio is clipped (recorded too loud).",
                "There is no video.",
            ],
        ),
        (
            (audio(speech_share=None), video()),
            ("audio",),
            "audio",
            [
                "The prediction is based on the audio only.",
                "Speech detection was not run: it needs the extra foal-hf[speech].",
                "The video was not used.",
            ],
        ),
        (
            (None, video(black=True)),
            (),
            "auto",
            ["There was no audio or video to predict from.", "There is no audio.", "The video is black."],
        ),
    ],
)
def test_an_answer_states_what_it_is_based_on(
    evidence: tuple[Any, Any], modalities: tuple[str, ...], modality: str, facts: list[str]
) -> None:
    found = {"evidence": dict(zip(("audio", "video"), evidence, strict=True)), "modalities": modalities}
    assert describe_evidence([segment(0.0, 4.0, [0.7, 0.2, 0.1], **found)], modality) == facts


def test_words_state_for_how_long() -> None:
    black = segment(5.0, 8.0, [0.7, 0.2, 0.1], modalities=("audio",))
    black["evidence"]["video"] = video(black=True)
    facts = describe_evidence([segment(0.0, 5.0, [0.7, 0.2, 0.1]), black], "auto")
    assert facts[0] == "The prediction is based on the audio and on the video in 5.0 of 8.0 s."
    assert facts[-1] == "The video is black in 3.0 of 8.0 s."


@pytest.fixture(scope="module")
def model() -> "Future[Any]":
    from transformers import pipeline

    register()
    loaded: Future[Any] = Future()
    loaded.set_result(pipeline(TASK))
    return loaded


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    """The page's folder, with another upload in it."""
    (tmp_path / "page" / "other").mkdir(parents=True)
    (tmp_path / "page" / "other" / "other.wav").touch()
    return Uploads(tmp_path / "page")


def test_a_prediction_reports_its_progress(model: "Future[Any]", tmp_path: Path) -> None:
    steps = []
    clip = make_clip(tmp_path / "clip.mp4")
    answer = predict_recording(
        model, str(clip), "auto", 2.0, 0.0, lambda done, **about: steps.append((done, about["desc"]))
    )
    assert steps == [((1, 3), "clip.mp4"), ((2, 3), "clip.mp4"), ((3, 3), "clip.mp4")]
    assert set(answer.label) == {"happy", "neutral", "sad", "angry"} and len(answer.table) == 3


@pytest.mark.parametrize("content", [b"", b"this is no video" * 97])
def test_an_unreadable_upload_is_reported_under_its_own_name(
    model: "Future[Any]", tmp_path: Path, content: bytes
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(content)
    answer = predict_recording(model, str(broken), "auto", 2.0, 0.0)
    assert answer.values() == ["no prediction", answer.about, None, None, ""]
    assert "The prediction failed." in answer.about and "broken.mp4" in answer.about
    assert str(tmp_path) not in answer.about


def test_an_error_of_the_program_is_reported_and_an_interrupt_is_raised(tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt if interrupted else AssertionError("an error")

    loaded: Future[Any] = Future()
    loaded.set_result(fail)
    clip, interrupted = make_clip(tmp_path / "clip.wav", video=None, audio=BEEP), False
    assert predict_recording(loaded, str(clip), "auto", 2.0, 0.0).about == "The prediction failed. an error"
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        predict_recording(loaded, str(clip), "auto", 2.0, 0.0)


def test_a_checkpoint_that_does_not_load_is_reported(tmp_path: Path) -> None:
    loaded: Future[Any] = Future()
    loaded.set_exception(OSError("no such checkpoint"))
    assert "no such checkpoint" in predict_recording(loaded, str(tmp_path / "clip.wav"), "auto", 2.0, 0.0).about


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [("broken", "The checkpoint .*broken cannot be loaded"), ("numbers", "predicts numbers .regression.")],
)
def test_a_broken_checkpoint_and_one_of_numbers_are_refused_in_a_sentence(
    tmp_path: Path, checkpoint: str, message: str
) -> None:
    from foal_hf.demo import _load_in_background

    folder = tmp_path / checkpoint
    shutil.copytree(TINY_CHECKPOINT, folder)
    if checkpoint == "broken":
        (folder / "model.safetensors").write_bytes(b"\0" * 7)
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "problem_type": "regression"}))
    model: Future[Any] = Future()
    _load_in_background(model, folder, "cpu")
    with pytest.raises(ValueError, match=message):
        model.result()


def test_an_upload_is_kept_once_it_is_claimed_even_if_its_timer_runs_out(
    uploads: Uploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[threading.Timer] = []
    monkeypatch.setattr(threading.Timer, "start", lambda timer: timers.append(timer))
    own = []
    for name in ("claimed.wav", "unclaimed.wav"):
        (uploads.folder / "gradio").mkdir()
        (uploads.folder / "gradio" / name).write_bytes(b"audio")
        own.append(uploads.add(uploads.folder / "gradio" / name))
    uploads.claim(str(own[0]), "session")
    assert [timer.finished.is_set() for timer in timers] == [True, False]
    for timer in timers:  # as if the first had run out just then
        timer.function(*timer.args, **timer.kwargs)
    assert own[0].exists() and not own[1].exists()
    uploads.discard_session("session")
    assert not own[0].parent.exists() and not own[1].parent.exists()


def test_equal_uploads_are_deleted_one_by_one(uploads: Uploads) -> None:
    own = []
    for _ in range(2):  # gradio gives both the same path
        (uploads.folder / "hash").mkdir(exist_ok=True)
        (uploads.folder / "hash" / "clip.mp4").write_bytes(b"the same")
        own.append(uploads.add(uploads.folder / "hash" / "clip.mp4"))
        uploads.claim(own[-1])
    assert not (uploads.folder / "hash").exists()  # its name would tell which recording it was
    uploads.discard(own[0])
    assert not own[0].parent.exists() and own[1].read_bytes() == b"the same"
    assert (uploads.folder / "other" / "other.wav").exists()


def test_an_upload_that_nobody_claims_is_deleted(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, unclaimed_seconds=0.2)
    kept, forgotten = (uploads.add(write(tmp_path / "hash", name)) for name in ("kept.wav", "forgotten.wav"))
    uploads.claim(kept)
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join()
    assert kept.exists() and not forgotten.parent.exists()


def test_the_uploads_of_a_closed_page_are_deleted(uploads: Uploads) -> None:
    ours, theirs = (uploads.add(write(uploads.folder / "hash", name)) for name in ("ours.wav", "theirs.wav"))
    uploads.claim(ours, "our session")
    uploads.claim(theirs, "their session")
    uploads.discard_session("our session")
    assert not ours.exists() and theirs.exists()


def test_an_upload_of_a_page_that_is_closed_already_cannot_be_claimed(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, unclaimed_seconds=0.2)
    late = uploads.add(write(tmp_path / "hash", "late.wav"))
    uploads.discard_session("our session")
    uploads.claim(late, "our session")
    for timer in [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]:
        timer.join()
    assert not late.exists()


def test_nothing_outside_the_folder_is_deleted(uploads: Uploads) -> None:
    own = uploads.folder.parent / "my holiday.mp4"
    own.touch()
    (uploads.folder / "link.mp4").symlink_to(own)
    for path in (own, uploads.folder / ".." / own.name, uploads.folder / "link.mp4", uploads.folder):
        uploads.discard(path)
    assert own.exists() and (uploads.folder / "other" / "other.wav").exists()


def write(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    return folder / name


def test_without_gradio_the_error_has_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo"]) == 1
    assert "pip install 'foal-hf[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-3", "much"])
def test_a_size_that_is_none_is_misuse(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["demo", "--max-upload-mib", size])
    assert exit_code.value.code == 2
    assert f"at least 1, got '{size}'" in capsys.readouterr().err


def test_a_command_ends_with_the_error_of_its_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    from foal_hf import demo

    loaded: Future[Any] = Future()
    loaded.set_exception(OSError("no such checkpoint"))
    page = demo.Demo("http://127.0.0.1:7860/", Path("uploads"), loaded)
    with pytest.raises(OSError, match="no such checkpoint"):
        page.wait_for_interrupt()
