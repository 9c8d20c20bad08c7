"""`foal-hf train`, `cross-validate`, `ablate`, `evaluate` and `estimate`: the paper's experiments on a corpus."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .options import (
    CORPUS_HELP,
    add_corpus_options,
    add_face_boxes,
    corpus_options,
    name_and_value,
    pair,
    with_face_boxes,
)


_IEMOCAP_SECONDS, _FOLDS = 4.55, 5


def add_commands(add: Callable[[Any], argparse.ArgumentParser]) -> None:
    """Declare the commands and their options."""
    _add_train_options(add(train))
    _add_cross_validate_options(add(cross_validate))
    _add_cross_validate_options(add(ablate))
    _add_evaluate_options(add(evaluate))
    _add_estimate_options(add(estimate))


def train(options: argparse.Namespace) -> int:
    """Train by a recipe, choose the checkpoint, test it once on the held-out clips, and save it."""
    from ..corpora.folds import make_folds
    from ..experiments import find_fold, fold_of_splits, train_and_test
    from ..experiments.reports import run_report
    from ..results import Protocol

    if options.test_session is not None and options.test_speaker is not None:
        raise ValueError("Give either --test-session or --test-speaker, not both.")
    splits = _load_splits(options)
    corpus = _joined(splits)
    by = "session" if options.test_session is not None else "speaker"
    name = options.test_session if options.test_session is not None else options.test_speaker
    if name is not None:
        validation = "speaker" if options.select == "validation" else None
        fold = find_fold(make_folds(corpus, by, validation=validation), name)
        protocol = Protocol(f"held-out-{by}", f"Trained on the other {by}s, tested on one.", f"{by} {fold.name}")
    else:
        fold = fold_of_splits(splits, select=options.select)
        protocol = Protocol("splits-of-the-corpus", "The splits of the corpus.", "test split")
    with contextlib.redirect_stdout(sys.stderr):  # Trainer prints what it logs: standard output is for the result
        results = train_and_test(
            _recipe(options),
            corpus,
            fold,
            options.output,
            about=_about(options),
            select=options.select,
            seed=options.seed,
            protocol=protocol,
            store_dir=options.store,
            init=options.init,
        )
    if options.json:
        _print(json.dumps(dataclasses.asdict(results), indent=2))
    else:
        _print(
            f"{run_report(results)}\n{Path(options.output) / 'checkpoint'} has the model, processor, card and results."
        )
    return 0


def cross_validate(options: argparse.Namespace) -> int:
    """Hold out each session (or speaker) once, train on the others and test on it. Resumes an interrupted run."""
    from ..experiments import cross_validate as run
    from ..experiments.reports import cross_validation_report

    with contextlib.redirect_stdout(sys.stderr):
        results = run(
            _recipe(options),
            _joined(_load_splits(options)),
            options.output,
            about=_about(options),
            by=options.by,
            select=options.select,
            seeds=options.seeds,
            held_out=options.held_out,
            store_dir=options.store,
            init=options.init,
        )
    if options.json:
        _print(json.dumps(dataclasses.asdict(results), indent=2))
    else:
        _print(f"{cross_validation_report(results)}\n{options.output} has this report, each run, and the plots.")
    return 0


def ablate(options: argparse.Namespace) -> int:
    """Run the paper's ablation: video, audio, fusion, + AVEL, + MEM, + both. Resumes an interrupted run."""
    from ..experiments import ablate as run
    from ..experiments.reports import ablation_report

    with contextlib.redirect_stdout(sys.stderr):
        table = run(
            _recipe(options),
            _joined(_load_splits(options)),
            options.output,
            about=_about(options),
            by=options.by,
            select=options.select,
            seeds=options.seeds,
            held_out=options.held_out,
            store_dir=options.store,
            init=options.init,
        )
    if options.json:
        _print((Path(options.output) / "ablation.json").read_text(encoding="utf-8").strip())
    else:
        _print(f"{ablation_report(table)}\n{options.output} has this table, and a cross-validation for each row.")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Test a checkpoint on a corpus, which may have other class names."""
    from ..experiments import clips_of_session, evaluate_checkpoint
    from ..experiments.reports import checkpoint_report

    corpus = _joined(_load_splits(options))
    if options.session is not None:
        corpus = clips_of_session(corpus, options.session)
    with contextlib.redirect_stdout(sys.stderr):
        test = evaluate_checkpoint(
            options.checkpoint,
            corpus,
            about=_about(options),
            label_mapping={name: label or None for name, label in options.map},
            held_out=options.held_out,
            allow_training_clips=options.allow_training_clips,
            output_dir=options.output,
            store_dir=options.store,
            batch_size=options.batch_size,
        )
    _print(json.dumps(dataclasses.asdict(test), indent=2) if options.json else checkpoint_report(test))
    return 0


def estimate(options: argparse.Namespace) -> int:
    """Estimate parameters, memory and time of a recipe before it is run; no weight is downloaded."""
    from ..experiments.estimate import estimate as run
    from ..experiments.machines import gpu

    recipe = _recipe(options)
    corpus = _lengths(options, recipe.corpus)
    machine = None if options.gpu is None else gpu(options.gpu)
    found = run(recipe, corpus, machine)
    _print(json.dumps(found.as_dict(), indent=2) if options.json else found.render())
    return 0


def _lengths(options: argparse.Namespace, known: dict[str, Any]) -> Any:
    """The clips to estimate: so many, those of a copy, or as many as the recipe knows its corpus to have."""
    from ..experiments.lengths import assumed_lengths, corpus_lengths

    if options.clips is not None:
        return assumed_lengths(options.clips, options.seconds or _IEMOCAP_SECONDS, options.folds or _FOLDS)
    has_copy = options.data_dir is not None or options.download
    if "clips" in known and not has_copy and options.corpus in (None, known.get("name")):
        seconds, folds = (getattr(options, name) or known.get(name) for name in ("seconds", "folds"))
        corpus = assumed_lengths(known["clips"], seconds or _IEMOCAP_SECONDS, folds or _FOLDS)
        about = [f"The corpus is {known.get('name', 'that of the recipe')}.", *filter(None, [known.get("note")])]
        labels = known.get("labels", corpus.num_labels)
        return dataclasses.replace(corpus, num_labels=labels, assumptions=(*about, *corpus.assumptions))
    if options.corpus is not None:
        return corpus_lengths(_load_splits(options), options.by)
    raise ValueError("Give --corpus, or --clips and --seconds of a corpus that is not at hand.")


def _add_train_options(command: argparse.ArgumentParser) -> None:
    """Options of [`train`]."""
    _add_run_options(command)
    command.add_argument("--test-session", metavar="NAME", help="the session to hold out: Ses05, or 5")
    command.add_argument("--test-speaker", metavar="NAME", help="the speaker to hold out")
    command.add_argument("--seed", type=int, help="random seed of weights, batches and dropout (default: the recipe's)")


def _add_cross_validate_options(command: argparse.ArgumentParser) -> None:
    """Options of [`cross_validate`] and [`ablate`]."""
    _add_run_options(command)
    command.add_argument(
        "--by", choices=("session", "speaker"), default="session", help="hold out sessions or speakers (%(default)s)"
    )
    command.add_argument(
        "--held-out", nargs="+", default=[], metavar="NAME", help="only these folds, such as Ses05 or 5 (default: all)"
    )
    command.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[],
        metavar="N",
        help="run all folds for each seed (default: the recipe's)",
    )


def _add_evaluate_options(command: argparse.ArgumentParser) -> None:
    """Options of [`evaluate`]."""
    command.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub name")
    command.add_argument("--corpus", required=True, help=CORPUS_HELP)
    add_corpus_options(command, settings="--corpus-set")
    command.add_argument("--session", metavar="NAME", help="only the clips of this session")
    command.add_argument(
        "--map",
        action="append",
        type=pair,
        default=[],
        metavar="CLASS=LABEL",
        help="a class of the corpus counts as this label of the checkpoint; without LABEL its clips are skipped",
    )
    command.add_argument(
        "--held-out", action="store_true", help="skip clips that were used to train or choose the checkpoint"
    )
    command.add_argument(
        "--allow-training-clips",
        action="store_true",
        help="test even if the checkpoint was trained on some of the clips",
    )
    command.add_argument("--batch-size", type=int, default=16, help="clips per forward pass (%(default)s)")
    command.add_argument("--output", help="folder for evaluation.json, predictions.json and the confusion matrix")
    command.add_argument("--store", metavar="STORE", help="folder of stored features (see foal-hf embed)")


def _add_estimate_options(command: argparse.ArgumentParser) -> None:
    """Options of [`estimate`]."""
    _add_recipe_options(command)
    command.add_argument("--corpus", help=CORPUS_HELP)
    add_corpus_options(command, settings="--corpus-set")
    command.add_argument(
        "--by", choices=("session", "speaker"), default="session", help="hold out sessions or speakers (%(default)s)"
    )
    command.add_argument("--clips", type=int, metavar="N", help="instead of a corpus at hand: so many clips")
    command.add_argument(
        "--seconds",
        type=float,
        help=f"their mean length (the recipe's, or {_IEMOCAP_SECONDS}, that of IEMOCAP's 5531 clips)",
    )
    command.add_argument("--folds", type=int, metavar="N", help=f"and so many folds (the recipe's, or {_FOLDS})")
    command.add_argument(
        "--gpu", metavar="NAME", help="such as A100-80GB or RTX-3090 (default: this machine, measured)"
    )


def _add_recipe_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--recipe",
        default="default",
        help="paper, default, base, whisper, open, small, tiny, or a YAML file (%(default)s)",
    )
    command.add_argument(
        "--encoders", nargs=2, metavar=("AUDIO", "VISION"), help="Hub names or folders, instead of the recipe's"
    )
    command.add_argument(
        "--set",
        action="append",
        type=name_and_value,
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the recipe: any of TrainingArguments, FoalNetConfig or the processor",
    )


def _add_run_options(command: argparse.ArgumentParser) -> None:
    _add_recipe_options(command)
    command.add_argument(
        "--init",
        metavar="CHECKPOINT",
        help="fine-tune: start from the weights of a checkpoint (folder, Hub name, or foal-net-small)",
    )
    command.add_argument("--corpus", required=True, help=CORPUS_HELP)
    add_corpus_options(command, settings="--corpus-set")
    command.add_argument("--output", required=True, help="folder of the run; an interrupted run resumes there")
    add_face_boxes(command)
    command.add_argument(
        "--select",
        choices=("validation", "last", "test-best-epoch"),
        default="validation",
        help="how the epoch is chosen (%(default)s); test-best-epoch, the authors' choice, overestimates the results",
    )
    command.add_argument("--store", metavar="STORE", help="folder of stored features (OUTPUT/features)")


def _print(text: str) -> None:
    """Print once, also in distributed training."""
    if os.environ.get("RANK", "0") == "0":
        print(text)


def _load_splits(options: argparse.Namespace) -> Any:
    from ..corpora import load_corpus

    given, recipe = corpus_options(options), _recipe(options) if hasattr(options, "recipe") else None
    if recipe is not None and recipe.corpus.get("name") == options.corpus:
        given = {**recipe.corpus.get("options", {}), **given}
    splits = load_corpus(options.corpus, options.data_dir, split=None, **given)
    if recipe is not None and recipe.processor.get("crop") == "face" and hasattr(options, "faces"):
        splits, _ = with_face_boxes(splits, options, recipe.processor["crop_margin"])
    return splits


def _joined(splits: Any) -> Any:
    from datasets import concatenate_datasets

    return concatenate_datasets(list(splits.values()))


def _recipe(options: argparse.Namespace) -> Any:
    from ..experiments.recipe import load_recipe
    from ..faces import CROP_MARGIN

    recipe = load_recipe(options.recipe)
    if options.encoders:
        recipe = recipe.with_encoders(*options.encoders)
    if getattr(options, "faces", False):
        recipe = recipe.with_settings({"crop": "face"})
    recipe = recipe.with_settings(dict(options.set))
    if recipe.processor.get("crop") == "face":  # the checkpoint crops new clips as it was trained
        recipe = recipe.with_settings({"crop_margin": recipe.processor.get("crop_margin", CROP_MARGIN)})
    return recipe


def _about(options: argparse.Namespace) -> Any:
    from ..experiments import describe_corpus

    return describe_corpus(options.corpus)
