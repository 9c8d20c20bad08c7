"""Clips longer than a window: all of them is used, for one prediction."""

import io
import itertools
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from media_builders import make_clip, tone
from tiny_models import tiny_model
from tiny_processors import tiny_processor
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline, MediaFile, read_clip
from foal_hf.foal_net import recordings_foal_net
from foal_hf.foal_net.evidence_foal_net import EvidenceMeter, measure_evidence
from foal_hf.foal_net.timeline_foal_net import ScoredSegment, merge_into_one


WINDOW_SECONDS = 2.0
SECONDS = 7.1  # three windows, and one of 1.1 s


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Recordings whose video and audio differ from second to second."""
    folder = tmp_path_factory.mktemp("media")
    sweep = f"aevalsrc=0.3*sin(2*PI*(200+40*t)*t):s=22050:d={SECONDS}"
    moving = f"testsrc=s=62x46:r=10:d={SECONDS}"
    return SimpleNamespace(
        both=make_clip(folder / "both.mp4", video=moving, audio=sweep),
        audio=make_clip(folder / "audio.wav", video=None, audio=sweep),
        video=make_clip(folder / "video.mp4", video=moving, audio=None),
        brief=make_clip(folder / "brief.mp4", video="testsrc=s=62x46:r=10:d=1.3", audio=sweep.replace("7.1", "1.3")),
    )


@pytest.fixture(scope="module")
def classify() -> AudioVideoEmotionPipeline:
    model = tiny_model()
    return pipeline("audio-video-emotion", model=model, processor=tiny_processor(max_seconds=WINDOW_SECONDS))


def scores(entries: Any) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


def mean_of_windows(classify: AudioVideoEmotionPipeline, file: Path, ends: list[float], **settings: Any) -> Any:
    """Of windows that touch, each weighted by its seconds."""
    windows = [
        scores(classify(file, start_seconds=start, end_seconds=end, max_seconds=None, **settings))
        for start, end in itertools.pairwise([0.0, *ends])
    ]
    seconds = np.diff([0.0, *ends])
    return {label: float(np.average([window[label] for window in windows], weights=seconds)) for label in windows[0]}


@pytest.mark.parametrize("source", ["both", "audio", "video"])
def test_a_long_clip_has_the_mean_of_its_windows(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, source: str
) -> None:
    file = getattr(media, source)
    end = read_clip(file, max_seconds=None).end_seconds
    expected = mean_of_windows(classify, file, [2.0, 4.0, 6.0, end])
    result = classify(file)
    assert scores(result) == pytest.approx(expected, abs=1e-5)
    assert scores(result) != pytest.approx(scores(classify(file, first_seconds=WINDOW_SECONDS)), abs=1e-3)
    assert [entry["score"] for entry in result] == sorted(scores(result).values(), reverse=True)


def test_the_result_says_which_range_was_used(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    def used(**settings: Any) -> tuple[float, float]:
        result = classify(media.both, return_evidence=True, detect_speech=False, **settings)
        return result["start_seconds"], result["end_seconds"]

    assert used() == (0.0, pytest.approx(SECONDS, abs=0.05))
    assert used(first_seconds=3.0) == (0.0, 3.0)
    assert used(start_seconds=1.5, first_seconds=3.0) == (1.5, 4.5)
    assert used(start_seconds=1.5, end_seconds=2.0, first_seconds=3.0) == (1.5, 2.0)
    assert used(max_seconds=1.1) == (0.0, 1.1)


def test_the_first_seconds_are_those_of_a_clip_that_ends_there(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    for seconds in (1.3, 3.4):
        result = scores(classify(media.both, first_seconds=seconds))
        assert result == pytest.approx(scores(classify(media.both, end_seconds=seconds)), abs=1e-6)
    segments = classify(media.both, window_seconds=2, first_seconds=3.0)
    assert [segment["end_seconds"] for segment in segments] == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="`first_seconds` must be above 0, got 0"):
        classify(media.both, first_seconds=0)


def test_a_short_remainder_belongs_to_the_last_window(classify: AudioVideoEmotionPipeline) -> None:
    audio = tone(440, 16_000, 4.19) * torch.linspace(0, 1, 67_040)
    for seconds, ends in ((4.19, [2.0, 4.19]), (4.21, [2.0, 4.0, 4.21])):
        clip = {"audio": torch.nn.functional.pad(audio, (0, round(seconds * 16_000) - 67_040)), "sampling_rate": 16_000}
        assert scores(classify(clip)) == pytest.approx(mean_of_windows(classify, clip, ends), abs=1e-6)


def test_embeddings_of_a_long_clip_are_unit_vectors(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    result = classify(media.both, return_embeddings=True)
    parts = [
        classify(media.both, start_seconds=start, end_seconds=start + 2.0, return_embeddings=True)
        for start in (0.0, 2.0, 4.0, 6.0)
    ]
    for name in ("audio_embeds", "video_embeds"):
        assert np.linalg.norm(result[name]) == pytest.approx(1, abs=1e-5)
        mean = sum(part[name] * (part["end_seconds"] - part["start_seconds"]) for part in parts)
        assert result[name] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(3, 0), (2, 2), (1, 2)])
def test_batches_and_workers_change_nothing_for_clips_of_any_length(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, batch_size: int, num_workers: int
) -> None:
    clips = [media.both, media.brief, media.audio, "missing.mp4", media.brief, media.video, media.brief]
    expected = [scores(classify(clip)) for clip in clips if clip != "missing.mp4"]
    results = classify(clips, batch_size=batch_size, num_workers=num_workers, on_error="skip")
    assert "missing.mp4: no such file" in results.pop(3)["error"]
    for result, other in zip(results, expected, strict=True):
        assert scores(result) == pytest.approx(other, abs=1e-5)


def test_windows_of_several_clips_share_a_batch(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    forward = classify.forward
    monkeypatch.setattr(classify, "forward", lambda inputs: sizes.append(len(inputs["clip"])) or forward(inputs))
    classify([media.both, media.brief, media.audio], batch_size=3)
    assert sizes == [3, 3, 3]  # 4, 1 and 4 windows


def test_results_come_as_soon_as_their_clip_is_scored(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    taken = []

    def clips() -> Any:
        for clip in (media.both, media.brief, media.audio):
            taken.append(clip)
            yield clip

    results = iter(classify(clips()))
    next(results)
    assert taken[-1] != media.audio
    assert len(list(results)) == 2


def test_results_of_a_dataset_have_a_length(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Path:
            return media.brief

    assert len(classify(Rows(), batch_size=2)) == 2
    with pytest.raises(TypeError, match="number of clips is not known"):
        len(classify(clip for clip in [media.brief]))


# How it is read


def test_a_long_recording_is_read_in_order_with_the_same_result(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, original = [], MediaFile.__init__

    def watched(self: MediaFile, *arguments: Any, in_order: bool = False, **settings: Any) -> None:
        opened.append(in_order)
        original(self, *arguments, in_order=in_order, **settings)

    monkeypatch.setattr(MediaFile, "__init__", watched)
    expected = [scores(classify(file)) for file in (media.both, media.audio)]
    assert opened == [False, False]
    monkeypatch.setattr(recordings_foal_net, "_LONGEST_SEEKING_SECONDS", 5.0)
    opened.clear()
    assert scores(classify(media.both)) == pytest.approx(expected[0], abs=1e-5)
    assert opened == [False, True]
    opened.clear()
    classify(media.both, start_seconds=2.0, end_seconds=6.5)
    assert opened == [False]  # a part that is short enough


def test_a_stream_that_cannot_be_read_twice_is_opened_once(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.RawIOBase):
        def __init__(self, data: bytes):
            self._data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return False

        def read(self, size: int = -1) -> bytes:
            return self._data.read(size)

    monkeypatch.setattr(recordings_foal_net, "_LONGEST_SEEKING_SECONDS", 5.0)
    result = scores(classify(Stream(media.both.read_bytes())))
    assert result == pytest.approx(scores(classify(media.both)), abs=1e-5)


def test_windows_in_memory_do_not_grow_with_the_recording(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, scored = [], []
    forward, original = classify.forward, MediaFile.read

    def watched(self: MediaFile, *arguments: Any, **settings: Any) -> Any:
        read.append(arguments)
        return original(self, *arguments, **settings)

    monkeypatch.setattr(MediaFile, "read", watched)
    monkeypatch.setattr(classify, "forward", lambda inputs: scored.append(len(read)) or forward(inputs))
    classify(media.both)
    assert scored == [2, 3, 4, 4]  # one more window than is scored, to see whether it is the last


# What is said of it


def test_evidence_is_that_of_the_whole_recording(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    result = classify(media.both, return_evidence=True, detect_speech=False)
    assert result["evidence"] == measure_evidence(read_clip(media.both, max_seconds=None), detect_speech=False)


def test_evidence_of_parts_is_that_of_the_whole() -> None:
    waveform = torch.cat([torch.zeros(16_000), tone(440, 16_000, 1.0, 2.0).clamp(-1, 1), torch.zeros(32_000)])
    frames = torch.zeros(8, 3, 5, 7, dtype=torch.uint8)
    frames[6:] = 200

    def clip(start: int, stop: int) -> Any:
        from foal_hf import Clip

        samples = waveform[start * 16_000 : stop * 16_000]
        shown = frames[2 * start : 2 * stop]
        return Clip(samples, 16_000, shown, torch.arange(len(shown)) / 2, float(start), float(stop))

    meter = EvidenceMeter(detect_speech=False)
    for start in range(4):
        meter.add(clip(start, start + 1))
        if start == 2:
            assert meter.evidence()["video"] == {"black": True, "frozen": True}
    whole = measure_evidence(clip(0, 4), detect_speech=False)
    assert meter.evidence() == whole
    assert whole["audio"]["clipped"] and not whole["audio"]["silent"]
    assert whole["video"] == {"black": False, "frozen": False}


def test_what_the_reader_changed_is_said(
    classify: AudioVideoEmotionPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opposite = "aevalsrc=0.3*sin(2*PI*440*t)|-0.3*sin(2*PI*440*t):s=16000:d=5"
    file = make_clip(tmp_path / "opposite.wav", video=None, audio=opposite)
    with caplog.at_level(logging.WARNING):
        classify(file)
    (said,) = [record.getMessage() for record in caplog.records]
    note = classify(file, return_embeddings=True)["notes"][0]
    assert said == f"{file}: {note}." and "cancel" in note
    assert classify(file, return_evidence=True, detect_speech=False)["evidence"]["notes"] == [note]
    segments = classify(file, window_seconds=2)
    assert {tuple(segment["evidence"]["notes"]) for segment in segments} == {(note,)}


def test_auto_skips_what_is_empty_window_by_window(classify: AudioVideoEmotionPipeline, tmp_path: Path) -> None:
    half = make_clip(tmp_path / "half.mp4", video="color=c=black:s=62x46:r=10:d=4", audio=None)
    audio = torch.cat([torch.zeros(32_000), tone(440, 16_000, 2.0)])
    row = {"video": half, "audio": audio, "sampling_rate": 16_000}
    result = classify(row, modality="auto", return_evidence=True, detect_speech=False)
    loud = classify({"audio": audio[32_000:], "sampling_rate": 16_000})
    assert scores(result["scores"]) == pytest.approx(scores(loud), abs=1e-5)
    assert result["modalities"] == ("audio",)
    assert result["evidence"]["video"]["black"] and not result["evidence"]["audio"]["silent"]
    nothing = classify({**row, "audio": audio[:32_000]}, modality="auto")
    assert nothing == [
        {"label": None, "score": 0.0, "reason": "nothing to score: the audio is silent, the video is black"}
    ]


def test_one_window_keeps_its_scores_to_the_last_bit() -> None:
    values = torch.tensor([0.1, 0.2, 0.7])
    segment = ScoredSegment(0.3, 1.4, {}, 1.4, values, ("audio",), None)
    assert merge_into_one([segment]).scores.equal(values)
    nothing = ScoredSegment(1.4, 9.0, {"audio": None}, 9.0, None, (), "why not")
    merged = merge_into_one([segment, nothing])
    assert merged.scores.equal(values)
    assert (merged.start_seconds, merged.end_seconds, merged.modalities) == (0.3, 9.0, ("audio",))
    assert merged.evidence == {"audio": None}
    assert merge_into_one([nothing]).scores is None
