"""ESRGAN: a deep generator without batch norm, a relativistic discriminator, and a loss that looks at features.

Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks" (ECCV workshops 2018) and
"Real-ESRGAN" (ICCV workshops 2021). From small to large, as it is read in class:

    DenseBlock → RRDB → RRDBNet     the generator             SRVGGNetCompact     Real-ESRGAN's fast one
    VGGDiscriminator                ESRGAN's discriminator    UNetDiscriminator   Real-ESRGAN's, pixel by pixel
    the adversarial losses          which of the two pictures is the real one?
    PerceptualLoss                  do both look alike to VGG19, which has learnt to name things?

Pictures are RGB in 0..1, (N, 3, H, W); nothing here clips them. Where paper and authors' code disagree, a comment says
which is followed. Generators have BasicSR's parameter names: its weights load here and ours load there. What only makes
it fast and exact on a processor is at the foot.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm  # the older form: its parameters have the published discriminators' names

# ---------------------------------------------------------------------------------------------
# The generator
# ---------------------------------------------------------------------------------------------

# Pixels around a tile. A result keeps the level of what is within 9 pixels besides (engine/upscaling.py): the least is
# for networks that see less far than that. Of one that sees farther than the most, this or less must do.
LEAST_MARGIN, MAX_MARGIN = 18, 32
RESIDUAL_SCALING = 0.2  # β in section 3.1 of the paper: how much of what a block computes is added to its input


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """The convolution of which nearly everything here is made; it keeps height and width."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def leaky(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.2 below zero; in place, for nobody else needs what a convolution has just made."""
    return F.leaky_relu(x, 0.2, inplace=True)


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees the outputs of all before it: (N, features, H, W) → the same shape.

    Four add `growth` channels each, the fifth goes back to `features`. 239,808 parameters with 64 and 32.
    """

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.conv1 = conv3x3(features, growth)
        self.conv2 = conv3x3(features + growth, growth)
        self.conv3 = conv3x3(features + 2 * growth, growth)
        self.conv4 = conv3x3(features + 3 * growth, growth)
        self.conv5 = conv3x3(features + 4 * growth, features)
        # He's initialisation times 0.1, so that a deep net starts near the identity (section 3.1); as in the authors'
        # code only here: with it everywhere training crawls.
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data.mul_(0.1)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        return in_strips(self.grow, x, reach=5)

    def grow(self, x: Tensor) -> Tensor:
        """The block itself."""
        known = x  # all that has been computed so far: features, then `growth` more after every convolution
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            known = torch.cat((known, leaky(conv(known))), dim=1)
        return torch.add(x, self.conv5(known), alpha=RESIDUAL_SCALING)  # x + 0.2 · conv5(…), without a copy


class RRDB(nn.Module):
    """Residual in residual dense block: three dense blocks and a scaled shortcut around them (figure 4)."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.rdb1 = DenseBlock(features, growth)
        self.rdb2 = DenseBlock(features, growth)
        self.rdb3 = DenseBlock(features, growth)

    def forward(self, x: Tensor) -> Tensor:
        # The shortcut stays float32: rounded to bfloat16 by every block it was most of an error of 0.4 levels.
        found = self.rdb3(self.rdb2(self.rdb1(to_autocast_dtype(x))))
        return torch.add(x, found.to(x.dtype), alpha=RESIDUAL_SCALING)


class RRDBNet(nn.Module):
    """ESRGAN's generator: (N, 3, H, W) → (N, 3, scale·H, scale·W). RGB in 0..1; the output may overshoot a little.

    The paper's is ×4 with 64 features, growth 32 and 23 blocks: 16,697,987 parameters. The default is small enough for
    two CPU cores. `scale` is 1, 2, 4, 8 or 16, else ValueError. With `unshuffle`, ×1 and ×2 have the form of
    Real-ESRGAN's published checkpoints: squares of 4×4 or 2×2 pixels become channels, and the net enlarges ×4 as usual.
    A network of one of the `colours` restores red, green and blue each as a grey picture.
    """

    luma = False  # it enlarges RGB itself
    tile = 512  # on two CPU cores faster than 256, of which more is computed twice

    def __init__(
        self, scale: int = 4, features: int = 32, growth: int = 16, blocks: int = 6, unshuffle: bool = False,
        colours: int = 3,
    ):  # fmt: skip
        super().__init__()
        if scale not in ((1, 2) if unshuffle else (1, 2, 4, 8, 16)):
            raise ValueError(f"RRDBNet enlarges ×1, ×2, ×4, ×8 or ×16 (×1 or ×2 with unshuffle), not ×{scale}")
        self.shape = dict(scale=scale, features=features, growth=growth, blocks=blocks, unshuffle=unshuffle)
        if colours != 3:  # which older checkpoints do not say
            self.shape["colours"] = colours
        self.scale, self.colours = scale, colours
        self.fold = 4 // scale if unshuffle else 1  # this many pixels a side become one
        self.doublings = (scale * self.fold).bit_length() - 1  # ×1, 2, 4, 8, 16: 0, 1, 2, 3, 4
        self.conv_first = conv3x3(colours * self.fold**2, features)
        self.body = nn.Sequential(*(RRDB(features, growth) for _ in range(blocks)))
        self.conv_body = conv3x3(features, features)
        for number in range(1, self.doublings + 1):
            self.add_module(f"conv_up{number}", conv3x3(features, features))
        self.conv_hr = conv3x3(features, features)
        self.conv_last = conv3x3(features, colours)
        # How far, in pixels of the low picture, an output pixel sees: a convolution adds one pixel of its grid.
        self.radius = self.fold * (2 + 15 * blocks + 2)
        # Around a tile 16 are enough: a block adds 0.2 · 0.2 of what it has seen farther away; lesson 13 measures it.
        self.margin = self.radius if self.radius <= MAX_MARGIN else 16 * self.fold

    def forward(self, low: Tensor) -> Tensor:
        if self.colours == 1 and low.shape[1] == 3:  # each by itself
            return self(low.flatten(0, 1)[:, None]).unflatten(0, (-1, 3))[:, :, 0]
        height, width = low.shape[-2:]
        x = in_full_precision(self.conv_first, F.pixel_unshuffle(pad_to_multiple(low, self.fold), self.fold))
        x = x + self.conv_body(self.body(x))
        restored = in_strips(self.enlarge, x, reach=2, factor=2**self.doublings)
        return restored[..., : self.scale * height, : self.scale * width]

    def enlarge(self, x: Tensor) -> Tensor:
        """From what has been found out about every low pixel to the restored picture."""
        for number in range(1, self.doublings + 1):
            # Nearest neighbour, then a convolution: a transposed one would leave checkerboard artifacts.
            x = F.leaky_relu(convolve_doubled(x, getattr(self, f"conv_up{number}")), 0.2)
        return in_full_precision(self.conv_last, leaky(self.conv_hr(x)))


# What SRVGG has after each convolution, by name; published ones have PReLU with a slope for every channel.
ACTIVATIONS = {
    "prelu": nn.PReLU, "shared prelu": lambda _: nn.PReLU(), "relu": lambda _: nn.ReLU(inplace=True),
    "leaky relu": lambda _: nn.LeakyReLU(0.1, inplace=True),
}  # fmt: skip


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's fast generator: plain convolutions at low resolution, (N, 3, H, W) → (N, 3, scale·H, scale·W).

    `convolutions` are those between the first and the last: 16 in realesr-animevideov3, 32 in realesr-general-x4v3.
    `activation` is one of ACTIVATIONS.
    """

    luma = False
    tile = 256
    fold = 1

    def __init__(self, scale: int = 4, features: int = 64, convolutions: int = 16, activation: str = "prelu"):
        super().__init__()
        self.shape: dict[str, int | str] = dict(scale=scale, features=features, convolutions=convolutions)
        if activation != "prelu":  # which older checkpoints do not say
            self.shape["activation"] = activation
        self.scale = scale
        layers = [conv3x3(3, features), ACTIVATIONS[activation](features)]
        for _ in range(convolutions):
            layers += [conv3x3(features, features), ACTIVATIONS[activation](features)]
        self.body = nn.Sequential(*layers, conv3x3(features, 3 * scale**2))
        self.radius = convolutions + 2
        self.margin = min(max(self.radius, LEAST_MARGIN), MAX_MARGIN)
        self._start_as_bilinear()

    def _start_as_bilinear(self) -> None:
        """Three channels carry red, green and blue to the last layer, which makes bilinear interpolation of them.

        Colours are positive: no activation bends them. What the others hold is only rotated, in the middle tap (Xiao et
        al., "Dynamical Isometry and a Mean Field Theory of CNNs", ICML 2018, section 3): by PyTorch's usual start each
        layer would leave less than half of it, and here no shortcut leads around them.
        """
        first, *hidden, last = (layer for layer in self.body if isinstance(layer, nn.Conv2d))
        if first.weight.is_meta:  # only its shape is asked for, and to draw nothing takes PyTorch seconds
            return
        with torch.no_grad():
            nn.init.kaiming_normal_(first.weight, a=0.25)
            for layer in hidden:
                nn.init.normal_(layer.weight, std=0.01)
                rotation = layer.weight[3:, 3:, 1, 1]
                rotation += nn.init.orthogonal_(torch.empty_like(rotation), nn.init.calculate_gain("leaky_relu", 0.25))
                layer.weight[3:, :3] = 0
            for layer in (first, *hidden):
                nn.init.dirac_(layer.weight[:3])
                layer.bias.zero_()
            last.weight *= 0.1
            last.bias.zero_()
            carried = last.weight.unflatten(0, (3, -1))[:, :, :3].zero_()
            for colour in range(carried.shape[2]):
                carried[colour, :, colour] = bilinear_minus_nearest(self.scale)

    def forward(self, low: Tensor) -> Tensor:
        first, *others = self.body
        assert isinstance(first, nn.Conv2d)
        x = to_autocast_dtype(in_full_precision(first, low))  # rounded there, the picture would lose most
        for layer in others:
            x = layer(x)
        detail = F.pixel_shuffle(x, self.scale)  # 3·scale² channels → squares of scale×scale pixels
        return detail + F.interpolate(low, scale_factor=self.scale, mode="nearest")


def bilinear_minus_nearest(scale: int) -> Tensor:
    """(scale², 3, 3): what bilinear interpolation takes from around a low pixel for each that it becomes."""
    neighbours = torch.eye(9).view(9, 1, 3, 3)
    middle = slice(scale, 2 * scale)
    kernels = F.interpolate(neighbours, scale_factor=scale, mode="bilinear")[:, 0, middle, middle]
    kernels[4] -= 1
    return kernels.flatten(1).T.reshape(-1, 3, 3)


# ---------------------------------------------------------------------------------------------
# The discriminators: which picture is the real one?
# ---------------------------------------------------------------------------------------------


class VGGDiscriminator(nn.Module):
    """ESRGAN's discriminator: (N, 3, patch, patch) → one logit a picture, (N, 1), no sigmoid.

    Five pairs of a 3×3 convolution and a 4×4 one of stride 2, from 64 channels (`features`) to 512, then two linear
    layers: 14,499,401 parameters at 128. The first of these fits the grid that `patch` pixels leave, 4×4 at 128; other
    pictures' grids are pooled to it. `normalisation` is "batch", as in the paper, or "spectral" (Miyato et al. 2018),
    which bounds how steep the discriminator can be. Raises ValueError for less than 32 pixels a side.
    """

    def __init__(self, patch: int = 128, features: int = 64, normalisation: str = "batch"):
        super().__init__()
        if patch < 32 or normalisation not in ("batch", "spectral"):
            raise ValueError(f"no discriminator for patches of {patch} pixels with {normalisation!r} normalisation")
        spectral = normalisation == "spectral"
        bounded = spectral_norm if spectral else lambda layer: layer  # a bound on the whole needs one on every layer
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (features, 2 * features, 4 * features, 8 * features, 8 * features):
            for kernel, stride in ((3, 1), (4, 2)):
                batch_norm = len(layers) > 0 and not spectral  # after all but the first; it brings a bias of its own
                layers.append(bounded(nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=not batch_norm)))
                layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
                layers.append(nn.LeakyReLU(0.2, inplace=True))
                inputs = outputs
        self.body = nn.Sequential(*layers)
        self.grid = patch // 32  # pixels a side that five halvings leave
        self.linear1 = bounded(nn.Linear(inputs * self.grid**2, 100))
        self.linear2 = bounded(nn.Linear(100, 1))

    def forward(self, picture: Tensor) -> Tensor:
        if min(picture.shape[-2:]) < 32:
            raise ValueError(f"a discriminator needs 32 pixels a side, not {picture.shape[-2]}×{picture.shape[-1]}")
        x = F.adaptive_avg_pool2d(self.body(picture), self.grid)
        return self.linear2(leaky(self.linear1(x.flatten(1))))


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's discriminator: (N, 3, H, W) → a logit for every pixel, (N, 1, H, W). 4,376,897 parameters.

    Three times down, three times up again, and at every size what was seen on the way down is added: it says
    also *where* a picture looks false. At least 8 pixels a side, which need not divide by 8.
    """

    def __init__(self, features: int = 64):
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
            """With spectral norm, which the first and the last convolution do without, as published."""
            return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False))

        self.conv0 = conv3x3(3, features)
        self.conv1 = conv(features, 2 * features, 4, 2)
        self.conv2 = conv(2 * features, 4 * features, 4, 2)
        self.conv3 = conv(4 * features, 8 * features, 4, 2)
        self.conv4 = conv(8 * features, 4 * features)
        self.conv5 = conv(4 * features, 2 * features)
        self.conv6 = conv(2 * features, features)
        self.conv7 = conv(features, features)
        self.conv8 = conv(features, features)
        self.conv9 = conv3x3(features, 1)

    def forward(self, picture: Tensor) -> Tensor:
        full = leaky(self.conv0(picture))
        half = leaky(self.conv1(full))
        quarter = leaky(self.conv2(half))
        x = leaky(self.conv3(quarter))
        for conv, seen in ((self.conv4, quarter), (self.conv5, half), (self.conv6, full)):
            # Enlarged to the size of its partner: exactly twice, unless a side was odd.
            x = F.interpolate(x, size=seen.shape[-2:], mode="bilinear", align_corners=False)
            x = leaky(conv(x)) + seen
        return self.conv9(leaky(self.conv8(leaky(self.conv7(x)))))


# ---------------------------------------------------------------------------------------------
# Adversarial losses: from logits C(·) of any shape to a number
# ---------------------------------------------------------------------------------------------


def should_be_real(logits: Tensor) -> Tensor:
    """−log σ(C), averaged: 0 when these are called real with certainty."""
    return F.softplus(-logits).mean()


def should_be_fake(logits: Tensor) -> Tensor:
    """−log(1 − σ(C)), averaged: 0 when these are called fake with certainty."""
    return F.softplus(logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """RaGAN, section 3.2: a real picture should look more real than the *average* restored one, and the reverse.

        D(real) = σ(C(real) − E[C(fake)]),  D(fake) = σ(C(fake) − E[C(real)])
        L_D = −E[log D(real)] − E[log(1 − D(fake))]

    The paper adds the two terms; the authors' code averages them, and so do we: ln 2 if it cannot tell them apart.
    """
    return (should_be_real(real_logits - fake_logits.mean()) + should_be_fake(fake_logits - real_logits.mean())) / 2


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """The same with the answers exchanged: −E[log(1 − D(real))] − E[log D(fake)], and again the mean of the two.

    Unlike in other GANs the real pictures teach the generator too: D(real) falls when the average C(fake) rises.
    Paper and code both give this loss the weight 5e-3: with the mean it counts half of what the paper says.
    """
    real_logits = real_logits.detach()  # the real pictures are given: nothing can be changed about C(real)
    return (should_be_fake(real_logits - fake_logits.mean()) + should_be_real(fake_logits - real_logits.mean())) / 2


def vanilla_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Real-ESRGAN's: −E[log σ(C(real))] − E[log(1 − σ(C(fake)))], a sum: 2 ln 2 if it cannot tell them apart."""
    return should_be_real(real_logits) + should_be_fake(fake_logits)


def vanilla_generator_loss(fake_logits: Tensor) -> Tensor:
    """−E[log σ(C(fake))], the form that does not fade when the discriminator is sure (Goodfellow et al. 2014)."""
    return should_be_real(fake_logits)


# ---------------------------------------------------------------------------------------------
# The perceptual loss: does it look alike?
# ---------------------------------------------------------------------------------------------

# Layer → weight. The deeper the layer, the less it minds where exactly a texture lies.
ESRGAN_LAYERS = {"conv5_4": 1.0}
REAL_ESRGAN_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
VGG19_WIDTHS = (64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4
SMALL_WIDTHS = (8, 8), (16, 16), (32,) * 4, (48,) * 4, (48,) * 4  # of the narrow one that ships


class VGG19Features(nn.Module):
    """(N, 3, H, W), RGB in 0..1 → {"conv5_4": (N, 512, H/16, W/16), …}, *before* activation, for the layers asked for.

    Before activation because after it most deep features are zero and tell the generator nothing (section 3.3).
    Simonyan and Zisserman 2015, only as deep as needed, frozen, named as in torchvision; `load_vgg19` in
    engine/weights.py has the weights. `widths` are the channels of each block's convolutions. Raises ValueError for a
    layer that VGG19 does not have.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, layers, widths=VGG19_WIDTHS):
        super().__init__()
        self.layers = {}  # place in self.features → name, of the layers that are asked for
        self.features, inputs = nn.Sequential(), 3
        for block, channels in enumerate(widths, start=1):
            for number, width in enumerate(channels, start=1):
                if f"conv{block}_{number}" in layers:
                    self.layers[len(self.features)] = f"conv{block}_{number}"
                # Not in place: that would turn the features we return into those after activation.
                self.features.extend([nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=False)])
                inputs = width
            self.features.append(nn.MaxPool2d(2))
        if set(self.layers.values()) != set(layers) or not self.layers:
            raise ValueError(f"VGG19 has conv1_1 to conv5_4, not all of {list(layers)}")
        self.features = self.features[: max(self.layers) + 1]
        # What VGG was trained on: without it the loss measures another network's features, and colours drift.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)  # its weights stand still; the gradient passes through to the picture

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        x, found = (picture - self.mean) / self.deviation, {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.layers:
                found[self.layers[place]] = x
        return found


class PerceptualLoss(nn.Module):
    """The mean absolute difference of two pictures' features, summed over layers with `weights` (name → weight).

    `relative` divides each layer's difference by the standard deviation of the photographs' own features there: files
    of VGG19's weights differ tenfold and more in that, and the weights of the layers then mean the same with all.
    Papers take the features as large as their file makes them.
    """

    def __init__(self, vgg: VGG19Features, weights: dict[str, float], relative: bool = False):
        super().__init__()
        self.vgg, self.weights, self.relative = vgg, dict(weights), relative

    def forward(self, restored: Tensor, high: Tensor) -> Tensor:
        return self.distance(*self.features(restored, high))

    def features(self, restored: Tensor, high: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Those of both; no gradient reaches the photograph's."""
        with torch.no_grad():
            expected = self.vgg(high)
        return self.vgg(restored), expected

    def distance(self, actual: dict[str, Tensor], expected: dict[str, Tensor]) -> Tensor:
        """The loss, of what `features` gave."""
        total = torch.zeros((), device=next(iter(actual.values())).device)
        for layer, weight in self.weights.items():
            features = expected[layer].float()
            size = features.std().clamp_min(1e-8) if self.relative else 1.0
            total = total + weight * F.l1_loss(actual[layer].float(), features) / size
        return total


# ---------------------------------------------------------------------------------------------
# For a processor: fewer multiplications, less memory, exact where it counts
# ---------------------------------------------------------------------------------------------

STRIP = 2**16  # about so many pixels are computed at once,
MIN_ROWS = 8  # but at least so many times the rows that a strip needs of its neighbour, for those are extra work


def to_autocast_dtype(x: Tensor) -> Tensor:
    """x in the precision that convolutions compute in: see `autocast` in engine/devices.py."""
    half = torch.is_autocast_enabled(x.device.type)
    return x.to(torch.get_autocast_dtype(x.device.type)) if half else x


def in_full_precision(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x) in the weights' own precision; for the outermost layers, which else would round the picture itself."""
    with torch.autocast(x.device.type, enabled=False):
        return conv(x.to(conv.weight.dtype))


def in_strips(function, x: Tensor, reach: int, factor: int = 1) -> Tensor:
    """function(x), which enlarges by `factor`, a few rows at a time, if it sees no farther than `reach` pixels of x.

    The feature maps of a whole tile are too large for a processor's cache: in strips dense blocks take four fifths of
    the time and the enlarging two thirds (×4 on two CPU cores, bfloat16), in a fraction of the memory. With gradients,
    which need every feature kept, it is one piece.
    """
    height, parts = x.shape[-2], []
    # `factor`, not its square, was fastest: enlarged pixels go through few layers and are not joined to others.
    rows = max(MIN_ROWS * reach, STRIP // (len(x) * factor * x.shape[-1]))
    if x.requires_grad or rows >= height:
        return function(x)
    rows = math.ceil(height / round(height / rows))  # none much narrower than the others
    for top in range(0, height, rows):
        first, bottom = max(0, top - reach), min(height, top + rows)
        result = function(x[..., first : bottom + reach, :])
        parts.append(result[..., factor * (top - first) : factor * (bottom - first), :])
    return torch.cat(parts, dim=-2)


def convolve_doubled(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(F.interpolate(x, scale_factor=2, mode="nearest")) for a 3×3 `conv`, with 4/9 of the multiplications.

    Of three taps two see the same pixel, so their weights are added first: a 2×2 filter for each of the four places in
    a doubled pixel. All are computed at once, and their results put side by side.
    """

    def pairs(weight: Tensor) -> Tensor:
        """Filters for the second and the first place along axis 3: a, b, c → (a + b, c) and (a, b + c)."""
        a, b, c = weight.unbind(3)
        return torch.stack((torch.stack((a + b, c), 3), torch.stack((a, b + c), 3)), dim=1)

    # Columns, then rows: (outputs, inputs, 3, 3) → (outputs, 2, inputs, 3, 2) → (outputs, 2, 2, inputs, 2, 2).
    filters = pairs(pairs(conv.weight)).flatten(0, 2)
    places = F.conv2d(x, filters, conv.bias.repeat_interleave(4), padding=1)
    # The grid of 2×2 windows begins with the second place of a pixel beyond the border: one row and column too many.
    return F.pixel_shuffle(places, 2)[..., 1:-1, 1:-1]


def pad_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """Add pixels on the right and below until both sides divide: mirrored, replicated where there are too few."""
    down, right = (-side % multiple for side in picture.shape[-2:])
    if not down and not right:
        return picture
    large_enough = picture.shape[-2] > down and picture.shape[-1] > right
    return F.pad(picture, (0, right, 0, down), mode="reflect" if large_enough else "replicate")
