"""What goes wrong when a checkpoint is loaded, in one sentence."""

import contextlib
from collections.abc import Iterator
from typing import Any


_LONGEST_REASON = 400  # characters; some messages of transformers list hundreds of names


@contextlib.contextmanager
def errors_naming_checkpoint(name: Any) -> Iterator[None]:
    """Turn any error of loading a checkpoint into a `ValueError` of one sentence that names it."""
    try:
        yield
    except ImportError:  # a missing package is not the fault of the checkpoint
        raise
    except Exception as error:
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"The checkpoint {name} cannot be loaded: {kind}{in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """The message of an error, shortened; of a traceback in it the last line."""
    text, _, traceback = str(error).partition("Traceback (most recent call last):")  # as in some of transformers
    text = " ".join([*text.split(), *(traceback.strip().splitlines() or [""])[-1].split()]) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
