"""The clips of a run, with stored features of the encoders that are frozen."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import ClipCollator, ClipDataset
from ..data.features import FeatureClipDataset, FeatureCollator, FeatureStore, embed
from ..data.features.keys import Side, storable_sides
from ..foal_net.processing_foal_net import FoalNetProcessor
from .assembly import FixedLengthCollator
from .recipe import Recipe


BOTH = ("audio", "video")
"""The modalities that a run can use."""


class Clips:
    """Makes the training examples of rows of a corpus.

    Args:
        corpus (`datasets.Dataset`): All clips.
        recipe ([`Recipe`]): How they are batched and kept.
        model ([`FoalNetForEmotionClassification`]): Computes the features, on its device.
        processor ([`FoalNetProcessor`]): Reads the clips.
        modalities (`Sequence[str]`): Of `"audio"` and `"video"`, what the run uses.
        store_dir (`pathlib.Path`, *optional*): Folder of the stored features; None reads the video instead.
        num_workers (`int`): Processes that decode while features are computed.
        label2id (`Mapping[str, int]`, *optional*): Index of each class of the corpus; the model's by default.
    """

    def __init__(
        self,
        corpus: Any,
        recipe: Recipe,
        model: Any,
        processor: FoalNetProcessor,
        *,
        modalities: Sequence[str],
        store_dir: Path | None,
        num_workers: int,
        label2id: Mapping[str, int] | None = None,
    ) -> None:
        self.corpus, self.processor, self.modalities = corpus, processor, tuple(modalities)
        self._recipe, self._model, self._num_workers = recipe, model, num_workers
        self._label2id = model.config.label2id if label2id is None else label2id
        _check_sides(corpus, model.config, self.modalities)
        self._sides: list[Side] = [side for side in storable_sides(model) if side in self.modalities]
        self._store_dir = store_dir if self._sides else None

    @property
    def collator(self) -> Any:
        """Makes batches of the examples."""
        collator: Any = (ClipCollator if self._store_dir is None else FeatureCollator)(self.processor)
        return FixedLengthCollator(collator, self.processor) if self._recipe.padding == "max_length" else collator

    def unread(self, rows: Sequence[int], modalities: Sequence[str] | None = None) -> ClipDataset:
        """The clips of some rows, which are read when they are used."""
        return ClipDataset(
            self.corpus.select(rows),
            self.processor,
            self._label2id,
            modalities=modalities or self.modalities,
            keep_in_memory=self._recipe.keep_in_memory and self._store_dir is None,
        )

    def examples(self, rows: Sequence[int], modalities: Sequence[str] | None = None) -> Any:
        """The examples of some rows. Computes the features of these rows that the store lacks.

        Args:
            rows (`Sequence[int]`): Of the corpus.
            modalities (`Sequence[str]`, *optional*): Fewer than the run uses.
        """
        clips = self.unread(rows, modalities)
        if self._store_dir is None:
            return clips
        sides = [side for side in self._sides if side in clips.modalities]
        if sides:
            options: dict[str, Any] = {"sides": sides, "num_workers": self._num_workers}
            with _fast_precision(self._recipe, self._model):
                store = embed(clips.rows, self._model, self.processor, self._store_dir, **options)
        else:
            self._store_dir.mkdir(parents=True, exist_ok=True)
            store = FeatureStore(self._store_dir)
        return FeatureClipDataset(clips, store, self._model, sides=sides, keep_in_memory=self._recipe.keep_in_memory)


def _check_sides(corpus: Any, config: Any, modalities: Sequence[str]) -> None:
    """Raise `ValueError` if the model takes features of a side that the corpus does not have."""
    for side, encoder in (("audio", config.audio_config), ("video", config.vision_config)):
        if side in modalities and encoder is None and f"{side}_features_file" not in corpus.features:
            raise ValueError(
                f"This checkpoint takes {config.describe_features(side)}, and the corpus has no column "
                f"`{side}_features_file`. Compute them with that extractor and add the column."
            )


def _fast_precision(recipe: Recipe, model: Any) -> contextlib.AbstractContextManager[Any]:
    """Half precision for the encoders if the training uses it. Features are stored in float16 in any case."""
    device = next(model.parameters()).device
    if device.type != "cuda" or recipe.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast("cuda", torch.bfloat16 if recipe.precision == "bf16" else torch.float16)


__all__ = ["BOTH", "Clips"]
