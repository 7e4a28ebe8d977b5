"""The checks of the exercises of lesson 5; the paragraphs of each docstring are the hints."""

from unittest.mock import patch

from comparing import Mismatch, compare, compare_gradients

import torch
import torch.nn.functional as F
from torch import nn

from esrgan import SRVGGNetCompact


def forbidden(*_):
    """Stands in for the function that is to be written."""
    raise Mismatch("pixel_shuffle itself is what you should write: by view and permute.")


def check_05a(shuffle):
    """How many axes does the tensor have if you write the scale² channels of a colour as two axes?

    View x as (N, C, scale, scale, H, W): the first `scale` is the row inside a square, the second the column.

    Then permute to (N, C, H, row, W, column), and view that as the large picture.
    """
    x = torch.rand(2, 12, 4, 5)
    parts = x.view(2, 3, 2, 2, 4, 5)
    mistakes = {
        "rows and columns inside the squares are exchanged.": parts.permute(0, 1, 4, 3, 5, 2).reshape(2, 3, 8, 10),
        "the numbers are only viewed in another shape. The axes must be permuted first.": x.reshape(2, 3, 8, 10),
        "the channels are split the wrong way round: the colour is the slowest axis, the place in the square the "
        "fastest.": x.view(2, 2, 2, 3, 4, 5).permute(0, 3, 4, 1, 5, 2).reshape(2, 3, 8, 10),
        "whole pictures lie beside each other: H must come before the row inside the square, W before the column.": (
            parts.permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 8, 10)
        ),
    }
    expected = F.pixel_shuffle(x, 2)
    with patch("torch.nn.functional.pixel_shuffle", forbidden), patch("torch.pixel_shuffle", forbidden):
        actual = shuffle(x, 2)
    compare(actual, expected, "Twelve channels, scale 2", mistakes, picture=True)
    x = torch.arange(36.0).view(1, 18, 1, 2)
    compare(shuffle(x, 3), F.pixel_shuffle(x, 3), "Eighteen channels, scale 3")
    network = SRVGGNetCompact(scale=2, features=4, convolutions=1)
    low = torch.rand(1, 3, 6, 7)
    with torch.no_grad():
        expected = network(low)
        with patch("torch.nn.functional.pixel_shuffle", shuffle):
            compare(network(low), expected, "Inside the real SRVGGNetCompact", picture=True)


def check_05b(stamps):
    """Lay the filter down for the first pixel, then for the second: by how many places is it moved?

    Start with zeros. For every small pixel i, add 1 to the `kernel` places that begin at i · stride.
    """
    for length, kernel, stride in ((5, 3, 2), (4, 4, 2), (3, 2, 3), (4, 5, 1)):
        expected = F.conv_transpose1d(torch.ones(1, 1, length), torch.ones(1, 1, kernel), stride=stride)[0, 0]
        ordinary = F.conv_transpose1d(torch.ones(1, 1, length), torch.ones(1, 1, kernel))[0, 0]
        once = (expected > 0).double()
        mistakes = {
            "the stamps begin at every pixel. They begin at every `stride`-th one.": ordinary,
            "overlapping stamps add up; yours overwrite each other.": once,
            "there is one value for each small pixel. One for each large pixel is expected.": torch.full(
                (length,), float(kernel)
            ),
        }
        what = f"{length} pixels, filter {kernel}, stride {stride}"
        compare(stamps(length, kernel, stride), expected, what, mistakes if not torch.equal(once, expected) else {})


def check_05c(flat_start):
    """Which channels land in one square? What must they be, so that the square is even?

    After the shuffle, the scale² channels of one colour lie in one square. They must be equal, so repeat each
    filter scale² times in a row: torch.repeat_interleave along dimension 0.
    """
    weight = torch.randn(3, 2, 3, 3)
    mistakes = {
        "the whole set of filters is repeated. Each filter must be repeated before the next comes: channels 0 … "
        "scale² − 1 make the first colour.": weight.repeat(4, 1, 1, 1),
        "the filters are divided by scale². Each large pixel takes one filter's answer, not a share of it.": (
            weight.repeat_interleave(4, dim=0) / 4
        ),
        "each filter is there `scale` times; scale² pixels are needed.": weight.repeat_interleave(2, dim=0),
    }
    actual = flat_start(weight, 2)
    compare(actual, weight.repeat_interleave(4, dim=0), "Three filters, scale 2", mistakes)
    compare(flat_start(weight, 3), weight.repeat_interleave(9, dim=0), "Three filters, scale 3")
    x = torch.rand(1, 2, 6, 6)
    shuffled = F.pixel_shuffle(F.conv2d(x, torch.as_tensor(actual)), 2)
    compare(shuffled, F.interpolate(F.conv2d(x, weight), scale_factor=2), "Convolution and shuffle together")


def check_05d(residual_forward):
    """What does the network add to, and how is that enlarged?

    F.pixel_shuffle makes the large picture from what `body` gives. Add F.interpolate(low, scale_factor=scale),
    whose default mode is nearest.
    """
    low = torch.rand(1, 3, 5, 6)
    body = nn.Conv2d(3, 12, 3, padding=1)
    with torch.no_grad():
        detail = F.pixel_shuffle(body(low), 2)
        enlarged = F.interpolate(low, scale_factor=2)
        bicubic = F.interpolate(low, scale_factor=2, mode="bicubic")
        mistakes = {
            "the enlarged input is not added: this is the residual alone.": detail,
            "the input is enlarged by bicubic here. SRVGGNetCompact repeats pixels.": detail + bicubic,
            "the input is enlarged by bilinear interpolation here. SRVGGNetCompact repeats pixels.": (
                detail + F.interpolate(low, scale_factor=2, mode="bilinear")
            ),
            "the residual is subtracted. It is added.": enlarged - detail,
            "the values are cut off at 0 and 1. SRVGGNetCompact leaves them as they are.": (detail + enlarged).clamp(
                0, 1
            ),
            "the colours of the small picture are mixed: each must be repeated before the next comes.": (
                detail + F.pixel_shuffle(low.repeat(1, 4, 1, 1), 2)
            ),
        }
        compare(residual_forward(body, low, 2), detail + enlarged, "A convolution as body, ×2", mistakes, picture=True)
        real = SRVGGNetCompact(scale=3, features=4, convolutions=2)
        compare(residual_forward(real.body, low, 3), real(low), "The body of the real SRVGGNetCompact, ×3")
    compare_gradients(residual_forward(real.body, low, 3), real(low), list(real.parameters()), "The same")
