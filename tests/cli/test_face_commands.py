"""`--faces` of the commands that prepare a corpus, train on it, and store its features."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from face_pictures import astronaut, drawn, film, scaled
from requirements import need
from tiny_models import tiny_model
from tiny_processors import tiny_processor

from foal_hf.cli import main
from foal_hf.data.features import FeatureStore


need("faces")
SQUARE = [145, 37, 307, 199]  # around the face of the photograph


def run(*words: object) -> int:
    return main([str(word) for word in words])


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for table in folder.glob("*.parquet") for row in pyarrow.parquet.read_table(table).to_pylist()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Two classes of one clip with a face each, and one clip without."""
    folder = tmp_path_factory.mktemp("corpus")
    small = scaled(astronaut(), 256, 256)
    for label, frames in (("happy", [astronaut()]), ("sad", [small]), ("none", [drawn(92, 124)])):
        (folder / "clips" / label.replace("none", "sad")).mkdir(parents=True, exist_ok=True)
        film(folder / "clips" / label.replace("none", "sad") / f"{label}.mp4", frames * 3)
    return ["--data-dir", folder / "clips", "--cache-dir", folder / "cache", "--quiet"]


def test_prepare_writes_the_box_of_every_clip_and_reports(
    corpus: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prepare", "folder", *corpus, "--faces", "--output", tmp_path) == 0
    printed = capsys.readouterr()
    assert "2 of 3 clips with video have a face" in printed.err and "1 without a face" in printed.err
    rows = {Path(row["video"]["path"]).stem: row for row in rows_of(tmp_path)}
    assert rows["happy"]["crop_box"] == pytest.approx(SQUARE, abs=4)
    assert rows["sad"]["crop_box"] == pytest.approx([edge / 2 for edge in SQUARE], abs=4)
    assert rows["none"]["crop_box"] == [0, 0, 124, 92]
    report = json.loads((tmp_path / "faces.json").read_text())
    assert (report["crop_margin"], report["num_with_face"], len(report["without_face"])) == (1.36, 2, 1)
    assert run("prepare", "folder", *corpus, "--faces", "--output", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["faces"] == report


def test_prepare_without_faces_leaves_the_boxes_as_they_are(corpus: list[object], tmp_path: Path) -> None:
    assert run("prepare", "folder", *corpus, "--output", tmp_path) == 0
    assert [row["crop_box"] for row in rows_of(tmp_path)] == [None] * 3
    assert not (tmp_path / "faces.json").exists()


@pytest.mark.parametrize("command", ["train", "cross-validate"])
def test_training_gets_the_boxes_and_a_processor_that_crops_faces(
    command: str, corpus: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def note(recipe: Any, rows: Any, *_: Any, **__: Any) -> None:
        calls.append((recipe.processor, sorted(rows["crop_box"], key=str)))
        raise KeyboardInterrupt

    monkeypatch.setattr("foal_hf.experiments.train_and_test", note)
    monkeypatch.setattr("foal_hf.experiments.cross_validate", note)
    monkeypatch.setattr("foal_hf.experiments.fold_of_splits", lambda splits, select: None)
    words = [command, "--corpus", "folder", *corpus, "--recipe", "tiny", "--output", tmp_path / "run"]
    assert run(*words, "--faces") == 130
    assert run(*words) == 130
    assert run(*words, "--faces", "--set", "crop_margin=1.8") == 130
    (processor, boxes), (plain, whole), (_, wider) = calls
    assert (processor["crop"], processor["crop_margin"]) == ("face", 1.36)
    assert boxes[1] == pytest.approx(SQUARE, abs=4)
    assert "crop" not in plain and whole == [None] * 3
    assert max(right - left for left, _, right, _ in wider[1:]) == pytest.approx(1.8 / 1.36 * 162, abs=4)


def test_features_of_faces_are_others_than_those_of_frames(corpus: list[object], tmp_path: Path) -> None:
    tiny_model(freeze_vision_encoder=True).save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    words = ["embed", "folder", *corpus, "--model", tmp_path / "checkpoint", "--output", tmp_path / "store"]
    assert run(*words) == 0 and len(FeatureStore(tmp_path / "store")) == 3
    assert run(*words, "--faces") == 0 and len(FeatureStore(tmp_path / "store")) == 6
    assert run(*words, "--faces") == 0 and len(FeatureStore(tmp_path / "store")) == 6
