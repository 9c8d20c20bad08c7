"""FoalNetTrainer: its logs, repeated and resumed runs, and the errors of runs that cannot succeed."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
from torch.utils.data import Subset
from training_examples import CLASSES, Examples, collate, make_arguments, make_model
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

import foal_hf.hub
from foal_hf.data.sampling import BalancedLengthSampler
from foal_hf.experiments.tiny import make_tiny_processor
from foal_hf.training import LOSSES, FoalNetTrainer, FoalNetTrainingArguments
from foal_hf.training.checks import check_disk_space, checkpoint_bytes, column_of, last_good_checkpoint


# The field was renamed within transformers 5.
CHECKPOINTING = next(
    field.name
    for field in dataclasses.fields(TrainingArguments)
    if field.name in ("activation_checkpointing", "gradient_checkpointing")
)


def make_trainer(folder: Path, model: Any = None, train: Any = None, **fields: Any) -> FoalNetTrainer:
    return FoalNetTrainer(
        model or make_model(),
        make_arguments(folder, **fields),
        train_dataset=Examples() if train is None else train,
        eval_dataset=Examples(11, seed=1, first_speaker=7),
        data_collator=collate,
    )


def logged(trainer: Trainer, key: str) -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def curve(trainer: Trainer) -> dict[int, tuple[float, ...]]:
    """All that is logged of each step's losses and gradients."""
    names = ("loss", "grad_norm", *LOSSES)
    return {e["step"]: tuple(e[n] for n in names) for e in trainer.state.log_history if "loss" in e}


def test_the_plain_trainer_trains_the_same_model(tmp_path: Path) -> None:
    fields = {"max_steps": 3, "report_to": [], "use_cpu": True, "disable_tqdm": True, "remove_unused_columns": False}
    arguments = TrainingArguments(output_dir=str(tmp_path), dataloader_pin_memory=False, save_strategy="no", **fields)
    trainer = Trainer(make_model(), arguments, train_dataset=Examples(), data_collator=collate)
    assert trainer.train().global_step == 3


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 1), (1, 5), (4, 1), (4, 3)])
def test_the_three_losses_are_logged_over_the_steps_and_batches_of_the_loss(tmp_path, accumulation, steps) -> None:
    weights = {"alignment_loss_weight": 0.5, "matching_loss_weight": 0.25}
    # 6 batches an epoch: with 4 to a step, every other step has 2.
    fields = {"gradient_accumulation_steps": accumulation, "logging_steps": steps}
    trainer = make_trainer(tmp_path, make_model(**weights), **fields)
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(entries) == (12 if accumulation == 1 else 4) // steps
    for entry in entries:
        expected = entry["classification_loss"] + 0.5 * entry["alignment_loss"] + 0.25 * entry["matching_loss"]
        assert entry["loss"] == pytest.approx(expected, abs=1e-5)
        assert min(entry["classification_loss"], entry["alignment_loss"]) > 0.5


def test_a_loss_that_the_config_leaves_out_is_not_logged(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, make_model(matching_loss_weight=0.0), max_steps=1)
    trainer.train()
    assert logged(trainer, "alignment_loss") and not logged(trainer, "matching_loss")


@pytest.mark.parametrize("batch_size", [5, 11, 17])
def test_evaluation_gives_the_three_losses_and_ua_and_wa(tmp_path: Path, batch_size: int) -> None:
    metrics = make_trainer(tmp_path, per_device_eval_batch_size=batch_size).evaluate()
    expected = (
        metrics["eval_classification_loss"] + metrics["eval_alignment_loss"] + 0.1 * metrics["eval_matching_loss"]
    )
    assert metrics["eval_loss"] == pytest.approx(expected, abs=1e-5)
    assert {"eval_unweighted_accuracy", "eval_weighted_accuracy"} <= metrics.keys()


def test_the_classification_loss_of_an_evaluation_does_not_depend_on_its_batches(tmp_path: Path) -> None:
    losses = [make_trainer(tmp_path, per_device_eval_batch_size=size).evaluate() for size in (3, 11)]
    small, large = (metrics["eval_classification_loss"] for metrics in losses)
    assert small == pytest.approx(large, abs=1e-5)


def test_predictions_come_in_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = Examples(11, seed=1)
    prediction = make_trainer(tmp_path).predict(rows)
    assert prediction.label_ids.tolist() == rows.labels
    assert "test_alignment_loss" in prediction.metrics


def test_what_is_logged_reaches_whoever_reports(tmp_path: Path) -> None:
    seen: set[str] = set()

    class Reporter(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            seen.update(logs)

    trainer = make_trainer(tmp_path, max_steps=2, eval_strategy="steps", eval_steps=1)
    trainer.add_callback(Reporter())
    trainer.train()
    assert {*LOSSES, *(f"eval_{name}" for name in LOSSES)} <= seen


def test_two_batches_of_4_give_the_step_of_one_of_8_where_losses_are_means_over_clips(tmp_path: Path) -> None:
    models = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        model = make_model(dropout=False, alignment_loss_weight=0.0, matching_loss_weight=0.0)
        trainer = make_trainer(
            tmp_path,
            model,
            Examples(24),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            train_sampling_strategy="random",  # whose order knows no batches
            optim="sgd",
            learning_rate=0.1,
        )
        trainer.train()
        models.append((model, logged(trainer, "loss")))
    (one, losses), (two, accumulated) = models
    assert accumulated == pytest.approx(losses, abs=1e-5)
    start = dict(make_model().named_parameters())
    for name, weight in one.named_parameters():
        torch.testing.assert_close(two.get_parameter(name), weight, atol=1e-5, rtol=0, msg=name)
    assert any((weight - start[name]).abs().max() > 1e-2 for name, weight in one.named_parameters())


def test_accumulated_batches_are_contrasted_each_for_itself(tmp_path: Path) -> None:
    logs = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        trainer = make_trainer(
            tmp_path,
            make_model(dropout=False),
            Examples(8),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            train_sampling_strategy="random",
            max_steps=1,
        )
        trainer.train()
        logs.append(trainer.state.log_history[0])
    assert logs[0]["classification_loss"] == pytest.approx(logs[1]["classification_loss"], abs=1e-5)
    # A sum over positives of the logarithm of the batch: 8 clips have more of both.
    assert logs[0]["alignment_loss"] > 1.5 * logs[1]["alignment_loss"]


@pytest.mark.parametrize(("accumulation", "step"), [(1, 9), (1, 6), (2, 4)], ids=["in epoch 2", "between", "both"])
def test_a_resumed_run_repeats_the_rest_bit_for_bit(tmp_path: Path, accumulation: int, step: int) -> None:
    fields = {"gradient_accumulation_steps": accumulation, "save_strategy": "steps", "save_steps": step}
    whole = make_trainer(tmp_path, **fields)
    whole.train()
    torch.manual_seed(123456)
    resumed = make_trainer(tmp_path, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
    assert len(curve(whole)) == 12 // accumulation and curve(resumed) == curve(whole)
    assert len({losses[0] for losses in curve(whole).values()}) == 12 // accumulation
    for name, weight in whole.model.named_parameters():
        assert resumed.model.get_parameter(name).equal(weight), name


def test_runs_repeat_and_another_seed_is_another_run(tmp_path: Path) -> None:
    curves = []
    for seed in (3, 3, 5):
        trainer = make_trainer(tmp_path, num_train_epochs=1, seed=seed)
        trainer.train()
        curves.append(curve(trainer))
    assert curves[0] == curves[1] != curves[2]


def test_early_stopping_ends_the_run_with_the_best_epoch(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path,
        num_train_epochs=30,
        learning_rate=0.0,  # nothing ever gets better
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    assert trainer.args.metric_for_best_model == "unweighted_accuracy" and trainer.args.greater_is_better
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=2))
    trainer.train()
    assert trainer.state.epoch == 3 and trainer.state.best_global_step == 6


def test_half_precision_trains(tmp_path: Path) -> None:
    losses = []
    for bf16 in (False, True):
        trainer = make_trainer(tmp_path, make_model(dropout=False), num_train_epochs=1, bf16=bf16)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_checkpointing_activations_gives_the_same_losses(tmp_path: Path) -> None:
    curves = []
    for checkpointing in (False, True):
        model = make_model(dropout=False)
        trainer = make_trainer(tmp_path, model, num_train_epochs=1, **{CHECKPOINTING: checkpointing})
        trainer.train()
        assert model.foal_net.fusion.audio_queries_video[0].gradient_checkpointing == checkpointing
        curves.append(curve(trainer))
    for step, losses in curves[0].items():
        assert curves[1][step] == pytest.approx(losses, abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")  # in transformers
def test_a_compiled_model_gives_the_same_losses(tmp_path: Path) -> None:
    losses = []
    for backend in (None, "eager"):
        torch.compiler.reset()
        trainer = make_trainer(tmp_path, make_model(dropout=False), max_steps=1, torch_compile_backend=backend)
        trainer.train()
        losses.append(logged(trainer, "classification_loss"))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


class Broken(Examples):
    """One clip is full of NaN. Notes the order in which clips are asked for."""

    def __init__(self, clip: int, num_clips: int = 23) -> None:
        super().__init__(num_clips)
        self.waveforms[clip] = self.waveforms[clip] * torch.nan
        self.asked: list[int] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.asked.append(index)
        return super().__getitem__(index)


def names_in(message: str) -> list[str]:
    return re.findall(r"clip\d\d", message)


def batch_with(dataset: Broken, clip: int, first_epoch: int = 23) -> list[str]:
    """The batch of 4 with a clip, after the one clip that is read before training."""
    epochs = dataset.asked[1 : 1 + first_epoch], dataset.asked[1 + first_epoch :]
    batches = [epoch[start : start + 4] for epoch in epochs for start in range(0, len(epoch), 4)]
    return [dataset.clip_ids[index] for index in next(batch for batch in batches if clip in batch)]


@pytest.mark.parametrize("accumulation", [1, 2, 5])
@pytest.mark.parametrize("strategy", ["group_by_length", "random"])
def test_a_loss_that_is_not_finite_stops_the_run_and_names_its_clips(tmp_path, accumulation, strategy) -> None:
    dataset = Broken(clip=13)
    fields = {"gradient_accumulation_steps": accumulation, "train_sampling_strategy": strategy}
    trainer = make_trainer(tmp_path, train=dataset, class_balanced=False, **fields)
    with pytest.raises(FloatingPointError, match=r"became nan in step \d.*The cause is these clips.*none was") as error:
        trainer.train()
    assert names_in(str(error.value)) == batch_with(dataset, 13)
    assert f"in step {trainer.state.global_step + 1}" in str(error.value)


def test_a_broken_loss_is_told_apart_into_its_parts(tmp_path: Path) -> None:
    model = make_model(matching_loss_weight=0.0)
    trainer = make_trainer(tmp_path, model, Broken(clip=13), class_balanced=False)
    with pytest.raises(FloatingPointError, match=r"\(classification_loss nan, alignment_loss nan\)"):
        trainer.train()


@pytest.mark.parametrize("ignore_data_skip", [False, True])
def test_clips_are_named_rightly_after_resuming_in_the_middle_of_an_epoch(tmp_path, ignore_data_skip: bool) -> None:
    fields = {"save_strategy": "steps", "save_steps": 8, "class_balanced": False}
    make_trainer(tmp_path, **fields).train()
    dataset = Broken(clip=13)
    trainer = make_trainer(tmp_path, train=dataset, ignore_data_skip=ignore_data_skip, num_train_epochs=3, **fields)
    with pytest.raises(
        FloatingPointError, match=r"Last checkpoint with finite weights: .*checkpoint-(8|12)\."
    ) as error:
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    # The second of 6 batches of epoch 2 was the last.
    assert names_in(str(error.value)) == batch_with(dataset, 13, first_epoch=23 if ignore_data_skip else 23 - 2 * 4)


def test_broken_weights_are_told_from_broken_clips(tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.classifier.weight[1, 2] = torch.inf
    trainer = make_trainer(tmp_path, model)
    with pytest.raises(FloatingPointError, match="some weights are not finite"):
        trainer.train()


def test_clips_without_ids_are_counted(tmp_path: Path) -> None:
    dataset = Broken(clip=2, num_clips=7)
    del dataset.clip_ids
    trainer = make_trainer(tmp_path, train=dataset, class_balanced=False)
    with pytest.raises(FloatingPointError, match=r"Clips of the batch: (\d, )*2[,.]"):
        trainer.train()


def test_the_last_good_checkpoint_is_whole_finite_and_not_from_the_future(tmp_path: Path) -> None:
    model = make_model()
    for step in (2, 4, 9):
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    assert last_good_checkpoint(tmp_path, step=8) == tmp_path / "checkpoint-4"
    weights = tmp_path / "checkpoint-4" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert last_good_checkpoint(tmp_path, step=8) == tmp_path / "checkpoint-2"
    with torch.no_grad():
        model.classifier.weight[1, 2] = torch.nan
    model.save_pretrained(tmp_path / "checkpoint-2")
    assert last_good_checkpoint(tmp_path, step=8) is None


def spoil(dataset: Examples, **attributes: Any) -> Examples:
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Examples(0), "The training split has no clips"),
        (
            spoil(Examples(7), labels=[0, 1, 2, 3, 4, 4, 0]),
            r"unknown are \[4\]",
        ),
        (spoil(Examples(5), labels=[-100] * 5), "All 5 labels of the training split are -100"),
        (Examples(5), "has no clip of angry, so the model cannot learn it"),
        (
            spoil(Examples(), label2id={"neutral": 0, "happy": 1, "sad": 2, "angry": 3}),
            "numbers its classes .*'neutral': 0",
        ),
        (
            Examples(first_speaker=5),
            r"The training split and the evaluation split share 1 speakers, such as 'speaker7'",
        ),
        (
            spoil(Examples(), features=[torch.randn(3, 24)] * 23),
            "have width 24, but the image encoder of this model has width 20",
        ),
    ],
    ids=[
        "empty",
        "unknown class",
        "no label",
        "class without clips",
        "other order",
        "speaker in two splits",
        "features",
    ],
)
def test_what_cannot_end_well_is_refused_before_the_first_step(tmp_path: Path, train, message: str) -> None:
    trainer = make_trainer(tmp_path, train=train)
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0


def test_every_evaluation_split_is_looked_at(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.eval_dataset = {"validation": Examples(5, first_speaker=7), "test": Examples(0)}
    with pytest.raises(ValueError, match="The test split has no clips"):
        trainer.check()
    trainer.eval_dataset = {"validation": Examples(5, first_speaker=7)}  # a class may be missing there
    trainer.check()


def test_shared_speakers_can_be_meant(tmp_path: Path) -> None:
    make_trainer(tmp_path, train=Examples(first_speaker=5), allow_shared_speakers=True).check()


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch) -> None:
    weights, whole = (checkpoint_bytes(make_model(), with_optimizer=flag) for flag in (False, True))
    assert weights < whole < 3 * weights  # what is frozen has no moments
    free = (weights + whole) // 2
    monkeypatch.setattr("shutil.disk_usage", lambda path: path.exists() and SimpleNamespace(free=free))
    with pytest.raises(OSError, match=rf"need {whole / 1e6:.1f} MB, and the disk of .* has {free / 1e6:.1f} MB left"):
        make_trainer(tmp_path, save_strategy="epoch").train()
    make_trainer(tmp_path, save_strategy="epoch", save_only_model=True).check()
    make_trainer(tmp_path, save_strategy="no").check()
    with pytest.raises(OSError, match="need 9000"):
        check_disk_space(tmp_path / "new" / "folder", 9 * 10**9)


def test_facts_of_clips_are_found_without_reading_one() -> None:
    rows = [{"speaker": "a", "end_seconds": 2.0}, {"speaker": "b", "end_seconds": 3.0}]
    corpus = datasets.Dataset.from_list(rows)
    held = type("Held", (), {"rows": rows})()
    held_corpus = type("Held", (), {"rows": corpus, "__getitem__": lambda self, index: pytest.fail("read")})()
    for dataset in (rows, corpus, held, held_corpus, Subset(held_corpus, [0, 1])):
        assert column_of(dataset, "speakers", "speaker") == ["a", "b"]
        assert column_of(dataset, "labels") is None
    assert column_of(Subset(held, [1]), "end_seconds") == [3.0]
    assert column_of([{"labels": torch.tensor(3)}], "labels") == [3]


@pytest.mark.parametrize("known", ["lengths", "seconds", "nothing"])
def test_batches_are_of_like_length_where_lengths_are_known(tmp_path: Path, known: str, caplog) -> None:
    dataset = Examples(480)
    lengths = torch.tensor(dataset.lengths)
    if known != "lengths":
        del dataset.lengths
    if known == "seconds":
        dataset.rows = [{"start_seconds": 3.0, "end_seconds": 3.0 + n / 16000} for n in lengths.tolist()]
    trainer = make_trainer(tmp_path, train=dataset)
    sampler = trainer._get_train_sampler()
    assert isinstance(sampler, BalancedLengthSampler) and sampler.seed == 3
    batches = lengths[list(sampler)].reshape(-1, 4)
    spread = (batches.max(dim=1).values - batches.min(dim=1).values).float().mean() / lengths.max()
    assert (spread < 0.1) == (known != "nothing")
    assert ("does not have their lengths" in caplog.text) == (known == "nothing")


def test_balance_needs_labels_and_can_be_left_out(tmp_path: Path) -> None:
    dataset = Examples(600)
    labels = torch.tensor(dataset.labels)
    drawn = torch.bincount(labels[list(make_trainer(tmp_path, train=dataset)._get_train_sampler())], minlength=CLASSES)
    assert drawn.max() < 1.5 * drawn.min()
    del dataset.labels
    with pytest.raises(ValueError, match="Examples does not have them"):
        make_trainer(tmp_path, train=dataset)._get_train_sampler()
    sampler = make_trainer(tmp_path, train=dataset, class_balanced=False)._get_train_sampler()
    assert sorted(sampler) == list(range(600))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # of fork, from 3.12 on
def test_workers_decode_and_give_the_same_batches(tmp_path: Path) -> None:
    curves = []
    for num_workers in (0, 1):
        trainer = make_trainer(tmp_path, max_steps=2, dataloader_num_workers=num_workers)
        assert trainer.args.dataloader_persistent_workers == bool(num_workers)
        trainer.train()
        curves.append(logged(trainer, "classification_loss")[:1])
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"train_sampling_strategy": "sequential"}, "fixes the order of the clips"),
        ({"label_smoothing_factor": 0.1}, "without AVEL and MEM"),
        ({"hub_strategy": "all_checkpoints"}, "publishes the optimiser state, a pickle"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(tmp_path: Path, fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoalNetTrainingArguments(output_dir=str(tmp_path), **fields)


REGRESSION = {"problem_type": "regression", "id2label": {0: "valence", 1: "activation"}}


def test_a_regression_trains_without_classes(tmp_path: Path) -> None:
    train = spoil(Examples(8), labels=[[0.1 * index, 1.0] for index in range(8)])
    evaluated = spoil(Examples(3, first_speaker=7), labels=[[0.5, 0.5]] * 3)
    arguments = make_arguments(tmp_path, class_balanced=False, max_steps=2)
    parts: dict[str, Any] = {"train_dataset": train, "eval_dataset": evaluated, "data_collator": collate}
    trainer = FoalNetTrainer(make_model(**REGRESSION), arguments, **parts)
    assert trainer.train().global_step == 2
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] > 0 and "eval_unweighted_accuracy" not in metrics


def test_classes_cannot_be_balanced_in_a_regression(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`class_balanced` needs one class per clip, .*'regression'"):
        make_trainer(tmp_path, make_model(**REGRESSION)).train()


def test_arguments_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="FoalNetTrainingArguments, got TrainingArguments"):
        FoalNetTrainer(make_model(), TrainingArguments(output_dir=str(tmp_path), use_cpu=True))


@pytest.fixture
def pushes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would be pushed, without a Hub."""
    made: list[Any] = []
    push = foal_hf.hub.push_checkpoint
    monkeypatch.setattr(
        foal_hf.hub, "push_checkpoint", lambda *args, **kwargs: made.append(push(*args, **kwargs, dry_run=True))
    )
    return made


def test_a_push_holds_our_card_and_no_pickle(tmp_path: Path, pushes: list[Any]) -> None:
    trainer = make_trainer(tmp_path / "foal", max_steps=1, save_strategy="steps", save_steps=1)
    trainer.processing_class = make_tiny_processor()
    trainer.train()
    trainer.push_to_hub()
    (push,) = pushes
    names = {name for name, _ in push.files}
    assert push.repo_id == "foal" and {"README.md", "config.json", "model.safetensors"} <= names
    assert (tmp_path / "foal" / "training_args.bin").exists()
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pth")) or "checkpoint-" in name}
    card = (tmp_path / "foal" / "README.md").read_text(encoding="utf-8")
    assert "generated_from_trainer" not in card and "Foal-Net" in card


def test_pushing_while_training_leaves_pickles_out_and_outlives_the_hub(tmp_path, pushes, monkeypatch, caplog) -> None:
    trainer = make_trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, hub_strategy="every_save")
    trainer.args.hub_model_id, trainer.processing_class = "org/foal", make_tiny_processor()
    trainer.args.push_to_hub = True
    trainer.train()
    (push,) = pushes
    assert push.repo_id == "org/foal" and not {name for name, _ in push.files if name.endswith((".bin", ".pt"))}

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("The Hub is not available.")

    monkeypatch.setattr(foal_hf.hub, "push_checkpoint", refuse)
    trainer._push_from_checkpoint(str(tmp_path / "checkpoint-1"))
    assert "step 1 was not pushed. The Hub is not available." in caplog.text
