"""Reads the clips of a folder from its table, or from its class folders."""

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers.utils import logging

from ..foal_net.features_foal_net import FEATURE_FILES
from .class_folders import Row, read_class_folders
from .file_names import has_video
from .schema import FEATURES, find_misspelt
from .split_names import as_splits


logger = logging.get_logger(__name__)

TABLE_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

_TEXT_COLUMNS = ("speaker", "session", "gender", "emotion", "transcript", "partition")
_RATING_COLUMNS = ("valence", "activation", "dominance")
_NUMBER_COLUMNS = ("start_seconds", "end_seconds", "audio_start_seconds", *_RATING_COLUMNS)
_FILE_COLUMNS = ("file_name", "audio_file_name", "video_file_name")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_UNUSED_COLUMNS = ("seconds",)  # of generated corpora


def read_folder(
    folder: str | os.PathLike[str], labels: Sequence[str] | None = None
) -> tuple[list[Row], list[dict[str, str]]]:
    """Read the clips of a folder.

    The folder has `metadata.csv`, `metadata.jsonl` or `metadata.parquet`, or one sub-folder for each class. The class
    folders may be in folders of splits: train, validation and test, in any case and with the usual synonyms. Files in
    class folders are clips if their ending is one of audio or video; the others are reported. Names that begin with a
    dot are ignored.

    Args:
        folder (`str` or `os.PathLike`): The folder.
        labels (`Sequence[str]`, *optional*): The classes, if the user names them: a folder that is one of them is not a
            split, whatever its name.

    Returns:
        Rows with the columns of the schema (`emotion` by name or None, files as absolute paths or None; those of
        features only if the table has some), sorted by `clip_id`: the column of that name, or else the name of the file
        in the folder, with the start if it has one, as in `talks/one.mp4@12.5`. And `{"clip_id", "reason"}` of every
        skipped file.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If the folder has neither layout, or a row of the table is invalid: then the message says where.
    """
    folder = Path(os.path.abspath(folder))
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Give the folder with the clips and their table.")
    tables = [folder / name for name in TABLE_NAMES if (folder / name).is_file()]
    if len(tables) > 1:
        names = " and ".join(table.name for table in tables)
        raise ValueError(f"{folder} has {names}, and it is not clear which one to read. Remove the others.")
    rows, skipped = (_rows_of_table(tables[0]), []) if tables else read_class_folders(folder, labels)
    _check_unique(rows, tables[0] if tables else folder)
    return sorted(rows, key=lambda row: row["clip_id"]), skipped


def _rows_of_table(table: Path) -> list[Row]:
    read = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}[table.suffix]
    cells_of = dict(read(table))
    if not cells_of:
        raise ValueError(f"{table} has no rows.")
    _check_columns({column: None for cells in cells_of.values() for column in cells}, table)
    rows = [_to_row(cells, table.parent, f"{table}, {where}") for where, cells in cells_of.items()]
    unused = [name for name in FEATURE_FILES if all(row[name] is None for row in rows)]
    rows = [{name: value for name, value in row.items() if name not in unused} for row in rows]
    splits = as_splits({row["partition"] for row in rows} - {None}, f"{table}, partition")
    return [{**row, "partition": splits.get(row["partition"])} for row in rows]


def _to_row(cells: Row, folder: Path, place: str) -> Row:
    names = {column: _text(cells.get(column)) for column in _FILE_COLUMNS}
    file_name, audio_name, video_name = names.values()
    if file_name is not None and (audio_name or video_name):
        raise ValueError(f"{place}: give either `file_name`, or `audio_file_name` and `video_file_name`, not both.")
    features = {column: _inside(_text(cells.get(column)), place) for column in FEATURE_FILES}
    audio_features, video_features = features.values()
    if not any((*names.values(), *features.values())):
        raise ValueError(f"{place}: no file name.")
    for side, name in (("audio", audio_name), ("video", video_name)):
        if name is not None and features[f"{side}_features_file"] is not None:
            raise ValueError(f"{place}: give either `{side}_file_name` or `{side}_features_file`, not both.")
    if file_name is not None:  # features take the place of what the file has
        audio_name = file_name if audio_features is None else None
        video_name = file_name if video_features is None and has_video(str(folder / file_name)) else None
    audio, video = (_inside(name, place) for name in (audio_name, video_name))

    row: Row = {**dict.fromkeys(FEATURES), "clip_id": _text(cells.get("clip_id"))}
    row["audio"], row["video"] = (None if name is None else str(folder / name) for name in (audio, video))
    row |= {column: None if name is None else str(folder / name) for column, name in features.items()}
    row |= {column: _number(cells.get(column), column, place) for column in _NUMBER_COLUMNS}
    row["crop_box"] = _box(cells.get("crop_box"), place)
    row |= {column: _text(cells.get(column)) for column in _TEXT_COLUMNS}
    row["gender"] = {"f": "female", "m": "male"}.get((row["gender"] or "").lower(), row["gender"])
    _check_times(row, place)
    if row["clip_id"] is None:
        start = row["start_seconds"]
        name = video or audio or video_features or audio_features
        row["clip_id"] = f"{name}" + ("" if start is None else f"@{start:g}")
    return row


def _check_unique(rows: list[Row], source: Path) -> None:
    twice = [clip_id for clip_id, count in Counter(row["clip_id"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} has {len(twice)} clips more than once: {', '.join(twice[:3])}. Remove the repeated rows. "
            "Parts of one recording need different start_seconds, or a name in the column clip_id."
        )


def _check_columns(columns: Iterable[str], table: Path) -> None:
    own = [name for name in FEATURES if name not in ("audio", "video")]
    known = [*own, *_FILE_COLUMNS, *FEATURE_FILES, *_UNUSED_COLUMNS]
    if misspelt := find_misspelt(columns, known):
        guesses = ", ".join(f"{name} (did you mean {guess}?)" for name, guess in misspelt.items())
        raise ValueError(f"{table} has unknown columns: {guesses}. Rename or remove them.")
    if "emotion" not in columns or not any(name in columns for name in (*_FILE_COLUMNS, *FEATURE_FILES)):
        raise ValueError(
            f"{table} has the columns {', '.join(columns)}; it needs emotion, and file_name (or audio_file_name and "
            "video_file_name; for features audio_features_file and video_features_file)."
        )
    if unused := [name for name in columns if name not in known]:
        logger.warning("%s: the columns %s are unknown and not used.", table, ", ".join(unused))


def _check_times(row: Row, place: str) -> None:
    for column in ("start_seconds", "end_seconds", "audio_start_seconds"):
        if row[column] is not None and row[column] < 0:
            raise ValueError(f"{place}: {column} must be 0 or more, got {row[column]:g}.")
    start, end = row["start_seconds"] or 0.0, row["end_seconds"]
    if end is not None and end <= start:
        raise ValueError(f"{place}: end_seconds must be after start_seconds = {start:g}, got {end:g}.")


def _inside(name: str | None, place: str) -> str | None:
    """The name with slashes between its parts. It must not lead out of the folder."""
    if name is None:
        return None
    path = os.path.normpath(name.replace("\\", "/")).replace("\\", "/")
    leads_out = (
        "\0" in name
        or path.startswith("/")
        or path.split("/")[0] == ".."
        or re.match(r"[A-Za-z]:", path)
        or "://" in name
    )
    if leads_out or path == ".":
        raise ValueError(
            f"{place}: {name!r} is not a file inside the folder. Names are relative to the folder of the table: move "
            "the clips into it, or the table above them."
        )
    return path


def _text(value: Any) -> str | None:
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else value  # whole numbers with gaps are read as floats
    return None if value is None else str(value).strip(" \t\r\n") or None  # only these; Unicode has other spaces


def _number(value: Any, column: str, place: str) -> float | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isinf(number):
        hint = " Write decimals with a point." if "," in str(value) else ""
        raise ValueError(f"{place}: {column} must be a number or empty, got {value!r}.{hint}")
    if math.isnan(number):
        return None
    # In the precision of the column, so that streamed rows equal prepared ones.
    return float(np.float32(number)) if column in _RATING_COLUMNS else number


def _box(value: Any, place: str) -> list[int] | None:
    if _text(value if not isinstance(value, (list, tuple)) else str(value)) is None:
        return None
    edges = value if isinstance(value, (list, tuple)) else re.split(r"[\s,]+", str(value).strip("[]() \t"))
    try:
        left, top, right, bottom = (int(edge) for edge in edges)
    except (TypeError, ValueError):
        left = top = right = bottom = 0
    is_square = right - left == bottom - top  # may leave the frame, as those around faces do
    if not (left < right and top < bottom and (min(left, top) >= 0 or is_square)):
        raise ValueError(
            f"{place}: crop_box must be `left top right bottom` in whole pixels, with left < right and top < bottom, "
            f"and inside of the frame unless it is a square; got {value!r}."
        )
    return [left, top, right, bottom]


def _read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets on Windows write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8. A spreadsheet saves that as `CSV UTF-8`.") from error
    try:
        yield from _csv_rows(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True), path)
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV table: {error}.") from error


def _csv_rows(reader: Any, path: Path) -> Iterator[tuple[str, Row]]:
    header = [name.strip() for name in next(reader, [])]
    check_separator(header, ",", path)
    if not header or len(set(header)) < len(header):
        raise ValueError(f"{path} must begin with the names of its columns, each once; got {', '.join(header)!r}.")
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {reader.line_num}: {len(cells)} cells, but the header has {len(header)}. Put a cell "
                "with a comma into quotes."
            )
        yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))


def check_separator(header: list[str], separator: str, path: Path) -> None:
    """Raise `ValueError` if the columns of a table have another separator between them.

    Args:
        header (`list[str]`): The columns, as they are with the expected separator.
        separator (`str`): The expected one, a key of `_SEPARATORS`.
        path (`Path`): Of the table.
    """
    for other, name in _SEPARATORS.items():
        if len(header) == 1 and other in header[0] and other != separator:
            raise ValueError(
                f"{path} has {name} between its columns; it needs {_SEPARATORS[separator]}, and points in decimals. "
                "Choose the separator when you save the table."
            )


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
            json.dumps(cells, ensure_ascii=False).encode()  # an escape such as \ud800 alone is not text
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error}). Each line must be one object.") from error
        if not isinstance(cells, dict):
            raise ValueError(f"{path}, line {number}: must be an object, {{...}}; got {line.strip()[:40]!r}.")
        yield f"line {number}", cells


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file: {error}.") from error
    for number, cells in enumerate(rows):
        yield f"row {number}", cells
