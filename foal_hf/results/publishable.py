"""Finds what must not be published: paths of this machine."""

import os
import re
from collections.abc import Iterator
from typing import Any


# An absolute path, or one relative to the home or current folder, on any system; but no URL and no `org/name`.
_LOCAL_PATH = re.compile(
    r"(?<![\w:/.~-])(?:~(?:[A-Za-z][\w.-]*)?|\.{1,2})?/[\w.~-][^\s\"'`]*"
    r"|(?<![A-Za-z])[A-Za-z]:[\\/][^\s\"'`]*"
    r"|\\\\\w[^\s\"'`]*"
    r"|\bfile:/[^\s\"'`]*"
)


def check_no_local_path(value: Any, where: str) -> None:
    """Raise `ValueError` if a text in nested dicts and lists, keys included, holds a local path.

    Args:
        value: As `json.loads` or `dataclasses.asdict` return it.
        where (`str`): Its name, for the message.
    """
    found = find_local_path(value, where)
    if found:
        raise ValueError(
            f"`{found[0]}` holds the local path {found[1]!r}. Results may be published: name clips by their ids and "
            "models by their names on the Hub."
        )


def find_local_path(value: Any, where: str) -> tuple[str, str] | None:
    """The first local path in a text, or in the texts of dicts and lists, keys included.

    Args:
        value: As `json.loads` or `dataclasses.asdict` return it.
        where (`str`): Its name.

    Returns:
        `tuple[str, str] | None`: The place of the text and the path in it; None where there is none.
    """
    matches = ((place, _LOCAL_PATH.search(text)) for place, text in _texts(value, where))
    return next(((place, found.group()) for place, found in matches if found), None)


def public_name(name: str | None) -> str | None:
    """The name of a model or dataset if it is one on the Hub; None if it is a local path or empty.

    Args:
        name (`str`, *optional*): For example `_name_or_path` of a config.
    """
    if not name or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) or os.path.exists(name):
        return None
    return name


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text in it, keys included, with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, dict):
        yield from ((where, key) for key in value)
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")


__all__ = ["check_no_local_path", "find_local_path", "public_name"]
