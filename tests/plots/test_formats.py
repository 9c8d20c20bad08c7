"""Segments as JSON, CSV, WebVTT, SubRip and RTTM, read back by parsers of these formats."""

import csv
import io
import json
import re
from typing import Any

import pytest

from foal_hf.plots.subtitles_and_tables import to_csv, to_json, to_rttm, to_srt, to_vtt


LABELS = ["happy", "neutral", "so & so", "a <b> --> c"]
_TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"


def segment(start: float, end: float, label: str | None, score: float, **fields: Any) -> dict[str, Any]:
    rest = (1 - score) / (len(LABELS) - 1)
    return {
        "start_seconds": start,
        "end_seconds": end,
        "label": label,
        "score": score,
        "scores": [{"label": name, "score": score if name == label else rest} for name in LABELS],
        "reason": None if label else "unsure: the best score is 0.30, below 0.5",
        "modalities": ("audio", "video"),
        "evidence": {
            "audio": {"level_dbfs": -23.1, "silent": False, "clipped": True, "speech": None, "speech_share": None},
            "video": {"black": False, "frozen": True},
            "notes": ["one thing", "another"],
        },
        **fields,
    }


SEGMENTS = [
    segment(0.0, 3.0, "happy", 0.9),
    segment(3.0, 6.0, "happy", 0.6),
    segment(6.0, 9.0, None, 0.3),
    segment(9.0, 12.0, "a <b> --> c", 0.7),
    segment(3596.5, 3661.25, "so & so", 0.5),
    segment(3661.25, 3664.0, None, 0.0, scores=[], modalities=(), evidence={"audio": None, "video": None}),
]


def read_vtt(text: str) -> list[tuple[float, float, str]]:
    """Cues by the rules of WebVTT; fails if a strict parser would drop one."""
    blocks = text.removesuffix("\n").split("\n\n")
    assert blocks[0] == "WEBVTT"
    cues = []
    for block in blocks[1:]:
        timing, *payload = block.split("\n")
        found = re.fullmatch(f"{_TIME} --> {_TIME}", timing)
        assert found and payload and all(payload), block
        parts = [int(part) for part in found.groups()]
        start, end = (parts[i] * 3600 + parts[i + 1] * 60 + parts[i + 2] + parts[i + 3] / 1000 for i in (0, 4))
        assert start < end
        content = "\n".join(payload)
        assert "-->" not in content and "<" not in content and not re.search(r"&(?!amp;|lt;|gt;)", content)
        cues.append((start, end, content.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    return cues


def test_json_gives_the_segments_back() -> None:
    read = json.loads(to_json(SEGMENTS))
    assert [entry | {"modalities": tuple(entry["modalities"])} for entry in read] == SEGMENTS
    assert json.loads(to_json([])) == []


def test_csv_gives_every_number_back() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(SEGMENTS, LABELS))))
    assert len(rows) == len(SEGMENTS)
    for row, given in zip(rows, SEGMENTS, strict=True):
        for name in ("start_seconds", "end_seconds", "score"):
            assert float(row[name]) == given[name]
        assert (row["label"] or None) == given["label"]
        assert (row["reason"] or None) == given["reason"]
        assert {entry["label"]: entry["score"] for entry in given["scores"]} == {
            name: float(row[f"score_{name}"]) for name in LABELS if row[f"score_{name}"]
        }
    assert (rows[0]["notes"], rows[-1]["notes"]) == ("one thing; another", "")
    assert (rows[0]["modalities"], rows[-1]["modalities"]) == ("audio+video", "")
    assert (rows[0]["audio_silent"], rows[0]["audio_clipped"], rows[0]["audio_speech"]) == ("false", "true", "")
    assert (rows[0]["audio_level_dbfs"], rows[0]["video_frozen"], rows[-1]["video_frozen"]) == ("-23.1", "true", "")


def test_csv_keeps_text_from_being_a_formula_or_a_control_sequence() -> None:
    labels = ["=1+2", "\x1b[31mred\n"]
    scores = [{"label": label, "score": 0.5} for label in labels]
    formula = segment(0.0, 1.0, "=1+2", 0.5, scores=scores, reason="-5 dB")
    control = segment(1.0, 2.0, labels[1], 0.5, scores=scores)
    table = to_csv([formula, control], labels, file="@clip\u202e\udce9.mp4")
    assert "\x1b" not in table and "\u202e" not in table
    table.encode("utf-8")
    first, second = csv.DictReader(io.StringIO(table))
    assert (first["file"], first["label"], first["reason"]) == (r"'@clip\u202e\xe9.mp4", "'=1+2", "'-5 dB")
    assert (first["audio_level_dbfs"], second["label"]) == ("-23.1", r"\x1b[31mred\x0a")
    assert first[r"score_\x1b[31mred\x0a"] == first["score_=1+2"] == "0.5"


def test_csv_of_nothing_is_its_header() -> None:
    text = to_csv([], ["happy"])
    assert text.startswith("start_seconds,end_seconds,label,score,score_happy,modalities,audio_level_dbfs")
    assert text.count("\n") == 1


def test_tables_of_several_recordings_join_to_one() -> None:
    first, second = to_csv(SEGMENTS, LABELS, file="a, b.mp4"), to_csv(SEGMENTS[:2], LABELS, file="c.mp4", header=False)
    rows = list(csv.DictReader(io.StringIO(first + second)))
    assert [row["file"] for row in rows] == ["a, b.mp4"] * len(SEGMENTS) + ["c.mp4"] * 2
    assert rows[-1]["score"] == str(SEGMENTS[1]["score"])


def test_csv_refuses_an_emotion_without_a_column() -> None:
    with pytest.raises(ValueError, match=r"list every emotion; got \['happy'\]"):
        to_csv(SEGMENTS, ["happy"])


def test_vtt_has_one_cue_for_each_run_of_one_label() -> None:
    assert read_vtt(to_vtt(SEGMENTS)) == [
        (0.0, 6.0, "happy 75 %"),
        (9.0, 12.0, "a <b> --> c 70 %"),
        (3596.5, 3661.25, "so & so 50 %"),
    ]


def test_vtt_counts_hours_past_ninety_nine() -> None:
    late = segment(100 * 3600 + 59.9996, 100 * 3600 + 61.0, "happy", 0.8)
    assert "\n100:01:00.000 --> 100:01:01.000\n" in to_vtt([late])


def test_vtt_skips_a_run_shorter_than_a_millisecond() -> None:
    assert to_vtt([segment(1.0, 1.0004, "happy", 0.8)]) == to_vtt([]) == "WEBVTT\n"


def test_srt_has_the_cues_of_vtt_with_numbers() -> None:
    blocks = [block.split("\n") for block in to_srt(SEGMENTS).removesuffix("\n").split("\n\n")]
    assert blocks == [
        ["1", "00:00:00,000 --> 00:00:06,000", "happy 75 %"],
        ["2", "00:00:09,000 --> 00:00:12,000", "a \u2039b\u203a --\u203a c 70 %"],
        ["3", "00:59:56,500 --> 01:01:01,250", "so & so 50 %"],
    ]
    assert to_srt([segment(0.0, 1.0, None, 0.3)]) == to_srt([]) == ""


def test_rttm_has_one_line_of_ten_fields_for_each_run() -> None:
    lines = to_rttm(SEGMENTS, "my talk").splitlines()
    fields = [line.split() for line in lines]
    assert all(len(entry) == 10 for entry in fields)
    assert {(entry[0], entry[1], entry[2], entry[5], entry[6], entry[9]) for entry in fields} == {
        ("SPEAKER", "my_talk", "1", "<NA>", "<NA>", "<NA>")
    }
    assert [(float(entry[3]), float(entry[4]), entry[7], float(entry[8])) for entry in fields] == [
        (0.0, 6.0, "happy", 0.75),
        (9.0, 3.0, "a_<b>_-->_c", 0.7),
        (3596.5, 64.75, "so_&_so", 0.5),
    ]
    assert to_rttm([], "talk") == ""
