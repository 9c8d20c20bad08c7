"""Which files a job is about: a folder, a list in a file, or a list in Python."""

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..foal_net.sources_foal_net import MEDIA_ENDINGS, is_url


# Columns of a CSV list that may hold the file, the first of them that it has.
_FILE_COLUMNS = ("file", "file_name", "path", "video", "audio")
_TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t"}

Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class MediaPath(NamedTuple):
    """A file of a job.

    Attributes:
        name (`str`): What the results call it: relative to the root, with `/`; a whole path where it lies outside.
        path (`str`): What is opened.
    """

    name: str
    path: str


def list_files(
    sources: Sources, *, root: str | os.PathLike[str] | None = None, all_files: bool = False
) -> tuple[list[MediaPath], Path]:
    """The files that `sources` stands for, each once, sorted by name.

    Args:
        sources: A folder, with all that lies below it; a text file with one path a line; a `.csv` or `.tsv` file with a
            column `file`, `file_name`, `path`, `video` or `audio`; or paths in Python. Relative paths of a list start
            at `root`.
        root (`str` or `os.PathLike`, *optional*): What names are relative to. Default: the folder, the folder of the
            list, or the current one for paths in Python.
        all_files (`bool`, defaults to `False`): Of a folder take every file, whatever its name; by default those with
            the suffix of a medium that are not hidden. Links to folders are not followed.

    Returns:
        `(list[MediaPath], Path)`: The files, and the root.

    Raises:
        FileNotFoundError: If there is no such folder or list.
        ValueError: If there is not one file, an entry is a URL, or a table has no column of files.
    """
    paths: Iterable[str]
    if isinstance(sources, str | os.PathLike):
        given = Path(sources)
        if given.is_dir():
            paths, home = _walk(os.path.abspath(given), all_files), given
        elif given.is_file():
            paths, home = _read_list(given), given.parent
        else:
            raise FileNotFoundError(f"{given} is neither a folder nor a list of files: there is no such thing.")
    else:
        given, paths, home = None, (os.fspath(path) for path in sources), Path()
    root = Path(os.path.abspath(home if root is None else root))
    files = {file.name: file for file in (_named(path, root) for path in paths)}
    if not files:
        where = "The list" if given is None else str(given)
        known = "" if given is None or not given.is_dir() else f" with one of the suffixes {_known_suffixes()}"
        way_out = "; take every file with `all_files=True` (--all-files)" if known else ""
        raise ValueError(f"{where} holds no file{known}{way_out}.")
    return [files[name] for name in sorted(files)], root


def _walk(folder: str, all_files: bool) -> Iterator[str]:
    for directory, folders, names in os.walk(folder):
        if not all_files:
            folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            is_medium = os.path.splitext(name)[1].lower() in MEDIA_ENDINGS and not name.startswith(".")
            if all_files or is_medium:
                yield os.path.join(directory, name)


def _read_list(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    delimiter = _TABLE_SUFFIXES.get(path.suffix.lower())
    if delimiter is None:
        if "\0" in text:
            raise ValueError(f"{path} is no list of files, but a file of data; give a list with its path: ['{path}'].")
        return [line.strip() for line in text.splitlines() if line.strip()]
    table = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = table.fieldnames or []
    column = next((name for name in _FILE_COLUMNS if name in columns), None)
    if column is None:
        raise ValueError(f"{path} needs a column {', '.join(_FILE_COLUMNS)}; it has {', '.join(columns) or 'none'}.")
    return [row[column].strip() for row in table if row[column] and row[column].strip()]


def _named(path: str, root: Path) -> MediaPath:
    if is_url(path):
        raise ValueError(f"{path.partition('?')[0]} is a URL: archives are annotated from files; download it first.")
    path = os.path.normpath(os.path.join(root, path))
    name = os.path.relpath(path, root)
    name = path if name.split(os.sep)[0] == os.pardir else name.replace(os.sep, "/")
    # A name that is no text (an old encoding) is written with escapes: Parquet holds text only.
    return MediaPath(os.fsencode(name).decode("utf-8", "backslashreplace"), path)


def _known_suffixes() -> str:
    return " ".join(sorted(MEDIA_ENDINGS))


__all__ = ["MediaPath", "Sources", "list_files"]
