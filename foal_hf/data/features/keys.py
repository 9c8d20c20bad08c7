"""Keys of stored features: digests of everything the features depend on.

A clip whose file, range, crop box, encoder, rate or preprocessing has changed gets another key, so it never matches its
old features. Batch size and device only change rounding and are not part of the key. Features of audio and of video
have different keys, and lie in one store.
"""

import contextlib
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from ...corpora.schema import undecoded
from ...foal_net.rows_foal_net import check_columns
from ...foal_net.vision_encoders_foal_net import is_trained
from ...identity import READING_VERSION, digest_of, digest_of_tensors, without_provenance
from .contents import ContentDigests, append_record, read_records


# Fields of a video processor that change the values of a frame, or which frames are read.
_PREPROCESSING = (
    *("frames_per_second", "max_seconds", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
_OF_FACES = ("crop", "crop_margin")  # of a processor that crops faces
_CLIP_COLUMNS = ("clip_id", "start_seconds", "end_seconds")
_COLUMNS = {"audio": ("audio", "audio_start_seconds"), "video": ("video", "crop_box")}
# Entries of an encoder's config that do not change its outputs.
_NO_PART_OF_AN_ENCODER = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_SETTINGS = "settings.jsonl"
Side = Literal["audio", "video"]
# The encoder of each side in words, its name in a model, and that of its config.
_ENCODERS: dict[Side, tuple[str, str, str]] = {
    "audio": ("audio encoder", "audio_encoder", "audio_config"),
    "video": ("image encoder", "vision_encoder", "vision_config"),
}


class FeatureKeys:
    """The key of each clip, for one encoder and one preprocessing.

    Args:
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): Has the encoder.
        processor ([`FoalNetProcessor`]): Reads the clips.
        store_dir (`str` or `os.PathLike`): Folder of the store, where the digests of files are remembered.
        side (`"audio"` or `"video"`, defaults to `"video"`): Of which encoder the features are.

    Raises:
        ValueError: If the model has no such encoder, or trains it.
    """

    def __init__(self, model: Any, processor: Any, store_dir: str | os.PathLike[str], side: Side = "video") -> None:
        base = base_model(model)
        check_storable(base, side)
        self.side = side
        self.settings: dict[str, Any] = {
            "reading_version": READING_VERSION,
            "encoder": encoder_digest(base, side),
            # All numbers as floats: 5 and 5.0 are the same setting.
            **json.loads(json.dumps(_preprocessing(processor, side)), parse_int=float),
        }
        self._settings_digest = digest_of(self.settings)
        self._settings_file = Path(store_dir) / _SETTINGS
        self.contents = ContentDigests(store_dir)

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The key of a row's audio or video, 32 hexadecimal digits; None where the row names none.

        Raises:
            MediaError: If the content cannot be read.
        """
        source = row.get(self.side)
        if source is None:
            return None
        end = row.get("end_seconds")
        clip = {
            "content": self.contents.digest(source, self.side),
            "start_seconds": float(row.get("start_seconds") or 0.0),
            "end_seconds": None if end is None else float(end),
            "settings": self._settings_digest,
        }
        if self.side == "video":
            box = row.get("crop_box")
            clip["crop_box"] = None if box is None else [int(edge) for edge in box]
        else:
            start, rate = row.get("audio_start_seconds"), row.get("sampling_rate")
            clip["audio_start_seconds"] = None if start is None else float(start)
            clip["sampling_rate"] = None if rate is None else float(rate)
        if isinstance(source, Mapping) and source.get("stream_index") is not None:
            clip["stream_index"] = source["stream_index"]
        return digest_of(clip)[:32]

    def record_settings(self) -> None:
        """Write the settings into the store, for [`FeatureKeys.difference`]."""
        if self.settings not in read_records(self._settings_file):
            append_record(self._settings_file, self.settings)

    def is_recorded(self) -> bool:
        """Whether features with these settings were stored, or began to be."""
        return self.settings in read_records(self._settings_file)

    def difference(self) -> str:
        """In words, how the settings differ from the most similar ones of this side; empty if they do not."""
        records = [record for record in read_records(self._settings_file) if isinstance(record, dict)]
        records = [record for record in records if record.get("side", "video") == self.side]
        if not records:
            return f"it holds nothing of the {self.side}"
        if self.settings in records:
            return ""
        differing = [[name for name, value in self.settings.items() if record.get(name) != value] for record in records]
        names, nearest = min(zip(differing, records, strict=True), key=lambda pair: len(pair[0]))
        return "; ".join(
            f"another {_ENCODERS[self.side][0]} (or other weights of it)"
            if name == "encoder"
            else f"{name} was {nearest.get(name)}, now {self.settings[name]}"
            for name in names
        )


def base_model(model: Any) -> Any:
    """The [`FoalNetModel`] inside a model with a head, or inside a wrapper of PEFT or DDP."""
    if hasattr(model, "get_base_model"):  # PEFT
        model = model.get_base_model()
    model = getattr(model, "module", model)  # DDP
    return model.base_model


def check_storable(base: Any, side: Side) -> None:
    """Raise `ValueError` if a model has no encoder of this side, or trains it."""
    words, name, _ = _ENCODERS[side]
    encoder = getattr(base, name)
    if encoder is None:
        raise ValueError(
            f"This model has no {words}: it takes {base.config.describe_features(side)}, which are computed elsewhere."
        )
    if side == "video" and not base.config.freeze_vision_encoder:
        raise ValueError(
            "This model trains its image encoder (`freeze_vision_encoder` is False in its config), so the features "
            "change with every step and cannot be stored. Read the video instead, or load the model with "
            "`freeze_vision_encoder=True`."
        )
    if side == "audio" and is_trained(encoder):
        raise ValueError(
            "This model trains its audio encoder (some of its parameters require gradients), so the features change "
            "with every step and cannot be stored. Read the audio instead, or load the model with "
            "`freeze_audio_encoder=True`."
        )
    weights = base.audio_layer_weights
    if side == "audio" and weights is not None and weights.requires_grad:
        raise ValueError(
            "This model learns the weights of the layers of its audio encoder (`audio_layers`), so the features change "
            "with every step and cannot be stored. Read the audio instead, or freeze them too: "
            "`audio_layer_weights.requires_grad_(False)`."
        )


def storable_sides(model: Any) -> list[Side]:
    """The sides whose encoder is there and frozen, with the weights of its layers."""
    base, sides = base_model(model), []
    for side in _ENCODERS:
        with contextlib.suppress(ValueError):
            check_storable(base, side)
            sides.append(side)
    return sides


def encoder_digest(model: Any, side: Side = "video") -> str:
    """SHA-256 of an encoder: its weights, its config, and how its output becomes one vector for each position."""
    base = base_model(model)
    _, name, config_name = _ENCODERS[side]
    config = getattr(base.config, config_name).to_diff_dict()
    reduction: dict[str, Any] = {}
    if side == "video":
        reduction["pooling"] = base.config.vision_pooling
        if window := base.config.vision_window_frames:
            reduction["window_frames"] = window
    elif base.audio_layer_weights is not None:
        reduction["layers"] = base.config.audio_layers
        reduction["layer_weights"] = digest_of_tensors({"weights": base.audio_layer_weights})
    return digest_of(
        {
            "config": {name: value for name, value in config.items() if name not in _NO_PART_OF_AN_ENCODER},
            **reduction,
            "weights": digest_of_tensors(getattr(base, name).state_dict()),
        }
    )


def media_rows(rows: Any, sides: Collection[Side] = ("audio", "video")) -> Any:
    """Rows of a corpus as they are stored, which opens no file, with the columns that describe their media.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): The corpus.
        sides (`Collection[str]`, defaults to both): Keep the columns of these.

    Raises:
        TypeError: If the rows are a stream.
        ValueError: If a column is a misspelled field of a clip.
    """
    if not hasattr(rows, "__len__"):
        raise TypeError(f"Expected a corpus that was loaded without streaming, got {type(rows).__name__}.")
    is_corpus = hasattr(rows, "features")
    check_columns(rows.column_names if is_corpus else {name for row in rows for name in row})
    if not is_corpus:
        return rows
    columns = (*_CLIP_COLUMNS, *(name for side in sides for name in _COLUMNS[side]))
    return undecoded(rows.with_format(None)).select_columns([name for name in columns if name in rows.features])


def _preprocessing(processor: Any, side: Side) -> dict[str, Any]:
    """The settings of a processor that change what the encoder of a side gets."""
    if side == "video":
        fields = processor.video_processor.to_dict()
        return {name: fields[name] for name in (*_PREPROCESSING, *_OF_FACES) if name in fields}
    extractor = without_provenance(processor.feature_extractor.to_dict())
    return {"side": "audio", "max_seconds": processor.max_seconds, "feature_extractor": extractor}


__all__ = ["FeatureKeys", "Side", "base_model", "encoder_digest", "media_rows", "storable_sides"]
