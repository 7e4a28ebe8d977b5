"""Any picture through any network, and how good the result is."""

from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import degrade
from checkpoints import model_name, now
from images import (
    PROTOCOL,
    UsageError,
    UserError,
    crop_to_multiple,
    find_pictures,
    note,
    psnr,
    read_picture,
    resize,
    rgb_to_ycbcr,
    round_to_8_bits,
    ssim,
    unused,
    write_picture,
    ycbcr_to_rgb,
)

UPSCALED = Path("images_upscaled")
TILE = 512  # pixels a side


def choose_device(cpu: bool = False) -> torch.device:
    """CUDA if there is one, then Apple's MPS, then the CPU; the CPU at once if asked for."""
    if not cpu and torch.cuda.is_available():
        return torch.device("cuda")
    if not cpu and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@torch.inference_mode()
def upscale(network: nn.Module, low: Tensor, scale: int) -> Tensor:
    """(1, 3, H, W) in 0..1 → (1, 3, scale·H, scale·W) in 0..1, on the CPU.

    A luma network restores the Y of the bicubically enlarged picture; Cb and Cr stay bicubic.
    """
    ycbcr = rgb_to_ycbcr(resize(low, scale))
    ycbcr[:, :1] = in_tiles(network, ycbcr[:, :1])
    return ycbcr_to_rgb(ycbcr).clamp(0, 1)


def in_tiles(network: nn.Module, luma: Tensor, tile: int = TILE) -> Tensor:
    """The network over a picture of any size, tile by tile, so that memory does not grow with the picture.

    Each tile is cut with a margin as wide as the network sees, so that the result is the same as in one go.
    """
    device = next(network.parameters()).device
    margin = network.radius
    result = torch.empty_like(luma)
    height, width = luma.shape[-2:]
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = max(0, top - margin), max(0, left - margin)
            part = luma[..., above : top + tile + margin, before : left + tile + margin]
            restored = network(part.to(device)).cpu()
            target = result[..., top : top + tile, left : left + tile]
            y, x = top - above, left - before
            target.copy_(restored[..., y : y + target.shape[-2], x : x + target.shape[-1]])
    return result


def list_inputs(inputs: list[Path]) -> list[tuple[Path, Path]]:
    """Every picture that `-i` names, files and folders: (path, path below its folder).

    Raises UsageError for what is not there and for folders without pictures.
    """
    found = []
    for path in inputs:
        if path.is_dir():
            found += [(picture, picture.relative_to(path)) for picture in find_pictures(path)]
        elif path.exists():
            found.append((path, Path(path.name)))
        else:
            raise UsageError(f"{path}: no such file")
    return found


def upscale_files(inputs: list[tuple[Path, Path]], output: Path | None, network: nn.Module, checkpoint: dict) -> None:
    """Enlarge pictures into `output`: a file's name for a single picture, else a folder (default images_upscaled/).

    A folder keeps the structure that the inputs have below theirs. A bad picture is named and the rest goes on;
    raises UserError at the end if there was one.
    """
    failed = 0
    for path, below in tqdm(inputs, unit="picture", disable=len(inputs) == 1):
        try:
            target = _target(path, below, output, len(inputs) == 1, checkpoint)
            write_picture(target, upscale(network, read_picture(path), checkpoint["scale"]))
        except UserError as error:
            if len(inputs) == 1:
                raise
            note(f"failed: {error}")
            failed += 1
        else:
            tqdm.write(str(target))
    if failed:
        raise UserError(f"{failed} of {len(inputs)} pictures failed, {len(inputs) - failed} were enlarged")


def _target(path: Path, below: Path, output: Path | None, single: bool, checkpoint: dict) -> Path:
    """Where the enlarged picture goes: never onto its source, nor onto an earlier result unless -o names that file."""
    if single and output and output.suffix and not output.is_dir():
        if output.resolve() == path.resolve():
            raise UsageError(f"{output}: is the picture to enlarge; choose another name for -o")
        return output
    stem = f"{below.stem}.x{checkpoint['scale']}.{model_name(checkpoint)}.{now()}"
    return unused(((output or UPSCALED) / below).with_name(f"{stem}.png"))


def evaluate_folder(folder: Path, scale: int, network: nn.Module | None) -> dict:
    """Crop, shrink, enlarge and compare every picture of a folder by the protocol of images.PROTOCOL.

    Returns {"bicubic": {"psnr", "ssim"}, "model": {…}, "images": [{"name", "bicubic", "model"}]}; no "model"
    without a network. Bad pictures are named and left out; raises UserError if none is left.
    """
    rows = []
    for path in find_pictures(folder):
        try:
            high = crop_to_multiple(read_picture(path), scale)
        except UserError as error:
            note(f"left out: {error}")
            continue
        if min(high.shape[-2:]) < 11 + 2 * scale:
            note(f"left out: {path}: only {high.shape[-1]}×{high.shape[-2]} pixels, too few to measure")
            continue
        low = degrade.bicubic(high, scale)
        row = {"name": path.relative_to(folder).as_posix(), "bicubic": _measure(resize(low, scale), high, scale)}
        if network is not None:
            row["model"] = _measure(upscale(network, low, scale), high, scale)
        rows.append(row)
    if not rows:
        raise UserError(f"{folder}: no picture that can be measured")
    means = {
        method: {metric: sum(row[method][metric] for row in rows) / len(rows) for metric in ("psnr", "ssim")}
        for method in rows[0]
        if method != "name"
    }
    return {**means, "images": rows}


def _measure(restored: Tensor, high: Tensor, scale: int) -> dict[str, float]:
    restored = round_to_8_bits(restored)
    return {"psnr": psnr(restored, high, scale).item(), "ssim": ssim(restored, high, scale).item()}


def evaluate_sets(folders: list[Path], scale: int, network: nn.Module | None) -> dict:
    """`evaluate_folder` for several folders, in the form that `evaluate --json` writes."""
    names = [Path(folder).resolve().name for folder in folders]
    names = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    sets = {name: evaluate_folder(folder, scale, network) for name, folder in zip(names, folders, strict=True)}
    return {"protocol": PROTOCOL, "scale": scale, "sets": sets}
