"""Where the parts of a file begin that are read one after the other: chained Ogg, and files joined by `cat`.

Each part has its own streams, rates and channels, which FFmpeg would take for those of the first, or leave out.
"""

from __future__ import annotations

import re
from collections.abc import Callable


MARK_BYTES = 100
"""No mark is longer."""
MOST_PARTS = 1000

_MOST_PAGES, _MOST_BOXES = 1_000_000, 100_000
# What stands at the beginning of a file alone. Each has six given bytes or more, so it does not come about by chance.
_MARKS = tuple(
    re.compile(mark, re.DOTALL)
    for mark in (
        rb"(?:RIFF|RF64|BW64)....(?:WAVE|AVI )",
        rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb",  # W64
        rb"FORM....AIF[FC]",
        rb"caff\0\x01\0\0desc",
        rb"fLaC[\0\x80]\0\0\x22",
        rb"wvpk....[\2-\x10]\x04\0\0....\0{4}.....[\x08-\x0f\x18-\x1f\x28-\x2f\x38-\x3f]",  # of block 0
        rb"TTA[12][\1-\3]\0[\1-\x20]\0[\x08-\x20]\0",
        rb"Creative Voice File\x1a",
        rb"\.snd\0\0..(?:....)\0\0\0[\1-\x1b]",  # AU
        rb"NIST_1A\n",
        rb"\.SoX.\0\0\0",
        rb"\x64\xa3[\1-\4]\0....[\1-\x20]\0\0\0",  # IRCAM
        rb"MMMD....CNTI",
        rb"#!AMR(?:-WB)?\n",
        rb"\x1aE\xdf\xa3.{1,80}?B\x82[\x84\x88](?:webm|matroska)",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",  # ASF
        rb"\xb7\xd8\0\x20\x37\x49\xda\x11\xa6\x4e",  # WTV
        rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02",  # MXF
        rb"FLV\x01[\1\4\5]\0\0\0\x09",
        rb"FWS[\3-\x32]....[\x40-\xaf]\0",  # SWF
        rb"\.RMF\0\0\0.\0[\0\1]",
        rb"nut/multimedia container\0",
        rb"DKIF\0\0\x20\0",
        rb"\0\nSMJPEG",
        rb"\x84\x10\xff{4}",  # RoQ
        rb"YUV4MPEG2 ",
    )
)

_Read = Callable[[int, int], bytes]  # of an offset and a number of bytes


def mark_of(head: bytes) -> re.Pattern[bytes] | None:
    """What is found where a file begins that is of the same format as one with these first bytes."""
    return next((mark for mark in _MARKS if mark.match(head)), None)


def begins_of(read_at: _Read) -> list[int]:
    """Where the parts of an Ogg, MP4 or QuickTime file begin, bytes; [0] for others, whose beginnings have a mark.

    Args:
        read_at (`Callable`): Gives the bytes at an offset, at most so many.
    """
    begins = _begins_of_ogg(read_at) if read_at(0, 4) == b"OggS" else _begins_of_mp4(read_at)
    return begins[:MOST_PARTS] or [0]


def _begins_of_mp4(read_at: _Read) -> list[int]:
    """Where each file type box is."""
    begins: list[int] = []
    position = 0
    for _ in range(_MOST_BOXES if read_at(4, 4) == b"ftyp" else 0):
        box = read_at(position, 16)
        if box[4:8] == b"ftyp":
            begins.append(position)
        size = int.from_bytes(box[:4], "big")
        size = int.from_bytes(box[8:], "big") if size == 1 else size
        if size < 8:
            break
        position += size
    return begins


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
