"""Fake copies of IEMOCAP: the layout and the formats of the real one, with generated media.

    small_tree(folder)   a few turns with sound and picture that tell which turn they belong to
    full_tree(folder)    as many turns of each kind as the real corpus has, all with the same silent stubs as media

In the small tree each turn has a colour and a tone of its own. The colour fills the speaker's half of the picture,
inside the letterbox, for as long as the turn lasts; whoever is silent is grey. The tone is in the turn's sentence file;
the sound of the film and of the dialog is a hum that no turn has.
"""

import itertools
import os
import random
import struct
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from media_builders import run_ffmpeg


SAMPLING_RATE = 16_000
FRAMES_PER_SECOND = 30_000 / 1001
HUM_HERTZ = 97.0
SILENT_LEVEL = 64  # grey of an actor who does not speak
DIALOG_SECONDS = 4.0


@dataclass(frozen=True)
class FakeTurn:
    """One turn. Times are in seconds of the dialog; `text` None: it has no line in the transcription."""

    name: str
    start_seconds: float
    end_seconds: float
    code: str
    ratings: tuple[float, float, float] = (2.5, 3.0, 3.5)
    text: str | None = "And then?"
    colour: tuple[int, int, int] = (0, 0, 0)
    hertz: float = 0.0

    @property
    def dialog(self) -> str:
        return self.name.rpartition("_")[0]

    @property
    def speaker(self) -> str:
        return self.name[:5] + self.name[-4]


SMALL_TURNS = (
    # The woman wears the markers: she is on the left. The man falls into her first turn.
    FakeTurn("Ses01F_impro01_F000", 0.51, 1.42, "neu", (2.5, 2.0, 3.0), "Excuse me?", (220, 30, 30), 311),
    FakeTurn(
        "Ses01F_impro01_M000", 1.13, 2.31, "ang", (1.5, 4.0, 4.5), "No caf\xe9\x85 not today\x85", (30, 200, 40), 401
    ),
    FakeTurn("Ses01F_impro01_F001", 2.05, 3.02, "exc", (4.5, 4.0, 3.0), "Oh!", (40, 60, 220), 503),
    FakeTurn("Ses01F_impro01_M001", 3.11, 3.73, "xxx", (2.0, 2.5, 3.0), "Well.", (210, 200, 40), 601),
    # The man wears them.
    FakeTurn("Ses01M_impro01_F000", 0.43, 1.61, "hap", (4.0, 3.6667, 2.5), "Ha!", (200, 40, 200), 701),
    FakeTurn("Ses01M_impro01_M000", 1.24, 2.83, "sad", (1.5, 2.0, 1.5), None, (30, 190, 200), 809),
    # Names that are the beginning of another's.
    FakeTurn("Ses03M_impro05a_F000", 0.37, 1.57, "fru", (2.0, 3.5, 3.0), "Why?", (240, 130, 30), 907),
    FakeTurn("Ses05M_script01_1_M000", 0.71, 2.03, "sad", (1.5, 1.5, 2.0), "So.", (120, 30, 160), 1009),
    FakeTurn("Ses05M_script01_1b_M000", 0.29, 1.93, "hap", (4.5, 3.0, 3.0), "Yes.", (90, 160, 30), 1103),
)


def small_tree(folder: Path, turns: Sequence[FakeTurn] = SMALL_TURNS) -> Path:
    """Write these turns below `folder`, with everything odd that real copies have, and return the release folder."""
    release = folder / "IEMOCAP_full_release"
    for dialog, of_dialog in _by_dialog(turns):
        session = release / f"Session{dialog[4]}"
        _write_text(session, dialog, of_dialog, text_encoding="latin-1")
        _write_film(session / "dialog" / "avi" / "DivX" / f"{dialog}.avi", of_dialog)
        hum = _tone(HUM_HERTZ, DIALOG_SECONDS)
        _write_wav(session / "dialog" / "wav" / f"{dialog}.wav", np.stack([hum, hum], axis=1))
        for turn in of_dialog:
            samples = _tone(turn.hertz, turn.end_seconds - turn.start_seconds)
            _write_wav(session / "sentences" / "wav" / dialog / f"{turn.name}.wav", samples[:, None])
    add_junk(release)
    return release


def add_junk(release: Path) -> None:
    """Add what must not be read: files of macOS, single raters, lines of other kinds, lines that do not parse."""
    for path in sorted(release.rglob("Ses*.*")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    for session in sorted(release.iterdir()):
        labels = session / "dialog" / "EmoEvaluation"
        for path in sorted(labels.glob("Ses*.txt")):
            raters = labels / "Categorical"
            raters.mkdir(exist_ok=True)
            line = f"[0.1000 - 0.2000]\t{path.stem}_F999\thap\t[5.0000, 5.0000, 5.0000]\n"
            (raters / path.name).write_text(line)
            (raters / f"{path.stem}_e1_cat.txt").write_text(f"{path.stem}_F000 :Anger; ()\n")
        (labels / "notes.txt").write_text("[0.1 - 0.2]\tSes01F_impro01_F998\thap\t[5.0, 5.0, 5.0]\n")
    first = min(release.glob("Session1/dialog/EmoEvaluation/Ses*.txt"))
    with first.open("a") as file:
        file.writelines(line.format(dialog=first.stem) for line in ODD_LABEL_LINES)
    with (first.parent.parent / "transcriptions" / first.name).open("a") as file:
        file.writelines(line.format(dialog=first.stem) for line in ODD_TRANSCRIPT_LINES)


ODD_LABEL_LINES = (
    "[0.1000 - ]\t{dialog}_F997\tneu\t[2.5000, 2.5000, 2.5000]\n",
    "[0.2000 - 0.1000]\t{dialog}_F996\tneu\t[2.5000, 2.5000, 2.5000]\n",
    "[0.1000 - 0.2000]\t{dialog}_F995\tbored\t[2.5000, 2.5000, 2.5000]\n",
    "[0.1000 - 0.2000]\tSes04F_impro07_F000\tneu\t[2.5000, 2.5000, 2.5000]\n",  # of another dialog
    "[3.1000 - 3.2000]\t{dialog}_F000\tdis\t[1.0000, 1.0000, 1.0000]\n",  # again
)
ODD_TRANSCRIPT_LINES = ("M: (laughter)\n", "{dialog}_F900 [0.1000-0.2000]: Nobody rated this.\n")


FOUR_CLASS_CODES = ("ang", "hap", "exc", "neu", "sad")
SESSION_COUNTS = {  # turns by label, in the order of FOUR_CLASS_CODES
    1: (229, 135, 143, 384, 194),
    2: (137, 117, 210, 362, 197),
    3: (240, 135, 151, 320, 305),
    4: (327, 65, 238, 258, 143),
    5: (170, 143, 299, 384, 245),
}
SPEAKER_COUNTS = {  # angry, happy or excited, neutral, sad
    "1F": (147, 132, 171, 78),
    "1M": (82, 146, 213, 116),
    "2F": (67, 166, 135, 113),
    "2M": (70, 161, 227, 84),
    "3F": (92, 128, 130, 172),
    "3M": (148, 158, 190, 133),
    "4F": (205, 185, 76, 62),
    "4M": (122, 118, 182, 81),
    "5F": (78, 159, 221, 132),
    "5M": (92, 283, 163, 113),
}
OTHER_COUNTS = {"xxx": 2507, "fru": 1849, "sur": 107, "fea": 40, "oth": 3, "dis": 2}
TURNS_PER_SESSION = {1: 1819, 2: 1811, 3: 2136, 4: 2103, 5: 2170}
DIALOGS_PER_SESSION = {1: 28, 2: 30, 3: 32, 4: 30, 5: 31}


def full_tree(folder: Path) -> Path:
    """Write all 10,039 turns of 151 dialogs and return the release folder. The media are stubs, headers alone."""
    release = folder / "IEMOCAP_full_release"
    stub = folder / "stub.wav"
    folder.mkdir(parents=True, exist_ok=True)
    _write_wav(stub, np.zeros((160, 1)))
    film = folder / "stub.avi"
    film.write_bytes(b"RIFF" + struct.pack("<I", 4) + b"AVI ")
    for dialog, turns in _by_dialog(full_turns()):
        session = release / f"Session{dialog[4]}"
        _write_text(session, dialog, turns)
        _link(film, session / "dialog" / "avi" / "DivX" / f"{dialog}.avi")
        for turn in turns:
            _link(stub, session / "sentences" / "wav" / dialog / f"{turn.name}.wav")
    return release


def full_turns() -> list[FakeTurn]:
    """The turns of a full copy, sorted by name: the same ones on every run."""
    chance = random.Random(5531)
    others = iter(chance.sample(list(OTHER_COUNTS), counts=list(OTHER_COUNTS.values()), k=sum(OTHER_COUNTS.values())))
    turns: list[FakeTurn] = []
    for session, total in TURNS_PER_SESSION.items():
        spoken = _four_class_turns(session)
        letters = itertools.cycle("FM")
        spoken += [(next(letters), code) for code in itertools.islice(others, total - len(spoken))]
        chance.shuffle(spoken)
        turns += _spread_over_dialogs(spoken, _dialog_names(session))
    return sorted(turns, key=lambda turn: turn.name)


def _four_class_turns(session: int) -> list[tuple[str, str]]:
    """Letter of the speaker and label of every turn in the four classes."""
    happy_left = SESSION_COUNTS[session][1]
    spoken: list[tuple[str, str]] = []
    for letter in "FM":
        angry, happy_or_excited, neutral, sad = SPEAKER_COUNTS[f"{session}{letter}"]
        # Who of the two was happy and who excited is not published: about half and half.
        happy = min(happy_left, happy_or_excited // 2) if letter == "F" else happy_left
        happy_left -= happy
        numbers = {"ang": angry, "hap": happy, "exc": happy_or_excited - happy, "neu": neutral, "sad": sad}
        spoken += [(letter, code) for code, number in numbers.items() for _ in range(number)]
    return spoken


def _dialog_names(session: int) -> list[str]:
    """As many as the session has, with the odd ones that it is known for."""
    scripts = ["script01_1", "script01_2", "script01_3", "script02_1", "script02_2", "script03_1", "script03_2"]
    impros = [f"impro{number:02d}" for number in range(1, 8 if session == 1 else 9)]
    names = [f"Ses{session:02d}{letter}_{name}" for letter in "FM" for name in impros + scripts]
    if session == 3:
        for name in ("Ses03M_impro05", "Ses03M_impro08"):
            names.remove(name)
            names += [f"{name}a", f"{name}b"]
    if session == 5:
        names.append("Ses05M_script01_1b")
    assert len(names) == DIALOGS_PER_SESSION[session]
    return names


def _spread_over_dialogs(spoken: list[tuple[str, str]], dialogs: list[str]) -> Iterator[FakeTurn]:
    for index, dialog in enumerate(dialogs):
        numbers = {"F": itertools.count(), "M": itertools.count()}
        for place, (letter, code) in enumerate(spoken[index :: len(dialogs)]):
            start = 1.25 + 2.5 * place  # each turn overlaps the next one
            yield FakeTurn(f"{dialog}_{letter}{next(numbers[letter]):03d}", start, start + 3.125, code)


def _by_dialog(turns: Iterable[FakeTurn]) -> Iterator[tuple[str, list[FakeTurn]]]:
    for dialog, group in itertools.groupby(turns, key=lambda turn: turn.dialog):
        yield dialog, list(group)


def _write_text(session: Path, dialog: str, turns: list[FakeTurn], text_encoding: str = "ascii") -> None:
    blocks = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
    for turn in sorted(turns, key=lambda turn: turn.start_seconds):
        ratings = ", ".join(f"{rating:.4f}" for rating in turn.ratings)
        times = f"[{turn.start_seconds:.4f} - {turn.end_seconds:.4f}]"
        blocks.append(
            f"{times}\t{turn.name}\t{turn.code}\t[{ratings}]\nC-E1:\tNeutral;\t()\nA-E1:\tval 3; act 2;\t()\n"
        )
    said = [
        f"{turn.name} [{turn.start_seconds:.4f}-{turn.end_seconds:.4f}]: {turn.text}\n"
        for turn in turns
        if turn.text is not None
    ]
    for kind, text in (("EmoEvaluation", "\n".join(blocks)), ("transcriptions", "".join(said))):
        path = session / "dialog" / kind / f"{dialog}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode(text_encoding))


def _write_film(path: Path, turns: list[FakeTurn]) -> None:
    """Two actors side by side under a letterbox; each half is in the colour of who speaks in it, while they do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    silent = f"0x{SILENT_LEVEL:02x}{SILENT_LEVEL:02x}{SILENT_LEVEL:02x}"
    boxes = [f"drawbox=x=0:y=120:w=720:h=240:color={silent}:t=fill"]
    for turn in turns:
        left = 0 if turn.name[5] == turn.name[-4] else 360
        colour = "0x" + "".join(f"{level:02x}" for level in turn.colour)
        # A frame shows what is there when it begins, a millisecond early for the rounding of its time.
        when = f"gte(t,{turn.start_seconds - 0.001})*lt(t,{turn.end_seconds - 0.001})"
        boxes.append(f"drawbox=x={left}:y=120:w=360:h=240:color={colour}:t=fill:enable='{when}'")
    picture = f"color=c=black:s=720x480:r=30000/1001:d={DIALOG_SECONDS},format=yuv444p,{','.join(boxes)},format=yuv420p"
    sound = f"sine=f={HUM_HERTZ}:r={SAMPLING_RATE}:d={DIALOG_SECONDS}"
    run_ffmpeg(
        *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound),
        *("-c:v", "mpeg4", "-vtag", "DX50", "-q:v", "3", "-c:a", "pcm_s16le", path),
    )


def _tone(hertz: float, seconds: float) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLING_RATE)) / SAMPLING_RATE)


def _write_wav(path: Path, samples: np.ndarray) -> None:
    """Write `(samples, channels)` in [-1, 1] with 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(SAMPLING_RATE)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())


def _link(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, path)
