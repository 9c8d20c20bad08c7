"""The clips of a run, with stored features in place of pictures where the image encoder is frozen."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import ClipCollator, ClipDataset
from ..data.features import FeatureClipDataset, FeatureCollator, FeatureStore, embed
from ..foal_net.processing_foal_net import FoalNetProcessor
from .assembly import FixedLengthCollator
from .recipe import Recipe


BOTH = ("audio", "video")
"""What a clip may have, and a run may look at."""


class Clips:
    """Makes the training examples of parts of a corpus.

    Args:
        corpus (`datasets.Dataset`): All clips.
        recipe ([`Recipe`]): Says how they are batched and kept.
        model ([`FoalNetForEmotionClassification`]): Where it is, features are computed.
        processor ([`FoalNetProcessor`]): Reads the clips.
        modalities (`Sequence[str]`): What the run looks at, of `"audio"` and `"video"`.
        store_dir (`pathlib.Path`, *optional*): Folder of the stored features; without one, pictures are read.
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
        has_features = "video" in self.modalities and model.config.freeze_vision_encoder
        self._store_dir = store_dir if has_features else None

    @property
    def uses_features(self) -> bool:
        """Whether pictures are read once for all runs, and not again."""
        return self._store_dir is not None

    @property
    def collator(self) -> Any:
        """Makes batches of the examples."""
        collator: Any = (FeatureCollator if self.uses_features else ClipCollator)(self.processor)
        return FixedLengthCollator(collator, self.processor) if self._recipe.padding == "max_length" else collator

    def unread(self, rows: Sequence[int], modalities: Sequence[str] | None = None) -> ClipDataset:
        """The clips of some rows; none is read before it is asked for."""
        return ClipDataset(
            self.corpus.select(rows),
            self.processor,
            self._label2id,
            modalities=modalities or self.modalities,
            keep_in_memory=self._recipe.keep_in_memory and not self.uses_features,
        )

    def examples(self, rows: Sequence[int], modalities: Sequence[str] | None = None) -> Any:
        """The examples of some rows. Features that the store lacks are computed here, for these rows alone.

        Args:
            rows (`Sequence[int]`): Of the corpus.
            modalities (`Sequence[str]`, *optional*): Fewer than the run looks at.
        """
        clips = self.unread(rows, modalities)
        if self._store_dir is None:
            return clips
        if "video" in clips.modalities:
            with _fast_precision(self._recipe, self._model):
                store = embed(clips.rows, self._model, self.processor, self._store_dir, num_workers=self._num_workers)
        else:
            self._store_dir.mkdir(parents=True, exist_ok=True)
            store = FeatureStore(self._store_dir)
        return FeatureClipDataset(clips, store, self._model, keep_in_memory=self._recipe.keep_in_memory)


def _fast_precision(recipe: Recipe, model: Any) -> contextlib.AbstractContextManager[Any]:
    """Half precision for the image encoder where training has it too. The features are kept in float16 in any case."""
    device = next(model.parameters()).device
    if device.type != "cuda" or recipe.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast("cuda", torch.bfloat16 if recipe.precision == "bf16" else torch.float16)


__all__ = ["BOTH", "Clips"]
