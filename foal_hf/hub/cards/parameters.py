"""How many parameters the parts of a model have, from its config alone."""

from typing import Any

import torch

from ...foal_net.configuration_foal_net import FoalNetConfig
from ...foal_net.modeling_foal_net import FoalNetForEmotionClassification, FoalNetModel


def count_parameters(config: FoalNetConfig) -> dict[str, tuple[int, int]]:
    """Parameters of each part of the model that a config describes; no weights are allocated.

    Args:
        config ([`FoalNetConfig`]): Of the checkpoint.

    Returns:
        `dict[str, tuple[int, int]]`: All parameters and trainable ones, of `"audio encoder"`,
        `"image encoder"`, `"alignment, fusion and heads"` and, last, `"all"`.
    """
    # Some encoders draw initial weights on the meta device too: leave the random state of a running training alone.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        model: Any = (FoalNetModel if is_headless(config) else FoalNetForEmotionClassification)(config)
    base = model if is_headless(config) else model.foal_net
    encoders = {"audio encoder": base.audio_encoder, "image encoder": base.vision_encoder}
    counts = {name: (0, 0) if module is None else _count(module) for name, module in encoders.items()}
    all_parameters, trainable = _count(model)
    counts["alignment, fusion and heads"] = (
        all_parameters - sum(number for number, _ in counts.values()),
        trainable - sum(number for _, number in counts.values()),
    )
    return {**counts, "all": (all_parameters, trainable)}


def is_headless(config: FoalNetConfig) -> bool:
    """Whether a checkpoint holds no classifier."""
    return (config.architectures or [""])[0] == FoalNetModel.__name__


def _count(module: Any) -> tuple[int, int]:
    return module.num_parameters(), module.num_parameters(only_trainable=True)


__all__ = ["count_parameters", "is_headless"]
