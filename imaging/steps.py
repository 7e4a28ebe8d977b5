"""A degradation as a list of steps, drawn and not yet done: it can be looked at, counted, repeated and told in words.

    for step, pictures in step_by_step(high, steps):
        print(caption(step, pictures))

degrade.py draws the lists; what a step does is in distortions.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from imaging.distortions import COMPRESSIONS, KERNELS, SHRINKING_KERNELS


@dataclass(frozen=True)
class Step:
    """One step, drawn and not yet done: `apply(pictures, **parameters)` does it."""

    name: str
    apply: Callable[..., Tensor]
    parameters: dict


def step_by_step(high: Tensor, steps: list[Step]) -> Iterator[tuple[Step, Tensor]]:
    """Do one step after the other: each step with the pictures (N, 3, …) after it, float32 in 0..1."""
    pictures = high.float()
    for step in steps:
        # A network that trains in half precision must not have its pictures made in it.
        with torch.autocast(pictures.device.type, enabled=False):
            pictures = step.apply(pictures, **step.parameters)
        yield step, pictures


def last_of(high: Tensor, steps: list[Step]) -> Tensor:
    """The pictures after the last step; those between are not kept."""
    for _, pictures in step_by_step(high, steps):  # noqa: B007
        pass
    return pictures


def caption(step: Step, pictures: Tensor) -> str:
    """What was drawn for the first picture of the batch, in at most two lines."""
    drawn: dict[str, Any] = {
        name: value[0].tolist() if isinstance(value, Tensor) else value for name, value in step.parameters.items()
    }
    size = f"{pictures.shape[-1]}×{pictures.shape[-2]}"
    if step.name == "blur":
        return _caption_of_blur(drawn)
    if step.name == "resize":
        return f"resize: {drawn['mode']}\nto {size}"
    if step.name == "shrink":
        return f"shrink: {list(SHRINKING_KERNELS)[drawn['kernel']]}\nto {size}"
    if step.name == "sharpen":
        amount = f"sharpen\namount {drawn['amount']:.1f}, σ {drawn['sigma']:.1f}"
        return amount if drawn["amount"] else "not sharpened\n"
    if step.name == "noise":
        strength = f"σ {255 * drawn['strength']:.0f} of 255"
        if drawn["kind"] == "Poisson":
            strength = f"strength {drawn['strength']:.2f}"
        colour = "grey" if drawn["grey"] else "colour"
        return f"noise: {drawn['kind']}\n{colour}, {strength}" if drawn["strength"] else f"no {drawn['kind']} noise\n"
    if step.name == "JPEG":
        return f"JPEG\nquality {drawn['quality']}"
    if step.name == "compress":
        kind = COMPRESSIONS[drawn["kind"]]
        return "not compressed\n" if kind == "none" else f"{kind}\nquality {drawn['quality']}"
    return f"{step.name}\n{size}"


def _caption_of_blur(drawn: dict[str, Any]) -> str:
    kind = KERNELS[drawn["kind"]]
    along, across = drawn["sigma"]
    if kind == "none":
        return "no blur\n"
    numbers = f"σ {along:.1f}"
    if "anisotropic" in kind:
        numbers += f" and {across:.1f}, θ {math.degrees(drawn['theta']) % 180:.0f}°"
    if " " in kind:
        numbers += f", β {drawn['beta']:.1f}"
    if kind == "sinc":
        numbers = f"ω {drawn['cutoff'] / math.pi:.2f}π"
    return f"blur: {kind} {drawn['size']}×{drawn['size']}\n{numbers}"
