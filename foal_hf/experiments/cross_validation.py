"""Every fold of a corpus, with one seed or several, and what comes out of all of them together.

    output/
      features/                       stored features, shared by all runs
      seed-1234/Ses01/                a run each, see run.py
      results.json                    all folds in one
      report.md, confusion_matrix.png, reliability.png

What is finished is not repeated, so the runs of another seed can be added later.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..corpora.folds import Fold, make_folds
from ..hub import RESULTS_NAME
from ..plots import plot_confusion_matrix
from ..plots.reliability import plot_reliability_diagram
from ..results import (
    METRIC_NAMES,
    Corpus,
    Evaluation,
    FoldResult,
    Protocol,
    Results,
    Score,
    Selection,
    Split,
)
from .checks import check_corpus
from .clips import BOTH
from .naming import as_file_name, find_fold
from .predictions import Predictions
from .recipe import Recipe
from .records import PREDICTIONS_NAME
from .reports import cross_validation_report
from .run import train_and_test


REPORT_NAME = "report.md"
_MATRIX_NAME, _RELIABILITY_NAME = "confusion_matrix.png", "reliability.png"


def cross_validate(
    recipe: Recipe,
    corpus: Any,
    output_dir: str | Path,
    *,
    about: Corpus,
    by: str = "session",
    select: Selection = "validation",
    seeds: Sequence[int] = (),
    held_out: Sequence[str] = (),
    modalities: Sequence[str] = BOTH,
    store_dir: str | Path | None = None,
    variant: str = "Foal-Net",
) -> Results:
    """Hold out each session, or each speaker, once; train on the others, test on it.

    It may be killed at any moment: called again, it goes on with the epoch of the fold that it was at.

    Args:
        recipe, corpus, about, select, modalities: As in [`train_and_test`].
        output_dir (`str` or `pathlib.Path`): Gets a folder for each run, `results.json`, `report.md`,
            `confusion_matrix.png` and `reliability.png`.
        by (`str`, defaults to `"session"`): `"session"` or `"speaker"`: what is held out.
        seeds (`Sequence[int]`, *optional*): One run of all folds for each; the recipe's alone by default. The speakers
            that validate are the same in all.
        held_out (`Sequence[str]`, *optional*): Only the folds of these names; all by default.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features; by default `features` in
            `output_dir`.
        variant (`str`, defaults to `"Foal-Net"`): Which of the published numbers stand beside; see
            [`~foal_hf.experiments.ablation.VARIANTS`].

    Returns:
        [`~foal_hf.results.Results`]: Of each score, `value` and `interval` are of all clips together, drawn by speaker;
        `mean_of_runs` is the mean over the folds, as papers give it, with the standard deviation over the seeds, or
        over the folds where there is one seed. `folds` holds each run.

    Raises:
        ValueError, TypeError, OSError, FloatingPointError: As in [`train_and_test`] and [`~foal_hf.make_folds`].
    """
    output = Path(output_dir)
    check_corpus(corpus)
    validation = "speaker" if select == "validation" else None
    folds = _chosen(make_folds(corpus, by, validation=validation), held_out)
    seeds = list(seeds) or [recipe.seed]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Each seed is one run, got {seeds}.")
    words = f"Each {by} is held out once: the model is trained on the others and tested on it."
    store = output / "features" if store_dir is None else Path(store_dir)
    runs: dict[tuple[int, str], Results] = {}
    predictions: dict[tuple[int, str], Predictions] = {}
    for seed in seeds:
        for fold in folds:
            folder = output / f"seed-{seed}" / as_file_name(fold.name)
            runs[seed, fold.name] = train_and_test(
                recipe,
                corpus,
                fold,
                folder,
                about=about,
                select=select,
                seed=seed,
                modalities=modalities,
                protocol=Protocol(f"leave-one-{by}-out", words, held_out=f"{by} {fold.name}"),
                store_dir=store,
            )
            predictions[seed, fold.name] = Predictions.load(folder / PREDICTIONS_NAME)

    first, joined = next(iter(runs.values())), Predictions.joined(list(predictions.values()))
    tested = corpus.select([row for fold in folds for row in fold.test])
    results = dataclasses.replace(
        first,
        protocol=Protocol(f"leave-one-{by}-out", words, held_out=", ".join(held_out) or None),
        conditions=_join(joined, predictions, len(seeds)),
        splits={"test": Split(len(tested), len(set(tested["speaker"])))},
        seeds=seeds,
        selected_epoch=None,
        selection_score=None,
        training=dataclasses.replace(first.training, seconds=None) if first.training else None,
        folds=[_fold_result(name, seed, run, predictions[seed, name]) for (seed, name), run in runs.items()],
    )
    if PartialState().is_main_process:
        _write(output, results, joined, variant)
    return results


def _write(output: Path, results: Results, joined: Predictions, variant: str) -> None:
    """The results file last: the rest is made of it."""
    main, title = results.main_condition or "both", f"{results.corpus.name}: {results.protocol.key}"
    matrix = results.conditions[main].confusion_matrix
    plot_confusion_matrix(matrix, results.labels, output / _MATRIX_NAME, title=title)
    plot_reliability_diagram(joined.references, joined.probabilities[main], output / _RELIABILITY_NAME, title=title)
    (output / REPORT_NAME).write_text(cross_validation_report(results, variant), encoding="utf-8")
    results.save(output / RESULTS_NAME)


def _chosen(folds: Sequence[Fold], names: Sequence[str]) -> list[Fold]:
    return [find_fold(folds, name) for name in names] or list(folds)


def _join(
    joined: Predictions, predictions: Mapping[tuple[int, str], Predictions], num_seeds: int
) -> dict[str, Evaluation]:
    """Scores of all runs together, and their means."""
    of_runs = {run: part.evaluations(intervals=False) for run, part in predictions.items()}
    return {
        condition: _with_means(test, {run: tests[condition] for run, tests in of_runs.items()}, num_seeds)
        for condition, test in joined.evaluations().items()
    }


def _with_means(test: Evaluation, runs: Mapping[tuple[int, str], Evaluation], num_seeds: int) -> Evaluation:
    scores: dict[str, Any] = {}
    for metric in METRIC_NAMES:
        values = {run: getattr(evaluation, metric).value for run, evaluation in runs.items()}
        of_seeds = [
            statistics.mean(value for (own, _), value in values.items() if own == seed)
            for seed in dict.fromkeys(seed for seed, _ in values)
        ]
        spread = of_seeds if num_seeds > 1 else list(values.values())
        score: Score = getattr(test, metric)
        scores[metric] = dataclasses.replace(
            score,
            standard_deviation=statistics.stdev(spread) if len(spread) > 1 else None,
            mean_of_runs=statistics.mean(of_seeds),
        )
    return _per_run(dataclasses.replace(test, **scores), num_seeds)


def _per_run(test: Evaluation, num_seeds: int) -> Evaluation:
    """Count each clip once, though every seed tested it."""
    if num_seeds == 1:
        return test
    groups = {
        grouping: {name: _per_run(part, num_seeds) for name, part in parts.items()}
        for grouping, parts in test.groups.items()
    }
    return dataclasses.replace(test, num_clips=test.num_clips // num_seeds, num_runs=num_seeds, groups=groups)


def _fold_result(name: str, seed: int, run: Results, predictions: Predictions) -> FoldResult:
    return FoldResult(
        held_out=name,
        seed=seed,
        conditions=predictions.evaluations(intervals=False),
        splits=run.splits,
        selected_epoch=run.selected_epoch,
        selection_score=run.selection_score,
    )


__all__ = ["REPORT_NAME", "cross_validate"]
