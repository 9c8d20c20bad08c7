"""The emotions of a clip over time."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..foal_net.timeline_foal_net import NO_LABEL
from .style import (
    MARGIN_INCHES,
    OTHER_COLOUR,
    Style,
    checked_labels,
    checked_path,
    choose_fonts,
    save,
    styles_of,
    text_colour,
    without_glyph_warnings,
)


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Block = tuple[float, float, str]  # start and end in seconds, and the label
_UNSURE = "unsure"
_TOUCHING_SECONDS = 1e-3  # windows closer than this have no gap


def plot_timeline(
    segments: Sequence[Mapping[str, Any]],
    path: str | PathLike[str],
    *,
    labels: Sequence[str],
    truth: Sequence[tuple[float, float, str]] | None = None,
    title: str | None = None,
    note: str | None = None,
) -> Path:
    """Write the emotions of a clip over time as an image. See [`draw_timeline`].

    Args:
        segments (`Sequence[Mapping]`): Windows with `start_seconds`, `end_seconds` and `scores`.
        path: File to write, ending in .png, .pdf or .svg. Missing folders are created.
        labels (`Sequence[str]`): The emotions.
        truth (`Sequence[tuple[float, float, str]]`, *optional*): True emotions as (start, end, label), in seconds.
        title (`str`, *optional*): Title of the figure.
        note (`str`, *optional*): Small print at the bottom.

    Returns:
        `pathlib.Path`: The file.

    Raises:
        ValueError: If the format is unknown, there are no windows, or times or scores are invalid.

    Example:
        ```python
        segments = [{"start_seconds": 0.0, "end_seconds": 2.0, "scores": {"happy": 0.8, "sad": 0.2}}]
        plot_timeline(segments, "timeline.png", labels=["happy", "sad"])
        ```
    """
    path = checked_path(path)
    return save(draw_timeline(segments, labels=labels, truth=truth, title=title, note=note), path)


def draw_timeline(
    segments: Sequence[Mapping[str, Any]],
    *,
    labels: Sequence[str],
    truth: Sequence[tuple[float, float, str]] | None = None,
    title: str | None = None,
    note: str | None = None,
) -> "Figure":
    """Draw the emotions of a clip over time: a curve of probability for each, and a strip with the most likely one.

    The points of the curves are at the centres of the windows; a gap between windows interrupts them. In the strip,
    overlapping windows meet halfway between their centres.

    Args:
        segments (`Sequence[Mapping]`): Windows, in any order, each with `start_seconds`, `end_seconds` and `scores`, a
            mapping from each of the `labels` to its probability in [0, 1], or a list of `{"label", "score"}`; an
            empty one is not drawn. The strip shows the `label`, if there is one, instead of the most likely emotion;
            `None` is a grey "unsure". The segments of the pipeline with `window_seconds` are accepted.
        labels (`Sequence[str]`): The emotions, in the order of the legend.
        truth (`Sequence[tuple[float, float, str]]`, *optional*): True emotions as (start, end, label), in seconds; a
            second strip. Labels that are not among `labels` are grey.
        title (`str`, *optional*): Title of the figure.
        note (`str`, *optional*): Small print at the bottom: what a reader must know about the data.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: If there are no windows, or times or scores are invalid, or they are the numbers of a regression.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    if any(segment.get("reason") == NO_LABEL for segment in segments):
        raise ValueError("A timeline shows probabilities, but these segments have the numbers of a regression.")
    labels = checked_labels(labels)
    starts, ends, scores, names = _checked_windows(segments, labels)
    truth = _checked_truth(truth or [])

    strips = {"predicted": _likeliest_blocks(starts, ends, names)}
    if truth:
        strips = {"truth": truth} | strips
    styles = styles_of(labels)
    figure = Figure(figsize=(9, 3.1 + 0.4 * len(strips)))
    figure.set_layout_engine("constrained", w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
    curve_axes, strip_axes = figure.subplots(2, sharex=True, height_ratios=[2.4, 0.4 * len(strips)])
    _draw_curves(curve_axes, starts, ends, scores, styles)
    _draw_strips(strip_axes, strips, styles)
    strip_axes.set_xlim(
        min([starts.min(), *(start for start, _, _ in truth)]), max([ends.max(), *(end for _, end, _ in truth)])
    )

    handles: list[Any] = list(curve_axes.get_lines())
    if any(label not in labels for _, _, label in truth):
        handles.append(Patch(color=OTHER_COLOUR, label="other"))
    if _UNSURE in names:
        handles.append(Patch(color=OTHER_COLOUR, label=_UNSURE))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=10)
    if title is not None:
        curve_axes.set_title(title, fontsize=13, fontweight="bold", pad=10)
    if note is not None:
        figure.supxlabel(textwrap.fill(note, 120), fontsize=8, color="#555555")
    choose_fonts(figure, [*labels, *names, *(label for _, _, label in truth), title, note])
    _remove_names_that_do_not_fit(figure, strip_axes)
    return figure


def _draw_curves(
    axes: "Axes", starts: np.ndarray, ends: np.ndarray, scores: np.ndarray, styles: Mapping[str, Style]
) -> None:
    times, curves = _with_breaks(starts, ends, scores)
    # In points. At least as wide as the line: a window between two gaps is only a marker.
    marker_size = min(4.0, max(2.0, 120 / len(starts)))
    for (label, (colour, line_style, _)), curve in zip(styles.items(), curves.T, strict=True):
        axes.plot(times, curve, line_style, color=colour, label=label, lw=2, marker="o", markersize=marker_size)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("probability", fontsize=11)
    axes.grid(color="#DDDDDD", linewidth=0.8)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_strips(axes: "Axes", strips: Mapping[str, Sequence[_Block]], styles: Mapping[str, Style]) -> None:
    for row, blocks in enumerate(strips.values()):
        _draw_blocks(axes, row, blocks, styles)
    axes.set_yticks(range(len(strips)), list(strips), fontsize=10)
    axes.set_ylim(len(strips) - 0.5, -0.5)  # the first on top
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("seconds", fontsize=11)


def _draw_blocks(axes: "Axes", row: int, blocks: Sequence[_Block], styles: Mapping[str, Style]) -> None:
    for start, end, label in blocks:
        colour, _, hatch = styles.get(label, (OTHER_COLOUR, "-", ""))
        axes.barh(row, end - start, left=start, height=0.8, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5)
        axes.text(
            (start + end) / 2,
            row,
            label,
            ha="center",
            va="center",
            fontsize=9,
            color=text_colour(colour),
            in_layout=False,
        )


def _remove_names_that_do_not_fit(figure: "Figure", axes: "Axes") -> None:
    """Keep a name only if its block is wider. The layout must be complete."""
    with without_glyph_warnings():
        figure.draw_without_rendering()
    for block, name in zip(list(axes.patches), list(axes.texts), strict=True):
        if name.get_window_extent().width > 0.95 * block.get_window_extent().width:
            name.remove()


def _likeliest_blocks(starts: np.ndarray, ends: np.ndarray, names: Sequence[str]) -> list[_Block]:
    """Blocks without overlap: overlapping windows meet halfway between their centres; equal neighbours are merged."""
    starts, ends, centres = starts.copy(), ends.copy(), (starts + ends) / 2
    blocks: list[_Block] = []
    for index, name in enumerate(names):
        if index + 1 < len(names) and ends[index] > starts[index + 1]:
            ends[index] = starts[index + 1] = (centres[index] + centres[index + 1]) / 2
        start, end = float(starts[index]), float(ends[index])
        if blocks and blocks[-1][2] == name and start - blocks[-1][1] < _TOUCHING_SECONDS:
            blocks[-1] = (blocks[-1][0], end, name)
        else:
            blocks.append((start, end, name))
    return blocks


def _with_breaks(starts: np.ndarray, ends: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres and scores of the windows, with a NaN in every gap, where matplotlib interrupts the curve."""
    gaps = np.flatnonzero(starts[1:] - np.maximum.accumulate(ends)[:-1] >= _TOUCHING_SECONDS) + 1
    centres = (starts + ends) / 2
    return np.insert(centres, gaps, np.nan), np.insert(scores, gaps, np.nan, axis=0)


def _checked_windows(
    segments: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Starts and ends in seconds `(windows,)`, scores `(windows, labels)` and labels, in the order of centres."""
    if len(segments) == 0:
        raise ValueError("`segments` is empty: a timeline needs at least one window.")
    segments = [_with_mapped_scores(segment) for segment in segments]
    for index, segment in enumerate(segments):
        missing = [key for key in ("start_seconds", "end_seconds", "scores") if key not in segment]
        if missing:
            raise ValueError(f"Window {index} of `segments` has no {', '.join(missing)}; got {list(segment)}.")
        _check_range(segment["start_seconds"], segment["end_seconds"], f"Window {index} of `segments`")
        given = segment["scores"]
        if given == {}:
            continue
        if not isinstance(given, Mapping) or set(given) != set(labels):
            raise ValueError(
                f"The scores of window {index} must map each of {list(labels)} to its probability; got {given!r}."
            )
    segments = [segment for segment in segments if segment["scores"]]
    if not segments:
        raise ValueError("No window of `segments` has scores: there is nothing to draw.")
    ranges = np.array([(segment["start_seconds"], segment["end_seconds"]) for segment in segments], dtype=np.float64)
    scores = np.array([[segment["scores"][label] for label in labels] for segment in segments], dtype=np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():  # NaN too
        index = int((~((scores >= 0) & (scores <= 1))).any(axis=1).argmax())
        raise ValueError(
            f"Scores must be probabilities in [0, 1]; window {index} has {segments[index]['scores']}. Apply a softmax "
            "to logits."
        )
    likeliest = [labels[index] for index in scores.argmax(axis=1)]
    names = [segment.get("label", name) or _UNSURE for segment, name in zip(segments, likeliest, strict=True)]
    order = np.argsort(ranges.mean(axis=1), kind="stable")
    return ranges[order, 0], ranges[order, 1], scores[order], [names[index] for index in order]


def _with_mapped_scores(segment: Mapping[str, Any]) -> Mapping[str, Any]:
    """A segment whose scores are a mapping; the pipeline gives a list of entries."""
    scores = segment.get("scores")
    if not isinstance(scores, list) or not all(isinstance(entry, Mapping) for entry in scores):
        return segment
    return {**segment, "scores": {entry["label"]: entry["score"] for entry in scores}}


def _checked_truth(truth: Sequence[tuple[float, float, str]]) -> list[_Block]:
    for index, (start, end, _) in enumerate(truth):
        _check_range(start, end, f"Entry {index} of `truth`")
    return [(float(start), float(end), label) for start, end, label in truth]


def _check_range(start_seconds: float, end_seconds: float, name: str) -> None:
    if not (math.isfinite(start_seconds) and math.isfinite(end_seconds) and start_seconds < end_seconds):
        raise ValueError(f"{name} must end after it starts, in seconds; got {start_seconds} to {end_seconds}.")
