"""Tests a checkpoint on any corpus, also one whose classes have other names."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..atomic_files import write_json
from ..checkpoint_errors import errors_naming_checkpoint
from ..default_checkpoint import resolve_checkpoint
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..hub import RESULTS_NAME
from ..plots import plot_confusion_matrix
from ..results import CONDITIONS, Corpus, Evaluation, installed_versions, public_name
from ..results.publishable import check_no_local_path
from ..training import FoalNetTrainer
from ..training.arguments import FoalNetTrainingArguments
from ..training.record import UNNAMED_CORPUS
from .checks import check_corpus
from .clips import BOTH, Clips
from .predictions import Predictions, conditions_of
from .recipe import Recipe
from .records import PREDICTIONS_NAME, source_commit
from .training_clips import load_results, training_clips


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointTest:
    """Results of a checkpoint on clips of a corpus.

    Args:
        labels (`list[str]`): The classes of the checkpoint, by index.
        corpus ([`~foal_hf.results.Corpus`]): The corpus of the clips.
        conditions (`dict[str, Evaluation]`): Tests with `"audio alone"`, `"video alone"` and `"both"`, or some of them.
        clip_ids (`list[str]`): The clips.
        training_clips (`str`): In words, whether the checkpoint was trained on some of them, as far as that is known.
        checkpoint (`str`, *optional*): Its name on the Hub; None for a folder.
        label_mapping (`dict[str, str]`): The class of the checkpoint that each class of the corpus counts as.
        left_out (`dict[str, int]`): Number of skipped clips of each skipped class of the corpus.
        versions (`dict[str, str]`): As in [`~foal_hf.results.Results`].
        commit (`str`, *optional*): Likewise.
    """

    labels: list[str]
    corpus: Corpus
    conditions: dict[str, Evaluation]
    clip_ids: list[str]
    training_clips: str
    checkpoint: str | None = None
    label_mapping: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None

    @property
    def main_condition(self) -> str:
        """`"both"` where it was tested."""
        return next(name for name in reversed(CONDITIONS) if name in self.conditions)


def evaluate_checkpoint(
    checkpoint: str | Path,
    corpus: Any,
    *,
    about: Corpus,
    label_mapping: Mapping[str, str | None] | None = None,
    held_out: bool = False,
    allow_training_clips: bool = False,
    conditions: Sequence[str] = (),
    output_dir: str | Path | None = None,
    store_dir: str | Path | None = None,
    batch_size: int = 16,
    num_workers: int | None = None,
) -> CheckpointTest:
    """Test a checkpoint on the clips of a corpus.

    Args:
        checkpoint (`str` or `pathlib.Path`): Folder or Hub name of a [`FoalNetForEmotionClassification`] with its
            processor.
        corpus (`datasets.Dataset`): From [`~foal_hf.corpora.load_corpus`].
        about ([`~foal_hf.results.Corpus`]): Its description, see [`describe_corpus`].
        label_mapping (`Mapping[str, str | None]`, *optional*): For classes of the corpus that the checkpoint does not
            have: the class of the checkpoint they count as, or None to skip their clips. Several may count as one. A
            class of the checkpoint that the corpus lacks can still be predicted, which is then an error.
        held_out (`bool`, defaults to `False`): Test only on clips that the checkpoint's `results.json` lists neither as
            training nor as validation clips.
        allow_training_clips (`bool`, defaults to `False`): Test although that file lists clips of the corpus as
            training or validation clips.
        conditions (`Sequence[str]`, *optional*): Some of `"audio alone"`, `"video alone"`, `"both"`. Default: both, and
            each alone for a model that was trained with `modality_dropout`.
        output_dir (`str` or `pathlib.Path`, *optional*): Gets `evaluation.json`, `predictions.json` and
            `confusion_matrix.png`.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features, if the image encoder is frozen. By
            default the video is read, and nothing is stored.
        batch_size (`int`, defaults to 16): Clips per batch.
        num_workers (`int`, *optional*): Processes that decode; as in [`FoalNetTrainingArguments`] by default.

    Returns:
        [`CheckpointTest`]

    Raises:
        ValueError: If a class of the corpus has no class of the checkpoint to count as, the mapping has unknown names,
            the checkpoint was trained on some of the clips or predicts something else than one class, or no clip is
            left.
    """
    names = check_corpus(corpus)
    named, checkpoint = checkpoint, resolve_checkpoint(checkpoint)
    with errors_naming_checkpoint(checkpoint):
        model: Any = FoalNetForEmotionClassification.from_pretrained(checkpoint)
        processor = FoalNetProcessor.from_pretrained(checkpoint)
    if model.config.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"{checkpoint} has `problem_type` {model.config.problem_type!r}, but only checkpoints that predict one "
            "class per clip can be evaluated on a corpus."
        )
    labels = [name for _, name in sorted(model.config.id2label.items())]
    present = [names[index] for index in sorted(set(corpus["emotion"]))]
    mapping = map_labels(present, labels, label_mapping or {})
    corpus, left_out = _without_classes(corpus, names, mapping)
    corpus, training_clips = _check_training_clips(
        corpus, checkpoint, about, held_out=held_out, allowed=allow_training_clips
    )
    if len(corpus) == 0:
        raise ValueError("No clip is left to test on.")
    with tempfile.TemporaryDirectory() as folder:
        workers: dict[str, Any] = {} if num_workers is None else {"dataloader_num_workers": num_workers}
        arguments = FoalNetTrainingArguments(output_dir=folder, per_device_eval_batch_size=batch_size, **workers)
        model.to(arguments.device)
        clips = Clips(
            corpus,
            Recipe("evaluation"),
            model,
            processor,
            modalities=BOTH,
            store_dir=None if store_dir is None else Path(store_dir),
            num_workers=arguments.dataloader_num_workers,
            label2id={name: labels.index(label) for name, label in mapping.items() if label is not None},
        )
        trainer = FoalNetTrainer(model, arguments, data_collator=clips.collator)
        outputs = {
            name: trainer.predict(clips.examples(range(len(corpus)), used))
            for name, used in conditions_of(model.config, BOTH, conditions).items()
        }
    predictions = Predictions.of(corpus, labels, outputs, model.config.calibration_temperature)
    test = CheckpointTest(
        labels=labels,
        corpus=about,
        conditions=predictions.evaluations(),
        clip_ids=predictions.clip_ids,
        training_clips=training_clips,
        checkpoint=public_name(str(named)),
        label_mapping={name: label for name, label in mapping.items() if label is not None},
        left_out=left_out,
        versions=installed_versions(),
        commit=source_commit(),
    )
    if output_dir is not None:
        _save(test, predictions, Path(output_dir))
    return test


def map_labels(classes: Sequence[str], labels: Sequence[str], given: Mapping[str, str | None]) -> dict[str, str | None]:
    """The label that each class of a corpus counts as: the given one, or the one of the same name.

    Raises:
        ValueError: If a class has none, or the mapping has unknown names.
    """
    unknown = [name for name in given if name not in classes]
    if unknown:
        raise ValueError(
            f"The mapping names {', '.join(unknown)}, but the corpus has no clips of it; it has {', '.join(classes)}."
        )
    unknown = [label for label in given.values() if label is not None and label not in labels]
    if unknown:
        raise ValueError(f"The checkpoint has no class {', '.join(unknown)}; it has {', '.join(labels)}.")
    unmapped = [name for name in classes if name not in given and name not in labels]
    if unmapped:
        raise ValueError(
            f"The checkpoint has the classes {', '.join(labels)}, and the corpus also has clips of "
            f"{', '.join(unmapped)}. Map each to a class, or skip its clips, with `--map {unmapped[0]}={labels[0]}` or "
            f"`--map {unmapped[0]}=` (in Python `label_mapping`)."
        )
    return {name: given.get(name, name) for name in classes}


def _without_classes(
    corpus: Any, names: Sequence[str], mapping: Mapping[str, str | None]
) -> tuple[Any, dict[str, int]]:
    emotions = [names[index] for index in corpus["emotion"]]
    left_out = {name: emotions.count(name) for name, label in mapping.items() if label is None}
    return corpus.select([row for row, name in enumerate(emotions) if mapping[name] is not None]), left_out


def _check_training_clips(
    corpus: Any, checkpoint: str | Path, about: Corpus, *, held_out: bool, allowed: bool
) -> tuple[Any, str]:
    """Look for clips that the checkpoint was trained on or chosen by, as its results file lists them.

    Returns:
        The corpus, with `held_out` without these clips; and in words, what is known about them.
    """
    known, ids = training_clips(load_results(checkpoint), checkpoint), corpus["clip_id"]
    unknown = known.unknown
    if known.under_other_ids(ids, about.name):
        unknown = f"{checkpoint} was trained on clips of {about.name}, which its {RESULTS_NAME} lists under other ids"
    if unknown:
        if held_out:
            raise ValueError(f"{unknown}, so it is unknown which clips were held out.")
        logger.warning("%s: it may have been trained on some of these clips.", unknown)
        return corpus, (
            "The training clips of the checkpoint are unknown. If some of these clips are among them, the scores are "
            "too high."
        )
    same, other = known.overlap(ids, about.name)
    if held_out:
        if not {about.name, UNNAMED_CORPUS} & set(known.names):
            raise ValueError(
                f"{checkpoint} was trained on {', '.join(known.names)}, so no clips of {about.name} were held out."
            )
        corpus = corpus.select([row for row, clip in enumerate(ids) if clip not in same | other])
        same = other = set()
    if same and not allowed:
        raise ValueError(
            f"The checkpoint was trained on {len(same)} of these {len(ids)} clips, or chosen by them: the results "
            "would not hold for other clips. Test only on the others with `--held-out` (in Python `held_out=True`), or "
            "include these with `--allow-training-clips` (`allow_training_clips=True`)."
        )
    if not same and not other:
        return corpus, f"According to its {RESULTS_NAME}, the checkpoint was not trained on any of these clips."
    words = (
        f"The checkpoint was trained on {len(same)} of these {len(ids)} clips, or chosen by them: scores are too high."
    )
    if not same:
        words = (
            f"{len(other)} of these {len(ids)} clips have the ids of training clips of the checkpoint, from the corpus "
            f"{', '.join(name for name in known.names if name != about.name)}. If they are the same clips, the scores "
            "are too high."
        )
    logger.warning(words)
    return corpus, words


def _save(test: CheckpointTest, predictions: Predictions, output: Path) -> None:
    content = asdict(test)
    check_no_local_path(content, "evaluation")
    predictions.save(output / PREDICTIONS_NAME)
    write_json(output / "evaluation.json", content)
    matrix = test.conditions[test.main_condition].confusion_matrix
    plot_confusion_matrix(matrix, test.labels, output / "confusion_matrix.png", title=test.corpus.name)


__all__ = ["CheckpointTest", "evaluate_checkpoint", "map_labels"]
