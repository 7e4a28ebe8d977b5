"""A graph as a model of OpenVINO, made in memory."""

from dataclasses import replace

import numpy
import openvino
import torch
from openvino import opset13 as operations
from torch import Tensor

from engine.graphs import INPUT, OUTPUT, Graph, Node


def make_model(graph: Graph, size: tuple[int, int]) -> openvino.Model:
    """(1, C, H, W) → (1, C, …); of the height and width `size`, or any where that is −1.

    Made of OpenVINO's own operations: its converter (`convert_model`) knows nothing that is needed here, and reports
    its use to Intel.
    """
    known = {INPUT: operations.parameter([1, graph.channels, *size], numpy.float32, name=INPUT)}
    outputs = dict(known)
    for node in graph.nodes:
        outputs[node.output] = operation(node, [outputs[name] for name in node.inputs])
        outputs[node.output].set_friendly_name(node.output)
    return openvino.Model([outputs[OUTPUT]], list(known.values()), "network")


def halves(picture: Tensor) -> Tensor:
    """What `with_exact_input` makes of a network takes this for a picture: (N, C, H, W) → (N, 3·C, H, W)."""
    high = picture.bfloat16().float()
    return torch.cat((high, picture - high, high), dim=1)


def with_exact_input(graph: Graph) -> Graph:
    """The same network, of whose input nothing is lost in half precision; it takes `halves` of a picture.

    Half precision rounds what a convolution sees. In the first layer that is the picture itself: RRDBs lost up to
    0.02 dB by it. A number is the sum of its rounded value and of a rest, which half precision knows as well. So w·x is
    the product of the rounded values and of each with the other's rest; that of the two rests is too small to count.
    """
    made = Graph(3 * graph.channels)
    first = next(node for node in graph.nodes if node.kind == "conv")
    for node in graph.nodes:
        if node is first:
            # Where squares of pixels have become channels, those of one pixel stand together.
            weight = torch.from_numpy(node.weights["weight"]).unflatten(1, (-1, graph.channels))
            high = weight.bfloat16().float()
            wide = torch.cat((high, high, weight - high), dim=2).flatten(1, 2).numpy()
            node = replace(node, weights={**node.weights, "weight": wide})
        made.nodes.append(node)
    return made


def operation(node: Node, inputs: list) -> openvino.Node:
    """What OpenVINO calls an operation."""
    settings, weights, x = node.settings, node.weights, inputs[0]
    factor = settings.get("factor", 1)
    if node.kind == "conv":
        padding = [settings["padding"]] * 2
        convolved = operations.convolution(x, constant(weights["weight"]), [1, 1], padding, padding, [1, 1])
        return operations.add(convolved, constant(weights["bias"].reshape(1, -1, 1, 1)))
    if node.kind == "prelu":
        return operations.prelu(x, constant(weights["slopes"]))
    if node.kind == "leaky":
        return operations.prelu(x, constant([settings["slope"]]))
    if node.kind == "relu":
        return operations.relu(x)
    if node.kind == "concat":
        return operations.concat(inputs, 1)
    if node.kind == "shuffle":
        return operations.depth_to_space(x, "depth_first", factor)
    if node.kind == "unshuffle":
        return operations.space_to_depth(x, "blocks_first", factor)
    if node.kind == "nearest":
        scales, axes = constant([factor, factor]), constant([2, 3], numpy.int64)
        places = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return operations.interpolate(x, scales, "nearest", "scales", axes=axes, **places)
    if node.kind == "replicate":
        border = constant([0, 0, settings["border"], settings["border"]], numpy.int64)
        return operations.pad(x, border, border, "edge")
    assert node.kind == "add", node.kind
    return operations.add(x, inputs[1] if factor == 1 else operations.multiply(inputs[1], constant(factor)))


def constant(values, kind: type = numpy.float32) -> openvino.Node:
    """Numbers that are part of the network."""
    return operations.constant(numpy.asarray(values, kind))
