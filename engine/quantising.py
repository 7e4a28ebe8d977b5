"""Eight bits in place of 32: a network whose convolutions count in whole numbers, and what that costs in dB.

Static quantisation: every map gets one scale and one zero, by the values that it takes on photographs, and every filter
one scale of its own. In the file stand pairs of QuantizeLinear and DequantizeLinear (QDQ), of which a runtime makes
convolutions of whole numbers. The picture itself, which is added last, keeps all its bits.
"""

import logging
import tempfile
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from torch import Tensor

from engine.data import center_crop, read_pairs
from engine.graphs import INPUT
from engine.layouts import AnyNetwork
from engine.networks import is_given_enlarged
from engine.onnx_files import runner
from engine.updates import network_input
from imaging.console import UsageError
from imaging.images import psnr

PHOTOGRAPHS, SIDE = 32, 192  # at most so many are used, and of each the middle of so many pixels a side


class Photographs(CalibrationDataReader):
    """Gives onnxruntime one low picture after the other."""

    def __init__(self, pictures: list[Tensor]):
        self.feeds = iter([{INPUT: picture.contiguous().numpy()} for picture in pictures])

    def get_next(self) -> dict | None:
        """The next, or nothing."""
        return next(self.feeds, None)


def quantise(
    network: AnyNetwork, model: onnx.ModelProto, sources: list[Path], about: dict[str, str]
) -> tuple[onnx.ModelProto, str]:
    """The model in 8 bits, and a line with its loss in dB, on photographs that the ranges were not taken from.

    Raises UsageError for fewer than two photographs.
    """
    scale = int(about["scale"])
    pairs = read_pairs(sources, scale, is_given_enlarged(network))[0][:PHOTOGRAPHS]
    if len(pairs) < 2:
        raise UsageError("--int8: needs two photographs at least, one for the ranges and one to measure on")
    cut = [center_crop(pair, SIDE) for pair in pairs]
    low, high = ([network_input(network, pair[None]) for pair in pictures] for pictures in (
        [pair.small for pair in cut], [pair.large for pair in cut]
    ))  # fmt: skip
    quantised = in_8_bits(model, low[::2])
    before, after = (mean_psnr(made, low[1::2], high[1::2], scale) for made in (model, quantised))
    told = (
        f"8 bits cost {before - after:.2f} dB: {after:.2f} dB on {len(low[1::2])} photographs, {before:.2f} in float32"
    )
    return quantised, f"{told}; ranges from {len(low[::2])} others"


def in_8_bits(model: onnx.ModelProto, pictures: list[Tensor]) -> onnx.ModelProto:
    """The model with its convolutions in 8 bits, but for the first and the last: through these the picture itself goes.

    With the first in 8 bits too the shipped networks lost ten times as much.
    """
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    logging.getLogger().addFilter(lambda record: "pre-process" not in record.getMessage())  # of what there is none here
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quantize_static(
            before, after, Photographs(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
            nodes_to_exclude=[convolutions[0], convolutions[-1]],
        )  # fmt: skip
        made = onnx.load(after)
    for entry in model.metadata_props:
        made.metadata_props.add(key=entry.key, value=entry.value)
    return made


@torch.inference_mode()
def mean_psnr(model: onnx.ModelProto, low: list[Tensor], high: list[Tensor], scale: int) -> float:
    """The mean over pictures, in dB."""
    run = runner(model.SerializeToString())
    figures = [psnr(run(small), large, scale).clamp(max=100) for small, large in zip(low, high, strict=True)]
    return torch.cat(figures).mean().item()
