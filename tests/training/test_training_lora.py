"""LoRA on the audio encoder: what is trained, what stays, and that a saved adapter comes back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from requirements import need
from training_examples import Examples, collate, make_arguments, make_model

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


@pytest.mark.parametrize(("audio", "adapted"), [("wavlm", 2), ("hubert", 6), ("wav2vec2", 6)])
def test_adapter_and_new_parts_are_trained_and_the_encoders_stay(tmp_path: Path, audio: str, adapted: int) -> None:
    model = make_adapted(audio)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train(model, tmp_path)
    changed = {name for name, weight in model.named_parameters() if not weight.equal(before[name])}
    lora = {name for name in before if "lora_" in name}
    assert len(lora) == 2 * 2 * adapted  # layers, and two matrices each
    assert lora <= changed and {name for name in changed if "encoder" in name} == lora
    for part in ("fusion", "audio_projection", "video_projection", "classifier", "matching_head"):
        assert {name for name in changed if part in name}, part


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
