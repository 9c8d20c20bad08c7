"""The results file beside each checkpoint: which clips the model was trained on and chosen by."""

from pathlib import Path
from typing import Any

import pytest
from training_examples import Examples, collate, make_arguments, make_model
from transformers import Trainer, TrainingArguments

from foal_hf.results import Corpus, Results
from foal_hf.training import FoalNetTrainer, TrainingRecord


TRAIN, VALIDATION, OTHERS = Examples(7), Examples(5, first_speaker=7), Examples(3, first_speaker=11)
VALIDATION.clip_ids = [f"validation{index}" for index in range(5)]
OTHERS.clip_ids = [f"other{index}" for index in range(3)]


def make_trainer(folder: Path, corpus: Corpus | None = None, **fields: Any) -> FoalNetTrainer:
    arguments = make_arguments(folder, **{"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, **fields})
    parts: dict[str, Any] = {"train_dataset": TRAIN, "eval_dataset": VALIDATION, "data_collator": collate}
    return FoalNetTrainer(make_model(), arguments, corpus=corpus, **parts)


def test_every_checkpoint_lists_its_training_and_validation_clips(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=1)
    trainer.train()
    trainer.evaluate(OTHERS)  # a test
    trainer.save_model(str(tmp_path / "elsewhere"))
    for folder in ("checkpoint-1", "checkpoint-2", ".", "elsewhere"):
        results = Results.load(tmp_path / folder / "results.json")
        assert results.splits["train"].clip_ids == TRAIN.clip_ids and results.splits["train"].num_speakers == 3
        assert results.splits["validation"].clip_ids == VALIDATION.clip_ids
        assert list(results.splits) == ["train", "validation"]
        assert results.labels == ["happy", "neutral", "sad", "angry"] and results.selection == "last"


def test_the_plain_trainer_takes_the_record_as_a_callback(tmp_path: Path) -> None:
    fields = {"max_steps": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True, "remove_unused_columns": False}
    arguments = TrainingArguments(str(tmp_path), save_strategy="no", dataloader_pin_memory=False, **fields)
    record = TrainingRecord(Corpus("Made-up Corpus"))
    Trainer(make_model(), arguments, train_dataset=TRAIN, data_collator=collate, callbacks=[record]).train()
    results = Results.load(tmp_path / "results.json")
    assert results.corpus == Corpus("Made-up Corpus") and list(results.splits) == ["train"]
    assert results.splits["train"].clip_ids == TRAIN.clip_ids


def test_several_validation_splits_are_recorded_together(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.eval_dataset = {"one": VALIDATION, "two": OTHERS}
    trainer.train()
    split = Results.load(tmp_path / "results.json").splits["validation"]
    assert split.clip_ids == sorted([*VALIDATION.clip_ids, *OTHERS.clip_ids]) and split.num_clips == 8


def test_the_chosen_epoch_is_recorded(tmp_path: Path) -> None:
    fields = {"save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True, "learning_rate": 0.0}
    make_trainer(tmp_path, **fields).train()
    results = Results.load(tmp_path / "results.json")
    assert results.selection == "validation" and results.selected_epoch == 0.5  # nothing gets better after step 1


def test_ids_that_must_not_be_published_do_not_end_a_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train_dataset = Examples(7)
    trainer.train_dataset.clip_ids = [f"/home/somebody/{index}.mp4" for index in range(7)]
    assert trainer.train().global_step == 2
    assert "trained on are not recorded" in caplog.text and not (tmp_path / "results.json").exists()


def test_the_results_file_of_a_finished_run_is_not_overwritten_by_saving(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.train()
    own = Results.load(tmp_path / "results.json").splits
    (tmp_path / "results.json").write_text("mine")
    trainer.save_model()
    assert own and (tmp_path / "results.json").read_text() == "mine"
