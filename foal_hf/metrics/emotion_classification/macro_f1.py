"""The config `macro_f1` of `emotion_classification`, for `evaluate.load` of this file."""

from .emotion_classification import MacroF1


__all__ = ["MacroF1"]
