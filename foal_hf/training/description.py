"""What a Trainer did, for the results file."""

from typing import Any

from transformers import Trainer

from ..foal_net.processing_foal_net import FoalNetProcessor
from ..results import Encoder, Training
from ..results.latency import describe_hardware


def describe_training(
    trainer: Trainer,
    processor: FoalNetProcessor,
    *,
    recipe: str | None = None,
    audio_encoder: Encoder | None = None,
    vision_encoder: Encoder | None = None,
    seconds: float | None = None,
) -> Training:
    """How training ran, from what Trainer was told.

    Args:
        trainer (`transformers.Trainer`): Of a Foal-Net.
        processor ([`FoalNetProcessor`]): That read the clips.
        recipe (`str`, *optional*): Name of the recipe.
        audio_encoder, vision_encoder ([`~foal_hf.results.Encoder`], *optional*): What training began with.
        seconds (`float`, *optional*): Time that it took.

    Returns:
        [`~foal_hf.results.Training`]: Part of a results file.
    """
    arguments, config = trainer.args, _config(trainer)
    return Training(
        audio_encoder=audio_encoder,
        vision_encoder=vision_encoder,
        recipe=recipe,
        num_epochs=float(arguments.num_train_epochs),
        batch_size=arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size,
        learning_rate=float(arguments.learning_rate),
        schedule=_schedule(arguments),
        optimizer=_value(arguments.optim),
        precision="bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32",
        loss_weights={
            "classification": 1.0,
            "alignment": float(config.alignment_loss_weight),
            "matching": float(config.matching_loss_weight),
        },
        modality_dropout=float(config.modality_dropout),
        frames_per_second=processor.frames_per_second,
        max_seconds=processor.max_seconds,
        seconds=seconds,
        hardware=describe_hardware(arguments.device),
    )


def best_epoch(trainer: Trainer) -> float | None:
    """The epoch that Trainer calls the best, where it was told to look for one."""
    step = trainer.state.best_global_step
    epochs = [entry["epoch"] for entry in trainer.state.log_history if step and entry["step"] == step]
    return float(epochs[0]) if epochs else None


def _config(trainer: Trainer) -> Any:
    assert trainer.model is not None  # a Trainer without one does not come to be
    return trainer.model.config


def _schedule(arguments: Any) -> str:
    # Below 1 it is a share of all steps, and from there on a number of them.
    warmup = arguments.warmup_steps
    words = f"{warmup:.0%} of the steps" if 0 < warmup < 1 else f"{warmup:.0f} steps"
    return _value(arguments.lr_scheduler_type) + (f", warm-up over {words}" if warmup else "")


def _value(choice: Any) -> str:
    """The text of an enumeration's value; Trainer also takes the bare text."""
    return str(getattr(choice, "value", choice))


__all__ = ["best_epoch", "describe_training"]
