"""Records with a checkpoint what it was trained on, so that `evaluate` does not test it on its training clips."""

import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..hub import RESULTS_NAME
from ..results import Corpus, Protocol, Results, Split, installed_versions
from .checks import column_of
from .description import best_epoch, describe_training


logger = logging.getLogger(__name__)

UNNAMED_CORPUS = "an unnamed corpus"


class TrainingRecord(TrainerCallback):
    """Writes a results file with the ids of the training and validation clips beside each checkpoint of a Trainer.

    The file is `results.json` in each `checkpoint-*` folder, and in `output_dir` at the end of training. The model
    card is made from it, a push includes it, and `foal-hf evaluate` refuses to test the checkpoint on these clips.
    [`FoalNetTrainer`] has this callback by default; the plain Trainer takes it as `callbacks=[TrainingRecord()]`.

    Args:
        corpus ([`~foal_hf.results.Corpus`], *optional*): For the model card, see
            [`~foal_hf.experiments.describe_corpus`].
    """

    def __init__(self, corpus: Corpus | None = None) -> None:
        self.corpus = corpus or Corpus(UNNAMED_CORPUS)
        self._splits: dict[str, Split] = {}
        self._is_training = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the training clips."""
        self._splits, self._is_training = {}, True
        self._add("train", kwargs["train_dataloader"])

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Record the validation clips, which are those of evaluations during training."""
        if self._is_training:
            self._add("validation", kwargs["eval_dataloader"])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the results file of a checkpoint."""
        self._write(Path(str(args.output_dir), f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"), args, state, kwargs)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the results file of the run."""
        self._is_training = False
        self._write(Path(str(args.output_dir)), args, state, kwargs)

    def _add(self, name: str, loader: Any) -> None:
        """Record the clips of a loader; those of several validation splits together."""
        dataset: Any = getattr(loader, "dataset", None)
        if not hasattr(dataset, "__len__"):  # a stream
            return
        ids = set(map(str, column_of(dataset, "clip_ids", "clip_id") or ()))
        speakers = set(column_of(dataset, "speakers", "speaker") or ()) - {None}
        if name in self._splits:
            ids |= set(self._splits[name].clip_ids)
        self._splits[name] = Split(len(ids) or len(dataset), len(speakers) or None, sorted(ids))

    def _write(self, folder: Path, args: TrainingArguments, state: TrainerState, kwargs: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        config = kwargs["model"].config
        results = Results(
            corpus=self.corpus,
            labels=[str(name) for _, name in sorted(config.id2label.items())],
            protocol=Protocol("not-recorded", "How the clips were split is not recorded."),
            selection="validation" if args.load_best_model_at_end else "last",
            splits=self._splits,
            seeds=[args.seed],
            selected_epoch=best_epoch(state) if args.load_best_model_at_end else state.epoch,
            training=describe_training(args, config, kwargs.get("processing_class")),
            versions=installed_versions(),
        )
        try:
            results.save(folder / RESULTS_NAME)
        except ValueError as error:  # nothing that a long training should fail for
            logger.warning("The clips that the checkpoint was trained on are not recorded. %s", error)


__all__ = ["UNNAMED_CORPUS", "TrainingRecord"]
