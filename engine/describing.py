"""What a file of weights is, in lines: `python main.py info FILE`.

The settings stand as a TOML file has them: `train --settings` reads what is printed below their heading.
"""

import math
from pathlib import Path

from engine.assembling import settings_of
from engine.checkpoints import load_checkpoint, model_name
from engine.discriminators import find_discriminator
from engine.layouts import generator_of
from engine.opening import open_weights
from engine.overrides import as_toml, listed
from engine.resume import RunState, epochs_done, in_epochs
from imaging.console import UserError, printable

NAMED = 8  # photographs, of those that are held out
FIGURES = {
    "psnr": "PSNR {:.2f} dB", "held_out_perceptual": "distance to VGG19 {:.4f}", "validation_psnr": "--val {:.2f} dB"
}  # fmt: skip


def describe(path: Path) -> list[str]:
    """Lines about a checkpoint of this project, another program's weights, or a discriminator. Raises UserError."""
    try:
        checkpoint = load_checkpoint(path)
    except UserError:
        if lines := describe_discriminator(path):
            return lines
        raise
    lines = [f"file: {path}, {path.stat().st_size / 1e6:.1f} MB", *describe_network(checkpoint)]
    if not checkpoint["date"]:
        return [*lines, "data, history, settings: another program's weights, which do not say"]
    training = checkpoint.get("training")
    try:
        state = RunState.from_dict(training) if training else None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    lines += describe_history(checkpoint["history"], state)
    if not state:
        return [*lines, "settings: none: it holds weights alone"]
    lines += describe_data(state)
    settings = settings_of(state.settings, f"{path}: ")
    return [*lines, "", "# settings", *(f"{name} = {as_toml(value)}" for name, value in listed(settings).items())]


def describe_network(checkpoint: dict) -> list[str]:
    """Kind, shape and size of a network, and where it comes from."""
    shape = ", ".join(f"{name} {value}" for name, value in checkpoint["shape"].items())
    count = sum(value.numel() for value in checkpoint["params"].values())
    lines = [
        f"network: {model_name(checkpoint)} ×{checkpoint['scale']}",
        f"shape: {generator_of(checkpoint['model'], checkpoint['shape'])} with {shape}; {count:,} parameters",
    ]
    if checkpoint["date"]:
        lines += [f"date: {checkpoint['date']}", f"degradation: {checkpoint['degradation']}"]
    if checkpoint.get("licence"):
        lines.append(f"licence: {printable(checkpoint['licence'], 300)}")
    return lines


def describe_history(history: list[dict], state: RunState | None) -> list[str]:
    """How long it was trained, and how well it did."""
    if not history:
        return ["history: no epoch yet"]
    last = history[-1]
    figures = ", ".join(form.format(last[name]) for name, form in FIGURES.items() if name in last)
    done = in_epochs(epochs_done(history))
    lines = [f"history: {done}, {last.get('step', 0)} updates; the last: {figures or 'no figures'}"]
    if measured := [entry for entry in history if math.isfinite(entry.get("psnr", math.nan))]:
        best = max(measured, key=lambda entry: entry["psnr"])
        lines.append(f"best PSNR: {best['psnr']:.2f} dB, in epoch {best['epoch']}")
    if state:
        left = state.last_step - state.step
        lines.append(f"run: {'unfinished, ' + str(left) + ' updates are left' if left > 0 else 'finished'}")
    return lines


def describe_data(state: RunState) -> list[str]:
    """What it was trained on and measured on."""
    photographs, held_out = (state.data.get(name) or [] for name in ("photographs", "held_out"))
    named = ", ".join(printable(name) for name in held_out[:NAMED])
    return [
        f"data: {state.data.get('pairs', '?')} pictures of {len(photographs)} photographs",
        f"held out: {named}{' …' if held_out[NAMED:] else ''}",
    ]


def describe_discriminator(path: Path) -> list[str]:
    """Lines about a discriminator; none if it is not one."""
    try:
        head, load = open_weights(path)
        places = find_discriminator(head)
        load()
    except UserError:
        return []
    kind = "U-Net, as Real-ESRGAN's" if "conv9.weight" in places else "VGG style, as ESRGAN's"
    return [f"file: {path}, {path.stat().st_size / 1e6:.1f} MB", f"discriminator: {kind}; {len(places)} tensors"]
