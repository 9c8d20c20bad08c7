"""Decoding with PyAV: the frames of a file in order, on one time axis without jumps, and failures as `MediaError`.

Nothing that a file says at its beginning is taken to hold for the rest of it. Every frame has its own size, rate,
channels and format, damaged parts are skipped, and times may begin anew or jump: recordings are appended to one
another. What is skipped or moved is noted.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from typing import Any

from transformers.utils import logging

from .arrays_foal_net import MAX_SAMPLING_RATE, MIN_SAMPLING_RATE
from .parts_foal_net import MOST_PARTS
from .sources_foal_net import FileView, MediaError, OpenSource


logger = logging.get_logger(__name__)

DEFAULT_MAX_PIXELS = 2**26
"""Of one frame: twice what 8K has."""
LONGEST_GAP_SECONDS = 3600.0
"""In all gaps of a file together; times that jump by more are wrong."""
TIME_TOLERANCE_SECONDS = 1e-3  # Matroska and WebM keep times in whole milliseconds

_NEW_PART_SECONDS = 0.1  # times that go back by more belong to another recording, appended to the first
_REAL_GAP_SECONDS = 1.0  # lost packets and rounded times move times by less
_MOST_DAMAGED_PACKETS = 10_000
_MOST_BYTES_WITHOUT_PACKET = 2**26
_MOST_UNREAD_BYTES = 2**16  # an index, tags
_USUAL_FRAMES_PER_SECOND = 25
_RUN_IN_SECONDS = 1.0  # decoded before what is wanted: audio decoders need some packets to settle
# The times of other formats are counted from the start, at the sampling rate of the first packet.
_FORMATS_WITH_TIMES = frozenset(
    {*("mp4", "matroska", "avi", "asf", "flv", "mpegts", "mpeg", "ogg", "wav", "w64", "flac", "caf", "aiff")}
)
_ANEW = "its times begin anew on the way; the parts are read one after the other"
_DAMAGED = "is damaged or cut off; what cannot be decoded is skipped"


@contextlib.contextmanager
def decoding(name: str) -> Iterator[None]:
    """Whatever a decoder raises is a `MediaError` of the source `name`."""
    try:
        yield
    except (MediaError, ImportError):
        raise
    except MemoryError as error:
        raise MediaError(name, "needs more memory than there is; read a shorter range.") from error
    except Exception as error:
        detail = str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]
        raise MediaError(
            name,
            f"cannot be decoded: it is not an audio or video file, or it is damaged or cut off ({detail[:200]}). "
            "Try to play it, or convert it with `ffmpeg -i INPUT output.mp4`.",
        ) from error


def check_sampling_rate(name: str, rate: int) -> None:
    """Raise `MediaError` for a rate, Hz, that no audio has: headers may claim any."""
    if not MIN_SAMPLING_RATE <= rate <= MAX_SAMPLING_RATE:
        raise MediaError(
            name, f"claims {rate} samples a second; audio of {MIN_SAMPLING_RATE} to {MAX_SAMPLING_RATE} Hz is read."
        )


def check_frame_size(name: str, height: int, width: int, max_pixels: int) -> None:
    """Raise `MediaError` for frames of more than `max_pixels` pixels."""
    if height * width > max_pixels:
        raise MediaError(
            name,
            f"has frames of {width}x{height} pixels, above max_pixels = {max_pixels}; raise max_pixels if you trust "
            "the file, or shrink it with `ffmpeg -i INPUT -vf scale=1280:-2 output.mp4`.",
        )


class MediaStreams:
    """The audio and the video stream of a file, to be decoded one independently of the other.

    Args:
        source (`OpenSource`): The file.
        max_pixels (`int`): Of a frame.
        stream_index (`dict[str, int]`, *optional*): Which stream to take for `"audio"`, for `"video"`, or for
            `"either"`, whichever it is. Default: the one that FFmpeg takes. Attached pictures (cover art, chapter
            images) are no video.

    Attributes:
        notes (`dict[str, None]`): What was skipped, moved or converted so far, in order.
        begins (`dict[str, float]`): Where each stream begins by its header; without those that the file lacks.
        begin_seconds (`float`): Where the earlier stream begins, on the clock of the file.

    Raises:
        MediaError: If FFmpeg cannot open it, or it has no such stream.
        ImportError: If PyAV is missing.
    """

    def __init__(self, source: OpenSource, max_pixels: int, stream_index: dict[str, int] | None = None):
        self._av = _import_av()
        self._source = source
        self.name = source.name
        self.max_pixels = max_pixels
        self.has_index = source.has_streams_in_header
        self._has_times = False
        self.notes: dict[str, None] = {}
        self._unused: Any = None
        with decoding(self.name):
            reader = source.open()
            container = self._open(reader)
            self._unused = container, reader
            if not len(container.streams):
                raise self._av.error.InvalidDataError(0, "nothing in it is audio or video")
            index = stream_index or {}
            if (either := index.get("either")) is not None:
                is_audio = either < len(container.streams) and container.streams[either].type == "audio"
                index = {"audio" if is_audio else "video": either}
            chosen = {kind: self._choose(container, kind, index.get(kind)) for kind in ("audio", "video")}
            self._has_times = not _FORMATS_WITH_TIMES.isdisjoint(container.format.name.split(","))
            self._duration = container.duration and container.duration / self._av.time_base
            self._headers = {kind: _Header(stream) for kind, stream in chosen.items() if stream is not None}
        self.begins = {kind: header.begin_seconds for kind, header in self._headers.items()}
        self.begin_seconds = min(self.begins.values(), default=0.0)

    def close(self) -> None:
        """Close what was opened for reading and not used."""
        if self._unused is not None:
            self._unused[0].close()
        self._unused = None

    @property
    def pixel_aspect_ratio(self) -> Any:
        """Width of a pixel of the video by its height, a fraction; None where the file does not say."""
        return self._headers["video"].pixel_aspect_ratio

    @property
    def frames_per_second(self) -> float | None:
        """Frame rate of the video by the file's own account; None where it gives none."""
        return self._headers["video"].frames_per_second or None

    def end_seconds(self, kind: str) -> float | None:
        """Where a stream ends by the file's own account, on its clock; None where it gives none."""
        if len(self._source.begins) > 1:  # it speaks of the first only
            return None
        seconds = self._headers[kind].duration_seconds or self._duration
        return None if seconds is None else self.begins[kind] + seconds

    def frame_seconds(self, frame: Any) -> float:
        """How long a frame lasts."""
        if hasattr(frame, "samples"):
            return frame.samples / max(frame.sample_rate, 1)
        header = self._headers["video"]
        seconds = (frame.duration or 0) * float(frame.time_base or header.time_base) or 1 / (
            header.frames_per_second or _USUAL_FRAMES_PER_SECOND
        )
        return min(seconds, LONGEST_GAP_SECONDS)

    def claimed_seconds(self, frame: Any) -> float:
        """How far apart the times of frames of the audio are if the file just counts them, else 0."""
        return 0.0 if self._has_times else (frame.duration or 0) * self._headers["audio"].time_base

    def check_frame_size(self, height: int = 0, width: int = 0) -> None:
        """Raise `MediaError` for frames of more pixels than allowed; by default those that the header claims."""
        header = self._headers["video"]
        check_frame_size(self.name, height or header.height, width or header.width, self.max_pixels)

    def note(self, text: str) -> None:
        """Keep what somebody who sees the result should know."""
        if text not in self.notes:
            self.notes[text] = None
            logger.warning(f"{self.name}: {text}.")

    def frames(
        self, kind: str, *, seek_seconds: float | None = None, needed_from: float = -math.inf
    ) -> Iterator[tuple[Any, float]]:
        """The frames of a stream in order, each with the time when it begins, seconds.

        Args:
            kind (`str`): `"audio"` or `"video"`.
            seek_seconds (`float`, *optional*): Begin at the key frame before, as far as the file has an index. It may
                be later all the same.
            needed_from (`float`, *optional*): What ends well before this time may be left out.
        """
        clock = _Clock(None if seek_seconds is not None else self.begin_seconds, self.note)
        begin = 0
        for _ in range(MOST_PARTS):
            num_bytes = 0
            container, reader = self._unused or (None, self._source.open(begin))
            self._unused = None
            try:
                container = container or self._open(reader)
            except self._av.error.FFmpegError as error:  # the beginning of a part, cut off
                if not begin:
                    raise
                clock.count_damage(error)
            else:
                with contextlib.closing(container):
                    if begin:
                        clock.begin_part()
                    chosen = self._chosen_in(container)
                    stream = chosen.get(kind)
                    if seek_seconds is not None and stream is not None and not begin:
                        container.seek(int(seek_seconds / float(stream.time_base)), stream=stream)
                    in_order = sorted(chosen.values(), key=lambda each: each.index)
                    packets = _packets(container, in_order, reader, clock, self._av.error.FFmpegError)
                    num_bytes = yield from self._decoded(stream, packets, clock, needed_from)
            following = reader.next_begin(num_bytes)
            if following is None:
                break
            begin = following
        if (num_unread := reader.num_unread()) > _MOST_UNREAD_BYTES:
            self.note(f"goes on behind what FFmpeg reads of it; {num_unread} bytes are not read")

    def _chosen_in(self, container: Any) -> dict[str, Any]:
        """The streams to read of a part of the file, by kind."""
        chosen = {}
        for kind, header in self._headers.items():
            same = container.streams[header.index] if header.index < len(container.streams) else None
            is_same = same is not None and same.type == kind and same.codec_context is not None
            chosen[kind] = same if is_same else self._choose(container, kind, None)
        return {kind: stream for kind, stream in chosen.items() if stream is not None}

    def _decoded(
        self, stream: Any, packets: Iterator[Any], clock: _Clock, needed_from: float
    ) -> Generator[tuple[Any, float], None, int]:
        """The frames of a stream (None: of no stream) from the packets of all; returns how many bytes were read."""
        own, kind, time_base = (stream.index, stream.type, float(stream.time_base)) if stream else (-1, "", 1.0)
        codec: Any = stream.codec_context if stream else None
        latest, following = -math.inf, self.begin_seconds if clock.end is None else clock.end
        read_bytes = 0  # up to the end of the last packet

        def decoded(packet: Any, offset: float) -> Iterator[tuple[Any, float]]:
            nonlocal latest, following
            frames = []
            try:
                frames = codec.decode(packet)
            except self._av.error.EOFError:  # behind a flush
                pass
            except self._av.error.FFmpegError as error:
                clock.count_damage(error)
            for frame in frames:
                ticks = frame.dts if frame.pts is None else frame.pts
                seconds = following if ticks is None else ticks * time_base + offset
                if kind == "audio" or seconds >= latest:  # of video what goes back is damage
                    latest, following = seconds, seconds + self.frame_seconds(frame)
                    yield frame, seconds

        for packet in packets:
            if not packet.size:
                continue
            index, ticks = packet.stream_index, packet.dts if packet.pts is None else packet.pts
            read_bytes = max(read_bytes, (packet.pos or 0) + packet.size)
            before = clock.offsets[own]
            if ticks is not None:
                base = float(packet.time_base)
                # Of the video, frames are decoded before others that are shown earlier; key frames never are.
                ascends = packet.is_keyframe or packet.stream.type == "audio"
                end = clock.place(index, ticks * base, (packet.duration or 0) * base, ascends=ascends)
                if codec is not None and clock.offsets[own] != before:
                    yield from decoded(None, before)
                    codec.flush_buffers()
                if self._has_times and end < needed_from - _RUN_IN_SECONDS:
                    continue
            if index == own:
                yield from decoded(packet, clock.offsets[own])
        if codec is not None:
            yield from decoded(None, clock.offsets[own])
        return read_bytes

    def _open(self, reader: FileView) -> Any:
        # Frames are stored in whole blocks, so they have more pixels than they show.
        limits = {"max_pixels": str(2 * int(self.max_pixels) + 2**16)}
        container = self._av.open(
            reader,
            options={"protocol_whitelist": "none", **limits},
            io_open=_refuse_to_open,
            metadata_errors="replace",
        )
        for stream in container.streams:
            if stream.codec_context is not None and stream.type in ("audio", "video"):
                stream.codec_context.thread_count = 1
                stream.codec_context.options = limits
        return container

    def _choose(self, container: Any, kind: str, index: int | None) -> Any:
        all_of_kind = getattr(container.streams, kind)
        undecodable = [stream for stream in all_of_kind if stream.codec_context is None]
        pictures = self._av.stream.Disposition.attached_pic | self._av.stream.Disposition.timed_thumbnails
        streams = [stream for stream in all_of_kind if stream not in undecodable and not stream.disposition & pictures]
        if index is not None:
            for stream in streams:
                if stream.index == index:
                    return stream
            raise MediaError(self.name, f"has no {kind} stream {index}; it has {[stream.index for stream in streams]}.")
        if undecodable and not streams:
            self.note(f"its {kind} is in a format that FFmpeg cannot decode")
        best = container.streams.best(kind)
        return next((stream for stream in streams if best is not None and stream.index == best.index), None) or next(
            iter(streams), None
        )


class _Header:
    """What the header of a file says of one stream; times in seconds."""

    def __init__(self, stream: Any):
        self.index = stream.index
        self.time_base = float(stream.time_base)
        begin = (stream.start_time or 0) * self.time_base
        # Before 0 there is only the encoder's run-in, which is decoded and dropped.
        self.begin_seconds = max(begin, 0.0) if stream.type == "audio" else begin
        self.duration_seconds = stream.duration and stream.duration * self.time_base
        self.frames_per_second = float(getattr(stream, "average_rate", None) or 0)
        self.pixel_aspect_ratio = getattr(stream, "sample_aspect_ratio", None)
        self.height, self.width = (getattr(stream, name, 0) for name in ("height", "width"))


class _Clock:
    """Puts the packets of a file on one time axis, on which no part lies over another and gaps are bounded.

    Args:
        begin_seconds (`float`, *optional*): Where it begins. Default: with the first packet.
        note (`Callable`): Gets what was done, in words.
    """

    def __init__(self, begin_seconds: float | None, note: Callable[[str], None]):
        self.note = note
        self.end = begin_seconds  # of all packets so far
        self._offset = 0.0  # to be added to the times of the part that was begun last
        self._offset_before = 0.0  # and of the one before
        self.offsets: dict[int, float] = defaultdict(lambda: self._offset)  # of each stream
        self._latest: dict[int, float] = {}
        self._nothing = 0.0
        self._num_damaged = 0
        self._is_new_part = False

    def begin_part(self) -> None:
        """What follows has times of its own; they begin where those before end."""
        self._is_new_part = True

    def place(self, index: int, seconds: float, duration: float, *, ascends: bool) -> float:
        """Take the next packet of a stream, and say when it ends."""
        if self._is_new_part and self.end is not None:
            self.note(_ANEW)
            self._move(self.end - seconds - self._offset)
            self._latest.clear()
            self._is_new_part = False
        at = seconds + self.offsets[index]
        latest = self._latest.get(index, at)
        self.end = at if self.end is None else self.end
        goes_back = ascends and at < latest - _NEW_PART_SECONDS
        gap = at - self.end
        if goes_back or gap > _REAL_GAP_SECONDS:
            is_known = index in self._latest
            if is_known and abs(seconds + self._offset_before - latest) <= _REAL_GAP_SECONDS:  # others have gone on
                self.offsets[index] = self._offset_before
            elif goes_back:
                if seconds + self._offset < latest - _NEW_PART_SECONDS:
                    self.note(_ANEW)
                    self._move(self.end - seconds - self._offset)
                self.offsets[index] = self._offset
                latest = seconds + self._offset
            elif self._nothing + gap > LONGEST_GAP_SECONDS:
                self.note("its times jump by hours; the gap is skipped")
                self._move(-gap)
            else:
                self._nothing += gap
            at = seconds + self.offsets[index]
        self._latest[index] = max(at, latest)
        end = at + min(duration, _REAL_GAP_SECONDS)  # what is longer is a gap
        self.end = max(end, self.end)
        return end

    def count_damage(self, error: Exception) -> None:
        """Go on after an error, some thousand times."""
        self.note(_DAMAGED)
        self._num_damaged += 1
        if self._num_damaged > _MOST_DAMAGED_PACKETS:
            raise error

    def _move(self, by_seconds: float) -> None:
        self._offset_before, self._offset = self._offset, self._offset + by_seconds
        self.offsets.clear()


def _packets(
    container: Any, streams: list[Any], reader: Any, clock: _Clock, decoder_error: type[Exception]
) -> Iterator[Any]:
    """The packets of streams in the order of the file, as far as they can be read."""
    while True:
        try:
            for packet in container.demux(streams):
                reader.limit_bytes(_MOST_BYTES_WITHOUT_PACKET)
                yield packet
            return
        except MediaError as error:  # too much without a packet: nothing follows
            clock.note(error.reason)
            return
        except decoder_error as error:
            clock.count_damage(error)


def _refuse_to_open(url: str, *arguments: Any) -> Any:
    raise PermissionError(f"it refers to another file ({url[:80]})")


def _import_av() -> Any:
    try:
        import av
    except (ImportError, OSError) as error:
        raise ImportError(
            "Audio and video files are read with PyAV, which brings FFmpeg along: `pip install av`. "
            "`foal-hf doctor` says what else is missing."
        ) from error
    return av
