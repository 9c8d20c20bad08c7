"""What a decoder may be asked for, how its failures reach the caller (always as `MediaError`), and reading in order.

torchcodec's public methods seek, put the sound of a range together without looking at its times, and give up at the
first frame that cannot be decoded. Taking the frames of a stream one after the other is slower, but copes with files
without an index, with times that jump, and with damage.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.utils import logging

from .arrays_foal_net import MAX_SAMPLING_RATE, MIN_SAMPLING_RATE
from .sources_foal_net import MediaError


logger = logging.get_logger(__name__)

# Sound is taken to go on without a gap up to this: lost packets and rounded times move it by less.
GAP_SECONDS = 0.05
LONGEST_GAP_SECONDS = 3600.0  # times that jump by more are wrong
_MOST_DAMAGED_FRAMES = 10_000

TIME_TOLERANCE_SECONDS = 1e-3  # Matroska and WebM keep times in whole milliseconds
_MAX_PIXELS = 2**26  # of a picture: twice what 8K has
_PLACE_IN_TORCHCODEC = re.compile(r"^.*\.cpp:\d+, | at /\S+, line \d+$")


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Whatever a decoder raises is a `MediaError` of the medium `name`."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:
        raise decoding_error(name, error) from error


def decoding_error(name: str, error: Exception) -> MediaError:
    """What a decoder raised, in plain words."""
    if isinstance(error, MemoryError):
        return MediaError(name, "needs more memory than there is; read a shorter range.")
    lines = str(error).splitlines() or [type(error).__name__]
    detail = _PLACE_IN_TORCHCODEC.sub("", lines[0])
    return MediaError(
        name,
        f"cannot be decoded: it is no sound or video file, or it is damaged or cut off ({detail.strip()[:200]}). "
        "Try to play it, or convert it with `ffmpeg -i INPUT output.mp4`.",
    )


def check_sampling_rate(name: str, rate: int) -> None:
    """Raise `MediaError` for a rate, Hz, that no sound has: headers may claim any."""
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise MediaError(
            name, f"claims {rate} samples a second; sound of {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz is read."
        )


def check_picture_size(name: str, height: int, width: int) -> None:
    """Raise `MediaError` for pictures that are too large to be true, before memory is taken for one."""
    if height * width > _MAX_PIXELS:
        raise MediaError(name, f"claims pictures of {width}x{height} pixels; up to {_MAX_PIXELS} in all are read.")


def frames_in_order(decoder: Any, name: str) -> Iterator[tuple[torch.Tensor, float, float]]:
    """Each frame of a fresh torchcodec decoder (a picture, or some samples of sound) with its time and length, seconds.

    What cannot be decoded is left out. So is what goes back in time: of a recording that was appended to another with
    times that begin anew, the first part is given.
    """
    latest, num_damaged = -math.inf, 0
    while num_damaged < _MOST_DAMAGED_FRAMES:
        try:
            from torchcodec._core import get_next_frame  # torchcodec's public methods all seek first

            frame, seconds, duration = get_next_frame(decoder._decoder)
        except IndexError:  # the end
            return
        except RuntimeError:
            num_damaged += 1
            if num_damaged == 1:
                logger.warning(f"{name}: is damaged or cut off; what cannot be decoded is left out.")
            continue
        if seconds.item() >= latest:
            latest = seconds.item()
            yield frame, latest, duration.item()


def sound_in_order(decoder: Any, name: str, start: float, stop: float) -> tuple[torch.Tensor, float] | None:
    """The sound of `[start, stop)`, every part at its own time: `(samples,)`, channels averaged, and when it begins.

    Where a part is missing it is silent. It may begin a little before `start` and end a little behind `stop`.
    """
    rate = decoder.metadata.sample_rate
    gap, longest_gap = GAP_SECONDS * rate, LONGEST_GAP_SECONDS * rate
    parts: list[torch.Tensor] = []
    begin = end = None  # in samples, on the clock of the stream; `end` also of what lies before the range
    for frame, seconds, _ in frames_in_order(decoder, name):
        at = round(seconds * rate)
        if end is not None:
            at = end if abs(at - end) <= gap else at
            if at < end:
                continue
        if at >= stop * rate or (end is not None and at - end > longest_gap):
            if parts and end is not None and not math.isinf(stop):  # it goes on later
                parts.append(torch.zeros(max(round(stop * rate) - end, 0)))
            break
        samples = frame.mean(0)
        if at + len(samples) > start * rate:
            if begin is None:
                begin = at
            elif end is not None:
                parts.append(torch.zeros(at - end))
            parts.append(samples)
        end = at + len(samples)
    return None if begin is None else (torch.cat(parts), begin / rate)


class PicturesInOrder:
    """Pictures by their time.

    Args:
        reopen (`Callable`): Gives a fresh decoder; it is wanted again where the times go back.
        name (`str`): For messages.
        size (`tuple[int, int]`): Height and width. Pictures of another size, as in broadcasts that change it on the
            way, are scaled.
    """

    def __init__(self, reopen: Callable[[], Any], name: str, size: tuple[int, int]):
        self._reopen = reopen
        self._name = name
        self._size = size
        self._current: torch.Tensor | None = None
        self._next: torch.Tensor | None = None
        self._current_seconds = -math.inf
        self.next_seconds = -math.inf  # when the picture after the current one is shown; infinity if none is
        self.end_seconds = -math.inf  # of the pictures seen so far
        self._restart()

    @property
    def is_complete(self) -> bool:
        """Whether no picture follows the current one."""
        return self._next is None

    def frames_at(self, seconds: list[float]) -> torch.Tensor:
        """The pictures shown at these ascending times, `(len(seconds), 3, height, width)`."""
        if seconds[0] < self._current_seconds:
            self._restart()
        frames = []
        for time in seconds:
            while self._next is not None and (self._current is None or self.next_seconds <= time):
                self._take_next()
            if self._current is None:
                raise RuntimeError("no frame can be decoded")
            frames.append(self._current)
        return torch.stack(frames)

    def go_to(self, seconds: float) -> None:
        """Read on until the next picture is one that begins at `seconds` or later."""
        while self._next is not None and self.next_seconds < seconds:
            self._take_next()

    def _restart(self) -> None:
        self._pictures = frames_in_order(self._reopen(), self._name)
        self._current, self._current_seconds = None, -math.inf
        self._advance()

    def _take_next(self) -> None:
        self._current, self._current_seconds = self._next, self.next_seconds
        self._advance()

    def _advance(self) -> None:
        self._next, self.next_seconds, duration = next(self._pictures, (None, math.inf, 0.0))
        if self._next is None:
            return
        self.end_seconds = max(self.end_seconds, self.next_seconds + duration)
        if tuple(self._next.shape[1:]) != self._size:
            scaled = torch.nn.functional.interpolate(self._next[None], self._size, mode="bilinear", antialias=True)
            self._next = scaled[0]
