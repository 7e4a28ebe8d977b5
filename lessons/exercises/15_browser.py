"""The checks of the exercises of lesson 15; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare, parts_of

import torch
import torch.nn.functional as F


def check_15a(collapsed):
    """What does a pixel of the 3×3's output depend on in the end? Write it as one sum over places and input
    channels.

    Put the 1×1 into the 3×3: the weight from input c to output o is the sum over m of squeeze[o, m] · expand[m, c],
    at each of the nine places: an einsum over m.

    Every one of the nine places sees bias1 as well, so the bias grows by the sum of squeeze over its places, times
    bias1.
    """
    expect_collapse(collapsed, 3, 5, 4)
    expect_collapse(collapsed, 1, 4, 2)


def expect_collapse(collapsed, inputs, middle, outputs):
    """The weight, the bias, and what they do to a picture."""
    expand, squeeze = torch.randn(middle, inputs, 1, 1), torch.randn(outputs, middle, 3, 3)
    bias1, bias3 = torch.randn(middle), torch.randn(outputs)
    what = f"{inputs} to {middle} to {outputs} channels"
    expected = f"{what}: a pair (weight, bias) is expected."
    weight, bias = parts_of(collapsed(expand, bias1, squeeze, bias3), 2, expected)
    expected = torch.einsum("omyx,mc->ocyx", squeeze, expand[..., 0, 0])
    expected_bias = bias3 + squeeze.sum((2, 3)) @ bias1
    one_place = torch.zeros_like(expected)
    one_place[..., 1, 1] = expected[..., 1, 1]
    mistakes = {
        "only the middle of the 3×3 is filled: all nine places go through the 1×1.": one_place,
        "the filters are transposed: rows and columns have changed places.": expected.mT,
        "the filters are turned by 180 degrees. F.conv2d does not turn them.": expected.flip(2, 3),
    }
    compare(weight, expected, f"{what}: the weight", mistakes)
    mistakes = {
        "the bias of the 1×1 is lost: the 3×3 sees it at every place.": bias3,
        "the bias of the 1×1 counts once: the 3×3 sees it at all nine places.": bias3 + squeeze[..., 1, 1] @ bias1,
        "the bias of the 3×3 is lost.": expected_bias - bias3,
    }
    compare(bias, expected_bias, f"{what}: the bias", mistakes)
    x = torch.rand(1, inputs, 6, 7)
    chain = F.conv2d(F.conv2d(F.pad(x, [1] * 4), expand, bias1), squeeze, bias3)
    own = F.conv2d(x, torch.as_tensor(weight).to(x), torch.as_tensor(bias).to(x), padding=1)
    compare(own, chain, "On a picture, borders included", tolerance=1e-4)


def check_15b(frames_a_second):
    """How many products does one layer take at one pixel? Then for the picture, then for the second.

    A filter of k×k from `inputs` to `outputs` takes as many products at every pixel as it has weights. Sum them
    over the layers, times width · height: so many for a picture. How often do they go into `speed`?
    """
    expect_frames(frames_a_second, [(16, 1, 3, 3), (16, 16, 3, 3), (4, 16, 3, 3)], 640, 360, 1e12)
    expect_frames(frames_a_second, [(8, 3, 5, 5), (12, 8, 1, 1)], 320, 200, 2e9)


def expect_frames(frames_a_second, weights, width, height, speed):
    """How many pictures a second some layers make."""
    size = width * height
    products = sum(outputs * inputs * side**2 for outputs, inputs, side, _ in weights)
    expected = speed / (products * size)
    mistakes = {
        "that is how long a picture takes, not how many a second.": 1 / expected,
        "the size of the picture is missing.": speed / products,
        "the inputs of the layers are missing: every output sees all of them.": (
            speed / (sum(outputs * side**2 for outputs, _, side, _ in weights) * size)
        ),
        "products are counted twice. A product and its sum count once here.": expected / 2,
        "the filters' sides are not squared.": (
            speed / (sum(outputs * inputs * side for outputs, inputs, side, _ in weights) * size)
        ),
        "9 is not the size of every filter: use its sides.": (
            speed / (sum(9 * outputs * inputs for outputs, inputs, _, _ in weights) * size)
        ),
        "it is cut off to whole pictures.": expected // 1,
    }
    mistakes = {text: value for text, value in mistakes.items() if value != expected}
    actual = frames_a_second(list(weights), width, height, speed)
    compare(actual, expected, f"{len(weights)} layers, {width}×{height}, {speed:.0e} products a second", mistakes)


def check_15c(to_bytes_with_zero):
    """Which numbers should become 0 and 255? And which of the 256 stands for zero?

    step = (greatest − least) / 255, for 256 values have 255 steps between them. The number that stands for 0 is
    −least / step, rounded to a whole number.

    Then divide by the step, add zero, round, and keep to 0…255.
    """
    line = torch.cat((torch.linspace(-0.37, 1.61, 1000), torch.zeros(1)))
    expect_bytes(to_bytes_with_zero, line, "A line from −0.37 to 1.61")
    expect_bytes(to_bytes_with_zero, torch.rand(2, 3, 7) - 0.8, "Random numbers (2, 3, 7)")
    # zero is rounded up by a half, and so would be the greatest, to 256
    numbers, _, _ = to_bytes_with_zero(torch.tensor([-47.5, 0, 100.25, 207.5]) / 128)
    if numbers[-1] < 254:
        raise Mismatch(f"The greatest of four became {int(numbers[-1])}: 256 wraps around in a byte. Keep to 0…255.")


def expect_bytes(to_bytes_with_zero, x, what):
    """The step, the number that stands for 0, and the numbers."""
    actual = parts_of(to_bytes_with_zero(x), 3, "Three things are expected: (numbers, step, zero).")
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
    compare(step, expected_step, f"{what}: the step", mistakes)
    exact = -x.min() / expected_step
    mistakes = {
        "it is not a whole number: 0 would not stay 0.": exact,
        "it is cut off, not rounded.": exact.floor(),
        "it has the wrong sign.": -exact.round(),
    }
    compare(zero, exact.round(), f"{what}: zero", mistakes)
    expected = (x / expected_step + exact.round()).round().clamp(0, 255)
    mistakes = {
        "they are cut off, not rounded.": (x / expected_step + exact.round()).clamp(0, 255).floor(),
        "the least value is taken off before the division: add zero after it, so that 0 becomes zero itself.": (
            ((x - x.min()) / expected_step).round()
        ),
    }
    compare(numbers, expected, f"{what}: the numbers", mistakes)
