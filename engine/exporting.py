"""The command `main.py export`: its flags, and what it does. The files are written by export.py."""

import argparse

from imaging import console
from imaging.console import UsageError

HELP = """\
Write a network for other programs: .onnx (onnxruntime, browsers, phones), .param with .bin (ncnn: Upscayl and
realesrgan-ncnn-vulkan), .pth or .safetensors (programs that know BasicSR's networks). Pictures of any size go in as
values from 0 to 1; colours, scale, the margin that tiles need and the licence stand in the file. Before it gets its
name it is compared with PyTorch.
"""


def add_flags(add) -> None:
    """What `export` alone understands."""
    add(
        "-o",
        "--output",
        type=console.file_name,
        required=True,
        metavar="FILE",
        help="model.onnx, .param, .pth or .safetensors",
    )
    add("-s", "--scale", type=console.scale, help="which of a kind: that enlarges so many times")
    add(
        "-d", "--degradation", choices=("bicubic", "photo", "real"),
        help="which of a kind: that was trained on such pictures",
    )  # fmt: skip
    add("--half", action="store_true", help="compute in float16 (.onnx), or store in it (.param): half the size")
    add("--int8", action="store_true", help="compute in 8 bits (.onnx), a quarter of the size, and say what that costs")
    add(
        "-i", "--input", action="extend", nargs="+", type=console.file_name, metavar="DIR|LIST.txt",
        help="photographs for --int8, which takes the ranges of its numbers from them",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Choose the network, write it, and say how exact the file is."""
    from engine.choosing import choose_network
    from engine.export import ExportSettings, check_settings, export

    settings = ExportSettings(options.output, options.half, options.int8, tuple(options.input or ()))
    check_settings(settings)
    chosen = choose_network(options.model, options.blend, options.alpha, options.scale, options.degradation)
    if chosen is None:
        raise UsageError("no such network yet: train one, or leave out -s or -d")
    if options.degradation and chosen.checkpoint["degradation"] != options.degradation:
        raise UsageError(
            f"no such network for -d {options.degradation}, only {chosen.told}: train one, or leave out -d"
        )
    print(f"network: {chosen.told}")
    print(f"{settings.path}: {export(chosen.network, chosen.checkpoint, settings)}")
