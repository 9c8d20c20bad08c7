"""Folds, sessions and splits by the names that people give them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..corpora.folds import Fold


def find_fold(folds: Sequence[Fold], name: str) -> Fold:
    """The fold that holds out a session or speaker.

    Args:
        folds (`Sequence[Fold]`): From [`~foal_hf.corpora.folds.make_folds`].
        name (`str`): As the corpus has it, `"Ses05"`, or its number alone, `"5"`.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found = _find([fold.name for fold in folds], name)
    return next(fold for fold in folds if fold.name == found)


def clips_of_session(corpus: Any, name: str) -> Any:
    """The clips of one session, by its name or number.

    Raises:
        ValueError: If there is none, or more than one.
    """
    sessions = list(corpus["session"])
    found = _find(sorted({session for session in sessions if session is not None}), name)
    return corpus.select([row for row, session in enumerate(sessions) if session == found])


def fold_of_splits(splits: Mapping[str, Any], *, select: str = "validation") -> Fold:
    """The fold that a corpus with splits of its own stands for; rows are those of all splits, one after the other.

    Args:
        splits (`Mapping[str, datasets.Dataset]`): From `load_corpus(..., split=None)`.
        select (`str`): As in [`train_and_test`]. Where nothing is chosen on the validation clips, they are trained on.

    Raises:
        ValueError: If there is no test split.
    """
    rows, start = {}, 0
    for name, split in splits.items():
        rows[name] = list(range(start, start + len(split)))
        start += len(split)
    if "train" not in rows or "test" not in rows:
        raise ValueError(
            f"The corpus has no test split of its own, only {', '.join(rows)}: say what is held out, a session "
            "(`--test-session`) or a speaker (`--test-speaker`)."
        )
    train, validation = rows["train"], rows.get("validation", [])
    if select != "validation":
        train, validation = train + validation, []
    return Fold("test split", train, validation, rows["test"])


def as_file_name(name: str) -> str:
    """A name without what file systems do not like."""
    return re.sub(r"[^\w.]+", "-", name)


def _find(names: Sequence[str], wanted: str) -> str:
    found = [name for name in names if name == wanted]
    if not found and wanted.isdigit():
        found = [name for name in names if [int(digits) for digits in re.findall(r"\d+", name)][-1:] == [int(wanted)]]
    if len(found) != 1:
        how_many = "More than one" if found else "None"
        raise ValueError(f"{how_many} of {', '.join(names)} is called {wanted!r}.")
    return found[0]


__all__ = ["as_file_name", "clips_of_session", "find_fold", "fold_of_splits"]
