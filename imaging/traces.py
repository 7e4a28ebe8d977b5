"""What a picture has been through, as its file and its pixels tell it.

look_at(picture).blocks     1.0 in a sound picture, 1.1 and more where JPEG has left the edges of its blocks
look_at(picture).noise      0.0 in a sound picture, about σ where noise lies over all of it
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imaging.frames import Picture, frame_size, read_window
from imaging.images import rgb_to_luma

SIDE = 1024  # pixels of the central square that is looked at
JPEG_BLOCK = 8
NOISE_BLOCK = 8  # coefficients a side

# The first table of the JPEG standard (ISO/IEC 10918-1, table K.1), in rows: what libjpeg scales by the quality.
LUMINANCE_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


@dataclass(frozen=True)
class Traces:
    """What can be told of a picture."""

    quality: int | None  # of the JPEG that it is, 1 to 100
    blocks: float = 1.0  # the step of luma at the edges of JPEG's blocks, over that elsewhere
    noise: float = 0.0  # σ of luma's in 8-bit levels, where it lies over all of the picture; else 0
    drawn: bool = False  # it has few colours, as drawings and text have, and no photograph


def look_at(picture: Picture) -> Traces:
    """The traces in the middle of a picture's first frame; transparency does not count.

    A JPEG's own tables tell all that is asked: its pixels are not looked at.
    """
    if picture.quality is not None:
        return Traces(picture.quality)
    frame = picture.frames[0]
    height, width = frame_size(frame)
    # From a multiple of a block on, so that it is known where the blocks are.
    top, left = (max(0, side - SIDE) // 2 // JPEG_BLOCK * JPEG_BLOCK for side in (height, width))
    pixels = read_window(frame, top, min(height, top + SIDE), left, min(width, left + SIDE))
    pixels = pixels[:, :3] if pixels.shape[1] > 2 else pixels[:, :1].expand(-1, 3, -1, -1)
    luma = rgb_to_luma(pixels)
    return Traces(None, blockiness(luma), noisiness(luma), is_drawn(pixels))


def jpeg_quality(table: list[int]) -> int:
    """The quality, 1 to 100, that libjpeg gives a file whose luminance is quantised by these 64 steps."""
    steps = [step for step in zip(table, LUMINANCE_TABLE, strict=True) if step[0] < 255]  # what is larger is cut
    if not steps:
        return 1
    percent = 100 * sum(step for step, _ in steps) / sum(usual for _, usual in steps)
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


def blockiness(luma: Tensor) -> float:
    """How much luma (1, 1, H, W) shows an 8×8 grid that begins in its corner; 1.0 where there is none.

    The mean step from one pixel to the next at the lines of the grid, over the median of those at the seven places
    between. Steps count for at most eight levels: blocks show where a picture is smooth.
    """
    means = torch.zeros(JPEG_BLOCK, dtype=torch.float64)
    for axis in (-2, -1):
        steps = luma.diff(dim=axis).abs().movedim(axis, 0).flatten(1)
        if len(steps) < 2 * JPEG_BLOCK:
            return 1.0
        for place in range(JPEG_BLOCK):
            means[place] += steps[place::JPEG_BLOCK].clamp(max=8 / 255).mean(dtype=torch.float64)
    tiny = 1e-5
    return ((means[-1] + tiny) / (means[:-1].median() + tiny)).item()


def noisiness(luma: Tensor) -> float:
    """σ, in 8-bit levels, of noise that lies over all of luma (1, 1, H, W); 0.0 where there is none.

    Diagonal differences (the HH band of Haar's wavelet) hardly see edges and shades, and white noise as strongly as it
    is. Taken over blocks of 16×16 pixels they are alike everywhere if noise makes them; what texture makes differs from
    place to place, and is none. Noise under two levels is not found, nor any in pictures of less than 64 pixels a side.
    """
    height, width = (side // 2 * 2 for side in luma.shape[-2:])
    if min(height, width) < 64:
        return 0.0
    rows = luma[..., 0:height:2, :width] - luma[..., 1:height:2, :width]
    diagonal = (rows[..., 0::2] - rows[..., 1::2]) / 2
    blocks = 255 * F.avg_pool2d(diagonal.square(), NOISE_BLOCK, NOISE_BLOCK // 2).sqrt()
    least, low, middle = blocks.flatten().quantile(torch.tensor([0.05, 0.1, 0.5])).tolist()
    return low if low > 1.5 and middle < 1.7 * least else 0.0


def is_drawn(pixels: Tensor) -> bool:
    """Whether (1, 3, H, W) has as few colours as only drawings, charts and text have: 64, or one for 200 pixels.

    Greys alone are never more than 256, of a photograph either. Once JPEG has been at a drawing it has many colours.
    """
    red, green, blue = (255 * pixels[0]).round().long().flatten(1)
    colours = len((red << 16 | green << 8 | blue).unique())
    return colours <= 64 or (200 * colours <= len(red) and not red.equal(green))
