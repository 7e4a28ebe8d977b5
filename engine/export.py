"""A network as a file for other programs, and each file checked against PyTorch before it gets its name.

model.onnx                      onnxruntime, browsers, phones
model.param and model.bin       ncnn: Upscayl, realesrgan-ncnn-vulkan
model.pth, model.safetensors    programs that know BasicSR's networks, such as chaiNNer
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from engine.checkpoints import model_name
from engine.ecbsr import ECBSR
from engine.graphs import graph_of
from engine.layouts import AnyNetwork
from engine.networks import is_given_enlarged
from esrgan import RRDBNet
from imaging.console import UsageError, UserError, note
from imaging.writing import check_writable, replacing
from srcnn import SRCNN

SUFFIXES = (".onnx", ".param", ".pth", ".safetensors")
TOLERANCE, HALF_TOLERANCE, NCNN_TOLERANCE = 1e-4, 1e-2, 1e-2  # of values in 0..1
UNCHECKED = "not compared with PyTorch, which needs a package more: pip install {}"


@dataclass(frozen=True)
class ExportSettings:
    """What the command line says about a file for other programs."""

    path: Path
    half: bool = False
    int8: bool = False
    photographs: tuple[Path, ...] = ()  # for the ranges of 8 bits


def export(network: AnyNetwork, checkpoint: dict, settings: ExportSettings) -> str:
    """Write a network, and return a line that says how exact the file is. Raises UsageError, UserError.

    `checkpoint` says where the network is from.
    """
    check_settings(settings)
    write = {".onnx": write_onnx, ".param": write_ncnn}.get(settings.path.suffix.lower(), write_weights)
    return write(network, metadata(network, checkpoint), settings)


def check_settings(settings: ExportSettings) -> None:
    """Raises UsageError for what does not go together, UserError where nothing can be written."""
    suffix = settings.path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"-o {settings.path}: its name must end in {', '.join(SUFFIXES)}")
    if settings.int8 and (suffix != ".onnx" or settings.half):
        raise UsageError("--int8: is for .onnx, and without --half")
    if settings.int8 != bool(settings.photographs):
        raise UsageError("--int8 and -i go together: the ranges of 8 bits are taken from photographs")
    if settings.half and suffix not in (".onnx", ".param"):
        raise UsageError(f"--half: is for .onnx and .param; {suffix} is always float32")
    for path in (settings.path, *((settings.path.with_suffix(".bin"),) if suffix == ".param" else ())):
        check_writable(path)


def metadata(network: AnyNetwork, checkpoint: dict) -> dict[str, str]:
    """What a program has to know of a network, as words."""
    grey = isinstance(network, RRDBNet) and network.colours == 1
    known = {
        "network": model_name(checkpoint),
        "scale": checkpoint["scale"],
        "colours": "luma" if network.luma else "grey" if grey else "rgb",
        "values": "0 to 1" + ("; luma of BT.601 in studio swing, 16/255 to 235/255" if network.luma else ""),
        "enlarged": "by bicubic interpolation" if is_given_enlarged(network) else "no",  # whether the input is already
        "radius": network.radius,
        "margin": network.margin,
        "multiple": network.fold,  # sides must divide by it
        "degradation": checkpoint["degradation"],
        "licence": checkpoint.get("licence", "unknown: ask where the file of weights came from"),
    }
    return {name: str(value) for name, value in known.items()}


@contextmanager
def needed() -> Iterator[None]:
    """Where an optional package is missing, one line says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"export needs a package that is not installed: pip install {(error.name or '').split('.')[0]}"
        ) from error


def check(difference: float, tolerance: float, program: str) -> str:
    """A line on how exact a file is. Raises UserError for one that is not."""
    if not difference <= tolerance:  # nor a number
        raise UserError(
            f"{program} computes another picture by it than PyTorch, by {difference:.2g}: nothing is written"
        )
    return f"{program} differs from PyTorch by {difference:.1e} at most"


@torch.inference_mode()
def largest_difference(run: Callable[[Tensor], Tensor], network: AnyNetwork, channels: int) -> float:
    """The largest difference of `run(picture)` from the network's own result, over even and odd sizes."""
    generator, fold = torch.Generator().manual_seed(0), network.fold
    found = 0.0
    for sides in ((16, 20), (13, 9), (37, 24)):
        height, width = (side - side % fold for side in sides)
        picture = torch.rand(1, channels, height, width, generator=generator)
        found = max(found, (run(picture) - network(picture)).abs().max().item())
    return found


# ---------------------------------------------------------------------------------------------
# One kind of file each
# ---------------------------------------------------------------------------------------------


def write_onnx(network: AnyNetwork, about: dict[str, str], settings: ExportSettings) -> str:
    """One .onnx file, in 8 bits if so asked."""
    with needed():
        from engine import onnx_files
    graph = graph_of(network)
    model = onnx_files.make_model(graph, about, settings.half)
    told = ""
    if settings.int8:
        with needed():
            from engine.quantising import quantise
        model, told = quantise(network, model, list(settings.photographs), about)
    with replacing(settings.path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        if settings.int8:
            return told
        if not find_spec("onnxruntime"):
            return UNCHECKED.format("onnxruntime")
        run = onnx_files.runner(temporary.read_bytes())
        difference = largest_difference(run, network, graph.channels)
        return check(difference, HALF_TOLERANCE if settings.half else TOLERANCE, "onnxruntime")


def write_ncnn(network: AnyNetwork, about: dict[str, str], settings: ExportSettings) -> str:
    """ncnn's two files."""
    from engine import ncnn_files

    graph = graph_of(network)
    if graph.channels == 1:
        note("works on one channel: Upscayl and realesrgan-ncnn-vulkan want networks on RGB")
    text, numbers = ncnn_files.make_pair(graph, settings.half)
    with replacing(settings.path) as param, replacing(settings.path.with_suffix(".bin")) as binary:
        param.write_text(text, encoding="ascii", newline="\n")
        binary.write_bytes(numbers)
        if not find_spec("ncnn"):
            return UNCHECKED.format("ncnn")
        run = partial(ncnn_files.run_pair, param, binary)
        difference = largest_difference(run, network, graph.channels)
        return check(difference, NCNN_TOLERANCE, "ncnn")


def write_weights(network: AnyNetwork, about: dict[str, str], settings: ExportSettings) -> str:
    """The weights alone, in float32 by BasicSR's names."""
    if isinstance(network, SRCNN):
        raise UsageError(f"-o {settings.path}: SRCNN has no layout that other programs know: give a name in .onnx")
    state = {name: weight.detach().cpu().float().contiguous() for name, weight in network.state_dict().items()}
    with replacing(settings.path) as temporary:
        if settings.path.suffix.lower() == ".pth":
            torch.save({"params": state}, temporary)
        else:
            with needed():
                from safetensors.torch import save
            temporary.write_bytes(save(state, {**about, "format": "pt"}))
    if isinstance(network, ECBSR):
        return "float32, as BasicSR's SRVGGNetCompact with one channel, which is the same network"
    return "float32, by BasicSR's names"
