"""Training on stored features of the frozen image encoder instead of video.

    store = embed(corpus, model, processor, "features")
    clips = FeatureClipDataset(ClipDataset(corpus, processor, model.config.label2id), store, model)
    Trainer(model=model, train_dataset=clips, data_collator=FeatureCollator(processor), ...)

`extraction.py` computes features, `keys.py` defines what they depend on, `store.py` how they are stored.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ...foal_net.media_foal_net import Clip
from ...foal_net.processing_foal_net import FoalNetProcessor
from ...foal_net.sources_foal_net import MediaError
from .. import ClipDataset, clips_of
from .extraction import embed
from .keys import FeatureKeys, base_model, video_rows
from .store import FeatureStore, FeatureStoreError


logger = logging.getLogger(__name__)


class FeatureClipDataset(Dataset):
    """The clips of a [`ClipDataset`] with their audio, and stored features instead of their video.

    Args:
        clips ([`ClipDataset`]): The clips and their modalities. Its own `keep_in_memory` is not used.
        store ([`FeatureStore`]): From [`embed`], with the same model and processor.
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): The model to train. Its image encoder
            determines the features; the model itself is not kept.
        on_missing (`"raise"` or `"skip"`, defaults to `"raise"`): What to do about clips whose video has no features
            in the store. A warning counts the skipped clips.
        keep_in_memory (`bool`, defaults to `False`): Decode the audio of each clip once, and keep it.

    Attributes:
        rows, labels, processor, label2id, modalities: As in [`ClipDataset`], of the clips that were not skipped.
        lengths (`list[float]`, *optional*): Seconds of each clip's features, for batches of similar length; None if
            some clips have no video.

    Raises:
        FeatureStoreError: If features are missing; the message says how the store differs.
        ValueError: If the model trains its image encoder.
    """

    def __init__(
        self,
        clips: ClipDataset,
        store: FeatureStore,
        model: Any,
        *,
        on_missing: Literal["raise", "skip"] = "raise",
        keep_in_memory: bool = False,
    ) -> None:
        if on_missing not in ("raise", "skip"):
            raise ValueError(f"`on_missing` has to be 'raise' or 'skip', got {on_missing!r}.")
        store.refresh()
        keys = FeatureKeys(model, clips.processor, store.directory)
        names = _names(clips, keys)
        missing = {index for index, name in enumerate(names) if name is not None and name not in store}
        if missing and on_missing == "raise":
            reason = keys.difference() or "their files, ranges or crop boxes differ"
            raise FeatureStoreError(
                f"{len(missing)} of {len(names)} clips have no features in {store.directory}, which holds {len(store)} "
                f"clips: {reason}. Run `embed` with this model, processor and corpus, or skip these clips with "
                "`on_missing='skip'`."
            )
        if missing:
            logger.warning(
                "%d of %d clips have no features in %s and are skipped.", len(missing), len(names), store.directory
            )
            kept = [index for index in range(len(names)) if index not in missing]
            rows = clips.rows.select(kept) if hasattr(clips.rows, "select") else [clips.rows[index] for index in kept]
            clips = ClipDataset(rows, clips.processor, clips.label2id, modalities=clips.modalities)
            names = [names[index] for index in kept]
        self.rows, self.labels, self.processor = clips.rows, clips.labels, clips.processor
        self.label2id, self.modalities = clips.label2id, clips.modalities
        self._clips, self._store, self._names = clips, store, names
        frames_per_position = base_model(model).config.vision_interface.frames_per_position
        self._positions_per_second = clips.processor.frames_per_second / frames_per_position
        self.lengths: list[float] | None = None
        if None not in names:
            self.lengths = [store.num_frames(str(name)) / self._positions_per_second for name in names]
        self._audio = None
        if "audio" in clips.modalities:
            self._audio = ClipDataset(
                clips.rows, clips.processor, clips.label2id, modalities=("audio",), keep_in_memory=keep_in_memory
            )
        self._without_audio: set[int] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"clip", "video_features", "labels"}` of one row.

        The clip has its waveform and no frames; `video_features` are `(frames, video_width)`, float16, or None for a
        clip without video.
        """
        name = self._names[index]
        features = None if name is None else self._store.get(name)
        if features is None or len(features) == 0:
            return {**self._clips[index], "video_features": None}
        return {
            "clip": self._audio_clip(index, len(features) / self._positions_per_second),
            "video_features": features,
            "labels": self.labels[index],
        }

    def _audio_clip(self, index: int, seconds: float) -> Clip:
        """The audio of a clip that has video; a clip without a waveform if it has no audio."""
        if self._audio is not None and index not in self._without_audio:
            try:
                return self._audio[index]["clip"]
            except MediaError:
                if self.rows[index].get("audio") is not None:
                    # Reading the whole clip tells whether it has no audio in this range, or cannot be read.
                    clip = self._clips[index]["clip"]
                    if clip.waveform is not None:
                        return replace(clip, frames=None, frame_seconds=None)
                self._without_audio.add(index)
        start = self.rows[index].get("start_seconds") or 0.0
        return Clip(None, None, None, None, start, start + seconds)


class FeatureCollator:
    """Batches of [`FeatureClipDataset`] examples, padded to the longest.

    Trainer also needs `remove_unused_columns=False`, because the examples hold clips, which are not a model input.

    Args:
        processor ([`FoalNetProcessor`]): Prepares the waveforms.
    """

    def __init__(self, processor: FoalNetProcessor) -> None:
        self.processor = processor

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch.

        Returns:
            `input_values` and `attention_mask` `(batch, samples)` if any clip has audio; `video_features`
            `(batch, frames, video_width)`, float16, and `padding_mask_videos` `(batch, frames)` if any has video; and
            `labels` `(batch,)`. Masks are 1 for real positions and 0 for padding.
        """
        inputs = dict(self.processor.batch(clips_of(examples)))
        features = [example["video_features"] for example in examples]
        present = [sequence for sequence in features if sequence is not None]
        if present:
            absent = present[0][:0]
            sequences = [absent if sequence is None else sequence for sequence in features]
            lengths = torch.tensor([len(sequence) for sequence in sequences])
            inputs["video_features"] = pad_sequence(sequences, batch_first=True)
            inputs["padding_mask_videos"] = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return {**inputs, "labels": torch.tensor([example["labels"] for example in examples])}


def _names(clips: ClipDataset, keys: FeatureKeys) -> list[str | None]:
    """The key of each clip's video; None where it has none, or none is used."""
    if "video" not in clips.modalities:
        return [None] * len(clips)
    return [keys.key(row) for row in video_rows(clips.rows)]


__all__ = ["FeatureClipDataset", "FeatureCollator", "FeatureStore", "FeatureStoreError", "embed"]
