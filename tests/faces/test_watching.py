"""Faces while a recording is decoded: when the detector looks, which crops are kept, whose face a clip is about."""

import pickle
from typing import Any

import pytest
import torch
from face_pictures import FACE, RED, DrawnFaces, astronaut, canvas, drawn, off, scaled
from requirements import need

from foal_hf import MediaFile, read_clip
from foal_hf.faces import FaceCrops, FaceWatch, crop_square, square_around, watching
from foal_hf.foal_net.faces_foal_net import FaceCounter, crop_to_main_face


GREEN, BLUE = (0, 255, 0), (0, 0, 255)


def to_163(frames: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(frames, (163, 163), mode="bilinear", antialias=True)


def to_13(frames: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(frames, (13, 13), mode="nearest")


def main_person(faces: Any) -> int | None:
    counter = FaceCounter()
    counter.add(faces)
    return counter.main_person


def unchanged(frames: torch.Tensor) -> torch.Tensor:
    return frames


def clip_of(frames: list[torch.Tensor], crops: FaceCrops, rate: float = 5.0, **settings: Any) -> Any:
    source = torch.stack(frames).numpy()
    return read_clip(
        video=source, frames_per_second=rate, transform=crops.transform, find_faces=crops.watch(), **settings
    )


def test_a_clip_is_cropped_to_its_face() -> None:
    crops = FaceCrops(unchanged, margin=1.5, detector=DrawnFaces())
    frames = [drawn(60, 100, (40 + step, 20, 60 + step, 40)) for step in range(5)]
    clip = crop_to_main_face(clip_of(frames, crops))
    assert clip.frames.shape == (5, 3, 30, 30) and clip.faces is None
    for cropped in clip.frames:
        assert (cropped[0] == 255).float().mean().item() == pytest.approx((20 / 30) ** 2, abs=0.02)


def test_a_clip_without_a_face_stays_as_it_is() -> None:
    crops = FaceCrops(to_13, detector=DrawnFaces())
    clip = clip_of([drawn(60, 100)] * 4, crops)
    assert clip.faces == ({}, {}, {}, {})
    kept = crop_to_main_face(clip)
    assert kept.frames is clip.frames and kept.faces is None


def test_the_main_face_is_the_largest_longest_visible_one() -> None:
    crops = FaceCrops(to_13, detector=DrawnFaces(RED, GREEN))
    small, large = (10, 10, 30, 30), (50, 10, 80, 40)
    both = drawn(60, 100, small, large, colours=(RED, GREEN))
    alone = drawn(60, 100, small)
    assert main_person(clip_of([both] * 4, crops).faces) == 2
    assert main_person(clip_of([both] * 4 + [alone] * 1, crops).faces) == 2
    assert main_person(clip_of([both] * 4 + [alone] * 3, crops).faces) == 1  # 7 x 20 > 4 x 30
    assert main_person([]) is None


def test_frames_without_the_main_face_are_left_out_and_the_others_keep_their_times() -> None:
    crops = FaceCrops(to_13, detector=DrawnFaces())
    face, none = drawn(60, 100, (30, 10, 60, 40)), drawn(60, 100)
    clip = crop_to_main_face(clip_of([none, face, face, none, face, none, none], crops))
    # The one in between stays: the person is out of sight for a moment. Before and behind there is no face.
    assert clip.frame_seconds.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert len(clip.frames) == 4


def test_the_detector_looks_a_few_times_a_second_and_at_every_cut() -> None:
    detector = DrawnFaces()
    crops = FaceCrops(to_13, detector=detector)
    face = drawn(60, 100, (30, 10, 60, 40))
    clip = clip_of([face] * 30, crops, rate=30.0, source_frames_per_second=30.0)
    assert detector.num_frames == 1 and len(clip.faces) == 30 and all(faces[1].is_seen for faces in clip.faces)
    assert len(crop_to_main_face(clip).frames) == 30
    moving = [drawn(60, 100, (10 + step, 10, 40 + step, 40)) for step in range(30)]
    clip_of(moving, FaceCrops(to_13, detector=detector), rate=30.0, source_frames_per_second=30.0)
    assert detector.num_frames == 6
    detector.num_frames = 0
    clip_of([face] * 25, FaceCrops(to_13, detector=detector))
    assert detector.num_frames == 3  # a still picture: at the start, and every two seconds
    detector.num_frames = 0
    other = 255 - face.flip(-1)
    assert [list(faces) for faces in clip_of([face, other, face], crops).faces] == [[1], [], [2]]
    assert detector.num_frames == 3


def test_between_two_looks_a_face_goes_on_as_it_moved() -> None:
    crops = FaceCrops(to_13, detector=DrawnFaces())
    clip = clip_of([drawn(60, 300, (30 + 4 * step, 10, 60 + 4 * step, 40)) for step in range(20)], crops)
    lefts = [faces[1].box[0] for faces in clip.faces]
    assert lefts[8:] == pytest.approx([30 + 4 * step for step in range(8, 20)], abs=3)


def test_known_faces_are_looked_for_in_small_frames_and_new_ones_in_large_ones() -> None:
    sizes = []

    class Noting(DrawnFaces):
        def __call__(self, frames: torch.Tensor) -> Any:
            sizes.append(max(frames.shape[-2:]))
            return super().__call__(frames)

    crops = FaceCrops(to_13, detector=Noting(RED, GREEN))
    ones = [drawn(360, 640, (100 + 20 * step, 60, 260 + 20 * step, 220)) for step in range(10)]
    two = drawn(360, 640, (300, 60, 460, 220), (500, 50, 540, 90), colours=(RED, GREEN))
    clip = clip_of([*ones, two, *ones[::-1]], crops)
    assert sizes[:11] == [640, *[192] * 9, 640] and list(clip.faces[10]) == [1, 2]
    assert sizes[11] == 640  # the second one is small


def test_only_the_crops_of_the_largest_faces_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MOST_CROPS", 2)
    crops = FaceCrops(to_13, detector=DrawnFaces(RED, GREEN, BLUE))
    boxes = (5, 5, 15, 15), (30, 5, 50, 25), (60, 5, 90, 35)
    clip = clip_of([drawn(60, 100, *boxes, colours=(RED, GREEN, BLUE))] * 3, crops)
    assert [{number for number, face in faces.items() if face.crop is not None} for faces in clip.faces] == [{2, 3}] * 3
    assert {number for faces in clip.faces for number in faces} == {1, 2, 3}


def test_faces_go_on_from_one_read_of_a_recording_to_the_next() -> None:
    crops = FaceCrops(to_13, detector=DrawnFaces())
    frames = torch.stack([drawn(60, 100, (30, 10, 60, 40))] * 10).numpy()
    watch = crops.watch()
    with MediaFile(video=frames) as media:
        first, second = (media.read(start, start + 1, find_faces=watch) for start in (0, 1))
    assert [list(faces) for faces in (*first.faces, *second.faces)] == [[1]] * 10


def test_settings_travel_to_other_processes() -> None:
    crops = pickle.loads(pickle.dumps(FaceCrops(to_13, margin=1.7)))
    assert crops.margin == 1.7 and isinstance(crops.watch(), FaceWatch)


def test_a_real_face_is_cropped_as_in_training() -> None:
    need("faces")
    clip = crop_to_main_face(clip_of([astronaut()] * 5, FaceCrops(to_163)))
    square = square_around(FACE, 1.36)
    assert square[2] - square[0] == 163
    expected = crop_square(astronaut(), square)
    assert len(clip.frames) == 5
    for frame in clip.frames:
        assert (frame.float() - expected.float()).abs().mean() < 20  # a shift of 6 pixels gives as much


def test_a_real_face_that_moves_stays_in_the_middle_of_its_crop() -> None:
    need("faces")
    face = scaled(astronaut()[:, :256, 100:356], 128, 128)
    crops = FaceCrops(unchanged)
    lefts = range(10, 400, 26)
    clip = clip_of([canvas(240, 640, (face, left, 60)) for left in lefts], crops)
    assert [list(faces) for faces in clip.faces] == [[1]] * len(lefts)
    for left, faces in zip(lefts, clip.faces, strict=True):
        expected = [edge / 2 + shift for edge, shift in zip(FACE, (left - 50, 60) * 2, strict=True)]
        assert off(faces[1].box, expected) < 0.3


def test_after_a_cut_to_another_picture_a_real_face_is_another_person() -> None:
    need("faces")
    from skimage.data import chelsea

    cat = scaled(torch.from_numpy(chelsea()).movedim(-1, 0).contiguous(), 512, 512)
    crops = FaceCrops(unchanged)
    clip = clip_of([astronaut(), astronaut(), cat, astronaut()], crops)
    assert [list(faces) for faces in clip.faces] == [[1], [1], [], [2]]
