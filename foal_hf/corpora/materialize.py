"""Writes each clip of a corpus once, as a small mp4 file of its own: cropped, resized, with its sound.

Corpora keep long films and sound files; training reads some seconds of them again and again. A folder made here holds
just these seconds, and is a corpus itself:

- `clips/<clip>.mp4`: H.264 and AAC, 16 kHz
- `metadata.jsonl`: one row a clip; written last, so where it stands, its clips are there
- `skipped.json`: the clips that were left out, and why
- `materialized.jsonl`: what each file was made of, which is how a second run knows what is still to do
"""

import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset, Features
from transformers.utils import logging

from ..foal_net.media_foal_net import MediaFile
from ..foal_net.sources_foal_net import MediaError, is_url, open_source
from .mp4_encoders import VIDEO_ENCODER, check_encoders, write_file
from .schema import FEATURES, undecoded


logger = logging.get_logger(__name__)

SAMPLING_RATE = 16_000
_FORMAT = {
    "made_by": "foal_hf.materialize",
    "version": 1,
}  # the version goes up whenever equal clips give other files
_MANIFEST, _TABLE, _SKIPPED = "materialized.jsonl", "metadata.jsonl", "skipped.json"
_PIECE_SECONDS = 4.0  # of picture in memory at once
_AUDIO_BIT_RATE = 96_000  # the most that AAC takes at 16 kHz
_PLACES = ("start_seconds", "end_seconds", "audio_start_seconds", "crop_box")


def materialize(
    rows: Dataset | Iterable[Mapping[str, Any]],
    output_dir: str | os.PathLike[str],
    *,
    height: int = 240,
    frames_per_second: float | None = None,
    num_workers: int | None = None,
    on_error: str = "raise",
    progress: bool = True,
) -> Dataset:
    """Write every clip of a corpus as a small mp4 file.

    A run that was stopped goes on where it stopped: a second call makes only what is missing, and what was made with
    other settings, or of a source that has changed since. Files of clips that are no longer asked for stay.

    Sound and picture are compressed once more: the picture hardly visibly, the sound as AAC with 96 kbit/s, which ends
    in up to 64 ms of silence.

    Args:
        rows (`datasets.Dataset` or iterable of `Mapping`): With the columns of
            [`~foal_hf.corpora.schema.corpus_features`]; `clip_id` and one of `audio` and `video` are needed. Media are
            paths, URLs, `{"path", "bytes"}` or the decoders that `datasets` gives.
        output_dir (`str` or `os.PathLike`): Folder: new, empty, or begun by an earlier call. Anything else is left
            alone.
        height (`int`, defaults to 240): Height of the picture, pixels; the width follows. Smaller pictures keep
            their size, but for odd edges, which H.264 does not take.
        frames_per_second (`float`, *optional*): Default: what the source has.
        num_workers (`int`, *optional*): Threads; one a CPU core by default. Each goes through one film after the other.
        on_error (`str`, defaults to `"raise"`): What to do about a clip that cannot be read: `"raise"` stops at the
            first one, `"skip"` leaves it out, with a count and an entry in `skipped.json`.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        `datasets.Dataset`: The same rows and columns in the same order. `audio` and `video` are the new file; the
        columns that say where in it the clip lies are None.

    Raises:
        MediaError: If a clip cannot be read. Names it.
        ValueError: If an argument makes no sense, or two rows have the same `clip_id`.
        TypeError: If `rows` are no rows, or hold media of another kind.
        FileExistsError: If `output_dir` holds something else.
        RuntimeError: If the encoder for H.264 or AAC is missing.

    Example:

    ```python
    >>> rows = load_corpus("iemocap", data_dir="IEMOCAP_full_release")
    >>> clips = materialize(rows, "iemocap_clips")
    >>> again = load_corpus("folder", data_dir="iemocap_clips")  # the folder is a corpus
    ```
    """
    settings = _Settings(height, frames_per_second)
    if on_error not in ("raise", "skip"):
        raise ValueError(f"`on_error` has to be 'raise' or 'skip', got {on_error!r}.")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` has to be 1 or more, got {num_workers}.")
    folder = Path(os.path.abspath(output_dir))
    clips = _list_clips(rows)
    features = getattr(rows, "features", None) or _guess_features([clip.row for clip in clips])

    made = _claim(folder)
    keys = {clip.clip_id: settings.key_of(clip) for clip in clips}
    missing = [
        clip for clip in clips if not _is_made(folder / clip.file_name, made.get(clip.file_name), keys[clip.clip_id])
    ]
    skipped: dict[str, str] = {}
    if missing:
        check_encoders()
        (folder / _TABLE).unlink(missing_ok=True)  # until all its clips are there again
        skipped = _make_all(
            missing, folder, keys, settings, num_workers or _num_cores(), on_error, len(clips), progress
        )
    kept = [clip for clip in clips if clip.clip_id not in skipped]
    if skipped:
        clip_id, reason = next(iter(skipped.items()))
        logger.warning(
            f"{len(skipped)} of {len(clips)} clips cannot be read and are left out, first {clip_id}: {reason}"
        )
    entries = [{"clip_id": clip_id, "reason": reason} for clip_id, reason in skipped.items()]
    write_file(folder / _SKIPPED, (json.dumps(entries, indent=1) + "\n").encode())
    write_file(folder / _TABLE, "".join(_line_of_table(clip, features) for clip in kept).encode())
    return Dataset.from_list([_new_row(clip, folder) for clip in kept], features=features)


@dataclass(frozen=True)
class _Settings:
    """How files are made."""

    height: int
    frames_per_second: float | None

    def __post_init__(self) -> None:
        if self.height < 2:
            raise ValueError(f"`height` has to be at least 2 pixels, got {self.height}.")
        if self.frames_per_second is not None and not self.frames_per_second > 0:
            raise ValueError(f"`frames_per_second` has to be above 0, got {self.frames_per_second}.")

    def key_of(self, clip: "_Clip") -> str:
        """Changes with everything that the file of a clip depends on."""
        sources = [_identity(clip.audio), _identity(clip.video)]
        places = [clip.row.get(name) for name in _PLACES]
        described = [_FORMAT["version"], self.height, self.frames_per_second, sources, places]
        return hashlib.sha256(json.dumps(described).encode()).hexdigest()


@dataclass(frozen=True)
class _Clip:
    """A row, what it is made of, and the name of its file in the folder."""

    row: Mapping[str, Any]
    audio: dict[str, Any] | None
    video: dict[str, Any] | None
    file_name: str

    @property
    def clip_id(self) -> str:
        return self.row["clip_id"]

    @property
    def start_seconds(self) -> float:
        return self.row.get("start_seconds") or 0.0

    @property
    def end_seconds(self) -> float | None:
        return self.row.get("end_seconds")


def _list_clips(rows: Any) -> list[_Clip]:
    listed = list(undecoded(rows) if getattr(rows, "features", None) is not None else rows)
    for row in listed:
        if not isinstance(row, Mapping) or not isinstance(row.get("clip_id"), str):
            raise TypeError(
                "`rows` has to be a dataset of one split, or rows with a text `clip_id`, "
                f"got {type(rows).__name__} of {type(row).__name__}."
            )
    if not listed:
        raise ValueError("`rows` is empty: there is nothing to write.")
    twice = [clip_id for clip_id, count in Counter(row["clip_id"] for row in listed).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} clip ids stand for more than one row ({', '.join(twice[:3])}): make them unique."
        )
    names = _file_names([row["clip_id"] for row in listed])
    clips = []
    for row in listed:
        audio, video = (_stored(row.get(name), row["clip_id"], name) for name in ("audio", "video"))
        if audio is None and video is None:
            raise ValueError(f"The row {row['clip_id']} has neither `audio` nor `video`.")
        clips.append(_Clip(row, audio, video, names[row["clip_id"]]))
    return clips


def _file_names(clip_ids: list[str]) -> dict[str, str]:
    """A name for the file of each clip, one that every file system takes."""
    safe = {clip_id: re.sub(r"[^\w.-]", "_", clip_id, flags=re.ASCII).lstrip(".")[:100] for clip_id in clip_ids}
    counts = Counter(name.casefold() for name in safe.values())
    for clip_id, name in safe.items():
        if name != clip_id or counts[name.casefold()] > 1:
            safe[clip_id] = f"{name}-{hashlib.sha256(clip_id.encode()).hexdigest()[:12]}"
    return {clip_id: f"clips/{name}.mp4" for clip_id, name in safe.items()}


def _stored(source: Any, clip_id: str, column: str) -> dict[str, Any] | None:
    """Where a medium is: `{"path", "bytes"}`, as `datasets` stores it."""
    source = getattr(source, "_hf_encoded", source)  # a decoder that `datasets` made
    if source is None:
        return None
    if isinstance(source, str | os.PathLike):
        source = {"path": os.fspath(source), "bytes": None}
    if not (isinstance(source, dict) and (source.get("path") or source.get("bytes"))):
        raise TypeError(
            f"`{column}` of {clip_id} has to be a path, a URL, {{'path', 'bytes'}} or a decoder from `datasets`, "
            f"got {type(source).__name__}."
        )
    return {"path": source.get("path"), "bytes": source.get("bytes")}


def _identity(source: dict[str, Any] | None) -> Any:
    """Tells a medium from any other, and from itself after a change."""
    if source is None:
        return None
    if source["bytes"] is not None:
        return hashlib.sha256(source["bytes"]).hexdigest()
    if is_url(source["path"]) or not os.path.exists(source["path"]):
        return source["path"]
    state = os.stat(source["path"])
    return [os.path.abspath(source["path"]), state.st_size, state.st_mtime_ns]


def _claim(folder: Path) -> dict[str, dict[str, Any]]:
    """Make sure that a folder is ours or empty, and return what was made in it, by name of the file."""
    manifest = folder / _MANIFEST
    if not manifest.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} holds something else; it is left alone. Name a new or empty folder.")
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        write_file(manifest, (json.dumps(_FORMAT) + "\n").encode())
    entries = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # a line that was being written when the run was stopped
            entries.append(json.loads(line))
    if not entries or not isinstance(entries[0], dict) or entries[0].get("made_by") != _FORMAT["made_by"]:
        raise FileExistsError(f"{manifest} was not written by {_FORMAT['made_by']}; it is left alone.")
    return {entry["file_name"]: entry for entry in entries[1:]}


def _is_made(path: Path, entry: dict[str, Any] | None, key: str) -> bool:
    return entry is not None and entry["key"] == key and path.is_file() and path.stat().st_size == entry["num_bytes"]


def _make_all(
    clips: list[_Clip],
    folder: Path,
    keys: Mapping[str, str],
    settings: _Settings,
    num_workers: int,
    on_error: str,
    num_all: int,
    progress: bool,
) -> dict[str, str]:
    """Make the files, and return the reason for each clip that cannot be read."""
    from tqdm.auto import tqdm

    faults: dict[str, str] = {}
    lock, stop = threading.Lock(), threading.Event()
    with (
        _appending(folder / _MANIFEST) as append,
        tqdm(
            desc="Writing clips", total=num_all, initial=num_all - len(clips), unit="clip", disable=not progress
        ) as bar,
        ThreadPoolExecutor(num_workers, thread_name_prefix="materialize") as pool,
    ):

        def keep(clip: _Clip, content: bytes) -> None:
            write_file(folder / clip.file_name, content)
            entry = {"file_name": clip.file_name, "key": keys[clip.clip_id], "num_bytes": len(content)}
            with lock:
                append(json.dumps(entry) + "\n")
                bar.update()

        def make(film: list[_Clip]) -> None:
            for clip, content in _encode_film(film, settings):
                if stop.is_set():
                    return
                if isinstance(content, bytes):
                    keep(clip, content)
                elif on_error == "raise":
                    reason = f"{content} Mend it, or leave such clips out with on_error='skip'."
                    raise MediaError(clip.clip_id, reason) from content
                else:
                    faults[clip.clip_id] = str(content)

        try:
            for future in as_completed([pool.submit(make, film) for film in _by_film(clips)]):
                future.result()
        finally:
            stop.set()  # after an error or Ctrl-C: finish the clip at hand, begin no other
            pool.shutdown(wait=False, cancel_futures=True)
    return {clip.clip_id: faults[clip.clip_id] for clip in clips if clip.clip_id in faults}


@contextlib.contextmanager
def _appending(manifest: Path) -> Iterator[Callable[[str], None]]:
    def append(text: str) -> None:
        file.write(text)
        file.flush()

    with manifest.open("a", encoding="utf-8") as file:
        append("\n")  # ends a line that was cut off; empty ones are read over
        yield append


def _by_film(clips: list[_Clip]) -> list[list[_Clip]]:
    """The clips of one film together: it is opened once for all of them."""
    films: dict[Any, list[_Clip]] = {}
    for index, clip in enumerate(clips):
        path = clip.video["path"] if clip.video is not None and clip.video["bytes"] is None else None
        films.setdefault(index if path is None else path, []).append(clip)
    return list(films.values())


def _encode_film(clips: list[_Clip], settings: _Settings) -> Iterator[tuple[_Clip, bytes | ValueError]]:
    """The mp4 file of each clip of one film, or why there is none."""
    with contextlib.ExitStack() as stack:
        film: MediaFile | None = None
        for clip in clips:
            try:
                if film is None and clip.video is not None:
                    film = stack.enter_context(_open_film(clip.video, settings.frames_per_second))
                yield clip, _encode_clip(clip, film, settings.height)
            except ValueError as error:  # a MediaError, or a range that makes no sense
                yield clip, error


def _open_film(source: dict[str, Any], frames_per_second: float | None) -> MediaFile:
    film = MediaFile(video=source, modalities=("video",))
    film.frames_per_second = frames_per_second or _native_frames_per_second(source)
    return film


def _native_frames_per_second(source: dict[str, Any]) -> float:
    """The frame rate of a picture that can be opened."""
    from torchcodec.decoders import VideoDecoder

    with open_source(source) as opened:
        metadata = VideoDecoder(opened.open()).metadata  # type: ignore[arg-type] # it reads and seeks
    counted, said = metadata.average_fps, metadata.average_fps_from_header
    if not counted:
        return said or 1.0
    # Headers have the exact number, or nonsense: that of recordings in browsers is 1000.
    return said if said and abs(said - counted) < 0.02 * counted else counted


def _encode_clip(clip: _Clip, film: MediaFile | None, height: int) -> bytes:
    from torchcodec.encoders import Encoder

    pieces: Iterator[torch.Tensor] = iter(()) if film is None else _pieces(film, clip, height)
    first = next(pieces, None)
    waveform = _read_sound(clip) if clip.audio is not None else None

    encoder = Encoder()
    if film is not None and first is not None:
        picture = encoder.add_video(
            height=first.shape[2],
            width=first.shape[3],
            frame_rate=film.frames_per_second,
            device="cpu",
            codec=VIDEO_ENCODER,
            pixel_format="yuv420p",
            crf=18,
            preset="veryfast",
            extra_options={"threads": 1},  # clips are made side by side
        )
    if waveform is not None:
        sound = encoder.add_audio(sample_rate=SAMPLING_RATE, num_channels=1, bit_rate=_AUDIO_BIT_RATE)
    file = io.BytesIO()
    with encoder.open_file_like(file, format="mp4"):
        if waveform is not None:
            sound.add_samples(waveform[None])
        if first is not None:
            for frames in itertools.chain([first], pieces):
                picture.add_frames(frames)
    return file.getvalue()


def _pieces(film: MediaFile, clip: _Clip, height: int) -> Iterator[torch.Tensor]:
    """The pictures of a clip, cropped and resized, some seconds at a time, `(frames, 3, height, width)`."""
    rate, start = film.frames_per_second, clip.start_seconds
    step = max(round(_PIECE_SECONDS * rate), 1) / rate  # whole frames, so that the pieces go on in step
    stops = [stop for stop in (clip.end_seconds, film.duration_seconds) if stop is not None]
    for index in itertools.count():
        piece_start, piece_end = start + index * step, start + (index + 1) * step
        if index and piece_start >= min(stops) - 1e-3:
            return
        if clip.end_seconds is not None:
            piece_end = min(piece_end, clip.end_seconds)
        piece = film.read(
            piece_start, piece_end, crop_box=clip.row.get("crop_box"), transform=lambda frames: _shrink(frames, height)
        )
        assert piece.frames is not None and piece.frame_seconds is not None  # `read` raises where there is no picture
        # Where the film begins after the clip, its first picture stands in, so that sound and picture stay together.
        lead = round(piece.frame_seconds[0].item() * rate) if index == 0 else 0
        yield torch.cat([piece.frames[:1].expand(lead, -1, -1, -1), piece.frames])


def _shrink(frames: torch.Tensor, height: int) -> torch.Tensor:
    """At most this height, even edges, the shape kept."""
    old_height, old_width = frames.shape[-2:]
    new_height = max(min(old_height, height) // 2 * 2, 2)
    new_width = max(round(old_width * new_height / old_height / 2) * 2, 2)
    if (new_height, new_width) == (old_height, old_width):
        return frames
    return torch.nn.functional.interpolate(frames, (new_height, new_width), mode="bilinear", antialias=True)


def _read_sound(clip: _Clip) -> torch.Tensor:
    start = clip.row.get("audio_start_seconds")
    start = clip.start_seconds if start is None else start
    end = None if clip.end_seconds is None else start + clip.end_seconds - clip.start_seconds
    with MediaFile(audio=clip.audio, modalities=("audio",), sampling_rate=SAMPLING_RATE) as media:
        waveform = media.read(start, end).waveform
    assert waveform is not None  # `read` raises where there is no sound
    return waveform.clamp(-1, 1)


def _guess_features(rows: list[Mapping[str, Any]]) -> Features:
    """The types of plain rows: those of the schema, and for the labels and other columns what their values say."""
    others = [{name: row.get(name) for name in rows[0] if name not in FEATURES or name == "emotion"} for row in rows]
    guessed = Dataset.from_list(others).features
    return Features({name: guessed[name] if name in guessed else FEATURES[name] for name in rows[0]})


def _line_of_table(clip: _Clip, features: Features) -> str:
    row = _new_row(clip, None)
    cells = {name: row[name] for name in FEATURES if name in row}
    if isinstance(features.get("emotion"), ClassLabel) and isinstance(cells["emotion"], int):
        cells["emotion"] = features["emotion"].int2str(cells["emotion"])
    return json.dumps({"file_name": clip.file_name, **cells}, ensure_ascii=False) + "\n"


def _new_row(clip: _Clip, folder: Path | None) -> dict[str, Any]:
    """The row of a clip that has a file of its own; without media where the folder is not named."""
    row = {name: None if name in _PLACES else value for name, value in clip.row.items()}
    for name, source in (("audio", clip.audio), ("video", clip.video)):
        if folder is None:
            row.pop(name, None)
        elif source is not None:
            row[name] = {"path": str(folder / clip.file_name), "bytes": None}
    return row


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
