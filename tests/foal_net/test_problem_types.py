"""One class a clip, several, or numbers: losses by hand, what shares an emotion, and training with each."""

import math
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from media_builders import run_ffmpeg
from tiny_models import tiny_batch, tiny_config, tiny_model
from transformers import Trainer, TrainingArguments

from foal_hf import TINY_CHECKPOINT, AudioVideoEmotionPipeline, FoalNetProcessor, calibrate
from foal_hf.annotate import annotate
from foal_hf.cli import main
from foal_hf.foal_net.losses_foal_net import classification_loss, known_labels, shared_emotion
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification
from foal_hf.foal_net.timeline_foal_net import NO_LABEL, runs_of_one_label
from foal_hf.plots import draw_timeline
from foal_hf.plots.subtitles_and_tables import to_csv, to_rttm, to_srt, to_vtt


MULTI, REGRESSION = "multi_label_classification", "regression"
NAMES = {0: "valence", 1: "activation", 2: "dominance"}


def build(**fields: Any) -> FoalNetForEmotionClassification:
    torch.manual_seed(0)
    return FoalNetForEmotionClassification(tiny_config(**{"initializer_range": 0.3, **fields})).eval()


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_values": torch.randn(5, 1701, generator=generator),
        "video_features": torch.randn(5, 3, 20, generator=generator),
    }


def test_the_loss_of_several_classes_is_the_mean_binary_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [5.0, 5.0]])
    labels = torch.tensor([[1.0, 0.0], [-100.0, 1.0]])  # the second clip is unknown
    # Probabilities 1/2 and 3/4 of the class: -(log 1/2 + log 1/4) / 2.
    expected = (math.log(2) + math.log(4)) / 2
    torch.testing.assert_close(classification_loss(logits, labels, MULTI), torch.tensor(expected))
    assert classification_loss(logits, torch.full((2, 2), -100.0), MULTI) == 0


def test_the_loss_of_a_regression_is_the_mean_squared_error() -> None:
    logits = torch.tensor([[1.0, 2.0], [5.0, 5.0], [0.0, 0.0]], requires_grad=True)
    labels = torch.tensor([[1.5, 2.0], [math.nan, 1.0], [0.0, -1.0]])
    loss = classification_loss(logits, labels, REGRESSION)
    torch.testing.assert_close(loss, torch.tensor((0.25 + 1.0) / 4))
    loss.backward()
    assert logits.grad.tolist() == [[-0.25, 0.0], [0.0, 0.0], [0.0, 0.5]]
    assert classification_loss(logits, torch.full((3, 2), math.nan), REGRESSION) == 0


def test_one_number_of_one_clip_has_its_own_squared_error() -> None:
    assert classification_loss(torch.tensor([[3.0]]), torch.tensor([[1.0]]), REGRESSION) == 4.0


def test_single_labels_may_be_named_or_not() -> None:
    logits, labels = torch.tensor([[2.0, 0.0]]), torch.tensor([1])
    named = classification_loss(logits, labels, "single_label_classification")
    assert named == classification_loss(logits, labels)
    torch.testing.assert_close(named, torch.tensor(math.log1p(math.exp(2))))


def test_unknown_labels_are_found() -> None:
    assert known_labels(torch.tensor([0, -100, 2])).tolist() == [True, False, True]
    assert known_labels(torch.tensor([[0.0, 1.0], [-100.0, 1.0]]), MULTI).tolist() == [True, False]
    assert known_labels(torch.tensor([[0.0, -100.0], [math.nan, 1.0]]), REGRESSION).tolist() == [True, False]


def test_clips_share_an_emotion_with_a_class_in_common_or_without_any() -> None:
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 0]]).float()
    assert shared_emotion(labels, MULTI).int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1],
        [0, 0, 0, 1, 1],
    ]


def test_numbers_share_an_emotion_within_the_distance_only() -> None:
    labels = torch.tensor([[1.0, 4.0], [1.5, 3.5], [1.75, 4.0]])
    assert shared_emotion(labels, REGRESSION) is None
    assert shared_emotion(labels, REGRESSION, 0.5).int().tolist() == [[1, 1, 0], [1, 1, 1], [0, 1, 1]]


def test_one_class_as_several_gives_the_same_auxiliary_losses() -> None:
    classes = torch.tensor([0, 1, 1, 2, 3])
    single = build()(**batch(), labels=classes)
    several = build(problem_type=MULTI)(**batch(), labels=torch.nn.functional.one_hot(classes, 4))
    for name in ("logits", "alignment_loss", "matching_loss"):
        torch.testing.assert_close(several[name], single[name])
    assert several.classification_loss != single.classification_loss


def test_a_regression_leaves_alignment_and_matching_out_unless_a_distance_is_given() -> None:
    labels = torch.tensor([0.0, 3.0, 3.1, 6.0, 9.0])[:, None].repeat(1, 4)
    output = build(problem_type=REGRESSION, num_labels=4)(**batch(), labels=labels)
    assert output.alignment_loss is None and output.matching_loss is None
    torch.testing.assert_close(output.loss, torch.nn.functional.mse_loss(output.logits, labels))
    near = build(problem_type=REGRESSION, num_labels=4, same_emotion_distance=0.5)(**batch(), labels=labels)
    classes = build(num_labels=4)(**batch(), labels=torch.tensor([0, 1, 1, 2, 3]))
    for name in ("alignment_loss", "matching_loss"):
        torch.testing.assert_close(near[name], classes[name])


def test_a_single_number_takes_labels_with_and_without_a_second_dimension() -> None:
    model, labels = build(num_labels=1), torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    assert model.config.problem_type == REGRESSION
    losses = [model(**batch(), labels=each).loss for each in (labels, labels[:, None], labels.long())]
    torch.testing.assert_close(losses, [losses[0]] * 3)


@pytest.mark.parametrize(
    ("problem_type", "labels", "message"),
    [
        (None, torch.zeros(5), r"shape \(5,\) and dtype torch.float32; expected \(batch,\), integers"),
        (None, torch.zeros(5, 4), r"expected \(batch,\), integers, as `config.problem_type` is None"),
        (MULTI, torch.zeros(5).long(), r"shape \(5,\) and dtype torch.int64; expected \(5, 4\), a number for each"),
        (REGRESSION, torch.zeros(5, 3), r"shape \(5, 3\) .* expected \(5, 4\), a number for each label"),
    ],
)
def test_labels_of_another_problem_type_are_refused(problem_type, labels, message: str) -> None:
    model = build(problem_type=problem_type, num_labels=4)
    with pytest.raises(ValueError, match=message):
        model(**batch(), labels=labels)
    assert model.config.problem_type == problem_type


class Clips(torch.utils.data.Dataset):
    """The mean of the waveform decides on the label."""

    def __init__(self, labels: torch.Tensor) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(index)
        features = torch.randn(3, 20, generator=generator)
        features[:, :3] += 3 * self.labels[index]
        return {
            "input_values": torch.randn(900, generator=generator),
            "video_features": features,
            "labels": self.labels[index],
        }


@pytest.mark.parametrize("problem_type", [MULTI, REGRESSION])
def test_training_by_the_plain_trainer_learns(tmp_path: Path, problem_type: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.rand(24, 3, generator=generator)
    labels = labels if problem_type == REGRESSION else labels.round()
    torch.manual_seed(0)
    weights = {"alignment_loss_weight": 0.0, "matching_loss_weight": 0.0}
    model = FoalNetForEmotionClassification(tiny_config(problem_type=problem_type, id2label=NAMES, **weights))
    arguments = TrainingArguments(
        tmp_path, max_steps=40, learning_rate=3e-3, per_device_train_batch_size=8, use_cpu=True, report_to=[],
        save_strategy="no", seed=0,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=Clips(labels), eval_dataset=Clips(labels))
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    prediction = trainer.predict(Clips(labels))
    assert prediction.predictions.shape == (24, 3)
    assert prediction.metrics["test_loss"] < 0.9 * before
    model.save_pretrained(tmp_path / "saved")
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path / "saved")
    assert (loaded.config.problem_type, loaded.config.id2label) == (problem_type, NAMES)


SILENCE = {"audio": torch.zeros(16_000).numpy(), "sampling_rate": 16_000}
NUMBERS = {"valence": 0.0, "activation": math.log(3), "dominance": -2.0}


def classify_with(problem_type: str, **fields: Any) -> Any:
    model = build(vision="vit", problem_type=problem_type, id2label=NAMES, **fields)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([0.0, math.log(3), -2.0]))
    return AudioVideoEmotionPipeline(model=model, processor=FoalNetProcessor.from_pretrained(TINY_CHECKPOINT))


@pytest.mark.parametrize(
    ("problem_type", "fields", "scores"),
    [
        (MULTI, {}, {"activation": 0.75, "valence": 0.5, "dominance": 1 / (1 + math.exp(2))}),
        (MULTI, {"calibration_temperature": 2.0}, {"activation": 3**0.5 / (1 + 3**0.5), "valence": 0.5}),
        (REGRESSION, {}, {"valence": 0.0, "activation": math.log(3), "dominance": -2.0}),
    ],
)
def test_the_pipeline_returns_sigmoids_of_classes_and_numbers_as_they_are(problem_type, fields, scores) -> None:
    classify = classify_with(problem_type, **fields)
    result = classify(SILENCE, modality="audio")[: len(scores)]
    assert [entry["label"] for entry in result] == list(scores)
    assert [entry["score"] for entry in result] == pytest.approx(list(scores.values()), abs=1e-6)


@pytest.mark.parametrize("name", ["min_score", "top_k"])
def test_a_choice_by_score_is_refused_where_the_model_predicts_numbers(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` is for probabilities, but this model predicts numbers"):
        classify_with(REGRESSION)(SILENCE, **{name: 1})


def test_segments_of_a_regression_have_numbers_and_no_label() -> None:
    segments = classify_with(REGRESSION)(SILENCE, modality="audio", window_seconds=0.5, stride_seconds=0.5)
    assert len(segments) == 2
    for segment in segments:
        assert (segment["label"], segment["score"], segment["reason"]) == (None, None, NO_LABEL)
        assert {entry["label"]: entry["score"] for entry in segment["scores"]} == pytest.approx(NUMBERS)
    header, first, _ = (line.split(",") for line in to_csv(segments, list(NUMBERS)).splitlines())
    row = dict(zip(header, first, strict=False))
    assert (row["label"], row["score"]) == ("", "")
    assert float(row["score_activation"]) == pytest.approx(math.log(3))
    assert runs_of_one_label(segments) == [{"start_seconds": 0.0, "end_seconds": 1.0, "label": None, "score": None}]
    assert to_vtt(segments) == "WEBVTT\n" and to_srt(segments) == to_rttm(segments, "clip") == ""
    with pytest.raises(ValueError, match="these segments have the numbers of a regression"):
        draw_timeline(segments, labels=list(NUMBERS))


def test_the_table_of_annotations_of_a_regression_has_numbers_and_no_label(tmp_path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1:r=16000", tmp_path / "clip.wav")
    annotate([tmp_path / "clip.wav"], tmp_path / "table.parquet", model=classify_with(REGRESSION), num_workers=1)
    (row,) = pyarrow.parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert (row["label"], row["score"], row["reason"]) == (None, None, NO_LABEL)
    assert row["score_activation"] == pytest.approx(math.log(3))


def test_the_command_prints_numbers_and_refuses_what_needs_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classify_with(REGRESSION).save_pretrained(tmp_path / "model")
    clip = tmp_path / "clip.wav"
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=1:r=16000", clip)
    command = ["predict", str(clip), "--model", str(tmp_path / "model"), "--quiet"]
    assert main([*command, "--window-seconds", "1", "--stride-seconds", "1"]) == 0
    assert capsys.readouterr().out == f"{clip}:      0.00      1.00  valence 0.00  activation 1.10  dominance -2.00\n"
    for option in (["--vtt"], ["--srt"], ["--rttm"], ["--plot", str(tmp_path / "plot.png")]):
        assert main([*command, *option]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and "show labels; the model predicts numbers (regression)" in printed.err


def test_no_temperature_is_fitted_for_several_classes(tmp_path: Path) -> None:
    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to=[])
    trainer = Trainer(build(problem_type=MULTI, id2label=NAMES), arguments)
    with pytest.raises(ValueError, match="'multi_label_classification'; a temperature is fitted for one class"):
        calibrate(trainer, Clips(torch.ones(5, 3)))
    with pytest.raises(Exception, match="expected None, as regression has no scores"):
        tiny_config(problem_type=REGRESSION, num_labels=3, calibration_temperature=2.0)


@pytest.mark.parametrize(
    ("fields", "unknown"),
    [
        ({"problem_type": MULTI, "id2label": {0: "happy", 1: "sad", 2: "angry"}}, -100.0),
        (
            {
                "problem_type": REGRESSION,
                "id2label": {0: "valence", 1: "activation", 2: "dominance"},
                "same_emotion_distance": 0.6,
            },
            math.nan,
        ),
    ],
    ids=["several classes", "regression"],
)
def test_a_clip_of_unknown_labels_is_in_no_loss_of_pairs(fields: dict[str, Any], unknown: float) -> None:
    model, inputs = tiny_model(**fields), tiny_batch()
    labels = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [unknown] * 3, [0, 1, 0]])
    keep = torch.tensor([0, 1, 2, 4])
    with torch.no_grad():
        whole = model(**inputs, labels=labels)
        known = model(**{name: value[keep] for name, value in inputs.items()}, labels=labels[keep])
    for name in ("classification_loss", "alignment_loss", "matching_loss"):
        torch.testing.assert_close(whole[name], known[name], atol=1e-5, rtol=0)
        assert known[name] > 0
