"""Which clips and which pairs the losses of the model see, and what only training does."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import FRAMES, SAMPLES, tiny_batch, tiny_model

from foal_hf.foal_net.losses_foal_net import alignment_loss
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification


CLOSE = {"atol": 1e-5, "rtol": 0}
LABELS = torch.tensor([0, 1, 1, 2, 3])
DROPOUTS = ("sequence_dropout", "projection_dropout", "fusion_dropout", "classifier_dropout")
AUDIO, VIDEO = ("input_values", "attention_mask"), ("pixel_values_videos", "padding_mask_videos")


def rows_of(inputs: dict[str, torch.Tensor], rows: Any, names: tuple[str, ...] = AUDIO + VIDEO) -> dict:
    return {name: inputs[name][rows] for name in names}


def matching_loss_of(
    model: FoalNetForEmotionClassification, inputs: dict, video_index: list[int], audio_index: list[int]
) -> torch.Tensor:
    """MEM of the given negatives: the model is run on clips whose audio or video comes from another."""
    true = model(**inputs)
    other_video = model(**rows_of(inputs, ..., AUDIO), **rows_of(inputs, video_index, VIDEO))
    other_audio = model(**rows_of(inputs, audio_index, AUDIO), **rows_of(inputs, ..., VIDEO))
    target = torch.tensor([1, 0]).repeat_interleave(len(video_index))
    losses = []
    for head, name, negative in (
        (model.audio_matching_head, "audio_pooler_output", other_video),
        (model.video_matching_head, "video_pooler_output", other_audio),
    ):
        losses.append(F.cross_entropy(head(torch.cat([true[name], negative[name]])), target))
    return (losses[0] + losses[1]) / 2


def hardest(queries: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor) -> list[int]:
    scores = queries @ keys.T
    return scores.masked_fill(labels[:, None] == labels, -9.0).argmax(dim=1).tolist()


@torch.no_grad()
def test_in_evaluation_each_side_is_matched_with_the_hardest_negative_of_its_own_similarities() -> None:
    model, inputs = tiny_model(), tiny_batch()
    output = model(**inputs, labels=LABELS)
    audio, video = output.audio_embeds, output.video_embeds
    video_index, audio_index = hardest(audio, video, LABELS), hardest(video, audio, LABELS)
    expected = matching_loss_of(model, inputs, video_index, audio_index)
    torch.testing.assert_close(output.matching_loss, expected, **CLOSE)
    # Were the audio drawn by the similarities of the other side, it would be this.
    assert (matching_loss_of(model, inputs, video_index, video_index) - expected).abs() > 1e-3


@torch.no_grad()
def test_in_training_negatives_are_drawn_and_each_one_that_may_be_drawn_is() -> None:
    model, inputs, labels = tiny_model(), rows_of(tiny_batch(), [0, 1, 2]), torch.tensor([0, 1, 1])
    # The first clip has two others to draw from, and the others have the first alone.
    possible = [
        matching_loss_of(model, inputs, [video, 0, 0], [audio, 0, 0])
        for video, audio in itertools.product([1, 2], repeat=2)
    ]
    model.train()
    model.foal_net.eval()  # without dropout the drawing is all that differs
    drawn = torch.stack([model(**inputs, labels=labels).matching_loss for _ in range(40)])
    apart = (drawn[:, None] - torch.stack(possible)).abs()
    assert apart.min(dim=1).values.max() < 1e-5
    assert (apart < 1e-5).any(dim=0).all()


@torch.no_grad()
def test_negatives_are_drawn_in_proportion_to_the_softmax_of_the_similarities() -> None:
    model, inputs, labels = tiny_model(), rows_of(tiny_batch(), [0, 1, 2]), torch.tensor([0, 1, 1])
    output = model(**inputs)
    audio, video = output.audio_embeds, output.video_embeds
    # A temperature at which the less similar video is drawn a hundred times less often than the other.
    model.foal_net.temperature.copy_((audio[0] @ (video[1] - video[2])).abs() / 4.6)
    model.train()
    model.foal_net.eval()
    likely = hardest(audio, video, labels)
    expected = {round(float(matching_loss_of(model, inputs, likely, [j, 0, 0])), 4) for j in (1, 2)}
    drawn = [round(float(model(**inputs, labels=labels).matching_loss), 4) for _ in range(40)]
    assert sum(loss in expected for loss in drawn) > 35


@pytest.mark.parametrize("fields", [{}, {"matching_needs_negative": False}], ids=str)
@torch.no_grad()
def test_clips_of_unknown_label_join_no_loss(fields: dict[str, Any]) -> None:
    model, inputs = tiny_model(**fields), tiny_batch()
    known = [0, 1, 3]
    labels = LABELS.clone()
    labels[[2, 4]] = -100
    output, expected = model(**inputs, labels=labels), model(**rows_of(inputs, known), labels=LABELS[known])
    for name in ("classification_loss", "alignment_loss", "matching_loss", "loss"):
        torch.testing.assert_close(output[name], expected[name], **CLOSE, msg=lambda m, n=name: f"{n}: {m}")
        assert (model(**inputs, labels=LABELS)[name] - expected[name]).abs() > 1e-3


@torch.no_grad()
def test_alignment_contrasts_the_embeddings_of_the_output() -> None:
    model, inputs = tiny_model(temperature_init_value=0.7), tiny_batch()
    output = model(**inputs, labels=LABELS)
    expected = alignment_loss(output.audio_embeds, output.video_embeds, LABELS, torch.tensor(0.7))
    torch.testing.assert_close(output.alignment_loss, expected, **CLOSE)


@pytest.mark.parametrize(
    ("switched_off", "other", "weight"), [("alignment", "matching", 0.1), ("matching", "alignment", 1.0)]
)
@torch.no_grad()
def test_a_loss_of_weight_zero_is_not_computed(switched_off: str, other: str, weight: float) -> None:
    output = tiny_model(**{f"{switched_off}_loss_weight": 0.0})(**tiny_batch(), labels=LABELS)
    assert f"{switched_off}_loss" not in output
    torch.testing.assert_close(output.loss, output.classification_loss + weight * output[f"{other}_loss"], **CLOSE)


@pytest.mark.parametrize("missing", ["audio", "video"])
@torch.no_grad()
def test_nothing_is_fused_with_an_absent_modality(missing: str) -> None:
    """What is learned of looking at the other side has no say for a clip that lacks it."""
    samples, frames = SAMPLES.clone(), FRAMES.clone()
    (samples if missing == "audio" else frames)[2] = 0
    inputs, model = tiny_batch(samples, frames), tiny_model()
    present = "video" if missing == "audio" else "audio"
    before = model(**inputs)
    for name, parameter in model.foal_net.fusion.named_parameters():
        if name.startswith(f"{present}_queries") and "norm" not in name:
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)))
    changed = (model(**inputs).logits - before.logits).abs().amax(dim=1)
    assert changed[2] == 0
    assert changed[[0, 1, 3, 4]].min() > 1e-2
    # And of the absent side itself there is nothing.
    assert not before[f"{missing}_pooler_output"][2].any() and not before[f"{missing}_embeds"][2].any()


@pytest.mark.parametrize(
    ("name", "touched", "untouched"),
    [
        ("sequence_dropout", ("embeds", "pooler_output", "logits"), ()),
        ("projection_dropout", ("embeds",), ("pooler_output", "logits")),
        ("fusion_dropout", ("pooler_output", "logits"), ("embeds",)),
        ("classifier_dropout", ("logits",), ("embeds", "pooler_output")),
    ],
)
@torch.no_grad()
def test_each_dropout_acts_where_it_should_and_in_training_alone(name: str, touched: tuple, untouched: tuple) -> None:
    inputs = tiny_batch()
    plain = tiny_model(**dict.fromkeys(DROPOUTS, 0.0))
    expected = plain(**inputs)
    model = tiny_model(**{**dict.fromkeys(DROPOUTS, 0.0), name: 0.4})
    evaluated = model(**inputs)
    for each in (plain, model):
        each.train().foal_net.audio_encoder.eval()  # it has dropouts of its own
    nothing_dropped, trained = plain(**inputs), model(**inputs)
    for kind in (*touched, *untouched):
        for output in ("logits",) if kind == "logits" else (f"audio_{kind}", f"video_{kind}"):
            torch.testing.assert_close(evaluated[output], expected[output], rtol=0, atol=0)
            torch.testing.assert_close(nothing_dropped[output], expected[output], rtol=0, atol=0)
            moved = (trained[output] - expected[output]).abs().amax(dim=1)
            assert moved.min() > 1e-4 if kind in touched else moved.max() == 0, output
