"""The results, measured anew: `python tools/results.py -i SET5 [--perceptual VGG19.pth]`.

Every network in models/pretrained/ is evaluated. The tables go into lessons/RESULTS.md, between their marks, and the
pictures into lessons/pictures/: the trade of PSNR for looks, details of clean and of compressed pictures, and a
degraded photograph. The details are of photographs that come with scikit-image, on which no network here was trained.
"""

import argparse
import io
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

from course import LESSONS, crop, photograph

import matplotlib.pyplot as plt
import numpy
import torch
import torch.nn.functional as F
from ladder import climb, degraded
from PIL import Image, ImageFilter
from torch import Tensor, nn

import degrade
from engine import checkpoints, weights
from engine.devices import choose_precision
from engine.evaluation import EvaluationSettings, evaluate_folder
from engine.networks import load_network
from engine.progress import enlarged
from engine.upscaling import Tiling, upscale
from engine.weights import load_vgg19
from imaging.console import UserError, run_command
from imaging.images import psnr, resize, to_image
from imaging.sheets import draw_sheet
from imaging.writing import replacing

RESULTS = LESSONS / "RESULTS.md"
PICTURES = LESSONS / "pictures"
CPU = torch.device("cpu")
LAYERS = ("conv3_4", "conv5_4")
TITLES = {
    ("srcnn", "bicubic"): "SRCNN 9-5-5",
    ("rrdb", "bicubic"): "RRDB, 6 blocks",
    ("esrgan", "bicubic"): "ESRGAN, 6 blocks",
    ("srvgg", "bicubic"): "SRVGG",
    ("ecbsr", "bicubic"): "ECBSR, 4 blocks",
    ("rrdb", "photo"): "RRDB for photographs",
    ("srvgg", "photo"): "SRVGG for photographs",
    ("esrgan", "photo"): "ESRGAN for photographs",
    ("rrdb", "real"): "Real-ESRNet, 6 blocks",
    ("esrgan", "real"): "Real-ESRGAN, 6 blocks",
    ("srvgg", "real"): "SRVGG on degraded pictures",
}
# From the papers; ESRGAN's prints no PSNR of its second stage: others measured the weights that its authors gave away.
PUBLISHED = {
    ("bicubic", 2): "33.66 / .9299",
    ("bicubic", 3): "30.39 / .8682",
    ("bicubic", 4): "28.42 / .8104",
    ("srcnn", 2): "36.66 / .9542",
    ("srcnn", 3): "32.75 / .9090",
    ("srcnn", 4): "30.48 / .8628",
    ("rrdb", 4): "32.73 / .9011 (23 blocks, DF2K)",
    ("esrgan", 4): "30.44 / .8525 (23 blocks, measured by others)",
}


def shipped() -> dict[tuple[str, str, int], dict]:
    """The checkpoints that ship, by (model, degradation, scale), in the order of TITLES."""
    found = [checkpoints.load_checkpoint(path) for path in sorted(checkpoints.PRETRAINED.glob("*.pt"))]
    by_kind = {(one["model"], one["degradation"], one["scale"]): one for one in found}
    kinds = list(TITLES)
    return dict(sorted(by_kind.items(), key=lambda item: (kinds.index(item[0][:2]), item[0][2])))


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ["---"] * len(columns), *rows]) + "\n"


def seconds(network: nn.Module, scale: int) -> str:
    """The median of three enlargements of a 512×512 picture, as `upscale` runs it."""
    tiling, times = Tiling(precision=choose_precision("auto", CPU)), []
    for _ in range(3):
        begin = time.perf_counter()
        upscale(network, torch.rand(1, 3, 512, 512), scale, tiling)
        times.append(time.perf_counter() - begin)
    return f"{statistics.median(times):.1f}"


def clean_table(folder: Path, networks: dict, vgg: nn.Module | None) -> str:
    """Every network on pictures that were only shrunk, beside bicubic and what was published."""
    columns = ["", "scale", "PSNR / SSIM", "published", *((*LAYERS, "detail", "colour") if vgg else ())]

    def row(title: str, model: str, scale: int, figures: dict, took: str, command: str) -> list[str]:
        cells = [title, f"×{scale}", f"{figures['psnr']:.2f} / {figures['ssim']:.4f}".replace(" 0.", " .")]
        cells.append(PUBLISHED.get((model, scale), ""))
        if vgg:
            cells += [f"{figures[layer]:.3f}" for layer in LAYERS]
            cells += [f"{figures['detail']:.2f}", f"{figures['colour']:.1f}"]
        return [*cells, took, f"`python main.py evaluate -i Set5 {command}`"]

    rows = []
    for scale in (2, 3, 4):
        figures = evaluate_folder(folder, EvaluationSettings(scale, vgg=vgg))["bicubic"]
        rows.append(row("bicubic", "bicubic", scale, figures, "", f"-s {scale}"))
    for (model, degradation, scale), checkpoint in networks.items():
        if degradation != "bicubic":
            continue
        network = load_network(checkpoint)
        figures = evaluate_folder(folder, EvaluationSettings(scale, network, vgg))["model"]
        title, took = TITLES[model, degradation], seconds(network, scale)
        rows.append(row(title, model, scale, figures, took, f"-m {model} -s {scale}"))
        print("|".join(rows[-1]), flush=True)
    return table([*columns, "seconds", "command"], rows)


def degraded_table(folder: Path, networks: dict) -> str:
    """Networks ×4 on degraded pictures, twenty draws of each: those trained for it, and those that were not."""
    found = {}
    for (model, degradation, scale), checkpoint in networks.items():
        if scale != 4 or model == "srcnn":
            continue
        network = load_network(checkpoint)
        report = evaluate_folder(folder, EvaluationSettings(scale, network, degradation="real"))
        found |= {"bicubic": report["bicubic"], TITLES[model, degradation]: report["model"]}
        print(TITLES[model, degradation], report["model"], flush=True)
    rows = [
        [title, f"{figures['psnr']:.2f} ± {figures['error']:.2f} / {figures['ssim']:.4f}"]
        for title, figures in found.items()
    ]
    return table(["", "PSNR / SSIM on degraded pictures"], rows)


def compressed_table(folder: Path, networks: dict) -> str:
    """Networks ×4 on pictures saved as JPEG of falling quality; the grid ratio is that of the clean ones."""
    ways = {
        TITLES[kind[:2]]: load_network(checkpoint)
        for kind, checkpoint in networks.items()
        if kind[1:] in (("photo", 4), ("bicubic", 4)) and kind[0] in ("rrdb", "srvgg", "esrgan")
    }
    found = climb([folder], ways, 4)
    rungs = list(found["bicubic"])
    rows = [
        [name, *(f"{found[name][rung]['psnr']:.2f}" for rung in rungs), f"{found[name]['clean']['grid']:.2f}"]
        for name in ("bicubic", *ways)
    ]
    truth = ["ground truth", *("" for _ in rungs), f"{found['ground truth']['clean']['grid']:.2f}"]
    return table(["", *rungs, "grid"], [*rows, truth])


def write_into_results(name: str, text: str) -> None:
    """Put a table between its marks in lessons/RESULTS.md."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    whole = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    old = RESULTS.read_text(encoding="utf-8")
    new, count = whole.subn(lambda _: f"{begin}\n{text}\n{end}", old)
    if count != 1:
        raise UserError(
            f"{RESULTS}: has no place for {name}: put <!-- {name} --> and <!-- end of {name} --> where it goes"
        )
    with replacing(RESULTS) as temporary:
        temporary.write_text(new, encoding="utf-8")


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------


def draw_trade(folder: Path, faithful: dict, sharp: dict, vgg: nn.Module, path: Path) -> None:
    """PSNR and distance to VGG19 as the weights go from those of the one network to the other's."""
    points = []
    for alpha in numpy.linspace(0, 1, 9):
        params = weights.blend(sharp["params"], faithful["params"], float(alpha))
        network = load_network({**sharp, "params": params})
        points.append((alpha, evaluate_folder(folder, EvaluationSettings(4, network, vgg))["model"]))
        print(f"α = {alpha:.3f}:", points[-1][1], flush=True)
    figure, axis = plt.subplots(figsize=(8, 5))
    for layer in LAYERS:
        start = points[0][1][layer]
        line = [(figures["psnr"], 100 * figures[layer] / start) for _, figures in points]
        axis.plot(*zip(*line, strict=True), marker="o", label=f"{layer}, as a share of RRDB's")
    for (alpha, _), at in list(zip(points, line, strict=True))[::2]:  # beside the lower line alone
        axis.annotate(f"α = {alpha:g}", at, textcoords="offset points", xytext=(12, -9), fontsize=9)
    axis.set(xlabel="PSNR on Set5 ×4 (dB): faithful →", ylabel="distance to VGG19's features (%): looks right ↓")
    axis.set_title("From ESRGAN (α = 1) to RRDB (α = 0): looks are paid for with PSNR")
    axis.margins(0.12)
    axis.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    plt.close(figure)


# (photograph, top, left) of 128×128 pixels: an eye in fur, a face, a shining cup; 16 more on each side are restored too
DETAILS = ("chelsea.png", 92, 120), ("astronaut.png", 60, 160), ("coffee.png", 150, 130)
QUALITY = 75  # of the compressed ones: what many a web site makes of what it is sent


def draw_gallery(networks: dict, path: Path) -> None:
    """The same details by every way of enlarging ×4."""
    kinds = [(model, "bicubic") for model in ("srcnn", "rrdb", "esrgan")]
    draw_details(networks, kinds, lambda high: degrade.bicubic(high, 4), path)


def draw_compressed(networks: dict, path: Path) -> None:
    """The same details of JPEGs: by a network that has only seen clean pictures, and by those for photographs."""
    kinds = [("rrdb", "bicubic"), *((model, "photo") for model in ("rrdb", "srvgg", "esrgan"))]
    draw_details(networks, kinds, lambda high: degraded(high, 4, QUALITY), path)


def draw_details(networks: dict, kinds: list[tuple[str, str]], lower: Callable[[Tensor], Tensor], path: Path) -> None:
    """A row for each detail, with its own PSNR: what is made of the picture that `lower` gives, and the truth."""
    ways = {TITLES[kind]: load_network(networks[*kind, 4]) for kind in kinds if (*kind, 4) in networks}
    rows = []
    for name, top, left in DETAILS:
        high = crop(photograph(name), top, left, 160)
        low = lower(high)
        pictures = [("nearest", F.interpolate(low, scale_factor=4)), ("bicubic", resize(low, 4))]
        pictures += [(way, upscale(network, low, 4)) for way, network in ways.items()]
        row = [
            (f"{way}, {psnr(picture, high, 4).item():.2f} dB", crop(picture, 16, 16, 128)) for way, picture in pictures
        ]
        rows.append([*row, ("ground truth", crop(high, 16, 16, 128))])
    draw_sheet(rows, path)


def degraded_copy(photograph: Tensor) -> Tensor:
    """What is left of a photograph (1, 3, H, W) after a bad camera and two messengers: a quarter of its size.

    Made with Pillow alone, and not by the chain on which the networks were trained.
    """
    width, height = photograph.shape[-1] // 4, photograph.shape[-2] // 4
    image = to_image(photograph).filter(ImageFilter.GaussianBlur(1.5)).resize((width, height), Image.BILINEAR)
    noise = numpy.random.default_rng(0).normal(0, 6, (height, width, 3))
    image = Image.fromarray((numpy.asarray(image) + noise).clip(0, 255).round().astype(numpy.uint8))
    for quality in (60, 40):
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=quality)
        image = Image.open(file)
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None] / 255


def draw_degraded_photograph(networks: dict, path: Path) -> None:
    """A degraded photograph, and what is made of it: by networks that have only seen clean ones, and by the others."""
    ways = {
        TITLES[kind].split(",")[0]: load_network(networks[*kind, 4])
        for kind in (("rrdb", "bicubic"), ("rrdb", "real"), ("esrgan", "real"))
        if (*kind, 4) in networks
    }
    faithful, sharp = (networks.get((model, "real", 4)) for model in ("rrdb", "esrgan"))
    if faithful and sharp:
        mixed = weights.blend(sharp["params"], faithful["params"], 0.5)
        ways["half of each"] = load_network({**sharp, "params": mixed})
    rows = []
    for name, top, left in ("astronaut.png", 8, 124), ("chelsea.png", 56, 100):
        high = crop(photograph(name), top, left, 192)
        low = degraded_copy(high)
        pictures = [
            ("bicubic", enlarged(low, high)),
            *((way, upscale(network, low, 4)) for way, network in ways.items()),
        ]
        row = [(f"{way}, {psnr(picture, high, 4).item():.2f} dB", picture) for way, picture in pictures]
        rows.append([("as it came", F.interpolate(low, scale_factor=4)), *row, ("ground truth", high)])
    draw_sheet(rows, path)


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", type=Path, metavar="SET5", help="without it, the pictures only")
    parser.add_argument("--perceptual", metavar="FILE", help="VGG19's weights, for the distances and the trade")
    return parser.parse_args()


def main(options: argparse.Namespace) -> None:
    """Pictures first: they take seconds."""
    networks = shipped()
    draw_gallery(networks, PICTURES / "gallery.png")
    draw_compressed(networks, PICTURES / "compressed.png")
    draw_degraded_photograph(networks, PICTURES / "degraded_photograph.png")
    if not options.input:
        return
    vgg = load_vgg19(options.perceptual, LAYERS) if options.perceptual else None
    write_into_results("clean pictures", clean_table(options.input, networks, vgg))
    write_into_results("compressed pictures", compressed_table(options.input, networks))
    write_into_results("degraded pictures", degraded_table(options.input, networks))
    pair = [networks.get((model, "bicubic", 4)) for model in ("rrdb", "esrgan")]
    if vgg and all(pair):
        draw_trade(options.input, *pair, vgg, PICTURES / "perception_distortion.png")


if __name__ == "__main__":
    sys.exit(run_command(main, read_arguments()))
