"""Foal-Net for transformers: the emotion of a speaking person from sound and picture.

Importing this package registers its classes: `AutoModel.from_pretrained` then knows a Foal-Net checkpoint without
remote code, and `pipeline("audio-video-emotion")` exists.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .configuration_foal_net import FoalNetConfig
    from .corpora import load_corpus
    from .export import export_checkpoint
    from .hub import push_checkpoint
    from .hub_datasets import push_dataset
    from .hub_metrics import push_metric
    from .media_foal_net import Clip, MediaFile, read_clip
    from .modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel, FoalNetPreTrainedModel
    from .pipeline_foal_net import AudioVideoEmotionPipeline
    from .processing_foal_net import FoalNetProcessor
    from .registration import TINY_CHECKPOINT
    from .sources_foal_net import MediaError
    from .training import FoalNetTrainer
    from .training_arguments import FoalNetTrainingArguments
    from .video_processing_foal_net import FoalNetVideoProcessor

__version__ = "0.1.0"

__all__ = [
    "TINY_CHECKPOINT",
    "AudioVideoEmotionPipeline",
    "Clip",
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
    "export_checkpoint",
    "load_corpus",
    "push_checkpoint",
    "push_dataset",
    "push_metric",
    "read_clip",
]

# Where each public name lives; it is imported when it is first asked for.
_HOMES = {
    "AudioVideoEmotionPipeline": "pipeline_foal_net",
    "Clip": "media_foal_net",
    "FoalNetConfig": "configuration_foal_net",
    "FoalNetForEmotionClassification": "modeling_foal_net",
    "FoalNetModel": "modeling_foal_net",
    "FoalNetPreTrainedModel": "modeling_foal_net",
    "FoalNetProcessor": "processing_foal_net",
    "FoalNetTrainer": "training",
    "FoalNetTrainingArguments": "training_arguments",
    "FoalNetVideoProcessor": "video_processing_foal_net",
    "MediaError": "sources_foal_net",
    "MediaFile": "media_foal_net",
    "TINY_CHECKPOINT": "registration",
    "export_checkpoint": "export",
    "load_corpus": "corpora",
    "push_checkpoint": "hub",
    "push_dataset": "hub_datasets",
    "push_metric": "hub_metrics",
    "read_clip": "media_foal_net",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def _is_command_line() -> bool:
    """Whether this process is `foal-hf`, which registers when a command needs it: its help does not wait for torch."""
    words = sys.orig_argv
    is_module = "-m" in words and words[words.index("-m") + 1 :][:1] == [__name__]
    return is_module or Path(sys.argv[0] if sys.argv else "").stem == "foal-hf"


if not _is_command_line():
    try:
        importlib.import_module(".registration", __name__).register()
        importlib.import_module(".corpus_scripts", __name__).register_corpora()
    except ImportError as error:
        raise ImportError(
            f"foal_hf cannot be imported: {error}. To see what is missing and how to get it, run: "
            f"python -P {__path__[0]}/doctor.py"
        ) from error
