"""A small copy of RAVDESS, speech and song, as its archives unpack, and one of full size.

Every clip has a tone and a colour of its own, so a test reads off the decoded media which recording a row refers to.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

from media_builders import run_ffmpeg


SECONDS = 0.4

# clip: tone in Hz, colour.
LOOKS = {
    "01-01-06-01-02-01-12": (500, "0xD02020"),
    "01-01-01-01-01-01-01": (650, "0x20C020"),
    "01-01-05-02-01-02-01": (800, "0x2020D0"),
    "01-01-03-02-02-02-24": (950, "0xD0D020"),
    "01-01-04-01-01-01-12": (1100, "0xD020D0"),
    "01-01-02-02-02-01-18": (1250, "0x20C0C0"),
    "01-01-08-01-01-02-05": (1400, "0x808080"),
}


def make_ravdess(root: Path, looks: Mapping[str, tuple[int, str]] = LOOKS) -> Path:
    """Write a copy with these clips, and beside each what the archives have of it in other modalities."""
    for name, (hertz, colour) in looks.items():
        make_recording(root, name, hertz, colour)
        silent = mp4_path(root, "02" + name[2:])
        silent.write_bytes(mp4_path(root, name).read_bytes())
        sound = silent.with_name("03" + name[2:] + ".wav")
        sound.write_bytes(b"RIFF")
    song = mp4_path(root, "01-02-05-02-01-02-01")
    song.write_bytes(mp4_path(root, "01-01-05-02-01-02-01").read_bytes())
    return root


def make_recording(root: Path, name: str, hertz: int, colour: str) -> None:
    """Write the mp4 of a clip."""
    path = mp4_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    run_ffmpeg(
        *("-f", "lavfi", "-i", f"color=c={colour}:s=64x36:r=30000/1001:d={SECONDS}"),
        *("-f", "lavfi", "-i", f"sine={hertz}:r=48000:d={SECONDS}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", 10, "-pix_fmt", "yuv420p", "-c:a", "aac", path),
    )


def make_full_ravdess(root: Path) -> Path:
    """Write a copy with all recordings of the speech archives: links to one."""
    make_recording(root, "first-00", 440, "red")
    first = mp4_path(root, "first-00")
    for actor in range(1, 25):
        for name in published_names(actor):
            for modality in ("01", "02"):
                path = mp4_path(root, modality + name[2:])
                path.parent.mkdir(exist_ok=True)
                os.link(first, path)
    first.unlink()
    return root


def published_names(actor: int) -> list[str]:
    """The 60 clips of an actor: two sentences, twice each, in seven emotions at two intensities, and neutrally."""
    kinds = ["01-01", *(f"{emotion:02d}-{intensity:02d}" for emotion in range(2, 9) for intensity in (1, 2))]
    takes = [f"{statement:02d}-{repetition:02d}" for statement in (1, 2) for repetition in (1, 2)]
    return [f"01-01-{kind}-{take}-{actor:02d}" for kind in kinds for take in takes]


def mp4_path(root: Path, name: str) -> Path:
    """Where a recording lies in the unpacked archives."""
    return root / f"Actor_{name[-2:]}" / f"{name}.mp4"


def write_archive(source: Path, actor: int, archive: Path) -> None:
    """Pack an actor's folder the way the published archives are packed."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((source / f"Actor_{actor:02d}").glob("*.mp4")):
            file.write(path, f"Actor_{actor:02d}/{path.name}")
