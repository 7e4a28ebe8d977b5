"""How good a network is: PSNR, SSIM and what they do not see, picture by picture.

On bicubic pictures by the protocol of the published tables; pairs as they are. On degraded ones, which degrade.py
makes, the figures are means over several draws: how well a network does depends far more on the draw than on itself.
"""

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import degrade
from engine import artifacts
from engine.data import seeded
from engine.devices import bound_memory, release_memory
from engine.networks import Network, is_given_enlarged
from engine.sources import Named, Source, find_sources, refuse_other_scales, said
from engine.upscaling import Tiling, in_tiles, keep_level, restore_enlarged, upscale
from imaging.console import UserError, note, one_of_many
from imaging.files import read_colours
from imaging.images import PROTOCOL, crop_to_multiple, psnr, resize, rgb_to_luma, round_to_8_bits, size_of, ssim

DRAWS = 20  # degraded versions of each picture
RANDOM_PROTOCOL = (
    f"cropped to a multiple of the scale; {DRAWS} degraded versions of each picture, made by degrade."
    "{chain}; compared with the ground truth; luma of BT.601 studio swing, grey files on their own values; border of "
    "`scale` pixels shaved; PSNR with peak 255; mean of the per-image means, ± its standard error over the draws"
)

PAIR_PROTOCOL = (  # of samples too
    "low pictures as they are given; the sharp ones cropped to `scale` times their size; luma of BT.601 studio swing, "
    "grey files on their own values; border of `scale` pixels shaved; PSNR with peak 255; mean of the per-image means"
)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, and how."""

    scale: int
    network: Network | None = None  # without: bicubic alone
    vgg: nn.Module | None = None  # measures besides what `perceptual_metrics` does
    degradation: str = "bicubic"  # or "photo", "real", or "pairs": their own
    seed: int = 0  # of the draws of "photo" and "real"
    tiling: Tiling | None = None  # how the network is run; without: in float32


def evaluate_folder(folder: Named, settings: EvaluationSettings) -> dict:
    """Crop, degrade, restore and compare every picture of a folder, or restore the low pictures of pairs and compare.

    Returns {"bicubic": {"psnr", "ssim"}, "model": {…}, "images": [{"name", "bicubic", "model"}]}; no "model" without a
    network; "error", the standard error of psnr, with degraded pictures. A network that does not enlarge stands beside
    its "input". Bad pictures are named and left out; raises UserError if none is left.
    """
    return _evaluate(folder, find_sources([folder]), settings)


def _evaluate(folder: Named, sources: list[Source], settings: EvaluationSettings) -> dict:
    """The same of what was found in the folder."""
    scale = settings.scale
    if scale == 1 and settings.degradation == "bicubic":
        note("×1: nothing is shrunk, so the input is the ground truth itself; -d photo and -d real degrade it")
    rows: list[dict[str, Any]] = []
    grey = 0
    bound_memory()
    refuse_other_scales(sources, scale)
    for source in sources:
        path = source.large
        try:
            with one_of_many(path):
                low, high = _read(source, settings)
                check_size(path, high, scale)
                rows.append(_row(_name(path, folder), low, high, settings))
                grey += high.shape[1] == 1
        except UserError as error:
            note(f"left out: {error}")
        release_memory()
    if not rows:
        raise UserError(f"{said(folder)}: no picture that can be measured")
    if grey:
        note(
            f"{said(folder)}: {grey} of {len(rows)} files are grey: measured on their own values, 0 to 255, not on luma"
        )
    means = {method: _means([row[method] for row in rows]) for method in rows[0] if method != "name"}
    return {**means, "images": rows}


def check_size(path: Path, high: Tensor, scale: int) -> None:
    """Raises UserError for a sharp picture (1, C, H, W) too small for SSIM inside a border of `scale` pixels."""
    if min(high.shape[-2:]) < 11 + 2 * scale:
        raise UserError(f"{path}: only {high.shape[-1]}×{high.shape[-2]} pixels, too few to measure")


def _name(path: Path, folder: Named) -> str:
    """What a picture is called below its folder, or as the one that was named."""
    top = folder[0] if isinstance(folder, tuple) else folder
    if isinstance(top, Path) and path != top and path.is_relative_to(top):
        return path.relative_to(top).as_posix()
    return path.name


def _read(source: Source, settings: EvaluationSettings) -> tuple[Tensor | None, Tensor]:
    """The low picture of a pair (1, 3, H, W), None where it is still to be made, and the high one (1, 1 or 3, H, W)."""
    scale = settings.scale
    if source.small is None:
        return None, crop_to_multiple(read_colours(source.large), scale)
    low, high = _rgb(read_colours(source.small)), read_colours(source.large)
    may_be_enlarged = settings.network is None or is_given_enlarged(settings.network)
    if low.shape[-2:] == high.shape[-2:] and scale > 1 and may_be_enlarged:
        return low, high
    sides = [scale * side for side in low.shape[-2:]]
    if not all(0 <= there - side < scale for there, side in zip(high.shape[-2:], sides, strict=True)):
        sizes = " beside ".join("×".join(map(str, reversed(picture.shape[-2:]))) for picture in (low, high))
        raise UserError(f"{source.small}: {sizes}: is not 1/{scale} of its sharp picture")
    return low, high[..., : sides[0], : sides[1]]


def _row(name: str, low: Tensor | None, high: Tensor, settings: EvaluationSettings) -> dict[str, Any]:
    """The figures of one picture by every method, under its name below the folder."""
    # Drawn by the picture's name, so that another picture in the folder changes nothing about this one.
    drawn_by = zlib.crc32(os.fsencode(name))
    row: dict[str, Any] = {"name": name, baseline(settings.scale): _measure(None, low, high, settings, drawn_by)}
    if settings.network is not None:
        row["model"] = _measure(settings.network, low, high, settings, drawn_by)
    return row


def baseline(scale: int) -> str:
    """What a network is measured beside."""
    return "bicubic" if scale > 1 else "input"


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of every metric; the error of a mean of n independent figures is √(sum of their squared errors)/n."""
    means = {metric: sum(row[metric] for row in rows) / len(rows) for metric in rows[0]}
    if "error" in means:
        means["error"] = math.sqrt(sum(row["error"] ** 2 for row in rows)) / len(rows)
    return means


def _measure(
    network: Network | None, given: Tensor | None, high: Tensor, settings: EvaluationSettings, drawn_by: int
) -> dict[str, float]:
    """The figures of one picture (1, 1 or 3, H, W), whose low one may be given; `network` None is bicubic."""
    scale = settings.scale
    if given is not None:
        return _compare(_restore_given(network, given, high, settings), network, high, settings)
    if settings.degradation == "bicubic":
        return _compare(restore_as_published(network, high, scale, settings.tiling), network, high, settings)
    draws = []
    for draw in range(DRAWS):
        low = degrade.DEGRADATIONS[settings.degradation](_rgb(high), scale, seeded(settings.seed, drawn_by, draw))
        restored = upscale(network, low, scale, settings.tiling) if network else resize(low, size=size_of(high))
        draws.append(_compare(restored, network, high, settings))
    spread = torch.tensor([figures["psnr"] for figures in draws]).std()
    figures = {metric: sum(figures[metric] for figures in draws) / DRAWS for metric in draws[0]}
    return {"psnr": figures.pop("psnr"), "error": spread.item() / math.sqrt(DRAWS), **figures}


def _restore_given(network: Network | None, low: Tensor, high: Tensor, settings: EvaluationSettings) -> Tensor:
    """What becomes of the low picture (1, 3, H, W) of a pair: RGB of the size of the high one.

    One of that size already is what SRCNN's input looks like, and keeps its colours.
    """
    is_enlarged = size_of(low) == size_of(high)
    if network is None:
        return low if is_enlarged else resize(low, size=size_of(high))
    if is_enlarged and is_given_enlarged(network):
        return restore_enlarged(network, low, settings.tiling)
    return upscale(network, low, settings.scale, settings.tiling)


def _compare(restored: Tensor, network, high: Tensor, settings: EvaluationSettings) -> dict[str, float]:
    scale, vgg = settings.scale, settings.vgg
    coloured = restored
    restored = as_compared(restored, high)
    # Equal pictures have an infinite PSNR, which would hide all others in the mean.
    figures = {"psnr": psnr(restored, high, scale).clamp(max=100).item(), "ssim": ssim(restored, high, scale).item()}
    if vgg:
        if coloured.shape[1] == 1:  # VGG wants colours
            low = degrade.bicubic(_rgb(high), scale)
            coloured = upscale(network, low, scale, settings.tiling) if network else resize(low, scale)
        figures |= perceptual_metrics(round_to_8_bits(coloured), _rgb(high), vgg)
    return figures


def as_compared(restored: Tensor, high: Tensor) -> Tensor:
    """A restored picture (1, 1 or 3, H, W); RGB beside a grey file as grey on its 0..255, where luma has 16..235."""
    if high.shape[1] == 1 and restored.shape[1] == 3:
        return (rgb_to_luma(restored) * 255 - 16) / 219
    return restored


def _rgb(picture: Tensor) -> Tensor:
    """Grey (1, 1, H, W) as (1, 3, H, W); RGB as it is."""
    return picture.expand(-1, 3, -1, -1)


def restore_as_published(network: Network | None, high: Tensor, scale: int, tiling: Tiling | None = None) -> Tensor:
    """Shrink a picture (1, 1 or 3, H, W) and restore it in the order in which the published figures were made.

    For a network on RGB, RGB is shrunk to 8 bits and the result is RGB. For luma networks, and bicubic itself
    (`network` None), luma with 8 bits is shrunk and enlarged in floating point, as SRCNN's authors do it, and the
    result is luma; a network that enlarges by itself gets the small one. With one 8-bit RGB picture for all, SRCNN and
    bicubic would measure 0.01 to 0.03 dB less. Grey of one channel takes the place of luma, as in their programs: it
    has 256 levels, where luma has 220.
    """
    if network is not None and not network.luma:
        return upscale(network, degrade.bicubic(_rgb(high), scale), scale, tiling)
    luma = round_to_8_bits(rgb_to_luma(high) if high.shape[1] == 3 else high)
    low = resize(luma, 1 / scale)
    if network is not None and not is_given_enlarged(network):
        return keep_level(in_tiles(network, low, scale, tiling), low)
    enlarged_luma = resize(low, scale)
    return enlarged_luma if network is None else in_tiles(network, enlarged_luma, tiling=tiling)


@torch.inference_mode()
def perceptual_metrics(restored: Tensor, high: Tensor, vgg: nn.Module) -> dict[str, float]:
    """What PSNR does not see, of two pictures (1, 3, H, W):

    conv…    mean absolute difference of VGG19's features before activation, for each layer that `vgg` gives
    detail   energy of the finest detail, as a share of the sharp picture's: under 1 is blurred, over 1 is noisy
    colour   the largest shift of a colour channel's mean, in 8-bit levels
    weave    fine patterns in flat places, and
    chroma   colour on grey, both in 8-bit levels: see artifacts.py
    """
    actual, expected = vgg(restored), vgg(high)
    figures = {layer: (actual[layer] - expected[layer]).abs().mean().item() for layer in expected}
    figures["detail"] = (_fine_detail(restored) / _fine_detail(high)).item()
    figures["colour"] = 255 * (restored - high).mean(dim=(2, 3)).abs().max().item()
    figures["weave"] = artifacts.weave(restored, high)
    figures["chroma"] = artifacts.chroma_on_grey(restored, high)
    return figures


def _fine_detail(picture: Tensor) -> Tensor:
    """Mean square of what a 3×3 binomial blur takes away from luma: the top octave of frequencies."""
    luma = rgb_to_luma(picture)
    binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = F.conv2d(luma, torch.outer(binomial, binomial).view(1, 1, 3, 3))
    return (luma[..., 1:-1, 1:-1] - blurred).square().mean() + 1e-12  # a flat picture has none


def evaluate_sets(folders: Sequence[Path | tuple[Path, Path]], settings: EvaluationSettings) -> dict:
    """`evaluate_folder` for several folders, in the form that `evaluate --json` writes."""
    names = [(folder[0] if isinstance(folder, tuple) else folder).resolve().name for folder in folders]
    names = [name if names.count(name) == 1 else said(folder) for name, folder in zip(names, folders, strict=True)]
    found = [find_sources([folder]) for folder in folders]
    sets = {
        name: _evaluate(folder, sources, settings) for name, folder, sources in zip(names, folders, found, strict=True)
    }
    chain = degrade.DEGRADATIONS.get(settings.degradation)
    protocol = RANDOM_PROTOCOL.format(chain=chain.__name__) if chain else PROTOCOL
    if all(source.small for sources in found for source in sources):
        protocol = PAIR_PROTOCOL
    return {"protocol": protocol, "scale": settings.scale, "sets": sets}
