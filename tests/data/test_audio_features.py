"""Stored features of the audio encoder, alone and beside those of the image encoder."""

import copy
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media_builders import make_clip
from tiny_models import OTHER_AUDIO_ENCODERS, tiny_config, tiny_model, with_random_biases
from tiny_processors import tiny_processor
from transformers import Trainer, TrainingArguments

from foal_hf import FoalNetForEmotionClassification, FoalNetModel, FoalNetProcessor
from foal_hf.cli import main
from foal_hf.data import ClipCollator, ClipDataset
from foal_hf.data.features import FeatureClipDataset, FeatureCollator, FeatureStore, FeatureStoreError, embed
from foal_hf.data.features import keys as keys_module
from foal_hf.data.features.keys import FeatureKeys
from foal_hf.synthetic import EMOTIONS, generate_corpus, read_metadata


CHILD = Path(__file__).parents[1] / "support" / "feature_child.py"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Four generated clips and clips that lack something or are part of something."""
    folder = tmp_path_factory.mktemp("clips")
    generate_corpus(folder / "corpus", num_speakers=3, clips_per_emotion=1, num_workers=1, progress=False)
    rows = [{key: row[key] for key in ("audio", "video", "emotion")} for row in read_metadata(folder / "corpus")[:4]]
    both, mute = rows[0]["video"], str(make_clip(folder / "mute.mp4", audio=None))
    unseen = str(make_clip(folder / "unseen.mp4", video=None))
    still = str(make_clip(folder / "still.png", "-frames:v", 1, audio=None))
    odd = [
        {"audio": both, "video": both, "start_seconds": 0.3, "end_seconds": 1.1},
        {"audio": unseen, "video": both, "start_seconds": 0.5, "audio_start_seconds": 1.5},
        {"audio": both, "video": None},
        {"audio": None, "video": both},
        {"audio": mute, "video": mute},
        {"audio": unseen, "video": still, "start_seconds": 1.0},
        {"audio": np.linspace(-0.5, 0.5, 4003, dtype=np.float32), "sampling_rate": 16_000, "video": None},
    ]
    return rows + [{**row, "emotion": EMOTIONS[index % 4]} for index, row in enumerate(odd)]


@pytest.fixture(scope="module")
def model() -> FoalNetForEmotionClassification:
    """With both encoders frozen."""
    torch.manual_seed(3)
    config = tiny_config("hubert-group", id2label=dict(enumerate(EMOTIONS)))
    model = with_random_biases(FoalNetForEmotionClassification(config)).eval()
    model.foal_net.audio_encoder.requires_grad_(False)
    return model


@pytest.fixture(scope="module")
def processor() -> FoalNetProcessor:
    return tiny_processor()


@pytest.fixture(scope="module")
def complete(rows, model, processor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    quiet_embed(rows, model, processor, folder, sides=("audio", "video"))
    return folder


def quiet_embed(rows: Any, model: Any, processor: Any, folder: Path, **options: Any) -> FeatureStore:
    return embed(rows, model, processor, folder, **{"num_workers": 0, "progress": False, **options})


def batch_of(clips: Any, collator: Any) -> dict[str, torch.Tensor]:
    return collator([clips[index] for index in range(len(clips))])


def audio_keys(rows: list[Row], model: Any, processor: Any, folder: Path) -> list[str | None]:
    keys = FeatureKeys(model, processor, folder, "audio")
    return [keys.key(row) for row in rows]


@pytest.mark.parametrize("sides", [None, ("audio",), ("video",)], ids=str)
@torch.no_grad()
def test_the_model_gives_the_same_from_stored_audio_as_from_audio(sides, rows, complete, model, processor) -> None:
    clips = ClipDataset(rows, processor, model.config.label2id)
    stored = batch_of(FeatureClipDataset(clips, FeatureStore(complete), model, sides=sides), FeatureCollator(processor))
    raw = batch_of(clips, ClipCollator(processor))
    assert ("audio_features" in stored) == (sides != ("video",)) == ("input_values" not in stored)
    assert ("video_features" in stored) == (sides != ("audio",)) == ("pixel_values_videos" not in stored)
    assert stored["attention_mask"].any(dim=1).tolist() == raw["attention_mask"].any(dim=1).tolist()
    expected, found = model(**raw), model(**stored)
    assert torch.equal(found.audio_mask, expected.audio_mask)
    torch.testing.assert_close(found.logits, expected.logits, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.loss, expected.loss, atol=5e-3, rtol=0)


@torch.no_grad()
def test_features_of_spectrograms_and_of_summed_layers_stand_for_their_audio(rows, tmp_path: Path) -> None:
    model = tiny_model("whisper", id2label=dict(enumerate(EMOTIONS)), audio_layers="all", freeze_audio_encoder=True)
    processor = FoalNetProcessor(
        copy.deepcopy(OTHER_AUDIO_ENCODERS["whisper"][1]), tiny_processor(max_seconds=0.9).video_processor
    )
    with pytest.raises(ValueError, match="learns the weights of the layers of its audio encoder"):
        quiet_embed(rows[:3], model, processor, tmp_path / "store", sides=("audio",))
    weights = model.foal_net.audio_layer_weights.requires_grad_(False)
    weights.copy_(torch.tensor([0.3, -0.2, 0.9]))
    store = quiet_embed(rows[:3], model, processor, tmp_path / "store", sides=("audio",))
    clips = ClipDataset(rows[:3], processor, model.config.label2id)
    stored = batch_of(FeatureClipDataset(clips, store, model, sides=("audio",)), FeatureCollator(processor))
    raw = batch_of(clips, ClipCollator(processor))
    assert "audio_features" in stored and "input_features" in raw
    torch.testing.assert_close(model(**stored).logits, model(**raw).logits, atol=5e-3, rtol=0)
    weights[0] += 0.1
    with pytest.raises(FeatureStoreError, match="another audio encoder"):
        FeatureClipDataset(clips, store, model, sides=("audio",))


def test_one_modality_of_stored_clips_can_be_used_alone(rows, complete, model, processor) -> None:
    store = FeatureStore(complete)
    for modality in ("audio", "video"):
        clips = ClipDataset(rows[:2], processor, model.config.label2id, modalities=(modality,))
        batch = batch_of(FeatureClipDataset(clips, store, model), FeatureCollator(processor))
        assert sorted(set(batch) & {"audio_features", "video_features"}) == [f"{modality}_features"]
        assert not {"input_values", "pixel_values_videos"} & set(batch)


def test_without_stored_audio_the_waveforms_are_read_as_before(rows, model, processor, tmp_path: Path) -> None:
    store = quiet_embed(rows[:2], model, processor, tmp_path)
    clips = ClipDataset(rows[:2], processor, model.config.label2id)
    batch = batch_of(FeatureClipDataset(clips, store, model), FeatureCollator(processor))
    assert "input_values" in batch and "video_features" in batch and "audio_features" not in batch
    with pytest.raises(FeatureStoreError, match=r"2 of 2 clips have no audio features.* it holds nothing of the audio"):
        FeatureClipDataset(clips, store, model, sides=("audio",))
    quiet_embed(rows[:2], model, tiny_processor(frames_per_second=7.0), tmp_path, sides=("audio",))
    only_audio = FeatureStore(tmp_path)
    with pytest.raises(FeatureStoreError, match=r"no video features.*: frames_per_second was 5.0, now 7.0\. Run"):
        FeatureClipDataset(
            ClipDataset(rows[:2], tiny_processor(frames_per_second=7.0), model.config.label2id), only_audio, model
        )


def test_audio_that_was_not_stored_is_an_error_or_left_out(rows, complete, model, processor) -> None:
    more = [*rows[:2], {**rows[2], "end_seconds": 0.7}]
    clips = ClipDataset(more, processor, model.config.label2id)
    with pytest.raises(FeatureStoreError, match=r"1 of 3 clips have no audio features .* ranges or crop boxes differ"):
        FeatureClipDataset(clips, FeatureStore(complete), model, sides=("audio",))
    kept = FeatureClipDataset(clips, FeatureStore(complete), model, on_missing="skip")
    assert len(kept) == 2 and kept[1]["audio_features"] is not None


@pytest.mark.parametrize(
    "change",
    [{"start_seconds": 0.1}, {"end_seconds": 1.3}, {"audio_start_seconds": 0.2}, {"sampling_rate": 8000}],
    ids=lambda change: next(iter(change)),
)
def test_another_part_of_the_audio_has_another_key(change: Row, rows, model, processor, tmp_path: Path) -> None:
    row = rows[0]
    others = [row, {**row, **change}, {**row, "crop_box": [0, 0, 9, 9], "start_seconds": None, "emotion": "?"}]
    keys = audio_keys(others, model, processor, tmp_path)
    assert keys[0] != keys[1] and keys[0] == keys[2]


def test_other_weights_or_settings_of_the_audio_have_another_key(rows, model, processor, tmp_path: Path) -> None:
    before = audio_keys(rows[:1], model, processor, tmp_path)
    assert audio_keys(rows[:1], model, tiny_processor(), tmp_path) == before
    assert audio_keys(rows[:1], model, tiny_processor(max_seconds=3.0), tmp_path) != before
    assert audio_keys(rows[:1], model, tiny_processor(frames_per_second=7.0), tmp_path) == before
    changed = tiny_processor()
    changed.feature_extractor.do_normalize = False
    assert audio_keys(rows[:1], model, changed, tmp_path) != before
    weight = next(iter(model.foal_net.audio_encoder.parameters()))
    kept = weight.data.clone()
    weight.data.view(-1)[0] += 1e-3
    assert audio_keys(rows[:1], model, processor, tmp_path) != before
    weight.data.copy_(kept)
    assert audio_keys(rows[:1], model, processor, tmp_path) == before
    video = FeatureKeys(model, processor, tmp_path).key(rows[0])
    assert video not in before


def test_waveforms_in_memory_are_told_apart_by_content(model, processor, tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 401, dtype=np.float32)
    sources = [samples, samples.copy(), torch.from_numpy(samples), samples[:400], samples.astype(np.float64)]
    sources += [{"array": samples, "sampling_rate": 16_000}, {"array": samples, "sampling_rate": 8_000}]
    keys = audio_keys([{"audio": source} for source in sources], model, processor, tmp_path)
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys)) == 5


def test_keys_of_video_are_those_of_the_first_release(model, processor, tmp_path: Path, monkeypatch) -> None:
    # Stores are kept for years: a key changes only together with what the features are.
    monkeypatch.setattr(keys_module, "encoder_digest", lambda base, side: "weights")
    monkeypatch.setattr(keys_module, "READING_VERSION", 2)
    keys = FeatureKeys(model, processor, tmp_path)
    row = {"video": b"clip", "start_seconds": 0.5, "end_seconds": 2.0, "crop_box": [1, 2, 30, 40]}
    assert [keys.key(row), keys.key({"video": b"clip"})] == [
        "d66570d3bfbc88ad6f3eac3f09a86a48",
        "57626f59070be758c763358823cda78d",
    ]


def test_a_second_run_computes_nothing_and_keeps_what_is_there(rows, complete, model, processor, tmp_path) -> None:
    folder = shutil.copytree(complete, tmp_path / "store")
    before = sorted(path.name for path in folder.glob("features-*"))
    passes: list[int] = []
    hook = model.foal_net.audio_encoder.register_forward_pre_hook(lambda *_: passes.append(1))
    store = quiet_embed(rows, model, processor, folder, sides=("video", "audio"))
    assert sorted(path.name for path in folder.glob("features-*")) == before and passes == []
    quiet_embed([*rows, {**rows[0], "end_seconds": 1.0}], model, processor, folder, sides=("audio",))
    hook.remove()
    assert passes == [1] and len(FeatureStore(folder)) == len(store) + 1


def test_killed_in_the_middle_of_the_audio_it_goes_on(rows, model, processor, complete, tmp_path: Path) -> None:
    files = rows[:6]  # all with audio: a clip without adds no bytes to a shard
    checkpoint, folder = tmp_path / "checkpoint", tmp_path / "store"
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)
    (checkpoint / "rows.json").write_text(json.dumps(files))
    command = [sys.executable, CHILD, checkpoint, checkpoint / "rows.json", folder, 4, "audio"]
    killed = subprocess.run(list(map(str, command)), input="\n", capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    before = FeatureStore(folder)
    assert len(before) == 3 and before.verify() == []
    after = quiet_embed(files, model, processor, folder, sides=("audio",))
    expected = FeatureStore(complete)
    for key in set(audio_keys(files, model, processor, folder)):
        torch.testing.assert_close(after.get(key), expected.get(key), atol=2e-3, rtol=2e-3)


def test_an_audio_encoder_that_is_trained_or_missing_is_refused(rows, processor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trains its audio encoder .*Read the audio instead, or load the model"):
        quiet_embed(rows, FoalNetModel(tiny_config()), processor, tmp_path / "store", sides=("audio",))
    tiny = tiny_config()
    config = type(tiny)(audio_feature_dim=8, vision_config=tiny.vision_config, projection_dim=16)
    with pytest.raises(ValueError, match=r"has no audio encoder: it takes audio features of width 8 from"):
        quiet_embed(rows, FoalNetModel(config), processor, tmp_path / "store", sides=("audio",))
    with pytest.raises(ValueError, match=r"`sides` has to name audio, video or both, got \('both',\)"):
        quiet_embed(rows, FoalNetModel(tiny_config()), processor, tmp_path / "store", sides=("both",))
    assert not (tmp_path / "store").exists()


def test_the_plain_trainer_trains_on_both_sides(rows, complete, processor, model, tmp_path: Path) -> None:
    fresh = FoalNetForEmotionClassification(model.config)
    fresh.load_state_dict(model.state_dict())
    fresh.foal_net.audio_encoder.requires_grad_(False)
    clips = ClipDataset(rows, processor, fresh.config.label2id)
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    examples = FeatureClipDataset(clips, FeatureStore(complete), fresh)
    Trainer(fresh, arguments, train_dataset=examples, data_collator=FeatureCollator(processor)).train()
    assert not torch.equal(fresh.classifier.weight, model.classifier.weight)
    for name, weight in fresh.foal_net.audio_encoder.state_dict().items():
        assert torch.equal(weight, model.foal_net.audio_encoder.state_dict()[name]), name


def test_the_command_stores_either_side(model, processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save_pretrained(tmp_path / "checkpoint")
    processor.save_pretrained(tmp_path / "checkpoint")
    generate_corpus(tmp_path / "clips", num_speakers=3, clips_per_emotion=1, num_workers=1, progress=False)
    words = ["embed", "folder", "--data-dir", tmp_path / "clips", "--cache-dir", tmp_path / "cache", "--num-workers", 0]
    words += ["--model", tmp_path / "checkpoint", "--output", tmp_path / "store", "--json", "--side"]

    def run(*options: str) -> int:
        return main([str(word) for word in (*words, *options)])

    assert run("audio") == 1
    assert "trains its audio encoder" in capsys.readouterr().err
    for options, clips in ((("audio", "--freeze-audio-encoder"), 12), (("both", "--freeze-audio-encoder"), 24)):
        assert run(*options) == 0
        assert json.loads(capsys.readouterr().out)["clips"] == clips
