"""Single steps of a recipe's model on the meta device: made without a weight, counted by `counting.py`."""

import contextlib
import copy
import functools
import math
from pathlib import Path
from typing import Any, Literal

import torch
import yaml  # type: ignore[import-untyped]
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from ..data.features.keys import storable_sides
from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.video_processing_foal_net import FoalNetVideoProcessor
from ..foal_net.vision_encoders_foal_net import is_trained
from ..training.arguments import FoalNetTrainingArguments
from .counting import AsOn, Work, count_step
from .machines import Machine
from .recipe import FEATURES, Recipe


Source = Literal["video", "features"]

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Bytes of an optimiser's state for each trained parameter, by how its name begins; the two moments of Adam otherwise.
_STATE_BYTES = {"sgd": 0, "adafactor": 0, "adagrad": 4, "rmsprop": 4}
_ADAM_BYTES = 8
_IMAGES = 64  # of one pass of the image encoder, as in `foal-hf embed`


def config_of(recipe: Recipe, num_labels: int = 4) -> FoalNetConfig:
    """The config that a recipe's model would have, with the sizes of its encoders and without their weights.

    Args:
        recipe ([`Recipe`]): Names the encoders.
        num_labels (`int`, defaults to 4): Number of classes.

    Raises:
        OSError: If the configuration of an encoder is neither packaged nor found.
        ValueError: If the recipe has features in place of an encoder.
    """
    if FEATURES in (recipe.audio_encoder, recipe.vision_encoder):
        raise ValueError(f"The recipe {recipe.name} has features in place of an encoder, which cannot be estimated.")
    fields = {**recipe.config, "id2label": {label: str(label) for label in range(num_labels)}}
    if recipe.audio_encoder is None or recipe.vision_encoder is None:
        return recipe.from_scratch.config(fields)
    vision = _encoder_config(recipe.vision_encoder)
    vision = getattr(vision, "vision_config", vision)  # of a model of images and text
    return FoalNetConfig(audio_config=_encoder_config(recipe.audio_encoder), vision_config=vision, **fields)


def _encoder_config(name: str) -> PreTrainedConfig:
    packaged = yaml.safe_load((Path(__file__).parent / "encoders.yaml").read_text(encoding="utf-8"))
    if name in packaged:
        return CONFIG_MAPPING[packaged[name]["model_type"]](**packaged[name])
    try:
        return AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise OSError(
            f"No configuration of the encoder {name!r}: it is neither packaged ({', '.join(packaged)}), nor a folder, "
            f"nor in the cache of the Hub, nor could it be fetched. {error}"
        ) from error


class Steps:
    """The steps of a recipe's model on the meta device."""

    def __init__(self, recipe: Recipe, machine: Machine, num_labels: int) -> None:
        training = recipe.training
        self.machine = machine
        self.batch_size: int = training.get(
            "per_device_train_batch_size", FoalNetTrainingArguments.per_device_train_batch_size
        )
        processor = recipe.processor
        if recipe.is_from_scratch:
            processor = {**recipe.from_scratch.make_processor().video_processor.to_dict(), **processor}
        self.frames_per_second: float = processor.get("frames_per_second", FoalNetVideoProcessor.frames_per_second)
        chosen = next((name for name in _HALF if training.get(name)), recipe.precision)
        self.precision: str = chosen if machine.device_type == "cuda" else "fp32"
        if self.precision == "bf16" and not machine.has_bf16:
            raise ValueError(f"{machine.name} has no bf16. Train in fp16: `--set precision=fp16`.")
        self.config = config_of(recipe, num_labels)
        traits = self.config.audio_traits
        self.clip_by_clip = not traits.masks_padding and not traits.is_fixed
        with torch.device("meta"):
            model: Any = FoalNetForEmotionClassification(copy.deepcopy(self.config))
        self.model: Any = model.to("meta")  # some encoders put a vector of random numbers on the CPU all the same
        if training.get("gradient_checkpointing"):
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            again = functools.partial(AsOn, machine.device_type, _HALF.get(self.precision))
            settings = {"context_fn": lambda: (contextlib.nullcontext(), again()), "preserve_rng_state": False}
            enable({"use_reentrant": False, **settings})
        audio = self.model.foal_net.audio_encoder.config
        for name in ("mask_time_prob", "mask_feature_prob", "layerdrop"):  # what they do depends on drawn numbers
            if hasattr(audio, name):
                setattr(audio, name, 0.0)
        # What the config finds out by running encoders is kept, and must not be counted with the first step.
        _ = self.model.config.audio_layer_range, self.model.config.vision_interface
        vision = self.model.foal_net.vision_encoder
        self.has_features = not is_trained(vision)
        size = processor.get("crop_size") or processor.get("size") or {}
        height, width = self.config.vision_interface.image_size
        edge = size.get("shortest_edge")
        self.image_size: tuple[int, int] = (size.get("height", edge or height), size.get("width", edge or width))
        trained = [each for each in self.model.parameters() if each.requires_grad]
        self.parameters = self.model.num_parameters()
        self.trained_parameters = sum(each.numel() for each in trained)
        self.weight_bytes = sum(each.nbytes for each in (*self.model.parameters(), *self.model.buffers()))
        self.gradient_bytes = sum(each.nbytes for each in trained)
        optimizer = str(training.get("optim", "adamw_torch_fused"))
        per_parameter = next((size for name, size in _STATE_BYTES.items() if optimizer.startswith(name)), _ADAM_BYTES)
        self.optimizer_bytes = per_parameter * self.trained_parameters
        self.assumptions = (
            f"The optimiser {optimizer} holds {per_parameter} bytes for each trained parameter; weights and gradients "
            "are fp32, whatever the products are.",
            "No time masks and no dropped layers of the audio encoder: both make a step a little cheaper.",
            *(
                ("Padding changes the output of this audio encoder, so each clip goes through it alone and unpadded.",)
                if self.clip_by_clip
                else ()
            ),
            *(
                ("The frozen audio encoder runs in every step; its output could be stored as well, which is cheaper.",)
                if "audio" in storable_sides(self.model)
                else ()
            ),
        )

    def count(self, source: Source, batch: int, seconds: float, *, backward: bool = True) -> Work:
        """A step on clips of one length.

        Raises:
            ValueError: If an encoder cannot run on the meta device.
        """
        self.model.train(backward)
        try:
            return count_step(
                self.model,
                lambda: self.make_batch(source, batch, seconds),
                device_type=self.machine.device_type,
                half=_HALF.get(self.precision),
                backward=backward,
            )
        except RuntimeError as error:  # its code looks at values, or makes tensors on the CPU
            raise ValueError(f"A step of this model cannot be counted without weights: {error}") from error

    def num_frames(self, seconds: float) -> int:
        """Frames of a clip."""
        return max(math.ceil(seconds * self.frames_per_second - 1e-6), 1)

    def peak_bytes(self, work: Work) -> int:
        """The most that is held in a training step."""
        return self.weight_bytes + self.optimizer_bytes + max(work.peak_bytes, self.gradient_bytes)

    @property
    def update_seconds(self) -> float:
        """The optimiser's part of a step: it reads weights, gradients and its state, and writes weights and state."""
        return (3 * self.gradient_bytes + 2 * self.optimizer_bytes) / self.machine.bytes_per_second

    @functools.cached_property
    def image_seconds(self) -> float:
        """The image encoder on one frame, in batches as `embed` makes them."""
        work = count_step(
            _ImageEncoder(self.model.foal_net),
            lambda: {"frames": torch.empty(1, _IMAGES, 3, *self.image_size, device="meta")},
            device_type=self.machine.device_type,
            half=_HALF.get(self.precision),
            backward=False,
        )
        return self.machine.seconds(work) / _IMAGES

    def make_batch(self, source: Source, batch: int, seconds: float) -> dict[str, torch.Tensor]:
        """The inputs of a step, on the meta device."""
        frames = self.num_frames(seconds)
        inputs = {
            self.config.audio_input_name: torch.empty(batch, *self._audio_shape(seconds), device="meta"),
            "labels": torch.empty(batch, dtype=torch.long, device="meta"),
        }
        if source == "video":
            pixels = torch.empty(batch, frames, 3, *self.image_size, device="meta")
            return {**inputs, "pixel_values_videos": pixels}
        return {**inputs, "video_features": torch.empty(batch, frames, self.config.video_width, device="meta")}

    @property
    def shortest_seconds(self) -> float:
        """What the audio encoder needs for one position."""
        return self.config.audio_traits.min_length / self._audio_rate

    @property
    def _audio_rate(self) -> int:
        """Steps of the audio encoder's input in a second."""
        config = self.config.audio_config
        if self.config.audio_traits.input_dims == 2:
            return getattr(config, "sampling_rate", None) or 16_000
        return 50 if hasattr(config, "feature_projection_input_dim") else 100  # Wav2Vec2-BERT joins two frames

    def _audio_shape(self, seconds: float) -> tuple[int, ...]:
        """Of the audio encoder's input, without the batch."""
        traits = self.config.audio_traits
        shape = list(traits.example_shape)
        if not traits.is_fixed:
            length = max(round(seconds * self._audio_rate), traits.min_length)
            shape[traits.time_dim] = math.ceil(length / traits.multiple) * traits.multiple
        elif traits.window is not None:
            shape[traits.time_dim] = traits.window
        return tuple(shape[1:])


class _ImageEncoder(torch.nn.Module):
    def __init__(self, foal_net: Any) -> None:
        super().__init__()
        self.foal_net = foal_net

    def forward(self, frames: torch.Tensor) -> Any:
        return self.foal_net.encode_video(frames)


__all__ = ["Source", "Steps", "config_of"]
