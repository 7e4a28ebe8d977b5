"""ECBSR: many branches while it learns, one 3×3 convolution each when it is used.

Zhang, Zeng, Zhang, "Edge-oriented Convolution Block for Real-time Super Resolution on Mobile Devices" (ACM MM 2021). A
convolution learns more easily as a sum of several that are made for something: one is wide, three look for edges.
Convolutions are linear, so their sum is again a convolution, and a small one: what is used has 3×3 filters alone.

What differs from the paper, and why:
- It learns in the folded form too: the weights of a block are added up first, and one convolution sees the picture,
  as in SESR (Bhardwaj et al., MLSys 2022). The function and its gradients are those of the branches, and on a
  processor a step takes a third of the time.
- Biases that change nothing are left out: edge filters sum to zero, so what is added before them vanishes, and what is
  added after them the 3×3 convolution adds as well.
"""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Sobel's filters along x and y, and the Laplacian.
EDGES = torch.tensor(
    [
        [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]],
        [[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]],
        [[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]],
    ]
)

TINY = 1e-12  # for maps and filters of zeros

# It sees less than the squares over whose mean its level is kept: see `keep_level` in engine/upscaling.py.
LEVEL_REACH = 9


def in_8_bits(values: Tensor, of_filters: bool = False) -> Tensor:
    """Rounded as 8 bits hold it: maps to 256 steps from the least to the largest value, 0 among them; filters, the
    first axis, to 127 steps up and down each. Gradients pass as if nothing had been rounded, for the true ones are 0
    nearly everywhere (Jacob et al., CVPR 2018, section 3; the straight-through estimator).
    """
    with torch.no_grad():
        if of_filters:
            step = values.abs().amax((1, 2, 3), keepdim=True).clamp(min=TINY) / 127
            counts = (values / step).round()
        else:
            low, high = values.amin().clamp(max=0), values.amax().clamp(min=0)
            step = (high - low).clamp(min=TINY) / 255
            least = (low / step).round()
            counts = (values / step).round().clamp(least, least + 255)
    return values + (counts * step - values).detach()


class EdgeBlock(nn.Module):
    """The sum of five branches (section 3.2), folded into one 3×3 convolution: (N, inputs, H, W) → (N, outputs, H, W).

    conv                 3×3
    expand, squeeze      1×1 to twice the channels, then 3×3
    mix, strength        1×1, then a filter of EDGES for each channel, times a learnt number: three times
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.expand = nn.Conv2d(inputs, 2 * outputs, 1)
        self.squeeze = nn.Conv2d(2 * outputs, outputs, 3)
        self.mix = nn.Conv2d(inputs, 3 * outputs, 1, bias=False)
        self.strength = nn.Parameter(1e-3 * torch.randn(3, outputs))

    def forward(self, x: Tensor, eight_bits: bool = False) -> Tensor:
        weight, bias = self.folded_weights()
        return F.conv2d(x, in_8_bits(weight, of_filters=True) if eight_bits else weight, bias, padding=1)

    def folded_weights(self) -> tuple[Tensor, Tensor]:
        """Filters (outputs, inputs, 3, 3) and bias (outputs,) of the convolution that does what all branches do.

        Exact at the border too, where what lies between `expand` and `squeeze` is padded by the bias of `expand`: the
        answer of a 1×1 convolution to a picture padded by zeros. Padded by zeros itself no convolution would equal it.
        """
        expand, squeeze = self.expand.weight[..., 0, 0], self.squeeze.weight
        weight = self.conv.weight + torch.einsum("omyx,mi->oiyx", squeeze, expand)
        bias = self.conv.bias + self.squeeze.bias + squeeze.sum((2, 3)) @ self.expand.bias
        mix = self.mix.weight.view(*self.strength.shape, -1)
        return weight + torch.einsum("bo,boi,byx->oiyx", self.strength, mix, EDGES.to(weight)), bias

    def folded(self) -> nn.Conv2d:
        """That convolution."""
        weight, bias = self.folded_weights()
        conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        conv.load_state_dict({"weight": weight.detach(), "bias": bias.detach()})
        return conv.to(weight.device)


class ECBSR(nn.Module):
    """Luma in, enlarged luma out: (N, 1, H, W) → (N, 1, scale·H, scale·W) in 0..1; the output may overshoot a little.

    Unlike SRCNN it works on the small picture, which is scale² times less work. Folded, the default ×2 has 10,100
    weights, the paper's M4C16: a block of edges into `features` channels, `blocks` more, one to scale² channels.
    """

    luma = True
    tile = 512
    fold = 1

    def __init__(self, scale: int = 2, features: int = 16, blocks: int = 4):
        super().__init__()
        self.shape = dict(scale=scale, features=features, blocks=blocks)
        self.scale = scale
        layers: list[nn.Module] = [EdgeBlock(1, features), nn.PReLU(features)]
        for _ in range(blocks):
            layers += [EdgeBlock(features, features), nn.PReLU(features)]
        self.body = nn.Sequential(*layers, EdgeBlock(features, scale**2))
        self.radius = blocks + 2
        self.margin = self.radius + LEVEL_REACH
        self.learns_8_bits = False  # while it trains, what `export --int8` will round is rounded

    def forward(self, low: Tensor) -> Tensor:
        first, *hidden, last = self.body
        with torch.autocast(low.device.type, enabled=False):  # the outermost layers would round the picture itself
            x = first(low)
        if self.learns_8_bits and self.training:
            x = self.rounded(x, hidden)
        else:
            for layer in hidden:
                x = layer(x)
        with torch.autocast(low.device.type, enabled=False):
            x = last(x.to(low.dtype))
        detail = F.pixel_shuffle(x, self.scale)  # scale² channels → squares of scale×scale pixels
        return detail + F.interpolate(low, scale_factor=self.scale, mode="nearest")

    @staticmethod
    def rounded(x: Tensor, hidden: list[nn.Module]) -> Tensor:
        """The hidden layers in 8 bits; what the last convolution sees, which stays in float, is not rounded."""
        for number, layer in enumerate(hidden, 1):
            x = layer(x, eight_bits=True) if isinstance(layer, EdgeBlock) else layer(x)
            x = in_8_bits(x) if number < len(hidden) else x
        return x

    def folded(self) -> Self:
        """The same network as plain 3×3 convolutions, for use: this one with another body."""
        layers = (layer.folded() if isinstance(layer, EdgeBlock) else layer for layer in self.body)
        self.body = nn.Sequential(*layers)
        return self
