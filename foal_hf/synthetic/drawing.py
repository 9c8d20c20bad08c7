"""Draws faces with Pillow: filled shapes, one over the other, three times as large as the frame, then averaged."""

import math
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from .face import Colour, FacePose, FaceTraits


_SCALE = 3  # shapes have hard edges; averaging 3 x 3 pixels makes them smooth
_DARK: Colour = (0.13, 0.07, 0.07)
_WHITE: Colour = (0.97, 0.96, 0.94)
_CIRCLE = np.array([(math.cos(angle), math.sin(angle)) for angle in np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)])
_ACROSS = np.sin(np.linspace(-0.5 * np.pi, 0.5 * np.pi, 33))  # -1 to 1, closer together at the ends


def draw_faces(traits: FaceTraits, pose: FacePose, *, image_size: int = 96) -> np.ndarray:
    """Draw one frame for every step of `pose`.

    Args:
        traits ([`FaceTraits`]): The speaker.
        pose ([`FacePose`]): Expression and movement, one value a frame.
        image_size (`int`, defaults to 96): Height and width of the frames in pixels; even, as H.264 requires.

    Returns:
        `np.ndarray` of shape `(num_frames, image_size, image_size, 3)`: RGB frames, uint8.

    Raises:
        ValueError: If `image_size` is odd or below 16 pixels.
    """
    if image_size < 16 or image_size % 2:
        raise ValueError(f"image_size must be an even number of at least 16 pixels, got {image_size}.")
    frames = np.stack([_draw_face(traits, moment, image_size) for moment in _moments(pose)])
    # Lit from above; the sides are darker.
    axis = (np.arange(image_size) + 0.5) / image_size * 2.0 - 1.0
    light = 1.06 - 0.14 * axis[:, None] - 0.10 * axis**2
    return np.clip(frames * light[..., None] + 0.5, 0.0, 255.0).astype(np.uint8)


def _moments(pose: FacePose) -> Iterator[FacePose]:
    """The pose of each frame, its values as numbers."""
    tracks = vars(pose)
    for values in zip(*(track.tolist() for track in tracks.values()), strict=True):
        yield FacePose(**dict(zip(tracks, values, strict=True)))


def _draw_face(traits: FaceTraits, pose: FacePose, image_size: int) -> np.ndarray:
    canvas = _Canvas(traits.background, pose, image_size)
    _draw_body(canvas, traits)
    _draw_head(canvas, traits)
    _draw_nose(canvas, traits)
    _draw_mouth(canvas, traits, pose)
    _draw_hair(canvas, traits)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, traits, pose, side)
        _draw_brow(canvas, traits, pose, side)
    if traits.glasses:
        _draw_glasses(canvas, traits)
    return np.asarray(canvas.image.reduce(_SCALE))


class _Canvas:
    """A frame under the brush. Points are in the head's own coordinates, `(num_points, 2)`, in half frame sizes."""

    def __init__(self, background: Colour, pose: FacePose, image_size: int):
        self.pixels_per_unit = image_size * _SCALE / 2.0
        self.image = Image.new("RGB", (image_size * _SCALE,) * 2, _pixel(background))
        self.brush = ImageDraw.Draw(self.image, "RGBA")  # mixes translucent colours with what is below
        cosine, sine = math.cos(pose.roll), math.sin(pose.roll)
        self.rotation = np.array([[cosine, sine], [-sine, cosine]])
        self.shift = np.array([pose.shift_x, pose.shift_y])

    def place(self, points: np.ndarray, *, still: bool = False) -> list[float]:
        """Points in pixels, x and y in turn; `still` ones do not move with the head."""
        moved = points if still else points @ self.rotation + self.shift
        return ((moved + 1.0) * self.pixels_per_unit - 0.5).ravel().tolist()

    def fill(self, points: np.ndarray, colour: Colour, *, opacity: float = 1.0, still: bool = False) -> None:
        self.brush.polygon(self.place(points, still=still), fill=_pixel(colour, opacity))

    def stroke(self, points: np.ndarray, colour: Colour, *, width: float, opacity: float = 1.0) -> None:
        pixels = max(round(width * self.pixels_per_unit), 1)
        self.brush.line(self.place(points), fill=_pixel(colour, opacity), width=pixels, joint="curve")


def _draw_body(canvas: _Canvas, traits: FaceTraits) -> None:
    if traits.hair_style == "long":
        canvas.fill(
            _ellipse(0.0, 0.05, traits.head_width + 0.17, traits.head_height + 0.20), _darker(traits.hair, 0.75)
        )
    canvas.fill(_ellipse(0.0, 0.60, 0.25, 0.38), _darker(traits.skin, 0.78), still=True)
    canvas.fill(_ellipse(0.0, 1.28, 0.86, 0.50), traits.shirt, still=True)
    canvas.fill(_ellipse(0.0, 0.76, 0.22, 0.14), _darker(traits.skin, 0.86), still=True)


def _draw_head(canvas: _Canvas, traits: FaceTraits) -> None:
    for side in (-1.0, 1.0):
        ear_x, ear_y = side * traits.head_width * 0.98, traits.eye_y + 0.11
        canvas.fill(_ellipse(ear_x, ear_y, 0.075, 0.125), _darker(traits.skin, 0.88))
        canvas.fill(_ellipse(ear_x, ear_y, 0.038, 0.075), _darker(traits.skin, 0.74))
    head = _ellipse(0.0, -0.02, traits.head_width, traits.head_height)
    head[:, 0] *= 1.0 - 0.22 * np.clip(head[:, 1], 0.0, 1.0) ** 1.5  # narrower towards the chin
    canvas.fill(head, traits.skin)
    blush = _mixed(traits.skin, (traits.skin[0], 0.74 * traits.skin[1], 0.72 * traits.skin[2]), 0.25)
    for side in (-1.0, 1.0):
        canvas.fill(_ellipse(side * 0.27, 0.19, 0.12, 0.10), blush)


def _draw_hair(canvas: _Canvas, traits: FaceTraits) -> None:
    """The part of a cap that is above the hairline."""
    x = _ACROSS * (traits.head_width + 0.045)
    half_height = (traits.head_height + 0.04) * np.sqrt(1.0 - _ACROSS**2)
    match traits.hair_style:
        case "short":
            hairline = -0.45 + 1.15 * x**2
        case "parted":
            hairline = -0.52 + 0.45 * np.abs(x - 0.16) + 0.75 * x**2
        case _:
            hairline = -0.52 + 1.75 * x**2
    top, bottom = -0.05 - half_height, -0.05 + half_height
    canvas.fill(_outline(x, top, np.clip(hairline, top, bottom)), traits.hair)


def _draw_eye(canvas: _Canvas, traits: FaceTraits, pose: FacePose, side: float) -> None:
    x, y, width = side * traits.eye_distance, traits.eye_y, traits.eye_width
    wide = 1.0 + 0.15 * np.clip(pose.brow_slant, -1.6, 1.6)  # aroused eyes open wider
    half_height = (0.06 * wide * pose.eye_opening + 0.008) * np.sqrt(1.0 - _ACROSS**2)
    white = np.array([x + width * _ACROSS, y - half_height, y + half_height])
    canvas.fill(_ellipse(x, y - 0.02, width + 0.04, 0.10), _darker(traits.skin, 0.78), opacity=0.3)
    canvas.fill(_outline(*white), _WHITE)
    canvas.fill(_within(_ellipse(x, y - 0.004, 0.054, 0.054), *white), traits.iris)
    canvas.fill(_within(_ellipse(x, y - 0.004, 0.026, 0.026), *white), (0.04, 0.03, 0.03))
    canvas.fill(_within(_ellipse(x - 0.018, y - 0.022, 0.013, 0.013), *white), _WHITE)
    canvas.stroke(white[:2].T, _DARK, width=0.024, opacity=0.9)


def _draw_brow(canvas: _Canvas, traits: FaceTraits, pose: FacePose, side: float) -> None:
    slant = 0.040 * np.clip(pose.brow_slant, -1.6, 1.6)
    arch = 0.035 + 0.025 * pose.valence
    # A frown knits the brows. From the inner end to the outer one:
    x = side * (traits.eye_distance + 0.015 * np.clip(pose.valence, -1.0, 0.0) + 0.145 * _ACROSS)
    line = traits.eye_y - traits.brow_gap - 0.048 * pose.valence - arch * (0.4 - _ACROSS**2) - slant * _ACROSS
    slope = (2.0 * arch * _ACROSS - slant) / 0.145
    thickness = traits.brow_thickness * (1.0 - 0.35 * np.clip(_ACROSS, -0.5, 1.0)) * np.sqrt(1.0 + slope**2)
    canvas.fill(_outline(x, line - thickness, line + thickness), _darker(traits.hair, 0.7), opacity=0.92)


def _draw_nose(canvas: _Canvas, traits: FaceTraits) -> None:
    width, bottom, shade = traits.nose_width, traits.nose_y, _darker(traits.skin, 0.62)
    down = np.linspace(0.35, 1.0, 9)  # of the way from the eyes to the nostrils
    ridge = np.stack([0.035 + (width - 0.035) * down**3, traits.eye_y + (bottom - traits.eye_y) * down], axis=1)
    canvas.stroke(ridge, shade, width=0.018, opacity=0.45)
    canvas.fill(_ellipse(0.0, bottom + 0.015, width, 0.025), shade, opacity=0.5)
    for side in (-1.0, 1.0):
        canvas.fill(_ellipse(side * width * 0.55, bottom + 0.008, 0.018, 0.011), _DARK, opacity=0.55)


def _draw_mouth(canvas: _Canvas, traits: FaceTraits, pose: FacePose) -> None:
    opening = float(pose.mouth_opening)
    half_width = traits.mouth_width * (1.0 - 0.25 * pose.mouth_rounding + 0.05 * pose.valence)
    curve = 0.11 * pose.valence + traits.resting_curve  # how far the corners are above the middle
    line = traits.mouth_y + curve * (0.4 - _ACROSS**2)
    fullness = 1.0 - _ACROSS**2
    slope = np.sqrt(1.0 + (2.0 * curve * _ACROSS / half_width) ** 2)

    def around(upper: float, lower: float, gap: float) -> np.ndarray:
        """Columns, top and bottom of a band around the opening: `upper` above it, `lower` below it."""
        top = line - (0.035 * opening + upper) * fullness - gap * slope
        bottom = line + (0.125 * opening + lower) * fullness + gap * slope
        return np.array([half_width * _ACROSS, top, bottom])

    lips = _mixed((0.88 * traits.skin[0], 0.58 * traits.skin[1], 0.58 * traits.skin[2]), (0.80, 0.34, 0.36), 0.45)
    inside, middle = around(0.0, 0.0, 0.008), traits.mouth_y + 0.4 * float(curve)
    canvas.fill(_outline(*around(traits.lip_thickness, 1.3 * traits.lip_thickness, 0.006)), lips)
    canvas.fill(_outline(*inside), (0.22, 0.06, 0.07))
    hidden = 0.2 * max(0.35 - opening, 0.0)  # a mouth that is nearly closed hides teeth and tongue
    for y, width, height, colour in (
        (middle - 0.035 * opening + 0.022, 0.13, 0.022, _WHITE),
        (middle + 0.125 * opening - 0.004, 0.09, 0.035, (0.72, 0.32, 0.33)),
    ):
        if height > hidden:
            canvas.fill(_within(_ellipse(0.0, y, width - hidden, height - hidden), *inside), colour)
    canvas.fill(_ellipse(0.0, traits.mouth_y + 0.135, 0.10, 0.012), _darker(traits.skin, 0.7), opacity=0.15)


def _draw_glasses(canvas: _Canvas, traits: FaceTraits) -> None:
    frame, y = (0.16, 0.14, 0.14), traits.eye_y + 0.012
    for side in (-1.0, 1.0):
        rim = _ellipse(side * (traits.eye_distance + 0.005), y, 0.165, 0.125)
        canvas.stroke(np.concatenate([rim, rim[:2]]), frame, width=0.022, opacity=0.9)
    reach = traits.eye_distance - 0.155
    canvas.stroke(np.array([[-reach, y], [reach, y]]), frame, width=0.022)


def _ellipse(centre_x: float, centre_y: float, half_width: float, half_height: float) -> np.ndarray:
    """Points on an ellipse, `(48, 2)`."""
    return _CIRCLE * (half_width, half_height) + (centre_x, centre_y)


def _outline(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Points around what is between two curves."""
    return np.array([np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]])]).T


def _within(points: np.ndarray, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """A shape as far as it is between two curves."""
    across, down = points.T
    return np.array([across, np.clip(down, np.interp(across, x, top), np.interp(across, x, bottom))]).T


def _mixed(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = ((1.0 - share) * one + share * two for one, two in zip(first, second, strict=True))
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    return _mixed((0.0, 0.0, 0.0), colour, factor)


def _pixel(colour: Colour, opacity: float = 1.0) -> tuple[int, ...]:
    """A colour of 0 to 1 as bytes, with its opacity where it has one."""
    channels = tuple(round(255 * min(max(value, 0.0), 1.0)) for value in colour)
    return channels if opacity == 1.0 else (*channels, round(255 * opacity))
