"""Difficult media, how each is made, and what has to come of it.

Most are a clock (see `media_builders`): 3 s of picture that tells the time and turns white from 1.5 s to 1.7 s, and a
beep at the same time. Read at 5 frames a second, the first white frame is the one of 1.6 s.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from media_builders import BEEP, BEEP_START, CLOCK, HEIGHT, WIDTH, run_ffmpeg, tone, turned_clockwise
from PIL import Image

from foal_hf.foal_net.sources_foal_net import MediaError


RATE = 16_000
BOTH = ("audio", "video")
FLASH_START = 1.6
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", 10, "-g", 15, "-bf", 2)
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", 10, "-x265-params", "log-level=none")
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-crf", 10, "-b:v", "1M", "-c:a", "libopus")
AV1 = ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", 8, "-crf", 20)
FFV1 = ("-c:v", "ffv1", "-c:a", "pcm_s16le")
SPARSE = "select='lt(t,1)*not(mod(n,4))+gte(t,1)*not(mod(n,3))'"  # 7.5, then 10 frames a second


@dataclass(frozen=True)
class Outcome:
    """What reading has to end in. A field that is None is not looked at.

    Attributes:
        modalities: What the clip has; nothing if it is refused.
        error: The type of the error.
        says: Pattern that the message matches.
        ends: When the clip ends, seconds, to a tenth.
        beep, flash: When the beep sets in, to 50 ms, and when the first white frame is shown.
        size: Width and height of the picture.
        num_frames: How many pictures.
        is_silent: Whether all samples are (nearly) 0.
        too_short: The reader gives it, the model cannot hear anything in it: the pipeline refuses it.
    """

    modalities: tuple[str, ...] = ()
    error: type[Exception] | None = None
    says: str = ""
    ends: float | None = None
    beep: float | None = None
    flash: float | None = None
    size: tuple[int, int] | None = None
    num_frames: int | None = None
    is_silent: bool | None = None
    too_short: bool = False


@dataclass
class Workshop:
    """Where media are made: each file once."""

    folder: Path
    server: str

    @property
    def clock(self) -> Path:
        """The clock without loss, from which the others are encoded."""
        return self.once("clock.mkv", lambda path: run_ffmpeg(*_graphs(CLOCK, BEEP), *FFV1, path))

    @property
    def good(self) -> Path:
        return self.encoded("good.mp4", *H264)

    def once(self, name: str, make: Callable[[Path], object]) -> Path:
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            make(path)
        return path

    def encoded(self, name: str, *options: object) -> Path:
        clock = self.folder / "clock.mkv"
        return self.once(name, lambda path: run_ffmpeg("-i", self.clock if clock != path else clock, *options, path))

    def written(self, name: str, data: bytes) -> Path:
        return self.once(name, lambda path: path.write_bytes(data))


@dataclass(frozen=True)
class Case:
    """A kind of difficult medium: `give` makes the source, or a row of the pipeline (a dict with `audio`, `video`)."""

    name: str
    give: Callable[[Workshop], Any]
    outcome: Outcome

    def __str__(self) -> str:
        return self.name


FILM = Outcome(BOTH, ends=3.0, beep=BEEP_START, flash=FLASH_START, size=(WIDTH, HEIGHT))
SOUND = Outcome(("audio",), ends=3.0, beep=BEEP_START)
PICTURE = Outcome(("video",), ends=3.0, flash=FLASH_START, size=(WIDTH, HEIGHT))


def refused(says: str = "cannot be decoded", error: type[Exception] = MediaError) -> Outcome:
    return Outcome(error=error, says=says)


def film(**fields: Any) -> Outcome:
    return replace(FILM, **fields)


def encoded(name: str, file: str, *options: object, outcome: Outcome = FILM) -> Case:
    """The clock, encoded with these options of FFmpeg."""
    return Case(name, lambda workshop: workshop.encoded(file, *options), outcome)


def written(name: str, file: str, data: bytes | Callable[[Workshop], bytes], outcome: Outcome) -> Case:
    """A file with these bytes."""
    return Case(
        name, lambda workshop: workshop.written(file, data if isinstance(data, bytes) else data(workshop)), outcome
    )


def given(name: str, make: Callable[[], Any], outcome: Outcome) -> Case:
    """What is no file."""
    return Case(name, lambda workshop: make(), outcome)


def fetched(name: str, path: str, says: str) -> Case:
    """An address on the loopback server."""
    return Case(name, lambda workshop: f"{workshop.server}/{path}", refused(says))


def sound(name: str, array: Any, outcome: Outcome, sampling_rate: Any = RATE) -> Case:
    """Sound given as an array."""
    return given(name, lambda: {"audio": array, "sampling_rate": sampling_rate}, outcome)


def pictures(name: str, make: Callable[[], Any], outcome: Outcome) -> Case:
    """Pictures given as an array or list."""
    return given(name, lambda: {"audio": None, "video": make()}, outcome)


def _graphs(*graphs: str) -> list[str]:
    return list(itertools.chain.from_iterable(("-f", "lavfi", "-i", graph) for graph in graphs))


# Streams that are missing, too many, or of different lengths


def _with_cover(workshop: Workshop, name: str, *options: object) -> Path:
    cover = workshop.encoded("cover.jpg", "-frames:v", 1)
    bare = workshop.encoded(f"bare_{name}", *options)
    copy = ("-map", 0, "-map", 1, "-c", "copy", "-disposition:v", 0, "-disposition:v:0", "attached_pic")
    if "-vn" not in options:
        copy = (*copy[:-2], "-disposition:v:1", "attached_pic")
    return workshop.once(name, lambda path: run_ffmpeg("-i", bare, "-i", cover, *copy, path))


def _two_sounds(workshop: Workshop) -> Path:
    inputs = ("-i", workshop.clock, *_graphs("sine=frequency=300:duration=3"))
    return workshop.once("two_sounds.mp4", lambda path: run_ffmpeg(*inputs, "-map", 0, "-map", 1, *H264, path))


def _subtitles(workshop: Workshop) -> Path:
    text = workshop.written("lines.srt", b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n")
    return workshop.once("subtitles.mkv", lambda path: run_ffmpeg("-i", text, "-c", "copy", path))


STREAMS = [
    encoded("no sound track", "no_sound.mp4", *H264, "-an", outcome=PICTURE),
    encoded("no picture track", "no_picture.m4a", "-vn", outcome=SOUND),
    encoded("silent sound track", "silence.mp4", *H264, "-af", "volume=0", outcome=film(beep=None, is_silent=True)),
    encoded(
        "one frame and sound", "still.mp4", *H264, "-vf", "trim=end_frame=1", outcome=film(flash=None, num_frames=1)
    ),
    encoded(
        "one frame", "frame.mp4", *H264, "-vf", "trim=end_frame=1", "-an", outcome=Outcome(("video",), num_frames=1)
    ),
    encoded("an image", "image.png", "-frames:v", 1, outcome=Outcome(("video",), size=(WIDTH, HEIGHT), num_frames=1)),
    Case("cover art beside sound", lambda w: _with_cover(w, "cover.mp3", "-vn"), SOUND),
    Case("cover art beside a film", lambda w: _with_cover(w, "cover.mp4", *H264), FILM),
    Case("two sound tracks", _two_sounds, FILM),  # the first
    Case("subtitles alone", _subtitles, refused("holds no audio and no video")),
    encoded(
        "sound longer than picture",
        "long_sound.mp4",
        *H264,
        "-vf",
        "trim=end=1",
        outcome=film(flash=None, num_frames=5),
    ),
    encoded("picture longer than sound", "long_picture.mp4", *H264, "-af", "atrim=end=1", outcome=film(beep=None)),
    encoded("an animated image", "moving.gif", "-an", outcome=PICTURE),
]

# Formats

FORMATS = [
    encoded("hevc", "hevc.mp4", *HEVC),
    encoded("hevc of 10 bits", "hevc10.mp4", *HEVC, "-pix_fmt", "yuv420p10le"),
    encoded("h264 of 10 bits in Matroska", "h264_10.mkv", *H264, "-pix_fmt", "yuv420p10le"),
    encoded("vp9 and opus in WebM", "vp9.webm", *VP9),
    encoded("av1", "av1.mp4", *AV1),
    encoded("mpeg4 in AVI", "mpeg4.avi", "-c:v", "mpeg4", "-q:v", 2, "-c:a", "libmp3lame"),
    encoded("16 bits a colour in Matroska", "deep.mkv", *FFV1, "-pix_fmt", "gbrp16le"),
    encoded("grey", "grey.mkv", *FFV1, "-pix_fmt", "gray"),
    encoded("transparent", "alpha.webm", *VP9, "-pix_fmt", "yuva420p"),
    encoded("prores in QuickTime", "prores.mov", "-c:v", "prores_ks", "-c:a", "pcm_s24le"),
    encoded("windows media", "windows.wmv", "-c:v", "wmv2", "-q:v", 2, "-c:a", "wmav2"),
    encoded("theora and vorbis", "theora.ogv", "-c:v", "libtheora", "-q:v", 9, "-c:a", "libvorbis"),
    encoded("flash video", "flash.flv", "-c:v", "flv", "-q:v", 2, "-c:a", "libmp3lame"),
    encoded("a broadcast stream", "broadcast.ts", *H264),
    encoded("interlaced", "interlaced.ts", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", 2),
    encoded("a fragmented film", "fragments.mp4", *H264, "-movflags", "frag_keyframe+empty_moov"),
    encoded("a stream without times", "naked.h264", *H264, "-an", outcome=PICTURE),
    encoded("a sound stream without header", "naked.aac", "-vn", outcome=SOUND),
]

# Sound

SOUNDS = [
    encoded("8 kHz", "8k.wav", "-vn", "-ar", 8_000, outcome=SOUND),
    encoded("48 kHz", "48k.wav", "-vn", "-ar", 48_000, outcome=SOUND),
    encoded("96 kHz", "96k.flac", "-vn", "-ar", 96_000, outcome=SOUND),
    encoded("5.1 channels", "surround.mp4", *H264, "-af", "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0", outcome=FILM),
    encoded("telephone companding", "alaw.wav", "-vn", "-c:a", "pcm_alaw", outcome=SOUND),
    encoded("64-bit samples", "double.wav", "-vn", "-c:a", "pcm_f64le", outcome=SOUND),
]


def wav(samples: bytes, *, channels: int = 1, rate: int = RATE, bits: int = 16, is_float: bool = False) -> bytes:
    """A WAV file whose header may say anything."""
    align = channels * bits // 8
    form = struct.pack("<IHHIIHH", 16, 3 if is_float else 1, channels, rate, rate * align & 0xFFFFFFFF, align, bits)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(samples))
        + b"WAVEfmt "
        + form
        + b"data"
        + struct.pack("<I", len(samples))
        + samples
    )


def floats(*values: float) -> bytes:
    return wav(np.array(values * 8000, dtype="<f4").tobytes(), bits=32, is_float=True)


PCM = (tone(440, RATE, 1.0) * 2**14).numpy().astype("<i2").tobytes()
SECOND = Outcome(("audio",), ends=1.0)
HEADERS = [
    written("one sample", "one.wav", wav(PCM[:2]), replace(SECOND, ends=None, too_short=True)),
    written("no samples", "none.wav", wav(b""), refused("has no audio")),
    written("NaN in a file", "nan.wav", floats(0.0, np.nan), refused("NaN or infinity")),
    written("infinity in a file", "infinite.wav", floats(0.0, np.inf), refused("NaN or infinity")),
    written("huge samples in a file", "huge.wav", floats(0.0, 1e30), refused("samples above")),
    written("a header of 0 channels", "channels0.wav", wav(PCM, channels=0), refused("has no audio")),
    written("a header of 0 Hz", "rate0.wav", wav(PCM, rate=0), refused()),
    written("a header of 1 Hz", "rate1.wav", wav(PCM, rate=1), refused("claims 1 samples")),
    written("a header of 2 GHz", "rate_huge.wav", wav(PCM, rate=2**31 - 1), refused("claims 2147483647")),
    written(
        "a rate without common divisor", "rate_prime.wav", wav(PCM * 8, rate=999_983), Outcome(("audio",), ends=0.1)
    ),
    written("a header of 20000 channels", "channels.wav", wav(PCM, channels=20_000), refused("has no audio")),
    written("a length of 4 GB", "length.wav", wav(PCM).replace(struct.pack("<I", len(PCM)), b"\xff" * 4), SECOND),
]

# Picture


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG whose header may say anything."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def gif(width: int, height: int) -> bytes:
    """One point on a canvas of this size."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF0, 0, 0) + bytes(3) + b"\xff" * 3
    return screen + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\0;"


def _turned(workshop: Workshop) -> Path:
    flat = workshop.encoded("good.mp4", *H264)
    return workshop.once("turned.mp4", lambda path: turned_clockwise(flat, path))


def _changing(workshop: Workshop) -> bytes:
    small = workshop.encoded("small.ts", *H264)
    large = workshop.encoded("large.ts", *H264, "-vf", "scale=124:92", "-output_ts_offset", 3)
    return small.read_bytes() + large.read_bytes()


def _late_stream(workshop: Workshop) -> bytes:
    inputs = ("-i", workshop.clock, *_graphs("sine=frequency=300:duration=3"), "-map", 0, "-map", 1)
    two = workshop.once("two.ts", lambda path: run_ffmpeg(*inputs, *H264, "-output_ts_offset", 3, path))
    return workshop.encoded("broadcast.ts", *H264).read_bytes() + two.read_bytes()


PICTURES = [
    encoded("rates that vary", "variable.mp4", *H264, "-vf", SPARSE, "-fps_mode", "vfr"),
    Case("turned by a quarter", _turned, film(size=(HEIGHT, WIDTH))),
    encoded(
        "odd sizes", "odd.mp4", *H264, "-vf", "scale=61:47,setsar=1", "-pix_fmt", "yuv444p", outcome=film(size=(61, 47))
    ),
    encoded(
        "odd sizes of halved colour",
        "odd.mkv",
        *FFV1,
        "-vf",
        "scale=61:47,setsar=1,format=yuv420p",
        outcome=film(size=(61, 47)),
    ),
    encoded("one pixel", "pixel.mkv", *FFV1, "-vf", "scale=1:1,format=yuv444p", outcome=film(size=(1, 1))),
    encoded(
        "4K",
        "4k.mp4",
        *("-c:v", "mpeg4", "-q:v", 9, "-vf", "trim=end_frame=3,scale=3840:2160:flags=neighbor,setsar=1"),
        outcome=film(flash=None, size=(3840, 2160), num_frames=1),
    ),
    encoded("1 frame a second", "1fps.mp4", *H264, "-r", 1, outcome=film(ends=None, flash=None)),
    encoded("240 frames a second", "240fps.mp4", *H264, "-r", 240),
    encoded("pixels that are not square", "wide.mp4", *H264, "-vf", "setsar=2", outcome=film(size=(2 * WIDTH, HEIGHT))),
    written("a strip", "strip.png", png(20_000, 1, bytes(60_001)), Outcome(("video",), size=(20_000, 1), num_frames=1)),
    written("a header of 0x0 pixels", "0x0.png", png(0, 0), refused("none of its video frames")),
    written(
        "a header of 100000x100000 pixels",
        "vast.png",
        png(100_000, 100_000),
        refused("100000x100000 pixels|none of its video frames"),
    ),
    written(
        "a canvas of 65535x65535 pixels",
        "vast.gif",
        gif(65_535, 65_535),
        refused("65535x65535 pixels|none of its video frames"),
    ),
    written("a canvas of 16000x16000 pixels", "large.gif", gif(16_000, 16_000), refused("max_pixels")),
    written(
        "raw video of 100000x100000 pixels",
        "vast.y4m",
        b"YUV4MPEG2 W100000 H100000 F30:1\nFRAME\n" + bytes(9999),
        refused(),
    ),
    written("a stream that turns up late", "late_stream.ts", _late_stream, film(ends=6.0)),
    written("a size that changes", "changing.ts", _changing, film(ends=6.0)),
]

# Times

BREAK = "gte({0},1)*2/TB"  # two seconds that are missing behind the first
EARLY = film(ends=2.5, beep=BEEP_START - 0.5, flash=1.0)  # what lies before 0 is left out
TIMES = [
    encoded("start offset", "offset.mkv", *H264, "-output_ts_offset", 5),
    encoded("a start after eleven days", "late.mkv", *H264, "-output_ts_offset", 1e6),
    encoded(
        "a start before 0",
        "early.mkv",
        *H264,
        "-output_ts_offset",
        -0.5,
        "-avoid_negative_ts",
        "disabled",
        outcome=EARLY,
    ),
    Case(
        "an edit list",
        lambda w: w.once("edited.mp4", lambda path: run_ffmpeg("-ss", 0.7, "-i", w.good, "-c", "copy", path)),
        film(ends=2.3, beep=BEEP_START - 0.7, flash=0.8),
    ),
    encoded(
        "sound and picture that jump",
        "jump.mkv",
        *FFV1,
        *(
            "-vf",
            f"setpts='PTS+{BREAK.format('T')}'",
            "-fps_mode",
            "passthrough",
            "-af",
            f"asetpts='PTS+{BREAK.format('T')}'",
        ),
        outcome=film(ends=5.0, beep=BEEP_START + 2, flash=FLASH_START + 2),
    ),
    encoded(
        "sound that jumps",
        "jump.mp4",
        *(*H264, "-af", f"asetpts='PTS+{BREAK.format('T')}'"),
        outcome=film(ends=5.0, beep=BEEP_START + 2),
    ),
    encoded(
        "a picture that jumps by a year",
        "year.mkv",
        *(*FFV1, "-vf", "setpts='PTS+gte(T,2)*2e6/TB'", "-fps_mode", "passthrough"),
        outcome=film(ends=4.0),
    ),
    written(
        "times that begin anew",
        "twice.ts",
        lambda workshop: workshop.encoded("broadcast.ts", *H264).read_bytes() * 2,
        film(ends=6.0),
    ),
]

# Damage


def _cut(workshop: Workshop, percent: float, name: str, *options: object) -> bytes:
    data = workshop.encoded(name, *options).read_bytes()
    return data[: max(round(len(data) * percent / 100), 1)]


def _patched(workshop: Workshop, atom: bytes, offset: int, value: int) -> bytes:
    """The good film with a number of an atom overwritten."""
    data = bytearray(workshop.good.read_bytes())
    struct.pack_into(">I", data, data.index(atom) + offset, value)
    return bytes(data)


def _holed(workshop: Workshop) -> bytes:
    data = bytearray(workshop.good.read_bytes())
    first, last = data.index(b"mdat") + 4000, data.index(b"moov") // 2
    data[first:last] = bytes(last - first)
    return bytes(data)


FAST = ("fast.mp4", *H264, "-movflags", "+faststart")
NOISE = np.random.default_rng(0).bytes(40_009)
DAMAGE = [
    written("0 bytes", "empty.mp4", b"", refused(r"empty \(0 bytes\)")),
    written("1 byte", "byte.mp4", b"\0", refused()),
    written("zeros", "zeros.mp4", bytes(99_991), refused()),
    written("noise", "noise.mp4", NOISE, refused()),
    written("text", "text.mp4", b"once upon a time\n" * 99, refused("is text")),
    written("a document", "document.mp4", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + NOISE, refused()),
    written(
        "a compressed film", "film.mp4.z", lambda w: zlib.compress(w.good.read_bytes(), wbits=31), refused("cannot be")
    ),
    written("wrong extension", "film.wav", lambda w: w.good.read_bytes(), FILM),
    written("wrong extension of sound", "sound.jpg", wav(PCM), SECOND),
    written("wrong extension of an image", "image.mp3", png(5, 7, bytes(16 * 7)), Outcome(("video",), size=(5, 7))),
    written("wrong header", "header.mp4", lambda w: wav(PCM)[:44] + w.good.read_bytes()[44:], Outcome(("audio",))),
    written("no header", "no_header.mp4", lambda w: bytes(48) + w.good.read_bytes()[48:], refused()),
    written("cut behind the header", "cut1.mp4", lambda w: _cut(w, 1, *FAST), refused()),
    written("cut in the middle", "cut50.mp4", lambda w: _cut(w, 50, *FAST), Outcome(BOTH, size=(WIDTH, HEIGHT))),
    written("cut near the end", "cut90.mp4", lambda w: _cut(w, 90, *FAST), film(ends=None)),
    written("cut before the index", "cut.mp4", lambda w: _cut(w, 90, "good.mp4", *H264), refused("cut off")),
    written("Matroska cut in the middle", "cut.mkv", lambda w: _cut(w, 60, "clock.mkv"), film(ends=None, flash=None)),
    written("WebM cut in the middle", "cut.webm", lambda w: _cut(w, 50, "vp9.webm", *VP9), Outcome(BOTH)),
    written("sound cut within a sample", "cut.wav", wav(PCM)[:-7], SECOND),
    written("MP3 cut in the middle", "cut.mp3", lambda w: _cut(w, 60, "whole.mp3", "-vn"), replace(SOUND, ends=1.8)),
    written("a hole", "hole.mp4", _holed, Outcome(BOTH, ends=3.0)),
    written("an index of 4 billion frames", "stsz.mp4", lambda w: _patched(w, b"stsz", 12, 2**32 - 1), refused()),
    written("a film of 49 days by its header", "mvhd.mp4", lambda w: _patched(w, b"mvhd", 20, 2**32 - 1), FILM),
    written("data of 4 GB by its header", "mdat.mp4", lambda w: _patched(w, b"mdat", -4, 2**32 - 1), refused()),
    written("ten thousand tags", "tags.mp3", b"ID3\4" + bytes(6) + (b"ID3\4" + bytes(6)) * 9_999, refused("ID3 tags")),
]

# Arrays

A4 = torch.from_numpy(np.frombuffer(PCM, "<i2").copy())
ARRAYS = [
    sound("NaN in an array", np.array([0.0, np.nan] * 999), refused("NaN or infinity")),
    sound("infinity in an array", np.array([0.0, -np.inf] * 999), refused("NaN or infinity")),
    sound("an empty array", np.zeros(0), refused("empty")),
    sound("16-bit integers", A4, SECOND),
    sound("integers of the other byte order", A4.numpy().astype(">i2"), SECOND),
    sound("half precision", A4.half() / 2**15, SECOND),
    sound("64-bit integers", A4.long(), refused("int64")),
    sound("complex numbers", A4.numpy() * 1j, refused("complex")),
    sound("words", np.array(["a", "b"]), refused("expected numbers")),
    sound("three axes of sound", np.zeros((1, 2, 100)), refused("expected")),
    sound("channels without order", np.zeros((3, 5)), refused("channels from samples")),
    sound("lists of different lengths", [[0.0, 0.1], [0.2]], refused("is no array")),
    sound("no sampling rate", A4, refused("needs", ValueError), sampling_rate=None),
    sound("a sampling rate of 2 GHz", A4, refused("whole number of Hz", ValueError), sampling_rate=2**31 - 1),
    pictures("no frames", lambda: np.zeros((0, 3, 5, 7), dtype=np.uint8), refused("empty")),
    pictures("frames without colour", lambda: np.zeros((2, 5, 7), dtype=np.uint8), refused("neither layout")),
    pictures("frames of either layout", lambda: np.zeros((2, 3, 5, 3), dtype=np.uint8), refused("either layout")),
    pictures("frames of 0 to 255 as numbers with a point", lambda: np.full((2, 3, 5, 7), 200.0), refused("lie in")),
    pictures("frames of NaN", lambda: np.full((2, 3, 5, 7), np.nan), refused("lie in")),
    pictures(
        "frames of different sizes", lambda: [Image.new("RGB", (5, 7)), Image.new("RGB", (7, 5))], refused("differ")
    ),
    pictures(
        "frames of a palette", lambda: [Image.new("P", (5, 7))] * 3, Outcome(("video",), size=(5, 7), num_frames=3)
    ),
    pictures("an image that is cut off", lambda: [_cut_image()], refused("is no array")),
]


def _cut_image() -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 47, 3), dtype=np.uint8)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:3000]))


# Sources


class Endless(io.RawIOBase):
    """A stream that gives zeros for ever."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        buffer[:] = bytes(len(buffer))
        return len(buffer)


class Failing(io.BytesIO):
    """A file whose medium breaks while it is read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 5000:
            raise OSError("the disk is gone")
        return super().read(size)


def _closed() -> io.BytesIO:
    file = io.BytesIO(wav(PCM))
    file.close()
    return file


SOURCES = [
    fetched("404", "missing.mp4", "404"),
    fetched("500", "broken.mp4", "500"),
    fetched("a server that hangs", "hangs.mp4", "cannot be downloaded"),
    fetched("a server that hangs midway", "hangs_midway.mp4", "cannot be downloaded"),
    fetched("1 TB", "terabyte.mp4", "larger than max_bytes"),
    fetched("an endless answer", "endless.mp4", "not downloaded after|larger than"),
    fetched("an answer shorter than promised", "lying.mp4", "cannot be downloaded"),
    fetched("a length that is no number", "nonsense.mp4", "cannot be downloaded"),
    fetched("an empty answer", "empty.mp4", "empty"),
    fetched("a redirection in a circle", "circle.mp4", "cannot be downloaded"),
    fetched("a redirection to a file", "to_a_file.mp4", "cannot be downloaded"),
    fetched("a status line byte by byte", "slow_status.mp4", "not downloaded after"),
    fetched("a header byte by byte", "slow_header.mp4", "not downloaded after"),
    fetched("slow redirects", "slow_redirects.mp4", "not downloaded after|redirect"),
    fetched("a compressed answer of nothing", "gzip_of_nothing.mp4", "compresses it"),
    fetched("a web page", "page.mp4", "web page"),
    fetched("a playlist on a server", "playlist.mp4", "playlist"),
    given("half an address", lambda: "http://[::1/clip.mp4", refused("cannot be downloaded")),
    given("a closed port", lambda: "http://127.0.0.1:9/clip.mp4", refused("cannot be downloaded")),
    given("an unknown protocol", lambda: "rtsp://127.0.0.1/clip", refused("is not read")),
    given("no such file", lambda: "/nowhere/clip.mp4", refused("no such file")),
    Case("a folder", lambda workshop: workshop.folder, refused("is a directory")),
    given("a device", lambda: "/dev/zero", refused("device or pipe")),
    given("bytes of nothing", lambda: b"", refused("empty")),
    given("a row of nothing", lambda: {"path": None, "bytes": None}, refused("neither")),
    given("a closed file", _closed, refused("closed file")),
    given("a file of text", lambda: io.StringIO("once"), refused("opened as text")),
    given("a file that breaks", lambda: Failing(wav(PCM)), refused("the disk is gone")),
    given("a stream without end", lambda: io.BufferedReader(Endless()), refused("more than max_bytes")),
]

# Scripts that point at other files: `good.mp4` lies beside each of them


def script(name: str, file: str, text: str) -> Case:
    def give(workshop: Workshop) -> Path:
        return workshop.written(file, text.format(target=workshop.good).encode())

    return Case(name, give, refused("playlist, script|is text"))


def _reference_movie(workshop: Workshop) -> bytes:
    """A film whose picture lies in another file, as QuickTime refers to it: by an alias."""
    data = workshop.good.read_bytes()
    target = str(workshop.good).encode()
    alias = bytes(10) + b"\0" * 28 + bytes(12) + b"\0" * 64 + bytes(16) + struct.pack(">HH", 0, 0) + bytes(16)
    alias += struct.pack(">HH", 2, len(target)) + target + b"\0" * (len(target) % 2) + struct.pack(">hH", -1, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    at = data.index(b"url \0\0\0\1") - 4
    changed = bytearray(data[:at] + entry + data[at + 12 :])
    for atom in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        size = changed.rindex(atom, 0, at) - 4
        struct.pack_into(">I", changed, size, struct.unpack_from(">I", changed, size)[0] + len(entry) - 12)
    return bytes(changed)


SCRIPTS = [
    script("a playlist", "list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n"),
    script("a playlist named as a film", "list.mp4", "#EXTM3U\n#EXTINF:3,\n{target}\n"),
    script("a concat script", "concat.mp4", "ffconcat version 1.0\nfile '{target}'\n"),
    script("a streaming manifest", "manifest.mp4", "<?xml version='1.0'?><MPD><BaseURL>{target}</BaseURL></MPD>"),
    script("a session description", "session.mp4", "v=0\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na={target}\n"),
    script("a list of tracks", "list.pls", "[playlist]\nFile1={target}\n"),
    given("a concat address", lambda: "concat:a.mp4|b.mp4", refused("is not read")),
    written("a film that refers to another", "reference.mov", _reference_movie, SOUND),
]

CASES = [*STREAMS, *FORMATS, *SOUNDS, *HEADERS, *PICTURES, *TIMES, *DAMAGE, *ARRAYS, *SOURCES, *SCRIPTS]
