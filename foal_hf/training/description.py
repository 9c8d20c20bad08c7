"""Describes a training run for the results file."""

from typing import Any

from transformers import TrainerState

from ..results import Training
from ..results.latency import describe_hardware


def describe_training(arguments: Any, config: Any, processor: Any = None, **facts: Any) -> Training:
    """How training arguments train a model.

    Args:
        arguments (`transformers.TrainingArguments`): Of the trainer.
        config ([`FoalNetConfig`]): Of the model.
        processor ([`FoalNetProcessor`], *optional*): The one that read the clips.
        **facts: Other fields of [`~foal_hf.results.Training`].

    Returns:
        [`~foal_hf.results.Training`]: Part of a results file.
    """
    return Training(
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
        frames_per_second=getattr(processor, "frames_per_second", None),
        max_seconds=getattr(processor, "max_seconds", None),
        hardware=describe_hardware(arguments.device),
        **facts,
    )


def best_epoch(state: TrainerState) -> float | None:
    """The epoch of the best checkpoint; None if none was looked for."""
    step = state.best_global_step
    epochs = [entry["epoch"] for entry in state.log_history if step and entry["step"] == step]
    return float(epochs[0]) if epochs else None


def _schedule(arguments: Any) -> str:
    # Below 1 it is a share of all steps, from 1 on a number of steps.
    warmup = arguments.warmup_steps
    words = f"{warmup:.0%} of the steps" if 0 < warmup < 1 else f"{warmup:.0f} steps"
    return _value(arguments.lr_scheduler_type) + (f", warm-up over {words}" if warmup else "")


def _value(choice: Any) -> str:
    """The text of an enumeration's value; Trainer also accepts plain text."""
    return str(getattr(choice, "value", choice))


__all__ = ["best_epoch", "describe_training"]
