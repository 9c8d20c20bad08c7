"""IEMOCAP as a `datasets` builder, from your own copy of the corpus.

    builder = Iemocap(data_dir="IEMOCAP_full_release")
    builder.download_and_prepare()
    dataset = builder.as_dataset(split="train")

or, as a Parquet table that refers to the files of the copy:

    python build_iemocap.py --data-dir IEMOCAP_full_release --output iemocap_parquet

Beside `datasets`, it needs corpus_builder.py. USC licenses the corpus to each user; nothing of it is in this file. The
dataset card says how to get it, what the columns are, and the source of each fact about the format.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets


if __package__:  # imported as a module of foal_hf
    from . import corpus_builder as base
else:  # this file runs by itself: the other one is beside it on the Hub, one folder above it in a checkout
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    import corpus_builder as base

LICENCE_PAGE = "https://sail.usc.edu/iemocap/iemocap_release.htm"
HOW_TO_GET = f"ask the University of Southern California for the full release, with the videos: {LICENCE_PAGE}"
SESSIONS = ("Ses01", "Ses02", "Ses03", "Ses04", "Ses05")

# The code of a label in the files, and the name of its class in each configuration.
ALL_LABELS = {
    "hap": "happy",
    "neu": "neutral",
    "sad": "sad",
    "ang": "angry",
    "exc": "excited",
    "fru": "frustrated",
    "sur": "surprised",
    "fea": "fearful",
    "dis": "disgusted",
    "oth": "other",
    "xxx": "no agreement",  # no majority among the raters
}
LABELS = {
    "four_class": {"hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad", "ang": "angry"},
    "all": ALL_LABELS,
}

# Counts of a complete copy, as several groups published them.
_CODES = ("ang", "hap", "exc", "neu", "sad")
_DIALOGS = dict(zip(SESSIONS, (28, 30, 32, 30, 31), strict=True))
_TURNS = dict(zip(SESSIONS, (1819, 1811, 2136, 2103, 2170), strict=True))
_TURNS_OF_SESSION = {  # ang, hap, exc, neu, sad
    "Ses01": (229, 135, 143, 384, 194),
    "Ses02": (137, 117, 210, 362, 197),
    "Ses03": (240, 135, 151, 320, 305),
    "Ses04": (327, 65, 238, 258, 143),
    "Ses05": (170, 143, 299, 384, 245),
}
_TURNS_OF_SPEAKER = {  # ang, hap and exc, neu, sad
    "Ses01F": (147, 132, 171, 78),
    "Ses01M": (82, 146, 213, 116),
    "Ses02F": (67, 166, 135, 113),
    "Ses02M": (70, 161, 227, 84),
    "Ses03F": (92, 128, 130, 172),
    "Ses03M": (148, 158, 190, 133),
    "Ses04F": (205, 185, 76, 62),
    "Ses04M": (122, 118, 182, 81),
    "Ses05F": (78, 159, 221, 132),
    "Ses05M": (92, 283, 163, 113),
}
_TURNS_OF_OTHER_LABELS = {"xxx": 2507, "fru": 1849, "sur": 107, "fea": 40, "oth": 3, "dis": 2}

# The frame is 720 x 480, one actor in each half, letterboxed: left, top, right, bottom inside of the bars.
_LEFT_HALF, _RIGHT_HALF = [5, 120, 355, 360], [365, 120, 715, 360]

_DIALOG = re.compile(r"Ses0[1-5][FM]_(?:impro\d\d[ab]?|script\d\d_\d[b]?)")
_NUMBER = r"\s*(\d+(?:\.\d*)?)\s*"
_EVALUATION = re.compile(
    rf"\[{_NUMBER}-{_NUMBER}\]\s+({_DIALOG.pattern}_[FM]\d{{3}})\s+(\w+)\s+\[{_NUMBER},{_NUMBER},{_NUMBER}\]"
)
_TRANSCRIPTION = re.compile(rf"({_DIALOG.pattern}_[FM]\d{{3}})\s*\[{_NUMBER}-{_NUMBER}\]\s*:\s*(.*)")


@dataclass
class IemocapConfig(base.CorpusConfig):
    """Options of every corpus."""

    def files(self) -> Iterator[str]:
        """Paths of the files in `data_dir` that the rows depend on."""
        try:
            sessions = _find_sessions(self.data_dir)
        except FileNotFoundError:
            return  # the error is raised when the rows are needed
        for folder in sessions.values():
            dialog = folder / "dialog"
            folders = [str(dialog / name) for name in ("EmoEvaluation", "transcriptions", "avi/DivX")]
            for inner in [*folders, *_entries(folder / "sentences" / "wav")]:
                yield from _entries(inner)


class Iemocap(base.CorpusBuilder):
    """The turns of IEMOCAP, one row each, sorted by name, in one split, `"train"`.

    The configuration `four_class` (default) has the 5531 turns labelled happy, neutral, sad and angry, with excited
    counted as happy; `all` has all 10,039. Speakers and sessions are columns: hold one out for a fold.

    Args:
        data_dir (`str`): The folder of the release, or the folder around it.
        **options: Those of [`IemocapConfig`].

    Raises:
        FileNotFoundError: If `data_dir` has no IEMOCAP. All errors are raised when the rows are prepared.
        ValueError: If labels or recordings are missing, or an option is unknown.
    """

    VERSION = datasets.Version("1.0.0")  # raised whenever equal copies give different rows
    BUILDER_CONFIG_CLASS = IemocapConfig
    BUILDER_CONFIGS = [
        IemocapConfig(
            name="four_class",
            version=VERSION,
            description="Happy (with excited), neutral, sad and angry: 5531 turns.",
        ),
        IemocapConfig(name="all", version=VERSION, description="Every label, no agreement included: 10,039 turns."),
    ]
    DEFAULT_CONFIG_NAME = "four_class"

    corpus = "IEMOCAP"
    how_to_get = HOW_TO_GET
    file_kinds = {"audio": "wav", "video": "avi"}

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="IEMOCAP: ten actors in pairs, acted and improvised dialogs, with the emotion of each turn.",
            homepage=LICENCE_PAGE,
            features=base.corpus_features(list(dict.fromkeys(LABELS[self.config.name].values()))),
        )

    def find_rows(self, dl_manager: Any) -> list[base.Row]:
        """A row for each turn with a label of the configuration."""
        sessions = _find_sessions(self.config.data_dir)
        turns = _read_turns(sessions)
        published = _published_counts(self.config.name)
        found = _counts(sessions, turns, self.config.name)
        num_found, num_published = (
            sum(count[session, "turns"] for session in SESSIONS) for count in (found, published)
        )
        if differences := _describe_differences(published, found):
            differences = f"It has {num_found} of {num_published} turns. Differences: {differences}."
        if not num_found:
            raise ValueError(f"{differences} Copy the folders dialog/EmoEvaluation of the sessions of IEMOCAP.")
        self.check_complete(differences)
        labels = LABELS[self.config.name]
        return [
            base.make_row(
                turn.name,
                str(turn.audio),
                str(turn.video),
                start_seconds=turn.start_seconds,
                end_seconds=turn.end_seconds,
                audio_start_seconds=0.0,  # a sentence file has one turn
                crop_box=turn.crop_box,
                speaker=turn.speaker,
                session=turn.session,
                gender={"F": "female", "M": "male"}[turn.speaker[-1]],
                emotion=labels[turn.code],
                valence=turn.valence,
                activation=turn.activation,
                dominance=turn.dominance,
                transcript=turn.transcript,
            )
            for turn in turns
            if turn.code in labels
        ]


@dataclass(frozen=True)
class _Turn:
    """One turn of a dialog, as EmoEvaluation and the transcription have it. Times are in seconds of the dialog."""

    folder: Path  # of the session
    name: str
    start_seconds: float
    end_seconds: float
    code: str
    valence: float
    activation: float
    dominance: float
    transcript: str | None

    @property
    def session(self) -> str:
        return self.name[:5]

    @property
    def speaker(self) -> str:
        """Session and letter of the last field. The letter of the first field tells who wears the markers."""
        return self.session + self.name[-4]

    @property
    def crop_box(self) -> list[int]:
        """The speaker's half of the frame: the actor with the markers is on the left."""
        return _LEFT_HALF if self.name[-4] == self.name[5] else _RIGHT_HALF

    @property
    def audio(self) -> Path:
        return self.folder / "sentences" / "wav" / _dialog_of(self.name) / f"{self.name}.wav"

    @property
    def video(self) -> Path:
        return self.folder / "dialog" / "avi" / "DivX" / f"{_dialog_of(self.name)}.avi"


def _dialog_of(turn_name: str) -> str:
    return turn_name.rpartition("_")[0]


def _single(number: str) -> float:
    """A number in single precision, as in tables, so that streamed rows equal prepared ones."""
    return struct.unpack("<f", struct.pack("<f", float(number)))[0]


def _find_sessions(data_dir: str | None) -> dict[str, Path]:
    """The folder of each session that a copy has, by `"Ses01"` and so on.

    Raises:
        FileNotFoundError: If there is none.
    """
    wanted = (
        "IEMOCAP is read from your own copy: `data_dir` must be the folder IEMOCAP_full_release with Session1 to "
        "Session5, or the folder around it. "
    )
    fix = f"To get a copy, {HOW_TO_GET}"
    if data_dir is None:
        raise FileNotFoundError(f"{wanted}No `data_dir` was given. {fix}")
    folder = Path(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{wanted}There is no folder {folder}. {fix}")
    sessions = _sessions_in(folder) or _sessions_in(folder / "IEMOCAP_full_release")
    if sessions:
        return sessions
    copies = [found for inner in sorted(folder.iterdir()) if inner.is_dir() and (found := _sessions_in(inner))]
    if len(copies) == 1:
        return copies[0]
    problem = f"{folder} has {len(copies)} copies: choose one." if copies else f"{folder} has no such folders."
    raise FileNotFoundError(f"{wanted}{problem} {fix}")


def _sessions_in(release: Path) -> dict[str, Path]:
    sessions = {}
    for number, session in enumerate(SESSIONS, start=1):
        name = f"Session{number}"
        for folder in (release / name, release / name / name):  # some copies unpack to Session1/Session1
            if (folder / "dialog").is_dir():
                sessions[session] = folder
                break
    return sessions


def _entries(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of the files and folders in a folder, sorted; without hidden ones, such as the `._` files of macOS."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if not entry.name.startswith("."))


def _label_files(session_folder: Path) -> list[Path]:
    """The label files of a session, one per dialog. The sub-folders beside them have the labels of single raters."""
    paths = [Path(path) for path in _entries(session_folder / "dialog" / "EmoEvaluation")]
    return [path for path in paths if path.suffix == ".txt" and _DIALOG.fullmatch(path.stem) and path.is_file()]


def _read_turns(sessions: dict[str, Path]) -> list[_Turn]:
    """All labelled turns, sorted by name. Lines that cannot be used are counted and logged."""
    turns: dict[str, _Turn] = {}
    oddities: dict[str, list[str]] = defaultdict(list)
    for folder in sessions.values():
        for path in _label_files(folder):
            transcripts = _read_transcripts(folder / "dialog" / "transcriptions" / path.name, oddities)
            for place, line in _lines(path):
                if not line.startswith("["):
                    continue
                turn = _parse_turn(line, folder, transcripts)
                if turn is None or _dialog_of(turn.name) != path.stem:
                    oddities["label lines that do not parse"].append(place)
                elif turn.name in turns:
                    oddities["repeated ids, of which the first counts"].append(place)
                else:
                    turns[turn.name] = turn
                    if turn.transcript is None:
                        oddities["labelled turns without a transcript"].append(turn.name)
            oddities["transcribed turns without a label"] += sorted(set(transcripts) - set(turns))
    seen = [f"{len(places)} {what} ({places[0]})" for what, places in oddities.items() if places]
    if seen:
        base.logger.warning("IEMOCAP: skipped, each with its first place: %s.", "; ".join(seen))
    return [turns[name] for name in sorted(turns)]


def _parse_turn(line: str, session_folder: Path, transcripts: dict[str, str]) -> _Turn | None:
    """The turn of a label line such as `[6.29 - 8.23] Ses01F_impro01_F000 neu [2.5, 2.5, 2.5]`, with tabs between."""
    match = _EVALUATION.fullmatch(line)
    if match is None:
        return None
    start, end, name, code, valence, activation, dominance = match.groups()
    if code not in ALL_LABELS or float(start) >= float(end):
        return None
    return _Turn(
        folder=session_folder,
        name=name,
        start_seconds=float(start),
        end_seconds=float(end),
        code=code,
        valence=_single(valence),
        activation=_single(activation),
        dominance=_single(dominance),
        transcript=transcripts.get(name),
    )


def _read_transcripts(path: Path, oddities: dict[str, list[str]]) -> dict[str, str]:
    """The words of each turn of a dialog."""
    transcripts: dict[str, str] = {}
    if not path.is_file():
        return transcripts
    for place, line in _lines(path):
        match = _TRANSCRIPTION.fullmatch(line)
        if match:
            transcripts.setdefault(match[1], match[4])
        elif line:
            oddities["transcript lines that do not parse"].append(place)
    return transcripts


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The place and the text of each line."""
    # `str.splitlines` and `str.strip` take some characters of Latin-1 for ends of lines and blanks; a file object
    # does not.
    name = path.name
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file, start=1):
            yield f"{name}, line {number}", line.strip(" \t\r\n")


def _published_counts(config_name: str) -> Counter[tuple[str, str]]:
    """Counts of a complete copy, by place (a session, a speaker, all sessions) and by what is counted."""
    labels = LABELS[config_name]
    counts: Counter[tuple[str, str]] = Counter()
    for session in SESSIONS:
        counts[session, "dialogs"] = _DIALOGS[session]
        for code, number in zip(_CODES, _TURNS_OF_SESSION[session], strict=True):
            counts[session, labels[code]] += number
        counts[session, "turns"] = _TURNS[session] if config_name == "all" else sum(_TURNS_OF_SESSION[session])
    for speaker, numbers in _TURNS_OF_SPEAKER.items():
        for name, number in zip(("angry", "happy or excited", "neutral", "sad"), numbers, strict=True):
            counts[speaker, name] = number
    if config_name == "all":
        for code, number in _TURNS_OF_OTHER_LABELS.items():
            counts["all sessions", labels[code]] = number
    return counts


def _counts(sessions: dict[str, Path], turns: list[_Turn], config_name: str) -> Counter[tuple[str, str]]:
    """The same counts of a copy."""
    labels = LABELS[config_name]
    counts = Counter({(session, "dialogs"): len(_label_files(folder)) for session, folder in sessions.items()})
    for turn in turns:
        if turn.code not in labels:
            continue
        counts[turn.session, "turns"] += 1
        if turn.code in _CODES:
            name = ALL_LABELS[turn.code]
            counts[turn.session, labels[turn.code]] += 1
            counts[turn.speaker, "happy or excited" if turn.code in ("hap", "exc") else name] += 1
        else:
            counts["all sessions", labels[turn.code]] += 1
    return counts


def _describe_differences(published: Counter[tuple[str, str]], found: Counter[tuple[str, str]]) -> str:
    """The places that differ; empty if none does."""
    differing: dict[str, list[str]] = defaultdict(list)
    absent = [session for session in SESSIONS if not found[session, "turns"]]
    for (place, what), number in published.items():
        if found[place, what] != number and place[:5] not in absent:
            differing[place].append(f"{what} {found[place, what]} of {number}")
    lines = [f"{session}: none of {published[session, 'turns']} turns" for session in absent]
    return "; ".join(sorted([*lines, *(f"{place}: {', '.join(parts)}" for place, parts in differing.items())]))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: see `run`."""
    return base.run(Iemocap, arguments)


if __name__ == "__main__":
    sys.exit(main())
