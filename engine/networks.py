"""The networks: what each offers to its users, and how one is built and loaded."""

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from engine.ecbsr import ECBSR
from engine.layouts import AnyNetwork, class_of
from imaging.console import UserError


class Network(Protocol):
    """What a network offers, whatever it is made of; all lengths are in pixels of what it is given.

    A network of one's own is an nn.Module with these attributes, and a line in CLASSES and SHAPES: upscaling and
    measuring then take its checkpoints. To be trained it needs a name in engine/flags.py's MODELS and a preset in
    engine/settings.py too, and if `is_given_enlarged` what RestoringNetwork asks for. A kind is known by its name only
    where no other has such a thing: scales (RRDBNet's in engine/assembling.py), a stage before (esrgan's in
    engine/resume.py), an optimiser (SRCNN's in engine/updates.py).
    """

    luma: bool  # True: sees luma alone, (N, 1, H, W); False: RGB, (N, 3, H, W)
    scale: int  # how many times larger its output is than its input; on luma, 1 says that this is enlarged already
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


class RestoringNetwork(Network, Protocol):
    """What one that `is_given_enlarged` offers besides, to learn by."""

    def forward_valid(self, luma: Tensor) -> Tensor:
        """Only the pixels that see no border: (N, 1, H, W) → (N, 1, H − 2·radius, W − 2·radius)."""


def is_given_enlarged(network: Network | AnyNetwork) -> bool:
    """Whether it restores the luma of a picture that bicubic interpolation has enlarged, as SRCNN does."""
    return network.luma and network.scale == 1


def build_network(model: str, shape: dict) -> AnyNetwork:
    """An untrained network: `shape` holds the keyword arguments of its class."""
    return class_of(model, shape)(**shape)


def load_network(checkpoint: dict) -> AnyNetwork:
    """The network of a checkpoint with its best weights, ready to upscale. Raises UserError if they do not fit.

    One of many branches is folded: it can be used, and learns no more.
    """
    try:
        network = build_network(checkpoint["model"], checkpoint["shape"])
        network.load_state_dict({key: value.float() for key, value in checkpoint["params"].items()})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's weights fit no network here ({str(error).splitlines()[0]})") from error
    return (network.folded() if isinstance(network, ECBSR) else network).eval().requires_grad_(False)
