"""Geometric self-ensemble: the mean of what a network makes of a picture flipped and turned in all eight ways."""

from typing import cast

import torch
from torch import Tensor, nn

from engine.networks import AnyNetwork
from esrgan import pad_to_multiple

WAYS = 8
TOLD = "the mean over eight flips and turns"


def turned(picture: Tensor, way: int) -> Tensor:
    """(…, H, W) in one of eight ways: quarter turns, and the same of its mirror image from 4 on."""
    return (picture.flip(-1) if way >= 4 else picture).rot90(way % 4, (-2, -1))


def turned_back(picture: Tensor, way: int) -> Tensor:
    """Undoes `turned`."""
    upright = picture.rot90(-(way % 4), (-2, -1))
    return upright.flip(-1) if way >= 4 else upright


class Ensemble(nn.Module):
    """A network that offers what `network` does, at eight times its cost: about 0.1 dB, and no preferred direction.

    Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (CVPR workshops 2017), section 3.4.
    Tiles come out as the whole picture does, for squares of `fold` pixels are not torn by a flip.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        inner = cast(AnyNetwork, network)
        self.luma, self.scale, self.shape = inner.luma, inner.scale, inner.shape
        self.radius, self.margin, self.tile, self.fold = inner.radius, inner.margin, inner.tile, inner.fold

    def forward(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        whole = pad_to_multiple(picture, self.fold)
        total: Tensor | None = None
        for way in range(WAYS):
            restored = turned_back(self.network(turned(whole, way).contiguous()), way).to(picture.dtype)
            total = restored if total is None else total + restored
        assert isinstance(total, torch.Tensor)
        return (total / WAYS)[..., : self.scale * height, : self.scale * width]
