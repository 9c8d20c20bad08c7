"""CREMA-D as a `datasets` builder: 7442 audio-video clips of 91 actors, six emotions.

    python build_crema_d.py --data-dir CREMA-D --output crema-d-parquet

Beside `datasets`, it needs corpus_builder.py. The facts about the corpus, and the source of each, are in README.md.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import datasets


if __package__:  # imported as a module of foal_hf
    from . import corpus_builder as base
else:  # this file runs by itself: the other one is beside it on the Hub, one folder above it in a checkout
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import corpus_builder as base

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
# One audio file has another name.
AUDIO_NAMES = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}
# Recordings that the corpus' authors know to be wrong, and keep because the raters saw them.
KNOWN_DEFECTS = {
    "1064_IEO_DIS_MD": "the video shows all emotions of the sentence, for a minute",
    "1064_TIE_SAD_XX": "the video has no duration",
    "1076_MTI_NEU_XX": "the video is very short and has no audio",
    "1076_MTI_SAD_XX": "the video is very short, an error picture; the audio is silent",
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

# The five groups that published audio-video results use (HiCMAE, see README.md): the actors in the order of their
# numbers, 18 in each of the first four groups and 19 in the last.
PUBLISHED_FOLDS = {f"fold_{index + 1}": ACTORS[18 * index : 18 * (index + 1) + index // 4] for index in range(5)}

AUDIO_FOLDER, VIDEO_FOLDER, DEMOGRAPHICS = "AudioWAV", "VideoFlash", "VideoDemographics.csv"
# The recordings are in Git LFS, file by file: there is no archive. What Git knows of every file is in one list: for a
# recording the SHA-1 of its pointer, a text with the SHA-256 and the size of the recording.
MEDIA_URL = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master"
TABLE_URL = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
TREE_URL = "https://api.github.com/repos/CheyneyComputerScience/CREMA-D/git/trees/master?recursive=1"
BY_HAND = (
    f"run `git lfs install`, then `git clone {HOMEPAGE}.git` (7.6 GB; where GitHub refuses, the authors' mirror "
    "https://gitlab.com/cs-cooper-lab/crema-d-mirror), and give that folder as data_dir"
)

FEATURES = base.corpus_features(list(EMOTIONS.values()))


class Copy(NamedTuple):
    """A copy: its folder, its files by clip, its table of actors, and files that are not recordings of the corpus."""

    root: str
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
class CremaDConfig(base.CorpusConfig):
    """Options of every corpus, and of this one.

    Args:
        data_dir (`str`, *optional*):
            Clone of the corpus' repository, or the folder around it: with `AudioWAV`, `VideoFlash` and
            `VideoDemographics.csv`.
        on_error, allow_partial:
            As for every corpus. A clip with one of its two files is not readable; one without both is missing.
        download (`bool`, defaults to `False`):
            Download the 14,885 files instead of reading `data_dir`.
        skip_known_defects (`bool`, defaults to `False`):
            Skip, and list in `CremaD.skipped`, the four clips whose recordings the corpus' authors report as wrong.
        folds (`str`, defaults to `"balanced"`):
            The groups in the column `session`: `"balanced"`, ours, `fold_0` to `fold_4`, with as many women and men in
            each; or `"published"`, `fold_1` to `fold_5`, those of published audio-video results.
    """

    download: bool = base.option(False, f"download file by file ({LICENSE})")
    skip_known_defects: bool = base.option(False, "skip the recordings that the authors report as wrong")
    folds: str = base.option("balanced", "groups of actors in the column session", ["balanced", "published"])

    def files(self) -> list[str]:
        """Paths of the files in `data_dir` that the rows depend on."""
        copy = _find_copy(self.data_dir)
        return [*copy.audio.values(), *copy.video.values(), *filter(None, [copy.demographics])]


class CremaD(base.CorpusBuilder):
    """The clips of CREMA-D with audio and video, one split, sorted by clip id.

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

    corpus = "CREMA-D"
    how_to_get = BY_HAND
    file_kinds = {"audio": "wav", "video": "flv"}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Audio-video clips of CREMA-D: 91 actors, 12 sentences, 6 emotions.",
            features=FEATURES,
            homepage=HOMEPAGE,
            license=LICENSE,
            citation=CITATION,
        )

    def find_rows(self, dl_manager: datasets.DownloadManager) -> list[base.Row]:
        """A row for each clip that the copy has at least one file of."""
        copy = self._find_or_download(dl_manager)
        genders = _read_genders(copy.demographics) if copy.demographics is not None else {}
        published = published_clips()
        found = [name for name in published if name in copy.audio or name in copy.video]
        without_gender = sorted({name[:4] for name in found} - set(genders))
        differences = base.describe_missing(
            found, published, {"actor": lambda name: name[:4], "emotion": lambda name: EMOTIONS[name[9:12]]}
        )
        if without_gender:
            differences += (
                f" {DEMOGRAPHICS} is missing, or has no sex for {len(without_gender)} of the actors: "
                f"{base.some(without_gender)}. Their gender is unknown."
            )
        self.check_complete(differences.strip())

        defects = {name: KNOWN_DEFECTS[name] for name in found if name in KNOWN_DEFECTS}
        if self.config.skip_known_defects:
            self.skip(defects)
            found = [name for name in found if name not in defects]
        elif defects:
            base.logger.warning(
                "The authors of CREMA-D report recordings as wrong that are kept: %s. skip_known_defects=True skips "
                "them.",
                "; ".join(f"{name} ({why})" for name, why in defects.items()),
            )
        group_of = _groups(self.config.folds)
        return [_make_row(name, copy, genders, group_of) for name in found]

    def _find_or_download(self, dl_manager: datasets.DownloadManager) -> Copy:
        folder = self.find_folder()
        if folder is None:
            names = published_clips()
            audio = {f"{MEDIA_URL}/{_file_name(AUDIO_FOLDER, name)}": name for name in names}
            video = {f"{MEDIA_URL}/{_file_name(VIDEO_FOLDER, name)}": name for name in names}
            table = f"{TABLE_URL}/{DEMOGRAPHICS}"
            paths = self.download(dl_manager, {url: url for url in [*audio, *video, table]})
            self._check_downloads(
                dl_manager, {url.removeprefix(f"{MEDIA_URL}/"): paths[url] for url in [*audio, *video]}
            )
            return Copy(
                root="",
                audio={name: paths[url] for url, name in audio.items()},
                video={name: paths[url] for url, name in video.items()},
                demographics=paths[table],
                foreign=[],
            )
        copy = _find_copy(folder)
        for subfolder, files, suffix in ((AUDIO_FOLDER, copy.audio, "wav"), (VIDEO_FOLDER, copy.video, "flv")):
            if not files:
                raise FileNotFoundError(
                    f"{folder} has no folder {subfolder} with the .{suffix} files of CREMA-D. Audio and video are both "
                    f"needed, as the corpus' repository has them: {BY_HAND}."
                )
        if copy.foreign:
            base.logger.warning(
                "%d files are not recordings of CREMA-D by their names and are skipped: %s",
                len(copy.foreign),
                base.some(copy.foreign),
            )
        return copy

    def _check_downloads(self, dl_manager: datasets.DownloadManager, paths: dict[str, str]) -> None:
        """Compare the files with what the repository's list of files says of them. A wrong one is downloaded anew."""
        try:
            with open(dl_manager.download(TREE_URL), encoding="utf-8") as stream:
                known = {entry["path"]: entry["sha"] for entry in json.load(stream)["tree"]}
        except Exception as error:
            base.logger.warning(
                "The downloaded files were not compared with checksums: %s has none (%s).", TREE_URL, error
            )
            return
        unknown = [name for name in paths if name not in known]
        if unknown:
            base.logger.warning("%d files have no checksum: %s", len(unknown), base.some(unknown))
        wrong = [name for name, path in paths.items() if name in known and known[name] not in _git_hashes(path)]
        for name in wrong:
            os.remove(paths[name])
        if wrong:
            raise ValueError(
                f"{len(wrong)} of {len(paths)} downloaded files of CREMA-D are not those of the repository, and were "
                f"deleted: {base.some(wrong)}. Another try downloads them again. By hand: {BY_HAND}."
            )


def _git_hashes(path: str) -> list[str]:
    """The SHA-1 by which Git names a file: of itself, and of its pointer if it is in Git LFS."""
    with open(path, "rb") as stream:
        content = stream.read()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n"
    texts = (content, f"{pointer}size {len(content)}\n".encode())
    return [hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest() for text in texts]


def _make_row(clip_id: str, copy: Copy, genders: dict[str, str], group_of: dict[str, str]) -> base.Row:
    actor, sentence, emotion, _ = clip_id.split("_")
    audio, video = (
        files.get(clip_id) or os.path.join(copy.root, _file_name(subfolder, clip_id))
        for files, subfolder in ((copy.audio, AUDIO_FOLDER), (copy.video, VIDEO_FOLDER))
    )
    return base.make_row(
        clip_id,
        audio,
        video,
        audio_start_seconds=0.0,
        speaker=actor,
        session=group_of[actor],
        gender=genders.get(actor),
        emotion=EMOTIONS[emotion],
        transcript=SENTENCES[sentence],
    )


def _groups(folds: str) -> dict[str, str]:
    """Actor to group."""
    if folds == "published":
        return {str(actor): name for name, actors in PUBLISHED_FOLDS.items() for actor in actors}
    return {actor: f"fold_{index}" for index, fold in enumerate(FOLDS) for actor in fold.split()}


def _file_name(subfolder: str, clip_id: str) -> str:
    if subfolder == VIDEO_FOLDER:
        return f"{subfolder}/{clip_id}.flv"
    return f"{subfolder}/{AUDIO_NAMES.get(clip_id, clip_id)}.wav"


def _find_copy(folder: str) -> Copy:
    """The copy in a folder, or in one folder in it. Hidden files do not count."""
    subfolders = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir()) if os.path.isdir(folder) else []
    for root in [folder, *subfolders]:
        if os.path.isdir(os.path.join(root, AUDIO_FOLDER)) or os.path.isdir(os.path.join(root, VIDEO_FOLDER)):
            break
    else:
        return Copy(folder, {}, {}, None, [])
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
    return Copy(root, files[AUDIO_FOLDER], files[VIDEO_FOLDER], table if os.path.isfile(table) else None, foreign)


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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `run`."""
    return base.run(CremaD, arguments)


if __name__ == "__main__":
    sys.exit(main())
