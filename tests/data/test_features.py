"""Stored features of the image encoder: the same results as pictures, and no way to meet the wrong ones."""

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from media_builders import make_clip
from safetensors.torch import load_file, save_file
from tiny_models import tiny_config, tiny_model, with_random_biases
from tiny_processors import tiny_processor
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from foal_hf import FoalNetForEmotionClassification, FoalNetModel, FoalNetProcessor, MediaError
from foal_hf.corpora.schema import corpus_features
from foal_hf.data import ClipCollator, ClipDataset
from foal_hf.data.features import FeatureClipDataset, FeatureCollator, FeatureStore, FeatureStoreError, embed
from foal_hf.data.features.keys import _PREPROCESSING, FeatureKeys
from foal_hf.foal_net.image_processors_foal_net import IMAGE_PROCESSOR_FIELDS
from foal_hf.foal_net.video_processing_foal_net import FoalNetVideoProcessor
from foal_hf.synthetic import EMOTIONS, generate_corpus, read_metadata


CHILD = Path(__file__).parents[1] / "support" / "feature_child.py"
WIDTH = 20
Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Eight generated clips, each as part of a row."""
    folder = tmp_path_factory.mktemp("features") / "corpus"
    generate_corpus(folder, num_speakers=3, clips_per_emotion=1, num_workers=1, progress=False)
    return [{key: row[key] for key in ("audio", "video", "emotion")} for row in read_metadata(folder)[:8]]


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> dict[str, Row]:
    """Clips that lack something, or are part of something."""
    folder = tmp_path_factory.mktemp("odd")
    mute = str(make_clip(folder / "mute.mp4", audio=None))
    unseen = str(make_clip(folder / "unseen.mp4", video=None))
    still = str(make_clip(folder / "still.png", "-frames:v", 1, audio=None))
    both = rows[0]["video"]
    clips = {
        "whole": {"audio": both, "video": both},
        "part": {"audio": both, "video": both, "start_seconds": 0.3, "end_seconds": 1.1, "crop_box": [3, 5, 61, 83]},
        "sound elsewhere": {"audio": unseen, "video": both, "start_seconds": 0.5, "audio_start_seconds": 1.5},
        "no picture": {"audio": both, "video": None},
        "no picture in the file": {"audio": unseen, "video": unseen},
        "no picture in the range": {"audio": unseen, "video": both, "start_seconds": 2.5},
        "no sound": {"audio": None, "video": both},
        "no sound in the file": {"audio": mute, "video": mute},
        "still picture": {"audio": unseen, "video": still, "start_seconds": 1.0},
        "pictures in memory": {"audio": None, "video": np.full((11, 31, 37, 3), 97, dtype=np.uint8)},
    }
    return {name: {**row, "emotion": EMOTIONS[index % 4]} for index, (name, row) in enumerate(clips.items())}


@pytest.fixture(scope="module")
def model() -> FoalNetForEmotionClassification:
    torch.manual_seed(3)
    return with_random_biases(FoalNetForEmotionClassification(tiny_config(id2label=dict(enumerate(EMOTIONS))))).eval()


@pytest.fixture(scope="module")
def processor() -> FoalNetProcessor:
    return tiny_processor()


@pytest.fixture(scope="module")
def complete(rows, model, processor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the features of all rows in several shards, to be copied before it is touched."""
    folder = tmp_path_factory.mktemp("store")
    embed(rows, model, processor, folder, num_workers=0, progress=False, shard_bytes=14 * WIDTH * 2)
    assert 3 <= len(shards(folder)) < len(rows)
    return folder


@pytest.fixture
def store_dir(complete: Path, tmp_path: Path) -> Path:
    """A copy of the complete store."""
    return shutil.copytree(complete, tmp_path / "store")


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("features-*"))


def quiet_embed(rows: Any, model: Any, processor: Any, folder: Path, **options: Any) -> FeatureStore:
    return embed(rows, model, processor, folder, **{"num_workers": 0, "progress": False, **options})


def keys_of(rows: Any, model: Any, processor: Any, folder: Path) -> list[str | None]:
    keys = FeatureKeys(model, processor, folder)
    return [keys.key(row) for row in rows]


def as_corpus(rows: list[Row]) -> datasets.Dataset:
    features = corpus_features(EMOTIONS)
    return datasets.Dataset.from_list([{**dict.fromkeys(features), **row} for row in rows], features=features)


def stored(folder: Path, rows: Any, model: Any, processor: Any) -> list[torch.Tensor]:
    store = FeatureStore(folder)
    return [store.get(key) for key in keys_of(rows, model, processor, folder)]


def flip_a_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each file is opened."""
    count: Counter[str] = Counter()
    really_open = open

    def counting_open(file: Any, *args: Any, **kwargs: Any) -> Any:
        count[str(file)] += 1
        return really_open(file, *args, **kwargs)

    monkeypatch.setattr("builtins.open", counting_open)
    return count


@pytest.fixture
def encoded_frames(model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each pass of the image encoder sees."""
    passes: list[int] = []
    hook = model.foal_net.vision_encoder.register_forward_pre_hook(lambda module, args: passes.append(len(args[0])))
    yield passes
    hook.remove()


def test_features_are_those_of_the_model_within_float16_rounding(complete, rows, model, processor) -> None:
    clips = ClipDataset(rows, processor, model.config.label2id)
    batch = ClipCollator(processor)([clips[index] for index in range(len(rows))])
    with torch.no_grad():
        exact = model.foal_net.get_video_features(
            batch["pixel_values_videos"], batch["padding_mask_videos"]
        ).last_hidden_state
    for row, features in enumerate(stored(complete, rows, model, processor)):
        assert features.dtype == torch.float16 and features.shape == (
            int(batch["padding_mask_videos"][row].sum()),
            WIDTH,
        )
        expected = exact[row, : len(features)]
        # Half a unit in the last of the 11 digits, and what another batch size changes in float32.
        assert torch.all((features.float() - expected).abs() <= 2**-11 * expected.abs() + 2e-6)


def test_the_model_gives_the_same_from_features_as_from_pictures(odd_rows, model, processor, tmp_path: Path) -> None:
    rows = list(odd_rows.values())
    store = quiet_embed(rows, model, processor, tmp_path)
    clips = ClipDataset(rows, processor, model.config.label2id)
    with_features = FeatureClipDataset(clips, store, model)
    from_pictures = [clips[index] for index in range(len(rows))]
    from_features = [with_features[index] for index in range(len(rows))]
    for name, pictures, features in zip(odd_rows, from_pictures, from_features, strict=True):
        frames, sequence = pictures["clip"].frames, features["video_features"]
        assert (0 if frames is None else len(frames)) == (0 if sequence is None else len(sequence)), name
        assert features["clip"].frames is None
        waveforms = pictures["clip"].waveform, features["clip"].waveform
        assert waveforms == (None, None) or torch.equal(*waveforms), name
        assert features["labels"] == pictures["labels"]
    batches = ClipCollator(processor)(from_pictures), FeatureCollator(processor)(from_features)
    assert batches[1]["padding_mask_videos"].tolist() == batches[0]["padding_mask_videos"].tolist()
    assert [int(any(mask)) for mask in batches[1]["padding_mask_videos"].tolist()] == [1, 1, 1, 0, 0, 0, 1, 1, 1, 1]
    with torch.no_grad():
        expected, found = (model(**batch) for batch in batches)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-4, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=1e-3, rtol=0)


def test_one_modality_can_be_trained_alone(rows, complete, model, processor) -> None:
    store = FeatureStore(complete)
    for modality in ("audio", "video"):
        clips = ClipDataset(rows, processor, model.config.label2id, modalities=(modality,))
        example = FeatureClipDataset(clips, store, model)[1]
        assert (example["clip"].waveform is not None) == (modality == "audio")
        assert (example["video_features"] is not None) == (modality == "video")
        batch = FeatureCollator(processor)([example])
        assert ("input_values" in batch) == (modality == "audio")
        assert ("padding_mask_videos" in batch) == (modality == "video")


def test_a_clip_that_cannot_be_read_is_the_same_error_with_features(rows, model, processor, tmp_path: Path) -> None:
    sound = tmp_path / "sound.wav"
    sound.write_bytes(b"RIFF\0\0\0\0WAVEnothing that could be heard" * 3)
    row = {**rows[0], "audio": str(sound)}
    store = quiet_embed([row], model, processor, tmp_path / "store")
    clips = ClipDataset([row], processor, model.config.label2id)
    with pytest.raises(MediaError, match=r"sound\.wav"):
        FeatureClipDataset(clips, store, model)[0]


def test_sound_without_a_picture_beside_it_is_looked_for_once(
    odd_rows, model, processor, tmp_path: Path, opened
) -> None:
    row = odd_rows["no sound in the file"]
    store = quiet_embed([row], model, processor, tmp_path)
    with_features = FeatureClipDataset(ClipDataset([row], processor, model.config.label2id), store, model)
    assert with_features[0]["clip"].modalities == ()
    opened.clear()
    assert len(with_features[0]["video_features"]) == 15
    assert opened[row["video"]] == 0


def test_rows_of_a_dataset_have_the_keys_of_plain_rows(rows, complete, model, processor) -> None:
    corpus = as_corpus(rows)
    clips = ClipDataset(corpus, processor, model.config.label2id)
    example = FeatureClipDataset(clips, FeatureStore(complete), model)[2]
    assert torch.equal(example["video_features"], stored(complete, rows[2:3], model, processor)[0])
    assert len(quiet_embed(corpus, model, processor, complete)) == len(rows)


def test_lengths_are_known_without_reading(rows, odd_rows, complete: Path, model, processor, opened) -> None:
    store = FeatureStore(complete)
    clips = FeatureClipDataset(ClipDataset(rows, processor, model.config.label2id), store, model)
    assert clips.lengths == [store.num_frames(key) / 5 for key in keys_of(rows, model, processor, complete)]
    assert sum(opened[row["video"]] for row in rows) == 0
    some = [rows[0], odd_rows["no picture"]]
    assert FeatureClipDataset(ClipDataset(some, processor, model.config.label2id), store, model).lengths is None


@torch.no_grad()
def test_an_encoder_of_clips_stores_its_positions(rows, processor, tmp_path: Path) -> None:
    videomae = tiny_model(vision="videomae", id2label=dict(enumerate(EMOTIONS)))  # 4 frames at once, in pairs
    embed(rows[:2], videomae, processor, tmp_path, num_workers=0, progress=False, batch_frames=5)
    clips = ClipDataset(rows[:2], processor, videomae.config.label2id)
    features = FeatureClipDataset(clips, FeatureStore(tmp_path), videomae)
    for index in range(2):
        frames = clips[index]["clip"].frames
        expected = videomae.foal_net.get_video_features(**processor.video_processor.pad([frames])).last_hidden_state[0]
        assert len(expected) == -(-len(frames) // 2)
        torch.testing.assert_close(features[index]["video_features"].float(), expected, atol=1e-2, rtol=1e-3)
        assert features.lengths[index] == pytest.approx(len(expected) * 2 / 5)


def test_the_plain_trainer_trains_on_features(rows, complete, processor, model, tmp_path: Path) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        dataloader_num_workers=1,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    torch.manual_seed(3)
    fresh = FoalNetForEmotionClassification(model.config)
    fresh.load_state_dict(model.state_dict())
    clips = ClipDataset(rows, processor, fresh.config.label2id)
    trainer = Trainer(
        model=fresh,
        args=arguments,
        train_dataset=FeatureClipDataset(clips, FeatureStore(complete), fresh),
        data_collator=FeatureCollator(processor),
    )
    trainer.train()
    assert not torch.equal(fresh.classifier.weight, model.classifier.weight)
    encoders = fresh.foal_net.vision_encoder.state_dict(), model.foal_net.vision_encoder.state_dict()
    assert all(torch.equal(encoders[0][name], weights) for name, weights in encoders[1].items())


@pytest.mark.parametrize(
    "change",
    [
        {"start_seconds": 0.1},
        {"end_seconds": 1.3},
        {"crop_box": [0, 0, 47, 61]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_part_of_a_clip_has_another_key(change: Row, rows, model, processor, tmp_path: Path) -> None:
    row = rows[0]
    keys = keys_of([row, {**row, **change}, {**row, "start_seconds": None, "emotion": "?"}], model, processor, tmp_path)
    assert keys[0] != keys[1] and keys[0] == keys[2]


@pytest.mark.parametrize(
    "field",
    [
        {"frames_per_second": 7.0},
        {"max_seconds": 3.0},
        {"max_seconds": None},
        {"do_resize": False},
        {"size": {"height": 26, "width": 26}},
        {"resample": 2},
        {"do_center_crop": False},
        {"crop_size": {"height": 26, "width": 13}},
        {"do_rescale": False},
        {"rescale_factor": 1 / 256},
        {"do_normalize": False},
        {"image_mean": [0.5, 0.5, 0.5]},
        {"image_std": [0.5, 0.5, 0.5]},
    ],
    ids=str,
)
def test_other_preprocessing_has_another_key(field: Row, rows, model, processor, tmp_path: Path) -> None:
    changed = tiny_processor()
    video_processor = {**changed.video_processor.to_dict(), **field}
    changed.video_processor = FoalNetVideoProcessor(**video_processor)
    keys = [keys_of(rows[:1], model, other, tmp_path)[0] for other in (processor, changed)]
    assert keys[0] != keys[1]


def test_every_setting_of_the_video_processor_is_part_of_the_key() -> None:
    assert set(_PREPROCESSING) == {"frames_per_second", "max_seconds", *IMAGE_PROCESSOR_FIELDS}


def test_other_weights_or_pooling_have_another_key(rows, processor, tmp_path: Path) -> None:
    model = FoalNetModel(tiny_config(vision="vit"))
    before = keys_of(rows[:1], model, processor, tmp_path)
    weight = next(reversed(list(model.vision_encoder.parameters())))
    kept = weight.data.clone()
    weight.data[0] += 1e-3
    assert keys_of(rows[:1], model, processor, tmp_path) != before
    weight.data.copy_(kept)
    assert keys_of(rows[:1], model, processor, tmp_path) == before
    model.config.vision_pooling = "mean"
    assert keys_of(rows[:1], model, processor, tmp_path) != before


def test_saving_loading_and_training_the_rest_keep_the_key(rows, model, processor, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    loaded = FoalNetModel.from_pretrained(tmp_path / "checkpoint", attn_implementation="eager", sequence_dropout=0.3)
    torch.nn.init.zeros_(next(loaded.video_projection.parameters()))
    keys = [
        keys_of(rows[:2], *parts, tmp_path)
        for parts in ((model, processor), (loaded, FoalNetProcessor.from_pretrained(tmp_path / "checkpoint")))
    ]
    assert keys[0] == keys[1]


def test_a_file_with_another_content_has_another_key(rows, model, processor, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(rows[0]["video"], path)
    status = path.stat()
    row = {"video": str(path)}
    before = keys_of([row], model, processor, tmp_path)
    assert keys_of([rows[0]], model, processor, tmp_path) == before  # the name does not matter
    assert keys_of([{"video": path.read_bytes()}], model, processor, tmp_path) == before
    flip_a_byte(path, -1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as `cp -p` and `rsync -t` do
    assert path.stat().st_size == status.st_size
    assert keys_of([row], model, processor, tmp_path) != before


def test_pictures_in_memory_are_told_apart_by_content_and_layout(model, processor, tmp_path: Path) -> None:
    frames = np.arange(2 * 30 * 3 * 30, dtype=np.uint8).reshape(2, 30, 30, 3)
    sources = [frames, torch.from_numpy(frames), frames.copy(), frames[:1], frames[:, ::-1]]
    keys = keys_of([{"video": source} for source in sources], model, processor, tmp_path)
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 3


def test_what_cannot_be_recognised_again_is_refused(model, processor, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"example\.org/clip\.mp4: is a URL.*download the file first"):
        quiet_embed([{"video": "https://example.org/clip.mp4"}], model, processor, tmp_path)
    with pytest.raises(TypeError, match="Cannot store features of a set"):
        quiet_embed([{"video": {1, 2}}], model, processor, tmp_path)
    with pytest.raises(TypeError, match="without streaming"):
        quiet_embed(iter([]), model, processor, tmp_path)


def test_a_misspelled_field_of_a_row_is_refused(rows, model, processor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"strat_seconds.*start_seconds"):
        quiet_embed([{**rows[0], "strat_seconds": 0.5}], model, processor, tmp_path)


def test_the_random_state_is_left_alone(rows, model, processor, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    quiet_embed(rows[:1], model, processor, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_encoder_that_is_trained_is_refused(rows, complete, processor, tmp_path: Path) -> None:
    model = FoalNetModel(tiny_config(freeze_vision_encoder=False))
    with pytest.raises(ValueError, match="`freeze_vision_encoder` is False"):
        quiet_embed(rows, model, processor, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    with pytest.raises(ValueError, match="`freeze_vision_encoder` is False"):
        FeatureClipDataset(ClipDataset(rows, processor, dict.fromkeys(EMOTIONS, 0)), FeatureStore(complete), model)


def test_a_second_run_opens_no_medium_and_runs_no_encoder(
    rows, model, processor, tmp_path: Path, opened, encoded_frames
) -> None:
    media = {row["video"] for row in rows}
    quiet_embed(rows, model, processor, tmp_path)
    assert all(opened[path] >= 1 for path in media) and encoded_frames  # for the digest; PyAV opens for itself
    opened.clear()
    encoded_frames.clear()
    store = quiet_embed(rows, model, processor, tmp_path)
    assert len(store) == len(rows)
    assert [path for path in media if opened[path]] == [] and encoded_frames == []


def test_only_what_is_missing_is_computed(rows, model, processor, store_dir: Path, opened, encoded_frames) -> None:
    more = [*rows, rows[0] | {"end_seconds": 1.0}, rows[0] | {"end_seconds": 1.0, "emotion": "?"}]
    store = quiet_embed(more, model, processor, store_dir)
    assert len(store) == len(rows) + 1
    (new,) = set(store) - set(keys_of(rows, model, processor, store_dir))
    assert sum(encoded_frames) == store.num_frames(new) == 5 and sum(opened[row["video"]] for row in rows) == 0


def test_a_clip_is_encoded_in_passes_of_its_own(rows, model, processor, complete, tmp_path, encoded_frames) -> None:
    # Passes of other lengths differ in the last bits: its features must not depend on the clips beside it.
    quiet_embed(rows, model, processor, tmp_path, batch_frames=7)
    lengths = [len(features) for features in stored(complete, rows, model, processor)]
    passes = [[7] * (length // 7) + [length % 7] * (length % 7 > 0) for length in lengths]
    rotated = [[*chain(*passes[index:], *passes[:index])] for index in range(len(passes))]
    assert encoded_frames in rotated  # each process starts at another clip
    for small, large in zip(
        stored(tmp_path, rows, model, processor), stored(complete, rows, model, processor), strict=True
    ):
        torch.testing.assert_close(small, large, atol=2e-3, rtol=2e-3)


@pytest.fixture(scope="module")
def checkpoint(model, processor, rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, processor and rows, as `feature_child.py` takes them."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "rows.json").write_text(json.dumps(rows))
    return folder


def start_child(checkpoint: Path, store_dir: Path, *options: object) -> subprocess.Popen[str]:
    command = [sys.executable, CHILD, checkpoint, checkpoint / "rows.json", store_dir, *options]
    return subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def let_go(*children: subprocess.Popen[str]) -> list[int]:
    """Let processes that are ready begin at once; how they end."""
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate()
    return [child.returncode for child in children]


def test_killed_in_the_middle_it_goes_on_and_loses_one_shard(
    checkpoint: Path, rows, model, processor, complete: Path, tmp_path: Path, encoded_frames
) -> None:
    assert let_go(start_child(checkpoint, tmp_path, 4)) == [-signal.SIGKILL]
    before = FeatureStore(tmp_path)
    assert len(before) == 3 and before.verify() == []
    (unfinished,) = tmp_path.glob(".features-*.partial.safetensors")
    after = quiet_embed(rows, model, processor, tmp_path)
    assert len(after) == len(rows)
    assert sum(encoded_frames) == sum(after.num_frames(key) for key in set(after) - set(before))
    assert unfinished.exists()  # it could be another process' that is writing now
    os.utime(unfinished, (0, 0))
    quiet_embed(rows, model, processor, tmp_path)
    assert not unfinished.exists()
    for found, expected in zip(
        stored(tmp_path, rows, model, processor), stored(complete, rows, model, processor), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_two_processes_write_to_one_store(checkpoint: Path, rows, model, processor, complete: Path, tmp_path) -> None:
    children = [start_child(checkpoint, tmp_path) for _ in range(2)]
    assert let_go(*children) == [0, 0]
    store = FeatureStore(tmp_path)
    assert len(store) == len(rows) and store.verify() == []
    for found, expected in zip(
        stored(tmp_path, rows, model, processor), stored(complete, rows, model, processor), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_two_threads_write_to_one_store(rows, model, processor, tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            quiet_embed(rows, model, processor, tmp_path, shard_bytes=1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = FeatureStore(tmp_path)
    assert errors == [] and len(store) == len(rows) and store.verify() == []


def test_what_another_process_has_stored_meanwhile_is_not_computed_again(
    rows, model, processor, complete: Path, tmp_path: Path, encoded_frames
) -> None:
    def copy_everything(module: Any, args: Any) -> None:
        for shard in shards(complete):
            shutil.copy(shard, tmp_path)

    hook = model.foal_net.vision_encoder.register_forward_pre_hook(copy_everything)
    try:
        store = quiet_embed(rows, model, processor, tmp_path, batch_frames=1, shard_bytes=1)
    finally:
        hook.remove()
    longest = max(store.num_frames(key) for key in store)
    assert len(store) == len(rows) and sum(encoded_frames) <= longest


@pytest.mark.parametrize("damage", ["data", "header", "length of the header", "end"])
def test_a_damaged_shard_is_found_and_computed_anew(
    damage: str, store_dir: Path, rows, model, processor, complete, encoded_frames, caplog
) -> None:
    damaged = shards(store_dir)[1]
    if damage == "end":
        damaged.write_bytes(damaged.read_bytes()[:-1])
    else:
        flip_a_byte(damaged, {"data": -5, "header": 40, "length of the header": 7}[damage])
    store = FeatureStore(store_dir)
    assert store.verify() == [damaged]
    lost = set(FeatureStore(complete)) - set(store)
    if damage == "data":
        assert not lost
        lost = {key for key, shard in FeatureStore(complete)._shard_of.items() if shard.name == damaged.name}
        with pytest.raises(FeatureStoreError, match=f"{damaged.name} is damaged.*again"):
            _ = [store.get(key) for key in store]
    assert 0 < len(lost) < len(rows)
    mended = quiet_embed(rows, model, processor, store_dir)
    assert mended.verify() == [] and set(mended) == set(FeatureStore(complete))
    assert sum(encoded_frames) == sum(FeatureStore(complete).num_frames(key) for key in lost)
    assert f"{damaged.name} cannot be used and is removed" in caplog.text


def test_a_flipped_bit_anywhere_in_a_shard_is_found(tmp_path: Path) -> None:
    features = {"one": torch.arange(6, dtype=torch.float16).view(2, 3), "none": torch.zeros(0, 3, dtype=torch.float16)}
    path = FeatureStore(tmp_path).write(features)
    assert FeatureStore(tmp_path).verify() == []
    content = path.read_bytes()
    for position in range(len(content)):
        for bit in (1, 8):
            path.write_bytes(content[:position] + bytes([content[position] ^ bit]) + content[position + 1 :])
            assert FeatureStore(tmp_path).verify() == [path], (position, bit)


def test_a_store_of_an_earlier_version_is_computed_again(
    rows, model, processor, tmp_path: Path, encoded_frames, caplog
) -> None:
    key = FeatureKeys(model, processor, tmp_path).key(rows[0])
    old = tmp_path / f"features-{'0' * 32}.safetensors"
    save_file({key: torch.zeros(2, WIDTH, dtype=torch.float16)}, old, metadata={key: "00000000"})
    store = quiet_embed(rows[:1], model, processor, tmp_path)
    assert "written by an earlier version" in caplog.text and not old.exists()
    assert set(store) == {key} and sum(encoded_frames) == store.num_frames(key)


def test_damage_among_other_features_is_left_alone(rows, model, processor, store_dir: Path, encoded_frames) -> None:
    keys = FeatureKeys(model, processor, store_dir)
    store = FeatureStore(store_dir)
    needed = store._shard_of[keys.key(rows[0])].name
    for path in shards(store_dir):
        if path.name != needed:
            flip_a_byte(path, -1)
    quiet_embed(rows[:1], model, processor, store_dir)
    assert encoded_frames == [] and FeatureStore(store_dir).verify() != []


def test_a_full_disk_is_one_clear_error_and_the_store_stays_usable(rows, model, processor, tmp_path: Path) -> None:
    quiet_embed(rows[:2], model, processor, tmp_path)
    before = shards(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1009, limits[1]))  # a file that grows beyond it fails as on a full disk
    try:
        with pytest.raises(
            FeatureStoreError, match=r"MB of features cannot be written to .*File too large.*Free some space"
        ):
            quiet_embed(rows, model, processor, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert shards(tmp_path) == before and list(tmp_path.glob(".features-*.partial.safetensors")) == []
    assert len(FeatureStore(tmp_path)) == 2 and FeatureStore(tmp_path).verify() == []
    assert len(quiet_embed(rows, model, processor, tmp_path)) == len(rows)


def test_a_disk_that_is_sure_to_be_full_is_noticed_before_the_first_frame(
    rows, model, processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoded_frames
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 300, 300))
    short = [row | {"end_seconds": 0.2} for row in rows[:2]]  # one frame of 40 bytes each
    assert len(quiet_embed(short, model, processor, tmp_path)) == 2
    encoded_frames.clear()
    with pytest.raises(FeatureStoreError, match=r"The features of 8 clips need about .* left"):
        quiet_embed([row | {"end_seconds": 1.0} for row in rows], model, processor, tmp_path)
    assert encoded_frames == []


def test_interrupted_it_keeps_what_was_encoded(rows, model, processor, tmp_path: Path) -> None:
    passes = []

    def interrupt(module: Any, args: Any) -> None:
        passes.append(len(args[0]))
        if sum(passes) > 30:
            raise KeyboardInterrupt

    hook = model.foal_net.vision_encoder.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            quiet_embed(rows, model, processor, tmp_path, batch_frames=1)
    finally:
        hook.remove()
    store = FeatureStore(tmp_path)
    assert 0 < len(store) < len(rows) and sum(store.num_frames(key) for key in store) <= 30


def test_a_clip_that_cannot_be_read_is_raised_or_skipped(rows, model, processor, tmp_path: Path, caplog) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(rows[0]["video"]).read_bytes()[:777])
    some = [
        rows[0],
        {**rows[1], "clip_id": "cut off", "video": str(broken), "audio": None},
        {**rows[2], "video": str(tmp_path / "gone.mp4")},
        rows[3],
    ]
    with pytest.raises(MediaError, match=r"gone\.mp4: no such file"):
        quiet_embed(some, model, processor, tmp_path / "store")
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        quiet_embed(some[:2], model, processor, tmp_path / "store")
    store = quiet_embed(some, model, processor, tmp_path / "store", on_error="skip")
    assert set(store.skipped) == {"cut off", "row 2"} and "no such file" in store.skipped["row 2"]
    assert "cut off is skipped" in caplog.text
    assert {keys_of([row], model, processor, tmp_path / "store")[0] for row in (some[0], some[3])} == set(store)


def test_a_file_that_changes_between_digest_and_decoding_is_not_stored(
    rows, model, processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    shutil.copy(rows[0]["video"], path)
    read_ahead = "foal_hf.data.features.contents.ContentDigests.read_ahead"
    monkeypatch.setattr(read_ahead, lambda *args, **kwargs: None)
    monkeypatch.setattr(
        "foal_hf.data.features.extraction._check_space",
        lambda *args: path.write_bytes(Path(rows[1]["video"]).read_bytes()),
    )
    with pytest.raises(MediaError, match="was changed while it was read"):
        quiet_embed([{"video": str(path)}], model, processor, tmp_path / "store")
    assert len(FeatureStore(tmp_path / "store")) == 0


def test_features_beyond_float16_are_an_error(rows, processor, tmp_path: Path) -> None:
    model = FoalNetModel(tiny_config())
    model.vision_encoder.visual_projection.weight.data.mul_(1e8)
    with pytest.raises(ValueError, match="float16 ends at 65504"):
        quiet_embed(rows[:1], model, processor, tmp_path)
    store = quiet_embed(rows[:1], model, processor, tmp_path, on_error="skip")
    assert len(store) == 0 and "float16" in store.skipped["row 0"]


def test_no_file_stays_open_after_an_error(rows, processor, tmp_path: Path) -> None:
    model = FoalNetModel(tiny_config())
    model.vision_encoder.visual_projection.weight.data.mul_(1e8)
    with pytest.raises(ValueError, match="float16") as error:
        quiet_embed(rows[:1], model, processor, tmp_path)
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert error.traceback and os.path.realpath(rows[0]["video"]) not in opened  # the traceback keeps every local alive


def other_rate(model: Any) -> tuple[Any, Any]:
    return model, tiny_processor(frames_per_second=7.0)


def other_encoder(model: Any) -> tuple[Any, Any]:
    torch.manual_seed(5)
    return FoalNetModel(tiny_config()), tiny_processor()


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (other_rate, "frames_per_second was 5.0, now 7.0"),
        (other_encoder, "another image encoder"),
        (lambda model: (model, tiny_processor()), "files, ranges or crop boxes"),
    ],
)
def test_missing_features_are_refused_with_the_reason(
    other: Callable[[Any], tuple[Any, Any]], reason: str, rows, complete: Path, model
) -> None:
    other_model, other_processor = other(model)
    clips = ClipDataset(
        [row | {"end_seconds": 1.0} for row in rows] if reason.startswith("files") else rows,
        other_processor,
        model.config.label2id,
    )
    with pytest.raises(FeatureStoreError, match=f"8 of 8 clips have no video features in .*holds 8 clips: .*{reason}"):
        FeatureClipDataset(clips, FeatureStore(complete), other_model)


def test_clips_without_features_can_be_left_out(rows, complete: Path, model, processor, caplog) -> None:
    some = [rows[0], rows[1] | {"end_seconds": 1.0}, rows[2]]
    for kind in (some, as_corpus(some)):
        clips = ClipDataset(kind, processor, model.config.label2id)
        kept = FeatureClipDataset(clips, FeatureStore(complete), model, on_missing="skip")
        assert len(kept) == 2 and kept.labels == [clips.labels[0], clips.labels[2]]
        assert torch.equal(kept[1]["video_features"], stored(complete, rows[2:3], model, processor)[0])
        assert "1 of 3 clips have no video features" in caplog.text


def test_features_of_another_width_are_the_models_own_error(complete: Path, rows, processor, model) -> None:
    example = FeatureClipDataset(ClipDataset(rows, processor, model.config.label2id), FeatureStore(complete), model)[0]
    wider = FoalNetForEmotionClassification(tiny_config(vision="vit"))
    with pytest.raises(ValueError, match="20 wide; expected 24, the width of this model's image encoder"):
        wider(**FeatureCollator(processor)([example]))


def test_a_store_travels_to_a_worker_as_a_path(complete: Path, rows, model, processor) -> None:
    store = FeatureStore(complete)
    key = next(iter(store))
    store.get(key)
    sent = pickle.dumps(store)
    assert len(sent) < 500
    assert torch.equal(pickle.loads(sent).get(key), store.get(key))
    clips = FeatureClipDataset(ClipDataset(rows, processor, model.config.label2id), store, model)
    loader = DataLoader(clips, batch_size=4, num_workers=1, collate_fn=FeatureCollator(processor))
    batches = list(loader)
    expected = FeatureCollator(processor)([clips[index] for index in range(4)])
    assert len(batches) == 2 and torch.equal(batches[0]["video_features"], expected["video_features"])


def test_what_get_gives_may_be_written_to(complete: Path) -> None:
    store = FeatureStore(complete)
    key = next(iter(store))
    features = store.get(key)
    assert features.untyped_storage().nbytes() == features.nbytes  # not the whole shard, wherever it is sent
    before = features.clone()
    features.zero_()
    assert before.any() and torch.equal(store.get(key), before) and store.verify() == []


def test_a_store_knows_its_size(complete: Path, rows, model, processor) -> None:
    store = FeatureStore(complete)
    assert len(store) == 8 and "of no clip" not in store
    assert store.num_bytes == sum(path.stat().st_size for path in shards(complete))
    features = stored(complete, rows, model, processor)
    keys = keys_of(rows, model, processor, complete)
    assert [store.num_frames(key) for key in keys] == list(map(len, features))
    with pytest.raises(KeyError):
        store.get("of no clip")


def test_shards_are_safetensors_and_the_same_features_make_the_same_shard(complete: Path, tmp_path: Path) -> None:
    store, copy = FeatureStore(complete), FeatureStore(tmp_path)
    found = {}
    for shard in shards(complete):
        tensors = load_file(shard)
        found |= tensors
        assert copy.write(dict(reversed(tensors.items()))).name == shard.name
        assert (tmp_path / shard.name).read_bytes() == shard.read_bytes()
    assert set(found) == set(store) and all(torch.equal(store.get(key), features) for key, features in found.items())


def test_only_float16_sequences_are_written(complete: Path) -> None:
    with pytest.raises(ValueError, match=r"'key' is .* torch\.float32"):
        FeatureStore(complete).write({"key": torch.zeros(2, 3)})


def test_no_store_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no features in .*`foal-hf embed`"):
        FeatureStore(tmp_path / "nowhere")


def test_a_line_that_was_cut_off_costs_one_digest(rows, model, processor, store_dir: Path, opened) -> None:
    records = store_dir / "files.jsonl"
    records.write_bytes(records.read_bytes()[:-9])
    expected = keys_of(rows, model, processor, store_dir)
    assert sum(opened[row["video"]] for row in rows) == 1
    opened.clear()
    assert keys_of(rows, model, processor, store_dir) == expected
    assert sum(opened[row["video"]] for row in rows) == 0


def test_a_store_that_may_only_be_read_serves(rows, model, processor, store_dir: Path, monkeypatch) -> None:
    really_open = open

    def read_only(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if Path(str(file)).parent == store_dir and mode != "rb" and set(mode) & set("wxa+"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really_open(file, mode, *args, **kwargs)

    monkeypatch.setattr("builtins.open", read_only)
    (store_dir / "files.jsonl").unlink()
    clips = ClipDataset(rows, processor, model.config.label2id)
    assert len(FeatureClipDataset(clips, FeatureStore(store_dir), model)[0]["video_features"]) > 0


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"batch_frames": 0}, {"num_workers": -1}], ids=str)
def test_arguments_that_make_no_sense_are_refused(options: Row, rows, model, processor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` "):
        quiet_embed(rows, model, processor, tmp_path, **options)


def test_progress_is_shown(rows, model, processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet_embed(rows, model, processor, tmp_path, progress=True)
    shown = capsys.readouterr().err
    assert "Reading files" in shown and "Encoding video: 100%" in shown
    quiet_embed(rows, model, processor, tmp_path, progress=True)
    assert capsys.readouterr().err == ""
