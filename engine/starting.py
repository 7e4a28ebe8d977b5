"""What a new run begins with: named weights, those of the stage before, or a seeded draw."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from degrade import DEGRADATIONS
from engine.checkpoints import find_latest, load_checkpoint
from engine.choosing import find_trained
from engine.layouts import generator_of
from engine.networks import build_network
from engine.settings import Settings
from imaging.console import UsageError, note

UNTRAINED = Path("random")  # what `--from` calls a seeded draw


@dataclass(frozen=True)
class Start:
    """How a training begins. Without anything it goes on with the newest run of its kind, if there is one."""

    new: bool = False  # never going on, and from noise where no weights are at hand
    weights: Path | None = None  # a new run from these, or UNTRAINED
    discriminator: Path | None = None  # a new run whose discriminator has these weights
    run: Path | None = None  # the file of the run that goes on, whether it is the newest or not


GO_ON, ANEW = Start(), Start(new=True)


def starting_weights(settings: Settings, start: Start, folder: Path | None = None) -> dict[str, Tensor]:
    """What a new run begins with: the weights that are named; the latest of the stage before; else a seeded draw.

    The stage before esrgan is that of its generator, rrdb or srvgg, on the same degradation. Before any network on
    degraded pictures it is the same network on bicubic ones, if there is one.
    Raises UsageError if ESRGAN has none to begin with and nobody said that noise is meant.
    """
    if start.weights and start.weights != UNTRAINED:
        return weights_that_fit(load_checkpoint(start.weights), settings, start.weights)
    before, generator = None, generator_of(settings.model, settings.shape)
    if start.weights != UNTRAINED and settings.model == "esrgan":
        before = {"model": generator}
    elif start.weights != UNTRAINED and settings.degradation != "bicubic":
        before = {"degradation": "bicubic"}
    wanted = {**settings.kind(), **(before or {})}
    own = find_latest(folder, measured=True, **wanted) if before and folder else None
    if before and (found := own or find_trained(**wanted)):
        note(f"starting from {found[0]}")
        return found[1]["params"]
    if settings.model == "esrgan" and not start.new and start.weights != UNTRAINED:
        first = f"train -m {generator}" + (
            f" -d {settings.degradation}" if settings.degradation in DEGRADATIONS else ""
        )
        raise UsageError(
            f"esrgan starts from a trained {generator}, and there is none of this shape: `{first}` first, "
            "or give --from FILE, or -n to start from noise, which seldom ends well"
        )
    return untrained_weights(settings)


def untrained_weights(settings: Settings) -> dict[str, Tensor]:
    """A seeded draw."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return build_network(settings.model, settings.shape).state_dict()


def weights_that_fit(checkpoint: dict, settings: Settings, path: Path) -> dict[str, Tensor]:
    """A checkpoint's weights; where it is for another scale, those that fit, and a seeded draw for the others.

    Raises UsageError where the networks differ in more than their scale.
    """
    if checkpoint["shape"] == settings.shape:
        note(f"starting from {path}")
        return checkpoint["params"]
    if without_scale(checkpoint["shape"]) != without_scale(settings.shape):
        raise UsageError(f"--from {path}: is {checkpoint['shape']}, not {settings.shape}")
    weights, old = untrained_weights(settings), checkpoint["params"]
    kept = {name for name, value in weights.items() if name in old and old[name].shape == value.shape}
    left, fresh = (", ".join(layers(names - kept)) or "nothing" for names in (old.keys(), weights.keys()))
    note(
        f"starting from {path}, which is for ×{checkpoint['scale']}: {len(kept)} of its {len(old)} tensors fit; "
        f"left out: {left}; drawn anew: {fresh}"
    )
    return weights | {name: old[name] for name in kept}


def without_scale(shape: dict) -> dict:
    """A shape but for what its scale decides."""
    return {name: value for name, value in shape.items() if name not in ("scale", "unshuffle")}


def layers(names: set[str]) -> list[str]:
    """The layers that parameters of these names belong to."""
    return sorted({name.rpartition(".")[0] for name in names})
