"""One training with its test: a recipe, a corpus and a fold to a checkpoint and its results file.

    output/
      run.json            what this run is: another one is refused in the same folder
      features/           stored features of the frozen image encoder
      trainer/            checkpoints of the trainer while it trains; its log afterwards
      predictions.json    what the checkpoint says of each test clip
      checkpoint/         model, processor, card and results file
      results.json        written last

Each of these is there whole or not at all, so a run can be killed at any moment.
"""

import dataclasses
import logging
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..corpora.folds import Fold
from ..hub import CARD_NAME, RESULTS_NAME
from ..hub.cards import model_card
from ..results import Corpus, Protocol, Results, Selection, Split, installed_versions
from ..training import FoalNetTrainer
from ..training.calibration import MIN_CLIPS, calibrate
from ..training.description import best_epoch, describe_training
from .assembly import describe_encoders, make_arguments, make_model, make_processor
from .checks import check_corpus, check_parts, check_space
from .clips import BOTH, Clips
from .corpus_facts import merged_classes
from .predictions import Predictions, conditions_of
from .recipe import Recipe
from .records import PREDICTIONS_NAME, claim, describe_run, publishable_settings, source_commit


logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint"
_TRAINER_NAME = "trainer"
_UNFINISHED = ".unfinished"


def train_and_test(
    recipe: Recipe,
    corpus: Any,
    fold: Fold,
    output_dir: str | Path,
    *,
    about: Corpus,
    select: Selection = "validation",
    seed: int | None = None,
    modalities: Sequence[str] = BOTH,
    protocol: Protocol | None = None,
    store_dir: str | Path | None = None,
) -> Results:
    """Train, choose the checkpoint, test it once, and save it with its processor, card and results file.

    A run that was killed goes on from its last epoch when it is called again, and ends as if nothing had happened; one
    that was finished is not repeated. What the trainer kept to go on from is deleted at the end.

    Args:
        recipe ([`Recipe`]): Everything but the clips.
        corpus (`datasets.Dataset`): From [`~foal_hf.corpora.load_corpus`].
        fold ([`~foal_hf.corpora.folds.Fold`]): Which rows train, validate and test.
        output_dir (`str` or `pathlib.Path`): Folder of the run.
        about ([`~foal_hf.results.Corpus`]): What the card says of the corpus, see [`describe_corpus`].
        select (`"validation"`, `"last"` or `"test-best-epoch"`): What the epoch is chosen by: its UA on the validation
            part of the fold; nothing, the last one is taken; or its UA on the test, as the authors did. Then the card
            says that the numbers are too good. With `"validation"` nothing of the test part is read before the end.
        seed (`int`, *optional*): Of weights, batches and dropout; the recipe's by default.
        modalities (`Sequence[str]`, defaults to both): What the model is trained and tested with.
        protocol ([`~foal_hf.results.Protocol`], *optional*): How the fold was made, in words.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features, which runs may share; by default
            `features` in `output_dir`. Only used where the image encoder is frozen.

    Returns:
        [`~foal_hf.results.Results`]: As in `results.json`. A model whose training hid sound or picture of some clips
        (`modality_dropout`) is tested with each alone as well.

    Raises:
        ValueError, TypeError, OSError: Before the first step, if parts of the fold are empty or share a speaker, labels
            do not fit, the folder holds another run, or the disk has too little room.
        FloatingPointError: If the loss is not finite.

    Example:
        ```python
        corpus = load_corpus("iemocap", data_dir="IEMOCAP_full_release")
        fold = make_folds(corpus)[4]
        results = train_and_test(load_recipe("paper"), corpus, fold, "run", about=describe_corpus("iemocap"))
        print(results.conditions["both"].unweighted_accuracy)
        ```
    """
    output = Path(output_dir)
    seed = recipe.seed if seed is None else seed
    labels = check_corpus(corpus)
    rows = _rows_of(fold, select)
    ids = {name: list(corpus.select(part)["clip_id"]) for name, part in rows.items()}
    arguments = make_arguments(recipe, output / _TRAINER_NAME, seed=seed, evaluates=select != "last")
    is_main = arguments.process_index == 0
    facts = {"held_out": fold.name, "select": select, "seed": seed, "modalities": list(modalities), "labels": labels}
    run = describe_run(recipe, ids, **facts)
    claim(output, run, write=False)
    if (output / RESULTS_NAME).is_file():
        _tidy(output, is_main)
        return Results.load(output / RESULTS_NAME)

    results = _Draft(recipe, labels, about, select, seed, protocol or _protocol(fold), _splits(corpus, rows, ids))
    results.finish().check_publishable()  # now, and not when it is written
    set_seed(seed)
    model: Any = make_model(recipe, labels, generated=bool(about.generated))
    processor = make_processor(recipe)
    clips = Clips(
        corpus,
        recipe,
        model,
        processor,
        modalities=modalities,
        store_dir=output / "features" if store_dir is None else Path(store_dir),
        num_workers=arguments.dataloader_num_workers,
    )
    check_parts(
        {"training" if name == "train" else name: clips.unread(part) for name, part in rows.items()},
        allow_shared_speakers=arguments.allow_shared_speakers,
    )
    if arguments.save_strategy != "no":
        with_optimizer = not arguments.save_only_model
        check_space(output, model, keeps_best=select != "last", with_optimizer=with_optimizer)
    claim(output, run, write=is_main)
    if select == "test-best-epoch":
        logger.warning("The checkpoint is chosen on the test session: its numbers will be too good.")

    model.to(arguments.device)
    trainer = FoalNetTrainer(
        model,
        arguments,
        train_dataset=clips.examples(rows["train"]),
        eval_dataset={
            "validation": lambda: clips.examples(rows["validation"]),
            "last": lambda: None,
            "test-best-epoch": lambda: clips.examples(rows["test"]),
        }[select](),
        data_collator=clips.collator,
    )
    checkpoint, started = last_checkpoint(output / _TRAINER_NAME, delete=is_main), time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = None if checkpoint is not None else time.perf_counter() - started
    if select != "last":
        _check_chosen(trainer)
    if select == "validation":
        _calibrate(trainer, len(rows["validation"]))

    audio_encoder, vision_encoder = describe_encoders(recipe)
    training = describe_training(
        trainer,
        processor,
        recipe=recipe.name,
        audio_encoder=audio_encoder,
        vision_encoder=vision_encoder,
        seconds=seconds,
    )
    results.training = dataclasses.replace(training, settings=publishable_settings(recipe))
    results.selected_epoch = trainer.state.epoch if select == "last" else best_epoch(trainer)
    results.selection_score = None if select == "last" else _score_of_chosen(trainer)
    outputs = {
        condition: trainer.predict(clips.examples(rows["test"], looked_at), metric_key_prefix="test")
        for condition, looked_at in conditions_of(model.config, modalities).items()
    }
    results.predictions = Predictions.of(
        corpus.select(rows["test"]), labels, outputs, model.config.calibration_temperature
    )
    finished = results.finish()
    if is_main:
        results.predictions.save(output / PREDICTIONS_NAME)
        _save_checkpoint(output / CHECKPOINT_NAME, trainer, processor, finished)
        trainer.state.save_to_json(str(output / _TRAINER_NAME / TRAINER_STATE_NAME))
        finished.save(output / RESULTS_NAME)
        _tidy(output, is_main)
    trainer.accelerator.wait_for_everyone()
    return finished


def last_checkpoint(folder: Path, *, delete: bool = True) -> Path | None:
    """The last checkpoint of a trainer that was written to its end.

    Args:
        folder (`pathlib.Path`): Of the trainer.
        delete (`bool`, defaults to `True`): Delete what a killed process left unfinished.
    """
    found = {path: path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-") for path in folder.glob("checkpoint-*")}
    steps = {path: int(step) for path, step in found.items() if step.isdigit()}
    for path in sorted(steps, key=steps.__getitem__, reverse=True):
        with suppress(OSError, ValueError, TypeError):  # the state is what Trainer writes last
            TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
            return path
        if delete:
            logger.warning("%s was not written to its end, and is deleted.", path)
            shutil.rmtree(path)
    return None


@dataclass
class _Draft:
    """A results file in the making."""

    recipe: Recipe
    labels: list[str]
    about: Corpus
    select: Selection
    seed: int
    protocol: Protocol
    splits: dict[str, Split]
    training: Any = None
    selected_epoch: float | None = None
    selection_score: float | None = None
    predictions: Predictions | None = None

    def finish(self) -> Results:
        return Results(
            corpus=self.about,
            labels=self.labels,
            protocol=self.protocol,
            selection=self.select,
            conditions=self.predictions.evaluations() if self.predictions else {},
            merged_classes=merged_classes(self.about, self.labels),
            splits=self.splits,
            seeds=[self.seed],
            selected_epoch=self.selected_epoch,
            selection_score=self.selection_score,
            training=self.training,
            versions=installed_versions(),
            commit=source_commit(),
        )


def _rows_of(fold: Fold, select: Selection) -> dict[str, list[int]]:
    """The parts that a run uses. What validates in a fold is left out where nothing is chosen on it."""
    if select not in ("validation", "last", "test-best-epoch"):
        raise ValueError(f"`select` is {select!r}; expected 'validation', 'last' or 'test-best-epoch'.")
    rows = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    if select != "validation":
        if fold.validation:
            logger.warning(
                "%d clips validate in the fold %s, where select=%r chooses nothing on them: they are left out.",
                *(len(fold.validation), fold.name, select),
            )
        del rows["validation"]
    return rows


def _splits(corpus: Any, rows: dict[str, list[int]], ids: dict[str, list[str]]) -> dict[str, Split]:
    speakers = {name: set(corpus.select(part)["speaker"]) - {None} for name, part in rows.items()}
    return {name: Split(len(ids[name]), len(speakers[name]) or None, ids[name]) for name in rows}


def _protocol(fold: Fold) -> Protocol:
    return Protocol("held-out", "No speaker is in two of the parts for training, validation and testing.", fold.name)


def _check_chosen(trainer: FoalNetTrainer) -> None:
    """Trainer only warns where the best checkpoint is not there, and goes on with the last one."""
    best = trainer.state.best_model_checkpoint
    if best is None or not Path(best).is_dir():
        raise RuntimeError(
            f"The best checkpoint ({best}) is not there any more. Was the folder moved while the run was interrupted? "
            "Move it back, or delete its folder `trainer` and train once more."
        )


def _calibrate(trainer: FoalNetTrainer, num_clips: int) -> None:
    """Fit the temperature of the scores on the validation part, where that has enough clips."""
    if num_clips < MIN_CLIPS:
        logger.warning("The scores are not calibrated: %d clips validate, %d would do.", num_clips, MIN_CLIPS)
        return
    try:
        calibrate(trainer)
    except ValueError as error:
        logger.warning("The scores are not calibrated: %s", error)


def _score_of_chosen(trainer: FoalNetTrainer) -> float | None:
    """UA of the chosen epoch on the clips that it was chosen by."""
    step, name = trainer.state.best_global_step, "eval_unweighted_accuracy"
    return next((entry[name] for entry in trainer.state.log_history if entry["step"] == step and name in entry), None)


def _save_checkpoint(folder: Path, trainer: FoalNetTrainer, processor: Any, results: Results) -> None:
    """Model, processor, card and results file; the folder is whole when it has its name."""
    unfinished = folder.with_name(folder.name + _UNFINISHED)
    for stale in (unfinished, folder):
        shutil.rmtree(stale, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    results.save(unfinished / RESULTS_NAME)
    (unfinished / CARD_NAME).write_text(model_card(model.config, results), encoding="utf-8")
    unfinished.rename(folder)


def _tidy(output: Path, is_main: bool) -> None:
    """Delete what a finished run no longer needs: the states of the optimiser are three times its weights."""
    if is_main:
        for path in (output / _TRAINER_NAME).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(path, ignore_errors=True)


__all__ = ["CHECKPOINT_NAME", "last_checkpoint", "train_and_test"]
