"""The generated corpus as a folder: mp4 files, a table, and a page that says that all of it is generated.

- `corpus.json`: what made the folder, and with which parameters
- `README.md`: states that everything is generated
- `metadata.csv`: one row a clip; a table that the videofolder of `datasets` reads too
- `clips/<speaker>/<clip>.mp4`: H.264 and AAC
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic_files import write_file, write_json
from ..corpora.mp4_encoders import check_encoders, num_cores
from .clips import EMOTIONS, make_speaker, plan_clip, synthesize_clip, synthesize_recording
from .mp4 import encode_mp4


GENERATOR_VERSION = 4
"""Raised whenever equal parameters give different clips."""

PARTITIONS = ("train", "validation", "test")

STATEMENT = (
    "Everything in this corpus is generated: the voices are synthesised, the faces are drawn. No person was recorded "
    "or pictured, and nothing measured on it says anything about people."
)

_COLUMNS = ("file_name", "emotion", "speaker", "gender", "partition", "valence", "activation", "seconds")
_GENERATOR = "foal_hf.synthetic"

_README = f"""# Generated emotion clips

{STATEMENT}

Made by `foal_hf.synthetic.generate_corpus` to demonstrate and test software. The voice shows arousal (pitch, tempo,
spectral tilt, loudness), the face shows valence (mouth corners, brows). Each modality alone leaves two of the four
emotions possible.

`metadata.csv` has one row a clip: `file_name`, `emotion` ({", ".join(EMOTIONS)}), `speaker`, `gender` (of the generated
voice), `partition` (train, validation, test; no speaker is in two), `valence` and `activation` (1 to 5; 5 is the most
pleasant and the most aroused), `seconds`. `corpus.json` has the parameters.
"""


@dataclass(frozen=True)
class _ClipEntry:
    """One clip to generate, and its row of the table."""

    emotion: str
    speaker: int
    clip: int
    row: dict[str, Any]


def generate_corpus(
    directory: str | os.PathLike[str],
    *,
    num_speakers: int = 16,
    clips_per_emotion: int = 8,
    seed: int = 0,
    num_workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write a small labelled audio-video corpus of generated voices and faces, as mp4 files.

    A second call with the same parameters writes only the missing files. It overwrites and deletes nothing.

    Args:
        directory (`str` or `os.PathLike`): Folder of the corpus: new, empty, or started by an earlier call.
        num_speakers (`int`, defaults to 16): Speakers, at least 2. A quarter is for testing, an eighth for validation
            (none if there are only 2 speakers), the rest for training. Female and male speakers alternate.
        clips_per_emotion (`int`, defaults to 8): Clips of every speaker in each of the four emotions.
        seed (`int`, defaults to 0): Another seed gives other speakers and clips.
        num_workers (`int`, *optional*): Threads; one per CPU core by default. The clips do not depend on it.
        progress (`bool`, defaults to `True`): Show a progress bar on stderr.

    Returns:
        `pathlib.Path`: The folder.

    Raises:
        ValueError: If a number is too small.
        FileExistsError: If the folder has a corpus with other parameters, or other files.
        RuntimeError: If the encoder for H.264 or AAC is missing.

    Example:

    ```python
    >>> corpus = generate_corpus("outputs/corpus", num_speakers=8)
    >>> train_rows = read_metadata(corpus, "train")
    ```
    """
    for name, value, least in (
        ("num_speakers", num_speakers, 2),
        ("clips_per_emotion", clips_per_emotion, 1),
        ("seed", seed, 0),
        ("num_workers", 1 if num_workers is None else num_workers, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}.")

    folder = Path(directory)
    _claim(folder, {"num_speakers": num_speakers, "clips_per_emotion": clips_per_emotion, "seed": seed})
    entries = _list_clips(num_speakers, clips_per_emotion, seed)
    missing = [entry for entry in entries if not _is_there(folder / entry.row["file_name"])]
    if missing:
        check_encoders()
        _generate(folder, missing, seed, num_workers or num_cores(), progress)
    for name, text in (("README.md", _README), ("metadata.csv", _table([entry.row for entry in entries]))):
        if not _is_there(folder / name):  # last, so that a table always has its clips
            write_file(folder / name, text)
    return folder


def read_metadata(directory: str | os.PathLike[str], partition: str | None = None) -> list[dict[str, Any]]:
    """Read the table of a generated corpus.

    Args:
        directory (`str` or `os.PathLike`): What [`generate_corpus`] returned.
        partition (`str`, *optional*): `"train"`, `"validation"` or `"test"`; all clips by default.

    Returns:
        `list[dict]`: One per clip: the columns of `metadata.csv` (`valence`, `activation` and `seconds` as numbers),
        and the file's full path as `audio` and as `video`.

    Raises:
        ValueError: If there is no such partition.
        FileNotFoundError: If the folder has no `metadata.csv`.
    """
    if partition is not None and partition not in PARTITIONS:
        raise ValueError(f"partition must be one of {PARTITIONS} or None, got {partition!r}.")
    path = Path(directory) / "metadata.csv"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. Generate the corpus first: generate_corpus({str(directory)!r})."
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row["audio"] = row["video"] = str(path.parent / row["file_name"])
        for column in ("valence", "activation", "seconds"):
            row[column] = float(row[column])
    return [row for row in rows if partition in (None, row["partition"])]


def generate_recording(
    path: str | os.PathLike[str],
    emotions: Sequence[str] = EMOTIONS,
    *,
    speaker: int = 0,
    seconds_each: float = 3.0,
    seed: int = 0,
) -> list[tuple[float, float, str]]:
    """Write one mp4 file in which a generated speaker goes through several emotions without a cut.

    Args:
        path (`str` or `os.PathLike`): File to write; an existing one is replaced. Missing folders are created.
        emotions (`Sequence[str]`): What is shown, in order, each one of [`EMOTIONS`].
        speaker (`int`, defaults to 0): Number of the speaker, as in the corpus of the same seed.
        seconds_each (`float`, defaults to 3.0): Length of every part in seconds, rounded to whole frames (0.04 s).
        seed (`int`, defaults to 0): Seed of the corpus that the speaker belongs to.

    Returns:
        `list[tuple[float, float, str]]`: `(start_seconds, end_seconds, emotion)` of every part, half open and gapless.

    Raises:
        ValueError: If there is no emotion, one is unknown, or `seconds_each` is below one second.
        RuntimeError: If the encoder for H.264 or AAC is missing.
    """
    waveform, frames, parts = synthesize_recording(emotions, speaker=speaker, seconds_each=seconds_each, seed=seed)
    check_encoders()
    write_file(os.fspath(path), encode_mp4(waveform, frames))
    return parts


def _claim(folder: Path, parameters: dict[str, int]) -> None:
    """Check that `folder` is empty or has this corpus."""
    description = {"generator": _GENERATOR, "version": GENERATOR_VERSION, "parameters": parameters}
    note = folder / "corpus.json"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file. Choose a folder for the generated corpus.")
    if note.exists():
        try:
            found = json.loads(note.read_text(encoding="utf-8"))
            found = {key: found[key] for key in description}
        except (ValueError, KeyError, TypeError):
            found = {"generator": None}
        if found["generator"] != _GENERATOR:
            raise FileExistsError(f"{note} was not written by {_GENERATOR}; it is not changed. Choose another folder.")
        if found != description:
            raise FileExistsError(
                f"{folder} has a generated corpus of version {found['version']} with {found['parameters']}, not of "
                f"version {GENERATOR_VERSION} with {parameters}. Choose another folder, or delete this one."
            )
        return
    if folder.exists():
        foreign = sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".partial"))
        if foreign:
            raise FileExistsError(
                f"{folder} is not empty (it has {foreign[0]!r}) and is not a generated corpus; it is not changed. "
                "Choose a new or empty folder."
            )
    write_json(note, {**description, "statement": STATEMENT}, indent=2)


def _list_clips(num_speakers: int, clips_per_emotion: int, seed: int) -> list[_ClipEntry]:
    entries = []
    for index in range(num_speakers):
        speaker, partition = make_speaker(index, seed), _partition(index, num_speakers)
        for emotion in EMOTIONS:
            for clip in range(clips_per_emotion):
                plan = plan_clip(emotion, speaker=index, clip=clip, seed=seed)
                row = {
                    "file_name": f"clips/{speaker.name}/{speaker.name}_{emotion}_{clip:02d}.mp4",
                    "emotion": emotion,
                    "speaker": speaker.name,
                    "gender": speaker.gender,
                    "partition": partition,
                    "valence": _rating(plan.affect.valence),
                    "activation": _rating(plan.affect.activation),
                    "seconds": plan.seconds,
                }
                entries.append(_ClipEntry(emotion, index, clip, row))
    return entries


def _partition(speaker: int, num_speakers: int) -> str:
    """The first speakers are for training, the last for testing. Genders alternate, so each part has both."""
    num_test = max(1, round(num_speakers / 4))
    num_validation = max(1, round(num_speakers / 8)) if num_speakers > 2 else 0
    if speaker >= num_speakers - num_test:
        return "test"
    return "validation" if speaker >= num_speakers - num_test - num_validation else "train"


def _rating(value: float) -> float:
    """A value of about -1 to 1 on the scale of 1 to 5 that people rate on."""
    return round(min(max(3.0 + 1.4 * value, 1.0), 5.0), 2)


def _generate(folder: Path, entries: list[_ClipEntry], seed: int, num_workers: int, progress: bool) -> None:
    """Write the clips, each file completely or not at all."""
    from tqdm.auto import tqdm

    def make(entry: _ClipEntry) -> None:
        waveform, frames = synthesize_clip(entry.emotion, speaker=entry.speaker, clip=entry.clip, seed=seed)
        write_file(folder / entry.row["file_name"], encode_mp4(waveform, frames))

    with ThreadPoolExecutor(num_workers, thread_name_prefix="synthetic") as pool:
        futures = [pool.submit(make, entry) for entry in entries]
        try:
            finished = tqdm(as_completed(futures), "Generating clips", len(futures), unit="clip", disable=not progress)
            for future in finished:
                future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C, start no other clip


def _table(rows: list[dict[str, Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
