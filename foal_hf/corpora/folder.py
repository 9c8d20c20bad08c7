"""A folder of your own clips as a corpus: the builder of `load_corpus("folder", ...)`."""

import hashlib
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
from transformers.utils import logging

from ..foal_net.features_foal_net import FEATURE_FILES
from ..foal_net.media_foal_net import find_fault
from .class_folders import Row
from .feature_files import find_feature_faults
from .file_names import is_utf8, printable
from .folder_table import read_folder
from .folds import split_groups
from .schema import corpus_features
from .split_names import SPLITS, split_of


logger = logging.get_logger(__name__)

MIN_VALIDATION_CLIPS = 30  # as many as calibration needs


@dataclass
class FolderCorpusConfig(datasets.BuilderConfig):
    """Options of a folder of clips.

    Args:
        labels (`list[str]`, *optional*): Names of the classes, by index. Default: those that occur, sorted. A class
            with the name of a split, such as `test`, must be listed here.
        drop_other_labels (`bool`, defaults to `False`): Skip clips whose emotion is not among `labels`; by default they
            are an error.
        validation_fraction (`float`, defaults to 0.15): Share of the clips for validation, if the corpus defines no
            splits. 0 makes no such split. By speaker, validation has at least 2 speakers if the corpus has 6 or more.
        test_fraction (`float`, defaults to 0.2): The same for testing, with at least 2 speakers if the corpus has 8 or
            more. With both 0 everything is in `train`.
        split_by (`str`, *optional*): `"speaker"` (no speaker is in two splits) or `"random"`. Default: by speaker if
            the table has speakers.
        seed (`int`, defaults to 0): Another seed makes other splits.
        allow_speaker_overlap (`bool`, defaults to `False`): Only warn if the splits of the corpus share a speaker; by
            default that is an error.
        on_error (`str`, defaults to `"raise"`): What to do with clips whose file is missing, empty or neither audio nor
            video, or whose features cannot be used: `"raise"`, or `"skip"` them.
    """

    labels: list[str] | None = None
    drop_other_labels: bool = False
    validation_fraction: float = 0.15
    test_fraction: float = 0.2
    split_by: str | None = None
    seed: int = 0
    allow_speaker_overlap: bool = False
    on_error: str = "raise"

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name of the cache; it changes with every option, the table and the files."""
        options = {
            name: value for name, value in vars(self).items() if name not in ("version", "data_files", "_content")
        }
        key = {**options, "data_dir": os.path.abspath(self.data_dir or ""), "features": repr(custom_features)}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode())
        rows, skipped = self._content = self.read_folder()  # for `take_content`
        digest.update(json.dumps(skipped).encode())
        for row in rows:
            digest.update(json.dumps(row).encode())
            for path in (*_files(row), *_feature_files(row)):
                digest.update(_stamp(path))
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def take_content(self) -> tuple[list[Row], list[dict[str, str]]]:
        """What the name of the cache was made from, so that a folder is read once."""
        return self.__dict__.pop("_content", None) or self.read_folder()

    def read_folder(self) -> tuple[list[Row], list[dict[str, str]]]:
        """All clips of the folder, and the files that are not clips."""
        if self.data_dir is None:
            raise ValueError("`data_dir` is missing: give the folder with the clips and their table.")
        return read_folder(os.path.expanduser(self.data_dir), self.labels)


class FolderCorpus(datasets.GeneratorBasedBuilder):
    """Clips of a folder with a table, or with one sub-folder for each class. See
    [`~foal_hf.corpora.folder_table.read_folder`].

    Attributes:
        skipped (`list[dict]`): `{"clip_id", "reason"}` of every clip that the options skip, and of every file in class
            folders that is not a clip.
    """

    VERSION = datasets.Version("1.1.0")  # raised whenever equal folders give different rows
    BUILDER_CONFIG_CLASS = FolderCorpusConfig
    BUILDER_CONFIGS = [FolderCorpusConfig(name="default", version=VERSION)]
    DEFAULT_CONFIG_NAME = "default"

    def _info(self) -> datasets.DatasetInfo:
        config = self.config
        _check_options(config)
        rows, self.skipped = config.take_content()
        labels = self._labels(rows)
        rows = self._readable(self._labelled(rows, labels))
        if not rows:
            raise ValueError(f"No clip of {config.data_dir} is left: {len(self.skipped)} are skipped.")
        self._rows_of: dict[str, list[Row]] = defaultdict(list)
        for row, split in zip(rows, _divide(rows, config), strict=True):
            self._rows_of[split].append(row)
        return datasets.DatasetInfo(features=corpus_features(labels, rows[0].keys()))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        known = [name for name in SPLITS if name in self._rows_of]
        names = known + sorted(self._rows_of.keys() - set(known))
        return [datasets.SplitGenerator(name, gen_kwargs={"shards": _shards(self._rows_of[name])}) for name in names]

    def _generate_examples(self, shards: list[list[Row]]) -> Iterator[tuple[str, Row]]:
        for row in itertools.chain.from_iterable(shards):
            media = {name: None if row[name] is None else {"path": row[name], "bytes": None} for name in _MEDIA}
            yield row["clip_id"], {**row, **media}

    def _labels(self, rows: Sequence[Row]) -> list[str]:
        if self.config.labels is not None:
            return list(self.config.labels)
        labels = sorted({row["emotion"] for row in rows} - {None})
        if splits := [label for label in labels if split_of(label)]:
            raise ValueError(
                f"{self.config.data_dir}: {', '.join(splits)}: the name of a split, not of an emotion. Put class "
                "folders into split folders, as in train/happy/a.mp4. Otherwise list all classes in `labels`."
            )
        return labels

    def _labelled(self, rows: list[Row], labels: Sequence[str]) -> list[Row]:
        other_rows = [row for row in rows if row["emotion"] not in labels]
        others = Counter(row["emotion"] or "(empty)" for row in other_rows)
        if others and not self.config.drop_other_labels:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(others.items()))
            raise ValueError(
                f"{others.total()} of {len(rows)} clips have an emotion that is none of {', '.join(labels)}: {counts}. "
                "List all of them in `labels`, fix the table, or skip these clips with drop_other_labels=True."
            )
        self._skip([(row, f"its emotion is {row['emotion'] or '(empty)'}") for row in other_rows])
        return [row for row in rows if row["emotion"] in labels]

    def _readable(self, rows: list[Row]) -> list[Row]:
        of_features = find_feature_faults(rows)
        faults = [(row, fault) for row in rows if (fault := _fault_of(row) or of_features.get(row["clip_id"]))]
        if faults and self.config.on_error == "raise":
            first = "; ".join(f"{printable(row['clip_id'])}: {fault}" for row, fault in faults[:5])
            more = "; ..." if len(faults) > 5 else ""
            raise ValueError(
                f"{len(faults)} of {len(rows)} clips cannot be read: {first}{more}. Fix them, or skip them with "
                'on_error="skip".'
            )
        self._skip(faults)
        bad = {row["clip_id"] for row, _ in faults}
        return [row for row in rows if row["clip_id"] not in bad]

    def _skip(self, faults: Sequence[tuple[Row, str]]) -> None:
        entries = [{"clip_id": printable(row["clip_id"]), "reason": reason} for row, reason in faults]
        self.skipped += entries
        if entries:
            first = entries[0]
            logger.warning(
                "%d clips are skipped; the first is %s: %s.", len(entries), first["clip_id"], first["reason"]
            )


_MEDIA = ("audio", "video")
_NUM_SHARDS = 16  # so many workers can share a stream


def _shards(rows: list[Row]) -> list[list[Row]]:
    size = -(-len(rows) // _NUM_SHARDS)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check_options(config: FolderCorpusConfig) -> None:
    if config.on_error not in ("raise", "skip"):
        raise ValueError(f'`on_error` must be "raise" or "skip", got {config.on_error!r}.')
    if config.split_by not in (None, "speaker", "random"):
        raise ValueError(f'`split_by` must be "speaker", "random" or None, got {config.split_by!r}.')
    fractions = {"validation_fraction": config.validation_fraction, "test_fraction": config.test_fraction}
    if min(fractions.values()) < 0 or sum(fractions.values()) >= 1:
        raise ValueError(f"The fractions must be 0 or more, and less than 1 together; got {fractions}.")
    if config.labels is not None and (not config.labels or len(set(config.labels)) < len(config.labels)):
        raise ValueError(f"`labels` must name at least one class, each once; got {config.labels}.")
    if config.drop_other_labels and config.labels is None:
        raise ValueError("`drop_other_labels` skips clips whose emotion is not among `labels`: give `labels` too.")


def _divide(rows: Sequence[Row], config: FolderCorpusConfig) -> list[str]:
    """The split of each row."""
    parts = [row["partition"] for row in rows]
    if any(part is not None for part in parts):
        if without := parts.count(None):
            raise ValueError(f"{without} of {len(rows)} clips have no `partition`: fill the column or remove it.")
        _check_disjoint(rows, config)
        _report_validation(rows, parts)
        return parts
    validation, test = config.validation_fraction, config.test_fraction
    fractions = {"train": 1 - validation - test, "validation": validation, "test": test}
    fractions = {name: share for name, share in fractions.items() if share > 0}
    speakers = [row["speaker"] for row in rows]
    split_by = config.split_by or ("speaker" if any(speakers) else "random")
    if len(fractions) == 1:
        return ["train"] * len(rows)
    if split_by == "random":
        logger.warning(
            "The splits are random. A speaker may be in several of them; then scores are higher than on new people. "
            "A column `speaker` in metadata.csv keeps speakers apart."
        )
        groups = [row["clip_id"] for row in rows]
    else:
        if without := speakers.count(None):
            raise ValueError(
                f"{without} of {len(rows)} clips have no speaker: fill the column, or use split_by='random'."
            )
        groups = speakers
    num_groups = len(set(groups))
    if num_groups < len(fractions):
        kind = "speakers" if split_by == "speaker" else "clips"
        raise ValueError(
            f"{num_groups} {kind} are too few for the splits {', '.join(fractions)}. Set validation_fraction or "
            'test_fraction to 0, add a column `partition`, or use split_by="random".'
        )
    # Never more than half of the speakers for validation and testing together.
    least = {"validation": 2 if num_groups >= 6 else 1, "test": 2 if num_groups >= 8 else 1}
    splits = split_groups(groups, [row["emotion"] for row in rows], fractions, seed=config.seed, least_groups=least)
    _report_validation(rows, splits)
    return splits


def _report_validation(rows: Sequence[Row], splits: Sequence[str]) -> None:
    """Warn if few clips or people choose the epoch."""
    validating = [row for row, split in zip(rows, splits, strict=True) if split == "validation"]
    if not validating:
        return
    speakers = {row["speaker"] for row in validating}
    all_speakers = {row["speaker"] for row in rows}
    few_speakers = len(speakers) == 1 and len(all_speakers) > 1
    if len(validating) < MIN_VALIDATION_CLIPS or few_speakers:
        people = f" of {len(speakers)} speaker{'s' * (len(speakers) > 1)}" if None not in all_speakers else ""
        logger.warning(
            "The validation split has %d clips%s. That is little for choosing the best epoch and for calibration; %d "
            "clips of several speakers are enough. Add clips or raise validation_fraction.",
            len(validating),
            people,
            MIN_VALIDATION_CLIPS,
        )


def _check_disjoint(rows: Sequence[Row], config: FolderCorpusConfig) -> None:
    parts_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["speaker"] is not None:
            parts_of[row["speaker"]].add(row["partition"])
    in_two = {speaker: sorted(parts) for speaker, parts in parts_of.items() if len(parts) > 1}
    if not in_two:
        return
    speaker, parts = min(in_two.items())
    message = f"{len(in_two)} speakers are in more than one split, such as {speaker!r} in {', '.join(parts)}"
    if not config.allow_speaker_overlap:
        raise ValueError(
            f"{message}: scores would be higher than on new people. Put each speaker into one split, or remove the "
            "column `partition`; allow_speaker_overlap=True accepts the table as it is."
        )
    logger.warning("%s. Scores are higher than on new people.", message)


def _fault_of(row: Row) -> str | None:
    for path in (*_files(row), *_feature_files(row)):
        if not is_utf8(path):
            return f"{printable(path)}: the name of the file or of a folder above it is not UTF-8; rename it"
    for path in _files(row):
        if fault := find_fault(path):
            return f"{path}: {fault.rstrip('.')}"
    return None


def _files(row: Row) -> list[str]:
    return [path for path in dict.fromkeys((row["video"], row["audio"])) if path is not None]


def _feature_files(row: Row) -> list[str]:
    return [row[name] for name in FEATURE_FILES if row.get(name) is not None]


def _stamp(path: str) -> bytes:
    """Size and time of change of a file, which tell whether it has changed."""
    try:
        status = os.stat(path)
    except OSError:
        return b"missing"
    return f"{status.st_size} {status.st_mtime_ns}".encode()
