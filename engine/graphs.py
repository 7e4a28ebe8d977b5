"""A network as a short list of plain operations: what every runtime has, and nothing for one processor.

    graph = graph_of(network)       # a chain of nodes from "input" to "output"

Written for export: engine/export.py turns the list into ONNX, engine/ncnn.py into ncnn's text and numbers. A network of
one's own needs a function here to be exported.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from engine.ecbsr import ECBSR, EdgeBlock
from engine.layouts import AnyNetwork
from esrgan import RESIDUAL_SCALING, DenseBlock, RRDBNet, SRVGGNetCompact
from srcnn import SRCNN

INPUT, OUTPUT = "input", "output"
SLOPE = 0.2  # below zero, of RRDB's activations


@dataclass(frozen=True)
class Node:
    """One operation on (N, C, H, W). By kind, with what `settings` and `weights` hold:

    conv        weight, bias; padding with zeros       relu
    leaky       slope                                  prelu       slopes, for each channel or one for all
    add         the second input times factor          concat      of channels
    shuffle     factor: channels become pixels         unshuffle   factor: pixels become channels, row, column, colour
    nearest     factor: every pixel a square           replicate   border: edge pixels repeated
    """

    kind: str
    inputs: tuple[str, ...]
    output: str
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, numpy.ndarray] = field(default_factory=dict)


class Graph:
    """Nodes in the order in which they are computed."""

    def __init__(self, channels: int):
        self.channels = channels  # of input and output: 1 or 3
        self.nodes: list[Node] = []

    def add(self, kind: str, *inputs: str, weights: dict[str, Tensor] | None = None, **settings) -> str:
        """Append a node, and return the name of its output."""
        arrays = {name: weight.detach().float().cpu().numpy() for name, weight in (weights or {}).items()}
        self.nodes.append(Node(kind, inputs, f"{kind}_{len(self.nodes)}", settings, arrays))
        return self.nodes[-1].output

    def conv(self, layer: nn.Conv2d, x: str, weight: Tensor | None = None, padding: int | None = None) -> str:
        """A convolution, or one with other filters or padding."""
        assert layer.bias is not None and layer.stride == (1, 1), "all convolutions here are of this kind"
        padding = int(layer.padding[0]) if padding is None else padding
        filters = layer.weight if weight is None else weight
        return self.add("conv", x, weights={"weight": filters, "bias": layer.bias}, padding=padding)

    def activation(self, layer: nn.Module, x: str) -> str:
        """What stands between two convolutions."""
        if isinstance(layer, nn.PReLU):
            return self.add("prelu", x, weights={"slopes": layer.weight})
        if isinstance(layer, nn.LeakyReLU):
            return self.add("leaky", x, slope=layer.negative_slope)
        assert isinstance(layer, nn.ReLU), f"{type(layer).__name__} cannot be exported"
        return self.add("relu", x)

    def finish(self) -> "Graph":
        """Call what was added last the output."""
        last = self.nodes.pop()
        self.nodes.append(Node(last.kind, last.inputs, OUTPUT, last.settings, last.weights))
        return self


@torch.no_grad()
def graph_of(network: AnyNetwork) -> Graph:
    """The operations of a network, with its weights."""
    if isinstance(network, SRCNN):
        return srcnn_graph(network)
    return rrdb_graph(network) if isinstance(network, RRDBNet) else compact_graph(network)


def srcnn_graph(network: SRCNN) -> Graph:
    """Three convolutions over a picture whose edges are repeated."""
    graph = Graph(1)
    x = graph.add("replicate", INPUT, border=network.radius)
    x = graph.add("relu", graph.conv(network.extract, x))
    x = graph.add("relu", graph.conv(network.map, x))
    graph.conv(network.reconstruct, x)
    return graph.finish()


def compact_graph(network: SRVGGNetCompact | ECBSR) -> Graph:
    """Convolutions and activations in turn, then pixel shuffle, and the picture itself added."""
    graph = Graph(1 if isinstance(network, ECBSR) else 3)
    x = INPUT
    for layer in network.body:
        layer = layer.folded() if isinstance(layer, EdgeBlock) else layer
        x = graph.conv(layer, x) if isinstance(layer, nn.Conv2d) else graph.activation(layer, x)
    graph.add("add", graph.add("shuffle", x, factor=network.scale), graph.add("nearest", INPUT, factor=network.scale))
    return graph.finish()


def rrdb_graph(network: RRDBNet) -> Graph:
    """Dense blocks as the paper draws them; all maps that a convolution sees are joined anew."""
    graph = Graph(network.colours)
    x, first = INPUT, network.conv_first.weight
    if network.fold > 1:  # ONNX counts colours last, PyTorch first
        x = graph.add("unshuffle", INPUT, factor=network.fold)
        first = first.unflatten(1, (network.colours, -1)).transpose(1, 2).flatten(1, 2)
    x = skip = graph.conv(network.conv_first, x, first)
    for block in network.body:
        start = x
        for dense in block.children():
            x = dense_block(graph, dense, x)
        x = graph.add("add", start, x, factor=RESIDUAL_SCALING)
    x = graph.add("add", skip, graph.conv(network.conv_body, x))
    for number in range(1, network.doublings + 1):
        x = graph.conv(getattr(network, f"conv_up{number}"), graph.add("nearest", x, factor=2))
        x = graph.add("leaky", x, slope=SLOPE)
    x = graph.add("leaky", graph.conv(network.conv_hr, x), slope=SLOPE)
    graph.conv(network.conv_last, x)
    return graph.finish()


def dense_block(graph: Graph, block: nn.Module, x: str) -> str:
    """Five convolutions, each of which sees the outputs of all before it."""
    assert isinstance(block, DenseBlock)
    known = [x]
    for conv in (block.conv1, block.conv2, block.conv3, block.conv4):
        seen = graph.add("concat", *known) if len(known) > 1 else x
        known.append(graph.add("leaky", graph.conv(conv, seen), slope=SLOPE))
    found = graph.conv(block.conv5, graph.add("concat", *known))
    return graph.add("add", x, found, factor=RESIDUAL_SCALING)
