"""Tracks for reads that ascend: what they hold does not grow with the recording.

The tracks that can go anywhere (`tracks_foal_net`) pay for it by the length of the file: torchcodec first reads it
through for a table of all packets, and keeps what it decodes of the sound for reading on. These read on frame by frame
and let go of what lies behind.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch

from .arrays_foal_net import check_samples, resample
from .decoding_foal_net import (
    GAP_SECONDS,
    LONGEST_GAP_SECONDS,
    TIME_TOLERANCE_SECONDS,
    PicturesInOrder,
    check_picture_size,
    check_sampling_rate,
    decoding,
    frames_in_order,
)
from .sources_foal_net import MediaError


_MARGIN_SECONDS = 0.01  # wider than the resampling filter reaches


class OrderedAudioTrack:
    """The sound of a fresh torchcodec `AudioDecoder`.

    Args:
        decoder: Of which nothing has been read.
        name (`str`): For messages.
        begin_seconds (`float`): Where the sound begins, on the clock of its stream.
    """

    def __init__(self, decoder: Any, name: str, begin_seconds: float):
        self._metadata = decoder.metadata
        self._name = name
        self._frames = frames_in_order(decoder, name)
        self._parts: deque[tuple[int, torch.Tensor]] = deque()  # where they begin, in samples; ascending
        self._end: int | None = None  # of the last of the parts so far
        self._is_complete = False
        self.begin_seconds = begin_seconds
        self.zero_seconds = 0.0

    @property
    def end_seconds(self) -> float | None:
        """Where the sound ends, by the file's own account; None where it gives none."""
        duration = self._metadata.duration_seconds
        return None if duration is None else self.begin_seconds + duration - self.zero_seconds

    def read(self, start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
        """The waveform of `[start, stop)`, sample 0 at `start`, or None where there is no sound."""
        rate = int(self._metadata.sample_rate)
        check_sampling_rate(self._name, rate)
        start, stop = start + self.zero_seconds, stop + self.zero_seconds  # on the clock of the stream
        if stop <= self.begin_seconds:
            return None
        first = max(math.floor((start - _MARGIN_SECONDS) * rate), round(self.begin_seconds * rate))
        last = math.ceil((stop + _MARGIN_SECONDS) * rate)
        self._go_to(last, rate)
        while self._parts and self._parts[0][0] + len(self._parts[0][1]) <= first:
            self._parts.popleft()
        last = min(last, self._end or 0) if self._is_complete else last
        if last <= first:
            return None
        samples = torch.zeros(last - first)
        for begin, part in self._parts:
            part = part[max(first - begin, 0) : max(last - begin, 0)]
            at = max(begin - first, 0)
            samples[at : at + len(part)] = part
        num_samples = round((stop - start) * sampling_rate)
        waveform = resample(samples, rate, sampling_rate, start - first / rate, num_samples)
        check_samples(waveform, self._name)
        return waveform if len(waveform) else None

    def _go_to(self, last: int, rate: int) -> None:
        gap = round(GAP_SECONDS * rate)
        while not self._is_complete and (self._end is None or self._end < last):
            frame, seconds, _ = next(self._frames, (None, 0.0, 0.0))
            if frame is None:
                self._is_complete = True
                return
            begin = round(seconds * rate)
            if self._end is not None:
                begin = self._end if abs(begin - self._end) <= gap else begin
                if begin < self._end:
                    continue
                if begin - self._end > LONGEST_GAP_SECONDS * rate:  # times that jump by more are wrong
                    self._is_complete = True
                    return
            self._parts.append((begin, frame.mean(0)))
            self._end = begin + frame.shape[-1]


class OrderedVideoTrack:
    """The picture of a fresh torchcodec `VideoDecoder`, which need not have read the file through.

    Args:
        decoder: Of which nothing has been read.
        name (`str`): For messages.

    Raises:
        MediaError: If its pictures are too large, or none can be decoded.
    """

    def __init__(self, decoder: Any, name: str):
        metadata = decoder.metadata
        self._name = name
        self.height, self.width = metadata.height, metadata.width
        check_picture_size(name, self.height, self.width)
        self._pictures = PicturesInOrder(lambda: decoder, name, (self.height, self.width))
        if self._pictures.is_complete:
            raise MediaError(name, "none of its pictures can be decoded.")
        first, header = self._pictures.next_seconds, metadata.begin_stream_seconds_from_header
        self.begin_seconds = first if header is None else header
        # Pictures that cannot be decoded, or AVI's without times, may come before: the first that can stands for them.
        self._first = min(first, self.begin_seconds)
        self._promised_end = metadata.end_stream_seconds
        self.zero_seconds = 0.0
        self._pictures.go_to(math.nextafter(first, math.inf))  # takes the first, to see whether another follows
        self.is_still = self._pictures.is_complete

    @property
    def first_seconds(self) -> float:
        """When the first frame is shown."""
        return self._first - self.zero_seconds

    @property
    def is_open_ended(self) -> bool:
        """Whether its end has not been reached so far."""
        return not self._pictures.is_complete

    @property
    def end_seconds(self) -> float:
        """When the last frame is no longer shown; by the file's own account as long as it is open-ended."""
        seen = self._pictures.end_seconds
        return (max(seen, self._promised_end) if self.is_open_ended else seen) - self.zero_seconds

    def frames_at(self, seconds: list[float]) -> torch.Tensor:
        """The pictures shown at these ascending times, `(len(seconds), 3, height, width)`."""
        with decoding(self._name):
            times = [max(self.zero_seconds + time + TIME_TOLERANCE_SECONDS, self._first) for time in seconds]
            return self._pictures.frames_at(times)

    def shown_until(self, stop: float) -> float:
        """`stop`, or the end of the picture where that comes before. Reads on up to there."""
        with decoding(self._name):
            self._pictures.go_to(self.zero_seconds + stop)
        return stop if self.is_open_ended else min(stop, self.end_seconds)
