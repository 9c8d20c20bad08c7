"""What an encoder of images or of whole clips takes and gives, found out from its class and config, without weights.

The class is built and called once on the meta device, which computes shapes alone.
"""

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, CLIPVisionModelWithProjection, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging


logger = logging.get_logger(__name__)

# The output that an image encoder was trained for, where it has a class token or a pooled output that was not.
_TRAINED_POOLING = {"clip_vision_model": "projection", "siglip_vision_model": "pooler"}
# How the encoders of transformers name the parameter that is their first token.
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")
_INPUTS = ("pixel_values", "pixel_values_videos")


@dataclass(frozen=True)
class VisionInterface:
    """How an encoder is made and called, and how its output becomes one vector a frame, or a few frames.

    Args:
        encoder_class (`type[PreTrainedModel]`): Its class.
        arguments (`Mapping`): Arguments of the class that leave out the parts its pooling does not use.
        pooling (`str`): As `vision_pooling` of [`FoalNetConfig`].
        width (`int`): Width of a vector.
        image_size (`tuple[int, int]`): Height and width of the images, in pixels.
        space_dims (`tuple[int, ...]`): The dimensions of `last_hidden_state` that are space, for `"mean"`.
        window_frames (`int`): Consecutive frames that it takes at once; 1 for an encoder of images.
        frames_per_position (`int`): Frames behind each of its positions in time (its tubelet).
        num_class_tokens (`int`): Tokens before those of space and time, in an encoder of clips.
        time_first (`bool`): Whether its tokens are sorted by time and then by space; else the other way round.
        call (`Mapping`): Arguments of each call.
    """

    encoder_class: type[PreTrainedModel]
    arguments: Mapping[str, Any]
    pooling: str
    width: int
    image_size: tuple[int, int]
    space_dims: tuple[int, ...] = (1,)
    window_frames: int = 1
    frames_per_position: int = 1
    num_class_tokens: int = 0
    time_first: bool = True
    call: Mapping[str, Any] = field(default_factory=dict)


def vision_interface(
    vision_config: PreTrainedConfig, pooling: str | None = None, window_frames: int | None = None
) -> VisionInterface:
    """The interface of the encoder that `vision_config` describes.

    Args:
        vision_config (`PreTrainedConfig`): Config of an encoder of images or clips.
        pooling (`str`, *optional*): As `vision_pooling` of [`FoalNetConfig`]; None for what it was trained for.
        window_frames (`int`, *optional*): As `vision_window_frames` of [`FoalNetConfig`].

    Raises:
        ImportError: If the encoder needs a package that is missing.
        ValueError: If frames cannot be given to the encoder, or its output has no such pooling; says what is missing.
    """
    trained = _TRAINED_POOLING.get(vision_config.model_type)
    key = (type(vision_config), vision_config.to_json_string(use_diff=False), pooling, window_frames)
    if key not in _KNOWN:
        is_plain = trained is not None and pooling in (None, trained) and window_frames is None
        _KNOWN[key] = _trained_interface(vision_config) if is_plain else _probe(vision_config, pooling, window_frames)
    return _KNOWN[key]


_KNOWN: dict[tuple[Any, ...], VisionInterface] = {}


def _trained_interface(config: Any) -> VisionInterface:
    """Of the usual encoders, whose configs tell all of it."""
    pooling = _TRAINED_POOLING[config.model_type]
    if pooling == "projection":
        return VisionInterface(CLIPVisionModelWithProjection, {}, pooling, config.projection_dim, _image_size(config))
    return VisionInterface(_class_of(config), {}, pooling, config.hidden_size, _image_size(config))


def _probe(config: Any, pooling: str | None, window_frames: int | None) -> VisionInterface:
    name = f"`vision_config` is of type {config.model_type!r}"
    if pooling == "projection":
        raise ValueError(
            f"`vision_pooling='projection'` needs a CLIP vision encoder, not {config.model_type!r}; use 'pooler', "
            "'cls' or 'mean'."
        )
    encoder_class = _class_of(config)
    own_window = getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None)
    if own_window is None and window_frames is not None:
        raise ValueError(f"`vision_window_frames` is {window_frames}; expected None, as {name} takes single images.")
    _check_inputs(encoder_class, name, is_of_clips=own_window is not None)
    channels = getattr(config, "num_channels", getattr(config, "in_chans", 3))
    if channels != 3:
        raise ValueError(f"{name} with {channels} channels; expected 3: frames are RGB.")
    size, window = _image_size(config), window_frames or own_window
    shape = (1, 3, *size) if window is None else (1, window, 3, *size)
    # A part of some encoders that only their pre-training needs.
    call = {"skip_predictor": True} if "skip_predictor" in inspect.signature(encoder_class.forward).parameters else {}
    probed = copy.deepcopy(config)
    # What a model was loaded with may be what this encoder, or the meta device, has not. Shapes do not depend on it.
    probed._attn_implementation = "eager"
    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        encoder: Any = encoder_class._from_config(probed).eval()
        try:
            output = encoder(torch.zeros(*shape, dtype=encoder.dtype), **call)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            frames = "images" if window is None else f"{window} frames"
            raise ValueError(f"{name}, whose encoder does not take {frames} of {size[0]}x{size[1]}: {error}") from error
    if window is None:
        poolings, space_dims = _poolings(encoder, output, name)
        shown: dict[str, Any] = {"space_dims": space_dims}
    else:
        poolings, shown = _clip_tokens(encoder, output, window, name)
    trained = "pooler" if getattr(config, "do_pooling", False) else _TRAINED_POOLING.get(config.model_type)
    pooling = pooling or (trained if trained in poolings else next(iter(poolings)))
    if pooling not in poolings:
        raise ValueError(
            f"`vision_pooling` is {pooling!r}, which the encoder {config.model_type!r} does not give; expected "
            f"{' or '.join(repr(name) for name in poolings)}."
        )
    if pooling == "cls" and not _has_class_token(encoder):
        logger.warning(
            f"`vision_pooling='cls'` takes the first token of {config.model_type!r}, which has no class token: it is a "
            f"corner of the image. Use {next(iter(poolings))!r}, unless a checkpoint was trained so."
        )
    has_pooler = "add_pooling_layer" in inspect.signature(encoder_class).parameters
    arguments = {"add_pooling_layer": pooling == "pooler"} if has_pooler else {}
    return VisionInterface(encoder_class, arguments, pooling, poolings[pooling], size, **shown, call=call)


def _check_inputs(encoder_class: type[PreTrainedModel], name: str, *, is_of_clips: bool) -> None:
    """Refuse an encoder that takes more than images, such as NaFlex SigLIP 2: patches and their positions."""
    taken = encoder_class.main_input_name
    forward = inspect.signature(encoder_class.forward).parameters.values()
    needs = [parameter.name for parameter in forward if parameter.default is parameter.empty]
    needs = [need for need in needs if need not in ("self", "args", "kwargs", taken)]
    if taken not in _INPUTS[: 1 + is_of_clips] or needs:
        raise ValueError(
            f"{name}, and its encoder takes `{', '.join([taken, *needs])}`; expected an encoder of images of one size, "
            "which takes `pixel_values` alone, or of clips, whose config has `num_frames` or `frames_per_clip` (for a "
            "model of images and text give its `vision_config`)."
        )


def _poolings(encoder: nn.Module, output: Any, name: str) -> tuple[dict[str, int], tuple[int, ...]]:
    """How the output for an image can be pooled, the best first, each with its width; and its dimensions of space."""
    tokens, pooled = output.get("last_hidden_state"), output.get("pooler_output")
    widths: dict[str, int] = {}
    space_dims: tuple[int, ...] = (1,)
    if pooled is not None and pooled.shape[0] == 1:
        widths["pooler"] = pooled.flatten(1).shape[1]
    if tokens is not None and tokens.ndim in (3, 4) and tokens.shape[0] == 1:
        is_map = tokens.ndim == 4
        channels_last = not is_map or widths.get("pooler") == tokens.shape[3] != tokens.shape[1]
        space_dims = ((1, 2) if channels_last else (2, 3)) if is_map else (1,)
        widths["mean"] = tokens.shape[-1 if channels_last else 1]
        if not is_map:  # without a class token not the default, but checkpoints of older releases have it
            first = {"cls": widths["mean"]}
            widths = first | widths if _has_class_token(encoder) else widths | first
    if not widths:
        raise ValueError(
            f"{name}, whose output has neither `last_hidden_state` of shape (images, tokens, width) or (images, "
            f"channels, rows, columns) nor `pooler_output`; it has {', '.join(output)}."
        )
    return widths, space_dims


def _clip_tokens(encoder: Any, output: Any, window: int, name: str) -> tuple[dict[str, int], dict[str, Any]]:
    """How the tokens of a clip lie in space and time."""
    tubelet = getattr(encoder.config, "tubelet_size", 1)
    tubelet = tubelet if isinstance(tubelet, int) else tubelet[0]
    if window % tubelet:
        raise ValueError(f"{name} with windows of {window} frames; expected a multiple of its tubelet, {tubelet}.")
    tokens, positions, num_class_tokens = output.last_hidden_state, window // tubelet, int(_has_class_token(encoder))
    if tokens.ndim != 3 or tokens.shape[0] != 1 or (tokens.shape[1] - num_class_tokens) % positions:
        raise ValueError(
            f"{name}, whose output for {window} frames has shape {tuple(tokens.shape)}; expected (1, tokens, width) "
            f"with the same number of tokens at each of {positions} positions."
        )
    # A convolution over space and time leaves its output sorted by time. Encoders that embed each frame by itself add
    # an embedding of time to the frames at each place.
    is_of_tubelets = any(isinstance(module, nn.Conv3d) for module in encoder.modules())
    if not is_of_tubelets and not any("time_embed" in name for name, _ in encoder.named_parameters()):
        raise ValueError(f"{name}, whose tokens come in an order that cannot be known: by time or by space.")
    shown = {"window_frames": window, "frames_per_position": tubelet}
    return {"mean": tokens.shape[-1]}, {
        **shown,
        "num_class_tokens": num_class_tokens,
        "time_first": is_of_tubelets,
    }


def _has_class_token(encoder: nn.Module) -> bool:
    return any(name.rpartition(".")[2] in _CLASS_TOKENS for name, _ in encoder.named_parameters())


def _class_of(config: Any) -> Any:
    try:
        return MODEL_MAPPING[type(config)]
    except KeyError:
        raise ValueError(
            f"`vision_config` is of type {config.model_type!r}, for which `AutoModel` has no class. Register it: "
            "`AutoModel.register(TheConfig, TheModel)`."
        ) from None


def _image_size(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", getattr(config, "crop_size", None))
    if size is None:  # timm's configs
        size = (getattr(config, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[1:]
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


__all__ = ["VisionInterface", "vision_interface"]
