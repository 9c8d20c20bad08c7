"""Figures of a corpus: its classes in every session or speaker, and the lengths of its clips."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..corpora.report import CorpusReport
from .style import checked_path, choose_fonts, save, styles_of


if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_BARS = 40
_MAX_LETTERS = 40  # of all names below the bars, side by side
_LENGTH_COLOUR = "#777777"  # of no class


def plot_corpus(report: CorpusReport, path: str | PathLike[str], *, title: str | None = None) -> Path:
    """Write the figure of a corpus to a file. See [`draw_corpus`].

    Args:
        report ([`CorpusReport`]): Its counts.
        path: File to write, ending in .png, .pdf or .svg. Missing folders are created.
        title (`str`, *optional*): Title of the figure.

    Returns:
        `pathlib.Path`: The file.

    Raises:
        ValueError: If the format is unknown.
    """
    path = checked_path(path)
    return save(draw_corpus(report, title=title), path)


def draw_corpus(report: CorpusReport, *, title: str | None = None) -> "Figure":
    """Draw how many clips of each class every session has, and how long the clips are.

    A corpus without sessions is drawn by speaker; without speakers, or with more than 40, by split.

    Args:
        report ([`CorpusReport`]): Counts of a corpus.
        title (`str`, *optional*): Title of the figure.

    Returns:
        `matplotlib.figure.Figure`
    """
    from matplotlib.figure import Figure

    kind = next((kind for kind in ("session", "speaker") if 0 < len(report.groups[kind]) <= _MAX_BARS), "split")
    groups = report.groups[kind]
    figure = Figure(figsize=(9, 3.4))
    figure.set_layout_engine("constrained")
    count_axes, length_axes = figure.subplots(1, 2)

    bottom = np.zeros(len(groups))
    for label, (colour, _, hatch) in styles_of(list(report.total.by_class)).items():
        heights = np.array([counts.by_class[label] for counts in groups.values()])
        style = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        count_axes.bar(range(len(groups)), heights, bottom=bottom, label=label, **style)
        bottom += heights
    is_crowded = sum(map(len, groups)) > _MAX_LETTERS
    slant = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if is_crowded else {}
    count_axes.set_xticks(range(len(groups)), list(groups), fontsize=9, **slant)
    count_axes.set_xlabel(kind)
    count_axes.set_ylabel("clips")
    count_axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)

    if report.seconds:
        length_axes.hist(report.seconds, bins=min(40, max(8, len(report.seconds) // 20)), color=_LENGTH_COLOUR)
    else:
        length_axes.text(0.5, 0.5, "unknown", ha="center", va="center", transform=length_axes.transAxes)
    length_axes.set_xlabel("length in seconds")
    length_axes.set_ylabel("clips")
    for axes in (count_axes, length_axes):
        axes.spines[["top", "right"]].set_visible(False)
    clips = f"{report.total.total} clips"
    figure.suptitle(clips if title is None else f"{title}: {clips}", fontsize=12, fontweight="bold")
    choose_fonts(figure, [*report.total.by_class, *groups, title])
    return figure
