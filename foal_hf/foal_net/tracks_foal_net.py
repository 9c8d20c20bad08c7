"""Tracks: the audio or the video of one source, each on its own time axis.

A track gives the samples of a range, or the frames at given times. Reads that ascend go on decoding where the last one
ended and hold only what they still need; a read that goes back begins anew. `zero_seconds` is the point of the
stream's own clock that counts as 0; `MediaFile` sets it, so that audio and video of one file share it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from .arrays_foal_net import (
    MAX_SAMPLING_RATE,
    MIN_SAMPLING_RATE,
    channels_from_array,
    check_samples,
    frames_from_array,
    mix_to_mono,
    pcm_to_float,
    resample,
)
from .decoding_foal_net import (
    TIME_TOLERANCE_SECONDS,
    MediaStreams,
    check_sampling_rate,
    decoding,
)
from .display_foal_net import Display
from .sources_foal_net import MediaError


CANCELLING_CHANNELS = "its audio channels cancel each other out; the louder one is used"

_GAP_SECONDS = 0.05  # audio goes on without a gap up to this: lost packets and rounded times move it by less
_MARGIN_SECONDS = 0.01  # wider than the resampling filter reaches
_SEEK_SECONDS = 5.0  # frames that are further ahead are sought, nearer ones decoded on the way


class _Part(NamedTuple):
    """Samples of one rate that begin at `begin / rate` seconds on the clock of the stream."""

    begin: int
    rate: int
    samples: torch.Tensor
    cancels: bool

    @property
    def end(self) -> int:
        return self.begin + len(self.samples)


class AudioTrack:
    """The audio stream of a file.

    It is decoded at its own rate, or rates, and resampled here, so that clips which touch each other fit together.

    Args:
        streams (`MediaStreams`): The file.
    """

    def __init__(self, streams: MediaStreams):
        self._streams = streams
        self._name = streams.name
        self._frames: Iterator[tuple[Any, float]] | None = None
        self._parts: deque[_Part] = deque()
        self._end = 0.0  # seconds on the clock of the stream, of what is decoded
        self._counted = 0.0  # where the next frame begins if the times of the file just count the frames
        self._is_complete = False
        self._from = math.inf  # reads may begin here or later
        self.begin_seconds = streams.begins["audio"]
        self.zero_seconds = 0.0

    def close(self) -> None:
        """Close the file."""
        _close(self._frames)

    @property
    def end_seconds(self) -> float | None:
        """Where the audio ends: by the file's own account until the end is reached, None where it gives none."""
        end = self._end if self._is_complete else self._streams.end_seconds("audio")
        return None if end is None else end - self.zero_seconds

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no audio."""
        start, stop = start + self.zero_seconds, stop + self.zero_seconds  # on the clock of the stream
        with decoding(self._name):
            if self._frames is None or start - _MARGIN_SECONDS < self._from:
                self._begin(start - _MARGIN_SECONDS)
            while not self._is_complete and self._end < stop + _MARGIN_SECONDS:
                self._take_frame()
        self._from = start - _MARGIN_SECONDS
        while self._parts and self._parts[0].end / self._parts[0].rate <= self._from:
            self._parts.popleft()
        num_samples = math.ceil((min(stop, self._end) - start) * sampling_rate - 1e-6) if self._is_complete else None
        wanted = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        num_samples = min(number for number in (num_samples, wanted) if number is not None)
        runs = [
            run for run in _runs(self._parts) if run[0].begin < stop * run[0].rate and run[-1].end > start * run[0].rate
        ]
        if num_samples <= 0 or not runs:
            return None
        waveform = torch.zeros(num_samples)
        for run in runs:
            self._add(waveform, run, start, sampling_rate)
        check_samples(waveform, self._name)
        return waveform

    def _add(self, waveform: torch.Tensor, run: list[_Part], start: float, sampling_rate: int) -> None:
        """Write what a run holds into a waveform that begins at `start`."""
        rate, begin, end = run[0].rate, run[0].begin, run[-1].end
        first = max(math.floor((start - _MARGIN_SECONDS) * rate), begin)
        last = min(math.ceil((start + len(waveform) / sampling_rate + _MARGIN_SECONDS) * rate), end)
        at = max(math.ceil((begin / rate - start) * sampling_rate - 1e-6), 0)
        samples = torch.cat([part.samples for part in run])[first - begin : last - begin]
        if any(part.cancels and part.begin < last and part.end > first for part in run):
            self._streams.note(CANCELLING_CHANNELS)
        piece = resample(samples, rate, sampling_rate, start + at / sampling_rate - first / rate, len(waveform) - at)
        waveform[at : at + len(piece)] = piece

    def _begin(self, seconds: float) -> None:
        _close(self._frames)
        self._frames = self._streams.frames("audio", needed_from=seconds)
        self._parts.clear()
        self._end, self._is_complete = self._streams.begin_seconds, False

    def _take_frame(self) -> None:
        assert self._frames is not None
        frame, seconds = next(self._frames, (None, 0.0))
        if frame is None:
            self._is_complete = True
            return
        rate = frame.sample_rate
        check_sampling_rate(self._name, rate)
        samples, cancels = mix_to_mono(_channels(frame))
        previous = self._parts[-1] if self._parts else None
        if previous is not None and seconds - max(previous.end / previous.rate, self._counted) <= _GAP_SECONDS:
            begin = previous.end if rate == previous.rate else round(previous.end / previous.rate * rate)
        else:
            begin = round(seconds * rate)
        self._parts.append(_Part(begin, rate, samples, cancels))
        self._end = (begin + len(samples)) / rate
        self._counted = seconds + self._streams.claimed_seconds(frame)


class VideoTrack:
    """The video stream of a file.

    Args:
        streams (`MediaStreams`): The file.
        device (`str` or `torch.device`, *optional*): Where frames are put. Default: the CPU.
        in_order (`bool`): Whether reads ascend: then no frame is sought, which could lead past a place where times
            begin anew.
    """

    def __init__(self, streams: MediaStreams, device: str | torch.device | None = None, *, in_order: bool = False):
        self._streams = streams
        self._name = streams.name
        self._device = device
        self._may_seek = streams.has_index and not in_order
        self._frames: Iterator[tuple[Any, float]] | None = None
        self._display: Display | None = None
        self._current: tuple[Any, float] | None = None
        self._next: tuple[Any, float] | None = None
        self._is_first = False  # whether the current frame is the first one
        self._shown: tuple[Any, torch.Tensor] | None = None  # the last frame that was asked for, and its pixels
        self.begin_seconds = streams.begins["video"]
        self.zero_seconds = self.first_seconds = 0.0
        self.frames_per_second = streams.frames_per_second
        self.height = self.width = 0
        self.is_still = False

    def close(self) -> None:
        """Close the file."""
        _close(self._frames)

    def prepare(self) -> bool:
        """Decode the first two frames, unless that is done, and say whether there is any.

        Then `height` and `width` (pixels, as the frames are shown), `first_seconds` (when the first is shown) and
        `is_still` (whether it is the only one) are known.
        """
        if self._frames is None:
            self._streams.check_frame_size()
            with decoding(self._name):
                self._begin()
                if self._current is None:
                    limit = self._streams.max_pixels
                    self._streams.note(
                        f"none of its video frames can be decoded, or they are above max_pixels = {limit}"
                    )
                    return False
                frame, seconds = self._current
                self._display = Display(frame, self._streams.pixel_aspect_ratio)
            self.height, self.width = self._display.height, self._display.width
            self._streams.check_frame_size(self.height, self.width)
            self.first_seconds = min(seconds, self.begin_seconds) - self.zero_seconds  # what comes before is damaged
            self.is_still = self._next is None
        return self._display is not None

    @property
    def end_seconds(self) -> float | None:
        """When the last frame is no longer shown: by the file's own account until the end is reached."""
        end = self._streams.end_seconds("video")
        if self._next is None and self._current is not None:
            frame, seconds = self._current
            end = seconds + self._streams.frame_seconds(frame)
        return None if end is None else end - self.zero_seconds

    def frames_at(self, seconds: list[float]) -> list[torch.Tensor]:
        """The frames shown at these ascending times, `(3, height, width)` each; none behind the end."""
        images = []
        with decoding(self._name):
            for time in seconds:
                time += TIME_TOLERANCE_SECONDS
                self._go_to(self.zero_seconds + time)
                if self._next is None and not self.is_still and time >= (self.end_seconds or 0.0):
                    break
                assert self._current is not None and self._display is not None
                frame = self._current[0]
                if self._shown is None or self._shown[0] is not frame:
                    self._streams.check_frame_size(frame.height, frame.width)
                    self._shown = frame, self._display.rgb(frame, self._streams.note).to(self._device)
                images.append(self._shown[1])
        return images

    def read_until(self, seconds: float) -> None:
        """Decode on, to see whether the video ends before this time."""
        with decoding(self._name):
            while self._next is not None and self._next[1] < self.zero_seconds + seconds:
                self._advance()

    def _go_to(self, time: float) -> None:
        """Make the frame that is shown at `time` the current one."""
        assert self._current is not None
        is_behind = time < self._current[1] and not self._is_first
        is_far = self._next is not None and time > self._next[1] + _SEEK_SECONDS
        if is_behind or (is_far and self._may_seek):
            self._seek(time)
        while self._next is not None and self._next[1] <= time:
            self._advance()

    def _seek(self, time: float) -> None:
        """Begin anew at or before `time`: with the key frame before it if the file has an index, else at the start."""
        step = 0.0
        while self._may_seek and time - step > self.zero_seconds + self.first_seconds + _SEEK_SECONDS:
            try:
                self._begin(time - step)
            except (MediaError, ValueError, OSError):  # cannot seek
                break
            if self._current is not None and self._current[1] <= time:
                return
            step = 2 * step + 1  # it landed behind the time
        self._begin()

    def _begin(self, seek_seconds: float | None = None) -> None:
        _close(self._frames)
        self._frames = self._streams.frames("video", seek_seconds=seek_seconds)
        self._current, self._next = None, next(self._frames, None)
        self._advance()
        self._is_first = seek_seconds is None

    def _advance(self) -> None:
        assert self._frames is not None
        self._is_first = False
        self._current = self._next or self._current
        self._next = next(self._frames, None)


class ArrayAudio:
    """Audio that is an array already."""

    begin_seconds = 0.0
    zero_seconds = 0.0

    def __init__(self, array: Any, sampling_rate: int | None):
        if sampling_rate is None:
            raise ValueError(
                "Audio given as an array needs its sampling rate in Hz (`source_sampling_rate`); it is not guessed."
            )
        if sampling_rate != int(sampling_rate) or not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
            raise ValueError(
                f"The sampling rate of audio has to be a whole number of Hz from {MIN_SAMPLING_RATE} to "
                f"{MAX_SAMPLING_RATE}, got {sampling_rate!r}."
            )
        self._samples, cancels = mix_to_mono(channels_from_array(array))
        self.notes = {CANCELLING_CHANNELS: None} if cancels else {}
        self._rate = int(sampling_rate)
        self.end_seconds = len(self._samples) / self._rate

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no audio."""
        num_samples = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        waveform = resample(self._samples, self._rate, sampling_rate, start, num_samples)
        return waveform if len(waveform) else None


class ArrayVideo:
    """Frames that are an array already."""

    begin_seconds = first_seconds = zero_seconds = 0.0

    def __init__(self, frames: Any, frames_per_second: float):
        check_positive(source_frames_per_second=frames_per_second)
        self._frames = frames_from_array(frames)
        self._rate = self.frames_per_second = frames_per_second
        self.height, self.width = self._frames.shape[-2:]
        self.is_still = len(self._frames) == 1
        self.end_seconds = len(self._frames) / frames_per_second

    def frames_at(self, seconds: list[float]) -> list[torch.Tensor]:
        """The frames shown at these times, `(3, height, width)` each; none behind the end."""
        last = len(self._frames) - 1
        times = [time + TIME_TOLERANCE_SECONDS for time in seconds]
        return [
            self._frames[min(int(time * self._rate), last)]
            for time in times
            if self.is_still or time < self.end_seconds
        ]

    def prepare(self) -> bool:
        """Whether there is any frame."""
        return True

    def read_until(self, seconds: float) -> None:
        """Nothing to do: the end is known."""


def check_positive(**values: float) -> None:
    """Raise `ValueError` unless every value is a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` has to be above 0, got {value}.")


def _channels(frame: Any) -> torch.Tensor:
    """The samples of a frame of audio, `(channels, samples)`, floating point in [-1, 1]."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return pcm_to_float(torch.from_numpy(array))


def _runs(parts: deque[_Part]) -> list[list[_Part]]:
    """Parts that follow one another without a gap at one rate, together."""
    runs: list[list[_Part]] = []
    for part in parts:
        if runs and runs[-1][-1].end == part.begin and runs[-1][-1].rate == part.rate:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def _close(frames: Any) -> None:
    if frames is not None:
        frames.close()
