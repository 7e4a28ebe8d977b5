"""What a network adds that is in no photograph, and PSNR hardly sees: grids, weaves, colour on grey.

Each figure is 1 or 0 where there is nothing of the kind, and is taken beside the ground truth where there is one.
"""

import math

import torch
from torch import Tensor

from imaging.images import rgb_to_luma, rgb_to_ycbcr

BLOCK = 8  # pixels a side of the squares in which flat places are looked for
FLAT = 2 / 255  # standard deviation under which a square of the ground truth counts as flat


def grid_ratio(restored: Tensor, scale: int) -> float:
    """How much an enlarged picture (1, 3 or 1, H, W) shows the grid of the pixels that it was made from.

    The mean step of luma between neighbours that lie in two low pixels, over the mean step between neighbours in one:
    1 if nothing tells where the grid is, as in the ground truth and in a flat picture. Bicubic has 1.2 on Set5 ×4, for
    what is smooth is steepest half-way between two low pixels.
    """
    luma = rgb_to_luma(restored) if restored.shape[1] == 3 else restored
    across, inside = [], []
    for axis in (-2, -1):
        steps = luma.diff(dim=axis).abs().movedim(axis, 0).flatten(1)
        at_border = (torch.arange(len(steps)) + 1) % scale == 0
        across.append(steps[at_border].flatten())
        inside.append(steps[~at_border].flatten())
    tiny = 1e-6  # a thousandth of a level
    return ((torch.cat(across).mean() + tiny) / (torch.cat(inside).mean() + tiny)).item()


def weave(restored: Tensor, high: Tensor) -> float:
    """The strength, in 8-bit levels, of fine patterns in places that are flat in the ground truth (1, 3, H, W).

    The root mean square of the upper half of the frequencies, along rows, columns or both, in 8×8 squares of luma,
    beyond what the ground truth itself has there: film grain that is lost is no weave. 0 where nothing is flat.
    """
    actual, expected = (_squares(rgb_to_luma(picture)) for picture in (restored, high))
    flat = expected.flatten(1).std(dim=1) < FLAT
    if not flat.any():
        return 0.0
    energies = [_upper_half(squares[flat]).square().mean() for squares in (actual, expected)]
    return 255 * math.sqrt(max(0.0, (energies[0] - energies[1]).item()))


def _squares(luma: Tensor) -> Tensor:
    """(1, 1, H, W) as (squares, BLOCK, BLOCK); a rest at the right and below is left out."""
    return luma[0, 0].unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK).flatten(0, 1)


def _upper_half(squares: Tensor) -> Tensor:
    """The squares with only those frequencies of the cosine transform that are in the upper half of either axis."""
    places = torch.arange(BLOCK, dtype=squares.dtype)
    cosines = torch.cos(math.pi * (places[None] + 0.5) * places[:, None] / BLOCK) * math.sqrt(2 / BLOCK)
    cosines[0] /= math.sqrt(2)  # orthonormal: energy is the same before and after
    frequencies = cosines @ squares @ cosines.T
    frequencies[:, : BLOCK // 2, : BLOCK // 2] = 0
    return frequencies


def chroma_on_grey(restored: Tensor, high: Tensor) -> float:
    """The mean colour, in 8-bit levels of Cb and Cr, where the ground truth (1, 3, H, W) is grey; 0 if nothing is."""
    actual, expected = ((255 * rgb_to_ycbcr(picture)[:, 1:] - 128).abs().amax(dim=1) for picture in (restored, high))
    grey = expected < 1
    return (actual - expected)[grey].clamp(min=0).mean().item() if grey.any() else 0.0
