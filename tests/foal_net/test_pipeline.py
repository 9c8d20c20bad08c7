"""The pipeline: what it says, what it takes, that batches and workers change nothing, and bad files."""

import json
import logging
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from datasets import Audio, Dataset, Video
from media_builders import make_clip, tone
from PIL import Image
from requirements import need
from tiny_models import tiny_config, tiny_model
from tiny_processors import picture, tiny_processor
from torchcodec.decoders import VideoDecoder
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from foal_hf import (
    AudioVideoEmotionPipeline,
    FoalNetForEmotionClassification,
    FoalNetProcessor,
    MediaError,
    read_clip,
)


TASK = "audio-video-emotion"
LABELS = {"happy", "neutral", "sad", "angry"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A film with sound, one without, a sound file, and a broken film."""
    folder = tmp_path_factory.mktemp("media")
    broken = folder / "broken.mp4"
    broken.write_bytes(np.random.default_rng(0).bytes(5003))
    return SimpleNamespace(
        film=make_clip(folder / "film.mp4"),
        silent=make_clip(folder / "silent.mp4", audio=None),
        sound=make_clip(folder / "sound.wav", video=None),
        broken=broken,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classify(checkpoint: Path) -> AudioVideoEmotionPipeline:
    return pipeline(TASK, model=str(checkpoint))


def scores(result: Any) -> dict[str, float]:
    """One result as a mapping from labels."""
    return {entry["label"]: entry["score"] for entry in result}


def assert_same(results: Any, expected: Any) -> None:
    results, expected = list(results), list(expected)
    assert len(results) == len(expected)
    for result, other in zip(results, expected, strict=True):
        assert scores(result) == pytest.approx(scores(other), abs=1e-5)


# What it says


def test_scores_are_sorted_and_add_up_to_one(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    result = classify(media.film)
    values = [entry["score"] for entry in result]
    assert set(scores(result)) == LABELS
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1, abs=1e-5)


def test_scores_are_those_of_the_model(
    classify: AudioVideoEmotionPipeline, checkpoint: Path, media: SimpleNamespace
) -> None:
    model = FoalNetForEmotionClassification.from_pretrained(checkpoint).eval()
    inputs = FoalNetProcessor.from_pretrained(checkpoint)(videos=media.film, load_audio_from_video=True)
    with torch.no_grad():
        probabilities = model(**inputs).logits[0].softmax(-1).tolist()
    expected = {model.config.id2label[index]: value for index, value in enumerate(probabilities)}
    assert scores(classify(media.film)) == pytest.approx(expected, abs=1e-6)


def test_top_k_keeps_the_most_likely(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    assert classify(media.film, top_k=2) == classify(media.film)[:2]
    assert len(classify(media.film, top_k=99)) == len(LABELS)


def test_modality_chooses_what_is_looked_at(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    assert_same([classify(media.film, modality="video")], [classify({"video": media.film, "audio": None})])
    assert_same([classify(media.film, modality="audio")], [classify({"audio": media.film})])
    both, audio, video = (scores(classify(media.film, modality=name)) for name in ("both", "audio", "video"))
    assert len({tuple(sorted(result.items())) for result in (both, audio, video)}) == 3


def test_a_clip_is_judged_by_what_is_there(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    assert_same([classify(media.silent)], [classify(media.silent, modality="video")])
    assert_same([classify(media.sound)], [classify(media.sound, modality="audio")])
    with pytest.raises(MediaError, match=r"silent\.mp4: holds no audio"):
        classify(media.silent, modality="audio")


def test_embeddings_are_unit_vectors_of_what_is_there(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    clips = [media.film, media.silent, media.sound]
    for results in (classify(clips, return_embeddings=True), classify(clips, return_embeddings=True, batch_size=3)):
        assert [result["modalities"] for result in results] == [("audio", "video"), ("video",), ("audio",)]
        for result, clip in zip(results, clips, strict=True):
            assert_same([result["scores"]], [classify(clip)])
            for name in ("audio", "video"):
                embeds = result[f"{name}_embeds"]
                if name in result["modalities"]:
                    assert embeds.shape == (16,)
                    assert np.linalg.norm(embeds) == pytest.approx(1, abs=1e-5)
                else:
                    assert embeds is None


# What it takes


def test_every_kind_of_clip_is_taken(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    data = media.film.read_bytes()
    expected = classify(str(media.film))
    with media.film.open("rb") as file:
        for clip in (media.film, data, file, {"path": str(media.film)}, {"bytes": data}, {"video": media.film}):
            assert_same([classify(clip)], [expected])
        assert_same([classify({"audio": media.film, "video": media.film})], [expected])
    assert_same([classify(VideoDecoder(media.silent))], [classify(media.silent)])


def test_arrays_are_taken(classify: AudioVideoEmotionPipeline) -> None:
    sound = tone(440, 8_000, 0.5)
    expected = classify({"audio": sound, "sampling_rate": 8_000})
    assert set(scores(expected)) == LABELS
    rows = [{"array": sound.numpy(), "sampling_rate": 8_000}, {"audio": {"array": sound, "sampling_rate": 8_000}}]
    for clip in (*rows, {"audio": sound.tolist(), "sampling_rate": 8_000}):
        assert_same([classify(clip)], [expected])
    for clip in (sound, sound.numpy(), sound.tolist()):
        assert_same([classify(clip, sampling_rate=8_000)], [expected])
    frames = np.stack([picture(41, 31, seed) for seed in range(3)])
    images = [Image.fromarray(frame) for frame in frames]
    for clip in (images, tuple(images), {"video": images}, {"video": frames}, torch.from_numpy(frames)):
        assert_same([classify(clip)], [classify(frames)])
    assert_same(classify([images, images]), [classify(frames)] * 2)


def test_a_row_says_which_part_is_the_clip(
    classify: AudioVideoEmotionPipeline, checkpoint: Path, media: SimpleNamespace
) -> None:
    part = {"start_seconds": 0.5, "end_seconds": 1.7, "crop_box": (3, 5, 41, 43)}
    inputs = FoalNetProcessor.from_pretrained(checkpoint)(videos=media.film, load_audio_from_video=True, **part)
    with torch.no_grad():
        logits = classify.model(**inputs).logits[0]
    expected = dict(zip(classify.model.config.id2label.values(), logits.softmax(-1).tolist(), strict=True))
    rows = [{"video": media.film, **part}, {"path": str(media.film), **part}]
    for result in (
        *classify(rows),
        classify(media.film, **part),
        classify({"video": media.film} | part, end_seconds=3),
    ):
        assert scores(result) == pytest.approx(expected, abs=1e-5)


def test_a_row_says_where_the_clip_begins_in_a_sound_of_its_own(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    part = {"start_seconds": 1.3, "end_seconds": 2.4}
    samples = read_clip(media.sound, **part).waveform.numpy()
    row = {"video": media.silent, "audio": samples, "sampling_rate": 16_000, "audio_start_seconds": 0.0, **part}
    assert_same([classify(row)], [classify({"video": media.silent, "audio": media.sound, **part})])


def test_frame_rate_and_length_can_be_set(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    expected = classify({"video": media.film, "end_seconds": 1.1})
    assert_same([classify(media.film, max_seconds=1.1)], [expected])
    assert scores(classify(media.film, frames_per_second=1)) != pytest.approx(scores(classify(media.film)), abs=1e-4)


CONTAINERS: dict[str, Callable[[list[Path]], Any]] = {
    "tuple": tuple,
    "generator": lambda clips: (clip for clip in clips),
    "iterator": iter,
    "KeyDataset": lambda clips: KeyDataset([{"file": clip, "label": 1} for clip in clips], "file"),
    "rows": lambda clips: Dataset.from_dict({"video": list(map(str, clips))}).cast_column("video", Video()),
    "column": lambda clips: Dataset.from_dict({"video": list(map(str, clips))}).cast_column("video", Video())["video"],
    "stream": lambda clips: Dataset.from_dict({"video": list(map(str, clips))}).to_iterable_dataset(),
    "torch dataset": lambda clips: _ListDataset(clips),
    "torch stream": lambda clips: _ListStream(clips),
}


class _ListDataset(torch.utils.data.Dataset):
    def __init__(self, clips: list[Path]):
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Path:
        return self.clips[index]


class _ListStream(torch.utils.data.IterableDataset):
    def __init__(self, clips: list[Path]):
        self.clips = clips

    def __iter__(self) -> Iterator[Path]:
        return iter(self.clips)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_many_clips_come_in_any_container(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, kind: str
) -> None:
    clips = [media.film, media.silent, media.film]
    assert_same(classify(CONTAINERS[kind](clips)), [classify(clip) for clip in clips])


@pytest.mark.parametrize("nothing", [[], (), iter([])], ids=["list", "tuple", "iterator"])
def test_nothing_gives_nothing(classify: AudioVideoEmotionPipeline, nothing: Any) -> None:
    assert list(classify(nothing)) == []


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (2, 0), (5, 0), (2, 2)])
def test_batches_and_workers_change_nothing(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, batch_size: int, num_workers: int
) -> None:
    clips = [
        media.film,
        media.sound,
        media.silent,
        {"audio": tone(440, 8_000, 0.3), "sampling_rate": 8_000},
        media.film,
    ]
    results = classify(clips, batch_size=batch_size, num_workers=num_workers)
    assert_same(results, [classify(clip) for clip in clips])


def test_columns_of_datasets_are_taken(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    rows = Dataset.from_dict({"audio": [str(media.sound)] * 2, "video": [str(media.silent)] * 2, "label": [0, 1]})
    rows = rows.cast_column("audio", Audio()).cast_column("video", Video())
    both = classify({"audio": media.sound, "video": media.silent})
    assert_same(classify(rows, batch_size=2), [both] * 2)
    assert_same(classify(KeyDataset(rows, "audio")), [classify(media.sound)] * 2)
    assert_same(classify(KeyDataset(rows, "video"), num_workers=1), [classify(media.silent)] * 2)


# Bad files and bad arguments


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (3, 0), (2, 1)])
def test_a_bad_file_does_not_lose_the_others(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, batch_size: int, num_workers: int
) -> None:
    clips = [media.film, media.broken, "missing.mp4", media.silent, {"videos": media.film}, 7]
    results = classify(clips, on_error="skip", batch_size=batch_size, num_workers=num_workers)
    assert_same([results[0], results[3]], [classify(media.film), classify(media.silent)])
    errors = [results[index] for index in (1, 2, 4, 5)]
    assert [error["error_type"] for error in errors] == ["MediaError", "MediaError", "ValueError", "TypeError"]
    for error, words in zip(
        errors, ("broken.mp4", "missing.mp4: no such file", "got the keys videos", "from int"), strict=True
    ):
        assert words in error["error"]


def test_the_error_of_a_missing_file_has_a_short_traceback(classify: AudioVideoEmotionPipeline) -> None:
    for call in (classify, lambda file: classify([file]), lambda file: classify(file, window_seconds=2)):
        with pytest.raises(MediaError, match="no such file") as caught:
            call("missing.mp4")
        assert len(caught.traceback) <= 3
        assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (3, 0), (2, 1)])
def test_a_bad_file_raises_its_own_error(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, batch_size: int, num_workers: int
) -> None:
    with pytest.raises(MediaError, match=r"broken\.mp4: cannot be decoded"):
        classify([media.film, media.broken], batch_size=batch_size, num_workers=num_workers)
    # A circle of error and traceback would hold the workers until the garbage is collected.
    assert not multiprocessing.active_children()


def test_a_bad_row_of_a_dataset_does_not_lose_the_others(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    rows = Dataset.from_dict({"video": [str(media.broken), str(media.silent)]}).cast_column("video", Video())
    for clips in (rows, rows["video"], KeyDataset(rows, "video")):
        bad, good = classify(clips, on_error="skip", batch_size=2)
        assert bad["error_type"] == "MediaError"
        assert "row 0: cannot be read" in bad["error"] and "broken.mp4" in bad["error"]
        assert_same([good], [classify(media.silent)])
        with pytest.raises(MediaError, match="row 0: cannot be read"):
            list(classify(clips))


def test_a_sound_that_is_too_short_to_hear_does_not_lose_the_others(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    blip = {"audio": np.ones(399, np.float32), "sampling_rate": 16_000}
    bad, seen, heard, good = classify(
        [blip, {**blip, "video": media.silent}, {**blip, "audio": np.ones(400, np.float32)}, media.film],
        on_error="skip",
        batch_size=4,
        return_embeddings=True,
    )
    assert bad["error_type"] == "MediaError"
    assert "its audio is shorter than the 400 samples at 16000 Hz that the model needs" in bad["error"]
    assert seen["modalities"] == ("video",) and seen["audio_embeds"] is None
    assert heard["modalities"] == ("audio",)
    assert_same([seen["scores"], good["scores"]], [classify(media.silent), classify(media.film)])


def test_a_batch_of_bad_files_only_gives_errors_only(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace
) -> None:
    results = classify([media.broken, "missing.mp4"], on_error="skip", batch_size=2, return_embeddings=True)
    assert [result["error_type"] for result in results] == ["MediaError"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "sound"}, "`modality` must be one of both, audio, video, auto; got 'sound'"),
        ({"on_error": "ignore"}, "`on_error` must be one of raise, skip; got 'ignore'"),
        ({"top_k": 0}, "`top_k` must be 1 or more, got 0"),
        ({"fps": 5}, "Unknown arguments .*: fps"),
        ({"frames_per_second": 0}, "`frames_per_second` has to be above 0, got 0"),
    ],
)
def test_arguments_without_sense_are_named(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classify(media.film, **arguments)


def test_sound_without_its_rate_is_an_error_that_names_the_argument(classify: AudioVideoEmotionPipeline) -> None:
    for clip in (np.zeros(8_000), {"audio": [0.1, 0.2]}):
        with pytest.raises(ValueError, match="needs `sampling_rate`"):
            classify(clip)


def test_no_file_stays_open(classify: AudioVideoEmotionPipeline, media: SimpleNamespace) -> None:
    clips = [media.film, media.film.read_bytes(), media.sound, media.silent]
    classify(clips)
    before = psutil.Process().num_fds()
    for _ in range(2):
        classify(clips, batch_size=2)
        classify([media.broken, "missing.mp4"], on_error="skip")
        with pytest.raises(MediaError):
            classify(media.broken)
    assert psutil.Process().num_fds() == before
    opened = {Path(file.path) for file in psutil.Process().open_files()}
    assert not opened & set(vars(media).values())


# Loading and saving


def test_the_model_runs_in_the_dtype_and_on_the_device_asked_for(checkpoint: Path, media: SimpleNamespace) -> None:
    classify = pipeline(TASK, model=str(checkpoint), dtype=torch.bfloat16, device="cpu")
    assert classify.model.dtype == torch.bfloat16
    assert classify.device == torch.device("cpu")
    result = classify([media.film, media.silent], batch_size=2, return_embeddings=True)[0]
    assert result["audio_embeds"].dtype == np.float32
    exact = pipeline(TASK, model=str(checkpoint))(media.film)
    assert scores(result["scores"]) == pytest.approx(scores(exact), abs=0.05)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_scores(
    classify: AudioVideoEmotionPipeline, checkpoint: Path, media: SimpleNamespace
) -> None:
    need("cuda")
    on_gpu = pipeline(TASK, model=str(checkpoint), device="cuda")
    assert on_gpu.model.device.type == "cuda"
    clips = [media.film, media.silent]
    for result, other in zip(on_gpu(clips, batch_size=2), classify(clips), strict=True):
        assert scores(result) == pytest.approx(scores(other), abs=1e-3)


def test_arguments_of_the_construction_hold_for_every_call(checkpoint: Path, media: SimpleNamespace) -> None:
    classify = pipeline(TASK, model=str(checkpoint), top_k=1, modality="video", on_error="skip")
    results = classify([media.film, "missing.mp4"])
    assert_same(results[:1], [classify({"video": media.film, "audio": None})])
    assert len(results[0]) == 1
    assert results[1]["error_type"] == "MediaError"


def test_a_saved_pipeline_has_model_processor_and_code(
    classify: AudioVideoEmotionPipeline, media: SimpleNamespace, tmp_path: Path
) -> None:
    classify.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "pipeline_foal_net.py"} <= names
    assert "preprocessor_config.json" not in names
    written = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"][TASK]
    assert written == {
        "impl": "pipeline_foal_net.AudioVideoEmotionPipeline",
        "pt": ["AutoModelForVideoClassification"],
        "type": "multimodal",  # and no folder of this machine
    }
    assert "custom_pipelines" not in vars(classify.model.config)  # a model saved alone has no code beside it
    loaded = AudioVideoEmotionPipeline(
        model=FoalNetForEmotionClassification.from_pretrained(tmp_path),
        processor=FoalNetProcessor.from_pretrained(tmp_path),
    )
    assert_same([loaded(media.film)], [classify(media.film)])


def test_a_checkpoint_of_generated_clips_warns(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    for is_generated in (False, True):
        caplog.clear()
        config = tiny_config(trained_on_generated_data=is_generated)
        with caplog.at_level(logging.WARNING):
            pipeline(TASK, model=FoalNetForEmotionClassification(config), processor=tiny_processor())
        assert ("Its labels mean nothing on real people" in caplog.text) == is_generated


def test_the_task_of_a_checkpoint_need_not_be_named(checkpoint: Path, media: SimpleNamespace) -> None:
    unnamed = pipeline(model=str(checkpoint))
    assert type(unnamed) is AudioVideoEmotionPipeline
    assert_same([unnamed(media.film)], [pipeline(TASK, model=str(checkpoint))(media.film)])


def test_pipelines_of_one_modality_take_a_checkpoint_without_remote_code(
    checkpoint: Path, media: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks whether to run remote code"))
    heard = pipeline("audio-classification", model=str(checkpoint))
    clip = {"raw": tone(440, 16_000, 1.0).numpy(), "sampling_rate": 16_000}
    expected = pipeline(TASK, model=str(checkpoint))(dict(clip))
    assert scores(heard(dict(clip))) == pytest.approx(scores(expected), abs=1e-5)
    seen = pipeline("video-classification", model=str(checkpoint), num_frames=15)
    expected = pipeline(TASK, model=str(checkpoint))(media.silent)  # 15 frames too
    assert scores(seen(str(media.silent))) == pytest.approx(scores(expected), abs=1e-5)


@pytest.mark.parametrize("windows", [{}, {"window_seconds": 2}])
def test_the_limit_of_a_frame_is_the_callers(classify: AudioVideoEmotionPipeline, media: Any, windows: Any) -> None:
    with pytest.raises(MediaError, match=r"frames of 62x46 pixels, above max_pixels = 100"):
        classify(media.film, max_pixels=100, **windows)
    assert classify(media.film, max_pixels=62 * 46, **windows) == classify(media.film, **windows)
