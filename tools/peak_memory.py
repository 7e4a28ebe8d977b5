"""The most memory that `main.py upscale` ever holds, for benchmark.py's section `memory`."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import numpy
import torch
from PIL import Image

from engine.checkpoints import save_checkpoint
from esrgan import RRDBNet
from srcnn import SRCNN

CONSTANT = 1.5e9  # bytes: the program, its libraries, and what a network computes of one tile

# (what, model, keyword arguments of its class, megapixels in)
RRDB, SMALL_RRDB = {"blocks": 1, "features": 32, "growth": 16}, {"blocks": 1, "features": 8, "growth": 4}
MEMORY = [
    *(("RRDB ×4, 1 block, 8 features", "rrdb", SMALL_RRDB, megapixels) for megapixels in (1, 4, 16)),
    ("SRCNN 9-1-5 ×4", "srcnn", {"kernels": (9, 1, 5)}, 24),
    ("RRDB ×4, 1 block, 32 features", "rrdb", RRDB, 12),
]


def measure_memory(keep: Callable[..., None]) -> None:
    """A line for each row of MEMORY as it is done, and how much more memory a larger picture takes.

    The most that a process of its own ever holds while it enlarges a synthetic photograph from file to file. The bound
    is 4 bytes for each pixel of the result, which is what Pillow keeps of RGB, and a constant. `keep` remembers a row.
    """
    print(f"{'memory':32}{'in':>8}{'out':>9}{'peak':>10}{'bound':>10}{'time':>8}")
    peaks = []
    for title, model, shape, megapixels in MEMORY:
        out = 16 * megapixels * 1e6
        peak, seconds = peak_of_upscaling(model, shape, megapixels)
        bound = 4 * out + CONSTANT
        verdict = "" if peak <= bound else "  TOO MUCH"
        line = (
            f"{title:32}{megapixels:5} MP{out / 1e6:6.0f} MP{peak / 1e9:7.2f} GB{bound / 1e9:7.2f} GB{seconds:6.0f} s"
        )
        print(line + verdict, flush=True)
        peaks.append((out, peak))
        keep("memory", title, megapixels=megapixels, peak=peak, seconds=seconds)
    for (small, before), (large, after) in pairwise(peaks[:3]):
        growth = (after - before) / (large - small)
        print(
            f"from {small / 1e6:.0f} to {large / 1e6:.0f} MP: {growth:.2f} bytes for each further pixel of the result"
        )


def peak_of_upscaling(model: str, shape: dict, megapixels: int) -> tuple[float, float]:
    """Bytes of resident memory at most, and seconds, of `main.py upscale` in a process of its own."""
    torch.manual_seed(0)
    network = SRCNN(**shape) if model == "srcnn" else RRDBNet(**shape)
    checkpoint = {
        "model": model, "scale": 4, "degradation": "bicubic", "shape": shape, "params": network.state_dict(),
        "history": [],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        save_checkpoint(checkpoint, folder / "network.pt")
        synthetic_photograph(megapixels).save(folder / "photo.png", compress_level=1)
        arguments = ["upscale", "-i", "photo.png", "-o", "large.png", "-m", "network.pt", "--cpu"]
        arguments += ["--precision", "fp32"]
        started = time.perf_counter()
        command = [sys.executable, __file__, *arguments]
        finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if finished.returncode:
            sys.exit(finished.stderr)
        return float(finished.stdout.split()[-1]), time.perf_counter() - started


def synthetic_photograph(megapixels: int) -> Image.Image:
    """Soft clouds in colour, 3:2."""
    size = round((megapixels * 1.5e6) ** 0.5), round((megapixels / 1.5 * 1e6) ** 0.5)
    dots = numpy.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=numpy.uint8)
    return Image.fromarray(dots).resize(size, Image.BICUBIC)


def run(arguments: list[str]) -> None:
    """The measured process: the command, then its peak on the last line."""
    import resource  # Windows has none

    from main import main as command

    code = command(arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    sys.exit(code)


if __name__ == "__main__":
    run(sys.argv[1:])
