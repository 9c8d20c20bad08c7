"""Results of a test: scores with intervals, recalls, the confusion matrix, and the same for groups of people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import bootstrap_intervals, emotion_metrics
from .typed_json import JsonRecord


if TYPE_CHECKING:
    from numpy.typing import ArrayLike


METRIC_NAMES = {"unweighted_accuracy": "UA", "weighted_accuracy": "WA", "macro_f1": "macro F1"}
"""The scores of an [`Evaluation`], with their printed names."""


@dataclass(frozen=True)
class Score(JsonRecord):
    """A metric with its uncertainty.

    Args:
        value (`float`): In [0, 1]; for several runs or folds, of all their clips together, or their mean.
        interval (`tuple[float, float]`, *optional*): Low and high end of its bootstrap interval, in [0, 1].
        standard_deviation (`float`, *optional*): Over repeated runs or folds.
        mean_of_runs (`float`, *optional*): Mean over repeated runs or folds, where `value` is of all clips together.
            Papers report this mean; it differs from `value` if folds differ in size or class distribution.
    """

    value: float
    interval: tuple[float, float] | None = None
    standard_deviation: float | None = None
    mean_of_runs: float | None = None

    def __post_init__(self) -> None:
        low, high = self.interval or (0.0, 1.0)
        if not (0 <= self.value <= 1 and 0 <= low <= high <= 1):
            raise ValueError(f"Expected values between 0 and 1, got {self.value} with the interval {self.interval}.")


@dataclass(frozen=True)
class Bootstrap(JsonRecord):
    """How intervals were computed, as in [`~foal_hf.metrics.bootstrap_intervals`].

    Args:
        clustered_by (`str`): Resampled unit: `"speaker"`, `"session"`, or `"clip"`.
        num_clusters (`int`): Number of these units in the test.
        num_resamples (`int`), confidence (`float`), seed (`int`): As there.
    """

    clustered_by: str
    num_clusters: int
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Evaluation(JsonRecord):
    """Results of a test.

    Args:
        num_clips (`int`): Clips of the test, over all folds.
        unweighted_accuracy, weighted_accuracy, macro_f1 ([`Score`]): UA, WA and macro F1.
        per_class_recall (`dict[str, float | None]`): By label, in the order of the labels; None for one without clips.
        confusion_matrix (`list[list[int]]`): Clips; rows are true classes, columns predictions.
        bootstrap ([`Bootstrap`], *optional*): How the intervals were computed, where there are any.
        groups (`dict[str, dict[str, Evaluation]]`): The same for groups of clips, where the corpus tells them:
            `{"gender": {"female": ..., "male": ...}}`.
        expected_calibration_error (`float`, *optional*): Mean gap between the confidence and the accuracy of the
            predictions, in [0, 1].
        num_runs (`int`, *optional*): Number of runs, each with its own seed, that tested each clip; the confusion
            matrix counts all of them. None: one.
    """

    num_clips: int
    unweighted_accuracy: Score
    weighted_accuracy: Score
    macro_f1: Score
    per_class_recall: dict[str, float | None]
    confusion_matrix: list[list[int]]
    bootstrap: Bootstrap | None = None
    groups: "dict[str, dict[str, Evaluation]]" = field(default_factory=dict)
    expected_calibration_error: float | None = None
    num_runs: int | None = None

    def __post_init__(self) -> None:
        rows, num_labels = self.confusion_matrix, len(self.per_class_recall)
        num_tested = self.num_clips * (self.num_runs or 1)
        if len(rows) != num_labels or any(len(row) != num_labels for row in rows):
            raise ValueError(f"Expected a confusion matrix of {num_labels} x {num_labels} classes, got {rows}.")
        if sum(map(sum, rows)) != num_tested:
            raise ValueError(f"The confusion matrix counts {sum(map(sum, rows))} clips, expected {num_tested}.")

    @classmethod
    def from_predictions(
        cls,
        references: "ArrayLike",
        predictions: "ArrayLike",
        labels: Sequence[str],
        *,
        clusters: Sequence[str] | None = None,
        clustered_by: str = "speaker",
        groups: Mapping[str, Sequence[str]] | None = None,
        probabilities: "ArrayLike | None" = None,
        num_resamples: int = 1000,
        confidence: float = 0.95,
        seed: int = 0,
    ) -> "Evaluation":
        """Compare predictions with the true classes.

        Args:
            references: True class index of every clip, `(clips,)`.
            predictions: Predicted class index of every clip, `(clips,)`.
            labels (`Sequence[str]`): Names of the classes, by index.
            clusters (`Sequence[str]`, *optional*): Speaker of every clip. Without them there are no intervals.
            clustered_by (`str`, defaults to `"speaker"`): What `clusters` are.
            groups (`Mapping[str, Sequence[str]]`, *optional*): Group of every clip, by the name of the grouping; an
                empty name means unknown, and such clips are in no group.
            probabilities (*optional*): Of every class, `(clips, classes)`; for the calibration error.
            num_resamples, confidence, seed: As in [`~foal_hf.metrics.bootstrap_intervals`].

        Raises:
            ValueError: If lengths differ, or a value is not the index of a class.

        Example:
            ```python
            >>> test = Evaluation.from_predictions([0, 1, 0, 1], [0, 1, 1, 1], ["calm", "angry"], clusters="aabb")
            >>> test.weighted_accuracy
            Score(value=0.75, interval=(0.5, 1.0), standard_deviation=None)
            ```
        """
        references, predictions = np.asarray(references), np.asarray(predictions)
        measured = emotion_metrics(references, predictions, labels, probabilities=probabilities)
        members = None if clusters is None else np.asarray(list(clusters))
        intervals: dict[str, tuple[float, float] | None] = {}
        bootstrap = None
        settings: dict[str, Any] = {"num_resamples": num_resamples, "confidence": confidence, "seed": seed}
        if members is not None:
            intervals = bootstrap_intervals(references, predictions, len(labels), members, **settings)
            if None not in intervals.values():
                bootstrap = Bootstrap(clustered_by, len(set(members.tolist())), **settings)
        parts: dict[str, dict[str, Evaluation]] = {}
        for grouping, names in (groups or {}).items():
            column = np.asarray(list(names))
            if len(column) != len(references):
                raise ValueError(f"Expected the {grouping} of {len(references)} clips, got {len(column)}.")
            parts[grouping] = {
                str(name): cls.from_predictions(
                    references[column == name],
                    predictions[column == name],
                    labels,
                    clusters=None if members is None else members[column == name].tolist(),
                    clustered_by=clustered_by,
                    **settings,
                )
                for name in sorted(set(column.tolist()) - {""})
            }
        scores: dict[str, Any] = {name: Score(measured[name], intervals.get(name)) for name in METRIC_NAMES}
        return cls(
            num_clips=measured["num_clips"],
            **scores,
            per_class_recall=measured["per_class_recall"],
            confusion_matrix=measured["confusion_matrix"],
            bootstrap=bootstrap,
            groups=parts,
            expected_calibration_error=measured.get("expected_calibration_error"),
        )


__all__ = ["METRIC_NAMES", "Bootstrap", "Evaluation", "Score"]
