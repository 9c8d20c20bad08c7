"""Reads a folder of clips without a table: one sub-folder for each class, which may be in folders of splits."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers.utils import logging

from ..foal_net.sources_foal_net import has_media_ending
from .file_names import has_video, is_utf8, printable
from .schema import FEATURES
from .split_names import as_splits, split_of


logger = logging.get_logger(__name__)

Row = dict[str, Any]


def read_class_folders(folder: Path, labels: Sequence[str] | None) -> tuple[list[Row], list[dict[str, str]]]:
    """The clips of a folder, and the files in it that are not clips.

    Links to folders are followed. Hidden files are ignored. See [`~foal_hf.corpora.folder_table.read_folder`].

    Args:
        folder (`pathlib.Path`): Absolute.
        labels (`Sequence[str]`, *optional*): The classes, if the user names them: a folder that is one of them is not a
            split, whatever its name.

    Returns:
        Rows, and `{"clip_id", "reason"}` of every skipped file.

    Raises:
        ValueError: If the class of a clip is not clear.
    """
    files, skipped = _list_files(folder)
    _report(skipped, folder)
    if not files:
        raise ValueError(f"{_expected(folder)}, but there are no clips.")
    splits = _find_splits(files, folder, labels)
    depth = 2 if splits else 1
    if stray := [printable("/".join(parts)) for parts in files if len(parts) <= depth]:
        raise ValueError(f"{_expected(folder)}, but {len(stray)} clips are outside these ({', '.join(stray[:3])}).")
    if unreadable := sorted({printable(parts[depth - 1]) for parts in files if not is_utf8(parts[depth - 1])}):
        raise ValueError(f"{folder}: the name of the class folder {unreadable[0]} is not UTF-8. Rename it.")
    _check_no_twins(files, folder)
    rows = []
    for parts, path in files.items():
        media = {"audio": path, "video": path if has_video(path) else None}
        partition = splits[parts[0]] if splits else None
        row = {"clip_id": "/".join(parts), **media, "emotion": parts[depth - 1], "partition": partition}
        rows.append({**dict.fromkeys(FEATURES), **row})
    return rows, skipped


def _expected(folder: Path) -> str:
    return (
        f"{folder} has no metadata.csv, metadata.jsonl or metadata.parquet (a table with the columns file_name and "
        "emotion), so the clips must be in folders named after their emotions"
    )


def _list_files(folder: Path) -> tuple[dict[tuple[str, ...], str], list[dict[str, str]]]:
    """The paths of clips by the parts of their names, and what was skipped."""
    files: dict[tuple[str, ...], str] = {}
    skipped: list[dict[str, str]] = []

    def skip(parts: tuple[str, ...], reason: str) -> None:
        skipped.append({"clip_id": printable("/".join(parts)), "reason": reason})

    def visit(path: str, parts: tuple[str, ...], above: frozenset[str]) -> None:
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            inner = (*parts, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                target = os.path.realpath(entry.path)
                if target in above:
                    skip(inner, "is a link to a folder that contains it")
                else:
                    visit(entry.path, inner, above | {target})
            elif has_media_ending(entry.name):
                files[inner] = entry.path  # also a link to nowhere, which is reported as a missing file
            else:
                skip(inner, "does not end like an audio or video file")

    visit(str(folder), (), frozenset({os.path.realpath(folder)}))
    return files, skipped


def _report(skipped: Sequence[dict[str, str]], folder: Path) -> None:
    for reason, count in Counter(entry["reason"] for entry in skipped).items():
        names = [entry["clip_id"] for entry in skipped if entry["reason"] == reason]
        more = f" and {count - 3} more" if count > 3 else ""
        logger.warning("%s: skipped, since the file or folder %s: %s%s.", folder, reason, ", ".join(names[:3]), more)


def _find_splits(
    files: dict[tuple[str, ...], str], folder: Path, labels: Sequence[str] | None
) -> dict[str, str] | None:
    """The split of each folder at the top, or None if these are the classes."""
    tops = {parts[0] for parts in files if len(parts) > 1}
    named = {top for top in tops if split_of(top)}
    if not named or (labels is not None and named <= set(labels)):
        return None
    classes = {top: {parts[1] for parts in files if parts[0] == top and len(parts) > 2} for top in tops}
    if not all(classes[top] for top in named):
        return None
    of_splits = set().union(*(classes[top] for top in named))
    for top in sorted(tops - named):
        if not classes[top] or not classes[top] <= of_splits:
            raise ValueError(
                f"{folder} has folders of splits ({', '.join(sorted(named))}), but {top!r} does not have the same "
                "class folders. Put it into a split if it is a class, or move it away."
            )
    return as_splits(tops, str(folder))


def _check_no_twins(files: dict[tuple[str, ...], str], folder: Path) -> None:
    stems = {parts: (*parts[:-1], os.path.splitext(parts[-1])[0]) for parts in files}
    counts = Counter(stems.values())
    twins = [printable("/".join(parts)) for parts, stem in stems.items() if counts[stem] > 1]
    if twins:
        raise ValueError(
            f"{folder} has {len(twins)} files that differ only in their endings ({', '.join(twins[:4])}): one clip, or "
            "several? A metadata.csv can tell: audio_file_name and video_file_name make one clip of two files."
        )
