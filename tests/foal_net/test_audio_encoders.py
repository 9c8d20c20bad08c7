"""Audio encoders of every kind: each gives what it gives by hand, whatever the company of a clip in its batch."""

import copy
import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_environment import make_bare_environment
from requirements import need
from tiny_models import OTHER_AUDIO_ENCODERS, VISION_ENCODERS, tiny_config, tiny_model
from tiny_processors import tiny_image_processor, tiny_video_processor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoProcessor,
    BertConfig,
    ClapConfig,
    ClapModel,
    ClapTextConfig,
    CLIPVisionModelWithProjection,
    EncodecConfig,
    MoonshineForConditionalGeneration,
    ParakeetFeatureExtractor,
    PreTrainedConfig,
    PreTrainedModel,
    SeamlessM4Tv2Model,
    Wav2Vec2FeatureExtractor,
    WhisperForConditionalGeneration,
    pipeline,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, FoalNetModel, FoalNetProcessor
from foal_hf.export import export_checkpoint
from foal_hf.foal_net.media_foal_net import Clip


# transformers 5.19 compiles a function of SEW-D when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
CLOSE = {"atol": 1e-5, "rtol": 0}
RATE = 16_000
SAMPLES = (14_237, 6_331, 9_973, 300, 6_331)  # 19 positions of SEW, an odd number; the fourth is too short to be audio
KINDS = (*OTHER_AUDIO_ENCODERS, "wav2vec2-conformer")
SPECTROGRAM_KINDS = [kind for kind in OTHER_AUDIO_ENCODERS if kind not in ("moonshine", "sew", "sew-d")]
every_kind = pytest.mark.parametrize("kind", KINDS)


def waveform(samples: int, seed: int = 0) -> torch.Tensor:
    """A tone whose loudness and pitch change, in noise."""
    seconds = torch.arange(samples) / RATE
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(seed))
    return 0.3 * torch.sin(2 * torch.pi * (200 + 90 * seed + 300 * seconds) * seconds) * (1 + seconds) + 0.02 * noise


def clip(samples: int, seed: int = 0, frames: int = 0) -> Clip:
    video = torch.rand(frames, 3, 26, 26, generator=torch.Generator().manual_seed(seed)) if frames else None
    times = torch.arange(frames) / 5 if frames else None
    return Clip(waveform(samples, seed) if samples else None, RATE if samples else None, video, times, 0.0, 1.0)


def processor_of(kind: str, **fields: Any) -> FoalNetProcessor:
    extractor = (
        copy.deepcopy(OTHER_AUDIO_ENCODERS[kind][1])
        if kind in OTHER_AUDIO_ENCODERS
        else Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    )
    return FoalNetProcessor(extractor, tiny_video_processor(do_normalize=False, max_seconds=0.9, **fields))


def clips() -> list[Clip]:
    return [clip(samples, seed, frames=2) for seed, samples in enumerate(SAMPLES)]


@every_kind
@torch.no_grad()
def test_company_and_padding_change_nothing(kind: str) -> None:
    model, processor = tiny_model(kind), processor_of(kind)
    together = processor.batch([*clips(), clip(0, 9, frames=3)])
    apart = [processor.batch([each]) for each in (*clips(), clip(0, 9, frames=3))]
    got, alone = model(**together), [model(**each) for each in apart]
    assert got.audio_mask.any(dim=1).tolist() == [True, True, True, False, True, False]
    for name in ("logits", "audio_embeds"):
        torch.testing.assert_close(got[name], torch.cat([each[name] for each in alone]), **CLOSE)
    padded = processor.batch(clips(), padding="max_length", max_seconds=0.97)
    torch.testing.assert_close(model(**padded).logits, got.logits[:5], **CLOSE)
    assert got.logits.std() > 0.05


@pytest.mark.parametrize("kind", ["wav2vec2", "wav2vec2-bert"])
@torch.no_grad()
def test_the_convolutions_of_an_adapter_read_no_padding(kind: str) -> None:
    config = tiny_config(kind)
    adapted = {**config.audio_config.to_dict(), "add_adapter": True, "num_adapter_layers": 1, "output_hidden_size": 32}
    config = FoalNetConfig(audio_config=adapted, vision_config=config.vision_config, projection_dim=16)
    torch.manual_seed(0)
    model, processor = FoalNetModel(config).eval(), processor_of(kind)
    alone = torch.cat([model(**processor.batch([each])).audio_embeds for each in clips()])
    torch.testing.assert_close(model(**processor.batch(clips())).audio_embeds, alone, **CLOSE)


def by_hand(kind: str, encoder: Any, extractor: Any, samples: torch.Tensor) -> torch.Tensor:
    """A clip's sequence from transformers alone, `(positions, width)`."""
    given = extractor(samples.numpy(), sampling_rate=RATE, return_tensors="pt")
    if kind == "whisper":  # an encoder for exactly this clip
        given = extractor(
            samples.numpy(), sampling_rate=RATE, return_tensors="pt", padding="longest", pad_to_multiple_of=320
        )
        config = copy.deepcopy(encoder.config)
        config.max_source_positions = given.input_features.shape[-1] // 2
        short = WhisperEncoder(config).eval()
        weights = encoder.state_dict()
        weights["embed_positions.weight"] = weights["embed_positions.weight"][: config.max_source_positions]
        short.load_state_dict(weights)
        return short(given.input_features).last_hidden_state[0]
    if kind == "ast":
        tokens = encoder(given.input_values.float()).last_hidden_state[0]
        _, rows = encoder.embeddings.get_shape(encoder.config)
        frames = 1 + (len(samples) - 400) // 160
        positions = sum(10 * index < frames for index in range(rows))
        return tokens[2:].unflatten(0, (-1, rows)).mean(0)[: min(positions, rows)]
    if kind == "clap":
        tokens = encoder(given.input_features.float()).last_hidden_state[0].mean(1).T
        return tokens[: math.ceil(math.ceil(len(samples) * 101 / RATE) * len(tokens) / 101)]
    inputs = given[encoder.main_input_name]
    if kind in ("wav2vec2-bert", "seamless-m4t-v2"):  # the last frame may be half padding, which the mask excludes
        inputs = inputs[:, : int(given.attention_mask.sum())]
    return encoder(**{encoder.main_input_name: inputs}).last_hidden_state[0]


@pytest.mark.parametrize(("kind", "passes"), [("wav2vec2-bert", 1), ("parakeet", 1), ("seamless-m4t-v2", 3)])
@torch.no_grad()
def test_an_encoder_whose_convolutions_get_the_mask_runs_once(kind: str, passes: int) -> None:
    model, calls = tiny_model(kind), []
    model.foal_net.audio_encoder.register_forward_hook(lambda *_: calls.append(None))
    model(**processor_of(kind).batch(clips()))  # audio of three lengths
    assert len(calls) == passes


@torch.no_grad()
def test_the_feature_extractor_of_parakeet_works() -> None:
    need("parakeet-extractor")
    extractor = ParakeetFeatureExtractor(feature_size=16)
    model, processor = tiny_model("parakeet"), processor_of("parakeet")
    processor.feature_extractor = extractor
    batch = processor.batch(clips())
    alone = [processor.batch([each]) for each in clips()]
    torch.testing.assert_close(model(**batch).logits, torch.cat([model(**each).logits for each in alone]), **CLOSE)
    given = extractor(waveform(SAMPLES[0]).numpy(), sampling_rate=RATE, return_tensors="pt")
    encoder, valid = model.foal_net.audio_encoder, model(**alone[0]).audio_mask[0].bool()
    expected = encoder(given.input_features, attention_mask=given.attention_mask).last_hidden_state[0]
    got = model.foal_net(**alone[0]).audio_last_hidden_state[0, valid]
    torch.testing.assert_close(got, expected[: int(valid.sum())], **CLOSE)
    assert valid.sum() == 11  # 88 frames


@every_kind
@torch.no_grad()
def test_the_sequence_is_that_of_the_encoder_called_by_hand(kind: str) -> None:
    model, processor = tiny_model(kind).foal_net, processor_of(kind)
    batch = processor.batch([clip(6_640, 1), clip(14_237)])  # 40 frames are the beginnings of four patches of AST
    output = model(**batch)
    for row, (samples, seed) in enumerate(((6_640, 1), (14_237, 0))):
        expected = by_hand(kind, model.audio_encoder, processor.feature_extractor, waveform(samples, seed))
        valid = output.audio_mask[row].bool()
        assert valid.sum() == len(expected) and valid[: len(expected)].all()
        torch.testing.assert_close(output.audio_last_hidden_state[row, valid], expected, **CLOSE)
        assert expected.std(dim=0).mean() > 1e-3  # it changes over time


SUMMED = (
    "wavlm",
    "hubert-group",
    "wav2vec2",
    "data2vec-audio",
    "moonshine",
    "whisper",
    "wav2vec2-bert",
    "parakeet",
    "ast",
    "wav2vec2-conformer",
)


@pytest.mark.parametrize("kind", SUMMED)
@torch.no_grad()
def test_layers_are_summed_with_learned_weights(kind: str) -> None:
    plain, processor = tiny_model(kind).foal_net, processor_of(kind)
    model = tiny_model(kind, audio_layers=[1, 2]).foal_net
    model.load_state_dict(plain.state_dict(), strict=False)
    batch = processor.batch(clips())
    states = plain.get_audio_features(**{n: batch[n] for n in batch if "video" not in n}, output_hidden_states=True)
    assert len(states.hidden_states) == 3
    mask = model(**batch).audio_mask.bool()
    model.audio_layer_weights.copy_(torch.tensor([0.0, math.log(3.0)]))  # a quarter and three quarters
    expected = 0.25 * states.hidden_states[1] + 0.75 * states.hidden_states[2]
    got = model(**batch).audio_last_hidden_state
    if kind == "ast":
        expected = expected[:, 2:].unflatten(1, (-1, got.shape[1])).mean(1)
    torch.testing.assert_close(got[mask], expected[mask], **CLOSE)
    assert not got[~mask].any()
    model.audio_layer_weights.fill_(5.0)
    alone = torch.cat([model(**processor.batch([each])).audio_embeds for each in clips()])
    torch.testing.assert_close(model(**batch).audio_embeds, alone, **CLOSE)


@pytest.mark.parametrize(
    ("kind", "layers", "message"),
    [
        ("clap", "all", "`audio_layers` must be 'last' for ClapAudioModel: its layers cannot be summed"),
        ("sew", "all", "`audio_layers` must be 'last' for SEWModel"),
        ("whisper", [1, 3], "expected 0 <= first <= last <= 2: this audio encoder has 2 layers"),
        ("whisper", [2, 1], "expected 0 <= first <= last <= 2"),
        ("whisper", "first", "is 'first'; expected 'last', 'all' or"),
        ("whisper", [1], "expected 'last', 'all' or"),
    ],
)
def test_layers_that_cannot_be_summed_are_refused(kind: str, layers: Any, message: str) -> None:
    with pytest.raises(Exception, match=message):
        tiny_config(kind, audio_layers=layers)


def test_a_frozen_encoder_trains_only_the_weights_of_its_layers() -> None:
    model, processor = (
        tiny_model("whisper", audio_layers="all", freeze_audio_encoder=True).train(),
        processor_of("whisper"),
    )
    assert not model.foal_net.audio_encoder.training
    assert model.foal_net.audio_layer_weights.tolist() == [0.0] * 3
    model(**processor.batch(clips()), labels=torch.tensor([0, 1, 2, 3, 0])).loss.backward()
    gradient = model.foal_net.audio_layer_weights.grad
    assert gradient is not None and gradient.abs().min() > 1e-6
    assert not [name for name, weight in model.foal_net.audio_encoder.named_parameters() if weight.grad is not None]
    features = torch.zeros(5, 3, 32)
    with pytest.raises(ValueError, match="would never get a gradient"):
        model(audio_features=features)
    assert model.eval()(audio_features=features).logits.isfinite().all()


@torch.no_grad()
def test_hidden_states_of_fusion_do_not_disturb_those_of_the_encoder() -> None:
    model, processor = tiny_model("whisper", audio_layers="all"), processor_of("whisper")
    batch = processor.batch(clips())
    expected = model(**batch).logits
    for _ in range(2):
        output = model(**batch, output_hidden_states=True)
        assert len(output.hidden_states) == 4
        torch.testing.assert_close(output.logits, expected, **CLOSE)


def test_layers_that_training_skips_are_an_error_of_their_sum() -> None:
    config = tiny_config("wav2vec2-conformer", audio_layers="all")
    config.audio_config.layerdrop = 0.9
    model = FoalNetForEmotionClassification(config).train()
    with pytest.raises(
        ValueError, match=r"skipped layers \(\d of 3 outputs\).* set `layerdrop` of `audio_config` to 0"
    ):
        model(**processor_of("wav2vec2-conformer").batch(clips()))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_checkpoint_that_sums_the_layers_of_wavlm_loads(
    attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("wavlm", audio_layers="all")
    model.save_pretrained(tmp_path)
    monkeypatch.setattr("foal_hf.foal_net.audio_traits_foal_net._LAYERS", {})  # as in a new process
    loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path, attn_implementation=attention)
    assert loaded.foal_net.audio_layer_weights.tolist() == [0.0] * 3


def test_only_other_settings_of_the_audio_encoder_are_written(tmp_path: Path) -> None:
    assert not {"audio_layers", "freeze_audio_encoder"} & tiny_config().to_diff_dict().keys()
    tiny_config("whisper", audio_layers=(0, 1), freeze_audio_encoder=True).save_pretrained(tmp_path)
    loaded = FoalNetConfig.from_pretrained(tmp_path)
    assert (loaded.audio_layers, loaded.freeze_audio_encoder) == ([0, 1], True)


@every_kind
def test_a_saved_model_and_its_processor_load_by_auto_classes(kind: str, tmp_path: Path) -> None:
    model, processor = tiny_model(kind), processor_of(kind)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    batch = AutoProcessor.from_pretrained(tmp_path).batch(clips())
    loaded, info = FoalNetForEmotionClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert set(batch) <= set(processor.model_input_names)
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, model(**processor.batch(clips())).logits, rtol=0, atol=0)
        base = AutoModel.from_pretrained(tmp_path)
        torch.testing.assert_close(base(**batch).audio_embeds, model(**batch).audio_embeds, rtol=0, atol=0)


@every_kind
def test_a_training_step_moves_what_is_trainable_and_nothing_else(kind: str, tmp_path: Path) -> None:
    tiny_model(kind).save_pretrained(tmp_path)
    model = FoalNetForEmotionClassification.from_pretrained(tmp_path).train()  # loading must not unfreeze
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=100.0)
    batch = processor_of(kind).batch(clips())
    model(**batch, labels=torch.tensor([0, 1, 2, 3, 0])).loss.backward()
    optimizer.step()
    unmoved = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name in frozen if name.startswith("foal_net.vision_encoder.")}
    still = {name for name in unmoved - frozen if "masked_spec_embed" not in name}
    # A bias of keys adds the same to all scores; a conformer with relative positions does not use its convolution.
    without_effect = ("k_proj.bias", "linear_k.bias", "key.bias")
    assert not [name for name in still if not name.endswith(without_effect) and "pos_conv_embed" not in name], still
    assert frozen <= unmoved


@every_kind
@torch.no_grad()
def test_bfloat16_is_finite_and_near_float32(kind: str) -> None:
    model, batch = tiny_model(kind), processor_of(kind).batch(clips())
    expected = model(**batch).audio_embeds
    output = model.to(torch.bfloat16)(**batch)
    assert output.logits.dtype == torch.bfloat16 and output.logits.isfinite().all()
    torch.testing.assert_close(output.audio_embeds.float(), expected, atol=0.1, rtol=0)


WHOLE_MODELS: dict[str, Any] = {
    "whisper": WhisperForConditionalGeneration,
    "moonshine": MoonshineForConditionalGeneration,
    "seamless-m4t-v2": SeamlessM4Tv2Model,
    "clap": ClapModel,
}


@pytest.mark.parametrize("kind", WHOLE_MODELS)
def test_of_a_whole_pretrained_model_only_the_audio_encoder_is_loaded(kind: str, tmp_path: Path) -> None:
    config, extractor = OTHER_AUDIO_ENCODERS[kind]
    if kind == "clap":
        text = ClapTextConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=3, vocab_size=7
        )
        config = ClapConfig(audio_config=config, text_config=text)
    torch.manual_seed(1)
    whole = WHOLE_MODELS[kind](copy.deepcopy(config))
    whole.save_pretrained(tmp_path / "audio")
    extractor.save_pretrained(tmp_path / "audio")
    CLIPVisionModelWithProjection(VISION_ENCODERS["clip"][0]).save_pretrained(tmp_path / "vision")
    tiny_image_processor().save_pretrained(tmp_path / "vision")
    names = str(tmp_path / "audio"), str(tmp_path / "vision")
    model = FoalNetModel.from_encoders_pretrained(*names)
    encoder = model.audio_encoder
    part = next(each for each in whole.modules() if type(each) is type(encoder))
    assert {name: value.tolist() for name, value in encoder.state_dict().items()} == {
        name: value.tolist() for name, value in part.state_dict().items()
    }
    assert sum(each.numel() for each in encoder.parameters()) < sum(each.numel() for each in whole.parameters())
    processor = FoalNetProcessor.from_encoders_pretrained(*names, do_normalize=False)
    assert model(**processor.batch(clips())).audio_embeds.isfinite().all()


def test_a_checkpoint_without_the_weights_of_its_encoder_is_refused(tmp_path: Path) -> None:
    whole = WhisperForConditionalGeneration(copy.deepcopy(OTHER_AUDIO_ENCODERS["whisper"][0]))
    weights = {name: value for name, value in whole.state_dict().items() if "encoder.layers.1." not in name}
    whole.save_pretrained(tmp_path / "audio", state_dict=weights)
    CLIPVisionModelWithProjection(VISION_ENCODERS["clip"][0]).save_pretrained(tmp_path / "vision")
    with pytest.raises(ValueError, match="lacks weights of its audio encoder WhisperEncoder, such as layers"):
        FoalNetModel.from_encoders_pretrained(str(tmp_path / "audio"), str(tmp_path / "vision"))


class MyAudioConfig(PreTrainedConfig):
    """The config of an encoder that the package has never seen."""

    model_type = "my_audio"
    size: int = 24


class MyAudioEncoder(PreTrainedModel):
    """Two frames become a position; takes the usual inputs, and gives `last_hidden_state`."""

    config_class = MyAudioConfig
    main_input_name = "input_features"

    def __init__(self, config: MyAudioConfig) -> None:
        super().__init__(config)
        self.project = torch.nn.Linear(34, config.size)
        self.mix = torch.nn.Conv1d(config.size, config.size, 3, stride=2, padding=1)
        self.post_init()

    def forward(self, input_features: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        states = self.project(input_features)
        if attention_mask is not None:
            states = states * attention_mask[..., None]
        return BaseModelOutput(last_hidden_state=self.mix(states.mT).mT.tanh())


def test_an_unknown_encoder_with_the_usual_interface_works(tmp_path: Path) -> None:
    AutoConfig.register("my_audio", MyAudioConfig)
    AutoModel.register(MyAudioConfig, MyAudioEncoder)
    base = tiny_config()
    config = FoalNetConfig(audio_config=MyAudioConfig(), vision_config=base.vision_config, projection_dim=16)
    assert (config.audio_width, config.audio_input_name) == (24, "input_features")
    torch.manual_seed(0)
    model, processor = FoalNetForEmotionClassification(config).eval(), processor_of("wav2vec2-bert")
    batch = processor.batch(clips())
    with torch.no_grad():
        alone = torch.cat([model(**processor.batch([each])).logits for each in clips()])
        torch.testing.assert_close(model(**batch).logits, alone, **CLOSE)
        model.save_pretrained(tmp_path)
        loaded = FoalNetForEmotionClassification.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(**batch).logits, alone, **CLOSE)
    model.train()(**batch, labels=torch.tensor([0, 1, 2, 3, 0])).loss.backward()
    assert all(each.grad is not None for each in model.foal_net.audio_encoder.parameters())


@every_kind
def test_a_recording_of_40_seconds_has_a_timeline(kind: str) -> None:
    classify = pipeline("audio-video-emotion", model=tiny_model(kind), processor=processor_of(kind))
    seconds = 40.0
    recording = {"audio": waveform(round(seconds * RATE)).numpy(), "sampling_rate": RATE}
    segments = classify(recording, window_seconds=0.9, stride_seconds=0.9, batch_size=48, detect_speech=False)
    assert segments[0]["start_seconds"] == 0.0 and segments[-1]["end_seconds"] == pytest.approx(seconds, abs=0.05)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("whisper", {"input_features": torch.zeros(1, 17, 61)}, "61 frames; .* a multiple of 2 and at most 122"),
        ("whisper", {"input_features": torch.zeros(1, 17, 124)}, "124 frames; .* at most 122"),
        ("whisper", {"input_features": torch.zeros(1, 61)}, r"must be \(batch, bins, spectrogram_frames\), got shape"),
        (
            "whisper",
            {"input_values": torch.zeros(1, 16000)},
            "`input_values` were given, but .* takes `input_features`",
        ),
        (
            "wavlm",
            {"input_features": torch.zeros(1, 9, 34)},
            "`input_features` were given, but .* takes `input_values`",
        ),
        ("ast", {"input_values": torch.zeros(1, 90, 37)}, "have 90 frames; this audio encoder takes 101"),
        (
            "whisper",
            {"input_features": torch.zeros(2, 17, 40), "attention_mask": torch.ones(2, 17)},
            r"`attention_mask` has shape \(2, 17\), but `input_features` needs \(2, 40\)",
        ),
    ],
)
def test_inputs_that_the_audio_encoder_cannot_take_are_refused(kind: str, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(kind)(**change)


@pytest.mark.parametrize(("kind", "window"), [("ast", "1.01"), ("clap", "1.00")])
def test_audio_beyond_the_window_of_the_extractor_is_refused(kind: str, window: str) -> None:
    with pytest.raises(ValueError, match=rf"Clip 1 of the batch has 1.10 s of audio; .* takes at most {window} s"):
        processor_of(kind).batch([clip(6_011), clip(17_600)])


def test_audio_beyond_the_window_of_whisper_is_not_cut() -> None:
    batch = processor_of("whisper").batch([clip(40_000)])  # 2.5 s, and 2 s are the window
    assert batch["input_features"].shape[2] == int(batch["attention_mask"].sum()) == 250
    with pytest.raises(ValueError, match=r"A clip of 250 frames; .* at most 122"):
        tiny_model("whisper")(**batch)


def test_the_published_setting_leaves_spectrograms_normalized(tmp_path: Path) -> None:
    OTHER_AUDIO_ENCODERS["ast"][1].save_pretrained(tmp_path)
    tiny_image_processor().save_pretrained(tmp_path / "vision")
    names = str(tmp_path), str(tmp_path / "vision")
    assert FoalNetProcessor.from_encoders_pretrained(*names, setting="paper").feature_extractor.do_normalize


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BertConfig(hidden_size=8, num_attention_heads=1), "BertModel has no part whose `main_input_name`"),
        (EncodecConfig(), "EncodecModel took none of the inputs that were tried"),
    ],
)
def test_a_model_that_is_no_audio_encoder_is_refused(config: PreTrainedConfig, message: str) -> None:
    with pytest.raises(Exception, match=message):
        FoalNetConfig(audio_config=config)


@pytest.mark.parametrize("kind", SPECTROGRAM_KINDS)
def test_settings_for_waveforms_are_refused_for_spectrograms(kind: str) -> None:
    with pytest.raises(ValueError, match="max_length: set for waveforms only"):
        processor_of(kind)(audio=[waveform(6_011)], sampling_rate=RATE, padding="max_length", max_length=9_000)


@pytest.mark.parametrize("kind", ["sew", "sew-d"])
def test_what_cannot_be_exported_says_so(kind: str, tmp_path: Path) -> None:
    need("openvino")
    tiny_config(kind).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"cannot be exported: its `audio_config` is of type '{kind}', whose joined"):
        export_checkpoint(tmp_path, tmp_path / "export")


LOAD_WITHOUT_THE_PACKAGE = """
import json, sys
import numpy as np
import torch
from transformers import AutoModelForAudioClassification, AutoProcessor

folder = sys.argv[1]
model = AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
samples = np.load(f"{folder}/samples.npy")
inputs = processor(audio=samples, sampling_rate=16_000)
with torch.no_grad():
    print(json.dumps([type(model).__module__.split(".")[0], sorted(inputs), model(**inputs).logits[0].tolist()]))
"""


@pytest.mark.slow
def test_the_code_of_an_encoder_of_spectrograms_travels_with_its_checkpoint(tmp_path: Path) -> None:
    model, processor = tiny_model("whisper", audio_layers="all"), processor_of("whisper")
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    np.save(folder / "samples.npy", waveform(6_011).numpy())
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(make_bare_environment(tmp_path / "bare")), "-c", LOAD_WITHOUT_THE_PACKAGE, str(folder)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    module, names, logits = json.loads(done.stdout.splitlines()[-1])
    with torch.no_grad():
        expected = model(**processor.batch([clip(6_011)])).logits[0].tolist()
    assert (module, names) == ("transformers_modules", ["attention_mask", "input_features"])
    assert logits == pytest.approx(expected, abs=1e-5)
