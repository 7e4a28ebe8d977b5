"""A graph as ncnn's pair of files: the text of NAME.param and the numbers of NAME.bin.

https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure. Blobs are called as Upscayl and
realesrgan-ncnn-vulkan expect it: `data` goes in and `output` comes out.
"""

import struct
from collections import Counter
from pathlib import Path

import numpy
import torch
from torch import Tensor

from engine.graphs import INPUT, OUTPUT, Graph, Node
from imaging.console import UserError

MAGIC = 7767517
FLOAT16, FLOAT32 = 0x01306B47, 0  # what stands before the weights of a convolution
DATA = "data"


def make_pair(graph: Graph, half: bool = False) -> tuple[str, bytes]:
    """The text and the numbers; with `half` filters are stored in float16."""
    uses = Counter(name for node in graph.nodes for name in node.inputs)
    lines = [f"Input {DATA} 0 1 {DATA}"]
    blobs = 1
    waiting: dict[str, list[str]] = {}  # what a split has made of a blob for each of its users
    numbers = []

    def split(name: str) -> None:
        nonlocal blobs
        if uses[name] > 1:  # a blob has one user in ncnn
            blob = DATA if name == INPUT else name
            waiting[name] = [f"{blob}_{number}" for number in range(uses[name])]
            lines.append(f"Split split_{blob} 1 {uses[name]} {blob} {' '.join(waiting[name])}")
            blobs += uses[name]

    split(INPUT)
    for node in graph.nodes:
        inputs = [waiting[name].pop(0) if name in waiting else DATA if name == INPUT else name for name in node.inputs]
        kind, settings = ncnn_layer(node)
        said = " ".join(f"{name}={value}" for name, value in settings.items())
        lines.append(f"{kind} {node.output} {len(inputs)} 1 {' '.join(inputs)} {node.output} {said}".rstrip())
        numbers.append(ncnn_numbers(node, half))
        blobs += 1
        split(node.output)
    return "\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n", b"".join(numbers)


def ncnn_layer(node: Node) -> tuple[str, dict]:
    """What ncnn calls an operation, and its settings by number."""
    settings, weights = node.settings, node.weights
    factor = settings.get("factor", 1)
    if node.kind == "conv":
        outputs, _, side, _ = weights["weight"].shape
        return "Convolution", {0: outputs, 1: side, 4: settings["padding"], 5: 1, 6: weights["weight"].size}
    if node.kind == "replicate":
        return "Padding", {number: settings["border"] for number in range(4)} | {4: 1}
    return {
        "prelu": lambda: ("PReLU", {0: weights["slopes"].size}),
        "leaky": lambda: ("ReLU", {0: settings["slope"]}),
        "relu": lambda: ("ReLU", {}),
        "concat": lambda: ("Concat", {0: 0}),
        "shuffle": lambda: ("PixelShuffle", {0: factor}),
        "unshuffle": lambda: ("Reorg", {0: factor, 1: 1}),
        "nearest": lambda: ("Interp", {0: 1, 1: f"{factor:.1f}", 2: f"{factor:.1f}"}),
        "add": lambda: ("Eltwise", {0: 1, -23301: f"2,1.0,{factor:.6f}"}),
    }[node.kind]()


def ncnn_numbers(node: Node, half: bool) -> bytes:
    """The weights of an operation as they follow each other in the file; filters alone say of which kind they are."""
    if node.kind == "prelu":
        return node.weights["slopes"].astype("<f4").tobytes()
    if node.kind != "conv":
        return b""
    filters = node.weights["weight"].astype("<f2" if half else "<f4").tobytes()
    filters += b"\0" * (-len(filters) % 4)
    return struct.pack("<I", FLOAT16 if half else FLOAT32) + filters + node.weights["bias"].astype("<f4").tobytes()


def run_pair(param: Path, numbers: Path, picture: Tensor) -> Tensor:
    """What ncnn makes of (1, C, H, W) by a pair of files, on the CPU in float32. Raises UserError where it cannot."""
    import ncnn

    network = ncnn.Net()
    network.opt.use_vulkan_compute = False
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    if network.load_param(str(param)) or network.load_model(str(numbers)):
        raise UserError(f"{param}: ncnn cannot read it")
    extractor = network.create_extractor()
    extractor.input(DATA, ncnn.Mat(numpy.ascontiguousarray(picture[0].numpy())))
    failed, output = extractor.extract(OUTPUT)
    if failed:
        raise UserError(f"{param}: ncnn cannot run it")
    return torch.from_numpy(numpy.array(output)[None])
