"""What a detector of faces gives, and how one is run on large frames."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F


LONGEST_SIDE = 640
"""Pixels: larger frames are shrunk for the detector. A face then needs about 1/40 of the longer side to be found."""


class Detections(NamedTuple):
    """The faces in one frame.

    Attributes:
        boxes (`np.ndarray` of shape `(faces, 4)`): Left, top, right, bottom in pixels of the frame, inside of it.
        scores (`np.ndarray` of shape `(faces,)`): How sure the detector is, from 0 to 1.
        landmarks (`np.ndarray` of shape `(faces, 5, 2)`): x and y of both eyes, the nose and both corners of the mouth,
            each pair from left to right in the frame.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


class FaceDetector(Protocol):
    """Finds the faces in frames; it knows no person and compares no faces."""

    def __call__(self, frames: torch.Tensor) -> list[Detections]:
        """Find the faces.

        Args:
            frames (`torch.Tensor` of shape `(frames, 3, height, width)`): uint8, RGB, upright.

        Returns:
            `list[Detections]`: One for each frame, in its pixels.
        """
        ...


def find_faces(detector: FaceDetector, frames: torch.Tensor, longest_side: int = LONGEST_SIDE) -> list[Detections]:
    """Run a detector on frames of any size, at most `longest_side` pixels wide and high; boxes are of the frames given.

    Args:
        detector ([`FaceDetector`]): Gets the shrunk frames.
        frames (`torch.Tensor` of shape `(frames, 3, height, width)`): uint8, RGB, upright.
        longest_side (`int`, defaults to 640): Pixels.

    Returns:
        `list[Detections]`: One for each frame.
    """
    height, width = frames.shape[-2:]
    scale = min(1.0, longest_side / max(height, width))
    small = frames.cpu()
    if scale < 1:
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        small = F.interpolate(small, size=size, mode="bilinear", antialias=True)
    back = np.array([width / small.shape[-1], height / small.shape[-2]], dtype=np.float32)
    return [
        Detections(found.boxes * np.tile(back, 2), found.scores, found.landmarks * back) for found in detector(small)
    ]


__all__ = ["LONGEST_SIDE", "Detections", "FaceDetector", "find_faces"]
