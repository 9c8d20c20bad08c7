"""The config `per_class_recall` of `emotion_classification`, which `evaluate` loads by the name of this file."""

from .emotion_classification import PerClassRecall


__all__ = ["PerClassRecall"]
