"""Training that starts from a checkpoint: what it keeps, what it refuses, what it says, and what it is good for."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from experiment_examples import experiment_tree, load_tree, quick_recipe, save_encoders
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from foal_hf import TINY_CHECKPOINT, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.cli import main
from foal_hf.corpora.folds import Fold, make_folds
from foal_hf.experiments import ablate, cross_validate, describe_corpus, evaluate_checkpoint, train_and_test
from foal_hf.experiments.recipe import Recipe, load_recipe
from foal_hf.experiments.starting_point import StartingPoint
from foal_hf.hub import push_checkpoint
from foal_hf.results import Corpus, Results
from foal_hf.synthetic import generate_corpus


ABOUT = describe_corpus("iemocap")
LABELS = ["happy", "neutral", "sad", "angry"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> datasets.Dataset:
    folder = tmp_path_factory.mktemp("tree")
    return load_tree(experiment_tree(folder), folder.parent / "cache")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    encoders = save_encoders(tmp_path_factory.mktemp("encoders"))
    return quick_recipe(encoders, num_train_epochs=1)


@pytest.fixture(scope="module")
def base(corpus: datasets.Dataset, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained on all sessions but the third, with a share-alike licence."""
    output = tmp_path_factory.mktemp("base")
    train_and_test(recipe, corpus, fold_of(corpus, "Ses03"), output, about=ABOUT, select="last")
    change(output / "checkpoint", license="cc-by-nc-sa-4.0")
    return output / "checkpoint"


def change(folder: Path, **fields: Any) -> None:
    """Change fields of the results file of a checkpoint."""
    path = folder / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def fold_of(corpus: Any, name: str) -> Fold:
    return next(fold for fold in make_folds(corpus, validation=None) if fold.name == name)


def plain(recipe: Recipe, **settings: Any) -> Recipe:
    """The settings of training alone: neither encoders nor what the checkpoint says itself."""
    return Recipe("mine", training=recipe.training, data=recipe.data).with_settings(settings)


@pytest.fixture(scope="module")
def tuned(
    corpus: datasets.Dataset, recipe: Recipe, base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results]:
    """A run that started from it, with other classes: grief and joy in place of sad and angry."""
    output = tmp_path_factory.mktemp("tuned")
    renamed = corpus.cast_column("emotion", datasets.ClassLabel(names=["joy", "neutral", "happy", "grief"]))
    options: dict[str, Any] = {"about": ABOUT, "select": "last", "init": base}
    results = train_and_test(plain(recipe), renamed, fold_of(corpus, "Ses03"), output, **options)
    return output, results


@pytest.mark.slow
def test_sixty_clips_are_enough_for_fine_tuning_and_not_for_training_from_scratch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    clips = tmp_path / "clips"
    generate_corpus(clips, num_speakers=5, clips_per_emotion=3, seed=11, progress=False)
    scores = []
    for name, words in (("scratch", []), ("tuned", ["--init", str(TINY_CHECKPOINT)])):
        settings = [
            word for each in ("num_train_epochs=2", "use_cpu=true", "disable_tqdm=true") for word in ("--set", each)
        ]
        corpus = ["--corpus", "folder", "--data-dir", str(clips), "--output", str(tmp_path / name), "--json"]
        assert main(["train", "--recipe", "tiny", *words, *corpus, *settings]) == 0
        scores.append(json.loads(capsys.readouterr().out)["conditions"]["both"]["unweighted_accuracy"]["value"])
    assert scores[0] < 0.6 < 0.9 < scores[1]
    assert "Labels kept: angry, happy, neutral, sad; new: none; not used: none." in caplog.text


def test_labels_of_the_same_name_keep_their_rows_and_others_get_new_ones(base: Path) -> None:
    before = FoalNetForEmotionClassification.from_pretrained(base)
    torch.manual_seed(3)
    settings = {"alignment_loss_weight": 0.25, "modality_dropout": 0.5, "freeze_vision_encoder": False}
    model = StartingPoint(base).make_model(Recipe("mine", config=settings), ["calm", "sad", "happy"])
    weight, bias = model.classifier.weight, model.classifier.bias
    for index, label in ((1, "sad"), (2, "happy")):
        row = before.config.label2id[label]
        assert weight[index].equal(before.classifier.weight[row]) and bias[index] == before.classifier.bias[row]
    assert bias[0] == 0 and 0 < weight[0].abs().max() < 6 * before.config.initializer_range
    assert model.config.id2label == {0: "calm", 1: "sad", 2: "happy"} and model.num_labels == 3
    assert (model.config.alignment_loss_weight, model.config.modality_dropout) == (0.25, 0.5)
    assert all(each.requires_grad for each in model.foal_net.vision_encoder.parameters())
    rest = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("classifier")}
    assert all(tensor.equal(before.state_dict()[name]) for name, tensor in rest.items())
    labels = torch.tensor([0, 2])
    pixels = torch.zeros(2, 3, 3, 26, 26)
    assert model.train()(pixel_values_videos=pixels, labels=labels).loss.isfinite()


def test_of_the_calibration_and_the_kind_of_clips_nothing_is_kept(tmp_path: Path) -> None:
    folder = shutil.copytree(TINY_CHECKPOINT, tmp_path / "calibrated")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "calibration_temperature": 1.7}))
    start = StartingPoint(folder)
    assert start.config.trained_on_generated_data and start.config.calibration_temperature == 1.7
    config = start.make_model(Recipe("mine"), start.labels).config
    assert not config.trained_on_generated_data and config.calibration_temperature is None
    assert start.make_model(Recipe("mine"), start.labels, generated=True).config.trained_on_generated_data


def test_a_run_starts_from_the_weights_and_uses_the_processor(tuned: tuple[Path, Results], base: Path) -> None:
    output, _ = tuned
    before, after = (load_file(folder / "model.safetensors") for folder in (base, output / "checkpoint"))
    # One epoch of few steps moves the trained weights a little, and the frozen image encoder not at all.
    for name, tensor in after.items():
        if "classifier" not in name:
            assert (tensor - before[name]).abs().max() < 0.02, name
            assert not name.startswith("foal_net.vision_encoder") or tensor.equal(before[name])
    own, theirs = (FoalNetProcessor.from_pretrained(folder).to_dict() for folder in (base, output / "checkpoint"))
    assert own == theirs


def test_results_and_card_say_where_it_started(tuned: tuple[Path, Results], base: Path, tmp_path: Path) -> None:
    output, results = tuned
    assert results.training is not None
    start = results.training.start
    assert start is not None
    assert start.kept_labels == ["neutral", "happy"] and start.new_labels == ["joy", "grief"]
    assert start.unused_labels == ["sad", "angry"] and start.name is None and len(start.fingerprint) == 64
    assert start.corpus == ABOUT and len(start.clip_ids) == 20
    assert (
        start.test_clips
        == "According to the results files, it was trained neither on the test clips nor on their speakers."
    )
    assert results.license == "cc-by-nc-sa-4.0"  # share-alike
    card = ModelCard.load(output / "checkpoint" / "README.md")
    assert card.data.license == "cc-by-nc-sa-4.0"
    told = (
        f"- fine-tuned from: a checkpoint that is not on the Hub (weights {start.fingerprint[:12]}, trained on IEMOCAP)"
        "; labels that kept their weights: neutral and happy; new: joy and grief; not used: sad and angry."
    )
    assert told in card.content
    assert "cc-by-nc-sa-4.0; whatever is trained from it stays under this licence" in card.content
    assert f"- {ABOUT.name}, which it was trained on: {ABOUT.license}" in card.content
    assert push_checkpoint(output / "checkpoint", "org/foal", dry_run=True).files


def test_a_chain_of_checkpoints_is_remembered(
    corpus: datasets.Dataset, recipe: Recipe, tuned: tuple[Path, Results], tmp_path: Path
) -> None:
    second = tuned[0] / "checkpoint"
    about = Corpus("Others")
    ids = [f"other {index}" for index in range(len(corpus))]
    others = corpus.remove_columns("clip_id").add_column("clip_id", ids)
    results = train_and_test(
        plain(recipe), others, fold_of(corpus, "Ses03"), tmp_path, about=about, select="last", init=second
    )
    assert results.training is not None and results.training.start is not None
    assert [len(each.clip_ids) for each in results.training.start.chain] == [20, 20]
    assert results.license == "cc-by-nc-sa-4.0"
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert "- which was fine-tuned from: a checkpoint that is not on the Hub" in card
    # The clips of the first are not held out of the third.
    third = tmp_path / "checkpoint"
    with pytest.raises(ValueError, match="was trained on 20 of these 30 clips, or chosen by them"):
        evaluate_checkpoint(third, corpus, about=ABOUT)
    test = evaluate_checkpoint(third, corpus, about=ABOUT, held_out=True)
    assert set(test.clip_ids).isdisjoint(results.training.start.clip_ids) and len(test.clip_ids) == 10


def test_clips_that_it_was_trained_on_are_no_test_clips(
    corpus: datasets.Dataset, recipe: Recipe, base: Path, tmp_path: Path
) -> None:
    message = "was trained on 10 of these 10 test clips, such as 'Ses01F_impro01_F000', or chosen by them"
    with pytest.raises(ValueError, match=message):
        train_and_test(plain(recipe), corpus, fold_of(corpus, "Ses01"), tmp_path, about=ABOUT, select="last", init=base)
    assert not (tmp_path / "run.json").exists()
    message = "was trained on 20 of these 30 test clips"
    for run in (cross_validate, ablate):  # before the first fold, which it was not trained on
        with pytest.raises(ValueError, match=message):
            run(load_recipe("tiny"), corpus, tmp_path, about=ABOUT, select="last", init=base)
    assert not list(tmp_path.iterdir())


def test_speakers_that_it_was_trained_on_are_not_tested(corpus: datasets.Dataset, base: Path) -> None:
    unseen = [f"{clip}{'-again' if clip.startswith('Ses01F_impro01_F004') else ''}" for clip in corpus["clip_id"]]
    more = corpus.remove_columns("clip_id").add_column("clip_id", unseen)
    row = next(row for row, clip in enumerate(unseen) if clip.endswith("again"))
    with pytest.raises(ValueError, match="was trained on 1 speaker of the test clips, such as 'Ses01F'"):
        StartingPoint(base).check_test_clips(more, [row], ABOUT)
    others = [row for row, clip in enumerate(unseen) if clip.startswith("Ses03")]
    assert "neither on the test clips nor on their speakers" in StartingPoint(base).check_test_clips(
        more, others, ABOUT
    )


def test_clips_under_other_ids_are_not_taken_for_unseen(corpus: datasets.Dataset, base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "composed")
    pairs = {"train": {"num_clips": 1, "clip_ids": ["voice 1 and face 1"]}}
    change(folder, corpus={"name": "Pairs", "sources": [{"name": "IEMOCAP"}, {"name": "Faces"}]}, splits=pairs)
    with pytest.raises(
        ValueError, match="was trained on clips of IEMOCAP, which its results file lists under other ids"
    ):
        StartingPoint(folder).check_test_clips(corpus, range(3), ABOUT)
    test = evaluate_checkpoint(folder, corpus.select(range(3)), about=ABOUT)
    assert test.training_clips.startswith("The training clips of the checkpoint are unknown.")
    with pytest.raises(ValueError, match="lists under other ids, so it is unknown which clips were held out"):
        evaluate_checkpoint(folder, corpus, about=ABOUT, held_out=True)
    listed = {"train": {"num_clips": 1, "clip_ids": corpus["clip_id"][:1]}}
    change(folder, splits=listed)
    with pytest.raises(ValueError, match="was trained on 1 of these 3 test clips"):
        StartingPoint(folder).check_test_clips(corpus, range(3), ABOUT)


def test_where_its_clips_are_unknown_it_says_so(
    corpus: datasets.Dataset, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = range(len(corpus))
    words = StartingPoint(base).check_test_clips(corpus, rows, Corpus("Others"))
    assert words.startswith(
        "20 of 30 test clips have the ids of training clips of the checkpoint that it started from,"
    )
    folder = shutil.copytree(base, tmp_path / "copy")
    (folder / "results.json").unlink()
    start = StartingPoint(folder)
    words = start.check_test_clips(corpus, rows, ABOUT)
    assert words.startswith("the checkpoint that it started from has no results.json that lists its training clips")
    assert words in caplog.text
    described = start.describe(LABELS, words)
    assert described.corpus is None and described.license is None
    (folder / "README.md").write_text("---\nlicense: cc-by-sa-4.0\n---\nMine.\n")
    assert start.describe(LABELS).license == start.license_of_derivatives == "cc-by-sa-4.0"
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\nMine.\n")
    assert start.describe(LABELS).license == "apache-2.0" and start.license_of_derivatives is None


CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"config": {"projection_dim": 24}}, "its projection_dim is 16, the recipe's 24"),
    ({"config": {"audio_layers": "all"}}, "its audio_layers is last, the recipe's all"),
    (
        {"architecture": "small"},
        "its audio encoder is a wavlm of width 32, the recipe's a parakeet_encoder of width 128",
    ),
    ({"processor": {"image_mean": [0.0, 0.0, 0.0]}}, "its processor has image_mean .*, the recipe "),
    ({"processor": {"crop": "face"}}, "its processor has crop frame, the recipe face"),
    ({"processor": {"normalize_waveform": True}}, "its processor has normalize_waveform False, the recipe True"),
]


@pytest.mark.parametrize(("fields", "message"), CONTRADICTIONS)
def test_settings_that_contradict_the_checkpoint_are_refused(base: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"The recipe mine does not fit .*: .*{message}"):
        StartingPoint(base).make_model(Recipe("mine", **fields), LABELS)


def test_features_of_the_corpus_have_to_be_those_of_the_checkpoint(base: Path) -> None:
    with pytest.raises(ValueError, match="it takes audio itself, the corpus has audio features of width 12"):
        StartingPoint(base).make_model(Recipe("mine"), LABELS, feature_widths={"audio": 12})


def test_encoders_of_the_recipe_fit_their_checkpoint(recipe: Recipe, base: Path) -> None:
    assert StartingPoint(base).make_model(recipe, LABELS).config.id2label == dict(enumerate(LABELS))


def test_another_frame_rate_is_no_contradiction_and_is_said(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    faster = Recipe("mine", processor={"frames_per_second": 7.0, "crop": "frame", "normalize_waveform": None})
    StartingPoint(base).make_model(faster, LABELS)
    assert f"{base} reads frames_per_second 5.0, and this run reads 7.0." in caplog.text


def test_a_run_is_resumed_only_from_the_same_checkpoint(
    corpus: datasets.Dataset, recipe: Recipe, base: Path, tuned: tuple[Path, Results], tmp_path: Path
) -> None:
    output, results = tuned
    renamed = corpus.cast_column("emotion", datasets.ClassLabel(names=["joy", "neutral", "happy", "grief"]))
    options: dict[str, Any] = {"about": ABOUT, "select": "last"}
    again = train_and_test(plain(recipe), renamed, fold_of(corpus, "Ses03"), output, **options, init=base)
    assert again == results
    with pytest.raises(ValueError, match=r"holds another run .*init\.weights was"):
        train_and_test(plain(recipe), renamed, fold_of(corpus, "Ses03"), output, **options, init=TINY_CHECKPOINT)
    with pytest.raises(ValueError, match=r"holds another run .*init\.weights was"):
        train_and_test(plain(recipe), renamed, fold_of(corpus, "Ses03"), output, **options)


def test_what_cannot_be_trained_is_refused(base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(base, tmp_path / "graphs")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model.safetensors\. Graphs of `foal-hf export` cannot be trained"):
        StartingPoint(folder)
    folder = shutil.copytree(base, tmp_path / "regression")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "problem_type": "regression"}))
    with pytest.raises(ValueError, match="has `problem_type` 'regression'"):
        StartingPoint(folder)


def test_a_sharded_checkpoint_has_one_fingerprint(base: Path, tmp_path: Path) -> None:
    FoalNetForEmotionClassification.from_pretrained(base).save_pretrained(tmp_path, max_shard_size="100KB")
    FoalNetProcessor.from_pretrained(base).save_pretrained(tmp_path)
    start = StartingPoint(tmp_path)
    assert len(start._weights) > 1 and len(start.fingerprint) == 64
    assert start.make_model(Recipe("mine"), LABELS).num_labels == 4


def test_the_commit_of_a_hub_checkpoint_is_recorded(base: Path, tmp_path: Path) -> None:
    start = StartingPoint(shutil.copytree(base, tmp_path / ("ab" * 20)))  # as the cache of the Hub names its folders
    assert start.describe(LABELS).revision == "ab" * 20
    assert dataclasses.asdict(StartingPoint(base).describe(LABELS))["revision"] is None
