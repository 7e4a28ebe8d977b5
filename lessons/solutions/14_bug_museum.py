"""Answers to the exercises of lesson 14."""

import numpy
import torch

from imaging.images import crop_to_multiple, psnr, resize


def as_floats(pixels):
    # the type says it, not the values
    most = 65535 if pixels.dtype == numpy.uint16 else 255
    return pixels.astype(numpy.float32) / most


def in_rows(values, size):
    # Pillow gives the width first
    width, height = size
    return values.view(height, width)


def as_bytes(picture):
    # cut off what a byte cannot hold, then round
    return (255 * picture.clamp(0, 1)).round().to(torch.uint8)


def baseline(high, scale):
    # else a small pixel would be more than `scale` wide
    high = crop_to_multiple(high, scale)
    return psnr(resize(resize(high, 1 / scale), scale), high, scale)


def pair_up(lows, highs):
    # by name: one missing file must not move the others
    low_of = {low.removesuffix("_x4.png"): low for low in lows}
    names = {high: high.removesuffix(".png") for high in highs}
    return sorted((low_of[name], high) for high, name in names.items() if name in low_of)


def run_tiles(network, tiles):
    # no except: whoever calls can halve the tiles, if it is told
    return [network(tile) for tile in tiles]


def enlarge(rgba, scale):
    colour, opacity = rgba[:, :3], rgba[:, 3:]
    new_opacity = resize(opacity, scale).clamp(0, 1)
    # by weight of opacity: what cannot be seen does not count
    new_colour = resize(colour * opacity, scale) / new_opacity.clamp(min=1e-3)
    return torch.cat((new_colour.clamp(0, 1), new_opacity), dim=1)


def save(network, path):
    # names and tensors, no code
    torch.save(network.state_dict(), path)


def to_be_learnt(network, features):
    # the features measure; they must not change
    return list(network.parameters())


def resume(checkpoint, network, optimizer):
    network.load_state_dict(checkpoint["network"])
    # Adam's means of past gradients
    optimizer.load_state_dict(checkpoint["optimizer"])
    return checkpoint["step"]
