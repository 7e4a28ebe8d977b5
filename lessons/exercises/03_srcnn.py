"""The checks of the exercises of lesson 3; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare, compare_gradients
from course import crop, photograph

import torch
import torch.nn.functional as F
from torch import nn

from engine.upscaling import upscale
from imaging.images import resize, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb
from srcnn import SRCNN


def check_03a(receptive_radius):
    """Take two layers of 3 and draw which pixels the last one sees. What does a layer add?

    A filter of side k looks (k − 1)/2 pixels to each side of its middle. Each layer looks at the outputs of the
    layer before it, so the radii add up.
    """
    for kernels in ((9, 5, 5), (9, 1, 5), (3, 3, 3, 3), (7,), (5, 3, 7, 3, 3)):
        mistakes = {
            "this is the diameter without the middle. Only one direction is expected: half of it.": (
                sum(kernels) - len(kernels)
            ),
            "the radii are 4, 2 and 2 for 9, 5 and 5: (k − 1)/2 each, not k/2.": sum(kernels) / 2,
            "it holds for three filters only: a pixel is taken off for each filter.": (sum(kernels) - 3) // 2,
            "this is the largest filter alone. The radii of all layers add up.": max(kernels) // 2,
            "this is the width of the whole receptive field. Only one direction is expected.": (
                sum(kernels) - len(kernels) + 1
            ),
        }
        compare(receptive_radius(kernels), sum(kernel // 2 for kernel in kernels), f"Radius of {kernels}", mistakes)


def check_03b(build_srcnn):
    """Three convolutions, and what between them? What does padding do to the size of the output?

    nn.Sequential of a convolution 1 → 64, a ReLU, a convolution 64 → 32, a ReLU, and a convolution 32 → 1. No
    padding, and nothing after the last one.
    """
    for kernels in ((9, 5, 5), (9, 1, 5)):
        network = build_srcnn(kernels)
        if not isinstance(network, nn.Module):
            raise Mismatch(f"An nn.Module should come back, not a {type(network).__name__}.")
        if any(nn.parameter.is_lazy(part) for part in network.parameters()):
            network(torch.rand(1, 1, 33, 30))
        network, real, luma = network.double(), SRCNN(kernels).double(), torch.rand(1, 1, 33, 30, dtype=torch.float64)
        own, expected = ([tuple(part.shape) for part in net.parameters()] for net in (network, real))
        if sorted(own) != sorted(expected):
            raise Mismatch(f"For {kernels} the weights have the shapes {own}; they should have {expected}.")
        with torch.no_grad():
            by_shape = {values.shape: values for values in real.parameters()}  # whichever layer was made first
            for part in network.parameters():
                values = by_shape[part.shape]
                # The real start hides a ReLU: it is small, and its feature 0 is positive.
                part.copy_(values.normal_(std=0.5))
            restored = network(luma)
            if restored.shape == luma.shape:
                raise Mismatch("The output is as large as the input: your convolutions pad. Valid ones are expected.")
            first, second = F.conv2d(luma, *real.extract.parameters()), real.extract(luma).relu()
            valid = real.forward_valid(luma)
            mistakes = {
                "the ReLU is missing after one layer or both: without it three convolutions are only one.": (
                    real.reconstruct(real.map(first))
                ),
                "the second ReLU is missing.": real.reconstruct(real.map(second)),
                "the first ReLU is missing.": real.reconstruct(real.map(first).relu()),
                "there is a ReLU after the last layer: it would cut off values below zero.": valid.relu(),
                "the values are cut off at 0 and 1 after the last layer. Nothing comes after it.": valid.clamp(0, 1),
            }
            compare(restored, valid, "Its output with weights of ours", mistakes)


def check_03c(valid_loss):
    """How many pixels are missing on each side? Both shapes tell you.

    The border is (high.shape[-1] − restored.shape[-1]) // 2. Cut high[..., border:-border, border:-border],
    subtract, square, take the mean.

    A border of 0 needs care: 0:-0 is empty. Counting from the left, border:border + height, always works.
    """
    torch.manual_seed(1)
    low, high = 1.6 * torch.rand(2, 1, 21, 25) - 0.3, torch.rand(2, 1, 21, 25)  # bicubic overshoots
    real = SRCNN((9, 1, 5))
    network = real.forward_valid
    with torch.no_grad():
        restored = network(low)
        cut = high[..., 6:-6, 6:-6]
        squares = (restored - cut).square()
        mistakes = {
            "the target is cut from its upper left corner. The output shows the middle.": F.mse_loss(
                restored, high[..., : cut.shape[-2], : cut.shape[-1]]
            ),
            "the target is resized to fit. Its pixels must stay what they are: cut it.": F.mse_loss(
                restored, F.interpolate(high, size=cut.shape[-2:])
            ),
            "the output is compared with the low picture, not with the ground truth.": F.mse_loss(
                restored, low[..., 6:-6, 6:-6]
            ),
            "the output is cut off at 0 and 1: where it lies beyond, nothing would be learnt.": (
                (restored.clamp(0, 1) - cut).square().mean()
            ),
            "half of it is missing: the mean of the squares, as it is.": squares.mean() / 2,
            "this is a sum. The mean is expected, which does not depend on the size.": squares.sum(),
            "these are absolute differences. Squared ones are expected.": (restored - cut).abs().mean(),
            "this is the root of the mean squared error.": squares.mean().sqrt(),
        }
    loss = valid_loss(network, low, high)
    compare(loss, squares.mean(), "The loss", mistakes)
    compare_gradients(loss, (network(low) - cut).square().mean(), list(real.parameters()), "The loss")
    try:
        loss = valid_loss(nn.Identity(), low, high)
    except RuntimeError as error:
        raise Mismatch(
            "It is right with a border of 6, but stops without one. Find the border from the shapes; where it is 0, "
            "high[..., 0:-0] is empty: count from the left, border:border + height."
        ) from error
    compare(loss, F.mse_loss(low, high), "The loss of a network without a border")
    with torch.no_grad():
        wide = SRCNN((9, 5, 5)).forward_valid
        expected = F.mse_loss(wide(low), high[..., 8:-8, 8:-8])
        compare(valid_loss(wide, low, high), expected, "The loss of a network with a border of 8")


def check_03d(upscale_colour):
    """Which of the three channels of Y, Cb, Cr may the network see? And what became of the others when the picture
    was enlarged?

    Resize the RGB picture by the scale, convert it to Y, Cb, Cr, replace channel 0 by what the network makes of it
    (`ycbcr[:, :1]` keeps the channel dimension), convert back and clamp to 0..1.
    """
    low = crop(photograph("chelsea.png"), 90, 120, 24, 20)
    torch.manual_seed(0)
    network = SRCNN((9, 1, 5)).eval()
    network.reconstruct.weight.data *= 1.8  # so strong that colours leave 0..1 at both ends, though luma does not
    network.reconstruct.bias.data -= 0.215
    scale = 2
    expected = upscale(network, low, scale)
    with torch.inference_mode():
        enlarged = resize(low, scale)
        per_colour = torch.cat([network(channel) for channel in enlarged.split(1, dim=1)], dim=1)
        grey = network(rgb_to_luma(enlarged)).expand_as(enlarged)
        ycbcr = torch.cat((network(rgb_to_luma(enlarged)), rgb_to_ycbcr(enlarged)[:, 1:]), dim=1)
        beyond = ycbcr_to_rgb(ycbcr)
        mistakes = {
            "the luma did not go through the network: this is bicubic alone.": enlarged.clamp(0, 1),
            "the three colours went through the network one by one. Only luma should.": per_colour.clamp(0, 1),
            "the colour is gone: take Cb and Cr from the enlarged picture.": grey.clamp(0, 1),
            "it leaves 0..1, which a picture may not: clamp it.": beyond,
            "it leaves 0..1 above: clamp it at both ends.": beyond.clamp(min=0),
            "it leaves 0..1 below: clamp it at both ends.": beyond.clamp(max=1),
            "the result is still Y, Cb, Cr. Convert it back to RGB.": ycbcr.clamp(0, 1),
        }
        restored = upscale_colour(network, low, scale)
        compare(restored, expected, "A part of the cat, ×2", mistakes, 1e-4, picture=True)
        compare(upscale_colour(network, low, 3), upscale(network, low, 3), "The same, ×3", tolerance=1e-4, picture=True)
