"""What an encoder of images takes and gives, found out from its class and its config, without any weight.

The class is built and called once on the meta device, which computes shapes alone.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import MODEL_MAPPING, CLIPVisionModelWithProjection, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging


logger = logging.get_logger(__name__)

# The output that an image encoder was trained for, where it has a class token or a pooled output that was not.
_TRAINED_POOLING = {"clip_vision_model": "projection", "siglip_vision_model": "pooler"}
# How the encoders of transformers name the parameter that is their first token.
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")


@dataclass(frozen=True)
class VisionInterface:
    """How an encoder is made and called, and how its output becomes one vector a frame.

    Args:
        encoder_class (`type[PreTrainedModel]`): Its class.
        arguments (`Mapping`): Arguments of the class that leave out the parts its pooling does not use.
        pooling (`str`): As `vision_pooling` of [`FoalNetConfig`].
        width (`int`): Width of a vector.
        image_size (`tuple[int, int]`): Height and width of the images, in pixels.
        space_dims (`tuple[int, ...]`): The dimensions of `last_hidden_state` that are space, for `"mean"`.
    """

    encoder_class: type[PreTrainedModel]
    arguments: Mapping[str, Any]
    pooling: str
    width: int
    image_size: tuple[int, int]
    space_dims: tuple[int, ...] = (1,)


def vision_interface(vision_config: PreTrainedConfig, pooling: str | None = None) -> VisionInterface:
    """The interface of the encoder that `vision_config` describes.

    Args:
        vision_config (`PreTrainedConfig`): Config of an image encoder.
        pooling (`str`, *optional*): As `vision_pooling` of [`FoalNetConfig`]; None for what it was trained for.

    Raises:
        ImportError: If the encoder needs a package that is missing.
        ValueError: If frames cannot be given to the encoder, or its output has no such pooling; says what is missing.
    """
    trained = _TRAINED_POOLING.get(vision_config.model_type)
    key = (type(vision_config), vision_config.to_json_string(use_diff=False), pooling)
    if key not in _KNOWN:
        is_plain = trained is not None and pooling in (None, trained)
        _KNOWN[key] = _trained_interface(vision_config) if is_plain else _probe(vision_config, pooling)
    return _KNOWN[key]


_KNOWN: dict[tuple[type, str, str | None], VisionInterface] = {}


def _trained_interface(config: Any) -> VisionInterface:
    """Of the usual encoders, whose configs tell all of it."""
    pooling = _TRAINED_POOLING[config.model_type]
    if pooling == "projection":
        return VisionInterface(CLIPVisionModelWithProjection, {}, pooling, config.projection_dim, _image_size(config))
    return VisionInterface(_class_of(config), {}, pooling, config.hidden_size, _image_size(config))


def _probe(config: Any, pooling: str | None) -> VisionInterface:
    name = f"`vision_config` is of type {config.model_type!r}"
    if pooling == "projection":
        raise ValueError(
            f"`vision_pooling='projection'` needs a CLIP vision encoder, not {config.model_type!r}; use 'pooler', "
            "'cls' or 'mean'."
        )
    encoder_class = _class_of(config)
    forward = inspect.signature(encoder_class.forward).parameters.values()
    needs = [parameter.name for parameter in forward if parameter.default is parameter.empty]
    needs = [need for need in needs if need not in ("self", "args", "kwargs", encoder_class.main_input_name)]
    if encoder_class.main_input_name != "pixel_values" or needs:
        takes = ", ".join([encoder_class.main_input_name, *needs])
        raise ValueError(
            f"{name}, and its encoder takes `{takes}`; expected an encoder of images of one size, which takes "
            "`pixel_values` alone (for a model of images and text give its `vision_config`)."
        )
    channels = getattr(config, "num_channels", 3)
    if channels != 3:
        raise ValueError(f"{name} with {channels} channels; expected 3: frames are RGB.")
    size = _image_size(config)
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder: Any = encoder_class._from_config(copy.deepcopy(config)).eval()
        has_class_token = any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in encoder.named_parameters())
        try:
            output = encoder(torch.zeros(1, 3, *size, dtype=encoder.dtype))
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"{name}, whose encoder does not take images of {size[0]}x{size[1]}: {error}") from error
    tokens, pooled = output.get("last_hidden_state"), output.get("pooler_output")
    widths: dict[str, int] = {}
    space_dims: tuple[int, ...] = (1,)
    if pooled is not None and pooled.flatten(1).shape[0] == 1:
        widths["pooler"] = pooled.flatten(1).shape[1]
    if tokens is not None and tokens.ndim in (3, 4) and tokens.shape[0] == 1:
        is_map = tokens.ndim == 4
        channels_last = not is_map or widths.get("pooler") == tokens.shape[3] != tokens.shape[1]
        space_dims = ((1, 2) if channels_last else (2, 3)) if is_map else (1,)
        widths["mean"] = tokens.shape[-1 if channels_last else 1]
        if not is_map:  # without a class token not the default, but checkpoints of older releases have it
            widths = {"cls": widths["mean"], **widths} if has_class_token else {**widths, "cls": widths["mean"]}
    if not widths:
        raise ValueError(
            f"{name}, whose output has neither `last_hidden_state` of shape (images, tokens, width) or (images, "
            f"channels, rows, columns) nor `pooler_output`; it has {', '.join(output)}."
        )
    pooling = pooling or _TRAINED_POOLING.get(config.model_type) or next(iter(widths))
    if pooling not in widths:
        raise ValueError(
            f"`vision_pooling` is {pooling!r}, which the encoder {config.model_type!r} does not give; expected "
            f"{' or '.join(repr(name) for name in widths)}."
        )
    if pooling == "cls" and not has_class_token:
        logger.warning(
            f"`vision_pooling='cls'` takes the first token of {config.model_type!r}, which has no class token: it is a "
            f"corner of the image. Use {next(iter(widths))!r}, unless a checkpoint was trained so."
        )
    has_pooler = "add_pooling_layer" in inspect.signature(encoder_class).parameters
    arguments = {"add_pooling_layer": pooling == "pooler"} if has_pooler else {}
    return VisionInterface(encoder_class, arguments, pooling, widths[pooling], size, space_dims)


def _class_of(config: Any) -> Any:
    try:
        return MODEL_MAPPING[type(config)]
    except KeyError:
        raise ValueError(
            f"`vision_config` is of type {config.model_type!r}, for which `AutoModel` has no class. Register it: "
            "`AutoModel.register(TheConfig, TheModel)`."
        ) from None


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None)
    if size is None:  # timm's configs
        size = (getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[1:]
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


__all__ = ["VisionInterface", "vision_interface"]
