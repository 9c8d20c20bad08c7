"""Features of clips on disk, of video and of audio: float16, in memory-mapped safetensors shards.

    store/
      features-<digest of the checksums>.safetensors     one tensor (positions, width) per clip and side, by key
      files.jsonl                                        digests of media files, see `contents.py`
      settings.jsonl                                     encoder and preprocessing of the features, see `keys.py`

A shard is written completely or not at all, and never changed. Its header holds a checksum of every clip, and its name
is the digest of these checksums, so any damage is found. There is no index that could disagree with the shards, and no
lock that a killed process could leave behind.
"""

import contextlib
import json
import logging
import os
import re
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...atomic_files import replacing
from ...identity import digest_of


_SHARD_NAME = re.compile(r"features-[0-9a-f]{32}\.safetensors")
_UNFINISHED_SECONDS = 3600.0  # an unfinished file that was not written to for so long belongs to a killed process

logger = logging.getLogger(__name__)


class FeatureStoreError(RuntimeError):
    """A store cannot be written, or a part of it is damaged."""


class FeatureStore:
    """Stored features of frozen encoders, by key (see [`~foal_hf.data.features.keys.FeatureKeys`]).

    It pickles as a path and opens its own memory maps after unpickling. Any number of processes and threads may write
    to one folder; [`FeatureStore.refresh`] finds what they have written.

    Args:
        store_dir (`str` or `os.PathLike`): Folder of the shards.

    Attributes:
        directory (`Path`): That folder.
        skipped (`dict[str, str]`): Clips that [`~foal_hf.embed`] skipped, with the reason; empty on a store that was
            opened otherwise.

    Raises:
        FileNotFoundError: If there is no such folder.

    Example:

    ```python
    >>> store = FeatureStore("features")
    >>> len(store), store.get(keys.key(row)).shape
    (5531, torch.Size([18, 768]))
    ```
    """

    def __init__(self, store_dir: str | os.PathLike[str]) -> None:
        self.directory = Path(store_dir)
        if not self.directory.is_dir():
            raise FileNotFoundError(f"There are no features in {self.directory}. Compute them with `foal-hf embed`.")
        self.skipped: dict[str, str] = {}
        self._shards: dict[str, _Shard] = {}
        self._shard_of: dict[str, _Shard] = {}
        self._unreadable: set[str] = set()
        self._checked: set[tuple[str, str]] = set()
        self.refresh()

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path]]:
        return type(self), (self.directory,)

    def __len__(self) -> int:
        """Sequences in the store: clips, counted once for each side."""
        return len(self._shard_of)

    def __contains__(self, key: object) -> bool:
        return key in self._shard_of

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._shard_of))

    @property
    def num_bytes(self) -> int:
        """Size of the shards on disk."""
        return sum((self.directory / name).stat().st_size for name in self._shards)

    def num_frames(self, key: str) -> int:
        """Frames (or positions of audio) of a clip, without reading them."""
        return self._shard_of[key].num_frames(key)

    def get(self, key: str) -> torch.Tensor:
        """The features of one clip. The first read compares them with their checksum.

        Args:
            key (`str`): From [`~foal_hf.data.features.keys.FeatureKeys`].

        Returns:
            `torch.Tensor` of shape `(positions, width)`, float16, in its own memory; 0 positions for a clip that has
            no video (or audio) in its range.

        Raises:
            KeyError: If it is not in the store.
            FeatureStoreError: If its shard is damaged.
        """
        shard = self._shard_of[key]
        if not self._is_intact(shard, key):
            raise FeatureStoreError(
                f"{self.directory / shard.name} is damaged: its content does not match its checksums. Run the same "
                "`foal-hf embed` command again: it computes this shard again, and nothing else."
            )
        return shard.file.get_tensor(key).clone()  # a view would take the whole shard along to another process

    def verify(self, keys: Iterable[str] | None = None) -> list[Path]:
        """Compare the stored features with their checksums.

        Args:
            keys (`Iterable[str]`, *optional*): Only these clips, as far as they are in the store. Default: all.

        Returns:
            `list[Path]`: The damaged shards. [`~foal_hf.data.features.embed`] removes those it needs, and computes
            their clips again.
        """
        if keys is None:
            clips = [(shard, key) for shard in self._shards.values() for key in shard.checksums]
        else:
            clips = [(self._shard_of[key], key) for key in keys if key in self._shard_of]
        damaged = {shard.name for shard, key in clips if not self._is_intact(shard, key)}
        return sorted(self.directory / name for name in damaged | self._unreadable)

    def refresh(self) -> None:
        """Find the shards that were written or removed since the store was opened."""
        names = {path.name for path in self.directory.iterdir() if _SHARD_NAME.fullmatch(path.name)}
        for name in names - set(self._shards) - self._unreadable:
            try:
                self._shards[name] = _Shard.open(self.directory / name)
            except FileNotFoundError:  # another process has just removed it
                names.discard(name)
            except (ValueError, SafetensorError) as error:
                self._unreadable.add(name)
                logger.warning("%s cannot be used (%s) and is skipped.", self.directory / name, error)
        self._unreadable &= names
        self._shards = {name: shard for name, shard in self._shards.items() if name in names}
        self._checked = {(name, key) for name, key in self._checked if name in names}
        self._shard_of = {key: shard for shard in self._shards.values() for key in shard.checksums}

    def write(self, features: Mapping[str, torch.Tensor]) -> Path:
        """Add a shard.

        Args:
            features (`Mapping[str, torch.Tensor]`): Of each clip, `(positions, width)`, float16.

        Returns:
            `Path`: The shard. It is completely on disk when this returns.

        Raises:
            ValueError: If the features have another type or shape.
            FeatureStoreError: If it cannot be written, as on a full disk. The store is then unchanged.
        """
        for key, tensor in features.items():
            if tensor.dtype != torch.float16 or tensor.ndim != 2:
                shape = tuple(tensor.shape)
                raise ValueError(f"Features are (positions, width), float16; {key!r} is {shape}, {tensor.dtype}.")
        # Cloned: safetensors refuses tensors that share memory, as slices of one pass of the encoder do.
        tensors = {key: features[key].detach().cpu().contiguous().clone() for key in sorted(features)}
        checksums = {key: _checksum(tensor) for key, tensor in tensors.items()}
        path = self.directory / _shard_name(checksums)
        try:
            with replacing(path) as partial:
                save_file(tensors, partial, metadata={"checksums": json.dumps(checksums)})
        except (OSError, SafetensorError) as error:  # safetensors turns what the disk says into its own error
            megabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
            raise FeatureStoreError(
                f"{megabytes:.1f} MB of features cannot be written to {self.directory} ({error}). The store is "
                "unchanged. Free some space, then run the same command again: it continues from there."
            ) from error
        self.refresh()
        return path

    def discard(self, shards: Iterable[Path]) -> None:
        """Remove these shards, and unfinished files of killed processes."""
        for path in shards:
            logger.warning("%s cannot be used and is removed; its clips are computed again.", path)
            path.unlink(missing_ok=True)
        for path in self.directory.glob(".features-*.partial.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                    path.unlink()
        self.refresh()

    def _is_intact(self, shard: "_Shard", key: str) -> bool:
        if (shard.name, key) not in self._checked:
            if _checksum(shard.file.get_tensor(key)) != shard.checksums[key]:
                return False
            self._checked.add((shard.name, key))
        return True


class _Shard(NamedTuple):
    """A shard that was opened, and the checksum of each of its clips."""

    name: str
    file: Any
    checksums: dict[str, str]

    @classmethod
    def open(cls, path: Path) -> "_Shard":
        """Open a shard.

        Raises:
            ValueError, SafetensorError: If its header is not the one that was written, or the file has another length.
        """
        file = safe_open(path, framework="pt")
        metadata = file.metadata() or {}
        if "checksums" not in metadata:
            raise ValueError("it was written by an earlier version, or is damaged")
        checksums = json.loads(metadata["checksums"])
        if path.name != _shard_name(checksums) or checksums.keys() != set(file.keys()):
            raise ValueError("its header is not the one that was written")
        return cls(path.name, file, checksums)

    def num_frames(self, key: str) -> int:
        return self.file.get_slice(key).get_shape()[0]


def _shard_name(checksums: Mapping[str, str]) -> str:
    return f"features-{digest_of(checksums)[:32]}.safetensors"


def _checksum(features: torch.Tensor) -> str:
    """CRC-32 of type, shape and values."""
    about = f"{features.dtype} {tuple(features.shape)}".encode()
    return f"{zlib.crc32(features.numpy().data, zlib.crc32(about)):08x}"


__all__ = ["FeatureStore", "FeatureStoreError"]
