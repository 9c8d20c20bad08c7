"""Tracks: the sound or the picture of one medium, each on its own time axis.

A track knows where it begins and ends, and gives samples of a range, or frames at given times. `zero_seconds` is the
point of the stream's own clock that counts as 0; whoever opens the tracks sets it, so that sound and picture of one
file share it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from .arrays_foal_net import frames_from_array, mono_from_array, resample
from .sources_foal_net import MediaError, OpenSource


TIME_TOLERANCE_SECONDS = 1e-3  # Matroska and WebM keep times in whole milliseconds
# FFmpeg gives attached pictures (cover art) no time; torchcodec shows that as -2**63 ticks.
_NO_TIME_STAMP_SECONDS = -1e9
_RESAMPLING_MARGIN_SECONDS = 0.01  # wider than the resampling filter reaches


def open_tracks(source: OpenSource, wanted: tuple[str, ...], device: str | torch.device) -> tuple[Any, Any]:
    """The audio and the video track of a file, None for what it lacks.

    Both are opened whichever is wanted, since the earlier one tells where the time axis of the file begins.

    Raises:
        MediaError: If FFmpeg cannot open it.
        ImportError: If torchcodec or FFmpeg's libraries are missing.
    """
    decoders = _decoders()

    def open_decoder(kind: str, **options: Any) -> Any:
        with _decoding(source.name):
            try:
                return getattr(decoders, kind)(source.for_decoder(), **options)
            except ValueError:  # torchcodec opened it and found no such stream; what it cannot open is a RuntimeError
                return None

    audio = open_decoder("AudioDecoder")
    # The exact mode reads through the whole file for the true times of the frames; for the zero of the time axis the
    # header will do.
    exact = "video" in wanted
    video = open_decoder("VideoDecoder", device=device, seek_mode="exact" if exact else "approximate")

    def reopen_video() -> Any:
        return open_decoder("VideoDecoder", device=device, seek_mode="approximate")

    if video is not None and video.metadata.begin_stream_seconds < _NO_TIME_STAMP_SECONDS:
        video = None  # cover art
    return (
        AudioTrack(audio, source.name) if audio is not None else None,
        VideoTrack(video, source.name, reopen_video) if video is not None else None,
    )


class AudioTrack:
    """The sound of a torchcodec `AudioDecoder`.

    It is decoded at its own rate and resampled here: torchcodec's resampling starts anew with every call, up to a
    millisecond away from where the last call ended.
    """

    def __init__(self, decoder: Any, name: str):
        self._decoder = decoder
        self._name = name
        self.zero_seconds = 0.0
        # Before 0 there is only the encoder's run-in, which is decoded and dropped.
        self.begin_seconds = max(decoder.metadata.begin_stream_seconds_from_header or 0.0, 0.0)
        self._block: _Block | None = None

    @property
    def end_seconds(self) -> float | None:
        """Where the sound ends, by the file's own account; None where it gives none."""
        duration = self._decoder.metadata.duration_seconds
        return None if duration is None else self.begin_seconds + duration - self.zero_seconds

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no sound."""
        start, stop = start + self.zero_seconds, stop + self.zero_seconds  # on the clock of the stream
        if stop <= self.begin_seconds:
            return None
        block = self._block_with(start, stop)
        if block is None:
            return None
        num_samples = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        waveform = resample(block.samples, block.rate, sampling_rate, start - block.start, num_samples)
        return waveform if len(waveform) else None

    def _block_with(self, start: float, stop: float) -> _Block | None:
        """The block last decoded if `[start, stop)` lies in it, else a new one."""
        margin = _RESAMPLING_MARGIN_SECONDS
        until = stop
        block = self._block
        if block is not None:
            block_stop = block.start + len(block.samples) / block.rate
            if block.wanted_start <= start and (stop + margin <= block_stop or block.is_last):
                return block
            if block.wanted_start <= start <= block_stop:
                # Reading on: torchcodec decodes from the beginning once more, so take as much again as that costs.
                until = max(stop, 2 * start - self.begin_seconds)
        # Whole samples from the begin, so that blocks fit together.
        rate = self._decoder.metadata.sample_rate
        from_sample = max(math.floor((start - margin - self.begin_seconds) * rate), 0)
        decoded = self._decode(self.begin_seconds + from_sample / rate, until + margin)
        if decoded is None or decoded.pts_seconds + decoded.duration_seconds <= start:
            return None
        # Not FFmpeg's own mix to one channel, which weights the channels.
        samples = decoded.data.mean(0)
        is_last = decoded.pts_seconds + decoded.duration_seconds < until + margin - 1 / decoded.sample_rate
        self._block = _Block(start, decoded.pts_seconds, samples, decoded.sample_rate, is_last)
        return self._block

    def _decode(self, start: float, stop: float) -> Any:
        """The `AudioSamples` of a range, None where it has none."""
        try:
            return self._decoder.get_samples_played_in_range(start, None if math.isinf(stop) else stop)
        except Exception as error:
            if "No audio frames were decoded" in str(error):
                return None
            raise _decoding_error(self._name, error) from error


@dataclass(frozen=True)
class _Block:
    """A decoded stretch of sound, times on the clock of its stream."""

    wanted_start: float  # before it lies the margin only
    start: float
    samples: torch.Tensor
    rate: int
    is_last: bool  # the sound ends in it


class VideoTrack:
    """The picture of a torchcodec `VideoDecoder`."""

    def __init__(self, decoder: Any, name: str, reopen: Callable[[], Any] | None = None):
        metadata = decoder.metadata
        self._decoder = decoder
        self._name = name
        self._reopen = reopen
        self._forward: _ForwardFrames | None = None
        self.zero_seconds = 0.0
        self.height, self.width = metadata.height, metadata.width
        self.is_still = metadata.num_frames == 1
        self._first, self._last = metadata.begin_stream_seconds, metadata.end_stream_seconds
        header = metadata.begin_stream_seconds_from_header
        self.begin_seconds = self._first if header is None else header

    @property
    def first_seconds(self) -> float:
        """When the first frame is shown."""
        return self._first - self.zero_seconds

    @property
    def end_seconds(self) -> float:
        """When the last frame is no longer shown."""
        return self._last - self.zero_seconds

    def frames_at(self, seconds: list[float]) -> torch.Tensor:
        """The pictures shown at these ascending times, `(len(seconds), 3, height, width)`."""
        with _decoding(self._name):
            if self.is_still:
                return self._channels_first(self._decoder.get_frames_at([0] * len(seconds)).data)
            times = [self.zero_seconds + time + TIME_TOLERANCE_SECONDS for time in seconds]
            times = [max(min(time, self._last - 1e-6), self._first) for time in times]
            if self._forward is None:
                # In containers without an index (MPEG-TS) torchcodec 0.13 may land behind the wanted frame, at times
                # behind the last.
                try:
                    batch = self._decoder.get_frames_played_at(times)
                    if all(shown <= time for shown, time in zip(batch.pts_seconds.tolist(), times, strict=True)):
                        return self._channels_first(batch.data)
                except RuntimeError:
                    if self._reopen is None:
                        raise
                if self._reopen is None:
                    raise MediaError(
                        self._name, "the decoder gives later frames than asked for; give the path or bytes instead."
                    )
                self._forward = _ForwardFrames(self._reopen)
            return self._forward.frames_at(times)

    def _channels_first(self, frames: torch.Tensor) -> torch.Tensor:
        is_channels_last = tuple(frames.shape[1:]) == (self.height, self.width, 3)
        return frames.movedim(-1, 1) if is_channels_last else frames


class _ForwardFrames:
    """Frames one after the other, without seeking: slow but right where seeking is not."""

    def __init__(self, reopen: Callable[[], Any]):
        self._reopen = reopen
        self._current: torch.Tensor | None = None
        self._next: torch.Tensor | None = None
        self._current_seconds = self._next_seconds = -math.inf
        self._restart()

    def frames_at(self, times: list[float]) -> torch.Tensor:
        if times[0] < self._current_seconds:
            self._restart()
        frames = []
        for time in times:
            while self._next is not None and (self._current is None or self._next_seconds <= time):
                self._current, self._current_seconds = self._next, self._next_seconds
                self._advance()
            if self._current is None:
                raise RuntimeError("no frame can be decoded")
            frames.append(self._current)
        return torch.stack(frames)

    def _restart(self) -> None:
        self._decoder = self._reopen()
        self._current, self._current_seconds = None, -math.inf
        self._advance()

    def _advance(self) -> None:
        try:
            from torchcodec._core import get_next_frame  # torchcodec's public methods all seek first

            self._next, seconds, _ = get_next_frame(self._decoder._decoder)
            self._next_seconds = seconds.item()
        except IndexError:  # the end
            self._next, self._next_seconds = None, math.inf


class ArrayAudio:
    """Sound that is an array already."""

    begin_seconds = 0.0
    zero_seconds = 0.0

    def __init__(self, array: Any, sampling_rate: int | None):
        if sampling_rate is None:
            raise ValueError(
                "Sound given as an array needs its sampling rate in Hz (`source_sampling_rate`); it is not guessed."
            )
        if sampling_rate != int(sampling_rate) or sampling_rate <= 0:
            raise ValueError(
                f"The sampling rate of a sound has to be a whole number of Hz above 0, got {sampling_rate!r}."
            )
        self._samples = mono_from_array(array)
        self._rate = int(sampling_rate)
        self.end_seconds = len(self._samples) / self._rate

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no sound."""
        num_samples = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        waveform = resample(self._samples, self._rate, sampling_rate, start, num_samples)
        return waveform if len(waveform) else None


class ArrayVideo:
    """Pictures that are an array already."""

    begin_seconds = first_seconds = zero_seconds = 0.0

    def __init__(self, frames: Any, frames_per_second: float):
        check_positive(source_frames_per_second=frames_per_second)
        self._frames = frames_from_array(frames)
        self._rate = frames_per_second
        self.height, self.width = self._frames.shape[-2:]
        self.is_still = len(self._frames) == 1
        self.end_seconds = len(self._frames) / frames_per_second

    def frames_at(self, seconds: list[float]) -> torch.Tensor:
        """The pictures shown at these times, `(len(seconds), 3, height, width)`."""
        last = len(self._frames) - 1
        return self._frames[[min(int((time + TIME_TOLERANCE_SECONDS) * self._rate), last) for time in seconds]]


def _decoders() -> Any:
    try:
        import torchcodec.decoders
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            "Sound and picture files are read with torchcodec and FFmpeg's libraries, and one of them does not load. "
            "`foal-hf doctor` says which; FFmpeg is installed with `apt-get install ffmpeg` (Debian, Ubuntu) or "
            "`brew install ffmpeg` (macOS)."
        ) from error
    return torchcodec.decoders


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        raise _decoding_error(name, error) from error


def _decoding_error(name: str, error: Exception) -> MediaError:
    if isinstance(error, MemoryError):
        return MediaError(name, "needs more memory than there is; read a shorter range.")
    lines = str(error).splitlines() or [type(error).__name__]
    detail = lines[0].rpartition(", ")[2] if lines[0].startswith("SingleStreamDecoder") else lines[0]
    return MediaError(
        name,
        f"cannot be decoded: it is no sound or video file, or it is damaged or cut off ({detail.strip()[:200]}). "
        "Try to play it, or convert it with `ffmpeg -i INPUT output.mp4`.",
    )


def check_positive(**values: float) -> None:
    """Raise `ValueError` unless every value is a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` has to be above 0, got {value}.")
