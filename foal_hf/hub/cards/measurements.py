"""The sections of a card that hold what was measured: results and latency."""

from ...results import METRIC_NAMES, Evaluation, Results, Score
from .markdown import counted, enumerated, named_versions, percent, table


# With fewer speakers than this, percentile intervals are known to be too narrow.
_FEW_CLUSTERS = 10
_CHOSEN = {
    "validation": "the best epoch on a validation part of the clips; the test clips were looked at once",
    "last": "the last epoch, whatever its numbers were",
    "test-best-epoch": "**checkpoint chosen on the test session**, the epoch that is best on the very clips reported "
    "here: these numbers are too good",
}


def results_section(results: Results | None) -> str:
    """How the checkpoint was chosen, and its scores: all, by class, by group."""
    if results is None or not results.conditions:
        return "Nothing was measured: no number is known for this checkpoint."
    conditions, main = results.conditions, results.main_condition or ""
    scores = [(name, *_scores(test), f"{test.num_clips:,}") for name, test in conditions.items()]
    recalls = [(name, *_recalls(test)) for name, test in conditions.items()]
    matrix = conditions[main].confusion_matrix
    paragraphs = [
        _how_chosen(results),
        table(("tested with", *METRIC_NAMES.values(), "clips"), scores),
        _how_to_read(results),
        "Recall of each class:",
        table(("tested with", *results.labels), recalls),
        f"Clips of each class (rows) by the label that they were given (columns), from {input_words(main)}:",
        table(("", *results.labels), [(name, *row) for name, row in zip(results.labels, matrix, strict=True)]),
    ]
    for grouping, parts in conditions[main].groups.items():
        rows = [(name, *_scores(part), f"{part.num_clips:,}") for name, part in parts.items()]
        paragraphs += [f"By {grouping}, from {input_words(main)}:"]
        paragraphs += [table((grouping, *METRIC_NAMES.values(), "clips"), rows)]
    return "\n\n".join(paragraphs)


def latency_section(results: Results | None) -> str:
    """How long a clip takes, on which hardware."""
    if results is None or not results.latency:
        return "Not measured."
    rows = []
    for entry in results.latency:
        what = [
            entry.what,
            f"{entry.clip_seconds:g} s long" if entry.clip_seconds else "",
            f"{counted(entry.batch_size, 'clip')} at once" if entry.batch_size else "",
            f"median of {counted(entry.num_runs, 'run')}" if entry.num_runs else "",
        ]
        hardware = entry.hardware + (f" ({named_versions(entry.versions)})" if entry.versions else "")
        rows.append((", ".join(filter(None, what)), f"{entry.seconds_per_clip:.3g} s", hardware))
    return table(("what", "time a clip", "on"), rows)


def input_words(condition: str) -> str:
    """What the model got in a condition."""
    return "sound and picture" if condition == "both" else condition


def score_words(score: Score) -> str:
    """`"79.5% ± 0.4 [77.1, 81.6]"`, as much of it as is known."""
    words = percent(score.value)
    if score.standard_deviation is not None:
        words += f" ± {100 * score.standard_deviation:.1f}"
    if score.interval is not None:
        words += f" [{100 * score.interval[0]:.1f}, {100 * score.interval[1]:.1f}]"
    return words


def _how_chosen(results: Results) -> str:
    details = []
    if results.selected_epoch is not None:
        details.append(f"epoch {results.selected_epoch:g}")
    if results.selection_score is not None:
        details.append(f"UA {percent(results.selection_score)} there")
    in_brackets = f" ({enumerated(details)})" if details else ""
    return f"How the checkpoint was chosen: {_CHOSEN[results.selection]}{in_brackets}."


def _how_to_read(results: Results) -> str:
    sentences = ["UA is the mean of the recalls of the classes, WA the accuracy."]
    tests = list(results.conditions.values())
    if any(getattr(test, metric).standard_deviation is not None for test in tests for metric in METRIC_NAMES):
        sentences.append("Behind ±: the standard deviation over the runs, in points.")
    bootstrap = next((test.bootstrap for test in tests if test.bootstrap), None)
    if bootstrap:
        clusters = counted(bootstrap.num_clusters, bootstrap.clustered_by)
        sentences.append(
            f"In brackets: {bootstrap.confidence:.0%} bootstrap intervals, drawn by {bootstrap.clustered_by} "
            f"({clusters})."
        )
        if bootstrap.num_clusters < _FEW_CLUSTERS:
            sentences.append("From so few they are too narrow rather than too wide.")
        intervals = [getattr(test, metric).interval for test in tests for metric in METRIC_NAMES]
        if any(interval and interval[0] == interval[1] for interval in intervals):
            sentences.append("One without width says that this test shows no spread, not that the number is certain.")
    return " ".join(sentences)


def _scores(test: Evaluation) -> list[str]:
    return [score_words(getattr(test, name)) for name in METRIC_NAMES]


def _recalls(test: Evaluation) -> list[str]:
    return ["no clips" if recall is None else percent(recall) for recall in test.per_class_recall.values()]


__all__ = ["input_words", "latency_section", "results_section", "score_words"]
