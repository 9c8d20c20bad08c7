"""The two pretrained encoders: how they are made, loaded and called so that padding changes no result.

Shapes: `batch` clips of `samples` (audio) or `frames` (video). Masks are True for audio and video, False for padding.
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
    """Make the audio encoder that `config` describes, with random weights."""
    # With `mask_time_prob` above 0, transformers draws an embedding on the CPU even where no weights are made. A model
    # that is loaded, counted or compared beside a running training would change what the training draws next.
    has_no_weights = torch.get_default_device().type == "meta"
    with torch.random.fork_rng(devices=[], enabled=has_no_weights):
        if config.audio_config.model_type == "wavlm":
            encoder = SdpaWavLMModel._from_config(config.audio_config)
        else:
            encoder = AutoModel.from_config(config.audio_config)
    use_channels_last(encoder)
    return encoder


def make_vision_encoder(config: FoalNetConfig) -> PreTrainedModel:
    """Make the image encoder that `config` describes, with random weights and only the parts that its pooling uses."""
    vision_class, arguments = _vision_class(config)
    return vision_class._from_config(config.vision_config, **arguments)


def load_encoders(audio_encoder: str, vision_encoder: str, **fields: Any) -> dict[str, Any]:
    """Load both pretrained encoders; returns the arguments of a model's constructor: `config` and the two encoders.

    `fields` are fields of the config, and arguments for the Hub (`_HUB_ARGUMENTS`).
    """
    hub = {name: fields.pop(name) for name in _HUB_ARGUMENTS if name in fields}
    known = {field.name for field in dataclasses.fields(FoalNetConfig)} | {"num_labels", "attn_implementation"}
    unknown = sorted(set(fields) - (known - {"audio_config", "vision_config", "dtype"}))
    if unknown:
        raise TypeError(
            f"Unknown arguments: {', '.join(unknown)}; expected fields of FoalNetConfig or, for the Hub, "
            f"{', '.join(_HUB_ARGUMENTS)}. For another precision call `.to(dtype)` on the model."
        )
    audio_config = AutoConfig.from_pretrained(audio_encoder, **hub)
    vision_config = AutoConfig.from_pretrained(vision_encoder, **hub)
    vision_config = getattr(vision_config, "vision_config", vision_config)  # of a model of images and text
    config = FoalNetConfig(audio_config=audio_config, vision_config=vision_config, **fields)
    vision_class, arguments = _vision_class(config)
    audio_class = SdpaWavLMModel if config.audio_config.model_type == "wavlm" else AutoModel
    audio = audio_class.from_pretrained(audio_encoder, config=config.audio_config, **hub)
    use_channels_last(audio)
    vision = vision_class.from_pretrained(vision_encoder, config=config.vision_config, **arguments, **hub)
    # from_pretrained copies a config: ours must hold the same objects as the encoders.
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


def encode_frames(
    encoder: PreTrainedModel,
    config: FoalNetConfig,
    frames: torch.Tensor,
    mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> BaseModelOutput:
    """Run the image encoder on each frame, without storing activations when nothing in it is trained.

    Args:
        encoder (`PreTrainedModel`): An image encoder.
        config (`FoalNetConfig`): Says how a frame is pooled.
        frames (`torch.Tensor` of shape `(batch, frames, 3, height, width)`): Images.
        mask (`torch.Tensor` of shape `(batch, frames)`, bool, *optional*): True for frames, False for padding.
        **kwargs: For the encoder, such as `output_hidden_states`.

    Returns:
        `BaseModelOutput` with `last_hidden_state` of shape `(batch, frames, video_width)`, one vector a frame. Where
        asked for, `hidden_states` are `(batch, frames, tokens, hidden_size)` each and `attentions` `(batch, frames,
        heads, tokens, tokens)` each. All of them are 0 where the mask is False.
    """
    flat = frames.flatten(0, 1)
    rows = None
    # In a compiled graph the number of images may not depend on the data.
    if mask is not None and not torch.compiler.is_compiling():
        # By far the most expensive encoder (162 GFLOP an image in CLIP ViT-L/14), so it never sees padding. Counting
        # the frames waits for the device, which costs less than padded images.
        rows = mask.flatten().nonzero().squeeze(1)
        if rows.numel() == 0:
            return BaseModelOutput(flat.new_zeros(*mask.shape, config.video_width, dtype=encoder.dtype))
        flat = flat[rows]
    needs_gradient = flat.requires_grad or is_trained(encoder)
    with torch.set_grad_enabled(torch.is_grad_enabled() and needs_gradient):
        output = encoder(flat.to(encoder.dtype), **kwargs)

    def unflatten(images: torch.Tensor) -> torch.Tensor:
        if rows is not None:
            padded = images.new_zeros(frames.shape[0] * frames.shape[1], *images.shape[1:])
            images = padded.index_put((rows,), images)
        return images.unflatten(0, frames.shape[:2])

    def unflatten_layers(name: str) -> tuple[torch.Tensor, ...] | None:
        return tuple(unflatten(layer) for layer in output[name]) if output.get(name) else None

    return BaseModelOutput(
        last_hidden_state=unflatten(_pool(output, config.vision_pooling)),
        hidden_states=unflatten_layers("hidden_states"),
        attentions=unflatten_layers("attentions"),
    )


def is_trained(module: torch.nn.Module) -> bool:
    """Whether any parameter of a module requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _pool(output: Any, pooling: str | None) -> torch.Tensor:
    """The output of an image encoder to `(images, video_width)`."""
    match pooling:
        case "projection":
            return output.image_embeds
        case "pooler":
            return output.pooler_output
        case "mean":
            return output.last_hidden_state.mean(dim=1)
        case _:
            return output.last_hidden_state[:, 0]


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


def _vision_class(config: FoalNetConfig) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    """The class of the image encoder, and arguments that drop the parts its pooling does not use."""
    if config.vision_pooling == "projection":
        return CLIPVisionModelWithProjection, {}
    vision_class: Any = MODEL_MAPPING[type(config.vision_config)]
    has_pooler = "add_pooling_layer" in inspect.signature(vision_class).parameters
    return vision_class, {"add_pooling_layer": config.vision_pooling == "pooler"} if has_pooler else {}


__all__ = [
    "encode_frames",
    "encode_waveforms",
    "is_trained",
    "load_encoders",
    "make_audio_encoder",
    "make_vision_encoder",
]
