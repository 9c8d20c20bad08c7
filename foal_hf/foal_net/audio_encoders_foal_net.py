"""The audio encoder: how it is made and called so that padding changes no result.

Shapes: `batch` clips of `length` input steps, which are samples of a waveform or frames of a spectrogram. Masks are
True for audio, False for padding.
"""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .audio_traits_foal_net import AudioTraits, audio_part, call_encoder, num_audio_layers, num_positions
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
    return SdpaWavLMModel if config.audio_config.model_type == "wavlm" else audio_part(config.audio_config)[0]


def run_audio_encoder(
    encoder: Any,
    config: FoalNetConfig,
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    layer_weights: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[BaseModelOutput, torch.Tensor]:
    """Run an audio encoder.

    Args:
        encoder (`PreTrainedModel`): An encoder of waveforms or of spectrograms.
        config (`FoalNetConfig`): Describes it.
        inputs (`torch.Tensor`): `input_values` or `input_features`, in the layout of the encoder: `(batch, samples)`,
            or for example `(batch, frames, bins)`.
        attention_mask (`torch.Tensor` of shape `(batch, length)`, *optional*): 1 for audio, 0 for the padding after it.
            All 0 for a clip without audio.
        layer_weights (`torch.Tensor` of shape `(layers,)`, *optional*): With `audio_layers`, the numbers whose softmax
            weights the layers.
        **kwargs: For the encoder, such as `output_hidden_states`.

    Returns:
        The encoder's output, with `last_hidden_state` of shape `(batch, audio_frames, audio_width)`, and the mask of
        its valid positions, `(batch, audio_frames)`. A clip's valid positions do not depend on padding.

    Raises:
        ValueError: If the audio is longer than the encoder takes.
    """
    if layer_weights is not None:
        return _run_and_sum_layers(encoder, config, inputs, attention_mask, layer_weights, **kwargs)
    traits = config.audio_traits
    inputs = inputs.to(encoder.dtype)
    length = inputs.shape[traits.time_dim]
    if attention_mask is None:
        lengths = torch.full((len(inputs),), length, dtype=torch.long, device=inputs.device)
    else:
        lengths = attention_mask.sum(dim=1).long()
    if traits.is_fixed:
        return _encode_window(encoder, config, inputs, lengths, **kwargs)
    if length < traits.min_length:
        inputs = _padded_to(traits.min_length, inputs, traits.time_dim)
    if attention_mask is not None and not traits.masks_padding:
        return _encode_by_length(encoder, config, inputs, lengths, **kwargs)
    # Audio shorter than one frame counts as no audio (the formula gives less than 0 there).
    frames = None if attention_mask is None else num_positions(encoder, lengths)
    if frames is not None:
        # Attention over no valid sample is NaN in some kernels: a clip without audio attends to all of its padding, and
        # the returned mask keeps the outcome from every result.
        steps = torch.arange(inputs.shape[traits.time_dim], device=inputs.device)
        valid = (steps < lengths[:, None]) | (frames == 0)[:, None]
        kwargs["attention_mask"] = valid.long()
    output = _call(encoder, config, inputs, **kwargs)
    positions = output["last_hidden_state"].shape[1]
    if frames is None:
        frames = torch.full_like(lengths, positions if length >= traits.min_length else 0)
    return output, torch.arange(positions, device=inputs.device) < frames[:, None]


def _run_and_sum_layers(
    encoder: Any,
    config: FoalNetConfig,
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layer_weights: torch.Tensor,
    **kwargs: Any,
) -> tuple[BaseModelOutput, torch.Tensor]:
    """Run an audio encoder, and sum its layers to its sequence."""
    wants_states = kwargs.pop("output_hidden_states", None)
    output, mask = run_audio_encoder(encoder, config, inputs, attention_mask, output_hidden_states=True, **kwargs)
    states, layer_range = output.get("hidden_states"), config.audio_layer_range
    assert layer_range is not None
    if states is None:  # no clip has audio
        return output, mask
    first, last = layer_range
    weights = layer_weights.softmax(dim=0).to(states[0].dtype)
    total = sum(weight * layer for weight, layer in zip(weights, states[first : last + 1], strict=True))
    traits = config.audio_traits
    output["last_hidden_state"] = _over_time(total, traits) if traits.is_fixed else total
    return BaseModelOutput(
        last_hidden_state=output["last_hidden_state"],
        hidden_states=states if wants_states else None,
        attentions=output.get("attentions"),
    ), mask


def _encode_by_length(
    encoder: Any,
    config: FoalNetConfig,
    inputs: torch.Tensor,
    lengths: torch.Tensor,
    **kwargs: Any,
) -> tuple[BaseModelOutput, torch.Tensor]:
    """Run an encoder whose output padding changes: one unpadded pass per distinct length, as it was trained."""
    if torch.compiler.is_exporting():
        raise ValueError(
            f"Padding changes the features of this audio encoder ({config.audio_config.model_type!r}), so it cannot be "
            "exported with an attention_mask: export it without one, for clips of equal length."
        )
    traits = config.audio_traits
    rows, parts = [], []
    batch, frames = len(lengths), torch.zeros_like(lengths)
    for length in lengths[lengths >= traits.min_length].unique().tolist():
        row = (lengths == length).nonzero().squeeze(1)
        values = inputs[row].narrow(traits.time_dim, 0, length)
        rows.append(row)
        parts.append(_call(encoder, config, values, **kwargs))
        frames[row] = parts[-1].last_hidden_state.shape[1]
    if not parts:  # no clip of the batch has audio
        absent = inputs.new_zeros(batch, 1, config.audio_width)
        return BaseModelOutput(last_hidden_state=absent), absent[..., 0].bool()

    def merge(tensors: tuple[torch.Tensor, ...], time_dims: int) -> torch.Tensor:
        """Pad the time dimensions, the last but one or the last two, and put all clips back into their rows."""
        merged = None
        longest = max(tensor.shape[-2] for tensor in tensors)
        for where, tensor in zip(rows, tensors, strict=True):
            missing = longest - tensor.shape[-2]
            padded = F.pad(tensor, (0, missing, 0, missing) if time_dims == 2 else (0, 0, 0, missing))
            merged = padded.new_zeros(batch, *padded.shape[1:]) if merged is None else merged
            merged = merged.index_put((where,), padded)
        assert merged is not None
        return merged

    def merge_layers(name: str, time_dims: int) -> tuple[torch.Tensor, ...] | None:
        layers = [part.get(name) for part in parts]
        return (
            tuple(merge(tensors, time_dims) for tensors in zip(*layers, strict=True)) if layers[0] is not None else None
        )

    sequence = merge(tuple(part.last_hidden_state for part in parts), 1)
    output = BaseModelOutput(
        last_hidden_state=sequence,
        hidden_states=merge_layers("hidden_states", 1),
        attentions=merge_layers("attentions", 2),
    )
    return output, torch.arange(sequence.shape[1], device=inputs.device) < frames[:, None]


def _encode_window(
    encoder: Any, config: FoalNetConfig, inputs: torch.Tensor, lengths: torch.Tensor, **kwargs: Any
) -> tuple[BaseModelOutput, torch.Tensor]:
    """Run an encoder of whole windows, which the feature extractor padded; positions beyond the clip are not valid."""
    traits = config.audio_traits
    length = inputs.shape[traits.time_dim]
    if traits.window not in (None, length):
        raise ValueError(
            f"`{traits.input_name}` have {length} frames; this audio encoder takes {traits.window}, as its feature "
            "extractor pads them. Prepare the clips with the processor."
        )
    output = _call(encoder, config, inputs, **kwargs)
    sequence = _over_time(output["last_hidden_state"], traits)
    positions = torch.arange(sequence.shape[1], device=inputs.device)
    output["last_hidden_state"] = sequence
    # A position belongs to the clip if the part of the window that it stands for begins within the clip.
    if traits.step is not None:
        return output, positions * traits.step < lengths[:, None]
    return output, positions * length < lengths[:, None] * sequence.shape[1]


def _over_time(tokens: torch.Tensor, traits: AudioTraits) -> torch.Tensor:
    """The tokens of a window as `(batch, positions, width)`: the mean over frequencies, without class tokens."""
    if tokens.ndim == 4:
        return tokens.mean(dim=2).transpose(1, 2)
    assert traits.grid is not None
    prefix, rows, columns = traits.grid
    patches = tokens[:, prefix:].unflatten(1, (rows, columns))
    return patches.mean(dim=1 if traits.time_is_last else 2)


def _call(encoder: Any, config: FoalNetConfig, inputs: torch.Tensor, **kwargs: Any) -> Any:
    traits = config.audio_traits
    output = call_encoder(encoder, inputs, traits.time_dim, **_without_time_masks(encoder, inputs, traits), **kwargs)
    if kwargs.get("output_hidden_states") and config.audio_layers != "last":
        given, num_layers = len(output["hidden_states"]), num_audio_layers(config.audio_config)
        if given != num_layers:
            raise ValueError(
                f"The audio encoder skipped layers ({given} of {num_layers} outputs), but `audio_layers` sums all: set "
                "`layerdrop` of `audio_config` to 0, or `freeze_audio_encoder=True`."
            )
    return output


def _without_time_masks(encoder: Any, inputs: torch.Tensor, traits: AudioTraits) -> dict[str, torch.Tensor]:
    """Arguments that turn the time masks of SpecAugment off in training for audio too short for one.

    The encoder refuses such audio otherwise. Its config stays as it is: other threads may use it.
    """
    config = encoder.config
    if not (encoder.training and getattr(config, "mask_time_prob", 0) > 0):
        return {}
    if "mask_time_indices" not in inspect.signature(encoder.forward).parameters:
        return {}
    frames = int(num_positions(encoder, torch.tensor(inputs.shape[traits.time_dim])))
    if frames >= config.mask_time_length:
        return {}
    masked = torch.zeros(len(inputs), frames, dtype=torch.bool, device=inputs.device)
    return {"mask_time_indices": masked}


def _padded_to(length: int, inputs: torch.Tensor, dim: int) -> torch.Tensor:
    return F.pad(inputs, (*(0, 0) * (inputs.ndim - 1 - dim), 0, length - inputs.shape[dim]))


__all__ = ["audio_encoder_class", "run_audio_encoder", "make_audio_encoder"]
