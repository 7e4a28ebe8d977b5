"""The checks of the exercises of lesson 11; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare

import torch

from imaging import distortions
from imaging.images import resize, round_to_8_bits


def check_11a(plateau_kernel):
    """Make a table of the distances first, then the formula for all of them at once. What must the sum be?

    x and y of every tap run from −reach to reach: torch.meshgrid of torch.arange twice. d = (x² + y²)/σ², the
    kernel is 1/(1 + d^β), divided by its own sum.
    """
    for reach, sigma, beta in ((3, 1.4, 1.5), (10, 2.5, 2.0)):
        taps = torch.arange(-reach, reach + 1.0)
        d = (taps[:, None] ** 2 + taps**2) / sigma**2

        def normalised(kernel):
            return kernel / kernel.sum()

        size = torch.tensor([2 * reach + 1]), torch.tensor([[sigma, sigma]]), torch.tensor([0.0]), torch.tensor([beta])
        whole = distortions.plateau_kernels(*size)[0]
        cut = distortions.REACH - reach
        expected = whole[cut : len(whole) - cut, cut : len(whole) - cut]
        mistakes = {
            "it is not divided by its sum: pictures would become brighter.": 1 / (1 + d**beta),
            "this is the Gaussian, exp(−d^β/2).": normalised(torch.exp(-(d**beta) / 2)),
            "the distance is not squared: d = (x² + y²)/σ².": normalised(1 / (1 + d.sqrt() ** beta)),
            "σ is not squared: d = (x² + y²)/σ².": normalised(1 / (1 + (d * sigma) ** beta)),
            "β is not used.": normalised(1 / (1 + d)),
            "this is a product of a row and a column. A plateau is none; only the Gaussian is.": normalised(
                (1 / (1 + (taps**2 / sigma**2) ** beta))[:, None] / (1 + (taps**2 / sigma**2) ** beta)
            ),
        }
        compare(plateau_kernel(reach, sigma, beta), expected, f"reach {reach}, σ {sigma}, β {beta}", mistakes)


def check_11b(counted):
    """How many photons does a pixel of brightness b expect? And how does a count become a brightness again?

    The expected number of photons of a pixel is picture · photons. Count them with torch.poisson, and divide by
    `photons` again, so that white is 1.
    """
    expect_photons(counted, torch.linspace(0.1, 0.9, 9).expand(4000, 9), 40, "Nine brightnesses")
    expect_photons(counted, torch.rand(2, 3, 16, 20), 1000, "Two pictures")


def expect_photons(counted, picture, photons, what):
    """The noise of a picture; the generator has been used before, as in a training."""

    def source(used=True):
        generator = torch.Generator().manual_seed(11)
        if used:
            torch.rand(5, generator=generator)
        return generator

    expected = torch.poisson(picture * photons, generator=source()) / photons
    plain = torch.randn(picture.shape, generator=source())
    mistakes = {
        "these are numbers of photons. Divide by `photons`, so that white is 1 again.": expected * photons,
        "the picture itself is counted: with one photon at white. Multiply by `photons` first.": (
            torch.poisson(picture, generator=source())
        ),
        "the picture is counted as it is, and then divided: multiply by `photons` first.": (
            torch.poisson(picture, generator=source()) / photons
        ),
        "these are the errors alone: without the picture.": expected - picture,
        "the noise is added to the picture, which is in the counts already.": expected + picture,
        "this is Gaussian noise of the right strength. Photons come in whole numbers.": (
            picture + (picture / photons).sqrt() * plain
        ),
        "this is Gaussian noise, equally strong in the dark and in the light.": picture + plain / photons**0.5,
        "it is clipped to 0..1. Here it should not be: an average would become too dark.": expected.clamp(0, 1),
        "the noise starts again from its seed: use the generator as it comes.": (
            torch.poisson(picture * photons, generator=source(used=False)) / photons
        ),
    }
    actual = counted(picture, photons, source())
    if isinstance(actual, torch.Tensor) and actual.shape == picture.shape and not torch.equal(actual, expected):
        again = counted(picture, photons, source())
        if isinstance(again, torch.Tensor) and not torch.equal(actual, again):
            raise Mismatch("The same seed gives other noise when it is called again: pass the generator on.")
    compare(actual, expected, f"{what}, {photons} photons at white", mistakes)


def check_11c(quantised):
    """There are five steps, and the second half undoes the first, except for one. Which?

    Take 128 off. With D the DCT matrix, the numbers are D · block · Dᵀ. Divide by the steps, round, multiply by the
    steps.

    Back: Dᵀ · numbers · D, and 128 added.
    """
    generator = torch.Generator().manual_seed(2)
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    flat = 90 + 9 * x + 3 * y + 40 * torch.rand(8, 8, generator=generator)
    edge = 255.0 * (x > 2 + 0.3 * y)  # JPEG's rings leave 0..255
    for block, quality, what in ((flat.round(), 40, "A block"), (edge, 15, "An edge from black to white")):
        steps = distortions.quantisation_tables(torch.tensor([quality]))[0, 0].float()
        numbers = DCT @ (block - 128) @ DCT.T
        expected = DCT.T @ ((numbers / steps).round() * steps) @ DCT + 128
        actual = quantised(block, steps)
        compare(actual, expected, f"{what} at quality {quality}", wrong_blocks(block, steps), 1e-4, True)
    # All blocks of a picture, one by one; the module rounds and clips at the end.
    steps = distortions.quantisation_tables(torch.tensor([40]))[0, 0].float()
    levels = (60 + 10 * torch.rand(16, 16, generator=generator).cumsum(1)).round()
    rows = [torch.cat([quantised(part, steps) for part in row.split(8, 1)], 1) for row in levels.split(8, 0)]
    real = 255 * distortions.jpeg((levels / 255).expand(1, 3, -1, -1), torch.tensor([40]))[0, 0]
    apart = (torch.cat(rows).clamp(0, 255).round() - real).abs().max().item()
    if apart > 1:
        raise Mismatch(f"Four blocks beside each other differ from distortions.jpeg by {apart:.0f} levels.")


DCT = distortions._DCT


def wrong_blocks(block, steps):
    """Explanation → what a mistake makes of a block."""

    def back(numbers, matrix=DCT):
        return matrix.T @ numbers @ matrix + 128

    centred = block - 128
    numbers = DCT @ centred @ DCT.T
    return {
        "nothing is lost: round the numbers after the division.": block,
        "it is clipped to 0..255. Here it should not be.": back((numbers / steps).round() * steps).clamp(0, 255),
        "it is rounded at the end. Here it should not be.": back((numbers / steps).round() * steps).round(),
        "the rounded numbers are not multiplied by their steps again.": back((numbers / steps).round()),
        "the numbers are cut off, not rounded to the nearest.": back((numbers / steps).trunc() * steps),
        "the numbers are rounded down, not to the nearest.": back((numbers / steps).floor() * steps),
        "the transform goes the wrong way first: forwards is D · block · Dᵀ.": (
            back((DCT.T @ centred @ DCT / steps).round() * steps, DCT.T)
        ),
        "the transform runs along the rows only. It needs D on the left and Dᵀ on the right.": (
            (centred @ DCT.T / steps).round() * steps @ DCT + 128
        ),
        "the transform runs along the columns only. It needs D on the left and Dᵀ on the right.": (
            DCT.T @ ((DCT @ centred / steps).round() * steps) + 128
        ),
        "the pixels themselves are rounded to the steps, not the waves.": (centred / steps).round() * steps + 128,
        "the table is transposed.": back((numbers / steps.T).round() * steps.T),
        "128 is not added again: it is much too dark.": back((numbers / steps).round() * steps) - 128,
        "128 is not taken off first. The standard does, and some numbers round otherwise.": (
            back((DCT @ block @ DCT.T / steps).round() * steps) - 128
        ),
    }


def check_11d(as_the_camera_does):
    """What happens in the lens, what on the sensor, and what when the file is written?

    filter_each(high, kernel), then resize(…, 1/scale), then gaussian_noise with torch.tensor([sigma]) and
    torch.tensor([False]) for colour, then jpeg with torch.tensor([quality]).
    """
    generator = torch.Generator().manual_seed(3)
    high = resize(torch.rand(1, 3, 12, 8, generator=generator), 4).clamp(0, 1)
    kernel = distortions.gaussian_kernels(torch.tensor([7]), torch.tensor([[2.0, 1.0]]), torch.tensor([0.5]))
    for seed, (scale, sigma, quality) in enumerate(((4, 0.05, 50), (2, 0.02, 80)), 7):
        actual = as_the_camera_does(high, kernel, scale, sigma, quality, torch.Generator().manual_seed(seed))
        camera = Camera(kernel, scale, sigma, quality, seed)
        expected = camera.saved(camera.noisy(camera.shrunk(camera.filtered(high))))
        what = f"A picture of 48×32, ×{scale}, σ = {sigma}, quality {quality}"
        compare(actual, expected, what, camera.wrong_orders(high), 1e-5, True)


class Camera:
    """The four steps, each by itself."""

    def __init__(self, kernel, scale, sigma, quality, seed):
        self.kernel, self.scale, self.sigma, self.quality, self.seed = kernel, scale, sigma, quality, seed

    def filtered(self, picture):
        return distortions.filter_each(picture, self.kernel)

    def shrunk(self, picture):
        return resize(picture, 1 / self.scale)

    def noisy(self, picture, grey=False, share=1.0):
        source = torch.Generator().manual_seed(self.seed)
        return distortions.gaussian_noise(picture, torch.tensor([share * self.sigma]), torch.tensor([grey]), source)

    def saved(self, picture):
        return distortions.jpeg(picture, torch.tensor([self.quality]))

    def wrong_orders(self, high):
        """Explanation → the picture that a mistake gives."""
        filtered, shrunk, noisy, saved = self.filtered, self.shrunk, self.noisy, self.saved
        low = shrunk(filtered(high))
        size = tuple(high.shape[-2:])
        return {
            "the noise comes after JPEG. The sensor is noisy, and the file is written last.": noisy(saved(low)),
            "the noise comes before shrinking, which averages most of it away.": saved(shrunk(noisy(filtered(high)))),
            "the blur comes after shrinking, and is too wide by the scale.": saved(noisy(filtered(shrunk(high)))),
            "the blur comes last but JPEG: it takes the noise away again.": saved(filtered(noisy(shrunk(high)))),
            "JPEG comes first: the file is written last.": noisy(shrunk(filtered(saved(high)))),
            "the blur is missing.": saved(noisy(shrunk(high))),
            "the noise is missing.": saved(low),
            "JPEG is missing.": noisy(low),
            "it is not shrunk.": saved(noisy(filtered(high))),
            "the noise is grey. In colour every channel has its own.": saved(noisy(low, grey=True)),
            "sigma is divided by 255. It is on the scale 0..1 already.": saved(noisy(low, share=1 / 255)),
            "it is rounded to 8 bits before the noise, as degrade.bicubic does for a file. A sensor is noisy before "
            "anything is rounded: use resize.": saved(noisy(round_to_8_bits(low))),
            "it is shrunk by PyTorch, which does not anti-alias. Use resize of imaging.images.": saved(
                noisy(distortions.rescale(filtered(high), size, 1 / self.scale, "bicubic"))
            ),
        }
