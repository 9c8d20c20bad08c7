"""Recipes: what a training run is made of, as a small YAML file.

    description: One sentence.
    base: paper                                   # another recipe that this one changes; optional
    encoders: {audio: microsoft/wavlm-large, vision: openai/clip-vit-large-patch14}
    precision: bf16                               # where there is a GPU; always fp32 on a CPU
    config: {alignment_loss_weight: 1.0}          # fields of FoalNetConfig
    processor: {frames_per_second: 30.0}          # fields of FoalNetVideoProcessor, and `normalize_waveform`
    data: {padding: longest}                      # `padding` and `keep_in_memory`
    training: {learning_rate: 1e-4}               # fields of FoalNetTrainingArguments, so all of TrainingArguments

Every part may be left out. Without encoders the tiny model of `tiny.py` is trained from scratch. What is written
wrong is said when the recipe is read, not when training has begun.
"""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from transformers import PreTrainedConfig

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..training.arguments import FoalNetTrainingArguments


Precision = Literal["fp32", "bf16", "fp16"]

_FOLDER = Path(__file__).parent / "recipes"
_SECTIONS = ("config", "processor", "data", "training")
# What comes with the corpus, the encoders and the folder of the run.
_NOT_IN_CONFIG = ("audio_config", "vision_config", "trained_on_generated_data", "calibration_temperature")
# `--output` and `--select` say these.
_NOT_IN_TRAINING = ("output_dir", "load_best_model_at_end", "resume_from_checkpoint")
_PROCESSOR_FIELDS: dict[str, Any] = {
    "normalize_waveform": bool | None,
    "frames_per_second": float,
    "max_seconds": float | None,
    "do_resize": bool,
    "size": dict,
    "resample": int,
    "do_center_crop": bool,
    "crop_size": dict | None,
    "do_rescale": bool,
    "rescale_factor": float,
    "do_normalize": bool,
    "image_mean": list,
    "image_std": list,
}
_DATA_FIELDS: dict[str, Any] = {"padding": Literal["longest", "max_length"], "keep_in_memory": bool}


@dataclass(frozen=True)
class Recipe:
    """How a Foal-Net is made and trained; everything but the clips.

    Args:
        name (`str`): Its file without the ending.
        description (`str`): A sentence.
        audio_encoder, vision_encoder (`str`, *optional*): Hub names or folders. Both or neither: without them the tiny
            model is trained from scratch.
        precision (`"fp32"`, `"bf16"` or `"fp16"`): In which it is trained where there is a GPU; on a CPU it is fp32.
        config (`dict`): Fields of [`FoalNetConfig`] that are not as by default.
        processor (`dict`): Fields of [`FoalNetVideoProcessor`] that are not those of the encoder, and
            `normalize_waveform`: whether the waveform is brought to mean 0 and variance 1; None, as by default, leaves
            that to the audio encoder's own feature extractor.
        data (`dict`): `padding`: `"longest"` of the batch, or `"max_length"`, which is `max_seconds`; `keep_in_memory`:
            decode each clip once, for small corpora.
        training (`dict`): Fields of [`FoalNetTrainingArguments`].

    Raises:
        ValueError: If a field is unknown or its value is of another type; the message lists what there is.
    """

    name: str
    description: str = ""
    audio_encoder: str | None = None
    vision_encoder: str | None = None
    precision: Precision = "fp32"
    config: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.audio_encoder is None) != (self.vision_encoder is None):
            raise ValueError(f"The recipe {self.name} names one encoder: `encoders` has to name audio and vision.")
        object.__setattr__(self, "precision", _typed(self.precision, Precision, "precision"))
        for section in _SECTIONS:
            object.__setattr__(self, section, _checked(section, getattr(self, section)))

    @property
    def padding(self) -> str:
        """What batches are padded to: `"longest"` or `"max_length"`."""
        return self.data.get("padding", "longest")

    @property
    def keep_in_memory(self) -> bool:
        """Whether each clip is decoded only once."""
        return self.data.get("keep_in_memory", False)

    @property
    def seed(self) -> int:
        """Of weights, batches and dropout, where a run is given none."""
        return self.training.get("seed", FoalNetTrainingArguments.seed)

    def with_encoders(self, audio_encoder: str, vision_encoder: str) -> "Recipe":
        """The same with other encoders (Hub names or folders)."""
        return dataclasses.replace(self, audio_encoder=audio_encoder, vision_encoder=vision_encoder)

    def with_settings(self, settings: Mapping[str, Any]) -> "Recipe":
        """The same with other settings.

        Args:
            settings (`Mapping[str, Any]`): By name, as in `{"learning_rate": 3e-5, "frames_per_second": 10}`. No name
                is in two sections; `"training.learning_rate"` is understood as well. Also `precision`.

        Raises:
            ValueError: If there is no such setting, or the value is of another type.

        Example:
            ```python
            >>> load_recipe("paper").with_settings({"learning_rate": 3e-5}).training["learning_rate"]
            3e-05
            ```
        """
        changed: dict[str, Any] = {section: dict(getattr(self, section)) for section in _SECTIONS}
        for name, value in settings.items():
            if name == "precision":
                changed["precision"] = value
            else:
                section, own_name = _find(name)
                changed[section][own_name] = value
        return dataclasses.replace(self, **changed)

    def as_dict(self) -> dict[str, Any]:
        """The recipe as its file would say it, bases resolved: plain values, ready for JSON or YAML."""
        encoders = {"audio": self.audio_encoder, "vision": self.vision_encoder} if self.audio_encoder else None
        sections = {section: getattr(self, section) for section in _SECTIONS}
        plain = {"description": self.description, "encoders": encoders, "precision": self.precision, **sections}
        return {name: value for name, value in plain.items() if value}


def available_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """Read a recipe.

    Args:
        name (`str` or `os.PathLike`): One of [`available_recipes`], or a YAML file of one's own.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the file is no YAML, or as in [`Recipe`].

    Example:
        ```python
        >>> load_recipe("paper").training["num_train_epochs"]
        40.0
        ```
    """
    return _load(os.fspath(name), seen=())


def _load(name: str, seen: Sequence[Path]) -> Recipe:
    path = Path(name) if name.endswith((".yaml", ".yml")) else _FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no recipe {name!r}; there is {', '.join(available_recipes())}, or a file of one's own (.yaml)."
        )
    if path in seen:
        raise ValueError(f"{path} is a base of itself.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    try:
        return _made(path, content, (*seen, path))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _made(path: Path, content: Any, seen: Sequence[Path]) -> Recipe:
    _check_keys("the recipe", content, ("description", "base", "encoders", "precision", *_SECTIONS))
    base = Recipe(path.stem)
    if "base" in content:
        own = str(content["base"])
        base = _load(os.fspath(path.parent / own) if own.endswith((".yaml", ".yml")) else own, seen)
    encoders = content.get("encoders") or {}
    _check_keys("encoders", encoders, ("audio", "vision"))
    sections = {}
    for section in _SECTIONS:
        given = content.get(section) or {}
        _check_keys(section, given, _fields(section))
        sections[section] = {**getattr(base, section), **given}
    return Recipe(
        name=path.stem,
        description=str(content.get("description", base.description)),
        audio_encoder=encoders.get("audio", base.audio_encoder),
        vision_encoder=encoders.get("vision", base.vision_encoder),
        precision=content.get("precision", base.precision),
        **sections,
    )


def _check_keys(where: str, value: Any, known: typing.Collection[str]) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; expected names with values.")
    unknown = [str(name) for name in value if name not in known]
    if unknown:
        raise ValueError(f"{where} has no {', '.join(unknown)}; it has {', '.join(known)}.")


def _fields(section: str) -> dict[str, Any]:
    """The settings of a section with their types."""
    if section == "config":
        inherited = {entry.name for entry in dataclasses.fields(PreTrainedConfig)} | set(_NOT_IN_CONFIG)
        return {entry.name: entry.type for entry in dataclasses.fields(FoalNetConfig) if entry.name not in inherited}
    if section == "training":
        hints = typing.get_type_hints(FoalNetTrainingArguments)
        names = [entry.name for entry in dataclasses.fields(FoalNetTrainingArguments) if entry.init]
        return {name: hints[name] for name in names if name not in _NOT_IN_TRAINING}
    return _PROCESSOR_FIELDS if section == "processor" else _DATA_FIELDS


def _find(name: str) -> tuple[str, str]:
    """Section and name of a setting."""
    prefix, _, rest = name.partition(".")
    sections = (prefix,) if prefix in _SECTIONS and rest else _SECTIONS
    own_name = rest if sections == (prefix,) else name
    for section in sections:
        if own_name in _fields(section):
            return section, own_name
    if own_name in _NOT_IN_TRAINING:
        raise ValueError(
            f"{own_name!r} is no setting of a recipe: the protocol decides it, by its output and `select`."
        )
    raise ValueError(
        f"There is no setting {name!r}. There are the fields of FoalNetConfig, of FoalNetVideoProcessor and of "
        f"TrainingArguments, and {', '.join((*_DATA_FIELDS, 'normalize_waveform', 'class_balanced', 'precision'))}."
    )


def _checked(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    known = _fields(section)
    _check_keys(section, values, known)
    return {name: _typed(value, known[name], f"{section}.{name}") for name, value in values.items()}


def _typed(value: Any, kind: Any, where: str) -> Any:
    """The value as one of the types that a field takes. YAML reads `1e-4` as text: that is a number here."""
    choices = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    for choice in choices:
        if get_origin(choice) is Literal:
            if value in get_args(choice):
                return value
            continue
        plain = get_origin(choice) or choice
        if plain is float and isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                return float(value)
            except ValueError:
                continue
        if isinstance(value, plain) and (plain is bool or not isinstance(value, bool)):
            return value
    raise ValueError(f"{where} is {value!r}; expected {' or '.join(map(_kind_words, choices))}.")


def _kind_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    return "null" if kind is types.NoneType else getattr(kind, "__name__", str(kind))


__all__ = ["Precision", "Recipe", "available_recipes", "load_recipe"]
