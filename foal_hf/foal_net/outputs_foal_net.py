"""What the models return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class FoalNetModelOutput(ModelOutput):
    """The output of [`FoalNetModel`].

    Args:
        audio_embeds (`torch.Tensor` of shape `(batch, projection_dim)`): Aligned audio, unit length; 0 without audio.
        video_embeds (`torch.Tensor` of shape `(batch, projection_dim)`): Aligned video, unit length; 0 without video.
        audio_pooler_output (`torch.Tensor` of shape `(batch, audio_width)`): Audio fused with video, mean over time.
        video_pooler_output (`torch.Tensor` of shape `(batch, video_width)`): Video fused with audio, mean over time.
        audio_last_hidden_state (`torch.Tensor` of shape `(batch, audio_frames, audio_width)`): Output of the audio
            encoder, as [`FoalNetModel.get_audio_features`] returns it: before dropout and fusion, 0 at padding.
        video_last_hidden_state (`torch.Tensor` of shape `(batch, frames, video_width)`): Output of the image encoder,
            one vector a frame, as [`FoalNetModel.get_video_features`] returns it.
        audio_mask (`torch.LongTensor` of shape `(batch, audio_frames)`): 1 for positions of audio that were used, 0 for
            padding and where `modality_dropout` dropped the audio.
        video_mask (`torch.LongTensor` of shape `(batch, frames)`): 1 for frames that were used, 0 likewise.
        audio_fusion_input (`torch.Tensor` of shape `(batch, audio_frames, audio_width)`): What alignment and fusion see
            of the audio: `audio_last_hidden_state` after `sequence_dropout`, 0 where `audio_mask` is 0.
        video_fusion_input (`torch.Tensor` of shape `(batch, frames, video_width)`): The same of the video.
        hidden_states (`tuple`, *optional*): With `output_hidden_states=True`, the queries after each fusion layer:
            first where audio queries video, `(batch, audio_frames, audio_width)` each, then where video queries audio,
            `(batch, frames, video_width)` each.
        attentions (`tuple`, *optional*): With `output_attentions=True`, the cross-attention weights in the same order,
            `(batch, heads, audio_frames, frames)` and `(batch, heads, frames, audio_frames)`. That call then uses eager
            attention, whatever `attn_implementation` is: the other implementations do not form the weights.
    """

    audio_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    audio_pooler_output: torch.Tensor | None = None
    video_pooler_output: torch.Tensor | None = None
    audio_last_hidden_state: torch.Tensor | None = None
    video_last_hidden_state: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    video_mask: torch.Tensor | None = None
    audio_fusion_input: torch.Tensor | None = None
    video_fusion_input: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class FoalNetClassifierOutput(ModelOutput):
    """The output of [`FoalNetForEmotionClassification`].

    Args:
        loss (`torch.Tensor` of shape `()`, *optional*): Weighted sum of the three losses below. All losses need labels.
        logits (`torch.Tensor` of shape `(batch, num_labels)`): One number a class, before the softmax (or, with several
            classes a clip, the sigmoid); in regression the predicted numbers.
        classification_loss (`torch.Tensor` of shape `()`, *optional*): Cross entropy (MER), in nats; the loss of the
            task for other problem types (see [`FoalNetConfig`]).
        alignment_loss (`torch.Tensor` of shape `()`, *optional*): AVEL, in nats; None where it is turned off.
        matching_loss (`torch.Tensor` of shape `()`, *optional*): MEM, in nats; None where it is turned off.
        audio_embeds, video_embeds, audio_pooler_output, video_pooler_output, audio_mask, video_mask, hidden_states,
            attentions: As in [`FoalNetModelOutput`].
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    classification_loss: torch.Tensor | None = None
    alignment_loss: torch.Tensor | None = None
    matching_loss: torch.Tensor | None = None
    audio_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    audio_pooler_output: torch.Tensor | None = None
    video_pooler_output: torch.Tensor | None = None
    audio_mask: torch.Tensor | None = None
    video_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


__all__ = ["FoalNetClassifierOutput", "FoalNetModelOutput"]
