"""Finds what must not be published: paths of this machine."""

import os
import re
from typing import Any


# An absolute path, one from the home folder or the current one (but no URL and no org/name), on any system.
_LOCAL_PATH = re.compile(
    r"(?<![\w:/.~-])(?:~(?:[A-Za-z][\w.-]*)?|\.{1,2})?/[\w.~-][^\s\"'`]*"
    r"|(?<![A-Za-z])[A-Za-z]:[\\/][^\s\"'`]*"
    r"|\\\\\w[^\s\"'`]*"
    r"|\bfile:/[^\s\"'`]*"
)


def find_local_path(value: Any, where: str) -> tuple[str, str] | None:
    """The first local path in a text, or in the texts of dicts and lists, keys included.

    Args:
        value: As `json.loads` or `dataclasses.asdict` give it.
        where (`str`): Its name, for the answer.

    Returns:
        `tuple[str, str] | None`: The place of the text and the path in it; None where there is none.
    """
    for place, text in _texts(value, where):
        found = _LOCAL_PATH.search(text)
        if found:
            return place, found.group()
    return None


def public_name(name: str | None) -> str | None:
    """The name of a model or data set where it is one on the Hub, and None where it is a path or nothing.

    Args:
        name (`str`, *optional*): What a config holds as `_name_or_path`, for example.
    """
    if not name or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name) or os.path.exists(name):
        return None
    return name


def _texts(value: Any, where: str) -> list[tuple[str, str]]:
    """Every text in it, keys included, with its place."""
    if isinstance(value, str):
        return [(where, value)]
    if isinstance(value, dict):
        keys = [(where, key) for key in value]
        return keys + [text for key, item in value.items() for text in _texts(item, f"{where}.{key}")]
    if isinstance(value, list | tuple):
        return [text for index, item in enumerate(value) for text in _texts(item, f"{where}[{index}]")]
    return []


__all__ = ["find_local_path", "public_name"]
