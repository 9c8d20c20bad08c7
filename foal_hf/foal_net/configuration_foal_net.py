"""The configuration of Foal-Net: two encoders, and every number of the method as a typed, validated field."""

import copy
import math
import os
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.utils import logging

from .audio_traits_foal_net import AudioTraits, audio_traits, num_audio_layers
from .checkpoint_foal_net import AUTO_MAP, CUSTOM_PIPELINES, write_code
from .vision_interface_foal_net import VisionInterface, vision_interface


logger = logging.get_logger(__name__)

# The published index order. Toolkits differ in it, so no code may rely on an index: the names travel with the model.
PUBLISHED_LABELS = ("happy", "neutral", "sad", "angry")

_PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")

# The encoders of the published model, microsoft/wavlm-large and openai/clip-vit-large-patch14, where their
# configurations differ from the defaults of their classes.
_WAVLM_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "mask_time_prob": 0.075,
}
_CLIP_VIT_LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "patch_size": 14,
    "projection_dim": 768,
}


@strict
class FoalNetConfig(PreTrainedConfig):
    r"""Configuration of [`FoalNetModel`] and [`FoalNetForEmotionClassification`].

    The defaults describe the published model (Li et al., Interspeech 2024): WavLM-large for audio, CLIP ViT-L/14 for
    video, two fusion layers of four heads. Where a default differs from the authors' code, the field says so and gives
    the authors' value.

    Args:
        audio_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of an audio encoder: of waveforms (WavLM, HuBERT, wav2vec 2.0, UniSpeech-SAT, data2vec-audio,
            SEW, Moonshine, ...) or of spectrograms (Whisper, Wav2Vec2-BERT, SeamlessM4T v2, AST, CLAP, ...). Of a model
            with a decoder (Whisper) its encoder is used, of a model of audio and text (CLAP) its audio part. Defaults
            to WavLM-large; stays None with `audio_feature_dim`.
        vision_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of an image encoder (of a model of images and text, the vision part only): CLIP, SigLIP,
            DINOv2, DINOv3, ViT, Swin, ConvNeXt, ResNet, EfficientNet, MobileNet, timm's through `timm_wrapper`, or any
            other that takes `pixel_values` of one size. Or of an encoder of whole clips: VideoMAE, V-JEPA 2,
            TimeSformer, ViViT, or any other whose config has `num_frames` or `frames_per_clip`. Defaults to
            CLIP ViT-L/14; stays None with `video_feature_dim`.
        vision_pooling (`"projection"`, `"pooler"`, `"cls"` or `"mean"`, *optional*):
            Which vector represents a frame: CLIP's projected image embedding, the encoder's pooled output, its first
            token, or the mean over its tokens or over space. Defaults to what the encoder was trained for:
            `"projection"` for CLIP, `"pooler"` for SigLIP; else `"cls"` where there is a class token, `"pooler"` where
            there is a pooled output, and `"mean"`, which an encoder of whole clips always has: the mean over space.
        vision_window_frames (`int`, *optional*):
            The number of consecutive frames that an encoder of whole clips sees at once. Defaults to that of its
            config; V-JEPA 2 and TimeSformer also take others. A clip is cut into such windows. The last one, if it is
            not full, is filled with the clip's last frame, and what the encoder gives for the filled places is not
            used. The sequence has one position for each tubelet of the encoder.
        audio_feature_dim, video_feature_dim (`int`, *optional*):
            Makes a model without an audio (or image) encoder: it takes `audio_features` (or `video_features`) of this
            width, computed elsewhere. Not together with `audio_config` (or `vision_config`).
        audio_features_from, video_features_from (`str`, *optional*):
            Where the features of such a model come from, in words: the extractor, its layer, the positions a second.
            It is part of the card and of the errors about raw clips.
        projection_dim (`int`, defaults to 512):
            Width of the aligned embeddings `audio_embeds` and `video_embeds`.
        projection_dropout (`float`, defaults to 0.5):
            Dropout inside the projection block, probability in [0, 1).
        num_fusion_layers (`int`, defaults to 2):
            Cross-attention layers in each direction.
        num_fusion_heads (`int`, defaults to 4):
            Attention heads of a fusion layer; must divide the width of both encoders.
        fusion_dropout (`float`, defaults to 0.1):
            Dropout of the attention output in a fusion layer.
        sequence_dropout (`float`, defaults to 0.1):
            Dropout on both encoder sequences. The paper does not give its value.
        classifier_dropout (`float`, defaults to 0.1):
            Dropout before the classifier. The paper does not give its value.
        temperature_init_value (`float`, defaults to ln(1/0.07) = 2.659):
            Initial value of the learned temperature, which divides the similarities. This is the authors' value:
            neither 0.07 nor an exponential.
        alignment_loss_weight (`float`, defaults to 1.0):
            Weight of the alignment loss (AVEL); 0 turns it off.
        matching_loss_weight (`float`, defaults to 0.1):
            Weight of the matching loss (MEM); 0 turns it and its fusion pass off.
        evaluation_negatives (`"hardest"` or `"random"`, defaults to `"hardest"`):
            Which negative MEM uses in evaluation. The authors draw at random there too (`"random"`), so their
            evaluation loss is not repeatable.
        matching_needs_negative (`bool`, defaults to `True`):
            Skip a clip in MEM when its batch holds no clip of another emotion. With `False`, as in the authors' code,
            such a clip is matched against another clip of the same emotion, and the target is still "different". A clip
            that is the only pair of its batch is always skipped.
        gather_with_gradient (`bool`, defaults to `True`):
            With several ranks, let gradients of AVEL flow through the embeddings of the other ranks. In the authors'
            code they do not (`False`), and every rank contrasts its own rows only; here each rank contrasts all rows.
            MEM draws its negatives among the clips of its own rank.
        modality_dropout (`float`, defaults to 0.0):
            Probability that a training clip with both audio and video loses one of them (each equally often). Above 0
            the model learns to predict from one modality alone. The authors do not do this.
        freeze_vision_encoder (`bool`, defaults to `True`):
            Freeze the image encoder when a model is made or loaded. Later, `requires_grad_(True)` or a LoRA adapter on
            it trains it, and `train()` changes neither: it only keeps an image encoder in which nothing is trained in
            evaluation mode.
        freeze_audio_feature_encoder (`bool`, defaults to `True`):
            Freeze the convolutional front end of the audio encoder when a model is made or loaded. Encoders of
            spectrograms have none.
        freeze_audio_encoder (`bool`, defaults to `False`):
            Freeze all of the audio encoder, likewise: it stores no activations and stays in evaluation mode.
        audio_layers (`"last"`, `"all"` or `[first, last]`, defaults to `"last"`):
            Which outputs of the audio encoder are its sequence: the last, as published, or a sum of all of them (or of
            those from `first` to `last`, inclusive; 0 is the embedding before the first layer), weighted by the softmax
            of learned numbers that begin equal: `use_weighted_layer_sum` of transformers. The layers are the
            `hidden_states` of the encoder: the last is before the final norm in some encoders (AST) and behind it in
            others (WavLM-large, Whisper); the ones before it never pass that norm.
        layer_norm_eps (`float`, defaults to 1e-5):
            Epsilon of the layer norms in projection and fusion.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the initial weights outside the encoders.
        problem_type (`str`, *optional*):
            What is predicted, as in transformers' other classifiers. `"single_label_classification"`, the default: one
            class a clip, labels `(batch,)`, cross entropy. `"multi_label_classification"`: any number of classes a
            clip, labels `(batch, num_labels)` of 0 and 1, binary cross entropy; AVEL and MEM take two clips with at
            least one class in common, or both without any, for clips of the same emotion. `"regression"`: numbers such
            as valence, activation and dominance, whose names are in `id2label`, labels `(batch, num_labels)`, mean
            squared error; AVEL and MEM are off unless `same_emotion_distance` is given. With `num_labels=1` the default
            is `"regression"`. transformers would guess from the labels of the first step; here other labels than
            those of the problem type are refused.
        same_emotion_distance (`float`, *optional*):
            In regression, AVEL and MEM take two clips whose labels differ by at most this in every dimension for clips
            of the same emotion. None turns both losses off: the paper has no regression, and no distance suits all
            scales.
        calibration_temperature (`float`, *optional*):
            Divides the logits before the softmax in the pipeline, so that predictions with a score of 0.7 are right
            about 70 % of the time. Fitted on held-out clips after training; it changes no label. None does not divide.
        trained_on_generated_data (`bool`, defaults to `False`):
            Set on checkpoints that were trained on generated clips only; the pipeline then warns that their labels mean
            nothing for real people.
        id2label, label2id, num_labels:
            The classes, as everywhere in transformers; where they disagree, `id2label` is used and a warning says so.
            Without any of them: 0 happy, 1 neutral, 2 sad, 3 angry.

    Example:

    ```python
    >>> from foal_hf import FoalNetConfig, FoalNetForEmotionClassification

    >>> config = FoalNetConfig()  # the published model
    >>> config.id2label
    {0: 'happy', 1: 'neutral', 2: 'sad', 3: 'angry'}
    >>> model = FoalNetForEmotionClassification(config)  # random weights
    ```
    """

    model_type = "foal_net"
    sub_configs = {"audio_config": AutoConfig, "vision_config": AutoConfig}
    # Trainer's predictions are then the logits alone, without losses and embeddings.
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "classification_loss",
        "alignment_loss",
        "matching_loss",
        "audio_embeds",
        "video_embeds",
        "audio_pooler_output",
        "video_pooler_output",
        "audio_last_hidden_state",
        "video_last_hidden_state",
        "audio_mask",
        "video_mask",
        "audio_fusion_input",
        "video_fusion_input",
        "hidden_states",
        "attentions",
    ]

    # transformers copies the code of a class beside its config because of this mark.
    _auto_class: ClassVar[str | None] = "AutoConfig"
    # Set by `import foal_hf`, which registers the auto classes and the pipeline. What a checkpoint says of its own code
    # is then ignored: `pipeline` would ask for `trust_remote_code`.
    _is_registered: ClassVar[bool] = False
    # Fields that only appear in saved files where they are not the default.
    _saved_where_set: ClassVar[tuple[str, ...]] = (
        *("audio_feature_dim", "video_feature_dim", "audio_features_from", "video_features_from"),
        *("audio_layers", "freeze_audio_encoder"),
    )
    # Former names of fields to present ones, so that checkpoints of older releases load.
    _renamed: ClassVar[dict[str, str]] = {}

    # Any: given as a config, a dict or None, and a config after __post_init__, which mypy cannot express.
    audio_config: Any = None
    vision_config: Any = None
    vision_pooling: Literal["projection", "pooler", "cls", "mean"] | None = None
    projection_dim: int = 512
    projection_dropout: float | int = 0.5
    num_fusion_layers: int = 2
    num_fusion_heads: int = 4
    fusion_dropout: float | int = 0.1
    sequence_dropout: float | int = 0.1
    classifier_dropout: float | int = 0.1
    temperature_init_value: float | int = math.log(1 / 0.07)
    alignment_loss_weight: float | int = 1.0
    matching_loss_weight: float | int = 0.1
    evaluation_negatives: Literal["hardest", "random"] = "hardest"
    matching_needs_negative: bool = True
    gather_with_gradient: bool = True
    modality_dropout: float | int = 0.0
    freeze_vision_encoder: bool = True
    same_emotion_distance: float | int | None = None
    freeze_audio_feature_encoder: bool = True
    freeze_audio_encoder: bool = False
    audio_layers: str | list[int] | tuple[int, ...] = "last"
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    calibration_temperature: float | int | None = None
    trained_on_generated_data: bool = False
    audio_feature_dim: int | None = None
    video_feature_dim: int | None = None
    audio_features_from: str | None = None
    video_features_from: str | None = None
    vision_window_frames: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for former, present in self._renamed.items():
            if former in kwargs:
                setattr(self, present, kwargs.pop(former))
        if self._is_registered:
            kwargs = {name: value for name, value in kwargs.items() if name not in ("auto_map", "custom_pipelines")}
        if self.audio_config is not None or self.audio_feature_dim is None:
            self.audio_config = _as_config(self.audio_config, "wavlm", _WAVLM_LARGE)
            # Of a model of audio and text, its part for audio.
            self.audio_config = getattr(self.audio_config, "audio_config", self.audio_config)
        if isinstance(self.audio_layers, tuple):
            self.audio_layers = list(self.audio_layers)  # as it is read from a file
        if self.vision_config is not None or self.video_feature_dim is None:
            self.vision_config = _as_config(self.vision_config, "clip_vision_model", _CLIP_VIT_LARGE)
        if self.vision_pooling is None and self.vision_config is not None:
            self.vision_pooling = self.vision_interface.pooling  # type: ignore[assignment]
        if self.id2label is None and self.label2id is not None:
            self.id2label = {int(index): name for name, index in self.label2id.items()}
        num_labels = kwargs.get("num_labels")
        if self.id2label is None and num_labels is None:
            if self.problem_type == "regression":
                raise ValueError(
                    "`problem_type='regression'` needs names for its numbers, or how many there are; give `id2label`, "
                    "such as {0: 'valence', 1: 'activation', 2: 'dominance'}, or `num_labels`."
                )
            self.id2label = dict(enumerate(PUBLISHED_LABELS))
        if self.id2label is not None:  # the saved file may still hold the `label2id` of former labels
            self.id2label = {int(index): name for index, name in self.id2label.items()}
            self.label2id = {name: index for index, name in self.id2label.items()}
            if num_labels not in (None, len(self.id2label)):
                logger.warning(
                    f"`num_labels` is {num_labels}, but `id2label` names {len(self.id2label)} labels, which are used: "
                    f"{', '.join(self.id2label.values())}."
                )
            kwargs.pop("num_labels", None)
        if self.problem_type is None and (num_labels == 1 or len(self.id2label or {}) == 1):
            self.problem_type = "regression"
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but labels that are given replace all labels of the dict."""
        names = ("id2label", "label2id", "num_labels")
        given = {name: kwargs.pop(name) for name in names if kwargs.get(name) is not None}
        if given and given != {"num_labels": len(config_dict.get("id2label") or {})}:
            config_dict = {name: value for name, value in config_dict.items() if name not in names} | given
        return super().from_dict(config_dict, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """As in transformers, and the code of the model."""
        before = set(vars(self))
        super().save_pretrained(save_directory, push_to_hub, **kwargs)
        write_code(save_directory)
        if "auto_map" not in before:  # transformers sets a part of it here; the file has all of it
            vars(self).pop("auto_map", None)

    def to_diff_dict(self) -> dict[str, Any]:
        """As in transformers: the content of the saved file. It names the code, and no local path."""
        code = {"auto_map": dict(AUTO_MAP), "custom_pipelines": copy.deepcopy(CUSTOM_PIPELINES)}
        values = {**super().to_diff_dict(), **code}
        for encoder in (values.get(name) or {} for name in self.sub_configs):
            # A Hub name says where weights come from; a path on this machine means nothing elsewhere.
            name = encoder.get("_name_or_path", "")
            if os.path.isabs(name) or os.path.exists(name):
                encoder["_name_or_path"] = ""
        unset = [name for name in self._saved_where_set if values.get(name) == getattr(type(self), name)]
        return {name: value for name, value in values.items() if name not in unset}

    @property
    def audio_width(self) -> int:
        """Width of the audio encoder's sequence, or of the features in its place."""
        return (self.audio_feature_dim or 0) if self.audio_config is None else self.audio_traits.width

    @property
    def audio_traits(self) -> AudioTraits:
        """What the audio encoder takes and gives."""
        return AudioTraits(min_length=0) if self.audio_config is None else audio_traits(self.audio_config)

    @property
    def audio_input_name(self) -> str:
        """How the model's audio input is called: `"input_values"` or `"input_features"`, as its audio encoder says."""
        return self.audio_traits.input_name

    @property
    def audio_layer_range(self) -> tuple[int, int] | None:
        """The first and the last of the layers that are summed; None for the last one alone."""
        layers: Any = self.audio_layers
        if layers == "last":
            _ = self.audio_traits
            return None
        if layers != "all" and not (len(layers) == 2 and all(isinstance(layer, int) for layer in layers)):
            raise ValueError(f"`audio_layers` is {layers!r}; expected 'last', 'all' or [first, last].")
        if self.audio_config is None:
            raise ValueError(f"`audio_layers` is {layers!r}, but with `audio_feature_dim` there is no audio encoder.")
        num_layers = num_audio_layers(self.audio_config)
        first, last = (0, num_layers - 1) if layers == "all" else layers
        if not 0 <= first <= last < num_layers:
            raise ValueError(
                f"`audio_layers` is {layers!r}; expected 0 <= first <= last <= {num_layers - 1}: this audio encoder "
                f"has {num_layers - 1} layers, and 0 is the embedding before the first."
            )
        return first, last

    @property
    def min_audio_samples(self) -> int:
        """Samples that the audio encoder needs for one frame (400, which is 25 ms, in the published encoders).

        Of an encoder of spectrograms, the frames that it needs.
        """
        return self.audio_traits.min_length

    @property
    def shortest_sound(self) -> int:
        """Former name of `min_audio_samples`."""
        return self.min_audio_samples

    @property
    def video_width(self) -> int:
        """Width of the vector that the image encoder returns for a frame, or of the features in its place."""
        return self.vision_interface.width if self.vision_config is not None else self.video_feature_dim or 0

    @property
    def vision_interface(self) -> VisionInterface:
        """How the image encoder is made and called, and how its output becomes one vector a frame."""
        return vision_interface(self.vision_config, self.vision_pooling, self.vision_window_frames)

    def describe_features(self, side: str) -> str:
        """Which features a side without an encoder takes, in words, as in `"video features of width 768 from CLIP"`.

        Args:
            side (`"audio"` or `"video"`): The side.
        """
        width, source = getattr(self, f"{side}_width"), getattr(self, f"{side}_features_from")
        origin = source or f"an extractor that the checkpoint does not name (`{side}_features_from` is not set)"
        return f"{side} features of width {width} from {origin}"

    def validate_foal_net(self) -> None:
        """Part of the `@strict` validation, on construction."""
        self._validate_features()
        _ = self.audio_layer_range  # refuses what is no audio encoder, and layers that it does not have
        for name in ("projection_dim", "num_fusion_layers", "num_fusion_heads", "temperature_init_value"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"`{name}` is {value}; expected more than 0.")
        if self.problem_type not in (None, *_PROBLEM_TYPES):  # transformers accepts any, and trains single labels
            raise ValueError(f"Unknown `problem_type` {self.problem_type!r}; expected {', '.join(_PROBLEM_TYPES)}.")
        distance = self.same_emotion_distance
        if distance is not None and not (distance >= 0 and self.problem_type == "regression"):
            raise ValueError(
                f"`same_emotion_distance` is {distance} with `problem_type={self.problem_type!r}`; expected 0 or more, "
                "and `problem_type='regression'`."
            )
        temperature = self.calibration_temperature
        if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"`calibration_temperature` is {temperature}; expected more than 0, or None.")
        if temperature is not None and self.problem_type == "regression":
            raise ValueError(f"`calibration_temperature` is {temperature}; expected None, as regression has no scores.")
        for side, width in (("audio", self.audio_width), ("video", self.video_width)):
            if width % self.num_fusion_heads:
                raise ValueError(
                    f"`num_fusion_heads` is {self.num_fusion_heads}; expected a divisor of the {side} width {width}."
                )
        names = dict(self.id2label or {})
        if sorted(names) != list(range(len(names))) or len(set(names.values())) != len(names):
            raise ValueError(f"`id2label` is {names}; expected different names, numbered from 0.")
        for name in ("projection", "fusion", "sequence", "classifier", "modality"):
            value = getattr(self, f"{name}_dropout")
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}_dropout` is {value}; expected a probability in [0, 1).")
        for name in ("alignment", "matching"):
            value = getattr(self, f"{name}_loss_weight")
            if not value >= 0:
                raise ValueError(f"`{name}_loss_weight` is {value}; expected 0 (turns the loss off) or more.")

    def _validate_features(self) -> None:
        for side, encoder in (("audio", "audio_config"), ("video", "vision_config")):
            width, source = getattr(self, f"{side}_feature_dim"), getattr(self, f"{side}_features_from")
            if width is None and source is not None:
                raise ValueError(
                    f"`{side}_features_from` is {source!r} without `{side}_feature_dim`; set the width of the features "
                    f"too, or, for a model with an encoder, neither."
                )
            if width is None:
                continue
            if getattr(self, encoder) is not None:
                raise ValueError(
                    f"`{encoder}` and `{side}_feature_dim` are both given; expected `{encoder}` for a model with that "
                    f"encoder, or `{side}_feature_dim` for one that takes features in its place."
                )
            if width < 1:
                raise ValueError(f"`{side}_feature_dim` is {width}; expected 1 or more.")
        for name in ("vision_pooling", "vision_window_frames"):
            if self.vision_config is None and getattr(self, name) is not None:
                raise ValueError(
                    f"`{name}` is {getattr(self, name)!r}, but with `video_feature_dim` there is no image encoder that "
                    "it could be about; remove it."
                )


def _as_config(value: Any, default_type: str, defaults: dict[str, Any]) -> PreTrainedConfig:
    """Make a sub-config from a config, a dict (as read from JSON), or None."""
    if value is None:
        return CONFIG_MAPPING[default_type](**defaults)
    if isinstance(value, dict):
        return CONFIG_MAPPING[value.get("model_type", default_type)](**value)
    return value


__all__ = ["FoalNetConfig"]
