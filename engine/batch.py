"""Picture files through a network: one or a folder of them, with what lies beside the colours.

    upscale_files(list_inputs([Path("holiday")]), Path("large"), network, checkpoint)

Names, folders, what was done before, what goes wrong on the way; transparency, 16 bits, animations.
"""

import glob
import math
import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from engine.checkpoints import model_name, now
from engine.networks import Network
from engine.upscaling import Tiling, crop, enlarged_pieces, one_of_three, thrice
from imaging.console import UsageError, UserError, note, unused
from imaging.files import find_pictures, open_picture
from imaging.frames import Frame, Picture, frame_channels, frame_size, is_grey, new_frame, paste, read_window
from imaging.images import to_bytes
from imaging.saving import ANIMATED, WRITTEN_FORMATS, best_suffix, check_size, check_target, save_picture
from imaging.sheets import draw_comparison, write_slider

UPSCALED = Path("images_upscaled")
# How the names of results end, and of the comparisons beside them: see `_target` and `upscale_file`.
RESULT = re.compile(r"\.x[\d.]+(e[+-]\d+)?\.[\w-]+\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?(\.compare(-\d+)?)?\.\w+$")
BLEED = 8  # pixels: as far as colours are spread under transparent pixels


@dataclass(frozen=True)
class UpscaleSettings:
    """What the command line says about how to enlarge."""

    outscale: float | None = None  # the network's own if not given
    tile: int = 0  # 0: as it suits the network
    precision: str = "fp32"
    alpha_bicubic: bool = False  # transparency by bicubic interpolation, which takes no time
    quality: int = 95  # of JPEG and WebP
    compare: bool = False  # draw a comparison beside every result
    skip_existing: bool = False
    huge: bool = False  # open files with more pixels than Pillow thinks safe
    srgb: bool = False  # convert colours that a profile describes to sRGB


# ---------------------------------------------------------------------------------------------
# Many files
# ---------------------------------------------------------------------------------------------


def list_inputs(inputs: list[Path], output: Path | None = None) -> list[tuple[Path, Path]]:
    """Every picture that `-i` names, files and folders: (path, path below its folder).

    Results of earlier runs, in an output folder inside a folder of pictures or the same one, are left out.
    Raises UsageError for what is not there and for folders without pictures.
    """
    found: list[tuple[Path, Path]] = []
    results = (output or UPSCALED).resolve()
    for path in inputs:
        if path.is_dir():
            pictures = find_pictures(path)
            if path.resolve() in results.parents:
                pictures = [picture for picture in pictures if results not in picture.resolve().parents]
            elif path.resolve() == results:
                pictures = [picture for picture in pictures if not RESULT.search(picture.name)]
            found += [(picture, picture.relative_to(path)) for picture in pictures]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise UsageError(f"{path}: no such file")
    return found


def upscale_files(
    inputs: list[tuple[Path, Path]], output: Path | None, network: Network, checkpoint: dict,
    settings: UpscaleSettings = UpscaleSettings(),
) -> None:  # fmt: skip
    """Enlarge pictures into `output`: a file's name for a single picture, else a folder (default images_upscaled/).

    A folder keeps the structure that the inputs have below theirs. A bad picture is named and the rest goes on;
    raises UserError at the end if there was one.
    """
    single = len(inputs) == 1
    if output and output.suffix.lower() in WRITTEN_FORMATS and not single and not output.is_dir():
        raise UsageError(f"-o {output}: is one file for {len(inputs)} pictures; give a folder")
    plan = [(path, *_target(path, below, output, single, checkpoint, settings)) for path, below in inputs]
    todo = _without_existing(plan) if settings.skip_existing else plan
    tiling = Tiling(settings.tile, settings.precision)
    failed = 0
    form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
    with tqdm(total=len(todo), bar_format=form, delay=1, leave=False) as bar:
        for done, (path, target, fixed) in enumerate(todo):
            bar.update(done - bar.n)

            def progress(share: float, end: int = done + 1) -> None:
                bar.update(min(share, end - bar.n))  # parts done once more with smaller tiles count once

            bar.set_description_str(f"{done + 1} of {len(todo)}: {one_line(path.name)}", refresh=False)
            try:
                results = upscale_file(path, target, fixed, network, checkpoint, settings, tiling, progress)
            except (UserError, OSError, MemoryError) as error:
                if single:
                    raise
                named = error if isinstance(error, UserError) else f"{path}: {error or 'out of memory'}"
                note(f"failed: {named}")
                failed += 1
            else:
                tqdm.write("\n".join(map(one_line, results)))
            finally:
                bar.clear()  # in its first second it is shown by what is written beside it, and would stay for ever
    if failed:
        raise UserError(f"{failed} of {len(todo)} pictures failed, {len(todo) - failed} were enlarged")
    if not single or not todo:
        tqdm.write(f"{len(todo)} enlarged, {len(plan) - len(todo)} were there already")


def one_line(name) -> str:
    """A file's name as it can be printed: it may hold line breaks, and what a terminal takes for commands."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))


def _target(path: Path, below: Path, output: Path | None, single: bool, checkpoint: dict, settings: UpscaleSettings):
    """Where the enlarged picture goes, and whether that is a file's whole name or what NAME.xS.MODEL begins with."""
    if single and output and output.suffix and not output.is_dir():
        if output.exists() and output.samefile(path):
            raise UsageError(f"{output}: is the picture to enlarge; choose another name for -o")
        check_target(output)
        return output, True
    factor = settings.outscale or checkpoint["scale"]
    return ((output or UPSCALED) / below).with_name(f"{below.stem}.x{factor:g}.{model_name(checkpoint)}"), False


def _without_existing(plan: list[tuple[Path, Path, bool]]) -> list[tuple[Path, Path, bool]]:
    """Only what has no result yet. Where a.jpg and a.png share the names of their results, these are counted."""
    todo: list[tuple[Path, Path, bool]] = []
    seen: Counter[Path] = Counter()
    for path, target, fixed in plan:
        seen[target] += 1
        if fixed:
            there = target.exists()
        else:
            endings = re.compile(r"\.[^.]*\.(png|gif|webp|tif)", re.IGNORECASE)
            names = target.parent.glob(glob.escape(target.name) + ".*")
            there = sum(bool(endings.fullmatch(name.name.removeprefix(target.name))) for name in names) >= seen[target]
        if not there:
            todo.append((path, target, fixed))
    return todo


def upscale_file(
    path: Path, target: Path, fixed: bool, network: Network, checkpoint: dict, settings: UpscaleSettings,
    tiling: Tiling, progress,
) -> list[Path]:  # fmt: skip
    """Enlarge one file; returns what was written. `progress` is called with shares that sum to 1."""
    low = open_picture(path, settings.huge, settings.srgb)
    if not fixed:
        target = unused(target.with_name(f"{target.name}.{now()}{best_suffix(low)}"))
    check_target(target)
    if len(low.frames) > 1 and WRITTEN_FORMATS[target.suffix.lower()] not in ANIMATED:
        note(f"{target}: such a file cannot hold an animation: this is its first frame")
        low = replace(low, frames=low.frames[:1])
    factor = settings.outscale or checkpoint["scale"]
    height, width = (max(1, round(side * factor)) for side in frame_size(low.frames[0]))
    size = height, width
    check_size(target, *size)
    _check_memory(path, low, size)
    frames = [
        upscale_frame(
            network, frame, checkpoint["scale"], size, tiling, settings.alpha_bicubic,
            lambda share: progress(share / len(low.frames)),
        )
        for frame in low.frames
    ]  # fmt: skip
    save_picture(target, replace(low, frames=frames), settings.quality)
    if not settings.compare:
        return [target]
    label = f"{model_name(checkpoint)} ×{factor:g}"
    sheet, page = (unused(target.with_name(f"{target.stem}.compare{suffix}")) for suffix in (".png", ".html"))
    draw_comparison(low.frames[0], frames[0], label, sheet)
    write_slider(low.frames[0], frames[0], label, page)
    return [target, sheet, page]


def _check_memory(path: Path, low: Picture, size: tuple[int, int]) -> None:
    """Refuse what no memory holds: the operating system would end the program without a word."""
    frame = low.frames[0]
    pixel = 2 * frame_channels(frame) if isinstance(frame, numpy.ndarray) else 1 if frame.mode == "L" else 4  # bytes
    needed = math.prod(size) * pixel * len(low.frames)
    try:
        there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return
    if needed > there:
        raise UserError(
            f"{path}: enlarged it has {size[1]}×{size[0]} pixels and needs {needed / 1e9:.0f} GB of memory; "
            f"there are {there / 1e9:.0f}; a smaller --outscale helps"
        )


# ---------------------------------------------------------------------------------------------
# One frame
# ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def upscale_frame(
    network: Network, frame: Frame, scale: int, size: tuple[int, int], tiling: Tiling,
    alpha_bicubic: bool = False, progress=lambda share: None,
) -> Frame:  # fmt: skip
    """A frame of a picture file as a new one of `size` (height, width), with the same channels and depth.

    Every piece goes into the 8 or 16 bits of the result at once, so that no larger copy of it ever exists.
    `progress` is called with the share of the frame that each piece is. Raises UserError for a network whose
    values are not numbers.
    """
    result = new_frame(frame, size)
    read, channels = reader(frame), frame_channels(frame)
    if grey := channels > 2 and is_grey(frame):  # a network on RGB would tint it
        read, channels = one_of_three(read), channels - 2
    for top, left, piece in enlarged_pieces(
        network, read, channels, frame_size(frame), scale, size, tiling, alpha_bicubic
    ):
        if grey:
            piece = thrice(piece)
        if not piece.isfinite().all():
            raise UserError("the network's results are not numbers: its weights are damaged")
        if isinstance(frame, numpy.ndarray):
            pixels = (piece.clamp(0, 1) * 65535).round()[0].permute(1, 2, 0).numpy().astype(numpy.uint16)
        else:
            pixels = to_bytes(piece)[0].permute(1, 2, 0).numpy()
        paste(result, numpy.ascontiguousarray(pixels), top, left)
        progress(piece[0, 0].numel() / math.prod(size))
    return result


def reader(frame: Frame):
    """What reads windows of a frame as (1, channels, rows, columns) in 0..1, with colour under transparent pixels."""
    (height, width), channels = frame_size(frame), frame_channels(frame)

    def read(top: int, bottom: int, left: int, right: int) -> Tensor:
        reach = BLEED if channels in (2, 4) else 0
        row, column = max(0, top - reach), max(0, left - reach)
        planes = read_window(frame, row, min(height, bottom + reach), column, min(width, right + reach))
        return crop(bleed(planes), top - row, bottom - top, left - column, right - left) if reach else planes

    return read


def bleed(planes: Tensor) -> Tensor:
    """Colour and alpha (1, 2 or 4, H, W) with the colours of visible pixels spread `BLEED` pixels under invisible ones.

    What colour a pixel of alpha 0 has is left to chance, black most often. Enlarging mixes it into its neighbours,
    and a dark fringe would be seen around them.
    """
    colour = planes[:, :-1]
    visible = planes[:, -1:] > 0
    if not visible.any():
        return planes
    for _ in range(BLEED):
        if visible.all():
            break
        share = F.avg_pool2d(visible.float(), 3, 1, 1)
        mean = F.avg_pool2d(colour * visible, 3, 1, 1) / share.clamp(min=1e-6)
        colour = torch.where(visible | (share == 0), colour, mean)
        visible = share > 0
    return torch.cat((colour, planes[:, -1:]), dim=1)
