"""Recordings of several parts, streams that change on the way, gaps and damage: everything that can be read is read."""

import contextlib
import io
import itertools
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_builders import beep_start, loudest_hertz, make_clip, run_ffmpeg, tone
from tiny_models import tiny_model
from tiny_processors import tiny_processor
from torchcodec.decoders import AudioDecoder, VideoDecoder

from foal_hf.corpora.schema import undecoded
from foal_hf.data import ClipDataset
from foal_hf.data.features.keys import FeatureKeys
from foal_hf.foal_net import decoding_foal_net
from foal_hf.foal_net.media_foal_net import MediaFile, read_clip
from foal_hf.foal_net.recordings_foal_net import WindowReader
from foal_hf.foal_net.sources_foal_net import MediaError


RATE = 16_000
ANEW = "its times begin anew on the way; the parts are read one after the other"
CANCELLING = "its audio channels cancel each other out; the louder one is used"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def sine(folder: Path, name: str, hertz: int, *options: object, seconds: float = 2.0, rate: int = 48_000) -> bytes:
    """A sine of amplitude 0.5 in a file of its own."""
    path = folder / name
    source = f"aevalsrc='0.5*sin(2*PI*{hertz}*t)':s={rate}:d={seconds}"
    run_ffmpeg("-f", "lavfi", "-i", source, *options, path)
    return path.read_bytes()


def in_windows(source: Any, seconds: float = 0.5, until: float = 5.0) -> torch.Tensor:
    """The waveform of a source that is read in order, window by window."""
    waveform = torch.zeros(round(until * RATE))
    with MediaFile(source, in_order=True, modalities=("audio",)) as media:
        for index in range(round(until / seconds)):
            try:
                part = media.read(index * seconds, (index + 1) * seconds).waveform
            except MediaError:
                break
            at = round(index * seconds * RATE)
            waveform[at : at + len(part)] = part
    return waveform


def check_halves(source: Any, first: int, second: int, at: float, end: float) -> None:
    """Both halves have their own pitch at full level, read at once, in windows and from the middle."""
    whole = read_clip(source, max_seconds=None)
    assert whole.end_seconds == pytest.approx(end, abs=0.15)
    for waveform in (whole.waveform, in_windows(source)):
        for hertz, middle in ((first, at / 2), (second, (at + end) / 2)):
            part = waveform[round((middle - 0.4) * RATE) : round((middle + 0.4) * RATE)]
            assert loudest_hertz(part, RATE) == pytest.approx(hertz, rel=0.01)
            assert part.square().mean().sqrt() == pytest.approx(0.5 / 2**0.5, rel=0.1)
    late = read_clip(source, start_seconds=at + 0.3, end_seconds=at + 1.1).waveform
    assert loudest_hertz(late, RATE) == pytest.approx(second, rel=0.01)


@pytest.mark.parametrize(
    ("codec", "container", "first", "second"),
    [
        (codec, container, *channels)
        for codec, container in (("mp2", "ts"), ("ac3", "ts"), ("aac", "adts"), ("flac", "ogg"))
        for channels in ((2, 1), (1, 2), (4, 2), (2, 4))
        if codec != "mp2" or max(channels) <= 2  # MP2 has no more
    ],
)
def test_channels_that_change_on_the_way_are_read_with_their_own_layout(
    folder: Path, codec: str, container: str, first: int, second: int
) -> None:
    form = ("-c:a", codec, "-f", {"ts": "mpegts"}.get(container, container))
    layout = {1: "mono", 2: "stereo", 4: "4.0"}
    data = [
        sine(folder, f"{index}.{container}", hertz, "-af", f"pan={layout[count]}|" + equal_channels(count), *form)
        for index, (hertz, count) in enumerate(((440, first), (880, second)))
    ]
    check_halves(b"".join(data), 440, 880, 2.0, 4.0)


def equal_channels(count: int) -> str:
    return "|".join(f"c{index}=c0" for index in range(count))


@pytest.mark.parametrize(
    ("codec", "container", "first", "second"),
    [
        (codec, container, *rates)
        for codec, container in (("mp2", "ts"), ("libmp3lame", "mp3"), ("aac", "adts"), ("ac3", "ac3"))
        for rates in ((48_000, 32_000), (32_000, 48_000), (48_000, 24_000), (22_050, 44_100))
        if codec in ("libmp3lame", "aac") or min(rates) >= 32_000  # the encoders of the others have no lower rate
    ],
)
def test_sampling_rates_that_change_on_the_way_are_read_at_their_own_speed(
    folder: Path, codec: str, container: str, first: int, second: int
) -> None:
    form = ("-c:a", codec, "-f", {"ts": "mpegts"}.get(container, container), "-b:a", "128k")
    data = [sine(folder, f"{rate}.{container}", 1000, *form, rate=rate) for rate in (first, second)]
    check_halves(b"".join(data), 1000, 1000, 2.0, 4.0)


def test_a_beep_behind_a_change_of_the_rate_lies_where_it_was_recorded(folder: Path) -> None:
    quiet = sine(folder, "quiet.mp3", 0, rate=48_000, seconds=3.0)
    beep = "0.5*sin(2*PI*1000*t)*gte(t,1.5)*lt(t,2)"
    run_ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{beep}':s=24000:d=3", folder / "beep.mp3")
    clip = read_clip(quiet + (folder / "beep.mp3").read_bytes(), max_seconds=None)
    start = beep_start(clip.waveform, RATE)
    assert start == pytest.approx(4.5, abs=0.1)
    beep_part = clip.waveform[round((start + 0.1) * RATE) : round((start + 0.4) * RATE)]
    assert loudest_hertz(beep_part, RATE) == pytest.approx(1000, abs=10)


@pytest.mark.parametrize("ending", ["flac", "oga"])
@pytest.mark.parametrize("kinds", [("s16", "s32"), ("s32", "s16")])
def test_a_sample_format_that_changes_on_the_way_keeps_its_scale(
    folder: Path, ending: str, kinds: tuple[str, ...]
) -> None:
    codec = ("-c:a", "flac", "-sample_fmt")
    parts = [
        sine(folder, f"{kind}.{ending}", hertz, *codec, kind) for kind, hertz in zip(kinds, (440, 880), strict=True)
    ]
    check_halves(b"".join(parts), 440, 880, 2.0, 4.0)
    clip = read_clip(b"".join(parts), max_seconds=None)
    assert (clip.waveform.unfold(0, 800, 800).square().mean(1).sqrt() > 0.3).all()  # no moment is lost
    assert clip.notes == (ANEW,)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vorbis.ogg", ("-c:a", "libvorbis")),
        ("opus.ogg", ("-c:a", "libopus")),
        ("flac.ogg", ("-c:a", "flac")),
        ("opus.webm", ("-c:a", "libopus")),
        ("aac.ts", ("-c:a", "aac", "-f", "mpegts")),
        ("mp3.mp3", ()),
        ("flac.flac", ()),
    ],
)
def test_a_recording_of_several_parts_is_read_to_its_end(folder: Path, name: str, options: tuple[object, ...]) -> None:
    data = sine(folder, f"first_{name}", 440, *options) + sine(folder, f"second_{name}", 880, *options)
    check_halves(data, 440, 880, 2.0, 4.0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((f"{codec}.mka", ("-c:a", codec)) for codec in ("libvorbis", "pcm_s16le", "aac", "flac")),
        *((f"joined.{ending}", ()) for ending in ("aiff", "au", "avi", "caf", "flac", "m4a", "mov", "nut", "rm")),
        *((f"joined.{ending}", ()) for ending in ("tta", "voc", "w64", "wav", "wma", "wtv", "wv")),
        *((f"joined.{ending}", ("-f", ending)) for ending in ("ircam", "smjpeg", "sox")),
        ("rf64.wav", ("-rf64", "always")),
        ("fast.mp4", ("-movflags", "+faststart")),
        ("fragments.mp4", ("-movflags", "+frag_keyframe+empty_moov")),
        ("live.webm", ("-live", 1)),  # as browsers record: no element says how long it is
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_joined_files_have_each_their_own_rate_and_channels(
    folder: Path, name: str, options: tuple[object, ...], is_turned: bool
) -> None:
    kinds = [(440, "stereo|c0=c0|c1=c0", 48_000), (880, "mono|c0=c0", 48_000 if name == "live.webm" else 44_100)]
    data = [
        sine(folder, f"{hertz}{name}", hertz, *options, "-af", f"pan={layout}", "-ar", rate)
        for hertz, layout, rate in (reversed(kinds) if is_turned else kinds)
    ]
    check_halves(b"".join(data), *((880, 440) if is_turned else (440, 880)), 2.0, 4.0)
    clip = read_clip(b"".join(data), max_seconds=None)
    levels = clip.waveform.unfold(0, 800, 800).square().mean(1).sqrt()
    assert (levels < 0.3).sum() <= 4  # encoders begin with silence; nothing is lost
    assert ANEW in clip.notes
    assert read_clip(data[0]).notes == ()


@pytest.mark.parametrize("ending", ["flv", "swf"])
def test_joined_flash_files_have_each_their_own_rate(folder: Path, ending: str) -> None:
    parts = [sine(folder, f"{hertz}.{ending}", hertz, "-ar", rate) for hertz, rate in ((440, 44_100), (880, 22_050))]
    check_halves(b"".join(parts), 440, 880, 2.0, 4.0)


def test_files_with_tags_are_joined_too(folder: Path) -> None:
    tag = b"ID3\4\0\0\0\0\2\0" + bytes(256)
    parts = [sine(folder, f"tag{rate}.flac", hertz, rate=rate) for hertz, rate in ((440, 48_000), (880, 44_100))]
    check_halves(tag + parts[0] + tag + parts[1], 440, 880, 2.0, 4.0)


def test_a_mark_between_two_reads_is_found(folder: Path) -> None:
    """FFmpeg reads blocks of 32 KiB; the second file begins some bytes before the end of one."""
    first, second = (sine(folder, f"block{hertz}.flac", hertz, rate=48_000, seconds=0.2) for hertz in (440, 880))
    for num_bytes in range(1, 9):
        padding = 2**15 - num_bytes - len(first)
        head = first[:42] + b"\1" + (padding - 4).to_bytes(3, "big") + bytes(padding - 4) + first[42:]
        assert head[38] == 0x84 or len(head) == 2**15 - num_bytes
        assert read_clip(head + second).end_seconds == pytest.approx(0.4, abs=0.01)


def test_parts_without_end_are_not_all_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_foal_net, "MOST_PARTS", 3)
    part = sine(folder, "many.wav", 440, seconds=0.5)
    clip = read_clip(part * 9, max_seconds=None)
    assert clip.end_seconds == pytest.approx(1.5, abs=0.01)
    assert clip.notes[-1] == f"goes on behind what FFmpeg reads of it; {6 * len(part)} bytes are not read"


def test_bytes_that_ffmpeg_does_not_read_are_counted(folder: Path) -> None:
    part = sine(folder, "unread.wav", 440)
    for num_bytes, notes in ((40_000, ()), (300_000, ("goes on behind what FFmpeg reads of it; ",))):
        clip = read_clip(part + b"x" * num_bytes)
        assert clip.end_seconds == pytest.approx(2.0)
        assert [note[:40] for note in clip.notes] == list(notes)
    assert 200_000 < int(re.search(r"(\d+) bytes are not read", clip.notes[0])[1]) <= 300_000


@pytest.mark.parametrize("ending", ["mka", "avi", "au", "ogg", "mp4", "wav", "nut", "wma"])
@pytest.mark.parametrize("num_bytes", [50, 1500])
def test_a_second_part_that_is_cut_off_takes_nothing_from_the_first(folder: Path, ending: str, num_bytes: int) -> None:
    part = sine(folder, f"part.{ending}", 440)
    clip = read_clip(part + part[:num_bytes], max_seconds=None)
    assert clip.waveform[: 2 * RATE - 800].square().mean().sqrt() == pytest.approx(0.5 / 2**0.5, rel=0.1)
    assert clip.end_seconds == pytest.approx(2.0, abs=0.05) and clip.notes


@pytest.mark.parametrize("ending", ["mkv", "avi", "mp4", "wmv", "flv", "nut"])
def test_frames_of_a_second_part_are_found_from_anywhere(folder: Path, ending: str) -> None:
    """Far ahead, they are sought by the index of the first part."""
    video = ("-f", "lavfi", "-i")
    data = [
        sine(
            folder,
            *(f"{name}.{ending}", 440, *video, f"color=c={name}:s=62x46:r=5:d=8,noise=alls=20:allf=t"),
            seconds=8.0,
            rate=44_100,
        )
        for name in ("red", "blue")
    ]
    with MediaFile(b"".join(data), modalities=("video",)) as media:
        for start, expected in ((0.0, "red"), (12.0, "blue"), (6.0, "red"), (15.0, "blue"), (1.0, "red")):
            clip = media.read(start, start + 0.9)
            assert colour(clip) == expected and len(clip.frames) == 5


@pytest.mark.parametrize("codec", ["libopus", "libvorbis", "flac", "libspeex"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)])
def test_every_part_of_chained_ogg_has_its_own_rate_and_channels(
    folder: Path, codec: str, order: tuple[int, ...]
) -> None:
    rates = (16_000, 8_000) if codec == "libspeex" else (48_000, 24_000)
    data = [
        sine(folder, f"{codec}{hertz}.ogg", hertz, "-c:a", codec, "-af", f"pan={layout}", "-ar", rate)
        for hertz, layout, rate in zip((440, 880), ("stereo|c0=c0|c1=c0", "mono|c0=c0"), rates, strict=True)
    ]
    source = b"".join(data[index] for index in order)
    pitches = [(440, 880)[index] for index in order]
    check_halves(source[: len(source) if len(order) == 2 else -len(data[0])], *pitches[:2], 2.0, 4.0)
    clip = read_clip(source, max_seconds=None)
    assert clip.end_seconds == pytest.approx(2.0 * len(order), abs=0.05)
    last = clip.waveform[round(-1.5 * RATE) : round(-0.5 * RATE)]
    assert loudest_hertz(last, RATE) == pytest.approx(pitches[-1], rel=0.01)
    assert clip.notes == (ANEW,)


def test_parts_of_chained_ogg_may_have_several_streams(folder: Path) -> None:
    video, colours = ("-f", "lavfi", "-i"), (("red", 440), ("blue", 880))
    data = [
        sine(folder, f"{hertz}.ogv", hertz, *video, f"color=c={name}:s=62x46:r=5:d=2,noise=alls=20:allf=t")
        for name, hertz in colours
    ]
    source = data[0] + sine(folder, "between.ogg", 660) + data[1]  # a part without video
    clip = read_clip(source, max_seconds=None)
    for second, (_, hertz) in ((1.0, colours[0]), (3.0, ("", 660)), (5.0, colours[1])):
        part = clip.waveform[round((second - 0.4) * RATE) : round((second + 0.4) * RATE)]
        assert loudest_hertz(part, RATE) == pytest.approx(hertz, rel=0.01)
    assert len(clip.frames) in (30, 31)  # packets of Vorbis end some milliseconds later
    reds = clip.frames[:, 0].float().mean((1, 2)) > clip.frames[:, 2].float().mean((1, 2))
    assert reds[:10].all() and not reds[-9:].any()


@pytest.mark.parametrize("name", ["film.ts", "film.webm", "film.ogv"])
def test_audio_and_video_of_later_parts_stay_together(folder: Path, name: str) -> None:
    codecs = {
        "film.webm": ("-c:v", "libvpx", "-b:v", "1M", "-c:a", "libopus"),
        "film.ogv": ("-c:v", "libtheora", "-q:v", 9),
    }
    part = make_clip(folder / name, *codecs.get(name, ())).read_bytes()
    clip = read_clip(part * 2, start_seconds=3.5, max_seconds=2.4, frames_per_second=30)
    white = [time for time, frame in zip(clip.frame_seconds.tolist(), clip.frames, strict=True) if frame.min() > 200]
    assert white[0] == pytest.approx(beep_start(clip.waveform, RATE), abs=0.06)
    assert 3.5 + white[0] == pytest.approx(4.5, abs=0.1)
    assert ANEW in clip.notes


def test_one_wrong_time_of_a_packet_moves_nothing_behind_it(folder: Path) -> None:
    """A transport stream, one time stamp of which is 10 s early: two changed bytes."""
    path = make_clip(folder / "wrong.ts", video=None)
    data = bytearray(path.read_bytes())
    stamps = [
        at
        for at in range(0, len(data), 188)
        if data[at + 1] & 0x40 and (start := data.find(b"\0\0\1\xc0", at, at + 188)) >= 0 and data[start + 7] & 0x80
    ]
    start = data.find(b"\0\0\1\xc0", stamps[len(stamps) // 3])
    data[start + 9] ^= 0x02
    whole = read_clip(path, max_seconds=None)
    clip = read_clip(bytes(data), max_seconds=None)
    assert beep_start(clip.waveform, RATE) == pytest.approx(beep_start(whole.waveform, RATE), abs=0.1)


# Gaps and damage


def matroska_with_gaps(folder: Path, gap_seconds: float) -> Path:
    """One frame, or packet of audio, every so often."""
    path = folder / f"gaps{gap_seconds:g}.mkv"
    times = f"N*{gap_seconds}/TB"
    video = ("-f", "lavfi", "-i", "color=c=red:s=62x46:r=5:d=2")
    audio = ("-f", "lavfi", "-i", "sine=d=1:r=8000:samples_per_frame=800")
    stamps = ("-vf", f"setpts={times}", "-af", f"asetpts={times}", "-fps_mode", "passthrough")
    run_ffmpeg(*video, *audio, *stamps, "-c:v", "mjpeg", "-c:a", "pcm_s16le", path)
    return path


@pytest.mark.parametrize("gap_seconds", [1e8, 3000.0, 700.0])
def test_a_small_file_with_huge_gaps_is_over_soon(folder: Path, gap_seconds: float) -> None:
    path = matroska_with_gaps(folder, gap_seconds)
    num_windows = 0
    with MediaFile(path, in_order=True) as media:
        for index in itertools.count():
            try:
                media.read(index * 100.0, (index + 1) * 100.0)
            except MediaError:  # nothing in this window
                assert index > 0
            num_windows += 1
            if media.duration_seconds is not None and (index + 1) * 100.0 > media.duration_seconds:
                break
            assert num_windows <= 40
        assert "its times jump by hours; the gap is skipped" in media.notes


def test_a_header_that_claims_weeks_is_not_believed(folder: Path) -> None:
    data = bytearray(make_clip(folder / "weeks.mp4").read_bytes())
    for box in (b"mvhd", b"mdhd"):
        for match in re.finditer(box, bytes(data)):
            struct.pack_into(">I", data, match.start() + 20, 2**31)
    clip = read_clip(bytes(data), max_seconds=None)
    assert clip.end_seconds == pytest.approx(3.0, abs=0.1)
    with MediaFile(bytes(data), in_order=True) as media:
        media.read(0.0, 2.0)
        media.read(2.0, 10.0)
        assert media.duration_seconds == pytest.approx(3.0, abs=0.1)


def test_two_wrong_bytes_in_the_table_of_times_hold_nobody_for_days(folder: Path) -> None:
    data = bytearray(make_clip(folder / "table.mp4").read_bytes())
    at = data.index(b"stts")  # of the video: the distance of its frames
    data[at + 16 : at + 18] = b"\x7f\xff"
    with MediaFile(bytes(data), in_order=True) as media:
        for index in range(200):
            with contextlib.suppress(MediaError):
                media.read(index * 60.0, (index + 1) * 60.0)
            if media.duration_seconds is not None and (index + 1) * 60.0 > media.duration_seconds:
                break
        assert media.duration_seconds < 3 * 3600
        assert "its times jump by hours; the gap is skipped" in media.notes


class Zeros(io.RawIOBase):
    """A file, and behind it zeros without end that cost no disk."""

    def __init__(self, data: bytes, num_zeros: int):
        self._data, self._size, self._position = data, len(data) + num_zeros, 0
        self.num_bytes_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        size = min(size, self._size - self._position)
        data = self._data[self._position : self._position + size]
        self._position += size
        self.num_bytes_read += size
        return data + bytes(size - len(data))


def test_a_gigabyte_of_zeros_behind_a_recording_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decoding_foal_net, "_MOST_BYTES_WITHOUT_PACKET", 2**22)
    file = Zeros(make_clip(folder / "zeros.ts").read_bytes(), 2**30)
    clip = read_clip(file, max_seconds=None)
    assert clip.end_seconds == pytest.approx(3.0, abs=0.1)
    assert file.num_bytes_read < 2**27
    assert "holds nothing that can be decoded in a long part; the rest is skipped" in clip.notes
    assert "dropped" not in capfd.readouterr().err


# Channels that cancel each other out


@pytest.mark.parametrize("gain", [-1.0, -0.95])
def test_channels_that_cancel_each_other_out_leave_the_louder_one(folder: Path, gain: float) -> None:
    path = folder / f"cancel{gain}.wav"
    run_ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{abs(gain)}*0.5*sin(880*PI*t)|-0.5*sin(880*PI*t)':s=16000:d=2", path)
    clip = read_clip(path)
    assert clip.notes == (CANCELLING,)
    assert (clip.waveform.abs() - tone(440, RATE, 2.0).abs()).abs().max() < 1e-3
    assert in_windows(path, until=2.0).equal(clip.waveform)
    array = torch.stack([tone(440, RATE, 1.0, -gain * 0.5), tone(440, RATE, 1.0, -0.5)])
    given = read_clip(audio=array, source_sampling_rate=RATE)
    assert given.notes == (CANCELLING,)
    assert (given.waveform.abs() - tone(440, RATE, 1.0).abs()).abs().max() < 1e-6


@pytest.mark.parametrize(
    "right",
    ["0.5*sin(880*PI*t)", "0", "0.5*sin(1320*PI*t)", "-0.3*sin(880*PI*t)"],
    ids=["same", "none", "other", "part"],
)
def test_other_channels_are_averaged(folder: Path, right: str) -> None:
    path = folder / "averaged.wav"
    run_ffmpeg("-f", "lavfi", "-i", f"aevalsrc='0.5*sin(880*PI*t)|{right}':s=16000:d=1", "-c:a", "pcm_f32le", path)
    clip = read_clip(path)
    both = AudioDecoder(path).get_all_samples().data
    assert (clip.waveform - both.mean(0)).abs().max() < 1e-6
    assert clip.notes == ()


# Decoders and columns keep what was chosen


@pytest.fixture(scope="module")
def tracks(folder: Path) -> Path:
    """Two videos, red and blue, and two audio tracks, 440 and 880 Hz."""
    path = folder / "tracks.mkv"
    inputs = [
        *("-f", "lavfi", "-i", "color=c=red:s=62x46:r=5:d=2", "-f", "lavfi", "-i", "color=c=blue:s=62x46:r=5:d=2"),
        *("-f", "lavfi", "-i", "sine=440:d=2:r=48000", "-f", "lavfi", "-i", "sine=880:d=2:r=48000"),
    ]
    run_ffmpeg(*inputs, "-map", 0, "-map", 1, "-map", 2, "-map", 3, "-c:v", "ffv1", "-c:a", "pcm_s16le", path)
    return path


def colour(clip: Any) -> str:
    return "red" if clip.frames[0, 0].float().mean() > clip.frames[0, 2].float().mean() else "blue"


def column_of(feature: Any, path: Path) -> Any:
    import datasets

    return datasets.Dataset.from_dict({"media": [str(path)]}).cast_column("media", feature)[0]["media"]


@pytest.mark.parametrize(("index", "hertz"), [(None, 440), (2, 440), (3, 880)])
def test_the_chosen_audio_stream_is_read(tracks: Path, index: int | None, hertz: int) -> None:
    import datasets

    for source in (AudioDecoder(tracks, stream_index=index), column_of(datasets.Audio(stream_index=index), tracks)):
        assert loudest_hertz(read_clip(audio=source).waveform, RATE) == pytest.approx(hertz, abs=5)


@pytest.mark.parametrize(("index", "expected"), [(None, "red"), (0, "red"), (1, "blue")])
@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_the_chosen_video_stream_is_read(tracks: Path, index: int | None, expected: str, order: str) -> None:
    import datasets

    column = column_of(datasets.Video(stream_index=index, dimension_order=order), tracks)
    for source in (VideoDecoder(tracks, stream_index=index, dimension_order=order), column):
        clip = read_clip(video=source)
        assert colour(clip) == expected
        assert clip.frames.shape[1:] == (3, 46, 62)


def heard_and_seen(clip: Any) -> tuple[str, float]:
    return colour(clip), round(loudest_hertz(clip.waveform, RATE), -1)


def test_a_row_may_choose_the_streams_of_its_file(tracks: Path, folder: Path) -> None:
    path = str(tracks)
    audio, video = {"path": path, "stream_index": 3}, {"path": path, "stream_index": 1}
    assert heard_and_seen(read_clip(audio=audio, video=video)) == ("blue", 880)
    assert heard_and_seen(read_clip(audio={"path": path}, video=video)) == ("blue", 440)
    assert heard_and_seen(read_clip(video)) == ("blue", 440)
    assert heard_and_seen(read_clip(audio)) == ("red", 880)
    with pytest.raises(MediaError, match=r"has no video stream 9; it has \[0, 1\]"):
        read_clip({"path": path, "stream_index": 9})
    only_audio = folder / "second_of_two.mka"  # without a video of that index
    run_ffmpeg("-i", tracks, "-map", "0:2", "-map", "0:3", "-c", "copy", only_audio)
    separate = read_clip(audio={"path": str(only_audio), "stream_index": 1}, video=video)
    assert heard_and_seen(separate) == ("blue", 880)


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_streams_that_columns_choose_are_kept_where_rows_are_stored(tracks: Path, is_stream: bool) -> None:
    chosen = chosen_streams(tracks)
    (row,) = undecoded(chosen.to_iterable_dataset() if is_stream else chosen)
    assert list(row) == ["audio", "video", "emotion"]
    assert heard_and_seen(read_clip(audio=row["audio"], video=row["video"])) == ("blue", 880)


def test_the_streams_that_columns_choose_are_read_for_training(tracks: Path, tmp_path: Path) -> None:
    processor = tiny_processor(normalize=False)
    rows = ClipDataset(chosen_streams(tracks), processor, {"sad": 0})
    assert heard_and_seen(rows[0]["clip"]) == ("blue", 880)
    keys = FeatureKeys(tiny_model(), processor, tmp_path)
    video = rows.rows[0]["video"]
    assert keys.key({"video": video}) != keys.key({"video": {**video, "stream_index": 0}})


def test_the_streams_that_columns_choose_are_read_for_predictions(tracks: Path) -> None:
    row = chosen_streams(tracks)[0]
    reader = WindowReader(tiny_processor(normalize=False), 400)
    (window,) = reader.whole({name: row[name] for name in ("audio", "video")})
    assert heard_and_seen(window.clip) == ("blue", 880)
    (window,) = reader.whole({"video": row["video"]})
    assert heard_and_seen(window.clip) == ("blue", 440)


def chosen_streams(tracks: Path) -> Any:
    import datasets

    rows = datasets.Dataset.from_dict({"audio": [str(tracks)], "video": [str(tracks)], "emotion": ["sad"]})
    rows = rows.cast_column("audio", datasets.Audio(stream_index=3))
    return rows.cast_column("video", datasets.Video(stream_index=1))


def test_columns_of_one_file_keep_both_their_streams(tracks: Path) -> None:
    import datasets

    audio, video = (
        column_of(datasets.Audio(stream_index=3), tracks),
        column_of(datasets.Video(stream_index=1), tracks),
    )
    clip = read_clip(audio=audio, video=video)
    assert (colour(clip), round(loudest_hertz(clip.waveform, RATE), -1)) == ("blue", 880)


def test_the_sampling_rate_of_a_column_limits_what_is_heard(folder: Path) -> None:
    import datasets

    path = folder / "high.wav"
    run_ffmpeg("-f", "lavfi", "-i", "aevalsrc='0.3*sin(2*PI*500*t)+0.3*sin(2*PI*6000*t)':s=48000:d=1", path)
    plain, narrow = (
        read_clip(audio=column_of(datasets.Audio(sampling_rate=rate), path)).waveform for rate in (None, 8_000)
    )
    spectra = [torch.fft.rfft(waveform[1600:-1600]).abs() for waveform in (plain, narrow)]
    at = round(6000 / RATE * len(plain[1600:-1600]))
    assert spectra[0][at - 3 : at + 4].max() > 100 * spectra[1][at - 3 : at + 4].max()


def test_the_channels_of_a_column_are_mixed_as_it_says(folder: Path) -> None:
    import datasets

    path = folder / "left.wav"
    run_ffmpeg("-f", "lavfi", "-i", "aevalsrc='0.5*sin(880*PI*t)|0':s=16000:d=1", "-c:a", "pcm_f32le", path)
    decoder = column_of(datasets.Audio(num_channels=1), path)
    expected = decoder.get_all_samples().data[0]
    clip = read_clip(audio=column_of(datasets.Audio(num_channels=1), path))
    assert (clip.waveform - expected).abs().max() < 1e-3


def test_a_stream_index_that_does_not_exist_is_named(tracks: Path) -> None:
    decoder = AudioDecoder(tracks, stream_index=3)
    decoder._hf_encoded = {"path": str(tracks), "bytes": None}
    decoder.stream_index = 7
    with pytest.raises(MediaError, match=r"has no audio stream 7; it has \[2, 3\]"):
        read_clip(audio=decoder)


# Limits


def test_frames_above_max_pixels_are_refused_with_the_way_to_allow_them(folder: Path) -> None:
    path = make_clip(folder / "limit.mp4")
    with pytest.raises(MediaError, match=r"frames of 62x46 pixels, above max_pixels = 2851; raise max_pixels"):
        read_clip(path, max_pixels=62 * 46 - 1)
    assert read_clip(path, end_seconds=1.0, max_pixels=62 * 46).frames.shape == (5, 3, 46, 62)
    with pytest.raises(ValueError, match="`max_pixels` has to be above 0"):
        read_clip(path, max_pixels=0)


def test_the_frames_of_one_clip_are_bounded_unless_they_are_shrunk(folder: Path) -> None:
    path = make_clip(folder / "many.mp4")
    many = {"max_pixels": 62 * 46, "frames_per_second": 30}
    with pytest.raises(MediaError, match=r"more than 8 x max_pixels = 22816 pixels; read a shorter range"):
        read_clip(path, **many)
    assert len(read_clip(path, transform=lambda frames: frames[..., ::4, ::4], **many).frames) == 90
    assert len(read_clip(path, end_seconds=0.2, **many).frames) == 6


def test_eight_k_is_read_by_default(folder: Path) -> None:
    path = folder / "8k.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "color=c=red:s=8192x4320:r=5:d=0.2", "-c:v", "mjpeg", path)
    shape = read_clip(path, transform=lambda frames: frames[..., ::100, ::100]).frames.shape
    assert shape == (1, 3, 44, 82)


def test_the_samples_of_every_format_have_the_same_scale(folder: Path) -> None:
    formats = ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"]
    for codec in formats:
        sine(folder, f"{codec}.wav", 440, "-c:a", codec, rate=RATE, seconds=0.5)
        waveform = read_clip(folder / f"{codec}.wav").waveform
        assert (waveform - tone(440, RATE, 0.5)).abs().max() < (0.01 if codec == "pcm_u8" else 1e-4), codec
    assert np.isfinite(waveform.numpy()).all()
