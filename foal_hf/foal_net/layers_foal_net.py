"""The layers between the encoders and the heads: projection for alignment, cross-attention for fusion.

Shapes: `batch` clips, `queries` and `keys` positions of the two modalities. Masks are True for audio positions and
video frames, False for padding and for a modality that a clip lacks.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_foal_net import FoalNetConfig


class FoalNetProjection(nn.Module):
    """The projection block of the alignment branch: `LayerNorm(e + Dropout(W2 gelu(e)))` with `e = W1 x`."""

    def __init__(self, config: FoalNetConfig, width: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, config.projection_dim, bias=False)
        self.linear_out = nn.Linear(config.projection_dim, config.projection_dim, bias=False)
        self.dropout = nn.Dropout(config.projection_dropout)
        self.layer_norm = nn.LayerNorm(config.projection_dim, eps=config.layer_norm_eps)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """`(batch, width)` to unit vectors `(batch, projection_dim)`, in float32."""
        embeds = self.linear_in(pooled)
        embeds = self.layer_norm(embeds + self.dropout(self.linear_out(F.gelu(embeds))))
        return F.normalize(embeds.float(), dim=-1)  # its epsilon is 0 in half precision


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in plain operations; the only implementation that returns its weights."""
    weights = query @ key.transpose(2, 3) * scaling  # (batch, heads, queries, keys)
    if attention_mask is not None:
        weights = weights.masked_fill(~attention_mask, torch.finfo(weights.dtype).min)
    weights = weights.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class FoalNetCrossAttention(nn.Module):
    """Multi-head attention of one modality (queries) to the other (keys and values), of another width."""

    def __init__(self, config: FoalNetConfig, query_width: int, key_width: int) -> None:
        super().__init__()
        self.config = config
        self.head_dim = query_width // config.num_fusion_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.q_proj = nn.Linear(query_width, query_width)
        self.k_proj = nn.Linear(key_width, query_width)
        self.v_proj = nn.Linear(key_width, query_width)
        self.out_proj = nn.Linear(query_width, query_width)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend from `queries`, `(batch, queries, query_width)`, to `keys`, `(batch, keys, key_width)`.

        Returns:
            The attended queries, and the weights `(batch, heads, queries, keys)` or None.
        """
        implementation = attention_implementation(self.config, **kwargs)
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attended, weights = attend(
            self,
            self._heads(self.q_proj(queries)),
            self._heads(self.k_proj(keys)),
            self._heads(self.v_proj(keys)),
            attention_mask,
            dropout=0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.out_proj(attended.flatten(2)), weights

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.unflatten(2, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, positions, head_dim)


class FoalNetFusionLayer(GradientCheckpointingLayer):
    """`q <- LayerNorm(q + Dropout(attention(q, kv)))`: no feed-forward part and no position encoding."""

    def __init__(self, config: FoalNetConfig, query_width: int, key_width: int) -> None:
        super().__init__()
        self.attention = FoalNetCrossAttention(config, query_width, key_width)
        self.dropout = nn.Dropout(config.fusion_dropout)
        self.layer_norm = nn.LayerNorm(query_width, eps=config.layer_norm_eps)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        attention_mask: torch.Tensor | None,
        has_keys: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Update queries, `(batch, queries, query_width)`; `has_keys`, `(batch,)`, is True for clips with keys."""
        attended, _ = self.attention(queries, keys, attention_mask, **kwargs)
        # A clip that lacks the other modality keeps its own states.
        attended = attended.masked_fill(~has_keys[:, None, None], 0.0)
        return self.layer_norm(queries + self.dropout(attended))


class FoalNetFusion(nn.Module):
    """Cross-attention in both directions, each followed by the mean over its valid queries."""

    def __init__(self, config: FoalNetConfig) -> None:
        super().__init__()
        self.config = config

        def layers(query_width: int, key_width: int) -> nn.ModuleList:
            return nn.ModuleList(
                FoalNetFusionLayer(config, query_width, key_width) for _ in range(config.num_fusion_layers)
            )

        self.audio_queries_video = layers(config.audio_width, config.video_width)
        self.video_queries_audio = layers(config.video_width, config.audio_width)

    def forward(
        self,
        audio: torch.Tensor,
        audio_mask: torch.Tensor,
        video: torch.Tensor,
        video_mask: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse to `(batch, audio_width)` and `(batch, video_width)`; 0 where a clip lacks that modality."""
        fused_audio = self.attend(self.audio_queries_video, audio, audio_mask, video, video_mask, **kwargs)
        fused_video = self.attend(self.video_queries_audio, video, video_mask, audio, audio_mask, **kwargs)
        return fused_audio, fused_video

    def attend(
        self,
        layers: nn.ModuleList,
        queries: torch.Tensor,
        query_mask: torch.Tensor,
        keys: torch.Tensor,
        key_mask: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """Fuse one direction, `(batch, queries, query_width)` to `(batch, query_width)`. All layers see the same keys.

        The masks, `(batch, queries)` and `(batch, keys)`, are bool.
        """
        has_keys = key_mask.any(dim=1)
        # Softmax over no key is NaN in some kernels: a clip without keys attends to zeros, which the layer discards.
        attention_mask: Any = key_mask | ~has_keys[:, None]  # (batch, keys)
        if attention_implementation(self.config, **kwargs) in ("sdpa", "eager"):
            # transformers' function would ask whether all are True, and so wait for the device in every step.
            attention_mask = attention_mask[:, None, None]
        else:
            attention_mask = create_bidirectional_mask(
                config=self.config, inputs_embeds=queries, attention_mask=attention_mask, encoder_hidden_states=keys
            )
        for layer in layers:
            queries = layer(queries, keys, attention_mask, has_keys, **kwargs)
        return masked_mean(queries, query_mask)


def attention_implementation(config: FoalNetConfig, output_attentions: bool | None = None, **kwargs: Any) -> str:
    """Which attention a call uses: that of the config, but eager where the weights are asked for."""
    return "eager" if output_attentions else config._attn_implementation


def masked_mean(sequence: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of `(batch, positions, width)` over the positions where `mask` is True; 0 where there is none."""
    total = sequence.masked_fill(~mask[..., None], 0.0).sum(dim=1, dtype=torch.float32)
    return (total / mask.sum(dim=1, keepdim=True).clamp(min=1)).to(sequence.dtype)


__all__ = ["FoalNetCrossAttention", "FoalNetFusion", "FoalNetFusionLayer", "FoalNetProjection", "masked_mean"]
