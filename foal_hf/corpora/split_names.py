"""Names of splits, in any case and with the usual synonyms."""

import re
from collections import defaultdict
from collections.abc import Iterable

from transformers.utils import logging


logger = logging.get_logger(__name__)

SPLITS = ("train", "validation", "test")
# The synonyms that `datasets` knows too.
_SYNONYMS = {
    "train": "train training",
    "validation": "validation valid val dev development",
    "test": "test testing eval evaluation",
}
_SPLIT_OF = {name: split for split, names in _SYNONYMS.items() for name in names.split()}


def split_of(name: str) -> str | None:
    """`"train"`, `"validation"` or `"test"` for the usual names of these splits, else None."""
    return _SPLIT_OF.get(name.strip().casefold())


def as_splits(names: Iterable[str], place: str) -> dict[str, str]:
    """The split that each name of a folder or table means. A name that is not usual is a split of its own.

    Args:
        names (`Iterable[str]`): As they are written.
        place (`str`): Where they are, for messages.

    Raises:
        ValueError: If two different words mean the same split, or a name cannot be that of a split.
    """
    splits = {name: split_of(name) or name for name in names}
    words = defaultdict(set)
    for name, split in splits.items():
        words[split].add(name.strip().casefold())
        if not re.fullmatch(r"\w+(\.\w+)*", split):
            raise ValueError(f"{place}: {name!r} cannot name a split; use letters, digits and underscores.")
    for split, spellings in words.items():
        if len(spellings) > 1:
            raise ValueError(f"{place}: {' and '.join(sorted(spellings))} both mean the split {split}. Rename one.")
    if changed := {name: split for name, split in sorted(splits.items()) if name != split}:
        read_as = ", ".join(f"{name} as {split}" for name, split in changed.items())
        logger.warning("%s: names of splits are read as follows: %s.", place, read_as)
    if own := sorted(set(splits.values()) - set(SPLITS)):
        logger.warning("%s: %s: not a usual name of a split, so it is a split of its own.", place, ", ".join(own))
    return splits
