"""Tables of many runs: repeated seeds, the ablation, and checkpoints on clips and classes of others."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from experiment_examples import experiment_tree, load_tree, quick_recipe, save_encoders
from transformers import Trainer, TrainingArguments

from foal_hf import ClipCollator, ClipDataset, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.corpora.folds import Fold, make_folds
from foal_hf.experiments import VARIANTS, ablate, cross_validate, describe_corpus, evaluate_checkpoint, train_and_test
from foal_hf.experiments import cross_validation as cross_validation_module
from foal_hf.experiments.corpus_facts import published_scores
from foal_hf.experiments.evaluation import map_labels
from foal_hf.experiments.naming import find_fold, fold_of_splits
from foal_hf.experiments.predictions import Predictions
from foal_hf.experiments.recipe import Recipe, load_recipe
from foal_hf.experiments.records import PREDICTIONS_NAME, source_commit
from foal_hf.experiments.reports import ablation_report, checkpoint_report
from foal_hf.experiments.tiny import make_tiny_model
from foal_hf.registration import TINY_CHECKPOINT
from foal_hf.results import Corpus, Protocol, Results, Split
from foal_hf.training import TrainingRecord


LABELS = ["happy", "neutral", "sad", "angry"]
ABOUT = describe_corpus("iemocap")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    release = experiment_tree(tmp_path_factory.mktemp("tree"))
    return load_tree(release, release.parent / "cache")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def run(corpus: datasets.Dataset, encoders: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on two sessions and tested on the third."""
    folder = tmp_path_factory.mktemp("run")
    train_and_test(quick_recipe(encoders, num_train_epochs=1), corpus, make_folds(corpus)[2], folder, about=ABOUT)
    return folder


class Oracle:
    """Stands in for training: how many clips are right depends on seed and fold; the rest is called the next class."""

    def __init__(self) -> None:
        self.runs: list[tuple[Recipe, tuple[str, ...], str, int]] = []

    def __call__(self, recipe: Recipe, corpus: Any, fold: Fold, output: Path, **fields: Any) -> Results:
        seed, modalities = fields["seed"], tuple(fields["modalities"])
        self.runs.append((recipe, modalities, fold.name, seed))
        tested = corpus.select(fold.test)
        references = np.array(tested["emotion"])
        is_right = np.arange(len(references)) % 5 >= seed + int(fold.name[-1]) - 1
        logits = np.eye(4)[np.where(is_right, references, (references + 1) % 4)]
        name = {("audio",): "audio alone", ("video",): "video alone"}.get(modalities, "both")
        predictions = Predictions(
            LABELS,
            list(tested["clip_id"]),
            list(tested["speaker"]),
            list(tested["gender"]),
            references.tolist(),
            {name: logits},
        )
        predictions.save(output / PREDICTIONS_NAME)
        return Results(
            fields["about"],
            LABELS,
            Protocol("held-out", "One is held out."),
            fields["select"],
            predictions.evaluations(),
            seeds=[seed],
        )


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    oracle = Oracle()
    monkeypatch.setattr(cross_validation_module, "train_and_test", oracle)
    for name in ("plot_confusion_matrix", "plot_reliability_diagram"):  # which whole runs draw
        monkeypatch.setattr(cross_validation_module, name, lambda *args, **kwargs: None)
    return oracle


def test_repeated_runs_give_mean_and_standard_deviation_over_seeds(
    oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    results = cross_validate(load_recipe("tiny"), corpus, tmp_path, about=ABOUT, seeds=[0, 1], select="last")
    assert [run[2:] for run in oracle.runs] == [(f"Ses0{n}", seed) for seed in (0, 1) for n in (1, 2, 3)]
    score = results.conditions["both"].weighted_accuracy
    # Of 10 clips a fold, 10, 8, 6 are right with seed 0, and 8, 6, 4 with seed 1.
    assert score.mean_of_runs == pytest.approx(0.7) and score.value == pytest.approx(0.7)
    assert score.standard_deviation == pytest.approx(np.std([0.8, 0.6], ddof=1))
    test = results.conditions["both"]
    assert test.num_clips == 30 and test.num_runs == 2 and np.sum(test.confusion_matrix) == 60
    assert test.groups["gender"]["female"].num_clips == 15
    assert test.bootstrap is not None and test.bootstrap.num_clusters == 6
    assert Results.load(tmp_path / "results.json") == results
    report = (tmp_path / "report.md").read_text()
    assert "mean of 3 folds, 2 seeds" in report and "over 2 seeds" in report and "| Ses02 | 1 | 10 |" in report


def test_with_one_seed_the_standard_deviation_is_over_the_folds(
    oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    results = cross_validate(load_recipe("tiny"), corpus, tmp_path, about=ABOUT, select="last")
    score = results.conditions["both"].weighted_accuracy
    assert score.standard_deviation == pytest.approx(np.std([1.0, 0.8, 0.6], ddof=1))
    assert results.seeds == [0] and results.conditions["both"].num_runs is None


def test_the_mean_of_folds_counts_every_fold_the_same_and_the_whole_every_clip(
    oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    left = [row for row, name in enumerate(corpus["clip_id"]) if not name.startswith("Ses03F_impro01_M")]
    smaller = corpus.select(left)
    results = cross_validate(load_recipe("tiny"), smaller, tmp_path, about=ABOUT, select="last")
    score = results.conditions["both"].weighted_accuracy
    assert score.mean_of_runs == pytest.approx((1.0 + 0.8 + 0.6) / 3)
    assert score.value == pytest.approx((10 + 8 + 3) / 25)


@pytest.mark.parametrize(
    ("held_out", "words"),
    [
        ([], "Each session is held out once: the model is trained on the others and tested on it."),
        (["3", "1"], "2 of 3 sessions are held out, each once: the model is trained on the others and tested on it."),
    ],
)
def test_the_protocol_says_how_many_folds_were_run(
    held_out: list[str], words: str, oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"about": ABOUT, "select": "last", "held_out": held_out}
    results = cross_validate(load_recipe("tiny"), corpus, tmp_path, **options)
    assert results.protocol.description == words and words in (tmp_path / "report.md").read_text()
    assert results.protocol.held_out == ("Ses03, Ses01" if held_out else None)
    assert [run[2] for run in oracle.runs] == (["Ses03", "Ses01"] if held_out else ["Ses01", "Ses02", "Ses03"])


def test_a_fold_given_twice_is_refused(oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`held_out` has to name each run once, got \['Ses03', 'Ses03'\]"):
        cross_validate(load_recipe("tiny"), corpus, tmp_path, about=ABOUT, select="last", held_out=["3", "Ses03"])


def test_a_seed_given_twice_is_refused(oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`seeds` has to name each run once, got \[1, 1\]"):
        cross_validate(load_recipe("tiny"), corpus, tmp_path, about=ABOUT, seeds=[1, 1])


def test_the_rows_of_the_ablation_have_the_losses_and_the_modalities_of_the_paper(
    oracle: Oracle, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    recipe = load_recipe("default")
    table = ablate(recipe, corpus, tmp_path, about=ABOUT, held_out=["3"], seeds=[0], select="last")
    assert list(table) == list(VARIANTS)
    both, weights = ("audio", "video"), ("alignment_loss_weight", "matching_loss_weight")
    assert [(modalities, *(run.config[name] for name in weights)) for run, modalities, *_ in oracle.runs] == [
        (("video",), 0.0, 0.0),
        (("audio",), 0.0, 0.0),
        (both, 0.0, 0.0),
        (both, 1.0, 0.0),
        (both, 0.0, 0.1),
        (both, 1.0, 0.1),
    ]
    assert [run.config["modality_dropout"] for run, *_ in oracle.runs] == [0.0, 0.0, 0.1, 0.1, 0.1, 0.1]
    text = (tmp_path / "ablation.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert lines[0] == "|  | UA | WA | macro F1 | UA of all clips | published UA | published WA |"
    assert lines[2].startswith("| video alone | ") and lines[2].endswith("| 47.9% | 46.6% |")
    assert lines[7].startswith("| Foal-Net | ") and lines[7].endswith("| 80.1% | 79.5% |")
    scores = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert scores["fusion + AVEL"]["weighted_accuracy"]["value"] == pytest.approx(0.6)


def test_an_ablation_runs_end_to_end_and_a_second_call_repeats_nothing(
    corpus: datasets.Dataset, encoders: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = quick_recipe(encoders, num_train_epochs=1)
    settings: dict[str, Any] = {"about": ABOUT, "held_out": ["Ses02"], "select": "last"}
    rows = ["video alone", "audio alone", "fusion + MEM"]
    table = ablate(recipe, corpus, tmp_path, variants=rows, **settings)
    assert {name: list(results.conditions) for name, results in table.items()} == {
        "video alone": ["video alone"],
        "audio alone": ["audio alone"],
        "fusion + MEM": ["both"],
    }
    written = (tmp_path / "ablation.md").read_text()
    monkeypatch.setattr("foal_hf.training.FoalNetTrainer.train", None)
    assert ablate(recipe, corpus, tmp_path, variants=rows, **settings) == table
    assert (tmp_path / "ablation.md").read_text() == written == ablation_report(table)


def test_an_ablation_of_a_recipe_that_leaves_a_task_out_is_refused(corpus: datasets.Dataset, tmp_path: Path) -> None:
    recipe = load_recipe("paper").with_settings({"matching_loss_weight": 0})
    with pytest.raises(ValueError, match="sets `matching_loss_weight` to 0"):
        ablate(recipe, corpus, tmp_path, about=ABOUT)
    with pytest.raises(ValueError, match="Unknown rows text alone; expected some of video alone, audio alone, fusion"):
        ablate(load_recipe("paper"), corpus, tmp_path, about=ABOUT, variants=["text alone"])


def test_published_numbers_stand_beside_the_same_clips_and_classes_only() -> None:
    assert published_scores(ABOUT, LABELS) == {"unweighted_accuracy": 0.801, "weighted_accuracy": 0.7945}
    assert published_scores(ABOUT, [*LABELS, "frustrated"]) == {}
    assert published_scores(describe_corpus("ravdess"), LABELS) == {}


@pytest.mark.parametrize("name", ["iemocap", "crema_d", "ravdess"])
def test_a_corpus_with_a_card_is_described_by_it(name: str) -> None:
    about = describe_corpus(name)
    assert about.license and about.url and about.languages == ["en"] and about.acted and about.generated is False


@pytest.mark.parametrize(("name", "found"), [("5", "Ses05"), ("Ses05", "Ses05"), ("15", "group15"), ("05", "Ses05")])
def test_a_fold_is_found_by_its_name_or_number(name: str, found: str) -> None:
    folds = [Fold(each, [], [], []) for each in ("Ses01", "Ses05", "group15")]
    assert find_fold(folds, name).name == found


def test_a_corpus_with_splits_of_its_own_is_one_fold() -> None:
    splits = {"train": range(5), "validation": range(3), "test": range(2)}
    assert fold_of_splits(splits) == Fold("test split", [0, 1, 2, 3, 4], [5, 6, 7], [8, 9])
    assert fold_of_splits(splits, select="last") == Fold("test split", [0, 1, 2, 3, 4, 5, 6, 7], [], [8, 9])
    with pytest.raises(ValueError, match="has the splits train, and train and test are needed"):
        fold_of_splits({"train": range(5)})


def test_a_checkpoint_is_tested_on_what_it_was_not_trained_on(
    run: Path, corpus: datasets.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"trained on 20 of these 30 clips, or chosen by them.*`--held-out`"):
        evaluate_checkpoint(run / "checkpoint", corpus, about=ABOUT, num_workers=0)
    test = evaluate_checkpoint(
        run / "checkpoint", corpus, about=ABOUT, held_out=True, num_workers=0, output_dir=tmp_path, conditions=["both"]
    )
    of_run = Results.load(run / "results.json").conditions["both"]
    assert test.clip_ids == [clip for clip in corpus["clip_id"] if clip.startswith("Ses03")]
    assert test.conditions["both"].confusion_matrix == of_run.confusion_matrix
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["conditions"]["both"]["num_clips"] == 10 and saved["clip_ids"] == test.clip_ids
    assert test.training_clips.endswith("the checkpoint was not trained on any of these clips.")
    assert saved["training_clips"] == test.training_clips and test.training_clips in checkpoint_report(test)
    assert (tmp_path / "confusion_matrix.png").stat().st_size > 1000


def test_a_broken_checkpoint_is_named_in_a_sentence(corpus: datasets.Dataset, tmp_path: Path) -> None:
    broken = shutil.copytree(TINY_CHECKPOINT, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(ValueError, match=f"The checkpoint {broken} cannot be loaded: SafetensorError: "):
        evaluate_checkpoint(broken, corpus, about=ABOUT, num_workers=0)


@pytest.mark.parametrize(
    "splits", [None, {"train": Split(20, 4)}], ids=["no results file", "a results file without ids"]
)
def test_unknown_training_clips_are_reported(
    splits: Any, run: Path, corpus: datasets.Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = shutil.copytree(run / "checkpoint", tmp_path / "checkpoint")
    results = Results.load(checkpoint / "results.json")
    (checkpoint / "results.json").unlink()
    if splits:
        replace(results, splits=splits).save(checkpoint / "results.json")
    options: dict[str, Any] = {"about": ABOUT, "num_workers": 0, "conditions": ["audio alone"]}
    test = evaluate_checkpoint(checkpoint, corpus.select(range(3)), **options)
    assert test.training_clips.startswith("The training clips of the checkpoint are unknown.")
    assert test.training_clips in checkpoint_report(test) and "may have been trained on some" in caplog.text
    with pytest.raises(ValueError, match="unknown which clips were held out"):
        evaluate_checkpoint(checkpoint, corpus, held_out=True, **options)


def test_training_clips_that_are_tested_on_purpose_are_reported(
    run: Path, corpus: datasets.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"num_workers": 0, "conditions": ["audio alone"]}
    some = corpus.select([0, 1, 29])
    test = evaluate_checkpoint(run / "checkpoint", some, about=ABOUT, allow_training_clips=True, **options)
    assert test.training_clips.startswith("The checkpoint was trained on 2 of these 3 clips, or chosen by them")
    assert test.training_clips in caplog.text
    # A copy of the corpus under another name: the same ids may be the same clips.
    test = evaluate_checkpoint(run / "checkpoint", some, about=Corpus("folder corpus"), **options)
    assert test.training_clips.startswith("2 of these 3 clips have the ids of training clips of the checkpoint, from")
    with pytest.raises(ValueError, match="was trained on IEMOCAP, so no clips of folder corpus were held out"):
        evaluate_checkpoint(run / "checkpoint", some, about=Corpus("folder corpus"), held_out=True, **options)


def test_the_readmes_own_training_is_known_to_evaluate(
    corpus: datasets.Dataset, encoders: tuple[str, str], tmp_path: Path
) -> None:
    processor = FoalNetProcessor.from_encoders_pretrained(*encoders)
    labels = dict(enumerate(corpus.features["emotion"].names))
    model = FoalNetForEmotionClassification.from_encoders_pretrained(*encoders, id2label=labels, projection_dim=16)
    fold = make_folds(corpus)[2]
    clips = {
        name: ClipDataset(corpus.select(rows), processor, model.config.label2id, modalities=("audio",))
        for name, rows in (("train", fold.train), ("validation", fold.validation), ("test", fold.test))
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            str(tmp_path / "trained"),
            max_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            save_strategy="no",
            remove_unused_columns=False,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=clips["train"],
        eval_dataset=clips["validation"],
        data_collator=ClipCollator(processor),
        processing_class=processor,
        callbacks=[TrainingRecord()],
    )
    trainer.train()
    trainer.evaluate(clips["test"], metric_key_prefix="test")
    trainer.save_model()
    options: dict[str, Any] = {"about": ABOUT, "num_workers": 0, "conditions": ["audio alone"]}
    with pytest.raises(ValueError, match="trained on 20 of these 30 clips, or chosen by them"):
        evaluate_checkpoint(tmp_path / "trained", corpus, **options)
    test = evaluate_checkpoint(tmp_path / "trained", corpus, held_out=True, **options)
    assert test.clip_ids == list(corpus.select(fold.test)["clip_id"])


def test_classes_of_other_names_are_mapped_by_name(run: Path, corpus: datasets.Dataset) -> None:
    names = datasets.ClassLabel(names=["joy", "neutral", "bored", "rage"])
    others = corpus.cast_column("emotion", names).select(range(20, 30))
    checkpoint: dict[str, Any] = {"checkpoint": run / "checkpoint", "corpus": others, "about": Corpus("Others")}
    with pytest.raises(
        ValueError, match=r"has the classes happy, neutral, sad, angry, and .* clips of joy, bored, rage"
    ):
        evaluate_checkpoint(**checkpoint)
    mapping = {"joy": "happy", "bored": None, "rage": "angry"}
    test = evaluate_checkpoint(**checkpoint, label_mapping=mapping, num_workers=0, conditions=["audio alone"])
    assert test.left_out == {"bored": 2}
    assert test.label_mapping == {"joy": "happy", "neutral": "neutral", "rage": "angry"}
    assert [sum(row) for row in test.conditions["audio alone"].confusion_matrix] == [4, 2, 0, 2]
    assert test.conditions["audio alone"].per_class_recall["sad"] is None


def test_a_checkpoint_that_predicts_no_classes_is_refused(run: Path, corpus: datasets.Dataset, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(run / "checkpoint", tmp_path / "checkpoint")
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "problem_type": "multi_label_classification"}))
    with pytest.raises(ValueError, match="only checkpoints that predict one class per clip can be evaluated"):
        evaluate_checkpoint(checkpoint, corpus, about=ABOUT)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"fear": "sad"}, "names fear, but the corpus has no clips of it; it has joy, sad"),
        ({"joy": "glad"}, "has no class glad; it has happy, sad"),
        ({}, r"clips of joy\. .*`--map joy=happy` or `--map joy=`"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(mapping: dict[str, str | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_labels(["joy", "sad"], ["happy", "sad"], mapping)


def test_the_tiny_recipe_trains_the_tiny_model_with_the_labels_of_the_corpus(
    corpus: datasets.Dataset, tmp_path: Path
) -> None:
    quick = {"num_train_epochs": 1, "frames_per_second": 2.0, "max_seconds": 0.5, "use_cpu": True, "disable_tqdm": True}
    recipe = load_recipe("tiny").with_settings(quick)
    names = datasets.ClassLabel(names=["joy", "calm", "grief", "anger"])
    results = train_and_test(
        recipe, corpus.cast_column("emotion", names), make_folds(corpus)[0], tmp_path, about=Corpus("Others")
    )
    assert results.labels == ["joy", "calm", "grief", "anger"] and len(results.conditions) == 3
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    tiny = make_tiny_model().config
    assert config["audio_config"]["hidden_size"] == tiny.audio_config.hidden_size
    assert config["alignment_loss_weight"] == tiny.alignment_loss_weight
    assert not config.get("trained_on_generated_data")  # as the one that ships is


def test_the_commit_of_a_checkout_is_known() -> None:
    commit = source_commit()
    if (Path(__file__).parents[2] / ".git").exists():
        assert commit is not None and len(commit.removesuffix("-dirty")) == 40
    else:
        assert commit is None
