"""Foal-Net for transformers: the emotion of a speaking person from audio and video.

Importing this package registers its classes: `AutoModel.from_pretrained` then loads a Foal-Net checkpoint without
remote code, and `pipeline("audio-video-emotion")` works.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .corpora import load_corpus
    from .corpora.folds import make_folds
    from .data import ClipCollator, ClipDataset
    from .data.features import FeatureClipDataset, FeatureCollator, FeatureStore, embed
    from .export import export_checkpoint
    from .foal_net.configuration_foal_net import FoalNetConfig
    from .foal_net.media_foal_net import Clip, MediaFile, read_clip
    from .foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel, FoalNetPreTrainedModel
    from .foal_net.pipeline_foal_net import AudioVideoEmotionPipeline
    from .foal_net.processing_foal_net import FoalNetProcessor
    from .foal_net.sources_foal_net import MediaError
    from .foal_net.video_processing_foal_net import FoalNetVideoProcessor
    from .hub import push_checkpoint
    from .hub.datasets import push_dataset
    from .hub.metrics import push_metric
    from .metrics import compute_metrics
    from .registration import TINY_CHECKPOINT
    from .training import FoalNetTrainer
    from .training.arguments import FoalNetTrainingArguments
    from .training.calibration import calibrate
    from .training.lora import audio_lora_config

__version__ = "0.1.0"

__all__ = [
    "TINY_CHECKPOINT",
    "AudioVideoEmotionPipeline",
    "Clip",
    "ClipCollator",
    "ClipDataset",
    "FeatureClipDataset",
    "FeatureCollator",
    "FeatureStore",
    "FoalNetConfig",
    "FoalNetForEmotionClassification",
    "FoalNetModel",
    "FoalNetPreTrainedModel",
    "FoalNetProcessor",
    "FoalNetTrainer",
    "FoalNetTrainingArguments",
    "FoalNetVideoProcessor",
    "MediaError",
    "MediaFile",
    "audio_lora_config",
    "calibrate",
    "compute_metrics",
    "embed",
    "export_checkpoint",
    "load_corpus",
    "make_folds",
    "push_checkpoint",
    "push_dataset",
    "push_metric",
    "read_clip",
]

# The module of each public name, imported on first use.
_HOMES = {
    "AudioVideoEmotionPipeline": "foal_net.pipeline_foal_net",
    "Clip": "foal_net.media_foal_net",
    "ClipCollator": "data",
    "ClipDataset": "data",
    "FeatureClipDataset": "data.features",
    "FeatureCollator": "data.features",
    "FeatureStore": "data.features",
    "FoalNetConfig": "foal_net.configuration_foal_net",
    "FoalNetForEmotionClassification": "foal_net.modeling_foal_net",
    "FoalNetModel": "foal_net.modeling_foal_net",
    "FoalNetPreTrainedModel": "foal_net.modeling_foal_net",
    "FoalNetProcessor": "foal_net.processing_foal_net",
    "FoalNetTrainer": "training",
    "FoalNetTrainingArguments": "training.arguments",
    "FoalNetVideoProcessor": "foal_net.video_processing_foal_net",
    "MediaError": "foal_net.sources_foal_net",
    "MediaFile": "foal_net.media_foal_net",
    "TINY_CHECKPOINT": "registration",
    "audio_lora_config": "training.lora",
    "calibrate": "training.calibration",
    "compute_metrics": "metrics",
    "embed": "data.features",
    "export_checkpoint": "export",
    "load_corpus": "corpora",
    "make_folds": "corpora.folds",
    "push_checkpoint": "hub",
    "push_dataset": "hub.datasets",
    "push_metric": "hub.metrics",
    "read_clip": "foal_net.media_foal_net",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


# The command `foal-hf`, known by its module, registers when a subcommand needs it: its help does not wait for torch.
if "foal_hf_command" not in sys.modules:
    try:
        importlib.import_module(".registration", __name__).register()
    except ImportError as error:
        raise ImportError(
            f"foal_hf cannot be imported: {error}. To see what is missing and how to install it, run: "
            f"python -P {__path__[0]}/cli/doctor.py"
        ) from error
