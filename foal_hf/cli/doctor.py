"""What is installed, what is missing, and the one command that mends it, in one screen.

The file needs nothing but the standard library until a check imports what it checks. So it also runs by its path,
`python -P foal_hf/doctor.py`, where the rest of the package cannot be imported: before the installation, or in a
broken one.
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
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal


Status = Literal["ok", "note", "missing", "mismatch"]

NUM_COLUMNS = 100
"""Width of the screen that `render` fills."""

TESTED_TORCHCODEC = "0.13.0"
"""The release whose default wheels load on every build of torch from 2.11 on, CPU builds included."""

QUICKSTART_MEMORY_GIB = 4
"""Memory that `foal-hf quickstart` stays under."""

# What torchcodec loads of FFmpeg: libavdevice, which pulls in all the other libraries, by its version in each release.
_AVDEVICE_OF_FFMPEG = {8: 62, 7: 61, 6: 60, 5: 59, 4: 58}
_HOMEBREW_LIBRARY_DIRS = ("/opt/homebrew/lib", "/usr/local/lib")
_PACKAGES = ("transformers", "datasets", "evaluate", "accelerate", "huggingface-hub", "soundfile", "matplotlib")
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Args:
        name (`str`): What was looked at.
        status (`str`): `"ok"`; `"missing"`: it is not there; `"mismatch"`: it is there and does not work; `"note"`:
            worth knowing, and nothing depends on it.
        found (`str`): What is there, or what is wrong.
        remedy (`str`, *optional*): The command that mends it.
    """

    name: str
    status: Status
    found: str
    remedy: str | None = None


@dataclass(frozen=True)
class Report:
    """All checks, in the order in which they are shown and best mended."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether the main job, training and predicting on mp4 files, can run."""
        return all(check.status in ("ok", "note") for check in self.checks)

    def to_json(self) -> str:
        """The report as JSON: `{"ok": bool, "checks": [{"name", "status", "found", "remedy"}, ...]}`."""
        return json_format.dumps({"ok": self.ok, **asdict(self)}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """The report that `to_json` wrote."""
        return cls(checks=tuple(Check(**check) for check in json_format.loads(text)["checks"]))


def diagnose() -> Report:
    """Look at everything that training and predicting on mp4 files needs.

    Nothing is changed and the network is not used. Whatever a check meets becomes a line of the report, an exception
    too; user names and home folders are left out.

    Returns:
        [`Report`]: The lines, and whether the main job can run.

    Example:

    ```python
    >>> from foal_hf.cli.doctor import diagnose, render
    >>> report = diagnose()
    >>> report.ok
    True
    ```
    """
    needed: dict[str, Callable[[], Check]] = {
        "Python": _check_python,
        "foal-hf": _check_foal_hf,
        "torch": _check_torch,
        **{name: partial(_check_package, name) for name in _PACKAGES},
        "system libraries": check_system_libraries,
        "torchcodec": _check_torchcodec,
        "H.264 and AAC": _check_mp4_round_trip,
        "torchvision": _check_torchvision,
    }
    useful: dict[str, Callable[[], Check]] = {
        "FFmpeg command": _check_ffmpeg_command,
        "accelerator": _check_accelerator,
        "CPU threads": _check_threads,
        "memory": _check_memory,
        "Hub": _check_hub,
    }
    with warnings.catch_warnings():  # what third parties say on import is not part of the report
        warnings.simplefilter("ignore")
        lines = [_guarded(name, check, "mismatch") for name, check in needed.items()]
        lines += [_guarded(name, check, "note") for name, check in useful.items()]
    return Report(checks=tuple(lines))


def render(report: Report) -> str:
    """The report as one screen: at most 24 lines of `NUM_COLUMNS` columns, commands never cut.

    Args:
        report ([`Report`]): What `diagnose` found.

    Returns:
        `str`: A line for each check and a last one with the verdict.
    """
    name_width = max(len(check.name) for check in report.checks)
    lines = ["foal-hf doctor"]
    for check in report.checks:
        start = f"  {check.status:<8}  {check.name:<{name_width}}  "
        end = f"  -> {check.remedy}" if check.remedy else ""
        room = max(NUM_COLUMNS - len(start) - len(end), 12)
        found = check.found if len(check.found) <= room else f"{check.found[: room - 3]}..."
        lines.append(f"{start}{found}{end}".rstrip())
    if report.ok:
        lines.append("Ready: training and predicting on mp4 files can run here.")
    else:
        lines.append("Not ready: run the commands behind the arrows, from the top, then `foal-hf doctor` again.")
    return "\n".join(lines)


def main(json: bool = False) -> int:
    """Print the report.

    Args:
        json (`bool`, defaults to `False`): Whether to print JSON in place of the screen.

    Returns:
        `int`: The exit code: 0 where the main job can run, else 1.
    """
    report = diagnose()
    sys.stdout.write((report.to_json() if json else render(report)) + "\n")
    return 0 if report.ok else 1


def check_system_libraries() -> Check:
    """Whether the shared libraries that torchcodec loads and pip does not bring can be loaded.

    They are FFmpeg's, in a release that torchcodec works with, and on Linux Python's own: distributions that link their
    `python3` statically, as Debian does, put it in a package apart.

    Returns:
        [`Check`]: With the one command that installs all of them on this system where any is missing.
    """
    releases, python_library = _loadable_ffmpeg_releases(), _python_library()
    missing = [] if releases else ["FFmpeg 4 to 8"]
    if python_library and not _loads(python_library):
        missing.append(python_library)
    if missing:
        return Check("system libraries", "missing", f"no {', no '.join(missing)}", _libraries_remedy())
    found = f"FFmpeg {releases[0]}" + (f", {python_library}" if python_library else "")
    return Check("system libraries", "ok", found)


def _check_python() -> Check:
    # An older Python than pyproject.toml allows neither installs the package nor reads this file.
    return Check("Python", "ok", f"{platform.python_version()} ({platform.system()} {platform.machine()})")


def _check_foal_hf() -> Check:
    version = _installed_version("foal-hf")
    if version is None:
        return Check("foal-hf", "missing", "not installed", "pip install .")
    return Check("foal-hf", "ok", version)


def _check_package(name: str) -> Check:
    """Installed, in the supported range, and importable."""
    specifier = _requirements().get(name, "")
    install = f'pip install "{name}{specifier}"' if specifier else f"pip install {name}"
    version = _installed_version(name)
    if version is None:
        return Check(name, "missing", "not installed", install)
    if not _is_in(version, specifier):
        return Check(name, "mismatch", f"{version}, supported: {specifier}", install)
    try:
        importlib.import_module(name.replace("-", "_"))
    except Exception as error:
        return Check(name, "mismatch", f"{version}: {_one_line(error)}", f"pip install --force-reinstall {name}")
    return Check(name, "ok", version)


def _check_torch() -> Check:
    check = _check_package("torch")
    if check.status != "ok":
        return check
    torch = importlib.import_module("torch")
    cuda, hip = getattr(torch.version, "cuda", None), getattr(torch.version, "hip", None)
    build = f"CUDA {cuda}" if cuda else f"ROCm {hip}" if hip else "CPU"
    return Check("torch", "ok", f"{check.found} ({build} build)")


def _check_torchcodec() -> Check:
    """Torchcodec is there, loads, and says which FFmpeg it took."""
    install = f"pip install torchcodec=={TESTED_TORCHCODEC}"
    specifier = _requirements().get("torchcodec", "")
    version = _installed_version("torchcodec")
    if version is None:
        return Check("torchcodec", "missing", "not installed", install)
    if not _is_in(version, specifier):
        return Check("torchcodec", "mismatch", f"{version}, supported: {specifier}", install)
    try:
        ffmpeg_release = _import_torchcodec().ffmpeg_major_version
    except Exception:
        libraries = check_system_libraries()
        if libraries.status != "ok":
            return Check("torchcodec", "mismatch", "lacks system libraries", libraries.remedy)
        if platform.system() == "Darwin" and not _loadable_ffmpeg_releases(folders=("",)):
            remedy = 'export DYLD_FALLBACK_LIBRARY_PATH="$(brew --prefix)/lib"'
            return Check("torchcodec", "mismatch", "cannot see brew's", remedy)
        # The right release that still does not load was installed for another torch or another Python.
        force = "--force-reinstall " if version == TESTED_TORCHCODEC else ""
        remedy = f"pip install {force}torchcodec=={TESTED_TORCHCODEC}"
        return Check("torchcodec", "mismatch", f"{version} does not load", remedy)
    return Check("torchcodec", "ok", f"{version}, with FFmpeg {ffmpeg_release}")


def _check_mp4_round_trip() -> Check:
    """Write an mp4 file of half a second in memory, and read it back."""
    name = "H.264 and AAC"
    try:
        _import_torchcodec()
    except Exception:
        return Check(name, "missing", "waits for torchcodec", None)
    try:
        codecs = _encode_and_decode()
    except Exception as error:
        return Check(name, "missing", f"writing or reading mp4 fails: {_one_line(error)}", _libraries_remedy())
    if codecs != ("h264", "aac"):
        return Check(name, "missing", f"FFmpeg wrote {codecs[0]} and {codecs[1]}", _libraries_remedy())
    return Check(name, "ok", "an mp4 file was written and read")


def _encode_and_decode() -> tuple[str, str]:
    """The codecs of the picture and of the sound that came back from an mp4 file."""
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
    pictures, sound = VideoDecoder(file.getvalue()), AudioDecoder(file.getvalue())
    if len(pictures) != num_frames or pictures.get_frame_at(0).data.shape != (3, 32, 48):
        raise RuntimeError(f"{num_frames} pictures were written and {len(pictures)} came back")
    if sound.get_all_samples().data.shape[1] < num_samples:
        raise RuntimeError("less sound came back than was written")
    return str(pictures.metadata.codec), str(sound.metadata.codec)


def _check_ffmpeg_command() -> Check:
    if shutil.which("ffmpeg"):
        return Check("FFmpeg command", "ok", "found")
    return Check("FFmpeg command", "note", "not found; only the tests use it")


def _check_torchvision() -> Check:
    """Nothing here needs it, but transformers imports it where it is installed, and falls with it."""
    version = _installed_version("torchvision")
    if version is None:
        return Check("torchvision", "ok", "not installed, not needed")
    try:
        importlib.import_module("torchvision")
    except Exception:
        found = f"{version} does not load on this torch, and transformers needs it to if present"
        return Check("torchvision", "mismatch", found, "pip uninstall -y torchvision")
    return Check("torchvision", "ok", f"{version}, not needed")


def _check_accelerator() -> Check:
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        memory_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Check("accelerator", "ok", f"CUDA, {count} x {torch.cuda.get_device_name(0)}, {memory_gib:.0f} GiB")
    if torch.backends.mps.is_available():
        return Check("accelerator", "ok", "MPS")
    return Check("accelerator", "note", "none (no CUDA, no MPS): everything runs on the CPU")


def _check_threads() -> Check:
    torch = importlib.import_module("torch")
    return Check("CPU threads", "ok", f"torch uses {torch.get_num_threads()}, {os.cpu_count()} processors")


def _check_memory() -> Check:
    total_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's share
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total_gib = min(total_gib, int(text) / 2**30)
    if total_gib < QUICKSTART_MEMORY_GIB:
        return Check("memory", "note", f"{total_gib:.1f} GiB; quickstart may need {QUICKSTART_MEMORY_GIB}")
    return Check("memory", "ok", f"{total_gib:.1f} GiB")


def _check_hub() -> Check:
    on = [name for name in _OFFLINE_VARIABLES if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    if on:
        return Check("Hub", "note", f"offline by {', '.join(on)}: only local and cached models")
    return Check("Hub", "ok", "online allowed (not tried)")


def _loadable_ffmpeg_releases(folders: tuple[str, ...] | None = None) -> list[int]:
    """FFmpeg releases whose shared libraries load, the newest first; `""` is the loader's own search path."""
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
    """The name of Python's own shared library, which torchcodec's wheels for Linux are linked to."""
    if platform.system() != "Linux":
        return None
    return f"libpython{sys.version_info.major}.{sys.version_info.minor}{sys.abiflags}.so.1.0"


def _libraries_remedy() -> str:
    """The command that installs what `check_system_libraries` looks for, with the package manager at hand."""
    if platform.system() == "Darwin":
        return "brew install ffmpeg"
    if shutil.which("apt-get") and not os.environ.get("CONDA_PREFIX"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"{sudo}apt-get install -y ffmpeg libpython{sys.version_info.major}.{sys.version_info.minor}"
    return 'conda install -c conda-forge python "ffmpeg<9"'


def _import_torchcodec() -> ModuleType:
    importlib.import_module("torch")
    return importlib.import_module("torchcodec")


def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements() -> dict[str, str]:
    """Name to version range of what foal-hf depends on: from the checkout that this file is in, else as installed."""
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
    except ImportError:  # then transformers is missing too, and its line says so
        return True
    return SpecifierSet(specifier).contains(version, prereleases=True)


def _guarded(name: str, check: Callable[[], Check], status_if_raised: Status) -> Check:
    try:
        return check()
    except Exception as error:
        return Check(name, status_if_raised, f"could not be checked: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    """An exception on one line, without what tells who the user is."""
    text = (str(error).strip().splitlines() or [""])[0]
    text = text.replace(str(Path.home()), "~")
    for folder in (sys.prefix, sys.base_prefix):
        text = text.replace(folder, "...")
    with suppress(KeyError, OSError):  # a container's user may have no name
        text = re.sub(rf"\b{re.escape(getpass.getuser())}\b", "user", text)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="doctor.py", description="What is installed, missing, and how to mend it.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--libraries", action="store_true", help="system libraries only: print what installs them")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = _parse_arguments()
    if arguments.libraries:
        libraries = check_system_libraries()
        sys.stdout.write((libraries.remedy or libraries.found) + "\n")
        sys.exit(0 if libraries.status == "ok" else 1)
    sys.exit(main(json=arguments.json))
