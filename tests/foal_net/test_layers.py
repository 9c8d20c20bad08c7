"""The layers by themselves: means over valid positions, precision, clips without keys, other kinds of attention."""

from typing import Any

import pytest
import torch
from tiny_models import tiny_config, with_random_biases
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from foal_hf.foal_net.layers_foal_net import (
    FoalNetFusion,
    FoalNetFusionLayer,
    FoalNetProjection,
    eager_attention_forward,
    masked_mean,
)


CLOSE = {"atol": 1e-5, "rtol": 0}


def config_of(**fields: Any) -> Any:
    """Of 32 wide audio and 20 wide video. A model would set the kind of attention."""
    config = tiny_config(**{"fusion_dropout": 0.0, **fields})
    config._attn_implementation = "sdpa"
    return config


def test_the_mean_is_taken_over_valid_positions() -> None:
    sequence = torch.tensor([[[1.0, 5.0], [3.0, 7.0], [9.0, 9.0]]] * 3)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    assert masked_mean(sequence, mask).tolist() == [[2.0, 6.0], [3.0, 7.0], [0.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_mean_is_summed_in_float32_and_keeps_the_type(dtype: torch.dtype) -> None:
    sequence = torch.full(
        (1, 1031, 2), 100.0, dtype=dtype
    )  # the sum is beyond float16, and beyond the digits of bfloat16
    mean = masked_mean(sequence, torch.ones(1, 1031, dtype=torch.bool))
    assert mean.dtype == dtype and mean.tolist() == [[100.0, 100.0]]


def test_norms_have_the_epsilon_of_the_config() -> None:
    config = config_of(layer_norm_eps=0.37)
    norms = FoalNetProjection(config, 32).layer_norm, FoalNetFusionLayer(config, 32, 20).layer_norm
    assert [norm.eps for norm in norms] == [0.37, 0.37]


@torch.no_grad()
def test_a_projection_has_the_published_form() -> None:
    block = with_random_biases(FoalNetProjection(config_of(), 32)).eval()
    assert block.linear_in.bias is None and block.linear_out.bias is None
    pooled = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))
    e = pooled @ block.linear_in.weight.T
    y = block.layer_norm(e + torch.nn.functional.gelu(e) @ block.linear_out.weight.T)
    torch.testing.assert_close(block(pooled), y / y.norm(dim=1, keepdim=True), **CLOSE)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_queries_without_keys_only_pass_the_norm(attention: str) -> None:
    config = config_of()
    config._attn_implementation = attention
    layer = with_random_biases(FoalNetFusionLayer(config, 32, 20)).eval()
    queries, keys = torch.randn(3, 11, 32), torch.randn(3, 7, 20)
    has_keys = torch.tensor([True, False, True])
    output = layer(queries, keys, torch.ones(3, 1, 1, 7, dtype=torch.bool), has_keys)
    plain = layer.layer_norm(queries)
    torch.testing.assert_close(output[1], plain[1], rtol=0, atol=0)
    assert (output - plain)[[0, 2]].abs().amax(dim=(1, 2)).min() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_eager_attention_takes_half_precision(dtype: torch.dtype) -> None:
    config = config_of()
    torch.manual_seed(0)
    fusion = with_random_biases(FoalNetFusion(config)).eval()
    arguments = torch.randn(3, 11, 32), torch.rand(3, 11) > 0.3, torch.randn(3, 7, 20), torch.rand(3, 7) > 0.3
    expected = fusion(*arguments)
    config._attn_implementation = "eager"
    audio, audio_mask, video, video_mask = arguments
    outputs = fusion.to(dtype)(audio.to(dtype), audio_mask, video.to(dtype), video_mask)
    for output, exact in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        torch.testing.assert_close(output.float(), exact, atol=8 * torch.finfo(dtype).eps, rtol=0)


@torch.no_grad()
def test_another_kind_of_attention_gets_the_mask_and_the_scale_and_gives_the_same() -> None:
    calls: list[dict[str, Any]] = []

    def probe(module, query, key, value, attention_mask, scaling, dropout=0.5, **kwargs):
        calls.append({"is_causal": module.is_causal, "dropout": dropout, "note": kwargs.get("note")})
        weights = (query @ key.transpose(2, 3) * scaling).masked_fill(~attention_mask, -torch.inf).softmax(dim=-1)
        return (weights @ value).transpose(1, 2).contiguous(), None

    AttentionInterface.register("probe", probe)
    AttentionMaskInterface.register("probe", sdpa_mask)
    config = config_of()
    fusion = with_random_biases(FoalNetFusion(config)).eval()
    audio_mask, video_mask = (
        torch.arange(11) < torch.tensor([[11], [4], [2]]),
        torch.arange(7) < torch.tensor([[3], [7], [0]]),
    )
    arguments = torch.randn(3, 11, 32), audio_mask, torch.randn(3, 7, 20), video_mask
    expected = fusion(*arguments)
    config._attn_implementation = "probe"
    for output, exact in zip(fusion(*arguments, note="kept"), expected, strict=True):
        torch.testing.assert_close(output, exact, **CLOSE)
    assert calls == [{"is_causal": False, "dropout": 0.0, "note": "kept"}] * 2 * config.num_fusion_layers


def attend_eagerly(module: torch.nn.Module, **settings: Any) -> Any:
    states = torch.randn(3, 2, 2, 7, 5, generator=torch.Generator().manual_seed(1))
    return eager_attention_forward(module, *states, attention_mask=None, scaling=0.3, **settings)


def test_eager_attention_drops_weights_in_training_only() -> None:
    module = torch.nn.Identity()
    for settings in ({}, {"dropout": 1.0}):
        attended, weights = attend_eagerly(module.train(), **settings)
        assert bool(attended.any()) is bool(weights.any()) is (not settings)
    assert torch.equal(attend_eagerly(module.eval(), dropout=1.0)[0], attend_eagerly(module)[0])
