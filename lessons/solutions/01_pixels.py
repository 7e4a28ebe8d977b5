"""Answers to the exercises of lesson 1."""

import torch


def luma_of(rgb):
    # the three numbers of BT.601, in a shape that meets the channels
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    # the offset first, then from levels to 0..1
    return (16 + (weights * rgb).sum(dim=1, keepdim=True)) / 255


def psnr_of_each(restored, high):
    error = (restored - high).square().mean(dim=(1, 2, 3))  # one for each picture
    # the peak is 1; the root is never taken, or it would be 20 times
    return 10 * torch.log10(1 / error)


def ssim_of_window(x, y):
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = x.mean(), y.mean()
    # the mean of squares minus the square of the mean: every pixel counts 1/n
    variance_x = (x * x).mean() - mean_x**2
    variance_y = (y * y).mean() - mean_y**2
    covariance = (x * y).mean() - mean_x * mean_y
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
