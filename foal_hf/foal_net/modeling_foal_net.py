"""Foal-Net: encode audio and video, align them, fuse them, classify the emotion (Li et al., Interspeech 2024).

Shapes: `batch` clips; `samples` of 16 kHz audio; `audio_frames` of the audio encoder (about 50 a second); `frames` of
video; `audio_width`, `video_width` of the two encoders. Masks are True for audio and video, False for padding. A clip
without audio (or video) has an audio (or video) mask that is all False: nothing of the absent modality reaches its
result.
"""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs, maybe_install_capturing_hooks

from .audio_encoders_foal_net import make_audio_encoder, run_audio_encoder
from .checkpoint_foal_net import CheckpointPart
from .configuration_foal_net import FoalNetConfig
from .encoders_foal_net import load_encoders
from .layers_foal_net import FoalNetCrossAttention, FoalNetFusion, FoalNetFusionLayer, FoalNetProjection, masked_mean
from .losses_foal_net import (
    alignment_loss,
    classification_loss,
    gather_over_ranks,
    known_labels,
    matching_loss,
    negative_weights,
    sample_negatives,
    shared_emotion,
    similarity,
)
from .outputs_foal_net import FoalNetClassifierOutput, FoalNetModelOutput
from .vision_encoders_foal_net import encode_frames, is_trained, make_vision_encoder, position_mask


if TYPE_CHECKING:
    # transformers downloads a file together with those that it imports, which it finds by reading the text. These two
    # lines make a model that is loaded from the Hub bring the code of the whole checkpoint.
    from .pipeline_foal_net import AudioVideoEmotionPipeline  # noqa: F401
    from .processing_foal_net import FoalNetProcessor  # noqa: F401


# The encoder of the video in words and by name, and the input that needs it.
_VIDEO_ENCODER = ("image encoder", "vision_encoder", "pixel_values_videos")
_SHAPES = {
    "pixel_values_videos": ("batch", "frames", "channels", "height", "width"),
    "audio_features": ("batch", "positions", "width"),
    "video_features": ("batch", "frames", "width"),
}


class FoalNetPreTrainedModel(CheckpointPart, PreTrainedModel):  # type: ignore[misc]
    """The base class of all Foal-Net models: the contract with transformers, loading, and freezing."""

    config: FoalNetConfig
    config_class = FoalNetConfig
    base_model_prefix = "foal_net"
    main_input_name = "input_values"
    input_modalities = ["audio", "video"]
    # With **kwargs in forward, Trainer would otherwise expect the model to divide by the accumulation steps.
    accepts_loss_kwargs = False
    supports_gradient_checkpointing = True
    _no_split_modules = ["FoalNetFusionLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {
        "hidden_states": OutputRecorder(FoalNetFusionLayer, index=0, capture_initial_hidden_state=False),
        "attentions": OutputRecorder(FoalNetCrossAttention, index=1),
    }

    def __init__(self, config: FoalNetConfig) -> None:
        super().__init__(config)
        if config.audio_config is None:
            self.main_input_name = "audio_features"

    @classmethod
    def from_encoders_pretrained(cls, audio_encoder: str | None, vision_encoder: str | None, **kwargs: Any) -> Self:
        """Make a model from two pretrained encoders; all other weights are random.

        Args:
            audio_encoder (`str`, *optional*): Hub name or folder of an audio encoder, e.g. `"microsoft/wavlm-large"`,
                or of a model that has one as a part, e.g. `"openai/whisper-large-v3"`: only that part is loaded. None
                with `audio_feature_dim`, for a model that takes features instead.
            vision_encoder (`str`, *optional*): Hub name or folder of an image encoder, or of a model of images and text
                whose image encoder is used, e.g. `"openai/clip-vit-large-patch14"`. None with `video_feature_dim`.
            **kwargs: Fields of [`FoalNetConfig`], such as `id2label`; for the Hub `token`, `cache_dir`,
                `local_files_only`, `force_download`.

        Returns:
            The model, in evaluation mode like every `from_pretrained`.

        Raises:
            TypeError: If an argument is none of these.
        """
        return cls(**load_encoders(audio_encoder, vision_encoder, **kwargs)).eval()

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the encoders are frozen as the config says, like in a new model."""
        loaded = super().from_pretrained(*args, **kwargs)
        # transformers makes every loaded parameter trainable.
        (loaded[0] if isinstance(loaded, tuple) else loaded).freeze_encoders()
        return loaded

    def freeze_encoders(self) -> None:
        """Freeze what the config says: `freeze_vision_encoder`, `freeze_audio_encoder`, `freeze_audio_feature_encoder`.

        Called when a model is made or loaded, and never after: from then on each parameter's `requires_grad` decides
        what is trained. `train()` does not change it.
        """
        foal_net: Any = self.base_model
        if self.config.freeze_vision_encoder and foal_net.vision_encoder is not None:
            foal_net.vision_encoder.requires_grad_(False)
        if self.config.freeze_audio_encoder and foal_net.audio_encoder is not None:
            foal_net.audio_encoder.requires_grad_(False)
        # Whisper's positions are not trained in a new model either.
        if isinstance(table := getattr(foal_net.audio_encoder, "embed_positions", None), nn.Embedding):
            table.requires_grad_(False)
        front_end = getattr(foal_net.audio_encoder, "feature_extractor", None)
        if self.config.freeze_audio_feature_encoder and front_end is not None:
            front_end._freeze_parameters()
        foal_net.train(foal_net.training)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | os.PathLike[str], is_main_process: bool = True, **kwargs: Any
    ) -> None:
        """As in transformers: weights and config; also the code, and a card where there is none."""
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
        if is_main_process and self._hub is not None:
            self._hub().write_card(self, save_directory)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, FoalNetModel):
            init.constant_(module.temperature, self.config.temperature_init_value)
            if module.audio_layer_weights is not None:
                init.zeros_(module.audio_layer_weights)

    def _set_gradient_checkpointing(self, *args: Any, **kwargs: Any) -> None:
        """As in transformers, but refuses `use_reentrant=True`, with which WavLM recurses until memory runs out."""
        if getattr(kwargs.get("gradient_checkpointing_func"), "keywords", {}).get("use_reentrant"):
            raise ValueError(
                "Foal-Net cannot be trained with `use_reentrant=True`: the audio encoder recurses without end. "
                "Set it to False, the default."
            )
        super()._set_gradient_checkpointing(*args, **kwargs)


class FoalNetModel(FoalNetPreTrainedModel):
    """Encoders, alignment and fusion, without a head.

    Attributes:
        audio_encoder, vision_encoder (`PreTrainedModel`, *optional*): None where the model takes features computed
            elsewhere, see `audio_feature_dim` and `video_feature_dim` of [`FoalNetConfig`].
    """

    # The heads of a classifier's checkpoint, which this model does not have.
    _keys_to_ignore_on_load_unexpected = [r"^classifier\.", r"^(audio|video)_matching_head\."]

    def __init__(
        self,
        config: FoalNetConfig,
        audio_encoder: PreTrainedModel | None = None,
        vision_encoder: PreTrainedModel | None = None,
    ) -> None:
        super().__init__(config)
        self.audio_encoder: Any = audio_encoder
        self.vision_encoder: Any = vision_encoder
        if audio_encoder is None and config.audio_config is not None:
            self.audio_encoder = make_audio_encoder(config)
        if vision_encoder is None and config.vision_config is not None:
            self.vision_encoder = make_vision_encoder(config)
        # Read once: a compiled graph cannot look into configs.
        self.audio_traits = config.audio_traits
        self.vision_interface = None if config.vision_config is None else config.vision_interface
        self._widths = {side: getattr(config, f"{side}_width") for side in ("audio", "video")}
        self.sequence_dropout = nn.Dropout(config.sequence_dropout)
        self.audio_projection = FoalNetProjection(config, config.audio_width)
        self.video_projection = FoalNetProjection(config, config.video_width)
        self.fusion = FoalNetFusion(config)
        self.temperature = nn.Parameter(torch.tensor(float(config.temperature_init_value)))
        layers = config.audio_layer_range
        self.audio_layer_weights = None if layers is None else nn.Parameter(torch.zeros(layers[1] - layers[0] + 1))
        self.post_init()
        self.freeze_encoders()

    def train(self, mode: bool = True) -> "FoalNetModel":
        """As in torch, but an encoder in which nothing is trained stays in evaluation mode."""
        super().train(mode)
        for encoder in (self.audio_encoder, self.vision_encoder):
            if encoder is not None and not is_trained(encoder):
                encoder.eval()
        return self

    def get_input_embeddings(self) -> nn.Module:
        """The first layer that the model's main input goes through: of the audio encoder, or of the features."""
        if self.audio_encoder is None:
            return self.sequence_dropout
        front_end = getattr(self.audio_encoder, "feature_extractor", None)
        return next(self.audio_encoder.children()) if front_end is None else front_end

    @can_return_tuple
    def get_audio_features(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """The audio encoder's output, with the aligned embedding of the audio alone as `pooler_output`.

        Args as in [`FoalNetModel.forward`]. The sequence can be stored, and passed later as `audio_features`.
        """
        encoded, mask = self.encode_audio(input_values, attention_mask, audio_features, input_features, **kwargs)
        sequence = encoded.last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=sequence,
            pooler_output=self.align(sequence, mask, self.audio_projection),
            hidden_states=encoded.get("hidden_states"),
            attentions=encoded.get("attentions"),
        )

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutputWithPooling:
        """The image encoder's output, with the aligned embedding of the video alone as `pooler_output`.

        Args as in [`FoalNetModel.forward`]. The sequence can be stored, and passed later as `video_features`.
        `output_hidden_states` and `output_attentions` are for the image encoder (the latter with
        `attn_implementation="eager"`), and need `pixel_values_videos`; their shapes begin with `(batch, frames)`.
        """
        encoded, mask = self.encode_video(pixel_values_videos, padding_mask_videos, video_features, **kwargs)
        sequence = encoded.last_hidden_state
        return BaseModelOutputWithPooling(
            last_hidden_state=sequence,
            pooler_output=self.align(sequence, mask, self.video_projection),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FoalNetModelOutput:
        """Encode, align and fuse.

        Args:
            input_values (`torch.Tensor` of shape `(batch, samples)`, *optional*): Waveforms; None without any audio.
                `config.audio_input_name` says whether the audio encoder takes these or `input_features`. AST takes its
                spectrograms as `input_values`, too.
            attention_mask (`torch.Tensor` of shape `(batch, samples)`, *optional*): 1 for samples, 0 for the padding
                after them. All 0 for a clip without audio. Of spectrograms it is `(batch, spectrogram_frames)`, of
                `audio_features` `(batch, positions)`.
            pixel_values_videos (`torch.Tensor` of shape `(batch, frames, 3, height, width)`, *optional*): Frames.
            padding_mask_videos (`torch.Tensor` of shape `(batch, frames)`, *optional*): 1 for frames, 0 for padding.
                All 0 for a clip without video.
            video_features (`torch.Tensor` of shape `(batch, frames, video_width)`, *optional*): Stored output of the
                image encoder for these frames, in place of `pixel_values_videos`.
            audio_features (`torch.Tensor` of shape `(batch, positions, audio_width)`, *optional*): Stored output of the
                audio encoder, in place of `input_values`.
            input_features (`torch.Tensor`, *optional*): Spectrograms, in place of `input_values`, in the layout of the
                encoder and its feature extractor, such as `(batch, bins, spectrogram_frames)` for Whisper.

        Returns:
            [`FoalNetModelOutput`]

        Raises:
            ValueError: If audio and video are both missing, a modality is given raw and as features, a raw modality has
                no encoder in this model, features have another width or belong to an encoder that is being trained,
                batch sizes differ, or a clip has neither audio nor video (the message names its index). That last check
                would make every step wait for an accelerator: there, and in a compiled graph, such a clip's results are
                NaN.
        """
        audio = {**self._raw_audio(input_values, input_features), "audio_features": audio_features}
        video = {"pixel_values_videos": pixel_values_videos, "video_features": video_features}
        self._check_inputs(audio, attention_mask, video, padding_mask_videos)
        last_audio, audio_mask, last_video, video_mask = self._encode(audio, attention_mask, video, padding_mask_videos)
        is_empty = _find_empty_clips(audio_mask, video_mask)
        audio_mask, video_mask = self._drop_modalities(audio_mask, video_mask)
        audio = self.sequence_dropout(last_audio).masked_fill(~audio_mask[..., None], 0.0)
        video = self.sequence_dropout(last_video).masked_fill(~video_mask[..., None], 0.0)
        fused_audio, fused_video = self.fusion(audio, audio_mask, video, video_mask, **kwargs)
        return FoalNetModelOutput(
            audio_embeds=self.align(audio, audio_mask, self.audio_projection),
            video_embeds=self.align(video, video_mask, self.video_projection),
            audio_pooler_output=fused_audio.masked_fill(is_empty, torch.nan),
            video_pooler_output=fused_video.masked_fill(is_empty, torch.nan),
            audio_last_hidden_state=last_audio,
            video_last_hidden_state=last_video,
            audio_mask=audio_mask.long(),
            video_mask=video_mask.long(),
            audio_fusion_input=audio,
            video_fusion_input=video,
        )

    def align(self, sequence: torch.Tensor, mask: torch.Tensor, projection: FoalNetProjection) -> torch.Tensor:
        """Mean over valid positions, then projection: unit vectors `(batch, projection_dim)`, 0 where none is valid."""
        embeds = projection(masked_mean(sequence, mask))
        return embeds.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)

    def encode_audio(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Encode audio, or take its stored features; returns also the mask, `(batch, audio_frames)`, bool."""
        if audio_features is not None:
            weights = self.audio_layer_weights
            if self.training and weights is not None and weights.requires_grad:
                raise ValueError(
                    "`audio_features` hold one sum of the layers of the audio encoder, so that the weights of "
                    f"`audio_layers` would never get a gradient. Give `{self.audio_traits.input_name}`, or freeze "
                    "them: `audio_layer_weights.requires_grad_(False)`."
                )
            return self._take_features("audio", audio_features, attention_mask, self.audio_encoder)
        self._check_has_encoder("audio", self.audio_encoder)
        raw = input_values if input_features is None else input_features
        if kwargs or self.audio_layer_weights is not None:
            # Hooks that the encoder installed by itself would be installed again with those of this model.
            maybe_install_capturing_hooks(self)
        encoded, mask = run_audio_encoder(
            self.audio_encoder, self.config, raw, attention_mask, self.audio_layer_weights, **kwargs
        )
        encoded["last_hidden_state"] = encoded["last_hidden_state"].masked_fill(~mask[..., None], 0.0)
        return encoded, mask

    def encode_video(
        self,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Encode frames, or take their stored features; returns also the mask, `(batch, frames)`, bool."""
        if video_features is not None:
            return self._take_features("video", video_features, padding_mask_videos, self.vision_encoder)
        self._check_has_encoder("video", self.vision_encoder)
        mask = None if padding_mask_videos is None else padding_mask_videos.bool()
        encoded = encode_frames(self.vision_encoder, self.vision_interface, pixel_values_videos, mask, **kwargs)
        if mask is None:
            return encoded, _all_true(encoded.last_hidden_state)
        return encoded, position_mask(mask, self.vision_interface)

    def _take_features(
        self, side: str, features: torch.Tensor, mask: torch.Tensor | None, encoder: PreTrainedModel | None
    ) -> tuple[BaseModelOutput, torch.Tensor]:
        """Features `(batch, positions, width)` as an encoder would give them, 0 at padding, and their mask."""
        words, encoder_name, raw = self._encoder_names(side)
        if self.training and encoder is not None and is_trained(encoder):
            raise ValueError(
                f"`{side}_features` hold the output of an encoder that is not trained, but parameters of this model's "
                f"{words} require gradients, which they would never get. Give `{raw}`, or freeze it: "
                f"`{encoder_name}.requires_grad_(False)`."
            )
        width = self._widths[side]
        if features.shape[-1] != width:
            expected = (
                f"{width}, the width of this model's {words}. They come from another encoder: compute them with "
                "this one."
                if encoder is not None
                else f"{width}: this checkpoint takes {self.config.describe_features(side)}."
            )
            raise ValueError(f"`{side}_features` are {features.shape[-1]} wide; expected {expected}")
        features = features.to(self.temperature.dtype)
        mask = _all_true(features) if mask is None else mask.bool()
        return BaseModelOutput(features.masked_fill(~mask[..., None], 0.0)), mask

    def _check_has_encoder(self, side: str, encoder: PreTrainedModel | None) -> None:
        if encoder is None:
            raise ValueError(
                f"This checkpoint has no {self._encoder_names(side)[0]} for `{self._encoder_names(side)[2]}`; it takes "
                f"{self.config.describe_features(side)}. Give them as `{side}_features`."
            )

    def _encoder_names(self, side: str) -> tuple[str, str, str]:
        """The encoder of a side in words and by name, and the input that needs it."""
        audio = ("audio encoder", "audio_encoder", self.audio_traits.input_name)
        return audio if side == "audio" else _VIDEO_ENCODER

    def _raw_audio(
        self, input_values: torch.Tensor | None, input_features: torch.Tensor | None
    ) -> dict[str, torch.Tensor | None]:
        """The input that the audio encoder takes, by its name; the other one must not be given."""
        given = {"input_values": input_values, "input_features": input_features}
        expected = self.audio_traits.input_name
        for name, value in given.items():
            if name != expected and value is not None:
                raise ValueError(
                    f"`{name}` were given, but the audio encoder of this model takes `{expected}`: prepare clips with "
                    "the processor of this checkpoint."
                )
        return {expected: given[expected]}

    def _audio_shape(self) -> tuple[str, ...]:
        """The dimensions of a batch for the audio encoder."""
        traits = self.audio_traits
        if traits.input_dims == 2:
            return ("batch", "samples")
        names = ["batch", *("channels",) * (traits.input_dims - 3), "bins"]
        names.insert(traits.time_dim, "spectrogram_frames")
        return tuple(names)

    def _encode(
        self,
        audio: dict[str, Any],
        attention_mask: torch.Tensor | None,
        video: dict[str, Any],
        padding_mask_videos: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Both sequences, 0 at padding, and masks; a missing modality is one position that is False in every clip."""
        last_audio = last_video = audio_mask = video_mask = None
        if any(value is not None for value in audio.values()):
            encoded, audio_mask = self.encode_audio(attention_mask=attention_mask, **audio)
            last_audio = encoded["last_hidden_state"]
        if any(value is not None for value in video.values()):
            encoded, video_mask = self.encode_video(padding_mask_videos=padding_mask_videos, **video)
            last_video = encoded["last_hidden_state"]
        if last_audio is None:
            last_audio, audio_mask = _absent_like(last_video, self._widths["audio"])
        if last_video is None:
            last_video, video_mask = _absent_like(last_audio, self._widths["video"])
        return last_audio, audio_mask, last_video, video_mask

    def _check_inputs(
        self,
        audio: dict[str, Any],
        attention_mask: torch.Tensor | None,
        video: dict[str, Any],
        padding_mask_videos: torch.Tensor | None,
    ) -> None:
        of_audio, of_video = (_only_one(inputs) for inputs in (audio, video))
        if of_audio is None and of_video is None:
            raise ValueError(f"No input: give {_either(audio)} (audio), {_either(video)} (video), or both.")
        given = [(of_audio, "attention_mask", attention_mask), (of_video, "padding_mask_videos", padding_mask_videos)]
        present = [(*named, mask_name, mask) for named, mask_name, mask in given if named is not None]
        shapes = {self.audio_traits.input_name: self._audio_shape(), **_SHAPES}
        for name, value, _, _ in present:
            if value.ndim != len(shapes[name]):
                raise ValueError(f"`{name}` must be ({', '.join(shapes[name])}), got shape {tuple(value.shape)}.")
        sizes = [value.shape[0] for _, value, _, _ in present]
        if len(sizes) == 2 and sizes[0] != sizes[1]:
            raise ValueError(
                f"Audio of {sizes[0]} clips and video of {sizes[1]}: both must hold the same clips. A clip that lacks "
                "one has a mask of zeros there."
            )
        for name, value, mask_name, mask in present:
            time_dim = self.audio_traits.time_dim if name == self.audio_traits.input_name else 1
            expected = (value.shape[0], value.shape[time_dim])
            if mask is not None and mask.shape != expected:
                raise ValueError(
                    f"`{mask_name}` has shape {tuple(mask.shape)}, but `{name}` "
                    + (f"begins with {expected}." if time_dim == 1 else f"needs {expected}.")
                )

    def _drop_modalities(self, audio_mask: torch.Tensor, video_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """In training, drop audio or video of a share `modality_dropout` of the clips that have both."""
        if not self.training or self.config.modality_dropout == 0.0:
            return audio_mask, video_mask
        chance = torch.rand(audio_mask.shape[0], device=audio_mask.device)
        both = audio_mask.any(dim=1) & video_mask.any(dim=1)
        drop_audio = both & (chance < self.config.modality_dropout / 2)
        drop_video = both & (chance >= 1 - self.config.modality_dropout / 2)
        return audio_mask & ~drop_audio[:, None], video_mask & ~drop_video[:, None]


class FoalNetForEmotionClassification(FoalNetPreTrainedModel):
    """Foal-Net with a classifier, the matching heads and the three losses."""

    # Opens a folder that `foal-hf export` wrote, or returns None; set by `import foal_hf`.
    _open_export: ClassVar[Callable[..., Any]] = staticmethod(lambda folder, **kwargs: None)

    def __init__(self, config: FoalNetConfig, **encoders: PreTrainedModel) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.foal_net = FoalNetModel(config, **encoders)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.audio_width + config.video_width, config.num_labels)
        self.audio_matching_head = nn.Linear(config.audio_width, 2)
        self.video_matching_head = nn.Linear(config.video_width, 2)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; from a folder that `foal-hf export` wrote, the model that runs its graphs."""
        folder = pretrained_model_name_or_path  # None with a `state_dict`
        exported = None if folder is None else cls._open_export(folder, **kwargs)
        return super().from_pretrained(folder, *args, **kwargs) if exported is None else exported

    def get_input_embeddings(self) -> nn.Module:
        """The first layer that the model's main input goes through."""
        return self.foal_net.get_input_embeddings()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> FoalNetClassifierOutput:
        """Classify the emotion of each clip.

        Args:
            input_values, attention_mask, pixel_values_videos, padding_mask_videos, video_features, audio_features,
                input_features: As in [`FoalNetModel.forward`].
            labels (`torch.Tensor` of shape `(batch,)`, *optional*): Class index of each clip, -100 where unknown. For
                several classes a clip, `(batch, num_labels)` of 0 and 1, -100 where unknown; for regression,
                `(batch, num_labels)`, NaN where unknown. Only the losses depend on them, the logits do not.

        Returns:
            [`FoalNetClassifierOutput`]

        Raises:
            ValueError: As in [`FoalNetModel.forward`], and if the labels do not fit the `problem_type` of the config.
        """
        outputs = self.foal_net(
            input_values=input_values,
            attention_mask=attention_mask,
            pixel_values_videos=pixel_values_videos,
            padding_mask_videos=padding_mask_videos,
            video_features=video_features,
            audio_features=audio_features,
            input_features=input_features,
            **kwargs,
        )
        fused = torch.cat([outputs.audio_pooler_output, outputs.video_pooler_output], dim=-1)  # audio first
        logits = self.classifier(self.dropout(fused))
        losses = {} if labels is None else self.compute_losses(outputs, logits, labels, **kwargs)
        return FoalNetClassifierOutput(
            **losses,
            logits=logits,
            audio_embeds=outputs.audio_embeds,
            video_embeds=outputs.video_embeds,
            audio_pooler_output=outputs.audio_pooler_output,
            video_pooler_output=outputs.video_pooler_output,
            audio_mask=outputs.audio_mask,
            video_mask=outputs.video_mask,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def compute_losses(
        self, outputs: FoalNetModelOutput, logits: torch.Tensor, labels: torch.Tensor, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        """The three losses and their weighted sum `L = L_ce + w_a L_a + w_m L_m`."""
        config = self.config
        labels = self._check_labels(labels.to(logits.device), logits)
        has_both = outputs.audio_mask.any(dim=1) & outputs.video_mask.any(dim=1)
        paired = has_both & known_labels(labels, config.problem_type)
        losses = {"classification_loss": classification_loss(logits, labels, config.problem_type)}
        loss = losses["classification_loss"]
        if config.problem_type == "regression" and config.same_emotion_distance is None:
            return {"loss": loss, **losses}
        if config.alignment_loss_weight > 0:
            losses["alignment_loss"] = self._alignment_loss(outputs, labels, paired)
            loss = loss + config.alignment_loss_weight * losses["alignment_loss"]
        if config.matching_loss_weight > 0:
            losses["matching_loss"] = self._matching_loss(outputs, labels, paired, **kwargs)
            loss = loss + config.matching_loss_weight * losses["matching_loss"]
        return {"loss": loss, **losses}

    def _check_labels(self, labels: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Labels of the shape and type that the problem type needs."""
        problem_type = self.config.problem_type or "single_label_classification"
        if problem_type == "single_label_classification":
            if labels.ndim == 1 and not labels.is_floating_point():
                return labels
            expected = "(batch,), integers"
        else:
            if labels.ndim == 1 and logits.shape[1] == 1:
                labels = labels[:, None]
            if labels.shape == logits.shape:
                return labels.to(torch.float32)
            expected = f"{tuple(logits.shape)}, a number for each label"
        raise ValueError(
            f"`labels` have shape {tuple(labels.shape)} and dtype {labels.dtype}; expected {expected}, as "
            f"`config.problem_type` is {self.config.problem_type!r}. Other types are 'single_label_classification', "
            "'multi_label_classification' and 'regression'."
        )

    def _shared(self, labels: torch.Tensor) -> torch.Tensor:
        return shared_emotion(labels, self.config.problem_type, self.config.same_emotion_distance)

    def _alignment_loss(self, outputs: FoalNetModelOutput, labels: torch.Tensor, paired: torch.Tensor) -> torch.Tensor:
        rows = (outputs.audio_embeds, outputs.video_embeds, labels, paired)
        audio_embeds, video_embeds, labels, paired = (
            gather_over_ranks(row, with_gradient=self.config.gather_with_gradient) for row in rows
        )
        return alignment_loss(audio_embeds, video_embeds, self._shared(labels), self.foal_net.temperature, paired)

    def _matching_loss(
        self, outputs: FoalNetModelOutput, labels: torch.Tensor, paired: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        """MEM. The classifier needs the true pairs fused already; only the pairs with a negative are fused here."""
        video_index, has_negative = self._negatives(outputs.audio_embeds, outputs.video_embeds, labels, paired)
        audio_index, _ = self._negatives(outputs.video_embeds, outputs.audio_embeds, labels, paired)
        audio, audio_mask = outputs.audio_fusion_input, outputs.audio_mask.bool()
        video, video_mask = outputs.video_fusion_input, outputs.video_mask.bool()
        fusion = self.foal_net.fusion
        negative_audio = fusion.attend(
            fusion.audio_queries_video, audio, audio_mask, video[video_index], video_mask[video_index], **kwargs
        )
        negative_video = fusion.attend(
            fusion.video_queries_audio, video, video_mask, audio[audio_index], audio_mask[audio_index], **kwargs
        )
        return matching_loss(
            audio_positive=self.audio_matching_head(outputs.audio_pooler_output),
            audio_negative=self.audio_matching_head(negative_audio),
            video_positive=self.video_matching_head(outputs.video_pooler_output),
            video_negative=self.video_matching_head(negative_video),
            row_mask=has_negative,
        )

    def _negatives(
        self, queries: torch.Tensor, keys: torch.Tensor, labels: torch.Tensor, paired: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Index of the negative of each clip in this rank's batch, and which clips have one."""
        scores = similarity(queries.detach(), keys.detach(), self.foal_net.temperature.detach())
        weights, has_negative = negative_weights(
            scores, self._shared(labels), paired, needs_other_label=self.config.matching_needs_negative
        )
        hardest = not self.training and self.config.evaluation_negatives == "hardest"
        return sample_negatives(weights, hardest=hardest), has_negative


def _find_empty_clips(audio_mask: torch.Tensor, video_mask: torch.Tensor) -> torch.Tensor:
    """Which clips have neither audio nor video, `(batch, 1)`; refused where the answer costs no waiting."""
    is_empty = ~(audio_mask.any(dim=1, keepdim=True) | video_mask.any(dim=1, keepdim=True))
    if is_empty.device.type == "cpu" and not torch.compiler.is_compiling() and is_empty.any():
        raise ValueError(
            f"Clips {is_empty[:, 0].nonzero().flatten().tolist()} of the batch (counted from 0) have neither audio nor "
            "video; remove them from the batch."
        )
    return is_empty


def _only_one(inputs: dict[str, Any]) -> tuple[str, torch.Tensor] | None:
    """The input of a modality that was given, with its name; None without any."""
    given = [(name, value) for name, value in inputs.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"Give either {_either(inputs)}, not both.")
    return given[0] if given else None


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"`{name}`" for name in names)


def _all_true(sequence: torch.Tensor) -> torch.Tensor:
    return torch.ones(sequence.shape[:2], dtype=torch.bool, device=sequence.device)


def _absent_like(present: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    absent = present.new_zeros(present.shape[0], 1, width)
    return absent, torch.zeros(present.shape[0], 1, dtype=torch.bool, device=present.device)


__all__ = [
    "FoalNetClassifierOutput",
    "FoalNetForEmotionClassification",
    "FoalNetModel",
    "FoalNetModelOutput",
    "FoalNetPreTrainedModel",
]
