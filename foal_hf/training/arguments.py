"""`TrainingArguments` with fields for balanced sampling, and defaults for decoding clips."""

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy


def _default_num_workers() -> int:
    """Processes that decode clips: one per core except one, at most four."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, (num_cores - 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@dataclass
class FoalNetTrainingArguments(TrainingArguments):
    """`TrainingArguments` with two more fields, and other defaults.

    Args:
        class_balanced (`bool`, defaults to `True`):
            Draw the clips of an epoch with replacement, so that all classes are equally frequent, as published.
        allow_shared_speakers (`bool`, defaults to `False`):
            Train although a speaker is in the training and in the evaluation split.
        train_sampling_strategy (`str`, defaults to `"group_by_length"`):
            `"group_by_length"` or `"random"`, each with or without `class_balanced`; otherwise as in transformers.
            The dataset has to have the lengths (see [`FoalNetTrainer`]).
        remove_unused_columns (`bool`, defaults to `False`):
            Examples hold clips, which are not a model input.
        label_names (`list[str]`, defaults to `["labels"]`):
            Also for a model that PEFT wraps.
        dataloader_num_workers (`int`):
            Processes that decode clips. Defaults to the number of cores minus one, at most 4.
        dataloader_persistent_workers (`bool`, defaults to `True` with workers):
            Keep them over the epochs, with the clips that a dataset keeps in memory.
        dataloader_pin_memory (`bool`): Defaults to whether there is an accelerator.
        ddp_find_unused_parameters (`bool`, defaults to `True`):
            A batch without video, or a loss with weight 0, leaves parameters without gradient.
        metric_for_best_model (`str`): Defaults to `"unweighted_accuracy"` with `load_best_model_at_end`.
        hub_strategy (`str`, defaults to `"end"`):
            Or `"every_save"`. The others publish the optimiser state, a pickle, and are refused.

    Raises:
        ValueError: If fields contradict each other.
    """

    class_balanced: bool = field(default=True, metadata={"help": "Draw every class equally often."})
    allow_shared_speakers: bool = field(
        default=False, metadata={"help": "Train although a speaker is in the training and in the evaluation split."}
    )
    train_sampling_strategy: str = "group_by_length"
    remove_unused_columns: bool = False
    label_names: list[str] | None = field(default_factory=lambda: ["labels"])
    dataloader_num_workers: int = field(default_factory=_default_num_workers)
    dataloader_persistent_workers: bool = True
    dataloader_pin_memory: bool = field(default_factory=torch.accelerator.is_available)
    ddp_find_unused_parameters: bool | None = True
    hub_strategy: HubStrategy | str = "end"

    def __post_init__(self) -> None:
        if self.dataloader_num_workers == 0:
            self.dataloader_persistent_workers = False
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "unweighted_accuracy"
        super().__post_init__()
        if self.class_balanced and self.train_sampling_strategy not in ("random", "group_by_length"):
            raise ValueError(
                f"`train_sampling_strategy` {self.train_sampling_strategy!r} fixes the order of the clips, and "
                "`class_balanced` draws them: choose one of the two."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                "With `label_smoothing_factor`, Trainer computes its own loss instead of the model's, without AVEL and "
                "MEM. Leave it at 0."
            )
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"`hub_strategy` {HubStrategy(self.hub_strategy).value!r} publishes the optimiser state, a pickle. Use "
                "'end' or 'every_save', and resume from the checkpoints on disk."
            )


__all__ = ["FoalNetTrainingArguments"]
