"""The networks that can be used: built, loaded, and chosen by name."""

from pathlib import Path

from torch import nn

from engine.checkpoints import MODELS, PRETRAINED, _fitting, find_latest
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UserError
from srcnn import SRCNN


def build_network(model: str, shape: dict) -> nn.Module:
    """An untrained network: `shape` holds the keyword arguments of its class."""
    return {"srcnn": SRCNN, "rrdb": RRDBNet, "esrgan": RRDBNet, "srvgg": SRVGGNetCompact}[model](**shape)


def load_network(checkpoint: dict) -> nn.Module:
    """The network of a checkpoint with its best weights, ready to upscale. Raises UserError if they do not fit."""
    try:
        network = build_network(checkpoint["model"], checkpoint["shape"])
        network.load_state_dict({key: value.float() for key, value in checkpoint["params"].items()})
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's weights fit no network here ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


# What ships, the best for an ordinary photograph first. On clean pictures RRDB leads SRVGG by 0.5 dB and SRCNN by 1.2;
# four saved as JPEG of quality 85 came back with 30.4, 30.6 and 30.6 dB (bicubic 30.0), by ESRGAN, which takes blocks
# for texture, with 29.5, and by those for poor pictures, which paint, with 28.9, 27.0 and 29.1.
BEST_FIRST = (
    ("rrdb", "bicubic"), ("esrgan", "bicubic"), ("srvgg", "bicubic"),
    ("rrdb", "real"), ("esrgan", "real"), ("srvgg", "real"), ("srcnn", "bicubic"),
)  # fmt: skip


def find_trained(**wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in models/ that is as `wanted` and has been measured, else the best that ships.

    Of its scales the largest: a result that is too large is easier to mend than one that is too small.
    """

    def rank(found: tuple[Path, dict]) -> tuple[int, int]:
        kind = found[1]["model"], found[1]["degradation"]
        return BEST_FIRST.index(kind) if kind in BEST_FIRST else len(BEST_FIRST), -found[1]["scale"]

    return find_latest(MODELS, measured=True, **wanted) or min(_fitting(PRETRAINED, wanted), key=rank, default=None)
