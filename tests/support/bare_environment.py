"""A Python environment that has transformers and everything else, but not this package."""

import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def make_bare_environment(folder: Path) -> Path:
    """Make a virtual environment with the packages of this one, except `foal_hf`; returns its interpreter.

    A line of a .pth file adds a folder to the path, and not what the .pth files in that folder name: so the checkout,
    which an editable installation names there, stays out.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    Path(packages, "third_parties.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python = folder / "bin" / "python"
    look = "import importlib.util as util; print(util.find_spec('foal_hf') and util.find_spec('foal_hf.registration'))"
    found = subprocess.run([python, "-E", "-c", look], cwd=folder, check=True, capture_output=True, text=True)
    assert found.stdout == "None\n", f"{sys.executable} has foal_hf installed where it cannot be left out"
    return python
