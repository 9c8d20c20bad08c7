"""Both pretrained encoders, loaded by name."""

import dataclasses
import re
from typing import Any

from transformers import AutoConfig

from .audio_encoders_foal_net import audio_encoder_class
from .audio_traits_foal_net import audio_part
from .configuration_foal_net import FoalNetConfig
from .wavlm_attention_foal_net import use_channels_last


_HUB_ARGUMENTS = ("token", "cache_dir", "local_files_only", "force_download")


def load_encoders(audio_encoder: str | None, vision_encoder: str | None, **fields: Any) -> dict[str, Any]:
    """Load both pretrained encoders; returns the arguments of a model's constructor: `config` and the two encoders.

    An encoder is None where the model takes features, see `audio_feature_dim` and `video_feature_dim`. `fields` are
    fields of the config, and arguments for the Hub (`_HUB_ARGUMENTS`).
    """
    hub = {name: fields.pop(name) for name in _HUB_ARGUMENTS if name in fields}
    known = {field.name for field in dataclasses.fields(FoalNetConfig)} | {"num_labels", "attn_implementation"}
    unknown = sorted(set(fields) - (known - {"audio_config", "vision_config", "dtype"}))
    if unknown:
        raise TypeError(
            f"Unknown arguments: {', '.join(unknown)}; expected fields of FoalNetConfig or, for the Hub, "
            f"{', '.join(_HUB_ARGUMENTS)}. For another precision call `.to(dtype)` on the model."
        )
    for name, encoder, field in (
        ("audio_encoder", audio_encoder, "audio_feature_dim"),
        ("vision_encoder", vision_encoder, "video_feature_dim"),
    ):
        if encoder is None and fields.get(field) is None:
            raise ValueError(f"`{name}` is None; expected a name or folder, or `{field}` for a model without it.")
    audio_config = None if audio_encoder is None else AutoConfig.from_pretrained(audio_encoder, **hub)
    vision_config = None if vision_encoder is None else AutoConfig.from_pretrained(vision_encoder, **hub)
    vision_config = getattr(vision_config, "vision_config", vision_config)  # of a model of images and text
    config = FoalNetConfig(audio_config=audio_config, vision_config=vision_config, **fields)
    made: dict[str, Any] = {"config": config}
    # from_pretrained copies a config: ours must hold the same objects as the encoders.
    if audio_encoder is not None:
        audio = _load_audio_encoder(audio_encoder, audio_config, config, hub)
        use_channels_last(audio)
        config.audio_config, made["audio_encoder"] = audio.config, audio
        config.audio_config._name_or_path = audio_encoder
    if vision_encoder is not None:
        interface = config.vision_interface
        vision = interface.encoder_class.from_pretrained(
            vision_encoder, config=config.vision_config, **interface.arguments, **hub
        )
        config.vision_config, made["vision_encoder"] = vision.config, vision
        config.vision_config._name_or_path = vision_encoder
    return made


def _load_audio_encoder(name: str, whole_config: Any, config: FoalNetConfig, hub: dict[str, Any]) -> Any:
    """Load the audio encoder; of a checkpoint with more parts (Whisper, CLAP) only the weights of that one."""
    encoder_class = audio_encoder_class(config)
    _, path = audio_part(whole_config)
    if not path:
        return encoder_class.from_pretrained(name, config=config.audio_config, **hub)
    # Names in the checkpoint of a whole model, or of that model with a head around it.
    inside = {rf"^(?:[a-z_]+\.)?{re.escape(path)}\.": ""}
    audio, report = encoder_class.from_pretrained(
        name, config=config.audio_config, key_mapping=inside, output_loading_info=True, **hub
    )
    if report["missing_keys"]:
        raise ValueError(
            f"{name} lacks weights of its audio encoder {encoder_class.__name__}, such as "
            f"{sorted(report['missing_keys'])[0]}; expected a checkpoint of {type(whole_config).__name__}."
        )
    return audio


__all__ = ["load_encoders"]
