"""What an audio encoder takes and gives, found by running its class without weights: no table of encoders.

Shapes: `batch` clips of `length` input steps, which are samples of a waveform or frames of a spectrogram; `bins` of a
frame; `positions` of the encoder's output, each `width` wide.
"""

import copy
import importlib
import inspect
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel


AUDIO_INPUTS = ("input_values", "input_features")
_TRIAL_SAMPLES = (16000, 32000)
_TRIAL_FRAMES = (194, 388)  # no encoder has that many bins, so the time axis shows
_MAX_PREFIX_TOKENS = 8

# What was found, as finding it builds a model, if one without weights. The class depends on the class of the config.
_PARTS: dict[type, tuple[type[PreTrainedModel], str]] = {}
_TRAITS: dict[tuple[type, str], "AudioTraits"] = {}
_LAYERS: dict[tuple[type, str], int] = {}


@dataclass(frozen=True)
class AudioTraits:
    """What is known of an audio encoder.

    Args:
        input_name (`"input_values"` or `"input_features"`): How it calls its input.
        input_dims (`int`): Dimensions of that input: 2 for waveforms `(batch, samples)`, else a spectrogram.
        time_dim (`int`): Which of them is time.
        width (`int`): Width of its sequence.
        min_length (`int`): Input steps that it needs for one position.
        multiple (`int`): Input steps must be a multiple of this.
        window (`int`, *optional*): The most input steps that it takes; None for any number.
        is_fixed (`bool`): Whether each clip must fill the window, as its feature extractor pads it.
        masks_padding (`bool`): Whether padding with its mask gives a clip what the clip alone gives.
        grid (`tuple[int, int, int]`, *optional*): Where the output is one token a patch: tokens before the patches,
            patches along the first dimension and along the second.
        time_is_last (`bool`): Whether time is the last dimension of that grid.
        step (`int`, *optional*): Frames from one patch to the next.
        example_shape (`tuple[int, ...]`): The shape of an input.
    """

    input_name: str = "input_values"
    input_dims: int = 2
    time_dim: int = 1
    width: int = 0
    min_length: int = 1
    multiple: int = 1
    window: int | None = None
    is_fixed: bool = False
    masks_padding: bool = False
    grid: tuple[int, int, int] | None = None
    time_is_last: bool = True
    step: int | None = None
    example_shape: tuple[int, ...] = (1, _TRIAL_SAMPLES[0])


def audio_traits(config: PreTrainedConfig) -> AudioTraits:
    """The traits of the encoder that a config describes.

    Raises:
        ValueError: If it cannot be used; says what is missing.
    """
    if hasattr(config, "conv_stride") and hasattr(config, "conv_kernel"):  # of the wav2vec 2.0 kind: all is in there
        squeeze = getattr(config, "squeeze_factor", 1)  # SEW joins positions
        return AudioTraits(
            width=config.output_hidden_size if getattr(config, "add_adapter", False) else config.hidden_size,
            min_length=_receptive_field((*config.conv_kernel, squeeze), (*config.conv_stride, squeeze)),
            masks_padding=_masks_padding(config),
        )
    key = type(config), config.to_json_string(use_diff=False)
    if key not in _TRAITS:
        _TRAITS[key] = _observe(config)
    return _TRAITS[key]


def num_audio_layers(config: PreTrainedConfig) -> int:
    """How many hidden states the encoder of a config gives, the embedding before its first layer included.

    Raises:
        ValueError: If they cannot be summed, as they have other shapes than its output.
    """
    key = type(config), config.to_json_string(use_diff=False)
    if key not in _LAYERS:
        encoder = _without_weights(audio_part(config)[0], config)
        traits = audio_traits(config)
        inputs = torch.zeros(traits.example_shape, device="meta")
        with torch.no_grad():
            output = call_encoder(encoder, inputs, traits.time_dim, output_hidden_states=True)
        shapes = [tuple(states.shape) for states in output.get("hidden_states") or ()]
        if set(shapes) != {tuple(output.last_hidden_state.shape)}:
            raise ValueError(
                f"`audio_layers` must be 'last' for {type(encoder).__name__}: its layers cannot be summed: its output "
                f"has the shape {tuple(output.last_hidden_state.shape)}, and the hidden states have "
                f"{', '.join(map(str, dict.fromkeys(shapes))) or 'not been given'}."
            )
        _LAYERS[key] = len(shapes)
    return _LAYERS[key]


def audio_part(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], str]:
    """The class of the audio encoder that a config describes, and where it is in a whole model: "" if it is that model.

    Of a model with a decoder (Whisper) it is the encoder, of a model of audio and text (CLAP) the audio tower.

    Raises:
        ValueError: If no class of transformers belongs to the config, or the model has no audio encoder.
    """
    if type(config) not in _PARTS:
        _PARTS[type(config)] = _find_audio_part(config)
    return _PARTS[type(config)]


def _find_audio_part(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], str]:
    model_class = _model_class(type(config))
    if hasattr(config, "conv_stride"):
        return model_class, ""
    for name, module in _without_weights(model_class, config).named_modules():
        if not isinstance(module, PreTrainedModel) or module.main_input_name not in AUDIO_INPUTS:
            continue
        inner = (part for part in module.modules() if isinstance(part, PreTrainedModel))
        if all(type(part).main_input_name in AUDIO_INPUTS for part in inner):  # it has no decoder of text
            return type(module), name
    raise ValueError(
        f"`audio_config` is of type {config.model_type!r}; expected an audio encoder. {model_class.__name__} has "
        f"no part whose `main_input_name` is {' or '.join(AUDIO_INPUTS)}."
    )


def _model_class(kind: type[PreTrainedConfig]) -> Any:
    if kind in MODEL_MAPPING:
        return MODEL_MAPPING[kind]
    # A part of a model, such as the audio tower of CLAP, has no auto class: it is beside its config.
    name = kind.__name__.removesuffix("Config") + "Model"
    with suppress(ImportError, AttributeError):
        return getattr(importlib.import_module(kind.__module__.replace(".configuration_", ".modeling_")), name)
    raise ValueError(
        f"`audio_config` is of type {kind.model_type!r}, for which no model class is known; expected the config of an "
        "audio encoder. For your own encoder call `AutoModel.register(its_config_class, its_model_class)` first."
    )


def _without_weights(model_class: Any, config: PreTrainedConfig) -> Any:
    """A model on the meta device; it draws nothing from the random state."""
    config = copy.deepcopy(config)
    # What a model was loaded with may be what only our own class of it has (WavLM), and shapes do not depend on it.
    config._attn_implementation = "eager"
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return model_class._from_config(config).eval()


def _observe(config: PreTrainedConfig) -> AudioTraits:
    """Run the encoder without weights on audio of two lengths, in each layout that it may take."""
    encoder_class, _ = audio_part(config)
    encoder = _without_weights(encoder_class, config)
    problems = []
    for trial in _trials(encoder):
        try:
            output, images = trial.run(encoder, trial.short)
        except Exception as error:
            problems.append(f"{trial.shape(trial.short)}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")
            continue
        return _traits_from(encoder, trial, output, images)
    raise ValueError(
        f"`audio_config` is of type {config.model_type!r}, and its {encoder_class.__name__} took none of the inputs "
        f"that were tried: {'; '.join(problems)}. Expected `{encoder_class.main_input_name}` of the shape (batch, "
        "samples), (batch, frames, bins), (batch, bins, frames) or (batch, 1, frames, bins), and an output with "
        "`last_hidden_state`."
    )


@dataclass(frozen=True)
class _Trial:
    """A layout of the input: what is before and behind the time in its shape; and two lengths to try."""

    before: tuple[int, ...]
    behind: tuple[int, ...]
    short: int
    long: int

    @property
    def time_dim(self) -> int:
        return len(self.before)

    def shape(self, length: int) -> tuple[int, ...]:
        return (*self.before, length, *self.behind)

    def run(self, encoder: Any, length: int) -> tuple[torch.Size, list[tuple[Any, ...]]]:
        """The shape of the output, and of each image convolution the shapes into and out of it, and its strides."""
        images: list[tuple[Any, ...]] = []

        def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            images.append((inputs[0].shape, output.shape, module.stride))

        handles = [part.register_forward_hook(note) for part in encoder.modules() if isinstance(part, nn.Conv2d)]
        try:
            with torch.no_grad():
                output = call_encoder(encoder, torch.zeros(self.shape(length), device="meta"), self.time_dim)
            return output.last_hidden_state.shape, images
        finally:
            for handle in handles:
                handle.remove()


def _trials(encoder: Any) -> Iterator[_Trial]:
    if encoder.main_input_name == "input_values":
        yield _Trial((1,), (), *_TRIAL_SAMPLES)
    bins, window = _bins(encoder), getattr(encoder.config, "max_length", None)
    lengths = _TRIAL_FRAMES
    if _has_position_table(encoder):
        half = encoder.embed_positions.num_embeddings // 2 * _multiple(encoder)
        lengths = (half, 2 * half)
    for short, long in (lengths, (window, window)):
        if short is not None and long is not None:
            yield _Trial((1,), (bins,), short, long)
            yield _Trial((1, bins), (), short, long)
            yield _Trial((1, 1), (bins,), short, long)


def _bins(encoder: Any) -> int:
    """How wide a frame of the input is, from the config or from the first layer."""
    for name in ("num_mel_bins", "feature_projection_input_dim", "input_feat_per_channel", "feature_size"):
        if isinstance(value := getattr(encoder.config, name, None), int):
            return value
    for module in encoder.modules():
        if isinstance(module, nn.Conv1d):
            return module.in_channels
        if isinstance(module, nn.Linear):
            return module.in_features
        if isinstance(module, nn.LayerNorm):
            return module.normalized_shape[-1]
    return 1


def _traits_from(encoder: Any, trial: _Trial, output: torch.Size, images: list[Any]) -> AudioTraits:
    common: dict[str, Any] = {
        "input_name": encoder.main_input_name,
        "input_dims": len(trial.shape(1)),
        "time_dim": trial.time_dim,
        "example_shape": trial.shape(trial.short),
    }
    if len(output) == 4:  # (batch, width, frequencies, positions), as in CLAP
        return AudioTraits(**common, width=output[1], is_fixed=True)
    if len(output) != 3:
        raise ValueError(
            f"The `last_hidden_state` of {type(encoder).__name__} has the shape {tuple(output)}; expected (batch, "
            "positions, width): Foal-Net needs a sequence over time."
        )
    common["width"] = output[2]
    if trial.long == trial.short:
        return AudioTraits(**common, is_fixed=True, window=trial.short, **_grid(encoder, trial, output, images))
    if trial.run(encoder, trial.long)[0] == output:  # any audio gives as many tokens
        return AudioTraits(**common, is_fixed=True, **_grid(encoder, trial, output, images))
    multiple = _multiple(encoder)

    def gives_a_position(length: int) -> bool:
        with suppress(Exception):
            return trial.run(encoder, length)[0][1] > 0
        return False

    least, most = 0, trial.short // multiple  # bisection: `most` is enough, `least` is not
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if gives_a_position(middle * multiple) else (middle, most)
    return AudioTraits(
        **common,
        min_length=most * multiple,
        multiple=multiple,
        window=encoder.embed_positions.num_embeddings * multiple if _has_position_table(encoder) else None,
        masks_padding=_masks_padding(encoder.config, encoder)
        and int(num_positions(encoder, torch.tensor(trial.short, device="cpu"))) == output[1],
    )


def _grid(encoder: Any, trial: _Trial, output: torch.Size, images: list[Any]) -> dict[str, Any]:
    for taken, given, strides in images:
        rows, columns = given[-2:]
        prefix = output[1] - rows * columns
        if trial.short in taken[-2:] and 0 <= prefix <= _MAX_PREFIX_TOKENS:
            time_is_last = taken[-1] == trial.short
            return {"grid": (prefix, rows, columns), "time_is_last": time_is_last, "step": strides[int(time_is_last)]}
    raise ValueError(
        f"{type(encoder).__name__} gives {output[1]} tokens for audio of any length, and no convolution of patches "
        "explains them: nothing says which token belongs to which time."
    )


def _receptive_field(kernels: Any, strides: Any) -> int:
    samples = 1
    for kernel, stride in zip(reversed(kernels), reversed(strides), strict=True):
        samples = (samples - 1) * stride + kernel
    return samples


def _masks_padding(config: Any, encoder: Any = None) -> bool:
    """Whether an encoder gives padded audio with its mask what it gives the audio alone.

    Not with a group norm over time (the "base" encoders), nor where convolutions over positions read padding: stacked
    positional ones (data2vec-audio), those that squeeze positions (SEW), those of an adapter, and those of conformers
    unless they get the mask (Wav2Vec2-BERT, Parakeet).
    """
    if getattr(config, "add_adapter", False):
        return False
    if encoder is not None:
        owners = _owners_of_convolutions(encoder)
        return bool(owners) and all("attention_mask" in inspect.signature(each.forward).parameters for each in owners)
    reads_padding = ("conv_pos_kernel_size", "squeeze_factor", "conv_depthwise_kernel_size")
    return getattr(config, "feat_extract_norm", "layer") == "layer" and not any(
        hasattr(config, name) for name in reads_padding
    )


def _owners_of_convolutions(encoder: Any) -> list[nn.Module]:
    """Modules that run a convolution over positions; none if the encoder itself does: nothing says what it masks."""
    owners = []
    for name, part in encoder.named_modules():
        if not isinstance(part, nn.Conv1d | nn.Conv2d) or max(part.kernel_size) == 1:
            continue
        owner: nn.Module = part
        while isinstance(owner, nn.Conv1d | nn.Conv2d | nn.ModuleList | nn.Sequential):
            name = name.rpartition(".")[0]
            owner = encoder.get_submodule(name)
        if owner is encoder:
            return []
        owners.append(owner)
    return owners


def num_positions(encoder: Any, lengths: torch.Tensor) -> torch.Tensor:
    """Positions of clips, by the encoder's formula; an encoder without one has one position a step."""
    for name in ("_get_feat_extract_output_lengths", "_get_subsampling_output_length"):
        if (formula := getattr(encoder, name, None)) is not None:
            return formula(lengths).long().clamp(min=0)
    return lengths


def _has_position_table(encoder: Any) -> bool:
    table = getattr(encoder, "embed_positions", None)
    return isinstance(table, nn.Embedding) and _positions(encoder) == table.num_embeddings


def _positions(encoder: Any) -> int | None:
    return getattr(encoder.config, "max_source_positions", None)


def _multiple(encoder: Any) -> int:
    """Input steps for one position, where each position has its place in a table."""
    if not _has_position_table(encoder):
        return 1
    return math.prod(part.stride[0] for part in encoder.children() if isinstance(part, nn.Conv1d))


def check_length(length: int, multiple: int, most: int) -> None:
    """Raise `ValueError` for a clip of more frames than an encoder takes, or of no multiple of those of a position."""
    if length % multiple or length > most:
        raise ValueError(
            f"A clip of {length} frames; this audio encoder takes a multiple of {multiple} and at most {most}. The "
            "processor gives such multiples; cut longer clips with its `max_seconds`."
        )


def call_encoder(encoder: Any, inputs: torch.Tensor, time_dim: int, **kwargs: Any) -> Any:
    """Call an audio encoder; one that takes only its whole window (Whisper) is called for a shorter clip.

    Its table of positions is cut to those of the clip: nothing is padded, and the clip costs what its length costs. It
    is the encoder of a config whose `max_source_positions` are those of the clip.
    """
    if "is_longer" in inspect.signature(type(encoder).forward).parameters:  # of CLAP; longer clips never come here
        kwargs["is_longer"] = torch.zeros(inputs.shape[0], 1, dtype=torch.bool, device=inputs.device)
    positions = inputs.shape[time_dim] // _multiple(encoder)
    if not _has_position_table(encoder) or positions == _positions(encoder):
        return encoder(inputs, **kwargs)
    multiple = _multiple(encoder)
    check_length(inputs.shape[time_dim], multiple, encoder.embed_positions.num_embeddings * multiple)
    short = copy.copy(encoder)
    weight = encoder.embed_positions.weight[:positions]
    table = nn.Embedding(positions, weight.shape[1], device="meta")
    table._parameters["weight"] = weight  # a view, through which gradients pass
    short._modules = {**encoder._modules, "embed_positions": table}
    short.config = copy.deepcopy(encoder.config)
    vars(short.config)["max_source_positions"] = positions  # unchecked, as it is symbolic in an export
    return type(encoder).forward(short, inputs, **kwargs)


__all__ = [
    "AUDIO_INPUTS",
    "AudioTraits",
    "audio_part",
    "audio_traits",
    "call_encoder",
    "check_length",
    "num_audio_layers",
    "num_positions",
]
