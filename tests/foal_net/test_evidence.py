"""What a clip holds to judge by, and what the pipeline makes of it: `auto`, `min_score`, calibration."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from media_builders import BEEP, CLOCK, make_clip, tone
from requirements import need
from tiny_models import tiny_config, tiny_model
from tiny_processors import picture, tiny_processor
from transformers import pipeline

from foal_hf import TINY_CHECKPOINT, AudioVideoEmotionPipeline, read_clip
from foal_hf.foal_net import evidence_foal_net
from foal_hf.foal_net.evidence_foal_net import measure_evidence, usable_part, why_nothing
from foal_hf.foal_net.media_foal_net import Clip
from foal_hf.synthetic import EMOTIONS, synthesize_clip


RATE = 16_000
SWEEP = "aevalsrc=0.3*sin(2*PI*(200+40*t)*t):s=22050:d=6"
MOVING = "testsrc=s=62x46:r=10:d=6"
SILENT, BLACK = "aevalsrc=0:s=22050:d=6", "color=c=black:s=62x46:r=10:d=6"


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("media")
    half = "aevalsrc='0.3*sin(2*PI*300*t)*lt(t,2.9)':s=22050:d=6"  # silent from 2.9 s on
    return SimpleNamespace(
        film=make_clip(folder / "film.mp4", video=MOVING, audio=SWEEP),
        silent=make_clip(folder / "silent.mp4", video=MOVING, audio=SILENT),
        black=make_clip(folder / "black.mp4", video=BLACK, audio=SWEEP),
        nothing=make_clip(folder / "nothing.mp4", video=BLACK, audio=SILENT),
        frozen=make_clip(folder / "frozen.mp4", video="smptebars=s=62x46:r=10:d=6", audio=SWEEP),
        half=make_clip(folder / "half.mp4", video=BLACK, audio=half),
        mute=make_clip(folder / "mute.mp4", video=BLACK, audio=None),
        clock=make_clip(folder / "clock.mp4", video=CLOCK, audio=BEEP),
    )


@pytest.fixture(scope="module")
def classify() -> AudioVideoEmotionPipeline:
    model = tiny_model()
    return pipeline("audio-video-emotion", model=model, processor=tiny_processor())


@pytest.fixture
def fresh_detector() -> Any:
    """The detector is looked for anew in the test and after it."""
    evidence_foal_net._speech_detector.cache_clear()
    yield
    evidence_foal_net._speech_detector.cache_clear()


def sound_of(waveform: torch.Tensor, **settings: Any) -> dict[str, Any]:
    clip = Clip(waveform.float(), RATE, None, None, 0.0, len(waveform) / RATE)
    return measure_evidence(clip, **{"detect_speech": False, **settings})["audio"]


def picture_of(frames: np.ndarray | torch.Tensor) -> dict[str, Any]:
    frames = torch.as_tensor(frames)
    frames = frames.movedim(-1, 1) if frames.shape[-1] == 3 else frames
    return measure_evidence(Clip(None, None, frames, torch.arange(len(frames)), 0.0, 1.0))["video"]


def scores(entries: Any) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in entries}


# Sound


@pytest.mark.parametrize(("amplitude", "silent"), [(0.0, True), (0.0013, True), (0.0015, False), (0.5, False)])
def test_sound_is_silent_below_minus_60_decibels(amplitude: float, silent: bool) -> None:
    measured = sound_of(tone(440, RATE, 1.0, amplitude))  # a sine is 3 dB below its peak
    assert measured["silent"] is silent


def test_one_word_in_a_long_silence_is_no_silence() -> None:
    waveform = torch.zeros(RATE * 60)
    waveform[8_000:9_600] = tone(440, RATE, 0.1, 0.003)
    measured = sound_of(waveform)
    assert measured["level_dbfs"] < -60 and not measured["silent"]


@pytest.mark.parametrize(("amplitude", "level"), [(1.0, -3.0), (0.1, -23.0), (0.0, -120.0)])
def test_the_level_is_in_decibels_of_full_scale(amplitude: float, level: float) -> None:
    assert sound_of(tone(440, RATE, 1.0, amplitude))["level_dbfs"] == pytest.approx(level, abs=0.05)


def test_sound_is_clipped_where_its_peaks_are_cut() -> None:
    loud = tone(440, RATE, 1.0, 2.0)
    assert sound_of(loud.clamp(-1, 1))["clipped"]
    assert not sound_of(tone(440, RATE, 1.0, 0.9))["clipped"]
    few = tone(440, RATE, 1.0, 0.5)
    few[:15] = 1.0  # 15 of 16,000 are less than a thousandth
    assert not sound_of(few)["clipped"]
    few[:16] = 1.0
    assert sound_of(few)["clipped"]


# Picture


def test_pictures_are_black_where_nearly_all_of_each_is() -> None:
    dark = np.full((3, 50, 40, 3), 20, np.uint8)
    assert picture_of(dark)["black"]
    dark[1, 0, :39] = 255  # 39 of 2,000 pixels: a logo
    assert picture_of(dark)["black"]
    dark[1, 1, :2] = 255
    assert not picture_of(dark)["black"]
    assert not picture_of(np.full((2, 50, 40, 3), 30, np.uint8))["black"]


def test_pictures_are_frozen_where_none_differs_from_the_first() -> None:
    still = np.stack([picture(41, 31)] * 4)
    assert picture_of(still)["frozen"] is True
    noisy = np.clip(still.astype(int) + np.random.default_rng(0).integers(-1, 2, still.shape), 0, 255).astype(np.uint8)
    assert picture_of(noisy)["frozen"] is True
    fading = np.stack([np.full((31, 41, 3), 100 + 2 * step, np.uint8) for step in range(4)])
    assert picture_of(fading)["frozen"] is False
    assert picture_of(still[:1])["frozen"] is None


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_talking_face_is_neither_black_nor_frozen_nor_silent(emotion: str) -> None:
    waveform, frames = synthesize_clip(emotion, speaker=2, clip=1)
    assert picture_of(frames[::5]) == {"black": False, "frozen": False}
    measured = sound_of(torch.from_numpy(waveform))
    assert not measured["silent"] and not measured["clipped"]


def test_films_are_what_they_are_called(media: SimpleNamespace) -> None:
    def measured(file: Path) -> tuple[bool, bool, bool]:
        evidence = measure_evidence(read_clip(file), detect_speech=False)
        return evidence["audio"]["silent"], evidence["video"]["black"], evidence["video"]["frozen"]

    assert measured(media.film) == (False, False, False)
    assert measured(media.silent) == (True, False, False)
    assert measured(media.black) == (False, True, True)
    assert measured(media.nothing) == (True, True, True)
    assert measured(media.frozen) == (False, False, True)
    assert measure_evidence(read_clip(media.mute))["audio"] is None


# Speech


def test_without_the_extra_nobody_knows_of_speech(fresh_detector: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)  # importing it raises ImportError
    measured = sound_of(tone(440, RATE, 1.0), detect_speech=True)
    assert (measured["speech"], measured["speech_share"]) == (None, None)


def test_speech_is_the_share_that_the_detector_finds(fresh_detector: None, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("silero_vad")
    heard = []

    def find(waveform: torch.Tensor, model: str, sampling_rate: int) -> list[dict[str, int]]:
        heard.append((len(waveform), model, sampling_rate))
        return [{"start": 0, "end": 2_000}, {"start": 8_000, "end": 10_000}]

    module.load_silero_vad = lambda: "model"
    module.get_speech_timestamps = find
    monkeypatch.setitem(sys.modules, "silero_vad", module)
    for rate in (RATE, 8_000):
        clip = Clip(tone(440, rate, 1.0), rate, None, None, 0.0, 1.0)
        measured = measure_evidence(clip)["audio"]
        assert (measured["speech"], measured["speech_share"]) == (True, 0.25)
    assert heard == [(RATE, "model", RATE)] * 2
    assert sound_of(tone(440, RATE, 1.0), detect_speech=False)["speech"] is None
    assert sound_of(torch.zeros(RATE), detect_speech=True)["speech"] is False
    assert len(heard) == 2  # nobody is asked about silence


def test_the_detector_knows_a_voice_from_a_tone_and_from_noise(fresh_detector: None) -> None:
    need("silero-vad")
    num_threads = torch.get_num_threads()
    voice = torch.from_numpy(synthesize_clip("angry", speaker=1, clip=1, seed=3)[0])
    noise = 0.1 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    assert sound_of(voice, detect_speech=True)["speech"] is True
    for waveform in (noise, tone(440, RATE, 3.0)):
        assert sound_of(waveform, detect_speech=True)["speech"] is False
    assert torch.get_num_threads() == num_threads


# What `modality="auto"` uses


def test_what_carries_nothing_is_left_out(media: SimpleNamespace) -> None:
    for file, used in (
        (media.film, ("audio", "video")),
        (media.silent, ("video",)),
        (media.black, ("audio",)),
        (media.frozen, ("audio", "video")),
    ):
        clip = read_clip(file)
        assert usable_part(clip, measure_evidence(clip, detect_speech=False)).modalities == used
    clip = read_clip(media.nothing)
    evidence = measure_evidence(clip, detect_speech=False)
    assert usable_part(clip, evidence) is None
    assert why_nothing(evidence) == "nothing to score: the audio is silent, the video is black"


def test_auto_is_what_the_usable_modality_says(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    for file, modality in ((media.film, "both"), (media.silent, "video"), (media.black, "audio")):
        for batch_size in (1, 2):
            auto = classify([file, file], modality="auto", batch_size=batch_size)[1]
            assert scores(auto) == pytest.approx(scores(classify(file, modality=modality)), abs=1e-5)
    both = scores(classify(media.silent))
    assert scores(classify(media.silent, modality="auto")) != pytest.approx(both, abs=1e-4)


def test_nothing_to_judge_is_no_label_and_the_reason(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    nothing = {"label": None, "score": 0.0, "reason": "nothing to score: the audio is silent, the video is black"}
    for batch_size in (1, 3):
        film, answer, mute = classify([media.film, media.nothing, media.mute], modality="auto", batch_size=batch_size)
        assert set(scores(film)) == {"happy", "neutral", "sad", "angry"}
        assert answer == [nothing]
        assert mute == [{**nothing, "reason": "nothing to score: no audio, the video is black"}]
    full = classify(media.nothing, modality="auto", return_evidence=True, return_embeddings=True)
    assert full["scores"] == [nothing] and full["modalities"] == ()
    assert full["audio_embeds"] is None and full["evidence"]["audio"]["silent"]


def test_the_answer_says_what_it_was_based_on(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    answer = classify(media.silent, modality="auto", return_evidence=True)
    assert answer["modalities"] == ("video",)
    assert answer["evidence"]["audio"]["silent"] and not answer["evidence"]["video"]["black"]
    assert set(answer) == {"scores", "modalities", "evidence", "start_seconds", "end_seconds", "notes"}


def test_a_recording_uses_what_carries_anything_window_by_window(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    segments = classify(media.half, modality="auto", window_seconds=2, stride_seconds=1)
    assert [segment["modalities"] for segment in segments] == [("audio",)] * 4 + [()] * 2
    assert [segment["evidence"]["audio"]["silent"] for segment in segments] == [False] * 3 + [True] * 3
    last = segments[-1]
    assert (last["label"], last["score"], last["scores"]) == (None, 0.0, [])
    assert last["reason"] == "nothing to score: the audio is silent, the video is black"


# Unsure


def test_below_min_score_the_label_is_none(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    sure = classify(media.film)
    best = sure[0]["score"]
    assert classify(media.film, min_score=best) == sure
    first, *others = classify(media.film, min_score=best + 0.01)
    assert (first["label"], first["score"]) == (None, best)
    assert first["reason"] == f"unsure: the best score is {best:.2f}, below {best + 0.01:g}"
    assert others == sure
    assert classify(media.film, min_score=1.0, top_k=1)[1:] == sure[:1]


def test_below_min_score_the_label_of_a_segment_is_none(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    sure = classify(media.film, window_seconds=2, stride_seconds=2)
    limit = sorted(segment["score"] for segment in sure)[1]
    for segment, other in zip(
        classify(media.film, window_seconds=2, stride_seconds=2, min_score=limit), sure, strict=True
    ):
        assert segment["scores"] == other["scores"] and segment["score"] == other["score"]
        is_sure = other["score"] >= limit
        assert segment["label"] == (other["label"] if is_sure else None)
        assert (segment["reason"] is None) == is_sure


def test_the_temperature_of_the_checkpoint_calibrates_the_scores(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, segments = classify(media.film), classify(media.film, window_seconds=3, stride_seconds=3)
    monkeypatch.setattr(classify.model.config, "calibration_temperature", 2.5)
    for answer, plain in (
        (classify(media.film), before),
        *zip(
            [segment["scores"] for segment in classify(media.film, window_seconds=3, stride_seconds=3)],
            [segment["scores"] for segment in segments],
            strict=True,
        ),
    ):
        softened = np.array([entry["score"] for entry in plain]) ** (1 / 2.5)
        assert [entry["label"] for entry in answer] == [entry["label"] for entry in plain]
        assert [entry["score"] for entry in answer] == pytest.approx((softened / softened.sum()).tolist(), abs=1e-5)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_without_sense_is_refused(temperature: float) -> None:
    with pytest.raises(
        StrictDataclassClassValidationError,
        match=f"`calibration_temperature` is {temperature}; expected more than 0, or None",
    ):
        tiny_config(calibration_temperature=temperature)


def test_the_temperature_is_saved_with_the_checkpoint(tmp_path: Path) -> None:
    assert tiny_config().calibration_temperature is None
    tiny_config(calibration_temperature=1.7).save_pretrained(tmp_path)
    assert type(tiny_config()).from_pretrained(tmp_path).calibration_temperature == 1.7


# What modality dropout is for


@pytest.mark.slow
def test_the_tiny_checkpoint_tells_something_from_either_modality_alone() -> None:
    classify = pipeline("audio-video-emotion", model=str(TINY_CHECKPOINT), batch_size=16)
    clips = [
        (emotion, *synthesize_clip(emotion, speaker=speaker, clip=clip, seed=0))
        for emotion in EMOTIONS
        for speaker in range(18, 24)  # held out in training
        for clip in range(3)
    ]
    accuracy = {}
    for name in ("both", "audio", "video"):
        rows = [
            {
                "audio": None if name == "video" else waveform,
                "video": None if name == "audio" else torch.from_numpy(frames)[::5],
                "sampling_rate": RATE,
            }
            for _, waveform, frames in clips
        ]
        answers = classify(rows, top_k=1)
        accuracy[name] = np.mean([answer[0]["label"] == clip[0] for answer, clip in zip(answers, clips, strict=True)])
    # Either alone leaves two of the four emotions open; chance is a quarter.
    assert accuracy["both"] > 0.9
    assert 0.4 < accuracy["audio"] < 0.7 and 0.4 < accuracy["video"] < 0.7
