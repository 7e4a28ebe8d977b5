"""Answers to the exercises of lesson 5."""

import torch
import torch.nn.functional as F


def shuffle(x, scale):
    count, channels, height, width = x.shape
    squares = x.view(count, channels // scale**2, scale, scale, height, width)
    return squares.permute(0, 1, 4, 2, 5, 3).reshape(count, -1, scale * height, scale * width)


def stamps(length, kernel, stride):
    counts = torch.zeros((length - 1) * stride + kernel)
    for i in range(length):
        counts[i * stride : i * stride + kernel] += 1
    return counts


def flat_start(weight, scale):
    return weight.repeat_interleave(scale**2, dim=0)


def residual_forward(body, low, scale):
    return F.pixel_shuffle(body(low), scale) + F.interpolate(low, scale_factor=scale)
