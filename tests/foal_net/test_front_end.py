"""The convolutions in front of the audio encoders, held against transformers' own with the same weights."""

import copy
import weakref
from typing import Any

import pytest
import torch
from tiny_models import AUDIO_ENCODERS, tiny_config, with_random_biases
from transformers import AutoModel

from foal_hf.foal_net.audio_encoders_foal_net import make_audio_encoder
from foal_hf.foal_net.modeling_foal_net import FoalNetModel
from foal_hf.foal_net.wavlm_attention_foal_net import ChannelsLastConv1d


CLOSE = {"atol": 1e-5, "rtol": 0}
WAVES = torch.randn(3, 4003, generator=torch.Generator().manual_seed(1))
kinds = pytest.mark.parametrize("kind", AUDIO_ENCODERS)


def pair(kind: str, **fields: Any) -> tuple[Any, Any]:
    """The convolutions of transformers' encoder and of ours, with the same weights."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    for name, value in fields.items():
        setattr(config.audio_config, name, value)
    theirs = with_random_biases(AutoModel.from_config(copy.deepcopy(config.audio_config)))
    ours = make_audio_encoder(config)
    ours.load_state_dict(theirs.state_dict())
    return theirs.feature_extractor, ours.feature_extractor


def channels_last(front_end: torch.nn.Module) -> list[bool]:
    return [isinstance(layer.conv, ChannelsLastConv1d) for layer in front_end.conv_layers]


@kinds
@pytest.mark.parametrize("conv_bias", [False, True])
def test_results_and_gradients_are_those_of_transformers(kind: str, conv_bias: bool) -> None:
    theirs, ours = pair(kind, conv_bias=conv_bias)
    expected, got = theirs.train()(WAVES.clone()), ours.train()(WAVES.clone())
    torch.testing.assert_close(got, expected, **CLOSE)
    for output in (expected, got):
        (output * torch.linspace(-1, 1, output.shape[2])).mean().backward()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        # A group norm over time takes out whatever a bias adds.
        assert other.grad.abs().max() > 1e-6 or (name == "conv_layers.0.conv.bias" and kind.endswith("group"))
        torch.testing.assert_close(one.grad, other.grad, **CLOSE)


@kinds
@pytest.mark.parametrize("conv_bias", [False, True])
def test_frozen_results_are_those_of_transformers(kind: str, conv_bias: bool) -> None:
    theirs, ours = pair(kind, conv_bias=conv_bias)
    ours._freeze_parameters()
    torch.testing.assert_close(ours(WAVES), theirs(WAVES), **CLOSE)


def test_trained_convolutions_stay_as_torch_has_them() -> None:
    _, ours = pair("wavlm")
    convolution = ours.conv_layers[0].conv
    waves = WAVES[:, None]
    assert convolution(waves).stride(2) == 1
    convolution.requires_grad_(False)
    assert convolution(waves).stride(1) == 1


@kinds
def test_convolutions_between_layer_norms_are_channels_last_and_no_others(kind: str) -> None:
    theirs, ours = pair(kind)
    layer_norms = [isinstance(getattr(layer, "layer_norm", None), torch.nn.LayerNorm) for layer in theirs.conv_layers]
    assert channels_last(ours) == [all(layer_norms)] * 7
    assert all(layer_norms) == (not kind.endswith("group"))


@torch.no_grad()
def test_layer_norms_find_their_channels_side_by_side() -> None:
    _, ours = pair("wavlm")
    found = []
    for layer in ours.conv_layers:
        layer.layer_norm.register_forward_pre_hook(lambda module, args: found.append(args[0].is_contiguous()))
    ours(WAVES)
    assert found == [True] * 7


@pytest.mark.parametrize("kind", ["wavlm", "hubert"])
@torch.no_grad()
def test_autocast_is_as_near_to_float32_as_in_transformers(kind: str) -> None:
    theirs, ours = pair(kind)
    exact = theirs(WAVES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distances = [(front_end(WAVES).float() - exact).norm() / exact.norm() for front_end in (theirs, ours)]
    assert distances[1] < 1.2 * distances[0] < 0.05


@kinds
@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_convolutions_keep_nothing_for_a_backward_pass(kind: str, checkpointing: bool) -> None:
    model = FoalNetModel(tiny_config(kind))
    if checkpointing:
        (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    front_end = model.train().audio_encoder.feature_extractor
    kept: list[weakref.ref[torch.Tensor]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(weakref.ref(tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = front_end(WAVES.clone())
        assert not output.requires_grad and output.grad_fn is None
        assert not [tensor for tensor in kept if tensor() is not None]
        front_end.requires_grad_()
        output = front_end(WAVES.clone())
        assert output.requires_grad and [tensor for tensor in kept if tensor() is not None]
