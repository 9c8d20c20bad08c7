"""Rows: a dict that names the media of one clip and its range. A key that is not known is an error, never ignored."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from .features_foal_net import FEATURE_FIELDS, FEATURE_FILES


MEDIA_FIELDS = ("audio", "video")
RANGE_FIELDS = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box")
CLIP_FIELDS = (*MEDIA_FIELDS, *RANGE_FIELDS, "sampling_rate", *FEATURE_FIELDS, *FEATURE_FILES)
"""What a row may say of its clip."""
# Of `datasets`, and of other pipelines.
_SOURCE_FIELDS = ("path", "bytes", "array", "raw", "sampling_rate", "stream_index")
_SIMILARITY = 0.85  # from here on, the name of a column is a misspelled field and not another column


def check_columns(columns: Iterable[str]) -> None:
    """Raise `ValueError` for a column whose name is almost that of a field of a clip.

    Tables have columns for other purposes, which are not read; a misspelled field must not be one of them.
    """
    others = [name for name in columns if name not in CLIP_FIELDS]
    _refuse([name for name in others if difflib.get_close_matches(name, CLIP_FIELDS, 1, _SIMILARITY)], CLIP_FIELDS)


def checked_source(source: Any) -> Any:
    """What `MediaFile` reads: `{"raw", "sampling_rate"}` as `{"array", "sampling_rate"}`, all others unchanged.

    Raises:
        ValueError: If a row of a media column has other keys.
    """
    if not isinstance(source, dict) or not source.keys() & {"path", "bytes", "array", "raw"}:
        return source
    _refuse([key for key in source if key not in _SOURCE_FIELDS], _SOURCE_FIELDS)
    source = dict(source)
    if "raw" in source:
        source["array"] = source.pop("raw")
    return source


def source_and_settings(inputs: Any, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What to read, as arguments of `MediaFile`, and the settings updated with those of the row.

    A file (path, URL, bytes, file object) is read for its audio and its video. So is the video of a row or of a `Video`
    column, unless the row has the key `audio`. The audio of a row or of an `Audio` column is audio only, even where its
    file has video too.
    """
    if hasattr(inputs, "get_samples_played_in_range"):  # what an `Audio` column gives
        return {"audio": inputs}, dict(settings)
    if not isinstance(inputs, dict):
        return {"source": inputs}, dict(settings)
    settings = settings | given({name: inputs.get(name) for name in (*RANGE_FIELDS, "sampling_rate")})
    if inputs.keys() & set(MEDIA_FIELDS):
        _refuse([key for key in inputs if key not in CLIP_FIELDS], CLIP_FIELDS)
        if "audio" in inputs:
            return {"audio": checked_source(inputs["audio"]), "video": checked_source(inputs.get("video"))}, settings
        return {"source": checked_source(inputs["video"])}, settings
    source = {key: value for key, value in inputs.items() if key not in RANGE_FIELDS}
    if not source.keys() & set(_SOURCE_FIELDS):
        raise ValueError(f"A row must have `audio` or `video`, got the keys {', '.join(map(str, inputs))}.")
    return {"source": checked_source(source)}, settings


def names_features(inputs: Any) -> bool:
    """Whether `inputs` are a row with features of a clip, computed elsewhere.

    Raises:
        ValueError: If it has keys that are not known.
    """
    names = (*FEATURE_FIELDS, *FEATURE_FILES)
    if not isinstance(inputs, dict) or all(inputs.get(name) is None for name in names):
        return False
    _refuse([key for key in inputs if key not in CLIP_FIELDS], CLIP_FIELDS)
    return True


def check_sampling_rate_given(audio: Any, sampling_rate: int | None) -> None:
    """Raise `ValueError` for audio that is an array of unknown rate."""
    is_list_of_numbers = isinstance(audio, list | tuple) and bool(audio) and isinstance(audio[0], int | float)
    if sampling_rate is None and (is_list_of_numbers or getattr(audio, "ndim", None) in (1, 2)):
        raise ValueError(
            "Audio given as an array needs `sampling_rate`, its rate in Hz: a wrong guess would not be noticed."
        )


def given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are not None."""
    return {name: value for name, value in arguments.items() if value is not None}


def _refuse(unknown: Sequence[Any], known: Sequence[str]) -> None:
    if not unknown:
        return
    guesses = {str(name): difflib.get_close_matches(str(name), known, 1) for name in unknown}
    named = [f"`{name}`" + "".join(f" (did you mean `{guess}`?)" for guess in guesses[name]) for name in guesses]
    raise ValueError(
        f"Unknown key of a row: {', '.join(named)}. A row may have {', '.join(known)}; rename or remove the others."
    )


__all__ = [
    "CLIP_FIELDS",
    "MEDIA_FIELDS",
    "RANGE_FIELDS",
    "check_columns",
    "check_sampling_rate_given",
    "checked_source",
    "given",
    "names_features",
    "source_and_settings",
]
