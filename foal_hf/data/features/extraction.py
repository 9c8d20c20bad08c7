"""Runs a frozen encoder over the video or the audio of a corpus, once, and stores its outputs.

Workers decode. The main process encodes one clip after the other, and writes one shard at a time.
"""

import contextlib
import logging
import math
import os
import secrets
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ...foal_net.media_foal_net import Clip, MediaFile
from ...foal_net.processing_foal_net import FoalNetProcessor
from ...foal_net.sources_foal_net import MediaError
from ...foal_net.vision_encoders_foal_net import encode_frames
from .contents import plain_source
from .keys import FeatureKeys, Side, base_model, media_rows
from .store import FeatureStore, FeatureStoreError


# A shard is written at this size or age. A killed run loses at most one shard.
_SHARD_BYTES = 64 * 1024**2
_SHARD_SECONDS = 120.0

logger = logging.getLogger(__name__)


def embed(
    rows: Any,
    model: Any,
    processor: FoalNetProcessor,
    store_dir: str | os.PathLike[str],
    *,
    sides: Sequence[Side] = ("video",),
    batch_frames: int = 64,
    num_workers: int = 1,
    progress: bool = True,
    on_error: Literal["raise", "skip"] = "raise",
    shard_bytes: int = _SHARD_BYTES,
    shard_seconds: float = _SHARD_SECONDS,
) -> FeatureStore:
    """Compute and store the features of a corpus' video, audio or both that the store does not hold yet.

    It can be interrupted or killed at any moment: called again, it continues, computes at most the last shard again,
    and ends with the same features, bit for bit. Several processes that are called with one folder share the work.
    Damaged shards are computed again.

    The encoders run on the model's device, in the model's precision. On a GPU, a call inside
    `torch.autocast("cuda", torch.float16)` is faster; its features have the same keys.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): As in [`~foal_hf.data.ClipDataset`]; the labels are not used.
            `video` can be a path, bytes, a `datasets` row or decoder, or an array of frames; `audio` likewise, or an
            array of samples.
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): Has the encoders, which have to be frozen.
        processor ([`FoalNetProcessor`]): The one that training will use.
        store_dir (`str` or `os.PathLike`): Folder of the store; created if it does not exist.
        sides (`Sequence[str]`, defaults to `("video",)`): Whose features to store: `"video"`, `"audio"` or both.
        batch_frames (`int`, defaults to 64): Frames per forward pass of the image encoder, all of one clip.
        num_workers (`int`, defaults to 1): Processes that decode while the encoder runs; 0 decodes in between.
        progress (`bool`, defaults to `True`): Show progress bars.
        on_error (`"raise"` or `"skip"`, defaults to `"raise"`): What to do about a clip that cannot be read. Skipped
            clips are logged, and listed with the reason in `skipped` of the store.
        shard_bytes (`int`, defaults to 64 MiB): Size at which a shard is written.
        shard_seconds (`float`, defaults to 120): Age at which a smaller shard is written.

    Returns:
        [`FeatureStore`]: With features for every row that names a video (or audio) and was not skipped.

    Raises:
        FeatureStoreError: If the disk is full, or is certain to be before the end.
        MediaError: If a clip cannot be read.
        TypeError: If the rows are a stream, or the content of a video cannot be recognised later.
        ValueError: If the model trains an encoder or does not have it, a feature is beyond the range of float16, or an
            argument is out of range.

    Example:

    ```python
    >>> store = embed(load_corpus("iemocap", data_dir="IEMOCAP_full_release"), model, processor, "features")
    >>> len(store)
    5531
    ```
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` has to be 'raise' or 'skip', got {on_error!r}.")
    for name, value, least in (("batch_frames", batch_frames, 1), ("num_workers", num_workers, 0)):
        if value < least:
            raise ValueError(f"`{name}` has to be {least} or more, got {value}.")
    if not sides or set(sides) - {"audio", "video"}:
        raise ValueError(f"`sides` has to name audio, video or both, got {tuple(sides)!r}.")
    rows = media_rows(rows)
    keys = {side: FeatureKeys(model, processor, store_dir, side) for side in dict.fromkeys(sides)}
    Path(store_dir).mkdir(parents=True, exist_ok=True)
    store = FeatureStore(store_dir)
    errors = _Errors(rows, store, on_error)
    limits = {"shard_bytes": shard_bytes, "shard_seconds": shard_seconds}
    for side in keys:
        encode = _frame_encoder(model, processor, batch_frames) if side == "video" else _audio_encoder(model, processor)
        run = _Run(rows, keys[side], store, errors, processor, num_workers, progress)
        run.compute(encode, base_model(model).config, **limits)
    return store


@dataclass(frozen=True)
class _Run:
    """One side of a corpus: finds what the store lacks, and computes it."""

    rows: Any
    keys: FeatureKeys
    store: FeatureStore
    errors: "_Errors"
    processor: FoalNetProcessor
    num_workers: int
    progress: bool

    def compute(self, encode: Callable[[Any], torch.Tensor], config: Any, **limits: Any) -> None:
        """Store the features `(positions, width)` that `encode` makes of what was read of each clip."""
        rows, keys, store, side = self.rows, self.keys, self.store, self.keys.side
        keys.record_settings()
        sources = (row.get(side) for row in rows)
        keys.contents.read_ahead(sources, num_threads=self.num_workers + 1, progress=self.progress)
        wanted = _wanted(rows, keys, self.errors)
        store.discard(store.verify(wanted.values()))
        missing = {index: key for index, key in wanted.items() if key not in store}
        if not missing:
            return
        if side == "video":  # the positions of an audio encoder are not known before it has run
            interface = config.vision_interface
            frame_width = interface.width / interface.frames_per_position
            _check_space(store, [rows[index] for index in missing], self.processor, frame_width)
        with (
            contextlib.closing((_Frames if side == "video" else _Waveforms)(rows, self.processor)) as examples,
            tqdm(total=len(missing), desc=f"Encoding {side}", unit="clip", disable=not self.progress) as bar,
            _ShardWriter(store, **limits) as writer,
        ):
            decoded = DataLoader(
                examples,
                batch_size=None,
                sampler=_still_missing(missing, store, bar),
                num_workers=self.num_workers,
                collate_fn=_unchanged,
                generator=torch.Generator(),  # a loader draws a seed for its workers: leave the global state alone
            )
            for index, example in _readable(decoded, rows, keys, self.errors):
                features = encode(example)
                stored = features.to(torch.float16)
                if torch.isfinite(stored).all():
                    writer.add(missing[index], stored)
                else:
                    largest = features.abs().max().item()
                    reason = f"its features reach {largest:g}, and float16 ends at 65504."
                    self.errors.add(index, ValueError(reason))
                bar.update()


class _Errors:
    """Raises the first error of a clip, or records all of them in the store."""

    def __init__(self, rows: Any, store: FeatureStore, on_error: str) -> None:
        self._rows, self._store, self._on_error = rows, store, on_error

    def add(self, index: int, error: Exception) -> None:
        if self._on_error == "raise":
            raise error
        name = str(self._rows[index].get("clip_id") or f"row {index}")
        self._store.skipped[name] = str(error)
        logger.warning("%s is skipped: %s", name, error)


class _Media(Dataset):
    """One side of each row, or the error of reading it."""

    def __init__(self, rows: Any, processor: FoalNetProcessor) -> None:
        self._rows, self._processor = rows, processor

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor | Exception | None]:
        row = self._rows[index]
        try:
            return index, self._read(row)
        except (ValueError, TypeError, OSError) as error:
            return index, error

    def _read(self, row: Mapping[str, Any]) -> torch.Tensor | None:
        raise NotImplementedError

    def _read_clip(self, row: Mapping[str, Any], **choices: Any) -> Clip:
        """The clip that training would read."""
        part: dict[str, Any] = {"start_seconds": row.get("start_seconds") or 0.0, "end_seconds": row.get("end_seconds")}
        if row.get("audio_start_seconds") is not None:
            part["audio_start_seconds"] = row["audio_start_seconds"]
        return self._processor.read(
            audio=row.get("audio"),
            video=row.get("video"),
            crop_box=row.get("crop_box"),
            source_sampling_rate=row.get("sampling_rate"),
            **part,
            **choices,
        )

    def close(self) -> None:
        """Close what is open in this process. Worker processes end with theirs."""


class _Waveforms(_Media):
    """The waveform of each row, `(samples,)`; None for a clip that has none in its range."""

    def _read(self, row: Mapping[str, Any]) -> torch.Tensor | None:
        try:
            return self._read_clip(row, modalities=("audio",)).waveform
        except MediaError:
            if row.get("video") is None:
                raise
            return self._read_clip(row).waveform  # with video, a clip may have no audio


class _Frames(_Media):
    """The frames of each row, `(frames, 3, height, width)`, resized and cropped."""

    def __init__(self, rows: Any, processor: FoalNetProcessor) -> None:
        super().__init__(rows, processor)
        self._opened: tuple[str, MediaFile] | None = None

    def _read(self, row: Mapping[str, Any]) -> torch.Tensor:
        if row.get("crop_box") is None and self._processor.video_processor.crop == "face":
            frames = self._read_clip(
                row, modalities=("video",) if row.get("audio") is None else ("audio", "video")
            ).frames
            return torch.zeros(0, 3, 1, 1, dtype=torch.uint8) if frames is None else frames
        try:
            clip = self._open(row["video"]).read(
                start_seconds=row.get("start_seconds") or 0.0,
                end_seconds=row.get("end_seconds"),
                crop_box=row.get("crop_box"),
                max_seconds=self._processor.max_seconds,
                transform=self._processor.video_processor.resize_and_crop,
            )
        except MediaError:
            if row.get("audio") is None:
                raise
            # With audio, a clip may have no video, and a still image lasts as long as the audio.
            clip = self._read_clip(row)
        return torch.zeros(0, 3, 1, 1, dtype=torch.uint8) if clip.frames is None else clip.frames

    def _open(self, source: Any) -> MediaFile:
        """The media file. It stays open, because the next row is often another part of it."""
        source = plain_source(source)
        name = os.fsdecode(source) if isinstance(source, str | os.PathLike) else None
        if name is not None and self._opened is not None and self._opened[0] == name:
            return self._opened[1]
        self.close()
        media = MediaFile(video=source, modalities=("video",), frames_per_second=self._processor.frames_per_second)
        if name is not None:
            self._opened = name, media
        return media

    def close(self) -> None:
        """Close the media file that is open in this process."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


class _ShardWriter:
    """Collects features and writes them one shard at a time; the last one at the end, even after an error."""

    def __init__(self, store: FeatureStore, shard_bytes: int, shard_seconds: float) -> None:
        self._store, self._shard_bytes, self._shard_seconds = store, shard_bytes, shard_seconds
        self._collected: dict[str, torch.Tensor] = {}
        self._num_bytes, self._since = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._write()

    def add(self, key: str, features: torch.Tensor) -> None:
        self._collected[key] = features
        self._num_bytes += features.nbytes
        if self._num_bytes >= self._shard_bytes or time.monotonic() - self._since >= self._shard_seconds:
            self._write()

    def _write(self) -> None:
        collected, self._collected = self._collected, {}
        self._num_bytes, self._since = 0, time.monotonic()
        if collected:
            self._store.write(collected)


def _wanted(rows: Any, keys: FeatureKeys, errors: _Errors) -> dict[int, str]:
    """The keys of one side of `rows`, each with the first row that has it."""
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


def _check_space(store: FeatureStore, rows: list[Any], processor: FoalNetProcessor, width: float) -> None:
    """Raise if the known lengths already exceed the free disk space."""
    frames = 0
    for row in rows:
        if row.get("end_seconds") is not None:
            seconds = row["end_seconds"] - (row.get("start_seconds") or 0.0)
            frames += math.ceil(min(seconds, processor.max_seconds or math.inf) * processor.frames_per_second)
    num_bytes, free = frames * width * torch.float16.itemsize, shutil.disk_usage(store.directory).free
    if num_bytes > free:
        raise FeatureStoreError(
            f"The features of {len(rows)} clips need about {num_bytes / 1e9:.1f} GB, and {store.directory} has "
            f"{free / 1e9:.1f} GB left. Free some space, choose another folder, or read fewer frames per second."
        )


def _still_missing(missing: Mapping[int, str], store: FeatureStore, bar: tqdm) -> Iterator[int]:
    """Rows to compute. Each process starts at another row, and skips those that others have stored meanwhile."""
    indices = deque(missing)
    indices.rotate(secrets.randbelow(len(indices)))
    for index in indices:
        if missing[index] in store:
            bar.update()
        else:
            yield index


def _readable(
    decoded: Iterable[tuple[int, Any]], rows: Any, keys: FeatureKeys, errors: _Errors
) -> Iterator[tuple[int, Any]]:
    """What was read from the same file content as the key, with its row."""
    for index, example in decoded:
        source = rows[index][keys.side]
        if keys.contents.has_changed(source):
            errors.add(index, MediaError(str(plain_source(source)), "was changed while it was read."))
        elif isinstance(example, Exception):
            errors.add(index, example)
        else:
            yield index, example


def _audio_encoder(model: Any, processor: FoalNetProcessor) -> Callable[[torch.Tensor | None], torch.Tensor]:
    """Computes features `(positions, audio_width)` from the waveform of a clip, `(samples,)`, in a pass of its own."""
    base = base_model(model)
    encoder = base.audio_encoder.eval()

    def encode(waveform: torch.Tensor | None) -> torch.Tensor:
        if waveform is None:
            return torch.zeros(0, base.config.audio_width)
        batch = processor.batch([Clip(waveform, processor.sampling_rate, None, None, 0.0, 0.0)])
        with torch.inference_mode():
            encoded, mask = base.encode_audio(**batch.to(encoder.device))
            return encoded["last_hidden_state"][mask].float().cpu()  # (positions, audio_width)

    return encode


def _frame_encoder(
    model: Any, processor: FoalNetProcessor, batch_frames: int
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Computes features `(frames, video_width)` from the frames of a clip, `(frames, 3, height, width)`, uint8."""
    base = base_model(model)
    encoder = base.vision_encoder.eval()

    def encode(frames: torch.Tensor) -> torch.Tensor:
        # Each clip in passes of its own: its features would differ in the last bits with the clips beside it, which
        # depend on where a process starts and where a killed one stopped.
        features = [torch.zeros(0, base.config.video_width)]
        window = base.vision_interface.window_frames  # an encoder of clips sees whole windows
        step = max(batch_frames // window, 1) * window
        with torch.inference_mode():
            for start in range(0, len(frames), step):
                part = frames[start : start + step].to(encoder.device)
                pixel_values = processor.video_processor.scale_and_normalize(part)
                encoded: Any = encode_frames(encoder, base.vision_interface, pixel_values[None])
                features.append(encoded.last_hidden_state[0].float().cpu())
        return torch.cat(features)

    return encode


def _unchanged(example: Any) -> Any:
    return example


__all__ = ["embed"]
