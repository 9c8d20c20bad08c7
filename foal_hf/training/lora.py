"""LoRA on the audio encoder, with peft: few trained weights instead of all."""

import re
from typing import Any

from torch import nn


# The parts of a Foal-Net that are not pretrained: they are trained and saved with the adapter.
_NEW_PARTS = (
    "audio_projection",
    "video_projection",
    "fusion",
    "classifier",
    "audio_matching_head",
    "video_matching_head",
)
# Of the wav2vec 2.0 kind. Beside these WavLM has a tiny layer for the position bias, which needs no adapter.
_USUAL_LAYERS = (
    r".*audio_encoder\.encoder\.layers\.\d+"
    r"\.(attention\.(q|k|v|out)_proj|feed_forward\.(intermediate|output)_dense)"
)


def audio_lora_config(
    model: Any, *, rank: int = 8, alpha: int | None = None, dropout: float = 0.0, **kwargs: Any
) -> Any:
    """Make a LoRA configuration with adapters on the attention and the feed-forward layers of the audio encoder.

    Projections, fusion and heads are trained completely and saved with the adapters. The learned temperature and the
    weights of `audio_layers` keep their values: they are no modules, and peft trains and saves modules only.

    Args:
        model ([`FoalNetForEmotionClassification`]): The model that will be wrapped.
        rank (`int`, defaults to 8): Rank of the adapters.
        alpha (`int`, *optional*): Scale of the adapters, divided by the rank; twice the rank by default.
        dropout (`float`, defaults to 0.0): Dropout of the adapters' input, probability in [0, 1).
        **kwargs: Further arguments of `peft.LoraConfig`, such as `target_modules` for other layers.

    Returns:
        `peft.LoraConfig`: For `peft.get_peft_model(model, config)`.

    Raises:
        ImportError: If peft is not installed.
        ValueError: If there is no audio encoder, or no linear layer in its repeated layers; give `target_modules`.

    Example:
        ```python
        from peft import get_peft_model

        model = get_peft_model(model, audio_lora_config(model))
        FoalNetTrainer(model, arguments, ...).train()
        model.save_pretrained("adapter")  # PeftModel.from_pretrained(base, "adapter"), or model.merge_and_unload()
        ```
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError("LoRA needs peft: pip install 'foal-hf[lora]'.") from error

    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    settings = {"modules_to_save": [name for name in _NEW_PARTS if name in present], **kwargs}
    if "target_modules" not in settings:
        settings["target_modules"] = _linear_layers(model)
    alpha = 2 * rank if alpha is None else alpha
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, **settings)


def _linear_layers(model: Any) -> str | list[str]:
    """The linear layers in the repeated layers of the audio encoder, as a pattern where the usual one fits."""
    linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    repeated = sorted(name for name in linear if re.search(r"(^|\.)audio_encoder\..*\.\d+\.", name))
    if any(re.fullmatch(_USUAL_LAYERS, name) for name in repeated):
        return _USUAL_LAYERS
    if not repeated:
        raise ValueError(
            "This model has no audio encoder with linear layers to adapt; name other layers with `target_modules`."
        )
    return repeated


__all__ = ["audio_lora_config"]
