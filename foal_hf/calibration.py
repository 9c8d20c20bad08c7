"""The former place of `foal_hf.training.calibration`; goes with version 1.0."""

from .training.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    MIN_CLIPS,
    Calibration,
    calibrate,
    fit_temperature,
)


__all__ = ["HIGHEST_TEMPERATURE", "LOWEST_TEMPERATURE", "MIN_CLIPS", "Calibration", "calibrate", "fit_temperature"]
