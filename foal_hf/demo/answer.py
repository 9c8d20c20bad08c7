"""What the page of `foal-hf demo` shows of a recording: the segments of the pipeline as HTML.

Everything here is a function of the segments, and needs neither gradio nor a browser. What comes from outside (names of
files, labels of checkpoints, errors) is escaped.
"""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..foal_net.timeline_foal_net import runs_of_one_label
from ..plots import OKABE_ITO
from ..plots.subtitles_and_tables import to_csv, to_json, to_vtt
from .explanation import facts_in_words, length_of


_Segment = Mapping[str, Any]
_Colours = Mapping[str | None, tuple[str, str, str]]  # background, text on it, dashes of its curve

_UNSURE = ("#BBBBBB", "#000000", "")
_DARK = ("#0072B2", "#000000")  # of Okabe and Ito's colours, those on which white is easier to read than black
_DASHES = ("", "7 4", "2 4")  # one for each round through the colours
_NUM_TICKS = 5
_CHARACTER_PERCENT = 1.3  # of the timeline's width; a label without room for its name has the colour alone


def mean_scores(segments: Sequence[_Segment], labels: Sequence[str]) -> dict[str, float]:
    """Score of each emotion over a recording: the mean of its segments, each as much as it is long.

    Args:
        segments (`Sequence[Mapping]`): Of one recording. Those without scores do not count.
        labels (`Sequence[str]`): The emotions.

    Returns:
        `dict[str, float]`: From 0 to 1, in the order of `labels`; empty where no segment has scores.
    """
    judged = [segment for segment in segments if segment["scores"]]
    seconds = sum(length_of(segment) for segment in judged)
    if seconds <= 0:
        return {}
    means = dict.fromkeys(labels, 0.0)
    for segment in judged:
        for entry in segment["scores"]:
            means[entry["label"]] += entry["score"] * length_of(segment) / seconds
    return means


def render_answer(
    segments: Sequence[_Segment], labels: Sequence[str], *, name: str, modality: str, min_score: float | None = None
) -> str:
    """The answer on the whole recording: its label, a bar for each emotion, what it rests on, and downloads.

    Args:
        segments (`Sequence[Mapping]`): Of one recording, at least one.
        labels (`Sequence[str]`): The emotions, in the order of their colours.
        name (`str`): Of the file, as its owner calls it.
        modality (`str`): What was looked at.
        min_score (`float`, *optional*): Below this the answer is "unsure".
    """
    means, colours = mean_scores(segments, labels), _colours(labels)
    best = max(means, key=means.__getitem__, default=None)
    if best is None:
        label, note = None, segments[0]["reason"] or "nothing to judge"
    elif min_score is not None and means[best] < min_score:
        label, note = None, f"the likeliest is {best} with {_percent(means[best])}, less than {_percent(min_score)}"
    else:
        label, note = best, f"perceived emotion, {_percent(means[best])} on the mean over the recording"
    shown = _text(label) if label is not None else "no answer" if best is None else "unsure"
    seconds = segments[-1]["end_seconds"] - segments[0]["start_seconds"]
    ordered = sorted(means, key=means.__getitem__, reverse=True)
    facts = "".join(f"<li>{_text(fact)}</li>" for fact in facts_in_words(segments, modality))
    return (
        f'<div class="foal-answer"><div class="foal-quiet">{_text(name)}, {seconds:.1f} s</div>'
        f'<div class="foal-label">{_chip(colours[label])}{shown}</div><div class="foal-quiet">{_text(note)}</div>'
        + "".join(_bar(emotion, means[emotion], colours[emotion][0]) for emotion in ordered)
        + f'<div class="foal-heading">What the answer rests on</div><ul class="foal-facts">{facts}</ul>'
        + f'<div class="foal-heading">Download</div>{_downloads(segments, labels, name)}</div>'
    )


def render_timeline(segments: Sequence[_Segment], labels: Sequence[str]) -> str:
    """The emotions over time: a curve for each, and below a strip with the label; a click leads the player there.

    Args:
        segments (`Sequence[Mapping]`): Of one recording, at least one.
        labels (`Sequence[str]`): The emotions, in the order of their colours.
    """
    begin, end = segments[0]["start_seconds"], segments[-1]["end_seconds"]
    scale = 100 / max(end - begin, 1e-6)  # seconds to percent of the width
    colours = _colours(labels)
    curves = "".join(
        f'<path d="{path}" fill="none" stroke="{colours[label][0]}" stroke-dasharray="{colours[label][2]}" '
        'stroke-width="2" vector-effect="non-scaling-stroke"/>'
        for label in labels
        if (path := _curve(segments, label, begin, scale))
    )
    runs = runs_of_one_label(segments)
    blocks = "".join(_block(run, colours[run["label"]], begin, scale) for run in runs)
    shown = [*labels, *({None} & {run["label"] for run in runs})]
    legend = "".join(f"<span>{_chip(colours[label])}{_text(label or 'unsure')}</span>" for label in shown)
    ticks = (begin + (end - begin) * number / (_NUM_TICKS - 1) for number in range(_NUM_TICKS))
    return (
        f'<div class="foal-legend">{legend}<span class="foal-quiet">curves: score, 0 to 100 %</span></div>'
        f'<div class="foal-timeline" data-start="{begin}" data-end="{end}" role="img" aria-label="Emotions over time">'
        f'<svg viewBox="0 -3 100 106" preserveAspectRatio="none">{curves}</svg>'
        f'<div class="foal-strip">{blocks}</div><div class="foal-playhead"></div></div>'
        f'<div class="foal-ticks">{"".join(f"<span>{_clock(tick, end)}</span>" for tick in ticks)}</div>'
    )


def render_table(segments: Iterable[_Segment]) -> str:
    """The segments as a table; a click on a row leads the player there."""
    head = "".join(f"<th>{name}</th>" for name in ("from", "to", "label", "score", "rests on", "found"))
    rows = "".join(
        f'<tr data-seconds="{segment["start_seconds"]}">'
        + "".join(f"<td>{_text(cell)}</td>" for cell in _cells(segment))
        + "</tr>"
        for segment in segments
    )
    return f'<div class="foal-table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def render_progress(name: str, read_seconds: float, duration_seconds: float | None) -> str:
    """How far a recording is read; without a bar where nobody knows how long it is."""
    if duration_seconds is None or duration_seconds <= 0:
        return f'<div class="foal-quiet">Reading {_text(name)}: {read_seconds:.0f} s so far</div>'
    share = min(read_seconds / duration_seconds, 1.0)
    return (
        f'<div class="foal-quiet">Reading {_text(name)}: {read_seconds:.0f} of {duration_seconds:.0f} s</div>'
        f'<div class="foal-track"><div style="width:{100 * share:.1f}%;background:{OKABE_ITO[0]}"></div></div>'
    )


def render_note(message: str) -> str:
    """A short message on the state of the page."""
    return f'<div class="foal-quiet">{_text(message)}</div>'


def render_error(message: str) -> str:
    """A message on what went wrong."""
    return f'<div class="foal-error" role="alert">{_text(message)}</div>'


def _cells(segment: _Segment) -> tuple[str, ...]:
    sound, picture = segment["evidence"]["audio"], segment["evidence"]["video"]
    found = []
    if sound is not None and sound["silent"]:
        found.append("silent")
    elif sound is not None and sound["speech_share"] is not None:
        found.append(f"speech {_percent(sound['speech_share'])}")
    if sound is not None and sound["clipped"]:
        found.append("clipped")
    if picture is not None:
        found += [word for word in ("black", "frozen") if picture[word]]
    used = {"audio": "sound", "video": "picture"}
    return (
        f"{segment['start_seconds']:.2f} s",
        f"{segment['end_seconds']:.2f} s",
        segment["label"] or segment["reason"] or "unsure",
        _percent(segment["score"]) if segment["scores"] else "",
        " and ".join(used[name] for name in segment["modalities"]) or "nothing",
        ", ".join(found),
    )


def _curve(segments: Sequence[_Segment], label: str, begin: float, scale: float) -> str:
    """Steps, since a score is the mean of its segment; the pen lifts where a segment has none."""
    steps, is_down = [], False
    for segment in segments:
        score = next((entry["score"] for entry in segment["scores"] if entry["label"] == label), None)
        if score is not None:
            left, right = ((segment[edge] - begin) * scale for edge in ("start_seconds", "end_seconds"))
            height = 100 - 100 * score
            steps.append(f"{'L' if is_down else 'M'}{left:.2f},{height:.1f}L{right:.2f},{height:.1f}")
        is_down = score is not None
    return "".join(steps)


def _block(run: _Segment, colours: tuple[str, str, str], begin: float, scale: float) -> str:
    name, width = run["label"] or "unsure", length_of(run) * scale
    title = f"{name}, {run['start_seconds']:.2f} to {run['end_seconds']:.2f} s, {_percent(run['score'])}"
    return (
        f'<div class="foal-run" title="{_text(title)}" style="left:{(run["start_seconds"] - begin) * scale:.3f}%;'
        f'width:{width:.3f}%;background:{colours[0]};color:{colours[1]}">'
        f"{_text(name) if width > _CHARACTER_PERCENT * len(name) else ''}</div>"
    )


def _bar(label: str, score: float, colour: str) -> str:
    return (
        f'<div class="foal-bar"><span>{_text(label)}</span>'
        f'<div class="foal-track"><div style="width:{100 * score:.1f}%;background:{colour}"></div></div>'
        f'<span class="foal-percent">{_percent(score)}</span></div>'
    )


def _downloads(segments: Sequence[_Segment], labels: Sequence[str], name: str) -> str:
    """Links that hold their file, so that nothing of it lies on the server."""
    files = {
        "json": ("application/json", to_json(segments)),
        "csv": ("text/csv", to_csv(segments, labels)),
        "vtt": ("text/vtt", to_vtt(segments)),
    }
    stem = name.rpartition(".")[0] or name
    return "".join(
        f'<a class="foal-download" download="{_text(stem)}.{ending}" '
        f'href="data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}">{ending.upper()}</a>'
        for ending, (kind, text) in files.items()
    )


def _colours(labels: Sequence[str]) -> _Colours:
    colours: dict[str | None, tuple[str, str, str]] = {None: _UNSURE}
    for index, label in enumerate(labels):
        lap, number = divmod(index, len(OKABE_ITO))
        colour = OKABE_ITO[number]
        colours[label] = (colour, "#FFFFFF" if colour in _DARK else "#000000", _DASHES[lap % len(_DASHES)])
    return colours


def _chip(colours: tuple[str, str, str]) -> str:
    return f'<span class="foal-chip" style="background:{colours[0]}"></span>'


def _clock(seconds: float, end_seconds: float) -> str:
    if end_seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if end_seconds >= 3600 else f"{minutes}:{seconds:02d}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _text(text: str) -> str:
    """Safe in HTML, and in the templates of gradio's HTML component, which mean `${name}` and `{{name}}`."""
    return html.escape(str(text)).replace("$", "&#36;").replace("{", "&#123;").replace("`", "&#96;")


__all__ = [
    "mean_scores",
    "render_answer",
    "render_error",
    "render_note",
    "render_progress",
    "render_table",
    "render_timeline",
]
