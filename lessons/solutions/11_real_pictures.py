"""Answers to the exercises of lesson 11."""

import math

import torch

from imaging import distortions
from imaging.images import resize


def plateau_kernel(reach, sigma, beta):
    taps = torch.arange(-reach, reach + 1.0)
    y, x = torch.meshgrid(taps, taps, indexing="ij")
    # d = (x² + y²)/σ², to the power of β
    kernel = 1 / (1 + ((x**2 + y**2) / sigma**2) ** beta)
    # brightness stays
    return kernel / kernel.sum()


def counted(picture, photons, generator):
    # whole photons, then brightness again
    return torch.poisson(picture * photons, generator=generator) / photons


def dct_matrix():
    u = torch.arange(8.0)[:, None]
    x = torch.arange(8.0)
    matrix = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def quantised(block, steps):
    dct = dct_matrix()
    # forwards, one number for each wave; fine waves have large steps, and become 0
    numbers = (dct @ (block - 128) @ dct.T / steps).round()
    return dct.T @ (numbers * steps) @ dct + 128


def as_the_camera_does(high, kernel, scale, sigma, quality, generator):
    # the lens first, then the sensor's pixels
    low = resize(distortions.filter_each(high, kernel), 1 / scale)
    low = distortions.gaussian_noise(low, torch.tensor([sigma]), torch.tensor([False]), generator)
    # the file is written last
    return distortions.jpeg(low, torch.tensor([quality]))
