"""Square crops around faces, as the checkpoint saw them in training."""

from collections.abc import Sequence

import torch

from ..foal_net.media_foal_net import cut_out


CROP_MARGIN = 1.36
"""Side of the crop by the longer side of the detector's box."""
_SAME_REGION = 0.8  # intersection over union


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
    return frame if is_square_of_frame(square, height, width) else cut_out(frame, square)


def is_square_of_frame(square: tuple[int, int, int, int], height: int, width: int) -> bool:
    """Whether a square is almost the frame: their intersection over union is 0.8 or more, and the frame is a square."""
    left, top, right, bottom = square
    shared = max(min(right, width) - max(left, 0), 0) * max(min(bottom, height) - max(top, 0), 0)
    return height == width and shared >= _SAME_REGION * ((right - left) * (bottom - top) + height * width - shared)


__all__ = ["CROP_MARGIN", "crop_square", "is_square_of_frame", "square_around"]
