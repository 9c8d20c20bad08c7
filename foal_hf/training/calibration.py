"""Temperature scaling: makes scores match the accuracy, fitted on validation clips.

    probabilities = softmax(logits / temperature)

One number makes all scores more or less confident; the predicted class never changes. The config has it as
`calibration_temperature`, and the pipeline applies it. Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers.utils import logging

from ..metrics import UNKNOWN_LABEL, expected_calibration_error, labelled_logits
from ..metrics.matrices import as_class_indices


if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from transformers import Trainer


logger = logging.get_logger(__name__)

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
"""Range of [`fit_temperature`]. Trained models that generalise are well inside."""

MIN_CLIPS = 30
"""Fewer clips do not determine the temperature. With four classes and an accuracy of 75 %, a temperature of 2 is
estimated with an error factor of 1.34 (one standard deviation) from 30 clips, 1.15 from 100, 1.04 from 1000."""

_STEPS = 60  # halvings of the range, down to the precision of a float


@dataclass(frozen=True)
class Calibration:
    """Effect of a temperature on the clips it was fitted on.

    Args:
        temperature (`float`, *optional*): Divides the logits; None if the clips determine none.
        num_clips (`int`): Clips it was fitted on.
        loss_before, loss_after (`float`): Their mean negative log-likelihood, in nats, without and with it.
        error_before, error_after (`float`): Their expected calibration error, in [0, 1], without and with it.
    """

    temperature: float | None
    num_clips: int
    loss_before: float
    loss_after: float
    error_before: float
    error_after: float


def calibrate(trainer: "Trainer", dataset: Any = None, *, min_clips: int = MIN_CLIPS) -> Calibration:
    """Fit the temperature on the validation split, and write it to `model.config.calibration_temperature`.

    Call it when the checkpoint is chosen and loaded, before the test and before the model is saved. `dataset` must not
    have test clips, or training clips, on which the model is overconfident.

    If the clips determine no temperature (see [`fit_temperature`]), the config gets None, and a warning says why.

    Args:
        trainer (`Trainer`): Of a [`FoalNetForEmotionClassification`].
        dataset (*optional*): The validation split; the trainer's `eval_dataset` by default.
        min_clips (`int`, defaults to 30): Fewer clips with a label are an error.

    Returns:
        [`Calibration`]: The temperature, and its effect on these clips.

    Raises:
        ValueError: If there is no validation split, it is the training split, or as in [`fit_temperature`].

    Example:
        ```python
        trainer.train()  # with load_best_model_at_end=True
        calibrate(trainer)
        trainer.save_model()
        ```
    """
    dataset = trainer.eval_dataset if dataset is None else dataset
    if dataset is None or (isinstance(dataset, Mapping) and trainer.eval_dataset is dataset):
        raise ValueError(f"`eval_dataset` of the trainer is {_kind(dataset)}: pass the validation split as `dataset`.")
    if dataset is trainer.train_dataset:
        raise ValueError(
            "`dataset` is the training split, but the temperature has to be fitted on clips the model was not trained "
            "on. Pass the validation split."
        )
    model: Any = trainer.model
    problem_type = model.config.problem_type
    if problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"`config.problem_type` is {problem_type!r}; a temperature is fitted for one class a clip only."
        )
    logits, labels = labelled_logits(trainer.predict(dataset, metric_key_prefix="calibration"))
    temperature: float | None = fit_temperature(logits, labels, min_clips=min_clips)
    if temperature in (LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE):
        logger.warning("The scores of the model are not calibrated: `calibration_temperature` is None.")
        temperature = None
    model.config.calibration_temperature = temperature
    loss_before, error_before = _measure(logits, labels, 1.0)
    loss_after, error_after = _measure(logits, labels, temperature or 1.0)
    return Calibration(temperature, len(labels), loss_before, loss_after, error_before, error_after)


def fit_temperature(logits: "ArrayLike", labels: "ArrayLike", *, min_clips: int = MIN_CLIPS) -> float:
    """The temperature that maximises the likelihood of the true classes.

        T = argmin_T -1/N sum_i log softmax(z_i / T)[y_i]

    The loss is convex in 1 / T, so its slope (the mean of z under the softmax minus that of the true classes) changes
    its sign at most once, and bisection finds the place. There is none if all (or nearly all) clips are correct, where
    T = 0 would be best, or if the model is no better than chance, where no T is high enough. Then the end of the range
    is returned, with a warning.

    Args:
        logits: Of every class, `(clips, classes)`, of clips that are neither training nor test clips.
        labels: True class index of every clip, `(clips,)`; clips with -100 are skipped.
        min_clips (`int`, defaults to 30): Fewer clips are an error.

    Returns:
        `float`: From `LOWEST_TEMPERATURE` to `HIGHEST_TEMPERATURE`; above 1 the model was overconfident.

    Raises:
        ValueError: If there are too few clips, all of one class, logits are not finite, or a label has no logit.

    Example:
        ```python
        >>> temperature = fit_temperature(logits, labels)
        >>> probabilities = (logits / temperature).softmax(-1)
        ```
    """
    scores, truth = _checked(logits, labels, min_clips)
    lowest, highest = 1 / HIGHEST_TEMPERATURE, 1 / LOWEST_TEMPERATURE  # of 1 / T
    if _slope(scores, truth, lowest) >= 0:
        logger.warning(
            f"No temperature up to {HIGHEST_TEMPERATURE:g} is high enough: on these {len(truth)} clips the model is no "
            "better than chance. Train it longer, or check labels and inputs."
        )
        return HIGHEST_TEMPERATURE
    if _slope(scores, truth, highest) <= 0:
        num_right = int((scores.argmax(dim=1) == truth).sum())
        logger.warning(
            f"No temperature down to {LOWEST_TEMPERATURE:g} is low enough: the model is correct on {num_right} of "
            f"these {len(truth)} clips, which do not show how often it is wrong. Use more clips, or harder ones."
        )
        return LOWEST_TEMPERATURE
    for _ in range(_STEPS):
        middle = math.sqrt(lowest * highest)
        if _slope(scores, truth, middle) < 0:
            lowest = middle
        else:
            highest = middle
    return 1 / math.sqrt(lowest * highest)


def _slope(scores: torch.Tensor, truth: torch.Tensor, sharpness: float) -> float:
    """Slope of the mean negative log-likelihood over the sharpness 1 / T."""
    expected = ((scores * sharpness).softmax(dim=1) * scores).sum(dim=1)  # (clips,)
    return float((expected - scores.gather(1, truth[:, None])[:, 0]).mean())


def _measure(logits: "ArrayLike", labels: "ArrayLike", temperature: float) -> tuple[float, float]:
    """Mean negative log-likelihood in nats, and expected calibration error."""
    scores, truth = torch.as_tensor(logits).double() / temperature, torch.as_tensor(labels)
    loss = torch.nn.functional.cross_entropy(scores, truth)
    return float(loss), expected_calibration_error(truth, scores.softmax(dim=1))


def _checked(logits: "ArrayLike", labels: "ArrayLike", min_clips: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float64, `(clips, classes)`, the highest of a clip 0, and class indices `(clips,)`."""
    scores, given = torch.as_tensor(logits).detach().cpu().double(), torch.as_tensor(labels).detach().cpu()
    if scores.ndim != 2 or given.shape != scores.shape[:1]:
        raise ValueError(
            f"Expected logits (clips, classes) and labels (clips,), got {tuple(scores.shape)} and {tuple(given.shape)}."
        )
    known = given != UNKNOWN_LABEL
    scores, given = scores[known], given[known]
    if len(given) < max(min_clips, 1):
        raise ValueError(
            f"Calibration needs at least {max(min_clips, 1)} clips with a label, got {len(given)}. Use a larger "
            "validation split, or skip calibration."
        )
    num_broken = int((~scores.isfinite()).any(dim=1).sum())
    if num_broken:
        raise ValueError(
            f"The logits of {num_broken} of {len(scores)} clips are not finite. The model diverged, or its precision "
            "is too low: try bf16 instead of fp16."
        )
    truth = torch.from_numpy(as_class_indices(given.numpy(), "labels", scores.shape[1]))
    if len(truth.unique()) == 1:
        raise ValueError(
            f"All {len(truth)} clips are of class {int(truth[0])}, but calibration needs several classes. Use a "
            "validation split with all classes."
        )
    return scores - scores.amax(dim=1, keepdim=True), truth


def _kind(dataset: Any) -> str:
    return "not set" if dataset is None else f"several splits, {', '.join(map(str, dataset))}"


__all__ = [
    "HIGHEST_TEMPERATURE",
    "LOWEST_TEMPERATURE",
    "MIN_CLIPS",
    "Calibration",
    "calibrate",
    "fit_temperature",
]
