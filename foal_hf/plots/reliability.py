"""The reliability diagram of a model: accuracy against confidence."""

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import NUM_BINS, ReliabilityBins, reliability_bins
from .style import OKABE_ITO, checked_path, choose_fonts, percent, save, write_heading


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

_ACCURACY_COLOUR, _GAP_COLOUR = OKABE_ITO[0], OKABE_ITO[3]
_COUNT_COLOUR = "#777777"


def plot_reliability_diagram(
    references: "ArrayLike",
    probabilities: "ArrayLike",
    path: str | PathLike[str],
    *,
    num_bins: int = NUM_BINS,
    title: str | None = None,
) -> Path:
    """Write a reliability diagram as an image. See [`draw_reliability_diagram`].

    Args:
        references: True class index of every clip, `(clips,)`.
        probabilities: Of every class, `(clips, classes)`, in [0, 1].
        path: File to write, ending in .png, .pdf or .svg. Missing folders are created.
        num_bins (`int`, defaults to 15): Bins of equal width between 0 and 1.
        title (`str`, *optional*): Title of the figure.

    Returns:
        `pathlib.Path`: The file.

    Raises:
        ValueError: If the format is unknown, or as in [`~foal_hf.metrics.reliability_bins`].

    Example:
        ```python
        plot_reliability_diagram(labels, (logits / temperature).softmax(-1), "reliability.png")
        ```
    """
    path = checked_path(path)
    return save(draw_reliability_diagram(references, probabilities, num_bins=num_bins, title=title), path)


def draw_reliability_diagram(
    references: "ArrayLike", probabilities: "ArrayLike", *, num_bins: int = NUM_BINS, title: str | None = None
) -> "Figure":
    """Draw the accuracy of the predictions by their confidence, and the number of clips.

    A bar is the accuracy of the clips in a bin of confidence, a short line their mean confidence, and the hatched part
    the gap between them. For a calibrated model all bars end on the diagonal. Below are the numbers of clips: a bar of
    few clips means little. The expected calibration error (ECE) is in the title.

    Args:
        references: True class index of every clip, `(clips,)`.
        probabilities: Of every class, `(clips, classes)`, in [0, 1]: logits after the softmax.
        num_bins (`int`, defaults to 15): Bins of equal width between 0 and 1.
        title (`str`, *optional*): Above ECE, accuracy and confidence.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: As in [`~foal_hf.metrics.reliability_bins`].
    """
    from matplotlib.figure import Figure

    bins = reliability_bins(references, probabilities, num_bins)
    figure = Figure(figsize=(6, 6.4))
    figure.set_layout_engine("constrained")
    accuracy_axes, count_axes = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _draw_accuracies(accuracy_axes, bins)
    _draw_counts(count_axes, bins)
    figure.legend(
        handles=accuracy_axes.get_legend_handles_labels()[0], loc="outside lower center", ncols=3, frameon=False
    )
    for axes in (accuracy_axes, count_axes):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    count_axes.set_xlim(0, 1)
    count_axes.set_xlabel("confidence: highest probability", fontsize=11)
    write_heading(accuracy_axes, title, _summary(bins))
    choose_fonts(figure, [title])
    return figure


def _draw_accuracies(axes: "Axes", bins: ReliabilityBins) -> None:
    used = bins.num_clips > 0
    left, width = bins.edges[:-1][used], np.diff(bins.edges)[used]
    accuracy, confidence = bins.accuracy[used], bins.confidence[used]
    style: dict[str, Any] = {"align": "edge", "linewidth": 0.8}
    axes.bar(left, accuracy, width, color=_ACCURACY_COLOUR, edgecolor="white", label="accuracy", **style)
    gap: dict[str, Any] = {
        "facecolor": "none",
        "edgecolor": _GAP_COLOUR,
        "hatch": "///",
        "label": "gap to the confidence",
    }
    axes.bar(left, confidence - accuracy, width, bottom=accuracy, **gap, **style)
    axes.hlines(confidence, left, left + width, color=_GAP_COLOUR, linewidth=2)
    axes.plot([0, 1], [0, 1], "--", color="black", linewidth=1, label="calibrated")
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy", fontsize=11)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(axis="x", length=0)


def _draw_counts(axes: "Axes", bins: ReliabilityBins) -> None:
    width = np.diff(bins.edges)
    axes.bar(bins.edges[:-1], bins.num_clips, width, align="edge", color=_COUNT_COLOUR, edgecolor="white")
    for left, wide, num_clips in zip(bins.edges, width, bins.num_clips.tolist(), strict=False):
        if num_clips:
            axes.text(left + wide / 2, num_clips, str(num_clips), ha="center", va="bottom", fontsize=8)
    axes.set_ylim(0, 1.25 * bins.num_clips.max())  # room for the numbers
    axes.set_ylabel("clips", fontsize=11)


def _summary(bins: ReliabilityBins) -> str:
    num_clips = int(bins.num_clips.sum())
    accuracy, confidence = (np.nansum(means * bins.num_clips) / num_clips for means in (bins.accuracy, bins.confidence))
    return (
        f"ECE {percent(bins.expected_calibration_error)}, accuracy {percent(accuracy)}, "
        f"confidence {percent(confidence)}, {num_clips} clip{'s' * (num_clips != 1)}"
    )


__all__ = ["draw_reliability_diagram", "plot_reliability_diagram"]
