"""The config `weighted_accuracy` of `emotion_classification`, which `evaluate` loads by the name of this file."""

from .emotion_classification import WeightedAccuracy


__all__ = ["WeightedAccuracy"]
