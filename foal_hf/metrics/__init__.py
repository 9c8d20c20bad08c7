"""Metrics of emotion recognition from class indices, in numpy.

Unweighted accuracy (UA) is the mean of the per-class recalls: every emotion counts the same. Weighted accuracy (WA) is
the plain accuracy. Corpora are unbalanced, so papers report both. All values are between 0 and 1.
"""

import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .bootstrap import bootstrap_intervals
from .calibration_error import NUM_BINS, ReliabilityBins, expected_calibration_error, reliability_bins
from .evaluate_modules import METRIC_FOLDER, METRIC_MODULES, metric_path
from .matrices import (
    as_class_indices,
    confusion_matrix,
    macro_f1_of_matrix,
    recalls_of_matrix,
    unweighted_accuracy_of_matrix,
    weighted_accuracy_of_matrix,
)


if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from transformers import EvalPrediction
    from transformers.trainer_utils import PredictionOutput


logger = logging.getLogger(__name__)

# The label of a clip whose emotion is unknown: the losses and `compute_metrics` ignore it.
UNKNOWN_LABEL = -100


def compute_metrics(evaluation: "EvalPrediction") -> dict[str, float]:
    """UA and WA of an evaluation, in the form that `Trainer(compute_metrics=...)` asks for.

    Args:
        evaluation (`EvalPrediction`): `predictions` are the logits, `(clips, classes)`, or a tuple that begins with
            them; `label_ids` are class indices, `(clips,)`, -100 where the emotion is unknown: such clips are ignored.

    Returns:
        `dict[str, float]` with `unweighted_accuracy` and `weighted_accuracy`. A class without clips, which UA
        excludes, is named in one warning: Trainer's loggers take numbers only.

    Raises:
        ValueError: If shapes do not agree, logits are NaN, a label has no logit, or no clip has a label.

    Example:
        ```python
        trainer = Trainer(model=model, args=args, eval_dataset=dataset, compute_metrics=compute_metrics)
        trainer.evaluate()["eval_unweighted_accuracy"]
        ```
    """
    logits, references = labelled_logits(evaluation)
    matrix = confusion_matrix(references, logits.argmax(axis=1), num_labels=logits.shape[1])
    _warn_of_absent_classes(tuple(_absent_classes(matrix)), len(matrix))
    return {
        "unweighted_accuracy": float(unweighted_accuracy_of_matrix(matrix)),
        "weighted_accuracy": float(weighted_accuracy_of_matrix(matrix)),
    }


def labelled_logits(evaluation: "EvalPrediction | PredictionOutput") -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of the clips whose emotion is known, from what Trainer predicts.

    Args:
        evaluation (`EvalPrediction` or `PredictionOutput`): As in [`compute_metrics`].

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Logits `(clips, classes)` and class indices `(clips,)`.

    Raises:
        ValueError: If shapes do not agree, or logits are NaN.
    """
    predictions = evaluation.predictions
    logits = np.asarray(predictions[0] if isinstance(predictions, tuple) else predictions)
    references = np.asarray(evaluation.label_ids)
    if logits.ndim != 2 or references.shape != logits.shape[:1]:
        raise ValueError(
            f"Expected logits (clips, classes) and labels (clips,), got {logits.shape} and {references.shape}. "
            "Logits must come first in the model's outputs, and `prediction_loss_only` must be False."
        )
    known = references != UNKNOWN_LABEL
    logits, references = logits[known], references[known]
    # The argmax of NaN is a valid class: a diverged model would look like a guessing one.
    num_broken = int(np.isnan(logits).any(axis=1).sum())
    if num_broken:
        raise ValueError(
            f"The logits of {num_broken} of {len(logits)} clips are NaN. The model diverged, or its precision is too "
            "low: use a smaller learning rate, or bf16 instead of fp16."
        )
    return logits, references


def emotion_metrics(
    references: "ArrayLike",
    predictions: "ArrayLike",
    labels: Sequence[str],
    *,
    probabilities: "ArrayLike | None" = None,
) -> dict[str, Any]:
    """All metrics of a test at once, by the names of the emotions. `json.dump` takes the result.

    Args:
        references: True class index of every clip, `(clips,)`.
        predictions: Predicted class index of every clip, `(clips,)`.
        labels (`Sequence[str]`): Names of the classes, by index.
        probabilities (*optional*): Of every class, `(clips, classes)`, in [0, 1]; for the calibration error.

    Returns:
        `dict[str, Any]` with
            - `unweighted_accuracy`, `weighted_accuracy`, `macro_f1` (`float`),
            - `per_class_recall` (`dict[str, float | None]`): by name, `None` for a class without clips,
            - `absent_classes` (`list[str]`): the classes without clips, which UA excludes,
            - `num_clips` (`int`),
            - `confusion_matrix` (`list[list[int]]`): rows are the truth, columns the prediction,
            - `expected_calibration_error` (`float`): with `probabilities` only.

    Raises:
        ValueError: If names repeat, or as in [`confusion_matrix`] and [`reliability_bins`].

    Example:
        ```python
        >>> metrics = emotion_metrics([0, 0, 0, 1], [0, 0, 1, 1], labels=["happy", "sad", "angry"])
        >>> metrics["weighted_accuracy"], metrics["absent_classes"]
        (0.75, ['angry'])
        ```
    """
    labels = list(labels)
    if len(set(labels)) != len(labels):
        raise ValueError(f"Every class needs its own name, got {labels}.")
    matrix = confusion_matrix(references, predictions, num_labels=len(labels))
    recalls = recalls_of_matrix(matrix)
    metrics = {
        "unweighted_accuracy": float(unweighted_accuracy_of_matrix(matrix)),
        "weighted_accuracy": float(weighted_accuracy_of_matrix(matrix)),
        "macro_f1": float(macro_f1_of_matrix(matrix)),
        # JSON has no NaN.
        "per_class_recall": {
            label: None if np.isnan(recall) else float(recall) for label, recall in zip(labels, recalls, strict=True)
        },
        "absent_classes": [labels[index] for index in _absent_classes(matrix)],
        "num_clips": int(matrix.sum()),
        "confusion_matrix": matrix.tolist(),
    }
    if probabilities is not None:
        metrics["expected_calibration_error"] = expected_calibration_error(references, probabilities)
    return metrics


def unweighted_accuracy(references: "ArrayLike", predictions: "ArrayLike") -> float:
    """Unweighted accuracy (UA): the mean of the recalls of the classes that occur in the references.

        UA = 1/|C| sum_{c in C} correct_c / clips_c        C: the classes with clips_c > 0

    A class without clips has no recall. It is excluded, not counted as 0; [`absent_classes`] lists it.

    Args:
        references: True class index of every clip, `(clips,)`.
        predictions: Predicted class index of every clip, `(clips,)`.

    Returns:
        `float`: In [0, 1].

    Raises:
        ValueError: As in [`confusion_matrix`].
    """
    return float(unweighted_accuracy_of_matrix(_matrix_of_seen_classes(references, predictions)))


def weighted_accuracy(references: "ArrayLike", predictions: "ArrayLike") -> float:
    """Weighted accuracy (WA): the share of clips that are predicted correctly.

    Args:
        references: True class index of every clip, `(clips,)`.
        predictions: Predicted class index of every clip, `(clips,)`.

    Returns:
        `float`: In [0, 1].

    Raises:
        ValueError: As in [`confusion_matrix`].
    """
    return float(weighted_accuracy_of_matrix(_matrix_of_seen_classes(references, predictions)))


def macro_f1(references: "ArrayLike", predictions: "ArrayLike") -> float:
    """Mean of the F1 scores of the classes that occur in the references or in the predictions.

        F1_c = 2 correct_c / (clips_c + predicted_c)

    A class that is predicted but never true scores 0, as in scikit-learn: unlike its recall, its F1 is defined.

    Args:
        references: True class index of every clip, `(clips,)`.
        predictions: Predicted class index of every clip, `(clips,)`.

    Returns:
        `float`: In [0, 1].

    Raises:
        ValueError: As in [`confusion_matrix`].
    """
    return float(macro_f1_of_matrix(_matrix_of_seen_classes(references, predictions)))


def per_class_recall(references: "ArrayLike", predictions: "ArrayLike", num_labels: int) -> np.ndarray:
    """Share of the clips of each class that are predicted correctly.

    Args:
        references: True class index of every clip, `(clips,)`.
        predictions: Predicted class index of every clip, `(clips,)`.
        num_labels (`int`): Number of classes.

    Returns:
        `np.ndarray` of shape `(classes,)`: In [0, 1], NaN for a class without clips.

    Raises:
        ValueError: As in [`confusion_matrix`].
    """
    return recalls_of_matrix(confusion_matrix(references, predictions, num_labels))


def absent_classes(references: "ArrayLike", num_labels: int) -> list[int]:
    """The classes without clips, which [`unweighted_accuracy`] excludes.

    Args:
        references: True class index of every clip, `(clips,)`.
        num_labels (`int`): Number of classes.

    Returns:
        `list[int]`: Class indices, ascending.

    Raises:
        ValueError: As in [`confusion_matrix`].
    """
    return _absent_classes(confusion_matrix(references, references, num_labels))


@cache
def _warn_of_absent_classes(absent: tuple[int, ...], num_labels: int) -> None:
    """Warn once, not in every epoch."""
    if absent:
        logger.warning(
            f"No clip belongs to class {', '.join(map(str, absent))} of the {num_labels}: unweighted_accuracy is the "
            f"mean recall of the other {num_labels - len(absent)}."
        )


def _absent_classes(matrix: np.ndarray) -> list[int]:
    return np.flatnonzero(matrix.sum(axis=1) == 0).tolist()


def _matrix_of_seen_classes(references: "ArrayLike", predictions: "ArrayLike") -> np.ndarray:
    """The confusion matrix of the classes up to the highest index: more classes would change none of the metrics."""
    references, predictions = as_class_indices(references, "references"), as_class_indices(predictions, "predictions")
    return confusion_matrix(references, predictions, num_labels=int(max(references.max(), predictions.max())) + 1)


__all__ = [
    "METRIC_FOLDER",
    "METRIC_MODULES",
    "NUM_BINS",
    "UNKNOWN_LABEL",
    "ReliabilityBins",
    "absent_classes",
    "bootstrap_intervals",
    "compute_metrics",
    "confusion_matrix",
    "emotion_metrics",
    "expected_calibration_error",
    "labelled_logits",
    "macro_f1",
    "metric_path",
    "per_class_recall",
    "recalls_of_matrix",
    "reliability_bins",
    "unweighted_accuracy",
    "weighted_accuracy",
]
