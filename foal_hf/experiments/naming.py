"""Finds folds, sessions and splits by name."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..corpora.folds import Fold


def find_fold(folds: Sequence[Fold], name: str) -> Fold:
    """The fold that holds out a session or speaker.

    Args:
        folds (`Sequence[Fold]`): From [`~foal_hf.corpora.folds.make_folds`].
        name (`str`): As in the corpus, `"Ses05"`, or its number, `"5"`.

    Raises:
        ValueError: If no fold matches, or more than one.
    """
    found = _find([fold.name for fold in folds], name)
    return next(fold for fold in folds if fold.name == found)


def clips_of_session(corpus: Any, name: str) -> Any:
    """The clips of one session, by its name or number.

    Raises:
        ValueError: If no session matches, or more than one.
    """
    sessions = list(corpus["session"])
    found = _find(sorted({session for session in sessions if session is not None}), name)
    return corpus.select([row for row, session in enumerate(sessions) if session == found])


def fold_of_splits(splits: Mapping[str, Any], *, select: str = "validation") -> Fold:
    """The splits of a corpus as one fold. Its rows count through all splits, one after the other.

    Args:
        splits (`Mapping[str, datasets.Dataset]`): From `load_corpus(..., split=None)`.
        select (`str`): As in [`train_and_test`]. Unless the checkpoint is chosen on the validation split, its clips
            are trained on.

    Raises:
        ValueError: If there is no training or no test split.
    """
    rows, start = {}, 0
    for name, split in splits.items():
        rows[name] = list(range(start, start + len(split)))
        start += len(split)
    if "train" not in rows or "test" not in rows:
        raise ValueError(
            f"The corpus has the splits {', '.join(rows)}, and train and test are needed. Choose a session "
            "(`--test-session`) or a speaker (`--test-speaker`) to hold out."
        )
    train, validation = rows["train"], rows.get("validation", [])
    if select != "validation":
        train, validation = train + validation, []
    return Fold("test split", train, validation, rows["test"])


def as_file_name(name: str) -> str:
    """A name without characters that file systems may refuse."""
    return re.sub(r"[^\w.]+", "-", name)


def _find(names: Sequence[str], wanted: str) -> str:
    found = [name for name in names if name == wanted]
    if not found and wanted.isdigit():
        found = [name for name in names if [int(digits) for digits in re.findall(r"\d+", name)][-1:] == [int(wanted)]]
    if len(found) != 1:
        problem = "is ambiguous" if found else "is unknown"
        raise ValueError(f"{wanted!r} {problem}; expected one of {', '.join(names)}.")
    return found[0]


__all__ = ["as_file_name", "clips_of_session", "find_fold", "fold_of_splits"]
