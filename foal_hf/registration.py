"""Makes the classes known to the auto classes and to `pipeline` of transformers."""

import importlib
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForVideoClassification,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY
from transformers.utils import is_torchvision_available

from .checkpoint_foal_net import CheckpointPart
from .configuration_foal_net import FoalNetConfig
from .modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel
from .pipeline_foal_net import AudioVideoEmotionPipeline
from .processing_foal_net import FoalNetProcessor
from .video_processing_foal_net import FoalNetVideoProcessor


TASK = "audio-video-emotion"
TINY_CHECKPOINT = Path(__file__).parent / "tiny_checkpoint"
"""The checkpoint that ships with the package, trained on generated clips: for trying out and for tests."""


def register() -> None:
    """Register everything; a second call changes nothing."""
    AutoConfig.register(FoalNetConfig.model_type, FoalNetConfig, exist_ok=True)
    AutoModel.register(FoalNetConfig, FoalNetModel, exist_ok=True)
    for auto_class in (AutoModelForVideoClassification, AutoModelForAudioClassification):
        auto_class.register(FoalNetConfig, FoalNetForEmotionClassification, exist_ok=True)
    AutoProcessor.register(FoalNetConfig, FoalNetProcessor, exist_ok=True)
    if is_torchvision_available():  # without it transformers has a stand-in only that raises when touched
        from transformers import AutoVideoProcessor

        AutoVideoProcessor.register(FoalNetConfig, video_processor_class=FoalNetVideoProcessor, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=AudioVideoEmotionPipeline,
            # A class of transformers' own namespace: a fresh process looks this name up there.
            pt_model=AutoModelForVideoClassification,
            default={"model": (str(TINY_CHECKPOINT), "main")},
            type="multimodal",
        )
    FoalNetConfig._is_registered = True
    FoalNetForEmotionClassification._open_export = staticmethod(_open_export)
    CheckpointPart._hub = staticmethod(lambda: importlib.import_module(".hub", __package__))  # only for those who push


def _open_export(folder: Any, **kwargs: Any) -> Any:
    """The graphs in a folder, if it holds some: what runs them is only imported then."""
    exported = importlib.import_module(".exported", __package__)
    return exported.load_exported(folder, dtype=kwargs.get("dtype")) if exported.formats_in(folder) else None
