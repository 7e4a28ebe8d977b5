"""What a picture has been through, as its file and its pixels tell it.

look_at(picture).blocks     1.0 in a sound picture, 1.1 and more where JPEG has left the edges of its blocks
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from imaging.frames import Picture, frame_size, read_window
from imaging.images import rgb_to_luma

SIDE = 1024  # pixels of the central square that is looked at
JPEG_BLOCK = 8

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
    blocks: float  # the step of luma at the edges of JPEG's blocks, over that elsewhere


def look_at(picture: Picture) -> Traces:
    """The traces in the middle of a picture's first frame; transparency does not count."""
    frame = picture.frames[0]
    height, width = frame_size(frame)
    # From a multiple of a block on, so that it is known where the blocks are.
    top, left = (max(0, side - SIDE) // 2 // JPEG_BLOCK * JPEG_BLOCK for side in (height, width))
    pixels = read_window(frame, top, min(height, top + SIDE), left, min(width, left + SIDE))
    pixels = pixels[:, :3] if pixels.shape[1] > 2 else pixels[:, :1].expand(-1, 3, -1, -1)
    return Traces(picture.quality, blockiness(rgb_to_luma(pixels)))


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
