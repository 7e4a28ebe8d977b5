"""Draws lessons/pictures/training.gif: SRCNN on its way from random weights to a picture.

    python tools/animate_training.py

It is the training of lesson 3, cut short, with its middle layer 1×1. Half a minute of one CPU core.
"""

import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

from course import LESSONS, crop, photograph, photograph_pairs, seed

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from engine.data import sample_batch
from engine.optimizers import AdamFromGrey
from imaging.console import run_command
from imaging.images import from_bytes, psnr, resize, rgb_to_luma
from imaging.writing import replacing
from srcnn import SRCNN

TARGET = LESSONS / "pictures" / "training.gif"
SCALE, STEPS, FRAMES = 2, 400, 20
MILLISECONDS = 250  # that each frame stays


def frame_steps(steps: int, frames: int) -> list[int]:
    """From 0 to `steps`, close together at first, where most is learnt; no step twice."""
    return sorted({round(steps * (number / (frames - 1)) ** 2) for number in range(frames)})


def draw_frame(restored: Tensor, curve: list[tuple[int, float]], bicubic: float) -> Image.Image:
    """The picture as the network restores it now, and its PSNR so far."""
    figure, axes = plt.subplots(1, 2, figsize=(5.4, 2.5), width_ratios=[1, 1.2], dpi=72)
    axes[0].imshow(restored[0, 0].clamp(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[0].set_title(f"step {curve[-1][0]}")
    axes[0].set_axis_off()
    axes[1].plot(*zip(*curve, strict=True), marker=".", label="SRCNN")
    axes[1].axhline(bicubic, color="grey", linestyle="--", label="bicubic")
    axes[1].set(xlim=(0, STEPS), ylim=(5, 33), xlabel="step", title="PSNR of this picture (dB)")
    axes[1].legend(loc="lower right")
    figure.canvas.draw()
    image = Image.frombuffer("RGBA", figure.canvas.get_width_height(), figure.canvas.buffer_rgba()).convert("RGB")
    plt.close(figure)
    return image.quantize(32)


def train(steps: int, frames: int) -> list[Image.Image]:
    """The frames of one training."""
    training, _ = photograph_pairs(SCALE, enlarge=True)
    high = rgb_to_luma(crop(photograph("astronaut.png"), 30, 170, 88))
    low = resize(resize(high, 1 / SCALE), SCALE)
    torch.manual_seed(0)
    network = SRCNN((9, 1, 5))
    for layer in (network.extract, network.map, network.reconstruct):
        layer.reset_parameters()
    optimizer = AdamFromGrey(network, lr=2e-3, betas=(0.9, 0.99))
    generator, border = seed(), network.radius
    curve: list[tuple[int, float]] = []
    images = []
    wanted = frame_steps(steps, frames)
    for step in range(steps + 1):
        if step in wanted:
            with torch.no_grad():
                restored = network(low)
            curve.append((step, psnr(restored, high, SCALE).item()))
            images.append(draw_frame(restored, curve, psnr(low, high, SCALE).item()))
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = [training[i] for i in torch.randint(len(training), (16,), generator=generator).tolist()]
        small, large = (rgb_to_luma(from_bytes(part)) for part in sample_batch(chosen, 33, generator))
        loss = F.mse_loss(network.forward_valid(small), large[..., border:-border, border:-border])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return images


def main(_: None = None) -> None:
    """Train, and write the animation."""
    first, *others = train(STEPS, FRAMES)
    durations = [MILLISECONDS] * len(others) + [8 * MILLISECONDS]  # the last one stays
    with replacing(TARGET) as temporary:
        first.save(temporary, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    print(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size // 1000} KB, {1 + len(others)} frames")


if __name__ == "__main__":
    sys.exit(run_command(main, None))
