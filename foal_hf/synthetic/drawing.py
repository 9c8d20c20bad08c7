"""Draws faces: anti-aliased shapes painted one over the other, all pictures of a clip at once."""

from collections.abc import Callable

import numpy as np

from .face import Colour, FacePose, FaceTraits


Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in half picture sizes."""

Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Distance from the points x and y to the edge of a shape, negative inside, in half picture sizes."""

_BOX_MARGIN = 0.12  # the head shifts and rolls by less
_DARK: Colour = (0.13, 0.07, 0.07)
_WHITE: Colour = (0.97, 0.96, 0.94)


def draw_faces(traits: FaceTraits, pose: FacePose, *, image_size: int = 96) -> np.ndarray:
    """Draw one picture for every step of `pose`.

    Args:
        traits ([`FaceTraits`]): The speaker.
        pose ([`FacePose`]): Expression and movement, one value a picture.
        image_size (`int`, defaults to 96): Height and width of the pictures in pixels; even, as H.264 wants it.

    Returns:
        `np.ndarray` of shape `(num_frames, image_size, image_size, 3)`: RGB pictures, uint8.

    Raises:
        ValueError: If `image_size` is odd or below 16 pixels.
    """
    if image_size < 16 or image_size % 2:
        raise ValueError(f"image_size must be an even number of at least 16 pixels, got {image_size}.")
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
    pixels = (np.clip(canvas.pixels, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


class _Canvas:
    """Pictures under the brush, `pixels (3, num_frames, size, size)`, and the head's own coordinates in each.

    Colour comes first: numpy blends whole planes several times faster than triples.
    """

    def __init__(self, background: Colour, pose: FacePose, size: int):
        axis = ((np.arange(size) + 0.5) / size * 2.0 - 1.0).astype(np.float32)
        self.axis, self.pixel = axis, 2.0 / size
        self.still_x, self.still_y = axis[None, None, :], axis[None, :, None]
        x, y = self.still_x - _per_frame(pose.shift_x), self.still_y - _per_frame(pose.shift_y)
        cosine, sine = np.cos(_per_frame(pose.roll)), np.sin(_per_frame(pose.roll))
        self.x, self.y = cosine * x + sine * y, cosine * y - sine * x  # (num_frames, size, size)
        shade = 1.06 - 0.14 * self.still_y - 0.10 * self.still_x**2
        self.pixels = np.repeat(_shaded(background, shade), len(pose.roll), axis=1)

    def paint(
        self,
        shape: Distance,
        colour: Colour | np.ndarray,
        box: Box,
        *,
        opacity: float = 1.0,
        blur: float = 0.0,
        still: bool = False,
    ) -> None:
        """Blend `colour` into the inside of `shape`, within `box`.

        The edge fades out over one pixel, or over `blur` where that is more. `still` shapes do not move with the head.
        """
        left, right = np.searchsorted(self.axis, (box[0] - _BOX_MARGIN, box[2] + _BOX_MARGIN))
        top, bottom = np.searchsorted(self.axis, (box[1] - _BOX_MARGIN, box[3] + _BOX_MARGIN))
        region = np.s_[:, top:bottom, left:right]
        if still:
            x, y = self.still_x[:, :, left:right], self.still_y[:, top:bottom]
        else:
            x, y = self.x[region], self.y[region]
        coverage = np.clip(0.5 - shape(x, y) / max(blur, self.pixel), 0.0, 1.0) * opacity
        planes = np.asarray(colour, dtype=np.float32)
        planes = planes[:, None, None, None] if planes.ndim == 1 else planes[:, *region]
        pixels = self.pixels[:, *region]
        pixels += coverage.astype(np.float32) * (planes - pixels)


def _per_frame(track: np.ndarray) -> np.ndarray:
    """A track `(num_frames,)` as float32 `(num_frames, 1, 1)`, to meet coordinates `(num_frames, height, width)`."""
    return track.astype(np.float32)[:, None, None]


def _draw_body(canvas: _Canvas, traits: FaceTraits) -> None:
    if traits.hair_style == "long":
        mane = _ellipse(0.0, 0.05, traits.head_width + 0.17, traits.head_height + 0.20)
        canvas.paint(mane, _darker(traits.hair, 0.75), (-0.75, -0.85, 0.75, 0.95))
    neck = _intersection(_ellipse(0.0, 0.55, 0.25, 0.45), lambda x, y: 0.2 - y + 0.0 * x)
    canvas.paint(neck, _darker(traits.skin, 0.78), (-0.3, 0.2, 0.3, 1.0), still=True)
    canvas.paint(_ellipse(0.0, 1.28, 0.86, 0.50), traits.shirt, (-1.0, 0.7, 1.0, 1.0), still=True)
    canvas.paint(_ellipse(0.0, 0.76, 0.22, 0.14), _darker(traits.skin, 0.86), (-0.3, 0.6, 0.3, 0.95), still=True)


def _draw_head(canvas: _Canvas, traits: FaceTraits) -> None:
    width = traits.head_width
    for side in (-1.0, 1.0):
        centre_x, centre_y = side * width * 0.98, traits.eye_y + 0.11
        box = (centre_x - 0.1, centre_y - 0.15, centre_x + 0.1, centre_y + 0.15)
        canvas.paint(_ellipse(centre_x, centre_y, 0.075, 0.125), _darker(traits.skin, 0.88), box)
        canvas.paint(_ellipse(centre_x, centre_y, 0.038, 0.075), _darker(traits.skin, 0.74), box)
    # Lit from the upper left; the sides fall away from the light.
    light = 1.03 - 0.17 * (canvas.x / width) ** 2 - 0.10 * canvas.x - 0.08 * canvas.y
    canvas.paint(_head(traits), _shaded(traits.skin, light), (-0.6, -0.75, 0.6, 0.75))
    blush = np.array(traits.skin) * (1.0, 0.74, 0.72)
    for side in (-1.0, 1.0):
        cheek = _ellipse(side * 0.27, 0.19, 0.12, 0.10)
        canvas.paint(cheek, _colour(blush), (side * 0.27 - 0.2, 0.0, side * 0.27 + 0.2, 0.38), opacity=0.35, blur=0.10)


def _draw_hair(canvas: _Canvas, traits: FaceTraits) -> None:
    cap = _ellipse(0.0, -0.05, traits.head_width + 0.045, traits.head_height + 0.04)

    def hairline(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        match traits.hair_style:
            case "short":
                return y + 0.45 - 1.15 * x**2
            case "parted":
                return (y + 0.52 - 0.45 * np.abs(x - 0.16) - 0.75 * x**2) * 0.9
            case _:
                return (y + 0.52 - 1.75 * x**2) * 0.8

    light = 1.12 - 0.35 * (canvas.x + 0.12) ** 2 - 0.35 * (canvas.y + 0.62)
    canvas.paint(_intersection(cap, hairline), _shaded(traits.hair, light), (-0.65, -0.85, 0.65, 0.3))


def _draw_eye(canvas: _Canvas, traits: FaceTraits, pose: FacePose, side: float) -> None:
    centre_x, centre_y, width = side * traits.eye_distance, traits.eye_y, traits.eye_width
    box = (centre_x - 0.17, centre_y - 0.14, centre_x + 0.17, centre_y + 0.14)
    wide = 1.0 + 0.15 * np.clip(_per_frame(pose.brow_slant), -1.6, 1.6)  # aroused eyes open wider
    height = 0.06 * wide * _per_frame(pose.eye_opening) + 0.008
    white = _ellipse(centre_x, centre_y, width, height)
    socket = _ellipse(centre_x, centre_y - 0.02, width + 0.04, 0.10)
    canvas.paint(socket, _darker(traits.skin, 0.78), box, opacity=0.35, blur=0.06)
    canvas.paint(white, _WHITE, box)
    iris = _ellipse(centre_x, centre_y - 0.004, 0.054, 0.054)
    pupil = _ellipse(centre_x, centre_y - 0.004, 0.026, 0.026)
    glint = _ellipse(centre_x - 0.018, centre_y - 0.022, 0.013, 0.013)
    canvas.paint(_intersection(white, iris), traits.iris, box)
    canvas.paint(_intersection(white, pupil), (0.04, 0.03, 0.03), box)
    canvas.paint(_intersection(white, glint), _WHITE, box)
    lid = _intersection(_outline(white, 0.012), lambda x, y: y - centre_y - 0.01 + 0.0 * x)
    canvas.paint(lid, _DARK, box, opacity=0.9)


def _draw_brow(canvas: _Canvas, traits: FaceTraits, pose: FacePose, side: float) -> None:
    valence, slant = _per_frame(pose.valence), _per_frame(np.clip(pose.brow_slant, -1.6, 1.6))
    centre_x = side * (traits.eye_distance + 0.015 * np.clip(valence, -1.0, 0.0))  # a frown knits the brows
    centre_y = traits.eye_y - traits.brow_gap - 0.048 * valence
    arch = 0.035 + 0.025 * valence

    def brow(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along = (x - centre_x) * side / 0.145  # -1 at the inner end, 1 at the outer
        line = centre_y - arch * (0.4 - along**2) - 0.040 * slant * along
        thickness = traits.brow_thickness * (1.0 - 0.35 * np.clip(along, -0.5, 1.0))
        slope = (2.0 * arch * along - 0.040 * slant) / 0.145
        across = np.abs(y - line) / np.sqrt(1.0 + slope**2) - thickness
        return np.maximum(across, (np.abs(along) - 1.0) * 0.145)

    inner, outer = side * traits.eye_distance - 0.2, side * traits.eye_distance + 0.2
    box = (inner, traits.eye_y - traits.brow_gap - 0.12, outer, traits.eye_y - traits.brow_gap + 0.12)
    canvas.paint(brow, _darker(traits.hair, 0.7), box, opacity=0.92)


def _draw_nose(canvas: _Canvas, traits: FaceTraits) -> None:
    width, bottom, top = traits.nose_width, traits.nose_y, traits.eye_y
    shade = _darker(traits.skin, 0.62)
    box = (-0.15, top, 0.15, bottom + 0.08)
    length = bottom - top

    def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        down = np.clip((y - top) / length, 0.0, 1.0)
        return np.abs(x - 0.035 - (width - 0.035) * down**3) - 0.004 - 0.006 * down

    canvas.paint(_intersection(ridge, _ellipse(0.0, bottom - 0.10, 0.15, 0.13)), shade, box, opacity=0.45)
    canvas.paint(_ellipse(0.0, bottom + 0.015, width, 0.025), shade, box, opacity=0.55, blur=0.03)
    for side in (-1.0, 1.0):
        canvas.paint(_ellipse(side * width * 0.55, bottom + 0.008, 0.018, 0.011), _DARK, box, opacity=0.55)
    canvas.paint(_ellipse(-0.012, bottom - 0.055, 0.025, 0.03), _WHITE, box, opacity=0.25, blur=0.03)


def _draw_mouth(canvas: _Canvas, traits: FaceTraits, pose: FacePose) -> None:
    opening, valence = _per_frame(pose.mouth_opening), _per_frame(pose.valence)
    half_width = traits.mouth_width * (1.0 - 0.25 * _per_frame(pose.mouth_rounding) + 0.05 * valence)
    curve = 0.11 * valence + traits.resting_curve  # how far the corners are above the middle
    lip = traits.lip_thickness

    def between(upper: float, lower: float, gap: float, reach: float) -> Distance:
        """The band around the mouth line, `upper` and `lower` beyond the gap in the middle, narrow at the corners."""

        def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            along = x / half_width
            fullness = np.clip(1.0 - along**2, 0.0, 1.0)
            line = traits.mouth_y + curve * (0.4 - along**2)
            top = line - (0.035 * opening + upper) * fullness - gap
            bottom = line + (0.125 * opening + lower) * fullness + gap
            slope = 2.0 * curve * along / half_width
            across = np.maximum(top - y, y - bottom) / np.sqrt(1.0 + slope**2)
            return np.maximum(across, np.abs(x) - half_width * reach)

        return shape

    box = (-0.3, traits.mouth_y - 0.15, 0.3, traits.mouth_y + 0.26)
    lips = _colour(0.55 * np.array(traits.skin) * (0.88, 0.58, 0.58) + 0.45 * np.array((0.80, 0.34, 0.36)))
    inside = between(0.0, 0.0, 0.008, 1.04)
    canvas.paint(between(lip, 1.3 * lip, 0.006, 1.0), lips, box)
    canvas.paint(inside, (0.22, 0.06, 0.07), box)
    line_y = traits.mouth_y + 0.4 * curve
    teeth_y = line_y - 0.035 * opening + 0.022
    canvas.paint(_intersection(inside, _inset(_ellipse(0.0, teeth_y, 0.13, 0.022), opening)), _WHITE, box)
    tongue_y = line_y + 0.125 * opening - 0.004
    canvas.paint(_intersection(inside, _inset(_ellipse(0.0, tongue_y, 0.09, 0.035), opening)), (0.72, 0.32, 0.33), box)
    chin = _ellipse(0.0, traits.mouth_y + 0.135, 0.10, 0.012)
    canvas.paint(chin, _darker(traits.skin, 0.7), (-0.2, 0.4, 0.2, 0.6), opacity=0.2, blur=0.035)


def _draw_glasses(canvas: _Canvas, traits: FaceTraits) -> None:
    frame: Colour = (0.16, 0.14, 0.14)
    y = traits.eye_y + 0.012
    for side in (-1.0, 1.0):
        centre_x = side * (traits.eye_distance + 0.005)
        rim = _outline(_ellipse(centre_x, y, 0.165, 0.125), 0.011)
        box = (centre_x - 0.2, y - 0.16, centre_x + 0.2, y + 0.16)
        canvas.paint(rim, frame, box, opacity=0.9)
    bridge = _ellipse(0.0, y, traits.eye_distance - 0.15, 0.012)
    canvas.paint(bridge, frame, (-0.1, y - 0.02, 0.1, y + 0.02))


def _head(traits: FaceTraits) -> Distance:
    """An ellipse that narrows towards the chin."""
    ellipse = _ellipse(0.0, -0.02, traits.head_width, traits.head_height)
    return lambda x, y: ellipse(x / (1.0 - 0.22 * np.clip(y, 0.0, 1.0) ** 1.5), y)


def _ellipse(centre_x: float, centre_y: float | np.ndarray, width: float, height: float | np.ndarray) -> Distance:
    """An ellipse of half axes `width` and `height`; its distance is right to first order, which is what edges need."""

    def shape(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        across, down = (x - centre_x) / width, (y - centre_y) / height
        radius = np.sqrt(across**2 + down**2) + 1e-6
        gradient = np.sqrt((across / width) ** 2 + (down / height) ** 2) + 1e-6
        return radius * (radius - 1.0) / gradient

    return shape


def _intersection(first: Distance, second: Distance) -> Distance:
    return lambda x, y: np.maximum(first(x, y), second(x, y))


def _outline(shape: Distance, thickness: float) -> Distance:
    return lambda x, y: np.abs(shape(x, y)) - thickness


def _inset(shape: Distance, opening: np.ndarray) -> Distance:
    """`shape`, hidden while the mouth is nearly closed."""
    return lambda x, y: shape(x, y) + 0.2 * np.clip(0.35 - opening, 0.0, 1.0)


def _shaded(colour: Colour, light: np.ndarray) -> np.ndarray:
    """`colour` under `light (num_frames, height, width)`: `(3, num_frames, height, width)`."""
    return np.array(colour, dtype=np.float32)[:, None, None, None] * light


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = values.tolist()
    return red, green, blue


def _darker(colour: Colour, factor: float) -> Colour:
    return _colour(np.array(colour) * factor)
