"""Generated faces: how a speaker looks and how a face moves. `drawing.py` draws both.

No real person is shown. Lengths are in half frame sizes: the frame spans -1 to 1, x to the right and y downwards.
"""

import colorsys
from dataclasses import dataclass

import numpy as np


FRAME_RATE = 25
"""Frames per second of every generated video."""

Colour = tuple[float, float, float]
"""Red, green and blue, each from 0 to 1."""

_SKINS: tuple[Colour, ...] = (
    (0.97, 0.83, 0.72),
    (0.91, 0.73, 0.58),
    (0.79, 0.58, 0.42),
    (0.58, 0.40, 0.28),
    (0.49, 0.33, 0.24),
)
_HAIRS: tuple[Colour, ...] = (
    (0.10, 0.08, 0.08),
    (0.26, 0.16, 0.10),
    (0.45, 0.28, 0.14),
    (0.80, 0.64, 0.36),
    (0.60, 0.24, 0.12),
    (0.62, 0.61, 0.60),
)
_IRISES: tuple[Colour, ...] = ((0.25, 0.15, 0.08), (0.20, 0.38, 0.56), (0.24, 0.42, 0.26), (0.36, 0.26, 0.12))
HAIR_STYLES = ("short", "parted", "long")


@dataclass(frozen=True)
class FaceTraits:
    """What stays the same in every frame of one speaker; lengths in half frame sizes, colours from 0 to 1."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    background: Colour
    hair_style: str
    glasses: bool
    head_width: float
    head_height: float
    eye_distance: float
    eye_width: float
    eye_y: float
    brow_gap: float
    brow_thickness: float
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lip_thickness: float
    resting_curve: float


@dataclass(frozen=True)
class FacePose:
    """How a face moves: one value per frame.

    Args:
        mouth_opening (`np.ndarray` of shape `(num_frames,)`): 0 (closed) to 1 (wide open).
        mouth_rounding (`np.ndarray` of shape `(num_frames,)`): 0 (spread) to 1 (round).
        valence (`np.ndarray` of shape `(num_frames,)`): -1 (mouth corners and brows down) to 1 (up).
        brow_slant (`np.ndarray` of shape `(num_frames,)`): -1 (inner ends of the brows up, eyes narrow) to 1
            (down, wide).
        eye_opening (`np.ndarray` of shape `(num_frames,)`): 0 (shut) to 1 (open).
        shift_x, shift_y (`np.ndarray` of shape `(num_frames,)`): Where the head is, in half frame sizes.
        roll (`np.ndarray` of shape `(num_frames,)`): Rotation of the head in the image plane, in radians.
    """

    mouth_opening: np.ndarray
    mouth_rounding: np.ndarray
    valence: np.ndarray
    brow_slant: np.ndarray
    eye_opening: np.ndarray
    shift_x: np.ndarray
    shift_y: np.ndarray
    roll: np.ndarray


def draw_face_traits(rng: np.random.Generator, gender: str) -> FaceTraits:
    """Draw the looks of a speaker; `gender` (`"female"` or `"male"`) shifts the odds of long hair and full lips."""
    female = gender == "female"
    return FaceTraits(
        skin=_between(_SKINS, rng.uniform(0.0, len(_SKINS) - 1.0)),
        hair=_HAIRS[int(rng.integers(len(_HAIRS)))],
        iris=_IRISES[int(rng.integers(len(_IRISES)))],
        shirt=colorsys.hsv_to_rgb(rng.uniform(0.0, 1.0), 0.45, rng.uniform(0.35, 0.7)),
        background=colorsys.hsv_to_rgb(rng.uniform(0.0, 1.0), 0.25, rng.uniform(0.55, 0.85)),
        hair_style=str(rng.choice(HAIR_STYLES, p=(0.15, 0.25, 0.6) if female else (0.55, 0.4, 0.05))),
        glasses=bool(rng.random() < 0.2),
        head_width=rng.uniform(0.46, 0.54),
        head_height=rng.uniform(0.61, 0.68),
        eye_distance=rng.uniform(0.205, 0.245),
        eye_width=rng.uniform(0.105, 0.125),
        eye_y=rng.uniform(-0.11, -0.08),
        brow_gap=rng.uniform(0.16, 0.18),
        brow_thickness=rng.uniform(0.026, 0.034) if female else rng.uniform(0.034, 0.046),
        nose_y=rng.uniform(0.12, 0.17),
        nose_width=rng.uniform(0.055, 0.085),
        mouth_y=rng.uniform(0.34, 0.37),
        mouth_width=rng.uniform(0.20, 0.24),
        lip_thickness=rng.uniform(0.034, 0.044) if female else rng.uniform(0.024, 0.034),
        resting_curve=rng.normal(0.0, 0.008),
    )


def move_face(
    mouth_opening: np.ndarray,
    mouth_rounding: np.ndarray,
    valence: np.ndarray,
    brow_slant: np.ndarray,
    rng: np.random.Generator,
) -> FacePose:
    """Add what every speaker does: blink, sway and nod a little. All tracks have one value per frame."""
    num_frames = len(mouth_opening)
    sway = [_wander(num_frames, rng) for _ in range(3)]
    return FacePose(
        mouth_opening=mouth_opening,
        mouth_rounding=mouth_rounding,
        valence=valence + 0.06 * _wander(num_frames, rng),
        brow_slant=brow_slant,
        eye_opening=_blinks(num_frames, rng),
        shift_x=rng.normal(0.0, 0.012) + 0.015 * sway[0],
        shift_y=rng.normal(0.0, 0.008) + 0.01 * sway[1] + 0.012 * (mouth_opening - 0.5),
        roll=rng.normal(0.0, 0.02) + 0.02 * sway[2],
    )


def _wander(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """A slow random movement of about unit size: three sines below 1.2 Hz."""
    seconds = np.arange(num_frames) / FRAME_RATE
    rates_hz, phases = rng.uniform(0.2, 1.2, 3), rng.uniform(0.0, 2 * np.pi, 3)
    return np.sin(2 * np.pi * rates_hz[:, None] * seconds + phases[:, None]).mean(axis=0) * 1.2


def _blinks(num_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Opening of the eyes, 0 to 1: open, and shut for a fifth of a second every 1.5 to 4 seconds."""
    frames = np.arange(num_frames)
    opening = np.ones(num_frames)
    blink = rng.uniform(0.0, 3.0) * FRAME_RATE
    while blink < num_frames:
        opening = np.minimum(opening, np.clip(np.abs(frames - blink) / 2.5 - 0.2, 0.0, 1.0))
        blink += rng.uniform(1.5, 4.0) * FRAME_RATE
    return opening


def _between(colours: tuple[Colour, ...], position: float) -> Colour:
    """The colour at `position` of a scale whose marks are 0, 1, 2, ..."""
    channels = zip(*colours, strict=True)
    red, green, blue = (float(np.interp(position, range(len(colours)), channel)) for channel in channels)
    return red, green, blue
