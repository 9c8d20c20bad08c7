"""The confusion matrix of a test."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import recalls_of_matrix
from .style import MARGIN_INCHES, checked_labels, checked_path, choose_fonts, percent, save, text_colour, write_heading


if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_confusion_matrix(
    matrix: Any, labels: Sequence[str], path: str | PathLike[str], *, title: str | None = None
) -> Path:
    """Write a confusion matrix as an image. See [`draw_confusion_matrix`].

    Args:
        matrix: Counts, `(classes, classes)`: rows are the truth, columns the prediction.
        labels (`Sequence[str]`): Names of the classes, by index.
        path: File to write, ending in .png, .pdf or .svg. Missing folders are created.
        title (`str`, *optional*): Above UA and WA.

    Returns:
        `pathlib.Path`: The file.

    Raises:
        ValueError: If the format is unknown, the matrix is empty, or it does not fit the labels.

    Example:
        ```python
        matrix = confusion_matrix(references, predictions, num_labels=4)
        plot_confusion_matrix(matrix, ["happy", "neutral", "sad", "angry"], "confusion_matrix.png")
        ```
    """
    path = checked_path(path)
    return save(draw_confusion_matrix(matrix, labels, title=title), path)


def draw_confusion_matrix(matrix: Any, labels: Sequence[str], *, title: str | None = None) -> "Figure":
    """Draw a confusion matrix: each cell with its share of the true class, as colour and in percent, and its count.

    UA and WA are in the title. A class without clips has a row that says so; UA excludes it.

    Args:
        matrix: Counts, `(classes, classes)`, integers: rows are the truth, columns the prediction. An array, a tensor
            or nested lists.
        labels (`Sequence[str]`): Names of the classes, by index.
        title (`str`, *optional*): Above UA and WA.

    Returns:
        `matplotlib.figure.Figure`

    Raises:
        ValueError: If the matrix is empty or does not fit the labels.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    labels = checked_labels(labels)
    num_labels = len(labels)
    matrix = _checked_matrix(matrix, num_labels)
    num_clips = matrix.sum(axis=1)
    shares = np.divide(matrix, num_clips[:, None], out=np.zeros(matrix.shape), where=num_clips[:, None] > 0)

    side = 0.95 * num_labels  # inches: room for two lines of text in a cell
    figure = Figure(figsize=(max(side + 1.6, 4.2), side + 1.7))
    figure.set_layout_engine("constrained", w_pad=MARGIN_INCHES, h_pad=MARGIN_INCHES)
    axes = figure.add_subplot()
    colour_map = colormaps["Blues"]  # one hue of increasing darkness: safe for every kind of colour vision, and in grey
    axes.imshow(shares, cmap=colour_map, vmin=0, vmax=1)
    for row, column in np.ndindex(num_labels, num_labels):
        if num_clips[row]:
            colour = text_colour(colour_map(shares[row, column]))
            share, count = percent(shares[row, column]), str(matrix[row, column])
            axes.text(column, row, share, ha="center", va="bottom", fontsize=12, color=colour)
            axes.text(column, row + 0.08, count, ha="center", va="top", fontsize=9, color=colour)
    for row in np.flatnonzero(num_clips == 0).tolist():
        axes.axhspan(row - 0.48, row + 0.48, color="#EEEEEE", zorder=3)  # over the lines between the cells
        axes.text((num_labels - 1) / 2, row, "no clips", ha="center", va="center", fontsize=11, zorder=4)

    # White lines between the cells instead of a frame.
    edges = np.arange(num_labels + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.spines[:].set_visible(False)
    axes.tick_params(which="both", length=0)

    slant, side_on_tick = (30, "right") if max(map(len, labels)) > 10 else (0, "center")
    axes.set_xticks(range(num_labels), labels, fontsize=11, rotation=slant, ha=side_on_tick, rotation_mode="anchor")
    axes.set_yticks(range(num_labels), labels, fontsize=11)
    axes.set_xlabel("predicted", fontsize=12, labelpad=8)
    axes.set_ylabel("truth", fontsize=12, labelpad=8)
    write_heading(axes, title, _accuracies(matrix))
    choose_fonts(figure, [*labels, title])
    return figure


def _accuracies(matrix: np.ndarray) -> str:
    recalls = recalls_of_matrix(matrix)
    num_present, num_clips = int(np.isfinite(recalls).sum()), int(matrix.sum())
    of_classes = f" (of {num_present} classes)" if num_present < len(recalls) else ""
    return (
        f"UA {percent(np.nanmean(recalls))}{of_classes}, WA {percent(matrix.trace() / num_clips)}, "
        f"{num_clips} clip{'s' * (num_clips != 1)}"
    )


def _checked_matrix(matrix: Any, num_labels: int) -> np.ndarray:
    matrix = np.asarray(matrix)
    if matrix.shape != (num_labels, num_labels):
        raise ValueError(
            f"Expected a `matrix` (classes, classes), {(num_labels, num_labels)} for these labels; got {matrix.shape}."
        )
    if matrix.dtype.kind not in "iu" or matrix.min() < 0:
        raise ValueError("`matrix` must have counts of clips, integers of at least 0; shares are computed from them.")
    if not matrix.any():
        raise ValueError("`matrix` has no clips: there is nothing to draw.")
    return matrix
