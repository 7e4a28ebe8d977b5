"""A network compiled by OpenVINO and compared with PyTorch; what was compiled is kept for the next run.

OpenVINO has a cache of its own. It does not notice damage, though: with a few bytes changed it gave another picture
without a word. Here a checksum stands before what it wrote, and a file gets its name when it is whole.
"""

import hashlib
import os
import sys
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import openvino
import torch
from torch import Tensor

from engine.graphs import graph_of
from engine.layouts import AnyNetwork
from engine.openvino_models import halves, make_model, with_exact_input
from esrgan import RRDBNet
from imaging.console import UserError, note
from imaging.writing import replacing

HINTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2  # of values in 0..1, or as a share of the largest if that is more
PROBE = (24, 20)  # of the picture on which a network is compared
ANY = (-1, -1)
KEPT = 10  # networks in the folder; the one that was used longest ago goes first


class Compiled:
    """A network on a device of OpenVINO's: (N, C, H, W) → (N, C, scale·H, scale·W), float32.

    `size` is the height and width of its pictures; ANY for all. Raises whatever OpenVINO raises, and for ANY and PROBE
    UserError where it computes another picture than PyTorch.
    """

    def __init__(self, network: AnyNetwork, device: str, precision: torch.dtype, size: tuple[int, int] = ANY):
        self.graph, self.size = graph_of(network), size
        self.channels = self.graph.channels
        self.is_split = precision != torch.float32 and isinstance(network, RRDBNet)
        if self.is_split:
            self.graph = with_exact_input(self.graph)
        self.core, self.device, self.options = openvino.Core(), device, options(device, precision)
        kept = cache_folder() / f"{self.digest()}.blob"
        model = self.read(kept)
        self.was_kept = model is not None
        if model is None:
            model = self.core.compile_model(make_model(self.graph, size), device, self.options)
        if size in (ANY, PROBE):
            tell_precision(model, device, precision)
        self.request = model.create_infer_request()
        if not self.was_kept:
            if size in (ANY, PROBE):
                self.compare(network, precision)
            write(kept, model)

    def __call__(self, picture: Tensor) -> Tensor:
        if picture.shape[1] != self.channels:  # a network on grey restores each colour by itself
            return torch.cat([self(part) for part in picture.split(self.channels, dim=1)], dim=1)
        pixels = (halves(picture) if self.is_split else picture).contiguous().numpy()
        made = self.request.infer({0: pixels}, share_inputs=True, share_outputs=True)[0]
        return torch.from_numpy(made).clone()  # the next tile is written to the same place

    @torch.inference_mode()
    def compare(self, network: AnyNetwork, precision: torch.dtype) -> None:
        """Raises UserError where it computes another picture than PyTorch does in float32."""
        picture = torch.rand(1, self.channels, *PROBE, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", enabled=False):
            expected = network(picture)
        off = ((self(picture) - expected).abs().max() / expected.abs().max().clamp(min=1)).item()
        if not off <= (TOLERANCE if precision == torch.float32 else HALF_TOLERANCE):  # nor a number
            raise UserError(f"it computes another picture than PyTorch, by {off:.2g}")

    def digest(self) -> str:
        """A name for what is compiled: it is another for other weights, devices, settings and versions."""
        known_by = [openvino.__version__, self.core.get_property(self.device, "FULL_DEVICE_NAME")]
        known_by += [self.core.get_property(self.device, "OPTIMIZATION_CAPABILITIES"), self.options, self.size]
        digest = hashlib.sha256(repr(known_by).encode())
        for node in self.graph.nodes:
            digest.update(repr((node.kind, node.inputs, node.output, node.settings)).encode())
            for name, values in node.weights.items():
                digest.update(repr((name, values.shape)).encode() + values.tobytes())
        return digest.hexdigest()[:32]

    def read(self, path: Path) -> openvino.CompiledModel | None:
        """What an earlier run compiled; None if there is none that is whole."""
        with suppress(Exception):  # whatever is the matter with it, it can be compiled anew
            content = path.read_bytes()
            if hashlib.sha256(content[32:]).digest() == content[:32]:
                path.touch()  # it was used
                return self.core.import_model(content[32:], self.device, self.options)
        return None


def options(device: str, precision: torch.dtype) -> dict:
    """What OpenVINO is told besides the network."""
    chosen: dict = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[precision]}
    if device == "CPU":
        # Pinned, the threads of two programs at work would sit on the same cores.
        chosen["ENABLE_CPU_PINNING"] = False
        if "OMP_NUM_THREADS" in os.environ:  # a number that was set for PyTorch, as by torchrun
            chosen["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    return chosen


def tell_precision(model: openvino.CompiledModel, device: str, precision: torch.dtype) -> None:
    """Processors without bfloat16 compute in float32, whatever they are asked for."""
    if precision != torch.float32 and model.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32:
        note(f"OpenVINO computes in float32: {device} has no {str(precision).removeprefix('torch.')} here")


def cache_folder() -> Path:
    """Where programs keep such things for this user; where nothing can be kept if there is no home."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(os.devnull)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or home / "AppData/Local"
    elif sys.platform == "darwin":
        base = home / "Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or home / ".cache"
    return Path(base) / "super-resolution-course" / "openvino"


def write(path: Path, model: openvino.CompiledModel) -> None:
    """Keep what was compiled, if that is possible; and not more than KEPT of them."""
    with suppress(Exception):  # a device that gives nothing out, a disk that is full or takes nothing
        model.export_model(stream := BytesIO())
        content = stream.getvalue()
        with replacing(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
        for old in sorted(path.parent.glob("*.blob"), key=lambda one: -one.stat().st_mtime)[KEPT:]:
            old.unlink()
