"""Checkpoints that were trained on faces: what their processor and pipeline show the encoder, and what they say."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from face_pictures import DrawnFaces, astronaut, drawn, film, scaled
from media_builders import turned_clockwise
from requirements import need
from tiny_models import tiny_model
from tiny_processors import tiny_processor, tiny_video_processor
from transformers import pipeline

from foal_hf import AudioVideoEmotionPipeline, FoalNetProcessor, FoalNetVideoProcessor, read_clip
from foal_hf.faces import FaceCrops, crop_square, square_around
from foal_hf.foal_net.faces_foal_net import NO_FACE, NOT_FOUND, TURNED_OFF


FACE = (52, 14, 82, 54)
RATE = 5


@pytest.fixture(autouse=True)
def detector(monkeypatch: pytest.MonkeyPatch) -> DrawnFaces:
    """Drawn faces are faces."""
    drawn_faces = DrawnFaces()
    open_faces = staticmethod(lambda transform, margin: FaceCrops(transform, margin, drawn_faces))
    monkeypatch.setattr(FoalNetVideoProcessor, "_open_faces", open_faces)
    return drawn_faces


@pytest.fixture
def no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FoalNetVideoProcessor, "_open_faces", staticmethod(lambda transform, margin: None))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s: a face in the first half, none in the second."""
    frames = [drawn(92, 124, FACE)] * 10 + [drawn(92, 124)] * 10
    return film(tmp_path_factory.mktemp("media") / "talk.mp4", frames)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("media") / "empty.mp4", [drawn(92, 124)] * 5)


def classifier(model: Any, **fields: Any) -> AudioVideoEmotionPipeline:
    processor = tiny_processor(**{"crop": "face", "crop_margin": 1.5, **fields})
    return pipeline("audio-video-emotion", model=model, processor=processor)


def scores(entries: Any) -> list[float]:
    return [entry["score"] for entry in sorted(entries, key=lambda entry: entry["label"])]


# The fields


def test_the_crop_is_saved_where_it_is_a_face_and_only_there(tmp_path: Path) -> None:
    tiny_processor().save_pretrained(tmp_path / "frame")
    tiny_processor(crop="face", crop_margin=1.7).save_pretrained(tmp_path / "face")
    saved = [json.loads((tmp_path / name / "processor_config.json").read_text()) for name in ("frame", "face")]
    frame, face = (each["video_processor"] for each in saved)
    assert set(face) - set(frame) == {"crop", "crop_margin"}
    loaded = FoalNetProcessor.from_pretrained(tmp_path / "face").video_processor
    assert (loaded.crop, loaded.crop_margin) == ("face", 1.7)
    loaded = FoalNetProcessor.from_pretrained(tmp_path / "frame").video_processor
    assert (loaded.crop, loaded.crop_margin) == ("frame", 1.36)


def test_crops_of_faces_need_one_size() -> None:
    with pytest.raises(ValueError, match="`do_resize`"):
        tiny_video_processor(crop="face", do_resize=False, do_center_crop=False)


@pytest.mark.parametrize("fields", [{"crop": "head"}, {"crop_margin": 0.9}, {"crop_margin": 4.1}])
def test_a_crop_that_is_not_possible_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(fields))}`"):
        tiny_video_processor(**fields)


# What the encoder sees


def test_the_processor_shows_the_square_around_the_face(talk: Path) -> None:
    video_processor = tiny_video_processor(crop="face", crop_margin=1.5)
    clip = video_processor.read(video=talk, modalities=("video",), frames_per_second=RATE)
    whole = read_clip(video=talk, modalities=("video",), frames_per_second=RATE)
    box = (37, 4, 97, 64)  # 1.5 x 40 pixels around the centre (67, 34)
    assert square_around(FACE, 1.5) == box
    expected = video_processor.resize_and_crop(crop_square(whole.frames[0], box)[None])
    torch.testing.assert_close(clip.frames[:1].float(), expected.float(), atol=3, rtol=0)
    assert clip.frame_seconds.tolist() == pytest.approx([index / RATE for index in range(10)])
    assert clip.faces is None


def test_a_call_of_the_processor_may_choose_the_crop(talk: Path) -> None:
    processor = tiny_processor(crop="face", crop_margin=1.5)
    face, frame = (processor(videos=talk, **crop)["pixel_values_videos"] for crop in ({}, {"crop": "frame"}))
    assert face.shape[1] == 10 and frame.shape[1] == 20
    torch.testing.assert_close(frame, tiny_processor()(videos=talk)["pixel_values_videos"])
    alone = processor.video_processor(talk)["pixel_values_videos"]
    torch.testing.assert_close(alone, face)


def test_a_crop_box_that_is_given_is_used_as_it_is(model: Any, talk: Path, detector: DrawnFaces) -> None:
    row = {"video": str(talk), "crop_box": (1, 2, 61, 62)}
    with_faces = classifier(model)(row, return_evidence=True)
    whole = classifier(model, crop="frame")(row, return_evidence=True)
    assert detector.num_frames == 0 and with_faces == whole


def test_a_prediction_is_that_of_the_crops(model: Any, talk: Path) -> None:
    processor = tiny_processor(crop="face", crop_margin=1.5)
    clip = processor.read(talk)
    with torch.no_grad():
        logits = model(**processor.batch([clip])).logits[0]
    assert scores(classifier(model)(str(talk))) == pytest.approx(
        [logits.softmax(-1)[model.config.label2id[label]].item() for label in sorted(model.config.label2id)], abs=1e-5
    )


def test_batches_workers_and_single_clips_agree(model: Any, talk: Path, empty: Path) -> None:
    classify = classifier(model)
    alone = [scores(classify(str(file))) for file in (talk, empty)]
    together = classify([str(talk), str(empty)], batch_size=2)
    by_workers = classify([str(talk), str(empty)], num_workers=2)
    for one, other in ((alone, together), (alone, by_workers)):
        np.testing.assert_allclose(one, [scores(entries) for entries in other], atol=1e-5)


# What the result says


def test_the_evidence_has_the_frames_with_a_face_and_its_place(model: Any, talk: Path) -> None:
    result = classifier(model)(str(talk), return_evidence=True)
    video = result["evidence"]["video"]
    assert (video["crop"], video["frames"], video["frames_with_face"]) == ("face", 20, 10)
    assert video["face_box"] == pytest.approx(FACE, abs=1) and result["notes"] == []


def test_without_a_face_the_whole_frame_is_used_and_the_result_says_so(model: Any, empty: Path) -> None:
    result = classifier(model)(str(empty), return_evidence=True)
    assert result["evidence"]["video"] | {"black": 0, "frozen": 0} == {
        **{"black": 0, "frozen": 0, "crop": "frame", "frames": 5, "frames_with_face": 0, "face_box": None}
    }
    assert result["notes"] == [NO_FACE]
    assert scores(result["scores"]) == scores(classifier(model, crop="frame")(str(empty)))


def test_each_segment_of_a_recording_has_its_own_faces(model: Any, talk: Path) -> None:
    segments = list(classifier(model)(str(talk), window_seconds=2, stride_seconds=1, stream=True))
    video = [segment["evidence"]["video"] for segment in segments]
    assert [(each["crop"], each["frames_with_face"]) for each in video] == [
        *[("face", 5), ("face", 5), ("frame", 0), ("frame", 0)]
    ]
    assert all(segment["evidence"]["notes"] == [] for segment in segments)


def test_faces_can_be_turned_off_and_the_result_says_so(model: Any, talk: Path, detector: DrawnFaces) -> None:
    result = classifier(model)(str(talk), faces="off", return_evidence=True)
    assert detector.num_frames == 0
    assert result["evidence"]["video"]["crop"] == "frame" and result["notes"] == [TURNED_OFF]
    assert TURNED_OFF in result["evidence"]["notes"]
    assert scores(result["scores"]) == scores(classifier(model, crop="frame")(str(talk)))
    (first, *_) = classifier(model)(str(talk), window_seconds=2, faces="off")
    assert first["evidence"]["video"]["crop"] == "frame" and TURNED_OFF in first["evidence"]["notes"]
    with pytest.raises(ValueError, match="`faces` must be one of auto, off; got 'on'"):
        classifier(model)(str(talk), faces="on")


def test_a_checkpoint_of_whole_frames_looks_for_no_face(model: Any, talk: Path, detector: DrawnFaces) -> None:
    result = classifier(model, crop="frame")(str(talk), return_evidence=True)
    assert detector.num_frames == 0 and result["evidence"]["video"].keys() == {"black", "frozen"}


def test_without_the_extra_the_whole_frame_is_used_with_one_warning(
    model: Any, talk: Path, no_extra: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("foal_hf.foal_net.video_processing_foal_net")
    monkeypatch.setattr(logging.getLogger("foal_hf"), "propagate", True)
    type(logger).warning_once.cache_clear()
    classify = classifier(model)
    with caplog.at_level("WARNING"):
        results = [classify(str(talk), return_evidence=True) for _ in range(3)]
    warned = [record.message for record in caplog.records if "foal-hf[faces]" in record.message]
    assert len(warned) == 1
    for result in results:
        assert result["evidence"]["video"]["crop"] == "frame" and result["notes"] == [NOT_FOUND]
        assert scores(result["scores"]) == scores(classifier(model, crop="frame")(str(talk)))


def test_audio_alone_needs_no_face(model: Any, talk: Path, no_extra: None, caplog: pytest.LogCaptureFixture) -> None:
    result = classifier(model)(str(talk), modality="audio", return_evidence=True)
    assert result["notes"] == [] and result["evidence"]["video"] is None


# Real faces


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Any:
    need("faces")
    monkeypatch.setattr(FoalNetVideoProcessor, "_open_faces", staticmethod(FaceCrops))
    return tiny_model()


def face_box(result: dict[str, Any]) -> list[float]:
    video = result["evidence"]["video"]
    assert (video["crop"], video["frames_with_face"]) == ("face", video["frames"])
    return video["face_box"]


def test_the_face_of_a_portrait_video_with_rotation_metadata_is_found_upright(real: Any, tmp_path: Path) -> None:
    lying = torch.rot90(scaled(astronaut()[:, :, 56:456], 320, 250), 1, (1, 2)).contiguous()  # as a sensor writes it
    path = turned_clockwise(film(tmp_path / "lying.mp4", [lying] * 3), tmp_path / "turned.mp4")
    left, top, right, bottom = face_box(classifier(real)(str(path), return_evidence=True))
    expected = (182 - 56) * 0.625, 58 * 0.625, (270 - 56) * 0.625, 178 * 0.625
    assert (left, top, right, bottom) == pytest.approx(expected, abs=6)


def test_the_larger_of_two_people_is_the_main_one(real: Any, tmp_path: Path) -> None:
    photograph = astronaut()
    small = torch.nn.functional.pad(scaled(photograph, 256, 256), (0, 0, 128, 128), value=90)
    path = film(tmp_path / "two.mp4", [torch.cat([small, photograph], dim=-1)] * 3)
    left, *_ = face_box(classifier(real)(str(path), return_evidence=True))
    assert left == pytest.approx(256 + 182, abs=8)


def test_a_photograph_that_fills_the_frame_with_a_face_is_padded(real: Any, tmp_path: Path) -> None:
    tight = scaled(astronaut()[:, 58:178, 166:286], 256, 256)
    classify = classifier(real, crop_margin=1.36)
    path = film(tmp_path / "tight.mp4", [tight] * 3)
    left, top, right, bottom = face_box(classify(str(path), return_evidence=True))
    assert max(right - left, bottom - top) > 200
    clip = classify.processor.video_processor.read(video=path, modalities=("video",))
    assert len(clip.frames) == 3 and clip.frames.float().std() > 20


def test_a_video_cropped_as_in_training_stays_as_it_is(real: Any, tmp_path: Path) -> None:
    square = square_around((182, 58, 270, 178), 1.36)
    path = film(tmp_path / "cropped.mp4", [scaled(crop_square(astronaut(), square), 112, 112)] * 3)
    face, frame = tiny_video_processor(crop="face"), tiny_video_processor()
    assert torch.equal(*(each.read(video=path, modalities=("video",)).frames for each in (face, frame)))
