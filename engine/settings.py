"""What decides the result of a run: settings with the papers' values as defaults, and presets for each network."""

from dataclasses import dataclass, field, replace
from typing import Any

from degrade import PHOTO, SECOND_ORDER, NoiseSettings, PhotoSettings, SecondOrderSettings
from esrgan import ESRGAN_LAYERS, REAL_ESRGAN_LAYERS

PIXEL_LOSSES = ("auto", "l1", "charbonnier", "l2")
ADVERSARIAL_LOSSES = ("auto", "relativistic", "vanilla", "least_squares", "hinge")


@dataclass(frozen=True)
class Adversarial:
    """The second stage. The defaults are ESRGAN's paper's (Wang et al. 2018, section 4.1)."""

    pixel_weight: float = 1e-2  # η, of the mean absolute difference
    perceptual_weight: float = 1.0
    adversarial_weight: float = 5e-3  # λ
    consistency_weight: float = 0.0  # of that of both averaged over squares as large as the scale; not in the paper
    style_weight: float = 0.0  # of the difference of Gram matrices in the same layers; not in the paper
    spectrum_weight: float = 0.0  # of the difference of local spectra; not in the paper
    layers: dict = field(default_factory=lambda: dict(ESRGAN_LAYERS))
    relative: bool = False  # each layer counts by its difference as a share of its deviation in the photographs
    perceptual: str = "imagenet"
    discriminator: str = "vgg"  # ESRGAN's; "unet": Real-ESRGAN's
    loss: str = "auto"  # one of ADVERSARIAL_LOSSES; "auto": relativistic for "vgg", vanilla for "unet", as published
    features: int = 64  # of the discriminator
    normalisation: str = "batch"  # of the VGG-style discriminator; the U-Net has spectral norm
    discriminator_rate: float = 1.0  # the discriminator's learning rate, as a share of the generator's
    discriminator_every: int = 1  # the discriminator is updated at every so many steps
    discriminator_waits: float = 0.0  # and not while its loss is under this: then it waits for the generator
    generator_every: int = 1  # the generator is updated at every so many steps
    head_start: int = 0  # so many steps at the start of the stage update the discriminator alone


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run, together with the pictures. The defaults are for SRCNN on two CPU cores."""

    model: str = "srcnn"
    scale: int = 2
    degradation: str = "bicubic"
    mild: float = 0.0  # share of patches that `real` degrades as `photo` does, so that what is intact stays as it is
    multiscale: bool = False  # patches are also cut from large photographs at a half and a third of their size
    sharpen: bool = False  # the target, by unsharp masking: the low picture is made of the sharpened one too
    pixel_loss: str = "auto"  # one of PIXEL_LOSSES; "auto": l2 for networks on luma, l1 for others, as published
    gradient_weight: float = 0.0  # of the difference in steps between neighbouring pixels, beside pixel_loss
    shape: dict = field(default_factory=lambda: {"kernels": [9, 5, 5]})
    batch: int = 16  # SRCNN's paper does not say; its released settings take 128
    patch: int = 48  # pixels a side of the low picture; SRCNN's paper: 33, of which 17 remain after 9-5-5, here 32
    learning_rate: float = 5e-4  # at 1.5e-3 a third of the ReLUs die in a long run
    warm_up: int = 200  # steps in which the learning rate rises from 0; full at once, it kills ReLUs too
    beta2: float = 0.99  # of Adam
    muon: bool = False  # the hidden convolutions learn by Muon instead
    milestones: list = field(default_factory=list)  # the rate halves at these steps; without: half a cosine down to 0
    ema: float = 0.0  # weights are averaged over training with this decay (EMA); 0: they are not
    accumulate: int = 1  # so many batches are computed, one after the other, for one update
    eight_bits: bool = False  # of ecbsr: it learns with the rounding of `export --int8`
    clip: float = 0.0  # the gradient's norm is cut to this; 0: it is not
    precision: str = "fp32"  # of the convolutions; weights, their averages and the losses are always float32
    seed: int = 0
    choose_by_val: bool = False  # the best weights are those that do best on --val, not on the held-out photographs
    photo: PhotoSettings = PHOTO  # how `photo` degrades, and `real` its mild share
    real: SecondOrderSettings = SECOND_ORDER  # how `real` does
    adversarial: Adversarial | None = None

    @property
    def samples_per_update(self) -> int:
        """Of all processes together."""
        return self.batch * self.accumulate

    def kind(self) -> dict:
        """What a checkpoint must share to be the same network: a run goes on from the newest of its kind."""
        return {name: getattr(self, name) for name in ("model", "scale", "degradation", "shape")}


# Real-ESRGAN, section 4.1: five layers of VGG19, and pixels count as much as features.
REAL_ADVERSARIAL = Adversarial(1.0, 1.0, 0.1, layers=dict(REAL_ESRGAN_LAYERS), discriminator="unet")

COMPACT_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 6.0, "conv5_4": 0.5}
# A short training needs a discriminator that does not win outright: half as wide, it waits while it is ahead, and it
# learns by Adam at 2e-4, where the generator learns by Muon at 1e-3. VGG19 hardly minds a tint: consistency does. Nor
# does it mind a weave of strokes all of one direction: the spectrum does.
COMPACT_ADVERSARIAL = Adversarial(
    2.0,
    1.0,
    0.04,
    6.0,
    spectrum_weight=1.0,
    layers=COMPACT_LAYERS,
    relative=True,
    features=32,
    discriminator_rate=0.2,
    discriminator_waits=0.5,
)
COMPACT_REAL_ADVERSARIAL = replace(
    REAL_ADVERSARIAL, consistency_weight=6.0, spectrum_weight=1.0, relative=True, features=32, discriminator_rate=0.2
)

# A small network that has mostly seen what the published chain makes wipes the texture of a JPEG of quality 40 away. So
# the compact `real` degrades more pairs once, as `photo` does but further, than twice.
COMPACT_REAL_MILD = 0.6
COMPACT_REAL_PHOTO = replace(
    PHOTO,
    clean=0.25,
    sharpened=0.1,
    gaussian=0.3,
    noise=NoiseSettings(sigma=(0.5, 12.0), strength=(0.03, 0.8)),
    quality=(25, 95),
)


def preset(
    model: str, scale: int, paper: bool = False, degradation: str = "bicubic", generator: str | None = None
) -> Settings:
    """Settings for a kind of network: compact ones for two CPU cores, or the paper's, for GPUs and days.

    `generator` is esrgan's, rrdb if not given; `paper` knows no other.
    """
    if model == "srcnn":
        return Settings(scale=scale, degradation=degradation)
    shape: dict[str, Any]
    if "srvgg" in (model, generator):
        shape = {"scale": scale, "features": 64, "convolutions": 16}
    elif model == "ecbsr":
        shape = {"scale": scale, "features": 16, "blocks": 4}
    else:
        features, growth, blocks = (64, 32, 23) if paper else (32, 16, 6)
        shape = {"scale": scale, "features": features, "growth": growth, "blocks": blocks, "unshuffle": False}
    common: dict[str, Any] = {"model": model, "scale": scale, "degradation": degradation, "shape": shape}
    common |= {"ema": 0.999, "warm_up": 0, "multiscale": degradation in ("photo", "real")}
    adversarial = model == "esrgan"
    # Real-ESRGAN+ sharpens what it aims at (section 4.1), its code in both stages. The first has one aim, the right
    # pixels, and those of a photograph are not sharpened: 0.02 dB less in 375 updates.
    common["sharpen"] = degradation == "real" and (adversarial or paper)
    if not paper:
        if degradation == "real":
            common |= {"mild": COMPACT_REAL_MILD, "photo": COMPACT_REAL_PHOTO}
        # Muon learns several times as much in a step as Adam at 4e-4 does; at 4e-3 it came to grief after 400 steps.
        common |= {"learning_rate": 1e-3 if adversarial else 1.5e-3, "warm_up": 50, "muon": True}
        # The paper's ECBSR: Adam at 5e-4. After 1500 updates Muon was 0.2 dB ahead of Adam at its best rate, 4e-3.
        common |= {"batch": 16 if model == "ecbsr" else 8, "patch": 32}
        if model == "srvgg":  # by L1 it leaves a grid of the low pixels
            common |= {"pixel_loss": "l2", "gradient_weight": 4.0}
        second_stage = COMPACT_REAL_ADVERSARIAL if degradation == "real" else COMPACT_ADVERSARIAL
    elif degradation == "bicubic":
        # Section 4.1; 1,000,000 updates of the first stage and 400,000 of the second, as the code does.
        common |= {"batch": 16, "patch": 128 // scale, "beta2": 0.999, "learning_rate": 1e-4 if adversarial else 2e-4}
        common["milestones"] = [50_000, 100_000, 200_000, 300_000] if adversarial else [*range(200_000, 10**6, 200_000)]
        second_stage = Adversarial()
    else:
        # Real-ESRGAN, section 4.1: the same numbers of updates at one rate; β2 as in its code, the paper is silent.
        rate = 1e-4 if adversarial else 2e-4
        common |= {"batch": 48, "patch": 256 // scale, "learning_rate": rate, "milestones": [10**9]}
        second_stage = REAL_ADVERSARIAL
    return Settings(**common, adversarial=second_stage if adversarial else None)


# What presets chose otherwise once, or there was no choice of: a run that does not tell began with the usual. So were
# the ranges of `photo`, which are a group.
NEWLY_PRESET = ("mild", "multiscale", "pixel_loss", "gradient_weight")
NEWLY_ADVERSARIAL = ("spectrum_weight",)  # of the second stage


@dataclass(frozen=True)
class UpscaleSettings:
    """What the command line says about how to enlarge."""

    outscale: float | None = None  # the network's own if not given
    tile: int = 0  # 0: as it suits the network
    precision: str = "fp32"
    alpha_bicubic: bool = False  # transparency by bicubic interpolation, which takes no time
    quality: int = 95  # of JPEG, WebP and films
    compare: bool = False  # draw a comparison beside every result
    skip_existing: bool = False
    format: str | None = None  # png, jpg, webp or tif; without, what suits the picture
    keep_names: bool = False  # results are called as their pictures
    huge: bool = False  # open files with more pixels than Pillow thinks safe
    srgb: bool = False  # convert colours that a profile describes to sRGB
    # Of films alone:
    codec: str = "h264"
    preset: str | None = None  # of the encoder: the slower, the smaller the file
    start: float | None = None  # seconds; only what is shown from there …
    end: float | None = None  # … to there
    deinterlace: bool = False
