"""The checks of the exercises of lesson 1; the paragraphs of each docstring are the hints."""

from functools import partial

from comparing import compare

import torch

from imaging.images import rgb_to_luma


def pictures(*shape: int) -> torch.Tensor:
    """Noise in 0..1, the same every time."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


def check_01a(luma_of):
    """Which of the four dimensions holds red, green and blue? Only that one may be summed up.

    Multiply the three channels by their three weights, add them up along dimension 1 and keep that dimension. Then
    add 16, then divide everything by 255. White must come out as 235/255.
    """
    rgb = pictures(2, 3, 5, 4)
    expected = rgb_to_luma(rgb)
    weights = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)
    sum_of = (weights * rgb).sum(dim=1, keepdim=True)
    mistakes = {
        "this is full-range luma, 0 for black. Studio swing is expected: 16/255 for black, 235/255 for white.": (
            sum_of / 219
        ),
        "the offset of 16 is missing: black must give 16/255.": sum_of / 255,
        "the 16 is added after the division by 255. Add it before.": 16 + sum_of / 255,
        "divide by 255 at the end: our pictures go from 0 to 1.": 16 + sum_of,
        "the colours are taken in the order blue, green, red. Channel 0 is red.": rgb_to_luma(rgb.flip(1)),
        "this is the plain mean of the colours. Green counts most, blue least.": rgb.mean(dim=1, keepdim=True),
        "the channel dimension is gone: the shape should be (N, 1, H, W). Sum with keepdim=True.": expected[:, 0],
    }
    compare(luma_of(rgb), expected, "Luma of two random pictures", mistakes)
    compare(luma_of(torch.ones(1, 3, 2, 2)), torch.full((1, 1, 2, 2), 235 / 255), "Luma of white")


def check_01b(psnr_of_each):
    """One number must be left for each picture. Which dimensions have to go, and before or after the logarithm?

    Average the squared differences over the channels, rows and columns only, `mean(dim=(1, 2, 3))`, so that one
    number for each picture is left. Then 10 times the logarithm to base 10 of 1 divided by it.
    """
    high = pictures(3, 3, 6, 7)
    strength = torch.tensor([0.01, 0.05, 0.2]).view(3, 1, 1, 1) * torch.tensor([0.5, 1, 2]).view(1, 3, 1, 1)
    restored = high + strength * (pictures(6, 3, 6, 7)[3:] - 0.3)  # neither constant nor alike in the colours
    squares = (restored - high).square()
    absolute = (restored - high).abs().mean(dim=(1, 2, 3))
    error = squares.mean(dim=(1, 2, 3))
    mistakes = {
        "the error is averaged over the whole batch before the logarithm. One value for each picture is expected.": (
            10 * torch.log10(1 / squares.mean())
        ),
        "this is the mean of the three values. Return all three; whoever calls may average them.": (
            10 * torch.log10(1 / error)
        ).mean(),
        "the peak is 1 here, not 255: the pictures go from 0 to 1.": 10 * torch.log10(255**2 / error),
        "this comes from absolute differences. Squared ones are expected.": 20 * torch.log10(1 / absolute),
        "this comes from absolute differences, without a square.": 10 * torch.log10(1 / absolute),
        "this is the mean of the PSNRs of the colours. First the mean of all squares, then one logarithm.": (
            10 * torch.log10(1 / squares.mean(dim=(2, 3)))
        ).mean(dim=1),
        "the logarithm must have base 10, not e.": 10 * torch.log(1 / error),
        "10 times the logarithm of the squared error, not 20 times: 20 belongs to its root.": (
            20 * torch.log10(1 / error)
        ),
        "the sign is wrong: a small error means a large PSNR.": 10 * torch.log10(error),
        "the squares are summed, not averaged: a larger picture would look worse.": (
            10 * torch.log10(1 / squares.sum(dim=(1, 2, 3)))
        ),
    }
    compare(psnr_of_each(restored, high), 10 * torch.log10(1 / error), "PSNR of three pictures", mistakes, 1e-4)
    one = psnr_of_each(high[:1, :1, :2] + 0.1, high[:1, :1, :2])
    compare(one, [20.0], "PSNR of one picture of 2×7 in grey", tolerance=1e-4)


def formula_of(x, y, c1=1e-4, c2=9e-4, correction=0, covariance=None, power=1.0):
    """SSIM of two windows, also with the usual mistakes."""
    covariance = (x * y).mean() - x.mean() * y.mean() if covariance is None else covariance
    variances = x.var(correction=correction) ** power + y.var(correction=correction) ** power
    brightness = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
    return brightness * (2 * covariance + c2) / (variances + c2)


def wrong_ssims(x, y):
    """Explanation → the SSIM of two windows with this mistake."""
    formula = partial(formula_of, x, y)
    return {
        "the constants c₁ and c₂ are missing: a flat window would divide zero by zero.": formula(0, 0),
        "c₁ is missing: black windows would divide zero by zero.": formula(c1=0),
        "c₂ is missing: flat windows would divide zero by zero.": formula(c2=0),
        "c₁ and c₂ are for pixels from 0 to 255. Here p = 1.": formula(2.55**2, 7.65**2),
        "c₁ and c₂ are the squares of 0.01 and 0.03.": formula(0.01, 0.03),
        "c₁ and c₂ are exchanged.": formula(0.03**2, 0.01**2),
        "the variances divide by n − 1. Every pixel has the weight 1/n here: var(correction=0).": formula(correction=1),
        "the covariance lacks − mean(x)·mean(y).": formula(covariance=(x * y).mean()),
        "these are standard deviations. The formula has their squares, the variances.": formula(power=0.5),
        "the covariance may be negative, where one texture is the other's opposite.": formula(
            covariance=((x * y).mean() - x.mean() * y.mean()).abs()
        ),
        "SSIM may be negative, where one texture is the other's opposite: do not cut it off.": formula().clamp(min=0),
    }


def check_01c(ssim_of_window):
    """The formula needs five numbers of the two windows. Compute each on a line of its own before you put them
    together.

    Compute five numbers first: two means, two variances as mean(x²) − mean(x)², and the covariance as mean(x·y) −
    mean(x)·mean(y). With p = 1, c₁ is 0.0001 and c₂ is 0.0009.
    """
    x = 0.3 * pictures(8, 8)
    y = 0.5 * x + 0.1 * pictures(2, 8, 8)[1]
    # in the dark c₁ counts, and of opposites the covariance is negative
    windows = {"two dark windows": (x / 5, y / 5), "two windows": (x, y), "a window and its negative": (x, 0.3 - x)}
    for what, (one, other) in windows.items():
        expected = formula_of(one, other)
        compare(ssim_of_window(one, other), expected, f"SSIM of {what}", wrong_ssims(one, other), 1e-4)
    compare(ssim_of_window(x, x), 1.0, "SSIM of a window with itself")
    for shape in ((1, 1, 5, 7), (20,)):
        x, y = pictures(2, *shape)
        compare(ssim_of_window(x, y), formula_of(x, y), f"SSIM of two windows of the shape {shape}", tolerance=1e-4)
