"""The media reader: anything that holds audio or video becomes a `Clip` of samples and frames on one time axis.

    read_clip("talk.mp4", start_seconds=12.0, end_seconds=15.5)        # one clip
    with MediaFile("talk.mp4") as media:                               # many clips, each part decoded once
        for start in range(0, 60, 5): media.read(start, start + 5)

Two tracks (audio, video) each know their own begin and end and give what was asked for; `MediaFile` puts them on a
common time axis, whose zero is where the earlier of the two streams of a file begins, as in a player.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .decoding_foal_net import DEFAULT_MAX_PIXELS, MediaStreams
from .sources_foal_net import DEFAULT_MAX_BYTES, MediaError, is_url, open_source, source_name
from .torchcodec_foal_net import converts_audio, file_of, is_decoder, stream_of, track_of
from .tracks_foal_net import ArrayAudio, ArrayVideo, AudioTrack, VideoTrack, check_positive


_FRAME_GROUP_BYTES = 2**26  # decoded at once: bounds the memory where `transform` shrinks large frames
_FRAMES_OF_MAX_PIXELS = 8  # that a clip may hold
_WIDEST_SQUARE = 4  # crop boxes that leave the frame are at most this much wider than it
_LONGEST_CLIP_SECONDS = 6 * 3600.0  # of audio that is held at once
# Full frames `(n, 3, height, width)` and their times to the faces of each, by the number of the person.
FindFaces = Callable[[torch.Tensor, Sequence[float]], Sequence[dict[int, Any]]]


@dataclass(frozen=True)
class Clip:
    """What was read; times are in seconds since the clip's start.

    Attributes:
        waveform (`torch.Tensor` of shape `(samples,)`, *optional*): Float32, channels averaged; sample i is the audio
            at `i / sampling_rate`. None where the range holds no audio.
        sampling_rate (`int`, *optional*): Hz; None without a waveform.
        frames (`torch.Tensor` of shape `(num_frames, 3, height, width)`, *optional*): RGB, uint8 (or what `transform`
            made of it). None where the range holds no video.
        frame_seconds (`torch.Tensor` of shape `(num_frames,)`, *optional*): Float64: the time that each frame shows.
        start_seconds (`float`): Start of the clip on the time axis of the source.
        end_seconds (`float`): End of what was really there of the range, exclusive.
        notes (`tuple[str, ...]`): What was skipped, moved or converted in the source so far, in words.
        audio_features, video_features (`torch.Tensor` of shape `(positions, width)`, *optional*): Stored output of an
            encoder, or features of another extractor, in place of the waveform or the frames.
        faces (`tuple[dict, ...]`, *optional*): The faces of each frame, by the number of the person, where `find_faces`
            of [`MediaFile.read`] looked for them.
    """

    waveform: torch.Tensor | None
    sampling_rate: int | None
    frames: torch.Tensor | None
    frame_seconds: torch.Tensor | None
    start_seconds: float
    end_seconds: float
    notes: tuple[str, ...] = ()
    audio_features: torch.Tensor | None = None
    video_features: torch.Tensor | None = None
    faces: tuple[Any, ...] | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the clip has: a subset of `("audio", "video")`, in this order."""
        present = {"audio": (self.waveform, self.audio_features), "video": (self.frames, self.video_features)}
        return tuple(name for name, parts in present.items() if any(part is not None for part in parts))


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
    find_faces: FindFaces | None = None,
    device: str | torch.device | None = None,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Clip:
    """Read one clip; only the wanted range is decoded.

    The arguments are those of [`MediaFile`] (what to read) and of [`MediaFile.read`] (which part of it).

    Raises:
        MediaError: If the source cannot be read, or holds nothing in the range.
        ValueError: If the arguments make no sense, whatever the source.

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
        max_pixels=max_pixels,
    )
    with media:
        return media.read(
            start_seconds,
            end_seconds,
            audio_start_seconds=audio_start_seconds,
            max_seconds=max_seconds,
            crop_box=crop_box,
            transform=transform,
            find_faces=find_faces,
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
    """An opened source, to be read clip by clip; a context manager.

    Every source may be a path (`str`, `os.PathLike`), an http or https URL, bytes, a binary file object, a torchcodec
    decoder, or a `datasets` row (`{"path", "bytes"}` or `{"array", "sampling_rate"}`). A row may choose a stream of its
    file by its index, `{"path": "film.mkv", "stream_index": 2}`; otherwise it is the one that FFmpeg takes. Audio may
    also be an array (see `mono_from_array`), video an array or a list of PIL images (see `frames_from_array`).
    Playlists and scripts that name other files are refused. Cover art and other attached pictures are no video.

    Frames are what a player shows: upright, with square pixels, high dynamic range in the colours of BT.709. A decoder
    gives what its owner chose: its stream, its sampling rate and channels.

    Args:
        source: One thing that holds audio, video or both.
        audio: Instead of `source`: where the audio comes from.
        video: Instead of `source`: where the video comes from. The same path or URL as `audio` is the same as one
            `source`; different sources start together, unless `audio_start_seconds` says otherwise.
        sampling_rate (`int`, defaults to 16000): Wanted rate of the waveform, Hz.
        frames_per_second (`float`, defaults to 5.0): Frames are taken at the times `start_seconds + k /
            frames_per_second`.
        modalities (`Sequence[str]`, defaults to `("audio", "video")`): What to read.
        source_sampling_rate (`int`, *optional*): Rate of audio given as array, Hz; needed for arrays, ignored
            otherwise.
        source_frames_per_second (`float`, *optional*): Rate of frames given as array. Default: `frames_per_second`,
            that is, they are taken as sampled already.
        device (`str` or `torch.device`, *optional*): Where frames of files are put, before `transform`. Default: the
            CPU. Arrays and decoders stay where they are.
        max_bytes (`int`, defaults to 2 GiB): Limit of a download and of a stream that cannot seek.
        max_pixels (`int`, defaults to 67,108,864): Limit of the pixels of one frame, which is twice what 8K has. The
            frames of one clip together may have 8 times as many, after `transform`.
        in_order (`bool`, defaults to `False`): Whether reads ascend, none beginning before the end of the one before.
            Then nothing is sought in a file, and times that begin anew or jump on the way are seen. Arrays and decoders
            are not concerned.

    Raises:
        MediaError: If a source cannot be read, or holds none of the wanted modalities.
        ValueError: If the arguments make no sense, whatever the source.
        ImportError: If PyAV is missing.
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
        max_pixels: int = DEFAULT_MAX_PIXELS,
        in_order: bool = False,
    ):
        if source is not None and (audio is not None or video is not None):
            raise ValueError("Give either `source`, or `audio` and `video`, not both.")
        if source is None and audio is None and video is None:
            raise ValueError("Nothing to read: give `source`, `audio` or `video`.")
        unknown = set(modalities) - {"audio", "video"}
        if unknown or isinstance(modalities, str) or not modalities:
            raise ValueError(f"`modalities` has to be a choice of ('audio', 'video'), got {modalities!r}.")
        check_positive(sampling_rate=sampling_rate, frames_per_second=frames_per_second, max_pixels=max_pixels)
        self.sampling_rate = sampling_rate
        self.frames_per_second = frames_per_second
        self._source_sampling_rate = source_sampling_rate
        self._source_frames_per_second = source_frames_per_second
        self._device = device
        self._max_bytes = max_bytes
        self._max_pixels = max_pixels
        self._in_order = in_order
        self._read_until = 0.0
        self._stack = contextlib.ExitStack()
        self._audio: Any = None
        self._video: Any = None
        self._notes: list[dict[str, None]] = []

        parts: list[tuple[Any, tuple[str, ...], dict[str, int]]]
        stream_index = stream_of(source, "either")
        if source is None and _is_same_source(audio, video):
            source, stream_index = audio, stream_of(audio, "audio") | stream_of(video)
        if source is not None:
            parts = [(source, tuple(modalities), stream_index)]
        else:
            parts = [
                (part, (name,), stream_of(part, name))
                for name, part in (("audio", audio), ("video", video))
                if name in modalities and part is not None
            ]
        self.name = " + ".join(source_name(part) for part, _, _ in parts) or "clip"
        with contextlib.ExitStack() as on_error:
            on_error.callback(self.close)
            for part, wanted, stream_index in parts:
                self._open(part, wanted, stream_index)
            if self._audio is None and self._video is None:
                reason = "; ".join([f"holds no {' and no '.join(modalities)}", *self.notes])
                raise MediaError(self.name, f"{reason}.")
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
    def notes(self) -> tuple[str, ...]:
        """What was skipped, moved or converted so far, in words."""
        return tuple(dict.fromkeys(note for notes in self._notes for note in notes))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of the wanted modalities the source has."""
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
        find_faces: FindFaces | None = None,
        windows: Sequence[tuple[float, float]] = (),
    ) -> Clip:
        """Read the part `[start_seconds, end_seconds)`.

        Args:
            start_seconds (`float`, defaults to 0.0): On the time axis of the source.
            end_seconds (`float`, *optional*): Default: the end of the source. A later end than that is the same.
            audio_start_seconds (`float`, *optional*): Where the clip begins in the audio, if not at `start_seconds`:
                0.0 where the audio is a file of the clip alone, beside a long video.
            max_seconds (`float`, *optional*): Read no more than this from the start.
            crop_box (`Sequence[int]`, *optional*): Part of the frame as it is shown (upright, with square pixels),
                pixels `(left, top, right, bottom)`, right and bottom exclusive. A square with its centre in the frame
                may leave it, as those around faces do: the pixels at the border are repeated.
            transform (`Callable`, *optional*): Applied to each small group of cropped frames `(n, 3, height, width)`
                as it is decoded, for example to shrink them; has to keep the first axis.
            find_faces (`Callable`, *optional*): Called with the same frames before `transform`, and their times; what
                it returns for each is `faces` of the clip.
            windows (`Sequence[tuple[float, float]]`, *optional*): Start and end of the ranges that are to be cut from
                this part and others: the frames are then those of each of these ranges (see `frame_times`).

        Returns:
            [`Clip`]: A modality that the source has, but not in this range, is None.

        Raises:
            MediaError: If nothing is there in the range, it is too large, the crop box leaves the frame, or decoding
                fails.
            ValueError: If the range is negative or empty, or lies before what was read of a source that is read in
                order.
        """
        audio_start = start_seconds if audio_start_seconds is None else audio_start_seconds
        for name, start in (("start_seconds", start_seconds), ("audio_start_seconds", audio_start)):
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
                    f"source is opened with `in_order=True`; got {start_seconds}."
                )
            self._read_until = stop
        return self._read(start_seconds, stop, audio_start, crop_box, transform, find_faces, windows)

    def frame_times(self, start_seconds: float, end_seconds: float, from_seconds: float = 0.0) -> list[float]:
        """At which times `read` takes the frames of a range; those before `from_seconds` are left out."""
        if self._video is None or not self._video.prepare():
            return []
        if self._video.is_still:
            return [start_seconds]
        return list(_frame_times(start_seconds, end_seconds, self.frames_per_second, self._video, from_seconds))

    def _read(
        self,
        start_seconds: float,
        stop: float,
        audio_start: float,
        crop_box: Sequence[int] | None,
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
        find_faces: FindFaces | None,
        windows: Sequence[tuple[float, float]],
    ) -> Clip:
        waveform = frames = None
        faces: list[dict[int, Any]] = []
        frame_times: list[float] = []
        ends = []
        if self._audio is not None:
            length = min(stop - start_seconds, _LONGEST_CLIP_SECONDS)
            waveform = self._audio.read(audio_start, audio_start + length, self.sampling_rate)
        if waveform is not None:
            ends.append(start_seconds + len(waveform) / self.sampling_rate)
            if len(waveform) >= _LONGEST_CLIP_SECONDS * self.sampling_rate:
                raise MediaError(self.name, f"is longer than {_LONGEST_CLIP_SECONDS:g} s; give end_seconds.")
        if self._video is not None and self._video.prepare():
            box = _checked_box(crop_box, self._video)
            frames, frame_times, shown_until = self._read_video(
                start_seconds, stop, max(ends, default=0.0), box, transform, windows, find_faces, faces
            )
            if frames is not None:
                ends.append(shown_until)
        if waveform is None and frames is None:
            wanted = f"{start_seconds:g} to {stop:g} s" if math.isfinite(stop) else f"{start_seconds:g} s on"
            lasts = [] if self.duration_seconds is None else [f"it lasts {self.duration_seconds:g} s"]
            reason = "; ".join([f"has no {' or '.join(self.modalities)} from {wanted}", *lasts, *self.notes])
            raise MediaError(self.name, f"{reason}.")
        return Clip(
            waveform=waveform,
            sampling_rate=None if waveform is None else self.sampling_rate,
            frames=frames,
            frame_seconds=None if frames is None else torch.tensor(frame_times, dtype=torch.float64) - start_seconds,
            start_seconds=start_seconds,
            end_seconds=min(stop, max(ends)),
            notes=self.notes,
            faces=tuple(faces) if frames is not None and find_faces is not None else None,
        )

    def _read_video(
        self,
        start: float,
        stop: float,
        audio_end: float,
        box: tuple[int, int, int, int],
        transform: Callable[[torch.Tensor], torch.Tensor] | None,
        windows: Sequence[tuple[float, float]],
        find_faces: FindFaces | None,
        faces: list[dict[int, Any]],
    ) -> tuple[torch.Tensor | None, list[float], float]:
        """The frames of a range, their times, and the end of the video where it lies in the range; adds to `faces`."""
        video = self._video
        size = max(1, _FRAME_GROUP_BYTES // (3 * video.height * video.width))
        wanted = _frame_times(start, stop, self.frames_per_second, video)
        expected = math.ceil((stop - start) * self.frames_per_second - 1e-6) if math.isfinite(stop) else 0
        if windows and not video.is_still:
            times_of_all = (time for first, last in windows for time in self.frame_times(first, min(last, stop), start))
            in_order = sorted({round(time, 8): time for time in times_of_all if time > start - 1e-6}.values())
            wanted, expected = iter(in_order), len(in_order)
        if video.is_still:  # as long as the audio lasts
            shown_until = max(video.end_seconds or 0.0, self.duration_seconds or 0.0, audio_end)
            wanted = iter([start] if start < min(stop, shown_until) - 1e-6 else [])
        frames = _FrameStore(self.name, expected, _FRAMES_OF_MAX_PIXELS * self._max_pixels)
        times: list[float] = []
        while group := list(itertools.islice(wanted, size)):
            images = video.frames_at(group)
            times += group[: len(images)]
            if images:
                cropped = cut_out(torch.stack(images), box)
                if find_faces is not None:
                    faces += find_faces(cropped, group[: len(images)])
                frames.add(cropped if transform is None else transform(cropped))
            if len(images) < len(group):
                break
        if not video.is_still:
            if math.isfinite(stop):
                video.read_until(stop)
            shown_until = min(stop, math.inf if video.end_seconds is None else video.end_seconds)
        return frames.all(), times, shown_until

    def _open(self, source: Any, wanted: tuple[str, ...], stream_index: dict[str, int]) -> None:
        audio, video = self._tracks_of(source, wanted, stream_index)
        # One zero for both, and the same one whichever of the two is wanted.
        tracks = [track for track in (audio, video) if track is not None]
        for track in tracks:
            track.zero_seconds = min(track.begin_seconds for track in tracks)
        if "audio" in wanted:
            self._audio = audio or self._audio
        if "video" in wanted:
            self._video = video or self._video

    def _tracks_of(self, source: Any, wanted: tuple[str, ...], stream_index: dict[str, int]) -> tuple[Any, Any]:
        if hasattr(source, "convert"):  # one PIL image is a video of one frame
            source = [source]
        if isinstance(source, dict) and "array" in source:
            rate = source.get("sampling_rate") or self._source_sampling_rate
            return self._noting(ArrayAudio(source["array"], rate)), None
        if _is_array(source):
            if wanted == ("audio",) or ("audio" in wanted and _is_sound_shaped(source)):
                return self._noting(ArrayAudio(source, self._source_sampling_rate)), None
            return None, ArrayVideo(source, self._source_frames_per_second or self.frames_per_second)
        if is_decoder(source):
            origin = file_of(source)
            given = track_of(source, self._max_pixels)
            if origin is None:
                return self._noting(given[0]), given[1]
            audio, video = self._tracks_of(origin, wanted, stream_of(source) | stream_index)
            return self._noting(given[0]) if converts_audio(source) else audio, video
        opened = self._stack.enter_context(open_source(source, self._max_bytes))
        streams = MediaStreams(opened, self._max_pixels, stream_index)
        self._stack.callback(streams.close)
        self._notes.append(streams.notes)
        audio = AudioTrack(streams) if "audio" in streams.begins else None
        video = VideoTrack(streams, self._device, in_order=self._in_order) if "video" in streams.begins else None
        for track in (audio, video):
            if track is not None:
                self._stack.callback(track.close)
        return audio, video

    def _noting(self, track: Any) -> Any:
        if track is not None:
            self._notes.append(track.notes)
        return track


class _FrameStore:
    """The frames of a clip, each in memory once.

    Args:
        name (`str`): For messages.
        num_expected (`int`): How many frames are expected, 0 if that is not known.
        max_pixels (`int`): Of all frames together.
    """

    def __init__(self, name: str, num_expected: int, max_pixels: int):
        self._name = name
        self._num_expected = num_expected
        self._max_pixels = max_pixels
        self._groups: list[torch.Tensor] = []
        self._num_frames = 0

    def add(self, frames: torch.Tensor) -> None:
        """Add the next frames `(n, channels, height, width)`."""
        most = self._max_pixels // max(frames[0, 0].numel(), 1)
        begin, self._num_frames = self._num_frames, self._num_frames + len(frames)
        if self._num_frames > most:
            raise MediaError(
                self._name,
                f"the frames of the clip have more than 8 x max_pixels = {self._max_pixels} pixels; read a shorter "
                "range, fewer frames_per_second, or shrink them with `transform`.",
            )
        if not self._groups and len(frames) < self._num_expected <= most:
            self._groups = [frames.new_empty((self._num_expected, *frames.shape[1:]))]
        elif not self._groups or self._num_frames > len(self._groups[0]):
            self._groups.append(frames)
            return
        self._groups[0][begin : self._num_frames] = frames

    def all(self) -> torch.Tensor | None:
        """All frames, None if there are none."""
        if not self._groups:
            return None
        frames = self._groups[0] if len(self._groups) == 1 else torch.cat(self._groups)
        return (frames if len(frames) == self._num_frames else frames[: self._num_frames].clone()).contiguous()


def _frame_times(
    start: float, stop: float, frames_per_second: float, track: Any, from_seconds: float = 0.0
) -> Iterator[float]:
    """When frames are wanted: the grid `start + k / frames_per_second` inside the range and behind the first frame.

    Where the grid misses a short range, its first moment is taken. A video that begins less than half a step behind a
    grid point (encoders let audio and video begin some milliseconds apart) gives its first frame for it, with that
    frame's time.
    """
    begin = max(start, track.first_seconds)
    step = 1 / frames_per_second
    first = max(math.ceil((begin - start) / step - 0.5), 0)
    for index in itertools.count(max(first, math.ceil((from_seconds - start) / step - 1e-6))):
        time = max(start + index / frames_per_second, begin)
        if index == first and begin < stop - 1e-6 and not time < stop - step * 1e-6:
            time = begin
        if not time < stop - step * 1e-6:
            return
        yield time


def _checked_box(crop_box: Sequence[int] | None, track: Any) -> tuple[int, int, int, int]:
    if crop_box is None:
        return 0, 0, track.width, track.height
    if len(crop_box) != 4 or any(int(edge) != edge for edge in crop_box):
        raise ValueError(f"`crop_box` has to be four whole numbers (left, top, right, bottom), got {crop_box!r}.")
    left, top, right, bottom = map(int, crop_box)
    is_inside = 0 <= left < right <= track.width and 0 <= top < bottom <= track.height
    side = right - left
    is_around = 0 < left + right < 2 * track.width and 0 < top + bottom < 2 * track.height
    is_square = 0 < side == bottom - top <= _WIDEST_SQUARE * max(track.width, track.height)
    if not is_inside and not (is_square and is_around):
        raise MediaError(
            getattr(track, "_name", "video array"),
            f"crop_box (left, top, right, bottom) = {(left, top, right, bottom)} is empty or leaves the "
            f"frame as it is shown, which is {track.width} pixels wide and {track.height} high.",
        )
    return left, top, right, bottom


def cut_out(frames: torch.Tensor, box: tuple[int, int, int, int]) -> torch.Tensor:
    """The part of frames `(..., height, width)` in a box; beyond the border the pixels at the border are repeated."""
    left, top, right, bottom = box
    height, width = frames.shape[-2:]
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return frames[..., top:bottom, left:right]
    rows = torch.arange(top, bottom, device=frames.device).clamp_(0, height - 1)
    columns = torch.arange(left, right, device=frames.device).clamp_(0, width - 1)
    return frames[..., rows, :][..., columns]


def _is_same_source(audio: Any, video: Any) -> bool:
    if audio is None or video is None:
        return False
    return audio is video or (_source_key(audio) is not None and _source_key(audio) == _source_key(video))


def _source_key(source: Any) -> str | None:
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
