"""How far UA, WA and macro F1 would move with other speakers: bootstrap intervals, clustered by speaker."""

from typing import TYPE_CHECKING

import numpy as np

from .matrices import (
    as_class_indices,
    confusion_matrix,
    macro_f1_of_matrix,
    unweighted_accuracy_of_matrix,
    weighted_accuracy_of_matrix,
)


if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


_METRICS = {
    "unweighted_accuracy": unweighted_accuracy_of_matrix,
    "weighted_accuracy": weighted_accuracy_of_matrix,
    "macro_f1": macro_f1_of_matrix,
}


def bootstrap_intervals(
    references: "ArrayLike",
    predictions: "ArrayLike",
    num_labels: int,
    clusters: "Sequence[str] | Sequence[int] | np.ndarray | None" = None,
    *,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap intervals of UA, WA and macro F1, drawn by cluster.

    Clips of one speaker are right or wrong together, so drawing clips would call a test of few speakers more certain
    than it is. Here whole clusters are drawn, with replacement, as many as there are; each metric is taken of each
    resample, and the interval holds the middle `confidence` of its values. Percentile intervals are too narrow where
    clusters are few (below about ten): they say the least, not the most, that a number may move. Where all clusters are
    alike, all clips right for example, the interval has no width, which says that this test shows no spread, not that
    the number is certain.

    A resample may miss a class. The metrics then mean what they always mean here: UA averages the recalls over the
    classes that occur in the references of that resample, macro F1 over those that occur in its references or
    predictions.

    Args:
        references: True class index of every clip, `(clips,)`, integers in `[0, num_labels)`.
        predictions: Predicted class index of every clip, likewise.
        num_labels (`int`): Number of classes.
        clusters (`Sequence` of `str` or `int`, *optional*): What each clip belongs to, `(clips,)`: its speaker, or its
            session where speakers talk to each other. Without it every clip is a cluster of its own.
        num_resamples (`int`, defaults to 1000): Times that clusters are drawn.
        confidence (`float`, defaults to 0.95): Share of the resamples that the interval holds, in (0, 1).
        seed (`int`, defaults to 0): Of the draw. The state of no other generator is read or changed.

    Returns:
        `dict[str, tuple[float, float] | None]`: `(low, high)` of `unweighted_accuracy`, `weighted_accuracy` and
        `macro_f1`, in [0, 1]. All are None with one cluster only, from which no spread can be learned.

    Raises:
        ValueError: If a number is out of range, the lengths differ, or as in [`confusion_matrix`].

    Example:
        ```python
        >>> speakers = ["anna", "anna", "bert", "bert"]
        >>> bootstrap_intervals([0, 1, 0, 1], [0, 1, 1, 0], num_labels=2, clusters=speakers)["weighted_accuracy"]
        (0.0, 1.0)
        ```
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` has to lie between 0 and 1, got {confidence}: 0.95 is usual.")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` has to be 1 or more, got {num_resamples}.")
    generator = np.random.default_rng(seed)
    if clusters is None:
        matrices = _resample_clips(references, predictions, num_labels, num_resamples, generator)
    else:
        matrices = _resample_clusters(references, predictions, num_labels, clusters, num_resamples, generator)
    if matrices is None:
        return dict.fromkeys(_METRICS)
    tail = (1 - confidence) / 2
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, metric in _METRICS.items():
        low, high = np.quantile(metric(matrices), [tail, 1 - tail])
        intervals[name] = (float(low), float(high))
    return intervals


def _resample_clips(
    references: "ArrayLike",
    predictions: "ArrayLike",
    num_labels: int,
    num_resamples: int,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """`(resamples, classes, classes)`: drawing clips one by one is a multinomial draw of the matrix's cells."""
    matrix = confusion_matrix(references, predictions, num_labels)
    num_clips = matrix.sum()
    if num_clips < 2:
        return None
    cells = generator.multinomial(num_clips, matrix.ravel() / num_clips, size=num_resamples)
    return cells.reshape(num_resamples, num_labels, num_labels)


def _resample_clusters(
    references: "ArrayLike",
    predictions: "ArrayLike",
    num_labels: int,
    clusters: "Sequence[str] | Sequence[int] | np.ndarray",
    num_resamples: int,
    generator: np.random.Generator,
) -> np.ndarray | None:
    """`(resamples, classes, classes)`: the matrix of a resample is the sum of those of the clusters in it."""
    references = as_class_indices(references, "references", num_labels)
    predictions = as_class_indices(predictions, "predictions", num_labels)
    clusters = np.asarray(clusters)
    if not (clusters.ndim == 1 and len(references) == len(predictions) == len(clusters)):
        raise ValueError(
            f"Expected one prediction and one cluster for each reference, got {len(references)} references, "
            f"{len(predictions)} predictions and clusters of the shape {clusters.shape}."
        )
    names, numbers = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return None
    num_cells = num_labels**2
    cells = numbers * num_cells + references * num_labels + predictions
    matrices = np.bincount(cells, minlength=len(names) * num_cells).reshape(len(names), num_cells)
    # How often each cluster is in each resample. Counts stay whole numbers in float64, whose product is a fast one.
    times = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num_resamples)
    drawn = times.astype(np.float64) @ matrices.astype(np.float64)
    return drawn.reshape(num_resamples, num_labels, num_labels)


__all__ = ["bootstrap_intervals"]
