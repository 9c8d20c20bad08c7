"""The config `macro_f1` of `emotion_classification`, which `evaluate` loads by the name of this file."""

from .emotion_classification import MacroF1


__all__ = ["MacroF1"]
