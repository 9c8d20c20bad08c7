"""Unweighted accuracy (UA), the mean of the recalls, as a metric of evaluate. Travels alone."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
Unweighted accuracy (UA) is the mean of the recalls of the classes, so that a rare emotion counts as much as a frequent
one. It is also called unweighted average recall or balanced accuracy. A class that no reference belongs to has no
recall: it is left out, and named in `absent_classes`.
"""

_INPUTS = """
Args:
    predictions (`list` of `int`, or of `list` of `float`): Predicted class index of each clip, or its scores for all
        classes (logits or probabilities), of which the highest counts.
    references (`list` of `int`): True class index of each clip.
    labels (`list` of `str`, *optional*): Names of the classes, by index; names those that no clip belongs to. Without
        them classes are named by their index, up to the highest that occurs or has a score.

Returns:
    unweighted_accuracy (`float`): In [0, 1]; 1 is best.
    absent_classes (`list` of `str`): Classes that no reference belongs to, which are left out of the mean.

Example:

    >>> metric = evaluate.load("path/to/unweighted_accuracy")
    >>> metric.compute(references=[0, 0, 1], predictions=[0, 1, 1], labels=["happy", "sad", "angry"])
    {'unweighted_accuracy': 0.75, 'absent_classes': ['angry']}
"""

_CITATION = """"""


class UnweightedAccuracy(evaluate.Metric):
    """Mean recall of the classes that occur in the references."""

    def _info(self) -> evaluate.MetricInfo:
        # Floats on both sides: as an integer, a probability of 0.7 would quietly become class 0.
        index, scores = datasets.Value("float64"), datasets.Sequence(datasets.Value("float64"))
        kinds = [datasets.Features(predictions=kind, references=index) for kind in (scores, index)]
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation=_CITATION, inputs_description=_INPUTS, features=kinds
        )

    def _compute(
        self, predictions: Sequence[Any], references: Sequence[float], labels: Sequence[str] | None = None
    ) -> dict[str, Any]:
        matrix, names = _count(predictions, references, labels)
        num_clips = matrix.sum(axis=1)
        occurs = num_clips > 0
        recalls = matrix.diagonal()[occurs] / num_clips[occurs]
        absent = [name for name, num_clips in zip(names, matrix.sum(axis=1), strict=True) if num_clips == 0]
        return {"unweighted_accuracy": float(recalls.mean()), "absent_classes": absent}


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
