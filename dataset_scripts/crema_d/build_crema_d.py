"""CREMA-D as a `datasets` builder: 7442 audio-video clips of 91 actors, six emotions.

    python build_crema_d.py --data-dir CREMA-D --output crema-d-parquet

This file stands alone. The facts on the corpus, and where each of them comes from, are in README.md beside it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets


logger = datasets.logging.get_logger(__name__)

HOMEPAGE = "https://github.com/CheyneyComputerScience/CREMA-D"
LICENSE = "ODbL 1.0"
CITATION = """\
@article{cao2014cremad,
  title = {{CREMA-D}: Crowd-sourced Emotional Multimodal Actors Dataset},
  author = {Cao, Houwei and Cooper, David G. and Keutmann, Michael K. and Gur, Ruben C. and Nenkova, Ani and
            Verma, Ragini},
  journal = {IEEE Transactions on Affective Computing},
  volume = {5},
  number = {4},
  pages = {377--390},
  year = {2014},
  doi = {10.1109/TAFFC.2014.2336244}
}
"""

# A file name is actor_sentence_emotion_level. Only the first sentence was spoken at three levels of emotion.
ACTORS = range(1001, 1092)
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
GRADED_SENTENCE = "IEO"

# The 20 combinations that do not exist: three actors lack a sentence, two more a neutral one.
UNPUBLISHED = {
    "1002_TIE_NEU_XX",
    "1076_ITS_NEU_XX",
    *(f"{sentence}_{emotion}_XX" for sentence in ("1008_WSI", "1009_MTI", "1019_ITH") for emotion in EMOTIONS),
}
# One sound file has a name of its own.
AUDIO_NAMES = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}
# Recordings that the corpus' authors know to be wrong, and keep because the raters saw them.
KNOWN_DEFECTS = {
    "1064_IEO_DIS_MD": "the video shows all emotions of the sentence, for a minute",
    "1064_TIE_SAD_XX": "the video has no duration",
    "1076_MTI_NEU_XX": "the video is very short and has no sound",
    "1076_MTI_SAD_XX": "the video is very short, an error picture; the sound is silent",
}

# Five groups of actors for cross-validation, our own rule: the 43 women, then the 48 men, each in the order of their
# numbers, are dealt to the groups in turn. So a group has 8 or 9 women and 9 or 10 men, and nobody is in two.
FOLDS = [
    "1002 1008 1011 1018 1019 1028 1031 1036 1042 1046 1051 1054 1061 1065 1070 1075 1083 1084 1090",
    "1003 1009 1014 1020 1022 1029 1032 1038 1044 1047 1055 1057 1063 1066 1071 1076 1085 1089",
    "1004 1010 1015 1021 1023 1030 1033 1039 1045 1049 1056 1059 1067 1072 1077 1078 1086 1091",
    "1001 1006 1012 1016 1024 1026 1034 1037 1040 1048 1052 1058 1062 1068 1073 1079 1080 1087",
    "1005 1007 1013 1017 1025 1027 1035 1041 1043 1050 1053 1060 1064 1069 1074 1081 1082 1088",
]

AUDIO_FOLDER, VIDEO_FOLDER, DEMOGRAPHICS = "AudioWAV", "VideoFlash", "VideoDemographics.csv"
# The recordings are in Git LFS, file by file: there is no archive, and no list of checksums.
MEDIA_URL = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master"
TABLE_URL = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
BY_HAND = (
    f"run `git lfs install`, then `git clone {HOMEPAGE}.git` (7.6 GB; where GitHub refuses, the authors' mirror "
    "https://gitlab.com/cs-cooper-lab/crema-d-mirror), and give that folder as data_dir"
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
    """One recording: its name, and the paths of its sound and its pictures. A path may be None until it was checked."""

    clip_id: str
    audio: str | None
    video: str | None


class Copy(NamedTuple):
    """The files of a copy, by clip, and its table of actors; what is absent is not there."""

    audio: dict[str, str]
    video: dict[str, str]
    demographics: str | None
    foreign: list[str]


def published_clips() -> list[str]:
    """The names of all 7442 clips, sorted."""
    names = {
        f"{actor}_{sentence}_{emotion}_{level}"
        for actor in ACTORS
        for sentence in SENTENCES
        for emotion in EMOTIONS
        for level in (["LO", "MD", "HI"] if sentence == GRADED_SENTENCE and emotion != "NEU" else ["XX"])
    }
    return sorted(names - UNPUBLISHED)


@dataclass
class CremaDConfig(datasets.BuilderConfig):
    """Where the corpus comes from and how strict its checks are.

    Args:
        data_dir (`str`, *optional*):
            Clone of the corpus' repository, or a folder that holds it: with `AudioWAV`, `VideoFlash` and
            `VideoDemographics.csv`.
        download (`bool`, defaults to `False`):
            Download the 14,885 files instead of reading `data_dir`.
        on_error (`str`, defaults to `"raise"`):
            What to do with a clip that lacks one of its two files, or where one is empty or unreadable: `"raise"`, or
            `"skip"` it and list it in `CremaD.skipped`. "Unreadable" means that the file cannot be opened or does not
            begin like a wav or an flv; nothing is decoded.
        allow_partial (`bool`, defaults to `False`):
            Accept a copy that lacks published clips (both files of them), or the actors' table, with a warning, instead
            of refusing it.
        skip_known_defects (`bool`, defaults to `False`):
            Leave out, and list in `CremaD.skipped`, the four clips whose recordings the corpus' authors name as wrong.
    """

    data_dir: str | None = None
    download: bool = False
    on_error: str = "raise"
    allow_partial: bool = False
    skip_known_defects: bool = False

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name the cache after the options and after the files of the copy, so that a changed copy is read anew."""
        if self.on_error not in ("raise", "skip"):
            raise ValueError(f'on_error must be "raise" or "skip", got {self.on_error!r}.')
        if self.data_dir is not None:
            self.data_dir = os.path.abspath(os.path.expanduser(self.data_dir))
            copy = _find_copy(self.data_dir)
            paths = [*copy.audio.values(), *copy.video.values(), *filter(None, [copy.demographics])]
            config_kwargs = {**config_kwargs, "data_dir": _fingerprint(self.data_dir, paths)}
        return super().create_config_id(config_kwargs, custom_features)


class CremaD(datasets.GeneratorBasedBuilder):
    """The clips of CREMA-D with sound and picture, one split, sorted by clip id.

    Example:
        ```python
        builder = CremaD(data_dir="CREMA-D")
        builder.download_and_prepare()
        dataset = builder.as_dataset(split="train")
        ```
    """

    BUILDER_CONFIG_CLASS = CremaDConfig
    BUILDER_CONFIGS = [CremaDConfig(name="all", version=datasets.Version("1.0.0"), description="6 emotions")]
    DEFAULT_CONFIG_NAME = "all"

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
            description="Audio-video clips of CREMA-D: 91 actors, 12 sentences, 6 emotions.",
            features=FEATURES,
            homepage=HOMEPAGE,
            license=LICENSE,
            citation=CITATION,
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        copy = self._copy(dl_manager)
        published = published_clips()
        genders = _read_genders(copy.demographics) if copy.demographics is not None else {}
        found = [name for name in published if name in copy.audio or name in copy.video]
        missing = [name for name in published if name not in copy.audio and name not in copy.video]
        self._check_complete(missing, sorted({name[:4] for name in found} - set(genders)))
        clips = [Clip(name, copy.audio.get(name), copy.video.get(name)) for name in found]
        # A list, so that workers can share the clips among them.
        gen_kwargs = {"clips": self._readable(clips), "genders": genders}
        return [datasets.SplitGenerator(datasets.Split.TRAIN, gen_kwargs=gen_kwargs)]

    def _generate_examples(self, clips: Sequence[Clip], genders: dict[str, str]) -> Iterator[tuple[str, dict]]:
        fold_of = {actor: f"fold_{index}" for index, fold in enumerate(FOLDS) for actor in fold.split()}
        for clip_id, audio, video in clips:
            actor, sentence, emotion, _ = clip_id.split("_")
            yield (
                clip_id,
                {
                    "clip_id": clip_id,
                    "audio": {"path": audio, "bytes": None},
                    "video": {"path": video, "bytes": None},
                    "start_seconds": None,
                    "end_seconds": None,
                    "audio_start_seconds": 0.0,
                    "crop_box": None,
                    "speaker": actor,
                    "session": fold_of[actor],
                    "gender": genders.get(actor),
                    "emotion": EMOTIONS[emotion],
                    "valence": None,
                    "activation": None,
                    "dominance": None,
                    "transcript": SENTENCES[sentence],
                    "partition": None,
                },
            )

    def _prepare_split(self, split_generator: datasets.SplitGenerator, *args: Any, **kwargs: Any) -> None:
        super()._prepare_split(split_generator, *args, **kwargs)
        with self._fs.open(os.path.join(self._output_dir, SKIPPED_FILE), "w") as stream:
            json.dump(self._skipped, stream, indent=2)

    def _copy(self, dl_manager: datasets.DownloadManager) -> Copy:
        """The files of the local copy, or the downloaded ones."""
        data_dir = self.config.data_dir
        if self.config.download and data_dir is not None:
            raise ValueError(f"Give data_dir or download=True, not both; got data_dir={data_dir!r} too.")
        if self.config.download:
            return _download(dl_manager)
        if data_dir is None:
            raise ValueError(
                f"CREMA-D was not given. Either pass data_dir=..., the folder of your copy (to get one, {BY_HAND}), "
                f"or pass download=True to have its files downloaded one by one ({LICENSE})."
            )
        if not os.path.isdir(data_dir):
            raise FileNotFoundError(f"data_dir is no folder: {data_dir!r}. To get CREMA-D, {BY_HAND}.")
        copy = _find_copy(data_dir)
        for folder, files, suffix in ((AUDIO_FOLDER, copy.audio, "wav"), (VIDEO_FOLDER, copy.video, "flv")):
            if not files:
                raise FileNotFoundError(
                    f"{data_dir} has no folder {folder} with the .{suffix} files of CREMA-D. Sound and pictures are "
                    f"both needed, as the corpus' repository has them: {BY_HAND}."
                )
        if copy.foreign:
            logger.warning(
                "%d files are not recordings of CREMA-D by their names and were left out: %s",
                len(copy.foreign),
                _some(copy.foreign),
            )
        return copy

    def _check_complete(self, missing: list[str], actors_without_gender: list[str]) -> None:
        """Raises ValueError, or warns, where published clips or rows of the actors' table are absent."""
        lacks = []
        if missing:
            published = published_clips()
            lacks.append(
                f"It has {len(published) - len(missing)} of {len(published)} clips. "
                f"Missing by actor: {_shares(missing, published, lambda name: name[:4])}. "
                f"By emotion: {_shares(missing, published, lambda name: EMOTIONS[name[9:12]])}. "
                f"Clips: {_some(missing)}."
            )
        if actors_without_gender:
            lacks.append(
                f"{DEMOGRAPHICS} is not there, or does not tell the sex of {len(actors_without_gender)} of the actors: "
                f"{_some(actors_without_gender)}. Their gender is unknown."
            )
        if not lacks:
            return
        message = f"This copy of CREMA-D is not complete. {' '.join(lacks)}"
        if not self.config.allow_partial:
            raise ValueError(f"{message} To complete it, {BY_HAND}; or pass allow_partial=True to use what is there.")
        logger.warning("%s", message)

    def _readable(self, clips: list[Clip]) -> list[Clip]:
        """The clips whose files begin as they should. The others are an error, or noted in `skipped`."""
        problems = {clip.clip_id: problem for clip in clips if (problem := _problem(clip)) is not None}
        if problems:
            message = f"{len(problems)} of {len(clips)} clips of CREMA-D cannot be read: " + _some(
                [f"{name} ({why})" for name, why in problems.items()], separator="; "
            )
            if self.config.on_error == "raise":
                raise ValueError(f'{message}. Fetch these files again, or leave the clips out with on_error="skip".')
            logger.warning("%s. They were left out.", message)
        defects = {clip.clip_id: KNOWN_DEFECTS[clip.clip_id] for clip in clips if clip.clip_id in KNOWN_DEFECTS}
        if self.config.skip_known_defects:
            problems = {**defects, **problems}
        elif defects:
            logger.warning(
                "The authors of CREMA-D name recordings as wrong that are kept: %s. skip_known_defects=True leaves "
                "them out.",
                "; ".join(f"{name} ({why})" for name, why in defects.items()),
            )
        self._skipped = [{"clip_id": name, "reason": problems[name]} for name in sorted(problems)]
        return [clip for clip in clips if clip.clip_id not in problems]


def _download(dl_manager: datasets.DownloadManager) -> Copy:
    if dl_manager.is_streaming:
        raise ValueError("download=True does not stream. Prepare the corpus once without streaming, or give data_dir.")
    names = published_clips()
    audio_urls = {name: f"{MEDIA_URL}/{AUDIO_FOLDER}/{AUDIO_NAMES.get(name, name)}.wav" for name in names}
    video_urls = {name: f"{MEDIA_URL}/{VIDEO_FOLDER}/{name}.flv" for name in names}
    try:
        return Copy(
            audio=dl_manager.download(audio_urls),
            video=dl_manager.download(video_urls),
            demographics=dl_manager.download(f"{TABLE_URL}/{DEMOGRAPHICS}"),
            foreign=[],
        )
    except Exception as error:
        raise RuntimeError(
            f"Downloading CREMA-D failed ({type(error).__name__}: {error}). Tried {2 * len(names) + 1} files, "
            f"{audio_urls[names[0]]} and the like; what has arrived is kept, so trying again goes on from there. "
            f"By hand: {BY_HAND}."
        ) from error


def _find_copy(folder: str) -> Copy:
    """What a folder, or one folder in it, has of the corpus. Hidden files do not count."""
    subfolders = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    for root in [folder, *subfolders]:
        if os.path.isdir(os.path.join(root, AUDIO_FOLDER)) or os.path.isdir(os.path.join(root, VIDEO_FOLDER)):
            break
    else:
        return Copy({}, {}, None, [])
    published = set(published_clips())
    clip_of = {name: name for name in published} | {name: clip_id for clip_id, name in AUDIO_NAMES.items()}
    foreign: list[str] = []
    files: dict[str, dict[str, str]] = {AUDIO_FOLDER: {}, VIDEO_FOLDER: {}}
    for subfolder, suffix in ((AUDIO_FOLDER, ".wav"), (VIDEO_FOLDER, ".flv")):
        path = os.path.join(root, subfolder)
        for file in sorted(os.listdir(path)) if os.path.isdir(path) else []:
            name, its_suffix = os.path.splitext(file)
            clip_id = clip_of.get(name) if its_suffix.lower() == suffix else None
            if clip_id is not None and clip_id not in files[subfolder]:
                files[subfolder][clip_id] = os.path.join(path, file)
            elif not file.startswith("."):
                foreign.append(f"{subfolder}/{file}")
    table = os.path.join(root, DEMOGRAPHICS)
    return Copy(files[AUDIO_FOLDER], files[VIDEO_FOLDER], table if os.path.isfile(table) else None, foreign)


def _read_genders(path: str) -> dict[str, str]:
    """Actor to "female" or "male", from the column `Sex` of the actors' table."""
    with open(path, encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        if not {"ActorID", "Sex"} <= set(rows.fieldnames or []):
            raise ValueError(
                f"{path} has the columns {rows.fieldnames}, not ActorID and Sex. Fetch it again: {BY_HAND}."
            )
        sexes = {row["ActorID"].strip(): (row["Sex"] or "").strip().lower() for row in rows if row["ActorID"]}
    return {actor: sex for actor, sex in sexes.items() if sex in ("female", "male")}


def _problem(clip: Clip) -> str | None:
    """What is wrong with a clip's files by their first bytes, None where nothing is."""
    problems = []
    for name, path in (
        (f"{AUDIO_FOLDER}/{AUDIO_NAMES.get(clip.clip_id, clip.clip_id)}.wav", clip.audio),
        (f"{VIDEO_FOLDER}/{clip.clip_id}.flv", clip.video),
    ):
        problem = _file_problem(path, name[-3:])
        if problem is not None:
            problems.append(f"{name} {problem}")
    return ", ".join(problems) or None


def _file_problem(path: str | None, kind: str) -> str | None:
    if path is None:
        return "is missing"
    try:
        with open(path, "rb") as stream:
            head = stream.read(24)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not head:
        return "is empty"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer instead of the recording: run `git lfs pull` in the clone"
    is_wav, is_flv = head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE", head[:3] == b"FLV"
    return None if (is_wav if kind == "wav" else is_flv) else f"is no {kind} file"


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


def _shares(missing: list[str], published: list[str], group_of: Callable[[str], str]) -> str:
    """How many clips of each group are missing: `angry 3 of 1271, sad 1 of 1271`, the groups without any clip last."""
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
    parser = argparse.ArgumentParser(description="Write CREMA-D as a Parquet table that refers to the recordings.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data-dir", help="clone of the corpus' repository")
    source.add_argument("--download", action="store_true", help=f"download file by file ({LICENSE})")
    parser.add_argument("--output", required=True, help="folder that gets train-00000-of-00001.parquet")
    parser.add_argument(
        "--on-error", choices=["raise", "skip"], default="raise", help="for unreadable recordings (%(default)s)"
    )
    parser.add_argument("--allow-partial", action="store_true", help="take a copy that lacks clips")
    parser.add_argument("--skip-known-defects", action="store_true", help="leave out what the authors name as wrong")
    parser.add_argument("--cache-dir", help="where downloads are kept (the cache of `datasets`)")
    options = parser.parse_args(arguments)
    target = os.path.join(options.output, "train-00000-of-00001.parquet")
    try:
        builder = CremaD(
            dataset_name="crema_d",
            cache_dir=options.cache_dir,
            data_dir=options.data_dir,
            download=options.download,
            on_error=options.on_error,
            allow_partial=options.allow_partial,
            skip_known_defects=options.skip_known_defects,
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
        print(f"build_crema_d.py: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {len(dataset)} clips, {len(builder.skipped)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
