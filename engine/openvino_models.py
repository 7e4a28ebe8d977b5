"""A graph as a model of OpenVINO, made in memory."""

import numpy
import openvino
from openvino import opset13 as operations

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
