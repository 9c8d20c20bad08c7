"""Where the metrics lie that `evaluate` loads. Their scripts stand alone: they travel to the Hub as Spaces."""

from pathlib import Path


METRIC_MODULES = (
    "unweighted_accuracy",
    "weighted_accuracy",
    "macro_f1",
    "per_class_recall",
    "expected_calibration_error",
)
"""The metrics that `evaluate` can load, see [`metric_path`]."""


def metric_path(name: str) -> str:
    """Folder of a metric that `evaluate.load` takes, in a checkout and in the installed package alike. No network.

    Args:
        name (`str`): One of [`METRIC_MODULES`].

    Returns:
        `str`: The folder; a script of the same name and a metric card are in it.

    Raises:
        ValueError: If there is no such metric.

    Example:
        ```python
        >>> import evaluate

        >>> metric = evaluate.load(metric_path("unweighted_accuracy"))
        >>> metric.compute(references=[0, 0, 1], predictions=[0, 1, 1], labels=["happy", "sad", "angry"])
        {'unweighted_accuracy': 0.75, 'absent_classes': ['angry']}
        ```
    """
    if name not in METRIC_MODULES:
        raise ValueError(f"There is no metric {name!r}; there is {', '.join(METRIC_MODULES)}.")
    return str(Path(__file__).resolve().parent / name)


__all__ = ["METRIC_MODULES", "metric_path"]
