"""Sharp pictures → degraded ones: where training pairs and test pairs come from.

A network learns to undo what was done to its pictures, and nothing else. Trained on bicubic's clean small pictures it
takes the noise and the JPEG blocks of a real photograph for detail, and sharpens them too. Real-ESRGAN's cure is to
do to the training pictures what the world does, at random (Wang et al., "Real-ESRGAN", ICCV workshops 2021):

    bicubic         shrink                                              what the classical tables measure
    photo           blur → shrink → sharpen → noise → JPEG, mildly      an ordinary photograph from a phone or a page
    first_order     blur → shrink → noise → JPEG                        a photograph as the camera saved it
    second_order    blur → resize → noise → JPEG                        the camera,
                    → blur → resize → noise → resize, sinc and JPEG     and then somebody's edit and upload

    python degrade.py -i photo.jpg -o sheet.png       # every stage of second_order, with what was drawn

Pictures are RGB in 0..1, (N, 3, H, W). First everything random is drawn, as a list of steps (imaging/steps.py), then it
is done: the pieces (imaging/distortions.py) are plain functions of pictures and numbers.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has an older one should be told, not shown a traceback)
    sys.exit("error: needs Python 3.11 or newer; see Start in README.md")

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from imaging import distortions
from imaging.console import Parser, UsageError, run_command
from imaging.distortions import COMPRESSIONS, KERNELS, RESIZE_MODES, SHRINKING_KERNELS
from imaging.files import read_picture
from imaging.images import crop_to_multiple, resize, round_to_8_bits
from imaging.sheets import draw_sheet
from imaging.steps import Step, caption, last_of, step_by_step
from imaging.writing import check_writable


def bicubic(high: Tensor, scale: int) -> Tensor:
    """(N, C, H, W) → (N, C, H/scale, W/scale): MATLAB's bicubic, rounded to the 8 bits that a file would hold.

    Every published table of ESRGAN's time shrinks this way. SRCNN's authors shrink luma itself in floating point;
    engine/evaluation.py does too where it measures against their tables.
    Both sides must divide by `scale`; see `crop_to_multiple`.
    """
    assert crop_to_multiple(high, scale).shape == high.shape, "crop the picture to a multiple of the scale first"
    return round_to_8_bits(resize(high, 1 / scale))


# ---------------------------------------------------------------------------------------------
# The published settings
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlurSettings:
    """Which kernels, how large and how wide. Defaults here and below are those of Real-ESRGAN's first round."""

    probability: float = 1.0  # of any blur
    sinc: float = 0.1  # share of sinc in all kernels
    shares: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)  # of the others, in the order of KERNELS
    sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    sigma: tuple[float, float] = (0.2, 3.0)  # pixels, along either axis
    beta_generalised: tuple[float, float] = (0.5, 4.0)
    beta_plateau: tuple[float, float] = (1.0, 2.0)
    # The least ω of sinc, for kernels under 13 and from 13 up: the lower, the wider the rings. The most is π.
    min_cutoff: tuple[float, float] = (math.pi / 3, math.pi / 5)


@dataclass(frozen=True)
class ResizeSettings:
    """The odds of enlarging and of shrinking, else the size stays, and how far. All modes have even odds."""

    up: float = 0.2
    down: float = 0.7
    factors: tuple[float, float] = (0.15, 1.5)


@dataclass(frozen=True)
class NoiseSettings:
    """Gaussian or Poisson noise, and how strong."""

    gaussian: float = 0.5  # else Poisson
    sigma: tuple[float, float] = (1.0, 30.0)  # of Gaussian noise, on the scale 0..255
    strength: tuple[float, float] = (0.05, 3.0)  # of Poisson noise
    grey: float = 0.4  # share of noise that is equal in all channels


@dataclass(frozen=True)
class Round:
    """One round; JPEG's qualities are whole numbers, both ends included."""

    blur: BlurSettings = BlurSettings()
    resize: ResizeSettings = ResizeSettings()
    noise: NoiseSettings = NoiseSettings()
    quality: tuple[int, int] = (30, 95)


@dataclass(frozen=True)
class SecondOrderSettings:
    """Real-ESRGAN's figures: the paper's section 4.1 and the option files of the authors' code."""

    first: Round = Round()
    second: Round = Round(
        BlurSettings(probability=0.8, sigma=(0.2, 1.5)),
        ResizeSettings(up=0.3, down=0.4, factors=(0.3, 1.2)),
        NoiseSettings(sigma=(1.0, 25.0), strength=(0.05, 2.5)),
    )
    final_sinc: BlurSettings = BlurSettings(probability=0.8, sinc=1.0, min_cutoff=(math.pi / 3, math.pi / 3))


@dataclass(frozen=True)
class PhotoSettings:
    """What one camera or one web site does to a picture; everything is drawn for each picture by itself.

    The figures are ours: no paper has measured how photographs on the web are made.
    """

    clean: float = 0.3  # share of pictures that are shrunk by bicubic and nothing else
    grey: float = 0.05  # share of pictures without colour; their target too: so training does it, by `some_grey`
    blur: BlurSettings = BlurSettings(  # of a lens: mild and mostly none; σ is in pixels of the low picture
        probability=0.4, sinc=0.05, shares=(0.5, 0.3, 0.08, 0.04, 0.04, 0.04), sigma=(0.1, 0.6)
    )
    sharpened: float = 0.15  # share of pictures
    amount: tuple[float, float] = (0.2, 1.0)  # of the sharpening
    radius: tuple[float, float] = (0.5, 1.5)  # σ of the sharpening in pixels of the low picture
    gaussian: float = 0.25  # share of pictures with such noise; as many again have Poisson noise
    noise: NoiseSettings = NoiseSettings(sigma=(0.5, 5.0), strength=(0.03, 0.3))
    compression: tuple[float, ...] = (0.55, 0.2, 0.1, 0.15)  # shares, in the order of COMPRESSIONS
    quality: tuple[int, int] = (60, 98)


TO_THE_SIZE = ResizeSettings(up=0, down=0)
FIRST_ORDER, SECOND_ORDER, PHOTO = Round(), SecondOrderSettings(), PhotoSettings()


# ---------------------------------------------------------------------------------------------
# Sampling the steps
# ---------------------------------------------------------------------------------------------

# In Real-ESRGAN's chains kernels, the strength of noise and JPEG's quality are drawn for each picture; size and mode of
# a resize, the kind of noise and the order of the end once for the batch, as in the authors' code: a tensor holds
# pictures of one size. So the pictures of a batch are degraded in like ways, and gradients swing from batch to batch.
# That is why training keeps a pool of pairs, and mixes each batch from pairs that were made at different times. The
# photo chain, in which no size varies, draws everything for each picture and needs no pool.
#
# All draws come from one generator on the CPU, so that a GPU draws the same. Only the grain of the noise is made where
# the pictures are, from a seed drawn here: moving millions of numbers would take longer than making them.


def _uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)


def _chance(count: int, probability: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator) < probability


def _choose(weights: list[float], count: int, generator: torch.Generator) -> Tensor:
    """Indices (count,), drawn in proportion to the weights."""
    return torch.multinomial(torch.tensor(weights, dtype=torch.float32), count, replacement=True, generator=generator)


def sample_blur(count: int, settings: BlurSettings, generator: torch.Generator) -> Step:
    """A kernel for each of `count` pictures: `kind` is a place in KERNELS, the rest is as in the kernels' functions."""

    def exponents(bounds: tuple[float, float]) -> Tensor:
        """As in the authors' code, β is under 1 as often as over 1, wherever the bounds are."""
        under, over = _uniform(count, (bounds[0], 1), generator), _uniform(count, (1, bounds[1]), generator)
        return torch.where(_chance(count, 0.5, generator), under, over)

    shares = [settings.probability * (1 - settings.sinc) * share for share in settings.shares]
    kind = _choose([*shares, settings.probability * settings.sinc, 1 - settings.probability], count, generator)
    size = torch.tensor(settings.sizes)[torch.randint(len(settings.sizes), (count,), generator=generator)]
    sigma = _uniform(2 * count, settings.sigma, generator).view(count, 2)
    sigma[kind % 2 == 0, 1] = sigma[kind % 2 == 0, 0]  # the isotropic ones
    theta = _uniform(count, (-math.pi, math.pi), generator)
    generalised, plateau = exponents(settings.beta_generalised), exponents(settings.beta_plateau)
    beta = torch.where(kind < 2, 1.0, torch.where(kind < 4, generalised, plateau))  # 1 is the plain Gaussian
    least = torch.where(size < 13, *settings.min_cutoff)
    cutoff = least + (math.pi - least) * torch.rand(count, generator=generator)
    parameters = {"kind": kind, "size": size, "sigma": sigma, "theta": theta, "beta": beta, "cutoff": cutoff}
    return Step("blur", distortions.blur, parameters)


def sample_resize(reference: tuple[int, int], settings: ResizeSettings, generator: torch.Generator) -> Step:
    """A factor and a mode. The factor is one of `reference` (height, width), not of the pictures as they then are."""
    least, most = settings.factors
    way = _choose([settings.up, settings.down, max(0.0, 1 - settings.up - settings.down)], 1, generator)
    factor = _uniform(1, ((1.0, most), (least, 1.0), (1.0, 1.0))[way], generator).item()
    mode = RESIZE_MODES[torch.randint(len(RESIZE_MODES), (), generator=generator)]
    return Step("resize", distortions.rescale, {"reference": reference, "factor": factor, "mode": mode})


def sample_noise(count: int, settings: NoiseSettings, generator: torch.Generator) -> Step:
    """A kind of noise for the batch, strength and grey or not for each picture, and the seed of the grain."""
    kind = "Gaussian" if _chance(1, settings.gaussian, generator) else "Poisson"
    bounds = settings.strength
    if kind == "Gaussian":
        bounds = settings.sigma[0] / 255, settings.sigma[1] / 255
    strength = _uniform(count, bounds, generator)
    grey = _chance(count, settings.grey, generator)
    seed = torch.randint(2**63 - 1, (), generator=generator).item()
    return Step("noise", distortions.noise, {"kind": kind, "strength": strength, "grey": grey, "seed": seed})


def sample_jpeg(count: int, quality: tuple[int, int], generator: torch.Generator) -> Step:
    """A quality for each picture."""
    drawn = torch.randint(quality[0], quality[1] + 1, (count,), generator=generator)
    return Step("JPEG", distortions.jpeg, {"quality": drawn})


# ---------------------------------------------------------------------------------------------
# The chains
# ---------------------------------------------------------------------------------------------

ROUNDING = Step("8 bits", round_to_8_bits, {})


def _low_size(shape: torch.Size, scale: int) -> tuple[int, int]:
    return max(1, shape[-2] // scale), max(1, shape[-1] // scale)


def sample_first_order(
    shape: torch.Size, scale: int, generator: torch.Generator, settings: Round = FIRST_ORDER
) -> list[Step]:
    """All that is random about blur → shrink → noise → JPEG, for pictures of shape (N, 3, H, W)."""
    return [
        sample_blur(shape[0], settings.blur, generator),
        sample_resize(_low_size(shape, scale), TO_THE_SIZE, generator),  # settings.resize has no part in this
        sample_noise(shape[0], settings.noise, generator),
        sample_jpeg(shape[0], settings.quality, generator),
        ROUNDING,
    ]


def sample_second_order(
    shape: torch.Size, scale: int, generator: torch.Generator, settings: SecondOrderSettings = SECOND_ORDER
) -> list[Step]:
    """All that is random about two rounds and the end (section 3 of the paper), for pictures of shape (N, 3, H, W)."""
    count, _, *high_size = shape
    low_size = _low_size(shape, scale)
    first, second = settings.first, settings.second
    rounds = [
        sample_blur(count, first.blur, generator),
        sample_resize((high_size[0], high_size[1]), first.resize, generator),
        sample_noise(count, first.noise, generator),
        sample_jpeg(count, first.quality, generator),
        sample_blur(count, second.blur, generator),
        sample_resize(low_size, second.resize, generator),
        sample_noise(count, second.noise, generator),
    ]
    # One program sharpens and then saves, another sharpens what was saved: either order, at even odds.
    edited = [sample_resize(low_size, TO_THE_SIZE, generator), sample_blur(count, settings.final_sinc, generator)]
    saved = [sample_jpeg(count, second.quality, generator)]
    end = edited + saved if _chance(1, 0.5, generator) else saved + edited
    return [*rounds, *end, ROUNDING]


def _large_enough(size: Tensor, sigma: Tensor) -> Tensor:
    """Sides of kernels (N,), made larger where they would end within 3 σ (N, 2), up to the largest that there is."""
    reach = (3 * sigma.amax(dim=1)).ceil().long().clamp(max=distortions.REACH)
    return torch.maximum(size, 2 * reach + 1)


def sample_photo(
    shape: torch.Size, scale: int, generator: torch.Generator, settings: PhotoSettings = PHOTO
) -> list[Step]:
    """All that is random about what a camera or a web site does, for pictures of shape (N, 3, H, W)."""
    count = shape[0]
    clean = _chance(count, settings.clean, generator)
    # The blur comes first, among the high pixels.
    sigma = scale * settings.blur.sigma[0], scale * settings.blur.sigma[1]
    lens = sample_blur(count, replace(settings.blur, sigma=sigma), generator)
    lens.parameters["size"] = _large_enough(lens.parameters["size"], lens.parameters["sigma"])
    lens.parameters["kind"][clean] = KERNELS.index("none")
    kernel = torch.randint(len(SHRINKING_KERNELS), (count,), generator=generator)
    kernel[clean] = list(SHRINKING_KERNELS).index("bicubic")
    sharpened = _chance(count, settings.sharpened, generator) & ~clean
    amount, radius = (_uniform(count, bounds, generator) for bounds in (settings.amount, settings.radius))
    noises = []
    for share in (1.0, 0.0):  # Gaussian, then Poisson
        step = sample_noise(count, replace(settings.noise, gaussian=share), generator)
        step.parameters["strength"] *= _chance(count, settings.gaussian, generator) & ~clean
        noises.append(step)
    kind = _choose(list(settings.compression), count, generator)
    kind[clean] = COMPRESSIONS.index("none")
    quality = torch.randint(settings.quality[0], settings.quality[1] + 1, (count,), generator=generator)
    return [
        lens,
        Step("shrink", distortions.shrink, {"size": _low_size(shape, scale), "kernel": kernel}),
        Step("sharpen", distortions.sharpen, {"amount": amount * sharpened, "sigma": radius}),
        *noises,
        ROUNDING,
        Step("compress", distortions.compress, {"kind": kind, "quality": quality}),
        ROUNDING,
    ]


def first_order(high: Tensor, scale: int, generator: torch.Generator, settings: Round = FIRST_ORDER) -> Tensor:
    """(N, 3, H, W) → (N, 3, H // scale, W // scale) with 8 bits: blur → shrink → noise → JPEG, once.

    The generator lives on the CPU, wherever the pictures are. The same seed gives the same pictures, on the CPU bit
    for bit. To see each step: `step_by_step(high, sample_first_order(high.shape, scale, generator))`.
    """
    return last_of(high, sample_first_order(high.shape, scale, generator, settings))


def second_order(
    high: Tensor, scale: int, generator: torch.Generator, settings: SecondOrderSettings = SECOND_ORDER
) -> Tensor:
    """(N, 3, H, W) → (N, 3, H // scale, W // scale) with 8 bits: Real-ESRGAN's two rounds. Else as `first_order`."""
    return last_of(high, sample_second_order(high.shape, scale, generator, settings))


def photo(high: Tensor, scale: int, generator: torch.Generator, settings: PhotoSettings = PHOTO) -> Tensor:
    """(N, 3, H, W) → (N, 3, H // scale, W // scale) with 8 bits: one camera or web site. Else as `first_order`."""
    return last_of(high, sample_photo(high.shape, scale, generator, settings))


def some_grey(high: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(N, 3, H, W) with that share of the pictures turned grey, drawn for each."""
    grey = _chance(len(high), share, generator).to(high.device)
    return torch.where(grey.view(-1, 1, 1, 1), distortions.to_grey(high), high)


def real_or_mild(
    high: Tensor, scale: int, generator: torch.Generator, mild: float, settings: SecondOrderSettings = SECOND_ORDER,
    mild_settings: PhotoSettings = PHOTO,
) -> Tensor:  # fmt: skip
    """`second_order`, but for that share of the pictures `photo`, drawn for each.

    A network that has seen nothing but bad pictures paints over what was sound in a good one.
    """
    is_mild = _chance(len(high), mild, generator).to(high.device)
    low = high.new_empty(*high.shape[:2], *_low_size(high.shape, scale))
    if is_mild.any():
        low[is_mild] = photo(high[is_mild], scale, generator, mild_settings)
    if not is_mild.all():
        low[~is_mild] = second_order(high[~is_mild], scale, generator, settings)
    return low


# What `-d` names beside bicubic, which has nothing random about it.
DEGRADATIONS: dict[str, Callable[..., Tensor]] = {"photo": photo, "real": second_order}

# ---------------------------------------------------------------------------------------------
# The contact sheet
# ---------------------------------------------------------------------------------------------

SHEET_SIDE = 256  # pixels of the picture that are shown: about as many as a place on the sheet has
SHEET_COLUMNS = 4


def draw_stages(high: Tensor, scale: int, seed: int, path: Path, sample=sample_second_order) -> None:
    """The sharp picture (1, 3, H, W) and every stage of a chain, which `sample` gives, on a contact sheet, as a PNG."""
    pictures = [(f"sharp\n{high.shape[-1]}×{high.shape[-2]}", high)]
    steps = sample(high.shape, scale, torch.Generator().manual_seed(seed))
    pictures += [(caption(step, degraded), degraded) for step, degraded in step_by_step(high, steps)]
    draw_sheet([pictures[index : index + SHEET_COLUMNS] for index in range(0, len(pictures), SHEET_COLUMNS)], path)


def main(arguments: list[str]) -> None:
    """The command line of this script."""
    parser = Parser(description="Draw what a degradation does to the middle of a photograph, step by step.")
    parser.add_argument("-i", "--input", type=console.file_name, required=True, metavar="PHOTO", help="the photograph")
    parser.add_argument(
        "-o", "--output", type=console.file_name, required=True, metavar="SHEET.png", help="the sheet to write"
    )
    parser.add_argument("-s", "--scale", type=console.scale, default=4, help="how many times smaller (default 4)")
    parser.add_argument(
        "-d", "--degradation", choices=("photo", "real"), default="real",
        help="what a camera or a web site does (photo), or Real-ESRGAN's second-order chain (real, the default)",
    )  # fmt: skip
    parser.add_argument("--seed", type=console.not_negative, default=0, help="the same seed draws the same (default 0)")
    options = parser.parse_args(arguments)
    if options.output.suffix.lower() != ".png":
        parser.error(f"-o {options.output}: the sheet is a PNG; its name must end in .png")
    if options.output.exists() and options.input.exists() and options.output.samefile(options.input):
        raise UsageError(f"{options.output}: is the photograph itself; give the sheet another name")
    check_writable(options.output)
    high = read_picture(options.input)
    top, left = (max(0, side - SHEET_SIDE) // 2 for side in high.shape[-2:])
    high = high[..., top : top + SHEET_SIDE, left : left + SHEET_SIDE]
    sample = {"photo": sample_photo, "real": sample_second_order}[options.degradation]
    draw_stages(high, options.scale, options.seed, options.output, sample)
    print(f"every step, with the seed {options.seed}: {options.output}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
