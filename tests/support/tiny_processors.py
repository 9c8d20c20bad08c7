"""A processor that fits the tiny models, and pictures and recordings for it."""

from typing import Any

import numpy as np
from transformers import CLIPImageProcessorPil, Wav2Vec2FeatureExtractor

from foal_hf.foal_net.processing_foal_net import FoalNetProcessor
from foal_hf.foal_net.video_processing_foal_net import FoalNetVideoProcessor


PIXELS = 26  # height and width that the tiny image encoders take


def tiny_video_processor(**fields: Any) -> FoalNetVideoProcessor:
    """CLIP's, smaller."""
    crop_size = {"height": PIXELS, "width": PIXELS}
    return FoalNetVideoProcessor(**{"size": {"shortest_edge": PIXELS}, "crop_size": crop_size, **fields})


def tiny_image_processor() -> CLIPImageProcessorPil:
    """The image processor that `tiny_video_processor` follows."""
    return CLIPImageProcessorPil(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS})


def tiny_processor(normalize: bool = True, **fields: Any) -> FoalNetProcessor:
    """Of the published kind; without `normalize`, samples and pixels come as they are, scaled to at most 1."""
    feature_extractor = Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    return FoalNetProcessor(feature_extractor, tiny_video_processor(do_normalize=normalize, **fields))


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Waves, a chequerboard and noise, `(height, width, 3)`, uint8: smooth parts, hard edges and fine detail."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 127 + 127 * np.sin(columns / 7 + rows / 11)
    squares = 255.0 * ((columns // 8 + rows // 8) % 2)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width))
    return np.stack([waves, squares, noise], axis=-1).round().astype(np.uint8)
