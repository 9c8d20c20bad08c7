"""The gap between a model's confidence and its accuracy: the expected calibration error (ECE) and its bins."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .matrices import as_class_indices


if TYPE_CHECKING:
    from numpy.typing import ArrayLike


NUM_BINS = 15
"""Bins of confidence, as in Guo et al., On Calibration of Modern Neural Networks, 2017."""

_ROUNDING = 0.01  # how far from 1 probabilities may add up to: a softmax in bf16 is off by less


@dataclass(frozen=True)
class ReliabilityBins:
    """Clips by the confidence of their prediction, in bins of equal width: `edges[b] < confidence <= edges[b + 1]`.

    Args:
        edges (`np.ndarray` of shape `(bins + 1,)`): From 0 to 1.
        num_clips (`np.ndarray` of shape `(bins,)`): Clips in each bin.
        accuracy (`np.ndarray` of shape `(bins,)`): Their accuracy, in [0, 1]; NaN in an empty bin.
        confidence (`np.ndarray` of shape `(bins,)`): Their mean confidence, in [0, 1]; NaN in an empty bin.
    """

    edges: np.ndarray
    num_clips: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between accuracy and confidence, weighted by the clips in each bin; in [0, 1]."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps * self.num_clips) / self.num_clips.sum())


def expected_calibration_error(references: "ArrayLike", probabilities: "ArrayLike", num_bins: int = NUM_BINS) -> float:
    """Expected calibration error (ECE): the mean gap between confidence and accuracy.

        ECE = sum_b clips_b / clips |accuracy_b - confidence_b|

    The confidence of a clip is its highest probability. On a small test set the ECE is biased upwards: it is above 0
    even for a calibrated model. A class without clips does not matter, because no mean is taken over classes.

    Args:
        references: True class index of every clip, `(clips,)`.
        probabilities: Of every class, `(clips, classes)`, in [0, 1]: logits after the softmax.
        num_bins (`int`, defaults to 15): Bins of equal width between 0 and 1.

    Returns:
        `float`: In [0, 1]; 0 is best.

    Raises:
        ValueError: As in [`reliability_bins`].

    Example:
        ```python
        >>> expected_calibration_error([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        0.25
        ```
    """
    return reliability_bins(references, probabilities, num_bins).expected_calibration_error


def reliability_bins(references: "ArrayLike", probabilities: "ArrayLike", num_bins: int = NUM_BINS) -> ReliabilityBins:
    """Accuracy and mean confidence of the predictions, by their confidence.

    Args:
        references: True class index of every clip, `(clips,)`.
        probabilities: Of every class, `(clips, classes)`, in [0, 1]: logits after the softmax.
        num_bins (`int`, defaults to 15): Bins of equal width between 0 and 1.

    Returns:
        [`ReliabilityBins`]

    Raises:
        ValueError: If there are no clips, the lengths differ, a reference has no class, or a row holds no
            probabilities.
    """
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1, got {num_bins}; {NUM_BINS} is usual.")
    shares = _as_probabilities(probabilities)
    truth = as_class_indices(references, "references", shares.shape[1])
    if len(truth) != len(shares):
        raise ValueError(f"Expected probabilities for each reference, got {len(truth)} and {len(shares)}.")
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == truth
    edges = np.linspace(0, 1, num_bins + 1)
    numbers = np.searchsorted(edges[1:-1], confidence)  # a confidence on an edge belongs to the bin below it
    num_clips = np.bincount(numbers, minlength=num_bins)
    means = (_mean_in_bins(values, numbers, num_clips) for values in (right, confidence))
    return ReliabilityBins(edges, num_clips, *means)


def _mean_in_bins(values: np.ndarray, numbers: np.ndarray, num_clips: np.ndarray) -> np.ndarray:
    sums = np.bincount(numbers, weights=values, minlength=len(num_clips))
    return np.divide(sums, num_clips, out=np.full(len(num_clips), np.nan), where=num_clips > 0)


def _as_probabilities(values: "ArrayLike") -> np.ndarray:
    shares = np.asarray(values, dtype=np.float64)
    if shares.ndim != 2:
        raise ValueError(f"`probabilities` must have the shape (clips, classes), got {shares.shape}.")
    # NaN fails the comparison too.
    broken = ~((shares >= 0).all(axis=1) & (np.abs(shares.sum(axis=1) - 1) <= _ROUNDING))
    if broken.any():
        row = int(broken.argmax())
        raise ValueError(
            f"`probabilities` must be at least 0 and have the sum 1 for every clip; row {row} is "
            f"{shares[row].tolist()}. Apply a softmax to logits."
        )
    return shares


__all__ = ["NUM_BINS", "ReliabilityBins", "expected_calibration_error", "reliability_bins"]
