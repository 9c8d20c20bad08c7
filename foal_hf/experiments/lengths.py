"""What an estimate has to know of a corpus: how long its clips are, and how the folds divide them."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from ..corpora.folds import Fold, make_folds
from ..corpora.report import clip_seconds
from ..corpora.schema import undecoded


# Of the logarithm of lengths, in IEMOCAP: median 3.58 s, mean 4.55 s.
_SPREAD = math.sqrt(2 * math.log(4.55 / 3.58))


@dataclass(frozen=True)
class CorpusLengths:
    """The clips of a corpus by their lengths.

    Args:
        seconds (`list[float]`): Length of each clip.
        classes (`list[int]`, *optional*): Class of each clip; None if not known.
        folds (`list[Fold]`): Rows for training, validation and test of each run.
        num_labels (`int`): Number of classes.
        assumptions (`tuple[str, ...]`): What was not known, in sentences.
    """

    seconds: list[float]
    classes: list[int] | None
    folds: list[Fold]
    num_labels: int = 4
    assumptions: tuple[str, ...] = ()


def corpus_lengths(splits: Mapping[str, Any], by: str = "session") -> CorpusLengths:
    """The lengths of a corpus on disk; no frame is decoded.

    Args:
        splits (`Mapping[str, datasets.Dataset]`): All splits, from [`~foal_hf.corpora.load_corpus`].
        by (`str`, defaults to `"session"`): What a fold holds out: `"session"` or `"speaker"`. If the corpus cannot be
            divided so, its own splits are the only fold, and `assumptions` gives the reason.

    Raises:
        ValueError: If no clip has a known length.
    """
    from datasets import concatenate_datasets

    corpus = undecoded(concatenate_datasets(list(splits.values())))
    found = [clip_seconds(row) for row in corpus]
    known = [seconds for seconds in found if seconds is not None]
    if not known:
        raise ValueError(
            f"None of the {len(found)} clips has a known length; inspect the corpus with `foal-hf inspect`."
        )
    mean, assumptions = statistics.mean(known), []
    if len(known) < len(found):
        assumptions.append(f"{len(found) - len(known)} clips cannot be read, and count as {mean:.2f} s, the mean.")
    try:
        folds = make_folds(corpus, by)
    except ValueError as error:
        folds = [_fold_of(splits)]
        assumptions.append(f"One fold, the splits of the corpus: {error}")
    return CorpusLengths(
        seconds=[mean if seconds is None else seconds for seconds in found],
        classes=list(corpus["emotion"]),
        folds=folds,
        num_labels=len(corpus.features["emotion"].names),
        assumptions=tuple(assumptions),
    )


def assumed_lengths(num_clips: int, mean_seconds: float, num_folds: int = 5) -> CorpusLengths:
    """The lengths of a corpus that is not at hand: log-normal, spread as in IEMOCAP, in folds of equal size.

    Args:
        num_clips (`int`): Clips.
        mean_seconds (`float`): Their mean length.
        num_folds (`int`, defaults to 5): Parts, of which each is tested once.

    Raises:
        ValueError: If there are fewer than three clips a fold, fewer than two folds, or no length.
    """
    if num_folds < 2 or num_clips < 3 * num_folds or not mean_seconds > 0:
        raise ValueError(
            f"{num_clips} clips of {mean_seconds} s in {num_folds} folds; expected lengths above 0, at least 2 folds, "
            "and 3 clips in each."
        )
    log_length = NormalDist(math.log(mean_seconds) - _SPREAD**2 / 2, _SPREAD)
    seconds = [math.exp(log_length.inv_cdf((row + 0.5) / num_clips)) for row in range(num_clips)]
    # Each fold has clips of all lengths, and a tenth of its other clips is for validation.
    folds = []
    for fold in range(num_folds):
        others = [row for row in range(num_clips) if row % num_folds != fold]
        validation = others[::10]
        train = sorted(set(others) - set(validation))
        folds.append(Fold(str(fold + 1), train, validation, list(range(fold, num_clips, num_folds))))
    assumption = (
        f"{num_clips} clips with a mean of {mean_seconds:g} s, log-normal, spread as in IEMOCAP (median "
        f"{math.exp(log_length.mean):.2f} s), in {num_folds} folds; a tenth of the clips that are not tested validates."
    )
    return CorpusLengths(seconds, None, folds, assumptions=(assumption,))


def _fold_of(splits: Mapping[str, Any]) -> Fold:
    rows, start = {}, 0
    for name, split in splits.items():
        rows[name] = list(range(start, start + len(split)))
        start += len(split)
    if not rows.get("train"):
        raise ValueError(f"The corpus has the splits {', '.join(rows)}, and no clips in `train`.")
    return Fold("test", rows["train"], rows.get("validation", []), rows.get("test", []))


__all__ = ["CorpusLengths", "assumed_lengths", "corpus_lengths"]
