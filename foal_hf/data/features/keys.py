"""The names under which features are kept: digests of everything that they depend on.

A clip whose file, range, crop box, image encoder, frame rate or preprocessing has changed has another key, so it can
never meet the features that it had before. Batch size and device change results by rounding only, and are left out.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers.image_utils import SizeDict

from ...corpora.schema import undecoded
from .contents import ContentDigests, append_record, read_records


# To be raised whenever this package comes to take other frames, or other pixels, from the same row with the same
# settings: all features are then computed anew.
_READING_VERSION = 1
# What a video processor can be set to that changes the numbers of a frame, or which frames are taken.
_PREPROCESSING = (
    "frames_per_second",
    "max_seconds",
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
_PICTURE_COLUMNS = ("clip_id", "video", "start_seconds", "end_seconds", "crop_box")
_SOUND_COLUMNS = ("audio", "audio_start_seconds")
# What a config says of itself that has no part in the numbers of the encoder.
_NO_PART_OF_AN_ENCODER = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_SETTINGS = "settings.jsonl"


class FeatureKeys:
    """The key of each clip, for one image encoder and one way of preprocessing.

    Args:
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): Has the image encoder.
        processor ([`FoalNetProcessor`]): Reads the clips.
        store_dir (`str` or `os.PathLike`): Folder of the store, where the digests of files are remembered.

    Raises:
        ValueError: If the image encoder is trained along with the model.
    """

    def __init__(self, model: Any, processor: Any, store_dir: str | os.PathLike[str]) -> None:
        base = base_model(model)
        if not base.config.freeze_vision_encoder:
            raise ValueError(
                "The image encoder of this model is trained (`freeze_vision_encoder` is False in its config), so its "
                "features change with every step and cannot be stored. Read the pictures instead, or freeze it: load "
                "the model with `freeze_vision_encoder=True`."
            )
        self.settings: dict[str, Any] = {
            "reading_version": _READING_VERSION,
            "encoder": encoder_digest(base),
            **{name: _plain(getattr(processor.video_processor, name)) for name in _PREPROCESSING},
        }
        self._settings_digest = _digest(self.settings)
        self._settings_file = Path(store_dir) / _SETTINGS
        self.contents = ContentDigests(store_dir)

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The key of a row's picture, 32 hexadecimal digits; None where the row names no picture.

        Raises:
            MediaError: If its content is not at hand.
        """
        source = row.get("video")
        if source is None:
            return None
        box, end = row.get("crop_box"), row.get("end_seconds")
        clip = {
            "content": self.contents.digest(source),
            "start_seconds": float(row.get("start_seconds") or 0.0),
            "end_seconds": None if end is None else float(end),
            "crop_box": None if box is None else [int(edge) for edge in box],
            "settings": self._settings_digest,
        }
        return _digest(clip)[:32]

    def note_settings(self) -> None:
        """Leave a note in the store of what its features are made with, for [`FeatureKeys.difference`]."""
        if self.settings not in read_records(self._settings_file):
            append_record(self._settings_file, self.settings)

    def difference(self) -> str:
        """In words, how the settings differ from the nearest that the store was made with; empty if they do not."""
        noted = [record for record in read_records(self._settings_file) if isinstance(record, dict)]
        if not noted or self.settings in noted:
            return ""
        differing = [[name for name, value in self.settings.items() if record.get(name) != value] for record in noted]
        names, nearest = min(zip(differing, noted, strict=True), key=lambda pair: len(pair[0]))
        return "; ".join(
            "another image encoder (or other weights of it)"
            if name == "encoder"
            else f"{name} = {nearest.get(name)}, and here it is {self.settings[name]}"
            for name in names
        )


def base_model(model: Any) -> Any:
    """The [`FoalNetModel`] inside a model with a head, or inside PEFT's or a parallel wrapper."""
    if hasattr(model, "get_base_model"):  # PEFT
        model = model.get_base_model()
    model = getattr(model, "module", model)  # DDP
    return model.base_model


def encoder_digest(model: Any) -> str:
    """SHA-256 of a model's image encoder: its weights, its config, and how a frame becomes one vector."""
    base = base_model(model)
    config = base.config.vision_config.to_diff_dict()
    about = {name: value for name, value in config.items() if name not in _NO_PART_OF_AN_ENCODER}
    tensors = sorted(base.vision_encoder.state_dict().items())
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        digests = list(pool.map(lambda item: _tensor_digest(item[1]), tensors))
    weights = {name: digest for (name, _), digest in zip(tensors, digests, strict=True)}
    return _digest({"config": about, "pooling": base.config.vision_pooling, "weights": weights})


def picture_rows(rows: Any, *, with_sound: bool = False) -> Any:
    """Rows of a corpus as they are stored, which opens no file, with the columns that tell their pictures.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): The corpus.
        with_sound (`bool`, defaults to `False`): With the columns of the sound as well.

    Raises:
        TypeError: If the rows come as a stream.
    """
    if not hasattr(rows, "__len__"):
        raise TypeError(f"Features belong to a corpus at hand: load it without streaming. Got {type(rows).__name__}.")
    if not hasattr(rows, "features"):
        return rows
    columns = (*_PICTURE_COLUMNS, *(_SOUND_COLUMNS if with_sound else ()))
    return undecoded(rows.with_format(None)).select_columns([name for name in columns if name in rows.features])


def _tensor_digest(tensor: torch.Tensor) -> str:
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A setting as JSON has it: transformers gives some as objects, enumerations or numpy numbers."""
    if isinstance(value, Mapping | SizeDict):
        return {name: _plain(entry) for name, entry in dict(value).items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | str) or value is None:
        return value
    return float(value)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


__all__ = ["FeatureKeys", "base_model", "encoder_digest", "picture_rows"]
