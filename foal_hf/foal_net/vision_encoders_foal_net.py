"""The encoder of images or of whole clips: how it is made and called so that padding changes no result.

Shapes: `batch` clips of `frames`; `windows` of frames, `positions` in time. Masks are True for frames, not padding.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from .configuration_foal_net import FoalNetConfig
from .vision_interface_foal_net import VisionInterface


logger = logging.get_logger(__name__)

_ATTENTION = ("sdpa", "flash_attn", "flex_attn", "attention_backend")


def make_vision_encoder(config: FoalNetConfig) -> PreTrainedModel:
    """Make the image encoder that `config` describes, with random weights and only the parts that its pooling uses."""
    interface = config.vision_interface
    arguments = dict(interface.arguments)
    if not any(getattr(interface.encoder_class, f"_supports_{kind}", False) for kind in _ATTENTION):
        # The implementation that the whole model was asked for means nothing to an encoder of convolutions.
        arguments["attn_implementation"] = "eager"
    return interface.encoder_class._from_config(config.vision_config, **arguments)


def encode_frames(
    encoder: PreTrainedModel,
    interface: VisionInterface,
    frames: torch.Tensor,
    mask: torch.Tensor | None = None,
    **kwargs: Any,
) -> BaseModelOutput:
    """Run the encoder on each frame, or on each window of frames, storing no activations when nothing in it is trained.

    An encoder of clips sees consecutive windows. One that is not full is filled with the clip's last frame, and what it
    gives for the filled places is 0.

    Args:
        encoder (`PreTrainedModel`): An encoder of images or of clips.
        interface (`VisionInterface`): Says what it takes, and how its output is pooled.
        frames (`torch.Tensor` of shape `(batch, frames, 3, height, width)`): Images.
        mask (`torch.Tensor` of shape `(batch, frames)`, bool, *optional*): True for frames, False for padding.
        **kwargs: For the encoder, such as `output_hidden_states`.

    Returns:
        `BaseModelOutput` with `last_hidden_state` of shape `(batch, positions, width)`, one vector a frame, or one for
        each `frames_per_position` of them. Where asked for, `hidden_states` are `(batch, windows, tokens, hidden_size)`
        each and `attentions` `(batch, windows, heads, tokens, tokens)` each; a window of an encoder of images is one
        frame. All of them are 0 where no frame is.
    """
    batch, num_frames = frames.shape[:2]
    flat, rows, shown = frames.flatten(0, 1), None, None
    if interface.window_frames > 1:
        shown, used = _windows(mask, frames, interface.window_frames)
    else:
        used = None if mask is None else mask.flatten()
    # In a compiled graph the number of images may not depend on the data.
    if used is not None and not torch.compiler.is_compiling():
        # By far the most expensive encoder (162 GFLOP an image in CLIP ViT-L/14), so it never sees padding. Counting
        # the frames waits for the device, which costs less than padded images.
        rows = used.nonzero().squeeze(1)
        if rows.numel() == 0:
            positions = math.ceil(num_frames / interface.frames_per_position)
            return BaseModelOutput(flat.new_zeros(batch, positions, interface.width, dtype=encoder.dtype))
    if shown is not None:
        flat = flat[shown if rows is None else shown[rows]]  # (windows, window_frames, 3, height, width)
    elif rows is not None:
        flat = flat[rows]
    needs_gradient = flat.requires_grad or is_trained(encoder)
    with torch.set_grad_enabled(torch.is_grad_enabled() and needs_gradient):
        output = encoder(flat.to(encoder.dtype), **interface.call, **kwargs)

    def unflatten(images: torch.Tensor) -> torch.Tensor:
        if rows is not None and used is not None:
            padded = images.new_zeros(len(used), *images.shape[1:])
            images = padded.index_put((rows,), images)
        return images.unflatten(0, (batch, -1))

    def unflatten_layers(name: str) -> tuple[torch.Tensor, ...] | None:
        return tuple(unflatten(layer) for layer in output[name]) if output.get(name) else None

    sequence = unflatten(_pool(output, interface))
    if shown is not None:  # (batch, windows, positions of a window, width)
        sequence = sequence.flatten(1, 2)[:, : math.ceil(num_frames / interface.frames_per_position)]
        if mask is not None:
            sequence = sequence.masked_fill(~position_mask(mask, interface)[..., None], 0.0)
    return BaseModelOutput(
        last_hidden_state=sequence,
        hidden_states=unflatten_layers("hidden_states"),
        attentions=unflatten_layers("attentions"),
    )


def position_mask(mask: torch.Tensor, interface: VisionInterface) -> torch.Tensor:
    """The mask of positions, `(batch, positions)`, from that of frames, `(batch, frames)`: True for any real frame."""
    if interface.frames_per_position == 1:
        return mask
    mask = F.pad(mask, (0, -mask.shape[1] % interface.frames_per_position))
    return mask.unflatten(1, (-1, interface.frames_per_position)).any(dim=2)


def _windows(mask: torch.Tensor | None, frames: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The frame that is shown at each place of each window, `(batch * windows, size)`, counted over the whole batch.

    At a place without a frame it is the last before. Also which windows have any frame, `(batch * windows,)`; None for
    all.
    """
    batch, num_frames = frames.shape[:2]
    places = torch.arange(num_frames + -num_frames % size, device=frames.device)
    if mask is None:
        shown, used = places.clamp(max=num_frames - 1).expand(batch, -1), None
        is_short = num_frames < size
    else:
        padded = F.pad(mask, (0, -num_frames % size))
        shown = torch.where(padded, places, 0).cummax(dim=1).values
        used = padded.unflatten(1, (-1, size)).any(dim=2).flatten()
        lengths = mask.sum(dim=1)
        is_short = not torch.compiler.is_compiling() and bool(((lengths > 0) & (lengths < size)).any())
    if is_short and not torch.compiler.is_compiling():
        logger.warning_once(
            f"A clip has fewer frames than the {size} that the encoder takes at once: such clips are filled with their "
            "last frame. Read more frames a second, or set `vision_window_frames` if the encoder takes fewer."
        )
    shown = shown + num_frames * torch.arange(batch, device=frames.device)[:, None]
    return shown.unflatten(1, (-1, size)).flatten(0, 1), used


def is_trained(module: torch.nn.Module) -> bool:
    """Whether any parameter of a module requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _pool(output: Any, interface: VisionInterface) -> torch.Tensor:
    """The output of an encoder to `(images, width)`, or for clips `(windows, positions, width)`."""
    if interface.window_frames > 1:
        tokens = output.last_hidden_state[:, interface.num_class_tokens :]
        positions = interface.window_frames // interface.frames_per_position
        if interface.time_first:
            return tokens.unflatten(1, (positions, -1)).mean(dim=2)
        return tokens.unflatten(1, (-1, positions)).mean(dim=1)
    match interface.pooling:
        case "projection":
            return output.image_embeds
        case "pooler":
            return output.pooler_output.flatten(1)  # (images, width, 1, 1) in ResNet
        case "mean":
            return output.last_hidden_state.mean(dim=interface.space_dims)
        case _:
            return output.last_hidden_state[:, 0]


__all__ = ["encode_frames", "is_trained", "make_vision_encoder", "position_mask"]
