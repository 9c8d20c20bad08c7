"""Frames with real faces, of the photograph that scikit-image ships, and a detector that knows drawn ones."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from foal_hf.faces import Detections


FACE = (182.0, 58.0, 270.0, 178.0)
"""Left, top, right and bottom of the face in the photograph of 512x512 pixels."""
RED = (255, 0, 0)


def astronaut() -> torch.Tensor:
    """The photograph, `(3, 512, 512)`, uint8."""
    from skimage.data import astronaut as photograph

    return torch.from_numpy(photograph()).movedim(-1, 0).contiguous()


def scaled(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """An image `(3, height, width)`, uint8, in another size."""
    return F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def canvas(height: int, width: int, *images: tuple[torch.Tensor, int, int]) -> torch.Tensor:
    """A frame with a smooth background and images at (left, top)."""
    shades = torch.linspace(90, 160, width).expand(3, height, width).to(torch.uint8).clone()
    for image, left, top in images:
        shades[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return shades


def off(box: Any, expected: Any) -> float:
    """The largest difference of two boxes, by the longer side of the expected one."""
    left, top, right, bottom = expected
    return float(np.abs(np.asarray(box, dtype=float) - np.asarray(expected)).max()) / max(right - left, bottom - top)


class DrawnFaces:
    """A detector that takes every rectangle of one pure colour for a face; there may be one of each colour."""

    def __init__(self, *colours: tuple[int, int, int], score: float = 0.9) -> None:
        self.colours, self.score, self.num_frames = colours or (RED,), score, 0

    def __call__(self, frames: torch.Tensor) -> list[Detections]:
        self.num_frames += len(frames)
        return [self._found(frame) for frame in frames]

    def _found(self, frame: torch.Tensor) -> Detections:
        boxes = []
        for colour in self.colours:
            distance = (frame.int() - torch.tensor(colour, dtype=torch.int)[:, None, None]).abs().amax(0)
            rows, columns = (distance < 60).nonzero(as_tuple=True)
            if len(rows):
                edges = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
                boxes.append([float(edge) for edge in edges])
        found = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        return Detections(found, np.full(len(found), self.score, np.float32), np.zeros((len(found), 5, 2), np.float32))


def drawn(height: int, width: int, *boxes: tuple[int, int, int, int], colours: Any = (RED,)) -> torch.Tensor:
    """A grey frame with one rectangle of a colour for each box."""
    frame = torch.full((3, height, width), 128, dtype=torch.uint8)
    for (left, top, right, bottom), colour in zip(boxes, colours, strict=False):
        frame[:, top:bottom, left:right] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return frame


def film(path: Path, frames: Sequence[torch.Tensor], rate: float = 5.0, *options: object) -> Path:
    """Write frames `(3, height, width)` of even size, with a tone as long as they are shown."""
    height, width = frames[0].shape[-2:]
    seconds = len(frames) / rate
    pixels = b"".join(frame.movedim(0, -1).contiguous().numpy().tobytes() for frame in frames)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-"]
    tone = ["-f", "lavfi", "-i", f"sine=frequency=313:sample_rate=16000:duration={seconds}"]
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", 10, "-pix_fmt", "yuv420p", "-c:a", "aac"]
    command = ["ffmpeg", "-v", "error", "-y", *raw, *tone, *coded, *options, path]
    subprocess.run(list(map(str, command)), input=pixels, check=True)
    return path
