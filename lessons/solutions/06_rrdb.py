"""Answers to the exercises of lesson 6."""

import torch
import torch.nn.functional as F


def dense_inputs(features, growth):
    return [features + i * growth for i in range(5)]


def dense_block(x, convolutions, beta):
    known = x
    for convolution in convolutions[:4]:
        known = torch.cat((known, F.leaky_relu(convolution(known), 0.2)), dim=1)
    return x + beta * convolutions[4](known)


def residual_in_residual(x, blocks, beta):
    inner = x
    for block in blocks:
        inner = block(inner)
    return x + beta * inner


def weights_of_rrdb(features, growth):
    outputs = [growth, growth, growth, growth, features]
    block = sum(9 * i * o + o for i, o in zip(dense_inputs(features, growth), outputs, strict=True))
    return 3 * block
