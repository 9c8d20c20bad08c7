"""Where media come from: a path, URL, bytes, file object or datasets row becomes a file that FFmpeg may read.

Everything that FFmpeg reads passes through `open_source`. It refuses text that tells FFmpeg to open other files or
addresses (playlists, concat scripts, session descriptions), whatever its name.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .parts_foal_net import MARK_BYTES, begins_of, mark_of


DEFAULT_MAX_BYTES = 2 * 1024**3  # of a download, or of a stream that cannot seek
WAIT_TIMEOUT_SECONDS = 30.0  # for a connection, and for each next part of a download
DOWNLOAD_TIMEOUT_SECONDS = 600.0  # for a whole download, from the connection to the last byte

AUDIO_ENDINGS = frozenset(
    {
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".awb", ".caf", ".dts", ".eac3"),
        *(".flac", ".m4a", ".m4b", ".m4r", ".mka", ".mp2", ".mp3", ".mpc", ".nist", ".oga", ".ogg", ".opus"),
        *(".ra", ".snd", ".sph", ".spx", ".tta", ".voc", ".w64", ".wav", ".wma", ".wv"),
    }
)
VIDEO_ENDINGS = frozenset(
    {
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m1v", ".m2t", ".m2ts", ".m2v"),
        *(".m4v", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm"),
        *(".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".y4m"),
    }
)
MEDIA_ENDINGS = AUDIO_ENDINGS | VIDEO_ENDINGS
"""Endings of the files that a folder is searched for. What a file holds is decided by its content when it is read."""

_HEAD_BYTES = 4096
_PROBE_BYTES = 1024**2  # FFmpeg looks no further when it guesses a format
_MOST_TAGS = 64
_PIECE_BYTES = 1024**2  # copied at once
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # two letters or more: C:\clip.mp4 is a path
_SCRIPT_MARKS = (b"#ext", b"ffconcat", b"<", b"[playlist]", b"v=0", b"# vobsub")  # <: DASH, IMF, ISM, XSPF, HTML
_SESSION_LINE = re.compile(rb"(?:^|[\r\n])c=IN IP")  # FFmpeg takes a file with such a line anywhere for SDP
_TEXT_HEADERS = (b"YUV4MPEG2", b"NIST_1A")  # media that begin with a line of text
# Formats whose header names all streams. Matroska; AVI, WAV, WebP; ASF; MXF; IVF; AIFF; FLAC; images.
_MARKS_OF_HEADERS = (
    *(b"\x1aE\xdf\xa3", b"RIFF", b"RF64", b"\x30\x26\xb2\x75", b"\x06\x0e\x2b\x34", b"DKIF", b"FORM", b"fLaC"),
    *(b"YUV4MPEG2", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*"),
)
# Others that need no second look.
_OTHER_MARKS = (
    *(b"OggS", b"ID3", b"FLV", b"caff", b"wvpk", b"#!AMR", b".snd", b"NIST_1A", b"ADIF", b"\x0bw", b"MAC ", b"TTA1"),
    *(b"\0\0\1\xba", b"\0\0\1\xb3", b".RMF", b"riff", b"Creative Voice File"),
)
_TS_PACKET_BYTES = 188
_FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot")  # of MP4, QuickTime
_TEXT = re.compile(rb"[\t\n\f\r\x20-\x7e\x80-\xff]*")


class MediaError(ValueError):
    """A source that cannot be read: missing, broken, refused, or without anything in the wanted range.

    Args:
        source (`str`): What could not be read: file name, URL without its query, `"bytes"`, ...
        reason (`str`): The cause in plain words, and how to fix it. The original error, if any, is the `__cause__`.
    """

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[MediaError], tuple[str, str]]:
        return type(self), (self.source, self.reason)  # data loader workers send errors home by pickle


@dataclass(frozen=True)
class OpenSource:
    """A checked source.

    Attributes:
        name (`str`): For messages.
        file: A binary file object that can seek. FFmpeg sees it through `open`, never the name: so it can neither take
            the name for a protocol or pattern nor open other files beside it.
        head (`bytes`): The first bytes behind the tags.
        head_offset (`int`): How many bytes of tags there are.
    """

    name: str
    file: Any
    head: bytes
    head_offset: int = 0

    def open(self, begin: int = 0) -> FileView:
        """The part of the file that begins with this byte, for one reader."""
        end = next((other for other in self.begins if other > begin), math.inf)
        return FileView(self.file, begin, end, mark_of(self.head), begin or self.head_offset)

    @functools.cached_property
    def begins(self) -> list[int]:
        """Where the parts begin, bytes, that are read one after the other, as far as that is known before reading."""
        return begins_of(lambda offset, size: _read_at(self.file, offset, size))

    @property
    def has_streams_in_header(self) -> bool:
        """Whether it is of a format whose header names all streams. In the others (broadcasts, Ogg, ...) a stream may
        turn up anywhere.
        """
        is_mpeg_audio = len(self.head) > 1 and self.head[0] == 0xFF and self.head[1] >= 0xE0
        return self.head.startswith(_MARKS_OF_HEADERS) or self.head[4:8] in _FIRST_BOXES or is_mpeg_audio

    @property
    def is_known_format(self) -> bool:
        """Whether the first bytes are those of a common format. Others may be media too; the decoder finds out."""
        return self.has_streams_in_header or self.head.startswith(_OTHER_MARKS) or _is_transport_stream(self.head)


def has_media_ending(name: str | os.PathLike[str]) -> bool:
    """Whether a file name ends like that of an audio or video file, in upper or lower case."""
    return os.path.splitext(os.fspath(name))[1].lower() in MEDIA_ENDINGS


def source_name(source: object) -> str:
    """A short name of `source` for messages: never its content, no credentials, no query of a URL."""
    if isinstance(source, dict):
        return source_name(source["path"]) if source.get("path") else "bytes"
    if isinstance(source, str) and is_url(source):
        try:
            parts = urlsplit(source)
        except ValueError:  # half an IPv6 address
            return "URL"
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source) if isinstance(os.fspath(source), str) else repr(os.fspath(source))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes"
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else type(source).__name__


def is_url(source: object) -> bool:
    """Whether `source` is an address that is downloaded (http, https)."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


@contextlib.contextmanager
def open_source(source: Any, max_bytes: int = DEFAULT_MAX_BYTES) -> Iterator[OpenSource]:
    """Check `source` and open it for as long as the context lasts.

    Args:
        source: Path (`str` or `os.PathLike`), http or https URL, bytes, binary file object, or a `datasets` row
            `{"path": ..., "bytes": ...}`.
        max_bytes (`int`): Limit of a download, and of a file object that cannot seek and is copied to a temporary file.

    Raises:
        MediaError: If it is missing, empty, too large, text, or a playlist or script.
        TypeError: If it is none of the kinds above.
    """
    name = source_name(source)
    if isinstance(source, dict):
        if not {"path", "bytes"} & source.keys():
            raise TypeError(f"A row of media needs 'bytes' or 'path', got the keys {sorted(map(str, source))}.")
        source = source.get("bytes") if source.get("bytes") is not None else source.get("path")
        if source is None:
            raise MediaError("row", "holds neither 'bytes' nor 'path'; one of them is needed.")
    with contextlib.ExitStack() as stack:
        if is_url(source):
            source = stack.enter_context(_downloaded(source, name, max_bytes))
        if isinstance(source, (bytes, bytearray, memoryview)):
            source = io.BytesIO(source)
        if isinstance(source, (str, os.PathLike)):
            yield _open_path(os.fsdecode(source), name, stack)
        elif hasattr(source, "read"):
            yield _open_file_object(source, name, max_bytes, stack)
        else:
            raise TypeError(
                f"Cannot read media from {type(source).__name__}; give a path, an http(s) URL, bytes, a binary file "
                "object, a datasets row, an array or a torchcodec decoder."
            )


def _open_path(path: str, name: str, stack: contextlib.ExitStack) -> OpenSource:
    if not os.path.exists(path):
        scheme = _SCHEME.match(path)
        if scheme:
            raise MediaError(name, f"'{scheme[1]}:' is not read; give a path without it, or an http(s) URL.")
        raise MediaError(name, "no such file.")
    if not os.path.isfile(path):
        raise MediaError(name, f"is a {'directory' if os.path.isdir(path) else 'device or pipe'}, not a file.")
    try:
        file = stack.enter_context(io.FileIO(path))
    except OSError as error:
        raise MediaError(name, f"cannot be opened ({error.strerror}).") from error
    return _open_file_object(file, name, 0, stack)


def _open_file_object(file: Any, name: str, max_bytes: int, stack: contextlib.ExitStack) -> OpenSource:
    if isinstance(file, io.TextIOBase):
        raise MediaError(name, "is opened as text; open it in binary mode ('rb').")
    try:
        if not (hasattr(file, "seek") and getattr(file, "seekable", lambda: True)()):
            return _open_path(stack.enter_context(_copied(file, name, max_bytes)), name, stack)
        position = file.tell()
        stack.callback(lambda: None if getattr(file, "closed", False) else file.seek(position))
        head, head_offset = _checked_head(lambda offset, size: _read_at(file, offset, size), name)
    except MediaError:
        raise
    except Exception as error:  # whatever the object's own library raises; ValueError if it is closed
        raise MediaError(name, f"cannot be read ({error or type(error).__name__}).") from error
    return OpenSource(name, file, head, head_offset)


class FileView:
    """One reader's own position in a part of a file that several readers share.

    A part ends before the next mark that is read in it.

    Args:
        file: A binary file object that can seek.
        begin (`int`), end (`float`): Of the part, bytes.
        mark (`re.Pattern`, *optional*): What a part of this format begins with.
        own_mark (`int`): Where that of the part itself is.
    """

    def __init__(self, file: Any, begin: int, end: float, mark: re.Pattern[bytes] | None, own_mark: int):
        self._file = file
        self._begin, self._end = begin, end
        self._mark, self._own_mark = mark, own_mark
        self._position = self._furthest = 0
        self._bytes_left = math.inf

    def limit_bytes(self, num_bytes: float) -> None:
        """Let no more than that be read from now on."""
        self._bytes_left = num_bytes

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`."""
        if self._bytes_left <= 0:
            if math.isinf(self._bytes_left):  # PyAV prints an error that is raised while another one is on its way
                return b""
            self._bytes_left = -math.inf
            raise MediaError("file", "holds nothing that can be decoded in a long part; the rest is skipped")
        data = self._read_and_look(self._begin + self._position, size)
        self._position += len(data)
        self._furthest = max(self._furthest, self._position if data else 0)
        self._bytes_left -= len(data)
        return data

    def next_begin(self, num_bytes: int) -> int | None:
        """Where another part begins behind this one, of which so many bytes hold media; None if there is none.

        Behind them may be an index and tags.
        """
        self._read_and_look(self._begin + num_bytes, _PROBE_BYTES)
        return None if math.isinf(self._end) else int(self._end)

    def num_unread(self) -> int:
        """How many bytes behind all that was read so far."""
        return self._file.seek(0, os.SEEK_END) - self._begin - self._furthest

    def _read_and_look(self, offset: int, size: int) -> bytes:
        """The bytes of the part at an offset of the file, at most so many; the part ends before a mark in them."""
        data = _read_at(self._file, offset, size + MARK_BYTES if self._mark else size)
        mark = self._mark and self._mark.search(data, max(self._own_mark + 1 - offset, 0))
        if mark and offset + mark.start() < self._end:
            self._end = offset + mark.start()
        return data[: int(max(min(size, self._end - offset), 0))]

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, as in a file."""
        if whence == os.SEEK_END:
            self._position = int(min(self._file.seek(0, os.SEEK_END), self._end)) - self._begin + offset
        else:
            self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position


def _read_at(file: Any, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size) or b""


def _checked_head(read_at: Callable[[int, int], bytes], name: str) -> tuple[bytes, int]:
    """The first bytes behind the tags, and where; raises if FFmpeg might take them for text that names other files.

    FFmpeg guesses a format from the content, not from the name, and it guesses behind leading ID3 tags; so does this.
    Media are binary: all text is refused, so that a script format that is not listed here is refused too.
    """
    offset = 0
    for _ in range(_MOST_TAGS):
        head = read_at(offset, _HEAD_BYTES)
        if b"\0" not in head:
            head = read_at(offset, _PROBE_BYTES)
        if offset == 0 and not head:
            raise MediaError(name, "is empty (0 bytes); was its download or recording cut off?")
        start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
        script = start[:16].lower().startswith(_SCRIPT_MARKS) or _SESSION_LINE.search(head)
        if script:
            raise MediaError(
                name, "is a playlist, script or web page that points to other media; give the media file itself."
            )
        is_text = _TEXT.fullmatch(head[:512]) and not head.startswith(_TEXT_HEADERS)
        if head and is_text:
            raise MediaError(name, "is text, not audio or video, whatever its name says.")
        if head[:3] != b"ID3" or len(head) < 10:
            return head, offset
        tag_bytes = (head[6] << 21) | (head[7] << 14) | (head[8] << 7) | head[9]
        offset += 10 + tag_bytes + (10 if head[5] & 0x10 else 0)
    raise MediaError(name, f"begins with {_MOST_TAGS} ID3 tags or more and is not an audio file.")


def _is_transport_stream(head: bytes) -> bool:
    """Two packets that begin with the same byte; cameras put a time code of four bytes before each."""
    return any(
        len(head) > second and head[first] == head[second] == 0x47
        for first, second in ((0, _TS_PACKET_BYTES), (4, _TS_PACKET_BYTES + 8))
    )


@contextlib.contextmanager
def _temporary_file() -> Iterator[tuple[Any, str]]:
    """A new file, open for writing, and its path; deleted at the end."""
    handle, path = tempfile.mkstemp(prefix="foal-media-")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, path
    finally:
        os.unlink(path)


@contextlib.contextmanager
def _copied(stream: Any, name: str, max_bytes: int) -> Iterator[str]:
    """Path of a temporary file with what a stream still holds."""
    with _temporary_file() as (file, path):
        num_bytes = 0
        while piece := stream.read(_PIECE_BYTES):
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                raise MediaError(
                    name, f"holds more than max_bytes = {max_bytes} bytes; raise max_bytes or save it to a file first."
                )
            file.write(piece)
        file.close()
        yield path


@contextlib.contextmanager
def _downloaded(url: str, name: str, max_bytes: int) -> Iterator[str]:
    """Path of a temporary file with what `url` gives."""
    import anyio  # a dependency of the HTTP library
    from anyio.from_thread import start_blocking_portal

    async def download() -> None:
        with anyio.fail_after(DOWNLOAD_TIMEOUT_SECONDS):  # for everything: connection, redirects, headers, body
            await _download(url, name, file, max_bytes)

    with _temporary_file() as (file, path):
        try:
            with start_blocking_portal() as portal:  # a thread, since the caller may run an event loop
                portal.call(download)
        except MediaError:
            raise
        except TimeoutError:
            reason = f"is not downloaded after {DOWNLOAD_TIMEOUT_SECONDS:g} s; download it first."
            raise MediaError(name, reason) from None
        except Exception as error:  # the HTTP library's errors; which library depends on huggingface_hub's version
            reason = " ".join(str(error).split()) or type(error).__name__
            raise MediaError(name, f"cannot be downloaded ({reason}).") from error
        file.close()
        yield path


async def _download(url: str, name: str, file: io.BufferedIOBase | Any, max_bytes: int) -> None:
    from huggingface_hub import get_async_session  # knows the user's proxies, certificates and offline mode

    too_large = MediaError(name, f"is larger than max_bytes = {max_bytes}; raise max_bytes or download it first.")
    plain = {"Accept-Encoding": "identity"}
    async with (
        get_async_session() as client,
        client.stream("GET", url, headers=plain, timeout=WAIT_TIMEOUT_SECONDS, follow_redirects=True) as response,
    ):
        if response.status_code != 200:
            raise MediaError(name, f"the server answers {response.status_code} {response.reason_phrase}.")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise MediaError(
                name, f"the server compresses it ({encoding}) although it was asked not to; download it first."
            )
        if int(response.headers.get("Content-Length", 0)) > max_bytes:
            raise too_large
        num_bytes = 0
        async for piece in response.aiter_raw():
            num_bytes += len(piece)
            if num_bytes > max_bytes:
                raise too_large
            file.write(piece)
