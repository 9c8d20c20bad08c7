"""Models that take features computed elsewhere, on one side or on both, instead of encoders."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_batch, tiny_config, tiny_model, with_random_biases
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification

import foal_hf  # noqa: F401  (registers the auto classes)
from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel


CLOSE = {"atol": 1e-5, "rtol": 0}
LABELS = torch.tensor([0, 1, 1, 2])
AUDIO_WIDTH, VIDEO_WIDTH = 28, 20
CLIP = "openai/clip-vit-large-patch14, projection, 30 frames per second"


def feature_config(**fields: Any) -> FoalNetConfig:
    widths = {"audio_feature_dim": AUDIO_WIDTH, "video_feature_dim": VIDEO_WIDTH}
    return FoalNetConfig(**{**widths, "projection_dim": 16, "initializer_range": 0.3, **fields})


def feature_model(**fields: Any) -> FoalNetForEmotionClassification:
    torch.manual_seed(0)
    return with_random_biases(FoalNetForEmotionClassification(feature_config(**fields))).eval()


def feature_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    positions, frames = torch.tensor([11, 3, 0, 7]), torch.tensor([5, 0, 2, 1])
    return {
        "audio_features": torch.randn(4, 11, AUDIO_WIDTH, generator=generator),
        "attention_mask": (torch.arange(11) < positions[:, None]).long(),
        "video_features": torch.randn(4, 5, VIDEO_WIDTH, generator=generator),
        "padding_mask_videos": (torch.arange(5) < frames[:, None]).long(),
    }


def sides(config: FoalNetConfig) -> dict[str, bool]:
    return {"audio": config.audio_config is not None, "video": config.vision_config is not None}


@pytest.mark.parametrize(
    ("fields", "encoders"),
    [
        ({"audio_feature_dim": 1024}, {"audio": False, "video": True}),
        ({"video_feature_dim": 512}, {"audio": True, "video": False}),
        ({"audio_feature_dim": 1024, "video_feature_dim": 512}, {"audio": False, "video": False}),
    ],
    ids=["audio", "video", "both"],
)
def test_a_width_takes_the_place_of_an_encoder_and_survives_json(fields, encoders, tmp_path: Path) -> None:
    config = FoalNetConfig(**fields)
    assert sides(config) == encoders
    assert config.audio_width == 1024  # of WavLM-large too
    assert config.video_width == fields.get("video_feature_dim", 768)
    config.save_pretrained(tmp_path)
    loaded = FoalNetConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict() == FoalNetConfig(**config.to_dict()).to_dict()
    assert sides(loaded) == encoders
    assert sides(AutoConfig.from_pretrained(tmp_path)) == encoders


def test_none_alone_still_means_the_published_encoders() -> None:
    config = FoalNetConfig(audio_config=None, vision_config=None)
    assert (config.audio_config.model_type, config.vision_config.model_type) == ("wavlm", "clip_vision_model")


def test_models_with_encoders_save_none_of_the_new_fields() -> None:
    saved = json.loads(tiny_config().to_json_string())
    assert [name for name in saved if "feature_dim" in name or "features_from" in name] == []
    saved = json.loads(feature_config(video_features_from=CLIP).to_json_string())
    assert (saved["audio_feature_dim"], saved["video_features_from"]) == (AUDIO_WIDTH, CLIP)
    assert "audio_features_from" not in saved


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"audio_config": tiny_config().audio_config}, "`audio_config` and `audio_feature_dim` are both given"),
        ({"vision_config": tiny_config().vision_config}, "`vision_config` and `video_feature_dim` are both given"),
        ({"audio_feature_dim": 0}, "`audio_feature_dim` is 0; expected 1 or more"),
        (
            {"vision_pooling": "cls"},
            "`vision_pooling` is 'cls', but with `video_feature_dim` there",
        ),
        ({"video_feature_dim": 21}, "4; expected a divisor of the video width 21"),
        (
            {"audio_feature_dim": None, "audio_features_from": "emotion2vec"},
            "`audio_features_from` is 'emotion2vec' without `audio_feature_dim`",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        feature_config(**fields)


@torch.no_grad()
def test_padding_and_company_of_features_change_nothing() -> None:
    model, batch = feature_model(), feature_batch()
    together = model(**batch).logits
    assert together.std() > 0.05
    batch["audio_features"][batch["attention_mask"] == 0] = 99.0
    batch["video_features"][batch["padding_mask_videos"] == 0] = -99.0
    torch.testing.assert_close(model(**batch).logits, together, **CLOSE)
    output = model.foal_net(**batch)
    assert not output.audio_last_hidden_state[batch["attention_mask"] == 0].any()
    assert not output.video_last_hidden_state[batch["padding_mask_videos"] == 0].any()
    for row in range(4):
        positions, frames = int(batch["attention_mask"][row].sum()), int(batch["padding_mask_videos"][row].sum())
        alone = {
            "audio_features": batch["audio_features"][row : row + 1, :positions] if positions else None,
            "video_features": batch["video_features"][row : row + 1, :frames] if frames else None,
        }
        torch.testing.assert_close(model(**alone).logits, together[row : row + 1], **CLOSE)


@torch.no_grad()
def test_stored_audio_features_stand_for_their_waveforms() -> None:
    model, inputs = tiny_model(), tiny_batch(torch.tensor([4003, 1701, 2999, 0, 300]), torch.tensor([7, 3, 1, 5, 2]))
    output = model.foal_net(**inputs)
    features = model.foal_net.get_audio_features(inputs["input_values"], inputs["attention_mask"])
    stored = {name: value for name, value in inputs.items() if name != "input_values"}
    stored |= {"audio_features": features.last_hidden_state, "attention_mask": output.audio_mask}
    torch.testing.assert_close(model(**stored).logits, model(**inputs).logits, **CLOSE)
    again = model.foal_net.get_audio_features(
        audio_features=features.last_hidden_state, attention_mask=output.audio_mask
    )
    torch.testing.assert_close(again.pooler_output, features.pooler_output, **CLOSE)


def test_training_on_features_moves_every_parameter() -> None:
    model = feature_model().train()
    output = model(**feature_batch(), labels=LABELS)
    output.loss.backward()
    assert output.alignment_loss > 0 and output.matching_loss > 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = feature_model(projection_dropout=0.0, fusion_dropout=0.0, sequence_dropout=0.0, classifier_dropout=0.0)
        if checkpointing:
            (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
            model.enable_input_require_grads()
        model.train()(**feature_batch(), labels=LABELS).loss.backward()
        gradients.append(model.foal_net.fusion.state_dict(keep_vars=True))
    for name, weight in gradients[0].items():
        torch.testing.assert_close(weight.grad, gradients[1][name].grad, msg=name)


def test_features_of_an_audio_encoder_that_is_trained_are_refused_in_training() -> None:
    model, features = tiny_model(), torch.zeros(1, 3, 32)
    model(audio_features=features)
    with pytest.raises(
        ValueError, match=r"audio encoder require gr.*Give `input_values`, or freeze it: `audio_encoder\.req"
    ):
        model.train()(audio_features=features)
    model.foal_net.audio_encoder.requires_grad_(False)
    model.train()(audio_features=features)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"audio_features": torch.zeros(1, 3, 27)},
            rf"27 wide; expected 28: this checkpoint takes .* from {CLIP}",
        ),
        ({"video_features": torch.zeros(1, 3, 19)}, "19 wide; expected 20: this .* an extractor that the checkpoint"),
        (
            {"audio_features": torch.zeros(3, 28)},
            r"must be \(batch, positions, width\), got .*\(3, 28\)",
        ),
        (
            {"input_values": torch.zeros(1, 4003)},
            rf"no audio encoder for `input_values`.*from {CLIP}. Give",
        ),
        (
            {"pixel_values_videos": torch.zeros(1, 2, 3, 26, 26)},
            "no image encoder for `pixel_values_videos`",
        ),
        (
            {"audio_features": torch.zeros(1, 3, 28), "input_values": torch.zeros(1, 4003)},
            "either `input_values` or `audio_features`, not both",
        ),
        (
            {"audio_features": torch.zeros(1, 3, 28), "attention_mask": torch.ones(1, 4)},
            r"`attention_mask` has shape \(1, 4\), but `audio_features` begins with \(1, 3\)",
        ),
        ({}, "No input: give `input_values` or `audio_features`"),
    ],
)
def test_inputs_that_the_model_cannot_take_are_refused_with_the_reason(inputs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feature_model(audio_features_from=CLIP)(**inputs)


def test_a_model_without_encoders_has_what_transformers_asks_for() -> None:
    model = feature_model()
    assert (model.foal_net.audio_encoder, model.foal_net.vision_encoder) == (None, None)
    assert not [name for name, _ in model.named_parameters() if "encoder" in name]
    assert model.main_input_name == model.foal_net.main_input_name == "audio_features"
    assert tiny_model().main_input_name == "input_values"
    assert model.get_input_embeddings() is model.foal_net.sequence_dropout
    assert model.num_parameters() == model.num_parameters(only_trainable=True)
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"


def test_masks_that_are_not_given_lie_on_the_device_of_the_features() -> None:
    model = feature_model()
    for encode, name, width in (
        (model.foal_net.encode_audio, "audio_features", AUDIO_WIDTH),
        (model.foal_net.encode_video, "video_features", VIDEO_WIDTH),
    ):
        assert encode(**{name: torch.ones(1, 2, width)})[1].tolist() == [[True, True]]
        # Without values, so that a mask on the CPU cannot be mistaken for one there.
        assert encode(**{name: torch.ones(1, 2, width, device="meta")})[1].device.type == "meta"


@torch.no_grad()
def test_save_and_load_give_the_same_logits_in_any_precision(tmp_path: Path) -> None:
    model, batch = feature_model(audio_features_from=CLIP), feature_batch()
    expected = model(**batch).logits
    model.save_pretrained(tmp_path)
    for loaded in (
        FoalNetForEmotionClassification.from_pretrained(tmp_path),
        AutoModelForVideoClassification.from_pretrained(tmp_path, attn_implementation="sdpa"),
    ):
        torch.testing.assert_close(loaded(**batch).logits, expected, **CLOSE)
        assert loaded.config.audio_features_from == CLIP
    assert isinstance(AutoModel.from_pretrained(tmp_path), FoalNetModel)
    half = AutoModelForVideoClassification.from_pretrained(tmp_path, dtype=torch.bfloat16)(**batch).logits
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, atol=0.1, rtol=0)


@torch.no_grad()
def test_a_new_process_loads_it_by_remote_code(tmp_path: Path) -> None:
    model = feature_model()
    model.save_pretrained(tmp_path)
    expected = model(audio_features=torch.ones(1, 2, AUDIO_WIDTH)).logits
    code = (
        "import sys, torch; from transformers import AutoModelForVideoClassification as Auto\n"
        "model = Auto.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "assert 'foal_hf' not in sys.modules\n"
        f"print(model(audio_features=torch.ones(1, 2, {AUDIO_WIDTH})).logits.tolist())"
    )
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )
    torch.testing.assert_close(torch.tensor(json.loads(run.stdout)), expected, **CLOSE)
