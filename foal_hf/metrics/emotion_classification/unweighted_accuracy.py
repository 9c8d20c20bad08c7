"""The config `unweighted_accuracy` of `emotion_classification`, which `evaluate` loads by the name of this file."""

from .emotion_classification import UnweightedAccuracy


__all__ = ["UnweightedAccuracy"]
