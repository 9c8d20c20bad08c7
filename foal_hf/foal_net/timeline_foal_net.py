"""From the scores of overlapping windows to one curve over the time of a recording.

Every moment counts the windows that cover it:

    score(t) = mean of the scores of the windows with start <= t < end

The curve is given on the grid of the stride. A segment is one stride long (the last one may be shorter) and has the
mean of `score(t)` over its time. A window counts for the seconds of the segment that it covers, so where the window is
a whole number of strides, as by default, a segment has the plain mean of its windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class JudgedStretch:
    """One stride of a recording with what the model said of the window that begins with it.

    Attributes:
        start_seconds, end_seconds (`float`): The stride, half open.
        evidence (`dict`): What the stride holds, as `measure_evidence` gives it.
        window_end_seconds (`float`): Where the window ends.
        scores (`torch.Tensor` of shape `(num_labels,)`, *optional*): Probabilities; None without a window, or where it
            held nothing to judge by.
        modalities (`tuple[str, ...]`): What they rest on.
        reason (`str`, *optional*): Why there are no scores, if there are none.
    """

    start_seconds: float
    end_seconds: float
    evidence: dict[str, Any]
    window_end_seconds: float
    scores: torch.Tensor | None
    modalities: tuple[str, ...]
    reason: str | None


def merge_windows(
    stretches: Iterable[JudgedStretch], describe: Callable[[torch.Tensor | None, str | None], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """One segment for each stretch, as soon as it is known.

    Args:
        stretches (`Iterable[JudgedStretch]`): In order, without gaps.
        describe (`Callable`): Gives `label`, `score`, `scores` and `reason` for probabilities `(num_labels,)`, or for
            None and the reason why there are none.

    Yields:
        `dict`: A segment, as the pipeline's `__call__` documents it.
    """
    windows: list[tuple[float, torch.Tensor, tuple[str, ...]]] = []  # end, scores and modalities
    for stretch in stretches:
        start, end = stretch.start_seconds, stretch.end_seconds
        windows = [window for window in windows if window[0] > start]
        if stretch.scores is not None:
            windows.append((stretch.window_end_seconds, stretch.scores, stretch.modalities))
        mean = None
        if windows:
            covered = torch.tensor([min(window_end, end) - start for window_end, _, _ in windows])
            scores = torch.stack([scores for _, scores, _ in windows])  # (windows, num_labels)
            mean = (covered[:, None] * scores).sum(0) / covered.sum()
        used = {name for _, _, modalities in windows for name in modalities}
        yield {
            "start_seconds": round(start, 6),
            "end_seconds": round(end, 6),
            **describe(mean, stretch.reason),
            "modalities": tuple(name for name in ("audio", "video") if name in used),
            "evidence": stretch.evidence,
        }


def runs_of_one_label(segments: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Segments that follow one another with one label as one.

    Args:
        segments (`Iterable[Mapping]`): With `start_seconds`, `end_seconds`, `label` and `score`, in order.

    Returns:
        `list[dict]`: `start_seconds`, `end_seconds`, `label` and `score`, the mean over the time of the run. Segments
        without a label (None) make runs as well; a gap ends a run.

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
        if before + added > 0:
            last["score"] = (last["score"] * before + segment["score"] * added) / (before + added)
        last["end_seconds"] = end
    return runs


def probabilities_of(logits: torch.Tensor, temperature: float | None) -> torch.Tensor:
    """Calibrated probabilities: `softmax(logits / temperature)`, over the last axis.

    Args:
        logits (`torch.Tensor` of shape `(..., num_labels)`): As the model gives them.
        temperature (`float`, *optional*): `calibration_temperature` of the config; 1 where it has none.
    """
    return (logits / (temperature or 1.0)).softmax(dim=-1)


def named_scores(
    probabilities: torch.Tensor, names: Mapping[int, str], top_k: int | None = None
) -> list[dict[str, Any]]:
    """`{"label", "score"}` of each class, the most likely first.

    Args:
        probabilities (`torch.Tensor` of shape `(num_labels,)`): Of one clip.
        names (`Mapping[int, str]`): `id2label` of the config.
        top_k (`int`, *optional*): The most likely ones only.
    """
    scores, indices = probabilities.sort(descending=True)
    pairs: Sequence[tuple[float, int]] = list(zip(scores.tolist(), indices.tolist(), strict=True))[:top_k]
    return [{"label": names[index], "score": score} for score, index in pairs]


def why_unsure(score: float, min_score: float | None) -> str | None:
    """Why a best score is not good enough, in words; None where it is."""
    if min_score is None or score >= min_score:
        return None
    return f"unsure: the likeliest emotion has {score:.2f}, less than {min_score:g}"


__all__ = [
    "JudgedStretch",
    "merge_windows",
    "named_scores",
    "probabilities_of",
    "runs_of_one_label",
    "why_unsure",
]
