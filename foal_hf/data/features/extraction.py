"""Runs the frozen image encoder over the pictures of a corpus, once, and keeps what it gives.

Workers decode; the main process encodes, in passes of equally many frames whatever the lengths of the clips, and writes
a shard at a time.
"""

import logging
import math
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ...foal_net.encoders_foal_net import encode_pictures
from ...foal_net.media_foal_net import MediaFile
from ...foal_net.processing_foal_net import FoalNetProcessor
from ...foal_net.sources_foal_net import MediaError
from .contents import plain_source
from .keys import FeatureKeys, base_model, picture_rows
from .store import FeatureStore, FeatureStoreError


# A shard is written when it is this large or this old. It is what a killed run loses.
_SHARD_BYTES = 64 * 1024**2
_SHARD_SECONDS = 120.0

logger = logging.getLogger(__name__)


def embed(
    rows: Any,
    model: Any,
    processor: FoalNetProcessor,
    store_dir: str | os.PathLike[str],
    *,
    batch_frames: int = 64,
    num_workers: int = 1,
    progress: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    shard_bytes: int = _SHARD_BYTES,
    shard_seconds: float = _SHARD_SECONDS,
) -> FeatureStore:
    """Compute and store the features of a corpus' pictures, as far as the store does not hold them.

    It may be interrupted, or killed, at any moment, and goes on from there when it is called again; what is lost is the
    shard in the making. Called in several processes at once with one folder, it shares the work between them. A damaged
    shard is computed anew.

    The encoder runs where the model is, in the model's precision. On a GPU a call inside
    `torch.autocast("cuda", torch.float16)` is faster, and its features have the same keys.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): As in [`~foal_hf.data.ClipDataset`]; emotions are not looked
            at. `video` may be a path, bytes, a `datasets` row or decoder, or an array of pictures.
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): Has the image encoder, which has to be frozen.
        processor ([`FoalNetProcessor`]): The one that training will use.
        store_dir (`str` or `os.PathLike`): Folder of the store; made where it does not exist.
        batch_frames (`int`, defaults to 64): Frames in a pass of the encoder, of as many clips as it takes.
        num_workers (`int`, defaults to 1): Processes that decode while the encoder runs; 0 decodes in between.
        progress (`bool`, defaults to `True`): Show progress bars.
        on_error (`"raise"` or `"skip"`, defaults to `"raise"`): What to do about a clip that cannot be read. Those left
            out stand, with the reason, in `skipped` of the store.
        shard_bytes (`int`, defaults to 64 MiB): Size at which a shard is written.
        shard_seconds (`float`, defaults to 120): Age at which a shard is written that is not as large by then.

    Returns:
        [`FeatureStore`]: With features for every row that names a picture and was not left out.

    Raises:
        FeatureStoreError: If the disk is full, or is sure to be before the end.
        MediaError: If a clip cannot be read.
        TypeError: If the rows come as a stream, or the content of a picture cannot be told.
        ValueError: If the image encoder is trained along with the model, a feature is beyond the range of float16, or
            an argument makes no sense.

    Example:

    ```python
    >>> store = embed(load_corpus("iemocap", data_dir="IEMOCAP_full_release"), model, processor, "features")
    >>> len(store)
    5531
    ```
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` has to be 'raise' or 'skip', got {on_error!r}.")
    if batch_frames < 1 or num_workers < 0:
        raise ValueError(f"`batch_frames` has to be 1 or more, `num_workers` 0 or more: {batch_frames}, {num_workers}.")
    rows = picture_rows(rows, with_sound=True)
    keys = FeatureKeys(model, processor, store_dir)
    Path(store_dir).mkdir(parents=True, exist_ok=True)
    keys.note_settings()
    store = FeatureStore(store_dir)
    errors = _Errors(rows, store, on_error)

    keys.contents.read_ahead((row.get("video") for row in rows), num_threads=num_workers + 1, progress=progress)
    wanted = _wanted(rows, keys, errors)
    store.discard(store.verify(wanted.values()))
    missing = {index: key for index, key in wanted.items() if key not in store}
    if not missing:
        return store
    width = base_model(model).config.video_width
    _check_space(store, [rows[index] for index in missing], processor, width)
    with (
        tqdm(total=len(missing), desc="Encoding pictures", unit="clip", disable=not (progress and missing)) as bar,
        _ShardWriter(store, shard_bytes, shard_seconds) as writer,
    ):
        decoded = DataLoader(
            _Pictures(rows, processor),
            batch_size=None,
            sampler=_still_missing(missing, store, bar),
            num_workers=num_workers,
            collate_fn=_as_it_is,
        )
        readable = _readable(decoded, rows, keys, errors)
        for index, features in _encoded(readable, _encoder(model, processor), batch_frames, width):
            stored = features.to(torch.float16)
            if torch.isfinite(stored).all():
                writer.add(missing[index], stored)
            else:
                largest = features.abs().max().item()
                errors.add(index, ValueError(f"its features reach {largest:g}, and float16 ends at 65504."))
            bar.update()
    return store


class _Errors:
    """What is done about clips that cannot be used: the first is raised, or all are noted in the store."""

    def __init__(self, rows: Any, store: FeatureStore, on_error: str) -> None:
        self._rows, self._store, self._on_error = rows, store, on_error

    def add(self, index: int, error: Exception) -> None:
        if self._on_error == "raise":
            raise error
        name = str(self._rows[index].get("clip_id") or f"row {index}")
        self._store.skipped[name] = str(error)
        logger.warning("%s is left out: %s", name, error)


class _Pictures(Dataset):
    """Of each row the frames, `(frames, 3, height, width)`, resized and cropped, or the error that reading gave."""

    def __init__(self, rows: Any, processor: FoalNetProcessor) -> None:
        self._rows, self._processor = rows, processor
        self._opened: tuple[str, MediaFile] | None = None

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | Exception]:
        row = self._rows[index]
        try:
            return index, self._read(row)
        except (ValueError, TypeError, OSError) as error:
            return index, error

    def _read(self, row: Mapping[str, Any]) -> torch.Tensor:
        part: dict[str, Any] = {"start_seconds": row.get("start_seconds") or 0.0, "end_seconds": row.get("end_seconds")}
        part["crop_box"] = row.get("crop_box")
        try:
            clip = self._open(row["video"]).read(
                **part,
                max_seconds=self._processor.max_seconds,
                transform=self._processor.video_processor.resize_and_crop,
            )
        except MediaError:
            if row.get("audio") is None:
                raise
            # Beside a sound, a clip may do without a picture, and a still picture lasts as long as the sound: what is
            # there is what training would read.
            start = row.get("audio_start_seconds")
            part |= {} if start is None else {"audio_start_seconds": start}
            clip = self._processor.read(audio=row["audio"], video=row["video"], **part)
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8) if clip.frames is None else clip.frames

    def _open(self, source: Any) -> MediaFile:
        """The medium; a file stays open, since the next row is often another part of it."""
        source = plain_source(source)
        name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else None
        if name is not None and self._opened is not None and self._opened[0] == name:
            return self._opened[1]
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None
        media = MediaFile(video=source, modalities=("video",), frames_per_second=self._processor.frames_per_second)
        if name is not None:
            self._opened = name, media
        return media


class _ShardWriter:
    """Collects features and writes them, a shard at a time; at the end, whatever brings it about, what is left."""

    def __init__(self, store: FeatureStore, shard_bytes: int, shard_seconds: float) -> None:
        self._store, self._shard_bytes, self._shard_seconds = store, shard_bytes, shard_seconds
        self._collected: dict[str, torch.Tensor] = {}
        self._num_bytes, self._since = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._write()

    def add(self, key: str, features: torch.Tensor) -> None:
        self._collected[key] = features.cpu()
        self._num_bytes += features.nbytes
        if self._num_bytes >= self._shard_bytes or time.monotonic() - self._since >= self._shard_seconds:
            self._write()

    def _write(self) -> None:
        collected, self._collected = self._collected, {}
        self._num_bytes, self._since = 0, time.monotonic()
        if collected:
            self._store.write(collected)


def _wanted(rows: Any, keys: FeatureKeys, errors: _Errors) -> dict[int, str]:
    """The keys of the pictures in `rows`, each with the first row that has it."""
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        try:
            key = keys.key(row)
        except MediaError as error:
            errors.add(index, error)
        else:
            if key is not None:
                first.setdefault(key, index)
    return {index: key for key, index in first.items()}


def _check_space(store: FeatureStore, rows: list[Any], processor: FoalNetProcessor, width: int) -> None:
    """Raise where what is known of the lengths says already that the disk will be full."""
    frames = 0
    for row in rows:
        if row.get("end_seconds") is not None:
            seconds = row["end_seconds"] - (row.get("start_seconds") or 0.0)
            frames += math.ceil(min(seconds, processor.max_seconds or math.inf) * processor.frames_per_second)
    num_bytes, free = frames * width * torch.float16.itemsize, shutil.disk_usage(store.directory).free
    if num_bytes > free:
        raise FeatureStoreError(
            f"The features of {len(rows)} clips take about {num_bytes / 1e9:.1f} GB, and {store.directory} has "
            f"{free / 1e9:.1f} GB left. Make room, choose another folder, or take fewer frames a second."
        )


def _still_missing(missing: Mapping[int, str], store: FeatureStore, bar: tqdm) -> Iterator[int]:
    """Rows to be computed: each process begins elsewhere, and passes over what others have stored meanwhile."""
    indices = deque(missing)
    if indices:
        indices.rotate(secrets.randbelow(len(indices)))
    for index in indices:
        if missing[index] in store:
            bar.update()
        else:
            yield index


def _readable(
    decoded: Iterable[tuple[int, Any]], rows: Any, keys: FeatureKeys, errors: _Errors
) -> Iterator[tuple[int, torch.Tensor]]:
    """The rows whose frames were read, from the very file that the key was made of."""
    for index, frames in decoded:
        if keys.contents.has_changed(rows[index]["video"]):
            errors.add(index, MediaError(str(plain_source(rows[index]["video"])), "was changed while it was read."))
        elif isinstance(frames, Exception):
            errors.add(index, frames)
        else:
            yield index, frames


def _encoder(model: Any, processor: FoalNetProcessor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Makes features `(frames, video_width)` of frames `(frames, 3, height, width)`, uint8."""
    base = base_model(model)
    encoder = base.vision_encoder.eval()

    def encode(frames: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            pictures = processor.video_processor.scale_and_normalize(frames.to(encoder.device))
            return encode_pictures(encoder, base.config, pictures[None])[0].float().cpu()

    return encode


def _encoded(
    clips: Iterable[tuple[int, torch.Tensor]],
    encode: Callable[[torch.Tensor], torch.Tensor],
    batch_frames: int,
    width: int,
) -> Iterator[tuple[int, torch.Tensor]]:
    """The clips in their order, encoded in passes of `batch_frames` frames, whichever clips these are from."""
    waiting: deque[tuple[int, int]] = deque()  # row and number of frames of the clips that were not given yet
    frames = torch.zeros(0, 3, 0, 0, dtype=torch.uint8)  # of these clips, what is to be encoded
    features = torch.zeros(0, width)  # and before it, what has been

    def complete() -> Iterator[tuple[int, torch.Tensor]]:
        nonlocal features
        while waiting and waiting[0][1] <= len(features):
            index, num_frames = waiting.popleft()
            yield index, features[:num_frames]
            features = features[num_frames:]

    for index, clip in clips:
        if len(clip) and len(frames) and clip.shape[1:] != frames.shape[1:]:  # pictures of another size
            features, frames = torch.cat([features, encode(frames)]), frames[:0]
        waiting.append((index, len(clip)))
        if len(clip):
            frames = torch.cat([frames, clip]) if len(frames) else clip
        while len(frames) >= batch_frames:
            features, frames = torch.cat([features, encode(frames[:batch_frames])]), frames[batch_frames:]
        yield from complete()
    if len(frames):
        features = torch.cat([features, encode(frames)])
    yield from complete()


def _as_it_is(example: Any) -> Any:
    return example


__all__ = ["embed"]
