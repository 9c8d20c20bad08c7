"""Bootstrap intervals of UA, WA and macro F1, clustered by speaker."""

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

    Predictions for clips of one speaker are correlated, so resampling clips would give too narrow intervals. Instead,
    whole clusters are resampled with replacement, as many as there are. The interval holds the middle `confidence` of
    the metric over the resamples. Percentile intervals are too narrow with few clusters (below about ten). An interval
    without width, as when all clips are correct, means that this test shows no spread, not that the number is certain.

    In a resample without clips of a class, the metrics are computed as always: UA over the classes in its references,
    macro F1 over the classes in its references or predictions.

    Args:
        references: True class index of every clip, `(clips,)`, integers in `[0, num_labels)`.
        predictions: Predicted class index of every clip, likewise.
        num_labels (`int`): Number of classes.
        clusters (`Sequence` of `str` or `int`, *optional*): What each clip belongs to, `(clips,)`: its speaker, or its
            session where speakers talk to each other. Without it every clip is a cluster of its own.
        num_resamples (`int`, defaults to 1000): Number of resamples.
        confidence (`float`, defaults to 0.95): Share of the resamples that the interval holds, in (0, 1).
        seed (`int`, defaults to 0): Of the resampling. The global random state is neither read nor changed.

    Returns:
        `dict[str, tuple[float, float] | None]`: `(low, high)` of `unweighted_accuracy`, `weighted_accuracy` and
        `macro_f1`, in [0, 1]. All are `None` with a single cluster, which shows no spread.

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
        raise ValueError(f"`confidence` must be between 0 and 1, got {confidence}; 0.95 is usual.")
    if num_resamples < 1:
        raise ValueError(f"`num_resamples` must be at least 1, got {num_resamples}.")
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
