"""Temperature scaling: a softmax whose scores are as often right as they say, fitted on held-out clips.

    probabilities = softmax(logits / temperature)

One number makes all scores more or less sure; which class is the likeliest never changes. It stands in the config as
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
"""Where [`fit_temperature`] looks. A trained network that generalises is well inside."""

MIN_CLIPS = 30
"""Fewer say too little. In four classes of which 3 of 4 clips are right, a temperature of 2 that is fitted on 30 clips
is off by a factor of 1.34 (one standard deviation), on 100 by 1.15, on 1000 by 1.04."""

_STEPS = 60  # halvings of the range, down to the precision of a float


@dataclass(frozen=True)
class Calibration:
    """What a temperature did to the clips that it was fitted on.

    Args:
        temperature (`float`, *optional*): Divides the logits; None where the clips determine none.
        num_clips (`int`): Clips that it was fitted on.
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
    """Fit the temperature on the validation part, and write it to `model.config.calibration_temperature`.

    To be called once the checkpoint is chosen and loaded, before the test and before the model is saved. Clips of the
    test must not be among `dataset`, nor clips that the model was trained on: on those it is surer than it may be.

    Where the clips determine no temperature (see [`fit_temperature`]), the config gets None, and a warning says why.

    Args:
        trainer (`Trainer`): Of a [`FoalNetForEmotionClassification`].
        dataset (*optional*): The validation part; the trainer's `eval_dataset` by default.
        min_clips (`int`, defaults to 30): Fewer clips with a label are an error.

    Returns:
        [`Calibration`]: The temperature, and what it does to these clips.

    Raises:
        ValueError: If there is no validation part, it is the training part, or as in [`fit_temperature`].

    Example:
        ```python
        trainer.train()  # with load_best_model_at_end=True
        calibrate(trainer)
        trainer.save_model()
        ```
    """
    dataset = trainer.eval_dataset if dataset is None else dataset
    if dataset is None or (isinstance(dataset, Mapping) and trainer.eval_dataset is dataset):
        raise ValueError(
            f"Which clips is the temperature to be fitted on? `eval_dataset` of the trainer is {_kind(dataset)}; give "
            "the validation part as `dataset`."
        )
    if dataset is trainer.train_dataset:
        raise ValueError(
            "The temperature has to be fitted on clips that the model was not trained on, and `dataset` is the "
            "training part. Give the validation part."
        )
    model: Any = trainer.model
    logits, labels = labelled_logits(trainer.predict(dataset, metric_key_prefix="calibration"))
    temperature: float | None = fit_temperature(logits, labels, min_clips=min_clips)
    if temperature in (LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE):
        logger.warning("The scores of the model stay as they are: `calibration_temperature` is None.")
        temperature = None
    model.config.calibration_temperature = temperature
    loss_before, error_before = _measure(logits, labels, 1.0)
    loss_after, error_after = _measure(logits, labels, temperature or 1.0)
    return Calibration(temperature, len(labels), loss_before, loss_after, error_before, error_after)


def fit_temperature(logits: "ArrayLike", labels: "ArrayLike", *, min_clips: int = MIN_CLIPS) -> float:
    """The temperature under which the true classes are likeliest.

        T = argmin_T -1/N sum_i log softmax(z_i / T)[y_i]

    In 1 / T this is convex, so its slope, which is the mean of z under the softmax less that of the true classes,
    changes its sign once at most, and halving the range finds the place. There is none where all (or nearly all) clips
    are right, since T = 0 would be best, or where the model does no better than a guess, since no T is high enough.
    The end of the range is given then, and a warning.

    Args:
        logits: Of every class, `(clips, classes)`, of clips that the model was neither trained nor is tested on.
        labels: True class index of every clip, `(clips,)`; clips with -100 are left out.
        min_clips (`int`, defaults to 30): Fewer clips are an error.

    Returns:
        `float`: From `LOWEST_TEMPERATURE` to `HIGHEST_TEMPERATURE`; above 1 the model was too sure.

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
            f"No temperature up to {HIGHEST_TEMPERATURE:g} makes the model unsure enough: on these {len(truth)} clips "
            "it does no better than a guess. Train it longer, or look at labels and inputs."
        )
        return HIGHEST_TEMPERATURE
    if _slope(scores, truth, highest) <= 0:
        num_right = int((scores.argmax(dim=1) == truth).sum())
        logger.warning(
            f"No temperature down to {LOWEST_TEMPERATURE:g} makes the model sure enough: it is right on {num_right} of "
            f"these {len(truth)} clips, which do not tell how often it is wrong. Use more clips, or harder ones."
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
            f"Expected {max(min_clips, 1)} clips with a label or more, got {len(given)}: a temperature fitted on fewer "
            "says more of these clips than of the model. Enlarge the validation part, or leave calibration out."
        )
    num_broken = int((~scores.isfinite()).any(dim=1).sum())
    if num_broken:
        raise ValueError(
            f"The logits of {num_broken} of {len(scores)} clips are not finite. The model diverged, or its precision "
            "is too low: try bf16 in place of fp16."
        )
    truth = torch.from_numpy(as_class_indices(given.numpy(), "labels", scores.shape[1]))
    if len(truth.unique()) == 1:
        raise ValueError(
            f"All {len(truth)} clips are of class {int(truth[0])}: how often the model is right on one class does not "
            "tell how sure it may be of the others. Use a validation part with all classes."
        )
    return scores - scores.amax(dim=1, keepdim=True), truth


def _kind(dataset: Any) -> str:
    return "not set" if dataset is None else f"several parts, {', '.join(map(str, dataset))}"


__all__ = [
    "HIGHEST_TEMPERATURE",
    "LOWEST_TEMPERATURE",
    "MIN_CLIPS",
    "Calibration",
    "calibrate",
    "fit_temperature",
]
