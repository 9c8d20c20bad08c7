"""Reports of results as Markdown, which the commands print and write."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..hub.cards.markdown import counted, enumerated, percent, score_words, table
from ..hub.cards.reading import CHOSEN_BY, explain_scores
from ..hub.cards.starts import label_words, start_words
from ..results import METRIC_NAMES, Evaluation, Results, Score
from .corpus_facts import how_published, published_scores


if TYPE_CHECKING:
    from .evaluation import CheckpointTest


def run_report(results: Results) -> str:
    """One training with its test."""
    held_out = results.protocol.held_out or "the test split"
    chosen = CHOSEN_BY[results.selection]
    if results.selected_epoch is not None:
        score = results.selection_score
        chosen += f" Epoch {results.selected_epoch:g}" + (f", UA {percent(score)} there." if score is not None else ".")
    return _joined(
        f"{results.corpus.name}, held out: {held_out}. {chosen}",
        _score_table(results),
        explain_scores(results.conditions),
        results.calibration,
        _started(results),
        *_details(results),
    )


def cross_validation_report(results: Results, variant: str = "Foal-Net") -> str:
    """All folds: their mean beside the published results, all clips together with intervals, and each fold.

    Args:
        results ([`~foal_hf.results.Results`]): From [`cross_validate`].
        variant (`str`): Row of the published table to compare with.
    """
    published = published_scores(results.corpus, results.labels, variant)
    mean = _mean_of_folds(results)
    tables = []
    for condition, test in results.conditions.items():
        compares = published and condition == results.main_condition
        header = [condition, mean, f"all {counted(test.num_clips, 'clip')} together", *(["published"] * bool(compares))]
        rows = []
        for metric, name in METRIC_NAMES.items():
            theirs = [percent(published[metric]) if metric in published else ""] if compares else []
            rows.append([name, mean_words(test, metric), _whole_words(test, metric), *theirs])
        tables.append(table(header, rows))
    return _joined(
        f"{results.corpus.name}: {results.protocol.description} {CHOSEN_BY[results.selection]}",
        *tables,
        _explanation(results),
        _how_published(results, variant) if published else None,
        results.calibration,
        _fold_table(results),
        _started(results),
        *_details(results),
    )


def ablation_report(variants: Mapping[str, Results]) -> str:
    """The paper's table.

    Args:
        variants (`Mapping[str, Results]`): From [`ablate`], each a cross-validation.
    """
    first = next(iter(variants.values()))
    header, rows, has_published = ["", *METRIC_NAMES.values(), "UA of all clips"], [], False
    for name, results in variants.items():
        test = results.conditions[results.main_condition or ""]
        published = published_scores(results.corpus, results.labels, name)
        has_published = has_published or bool(published)
        ours = [mean_words(test, metric) for metric in METRIC_NAMES]
        rows.append((name, *ours, _whole_words(test, "unweighted_accuracy"), *map(percent, published.values())))
    if has_published:
        header += ["published UA", "published WA"]
    return _joined(
        f"{first.corpus.name}: {first.protocol.description} {CHOSEN_BY[first.selection]}",
        table(header, rows),
        f"UA, WA and macro F1 are the {_mean_of_folds(first)}. {_explanation(first)}",
        _how_published(first, "the same rows") if has_published else None,
    )


def checkpoint_report(test: "CheckpointTest") -> str:
    """A checkpoint on clips of a corpus.

    Args:
        test ([`~foal_hf.experiments.evaluation.CheckpointTest`]): From [`evaluate_checkpoint`].
    """
    renamed = [f"{name} counts as {label}" for name, label in test.label_mapping.items() if name != label]
    skipped = [f"{counted(number, 'clip')} of {name} skipped" for name, number in test.left_out.items()]
    notes = f" {enumerated(renamed + skipped)}." if renamed or skipped else ""
    return _joined(
        f"{test.checkpoint or 'The checkpoint'} on {test.corpus.name}.{notes} {test.training_clips}",
        _score_table(test),
        explain_scores(test.conditions),
        *_details(test),
    )


def mean_words(test: Evaluation, metric: str) -> str:
    """`"79.5% ± 0.4"`: the mean over folds and its standard deviation, in percentage points."""
    score: Score = getattr(test, metric)
    mean = score.value if score.mean_of_runs is None else score.mean_of_runs
    return score_words(Score(mean, standard_deviation=score.standard_deviation))


def _whole_words(test: Evaluation, metric: str) -> str:
    """`"79.5% [77.1, 81.6]"`: of all clips together."""
    score: Score = getattr(test, metric)
    return score_words(Score(score.value, score.interval))


def _score_table(results: "Results | CheckpointTest") -> str:
    rows = [
        (condition, *(_whole_words(test, metric) for metric in METRIC_NAMES), f"{test.num_clips:,}")
        for condition, test in results.conditions.items()
    ]
    return table(("input", *METRIC_NAMES.values(), "clips"), rows)


def _mean_of_folds(results: Results) -> str:
    words = f"mean of {counted(len({fold.held_out for fold in results.folds}), 'fold')}"
    return words + (f", {len(results.seeds)} seeds" if len(results.seeds) > 1 else "")


def _explanation(results: Results) -> str:
    return explain_scores(
        results.conditions, runs=f"{len(results.seeds)} seeds" if len(results.seeds) > 1 else "the folds"
    )


def _how_published(results: Results, what: str) -> str:
    """How far the published results can be compared with these."""
    words, published_clips = how_published(results.corpus, what, results.selection)
    num_clips = results.conditions[results.main_condition or ""].num_clips
    if num_clips != published_clips:
        words += f" It is of {published_clips:,} clips, and these are {num_clips:,}: the two cannot be compared."
    return words


def _fold_table(results: Results) -> str:
    main = results.main_condition or ""
    seeds = len(results.seeds) > 1
    rows: list[Sequence[object]] = []
    for fold in results.folds:
        test = fold.conditions[main]
        epoch = "" if fold.selected_epoch is None else f"{fold.selected_epoch:g}"
        scores = [percent(getattr(test, metric).value) for metric in METRIC_NAMES]
        rows.append([fold.held_out, *([fold.seed] * seeds), f"{test.num_clips:,}", epoch, *scores])
    return table(("held out", *(["seed"] * seeds), "clips", "epoch", *METRIC_NAMES.values()), rows)


def _started(results: Results) -> str | None:
    start = results.training.start if results.training else None
    if start is None:
        return None
    return f"Fine-tuned from {start_words(start)}; {label_words(start)}. {start.test_clips or ''}".strip()


def _details(results: "Results | CheckpointTest") -> list[str]:
    """Recall of each class, and the confusion matrix."""
    main = results.main_condition
    if main is None:
        return []
    recalls = [
        (condition, *("no clips" if recall is None else percent(recall) for recall in test.per_class_recall.values()))
        for condition, test in results.conditions.items()
    ]
    matrix = results.conditions[main].confusion_matrix
    absent = [name for name, recall in results.conditions[main].per_class_recall.items() if recall is None]
    note = f" The test has no clip of {enumerated(absent)}: UA is the mean of the others." if absent else ""
    return [
        f"Recall of each class.{note}",
        table(("input", *results.labels), recalls),
        f"Confusion matrix with {main}, in clips: rows are the true class, columns the predicted class.",
        table(("", *results.labels), [(name, *row) for name, row in zip(results.labels, matrix, strict=True)]),
    ]


def _joined(*parts: str | None) -> str:
    return "\n\n".join(filter(None, parts)) + "\n"


__all__ = ["ablation_report", "checkpoint_report", "cross_validation_report", "mean_words", "run_report"]
