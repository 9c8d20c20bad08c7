"""Folders of features: columns of the table, and everything that can be wrong with a file, with the id of its clip."""

import csv
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_folders import AUDIO_WIDTH, VIDEO_WIDTH, make_feature_folder
from media_builders import make_clip

from foal_hf.corpora import FEATURES, load_corpus
from foal_hf.corpora.feature_files import feature_widths
from foal_hf.corpora.report import inspect_corpus
from foal_hf.corpora.schema import undecoded


ONE_SPLIT = {"validation_fraction": 0.0, "test_fraction": 0.0}


def load(folder: Path, cache: Path, **options: Any) -> Any:
    return undecoded(load_corpus("folder", folder, cache_dir=cache, **ONE_SPLIT, **options))


def write_table(folder: Path, *rows: dict[str, str]) -> None:
    names = list({name: None for row in rows for name in row})
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_feature_folder(tmp_path / "clips")


def test_columns_of_features_are_paths_and_only_there_where_the_table_has_them(folder: Path, tmp_path: Path) -> None:
    corpus = load(folder, tmp_path)
    assert list(corpus.features) == [*FEATURES, "audio_features_file", "video_features_file"]
    row = corpus[0]
    assert row["clip_id"] == "s0-0-video.npy" and row["audio"] is None and row["video"] is None
    assert row["audio_features_file"] == str(folder / "s0-0-audio.npy")
    assert feature_widths(corpus) == {"audio": AUDIO_WIDTH, "video": VIDEO_WIDTH}
    write_table(folder, {"video_features_file": "s0-0-video.npy", "audio_features_file": "", "emotion": "sad"})
    corpus = load(folder, tmp_path)
    assert list(corpus.features) == [*FEATURES, "video_features_file"]
    assert feature_widths(corpus) == {"video": VIDEO_WIDTH}


def test_features_take_the_place_of_one_side_of_a_file(folder: Path, tmp_path: Path) -> None:
    make_clip(folder / "both.mp4")
    write_table(folder, {"file_name": "both.mp4", "video_features_file": "s0-0-video.npy", "emotion": "sad"})
    (row,) = load(folder, tmp_path)
    assert row["audio"]["path"] == str(folder / "both.mp4") and row["video"] is None
    assert row["clip_id"] == "both.mp4"
    clash = {"video_file_name": "both.mp4", "video_features_file": "s0-0-video.npy", "emotion": "sad"}
    write_table(folder, clash)
    with pytest.raises(ValueError, match="line 2: give either `video_file_name` or `video_features_file`, not both"):
        load(folder, tmp_path)


def test_a_change_of_a_file_is_noticed(folder: Path, tmp_path: Path) -> None:
    before = load(folder, tmp_path)
    np.save(folder / "s0-0-audio.npy", np.ones((31, AUDIO_WIDTH), dtype=np.float32))
    assert load(folder, tmp_path).cache_files != before.cache_files


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 19), np.float32), "video_features_file is 19 wide, those of 23 other clips 20"),
        (np.full((3, 20), np.nan, np.float32), r"has NaN or infinite values at 3 of 3 positions"),
        (np.ones((0, 20), np.float32), r"is empty: its shape is \(0, 20\)"),
        (np.ones((1, 3, 20), np.float32), r"has the shape \(1, 3, 20\)"),
        (np.ones((3, 20), np.int32), "type int32"),
    ],
    ids=["width", "nan", "empty", "rank", "integers"],
)
def test_bad_features_are_one_error_with_the_id_of_the_clip_or_skipped(array, message, folder, tmp_path) -> None:
    np.save(folder / "s3-2-video.npy", array)
    with pytest.raises(ValueError, match=rf"1 of 24 clips cannot be read: s3-2-video\.npy: .*{message}"):
        load(folder, tmp_path)
    report = inspect_corpus("folder", folder, cache_dir=tmp_path, progress=False, **ONE_SPLIT)
    assert [entry["clip_id"] for entry in report.skipped] == ["s3-2-video.npy"]
    assert report.features["video"] == {"clips": 23, "width": VIDEO_WIDTH}


def test_a_pickle_in_the_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "proof"),)

    (folder / "s3-2-video.npy").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"s3-2-video\.npy: .*Pickled objects are never loaded"):
        load(folder, tmp_path)
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["../outside.npy", "/etc/passwd", "http://example.org/a.npy"])
def test_features_outside_of_the_folder_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    write_table(folder, {"audio_features_file": name, "emotion": "sad"})
    with pytest.raises(ValueError, match="is not a file inside the folder"):
        load(folder, tmp_path)


def test_a_misspelt_column_of_features_is_refused(folder: Path, tmp_path: Path) -> None:
    write_table(folder, {"audio_feature_file": "s0-0-audio.npy", "emotion": "sad"})
    with pytest.raises(ValueError, match=r"audio_feature_file \(did you mean audio_features_file\?\)"):
        load(folder, tmp_path)


def test_a_side_that_is_features_in_some_clips_and_media_in_others_is_refused(folder: Path, tmp_path: Path) -> None:
    make_clip(folder / "both.mp4")
    write_table(
        folder,
        {"file_name": "both.mp4", "video_features_file": "", "emotion": "sad"},
        {"file_name": "", "video_features_file": "s0-0-video.npy", "emotion": "sad"},
    )
    with pytest.raises(ValueError, match="1 clips have video features and 1 have video that is not"):
        feature_widths(load(folder, tmp_path))


def test_the_report_counts_features(folder: Path, tmp_path: Path) -> None:
    report = inspect_corpus("folder", folder, cache_dir=tmp_path, progress=False)
    assert report.as_dict()["features"] == {
        "audio": {"clips": 24, "width": AUDIO_WIDTH},
        "video": {"clips": 24, "width": VIDEO_WIDTH},
    }
    assert report.missing == [] and report.skipped == []
    assert "24 clips have audio features of width 28 instead of audio." in report.render()
