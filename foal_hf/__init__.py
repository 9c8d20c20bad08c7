"""Foal-Net for transformers: the emotion of a speaking person from sound and picture.

Importing this package registers its classes, so that `AutoModel.from_pretrained` knows a Foal-Net checkpoint without
remote code, and `pipeline("audio-video-emotion")` exists.
"""

from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForVideoClassification

from .configuration_foal_net import FoalNetConfig
from .modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel, FoalNetPreTrainedModel

__version__ = "0.1.0"

AutoConfig.register("foal_net", FoalNetConfig, exist_ok=True)
AutoModel.register(FoalNetConfig, FoalNetModel, exist_ok=True)
AutoModelForVideoClassification.register(FoalNetConfig, FoalNetForEmotionClassification, exist_ok=True)
AutoModelForAudioClassification.register(FoalNetConfig, FoalNetForEmotionClassification, exist_ok=True)

__all__ = [
    "FoalNetConfig",
    "FoalNetForEmotionClassification",
    "FoalNetModel",
    "FoalNetPreTrainedModel",
]
