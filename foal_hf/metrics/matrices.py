"""Confusion matrices of class indices, and what UA, WA and macro F1 are of one matrix or of a whole stack."""

from typing import TYPE_CHECKING

import numpy as np


if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def confusion_matrix(references: "ArrayLike", predictions: "ArrayLike", num_labels: int) -> np.ndarray:
    """Count the clips of each true class by their predicted class.

    Args:
        references: True class index of every clip, `(clips,)`, integers in `[0, num_labels)`.
        predictions: Predicted class index of every clip, likewise.
        num_labels (`int`): Number of classes.

    Returns:
        `np.ndarray` of shape `(classes, classes)`, int64: Rows are the truth, columns the prediction.

    Raises:
        ValueError: If there are no clips, the two differ in length, or a value is not the index of a class.
    """
    references = as_class_indices(references, "references", num_labels)
    predictions = as_class_indices(predictions, "predictions", num_labels)
    if len(references) != len(predictions):
        raise ValueError(
            f"Expected one prediction for each reference, got {len(references)} references and {len(predictions)} "
            "predictions."
        )
    cells = references * num_labels + predictions
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels)


def recalls_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Recall of each class from a confusion matrix.

    Args:
        matrix (`np.ndarray` of shape `(..., classes, classes)`): Counts, as [`confusion_matrix`] gives them.

    Returns:
        `np.ndarray` of shape `(..., classes)`: In [0, 1], NaN for a class without clips.
    """
    num_clips, num_correct = matrix.sum(axis=-1), _diagonal(matrix)
    return np.divide(num_correct, num_clips, out=np.full(num_clips.shape, np.nan), where=num_clips > 0)


def unweighted_accuracy_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that have clips: `(..., classes, classes)` to `(...)`."""
    return np.asarray(np.nanmean(recalls_of_matrix(matrix), axis=-1))


def weighted_accuracy_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Share of clips that are predicted correctly: `(..., classes, classes)` to `(...)`."""
    return np.asarray(_diagonal(matrix).sum(axis=-1) / matrix.sum(axis=(-2, -1)))


def macro_f1_of_matrix(matrix: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that are true or predicted somewhere: `(..., classes, classes)` to `(...)`."""
    true_and_predicted = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    occurs = true_and_predicted > 0
    scores = np.divide(2 * _diagonal(matrix), true_and_predicted, out=np.zeros(occurs.shape), where=occurs)
    return np.asarray(scores.sum(axis=-1) / occurs.sum(axis=-1))


def as_class_indices(values: "ArrayLike", name: str, num_labels: int | None = None) -> np.ndarray:
    """One class index for each clip, `(clips,)`, int64.

    Args:
        values: What a caller gave.
        name (`str`): Of the argument, for the error.
        num_labels (`int`, *optional*): Number of classes, where it is known.

    Raises:
        ValueError: If there are no clips, or a value is not the index of a class.
    """
    indices = np.asarray(values)
    if indices.size == 0:
        raise ValueError(f"`{name}` is empty: a metric needs at least one clip.")
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must hold one integer class index for each clip, (clips,), got the shape {indices.shape} and "
            f"the type {indices.dtype}. Names become indices with `config.label2id`, logits with `argmax(-1)`."
        )
    outside = indices < 0 if num_labels is None else (indices < 0) | (indices >= num_labels)
    if outside.any():
        expected = "of at least 0" if num_labels is None else f"from 0 to {num_labels - 1}"
        position = int(outside.argmax())
        raise ValueError(
            f"`{name}` holds {indices[position]} at position {position}, expected class indices {expected}. Remove "
            "clips without a label first."
        )
    return indices.astype(np.int64)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


__all__ = [
    "as_class_indices",
    "confusion_matrix",
    "macro_f1_of_matrix",
    "recalls_of_matrix",
    "unweighted_accuracy_of_matrix",
    "weighted_accuracy_of_matrix",
]
