"""Weights in files of other programs: generators in published key layouts, and VGG19's.

recognise(read_weights(path))     what network a file holds, by its tensors, with BasicSR's names of parameters
blend(first, second, alpha)       network interpolation
load_vgg19("imagenet")            the features that the perceptual loss compares
"""

import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from esrgan import RRDBNet, SRVGGNetCompact, VGG19Features
from imaging.console import UsageError, UserError, note

# ---------------------------------------------------------------------------------------------
# Generators: other programs' files, and what BasicSR calls the parameters in them
# ---------------------------------------------------------------------------------------------

# Where the weights lie in a published file. Those averaged over training (EMA) come first: they are the better ones.
WRAPPERS = ("params_ema", "params-ema", "params", "model_state_dict", "state_dict", "model", "net")


# What wrapping a network in DataParallel, in a GAN or in torch.compile writes before every name.
PREFIXES = re.compile(r"^((module|netG|_orig_mod)\.)+")


# The oldest ESRGAN, RRDBNet as one long nn.Sequential, and most models of the community. Its convolutions outside
# the blocks have numbers only, which depend on the scale: see `_renamed`.
OLDEST_NAMES = {
    r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.": r"body.\1.rdb\2.conv\3.",
    r"model\.1\.sub\.(\d+)\.(?=weight|bias)": "conv_body.",
}


# The ESRGAN repository, BSRGAN, RealSR.
REPOSITORY_NAMES = {
    r"RRDB_trunk\.(\d+)\.RDB(\d)\.": r"body.\1.rdb\2.",
    r"trunk_conv\.": "conv_body.",
    r"upconv(\d)\.": r"conv_up\1.",
    r"HRconv\.": "conv_hr.",
}


def read_weights(path):
    """Whatever a file of weights holds, .safetensors or torch's own kind, opened so that no code in it can run.

    Raises UsageError for no file, UserError for one that cannot be opened; the caller knows its name.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such checkpoint")
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # eight bytes of length, then JSON: the content decides
            if not is_safetensors:
                file.seek(0)
                return torch.load(file, map_location="cpu", weights_only=True)
        from safetensors.torch import load_file  # only who has such files needs the package

        return load_file(path)
    except ImportError as error:
        raise UserError("is a .safetensors file: to read it, pip install safetensors") from error
    except Exception as error:  # anything at all may be wrong with a file
        raise UserError("is not a checkpoint that can be opened safely, or is damaged") from error


def recognise(loaded) -> tuple[str, dict, dict[str, Tensor]]:
    """What is in a loaded file: ("rrdb" or "srvgg", its class's keyword arguments, float32 weights in BasicSR's names).

    By the tensors alone, never by a name of a file. Raises UserError that says what was found instead.
    """
    found = unwrap(loaded)
    if any(re.search(r"RDB\d\.conv1x1", key, re.IGNORECASE) for key in found):
        raise UserError("is an ESRGAN+ network (it has conv1x1 in its dense blocks), which cannot be built here")
    state = _renamed(found)
    try:
        model = "srvgg" if "body.0.weight" in state else "rrdb"
        shape = _srvgg_shape(state) if model == "srvgg" else _rrdb_shape(state)
        with torch.device("meta"):  # names and shapes only, no memory
            network = SRVGGNetCompact(**shape) if model == "srvgg" else RRDBNet(**shape)
            expected = network.state_dict()
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"is no RRDB or SRVGG network that can be built here: it holds {_described(found)}") from error
    for key in {**expected, **state}:
        if _size(expected, key) != _size(state, key):
            raise UserError(
                f"looks like {model} {shape}, but {key} is {_size(state, key)} in it, not {_size(expected, key)}"
            )
    return model, shape, {key: state[key].float() for key in expected}


def unwrap(loaded) -> dict[str, Tensor]:
    """The tensors of a loaded file, out of the dictionaries and without the prefixes that programs wrap them in."""
    for _ in WRAPPERS:  # wrappers may lie in wrappers
        inner = [loaded[name] for name in WRAPPERS if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)]
        loaded = inner[0] if inner else loaded
    if not isinstance(loaded, dict):
        raise UserError(f"holds no state dict but a {type(loaded).__name__}")
    state = {PREFIXES.sub("", str(key)): value for key, value in loaded.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"holds no tensors, only {', '.join(map(str, list(loaded)[:5])) or 'an empty dictionary'}")
    return state


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with BasicSR's names for the parameters that have one in an older layout; the others as they are."""
    names = {**OLDEST_NAMES, **REPOSITORY_NAMES}
    # The row of numbered convolutions in the oldest layout: the first, one for each doubling, and the last two.
    numbers = sorted({int(key.split(".")[1]) for key in state if re.fullmatch(r"model\.\d+\.weight", key)})
    if len(numbers) >= 3:
        row = ["conv_first", *(f"conv_up{index}" for index in range(1, len(numbers) - 2)), "conv_hr", "conv_last"]
        names |= {rf"model\.{number}\.": f"{name}." for number, name in zip(numbers, row, strict=True)}
    renamed = {}
    for key, value in state.items():
        fitting = (re.sub(pattern, name, key, count=1) for pattern, name in names.items() if re.match(pattern, key))
        renamed[next(fitting, key)] = value
    return renamed


def _rrdb_shape(state: dict[str, Tensor]) -> dict:
    """RRDBNet's keyword arguments. An RRDB ×3 has one up-convolution, as ×2 has: it is taken for ×2."""
    features, channels = state["conv_first.weight"].shape[:2]
    fold = {3: 1, 12: 2, 48: 4}[channels]  # pixel-unshuffle by this makes so many channels of three
    doublings = sum(bool(re.fullmatch(r"conv_up\d\.weight", key)) for key in state)
    return {
        "scale": 2**doublings // fold,
        "features": features,
        "growth": state["body.0.rdb1.conv1.weight"].shape[0],
        "blocks": len({key.split(".")[1] for key in state if key.startswith("body.")}),
        "unshuffle": fold > 1,
    }


def _srvgg_shape(state: dict[str, Tensor]) -> dict:
    """SRVGGNetCompact's keyword arguments: convolutions and activations take turns, 3·scale² channels come out."""
    last = max(int(key.split(".")[1]) for key in state)
    scale = math.isqrt(state[f"body.{last}.weight"].shape[0] // 3)
    return {"scale": scale, "features": state["body.0.weight"].shape[0], "convolutions": last // 2 - 1}


def _size(state: dict[str, Tensor], key: str) -> str:
    return "×".join(map(str, state[key].shape)) if key in state else "missing"


def _described(state: dict[str, Tensor]) -> str:
    """What an unknown state dict looks like, short enough for one line."""
    first = ", ".join(f"{key} ({_size(state, key)})" for key in list(state)[:3])
    families = sorted({key.split(".")[0] for key in state})
    return f"{len(state)} tensors named {', '.join(families[:8])}{' …' if families[8:] else ''}, the first {first}"


def blend(first: dict[str, Tensor], second: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Network interpolation: α · first + (1 − α) · second, weight by weight (ESRGAN, section 3.4).

    It works because the second network was trained on from the first, or both from a third. Exactly the one at
    1 and exactly the other at 0. Raises UsageError for α outside 0..1, UserError for networks that are unlike.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"--alpha {alpha}: is the share of the first network, from 0 to 1")
    for key in {**first, **second}:
        if _size(first, key) != _size(second, key):
            raise UserError(f"unlike networks cannot be blended: {key} is {_size(first, key)} and {_size(second, key)}")
    if alpha in (0, 1):  # not computed, for 0 · ∞ is no zero
        return dict(first if alpha == 1 else second)
    return {key: alpha * first[key].float() + (1 - alpha) * second[key].float() for key in first}


# ---------------------------------------------------------------------------------------------
# VGG19
# ---------------------------------------------------------------------------------------------

# torchvision's IMAGENET1K_V1; torch.hub keeps it where torchvision does, so that it is fetched once for both.
VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


def load_vgg19(source: str, layers=("conv5_4",)) -> VGG19Features:
    """VGG19 as deep as `layers` need it, with weights from `source`, what `--perceptual` says:

    "imagenet"  torchvision's (548 MB, fetched once); raises UserError where they cannot be had
    "random"    seeded random weights, for machines without internet; it says so loudly
    FILE        a state dict in torchvision's names, with or without `features.`, of any precision;
                raises UsageError if there is no such file, UserError if it is not VGG19's weights
    """
    vgg = VGG19Features(layers)
    if source == "random":
        randomise(vgg)
        note("PERCEPTUAL LOSS WITH RANDOM WEIGHTS: it compares structure, but has never seen a picture")
        return vgg
    loaded = fetch_imagenet_weights() if source == "imagenet" else read_vgg19_file(Path(source))
    state = {}
    for key, expected in vgg.state_dict().items():
        actual = loaded.get(key, loaded.get(key.removeprefix("features.")))
        if getattr(actual, "shape", None) != expected.shape:
            raise UserError(f"{source}: is not VGG19's weights: no {key} of {'×'.join(map(str, expected.shape))}")
        state[key] = actual  # float16 becomes float32 on its way into the network
    vgg.load_state_dict(state)
    return vgg


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
            "give a file of them by --perceptual FILE, or do without them by --perceptual random"
        ) from error


def read_vgg19_file(path: Path) -> dict:
    """The dictionary in a file, opened safely."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file for --perceptual (or say imagenet, or random)")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # anything at all may be wrong with a file
        raise UserError(f"{path}: is not VGG19's weights, or cannot be opened safely") from error
