"""What a decoder may be asked for, and how its failures reach the caller: always as `MediaError`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from .arrays_foal_net import MAX_SAMPLING_RATE, MIN_SAMPLING_RATE
from .sources_foal_net import MediaError


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
