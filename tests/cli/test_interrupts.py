"""Ctrl-C at every stage of the program: one line and exit code 130, and nothing left behind."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


PROGRAM = """
import multiprocessing.context, os, signal, sys
import foal_hf_command

moment = sys.argv.pop(1)

def interrupt(*arguments):
    os.killpg(0, signal.SIGINT)  # as a terminal does: the main process, its server and its workers

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            interrupt()

sys.meta_path.insert(0, AtImport())
start = multiprocessing.context.ForkServerProcess.start

def interrupted_start(self):
    if moment == "before a worker starts":
        interrupt()
    start(self)
    if moment == "after a worker starts":
        interrupt()

multiprocessing.context.ForkServerProcess.start = interrupted_start
sys.exit(foal_hf_command.main())
"""


@pytest.fixture
def temporary() -> Iterator[str]:
    """A folder with a short path: sockets allow about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="foal-") as folder:
        yield folder


@pytest.mark.parametrize(
    "moment",
    [
        "foal_hf.cli",
        "multiprocessing.forkserver",  # which is imported by the server of the workers
        "torch",
        "foal_hf.annotate.tables",
        pytest.param("before a worker starts", marks=pytest.mark.slow),
        pytest.param("after a worker starts", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path: Path, temporary: str, moment: str) -> None:
    (tmp_path / "archive").mkdir()
    for number in range(3):
        (tmp_path / "archive" / f"{number}.mp4").write_bytes(b"\0" * 101)
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, moment, "annotate", "archive", "--num-workers", "2", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": temporary},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert (finished.stderr, finished.returncode) == ("foal-hf: interrupted\n", 130)
    assert finished.stdout == "" and list(Path(temporary).glob("pymp-*")) == []


def test_a_temporary_folder_with_too_long_a_path_is_named_with_the_fix(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    command = [sys.executable, "-m", "foal_hf", "annotate", str(tmp_path), "--quiet"]
    finished = subprocess.run(
        command, env={**os.environ, "TMPDIR": str(long)}, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 1 and finished.stderr.count("\n") == 1
    assert str(long) in finished.stderr and "TMPDIR to a folder with a shorter path" in finished.stderr
