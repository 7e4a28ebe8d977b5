"""What a training shows of itself: the bar, the history as a table, curves, and pictures before and after."""

import csv
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from engine.data import Data, Pair, make_pair
from engine.networks import is_given_enlarged, load_network
from engine.resume import RunState
from engine.settings import Settings
from engine.upscaling import restore
from imaging.console import UserError, note
from imaging.files import read_picture
from imaging.images import from_bytes, psnr, resize, rgb_to_luma, size_of
from imaging.sheets import draw_sheet
from imaging.writing import replacing


def enlarged(small: Tensor, large: Tensor) -> Tensor:
    """The degraded picture at the size of the sharp one: bicubic, unless it has that size already."""
    return small if small.shape == large.shape else resize(small, size=size_of(large))


@torch.inference_mode()
def draw_progress(checkpoint: dict, held_out: list[Pair], path: Path) -> None:
    """Beside a checkpoint at `path`: the curves of its training, and held-out pictures before and after."""
    pictures = [pair.pictures() for pair in held_out]
    bicubic = [psnr(enlarged(*pair), pair[1], checkpoint["scale"]).clamp(max=100).item() for pair in pictures]
    draw_curves(checkpoint["history"], sum(bicubic) / len(bicubic), path.with_suffix(".curves.png"))
    draw_before_after(checkpoint, held_out, path.with_suffix(".before_after.png"))


# Of the training's losses, those that are drawn, in the order of the legend.
LOSSES = ("loss", "pixel", "consistency", "perceptual", "style", "spectrum", "adversarial", "discriminator_loss")


def draw_curves(history: list[dict], bicubic: float, path: Path) -> None:
    """The parts of the loss and the PSNR of every epoch, with bicubic's as the line to beat; ESRGAN's third figure."""
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] for entry in history]
    adversarial = any("held_out_perceptual" in entry for entry in history)
    figure = Figure(figsize=(14 if adversarial else 10, 4.4), layout="constrained")
    loss, quality, *looks = figure.subplots(1, 3 if adversarial else 2)

    def plot(axis, name: str, label: str) -> None:
        if any(name in entry for entry in history):
            axis.plot(epochs, [entry.get(name, math.nan) for entry in history], marker=".", label=label)

    for name in LOSSES:
        plot(loss, name, name.replace("discriminator_loss", "discriminator"))
    loss.set(title="Training loss", xlabel="epoch", ylabel="mean over the epoch", yscale="log")
    plot(quality, "psnr", "held-out photographs")
    plot(quality, "validation_psnr", "--val")
    quality.axhline(bicubic, color="grey", linestyle="--", label="bicubic on the held-out")
    quality.set(title="Quality", xlabel="epoch", ylabel="PSNR of luma (dB)")
    for axis in looks:
        plot(axis, "held_out_perceptual", "held-out photographs")
        plot(axis, "validation_perceptual", "--val")
        axis.set(title="Looks: the least decides which epoch is kept", xlabel="epoch", ylabel="distance to VGG19")
    for axis in (loss, quality, *looks):
        axis.xaxis.get_major_locator().set_params(integer=True)
        if labels := axis.get_legend_handles_labels()[1]:  # below, where it hides no curve
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=min(3, len(labels)), frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


SHOWN_SIDE = 144  # pixels a side of a held-out picture that are shown, twice enlarged
STRIDE = 8
SEARCHED_SIDE = 512  # pixels a side of its middle, of which the liveliest part is shown


def draw_before_after(checkpoint: dict, held_out: list[Pair], path: Path) -> None:
    """Parts of the liveliest held-out photographs, at most three: low, bicubic, restored, ground truth."""
    network = load_network(checkpoint)
    scale = checkpoint["scale"]
    photographs = {pair.photograph: pair for pair in sorted(held_out, key=liveliness)}  # the last of each stays
    liveliest = sorted(photographs.values(), key=liveliness, reverse=True)[:3]
    if checkpoint["degradation"] == "bicubic":  # degraded pictures are shown as they were measured
        liveliest = [large_enough(pair, scale) for pair in liveliest]
    rows = []
    for pair in liveliest:
        small, large = liveliest_part(pair, SHOWN_SIDE).pictures()
        bicubic = enlarged(small, large)
        restored = restore(network, small, "fp32")
        captions = [
            f"{name} ×{scale}, {psnr(picture, large, scale).item():.2f} dB"
            for name, picture in (("bicubic", bicubic), (checkpoint["model"], restored))
        ]
        row = [*zip(captions, (bicubic, restored), strict=True), ("ground truth", large)]
        rows.append(row if is_given_enlarged(network) else [("low", small), *row])
    draw_sheet(rows, path)


def liveliness(pair: Pair) -> float:
    """How much brightness changes from pixel to pixel, and how far colours are from grey."""
    large = from_bytes(pair.large[None])
    return (rgb_to_luma(large).diff(dim=-1).abs().mean() + large.std(dim=1).mean()).item()


def large_enough(pair: Pair, scale: int) -> Pair:
    """A pair to look at: in place of a ready-cut sample the photograph that it was cut from, if that is at hand."""
    path = Path(pair.photograph)
    if min(pair.large.shape[-2:]) >= SHOWN_SIDE or not path.is_file():
        return pair
    try:
        high = read_picture(path)
        top, left = (max(0, length - SEARCHED_SIDE) // 2 for length in high.shape[-2:])
        high = high[..., top : top + SEARCHED_SIDE, left : left + SEARCHED_SIDE]
        return Pair(*make_pair(high, scale, pair.small.shape == pair.large.shape), pair.photograph)
    except UserError:
        return pair


def liveliest_part(pair: Pair, side: int) -> Pair:
    """The square of a pair in which colours differ most, of at most `side` pixels in the high picture."""
    scale = pair.large.shape[-1] // pair.small.shape[-1]
    low = from_bytes(pair.small[None])
    window = min(side // scale, *low.shape[-2:])
    # Every eighth window is enough: each costs as many operations as it has pixels.
    mean, mean_of_squares = (F.avg_pool2d(picture, window, stride=STRIDE) for picture in (low, low.square()))
    spread = (mean_of_squares - mean.square()).sum(dim=1)[0]
    top, left = (STRIDE * place for place in divmod(int(spread.argmax()), spread.shape[1]))
    small = pair.small[:, top : top + window, left : left + window]
    top, left, window = scale * top, scale * left, scale * window
    return Pair(small, pair.large[:, top : top + window, left : left + window], pair.photograph)


def progress_bar(state: RunState, settings: Settings) -> tqdm:
    """A bar that counts samples, of all processes."""
    total, initial = (settings.samples_per_update * step for step in (state.last_step, state.step))
    return tqdm(total=total, initial=initial, unit=" samples", unit_scale=True, dynamic_ncols=True)


def show_step(bar: tqdm, figures: dict[str, float], history: list[dict], samples: int) -> None:
    """The last step's loss, the last epoch's PSNR, and what the discriminator says of both pictures."""
    shown: dict[str, Any] = {"loss": f"{figures['loss']:.2e}"}
    if history:
        shown["epochs"] = history[-1]["epoch"]
        shown["PSNR"] = f"{history[-1]['psnr']:.2f} dB"
    if "margin" in figures:
        shown |= {
            "D(real)": f"{figures['discriminator_real']:.2f}",
            "D(restored)": f"{figures['discriminator_restored']:.2f}",
        }
    bar.set_postfix(shown, refresh=False)
    bar.update(samples)


def show_progress(checkpoint: dict, data: Data, path: Path) -> None:
    """Leave table, curves and pictures beside the checkpoint; a file that cannot be written is no reason to stop."""
    try:
        write_history(checkpoint["history"], path.with_suffix(".history.csv"))
        draw_progress(checkpoint, data.held_out, path)
    except UserError as error:  # on Windows, one that is open in another program
        note(f"{error}; training goes on")


def write_history(history: list[dict], path: Path) -> None:
    """Every epoch's figures as a table, for plotting elsewhere."""
    names = list(dict.fromkeys(name for entry in history for name in entry))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)
