"""Rows to training batches, through the processor and into the plain Trainer."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from foal_hf.corpora import load_corpus
from foal_hf.data import ClipCollator, ClipDataset
from foal_hf.experiments.quickstart import LABEL2ID, make_tiny_model, make_tiny_processor
from foal_hf.synthetic import generate_corpus, read_metadata


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = generate_corpus(
        tmp_path_factory.mktemp("data") / "corpus", num_speakers=3, clips_per_emotion=1, num_workers=1, progress=False
    )
    return read_metadata(folder)


@pytest.fixture(scope="module")
def corpus(rows, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = Path(rows[0]["video"]).parents[2]
    return load_corpus("folder", folder, split="train+validation+test", cache_dir=tmp_path_factory.mktemp("cache"))


def test_examples_hold_the_clip_and_the_index_of_its_emotion(rows) -> None:
    examples = ClipDataset(rows, make_tiny_processor(), LABEL2ID)
    assert len(examples) == 12
    assert [examples[index]["labels"] for index in range(4)] == [LABEL2ID[row["emotion"]] for row in rows[:4]]
    assert examples[0]["clip"].modalities == ("audio", "video")


def test_an_unknown_emotion_is_refused_before_anything_is_read(rows) -> None:
    with pytest.raises(ValueError, match="emotions bored, but the model has the labels happy, neutral, sad, angry"):
        ClipDataset([{**rows[0], "emotion": "bored"}], make_tiny_processor(), LABEL2ID)


def test_rows_of_a_corpus_are_examples_like_rows_of_a_list(rows, corpus: Dataset) -> None:
    processor = make_tiny_processor()
    listed, loaded = ClipDataset(rows, processor, LABEL2ID), ClipDataset(corpus, processor, LABEL2ID)
    places = {row["video"]: index for index, row in enumerate(rows)}
    paths = [row["path"] for row in loaded.rows["video"]]
    assert corpus.features["emotion"].names != list(LABEL2ID)  # so the indices have to be translated
    assert loaded.labels == [listed.labels[places[path]] for path in paths]
    one, other = loaded[5]["clip"], listed[places[paths[5]]]["clip"]
    assert torch.equal(one.waveform, other.waveform) and torch.equal(one.frames, other.frames)


def test_rows_of_a_dataset_may_name_their_files_as_text(rows) -> None:
    columns = ("audio", "video", "emotion")
    dataset = Dataset.from_list([{name: row[name] for name in columns} for row in rows[:2]])
    examples = ClipDataset(dataset, make_tiny_processor(), LABEL2ID)
    assert examples[1]["clip"].modalities == ("audio", "video")
    assert examples.labels == [LABEL2ID[row["emotion"]] for row in rows[:2]]


def test_workers_open_the_files_of_a_corpus_themselves(corpus: Dataset) -> None:
    processor = make_tiny_processor()
    examples = ClipDataset(corpus.with_format("torch"), processor, LABEL2ID)
    assert all(isinstance(row["video"]["path"], str) for row in examples.rows)
    assert pickle.loads(pickle.dumps(examples))[3]["clip"].modalities == ("audio", "video")
    (batch,) = DataLoader(examples, batch_size=12, num_workers=1, collate_fn=ClipCollator(processor))
    assert batch["labels"].tolist() == examples.labels


def test_a_corpus_with_other_classes_than_the_model_is_refused_with_both_lists(corpus: Dataset) -> None:
    message = "have the emotions angry, happy, neutral, sad, but the model has the labels sad, happy: 6 of 12 rows"
    with pytest.raises(ValueError, match=message):
        ClipDataset(corpus, make_tiny_processor(), {"sad": 0, "happy": 1})


def test_classes_of_a_corpus_without_rows_may_be_unknown_to_the_model(corpus: Dataset) -> None:
    happy = corpus.select([index for index, emotion in enumerate(corpus["emotion"]) if emotion == 1])
    assert ClipDataset(happy, make_tiny_processor(), {"sad": 0, "happy": 1}).labels == [1, 1, 1]


def test_a_stream_is_no_set_of_examples(corpus: Dataset) -> None:
    with pytest.raises(TypeError, match="without streaming"):
        ClipDataset(corpus.to_iterable_dataset(), make_tiny_processor(), LABEL2ID)


def test_sound_that_begins_elsewhere_than_the_picture_is_read_from_there(rows) -> None:
    row = {**rows[0], "start_seconds": 0.5, "end_seconds": 0.9}
    here, there, elsewhere = (
        ClipDataset([{**row, "audio_start_seconds": start}], make_tiny_processor(), LABEL2ID)[0]["clip"]
        for start in (None, 0.5, 0.0)
    )
    assert torch.equal(here.waveform, there.waveform)
    assert torch.equal(here.frames, elsewhere.frames)
    begin = ClipDataset([{**rows[0], "end_seconds": 0.4}], make_tiny_processor(), LABEL2ID)[0]["clip"]
    assert torch.equal(elsewhere.waveform, begin.waveform) and not torch.equal(here.waveform, begin.waveform)


def test_one_modality_can_be_read_alone(rows) -> None:
    for modality in ("audio", "video"):
        examples = ClipDataset(rows, make_tiny_processor(), LABEL2ID, modalities=(modality,))
        assert examples[0]["clip"].modalities == (modality,)


def test_kept_clips_are_decoded_once(rows, monkeypatch: pytest.MonkeyPatch) -> None:
    processor = make_tiny_processor()
    examples = ClipDataset(rows, processor, LABEL2ID, keep_in_memory=True)
    first = examples[0]["clip"]
    monkeypatch.setattr(processor, "read", lambda *args, **kwargs: pytest.fail("decoded again"))
    assert examples[0]["clip"] is first


def test_part_of_a_recording_is_an_example(rows) -> None:
    row = {**rows[0], "start_seconds": 0.2, "end_seconds": 0.7, "crop_box": (0, 0, 48, 96)}
    clip = ClipDataset([row], make_tiny_processor(), LABEL2ID)[0]["clip"]
    assert len(clip.waveform) == 8000 and clip.start_seconds == 0.2


def test_collator_pads_and_labels(rows) -> None:
    processor = make_tiny_processor()
    examples = ClipDataset(rows, processor, LABEL2ID)
    batch = ClipCollator(processor)([examples[index] for index in range(3)])
    assert batch["labels"].tolist() == [examples[index]["labels"] for index in range(3)]
    lengths = [len(examples[index]["clip"].waveform) for index in range(3)]
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert batch["input_values"].shape == (3, max(lengths))


def test_a_trainer_that_removes_the_clips_is_told_how_not_to(rows, tmp_path: Path) -> None:
    processor = make_tiny_processor()
    trainer = Trainer(
        model=make_tiny_model(),
        args=TrainingArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=True, report_to=[], disable_tqdm=True),
        train_dataset=ClipDataset(rows, processor, LABEL2ID),
        data_collator=ClipCollator(processor),
    )
    with pytest.raises(ValueError, match=r"only labels and no `clip`.*set `remove_unused_columns=False`"):
        trainer.train()


def test_the_plain_trainer_lowers_the_loss(rows, tmp_path: Path) -> None:
    torch.manual_seed(0)
    processor, model = make_tiny_processor(), make_tiny_model()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=30,
        per_device_train_batch_size=12,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        logging_steps=10,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=ClipDataset(rows, processor, LABEL2ID, keep_in_memory=True),
        data_collator=ClipCollator(processor),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
