"""How the scores of a test are to be read: in cards and in the reports of runs."""

from collections.abc import Mapping

from ...results import METRIC_NAMES, Evaluation
from .markdown import counted


CHOSEN_BY = {
    "validation": "The checkpoint is the best epoch on the validation split. The test split was evaluated once.",
    "last": "The checkpoint is the last epoch; nothing was chosen.",
    "test-best-epoch": "**Checkpoint chosen on the test session**: the best epoch on the clips reported here, as in "
    "the authors' code. These values are too high.",
}
"""How the checkpoint of a run was chosen, by `Results.selection`."""

REFITTED = (
    "These are the scores of models that were trained in the same way without the tested clips. The published "
    "checkpoint was then trained on all clips, and was not tested itself. "
)

# With fewer speakers, percentile intervals are known to be too narrow.
_FEW_CLUSTERS = 10


def explain_scores(conditions: Mapping[str, Evaluation], runs: str = "the runs") -> str:
    """Explain UA, WA, `±` and the brackets of a table of scores, as far as it has them.

    Args:
        conditions (`Mapping[str, Evaluation]`): The tests of the table.
        runs (`str`, defaults to `"the runs"`): What the standard deviation is taken over.
    """
    sentences = ["UA is the mean of the per-class recalls, WA the accuracy."]
    tests = list(conditions.values())
    scores = [getattr(test, metric) for test in tests for metric in METRIC_NAMES]
    if any(score.standard_deviation is not None for score in scores):
        sentences.append(f"±: standard deviation over {runs}, in percentage points.")
    bootstrap = next((test.bootstrap for test in tests if test.bootstrap), None)
    if bootstrap:
        clusters = counted(bootstrap.num_clusters, bootstrap.clustered_by)
        sentences.append(
            f"In brackets: {bootstrap.confidence:.0%} bootstrap intervals, resampled by {bootstrap.clustered_by} "
            f"({clusters})."
        )
        if bootstrap.num_clusters < _FEW_CLUSTERS:
            sentences.append("With so few they are too narrow.")
        if any(score.interval and score.interval[0] == score.interval[1] for score in scores):
            sentences.append("One without width means that this test shows no spread, not that the value is certain.")
    return " ".join(sentences)


__all__ = ["CHOSEN_BY", "REFITTED", "explain_scores"]
