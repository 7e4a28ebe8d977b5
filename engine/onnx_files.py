"""A graph as an ONNX model, and what onnxruntime makes of pictures by one."""

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from engine.graphs import INPUT, OUTPUT, Graph, Node
from imaging.console import UserError

OPSET, IR_VERSION = 17, 8  # of 2022: what programs and browsers that are some years old still read
PRODUCER = "super-resolution-course"


def make_model(graph: Graph, metadata: dict[str, str], half: bool = False) -> onnx.ModelProto:
    """An ONNX model for any batch and size; with `half` it computes in float16, but for both ends."""
    kind = numpy.float16 if half else numpy.float32
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    renamed = {INPUT: "input_half", OUTPUT: "output_half"} if half else {}
    if half:
        nodes.append(helper.make_node("Cast", [INPUT], [renamed[INPUT]], to=TensorProto.FLOAT16))
    for node in graph.nodes:
        inputs = [renamed.get(name, name) for name in node.inputs]
        made, values = onnx_nodes(node, inputs, renamed.get(node.output, node.output), kind)
        for part in made:
            part.name = part.output[0]
        nodes += made
        constants += [numpy_helper.from_array(value, name) for name, value in values.items()]
    if half:
        nodes.append(helper.make_node("Cast", [renamed[OUTPUT]], [OUTPUT], to=TensorProto.FLOAT))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", graph.channels, *sides])
        for name, sides in ((INPUT, ("height", "width")), (OUTPUT, ("output_height", "output_width")))
    ]
    body = helper.make_graph(nodes, PRODUCER, ends[:1], ends[1:], constants)
    model = helper.make_model(
        body, producer_name=PRODUCER, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return model


def onnx_nodes(node: Node, inputs: list[str], output: str, kind) -> tuple[list[onnx.NodeProto], dict]:
    """What ONNX calls an operation: one node, or two, and their constants by name."""
    settings, weights = node.settings, {name: value.astype(kind) for name, value in node.weights.items()}
    factor = settings.get("factor", 1)

    def one(name: str, *constants: str, **attributes) -> list[onnx.NodeProto]:
        return [helper.make_node(name, [*inputs, *constants], [output], **attributes)]

    if node.kind == "conv":
        names = {f"{output}.weight": weights["weight"], f"{output}.bias": weights["bias"]}
        return one("Conv", *names, pads=[settings["padding"]] * 4, kernel_shape=weights["weight"].shape[2:]), names
    if node.kind == "prelu":
        return one("PRelu", f"{output}.slopes"), {f"{output}.slopes": weights["slopes"].reshape(-1, 1, 1)}
    if node.kind == "leaky":
        return one("LeakyRelu", alpha=settings["slope"]), {}
    if node.kind == "relu":
        return one("Relu"), {}
    if node.kind == "concat":
        return one("Concat", axis=1), {}
    if node.kind == "shuffle":
        return one("DepthToSpace", blocksize=factor, mode="CRD"), {}
    if node.kind == "unshuffle":
        return one("SpaceToDepth", blocksize=factor), {}
    if node.kind == "nearest":
        how = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
        scales = numpy.array([1, 1, factor, factor], numpy.float32)
        return one("Resize", "", f"{output}.scales", **how), {f"{output}.scales": scales}
    if node.kind == "replicate":
        border = settings["border"]
        pads = numpy.array([0, 0, border, border] * 2, numpy.int64)
        return one("Pad", f"{output}.pads", mode="edge"), {f"{output}.pads": pads}
    assert node.kind == "add", node.kind
    if factor == 1:
        return one("Add"), {}
    scaled = helper.make_node("Mul", [inputs[1], f"{output}.factor"], [f"{output}.scaled"])
    total = helper.make_node("Add", [inputs[0], f"{output}.scaled"], [output])
    return [scaled, total], {f"{output}.factor": numpy.array(factor, kind)}


def runner(model: bytes):
    """A function that computes (N, C, H, W) → (N, C, …) by onnxruntime. Raises UserError for what it cannot open."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds of exceptions
        raise UserError(f"onnxruntime cannot open the network: {str(error).splitlines()[0]}") from error

    def run(picture: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: picture.numpy()})[0])

    return run
