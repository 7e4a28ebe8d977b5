"""Answers to the exercises of lesson 11."""

import math

import torch

from imaging import distortions
from imaging.images import resize


def plateau_kernel(reach, sigma, beta):
    taps = torch.arange(-reach, reach + 1.0)
    y, x = torch.meshgrid(taps, taps, indexing="ij")
    kernel = 1 / (1 + ((x**2 + y**2) / sigma**2) ** beta)
    return kernel / kernel.sum()


def counted(picture, photons, generator):
    return torch.poisson(picture * photons, generator=generator) / photons


def dct_matrix():
    u = torch.arange(8.0)[:, None]
    x = torch.arange(8.0)
    matrix = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def quantised(block, steps):
    dct = dct_matrix()
    numbers = (dct @ (block - 128) @ dct.T / steps).round()
    return dct.T @ (numbers * steps) @ dct + 128


def as_the_camera_does(high, kernel, scale, sigma, quality, generator):
    low = resize(distortions.filter_each(high, kernel), 1 / scale)
    low = distortions.gaussian_noise(low, torch.tensor([sigma]), torch.tensor([False]), generator)
    return distortions.jpeg(low, torch.tensor([quality]))
