"""A folder of clips as a corpus: tables, class folders, splits, and everything that can be wrong with them."""

import csv
import json
import logging
import math
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from loopback_hub import LoopbackHub
from media_builders import loudest_hertz, make_clip

from foal_hf.corpora import FEATURES, load_corpus, make_builder
from foal_hf.corpora.folder_table import read_folder
from foal_hf.corpora.schema import undecoded


HEADERS = {
    ".mp4": b"\0\0\0\x20ftypisom",
    ".wav": b"RIFF\x24\0\0\0WAVE",
    ".mkv": b"\x1a\x45\xdf\xa3",
}  # enough to look like one


def touch(folder: Path, *names: str) -> None:
    """Write files that begin like media and end there."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(HEADERS[Path(name).suffix])


def write_table(folder: Path, rows: Sequence[dict[str, Any]], kind: str = "csv") -> Path:
    """Write the table of a folder, and stubs for the clips that it names."""
    touch(folder, *(value for row in rows for key, value in row.items() if key.endswith("file_name") and value))
    path = folder / f"metadata.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        Dataset.from_list(list(rows)).to_parquet(path)
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:  # with the mark, as spreadsheets write it
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(folder: Path, cache: Path, split: str | None = "train", **options: Any) -> Any:
    return load_corpus("folder", folder, split=split, cache_dir=cache, **options)


def rows_of(dataset: Any) -> list[dict[str, Any]]:
    return list(undecoded(dataset))


def speakers_table(num_speakers: int = 11, clips_of_each: int = 6) -> list[dict[str, Any]]:
    emotions = ["angry", "happy", "sad"]
    return [
        {"file_name": f"s{speaker:02d}/{clip}.mp4", "emotion": emotions[clip % 3], "speaker": f"s{speaker:02d}"}
        for speaker in range(num_speakers)
        for clip in range(clips_of_each)
    ]


ONE_SPLIT = {"validation_fraction": 0.0, "test_fraction": 0.0}
ROWS = [
    {
        "file_name": "b/two.mp4",
        "emotion": "sad",
        "speaker": "7",
        "gender": "F",
        "valence": 1.5,
        "transcript": "Oh, no.",
    },
    {
        "file_name": "one.wav",
        "emotion": "happy",
        "speaker": "12",
        "gender": "male",
        "valence": None,
        "transcript": None,
    },
    {
        "file_name": "a/three.mp4",
        "emotion": "angry",
        "speaker": "7",
        "gender": "F",
        "valence": 2.25,
        "transcript": None,
    },
]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_kind_of_table_gives_the_same_rows_in_the_order_of_their_ids(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    write_table(folder, ROWS, kind)
    corpus = load(folder, tmp_path / "cache", **ONE_SPLIT)
    assert list(corpus.features) == list(FEATURES)
    assert corpus.features["emotion"].names == ["angry", "happy", "sad"]
    assert {**corpus.features, "emotion": None} == {**FEATURES, "emotion": None}
    rows = rows_of(corpus)
    assert [row["clip_id"] for row in rows] == ["a/three.mp4", "b/two.mp4", "one.wav"]
    assert [row["emotion"] for row in rows] == [0, 2, 1]
    assert [row["valence"] for row in rows] == [2.25, 1.5, None]
    assert [row["transcript"] for row in rows] == [None, "Oh, no.", None]
    assert [row["speaker"] for row in rows] == ["7", "7", "12"]
    assert [row["gender"] for row in rows] == ["female", "female", "male"]
    assert rows[1]["audio"] == rows[1]["video"] == {"path": str(folder / "b/two.mp4"), "bytes": None}
    assert rows[2]["audio"]["path"] == str(folder / "one.wav") and rows[2]["video"] is None
    empty = ("start_seconds", "end_seconds", "crop_box", "session", "activation", "dominance", "partition")
    assert {row[name] for row in rows for name in empty} == {None}


def test_rows_decode_to_the_sound_and_picture_of_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for name, hertz in (("low", 311), ("high", 1217)):
        folder.mkdir(exist_ok=True)
        make_clip(folder / f"{name}.mp4", audio=f"sine={hertz}:r=16000:d=0.5", video="color=c=red:s=46x34:r=25:d=0.5")
    (folder / "metadata.csv").write_text("file_name,emotion\nlow.mp4,sad\nhigh.mp4,happy\n")
    high, low = load(folder, tmp_path / "cache", **ONE_SPLIT)
    for row, hertz in ((low, 311), (high, 1217)):
        samples = row["audio"].get_all_samples()
        assert samples.sample_rate == 16_000
        assert loudest_hertz(samples.data.mean(0), 16_000) == pytest.approx(hertz, abs=3)
        red, green, blue = row["video"][0].float().mean((1, 2))
        assert red > 200 and green < 40 and blue < 40


def test_a_folder_goes_to_a_private_repository_with_its_media_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    for emotion, hertz in (("sad", 311), ("happy", 1217)):
        (folder / emotion).mkdir(parents=True)
        make_clip(
            folder / emotion / "a.mp4", audio=f"sine={hertz}:r=16000:d=0.5", video="color=c=red:s=46x34:r=25:d=0.5"
        )
    code = f"""
import datasets
from foal_hf.corpora import load_corpus
from foal_hf.corpora.folder_table import read_folder
from foal_hf.corpora.schema import undecoded

datasets.disable_progress_bars()
corpus = load_corpus("folder", {str(folder)!r}, validation_fraction=0.0, test_fraction=0.0)
corpus.push_to_hub("org/clips", private=True)
again = datasets.load_dataset("org/clips", split="train")
assert again.features == corpus.features, again.features
print(again["clip_id"][:], again[0]["audio"].get_all_samples().sample_rate, again[1]["video"][0].shape)
print(undecoded(again)[0]["audio"]["path"])
"""
    with LoopbackHub() as hub:
        finished = subprocess.run(
            [sys.executable, "-c", code],
            env={**hub.environment(tmp_path / "home"), "HF_DATASETS_CACHE": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        repository = hub.repositories["dataset", "org/clips"]
        _, files = repository.at("main")
    assert finished.stdout == "['happy/a.mp4', 'sad/a.mp4'] 16000 torch.Size([3, 34, 46])\na.mp4\n"
    assert repository.private
    assert str(tmp_path).encode() not in files["README.md"]


def test_sound_and_picture_may_lie_in_files_of_their_own(tmp_path: Path) -> None:
    rows = [
        {"audio_file_name": "s/1.wav", "video_file_name": "v/1.mkv", "emotion": "sad"},
        {"audio_file_name": "", "video_file_name": "v/2.mkv", "emotion": "sad"},
        {"audio_file_name": "s/3.wav", "video_file_name": "", "emotion": "happy"},
    ]
    write_table(tmp_path / "clips", rows)
    found = rows_of(load(tmp_path / "clips", tmp_path / "cache", **ONE_SPLIT))
    names = [[row[name] and Path(row[name]["path"]).name for name in ("audio", "video")] for row in found]
    assert names == [["3.wav", None], ["1.wav", "1.mkv"], [None, "2.mkv"]]
    assert [row["clip_id"] for row in found] == ["s/3.wav", "v/1.mkv", "v/2.mkv"]


def test_parts_of_one_recording_are_clips(tmp_path: Path) -> None:
    rows = [
        {"file_name": "talk.mp4", "emotion": "sad", "start_seconds": 1.5, "end_seconds": 3, "crop_box": "0 10 320 240"},
        {
            "file_name": "talk.mp4",
            "emotion": "happy",
            "start_seconds": 0.1,
            "end_seconds": "",
            "crop_box": "[4, 0, 9, 5]",
        },
    ]
    write_table(tmp_path / "clips", rows)
    first, second = rows_of(load(tmp_path / "clips", tmp_path / "cache", **ONE_SPLIT))
    assert (first["clip_id"], first["start_seconds"], first["end_seconds"]) == ("talk.mp4@0.1", 0.1, None)
    assert (second["clip_id"], second["start_seconds"], second["end_seconds"]) == ("talk.mp4@1.5", 1.5, 3.0)
    assert first["crop_box"] == [4, 0, 9, 5] and second["crop_box"] == [0, 10, 320, 240]


def test_sub_folders_name_the_classes_where_there_is_no_table(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder, "happy/b.mp4", "happy/deep/a.wav", "sad/c.mp4", "sad/._c.mp4", ".cache/x/d.mp4")
    (folder / "notes.txt").write_text("not a clip")
    corpus = load(folder, tmp_path / "cache", **ONE_SPLIT)
    rows = rows_of(corpus)
    assert [row["clip_id"] for row in rows] == ["happy/b.mp4", "happy/deep/a.wav", "sad/c.mp4"]
    assert [corpus.features["emotion"].names[row["emotion"]] for row in rows] == ["happy", "happy", "sad"]
    assert [row["video"] is None for row in rows] == [False, True, False]


def test_folders_named_after_splits_hold_the_folders_of_the_classes(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder, "train/happy/a.mp4", "train/sad/b.mp4", "test/happy/c.mp4", "dev/sad/d.mp4")
    corpus = load(folder, tmp_path / "cache", split=None)
    assert {name: part["clip_id"][:] for name, part in corpus.items()} == {
        "train": ["train/happy/a.mp4", "train/sad/b.mp4"],
        "test": ["test/happy/c.mp4"],
        "validation": ["dev/sad/d.mp4"],
    }
    assert corpus["test"].features["emotion"].names == ["happy", "sad"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Train", "Val", "Test"), ("train", "validation", "test")),
        (("training", "DEV", "testing"), ("train", "validation", "test")),
        (("TRAIN", "valid", "eval"), ("train", "validation", "test")),
        (("train", "test", "extra"), ("train", "test", "extra")),
    ],
)
def test_splits_are_known_in_any_case_and_by_their_synonyms(
    names: tuple[str, ...], splits: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    touch(folder, *(f"{name}/{emotion}/{name}.mp4" for name in names for emotion in ("happy", "sad")))
    with caplog.at_level(logging.WARNING):
        corpus = load(folder, tmp_path / "cache", split=None)
    assert {split: part["clip_id"][:] for split, part in corpus.items()} == {
        split: [f"{name}/happy/{name}.mp4", f"{name}/sad/{name}.mp4"] for name, split in zip(names, splits, strict=True)
    }
    assert corpus["test"].features["emotion"].names == ["happy", "sad"]
    for name, split in zip(names, splits, strict=True):
        assert (f"{name} as {split}" in caplog.text) == (name != split)
    assert ("extra: not a usual name of a split" in caplog.text) == ("extra" in names)


def test_splits_of_a_table_are_known_in_any_case_and_by_their_synonyms(tmp_path: Path) -> None:
    parts = ["Training", "training", "VAL", "Eval", "held_out"]
    write_table(
        tmp_path / "clips", [{"file_name": f"{n}.mp4", "emotion": "sad", "partition": p} for n, p in enumerate(parts)]
    )
    corpus = load(tmp_path / "clips", tmp_path / "cache", split=None)
    assert {split: part["clip_id"][:] for split, part in corpus.items()} == {
        "train": ["0.mp4", "1.mp4"],
        "validation": ["2.mp4"],
        "test": ["3.mp4"],
        "held_out": ["4.mp4"],
    }
    assert set(corpus["validation"]["partition"]) == {"validation"}


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/sad/a.mp4", "dev/sad/b.mp4", "val/sad/c.mp4")
    with pytest.raises(ValueError, match="dev and val both mean the split validation"):
        make_builder("folder", tmp_path)


def test_the_name_of_a_split_is_a_class_only_if_the_user_lists_it(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder, "happy/a.mp4", "Test/b.mp4")
    with pytest.raises(ValueError, match="Test: the name of a split, not of an emotion"):
        make_builder("folder", folder)
    corpus = load(folder, tmp_path / "cache", labels=["happy", "Test"], **ONE_SPLIT)
    assert dict(zip(corpus["clip_id"], corpus["emotion"], strict=True)) == {"happy/a.mp4": 0, "Test/b.mp4": 1}
    touch(tmp_path / "deep", "happy/ann/a.mp4", "test/ben/b.mp4")
    corpus = load(tmp_path / "deep", tmp_path / "cache", labels=["happy", "test"], **ONE_SPLIT)
    assert dict(zip(corpus["clip_id"], corpus["emotion"], strict=True)) == {"happy/ann/a.mp4": 0, "test/ben/b.mp4": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/sad/a.mp4", "happy/b.mp4"), "'happy' does not have the same class folders"),
        (("train/sad/a.mp4", "backup/old/b.mp4"), "'backup' does not have the same class folders"),
        (("train/sad/a.mp4", "test/sad/b.mp4", "test/c.mp4"), r"1 clips are outside these \(test/c.mp4\)"),
        (("train/sad/a.mp4", "more clips/sad/b.mp4"), "'more clips' cannot name a split"),
    ],
)
def test_a_mixture_of_splits_and_other_folders_is_refused(files: tuple[str, ...], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        make_builder("folder", tmp_path)


def test_links_to_class_folders_are_followed_and_loops_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    touch(tmp_path / "elsewhere", "a.mp4", "deep/b.mp4")
    touch(folder, "sad/c.mp4")
    (folder / "happy").symlink_to(tmp_path / "elsewhere")
    (folder / "sad" / "again").symlink_to(folder)
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.WARNING):
        corpus = load(folder, tmp_path / "cache", **ONE_SPLIT)
    assert corpus["clip_id"][:] == ["happy/a.mp4", "happy/deep/b.mp4", "sad/c.mp4"]
    assert [corpus.features["emotion"].int2str(index) for index in corpus["emotion"]] == ["happy", "happy", "sad"]
    skipped = make_builder("folder", folder, **ONE_SPLIT).skipped
    assert [entry["clip_id"] for entry in skipped] == ["happy/deep/back", "sad/again"]
    assert "a link to a folder that contains it: happy/deep/back, sad/again" in caplog.text


def test_a_link_to_a_file_that_is_gone_is_a_missing_file(tmp_path: Path) -> None:
    touch(tmp_path, "sad/a.mp4")
    (tmp_path / "sad" / "b.mp4").symlink_to(tmp_path / "nowhere.mp4")
    with pytest.raises(ValueError, match=r"1 of 2 clips cannot be read: sad/b.mp4: .*no such file"):
        make_builder("folder", tmp_path)


@pytest.mark.parametrize("ending", [".m2ts", ".ogv", ".m4b", ".caf", ".mka", ".MXF"])
def test_every_ending_of_media_counts_in_class_folders(ending: str, tmp_path: Path) -> None:
    touch(tmp_path, "sad/a.mp4")
    (tmp_path / "sad" / f"b{ending}").write_bytes(HEADERS[".mkv"])
    rows, skipped = read_folder(tmp_path)
    assert [row["clip_id"] for row in rows] == ["sad/a.mp4", f"sad/b{ending}"] and skipped == []
    assert (rows[1]["video"] is None) == (ending in (".m4b", ".caf", ".mka"))


def test_what_is_no_clip_in_class_folders_is_counted_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    touch(folder, "sad/a.mp4", "happy/b.mp4")
    for name in ("sad/notes.txt", "sad/a.srt", "read me", ".hidden"):
        (folder / name).write_text("text")
    with caplog.at_level(logging.WARNING):
        builder = make_builder("folder", folder, **ONE_SPLIT)
    names = ["read me", "sad/a.srt", "sad/notes.txt"]
    reason = "does not end like an audio or video file"
    assert builder.skipped == [{"clip_id": name, "reason": reason} for name in names]
    assert caplog.text.count(f"{reason}: {', '.join(names)}") == 1


def test_a_file_without_a_known_ending_has_the_streams_that_are_in_it(tmp_path: Path) -> None:
    make_clip(tmp_path / "film.mp4")
    make_clip(tmp_path / "voice.wav", video=None)
    (tmp_path / "film.mp4").rename(tmp_path / "film.dat")
    (tmp_path / "voice.wav").rename(tmp_path / "voice.dat")
    (tmp_path / "metadata.csv").write_text("file_name,emotion\nfilm.dat,sad\nvoice.dat,sad\n")
    rows, _ = read_folder(tmp_path)
    assert [(row["audio"] is None, row["video"] is None) for row in rows] == [(False, False), (False, True)]


def test_a_file_name_that_is_not_utf_8_is_an_error_or_a_skipped_clip(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    touch(folder, "sad/a.mp4")
    (folder / "sad" / os.fsdecode(b"tr\xe4ge.mp4")).write_bytes(HEADERS[".mp4"])
    with pytest.raises(ValueError, match=r"1 of 2 clips cannot be read: sad/tr\\udce4ge.mp4: .* not UTF-8; rename it"):
        make_builder("folder", folder)
    assert load(folder, tmp_path / "cache", on_error="skip", **ONE_SPLIT)["clip_id"][:] == ["sad/a.mp4"]
    (entry,) = make_builder("folder", folder, on_error="skip", **ONE_SPLIT).skipped
    assert entry["clip_id"] == "sad/tr\\udce4ge.mp4"
    (folder / os.fsdecode(b"b\xf6se")).mkdir()
    (folder / os.fsdecode(b"b\xf6se") / "b.mp4").write_bytes(HEADERS[".mp4"])
    with pytest.raises(ValueError, match=r"the name of the class folder b\\udcf6se is not UTF-8"):
        make_builder("folder", folder, on_error="skip")


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("strat_seconds", "start_seconds"),
        ("End Seconds", "end_seconds"),
        ("Speaker", "speaker"),
        ("split", "partition"),
        ("crop-box", "crop_box"),
        ("start", "start_seconds"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_misspelt_column_is_refused(column: str, meant: str, kind: str, tmp_path: Path) -> None:
    write_table(tmp_path, [{"file_name": "a.mp4", "emotion": "sad", column: "1"}], kind)
    with pytest.raises(ValueError, match=rf"unknown columns: {column} \(did you mean {meant}\?\)"):
        make_builder("folder", tmp_path)


def test_a_misspelt_key_of_a_later_row_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, [{"file_name": "a.mp4", "emotion": "sad"}], "jsonl")
    with (tmp_path / "metadata.jsonl").open("a") as file:
        file.write('{"file_name": "a.mp4", "emotion": "sad", "strat_seconds": 2}\n')
    with pytest.raises(ValueError, match=r"strat_seconds \(did you mean start_seconds\?\)"):
        make_builder("folder", tmp_path)


def test_other_columns_are_reported_as_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"file_name": "a.mp4", "emotion": "sad", "speaker": "ann", "speaker_id": 7, "camera": "left", "seconds": 3}]
    write_table(tmp_path, rows)
    with caplog.at_level(logging.WARNING):
        make_builder("folder", tmp_path, **ONE_SPLIT)
    assert "the columns speaker_id, camera are unknown and not used" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "there are no clips"),
        (["a.mp4", "happy/b.mp4"], r"1 clips are outside these \(a.mp4\)"),
        (["happy/a.mp4", "happy/a.wav"], r"2 files that differ only in their endings .*happy/a.mp4, happy/a.wav"),
    ],
)
def test_a_folder_without_a_table_whose_clips_have_no_clear_class_is_refused(
    files: list[str], message: str, tmp_path: Path
) -> None:
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        make_builder("folder", tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder"):
        make_builder("folder", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`data_dir` is missing"):
        make_builder("folder")


def test_two_tables_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path, ROWS)
    write_table(tmp_path, ROWS, "jsonl")
    with pytest.raises(ValueError, match=r"metadata.csv and metadata.jsonl"):
        make_builder("folder", tmp_path)


def test_labels_give_the_index_and_others_are_an_error_that_counts_them(tmp_path: Path) -> None:
    rows = [
        {"file_name": f"{index}.mp4", "emotion": name}
        for index, name in enumerate(["sad", "happy", "bored", "", "bored"])
    ]
    write_table(tmp_path / "clips", rows)
    with pytest.raises(ValueError, match=r"3 of 5 clips .* none of sad, happy: \(empty\) 1, bored 2"):
        make_builder("folder", tmp_path / "clips", labels=["sad", "happy"])
    with pytest.raises(ValueError, match=r"1 of 5 clips .* none of bored, happy, sad: \(empty\) 1"):
        make_builder("folder", tmp_path / "clips")
    with pytest.raises(ValueError, match="give `labels` too"):
        make_builder("folder", tmp_path / "clips", drop_other_labels=True)
    options = {"labels": ["sad", "happy"], "drop_other_labels": True, **ONE_SPLIT}
    corpus = load(tmp_path / "clips", tmp_path / "cache", **options)
    assert corpus.features["emotion"].names == ["sad", "happy"] and corpus["emotion"][:] == [0, 1]
    again = make_builder("folder", tmp_path / "clips", cache_dir=tmp_path / "cache", **options)
    assert again.skipped == [
        {"clip_id": "2.mp4", "reason": "its emotion is bored"},
        {"clip_id": "3.mp4", "reason": "its emotion is (empty)"},
        {"clip_id": "4.mp4", "reason": "its emotion is bored"},
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../secret.mp4",
        "a/../../secret.mp4",
        "/etc/secret.mp4",
        "C:\\secret.mp4",
        "\\\\host\\secret.mp4",
        "file:///x.mp4",
        "a\0.mp4",
    ],
)
def test_files_outside_of_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": name, "emotion": "sad"}))
    with pytest.raises(ValueError, match=r"metadata.jsonl, line 1: .* is not a file inside the folder"):
        make_builder("folder", tmp_path)


def test_names_with_backslashes_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "clips", "a/b.mp4")
    (tmp_path / "clips/metadata.csv").write_bytes(b"file_name,emotion\r\na\\b.mp4,sad\r\n")
    (row,) = rows_of(load(tmp_path / "clips", tmp_path / "cache", **ONE_SPLIT))
    assert row["clip_id"] == "a/b.mp4" and row["video"]["path"] == str(tmp_path / "clips/a/b.mp4")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"file_name;emotion\na.mp4;sad\n", "has semicolons between its columns"),
        (b"file_name\temotion\na.mp4\tsad\n", "has tabs between its columns"),
        ("file_name,emotion\na.mp4,tr\u00e4ge\n".encode("cp1252"), "is not UTF-8"),
        ("file_name,emotion\na.mp4,sad\n".encode("utf-16"), "is not UTF-8"),
        (b"", "must begin with the names of its columns"),
        (b"file_name,emotion\n", "has no rows"),
        (b"name,emotion\na.mp4,sad\n", "it needs emotion, and file_name"),
        (b"file_name,emotion\na.mp4,sad,x\n", "line 2: 3 cells, but the header has 2"),
        (b"file_name,emotion\n\na.mp4\n", "line 3: 1 cells, but the header has 2"),
        (b"file_name,emotion\n,sad\n", "line 2: no file name"),
        (b"file_name,emotion\na.mp4,sad\na.mp4,sad\n", "has 1 clips more than once: a.mp4"),
        (
            b'file_name,emotion,valence\na.mp4,sad,"1,5"\n',
            "valence must be a number or empty, got '1,5'. Write decimals",
        ),
        (b"file_name,emotion,valence\na.mp4,sad,inf\n", "valence must be a number or empty, got 'inf'"),
        (b"file_name,emotion,start_seconds\na.mp4,sad,-1\n", "start_seconds must be 0 or more, got -1"),
        (
            b"file_name,emotion,start_seconds,end_seconds\na.mp4,sad,2,1.5\n",
            "end_seconds must be after .* = 2, got 1.5",
        ),
        (b"file_name,emotion,crop_box\na.mp4,sad,0 0 5\n", "crop_box must be"),
        (b"file_name,emotion,crop_box\na.mp4,sad,5 0 5 9\n", "crop_box must be"),
        (b"file_name,audio_file_name,emotion\na.mp4,b.wav,sad\n", "not both"),
    ],
)
def test_a_table_that_makes_no_sense_is_an_error_that_says_where(table: bytes, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "metadata.csv").write_bytes(table)
    with pytest.raises(ValueError, match=message):
        make_builder("folder", tmp_path)


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("metadata.jsonl", b"{'file_name': 1}\n", "line 1: not JSON"),
        ("metadata.jsonl", b"[1]\n", r"line 1: must be an object, .* got '\[1\]'"),
        ("metadata.jsonl", b'{"file_name": "a.mp4", "emotion": "\\ud800"}', "line 1: not JSON .*surrogates"),
        ("metadata.csv", b"file_name,emotion\n" + b"x" * 200_000 + b",sad\n", "is not a CSV table: field larger"),
        ("metadata.parquet", b"PAR1 but not really", "is not a Parquet file"),
    ],
)
def test_a_broken_file_is_no_table(name: str, table: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(table)
    with pytest.raises(ValueError, match=message):
        make_builder("folder", tmp_path)


def test_the_partition_of_the_table_makes_the_splits(tmp_path: Path) -> None:
    rows = speakers_table(3, 2)
    for row in rows:
        row["partition"] = {"s00": "test", "s01": "train", "s02": "held_out"}[row["speaker"]]
    write_table(tmp_path / "clips", rows)
    corpus = load(tmp_path / "clips", tmp_path / "cache", split=None)
    assert list(corpus) == ["train", "test", "held_out"]
    assert {name: set(part["speaker"]) for name, part in corpus.items()} == {
        "train": {"s01"},
        "test": {"s00"},
        "held_out": {"s02"},
    }
    assert set(corpus["test"]["partition"]) == {"test"}
    with pytest.raises(ValueError, match="Unknown split"):
        load(tmp_path / "clips", tmp_path / "cache", split="validation")


def test_a_partition_with_gaps_is_refused(tmp_path: Path) -> None:
    write_table(
        tmp_path, [{**row, "partition": "train" if row["speaker"] == "s00" else ""} for row in speakers_table(2, 3)]
    )
    with pytest.raises(ValueError, match="3 of 6 clips have no `partition`"):
        make_builder("folder", tmp_path)


def test_a_speaker_in_two_partitions_is_an_error_unless_it_is_meant(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "partition": ["train", "test"][index % 2]} for index, row in enumerate(speakers_table(3, 2))]
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match="3 speakers are in more than one split, such as 's00' in test, train"):
        make_builder("folder", tmp_path)
    with caplog.at_level(logging.WARNING):
        make_builder("folder", tmp_path, allow_speaker_overlap=True)
    assert "3 speakers are in more than one split" in caplog.text


def test_speakers_are_divided_whole_with_all_classes_on_every_side(tmp_path: Path) -> None:
    write_table(tmp_path / "clips", speakers_table())
    corpus = load(tmp_path / "clips", tmp_path / "cache", split=None)
    speakers = {name: set(part["speaker"]) for name, part in corpus.items()}
    assert {name: len(found) for name, found in speakers.items()} == {"train": 7, "validation": 2, "test": 2}
    assert len(set.union(*speakers.values())) == 11
    assert all(set(part["emotion"]) == {0, 1, 2} for part in corpus.values())
    assert set(corpus["train"]["partition"]) == {None}  # which is for what the corpus itself says


@pytest.mark.parametrize(
    ("num_speakers", "sizes"),
    [
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (6, (3, 2, 1)),
        (7, (4, 2, 1)),
        (8, (4, 2, 2)),
        (18, (12, 2, 4)),
        (40, (26, 6, 8)),
    ],
)
def test_validation_has_more_than_one_speaker_as_soon_as_there_are_enough(
    num_speakers: int, sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    write_table(tmp_path / "clips", speakers_table(num_speakers))
    corpus = load(tmp_path / "clips", tmp_path / "cache", split=None)
    assert tuple(len(set(corpus[name]["speaker"])) for name in ("train", "validation", "test")) == sizes


def test_a_validation_split_of_few_clips_or_people_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few, enough = "The validation split has 6 clips of 1 speaker. That is little", "The validation split has"
    write_table(tmp_path / "three", speakers_table(3))
    write_table(tmp_path / "many", speakers_table(17, 13))
    with caplog.at_level(logging.WARNING):
        make_builder("folder", tmp_path / "three")
    assert few in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        make_builder("folder", tmp_path / "many")
    assert enough not in caplog.text
    rows = [
        {**row, "partition": "validation" if row["speaker"] == "s00" else "train"} for row in speakers_table(17, 37)
    ]
    write_table(tmp_path / "table", rows)
    with caplog.at_level(logging.WARNING):
        make_builder("folder", tmp_path / "table")
    assert "The validation split has 37 clips of 1 speaker." in caplog.text


def test_splits_depend_on_the_seed_and_not_on_the_order_of_the_table(tmp_path: Path) -> None:
    rows = speakers_table()
    write_table(tmp_path / "one", rows)
    write_table(tmp_path / "two", random.Random(3).sample(rows, len(rows)))
    one, two, other = (
        load(tmp_path / name, tmp_path / "cache", split="test", seed=seed)["clip_id"][:]
        for name, seed in (("one", 0), ("two", 0), ("one", 1))
    )
    assert one == two != other


def test_fractions_are_shares_of_the_clips(tmp_path: Path) -> None:
    write_table(tmp_path / "clips", speakers_table(20))
    options = {"validation_fraction": 0.0, "test_fraction": 0.5}
    corpus = load(tmp_path / "clips", tmp_path / "cache", split=None, **options)
    assert {name: len(part) for name, part in corpus.items()} == {"train": 60, "test": 60}


def test_without_speakers_the_splits_are_random_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"file_name": row["file_name"], "emotion": row["emotion"]} for row in speakers_table()]
    write_table(tmp_path / "clips", rows)
    with caplog.at_level(logging.WARNING):
        corpus = load(tmp_path / "clips", tmp_path / "cache", split=None)
    assert "The splits are random. A speaker may be in several of them" in caplog.text
    assert [len(corpus[name]) for name in ("train", "validation", "test")] == [43, 10, 13]
    for name, expected in (("train", 14.3), ("test", 4.4)):
        assert all(math.isclose(count, expected, abs_tol=1.7) for count in Counter(corpus[name]["emotion"]).values())


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (speakers_table(2), {}, "2 speakers are too few for the splits train, validation, test"),
        (
            [*speakers_table(4), {"file_name": "x.mp4", "emotion": "sad", "speaker": ""}],
            {},
            "1 of 25 clips have no speaker",
        ),
        (speakers_table(), {"test_fraction": 1.0}, "less than 1 together"),
        (speakers_table(), {"validation_fraction": -0.1}, "0 or more"),
        (speakers_table(), {"split_by": "gender"}, "`split_by` must be"),
        (speakers_table(), {"on_error": "ignore"}, "`on_error` must be"),
        (speakers_table(), {"labels": ["sad", "sad"]}, "each once"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(
    rows: list[dict[str, Any]], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_table(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        make_builder("folder", tmp_path, **options)


def test_clips_that_cannot_be_read_are_an_error_or_a_list(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "clips"
    write_table(folder, speakers_table(3))
    (folder / "s00/0.mp4").unlink()
    (folder / "s00/1.mp4").write_bytes(b"")
    (folder / "s00/2.mp4").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "s00/3.mp4").unlink()
    (folder / "s00/3.mp4").mkdir()
    with pytest.raises(
        ValueError, match=r"4 of 18 clips cannot be read: s00/0.mp4: .*s00/0.mp4: no such file; s00/1.mp4"
    ):
        make_builder("folder", folder)
    with caplog.at_level(logging.WARNING):
        corpus = load(folder, tmp_path / "cache", split=None, on_error="skip")
    assert "4 clips are skipped" in caplog.text
    assert sum(map(len, corpus.values())) == 14
    again = make_builder("folder", folder, cache_dir=tmp_path / "cache", on_error="skip")
    assert [entry["clip_id"] for entry in again.skipped] == [f"s00/{number}.mp4" for number in range(4)]
    reasons = [entry["reason"] for entry in again.skipped]
    for number, (reason, part) in enumerate(zip(reasons, ["no such file", "empty", "text", "directory"], strict=True)):
        assert reason.startswith(f"{folder}/s00/{number}.mp4: ") and part in reason


def test_the_cache_sees_every_change_of_the_folder(tmp_path: Path) -> None:
    folder, cache = tmp_path / "clips", tmp_path / "cache"
    touch(folder, "happy/a.mp4", "sad/b.mp4")

    def clip_ids() -> list[str]:
        return load(folder, cache, **ONE_SPLIT)["clip_id"][:]

    def cache_dir() -> str:
        return make_builder("folder", folder, cache_dir=cache, **ONE_SPLIT).cache_dir

    assert clip_ids() == ["happy/a.mp4", "sad/b.mp4"]
    before = cache_dir()
    assert cache_dir() == before
    touch(folder, "sad/c.mp4")
    assert clip_ids() == ["happy/a.mp4", "sad/b.mp4", "sad/c.mp4"]
    (folder / "happy/a.mp4").unlink()
    assert clip_ids() == ["sad/b.mp4", "sad/c.mp4"]
    after = cache_dir()
    (folder / "sad/b.mp4").write_bytes(HEADERS[".mp4"] + b"more")
    assert len({before, after, cache_dir()}) == 3
    write_table(folder, [{"file_name": "sad/b.mp4", "emotion": "bored"}])
    assert clip_ids() == ["sad/b.mp4"]


def test_a_stream_has_the_rows_of_the_file_in_their_order_and_writes_no_cache(tmp_path: Path) -> None:
    rows = [{**row, "valence": 1.1, "activation": 2 / 3, "start_seconds": 0.1} for row in speakers_table(7, 5)]
    write_table(tmp_path / "clips", rows)
    kept = load(tmp_path / "clips", tmp_path / "cache", split=None)
    stream = load(tmp_path / "clips", tmp_path / "other", split=None, streaming=True)
    assert {name: rows_of(part) for name, part in stream.items()} == {
        name: rows_of(part) for name, part in kept.items()
    }
    assert list((tmp_path / "other").rglob("*.arrow")) == []
    assert stream["train"].num_shards > 1
