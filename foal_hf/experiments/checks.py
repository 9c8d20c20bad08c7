"""What can be known to be wrong before anything is computed."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data import ClipDataset
from ..training.checks import check_labels, check_not_empty, checkpoint_bytes, column_of


def check_corpus(corpus: Any) -> list[str]:
    """The classes of a corpus that can be divided by speakers.

    Returns:
        `list[str]`: By index.

    Raises:
        TypeError: If it is a stream, or several splits.
        ValueError: If it lacks a column, or clips have no id of their own.
    """
    if not hasattr(corpus, "features") or not hasattr(corpus, "__len__"):
        raise TypeError(
            f"Expected one `datasets.Dataset`, got {type(corpus).__name__}: load the corpus without streaming, and "
            "choose a split or join them."
        )
    missing = [name for name in ("clip_id", "speaker", "emotion") if name not in corpus.features]
    if missing:
        raise ValueError(f"The corpus has no column {' and no '.join(missing)}; `load_corpus` gives all.")
    names = getattr(corpus.features["emotion"], "names", None)
    if not names:
        raise ValueError("The column `emotion` has to name its classes (`datasets.ClassLabel`), as `load_corpus` does.")
    ids = corpus["clip_id"]
    if len(set(ids)) < len(ids):
        raise ValueError(f"{len(ids) - len(set(ids))} of {len(ids)} clips share their `clip_id` with another.")
    return list(names)


def check_parts(parts: Mapping[str, ClipDataset], *, allow_shared_speakers: bool = False) -> None:
    """Look at the parts of a fold; no clip is read.

    Args:
        parts (`Mapping[str, ClipDataset]`): `"training"` and others.
        allow_shared_speakers (`bool`, defaults to `False`): Whether a speaker may be in two parts.

    Raises:
        ValueError: If a part is empty, two share a clip or a speaker, or a class has no training clips.
    """
    for name, clips in parts.items():
        check_not_empty(clips, name)
        id2label = {index: label for label, index in clips.label2id.items()}
        check_labels(clips, id2label, name, needs_every_class=name == "training")
    columns = ("clip_id",) if allow_shared_speakers else ("clip_id", "speaker")
    for column, (one, other) in itertools.product(columns, itertools.combinations(parts, 2)):
        shared = sorted(set(column_of(parts[one], column) or ()) & set(column_of(parts[other], column) or ()) - {None})
        if shared:
            kind = "clips" if column == "clip_id" else "speakers"
            raise ValueError(
                f"{len(shared)} {kind} are in the {one} and in the {other} part, such as {shared[0]!r}: what is "
                "measured there would say nothing about other people. Make the parts with `make_folds`, by speaker."
            )


def check_space(folder: Path, model: Any, *, keeps_best: bool, with_optimizer: bool) -> None:
    """Raise `OSError` if the disk has no room for the checkpoints that a run keeps at the same time.

    While one is written there is the one before it, the best one where one is looked for, and in the end the result.
    """
    with_state = checkpoint_bytes(model, with_optimizer=with_optimizer)
    needed = with_state * (3 if keeps_best else 2) + checkpoint_bytes(model, with_optimizer=False)
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise OSError(
            f"Training keeps up to {needed / 1e9:.2f} GB of checkpoints, and the disk of {folder} has {free / 1e9:.2f} "
            "GB left. Make room, choose another output, or set `save_only_model` (such a run cannot be resumed)."
        )


__all__ = ["check_corpus", "check_parts", "check_space"]
