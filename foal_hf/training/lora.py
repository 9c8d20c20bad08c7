"""Training few weights of a large audio encoder: LoRA, with peft."""

from typing import Any


# What is new in a Foal-Net, and has to be trained and saved beside the adapter.
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
    """A LoRA configuration that trains the transformer of the audio encoder by an adapter, and the rest as it is.

    Projections, fusion and heads are trained whole and saved with the adapter. The learned temperature is no module,
    which is all that peft can save: it stays at what it was.

    In WavLM the adapter goes to the feed-forward layers alone: its attention reads the weights of its projections
    without calling them, so that an adapter there would be trained by nothing and change nothing.

    Args:
        model ([`FoalNetForEmotionClassification`]): What will be wrapped.
        rank (`int`, defaults to 8): Of the adapter.
        alpha (`int`, *optional*): Scale of the adapter, divided by the rank; twice the rank by default.
        dropout (`float`, defaults to 0.0): In front of the adapter, in [0, 1).
        **kwargs: More of `peft.LoraConfig`.

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

    layers = [r"feed_forward\.(intermediate|output)_dense"]
    if model.config.audio_config.model_type != "wavlm":
        layers.append(r"attention\.(q|k|v|out)_proj")
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=rf".*audio_encoder\.encoder\.layers\.\d+\.({'|'.join(layers)})",
        modules_to_save=[name for name in _NEW_PARTS if name in present],
        **kwargs,
    )


__all__ = ["audio_lora_config"]
