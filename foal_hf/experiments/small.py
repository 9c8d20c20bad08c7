"""A small Foal-Net of a spectrogram encoder and a residual network, which trains from scratch on a CPU."""

from transformers import ParakeetEncoderConfig, ResNetConfig, SeamlessM4TFeatureExtractor

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..foal_net.video_processing_foal_net import FoalNetVideoProcessor


_FRAME_PIXELS = 64
_MEL_BINS = 64  # each 10 ms; two of them, side by side, are a frame of the encoder


def make_small_model() -> FoalNetForEmotionClassification:
    """A Foal-Net of 1.8 million parameters: 12.5 positions a second of audio, and one for each frame."""
    audio_config = ParakeetEncoderConfig(
        num_mel_bins=2 * _MEL_BINS,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        subsampling_conv_channels=32,
        subsampling_factor=4,
        scale_input=False,
        layerdrop=0.0,
    )
    vision_config = ResNetConfig(
        layer_type="basic", embedding_size=32, hidden_sizes=[32, 64, 128, 192], depths=[1, 1, 1, 1]
    )
    config = FoalNetConfig(
        audio_config=audio_config,
        vision_config=vision_config,
        projection_dim=64,
        num_fusion_layers=1,
        sequence_dropout=0.2,
        classifier_dropout=0.2,
        modality_dropout=0.3,
        freeze_vision_encoder=False,
        freeze_audio_feature_encoder=False,
    )
    return FoalNetForEmotionClassification(config)


def make_small_processor() -> FoalNetProcessor:
    """The processor of [`make_small_model`]: it shows faces, as the shipped weights were trained.

    Each mel bin has mean 0 and variance 1 over a clip, so that neither loudness nor microphone matter.
    """
    size = {"height": _FRAME_PIXELS, "width": _FRAME_PIXELS}
    return FoalNetProcessor(
        SeamlessM4TFeatureExtractor(feature_size=_MEL_BINS, num_mel_bins=_MEL_BINS),
        FoalNetVideoProcessor(
            size={"shortest_edge": _FRAME_PIXELS},
            resample=2,
            crop_size=size,
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.25, 0.25, 0.25],
            crop="face",
        ),
    )


__all__ = ["make_small_model", "make_small_processor"]
