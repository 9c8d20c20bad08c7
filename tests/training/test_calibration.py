"""The temperature: known ones are found, predictions do not change, and the config of the model has it."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from training_examples import Examples, collate, make_arguments, make_model
from transformers import Trainer

from foal_hf import FoalNetForEmotionClassification
from foal_hf.metrics import expected_calibration_error, reliability_bins
from foal_hf.plots.reliability import draw_reliability_diagram, plot_reliability_diagram
from foal_hf.training import FoalNetTrainer
from foal_hf.training.calibration import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, calibrate, fit_temperature


def known_miscalibration(temperature: float, num_clips: int = 5003, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of four classes, and labels that are drawn from the softmax of `logits / temperature`."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_clips, 4, generator=generator) * 2.9  # right on 3 of 4
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    return logits * temperature, labels


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What calibration says, in `messages`."""
    with caplog.at_level(logging.WARNING, logger="foal_hf.training.calibration"):
        yield caplog


# Fitting


@pytest.mark.parametrize("temperature", [0.2, 0.7, 1.0, 2.0, 7.0])
def test_a_known_temperature_is_found(temperature: float, warnings: pytest.LogCaptureFixture) -> None:
    assert fit_temperature(*known_miscalibration(temperature)) == pytest.approx(temperature, rel=0.05)
    assert not warnings.messages


def test_two_clips_right_of_three_give_the_temperature_that_is_worked_out_by_hand() -> None:
    # Two classes and one gap of 3: the softmax says 2/3 where exp(3 / T) = 2.
    assert fit_temperature([[3.0, 0.0]] * 3, [0, 0, 1], min_clips=3) == pytest.approx(3 / math.log(2), rel=1e-9)


def test_no_other_temperature_makes_the_labels_likelier() -> None:
    logits, labels = known_miscalibration(1.7, num_clips=101, seed=3)
    best = fit_temperature(logits, labels)
    losses = [float(torch.nn.functional.cross_entropy(logits.double() / best / f, labels)) for f in (1, 0.99, 1.01)]
    assert losses[0] < min(losses[1:])


def test_the_calibration_error_falls() -> None:
    logits, labels = known_miscalibration(3.0)
    fresh_logits, fresh_labels = known_miscalibration(3.0, seed=1)  # clips that the temperature was not fitted on
    temperature = fit_temperature(logits, labels)
    before = expected_calibration_error(fresh_labels, fresh_logits.softmax(-1))
    after = expected_calibration_error(fresh_labels, (fresh_logits / temperature).softmax(-1))
    assert before > 0.1 and after < 0.03


def test_the_likeliest_class_never_changes() -> None:
    logits, labels = known_miscalibration(2.3)
    for temperature in (fit_temperature(logits, labels), LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE):
        assert ((logits / temperature).argmax(-1) == logits.argmax(-1)).all()


def test_it_depends_neither_on_what_is_added_to_a_clips_logits_nor_on_their_kind() -> None:
    logits, labels = known_miscalibration(2.0, num_clips=211)
    expected = fit_temperature(logits, labels)
    offset = torch.linspace(-1e3, 1e3, 211, dtype=torch.float64)[:, None]
    assert fit_temperature(logits.double() + offset, labels) == pytest.approx(expected, rel=1e-6)
    for other in (logits.numpy(), logits.tolist(), logits.clone().requires_grad_()):
        assert fit_temperature(other, labels.numpy()) == pytest.approx(expected, rel=1e-6)
    assert fit_temperature(logits.bfloat16(), labels) == pytest.approx(expected, rel=0.02)


def test_clips_without_a_label_are_left_out() -> None:
    logits, labels = known_miscalibration(2.0, num_clips=211)
    unlabelled = torch.cat([logits, torch.full((7, 4), torch.nan)]), torch.cat([labels, torch.full((7,), -100)])
    assert fit_temperature(*unlabelled) == fit_temperature(logits, labels)


def test_it_says_so_when_all_clips_are_right(warnings: pytest.LogCaptureFixture) -> None:
    logits, _ = known_miscalibration(1.0, num_clips=53)
    assert fit_temperature(logits, logits.argmax(-1)) == LOWEST_TEMPERATURE
    (message,) = warnings.messages
    assert "correct on 53 of these 53 clips" in message


def test_it_says_so_when_the_model_does_no_better_than_a_guess(warnings: pytest.LogCaptureFixture) -> None:
    logits, _ = known_miscalibration(1.0, num_clips=53)
    assert fit_temperature(logits, logits.argmin(-1)) == HIGHEST_TEMPERATURE
    assert fit_temperature(torch.zeros(53, 4), logits.argmin(-1)) == HIGHEST_TEMPERATURE
    assert ["no better than chance" in message for message in warnings.messages] == [True, True]


def broken(value: float) -> list[list[float]]:
    return [[0.0, 1.0]] * 36 + [[value, 1.0]]


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([[0.0, 1.0]] * 29, [0, 1] * 14 + [0], "at least 30 clips with a label, got 29"),
        ([[0.0, 1.0]] * 37, [1] * 29 + [-100] * 8, "at least 30 clips with a label, got 29"),
        ([[0.0, 1.0]] * 37, [1] * 37, "All 37 clips are of class 1"),
        (broken(math.nan), [0, 1] * 18 + [0], "The logits of 1 of 37 clips are not finite"),
        (broken(math.inf), [0, 1] * 18 + [0], "The logits of 1 of 37 clips are not finite"),
        ([[0.0, 1.0]] * 37, [0, 2] * 18 + [0], "`labels` holds 2 at position 1, expected class indices from 0 to 1"),
        ([[0.0, 1.0]] * 37, [0, 1] * 18, r"got \(37, 2\) and \(36,\)"),
        ([0.0] * 37, [0] * 37, r"got \(37,\) and \(37,\)"),
    ],
)
def test_clips_that_determine_no_temperature_are_refused(logits: list, labels: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


# Calibrating a model


def make_trainer(folder: Path, **settings: Any) -> FoalNetTrainer:
    """Of an untrained model whose logits differ from clip to clip as those of a trained one do."""
    model = make_model(dropout=False)
    parts = {"train_dataset": Examples(23), "eval_dataset": Examples(31, seed=1, first_speaker=3)}
    trainer = FoalNetTrainer(model, make_arguments(folder), data_collator=collate, **parts | settings)
    with torch.no_grad():
        logits = torch.from_numpy(trainer.predict(Examples(31, seed=1)).predictions)
        model.classifier.bias -= logits.mean(dim=0)
        sharpen(model, 2 / float(logits.std(dim=0).mean()))
    return trainer


def sharpen(model: FoalNetForEmotionClassification, factor: float) -> None:
    """Multiply all logits."""
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter *= factor


def label_as_the_model_thinks(trainer: FoalNetTrainer, temperature: float) -> None:
    """Draw the labels of the validation part from the model's own softmax, at a temperature."""
    logits = torch.from_numpy(trainer.predict(trainer.eval_dataset).predictions)
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)[:, 0]
    trainer.eval_dataset.labels = labels.tolist()


def test_the_model_gets_its_temperature_and_keeps_it_when_saved_and_loaded(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    label_as_the_model_thinks(trainer, 2.0)
    prediction = trainer.predict(trainer.eval_dataset)
    result = calibrate(trainer)
    assert result.temperature == fit_temperature(prediction.predictions, prediction.label_ids)
    assert 1.2 < result.temperature < 4 and result.num_clips == 31
    assert result.loss_after < result.loss_before
    for temperature, error in ((1.0, result.error_before), (result.temperature, result.error_after)):
        probabilities = (torch.from_numpy(prediction.predictions).double() / temperature).softmax(-1)
        assert error == pytest.approx(expected_calibration_error(prediction.label_ids, probabilities))
    trainer.save_model()
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    assert loaded.config.calibration_temperature == result.temperature


def test_a_model_that_is_surer_by_a_factor_gets_a_temperature_that_is_higher_by_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    label_as_the_model_thinks(trainer, 1.0)
    once = calibrate(trainer).temperature
    sharpen(trainer.model, 1.7)
    # The temperature that stands in the config by now makes no difference: the model gives bare logits.
    assert calibrate(trainer).temperature == pytest.approx(1.7 * once, rel=1e-4)


def test_the_plain_trainer_will_do_with_the_part_named(tmp_path: Path) -> None:
    ours = make_trainer(tmp_path)
    label_as_the_model_thinks(ours, 1.0)
    parts = {"known": ours.eval_dataset, "other": Examples(37, seed=2)}
    arguments = make_arguments(tmp_path, train_sampling_strategy="random")
    trainer = Trainer(ours.model, arguments, data_collator=collate, eval_dataset=parts)
    with pytest.raises(ValueError, match="several splits, known, other: pass the validation split"):
        calibrate(trainer)
    assert calibrate(trainer, parts["known"]) == calibrate(ours)


@pytest.mark.parametrize("always", ["right", "wrong"])
def test_without_a_temperature_the_scores_stay_as_they_are(
    always: str, tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(tmp_path)
    order = trainer.predict(trainer.eval_dataset).predictions.argsort(axis=1)
    trainer.eval_dataset.labels = order[:, {"right": -1, "wrong": 0}[always]].tolist()
    trainer.model.config.calibration_temperature = 3.0
    result = calibrate(trainer)
    assert result.temperature is None and trainer.model.config.calibration_temperature is None
    assert result.loss_after == result.loss_before and result.error_after == result.error_before
    assert "`calibration_temperature` is None" in warnings.messages[-1]


def test_the_training_part_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(ValueError, match="`dataset` is the training split"):
        calibrate(trainer, trainer.train_dataset)
    with pytest.raises(ValueError, match="`eval_dataset` of the trainer is not set"):
        calibrate(make_trainer(tmp_path, eval_dataset=None))


def test_too_few_clips_are_refused_and_the_model_is_left_alone(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, eval_dataset=Examples(13))
    with pytest.raises(ValueError, match=r"got 13.*Use a larger validation split"):
        calibrate(trainer)
    assert trainer.model.config.calibration_temperature is None
    assert calibrate(trainer, min_clips=13).num_clips == 13


# The picture


def shown(figure: Figure) -> list[str]:
    FigureCanvasAgg(figure).draw()
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def test_the_diagram_shows_the_error_and_the_clips_of_every_bin() -> None:
    logits, labels = known_miscalibration(2.0, num_clips=331)
    probabilities = logits.softmax(-1)
    bins = reliability_bins(labels, probabilities)
    figure = draw_reliability_diagram(labels, probabilities, title="Held-out speakers")
    words = shown(figure)
    right = float((logits.argmax(-1) == labels).double().mean())
    sure = float(probabilities.double().amax(-1).mean())
    error = bins.expected_calibration_error
    summary = f"ECE {100 * error:.1f} %, accuracy {100 * right:.1f} %, confidence {100 * sure:.1f} %, 331 clips"
    assert summary in words and "Held-out speakers" in words
    counts = [int(text.get_text()) for text in figure.axes[1].texts]
    assert counts == [count for count in bins.num_clips.tolist() if count] and sum(counts) == 331


def test_bars_are_as_high_as_the_accuracy_and_the_gap_ends_at_the_confidence() -> None:
    # One bin of two clips with confidence 0.75, one of them right.
    figure = draw_reliability_diagram([0, 1], [[0.75, 0.25], [0.75, 0.25]], num_bins=2)
    accuracy, gap = figure.axes[0].patches
    assert (accuracy.get_x(), accuracy.get_width(), accuracy.get_height()) == (0.5, 0.5, 0.5)
    assert (gap.get_y(), gap.get_height()) == (0.5, 0.25)
    assert "ECE 25.0 %, accuracy 50.0 %, confidence 75.0 %, 2 clips" in shown(figure)


@pytest.mark.parametrize("ending", [".png", ".pdf", ".svg"])
def test_the_file_appears(ending: str, tmp_path: Path) -> None:
    logits, labels = known_miscalibration(2.0, num_clips=61)
    path = plot_reliability_diagram(labels, logits.softmax(-1), tmp_path / "new" / f"reliability{ending}")
    assert path.stat().st_size > 3000
    if ending == ".png":
        assert imread(path).std() > 0.1  # and is no blank page


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="file name ending in"):
        plot_reliability_diagram([0], [[1.0, 0.0]], tmp_path / "reliability.txt")
    with pytest.raises(ValueError, match="Apply a softmax to logits"):
        draw_reliability_diagram([0, 1], [[3.0, 1.0], [2.0, 5.0]])
