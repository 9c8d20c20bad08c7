"""The dataset scripts as importable modules: `foal_hf.corpora.scripts.build_iemocap`.

The scripts are beside the package in a checkout, and inside it once installed. As modules with a name of their own they
can be imported by other processes too, which pickled datasets need.
"""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType

from ..resources import dataset_scripts_dir


SHARED = "corpus_builder.py"


def find_scripts() -> dict[str, Path]:
    """The script of each corpus: `dataset_scripts/<corpus>/build_<corpus>.py`.

    Returns:
        `dict[str, pathlib.Path]`: By name of the corpus, sorted.

    Raises:
        FileNotFoundError: If the installation has no such folder.
    """
    paths = sorted(dataset_scripts_dir().glob("*/build_*.py"))
    return {path.parent.name: path for path in paths if path.stem == f"build_{path.parent.name}"}


def find_script(corpus: str) -> Path:
    """The script of one corpus.

    Raises:
        ValueError: If there is none.
    """
    scripts = find_scripts()
    if corpus not in scripts:
        raise ValueError(
            f"Unknown corpus {corpus!r}; expected one with a loading script: {', '.join(scripts) or 'there is none'}."
        )
    return scripts[corpus]


def script_files(corpus: str) -> list[Path]:
    """The script of a corpus and the file that it shares with others: together they run by themselves."""
    script = find_script(corpus)
    return [path for path in (script, script.parent.parent / SHARED) if path.is_file()]


def module_name(corpus: str) -> str:
    """Name under which the script of a corpus is imported."""
    return f"{__name__}.build_{corpus}"


def source_hash(paths: list[Path]) -> str:
    """Identifies the content of sources in the cache of `datasets`: rows of older sources are not used again."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()


def import_script(corpus: str) -> ModuleType:
    """Import the script of a corpus.

    Raises:
        ValueError: If there is none.
    """
    for path in script_files(corpus):
        _add_to_path(path.parent)
    return importlib.import_module(module_name(corpus))


def _add_to_path(folder: Path) -> None:
    if str(folder) not in __path__:
        __path__.append(str(folder))


# Where Python looks for the submodules of this module. A new process that gets a pickled builder finds the script here.
__path__: list[str] = []
try:
    for _corpus in find_scripts():
        for _file in script_files(_corpus):
            _add_to_path(_file.parent)
except FileNotFoundError:
    pass  # reported when a corpus is requested
