"""Encoders of images of every kind: pooled as by hand, frozen and trained, saved and loaded, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from media_builders import tone
from requirements import need
from tiny_models import VISION_ENCODERS, tiny_batch, tiny_config, tiny_model
from tiny_processors import tiny_processor
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    Siglip2VisionConfig,
    SwinConfig,
    pipeline,
)
from transformers.modeling_outputs import BaseModelOutput

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification
from foal_hf.export import export_checkpoint
from foal_hf.export.exported import load_exported
from foal_hf.foal_net.vision_interface_foal_net import vision_interface


CLOSE = {"atol": 1e-5, "rtol": 0}
LABELS = torch.tensor([0, 1, 1, 2, 3])
# What each of them returns for images, to one vector each.
BY_HAND = {
    "dinov3": lambda output: output.last_hidden_state[:, 0],
    "dinov3-convnext": lambda output: output.pooler_output,
    "swin": lambda output: output.pooler_output,
    "convnext": lambda output: output.pooler_output,
    "convnext-mean": lambda output: output.last_hidden_state.mean(dim=(2, 3)),
    "convnextv2": lambda output: output.pooler_output,
    "resnet": lambda output: output.pooler_output[:, :, 0, 0],
    "efficientnet": lambda output: output.pooler_output,
    "mobilenetv2": lambda output: output.pooler_output,
}
FAMILIES = pytest.mark.parametrize("name", BY_HAND)
WITH_BATCH_NORM = pytest.mark.parametrize("name", ["resnet", "efficientnet", "mobilenetv2"])


def encoder_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the weights and of the buffers, such as a batch norm's averages."""
    return {name: value.clone() for name, value in model.foal_net.vision_encoder.state_dict().items()}


def train_one_step(model: FoalNetForEmotionClassification) -> None:
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**tiny_batch(), labels=LABELS).loss.backward()
    optimizer.step()


@FAMILIES
@torch.no_grad()
def test_a_frame_is_what_the_encoder_called_by_hand_gives(name: str) -> None:
    model, inputs = tiny_model(vision=name), tiny_batch()
    frames = inputs["pixel_values_videos"]
    encoder = MODEL_MAPPING[type(model.config.vision_config)](model.config.vision_config).eval()
    encoder.load_state_dict(model.foal_net.vision_encoder.state_dict())
    expected = BY_HAND[name](encoder(frames[0]))
    ours = model.foal_net.get_video_features(frames, inputs["padding_mask_videos"]).last_hidden_state
    torch.testing.assert_close(ours[0], expected, **CLOSE)
    assert (expected[0] - expected[1]).abs().max() > 1e-3


@FAMILIES
def test_a_training_step_leaves_a_frozen_encoder_as_it_is(name: str) -> None:
    model = tiny_model(vision=name)
    before, head = encoder_tensors(model), model.classifier.weight.clone()
    train_one_step(model)
    assert not torch.equal(model.classifier.weight, head)
    for tensor, value in encoder_tensors(model).items():
        assert torch.equal(value, before[tensor]), tensor


@FAMILIES
def test_a_training_step_moves_an_encoder_that_is_not_frozen(name: str) -> None:
    model = tiny_model(vision=name, freeze_vision_encoder=False)
    before = {tensor: weight.clone() for tensor, weight in model.foal_net.vision_encoder.named_parameters()}
    train_one_step(model)
    unmoved = {n for n, weight in model.foal_net.vision_encoder.named_parameters() if torch.equal(weight, before[n])}
    # No image is masked, the mean of a map needs no norm, and softmax takes no offset of the keys.
    assert not {n for n in unmoved if not any(part in n for part in ("mask_token", "layernorm", "key.bias", "k_proj"))}


@WITH_BATCH_NORM
def test_a_batch_norm_that_is_trained_sees_no_padding(name: str) -> None:
    averages = []
    before = encoder_tensors(tiny_model(vision=name))
    for padding in (0, 5):
        model = tiny_model(vision=name, freeze_vision_encoder=False).train()
        frames = nn.functional.pad(tiny_batch()["pixel_values_videos"], (0, 0) * 3 + (0, padding), value=9.0)
        mask = nn.functional.pad(tiny_batch()["padding_mask_videos"], (0, padding))
        with torch.no_grad():
            torch.manual_seed(0)  # dropout of whole paths
            model.foal_net.get_video_features(frames, mask)
        averages.append(encoder_tensors(model))
    assert any("running_mean" in n for n in before if not torch.equal(averages[0][n], before[n]))
    torch.testing.assert_close(averages[1], averages[0])


@FAMILIES
@torch.no_grad()
def test_a_saved_model_loads_with_the_auto_classes(tmp_path: Path, name: str) -> None:
    model = tiny_model(vision=name)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert loaded.config.vision_pooling == model.config.vision_pooling
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits, rtol=0, atol=0)
    base = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(base(**tiny_batch()).video_embeds, model(**tiny_batch()).video_embeds)


@pytest.mark.parametrize("name", ["swin", "convnext", "resnet"])
@torch.no_grad()
def test_a_pretrained_encoder_brings_its_weights(tmp_path: Path, name: str) -> None:
    source = tiny_model(vision=name).foal_net
    source.audio_encoder.save_pretrained(tmp_path / "audio")
    source.vision_encoder.save_pretrained(tmp_path / "vision")
    model = FoalNetForEmotionClassification.from_encoders_pretrained(
        str(tmp_path / "audio"), str(tmp_path / "vision"), projection_dim=16
    )
    torch.testing.assert_close(encoder_tensors(model), dict(source.vision_encoder.state_dict()), rtol=0, atol=0)


@FAMILIES
@torch.no_grad()
def test_bfloat16_is_finite(name: str) -> None:
    output = tiny_model(vision=name).to(torch.bfloat16)(**tiny_batch(), labels=LABELS)
    assert output.logits.isfinite().all() and output.loss.isfinite()


@pytest.mark.parametrize("name", ["convnext"])
def test_a_recording_of_forty_seconds_becomes_a_timeline(name: str) -> None:
    classify: Any = pipeline(
        "audio-video-emotion", model=tiny_model(vision=name), processor=tiny_processor()
    )  # 5 frames a second
    generator = torch.Generator().manual_seed(3)
    frames = torch.randint(0, 256, (200, 3, 31, 41), generator=generator, dtype=torch.uint8)
    recording = {"audio": tone(440, 16_000, 40.0), "sampling_rate": 16_000, "video": frames}
    segments = classify(recording, window_seconds=6.0)
    assert segments[-1]["end_seconds"] == 40.0
    assert {tuple(segment["modalities"]) for segment in segments} == {("audio", "video")}
    assert len({round(segment["score"], 6) for segment in segments}) > 1


@pytest.mark.parametrize("name", ["convnext"])
def test_an_exported_model_gives_the_same(tmp_path: Path, name: str) -> None:
    need("openvino")
    model = tiny_model(vision=name)
    model.save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    export_checkpoint(tmp_path / "checkpoint", tmp_path / "export")
    with torch.no_grad():
        expected = model(**tiny_batch()).logits
    torch.testing.assert_close(load_exported(tmp_path / "export")(**tiny_batch()).logits, expected, atol=1e-4, rtol=0)


# What an encoder is like is found out from the encoder


class PlainConfig(PreTrainedConfig):
    """Of an encoder that this package does not know."""

    model_type = "plain_images"
    depth: int = 12
    initializer_range: float = 0.3


class PlainModel(PreTrainedModel):
    """One convolution: `pixel_values` to `last_hidden_state`."""

    config_class = PlainConfig
    main_input_name = "pixel_values"

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.convolution = nn.Conv2d(3, config.depth, 13, stride=13)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutput:
        """Encode."""
        return BaseModelOutput(self.convolution(pixel_values).flatten(2).transpose(1, 2))


AutoConfig.register("plain_images", PlainConfig)
AutoModel.register(PlainConfig, PlainModel)


@torch.no_grad()
def test_an_unknown_encoder_with_the_usual_interface_works(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = FoalNetConfig(
        audio_config=tiny_config().audio_config, vision_config=PlainConfig(), projection_dim=16, num_fusion_heads=4
    )
    assert (config.vision_pooling, config.video_width) == ("mean", 12)
    model, inputs = FoalNetForEmotionClassification(config).eval(), tiny_batch()
    together = model(**inputs).logits
    alone = model(inputs["input_values"][2:3, :2999], pixel_values_videos=inputs["pixel_values_videos"][2:3, :1])
    torch.testing.assert_close(together[2:3], alone.logits, **CLOSE)
    model.save_pretrained(tmp_path)
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, together, rtol=0, atol=0)


def test_finding_out_draws_no_random_number() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    vision_interface(ResNetConfig(embedding_size=11))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("config", "pooling", "message"),
    [
        (
            VISION_ENCODERS["convnext"][0],
            "cls",
            r"'cls', which .*'convnext' does not give; expected 'pooler' or 'mean'",
        ),
        (VISION_ENCODERS["vit"][0], "projection", "needs a CLIP vision encoder, not 'vit'"),
        (VISION_ENCODERS["dinov2"][0], "max", "'max', which the encoder 'dinov2' does not give"),
        (Siglip2VisionConfig(), None, "takes `pixel_values, pixel_attention_mask, spatial_shapes`; expected"),
        (ResNetConfig(num_channels=1), None, "'resnet' with 1 channels; expected 3: frames are RGB"),
        (SwinConfig(image_size=2, patch_size=4), None, "'swin', whose encoder does not take images of 2x2"),
        (PreTrainedConfig(), None, "for which `AutoModel` has no class. Register it"),
    ],
)
def test_an_encoder_that_cannot_be_served_is_refused_with_the_reason(config, pooling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vision_interface(config, pooling)


def test_an_encoder_without_any_hidden_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainModel, "forward", lambda self, pixel_values: {"feature_maps": pixel_values})
    with pytest.raises(ValueError, match=r"neither `last_hidden_state` .* nor `pooler_output`; it has feature_maps"):
        vision_interface(PlainConfig(depth=7))


def test_the_first_token_of_an_encoder_without_class_token_is_taken_with_a_warning(caplog) -> None:
    config = SwinConfig(**{**VISION_ENCODERS["swin"][0].to_dict(), "window_size": 4})
    assert vision_interface(config, "cls").pooling == "cls"
    assert "no class token" in caplog.text and "Use 'pooler'" in caplog.text
