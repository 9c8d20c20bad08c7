"""Decoded video frames as RGB in the shape, orientation and colours in which a player shows them."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch


HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of high dynamic range, by their number in ITU-T H.273."""

_BT2020 = 9  # number of its primaries in ITU-T H.273
# ITU-R BT.2087: linear RGB of BT.2020 in that of BT.709.
_BT2020_TO_BT709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
_GAMMA = 2.4  # of SDR displays, ITU-R BT.1886
_WHITE_NITS = 100.0  # which SDR white has, as in FFmpeg's filters
_HLG_PEAK_NITS, _HLG_SYSTEM_GAMMA = 1000.0, 1.2  # of the display that ITU-R BT.2100 takes as its reference
_KNEE = 0.8  # of SDR white: what is darker stays as it is, what is brighter is compressed below white
_WIDEST_PIXEL = 16  # headers may claim any aspect ratio


def display_matrix(frame: Any) -> tuple[bool, bool, bool]:
    """How the rows and columns of a decoded frame are to be shown: transposed, then upside down, then mirrored.

    The matrix of the file maps points: `x' = a x + c y`, `y' = b x + d y` with y pointing down. Eight orientations
    exist; others (by 30 degrees) are shown as they are, as FFmpeg does.
    """
    try:
        data = bytes(frame.side_data["DISPLAYMATRIX"])
    except KeyError:
        return False, False, False
    a, b, _, c, d, *_ = struct.unpack_from("<9i" if struct.pack("=i", 1)[0] else ">9i", data)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, d < 0, a < 0
    return True, b < 0, c < 0


class Display:
    """The size in which frames of one stream are shown.

    Args:
        frame: The first frame, as PyAV decodes it.
        pixel_aspect_ratio (`Fraction`, *optional*): Width of a pixel by its height.

    Attributes:
        height, width (`int`): Of the upright frame with square pixels.
    """

    def __init__(self, frame: Any, pixel_aspect_ratio: Fraction | None):
        self._aspect = float(pixel_aspect_ratio or 1)
        if not 1 / _WIDEST_PIXEL <= self._aspect <= _WIDEST_PIXEL:
            self._aspect = 1.0
        self._transposed, self._upside_down, self._mirrored = display_matrix(frame)
        self._coded = frame.height, max(round(frame.width * self._aspect), 1)
        self.height, self.width = self._coded[::-1] if self._transposed else self._coded

    def rgb(self, frame: Any, note: Callable[[str], None]) -> torch.Tensor:
        """A frame in that size, uint8 of shape `(3, height, width)`. Frames of other sizes are scaled."""
        height, width = self._coded
        is_hdr = frame.color_trc in HDR_TRANSFERS
        keeps_depth = is_hdr or frame.color_primaries == _BT2020
        scales = (frame.height, frame.width) != (height, width)
        image = frame.reformat(
            width=width,
            height=height,
            format="rgb48le" if keeps_depth else "rgb24",
            interpolation="BICUBIC" if scales else "BILINEAR",
            threads=1,
        ).to_ndarray()
        if keeps_depth:
            pixels = to_bt709(image, frame.color_trc)
            kind = f"HDR video ({HDR_TRANSFERS[frame.color_trc]})" if is_hdr else "video with BT.2020 colours"
            note(f"{kind} is shown in BT.709")
        else:
            pixels = torch.from_numpy(image)
        pixels = pixels.movedim(-1, 0)
        if self._transposed:
            pixels = pixels.transpose(1, 2)
        flipped = [axis for axis, flips in ((1, self._upside_down), (2, self._mirrored)) if flips]
        return pixels.flip(flipped) if flipped else pixels


def to_bt709(pixels: np.ndarray, transfer: int) -> torch.Tensor:
    """Colours of BT.2020, high dynamic range or not, as they are on an SDR display.

        light = EOTF(code) / 100 nits,   light_709 = M light,   code = f(light)^(1 / 2.4)

    `f` leaves light up to 80 % of SDR white as it is, and compresses what is brighter, of a pixel all three colours by
    the same factor. HLG is taken for a display of 1000 nits, colour by colour, as zimg (FFmpeg's zscale) does it.

    Args:
        pixels (`np.ndarray` of shape `(height, width, 3)`): uint16, full range.
        transfer (`int`): Transfer characteristic in ITU-T H.273: 16 PQ, 18 HLG, others SDR.

    Returns:
        `torch.Tensor` of the same shape, uint8.
    """
    light = _light_of_codes(transfer)
    red, green, blue = (torch.from_numpy(light.take(pixels[..., channel])) for channel in range(3))
    planes = [(r * red).add_(green, alpha=g).add_(blue, alpha=b).clamp_(min=0) for r, g, b in _BT2020_TO_BT709]
    if transfer in HDR_TRANSFERS:
        brightest = torch.maximum(torch.maximum(planes[0], planes[1]), planes[2])
        excess = (brightest - _KNEE).clamp_(min=0).div_(1 - _KNEE)
        scale = torch.where(excess > 0, (_KNEE + (1 - _KNEE) * excess / (1 + excess)) / brightest, 1.0)
        planes = [plane.mul_(scale) for plane in planes]
    codes = [plane.clamp_(max=1).pow_(1 / _GAMMA).mul_(255).round_().to(torch.uint8) for plane in planes]
    return torch.stack(codes, dim=-1)


@functools.cache
def _light_of_codes(transfer: int) -> np.ndarray:
    """The light of each of the 65,536 codes, in units of SDR white."""
    codes = np.arange(2**16) / (2**16 - 1)
    if transfer == 16:
        m1, m2, c1, c2, c3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128  # SMPTE ST 2084
        power = codes ** (1 / m2)
        light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) * (10_000 / _WHITE_NITS)
    elif transfer == 18:
        a, b, c = 0.17883277, 0.28466892, 0.55991073  # ITU-R BT.2100
        scene = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
        light = scene**_HLG_SYSTEM_GAMMA * (_HLG_PEAK_NITS / _WHITE_NITS)
    else:
        light = codes**_GAMMA
    return light.astype(np.float32)
