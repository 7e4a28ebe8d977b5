"""The losses that a run can choose from: of pixels, of the discriminator's answer, of style and of spectra.

PIXEL["charbonnier"](restored, target)      a number from two pictures of one shape
ADVERSARIAL["hinge"].of_generator(…)        a number from logits; `esrgan.py` has the papers' own two
style_distance(actual, expected, weights)   a number from VGG19's features
spectrum_distance(restored, target)         a number from two pictures of one shape
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import esrgan
from engine.settings import Settings
from imaging.images import rgb_to_ycbcr

# ---------------------------------------------------------------------------------------------
# Pixels
# ---------------------------------------------------------------------------------------------

ROUNDING = 1e-3  # ε of Charbonnier's loss: under about this difference it is a parabola, over it a line


def charbonnier(restored: Tensor, target: Tensor) -> Tensor:
    """The mean of √(d² + ε²): L1 with a round bottom, so that its gradient fades as d does.

    ε is that of Lai et al., "Deep Laplacian Pyramid Networks" (CVPR 2017), section 3.2.
    """
    return ((restored - target).square() + ROUNDING**2).sqrt().mean()


PIXEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss, "charbonnier": charbonnier, "l2": F.mse_loss
}  # fmt: skip


def gradient_difference(restored: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference of the steps between neighbouring pixels, along rows and along columns.

    Where SRVGG's pixels of two low ones meet, both are off by amounts of their own, so that the step between them is
    the largest: a grid, which this takes away for the most part. The absolute difference made it stronger, for the
    median of steps that may go either way is 0. Akin to Mathieu, Couprie, LeCun (ICLR 2016), section 3.2, who compare
    how long steps are.
    """
    off = restored - target
    steps = (off.diff(dim=axis).square() for axis in (-1, -2))
    return sum((of.sum() / max(1, of.numel()) for of in steps), off.new_zeros(()))  # a side of one pixel has no steps


def pixel_loss(settings: Settings, enlarged: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of pixels that a run has; `enlarged` tells whether its network restores enlarged pictures, as SRCNN."""
    usual = "l2" if enlarged else "l1"
    of_pixels = PIXEL[usual if settings.pixel_loss == "auto" else settings.pixel_loss]
    if not settings.gradient_weight:
        return of_pixels

    def together(restored: Tensor, target: Tensor) -> Tensor:
        return of_pixels(restored, target) + settings.gradient_weight * gradient_difference(restored, target)

    return together


# ---------------------------------------------------------------------------------------------
# Adversarial losses: from logits C(·) of any shape to a number
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AdversarialLoss:
    """What both sides learn by; each gets C(real) and C(restored)."""

    of_discriminator: Callable[[Tensor, Tensor], Tensor]
    of_generator: Callable[[Tensor, Tensor], Tensor]
    relativistic: bool = False  # whether the generator's needs C(real), which costs a pass


def least_squares_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """½ E[(C(real) − 1)²] + ½ E[C(fake)²]: Mao et al., "Least Squares GAN" (ICCV 2017), equation 9."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def least_squares_generator_loss(_: Tensor, fake: Tensor) -> Tensor:
    """½ E[(C(fake) − 1)²], of the same equation."""
    return (fake - 1).square().mean() / 2


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 − C(real))] + E[max(0, 1 + C(fake))]: Lim and Ye, "Geometric GAN" (2017)."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def hinge_generator_loss(_: Tensor, fake: Tensor) -> Tensor:
    """−E[C(fake)]."""
    return -fake.mean()


ADVERSARIAL = {
    "relativistic": AdversarialLoss(
        esrgan.relativistic_discriminator_loss, esrgan.relativistic_generator_loss, relativistic=True
    ),
    "vanilla": AdversarialLoss(esrgan.vanilla_discriminator_loss, lambda _, fake: esrgan.vanilla_generator_loss(fake)),
    "least_squares": AdversarialLoss(least_squares_discriminator_loss, least_squares_generator_loss),
    "hinge": AdversarialLoss(hinge_discriminator_loss, hinge_generator_loss),
}


def adversarial_loss(settings: Settings) -> AdversarialLoss:
    """The adversarial loss of a run: of ESRGAN's discriminator relativistic, of Real-ESRGAN's vanilla, as published."""
    adversarial = settings.adversarial
    assert adversarial, "the second stage has settings of its own"
    usual = "relativistic" if adversarial.discriminator == "vgg" else "vanilla"
    return ADVERSARIAL[usual if adversarial.loss == "auto" else adversarial.loss]


# ---------------------------------------------------------------------------------------------
# Style
# ---------------------------------------------------------------------------------------------


def gram_matrix(features: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, C): which channels answer together, wherever in the picture, as a mean over all values.

    Gatys et al., "Image Style Transfer Using Convolutional Neural Networks" (CVPR 2016), equation 3, divided by C·H·W
    as in Johnson et al., "Perceptual Losses" (ECCV 2016), equation 3.
    """
    flat = features.float().flatten(2)
    return flat @ flat.mT / flat[0].numel()


def style_distance(actual: dict[str, Tensor], expected: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The mean absolute difference of Gram matrices, summed over layers with `weights` (name → weight)."""
    distances = [
        weight * F.l1_loss(gram_matrix(actual[layer]), gram_matrix(expected[layer]))
        for layer, weight in weights.items()
    ]
    return torch.stack(distances).sum()


# ---------------------------------------------------------------------------------------------
# Spectra
# ---------------------------------------------------------------------------------------------

WINDOW = 16  # pixels a side of the squares whose spectra are compared; each overlaps the next by half
FAINT = (1 / 255) ** 2  # the power of noise of one 8-bit level: what is much weaker counts as nothing
SHARE_OF_LACK = 0.1  # so much too little counts of too much; counted alike, fur in compressed pictures fills with dots


def local_spectra(picture: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C · WINDOW², rows, columns): the power of every frequency of a channel, place by place.

    Of squares under Hann's window, averaged over three by three, for the power in one square is mostly chance. White
    noise has its variance as power everywhere. Raises ValueError for less than 32 pixels a side, three squares.
    """
    if min(picture.shape[-2:]) < 2 * WINDOW:
        raise ValueError(f"spectra need {2 * WINDOW} pixels a side, not {picture.shape[-2]}×{picture.shape[-1]}")
    hann = torch.hann_window(WINDOW, device=picture.device)
    squares = picture.unfold(2, WINDOW, WINDOW // 2).unfold(3, WINDOW, WINDOW // 2)
    power = torch.fft.fft2(squares * torch.outer(hann, hann)).abs().square() / hann.square().sum() ** 2
    return F.avg_pool2d(power.flatten(4).movedim(4, 2).flatten(1, 2), 3, stride=2)


def spectrum_distance(restored: Tensor, target: Tensor) -> Tensor:
    """The mean difference of the logarithms of both pictures' local spectra, (N, 3, H, W) in 0..1 each.

    Texture may be as strong in every size and direction as the target's, wherever it lies exactly: strokes all of one
    direction, which VGG19 takes for texture, have too much power in that one. Too little counts `SHARE_OF_LACK` as much
    as too much. Luma and the two colour differences add up: strokes may be of colour alone. Akin to Fuoli et al.,
    "Fourier Space Losses for Efficient Perceptual Image Super-Resolution" (ICCV 2021), who compare whole patches,
    phases too.
    """
    actual, expected = ((local_spectra(rgb_to_ycbcr(picture)) + FAINT).log() for picture in (restored, target))
    excess = actual - expected
    return 3 * (excess.relu().mean() + SHARE_OF_LACK * (-excess).relu().mean())  # a mean over three channels: their sum
