"""Makes model, processor, training arguments and batches from a recipe."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..results import Encoder, public_name
from ..training.arguments import FoalNetTrainingArguments
from .recipe import FEATURES, Recipe


_VIDEO_FIELDS = (
    *("frames_per_second", "max_seconds", "do_resize", "size", "resample", "do_center_crop", "crop_size"),
    *("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "crop", "crop_margin"),
)


def make_model(
    recipe: Recipe,
    labels: Sequence[str],
    *,
    generated: bool = False,
    feature_widths: Mapping[str, int] | None = None,
) -> FoalNetForEmotionClassification:
    """The model of a recipe before training. New weights come from torch's global random generator.

    Args:
        recipe ([`Recipe`]): Names the encoders and fields of the config.
        labels (`Sequence[str]`): Names of the classes, by index.
        generated (`bool`, defaults to `False`): Whether the clips are generated; the config records it.
        feature_widths (`Mapping[str, int]`, *optional*): Width of the features by side, `"audio"` or `"video"`, of the
            sides where the recipe says `"features"`; see [`~foal_hf.corpora.feature_files.feature_widths`].

    Raises:
        ValueError: If an encoder would stay frozen with random weights.
    """
    fields = {**recipe.config, "id2label": dict(enumerate(labels)), "trained_on_generated_data": generated}
    of_features = {f"{side}_feature_dim": width for side, width in (feature_widths or {}).items()}
    audio, vision = recipe.encoder_names()
    if audio is not None or vision is not None:
        return FoalNetForEmotionClassification.from_encoders_pretrained(audio, vision, **of_features, **fields)
    config = recipe.from_scratch.config({**of_features, **fields})
    for name, encoder in (("vision", config.vision_config), ("audio", config.audio_config)):
        if encoder is not None and getattr(config, f"freeze_{name}_encoder"):
            raise ValueError(
                f"The recipe {recipe.name} freezes the {name} encoder, whose weights are random without a checkpoint "
                f"to start from: give `--init` (in Python `init`), or `--set freeze_{name}_encoder=false`."
            )
    return FoalNetForEmotionClassification(config)


def make_processor(recipe: Recipe, processor: FoalNetProcessor | None = None) -> FoalNetProcessor:
    """The processor of the recipe's encoders, or another one, with the recipe's settings."""
    audio, vision = recipe.encoder_names()
    if (recipe.audio_encoder, recipe.vision_encoder) == (FEATURES, FEATURES):
        return FoalNetProcessor()
    if processor is not None:
        pass
    elif audio is not None or vision is not None:
        processor = FoalNetProcessor.from_encoders_pretrained(audio, vision)
    else:
        processor = recipe.from_scratch.make_processor()
        if recipe.audio_encoder == FEATURES:
            processor.feature_extractor = None
    settings = dict(recipe.processor)
    normalize = settings.pop("normalize_waveform", None)
    if normalize is not None and processor.feature_extractor is not None:
        processor.feature_extractor.do_normalize = normalize
    video_processor = processor.video_processor
    fields = {name: getattr(video_processor, name) for name in _VIDEO_FIELDS}
    return FoalNetProcessor(processor.feature_extractor, type(video_processor)(**{**fields, **settings}))


def make_arguments(recipe: Recipe, output_dir: Path, *, seed: int, evaluates: bool) -> FoalNetTrainingArguments:
    """The arguments of the trainer.

    Args:
        recipe ([`Recipe`]): Its settings win.
        output_dir (`pathlib.Path`): Folder of the trainer's checkpoints, one per epoch.
        seed (`int`): Of weights, batches and dropout.
        evaluates (`bool`): Whether the best epoch is chosen on evaluation clips.
    """
    settings: dict[str, Any] = {
        "eval_strategy": "epoch" if evaluates else "no",
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        # The best and the last: with 1, transformers deletes the last one at the end of training, and a run that is
        # killed during its test would have to train again.
        "save_total_limit": 2,
        "load_best_model_at_end": evaluates,
    }
    asks_for_precision = {"fp16", "bf16"} & recipe.training.keys() or recipe.training.get("use_cpu")
    if recipe.precision != "fp32" and torch.cuda.is_available() and not asks_for_precision:
        settings[recipe.precision] = True
    return FoalNetTrainingArguments(output_dir=str(output_dir), **{**settings, **recipe.training, "seed": seed})


def describe_encoders(recipe: Recipe) -> tuple[Encoder | None, Encoder | None]:
    """The audio and the image encoder for results files, without names of folders; None for features."""
    audio, vision = (
        None if name == FEATURES else Encoder(public_name(name), pretrained=name is not None)
        for name in (recipe.audio_encoder, recipe.vision_encoder)
    )
    return audio, vision


class FixedLengthCollator:
    """Pads every batch to the maximum length of a clip, as published. Results do not depend on it.

    Spectrograms and stored audio features, whose rate is not known here, keep the longest of the batch.

    Args:
        collator (`Callable`): Pads batches to their longest clip.
        processor ([`FoalNetProcessor`]): Its `max_seconds` is the maximum length.

    Raises:
        ValueError: If the processor has no `max_seconds`, as with features of both sides.
    """

    def __init__(self, collator: Any, processor: FoalNetProcessor) -> None:
        if processor.max_seconds is None:
            raise ValueError("The padding 'max_length' needs `max_seconds`, which is null: change one of them.")
        self.collator = collator
        self._num_samples = 0
        if processor.feature_extractor is not None:
            self._num_samples = round(processor.max_seconds * processor.sampling_rate)
        self._num_frames = round(processor.max_seconds * processor.frames_per_second)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """The batch, padded with zeros, as are its masks."""
        batch = self.collator(examples)
        # Features and spectrograms have no known rate.
        is_waveform = "input_values" in batch and batch["input_values"].ndim == 2
        audio = ("input_values", "attention_mask") if is_waveform else ()
        lengths = {
            **dict.fromkeys(audio, self._num_samples),
            **dict.fromkeys(("pixel_values_videos", "video_features", "padding_mask_videos"), self._num_frames),
        }
        return {name: _extended(value, lengths[name]) if name in lengths else value for name, value in batch.items()}


def _extended(batch: torch.Tensor, length: int) -> torch.Tensor:
    """`(batch, positions, ...)`, padded with zeros to that many positions."""
    missing = max(length - batch.shape[1], 0)
    return F.pad(batch, (*(0, 0) * (batch.ndim - 2), 0, missing))


__all__ = ["FixedLengthCollator", "describe_encoders", "make_arguments", "make_model", "make_processor"]
