"""Square crops with a margin: exact, centred, and repeated beyond the border."""

import torch

from foal_hf.faces import crop_square, square_around


def ramp(height: int, width: int) -> torch.Tensor:
    """Every pixel says its row (first channel) and its column (second)."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)


def test_the_square_is_the_margin_times_the_longer_side_around_the_centre() -> None:
    assert square_around((100, 50, 200, 150), 1.36) == (82, 32, 218, 168)
    assert square_around((100, 50, 140, 150), 1.36) == (52, 32, 188, 168)  # a narrow face
    assert square_around((0, 0, 25, 11), 1.0) == (0, -7, 25, 18)


def test_a_square_inside_of_the_frame_is_cut_out() -> None:
    cropped = crop_square(ramp(47, 61), (10, 20, 30, 40))
    assert cropped.shape == (3, 20, 20)
    assert (cropped[:, 0, 0].tolist(), cropped[:, -1, -1].tolist()) == ([20, 10, 0], [39, 29, 0])


def test_beyond_the_border_its_pixels_are_repeated() -> None:
    cropped = crop_square(ramp(47, 61), (-7, 30, 23, 60))
    assert cropped.shape == (3, 30, 30)
    assert cropped[1, 0, :8].tolist() == [0, 0, 0, 0, 0, 0, 0, 0] and cropped[1, 0, 8] == 1
    assert cropped[0, -14:, 0].tolist() == [46] * 14 and cropped[0, 0, 0] == 30


def test_a_square_larger_than_the_frame_has_all_of_it() -> None:
    cropped = crop_square(ramp(20, 20), (-10, -10, 30, 30))
    assert cropped.shape == (3, 40, 40) and torch.equal(cropped[:, 10:30, 10:30], ramp(20, 20))


def test_a_video_that_was_cropped_to_the_face_stays_as_it_is() -> None:
    frame = ramp(112, 112)
    assert crop_square(frame, square_around((15, 14, 97, 96), 1.36)) is frame
    assert crop_square(frame, square_around((25, 24, 87, 86), 1.36)) is not frame
