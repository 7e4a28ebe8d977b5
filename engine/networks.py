"""The networks: what each offers to its users, and how one is built, loaded, chosen and mixed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from engine import checkpoints
from engine.checkpoints import find_latest, first_that_loads, fitting_heads, load_checkpoint, model_name
from engine.layouts import KINDS, AnyNetwork, class_of
from engine.weights import blend
from imaging.console import UsageError, UserError


class Network(Protocol):
    """What a network offers, whatever it is made of; all lengths are in pixels of what it is given.

    A network of one's own is an nn.Module with these attributes, and a line in CLASSES and SHAPES: upscaling and
    measuring then take its checkpoints. To be trained it needs a name in main.py's MODELS and a preset in
    engine/settings.py too, and on luma what LumaNetwork asks for. A kind is known by its name only where no other has
    such a thing: scales (RRDBNet's in main.py), a stage before (esrgan's in engine/resume.py), an optimiser (SRCNN's in
    engine/updates.py).
    """

    luma: bool  # True: restores the luma (N, 1, H, W) of a picture already enlarged; False: enlarges RGB (N, 3, H, W)
    scale: int  # how many times larger its output is than its input; of luma networks 1
    radius: int  # how far an output pixel sees
    margin: int  # around a tile: as far as it sees, or less where what lies farther hardly counts
    tile: int  # pixels a side of the tiles that suit it
    fold: int  # so many pixels a side become one inside: tiles begin at multiples of it
    shape: dict[str, Any]  # the keyword arguments that build it again

    def __call__(self, picture: Tensor) -> Tensor:
        """The restored picture; values may leave 0..1 a little."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights, as every nn.Module has them."""

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights by name."""


class LumaNetwork(Network, Protocol):
    """What one with `luma` offers besides, to learn by."""

    def forward_valid(self, luma: Tensor) -> Tensor:
        """Only the pixels that see no border: (N, 1, H, W) → (N, 1, H − 2·radius, W − 2·radius)."""


def build_network(model: str, shape: dict) -> AnyNetwork:
    """An untrained network: `shape` holds the keyword arguments of its class."""
    return class_of(model, shape)(**shape)


def load_network(checkpoint: dict) -> AnyNetwork:
    """The network of a checkpoint with its best weights, ready to upscale. Raises UserError if they do not fit."""
    try:
        network = build_network(checkpoint["model"], checkpoint["shape"])
        network.load_state_dict({key: value.float() for key, value in checkpoint["params"].items()})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's weights fit no network here ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


# ---------------------------------------------------------------------------------------------
# Which one
# ---------------------------------------------------------------------------------------------

# What ships, the best for an ordinary photograph first. On clean pictures RRDB leads SRVGG by 0.5 dB and SRCNN by 1.2;
# four saved as JPEG of quality 85 came back with 30.4, 30.6 and 30.6 dB (bicubic 30.0), by ESRGAN, which takes blocks
# for texture, with 29.5, and by those for degraded pictures, which paint, with 28.9, 27.0 and 29.1.
BEST_FIRST = (
    ("rrdb", "bicubic"), ("esrgan", "bicubic"), ("srvgg", "bicubic"),
    ("rrdb", "real"), ("esrgan", "real"), ("srvgg", "real"), ("srcnn", "bicubic"),
)  # fmt: skip


def find_shipped(**wanted) -> tuple[Path, dict] | None:
    """The best checkpoint that came with the program and is as `wanted`.

    Of its scales the largest: a result that is too large is easier to mend than one that is too small.
    """

    def rank(found: tuple[Path, dict]) -> tuple[int, int]:
        kind = found[1]["model"], found[1]["degradation"]
        return BEST_FIRST.index(kind) if kind in BEST_FIRST else len(BEST_FIRST), -found[1]["scale"]

    return first_that_loads(sorted(fitting_heads(checkpoints.PRETRAINED, wanted), key=rank))


def find_trained(**wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in models/ that is as `wanted` and has been measured, else the best that ships."""
    return find_latest(checkpoints.MODELS, measured=True, **wanted) or find_shipped(**wanted)


def choose_checkpoint(
    model: str | None, scale: int | None = None, degradation: str | None = None
) -> tuple[Path, dict] | None:
    """What `-m` names, a kind of network or a file; without it the newest in models/, else the best that ships.

    Of a kind, rather one that was trained on this degradation. None if there is none. Raises UserError for a file
    that cannot be used.
    """
    if model is not None and model not in KINDS:
        return Path(model), load_checkpoint(model)
    wanted = {"model": model, "scale": scale}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    like = {"degradation": degradation} if degradation else {}
    return find_trained(**wanted, **like) or find_trained(**wanted)


def mixed_with(path: Path, checkpoint: dict, other_path: Path, alpha: float) -> dict:
    """A checkpoint with α of its own weights and 1 − α of another's. Raises UserError for networks that are unlike."""
    other = load_checkpoint(other_path)
    if checkpoint["scale"] != other["scale"]:
        raise UserError(f"{path} and {other_path} enlarge ×{checkpoint['scale']} and ×{other['scale']}")
    return {**checkpoint, "params": blend(checkpoint["params"], other["params"], alpha)}


def choose_network(
    model: str | None, other_path: Path | None = None, alpha: float | None = None, scale: int | None = None,
    degradation: str | None = None,
) -> tuple[AnyNetwork, dict, str] | None:  # fmt: skip
    """The network that `-m`, `--blend` and `--alpha` name, its checkpoint, and a line that says which it is and why.

    None if there is none. Raises UserError, UsageError.
    """
    if alpha is not None and not other_path:
        raise UsageError("--alpha: is the share in a mixture; give the other network with --blend")
    found = choose_checkpoint(model, scale, degradation)
    if found is None:
        if other_path:
            raise UsageError("--blend: there is no network yet to blend with; give one with -m FILE")
        return None
    path, checkpoint = found
    told = f"{path} ({model_name(checkpoint)} ×{checkpoint['scale']}"
    if other_path:
        alpha = 0.5 if alpha is None else alpha
        checkpoint = mixed_with(path, checkpoint, other_path, alpha)
        told += f", {alpha:g} of it and {1 - alpha:g} of {other_path}"
    if model is None and path.parent == checkpoints.PRETRAINED:
        told += "; none that fits is trained yet: this one ships"
    elif model is None and (better := better_shipped(checkpoint)):
        told += f"; a better one ships: -m {better}"
    return load_network(checkpoint), checkpoint, f"{told})"


def better_shipped(checkpoint: dict) -> Path | None:
    """The file of a shipped network of the same scale that stands before a checkpoint's in BEST_FIRST, if any."""
    shipped = find_shipped(scale=checkpoint["scale"])
    if shipped is None:
        return None
    path, best = shipped
    kinds = [(one["model"], one["degradation"]) for one in (best, checkpoint)]
    if not all(kind in BEST_FIRST for kind in kinds) or BEST_FIRST.index(kinds[0]) >= BEST_FIRST.index(kinds[1]):
        return None
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
