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
"""Frames that the detector sees of each second, and each one behind a cut; in between a face goes on as it moved.

At a picture that has changed little it looks half as often, and at one that has not changed it does not look again.
"""
WIDE_LOOK_SECONDS = 2.0
"""How often it looks at least, and for new faces beside those that are known; with nobody in sight each look does."""
_KNOWN_FACE_PIXELS = 48  # a look at known faces is at frames in which the smallest is as large
_SMALLEST_SIDE = 128
# Of 255: the most that a part of a picture, a 32nd of its rows and columns, differs where it has changed little or not.
_NEARLY_SAME_LUMA, _SAME_LUMA = 30.0, 6.0
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
        looks_per_second (`float`, defaults to 5.0): How often the detector looks at most.
        wide_look_seconds (`float`, defaults to 2.0): How often it looks for new faces beside known ones.
        longest_side (`int`, defaults to 640): Of the frames that it sees, in pixels.
    """

    transform: Callable[[torch.Tensor], torch.Tensor]
    margin: float = CROP_MARGIN
    detector: FaceDetector = field(default_factory=CenterFace)
    looks_per_second: float = LOOKS_PER_SECOND
    wide_look_seconds: float = WIDE_LOOK_SECONDS
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
        self._looked_at = self._looked_wide_at = -float("inf")
        self._held: set[int] = set()
        self._luma_of_look = torch.zeros(())

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
        settings, is_cut = self._settings, self._cuts.is_cut(frame)
        if is_cut:
            self._tracks.cut()
        change = float((self._cuts.luma - self._luma_of_look).abs().max())
        slower = 1.0 if change > _NEARLY_SAME_LUMA else 2.0 if change > _SAME_LUMA else float("inf")
        wait = min(slower / settings.looks_per_second, settings.wide_look_seconds)
        if is_cut or seconds - self._looked_at >= wait - _TOLERANCE_SECONDS:
            self._look(frame, seconds)
            self._luma_of_look = self._cuts.luma
        bonus = dict.fromkeys(self._held, _HELD_BONUS)
        largest = sorted(self._people, key=lambda person: -person.side * bonus.get(person.number, 1.0))
        self._held = {person.number for person in largest[:MOST_CROPS]}
        moment = seconds if change > _SAME_LUMA else self._looked_at
        return {person.number: self._face(person, frame, moment) for person in self._people}

    def _look(self, frame: torch.Tensor, seconds: float) -> None:
        """Run the detector: on a frame as small as known faces allow, or on one in which new ones are found too."""
        settings, known = self._settings, self._tracks.people
        longest_side = settings.longest_side
        is_wide = seconds - self._looked_wide_at >= settings.wide_look_seconds - _TOLERANCE_SECONDS
        if known and not is_wide and all(map(self._is_seen, known)):
            enough = _KNOWN_FACE_PIXELS / min(person.side for person in known) * max(frame.shape[-2:])
            longest_side = min(max(round(enough), _SMALLEST_SIDE), longest_side)
        else:
            self._looked_wide_at = seconds
        (found,) = find_faces(settings.detector, frame[None], longest_side)
        self._people, self._looked_at = self._tracks.update(seconds, found), seconds

    def _face(self, person: Person, frame: torch.Tensor, seconds: float) -> Face:
        is_seen = self._is_seen(person)
        box = tuple((person.box_at(seconds) if is_seen else person.box).tolist())
        crop = None
        if person.number in self._held:
            square = crop_square(frame, square_around(box, self._settings.margin))
            crop = self._settings.transform(square[None])[0]
        return Face(box, person.score, tuple(map(tuple, person.landmarks.tolist())), is_seen, crop)

    def _is_seen(self, person: Person) -> bool:
        """Whether the last look saw this face."""
        return person.seen_seconds == self._looked_at


__all__ = ["LOOKS_PER_SECOND", "MOST_CROPS", "WIDE_LOOK_SECONDS", "Face", "FaceCrops", "FaceWatch"]
