"""Answers to the exercises of lesson 15."""

import torch


def collapsed(expand, bias1, squeeze, bias3):
    weight = torch.einsum("omyx,mc->ocyx", squeeze, expand[..., 0, 0])
    return weight, bias3 + squeeze.sum(dim=(2, 3)) @ bias1


def frames_a_second(weights, width, height, speed):
    products = sum(outputs * inputs * rows * columns for outputs, inputs, rows, columns in weights)
    return speed / (products * width * height)


def to_bytes_with_zero(x):
    step = (x.max() - x.min()) / 255
    zero = (-x.min() / step).round()
    return (x / step + zero).round().clamp(0, 255).to(torch.uint8), step, zero
