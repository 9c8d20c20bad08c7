"""The dataset scripts as importable modules: `foal_hf.corpora.scripts.build_iemocap`.

The scripts lie in folders of their own, beside the package in a checkout and inside it once installed. As modules with
a proper name they can be imported by other processes too, which is what pickled datasets ask for.
"""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType

from ..resources import dataset_scripts_dir


def find_scripts() -> dict[str, Path]:
    """The script of each corpus: `dataset_scripts/<corpus>/build_<corpus>.py`.

    Returns:
        `dict[str, pathlib.Path]`: By name of the corpus, sorted.

    Raises:
        FileNotFoundError: If the installation has no such folder.
    """
    paths = sorted(dataset_scripts_dir().glob("*/build_*.py"))
    return {path.parent.name: path for path in paths if path.stem == f"build_{path.parent.name}"}


def module_name(corpus: str) -> str:
    """Name under which the script of a corpus is imported."""
    return f"{__name__}.build_{corpus}"


def script_hash(path: Path) -> str:
    """Stands for the content of a script in the cache of `datasets`: what an older script wrote is not used again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def import_script(corpus: str) -> ModuleType:
    """Import the script of a corpus.

    Raises:
        ValueError: If there is none.
    """
    scripts = find_scripts()
    if corpus not in scripts:
        raise ValueError(f"No script builds the corpus {corpus!r}; there is {', '.join(scripts) or 'none at all'}.")
    _add_to_path(scripts[corpus].parent)
    return importlib.import_module(module_name(corpus))


def _add_to_path(folder: Path) -> None:
    if str(folder) not in __path__:
        __path__.append(str(folder))


# Where Python looks for the submodules of this module. A new process, which has not looked for a script yet but gets a
# pickled builder of one, finds it here.
__path__: list[str] = []
try:
    for _script in find_scripts().values():
        _add_to_path(_script.parent)
except FileNotFoundError:
    pass  # said by whoever asks for a corpus
