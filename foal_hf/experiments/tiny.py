"""A Foal-Net small enough to train from scratch in a minute, and its processor."""

from transformers import CLIPVisionConfig, Wav2Vec2FeatureExtractor, WavLMConfig

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..foal_net.video_processing_foal_net import FoalNetVideoProcessor
from ..synthetic import EMOTIONS


_FRAME_PIXELS = 48


def make_tiny_model() -> FoalNetForEmotionClassification:
    """A Foal-Net of some 400 thousand parameters that trains from scratch in about a minute of CPU time.

    The encoders are trained too, so nothing is frozen. Patches are as large as a mouth, because a small transformer
    learns little about smaller ones from few frames. Initial weights are larger than in CLIP, which speeds up the
    start. Training drops one modality of half of the clips, so that each alone is usable. The alignment loss, a sum
    over the batch, has a lower weight than published: with untrained encoders it dominates the classification loss.
    """
    audio_config = WavLMConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        conv_dim=(128, 64),
        conv_kernel=(400, 3),
        conv_stride=(160, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_buckets=32,
        max_bucket_distance=128,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        mask_time_prob=0.0,
        layerdrop=0.0,
    )
    vision_config = CLIPVisionConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=_FRAME_PIXELS,
        patch_size=16,
        projection_dim=64,
        initializer_range=0.1,
    )
    config = FoalNetConfig(
        audio_config=audio_config,
        vision_config=vision_config,
        projection_dim=64,
        sequence_dropout=0.0,
        alignment_loss_weight=0.1,
        modality_dropout=0.5,
        freeze_vision_encoder=False,
        freeze_audio_feature_encoder=False,
        trained_on_generated_data=True,
        id2label=dict(enumerate(EMOTIONS)),
    )
    return FoalNetForEmotionClassification(config)


def make_tiny_processor() -> FoalNetProcessor:
    """The processor of [`make_tiny_model`]."""
    return FoalNetProcessor(
        Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True),
        FoalNetVideoProcessor(
            size={"height": _FRAME_PIXELS, "width": _FRAME_PIXELS}, resample=2, do_center_crop=False, crop_size=None
        ),
    )


__all__ = ["make_tiny_model", "make_tiny_processor"]
