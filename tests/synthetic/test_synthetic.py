"""The generated corpus: what is in a clip, and what is in the folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchcodec.decoders import AudioDecoder, VideoDecoder

from foal_hf.corpora import mp4_encoders
from foal_hf.synthetic import (
    EMOTIONS,
    STATEMENT,
    generate_corpus,
    generate_recording,
    read_metadata,
    synthesize_clip,
    synthesize_recording,
)
from foal_hf.synthetic.clips import draw_affect, make_speaker, plan_clip
from foal_hf.synthetic.drawing import draw_faces
from foal_hf.synthetic.face import FacePose
from foal_hf.synthetic.voice import CONTROL_RATE, synthesize_voice


SMALL: dict[str, Any] = {"num_speakers": 2, "clips_per_emotion": 1, "seed": 7, "progress": False}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_corpus(tmp_path_factory.mktemp("generated") / "corpus", **SMALL)


def still_pose(num_frames: int = 1, **tracks: float) -> FacePose:
    """A face that looks ahead, with open eyes and a closed mouth."""
    rest = dict.fromkeys(FacePose.__dataclass_fields__, 0.0) | {"eye_opening": 1.0} | tracks
    return FacePose(**{name: np.full(num_frames, value) for name, value in rest.items()})


def changed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much each pixel differs, `(height, width)`."""
    return np.abs(first[0].astype(float) - second[0].astype(float)).sum(axis=-1)


def lip_height(face: np.ndarray, column: int) -> float:
    """Row of the darkest pixel of the mouth in one column of a 192-pixel picture; rows count downwards."""
    rows = slice(112, 148)
    return 112 + int(face[0, rows, column].astype(int).sum(axis=-1).argmin())


def median_pitch_hz(waveform: np.ndarray) -> float:
    """Median over loud 40 ms windows of the strongest lag between 70 Hz and 400 Hz."""
    windows = np.lib.stride_tricks.sliding_window_view(waveform, 640)[::160].astype(float)
    energy = (windows**2).sum(axis=1)
    windows = windows[energy > np.quantile(energy, 0.6)]
    correlation = np.fft.irfft(np.abs(np.fft.rfft(windows, 2048)) ** 2)[:, 40:229]
    return float(np.median(16_000 / (40 + correlation.argmax(axis=1))))


def energy_above(waveform: np.ndarray, frequency_hz: float) -> float:
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return float(power[np.fft.rfftfreq(len(waveform), 1 / 16_000) > frequency_hz].sum() / power.sum())


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_sound_and_pictures_of_a_clip_last_equally_long(emotion: str) -> None:
    waveform, frames = synthesize_clip(emotion, speaker=3)

    assert waveform.dtype == np.float32 and frames.dtype == np.uint8
    assert frames.shape[1:] == (96, 96, 3)
    assert len(waveform) * 25 == len(frames) * 16_000
    assert 1.2 <= len(frames) / 25 <= 2.4
    assert np.isfinite(waveform).all() and 0.05 < np.abs(waveform).max() <= 1.0


def test_equal_arguments_give_equal_clips_and_other_arguments_others() -> None:
    waveform, frames = synthesize_clip("sad", speaker=5, clip=2, seed=11)
    again = synthesize_clip("sad", speaker=5, clip=2, seed=11)

    assert np.array_equal(waveform, again[0]) and np.array_equal(frames, again[1])
    for other in ({"speaker": 7}, {"clip": 3}, {"seed": 13}):
        arguments = {"speaker": 5, "clip": 2, "seed": 11} | other
        assert not np.array_equal(waveform[:1000], synthesize_clip("sad", **arguments)[0][:1000])


def test_a_plan_tells_the_length_of_its_clip() -> None:
    for clip in range(3):
        waveform, _ = synthesize_clip("angry", speaker=1, clip=clip)
        assert plan_clip("angry", speaker=1, clip=clip).seconds * 16_000 == pytest.approx(len(waveform))


@pytest.mark.parametrize("speaker", [0, 1, 2, 3])
def test_activation_raises_pitch_and_brightens_the_voice(speaker: int) -> None:
    traits, steps = make_speaker(speaker).voice, 3 * CONTROL_RATE
    calm, aroused = (
        synthesize_voice(traits, np.full(steps, level), np.zeros(steps), np.random.default_rng(3)).waveform
        for level in (-1.0, 1.0)
    )

    assert median_pitch_hz(aroused) > 1.15 * median_pitch_hz(calm)
    assert energy_above(aroused, 1000.0) > 2 * energy_above(calm, 1000.0)


def test_activation_raises_loudness() -> None:
    steps = 2 * CONTROL_RATE

    def mean_level(activation: float) -> float:
        voices = (
            synthesize_voice(
                make_speaker(index).voice, np.full(steps, activation), np.zeros(steps), np.random.default_rng(index)
            )
            for index in range(7)
        )
        return float(np.mean([voice.waveform.std() for voice in voices]))

    assert mean_level(1.0) > 1.3 * mean_level(-1.0)


@pytest.mark.parametrize("speaker", [0, 1, 2, 3])
def test_valence_lifts_the_corners_of_the_mouth(speaker: int) -> None:
    traits = replace(make_speaker(speaker).face, glasses=False)
    happy, sad = (draw_faces(traits, still_pose(valence=level), image_size=192) for level in (1.0, -1.0))
    corner = round(96 * (1 + 0.85 * traits.mouth_width))

    assert lip_height(happy, corner) < lip_height(happy, 96)
    assert lip_height(sad, corner) > lip_height(sad, 96)


def test_the_mouth_corners_still_show_in_a_picture_of_48_pixels() -> None:
    traits = make_speaker(4).face
    happy, sad = (draw_faces(traits, still_pose(valence=level), image_size=48) for level in (1.0, -1.0))

    assert changed(happy, sad)[30:38].max() > 100


def test_the_brows_carry_the_faint_cue_to_activation_and_the_mouth_does_not() -> None:
    traits = replace(make_speaker(0).face, glasses=False)
    calm, aroused = (draw_faces(traits, still_pose(brow_slant=level)) for level in (-1.0, 1.0))
    difference = changed(calm, aroused)

    assert difference[:48].max() > 100
    assert difference[56:].max() == 0


def test_each_modality_tells_its_own_dimension_and_little_of_the_other() -> None:
    rng = np.random.default_rng(5)
    affects = {emotion: [draw_affect(emotion, rng) for _ in range(499)] for emotion in EMOTIONS}

    def right(name: str, positive: tuple[str, str]) -> float:
        """Share of clips on the right side of zero."""
        sides = [(getattr(one, name) > 0) == (emotion in positive) for emotion in EMOTIONS for one in affects[emotion]]
        return float(np.mean(sides))

    assert right("activation", ("happy", "angry")) > 0.99
    assert right("valence", ("happy", "neutral")) > 0.99
    assert 0.6 < right("voice_valence", ("happy", "neutral")) < 0.78
    assert 0.6 < right("face_activation", ("happy", "angry")) < 0.78


def test_the_mouth_opens_while_the_voice_sounds() -> None:
    traits, steps = make_speaker(2).voice, 5 * CONTROL_RATE
    voice = synthesize_voice(traits, np.zeros(steps), np.zeros(steps), np.random.default_rng(17))
    loudness = np.sqrt((voice.waveform.reshape(steps, -1) ** 2).mean(axis=1))
    loudness = np.convolve(loudness, np.full(31, 1 / 31), mode="same")

    lags = range(-50, 51)
    agreement = [np.corrcoef(np.roll(loudness, lag), voice.opening)[0, 1] for lag in lags]
    assert agreement[50] > 0.6
    assert abs(lags[int(np.argmax(agreement))]) <= 8  # less than one picture


def test_sound_and_mouth_move_together_in_the_file(tmp_path: Path) -> None:
    parts = generate_recording(tmp_path / "recording.mp4", ["neutral", "neutral"], seconds_each=3.0, speaker=1)
    frames = VideoDecoder(tmp_path / "recording.mp4").get_all_frames().data.float()
    samples = AudioDecoder(tmp_path / "recording.mp4").get_all_samples().data[0].numpy()
    num_frames = round(parts[-1][1] * 25)

    mouth = frames[:, :, 58:76, 36:60]
    opening = (mouth - mouth[0]).abs().mean(dim=(1, 2, 3)).numpy()  # the recording begins with a closed mouth
    loudness = np.sqrt((samples[: num_frames * 640].reshape(num_frames, 640) ** 2).mean(axis=1))
    loudness = np.convolve(loudness, [0.25, 0.5, 0.25], mode="same")  # lips are slower than the voice

    lags = range(-10, 11)
    agreement = [np.corrcoef(np.roll(loudness, lag), opening)[0, 1] for lag in lags]
    assert agreement[10] > 0.5
    assert abs(lags[int(np.argmax(agreement))]) <= 1


def test_other_picture_sizes_show_the_same_face() -> None:
    _, small = synthesize_clip("happy", speaker=6, image_size=64)
    _, large = synthesize_clip("happy", speaker=6, image_size=128)
    shrunk = large.reshape(len(large), 64, 2, 64, 2, 3).mean(axis=(2, 4))

    assert small.shape[1:] == (64, 64, 3)
    assert np.abs(shrunk - small).mean() < 2.0


@pytest.mark.parametrize("image_size", [15, 97])
def test_a_picture_size_that_cannot_be_encoded_is_refused(image_size: int) -> None:
    with pytest.raises(ValueError, match=str(image_size)):
        synthesize_clip("happy", image_size=image_size)


def test_an_unknown_emotion_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"happy.*neutral.*sad.*angry.*'bored'"):
        synthesize_clip("bored")


def test_a_recording_goes_through_its_emotions_without_gaps() -> None:
    waveform, frames, parts = synthesize_recording(["sad", "happy", "sad"], speaker=1, seconds_each=1.01, seed=2)

    assert parts == [(0.0, 1.0, "sad"), (1.0, 2.0, "happy"), (2.0, 3.0, "sad")]
    assert len(waveform) == 48_000 and len(frames) == 75


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"emotions": []}, "at least one"),
        ({"emotions": "sad"}, "list"),
        ({"emotions": ["sad"], "seconds_each": 0.5}, "0.5"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        synthesize_recording(**arguments)


def test_files_hold_h264_and_aac_of_equal_length(corpus: Path) -> None:
    for row in read_metadata(corpus):
        video, audio = VideoDecoder(row["video"]).metadata, AudioDecoder(row["audio"]).metadata
        assert (video.codec, video.pixel_format, video.average_fps) == ("h264", "yuv420p", 25)
        assert (audio.codec, audio.sample_rate, audio.num_channels) == ("aac", 16_000, 1)
        assert video.num_frames == round(row["seconds"] * 25)
        assert audio.duration_seconds == pytest.approx(row["seconds"], abs=0.065)  # AAC comes in blocks of 64 ms
        assert video.begin_stream_seconds == audio.begin_stream_seconds == 0


def test_files_hold_the_clip_that_their_name_tells(corpus: Path) -> None:
    waveform, frames = synthesize_clip("angry", speaker=1, clip=0, seed=7)
    file = corpus / "clips" / "speaker01" / "speaker01_angry_00.mp4"
    decoded = AudioDecoder(file).get_all_samples().data[0].numpy()[: len(waveform)]
    pictures = VideoDecoder(file, dimension_order="NHWC").get_all_frames().data.numpy()

    assert np.corrcoef(decoded, waveform)[0, 1] > 0.99
    assert np.abs(pictures.astype(float) - frames).mean() < 6.0


def test_the_table_has_every_clip_once_and_balanced(corpus: Path) -> None:
    rows = read_metadata(corpus)

    assert sorted(row["file_name"] for row in rows) == sorted(
        path.relative_to(corpus).as_posix() for path in corpus.rglob("*.mp4")
    )
    assert [row["emotion"] for row in rows] == list(EMOTIONS) * 2
    for row in rows:
        assert (row["valence"] > 3) == (row["emotion"] in ("happy", "neutral"))
        assert (row["activation"] > 3) == (row["emotion"] in ("happy", "angry"))
        assert all(1 <= row[name] <= 5 for name in ("valence", "activation"))


@pytest.mark.parametrize(
    ("num_speakers", "sizes"), [(2, (1, 0, 1)), (3, (1, 1, 1)), (16, (10, 2, 4)), (24, (15, 3, 6))]
)
def test_no_speaker_is_in_two_partitions(
    num_speakers: int, sizes: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foal_hf.synthetic.corpus._generate", lambda *arguments: None)  # the table needs no files
    folder = generate_corpus(tmp_path / "corpus", num_speakers=num_speakers, clips_per_emotion=1)
    speakers = [{row["speaker"] for row in read_metadata(folder, name)} for name in ("train", "validation", "test")]

    assert tuple(len(group) for group in speakers) == sizes
    assert len(set().union(*speakers)) == num_speakers


def test_the_folder_says_that_everything_is_generated(corpus: Path) -> None:
    assert STATEMENT in (corpus / "README.md").read_text()
    assert json.loads((corpus / "corpus.json").read_text())["statement"] == STATEMENT


def test_nothing_is_left_under_a_temporary_name(corpus: Path) -> None:
    assert not list(corpus.rglob("*.partial"))


def test_a_second_call_makes_only_what_is_missing(tmp_path: Path) -> None:
    folder = generate_corpus(tmp_path / "corpus", **SMALL)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    deleted = folder / "clips" / "speaker00" / "speaker00_sad_00.mp4"
    emptied = folder / "clips" / "speaker01" / "speaker01_happy_00.mp4"
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    deleted.unlink()
    emptied.write_bytes(b"")

    generate_corpus(folder, **SMALL)

    assert sorted(path for path in folder.rglob("*") if path.is_file()) == files
    for path, (content, mtime, inode) in before.items():
        assert path.read_bytes() == content
        untouched = (path.stat().st_mtime_ns, path.stat().st_ino) == (mtime, inode)
        assert untouched == (path not in (deleted, emptied)), path


def test_the_files_do_not_depend_on_the_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    other = generate_corpus(tmp_path / "corpus", **SMALL, num_workers=1)

    for path in corpus.rglob("*"):
        if path.is_file():
            assert (other / path.relative_to(corpus)).read_bytes() == path.read_bytes()


def test_other_parameters_in_the_same_folder_are_refused(corpus: Path) -> None:
    with pytest.raises(FileExistsError, match=r"'seed': 7.*'seed': 8.*another folder"):
        generate_corpus(corpus, **(SMALL | {"seed": 8}))


@pytest.mark.parametrize("name", ["thesis.tex", "corpus.json", "clips"])
def test_a_folder_of_somebody_else_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")

    with pytest.raises(FileExistsError, match=r"not changed.*Choose a"):
        generate_corpus(tmp_path, **SMALL)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "{}")]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("mine")

    with pytest.raises(FileExistsError, match="is a file"):
        generate_corpus(tmp_path / "corpus", **SMALL)


@pytest.mark.parametrize(
    ("name", "value"), [("num_speakers", 1), ("clips_per_emotion", 0), ("seed", -1), ("num_workers", 0)]
)
def test_a_number_that_is_too_small_is_named(name: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} must be at least .*{value}"):
        generate_corpus(tmp_path / "corpus", **(SMALL | {name: value}))
    assert not (tmp_path / "corpus").exists()


def test_a_missing_encoder_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp4_encoders, "VIDEO_ENCODER", "libnothing")

    with pytest.raises(RuntimeError, match=r"no encoder 'libnothing' \(H\.264\).*apt-get install ffmpeg"):
        mp4_encoders.check_encoders()


def test_a_partition_that_is_not_there_is_refused(corpus: Path) -> None:
    with pytest.raises(ValueError, match="'dev'"):
        read_metadata(corpus, "dev")


def test_reading_a_corpus_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="generate_corpus"):
        read_metadata(tmp_path)


def test_the_table_is_plain_csv(corpus: Path) -> None:
    with (corpus / "metadata.csv").open(newline="") as file:
        header = next(csv.reader(file))

    assert header == ["file_name", "emotion", "speaker", "gender", "partition", "valence", "activation", "seconds"]
