"""The Foal-Nets that are trained from scratch, by the name that a recipe gives as `architecture`."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from .small import make_small_model, make_small_processor
from .tiny import make_tiny_model, make_tiny_processor


@dataclass(frozen=True)
class Architecture:
    """A Foal-Net without pretrained parts.

    Args:
        make_model (`Callable`): Makes it, with weights from torch's global random generator.
        make_processor (`Callable`): Makes its processor.
        audio_encoder, vision_encoder (`str`): Its encoders, in words.
    """

    make_model: Callable[[], FoalNetForEmotionClassification]
    make_processor: Callable[[], FoalNetProcessor]
    audio_encoder: str
    vision_encoder: str

    def config(self, fields: Mapping[str, Any]) -> FoalNetConfig:
        """Its config with some fields of other values. With `audio_feature_dim` it lacks the audio encoder."""
        own = self.make_model().config
        inherited = {entry.name for entry in dataclasses.fields(PreTrainedConfig)}
        values = {
            entry.name: getattr(own, entry.name)
            for entry in dataclasses.fields(FoalNetConfig)
            if entry.name not in inherited
        }
        if "audio_feature_dim" in fields:
            values |= {"audio_config": None}
        if "video_feature_dim" in fields:
            values |= {"vision_config": None, "vision_pooling": None}
        return FoalNetConfig(**{**values, **fields})


ARCHITECTURES = {
    "tiny": Architecture(make_tiny_model, make_tiny_processor, "a tiny WavLM", "a tiny CLIP"),
    "small": Architecture(make_small_model, make_small_processor, "a small Parakeet", "a small ResNet"),
}


__all__ = ["ARCHITECTURES", "Architecture"]
