"""The former place of `foal_hf.training.lora`; goes with version 1.0."""

from .training.lora import audio_lora_config


__all__ = ["audio_lora_config"]
