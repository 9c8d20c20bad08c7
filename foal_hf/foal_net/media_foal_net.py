"""The media reader: anything that holds sound or picture becomes a `Clip` of samples and frames on one time axis.

    read_clip("talk.mp4", start_seconds=12.0, end_seconds=15.5)        # one clip
    with MediaFile("talk.mp4") as media:                               # many clips, each part decoded once
        for start in range(0, 60, 5): media.read(start, start + 5)

Two tracks (sound, picture) each know their own begin and end and give what was asked for; `MediaFile` puts them on a
common time axis, whose zero is where the earlier of the two streams of a file begins, as in a player.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .sources_foal_net import DEFAULT_MAX_BYTES, MediaError, files_let_go, is_url, open_source, source_name
from .tracks_foal_net import ArrayAudio, ArrayVideo, AudioTrack, VideoTrack, check_positive, open_tracks


_FRAME_GROUP_BYTES = 2**26  # decoded at once: bounds the memory where `transform` shrinks large pictures
_MOST_FRAMES = 10**6  # of a clip: files claim any length
_IN_WORDS = {"audio": "sound", "video": "picture"}


@dataclass(frozen=True)
class Clip:
    """What was read; times are in seconds since the clip's start.

    Attributes:
        waveform (`torch.Tensor` of shape `(samples,)`, *optional*): Float32, channels averaged; sample i is the sound
            at `i / sampling_rate`. None where the range holds no sound.
        sampling_rate (`int`, *optional*): Hz; None without a waveform.
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`, *optional*): RGB, uint8 (or what `transform`
            made of it). None where the range holds no picture.
        frame_seconds (`torch.Tensor` of shape `(num_frames,)`, *optional*): Float64: the time that each frame shows.
        start_seconds (`float`): Start of the clip on the time axis of the medium.
        end_seconds (`float`): End of what was really there of the range, exclusive.
    """

    waveform: torch.Tensor | None
    sampling_rate: int | None
    frames: torch.Tensor | None
    frame_seconds: torch.Tensor | None
    start_seconds: float
    end_seconds: float

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the clip has: a subset of `("audio", "video")`, in this order."""
        present = {"audio": self.waveform is not None, "video": self.frames is not None}
        return tuple(name for name, is_there in present.items() if is_there)


def read_clip(
    source: Any = None,
    *,
    audio: Any = None,
    video: Any = None,
    sampling_rate: int = 16_000,
    frames_per_second: float = 5.0,
    max_seconds: float | None = 6.0,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    audio_start_seconds: float | None = None,
    crop_box: Sequence[int] | None = None,
    modalities: Sequence[str] = ("audio", "video"),
    source_sampling_rate: int | None = None,
    source_frames_per_second: float | None = None,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    device: str | torch.device | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> Clip:
    """Read one clip; only the wanted range is decoded.

    The arguments are those of [`MediaFile`] (what to read) and of [`MediaFile.read`] (which part of it).

    Raises:
        MediaError: If the medium cannot be read, or holds nothing in the range.
        ValueError: If the arguments make no sense, whatever the medium.

    Example:

    ```python
    >>> clip = read_clip("clip.mp4", start_seconds=1.5, end_seconds=4.0)
    >>> clip.modalities, clip.waveform.shape, clip.frames.shape
    (('audio', 'video'), torch.Size([40000]), torch.Size([13, 3, 256, 256]))
    ```
    """
    media = MediaFile(
        source,
        audio=audio,
        video=video,
        sampling_rate=sampling_rate,
        frames_per_second=frames_per_second,
        modalities=modalities,
        source_sampling_rate=source_sampling_rate,
        source_frames_per_second=source_frames_per_second,
        device=device,
        max_bytes=max_bytes,
    )
    with media:
        return media.read(
            start_seconds,
            end_seconds,
            audio_start_seconds=audio_start_seconds,
            max_seconds=max_seconds,
            crop_box=crop_box,
            transform=transform,
        )


def find_fault(path: str | os.PathLike[str]) -> str | None:
    """Say why a file cannot be read, without decoding it.

    The first bytes of a common format are enough; anything else is opened by the decoder. Files that are damaged or cut
    off further on are found when they are read.

    Args:
        path (`str` or `os.PathLike`): A local file, whatever its name.

    Returns:
        `str`: The reason, as in `MediaError.reason`; None where nothing is wrong.
    """
    try:
        with open_source(path) as source:
            if not source.is_known_format:
                MediaFile(path).close()
    except MediaError as error:
        return error.reason
    return None


class MediaFile:
    """An opened medium, to be read clip by clip; a context manager.

    Every source may be a path (`str`, `os.PathLike`), an http or https URL, bytes, a binary file object, a torchcodec
    decoder, or a `datasets` row (`{"path", "bytes"}` or `{"array", "sampling_rate"}`). Sound may also be an array (see
    `mono_from_array`), pictures an array or a list of PIL images (see `frames_from_array`). Playlists and scripts that
    name other files are refused.

    Args:
        source: One thing that holds sound, picture or both.
        audio: Instead of `source`: where the sound comes from.
        video: Instead of `source`: where the picture comes from. The same path or URL as `audio` is the same as one
            `source`; different sources start together, unless `audio_start_seconds` says otherwise.
        sampling_rate (`int`, defaults to 16000): Wanted rate of the waveform, Hz.
        frames_per_second (`float`, defaults to 5.0): Frames are taken at the times `start_seconds + k /
            frames_per_second`.
        modalities (`Sequence[str]`, defaults to `("audio", "video")`): What to read.
        source_sampling_rate (`int`, *optional*): Rate of a sound given as array, Hz; needed for arrays, ignored
            otherwise.
        source_frames_per_second (`float`, *optional*): Rate of pictures given as array. Default: `frames_per_second`,
            that is, they are taken as sampled already.
        device (`str` or `torch.device`, *optional*): Where pictures of files are decoded. Default: the CPU. Arrays and
            decoders stay where they are.
        max_bytes (`int`, defaults to 2 GiB): Limit of a download and of a stream that cannot seek.
        in_order (`bool`, defaults to `False`): Whether reads ascend, none beginning before the end of the one before.
            Then a file is not read through first, and what is held does not grow with its length. Arrays and decoders
            are not concerned.

    Raises:
        MediaError: If a source cannot be read, or holds none of the wanted modalities.
        ValueError: If the arguments make no sense, whatever the medium.
        ImportError: If torchcodec or FFmpeg's libraries are missing.
    """

    def __init__(
        self,
        source: Any = None,
        *,
        audio: Any = None,
        video: Any = None,
        sampling_rate: int = 16_000,
        frames_per_second: float = 5.0,
        modalities: Sequence[str] = ("audio", "video"),
        source_sampling_rate: int | None = None,
        source_frames_per_second: float | None = None,
        device: str | torch.device | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        in_order: bool = False,
    ):
        if source is not None and (audio is not None or video is not None):
            raise ValueError("Give either `source`, or `audio` and `video`, not both.")
        if source is None and audio is None and video is None:
            raise ValueError("Nothing to read: give `source`, `audio` or `video`.")
        unknown = set(modalities) - {"audio", "video"}
        if unknown or isinstance(modalities, str) or not modalities:
            raise ValueError(f"`modalities` has to be a choice of ('audio', 'video'), got {modalities!r}.")
        check_positive(sampling_rate=sampling_rate, frames_per_second=frames_per_second)
        self.sampling_rate = sampling_rate
        self.frames_per_second = frames_per_second
        self._source_sampling_rate = source_sampling_rate
        self._source_frames_per_second = source_frames_per_second
        self._device = "cpu" if device is None else device
        self._max_bytes = max_bytes
        self._in_order = in_order
        self._read_until = 0.0
        self._stack = contextlib.ExitStack()
        self._audio: Any = None
        self._video: Any = None

        parts: list[tuple[Any, tuple[str, ...]]]
        if source is None and _is_same_medium(audio, video):
            source = audio
        if source is not None:
            parts = [(source, tuple(modalities))]
        else:
            parts = [
                (part, (name,))
                for name, part in (("audio", audio), ("video", video))
                if name in modalities and part is not None
            ]
        self.name = " + ".join(source_name(part) for part, _ in parts) or "clip"
        with contextlib.ExitStack() as on_error, files_let_go():
            on_error.callback(self.close)
            for part, wanted in parts:
                self._open(part, wanted)
            if self._audio is None and self._video is None:
                raise MediaError(self.name, f"holds no {' and no '.join(_IN_WORDS[name] for name in modalities)}.")
            on_error.pop_all()

    def __enter__(self) -> MediaFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close files and delete downloads; sources that the caller opened stay open."""
        self._audio = self._video = None
        self._stack.close()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of the wanted modalities the medium has."""
        tracks = {"audio": self._audio, "video": self._video}
        return tuple(name for name, track in tracks.items() if track is not None)

    @property
    def duration_seconds(self) -> float | None:
        """End of the longer stream, by the file's own account; None where it gives none."""
        ends = [track.end_seconds for track in (self._audio, self._video) if track is not None]
        return None if None in ends or not ends else max(ends)

    @property
    def video_frames_per_second(self) -> float | None:
        """Frame rate of the video, by the file's own account; None without video, or where it gives none."""
        return getattr(self._video, "frames_per_second", None)

    def read(
        self,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        *,
        audio_start_seconds: float | None = None,
        max_seconds: float | None = None,
        crop_box: Sequence[int] | None = None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> Clip:
        """Read the part `[start_seconds, end_seconds)`.

        Args:
            start_seconds (`float`, defaults to 0.0): On the time axis of the medium.
            end_seconds (`float`, *optional*): Default: the end of the medium. A later end than that is the same.
            audio_start_seconds (`float`, *optional*): Where the clip begins in the sound, if not at `start_seconds`:
                0.0 where the sound is a file of the clip alone, beside a long film.
            max_seconds (`float`, *optional*): Read no more than this from the start.
            crop_box (`Sequence[int]`, *optional*): Part of the upright picture, pixels `(left, top, right, bottom)`,
                right and bottom exclusive.
            transform (`Callable`, *optional*): Applied to each small group of cropped frames `(n, 3, height, width)`
                as it is decoded, for example to shrink them; has to keep the first axis.

        Returns:
            [`Clip`]: A modality that the medium has, but not in this range, is None.

        Raises:
            MediaError: If nothing is there in the range, the crop box leaves the picture, or decoding fails.
            ValueError: If the range is negative or empty, or lies before what was read of a medium that is read in
                order.
        """
        heard_from = start_seconds if audio_start_seconds is None else audio_start_seconds
        for name, start in (("start_seconds", start_seconds), ("audio_start_seconds", heard_from)):
            if not (math.isfinite(start) and start >= 0):
                raise ValueError(f"`{name}` has to be 0 or more, got {start}.")
        if end_seconds is not None and not end_seconds > start_seconds:
            raise ValueError(f"`end_seconds` has to lie behind start_seconds = {start_seconds}, got {end_seconds}.")
        if max_seconds is not None:
            check_positive(max_seconds=max_seconds)
        stop = math.inf if end_seconds is None else float(end_seconds)
        stop = min(stop, start_seconds + (math.inf if max_seconds is None else max_seconds))

        if self._in_order:
            if start_seconds < self._read_until:
                raise ValueError(
                    f"`start_seconds` has to be {self._read_until} or more, where the last read ended, since the "
                    f"medium is opened with `in_order=True`; got {start_seconds}."
                )
            self._read_until = stop
        with files_let_go():
            return self._read(start_seconds, stop, heard_from, crop_box, transform)

    def _read(
        self,
        start_seconds: float,
        stop: float,
        heard_from: float,
        crop_box: Sequence[int] | None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> Clip:
        waveform = frames = None
        frame_times: list[float] = []
        if self._audio is not None:
            waveform = self._audio.read(heard_from, heard_from + (stop - start_seconds), self.sampling_rate)
        ends = []
        if waveform is not None:
            ends.append(start_seconds + len(waveform) / self.sampling_rate)
        if self._video is not None:
            box = _checked_box(crop_box, self._video)
            frames, frame_times, shown_until = self._read_picture(
                start_seconds, stop, max(ends, default=0.0), box, transform
            )
            if frames is not None:
                ends.append(shown_until)
        if waveform is None and frames is None:
            wanted = f"{start_seconds:g} to {stop:g} s" if math.isfinite(stop) else f"{start_seconds:g} s on"
            lasts = "" if self.duration_seconds is None else f"; it lasts {self.duration_seconds:g} s"
            raise MediaError(
                self.name, f"has no {' or '.join(_IN_WORDS[name] for name in self.modalities)} from {wanted}{lasts}."
            )
        return Clip(
            waveform=waveform,
            sampling_rate=None if waveform is None else self.sampling_rate,
            frames=frames,
            frame_seconds=None if frames is None else torch.tensor(frame_times, dtype=torch.float64) - start_seconds,
            start_seconds=start_seconds,
            end_seconds=min(stop, max(ends)),
        )

    def _read_picture(
        self,
        start: float,
        stop: float,
        heard_until: float,
        box: tuple[int, int, int, int],
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> tuple[torch.Tensor | None, list[float], float]:
        """The frames of a range, their times, and the end of the picture where it lies in the range."""
        video, rate = self._video, self.frames_per_second
        shown_until = video.end_seconds
        if video.is_still:  # as long as the sound lasts
            shown_until = max(shown_until, self.duration_seconds or 0.0, heard_until)
        # What the header says of the end may be wrong either way; who reads in order sees it on the way.
        is_open = video.is_open_ended and math.isfinite(stop)
        until = stop if is_open else min(stop, shown_until)
        if (until - start) * rate > _MOST_FRAMES:
            raise MediaError(self.name, f"its picture lasts {until:g} s, too long for one clip; give end_seconds.")
        times = _frame_times(start, until, rate, video)
        if not times:
            return None, [], shown_until
        frames = _read_frames(video, times, box, transform)
        if is_open:
            shown_until = video.shown_until(stop)
            times = _frame_times(start, shown_until, rate, video)
        return frames[: len(times)] if times else None, times, shown_until

    def _open(self, source: Any, wanted: tuple[str, ...]) -> None:
        audio, video = self._tracks_of(source, wanted)
        # One zero for both, and the same one whichever of the two is wanted.
        tracks = [track for track in (audio, video) if track is not None]
        for track in tracks:
            track.zero_seconds = min(track.begin_seconds for track in tracks)
        if "audio" in wanted:
            self._audio = audio or self._audio
        if "video" in wanted:
            self._video = video or self._video

    def _tracks_of(self, source: Any, wanted: tuple[str, ...]) -> tuple[Any, Any]:
        if hasattr(source, "convert"):  # one PIL image is a still picture
            source = [source]
        if isinstance(source, dict) and "array" in source:
            rate = source.get("sampling_rate") or self._source_sampling_rate
            return ArrayAudio(source["array"], rate), None
        if _is_array(source):
            if wanted == ("audio",) or ("audio" in wanted and _is_sound_shaped(source)):
                return ArrayAudio(source, self._source_sampling_rate), None
            return None, ArrayVideo(source, self._source_frames_per_second or self.frames_per_second)
        is_audio_decoder = hasattr(source, "get_samples_played_in_range")
        if is_audio_decoder or hasattr(source, "get_frames_played_at"):
            # What datasets yields knows its file: then the other stream can be had too, and the common zero.
            origin = getattr(source, "_hf_encoded", None) or {}
            if origin.get("bytes") is not None or os.path.isfile(origin.get("path") or ""):
                return self._tracks_of({"path": origin.get("path"), "bytes": origin.get("bytes")}, wanted)
            name = type(source).__name__
            return (AudioTrack(source, name), None) if is_audio_decoder else (None, VideoTrack(source, name))
        opened = self._stack.enter_context(open_source(source, self._max_bytes))
        return open_tracks(opened, wanted, self._device, in_order=self._in_order)


def _frame_times(start: float, stop: float, frames_per_second: float, track: Any) -> list[float]:
    """When frames are wanted: the grid `start + k / frames_per_second` inside the range and inside the picture.

    A still picture (one frame) is given once. Where the grid misses a short picture, its first moment in the
    range is taken. A picture that begins less than half a step behind a grid point (encoders let sound and picture
    begin some milliseconds apart) gives its first frame for it, with that frame's time.
    """
    begin = max(start, track.first_seconds)
    if stop - begin <= 1e-6:
        return []
    if track.is_still:
        return [start]
    step = 1 / frames_per_second
    first = max(math.ceil((begin - start) / step - 0.5), 0)
    last = math.ceil((stop - start) / step - 1e-6)
    times = [max(start + index / frames_per_second, begin) for index in range(first, last)]
    return [time for time in times if time < stop] or [begin]


def _read_frames(
    track: Any,
    times: list[float],
    box: tuple[int, int, int, int],
    transform: Callable[[torch.Tensor], torch.Tensor] | None,
) -> torch.Tensor:
    left, top, right, bottom = box
    group = max(1, _FRAME_GROUP_BYTES // (3 * track.height * track.width))
    groups = []
    for index in range(0, len(times), group):
        frames = track.frames_at(times[index : index + group])[..., top:bottom, left:right]
        groups.append(frames if transform is None else transform(frames))
    return torch.cat(groups).contiguous()


def _checked_box(crop_box: Sequence[int] | None, track: Any) -> tuple[int, int, int, int]:
    if crop_box is None:
        return 0, 0, track.width, track.height
    if len(crop_box) != 4 or any(int(edge) != edge for edge in crop_box):
        raise ValueError(f"`crop_box` has to be four whole numbers (left, top, right, bottom), got {crop_box!r}.")
    left, top, right, bottom = map(int, crop_box)
    if not (0 <= left < right <= track.width and 0 <= top < bottom <= track.height):
        raise MediaError(
            getattr(track, "_name", "video array"),
            f"crop_box (left, top, right, bottom) = {(left, top, right, bottom)} is empty or leaves the upright "
            f"picture, which is {track.width} pixels wide and {track.height} high.",
        )
    return left, top, right, bottom


def _is_same_medium(audio: Any, video: Any) -> bool:
    if audio is None or video is None:
        return False
    return audio is video or (_medium_key(audio) is not None and _medium_key(audio) == _medium_key(video))


def _medium_key(source: Any) -> str | None:
    if is_url(source):
        return source
    source = getattr(source, "_hf_encoded", source)
    if isinstance(source, dict):
        source = source.get("path") if source.get("bytes") is None else None
    is_file = isinstance(source, (str, os.PathLike)) and os.path.isfile(source)
    return os.path.realpath(os.fsdecode(source)) if is_file else None


def _is_array(source: Any) -> bool:
    return isinstance(source, (np.ndarray, torch.Tensor, list, tuple))


def _is_sound_shaped(source: Any) -> bool:
    if isinstance(source, (list, tuple)):
        return bool(source) and (np.isscalar(source[0]) or getattr(source[0], "ndim", None) == 0)
    return source.ndim <= 2
