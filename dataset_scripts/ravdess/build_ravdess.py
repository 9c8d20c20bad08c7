"""RAVDESS, the speech half, as a `datasets` builder: 1440 audio-video clips of 24 actors, eight emotions.

    python build_ravdess.py --data-dir RAVDESS --output ravdess-parquet

Beside `datasets`, it needs corpus_builder.py. The facts about the corpus, and the source of each, are in README.md.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import datasets


if __package__:  # imported as a module of foal_hf
    from . import corpus_builder as base
else:  # this file runs by itself: the other one is beside it on the Hub, one folder above it in a checkout
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import corpus_builder as base

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

FEATURES = base.corpus_features(list(EMOTIONS.values()))


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
class RavdessConfig(base.CorpusConfig):
    """Options of every corpus, and of this one.

    Args:
        data_dir (`str`, *optional*):
            Folder with the unpacked archives, the recordings at any depth (`Actor_01/01-01-01-01-01-01-01.mp4`).
        on_error, allow_partial:
            As for every corpus.
        download (`bool`, defaults to `False`):
            Download the 24 archives (13.4 GB) instead of reading `data_dir`. Non-commercial use only: see the card.
        folds (`str`, defaults to `"four_actors"`):
            The groups of actors in `session`: `"four_actors"` (six groups of two women and two men) or
            `"luna_jimenez_2021"` (five groups, as published).
    """

    download: bool = base.option(False, f"download the archives (13.4 GB; {LICENSE})")
    folds: str = base.option("four_actors", "the groups in `session`", list(FOLDS))

    def files(self) -> list[str]:
        """Paths of the files in `data_dir` that the rows depend on."""
        return list(_find_recordings(self.data_dir)[0].values())


class Ravdess(base.CorpusBuilder):
    """The speech clips of RAVDESS with audio and video, one split, sorted by clip id.

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

    corpus = "RAVDESS"
    how_to_get = BY_HAND
    file_kinds = {"audio": "mp4", "video": "mp4"}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Audio-video speech clips of RAVDESS: 24 actors, 2 sentences, 8 emotions.",
            features=FEATURES,
            homepage=HOMEPAGE,
            license=LICENSE,
            citation=CITATION,
        )

    def find_rows(self, dl_manager: datasets.DownloadManager) -> list[base.Row]:
        """A row for each published clip that the copy has."""
        folder = self.find_folder()
        recordings: dict[str, str] = {}
        foreign: list[str] = []
        for inner in self._download_archives(dl_manager) if folder is None else [folder]:
            found, not_ours = _find_recordings(inner)
            recordings.update(found)
            foreign += not_ours
        if not recordings:
            raise FileNotFoundError(
                f"{folder or 'The download'} has no audio-video speech recording of RAVDESS (an mp4 named like "
                f"01-01-06-01-02-01-12.mp4), and {len(foreign)} other mp4 files. The audio-only archives are not "
                f"enough: {BY_HAND}."
            )
        if foreign:
            base.logger.warning(
                "%d mp4 files are not clips of RAVDESS by their names, or a second copy of one, and are skipped: %s",
                len(foreign),
                base.some(foreign),
            )
        groupings = {"actor": lambda name: f"Actor_{name[-2:]}", "emotion": lambda name: EMOTIONS[name[6:8]]}
        self.check_complete(base.describe_missing(recordings, published_clips(), groupings))
        return [self._row(clip_id, recordings[clip_id]) for clip_id in published_clips() if clip_id in recordings]

    def _row(self, clip_id: str, path: str) -> base.Row:
        _, _, emotion, _, statement, _, actor = clip_id.split("-")
        return base.make_row(
            clip_id,
            path,
            path,
            speaker=f"Actor_{actor}",
            session=next(f"fold_{n}" for n, fold in enumerate(FOLDS[self.config.folds]) if int(actor) in fold),
            gender="female" if int(actor) % 2 == 0 else "male",
            emotion=EMOTIONS[emotion],
            transcript=STATEMENTS[statement],
        )

    def _download_archives(self, dl_manager: datasets.DownloadManager) -> list[str]:
        urls = {actor: ARCHIVE_URL.format(actor=actor) for actor in ARCHIVES}
        archives = self.download(dl_manager, urls)
        for actor, archive in archives.items():
            expected_md5, expected_bytes = ARCHIVES[actor]
            with open(archive, "rb") as stream:
                md5 = hashlib.file_digest(stream, "md5").hexdigest()
            num_bytes = os.path.getsize(archive)
            if (md5, num_bytes) != (expected_md5, expected_bytes):
                raise RuntimeError(
                    f"{urls[actor]} arrived with {num_bytes} bytes and MD5 {md5}; published are {expected_bytes} bytes "
                    f'and {expected_md5}. Try again with download_mode="force_redownload". By hand: {BY_HAND}.'
                )
        return list(dl_manager.extract(archives).values())


def _find_recordings(folder: str) -> tuple[dict[str, str], list[str]]:
    """All mp4 files below a folder: those of published clips by name, and the others that are not files of RAVDESS.

    If a name occurs twice, the first path in sorted order counts and the other one is foreign. Hidden files, the two
    other modalities and the songs are neither. Links to folders are followed, each folder once.
    """
    published = set(published_clips())
    recordings: dict[str, str] = {}
    foreign: list[str] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `run`."""
    return base.run(Ravdess, arguments)


if __name__ == "__main__":
    sys.exit(main())
