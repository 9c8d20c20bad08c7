"""The dataset scripts as importable modules: `foal_hf.corpus_scripts.build_iemocap`.

The scripts lie in folders of their own, beside the package in a checkout and inside it once installed. As modules with
a proper name they can be imported by other processes too, which is what pickled datasets ask for.
"""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from transformers.utils import logging

from .resources import dataset_scripts_dir


logger = logging.get_logger(__name__)

_REGISTRY = "datasets.packaged_modules"


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


def register_corpora() -> None:
    """Make `datasets.load_dataset("iemocap", data_dir=...)` work in this process.

    Imports neither the scripts nor `datasets`, which takes half a second: where it is not there yet, it is told of the
    scripts at the moment when it is imported. Its table of builders is private. Should it look different one day, this
    does nothing, and [`~foal_hf.corpora.load_corpus`], which does not depend on it, goes on working.
    """
    module = sys.modules.get(_REGISTRY)
    if module is not None:
        _register_in(module)
    elif not any(isinstance(finder, _RegisterWhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterWhenImported())


class _RegisterWhenImported(MetaPathFinder):
    """Lets the other finders find the table of builders, once, and adds the scripts when it has been filled."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register_in(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register_in(module: ModuleType) -> None:
    builders = getattr(module, "_PACKAGED_DATASETS_MODULES", None)
    try:
        scripts = find_scripts()
    except FileNotFoundError as error:  # never in the way of `import datasets`
        logger.warning("datasets.load_dataset knows no corpora of foal_hf: %s", error)
        return
    if not isinstance(builders, dict):
        logger.info("datasets.load_dataset takes no builders of foal_hf in this version: use load_corpus.")
        return
    for corpus, path in scripts.items():
        builders[corpus] = (module_name(corpus), script_hash(path))


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
