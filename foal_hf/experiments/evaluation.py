"""Any checkpoint on any corpus, also one whose classes have other names."""

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..hub import RESULTS_NAME
from ..plots import plot_confusion_matrix
from ..results import CONDITIONS, Corpus, Evaluation, Results, installed_versions, public_name
from ..results.publishable import find_local_path
from ..training import FoalNetTrainer
from ..training.arguments import FoalNetTrainingArguments
from .checks import check_corpus
from .clips import BOTH, Clips
from .predictions import Predictions, conditions_of
from .recipe import Recipe
from .records import PREDICTIONS_NAME, source_commit, write_json


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointTest:
    """What a checkpoint gave on clips of a corpus.

    Args:
        labels (`list[str]`): The classes of the checkpoint, by index.
        corpus ([`~foal_hf.results.Corpus`]): Where the clips come from.
        conditions (`dict[str, Evaluation]`): Tests with `"audio alone"`, `"video alone"` and `"both"`, or some of them.
        clip_ids (`list[str]`): The clips.
        checkpoint (`str`, *optional*): Its name on the Hub; None for a folder.
        label_mapping (`dict[str, str]`): The class of the checkpoint that each class of the corpus counts as.
        left_out (`dict[str, int]`): Clips of each class of the corpus that was left out.
        versions (`dict[str, str]`): As in [`~foal_hf.results.Results`].
        commit (`str`, *optional*): Likewise.
    """

    labels: list[str]
    corpus: Corpus
    conditions: dict[str, Evaluation]
    clip_ids: list[str]
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
        about ([`~foal_hf.results.Corpus`]): What is known of it, see [`describe_corpus`].
        label_mapping (`Mapping[str, str | None]`, *optional*): For classes of the corpus whose name is none of the
            checkpoint's: which of its classes they count as, or None to leave their clips out. Several may count as
            one. A class of the checkpoint that nothing counts as is still predicted, and then wrong.
        held_out (`bool`, defaults to `False`): Test on the clips alone that the checkpoint's `results.json` names
            neither as training nor as validation clips.
        allow_training_clips (`bool`, defaults to `False`): Test although that file names clips of the corpus as
            training or validation clips.
        conditions (`Sequence[str]`, *optional*): Some of `"audio alone"`, `"video alone"`, `"both"`. Default: both, and
            each alone for a model whose training hid one of them now and then.
        output_dir (`str` or `pathlib.Path`, *optional*): Gets `evaluation.json`, `predictions.json` and
            `confusion_matrix.png`.
        store_dir (`str` or `pathlib.Path`, *optional*): Folder of stored features, where the image encoder is frozen.
            By default pictures are read, and nothing is kept.
        batch_size (`int`, defaults to 16): Clips at once.
        num_workers (`int`, *optional*): Processes that decode; as in [`FoalNetTrainingArguments`] by default.

    Returns:
        [`CheckpointTest`]

    Raises:
        ValueError: If a class of the corpus has no class of the checkpoint to count as, the mapping names what there is
            not, the checkpoint was trained on some of the clips, or no clip is left.
    """
    names = check_corpus(corpus)
    model: Any = FoalNetForEmotionClassification.from_pretrained(checkpoint)
    labels = [name for _, name in sorted(model.config.id2label.items())]
    present = [names[index] for index in sorted(set(corpus["emotion"]))]
    mapping = map_labels(present, labels, label_mapping or {})
    corpus, left_out = _without_classes(corpus, names, mapping)
    corpus = _without_known_clips(corpus, checkpoint, about, held_out=held_out, allowed=allow_training_clips)
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
            FoalNetProcessor.from_pretrained(checkpoint),
            modalities=BOTH,
            store_dir=None if store_dir is None else Path(store_dir),
            num_workers=arguments.dataloader_num_workers,
            label2id={name: labels.index(label) for name, label in mapping.items() if label is not None},
        )
        trainer = FoalNetTrainer(model, arguments, data_collator=clips.collator)
        outputs = {
            name: trainer.predict(clips.examples(range(len(corpus)), looked_at))
            for name, looked_at in conditions_of(model.config, BOTH, conditions).items()
        }
    predictions = Predictions.of(corpus, labels, outputs, model.config.calibration_temperature)
    test = CheckpointTest(
        labels=labels,
        corpus=about,
        conditions=predictions.evaluations(),
        clip_ids=predictions.clip_ids,
        checkpoint=public_name(str(checkpoint)),
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
        ValueError: If a class has none, or the mapping names what there is not.
    """
    strangers = [name for name in given if name not in classes]
    if strangers:
        raise ValueError(
            f"The mapping names {', '.join(strangers)}, of which the corpus has no clip; it has {', '.join(classes)}."
        )
    unknown = [label for label in given.values() if label is not None and label not in labels]
    if unknown:
        raise ValueError(f"The checkpoint has no class {', '.join(unknown)}; it has {', '.join(labels)}.")
    unmapped = [name for name in classes if name not in given and name not in labels]
    if unmapped:
        raise ValueError(
            f"The checkpoint knows {', '.join(labels)}, and the corpus has clips of {', '.join(unmapped)} too. Say "
            "which class each counts as, or that it is left out, with `label_mapping` (on the command line "
            f"`--map {unmapped[0]}={labels[0]}`, or `--map {unmapped[0]}=` to leave it out)."
        )
    return {name: given.get(name, name) for name in classes}


def _without_classes(
    corpus: Any, names: Sequence[str], mapping: Mapping[str, str | None]
) -> tuple[Any, dict[str, int]]:
    emotions = [names[index] for index in corpus["emotion"]]
    left_out = {name: emotions.count(name) for name, label in mapping.items() if label is None}
    return corpus.select([row for row, name in enumerate(emotions) if mapping[name] is not None]), left_out


def _without_known_clips(corpus: Any, checkpoint: str | Path, about: Corpus, *, held_out: bool, allowed: bool) -> Any:
    """The corpus without the clips that the checkpoint was trained on or chosen by, as its results file lists them."""
    path = cached_file(str(checkpoint), RESULTS_NAME, _raise_exceptions_for_missing_entries=False)
    try:
        results = None if path is None else Results.load(path)
    except ValueError as error:
        logger.warning("What the checkpoint was trained on is not known: %s", error)
        results = None
    parts = results.splits if results is not None and results.corpus.name == about.name else {}
    known = {clip for name in ("train", "validation") if name in parts for clip in parts[name].clip_ids}
    if held_out and not known:
        raise ValueError(
            f"{checkpoint} has no {RESULTS_NAME} with training clips of {about.name}; what was held out is unknown."
        )
    ids = corpus["clip_id"]
    unseen = [row for row, clip in enumerate(ids) if clip not in known]
    if held_out:
        return corpus.select(unseen)
    if len(unseen) < len(ids) and not allowed:
        raise ValueError(
            f"The checkpoint was trained on {len(ids) - len(unseen)} of these {len(ids)} clips, or chosen by them: "
            "what it gives there says nothing about others. Test on what was held out (`held_out=True`, `--held-out`), "
            "or say that it is meant (`allow_training_clips=True`, `--allow-training-clips`)."
        )
    return corpus


def _save(test: CheckpointTest, predictions: Predictions, output: Path) -> None:
    content = asdict(test)
    found = find_local_path(content, "evaluation")
    if found:
        raise ValueError(f"`{found[0]}` holds the local path {found[1]!r}; results name clips by ids, never by paths.")
    predictions.save(output / PREDICTIONS_NAME)
    write_json(output / "evaluation.json", content)
    matrix = test.conditions[test.main_condition].confusion_matrix
    plot_confusion_matrix(matrix, test.labels, output / "confusion_matrix.png", title=test.corpus.name)


__all__ = ["CheckpointTest", "evaluate_checkpoint", "map_labels"]
