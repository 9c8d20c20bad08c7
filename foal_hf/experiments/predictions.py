"""What a model says of the clips of a test, and how right it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..metrics import labelled_logits
from ..results import Evaluation
from .records import write_json


CONDITIONS = {"audio alone": ("audio",), "video alone": ("video",), "both": ("audio", "video")}
"""What a test looks at, by the name that results files have for it."""


@dataclass(frozen=True)
class Predictions:
    """What a model said of clips.

    Args:
        labels (`list[str]`): Names of the classes, by index.
        clip_ids (`list[str]`): The clips.
        speakers, genders (`list[str]`): Of each clip; empty where the corpus does not say.
        references (`list[int]`): True class index of each clip.
        probabilities (`dict[str, np.ndarray]`): `(clips, classes)`, by what was looked at, see [`CONDITIONS`].
    """

    labels: list[str]
    clip_ids: list[str]
    speakers: list[str]
    genders: list[str]
    references: list[int]
    probabilities: dict[str, np.ndarray]

    @classmethod
    def of(cls, rows: Any, labels: Sequence[str], outputs: Mapping[str, Any], temperature: float | None = None) -> Self:
        """What Trainer predicted.

        Args:
            rows (`datasets.Dataset`): The clips, in the order of the predictions.
            labels (`Sequence[str]`): Names of the classes, by index.
            outputs (`Mapping[str, PredictionOutput]`): By what was looked at; with the labels of the clips.
            temperature (`float`, *optional*): Divides the logits, as the pipeline does.
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
        """Those of several tests, one after the other."""
        lists = {
            name: [item for part in parts for item in getattr(part, name)]
            for name in ("clip_ids", "speakers", "genders", "references")
        }
        names = parts[0].probabilities
        joined = {name: np.concatenate([part.probabilities[name] for part in parts]) for name in names}
        return cls(labels=parts[0].labels, probabilities=joined, **lists)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what [`Predictions.save`] wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        probabilities = {name: np.asarray(rows) for name, rows in content.pop("probabilities").items()}
        return cls(probabilities=probabilities, **content)

    def save(self, path: Path) -> None:
        """Write a JSON file."""
        probabilities = {name: rows.tolist() for name, rows in self.probabilities.items()}
        write_json(path, {**vars(self), "probabilities": probabilities})

    def evaluations(self, *, intervals: bool = True) -> dict[str, Evaluation]:
        """How right they are, with intervals by speaker and the same for each gender, where they are known.

        Args:
            intervals (`bool`, defaults to `True`): Whether to draw intervals, and look at groups.
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
    """What a test looks at: all that the model was trained with.

    One modality alone says something of a model that was trained to do without the other now and then.

    Args:
        config ([`FoalNetConfig`]): Of the model.
        modalities (`Sequence[str]`): What it was trained with.
        chosen (`Sequence[str]`, *optional*): Names of [`CONDITIONS`] to take instead.

    Raises:
        ValueError: If there is no such condition.
    """
    unknown = [name for name in chosen if name not in CONDITIONS]
    if unknown:
        raise ValueError(f"There is no test with {', '.join(unknown)}; there is {', '.join(CONDITIONS)}.")
    if chosen:
        return {name: CONDITIONS[name] for name in CONDITIONS if name in chosen}
    if len(modalities) > 1 and config.modality_dropout > 0:
        return CONDITIONS
    return {name: looked_at for name, looked_at in CONDITIONS.items() if set(looked_at) == set(modalities)}


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities `(clips, classes)` in float64."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


__all__ = ["CONDITIONS", "Predictions", "conditions_of"]
