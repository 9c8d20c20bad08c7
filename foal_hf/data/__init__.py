"""Rows of a corpus as training examples: clips read by the processor, with the index of their emotion."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from ..corpora.schema import undecoded
from ..foal_net.features_foal_net import SIDES, features_of
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..foal_net.rows_foal_net import check_columns
from ..foal_net.sources_foal_net import MediaError


class ClipDataset(Dataset):
    """Clips of a corpus, read on access.

    Args:
        rows (`datasets.Dataset` or `Sequence[Mapping]`): A corpus of [`~foal_hf.corpora.load_corpus`], whose files each
            worker opens when it needs them; or rows, each with `audio` and/or `video` (anything that [`read_clip`]
            reads), `emotion` (the name of a class) and optionally `start_seconds`, `end_seconds`,
            `audio_start_seconds`, `crop_box` and the `sampling_rate` of audio given as an array. In place of `audio` or
            `video`, a row may have features of the clip: an array as `audio_features` or `video_features`, or a file as
            `audio_features_file` or `video_features_file` (see [`read_features`]). Other columns are not read; one
            whose name is almost that of a field is an error.
        processor ([`FoalNetProcessor`]): Reads the clips.
        label2id (`Mapping[str, int]`): Index of each class, from the model's config. The index of a class in the corpus
            does not matter.
        modalities (`Sequence[str]`, defaults to both): What to read of each clip.
        keep_in_memory (`bool`, defaults to `False`): Decode each clip once and keep its resized frames and samples: for
            small corpora and many epochs.

    Raises:
        ValueError: If a row has an emotion that is not in `label2id`, or a column is a misspelled field.
        TypeError: If the rows are a stream.
    """

    def __init__(
        self,
        rows: Any,
        processor: FoalNetProcessor,
        label2id: Mapping[str, int],
        *,
        modalities: Sequence[str] = ("audio", "video"),
        keep_in_memory: bool = False,
    ) -> None:
        if not hasattr(rows, "__len__"):
            raise TypeError(
                f"`rows` are read in any order, so they must have a length; got {type(rows).__name__}. Load the corpus "
                "without streaming."
            )
        is_corpus = hasattr(rows, "features")
        check_columns(rows.column_names if is_corpus else {name for row in rows for name in row})
        # As stored: a decoder that was opened in one process cannot be used in another.
        self.rows = undecoded(rows.with_format(None)) if is_corpus else rows
        emotions = list(self.rows["emotion"]) if is_corpus else [row["emotion"] for row in rows]
        names = getattr(self.rows.features["emotion"], "names", None) if is_corpus else None
        if names is not None:
            emotions = [names[index] for index in emotions]
        _check_known(emotions, label2id)
        self.labels = [label2id[emotion] for emotion in emotions]
        self.processor = processor
        self.label2id = label2id
        self.modalities = tuple(modalities)
        self._kept: dict[int, Any] | None = {} if keep_in_memory else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"clip", "labels"}` of one row."""
        clip = None if self._kept is None else self._kept.get(index)
        if clip is None:
            clip = self._read(self.rows[index])
            if self._kept is not None:
                self._kept[index] = clip
        return {"clip": clip, "labels": self.labels[index]}

    def _read(self, row: Mapping[str, Any]) -> Any:
        features = {f"{side}_features": self._features_of(row, side) for side in SIDES if side in self.modalities}
        times = {"start_seconds": row.get("start_seconds") or 0.0, "end_seconds": row.get("end_seconds")}
        if row.get("audio_start_seconds") is not None:
            times["audio_start_seconds"] = row["audio_start_seconds"]
        return self.processor.read(
            audio=row.get("audio"),
            video=row.get("video"),
            crop_box=row.get("crop_box"),
            modalities=self.modalities,
            source_sampling_rate=row.get("sampling_rate"),
            **features,
            **times,
        )

    def _features_of(self, row: Mapping[str, Any], side: str) -> torch.Tensor | None:
        try:
            return features_of(row, side)
        except MediaError as error:
            raise MediaError(f"{row.get('clip_id') or 'a row'}, {error.source}", error.reason) from error


class ClipCollator:
    """Examples of [`ClipDataset`] to the inputs of [`FoalNetForEmotionClassification`], padded to the longest.

    Trainer also needs `remove_unused_columns=False`: the examples have clips, which are not an argument of the model.
    """

    def __init__(self, processor: FoalNetProcessor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch, with `labels` of shape `(batch,)`."""
        inputs = self.processor.batch(clips_of(examples))
        return {**inputs, "labels": torch.tensor([example["labels"] for example in examples])}


def clips_of(examples: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The clip of each example.

    Raises:
        ValueError: If Trainer has removed them.
    """
    if any("clip" not in example for example in examples):
        raise ValueError(
            f"The examples have only {', '.join(examples[0])} and no `clip`, which Trainer removes by default: set "
            "`remove_unused_columns=False` in its arguments."
        )
    return [example["clip"] for example in examples]


def _check_known(emotions: Sequence[str | None], label2id: Mapping[str, int]) -> None:
    unknown = Counter(str(emotion) for emotion in emotions if emotion not in label2id)
    if unknown:
        raise ValueError(
            f"The rows have the emotions {', '.join(sorted(set(map(str, emotions))))}, but the model has the labels "
            f"{', '.join(label2id)}: {unknown.total()} of {len(emotions)} rows have none of these. Rename the classes, "
            "remove those rows, or create a model with the labels of the corpus."
        )
