"""Rows to training batches, through the processor and into the plain Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from foal_hf.data import ClipCollator, ClipDataset
from foal_hf.quickstart import LABEL2ID, make_tiny_model, make_tiny_processor
from foal_hf.synthetic import generate_corpus, read_metadata


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = generate_corpus(
        tmp_path_factory.mktemp("data") / "corpus", num_speakers=3, clips_per_emotion=1, num_workers=1, progress=False
    )
    return read_metadata(folder)


def test_examples_hold_the_clip_and_the_index_of_its_emotion(rows) -> None:
    examples = ClipDataset(rows, make_tiny_processor(), LABEL2ID)
    assert len(examples) == 12
    assert [examples[index]["labels"] for index in range(4)] == [LABEL2ID[row["emotion"]] for row in rows[:4]]
    assert examples[0]["clip"].modalities == ("audio", "video")


def test_an_unknown_emotion_is_refused_before_anything_is_read(rows) -> None:
    with pytest.raises(ValueError, match="hold the emotions bored, but the model knows happy, neutral, sad, angry"):
        ClipDataset([{**rows[0], "emotion": "bored"}], make_tiny_processor(), LABEL2ID)


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
