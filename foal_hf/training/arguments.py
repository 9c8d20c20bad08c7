"""`TrainingArguments` with what balanced sampling and decoding of clips need."""

import os
from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import HubStrategy


def _default_num_workers() -> int:
    """Processes that decode clips: one for each core but one, four at most."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, (num_cores - 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@dataclass
class FoalNetTrainingArguments(TrainingArguments):
    """`TrainingArguments` with two fields more, and other defaults where clips ask for them.

    Args:
        class_balanced (`bool`, defaults to `True`):
            Draw the clips of an epoch with replacement, so that every emotion comes equally often, as published.
        allow_shared_speakers (`bool`, defaults to `False`):
            Train although a speaker is in the training and in the evaluation split.
        train_sampling_strategy (`str`, defaults to `"group_by_length"`):
            `"group_by_length"` or `"random"`, each with or without `class_balanced`; as in transformers otherwise.
            The dataset has to know the lengths (see [`FoalNetTrainer`]).
        remove_unused_columns (`bool`, defaults to `False`):
            Rows hold clips, which are no argument of the model.
        label_names (`list[str]`, defaults to `["labels"]`):
            Also for a model that peft wraps.
        dataloader_num_workers (`int`):
            Clips are decoded in so many processes beside this one. Defaults to the cores less one, 4 at most.
        dataloader_persistent_workers (`bool`, defaults to `True` with workers):
            Keep them over the epochs, and with them the clips that a dataset keeps in memory.
        dataloader_pin_memory (`bool`): Defaults to whether there is an accelerator.
        ddp_find_unused_parameters (`bool`, defaults to `True`):
            A batch without pictures, or a loss with weight 0, leaves parameters without gradient.
        metric_for_best_model (`str`): Defaults to `"unweighted_accuracy"` with `load_best_model_at_end`.
        hub_strategy (`str`, defaults to `"end"`):
            Or `"every_save"`. The others publish the state of the optimiser, a pickle, and are refused.

    Raises:
        ValueError: If fields contradict each other.
    """

    class_balanced: bool = field(default=True, metadata={"help": "Draw every emotion equally often."})
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
                f"`train_sampling_strategy={self.train_sampling_strategy!r}` fixes the order of the clips and "
                "`class_balanced=True` draws them: set one of the two."
            )
        if self.label_smoothing_factor:
            raise ValueError(
                "`label_smoothing_factor` makes Trainer compute a loss of its own in place of the model's, without "
                "AVEL and MEM. Leave it at 0."
            )
        if self.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            raise ValueError(
                f"`hub_strategy={HubStrategy(self.hub_strategy).value!r}` publishes pickles of the optimiser beside "
                "the model. Use 'end' or 'every_save', and resume from the checkpoints on the disk."
            )


__all__ = ["FoalNetTrainingArguments"]
