"""What the dataset scripts share: columns, options, checks of files, the list of skipped clips, the command line.

In a checkout and in the installed package this file is one folder above the scripts; on the Hub it is beside them. It
needs nothing but `datasets`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets


logger = logging.getLogger(__name__)

Row = dict[str, Any]

SKIPPED_FILE = "skipped.json"
_NUM_NAMED = 5  # a message names this many clips or files, and counts the others
_HEADS = {
    "avi": rb"RIFF.{4}AVI ",
    "flv": rb"FLV",
    "mp4": rb".{4}(ftyp|moov|mdat|free|skip|wide)",
    "wav": rb"(RIFF|RF64).{4}WAVE",
}


def corpus_features(labels: Sequence[str]) -> datasets.Features:
    """The columns of every corpus; `labels` are the names of the emotions, by index."""
    return datasets.Features(
        {
            "clip_id": datasets.Value("string"),
            "audio": datasets.Audio(sampling_rate=16_000),
            "video": datasets.Video(),
            "start_seconds": datasets.Value("float64"),
            "end_seconds": datasets.Value("float64"),
            "audio_start_seconds": datasets.Value("float64"),
            "crop_box": datasets.List(datasets.Value("int32"), length=4),
            "speaker": datasets.Value("string"),
            "session": datasets.Value("string"),
            "gender": datasets.Value("string"),
            "emotion": datasets.ClassLabel(names=list(labels)),
            "valence": datasets.Value("float32"),
            "activation": datasets.Value("float32"),
            "dominance": datasets.Value("float32"),
            "transcript": datasets.Value("string"),
            "partition": datasets.Value("string"),
        }
    )


def make_row(clip_id: str, audio: str, video: str, **columns: Any) -> Row:
    """A row of a corpus, from the paths of its files and the columns that have a value."""
    media = {"audio": {"path": audio, "bytes": None}, "video": {"path": video, "bytes": None}}
    return {**dict.fromkeys(corpus_features([])), "clip_id": clip_id, **media, **columns}


def option(default: Any, help: str, choices: Sequence[str] | None = None) -> Any:
    """A field of a configuration that is an option of the command line too."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class CorpusConfig(datasets.BuilderConfig):
    """Options of every corpus.

    Args:
        data_dir (`str`, *optional*):
            Folder of your copy.
        on_error (`str`, defaults to `"raise"`):
            What to do with a clip whose file is missing or empty, or does not begin like a file of its kind: `"raise"`,
            or `"skip"` it and list it in `skipped`. Nothing is decoded.
        allow_partial (`bool`, defaults to `False`):
            Accept a copy that differs from the published corpus, with a warning, instead of refusing it.
    """

    on_error: str = option("raise", "what to do with clips that cannot be read", ["raise", "skip"])
    allow_partial: bool = option(False, "accept an incomplete copy")

    def files(self) -> Iterable[str]:
        """Paths of the files in `data_dir` that the rows depend on."""
        raise NotImplementedError

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name the cache after the options and the files of the copy, so that a changed copy is read again."""
        for field in _options_of(type(self)):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if choices is not None and value not in choices:
                raise ValueError(f"{field.name} must be one of {list(choices)}, got {value!r}.")
        if self.data_dir is not None:
            self.data_dir = os.path.abspath(os.path.expanduser(self.data_dir))
            config_kwargs = {**config_kwargs, "data_dir": _fingerprint(self.data_dir, self.files())}
        return super().create_config_id(config_kwargs, custom_features)


class CorpusBuilder(datasets.GeneratorBasedBuilder):
    """A corpus with one split, sorted by clip id. A subclass finds the rows.

    Attributes:
        corpus (`str`): Name of the corpus in messages.
        how_to_get (`str`): How to get a complete copy, as the end of a sentence.
        file_kinds (`dict[str, str]`): Kind of the files of each media column: `"avi"`, `"flv"`, `"mp4"` or `"wav"`.
    """

    corpus: str
    how_to_get: str
    file_kinds: Mapping[str, str]

    _skipped: list[dict[str, str]] | None = None

    @property
    def skipped(self) -> list[dict[str, str]]:
        """`clip_id` and `reason` of each clip of the copy that is not in the prepared data.

        Raises:
            RuntimeError: If nothing has been prepared or streamed yet.
        """
        if self._skipped is None:
            file = os.path.join(self._output_dir, SKIPPED_FILE)
            if not os.path.exists(file):
                raise RuntimeError("No clip has been checked yet: call download_and_prepare() first.")
            with open(file, encoding="utf-8") as stream:
                self._skipped = json.load(stream)
        return self._skipped

    def find_rows(self, dl_manager: datasets.DownloadManager) -> list[Row]:
        """All rows of the copy, sorted, after a check that the copy is complete."""
        raise NotImplementedError

    def skip(self, reasons: Mapping[str, str]) -> None:
        """List clips as skipped."""
        self._skipped = sorted(
            [*(self._skipped or []), *({"clip_id": clip_id, "reason": why} for clip_id, why in reasons.items())],
            key=lambda entry: entry["clip_id"],
        )

    def find_folder(self) -> str | None:
        """The folder of the copy, or None if the corpus is to be downloaded."""
        data_dir = self.config.data_dir
        if self.config.download:
            if data_dir is not None:
                raise ValueError(f"Give data_dir or download=True, not both; got data_dir={data_dir!r} too.")
            return None
        if data_dir is None:
            raise ValueError(
                f"No folder of {self.corpus} was given. Either pass data_dir=..., the folder of your copy (to get "
                f"one, {self.how_to_get}), or pass download=True to download it ({self.info.license})."
            )
        if not os.path.isdir(data_dir):
            raise FileNotFoundError(f"data_dir is not a folder: {data_dir!r}. To get {self.corpus}, {self.how_to_get}.")
        return data_dir

    def download(self, dl_manager: datasets.DownloadManager, urls: Mapping[str, str]) -> dict[str, str]:
        """Download files by name."""
        if dl_manager.is_streaming:
            raise ValueError(
                "download=True does not stream. Prepare the corpus once without streaming, or give data_dir."
            )
        try:
            return dl_manager.download(dict(urls))
        except Exception as error:
            raise RuntimeError(
                f"Downloading {self.corpus} failed ({type(error).__name__}: {error}). It needs {len(urls)} files such "
                f"as {next(iter(urls.values()))}. Files that arrived are kept, so another try continues. "
                f"By hand: {self.how_to_get}."
            ) from error

    def check_complete(self, differences: str) -> None:
        """Refuse a copy that differs from the published corpus, or warn if `allow_partial` accepts it."""
        if not differences:
            return
        message = f"This copy of {self.corpus} is not complete. {differences}"
        if not self.config.allow_partial:
            raise ValueError(f"{message} To complete it, {self.how_to_get}; or accept it with allow_partial=True.")
        logger.warning("%s", message)

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        self._skipped = []
        # A list, so that processes can share the rows.
        rows = self._readable(self.find_rows(dl_manager))
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs={"rows": rows})]

    def _generate_examples(self, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
        for row in rows:
            yield row["clip_id"], row

    def _prepare_split(self, split_generator: datasets.SplitGenerator, *args: Any, **kwargs: Any) -> None:
        super()._prepare_split(split_generator, *args, **kwargs)
        with self._fs.open(os.path.join(self._output_dir, SKIPPED_FILE), "w") as stream:
            json.dump(self.skipped, stream, indent=2)

    def _readable(self, rows: list[Row]) -> list[Row]:
        find = functools.cache(_find_fault)  # many clips may be in one recording
        faults: dict[str, list[str]] = {}
        for row in rows:
            files = {row[column]["path"]: kind for column, kind in self.file_kinds.items()}
            if found := [f"{path} {fault}" for path, kind in files.items() if (fault := find(path, kind))]:
                # Bytes of a name that are not UTF-8 cannot be printed.
                faults[row["clip_id"]] = [text.encode(errors="backslashreplace").decode() for text in found]
        if not faults:
            return rows
        reasons = {clip_id: "; ".join(found) for clip_id, found in faults.items()}
        named = some([f"{clip_id} ({why})" for clip_id, why in reasons.items()], separator="; ")
        message = f"{len(faults)} of {len(rows)} clips of {self.corpus} cannot be read: {named}."
        if len(faults) == len(rows):
            raise ValueError(f"{message} No clip is left. To get a complete copy, {self.how_to_get}.")
        if self.config.on_error == "raise":
            raise ValueError(f'{message} Get these files again, or skip the clips with on_error="skip".')
        logger.warning("%s They are skipped.", message)
        self.skip(reasons)
        return [row for row in rows if row["clip_id"] not in faults]


def describe_missing(found: Iterable[str], published: Sequence[str], groupings: Mapping[str, Callable]) -> str:
    """Which published clips were not found, counted by group; empty if all were.

    Args:
        found (`Iterable[str]`): Ids of the clips of a copy.
        published (`Sequence[str]`): Ids of all clips.
        groupings (`Mapping[str, Callable]`): Name of a grouping (`"actor"`), and the group of a clip id.
    """
    present = set(found)
    missing = [clip_id for clip_id in published if clip_id not in present]
    if not missing:
        return ""
    parts = [f"It has {len(published) - len(missing)} of {len(published)} clips."]
    for name, group_of in groupings.items():
        absent, totals = Counter(map(group_of, missing)), Counter(map(group_of, published))
        some_missing = [f"{key} {absent[key]} of {totals[key]}" for key in sorted(absent) if absent[key] < totals[key]]
        all_missing = [key for key in sorted(absent) if absent[key] == totals[key]]
        counts = some_missing + ([f"all of {' '.join(all_missing)}"] if all_missing else [])
        parts.append(f"Missing by {name}: {', '.join(counts)}.")
    return " ".join([*parts, f"Clips: {some(missing)}."])


def some(names: Sequence[str], separator: str = ", ") -> str:
    """The first few names, and how many there are besides."""
    rest = len(names) - _NUM_NAMED
    return separator.join(names[:_NUM_NAMED]) + (f"{separator}and {rest} more" if rest > 0 else "")


def run(builder_class: type[CorpusBuilder], arguments: Sequence[str] | None = None) -> int:
    """Write the rows as Parquet, and the skipped clips as `skipped.json` beside it.

    The table has the paths of the recordings and is of use on this machine. `Dataset.push_to_hub` copies the recordings
    into the rows.

    Args:
        builder_class (`type[CorpusBuilder]`): Of the script.
        arguments (`Sequence[str]`, *optional*): Those of the command line by default.

    Returns:
        `int`: 0, or 1 after an error.
    """
    script = os.path.basename(sys.modules[builder_class.__module__].__file__ or "")
    fields = _options_of(builder_class.BUILDER_CONFIG_CLASS)
    parser = argparse.ArgumentParser(
        prog=script, description=f"Write {builder_class.corpus} as a Parquet table that refers to the recordings."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data-dir", help="folder of your copy")
    parser.add_argument("--output", required=True, help="folder for train-00000-of-00001.parquet and skipped.json")
    parser.add_argument(
        "--config",
        dest="config_name",
        choices=list(builder_class.builder_configs),
        default=builder_class.DEFAULT_CONFIG_NAME,
        help="which configuration (%(default)s)",
    )
    parser.add_argument("--cache-dir", help="where prepared rows and downloads are kept (the cache of `datasets`)")
    for field in fields:
        flag, group = "--" + field.name.replace("_", "-"), source if field.name == "download" else parser
        if isinstance(field.default, bool):
            group.add_argument(flag, action="store_true", help=field.metadata["help"])
        else:
            about = {"choices": field.metadata["choices"], "default": field.default}
            group.add_argument(flag, help=f"{field.metadata['help']} (%(default)s)", **about)
    options = vars(parser.parse_args(arguments))
    output = options.pop("output")
    target = os.path.join(output, "train-00000-of-00001.parquet")
    try:
        builder = builder_class(dataset_name=script.removeprefix("build_").removesuffix(".py"), **options)
        builder.download_and_prepare()
        dataset = builder.as_dataset(split="train")
        os.makedirs(output, exist_ok=True)
        partial = f"{target}.{os.getpid()}"
        dataset.to_parquet(partial)
        os.replace(partial, target)
        with open(os.path.join(output, SKIPPED_FILE), "w", encoding="utf-8") as stream:
            json.dump(builder.skipped, stream, indent=2)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"{script}: {_as_options(str(error), fields)}", file=sys.stderr)
        return 1
    print(f"{target}: {len(dataset)} clips, {len(builder.skipped)} skipped")
    return 0


def _as_options(message: str, fields: Iterable[dataclasses.Field]) -> str:
    """A message with `--on-error skip` in place of `on_error="skip"`."""
    names = "|".join(["data_dir", *(field.name for field in fields)])

    def flag(match: re.Match[str]) -> str:
        value = "" if match[2] == "True" else f" {match[2].strip(chr(34))}"
        return f"--{match[1].replace('_', '-')}{value}"

    return re.sub(rf'\b({names})=(True|\.\.\.|"\w+")', flag, message)


def _options_of(config_class: type) -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(config_class) if "help" in field.metadata]


def _find_fault(path: str, kind: str) -> str | None:
    """What is wrong with a file by its first bytes; None if nothing is."""
    try:
        path.encode()
        with open(path, "rb") as stream:
            head = stream.read(24)
    except UnicodeEncodeError:
        return "has a name, or is in a folder with a name, that is not UTF-8; rename it"
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer instead of the recording: run `git lfs pull` in the clone"
    return None if re.match(_HEADS[kind], head, re.DOTALL) else f"is not a {kind} file"


def _fingerprint(folder: str, paths: Iterable[str]) -> str:
    """A hash of the folder, and of path, size and time of change of each file."""
    digest = hashlib.sha256(folder.encode(errors="surrogateescape"))
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere
            described = f"{path}\0"
        else:
            described = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"
        digest.update(described.encode(errors="surrogateescape"))
    return digest.hexdigest()
