"""RAVDESS, the speech half, as a `datasets` builder: 1440 audio-video clips of 24 actors, eight emotions.

    python build_ravdess.py --data-dir RAVDESS --output ravdess-parquet

This file stands alone. The facts on the corpus, and where each of them comes from, are in README.md beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets


logger = datasets.logging.get_logger(__name__)

HOMEPAGE = "https://zenodo.org/records/1188976"
LICENSE = "CC BY-NC-SA 4.0"
CITATION = """\
@article{livingstone2018ravdess,
  title = {The {R}yerson {A}udio-{V}isual {D}atabase of {E}motional {S}peech and {S}ong ({RAVDESS}): A dynamic,
           multimodal set of facial and vocal expressions in {N}orth {A}merican {E}nglish},
  author = {Livingstone, Steven R. and Russo, Frank A.},
  journal = {PLoS ONE},
  volume = {13},
  number = {5},
  pages = {e0196391},
  year = {2018},
  doi = {10.1371/journal.pone.0196391}
}
"""

# A file name is modality-channel-emotion-intensity-statement-repetition-actor, two digits each.
CLIP_NAME = re.compile(r"\d\d(-\d\d){6}")
AUDIO_VIDEO, SPEECH = "01", "01"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprised",
}
STATEMENTS = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
ACTORS = range(1, 25)

# Groups of actors for cross-validation; nobody is in two of them. The first is our own rule, four actors in a row,
# two women and two men. The second is the table of Luna-Jiménez et al. (2021), doi:10.3390/s21227665, section 3.1.
FOLDS = {
    "four_actors": [tuple(range(first, first + 4)) for first in range(1, 25, 4)],
    "luna_jimenez_2021": [
        (2, 5, 14, 15, 16),
        (3, 6, 7, 13, 18),
        (10, 11, 12, 19, 20),
        (8, 17, 21, 23, 24),
        (1, 4, 9, 22),
    ],
}

ARCHIVE_URL = "https://zenodo.org/records/1188976/files/Video_Speech_Actor_{actor:02d}.zip"
# actor: (MD5, bytes) of the archive with both video modalities of the actor's speech.
ARCHIVES = {
    1: ("3c8ececaf392b4a9b11b32271f4f6d01", 552_968_353),
    2: ("a6f40d413b2e6ef25b3a595099e59abb", 570_673_024),
    3: ("68fa240ddd8a3cc410c64efe5fb2b0e4", 567_824_665),
    4: ("013eed832af1f7e97082aae398a00dbe", 546_560_009),
    5: ("b00e17d61374ef6ba86fef35d50a20fb", 562_966_425),
    6: ("3c42877921cc08cfb5c841a0f2cb94a7", 568_517_859),
    7: ("bdd29bfe082f80361ec6b589845c283d", 565_652_404),
    8: ("bed5f43d9c18e177e34d4bc1ed9b6d77", 562_573_079),
    9: ("775da349c50bf915a1bbcb37379bd092", 523_489_249),
    10: ("70199d1c6902f76e17df308d5c41fa01", 565_580_163),
    11: ("824504aa41a8fd575e5459d5701dd378", 518_634_370),
    12: ("2a1f0ddc0ca207beedee6ce2ea863ad7", 557_928_718),
    13: ("c5f2fd4fd77941636947620368c612b5", 501_877_549),
    14: ("466d31f4cce92a14b1f4ee884bbdf7d7", 552_484_059),
    15: ("4b3b9bc8473e86f884630f2506684887", 525_205_576),
    16: ("a63c54570ebbe6bd616d0dced5630f7e", 562_416_513),
    17: ("8b7ae3e5a85d2874ac8e1195e722e047", 551_688_845),
    18: ("fef2131ac361da182c0cb85f3d8e8a6c", 565_655_520),
    19: ("abb97d97d8c4e88c866cee1cea9d06d6", 581_121_687),
    20: ("5ddfb22770093bafebdefe8faa449f48", 561_349_264),
    21: ("d810cf2ff6863ef91306fc7a16d74fbb", 590_292_896),
    22: ("fee55f72c9871401f23d4b167de3217d", 560_907_466),
    23: ("b31e8c8904e66102e7a951694db752d6", 545_177_865),
    24: ("eef90e806c9179bc5b4b098d03647ae3", 595_799_165),
}
BY_HAND = (
    f"download Video_Speech_Actor_01.zip to Video_Speech_Actor_24.zip from {HOMEPAGE}, "
    "unpack them into one folder, and give that folder as data_dir"
)

FEATURES = datasets.Features(
    {
        "clip_id": datasets.Value("string"),
        "audio": datasets.Audio(sampling_rate=16000),
        "video": datasets.Video(),
        "start_seconds": datasets.Value("float64"),
        "end_seconds": datasets.Value("float64"),
        "audio_start_seconds": datasets.Value("float64"),
        "crop_box": datasets.List(datasets.Value("int32"), length=4),
        "speaker": datasets.Value("string"),
        "session": datasets.Value("string"),
        "gender": datasets.Value("string"),
        "emotion": datasets.ClassLabel(names=list(EMOTIONS.values())),
        "valence": datasets.Value("float32"),
        "activation": datasets.Value("float32"),
        "dominance": datasets.Value("float32"),
        "transcript": datasets.Value("string"),
        "partition": datasets.Value("string"),
    }
)

SKIPPED_FILE = "skipped.json"
NUM_NAMED = 5  # how many clips or files a message names before it only counts


class Clip(NamedTuple):
    """One recording: its name without the suffix, and the mp4 with sound and picture."""

    clip_id: str
    path: str


def published_clips() -> list[str]:
    """The names of all 1440 speech clips, sorted: 60 an actor, no strong neutral."""
    return [
        f"{AUDIO_VIDEO}-{SPEECH}-{emotion}-{intensity}-{statement}-{repetition}-{actor:02d}"
        for emotion in EMOTIONS
        for intensity in (["01"] if EMOTIONS[emotion] == "neutral" else ["01", "02"])
        for statement in STATEMENTS
        for repetition in ("01", "02")
        for actor in ACTORS
    ]


@dataclass
class RavdessConfig(datasets.BuilderConfig):
    """Where the corpus comes from and how strict its checks are.

    Args:
        data_dir (`str`, *optional*):
            Folder with the unpacked archives, the recordings at any depth (`Actor_01/01-01-01-01-01-01-01.mp4`).
        download (`bool`, defaults to `False`):
            Download the 24 archives (13.4 GB) instead of reading `data_dir`. Non-commercial use only: see the card.
        on_error (`str`, defaults to `"raise"`):
            What to do with a clip whose file is empty or unreadable: `"raise"`, or `"skip"` it and list it in
            `Ravdess.skipped`. "Unreadable" means that the file cannot be opened or does not begin like an mp4; nothing
            is decoded.
        allow_partial (`bool`, defaults to `False`):
            Accept a copy that lacks published clips, with a warning, instead of refusing it.
        folds (`str`, defaults to `"four_actors"`):
            Which groups of actors `session` tells: `"four_actors"` (six groups of two women and two men) or
            `"luna_jimenez_2021"` (five groups, as published).
    """

    data_dir: str | None = None
    download: bool = False
    on_error: str = "raise"
    allow_partial: bool = False
    folds: str = "four_actors"

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name the cache after the options and after the files of the copy, so that a changed copy is read anew."""
        _check_choice("on_error", self.on_error, ["raise", "skip"])
        _check_choice("folds", self.folds, list(FOLDS))
        if self.data_dir is not None:
            self.data_dir = os.path.abspath(os.path.expanduser(self.data_dir))
            recordings, _ = _find_recordings(self.data_dir)
            config_kwargs = {**config_kwargs, "data_dir": _fingerprint(self.data_dir, recordings.values())}
        return super().create_config_id(config_kwargs, custom_features)


class Ravdess(datasets.GeneratorBasedBuilder):
    """The speech clips of RAVDESS with sound and picture, one split, sorted by clip id.

    Example:
        ```python
        builder = Ravdess(data_dir="RAVDESS")
        builder.download_and_prepare()
        dataset = builder.as_dataset(split="train")
        ```
    """

    BUILDER_CONFIG_CLASS = RavdessConfig
    BUILDER_CONFIGS = [RavdessConfig(name="speech", version=datasets.Version("1.0.0"), description="8 emotions")]
    DEFAULT_CONFIG_NAME = "speech"

    _skipped: list[dict[str, str]] | None = None

    @property
    def skipped(self) -> list[dict[str, str]]:
        """What `on_error="skip"` left out of the prepared data: `clip_id` and `reason` of each clip.

        Raises:
            RuntimeError: If nothing has been prepared or streamed yet.
        """
        if self._skipped is None:
            file = os.path.join(self._output_dir, SKIPPED_FILE)
            if not os.path.exists(file):
                raise RuntimeError("No clip has been looked at yet: call download_and_prepare() first.")
            with open(file, encoding="utf-8") as stream:
                self._skipped = json.load(stream)
        return self._skipped

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Audio-video speech clips of RAVDESS: 24 actors, 2 sentences, 8 emotions.",
            features=FEATURES,
            homepage=HOMEPAGE,
            license=LICENSE,
            citation=CITATION,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        recordings = self._recordings(dl_manager)
        published = published_clips()
        self._check_complete(missing=[clip_id for clip_id in published if clip_id not in recordings])
        found = [Clip(clip_id, recordings[clip_id]) for clip_id in published if clip_id in recordings]
        # A list, so that workers can share the clips among them.
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs={"clips": self._readable(found)})]

    def _generate_examples(self, clips: Sequence[Clip]) -> Iterator[tuple[str, dict]]:
        fold_of = {actor: f"fold_{index}" for index, fold in enumerate(FOLDS[self.config.folds]) for actor in fold}
        for clip_id, path in clips:
            _, _, emotion, _, statement, _, actor = clip_id.split("-")
            yield (
                clip_id,
                {
                    "clip_id": clip_id,
                    "audio": {"path": path, "bytes": None},
                    "video": {"path": path, "bytes": None},
                    "start_seconds": None,
                    "end_seconds": None,
                    "audio_start_seconds": None,
                    "crop_box": None,
                    "speaker": f"Actor_{actor}",
                    "session": fold_of[int(actor)],
                    "gender": "female" if int(actor) % 2 == 0 else "male",
                    "emotion": EMOTIONS[emotion],
                    "valence": None,
                    "activation": None,
                    "dominance": None,
                    "transcript": STATEMENTS[statement],
                    "partition": None,
                },
            )

    def _prepare_split(self, split_generator: datasets.SplitGenerator, *args: Any, **kwargs: Any) -> None:
        super()._prepare_split(split_generator, *args, **kwargs)
        with self._fs.open(os.path.join(self._output_dir, SKIPPED_FILE), "w") as stream:
            json.dump(self._skipped, stream, indent=2)

    def _recordings(self, dl_manager: datasets.DownloadManager) -> dict[str, str]:
        """The mp4 of each clip, from the copy or from the network."""
        data_dir = self.config.data_dir
        if self.config.download and data_dir is not None:
            raise ValueError(f"Give data_dir or download=True, not both; got data_dir={data_dir!r} too.")
        if self.config.download:
            folders = _download(dl_manager)
        elif data_dir is None:
            raise ValueError(
                "RAVDESS was not given. Either pass data_dir=..., the folder of your copy (to get one, "
                f"{BY_HAND}), or pass download=True to have the archives downloaded (13.4 GB; {LICENSE})."
            )
        elif not os.path.isdir(data_dir):
            raise FileNotFoundError(f"data_dir is no folder: {data_dir!r}. To get RAVDESS, {BY_HAND}.")
        else:
            folders = [data_dir]

        recordings: dict[str, str] = {}
        foreign: list[str] = []
        for folder in folders:
            found, not_ours = _find_recordings(folder)
            recordings.update(found)
            foreign += not_ours
        if not recordings:
            raise FileNotFoundError(
                f"{data_dir or 'The download'} holds no audio-video speech recording of RAVDESS (an mp4 named like "
                f"01-01-06-01-02-01-12.mp4); {len(foreign)} other mp4 files are there. "
                f"Audio-only archives are not enough: {BY_HAND}."
            )
        if foreign:
            logger.warning(
                "%d mp4 files are not clips of RAVDESS by their names, or a second copy of one, and were left out: %s",
                len(foreign),
                _some(foreign),
            )
        return recordings

    def _check_complete(self, missing: list[str]) -> None:
        """Raises ValueError, or warns, where published clips are absent."""
        if not missing:
            return
        published = published_clips()
        actor_of, emotion_of = (lambda name: f"Actor_{name[-2:]}"), (lambda name: EMOTIONS[name[6:8]])
        message = (
            f"This copy of RAVDESS has {len(published) - len(missing)} of {len(published)} speech clips. "
            f"Missing by actor: {_shares(missing, published, actor_of)}. "
            f"By emotion: {_shares(missing, published, emotion_of)}. Clips: {_some(missing)}."
        )
        if not self.config.allow_partial:
            raise ValueError(f"{message} To complete it, {BY_HAND}; or pass allow_partial=True to use what is there.")
        logger.warning("%s", message)

    def _readable(self, clips: list[Clip]) -> list[Clip]:
        """The clips whose file begins like an mp4. The others are an error, or noted in `skipped`."""
        problems = {clip.clip_id: problem for clip in clips if (problem := _problem(clip.path)) is not None}
        self._skipped = [{"clip_id": name, "reason": f"{name}.mp4 {why}"} for name, why in problems.items()]
        if not problems:
            return clips
        message = f"{len(problems)} of {len(clips)} clips of RAVDESS cannot be read: " + _some(
            [f"{entry['clip_id']} ({entry['reason']})" for entry in self._skipped], separator="; "
        )
        if self.config.on_error == "raise":
            raise ValueError(f'{message}. Fetch these files again, or leave the clips out with on_error="skip".')
        logger.warning("%s. They were left out.", message)
        return [clip for clip in clips if clip.clip_id not in problems]


def _download(dl_manager: datasets.DownloadManager) -> list[str]:
    if dl_manager.is_streaming:
        raise ValueError("download=True does not stream. Prepare the corpus once without streaming, or give data_dir.")
    urls = {actor: ARCHIVE_URL.format(actor=actor) for actor in ARCHIVES}
    try:
        archives = dl_manager.download(urls)
    except Exception as error:
        raise RuntimeError(
            f"Downloading RAVDESS failed ({type(error).__name__}: {error}). Tried {len(urls)} archives, "
            f"{next(iter(urls.values()))} and the like; what has arrived is kept, so trying again goes on from there. "
            f"By hand: {BY_HAND}."
        ) from error
    for actor, archive in archives.items():
        expected_md5, expected_bytes = ARCHIVES[actor]
        num_bytes, md5 = os.path.getsize(archive), _md5(archive)
        if (md5, num_bytes) != (expected_md5, expected_bytes):
            raise RuntimeError(
                f"{urls[actor]} arrived with {num_bytes} bytes and MD5 {md5}; published are {expected_bytes} bytes and "
                f'{expected_md5}. Try again with download_mode="force_redownload". By hand: {BY_HAND}.'
            )
    return list(dl_manager.extract(archives).values())


def _find_recordings(folder: str) -> tuple[dict[str, str], list[str]]:
    """All mp4 files below a folder: those of published clips by name, and the names that no file of RAVDESS has.

    Where one name occurs twice, the first path in sorted order counts and the other one is foreign. Hidden files, and
    the two other modalities and the songs, are neither.
    """
    published = set(published_clips())
    recordings: dict[str, str] = {}
    foreign: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for file in sorted(files):
            name, suffix = os.path.splitext(file)
            if suffix.lower() != ".mp4" or file.startswith("."):
                continue
            if name in published and name not in recordings:
                recordings[name] = os.path.join(parent, file)
            elif name in published or not _is_other_modality(name):
                foreign.append(os.path.relpath(os.path.join(parent, file), folder))
    return recordings, foreign


def _is_other_modality(name: str) -> bool:
    return bool(CLIP_NAME.fullmatch(name)) and name[:5] in {"01-02", "02-01", "02-02"}


def _problem(path: str) -> str | None:
    """What is wrong with an mp4 by its first bytes, None where nothing is."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty"
    # The boxes with which an mp4 may begin.
    return None if head[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"} else "is no mp4 file"


def _fingerprint(folder: str, paths: Iterable[str]) -> str:
    """A hash of the folder, and of path, size and time of change of each file."""
    digest = hashlib.sha256(folder.encode())
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:  # a link to nowhere
            digest.update(f"{path}\0".encode())
        else:
            digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def _md5(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _check_choice(option: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ValueError(f"{option} must be one of {choices}, got {value!r}.")


def _shares(missing: list[str], published: list[str], group_of: Callable[[str], str]) -> str:
    """How many clips of each group are missing: `angry 3 of 192, sad 1 of 192`, the groups without any clip last."""
    absent, totals = Counter(map(group_of, missing)), Counter(map(group_of, published))
    parts = [f"{group} {absent[group]} of {totals[group]}" for group in sorted(absent) if absent[group] < totals[group]]
    whole = [group for group in sorted(absent) if absent[group] == totals[group]]
    return ", ".join(parts + ([f"all of {' '.join(whole)}"] if whole else []))


def _some(names: list[str], separator: str = ", ") -> str:
    rest = len(names) - NUM_NAMED
    return separator.join(names[:NUM_NAMED]) + (f"{separator}and {rest} more" if rest > 0 else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rows as Parquet, and what was left out as `skipped.json` beside it.

    The table refers to the recordings and is of use where they are. `Dataset.push_to_hub` puts them into the rows.

    Args:
        arguments (`Sequence[str]`, *optional*): Those of the command line by default.

    Returns:
        `int`: 0, or 1 where it did not work.
    """
    parser = argparse.ArgumentParser(
        description="Write the speech clips of RAVDESS as a Parquet table that refers to the recordings."
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data-dir", help="folder with the unpacked Video_Speech_Actor_*.zip")
    source.add_argument("--download", action="store_true", help=f"download the archives (13.4 GB; {LICENSE})")
    parser.add_argument("--output", required=True, help="folder that gets train-00000-of-00001.parquet")
    parser.add_argument(
        "--on-error", choices=["raise", "skip"], default="raise", help="for unreadable recordings (%(default)s)"
    )
    parser.add_argument("--allow-partial", action="store_true", help="take a copy that lacks clips")
    parser.add_argument(
        "--folds", choices=list(FOLDS), default="four_actors", help="the groups in `session` (%(default)s)"
    )
    parser.add_argument("--cache-dir", help="where downloads are kept (the cache of `datasets`)")
    options = parser.parse_args(arguments)
    target = os.path.join(options.output, "train-00000-of-00001.parquet")
    try:
        builder = Ravdess(
            dataset_name="ravdess",
            cache_dir=options.cache_dir,
            data_dir=options.data_dir,
            download=options.download,
            on_error=options.on_error,
            allow_partial=options.allow_partial,
            folds=options.folds,
        )
        builder.download_and_prepare()
        dataset = builder.as_dataset(split="train")
        os.makedirs(options.output, exist_ok=True)
        partial = f"{target}.{os.getpid()}"
        dataset.to_parquet(partial)
        os.replace(partial, target)
        with open(os.path.join(options.output, SKIPPED_FILE), "w", encoding="utf-8") as stream:
            json.dump(builder.skipped, stream, indent=2)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"build_ravdess.py: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {len(dataset)} clips, {len(builder.skipped)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
