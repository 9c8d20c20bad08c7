"""A file is the old one or the new one, whatever happens while it is written."""

import json
import os
import stat
from pathlib import Path

import pytest

from foal_hf.atomic_files import replacing, write_file, write_json


def test_a_failure_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("former")

    def write_half() -> None:
        with replacing(path) as partial:
            partial.write_text("half of")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_changes_once_the_content_is_on_the_disk_and_is_brought_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("folder on disk" if is_folder else "content on disk")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("renamed"), replace(*paths)))
    write_file(tmp_path / "new" / "folder" / "file.txt", "ä")
    assert steps == ["content on disk", "renamed", "folder on disk"]
    assert (tmp_path / "new" / "folder" / "file.txt").read_bytes() == "ä".encode()


def test_a_temporary_file_keeps_the_ending_and_lies_in_the_same_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "clip.mp4") as partial:
        assert (partial.parent, partial.suffix) == (tmp_path, ".mp4")
        partial.write_bytes(b"")


def test_json_is_written_with_its_letters(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"label": "愤怒", "score": 0.5})
    assert "愤怒" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"label": "愤怒", "score": 0.5}
