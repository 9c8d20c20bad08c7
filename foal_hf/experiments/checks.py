"""Errors that can be found before anything is computed."""

import itertools
from collections.abc import Mapping
from typing import Any

from ..data import ClipDataset
from ..training.checks import check_labels, check_not_empty, column_of


def check_corpus(corpus: Any) -> list[str]:
    """The classes of a corpus that can be split by speaker.

    Returns:
        `list[str]`: By index.

    Raises:
        TypeError: If it is a stream, or several splits.
        ValueError: If a column is missing, or two clips share an id.
    """
    if not hasattr(corpus, "features") or not hasattr(corpus, "__len__"):
        raise TypeError(
            f"Expected one `datasets.Dataset`, got {type(corpus).__name__}: load the corpus without streaming, and "
            "choose one split or concatenate them."
        )
    missing = [name for name in ("clip_id", "speaker", "emotion") if name not in corpus.features]
    if missing:
        raise ValueError(f"The corpus lacks the columns {', '.join(missing)}, which every loaded corpus has.")
    names = getattr(corpus.features["emotion"], "names", None)
    if not names:
        raise ValueError("The column `emotion` has to name its classes (`datasets.ClassLabel`), as in loaded corpora.")
    ids = corpus["clip_id"]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{len(ids) - len(set(ids))} of {len(ids)} clips share their `clip_id` with another.")
    return list(names)


def check_splits(splits: Mapping[str, ClipDataset], *, allow_shared_speakers: bool = False) -> None:
    """Check the splits of a fold, without reading a clip.

    Args:
        splits (`Mapping[str, ClipDataset]`): `"training"` and others.
        allow_shared_speakers (`bool`, defaults to `False`): Whether a speaker may be in two splits.

    Raises:
        ValueError: If a split is empty, two splits share a clip or a speaker, or a class has no training clips.
    """
    for name, clips in splits.items():
        check_not_empty(clips, name)
        id2label = {index: label for label, index in clips.label2id.items()}
        check_labels(clips, id2label, name, needs_every_class=name == "training")
    columns = ("clip_id",) if allow_shared_speakers else ("clip_id", "speaker")
    for column, (one, other) in itertools.product(columns, itertools.combinations(splits, 2)):
        members = [set(column_of(splits[name], column) or ()) - {None} for name in (one, other)]
        if shared := sorted(members[0] & members[1]):
            kind = "clips" if column == "clip_id" else "speakers"
            raise ValueError(
                f"The {one} split and the {other} split share {len(shared)} {kind}, such as {shared[0]!r}, so the "
                "results would not hold for other people. Split by speaker, as `make_folds` does."
            )


__all__ = ["check_corpus", "check_splits"]
