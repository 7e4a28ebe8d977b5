"""The checks of the exercises of lesson 13; the paragraphs of each docstring are the hints."""

from unittest.mock import patch

from comparing import Mismatch, compare, parts_of

import torch
import torch.nn.functional as F
from torch import nn

from engine import upscaling
from esrgan import RRDBNet
from srcnn import SRCNN


def check_13a(window):
    """Go to the left by the margin first, and only then to a multiple. What may happen at the ends of the line?

    Go `margin` to the left of start, but not below 0, and down to the next multiple: first − first % fold.

    Go `margin` to the right of stop and up to the next multiple, last + (−last) % fold; then cut off at the length.
    """
    for start, stop, length, margin, fold in (
        (0, 32, 90, 8, 1),
        (64, 90, 90, 8, 1),
        (35, 70, 91, 8, 4),
        (37, 61, 91, 5, 4),
        (0, 9, 9, 5, 2),
    ):
        what = f"start {start}, stop {stop}, length {length}, margin {margin}, fold {fold}"
        actual = window(start, stop, length, margin, fold)
        actual = parts_of(actual, 2, f"{what}: a pair (first, last) is expected.")
        first, last = max(0, start - margin), stop + margin
        expected = first - first % fold, min(length, last + -last % fold)
        mistakes = wrong_windows(start, stop, length, margin, fold)
        actual = [int(end) for end in actual]
        compare(torch.tensor(actual), torch.tensor(expected), what, mistakes)
    network = RRDBNet(2, 4, 2, 1, unshuffle=True).requires_grad_(False)
    network.radius = 20  # it sees 38 pixels; 20 suffice to 6 digits
    picture = torch.rand(1, 3, 57, 90)

    def seen(network, start, stop, scale, length):
        return window(start // scale, -(-stop // scale), length, network.radius, network.fold)

    with patch.object(upscaling, "_seen", seen):
        tiled = upscaling.in_tiles(network, picture, 2, upscaling.Tiling(33))
    compare(tiled, network(picture), "Inside upscaling.in_tiles, a network with fold 2", tolerance=1e-4, picture=True)


def wrong_windows(start, stop, length, margin, fold):
    """Explanation → the pair that a mistake gives."""
    first, last = max(0, start - margin), stop + margin
    down, up = first - first % fold, last + -last % fold
    wide = max(0, start - margin * fold), stop + margin * fold
    return {
        "the ends are rounded before the margin is added: they are no multiples then.": (
            max(0, start - start % fold - margin), min(length, stop + -stop % fold + margin)
        ),
        "the margin is multiplied by `fold`: it is in pixels already, and the tile is too wide.": (
            wide[0] - wide[0] % fold, min(length, wide[1] + -wide[1] % fold)
        ),
        "there is no margin.": (start - start % fold, min(length, stop + -stop % fold)),
        "the tile begins before the line: indices below 0 count from its end.": (
            start - margin - (start - margin) % fold, min(length, up)
        ),
        "the tile ends after the line does. Cut it off at the length.": (down, up),
        "the multiples of `fold` are not respected.": (first, min(length, last)),
        "first is rounded up to a multiple: the margin becomes too narrow.": (first + -first % fold, min(length, up)),
        "last is rounded down to a multiple: the margin becomes too narrow.": (down, min(length, last - last % fold)),
        "last is the last pixel's own index. It is the one after it, as in a slice.": (down, min(length, up) - 1),
    }  # fmt: skip


def check_13b(cost):
    """What is done for one weight at one pixel? What must be read, and what written, if everything is touched once?

    Each of the kernel²·inputs·outputs weights is multiplied and added once at every pixel: two operations. The
    features are read and written once, (inputs + outputs)·height·width numbers, and the weights are read. A number
    has four bytes.
    """
    for inputs, outputs, kernel, height, width in ((64, 32, 5, 48, 40), (3, 64, 3, 17, 20)):
        products = kernel**2 * inputs * outputs * height * width
        features = (inputs + outputs) * height * width
        weights = kernel**2 * inputs * outputs
        right = 2 * products, 4 * (features + weights)
        mistakes = {
            "each multiplication has its addition: the operations are twice as many.": (products, right[1]),
            "a filter has kernel² weights, not kernel.": (
                2 * products // kernel, 4 * (features + weights // kernel)
            ),
            "these are numbers, not bytes: a float32 has four.": (right[0], features + weights),
            "the weights are read too.": (right[0], 4 * features),
            "what goes out must be written too.": (right[0], 4 * (inputs * height * width + weights)),
            "operations and bytes have changed places.": right[::-1],
        }  # fmt: skip
        actual = cost(inputs, outputs, kernel, height, width)
        what = f"{inputs} to {outputs} channels, {kernel}×{kernel}, {height}×{width} pixels"
        actual = [float(part) for part in parts_of(actual, 2, f"{what}: a pair (operations, bytes) is expected.")]
        compare(torch.tensor(actual, dtype=torch.float64), right, what, mistakes, 1e-9)


def check_13c(folded):
    """A sum of convolutions is one convolution with the sum of the filters. Which 3×3 filter does nothing?

    F.pad(weight1, (1, 1, 1, 1)) is the 1×1 filter as a 3×3. The identity is a 3×3 filter too: 1 in the middle of
    filter c for channel c, else 0; nn.init.dirac_ fills a tensor so. Add the three weights, and the biases.
    """
    for channels in (5, 3):
        expect_fold(folded, channels)


def expect_fold(folded, channels):
    """The weight, the bias, and what they do to features."""
    weight3, weight1 = torch.randn(channels, channels, 3, 3), torch.randn(channels, channels, 1, 1)
    bias3, bias1 = torch.randn(channels), torch.randn(channels)
    padded = F.pad(weight1, [1] * 4)
    identity = nn.init.dirac_(torch.empty_like(weight3))
    weight, bias = parts_of(folded(weight3, bias3, weight1, bias1), 2, "A pair (weight, bias) is expected.")
    everywhere = torch.zeros_like(weight3)
    everywhere[:, :, 1, 1] = 1
    own = torch.eye(channels)[:, :, None, None]
    mistakes = {
        "the identity is missing.": weight3 + padded,
        "the 1×1 branch is missing.": weight3 + identity,
        "the 1×1 filter is added to all nine weights. It belongs in the middle.": weight3 + weight1 + identity,
        "the identity is added to all nine weights. It belongs in the middle.": weight3 + padded + own,
        "the 1×1 filter lies in a corner. It belongs in the middle.": weight3 + F.pad(weight1, (0, 2, 0, 2)) + identity,
        "the identity adds every channel to every other one. Channel c goes to filter c alone.": (
            weight3 + padded + everywhere
        ),
    }
    compare(weight, weight3 + padded + identity, f"The weight for {channels} channels", mistakes)
    mistakes = {"the bias of the 1×1 branch is missing.": bias3, "the bias of the 3×3 branch is missing.": bias1}
    compare(bias, bias3 + bias1, "The bias", mistakes)
    x = torch.randn(1, channels, 8, 9)
    branches = F.conv2d(x, weight3, bias3, padding=1) + F.conv2d(x, weight1, bias1) + x
    own = F.conv2d(x, torch.as_tensor(weight).to(x), torch.as_tensor(bias).to(x), padding=1)
    compare(own, branches, "The convolution on random features", tolerance=1e-4)


def check_13d(to_8_bits):
    """Which number of a filter must become 127? And the same for every filter of its own.

    The step of a filter is its largest absolute weight, weight.abs().amax(dim=(1, 2, 3), keepdim=True), divided by
    127. Divide by it, round, and convert with .to(torch.int8).
    """
    weight = torch.randn(6, 3, 3, 3) * torch.tensor([1, 0.1, 2, 0.5, 1, 3]).view(6, 1, 1, 1)
    actual = parts_of(to_8_bits(weight), 2, "A pair (numbers, steps) is expected.")
    numbers, steps = map(torch.as_tensor, actual)
    if numbers.dtype != torch.int8:
        raise Mismatch(
            f"The numbers have the type {numbers.dtype}, not torch.int8: they take as much memory as before."
        )
    expected = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    mistakes = {
        "there is one step for the whole layer. Each filter has its own.": weight.abs().max() / 127,
        "the same step is used for all filters.": (weight.abs().max() / 127).expand(6, 1, 1, 1),
        "127 steps reach from 0 to the largest weight, not 255 or 256.": expected * 127 / 255,
        "127 steps reach from 0 to the largest weight; yours are 128, and +128 does not exist in 8 bits.": (
            expected * 127 / 128
        ),
        "the steps come from the largest weight, not from the largest absolute one.": (
            weight.amax(dim=(1, 2, 3), keepdim=True) / 127
        ),
        "these are the inverse steps.": 1 / expected,
    }
    compare(steps, expected, "The steps of six filters", mistakes)
    exact = weight / expected
    mistakes = {"the numbers are cut off, not rounded: all weights become smaller.": exact.trunc()}
    compare(numbers, exact.round(), "The numbers", mistakes)
    network = SRCNN((9, 1, 5)).requires_grad_(False)
    luma = torch.rand(1, 1, 24, 24)
    before = network(luma)
    for layer in (network.extract, network.map, network.reconstruct):
        numbers, steps = to_8_bits(layer.weight)
        layer.weight.copy_(steps * numbers)
    apart = 255 * (network(luma) - before).abs().mean().item()
    if not apart < 3:
        raise Mismatch(f"Inside the real SRCNN the picture is off by {apart:.1f} levels; about one is usual.")
