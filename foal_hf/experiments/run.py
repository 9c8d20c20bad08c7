"""One training with its test: from a recipe, a corpus and a fold to a checkpoint with its results file.

    output/
      run.json            identifies the run: another run is refused in the same folder
      features/           stored features of the frozen image encoder
      trainer/            checkpoints of Trainer during training; its log afterwards
      predictions.json    predictions of the checkpoint on each test clip
      checkpoint/         model, processor, card and results file
      results.json        written last

Each file is complete or absent, so a run can be killed at any moment.
"""

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerState, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..corpora.feature_files import feature_widths
from ..corpora.folds import Fold
from ..corpora.schema import undecoded
from ..hub import CARD_NAME, RESULTS_NAME
from ..hub.cards import model_card
from ..results import Corpus, Protocol, Results, Selection, Split, Training, installed_versions
from ..training import FoalNetTrainer
from ..training.calibration import MIN_CLIPS, calibrate
from ..training.checks import check_disk_space, checkpoint_bytes
from ..training.description import best_epoch, describe_training
from .assembly import describe_encoders, make_arguments, make_model, make_processor
from .checks import check_corpus, check_splits
from .clips import BOTH, Clips
from .corpus_facts import merged_classes
from .predictions import Predictions, conditions_of
from .recipe import FEATURES, Recipe
from .records import PREDICTIONS_NAME, claim, describe_run, publishable_settings, source_commit
from .starting_point import StartingPoint


logger = logging.getLogger(__name__)

CHECKPOINT_NAME = "checkpoint"
_TRAINER_NAME = "trainer"
# The split that the checkpoint is chosen on.
_CHOSEN_ON = {"validation": "validation", "last": None, "test-best-epoch": "test"}


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
    init: str | Path | StartingPoint | None = None,
) -> Results:
    """Train, choose the checkpoint, test it once, and save it with its processor, card and results file.

    A killed run continues from its last epoch when it is called again, with the same result as without the
    interruption. A finished run is not repeated. Trainer's own checkpoints are deleted at the end.

    Args:
        recipe ([`Recipe`]): Everything except the clips.
        corpus (`datasets.Dataset`): From [`~foal_hf.corpora.load_corpus`].
        fold ([`~foal_hf.corpora.folds.Fold`]): The rows of each split.
        output_dir (`str` or `pathlib.Path`): Folder of the run.
        about ([`~foal_hf.results.Corpus`]): The corpus in the card, see [`describe_corpus`].
        select (`"validation"`, `"last"` or `"test-best-epoch"`): How the epoch is chosen: by its UA on the validation
            split; not at all, the last one is used; or by its UA on the test split, as in the authors' code. In that
            case the card says that the results are too good. With `"validation"` and `"last"` the test split is not
            read before training has ended.
        seed (`int`, *optional*): Of weights, batches and dropout; the recipe's by default.
        modalities (`Sequence[str]`, defaults to both): What the model is trained and tested with.
        protocol ([`~foal_hf.results.Protocol`], *optional*): How the fold was made, in words.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features, which runs can share; by default
            `features` in `output_dir`. Only used if the image encoder is frozen.
        init (`str` or `pathlib.Path`, *optional*): A checkpoint to start from: folder, Hub name or `"foal-net-small"`.
            Its encoders, processor and, for labels of the same name, classifier are used; see [`StartingPoint`].

    Returns:
        [`~foal_hf.results.Results`]: As in `results.json`. A model trained with `modality_dropout` is tested with each
        modality alone as well.

    Raises:
        ValueError, TypeError, OSError, ImportError, RuntimeError: Before the first step, if splits are empty or share a
            speaker, labels do not fit, the folder holds another run, the disk has too little space, the training
            arguments need a package that is missing, or `init` contradicts the recipe or was trained on test clips.
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
    widths = feature_widths(undecoded(corpus))
    recipe = _for_features(recipe, widths)
    rows = _rows_of(fold, select)
    chosen_on = _CHOSEN_ON[select]
    ids = {name: list(corpus.select(split)["clip_id"]) for name, split in rows.items()}
    arguments = make_arguments(recipe, output / _TRAINER_NAME, seed=seed, evaluates=chosen_on is not None)
    is_main = arguments.process_index == 0
    facts = {"held_out": fold.name, "select": select, "seed": seed, "modalities": list(modalities), "labels": labels}
    start = StartingPoint.of(init)
    described = None
    if start is not None:
        facts["init"] = start.identity
    run = describe_run(recipe, ids, **facts)
    claim(output, run, write=False)
    if (output / RESULTS_NAME).is_file():
        _delete_checkpoints(output, is_main)
        return Results.load(output / RESULTS_NAME)

    if start is not None:
        described = start.describe(labels, start.check_test_clips(corpus, rows["test"], about))
    results = Results(
        corpus=about,
        labels=labels,
        protocol=protocol or Protocol("held-out", "No speaker is in two of the splits.", fold.name),
        selection=select,
        merged_classes=merged_classes(about, labels),
        splits=_splits(corpus, rows, ids),
        seeds=[seed],
        versions=installed_versions(),
        commit=source_commit(),
        license=None if start is None else start.license_of_derivatives,
        training=Training(start=described),
    )
    results.check_publishable()  # before training instead of after it
    set_seed(seed)
    made_by = make_model if start is None else start.make_model
    model: Any = made_by(recipe, labels, generated=bool(about.generated), feature_widths=widths)
    processor = make_processor(recipe, None if start is None else start.processor)
    clips = Clips(
        corpus,
        recipe,
        model,
        processor,
        modalities=modalities,
        store_dir=output / "features" if store_dir is None else Path(store_dir),
        num_workers=arguments.dataloader_num_workers,
    )
    unread = {"training" if name == "train" else name: clips.unread(split) for name, split in rows.items()}
    check_splits(unread, allow_shared_speakers=arguments.allow_shared_speakers)
    if arguments.save_strategy != "no":
        # While one checkpoint is written there are the one before it and the best one, and in the end the result.
        kept = checkpoint_bytes(model, with_optimizer=not arguments.save_only_model) * (3 if chosen_on else 2)
        check_disk_space(output, kept + checkpoint_bytes(model, with_optimizer=False))
    # With clips that are not read yet: its own checks come before the features are computed.
    parts = {"train_dataset": unread["training"], "eval_dataset": unread.get(chosen_on or "")}
    trainer = FoalNetTrainer(model, arguments, data_collator=clips.collator, corpus=about, **parts)
    trainer.get_optimizer_cls_and_kwargs(arguments, model)  # raises if its package is missing
    claim(output, run, write=is_main)
    if select == "test-best-epoch":
        logger.warning("The checkpoint is chosen on the test split, so its results will be too good.")

    trainer.train_dataset = clips.examples(rows["train"])
    if chosen_on is not None:
        trainer.eval_dataset = clips.examples(rows[chosen_on])
    checkpoint, started = last_checkpoint(output / _TRAINER_NAME, delete=is_main), time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = None if checkpoint is not None else time.perf_counter() - started
    if chosen_on is not None:
        _check_chosen(trainer)
    calibration = _calibrate(trainer, len(rows["validation"])) if select == "validation" else None

    audio_encoder, vision_encoder = describe_encoders(recipe) if start is None else start.encoders()
    training = describe_training(
        arguments,
        model.config,
        processor,
        recipe=recipe.name,
        audio_encoder=audio_encoder,
        vision_encoder=vision_encoder,
        seconds=seconds,
        settings=publishable_settings(recipe),
        start=described,
    )
    outputs = {
        condition: trainer.predict(clips.examples(rows["test"], used), metric_key_prefix="test")
        for condition, used in conditions_of(model.config, modalities).items()
    }
    predictions = Predictions.of(corpus.select(rows["test"]), labels, outputs, model.config.calibration_temperature)
    results = replace(
        results,
        training=training,
        conditions=predictions.evaluations(),
        calibration=calibration,
        selected_epoch=trainer.state.epoch if chosen_on is None else best_epoch(trainer.state),
        selection_score=None if chosen_on is None else _score_of_chosen(trainer),
    )
    if is_main:
        predictions.save(output / PREDICTIONS_NAME)
        _save_checkpoint(output / CHECKPOINT_NAME, trainer, processor, results)
        trainer.state.save_to_json(str(output / _TRAINER_NAME / TRAINER_STATE_NAME))
        results.save(output / RESULTS_NAME)
        _delete_checkpoints(output, is_main)
    trainer.accelerator.wait_for_everyone()
    return results


def last_checkpoint(folder: Path, *, delete: bool = True) -> Path | None:
    """The last complete checkpoint of a trainer.

    Args:
        folder (`pathlib.Path`): Of the trainer.
        delete (`bool`, defaults to `True`): Delete incomplete checkpoints of a killed process.
    """
    found = {path: path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-") for path in folder.glob("checkpoint-*")}
    steps = {path: int(step) for path, step in found.items() if step.isdigit()}
    for path in sorted(steps, key=steps.__getitem__, reverse=True):
        with suppress(OSError, ValueError, TypeError):  # Trainer writes the state last
            TrainerState.load_from_json(str(path / TRAINER_STATE_NAME))
            return path
        if delete:
            logger.warning("%s is incomplete and is deleted.", path)
            shutil.rmtree(path)
    return None


def _for_features(recipe: Recipe, widths: Mapping[str, int]) -> Recipe:
    """The recipe without the encoders of the sides that the corpus has as features."""
    for side, encoder in (("audio", recipe.audio_encoder), ("video", recipe.vision_encoder)):
        if encoder == FEATURES and side not in widths:
            raise ValueError(
                f"The recipe {recipe.name} takes {side} features, but the corpus has none: give its clips a column "
                f"`{side}_features_file`, or the recipe an encoder."
            )
        if side in widths and encoder not in (None, FEATURES):
            logger.warning(
                "The corpus has %s features of width %d, so the encoder %s of the recipe is not used.",
                *(side, widths[side], encoder),
            )
    return recipe.with_features(widths)


def _rows_of(fold: Fold, select: Selection) -> dict[str, list[int]]:
    """The splits that a run uses: without a validation split if nothing is chosen on it."""
    if select not in _CHOSEN_ON:
        raise ValueError(f"`select` is {select!r}; expected one of {', '.join(map(repr, _CHOSEN_ON))}.")
    rows = {"train": fold.train, "validation": fold.validation, "test": fold.test}
    if select != "validation":
        if fold.validation:
            logger.warning(
                "Skipping the %d validation clips of the fold %s: select=%r does not use them.",
                *(len(fold.validation), fold.name, select),
            )
        del rows["validation"]
    return rows


def _splits(corpus: Any, rows: dict[str, list[int]], ids: dict[str, list[str]]) -> dict[str, Split]:
    speakers = {name: set(corpus.select(split)["speaker"]) - {None} for name, split in rows.items()}
    return {name: Split(len(ids[name]), len(speakers[name]) or None, ids[name]) for name in rows}


def _check_chosen(trainer: FoalNetTrainer) -> None:
    """Raise if the best checkpoint is missing, where Trainer only warns and uses the last one."""
    best = trainer.state.best_model_checkpoint
    if best is None or not Path(best).is_dir():
        raise RuntimeError(
            f"The best checkpoint ({best}) is missing. If the folder was moved while the run was interrupted, move it "
            "back; otherwise delete its folder `trainer` and run again."
        )


def _calibrate(trainer: FoalNetTrainer, num_clips: int) -> str:
    """Fit the temperature of the scores on the validation split, and say in words what came of it."""
    if num_clips < MIN_CLIPS:
        problem = f"the validation split has {num_clips} clips, and calibration needs at least {MIN_CLIPS}."
    else:
        try:
            temperature = calibrate(trainer).temperature
        except ValueError as error:
            problem = str(error)
        else:
            if temperature is not None:
                return f"Calibrated with a temperature of {temperature:.3g}, fitted on {num_clips} validation clips."
            problem = f"no temperature fits the {num_clips} validation clips."
    words = f"Not calibrated: {problem} Scores are the plain softmax, which is usually overconfident."
    logger.warning(words)
    return words


def _score_of_chosen(trainer: FoalNetTrainer) -> float | None:
    """UA of the chosen epoch on the split it was chosen on."""
    step, name = trainer.state.best_global_step, "eval_unweighted_accuracy"
    return next((entry[name] for entry in trainer.state.log_history if entry["step"] == step and name in entry), None)


def _save_checkpoint(folder: Path, trainer: FoalNetTrainer, processor: Any, results: Results) -> None:
    """Model, processor, card and results file. The folder gets its name when it is complete."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    for stale in (unfinished, folder):
        shutil.rmtree(stale, ignore_errors=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    results.save(unfinished / RESULTS_NAME)
    (unfinished / CARD_NAME).write_text(model_card(model.config, results), encoding="utf-8")
    unfinished.rename(folder)


def _delete_checkpoints(output: Path, is_main: bool) -> None:
    """Delete what a finished run no longer needs: the optimiser states are twice as large as the weights."""
    if is_main:
        (output / _TRAINER_NAME / RESULTS_NAME).unlink(missing_ok=True)
        for path in (output / _TRAINER_NAME).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
            shutil.rmtree(path, ignore_errors=True)


__all__ = ["CHECKPOINT_NAME", "last_checkpoint", "train_and_test"]
