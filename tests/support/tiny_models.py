"""Small configurations of every kind of encoder, for tests. Sizes are distinct primes or small multiples of heads."""

from typing import Any, TypeVar

import torch
from torch import nn
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ClapAudioConfig,
    ClapFeatureExtractor,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextV2Config,
    Data2VecAudioConfig,
    Dinov2Config,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    EfficientNetConfig,
    HubertConfig,
    LasrFeatureExtractor,
    MobileNetV2Config,
    MoonshineConfig,
    ParakeetEncoderConfig,
    PreTrainedConfig,
    ResNetConfig,
    SeamlessM4TFeatureExtractor,
    SeamlessM4Tv2Config,
    SEWConfig,
    SEWDConfig,
    SiglipVisionConfig,
    SwinConfig,
    TimesformerConfig,
    UniSpeechSatConfig,
    VideoMAEConfig,
    ViTConfig,
    VivitConfig,
    VJEPA2Config,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification


Model = TypeVar("Model", bound=nn.Module)
SAMPLES = torch.tensor([4003, 1701, 2999, 400, 3001])
FRAMES = torch.tensor([7, 3, 1, 5, 2])

LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
GROUP_NORM = {"feat_extract_norm": "group"}
_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "conv_dim": (17,) * 7,
    "num_conv_pos_embeddings": 19,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
    "layerdrop": 0.0,
}
_VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 29,
    "image_size": 26,
    "patch_size": 13,
}

_STAGES = {"hidden_sizes": [12, 20], "depths": [1, 2], "image_size": 26}
# Their defaults multiply the last stage by 1e-6, and the tiny models would not show what it does.
_SCALED = {**_STAGES, "layer_scale_init_value": 0.3}

# Windows of four frames, in pairs but for TimeSformer. Their initial weights let hardly anything of a frame through.
_CLIPS = {**_VISION, "num_frames": 4, "initializer_range": 0.3}

_NOT_OF_VJEPA = ("intermediate_size", "image_size", "num_frames", "initializer_range")

AUDIO_ENCODERS: dict[str, PreTrainedConfig] = {
    "wavlm": WavLMConfig(**_AUDIO, **LAYER_NORM, num_buckets=22, max_bucket_distance=41),
    "wavlm-group": WavLMConfig(**_AUDIO, **GROUP_NORM, num_buckets=22, max_bucket_distance=41),
    "hubert": HubertConfig(**_AUDIO, **LAYER_NORM),
    "hubert-group": HubertConfig(**_AUDIO, **GROUP_NORM),
    "wav2vec2": Wav2Vec2Config(**_AUDIO, **LAYER_NORM),
    "wav2vec2-group": Wav2Vec2Config(**_AUDIO, **GROUP_NORM),
    "unispeech-sat": UniSpeechSatConfig(**_AUDIO, **LAYER_NORM),
    "data2vec-audio": Data2VecAudioConfig(**{**_AUDIO, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=5),
    "wav2vec2-conformer": Wav2Vec2ConformerConfig(
        **_AUDIO, **LAYER_NORM, conv_depthwise_kernel_size=7, max_source_positions=97
    ),
}
_TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 37}
_TOKENS = {"vocab_size": 13, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_NO_DECODER = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("ffn_dim", 3), ("attention_heads", 2))
}
OTHER_AUDIO_ENCODERS: dict[str, tuple[PreTrainedConfig, Any]] = {
    "sew": (
        SEWConfig(**{**_AUDIO, "conv_dim": (17,) * 13}, feat_extract_norm="layer"),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "sew-d": (
        SEWDConfig(**{**_AUDIO, "conv_dim": (17,) * 13}, position_buckets=7, max_position_embeddings=53),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "moonshine": (
        MoonshineConfig(
            **{name: size for name, size in _TRANSFORMER.items() if "num" not in name},
            encoder_num_hidden_layers=2,
            encoder_num_attention_heads=2,
            decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2,
            **_TOKENS,
        ),
        Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True),
    ),
    "whisper": (
        WhisperConfig(
            **{**_NO_DECODER, "encoder_layers": 2, "encoder_ffn_dim": 37},
            d_model=32,
            num_mel_bins=17,
            max_source_positions=61,
            decoder_start_token_id=1,
            **_TOKENS,
        ),
        WhisperFeatureExtractor(feature_size=17, chunk_length=2),
    ),
    "wav2vec2-bert": (
        Wav2Vec2BertConfig(
            **_TRANSFORMER, feature_projection_input_dim=34, conv_depthwise_kernel_size=7, mask_time_prob=0.0
        ),
        SeamlessM4TFeatureExtractor(feature_size=17, num_mel_bins=17),
    ),
    "seamless-m4t-v2": (
        SeamlessM4Tv2Config(
            hidden_size=32,
            feature_projection_input_dim=34,
            speech_encoder_layers=2,
            speech_encoder_attention_heads=2,
            speech_encoder_intermediate_size=37,
            conv_depthwise_kernel_size=7,
            speech_encoder_chunk_size=11,
            t2u_encoder_layers=1,
            t2u_decoder_layers=1,
            **_NO_DECODER,
            **_TOKENS,
        ),
        SeamlessM4TFeatureExtractor(feature_size=17, num_mel_bins=17),
    ),
    "parakeet": (
        ParakeetEncoderConfig(
            **_TRANSFORMER,
            num_mel_bins=16,
            subsampling_conv_channels=5,
            conv_kernel_size=7,
            layerdrop=0.0,
            initializer_range=0.3,
        ),
        LasrFeatureExtractor(feature_size=16),  # in transformers 5.19, Parakeet's own needs librosa
    ),
    "ast": (
        ASTConfig(**_TRANSFORMER, num_mel_bins=37, max_length=101),
        ASTFeatureExtractor(num_mel_bins=37, max_length=101),
    ),
    "clap": (
        ClapAudioConfig(
            patch_embeds_hidden_size=16,
            hidden_size=32,
            num_hidden_layers=2,
            depths=[1, 1],
            num_attention_heads=[2, 2],
            spec_size=64,
            num_mel_bins=16,
            window_size=4,
        ),
        ClapFeatureExtractor(
            feature_size=16,
            sampling_rate=16_000,
            hop_length=160,
            max_length_s=1,
            frequency_max=7600,
            truncation="rand_trunc",
        ),
    ),
}
"""Encoders that differ more, with their feature extractors."""
VISION_ENCODERS: dict[str, tuple[PreTrainedConfig, dict[str, Any]]] = {
    "clip": (CLIPVisionConfig(**_VISION, projection_dim=20), {}),
    "clip-without-projection": (CLIPVisionConfig(**_VISION), {"vision_pooling": "pooler"}),
    "siglip": (SiglipVisionConfig(**_VISION), {}),
    "dinov2": (Dinov2Config(**_VISION), {}),
    "vit": (ViTConfig(**_VISION), {}),
    "vit-mean": (ViTConfig(**_VISION), {"vision_pooling": "mean"}),
    "dinov3": (DINOv3ViTConfig(**_VISION, num_register_tokens=3), {}),
    "dinov3-convnext": (DINOv3ConvNextConfig(**_SCALED), {}),
    "swin": (SwinConfig(image_size=26, patch_size=2, embed_dim=12, depths=[1, 1], num_heads=[2, 3], window_size=5), {}),
    "convnext": (ConvNextConfig(**_SCALED, num_stages=2), {}),
    "convnext-mean": (ConvNextConfig(**_SCALED, num_stages=2), {"vision_pooling": "mean"}),
    "convnextv2": (ConvNextV2Config(**_STAGES, num_stages=2), {}),
    "resnet": (ResNetConfig(embedding_size=8, hidden_sizes=[12, 20], depths=[1, 2], layer_type="basic"), {}),
    "efficientnet": (
        EfficientNetConfig(
            image_size=26,
            in_channels=[32, 16],
            out_channels=[16, 24],
            kernel_sizes=[3, 5],
            strides=[1, 2],
            num_block_repeats=[1, 1],
            expand_ratios=[1, 3],
            width_coefficient=1 / 64,  # of 1280, whatever `hidden_dim` says
            depth_coefficient=1.0,
            depth_divisor=4,
            hidden_dim=20,
            initializer_range=0.6,
        ),
        {},
    ),
    "mobilenetv2": (
        MobileNetV2Config(image_size=26, depth_multiplier=0.1, finegrained_output=False, initializer_range=0.28),
        {},
    ),
    "videomae": (VideoMAEConfig(**_CLIPS), {}),
    "vjepa2": (
        VJEPA2Config(
            **{
                name: _CLIPS[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "patch_size")
            },
            crop_size=26,
            frames_per_clip=4,
            initializer_range=0.3,
            pred_hidden_size=24,
            pred_num_attention_heads=2,
            pred_num_hidden_layers=1,
        ),
        {},
    ),
    "timesformer": (TimesformerConfig(**_CLIPS), {}),
    "vivit": (VivitConfig(**_CLIPS, tubelet_size=[2, 13, 13]), {}),
}


def tiny_config(audio: str = "wavlm", vision: str = "clip", **fields: Any) -> FoalNetConfig:
    """A Foal-Net of some 100 thousand parameters with the named kinds of encoder."""
    vision_config, vision_fields = VISION_ENCODERS[vision]
    audio_config = AUDIO_ENCODERS[audio] if audio in AUDIO_ENCODERS else OTHER_AUDIO_ENCODERS[audio][0]
    return FoalNetConfig(
        audio_config=audio_config.to_dict(),
        vision_config=vision_config.to_dict(),
        projection_dim=16,
        **{**vision_fields, **fields},
    )


def with_random_biases(model: Model) -> Model:
    """A model as training leaves it: a new one has biases of 0 and norms of weight 1, and nothing shows of either."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module, _, kind = name.rpartition(".")
            if "norm" in type(model.get_submodule(module)).__name__.lower() and kind == "weight":
                parameter.copy_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))
            elif kind == "bias":
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def tiny_model(
    audio: str = "wavlm", vision: str = "clip", *, seed: int = 0, **fields: Any
) -> FoalNetForEmotionClassification:
    """A tiny classifier in evaluation mode, the same on every call. Its weights are larger than at a real start, and
    its biases random, so that differences show.
    """
    torch.manual_seed(seed)
    config = tiny_config(audio, vision, **{"initializer_range": 0.3, **fields})
    return with_random_biases(FoalNetForEmotionClassification(config)).eval()


def tiny_batch(samples: torch.Tensor = SAMPLES, frames: torch.Tensor = FRAMES) -> dict[str, torch.Tensor]:
    """Clips of the given lengths (samples at 16 kHz, frames), padded with zeros."""
    generator = torch.Generator().manual_seed(1)
    attention_mask = (torch.arange(4003) < samples[:, None]).long()
    padding_mask_videos = (torch.arange(7) < frames[:, None]).long()
    pictures = torch.randn(len(frames), 7, 3, 26, 26, generator=generator)
    return {
        "input_values": torch.randn(len(samples), 4003, generator=generator) * attention_mask,
        "attention_mask": attention_mask,
        "pixel_values_videos": pictures * padding_mask_videos[:, :, None, None, None],
        "padding_mask_videos": padding_mask_videos,
    }
