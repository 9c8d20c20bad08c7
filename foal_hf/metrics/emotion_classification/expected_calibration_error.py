"""The config `expected_calibration_error` of `emotion_classification`, which `evaluate` loads by the name of this file."""

from .emotion_classification import ExpectedCalibrationError


__all__ = ["ExpectedCalibrationError"]
