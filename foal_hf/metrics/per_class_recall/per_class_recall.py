"""The recall of every class by its name, as a metric of evaluate. Travels alone."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTION = """
The recall of a class is the share of its clips that are recognised. A class that no reference belongs to has none: it
is `None` here, and named in `absent_classes`.
"""

_INPUTS = """
Args:
    predictions (`list` of `int`, or of `list` of `float`): Predicted class index of each clip, or its scores for all
        classes (logits or probabilities), of which the highest counts.
    references (`list` of `int`): True class index of each clip.
    labels (`list` of `str`, *optional*): Names of the classes, by index; names those that no clip belongs to. Without
        them classes are named by their index, up to the highest that occurs or has a score.

Returns:
    per_class_recall (`dict` of `float`): By class, in [0, 1], `None` for a class without clips; 1 is best.
    absent_classes (`list` of `str`): Classes that no reference belongs to.

Example:

    >>> metric = evaluate.load("path/to/per_class_recall")
    >>> metric.compute(references=[0, 0, 1], predictions=[0, 1, 1], labels=["happy", "sad", "angry"])
    {'per_class_recall': {'happy': 0.5, 'sad': 1.0, 'angry': None}, 'absent_classes': ['angry']}
"""

_CITATION = """"""


class PerClassRecall(evaluate.Metric):
    """Recall of every class, by its name."""

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
        counts = zip(names, matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), strict=True)
        recalls = {name: correct / num_clips if num_clips else None for name, correct, num_clips in counts}
        absent = [name for name, recall in recalls.items() if recall is None]
        return {"per_class_recall": recalls, "absent_classes": absent}


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
