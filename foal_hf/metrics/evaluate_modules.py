"""Where the metrics are that `evaluate` loads. Their scripts also go to the Hub as a Space, without this package."""

from pathlib import Path


METRIC_FOLDER = "emotion_classification"
"""The module of `evaluate` with one config for each metric."""

METRIC_MODULES = (
    "unweighted_accuracy",
    "weighted_accuracy",
    "macro_f1",
    "per_class_recall",
    "expected_calibration_error",
)
"""The metrics that `evaluate` can load, see [`metric_path`]."""


def metric_path(name: str | None = None) -> str:
    """Path that `evaluate.load` takes. No network is needed.

    Args:
        name (`str`, *optional*): One of [`METRIC_MODULES`]. Without it the path is that of the module with all of them,
            and `evaluate.load` takes the name as its second argument.

    Returns:
        `str`: The folder of the module, or the script of one metric in it.

    Raises:
        ValueError: If there is no such metric.

    Example:
        ```python
        >>> import evaluate

        >>> metric = evaluate.load(metric_path("unweighted_accuracy"))
        >>> metric.compute(references=[0, 0, 1], predictions=[0, 1, 1], labels=["happy", "sad", "angry"])
        {'unweighted_accuracy': 0.75, 'absent_classes': ['angry']}
        >>> same_metric = evaluate.load(metric_path(), "unweighted_accuracy")
        ```
    """
    folder = Path(__file__).resolve().parent / METRIC_FOLDER
    if name is None:
        return str(folder)
    if name not in METRIC_MODULES:
        raise ValueError(f"Unknown metric {name!r}; expected one of {', '.join(METRIC_MODULES)}.")
    return str(folder / f"{name}.py")


__all__ = ["METRIC_FOLDER", "METRIC_MODULES", "metric_path"]
