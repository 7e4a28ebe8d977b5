"""What becomes of ordinary photographs: the ladder of JPEG qualities.

    python tools/ladder.py -i DIR [-i DIR] -m models/pretrained/rrdb_x4.pt [-m FILE …] [--json FILE]

Every picture is shrunk by the networks' scale (Pillow's bicubic, which is anti-aliased), saved clean and as JPEG 4:2:0
of falling quality, and enlarged again. For bicubic and each network: PSNR and SSIM of luma by the protocol of
`evaluate`, and the grid ratio, where the ground truth has 1.00: an enlarged picture with more shows the pixels that it
was made from.
"""

import argparse
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import numpy
import torch
from PIL import Image
from torch import Tensor

from engine.artifacts import grid_ratio
from engine.checkpoints import load_checkpoint
from engine.devices import choose_device, choose_precision
from engine.evaluation import as_compared, check_size
from engine.networks import load_network
from engine.upscaling import Tiling, upscale
from imaging.console import UsageError, UserError, note, one_of_many, run_command
from imaging.files import read_colours
from imaging.folders import find_pictures
from imaging.images import crop_to_multiple, from_bytes, psnr, resize, size_of, ssim, to_image
from imaging.writing import check_writable, replacing

QUALITIES = (None, 95, 90, 85, 75, 50)  # None: not compressed


def degraded(high: Tensor, scale: int, quality: int | None) -> Tensor:
    """(1, 3, H, W) → (1, 3, H/scale, W/scale) with 8 bits: shrunk, and through a JPEG file if a quality is given."""
    height, width = (side // scale for side in size_of(high))
    image = to_image(high).resize((width, height), Image.Resampling.BICUBIC)
    if quality:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
        image = Image.open(file)
    return from_bytes(torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None])


def sharp_pictures(folders: list[Path], scale: int) -> Iterator[tuple[Path, Tensor]]:
    """Every picture (1, 1 or 3, H, W) that can be measured; the others are named and left out, as by `evaluate`."""
    for path in [path for folder in folders for path in find_pictures(folder)]:
        try:
            with one_of_many(path):
                high = crop_to_multiple(read_colours(path), scale)
            check_size(path, high, scale)
        except UserError as error:
            note(f"left out: {error}")
            continue
        yield path, high


def measure(restored: Tensor, high: Tensor, scale: int) -> dict[str, float]:
    """Figures of one picture (1, 1 or 3, H, W), as `evaluate` compares it."""
    restored = as_compared(restored, high)
    decibels = psnr(restored, high, scale).clamp(max=100).item()
    return {"psnr": decibels, "ssim": ssim(restored, high, scale).item(), "grid": grid_ratio(restored, scale)}


def climb(folders: list[Path], networks: dict[str, torch.nn.Module], scale: int) -> dict[str, dict[str, dict]]:
    """Method → rung → the mean of every figure over all pictures."""
    tiling = Tiling(precision=choose_precision("fp32", choose_device(cpu=True)))
    rows: dict[str, dict[str, list[dict]]] = {}
    for path, high in sharp_pictures(folders, scale):
        rows.setdefault("ground truth", {}).setdefault("clean", []).append(measure(high, high, scale))
        for quality in QUALITIES:
            low = degraded(high.expand(-1, 3, -1, -1), scale, quality)
            restored = {"bicubic": resize(low, scale).clamp(0, 1)}
            restored |= {name: upscale(network, low, scale, tiling) for name, network in networks.items()}
            rung = f"q{quality}" if quality else "clean"
            for name, picture in restored.items():
                rows.setdefault(name, {}).setdefault(rung, []).append(measure(picture, high, scale))
        print(f"  {path}", file=sys.stderr, flush=True)
    if not rows:
        raise UserError(f"-i {' '.join(map(str, folders))}: no picture that can be measured")
    return {
        name: {
            rung: {key: sum(one[key] for one in found) / len(found) for key in found[0]} for rung, found in by.items()
        }
        for name, by in rows.items()
    }


def print_table(figures: dict[str, dict[str, dict]]) -> None:
    """A line for each method: PSNR, SSIM and grid at every rung."""
    rungs = [f"q{quality}" if quality else "clean" for quality in QUALITIES]
    width = max(map(len, figures))
    print(" " * width + "".join(f"{rung:>22}" for rung in rungs))
    for name, by in figures.items():
        cells = (by.get(rung) for rung in rungs)
        texts = (f"{one['psnr']:8.2f} {one['ssim']:.4f} {one['grid']:5.2f}" if one else "" for one in cells)
        print(f"{name:{width}}" + "".join(f"{text:>22}" for text in texts))


def main(options: argparse.Namespace) -> None:
    """The command line of this script."""
    if options.json:
        check_writable(options.json)
    if len({path.stem for path in options.model}) < len(options.model):
        raise UsageError("-m: two files of one name, which is what they are called in the table: rename one")
    loaded = {path.stem: load_checkpoint(path) for path in options.model}
    scales = {checkpoint["scale"] for checkpoint in loaded.values()} or {4}
    if len(scales) > 1:
        raise UsageError("-m: networks of one scale only")
    networks = {name: load_network(checkpoint) for name, checkpoint in loaded.items()}
    figures = climb(options.input, networks, scales.pop())
    print_table(figures)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", "--input", action="append", type=Path, required=True, metavar="DIR")
    parser.add_argument("-m", "--model", action="append", type=Path, default=[], metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_command(main, read_arguments()))
