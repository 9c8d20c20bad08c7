"""One step of the model: what it returns on the way, what it waits for, and that threads may share it."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny_batch, tiny_config, tiny_model

from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel


CLOSE = {"atol": 1e-5, "rtol": 0}
LABELS = torch.tensor([0, 1, 1, 2, 3])
SAMPLES, FRAMES = torch.tensor([4003, 1701, 0, 400, 3001]), torch.tensor([7, 3, 1, 0, 2])


def batch(samples: torch.Tensor = SAMPLES, frames: torch.Tensor = FRAMES) -> dict[str, torch.Tensor]:
    """Clips of the given lengths with stored features; what lies behind their ends is not 0."""
    generator = torch.Generator().manual_seed(1)
    return {
        "input_values": torch.randn(5, 4003, generator=generator),
        "attention_mask": (torch.arange(4003) < samples[:, None]).long(),
        "video_features": torch.randn(5, 7, 20, generator=generator),
        "padding_mask_videos": (torch.arange(7) < frames[:, None]).long(),
    }


def test_last_hidden_states_are_what_the_encoders_gave_and_fusion_sees_them_after_dropout() -> None:
    model = tiny_model(sequence_dropout=0.4, modality_dropout=0.9).train().foal_net
    model.audio_encoder.eval()  # its own dropout would differ between two calls
    inputs = batch(frames=torch.tensor([7, 3, 1, 5, 2]))
    audio = model.get_audio_features(inputs["input_values"], inputs["attention_mask"]).last_hidden_state
    video = model.get_video_features(
        video_features=inputs["video_features"], padding_mask_videos=inputs["padding_mask_videos"]
    ).last_hidden_state
    output = model(**inputs)
    assert output.audio_last_hidden_state.equal(audio) and output.video_last_hidden_state.equal(video)
    assert not audio[2].any() and not audio[1, 5:].any() and audio[1, :5].any(dim=-1).all()
    assert not video[1, 3:].any() and video[1, :3].any(dim=-1).all()
    dropped = False
    for name, sequence, mask in (("audio", audio, output.audio_mask), ("video", video, output.video_mask)):
        seen, mask = output[f"{name}_fusion_input"], mask.bool()
        assert not seen[~mask].any()
        is_kept = seen[mask] != 0
        torch.testing.assert_close(seen[mask][is_kept], (sequence[mask] / 0.6)[is_kept])
        assert 0.3 < 1 - is_kept.float().mean() < 0.5  # 0.4, over more than 100 numbers
        dropped |= bool((sequence.any(dim=-1) & ~mask).any())
    assert dropped  # by `modality_dropout`, which the last hidden states do not show


@torch.no_grad()
def test_in_evaluation_fusion_sees_the_last_hidden_states() -> None:
    output = tiny_model().foal_net(**batch())
    assert output.audio_fusion_input.equal(output.audio_last_hidden_state)
    assert output.video_fusion_input.equal(output.video_last_hidden_state)


@torch.no_grad()
def test_cross_attention_comes_out_at_the_default_attention_and_changes_no_result() -> None:
    model, inputs = tiny_model(), batch()
    assert model.config._attn_implementation == "sdpa"
    output, plain = model(**inputs, output_attentions=True), model(**inputs)
    assert model.config._attn_implementation == "sdpa" and plain.attentions is None
    torch.testing.assert_close(output.logits, plain.logits, **CLOSE)
    model.set_attn_implementation("eager")
    expected = model(**inputs, output_attentions=True).attentions
    assert len(output.attentions) == 4
    for ours, eager in zip(output.attentions, expected, strict=True):
        torch.testing.assert_close(ours, eager, **CLOSE)
    torch.testing.assert_close(output.attentions[0][0].sum(dim=-1), torch.ones(4, 12))
    assert not output.attentions[0][1, :, :, 3:].any() and output.attentions[0][1, :, :, :3].all()


@torch.no_grad()
@pytest.mark.parametrize("audio", ["wavlm", "wav2vec2-group"])
def test_states_and_maps_of_the_audio_encoder_do_not_depend_on_padding(audio: str) -> None:
    model = tiny_model(audio, attn_implementation="eager").foal_net
    inputs = batch()
    asked = {"output_hidden_states": True, "output_attentions": True}
    together = model.get_audio_features(inputs["input_values"], inputs["attention_mask"], **asked)
    alone = model.get_audio_features(inputs["input_values"][1:2, :1701], **asked)
    frames = alone.last_hidden_state.shape[1]
    assert len(together.hidden_states) == 3 and len(together.attentions) == 2
    for padded, expected in zip(together.hidden_states, alone.hidden_states, strict=True):
        torch.testing.assert_close(padded[1, :frames], expected[0], **CLOSE)
    for padded, expected in zip(together.attentions, alone.attentions, strict=True):
        torch.testing.assert_close(padded[1, :, :frames, :frames], expected[0], **CLOSE)


@pytest.mark.parametrize("training", [True, False])
def test_a_step_with_stored_features_asks_the_device_for_no_value(training: bool) -> None:
    # Tensors on the meta device have no values: whoever asks for one there, waits for it on an accelerator.
    model = tiny_model(modality_dropout=0.5).to("meta").train(training)
    output = model(**{name: value.to("meta") for name, value in batch().items()}, labels=LABELS.to("meta"))
    output.loss.backward()
    trained = [p for n, p in model.named_parameters() if p.requires_grad]
    assert trained and all(p.grad is not None for p in trained)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # in transformers
@torch.no_grad()
def test_where_empty_clips_cannot_be_refused_their_results_are_nan() -> None:
    model, inputs = tiny_model(), batch(frames=torch.tensor([7, 3, 0, 0, 2]))
    with pytest.raises(ValueError, match=r"Clips \[2\] of the batch .* have neither audio nor video; remove them"):
        model(**inputs)
    output = torch.compile(model, fullgraph=True, backend="eager")(**inputs)
    rest = torch.tensor([0, 1, 3, 4])
    for name in ("logits", "audio_pooler_output", "video_pooler_output"):
        assert output[name][2].isnan().all()
    torch.testing.assert_close(output.logits[rest], model(**{n: v[rest] for n, v in inputs.items()}).logits, **CLOSE)


@pytest.mark.parametrize("audio", ["wavlm", "wav2vec2", "hubert", "data2vec-audio"])
def test_loading_and_building_without_weights_leave_the_random_state_alone(tmp_path: Path, audio: str) -> None:
    config = tiny_config(audio)
    config.audio_config.mask_time_prob = 0.075  # as published
    state = torch.get_rng_state()
    FoalNetForEmotionClassification(config).save_pretrained(tmp_path)
    assert not torch.get_rng_state().equal(state)  # new weights are drawn
    state = torch.get_rng_state()
    with torch.device("meta"):
        FoalNetModel(config)
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)  # which writes a card, for which a model is built
    assert torch.get_rng_state().equal(state)
    assert loaded.foal_net.audio_encoder.masked_spec_embed.isfinite().all()


def test_a_thread_with_short_audio_does_not_turn_the_masks_of_another_off() -> None:
    config = tiny_config()
    config.audio_config.mask_time_prob = 0.5
    torch.manual_seed(0)
    encoder = FoalNetModel(config).train().audio_encoder
    model, seen = FoalNetModel(config, audio_encoder=encoder).train(), {}

    def remember(module: Any, args: tuple[torch.Tensor, ...]) -> None:
        seen[threading.current_thread().name] = bool((args[0] == encoder.masked_spec_embed).all(dim=-1).any())

    def run_long_audio_meanwhile(module: Any, args: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=model.get_audio_features, args=(torch.randn(3, 4003),), name="long")
            thread.start()
            thread.join()
            assert config.audio_config.mask_time_prob == 0.5

    encoder.encoder.register_forward_pre_hook(remember)
    encoder.feature_extractor.register_forward_pre_hook(run_long_audio_meanwhile)
    model.get_audio_features(torch.randn(3, 900))
    assert seen == {"long": True, threading.main_thread().name: False}


@torch.no_grad()
def test_states_of_the_image_encoder_come_for_each_frame_and_are_zero_at_padding() -> None:
    model, inputs = tiny_model().foal_net, tiny_batch()
    frames, mask = inputs["pixel_values_videos"], inputs["padding_mask_videos"]
    asked = {"output_hidden_states": True, "output_attentions": True}
    model.set_attn_implementation("eager")
    output = model.get_video_features(frames, mask, **asked)
    alone = model.vision_encoder(frames[1, :3], **asked)
    assert len(output.hidden_states) == 3 and len(output.attentions) == 2
    for layers, expected in ((output.hidden_states, alone.hidden_states), (output.attentions, alone.attentions)):
        for layer, states in zip(layers, expected, strict=True):
            assert layer.shape == (*mask.shape, *states.shape[1:])
            torch.testing.assert_close(layer[1, :3], states, **CLOSE)
            assert not layer[1, 3:].any()
    plain = model.get_video_features(frames, mask)
    assert plain.hidden_states is None and plain.attentions is None
    as_tuple = model.get_video_features(frames, mask, return_dict=False)
    assert isinstance(as_tuple, tuple) and as_tuple[1].equal(plain.pooler_output)


@torch.no_grad()
def test_masks_of_the_output_are_integers_and_weights_load_without_a_folder() -> None:
    model, inputs = tiny_model(), tiny_batch()
    output = model(**inputs)
    for mask in (output.audio_mask, output.video_mask):
        assert mask.dtype == torch.int64 and set(mask.unique().tolist()) == {0, 1}
    assert (output.video_mask - inputs["padding_mask_videos"]).eq(0).all()
    again = FoalNetForEmotionClassification.from_pretrained(None, config=model.config, state_dict=model.state_dict())
    torch.testing.assert_close(again(**inputs).logits, output.logits, **CLOSE)
