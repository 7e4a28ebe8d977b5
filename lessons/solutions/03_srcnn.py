"""Answers to the exercises of lesson 3."""

from torch import nn

from imaging.images import resize, rgb_to_ycbcr, ycbcr_to_rgb


def receptive_radius(kernels):
    # each layer looks (k − 1)/2 beyond what the one before it has seen
    return sum((kernel - 1) // 2 for kernel in kernels)


def build_srcnn(kernels):
    # valid convolutions, and nothing after the last: it must be able to give any number
    return nn.Sequential(
        nn.Conv2d(1, 64, kernels[0]),
        nn.ReLU(),
        nn.Conv2d(64, 32, kernels[1]),
        nn.ReLU(),
        nn.Conv2d(32, 1, kernels[2]),
    )


def valid_loss(network, low, high):
    restored = network(low)
    height, width = restored.shape[-2:]
    # counted from the left, so that a border of 0 cuts nothing off
    top, left = (high.shape[-2] - height) // 2, (high.shape[-1] - width) // 2
    return (restored - high[..., top : top + height, left : left + width]).square().mean()


def upscale_colour(network, low, scale):
    ycbcr = rgb_to_ycbcr(resize(low, scale))
    # luma alone; Cb and Cr stay as bicubic enlarged them
    ycbcr[:, :1] = network(ycbcr[:, :1])
    # the network may leave 0..1, a picture may not
    return ycbcr_to_rgb(ycbcr).clamp(0, 1)
