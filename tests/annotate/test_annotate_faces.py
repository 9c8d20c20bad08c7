"""Archives annotated by a checkpoint that was trained on faces."""

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from face_pictures import astronaut, drawn, film
from requirements import need
from tiny_models import tiny_model
from tiny_processors import tiny_processor

from foal_hf.annotate import annotate
from foal_hf.cli import main
from foal_hf.foal_net.faces_foal_net import NO_FACE, TURNED_OFF


need("faces")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor(crop="face").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    film(folder / "astronaut.mp4", [astronaut()] * 5)
    film(folder / "nobody.mp4", [drawn(92, 124)] * 5)
    return folder


def test_the_table_tells_of_faces(checkpoint: Path, archive: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": checkpoint, "num_workers": 1, "progress": False, "device": "cpu"}
    summary = annotate(archive, tmp_path / "results.parquet", **settings)
    found, missing = pyarrow.parquet.read_table(summary.results).to_pylist()
    assert (found["video_crop"], found["video_frames"], found["video_frames_with_face"]) == ("face", 5, 5)
    assert found["video_face_box"] == pytest.approx([182, 58, 270, 178], abs=5)
    assert (missing["video_crop"], missing["video_frames_with_face"], missing["video_face_box"]) == ("frame", 0, None)
    assert [row["notes"] for row in pyarrow.parquet.read_table(summary.manifest).to_pylist()] == [None, NO_FACE]
    with pytest.raises(ValueError, match=r"faces was found and is now .*'off'"):
        annotate(archive, tmp_path / "results.parquet", faces="off", **settings)
    whole = annotate(archive, tmp_path / "whole.parquet", faces="off", window_seconds=1.0, **settings)
    for row in pyarrow.parquet.read_table(whole.results).to_pylist():
        assert row["video_crop"] == "frame" and TURNED_OFF in row["notes"]
    with pytest.raises(ValueError, match="Unknown `faces` 'all'"):
        annotate(archive, tmp_path / "more.parquet", faces="all", **settings)


def test_the_command_prints_faces_as_columns(
    checkpoint: Path, archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", *map(str, sorted(archive.glob("*.mp4"))), "--model", str(checkpoint), "--csv", "--quiet"]
    assert main([*command, "--window-seconds", "1", "--device", "cpu"]) == 0
    first, *_, last = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["video_crop"], first["video_frames_with_face"]) == ("face", first["video_frames"])
    assert len(first["video_face_box"].split()) == 4
    assert (last["video_crop"], last["video_frames_with_face"], last["video_face_box"]) == ("frame", "0", "")
    assert main([*command, "--faces", "off", "--device", "cpu"]) == 0
    assert {row["video_crop"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == {"frame"}
