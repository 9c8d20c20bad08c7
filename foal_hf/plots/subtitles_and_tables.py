"""Segments of a recording as text that other programs read: JSON, CSV, WebVTT and RTTM.

All take the segments that the pipeline gives with `window_seconds` and return a string. JSON and CSV keep one entry for
each segment; WebVTT and RTTM, which are about what is said or seen for a while, have one for each run of one label.
"""

import csv
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..foal_net.timeline_foal_net import runs_of_one_label


_AUDIO_COLUMNS = ("level_dbfs", "silent", "clipped", "speech", "speech_share")
_VIDEO_COLUMNS = ("black", "frozen")
_NO_VALUE = "<NA>"  # of RTTM

_Segments = Iterable[Mapping[str, Any]]


def to_json(segments: _Segments) -> str:
    """The segments as a JSON list of objects.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.

    Returns:
        `str`: Ends with a line break. `modalities` is a list; what is None is `null`.
    """
    return json.dumps(list(segments), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(segments: _Segments, labels: Sequence[str], *, file: str | None = None, header: bool = True) -> str:
    """The segments as a table, one row each, with a column for each emotion.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.
        labels (`Sequence[str]`): The emotions, in the order of their columns.
        file (`str`, *optional*): Stands in a first column, `file`, so that tables of several recordings can be joined.
        header (`bool`, defaults to `True`): Begin with the names of the columns.

    Returns:
        `str`: Comma separated, with the columns `start_seconds`, `end_seconds`, `label`, `score`, `score_<label>` for
        each emotion, `modalities` (joined by `+`), `audio_<measure>` and `video_<measure>` for each measure of the
        evidence, `reason`. Truth is `true` or `false`; what is None is empty.

    Raises:
        ValueError: If a segment has an emotion that is not among `labels`.
    """
    measures = [("audio", name) for name in _AUDIO_COLUMNS] + [("video", name) for name in _VIDEO_COLUMNS]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = ["start_seconds", "end_seconds", "label", "score", *(f"score_{label}" for label in labels), "modalities"]
    names += [f"{modality}_{name}" for modality, name in measures] + ["reason"]
    first = [] if file is None else [file]
    if header:
        writer.writerow((["file"] if first else []) + names)
    for segment in segments:
        scores = {entry["label"]: entry["score"] for entry in segment["scores"]}
        if not scores.keys() <= set(labels):
            raise ValueError(f"`labels` has to name every emotion; got {list(labels)}, and scores of {list(scores)}.")
        evidence = segment["evidence"]
        writer.writerow(
            first
            + [_cell(segment[name]) for name in ("start_seconds", "end_seconds", "label", "score")]
            + [_cell(scores.get(label)) for label in labels]
            + ["+".join(segment["modalities"])]
            + [_cell((evidence[modality] or {}).get(name)) for modality, name in measures]
            + [_cell(segment["reason"])]
        )
    return table.getvalue()


def to_vtt(segments: _Segments) -> str:
    """The runs of one label as a WebVTT file, which players show as subtitles.

    A cue's text is the label and its score in percent, `happy 87 %`; stretches without a label have no cue. Times are
    rounded to milliseconds, and a run that would then be empty is left out.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.

    Returns:
        `str`: UTF-8 text, beginning with the line `WEBVTT`.
    """
    cues = ["WEBVTT\n"]
    for run in runs_of_one_label(segments):
        start, end = (round(run[name] * 1000) for name in ("start_seconds", "end_seconds"))
        if run["label"] is not None and start < end:
            text = html.escape(_one_line(run["label"]), quote=False)  # neither a tag nor an arrow
            cues.append(f"{_vtt_time(start)} --> {_vtt_time(end)}\n{text} {100 * run['score']:.0f} %\n")
    return "\n".join(cues)


def to_rttm(segments: _Segments, file_id: str) -> str:
    """The runs of one label as RTTM (Rich Transcription Time Marked, NIST), one line of ten fields for each.

    | field | holds |
    | --- | --- |
    | type | `SPEAKER`, the one type that tools for diarisation read |
    | file | `file_id` |
    | channel | `1` |
    | begin, duration | seconds |
    | orthography, subtype | `<NA>` |
    | name | the emotion, where RTTM has the speaker |
    | confidence | score of the run, 0 to 1 |
    | lookahead | `<NA>` |

    Stretches without a label have no line. White space in names becomes `_`, since it separates the fields.

    Args:
        segments (`Iterable[Mapping]`): Of one recording.
        file_id (`str`): Names the recording, usually the file without its ending.

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


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _vtt_time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _one_field(text: str) -> str:
    return "_".join(text.split()) or _NO_VALUE


__all__ = ["to_csv", "to_json", "to_rttm", "to_vtt"]
