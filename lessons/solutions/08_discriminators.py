"""Answers to the exercises of lesson 8."""

import torch.nn.functional as F


def standard_loss(real, fake):
    # −log σ(C) is softplus(−C), and −log(1 − σ(C)) is softplus(C): no logarithm of a rounded 0
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def hinge_loss(real, fake):
    # nothing to gain beyond ±1
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def relativistic_loss(real, fake):
    # each against the average of the other side
    return standard_loss(real - fake.mean(), fake - real.mean()) / 2


def relativistic_for_generator(real, fake):
    # the generator wants the opposite to be true
    return relativistic_loss(fake, real)
