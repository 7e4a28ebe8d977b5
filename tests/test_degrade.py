"""Degradation against oracles: SciPy's kernels, Pillow's JPEG, formulas written out, and the published odds counted."""

import importlib.resources
import io
import math
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from scipy import ndimage, special, stats

import degrade
from imaging import distortions
from imaging.console import run_command
from imaging.files import read_picture
from imaging.images import from_bytes, resize, round_to_8_bits, to_image
from imaging.saving import write_picture


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def several(*values):
    return torch.tensor(values)


def grid():
    """y (downwards) and x (to the right) of the taps of a 21×21 kernel."""
    return numpy.mgrid[-10:11, -10:11].astype(float)


# ---------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------


def moments(kernel):
    """The matrix of second moments over x and y."""
    (y, x), kernel = grid(), kernel.double().numpy()
    return numpy.array([[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)])


def test_isotropic_gaussian_is_scipys():
    kernel = distortions.gaussian_kernels(several(21), several([1.7, 1.7]), several(0.4))[0]
    impulse = numpy.zeros((21, 21))
    impulse[10, 10] = 1
    numpy.testing.assert_allclose(kernel, ndimage.gaussian_filter(impulse, 1.7, radius=10), atol=1e-7)


@pytest.mark.parametrize("theta", [0.0, 0.6, -2.0, math.pi / 2])
def test_anisotropic_gaussian_is_scipys_and_turns_with_theta(theta):
    kernel = distortions.gaussian_kernels(several(21), several([2.2, 1.1]), several(theta))[0]
    turn = numpy.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    covariance = turn @ numpy.diag([2.2**2, 1.1**2]) @ turn.T
    y, x = grid()
    density = stats.multivariate_normal(cov=covariance).pdf(numpy.stack([x, y], axis=-1))
    numpy.testing.assert_allclose(kernel, density / density.sum(), atol=1e-7)
    # The kernel has the variance asked for, along the axes asked for.
    numpy.testing.assert_allclose(moments(kernel), covariance, atol=0.01)


def test_generalised_and_plateau_kernels_are_their_formulas():
    size, sigma, theta, beta = several(21, 13), several([2.0, 0.8], [1.5, 1.5]), several(0.5, 0.0), several(0.6, 3.0)
    bells = distortions.generalised_gaussian_kernels(size, sigma, theta, beta)
    plateaus = distortions.plateau_kernels(size, sigma, theta, beta)
    for index in range(2):
        bell, plateau = numpy.zeros((21, 21)), numpy.zeros((21, 21))
        cosine, sine, (along, across) = math.cos(theta[index]), math.sin(theta[index]), sigma[index].tolist()
        reach, exponent = size[index].item() // 2, beta[index].item()
        for y in range(-reach, reach + 1):
            for x in range(-reach, reach + 1):
                d = ((cosine * x + sine * y) / along) ** 2 + ((cosine * y - sine * x) / across) ** 2
                bell[y + 10, x + 10] = math.exp(-0.5 * d**exponent)
                plateau[y + 10, x + 10] = 1 / (1 + d**exponent)
        numpy.testing.assert_allclose(bells[index], bell / bell.sum(), atol=1e-6)
        numpy.testing.assert_allclose(plateaus[index], plateau / plateau.sum(), atol=1e-6)


def test_every_kernel_drawn_sums_to_1_and_stays_in_its_size():
    parameters = degrade.sample_blur(500, degrade.SECOND_ORDER.second.blur, seeded()).parameters
    kernels = distortions.make_kernels(**parameters)
    assert kernels.shape == (500, 21, 21) and kernels.isfinite().all()
    torch.testing.assert_close(kernels.sum(dim=(1, 2)), torch.ones(500))
    y, x = torch.from_numpy(numpy.abs(grid()))
    for kernel, size in zip(kernels, parameters["size"], strict=True):
        assert kernel[torch.maximum(y, x) > size // 2].eq(0).all()
    torch.testing.assert_close(kernels, kernels.flip(1, 2))  # so that filtering and convolution are the same


def test_make_kernels_makes_the_kind_that_was_drawn():
    kind, count = torch.arange(8), 8
    size, theta, beta = torch.full((count,), 15), torch.full((count,), 0.7), torch.full((count,), 1.5)
    sigma, cutoff = several([2.0, 1.0]).expand(count, 2), torch.full((count,), 1.2)
    kernels = distortions.make_kernels(kind, size, sigma, theta, beta, cutoff)
    bell = distortions.generalised_gaussian_kernels(size, sigma, theta, beta)[0]
    plateau, sinc = distortions.plateau_kernels(size, sigma, theta, beta)[0], distortions.sinc_kernels(size, cutoff)[0]
    for name, kernel in zip(distortions.KERNELS, kernels, strict=True):
        if name == "none":
            assert kernel[10, 10] == 1 and kernel.abs().sum() == 1
        else:
            assert torch.equal(kernel, plateau if "plateau" in name else sinc if name == "sinc" else bell), name


@pytest.mark.parametrize("cutoff", [math.pi / 3, 0.5 * math.pi, 0.65 * math.pi])
def test_sinc_is_its_formula_and_cuts_at_its_frequency(cutoff):
    kernel = distortions.sinc_kernels(several(21), several(cutoff))[0].double().numpy()
    y, x = grid()
    radius = numpy.hypot(x, y)
    with numpy.errstate(invalid="ignore"):
        expected = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
    expected[10, 10] = cutoff**2 / (4 * math.pi)
    numpy.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-6)

    def response(frequency, direction):
        return (kernel * numpy.cos(frequency * (math.cos(direction) * x + math.sin(direction) * y))).sum()

    for direction in (0, math.pi / 6, math.pi / 4, math.pi / 2):
        assert response(0.5 * cutoff, direction) == pytest.approx(1, abs=0.15)
        assert response(cutoff, direction) == pytest.approx(0.5, abs=0.15)
        assert response(1.4 * cutoff, direction) == pytest.approx(0, abs=0.15)


def test_each_picture_is_filtered_with_its_own_kernel():
    pictures = torch.rand(3, 3, 24, 17, generator=seeded())
    kernels = torch.rand(3, 21, 21, generator=seeded(1))  # lopsided ones, to see that nothing is turned round
    filtered = distortions.filter_each(pictures, kernels)
    for picture, kernel, result in zip(pictures, kernels, filtered, strict=True):
        for channel in range(3):
            expected = ndimage.correlate(picture[channel].numpy(), kernel.numpy(), mode="mirror")
            numpy.testing.assert_allclose(result[channel], expected, rtol=1e-5)
    small = torch.rand(1, 3, 4, 9, generator=seeded())
    expected = ndimage.correlate(small[0, 0].numpy(), kernels[0].numpy(), mode="nearest")
    numpy.testing.assert_allclose(distortions.filter_each(small, kernels[:1])[0, 0], expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------------
# Resize and noise
# ---------------------------------------------------------------------------------------------


def test_rescale_is_relative_to_the_reference_and_not_anti_aliased():
    pictures = torch.rand(2, 3, 32, 48, generator=seeded())
    blocks = pictures.view(2, 3, 8, 4, 12, 4)
    shrunk = {mode: distortions.rescale(pictures, (16, 24), 0.5, mode) for mode in distortions.RESIZE_MODES}
    torch.testing.assert_close(shrunk["area"], blocks.mean(dim=(3, 5)))
    torch.testing.assert_close(shrunk["bilinear"], blocks[:, :, :, 1:3, :, 1:3].mean(dim=(3, 5)))
    # Bicubic halfway between two pixels, with a = −0.75: four rows and columns, and no more of them.
    weights = several(-0.09375, 0.59375, 0.59375, -0.09375)
    expected = torch.einsum("ncyaxb,a,b->ncyx", blocks, weights, weights)
    torch.testing.assert_close(shrunk["bicubic"], expected.clamp(0, 1))
    assert distortions.rescale(pictures, (33, 7), 1.1, "area").shape[-2:] == (36, 7)
    assert distortions.rescale(pictures, (3, 3), 0.15, "bicubic").shape[-2:] == (1, 1)


@pytest.mark.parametrize("size, factor", [((16, 24), 4), ((21, 40), 3)])
def test_shrink_is_pillows_with_a_kernel_for_each_picture(size, factor):
    pictures = torch.rand(4, 3, size[0] * factor, size[1] * factor, generator=seeded()) * 0.5 + 0.25
    methods = {"bicubic": Image.BICUBIC, "area": Image.BOX, "bilinear": Image.BILINEAR, "Lanczos": Image.LANCZOS}
    assert list(methods) == list(distortions.SHRINKING_KERNELS)
    small = distortions.shrink(pictures, size, torch.arange(4))
    for picture, method, result in zip(pictures, methods.values(), small, strict=True):
        for plane, found in zip(picture, result, strict=True):
            expected = Image.fromarray(plane.numpy()).resize(size[::-1], method)
            # At the border Pillow leaves out the taps beyond it, where MATLAB mirrors the picture.
            numpy.testing.assert_allclose(found[3:-3, 3:-3], numpy.asarray(expected)[3:-3, 3:-3], atol=2e-6)


def test_sharpen_is_its_formula_and_leaves_flat_places():
    pictures, amount, sigma = few(), several(0.8, 0.0), several(1.2, 1.0)
    sharpened = distortions.sharpen(pictures, amount, sigma)
    assert torch.equal(sharpened[1], pictures[1])
    for plane, result in zip(pictures[0].double().numpy(), sharpened[0], strict=True):
        blurred = ndimage.gaussian_filter(plane, 1.2, radius=10, mode="mirror")
        numpy.testing.assert_allclose(result, (plane + 0.8 * (plane - blurred)).clip(0, 1), atol=1e-5)


def test_gaussian_noise_has_the_sigma_asked_for():
    pictures, sigma = torch.full((4, 3, 200, 200), 0.5), several(1, 10, 20, 30) / 255
    error = distortions.gaussian_noise(pictures, sigma, several(True, False, True, False), seeded()) - pictures
    torch.testing.assert_close(error.std(dim=(1, 2, 3)), sigma, rtol=0.02, atol=0)
    assert error.mean(dim=(1, 2, 3)).abs().max() < 0.001
    for picture, grey in zip(error, (True, False, True, False), strict=True):
        correlation = torch.corrcoef(picture.flatten(1)) - torch.eye(3)
        assert torch.equal(picture[0], picture[1]) == grey and torch.equal(picture[0], picture[2]) == grey
        assert grey or correlation.abs().max() < 0.02


def test_poisson_noise_grows_with_brightness():
    # 256 levels, so 256 photons at white; the darkest and brightest are left out, because clipping narrows them.
    ramp = (torch.arange(256.0) / 255).view(1, 1, 256, 1).expand(4, 3, 256, 400)
    strength, grey = several(0.5, 0.5, 1.0, 1.0), several(True, False, True, False)
    error = (distortions.poisson_noise(ramp, strength, grey, seeded()) - ramp)[:, :, 32:192]
    for picture, times, is_grey in zip(error, strength, grey, strict=True):
        variance = picture.var(dim=-1).view(3, 10, 16).mean(dim=(0, 2))
        expected = times**2 * ramp[0, 0, 32:192, 0].view(10, 16).mean(dim=1) / 256
        torch.testing.assert_close(variance, expected, rtol=0.06, atol=0)
        assert picture.mean().abs() < 0.001
        assert torch.equal(picture[0], picture[1]) == is_grey
    few = (torch.arange(5.0) / 8 + 0.25).view(1, 1, 5, 1).expand(1, 3, 5, 4000)  # five levels: eight photons
    error = distortions.poisson_noise(few, several(0.1), several(False), seeded()) - few
    torch.testing.assert_close(error.var(dim=-1).mean(dim=1)[0], 0.01 * few[0, 0, :, 0] / 8, rtol=0.06, atol=0)


# ---------------------------------------------------------------------------------------------
# JPEG
# ---------------------------------------------------------------------------------------------


def photographs():
    for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"):
        with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / name) as path:
            yield read_picture(path)


def through_pillow(picture, quality, subsampling=2):
    """The picture after a JPEG file, and the tables in it."""
    file = io.BytesIO()
    to_image(picture).save(file, "JPEG", quality=quality, subsampling=subsampling)
    image = Image.open(file)
    return from_bytes(torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None]), image.quantization


def decibels(one, other):
    return 10 * torch.log10(1 / (one.double() - other.double()).square().mean()).item()


@pytest.mark.parametrize("quality", [30, 45, 49, 50, 60, 75, 85, 95])
def test_jpeg_is_pillows(quality):
    for photograph in photographs():
        # Sides that divide by 16, odd ones, and even ones.
        for picture in (photograph[..., :224, :240], photograph[..., 9:202, 20:227], photograph[..., 50:72, 60:166]):
            expected, tables = through_pillow(picture, quality)
            assert decibels(distortions.jpeg(picture, several(quality)), expected) > 45
            ours = distortions.quantisation_tables(several(quality))
            assert [ours[index, 0].flatten().tolist() for index in (0, 1)] == [tables[0], tables[1]]


@pytest.mark.parametrize("quality", [30, 75, 98])
def test_jpeg_with_whole_chroma_is_pillows(quality):
    for photograph in photographs():
        for picture in (photograph[..., :224, :240], photograph[..., 9:202, 20:227], photograph[..., 50:72, 60:166]):
            expected, _ = through_pillow(picture, quality, subsampling=0)
            assert decibels(distortions.jpeg(picture, several(quality), halve_chroma=False), expected) > 45


def test_compress_sends_each_picture_through_its_own_kind_of_file():
    pictures, quality = few(4), several(70, 80, 60, 90)
    saved = distortions.compress(pictures, several(1, 3, 2, 0), quality)
    assert torch.equal(saved[:1], distortions.jpeg(pictures[:1], quality[:1], halve_chroma=False))
    assert torch.equal(saved[1], pictures[1])
    assert torch.equal(saved[3:], distortions.jpeg(pictures[3:], quality[3:]))
    file = io.BytesIO()
    to_image(pictures[2:3]).save(file, "WEBP", quality=60, method=2)
    expected = torch.from_numpy(numpy.array(Image.open(file).convert("RGB"))).permute(2, 0, 1)
    assert torch.equal(saved[2], from_bytes(expected))


def test_grey_has_equal_channels_and_jfifs_luma():
    grey = distortions.to_grey(few(1))[0]
    expected = 255 * numpy.asarray(to_image(few(1)).convert("L"), dtype=float) / 255
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    numpy.testing.assert_allclose(255 * grey[0], expected, atol=1.1)


def test_jpeg_has_a_quality_for_each_picture(photograph):
    qualities = several(30, 60, 95)
    together = distortions.jpeg(photograph.expand(3, -1, -1, -1), qualities)
    for result, quality in zip(together, qualities, strict=True):
        assert decibels(result, distortions.jpeg(photograph, quality[None])[0]) > 60
    assert torch.equal(together, round_to_8_bits(together))


def test_jpegs_gradient_passes_straight_through(photograph):
    picture = (0.5 * photograph + 0.25).requires_grad_()
    distortions.jpeg(picture, several(50)).sum().backward()
    # Cosines, means and colours all keep the sum, so without the rounding a brighter pixel is a brighter pixel.
    torch.testing.assert_close(picture.grad, torch.ones_like(picture), atol=1e-3, rtol=0)


# ---------------------------------------------------------------------------------------------
# The odds
# ---------------------------------------------------------------------------------------------

DRAWS = 10_000


def assert_odds(drawn, odds):
    """Chi-square: the counts of what was drawn against a table of name → probability; seeded, so never by luck."""
    odds = {name: probability for name, probability in odds.items() if probability > 0}
    counts = {name: 0 for name in odds}
    for name in drawn:
        counts[name] += 1
    assert stats.chisquare(list(counts.values()), [len(drawn) * one for one in odds.values()]).pvalue > 0.001, counts


def assert_uniform(values, low, high):
    values = numpy.asarray(values, dtype=float)
    assert low <= values.min() + 1e-6 and values.max() <= high + 1e-6
    assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.001


@pytest.mark.parametrize("number, probability, sigma", [(0, 1.0, (0.2, 3)), (1, 0.8, (0.2, 1.5))])
def test_kernels_are_drawn_with_the_published_odds(number, probability, sigma):
    settings = (degrade.SECOND_ORDER.first, degrade.SECOND_ORDER.second)[number].blur
    drawn = degrade.sample_blur(DRAWS, settings, seeded(number)).parameters
    names = [distortions.KERNELS[kind] for kind in drawn["kind"]]
    shares = dict(zip(distortions.KERNELS, (0.45, 0.25, 0.12, 0.03, 0.12, 0.03), strict=False))
    odds = {name: 0.9 * probability * share for name, share in shares.items()}
    assert_odds(names, odds | {"sinc": 0.1 * probability, "none": 1 - probability})
    assert_odds(drawn["size"].tolist(), dict.fromkeys(range(7, 22, 2), 1 / 8))
    kind, (along, across) = drawn["kind"], drawn["sigma"].T
    anisotropic = several(*("anisotropic" in name for name in names))
    isotropic = several(*("isotropic" in name for name in names)) & ~anisotropic
    assert torch.equal(along[isotropic], across[isotropic]) and (along != across)[anisotropic].all()
    assert_uniform(along, *sigma)
    assert_uniform(across[anisotropic], *sigma)
    assert_uniform(drawn["theta"], -math.pi, math.pi)
    assert drawn["beta"][kind < 2].eq(1).all()
    for first, least, most in ((2, 0.5, 4), (4, 1, 2)):
        beta = drawn["beta"][(kind == first) | (kind == first + 1)]
        assert_uniform(beta[beta > 1], 1, most)
        assert least <= beta.min() and stats.binomtest(int((beta > 1).sum()), len(beta)).pvalue > 0.001
    for chosen, least in ((drawn["size"] < 13, math.pi / 3), (drawn["size"] >= 13, math.pi / 5)):
        assert_uniform(drawn["cutoff"][chosen], least, math.pi)


def test_the_final_sinc_is_drawn_with_the_published_odds():
    drawn = degrade.sample_blur(DRAWS, degrade.SECOND_ORDER.final_sinc, seeded(3)).parameters
    assert_odds([distortions.KERNELS[kind] for kind in drawn["kind"]], {"sinc": 0.8, "none": 0.2})
    assert_uniform(drawn["cutoff"], math.pi / 3, math.pi)


def test_resizes_and_the_order_of_the_end_are_drawn_with_the_published_odds(monkeypatch):
    # What is drawn for each picture is counted above and below; without it 10,000 draws take a second.
    for name in ("blur", "noise", "jpeg"):
        monkeypatch.setattr(degrade, f"sample_{name}", lambda *_, name=name: degrade.Step(name, None, {}))
    generator = seeded(4)
    draws = [degrade.sample_second_order((1, 3, 64, 96), 4, generator) for _ in range(DRAWS)]
    assert_odds([" ".join(step.name for step in steps[-4:-1]) for steps in draws],
                {"resize blur jpeg": 0.5, "jpeg resize blur": 0.5})  # fmt: skip
    table = ((1, (64, 96), 0.2, 0.7, (0.15, 1.5)), (5, (16, 24), 0.3, 0.4, (0.3, 1.2)))
    for place, reference, up, down, (least, most) in table:
        drawn = [steps[place].parameters for steps in draws]
        factors = torch.tensor([one["factor"] for one in drawn])
        assert {one["reference"] for one in drawn} == {reference}
        assert_odds((factors - 1).sign().tolist(), {1: up, -1: down, 0: 1 - up - down})
        assert_uniform(factors[factors > 1], 1, most)
        assert_uniform(factors[factors < 1], least, 1)
        assert_odds([one["mode"] for one in drawn], dict.fromkeys(distortions.RESIZE_MODES, 1 / 3))
    final = [next(step for step in steps[-4:-1] if step.name == "resize").parameters for steps in draws]
    assert all(one["factor"] == 1 and one["reference"] == (16, 24) for one in final)
    assert_odds([one["mode"] for one in final], dict.fromkeys(distortions.RESIZE_MODES, 1 / 3))


@pytest.mark.parametrize("number, sigma, strength", [(0, (1, 30), (0.05, 3)), (1, (1, 25), (0.05, 2.5))])
def test_noise_is_drawn_with_the_published_odds(number, sigma, strength):
    settings = (degrade.SECOND_ORDER.first, degrade.SECOND_ORDER.second)[number].noise
    generator = seeded(number)
    draws = [degrade.sample_noise(1, settings, generator).parameters for _ in range(DRAWS)]
    odds = {("Gaussian", True): 0.2, ("Gaussian", False): 0.3, ("Poisson", True): 0.2, ("Poisson", False): 0.3}
    assert_odds([(one["kind"], one["grey"].item()) for one in draws], odds)
    assert_uniform([255 * one["strength"].item() for one in draws if one["kind"] == "Gaussian"], *sigma)
    assert_uniform([one["strength"].item() for one in draws if one["kind"] == "Poisson"], *strength)
    assert len({one["seed"] for one in draws}) == DRAWS


def test_jpeg_quality_is_drawn_from_30_to_95():
    for round_ in (degrade.SECOND_ORDER.first, degrade.SECOND_ORDER.second):
        drawn = degrade.sample_jpeg(DRAWS, round_.quality, seeded()).parameters["quality"]
        assert_odds(drawn.tolist(), dict.fromkeys(range(30, 96), 1 / 66))


def test_a_photographs_distortions_are_drawn_with_their_odds_for_each_picture():
    photo = degrade.PHOTO
    steps = degrade.sample_photo((DRAWS, 3, 64, 64), 4, seeded(5))
    assert [step.name for step in steps] == [
        "blur", "shrink", "sharpen", "noise", "noise", "8 bits", "compress", "8 bits"
    ]  # fmt: skip
    blur, shrink, sharpen, gaussian, poisson, _, compress, _ = (step.parameters for step in steps)
    kept = 1 - photo.clean
    blurred = [distortions.KERNELS[kind] != "none" for kind in blur["kind"]]
    assert_odds(blurred, {True: 0.4 * kept, False: 1 - 0.4 * kept})
    assert_uniform(blur["sigma"][:, 0], 0.4, 2.4)
    kernels = [list(distortions.SHRINKING_KERNELS)[kernel] for kernel in shrink["kernel"]]
    odds = dict.fromkeys(("area", "bilinear", "Lanczos"), kept / 4)
    assert_odds(kernels, odds | {"bicubic": kept / 4 + photo.clean})
    amount = sharpen["amount"]
    assert_odds((amount > 0).tolist(), {True: photo.sharpened * kept, False: 1 - photo.sharpened * kept})
    assert_uniform(amount[amount > 0], *photo.amount)
    assert (gaussian["kind"], poisson["kind"]) == ("Gaussian", "Poisson")
    for drawn, unit, bounds in ((gaussian, 255, (0.5, 5)), (poisson, 1, (0.03, 0.3))):
        strength = unit * drawn["strength"]
        assert_odds((strength > 0).tolist(), {True: 0.25 * kept, False: 1 - 0.25 * kept})
        assert_uniform(strength[strength > 0], *bounds)
    kinds = [distortions.COMPRESSIONS[kind] for kind in compress["kind"]]
    odds = {name: share * kept for name, share in zip(distortions.COMPRESSIONS, photo.compression, strict=True)}
    assert_odds(kinds, odds | {"none": odds["none"] + photo.clean})
    assert_odds(compress["quality"].tolist(), dict.fromkeys(range(60, 99), 1 / 39))


@pytest.mark.parametrize("mild, expected", [(0.0, "real"), (1.0, "photo"), (0.5, "both")])
def test_some_pictures_are_degraded_mildly_beside_real_ones(mild, expected, monkeypatch):
    """Each chain here gives its own number, so that it can be told which made what."""
    monkeypatch.setattr(degrade, "photo", lambda high, scale, *_: high[..., ::scale, ::scale] + 10)
    monkeypatch.setattr(degrade, "second_order", lambda high, scale, *_: high[..., ::scale, ::scale] + 20)
    high = torch.rand(200, 3, 8, 12)
    low = degrade.real_or_mild(high, 4, torch.Generator().manual_seed(0), mild)
    assert low.shape == (200, 3, 2, 3)
    made_by = (low - high[..., ::4, ::4]).round()
    assert all(len(made.unique()) == 1 for made in made_by)  # a picture is whole
    share = (made_by[:, 0, 0, 0] == 10).float().mean().item()
    assert share == pytest.approx({"real": 0, "photo": 1, "both": 0.5}[expected], abs=0.1)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_lens_blurs_as_widely_as_was_drawn(scale):
    """A kernel that is cut too near its middle is a box, and narrower than its σ."""
    sure = replace(degrade.PHOTO, clean=0.0, blur=replace(degrade.PHOTO.blur, probability=1.0))
    drawn = degrade.sample_photo((500, 3, 64, 64), scale, seeded(6), sure)[0].parameters
    kernels = distortions.make_kernels(**drawn)
    bells = (drawn["kind"] == 0) & (drawn["sigma"][:, 0] > 0.8) & (drawn["sigma"][:, 0] <= distortions.REACH / 3)
    assert bells.sum() > 50
    for kernel, sigma in zip(kernels[bells], drawn["sigma"][bells, 0].tolist(), strict=True):
        assert moments(kernel)[0, 0] == pytest.approx(sigma**2, rel=0.05)


def test_a_clean_photograph_is_only_shrunk_by_bicubic():
    clean = degrade.photo(few(3), 4, seeded(), replace(degrade.PHOTO, clean=1.0))
    torch.testing.assert_close(clean, degrade.bicubic(few(3), 4), atol=1e-6, rtol=0)


def test_some_pictures_are_grey():
    grey = degrade.some_grey(few(2).repeat(100, 1, 1, 1), 0.25, seeded())
    equal = [torch.equal(one[0], one[1]) and torch.equal(one[0], one[2]) for one in grey]
    assert_odds(equal, {True: 0.25, False: 0.75})
    assert all(torch.equal(one, few(1)[0]) for one, is_grey in zip(grey, equal, strict=True) if not is_grey)


def test_some_things_are_drawn_for_each_picture_and_some_for_the_batch():
    for seed in range(10):
        for step in degrade.sample_second_order((16, 3, 64, 64), 4, seeded(seed)):
            for name, value in step.parameters.items():
                per_picture = step.name in ("blur", "JPEG") or name in ("strength", "grey")
                assert isinstance(value, torch.Tensor) == per_picture
                if per_picture:
                    assert len(value) == 16
                    assert len(value.unique(dim=0)) > 1 or name in ("kind", "beta", "grey")


# ---------------------------------------------------------------------------------------------
# The chains
# ---------------------------------------------------------------------------------------------

CHAINS = [degrade.first_order, degrade.second_order, degrade.photo]


def few(count=2, height=64, width=80):
    with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / "chelsea.png") as path:
        return resize(read_picture(path), size=(height, width)).clamp(0, 1).expand(count, -1, -1, -1)


@pytest.mark.parametrize("chain", CHAINS)
def test_the_same_seed_gives_the_same_pictures_bit_for_bit(chain):
    for seed in range(6):
        torch.manual_seed(seed)  # has no say in it
        one, other = (
            chain(few(), 4, seeded(7)),
            chain(few().contiguous(memory_format=torch.channels_last), 4, seeded(7)),
        )
        assert torch.equal(one, other)
        assert not torch.equal(one, chain(few(), 4, seeded(8 + seed)))
        assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_the_size_is_exact(chain, scale):
    for seed, (height, width) in enumerate([(64, 64), (61, 47), (33, 96), (8, 11), (5, 1)]):
        low = chain(torch.rand(2, 3, height, width, generator=seeded()), scale, seeded(seed))
        assert low.shape == (2, 3, max(1, height // scale), max(1, width // scale)) and low.dtype == torch.float32


def test_every_stage_is_a_picture():
    high = few()
    for seed in range(30):
        for steps in (
            degrade.sample_first_order(high.shape, 3, seeded(seed)),
            degrade.sample_photo(high.shape, 3, seeded(seed)),
            degrade.sample_second_order(high.shape, 3, seeded(seed)),
        ):
            for step, pictures in degrade.step_by_step(high, steps):
                assert pictures.isfinite().all() and pictures.min() >= 0 and pictures.max() <= 1, step
                assert pictures.shape[:2] == (2, 3)
            assert torch.equal(pictures, round_to_8_bits(pictures))
        assert torch.equal(pictures, degrade.second_order(high, 3, seeded(seed)))


def test_half_precision_around_it_changes_nothing():
    expected = degrade.second_order(few(), 2, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(degrade.second_order(few(), 2, seeded()), expected)


# ---------------------------------------------------------------------------------------------
# The sharpened target
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(60, 71), (64, 20)])
def test_usm_is_its_formula(height, width):
    high = few(1, height, width)
    taps = numpy.exp(-(numpy.arange(-25, 26) ** 2) / (2 * 8.0**2))
    taps /= taps.sum()

    def blurred(plane):
        for axis, side in ((0, height), (1, width)):
            plane = ndimage.correlate1d(plane, taps, axis, mode="mirror" if side > 25 else "nearest")
        return plane

    sharpened = distortions.usm_sharpen(high)
    for plane, result in zip(high[0].double().numpy(), sharpened[0], strict=True):
        residual = plane - blurred(plane)
        soft = blurred((numpy.abs(residual) * 255 > 10).astype(float))
        expected = soft * numpy.clip(plane + 0.5 * residual, 0, 1) + (1 - soft) * plane
        numpy.testing.assert_allclose(result, expected, atol=1e-4)
    assert sharpened.min() >= 0 and sharpened.max() <= 1
    flat = torch.full((1, 3, 60, 60), 0.4)
    torch.testing.assert_close(distortions.usm_sharpen(flat), flat)


# ---------------------------------------------------------------------------------------------
# The contact sheet
# ---------------------------------------------------------------------------------------------


def test_the_sheet_is_drawn_and_the_same_seed_draws_the_same(place, photograph, capsys):
    write_picture(place / "photo.png", photograph)
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        assert run_command(degrade.main, ["-i", "photo.png", "-o", f"new/{name}", "--seed", str(seed)]) == 0
    sheets = [(place / "new" / name).read_bytes() for name in ("a.png", "b.png", "c.png")]
    assert sheets[0] == sheets[1] != sheets[2]
    assert Image.open(place / "new" / "a.png").width > 1000
    assert "a.png" in capsys.readouterr().out


def test_a_sheet_of_what_a_camera_does(place, photograph):
    write_picture(place / "photo.png", photograph)
    assert run_command(degrade.main, ["-i", "photo.png", "-o", "sheet.png", "-d", "photo"]) == 0
    assert Image.open(place / "sheet.png").height > 500


def test_captions_tell_every_kind_in_two_short_lines():
    for kind in range(8):
        step = degrade.sample_blur(1, degrade.BlurSettings(), seeded())
        step.parameters["kind"][0] = kind
        text = degrade.caption(step, few())
        assert distortions.KERNELS[kind] in text.replace("no blur", "none")
        assert len(text.split("\n")) == 2 and max(map(len, text.split("\n"))) <= 36
    for seed in range(20):
        for draw in (degrade.sample_second_order, degrade.sample_photo):
            for step in draw((1, 3, 64, 64), 2, seeded(seed)):
                assert len(degrade.caption(step, few()).split("\n")) == 2


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        ([], 2, "-i"),
        (["-i", "photo.png"], 2, "-o"),
        (["-i", "photo.png", "-o", "x.png", "-s", "9"], 2, "'9' is not a whole number from 2 to 8"),
        (["-i", "photo.png", "-o", "x.png", "--seed", "-1"], 2, "--seed"),
        (["-i", "photo.png", "-o", "x.png", "--seed", str(2**64)], 2, "--seed"),
        (["-i", "photo.png", "-o", "x.png", "--seed", "one"], 2, "--seed"),
        (["-i", "photo.png", "-o", "x.jpg"], 2, "x.jpg"),
        (["-i", "photo.png", "-o", "photo.png"], 2, "photo.png: is the photograph itself"),
        (["-i", "none.png", "-o", "x.png"], 2, "none.png: no such file"),
        (["-i", "text.png", "-o", "x.png"], 1, "text.png: not a picture"),
        (["-i", "photo.png", "-o", "text.png/x.png"], 1, "cannot write"),
    ],
)
def test_mistakes_are_told_in_one_line(place, photograph, capsys, arguments, code, words):
    write_picture(place / "photo.png", photograph)
    (place / "text.png").write_text("not a picture")
    try:
        result = run_command(degrade.main, arguments)
    except SystemExit as leave:
        result = leave.code
    error = capsys.readouterr().err
    assert result == code and words in error and error.count("\n") == 1 and error.startswith("error: ")
    assert not (place / "x.png").exists()
