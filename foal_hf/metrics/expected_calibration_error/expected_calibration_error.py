"""The expected calibration error (ECE) of probabilities, as a metric of evaluate. Travels alone."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
The expected calibration error (ECE) is how far a model's confidence is from how often it is right. Clips are put into
bins of equal width by the probability of their likeliest class; in each bin the mean confidence is compared with the
accuracy, and the gaps are averaged, each bin as heavy as it has clips.
"""

_INPUTS = """
Args:
    predictions (`list` of `list` of `float`): Probabilities of all classes for each clip: logits after the softmax.
    references (`list` of `int`): True class index of each clip.
    labels (`list` of `str`, *optional*): Names of the classes, by index; names those that no clip belongs to. Without
        them classes are named by their index, up to the highest that occurs or has a score.
    num_bins (`int`, defaults to 15): Bins of equal width between 0 and 1; a confidence on an edge is in the lower one.

Returns:
    expected_calibration_error (`float`): In [0, 1]; 0 is best.
    absent_classes (`list` of `str`): Classes that no reference belongs to; they change nothing here.

Example:

    >>> metric = evaluate.load("path/to/expected_calibration_error")
    >>> metric.compute(references=[0, 1], predictions=[[0.75, 0.25], [0.75, 0.25]])
    {'expected_calibration_error': 0.25, 'absent_classes': []}
"""

_CITATION = """
@inproceedings{Guo2017,
    title = {On Calibration of Modern Neural Networks},
    author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
    booktitle = {Proceedings of the 34th International Conference on Machine Learning},
    pages = {1321--1330},
    year = {2017}
}
"""


class ExpectedCalibrationError(evaluate.Metric):
    """Mean gap between confidence and accuracy."""

    def _info(self) -> evaluate.MetricInfo:
        index, scores = datasets.Value("float64"), datasets.Sequence(datasets.Value("float64"))
        features = datasets.Features(predictions=scores, references=index)
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation=_CITATION, inputs_description=_INPUTS, features=features
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[float],
        labels: Sequence[str] | None = None,
        num_bins: int = 15,
    ) -> dict[str, Any]:
        matrix, names = _count(predictions, references, labels)
        probabilities = np.asarray(predictions)
        # A softmax in bf16 is off by less than 0.01.
        if (probabilities < 0).any() or (np.abs(probabilities.sum(axis=1) - 1) > 0.01).any():
            raise ValueError("`predictions` have to be probabilities: 0 or more, 1 in all. Apply a softmax to logits.")
        if num_bins < 1:
            raise ValueError(f"`num_bins` has to be 1 or more, got {num_bins}.")
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(references)
        bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
        gaps = np.bincount(bins, weights=right - confidence)  # of the sums: a mean times its clips
        absent = [name for name, num_clips in zip(names, matrix.sum(axis=1), strict=True) if num_clips == 0]
        return {"expected_calibration_error": float(np.abs(gaps).sum() / len(right)), "absent_classes": absent}


# The same in all metrics of foal_hf: evaluate loads each script alone.
def _count(
    predictions: Sequence[Any], references: Sequence[float], labels: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """The confusion matrix, with the truth in rows, and the names of the classes."""
    truth, guesses = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    num_labels = None if labels is None else len(labels)
    if guesses.ndim == 2:  # scores of every class
        if np.isnan(guesses).any():  # their argmax would be a class like any other
            raise ValueError("Some of the scores are NaN: the model diverged, or its precision is too low.")
        if num_labels not in (None, guesses.shape[1]):
            raise ValueError(f"Expected a label for each of the {guesses.shape[1]} scores of a clip, got {labels}.")
        num_labels, guesses = guesses.shape[1], guesses.argmax(axis=1)
    for name, indices in (("references", truth), ("predictions", guesses)):
        wrong = (indices % 1 != 0) | (indices < 0) | (indices >= (num_labels or np.inf))
        if wrong.any():
            raise ValueError(
                f"`{name}` holds {indices[wrong][0]:g}, expected class indices from 0 "
                f"{'on' if num_labels is None else f'to {num_labels - 1}'}. Leave clips without a label out."
            )
    if num_labels is None:
        num_labels = int(max(truth.max(), guesses.max())) + 1
    names = [str(label) for label in (range(num_labels) if labels is None else labels)]
    if len(set(names)) != len(names):
        raise ValueError(f"Every class needs a name of its own, got {names}.")
    cells = (truth * num_labels + guesses).astype(np.int64)
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels), names
