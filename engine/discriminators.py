"""A discriminator from a file: the published ones of ESRGAN and Real-ESRGAN, and that of a run of one's own."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import esrgan
from engine.entries import is_plain_dict
from engine.layouts import Places, check_tensors, find, preference, size
from engine.opening import open_weights
from engine.settings import Adversarial, Settings
from imaging.console import UsageError, UserError


def make_discriminator(settings: Settings) -> nn.Module:
    """The discriminator of a run, the same for the same seed."""
    adversarial = settings.adversarial
    assert adversarial, "only the second stage has a discriminator"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)
        if adversarial.discriminator == "unet":
            return esrgan.UNetDiscriminator(adversarial.features)
        patch = settings.patch * settings.scale
        return esrgan.VGGDiscriminator(patch, adversarial.features, adversarial.normalisation)


def read_discriminator(path: Path) -> dict[str, Tensor]:
    """The weights of a discriminator by our names, in float32. Raises UsageError for no file, UserError for no such."""
    try:
        head, load = open_weights(path)
        paths = find_discriminator(head)
        loaded = load()
        tensors = {name: find(loaded, place) for name, place in paths.items()}
        check_tensors(tensors)
    except UserError as error:
        raise type(error)(f"--discriminator-from {path}: {error}") from error
    return {name: value.detach().float() if value.is_floating_point() else value for name, value in tensors.items()}


def load_discriminator(path: Path, settings: Settings) -> tuple[Adversarial, dict[str, Tensor]]:
    """The settings with the discriminator's kind and width as in a file, and its weights.

    Raises UsageError where it does not fit patches of this size, and as `read_discriminator`.
    """
    assert settings.adversarial, "only the second stage has a discriminator"
    weights = read_discriminator(path)
    adversarial = described(weights, settings.adversarial)
    expected = make_discriminator(replace(settings, adversarial=adversarial)).state_dict()
    for name in expected.keys() | weights.keys():
        if name.endswith("num_batches_tracked") and name not in weights:  # of statistics that files may leave out
            weights[name] = expected[name]
        if size(expected, name) == size(weights, name):
            continue
        if name.startswith("linear1"):
            side = settings.patch * settings.scale
            raise UsageError(f"--discriminator-from {path}: is for patches of another size than {side} pixels")
        raise UserError(
            f"--discriminator-from {path}: {name} is {size(weights, name)}, not {size(expected, name)}: it is no such "
            "discriminator as are here"
        )
    if not all(value.isfinite().all() for value in weights.values()):
        raise UserError(f"--discriminator-from {path}: is spoilt: it holds values that are not numbers")
    return adversarial, weights


def find_discriminator(head: Any) -> dict[str, tuple]:
    """Our names of parameters → where in a file they lie. Raises UserError where there is no discriminator."""
    if not isinstance(head, dict):
        raise UserError("holds no state dict")
    for name in ("discriminator", "judge"):  # a run of one's own; the latter is what older versions called it
        part = head
        for key in ("training", "parts", name):
            part = part.get(key, {}) if isinstance(part, dict) else {}
        if is_plain_dict(part) and part:
            return {key: ("training", "parts", name, key) for key in part}
    places = Places()
    places.walk(head)
    for place in sorted(places.tensors, key=preference):
        names = {renamed(old): path for old, path in places.paths[place].items()}
        if names.keys() >= {"conv9.weight"} or names.keys() >= {"body.0.weight", "linear2.weight"}:
            return names
    raise UserError("holds no discriminator as ESRGAN and Real-ESRGAN have them")


def renamed(name: str) -> str:
    """Our name of a parameter: BasicSR's numbers of VGG's layers become places in a row; the U-Net's are the same.

    After the first convolution, which has no batch norm, come three layers each: convolution, norm, activation.
    """
    found = re.fullmatch(r"(conv|bn)(\d)_(\d)\.(\w+)", name)
    if not found:
        return name
    number = 2 * int(found[2]) + int(found[3])
    first = 3 * number - 1 if number else 0
    return f"body.{first + (found[1] == 'bn')}.{found[4]}"


def described(weights: dict[str, Tensor], adversarial: Adversarial) -> Adversarial:
    """The settings with the kind, width and normalisation that a discriminator's weights have."""
    if "conv9.weight" in weights:
        return replace(adversarial, discriminator="unet", features=len(weights["conv0.weight"]))
    first = weights.get("body.0.weight", weights.get("body.0.weight_orig", torch.empty(0)))
    normalisation = "batch" if any("running_mean" in name for name in weights) else "spectral"
    return replace(adversarial, discriminator="vgg", features=len(first), normalisation=normalisation)
