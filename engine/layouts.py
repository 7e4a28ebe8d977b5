"""What network a file holds, told by its tensors alone, in the names and wrappings of many programs.

    find_network(head)            what it is, and where in the file its weights lie; values are not needed for that
    recognise(loaded)             the same with the weights, in float32 and with BasicSR's names of parameters

A name of a file promises nothing. No network is built but on the meta device, and only as large as the tensors are.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from engine.contents import Made
from engine.ecbsr import ECBSR
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UserError, printable
from imaging.images import psnr, resize
from srcnn import SRCNN

AnyNetwork = SRCNN | RRDBNet | SRVGGNetCompact | ECBSR  # each is an nn.Module too, which a Protocol cannot say
CLASSES: dict[str, type[AnyNetwork]] = {"srcnn": SRCNN, "rrdb": RRDBNet, "srvgg": SRVGGNetCompact, "ecbsr": ECBSR}
KINDS = (*CLASSES, "esrgan")  # what `-m` names: ESRGAN is the second stage of an RRDB or of an SRVGG

# More than any network that is known, and little enough to be built in a moment.
LIMITS = {"features": 1024, "growth": 1024, "blocks": 100, "convolutions": 500}
MAX_KERNEL = 31


def generator_of(model: str, shape: dict) -> str:
    """Whose layers a network has: ESRGAN's generator is RRDB, or SRVGG where its shape says so; else its own."""
    if model != "esrgan":
        return model
    return "srvgg" if "convolutions" in shape else "rrdb"


def class_of(model: str, shape: dict) -> type[AnyNetwork]:
    """The class of a kind of network; of ESRGAN that of its generator."""
    return CLASSES[generator_of(model, shape)]


# ---------------------------------------------------------------------------------------------
# Where the weights lie
# ---------------------------------------------------------------------------------------------

# What programs call a network in a file, as an entry or before every name. Where there are several the first counts:
# weights averaged over training (EMA) are the better ones.
WRAPPERS = (
    "params_ema", "params-ema", "ema_params", "generator_ema", "net_g_ema", "netG_ema", "g_ema", "G_ema", "model_ema",
    "ema_model", "ema_state_dict", "state_dict_ema", "ema", "params", "model_state_dict", "state_dict", "weights",
    "generator", "net_g", "netG_A", "netG", "network", "online_model", "model", "net",
)  # fmt: skip
# What DataParallel, averaging and torch.compile write before every name. A number after a name is a layer.
PREFIX = re.compile(rf"({'|'.join(WRAPPERS)}|module|_orig_mod)(?:\.(?!\d)|\Z)")
MAX_DEPTH, MAX_PLACES = 6, 8
MAX_SHARED = 2**24  # bytes that tensors may have in common

# Beside the weights: what counts operations (thop), steps and averages.
COUNTERS = {"total_ops", "total_params", "n_averaged", "num_batches_tracked", "num_updates", "decay", "initted", "step"}

Place = tuple[str, ...]  # the wrappers around a network
Path = tuple[Any, ...]  # of the keys that lead to a tensor


@dataclass
class Places:
    """The tensors of a file by the wrappers around them."""

    tensors: dict[Place, dict[str, Tensor]] = field(default_factory=dict)
    paths: dict[Place, dict[str, Path]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)  # pickled as objects, where weights are looked for
    seen: set[int] = field(default_factory=set)

    def walk(self, entries: dict, place: Place = (), path: Path = ()) -> None:
        """Take in a dictionary and those in it. Each counts once, wherever it is mentioned."""
        if id(entries) in self.seen or len(path) > MAX_DEPTH:
            return
        self.seen.add(id(entries))
        for key, value in entries.items():
            wrappers, name = split_name(key if isinstance(key, str) else "0")  # numbers name no weights
            inner = place + wrappers
            if isinstance(value, dict) and not name:
                self.walk(value, inner, (*path, key))
            elif isinstance(value, Made) and not name:
                self.modules.append(value.name)
            elif isinstance(value, Tensor) and name:
                if name in self.tensors.setdefault(inner, {}):
                    raise UserError(f"holds two tensors that are called {printable(name)}")
                self.tensors[inner][name] = value
                self.paths.setdefault(inner, {})[name] = (*path, key)


def split_name(key: str) -> tuple[Place, str]:
    """("generator",) and "conv_first.weight" of "generator.module.conv_first.weight"."""
    place = []
    while found := PREFIX.match(key):
        key = key[found.end() :]
        if found[1] in WRAPPERS:
            place.append(found[1])
    return tuple(place), key


def preference(place: Place) -> tuple[int, int]:
    """Sorts places: the one to look into first has the least."""
    return min((WRAPPERS.index(wrapper) for wrapper in place), default=len(WRAPPERS)), -len(place)


# ---------------------------------------------------------------------------------------------
# What network it is
# ---------------------------------------------------------------------------------------------


@dataclass
class Found:
    """A network in a file."""

    model: str
    shape: dict  # its class's keyword arguments
    paths: dict[str, Path]  # name of parameter → where it lies
    remark: str = ""  # which was taken, where there was a choice

    def weights(self, loaded) -> dict[str, Tensor]:
        """Its parameters in float32. Raises UserError for values that are none."""
        tensors = {name: find(loaded, path) for name, path in self.paths.items()}
        check_tensors(tensors)
        weights = {name: tensor.detach().float() for name, tensor in tensors.items()}
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise UserError(f"is spoilt: {name} holds values that are not numbers (NaN or infinite)")
        return weights


def recognise(loaded) -> tuple[str, dict, dict[str, Tensor]]:
    """("rrdb" or "srvgg", its class's keyword arguments, float32 weights in BasicSR's names) of a loaded file.

    Raises UserError that says what was found instead.
    """
    found = find_network(loaded)
    return found.model, found.shape, found.weights(loaded)


def find_network(loaded) -> Found:
    """The network in what a file holds, with or without values. Raises UserError that says what was found instead."""
    if not isinstance(loaded, dict):
        raise UserError(f"holds no state dict but a {type(loaded).__name__}")
    places = Places()
    places.walk(loaded)
    if not places.tensors:
        if places.modules:
            raise UserError(
                f"holds a whole module, pickled ({printable(places.modules[0])}), which could run code: "
                "save its state_dict() instead"
            )
        entries = ", ".join(printable(key) for key in list(loaded)[:5])
        raise UserError(f"holds no tensors, only {entries or 'an empty dictionary'}")
    ranked = sorted(places.tensors, key=preference)[:MAX_PLACES]
    reason: UserError | None = None
    for place in ranked:
        try:
            model, shape, names = identify(places.tensors[place])
        except UserError as error:
            reason = reason or error
            continue
        paths = {name: places.paths[place][old] for name, old in names.items()}
        alike = [other for other in ranked if other != place and places.tensors[other].keys() & names.values()]
        remark = f"{label(place)} is taken, not {', '.join(map(label, alike))}" if alike else ""
        if ranked[0] in alike:
            remark += f", which {reason}"
        return Found(model, shape, paths, remark)
    assert reason
    raise reason


def label(place: Place) -> str:
    """What a place is called."""
    return ".".join(place) or "what has no name"


def identify(state: dict[str, Tensor]) -> tuple[str, dict, dict[str, str]]:
    """Model, shape and, by BasicSR's names, the names of the parameters in a state dict.

    Raises UserError that says what is there instead of a network that can be built here.
    """
    if any(re.search(r"RDB\d\.conv1x1", name, re.IGNORECASE) for name in state):
        raise UserError("is an ESRGAN+ network (it has conv1x1 in its dense blocks), which cannot be built here")
    names = basicsr_names(state)
    tensors = {name: state[old] for name, old in names.items()}
    model = "srvgg" if "body.0.weight" in tensors else "rrdb"
    try:
        shape = srvgg_shape(tensors) if model == "srvgg" else rrdb_shape(tensors)
        network = on_meta(model, shape)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"is no RRDB or SRVGG network that can be built here: it holds {described(state)}") from error
    check_sizes(model, network, tensors)
    return model, network.shape, {name: names[name] for name in network.state_dict()}


def check_sizes(model: str, network: AnyNetwork, tensors: dict[str, Tensor]) -> None:
    """Raises UserError where a network's parameters and a file's tensors are not the same, but for counters."""
    expected = network.state_dict()
    for name in {**expected, **tensors}:
        if name not in expected and name.split(".")[-1] in COUNTERS and tensors[name].numel() == 1:
            continue
        if size(expected, name) != size(tensors, name):
            raise UserError(
                f"looks like {model} {network.shape}, but {printable(name)} is {size(tensors, name)} in it, "
                f"not {size(expected, name)}"
            )
        if not tensors[name].is_floating_point():
            raise UserError(f"holds {tensors[name].dtype} in {name}, no floating point: is it a quantised network?")


class _WithoutStart(TorchFunctionMode):
    """Leaves out the random start of a network that has no values: on the meta device it takes seconds."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        if getattr(function, "__name__", "") in ("kaiming_uniform_", "uniform_", "normal_", "constant_"):
            return None
        return function(*arguments, **(options or {}))


def on_meta(model: str, shape: dict) -> AnyNetwork:
    """A network of names and shapes alone, which takes no memory. Raises ValueError for one that is too large."""
    for name, limit in LIMITS.items():
        if not 1 <= shape.get(name, 1) <= limit:
            raise ValueError(f"{name} {shape[name]}")
    if model == "srcnn":  # it is small, and computes how it starts, for which the meta device is slow
        with torch.random.fork_rng(devices=[]):
            return SRCNN(**shape)
    with torch.device("meta"), _WithoutStart():
        return class_of(model, shape)(**shape)


def size(state: dict[str, Tensor], name: str) -> str:
    """The sides of a tensor."""
    return printable("×".join(map(str, state[name].shape)) or "a number") if name in state else "missing"


def described(state: dict[str, Tensor]) -> str:
    """What an unknown state dict looks like, short enough for one line."""
    first = ", ".join(f"{printable(name)} ({size(state, name)})" for name in list(state)[:3])
    families = sorted({name.split(".")[0] for name in state})
    named = ", ".join(printable(family, 20) for family in families[:8])
    return f"{len(state)} tensors named {named}{' …' if families[8:] else ''}, the first {first}"


# ---------------------------------------------------------------------------------------------
# Names of parameters
# ---------------------------------------------------------------------------------------------

# The oldest ESRGAN, RRDBNet as one long nn.Sequential, and most models of the community. Its convolutions outside
# the blocks have numbers only, which depend on the scale: see `basicsr_names`.
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


def basicsr_names(state: dict[str, Tensor]) -> dict[str, str]:
    """BasicSR's name → the name in a state dict, which may be in an older layout."""
    # A Sequential without a name of its own begins with numbers.
    full = {name: f"model.{name}" if re.match(r"\d+\.", name) else name for name in state}
    # The row of numbered convolutions in the oldest layout: the first, one for each doubling, and the last two.
    numbers = sorted(
        {int(name.split(".")[1]) for name in full.values() if re.fullmatch(r"model\.\d{1,6}\.weight", name)}
    )
    row = ["conv_first", *(f"conv_up{index}" for index in range(1, len(numbers) - 2)), "conv_hr", "conv_last"]
    numbered = {f"model.{number}": name for number, name in zip(numbers, row, strict=False)} if numbers[2:] else {}
    names: dict[str, str] = {}
    for old, name in full.items():
        layer, _, parameter = name.rpartition(".")
        new = f"{numbered[layer]}.{parameter}" if layer in numbered else renamed(name)
        if new in names:
            raise UserError(f"holds two tensors for {printable(new)}: {printable(old)} and {printable(names[new])}")
        names[new] = old
    return names


def renamed(name: str) -> str:
    """BasicSR's name of a parameter outside the row of numbers."""
    for pattern, new in {**OLDEST_NAMES, **REPOSITORY_NAMES}.items():
        if re.match(pattern, name):
            return re.sub(pattern, new, name, count=1)
    return name


# ---------------------------------------------------------------------------------------------
# Shapes of networks
# ---------------------------------------------------------------------------------------------


def rrdb_shape(state: dict[str, Tensor]) -> dict:
    """RRDBNet's keyword arguments. An RRDB ×3 has one up-convolution, as ×2 has: it is taken for ×2."""
    features, channels = state["conv_first.weight"].shape[:2]
    colours = state["conv_last.weight"].shape[0]
    fold = {(3, 3): 1, (12, 3): 2, (48, 3): 4, (1, 1): 1}[channels, colours]  # pixel-unshuffle makes so many of three
    doublings = sum(bool(re.fullmatch(r"conv_up\d\.weight", name)) for name in state)
    shape = {
        "scale": 2**doublings // fold,
        "features": features,
        "growth": state["body.0.rdb1.conv1.weight"].shape[0],
        "blocks": sum(bool(re.fullmatch(r"body\.\d+\.rdb1\.conv1\.weight", name)) for name in state),
        "unshuffle": fold > 1,
    }
    return shape if colours == 3 else {**shape, "colours": colours}


def srvgg_shape(state: dict[str, Tensor]) -> dict:
    """SRVGGNetCompact's keyword arguments: convolutions and activations take turns, 3·scale² channels come out.

    ReLU and LeakyReLU have no weights and cannot be told apart by shapes: see `likelier_activation`.
    """
    layers = {name: value for name, value in state.items() if re.fullmatch(r"body\.\d+\.weight", name)}
    slopes = [value.numel() for value in layers.values() if value.ndim < 2]
    convolutions = len(layers) - len(slopes)
    features = state["body.0.weight"].shape[0]
    last = state[f"body.{2 * convolutions - 2}.weight"]
    shape = {"scale": math.isqrt(last.shape[0] // 3), "features": features, "convolutions": convolutions - 2}
    if not slopes:
        return {**shape, "activation": "leaky relu"}
    return {**shape, "activation": "shared prelu"} if set(slopes) == {1} and features > 1 else shape


def srcnn_shape(state: dict[str, Tensor]) -> dict:
    """SRCNN's keyword arguments."""
    kernels = [state[f"{layer}.weight"].shape[-1] for layer in ("extract", "map", "reconstruct")]
    if max(kernels) > MAX_KERNEL or not all(kernel % 2 for kernel in kernels):
        raise ValueError(f"kernels {kernels}")
    return {"kernels": kernels}


def ecbsr_shape(state: dict[str, Tensor]) -> dict:
    """ECBSR's keyword arguments: blocks and activations take turns, scale² channels come out."""
    blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv\.weight", name)) for name in state)
    last = state[f"body.{2 * blocks - 2}.conv.weight"]
    return {"scale": math.isqrt(last.shape[0]), "features": last.shape[1], "blocks": blocks - 2}


# ---------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------


def find(loaded, path: Path) -> Any:
    """What lies at the end of a path of keys."""
    for key in path:
        loaded = loaded[key]
    return loaded


def check_tensors(tensors: dict[str, Tensor]) -> None:
    """Raises UserError for tensors without plain values of their own: few of them could fill any memory as many."""
    stored, needed = {}, 0
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise UserError(f"is damaged: {name} is no tensor of plain values")
        storage = tensor.untyped_storage()
        stored[storage.data_ptr()] = storage.nbytes()
        needed += tensor.numel() * tensor.itemsize
    if needed > sum(stored.values()) + MAX_SHARED:
        raise UserError("says that its tensors hold more than the file does")


@torch.inference_mode()
def likelier_activation(shape: dict, weights: dict[str, Tensor]) -> str:
    """ReLU or LeakyReLU, which leave no trace in a file: the one by which SRVGG restores a drawn picture better."""
    high = drawn_picture(24 * shape["scale"])
    low = resize(high, size=(24, 24))
    scores = {}
    for activation in ("leaky relu", "relu"):
        network = SRVGGNetCompact(**{**shape, "activation": activation})
        network.load_state_dict(weights)
        scores[activation] = psnr(network(low).clamp(0, 1), high).item()
    return max(scores, key=lambda activation: scores[activation])


def drawn_picture(side: int) -> Tensor:
    """Soft waves and a hard-edged disc, (1, 3, side, side) in 0..1."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    waves = torch.stack([0.5 + 0.2 * torch.sin(angle * rows + 5 * columns) for angle in (3, 5, 7)])
    return torch.where(rows**2 + columns**2 < 0.3, 1 - waves, waves)[None]
