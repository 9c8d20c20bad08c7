"""Register the classes with the auto classes and `pipeline` of transformers."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForVideoClassification,
    AutoProcessor,
    pipeline,
)

# Not from `transformers`: without torchvision, that has a placeholder. Pipelines of other tasks use this class.
from transformers.models.auto.video_processing_auto import AutoVideoProcessor
from transformers.pipelines import PIPELINE_REGISTRY

from .checkpoint_errors import errors_naming_checkpoint, in_one_line
from .default_checkpoint import REPO_ID, resolve_checkpoint
from .foal_net.checkpoint_foal_net import CheckpointPart
from .foal_net.configuration_foal_net import FoalNetConfig
from .foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel
from .foal_net.pipeline_foal_net import AudioVideoEmotionPipeline
from .foal_net.processing_foal_net import FoalNetProcessor
from .foal_net.video_processing_foal_net import FoalNetVideoProcessor


TASK = "audio-video-emotion"
TINY_CHECKPOINT = Path(__file__).parent / "tiny_checkpoint"
"""What `foal-hf quickstart` makes, trained on generated clips: for tests of software, not for people."""


def register() -> None:
    """Register everything; a second call changes nothing."""
    AutoConfig.register(FoalNetConfig.model_type, FoalNetConfig, exist_ok=True)
    AutoModel.register(FoalNetConfig, FoalNetModel, exist_ok=True)
    for auto_class in (AutoModelForVideoClassification, AutoModelForAudioClassification):
        auto_class.register(FoalNetConfig, FoalNetForEmotionClassification, exist_ok=True)
    AutoProcessor.register(FoalNetConfig, FoalNetProcessor, exist_ok=True)
    AutoVideoProcessor.register(FoalNetConfig, video_processor_class=FoalNetVideoProcessor, exist_ok=True)
    if TASK not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=AudioVideoEmotionPipeline,
            # A class of transformers: a new process looks this name up there.
            pt_model=AutoModelForVideoClassification,
            default=_Default({"model": (REPO_ID, "main")}),
            type="multimodal",
        )
    # For `pipeline(model=...)` without a task.
    FoalNetConfig.custom_pipelines = _RegisteredTask({TASK: {}})  # type: ignore[attr-defined]
    FoalNetConfig._is_registered = True
    FoalNetForEmotionClassification._open_export = staticmethod(_open_export)
    CheckpointPart._hub = staticmethod(_hub)
    FoalNetVideoProcessor._open_faces = staticmethod(_open_faces)


class _RegisteredTask(dict):
    """The task of every checkpoint. `pipeline` takes its name, and not remote code for it: that task is registered."""

    def __contains__(self, task: object) -> bool:
        return False


class _Default(dict):
    """The default checkpoint, which is looked for when `pipeline` is called without a model."""

    def __getitem__(self, key: str) -> Any:
        _, revision = super().__getitem__(key)
        return resolve_checkpoint(), revision


def load_pipeline(model: Any = None, device: Any = None, **settings: Any) -> Any:
    """Load the pipeline of a checkpoint, as the commands do.

    Args:
        model (*optional*): Folder or Hub name, or `"foal-net-small"`. Default: the last, see
            [`~foal_hf.default_checkpoint.resolve_checkpoint`].
        device (*optional*): Its device. Default: the best that is available.
        **settings: Further arguments of `transformers.pipeline`.

    Raises:
        FileNotFoundError: If no model is named, and the default one is neither installed nor on the Hub.
        ValueError: If the device is not available, or the checkpoint cannot be loaded; in one sentence. Code in its
            repository is never run.
    """
    register()
    device = checked_device(device)
    name = resolve_checkpoint(model)
    with errors_naming_checkpoint(name):
        load: Any = pipeline
        return load(TASK, model=name, device=device, trust_remote_code=False, **settings)


def checked_device(device: Any) -> Any:
    """The device as it is given, if it is None or available here.

    Raises:
        ValueError: If it is not.
    """
    if device not in (None, -1):
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"The device {device!r} is not available ({in_one_line(error)}). Use 'cpu', or see what "
                "`foal-hf doctor` says about CUDA."
            ) from error
    return device


def _hub() -> Any:
    """The package that pushes, imported when it is needed."""
    from . import hub

    return hub


def _open_faces(transform: Any, margin: float) -> Any:
    """What finds and crops faces; None where a package of the extra `faces` is missing."""
    from .faces import FaceCrops, missing_packages

    return None if missing_packages() else FaceCrops(transform, margin)


def _open_export(folder: Any, **kwargs: Any) -> Any:
    """Load the export in a folder, if it holds one; the runtime is imported only then."""
    from .export import exported

    return exported.load_exported(folder, dtype=kwargs.get("dtype")) if exported.formats_in(folder) else None
