"""The checks of the exercises of lesson 15; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare

import torch
import torch.nn.functional as F


def pair_of(actual, what: str):
    """The two parts of an answer."""
    if not isinstance(actual, tuple | list) or len(actual) != 2:
        raise Mismatch(f"{what}: a pair (weight, bias) is expected.")
    return actual


def check_15a(collapsed):
    """What does a pixel of the 3×3's output depend on in the end? Write it as one sum over places and input
    channels.

    Put the 1×1 into the 3×3: the weight from input c to output o is the sum over m of squeeze[o, m] · expand[m, c],
    at each of the nine places: an einsum over m.

    Every one of the nine places sees bias1 as well, so the bias grows by the sum of squeeze over its places, times
    bias1.
    """
    expand, squeeze = torch.randn(5, 3, 1, 1), torch.randn(4, 5, 3, 3)
    bias1, bias3 = torch.randn(5), torch.randn(4)
    weight, bias = pair_of(collapsed(expand, bias1, squeeze, bias3), "collapsed")
    expected = torch.einsum("omyx,mc->ocyx", squeeze, expand[..., 0, 0])
    expected_bias = bias3 + squeeze.sum((2, 3)) @ bias1
    middle = torch.zeros_like(expected)
    middle[..., 1, 1] = expected[..., 1, 1]
    mistakes = {
        "only the middle of the 3×3 is filled: all nine places go through the 1×1.": middle,
        "the filters are turned by 180 degrees. F.conv2d does not turn them.": expected.flip(2, 3),
    }
    compare(weight, expected, "The weight", mistakes)
    mistakes = {
        "the bias of the 1×1 is lost: the 3×3 sees it at every place.": bias3,
        "the bias of the 1×1 counts once: the 3×3 sees it at all nine places.": bias3 + squeeze[..., 1, 1] @ bias1,
        "the bias of the 3×3 is lost.": expected_bias - bias3,
    }
    compare(bias, expected_bias, "The bias", mistakes)
    x = torch.rand(1, 3, 6, 7)
    chain = F.conv2d(F.conv2d(F.pad(x, [1] * 4), expand, bias1), squeeze, bias3)
    compare(F.conv2d(x, weight, bias, padding=1), chain, "On a picture, borders included", tolerance=1e-4)


def check_15b(frames_a_second):
    """How many products does one layer take at one pixel? Then for the picture, then for the second.

    A filter of k×k from `inputs` to `outputs` takes as many products at every pixel as it has weights. Sum them
    over the layers, times width · height: so many for a picture. How often do they go into `speed`?
    """
    weights = [(16, 1, 3, 3), (16, 16, 3, 3), (4, 16, 3, 3)]
    products = 144 + 2304 + 576
    expected = 1e12 / (products * 640 * 360)
    mistakes = {
        "that is how long a picture takes, not how many a second.": 1 / expected,
        "the size of the picture is missing.": 1e12 / products,
        "the inputs of the layers are missing: every output sees all of them.": 1e12 / ((16 + 16 + 4) * 9 * 640 * 360),
        "products are counted twice. A product and its sum count once here.": expected / 2,
        "the filters' sides are not squared.": 1e12 / (products / 3 * 640 * 360),
    }
    compare(frames_a_second(weights, 640, 360, 1e12), expected, "Three layers, 640×360, 10¹² products", mistakes)


def check_15c(to_bytes_with_zero):
    """Which numbers should become 0 and 255? And which of the 256 stands for zero?

    step = (greatest − least) / 255, for 256 values have 255 steps between them. The number that stands for 0 is
    −least / step, rounded to a whole number.

    Then divide by the step, add zero, round, and keep to 0…255.
    """
    x = torch.cat((torch.linspace(-0.37, 1.61, 1000), torch.zeros(1)))
    actual = to_bytes_with_zero(x)
    if not isinstance(actual, tuple | list) or len(actual) != 3:
        raise Mismatch("Three things are expected: (numbers, step, zero).")
    numbers, step, zero = actual
    if not isinstance(numbers, torch.Tensor) or numbers.dtype != torch.uint8:
        raise Mismatch(f"The numbers are of type {getattr(numbers, 'dtype', type(numbers).__name__)}, not torch.uint8.")
    expected_step = (x.max() - x.min()) / 255
    mistakes = {
        "256 values have 255 steps between them.": (x.max() - x.min()) / 256,
        "the step suits one sign alone: the greatest magnitude over 127. Here the range goes from least to greatest.": (
            x.abs().max() / 127
        ),
        "the range begins at 0: what is negative is lost.": x.max() / 255,
    }
    compare(step, expected_step, "The step", mistakes)
    exact = -x.min() / expected_step
    mistakes = {
        "it is not a whole number: 0 would not stay 0.": exact,
        "it is cut off, not rounded.": exact.floor(),
        "it has the wrong sign.": -exact.round(),
    }
    compare(zero, exact.round(), "zero", mistakes)
    expected = (x / expected_step + exact.round()).round().clamp(0, 255)
    mistakes = {"they are cut off, not rounded.": (x / expected_step + exact.round()).clamp(0, 255).floor()}
    compare(numbers, expected, "The numbers", mistakes)
