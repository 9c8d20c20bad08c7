"""Predictions of a model on the clips of a test, and their scores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..atomic_files import write_json
from ..metrics import labelled_logits
from ..results import Evaluation


CONDITIONS = {"audio alone": ("audio",), "video alone": ("video",), "both": ("audio", "video")}
"""The modalities of a test, by its name in results files."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a model.

    Args:
        labels (`list[str]`): Names of the classes, by index.
        clip_ids (`list[str]`): The clips.
        speakers, genders (`list[str]`): Of each clip; empty where the corpus does not tell.
        references (`list[int]`): True class index of each clip.
        probabilities (`dict[str, np.ndarray]`): `(clips, classes)`, by condition, see [`CONDITIONS`].
    """

    labels: list[str]
    clip_ids: list[str]
    speakers: list[str]
    genders: list[str]
    references: list[int]
    probabilities: dict[str, np.ndarray]

    @classmethod
    def of(cls, rows: Any, labels: Sequence[str], outputs: Mapping[str, Any], temperature: float | None = None) -> Self:
        """The predictions of a Trainer.

        Args:
            rows (`datasets.Dataset`): The clips, in the order of the predictions.
            labels (`Sequence[str]`): Names of the classes, by index.
            outputs (`Mapping[str, PredictionOutput]`): By condition, with the labels of the clips.
            temperature (`float`, *optional*): Divides the logits, as in the pipeline.
        """
        scored = {name: labelled_logits(output) for name, output in outputs.items()}
        references = next(iter(scored.values()))[1]
        return cls(
            labels=list(labels),
            clip_ids=list(rows["clip_id"]),
            speakers=[speaker or "" for speaker in rows["speaker"]],
            genders=[gender or "" for gender in rows["gender"]] if "gender" in rows.features else [""] * len(rows),
            references=references.tolist(),
            probabilities={name: _softmax(logits / (temperature or 1.0)) for name, (logits, _) in scored.items()},
        )

    @classmethod
    def joined(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """The predictions of several tests, one after the other."""
        lists = {
            name: [item for part in parts for item in getattr(part, name)]
            for name in ("clip_ids", "speakers", "genders", "references")
        }
        names = parts[0].probabilities
        joined = {name: np.concatenate([part.probabilities[name] for part in parts]) for name in names}
        return cls(labels=parts[0].labels, probabilities=joined, **lists)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file of [`Predictions.save`]."""
        content = json.loads(path.read_text(encoding="utf-8"))
        probabilities = {name: np.asarray(rows) for name, rows in content.pop("probabilities").items()}
        return cls(probabilities=probabilities, **content)

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        probabilities = {name: rows.tolist() for name, rows in self.probabilities.items()}
        write_json(path, {**vars(self), "probabilities": probabilities})

    def evaluations(self, *, intervals: bool = True) -> dict[str, Evaluation]:
        """Scores by condition, with intervals by speaker and results by gender where both are known.

        Args:
            intervals (`bool`, defaults to `True`): Whether to compute intervals and the results of groups.
        """
        details: dict[str, Any] = {}
        if intervals and all(self.speakers):
            details["clusters"] = self.speakers
        if intervals and any(self.genders):
            details["groups"] = {"gender": self.genders}
        return {
            name: Evaluation.from_predictions(
                self.references, rows.argmax(axis=1), self.labels, probabilities=rows, **details
            )
            for name, rows in self.probabilities.items()
        }


def conditions_of(config: Any, modalities: Sequence[str], chosen: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """The conditions to test a model under.

    By default the modalities that it was trained with; for a model trained with `modality_dropout`, each alone as well.

    Args:
        config ([`FoalNetConfig`]): Of the model.
        modalities (`Sequence[str]`): What it was trained with.
        chosen (`Sequence[str]`, *optional*): Names of [`CONDITIONS`] to use instead.

    Raises:
        ValueError: If a condition is unknown.
    """
    unknown = [name for name in chosen if name not in CONDITIONS]
    if unknown:
        raise ValueError(f"Unknown condition {', '.join(unknown)}; expected some of {', '.join(CONDITIONS)}.")
    if chosen:
        return {name: CONDITIONS[name] for name in CONDITIONS if name in chosen}
    if len(modalities) > 1 and config.modality_dropout > 0:
        return CONDITIONS
    return {name: used for name, used in CONDITIONS.items() if set(used) == set(modalities)}


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `(clips, classes)` in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


__all__ = ["CONDITIONS", "Predictions", "conditions_of"]
