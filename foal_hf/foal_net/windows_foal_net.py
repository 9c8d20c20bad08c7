"""A recording of any length, window by window, in the memory of a few windows.

    |--- segment 0 ---|--- segment 1 ---|--- segment 2 ---|-- segment 3 --|      one stride each; the last is shorter
    |----------- window 0 --------------|
                      |------------ window 1 -------------|
                                        |------------ window 2 -----------|      the first to reach the end is the last

Audio and video are decoded from start to end in blocks of one stride, each block once; windows and segments are cut
from the blocks that are still in memory.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .decoding_foal_net import LONGEST_GAP_SECONDS
from .media_foal_net import Clip, MediaFile
from .sources_foal_net import MediaError


_EPSILON_SECONDS = 1e-6
_ENDS_SECONDS = 1e-3  # a block that is shorter than asked for by more has reached an end
_REST_STRIDES = 0.1  # less than this is not a segment of its own


@dataclass(frozen=True)
class Stride:
    """One stride of a recording, and the window that begins with it.

    Attributes:
        segment (`Clip`): Content of the stride; may be empty.
        window (`Clip`, *optional*): Content of the window; None where an earlier window already reaches the end.
        is_last (`bool`): Whether the recording ends with this stride.
    """

    segment: Clip
    window: Clip | None
    is_last: bool

    @property
    def start_seconds(self) -> float:
        """Start on the time axis of the recording."""
        return self.segment.start_seconds

    @property
    def end_seconds(self) -> float:
        """End, exclusive."""
        return self.segment.end_seconds


def read_windows(
    media: MediaFile,
    *,
    window_seconds: float,
    stride_seconds: float,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    audio_start_seconds: float | None = None,
    crop_box: Sequence[int] | None = None,
    transform: Any = None,
    find_faces: Any = None,
) -> Iterator[Stride]:
    """Read a recording from start to end.

    A window, or a segment, equals a clip of these seconds that is read alone: its frames lie at `start_seconds + k /
    frames_per_second`, from its own start on. A remainder of less than a tenth of a stride at the end belongs to the
    segment and the window before it.

    Args:
        media ([`MediaFile`]): Open, and used for nothing else; with `in_order=True`, memory does not grow.
        window_seconds (`float`): Length of a window.
        stride_seconds (`float`): From the start of one window to the start of the next; at most `window_seconds`.
        start_seconds, end_seconds (`float`): Range of the recording; by default all of it.
        audio_start_seconds, crop_box, transform, find_faces: As in [`MediaFile.read`].

    Yields:
        [`Stride`]: In order, without gaps.

    Raises:
        MediaError: If the recording has nothing from `start_seconds` on, or decoding fails.
    """
    grid = _Grid(start_seconds, stride_seconds, window_seconds, media.sampling_rate)
    settings = {"crop_box": crop_box, "transform": transform, "find_faces": find_faces}
    blocks = _blocks(media, grid, end_seconds, audio_start_seconds, **settings)
    rest = _REST_STRIDES * stride_seconds
    held: deque[Clip] = deque()
    is_complete = False  # the last window has been read
    for index in itertools.count():
        start, next_start = grid.at(index), grid.at(index + 1)
        window_end = grid.window_end(index)
        # Read a little further than needed, to see which stride is the last.
        while not held or held[-1].end_seconds < window_end + rest + _EPSILON_SECONDS:
            block = next(blocks, None)
            if block is None:
                break
            held.append(block)
        while held and held[0].end_seconds <= start + _EPSILON_SECONDS:
            held.popleft()
        if not held:
            return
        last = held[-1].end_seconds
        is_last = last <= next_start + rest
        segment = _cut(held, start, last if is_last else next_start, media)
        reaches_end = last <= window_end + rest
        window = None if is_complete else _cut(held, start, last if reaches_end else window_end, media)
        yield Stride(segment, window, is_last)
        is_complete = is_complete or reaches_end
        if is_last:
            return


@dataclass(frozen=True)
class _Grid:
    """Start times of strides, on whole samples, so that segments fit together."""

    start_seconds: float
    stride_seconds: float
    window_seconds: float
    sampling_rate: int

    def at(self, index: int) -> float:
        return self.start_seconds + round(index * self.stride_seconds * self.sampling_rate) / self.sampling_rate

    def window_end(self, index: int) -> float:
        seconds = index * self.stride_seconds + self.window_seconds
        return self.start_seconds + round(seconds * self.sampling_rate) / self.sampling_rate

    def windows_in(self, index: int) -> list[tuple[float, float]]:
        """The windows that cover a part of a stride, each with the remainder that may belong to it."""
        rest = _REST_STRIDES * self.stride_seconds
        first = index - math.ceil((self.window_seconds + rest) / self.stride_seconds)
        ends = {each: self.window_end(each) + rest for each in range(max(first, 0), index + 1)}
        return [(self.at(each), end) for each, end in ends.items() if end > self.at(index)]


def _blocks(
    media: MediaFile, grid: _Grid, end_seconds: float | None, audio_start_seconds: float | None, **settings: Any
) -> Iterator[Clip]:
    """The recording block by block, each with the frames of all windows that cover it."""
    late = 0.0 if audio_start_seconds is None else audio_start_seconds - grid.start_seconds
    empty: list[Clip] = []  # only yielded if something follows
    for index in itertools.count():
        start, stop = grid.at(index), grid.at(index + 1)
        if end_seconds is not None:
            stop = min(stop, end_seconds)
            if stop - start <= _EPSILON_SECONDS:
                return
        settings["audio_start_seconds"] = None if audio_start_seconds is None else start + late
        settings["windows"] = grid.windows_in(index)
        clip = _read_block(media, start, stop, is_first=index == 0, **settings)
        if clip is not None:
            yield from empty
            empty = []
        if clip is None or clip.end_seconds < stop - _ENDS_SECONDS:
            promised = media.duration_seconds
            is_last = promised is None or promised <= stop + _ENDS_SECONDS
            if is_last or len(empty) * (stop - start) > LONGEST_GAP_SECONDS:
                if clip is not None:
                    yield clip
                return
            nothing = Clip(None, None, None, None, start, stop)
            clip = replace(clip or nothing, start_seconds=start, end_seconds=stop)  # something follows
        if clip.modalities:
            yield clip
        else:
            empty.append(clip)


def _read_block(media: MediaFile, start: float, stop: float, *, is_first: bool, **settings: Any) -> Clip | None:
    try:
        return media.read(start, stop, **settings)
    except MediaError as error:
        if is_first or not error.reason.startswith("has no "):
            raise
        return None


def _cut(blocks: Sequence[Clip], start: float, stop: float, media: MediaFile) -> Clip:
    """The range `[start, stop)` of adjacent blocks."""
    blocks = [block for block in blocks if block.start_seconds < stop and block.end_seconds > start]
    waveform = _cut_audio(blocks, start, stop, media.sampling_rate)
    shown = _cut_frames(blocks, media.frame_times(start, stop))
    return Clip(
        waveform=waveform,
        sampling_rate=None if waveform is None else media.sampling_rate,
        frames=torch.stack([frame for frame, _, _ in shown]) if shown else None,
        frame_seconds=torch.tensor([time for _, time, _ in shown], dtype=torch.float64) - start if shown else None,
        start_seconds=start,
        end_seconds=stop,
        notes=tuple(dict.fromkeys(note for block in blocks for note in block.notes)),
        faces=tuple(faces for _, _, faces in shown) if shown and shown[0][2] is not None else None,
    )


def _cut_audio(blocks: Sequence[Clip], start: float, stop: float, sampling_rate: int) -> torch.Tensor | None:
    num_samples = round((stop - start) * sampling_rate)
    waveform, end = torch.zeros(num_samples), 0
    for block in blocks:
        if block.waveform is not None:
            offset = round((block.start_seconds - start) * sampling_rate)
            part = block.waveform[max(-offset, 0) : max(num_samples - offset, 0)]
            begin = max(offset, 0)
            waveform[begin : begin + len(part)] = part
            end = begin + len(part) if len(part) else end
    return waveform[:end].clone() if end else None  # a clone: a view would keep all of it in memory


def _cut_frames(blocks: Sequence[Clip], wanted: list[float]) -> list[tuple[torch.Tensor, float, Any]]:
    """The frames at the wanted times, as far as there are any, with their times and faces."""
    held: list[tuple[torch.Tensor, float, Any]] = []
    for block in blocks:
        if block.frames is not None and block.frame_seconds is not None:
            seconds = (block.frame_seconds + block.start_seconds).tolist()
            held += zip(block.frames, seconds, block.faces or [None] * len(seconds), strict=True)
    times = [time for _, time, _ in held]
    places = [bisect_left(times, time - _EPSILON_SECONDS) for time in wanted]
    return [
        held[place]
        for place, time in zip(places, wanted, strict=True)
        if place < len(held) and times[place] <= time + _EPSILON_SECONDS
    ]


__all__ = ["Stride", "read_windows"]
