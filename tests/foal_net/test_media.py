"""The media reader: what is read, from what, when it is shown, and what is refused."""

import contextlib
import http.server
import io
import pickle
import sys
import threading
from pathlib import Path

import datasets
import numpy as np
import psutil
import pytest
import torch
from media_builders import (
    BEEP_HERTZ,
    BEEP_START,
    CLOCK,
    CLOCK_SECONDS,
    HEIGHT,
    WIDTH,
    beep_start,
    clock_seconds,
    flash_start,
    loudest_hertz,
    make_clip,
    run_ffmpeg,
    tone,
    turned_clockwise,
)
from PIL import Image
from torchcodec.decoders import AudioDecoder, VideoDecoder

from foal_hf.foal_net import decoding_foal_net, sources_foal_net
from foal_hf.foal_net.arrays_foal_net import frames_from_array, mono_from_array, resample
from foal_hf.foal_net.media_foal_net import MediaFile, find_fault, read_clip
from foal_hf.foal_net.sources_foal_net import MediaError, has_media_ending


RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="module")
def clock(folder) -> Path:
    """3 s of clock picture and a beep, H.264 and AAC in mp4."""
    return make_clip(folder / "clock.mp4")


@pytest.fixture(scope="module")
def silent(folder) -> Path:
    return make_clip(folder / "silent.mp4", audio=None)


@pytest.fixture(scope="module")
def wav(folder) -> Path:
    return make_clip(folder / "beep.wav", video=None)


def seconds_apart(clip) -> float:
    return abs(flash_start(clip.frames, clip.frame_seconds) - beep_start(clip.waveform, RATE))


# What a clip holds


def test_a_clip_holds_sound_and_picture_of_the_range(clock):
    clip = read_clip(clock, start_seconds=0.5, end_seconds=2.1)
    assert clip.modalities == ("audio", "video")
    assert (clip.start_seconds, clip.end_seconds) == (0.5, 2.1)
    assert clip.waveform.shape == (round(1.6 * RATE),)
    assert clip.waveform.dtype == torch.float32
    assert clip.sampling_rate == RATE
    assert clip.frames.shape == (8, 3, HEIGHT, WIDTH)
    assert clip.frames.dtype == torch.uint8
    assert clip.frame_seconds.tolist() == pytest.approx([0.2 * k for k in range(8)])
    assert clip.frame_seconds.dtype == torch.float64
    assert clock_seconds(clip.frames) == pytest.approx([0.5, 0.7, 0.9, 1.1, 1.3, np.inf, 1.7, 1.9])
    beep = clip.waveform[round(1.05 * RATE) : round(1.15 * RATE)]
    assert loudest_hertz(beep, RATE) == pytest.approx(BEEP_HERTZ, abs=10)
    assert clip.waveform[: round(0.95 * RATE)].abs().max() < 0.01


def test_max_seconds_counts_from_the_start(clock):
    clip = read_clip(clock, start_seconds=1.0, max_seconds=0.7)
    assert clip.end_seconds == 1.7
    assert len(clip.waveform) == round(0.7 * RATE)
    assert len(clip.frames) == 4
    assert read_clip(clock, max_seconds=None).end_seconds == pytest.approx(CLOCK_SECONDS, abs=0.05)


def test_a_range_past_the_end_is_cut_there(clock):
    clip = read_clip(clock, start_seconds=2.5, end_seconds=100, max_seconds=None)
    assert clip.end_seconds == pytest.approx(CLOCK_SECONDS, abs=0.05)
    assert clock_seconds(clip.frames) == pytest.approx([2.5, 2.7, 2.9])


@pytest.mark.parametrize("frames_per_second", [3, 5, 12.5, 30, 60])
def test_every_wanted_time_shows_its_own_frame(silent, frames_per_second):
    clip = read_clip(silent, end_seconds=1.4, frames_per_second=frames_per_second)
    times = [k / frames_per_second for k in range(int(1.4 * frames_per_second - 1e-9) + 1)]
    assert clip.frame_seconds.tolist() == pytest.approx(times)
    assert clock_seconds(clip.frames) == pytest.approx([int(time * 30 + 1e-6) / 30 for time in times])


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("num_frames", [2, 7, 30, 42, 44])
def test_no_frame_is_shown_behind_the_end_of_the_video(folder, container, num_frames):
    """42 frames at 30 a second end at 1.4000000000000001 s by the arithmetic of floating point."""
    expected = pytest.approx([index / 30 for index in range(num_frames)], abs=1e-3)
    for audio_seconds in (num_frames / 30 + 0.008, 5.0):  # hardly longer than the video, or much
        path = folder / f"end.{container}"
        codec = "pcm_s16le" if container == "mkv" else "aac"
        audio = f"sine=d={audio_seconds}:r=16000"
        make_clip(path, "-bf", 0, "-frames:v", num_frames, "-c:a", codec, audio=audio)
        for source in ({"source": path}, {"video": path if container == "ts" else VideoDecoder(path)}):
            clip = read_clip(**source, max_seconds=None, frames_per_second=30)
            assert clock_seconds(clip.frames) == expected
    array = read_clip(video=clip.frames, source_frames_per_second=30, frames_per_second=30, max_seconds=None)
    assert len(array.frames) == num_frames


def test_a_range_shorter_than_a_step_has_one_frame(clock):
    clip = read_clip(clock, start_seconds=1.25, end_seconds=1.27)
    assert clip.frame_seconds.tolist() == [0.0]
    assert clock_seconds(clip.frames) == pytest.approx([37 / 30])


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_only_the_wanted_modality_is_read(clock, modality):
    assert read_clip(clock, modalities=(modality,)).modalities == (modality,)


def test_silent_video_has_no_waveform(silent):
    clip = read_clip(silent)
    assert clip.modalities == ("video",)
    assert clip.waveform is None
    assert clip.sampling_rate is None


def test_a_sound_file_has_no_frames(wav):
    clip = read_clip(wav)
    assert clip.modalities == ("audio",)
    assert clip.frames is None
    assert clip.frame_seconds is None
    assert beep_start(clip.waveform, RATE) == pytest.approx(BEEP_START, abs=0.002)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac"])
def test_cover_art_is_no_video(folder, suffix):
    cover, song = folder / "cover.jpg", folder / f"song.{suffix}"
    make_clip(cover, "-frames:v", 1, audio=None)
    bare = make_clip(folder / f"bare.{suffix}", video=None)
    run_ffmpeg("-i", bare, "-i", cover, "-map", 0, "-map", 1, "-c", "copy", "-disposition:v", "attached_pic", song)
    clip = read_clip(song)
    assert clip.modalities == ("audio",)
    assert beep_start(clip.waveform, RATE) == pytest.approx(BEEP_START, abs=0.03)
    with pytest.raises(MediaError, match="holds no video"):
        read_clip(song, modalities=("video",))


def test_one_frame_with_sound_is_a_still_picture(folder):
    path = make_clip(folder / "still.mp4", "-vf", "trim=end_frame=1")
    clip = read_clip(path)
    assert clip.modalities == ("audio", "video")
    assert len(clip.frames) == 1
    later = read_clip(path, start_seconds=1.0, end_seconds=2.0)
    assert later.frames.equal(clip.frames)
    assert later.frame_seconds.tolist() == [0.0]
    assert beep_start(later.waveform, RATE) == pytest.approx(BEEP_START - 1.0, abs=0.002)
    with pytest.raises(MediaError, match="has no audio or video from 50"):
        read_clip(path, start_seconds=50)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_is_a_video_of_one_frame(folder, suffix):
    pixels = np.full((HEIGHT, WIDTH, 3), (200, 30, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"red.{suffix}")
    clip = read_clip(video=folder / f"red.{suffix}")
    assert clip.modalities == ("video",)
    assert clip.frames.shape == (1, 3, HEIGHT, WIDTH)
    assert clip.frames.float().mean((0, 2, 3)).tolist() == pytest.approx([200, 30, 60], abs=3)


def test_a_modality_that_ended_is_none(folder):
    path = make_clip(folder / "short_sound.mp4", audio="sine=frequency=440:duration=1")
    clip = read_clip(path, start_seconds=2.0)
    assert clip.modalities == ("video",)
    assert clock_seconds(clip.frames)[0] == pytest.approx(2.0)


def test_channels_are_averaged_without_weights(folder):
    hertz = (300, 500, 700, 900, 1100, 1300)
    graphs = "|".join(f"0.6*sin(2*PI*{h}*t)" for h in hertz)
    path = make_clip(folder / "surround.wav", video=None, audio=f"aevalsrc='{graphs}':c=5.1:s=16000:d=1")
    expected = sum(tone(h, RATE, 1.0, 0.1) for h in hertz)
    assert (read_clip(path).waveform - expected).abs().max() < 1e-3
    path = make_clip(folder / "stereo.wav", video=None, audio="aevalsrc='0.8*sin(2*PI*300*t)|0':s=16000:d=1")
    assert (read_clip(path).waveform - tone(300, RATE, 1.0, 0.4)).abs().max() < 1e-3


def test_rotated_video_is_upright(folder):
    left_half_red = f"color=c=black:s={WIDTH}x{HEIGHT}:r=30:d=1,drawbox=w={WIDTH // 2}:c=red:t=fill"
    flat = make_clip(folder / "flat.mp4", video=left_half_red, audio=None)
    path = turned_clockwise(flat, folder / "turned.mp4")  # so red comes on top
    frames = read_clip(path).frames
    assert frames.shape[1:] == (3, WIDTH, HEIGHT)
    red = frames[0, 0].float()
    assert red[: WIDTH // 2 - 2].mean() > 200
    assert red[WIDTH // 2 + 2 :].mean() < 40
    top = read_clip(path, crop_box=(3, 0, 20, 29)).frames
    assert top.shape[1:] == (3, 29, 17)
    assert top[0, 0].float().mean() > 200


def test_crop_box_cuts_pixels_and_stays_inside(clock):
    whole, part = read_clip(clock), read_clip(clock, crop_box=(5, 7, 24, 30))
    assert part.frames.equal(whole.frames[:, :, 7:30, 5:24])
    for box in ((-1, 0, 9, 9), (0, 0, WIDTH + 1, 9), (9, 0, 9, 9), (0, 9, 9, 3)):
        with pytest.raises(MediaError, match=rf"clock.mp4: .*{WIDTH} pixels wide and {HEIGHT} high"):
            read_clip(clock, crop_box=box)
    with pytest.raises(ValueError, match="four whole numbers"):
        read_clip(clock, crop_box=(0, 0, 9.5, 9))


@pytest.mark.parametrize("box", [(-7, 20, 13, 40), (50, -3, 70, 17), (-20, -20, 66, 66)])
def test_a_square_may_leave_the_frame_and_repeats_its_border(clock, box):
    whole, part = read_clip(clock).frames, read_clip(clock, crop_box=box).frames
    left, top, right, bottom = box
    rows = [min(max(row, 0), HEIGHT - 1) for row in range(top, bottom)]
    columns = [min(max(column, 0), WIDTH - 1) for column in range(left, right)]
    assert part.equal(whole[:, :, rows][..., columns])


@pytest.mark.parametrize("box", [(-21, 10, -1, 30), (-10, -10, 10, 10), (-200, -200, 249, 249)])
def test_a_square_beside_the_frame_or_far_larger_is_refused(clock, box):
    with pytest.raises(MediaError, match="leaves the frame"):
        read_clip(clock, crop_box=box)


def test_transform_sees_small_groups_of_cropped_frames(clock, monkeypatch):
    monkeypatch.setattr("foal_hf.foal_net.media_foal_net._FRAME_GROUP_BYTES", 4 * 3 * HEIGHT * WIDTH)
    group_shapes = []

    def shrink(frames):
        group_shapes.append(tuple(frames.shape))
        return frames[..., ::2, ::2]

    clip = read_clip(clock, crop_box=(0, 0, 20, 10), transform=shrink, end_seconds=1.4)
    assert group_shapes == [(4, 3, 10, 20), (3, 3, 10, 20)]
    assert clip.frames.shape == (7, 3, 5, 10)
    assert clock_seconds(clip.frames) == pytest.approx([0.2 * k for k in range(7)], abs=1e-6)


# One time axis


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant.mp4", ()),
        ("offset.mp4", ("-output_ts_offset", 5)),
        ("offset.mkv", ("-output_ts_offset", 5)),
        ("opus.webm", ("-c:v", "libvpx", "-b:v", "1M", "-c:a", "libopus")),
        ("broadcast.ts", ()),
        ("broadcast_mpeg2.ts", ("-c:v", "mpeg2video", "-q:v", 2)),
        ("variable.mp4", ("-vf", "select='lt(t,1)*not(mod(n,4))+gte(t,1)*not(mod(n,3))'", "-fps_mode", "vfr")),
        ("variable.mkv", ("-vf", "select='lt(t,1)*not(mod(n,4))+gte(t,1)*not(mod(n,3))'", "-fps_mode", "vfr")),
        ("late_sound.mp4", ("-af", "atrim=start=0.5")),
        ("late_sound.mkv", ("-af", "atrim=start=0.5")),
        ("late_picture.mkv", ("-vf", "trim=start=0.5")),
        ("late_picture.mp4", ("-vf", "trim=start=0.5")),
    ],
)
def test_flash_and_beep_of_one_instant_stay_together(folder, name, options):
    path = make_clip(folder / name, *options)
    for start in (0.0, 0.83, 1.31):  # also where the range begins in the middle
        clip = read_clip(path, start_seconds=start, frames_per_second=30)
        assert seconds_apart(clip) < 1 / 30 + 0.005, start
        assert clip.start_seconds + beep_start(clip.waveform, RATE) == pytest.approx(BEEP_START, abs=0.03)


def test_flash_and_beep_stay_together_behind_an_edit_list(clock, folder):
    path = folder / "edited.mp4"
    run_ffmpeg("-ss", 0.7, "-i", clock, "-c", "copy", path)
    clip = read_clip(path, frames_per_second=30)
    assert seconds_apart(clip) < 1 / 30 + 0.005
    assert beep_start(clip.waveform, RATE) == pytest.approx(BEEP_START - 0.7, abs=0.03)


@pytest.mark.parametrize("options", [(), ("-c:v", "mpeg2video", "-q:v", 2, "-bf", 0, "-g", 10)], ids=["h264", "mpeg2"])
def test_broadcast_streams_show_the_frames_of_the_times(folder, options):
    """They have no index to seek in."""
    path = make_clip(folder / f"stream{len(options)}.ts", *options, audio=None)
    with MediaFile(path) as media:
        for start in (0.4, 0.0, 0.8):
            clip = media.read(start, start + 0.6)
            assert clock_seconds(clip.frames) == pytest.approx([start, start + 0.2, start + 0.4], abs=0.01)


def test_the_run_in_of_an_encoder_does_not_shift_the_axis(folder):
    path = make_clip(folder / "run_in.webm", "-c:v", "libvpx", "-b:v", "1M", "-c:a", "libopus")
    assert beep_start(read_clip(path).waveform, RATE) == pytest.approx(BEEP_START, abs=0.003)


def test_sound_that_begins_later_is_padded_with_silence(folder):
    path = make_clip(folder / "padded.mkv", "-af", "atrim=start=1.52", "-c:a", "pcm_s16le")
    clip = read_clip(path)
    assert beep_start(clip.waveform, RATE) == pytest.approx(1.52, abs=0.002)
    assert clip.waveform[: round(1.51 * RATE)].abs().max() == 0
    assert read_clip(path, end_seconds=1.4).modalities == ("video",)


def test_picture_that_begins_later_has_no_frames_before(folder):
    path = make_clip(folder / "late.mkv", "-vf", "trim=start=1.05")
    clip = read_clip(path)
    # Sooner than the next step, since it is less than half a step late for this one.
    assert clip.frame_seconds[:2].tolist() == pytest.approx([32 / 30, 1.2], abs=0.03)
    assert clock_seconds(clip.frames)[0] == pytest.approx(32 / 30)
    assert read_clip(path, end_seconds=0.9).modalities == ("audio",)


def test_the_axis_is_the_same_whichever_modality_is_read(folder):
    path = make_clip(folder / "axis.mkv", "-vf", "trim=start=0.5", "-output_ts_offset", 3)
    both = read_clip(path, start_seconds=1.0)
    assert read_clip(path, start_seconds=1.0, modalities=("video",)).frames.equal(both.frames)
    assert read_clip(path, start_seconds=1.0, modalities=("audio",)).waveform.equal(both.waveform)
    assert read_clip(audio=str(path), video=path, start_seconds=1.0).frames.equal(both.frames)


def test_variable_frame_rate_shows_the_frame_of_the_time(folder):
    path = make_clip(folder / "sparse.mp4", "-vf", "select='eq(n,0)+eq(n,10)+eq(n,40)+eq(n,80)'", "-fps_mode", "vfr")
    clip = read_clip(path, max_seconds=2.6)
    shown = [max(k for k in (0, 10, 40, 80) if k / 30 <= time + 1e-6) / 30 for time in clip.frame_seconds.tolist()]
    assert clock_seconds(clip.frames) == pytest.approx(shown)
    assert len(clip.frames) == 13


@pytest.mark.parametrize("name", ["windows.mp4", "windows.ts", "windows.wav"])
def test_windows_read_in_turn_make_up_the_whole(folder, name):
    video = None if name.endswith("wav") else CLOCK
    path = make_clip(folder / name, video=video, audio="aevalsrc='0.5*sin(2*PI*(200+300*t)*t)':s=44100:d=3")
    whole = read_clip(path, max_seconds=None)
    with MediaFile(path) as media:
        clips = [media.read(k * 0.6, (k + 1) * 0.6) for k in range(5)]
    waveform = torch.cat([clip.waveform for clip in clips])
    assert (waveform - whole.waveform[: len(waveform)]).abs().max() < 1e-3
    if video:
        assert torch.cat([clip.frames for clip in clips]).equal(whole.frames[:15])


def test_windows_on_both_sides_of_a_gap_make_up_the_whole(folder):
    times = "PTS+gte(T,1)*2/TB"
    sound = "aevalsrc='0.5*sin(2*PI*(200+300*t)*t)':s=44100:d=3"
    path = make_clip(folder / "gap.mp4", "-af", f"asetpts='{times}'", audio=sound)
    whole = read_clip(path, max_seconds=None)
    assert len(whole.waveform) == pytest.approx(5.0 * RATE, abs=0.05 * RATE)
    assert whole.waveform[round(1.1 * RATE) : round(2.9 * RATE)].abs().max() < 1e-3
    assert whole.waveform[: RATE // 2].abs().max() > 0.4 < whole.waveform[-RATE // 2 :].abs().max()
    with MediaFile(path) as media:
        clips = [media.read(k * 0.6, (k + 1) * 0.6) for k in range(8)]
    assert [clip.waveform is None for clip in clips] == [k in (2, 3, 4) for k in range(8)]  # nothing but gap
    parts = [torch.zeros(round(0.6 * RATE)) if clip.waveform is None else clip.waveform for clip in clips]
    assert (torch.cat(parts) - whole.waveform[: round(4.8 * RATE)]).abs().max() < 1e-3


def test_gaps_of_hours_are_skipped_and_noted(folder):
    long_picture = make_clip(folder / "years.mkv", "-vf", "setpts='PTS+gte(T,2)*2e6/TB'", "-fps_mode", "passthrough")
    clip = read_clip(long_picture, max_seconds=None)
    assert clip.end_seconds == pytest.approx(3.0, abs=0.1)
    shown = [0.2 * k for k in range(15)]
    shown[8] = np.inf
    assert clock_seconds(clip.frames)[:15] == pytest.approx(shown, abs=0.05)
    assert clip.notes == ("its times jump by hours; the gap is skipped",)
    assert read_clip(long_picture, start_seconds=2e6 + 2.1, max_seconds=None).modalities == ("video",)
    late_sound = make_clip(folder / "late_years.mkv", "-af", "asetpts=PTS+2e6/TB")
    assert read_clip(late_sound, max_seconds=None).notes == clip.notes


def test_reading_on_decodes_sound_only_a_few_times(folder):
    class CountingDecoder:
        def __init__(self, decoder):
            self.metadata, self._decoder, self.calls = decoder.metadata, decoder, []

        def get_samples_played_in_range(self, start, stop):
            self.calls.append((start, stop))
            return self._decoder.get_samples_played_in_range(start, stop)

    path = make_clip(folder / "long.wav", video=None, audio="sine=frequency=440:duration=64")
    decoder = CountingDecoder(AudioDecoder(path))
    with MediaFile(audio=decoder) as media:
        for start in range(64):
            assert len(media.read(start, start + 1).waveform) == RATE
    assert len(decoder.calls) <= 8
    with MediaFile(audio=decoder) as media:
        decoder.calls.clear()
        media.read(40, 41)
    assert len(decoder.calls) == 1
    assert decoder.calls[0] == pytest.approx((40, 41), abs=0.02)


# Sources


@pytest.mark.parametrize(
    "give",
    [
        str,
        Path,
        Path.read_bytes,
        lambda path: bytearray(path.read_bytes()),
        lambda path: memoryview(path.read_bytes()),
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: {"path": str(path), "bytes": None},
        lambda path: {"path": "elsewhere.mp4", "bytes": path.read_bytes()},
    ],
    ids=["str", "Path", "bytes", "bytearray", "memoryview", "BytesIO", "row of a path", "row of bytes"],
)
def test_every_source_gives_the_same_clip(clock, give):
    expected, clip = read_clip(clock, end_seconds=1.0), read_clip(give(clock), end_seconds=1.0)
    assert clip.waveform.equal(expected.waveform)
    assert clip.frames.equal(expected.frames)


def test_a_file_object_is_left_open_where_it_was(clock):
    expected = read_clip(clock)
    with clock.open("rb") as file:
        file.seek(11)
        clip = read_clip(file)
        assert file.tell() == 11
    assert clip.waveform.equal(expected.waveform)
    assert clip.frames.equal(expected.frames)


class Pipe(io.RawIOBase):
    """A stream that cannot seek."""

    def __init__(self, data):
        self._file = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._file.readinto(buffer)


def test_a_stream_that_cannot_seek_is_read_up_to_max_bytes(clock):
    data = clock.read_bytes()
    assert read_clip(io.BufferedReader(Pipe(data)), max_bytes=len(data)).frames.equal(read_clip(clock).frames)
    with pytest.raises(MediaError, match=f"more than max_bytes = {len(data) - 1}"):
        read_clip(io.BufferedReader(Pipe(data)), max_bytes=len(data) - 1)


def test_decoders_are_read_as_they_are(clock):
    expected = read_clip(clock)
    clip = read_clip(audio=AudioDecoder(clock), video=VideoDecoder(clock, dimension_order="NHWC"))
    assert clip.frames.equal(expected.frames)
    assert (clip.waveform - expected.waveform)[100:-100].abs().max() < 0.01
    assert read_clip(AudioDecoder(clock)).modalities == ("audio",)
    assert read_clip(VideoDecoder(clock)).modalities == ("video",)


def test_datasets_columns_are_read(clock, folder):
    late = make_clip(folder / "late_row.mkv", "-vf", "trim=start=0.5")
    table = {"audio": [str(clock), str(late)], "video": [str(clock), str(late)]}
    rows = datasets.Dataset.from_dict(table)
    rows = rows.cast_column("audio", datasets.Audio()).cast_column("video", datasets.Video())
    for row, path in zip(rows, (clock, late), strict=True):
        expected, clip = read_clip(path), read_clip(**row)
        assert clip.frames.equal(expected.frames)
        assert clip.frame_seconds.equal(expected.frame_seconds)
        assert clip.waveform.equal(expected.waveform)
        assert read_clip(row["video"]).modalities == ("audio", "video")


def test_separate_sources_start_together(silent, wav):
    clip = read_clip(audio=wav, video=silent, frames_per_second=30)
    assert seconds_apart(clip) < 1 / 30 + 0.002


def test_sound_cut_to_the_clip_goes_with_a_part_of_a_film(silent, wav, folder):
    cut = folder / "cut.wav"
    run_ffmpeg("-i", wav, "-ss", 1.3, "-to", 2.4, cut)
    parts = {"start_seconds": 1.3, "end_seconds": 2.4, "frames_per_second": 30}
    clip = read_clip(audio=cut, audio_start_seconds=0.0, video=silent, **parts)
    whole = read_clip(audio=wav, video=silent, **parts)
    assert seconds_apart(clip) < 1 / 30 + 0.002
    assert clip.frames.equal(whole.frames) and clip.waveform.shape == whole.waveform.shape
    assert (clip.start_seconds, clip.end_seconds) == (1.3, 2.4)
    without = read_clip(audio=cut, video=silent, **parts)
    assert without.waveform is None or len(without.waveform) < len(clip.waveform)


def test_names_that_ffmpeg_takes_for_patterns_are_plain_files(clock, folder):
    for name in ("frame%03d.mp4", "a*b.mp4", "concat:a.mp4|b.mp4", "-i.mp4", "é ü.mp4"):
        path = folder / name
        path.write_bytes(clock.read_bytes())
        assert read_clip(path).frames.equal(read_clip(clock).frames)


def test_an_image_sequence_is_not_expanded(folder):
    sequence = folder / "sequence"
    sequence.mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(sequence / f"a{index}.png")
    with pytest.raises(MediaError, match="no such file"):
        read_clip(sequence / "a%d.png")
    Image.new("RGB", (8, 8), (77, 0, 0)).save(sequence / "a%d.png")
    assert read_clip(sequence / "a%d.png").frames[:, 0].unique().tolist() == [77]


# Arrays


def test_array_sound_needs_its_sampling_rate():
    with pytest.raises(ValueError, match=r"sampling rate in Hz .* not guessed"):
        read_clip(audio=np.zeros(800, dtype=np.float32))
    with pytest.raises(ValueError, match="whole number of Hz"):
        read_clip(audio=np.zeros(800), source_sampling_rate=0)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_array_sound_is_resampled(rate):
    wave = tone(1234, rate, 1.7)
    clip = read_clip({"array": wave.numpy(), "sampling_rate": rate}, start_seconds=0.3, end_seconds=1.3)
    expected = tone(1234, RATE, 1.3)[round(0.3 * RATE) :]
    assert clip.waveform.shape == expected.shape
    assert (clip.waveform - expected).abs().max() < 2e-3


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    assert resample(tone(9_000, 44_100, 1.0), 44_100, RATE)[500:-500].abs().max() < 1e-3
    assert resample(torch.full((5000,), 0.7), 48_000, RATE)[100:-100].numpy() == pytest.approx(0.7, abs=1e-6)


def test_resampling_agrees_with_ffmpeg_on_a_chirp(folder):
    path = make_clip(
        folder / "chirp.wav", "-c:a", "pcm_f32le", video=None, audio="aevalsrc='0.5*sin(PI*3400*t*t)':s=44100:d=2"
    )
    samples = AudioDecoder(path).get_all_samples().data[0]
    ours, theirs = resample(samples, 44_100, RATE), read_clip(path).waveform
    assert abs(len(ours) - len(theirs)) <= 1
    stop = min(len(ours), len(theirs)) - 200
    assert (ours[200:stop] - theirs[200:stop]).abs().max() < 5e-3  # up to 6.8 kHz


def test_the_filters_are_the_same_however_many_are_made_at_once(monkeypatch):
    noise = torch.randn(997, generator=torch.Generator().manual_seed(0))
    expected = resample(noise, 11_025, RATE)
    monkeypatch.setattr("foal_hf.foal_net.arrays_foal_net._FILTER_GROUP_TAPS", 1000)
    assert resample(noise, 11_025, RATE).equal(expected)


def test_a_part_is_resampled_as_within_the_whole():
    noise = torch.randn(4001, generator=torch.Generator().manual_seed(0))
    whole = resample(noise, 11_025, RATE)
    assert len(whole) == -(-4001 * RATE // 11_025)
    assert torch.allclose(resample(noise, 11_025, RATE, 1009 / RATE, 997), whole[1009:2006], atol=1e-5)
    late = resample(noise, 11_025, RATE, -31 / RATE)
    assert torch.allclose(late[31:], whole, atol=1e-5)
    assert len(resample(noise, 11_025, RATE, 10.0)) == 0
    assert resample(noise, 8_000, 8_000, -2 / 8_000, 5).tolist() == [0, 0, *noise[:3].tolist()]


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [(np.int16, 2**15, 0), (np.int32, 2**31, 0), (np.uint8, 2**7, 128), (np.float64, 1, 0)],
)
def test_pcm_is_scaled(dtype, scale, offset):
    pcm = (np.array([-1.0, -0.5, 0.0, 0.5]) * scale + offset).astype(dtype)
    assert mono_from_array(pcm).tolist() == [-1.0, -0.5, 0.0, 0.5]


def test_both_channel_layouts_are_averaged():
    stereo = torch.stack([torch.arange(11.0), torch.zeros(11)])
    assert mono_from_array(stereo).equal(torch.arange(11.0) / 2)
    assert mono_from_array(stereo.T.numpy()).equal(torch.arange(11.0) / 2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(0), "empty"),
        (np.zeros((2, 0)), "channels from samples"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
        (np.array([0.0, np.inf]), "NaN or infinity"),
        (np.zeros((3, 5)), "channels from samples"),
        (np.zeros((16, 16000)), "channels from samples"),
        (np.zeros((1, 2, 100)), "expected"),
        (np.zeros(7, dtype=np.int64), "int64"),
        (np.array(["a"]), "expected numbers"),
    ],
)
def test_unclear_sound_arrays_are_refused(array, message):
    with pytest.raises(MediaError, match=rf"audio array: .*{message}"):
        read_clip(audio=array, source_sampling_rate=RATE)


def numbered_frames(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, 5, 7)


def test_frames_without_a_rate_are_taken_as_sampled():
    clip = read_clip(video=numbered_frames(13), frames_per_second=5)
    assert clip.frames[:, 0, 0, 0].tolist() == list(range(13))
    assert clip.frame_seconds.tolist() == pytest.approx([k / 5 for k in range(13)])
    assert clip.end_seconds == pytest.approx(2.6)


def test_frames_with_a_rate_are_sampled_in_time():
    clip = read_clip(numbered_frames(61), source_frames_per_second=30, start_seconds=0.5, end_seconds=1.3)
    assert clip.frames[:, 0, 0, 0].tolist() == [15, 21, 27, 33]
    assert clip.frame_seconds.tolist() == pytest.approx([0.0, 0.2, 0.4, 0.6])


def test_every_layout_of_frames_gives_the_same_pictures():
    frames = torch.randint(0, 256, (4, 3, 5, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    channels_last = frames.movedim(1, -1).numpy()
    for given in (
        frames,
        channels_last,
        channels_last[:, :, ::-1][:, :, ::-1],
        frames.double() / 255,
        list(channels_last),
        [Image.fromarray(picture) for picture in channels_last],
    ):
        assert frames_from_array(given).equal(frames)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((0, 3, 5, 7)), "empty"),
        ([], "empty"),
        (np.zeros((2, 3, 5, 3), dtype=np.uint8), "either layout"),
        (np.zeros((2, 5, 7), dtype=np.uint8), "neither layout"),
        (np.zeros((2, 1, 5, 7), dtype=np.uint8), "neither layout"),
        (np.full((2, 3, 5, 7), 200.0), "lie in"),
        (np.full((2, 3, 5, 7), np.nan), "lie in"),
        (np.zeros((2, 3, 5, 7), dtype=np.int16), "int16"),
        ([Image.new("RGB", (5, 7)), Image.new("RGB", (7, 5))], "differ in shape"),
    ],
)
def test_unclear_frame_arrays_are_refused(frames, message):
    with pytest.raises(MediaError, match=rf"video array: .*{message}"):
        read_clip(video=frames)


# Refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"once upon a time\n" * 99, "is text"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(2000), "damaged or cut off"),
        (bytes(range(256)) * 9, "damaged or cut off"),
        (b"RIFF", "is text"),
    ],
    ids=["empty", "text", "header only", "noise", "four letters"],
)
def test_what_is_no_medium_says_so(tmp_path, content, message):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=rf"broken.mp4: .*{message}") as caught:
        read_clip(path)
    assert "\n" not in str(caught.value)
    assert ".cpp" not in str(caught.value)
    with pytest.raises(MediaError, match=message):
        read_clip(content)


@pytest.mark.parametrize("name", ["a.m2ts", "a.ogv", "a.m4b", "a.caf", "a.mka", "a.MP4", "a/b.c.sph"])
def test_media_endings_are_one_list_in_either_case(name):
    assert has_media_ending(name)
    assert has_media_ending(Path(name))


@pytest.mark.parametrize("name", ["a", "a.txt", "mp4", "a.png", "a.mp4.part"])
def test_other_endings_are_no_media(name):
    assert not has_media_ending(name)


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        *((".wav", ("-f", kind)) for kind in ("wav", "caf", "aiff", "au", "w64", "flac", "voc", "tta")),
        *((".mp4", ("-f", kind)) for kind in ("ogg", "mpegts", "nut", "mp3", "adts", "matroska", "mp4", "ac3")),
    ],
)
def test_a_medium_has_no_fault_whatever_its_name(tmp_path, ending, options):
    path = tmp_path / f"clip{ending}"
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=0.3", *options, path)
    assert find_fault(path) is None
    assert read_clip(path).modalities == ("audio",)


def test_speech_corpora_of_sphere_files_have_no_fault(tmp_path):
    path = tmp_path / "speech.wav"
    header = "NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
    header += "sample_byte_format -s2 01\nsample_coding -s3 pcm\nsample_count -i 8000\nend_head\n"
    path.write_bytes(header.encode().ljust(1024, b"\0") + bytes(16_000))
    assert find_fault(path) is None
    assert len(read_clip(path).waveform) == 8000


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"hello " * 99, "is text"), (bytes(999), "cannot be decoded")]
)
def test_what_cannot_be_read_has_a_fault(tmp_path, content, reason):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    assert find_fault(path).startswith(reason)
    assert find_fault(tmp_path / "gone.mp4") == "no such file."


def test_missing_files_and_folders_say_so(tmp_path):
    with pytest.raises(MediaError, match=r"nothing.mp4: no such file"):
        read_clip(tmp_path / "nothing.mp4")
    with pytest.raises(MediaError, match="is a directory"):
        read_clip(tmp_path)


def test_truncated_media_are_read_as_far_as_they_go(clock, folder, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clock.read_bytes()[:-2000])  # the index stands at the end
    with pytest.raises(MediaError, match=r"cut.mp4: .*cut off"):
        read_clip(cut)
    whole = make_clip(folder / "long_enough.mkv", "-c:a", "pcm_s16le")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    clip = read_clip(cut, end_seconds=1.0)
    assert clock_seconds(clip.frames) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert len(clip.waveform) == RATE
    with pytest.raises(MediaError, match=r"cut.mkv: has no audio or video from 2.5"):
        read_clip(cut, start_seconds=2.5)


ID3_TAG = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\x01" * 128


@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4", "list"])
@pytest.mark.parametrize("disguise", [b"", b"\xef\xbb\xbf", b"\n \t", ID3_TAG, ID3_TAG * 2])
@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{target}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n{target}\n\0\0\0",
        "ffconcat version 1.0\nfile '{target}'\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{target}</BaseURL></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "\x01\x02 c\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
        "[playlist]\nFile1={target}\n",
        "{target}\n",
    ],
    ids=["hls", "hls with zeros", "concat", "dash", "sdp", "sdp behind bytes", "pls", "m3u"],
)
def test_playlists_are_refused_under_any_name(clock, tmp_path, monkeypatch, script, disguise, name):
    def opened(*arguments, **options):
        raise AssertionError("the content reached FFmpeg")

    monkeypatch.setattr(decoding_foal_net, "_import_av", opened)
    path = tmp_path / name
    path.write_bytes(disguise + script.format(target=clock).encode())
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(MediaError, match=r"playlist, script|is text"):
            read_clip(source)


SESSION = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9998 RTP/AVP 0\r\n"


@pytest.mark.parametrize("disguise", [b"v\0\r\n", b"\0\0\r\n\0c\n", b"a\0" + b"x" * 4000 + b"\n"])
def test_a_session_description_is_refused_whatever_stands_before_it(disguise):
    """FFmpeg takes a file for one by a single line, and would open UDP ports."""
    for source in (disguise + SESSION, io.BytesIO(disguise + SESSION)):
        with pytest.raises(MediaError, match=r"playlist, script"):
            read_clip(source)


def test_ffmpeg_may_open_no_port_even_where_the_check_is_passed(monkeypatch):
    monkeypatch.setattr(sources_foal_net, "_checked_head", lambda read_at, name: (read_at(0, 4096), 0))
    with pytest.raises(MediaError, match=r"cannot be decoded: .*Invalid data"):
        read_clip(SESSION)


@pytest.mark.parametrize(
    "text", ["concat:a.mp4|b.mp4", "pipe:0", "data:video/mp4;base64,AA", "ftp://h/a", "file:///a", "hf://a"]
)
def test_protocols_are_refused(text):
    with pytest.raises(MediaError, match="is not read; give a path"):
        read_clip(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Nothing to read"),
        ({"source": "a", "audio": "b"}, "not both"),
        ({"source": "a", "start_seconds": -0.1}, "start_seconds"),
        ({"source": "a", "start_seconds": float("nan")}, "start_seconds"),
        ({"source": "a", "start_seconds": 2, "end_seconds": 2}, "end_seconds"),
        ({"source": "a", "max_seconds": 0}, "max_seconds"),
        ({"source": "a", "frames_per_second": 0}, "frames_per_second"),
        ({"source": "a", "sampling_rate": -1}, "sampling_rate"),
        ({"source": "a", "modalities": ("sound",)}, "modalities"),
        ({"source": "a", "modalities": "audio"}, "modalities"),
        ({"source": "a", "audio_start_seconds": -0.1}, "audio_start_seconds"),
    ],
)
def test_arguments_without_sense_are_named(silent, arguments, message):
    if "source" in arguments:
        arguments = {**arguments, "source": silent}
    with pytest.raises(ValueError, match=message) as caught:
        read_clip(**arguments)
    assert not isinstance(caught.value, MediaError)


def test_sources_of_an_unknown_kind_are_a_type_error():
    with pytest.raises(TypeError, match="Cannot read media from int"):
        read_clip(7)


def test_a_start_beyond_the_end_names_the_length(clock):
    with pytest.raises(MediaError, match=r"clock.mp4: has no audio or video from 9 to 15 s; it lasts 3"):
        read_clip(clock, start_seconds=9)


def test_media_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(MediaError("a.mp4", "is empty.")))
    assert (error.source, error.reason, str(error)) == ("a.mp4", "is empty.", "a.mp4: is empty.")


def test_a_missing_decoder_names_the_doctor(clock, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install av.*foal-hf doctor"):
        read_clip(clock)


def test_nothing_stays_open(clock, tmp_path):
    (tmp_path / "a%d.mp4").write_bytes(clock.read_bytes())
    read_clip(clock)
    before = psutil.Process().num_fds()
    for source in (clock, str(tmp_path / "a%d.mp4"), clock.read_bytes()):
        read_clip(source)
        with pytest.raises(MediaError):
            read_clip(source, start_seconds=99)
    assert psutil.Process().num_fds() == before


# Downloads


@pytest.fixture
def server(clock, tmp_path, monkeypatch):
    """Address of a loopback server; temporary files go to `tmp_path`, which has to be empty afterwards."""
    release = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            getattr(self, self.path.split("?")[0].strip("/").partition(".")[0])()

        def answer(self, status=200, body=b"", **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            self.wfile.write(body)

        def clip(self):
            data = clock.read_bytes()
            self.answer(body=data, Content_Length=len(data))

        def missing(self):
            self.answer(404)

        def moved(self):
            self.answer(302, Location="/clip.mp4")

        def escape(self):
            self.answer(302, Location=f"file://{clock}")

        def declared(self):
            self.answer(Content_Length=10**12)

        def endless(self):
            self.answer()
            with contextlib.suppress(OSError):
                while not release.is_set():
                    self.wfile.write(bytes(4096))

        def short(self):
            self.answer(body=b"\0" * 10, Content_Length=1000)

        def playlist(self):
            self.answer(body=f"#EXTM3U\n{clock}\n".encode())

        def stalled(self):
            release.wait(10)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        release.set()
        httpd.shutdown()
        thread.join()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["clip.mp4", "moved"])
def test_a_url_is_downloaded_and_read(server, clock, path):
    assert read_clip(f"{server}/{path}").frames.equal(read_clip(clock).frames)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.mp4", "404"),
        ("declared", "larger than max_bytes = 1000000"),
        ("endless", "larger than max_bytes = 1000000"),
        ("escape", "cannot be downloaded"),
        ("short", "cannot be downloaded"),
        ("playlist.mp4", "playlist"),
    ],
)
def test_a_bad_download_says_why(server, path, message):
    with pytest.raises(MediaError, match=rf"{server}/{path}: .*{message}"):
        read_clip(f"{server}/{path}?token=secret", max_bytes=1_000_000)


@pytest.mark.parametrize("limit", ["WAIT_TIMEOUT_SECONDS", "DOWNLOAD_TIMEOUT_SECONDS"])
def test_a_slow_download_is_given_up(server, monkeypatch, limit):
    monkeypatch.setattr(sources_foal_net, limit, 0.05)
    path = "stalled" if limit == "WAIT_TIMEOUT_SECONDS" else "endless"
    with pytest.raises(MediaError, match=r"cannot be downloaded|not downloaded after"):
        read_clip(f"{server}/{path}")


def test_a_closed_port_says_so_without_the_secret(server):
    with pytest.raises(MediaError, match=r"^http://127.0.0.1:9/clip.mp4: cannot be downloaded") as caught:
        read_clip("http://name:password@127.0.0.1:9/clip.mp4?token=secret")
    assert "secret" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_what_is_read_in_order_does_not_go_back(clock):
    with MediaFile(clock, in_order=True) as media:
        first, second = media.read(0.5, 1.0), media.read(1.5, 2.0)
        with pytest.raises(ValueError, match=r"`start_seconds` has to be 2\.0 or more.*in_order=True.*got 1\.9"):
            media.read(1.9, 2.5)
    assert first.frames.equal(read_clip(clock, start_seconds=0.5, end_seconds=1.0).frames)
    assert second.frames.equal(read_clip(clock, start_seconds=1.5, end_seconds=2.0).frames)
