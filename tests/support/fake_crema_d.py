"""A small copy of CREMA-D with the layout of its repository, and one of full size.

Every clip has a tone and a colour of its own, so a test reads off the decoded media which recording a row refers to.
The sound inside the flv is another one than that of the wav.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from media_builders import run_ffmpeg


# The actors whom VideoDemographics.csv calls female.
WOMEN = [
    *("1002", "1003", "1004", "1006", "1007", "1008", "1009", "1010", "1012", "1013", "1018", "1020", "1021", "1024"),
    *("1025", "1028", "1029", "1030", "1037", "1043", "1046", "1047", "1049", "1052", "1053", "1054", "1055", "1056"),
    *("1058", "1060", "1061", "1063", "1072", "1073", "1074", "1075", "1076", "1078", "1079", "1082", "1084", "1089"),
    "1091",
]
ACTORS = [str(actor) for actor in range(1001, 1092)]
FLV_HERTZ = 2500
SECONDS = 0.4
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 265922\n".format("0" * 64)

# clip: tone of its wav in Hz, colour of its flv.
LOOKS = {
    "1076_MTI_SAD_XX": (440, "0x20C0C0"),
    "1001_DFA_ANG_XX": (500, "0xD02020"),
    "1091_WSI_FEA_XX": (650, "0x20C020"),
    "1001_IEO_HAP_HI": (800, "0x2020D0"),
    "1040_ITH_SAD_XX": (950, "0xD0D020"),
    "1002_IEO_NEU_XX": (1100, "0xD020D0"),
    "1009_WSI_DIS_XX": (1250, "0x808080"),
}


def make_crema_d(root: Path, looks: Mapping[str, tuple[int, str]] = LOOKS) -> Path:
    """Write a copy with these clips, files of other kinds among them."""
    _write_tables(root)
    for name, (hertz, colour) in looks.items():
        make_recording(root, name, hertz, colour)
    (root / "AudioMP3").mkdir()
    (root / "AudioMP3" / "1001_DFA_ANG_XX.mp3").write_bytes(b"ID3")
    return root


def make_recording(root: Path, name: str, hertz: int, colour: str) -> None:
    """Write the two files of a clip."""
    sound = wav_path(root, name)
    run_ffmpeg("-f", "lavfi", "-i", f"sine={hertz}:r=16000:d={SECONDS}", "-ac", 1, sound)
    run_ffmpeg(
        *("-f", "lavfi", "-i", f"color=c={colour}:s=46x34:r=30:d={SECONDS}"),
        *("-f", "lavfi", "-i", f"sine={FLV_HERTZ}:r=22050:d={SECONDS}"),
        *("-c:v", "flv", "-q:v", 2, "-c:a", "libmp3lame", flv_path(root, name)),
    )


def make_full_crema_d(root: Path, names: Iterable[str]) -> Path:
    """Write a copy with very many clips: links to one recording."""
    _write_tables(root)
    make_recording(root, "first", 440, "red")
    for name in names:
        os.link(wav_path(root, "first"), wav_path(root, name))
        os.link(flv_path(root, "first"), flv_path(root, name))
    wav_path(root, "first").unlink()
    flv_path(root, "first").unlink()
    return root


def published_names() -> list[str]:
    """All 7442 clips, by the text of the corpus' README and the gaps of its SentenceFilenames.csv."""
    names = []
    for actor in ACTORS:
        for sentence in ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI"):
            if f"{actor} {sentence}" in ("1008 WSI", "1009 MTI", "1019 ITH"):
                continue
            if f"{actor} {sentence}" not in ("1002 TIE", "1076 ITS"):
                names.append(f"{actor}_{sentence}_NEU_XX")
            levels = ("LO", "MD", "HI") if sentence == "IEO" else ("XX",)
            names += [
                f"{actor}_{sentence}_{e}_{level}" for e in ("HAP", "SAD", "ANG", "FEA", "DIS") for level in levels
            ]
    return names


def wav_path(root: Path, name: str) -> Path:
    """Where the sound of a clip lies. One file is named in a way of its own."""
    return root / "AudioWAV" / f"{'1040_ITH_SAD_X' if name == '1040_ITH_SAD_XX' else name}.wav"


def flv_path(root: Path, name: str) -> Path:
    """Where the pictures of a clip lie."""
    return root / "VideoFlash" / f"{name}.flv"


def _write_tables(root: Path) -> None:
    for folder in ("AudioWAV", "VideoFlash"):
        (root / folder).mkdir(parents=True)
    rows = [f'{actor},33,"{"Female" if actor in WOMEN else "Male"}","Caucasian","Not Hispanic"' for actor in ACTORS]
    header = '"ActorID","Age","Sex","Race","Ethnicity"'
    (root / "VideoDemographics.csv").write_text("\n".join([header, *rows, ""]))
    (root / "SentenceFilenames.csv").write_text('"Stimulus_Number","Filename"\n1,"1001_IEO_NEU_XX"\n')
    (root / "README.md").write_text("# CREMA-D\n")
