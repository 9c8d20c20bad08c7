"""Where the parts of a file begin that are read one after the other: chained Ogg, and files joined by `cat`."""

from __future__ import annotations

import math
from collections.abc import Callable


_MOST_PAGES, _MOST_BOXES, _MOST_PARTS = 1_000_000, 100_000, 1000

_Read = Callable[[int, int], bytes]  # of an offset and a number of bytes


def parts_of(read_at: _Read) -> list[tuple[int, float]]:
    """Begin and end, in bytes, of the parts of a file; most files are one.

    Chained Ogg has several, and so have Matroska, AVI and AU files joined by `cat`. Each has its own streams, rates and
    channels, which FFmpeg would take for those of the first. A second MP4 is no part: FFmpeg takes its fragments for
    some of the first, in places of the first, so the first ends before it.

    Args:
        read_at (`Callable`): Gives the bytes at an offset, at most so many.
    """
    begins_of = {
        b"OggS": _begins_of_ogg,
        b"\x1aE\xdf\xa3": _begins_of_matroska,
        b"RIFF": _begins_of_avi,
        b".snd": _begins_of_au,
    }
    find = begins_of.get(read_at(0, 4))
    begins = (find(read_at)[:_MOST_PARTS] if find else []) or [0]
    return list(zip(begins, [*begins[1:], _appended_mp4(read_at)], strict=True))


def _appended_mp4(read_at: _Read) -> float:
    """Where an MP4 or QuickTime file begins that is appended to one."""
    position = 0
    for _ in range(_MOST_BOXES if read_at(4, 4) == b"ftyp" else 0):
        box = read_at(position, 16)
        if position and box[4:8] == b"ftyp":
            return position
        size = int.from_bytes(box[:4], "big")
        size = int.from_bytes(box[8:], "big") if size == 1 else size
        if size < 8:
            break
        position += size
    return math.inf


def _begins_of_ogg(read_at: _Read) -> list[int]:
    """Where each part of chained Ogg begins: with a page that begins a stream, behind one that does not."""
    begins: list[int] = []
    position, was_begin = 0, False
    for _ in range(_MOST_PAGES):
        page = read_at(position, 27 + 255)
        if page[:4] != b"OggS" or len(page) < 27:
            break
        is_begin = bool(page[5] & 2)
        if is_begin and not was_begin:
            begins.append(position)
        was_begin = is_begin
        position += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return begins


def _begins_of_matroska(read_at: _Read) -> list[int]:
    """Where each header is, as far as the elements before it say how long they are."""
    begins: list[int] = []
    position = 0
    while len(begins) <= _MOST_PARTS:
        element = read_at(position, 12)
        if element[:4] == b"\x1aE\xdf\xa3":
            begins.append(position)
        elif element[:4] != b"\x18S\x80g":  # a segment
            break
        num_bytes = 9 - element[4].bit_length() if len(element) == 12 and element[4] else 9
        size = int.from_bytes(element[4 : 4 + num_bytes], "big") - (1 << (7 * num_bytes))
        if num_bytes > 8 or size == (1 << (7 * num_bytes)) - 1:  # unknown
            break
        position += 4 + num_bytes + size
    return begins


def _begins_of_avi(read_at: _Read) -> list[int]:
    """Where each file begins; the chunks `RIFF AVIX` behind the first gigabyte belong to it."""
    begins: list[int] = []
    position = 0
    while len(begins) <= _MOST_PARTS:
        chunk = read_at(position, 12)
        if chunk[:4] != b"RIFF" or chunk[8:] not in (b"AVI ", b"AVIX"):
            break
        if chunk[8:] == b"AVI ":
            begins.append(position)
        size = int.from_bytes(chunk[4:8], "little")
        position += 8 + size + size % 2
    return begins


def _begins_of_au(read_at: _Read) -> list[int]:
    begins: list[int] = []
    position = 0
    while len(begins) <= _MOST_PARTS:
        header = read_at(position, 12)
        offset, size = int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:], "big")
        if header[:4] != b".snd" or len(header) < 12:
            break
        begins.append(position)
        position += max(offset, 24) + size
    return begins
