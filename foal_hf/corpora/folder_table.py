"""Reads a folder of clips as rows: from its table, or from its sub-folders, one for each class."""

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..foal_net.sources_foal_net import VIDEO_ENDINGS, has_media_ending


TABLE_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
PARTITION_FOLDERS = frozenset({"train", "validation", "valid", "val", "dev", "test"})

_TEXT_COLUMNS = ("speaker", "session", "gender", "emotion", "transcript", "partition")
_RATING_COLUMNS = ("valence", "activation", "dominance")
_NUMBER_COLUMNS = ("start_seconds", "end_seconds", "audio_start_seconds", *_RATING_COLUMNS)
_FILE_COLUMNS = ("file_name", "audio_file_name", "video_file_name")

Row = dict[str, Any]
"""The columns of the schema: `emotion` by name (or None), `audio` and `video` as absolute paths (or None)."""


def read_folder(folder: str | os.PathLike[str]) -> list[Row]:
    """Read the clips of a folder; no medium is opened.

    The folder has `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, or one sub-folder for each class, which may
    lie in folders named train, validation (valid, val, dev) and test. In the sub-folders, files count whose ending is
    one of sound or picture; names that begin with a dot do not.

    Args:
        folder (`str` or `os.PathLike`): The folder.

    Returns:
        `list[Row]`: Sorted by `clip_id`, which is the column of that name, or else the name of the file in the folder,
        with the start where it has one: `talks/one.mp4@12.5`.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder has neither layout, or a row of the table makes no sense: then the message says where.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. Give the folder that the clips and their table lie in.")
    tables = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise ValueError(f"{folder} has {names}, and it is not clear which one counts. Leave one.")
    rows = _rows_of_table(tables[0]) if tables else _rows_of_class_folders(folder)
    if not rows:
        raise ValueError(f"{tables[0]} has no rows.")
    _check_unique(rows, tables[0] if tables else folder)
    return sorted(rows, key=lambda row: row["clip_id"])


def _rows_of_table(table: Path) -> list[Row]:
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[table.suffix]
    rows: list[Row] = []
    for where, cells in read(table):
        place = f"{table}, {where}"
        if not rows:
            _check_columns(cells, table)
        rows.append(_to_row(cells, table.parent, place))
    return rows


def _to_row(cells: Row, folder: Path, place: str) -> Row:
    names = {column: _text(cells.get(column)) for column in _FILE_COLUMNS}
    file_name, audio_name, video_name = names.values()
    if file_name is not None and (audio_name or video_name):
        raise ValueError(f"{place}: give either `file_name`, or `audio_file_name` and `video_file_name`, not both.")
    if not any(names.values()):
        raise ValueError(f"{place}: names no file.")
    if file_name is not None:
        audio_name = file_name
        video_name = file_name if Path(file_name).suffix.lower() in VIDEO_ENDINGS else None
    audio, video = (_inside(name, place) for name in (audio_name, video_name))

    row: Row = {"clip_id": _text(cells.get("clip_id"))}
    row["audio"], row["video"] = (None if name is None else str(folder / name) for name in (audio, video))
    row |= {column: _number(cells.get(column), column, place) for column in _NUMBER_COLUMNS}
    row["crop_box"] = _box(cells.get("crop_box"), place)
    row |= {column: _text(cells.get(column)) for column in _TEXT_COLUMNS}
    row["gender"] = {"f": "female", "m": "male"}.get((row["gender"] or "").lower(), row["gender"])
    _check_times(row, place)
    if row["clip_id"] is None:
        start = row["start_seconds"]
        row["clip_id"] = f"{video or audio}" + ("" if start is None else f"@{start:g}")
    return row


def _rows_of_class_folders(folder: Path) -> list[Row]:
    files = [path for path in sorted(folder.rglob("*")) if _is_clip(path, folder)]
    parts = {path: path.relative_to(folder).parts for path in files}
    has_partitions = bool(files) and all(len(p) > 2 and p[0] in PARTITION_FOLDERS for p in parts.values())
    depth = 2 if has_partitions else 1
    stray = [path.name for path in files if len(parts[path]) <= depth]
    if not files or stray:
        found = f"{len(stray)} clips lie beside these ({', '.join(stray[:3])})" if stray else "there are no clips"
        raise ValueError(
            f"{folder} has no {', '.join(TABLE_NAMES[:-1])} or {TABLE_NAMES[-1]}, so clips have to lie in "
            f"sub-folders named after their emotions, but {found}. A table has the columns file_name and emotion."
        )
    _check_no_twins(files, folder)
    rows = []
    for path in files:
        row: Row = dict.fromkeys((*_NUMBER_COLUMNS, "crop_box", *_TEXT_COLUMNS))
        row["emotion"] = parts[path][depth - 1]
        row["partition"] = parts[path][0] if has_partitions else None
        has_picture = path.suffix.lower() in VIDEO_ENDINGS
        media = {"audio": str(path), "video": str(path) if has_picture else None}
        rows.append({"clip_id": "/".join(parts[path]), **media, **row})
    return rows


def _is_clip(path: Path, folder: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not is_hidden and has_media_ending(path) and path.is_file()


def _check_no_twins(files: list[Path], folder: Path) -> None:
    counts = Counter(path.with_suffix("") for path in files)
    twins = [path.relative_to(folder).as_posix() for path in files if counts[path.with_suffix("")] > 1]
    if twins:
        raise ValueError(
            f"{folder} has {len(twins)} files that share a name but for the ending ({', '.join(twins[:4])}): one clip, "
            "or several? A metadata.csv can say it: audio_file_name and video_file_name make one clip of two files."
        )


def _check_unique(rows: list[Row], source: Path) -> None:
    twice = [clip_id for clip_id, count in Counter(row["clip_id"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} has {len(twice)} clips more than once: {', '.join(twice[:3])}. Remove the repeated rows; "
            "parts of one recording have different start_seconds, or names of their own in a column clip_id."
        )


def _check_columns(cells: Row, table: Path) -> None:
    if "emotion" not in cells or not any(name in cells for name in _FILE_COLUMNS):
        raise ValueError(
            f"{table} has the columns {', '.join(cells)}; it needs emotion, and file_name (or audio_file_name and "
            "video_file_name)."
        )


def _check_times(row: Row, place: str) -> None:
    for column in ("start_seconds", "end_seconds", "audio_start_seconds"):
        if row[column] is not None and row[column] < 0:
            raise ValueError(f"{place}: {column} has to be 0 or more, got {row[column]:g}.")
    start, end = row["start_seconds"] or 0.0, row["end_seconds"]
    if end is not None and end <= start:
        raise ValueError(f"{place}: end_seconds has to lie behind start_seconds = {start:g}, got {end:g}.")


def _inside(name: str | None, place: str) -> str | None:
    """The name with slashes between its parts, however it was written; never one that leads out of the folder."""
    if name is None:
        return None
    path = os.path.normpath(name.replace("\\", "/")).replace("\\", "/")
    leads_out = path.startswith("/") or path.split("/")[0] == ".." or re.match(r"[A-Za-z]:", path) or "://" in name
    if leads_out or path == ".":
        raise ValueError(
            f"{place}: {name!r} is no file inside the folder. Names are relative to the folder of the table: move the "
            "clips, or the table, so that they lie in it or below."
        )
    return path


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value  # a column of whole numbers with gaps comes as floats
    return None if value is None else str(value).strip(" \t\r\n") or None  # not all that Unicode calls a space


def _number(value: Any, column: str, place: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        hint = " Decimals are written with a point." if "," in str(value) else ""
        raise ValueError(f"{place}: {column} has to be a number or empty, got {value!r}.{hint}")
    if math.isnan(number):
        return None
    # What the column can hold, so that a row is the same whether it comes through a file or not.
    return float(np.float32(number)) if column in _RATING_COLUMNS else number


def _box(value: Any, place: str) -> list[int] | None:
    if _text(value if not isinstance(value, (list, tuple)) else str(value)) is None:
        return None
    edges = value if isinstance(value, (list, tuple)) else re.split(r"[\s,]+", str(value).strip("[]() \t"))
    try:
        left, top, right, bottom = (int(edge) for edge in edges)
    except (TypeError, ValueError):
        left = top = right = bottom = 0
    if not (0 <= left < right and 0 <= top < bottom):
        raise ValueError(
            f"{place}: crop_box has to be `left top right bottom`, in whole pixels, "
            f"right and bottom behind left and top; got {value!r}."
        )
    return [left, top, right, bottom]


def _read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets on Windows write the mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8. A spreadsheet saves that as `CSV UTF-8`.") from error
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    header = [name.strip() for name in next(reader, [])]
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        separator = "semicolons" if ";" in header[0] else "tabs"
        raise ValueError(
            f"{path} has {separator} between its columns; it needs commas (and points in decimals). A spreadsheet asks "
            "for the separator when it saves a CSV."
        )
    if not header or len(set(header)) < len(header):
        raise ValueError(f"{path} has to begin with the names of its columns, each once; it has {', '.join(header)!r}.")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {reader.line_num}: has {len(cells)} cells, the header {len(header)}. A comma inside a "
                "cell needs quotes around it."
            )
        yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: is no JSON ({error}). Each line is one object.") from error
        if not isinstance(cells, dict):
            raise ValueError(f"{path}, line {number}: has to be an object, {{...}}; got {line.strip()[:40]!r}.")
        yield f"line {number}", cells


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file: {error}.") from error
    for number, cells in enumerate(rows):
        yield f"row {number}", cells
