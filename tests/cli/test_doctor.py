"""The doctor: every line says what is installed, and each fault comes with the command that fixes it."""

import ctypes
import getpass
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from default_checkpoints import install, uninstall

from foal_hf.cli import doctor
from foal_hf.cli.doctor import Check, Report, diagnose, render


@pytest.fixture(scope="module")
def report() -> Report:
    return diagnose()


@pytest.fixture
def pretend_version(monkeypatch):
    """Makes one distribution have another version, or none at all for `None`."""
    real_version = importlib.metadata.version

    def pretend(name: str, version: str | None) -> None:
        def version_of(wanted: str) -> str:
            if wanted != name:
                return real_version(wanted)
            if version is None:
                raise importlib.metadata.PackageNotFoundError(wanted)
            return version

        monkeypatch.setattr(importlib.metadata, "version", version_of)

    return pretend


@pytest.fixture
def pretend_import_error(monkeypatch):
    """Makes the import of one module raise."""
    real_import = importlib.import_module

    def pretend(name: str, error: Exception) -> None:
        def import_module(wanted: str):
            if wanted == name:
                raise error
            return real_import(wanted)

        monkeypatch.setattr(importlib, "import_module", import_module)

    return pretend


@pytest.fixture
def pretend_libraries(monkeypatch):
    """Makes only the named shared libraries loadable."""

    def pretend(*names: str) -> None:
        def load(name: str) -> None:
            if name not in names:
                raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", load)

    return pretend


@pytest.fixture
def on_debian(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "apt-get" else None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "abiflags", "")
    monkeypatch.delenv("CONDA_PREFIX", raising=False)


PYTHON_NAME = f"libpython{sys.version_info.major}.{sys.version_info.minor}"


def line(report: Report, name: str) -> Check:
    (check,) = (check for check in report.checks if check.name == name)
    return check


def test_the_machine_that_runs_the_tests_is_ready(report):
    assert report.ok, render(report)
    assert line(report, "H.264 and AAC").status == "ok"
    assert line(report, "torchcodec").found.startswith(importlib.metadata.version("torchcodec"))


def test_the_report_as_text_has_every_check_with_its_command():
    remedy = "pip install " + "x" * 211
    lines = render(
        Report((Check("packages", "ok", "fine"), Check("torchcodec", "mismatch", "bad", remedy)))
    ).splitlines()
    assert lines[1].split() == ["ok", "packages", "fine"]
    assert lines[2].split(maxsplit=2)[:2] == ["mismatch", "torchcodec"] and lines[2].endswith(f"bad  -> {remedy}")
    assert lines[3].startswith("Not ready") and len(lines) == 4


def test_the_report_as_json_has_the_verdict_and_every_field(report):
    fields = json.loads(report.to_json())
    assert fields["ok"] is True
    assert [Check(**check) for check in fields["checks"]] == list(report.checks)


@pytest.mark.parametrize(
    ("name", "version", "found", "remedy"),
    [
        ("transformers", "5.18.0", "transformers 5.18.0", 'pip install "transformers>=5.19.0,<6"'),
        ("transformers", "6.0.0", "transformers 6.0.0", 'pip install "transformers>=5.19.0,<6"'),
        ("transformers", None, "transformers is not installed", 'pip install "transformers>=5.19.0,<6"'),
        ("datasets", "3.6.0", "datasets 3.6.0", 'pip install "datasets>=4.5.0"'),
        ("torch", "2.10.0+cpu", "torch 2.10.0+cpu", 'pip install "torch>=2.11"'),
        ("safetensors", None, "safetensors is not installed", 'pip install "safetensors>=0.8.0"'),
    ],
)
def test_a_wrong_version_names_the_command_that_installs_a_right_one(pretend_version, name, version, found, remedy):
    pretend_version(name, version)
    report = diagnose()
    assert line(report, "packages") == Check("packages", "mismatch", found, remedy)
    assert not report.ok


@pytest.mark.parametrize(("version", "status"), [("0.12.0", "mismatch"), (None, "missing")])
def test_a_wrong_torchcodec_names_the_tested_release(pretend_version, version, status):
    pretend_version("torchcodec", version)
    check = line(diagnose(), "torchcodec")
    assert (check.status, check.remedy) == (status, "pip install torchcodec==0.13.0")


@pytest.mark.parametrize("version", ["5.19.0", "5.99.3", "5.20.0.dev0"])
def test_every_version_of_the_range_is_accepted(pretend_version, version):
    pretend_version("transformers", version)
    assert line(diagnose(), "packages").status == "ok"


@pytest.mark.parametrize(
    ("loadable", "found"),
    [
        ((), f"no FFmpeg 4 to 8, no {PYTHON_NAME}.so.1.0"),
        ((f"{PYTHON_NAME}.so.1.0",), "no FFmpeg 4 to 8"),
        (("libavdevice.so.59",), f"no {PYTHON_NAME}.so.1.0"),
    ],
)
def test_missing_shared_libraries_name_one_apt_get_command(on_debian, pretend_libraries, loadable, found):
    pretend_libraries(*loadable)
    check = doctor.check_system_libraries()
    assert (check.status, check.found) == ("missing", found)
    assert check.remedy == f"sudo apt-get install -y ffmpeg {PYTHON_NAME}"


@pytest.mark.parametrize(("library", "release"), [("libavdevice.so.58", 4), ("libavdevice.so.62", 8)])
def test_every_release_of_ffmpeg_that_torchcodec_takes_is_seen(on_debian, pretend_libraries, library, release):
    pretend_libraries(library, f"{PYTHON_NAME}.so.1.0")
    assert doctor.check_system_libraries() == Check("system libraries", "ok", f"FFmpeg {release}, {PYTHON_NAME}.so.1.0")


def test_root_needs_no_sudo(on_debian, pretend_libraries, monkeypatch):
    pretend_libraries()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert doctor.check_system_libraries().remedy == f"apt-get install -y ffmpeg {PYTHON_NAME}"


def test_conda_gets_its_own_command(on_debian, pretend_libraries, monkeypatch):
    pretend_libraries()
    monkeypatch.setenv("CONDA_PREFIX", "somewhere")
    assert doctor.check_system_libraries().remedy == 'conda install -c conda-forge python "ffmpeg<9"'


def test_macos_gets_the_brew_command(pretend_libraries, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    pretend_libraries()
    assert doctor.check_system_libraries().remedy == "brew install ffmpeg"
    pretend_libraries("/opt/homebrew/lib/libavdevice.61.dylib")
    assert doctor.check_system_libraries() == Check("system libraries", "ok", "FFmpeg 7")


def test_torchcodec_that_does_not_load_is_told_from_missing_libraries(
    on_debian, pretend_import_error, pretend_libraries, pretend_version
):
    pretend_import_error("torchcodec", RuntimeError("Could not load libtorchcodec."))
    pretend_libraries("libavdevice.so.59", f"{PYTHON_NAME}.so.1.0")
    pretend_version("torchcodec", "0.17.0")
    assert line(diagnose(), "torchcodec").remedy == "pip install torchcodec==0.13.0"
    pretend_libraries(f"{PYTHON_NAME}.so.1.0")
    assert line(diagnose(), "torchcodec").remedy == f"sudo apt-get install -y ffmpeg {PYTHON_NAME}"


def test_an_ffmpeg_that_cannot_write_mp4_is_not_ready(monkeypatch):
    monkeypatch.setattr(doctor, "_encode_and_decode", lambda: ("mpeg4", "aac"))
    report = diagnose()
    assert line(report, "H.264 and AAC").status == "missing"
    assert "mpeg4" in line(report, "H.264 and AAC").found
    assert not report.ok


def test_a_torchvision_that_does_not_load_is_to_be_removed(pretend_version, pretend_import_error):
    pretend_version("torchvision", "0.26.0")
    pretend_import_error("torchvision", RuntimeError("operator torchvision::nms does not exist"))
    check = line(diagnose(), "torchvision")
    assert (check.status, check.remedy) == ("mismatch", "pip uninstall -y torchvision")


def test_a_machine_without_cuda_is_ready(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    report = diagnose()
    assert line(report, "CUDA").status == "note" and "models run on the CPU" in line(report, "CUDA").found
    assert report.ok


def test_a_cuda_device_is_named_with_its_memory(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda index: "Tesla")
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: SimpleNamespace(total_memory=7 * 2**30))
    assert line(diagnose(), "CUDA") == Check("CUDA", "ok", "3 x Tesla, 7 GiB")


def test_the_default_checkpoint_is_named_with_version_and_licence(tmp_path, monkeypatch):
    folder = install(monkeypatch, tmp_path)
    assert doctor._check_checkpoint() == Check("checkpoint", "ok", "foal-net-small 0.1.0, CC-BY-NC-SA-4.0")
    (folder / "model.safetensors").unlink()
    assert doctor._check_checkpoint().status == "mismatch"
    uninstall(monkeypatch)
    missing = doctor._check_checkpoint()
    assert missing.status == "note" and missing.remedy == "pip install ./weights/foal-net-small"


def test_an_exception_in_a_check_becomes_a_line_without_folders_and_user_names(monkeypatch):
    def fail(*args):
        raise ZeroDivisionError("/homes/quentin/lib of quentin")

    monkeypatch.setenv("HOME", "/homes/quentin")
    monkeypatch.setattr(getpass, "getuser", lambda: "quentin")
    monkeypatch.setattr("torch.cuda.is_available", fail)
    monkeypatch.setattr(doctor, "_loadable_ffmpeg_releases", fail)
    report = diagnose()
    assert line(report, "CUDA").status == "note"
    assert line(report, "system libraries").status == "mismatch"
    assert line(report, "system libraries").found == "could not be checked: ZeroDivisionError: ~/lib of user"
    assert not report.ok


def run_doctor(*arguments: str, extra_path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", doctor.__file__, *arguments],
        env={**os.environ, "PYTHONPATH": str(extra_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_with_a_broken_torchcodec_fails_and_names_the_command(tmp_path):
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").write_text("raise RuntimeError('Could not load libtorchcodec.')\n")
    result = run_doctor("--json", extra_path=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    (check,) = (check for check in json.loads(result.stdout)["checks"] if check["name"] == "torchcodec")
    assert (check["status"], check["remedy"]) == ("mismatch", "pip install --force-reinstall torchcodec==0.13.0")


def test_the_doctor_runs_by_its_path_where_torch_cannot_be_imported(tmp_path):
    for name in ("torch", "transformers", "packaging"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('broken')\n")
    result = run_doctor(extra_path=tmp_path)
    assert (result.returncode, result.stderr) == (1, "")
    assert "mismatch  torchcodec" in result.stdout and "CUDA              could not be checked" in result.stdout
