"""WavLM's attention through `scaled_dot_product_attention`, held against transformers' own with the same weights."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import AUDIO_ENCODERS, VISION_ENCODERS, tiny_config, with_random_biases
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModel, CLIPVisionModelWithProjection, WavLMConfig, WavLMForCTC, WavLMModel

from foal_hf.foal_net import wavlm_attention_foal_net
from foal_hf.foal_net.audio_encoders_foal_net import make_audio_encoder, run_audio_encoder
from foal_hf.foal_net.encoders_foal_net import load_encoders
from foal_hf.foal_net.modeling_foal_net import FoalNetModel
from foal_hf.foal_net.wavlm_attention_foal_net import SdpaWavLMModel, WavLMGatedAttention


CLOSE = {"atol": 1e-5, "rtol": 0}
FRAMES, WIDTH, HEADS = 13, 32, 2  # of what goes into the transformer
LENGTHS = torch.tensor([13, 5, 11])
PADDING = torch.arange(FRAMES) < LENGTHS[:, None]
STATES = torch.randn(3, FRAMES, WIDTH, generator=torch.Generator().manual_seed(3))


def pair(kind: str = "wavlm", **fields: Any) -> tuple[WavLMModel, SdpaWavLMModel]:
    """transformers' model and ours, with the same weights. They are such that position, gate and dropout show."""
    torch.manual_seed(0)
    without_dropout = dict.fromkeys(("attention_dropout", "hidden_dropout", "activation_dropout"), 0.0)
    config = WavLMConfig(**{**AUDIO_ENCODERS[kind].to_dict(), **without_dropout, **fields})
    theirs = with_random_biases(WavLMModel(copy.deepcopy(config)))
    with torch.no_grad():
        theirs.encoder.layers[0].attention.rel_attn_embed.weight.normal_()
        for layer in theirs.encoder.layers:
            layer.attention.gru_rel_pos_const.uniform_(-3, 3)
            layer.attention.gru_rel_pos_linear.weight.normal_(std=0.5)
            for projection in (layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj):
                projection.weight.normal_(std=0.5)
    ours = SdpaWavLMModel(copy.deepcopy(config))
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def transform(model: WavLMModel, mask: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
    """Run the transformer part alone."""
    return model.encoder(STATES.clone(), attention_mask=mask, **kwargs).last_hidden_state


def gradients(model: WavLMModel, mask: torch.Tensor | None, run: Callable[..., torch.Tensor] = transform) -> dict:
    model.zero_grad()
    target = torch.randn(STATES.shape, generator=torch.Generator().manual_seed(5))
    (run(model, mask) * target).sum(-1).mean().backward()
    return {name: p.grad for name, p in model.encoder.named_parameters() if p.grad is not None}


def enable_checkpointing(model: WavLMModel) -> None:
    """The method was renamed within transformers 5."""
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()


def assert_same_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


masks = pytest.mark.parametrize("mask", [None, PADDING], ids=["unpadded", "padded"])
kinds = pytest.mark.parametrize("kind", ["wavlm", "wavlm-group"])
implementations = pytest.mark.parametrize("implementation", ["sdpa", "eager"])


@kinds
@masks
@implementations
@torch.no_grad()
def test_results_are_those_of_transformers(kind: str, mask: torch.Tensor | None, implementation: str) -> None:
    theirs, ours = pair(kind, do_stable_layer_norm=kind == "wavlm")
    ours.set_attn_implementation(implementation)
    expected = transform(theirs, mask)
    torch.testing.assert_close(transform(ours, mask), expected, **CLOSE)
    ours.encoder.layers[0].attention.rel_attn_embed.weight.zero_()
    assert (transform(ours, mask) - expected).abs().max() > 0.1  # the position is no small part of them


@kinds
@masks
@implementations
@pytest.mark.parametrize("training", [False, True])
def test_gradients_are_those_of_transformers(
    kind: str, mask: torch.Tensor | None, training: bool, implementation: str
) -> None:
    theirs, ours = pair(kind, do_stable_layer_norm=kind == "wavlm")
    ours.set_attn_implementation(implementation)
    expected = gradients(theirs.train(training), mask)
    for part in ("rel_attn_embed.weight", "gru_rel_pos_const", "gru_rel_pos_linear.weight", "k_proj.weight"):
        assert expected[f"layers.0.attention.{part}"].abs().max() > 1e-3, part
    assert_same_gradients(gradients(ours.train(training), mask), expected)


def test_gradients_do_not_depend_on_the_number_of_threads() -> None:
    layer = pair()[1].encoder.layers[0].attention
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            found.append(torch.autograd.grad(layer(STATES, PADDING)[0].square().mean(), list(layer.parameters())))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("with_gradient", [False, True])
def test_dropout_of_the_weights_is_random_in_training_alone_and_right_on_average(with_gradient: bool) -> None:
    _, ours = pair(attention_dropout=0.4)
    attention = ours.encoder.layers[0].attention
    with torch.set_grad_enabled(with_gradient):
        kept = attention(STATES, PADDING)[0].detach()
        assert attention(STATES, PADDING)[0].equal(kept)
        ours.train()
        draws = torch.stack([attention(STATES, PADDING)[0].detach() for _ in range(400)])
    error = (draws.mean(0) - kept) / (draws.std(0) / 400**0.5)
    assert draws[0].sub(draws[1]).abs().max() > 0.1
    assert error.abs().max() < 6  # standard errors


@masks
def test_a_seed_drops_the_same_layers_as_in_transformers(mask: torch.Tensor | None) -> None:
    theirs, ours = pair(layerdrop=0.5, num_hidden_layers=5)
    theirs.train(), ours.train()
    seen = set()
    for seed in range(4):
        torch.manual_seed(seed)
        expected = transform(theirs, mask)
        torch.manual_seed(seed)
        torch.testing.assert_close(transform(ours, mask), expected, **CLOSE)
        seen.add(expected[0, 0, 0].item())
    assert len(seen) > 1


@masks
def test_checkpointed_gradients_are_the_same_with_dropout(mask: torch.Tensor | None) -> None:
    _, ours = pair(attention_dropout=0.3)
    ours.train()
    torch.manual_seed(0)
    expected = gradients(ours, mask)
    enable_checkpointing(ours)
    torch.manual_seed(0)
    assert_same_gradients(gradients(ours, mask), expected)


@torch.no_grad()
def test_attention_maps_are_returned_where_asked_for_one_a_head() -> None:
    theirs, ours = pair()
    waves = torch.randn(3, 4003, generator=torch.Generator().manual_seed(1))
    expected, got = (model(waves, output_attentions=True) for model in (theirs, ours))
    assert len(got.attentions) == 2 and got.attentions[0].shape == (3, HEADS, 12, 12)
    for ours_, theirs_ in zip(got.attentions, expected.attentions, strict=True):
        torch.testing.assert_close(ours_.mean(dim=1), theirs_[:, 0], **CLOSE)  # transformers returns the mean
        assert (ours_[:, 0] - ours_[:, 1]).abs().max() > 0.01
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state, **CLOSE)
    assert not ours(waves).attentions


@torch.no_grad()
def test_the_implementation_is_chosen_as_in_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    eager = wavlm_attention_foal_net._eager
    monkeypatch.setattr(wavlm_attention_foal_net, "_eager", lambda *args: calls.append(1) or eager(*args))
    config = tiny_config()
    for choice, chosen in ((None, "sdpa"), ("sdpa", "sdpa"), ("eager", "eager")):
        model = FoalNetModel._from_config(copy.deepcopy(config), attn_implementation=choice).eval().audio_encoder
        assert model.config._attn_implementation == chosen
        calls.clear()
        transform(model)
        assert len(calls) == (2 if chosen == "eager" else 0)


@torch.no_grad()
def test_the_implementation_of_a_whole_model_can_be_changed_later() -> None:
    model = with_random_biases(FoalNetModel(tiny_config())).eval()
    expected = transform(model.audio_encoder, PADDING)
    for choice in ("eager", "flex_attention", "eager", "sdpa"):
        model.set_attn_implementation(choice)
        assert model.config._attn_implementation == choice
        # No other kernel takes the position.
        assert model.audio_encoder.config._attn_implementation == ("eager" if choice == "eager" else "sdpa")
        torch.testing.assert_close(transform(model.audio_encoder, PADDING), expected, **CLOSE)


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match=r'attn_implementation="quick"` is not supported'):
        pair()[1].set_attn_implementation("quick")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", ["autocast", "weights"])
def test_half_precision_is_as_near_to_float32_as_in_transformers(dtype: torch.dtype, way: str) -> None:
    expected, distances = None, []
    for model in pair():
        if expected is None:
            expected = gradients(model, PADDING)
        model = model.to(dtype) if way == "weights" else model

        def run(model: WavLMModel, mask: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=dtype, enabled=way == "autocast"):
                states = STATES.to(next(model.parameters()).dtype)
                return model.encoder(states, attention_mask=mask).last_hidden_state.float()

        got = gradients(model, PADDING, run)
        assert got.keys() == expected.keys()
        distances.append(sum((got[name].float() - expected[name]).norm() for name in expected).item())
    theirs, ours = distances
    scale = sum(gradient.norm() for gradient in expected.values()).item()
    assert ours < 1.2 * theirs < 0.2 * scale


@torch.no_grad()
def test_padding_throughout_stays_finite() -> None:
    _, ours = pair()
    nothing = PADDING & torch.tensor([[True], [False], [True]])
    output = transform(ours, nothing)
    assert output.isfinite().all()
    torch.testing.assert_close(output[::2], transform(ours, PADDING)[::2], **CLOSE)


def test_a_padding_mask_raises_no_warning() -> None:
    theirs, ours = pair()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients(ours, PADDING)
        with torch.no_grad():
            transform(ours, PADDING)
        with pytest.raises(UserWarning, match="mismatched key_padding_mask"):
            transform(theirs, PADDING)


class Shapes(TorchDispatchMode):
    """The shapes of all tensors that torch makes."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.made.append(tuple(tensor.shape))
        return result


@torch.no_grad()
@masks
def test_inference_forms_no_square_for_more_than_one_clip(mask: torch.Tensor | None) -> None:
    squares = []
    for model in pair():
        with Shapes() as shapes:
            transform(model, mask)
        squares.append({shape for shape in shapes.made if shape[-2:] == (FRAMES, FRAMES)})
    theirs, ours = squares
    assert any(shape[0] == 3 * HEADS for shape in theirs)
    assert {shape[0] for shape in ours if len(shape) == 4} == {1}
    assert max(len(shape) for shape in ours) == 4


@implementations
def test_projections_are_called_so_that_adapters_have_an_effect(implementation: str) -> None:
    _, ours = pair()
    ours.set_attn_implementation(implementation)
    expected = transform(ours)
    for name in ("q_proj", "k_proj", "v_proj", "out_proj", "gru_rel_pos_linear"):
        projection = getattr(ours.encoder.layers[1].attention, name)
        handle = projection.register_forward_hook(lambda module, args, output: output.cos())
        assert (transform(ours) - expected).abs().max() > 1e-3, name
        handle.remove()


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # in transformers
@masks
def test_compiled_results_and_gradients_are_the_same(mask: torch.Tensor | None) -> None:
    _, ours = pair()
    layer = ours.encoder.layers[0].attention
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected, got = (attention(STATES, mask)[0] for attention in (layer, compiled))
    torch.testing.assert_close(got, expected, **CLOSE)
    parameters = list(layer.parameters())
    for one, other in zip(
        torch.autograd.grad(got.square().mean(), parameters),
        torch.autograd.grad(expected.square().mean(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, **CLOSE)


@torch.no_grad()
def test_it_exports_for_any_number_of_clips_and_frames() -> None:
    _, ours = pair()
    layer = ours.encoder.layers[0].attention
    clips, frames = torch.export.Dim("clips", min=2, max=64), torch.export.Dim("frames", min=2, max=1700)
    shapes = {"hidden_states": {0: clips, 1: frames}, "attention_mask": {0: clips, 1: frames}}
    inputs = {"hidden_states": STATES, "attention_mask": PADDING}
    program = torch.export.export(layer, (), inputs, dynamic_shapes=shapes, strict=False)
    mask = torch.arange(31) < torch.tensor([[31], [7], [3], [31], [11]])
    more = {"hidden_states": torch.randn(5, 31, WIDTH), "attention_mask": mask}
    torch.testing.assert_close(program.module()(**more)[0], layer(**more)[0], **CLOSE)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")  # OpenVINO traces all the same
@torch.no_grad()
def test_a_trace_is_good_for_any_number_of_clips_and_frames() -> None:
    class Attended(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = pair()[1].encoder.layers[0].attention

        def forward(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return self.layer(states, mask)[0]

    module = Attended()
    traced = torch.jit.trace(module, (STATES, PADDING), check_trace=False)
    states, mask = torch.randn(5, 31, WIDTH), torch.arange(31) < torch.tensor([[31], [7], [3], [31], [11]])
    torch.testing.assert_close(traced(states, mask), module(states, mask), **CLOSE)


@pytest.mark.parametrize("saved_as", [WavLMModel, WavLMForCTC])
@torch.no_grad()
def test_an_encoder_is_the_same_however_it_comes_about(tmp_path: Path, saved_as: Any) -> None:
    saved = with_random_biases(saved_as(AUDIO_ENCODERS["wavlm"])).eval()
    saved.save_pretrained(tmp_path / "audio")
    CLIPVisionModelWithProjection(VISION_ENCODERS["clip"][0]).save_pretrained(tmp_path / "vision")
    whole = FoalNetModel(**load_encoders(str(tmp_path / "audio"), str(tmp_path / "vision"), projection_dim=16)).eval()
    whole.save_pretrained(tmp_path / "whole")
    again = FoalNetModel.from_pretrained(tmp_path / "whole")
    made = FoalNetModel(whole.config).eval()
    made.load_state_dict(whole.state_dict())
    waves = torch.randn(3, 4003)
    expected = getattr(saved, "wavlm", saved)(waves).last_hidden_state
    for model in (whole, again, made):
        assert type(model.audio_encoder).__name__ == "SdpaWavLMModel"
        assert {type(layer.attention).__name__ for layer in model.audio_encoder.encoder.layers} == {
            "WavLMGatedAttention"
        }
        assert model.audio_encoder.config is model.config.audio_config
        output, _ = run_audio_encoder(model.audio_encoder, model.config, waves)
        torch.testing.assert_close(output.last_hidden_state, expected, **CLOSE)


def test_random_weights_and_names_are_those_of_transformers() -> None:
    config = tiny_config()
    torch.manual_seed(0)
    theirs = AutoModel.from_config(copy.deepcopy(config.audio_config))
    torch.manual_seed(0)
    ours = make_audio_encoder(config)
    assert type(theirs) is WavLMModel
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        assert tensor.equal(theirs.state_dict()[name]), name


@pytest.mark.parametrize("kind", [kind for kind in AUDIO_ENCODERS if not kind.startswith("wavlm")])
def test_other_encoders_are_left_alone(kind: str) -> None:
    encoder = make_audio_encoder(tiny_config(kind))
    assert type(encoder) is type(AutoModel.from_config(AUDIO_ENCODERS[kind]))
    assert not any(isinstance(module, WavLMGatedAttention) for module in encoder.modules())
