"""Features computed elsewhere: read from files or arrays, checked, and padded into batches.

No file is ever executed: pickles are refused in every format.
"""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from .sources_foal_net import MediaError, source_name


SIDES = ("audio", "video")
FEATURE_FIELDS = ("audio_features", "video_features")
"""Keys of a row for features that are given as arrays."""
FEATURE_FILES = ("audio_features_file", "video_features_file")
"""Keys of a row, and columns of a corpus, for files of features."""

_BROKEN = (
    *(OSError, ValueError, EOFError, KeyError, IndexError, TypeError, RuntimeError, MemoryError),
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def has_features(row: Mapping[str, Any], side: str) -> bool:
    """Whether a row names features of one side, `"audio"` or `"video"`."""
    return any(row.get(name) is not None for name in _fields(side))


def features_of(row: Mapping[str, Any], side: str) -> torch.Tensor | None:
    """The features of one side of a row, as [`read_features`] returns them; None if it names none.

    Args:
        row (`Mapping`): With an array as `audio_features` (or `video_features`), or the path of a file as
            `audio_features_file` (or `video_features_file`).
        side (`"audio"` or `"video"`): The side.

    Raises:
        ValueError: If both are given.
        MediaError: As in [`read_features`].
    """
    given = {name: row[name] for name in _fields(side) if row.get(name) is not None}
    if len(given) > 1:
        raise ValueError(f"A row has {' and '.join(f'`{name}`' for name in given)}; give one of them.")
    return next((read_features(source, name) for name, source in given.items()), None)


def read_features(source: Any, name: str = "features") -> torch.Tensor:
    """Read the features of one clip.

    Args:
        source (`str`, `os.PathLike`, `numpy.ndarray`, `torch.Tensor` or nested lists): An array of numbers of floating
            point, `(positions, width)`, or the path of a `.npy`, `.npz`, `.pt`, `.pth` or `.safetensors` file that
            holds exactly one.
        name (`str`): What messages call an array.

    Returns:
        `torch.Tensor` of shape `(positions, width)`: Float32, on the CPU.

    Raises:
        MediaError: If the file cannot be read, is a pickle of anything but one tensor, holds several arrays, or the
            array has another rank, no position, another type, or values that are not finite.
    """
    if isinstance(source, str | os.PathLike):
        name = source_name(source)
        source = _load(Path(source), name)
    try:
        features = source if isinstance(source, torch.Tensor) else torch.as_tensor(np.asarray(source))
    except (TypeError, ValueError) as error:  # objects, ragged lists, numbers that torch does not have
        raise MediaError(name, f"is not an array of numbers ({_first_line(error)}).") from error
    shape = tuple(features.shape)
    if features.ndim != 2:
        raise MediaError(name, f"has the shape {shape}; expected (positions, width), one row for each point in time.")
    if 0 in shape:
        raise MediaError(name, f"is empty: its shape is {shape}. Leave the cell empty where a clip has none.")
    if features.dtype not in _FLOATS:
        kind = str(features.dtype).removeprefix("torch.")
        raise MediaError(name, f"holds numbers of type {kind}; expected floating point, as encoders give.")
    if features.layout != torch.strided or features.is_meta:
        raise MediaError(name, "is a sparse tensor, or one without data; expected a dense one.")
    features = features.detach().cpu()
    if features.isfinite().all() and features.abs().max() > torch.finfo(torch.float32).max:
        raise MediaError(name, "has values beyond the range of float32, in which the model computes.")
    if not features.isfinite().all():
        positions = (~features.isfinite()).any(dim=1).nonzero().flatten().tolist()
        raise MediaError(
            name,
            f"has NaN or infinite values at {len(positions)} of {shape[0]} positions, the first at {positions[0]}.",
        )
    return features.to(torch.float32)


def pad_features(sequences: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of several clips as one batch.

    Args:
        sequences (`Sequence[torch.Tensor]`): Of each clip `(positions, width)`, or None; not all None.

    Returns:
        The features `(batch, positions, width)`, 0 at padding, and their mask `(batch, positions)`, 1 for real
        positions and 0 for padding.

    Raises:
        ValueError: If the widths differ.
    """
    present = [sequence for sequence in sequences if sequence is not None]
    widths = sorted({sequence.shape[1] for sequence in present})
    if len(widths) > 1:
        raise ValueError(f"The features of a batch are {' and '.join(map(str, widths))} wide: not of one extractor.")
    padded = pad_sequence([present[0][:0] if each is None else each for each in sequences], batch_first=True)
    lengths = torch.tensor([0 if sequence is None else len(sequence) for sequence in sequences])
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long()


def _fields(side: str) -> tuple[str, str]:
    return f"{side}_features", f"{side}_features_file"


def _load(path: Path, name: str) -> Any:
    """The only array of a file."""
    read = {".npy": _read_npy, ".npz": _read_npz, ".pt": _read_pt, ".pth": _read_pt, ".safetensors": _read_safetensors}
    suffix = path.suffix.lower()
    if suffix not in read:
        raise MediaError(name, f"is not a file of features; expected one of {', '.join(read)}.")
    if not path.is_file():
        raise MediaError(name, "no such file.")
    try:
        arrays = read[suffix](path)
    except _BROKEN as error:
        raise MediaError(
            name, f"cannot be read as {suffix} ({_first_line(error)}). Pickled objects are never loaded."
        ) from error
    if isinstance(arrays, Mapping):
        if len(arrays) != 1:
            names = ", ".join(map(str, arrays)) or "none"
            raise MediaError(name, f"must hold one array, but has {len(arrays)}: {names}. Save only the features.")
        return next(iter(arrays.values()))
    return arrays


def _read_npy(path: Path) -> Any:
    # Mapped, so that a header cannot ask for more memory than the file has. It refuses objects.
    return np.array(np.lib.format.open_memmap(path, mode="r"))


def _read_npz(path: Path) -> Any:
    with path.open("rb") as file, np.load(file) as arrays:  # opened here: numpy leaves a broken file open
        names = list(arrays)
        return arrays[names[0]] if len(names) == 1 else dict.fromkeys(names)


def _read_pt(path: Path) -> Any:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(loaded, torch.Tensor | Mapping):
        return loaded
    raise ValueError(f"it holds a {type(loaded).__name__}, not a tensor")


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _first_line(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError) or "allow_pickle" in str(error):
        return "it holds Python objects, not one array of numbers"  # torch and numpy say how to load them all the same
    text = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return text[0].rstrip(".")[:200]


__all__ = ["FEATURE_FIELDS", "FEATURE_FILES", "SIDES", "features_of", "has_features", "pad_features", "read_features"]
