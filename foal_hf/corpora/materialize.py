"""Writes each clip of a corpus once, as a small mp4 file: cropped, resized, with its audio.

Corpora have long recordings, and training reads the same seconds of them again and again. The folder that is written
here has only these seconds, and is a corpus itself:

- `clips/<clip>.mp4`: H.264 and AAC, 16 kHz
- `metadata.jsonl`: one row per clip; written last, so if it exists, its clips do
- `skipped.json`: the clips that were skipped, and why
- `materialized.jsonl`: what each file was made of; a second run reads it to find what is missing
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

from ..atomic_files import write_file, write_json
from ..foal_net.media_foal_net import MediaFile
from ..foal_net.sources_foal_net import MediaError, is_url
from ..identity import digest_of
from .mp4_encoders import VIDEO_ENCODER, check_encoders, num_cores
from .schema import FEATURES, find_misspelt, undecoded


logger = logging.get_logger(__name__)

SAMPLING_RATE = 16_000
# The version is raised whenever equal clips give different files.
_FORMAT = {"made_by": "foal_hf.materialize", "version": 1}
_MANIFEST, _TABLE, _SKIPPED = "materialized.jsonl", "metadata.jsonl", "skipped.json"
_SEGMENT_SECONDS = 4.0  # of video in memory at once
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

    A second call continues a run that was stopped: it writes only the files that are missing, that were made with other
    settings, or whose source has changed. Files of clips that are not in `rows` stay.

    Video is compressed again with hardly visible loss. Audio is compressed again as AAC with 96 kbit/s, which adds up
    to 64 ms of silence at the end.

    Args:
        rows (`datasets.Dataset` or iterable of `Mapping`): With the columns of
            [`~foal_hf.corpora.schema.corpus_features`]; `clip_id` and one of `audio` and `video` are required. Audio
            and video are paths, URLs, `{"path", "bytes"}` or decoders from `datasets`.
        output_dir (`str` or `os.PathLike`): Folder: new, empty, or started by an earlier call.
        height (`int`, defaults to 240): Height of the video in pixels; the width follows. Smaller videos keep their
            size, but an odd height or width is made even for H.264.
        frames_per_second (`float`, *optional*): Default: that of the source.
        num_workers (`int`, *optional*): Threads; one per CPU core by default. Each reads one recording after the other.
        on_error (`str`, defaults to `"raise"`): What to do with a clip that cannot be read: `"raise"` stops at the
            first one, `"skip"` warns and lists it in `skipped.json`.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        `datasets.Dataset`: The same rows and columns in the same order. `audio` and `video` are the new file; the
        columns with times and crop are None.

    Raises:
        MediaError: If a clip cannot be read; the message names it.
        ValueError: If an argument is invalid, or two rows have the same `clip_id`.
        TypeError: If `rows` are not rows, or have media of another type.
        FileExistsError: If `output_dir` has other files.
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
        raise ValueError(f"`on_error` must be 'raise' or 'skip', got {on_error!r}.")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"`num_workers` must be 1 or more, got {num_workers}.")
    folder = Path(os.path.abspath(output_dir))
    clips = _list_clips(rows)
    features = getattr(rows, "features", None) or _guess_features([clip.row for clip in clips])

    made = _read_manifest(folder)
    keys = {clip.clip_id: settings.key_of(clip) for clip in clips}
    missing = [
        clip for clip in clips if not _is_made(folder / clip.file_name, made.get(clip.file_name), keys[clip.clip_id])
    ]
    skipped: dict[str, str] = {}
    if missing:
        check_encoders()
        (folder / _TABLE).unlink(missing_ok=True)  # until all its clips exist again
        skipped = _make_all(missing, folder, keys, settings, num_workers or num_cores(), on_error, len(clips), progress)
    kept = [clip for clip in clips if clip.clip_id not in skipped]
    if skipped:
        clip_id, reason = next(iter(skipped.items()))
        logger.warning(
            f"{len(skipped)} of {len(clips)} clips cannot be read and are skipped; the first is {clip_id}: {reason}"
        )
    entries = [{"clip_id": clip_id, "reason": reason} for clip_id, reason in skipped.items()]
    write_json(folder / _SKIPPED, entries, indent=1)
    write_file(folder / _TABLE, "".join(_line_of_table(clip, features) for clip in kept))
    return Dataset.from_list([_new_row(clip, folder) for clip in kept], features=features)


@dataclass(frozen=True)
class _Settings:
    """How files are written."""

    height: int
    frames_per_second: float | None

    def __post_init__(self) -> None:
        if self.height < 2:
            raise ValueError(f"`height` must be at least 2 pixels, got {self.height}.")
        if self.frames_per_second is not None and not self.frames_per_second > 0:
            raise ValueError(f"`frames_per_second` must be above 0, got {self.frames_per_second}.")

    def key_of(self, clip: "_Clip") -> str:
        """Changes with everything that the file of a clip depends on."""
        sources = [source_identity(clip.audio), source_identity(clip.video)]
        places = [clip.row.get(name) for name in _PLACES]
        return digest_of([_FORMAT["version"], self.height, self.frames_per_second, sources, places])


@dataclass(frozen=True)
class _Clip:
    """A row, its sources, and the name of its file in the folder."""

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
                "`rows` must be a dataset of one split, or rows with a text `clip_id`, "
                f"got {type(rows).__name__} of {type(row).__name__}."
            )
    if not listed:
        raise ValueError("`rows` is empty: there is nothing to write.")
    places = ("clip_id", "audio", "video", *_PLACES)
    if misspelt := find_misspelt({name for row in listed for name in row}, places):
        guesses = ", ".join(f"{name} (did you mean {guess}?)" for name, guess in misspelt.items())
        raise ValueError(f"`rows` have unknown columns: {guesses}. Rename or remove them.")
    twice = [clip_id for clip_id, count in Counter(row["clip_id"] for row in listed).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} clip ids occur in more than one row ({', '.join(twice[:3])}): make them unique."
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
    """A name for the file of each clip that every file system accepts."""
    safe = {clip_id: re.sub(r"[^\w.-]", "_", clip_id, flags=re.ASCII).lstrip(".")[:100] for clip_id in clip_ids}
    counts = Counter(name.casefold() for name in safe.values())
    for clip_id, name in safe.items():
        if name != clip_id or counts[name.casefold()] > 1:
            safe[clip_id] = f"{name}-{hashlib.sha256(clip_id.encode()).hexdigest()[:12]}"
    return {clip_id: f"clips/{name}.mp4" for clip_id, name in safe.items()}


def _stored(source: Any, clip_id: str, column: str) -> dict[str, Any] | None:
    """A source as `{"path", "bytes"}`, as `datasets` stores it."""
    source = getattr(source, "_hf_encoded", source)  # a decoder that `datasets` made
    if source is None:
        return None
    if isinstance(source, str | os.PathLike):
        source = {"path": os.fspath(source), "bytes": None}
    if not (isinstance(source, dict) and (source.get("path") or source.get("bytes"))):
        raise TypeError(
            f"`{column}` of {clip_id} must be a path, a URL, {{'path', 'bytes'}} or a decoder from `datasets`, "
            f"got {type(source).__name__}."
        )
    return {"path": source.get("path"), "bytes": source.get("bytes")}


def source_identity(source: dict[str, Any] | None) -> Any:
    """Identifies a source `{"path", "bytes"}` and its content: by digest, or by path, size and time of change."""
    if source is None:
        return None
    if source["bytes"] is not None:
        return hashlib.sha256(source["bytes"]).hexdigest()
    if is_url(source["path"]) or not os.path.exists(source["path"]):
        return source["path"]
    state = os.stat(source["path"])
    return [os.path.abspath(source["path"]), state.st_size, state.st_mtime_ns]


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Check that a folder is ours or empty, and read what was written in it, by file name."""
    manifest = folder / _MANIFEST
    if not manifest.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExistsError(f"{folder} has other files; it is not changed. Choose a new or empty folder.")
        (folder / "clips").mkdir(parents=True, exist_ok=True)
        write_json(manifest, _FORMAT)
    entries = []
    for line in manifest.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # a line that was being written when the run was stopped
            entries.append(json.loads(line))
    if not entries or not isinstance(entries[0], dict) or entries[0].get("made_by") != _FORMAT["made_by"]:
        raise FileExistsError(f"{manifest} was not written by {_FORMAT['made_by']}; it is not changed.")
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
    """Write the files, and return the reason for each clip that cannot be read."""
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

        def make(recording: list[_Clip]) -> None:
            for clip, content in _encode_recording(recording, settings):
                if stop.is_set():
                    return
                if isinstance(content, bytes):
                    keep(clip, content)
                elif on_error == "raise":
                    reason = f'{content} Fix it, or skip such clips with on_error="skip".'
                    raise MediaError(clip.clip_id, reason) from content
                else:
                    faults[clip.clip_id] = str(content)

        try:
            for future in as_completed([pool.submit(make, recording) for recording in _by_recording(clips)]):
                future.result()
        finally:
            stop.set()  # after an error or Ctrl-C: finish the current clip, start no other
            pool.shutdown(wait=False, cancel_futures=True)
    return {clip.clip_id: faults[clip.clip_id] for clip in clips if clip.clip_id in faults}


@contextlib.contextmanager
def _appending(manifest: Path) -> Iterator[Callable[[str], None]]:
    def append(text: str) -> None:
        file.write(text)
        file.flush()

    with manifest.open("a", encoding="utf-8") as file:
        append("\n")  # ends a line that was cut off; empty lines are ignored
        yield append


def _by_recording(clips: list[_Clip]) -> list[list[_Clip]]:
    """The clips of each video together, so that it is opened once."""
    recordings: dict[Any, list[_Clip]] = {}
    for index, clip in enumerate(clips):
        path = clip.video["path"] if clip.video is not None and clip.video["bytes"] is None else None
        recordings.setdefault(index if path is None else path, []).append(clip)
    return list(recordings.values())


def _encode_recording(clips: list[_Clip], settings: _Settings) -> Iterator[tuple[_Clip, bytes | ValueError]]:
    """The mp4 file of each clip of one recording, or why there is none."""
    with contextlib.ExitStack() as stack:
        video: MediaFile | None = None
        for clip in clips:
            try:
                if video is None and clip.video is not None:
                    video = stack.enter_context(_open_video(clip.video, settings.frames_per_second))
                yield clip, _encode_clip(clip, video, settings.height)
            except ValueError as error:  # a MediaError, or an invalid range
                yield clip, error


def _open_video(source: dict[str, Any], frames_per_second: float | None) -> MediaFile:
    video = MediaFile(video=source, modalities=("video",))
    video.frames_per_second = frames_per_second or video.video_frames_per_second or 1.0
    return video


def _encode_clip(clip: _Clip, video: MediaFile | None, height: int) -> bytes:
    from torchcodec.encoders import Encoder

    segments: Iterator[torch.Tensor] = iter(()) if video is None else _segments(video, clip, height)
    first = next(segments, None)
    waveform = _read_audio(clip) if clip.audio is not None else None

    encoder = Encoder()
    if video is not None and first is not None:
        video_stream = encoder.add_video(
            height=first.shape[2],
            width=first.shape[3],
            frame_rate=video.frames_per_second,
            device="cpu",
            codec=VIDEO_ENCODER,
            pixel_format="yuv420p",
            crf=18,
            preset="veryfast",
            extra_options={"threads": 1},  # clips are encoded in parallel
        )
    if waveform is not None:
        audio_stream = encoder.add_audio(sample_rate=SAMPLING_RATE, num_channels=1, bit_rate=_AUDIO_BIT_RATE)
    file = io.BytesIO()
    with encoder.open_file_like(file, format="mp4"):
        if waveform is not None:
            audio_stream.add_samples(waveform[None])
        if first is not None:
            for frames in itertools.chain([first], segments):
                video_stream.add_frames(frames)
    return file.getvalue()


def _segments(video: MediaFile, clip: _Clip, height: int) -> Iterator[torch.Tensor]:
    """The frames of a clip, cropped and resized, some seconds at a time, `(frames, 3, height, width)`."""
    rate, start = video.frames_per_second, clip.start_seconds
    step = max(round(_SEGMENT_SECONDS * rate), 1) / rate  # whole frames, so that segments join without a gap
    stops = [stop for stop in (clip.end_seconds, video.duration_seconds) if stop is not None]
    for index in itertools.count():
        segment_start, segment_end = start + index * step, start + (index + 1) * step
        if index and segment_start >= min(stops) - 1e-3:
            return
        if clip.end_seconds is not None:
            segment_end = min(segment_end, clip.end_seconds)
        segment = video.read(
            segment_start,
            segment_end,
            crop_box=clip.row.get("crop_box"),
            transform=lambda frames: _shrink(frames, height),
        )
        assert segment.frames is not None and segment.frame_seconds is not None  # `read` raises if there is no video
        # If the video begins after the clip, its first frame is repeated, so that audio and video stay in step.
        lead = round(segment.frame_seconds[0].item() * rate) if index == 0 else 0
        yield torch.cat([segment.frames[:1].expand(lead, -1, -1, -1), segment.frames])


def _shrink(frames: torch.Tensor, height: int) -> torch.Tensor:
    """At most this height, even height and width, the aspect ratio kept."""
    old_height, old_width = frames.shape[-2:]
    new_height = max(min(old_height, height) // 2 * 2, 2)
    new_width = max(round(old_width * new_height / old_height / 2) * 2, 2)
    if (new_height, new_width) == (old_height, old_width):
        return frames
    return torch.nn.functional.interpolate(frames, (new_height, new_width), mode="bilinear", antialias=True)


def _read_audio(clip: _Clip) -> torch.Tensor:
    start = clip.row.get("audio_start_seconds")
    start = clip.start_seconds if start is None else start
    end = None if clip.end_seconds is None else start + clip.end_seconds - clip.start_seconds
    with MediaFile(audio=clip.audio, modalities=("audio",), sampling_rate=SAMPLING_RATE) as media:
        waveform = media.read(start, end).waveform
    assert waveform is not None  # `read` raises if there is no audio
    return waveform.clamp(-1, 1)


def _guess_features(rows: list[Mapping[str, Any]]) -> Features:
    """The types of plain rows: those of the schema; for labels and other columns, those of their values."""
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
    """The row of a written clip; without audio and video if `folder` is None."""
    row = {name: None if name in _PLACES else value for name, value in clip.row.items()}
    for name, source in (("audio", clip.audio), ("video", clip.video)):
        if folder is None:
            row.pop(name, None)
        elif source is not None:
            row[name] = {"path": str(folder / clip.file_name), "bytes": None}
    return row
