"""Answers to the exercises of lesson 13."""

import torch
import torch.nn.functional as F
from torch import nn


def window(start, stop, length, margin, fold):
    first, last = max(0, start - margin), stop + margin
    return first - first % fold, min(length, last + -last % fold)


def cost(inputs, outputs, kernel, height, width):
    weights = kernel**2 * inputs * outputs
    return 2 * weights * height * width, 4 * ((inputs + outputs) * height * width + weights)


def folded(weight3, bias3, weight1, bias1):
    identity = nn.init.dirac_(torch.empty_like(weight3))
    return weight3 + F.pad(weight1, (1, 1, 1, 1)) + identity, bias3 + bias1


def to_8_bits(weight):
    steps = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    return (weight / steps).round().to(torch.int8), steps
