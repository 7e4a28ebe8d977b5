"""Answers to the exercises of lesson 8."""

import torch.nn.functional as F


def standard_loss(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def hinge_loss(real, fake):
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def relativistic_loss(real, fake):
    return standard_loss(real - fake.mean(), fake - real.mean()) / 2


def relativistic_for_generator(real, fake):
    return relativistic_loss(fake, real)
