"""Segments of a recording as text for other programs: JSON, CSV, WebVTT, SubRip and RTTM.

All functions take the segments that the pipeline returns with `window_seconds`, and return a string. JSON and CSV have
one entry for each segment, the others one for each run of segments with the same label.
"""

import csv
import html
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..foal_net.timeline_foal_net import runs_of_one_label
from ..printable_text import printable


_AUDIO_COLUMNS = ("level_dbfs", "silent", "clipped", "speech", "speech_share")
_VIDEO_COLUMNS = ("black", "frozen")
_FACE_COLUMNS = ("crop", "frames", "frames_with_face", "face_box")
_NO_VALUE = "<NA>"  # of RTTM
_NO_TAGS = str.maketrans({"<": "\u2039", ">": "\u203a"})
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

_Segments = Iterable[Mapping[str, Any]]


def to_json(segments: _Segments) -> str:
    """The segments as a JSON list of objects.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.

    Returns:
        `str`: Ends with a line break. `modalities` is a list; None is `null`.
    """
    return json.dumps(list(segments), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(
    segments: _Segments,
    labels: Sequence[str],
    *,
    file: str | None = None,
    header: bool = True,
    has_faces: bool | None = None,
) -> str:
    """The segments as a CSV table, one row for each, with a column for each emotion.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.
        labels (`Sequence[str]`): The emotions, in the order of their columns.
        file (`str`, *optional*): Value of a first column, `file`, to join the tables of several recordings.
        header (`bool`, defaults to `True`): Whether to start with the column names.
        has_faces (`bool`, *optional*): Whether there are columns for the evidence about faces. Default: if any segment
            has it.

    Returns:
        `str`: Comma separated, with the columns `start_seconds`, `end_seconds`, `label`, `score`, `score_<label>` for
        each emotion, `modalities` (joined by `+`), `audio_<measure>` and `video_<measure>` for each measure of the
        evidence, `reason`, `notes` (joined by `; `). Lists are joined by blanks, booleans `true` or `false`; None is
        empty. Control characters in text are escaped as by [`printable`]. Text that begins with `=`, `+`, `-` or `@`
        gets a `'` in front, because spreadsheets would run it as a formula.

    Raises:
        ValueError: If a segment has an emotion that is not among `labels`.
    """
    segments = list(segments)
    of_faces = _FACE_COLUMNS if (tells_of_faces(segments) if has_faces is None else has_faces) else ()
    measures = [("audio", name) for name in _AUDIO_COLUMNS]
    measures += [("video", name) for name in (*_VIDEO_COLUMNS, *of_faces)]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = ["start_seconds", "end_seconds", "label", "score", *(f"score_{printable(label)}" for label in labels)]
    names += ["modalities", *(f"{modality}_{name}" for modality, name in measures), "reason", "notes"]
    first = [] if file is None else [_cell(file)]
    if header:
        writer.writerow((["file"] if first else []) + names)
    for segment in segments:
        scores = {entry["label"]: entry["score"] for entry in segment["scores"]}
        if not scores.keys() <= set(labels):
            raise ValueError(f"`labels` has to list every emotion; got {list(labels)}, but scores of {list(scores)}.")
        evidence = segment["evidence"]
        writer.writerow(
            first
            + [_cell(segment[name]) for name in ("start_seconds", "end_seconds", "label", "score")]
            + [_cell(scores.get(label)) for label in labels]
            + ["+".join(segment["modalities"])]
            + [_cell((evidence[modality] or {}).get(name)) for modality, name in measures]
            + [_cell(segment["reason"]), _cell("; ".join(evidence.get("notes", [])))]
        )
    return table.getvalue()


def tells_of_faces(segments: _Segments) -> bool:
    """Whether the evidence of any segment is about faces: the checkpoint was trained on them."""
    return any("crop" in (segment["evidence"]["video"] or {}) for segment in segments)


def to_vtt(segments: _Segments) -> str:
    """Runs of segments with the same label as WebVTT subtitles.

    A cue's text is the label and its score in percent, `happy 87 %`; segments without a label have no cue. Times are
    rounded to milliseconds, and a run that is then empty is skipped.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.

    Returns:
        `str`: Starts with the line `WEBVTT`.
    """
    cues = [f"{start} --> {end}\n{html.escape(text, quote=False)}\n" for start, end, text in _cues(segments, ".")]
    return "\n".join(["WEBVTT\n", *cues])


def to_srt(segments: _Segments) -> str:
    """Runs of segments with the same label as SubRip subtitles, with the cues of [`to_vtt`], numbered from 1.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.

    Returns:
        `str`: Empty without cues. `<` and `>` become `‹` and `›`, because players read `<i>` as a tag.
    """
    cues = [
        f"{number}\n{start} --> {end}\n{text.translate(_NO_TAGS)}\n"
        for number, (start, end, text) in enumerate(_cues(segments, ","), 1)
    ]
    return "\n".join(cues)


def to_rttm(segments: _Segments, file_id: str) -> str:
    """Runs of segments with the same label as RTTM (Rich Transcription Time Marked, NIST), one line of ten fields each.

    | field | content |
    | --- | --- |
    | type | `SPEAKER`, the only type that diarisation tools read |
    | file | `file_id` |
    | channel | `1` |
    | begin, duration | seconds |
    | orthography, subtype | `<NA>` |
    | name | the emotion; in diarisation the speaker |
    | confidence | score of the run, 0 to 1 |
    | lookahead | `<NA>` |

    Segments without a label have no line. White space in names becomes `_`, because it separates fields.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.
        file_id (`str`): Name of the recording, usually the file name without its suffix.

    Returns:
        `str`: Empty without segments.
    """
    lines = []
    for run in runs_of_one_label(segments):
        if run["label"] is not None:
            begin, duration = run["start_seconds"], run["end_seconds"] - run["start_seconds"]
            lines.append(
                f"SPEAKER {_one_field(file_id)} 1 {begin:.3f} {duration:.3f} {_NO_VALUE} {_NO_VALUE} "
                f"{_one_field(run['label'])} {run['score']:.3f} {_NO_VALUE}\n"
            )
    return "".join(lines)


def _cues(segments: _Segments, decimal_mark: str) -> Iterator[tuple[str, str, str]]:
    """Start, end and text of the subtitles."""
    for run in runs_of_one_label(segments):
        times = [round(run[name] * 1000) for name in ("start_seconds", "end_seconds")]
        if run["label"] is not None and times[0] < times[1]:
            start, end = (_clock(milliseconds, decimal_mark) for milliseconds in times)
            yield start, end, f"{printable(' '.join(run['label'].split()))} {100 * run['score']:.0f} %"


def _clock(milliseconds: int, decimal_mark: str) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{decimal_mark}{milliseconds:03d}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    if not isinstance(value, str):
        return str(value)
    return f"'{printable(value)}" if value.startswith(_FORMULA_STARTS) else printable(value)


def _one_field(text: str) -> str:
    return "_".join(printable(" ".join(text.split())).split()) or _NO_VALUE


__all__ = ["tells_of_faces", "to_csv", "to_json", "to_rttm", "to_srt", "to_vtt"]
