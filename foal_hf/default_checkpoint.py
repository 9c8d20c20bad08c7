"""The checkpoint that is used where none is named: its names, where it lies, and its licence."""

import functools
import importlib
import logging
import os
from pathlib import Path


DISTRIBUTION = "foal-net-small"
"""The installable package that carries the default checkpoint, and the short name of that checkpoint."""
REPO_ID = "foal-hf/foal-net-small"
"""The same checkpoint on the Hub."""

_INSTALL = f"`pip install {DISTRIBUTION}` (in a checkout of foal-hf: `pip install ./weights/{DISTRIBUTION}`)"

logger = logging.getLogger(__name__)


def resolve_checkpoint(name: str | os.PathLike[str] | None = None) -> str:
    """What `from_pretrained` loads for the name of a checkpoint.

    The default checkpoint is the installed distribution, without any request; if it is not installed, the repository
    on the Hub. The first time in a process that it is used without being named, a warning says its licence.

    Args:
        name (`str` or `os.PathLike`, *optional*): Folder or Hub name, which come back as they are; `"foal-net-small"`
            for the default checkpoint, unless the current folder has a checkpoint of that name; None also for the
            default.

    Returns:
        `str`: Folder or Hub name.

    Raises:
        FileNotFoundError: If the default checkpoint is neither installed nor on the Hub, or installed incompletely.
    """
    named = DISTRIBUTION if name is None else os.fspath(name)
    if named != DISTRIBUTION or (name is not None and Path(named, "config.json").is_file()):
        return named
    folder = installed_checkpoint()
    found = _on_the_hub() if folder is None else str(folder)
    if name is None:
        _warn_of_the_licence()
    return found


def installed_checkpoint() -> Path | None:
    """The folder of the installed default checkpoint; None if it is not installed.

    Raises:
        FileNotFoundError: If a file of it is missing.
    """
    try:
        weights = importlib.import_module(DISTRIBUTION.replace("-", "_"))
    except ModuleNotFoundError:
        return None
    return Path(weights.checkpoint_dir())


def _on_the_hub() -> str:
    """The name of the repository, if it is in the cache of the Hub, or on the Hub, which is asked once."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HTTPError

    if isinstance(try_to_load_from_cache(REPO_ID, "config.json"), str):
        return REPO_ID
    try:
        get_hf_file_metadata(hf_hub_url(REPO_ID, "config.json"))
    except (OSError, ValueError, HTTPError) as error:
        raise FileNotFoundError(
            f"The default checkpoint, {DISTRIBUTION}, is neither installed nor available from the Hub as {REPO_ID} "
            f"({type(error).__name__}). Install it with {_INSTALL}, or name another checkpoint."
        ) from error
    return REPO_ID


@functools.cache
def _warn_of_the_licence() -> None:
    logger.warning(
        "The default checkpoint, %s, may be used for non-commercial purposes only: CC BY-NC-SA 4.0, the licence of the "
        "voices that it was trained on (RAVDESS). To use another checkpoint, name it (`model=`, `--model`).",
        DISTRIBUTION,
    )


__all__ = ["DISTRIBUTION", "REPO_ID", "installed_checkpoint", "resolve_checkpoint"]
