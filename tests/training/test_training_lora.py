"""LoRA on the audio encoder: what is trained, what stays, and that a saved adapter comes back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from requirements import need
from tiny_models import tiny_model
from training_examples import Examples, collate, make_arguments, make_model

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification
from foal_hf.training import FoalNetTrainer
from foal_hf.training.checks import checkpoint_bytes
from foal_hf.training.lora import audio_lora_config


need("peft")
import peft  # noqa: E402


# peft asks for the former name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def make_adapted(audio: str = "wavlm") -> Any:
    model = make_model(audio=audio)
    return peft.get_peft_model(model, audio_lora_config(model, rank=3))


def train(model: Any, folder: Path, **fields: Any) -> FoalNetTrainer:
    arguments = make_arguments(folder, num_train_epochs=1, learning_rate=1e-2, **fields)
    trainer = FoalNetTrainer(model, arguments, train_dataset=Examples(), data_collator=collate)
    trainer.train()
    return trainer


@pytest.mark.parametrize("audio", ["wavlm", "hubert", "wav2vec2"])
def test_adapter_and_new_parts_are_trained_and_the_encoders_stay(tmp_path: Path, audio: str) -> None:
    model = make_adapted(audio)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train(model, tmp_path)
    changed = {name for name, weight in model.named_parameters() if not weight.equal(before[name])}
    lora = {name for name in before if "lora_" in name}
    assert len(lora) == 2 * 2 * 6  # layers, two matrices each, on q, k, v, out and both feed-forward layers
    assert lora <= changed and {name for name in changed if "encoder" in name} == lora
    for part in ("fusion", "audio_projection", "video_projection", "classifier", "matching_head"):
        assert {name for name in changed if part in name}, part


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("audio", ["wavlm", "hubert"])
def test_every_adapter_gets_a_gradient_and_has_an_effect(audio: str, attention: str) -> None:
    model = make_model(audio=audio)
    model.set_attn_implementation(attention)
    # Random adapters: those of a new one are zero on one side, which hides the gradient of the other.
    adapted = peft.get_peft_model(model, audio_lora_config(model, rank=3, init_lora_weights=False)).eval()
    inputs = collate([Examples()[index] for index in range(5)])
    adapted(**inputs).loss.backward()
    lora = {name: weight for name, weight in adapted.named_parameters() if "lora_" in name}
    assert len(lora) == 24
    for name, weight in lora.items():
        assert weight.grad is not None and weight.grad.abs().max() > 1e-9, name
    with torch.no_grad():
        expected = adapted(**inputs).logits
        for name, weight in lora.items():
            if "lora_B" in name:
                kept = weight.clone()
                weight.zero_()
                assert not adapted(**inputs).logits.equal(expected), name
                weight.copy_(kept)


@pytest.mark.parametrize(("audio", "count"), [("whisper", 12), ("wav2vec2-bert", 16), ("moonshine", 12), ("ast", 12)])
def test_encoders_of_other_kinds_are_adapted_in_every_layer(audio: str, count: int) -> None:
    model = tiny_model(audio=audio)
    adapted = peft.get_peft_model(model, audio_lora_config(model, rank=3))
    names = [name for name, module in adapted.named_modules() if isinstance(module, peft.tuners.lora.Linear)]
    assert len(names) == count and all("audio_encoder" in name for name in names)


def test_an_adapter_of_whisper_comes_back_and_the_layer_weights_stay(tmp_path: Path) -> None:
    model = tiny_model(audio="whisper", audio_layers="all")
    with torch.no_grad():
        model.foal_net.audio_layer_weights.copy_(torch.tensor([0.5, -1.0, 2.0]))
    model.save_pretrained(tmp_path / "base")
    adapted = peft.get_peft_model(model, audio_lora_config(model, rank=3, init_lora_weights=False)).eval()
    assert not adapted.base_model.model.foal_net.audio_layer_weights.requires_grad
    adapted.save_pretrained(tmp_path / "adapter")
    base = type(model).from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    features = torch.randn(2, 17, 60, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert loaded(input_features=features).logits.equal(adapted(input_features=features).logits)


def test_a_model_without_an_audio_encoder_has_nothing_to_adapt() -> None:
    config = FoalNetConfig(audio_feature_dim=12, video_feature_dim=20, projection_dim=16)
    model = FoalNetForEmotionClassification(config)
    with pytest.raises(ValueError, match="no audio encoder with linear layers to adapt"):
        audio_lora_config(model)


def test_adapters_are_scaled_by_two_unless_alpha_is_given() -> None:
    model = make_model()
    assert audio_lora_config(model).r == 8 and audio_lora_config(model).lora_alpha == 16
    assert audio_lora_config(model, rank=3).lora_alpha == 6
    assert audio_lora_config(model, rank=3, alpha=7).lora_alpha == 7
    adapted = peft.get_peft_model(model, audio_lora_config(model, rank=3))
    layers = [module for module in adapted.modules() if isinstance(module, peft.tuners.lora.Linear)]
    assert len(layers) == 12 and {layer.scaling["default"] for layer in layers} == {2.0}


def test_other_layers_can_be_chosen() -> None:
    config = audio_lora_config(make_model(), target_modules=["q_proj"], modules_to_save=["classifier"])
    assert config.target_modules == {"q_proj"} and config.modules_to_save == ["classifier"]


def test_an_adapter_on_the_image_encoder_is_trained(tmp_path: Path) -> None:
    model = make_model()
    config = audio_lora_config(model, rank=3, target_modules=r".*vision_encoder\..*\.(q|v)_proj")
    adapted = peft.get_peft_model(model, config)
    before = {name: weight.detach().clone() for name, weight in adapted.named_parameters()}
    with pytest.raises(ValueError, match="`video_features` hold the output of an encoder that is not trained"):
        train(adapted, tmp_path)
    frames = torch.randn(23, 2, 3, 26, 26, generator=torch.Generator().manual_seed(3))

    def collate_frames(indices: list[int]) -> dict[str, torch.Tensor]:
        batch = collate([Examples()[index] for index in indices])
        return batch | {"video_features": None, "padding_mask_videos": None, "pixel_values_videos": frames[indices]}

    arguments = make_arguments(tmp_path, num_train_epochs=1, learning_rate=1e-2, class_balanced=False)
    FoalNetTrainer(adapted, arguments, train_dataset=range(23), data_collator=collate_frames).train()
    lora = {name for name in before if "lora_" in name}
    assert len(lora) == 8 and all("vision_encoder" in name for name in lora)
    changed = {name for name, weight in adapted.named_parameters() if not weight.equal(before[name])}
    assert lora <= changed and {name for name in changed if "encoder" in name} == lora


def test_a_saved_adapter_gives_what_the_trained_model_gave(tmp_path: Path) -> None:
    model = make_adapted()
    trainer = train(model, tmp_path, save_strategy="epoch")
    checkpoint = next(tmp_path.glob("checkpoint-*"))
    # The base is not saved with it.
    adapter = checkpoint / "adapter_model.safetensors"
    assert adapter.stat().st_size < 1.2 * checkpoint_bytes(model, with_optimizer=False)
    assert not (checkpoint / "model.safetensors").exists()
    loaded = peft.PeftModel.from_pretrained(make_model(), checkpoint).eval()
    inputs = collate([Examples()[index] for index in range(5)])
    with torch.no_grad():
        expected = trainer.model.eval()(**inputs)
        for other in (loaded, loaded.merge_and_unload()):
            output = other(**inputs)
            torch.testing.assert_close(output.logits, expected.logits, atol=1e-5, rtol=0)
            torch.testing.assert_close(output.loss, expected.loss, atol=1e-5, rtol=0)
    assert (expected.logits - make_model().eval()(**inputs).logits).abs().max() > 0.01


def test_a_run_with_an_adapter_resumes(tmp_path: Path) -> None:
    whole = train(make_adapted(), tmp_path, save_strategy="steps", save_steps=2)
    resumed = make_adapted()
    trainer = FoalNetTrainer(resumed, whole.args, train_dataset=Examples(), data_collator=collate)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for name, weight in whole.model.named_parameters():
        assert resumed.get_parameter(name).equal(weight), name


def test_an_adapter_alone_is_not_pushed(tmp_path: Path) -> None:
    trainer = FoalNetTrainer(make_adapted(), make_arguments(tmp_path), train_dataset=Examples(), data_collator=collate)
    with pytest.raises(ValueError, match=r"merge it with `model\.merge_and_unload"):
        trainer.push_to_hub()
