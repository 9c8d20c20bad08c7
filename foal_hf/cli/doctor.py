"""Check what reading and writing audio and video needs, and name the command that fixes what is missing.

This file needs only the standard library until a check imports what it checks, so it also runs by its path,
`python -P foal_hf/cli/doctor.py`, before the installation or where the package cannot be imported.
"""

import argparse
import ctypes
import getpass
import importlib
import importlib.metadata
import io
import json as json_format
import os
import platform
import re
import shutil
import sys
import tomllib
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


Status = Literal["ok", "note", "missing", "mismatch"]

TESTED_TORCHCODEC = "0.13.0"
"""The release whose default wheels load on every build of torch from 2.11 on, CPU builds included."""

# torchcodec loads libavdevice, which loads FFmpeg's other libraries. FFmpeg release: version of libavdevice.
_AVDEVICE_OF_FFMPEG = {8: 62, 7: 61, 6: 60, 5: 59, 4: 58}
_HOMEBREW_LIBRARY_DIRS = ("/opt/homebrew/lib", "/usr/local/lib")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        name (`str`): What was checked.
        status (`str`): `"ok"`; `"missing"`: not installed; `"mismatch"`: installed and not working; `"note"`: optional.
        found (`str`): What is installed, or what is wrong.
        remedy (`str`, *optional*): The command that fixes it.
    """

    name: str
    status: Status
    found: str
    remedy: str | None = None


@dataclass(frozen=True)
class Report:
    """All checks, in the order in which to fix them."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether training and prediction on mp4 files can run."""
        return all(check.status in ("ok", "note") for check in self.checks)

    def to_json(self) -> str:
        """The report as JSON: `{"ok": bool, "checks": [{"name", "status", "found", "remedy"}, ...]}`."""
        return json_format.dumps({"ok": self.ok, **asdict(self)}, indent=2)


def diagnose() -> Report:
    """Check everything that training and prediction on mp4 files need.

    Changes nothing and does not use the network. An exception in a check becomes a line of the report. User names and
    home folders are removed.

    Returns:
        [`Report`]: The checks, and whether training and prediction can run.
    """
    checks: dict[str, Callable[[], Check]] = {
        "packages": _check_packages,
        "system libraries": check_system_libraries,
        "torchcodec": _check_torchcodec,
        "H.264 and AAC": _check_mp4_round_trip,
        "torchvision": _check_torchvision,
        "CUDA": _check_cuda,
        "checkpoint": _check_checkpoint,
    }
    with warnings.catch_warnings():  # warnings of third parties are not part of the report
        warnings.simplefilter("ignore")
        return Report(tuple(_guarded(name, check) for name, check in checks.items()))


def render(report: Report) -> str:
    """The report as text: a line for each check, and a last line with the verdict."""
    lines = ["foal-hf doctor"]
    for check in report.checks:
        remedy = f"  -> {check.remedy}" if check.remedy else ""
        lines.append(f"  {check.status:<8}  {check.name:<16}  {check.found}{remedy}")
    if report.ok:
        lines.append("Ready: training and prediction on mp4 files can run here.")
    else:
        lines.append("Not ready: run the commands after the arrows, from the top, then `foal-hf doctor` again.")
    return "\n".join(lines)


def main(json: bool = False) -> int:
    """Print the report as text or JSON, and return the exit code: 0 if training and prediction can run, else 1."""
    report = diagnose()
    sys.stdout.write((report.to_json() if json else render(report)) + "\n")
    return 0 if report.ok else 1


def check_system_libraries() -> Check:
    """Whether the shared libraries load that torchcodec needs and pip does not install.

    These are FFmpeg's, in a release that torchcodec supports, and on Linux Python's own, which distributions with a
    statically linked `python3`, such as Debian, ship as a separate package.

    Returns:
        [`Check`]: With one command that installs all of them on this system, if any is missing.
    """
    releases, python_library = _loadable_ffmpeg_releases(), _python_library()
    missing = [] if releases else ["FFmpeg 4 to 8"]
    if python_library and not _loads(python_library):
        missing.append(python_library)
    if missing:
        return Check("system libraries", "missing", f"no {', no '.join(missing)}", _libraries_remedy())
    found = f"FFmpeg {releases[0]}" + (f", {python_library}" if python_library else "")
    return Check("system libraries", "ok", found)


def _check_packages() -> Check:
    """All Python packages that foal-hf depends on, but for torchcodec, are installed in a supported version."""
    faults, to_install = [], []
    for name, specifier in _requirements().items():
        version = _installed_version(name)
        if name != "torchcodec" and (version is None or not _is_in(version, specifier)):
            faults.append(f"{name} {version or 'is not installed'}")
            to_install.append(f'"{name}{specifier}"')
    if faults:
        return Check("packages", "mismatch", ", ".join(faults), f"pip install {' '.join(to_install)}")
    return Check("packages", "ok", f"foal-hf {_installed_version('foal-hf') or 'from a checkout'}")


def _check_torchcodec() -> Check:
    """The package torchcodec is installed, loads, and names the FFmpeg release that it uses."""
    install = f"pip install torchcodec=={TESTED_TORCHCODEC}"
    specifier = _requirements().get("torchcodec", "")
    version = _installed_version("torchcodec")
    if version is None:
        return Check("torchcodec", "missing", "not installed", install)
    if not _is_in(version, specifier):
        return Check("torchcodec", "mismatch", f"{version}, supported: {specifier}", install)
    try:
        ffmpeg_release = importlib.import_module("torchcodec").ffmpeg_major_version
    except Exception:
        libraries = check_system_libraries()
        if libraries.status != "ok":
            return Check("torchcodec", "mismatch", "system libraries are missing", libraries.remedy)
        if platform.system() == "Darwin" and not _loadable_ffmpeg_releases(folders=("",)):
            remedy = 'export DYLD_FALLBACK_LIBRARY_PATH="$(brew --prefix)/lib"'
            return Check("torchcodec", "mismatch", "does not find Homebrew's FFmpeg", remedy)
        # The tested release that does not load was installed for another torch or another Python.
        force = "--force-reinstall " if version == TESTED_TORCHCODEC else ""
        remedy = f"pip install {force}torchcodec=={TESTED_TORCHCODEC}"
        return Check("torchcodec", "mismatch", f"{version} does not load", remedy)
    return Check("torchcodec", "ok", f"{version}, with FFmpeg {ffmpeg_release}")


def _check_mp4_round_trip() -> Check:
    """Write half a second of mp4 in memory, and read it back."""
    try:
        importlib.import_module("torchcodec")
    except Exception:
        return Check("H.264 and AAC", "missing", "not checked: torchcodec does not load")
    try:
        codecs = _encode_and_decode()
        fault = f"FFmpeg wrote {codecs[0]} and {codecs[1]}" if codecs != ("h264", "aac") else None
    except Exception as error:
        fault = f"writing or reading mp4 fails: {_one_line(error)}"
    if fault:
        return Check("H.264 and AAC", "missing", fault, _libraries_remedy())
    return Check("H.264 and AAC", "ok", "an mp4 file was written and read")


def _encode_and_decode() -> tuple[str, str]:
    """The video and the audio codec of an mp4 file that was written and read back."""
    import torch
    from torchcodec.decoders import AudioDecoder, VideoDecoder
    from torchcodec.encoders import Encoder

    num_frames, num_samples, sampling_rate = 5, 8000, 16000
    file, encoder = io.BytesIO(), Encoder()
    video = encoder.add_video(height=32, width=48, frame_rate=10)
    audio = encoder.add_audio(sample_rate=sampling_rate, num_channels=1)
    with encoder.open_file_like(file, format="mp4"):
        video.add_frames(torch.zeros(num_frames, 3, 32, 48, dtype=torch.uint8))
        audio.add_samples(torch.zeros(1, num_samples))
    frames, samples = VideoDecoder(file.getvalue()), AudioDecoder(file.getvalue())
    if len(frames) != num_frames or frames.get_frame_at(0).data.shape != (3, 32, 48):
        raise RuntimeError(f"{num_frames} frames were written and {len(frames)} were read")
    if samples.get_all_samples().data.shape[1] < num_samples:
        raise RuntimeError("fewer audio samples were read than written")
    return str(frames.metadata.codec), str(samples.metadata.codec)


def _check_torchvision() -> Check:
    """Optional, but transformers imports it if it is installed, and fails with it."""
    version = _installed_version("torchvision")
    if version is None:
        return Check("torchvision", "ok", "not installed, not needed")
    try:
        importlib.import_module("torchvision")
    except Exception:
        found = f"{version} does not load on this torch, and transformers imports it"
        return Check("torchvision", "mismatch", found, "pip uninstall -y torchvision")
    return Check("torchvision", "ok", f"{version}, not needed")


def _check_cuda() -> Check:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        found = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}, {memory_gib:.0f} GiB"
        return Check("CUDA", "ok", found)
    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return Check("CUDA", "note", f"no device (torch {torch.__version__} is built {build}): models run on the CPU")


def _check_checkpoint() -> Check:
    """The default checkpoint is installed and complete; without it, the Hub is asked for it."""
    name = "foal-net-small"
    try:
        weights = importlib.import_module(name.replace("-", "_"))
    except ModuleNotFoundError:
        found = f"{name}, the default, is not installed: it is loaded from the Hub"
        return Check("checkpoint", "note", found, _install_checkpoint())
    try:
        weights.checkpoint_dir()
    except FileNotFoundError:
        return Check("checkpoint", "mismatch", f"{name} {weights.__version__} lacks a file", _install_checkpoint())
    return Check("checkpoint", "ok", f"{name} {weights.__version__}, {weights.__license__}")


def _install_checkpoint() -> str:
    in_checkout = (Path(__file__).resolve().parents[2] / "weights" / "foal-net-small").is_dir()
    return f"pip install {'./weights/' if in_checkout else ''}foal-net-small"


def _loadable_ffmpeg_releases(folders: tuple[str, ...] | None = None) -> list[int]:
    """FFmpeg releases whose shared libraries load, newest first; `""` is the loader's own search path."""
    on_mac = platform.system() == "Darwin"
    file_name = "libavdevice.{}.dylib" if on_mac else "libavdevice.so.{}"
    if folders is None:
        folders = ("", *_HOMEBREW_LIBRARY_DIRS) if on_mac else ("",)
    return [
        release
        for release, version in _AVDEVICE_OF_FFMPEG.items()
        if any(_loads(os.path.join(folder, file_name.format(version))) for folder in folders)
    ]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _python_library() -> str | None:
    """The name of Python's own shared library, which torchcodec's wheels for Linux link to."""
    if platform.system() != "Linux":
        return None
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}.so.1.0"


def _libraries_remedy() -> str:
    """The command that installs the libraries of `check_system_libraries` on this system."""
    if platform.system() == "Darwin":
        return "brew install ffmpeg"
    if shutil.which("apt-get") and not os.environ.get("CONDA_PREFIX"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"{sudo}apt-get install -y ffmpeg libpython{sys.version_info.major}.{sys.version_info.minor}"
    return 'conda install -c conda-forge python "ffmpeg<9"'


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, str]:
    """Name and version range of each dependency: from the checkout that holds this file, else as installed."""
    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if project.is_file():
        lines = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        try:
            lines = importlib.metadata.requires("foal-hf") or []
        except importlib.metadata.PackageNotFoundError:
            lines = []
    found = (re.fullmatch(r"([A-Za-z0-9._-]+)\s*([<>=!~][^;]*)?", line) for line in lines)
    return {match[1]: (match[2] or "").strip() for match in found if match}  # extras carry a marker, and do not match


def _is_in(version: str, specifier: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # then transformers is missing too, and is reported
        return True
    return SpecifierSet(specifier).contains(version, prereleases=True)


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        status: Status = "note" if name in ("CUDA", "checkpoint") else "mismatch"
        return Check(name, status, f"could not be checked: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    """An exception on one line, without the user's name and folders."""
    text = (str(error).strip().splitlines() or [""])[0]
    text = text.replace(str(Path.home()), "~")
    for folder in (sys.prefix, sys.base_prefix):
        text = text.replace(folder, "...")
    with suppress(KeyError, OSError):  # a container's user may have no name
        text = re.sub(rf"\b{re.escape(getpass.getuser())}\b", "user", text)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="doctor.py", description="Check what is installed, and how to fix it.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--libraries", action="store_true", help="system libraries only: print the command to install")
    arguments = parser.parse_args()
    if arguments.libraries:
        libraries = check_system_libraries()
        sys.stdout.write((libraries.remedy or libraries.found) + "\n")
        sys.exit(0 if libraries.status == "ok" else 1)
    sys.exit(main(json=arguments.json))
