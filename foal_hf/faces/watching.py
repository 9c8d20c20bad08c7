"""Faces in a recording while it is decoded: frame by frame, in the memory of the crops that may be wanted.

A frame is looked at once and then forgotten. What stays of it are the faces in it, and for the largest of them the
crop that the encoder would see. Whose face a clip is about is known at its end only, see faces_foal_net.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from .centerface import CenterFace
from .crops import CROP_MARGIN, crop_square, square_around
from .detection import LONGEST_SIDE, FaceDetector, find_faces
from .tracks import Cuts, FaceTracks, Person


LOOKS_PER_SECOND = 5.0
"""Frames that the detector sees of each second; in between a face stays where it was."""
MOST_CROPS = 4
"""Faces of one frame whose crops are kept, the largest: a clip is about one of them."""
_HELD_BONUS = 1.25  # faces whose crops were kept before are replaced by larger ones only
_TOLERANCE_SECONDS = 1e-3


class Face(NamedTuple):
    """One face in one frame.

    Attributes:
        box (`tuple[float, float, float, float]`): Left, top, right, bottom in pixels of the frame as it is shown.
        score (`float`): Of the detector.
        landmarks (`tuple[tuple[float, float], ...]`): x and y of eyes, nose and corners of the mouth.
        is_seen (`bool`): False while the person is out of sight, for a second at most; the box is then the last one.
        crop (`torch.Tensor`, *optional*): What the encoder sees of it, `(3, height, width)`, uint8; None for the
            smaller ones of many faces.
    """

    box: tuple[float, ...]
    score: float
    landmarks: tuple[tuple[float, ...], ...]
    is_seen: bool
    crop: torch.Tensor | None

    @property
    def side(self) -> float:
        """The longer side of the box."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


@dataclass(frozen=True)
class FaceCrops:
    """Crops clips to faces as a checkpoint was trained; it pickles, and decoding processes make their own network.

    Args:
        transform (`Callable`): Frames `(n, 3, height, width)` to what the encoder sees, as in [`MediaFile.read`].
        margin (`float`, defaults to 1.36): Side of the crop by the longer side of the face.
        detector ([`FaceDetector`]): CenterFace by default.
        looks_per_second (`float`, defaults to 5.0): How often the detector looks.
        longest_side (`int`, defaults to 640): Of the frames that it sees, in pixels.
    """

    transform: Callable[[torch.Tensor], torch.Tensor]
    margin: float = CROP_MARGIN
    detector: FaceDetector = field(default_factory=CenterFace)
    looks_per_second: float = LOOKS_PER_SECOND
    longest_side: int = LONGEST_SIDE

    def watch(self) -> "FaceWatch":
        """What [`MediaFile.read`] takes as `find_faces`, for all reads of one recording."""
        return FaceWatch(self)


class FaceWatch:
    """Watches one recording; called with its frames in their order.

    Args:
        settings ([`FaceCrops`]): How.
    """

    def __init__(self, settings: FaceCrops) -> None:
        self._settings = settings
        self._tracks, self._cuts = FaceTracks(), Cuts()
        self._people: list[Person] = []
        self._looked_at = -float("inf")
        self._held: set[int] = set()

    def __call__(self, frames: torch.Tensor, seconds: Sequence[float]) -> list[dict[int, Face]]:
        """The faces of the next frames.

        Args:
            frames (`torch.Tensor` of shape `(n, 3, height, width)`): uint8.
            seconds (`Sequence[float]`): When they are shown, ascending.

        Returns:
            `list[dict[int, Face]]`: For each frame its faces, by the number of the person.
        """
        return [self._watch(frame, time) for frame, time in zip(frames, seconds, strict=True)]

    def _watch(self, frame: torch.Tensor, seconds: float) -> dict[int, Face]:
        settings = self._settings
        is_cut = self._cuts.is_cut(frame)
        if is_cut:
            self._tracks.cut()
        if is_cut or seconds - self._looked_at >= 1 / settings.looks_per_second - _TOLERANCE_SECONDS:
            (found,) = find_faces(settings.detector, frame[None], settings.longest_side)
            self._people, self._looked_at = self._tracks.update(seconds, found), seconds
        bonus = dict.fromkeys(self._held, _HELD_BONUS)
        largest = sorted(self._people, key=lambda person: -person.side * bonus.get(person.number, 1.0))
        self._held = {person.number for person in largest[:MOST_CROPS]}
        return {person.number: self._face(person, frame) for person in self._people}

    def _face(self, person: Person, frame: torch.Tensor) -> Face:
        crop = None
        if person.number in self._held:
            square = crop_square(frame, square_around(person.box.tolist(), self._settings.margin))
            crop = self._settings.transform(square[None])[0]
        landmarks = tuple(map(tuple, person.landmarks.tolist()))
        is_seen = person.seen_seconds == self._looked_at
        return Face(tuple(person.box.tolist()), person.score, landmarks, is_seen, crop)


__all__ = ["LOOKS_PER_SECOND", "MOST_CROPS", "Face", "FaceCrops", "FaceWatch"]
