"""The config `weighted_accuracy` of `emotion_classification`, for `evaluate.load` of this file."""

from .emotion_classification import WeightedAccuracy


__all__ = ["WeightedAccuracy"]
