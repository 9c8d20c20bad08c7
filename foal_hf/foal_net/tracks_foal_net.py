"""Tracks: the sound or the picture of one medium, each on its own time axis.

A track knows where it begins and ends, and gives samples of a range, or frames at given times. `zero_seconds` is the
point of the stream's own clock that counts as 0; whoever opens the tracks sets it, so that sound and picture of one
file share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .arrays_foal_net import (
    MAX_SAMPLING_RATE,
    MIN_SAMPLING_RATE,
    check_samples,
    frames_from_array,
    mono_from_array,
    resample,
)
from .decoding_foal_net import (
    GAP_SECONDS,
    LONGEST_GAP_SECONDS,
    TIME_TOLERANCE_SECONDS,
    PicturesInOrder,
    check_picture_size,
    check_sampling_rate,
    decoding,
    decoding_error,
    sound_in_order,
)
from .ordered_tracks_foal_net import OrderedAudioTrack, OrderedVideoTrack
from .sources_foal_net import MediaError, OpenSource


# FFmpeg gives attached pictures (cover art) no time, nor frames before 0; torchcodec shows that as -2**63 ticks.
_NO_TIME_STAMP_SECONDS = -1e9
_COVER_ART_FRAMES_PER_SECOND = 90_000  # FFmpeg's clock, where the file is not read through
_RESAMPLING_MARGIN_SECONDS = 0.01  # wider than the resampling filter reaches


def open_tracks(
    source: OpenSource, wanted: tuple[str, ...], device: str | torch.device, *, in_order: bool = False
) -> tuple[Any, Any]:
    """The audio and the video track of a file, None for what it lacks.

    Both are opened whichever is wanted, since the earlier one tells where the time axis of the file begins.

    Args:
        source (`OpenSource`): The file.
        wanted (`tuple[str, ...]`): Of `"audio"` and `"video"`, what will be read.
        device (`str` or `torch.device`): Where pictures are decoded.
        in_order (`bool`, defaults to `False`): Whether reads ascend.

    Raises:
        MediaError: If FFmpeg cannot open it.
        ImportError: If torchcodec or FFmpeg's libraries are missing.
    """
    decoders = _decoders()

    def open_decoder(kind: str, **options: Any) -> Any:
        with decoding(source.name):
            try:
                return getattr(decoders, kind)(source.for_decoder(), **options)
            except ValueError as error:  # it has no such stream, or one without times, which matters if it is wanted
                if "stream is unknown" in str(error) or kind.removesuffix("Decoder").lower() not in wanted:
                    return None
                raise

    def open_audio() -> Any:
        return open_decoder("AudioDecoder")

    def open_video(seek_mode: str = "approximate") -> Any:
        return open_decoder("VideoDecoder", device=device, seek_mode=seek_mode)

    # The exact mode reads through the whole file for the true times of the frames; for the zero of the time axis the
    # header will do. On a stream that the header did not name, the exact mode of torchcodec 0.13 writes beyond its
    # memory: then the frames are taken in order.
    is_exact = source.has_streams_in_header and "video" in wanted
    video = _open_in_order(source.name, open_video) if in_order and is_exact else None
    audio = open_audio()
    audio_track: Any = None
    if audio is not None:
        audio_track = AudioTrack(audio, source.name, open_audio)
        if in_order:
            audio_track = OrderedAudioTrack(audio, source.name, audio_track.begin_seconds)
    if video is not None:
        return audio_track, video
    decoder = open_video("exact" if is_exact else "approximate")
    if decoder is None or _is_cover_art(decoder.metadata):
        return audio_track, None
    return audio_track, VideoTrack(decoder, source.name, open_video, in_order=not is_exact)


def _open_in_order(name: str, open_video: Callable[[], Any]) -> OrderedVideoTrack | None:
    """The picture without reading the file through; None where that needs more than the header says.

    torchcodec wants a length there, which a recording that was cut off may lack, and a rate of frames.
    """
    try:
        decoder = open_video()
        is_picture = decoder is not None and not _is_cover_art(decoder.metadata)
        return OrderedVideoTrack(decoder, name) if is_picture else None
    except MediaError:
        return None


def _is_cover_art(metadata: Any) -> bool:
    has_no_time = metadata.num_frames == 1 and metadata.begin_stream_seconds < _NO_TIME_STAMP_SECONDS
    return has_no_time or (metadata.average_fps_from_header or 0) >= _COVER_ART_FRAMES_PER_SECOND


class AudioTrack:
    """The sound of a torchcodec `AudioDecoder`.

    It is decoded at its own rate and resampled here: torchcodec's resampling starts anew with every call, up to a
    millisecond away from where the last call ended.
    """

    def __init__(self, decoder: Any, name: str, reopen: Callable[[], Any] | None = None):
        self._decoder = decoder
        self._name = name
        self._reopen = reopen
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
        rate = self._decoder.metadata.sample_rate
        check_sampling_rate(self._name, rate)
        start, stop = start + self.zero_seconds, stop + self.zero_seconds  # on the clock of the stream
        if stop <= self.begin_seconds:
            return None
        block = self._block_with(start, stop)
        if block is None:
            return None
        if math.isinf(stop) and block.start - start > LONGEST_GAP_SECONDS:
            raise MediaError(self._name, f"its sound begins {block.start - start:g} s late; give end_seconds.")
        num_samples = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        waveform = resample(block.samples, block.rate, sampling_rate, start - block.start, num_samples)
        check_samples(waveform, self._name)
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
        if decoded is None:
            return None
        samples, begin, rate = decoded
        end = begin + len(samples) / rate
        if end <= start:
            return None
        self._block = _Block(start, begin, samples, rate, is_last=end < until + margin - 1 / rate)
        return self._block

    def _decode(self, start: float, stop: float) -> tuple[torch.Tensor, float, int] | None:
        """Samples of a range, channels averaged, when they begin and their rate; None where it has none."""
        try:
            decoded = self._decoder.get_samples_played_in_range(start, None if math.isinf(stop) else stop)
        except Exception as error:
            if "No audio frames were decoded" in str(error):
                self._start_anew()
                return None
            ordered = self._decode_in_order(start, stop)
            if ordered is None:
                raise decoding_error(self._name, error) from error
            return ordered
        end = decoded.pts_seconds + decoded.duration_seconds
        duration = self._decoder.metadata.duration_seconds
        promised = end if duration is None else min(self.begin_seconds + duration, stop)
        if abs(promised - end) > GAP_SECONDS:  # parts are missing, or there twice
            ordered = self._decode_in_order(start, stop)
            if ordered is not None:
                return ordered
        # Not FFmpeg's own mix to one channel, which weights the channels.
        return decoded.data.mean(0), decoded.pts_seconds, decoded.sample_rate

    def _start_anew(self) -> None:
        """Where a range ends in a gap, torchcodec 0.13 runs to the end of the file and finds nothing behind the gap."""
        if self._reopen is not None:
            self._decoder = self._reopen()

    def _decode_in_order(self, start: float, stop: float) -> tuple[torch.Tensor, float, int] | None:
        if self._reopen is None:
            return None
        sound = sound_in_order(self._reopen(), self._name, start, stop)
        self._start_anew()
        return None if sound is None else (*sound, self._decoder.metadata.sample_rate)


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

    is_open_ended = False  # it ends at `end_seconds`

    def __init__(self, decoder: Any, name: str, reopen: Callable[[], Any] | None = None, in_order: bool = False):
        metadata = decoder.metadata
        self._decoder = decoder
        self._name = name
        self._reopen = reopen
        self._seeks = not in_order
        self._forward: PicturesInOrder | None = None
        self.zero_seconds = 0.0
        self.height, self.width = metadata.height, metadata.width
        self.is_still = metadata.num_frames == 1
        self.frames_per_second = metadata.average_fps
        self._first, self._last = metadata.begin_stream_seconds, metadata.end_stream_seconds
        header = metadata.begin_stream_seconds_from_header
        self.begin_seconds = self._first if header is None else header
        if self._first < _NO_TIME_STAMP_SECONDS:
            self._first = self.begin_seconds

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
        check_picture_size(self._name, self.height, self.width)
        with decoding(self._name):
            if self.is_still:
                return self._channels_first(self._decoder.get_frames_at([0] * len(seconds)).data)
            times = [self.zero_seconds + time + TIME_TOLERANCE_SECONDS for time in seconds]
            times = [max(min(time, self._last - 1e-6), self._first) for time in times]
            if self._forward is None and self._seeks:
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
            if self._forward is None:
                self._forward = PicturesInOrder(self._reopen, self._name, (self.height, self.width))
            return self._forward.frames_at(times)

    def _channels_first(self, frames: torch.Tensor) -> torch.Tensor:
        is_channels_last = tuple(frames.shape[1:]) == (self.height, self.width, 3)
        return frames.movedim(-1, 1) if is_channels_last else frames


class ArrayAudio:
    """Sound that is an array already."""

    begin_seconds = 0.0
    zero_seconds = 0.0

    def __init__(self, array: Any, sampling_rate: int | None):
        if sampling_rate is None:
            raise ValueError(
                "Sound given as an array needs its sampling rate in Hz (`source_sampling_rate`); it is not guessed."
            )
        if sampling_rate != int(sampling_rate) or not MIN_SAMPLING_RATE <= sampling_rate <= MAX_SAMPLING_RATE:
            raise ValueError(
                f"The sampling rate of a sound has to be a whole number of Hz from {MIN_SAMPLING_RATE} to "
                f"{MAX_SAMPLING_RATE}, got {sampling_rate!r}."
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
    is_open_ended = False

    def __init__(self, frames: Any, frames_per_second: float):
        check_positive(source_frames_per_second=frames_per_second)
        self._frames = frames_from_array(frames)
        self._rate = self.frames_per_second = frames_per_second
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


def check_positive(**values: float) -> None:
    """Raise `ValueError` unless every value is a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`{name}` has to be above 0, got {value}.")
