"""Any picture through any network."""

import math
import os
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from checkpoints import load_network, model_name, now
from data import Pair, centre
from images import (
    WRITTEN_FORMATS,
    UsageError,
    UserError,
    check_target,
    draw_sheet,
    find_pictures,
    from_bytes,
    note,
    psnr,
    read_picture,
    replacing,
    resize,
    rgb_to_luma,
    rgb_to_ycbcr,
    unused,
    write_picture,
    ycbcr_to_rgb,
)

UPSCALED = Path("images_upscaled")
TILE = 256  # pixels a side of what a network gets at once,
MARGIN = 32  # and at most so many around them


def choose_device(cpu: bool = False) -> torch.device:
    """CUDA if there is one, then Apple's MPS, then the CPU; the CPU at once if asked for.

    Under torchrun each process has a GPU of its own. Raises UsageError where there are too few.
    """
    if not cpu and torch.cuda.is_available():
        number = int(os.environ.get("LOCAL_RANK", 0))
        if number >= torch.cuda.device_count():
            raise UsageError(f"--nproc-per-node: is more than the {torch.cuda.device_count()} GPUs of this machine")
        return torch.device("cuda", number)
    if not cpu and "LOCAL_RANK" not in os.environ and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(wanted: str, device: torch.device, luma: bool) -> str:
    """fp32, bf16 or fp16: what `--precision` names, or for "auto" the fastest that does not cost quality.

    Half precision halves the time on processors that compute with it, and takes several times longer on others.
    SRCNN, a luma network, loses 0.02 to 0.05 dB by it and keeps float32; deep networks do not notice.
    Raises UsageError for fp16 on a CPU, which has no use for it.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16: is for GPUs; bf16 is what some CPUs have")
    if wanted != "auto":
        return wanted
    if luma or device.type not in ("cpu", "cuda"):
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def computing_in(precision: str, device: torch.device):
    """A context in which convolutions compute with this precision; weights and what must be exact stay float32."""
    return torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32")


@torch.inference_mode()
def upscale(network: nn.Module, low: Tensor, scale: int) -> Tensor:
    """(1, 3, H, W) in 0..1 → (1, 3, scale·H, scale·W) in 0..1, on the CPU.

    A luma network restores the Y of the bicubically enlarged picture; Cb and Cr stay bicubic.
    """
    if not network.luma:
        return in_tiles(network, low, scale).clamp(0, 1)
    ycbcr = rgb_to_ycbcr(resize(low, scale))
    ycbcr[:, :1] = in_tiles(network, ycbcr[:, :1])
    return ycbcr_to_rgb(ycbcr).clamp(0, 1)


def in_tiles(network: nn.Module, picture: Tensor, scale: int = 1, tile: int = TILE) -> Tensor:
    """The network over a picture of any size, tile by tile, so that memory does not grow with the picture.

    (1, C, H, W) → (1, C, scale·H, scale·W). Each tile is cut with a margin as wide as the network sees, so that the
    result is the same as in one go; a deep network sees so far that 32 pixels must do.
    """
    device = next(network.parameters()).device
    margin = min(network.radius, MARGIN)
    batch, channels, height, width = picture.shape
    result = torch.empty(batch, channels, scale * height, scale * width, dtype=picture.dtype)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = max(0, top - margin), max(0, left - margin)
            part = picture[..., above : top + tile + margin, before : left + tile + margin]
            restored = network(part.to(device, memory_format=torch.channels_last)).cpu()
            target = result[..., scale * top : scale * (top + tile), scale * left : scale * (left + tile)]
            y, x = scale * (top - above), scale * (left - before)
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
    if output and output.suffix.lower() in WRITTEN_FORMATS and len(inputs) > 1:
        raise UsageError(f"-o {output}: is one file for {len(inputs)} pictures; give a folder")
    failed = 0
    for path, below in tqdm(inputs, unit="picture", disable=len(inputs) == 1):
        try:
            target = _target(path, below, output, len(inputs) == 1, checkpoint)
            check_target(target)
            write_picture(target, upscale(network, read_picture(path), checkpoint["scale"]))
        except (UserError, OSError) as error:
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


# ---------------------------------------------------------------------------------------------
# What a run leaves to look at
# ---------------------------------------------------------------------------------------------


def enlarged(small: Tensor, large: Tensor) -> Tensor:
    """The poor picture at the size of the sharp one: bicubic, unless it has that size already."""
    return small if small.shape == large.shape else resize(small, size=large.shape[-2:])


@torch.inference_mode()
def draw_progress(checkpoint: dict, held_out: list[Pair], path: Path) -> None:
    """Beside a checkpoint at `path`: the curves of its training, and held-out pictures before and after."""
    pictures = [pair.pictures() for pair in held_out]
    bicubic = [psnr(enlarged(*pair), pair[1], checkpoint["scale"]).clamp(max=100).item() for pair in pictures]
    draw_curves(checkpoint["history"], sum(bicubic) / len(bicubic), path.with_suffix(".curves.png"))
    draw_before_after(checkpoint, held_out, path.with_suffix(".before_after.png"))


def draw_curves(history: list[dict], bicubic: float, path: Path) -> None:
    """The parts of the loss and the PSNR of every epoch, with bicubic's as the line to beat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [entry["epoch"] for entry in history]

    def plot(axis, name: str, label: str) -> None:
        if any(name in entry for entry in history):
            axis.plot(epochs, [entry.get(name, math.nan) for entry in history], marker=".", label=label)

    for name in ("loss", "pixel", "perceptual", "adversarial", "judge_loss"):
        plot(left, name, name.replace("judge_loss", "discriminator"))
    left.set(title="Training loss", xlabel="epoch", ylabel="mean over the epoch", yscale="log")
    plot(right, "psnr", "held-out photographs")
    plot(right, "validation_psnr", "--val")
    right.axhline(bicubic, color="grey", linestyle="--", label="bicubic on the held-out")
    right.set(title="Quality", xlabel="epoch", ylabel="PSNR of luma (dB)")
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def draw_before_after(checkpoint: dict, held_out: list[Pair], path: Path) -> None:
    """The most detailed held-out pictures (at most three): low, bicubic, restored, as they were."""
    network, scale = load_network(checkpoint), checkpoint["scale"]

    def detail(pair: Pair) -> float:
        return rgb_to_luma(from_bytes(pair.large[None])).diff(dim=-1).abs().mean().item()

    rows = []
    for pair in sorted(held_out, key=detail, reverse=True)[:3]:
        small, large = centre(pair, 96).pictures()
        bicubic = enlarged(small, large)
        if network.luma:
            restored = rgb_to_ycbcr(small)
            restored[:, :1] = network(restored[:, :1])
            restored = ycbcr_to_rgb(restored)
        else:
            restored = network(small)
        captions = [
            f"{name} ×{scale}, {psnr(picture, large, scale).item():.2f} dB"
            for name, picture in (("bicubic", bicubic), (checkpoint["model"], restored))
        ]
        row = [*zip(captions, (bicubic, restored), strict=True), ("as it was", large)]
        rows.append(row if network.luma else [("low", small), *row])
    draw_sheet(rows, path)
