"""Picture files through a network: one or a folder of them, with what lies beside the colours.

    upscale_files(list_inputs([Path("holiday")]), Path("large"), Chooser(None), UpscaleSettings())

What goes wrong on the way; transparency, 16 bits, animations. Names and folders are in targets.py.
"""

import math
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from engine.checkpoints import model_name
from engine.choosing import Chooser, Chosen
from engine.devices import bound_memory, gathered, rank_and_size, release_memory, run_on_first
from engine.networks import Network
from engine.settings import UpscaleSettings
from engine.targets import Target, plan_targets
from engine.upscaling import Tiling, crop, enlarged_pieces, one_of_three, thrice
from engine.video import upscale_film
from imaging.console import UserError, note, one_line, one_of_many
from imaging.files import open_picture
from imaging.film_writing import suitable_container
from imaging.films import is_film, open_film
from imaging.frames import Frame, Picture, frame_channels, frame_size, is_grey, new_frame, paste, read_window
from imaging.images import to_bytes
from imaging.saving import ANIMATED, WRITTEN_FORMATS, best_suffix, check_size, check_target, save_picture
from imaging.sheets import draw_comparison, write_slider
from imaging.writing import InUseError, unused

OUTCOMES = ("enlarged", "there", "failed", "passed over")
BLEED = 8  # pixels: as far as colours are spread under transparent pixels


# ---------------------------------------------------------------------------------------------
# Many files
# ---------------------------------------------------------------------------------------------


def upscale_files(
    inputs: list[tuple[Path, Path]], output: Path | None, chooser: Chooser, settings: UpscaleSettings
) -> None:
    """Enlarge pictures and films into `output`: a name for a single one, else a folder (default images_upscaled/).

    A folder keeps the structure that the inputs have below theirs. A bad picture is named and the rest goes on;
    raises UserError at the end if there was one.
    """
    bound_memory()
    plan = plan_targets(inputs, output, settings)
    single = len(plan) == 1
    batch = Batch(chooser, settings, Tiling(settings.tile, settings.precision))
    outcomes: Counter[str] = Counter()
    made: list[str] = []  # what is told of pictures, for the first process to tell it again:
    failures: list[str] = []  # of other ones nothing is heard
    rank, count = rank_and_size()  # films are shared piece by piece, pictures one by one
    form = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]"
    with tqdm(total=len(plan), bar_format=form, delay=1, leave=False) as bar:
        for done, (path, target) in enumerate(plan):
            bar.update(done - bar.n)

            def progress(share: float, end: int = done + 1) -> None:
                bar.update(min(share, end - bar.n))  # parts done once more with smaller tiles count once

            bar.set_description_str(f"{done + 1} of {len(plan)}: {one_line(path.name)}", refresh=False)
            if done % count != rank and not is_film(path):
                continue  # another process does it
            try:
                with one_of_many(path):
                    results = batch.upscale(path, target, progress)
            except InUseError:
                note(f"passed over: {path}: another run is at it")
                outcomes["passed over"] += 1
            except UserError as error:
                if single:
                    raise
                failures.append(f"failed: {error}" if str(path) in str(error) else f"failed: {path}: {error}")
                note(failures[-1])
                outcomes["failed"] += 1
            else:
                outcomes["enlarged" if results else "there"] += 1
                made += map(one_line, results)
                if results:
                    tqdm.write("\n".join(map(one_line, results)))
            finally:
                bar.clear()  # in its first second it is shown by what is written beside it, and would stay for ever
                release_memory()
    everyones = gathered((outcomes, made, failures))
    tell_of_others(everyones)
    outcomes = Counter({name: sum(one[name] for one, *_ in everyones) for name in OUTCOMES})
    if outcomes["failed"]:
        tried = outcomes["failed"] + outcomes["enlarged"]
        raise UserError(f"{outcomes['failed']} of {tried} pictures failed, {outcomes['enlarged']} were enlarged")
    if not single or not outcomes["enlarged"]:
        others = f", {outcomes['passed over']} left to another run" if outcomes["passed over"] else ""
        tqdm.write(f"{outcomes['enlarged']} enlarged, {outcomes['there']} were there already{others}")


def tell_of_others(everyones: list[tuple[Counter[str], list[str], list[str]]]) -> None:
    """Tell what others than the first process have made, and what failed there. Films are made, and told, by all."""
    _, made, failures = everyones[0]
    for _, others_made, others_failures in everyones[1:]:
        for line in others_made:
            if line not in made:
                tqdm.write(line)
        for line in others_failures:
            if line not in failures:
                note(line)


@dataclass
class Batch:
    """One run over pictures: how to enlarge, and what one picture leaves for the next."""

    chooser: Chooser
    settings: UpscaleSettings
    tiling: Tiling  # smaller tiles stay smaller

    def upscale(self, path: Path, target: Target, progress=lambda share: None) -> list[Path]:
        """Enlarge one file; returns what was written, which is nothing if the result was there already.

        `progress` is called with shares that sum to 1. Raises InUseError while another run makes the same, UserError.
        """
        if target.rival:
            raise UserError(f"{path}: with --keep-names its result would have the name of that of {target.rival}")
        if is_film(path):
            return self.upscale_film(path, target)
        settings, chosen, low = self.settings, self.chooser.fixed, None
        if target.kind == "dated":  # else the name does not depend on the network, nor on what the picture is like
            if chosen is None:
                low = open_picture(path, settings.huge, settings.srgb)
                chosen = self.chooser.for_picture(low)
            target = target.made_by(chosen.checkpoint, settings.outscale)
        with target.held(settings.skip_existing):
            # A kept name is given once: what stands there may be an original.
            if self.is_done(target):
                return []
            low = low or open_picture(path, settings.huge, settings.srgb)
            chosen = chosen or self.chooser.for_picture(low)
            with target.named(best_suffix(low)) as result:
                return upscale_picture(low, result, chosen, settings, self.tiling, progress)

    def is_done(self, target: Target) -> bool:
        """Whether nothing is left to do: a result stands there, or a name that must be kept is taken."""
        if target.kind == "kept" and (found := target.found()):
            if not target.is_there():
                note(f"left as it is: {found[0]}, which is older than {target.source}")
            return True
        return self.settings.skip_existing and target.is_there()

    def upscale_film(self, path: Path, target: Target) -> list[Path]:
        """Enlarge one film, together with the other processes that torchrun started. Else as `upscale`."""
        settings = self.settings
        film = open_film(path, settings.deinterlace)
        chosen = self.chooser.fixed or self.chooser.for_film(film)
        if target.kind == "dated":
            target = target.made_by(chosen.checkpoint, settings.outscale)
        with ExitStack() as stack:

            def claim() -> Path | None:
                stack.enter_context(target.held(True))
                if self.is_done(target):
                    return None
                return stack.enter_context(target.named(suitable_container(path, settings.codec)))

            result = run_on_first(claim)
            if result is None:
                return []
            return upscale_film(film, target.path, result, chosen, settings, self.tiling)


def upscale_picture(
    low: Picture, path: Path, chosen: Chosen, settings: UpscaleSettings, tiling: Tiling, progress
) -> list[Path]:
    """Enlarge a picture into the file `path`; returns what was written. `progress` as in `Batch.upscale`."""
    check_target(path)
    if len(low.frames) > 1 and WRITTEN_FORMATS[path.suffix.lower()] not in ANIMATED:
        note(f"{path}: such a file cannot hold an animation: this is its first frame")
        low = replace(low, frames=low.frames[:1])
    scale = chosen.checkpoint["scale"]
    factor = settings.outscale or scale
    height, width = (max(1, round(side * factor)) for side in frame_size(low.frames[0]))
    size = height, width
    check_size(path, *size)
    _check_memory(path, low, size)
    frames = [
        upscale_frame(
            chosen.network, frame, scale, size, tiling, settings.alpha_bicubic,
            lambda share: progress(share / len(low.frames)),
        )
        for frame in low.frames
    ]  # fmt: skip
    save_picture(path, replace(low, frames=frames), settings.quality)
    if not settings.compare:
        return [path]
    label = f"{model_name(chosen.checkpoint)} ×{factor:g}"
    sheet, page = (unused(path.with_name(f"{path.stem}.compare{suffix}")) for suffix in (".png", ".html"))
    draw_comparison(low.frames[0], frames[0], label, sheet)
    write_slider(low.frames[0], frames[0], label, page)
    return [path, sheet, page]


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
            f"{path}: would have {size[1]}×{size[0]} pixels and need {needed / 1e9:.0f} GB of memory; "
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
        if not piece.sum().isfinite():  # one that is no number makes the sum none
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
