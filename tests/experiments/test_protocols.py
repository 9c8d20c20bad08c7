"""Whole experiments on a fake IEMOCAP: one fold, all folds, killed and resumed, and the choice of the checkpoint."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pytest
import torch
from experiment_examples import SESSIONS, experiment_tree, load_tree, quick_recipe, save_encoders
from safetensors.torch import load_file

from foal_hf.corpora.folds import Fold, make_folds
from foal_hf.experiments import cross_validate, describe_corpus, train_and_test
from foal_hf.experiments.reports import cross_validation_report, run_report
from foal_hf.experiments.run import last_checkpoint
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification
from foal_hf.hub import push_checkpoint
from foal_hf.results import Results
from foal_hf.training import FoalNetTrainer


CHILD = Path(__file__).parents[1] / "support" / "experiment_child.py"
ABOUT = describe_corpus("iemocap")
Encoders = tuple[str, str]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Equal runs give equal numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return experiment_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def corpus(release: Path) -> datasets.Dataset:
    return load_tree(release, release.parent / "cache")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    return save_encoders(tmp_path_factory.mktemp("encoders"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that runs of this file share."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def whole(corpus: datasets.Dataset, encoders: Encoders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    cross_validate(quick_recipe(encoders), corpus, folder, about=ABOUT)
    return folder


def fold_of(corpus: Any, name: str = "Ses03", validation: str | None = "speaker") -> Fold:
    return next(fold for fold in make_folds(corpus, validation=validation) if fold.name == name)


def test_killed_and_resumed_it_ends_as_if_nothing_had_happened(
    corpus: datasets.Dataset, release: Path, encoders: Encoders, whole: Path, tmp_path: Path
) -> None:
    # 15 clips train in batches of 5: 3 steps an epoch, 9 a fold. The 17th is the second of the second fold's epoch 3.
    arguments = [release, release.parent / "cache", *encoders, tmp_path, 17]
    killed = subprocess.run(
        [sys.executable, CHILD, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    runs = tmp_path / "seed-1234"
    assert (runs / "Ses01" / "results.json").is_file() and not (runs / "Ses03").exists()
    assert sorted(path.name for path in (runs / "Ses02" / "trainer").iterdir()) == ["checkpoint-3", "checkpoint-6"]
    finished = (runs / "Ses01" / "checkpoint" / "model.safetensors").stat().st_mtime_ns

    resumed = cross_validate(quick_recipe(encoders), corpus, tmp_path, about=ABOUT)
    assert resumed == Results.load(whole / "results.json")
    assert (runs / "Ses01" / "checkpoint" / "model.safetensors").stat().st_mtime_ns == finished
    for session in SESSIONS:
        ours, theirs = runs / session, whole / "seed-1234" / session
        assert (ours / "predictions.json").read_bytes() == (theirs / "predictions.json").read_bytes()
        weights, others = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (ours, theirs))
        assert all(torch.equal(weights[name], others[name]) for name in others)


def test_every_fold_leaves_what_can_be_published_and_nothing_to_go_on_from(whole: Path) -> None:
    for session in SESSIONS:
        folder = whole / "seed-1234" / session
        results = Results.load(folder / "checkpoint" / "results.json")
        assert results == Results.load(folder / "results.json")
        pushed = push_checkpoint(folder / "checkpoint", "org/foal-net", dry_run=True)
        assert {"results.json", "README.md", "model.safetensors", "processor_config.json"} <= dict(pushed.files).keys()
        card = (folder / "checkpoint" / "README.md").read_text()
        assert "trained on IEMOCAP" in card and f"Held out: session {session}" in card
        assert [path.name for path in (folder / "trainer").iterdir()] == ["trainer_state.json"]


def test_the_results_file_says_all_that_is_needed_to_repeat_the_run(whole: Path, corpus: datasets.Dataset) -> None:
    results = Results.load(whole / "seed-1234" / "Ses02" / "results.json")
    assert results.training is not None and results.training.recipe == "paper" and results.seeds == [1234]
    settings = results.training.settings
    assert settings["training"]["learning_rate"] == 1e-4 and settings["processor"]["frames_per_second"] == 5.0
    assert "encoders" not in settings  # they are folders here
    assert {"torch", "transformers", "foal_hf"} <= results.versions.keys()
    splits = {name: set(split.clip_ids) for name, split in results.splits.items()}
    assert set().union(*splits.values()) == set(corpus["clip_id"]) and sum(map(len, splits.values())) == 30
    assert splits["test"] == {clip for clip in corpus["clip_id"] if clip.startswith("Ses02")}
    assert results.selection == "validation" and results.selected_epoch in (1.0, 2.0, 3.0)
    assert results.merged_classes == {"happy": ["excited"]}


def test_a_cross_validation_tests_every_clip_once_and_compares_with_the_paper(whole: Path) -> None:
    results = Results.load(whole / "results.json")
    test = results.conditions["both"]
    assert test.num_clips == 30 and test.bootstrap is not None and test.bootstrap.num_clusters == 6
    assert [fold.held_out for fold in results.folds] == list(SESSIONS)
    of_folds = [fold.conditions["both"].unweighted_accuracy.value for fold in results.folds]
    assert test.unweighted_accuracy.mean_of_runs == pytest.approx(sum(of_folds) / 3)
    matrices = [torch.tensor(fold.conditions["both"].confusion_matrix) for fold in results.folds]
    assert torch.stack(matrices).sum(dim=0).tolist() == test.confusion_matrix
    report = (whole / "report.md").read_text()
    assert "| 80.1% |" in report and "| 79.5% |" in report and "95% bootstrap intervals, resampled by speaker" in report
    assert "It is of 5,531 clips, and these are 30: the two cannot be compared." in report
    assert (whole / "confusion_matrix.png").stat().st_size > 1000
    assert (whole / "reliability.png").stat().st_size > 1000


def test_too_few_validation_clips_for_a_calibration_are_reported_everywhere(whole: Path) -> None:
    words = "Not calibrated: the validation split has 5 clips, and calibration needs at least 30."
    run = Results.load(whole / "seed-1234" / "Ses01" / "results.json")
    assert run.calibration is not None and run.calibration.startswith(words)
    assert run.calibration in run_report(run)
    assert run.calibration in (whole / "seed-1234" / "Ses01" / "checkpoint" / "README.md").read_text()
    joined = Results.load(whole / "results.json")
    assert joined.calibration == f"0 of 3 runs were calibrated. {run.calibration}"
    assert joined.calibration in (whole / "report.md").read_text()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"report_to": "wandb"}, "wandb"), ({"optim": "adamw_bnb_8bit"}, "bitsandbytes")],
    ids=["report_to", "optim"],
)
def test_a_missing_package_is_found_before_anything_is_computed(
    settings: dict[str, str], message: str, corpus: datasets.Dataset, encoders: Encoders, tmp_path: Path
) -> None:
    with pytest.raises((ImportError, RuntimeError), match=message):
        train_and_test(quick_recipe(encoders, **settings), corpus, fold_of(corpus), tmp_path / "run", about=ABOUT)
    assert not (tmp_path / "run" / "features").exists()


def test_a_run_of_a_version_that_reads_other_samples_is_not_continued(
    corpus: datasets.Dataset, encoders: Encoders, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foal_hf.experiments.records.READING_VERSION", 10**6)
    with pytest.raises(ValueError, match=r"reading_version was \d+, now 1000000"):
        cross_validate(quick_recipe(encoders), corpus, whole, about=ABOUT)


def test_a_run_with_other_settings_is_refused_in_the_same_folder(
    corpus: datasets.Dataset, encoders: Encoders, whole: Path
) -> None:
    recipe = quick_recipe(encoders, learning_rate=2e-5)
    with pytest.raises(ValueError, match=r"training.learning_rate was 0.0001, now 2e-05"):
        cross_validate(recipe, corpus, whole, about=ABOUT)


class Rigged:
    """Gives the epochs the UA that a test wants them to have."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.calls = scores, 0

    def __call__(self, evaluation: Any) -> dict[str, float]:
        self.calls += 1
        score = self.scores[self.calls - 1] if self.calls <= len(self.scores) else 0.0
        return {"unweighted_accuracy": score}


@pytest.mark.parametrize(
    ("select", "epoch"), [("validation", 2.0), ("last", 3.0), ("test-best-epoch", 2.0)], ids=lambda value: str(value)
)
def test_the_checkpoint_is_the_one_that_select_says(
    select: Any,
    epoch: float,
    corpus: datasets.Dataset,
    encoders: Encoders,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rigged = Rigged([0.3, 0.7, 0.5])
    monkeypatch.setitem(FoalNetTrainer.__init__.__kwdefaults__, "compute_metrics", rigged)
    seen: dict[float, torch.Tensor] = {}
    evaluated_on: list[int] = []
    save = FoalNetTrainer._save_checkpoint

    def note(self: FoalNetTrainer, *args: Any) -> None:
        seen[self.state.epoch] = self.model.classifier.weight.detach().clone()
        evaluated_on.append(0 if self.eval_dataset is None else len(self.eval_dataset))
        save(self, *args)

    monkeypatch.setattr(FoalNetTrainer, "_save_checkpoint", note)
    fold = fold_of(corpus, validation="speaker" if select == "validation" else None)
    recipe = quick_recipe(encoders, learning_rate=1e-2)
    results = train_and_test(recipe, corpus, fold, tmp_path, about=ABOUT, select=select, store_dir=store)

    assert results.selected_epoch == epoch and results.selection == select
    assert results.selection_score == (None if select == "last" else 0.7)
    assert evaluated_on == [{"validation": 5, "last": 0, "test-best-epoch": 10}[select]] * 3
    saved = load_file(tmp_path / "checkpoint" / "model.safetensors")["classifier.weight"]
    assert [number for number, weight in seen.items() if torch.equal(weight, saved)] == [epoch]
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    for text in (card, run_report(results)):
        assert ("checkpoint chosen on the test session" in text.lower()) == (select == "test-best-epoch")


def test_nothing_of_the_test_part_is_read_before_the_end(
    corpus: datasets.Dataset,
    release: Path,
    encoders: Encoders,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The media of the test session are not even there while the model is trained and the checkpoint is chosen.
    tested, hidden = release / "Session3", release / "hidden"
    train = FoalNetTrainer.train

    def train_without_test(self: FoalNetTrainer, *args: Any, **kwargs: Any) -> Any:
        output = train(self, *args, **kwargs)
        hidden.rename(tested)
        return output

    monkeypatch.setattr(FoalNetTrainer, "train", train_without_test)
    tested.rename(hidden)
    recipe = quick_recipe(encoders, num_train_epochs=1, modality_dropout=0.2)
    results = train_and_test(recipe, corpus, fold_of(corpus), tmp_path, about=ABOUT)
    assert list(results.conditions) == ["audio alone", "video alone", "both"]  # it was trained to do with either
    assert results.conditions["both"].num_clips == 10


def test_a_frozen_image_encoder_sees_each_clip_once_and_a_trained_one_keeps_nothing(
    corpus: datasets.Dataset, encoders: Encoders, tmp_path: Path
) -> None:
    fold, fields = fold_of(corpus, validation=None), {"num_train_epochs": 1}
    frozen, trained = tmp_path / "frozen", tmp_path / "trained"
    train_and_test(quick_recipe(encoders, **fields), corpus, fold, frozen, about=ABOUT, select="last")
    # Once what trains, and at the end the test.
    assert sorted(len(load_file(path)) for path in (frozen / "features").glob("*.safetensors")) == [10, 20]
    recipe = quick_recipe(encoders, freeze_vision_encoder=False, **fields)
    train_and_test(recipe, corpus, fold, trained, about=ABOUT, select="last")
    assert not (trained / "features").exists()
    before = load_file(Path(encoders[1]) / "model.safetensors")["vision_model.encoder.layers.0.mlp.fc1.weight"]
    for folder, is_same in ((frozen, True), (trained, False)):
        model = FoalNetForEmotionClassification.from_pretrained(folder / "checkpoint")
        after = model.foal_net.vision_encoder.state_dict()["vision_model.encoder.layers.0.mlp.fc1.weight"]
        assert torch.equal(before, after) == is_same


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(tmp_path: Path) -> None:
    state = json.dumps({"global_step": 1, "epoch": 1.0})
    for step, text in ((3, state), (12, state), (21, state[:9]), (30, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path, delete=False) == tmp_path / "checkpoint-12"
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-12"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-12", "checkpoint-3"]
    assert last_checkpoint(tmp_path / "missing") is None


def broken_folds(corpus: datasets.Dataset) -> dict[str, tuple[Fold, str]]:
    fold = fold_of(corpus)
    happy = corpus.features["emotion"].str2int("happy")
    unhappy = [row for row in fold.train if corpus[row]["emotion"] != happy]
    return {
        "no test": (Fold("x", fold.train, fold.validation, []), "The test split has no clips"),
        "no validation": (Fold("x", fold.train, [], fold.test), "The validation split has no clips"),
        "a clip twice": (
            Fold("x", fold.train, fold.validation, [*fold.test, fold.train[0]]),
            "The training split and the test split share 1 clips",
        ),
        "a speaker twice": (
            Fold("x", fold.train, fold.validation[:3], [*fold.test, *fold.validation[3:]]),
            r"The validation split and the test split share 1 speakers",
        ),
        "a class missing": (Fold("x", unhappy, fold.validation, fold.test), "training split has no clip of happy"),
    }


@pytest.mark.parametrize("name", ["no test", "no validation", "a clip twice", "a speaker twice", "a class missing"])
def test_a_fold_that_cannot_be_right_is_refused_before_anything_is_computed(
    name: str, corpus: datasets.Dataset, encoders: Encoders, tmp_path: Path
) -> None:
    fold, message = broken_folds(corpus)[name]
    with pytest.raises(ValueError, match=message):
        train_and_test(quick_recipe(encoders), corpus, fold, tmp_path / "run", about=ABOUT)
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_said_before_anything_is_computed(
    corpus: datasets.Dataset, encoders: Encoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**5))
    with pytest.raises(OSError, match=r"Checkpoints need \d\.\d MB, and the disk of .* has 0\.1 MB left"):
        train_and_test(quick_recipe(encoders), corpus, fold_of(corpus), tmp_path / "run", about=ABOUT)
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_cannot_be_divided_is_refused(
    corpus: datasets.Dataset, encoders: Encoders, tmp_path: Path
) -> None:
    recipe = quick_recipe(encoders)
    with pytest.raises(TypeError, match=r"Expected one `datasets\.Dataset`, got DatasetDict"):
        cross_validate(recipe, datasets.DatasetDict(train=corpus), tmp_path, about=ABOUT)
    with pytest.raises(ValueError, match="lacks the columns speaker"):
        cross_validate(recipe, corpus.remove_columns("speaker"), tmp_path, about=ABOUT)
    twice = datasets.concatenate_datasets([corpus, corpus])
    with pytest.raises(ValueError, match="30 of 60 clips share their `clip_id`"):
        cross_validate(recipe, twice, tmp_path, about=ABOUT)
    with pytest.raises(ValueError, match=r"'7' is unknown; expected one of Ses01, Ses02, Ses03"):
        cross_validate(recipe, corpus, tmp_path, about=ABOUT, held_out=["7"])


def test_the_report_of_the_authors_way_says_what_its_numbers_are_worth(whole: Path) -> None:
    results = dataclasses.replace(Results.load(whole / "results.json"), selection="test-best-epoch")
    assert "Checkpoint chosen on the test session" in cross_validation_report(results)
    assert "here nothing was chosen on it" not in cross_validation_report(results)
