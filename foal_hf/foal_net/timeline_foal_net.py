"""Scores of overlapping windows to segments of a recording.

The score of each moment is the mean over the windows that cover it:

    score(t) = mean of the scores of the windows with start <= t < end

A segment is one stride long and has the mean of `score(t)` over its time: each window is weighted by the seconds of the
segment that it covers. Where the window is a whole number of strides, as by default, this is the plain mean of the
windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch


NO_LABEL = "the model predicts numbers (regression), which have no label"


@dataclass(frozen=True)
class ScoredSegment:
    """One stride of a recording, with the scores of the window that begins with it.

    Attributes:
        start_seconds, end_seconds (`float`): The stride, half open.
        evidence (`dict`): What the stride holds, see `measure_evidence`.
        window_end_seconds (`float`): End of the window.
        scores (`torch.Tensor` of shape `(num_labels,)`, *optional*): Probabilities; None without a window, or where it
            holds no usable audio or video.
        modalities (`tuple[str, ...]`): What the scores are based on.
        reason (`str`, *optional*): Why there are no scores.
    """

    start_seconds: float
    end_seconds: float
    evidence: dict[str, Any]
    window_end_seconds: float
    scores: torch.Tensor | None
    modalities: tuple[str, ...]
    reason: str | None


def merge_windows(
    strides: Iterable[ScoredSegment], describe: Callable[[torch.Tensor | None, str | None], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Merge overlapping windows into one segment for each stride, as soon as its windows are scored.

    Args:
        strides (`Iterable[ScoredSegment]`): In order, without gaps.
        describe (`Callable`): Returns `label`, `score`, `scores` and `reason` for probabilities `(num_labels,)`, or for
            None and the reason why there are none.

    Yields:
        `dict`: A segment, as documented by the pipeline's `__call__`.
    """
    windows: list[tuple[float, torch.Tensor, tuple[str, ...]]] = []  # end, scores and modalities
    for stride in strides:
        start, end = stride.start_seconds, stride.end_seconds
        windows = [window for window in windows if window[0] > start]
        if stride.scores is not None:
            windows.append((stride.window_end_seconds, stride.scores, stride.modalities))
        mean = None
        if windows:
            covered = torch.tensor([min(window_end, end) - start for window_end, _, _ in windows])
            scores = torch.stack([scores for _, scores, _ in windows])  # (windows, num_labels)
            mean = (covered[:, None] * scores).sum(0) / covered.sum()
        used = {name for _, _, modalities in windows for name in modalities}
        yield {
            "start_seconds": round(start, 6),
            "end_seconds": round(end, 6),
            **describe(mean, stride.reason),
            "modalities": tuple(name for name in ("audio", "video") if name in used),
            "evidence": stride.evidence,
        }


def merge_into_one(segments: Sequence[ScoredSegment]) -> ScoredSegment:
    """One prediction for a whole recording: the mean of its windows, each weighted by its seconds.

    Args:
        segments (`Sequence[ScoredSegment]`): Of windows that do not overlap, in order; at least one. The evidence of
            the last is about all of them.
    """
    first, last = segments[0], segments[-1]
    scored = [segment for segment in segments if segment.scores is not None]
    used = {name for segment in scored for name in segment.modalities}
    return replace(
        last,
        start_seconds=first.start_seconds,
        window_end_seconds=last.end_seconds,
        scores=weighted_mean([segment.scores for segment in scored], scored) if scored else None,
        modalities=tuple(name for name in ("audio", "video") if name in used),
    )


def weighted_mean(values: Sequence[Any], segments: Sequence[ScoredSegment]) -> torch.Tensor:
    """The mean of one tensor a segment, each weighted by the seconds of its segment."""
    if len(values) == 1:
        return values[0]
    seconds = torch.tensor([segment.end_seconds - segment.start_seconds for segment in segments])
    return (seconds[:, None] * torch.stack(list(values))).sum(0) / seconds.sum()


def runs_of_one_label(segments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join adjacent segments that have the same label.

    Args:
        segments (`Iterable[Mapping]`): With `start_seconds`, `end_seconds`, `label` and `score`, in order.

    Returns:
        `list[dict]`: `start_seconds`, `end_seconds`, `label` and `score`, the mean over the time of the run. Segments
        without a label (None) form runs too; a gap ends a run.

    Example:

    ```python
    >>> runs_of_one_label(classify("interview.mp4", window_seconds=6))
    [{'start_seconds': 0.0, 'end_seconds': 9.0, 'label': 'neutral', 'score': 0.81}, ...]
    ```
    """
    runs: list[dict[str, Any]] = []
    for segment in segments:
        start, end, label = segment["start_seconds"], segment["end_seconds"], segment["label"]
        last = runs[-1] if runs else None
        if last is None or last["label"] != label or not math.isclose(last["end_seconds"], start, abs_tol=1e-3):
            runs.append({"start_seconds": start, "end_seconds": end, "label": label, "score": segment["score"]})
            continue
        before, added = last["end_seconds"] - last["start_seconds"], end - start
        if before + added > 0 and last["score"] is not None:
            last["score"] = (last["score"] * before + segment["score"] * added) / (before + added)
        last["end_seconds"] = end
    return runs


def scores_of(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """The scores of each label, as in transformers' other pipelines.

    Calibrated probabilities `softmax(logits / temperature)` of one class a clip, over the last axis; of several classes
    a clip the sigmoid in place of the softmax; in regression the predicted numbers.

    Args:
        logits (`torch.Tensor` of shape `(..., num_labels)`): From the model.
        config (`FoalNetConfig`): With `calibration_temperature` and `problem_type`, which an older class may lack.
    """
    if is_regression(config):
        return logits
    logits = logits / (getattr(config, "calibration_temperature", None) or 1.0)
    has_several = getattr(config, "problem_type", None) == "multi_label_classification"
    return logits.sigmoid() if has_several else logits.softmax(dim=-1)


def is_regression(config: Any) -> bool:
    """Whether a model predicts numbers, such as valence and activation. They have names, but no label."""
    return getattr(config, "problem_type", None) == "regression"


def named_scores(scores: torch.Tensor, config: Any, top_k: int | None = None) -> list[dict[str, Any]]:
    """`{"label", "score"}` of each class, the most likely first; in regression of each number, in the model's order.

    Args:
        scores (`torch.Tensor` of shape `(num_labels,)`): Of one clip, from [`scores_of`].
        config (`FoalNetConfig`): With the names, `id2label`.
        top_k (`int`, *optional*): The most likely ones only.
    """
    named = [{"label": config.id2label[index], "score": score} for index, score in enumerate(scores.tolist())]
    if is_regression(config):
        return named
    return sorted(named, key=lambda entry: entry["score"], reverse=True)[:top_k]


def label_of(named: Sequence[Mapping[str, Any]], config: Any, min_score: float | None) -> dict[str, Any]:
    """The `label` and `score` that [`named_scores`] give, and the `reason` where the label is None.

    Regression has numbers, no label and no score; a best score below `min_score` is no label.
    """
    if is_regression(config):
        return {"label": None, "score": None, "reason": NO_LABEL}
    best = named[0]
    if min_score is None or best["score"] >= min_score:
        return {"label": best["label"], "score": best["score"], "reason": None}
    reason = f"unsure: the best score is {best['score']:.2f}, below {min_score:g}"
    return {"label": None, "score": best["score"], "reason": reason}


__all__ = [
    "NO_LABEL",
    "ScoredSegment",
    "is_regression",
    "label_of",
    "merge_into_one",
    "merge_windows",
    "named_scores",
    "scores_of",
    "runs_of_one_label",
    "weighted_mean",
]
