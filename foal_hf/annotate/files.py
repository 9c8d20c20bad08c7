"""The files of a job: from a folder, a list in a file, or a list in Python."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..foal_net.sources_foal_net import MEDIA_ENDINGS, is_url


_FILE_COLUMNS = ("file", "file_name", "path", "video", "audio")
_RANGE_COLUMNS = ("start_seconds", "end_seconds")
# Columns of a corpus that say where a clip lies: they would change the results, and lists do not support them.
_UNSUPPORTED_COLUMNS = ("audio_start_seconds", "crop_box")
_TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t"}

Sources = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Key = tuple[str, float, float]
"""What makes a file, or a range of it, unique in a job: its name, start and end."""


class MediaPath(NamedTuple):
    """A file of a job, or a range of it.

    Attributes:
        name (`str`): Its name in the results: relative to the root, with `/`; an absolute path if it lies outside.
        path (`str`): The path to open.
        start_seconds, end_seconds (`float`, *optional*): The range; None: from its start, to its end.
    """

    name: str
    path: str
    start_seconds: float | None = None
    end_seconds: float | None = None

    @property
    def key(self) -> Key:
        """Sorts by name and time."""
        return key_of(self.name, self.start_seconds, self.end_seconds)


class FileList(NamedTuple):
    """The files of a job.

    Attributes:
        files (`list[MediaPath]`): Each once, sorted by name and time.
        root (`Path`): The folder that names are relative to.
        skipped (`dict[str, int]`): Number of skipped files of a folder, by reason.
    """

    files: list[MediaPath]
    root: Path
    skipped: dict[str, int]


def key_of(name: str, start_seconds: float | None, end_seconds: float | None) -> Key:
    """The key of a file, or of a range of it."""
    return name, start_seconds or 0.0, math.inf if end_seconds is None else end_seconds


def list_files(
    sources: Sources,
    *,
    root: str | os.PathLike[str] | None = None,
    all_files: bool = False,
    outputs: Collection[Path] = (),
) -> FileList:
    """List the files of `sources`.

    A text list has one path on each line; lines that start with `#` are comments. A table has a header with one column
    of files (`file`, `file_name`, `path`, `video` or `audio`) and may have the columns `start_seconds` and
    `end_seconds`; other columns of a corpus, such as `emotion`, are allowed and not used.

    Args:
        sources: A folder, with everything below it; a text list; a `.csv` or `.tsv` table; or paths in Python. Relative
            paths of a list start at `root`.
        root (`str` or `os.PathLike`, *optional*): The folder that names are relative to. Default: the folder, the
            folder of the list, or the current folder for paths in Python.
        all_files (`bool`, defaults to `False`): Take every file of a folder. By default, hidden files and files without
            a suffix of audio or video are skipped. Links are followed, but not to a folder that they lie in.
        outputs (`Collection[Path]`): Absolute paths in a folder that are no part of it.

    Returns:
        [`FileList`]: The files, the root, and what was skipped.

    Raises:
        FileNotFoundError: If the folder or list does not exist.
        ValueError: If there are no files, an entry is a URL, or a table has unknown columns or wrong values.
    """
    skipped: Counter[str] = Counter()
    found: Iterable[tuple[str, float | None, float | None]]
    if isinstance(sources, str | os.PathLike):
        given = Path(sources)
        if given.is_dir():
            home, found = given, ((path, None, None) for path in _walk(given.absolute(), all_files, outputs, skipped))
        elif given.is_file():
            home, found = given.parent, _read_list(given, Path(given.parent if root is None else root))
        else:
            raise FileNotFoundError(f"{given} does not exist; expected a folder or a list of files.")
    else:
        given, home, found = None, Path(), ((os.fspath(path), None, None) for path in sources)
    root = Path(os.path.abspath(home if root is None else root))
    files: dict[Key, MediaPath] = {}
    for path, *times in found:
        file = _named(path, root, *times)
        if files.setdefault(file.key, file).path != file.path:
            raise ValueError(f"Two files have the name {file.name!r} in the results; rename one of them.")
    if not files and given is not None and given.is_dir():
        raise ValueError(
            f"{given} has no files with one of the suffixes {' '.join(sorted(MEDIA_ENDINGS))}; try every file with "
            "`all_files=True` (--all-files)."
        )
    if not files:
        raise ValueError(f"{'The list' if given is None else given} has no files.")
    return FileList([files[key] for key in sorted(files)], root, dict(sorted(skipped.items())))


def _walk(folder: Path, all_files: bool, outputs: Collection[Path], skipped: Counter[str]) -> Iterator[str]:
    """Paths of the files below a folder, in any order; counts the others."""
    folders: list[tuple[str, frozenset[tuple[int, int]]]] = [(str(folder), frozenset())]  # with the folders above
    while folders:
        path, above = folders.pop()
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            entries = [] if identity in above else list(os.scandir(path))
        except OSError as error:
            skipped[f"folder that cannot be read ({error.strerror})"] += 1
            continue
        if identity in above:
            skipped["link to a folder that it lies in"] += 1
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if Path(entry.path) in outputs:
                continue
            if entry.name.startswith(".") and not all_files:
                skipped["hidden"] += 1
            elif os.path.isdir(entry.path):
                folders.append((entry.path, above | {identity}))
            elif all_files or suffix in MEDIA_ENDINGS:
                yield entry.path
            else:
                skipped[f"suffix {as_text(suffix)}" if suffix else "no suffix"] += 1


def _read_list(path: Path, root: Path) -> Iterator[tuple[str, float | None, float | None]]:
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        if text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
            raise ValueError(f"{path} is UTF-16; save it as UTF-8 (spreadsheets: `CSV UTF-8`).")
        raise ValueError(f"{path} is not a list of files, but a binary file; give a list with its path: ['{path}'].")
    delimiter = _TABLE_SUFFIXES.get(path.suffix.lower())
    if delimiter is not None:
        yield from _read_table(path, text, delimiter, root)
        return
    for line in text.split("\n"):
        name = line.strip(" \t\r")
        if name and not (name.startswith("#") and not (root / name).exists()):
            yield _existing(name, root), None, None


def _read_table(path: Path, text: str, delimiter: str, root: Path) -> Iterator[tuple[str, float | None, float | None]]:
    from ..corpora.folder_table import check_separator  # imports datasets
    from ..corpora.schema import FEATURES

    lines = (line for line in io.StringIO(text, newline="") if not line.startswith("#"))
    table = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    columns = table.fieldnames = [name.strip() for name in table.fieldnames or []]
    check_separator(columns, delimiter, path)
    known = {*_FILE_COLUMNS, *_RANGE_COLUMNS, *FEATURES}
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise ValueError(
            f"{path} has the unknown columns {', '.join(unknown)}; expected some of {', '.join(sorted(known))}."
        )
    file_columns = [name for name in _FILE_COLUMNS if name in columns]
    if len(file_columns) != 1:
        has = " and ".join(file_columns) or ", ".join(columns) or "none"
        raise ValueError(f"{path} needs exactly one column of files, one of {', '.join(_FILE_COLUMNS)}; it has {has}.")
    for number, row in enumerate(table, 1):
        where = f"{path}, row {number}"
        cells = {name: (cell or "").strip() for name, cell in row.items() if name is not None}
        if None in row:
            raise ValueError(f"{where} has more cells than columns; put a name with a {delimiter!r} in quotes.")
        for name in _UNSUPPORTED_COLUMNS:
            if cells.get(name):
                raise ValueError(f"{where} sets {name}, which lists do not support; remove the column.")
        if cells[file_columns[0]]:
            yield _existing(cells[file_columns[0]], root), *_range(cells, where)


def _range(cells: Mapping[str, str], where: str) -> tuple[float | None, float | None]:
    times: list[float | None] = []
    for name in _RANGE_COLUMNS:
        try:
            times.append(float(cells[name]) if cells.get(name) else None)
        except ValueError:
            raise ValueError(f"{where}: `{name}` must be a number of seconds, got {cells[name]!r}.") from None
    start, end = times[0] or 0.0, math.inf if times[1] is None else times[1]
    if not (0 <= start < end and math.isfinite(start)):
        raise ValueError(f"{where}: expected 0 <= start_seconds < end_seconds, got {start:g} and {end:g}.")
    return times[0], times[1] if math.isfinite(end) else None


def _existing(name: str, root: Path) -> str:
    """A path of a list; one that was written on Windows has backslashes."""
    slashed = name.replace("\\", "/")
    return slashed if "\\" in name and not os.path.exists(root / name) and os.path.exists(root / slashed) else name


def _named(path: str, root: Path, *times: Any) -> MediaPath:
    if is_url(path):
        raise ValueError(f"{path.partition('?')[0]} is a URL; download it first, archives are annotated from files.")
    path = os.path.normpath(os.path.join(root, path))
    name = os.path.relpath(path, root)
    name = path if name.split(os.sep)[0] == os.pardir else name.replace(os.sep, "/")
    return MediaPath(as_text(name), path, *times)


def as_text(path: str | os.PathLike[str]) -> str:
    r"""A path as valid text, for tables: bytes that are not UTF-8 become escapes such as `\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


__all__ = ["FileList", "Key", "MediaPath", "Sources", "as_text", "key_of", "list_files"]
