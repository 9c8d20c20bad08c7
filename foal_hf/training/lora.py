"""LoRA on the audio encoder, with peft: few trained weights instead of all."""

from typing import Any


# The parts of a Foal-Net that are not pretrained: they are trained and saved with the adapter.
_NEW_PARTS = (
    "audio_projection",
    "video_projection",
    "fusion",
    "classifier",
    "audio_matching_head",
    "video_matching_head",
)


def audio_lora_config(
    model: Any, *, rank: int = 8, alpha: int | None = None, dropout: float = 0.0, **kwargs: Any
) -> Any:
    """Make a LoRA configuration with adapters on the attention and the feed-forward layers of the audio encoder.

    Projections, fusion and heads are trained completely and saved with the adapters. The learned temperature is not
    trained: it is no module, and peft saves modules only.

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

    layers = r"attention\.(q|k|v|out)_proj|feed_forward\.(intermediate|output)_dense"
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    defaults = {
        "target_modules": rf".*audio_encoder\.encoder\.layers\.\d+\.({layers})",
        "modules_to_save": [name for name in _NEW_PARTS if name in present],
    }
    alpha = 2 * rank if alpha is None else alpha
    return LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, **{**defaults, **kwargs})


__all__ = ["audio_lora_config"]
