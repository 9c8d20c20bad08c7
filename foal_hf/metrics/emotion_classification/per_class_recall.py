"""The config `per_class_recall` of `emotion_classification`, for `evaluate.load` of this file."""

from .emotion_classification import PerClassRecall


__all__ = ["PerClassRecall"]
