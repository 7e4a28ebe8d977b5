"""Trains the small features that ship: `python tools/train_features.py -i PICTURES`.

VGG19 an eighth as wide looks at patches of 48×48 pixels and answers three questions about each: from which of the
pictures was it cut, what was done to it, and how strongly? To answer the first it must see what a texture is,
to answer the others what is wrong with it. Nobody has to name anything, so any pictures do.

Batch norm after every convolution, and a question after every block, let so deep a chain learn; then batch norm is
folded into the convolutions. Last, every layer is scaled so that its features, before activation, have standard
deviation 1: the weights that the layers have in a loss then mean what they say. A network of ReLUs allows that.
"""

import argparse
import math
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.optimizers import Muon
from engine.sources import find_sources
from engine.weights import SMALL_VGG19, randomise
from esrgan import SMALL_WIDTHS, VGG19Features
from imaging import distortions
from imaging.console import UserError, note, run_command
from imaging.files import read_picture
from imaging.images import resize, to_bytes
from imaging.writing import replacing

PATCH = 48
SMALLEST = 2 * PATCH  # pixels a side of a picture to cut patches from
EACH = 4  # patches of a kind of damage in a batch
DEEPEST = "conv5_4"


# ---------------------------------------------------------------------------------------------
# What is done to a patch: (N, 3, H, W) and strengths (N,) from 0 to 1 → the same shape, in 0..1
# ---------------------------------------------------------------------------------------------


def blur(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """By a bell of 0.5 to 3 pixels."""
    sigma = 0.5 * 6**strength
    size, still = torch.full((len(patches),), 21), torch.zeros(len(patches))
    return distortions.filter_each(patches, distortions.gaussian_kernels(size, sigma[:, None].expand(-1, 2), still))


def shrink(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """To 30 of 48 pixels, or down to 9, and enlarged again: the first strength counts for all."""
    small = resize(patches, size=(side := round(30 * 0.3 ** strength[0].item()), side))
    return resize(small, size=patches.shape[-2:])


def add_noise(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Of 3 to 45 levels."""
    grey = torch.rand(len(patches), generator=generator) < 0.3
    return distortions.gaussian_noise(patches, 3 * 15**strength / 255, grey, generator)


def save_as_jpeg(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """With a quality of 85 to 5."""
    return distortions.jpeg(patches, (85 * (5 / 85) ** strength).round().long())


def sharpen(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Half to five times what a blur of 1.2 pixels takes away is added."""
    soft = blur(patches, torch.full_like(strength, math.log(1.2 / 0.5, 6)), generator)
    return patches + (0.5 * 10**strength).view(-1, 1, 1, 1) * (patches - soft)


def tint(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A colour of 5 to 60 levels is added everywhere."""
    colour = F.normalize(torch.randn(len(patches), 3, generator=generator))
    return patches + (5 * 12**strength / 255).view(-1, 1, 1, 1) * colour[..., None, None]


def repeat_pixels(patches: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Squares of 2×2, 3×3 or 4×4 pixels have one colour: the first strength counts for all."""
    side = 2 + min(2, int(3 * strength[0].item()))
    rows = torch.arange(patches.shape[-1]) // side * side
    return patches[..., rows, :][..., rows]


DAMAGES = (blur, shrink, add_noise, save_as_jpeg, sharpen, tint, repeat_pixels)  # and, before them: none


# ---------------------------------------------------------------------------------------------
# Batches
# ---------------------------------------------------------------------------------------------


def read_all(named: list[Path]) -> list[list[Tensor]]:
    """All pictures, in one or two sizes each; those that are too small or damaged are named and left out."""
    pictures = []
    for source in find_sources(named):
        try:
            pictures.append(read_sizes(source.large))
        except UserError as error:
            note(f"left out: {error}")
    if not pictures:
        raise UserError(f"-i {' '.join(map(str, named))}: no picture to learn from")
    return pictures


def read_sizes(path: Path) -> list[Tensor]:
    """The bytes of a picture, whole and at half its size, where that is large enough."""
    picture = read_picture(path)
    if min(picture.shape[-2:]) < SMALLEST:
        height, width = picture.shape[-2:]
        raise UserError(f"{path}: only {width}×{height} pixels; each side must have {SMALLEST}")
    sizes = [picture, resize(picture, 1 / 2).clamp(0, 1)]
    return [to_bytes(size)[0] for size in sizes if min(size.shape[-2:]) >= SMALLEST]


def cut(sizes: list[Tensor], held_out: bool, generator: torch.Generator) -> Tensor:
    """A patch in 0..1, turned at random. The rightmost fifth of every picture teaches nothing."""
    picture = sizes[int(torch.randint(len(sizes), (), generator=generator))]
    border = picture.shape[-1] * 4 // 5
    left, right = (max(border, PATCH), picture.shape[-1]) if held_out else (0, max(border, PATCH))
    left = min(left, right - PATCH)
    x, y = (
        start + int(torch.randint(stop - start - PATCH + 1, (), generator=generator))
        for start, stop in ((left, right), (0, picture.shape[-2]))
    )
    patch = picture[:, y : y + PATCH, x : x + PATCH] / 255
    flips = torch.rand(3, generator=generator) < 0.5
    patch = patch.mT if flips[0] else patch
    return patch.flip([axis for axis in (1, 2) if flips[axis]])


def sample(pictures: list[list[Tensor]], held_out: bool, generator: torch.Generator) -> tuple[Tensor, ...]:
    """(patches, numbers of their pictures, kinds of damage, strengths), EACH of every kind, and of none."""
    count = EACH * (1 + len(DAMAGES))
    numbers = torch.randint(len(pictures), (count,), generator=generator)
    patches = torch.stack([cut(pictures[number], held_out, generator) for number in numbers.tolist()])
    strengths = torch.rand(count, generator=generator)
    kinds = torch.arange(1 + len(DAMAGES)).repeat_interleave(EACH)
    for kind, damage in enumerate(DAMAGES, start=1):
        one = slice(EACH * kind, EACH * (kind + 1))
        if damage in (shrink, repeat_pixels):
            strengths[one] = strengths[one][0]
        patches[one] = damage(patches[one], strengths[one], generator)
    return (255 * patches).round().clamp(0, 255) / 255, numbers, kinds, strengths


# ---------------------------------------------------------------------------------------------
# Training
# ---------------------------------------------------------------------------------------------


class Answers(nn.Module):
    """What each block but the first answers: logits of pictures and kinds, and a strength, from its features' means."""

    def __init__(self, features: VGG19Features, pictures: int):
        super().__init__()
        layers = list(features.features)
        for place in reversed(range(len(layers))):
            if isinstance(layers[place], nn.Conv2d):
                layers.insert(place + 1, nn.BatchNorm2d(layers[place].out_channels))
        self.features, self.body = features, nn.Sequential(*layers, nn.ReLU(), nn.MaxPool2d(2))
        self.parts = [pictures, 1 + len(DAMAGES), 1]
        self.heads = nn.ModuleList(nn.Linear(widths[-1], sum(self.parts)) for widths in SMALL_WIDTHS[1:])

    def forward(self, patches: Tensor) -> list[tuple[Tensor, ...]]:
        x = (patches - self.features.mean) / self.features.deviation
        blocks = []
        for layer in self.body:
            if isinstance(layer, nn.MaxPool2d):
                blocks.append(x.mean(dim=(2, 3)))
            x = layer(x)
        return [head(block).split(self.parts, dim=1) for head, block in zip(self.heads, blocks[1:], strict=True)]

    @torch.no_grad()
    def fold(self) -> VGG19Features:
        """The features with batch norm inside the convolutions: its averages are weights like others."""
        for conv, norm in zip(self.body, self.body[1:], strict=False):
            if isinstance(norm, nn.BatchNorm2d):
                factor = norm.weight / (norm.running_var + norm.eps).sqrt()
                conv.weight *= factor.view(-1, 1, 1, 1)
                conv.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
        return self.features.requires_grad_(False)


def loss_and_shares(answers: list[tuple[Tensor, ...]], numbers: Tensor, kinds: Tensor, strengths: Tensor):
    """The mean loss; of the deepest block the shares of right pictures and kinds, and the mean error of strength."""
    damaged = kinds > 0
    losses = []
    for picture, kind, strength in answers:
        off = strength[damaged, 0] - strengths[damaged]
        losses.append(F.cross_entropy(picture, numbers) + F.cross_entropy(kind, kinds) + 5 * off.square().mean())
    loss = torch.stack(losses).mean()
    shares = ((guess.argmax(dim=1) == truth).float().mean() for guess, truth in ((picture, numbers), (kind, kinds)))
    return loss, torch.stack([*shares, off.abs().mean()]).detach()


def train(pictures: list[list[Tensor]], updates: int, learning_rate: float) -> VGG19Features:
    """The features after so many updates by Muon; the learning rate falls along half a cosine."""
    torch.manual_seed(0)
    features = VGG19Features([DEEPEST], SMALL_WIDTHS)
    randomise(features)
    network = Answers(features, len(pictures)).requires_grad_().to(memory_format=torch.channels_last)
    optimizer = Muon(network, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    start, shares = time.monotonic(), torch.zeros(3)
    for update in range(updates):
        warmed = min(1, (update + 1) / 50)
        optimizer.param_groups[0]["lr"] = warmed * learning_rate * 0.5 * (1 + math.cos(math.pi * update / updates))
        patches, *truth = sample(pictures, False, generator)
        loss, right = loss_and_shares(network(patches.contiguous(memory_format=torch.channels_last)), *truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shares += 0.02 * (right - shares)
        if (update + 1) % 100 == 0:
            told(f"{update + 1} updates, {time.monotonic() - start:.0f} s, loss {loss.item():.2f}", shares)
    network.eval()
    with torch.no_grad():
        fresh = torch.Generator().manual_seed(1)
        held_out = [sample(pictures, True, fresh) for _ in range(20)]
        told("held-out parts", torch.stack([loss_and_shares(network(p), *t)[1] for p, *t in held_out]).mean(dim=0))
    return network.fold()


def told(what: str, shares: Tensor) -> None:
    """One line on the way."""
    note(f"{what}: {100 * shares[0]:.0f} % of pictures, {100 * shares[1]:.0f} % of kinds, strength ±{shares[2]:.2f}")


@torch.no_grad()
def scale_to_one(features: VGG19Features, patches: Tensor) -> None:
    """Every layer's features, before activation, get standard deviation 1 on these patches."""
    x = (patches - features.mean) / features.deviation
    for layer in features.features:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            size = x.std()
            layer.weight /= size
            layer.bias /= size
            x = x / size


def main(options: argparse.Namespace) -> None:
    """Train and save."""
    pictures = read_all(options.input)
    note(f"{len(pictures)} pictures")
    features = train(pictures, options.updates, options.learning_rate)
    generator = torch.Generator().manual_seed(2)
    scale_to_one(features, torch.cat([sample(pictures, False, generator)[0][:EACH] for _ in range(50)]))
    state = {key: value.half() for key, value in features.state_dict().items()}
    with replacing(options.output) as temporary:
        torch.save(state, temporary)
    note(f"{options.output}: {sum(value.numel() for value in state.values()):,} weights")


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, nargs="+", required=True, metavar="DIR|LIST.txt")
    parser.add_argument("-o", "--output", type=Path, default=SMALL_VGG19)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_command(main, read_arguments()))
