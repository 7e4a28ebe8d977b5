"""Networks on disk: one file each, written whole or not at all, and safe to open.

A checkpoint is a dictionary of plain values and state dicts, read with `weights_only=True`, so that
opening a stranger's file runs none of the stranger's code:

    format 1 · model · scale · degradation · shape      what network this is, enough to build it again
    date · licence · history                            where it comes from
    params                                              the best weights so far: what upscaling uses
    training                                            what is needed to go on: see training.py
"""

import math
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor, nn

from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError, note, replacing, unused
from srcnn import SRCNN

FORMAT = 1
ENTRIES = {"model", "scale", "degradation", "shape", "date", "history", "params"}
MODELS = Path("models")  # what is trained here
PRETRAINED = Path(__file__).parents[1] / "models" / "pretrained"  # what ships with the program
LICENCE = "These weights belong to whoever trained them; the pictures they were trained on may have terms of their own."


def now() -> str:
    """The date and time as they stand in names of files: sortable, without a colon, which Windows forbids."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def model_name(checkpoint: dict) -> str:
    """srcnn, or srcnn-real where it was trained on the degradation of real pictures."""
    return checkpoint["model"] + ("" if checkpoint["degradation"] == "bicubic" else f"-{checkpoint['degradation']}")


def new_path(checkpoint: dict) -> Path:
    """models/srcnn_x2.2026-01-31_12-00-00.pt, a name that no file has yet."""
    return unused(MODELS / f"{model_name(checkpoint)}_x{checkpoint['scale']}.{now()}.pt")


def save_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint; the file that was there before stays whole until this one is. Raises UserError."""
    with replacing(path) as temporary:
        try:
            torch.save(
                {"format": FORMAT, "licence": LICENCE, **checkpoint, "date": datetime.now().isoformat()}, temporary
            )
        except RuntimeError as error:  # torch reports a failed write this way, a full disk above all
            raise OSError(None, str(error).splitlines()[0]) from error


def load_checkpoint(path) -> dict:
    """Read a checkpoint of this project, or weights in a published layout as a checkpoint without a history.

    Raises UsageError for no file, UserError for a file that is neither or is damaged.
    """
    try:
        loaded = read_weights(path)
        if not isinstance(loaded, dict) or "format" not in loaded:
            model, shape, params = recognise(loaded)
            return {
                "model": model, "scale": shape["scale"], "degradation": "bicubic", "shape": shape,
                "params": params, "history": [], "date": "",
            }  # fmt: skip
        if loaded["format"] != FORMAT:
            raise UserError(f"has format {loaded['format']}; this program reads format {FORMAT}")
        if missing := ENTRIES - loaded.keys():
            raise UserError(f"is not a whole checkpoint: it has no {', '.join(sorted(missing))}")
        return loaded
    except UserError as error:
        raise type(error)(f"{path}: {error}") from error


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


def find_latest(folder: Path, measured: bool = False, **wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in a folder whose entries are as `wanted`, for instance model="srcnn", scale=2.

    With `measured`, only those that have been through an epoch at least: earlier ones are no use but to go on.
    """
    found = _fitting(folder, wanted)
    if measured:
        found = ((path, one) for path, one in found if "training" not in one or one["history"])
    return max(found, key=lambda pair: pair[1]["date"], default=None)


def find_trained(**wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in models/ that is as `wanted` and has been measured, else the best that ships.

    Of its scales the largest: a result that is too large is easier to mend than one that is too small.
    """

    def rank(found: tuple[Path, dict]) -> tuple[int, int]:
        kind = found[1]["model"], found[1]["degradation"]
        return BEST_FIRST.index(kind) if kind in BEST_FIRST else len(BEST_FIRST), -found[1]["scale"]

    return find_latest(MODELS, measured=True, **wanted) or min(_fitting(PRETRAINED, wanted), key=rank, default=None)


def _fitting(folder: Path, wanted: dict) -> Iterator[tuple[Path, dict]]:
    """The checkpoints in a folder whose entries are as `wanted`, by name; one at a time, for they may be large.

    Files that cannot be opened are named and passed over; a file of another program is none of ours.
    """
    for path in sorted(folder.glob("*.pt")):
        if not re.search(r"_x\d+\.", path.name):  # a file of another program
            continue
        try:
            checkpoint = load_checkpoint(path)
        except UserError as error:
            note(f"passed over: {error}")
            continue
        if all(checkpoint.get(key) == value for key, value in wanted.items()):
            yield path, checkpoint


# ---------------------------------------------------------------------------------------------
# Published key layouts: other programs' files, and what BasicSR calls the parameters in them
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

    Judged by the tensors alone, never by a name of a file. Raises UserError that says what was found instead.
    """
    found = unwrap(loaded)
    if any(re.search(r"RDB\d\.conv1x1", key, re.IGNORECASE) for key in found):
        raise UserError("is an ESRGAN+ network (it has conv1x1 in its dense blocks), which cannot be built here")
    state = _renamed(found)
    try:
        if "body.0.weight" in state:
            model, network, shape = "srvgg", SRVGGNetCompact, _srvgg_shape(state)
        else:
            model, network, shape = "rrdb", RRDBNet, _rrdb_shape(state)
        with torch.device("meta"):  # names and shapes only, no memory
            wanted = network(**shape).state_dict()
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"is no RRDB or SRVGG network that can be built here: it holds {_described(found)}") from error
    for key in {**wanted, **state}:
        if _size(wanted, key) != _size(state, key):
            raise UserError(
                f"looks like {model} {shape}, but {key} is {_size(state, key)} in it, not {_size(wanted, key)}"
            )
    return model, shape, {key: state[key].float() for key in wanted}


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
