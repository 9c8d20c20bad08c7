"""Features of clips on the disk: float16, in safetensors shards that are memory-mapped.

    store/
      features-<digest of the header>.safetensors     one tensor (frames, video_width) a clip, named by its key
      files.jsonl                                     digests of media files (see `keys.py`)

A shard is written under another name, renamed once it is whole, and never changed again. Its name is the digest of its
header, and the header holds the checksum of every clip: so whatever is damaged is found. There is no index beside the
shards that could disagree with them, and no lock that a killed process could leave behind.

Shards of safetensors rather than Arrow: both are read about as fast as memory is copied, and the header costs some 100
bytes a clip of 40,000; in return the files open anywhere, and a header is a place for digests.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch


_SHARD_NAME = re.compile(r"features-[0-9a-f]{32}\.safetensors")
_UNFINISHED = "unfinished-"
_UNFINISHED_SECONDS = 3600.0  # a file of this name that nobody has written to for so long is a killed process'

logger = logging.getLogger(__name__)


class FeatureStoreError(RuntimeError):
    """A store that cannot be written, or of which a part is damaged."""


class FeatureStore:
    """What an image encoder gave for the frames of clips, by key (see [`~foal_hf.data.features.keys.FeatureKeys`]).

    It pickles as a path, and opens its own memory maps where it arrives. Any number of processes and threads may write
    to one folder; what they have written since it was opened is seen after [`FeatureStore.refresh`].

    Args:
        store_dir (`str` or `os.PathLike`): Folder of the shards.

    Attributes:
        directory (`Path`): That folder.
        skipped (`dict[str, str]`): What [`~foal_hf.embed`] left out, and why; empty on a store that was opened
            otherwise.

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
            raise FileNotFoundError(f"There are no features in {self.directory}; `foal-hf embed` makes them.")
        self.skipped: dict[str, str] = {}
        self._shards: dict[str, dict[str, _Entry]] = {}
        self._entries: dict[str, _Entry] = {}
        self._unreadable: set[str] = set()
        self._maps: dict[str, torch.Tensor] = {}
        self._checked: set[_Entry] = set()
        self.refresh()

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path]]:
        return type(self), (self.directory,)

    def __len__(self) -> int:
        """Clips in the store."""
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._entries))

    @property
    def num_bytes(self) -> int:
        """Size of the shards on the disk."""
        return sum((self.directory / name).stat().st_size for name in self._shards)

    def num_frames(self, key: str) -> int:
        """Frames of a clip, without reading them."""
        return self._entries[key].num_frames

    def get(self, key: str) -> torch.Tensor:
        """The features of one clip; compared with their checksum when this object first reads them.

        Args:
            key (`str`): From [`~foal_hf.data.features.keys.FeatureKeys`].

        Returns:
            `torch.Tensor` of shape `(frames, video_width)`, float16, in memory of its own; 0 frames for a clip that
            turned out to have no picture.

        Raises:
            KeyError: If it is not in the store.
            FeatureStoreError: If its shard is damaged, or has gone since the store was opened.
        """
        entry = self._entries[key]
        if not self._is_intact(entry):
            raise FeatureStoreError(
                f"{self.directory / entry.shard} is damaged: what it holds is not what was written. Run `foal-hf "
                "embed` once more, as before: it computes this shard anew, and nothing else."
            )
        # A copy: a view would take the whole shard along where it is sent to another process.
        return self._stored(entry).view(torch.float16).view(entry.num_frames, entry.width).clone()

    def verify(self, keys: Iterable[str] | None = None) -> list[Path]:
        """Compare what is stored with its checksums.

        Args:
            keys (`Iterable[str]`, *optional*): Only those clips, as far as they are there. Default: all.

        Returns:
            `list[Path]`: The damaged shards. [`~foal_hf.data.features.embed`] removes those that it needs, and computes
            their clips anew.
        """
        if keys is None:
            entries = [entry for shard in self._shards.values() for entry in shard.values()]
        else:
            entries = [self._entries[key] for key in keys if key in self._entries]
        damaged = {entry.shard for entry in entries if not self._is_intact(entry)}
        return sorted(self.directory / name for name in damaged | self._unreadable)

    def refresh(self) -> None:
        """Take in the shards that were written, and forget those that were removed, since the store was opened."""
        names = {path.name for path in self.directory.iterdir() if _SHARD_NAME.fullmatch(path.name)}
        for name in names - set(self._shards) - self._unreadable:
            try:
                self._shards[name] = _read_header(self.directory / name)
            except FileNotFoundError:  # another process has just removed it
                names.discard(name)
            except ValueError as error:
                self._unreadable.add(name)
                logger.warning("%s is damaged (%s) and is left aside.", self.directory / name, error)
        self._unreadable &= names
        self._shards = {name: shard for name, shard in self._shards.items() if name in names}
        self._maps = {name: stored for name, stored in self._maps.items() if name in names}
        self._checked = {entry for entry in self._checked if entry.shard in names}
        self._entries = {key: entry for shard in self._shards.values() for key, entry in shard.items()}

    def write(self, features: Mapping[str, torch.Tensor]) -> Path:
        """Add a shard.

        Args:
            features (`Mapping[str, torch.Tensor]`): Of each clip, `(frames, video_width)`, float16.

        Returns:
            `Path`: The shard. It is on the disk, whole, when this returns.

        Raises:
            ValueError: If they are of another type or layout.
            FeatureStoreError: If it cannot be written, as on a full disk. The store is then as it was.
        """
        for key, tensor in features.items():
            if tensor.dtype != torch.float16 or tensor.ndim != 2:
                shape = tuple(tensor.shape)
                raise ValueError(f"Features are (frames, video_width), float16; {key!r} is {shape}, {tensor.dtype}.")
        tensors = {key: features[key].detach().cpu().contiguous() for key in sorted(features)}
        header = _make_header(tensors)
        path = self.directory / _shard_name(header)
        unfinished = self.directory / f"{_UNFINISHED}{uuid.uuid4().hex}"
        try:
            with open(unfinished, "xb") as file:
                file.write(header)
                for tensor in tensors.values():
                    file.write(tensor.numpy().data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            _sync_directory(self.directory)
        except OSError as error:
            megabytes = sum(tensor.nbytes for tensor in tensors.values()) / 1e6
            raise FeatureStoreError(
                f"{megabytes:.1f} MB of features cannot be written to {self.directory} ({error.strerror}). What "
                "it held before is as it was: make room, then run the same command again, and it goes on from there."
            ) from error
        finally:
            unfinished.unlink(missing_ok=True)
        self.refresh()
        return path

    def discard(self, shards: Iterable[Path]) -> None:
        """Remove these shards, and what killed processes have left unfinished."""
        for path in shards:
            logger.warning("%s is damaged and is removed; its clips are computed anew.", path)
            path.unlink(missing_ok=True)
        for path in self.directory.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                    path.unlink()
        self.refresh()

    def _is_intact(self, entry: "_Entry") -> bool:
        if entry in self._checked:
            return True
        stored = self._stored(entry)
        if len(stored) != entry.num_bytes or _checksum(stored) != entry.checksum:
            return False
        self._checked.add(entry)
        return True

    def _stored(self, entry: "_Entry") -> torch.Tensor:
        """The bytes of an entry, on the disk."""
        path = self.directory / entry.shard
        if entry.shard not in self._maps:
            try:
                # Private pages: the file is never written to, and no file handle stays open for each shard.
                self._maps[entry.shard] = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
            except (OSError, RuntimeError) as error:
                raise FeatureStoreError(
                    f"{path} can no longer be read: it was removed after the store had been opened. Open it again."
                ) from error
        return self._maps[entry.shard][entry.offset : entry.offset + entry.num_bytes]


class _Entry(NamedTuple):
    """Where one clip's features lie."""

    shard: str
    offset: int
    num_frames: int
    width: int
    checksum: int

    @property
    def num_bytes(self) -> int:
        return self.num_frames * self.width * torch.float16.itemsize


def _read_header(path: Path) -> dict[str, _Entry]:
    """The entries of a shard.

    Raises:
        ValueError: If the header is not the one that was written, or the file has another length than it says.
    """
    with open(path, "rb") as file:
        prefix = file.read(8)
        file_bytes = os.fstat(file.fileno()).st_size
        header_bytes = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or header_bytes > file_bytes:
            raise ValueError("it is cut off")
        header = file.read(header_bytes)
    if path.name != _shard_name(prefix + header):
        raise ValueError("its header is not the one that was written")
    tensors = json.loads(header)
    checksums = tensors.pop("__metadata__")
    if file_bytes != 8 + header_bytes + max(tensor["data_offsets"][1] for tensor in tensors.values()):
        raise ValueError("it is cut off, or something was added")
    entries = {}
    for key, tensor in tensors.items():
        num_frames, width = tensor["shape"]
        offset = 8 + header_bytes + tensor["data_offsets"][0]
        entries[key] = _Entry(path.name, offset, num_frames, width, int(checksums[key], 16))
    return entries


def _make_header(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The first part of a safetensors file: its own length and JSON. Tensors follow in the order of this mapping.

    The library would copy all tensors into one piece of memory first, and give metadata an order by chance.
    """
    entries: dict[str, object] = {}
    offset = 0
    for key, tensor in tensors.items():
        entries[key] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    checksums = {key: f"{_checksum(tensor.flatten().view(torch.uint8)):08x}" for key, tensor in tensors.items()}
    text = json.dumps({"__metadata__": checksums, **entries}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the format aligns tensors to 8 bytes
    return len(text).to_bytes(8, "little") + text


def _shard_name(header: bytes) -> str:
    return f"features-{hashlib.sha256(header).hexdigest()[:32]}.safetensors"


def _checksum(stored: torch.Tensor) -> int:
    return zlib.crc32(stored.numpy().data)


def _sync_directory(directory: Path) -> None:
    """Make a new name in a folder outlast a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


__all__ = ["FeatureStore", "FeatureStoreError"]
