"""The image encoder: how it is made and called so that padding changes no result.

Shapes: `batch` clips of `frames`. Masks are True for frames, False for padding.
"""

from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_foal_net import FoalNetConfig
from .vision_interface_foal_net import VisionInterface


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
    """Run the image encoder on each frame, without storing activations when nothing in it is trained.

    Args:
        encoder (`PreTrainedModel`): An image encoder.
        interface (`VisionInterface`): Says how a frame is pooled.
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
            return BaseModelOutput(flat.new_zeros(*mask.shape, interface.width, dtype=encoder.dtype))
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
        last_hidden_state=unflatten(_pool(output, interface)),
        hidden_states=unflatten_layers("hidden_states"),
        attentions=unflatten_layers("attentions"),
    )


def is_trained(module: torch.nn.Module) -> bool:
    """Whether any parameter of a module requires a gradient."""
    return any(parameter.requires_grad for parameter in module.parameters())


def _pool(output: Any, interface: VisionInterface) -> torch.Tensor:
    """The output of an image encoder to `(images, width)`."""
    match interface.pooling:
        case "projection":
            return output.image_embeds
        case "pooler":
            return output.pooler_output.flatten(1)  # (images, width, 1, 1) in ResNet
        case "mean":
            return output.last_hidden_state.mean(dim=interface.space_dims)
        case _:
            return output.last_hidden_state[:, 0]


__all__ = ["encode_frames", "is_trained", "make_vision_encoder"]
