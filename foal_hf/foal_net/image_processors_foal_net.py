"""The steps of an encoder's own image processor, as fields of the video processor."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor
from transformers.image_processing_base import ImageProcessingMixin
from transformers.video_processing_utils import BaseVideoProcessor


IMAGE_PROCESSOR_FIELDS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)
_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_TIMM_INTERPOLATIONS = {"nearest": 0, "bilinear": 2, "bicubic": 3}  # PIL's numbers
# From this shortest edge on, processors with `crop_pct` crop nothing.
_WARPED_EDGE = 384
# Mean difference of pixels, in steps of a byte. Two kernels of one filter differ by less than 0.5; so does a crop of an
# odd margin, which torchvision rounds to one side and transformers to the other.
_SAME = 1.0


def load_image_processor(name: str) -> Any:
    """The image processor of an encoder; the fields in its file where its class cannot be loaded here.

    Some classes need torchvision, and encoders of clips may have a processor of videos.

    Args:
        name (`str`): Hub name or folder of the encoder.
    """
    try:
        return AutoImageProcessor.from_pretrained(name)
    except (ImportError, OSError, ValueError):
        for read in (ImageProcessingMixin.get_image_processor_dict, BaseVideoProcessor.get_video_processor_dict):
            with contextlib.suppress(OSError, ValueError):
                return read(name)[0]
        raise


def processor_fields(image_processor: Any) -> dict[str, Any]:
    """Fields of the video processor with which a frame is what `image_processor` makes of an image.

    Args:
        image_processor (`BaseImageProcessor`, `BaseVideoProcessor` or `Mapping`): That of an encoder, or the content of
            its file.

    Raises:
        ValueError: If fields are missing in a mapping.
    """
    given = dict(image_processor) if isinstance(image_processor, Mapping) else image_processor.to_dict()
    if isinstance(image_processor, Mapping):
        missing = [step for step in ("do_resize", "do_rescale", "do_normalize") if step not in given]
        if missing or (given["do_resize"] and not isinstance(given.get("size"), Mapping)):
            raise ValueError(
                "The fields of an image processor must have `do_resize`, `do_rescale`, `do_normalize`, and a dict as "
                f"`size`, got {given}. Load it with its own class, or give the fields to `FoalNetVideoProcessor`."
            )
    given |= _timm_fields(given.get("data_config"))
    # An image processor without a field skips that step; the defaults of the video processor are those of CLIP.
    fields = dict.fromkeys(_STEPS, False) | {
        name: given[name] for name in IMAGE_PROCESSOR_FIELDS if given.get(name) is not None
    }
    if isinstance(fields.get("crop_size"), int):
        fields["crop_size"] = dict.fromkeys(("height", "width"), fields["crop_size"])
    if given.get("crop_pct") is not None and fields["do_resize"] and "shortest_edge" in fields["size"]:
        fields |= _larger_then_cropped(fields["size"]["shortest_edge"], given["crop_pct"])
    return fields | _shifted_and_divided(given, fields)


def check_same_values(image_processor: Any, prepare: Callable[[torch.Tensor], torch.Tensor], level: Any) -> None:
    """Refuse an image processor that does more than its fields say.

    Args:
        image_processor (`BaseImageProcessor` or `BaseVideoProcessor`): That of an encoder.
        prepare (`Callable`): What the video processor does to frames `(frames, 3, height, width)`, uint8.
        level (`torch.Tensor` or `float`): A step of a byte in its values.

    Raises:
        ValueError: If an image comes out different.
    """
    rows, columns = np.mgrid[0:301, 0:401]
    planes = [64 + rows * 128 / 300, 64 + columns * 128 / 400, 127 + 64 * np.sin(rows / 100)]
    image = np.stack(planes, axis=-1).astype(np.uint8)
    frames = torch.from_numpy(image).movedim(-1, 0)[None]
    if isinstance(image_processor, BaseVideoProcessor):
        output: Any = image_processor([frames], do_sample_frames=False, return_tensors="pt")
    else:
        output = image_processor([image], return_tensors="pt")
    theirs, ours = torch.as_tensor(next(iter(output.values()))), prepare(frames)
    theirs = theirs.reshape(-1, *theirs.shape[-3:])
    differs = theirs.shape != ours.shape or ((theirs - ours) / level).abs().mean() > _SAME
    if differs:
        raise ValueError(
            f"{type(image_processor).__name__} does more to an image than its fields say: a test image becomes "
            f"{tuple(theirs.shape[1:])} with mean {theirs.mean():.3f}, and by its fields {tuple(ours.shape[1:])} with "
            f"mean {ours.mean():.3f}. Make a `FoalNetVideoProcessor` with fields that do the same."
        )


def _timm_fields(data_config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of timm's evaluation transform, where it resizes the shortest edge and crops the center."""
    if data_config is None:
        return {}
    height, width = data_config["input_size"][1:]
    return {
        **dict.fromkeys(_STEPS, True),
        "size": {"shortest_edge": int(min(height, width) / data_config["crop_pct"])},
        "resample": _TIMM_INTERPOLATIONS.get(data_config["interpolation"], data_config["interpolation"]),
        "crop_size": {"height": height, "width": width},
        "rescale_factor": 1 / 255,
        "image_mean": data_config["mean"],
        "image_std": data_config["std"],
        "crop_pct": None,
    }


def _larger_then_cropped(edge: int, crop_pct: float) -> dict[str, Any]:
    """ConvNeXt's: resized so that the crop is this share of the shortest edge; large images are squashed instead."""
    square = {"height": edge, "width": edge}
    if edge >= _WARPED_EDGE:
        return {"size": square}
    return {"size": {"shortest_edge": int(edge / crop_pct)}, "do_center_crop": True, "crop_size": square}


def _shifted_and_divided(given: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """ViViT's `offset` and EfficientNet's `rescale_offset`, minus 1 after rescaling; EfficientNet's second division.

    ((x - 1) - mean) / std / std is (x - (mean + 1)) / std^2.
    """
    is_shifted = bool(given.get("rescale_offset") or given.get("offset")) and fields["do_rescale"]
    is_divided_again = bool(given.get("include_top"))
    if not (is_shifted or is_divided_again):
        return {}
    normalizes = fields["do_normalize"]
    mean = fields["image_mean"] if normalizes else [0.0] * 3
    std = fields["image_std"] if normalizes else [1.0] * 3
    return {
        "do_normalize": True,
        "image_mean": [value + is_shifted for value in mean],
        "image_std": [a * b for a, b in zip(std, given["image_std"], strict=True)] if is_divided_again else list(std),
    }


__all__ = ["IMAGE_PROCESSOR_FIELDS", "check_same_values", "load_image_processor", "processor_fields"]
