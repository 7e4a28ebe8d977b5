"""What a picture has been through, as its file and its pixels tell it.

look_at(picture).blocks     1.0 in a sound picture, 1.1 and more where JPEG has left the edges of its blocks
look_at(picture).noise      0.0 in a sound picture, about σ where noise lies over all of it
look_at(picture).plain      0.0 in most photographs, 0.2 and more in drawings and text
"""

import struct
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from imaging.frames import Picture, frame_size, read_window
from imaging.images import rgb_to_luma

SIDE = 1024  # pixels of the central square that is looked at
JPEG_BLOCK = 8
RIFF_HEAD, FRAME_HEAD = 12, 16  # bytes of a WebP before its chunks, and of one of an animation before its own
NOISE_BLOCK = 8  # coefficients a side
LEAST_BLOCKS = 16  # that noise is looked for in
LEAST_NOISE = 2.0  # levels
MOST_COARSE, MOST_ALONG_AXES = 1.35, 1.6  # of white noise, over its finest slanting details; 1.0 in expectation

# A share of plain pixels that drawings and text exceed: charts, interfaces and line art all, of vector art shrunk to a
# half 17 in 19, of dense pages so small 19 in 32; and 3 of 163 photographs, grey 9, where a night is black.
PLAIN = 0.2

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
    noise: float = 0.0  # σ in 8-bit levels, where it lies over all of the picture; else 0
    drawn: bool = False  # it has few colours, as drawings and text have, and no photograph
    lossy: bool = False  # it is of another kind than JPEG that leaves something out
    plain: float = 0.0  # the share of its pixels that have the colour of those to the right and below


def look_at(picture: Picture) -> Traces:
    """The traces in the middle of a picture's first frame; what is transparent counts for blocks alone."""
    frame = picture.frames[0]
    height, width = frame_size(frame)
    # From a multiple of a block on, so that it is known where the blocks are.
    top, left = (max(0, side - SIDE) // 2 // JPEG_BLOCK * JPEG_BLOCK for side in (height, width))
    pixels = read_window(frame, top, min(height, top + SIDE), left, min(width, left + SIDE))
    visible = pixels[:, -1:] > 0 if pixels.shape[1] in (2, 4) else torch.ones_like(pixels[:, :1], dtype=torch.bool)
    pixels = pixels[:, :3] if pixels.shape[1] > 2 else pixels[:, :1].expand(-1, 3, -1, -1)
    noise = noisiness(pixels * visible)  # black does not count
    blocks, plain = blockiness(rgb_to_luma(pixels)), plainness(pixels, visible)
    return Traces(picture.quality, blocks, noise, is_drawn(pixels, visible, plain), picture.lossy, plain)


def jpeg_quality(table: list[int]) -> int:
    """The quality, 1 to 100, that libjpeg gives a file whose luminance is quantised by these 64 steps."""
    if set(table) == {1}:  # less there is not
        return 100
    steps = [step for step in zip(table, LUMINANCE_TABLE, strict=True) if step[0] < 255]  # what is larger is cut
    if not steps:
        return 1
    percent = 100 * sum(step for step, _ in steps) / sum(usual for _, usual in steps)
    quality = (200 - percent) / 2 if percent <= 100 else 5000 / percent
    return min(100, max(1, round(quality)))


# Of JPEG 2000: where a codestream may begin, behind a colour profile, and the marker of how it is coded.
HEAD_2000, COD = 1 << 22, 0xFF52


def webp_is_lossy(path) -> bool:
    """Whether the first picture in a WebP is packed as VP8, which leaves things out, and not as VP8L."""
    with open(path, "rb") as file:
        file.seek(RIFF_HEAD)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            if name in (b"VP8 ", b"VP8L"):
                return name == b"VP8 "
            file.seek(FRAME_HEAD if name == b"ANMF" else size + size % 2, 1)
    return False


def jpeg2000_is_lossy(path) -> bool:
    """Whether a JPEG 2000 is packed by the wavelet 9-7, which leaves things out; 5-3 can keep all, and mostly does.

    Its segment COD says so (ISO 15444-1, A.6.1), in the head of the codestream, which begins with SOC and SIZ.
    """
    with open(path, "rb") as file:
        start = file.read(HEAD_2000).find(b"\xff\x4f\xff\x51")
        file.seek(start + 2)
        while start >= 0 and len(head := file.read(4)) == 4:
            marker, length = struct.unpack(">2H", head)
            if marker == COD:
                return file.read(10)[9:] == b"\0"
            file.seek(length - 2, 1)
    return False


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


def noisiness(pixels: Tensor) -> float:
    """σ, in 8-bit levels, of white noise that lies over all of pixels (1, C, H, W); 0.0 where there is none.

    Told by the slanting details of Haar's wavelet (its HH band) at two levels, in the tenth of the blocks of 16×16
    pixels that has least of the coarse ones. White noise is as strong at both, and along the axes; texture has more of
    the coarse, edges have more along the axes. Blocks with black or white do not count, for there noise is cut off.
    Noise under two levels is not found, nor any in pictures of less than 64 pixels a side.
    """
    height, width = (side // 4 * 4 for side in pixels.shape[-2:])
    if min(height, width) < 64:
        return 0.0
    halves, across, down, fine = haar(255 * pixels[..., :height, :width])
    *_, coarse = haar(halves)
    cut_off = ((pixels < 2 / 255) | (pixels > 253 / 255)).any(1, keepdim=True)[..., :height, :width]
    counts = F.max_pool2d(cut_off.float(), 2 * NOISE_BLOCK, NOISE_BLOCK) == 0
    if counts.sum() < LEAST_BLOCKS:
        return 0.0
    energy, coarse_energy = block_energy(fine, NOISE_BLOCK)[counts], block_energy(coarse, NOISE_BLOCK // 2)[counts]
    axes_energy = (block_energy(across, NOISE_BLOCK) + block_energy(down, NOISE_BLOCK))[counts] / 2
    calm = coarse_energy <= coarse_energy.quantile(0.1)
    variance, coarse_variance, axes_variance = (e[calm].mean().item() for e in (energy, coarse_energy, axes_energy))
    white = coarse_variance < MOST_COARSE**2 * variance and axes_variance < MOST_ALONG_AXES**2 * variance
    return variance**0.5 if white and variance > LEAST_NOISE**2 else 0.0


def haar(pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Haar's wavelet of (1, C, H, W) with even sides: the four bands (1, C, H/2, W/2), LL first, HH last."""
    top, bottom = pixels[..., 0::2, :], pixels[..., 1::2, :]
    a, b, c, d = top[..., 0::2], top[..., 1::2], bottom[..., 0::2], bottom[..., 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def block_energy(band: Tensor, side: int) -> Tensor:
    """The mean square of (1, C, H, W) in blocks of so many pixels a side, which overlap by half."""
    return F.avg_pool2d(band.square().mean(1, keepdim=True), side, side // 2)


def is_drawn(pixels: Tensor, visible: Tensor, plain: float) -> bool:
    """Whether (1, 3, H, W), where (1, 1, H, W) is visible, has as few colours as only drawings, charts and text have.

    That is 64, or one for 200 pixels where much is plain; of greys alone, of which a photograph has few too, 16. Once
    JPEG has been at a drawing it has many colours.
    """
    red, green, blue = (255 * pixels[0]).round().long().flatten(1)[:, visible.flatten()]
    colours = len((red << 16 | green << 8 | blue).unique())
    return colours <= (16 if red.equal(green) else max(64, len(red) // 200) if plain > PLAIN else 64)


def plainness(pixels: Tensor, visible: Tensor) -> float:
    """The share of the visible pixels of (1, 3, H, W) that are exactly like those to the right and below.

    A border of one colour, which a photograph may have too, is cut off before.
    """
    rows, columns = (inside_border(pixels, axis) for axis in (-2, -1))
    pixels, counts = pixels[..., rows, columns], visible[..., rows, columns][..., :-1, :-1]
    alike = (pixels[..., :-1, 1:] == pixels[..., :-1, :-1]) & (pixels[..., 1:, :-1] == pixels[..., :-1, :-1])
    return (alike.all(1, keepdim=True) & counts).sum().item() / max(1, counts.sum().item())


def inside_border(pixels: Tensor, axis: int) -> slice:
    """From the first to the last row (axis −2) or column (−1) of (1, C, H, W) that differs from the corner."""
    differs = (pixels != pixels[..., :1, :1]).any(1).any(1 if axis == -1 else 2).flatten().nonzero()
    return slice(int(differs[0]), int(differs[-1]) + 1) if len(differs) else slice(None)
