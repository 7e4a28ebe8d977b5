"""What every lesson uses: the course's photographs, figures, and the number that a lesson promises.

Importing it makes the project's modules importable, wherever Python was started:

    from course import FAST, photograph, promise, show_pictures

As a script a lesson saves its figures in lessons/figures/; in a notebook they appear below the cell.
With SR_FAST=1 in the environment every training is cut short: the code is tried, the numbers mean nothing.
"""

import builtins
import contextlib
import importlib.resources
import os
import sys
import textwrap
from pathlib import Path

LESSONS = Path(__file__).resolve().parent
ROOT = LESSONS.parent
sys.path[:0] = [folder for folder in (str(ROOT), str(LESSONS)) if folder not in sys.path]

from imaging import console

IN_NOTEBOOK = hasattr(builtins, "__IPYTHON__")
if not IN_NOTEBOOK:
    console.explain_missing_packages()

import matplotlib

if not IN_NOTEBOOK:
    matplotlib.use("Agg")  # no window: a lesson runs to its end by itself

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from engine import choosing
from engine.data import Pair, center_crop, make_pair
from gen_samples import FREE_PHOTOGRAPHS
from imaging.files import read_picture
from imaging.images import to_image

FAST = os.environ.get("SR_FAST") == "1"
FIGURES = Path(os.environ.get("SR_FIGURES") or LESSONS / "figures")
ANSWERS = Path(os.environ.get("SR_ANSWERS") or LESSONS / "answers")
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)  # threads that wait for each other cost a busy machine many times what they save here
plt.rcParams |= {"figure.dpi": 72, "savefig.dpi": 72, "axes.titlesize": 11, "figure.constrained_layout.use": True}


def photograph(name: str) -> Tensor:
    """One of the photographs that come with scikit-image, (1, 3, H, W); gen_samples.FREE_PHOTOGRAPHS names them."""
    with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / name) as path:
        return read_picture(path)


def crop(picture: Tensor, top: int, left: int, height: int, width: int | None = None) -> Tensor:
    """A part of a picture (N, C, H, W), square unless a width is given."""
    return picture[..., top : top + height, left : left + (width or height)]


def trained(**kind):
    """(path, checkpoint) of the newest network in models/ that fits, else of a shipped one; None if none fits."""
    with contextlib.chdir(ROOT):
        return choosing.find_trained(**kind)


def show() -> None:
    """Show the current figure in a notebook, else save it as lessons/figures/LESSON.NUMBER.png; then close it."""
    if IN_NOTEBOOK:
        plt.show()
        return
    FIGURES.mkdir(parents=True, exist_ok=True)
    lesson = Path(sys.argv[0]).stem or "figure"
    number = 1 + sum(1 for _ in _saved)
    _saved.append(FIGURES / f"{lesson}.{number}.png")
    plt.savefig(_saved[-1])
    plt.close()
    print(f"[figure {number}: {_saved[-1]}]")


_saved: list[Path] = []  # the figures of this run


def show_pictures(*rows: list[tuple[str, Tensor]], side: int = 180) -> None:
    """Show rows of (caption, picture); a picture is (1, 3, H, W) or (1, 1, H, W) in 0..1.

    All are shown equally wide, about `side` screen pixels. The widest is enlarged by a whole number, so that none of
    its pixels is lost or doubled: that would be a resize of its own.
    """
    widest = max(picture.shape[-1] for row in rows for _, picture in row)
    width = widest * max(1, round(side / widest))
    heights = [max(width * picture.shape[-2] // picture.shape[-1] for _, picture in row) for row in rows]
    captions = [[_wrapped(caption, 2 * width // 11) for caption, _ in row] for row in rows]
    titles = [12 + 14 * max(caption.count("\n") + 1 for caption in row) for row in captions]
    total = max(map(len, rows)) * (width + 10) + 10, sum(heights) + sum(titles) + 10
    figure = plt.figure(figsize=(total[0] / 72, total[1] / 72))
    top = total[1]
    figure.set_layout_engine("none")
    for row, texts, height, title in zip(rows, captions, heights, titles, strict=True):
        top -= title + height
        for column, ((_, picture), caption) in enumerate(zip(row, texts, strict=True)):
            left = 10 + column * (width + 10)
            axis = figure.add_axes([left / total[0], top / total[1], width / total[0], height / total[1]])
            axis.imshow(to_image(picture), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            axis.set_title(caption, fontsize=10)
    show()


def _wrapped(text: str, letters: int) -> str:
    return "\n".join(textwrap.fill(line, letters) for line in text.splitlines())


def promise(what: str, measured: float, expected: float, tolerance: float) -> None:
    """Print the number that the lesson promised beside the one that came out, and whether it lies within."""
    inside = abs(measured - expected) <= tolerance
    verdict = "as promised" if inside else "SR_FAST cuts it short" if FAST else "NOT as promised"
    print(f"{what}: {measured:.2f} (promised {expected} ± {tolerance}): {verdict}")


def seed(number: int = 0) -> torch.Generator:
    """A generator of random numbers, the same ones in every run."""
    return torch.Generator().manual_seed(number)


HELD_OUT = ("astronaut.png", "coffee.png")  # no lesson trains on these two


def photograph_pairs(scale: int, enlarge: bool) -> tuple[list[Pair], list[Pair]]:
    """(training pairs, held-out pairs): seven whole photographs, and the middles of two others.

    The low picture is shrunk by `scale`. With `enlarge` it is enlarged again by bicubic, as SRCNN expects it.
    """
    pairs = [Pair(*make_pair(photograph(name), scale, enlarge), name) for name in FREE_PHOTOGRAPHS]
    training = [pair for pair in pairs if pair.photograph not in HELD_OUT]
    return training, [center_crop(pair, 192) for pair in pairs if pair.photograph in HELD_OUT]
