"""Features from files and arrays: every format gives the same numbers, and nothing else gets through."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import OTHER_AUDIO_ENCODERS
from tiny_processors import tiny_processor
from transformers import AutoProcessor, ProcessorMixin

from foal_hf.foal_net.features_foal_net import features_of, pad_features, read_features
from foal_hf.foal_net.processing_foal_net import FoalNetProcessor
from foal_hf.foal_net.sources_foal_net import MediaError


ARRAY = np.random.default_rng(3).normal(size=(11, 5)).astype(np.float32)
WRITERS: dict[str, Callable[[Path, Any], Any]] = {
    ".npy": np.save,
    ".npz": lambda path, array: np.savez(path, clip=array),
    ".pt": lambda path, array: torch.save(torch.from_numpy(array), path),
    ".pth": lambda path, array: torch.save({"clip": torch.from_numpy(array)}, path),
    ".safetensors": lambda path, array: save_file({"clip": torch.from_numpy(array)}, path),
}


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_array_in_float32(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    for array in (ARRAY, ARRAY.astype(np.float64), ARRAY.astype(np.float16)):
        WRITERS[suffix](path, array)
        features = read_features(path)
        assert features.dtype == torch.float32
        assert torch.equal(features, torch.from_numpy(array).float())


def test_arrays_and_lists_are_features_too() -> None:
    for source in (ARRAY, torch.from_numpy(ARRAY), torch.from_numpy(ARRAY).bfloat16().float(), ARRAY.tolist()):
        assert read_features(source).shape == (11, 5)
    assert read_features(torch.from_numpy(ARRAY).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[0], r"has the shape \(5,\); expected \(positions, width\)"),
        (ARRAY[None], r"has the shape \(1, 11, 5\)"),
        (ARRAY[:0], r"is empty: its shape is \(0, 5\)"),
        (ARRAY.astype(np.int64), "holds numbers of type int64; expected floating point"),
        (np.where(np.arange(11)[:, None] == 7, np.nan, ARRAY), "NaN or infinite values at 1 of 11 positions, .* at 7"),
        (np.where(ARRAY > 0, np.inf, ARRAY), "NaN or infinite"),
        (np.full((2, 2), 1e300), "beyond the range of float32"),
    ],
    ids=["vector", "batch", "empty", "integers", "nan", "infinite", "too large"],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_an_array_that_is_no_sequence_of_features_is_refused(suffix: str, array: Any, message: str, tmp_path) -> None:
    path = tmp_path / f"clip{suffix}"
    WRITERS[suffix](path, np.ascontiguousarray(array))
    with pytest.raises(MediaError, match=rf"clip\{suffix}: .*{message}"):
        read_features(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".safetensors"])
def test_a_pickle_is_refused_and_never_run(suffix: str, tmp_path: Path) -> None:
    proof, path = tmp_path / "proof", tmp_path / f"clip{suffix}"
    contents = [pickle.dumps(Bomb(proof), protocol=2)]
    objects = np.array([Bomb(proof)], dtype=object)
    if suffix == ".npy":
        np.save(path, objects, allow_pickle=True)
        contents.append(path.read_bytes())
    if suffix == ".npz":
        np.savez(path, clip=objects)
        contents.append(path.read_bytes())
    if suffix == ".pt":
        torch.save(Bomb(proof), path)
        contents.append(path.read_bytes())
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(MediaError, match=r"cannot be read as .*Pickled objects are never loaded") as error:
            read_features(path)
        assert "weights_only" not in error.value.reason and "allow_pickle" not in error.value.reason
    assert not proof.exists()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.eye(3).to_sparse(), "is a sparse tensor, or one without data"),
        (torch.ones(3, 5, device="meta"), "is a sparse tensor, or one without data"),
    ],
)
def test_a_tensor_that_the_model_cannot_take_is_refused(features: torch.Tensor, message: str, tmp_path: Path) -> None:
    torch.save(features, tmp_path / "clip.pt")
    with pytest.raises(MediaError, match=rf"clip\.pt: .*{message}"):
        read_features(tmp_path / "clip.pt")


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_was_cut_off_is_one_clear_error(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"clip{suffix}"
    WRITERS[suffix](path, ARRAY)
    whole = path.read_bytes()
    for length in (0, 7, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:length])
        with pytest.raises(MediaError, match="cannot be read as"):
            read_features(path)


def test_several_arrays_in_a_file_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "clip.npz", hidden=ARRAY, pooled=ARRAY[0])
    torch.save({"hidden": torch.ones(1, 2), "pooled": torch.ones(2)}, tmp_path / "clip.pt")
    save_file({"hidden": torch.ones(1, 2), "pooled": torch.ones(2)}, tmp_path / "clip.safetensors")
    for name in ("clip.npz", "clip.pt", "clip.safetensors"):
        with pytest.raises(MediaError, match="must hold one array, but has 2: hidden, pooled"):
            read_features(tmp_path / name)
    np.savez(tmp_path / "clip.npz")
    with pytest.raises(MediaError, match="must hold one array, but has 0: none"):
        read_features(tmp_path / "clip.npz")


def test_other_files_are_named_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "clip.csv").write_text("1,2")
    with pytest.raises(MediaError, match=r"clip\.csv: is not a file of features; expected one of \.npy, \.npz, \.pt"):
        read_features(tmp_path / "clip.csv")
    with pytest.raises(MediaError, match=r"gone\.npy: no such file"):
        read_features(tmp_path / "gone.npy")
    with pytest.raises(MediaError, match="is not an array of numbers"):
        read_features([[1.0], [2.0, 3.0]])
    with pytest.raises(MediaError, match="is not an array of numbers"):
        read_features(np.array([[None]]))


def test_a_row_names_its_features_once(tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", ARRAY)
    row = {"audio_features": ARRAY, "video_features_file": str(tmp_path / "clip.npy")}
    assert torch.equal(features_of(row, "audio"), features_of(row, "video"))
    assert features_of({}, "audio") is None
    with pytest.raises(ValueError, match="A row has `video_features` and `video_features_file`; give one"):
        features_of({**row, "video_features": ARRAY}, "video")


def test_batches_of_features_are_padded_and_masked() -> None:
    padded, mask = pad_features([torch.ones(2, 3), None, torch.ones(5, 3)])
    assert padded.shape == (3, 5, 3) and mask.sum(dim=1).tolist() == [2, 0, 5]
    assert torch.equal(padded.bool().all(dim=2).long(), mask)
    with pytest.raises(ValueError, match="are 3 and 4 wide: not of one extractor"):
        pad_features([torch.ones(2, 3), torch.ones(2, 4)])


def test_a_processor_without_media_pads_features_and_survives_saving(tmp_path: Path) -> None:
    processor = FoalNetProcessor()
    processor.save_pretrained(tmp_path)
    for loaded in (processor, AutoProcessor.from_pretrained(tmp_path), FoalNetProcessor.from_pretrained(tmp_path)):
        assert (loaded.feature_extractor, loaded.video_processor, loaded.max_seconds) == (None, None, None)
        clips = [loaded.read(audio_features=ARRAY), loaded.read(audio_features=ARRAY[:3], video_features=ARRAY[:2])]
        batch = loaded.batch(clips)
        assert sorted(batch) == sorted(loaded.model_input_names)
        assert batch["attention_mask"].sum(dim=1).tolist() == [11, 3]
        assert batch["padding_mask_videos"].sum(dim=1).tolist() == [0, 2]
        assert batch.modalities == [("audio",), ("audio", "video")]
        for media in ({"audio": "a.wav"}, {"videos": "a.mp4"}):
            with pytest.raises(ValueError, match=r"reads no (audio|video): its checkpoint takes \1 features"):
                loaded(**media)


def test_a_processor_without_media_is_saved_with_its_class_and_pushed_where_asked(tmp_path: Path, monkeypatch) -> None:
    pushed: list[str] = []
    monkeypatch.setattr(FoalNetProcessor, "push_to_hub", lambda self, repo_id: pushed.append(repo_id))
    processor, folder = FoalNetProcessor(), tmp_path / "emotions"
    assert processor.save_pretrained(folder) == [str(folder / "processor_config.json")]
    assert pushed == []
    saved = json.loads((folder / "processor_config.json").read_text())
    assert saved["auto_map"] == {"AutoProcessor": "processing_foal_net.FoalNetProcessor"}
    assert "auto_map" not in vars(processor)
    processor.save_pretrained(folder, True)
    processor.save_pretrained(folder, push_to_hub=True, repo_id="someone/else")
    assert pushed == ["emotions", "someone/else"]


def test_what_else_is_asked_of_saving_a_whole_processor_reaches_transformers(tmp_path: Path, monkeypatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(ProcessorMixin, "save_pretrained", lambda self, *args, **kwargs: asked.append((args, kwargs)))
    tiny_processor().save_pretrained(tmp_path, True, repo_id="someone/else")
    assert asked == [((tmp_path, True), {"repo_id": "someone/else"})]


def test_a_processor_without_a_feature_extractor_reads_video_and_takes_audio_features(tmp_path: Path) -> None:
    video_processor = tiny_processor().video_processor
    FoalNetProcessor(None, video_processor).save_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert processor.video_processor.to_dict() == video_processor.to_dict()
    frames = np.zeros((7, 26, 26, 3), dtype=np.uint8)
    assert processor(videos=frames).modalities == [("video",)]
    batch = processor.batch([processor.read(video=frames, audio_features=ARRAY)])
    assert sorted(batch) == ["attention_mask", "audio_features", "padding_mask_videos", "pixel_values_videos"]
    with pytest.raises(ValueError, match="reads no audio"):
        processor.read(audio="a.wav", video=frames)
    with pytest.raises(ValueError, match=r"^`video_processor` is None; expected one that holds the length"):
        FoalNetProcessor(tiny_processor().feature_extractor)


def test_features_and_media_of_one_side_do_not_share_a_batch() -> None:
    processor = tiny_processor()
    clips = [processor.read(audio=np.zeros(4003), source_sampling_rate=16_000), processor.read(audio_features=ARRAY)]
    with pytest.raises(ValueError, match="Some clips of the batch have audio and others audio features"):
        processor.batch(clips)
    processor.feature_extractor = OTHER_AUDIO_ENCODERS["whisper"][1]
    with pytest.raises(ValueError, match="Some clips of the batch have audio and others audio features"):
        processor.batch(clips)
    clips = [processor.read(video=np.zeros((3, 31, 41, 3), np.uint8)), processor.read(video_features=ARRAY)]
    with pytest.raises(ValueError, match="Some clips of the batch have video and others video features"):
        processor.batch(clips)


def test_features_are_read_alone_with_their_times_and_only_those_that_are_wanted() -> None:
    processor = FoalNetProcessor()
    batch = processor.batch([processor.read(video_features=ARRAY)])
    assert sorted(batch) == ["padding_mask_videos", "video_features"]
    for part, expected in (
        ({}, (0.0, 0.0)),
        ({"start_seconds": 1.5}, (1.5, 1.5)),
        ({"start_seconds": 1.5, "end_seconds": 2.5}, (1.5, 2.5)),
    ):
        clip = processor.read(audio_features=ARRAY, **part)
        assert (clip.start_seconds, clip.end_seconds) == expected
    clip = processor.read(audio_features=ARRAY, video_features=ARRAY, modalities=("video",))
    assert clip.audio_features is None and clip.video_features is not None
    for side in ("audio", "video"):
        with pytest.raises(MediaError, match=rf"^{side}_features: has the shape \(5,\)"):
            processor.read(**{f"{side}_features": ARRAY[0]})
