"""Ctrl-C at every stage of the program: one line and exit code 130, and nothing left behind."""

import os
import subprocess
import sys
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
def test_ctrl_c_is_one_line_and_exit_code_130(tmp_path: Path, moment: str) -> None:
    for name in ("archive", "temporary"):
        (tmp_path / name).mkdir()
    for number in range(3):
        (tmp_path / "archive" / f"{number}.mp4").write_bytes(b"\0" * 101)
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, moment, "annotate", "archive", "--num-workers", "2", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert (finished.stderr, finished.returncode) == ("foal-hf: interrupted\n", 130)
    assert finished.stdout == "" and list((tmp_path / "temporary").glob("pymp-*")) == []
