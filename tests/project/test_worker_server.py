"""The temporary folder of decode workers, in processes of their own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from foal_hf import worker_server


CHILD = """
import os, runpy, signal, sys, tempfile

module = runpy.run_path(sys.argv[1])  # without the package, whose imports take long
print(module["claim_temporary_folder"](), flush=True)
module["use_temporary_folder"]()
print(tempfile.mkstemp(prefix="foal-media-")[1], flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "waiting":
    sys.stdin.read()
"""


def start(folder: Path, end: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, worker_server.__file__, end],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_next_process_deletes_the_folders_of_killed_ones_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "pymp-of-another-program").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "foal-hf.lock").touch()
    (tmp_path / "pymp-planted").symlink_to(tmp_path / "elsewhere")
    before = {path.name for path in tmp_path.iterdir()}

    waiting = start(tmp_path, "waiting")
    assert waiting.stdout is not None
    folder, file = Path(waiting.stdout.readline().strip()), Path(waiting.stdout.readline().strip())
    assert file.parent == folder and folder.name.startswith("pymp-")
    killed = start(tmp_path, "killed")
    left = Path(killed.communicate()[0].split()[0])
    assert killed.returncode == -signal.SIGKILL and left.is_dir()

    ended = start(tmp_path, "ended")
    ended.communicate()
    assert {path.name for path in tmp_path.iterdir()} == {*before, folder.name}
    assert file.exists() and (tmp_path / "elsewhere" / "foal-hf.lock").exists()
    waiting.communicate()
    assert {path.name for path in tmp_path.iterdir()} == before
