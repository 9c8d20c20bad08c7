"""Faces of one moment to persons over time, by overlap and motion, from one cut to the next.

A person is whoever stays in one place, or moves on from it, without a cut. Nothing compares what faces look like: who
returns after a cut, or after more than a second out of sight, counts as a new person.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .detection import Detections


NEW_SCORE = 0.5
"""A face that nobody was at before has to have this score; one that is followed may be less sure."""
LOST_SECONDS = 1.0
"""A person who is out of sight for longer is gone."""
CUT_CORRELATION, CUT_COLOURS = 0.8, 0.1
"""Two frames are of different scenes if their luma correlates less than the first, and more than this share of their
colours has changed.

Neighbours in slowly panned photographs of faces had at least 0.89 and at most 0.06; pairs of different photographs at
most 0.77 and at least 0.11. Motion alone changes the place of colours, and hardly their share.
"""
_THUMBNAIL = (32, 32)
_SAMPLES = 128  # rows or columns of a frame that are looked at, at least
_LUMA = (0.299, 0.587, 0.114)
_LEVELS = 16  # of each colour, in the histogram
_FLAT_LUMA = 2.0  # standard deviation, of 255: a frame of one colour correlates with nothing
_FARTHEST = 1.0  # sides of its face that a person may be off the place that their motion leads to
_MOST_GROWTH = 2.0  # in size, from one look to the next
_STEADY_WEIGHT = 0.3  # of a new box where the face keeps still: what is left is the noise of the detector
_FREE_CHANGE = 0.15  # of the side of the face: from this on a box is followed at once


@dataclass
class Person:
    """Somebody's face, as far as it was followed.

    Attributes:
        number (`int`): 1 for the first person of a recording, and so on.
        box (`np.ndarray` of shape `(4,)`): Left, top, right, bottom in pixels, smoothed over time.
        landmarks (`np.ndarray` of shape `(5, 2)`): As in [`Detections`], when the face was last seen.
        score (`float`): Of the detector, when the face was last seen.
        seen_seconds (`float`): When that was.
        velocity (`np.ndarray` of shape `(2,)`): Of the centre, in pixels a second.
    """

    number: int
    box: np.ndarray
    landmarks: np.ndarray
    score: float
    seen_seconds: float
    velocity: np.ndarray

    @property
    def side(self) -> float:
        """The longer side of the box."""
        return float((self.box[2:] - self.box[:2]).max())

    def box_at(self, seconds: float) -> np.ndarray:
        """Where the face should be by its motion."""
        return self.box + np.tile(self.velocity * (seconds - self.seen_seconds), 2)

    def see(self, box: np.ndarray, landmarks: np.ndarray, score: float, seconds: float) -> None:
        """Follow the face to a new box: little where it hardly differs, completely where the face has moved."""
        change = float(np.abs(box - self.box).max()) / max(self.side, 1.0)
        weight = min(1.0, _STEADY_WEIGHT + (1 - _STEADY_WEIGHT) * change / _FREE_CHANGE)
        before = _centre(self.box)
        self.box = self.box + weight * (box - self.box)
        passed = max(seconds - self.seen_seconds, 1e-3)
        self.velocity = 0.5 * self.velocity + 0.5 * (_centre(self.box) - before) / passed
        self.landmarks, self.score, self.seen_seconds = landmarks, score, seconds


class FaceTracks:
    """Follows the faces of one recording."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self._count = 0

    def cut(self) -> None:
        """A new scene begins: everybody in it is new."""
        self.people = []

    def update(self, seconds: float, found: Detections) -> list[Person]:
        """Follow everybody to the faces of a moment.

        Args:
            seconds (`float`): Not before the last moment.
            found ([`Detections`]): The faces.

        Returns:
            `list[Person]`: Whoever is in sight, or was until a second ago (then `seen_seconds` is earlier).
        """
        self.people = [person for person in self.people if seconds - person.seen_seconds <= LOST_SECONDS]
        matched = self._matches(seconds, found.boxes)
        for row, person in matched.items():
            person.see(found.boxes[row], found.landmarks[row], float(found.scores[row]), seconds)
        for row, score in enumerate(found.scores.tolist()):
            if row not in matched and score >= NEW_SCORE:
                self._count += 1
                box, landmarks = found.boxes[row].astype(np.float64), found.landmarks[row]
                self.people.append(Person(self._count, box, landmarks, score, seconds, np.zeros(2)))
        return list(self.people)

    def _matches(self, seconds: float, boxes: np.ndarray) -> dict[int, Person]:
        """Who each face is, by its row: the assignment with the shortest ways in all."""
        if not self.people or not len(boxes):
            return {}
        from scipy.optimize import linear_sum_assignment

        expected = np.stack([person.box_at(seconds) for person in self.people])  # (people, 4)
        sides = np.array([person.side for person in self.people])[:, None]
        way = np.linalg.norm(_centre(expected)[:, None] - _centre(boxes)[None], axis=-1) / sides  # (people, faces)
        growth = np.abs(np.log((boxes[:, 2:] - boxes[:, :2]).max(-1)[None] / sides))
        is_possible = (way <= _FARTHEST) & (growth <= np.log(_MOST_GROWTH))
        cost = np.where(is_possible, way + growth, 1e3)
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        return {int(row): self.people[who] for who, row in pairs if is_possible[who, row]}


class Cuts:
    """Finds where a new scene begins, frame by frame.

    Attributes:
        luma (`torch.Tensor` of shape `(1024,)`): Of the last frame, from 0 to 255, on 32x32 pixels.
    """

    def __init__(self) -> None:
        self.luma = torch.zeros(_THUMBNAIL[0] * _THUMBNAIL[1])
        self._before: tuple[torch.Tensor, torch.Tensor] | None = None

    def is_cut(self, frame: torch.Tensor) -> bool:
        """Whether the scene of this frame `(3, height, width)`, uint8, is not that of the one before.

        Both frames are shrunk to 32x32 pixels. With the correlation r of their luma and the histograms h of their
        colours, of 16 levels each, it is a cut where

            r < 0.8  and  mean over the colours of |h_1 - h_2|_1 / 2 > 0.1

        A frame of one colour, as in a fade, begins no scene, and neither does the first one.
        """
        step = max(min(frame.shape[-2:]) // _SAMPLES, 1)  # not every pixel of a large frame
        small = F.interpolate(frame[None, :, ::step, ::step].cpu().float(), _THUMBNAIL, mode="area")[0]
        self.luma = luma = (small * torch.tensor(_LUMA).view(3, 1, 1)).sum(0).flatten()
        if luma.std() < _FLAT_LUMA:
            return False
        colours = torch.stack([torch.histc(colour, _LEVELS, 0, 256) for colour in small]) / luma.numel()
        before, self._before = self._before, (luma, colours)
        if before is None:
            return False
        correlation = torch.corrcoef(torch.stack([before[0], luma]))[0, 1].item()
        changed = (before[1] - colours).abs().sum(1).mean().item() / 2
        return correlation < CUT_CORRELATION and changed > CUT_COLOURS


def _centre(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


__all__ = ["CUT_COLOURS", "CUT_CORRELATION", "LOST_SECONDS", "NEW_SCORE", "Cuts", "FaceTracks", "Person"]
