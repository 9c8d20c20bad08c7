"""The model: what its results may depend on, what is frozen, degenerate batches, what transformers expects."""

import pytest
import torch
from tiny_models import AUDIO_ENCODERS, FRAMES, SAMPLES, VISION_ENCODERS, tiny_batch, tiny_config, tiny_model
from transformers import AutoModel, CLIPConfig, CLIPModel, CLIPTextConfig

import foal_hf  # noqa: F401  (registers the auto classes)
from foal_hf.foal_net.layers_foal_net import FoalNetFusion
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel


CLOSE = {"atol": 1e-5, "rtol": 0}
LABELS = torch.tensor([0, 1, 1, 2, 3])


def alone(inputs: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One clip of a batch without padding, masks, or the modality it lacks."""
    samples, frames = int(inputs["attention_mask"][row].sum()), int(inputs["padding_mask_videos"][row].sum())
    clip = {}
    if samples:
        clip["input_values"] = inputs["input_values"][row : row + 1, :samples]
    if frames:
        clip["pixel_values_videos"] = inputs["pixel_values_videos"][row : row + 1, :frames]
    return clip


@pytest.mark.parametrize(
    ("audio", "vision"),
    [(name, "clip") for name in AUDIO_ENCODERS] + [("wavlm", name) for name in VISION_ENCODERS if name != "clip"],
)
def test_every_encoder_gives_a_clip_in_a_batch_what_it_gives_the_clip_alone(audio: str, vision: str) -> None:
    model = tiny_model(audio, vision)
    inputs = tiny_batch(torch.tensor([4003, 1701, 2999, 0, 300]), torch.tensor([7, 3, 0, 5, 2]))
    with torch.no_grad():
        together = model(**inputs).logits
        apart = torch.cat([model(**alone(inputs, row)).logits for row in range(5)])
    assert together.std() > 0.05
    torch.testing.assert_close(together, apart, **CLOSE)


@torch.no_grad()
def test_more_padding_changes_nothing() -> None:
    model, inputs = tiny_model(), tiny_batch()
    padded = {
        "input_values": torch.nn.functional.pad(inputs["input_values"], (0, 1009)),
        "attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 1009)),
        "pixel_values_videos": torch.nn.functional.pad(inputs["pixel_values_videos"], (0, 0) * 3 + (0, 5), value=9.0),
        "padding_mask_videos": torch.nn.functional.pad(inputs["padding_mask_videos"], (0, 5)),
    }
    for name in ("logits", "audio_embeds", "video_embeds"):
        torch.testing.assert_close(model(**padded)[name], model(**inputs)[name], **CLOSE)


@torch.no_grad()
def test_order_and_company_in_the_batch_change_nothing() -> None:
    model, inputs = tiny_model(), tiny_batch()
    logits, order = model(**inputs).logits, torch.tensor([3, 0, 4])
    torch.testing.assert_close(model(**{k: v[order] for k, v in inputs.items()}).logits, logits[order], **CLOSE)


@torch.no_grad()
def test_stored_video_features_stand_for_their_pictures() -> None:
    model, inputs = tiny_model(), tiny_batch()
    features = model.foal_net.get_video_features(
        inputs["pixel_values_videos"], inputs["padding_mask_videos"]
    ).last_hidden_state
    stored = {k: v for k, v in inputs.items() if k != "pixel_values_videos"} | {"video_features": features}
    torch.testing.assert_close(model(**stored).logits, model(**inputs).logits, **CLOSE)


@torch.no_grad()
def test_embeddings_are_unit_length_and_zero_for_an_absent_modality() -> None:
    inputs = tiny_batch(torch.tensor([4003, 0, 2999, 400, 3001]), torch.tensor([7, 3, 0, 5, 2]))
    output = tiny_model()(**inputs)
    assert output.audio_embeds.norm(dim=1).tolist() == pytest.approx([1, 0, 1, 1, 1])
    assert output.video_embeds.norm(dim=1).tolist() == pytest.approx([1, 1, 0, 1, 1])
    assert output.audio_mask.any(dim=1).tolist() == [True, False, True, True, True]
    assert output.video_mask.any(dim=1).tolist() == [True, True, False, True, True]


@torch.no_grad()
def test_features_of_one_modality_are_the_embeddings_of_the_whole_model() -> None:
    model, inputs = tiny_model().foal_net, tiny_batch()
    output = model(**inputs)
    audio = model.get_audio_features(inputs["input_values"], inputs["attention_mask"], output_hidden_states=True)
    video = model.get_video_features(inputs["pixel_values_videos"], inputs["padding_mask_videos"])
    torch.testing.assert_close(audio.pooler_output, output.audio_embeds)
    torch.testing.assert_close(video.pooler_output, output.video_embeds)
    assert len(audio.hidden_states) == 3


@pytest.mark.parametrize("missing", ["input_values", "pixel_values_videos"])
def test_a_whole_batch_without_one_modality_is_legal(missing: str) -> None:
    inputs = tiny_batch()
    inputs.pop(missing)
    inputs.pop("attention_mask" if missing == "input_values" else "padding_mask_videos")
    output = tiny_model()(**inputs, labels=LABELS)
    assert output.logits.isfinite().all()
    assert output.alignment_loss == 0 and output.matching_loss == 0
    torch.testing.assert_close(output.loss, output.classification_loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {}, "No input: give"),
        (lambda x: x | {"video_features": torch.zeros(5, 7, 20)}, "not both"),
        (lambda x: {**x, "pixel_values_videos": None, "video_features": torch.zeros(5, 7, 21)}, "21 wide; expected 20"),
        (lambda x: x | {"input_values": torch.zeros(5, 1, 4003)}, r"`input_values` must be \(batch, samples\)"),
        (lambda x: x | {"pixel_values_videos": torch.zeros(5, 3, 26, 26)}, r"got shape \(5, 3, 26, 26\)"),
        (lambda x: x | {"pixel_values_videos": torch.zeros(3, 7, 3, 26, 26)}, "Audio of 5 clips and video of 3"),
        (lambda x: x | {"attention_mask": torch.ones(5, 20)}, r"`attention_mask` has shape \(5, 20\)"),
        (lambda x: x | {"padding_mask_videos": torch.ones(5, 9)}, r"`padding_mask_videos` has shape \(5, 9\)"),
        (
            lambda x: tiny_batch(SAMPLES * torch.tensor([1, 0, 1, 1, 0]), FRAMES * torch.tensor([1, 0, 1, 1, 0])),
            r"\[1, 4\]",
        ),
    ],
)
def test_bad_inputs_are_refused_with_the_reason(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model()(**change(tiny_batch()))


def test_gradients_reach_every_trainable_parameter_and_no_frozen_one() -> None:
    model = tiny_model().train()
    model(**tiny_batch(), labels=LABELS).loss.backward()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert {n for n in frozen if n.startswith("foal_net.vision_encoder.")} and {n for n in frozen if "conv_layers" in n}
    assert all(n.startswith("foal_net.vision_encoder.") or ".feature_extractor." in n for n in frozen)
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached != (name in frozen), name


@pytest.mark.parametrize(
    ("rows", "labels"),
    [([0], [2]), ([0, 1, 2], [1, 1, 1]), ([0, 1, 2, 3, 4], [0, 1, 2, 3, -100])],
    ids=["one clip", "one class", "own classes and one unknown"],
)
@pytest.mark.parametrize("lacking", [(), ("sound",), ("picture",), ("sound", "picture")], ids=str)
def test_degenerate_batches_have_finite_losses_and_gradients(rows, labels, lacking) -> None:
    samples, frames = SAMPLES.clone(), FRAMES.clone()
    if "sound" in lacking:
        samples[0] = 0
    if "picture" in lacking:
        frames[1 if lacking != ("picture",) else 0] = 0
    model = tiny_model().train()
    inputs = {name: value[rows] for name, value in tiny_batch(samples, frames).items()}
    output = model(**inputs, labels=torch.tensor(labels))
    output.loss.backward()
    assert output.loss.isfinite() and output.logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_losses_skip_the_clips_that_lack_a_modality() -> None:
    model = tiny_model()
    whole = tiny_batch(SAMPLES * torch.tensor([1, 1, 0, 1, 1]), FRAMES * torch.tensor([1, 1, 1, 0, 1]))
    paired = {name: value[[0, 1, 4]] for name, value in whole.items()}
    with torch.no_grad():
        expected, output = model(**paired, labels=LABELS[[0, 1, 4]]), model(**whole, labels=LABELS)
    for name in ("alignment_loss", "matching_loss"):
        torch.testing.assert_close(output[name], expected[name], **CLOSE)
    assert output.matching_loss > 0


def test_one_class_counts_in_matching_only_where_the_config_says_so() -> None:
    labels = torch.ones(5).long()
    with torch.no_grad():
        assert tiny_model()(**tiny_batch(), labels=labels).matching_loss == 0
        assert tiny_model(matching_needs_negative=False)(**tiny_batch(), labels=labels).matching_loss > 0


def test_loss_is_the_weighted_sum_of_the_three() -> None:
    output = tiny_model(alignment_loss_weight=0.5, matching_loss_weight=0.25)(**tiny_batch(), labels=LABELS)
    expected = output.classification_loss + 0.5 * output.alignment_loss + 0.25 * output.matching_loss
    torch.testing.assert_close(output.loss, expected)


def test_evaluation_loss_repeats_and_training_draws() -> None:
    with torch.no_grad():
        hardest, random = tiny_model(), tiny_model(evaluation_negatives="random")
        assert len({hardest(**tiny_batch(), labels=LABELS).matching_loss.item() for _ in range(5)}) == 1
        assert len({random(**tiny_batch(), labels=LABELS).matching_loss.item() for _ in range(25)}) > 1


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of every pass through a direction of the fusion."""
    calls: list[int] = []
    attend = FoalNetFusion.attend

    def counted(self, layers, queries, *args, **kwargs):
        calls.append(len(queries))
        return attend(self, layers, queries, *args, **kwargs)

    monkeypatch.setattr(FoalNetFusion, "attend", counted)
    return calls


def test_without_labels_only_the_true_pairs_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch)
    tiny_model()(**tiny_batch())
    assert calls == [5, 5]


def test_matching_fuses_only_the_negatives_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_calls(monkeypatch)
    tiny_model()(**tiny_batch(), labels=LABELS)
    assert calls == [5, 5, 5, 5]
    calls.clear()
    tiny_model(matching_loss_weight=0.0)(**tiny_batch(), labels=LABELS)
    assert calls == [5, 5]


def test_logits_do_not_depend_on_labels() -> None:
    model = tiny_model()
    torch.testing.assert_close(
        model(**tiny_batch(), labels=LABELS).logits, model(**tiny_batch()).logits, rtol=0, atol=0
    )


def test_modality_dropout_hides_one_side_in_training_only() -> None:
    model = tiny_model(modality_dropout=0.8)
    hidden_audio = hidden_video = 0
    for seed in range(20):
        torch.manual_seed(seed)
        output = model.train()(**tiny_batch())
        audio, video = output.audio_mask.any(dim=1), output.video_mask.any(dim=1)
        assert (audio | video).all()
        hidden_audio += int((~audio).sum())
        hidden_video += int((~video).sum())
    assert 20 < hidden_audio < 60 and 20 < hidden_video < 60
    output = model.eval()(**tiny_batch())
    assert output.audio_mask.any(dim=1).all() and output.video_mask.any(dim=1).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_finite_and_near_float32(dtype: torch.dtype) -> None:
    inputs = tiny_batch(SAMPLES * torch.tensor([1, 1, 0, 1, 1]), FRAMES * torch.tensor([1, 1, 1, 0, 1]))
    with torch.no_grad():
        expected = tiny_model()(**inputs, labels=LABELS)
        output = tiny_model().to(dtype)(**inputs, labels=LABELS)
    assert output.logits.dtype == dtype
    # bfloat16 keeps 8 bits and float16 11; rounding adds up over some ten layers. Logits are some 3 large.
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(output.logits.float(), expected.logits, atol=20 * eps, rtol=0)
    torch.testing.assert_close(output.audio_embeds.float(), expected.audio_embeds, atol=4 * eps, rtol=0)
    assert output.loss.isfinite()


def test_autocast_trains_with_finite_loss_and_gradients() -> None:
    model = tiny_model().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**tiny_batch(), labels=LABELS).loss
    loss.backward()
    assert loss.isfinite() and loss.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_eager_and_sdpa_agree() -> None:
    inputs = tiny_batch(SAMPLES * torch.tensor([1, 1, 0, 1, 1]), FRAMES * torch.tensor([1, 1, 1, 0, 1]))
    with torch.no_grad():
        model = tiny_model()
        assert model.config._attn_implementation == "sdpa"
        sdpa = model(**inputs).logits
        model.set_attn_implementation("eager")
        assert model.foal_net.fusion.config._attn_implementation == "eager"
        torch.testing.assert_close(model(**inputs).logits, sdpa, **CLOSE)


@torch.no_grad()
def test_attention_maps_and_hidden_states_come_where_asked_for() -> None:
    model, inputs = tiny_model(), tiny_batch()
    model.set_attn_implementation("eager")
    output = model(**inputs, labels=LABELS, output_attentions=True, output_hidden_states=True)
    assert [tuple(a.shape) for a in output.attentions] == [(5, 4, 12, 7)] * 2 + [(5, 4, 7, 12)] * 2
    assert [tuple(h.shape) for h in output.hidden_states] == [(5, 12, 32)] * 2 + [(5, 7, 20)] * 2
    # Attention is a distribution over the frames a clip has, and over nothing else.
    torch.testing.assert_close(output.attentions[0].sum(dim=-1), torch.ones(5, 4, 12))
    assert not output.attentions[0][1, :, :, 3:].any()
    plain = model(**inputs)
    assert plain.attentions is None and plain.hidden_states is None


def test_return_dict_false_gives_a_tuple() -> None:
    inputs = tiny_batch()
    output = tiny_model()(**inputs, labels=LABELS, return_dict=False)
    assert isinstance(output, tuple) and output[0].shape == () and output[1].shape == (5, 4)
    assert isinstance(tiny_model().foal_net(**inputs, return_dict=False), tuple)


def enable_checkpointing(model: FoalNetForEmotionClassification, use_reentrant: bool) -> None:
    """The method was renamed within transformers 5."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": use_reentrant})


def test_gradient_checkpointing_changes_memory_not_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(
            sequence_dropout=0.0, fusion_dropout=0.0, projection_dropout=0.0, classifier_dropout=0.0,
        )  # fmt: skip
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for layer in model.foal_net.audio_encoder.encoder.layers:
            layer.attention.dropout = 0.0
        model.train()
        if checkpointing:
            enable_checkpointing(model, use_reentrant=False)
            assert model.foal_net.fusion.audio_queries_video[0].gradient_checkpointing
        model(**tiny_batch(), labels=LABELS).classification_loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=lambda m, n=name: f"{n}: {m}")


def test_reentrant_checkpointing_is_refused() -> None:
    with pytest.raises(ValueError, match="recurses without end"):
        enable_checkpointing(tiny_model(), use_reentrant=True)


def test_fusion_compiles_without_graph_breaks() -> None:
    model = tiny_model()
    audio, video = torch.randn(5, 11, 32), torch.randn(5, 7, 20)
    masks = torch.rand(5, 11) > 0.3, torch.rand(5, 7) > 0.3
    arguments = (audio, masks[0], video, masks[1])
    compiled = torch.compile(model.foal_net.fusion, fullgraph=True, backend="eager")
    with torch.no_grad():
        for ours, expected in zip(compiled(*arguments), model.foal_net.fusion(*arguments), strict=True):
            torch.testing.assert_close(ours, expected, **CLOSE)


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # in transformers
def test_the_whole_model_compiles_and_gives_the_same() -> None:
    model, inputs = tiny_model(), tiny_batch()
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits, **CLOSE)


def test_an_encoder_that_goes_by_length_says_that_it_cannot_be_exported_with_a_mask() -> None:
    inputs = tuple(tiny_batch().values())
    with pytest.raises(ValueError, match="export it without one, for clips of equal length"):
        torch.export.export(tiny_model("wav2vec2-group"), inputs, strict=False)


@pytest.mark.parametrize("audio", ["wavlm", "wav2vec2-group", "data2vec-audio"])
def test_training_masks_the_sound_but_takes_clips_too_short_for_it(audio: str) -> None:
    config = tiny_config(audio)
    config.audio_config.mask_time_prob = 0.5
    torch.manual_seed(0)
    model = FoalNetForEmotionClassification(config).train()
    masked: list[torch.Tensor] = []
    # What the transformer sees first: SpecAugment replaces whole positions by one learned vector.
    model.foal_net.audio_encoder.encoder.register_forward_pre_hook(lambda module, args: masked.append(args[0].detach()))
    learned = model.foal_net.audio_encoder.masked_spec_embed
    for samples in (torch.tensor([4003, 3001, 0, 3001, 4003]), torch.tensor([1701, 900, 0, 900, 900])):
        masked.clear()
        longest = int(samples.max())
        inputs = tiny_batch(samples)
        inputs |= {name: inputs[name][:, :longest] for name in ("input_values", "attention_mask")}
        model(**inputs, labels=LABELS).loss.backward()
        is_masked = any(bool((states == learned).all(dim=-1).any()) for states in masked)
        assert is_masked == (longest == 4003)
    assert config.audio_config.mask_time_prob == 0.5


@torch.no_grad()
def test_inference_path_exports_with_dynamic_lengths() -> None:
    model, inputs = tiny_model(), tiny_batch()
    names = ["input_values", "attention_mask", "pixel_values_videos", "padding_mask_videos"]

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_values, attention_mask, pixel_values_videos, padding_mask_videos):
            return self.model(input_values, attention_mask, pixel_values_videos, padding_mask_videos).logits

    batch_size, samples, frames = (
        torch.export.Dim(name, min=least, max=most)
        for name, least, most in (("batch", 2, 64), ("samples", 720, 96000), ("frames", 2, 180))
    )
    audio, video = {0: batch_size, 1: samples}, {0: batch_size, 1: frames}
    program = torch.export.export(
        Logits(), tuple(inputs[n] for n in names), dynamic_shapes=(audio, audio, video, video), strict=False
    )
    shorter = {n: v[:3, :2011] if v.ndim == 2 and v.shape[1] > 7 else v[:3, :5] for n, v in inputs.items()}
    expected = model(**shorter).logits
    torch.testing.assert_close(program.module()(*(shorter[n] for n in names)), expected, **CLOSE)


def test_frozen_encoder_stays_in_eval_mode_and_keeps_no_activations() -> None:
    model = tiny_model().train()
    assert model.training and not model.foal_net.vision_encoder.training
    saved: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.shape) or t, lambda t: t):
        model.foal_net.encode_video(tiny_batch()["pixel_values_videos"])
    assert not saved
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable)
    model(**tiny_batch(), labels=LABELS).loss.backward()
    optimizer.step()
    frozen = {id(p) for p in model.foal_net.vision_encoder.parameters()}
    assert not frozen & {id(p) for p in optimizer.state}


def test_unfrozen_encoders_are_trained() -> None:
    model = tiny_model(freeze_vision_encoder=False, freeze_audio_feature_encoder=False).train()
    assert model.foal_net.vision_encoder.training
    model(**tiny_batch(), labels=LABELS).loss.backward()
    assert all(p.grad is not None and p.grad.any() for n, p in model.named_parameters() if "k_proj.bias" not in n)


def test_checkpoint_is_safetensors_and_loads_with_what_is_frozen(tmp_path) -> None:
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir() if p.suffix != ".py"} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**tiny_batch()).logits, model(**tiny_batch()).logits, rtol=0, atol=0)
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in loaded.named_parameters() if p.requires_grad} == trainable
    base = FoalNetModel.from_pretrained(tmp_path)
    torch.testing.assert_close(base(**tiny_batch()).audio_embeds, model(**tiny_batch()).audio_embeds)


def test_checkpoint_loads_with_another_number_of_classes(tmp_path) -> None:
    tiny_model().save_pretrained(tmp_path)
    labels = {0: "calm", 1: "afraid", 2: "proud"}
    model = FoalNetForEmotionClassification.from_pretrained(
        tmp_path, id2label=labels, label2id={v: k for k, v in labels.items()}, ignore_mismatched_sizes=True
    )
    assert model.config.id2label == labels and model.classifier.out_features == 3
    torch.testing.assert_close(
        model.audio_matching_head.weight, tiny_model().audio_matching_head.weight, rtol=0, atol=0
    )


@pytest.mark.parametrize("vision", ["clip", "clip tower of two", "siglip", "vit"])
def test_from_encoders_pretrained_takes_both_encoders_weights(tmp_path, vision: str) -> None:
    source = tiny_model(vision="clip" if vision.startswith("clip") else vision)
    audio = source.foal_net.audio_encoder
    audio.save_pretrained(tmp_path / "audio")
    if vision == "clip tower of two":
        config = source.config.vision_config
        text = CLIPTextConfig(hidden_size=24, intermediate_size=29, num_hidden_layers=1, num_attention_heads=2)
        towers = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=config.to_dict(), projection_dim=20))
        towers.save_pretrained(tmp_path / "vision")
        expected = {f"vision_model.{n}": w for n, w in towers.vision_model.state_dict().items()}
        expected["visual_projection.weight"] = towers.visual_projection.weight
    else:
        source.foal_net.vision_encoder.save_pretrained(tmp_path / "vision")
        expected = source.foal_net.vision_encoder.state_dict()
    for kind in (FoalNetModel, FoalNetForEmotionClassification):
        model = kind.from_encoders_pretrained(
            str(tmp_path / "audio"), str(tmp_path / "vision"), projection_dim=16, id2label={0: "calm", 1: "afraid"}
        )
        base = getattr(model, "foal_net", model)
        assert not model.training and model.config.num_labels == 2
        for name, weight in audio.state_dict().items():
            torch.testing.assert_close(base.audio_encoder.state_dict()[name], weight, rtol=0, atol=0)
        for name, weight in expected.items():
            torch.testing.assert_close(base.vision_encoder.state_dict()[name], weight, rtol=0, atol=0)
        assert base.audio_encoder.config is model.config.audio_config
        assert model(**tiny_batch()) is not None


def test_arguments_for_the_hub_stay_out_of_the_config_and_unknown_ones_are_refused(tmp_path) -> None:
    source = tiny_model().foal_net
    source.audio_encoder.save_pretrained(tmp_path / "audio")
    source.vision_encoder.save_pretrained(tmp_path / "vision")
    names = str(tmp_path / "audio"), str(tmp_path / "vision")
    model = FoalNetModel.from_encoders_pretrained(*names, token="hf_secret", local_files_only=True)
    saved = model.config.to_json_string()
    assert "hf_secret" not in saved and "local_files_only" not in saved and str(tmp_path) not in saved
    with pytest.raises(TypeError, match="Unknown arguments: projecton_dim"):
        FoalNetModel.from_encoders_pretrained(*names, projecton_dim=3)
    with pytest.raises(TypeError, match=r"call `.to\(dtype\)` on the model"):
        FoalNetModel.from_encoders_pretrained(*names, dtype="bfloat16")


@pytest.mark.parametrize("audio", ["wavlm", "moonshine"])
def test_the_input_embeddings_are_what_the_waveform_goes_through_first(audio: str) -> None:
    model, reached = tiny_model(audio), []
    embeddings = model.get_input_embeddings()
    for module in model.foal_net.audio_encoder.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda module, *values: reached.append(module))
    model(input_values=torch.randn(1, 4003))
    assert embeddings is not model.foal_net.audio_encoder
    assert any(reached[0] is part for part in embeddings.modules())


def test_sub_configs_are_the_encoders_own() -> None:
    model = tiny_model()
    assert model.foal_net.audio_encoder.config is model.config.audio_config
    assert model.foal_net.vision_encoder.config is model.config.vision_config


def test_base_model_of_a_checkpoint_is_found_by_auto_model(tmp_path) -> None:
    tiny_model().save_pretrained(tmp_path)
    assert isinstance(AutoModel.from_pretrained(tmp_path), FoalNetModel)
