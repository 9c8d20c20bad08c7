"""Cross-validation: every fold of a corpus, with one or several seeds, and the results of all together.

    output/
      features/                       stored features, shared by all runs
      seed-1234/Ses01/                one run each, see run.py
      results.json                    all folds in one
      report.md, confusion_matrix.png, reliability.png

Finished runs are not repeated, so runs with other seeds can be added later.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..atomic_files import write_file
from ..corpora.folds import make_folds
from ..hub import RESULTS_NAME
from ..plots import plot_confusion_matrix
from ..plots.reliability import plot_reliability_diagram
from ..results import METRIC_NAMES, Corpus, Evaluation, FoldResult, Protocol, Results, Selection, Split
from .checks import check_corpus
from .clips import BOTH
from .naming import as_file_name, find_fold
from .predictions import Predictions
from .recipe import Recipe
from .records import PREDICTIONS_NAME
from .reports import cross_validation_report
from .run import train_and_test
from .starting_point import StartingPoint


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
    init: str | Path | StartingPoint | None = None,
) -> Results:
    """Hold out each session, or each speaker, once: train on the others, test on it.

    It can be killed at any moment: called again, it continues with the last epoch of the interrupted fold.

    Args:
        recipe, corpus, about, select, modalities, init: As in [`train_and_test`]. Every run starts from `init` anew.
        output_dir (`str` or `pathlib.Path`): Gets a folder for each run, `results.json`, `report.md`,
            `confusion_matrix.png` and `reliability.png`.
        by (`str`, defaults to `"session"`): `"session"` or `"speaker"`: what is held out.
        seeds (`Sequence[int]`, *optional*): One run of all folds for each; the recipe's seed by default. The
            validation speakers are the same for all seeds.
        held_out (`Sequence[str]`, *optional*): Only the folds of these names; all by default. Report and results file
            then say how many of the folds were run.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features; by default `features` in
            `output_dir`.
        variant (`str`, defaults to `"Foal-Net"`): Row of the published table to compare with; see
            [`~foal_hf.experiments.ablation.VARIANTS`].

    Returns:
        [`~foal_hf.results.Results`]: `value` and `interval` of each score are of all clips together, resampled by
        speaker. `mean_of_runs` is the mean over the folds, as papers report it, with the standard deviation over the
        seeds, or over the folds if there is one seed. `folds` holds each run.

    Raises:
        ValueError, TypeError, OSError, FloatingPointError: As in [`train_and_test`] and [`~foal_hf.make_folds`].
    """
    output = Path(output_dir)
    check_corpus(corpus)
    validation = "speaker" if select == "validation" else None
    all_folds = make_folds(corpus, by, validation=validation)
    folds = [find_fold(all_folds, name) for name in held_out] or all_folds
    seeds = list(seeds) or [recipe.seed]
    for name, values in (("seeds", seeds), ("held_out", [fold.name for fold in folds])):
        if len(set(values)) < len(values):
            raise ValueError(f"`{name}` has to name each run once, got {values}.")
    start = StartingPoint.of(init)
    if start is not None:  # before any fold is trained
        start.check_test_clips(corpus, [row for fold in folds for row in fold.test], about)
    words = f"Each {by} is held out once: the model is trained on the others and tested on it."
    if len(folds) < len(all_folds):
        words = f"{len(folds)} of {len(all_folds)} {by}s are held out, each once{words.partition('once')[2]}"
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
                init=start,
            )
            predictions[seed, fold.name] = Predictions.load(folder / PREDICTIONS_NAME)

    first, joined = next(iter(runs.values())), Predictions.joined(list(predictions.values()))
    tested = corpus.select([row for fold in folds for row in fold.test])
    results = dataclasses.replace(
        first,
        protocol=Protocol(
            f"leave-one-{by}-out", words, held_out=", ".join(fold.name for fold in folds) if held_out else None
        ),
        conditions=_join(joined, predictions, len(seeds)),
        splits={"test": Split(len(tested), len(set(tested["speaker"])))},
        seeds=seeds,
        selected_epoch=None,
        selection_score=None,
        calibration=_calibration(list(runs.values())),
        training=dataclasses.replace(first.training, seconds=None) if first.training else None,
        folds=[_fold_result(name, seed, run, predictions[seed, name]) for (seed, name), run in runs.items()],
    )
    if PartialState().is_main_process:
        _write(output, results, joined, variant)
    return results


def _write(output: Path, results: Results, joined: Predictions, variant: str) -> None:
    """Write the files of all folds together, the results file last."""
    main, title = results.main_condition or "both", f"{results.corpus.name}: {results.protocol.key}"
    matrix = results.conditions[main].confusion_matrix
    plot_confusion_matrix(matrix, results.labels, output / _MATRIX_NAME, title=title)
    plot_reliability_diagram(joined.references, joined.probabilities[main], output / _RELIABILITY_NAME, title=title)
    write_file(output / REPORT_NAME, cross_validation_report(results, variant))
    results.save(output / RESULTS_NAME)


def _calibration(runs: Sequence[Results]) -> str | None:
    """How many of the runs were calibrated; None where calibration was not part of them."""
    words = [run.calibration for run in runs if run.calibration]
    if not words:
        return None
    failed = [each for each in words if each.startswith("Not")]
    return f"{len(words) - len(failed)} of {len(words)} runs were calibrated.{f' {failed[0]}' if failed else ''}"


def _join(
    joined: Predictions, predictions: Mapping[tuple[int, str], Predictions], num_seeds: int
) -> dict[str, Evaluation]:
    """Scores of all runs together, with their means."""
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
        scores[metric] = dataclasses.replace(
            getattr(test, metric),
            standard_deviation=statistics.stdev(spread) if len(spread) > 1 else None,
            mean_of_runs=statistics.mean(of_seeds),
        )
    return _per_run(dataclasses.replace(test, **scores), num_seeds)


def _per_run(test: Evaluation, num_seeds: int) -> Evaluation:
    """Count each clip once, although every seed tested it."""
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
