"""Encoders of images of every kind: pooled as by hand, frozen and trained, saved and loaded, or refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_builders import tone
from requirements import need
from tiny_models import FRAMES, VISION_ENCODERS, tiny_batch, tiny_config, tiny_model
from tiny_processors import picture, tiny_processor
from torch import nn
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    ConvNextImageProcessorPil,
    EfficientNetImageProcessorPil,
    MobileNetV2ImageProcessorPil,
    PreTrainedConfig,
    PreTrainedModel,
    ResNetConfig,
    Siglip2VisionConfig,
    SwinConfig,
    TimesformerConfig,
    VideoMAEConfig,
    VideoMAEImageProcessorPil,
    ViTImageProcessorPil,
    VivitImageProcessor,
    pipeline,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, FoalNetVideoProcessor
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
CLIP_ENCODERS = ["videomae", "vjepa2", "timesformer", "vivit"]
FAMILIES = pytest.mark.parametrize("name", [*BY_HAND, *CLIP_ENCODERS])
OF_IMAGES = pytest.mark.parametrize("name", BY_HAND)
OF_CLIPS = pytest.mark.parametrize("name", CLIP_ENCODERS)
WITH_BATCH_NORM = pytest.mark.parametrize("name", ["resnet", "efficientnet", "mobilenetv2"])


@pytest.fixture
def warnings_of(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], str]]:
    """What the loggers of transformers said; a message that comes once may come again."""
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    logger.warning_once.cache_clear()
    yield lambda: caplog.text
    logger.removeHandler(caplog.handler)


def encoder_tensors(model: Any) -> dict[str, torch.Tensor]:
    """Copies of the weights and of the buffers, such as a batch norm's averages."""
    return {name: value.clone() for name, value in model.foal_net.vision_encoder.state_dict().items()}


def train_one_step(model: FoalNetForEmotionClassification) -> None:
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**tiny_batch(), labels=LABELS).loss.backward()
    optimizer.step()


@OF_IMAGES
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


SQUARE = {"height": 26, "width": 26}
IMAGE_PROCESSORS = {
    "dinov3": ViTImageProcessorPil(size=SQUARE),
    "swin": ViTImageProcessorPil(size=SQUARE),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 26}, crop_pct=26 / 29),
    "resnet": ConvNextImageProcessorPil(size={"shortest_edge": 26}, crop_pct=26 / 29),
    "efficientnet": EfficientNetImageProcessorPil(size=SQUARE, rescale_offset=True, rescale_factor=1 / 127.5),
    "mobilenetv2": MobileNetV2ImageProcessorPil(size={"shortest_edge": 29}, crop_size=SQUARE),
    "videomae": VideoMAEImageProcessorPil(size={"shortest_edge": 29}, crop_size=SQUARE),
    "timesformer": VideoMAEImageProcessorPil(size={"shortest_edge": 29}, crop_size=SQUARE),
    "vivit": VivitImageProcessor(size={"shortest_edge": 29}, crop_size=SQUARE),
}


@pytest.mark.parametrize("name", IMAGE_PROCESSORS)
@torch.no_grad()
def test_a_clip_is_what_the_encoder_gives_behind_its_own_image_processor(name: str) -> None:
    model, image_processor = tiny_model(vision=name).foal_net, IMAGE_PROCESSORS[name]
    edge = 26 if name in ("dinov3", "swin", "efficientnet") else 29  # no kernel of any library resizes it
    images = [picture(edge, edge, seed) for seed in range(7)]
    pixel_values = image_processor(list(images), return_tensors="pt")["pixel_values"].reshape(-1, 3, 26, 26)
    if name in CLIP_ENCODERS:
        expected = windows_by_hand(name, model.vision_encoder, pixel_values)
    else:
        expected = BY_HAND[name](model.vision_encoder(pixel_values))
    ours = FoalNetVideoProcessor.from_image_processor(image_processor)(np.stack(images))
    torch.testing.assert_close(model.get_video_features(**ours).last_hidden_state[0], expected, **CLOSE)


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
    # No image is masked, the mean of a map needs no norm, softmax takes no offset of the keys and a batch norm none of
    # the one before, and only V-JEPA 2's own training has a use for its predictor.
    assert not {
        n
        for n in unmoved
        if not any(
            part in n for part in ("mask_token", "layernorm", "key.bias", "k_proj", "predictor", "project_bn.bias")
        )
    }


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


@pytest.mark.parametrize("name", ["convnext", "timesformer"])
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


@pytest.mark.parametrize("name", ["convnext", "videomae"])
def test_an_exported_model_gives_the_same(tmp_path: Path, name: str) -> None:
    need("openvino")
    model = tiny_model(vision=name)
    model.save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    export_checkpoint(tmp_path / "checkpoint", tmp_path / "export")
    with torch.no_grad():
        expected = model(**tiny_batch()).logits
    torch.testing.assert_close(load_exported(tmp_path / "export")(**tiny_batch()).logits, expected, atol=1e-4, rtol=0)


# Encoders of whole clips


def windows_by_hand(name: str, encoder: Any, clip: torch.Tensor) -> torch.Tensor:
    """Positions of one clip: windows of four frames, filled with the last frame, the mean over their 2 x 2 places."""
    positions = []
    for start in range(0, len(clip), 4):
        frames = [clip[min(place, len(clip) - 1)] for place in range(start, start + 4)]
        tokens = encoder(torch.stack(frames)[None]).last_hidden_state[0]
        if name in ("timesformer", "vivit"):
            tokens = tokens[1:]
        if name == "timesformer":  # all times of one place, then those of the next
            positions += [tokens[time::4].mean(dim=0) for time in range(4)]
        else:  # all places of one pair of frames, then those of the next
            positions += [tokens[:4].mean(dim=0), tokens[4:].mean(dim=0)]
    return torch.stack(positions)[: len(clip) if name == "timesformer" else (len(clip) + 1) // 2]


@OF_CLIPS
@torch.no_grad()
def test_the_positions_of_a_clip_are_those_of_its_windows(name: str) -> None:
    model, inputs = tiny_model(vision=name).foal_net, tiny_batch()
    output = model(**inputs)
    for row, num_frames in enumerate(FRAMES.tolist()):
        expected = windows_by_hand(name, model.vision_encoder, inputs["pixel_values_videos"][row, :num_frames])
        assert output.video_mask[row].sum() == len(expected)
        torch.testing.assert_close(output.video_last_hidden_state[row, : len(expected)], expected, **CLOSE)
        assert not output.video_last_hidden_state[row, len(expected) :].any()


@OF_CLIPS
@torch.no_grad()
def test_a_position_shows_its_own_frames(name: str) -> None:
    config = tiny_config(vision=name)
    config.vision_config.num_hidden_layers = 0  # attention would mix all of them
    torch.manual_seed(0)
    model = FoalNetForEmotionClassification(config).foal_net.eval()
    frames = tiny_batch()["pixel_values_videos"][:1]
    frames_per_position = 1 if name == "timesformer" else 2
    before = model.get_video_features(frames).last_hidden_state[0]
    for frame in range(7):
        changed = frames.clone()
        changed[0, frame] += 1.0
        after = model.get_video_features(changed).last_hidden_state[0]
        differs = (after - before).abs().amax(dim=1) > 1e-4
        assert differs.nonzero().flatten().tolist() == [frame // frames_per_position]


@torch.no_grad()
def test_a_clip_shorter_than_a_window_is_filled_with_a_warning(warnings_of) -> None:
    model, frames = tiny_model(vision="videomae").foal_net, tiny_batch()["pixel_values_videos"][:1]
    model.get_video_features(frames)
    assert "fewer frames" not in warnings_of()  # only its second window is
    short = model.get_video_features(frames[:, :3]).last_hidden_state
    assert "fewer frames than the 4 that the encoder takes at once" in warnings_of()
    filled = model.get_video_features(frames[:, [0, 1, 2, 2]]).last_hidden_state
    torch.testing.assert_close(short, filled, rtol=0, atol=0)


@torch.no_grad()
def test_the_window_of_a_clip_can_be_changed_where_the_encoder_takes_it(tmp_path: Path) -> None:
    model, inputs = tiny_model(vision="vjepa2", vision_window_frames=2), tiny_batch()
    frames = inputs["pixel_values_videos"][:1, :4]
    apart = [model.foal_net.get_video_features(frames[:, start : start + 2]).last_hidden_state for start in (0, 2)]
    torch.testing.assert_close(
        model.foal_net.get_video_features(frames).last_hidden_state, torch.cat(apart, dim=1), **CLOSE
    )
    model.save_pretrained(tmp_path)
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=0, atol=0)


@OF_CLIPS
@torch.no_grad()
def test_stored_features_of_a_clip_stand_for_its_frames(name: str) -> None:
    model, inputs = tiny_model(vision=name), tiny_batch()
    output = model.foal_net(**inputs)
    stored = {
        "input_values": inputs["input_values"],
        "attention_mask": inputs["attention_mask"],
        "video_features": output.video_last_hidden_state,
        "padding_mask_videos": output.video_mask,
    }
    torch.testing.assert_close(model(**stored).logits, model(**inputs).logits, **CLOSE)


@pytest.mark.parametrize("name", ["videomae", "timesformer"])
@torch.no_grad()
def test_the_layers_of_a_clip_come_window_by_window(name: str) -> None:
    model, inputs = tiny_model(vision=name).foal_net, tiny_batch()
    output = model.get_video_features(
        inputs["pixel_values_videos"], inputs["padding_mask_videos"], output_hidden_states=True
    )
    tokens = 17 if name == "timesformer" else 8
    assert {tuple(layer.shape) for layer in output.hidden_states} == {(5, 2, tokens, 24)}
    assert not output.hidden_states[-1][1, 1].any()  # of the second clip, which has one window


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
        (TimesformerConfig(attention_type="space_only"), None, r"output for 8 frames has shape \(8, 197, 768\)"),
        (VISION_ENCODERS["videomae"][0], "cls", "'cls', which .* 'videomae' does not give; expected 'mean'"),
        (VideoMAEConfig(num_frames=5), None, "with windows of 5 frames; expected a multiple of its tubelet, 2"),
        (PreTrainedConfig(), None, "for which `AutoModel` has no class. Register it"),
    ],
)
def test_an_encoder_that_cannot_be_served_is_refused_with_the_reason(config, pooling, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vision_interface(config, pooling)


def test_a_window_that_the_encoder_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="'videomae', whose encoder does not take 2 frames of 26x26"):
        vision_interface(VISION_ENCODERS["videomae"][0], None, 2)
    with pytest.raises(ValueError, match=r"`vision_window_frames` is 2; expected None.* 'vit' takes single images"):
        vision_interface(VISION_ENCODERS["vit"][0], None, 2)


def test_an_encoder_without_any_hidden_state_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainModel, "forward", lambda self, pixel_values: {"feature_maps": pixel_values})
    with pytest.raises(ValueError, match=r"neither `last_hidden_state` .* nor `pooler_output`; it has feature_maps"):
        vision_interface(PlainConfig(depth=7))


def test_the_first_token_of_an_encoder_without_class_token_is_taken_with_a_warning(warnings_of) -> None:
    config = SwinConfig(**{**VISION_ENCODERS["swin"][0].to_dict(), "window_size": 4})
    assert vision_interface(config, "cls").pooling == "cls"
    assert "no class token" in warnings_of() and "Use 'pooler'" in warnings_of()


@pytest.mark.parametrize("vision", ["convnext", "resnet", "timesformer"])
def test_a_checkpoint_loads_with_an_attention_that_its_image_encoder_has_not(
    vision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model(vision=vision).save_pretrained(tmp_path)
    monkeypatch.setattr("foal_hf.foal_net.vision_interface_foal_net._KNOWN", {})  # as in a new process
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert loaded.foal_net.fusion.config._attn_implementation == "sdpa"
