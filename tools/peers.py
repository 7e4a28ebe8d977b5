"""The same networks by other programs: ONNX Runtime and OpenVINO on a network's plain operations, bare.

What benchmark.py's section `peers` measures the program against. Each is left out where it is not installed.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from engine.graphs import graph_of
from engine.layouts import AnyNetwork
from engine.runtimes import Runtime
from engine.upscaling import Tiling, in_tiles, upscale


def by_onnxruntime(network: AnyNetwork) -> Callable[[Tensor], object]:
    """What computes a whole picture by ONNX Runtime, with as many threads as PyTorch has."""
    import onnxruntime

    from engine import onnx_files

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    model = onnx_files.make_model(graph_of(network), {}).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda picture: session.run(None, {"input": picture.numpy()})


def by_openvino(network: AnyNetwork, size: tuple[int, int], hint: str = "f32") -> Callable[[Tensor], object]:
    """What computes a whole picture of this size by OpenVINO, compiled for it."""
    import openvino

    from engine.openvino_models import make_model

    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if "OMP_NUM_THREADS" in os.environ:
        options["INFERENCE_NUM_THREADS"] = torch.get_num_threads()
    model = openvino.Core().compile_model(make_model(graph_of(network), size), "CPU", options)
    request = model.create_infer_request()
    return lambda picture: request.infer({0: picture.numpy()}, share_inputs=True, share_outputs=True)


def jobs(network: AnyNetwork, picture: Tensor, precision: str, whole: bool = False) -> dict[str, Callable[[], object]]:
    """Name → what computes the picture: by the peers, of which the first is the reference, and by this program.

    With `whole` by all of `upscale`, else by the network in tiles alone.
    """
    scale = 1 if network.luma else network.scale
    found: dict[str, Callable[[], object]] = {}
    if find_spec("openvino"):
        bare = by_openvino(network, tuple(picture.shape[-2:]), "bf16" if precision == "bf16" else "f32")
        found["OpenVINO"] = lambda: bare(picture)
    if find_spec("onnxruntime") and precision == "fp32":
        session = by_onnxruntime(network)
        found["ONNX Runtime"] = lambda: session(picture)
    for runtime in ("torch", "openvino")[: 1 + bool(find_spec("openvino"))]:
        ready, tiling = Runtime(precision=precision, wanted=runtime).ready(network), Tiling(precision=precision)
        work = upscale if whole else in_tiles
        found[f"here, {runtime}"] = lambda ready=ready, tiling=tiling, work=work: work(ready, picture, scale, tiling)
    return found
