"""The losses that a run can choose from, beside the formulas written out."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from test_training import ADVERSARIAL, CPU, RRDB, fresh_weights, make_batch, make_stage

from engine import losses
from engine.overrides import check
from engine.settings import ADVERSARIAL_LOSSES, PIXEL_LOSSES, Adversarial, Settings
from engine.updates import PixelStage
from imaging.console import UsageError
from imaging.images import rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb

ONE, TWO = ([0.5, -1.25, 0.25, 2.0], [-0.5, 0.75, 1.5, 0.0])
REAL, FAKE = torch.tensor(ONE), torch.tensor(TWO)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_pixel_losses_are_what_their_names_say():
    expected = {
        "l1": mean(abs(a - b) for a, b in zip(ONE, TWO, strict=True)),
        "l2": mean((a - b) ** 2 for a, b in zip(ONE, TWO, strict=True)),
        "charbonnier": mean(math.hypot(a - b, 1e-3) for a, b in zip(ONE, TWO, strict=True)),
    }
    assert expected.keys() == losses.PIXEL.keys() == set(PIXEL_LOSSES) - {"auto"}
    for name, value in expected.items():
        assert losses.PIXEL[name](REAL, FAKE).item() == pytest.approx(value, rel=1e-5), name
    same = REAL.clone().requires_grad_()
    losses.charbonnier(same, REAL).backward()
    assert same.grad.isfinite().all()  # the root of 0 has no slope


def test_the_difference_of_steps_counts_what_changes_from_pixel_to_pixel():
    torch.manual_seed(1)
    restored, target = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    off = (restored - target).tolist()
    along_rows = mean((row[i + 1] - row[i]) ** 2 for one in off for plane in one for row in plane for i in range(4))
    along_columns = mean(
        (below - above) ** 2
        for one in off
        for plane in one
        for upper, lower in pairwise(plane)
        for above, below in zip(upper, lower, strict=True)
    )
    expected = along_rows + along_columns
    assert losses.gradient_difference(restored, target).item() == pytest.approx(expected, rel=1e-5)
    assert losses.gradient_difference(target + 0.3, target).item() == pytest.approx(0, abs=1e-6)
    assert losses.gradient_difference(restored[..., :1], target[..., :1]).isfinite()
    for weight in (0.0, 0.5):
        loss = losses.pixel_loss(Settings(pixel_loss="l1", gradient_weight=weight), False)
        pixels = (restored - target).abs().mean().item()
        assert loss(restored, target).item() == pytest.approx(pixels + weight * expected, rel=1e-5)


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def test_adversarial_losses_are_what_their_names_say():
    real_mean, fake_mean = mean(ONE), mean(TWO)
    of_discriminator = {
        "relativistic": -(
            mean(log_sigmoid(a - fake_mean) for a in ONE) + mean(log_sigmoid(real_mean - b) for b in TWO)
        ) / 2,
        "vanilla": -mean(map(log_sigmoid, ONE)) - mean(log_sigmoid(-b) for b in TWO),
        "least_squares": mean((a - 1) ** 2 for a in ONE) / 2 + mean(b**2 for b in TWO) / 2,
        "hinge": mean(max(0, 1 - a) for a in ONE) + mean(max(0, 1 + b) for b in TWO),
    }  # fmt: skip
    of_generator = {
        "relativistic": -(
            mean(log_sigmoid(fake_mean - a) for a in ONE) + mean(log_sigmoid(b - real_mean) for b in TWO)
        ) / 2,
        "vanilla": -mean(map(log_sigmoid, TWO)),
        "least_squares": mean((b - 1) ** 2 for b in TWO) / 2,
        "hinge": -fake_mean,
    }  # fmt: skip
    assert of_discriminator.keys() == losses.ADVERSARIAL.keys() == set(ADVERSARIAL_LOSSES) - {"auto"}
    for name, loss in losses.ADVERSARIAL.items():
        assert loss.of_discriminator(REAL, FAKE).item() == pytest.approx(of_discriminator[name], rel=1e-5), name
        assert loss.of_generator(REAL, FAKE).item() == pytest.approx(of_generator[name], rel=1e-5), name


def test_what_was_usual_stays_so():
    assert losses.pixel_loss(Settings(), enlarged=True) is losses.PIXEL["l2"]
    assert losses.pixel_loss(Settings(), enlarged=False) is losses.PIXEL["l1"]
    for discriminator, loss in (("vgg", "relativistic"), ("unet", "vanilla")):
        settings = Settings(adversarial=Adversarial(discriminator=discriminator))
        assert losses.adversarial_loss(settings) is losses.ADVERSARIAL[loss]
        chosen = Settings(adversarial=Adversarial(discriminator=discriminator, loss="hinge"))
        assert losses.adversarial_loss(chosen) is losses.ADVERSARIAL["hinge"]


def test_gram_matrices_mind_what_is_there_and_not_where():
    features = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 3, 3)
    for picture in range(2):
        for one in range(3):
            for other in range(3):
                expected[picture, one, other] = (features[picture, one] * features[picture, other]).sum() / (3 * 5 * 4)
    torch.testing.assert_close(losses.gram_matrix(features), expected)
    moved = {"conv1_2": features.roll((1, 2), (-2, -1))}
    assert losses.style_distance(moved, {"conv1_2": features}, {"conv1_2": 2.0}).item() == pytest.approx(0, abs=1e-6)
    doubled = {"conv1_2": 2 * features}
    distance = losses.style_distance(doubled, {"conv1_2": features}, {"conv1_2": 2.0})
    assert distance.item() == pytest.approx(2 * 3 * expected.abs().mean().item(), rel=1e-5)


def waves(across: float, down: float, side: int = 64, shift: float = 0.0) -> torch.Tensor:
    """A grey picture (1, 3, side, side) of waves with so many periods in a pixel along rows and along columns."""
    places = torch.arange(side) + shift
    return (0.5 + 0.2 * torch.cos(2 * torch.pi * (across * places + down * places[:, None]))).expand(1, 3, -1, -1)


def test_the_spectrum_of_noise_is_its_variance():
    noise = 0.1 * torch.randn(1, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    spectra = losses.local_spectra(noise).mean(dim=(0, 2, 3)).view(losses.WINDOW, losses.WINDOW)
    assert (spectra / 0.1**2).sub(1).abs().max() < 0.2


def test_the_spectrum_of_waves_is_at_their_frequency():
    spectra = losses.local_spectra(waves(5 / 16, 3 / 16)[:, :1] - 0.5).mean(dim=(0, 2, 3))
    down, across = divmod(int(spectra.argmax()), losses.WINDOW)
    assert (down, across) in ((3, 5), (13, 11))  # and the same from the other side


def test_spectra_mind_direction_and_strength_and_not_place():
    upright, level, moved = waves(0.4, 0.0), waves(0.0, 0.4), waves(0.4, 0.0, shift=1.3)
    flat = torch.full((1, 3, 64, 64), 0.5)
    for picture in (upright, flat):
        assert losses.spectrum_distance(picture, picture) == 0
    assert losses.spectrum_distance(upright, moved) < 0.1 * losses.spectrum_distance(upright, level)
    too_much, too_little = losses.spectrum_distance(upright, flat), losses.spectrum_distance(flat, upright)
    assert too_much.item() == pytest.approx(too_little.item() / losses.SHARE_OF_LACK, rel=1e-4)


def test_spectra_see_waves_of_colour_alone():
    flat = torch.full((1, 3, 64, 64), 0.5)
    coloured = ycbcr_to_rgb(rgb_to_ycbcr(flat) + (waves(0.4, 0.0) - 0.5) * torch.tensor([0.0, 0.0, 0.25]).view(3, 1, 1))
    torch.testing.assert_close(rgb_to_luma(coloured), rgb_to_luma(flat))
    assert losses.spectrum_distance(coloured, flat) > 0.1


def test_spectra_treat_all_directions_alike():
    generator = torch.Generator().manual_seed(0)
    restored, target = torch.rand(2, 1, 3, 64, 64, generator=generator)
    expected = losses.spectrum_distance(restored, target).item()
    for turned in (lambda picture: picture.mT, lambda picture: picture.flip(-1)):
        assert losses.spectrum_distance(turned(restored), turned(target)).item() == pytest.approx(expected, rel=0.05)
    upright = losses.spectrum_distance(waves(0.375, 0.0), target)
    assert losses.spectrum_distance(waves(0.0, 0.375), target.mT).item() == pytest.approx(upright.item(), rel=1e-4)


def test_spectra_need_three_squares():
    with pytest.raises(ValueError, match="need 32 pixels a side, not 64×31"):
        losses.local_spectra(torch.zeros(1, 1, 64, 31))
    with pytest.raises(UsageError, match="spectrum, which needs 32"):
        chosen = Adversarial(discriminator="unet", spectrum_weight=1.0)
        check(Settings("esrgan", 4, shape=RRDB.shape, patch=7, adversarial=chosen), "")


@pytest.mark.parametrize("name", PIXEL_LOSSES)
def test_the_first_stage_learns_by_the_chosen_loss(name):
    stage, (low, high) = PixelStage(replace(RRDB, pixel_loss=name), fresh_weights(RRDB), CPU), make_batch(2)
    expected = losses.PIXEL["l1" if name == "auto" else name](stage.network(low / 255), high / 255).item()
    assert stage.update(low, high, 1e-3, 0)["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("discriminator", ["vgg", "unet"])
@pytest.mark.parametrize("name", ADVERSARIAL_LOSSES[1:])
def test_every_loss_goes_with_either_discriminator(name, discriminator):
    chosen = replace(ADVERSARIAL.adversarial, loss=name, discriminator=discriminator)
    chosen = replace(chosen, style_weight=3.0, spectrum_weight=2.0)
    stage = make_stage(replace(ADVERSARIAL, adversarial=chosen))
    figures = stage.update(*make_batch(2), 1e-4, 0)
    parts = ("pixel", "perceptual", "adversarial", "consistency", "style", "spectrum")
    total = sum(getattr(chosen, f"{part}_weight") * figures[part] for part in parts)
    assert figures["loss"] == pytest.approx(total, rel=1e-5) and figures["style"] > 0
    assert figures["spectrum"] > 0


def test_the_generator_may_learn_more_seldom():
    settings = replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, generator_every=2))
    stage, moved = make_stage(settings), []
    for step in range(3):
        before = stage.network.conv_last.weight.clone()
        stage.update(*make_batch(2), 1e-3, step)
        moved.append(not torch.equal(before, stage.network.conv_last.weight))
    assert moved == [True, False, True]
