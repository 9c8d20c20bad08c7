"""IEMOCAP as a `datasets` builder, from your own copy of the corpus.

    builder = Iemocap(data_dir="IEMOCAP_full_release")
    builder.download_and_prepare()
    dataset = builder.as_dataset(split="train")

or, as a Parquet table that refers to the files of the copy:

    python build_iemocap.py --data-dir IEMOCAP_full_release --output iemocap_parquet

USC licenses the corpus to each user; nothing of it is in this file. The dataset card beside it says how to ask for it,
what the columns hold, and where each fact of the format comes from.
"""

import argparse
import hashlib
import itertools
import json
import logging
import os
import posixpath
import re
import struct
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets


logger = logging.getLogger(__name__)

LICENCE_PAGE = "https://sail.usc.edu/iemocap/iemocap_release.htm"
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

# What a complete copy has, as counted by several groups that published on it.
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

# The picture is 720 x 480, one actor in each half, letterboxed: left, top, right, bottom inside of it.
_LEFT_HALF, _RIGHT_HALF = [5, 120, 355, 360], [365, 120, 715, 360]

_DIALOG = re.compile(r"Ses0[1-5][FM]_(?:impro\d\d[ab]?|script\d\d_\d[b]?)")
_NUMBER = r"\s*(\d+(?:\.\d*)?)\s*"
_EVALUATION = re.compile(
    rf"\[{_NUMBER}-{_NUMBER}\]\s+({_DIALOG.pattern}_[FM]\d{{3}})\s+(\w+)\s+\[{_NUMBER},{_NUMBER},{_NUMBER}\]"
)
_TRANSCRIPTION = re.compile(rf"({_DIALOG.pattern}_[FM]\d{{3}})\s*\[{_NUMBER}-{_NUMBER}\]\s*:\s*(.*)")

_SHOWN = 5  # so many files are named in a message
_SKIPPED_FILE = "skipped.json"


@dataclass
class IemocapConfig(datasets.BuilderConfig):
    """Options of [`Iemocap`].

    Args:
        on_error (`str`, defaults to `"raise"`): What to do about turns whose sound or picture is not there, is empty or
            begins like no WAV or AVI file: `"raise"` names them, `"skip"` leaves them out and lists them in
            `Iemocap.skipped`. Files are not decoded, so damage further on is found by whoever reads them.
        allow_partial (`bool`, defaults to `False`): Whether to take a copy whose labels differ from the published
            counts, with a warning instead of an error.
    """

    on_error: str = "raise"
    allow_partial: bool = False

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name the place in the cache by what the rows come from: the place of the copy and the state of its files."""
        options = {name: value for name, value in config_kwargs.items() if name != "data_files"}
        if self.data_dir is not None:
            options["data_dir"] = _absolute(self.data_dir).as_posix()
            options["files"] = _fingerprint(_absolute(self.data_dir))
        return super().create_config_id(options, custom_features)


class Iemocap(datasets.GeneratorBasedBuilder):
    """The turns of IEMOCAP, one row each, sorted by name, in the one split `"train"`.

    The configuration `four_class` (default) has the 5531 turns labelled happy, neutral, sad and angry, with excited
    counted as happy; `all` has all 10,039. Speakers and sessions are columns: hold one out for a fold.

    Args:
        data_dir (`str`): The folder of the release, or the one that it lies in.
        **options: Those of [`IemocapConfig`].

    Raises:
        FileNotFoundError: If `data_dir` holds no IEMOCAP; when the rows are made, as all errors here.
        ValueError: If labels are missing, or an option is unknown.
        OSError: If media are missing.
    """

    VERSION = datasets.Version("1.0.0")  # goes up whenever equal copies give other rows
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

    _skipped: list[dict[str, str]] | None = None

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Turns that were left out because of `on_error="skip"`, each with `clip_id` and `reason`.

        They are written beside the prepared rows, so a builder that finds these in the cache knows them too.
        """
        if self._skipped is None:
            path = posixpath.join(self._output_dir, _SKIPPED_FILE)
            if not self._fs.exists(path):
                return []
            with self._fs.open(path, "r", encoding="utf-8") as file:
                self._skipped = json.load(file)
        return self._skipped

    def _info(self) -> datasets.DatasetInfo:
        names = list(dict.fromkeys(LABELS[self.config.name].values()))
        return datasets.DatasetInfo(
            description="IEMOCAP: ten actors in pairs, acted and improvised dialogs, with the emotion of each turn.",
            homepage=LICENCE_PAGE,
            features=datasets.Features(
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
                    "emotion": datasets.ClassLabel(names=names),
                    "valence": datasets.Value("float32"),
                    "activation": datasets.Value("float32"),
                    "dominance": datasets.Value("float32"),
                    "transcript": datasets.Value("string"),
                    "partition": datasets.Value("string"),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.on_error not in ("raise", "skip"):
            raise ValueError(f"`on_error` has to be 'raise' or 'skip', got {self.config.on_error!r}.")
        sessions = _find_sessions(self.config.data_dir)
        turns = _read_turns(sessions)
        self._verify(sessions, turns)
        rows = self._with_media([self._row(turn) for turn in turns if turn.code in LABELS[self.config.name]])
        dialogs = [list(group) for _, group in itertools.groupby(rows, key=lambda row: _dialog_of(row["clip_id"]))]
        # A list, so that processes can share the dialogs.
        return [datasets.SplitGenerator(name=datasets.Split.TRAIN, gen_kwargs={"dialogs": dialogs})]

    def _generate_examples(self, dialogs: list[list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for rows in dialogs:
            for row in rows:
                yield row["clip_id"], row

    def _download_and_prepare(self, *arguments: Any, **options: Any) -> None:
        super()._download_and_prepare(*arguments, **options)
        with self._fs.open(posixpath.join(self._output_dir, _SKIPPED_FILE), "w", encoding="utf-8") as file:
            json.dump(self.skipped, file, indent=1)

    def _verify(self, sessions: dict[str, Path], turns: "list[_Turn]") -> None:
        """Compare the labels with the published counts."""
        published = _published_counts(self.config.name)
        found = _counts(sessions, turns, self.config.name)
        differences = _describe_differences(published, found)
        if not differences:
            return
        num_found, num_published = (
            sum(count[session, "turns"] for session in SESSIONS) for count in (found, published)
        )
        message = (
            f"{_absolute(self.config.data_dir)} is not the IEMOCAP that was published: in the configuration "
            f"{self.config.name!r} it has {num_found} of {num_published} turns. What differs:\n{differences}\n"
        )
        if not num_found:
            raise ValueError(f"{message}Copy the folders dialog/EmoEvaluation of the sessions.")
        if not self.config.allow_partial:
            raise ValueError(f"{message}Copy what is missing, or take what is there with allow_partial=True.")
        logger.warning("%sTaking what is there (allow_partial=True).", message)

    def _row(self, turn: "_Turn") -> dict[str, Any]:
        return {
            "clip_id": turn.name,
            "audio": {"path": str(turn.audio), "bytes": None},
            "video": {"path": str(turn.video), "bytes": None},
            "start_seconds": turn.start_seconds,
            "end_seconds": turn.end_seconds,
            "audio_start_seconds": 0.0,  # the sentence files hold one turn each
            "crop_box": turn.crop_box,
            "speaker": turn.speaker,
            "session": turn.session,
            "gender": {"F": "female", "M": "male"}[turn.speaker[-1]],
            "emotion": LABELS[self.config.name][turn.code],
            "valence": turn.valence,
            "activation": turn.activation,
            "dominance": turn.dominance,
            "transcript": turn.transcript,
            "partition": None,
        }

    def _with_media(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The rows whose sound and picture are there."""
        faults_of_videos: dict[str, str | None] = {}
        complete, self._skipped = [], []
        for row in rows:
            audio, video = row["audio"]["path"], row["video"]["path"]
            if video not in faults_of_videos:
                faults_of_videos[video] = _find_fault(video, b"AVI ")
            faults = [fault for fault in (_find_fault(audio, b"WAVE"), faults_of_videos[video]) if fault]
            if faults:
                self._skipped.append({"clip_id": row["clip_id"], "reason": "; ".join(faults)})
            else:
                complete.append(row)
        if not self._skipped:
            return complete
        listed = "\n".join(f"  {entry['clip_id']}: {entry['reason']}" for entry in self._skipped[:_SHOWN])
        listed += f"\n  and {len(self._skipped) - _SHOWN} more" if len(self._skipped) > _SHOWN else ""
        by_session = Counter(entry["clip_id"][:5] for entry in self._skipped)
        counts = ", ".join(f"{session} {count}" for session, count in by_session.items())
        message = f"{len(self._skipped)} of {len(rows)} turns lack sound or picture ({counts}):\n{listed}\n"
        if not complete:
            raise OSError(f"{message}Nothing is left. The release without videos is not enough: ask for the full one.")
        if self.config.on_error == "raise":
            raise OSError(f"{message}Copy these files again, or leave the turns out with on_error='skip'.")
        logger.warning("%sThey are left out (on_error='skip').", message)
        return complete


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
        """Session and letter of the last field. The letter of the first field says who wears the markers."""
        return self.session + self.name[-4]

    @property
    def crop_box(self) -> list[int]:
        """The speaker's half of the picture: whoever wears the markers is on the left."""
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
    """A number in single precision, as tables hold it: streamed rows are then the same as prepared ones."""
    return struct.unpack("<f", struct.pack("<f", float(number)))[0]


def _absolute(data_dir: str | os.PathLike[str]) -> Path:
    return Path(os.path.abspath(os.path.expanduser(data_dir)))


def _find_sessions(data_dir: str | os.PathLike[str] | None) -> dict[str, Path]:
    """The folder of each session that a copy has, by `"Ses01"` and so on.

    Raises:
        FileNotFoundError: If there is none.
    """
    wanted = (
        "IEMOCAP is read from your own copy: `data_dir` has to be the folder IEMOCAP_full_release with Session1 to "
        "Session5 in it, or the folder around it. "
    )
    way_out = f"The University of Southern California licenses it, on request, to each user: {LICENCE_PAGE}"
    if data_dir is None:
        raise FileNotFoundError(f"{wanted}No `data_dir` was given. {way_out}")
    folder = _absolute(data_dir)
    if not folder.is_dir():
        raise FileNotFoundError(f"{wanted}There is no folder {folder}. {way_out}")
    sessions = _sessions_in(folder) or _sessions_in(folder / "IEMOCAP_full_release")
    if sessions:
        return sessions
    copies = [found for inner in sorted(folder.iterdir()) if inner.is_dir() and (found := _sessions_in(inner))]
    if len(copies) == 1:
        return copies[0]
    problem = f"{len(copies)} copies lie in {folder}: name one." if copies else f"{folder} has no such folders."
    raise FileNotFoundError(f"{wanted}{problem} {way_out}")


def _sessions_in(release: Path) -> dict[str, Path]:
    sessions = {}
    for number, session in enumerate(SESSIONS, start=1):
        name = f"Session{number}"
        for folder in (release / name, release / name / name):  # some copies unpack to Session1/Session1
            if (folder / "dialog").is_dir():
                sessions[session] = folder
                break
    return sessions


def _fingerprint(data_dir: Path) -> str:
    """Changes with every file of the copy that rows come from: names, sizes, times of change."""
    try:
        sessions = _find_sessions(data_dir)
    except FileNotFoundError:
        return ""  # the error is raised when the rows are asked for
    digest = hashlib.sha256()
    for session, folder in sessions.items():
        dialog = folder / "dialog"
        folders = [str(dialog / name) for name in ("EmoEvaluation", "transcriptions", "avi/DivX")]
        for inner in [*folders, *_entries(folder / "sentences" / "wav")]:
            for entry in _entries(inner):
                state = os.stat(entry)
                name = Path(entry).relative_to(folder).as_posix()
                digest.update(
                    f"{session}/{name} {state.st_size} {state.st_mtime_ns}\n".encode(errors="surrogateescape")
                )
    return digest.hexdigest()


def _entries(folder: str | os.PathLike[str]) -> list[str]:
    """Paths of what lies in a folder, sorted; without hidden files, such as the `._` ones of macOS."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if not entry.name.startswith("."))


def _label_files(session_folder: Path) -> list[Path]:
    """The label files of a session, one a dialog. The sub-folders beside them hold what single raters said."""
    paths = [Path(path) for path in _entries(session_folder / "dialog" / "EmoEvaluation")]
    return [path for path in paths if path.suffix == ".txt" and _DIALOG.fullmatch(path.stem) and path.is_file()]


def _read_turns(sessions: dict[str, Path]) -> list[_Turn]:
    """All labelled turns, sorted by name. What cannot be used is counted and logged."""
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
        logger.warning("IEMOCAP, passed over, each with its first place: %s.", "; ".join(seen))
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
    """What is said in each turn of a dialog."""
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
    # Latin-1 has characters that `str.splitlines` takes for the end of a line and `str.strip` for blanks; the file
    # object does not.
    name = path.name
    with open(path, encoding="latin-1") as file:
        for number, line in enumerate(file, start=1):
            yield f"{name}, line {number}", line.strip(" \t\r\n")


def _find_fault(path: str, kind: bytes) -> str | None:
    """Say why a file cannot be of this kind of RIFF file (`b"WAVE"` or `b"AVI "`), from its first bytes."""
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except FileNotFoundError:
        return f"{path} does not exist"
    except OSError as error:
        return f"{path} cannot be opened ({error.strerror})"
    if not head:
        return f"{path} is empty"
    return None if head[:4] == b"RIFF" and head[8:] == kind else f"{path} is no {kind.decode().strip()} file"


def _published_counts(config_name: str) -> Counter[tuple[str, str]]:
    """Numbers of a complete copy, by place (a session, a speaker, all sessions) and by what is counted."""
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
    """What a copy has of that."""
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
    """One line a place; empty where nothing differs."""
    differing: dict[str, list[str]] = defaultdict(list)
    absent = [session for session in SESSIONS if not found[session, "turns"]]
    for (place, what), number in published.items():
        if found[place, what] != number and place[:5] not in absent:
            differing[place].append(f"{what} {found[place, what]} of {number}")
    lines = [f"  {session}: nothing of {published[session, 'turns']} turns" for session in absent]
    return "\n".join(sorted([*lines, *(f"  {place}: {', '.join(parts)}" for place, parts in differing.items())]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the rows as Parquet.

    The table refers to the files of the copy; it holds neither sound nor picture, and is of use where the copy is.

    Args:
        arguments (`Sequence[str]`, *optional*): Those of the command line by default.

    Returns:
        `int`: 0, or 1 where it did not work.
    """
    parser = argparse.ArgumentParser(description="Write the turns of your copy of IEMOCAP as a Parquet table.")
    parser.add_argument("--data-dir", required=True, help="the folder IEMOCAP_full_release, or the one around it")
    parser.add_argument("--output", required=True, help="folder that gets train-00000-of-00001.parquet")
    parser.add_argument("--config", choices=sorted(LABELS), default=Iemocap.DEFAULT_CONFIG_NAME, help="(%(default)s)")
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="for missing media (%(default)s)"
    )
    parser.add_argument("--allow-partial", action="store_true", help="take a copy that lacks something")
    options = parser.parse_args(arguments)
    target = Path(options.output) / "train-00000-of-00001.parquet"
    try:
        with tempfile.TemporaryDirectory() as cache_dir:
            builder = Iemocap(
                cache_dir=cache_dir,
                config_name=options.config,
                data_dir=options.data_dir,
                on_error=options.on_error,
                allow_partial=options.allow_partial,
            )
            builder.download_and_prepare()
            dataset = builder.as_dataset(split="train")
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{os.getpid()}")
            dataset.to_parquet(partial)
            os.replace(partial, target)
    except (OSError, ValueError) as error:
        print(f"build_iemocap.py: {error}", file=sys.stderr)
        return 1
    print(f"{target}: {len(dataset)} turns, {len(builder.skipped)} left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
