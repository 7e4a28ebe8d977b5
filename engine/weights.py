"""Weights mixed, and VGG19's.

blend(first, second, alpha)       network interpolation
load_vgg19("imagenet")            the features that the perceptual loss compares
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from engine.checkpoints import PRETRAINED
from engine.layouts import size
from engine.opening import open_weights
from esrgan import SMALL_WIDTHS, VGG19Features
from imaging.console import UsageError, UserError, note


def blend(first: dict[str, Tensor], second: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Network interpolation: α · first + (1 − α) · second, weight by weight (ESRGAN, section 3.4).

    It works because the second network was trained on from the first, or both from a third. Exactly the one at
    1 and exactly the other at 0. Raises UsageError for α outside 0..1, UserError for networks that are unlike.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"--alpha {alpha}: is the share of the first network, from 0 to 1")
    for key in {**first, **second}:
        if size(first, key) != size(second, key):
            raise UserError(f"{key} is {size(first, key)} and {size(second, key)}")
    if alpha in (0, 1):  # not computed, for 0 · ∞ is no zero
        return dict(first if alpha == 1 else second)
    return {key: alpha * first[key].float() + (1 - alpha) * second[key].float() for key in first}


# ---------------------------------------------------------------------------------------------
# VGG19
# ---------------------------------------------------------------------------------------------

# torchvision's IMAGENET1K_V1; torch.hub keeps it where torchvision does, so that it is fetched once for both.
VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
SMALL_VGG19 = PRETRAINED / "small_vgg19.pth"  # an eighth as wide; trained by tools/train_features.py


def load_vgg19(source: str, layers=("conv5_4",)) -> VGG19Features:
    """VGG19 as deep as `layers` need it, with weights from `source`, what `--perceptual` says:

    "imagenet"  torchvision's (548 MB, fetched once); raises UserError where they cannot be had
    "small"     those that ship, of a VGG19 an eighth as wide: of damages and textures it knows much, of things nothing
    "random"    seeded random weights; it says so loudly
    FILE        a state dict in torchvision's names, with or without `features.`, of any precision;
                raises UsageError if there is no such file, UserError if it is not VGG19's weights
    """
    vgg = VGG19Features(layers, SMALL_WIDTHS) if source == "small" else VGG19Features(layers)
    if source == "random":
        randomise(vgg)
        note("PERCEPTUAL LOSS WITH RANDOM WEIGHTS: it compares structure, but has never seen a picture")
        return vgg
    if source == "imagenet":
        loaded = fetch_imagenet_weights()
    else:
        loaded = read_vgg19_file(SMALL_VGG19 if source == "small" else Path(source))
    state = {}
    for key, expected in vgg.state_dict().items():
        actual = loaded.get(key, loaded.get(key.removeprefix("features.")))
        if getattr(actual, "shape", None) != expected.shape:
            raise UserError(f"{source}: is not VGG19's weights: no {key} of {'×'.join(map(str, expected.shape))}")
        state[key] = actual  # float16 becomes float32 on its way into the network
    vgg.load_state_dict(state)
    return vgg


def check_vgg19(source: str) -> None:
    """Raises UsageError at once if `--perceptual` names a file that is not there."""
    if source not in ("imagenet", "small", "random") and not Path(source).is_file():
        raise UsageError(f"{source}: no such file for --perceptual (or say imagenet, small or random)")


def randomise(vgg: VGG19Features, seed: int = 0) -> None:
    """He's initialisation (2015), which keeps the size of the features from layer to layer; no bias.

    That structure alone makes a useful distance is shown by Liu et al., "A Generic Perceptual Loss for Modeling
    Structured Output Dependencies" (CVPR 2021).
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)


def fetch_imagenet_weights() -> dict:
    """torchvision's weights of VGG19, fetched unless its cache has them, by the very call that torchvision makes.

    torchvision itself is not imported: one that was built for another torch fails at once.
    """
    try:
        return torch.hub.load_state_dict_from_url(VGG19_URL, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # no network, a full disk, a spoilt download: the ways out are the same
        reason = str(error).split("\n")[0]
        raise UserError(
            f"VGG19's ImageNet weights cannot be had ({reason}): "
            "give a file of them by --perceptual FILE, or do without them by --perceptual small"
        ) from error


def read_vgg19_file(path: Path) -> dict:
    """The dictionary in a file, opened safely."""
    try:
        _, load = open_weights(path)
        loaded = load()
    except UsageError as error:
        raise UsageError(f"{path}: no such file for --perceptual (or say imagenet, small or random)") from error
    except UserError as error:
        raise UserError(f"{path}: is not VGG19's weights: it {error}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: is not VGG19's weights: it holds a {type(loaded).__name__}")
    return loaded
