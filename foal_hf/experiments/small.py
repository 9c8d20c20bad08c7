"""A small Foal-Net of a spectrogram encoder and a residual network, which trains from scratch on a CPU."""

from transformers import LasrFeatureExtractor, ParakeetEncoderConfig, ResNetConfig

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..foal_net.video_processing_foal_net import FoalNetVideoProcessor


_FRAME_PIXELS = 96
_MEL_BINS = 80


def make_small_model() -> FoalNetForEmotionClassification:
    """A Foal-Net of some 2 million parameters: 12.5 positions a second of audio, and one for each frame."""
    audio_config = ParakeetEncoderConfig(
        num_mel_bins=_MEL_BINS,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=192,
        subsampling_conv_channels=32,
        subsampling_factor=8,
        layerdrop=0.0,
    )
    vision_config = ResNetConfig(
        layer_type="basic", embedding_size=32, hidden_sizes=[32, 64, 128, 192], depths=[1, 1, 1, 1]
    )
    config = FoalNetConfig(
        audio_config=audio_config,
        vision_config=vision_config,
        projection_dim=128,
        modality_dropout=0.5,
        freeze_vision_encoder=False,
        freeze_audio_feature_encoder=False,
    )
    return FoalNetForEmotionClassification(config)


def make_small_processor() -> FoalNetProcessor:
    """The processor of [`make_small_model`]."""
    # Not Parakeet's own feature extractor: in transformers 5.19 it needs librosa. This one gives the same shape of log
    # mel energies, without a mean and variance of each clip.
    return FoalNetProcessor(
        LasrFeatureExtractor(feature_size=_MEL_BINS),
        FoalNetVideoProcessor(
            size={"height": _FRAME_PIXELS, "width": _FRAME_PIXELS}, resample=2, do_center_crop=False, crop_size=None
        ),
    )


__all__ = ["make_small_model", "make_small_processor"]
