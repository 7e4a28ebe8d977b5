"""What the numbers in a film's planes mean: brightness and colours in code values ↔ pictures in 0..1.

A film stores luma (Y) and two colour differences (Cb, Cr), the latter mostly at half the width and height. Which
mixture of R, G and B luma is, which codes are black and white, and where the colour samples lie, the stream says in
tags (ITU-T H.273), or does not: then this guesses as players do.
"""

import math
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from imaging.images import apply_taps, resize_taps

# H.273, table 4: the shares of red and blue in luma.
MATRICES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
MATRICES |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
RGB, BT709, UNSAID, BT601, YCGCO = 0, 1, 2, 6, 8
HDR = {16: "PQ", 18: "HLG"}  # H.273, table 3
# Where the first sample of colour lies among the pixels that it is for: 0 on the first, 0.5 in the middle of them all.
POSITIONS = {"left": (0.5, 0.0), "center": (0.5, 0.5), "topleft": (0.0, 0.0), "top": (0.0, 0.5)}
POSITIONS |= {"bottomleft": (1.0, 0.0), "bottom": (1.0, 0.5)}


@dataclass(frozen=True)
class FilmColours:
    """The tags of a film, numbers as in H.273; what was unsaid is guessed."""

    kind: str  # "yuv", "rgb" or "grey"
    matrix: int
    full: bool  # codes from 0 to the most, else studio swing: black is 16 and white 235 of 255
    primaries: int
    transfer: int
    position: str  # of the samples of colour

    @property
    def hdr(self) -> str:
        """The name of its transfer function where that is one of HDR, else empty."""
        return HDR.get(self.transfer, "")


def colours_of(frame, position: str) -> FilmColours:
    """What a decoded picture says, and the stream of the position of its samples of colour."""
    format = frame.format
    kind = "rgb" if format.is_rgb or format.has_palette else "grey" if len(format.components) < 3 else "yuv"
    matrix = frame.colorspace
    if matrix not in MATRICES and matrix != YCGCO:  # as players guess: by the size
        matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
    full = frame.color_range == 2 or format.name.startswith("yuvj") or (kind == "grey" and frame.color_range != 1)
    primaries = frame.color_primaries if frame.color_primaries else UNSAID
    transfer = frame.color_trc if frame.color_trc else UNSAID
    position = position or ("center" if format.name.startswith("yuvj") else "topleft" if primaries == 9 else "left")
    return FilmColours(kind, matrix, full or kind == "rgb", primaries, transfer, position)


# ---------------------------------------------------------------------------------------------
# Codes ↔ numbers
# ---------------------------------------------------------------------------------------------


def to_numbers(plane: numpy.ndarray, bits: int, full: bool, is_chroma: bool = False) -> Tensor:
    """Codes (H, W) → (1, 1, H, W): luma with black 0 and white 1, colour differences from −0.5 to 0.5.

    Codes beyond black and white are numbers beyond 0 and 1.
    """
    codes = torch.from_numpy(plane.astype(numpy.float32))[None, None]
    zero, span = _swing(bits, full, is_chroma)
    return (codes - zero) / span


def numbers_of(planes: tuple[numpy.ndarray, ...], bits: int, colours: FilmColours) -> list[Tensor]:
    """Each plane of a picture as `to_numbers` gives it."""
    is_chroma = (False, True, True) if colours.kind == "yuv" else (False, False, False)
    return [to_numbers(plane, bits, colours.full, part) for plane, part in zip(planes, is_chroma, strict=False)]


def to_codes(numbers: Tensor, bits: int, full: bool, is_chroma: bool = False) -> numpy.ndarray:
    """The opposite of `to_numbers`, rounded, and cut off at the least and the largest code."""
    zero, span = _swing(bits, full, is_chroma)
    codes = (numbers[0, 0] * span + zero).round().clamp(0, 2**bits - 1)
    return codes.numpy().astype(numpy.uint8 if bits <= 8 else numpy.uint16)


def _swing(bits: int, full: bool, is_chroma: bool) -> tuple[float, float]:
    """The code of 0, and how many codes lie between 0 and 1 (H.273, equations 20 to 37)."""
    unit = 2 ** (bits - 8)
    if is_chroma:
        return 128 * unit, 2**bits - 1 if full else 224 * unit
    return (0, 2**bits - 1) if full else (16 * unit, 219 * unit)


def to_rgb(luma: Tensor, blue: Tensor, red: Tensor, matrix: int) -> Tensor:
    """Luma and the differences Cb and Cr, each (1, 1, H, W) → RGB (1, 3, H, W); out of 0..1 where no RGB is meant.

    Of YCgCo the differences are Cg and Co.
    """
    if matrix == YCGCO:
        return torch.cat((luma - blue + red, luma + blue, luma - blue - red), dim=1)
    share_red, share_blue = MATRICES[matrix]
    r = luma + 2 * (1 - share_red) * red
    b = luma + 2 * (1 - share_blue) * blue
    g = (luma - share_red * r - share_blue * b) / (1 - share_red - share_blue)
    return torch.cat((r, g, b), dim=1)


def from_rgb(rgb: Tensor, matrix: int) -> tuple[Tensor, Tensor, Tensor]:
    """RGB (1, 3, H, W) → luma, Cb and Cr, each (1, 1, H, W); Cg and Co of YCgCo."""
    r, g, b = rgb.split(1, dim=1)
    if matrix == YCGCO:
        return (r + 2 * g + b) / 4, (2 * g - r - b) / 4, (r - b) / 2
    share_red, share_blue = MATRICES[matrix]
    luma = share_red * r + (1 - share_red - share_blue) * g + share_blue * b
    return luma, (b - luma) / (2 * (1 - share_blue)), (r - luma) / (2 * (1 - share_red))


# ---------------------------------------------------------------------------------------------
# Samples of colour, which lie between the pixels
# ---------------------------------------------------------------------------------------------


def enlarge_chroma(
    chroma: Tensor, size: tuple[int, int], new_size: tuple[int, int], position: str, new_step: tuple[int, int]
) -> Tensor:
    """Colour samples (1, 1, h, w) of a picture of `size` → those of the picture enlarged to `new_size`, by bicubic.

    `new_step` says for how many rows and columns of the new picture there is one sample: (2, 2) of 4:2:0, (1, 1) of
    4:4:4. `position` is that of old and new samples; the new ones are shown where the old ones were.
    """
    for axis, first in zip((-2, -1), POSITIONS[position], strict=True):
        length, new_length, samples, step_new = size[axis], new_size[axis], chroma.shape[axis], new_step[axis]
        step = 2 ** round(math.log2(length / samples))
        scale = new_length / length
        # Sample i lies on pixel step·i + offset, and the old picture's pixel x on scale·(x + 1/2) − 1/2 of the new one.
        offset, offset_new = first * (step - 1), first * (step_new - 1)
        shift = (offset_new + 0.5 - step_new / 2) / (scale * step) + 0.5 - (offset + 0.5) / step
        taps = resize_taps(samples, -(-new_length // step_new), scale * step / step_new, shift=shift)
        chroma = apply_taps(chroma, axis, taps)
    return chroma


def as_rgb(numbers: list[Tensor], size: tuple[int, int], colours: FilmColours) -> Tensor:
    """What `numbers_of` gives of a picture of `size` → RGB (1, 3, H, W) in 0..1, as a player shows it."""
    if colours.kind == "rgb":
        return torch.cat(numbers, dim=1)
    if len(numbers) == 1:
        return numbers[0].clamp(0, 1).expand(-1, 3, -1, -1)
    blue, red = (enlarge_chroma(part, size, size, colours.position, (1, 1)) for part in numbers[1:])
    return to_rgb(numbers[0], blue, red, colours.matrix).clamp(0, 1)
