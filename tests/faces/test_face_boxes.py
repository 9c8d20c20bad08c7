"""Crop boxes around the faces of a corpus: found once, kept, reported."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict
from face_pictures import RED, DrawnFaces, drawn, film

from foal_hf import MediaError, read_clip
from foal_hf.corpora.schema import corpus_features
from foal_hf.faces.corpus import FacesReport, with_face_boxes


GREEN = (0, 255, 0)
LEFT, RIGHT = (20, 20, 40, 50), (90, 30, 100, 40)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    film(folder / "one.mp4", [drawn(92, 124, LEFT)] * 5)
    film(folder / "two.mp4", [drawn(92, 124, LEFT, RIGHT, colours=(RED, GREEN))] * 5)
    film(folder / "nobody.mp4", [drawn(92, 124)] * 5)
    film(folder / "border.mp4", [drawn(92, 124, (0, 60, 24, 92))] * 5)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def corpus_of(media: Path, *names: str, **values: Any) -> Dataset:
    features = corpus_features(["sad"])
    empty = dict.fromkeys(features)
    rows = [{**empty, "clip_id": name, "video": str(media / f"{name}.mp4"), "emotion": 0, **values} for name in names]
    return Dataset.from_list(rows, features=features)


def boxes_of(corpus: Any) -> list[Any]:
    return list(corpus.select_columns(["crop_box"])["crop_box"])


def find(corpus: Any, folder: Path, **settings: Any) -> tuple[Any, FacesReport]:
    settings = {"detector": DrawnFaces(RED, GREEN), "progress": False, "num_workers": 0, **settings}
    return with_face_boxes(corpus, folder, **settings)


def test_every_clip_gets_the_square_around_its_main_face(media: Path, tmp_path: Path) -> None:
    corpus = corpus_of(media, "one", "two", "nobody", "border")
    found, report = find(corpus, tmp_path)
    one, two, nobody, border = boxes_of(found)
    assert one == pytest.approx([10, 15, 50, 55], abs=1) and one[2] - one[0] == one[3] - one[1]
    assert two == one and nobody == [0, 0, 124, 92]
    assert border == pytest.approx([-10, 54, 34, 98], abs=2)
    assert read_clip(video=media / "border.mp4", modalities=("video",), crop_box=border).frames is not None
    assert report == FacesReport(4, 3, ["nobody"], ["two"], {})
    assert found.column_names == corpus.column_names and found.features == corpus.features
    text = report.render()
    assert "3 of 4 clips" in text and "1 without a face" in text and "1 with several faces" in text


def test_what_was_found_is_not_looked_for_again(media: Path, tmp_path: Path) -> None:
    first, report = find(corpus_of(media, "one", "two"), tmp_path)
    detector = DrawnFaces(RED, GREEN)
    again, same = find(corpus_of(media, "one", "two"), tmp_path, detector=detector)
    assert detector.num_frames == 0 and boxes_of(again) == boxes_of(first) and same == report
    with open(tmp_path / "faces.jsonl", "a") as file:
        file.write('{"key": "cut o')
    find(corpus_of(media, "one", "border"), tmp_path, detector=detector)
    assert detector.num_frames == 2  # one second of the new clip
    wider, _ = find(corpus_of(media, "one"), tmp_path, detector=detector, margin=2.0)
    assert detector.num_frames == 2 and boxes_of(wider)[0] == pytest.approx([0, 5, 60, 65], abs=1)
    find(corpus_of(media, "one", start_seconds=0.5), tmp_path, detector=detector)
    assert detector.num_frames == 3


def test_a_box_that_a_clip_has_is_where_its_face_is(media: Path, tmp_path: Path) -> None:
    half = corpus_of(media, "two", crop_box=[62, 0, 124, 92])
    (box,), report = (each if isinstance(each, FacesReport) else boxes_of(each) for each in find(half, tmp_path))
    assert box == pytest.approx([88, 28, 102, 42], abs=1) and report.several_faces == []
    tight = corpus_of(media, "one", crop_box=[15, 10, 45, 60])
    (box,) = boxes_of(find(tight, tmp_path)[0])
    assert box[2] - box[0] == box[3] - box[1] == 30 and box[0] == 15  # as large as fits
    (box,) = boxes_of(find(corpus_of(media, "one", crop_box=[60, 0, 124, 92]), tmp_path)[0])
    assert box == [60, 0, 124, 92]


def test_splits_are_kept_and_clips_without_video_too(media: Path, tmp_path: Path) -> None:
    sound = corpus_of(media, "one", audio=str(media / "one.mp4"), video=None)
    splits, report = find(DatasetDict(train=corpus_of(media, "one"), test=sound), tmp_path, num_workers=1)
    assert list(splits) == ["train", "test"] and boxes_of(splits["test"]) == [None]
    assert (report.num_clips, report.num_with_face) == (1, 1)


def test_a_clip_that_cannot_be_read_is_named_or_skipped(media: Path, tmp_path: Path) -> None:
    corpus = corpus_of(media, "one", "broken")
    with pytest.raises(MediaError, match=r"broken: .*on_error"):
        find(corpus, tmp_path)
    found, report = find(corpus, tmp_path, on_error="skip")
    assert boxes_of(found)[1] is None and list(report.failed) == ["broken"]
    assert (report.num_clips, report.num_with_face) == (2, 1)
    with pytest.raises(ValueError, match="`on_error`"):
        find(corpus, tmp_path, on_error="ignore")


def test_the_report_is_plain_and_short(media: Path) -> None:
    report = FacesReport(30, 3, [f"clip{number}" for number in range(27)])
    assert json.loads(json.dumps(report.as_dict()))["without_face"][26] == "clip26"
    assert "and 17 more" in report.render() and "clip26" not in report.render()


def test_training_reads_the_square_as_the_pipeline_does(media: Path, tmp_path: Path) -> None:
    found, _ = find(corpus_of(media, "border"), tmp_path)
    frames = read_clip(video=media / "border.mp4", modalities=("video",), crop_box=boxes_of(found)[0]).frames
    left_edge = frames[..., 0]
    assert torch.equal(left_edge, frames[..., 5])  # repeated
