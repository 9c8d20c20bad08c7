"""Results in words and tables, as Markdown: what the commands print and leave behind."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..hub.cards.markdown import counted, enumerated, percent, table
from ..hub.cards.reading import CHOSEN_BY, explain_scores
from ..results import METRIC_NAMES, Evaluation, Results
from .corpus_facts import PUBLISHED_CLIPS, published_scores


if TYPE_CHECKING:
    from .evaluation import CheckpointTest


def run_report(results: Results) -> str:
    """One training with its test."""
    held_out = results.protocol.held_out or "the test part"
    rows = []
    for condition, test in results.conditions.items():
        scores = [_with_interval(test, metric) for metric in METRIC_NAMES]
        rows.append((condition, *scores, f"{test.num_clips:,}"))
    parts = [
        f"{results.corpus.name}, held out: {held_out}. {_chosen(results)}",
        table(("tested with", *METRIC_NAMES.values(), "clips"), rows),
        _how_to_read(results),
        *_details(results),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def cross_validation_report(results: Results, variant: str = "Foal-Net") -> str:
    """All folds: their mean beside the published numbers, all clips together with intervals, and each fold.

    Args:
        results ([`~foal_hf.results.Results`]): From [`cross_validate`].
        variant (`str`): Whose published numbers stand beside.
    """
    published = published_scores(results.corpus, results.labels, variant)
    num_folds = len({fold.held_out for fold in results.folds})
    num_seeds = len(results.seeds)
    mean = f"mean of {counted(num_folds, 'fold')}" + (f", {num_seeds} seeds" if num_seeds > 1 else "")
    parts = [f"{results.corpus.name}: {results.protocol.description} {CHOSEN_BY[results.selection]}"]
    for condition, test in results.conditions.items():
        header = [condition, mean, f"all {counted(test.num_clips, 'clip')} together"]
        rows = [[name, mean_words(test, metric), _with_interval(test, metric)] for metric, name in METRIC_NAMES.items()]
        if published and condition == results.main_condition:
            header.append("published")
            for row, metric in zip(rows, METRIC_NAMES, strict=True):
                row.append(percent(published[metric]) if metric in published else "")
        parts.append(table(header, rows))
    parts.append(_how_to_read(results))
    if published:
        parts.append(_how_published(results, variant))
    parts += [_fold_table(results), *_details(results)]
    return "\n\n".join(filter(None, parts)) + "\n"


def ablation_report(variants: Mapping[str, Results]) -> str:
    """The paper's table.

    Args:
        variants (`Mapping[str, Results]`): From [`ablate`], each a cross-validation.
    """
    first = next(iter(variants.values()))
    rows = []
    for name, results in variants.items():
        test = results.conditions[results.main_condition or ""]
        published = published_scores(results.corpus, results.labels, name)
        theirs = [percent(published[metric]) for metric in published]
        ours = [mean_words(test, metric) for metric in METRIC_NAMES]
        intervals = _interval(test, "unweighted_accuracy")
        rows.append((name, *ours, intervals, *theirs))
    header = ["", *METRIC_NAMES.values(), "UA, 95 % interval"]
    if len(rows[0]) > len(header):
        header += ["published UA", "published WA"]
    num_folds = len({fold.held_out for fold in first.folds})
    parts = [
        f"{first.corpus.name}: {first.protocol.description} {CHOSEN_BY[first.selection]}",
        table(header, rows),
        f"Mean of {counted(num_folds, 'fold')}. {_how_to_read(first)}",
    ]
    if len(header) > len(METRIC_NAMES) + 2:
        parts.append(_how_published(first, "the same rows"))
    return "\n\n".join(filter(None, parts)) + "\n"


def checkpoint_report(test: "CheckpointTest") -> str:
    """A checkpoint on clips of a corpus.

    Args:
        test ([`~foal_hf.experiments.evaluation.CheckpointTest`]): From [`evaluate_checkpoint`].
    """
    rows = []
    for condition, evaluation in test.conditions.items():
        scores = [_with_interval(evaluation, metric) for metric in METRIC_NAMES]
        rows.append((condition, *scores, f"{evaluation.num_clips:,}"))
    renamed = [f"{name} counts as {label}" for name, label in test.label_mapping.items() if name != label]
    left_out = [f"{counted(number, 'clip')} of {name} left out" for name, number in test.left_out.items()]
    notes = f" {enumerated(renamed + left_out)}." if renamed or left_out else ""
    parts = [
        f"{test.checkpoint or 'The checkpoint'} on {test.corpus.name}.{notes}",
        table(("tested with", *METRIC_NAMES.values(), "clips"), rows),
        _how_to_read(test),
        *_details(test),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def mean_words(test: Evaluation, metric: str) -> str:
    """`"79.5% ± 0.4"`: the mean over folds and its standard deviation, in points."""
    score = getattr(test, metric)
    mean = score.value if score.mean_of_runs is None else score.mean_of_runs
    return percent(mean) + ("" if score.standard_deviation is None else f" ± {100 * score.standard_deviation:.1f}")


def _with_interval(test: Evaluation, metric: str) -> str:
    return " ".join(filter(None, (percent(getattr(test, metric).value), _interval(test, metric))))


def _interval(test: Evaluation, metric: str) -> str:
    interval = getattr(test, metric).interval
    return f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]" if interval else ""


def _chosen(results: Results) -> str:
    epoch = "" if results.selected_epoch is None else f" Epoch {results.selected_epoch:g}"
    score = "" if results.selection_score is None else f", UA {percent(results.selection_score)} there"
    return f"{CHOSEN_BY[results.selection]}{f'{epoch}{score}.' if epoch else ''}"


def _how_to_read(results: "Results | CheckpointTest") -> str:
    num_seeds = len(getattr(results, "seeds", []))
    return explain_scores(results.conditions, runs=f"{num_seeds} seeds" if num_seeds > 1 else "the folds")


def _how_published(results: Results, what: str) -> str:
    """How far the published numbers can be compared with these."""
    words = f"Published: {what} of Li et al., Interspeech 2024, with the epoch chosen on the held-out session"
    if results.selection == "test-best-epoch":
        words += ", as here."
    else:
        words += ", which makes it too good; here nothing was chosen on it."
    num_clips = results.conditions[results.main_condition or ""].num_clips
    if num_clips != PUBLISHED_CLIPS:
        words += f" It is of {PUBLISHED_CLIPS:,} clips, and these are {num_clips:,}: the two cannot be compared."
    return words


def _fold_table(results: Results) -> str:
    main = results.main_condition or ""
    seeds = len(results.seeds) > 1
    header = ["held out", *(["seed"] if seeds else []), "clips", "epoch", *METRIC_NAMES.values()]
    rows: list[Sequence[object]] = []
    for fold in results.folds:
        test = fold.conditions[main]
        epoch = "" if fold.selected_epoch is None else f"{fold.selected_epoch:g}"
        scores = [percent(getattr(test, metric).value) for metric in METRIC_NAMES]
        rows.append([fold.held_out, *([fold.seed] if seeds else []), f"{test.num_clips:,}", epoch, *scores])
    return table(header, rows)


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
    note = f" No clip of the test is {enumerated(absent)}: UA leaves that out." if absent else ""
    return [
        f"Recall of each class.{note}",
        table(("tested with", *results.labels), recalls),
        f"Clips of each class (rows) by the label that they were given (columns), from {main}:",
        table(("", *results.labels), [(name, *row) for name, row in zip(results.labels, matrix, strict=True)]),
    ]


__all__ = [
    "CHOSEN_BY",
    "ablation_report",
    "checkpoint_report",
    "cross_validation_report",
    "mean_words",
    "run_report",
]
