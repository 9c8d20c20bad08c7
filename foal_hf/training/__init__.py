"""Training: Trainer with balanced sampling, the three losses in the log, and checks before the first step.

The plain Trainer of transformers trains the model too, since the losses are in the model.

With several processes AVEL contrasts the clips of all of them, with gradient, so losses and gradients are those of one
process with the whole batch. Gradient accumulation is different: the classification loss is that of the larger batch,
but AVEL contrasts, and MEM draws its negatives, within each batch that goes through the model.
"""

import shutil
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, HubStrategy, TrainOutput
from transformers.utils import logging

from ..data.sampling import BalancedLengthSampler
from ..hub import CARD_NAME, RESULTS_NAME
from ..hub.cards import model_card
from ..metrics import compute_metrics
from ..results import Corpus, Results
from .arguments import FoalNetTrainingArguments
from .checks import (
    check_disk_space,
    check_features,
    check_labels,
    check_not_empty,
    check_speakers,
    checkpoint_bytes,
    column_of,
    last_good_checkpoint,
)
from .record import TrainingRecord


logger = logging.get_logger(__name__)

_DEFAULT_METRICS = compute_metrics
LOSSES = ("classification_loss", "alignment_loss", "matching_loss")


class FoalNetTrainer(Trainer):
    """Trainer for [`FoalNetForEmotionClassification`].

    It adds class-balanced batches of similar length; the three losses beside `loss` in every log and evaluation; UA and
    WA as metrics; checks before the first step; an error if the loss is not finite; a results file that lists the
    training clips (see [`~foal_hf.training.record.TrainingRecord`]); and our model card. Everything else is as in
    transformers.

    A run that is resumed from a checkpoint ends with the same weights as without the interruption, bit for bit, if the
    arithmetic of the machine repeats (on CPUs with one thread: `OMP_NUM_THREADS=1`), and reading a clip is not random.

    It gets facts about the clips from the datasets without reading a clip: from an attribute of the dataset, a column
    of its rows, or a key of each example in a list.

    | fact | used for | if unknown |
    | --- | --- | --- |
    | `labels` | `class_balanced` | error |
    | `lengths`, `length`, `seconds`, or `start_seconds` and `end_seconds` | `group_by_length` | warning; not grouped |
    | `speakers` or `speaker` | finding a speaker in two splits | not checked |
    | `clip_ids` or `clip_id` | the results file; errors that name clips | not listed; index instead |

    Args:
        model, args, compute_metrics, **kwargs: As in `Trainer`; `args` are [`FoalNetTrainingArguments`]. The default
            metrics need a model of one class per clip: for regression and several classes there are none.
        corpus ([`~foal_hf.results.Corpus`], *optional*): For the results file and the model card.
    """

    # As set by Trainer; its own annotations are wider.
    args: FoalNetTrainingArguments
    model: Any
    train_dataset: Any
    eval_dataset: Any

    def __init__(
        self,
        model: Any = None,
        args: FoalNetTrainingArguments | None = None,
        *,
        compute_metrics: Any = compute_metrics,
        corpus: Corpus | None = None,
        **kwargs: Any,
    ) -> None:
        if not hasattr(args, "class_balanced"):
            raise TypeError(f"`args` has to be FoalNetTrainingArguments, got {type(args).__name__}.")
        if compute_metrics is _DEFAULT_METRICS and model is not None and not _has_one_class(model):
            compute_metrics = None
        super().__init__(model, args, compute_metrics=compute_metrics, **kwargs)
        self._position = _Position()
        self.add_callback(self._position)
        self._record = TrainingRecord(corpus)
        self.add_callback(self._record)
        self._batch_losses: dict[str, torch.Tensor] = {}
        self._train_losses = _Mean()
        self._eval_losses = _Mean()

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in Trainer, after [`check`].

        Raises:
            FloatingPointError: If the loss is not finite; the message names the step, the clips, and the last
                checkpoint with finite weights.
            ValueError, OSError: As in [`check`].
        """
        self.check()
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def check(self) -> None:
        """Find errors now that would otherwise break or spoil the run later.

        Raises:
            ValueError: If a split is empty, its labels do not fit the model, a class has no training clips, a speaker
                is in two splits, or stored features come from another encoder.
            OSError: If a checkpoint does not fit on the disk.
        """
        config, evaluated = self.model.config, self.eval_dataset
        has_one_class = _has_one_class(self.model)
        if self.args.class_balanced and not has_one_class:
            raise ValueError(
                f"`class_balanced` needs one class per clip, but the model has `problem_type` {config.problem_type!r}. "
                "Set `class_balanced` to false."
            )
        if not isinstance(evaluated, Mapping):
            evaluated = {} if evaluated is None else {"evaluation": evaluated}
        for split, dataset in {"training": self.train_dataset, **evaluated}.items():
            if dataset is None:
                continue
            is_training = dataset is self.train_dataset
            check_not_empty(dataset, split)
            if has_one_class:
                check_labels(dataset, config.id2label, split, needs_every_class=is_training)
            if not (is_training or self.args.allow_shared_speakers):
                check_speakers(self.train_dataset, dataset, split)
            if hasattr(dataset, "__getitem__"):
                check_features(self.data_collator([dataset[0]]), config, split)
        if self.args.save_strategy != "no":
            with_optimizer = not self.args.save_only_model
            check_disk_space(self._folder, checkpoint_bytes(self.model, with_optimizer=with_optimizer))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """As in Trainer; also keeps the three losses of the batch."""
        self._batch_losses = {}
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        parts = outputs if isinstance(outputs, Mapping) else {}
        self._batch_losses = {name: parts[name].detach().mean() for name in LOSSES if parts.get(name) is not None}
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As in Trainer, with an error if the loss is not finite."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not loss.isfinite():
            raise FloatingPointError(self._explain_broken_loss(float(loss)))
        # As for the loss itself: the mean over an optimiser step, then over the steps since the last log.
        self._train_losses.add(self._batch_losses, weight=1.0 / self.current_gradient_accumulation_steps)
        return loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As in Trainer; also sums the three losses."""
        self._batch_losses = {}
        prediction = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if self._batch_losses:
            # As Trainer does with the loss: one value per clip, without the padding of the last batch.
            losses = torch.stack(list(self._batch_losses.values())).repeat(self.args.eval_batch_size, 1)
            losses = self.accelerator.gather_for_metrics(losses)  # (clips, losses)
            means = dict(zip(self._batch_losses, losses.mean(dim=0), strict=True))
            self._eval_losses.add(means, weight=float(len(losses)))
        return prediction

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in Trainer, with the three losses among the metrics. AVEL depends on the size of the batches.

        Random negatives and the like do not change the training that continues afterwards.
        """
        self._eval_losses = _Mean()
        with torch.random.fork_rng(devices=[self.args.device] if self.args.device.type == "cuda" else []):
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
            )
        losses = {f"{metric_key_prefix}_{name}": float(loss) for name, loss in self._eval_losses.take().items()}
        return output._replace(metrics={**(output.metrics or {}), **losses})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in Trainer, with the three losses beside `loss`, over the same steps and processes."""
        if "loss" in logs and (means := self._train_losses.take()):
            over_ranks = self.accelerator.gather(torch.stack(list(means.values()))[None])  # (ranks, losses)
            logs.update(zip(means, over_ranks.mean(dim=0).tolist(), strict=True))
        super().log(logs, start_time)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write our model card into `output_dir`, from the config and its `results.json`.

        The arguments of Trainer's own card are not used.
        """
        if self.is_world_process_zero():
            path = self._folder / RESULTS_NAME
            results = Results.load(path) if path.is_file() else None
            card = model_card(self.model.config, results, repo_id=self.args.hub_model_id)
            (self._folder / CARD_NAME).write_text(card, encoding="utf-8")

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """Save to `output_dir` and publish it with [`~foal_hf.hub.push_checkpoint`], without pickles.

        Args:
            commit_message, token, revision, private: As in Trainer.
            blocking (`bool`): Not used: the push always blocks.
            **kwargs: Not used: the card needs none.

        Returns:
            [`~foal_hf.hub.commit.Push`] on the main process, `None` on the others.

        Raises:
            ValueError: If the model is wrapped by peft: merge it first.
        """
        if hasattr(self.model, "merge_and_unload"):
            raise ValueError(
                "An adapter alone cannot be run: merge it with `model.merge_and_unload()`, save the result with its "
                "processor, and push the folder with `push_checkpoint`."
            )
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        self.create_model_card()
        return self._push(self._folder, commit_message, token=token, revision=revision, private=private)

    @property
    def _folder(self) -> Path:
        return Path(str(self.args.output_dir))

    def _push(self, folder: str | Path, message: str | None, **kwargs: Any) -> Any:
        from ..hub import push_checkpoint

        given = {name: value for name, value in kwargs.items() if value is not None}
        defaults = {
            "token": self.args.hub_token,
            "revision": self.args.hub_revision,
            "private": self.args.hub_private_repo,
        }
        repo_id = self.hub_model_id or self.args.hub_model_id or self._folder.absolute().name
        return push_checkpoint(folder, repo_id, commit_message=message, **{**defaults, **given})

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """With `hub_strategy="every_save"`: the checkpoint without pickles. If the Hub fails, training continues."""
        if self.is_world_process_zero() and self.args.hub_strategy != HubStrategy.END:
            try:
                self._push(checkpoint_folder, f"Training in progress, step {self.state.global_step}")
            except (RuntimeError, OSError) as error:
                logger.warning(f"The checkpoint of step {self.state.global_step} was not pushed. {error}")

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        """As in Trainer, but creating an iterator does not draw from the global random state.

        torch draws a seed for the workers whenever an iterator is created. With persistent workers that happens once a
        run, and once more after resuming: dropout would differ from then on.
        """
        loader = super()._get_dataloader(*args, **kwargs)
        getattr(loader, "base_dataloader", loader).generator = torch.Generator().manual_seed(self.args.seed)
        return loader

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As in Trainer. The results file goes with the weights to any folder."""
        super()._save(output_dir, state_dict)
        target, source = Path(output_dir or self._folder, RESULTS_NAME), self._folder / RESULTS_NAME
        if source.is_file() and not target.exists():
            shutil.copyfile(source, target)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Our sampler, whose order depends on seed and epoch only; streams of `datasets` have no sampler."""
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not hasattr(dataset, "__len__") or self.args.train_sampling_strategy not in ("random", "group_by_length"):
            return super()._get_train_sampler(train_dataset)
        labels = lengths = None
        if self.args.class_balanced:
            labels = column_of(dataset, "labels", "label")
            if labels is None:
                raise ValueError(
                    f"`class_balanced` needs the labels of all clips before training, and {type(dataset).__name__} "
                    "does not have them. Give it an attribute `labels`, or turn `class_balanced` off."
                )
        if self.args.train_sampling_strategy == "group_by_length":
            lengths = _lengths_of(dataset, self.args.length_column_name)
            if lengths is None:
                logger.warning(
                    f"The clips are not grouped by length: {type(dataset).__name__} does not have their lengths. Give "
                    "it an attribute `lengths`, or set `train_sampling_strategy` to 'random'."
                )
        return BalancedLengthSampler(
            len(dataset),
            self._train_batch_size,
            labels=labels,
            lengths=lengths,
            num_processes=self.args.world_size,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
        )

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        """The order of the rows; Trainer itself would sort by length if training groups by length."""
        if not hasattr(eval_dataset, "__len__") or self.args.world_size > 1:
            return None
        return SequentialSampler(eval_dataset)

    def _explain_broken_loss(self, loss: float) -> str:
        parts = ", ".join(f"{name} {float(value):.4g}" for name, value in self._batch_losses.items())
        parts = f" ({parts})" if parts else ""
        weights_are_finite = all(bool(weight.isfinite().all()) for weight in self.model.parameters())
        cause = "these clips" if weights_are_finite else "an earlier step, because some weights are not finite either"
        checkpoint = last_good_checkpoint(self._folder, self.state.global_step)
        return (
            f"The loss became {loss} in step {self.state.global_step + 1}{parts}. Clips of the batch: "
            f"{', '.join(map(str, self._clips_of_batch()))}. The cause is {cause}. Last checkpoint with finite "
            f"weights: {checkpoint or 'none was saved'}. Check the clips, or resume from there with a smaller learning "
            "rate, or with bf16 instead of fp16."
        )

    def _clips_of_batch(self) -> list[Any]:
        """Ids of the clips of this process's batch, or their index; the sampler repeats the epoch to find them."""
        batches = getattr(self.callback_handler.train_dataloader, "batch_sampler", None)
        if batches is None:  # a stream
            return ["unknown"]
        rows: list[int] = next(islice(batches, self._position.num_batches_done, None), [])
        ids = column_of(self.train_dataset, "clip_ids", "clip_id")
        return [row if ids is None else ids[row] for row in rows]


class _Position(TrainerCallback):
    """Counts the finished batches of the epoch. Also tells the sampler the epoch of a resumed run.

    When a distributed run resumes in the middle of an epoch, accelerate wraps the sampler once more and no longer
    passes the epoch on to it; the wrapped loader still does.
    """

    def __init__(self) -> None:
        self.num_batches_done = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        done = 0.0 if args.ignore_data_skip else (state.epoch or 0.0) % 1.0
        loader = kwargs["train_dataloader"]
        self.num_batches_done = round(done * len(loader)) if hasattr(loader, "__len__") else 0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        loader = kwargs["train_dataloader"]
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(int(state.epoch or 0))

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.num_batches_done += 1

    on_step_end = on_substep_end

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.num_batches_done = 0


class _Mean:
    """Weighted means of named losses, summed on the device without synchronisation."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._weight = 0.0

    def add(self, losses: Mapping[str, torch.Tensor], weight: float) -> None:
        for name, loss in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * loss.float()
        self._weight += weight

    def take(self) -> dict[str, torch.Tensor]:
        """Return the means and start again."""
        means = {name: total / self._weight for name, total in self._sums.items()}
        self._sums, self._weight = {}, 0.0
        return means


def _has_one_class(model: Any) -> bool:
    """Whether a model predicts one class per clip."""
    return model.config.problem_type in (None, "single_label_classification")


def _lengths_of(dataset: Any, column: str) -> list[float] | None:
    """The length of each clip, in one unit, if all are known."""
    lengths = column_of(dataset, "lengths", column, "seconds")
    if lengths is None:
        starts, ends = column_of(dataset, "start_seconds"), column_of(dataset, "end_seconds")
        if ends is not None and None not in ends:
            starts = starts or [0.0] * len(ends)
            lengths = [end - (start or 0.0) for start, end in zip(starts, ends, strict=True)]
    return None if lengths is None or None in lengths else lengths


__all__ = ["LOSSES", "FoalNetTrainer", "FoalNetTrainingArguments", "TrainingRecord"]
