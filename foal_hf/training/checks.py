"""Checks before the first training step: labels, splits, features, disk space."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.utils.data import Subset
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..metrics import UNKNOWN_LABEL


_CHECKPOINT = f"{PREFIX_CHECKPOINT_DIR}-"


def column_of(dataset: Any, *names: str) -> list[Any] | None:
    """One fact about every example of a dataset, without reading a clip.

    Args:
        dataset: Searched, in this order, for an attribute (such as `ClipDataset.labels`), a column of a
            `datasets.Dataset`, a key of each mapping in a list, and the same in its `rows`; a `Subset` for its rows.
        *names (`str`): Possible names of the fact.

    Returns:
        `list`, *optional*: One value for each example, in order; `None` if the dataset does not have it.
    """
    if isinstance(dataset, Subset):
        values = column_of(dataset.dataset, *names)
        return None if values is None else [values[index] for index in dataset.indices]
    for name in names:
        if hasattr(values := getattr(dataset, name, None), "__len__"):
            return _as_list(values)
        if name in (getattr(dataset, "column_names", None) or ()):
            return _as_list(dataset[name])
        if isinstance(dataset, Sequence) and dataset and all(isinstance(row, Mapping) for row in dataset):
            values = [row.get(name) for row in dataset]
            if any(value is not None for value in values):
                return [_as_number(value) for value in values]
    rows = getattr(dataset, "rows", None)
    return None if rows is None else column_of(rows, *names)


def check_not_empty(dataset: Any, split: str) -> None:
    """Raise `ValueError` if a split has no clips."""
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(
            f"The {split} split has no clips. Check the folds, filters of rows, and the clips the corpus skipped."
        )


def check_labels(dataset: Any, id2label: Mapping[int, str], split: str, *, needs_every_class: bool) -> None:
    """Compare the labels of a split with those of the model.

    Args:
        dataset: The split. One without known labels passes.
        id2label (`Mapping[int, str]`): Of the model's config.
        split (`str`): Its name, for the message.
        needs_every_class (`bool`): Whether a class without clips is an error.

    Raises:
        ValueError: If names or indices differ from the model's, no label is known, or a class has no clips.
    """
    names = dict(id2label)
    theirs = getattr(dataset, "label2id", None)
    if theirs is not None and dict(theirs) != {name: index for index, name in names.items()}:
        raise ValueError(
            f"The {split} split numbers its classes {dict(theirs)}, the model {names}, so classes would be confused. "
            "Create the dataset with `label2id=model.config.label2id`."
        )
    labels = column_of(dataset, "labels", "label")
    if labels is None:
        return
    sizes = Counter(int(label) for label in labels)
    num_unknown = sizes.pop(UNKNOWN_LABEL, 0)
    outside = sorted(label for label in sizes if label not in names)
    if outside:
        raise ValueError(
            f"The {split} split has the labels {sorted(sizes)}, but the model has {names}: unknown are {outside}. "
            "Rename the classes, skip those clips, or create a model with the labels of the corpus."
        )
    if not sizes:
        raise ValueError(f"All {num_unknown} labels of the {split} split are {UNKNOWN_LABEL}, unknown.")
    absent = [name for index, name in names.items() if index not in sizes]
    if absent and needs_every_class:
        raise ValueError(
            f"The {split} split has no clip of {', '.join(absent)}, so the model cannot learn it. Choose another "
            "split, or a model without this class."
        )


def check_speakers(train: Any, other: Any, split: str) -> None:
    """Raise `ValueError` if a speaker is in the training split and in another, as far as the rows name speakers."""
    known = [set(column_of(dataset, "speakers", "speaker") or ()) - {None} for dataset in (train, other)]
    shared = sorted(map(str, known[0] & known[1]))
    if shared:
        raise ValueError(
            f"The training split and the {split} split share {len(shared)} speakers, such as {shared[0]!r}, so the "
            "results would not hold for other people. Split by speaker, or set `allow_shared_speakers` to true if this "
            "is intended."
        )


def check_features(batch: Mapping[str, Any], config: Any, split: str) -> None:
    """Raise `ValueError` if features have another width than the encoders of the model give, or it takes instead."""
    for side, encoder, part in (
        ("audio", "audio_config", "audio encoder"),
        ("video", "vision_config", "image encoder"),
    ):
        features, width = batch.get(f"{side}_features"), getattr(config, f"{side}_width")
        if features is None or features.shape[-1] == width:
            continue
        has = f"The {side} features of the {split} split have width {features.shape[-1]}"
        if getattr(config, encoder) is None:
            raise ValueError(f"{has}, but this model takes {config.describe_features(side)}.")
        raise ValueError(
            f"{has}, but the {part} of this model has width {width}: they come from another encoder. Compute them with "
            "this one."
        )


def check_disk_space(folder: Path, num_bytes: int) -> None:
    """Raise `OSError` if the disk of a folder, which may not exist yet, has no space for that many bytes."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise OSError(
            f"Checkpoints need {num_bytes / 1e6:.1f} MB, and the disk of {folder} has {free / 1e6:.1f} MB left. Free "
            "some space, choose another output folder, or set `save_only_model` to true, which omits the optimiser "
            "state (such a run cannot be resumed)."
        )


def checkpoint_bytes(model: nn.Module, *, with_optimizer: bool) -> int:
    """Size of a checkpoint on disk: the weights, and two moments for each trained weight."""
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in model.parameters()]
    trained = sum(size for size, is_trained in sizes if is_trained)
    is_adapter = hasattr(model, "merge_and_unload")  # PEFT saves only what it trains
    weights = trained if is_adapter else sum(size for size, _ in sizes)
    return weights + (2 * trained if with_optimizer else 0)


def last_good_checkpoint(output_dir: Path, step: int) -> Path | None:
    """The latest checkpoint of a Trainer, up to a step, whose weights are all finite.

    Weights can become NaN in one step and the loss in the next, with a checkpoint between the two.
    """
    numbers = {path: path.name.removeprefix(_CHECKPOINT) for path in output_dir.glob(f"{_CHECKPOINT}*")}
    steps = {path: int(number) for path, number in numbers.items() if number.isdigit() and int(number) <= step}
    newest_first = sorted(steps, key=steps.__getitem__, reverse=True)
    return next((path for path in newest_first if _has_finite_weights(path)), None)


def _has_finite_weights(checkpoint: Path) -> bool:
    files = list(checkpoint.glob("*.safetensors"))
    try:
        return bool(files) and all(tensor.isfinite().all() for path in files for tensor in _tensors(path))
    except SafetensorError:  # cut off while it was written
        return False


def _tensors(path: Path) -> Iterator[torch.Tensor]:
    """The weights of a file, one in memory at a time."""
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dict)
            yield file.get_tensor(name)


def _as_list(values: Any) -> list[Any]:
    return [_as_number(value) for value in values]


def _as_number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


__all__ = [
    "check_disk_space",
    "check_features",
    "check_labels",
    "check_not_empty",
    "check_speakers",
    "checkpoint_bytes",
    "column_of",
    "last_good_checkpoint",
]
