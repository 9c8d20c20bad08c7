"""Square crops around faces, as the checkpoint saw them in training."""

from collections.abc import Sequence

import torch


CROP_MARGIN = 1.36
"""Side of the crop by the longer side of the detector's box."""
_SAME_REGION = 0.8  # a crop that shares this much with the frame (intersection over union) is the frame


def square_around(box: Sequence[float], margin: float = CROP_MARGIN) -> tuple[int, int, int, int]:
    """The square whose centre is that of a box, `margin` times as wide as the longer side of the box.

    Args:
        box (`Sequence[float]`): Left, top, right, bottom, in pixels.
        margin (`float`, defaults to 1.36): 1 is the tightest square with the face in it.

    Returns:
        Left, top, right, bottom in whole pixels, right and bottom exclusive; it may leave the frame.
    """
    left, top, right, bottom = map(float, box)
    side = max(round(margin * max(right - left, bottom - top)), 1)
    first_column, first_row = round((left + right - side) / 2), round((top + bottom - side) / 2)
    return first_column, first_row, first_column + side, first_row + side


def crop_square(frame: torch.Tensor, square: tuple[int, int, int, int]) -> torch.Tensor:
    """Cut a square out of a frame; what lies beyond the border repeats the pixels at the border.

    A square that is almost a square frame gives the frame: a video that was cropped to the face before stays as it is.

    Args:
        frame (`torch.Tensor` of shape `(3, height, width)`): Of any type.
        square (`tuple[int, int, int, int]`): From [`square_around`].

    Returns:
        `torch.Tensor` of shape `(3, side, side)`, or the frame.
    """
    height, width = frame.shape[-2:]
    left, top, right, bottom = square
    if height == width and shared_region(square, height, width) >= _SAME_REGION:
        return frame
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        return frame[:, top:bottom, left:right]
    rows = torch.arange(top, bottom, device=frame.device).clamp_(0, height - 1)
    columns = torch.arange(left, right, device=frame.device).clamp_(0, width - 1)
    return frame[:, rows][:, :, columns]


def shared_region(square: tuple[int, int, int, int], height: int, width: int) -> float:
    """Intersection over union of a square with the frame."""
    left, top, right, bottom = square
    shared = max(min(right, width) - max(left, 0), 0) * max(min(bottom, height) - max(top, 0), 0)
    return shared / ((right - left) * (bottom - top) + height * width - shared)


__all__ = ["CROP_MARGIN", "crop_square", "shared_region", "square_around"]
