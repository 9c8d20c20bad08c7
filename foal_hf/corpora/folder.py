"""A folder of one's own clips as a corpus: the builder behind `load_corpus("folder", ...)`."""

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

from ..foal_net.media_foal_net import find_fault
from .folder_table import Row, read_folder
from .folds import split_groups
from .schema import corpus_features


logger = logging.get_logger(__name__)

PARTITIONS = ("train", "validation", "test")


@dataclass
class FolderCorpusConfig(datasets.BuilderConfig):
    """Options of a folder of clips.

    Args:
        labels (`list[str]`, *optional*): Names of the classes, by index. Default: those that occur, sorted.
        drop_other_labels (`bool`, defaults to `False`): Leave out clips whose emotion is not among `labels`; by default
            they are an error.
        validation_fraction (`float`, defaults to 0.1): Share of the clips for validation, where the table has no
            `partition`. 0 makes no such split.
        test_fraction (`float`, defaults to 0.2): The same for testing. With both 0 everything is in `train`.
        split_by (`str`, *optional*): `"speaker"` (no speaker is in two splits) or `"random"`. Default: by speaker where
            the table has one.
        seed (`int`, defaults to 0): Another seed makes other splits.
        allow_speaker_overlap (`bool`, defaults to `False`): Only warn where the `partition` of the table has a speaker
            in two splits; by default that is an error.
        on_error (`str`, defaults to `"raise"`): What becomes of clips whose file is missing, empty or no medium:
            `"raise"`, or `"skip"`, which leaves them out.
    """

    labels: list[str] | None = None
    drop_other_labels: bool = False
    validation_fraction: float = 0.1
    test_fraction: float = 0.2
    split_by: str | None = None
    seed: int = 0
    allow_speaker_overlap: bool = False
    on_error: str = "raise"

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name of the cache: another one whenever an option, the table or a file that it names has changed."""
        options = {name: value for name, value in vars(self).items() if name not in ("version", "data_files")}
        key = {**options, "data_dir": os.path.abspath(self.data_dir or ""), "features": repr(custom_features)}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode())
        for row in self.read_rows():
            digest.update(json.dumps(row).encode())
            for path in _files(row):
                digest.update(_stamp(path))
        return f"{self.name}-{digest.hexdigest()[:16]}"

    def read_rows(self) -> list[Row]:
        """All clips of the folder, before any is left out."""
        if self.data_dir is None:
            raise ValueError("Which folder? Give `data_dir`, the folder that the clips and their table lie in.")
        return read_folder(os.path.expanduser(self.data_dir))


class FolderCorpus(datasets.GeneratorBasedBuilder):
    """Clips of a folder with a table, or with one sub-folder for each class. See
    [`~foal_hf.corpora.folder_table.read_folder`].

    Attributes:
        skipped (`list[dict]`): `{"clip_id", "reason"}` of every clip that was left out, because the options ask for it.
    """

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIG_CLASS = FolderCorpusConfig
    BUILDER_CONFIGS = [FolderCorpusConfig(name="default", version=VERSION)]
    DEFAULT_CONFIG_NAME = "default"

    def _info(self) -> datasets.DatasetInfo:
        config = self.config
        _check_options(config)
        rows = config.read_rows()
        self.skipped: list[dict[str, str]] = []
        labels = self._labels(rows)
        rows = self._readable(self._labelled(rows, labels))
        if not rows:
            raise ValueError(f"No clip is left of {config.data_dir}: {len(self.skipped)} were left out.")
        self._rows_of: dict[str, list[Row]] = defaultdict(list)
        for row, split in zip(rows, _divide(rows, config), strict=True):
            self._rows_of[split].append(row)
        return datasets.DatasetInfo(features=corpus_features(labels))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        known = [name for name in PARTITIONS if name in self._rows_of]
        names = known + sorted(self._rows_of.keys() - set(known))
        return [datasets.SplitGenerator(name, gen_kwargs={"shards": _shards(self._rows_of[name])}) for name in names]

    def _generate_examples(self, shards: list[list[Row]]) -> Iterator[tuple[str, Row]]:
        for row in itertools.chain.from_iterable(shards):
            media = {name: None if row[name] is None else {"path": row[name], "bytes": None} for name in _MEDIA}
            yield row["clip_id"], {**row, **media}

    def _labels(self, rows: Sequence[Row]) -> list[str]:
        if self.config.labels is not None:
            return list(self.config.labels)
        return sorted({row["emotion"] for row in rows} - {None})

    def _labelled(self, rows: list[Row], labels: Sequence[str]) -> list[Row]:
        other_rows = [row for row in rows if row["emotion"] not in labels]
        others = Counter(row["emotion"] or "(empty)" for row in other_rows)
        if others and not self.config.drop_other_labels:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(others.items()))
            raise ValueError(
                f"{others.total()} of {len(rows)} clips have an emotion that is none of {', '.join(labels)}: {counts}. "
                "Give all of them as `labels`, mend the table, or leave those clips out: `labels` with "
                "drop_other_labels=True."
            )
        self._skip([(row, f"its emotion is {row['emotion'] or '(empty)'}") for row in other_rows])
        return [row for row in rows if row["emotion"] in labels]

    def _readable(self, rows: list[Row]) -> list[Row]:
        faults = [(row, fault) for row in rows if (fault := _fault_of(row))]
        if faults and self.config.on_error == "raise":
            first = "; ".join(f"{row['clip_id']}: {fault}" for row, fault in faults[:5])
            more = "; ..." if len(faults) > 5 else ""
            raise ValueError(
                f"{len(faults)} of {len(rows)} clips cannot be read: {first}{more}. Mend them, or leave them out with "
                'on_error="skip".'
            )
        self._skip(faults)
        bad = {row["clip_id"] for row, _ in faults}
        return [row for row in rows if row["clip_id"] not in bad]

    def _skip(self, faults: Sequence[tuple[Row, str]]) -> None:
        self.skipped += [{"clip_id": row["clip_id"], "reason": reason} for row, reason in faults]
        if faults:
            row, reason = faults[0]
            logger.warning("%d clips are left out, the first is %s: %s.", len(faults), row["clip_id"], reason)


_MEDIA = ("audio", "video")
_NUM_SHARDS = 16  # that many workers can share a stream


def _shards(rows: list[Row]) -> list[list[Row]]:
    size = -(-len(rows) // _NUM_SHARDS)
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check_options(config: FolderCorpusConfig) -> None:
    if config.on_error not in ("raise", "skip"):
        raise ValueError(f'`on_error` has to be "raise" or "skip", got {config.on_error!r}.')
    if config.split_by not in (None, "speaker", "random"):
        raise ValueError(f'`split_by` has to be "speaker", "random" or None, got {config.split_by!r}.')
    fractions = {"validation_fraction": config.validation_fraction, "test_fraction": config.test_fraction}
    if min(fractions.values()) < 0 or sum(fractions.values()) >= 1:
        raise ValueError(f"The fractions have to be 0 or more, and below 1 together; got {fractions}.")
    if config.labels is not None and (not config.labels or len(set(config.labels)) < len(config.labels)):
        raise ValueError(f"`labels` has to name at least one class, each once; got {config.labels}.")
    if config.drop_other_labels and config.labels is None:
        raise ValueError("`drop_other_labels` leaves out what is not among `labels`: give them too.")


def _divide(rows: Sequence[Row], config: FolderCorpusConfig) -> list[str]:
    """The split of each row."""
    parts = [row["partition"] for row in rows]
    if any(part is not None for part in parts):
        if without := parts.count(None):
            raise ValueError(f"{without} of {len(rows)} clips have no `partition`: fill the column, or remove it.")
        _check_disjoint(rows, config)
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
            "The splits are drawn at random: the same speaker may be in several, and then scores are higher than on "
            "people that the model has not heard. A column `speaker` in metadata.csv keeps speakers apart."
        )
        groups = [row["clip_id"] for row in rows]
    else:
        if without := speakers.count(None):
            raise ValueError(f"{without} of {len(rows)} clips have no speaker: fill the column, or split_by='random'.")
        groups = speakers
    try:
        return split_groups(groups, [row["emotion"] for row in rows], fractions, seed=config.seed)
    except ValueError as error:
        kind = "speakers" if split_by == "speaker" else "clips"
        raise ValueError(
            f"{len(set(groups))} {kind} are too few for the splits {', '.join(fractions)}. Set validation_fraction or "
            "test_fraction to 0, give a column `partition`, or use split_by='random'."
        ) from error


def _check_disjoint(rows: Sequence[Row], config: FolderCorpusConfig) -> None:
    parts_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row["speaker"] is not None:
            parts_of[row["speaker"]].add(row["partition"])
    in_two = {speaker: sorted(parts) for speaker, parts in parts_of.items() if len(parts) > 1}
    if not in_two:
        return
    speaker, parts = min(in_two.items())
    message = f"{len(in_two)} speakers are in more than one partition, such as {speaker!r} in {', '.join(parts)}"
    if not config.allow_speaker_overlap:
        raise ValueError(
            f"{message}: scores would be higher than on people that the model has not heard. Put each speaker in one, "
            "or remove the column and have them divided; allow_speaker_overlap=True takes the table as it is."
        )
    logger.warning("%s. Scores are higher than on people that the model has not heard.", message)


def _fault_of(row: Row) -> str | None:
    faults = ((path, find_fault(path)) for path in _files(row))
    return next((f"{path}: {fault.rstrip('.')}" for path, fault in faults if fault), None)


def _files(row: Row) -> list[str]:
    return [path for path in dict.fromkeys((row["video"], row["audio"])) if path is not None]


def _stamp(path: str) -> bytes:
    """Size and time of change of a file, for telling whether it is still the same."""
    try:
        status = os.stat(path)
    except OSError:
        return b"missing"
    return f"{status.st_size} {status.st_mtime_ns}".encode()
