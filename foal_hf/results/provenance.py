"""Facts about a run: corpus, protocol, splits, training, latency."""

import re
from dataclasses import dataclass, field
from typing import Any

from .typed_json import JsonRecord


@dataclass(frozen=True)
class Corpus(JsonRecord):
    """The corpus of the clips.

    Args:
        name (`str`): Usual name, `"IEMOCAP"`.
        hub_id (`str`, *optional*): Name of the dataset on the Hub, `"org/name"`.
        url (`str`, *optional*): Where to request it.
        license (`str`, *optional*): Its licence, in words.
        duty (`str`, *optional*): A sentence with the obligations of anyone who distributes a model trained on it.
        languages (`list[str]`): ISO 639 codes, `["en"]`.
        generated (`bool`, *optional*): Whether voices or faces are generated.
        acted (`bool`, *optional*): Whether the emotions are acted.
        description (`str`, *optional*): A sentence or two.
        citation (`str`, *optional*): The work to cite, in one line.
        sources (`list[Corpus]`): What it was put together from, each with its own licence.
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
    citation: str | None = None
    sources: list["Corpus"] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol(JsonRecord):
    """How clips were split for training and testing.

    Args:
        key (`str`): Lower case with hyphens: `"speaker-disjoint"`, `"leave-one-session-out"`.
        description (`str`): In words.
        held_out (`str`, *optional*): The test split of this run, `"session 5"`; None where one file has all folds.
        refitted (`bool`, *optional*): Whether the checkpoint was trained on all clips after the tests. They are then of
            models that were trained in the same way without the tested clips.
    """

    key: str
    description: str
    held_out: str | None = None
    refitted: bool | None = None

    def __post_init__(self) -> None:
        check_key("key", self.key)


@dataclass(frozen=True)
class Split(JsonRecord):
    """One split of the clips: training, validation or test.

    Args:
        num_clips (`int`): Its clips.
        num_speakers (`int`, *optional*): Its speakers.
        clip_ids (`list[str]`): Names of the clips in the corpus (no paths), where the run lists them.
    """

    num_clips: int
    num_speakers: int | None = None
    clip_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Encoder(JsonRecord):
    """One of the two encoders, before training.

    Args:
        name (`str`, *optional*): On the Hub, `"microsoft/wavlm-large"`; None if it is not on the Hub.
        pretrained (`bool`, defaults to `True`): Whether its weights were pretrained; False for random weights.
        license (`str`, *optional*): Of its weights, in words.
        duty (`str`, *optional*): A sentence with the obligations of anyone who distributes them.
    """

    name: str | None = None
    pretrained: bool = True
    license: str | None = None
    duty: str | None = None


@dataclass(frozen=True)
class Start(JsonRecord):
    """The checkpoint whose weights a training started from.

    Args:
        fingerprint (`str`): SHA-256 of its weights.
        name (`str`, *optional*): On the Hub, `"org/name"`; None for a folder.
        revision (`str`, *optional*): Commit on the Hub.
        license (`str`, *optional*): Its licence, by its id on the Hub: `"cc-by-nc-sa-4.0"`.
        corpus ([`Corpus`], *optional*): What it was trained on.
        clip_ids (`list[str]`): Clips that it was trained on or chosen by; empty where that is not known.
        kept_labels, new_labels, unused_labels (`list[str]`): Labels of the run whose classifier rows are its own; those
            with new rows; and its other labels.
        test_clips (`str`, *optional*): In words, whether test clips of the run are among its own.
        start ([`Start`], *optional*): What it had started from itself.
    """

    fingerprint: str
    name: str | None = None
    revision: str | None = None
    license: str | None = None
    corpus: Corpus | None = None
    clip_ids: list[str] = field(default_factory=list)
    kept_labels: list[str] = field(default_factory=list)
    new_labels: list[str] = field(default_factory=list)
    unused_labels: list[str] = field(default_factory=list)
    test_clips: str | None = None
    start: "Start | None" = None

    @property
    def chain(self) -> "list[Start]":
        """It and what is before it."""
        return [self, *(self.start.chain if self.start else [])]


@dataclass(frozen=True)
class Training(JsonRecord):
    """How the checkpoint was trained.

    Args:
        audio_encoder, vision_encoder ([`Encoder`], *optional*): The encoders before training.
        recipe (`str`, *optional*): Name of the recipe.
        settings (`dict[str, Any]`): All settings of the recipe, with the changes of this run.
        num_epochs (`float`, *optional*): Passes over the training clips.
        batch_size (`int`, *optional*): Clips per optimiser step, over all devices and accumulated batches.
        learning_rate (`float`, *optional*): The highest.
        schedule (`str`, *optional*): How the learning rate changes, in words.
        optimizer (`str`, *optional*): Name.
        precision (`str`, *optional*): `"fp32"`, `"bf16"`, `"fp16"`.
        loss_weights (`dict[str, float]`): Of `classification`, `alignment` and `matching`.
        modality_dropout (`float`, *optional*): Share of clips that lose one modality in training, in [0, 1).
        frames_per_second, max_seconds (`float`, *optional*): What was read of each clip.
        seconds (`float`, *optional*): Training time.
        hardware (`str`, *optional*): In words.
        start ([`Start`], *optional*): The checkpoint that it started from, if it did not start from the encoders.
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
    start: Start | None = None


@dataclass(frozen=True)
class Latency(JsonRecord):
    """A measured time.

    Args:
        what (`str`): What was timed, in words.
        seconds_per_clip (`float`): Median time.
        hardware (`str`): In words.
        clip_seconds (`float`, *optional*): Length of a clip.
        batch_size (`int`, *optional*): Clips per batch.
        num_runs (`int`, *optional*): Number of timed runs.
        versions (`dict[str, str]`): Of the packages, where they differ from those of the results file.
    """

    what: str
    seconds_per_clip: float
    hardware: str
    clip_seconds: float | None = None
    batch_size: int | None = None
    num_runs: int | None = None
    versions: dict[str, str] = field(default_factory=dict)


def check_key(name: str, value: str) -> None:
    """Raise `ValueError` if a value is not lower case with hyphens."""
    if not re.fullmatch(r"[a-z0-9]+([-.][a-z0-9]+)*", value):
        raise ValueError(f"`{name}` is {value!r}, expected lower case with hyphens, such as 'speaker-disjoint'.")


__all__ = ["Corpus", "Encoder", "Latency", "Protocol", "Split", "Start", "Training", "check_key"]
