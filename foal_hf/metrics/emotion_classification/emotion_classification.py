"""Metrics of emotion classification for `evaluate`, one config each. Imports only what comes with evaluate."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np


_DESCRIPTIONS = {
    "unweighted_accuracy": "Unweighted accuracy (UA): the mean of the per-class recalls, so that every emotion counts "
    "the same. A class without clips has no recall and is excluded from the mean.",
    "weighted_accuracy": "Weighted accuracy (WA): the share of clips that are predicted correctly, which is the mean "
    "of the per-class recalls weighted by class size.",
    "macro_f1": "Macro F1: the mean of the F1 scores of the classes that occur in the references or the predictions. "
    "A class that is predicted but never true scores 0, as in scikit-learn.",
    "per_class_recall": "Per-class recall: the share of the clips of each class that are predicted correctly, by the "
    "name of the class; `None` for a class without clips.",
    "expected_calibration_error": "Expected calibration error (ECE): the mean gap between confidence and accuracy, "
    "over bins of equal width, each weighted by its number of clips.",
}

_INPUTS = """
Args:
    predictions (`list` of `int`, or of `list` of `float`): Predicted class index of each clip, or its scores for all
        classes (logits or probabilities), of which the highest is the prediction. The calibration error takes
        probabilities only.
    references (`list` of `int`): True class index of each clip.
    labels (`list` of `str`, *optional*): Names of the classes, by index. Without them a class is named by its index,
        up to the highest index that occurs or has a score.
    num_bins (`int`, defaults to 15): For the calibration error: bins of equal width between 0 and 1. A confidence on
        an edge belongs to the lower bin.

Returns:
    The metric, under the name of its config, and `absent_classes` (`list` of `str`): the classes without clips.

Example:

    >>> metric = evaluate.load("path/to/emotion_classification", "unweighted_accuracy")
    >>> metric.compute(references=[0, 0, 1], predictions=[0, 1, 1], labels=["happy", "sad", "angry"])
    {'unweighted_accuracy': 0.75, 'absent_classes': ['angry']}
"""

_ECE_CITATION = """
@inproceedings{Guo2017,
    title = {On Calibration of Modern Neural Networks},
    author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
    booktitle = {Proceedings of the 34th International Conference on Machine Learning},
    pages = {1321--1330},
    year = {2017}
}
"""


class EmotionClassification(evaluate.Metric):
    """The metric that the config names."""

    default_config = ""
    config_name: str

    @property
    def name(self) -> str:
        """Name of the metric: what `evaluate.combine` puts before a result that several metrics have."""
        return self.config_name

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name == "default":
            self.config_name = self.default_config
        if self.config_name not in _DESCRIPTIONS:
            raise ValueError(
                f"Unknown metric {self.config_name!r}; expected one of {', '.join(_DESCRIPTIONS)}. Name it as the "
                "second argument: `evaluate.load(path, 'unweighted_accuracy')`."
            )
        # Floats on both sides: as an integer, a probability of 0.7 would silently become class 0.
        index, scores = datasets.Value("float64"), datasets.Sequence(datasets.Value("float64"))
        needs_probabilities = self.config_name == "expected_calibration_error"
        accepted = [scores] if needs_probabilities else [scores, index]
        return evaluate.MetricInfo(
            description=_DESCRIPTIONS[self.config_name],
            citation=_ECE_CITATION if needs_probabilities else "",
            inputs_description=_INPUTS,
            features=[datasets.Features(predictions=kind, references=index) for kind in accepted],
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[float],
        labels: Sequence[str] | None = None,
        num_bins: int = 15,
    ) -> dict[str, Any]:
        matrix, names = _confusion_matrix(predictions, references, labels)
        num_correct, num_clips, num_predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
        occurs = num_clips > 0
        recalls = num_correct / np.where(occurs, num_clips, 1)
        value: Any
        if self.config_name == "unweighted_accuracy":
            value = float(recalls[occurs].mean())
        elif self.config_name == "weighted_accuracy":
            value = float(num_correct.sum() / num_clips.sum())
        elif self.config_name == "macro_f1":
            counts = num_clips + num_predicted
            value = float((2 * num_correct[counts > 0] / counts[counts > 0]).mean())
        elif self.config_name == "per_class_recall":
            known = zip(names, recalls.tolist(), occurs, strict=True)
            value = {name: recall if has_clips else None for name, recall, has_clips in known}
        else:
            value = _calibration_error(np.asarray(predictions), np.asarray(references), num_bins)
        return {self.config_name: value, "absent_classes": [names[index] for index in np.flatnonzero(~occurs)]}


class UnweightedAccuracy(EmotionClassification):
    """Mean recall of the classes that occur in the references."""

    default_config = "unweighted_accuracy"


class WeightedAccuracy(EmotionClassification):
    """Share of clips that are predicted correctly."""

    default_config = "weighted_accuracy"


class MacroF1(EmotionClassification):
    """Mean F1 of the classes that occur in the references or the predictions."""

    default_config = "macro_f1"


class PerClassRecall(EmotionClassification):
    """Recall of each class, by its name."""

    default_config = "per_class_recall"


class ExpectedCalibrationError(EmotionClassification):
    """Mean gap between confidence and accuracy."""

    default_config = "expected_calibration_error"


def _calibration_error(probabilities: np.ndarray, references: np.ndarray, num_bins: int) -> float:
    # A softmax in bf16 is off by less than 0.01.
    if (probabilities < 0).any() or (np.abs(probabilities.sum(axis=1) - 1) > 0.01).any():
        raise ValueError("`predictions` must be probabilities: at least 0, with sum 1. Apply a softmax to logits.")
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1, got {num_bins}.")
    confidence, is_correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == references
    bins = np.searchsorted(np.linspace(0, 1, num_bins + 1)[1:-1], confidence)
    gaps = np.bincount(bins, weights=is_correct - confidence)  # of the sums: a mean times its clips
    return float(np.abs(gaps).sum() / len(references))


def _confusion_matrix(
    predictions: Sequence[Any], references: Sequence[float], labels: Sequence[str] | None
) -> tuple[np.ndarray, list[str]]:
    """The confusion matrix, with the truth in rows, and the names of the classes."""
    truth, predicted = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    num_labels = None if labels is None else len(labels)
    if predicted.ndim == 2:  # scores of every class
        if np.isnan(predicted).any():  # their argmax would be a class like any other
            raise ValueError("Some of the scores are NaN: the model diverged, or its precision is too low.")
        if num_labels not in (None, predicted.shape[1]):
            raise ValueError(f"Expected a label for each of the {predicted.shape[1]} scores of a clip, got {labels}.")
        num_labels, predicted = predicted.shape[1], predicted.argmax(axis=1)
    for name, indices in (("references", truth), ("predictions", predicted)):
        wrong = (indices % 1 != 0) | (indices < 0) | (indices >= (num_labels or np.inf))
        if wrong.any():
            raise ValueError(
                f"`{name}` holds {indices[wrong][0]:g}; expected class indices "
                f"{'of at least 0' if num_labels is None else f'from 0 to {num_labels - 1}'}. Remove clips without a "
                "label first."
            )
    if num_labels is None:
        num_labels = int(max(truth.max(), predicted.max())) + 1
    names = [str(label) for label in (range(num_labels) if labels is None else labels)]
    if len(set(names)) != len(names):
        raise ValueError(f"Every class needs its own name, got {names}.")
    cells = (truth * num_labels + predicted).astype(np.int64)
    return np.bincount(cells, minlength=num_labels**2).reshape(num_labels, num_labels), names
