"""What the page of `foal-hf demo` shows of a recording: values of gradio's components, from the pipeline's segments."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..plots.subtitles_and_tables import to_csv, to_json, to_vtt
from ..plots.timeline import draw_timeline
from .explanation import describe_evidence, length_of


TABLE_HEADERS = ("start", "end", "label", "score", "based on", "found")

_Segment = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the page shows of a recording.

    Args:
        label (`dict[str, float]` or `str`, *optional*): Score of each emotion over the recording, or a word instead.
        about (`str`, *optional*): What the prediction is based on, or what went wrong.
        timeline (`matplotlib.figure.Figure`, *optional*): The scores over time.
        table (`list[list[str]]`): A row for each segment, with [`TABLE_HEADERS`].
        downloads (`str`): Links, as HTML.
    """

    label: dict[str, float] | str | None = None
    about: str | None = None
    timeline: Any = None
    table: list[list[str]] | None = None
    downloads: str = ""

    def values(self) -> list[Any]:
        """One value for each component."""
        return [self.label, self.about, self.timeline, self.table, self.downloads]


def mean_scores(segments: Sequence[_Segment], labels: Sequence[str]) -> dict[str, float]:
    """Score of each emotion over a recording: the mean over its segments, weighted by their length.

    Args:
        segments (`Sequence[Mapping]`): Of one recording. Those without scores are ignored.
        labels (`Sequence[str]`): The emotions.

    Returns:
        `dict[str, float]`: From 0 to 1, in the order of `labels`; empty if no segment has scores.
    """
    scored = [segment for segment in segments if segment["scores"]]
    seconds = sum(length_of(segment) for segment in scored)
    if seconds <= 0:
        return {}
    means = dict.fromkeys(labels, 0.0)
    for segment in scored:
        for entry in segment["scores"]:
            means[entry["label"]] += entry["score"] * length_of(segment) / seconds
    return means


def make_answer(
    segments: Sequence[_Segment], labels: Sequence[str], *, name: str, modality: str, min_score: float | None = None
) -> Answer:
    """The answer for a whole recording.

    Args:
        segments (`Sequence[Mapping]`): Of one recording, at least one.
        labels (`Sequence[str]`): The emotions, in the order of their colours.
        name (`str`): Of the user's file.
        modality (`str`): The pipeline's argument.
        min_score (`float`, *optional*): Below this score the label is "unsure".
    """
    means = mean_scores(segments, labels)
    best = max(means, key=means.__getitem__, default=None)
    shown: dict[str, float] | str = means
    if best is None:
        shown, note = "no prediction", segments[0]["reason"] or "no window has audio or video to predict from"
    elif min_score is not None and means[best] < min_score:
        shown, note = "unsure", f"highest score: {best}, {means[best]:.0%}, which is below {min_score:.0%}"
    else:
        note = f"perceived emotion: {best}, {means[best]:.0%} on average over the recording"
    seconds = segments[-1]["end_seconds"] - segments[0]["start_seconds"]
    lines = [f"{name}, {seconds:.1f} s", note, *describe_evidence(segments, modality)]
    return Answer(
        label=shown,
        about="\n".join(lines),
        timeline=draw_timeline(segments, labels=labels) if means else None,
        table=[_row(segment) for segment in segments],
        downloads=_downloads(segments, labels, name),
    )


def _row(segment: _Segment) -> list[str]:
    audio, video = segment["evidence"]["audio"], segment["evidence"]["video"]
    found = []
    if audio is not None and audio["silent"]:
        found.append("silent")
    elif audio is not None and audio["speech_share"] is not None:
        found.append(f"speech {audio['speech_share']:.0%}")
    if audio is not None and audio["clipped"]:
        found.append("clipped")
    if video is not None:
        found += [word for word in ("black", "frozen") if video[word]]
    return [
        f"{segment['start_seconds']:.2f}",
        f"{segment['end_seconds']:.2f}",
        segment["label"] or segment["reason"] or "unsure",
        f"{segment['score']:.0%}" if segment["scores"] else "",
        " + ".join(segment["modalities"]) or "nothing",
        ", ".join(found),
    ]


def _downloads(segments: Sequence[_Segment], labels: Sequence[str], name: str) -> str:
    """Links that contain their file, so that no result is stored on the server."""
    files = {"json": to_json(segments), "csv": to_csv(segments, labels), "vtt": to_vtt(segments)}
    stem = html.escape(name.rpartition(".")[0] or name)
    # gradio's HTML component is a template too, in which `${name}` and `{{name}}` are filled.
    stem = stem.replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")
    links = (
        f'<a download="{stem}.{ending}" href="data:text/plain;base64,{base64.b64encode(text.encode()).decode()}">'
        f"{ending.upper()}</a>"
        for ending, text in files.items()
    )
    return f"Download: {' · '.join(links)}"


__all__ = ["TABLE_HEADERS", "Answer", "make_answer", "mean_scores"]
