"""Rows of a corpus as training examples: clips that the processor reads, with the index of their emotion."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from .processing_foal_net import FoalNetProcessor


class ClipDataset(Dataset):
    """Clips of a corpus, read when they are asked for.

    Args:
        rows (`Sequence[Mapping]`): Each with `audio` and/or `video` (anything that [`read_clip`] reads), `emotion` (the
            name of a class) and optionally `start_seconds`, `end_seconds`, `crop_box`.
        processor ([`FoalNetProcessor`]): Reads the clips.
        label2id (`Mapping[str, int]`): Index of each class, from the model's config.
        modalities (`Sequence[str]`, defaults to both): What to read of each clip.
        keep_in_memory (`bool`, defaults to `False`): Decode each clip once and keep it, as small frames and samples:
            for small corpora and many epochs.

    Raises:
        ValueError: If a row names an emotion that `label2id` does not know.
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        processor: FoalNetProcessor,
        label2id: Mapping[str, int],
        *,
        modalities: Sequence[str] = ("audio", "video"),
        keep_in_memory: bool = False,
    ) -> None:
        unknown = sorted({row["emotion"] for row in rows} - set(label2id))
        if unknown:
            raise ValueError(
                f"The rows hold the emotions {', '.join(unknown)}, but the model knows {', '.join(label2id)}. Map "
                "them, leave those rows out, or make a model with these labels."
            )
        self.rows = rows
        self.processor = processor
        self.label2id = label2id
        self.modalities = tuple(modalities)
        self._kept: dict[int, Any] | None = {} if keep_in_memory else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"clip", "labels"}` of one row."""
        row = self.rows[index]
        clip = None if self._kept is None else self._kept.get(index)
        if clip is None:
            clip = self._read(row)
            if self._kept is not None:
                self._kept[index] = clip
        return {"clip": clip, "labels": self.label2id[row["emotion"]]}

    def _read(self, row: Mapping[str, Any]) -> Any:
        return self.processor.read(
            audio=row.get("audio"),
            video=row.get("video"),
            start_seconds=row.get("start_seconds") or 0.0,
            end_seconds=row.get("end_seconds"),
            crop_box=row.get("crop_box"),
            modalities=self.modalities,
        )


class ClipCollator:
    """Examples of [`ClipDataset`] to the inputs of [`FoalNetForEmotionClassification`], padded to the longest.

    Trainer needs `remove_unused_columns=False` beside it: the examples hold clips, which are no argument of the model.
    """

    def __init__(self, processor: FoalNetProcessor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch, with `labels` of shape `(batch,)`."""
        inputs = self.processor.batch([example["clip"] for example in examples])
        return {**inputs, "labels": torch.tensor([example["labels"] for example in examples])}
