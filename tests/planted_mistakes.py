"""Plausible wrong answers to the exercises of the lessons: (exercise, wrong answer, a part of what must be said)."""

import torch

BT601 = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)


def ssim_with_constants(c1, c2):
    def ssim(x, y):
        covariance = (x * y).mean() - x.mean() * y.mean()
        top = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
        bottom = (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var(correction=0) + y.var(correction=0) + c2)
        return top / bottom

    return ssim


LESSON_1 = [
    ("01a", lambda rgb: (BT601 / BT601.sum() * rgb).sum(1, keepdim=True), "full-range"),
    ("01a", lambda rgb: (BT601 * rgb).sum(1, keepdim=True) / 255, "offset of 16 is missing"),
    ("01a", lambda rgb: (16 + (BT601.flip(1) * rgb).sum(1, keepdim=True)) / 255, "blue, green, red"),
    ("01a", lambda rgb: (16 + (BT601 * rgb).sum(1)) / 255, "keepdim"),
    ("01b", lambda restored, high: 10 * torch.log10(1 / (restored - high).square().mean()), "whole batch"),
    (
        "01b",
        lambda restored, high: 10 * torch.log10(255**2 / (restored - high).square().mean(dim=(1, 2, 3))),
        "not 255",
    ),
    ("01b", lambda restored, high: -10 * torch.log((restored - high).square().mean(dim=(1, 2, 3))), "base 10"),
    ("01c", ssim_with_constants(0, 0), "constants c₁ and c₂ are missing"),
    ("01c", ssim_with_constants(6.5025, 58.5225), "pixels from 0 to 255"),
]


def keys(x, a, absolute=True):
    x = x.abs() if absolute else x
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, (a + 2) * x**3 - (a + 3) * x**2 + 1, torch.where(x <= 2, far, 0.0))


def resize_matrix(length, new_length, antialias=True, mirrored=True, normalised=True):
    scale = new_length / length
    positions = torch.arange(-length, 2 * length) if mirrored else torch.arange(length)
    centres = (torch.arange(new_length)[:, None] + 0.5) / scale - 0.5
    weights = keys((centres - positions) / (max(1, 1 / scale) if antialias else 1), -0.5)
    weights = weights / weights.sum(dim=1, keepdim=True) if normalised else weights
    parts = weights.split(length, dim=1)
    return parts[1] + parts[0].flip(1) + parts[2].flip(1) if mirrored else weights


LESSON_2 = [
    ("02a", lambda x, a: keys(x, -0.75), "another one"),
    ("02a", lambda x, a: keys(x, a, absolute=False), "absolute value is missing"),
    ("02a", lambda x, a: keys(x, a) * (x.abs() <= 1), "outer piece"),
    ("02b", lambda new_length, scale: torch.arange(new_length) / scale, "half pixels are missing"),
    ("02b", lambda new_length, scale: (torch.arange(new_length) + 0.5) * scale - 0.5, "you multiply"),
    ("02b", lambda n, scale: torch.arange(n) * (n / scale - 1) / (n - 1), "align_corners"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, antialias=False), "no anti-aliasing"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, mirrored=False), "as Pillow does"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, normalised=False), "do not sum to 1"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length).T, "transposed"),
]

PLANTED = [*LESSON_1, *LESSON_2]
