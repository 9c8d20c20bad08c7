"""torchcodec decoders that come in instead of a file, through their public methods alone.

What is here because of torchcodec, with the issue in meta-pytorch/torchcodec and the version that ends it:

- Samples of a later range are decoded from the beginning: issue 1448, ended by 0.14.
- Decoding ends with an error at a range without audio: no upstream issue found.
- Frames of files without an index (MPEG-TS) may be later than asked for: pull request 178, not ended.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import torch

from .arrays_foal_net import check_samples, mix_to_mono, resample
from .decoding_foal_net import TIME_TOLERANCE_SECONDS, check_frame_size, check_sampling_rate, decoding
from .sources_foal_net import MediaError
from .tracks_foal_net import CANCELLING_CHANNELS


_MARGIN_SECONDS = 0.01  # wider than the resampling filter reaches


def is_decoder(source: Any) -> bool:
    """Whether `source` is a torchcodec decoder."""
    return _is_audio(source) or hasattr(source, "get_frames_played_at")


def file_of(decoder: Any) -> dict[str, Any] | None:
    """The file of a decoder that `datasets` made, as a row; None where it is not known.

    The file has the other stream too, and the time axis that both share.
    """
    origin = getattr(decoder, "_hf_encoded", None) or {}
    if origin.get("bytes") is None and not os.path.isfile(origin.get("path") or ""):
        return None
    return {"path": origin.get("path"), "bytes": origin.get("bytes")}


def stream_of(source: Any, kind: str = "video") -> dict[str, int]:
    """Which stream of its file a decoder, or a row with `stream_index`, reads; nothing for other sources.

    Args:
        source: A decoder, or anything else.
        kind (`str`): `"audio"`, `"video"` or `"either"`: what a row is read for.
    """
    if is_decoder(source):
        kind = "audio" if _is_audio(source) else "video"
    index = source.get("stream_index") if isinstance(source, dict) else getattr(source, "stream_index", None)
    return {} if index is None else {kind: index}


def converts_audio(decoder: Any) -> bool:
    """Whether a decoder gives audio of another rate or number of channels than its file has."""
    if not _is_audio(decoder):
        return False
    metadata = decoder.metadata
    begin = metadata.begin_stream_seconds_from_header or 0.0
    try:
        samples = decoder.get_samples_played_in_range(begin, begin + 0.1)
    except RuntimeError:  # the file will say why it cannot be read
        return False
    return bool((samples.sample_rate, len(samples.data)) != (metadata.sample_rate, metadata.num_channels))


def track_of(decoder: Any, max_pixels: int) -> tuple[Any, Any]:
    """The audio and the video track of a decoder, one of them None."""
    return (DecoderAudio(decoder), None) if _is_audio(decoder) else (None, DecoderVideo(decoder, max_pixels))


def _is_audio(source: Any) -> bool:
    return hasattr(source, "get_samples_played_in_range")


@dataclass(frozen=True)
class _Block:
    """Decoded audio, times on the clock of its stream."""

    wanted_start: float  # before it lies the margin only
    start: float
    samples: torch.Tensor
    rate: int
    is_last: bool  # the audio ends in it


class DecoderAudio:
    """The audio of a torchcodec `AudioDecoder`."""

    def __init__(self, decoder: Any):
        self._decoder = decoder
        self._name = type(decoder).__name__
        self._rate = decoder.metadata.sample_rate  # until the decoder gives another
        self._block: _Block | None = None
        self.notes: dict[str, None] = {}
        self.zero_seconds = 0.0
        self.begin_seconds = max(decoder.metadata.begin_stream_seconds_from_header or 0.0, 0.0)

    @property
    def end_seconds(self) -> float | None:
        """Where the audio ends, by the file's own account; None where it gives none."""
        duration = self._decoder.metadata.duration_seconds
        return None if duration is None else self.begin_seconds + duration - self.zero_seconds

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no audio."""
        start, stop = start + self.zero_seconds, stop + self.zero_seconds  # on the clock of the stream
        block = self._block_with(start, stop) if stop > self.begin_seconds else None
        if block is None:
            return None
        num_samples = None if math.isinf(stop) else round((stop - start) * sampling_rate)
        waveform = resample(block.samples, block.rate, sampling_rate, start - block.start, num_samples)
        check_samples(waveform, self._name)
        return waveform if len(waveform) else None

    def _block_with(self, start: float, stop: float) -> _Block | None:
        """The block last decoded if `[start, stop)` lies in it, else a new one."""
        until, block = stop, self._block
        if block is not None:
            block_stop = block.start + len(block.samples) / block.rate
            if block.wanted_start <= start and (stop + _MARGIN_SECONDS <= block_stop or block.is_last):
                return block
            if block.wanted_start <= start <= block_stop:
                # Reading on: decoding begins at the beginning once more, so take as much again as that costs.
                until = max(stop, 2 * start - self.begin_seconds)
        # Whole samples from the begin, so that blocks fit together.
        from_sample = max(math.floor((start - _MARGIN_SECONDS - self.begin_seconds) * self._rate), 0)
        begin = self.begin_seconds + from_sample / self._rate
        with decoding(self._name):
            try:
                decoded = self._decoder.get_samples_played_in_range(
                    begin, None if math.isinf(until) else until + _MARGIN_SECONDS
                )
            except RuntimeError as error:
                if "No audio frames were decoded" in str(error):
                    return None
                raise
        self._rate = decoded.sample_rate
        check_sampling_rate(self._name, self._rate)
        samples, cancels = mix_to_mono(decoded.data)
        if cancels:
            self.notes[CANCELLING_CHANNELS] = None
        end = decoded.pts_seconds + len(samples) / self._rate
        if end <= start:
            return None
        is_last = end < until + _MARGIN_SECONDS - 1 / self._rate
        self._block = _Block(start, decoded.pts_seconds, samples, self._rate, is_last)
        return self._block


class DecoderVideo:
    """The video of a torchcodec `VideoDecoder`. Its frames are taken as it gives them."""

    def __init__(self, decoder: Any, max_pixels: int):
        metadata = decoder.metadata
        self._decoder = decoder
        self._name = type(decoder).__name__
        check_frame_size(self._name, metadata.height, metadata.width, max_pixels)
        self.zero_seconds = 0.0
        self.height, self.width = metadata.height, metadata.width
        self.is_still = metadata.num_frames == 1
        self.frames_per_second = metadata.average_fps
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

    def frames_at(self, seconds: list[float]) -> list[torch.Tensor]:
        """The frames shown at these ascending times, `(3, height, width)` each; none behind the end."""
        with decoding(self._name):
            if self.is_still:
                return [self._channels_first(self._decoder.get_frame_at(0).data)] * len(seconds)
            times = [self.zero_seconds + time + TIME_TOLERANCE_SECONDS for time in seconds]
            times = [time for time in times if time < self._last]
            if not times:
                return []
            times = [max(min(time, self._last - 1e-6), self._first) for time in times]
            batch = self._decoder.get_frames_played_at(times)
            if any(shown > time for shown, time in zip(batch.pts_seconds.tolist(), times, strict=True)):
                raise MediaError(
                    self._name, "the decoder gives later frames than asked for; give the path or bytes instead."
                )
            return [self._channels_first(frame) for frame in batch.data]

    def prepare(self) -> bool:
        """Whether there is any frame."""
        return True

    def read_until(self, seconds: float) -> None:
        """Nothing to do: the end is known."""

    def _channels_first(self, frame: torch.Tensor) -> torch.Tensor:
        is_channels_last = tuple(frame.shape) == (self.height, self.width, 3) or frame.shape[0] != 3
        return frame.movedim(-1, 0) if is_channels_last else frame
