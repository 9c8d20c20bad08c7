"""Recordings window by window: what a segment is, how windows are merged, and how a recording is read."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from media_builders import BEEP, CLOCK, make_clip, run_ffmpeg, tone
from tiny_models import tiny_model
from tiny_processors import picture, tiny_processor
from torch.utils.data import Dataset
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline, MediaError, MediaFile, read_clip
from foal_hf.foal_net.timeline_foal_net import ScoredSegment, merge_windows, runs_of_one_label
from foal_hf.foal_net.windows_foal_net import read_windows
from foal_hf.plots import draw_timeline


LONG_SECONDS = 11.3
KEYS = {"start_seconds", "end_seconds", "label", "score", "scores", "reason", "modalities", "evidence"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Recordings whose picture and sound differ from second to second."""
    folder = tmp_path_factory.mktemp("media")
    sweep = f"aevalsrc=0.3*sin(2*PI*(200+40*t)*t):s=22050:d={LONG_SECONDS}"
    moving = f"testsrc=s=62x46:r=10:d={LONG_SECONDS}"
    film = make_clip(folder / "film.mp4", video=moving, audio=sweep)
    broken = folder / "broken.mp4"
    broken.write_bytes(np.random.default_rng(0).bytes(5003))
    endless = folder / "endless.mkv"  # written to a pipe, it says nowhere how long it is
    run_ffmpeg("-i", film, "-c", "copy", "-f", "matroska", "-live", "1", endless)
    return SimpleNamespace(
        film=film,
        endless=endless,
        broken=broken,
        brief=make_clip(folder / "brief.mp4"),  # 3 s
        late=make_clip(folder / "late.ts", video=CLOCK, inputs=("-itsoffset", 0.53)),  # the video begins later
        sound=make_clip(folder / "sound.wav", video=None, audio=sweep),
        picture=make_clip(folder / "picture.mp4", video=moving, audio=None),
        long_sound=make_clip(folder / "long_sound.mp4", video=CLOCK, audio=sweep),
        long_picture=make_clip(folder / "long_picture.mp4", video=moving, audio=BEEP),
    )


@pytest.fixture(scope="module")
def classify() -> AudioVideoEmotionPipeline:
    model = tiny_model()
    return pipeline("audio-video-emotion", model=model, processor=tiny_processor())


def scores(entries: list[dict[str, Any]]) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


def times(segments: Any) -> list[tuple[float, float]]:
    return [(segment["start_seconds"], segment["end_seconds"]) for segment in segments]


def assert_same(segments: Any, expected: Any) -> None:
    segments, expected = list(segments), list(expected)
    assert times(segments) == times(expected)
    for segment, other in zip(segments, expected, strict=True):
        assert scores(segment["scores"]) == pytest.approx(scores(other["scores"]), abs=1e-5)
        assert {**segment, "scores": 0, "score": 0} == {**other, "scores": 0, "score": 0}


def judged(start: float, end: float, window_end: float, scores: list[float] | None, **fields: Any) -> ScoredSegment:
    tensor = None if scores is None else torch.tensor(scores)
    values = {"evidence": {}, "modalities": ("video",), "reason": "why not", **fields}
    return ScoredSegment(start, end, window_end_seconds=window_end, scores=tensor, **values)


def described(probabilities: torch.Tensor | None, reason: str | None) -> dict[str, Any]:
    return {"mean": None if probabilities is None else probabilities.tolist(), "reason": reason}


# What a segment is


def test_segments_cover_the_recording_stride_by_stride(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    segments = classify(media.film, window_seconds=4, stride_seconds=2)
    ends = [(0.0, 2.0), (2.0, 4.0), (4.0, 6.0), (6.0, 8.0), (8.0, 10.0)]
    assert times(segments)[:-1] == ends
    assert segments[-1]["start_seconds"] == 10.0
    assert segments[-1]["end_seconds"] == pytest.approx(LONG_SECONDS, abs=0.05)
    for segment in segments:
        assert set(segment) == KEYS
        assert segment["modalities"] == ("audio", "video")
        assert sum(scores(segment["scores"]).values()) == pytest.approx(1, abs=1e-5)
        assert (segment["label"], segment["score"]) == tuple(segment["scores"][0].values())
        assert segment["reason"] is None


@pytest.mark.parametrize("source", ["film", "sound", "picture"])
def test_windows_that_touch_are_the_clips_of_these_seconds(
    classify: AudioVideoEmotionPipeline, media: Any, source: str
) -> None:
    file = getattr(media, source)
    segments = classify(file, window_seconds=3, stride_seconds=3)
    for segment in segments:
        clip = classify(file, start_seconds=segment["start_seconds"], end_seconds=segment["end_seconds"])
        assert scores(segment["scores"]) == pytest.approx(scores(clip), abs=1e-5)


def test_a_segment_is_the_mean_of_the_windows_that_cover_it(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    segments = classify(media.film, window_seconds=4, stride_seconds=2)
    windows = [scores(classify(media.film, start_seconds=start, end_seconds=start + 4.0)) for start in (0.0, 2.0, 4.0)]
    assert scores(segments[0]["scores"]) == pytest.approx(windows[0], abs=1e-5)
    for number in (1, 2):
        mean = {label: (windows[number - 1][label] + windows[number][label]) / 2 for label in windows[0]}
        assert scores(segments[number]["scores"]) == pytest.approx(mean, abs=1e-5)
    assert scores(segments[1]["scores"]) != pytest.approx(scores(segments[0]["scores"]), abs=1e-3)


def test_the_stride_is_half_a_window_by_default(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    assert_same(classify(media.film, window_seconds=5), classify(media.film, window_seconds=5, stride_seconds=2.5))


def test_the_last_window_is_the_first_that_reaches_the_end(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    segments = classify(media.film, window_seconds=4, stride_seconds=2)
    end = segments[-1]["end_seconds"]
    last = scores(classify(media.film, start_seconds=8.0, end_seconds=end))  # shorter than 4 s
    assert scores(segments[-1]["scores"]) == pytest.approx(last, abs=1e-5)


def test_a_recording_shorter_than_a_window_is_one_window(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    segments = classify(media.brief, window_seconds=7, stride_seconds=2)
    assert [segment["start_seconds"] for segment in segments] == [0.0, 2.0]
    for segment in segments:
        assert scores(segment["scores"]) == pytest.approx(scores(classify(media.brief)), abs=1e-5)


def test_a_rest_shorter_than_a_tenth_of_a_stride_is_no_segment_of_its_own(classify: AudioVideoEmotionPipeline) -> None:
    for seconds, ends in ((4.0, [2.0, 4.0]), (4.15, [2.0, 4.15]), (4.25, [2.0, 4.0, 4.25])):
        sound = {"audio": tone(440, 16_000, seconds), "sampling_rate": 16_000}
        segments = classify(sound, window_seconds=2, stride_seconds=2)
        assert [segment["end_seconds"] for segment in segments] == ends


def test_a_part_of_a_recording_keeps_its_times(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    part = {"start_seconds": 2.0, "end_seconds": 7.0}
    segments = classify(media.film, window_seconds=2, stride_seconds=2, **part)
    assert times(segments) == [(2.0, 4.0), (4.0, 6.0), (6.0, 7.0)]
    assert_same(classify({"video": media.film, **part}, window_seconds=2, stride_seconds=2), segments)
    whole = classify(media.film, window_seconds=2, stride_seconds=2)
    assert_same(segments[:2], whole[1:3])


@pytest.mark.parametrize(("source", "lost"), [("long_sound", "video"), ("long_picture", "audio")])
def test_a_stream_that_ends_early_is_missed_from_there_on(
    classify: AudioVideoEmotionPipeline, media: Any, source: str, lost: str
) -> None:
    segments = classify(getattr(media, source), window_seconds=2, stride_seconds=2)
    kept = "audio" if lost == "video" else "video"
    assert [segment["modalities"] for segment in segments] == [("audio", "video")] * 2 + [(kept,)] * 4
    assert [segment["evidence"][lost] is None for segment in segments] == [False, False, True, True, True, True]
    assert segments[-1]["end_seconds"] == pytest.approx(LONG_SECONDS, abs=0.05)


def test_a_recording_that_does_not_say_how_long_it_is_is_read_to_its_end(
    classify: AudioVideoEmotionPipeline, media: Any
) -> None:
    with MediaFile(media.endless) as opened:
        assert opened.duration_seconds is None
    segments = classify(media.endless, window_seconds=4, stride_seconds=2)
    expected = classify(media.film, window_seconds=4, stride_seconds=2)
    assert times(segments)[:-1] == times(expected)[:-1]
    for segment, other in zip(segments[:-1], expected[:-1], strict=True):
        # Matroska keeps times in whole milliseconds.
        assert scores(segment["scores"]) == pytest.approx(scores(other["scores"]), abs=0.05)


def test_one_still_picture_is_shown_as_long_as_the_sound(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    still = [picture(41, 31)]
    row = {"video": still, "audio": media.sound}
    for stride in (2.0, 0.5):
        segments = classify(row, window_seconds=2, stride_seconds=stride)
        assert {segment["modalities"] for segment in segments} <= {("audio", "video"), ("audio",)}
        assert segments[0]["modalities"] == ("audio", "video")


# How windows are merged


def test_windows_count_for_the_seconds_that_they_cover() -> None:
    strides = [
        judged(0.0, 2.0, 3.0, [1.0, 0.0]),
        judged(2.0, 4.0, 5.0, [0.0, 1.0]),  # the first window covers half of it
        judged(4.0, 5.0, 5.0, None, modalities=()),
    ]
    segments = list(merge_windows(strides, described))
    assert segments[0]["mean"] == pytest.approx([1, 0])
    assert segments[1]["mean"] == pytest.approx([1 / 3, 2 / 3])
    assert segments[2]["mean"] == pytest.approx([0, 1])


def test_a_segment_that_no_judged_window_covers_has_a_reason() -> None:
    strides = [judged(0.0, 1.0, 2.0, None, modalities=()), judged(1.0, 2.0, 2.0, [0.5, 0.5])]
    first, second = merge_windows(strides, described)
    assert (first["mean"], first["reason"], first["modalities"]) == (None, "why not", ())
    assert second["mean"] == [0.5, 0.5]


def test_modalities_are_those_of_all_windows_that_count() -> None:
    strides = [
        judged(0.0, 1.0, 2.0, [1.0], modalities=("video",)),
        judged(1.0, 2.0, 3.0, [1.0], modalities=("audio",)),
        judged(2.0, 3.0, 3.0, None, modalities=()),
    ]
    assert [segment["modalities"] for segment in merge_windows(strides, described)] == [
        ("video",),
        ("audio", "video"),
        ("audio",),
    ]


def test_a_segment_comes_before_the_next_segment_is_asked_for() -> None:
    asked = []

    def strides() -> Iterator[ScoredSegment]:
        for start in range(3):
            asked.append(start)
            yield judged(start, start + 1.0, start + 2.0, [1.0])

    segments = merge_windows(strides(), described)
    next(segments)
    assert asked == [0]


def test_runs_join_one_label_over_time_and_stop_at_a_gap() -> None:
    def segment(start: float, end: float, label: str | None, score: float) -> dict[str, Any]:
        return {"start_seconds": start, "end_seconds": end, "label": label, "score": score}

    runs = runs_of_one_label(
        [
            segment(0, 2, "sad", 0.5),
            segment(2, 3, "sad", 0.8),
            segment(3, 4, None, 0.2),
            segment(4, 5, "sad", 0.9),
            segment(7, 8, "sad", 0.7),
        ]
    )
    assert [(run["start_seconds"], run["end_seconds"], run["label"]) for run in runs] == [
        (0, 3, "sad"),
        (3, 4, None),
        (4, 5, "sad"),
        (7, 8, "sad"),
    ]
    assert [run["score"] for run in runs] == pytest.approx([0.6, 0.2, 0.9, 0.7])
    assert runs_of_one_label([]) == []


# How a recording is read


def test_every_part_is_read_once_and_in_order(media: Any) -> None:
    read = []

    class Watched(MediaFile):
        def read(self, start_seconds: float = 0.0, end_seconds: float | None = None, **settings: Any) -> Any:
            read.append((start_seconds, end_seconds))
            return super().read(start_seconds, end_seconds, **settings)

    with Watched(media.film) as opened:
        list(read_windows(opened, window_seconds=5.0, stride_seconds=1.0))
    assert read == [(float(start), float(start) + 1) for start in range(len(read))]


def test_sound_that_is_held_does_not_grow_with_the_recording(media: Any) -> None:
    seconds = []
    with MediaFile(media.sound, in_order=True) as opened:
        for _ in read_windows(opened, window_seconds=1.0, stride_seconds=0.5):
            held = sum(len(part.samples) for part in opened._audio._parts)
            seconds.append(held / 22_050)
    assert len(seconds) == 23
    assert max(seconds) < 1.5


@pytest.mark.parametrize("source", ["brief", "late", "still", "array"])
@pytest.mark.parametrize(
    ("window", "stride", "rate"), [(1.0, 0.5, 5.0), (1.31, 0.47, 5.0), (0.83, 0.83, 7.0), (1.0, 1 / 3, 3.0)]
)
def test_windows_and_segments_equal_clips_that_are_read_alone(
    media: Any, source: str, window: float, stride: float, rate: float
) -> None:
    sources = {
        "brief": {"source": media.brief},
        "late": {"source": media.late},
        "still": {"video": [picture(41, 31)], "audio": media.brief},
        "array": {"video": np.random.default_rng(0).integers(0, 255, (29, 5, 7, 3), np.uint8)},
    }
    settings = {**sources[source], "frames_per_second": rate, "source_frames_per_second": 11}
    with MediaFile(**settings, in_order=True) as opened:
        strides = list(read_windows(opened, window_seconds=window, stride_seconds=stride))
    clips = [clip for one in strides for clip in (one.segment, one.window) if clip is not None]
    assert len(clips) > len(strides) >= 3
    for clip in clips:
        alone = read_clip(**settings, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds)
        assert clip.modalities == alone.modalities
        if alone.frames is not None:
            assert clip.frame_seconds.tolist() == pytest.approx(alone.frame_seconds.tolist(), abs=1e-6)
            assert clip.frames.equal(alone.frames)
        if alone.waveform is not None:
            assert len(clip.waveform) == len(alone.waveform)
            assert (clip.waveform - alone.waveform).abs().max() < 1e-4


def test_the_sound_of_the_segments_is_the_sound_of_the_recording(media: Any) -> None:
    for file in (media.film, media.sound):
        with MediaFile(file, modalities=("audio",)) as opened:
            whole = opened.read().waveform
        with MediaFile(file, modalities=("audio",)) as opened:
            strides = list(read_windows(opened, window_seconds=3.0, stride_seconds=0.7))
        parts = torch.cat([stride.segment.waveform for stride in strides])
        assert len(parts) == len(whole)
        assert (parts - whole).abs().max() < 1e-4
        assert whole.abs().max() > 0.2


def test_the_first_segment_comes_before_the_rest_is_read(
    classify: AudioVideoEmotionPipeline, media: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = [], MediaFile.read

    def watched(self: MediaFile, start_seconds: float = 0.0, *arguments: Any, **settings: Any) -> Any:
        read.append(start_seconds)
        return original(self, start_seconds, *arguments, **settings)

    monkeypatch.setattr(MediaFile, "read", watched)
    segments = classify(media.film, window_seconds=2, stride_seconds=1, stream=True)
    assert read == []
    assert times([next(segments)]) == [(0.0, 1.0)]
    assert read == [0.0, 1.0, 2.0]  # one more than the window needs, to see whether it is the last
    segments.close()


@pytest.mark.parametrize(("batch_size", "num_workers"), [(3, 0), (64, 0), (2, 2)])
def test_batches_and_workers_change_no_segment(
    classify: AudioVideoEmotionPipeline, media: Any, batch_size: int, num_workers: int
) -> None:
    expected = classify(media.film, window_seconds=4, stride_seconds=2)
    settings = {"batch_size": batch_size, "num_workers": num_workers}
    assert_same(classify(media.film, window_seconds=4, stride_seconds=2, **settings), expected)


def test_windows_go_through_the_model_in_batches(
    classify: AudioVideoEmotionPipeline, media: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    forward = classify.forward
    monkeypatch.setattr(classify, "forward", lambda inputs: sizes.append(len(inputs["clip"])) or forward(inputs))
    classify(media.film, window_seconds=2, stride_seconds=2, batch_size=4)
    assert sizes == [4, 2]


def test_many_recordings_give_one_answer_each(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    class Rows(Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Path:
            return [media.film, media.sound][index]

    files = [media.film, media.sound]
    windows = {"window_seconds": 4, "stride_seconds": 2}
    expected = [classify(file, **windows) for file in files]
    for given in (
        classify(files, **windows),
        classify((file for file in files), **windows),
        classify(Rows(), **windows),
    ):
        for segments, other in zip(given, expected, strict=True):
            assert_same(segments, other)
    for segments, other in zip(classify(files, stream=True, **windows), expected, strict=True):
        assert_same(segments, other)
    assert classify([], **windows) == []


def test_arguments_of_the_construction_hold_for_recordings(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    settings = {"window_seconds": 4, "stride_seconds": 2, "modality": "video", "top_k": 1}
    other = pipeline(
        "audio-video-emotion",
        model=classify.model,
        processor=classify.processor,
        batch_size=3,
        num_workers=0,
        **settings,
    )
    assert_same(other(media.film), classify(media.film, **settings))
    assert {segment["modalities"] for segment in other(media.film)} == {("video",)}


def test_progress_is_shown_in_seconds(
    classify: AudioVideoEmotionPipeline, media: Any, capsys: pytest.CaptureFixture
) -> None:
    classify(media.film, window_seconds=4, stride_seconds=2)
    assert "recording" not in capsys.readouterr().err
    classify(media.film, window_seconds=4, stride_seconds=2, progress=True)
    assert "recording: 100%" in capsys.readouterr().err.replace(" 99%", "100%")


def test_segments_can_be_drawn(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    segments = classify(media.film, window_seconds=4, stride_seconds=2, min_score=0.9)
    nothing = {**segments[0], "start_seconds": 20.0, "end_seconds": 22.0, "label": None, "scores": []}
    figure = draw_timeline([*segments, nothing], labels=list(classify.model.config.label2id))
    (line, *_), labels = figure.axes[0].get_lines(), [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(line.get_xdata()) == len(segments)
    assert ("unsure" in labels) == any(segment["label"] is None for segment in segments)


# Bad recordings and bad arguments


def test_a_bad_recording_raises_or_is_skipped(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    windows = {"window_seconds": 4, "stride_seconds": 2}
    with pytest.raises(MediaError, match=r"broken\.mp4: cannot be decoded"):
        classify([media.film, media.broken], **windows)
    bad, missing, good = classify([media.broken, "missing.mp4", media.film], on_error="skip", **windows)
    assert (bad["error_type"], bad["segments"]) == ("MediaError", [])
    assert "missing.mp4: no such file" in missing["error"]
    assert_same(good, classify(media.film, **windows))
    (last,) = classify(media.broken, on_error="skip", stream=True, **windows)
    assert set(last) == {"error", "error_type"}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_what_was_judged_before_an_error_is_not_lost(
    classify: AudioVideoEmotionPipeline, media: Any, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    read = MediaFile.read

    def failing(self: MediaFile, start_seconds: float = 0.0, *arguments: Any, **settings: Any) -> Any:
        if start_seconds >= 6.0:
            raise MediaError("film.mp4", "is damaged from here on.")
        return read(self, start_seconds, *arguments, **settings)

    monkeypatch.setattr(MediaFile, "read", failing)
    windows = {"window_seconds": 2, "stride_seconds": 2, "num_workers": num_workers}
    answer = classify(media.film, on_error="skip", **windows)
    assert (answer["error"], answer["error_type"]) == ("film.mp4: is damaged from here on.", "MediaError")
    assert times(answer["segments"]) == [(0.0, 2.0), (2.0, 4.0)]
    with pytest.raises(MediaError, match="damaged from here on"):
        classify(media.film, **windows)


def test_no_recording_stays_open(classify: AudioVideoEmotionPipeline, media: Any) -> None:
    windows = {"window_seconds": 4, "stride_seconds": 2}
    classify(media.film, **windows)
    before = psutil.Process().num_fds()
    for file in (media.film, media.sound):
        classify(file, **windows)
        segments = classify(file, stream=True, **windows)
        next(segments)
        segments.close()
    assert psutil.Process().num_fds() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_seconds": 0}, "`window_seconds` must be above 0, got 0"),
        ({"window_seconds": float("nan")}, "`window_seconds` must be above 0, got nan"),
        ({"window_seconds": 4, "stride_seconds": 5}, "at most `window_seconds` = 4, got 5"),
        ({"window_seconds": 4, "stride_seconds": 0}, "`stride_seconds` must be above 0 and at most"),
        ({"stride_seconds": 2}, "`stride_seconds` needs `window_seconds`"),
        ({"stream": True}, "`stream` needs `window_seconds`"),
        ({"window_seconds": 4, "return_embeddings": True}, "`return_embeddings` cannot be used with `window_seconds`"),
        ({"window_seconds": 4, "max_seconds": 3}, "`max_seconds` cannot be used with `window_seconds`"),
        ({"window_seconds": 4, "min_score": 1.5}, "`min_score` must be between 0 and 1, got 1.5"),
    ],
)
def test_arguments_without_sense_are_named(
    classify: AudioVideoEmotionPipeline, media: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classify(media.film, **arguments)
