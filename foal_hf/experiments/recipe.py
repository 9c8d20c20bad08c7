"""Recipes: all settings of a training run, as a small YAML file.

    description: One sentence.
    base: paper                                   # another recipe whose settings this one changes; optional
    encoders: {audio: microsoft/wavlm-large, vision: openai/clip-vit-large-patch14}
    architecture: tiny                            # in place of encoders: trained from scratch, `tiny` or `small`
    precision: bf16                               # on a GPU; always fp32 on a CPU
    config: {alignment_loss_weight: 1.0}          # fields of FoalNetConfig
    processor: {frames_per_second: 30.0}          # fields of FoalNetVideoProcessor, and `normalize_waveform`
    data: {padding: longest}                      # `padding` and `keep_in_memory`
    training: {learning_rate: 1e-4}               # fields of FoalNetTrainingArguments, so all of TrainingArguments
    corpus: {name: crema_d, options: {folds: published}, clips: 7438, seconds: 2.5}

Every part is optional, but an empty file is an error. Without encoders the architecture (the tiny one by default) is
trained from scratch. A side that the corpus has as features needs no encoder: the recipe's is not used, and the run
records `features` in its place. `corpus` says how the commands load the corpus of that name, and for estimates how
large it is: `options` of the corpus, `clips`, their mean length in `seconds`, `folds`, `labels`, and a `note`. Errors
are found when the recipe is read, not after training has started.
"""

import dataclasses
import os
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml  # type: ignore[import-untyped]
from transformers import PreTrainedConfig

from ..foal_net.configuration_foal_net import FoalNetConfig
from ..training.arguments import FoalNetTrainingArguments
from .architectures import ARCHITECTURES, Architecture


Precision = Literal["fp32", "bf16", "fp16"]

_FOLDER = Path(__file__).parent / "recipes"
_SECTIONS = ("config", "processor", "data", "training")
_KEYS = ("description", "base", "encoders", "architecture", "precision", *_SECTIONS, "corpus")
# Determined by the corpus, the encoders and the folder of the run.
_NOT_IN_CONFIG = (
    *("audio_config", "vision_config", "audio_feature_dim", "video_feature_dim"),
    *("trained_on_generated_data", "calibration_temperature"),
)
DEFAULT_ARCHITECTURE = "tiny"
FEATURES = "features"
"""In place of an encoder: that side of the corpus is features."""
# Determined by `--output` and `--select`.
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
    "crop": Literal["frame", "face"],
    "crop_margin": float,
}
_CORPUS_FIELDS: dict[str, Any] = {
    "name": str,
    "options": dict,
    "clips": int,
    "seconds": float,
    "folds": int,
    "labels": int,
    "note": str,
}
_DATA_FIELDS: dict[str, Any] = {"padding": Literal["longest", "max_length"], "keep_in_memory": bool}


@dataclass(frozen=True)
class Recipe:
    """How a Foal-Net is made and trained: everything except the clips.

    Args:
        name (`str`): Its file name without the extension.
        description (`str`): A sentence.
        audio_encoder, vision_encoder (`str`, *optional*): Hub names or folders, or `"features"`. Both or neither:
            without them the architecture is trained from scratch.
        architecture (`str`, *optional*): A name of [`~foal_hf.experiments.architectures.ARCHITECTURES`]; without it and
            without encoders the tiny one is trained.
        precision (`"fp32"`, `"bf16"` or `"fp16"`): Of the training on a GPU; on a CPU it is fp32.
        config (`dict`): Fields of [`FoalNetConfig`] that differ from its defaults.
        processor (`dict`): Fields of [`FoalNetVideoProcessor`] that differ from those of the encoder, and
            `normalize_waveform`: whether the waveform is scaled to mean 0 and variance 1; None, the default, leaves
            that to the audio encoder's feature extractor.
        data (`dict`): `padding`: `"longest"` of the batch, or `"max_length"`, which is `max_seconds`; `keep_in_memory`:
            decode each clip once, for small corpora.
        training (`dict`): Fields of [`FoalNetTrainingArguments`].
        corpus (`dict`): What the commands and estimates know of the corpus that the recipe is for: `name`, `options` of
            [`~foal_hf.corpora.load_corpus`], `clips`, `seconds`, `folds`, `labels`, `note`. It changes no run itself.

    Raises:
        ValueError: If a field is unknown or its value has another type; the message lists what is expected.
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
    architecture: str | None = None
    corpus: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        encoders = {self.audio_encoder, self.vision_encoder} - {FEATURES}
        if None in encoders and len(encoders) > 1:
            raise ValueError(f"The recipe {self.name} names one encoder; `encoders` has to name audio and vision.")
        if self.architecture is not None and self.architecture not in ARCHITECTURES:
            raise ValueError(f"`architecture` is {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}.")
        if self.architecture is not None and any(self.encoder_names()):
            raise ValueError(
                f"The recipe {self.name} names encoders and the architecture {self.architecture!r}, which is trained "
                "without them; give one of the two."
            )
        object.__setattr__(self, "precision", _typed(self.precision, Precision, "precision"))
        for section in (*_SECTIONS, "corpus"):
            object.__setattr__(self, section, _checked(section, getattr(self, section)))

    @property
    def padding(self) -> str:
        """Padding of batches: `"longest"` or `"max_length"`."""
        return self.data.get("padding", "longest")

    @property
    def keep_in_memory(self) -> bool:
        """Whether each clip is decoded only once."""
        return self.data.get("keep_in_memory", False)

    @property
    def seed(self) -> int:
        """Of weights, batches and dropout, unless a run sets another."""
        return self.training.get("seed", FoalNetTrainingArguments.seed)

    def with_encoders(self, audio_encoder: str, vision_encoder: str) -> "Recipe":
        """The same with other encoders (Hub names or folders)."""
        return dataclasses.replace(self, audio_encoder=audio_encoder, vision_encoder=vision_encoder, architecture=None)

    def with_features(self, sides: Collection[str]) -> "Recipe":
        """The same with `"features"` instead of the encoders of these sides, `"audio"` or `"video"`."""
        return dataclasses.replace(
            self,
            audio_encoder=FEATURES if "audio" in sides else self.audio_encoder,
            vision_encoder=FEATURES if "video" in sides else self.vision_encoder,
        )

    @property
    def is_from_scratch(self) -> bool:
        """Whether an architecture takes the place of encoders."""
        return None in (self.audio_encoder, self.vision_encoder)

    @property
    def from_scratch(self) -> Architecture:
        """What is trained where no encoder is named."""
        return ARCHITECTURES[self.architecture or DEFAULT_ARCHITECTURE]

    def encoder_names(self) -> tuple[str | None, str | None]:
        """Hub names or folders of the audio and the image encoder to load; None for features and an architecture."""
        audio, vision = (None if name == FEATURES else name for name in (self.audio_encoder, self.vision_encoder))
        return audio, vision

    def with_settings(self, settings: Mapping[str, Any]) -> "Recipe":
        """The same with other settings.

        Args:
            settings (`Mapping[str, Any]`): By name, such as `{"learning_rate": 3e-5, "frames_per_second": 10}`. No name
                is in two sections; `"training.learning_rate"` works as well. Also `precision`.

        Raises:
            ValueError: If a setting is unknown, or its value has another type.

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
        """The recipe as in its file, with bases resolved: plain values for JSON or YAML."""
        encoders = {"audio": self.audio_encoder, "vision": self.vision_encoder}
        sections = {section: getattr(self, section) for section in (*_SECTIONS, "corpus")}
        encoders = encoders if any(encoders.values()) else {}
        made_of = {"encoders": encoders, "architecture": self.architecture}
        plain = {"description": self.description, **made_of, "precision": self.precision, **sections}
        return {name: value for name, value in plain.items() if value}


def available_recipes() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """Read a recipe.

    Args:
        name (`str` or `os.PathLike`): One of [`available_recipes`], or your own YAML file.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If the file is empty or no YAML, or as in [`Recipe`].

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
            f"Unknown recipe {name!r}; expected one of {', '.join(available_recipes())}, or your own file (.yaml)."
        )
    if path in seen:
        raise ValueError(f"{path} has itself as its base.")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    if not content or (isinstance(content, Mapping) and not any(content.values())):
        raise ValueError(f"{path} is empty; expected at least one of {', '.join(_KEYS)}. To copy another, set `base`.")
    try:
        return _made(path, content, (*seen, path))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _made(path: Path, content: Any, seen: Sequence[Path]) -> Recipe:
    _check_keys("the recipe", content, _KEYS)
    base = Recipe(path.stem)
    if "base" in content:
        own = str(content["base"])
        base = _load(os.fspath(path.parent / own) if own.endswith((".yaml", ".yml")) else own, seen)
    encoders = {} if content.get("encoders") is None else content["encoders"]
    _check_keys("encoders", encoders, ("audio", "vision"))
    sections = {}
    for section in (*_SECTIONS, "corpus"):
        given = {} if content.get(section) is None else content[section]
        _check_keys(section, given, _fields(section))
        sections[section] = {**getattr(base, section), **given}
    # Of encoders and an architecture, the recipe replaces the one of its base by its own.
    if encoders:
        base = dataclasses.replace(base, architecture=None)
    if "architecture" in content:
        base = dataclasses.replace(base, audio_encoder=None, vision_encoder=None)
    return Recipe(
        name=path.stem,
        description=str(content.get("description") or base.description),
        audio_encoder=encoders.get("audio", base.audio_encoder),
        vision_encoder=encoders.get("vision", base.vision_encoder),
        architecture=content.get("architecture", base.architecture),
        precision=content.get("precision", base.precision),
        **sections,
    )


class _Loader(yaml.SafeLoader):
    """YAML where a name that is set twice is an error; PyYAML itself uses the last value."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is set twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _check_keys(where: str, value: Any, known: typing.Collection[str]) -> None:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; expected names with values.")
    unknown = [str(name) for name in value if name not in known]
    if unknown:
        raise ValueError(f"Unknown {', '.join(unknown)} in {where}; expected some of {', '.join(known)}.")


def _fields(section: str) -> dict[str, Any]:
    """The settings of a section with their types."""
    if section == "config":
        inherited = {entry.name for entry in dataclasses.fields(PreTrainedConfig)} | set(_NOT_IN_CONFIG)
        return {entry.name: entry.type for entry in dataclasses.fields(FoalNetConfig) if entry.name not in inherited}
    if section == "training":
        hints = typing.get_type_hints(FoalNetTrainingArguments)
        names = [entry.name for entry in dataclasses.fields(FoalNetTrainingArguments) if entry.init]
        return {name: hints[name] for name in names if name not in _NOT_IN_TRAINING}
    return {"processor": _PROCESSOR_FIELDS, "corpus": _CORPUS_FIELDS}.get(section, _DATA_FIELDS)


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
            f"{own_name!r} cannot be set: the output folder and the way the checkpoint is chosen determine it."
        )
    raise ValueError(
        f"Unknown setting {name!r}. Expected a field of FoalNetConfig, FoalNetVideoProcessor or TrainingArguments, or "
        f"one of {', '.join((*_DATA_FIELDS, 'normalize_waveform', 'class_balanced', 'precision'))}."
    )


def _checked(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    known = _fields(section)
    _check_keys(section, values, known)
    return {name: _typed(value, known[name], f"{section}.{name}") for name, value in values.items()}


def _typed(value: Any, kind: Any, where: str) -> Any:
    """The value as one of the types of a field. YAML reads `1e-4` as text, which is a number here."""
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


__all__ = ["DEFAULT_ARCHITECTURE", "FEATURES", "Precision", "Recipe", "available_recipes", "load_recipe"]
