"""The config `expected_calibration_error` of `emotion_classification`, for `evaluate.load` of this file."""

from .emotion_classification import ExpectedCalibrationError


__all__ = ["ExpectedCalibrationError"]
