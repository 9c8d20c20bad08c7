"""The two pretrained encoders: how they are made, loaded and called so that padding and absent clips change nothing.

Shapes: `batch` clips of `samples` (sound) or `frames` (picture). Masks are True where there is something.
"""

import dataclasses
import inspect
from typing import Any

import torch
import torch.nn.functional as F
from transformers import (
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    CLIPVisionModelWithProjection,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

from .configuration_foal_net import FoalNetConfig
from .wavlm_attention_foal_net import SdpaWavLMModel, use_channels_last


_HUB_ARGUMENTS = ("token", "cache_dir", "local_files_only", "force_download")


def make_audio_encoder(config: FoalNetConfig) -> PreTrainedModel:
    """The audio encoder that `config` describes, with random weights."""
    if config.audio_config.model_type == "wavlm":
        encoder = SdpaWavLMModel._from_config(config.audio_config)
    else:
        encoder = AutoModel.from_config(config.audio_config)
    use_channels_last(encoder)
    return encoder


def make_vision_encoder(config: FoalNetConfig) -> PreTrainedModel:
    """The image encoder that `config` describes, with random weights, without parts that its pooling does not use."""
    vision_class, arguments = _vision_class(config)
    return vision_class._from_config(config.vision_config, **arguments)


def load_encoders(audio_encoder: str, vision_encoder: str, **fields: Any) -> dict[str, Any]:
    """The arguments of a model's constructor: a config with `fields`, and both encoders with pretrained weights.

    Some `fields` (`_HUB_ARGUMENTS`) are for the Hub, and no part of a config.
    """
    hub = {name: fields.pop(name) for name in _HUB_ARGUMENTS if name in fields}
    known = {field.name for field in dataclasses.fields(FoalNetConfig)} | {"num_labels", "attn_implementation"}
    unknown = sorted(set(fields) - (known - {"audio_config", "vision_config", "dtype"}))
    if unknown:
        raise TypeError(
            f"Unknown arguments: {', '.join(unknown)}. Known are the fields of FoalNetConfig and, for the Hub, "
            f"{', '.join(_HUB_ARGUMENTS)}. For another precision call `.to(dtype)` on the model."
        )
    audio_config = AutoConfig.from_pretrained(audio_encoder, **hub)
    vision_config = AutoConfig.from_pretrained(vision_encoder, **hub)
    vision_config = getattr(vision_config, "vision_config", vision_config)  # the image tower of a two-tower model
    config = FoalNetConfig(audio_config=audio_config, vision_config=vision_config, **fields)
    vision_class, arguments = _vision_class(config)
    audio_class = SdpaWavLMModel if config.audio_config.model_type == "wavlm" else AutoModel
    audio = audio_class.from_pretrained(audio_encoder, config=config.audio_config, **hub)
    use_channels_last(audio)
    vision = vision_class.from_pretrained(vision_encoder, config=config.vision_config, **arguments, **hub)
    # from_pretrained works on copies: the config must hold the very objects that the encoders use.
    config.audio_config, config.vision_config = audio.config, vision.config
    config.audio_config._name_or_path, config.vision_config._name_or_path = audio_encoder, vision_encoder
    return {"config": config, "audio_encoder": audio, "vision_encoder": vision}


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
        attention_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for samples, 0 for padding after
            them. All 0 for a clip without sound.
        **kwargs: For the encoder, such as `output_hidden_states`; not where it goes through the batch by length.

    Returns:
        The encoder's output, with `last_hidden_state` of shape `(batch, audio_frames, audio_width)`, and the mask of
        its valid positions, `(batch, audio_frames)`. A clip's valid positions are what it gives alone, unpadded.
    """
    samples, shortest_sound = input_values.shape[1], config.shortest_sound
    if attention_mask is None:
        lengths = torch.full_like(input_values[:, 0], samples, dtype=torch.long)
    else:
        lengths = attention_mask.sum(dim=1).long()
    input_values = input_values.to(encoder.dtype)
    if samples < shortest_sound:
        input_values = F.pad(input_values, (0, shortest_sound - samples))
    # A sound shorter than one frame is no sound (and the formula goes below zero there).
    frames = encoder._get_feat_extract_output_lengths(lengths).long().clamp(min=0)
    if attention_mask is not None and not _padding_is_exact(encoder.config):
        output = _encode_by_length(encoder, config, input_values, lengths, frames)
    else:
        # A clip with no valid sample would have nothing to attend to, which is NaN in some kernels: let it attend to
        # all of its padding. The returned mask keeps what comes out from every result.
        positions = torch.arange(input_values.shape[1], device=input_values.device)
        valid = (positions < lengths[:, None]) | (frames == 0)[:, None]
        mask = None if attention_mask is None else valid.long()
        output = _call(encoder, input_values, attention_mask=mask, **kwargs)
    positions = torch.arange(output["last_hidden_state"].shape[1], device=input_values.device)
    return output, positions < frames[:, None]


def encode_pictures(
    encoder: PreTrainedModel, config: FoalNetConfig, pictures: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Run the image encoder on each frame, without keeping activations when it is frozen.

    Args:
        encoder (`PreTrainedModel`): An image encoder.
        config (`FoalNetConfig`): Says how a frame is pooled and whether the encoder is frozen.
        pictures (`torch.Tensor` of shape `(batch, frames, 3, height, width)`): Frames.
        mask (`torch.Tensor` of shape `(batch, frames)`, bool, *optional*): True for frames, False for padding.

    Returns:
        `torch.Tensor` of shape `(batch, frames, video_width)`; 0 where the mask is False.
    """
    flat = pictures.flatten(0, 1)
    # By far the most expensive encoder: it never sees padding, except in a compiled graph, where the number of pictures
    # may not depend on the data.
    if mask is None or torch.compiler.is_compiling():
        return _encode_frames(encoder, config, flat).unflatten(0, pictures.shape[:2])
    rows = mask.flatten().nonzero().squeeze(1)
    if rows.numel() == 0:
        return flat.new_zeros(*mask.shape, config.video_width, dtype=encoder.dtype)
    encoded = _encode_frames(encoder, config, flat[rows])
    sequence = encoded.new_zeros(flat.shape[0], config.video_width)
    return sequence.index_put((rows,), encoded).unflatten(0, mask.shape)


def _encode_frames(encoder: PreTrainedModel, config: FoalNetConfig, pictures: torch.Tensor) -> torch.Tensor:
    """`(pictures, 3, height, width)` to `(pictures, video_width)`."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not config.freeze_vision_encoder):
        output = encoder(pictures.to(encoder.dtype))
    match config.vision_pooling:
        case "projection":
            return output.image_embeds
        case "pooler":
            return output.pooler_output
        case "mean":
            return output.last_hidden_state.mean(dim=1)
        case _:
            return output.last_hidden_state[:, 0]


def _encode_by_length(
    encoder: Any, config: FoalNetConfig, input_values: torch.Tensor, lengths: torch.Tensor, frames: torch.Tensor
) -> BaseModelOutput:
    """One pass per distinct length, for encoders whose features padding changes.

    They were trained without a mask: alone and unpadded is what they expect.
    """
    if torch.compiler.is_exporting():
        raise ValueError(
            f"An audio encoder of type {config.audio_config.model_type!r} whose features padding changes cannot be "
            "exported with an attention_mask: export without it, for clips of equal length."
        )
    sequence = None
    for length in lengths[frames > 0].unique().tolist():
        rows = (lengths == length).nonzero().squeeze(1)
        encoded = _call(encoder, input_values[rows, :length]).last_hidden_state
        if sequence is None:
            sequence = encoded.new_zeros(lengths.shape[0], int(frames.max()), encoded.shape[2])
        padded = F.pad(encoded, (0, 0, 0, sequence.shape[1] - encoded.shape[1]))
        sequence = sequence.index_put((rows,), padded)
    if sequence is None:  # nobody in this batch makes a sound
        sequence = input_values.new_zeros(lengths.shape[0], 1, config.audio_width)
    return BaseModelOutput(last_hidden_state=sequence)


def _call(encoder: Any, input_values: torch.Tensor, **kwargs: Any) -> Any:
    """Run the encoder; a sound too short for its SpecAugment masks, which it would refuse, is left without them."""
    probability = encoder.config.mask_time_prob
    if not (encoder.training and probability > 0):
        return encoder(input_values, **kwargs)
    if encoder._get_feat_extract_output_lengths(input_values.shape[1]) >= encoder.config.mask_time_length:
        return encoder(input_values, **kwargs)
    encoder.config.mask_time_prob = 0.0
    try:
        return encoder(input_values, **kwargs)
    finally:
        encoder.config.mask_time_prob = probability


def _padding_is_exact(audio_config: PreTrainedConfig) -> bool:
    """Whether a padded waveform with its mask gives what the waveform gives alone.

    Not with a group norm over time (the "base" encoders), nor in data2vec-audio, whose stacked positional convolutions
    carry padding into the sound.
    """
    return getattr(audio_config, "feat_extract_norm", "layer") == "layer" and "data2vec" not in audio_config.model_type


def _vision_class(config: FoalNetConfig) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    """The class of the image encoder, and the arguments that leave out what its pooling does not use."""
    if config.vision_pooling == "projection":
        return CLIPVisionModelWithProjection, {}
    vision_class: Any = MODEL_MAPPING[type(config.vision_config)]
    has_pooler = "add_pooling_layer" in inspect.signature(vision_class).parameters
    return vision_class, {"add_pooling_layer": config.vision_pooling == "pooler"} if has_pooler else {}


__all__ = ["encode_pictures", "encode_waveforms", "load_encoders", "make_audio_encoder", "make_vision_encoder"]
