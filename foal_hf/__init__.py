"""Foal-Net for transformers: the emotion of a speaking person from sound and picture.

Importing this package registers its classes: `AutoModel.from_pretrained` then knows a Foal-Net checkpoint without
remote code, and `pipeline("audio-video-emotion")` exists.
"""

import importlib
from typing import TYPE_CHECKING, Any


try:
    from .configuration_foal_net import FoalNetConfig
    from .media_foal_net import Clip, MediaFile, read_clip
    from .modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel, FoalNetPreTrainedModel
    from .pipeline_foal_net import AudioVideoEmotionPipeline
    from .processing_foal_net import FoalNetProcessor
    from .registration import TINY_CHECKPOINT, register
    from .sources_foal_net import MediaError
    from .video_processing_foal_net import FoalNetVideoProcessor
except ImportError as error:
    raise ImportError(
        f"foal_hf cannot be imported: {error}. To see what is missing and how to get it, run: "
        f"python -P {__path__[0]}/doctor.py"
    ) from error


if TYPE_CHECKING:
    from .corpora import load_corpus
    from .hub import push_checkpoint
    from .hub_datasets import push_dataset

__version__ = "0.1.0"

# Imported when they are asked for: prediction needs neither.
_ON_DEMAND = {"load_corpus": "corpora", "push_checkpoint": "hub", "push_dataset": "hub_datasets"}

register()

__all__ = [
    "TINY_CHECKPOINT",
    "AudioVideoEmotionPipeline",
    "Clip",
    "FoalNetConfig",
    "FoalNetForEmotionClassification",
    "FoalNetModel",
    "FoalNetPreTrainedModel",
    "FoalNetProcessor",
    "FoalNetVideoProcessor",
    "MediaError",
    "MediaFile",
    "load_corpus",
    "push_checkpoint",
    "push_dataset",
    "read_clip",
]


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ON_DEMAND[name]}", __name__), name)
