"""The published recipe, written plainly, on the weights of the package's model: what the benchmarks compare with.

6 seconds and 180 frames of padding whatever the clips; attention as transformers gives it without being asked for
another (`"eager"`, in WavLM the only one there is); one pass through the fusion for the classifier and two more, over
pairs and negatives, for the matching loss; every frame of 30 a second, prepared one by one with PIL.

Two things are kept as the package has them, so that both ways give the same numbers: padding is masked in WavLM, and in
evaluation the negatives are the hardest ones.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import CLIPVisionModelWithProjection, PreTrainedModel, WavLMModel
from transformers.utils import ModelOutput
from workload import MAX_SECONDS, PUBLISHED_FRAMES_PER_SECOND, SAMPLING_RATE

from foal_hf import FoalNetForEmotionClassification
from foal_hf.foal_net.losses_foal_net import (
    alignment_loss,
    cross_entropy,
    matching_loss,
    negative_weights,
    sample_negatives,
    similarity,
)


class PublishedFoalNet(nn.Module):
    """The model of the paper; parameters are those of `model`, the very tensors.

    Args:
        model ([`FoalNetForEmotionClassification`]): With WavLM and CLIP as encoders.
    """

    def __init__(self, model: FoalNetForEmotionClassification) -> None:
        super().__init__()
        foal_net = model.foal_net
        self.audio_encoder = with_weights_of(foal_net.audio_encoder, WavLMModel)
        self.vision_encoder = with_weights_of(foal_net.vision_encoder, CLIPVisionModelWithProjection)
        self.audio_encoder.feature_extractor._freeze_parameters()
        self.vision_encoder.requires_grad_(False)
        self.audio_projection, self.video_projection = foal_net.audio_projection, foal_net.video_projection
        self.fusion, self.temperature = foal_net.fusion, foal_net.temperature
        self.classifier = model.classifier
        self.audio_matching_head, self.video_matching_head = model.audio_matching_head, model.video_matching_head
        self.sequence_dropout, self.dropout = foal_net.sequence_dropout, model.dropout
        self.config = model.config
        self.train(model.training)

    def train(self, mode: bool = True) -> "PublishedFoalNet":
        """As in torch; the image encoder stays in evaluation mode."""
        super().train(mode)
        self.vision_encoder.eval()
        return self

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor,
        video_features: torch.Tensor,
        padding_mask_videos: torch.Tensor,
        labels: torch.Tensor | None = None,
    ) -> ModelOutput:
        """Arguments as in the package; what comes out has `logits`, and `loss` where there are labels."""
        audio = self.audio_encoder(input_values, attention_mask=attention_mask).last_hidden_state
        frames = self.audio_encoder._get_feat_extract_output_lengths(attention_mask.sum(dim=1))
        audio_mask = torch.arange(audio.shape[1], device=audio.device) < frames[:, None]
        video, video_mask = video_features, padding_mask_videos.bool()
        audio = self.sequence_dropout(audio) * audio_mask[..., None]
        video = self.sequence_dropout(video) * video_mask[..., None]
        audio_embeds = self.audio_projection(mean(audio, audio_mask))
        video_embeds = self.video_projection(mean(video, video_mask))
        fused_audio = self.attend(self.fusion.audio_queries_video, audio, audio_mask, video, video_mask)
        fused_video = self.attend(self.fusion.video_queries_audio, video, video_mask, audio, audio_mask)
        logits = self.classifier(self.dropout(torch.cat([fused_audio, fused_video], dim=-1)))
        if labels is None:
            return ModelOutput(logits=logits)
        loss = cross_entropy(logits, labels)
        loss = loss + self.config.alignment_loss_weight * alignment_loss(
            audio_embeds, video_embeds, labels, self.temperature
        )
        matching = self.matching_loss(audio, audio_mask, video, video_mask, audio_embeds, video_embeds, labels)
        return ModelOutput(loss=loss + self.config.matching_loss_weight * matching, logits=logits)

    def matching_loss(
        self,
        audio: torch.Tensor,
        audio_mask: torch.Tensor,
        video: torch.Tensor,
        video_mask: torch.Tensor,
        audio_embeds: torch.Tensor,
        video_embeds: torch.Tensor,
        labels: torch.Tensor,
    ) -> torch.Tensor:
        """MEM with a pass of its own: the pairs, which the classifier has seen, and as many with a negative."""
        video_index = self.negatives(audio_embeds, video_embeds, labels)
        audio_index = self.negatives(video_embeds, audio_embeds, labels)
        audio_side = self.attend(
            self.fusion.audio_queries_video,
            audio.repeat(2, 1, 1),
            audio_mask.repeat(2, 1),
            torch.cat([video, video[video_index]]),
            torch.cat([video_mask, video_mask[video_index]]),
        )
        video_side = self.attend(
            self.fusion.video_queries_audio,
            video.repeat(2, 1, 1),
            video_mask.repeat(2, 1),
            torch.cat([audio, audio[audio_index]]),
            torch.cat([audio_mask, audio_mask[audio_index]]),
        )
        return matching_loss(
            *self.audio_matching_head(audio_side).chunk(2), *self.video_matching_head(video_side).chunk(2)
        )

    def negatives(self, queries: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Index of the negative of each clip."""
        weights, _ = negative_weights(similarity(queries, keys, self.temperature), labels)
        return sample_negatives(weights, hardest=not self.training)

    def attend(
        self,
        layers: Any,
        queries: torch.Tensor,
        query_mask: torch.Tensor,
        keys: torch.Tensor,
        key_mask: torch.Tensor,
    ) -> torch.Tensor:
        """One direction of the fusion, `(batch, queries, width)` to `(batch, width)`."""
        padding = ~key_mask[:, None, None, :]
        for layer in layers:
            attention = layer.attention
            query, key, value = (
                projection(states).unflatten(2, (-1, attention.head_dim)).transpose(1, 2)
                for projection, states in (
                    (attention.q_proj, queries),
                    (attention.k_proj, keys),
                    (attention.v_proj, keys),
                )
            )
            scores = (query @ key.transpose(2, 3) * attention.scaling).masked_fill(padding, float("-inf"))
            attended = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
            queries = layer.layer_norm(queries + layer.dropout(attention.out_proj(attended)))
        return mean(queries, query_mask)


def with_weights_of(encoder: PreTrainedModel, plain_class: Any) -> PreTrainedModel:
    """The same encoder as transformers makes it, with eager attention, on the very tensors of `encoder`."""
    with torch.device("meta"):
        plain = plain_class._from_config(copy.deepcopy(encoder.config), attn_implementation="eager")
    plain.load_state_dict(encoder.state_dict(keep_vars=True), assign=True)
    for name, buffer in encoder.named_buffers():  # those that no state dict holds
        parent, _, leaf = name.rpartition(".")
        setattr(plain.get_submodule(parent), leaf, buffer)
    return plain.train(encoder.training)


def mean(sequence: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Over the positions where `mask` is True."""
    return (sequence * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def read_sound(path: str) -> torch.Tensor:
    """The first 6 seconds of a file, `(samples,)`, 16 kHz."""
    from torchcodec.decoders import AudioDecoder

    samples = AudioDecoder(path, sample_rate=SAMPLING_RATE, num_channels=1).get_all_samples().data[0]
    return samples[: round(MAX_SECONDS * SAMPLING_RATE)]


def read_pictures(path: str) -> list[Any]:
    """The first 180 frames of a file, one by one, as PIL images."""
    from PIL import Image
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC")
    num_frames = min(len(decoder), round(MAX_SECONDS * PUBLISHED_FRAMES_PER_SECOND))
    return [Image.fromarray(decoder[index].numpy()) for index in range(num_frames)]


def prepare_picture(image: Any, processor: Any) -> torch.Tensor:
    """One frame `(3, height, width)`, resized, cropped and normalised as the video processor says, with PIL."""
    from PIL import Image

    short, size = min(image.size), processor.size["shortest_edge"]
    width, height = (int(size * edge / short) for edge in image.size)
    image = image.resize((width, height), Image.Resampling(processor.resample))
    left, top = (width - processor.crop_size["width"]) // 2, (height - processor.crop_size["height"]) // 2
    image = image.crop((left, top, left + processor.crop_size["width"], top + processor.crop_size["height"]))
    pixels = np.asarray(image, dtype=np.float32) * np.float32(processor.rescale_factor)
    pixels = (pixels - np.array(processor.image_mean, np.float32)) / np.array(processor.image_std, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)
