"""Divides clips into training, validation and test parts without a speaker in two of them.

Free choices depend on a hash of the name and the seed, not on a random generator: they are the same on every machine
and in every version, and an additional speaker does not change the order of the others.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers.utils import logging


logger = logging.get_logger(__name__)

# Orders that `split_groups` compares: enough for dozens of speakers; with thousands of groups any order is good.
_MAX_CANDIDATES, _MAX_HASHES = 200, 20_000


@dataclass(frozen=True)
class Fold:
    """One division of a corpus; rows by index, ascending.

    Args:
        name (`str`): The session, or speaker, that is held out.
        train, validation, test (`list[int]`): Rows of each part. `validation` is empty if none was requested.
    """

    name: str
    train: list[int]
    validation: list[int]
    test: list[int]


def make_folds(corpus: Any, by: str = "session", *, validation: str | None = "speaker", seed: int = 0) -> list[Fold]:
    """Hold out each session, or each speaker, once.

    The epoch and the temperature are chosen on the validation part. Its speakers are not held out, so nothing is chosen
    on the test part. It has a tenth of the other speakers (on IEMOCAP one), or as many as are needed for every class:
    first those of the held-out speaker's session, since the held-out voice may be in their clips too (on IEMOCAP by
    speaker that is the partner), then others. A class of too few speakers stays in the training part.

    Args:
        corpus (`datasets.Dataset`, or a mapping of columns): With `speaker`, `session` and `emotion`. Audio and
            video are not decoded.
        by (`str`, defaults to `"session"`): What is held out: `"session"` or `"speaker"`.
        validation (`str`, *optional*, defaults to `"speaker"`): None leaves the validation part empty.
        seed (`int`, defaults to 0): Another seed chooses other speakers for validation.

    Returns:
        `list[Fold]`: In the order of their names. Every row is in the test part of exactly one.

    Raises:
        ValueError: If a row has no speaker (or no session, by session), a speaker is in two sessions, a part would be
            empty, or a class would be missing in a training part.

    Example:

    ```python
    >>> corpus = load_corpus("iemocap", data_dir="IEMOCAP_full_release")
    >>> for fold in make_folds(corpus, by="session"):
    ...     train_set, test_set = corpus.select(fold.train), corpus.select(fold.test)
    ```
    """
    if by not in ("session", "speaker"):
        raise ValueError(f'`by` must be "session" or "speaker", got {by!r}.')
    if validation not in ("speaker", None):
        raise ValueError(f'`validation` must be "speaker" or None, got {validation!r}.')
    speakers, sessions, emotions, classes = _columns(corpus)
    session_of = _session_of_each(speakers, sessions, required=by == "session")
    group_of = session_of if by == "session" else {speaker: speaker for speaker in session_of}
    groups = sorted(set(group_of.values()))
    if len(groups) < 2:
        raise ValueError(f"There is only one {by}, {groups[0]!r}: no clip is left for training when it is held out.")

    folds = []
    for group in groups:
        tested = {speaker for speaker in group_of if group_of[speaker] == group}
        others = sorted(set(group_of) - tested)
        validating: set[str] = set()
        if validation is not None:
            mates = {session_of[speaker] for speaker in tested if session_of[speaker] is not None}
            others.sort(key=lambda name: (session_of[name] not in mates, _order(seed, group, name)))
            validating = _choose_validation(others, speakers, emotions, f"{by} {group!r}")
        fold = Fold(
            name=group,
            train=[row for row, name in enumerate(speakers) if name not in tested | validating],
            validation=[row for row, name in enumerate(speakers) if name in validating],
            test=[row for row, name in enumerate(speakers) if name in tested],
        )
        _check_classes(fold, emotions, classes, by)
        folds.append(fold)
    return folds


def split_groups(
    groups: Sequence[str],
    classes: Sequence[Hashable],
    fractions: Mapping[str, float],
    *,
    seed: int = 0,
    least_groups: Mapping[str, int] | None = None,
) -> list[str]:
    """Divide rows so that each group (a speaker) is in one part and every part has its share of each class.

    Up to 200 orders of the groups are compared; the one whose parts are closest to the wanted shares of every class is
    used.

    Args:
        groups (`Sequence[str]`): Group of each row. A group of its own for each row divides the rows freely.
        classes (`Sequence`): Class of each row.
        fractions (`Mapping[str, float]`): Wanted share of the rows of each part, positive, 1 in sum.
        seed (`int`, defaults to 0): Another seed compares other orders.
        least_groups (`Mapping[str, int]`, *optional*): Least number of groups of a part; 1 by default.

    Returns:
        `list[str]`: Part of each row.

    Raises:
        ValueError: If there are fewer groups than parts.
    """
    names, parts = sorted(set(groups)), list(fractions)
    least = [(least_groups or {}).get(part, 1) for part in parts]
    if len(names) < sum(least):
        raise ValueError(f"{len(names)} groups are too few for the parts {', '.join(parts)}: {sum(least)} are needed.")
    group_index, class_index = (
        np.unique(np.asarray([str(value) for value in values]), return_inverse=True)[1] for values in (groups, classes)
    )
    counts = np.zeros((len(names), class_index.max() + 1))  # (groups, classes)
    np.add.at(counts, (group_index, class_index), 1)
    wanted = np.outer(list(fractions.values()), counts.sum(axis=0))  # (parts, classes)

    best: tuple[float, np.ndarray] | None = None
    for candidate in range(max(1, min(_MAX_CANDIDATES, _MAX_HASHES // len(names)))):
        order = np.array(sorted(range(len(names)), key=lambda index: _order(seed, candidate, names[index])))
        part_of_group = np.empty(len(names), dtype=int)
        part_of_group[order] = _cut(counts[order].sum(axis=1), list(fractions.values()), least)
        given = np.zeros_like(wanted)
        np.add.at(given, part_of_group, counts)
        cost = float((np.abs(given - wanted) / wanted).sum() + len(wanted) * ((given == 0) & (wanted > 0)).sum())
        if best is None or cost < best[0]:
            best = cost, part_of_group
    assert best is not None
    return [parts[part] for part in best[1][group_index]]


def _cut(sizes: np.ndarray, fractions: Sequence[float], least: Sequence[int]) -> np.ndarray:
    """Part of each group of a row of groups, cut as close as possible to the fractions; each part has enough groups."""
    ends = np.cumsum(sizes)
    cuts = [0]
    for number, share in enumerate(np.cumsum(fractions)[:-1], start=1):
        closest = int(np.abs(ends - share * ends[-1]).argmin()) + 1
        first, last = cuts[-1] + least[number - 1], len(sizes) - sum(least[number:])
        cuts.append(min(max(closest, first), last))
    return np.searchsorted(cuts[1:], np.arange(len(sizes)), side="right")


def _columns(corpus: Any) -> tuple[list[str], list[Any], list[Any], list[Any]]:
    """Speaker, session and emotion of each row, and all classes."""
    names = getattr(corpus, "column_names", None) or list(corpus)
    missing = [name for name in ("speaker", "emotion") if name not in names]
    if missing:
        raise ValueError(f"Folds need the columns speaker and emotion; missing: {', '.join(missing)}.")
    if not isinstance(corpus, Mapping) and not hasattr(corpus, "__len__"):
        raise ValueError("Folds need all rows: load the corpus without streaming.")
    speakers, emotions = list(corpus["speaker"]), list(corpus["emotion"])
    sessions = list(corpus["session"]) if "session" in names else [None] * len(speakers)
    without = sum(speaker is None for speaker in speakers)
    if without or not speakers:
        raise ValueError(f"{without} of {len(speakers)} clips have no speaker, which folds need.")
    classes = getattr(getattr(corpus, "features", {}).get("emotion"), "names", None)
    if classes is not None:
        return speakers, sessions, [classes[index] for index in emotions], classes
    return speakers, sessions, emotions, sorted(set(emotions))


def _session_of_each(speakers: Sequence[str], sessions: Sequence[Any], *, required: bool) -> dict[str, Any]:
    found: dict[str, set[Any]] = defaultdict(set)
    for speaker, session in zip(speakers, sessions, strict=True):
        found[speaker].add(session)
    in_two = {speaker: names for speaker, names in found.items() if len(names) > 1}
    if in_two:
        speaker, names = next(iter(sorted(in_two.items())))
        raise ValueError(
            f"{len(in_two)} speakers are in more than one session, such as {speaker!r} in "
            f"{', '.join(sorted(map(repr, names)))}, so held-out speakers would be in the training part. Give each one "
            "session."
        )
    session_of = {speaker: names.pop() for speaker, names in found.items()}
    if required and None in session_of.values():
        without = sum(session is None for session in session_of.values())
        raise ValueError(f'{without} of {len(session_of)} speakers have no session. Use by="speaker".')
    return session_of


def _choose_validation(
    candidates: Sequence[str], speakers: Sequence[str], emotions: Sequence[Any], held_out: str
) -> set[str]:
    """A tenth of the speakers, or as many as have every class, while the training part keeps every class too."""
    counts: dict[str, Counter[Any]] = {name: Counter() for name in candidates}
    for speaker, emotion in zip(speakers, emotions, strict=True):
        if speaker in counts:
            counts[speaker][emotion] += 1
    training: Counter[Any] = sum(counts.values(), Counter())
    wanted, chosen = set(training), set[str]()
    covered: set[Any] = set()
    for name in candidates:
        left = training - counts[name]
        if counts[name].keys() - covered and left.keys() == training.keys():
            chosen.add(name)
            covered |= counts[name].keys()
            training = left
        if covered == wanted:
            break
    for name in candidates:
        left = training - counts[name]
        if len(chosen) < len(candidates) // 10 and name not in chosen and left.keys() == training.keys():
            chosen.add(name)
            training = left
    if not chosen:
        raise ValueError(
            f"No speaker can validate while {held_out} is held out: each of {', '.join(candidates)} is "
            "the only one with some class. Use validation=None and a fixed number of epochs."
        )
    if covered != wanted:
        logger.warning(
            "The validation part has no clip of %s while %s is held out: too few speakers have this class.",
            ", ".join(sorted(map(str, wanted - covered))),
            held_out,
        )
    return chosen


def _check_classes(fold: Fold, emotions: Sequence[Any], classes: Sequence[Any], by: str) -> None:
    missing = set(classes) - {emotions[row] for row in fold.train}
    if missing:
        raise ValueError(
            f"The training part has no clip of {', '.join(sorted(map(str, missing)))} while the {by} {fold.name!r} is "
            "held out. Remove this class from the corpus, or merge it into another."
        )


def _order(*key: Any) -> str:
    return hashlib.sha256("/".join(map(str, key)).encode()).hexdigest()
