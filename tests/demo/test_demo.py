"""What the page says of a recording and does with it, without a browser."""

import base64
import contextlib
import csv
import html
import io
import json
import re
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from media_builders import BEEP, make_clip

from foal_hf.cli import main
from foal_hf.demo.answer import mean_scores, render_answer, render_progress, render_table, render_timeline
from foal_hf.demo.explanation import facts_in_words
from foal_hf.demo.page import forgotten_afterwards, judge_recording
from foal_hf.registration import TASK, register


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
        "evidence": {"audio": sound() if scores else None, "video": picture() if scores else None},
        **fields,
    }


def sound(**fields: Any) -> dict[str, Any]:
    return {"level_dbfs": -23.1, "silent": False, "clipped": False, "speech": True, "speech_share": 0.5, **fields}


def picture(**fields: Any) -> dict[str, Any]:
    return {"black": False, "frozen": False, **fields}


SEGMENTS = [segment(0.0, 3.0, [0.7, 0.2, 0.1]), segment(3.0, 8.0, [0.1, 0.6, 0.3]), segment(8.0, 10.0)]


def test_scores_of_a_recording_are_the_mean_over_its_judged_time() -> None:
    means = mean_scores(SEGMENTS, LABELS)
    assert list(means) == LABELS
    assert list(means.values()) == pytest.approx([(2.1 + 0.5) / 8, (0.6 + 3.0) / 8, (0.3 + 1.5) / 8])
    assert mean_scores([segment(0, 5)], LABELS) == {}


def test_bars_are_as_long_as_their_scores_and_the_longest_comes_first() -> None:
    shown = render_answer(SEGMENTS, LABELS, name="clip.mp4", modality="both")
    assert re.findall(r"width:([\d.]+)%", shown) == ["45.0", "32.5", "22.5"]
    assert '<div class="foal-label">' in shown and "45 %" in shown and "clip.mp4, 10.0 s" in shown


def test_below_the_least_score_the_answer_is_unsure() -> None:
    assert ">unsure</div>" in render_answer(SEGMENTS, LABELS, name="a", modality="both", min_score=0.47)
    assert ">unsure</div>" not in render_answer(SEGMENTS, LABELS, name="a", modality="both", min_score=0.43)
    assert ">no answer</div>" in render_answer([segment(0, 5)], LABELS, name="a", modality="both", min_score=0.43)


def test_nothing_that_comes_from_outside_becomes_html_or_a_template() -> None:
    shown = [
        render_answer(SEGMENTS, LABELS, name=NASTY, modality="both"),
        render_timeline(SEGMENTS, LABELS),
        render_table(SEGMENTS),
        render_progress(NASTY, 3.0, None),
    ]
    for text in shown:
        assert not re.search(r"<script|<img|<or>|\$\{|\{\{|`", text)
    assert NASTY in html.unescape(shown[0]) and LABELS[1] in html.unescape(shown[1])


def test_downloads_hold_what_the_pipeline_said() -> None:
    shown = render_answer(SEGMENTS, LABELS, name="clip.of.mine.mp4", modality="both")
    links = dict(re.findall(r'download="([^"]+)" href="data:[^,]*;base64,([^"]+)"', shown))
    assert list(links) == ["clip.of.mine.json", "clip.of.mine.csv", "clip.of.mine.vtt"]
    as_json, as_csv, as_vtt = (base64.b64decode(link).decode() for link in links.values())
    assert [entry["label"] for entry in json.loads(as_json)] == [LABELS[0], LABELS[1], None]
    assert [row["start_seconds"] for row in csv.DictReader(io.StringIO(as_csv))] == ["0.0", "3.0", "8.0"]
    assert as_vtt.startswith("WEBVTT")


def test_the_timeline_has_a_curve_for_each_emotion_and_a_block_for_each_label() -> None:
    shown = render_timeline(SEGMENTS, LABELS)
    assert re.findall(r' d="([^"]+)"', shown)[0] == "M0.00,30.0L30.00,30.0L30.00,90.0L80.00,90.0"
    places = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", shown)
    assert places == [("0.000", "30.000"), ("30.000", "50.000"), ("80.000", "20.000")]
    assert 'data-start="0.0" data-end="10.0"' in shown


def test_a_block_without_room_for_its_name_has_the_colour_alone() -> None:
    brief = [segment(0.0, 5.0, [0.7, 0.2, 0.1]), segment(5.0, 100.0, [0.2, 0.7, 0.1])]
    assert re.findall(r'class="foal-run"[^>]*>([^<]*)<', render_timeline(brief, LABELS)) == ["", html.escape(LABELS[1])]


@pytest.mark.parametrize(
    ("evidence", "modalities", "modality", "facts"),
    [
        (
            (sound(), picture()),
            ("audio", "video"),
            "both",
            [
                "The answer rests on sound and picture.",
                "Somebody speaks in 2.0 of 4.0 s.",
                "There is a picture throughout, neither black nor frozen.",
            ],
        ),
        (
            (sound(silent=True), picture(frozen=True)),
            ("video",),
            "auto",
            [
                "The answer rests on the picture alone.",
                "The sound is silent.",
                "The picture does not move.",
            ],
        ),
        (
            (sound(speech_share=0.0, clipped=True), None),
            ("audio",),
            "both",
            [
                "The answer rests on the sound alone.",
                "No speech was found.",
                "The sound is clipped, that is, recorded too loud.",
                "There is no picture.",
            ],
        ),
        (
            (sound(speech_share=None), picture()),
            ("audio",),
            "audio",
            [
                "The answer rests on the sound alone.",
                "Nobody looked for speech: that takes the extra foal-hf[speech].",
                "The picture was not looked at.",
            ],
        ),
        (
            (None, picture(black=True)),
            (),
            "auto",
            ["There was nothing to judge by.", "There is no sound.", "The picture is black."],
        ),
    ],
)
def test_an_answer_says_in_words_what_it_rests_on(
    evidence: tuple[Any, Any], modalities: tuple[str, ...], modality: str, facts: list[str]
) -> None:
    found = {"evidence": dict(zip(("audio", "video"), evidence, strict=True)), "modalities": modalities}
    assert facts_in_words([segment(0.0, 4.0, [0.7, 0.2, 0.1], **found)], modality) == facts


def test_words_say_for_how_long() -> None:
    black = segment(5.0, 8.0, [0.7, 0.2, 0.1], modalities=("audio",))
    black["evidence"]["video"] = picture(black=True)
    facts = facts_in_words([segment(0.0, 5.0, [0.7, 0.2, 0.1]), black], "auto")
    assert facts[0] == "The answer rests on the sound and on the picture in 5.0 of 8.0 s."
    assert facts[-1] == "The picture is black in 3.0 of 8.0 s."


@pytest.mark.parametrize(
    ("duration_seconds", "said"),
    [(20.0, "5 of 20 s"), (None, "5 s so far"), (0.0, "5 s so far")],
)
def test_progress_has_a_bar_where_the_length_is_known(duration_seconds: float | None, said: str) -> None:
    shown = render_progress("clip.mp4", 5.0, duration_seconds)
    assert said in shown
    assert ("width:25.0%" in shown) == (duration_seconds == 20.0)


@pytest.fixture(scope="module")
def model() -> "Future[Any]":
    from transformers import pipeline

    register()
    loaded: Future[Any] = Future()
    loaded.set_result(pipeline(TASK))
    return loaded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's folder, with an upload of somebody else's beside ours."""
    (tmp_path / "page" / "other").mkdir(parents=True)
    (tmp_path / "page" / "other" / "other.wav").touch()
    (tmp_path / "page" / "ours").mkdir()
    return tmp_path / "page"


def test_a_recording_is_judged_with_progress_before_its_answer(model: "Future[Any]", folder: Path) -> None:
    clip = make_clip(folder / "ours" / "clip.mp4")
    *before, (timeline, answer, table) = judge_recording(model, str(clip), "auto", 2.0, 0.0)
    assert "Reading clip.mp4: 0 of 3 s" in before[0][1]
    assert "foal-timeline" in timeline and "foal-label" in answer and table.count("<tr data-seconds") == 3


@pytest.mark.parametrize("content", [b"", b"this is no film" * 97])
def test_a_bad_upload_is_a_message_under_its_own_name(model: "Future[Any]", folder: Path, content: bytes) -> None:
    broken = folder / "ours" / "broken.mp4"
    broken.write_bytes(content)
    *_, (timeline, answer, table) = judge_recording(model, str(broken), "auto", 2.0, 0.0)
    assert (timeline, table) == ("", "")
    assert 'role="alert"' in answer and "broken.mp4" in answer and str(folder) not in answer


def test_a_fault_of_the_program_is_a_message_and_an_interrupt_is_none(folder: Path) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt if interrupted else AssertionError("a fault")

    loaded: Future[Any] = Future()
    loaded.set_result(fail)
    clip, interrupted = make_clip(folder / "ours" / "clip.wav", video=None, audio=BEEP), False
    *_, (_, answer, _) = judge_recording(loaded, str(clip), "auto", 2.0, 0.0)
    assert "That did not work. a fault" in answer
    interrupted = True
    with pytest.raises(KeyboardInterrupt):
        list(judge_recording(loaded, str(clip), "auto", 2.0, 0.0))


def test_a_checkpoint_that_does_not_load_is_a_message(folder: Path) -> None:
    loaded: Future[Any] = Future()
    loaded.set_exception(OSError("no such checkpoint"))
    *_, (_, answer, _) = judge_recording(loaded, str(folder / "clip.wav"), "auto", 2.0, 0.0)
    assert "no such checkpoint" in answer


@pytest.mark.parametrize("error", [None, ValueError, GeneratorExit, KeyboardInterrupt])
def test_an_upload_is_deleted_whatever_happens(folder: Path, error: type[BaseException] | None) -> None:
    upload = folder / "ours" / "clip.mp4"
    upload.touch()
    with contextlib.suppress(error or ()), forgotten_afterwards(upload, folder):
        if error is not None:
            raise error
    assert sorted(path.name for path in folder.rglob("*")) == ["other", "other.wav"]


def test_nothing_outside_the_folder_is_deleted(folder: Path) -> None:
    own = folder.parent / "my holiday.mp4"
    own.touch()
    (folder / "link.mp4").symlink_to(own)
    for path in (own, folder / ".." / own.name, folder / "link.mp4", folder):
        with forgotten_afterwards(path, folder):
            pass
    assert own.exists() and (folder / "other" / "other.wav").exists()


def test_without_gradio_it_is_said_how_to_get_it(
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
