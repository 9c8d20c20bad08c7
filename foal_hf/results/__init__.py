"""The results file of a run: what was trained and tested, how, and with which results. All of it can be published.

    Results
      corpus: Corpus               splits: Split by name       training: Training, with two Encoder
      labels, merged_classes       selection, seeds            latency: Latency, ...
      protocol: Protocol           conditions: Evaluation by name, with Score, Bootstrap and the groups
                                   folds: FoldResult of each fold, with Split and Evaluation

Unknown values are not written into the file; the model card then says so, or omits the line.
"""

import importlib.metadata
import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ..atomic_files import write_file
from .evaluation import METRIC_NAMES, Bootstrap, Evaluation, Score
from .folds import FoldResult
from .provenance import Corpus, Encoder, Latency, Protocol, Split, Start, Training, check_key
from .publishable import check_no_local_path, public_name
from .typed_json import JsonRecord, from_json


SCHEMA_VERSION = 1
"""Increases whenever a field changes its name or its meaning."""

CONDITIONS = ("audio alone", "video alone", "both")

_NUMBERS_ON_LINES = re.compile(r"\[\n([-+.\deE,\s]+)\n\s*\]")  # a list of numbers, one per line

Selection = Literal["validation", "last", "test-best-epoch"]


@dataclass(frozen=True)
class Results(JsonRecord):
    """A run: one training with its test, or all folds of a cross-validation.

    Args:
        corpus ([`Corpus`]): The corpus of the clips.
        labels (`list[str]`): Names of the classes, by index.
        protocol ([`Protocol`]): How clips were split.
        selection (`"validation"`, `"last"` or `"test-best-epoch"`): How the checkpoint was chosen: on the validation
            split, not at all (the last epoch), or on the test split, which makes its numbers too good.
        conditions (`dict[str, Evaluation]`): Tests with `"audio alone"`, `"video alone"` and `"both"`, or some of them.
        merged_classes (`dict[str, list[str]]`): Other classes of the corpus that count as a label:
            `{"happy": ["excited"]}`.
        splits (`dict[str, Split]`): By name: `"train"`, `"validation"`, `"test"`.
        seeds (`list[int]`): Of the run, or of each repeated one.
        selected_epoch (`float`, *optional*): Epoch of the checkpoint.
        selection_score (`float`, *optional*): Its UA on the split it was chosen on.
        calibration (`str`, *optional*): Whether its scores were calibrated, and if not why, in words.
        not_measured (`list[str]`): What was not tested and may be asked for: `["other languages than English"]`.
        license (`str`, *optional*): Licence of the checkpoint, by its id on the Hub: `"apache-2.0"`.
        training ([`Training`], *optional*): How the checkpoint was trained.
        latency (`list[Latency]`): Measured times.
        versions (`dict[str, str]`): Of torch, transformers, foal_hf and others, see [`installed_versions`].
        commit (`str`, *optional*): Git commit of the source code.
        folds (`list[FoldResult]`): Of a cross-validation: each fold with each seed.

    Raises:
        ValueError: If fields contradict each other.

    Example:
        ```python
        >>> results.save("outputs/results.json")
        >>> Results.load("outputs/results.json") == results
        True
        ```
    """

    corpus: Corpus
    labels: list[str]
    protocol: Protocol
    selection: Selection
    conditions: dict[str, Evaluation] = field(default_factory=dict)
    merged_classes: dict[str, list[str]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    selected_epoch: float | None = None
    selection_score: float | None = None
    calibration: str | None = None
    not_measured: list[str] = field(default_factory=list)
    license: str | None = None
    training: Training | None = None
    latency: list[Latency] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    folds: list[FoldResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.selection not in get_args(Selection):
            raise ValueError(f"`selection` is {self.selection!r}, expected one of {get_args(Selection)}.")
        if len(set(self.labels)) != len(self.labels) or not self.labels:
            raise ValueError(f"`labels` has to name each class once, got {self.labels}.")
        tests = [self.conditions, *(fold.conditions for fold in self.folds)]
        for name, evaluation in (item for conditions in tests for item in conditions.items()):
            if name not in CONDITIONS:
                raise ValueError(f"`conditions` holds {name!r}, expected some of {', '.join(CONDITIONS)}.")
            if list(evaluation.per_class_recall) != list(self.labels):
                raise ValueError(
                    f"The test with {name} has the classes {list(evaluation.per_class_recall)}, expected the labels "
                    f"of the run in their order, {self.labels}."
                )
        unknown = sorted(set(self.merged_classes) - set(self.labels))
        if unknown:
            raise ValueError(f"Unknown label {unknown[0]!r} in `merged_classes`; expected one of {self.labels}.")
        if self.license is not None:
            check_key("license", self.license)

    @property
    def main_condition(self) -> str | None:
        """The condition of the detailed results: `"both"` where it was tested."""
        return next((name for name in reversed(CONDITIONS) if name in self.conditions), None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the results file, completely or not at all.

        Args:
            path (`str` or `os.PathLike`): File to write, or to replace. Missing folders are created.

        Raises:
            ValueError: If it holds a path of this machine, or a value does not match the type of its field.
        """
        self.check_publishable()
        content = _without_empty(asdict(self))
        from_json(Results, json.dumps(content, default=repr), "results")
        text = json.dumps({"schema_version": SCHEMA_VERSION, **content}, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(
            Path(path), _NUMBERS_ON_LINES.sub(lambda found: f"[{' '.join(found.group(1).split())}]", text) + "\n"
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Results":
        """Read a results file.

        Args:
            path (`str` or `os.PathLike`): What [`~Results.save`] wrote.

        Raises:
            ValueError: If it is no results file of this version, or has unknown fields or values of another type.
            FileNotFoundError: If there is no such file.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no results file: it does not hold JSON ({error}).") from error
        version = content.pop("schema_version", None) if isinstance(content, dict) else None
        if version is None:
            raise ValueError(f"{path} is no results file: expected an object with the field 'schema_version'.")
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{path} has the schema version {version!r}, and this foal_hf reads version {SCHEMA_VERSION}. Update "
                "foal_hf, or write the file again with this one."
            )
        try:
            return from_json(cls, json.dumps(content), "results")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def check_publishable(self) -> None:
        """Raise `ValueError` if a text holds a path of this machine, or an encoder is named by one."""
        check_no_local_path(asdict(self), "results")
        encoders = (self.training.audio_encoder, self.training.vision_encoder) if self.training else ()
        for encoder in encoders:
            if encoder and encoder.name and public_name(encoder.name) is None:
                raise ValueError(
                    f"The encoder {encoder.name!r} is a folder of this machine, and results may be published: remove "
                    "its name, or push it to the Hub and use its name there."
                )


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, by name, as far as they are installed."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "torchcodec", "av", "transformers", "foal_hf"):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name.replace("_", "-"))
    return versions


def _without_empty(value: Any) -> Any:
    """Without values that are None or empty. The recall of a class without clips stays None."""
    if not isinstance(value, dict):
        return [_without_empty(item) for item in value] if isinstance(value, list) else value
    kept = {key: item if key == "per_class_recall" else _without_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None and item != {} and item != []}


__all__ = [
    "CONDITIONS",
    "METRIC_NAMES",
    "SCHEMA_VERSION",
    "Bootstrap",
    "Corpus",
    "Encoder",
    "Evaluation",
    "FoldResult",
    "Latency",
    "Protocol",
    "Results",
    "Score",
    "Split",
    "Start",
    "Training",
    "installed_versions",
    "public_name",
]
