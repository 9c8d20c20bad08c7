"""The config `unweighted_accuracy` of `emotion_classification`, for `evaluate.load` of this file."""

from .emotion_classification import UnweightedAccuracy


__all__ = ["UnweightedAccuracy"]
