"""Answers to the exercises of lesson 13."""

import torch
import torch.nn.functional as F
from torch import nn


def window(start, stop, length, margin, fold):
    # nothing lies to the left of 0
    first, last = max(0, start - margin), stop + margin
    # down and up to a multiple: the margin may only become wider
    return first - first % fold, min(length, last + -last % fold)


def cost(inputs, outputs, kernel, height, width):
    # one multiplication and one addition for each of them at every pixel
    weights = kernel**2 * inputs * outputs
    return 2 * weights * height * width, 4 * ((inputs + outputs) * height * width + weights)


def folded(weight3, bias3, weight1, bias1):
    # the filter that changes nothing: 1 in the middle, for the own channel
    identity = nn.init.dirac_(torch.empty_like(weight3))
    return weight3 + F.pad(weight1, (1, 1, 1, 1)) + identity, bias3 + bias1


def to_8_bits(weight):
    # the largest weight of each filter becomes ±127
    steps = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    return (weight / steps).round().to(torch.int8), steps
