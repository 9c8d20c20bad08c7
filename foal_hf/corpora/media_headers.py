"""Whether a file can be a medium, told from its name, its size and its first bytes, without decoding."""

import os
from pathlib import Path


AUDIO_SUFFIXES = frozenset({".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"})
VIDEO_SUFFIXES = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm", ".wmv"}
)
MEDIA_SUFFIXES = AUDIO_SUFFIXES | VIDEO_SUFFIXES

_TS_PACKET_BYTES = 188
_BYTES = _TS_PACKET_BYTES + 12
_STARTS = (
    b"RIFF",  # wav, avi
    b"RF64",
    b"FORM",  # aiff
    b"fLaC",
    b"OggS",
    b"ID3",  # mp3, aac
    b"FLV",
    b"\x1a\x45\xdf\xa3",  # mkv, webm
    b"\x30\x26\xb2\x75",  # wmv, wma
    b"\x00\x00\x01\xba",  # mpg
    b"\x00\x00\x01\xb3",
    b"ADIF",
)
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")  # mp4, mov and their kin, behind a length


def find_fault(path: str | os.PathLike[str]) -> str | None:
    """Say why a file cannot be read as a medium.

    Files that are cut short or damaged further on are found when they are decoded, not here.

    Args:
        path (`str` or `os.PathLike`): A local file.

    Returns:
        `str`: `"does not exist"`, `"is not a file"`, `"is empty"`, `"cannot be opened (...)"` or `"is no audio or video
        file"`; None where nothing is wrong, and where the ending is none that this knows.
    """
    path = Path(path)
    if not path.exists():
        return "does not exist"
    if not path.is_file():
        return "is not a file"
    try:
        with path.open("rb") as file:
            head = file.read(_BYTES)
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty"
    return None if path.suffix.lower() not in MEDIA_SUFFIXES or _is_media(head) else "is no audio or video file"


def _is_media(head: bytes) -> bool:
    # Of whichever kind, for a wrong ending keeps no decoder from reading a file.
    is_frame_of_mpeg_audio = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head.startswith(_STARTS) or head[4:8] in _BOXES or is_frame_of_mpeg_audio or _is_transport_stream(head)


def _is_transport_stream(head: bytes) -> bool:
    """Two packets that begin with the same byte; cameras put a time code of four bytes before each."""
    return any(
        len(head) > second and head[first] == head[second] == 0x47
        for first, second in ((0, _TS_PACKET_BYTES), (4, _TS_PACKET_BYTES + 8))
    )
