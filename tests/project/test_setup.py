"""`scripts/setup.sh` and the Makefile, with a fake Python so that nothing is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from requirements import need


ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """A machine whose Python, sudo and id are scripts of the test."""

    def __init__(self, folder: Path):
        self.bin, self.venv, self.python = folder / "bin", folder / "venv", folder / "bin" / "python3"
        self.path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        (self.venv / "bin").mkdir(parents=True)
        self.bin.mkdir()
        self.write("id", "echo 1000")
        self.write("sudo", "echo 'a password is required'; exit 1")
        for browser in ("chromium", "chromedriver"):
            self.write(browser, "true")

    def write(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def write_python(self, libraries: str = "echo found", pip_install: str = "true") -> None:
        """The behaviour of `doctor.py --libraries` and `pip install`; everything else succeeds silently."""
        self.write("python3", f'case "$*" in *--libraries*) {libraries};; *"pip install"*) {pip_install};; esac')
        shutil.copy(self.python, self.venv / "bin" / "python")

    def remove_browser(self) -> None:
        """Also hides the machine's own programs, except those that the set-up needs."""
        self.path = str(self.bin)
        for name in ("chromium", "chromedriver"):
            (self.bin / name).unlink()
        for name in ("bash", "cat", "grep", "mkdir", "tail"):
            (self.bin / name).symlink_to(shutil.which(name))

    def set_up(self, extra: str = "dev") -> subprocess.CompletedProcess:
        return subprocess.run(
            ["scripts/setup.sh", str(self.venv), "constraints/tested.txt", extra],
            cwd=ROOT,
            env={**os.environ, "PATH": self.path, "PYTHON": str(self.python)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_set_up_says_each_step_and_passes_the_constraints_to_pip(machine):
    machine.write_python(pip_install=f'echo "$* $PIP_CONSTRAINT" > {machine.venv}/asked')
    result = machine.set_up()
    assert (result.returncode, result.stderr) == (0, "")
    assert all(line.startswith("==> ") for line in result.stdout.splitlines())
    assert (machine.venv / "asked").read_text() == (
        "-m pip install --editable .[dev] --editable weights/foal-net-small constraints/tested.txt\n"
    )


def test_without_root_missing_libraries_stop_with_the_one_command(machine):
    command = "sudo apt-get install -y ffmpeg libpython3.11"
    machine.write_python(libraries=f"echo '{command}'; exit 1", pip_install=f"touch {machine.venv}/asked")
    result = machine.set_up()
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].strip() == command
    assert not (machine.venv / "asked").exists()


def test_with_sudo_missing_libraries_are_installed(machine):
    installed = machine.venv / "installed"
    machine.write_python(libraries=f"[ -e {installed} ] || {{ echo 'sudo apt-get install -y one two'; exit 1; }}")
    machine.write("sudo", f'case "$*" in *install*) echo "$*" > {installed};; esac')
    result = machine.set_up()
    assert (result.returncode, result.stderr) == (0, "")
    assert installed.read_text().rstrip().endswith("apt-get -qq install -y --no-install-recommends one two")


def test_on_macos_the_brew_command_is_named_and_not_run(machine):
    machine.write_python(libraries="echo 'brew install ffmpeg'; exit 1")
    machine.write("sudo", "true")
    result = machine.set_up()
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].strip() == "brew install ffmpeg"


def test_a_browser_is_installed_where_that_is_allowed_and_tests_are_run(machine):
    machine.write_python()
    machine.remove_browser()
    asked = machine.venv / "asked"
    machine.write("apt-get", "true")
    machine.write("sudo", f'case "$*" in *install*) echo "$*" > {asked};; esac')
    assert machine.set_up("test").returncode == 0
    assert not asked.exists()
    result = machine.set_up("dev")
    assert (result.returncode, result.stderr) == (0, "")
    assert asked.read_text().rstrip().endswith("install -y --no-install-recommends chromium chromium-driver")


@pytest.mark.parametrize("sudo", ["exit 1", 'case "$*" in *install*) exit 100;; esac'])
def test_without_a_browser_the_set_up_says_so_and_goes_on(machine, sudo):
    machine.write_python()
    machine.remove_browser()
    machine.write("apt-get", "true")
    machine.write("sudo", sudo)
    result = machine.set_up()
    assert result.returncode == 0
    assert "will be skipped" in result.stdout and "==> Installed" in result.stdout


def test_a_failing_pip_is_shown_in_full(machine):
    machine.write_python(pip_install="echo first; echo last >&2; exit 3")
    result = machine.set_up()
    assert result.returncode == 3
    assert result.stderr.splitlines()[:2] == ["first", "last"]
    assert "Installed" not in result.stdout


def test_an_old_python_is_refused_by_name(machine):
    machine.write("python3", "exit 1")
    result = machine.set_up()
    assert result.returncode != 0
    assert result.stderr == f"error: PYTHON={machine.python} is not Python 3.11 or newer.\n"


def test_make_help_lists_every_target():
    need("make")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    result = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"^  make ([\w-]+) +\S", result.stdout, flags=re.MULTILINE) == targets.split()
