"""Foal-Net for transformers: the emotion of a speaking person from sound and picture.

Importing this package registers its classes: `AutoModel.from_pretrained` then knows a Foal-Net checkpoint without
remote code, and `pipeline("audio-video-emotion")` exists.
"""

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


__version__ = "0.1.0"

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
    "read_clip",
]
