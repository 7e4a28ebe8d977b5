"""What computes a network: PyTorch, or OpenVINO where it is installed, which is faster on most processors.

    runtime = choose_runtime("auto", "auto", None, cpu=False)    # what --runtime, --precision, --device and --cpu say
    network = runtime.ready(network)                             # offers what it offered

OpenVINO gets a network as engine/graphs.py writes it down, in memory, once for pictures of all sizes: on processors it
computes those as fast as pictures of the one size that a model was compiled for. Whatever fails in it is told in one
line, and PyTorch goes on. `import openvino` takes a second and waits for the first tile.
"""

import math
import platform
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn

from engine.devices import choose_device, choose_precision
from engine.ecbsr import ECBSR
from engine.layouts import AnyNetwork
from engine.networks import Network
from esrgan import RRDBNet, SRVGGNetCompact, pad_to_multiple
from imaging.console import UsageError, UserError, note
from imaging.images import size_of
from srcnn import SRCNN

PROCESSOR = "CPU"  # as OpenVINO calls it
OTHER_DEVICES = ("GPU", "NPU")  # Intel's

# The kinds of networks that `auto` gives to OpenVINO, by precision: those that were faster than by PyTorch and within
# 0.01 dB of float32 on Set5, in bfloat16 by a simulation of its rounding. (lessons/SPEED.md has the figures.)
FASTER = {"fp32": (SRCNN, SRVGGNetCompact, RRDBNet, ECBSR), "bf16": (SRVGGNetCompact, RRDBNet)}
LEAST_SCALE = 4  # of RRDB in bfloat16: ×2 is so near to the truth that the rounding of its results counts
# These carry the picture itself through all layers. PyTorch keeps the outermost in float32, OpenVINO would round them.
IN_FLOAT32 = (SRCNN, ECBSR)
TILE = 768  # of networks whose maps are as large as what they see: SRVGG takes 0.80 of the time for tiles of 256
LARGEST_MAPS = 352**2 * 4**2 * 32  # values of one layer: 0.25 GB in float32
MIN_TILE = 32
MOST_COMPILED = 10  # of one network, for several sizes of tiles


def is_installed() -> bool:
    """Whether there is a package openvino; it is not imported."""
    return find_spec("openvino") is not None


def choose_runtime(wanted: str, precision: str, device: str | None, cpu: bool) -> "Runtime":
    """What `--runtime`, `--precision`, `--device` and `--cpu` name. Raises UsageError, UserError."""
    if device and (cpu or wanted == "torch"):
        raise UsageError(f"--device {device}: is for OpenVINO: leave out --cpu and --runtime torch")
    if (device or wanted == "openvino") and not is_installed():
        flag = f"--device {device}" if device else "--runtime openvino"
        raise UserError(f"{flag} needs a package that is not installed: pip install openvino")
    if device:
        return Runtime(torch.device("cpu"), "fp16" if precision == "auto" else precision, "openvino", seen(device))
    chosen = choose_device(cpu or wanted == "openvino")
    return Runtime(chosen, choose_precision(precision, chosen), wanted)


def seen(device: str) -> str:
    """`device`, if OpenVINO sees it on this machine. Raises UsageError."""
    try:
        import openvino

        there = openvino.Core().available_devices
    except Exception as error:  # an installation that is broken
        raise UserError(f"--device {device}: OpenVINO cannot be used ({last_line(error)})") from error
    if device not in {name.split(".")[0] for name in there}:  # several are called GPU.0, GPU.1
        raise UsageError(f"--device {device}: OpenVINO sees no such device here, only {', '.join(there)}")
    return device


def last_line(error: Exception) -> str:
    """What went wrong; OpenVINO's messages begin with places in its source."""
    return ([line for line in str(error).splitlines() if line.strip()] or [type(error).__name__])[-1].strip()


@dataclass(frozen=True)
class Runtime:
    """Where and how networks are computed."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # PyTorch's
    precision: str = "fp32"
    wanted: str = "torch"  # or "openvino", or "auto": whichever is faster for a kind of network
    accelerator: str = PROCESSOR  # OpenVINO's device

    def __str__(self) -> str:
        name = self.device if self.accelerator == PROCESSOR else f"Intel {self.accelerator}"
        return f"{name} ({self.precision})"

    def ready(self, network: AnyNetwork) -> AnyNetwork:
        """The network on its device, or one that has OpenVINO compute it."""
        network = network.to(self.device)
        return cast(AnyNetwork, OpenVINONetwork(network, self.accelerator)) if self.is_openvino(network) else network

    def is_openvino(self, network: AnyNetwork) -> bool:
        """Whether OpenVINO computes it. `auto` knows processors of the x86 kind, on which it was measured."""
        if self.wanted != "auto":
            return self.wanted == "openvino"
        if self.precision != "fp32" and isinstance(network, RRDBNet) and network.scale < LEAST_SCALE:
            return False
        is_known = self.device.type == "cpu" and platform.machine().lower() in ("x86_64", "amd64")
        return is_known and isinstance(network, FASTER.get(self.precision, ())) and is_installed()


def tile_of(network: nn.Module) -> int:
    """Pixels a side of a tile: the larger, the less is computed twice.

    An RRDB's last feature maps are as large as the result, and OpenVINO holds three of them whole, where PyTorch
    computes a few rows at a time.
    """
    if not isinstance(network, RRDBNet):
        return TILE
    largest = math.isqrt(LARGEST_MAPS // (network.conv_hr.out_channels * network.scale**2))
    return min(network.tile, max(MIN_TILE, largest))


class OpenVINONetwork(nn.Module):
    """A network that offers what `network` does and is computed by OpenVINO, as long as that works.

    Under autocast it computes in half precision, as PyTorch would.
    """

    def __init__(self, network: nn.Module, device: str = PROCESSOR):
        super().__init__()
        self.network = network
        inner = cast(Network, network)
        self.luma, self.scale, self.shape = inner.luma, inner.scale, inner.shape
        self.radius, self.margin, self.fold = inner.radius, inner.margin, inner.fold
        self.tile = tile_of(network)
        self.device = device
        self.compiled: dict = {}
        self.works = True

    def forward(self, picture: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu")
        precision = torch.get_autocast_dtype("cpu") if half else torch.float32
        if self.works:
            try:
                return self.computed(picture, precision)
            except Exception as error:  # anything at all: drivers, memory, another version than those that are known
                self.works = False
                note(f"OpenVINO fails, and PyTorch goes on: {last_line(error)}")
        with torch.autocast("cpu", enabled=precision == torch.bfloat16):  # processors do not compute in float16
            return self.network(picture)

    def computed(self, picture: Tensor, precision: torch.dtype) -> Tensor:
        """The restored picture by OpenVINO."""
        height, width = picture.shape[-2:]
        whole = pad_to_multiple(picture, self.fold)
        if isinstance(self.network, IN_FLOAT32) and self.device == PROCESSOR:
            precision = torch.float32
        return self.run_for(precision, size_of(whole))(whole)[..., : self.scale * height, : self.scale * width]

    def run_for(self, precision: torch.dtype, size: tuple[int, int]):
        """What is compiled for pictures of this size, after it has been compared with PyTorch."""
        from engine.openvino_runs import ANY, PROBE, Compiled

        sizes = [ANY] if self.device == PROCESSOR else [PROBE, size]  # NPUs know pictures of one size alone
        for one in sizes:
            if (precision, one) not in self.compiled:
                if len(self.compiled) > MOST_COMPILED:
                    self.compiled.clear()
                network = cast(AnyNetwork, self.network)
                self.compiled[precision, one] = Compiled(network, self.device, precision, one)
        return self.compiled[precision, sizes[-1]]
