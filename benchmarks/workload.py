"""What the benchmarks of the model work on: its published sizes, clips as long as IEMOCAP's, and what they cost.

A multiply and an add count as two operations. Norms, softmax and activations are left out: they are bound by memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification
from foal_hf.data.sampling import BalancedLengthSampler


SAMPLING_RATE = 16_000
MAX_SECONDS = 6.0
PUBLISHED_FRAMES_PER_SECOND = 30.0
DEFAULT_FRAMES_PER_SECOND = 5.0
NUM_CLASSES = 4


def make_model(layers: int, *, vision_layers: int = 1, width: int = 1024) -> FoalNetForEmotionClassification:
    """The published model with random weights, in training mode."""
    torch.manual_seed(0)
    return FoalNetForEmotionClassification(make_config(layers, vision_layers=vision_layers, width=width)).train()


def make_config(layers: int, *, vision_layers: int = 1, width: int = 1024) -> FoalNetConfig:
    """The published model, as far as its size goes.

    Args:
        layers, vision_layers (`int`): Of the encoders. Where features are stored, no image encoder is needed.
        width (`int`, defaults to 1024): Of both encoders, a multiple of 64; all else in proportion.
    """
    config = FoalNetConfig(projection_dim=width // 2)
    audio, vision = config.audio_config, config.vision_config
    audio.num_hidden_layers, vision.num_hidden_layers = layers, vision_layers
    # Which layers are dropped at random would decide the time.
    audio.layerdrop = 0.0
    audio.conv_dim = [width // 2] * len(audio.conv_dim)
    vision.projection_dim = 3 * width // 4
    for encoder in (audio, vision):
        encoder.hidden_size, encoder.intermediate_size, encoder.num_attention_heads = width, 4 * width, width // 64
    return config


def iemocap_seconds(num_clips: int) -> list[float]:
    """Log-normal lengths with mean 4.55 s and median 3.58 s, from 0.58 to 34 s, of which the first 6 s are read."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(2 * math.log(4.55 / 3.58))
    seconds = (torch.randn(num_clips, generator=generator) * spread + math.log(3.58)).exp()
    return seconds.clamp(0.58, 34.0).clamp(max=MAX_SECONDS).tolist()


@dataclass(frozen=True)
class Epoch:
    """Some batches of an epoch, evenly spaced by length, and how long all of its batches are padded, on average."""

    batches: list[list[float]]
    padded_seconds: float

    @classmethod
    def of(cls, num_batches: int, batch_size: int, num_clips: int = 4096) -> "Epoch":
        """Batches of the package's sampler, by the seconds of their clips."""
        seconds = iemocap_seconds(num_clips)
        order = list(BalancedLengthSampler(num_clips, batch_size, lengths=seconds))
        batches = [[seconds[clip] for clip in order[i : i + batch_size]] for i in range(0, num_clips, batch_size)]
        batches.sort(key=max)
        chosen = [batches[int((index + 0.5) * len(batches) / num_batches)] for index in range(num_batches)]
        return cls(chosen, sum(map(max, batches)) / len(batches))

    @property
    def chosen_seconds(self) -> float:
        """To which the chosen batches are padded, on average; near `padded_seconds` they stand for all."""
        return sum(map(max, self.batches)) / len(self.batches)


def make_batch(
    seconds: Sequence[float],
    frames_per_second: float,
    video_width: int = 768,
    *,
    padded_to: float | None = None,
    device: str = "cpu",
) -> dict[str, torch.Tensor]:
    """Random clips with stored features, as inputs of the model.

    Args:
        seconds (`Sequence[float]`): How long each clip is.
        frames_per_second (`float`): Features of each second.
        video_width (`int`, defaults to 768): Of the features.
        padded_to (`float`, *optional*): Seconds; the longest clip by default. What a clip holds does not depend on it.
        device (`str`, defaults to `"cpu"`): Where to put them.
    """
    generator = torch.Generator().manual_seed(0)
    sounds = [torch.randn(round(clip * SAMPLING_RATE), generator=generator) for clip in seconds]
    pictures = [
        torch.randn(math.ceil(clip * frames_per_second - 1e-6), video_width, generator=generator) for clip in seconds
    ]
    if padded_to is not None:  # one clip more, of the wanted length, is cut off again
        sounds.append(torch.zeros(round(padded_to * SAMPLING_RATE)))
        pictures.append(torch.zeros(round(padded_to * frames_per_second), video_width))
    num_clips = len(seconds)
    batch = {
        "input_values": pad_sequence(sounds, batch_first=True)[:num_clips],
        "attention_mask": pad_sequence([torch.ones(len(each)).long() for each in sounds], batch_first=True)[:num_clips],
        "video_features": pad_sequence(pictures, batch_first=True)[:num_clips],
        "padding_mask_videos": pad_sequence([torch.ones(len(each)).long() for each in pictures], batch_first=True)[
            :num_clips
        ],
        "labels": torch.arange(num_clips) % NUM_CLASSES,
    }
    return {name: tensor.to(device) for name, tensor in batch.items()}


def audio_frames(config: FoalNetConfig, seconds: float) -> int:
    """Positions that the audio encoder gives for so much sound."""
    return _lengths(config.audio_config, seconds)[-1]


def front_end_flops(config: FoalNetConfig, seconds: float) -> float:
    """Operations of the convolutions on the waveform of one clip."""
    audio = config.audio_config
    widths = [1, *audio.conv_dim]
    frames = _lengths(audio, seconds)
    return sum(
        2.0 * kernel * width_in * width_out * num
        for kernel, width_in, width_out, num in zip(audio.conv_kernel, widths, widths[1:], frames, strict=False)
    )


def front_end_bytes(config: FoalNetConfig, seconds: float, bytes_each: int = 4) -> float:
    """What they have to read and write of one clip, each layer's norm and activation in one pass over its output."""
    audio = config.audio_config
    return sum(
        3.0 * bytes_each * width * num for width, num in zip(audio.conv_dim, _lengths(audio, seconds), strict=True)
    )


def attention_flops(config: FoalNetConfig, frames: int) -> float:
    """Operations of one attention layer of WavLM for one clip: four projections and two products over all frames."""
    width = config.audio_config.hidden_size
    return 8.0 * frames * width**2 + 4.0 * frames**2 * width


def attention_bytes(config: FoalNetConfig, frames: int, bytes_each: int = 4) -> float:
    """The least it moves for one clip: the position once, and the states before and after each product."""
    audio = config.audio_config
    return bytes_each * (audio.num_attention_heads * frames**2 + 8.0 * frames * audio.hidden_size)


def transformer_flops(config: FoalNetConfig, seconds: float) -> float:
    """Operations of the audio encoder behind its convolutions, for one clip."""
    audio, frames = config.audio_config, audio_frames(config, seconds)
    width = audio.hidden_size
    projection = 2.0 * frames * audio.conv_dim[-1] * width
    per_group = width // audio.num_conv_pos_embedding_groups
    position = 2.0 * frames * audio.num_conv_pos_embeddings * width * per_group
    layer = attention_flops(config, frames) + 4.0 * frames * width * audio.intermediate_size
    return projection + position + audio.num_hidden_layers * layer


def image_flops(config: FoalNetConfig) -> float:
    """Operations of the image encoder for one frame."""
    vision = config.vision_config
    width, patches = vision.hidden_size, (vision.image_size // vision.patch_size) ** 2
    tokens = patches + 1
    layer = 8.0 * tokens * width**2 + 4.0 * tokens**2 * width + 4.0 * tokens * width * vision.intermediate_size
    return 2.0 * patches * 3 * vision.patch_size**2 * width + vision.num_hidden_layers * layer


def fusion_flops(config: FoalNetConfig, seconds: float, frames_per_second: float) -> float:
    """Operations of one pass through the fusion, in both directions, for one clip."""
    audio, video = audio_frames(config, seconds), math.ceil(seconds * frames_per_second - 1e-6)

    def direction(queries: int, width: int, keys: int, key_width: int) -> float:
        projections = 4.0 * queries * width**2 + 4.0 * keys * key_width * width
        return config.num_fusion_layers * (projections + 4.0 * queries * keys * width)

    return direction(audio, config.audio_width, video, config.video_width) + direction(
        video, config.video_width, audio, config.audio_width
    )


def training_flops(config: FoalNetConfig, seconds: float, frames_per_second: float, fusion_passes: int) -> float:
    """Operations of a training step for one clip: a backward pass costs two forward ones, none where it is frozen."""
    trained = transformer_flops(config, seconds)
    trained += fusion_passes * fusion_flops(config, seconds, frames_per_second)
    return front_end_flops(config, seconds) + 3 * trained


def _lengths(audio: Any, seconds: float) -> list[int]:
    """Positions behind each convolution."""
    frames, lengths = round(seconds * SAMPLING_RATE), []
    for kernel, stride in zip(audio.conv_kernel, audio.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
        lengths.append(frames)
    return lengths
