"""What is frozen, when, and that nothing else changes it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_config

from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel


CLASSES: Any = pytest.mark.parametrize("model_class", [FoalNetModel, FoalNetForEmotionClassification])


def trained_parts(model: Any) -> set[str]:
    """Which of the two parts that a config may freeze require gradients."""
    foal_net = model.base_model
    parts = {"image": foal_net.vision_encoder, "front end": foal_net.audio_encoder.feature_extractor}
    return {name for name, part in parts.items() if any(p.requires_grad for p in part.parameters())}


def video_batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "input_values": torch.randn(3, 1701, generator=generator),
        "pixel_values_videos": torch.randn(3, 2, 3, 26, 26, generator=generator),
    }


@CLASSES
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, set()),
        ({"freeze_vision_encoder": False}, {"image"}),
        ({"freeze_audio_feature_encoder": False}, {"front end"}),
    ],
)
def test_new_and_loaded_models_are_frozen_as_the_config_says(
    tmp_path: Path, model_class: Any, fields: dict[str, bool], expected: set[str]
) -> None:
    model = model_class(tiny_config(**fields))
    assert trained_parts(model) == expected
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    for other in (loaded, model_class.from_pretrained(tmp_path)):
        assert trained_parts(other) == trained_parts(other.train()) == expected
        assert other.base_model.vision_encoder.training == ("image" in expected)
    assert not info["missing_keys"]


@pytest.mark.parametrize("saved_first", [False, True])
def test_what_a_user_unfreezes_is_trained(tmp_path: Path, saved_first: bool) -> None:
    torch.manual_seed(0)
    model = FoalNetForEmotionClassification(tiny_config())
    if saved_first:
        model.save_pretrained(tmp_path)
        model = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    layer = model.foal_net.vision_encoder.vision_model.encoder.layers[1]
    layer.requires_grad_(True)
    model.foal_net.audio_encoder.feature_extractor.requires_grad_(True)
    for mode in (True, False, True):
        model.train(mode)
        assert trained_parts(model) == {"image", "front end"}
        assert model.foal_net.vision_encoder.training == mode
    model(**video_batch(), labels=torch.tensor([0, 1, 2])).loss.backward()
    for name, parameter in model.named_parameters():
        # Softmax does not see the bias of the keys.
        if parameter.requires_grad and "k_proj.bias" not in name:
            assert parameter.grad is not None and parameter.grad.any(), name
    others = [p for p in model.foal_net.vision_encoder.parameters() if all(p is not q for q in layer.parameters())]
    assert others and not any(p.requires_grad or p.grad is not None for p in others)


def test_what_a_user_freezes_stays_frozen_and_in_evaluation_mode() -> None:
    model = FoalNetForEmotionClassification(tiny_config(freeze_vision_encoder=False))
    model.foal_net.vision_encoder.requires_grad_(False)
    model.train()
    assert trained_parts(model) == set()
    assert not model.foal_net.vision_encoder.training and model.foal_net.audio_encoder.training


def test_gradients_reach_the_frames_through_a_frozen_encoder() -> None:
    model = FoalNetForEmotionClassification(tiny_config()).eval()
    inputs = video_batch()
    frames = inputs["pixel_values_videos"].requires_grad_()
    model(**inputs).logits[:, 0].sum().backward()
    assert frames.grad is not None and frames.grad.flatten(1).any(dim=1).all()


def test_stored_features_are_refused_where_the_image_encoder_is_trained() -> None:
    inputs = {"video_features": torch.randn(3, 2, 20)}
    model = FoalNetForEmotionClassification(tiny_config(freeze_vision_encoder=False)).train()
    with pytest.raises(ValueError, match=r"Give `pixel_values_videos`, or freeze it: `vision_encoder\.requires_grad_"):
        model(**inputs)
    model.eval()(**inputs)
    model.foal_net.vision_encoder.requires_grad_(False)
    model.train()(**inputs)
