"""What is known of a run beside its numbers: corpus, protocol, parts of the clips, training, speed."""

import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Corpus:
    """Where the clips come from.

    Args:
        name (`str`): As people call it, `"IEMOCAP"`.
        hub_id (`str`, *optional*): Name of the data set on the Hub, `"org/name"`.
        url (`str`, *optional*): Where to ask for it.
        license (`str`, *optional*): Its licence, in words.
        duty (`str`, *optional*): A sentence that says what whoever passes on a model trained on it has to do.
        languages (`list[str]`): ISO 639 codes, `["en"]`.
        generated (`bool`, *optional*): Whether voices or faces are generated.
        acted (`bool`, *optional*): Whether the emotions are acted.
        description (`str`, *optional*): A sentence or two.
    """

    name: str
    hub_id: str | None = None
    url: str | None = None
    license: str | None = None
    duty: str | None = None
    languages: list[str] = field(default_factory=list)
    generated: bool | None = None
    acted: bool | None = None
    description: str | None = None


@dataclass(frozen=True)
class Protocol:
    """How clips were parted for training and testing.

    Args:
        key (`str`): Lower case with hyphens: `"speaker-disjoint"`, `"leave-one-session-out"`.
        description (`str`): In words.
        held_out (`str`, *optional*): What this run was tested on, `"session 5"`; None where all folds are in one file.
    """

    key: str
    description: str
    held_out: str | None = None

    def __post_init__(self) -> None:
        check_key("key", self.key)


@dataclass(frozen=True)
class Split:
    """One part of the clips: training, validation or test.

    Args:
        num_clips (`int`): Its clips.
        num_speakers (`int`, *optional*): Who speaks in them.
        clip_ids (`list[str]`): Names of the clips in the corpus (no paths), where the run lists them.
    """

    num_clips: int
    num_speakers: int | None = None
    clip_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encoder:
    """One of the two encoders, as training began.

    Args:
        name (`str`, *optional*): On the Hub, `"microsoft/wavlm-large"`; None where it has no name there.
        pretrained (`bool`, defaults to `True`): Whether it brought weights; False where it was trained from scratch.
        license (`str`, *optional*): Of its weights, in words.
        duty (`str`, *optional*): A sentence that says what whoever passes them on has to do.
    """

    name: str | None = None
    pretrained: bool = True
    license: str | None = None
    duty: str | None = None


@dataclass(frozen=True)
class Training:
    """How the checkpoint was made.

    Args:
        audio_encoder, vision_encoder ([`Encoder`], *optional*): What it began with.
        recipe (`str`, *optional*): Name of the recipe.
        settings (`dict[str, Any]`): All that the recipe says, with what was set otherwise for this run.
        num_epochs (`float`, *optional*): Passes over the training clips.
        batch_size (`int`, *optional*): Clips a step, over all devices and accumulated steps.
        learning_rate (`float`, *optional*): The highest.
        schedule (`str`, *optional*): How it changes, in words.
        optimizer (`str`, *optional*): Name.
        precision (`str`, *optional*): `"fp32"`, `"bf16"`, `"fp16"`.
        loss_weights (`dict[str, float]`): Of `classification`, `alignment` and `matching`.
        modality_dropout (`float`, *optional*): Share of clips that lose one modality, in [0, 1).
        frames_per_second, max_seconds (`float`, *optional*): What was taken of each clip.
        seconds (`float`, *optional*): Time that it took.
        hardware (`str`, *optional*): On what, in words.
    """

    audio_encoder: Encoder | None = None
    vision_encoder: Encoder | None = None
    recipe: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    num_epochs: float | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    optimizer: str | None = None
    precision: str | None = None
    loss_weights: dict[str, float] = field(default_factory=dict)
    modality_dropout: float | None = None
    frames_per_second: float | None = None
    max_seconds: float | None = None
    seconds: float | None = None
    hardware: str | None = None


@dataclass(frozen=True)
class Latency:
    """How long something takes.

    Args:
        what (`str`): What was timed, in words.
        seconds_per_clip (`float`): Median time.
        hardware (`str`): On what, in words.
        clip_seconds (`float`, *optional*): Length of a clip.
        batch_size (`int`, *optional*): Clips at once.
        num_runs (`int`, *optional*): Times that it was timed.
        versions (`dict[str, str]`): Of the packages, where they are not those of the run.
    """

    what: str
    seconds_per_clip: float
    hardware: str
    clip_seconds: float | None = None
    batch_size: int | None = None
    num_runs: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


def check_key(name: str, value: str) -> None:
    """Refuse a value that is not lower case with hyphens."""
    if not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", value):
        raise ValueError(f"`{name}` is {value!r}, expected lower case with hyphens, such as 'speaker-disjoint'.")


__all__ = ["Corpus", "Encoder", "Latency", "Protocol", "Split", "Training", "check_key"]
