"""Who is who from frame to frame: by place and motion only, and anew after a cut."""

import numpy as np
import pytest
import torch
from face_pictures import astronaut, canvas
from requirements import need

from foal_hf.faces import Detections, FaceTracks
from foal_hf.faces.tracks import LOST_SECONDS, Cuts


def found(*boxes: tuple[float, float, float, float], score: float = 0.9) -> Detections:
    array = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Detections(array, np.full(len(array), score, np.float32), np.zeros((len(array), 5, 2), np.float32))


def square(x: float, y: float, side: float = 40.0) -> tuple[float, float, float, float]:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def test_two_people_who_cross_keep_their_numbers() -> None:
    tracks = FaceTracks()
    for step in range(21):
        people = tracks.update(step / 5, found(square(50 + 11 * step, 100), square(270 - 11 * step, 113)))
    by_number = {person.number: person.box for person in people}
    assert by_number[1][0] > 220 and by_number[2][0] < 60


def test_the_order_of_the_faces_does_not_matter() -> None:
    tracks = FaceTracks()
    tracks.update(0.0, found(square(50, 50), square(150, 50)))
    people = tracks.update(0.2, found(square(151, 50), square(51, 50)))
    assert [round(float(person.box[0])) for person in people] == [30, 130]


def test_a_jump_is_a_new_person_and_the_old_one_is_gone_after_a_second() -> None:
    tracks = FaceTracks()
    tracks.update(0.0, found(square(50, 50)))
    assert [person.number for person in tracks.update(0.2, found(square(300, 50)))] == [1, 2]
    assert [person.number for person in tracks.update(LOST_SECONDS + 0.01, found(square(300, 50)))] == [2]


def test_a_face_that_is_missed_for_a_moment_is_the_same_person() -> None:
    tracks = FaceTracks()
    tracks.update(0.0, found(square(50, 50)))
    (missed,) = tracks.update(0.4, found())
    assert (missed.number, missed.seen_seconds) == (1, 0.0)
    (person,) = tracks.update(0.8, found(square(52, 50)))
    assert (person.number, person.seen_seconds) == (1, 0.8)


def test_who_is_followed_may_be_less_sure_than_who_is_new() -> None:
    tracks = FaceTracks()
    assert tracks.update(0.0, found(square(50, 50), score=0.4)) == []
    tracks.update(0.2, found(square(50, 50), score=0.6))
    (person,) = tracks.update(0.4, found(square(50, 50), score=0.4))
    assert person.seen_seconds == 0.4


def test_everybody_is_new_after_a_cut() -> None:
    tracks = FaceTracks()
    tracks.update(0.0, found(square(50, 50)))
    tracks.cut()
    assert [person.number for person in tracks.update(0.2, found(square(50, 50)))] == [2]


def test_the_noise_of_the_detector_is_smoothed_and_motion_is_followed() -> None:
    noise = np.random.default_rng(0).normal(0, 1.5, (50, 4))
    tracks = FaceTracks()
    still = [
        tracks.update(step / 5, found(tuple(np.add(square(100, 80, 60), each)))) for step, each in enumerate(noise)
    ]
    boxes = np.stack([person.box for (person,) in still[5:]])
    assert np.stack(boxes[5:]).std(0).max() < 0.7 * noise.std()
    moving = FaceTracks()
    for step in range(20):
        (person,) = moving.update(step / 5, found(square(100 + 9 * step, 80, 60)))
        assert abs(person.box[0] - (70 + 9 * step)) < 6  # a tenth of the face


def test_a_still_box_is_given_exactly() -> None:
    tracks = FaceTracks()
    for step in range(5):
        (person,) = tracks.update(step / 5, found((10.5, 20.25, 31.0, 47.5)))
    assert person.box.tolist() == [10.5, 20.25, 31.0, 47.5]


@pytest.mark.parametrize("shift", [0, 13, 60])
def test_motion_is_no_cut(shift: int) -> None:
    need("faces")
    cuts, photograph = Cuts(), astronaut()
    assert not cuts.is_cut(photograph) and not cuts.is_cut(photograph.roll(shift, -1))


def test_another_photograph_is_a_cut_and_a_fade_is_none() -> None:
    need("faces")
    from skimage.data import chelsea

    cat = torch.from_numpy(chelsea()).movedim(-1, 0)
    cuts, black = Cuts(), torch.zeros(3, 40, 60, dtype=torch.uint8)
    shots = [astronaut(), cat, cat, black, cat, canvas(90, 160), astronaut()]
    assert [cuts.is_cut(shot) for shot in shots] == [False, True, False, False, False, True, True]
