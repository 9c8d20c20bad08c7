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
CLOSE = {"atol": 1e-5, "rtol": 0}
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
    monkeypatch.setattr(modeling_foal_net, "encode_waveforms", lambda *args, **kwargs: audio)
    drawn = iter([GOLDEN["input.negative_video_index"], GOLDEN["input.negative_audio_index"]])
    monkeypatch.setattr(modeling_foal_net, "sample_negatives", lambda *args, **kwargs: next(drawn))
    return model


def run(model: FoalNetForEmotionClassification):
    return model(
        input_values=torch.zeros(5, 400),
        video_features=GOLDEN["input.video_features"],
        padding_mask_videos=GOLDEN["input.video_mask"],
        labels=GOLDEN["input.labels"],
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_model_reproduces_the_authors_embeddings_logits_and_losses(model, attention: str) -> None:
    model.set_attn_implementation(attention)
    output = run(model)
    assert output.loss.requires_grad
    for ours, golden in {
        "audio_embeds": "audio_embeds",
        "video_embeds": "video_embeds",
        "audio_pooler_output": "pooled_audio",
        "video_pooler_output": "pooled_video",
        "logits": "logits",
        "classification_loss": "classification_loss",
        "alignment_loss": "alignment_loss",
        "matching_loss": "matching_loss",
        "loss": "total_loss",
    }.items():
        torch.testing.assert_close(
            output[ours], GOLDEN[f"output.{golden}"], **CLOSE, msg=lambda m, n=golden: f"{n}: {m}"
        )


def test_matching_heads_reproduce_the_authors_logits(model, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(modeling_foal_net, "matching_loss", lambda **logits: seen.update(logits) or torch.zeros(()))
    run(model)
    for side in ("audio", "video"):
        logits = torch.cat([seen[f"{side}_positive"], seen[f"{side}_negative"]])
        torch.testing.assert_close(logits, GOLDEN[f"output.matching_logits_{side}"], **CLOSE)


def test_similarities_and_negative_weights_are_the_authors() -> None:
    audio, video, temperature = (
        GOLDEN[name] for name in ("output.audio_embeds", "output.video_embeds", "weight.temperature")
    )
    scores = similarity(audio, video, temperature)
    torch.testing.assert_close(scores, GOLDEN["output.similarity_audio_to_video"], **CLOSE)
    for rows, name in ((scores, "audio_to_video"), (scores.T, "video_to_audio")):
        weights, _ = negative_weights(rows, GOLDEN["input.labels"])
        torch.testing.assert_close(weights, GOLDEN[f"output.negative_weights_{name}"], **CLOSE)


def test_every_golden_output_is_checked() -> None:
    checked = {"audio_embeds", "video_embeds", "pooled_audio", "pooled_video", "logits", "classification_loss"}
    checked |= {"alignment_loss", "matching_loss", "total_loss", "matching_logits_audio", "matching_logits_video"}
    checked |= {"similarity_audio_to_video", "negative_weights_audio_to_video", "negative_weights_video_to_audio"}
    assert {name.removeprefix("output.") for name in GOLDEN if name.startswith("output.")} == checked
