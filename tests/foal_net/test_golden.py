"""The heads reproduce numbers computed with the authors' own layers (tests/foal_net/golden says how they were made)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_config
from transformers.modeling_outputs import BaseModelOutput

from foal_hf.foal_net import modeling_foal_net
from foal_hf.foal_net.losses_foal_net import negative_weights, similarity
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification


GOLDEN = load_file(Path(__file__).parent / "golden" / "authors_heads.safetensors")
GRADIENTS = load_file(Path(__file__).parent / "golden" / "gradients.safetensors")
PARTS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}


def our_name(name: str) -> str:
    """`fusion.audio_queries_video.0.query.weight` and the like, under the names of our modules."""
    head, *rest = name.removeprefix("weight.").split(".")
    if head == "fusion":
        direction, layer, part, kind = rest
        inside = "layer_norm" if part == "layer_norm" else f"attention.{PARTS[part]}"
        return f"foal_net.fusion.{direction}.{layer}.{inside}.{kind}"
    if head == "projection":
        return f"foal_net.{rest[0]}_projection." + ".".join(rest[1:])
    if head == "matching_head":
        return f"{rest[0]}_matching_head.{rest[1]}"
    return "foal_net.temperature" if head == "temperature" else ".".join([head, *rest])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FoalNetForEmotionClassification:
    """A model with the golden weights that is given the golden audio sequence and the golden negatives."""
    model = FoalNetForEmotionClassification(tiny_config(vision="vit", num_fusion_layers=2, num_fusion_heads=4)).eval()
    weights = {our_name(name): value for name, value in GOLDEN.items() if name.startswith("weight.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected and all("_encoder." in name for name in missing)
    audio = (BaseModelOutput(GOLDEN["input.audio_hidden_states"]), GOLDEN["input.audio_mask"])
    monkeypatch.setattr(modeling_foal_net, "run_audio_encoder", lambda *args, **kwargs: audio)
    drawn = iter([GOLDEN["input.negative_video_index"], GOLDEN["input.negative_audio_index"]])
    monkeypatch.setattr(modeling_foal_net, "sample_negatives", lambda *args, **kwargs: next(drawn))
    return model


def inputs(**changed: torch.Tensor) -> dict[str, torch.Tensor]:
    given = {
        "input_values": torch.zeros(5, 400),
        "video_features": GOLDEN["input.video_features"],
        "padding_mask_videos": GOLDEN["input.video_mask"],
        "labels": GOLDEN["input.labels"],
    }
    return {**given, **changed}


def assert_all_close(ours: dict[str, torch.Tensor], golden: dict[str, torch.Tensor], atol: float) -> None:
    """Every golden tensor has one of ours, and every one of ours a golden one."""
    assert ours.keys() == golden.keys()
    for name, value in golden.items():
        torch.testing.assert_close(ours[name], value, atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_model_reproduces_every_number_of_the_authors(model, monkeypatch: pytest.MonkeyPatch, attention: str) -> None:
    model.set_attn_implementation(attention)
    heads: dict[str, torch.Tensor] = {}
    matching_loss = modeling_foal_net.matching_loss
    monkeypatch.setattr(
        modeling_foal_net, "matching_loss", lambda **logits: heads.update(logits) or matching_loss(**logits)
    )
    output = model(**inputs())
    similarities = similarity(output.audio_embeds, output.video_embeds, model.foal_net.temperature)
    weights = {
        name: negative_weights(scores, GOLDEN["input.labels"])[0]
        for name, scores in (("audio_to_video", similarities), ("video_to_audio", similarities.T))
    }
    ours = {
        "audio_embeds": output.audio_embeds,
        "video_embeds": output.video_embeds,
        "similarity_audio_to_video": similarities,
        **{f"negative_weights_{name}": value for name, value in weights.items()},
        "pooled_audio": output.audio_pooler_output,
        "pooled_video": output.video_pooler_output,
        "logits": output.logits,
        **{
            f"matching_logits_{side}": torch.cat([heads[f"{side}_positive"], heads[f"{side}_negative"]])
            for side in ("audio", "video")
        },
        "classification_loss": output.classification_loss,
        "alignment_loss": output.alignment_loss,
        "matching_loss": output.matching_loss,
        "total_loss": output.loss,
    }
    golden = {name: value for name, value in GOLDEN.items() if name.startswith("output.")}
    assert_all_close({f"output.{name}": value for name, value in ours.items()}, golden, atol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gradients_are_those_of_the_heads_written_anew(model, attention: str) -> None:
    """tests/foal_net/golden/make_gradients.py has computed them, up to 0.3 large."""
    model.set_attn_implementation(attention)
    video = GOLDEN["input.video_features"].clone().requires_grad_()
    audio = GOLDEN["input.audio_hidden_states"].requires_grad_()
    parameters = dict(model.named_parameters())
    ours = {name: parameters[our_name(name)] for name in GOLDEN if name.startswith("weight.")}
    ours |= {"input.audio_hidden_states": audio, "input.video_features": video}
    gradients = torch.autograd.grad(model(**inputs(video_features=video)).loss, list(ours.values()))
    names = [f"gradient.{name}" for name in ours]
    assert_all_close(dict(zip(names, gradients, strict=True)), GRADIENTS, atol=1e-6)
