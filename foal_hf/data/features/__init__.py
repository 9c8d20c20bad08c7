"""Training on stored features of frozen encoders instead of video, audio or both.

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
from torch.utils.data import Dataset

from ...foal_net.features_foal_net import FEATURE_FIELDS
from ...foal_net.media_foal_net import Clip
from ...foal_net.processing_foal_net import FoalNetProcessor
from ...foal_net.sources_foal_net import MediaError
from .. import ClipDataset, clips_of
from .extraction import embed
from .keys import FeatureKeys, Side, base_model, media_rows, storable_sides
from .store import FeatureStore, FeatureStoreError


logger = logging.getLogger(__name__)


class FeatureClipDataset(Dataset):
    """The clips of a [`ClipDataset`] with stored features instead of their video, their audio or both.

    Args:
        clips ([`ClipDataset`]): The clips and their modalities. Its own `keep_in_memory` is not used.
        store ([`FeatureStore`]): From [`embed`], with the same model and processor.
        model ([`FoalNetModel`] or [`FoalNetForEmotionClassification`]): The model to train. Its encoders determine the
            features; the model itself is not kept.
        sides (`Sequence[str]`, *optional*): What to take from the store: `"video"`, `"audio"` or both. Default: the
            video, and the audio if the audio encoder is frozen and [`embed`] has stored its features here.
        on_missing (`"raise"` or `"skip"`, defaults to `"raise"`): What to do about clips that have no features in the
            store. A warning counts the skipped clips.
        keep_in_memory (`bool`, defaults to `False`): Decode the other side of each clip once, and keep it.

    Attributes:
        rows, labels, processor, label2id, modalities: As in [`ClipDataset`], of the clips that were not skipped.
        lengths (`list[float]`, *optional*): Seconds of each clip's video, for batches of similar length; None if some
            clips have no stored video.

    Raises:
        FeatureStoreError: If features are missing; the message says how the store differs.
        ValueError: If the model trains an encoder whose features are wanted.
    """

    def __init__(
        self,
        clips: ClipDataset,
        store: FeatureStore,
        model: Any,
        *,
        sides: Sequence[Side] | None = None,
        on_missing: Literal["raise", "skip"] = "raise",
        keep_in_memory: bool = False,
    ) -> None:
        if on_missing not in ("raise", "skip"):
            raise ValueError(f"`on_missing` has to be 'raise' or 'skip', got {on_missing!r}.")
        store.refresh()
        names: dict[str, list[str | None]] = {}
        for side, keys in _keys(model, clips.processor, store, sides).items():
            names[side] = _names(clips, keys)
            missing = {index for index, name in enumerate(names[side]) if name is not None and name not in store}
            if missing and on_missing == "raise":
                reason = keys.difference() or "their files, ranges or crop boxes differ"
                raise FeatureStoreError(
                    f"{len(missing)} of {len(clips)} clips have no {side} features in {store.directory}, which holds "
                    f"{len(store)} clips: {reason}. Run `embed` with this model, processor and corpus, or skip these "
                    "clips with `on_missing='skip'`."
                )
            if missing:
                words = "%d of %d clips have no %s features in %s and are skipped."
                logger.warning(words, len(missing), len(clips), side, store.directory)
                kept = [index for index in range(len(clips)) if index not in missing]
                has_select = hasattr(clips.rows, "select")
                rows = clips.rows.select(kept) if has_select else [clips.rows[index] for index in kept]
                clips = ClipDataset(rows, clips.processor, clips.label2id, modalities=clips.modalities)
                names = {each: [of_side[index] for index in kept] for each, of_side in names.items()}
        self.rows, self.labels, self.processor = clips.rows, clips.labels, clips.processor
        self.label2id, self.modalities = clips.label2id, clips.modalities
        self._clips, self._store, self._names = clips, store, names
        self.lengths: list[float] | None = None
        self._positions_per_second = 1.0
        if "video" in names:
            frames_per_position = base_model(model).config.vision_interface.frames_per_position
            self._positions_per_second = clips.processor.frames_per_second / frames_per_position
            if None not in names["video"]:
                self.lengths = [store.num_frames(str(name)) / self._positions_per_second for name in names["video"]]
        other = tuple(side for side in clips.modalities if side not in names)
        self._other = None
        if other and names:
            self._other = ClipDataset(
                clips.rows, clips.processor, clips.label2id, modalities=other, keep_in_memory=keep_in_memory
            )
        self._without_other: set[int] = set()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`{"clip", "audio_features", "video_features", "labels"}` of one row.

        The clip has what is not stored; the features are `(positions, width)`, float16, or None for a clip without that
        side, or where it is not stored.
        """
        stored = {side: self._features(side, index) for side in ("audio", "video")}
        features = {f"{side}_features": sequence for side, sequence in stored.items()}
        if all(sequence is None for sequence in features.values()):
            return {**self._clips[index], **features}
        frames = stored["video"]
        seconds = 0.0 if frames is None else len(frames) / self._positions_per_second
        return {"clip": self._other_side(index, seconds), **features, "labels": self.labels[index]}

    def _features(self, side: str, index: int) -> torch.Tensor | None:
        name = self._names[side][index] if side in self._names else None
        features = None if name is None else self._store.get(name)
        return None if features is None or len(features) == 0 else features

    def _other_side(self, index: int, seconds: float) -> Clip:
        """What is not stored of a clip; an empty clip of so many seconds if it has none of it."""
        if self._other is not None and index not in self._without_other:
            (side,) = self._other.modalities
            try:
                return self._other[index]["clip"]
            except MediaError:
                if self.rows[index].get(side) is not None:
                    # Reading the whole clip tells whether it has none of it in this range, or cannot be read.
                    clip = self._clips[index]["clip"]
                    if side in clip.modalities:
                        nothing = (
                            {"frames": None, "frame_seconds": None}
                            if side == "audio"
                            else {"waveform": None, "sampling_rate": None}
                        )
                        return replace(clip, **nothing)
                self._without_other.add(index)
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
            As [`~foal_hf.data.ClipCollator`], with `audio_features` `(batch, positions, audio_width)` in place of
            `input_values` and `video_features` `(batch, frames, video_width)` in place of `pixel_values_videos` where
            they were stored; their masks are `attention_mask` and `padding_mask_videos`.
        """
        clips = []
        for clip, example in zip(clips_of(examples), examples, strict=True):
            features = {name: example[name] for name in FEATURE_FIELDS if example.get(name) is not None}
            clips.append(replace(clip, **features))
        inputs = self.processor.batch(clips)
        return {**inputs, "labels": torch.tensor([example["labels"] for example in examples])}


def _keys(
    model: Any, processor: FoalNetProcessor, store: FeatureStore, sides: Sequence[Side] | None
) -> dict[Side, FeatureKeys]:
    """The keys of each side that is taken from a store."""
    if sides is not None:
        return {side: FeatureKeys(model, processor, store.directory, side) for side in sides}
    keys: dict[Side, FeatureKeys] = {}
    if base_model(model).vision_encoder is not None:
        keys["video"] = FeatureKeys(model, processor, store.directory)
    if "audio" in storable_sides(model):
        of_audio = FeatureKeys(model, processor, store.directory, "audio")
        if of_audio.is_recorded():
            keys["audio"] = of_audio
    return keys


def _names(clips: ClipDataset, keys: FeatureKeys) -> list[str | None]:
    """The key of one side of each clip; None where it has none, or none is used."""
    if keys.side not in clips.modalities:
        return [None] * len(clips)
    return [keys.key(row) for row in media_rows(clips.rows, [keys.side])]


__all__ = ["FeatureClipDataset", "FeatureCollator", "FeatureStore", "FeatureStoreError", "embed"]
