"""Keys of stored features: digests of everything the features depend on.

A clip whose file, range, crop box, image encoder, frame rate or preprocessing has changed gets another key, so it never
matches its old features. Batch size and device only change rounding and are not part of the key.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...corpora.schema import undecoded
from ...foal_net.rows_foal_net import check_columns
from ...identity import READING_VERSION, digest_of, digest_of_tensors
from .contents import ContentDigests, append_record, read_records


# Fields of a video processor that change the values of a frame, or which frames are read.
_PREPROCESSING = (
    *("frames_per_second", "max_seconds", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std"),
)
_VIDEO_COLUMNS = ("clip_id", "video", "start_seconds", "end_seconds", "crop_box")
_AUDIO_COLUMNS = ("audio", "audio_start_seconds")
# Entries of an encoder's config that do not change its outputs.
_NO_PART_OF_AN_ENCODER = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_SETTINGS = "settings.jsonl"


class FeatureKeys:
    """The key of each clip, for one image encoder and one preprocessing.

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
                "This model trains its image encoder (`freeze_vision_encoder` is False in its config), so the features "
                "change with every step and cannot be stored. Read the video instead, or load the model with "
                "`freeze_vision_encoder=True`."
            )
        fields = processor.video_processor.to_dict()
        # All numbers as floats: 5 and 5.0 are the same setting.
        preprocessing = json.loads(json.dumps({name: fields[name] for name in _PREPROCESSING}), parse_int=float)
        self.settings: dict[str, Any] = {
            "reading_version": READING_VERSION,
            "encoder": encoder_digest(base),
            **preprocessing,
        }
        self._settings_digest = digest_of(self.settings)
        self._settings_file = Path(store_dir) / _SETTINGS
        self.contents = ContentDigests(store_dir)

    def key(self, row: Mapping[str, Any]) -> str | None:
        """The key of a row's video, 32 hexadecimal digits; None where the row names no video.

        Raises:
            MediaError: If the content cannot be read.
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
        return digest_of(clip)[:32]

    def record_settings(self) -> None:
        """Write the settings into the store, for [`FeatureKeys.difference`]."""
        if self.settings not in read_records(self._settings_file):
            append_record(self._settings_file, self.settings)

    def difference(self) -> str:
        """In words, how the settings differ from the most similar ones of the store; empty if they do not."""
        records = [record for record in read_records(self._settings_file) if isinstance(record, dict)]
        if not records or self.settings in records:
            return ""
        differing = [[name for name, value in self.settings.items() if record.get(name) != value] for record in records]
        names, nearest = min(zip(differing, records, strict=True), key=lambda pair: len(pair[0]))
        return "; ".join(
            "another image encoder (or other weights of it)"
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


def encoder_digest(model: Any) -> str:
    """SHA-256 of an image encoder: its weights, its config, and the pooling of a frame into one vector."""
    base = base_model(model)
    config = base.config.vision_config.to_diff_dict()
    return digest_of(
        {
            "config": {name: value for name, value in config.items() if name not in _NO_PART_OF_AN_ENCODER},
            "pooling": base.config.vision_pooling,
            **({"window_frames": window} if (window := base.config.vision_window_frames) else {}),
            "weights": digest_of_tensors(base.vision_encoder.state_dict()),
        }
    )


def video_rows(rows: Any, *, with_audio: bool = False) -> Any:
    """Rows of a corpus as they are stored, which opens no file, with the columns that describe their video.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): The corpus.
        with_audio (`bool`, defaults to `False`): Keep the columns of the audio as well.

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
    columns = (*_VIDEO_COLUMNS, *(_AUDIO_COLUMNS if with_audio else ()))
    return undecoded(rows.with_format(None)).select_columns([name for name in columns if name in rows.features])


__all__ = ["FeatureKeys", "base_model", "encoder_digest", "video_rows"]
