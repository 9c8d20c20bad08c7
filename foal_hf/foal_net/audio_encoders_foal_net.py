"""The audio encoder: how it is made and called so that padding changes no result.

Shapes: `batch` clips of `samples`. Masks are True for audio, False for padding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_foal_net import FoalNetConfig
from .wavlm_attention_foal_net import SdpaWavLMModel, use_channels_last


def make_audio_encoder(config: FoalNetConfig) -> PreTrainedModel:
    """Make the audio encoder that `config` describes, with random weights."""
    # With `mask_time_prob` above 0, transformers draws an embedding on the CPU even where no weights are made. A model
    # that is loaded, counted or compared beside a running training would change what the training draws next.
    has_no_weights = torch.get_default_device().type == "meta"
    with torch.random.fork_rng(devices=[], enabled=has_no_weights):
        encoder = audio_encoder_class(config)._from_config(config.audio_config)
    use_channels_last(encoder)
    return encoder


def audio_encoder_class(config: FoalNetConfig) -> Any:
    """The class of the audio encoder."""
    return SdpaWavLMModel if config.audio_config.model_type == "wavlm" else MODEL_MAPPING[type(config.audio_config)]


def encode_waveforms(
    encoder: Any,
    config: FoalNetConfig,
    input_values: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[BaseModelOutput, torch.Tensor]:
    """Run an audio encoder.

    Args:
        encoder (`PreTrainedModel`): A raw-waveform encoder.
        config (`FoalNetConfig`): Describes it.
        input_values (`torch.Tensor` of shape `(batch, samples)`): Waveforms.
        attention_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for samples, 0 for the padding after
            them. All 0 for a clip without audio.
        **kwargs: For the encoder, such as `output_hidden_states`.

    Returns:
        The encoder's output, with `last_hidden_state` of shape `(batch, audio_frames, audio_width)`, and the mask of
        its valid positions, `(batch, audio_frames)`. A clip's valid positions do not depend on padding.
    """
    samples, min_samples = input_values.shape[1], config.min_audio_samples
    if attention_mask is None:
        lengths = torch.full_like(input_values[:, 0], samples, dtype=torch.long)
    else:
        lengths = attention_mask.sum(dim=1).long()
    input_values = input_values.to(encoder.dtype)
    if samples < min_samples:
        input_values = F.pad(input_values, (0, min_samples - samples))
    # Audio shorter than one frame counts as no audio (the formula gives less than 0 there).
    frames = encoder._get_feat_extract_output_lengths(lengths).long().clamp(min=0)
    if attention_mask is not None and not _padding_is_exact(encoder.config):
        output = _encode_by_length(encoder, config, input_values, lengths, frames, **kwargs)
    else:
        # Attention over no valid sample is NaN in some kernels: a clip without audio attends to all of its padding, and
        # the returned mask keeps the outcome from every result.
        positions = torch.arange(input_values.shape[1], device=input_values.device)
        valid = (positions < lengths[:, None]) | (frames == 0)[:, None]
        mask = None if attention_mask is None else valid.long()
        output = encoder(input_values, attention_mask=mask, **_without_time_masks(encoder, input_values), **kwargs)
    positions = torch.arange(output["last_hidden_state"].shape[1], device=input_values.device)
    return output, positions < frames[:, None]


def _encode_by_length(
    encoder: Any,
    config: FoalNetConfig,
    input_values: torch.Tensor,
    lengths: torch.Tensor,
    frames: torch.Tensor,
    **kwargs: Any,
) -> BaseModelOutput:
    """Run an encoder whose features padding changes: one unpadded pass per distinct length, as it was trained."""
    if torch.compiler.is_exporting():
        raise ValueError(
            f"Padding changes the features of this audio encoder ({config.audio_config.model_type!r}), so it cannot be "
            "exported with an attention_mask: export it without one, for clips of equal length."
        )
    rows, parts = [], []
    for length in lengths[frames > 0].unique().tolist():
        rows.append((lengths == length).nonzero().squeeze(1))
        values = input_values[rows[-1], :length]
        parts.append(encoder(values, **_without_time_masks(encoder, values), **kwargs))
    batch = len(lengths)
    if not parts:  # no clip of the batch has audio
        return BaseModelOutput(last_hidden_state=input_values.new_zeros(batch, 1, config.audio_width))
    longest = int(frames.max())

    def merge(tensors: tuple[torch.Tensor, ...], time_dims: int) -> torch.Tensor:
        """Pad the time dimensions, the last but one or the last two, and put all clips back into their rows."""
        merged = None
        for where, tensor in zip(rows, tensors, strict=True):
            missing = longest - tensor.shape[-2]
            padded = F.pad(tensor, (0, missing, 0, missing) if time_dims == 2 else (0, 0, 0, missing))
            merged = padded.new_zeros(batch, *padded.shape[1:]) if merged is None else merged
            merged = merged.index_put((where,), padded)
        assert merged is not None
        return merged

    def merge_layers(name: str, time_dims: int) -> tuple[torch.Tensor, ...] | None:
        layers = [part.get(name) for part in parts]
        return tuple(merge(tensors, time_dims) for tensors in zip(*layers, strict=True)) if layers[0] else None

    return BaseModelOutput(
        last_hidden_state=merge(tuple(part.last_hidden_state for part in parts), 1),
        hidden_states=merge_layers("hidden_states", 1),
        attentions=merge_layers("attentions", 2),
    )


def _without_time_masks(encoder: Any, input_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Arguments that turn the time masks of SpecAugment off in training for audio too short for one.

    The encoder refuses such audio otherwise. Its config stays as it is: other threads may use it.
    """
    config = encoder.config
    if not (encoder.training and config.mask_time_prob > 0):
        return {}
    frames = int(encoder._get_feat_extract_output_lengths(input_values.shape[1]))
    if frames >= config.mask_time_length:
        return {}
    masked = torch.zeros(len(input_values), frames, dtype=torch.bool, device=input_values.device)
    return {"mask_time_indices": masked}


def _padding_is_exact(audio_config: PreTrainedConfig) -> bool:
    """Whether an encoder gives a padded waveform with its mask what it gives the waveform alone.

    Not with a group norm over time (the "base" encoders), nor in data2vec-audio, whose stacked positional convolutions
    mix padding into the audio.
    """
    return getattr(audio_config, "feat_extract_norm", "layer") == "layer" and "data2vec" not in audio_config.model_type


__all__ = ["audio_encoder_class", "encode_waveforms", "make_audio_encoder"]
