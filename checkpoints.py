"""Networks on disk: one file each, written whole or not at all, and safe to open.

A checkpoint is a dictionary of plain values and state dicts, read with `weights_only=True`, so that
opening a stranger's file runs none of the stranger's code:

    format 1 · model · scale · degradation · shape      what network this is, enough to build it again
    date · licence · history                            where it comes from
    params                                              the best weights so far: what upscaling uses
    training                                            what is needed to go on: see training.py
"""

import re
from datetime import datetime
from pathlib import Path

import torch
from torch import nn

from images import UsageError, UserError, note, replacing, unused
from srcnn import SRCNN

FORMAT = 1
MODELS = Path("models")
PRETRAINED = MODELS / "pretrained"
LICENCE = "These weights belong to whoever trained them; the pictures they were trained on may have terms of their own."


def now() -> str:
    """The date and time as they stand in names of files: sortable, without a colon, which Windows forbids."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def model_name(checkpoint: dict) -> str:
    """srcnn, or srcnn-real where it was trained on the degradation of real pictures."""
    return checkpoint["model"] + ("" if checkpoint["degradation"] == "bicubic" else f"-{checkpoint['degradation']}")


def new_path(checkpoint: dict) -> Path:
    """models/srcnn_x2.2026-01-31_12-00-00.pt, a name that no file has yet."""
    return unused(MODELS / f"{model_name(checkpoint)}_x{checkpoint['scale']}.{now()}.pt")


def save_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint; the file that was there before stays whole until this one is. Raises UserError."""
    with replacing(path) as temporary:
        try:
            torch.save(
                {"format": FORMAT, "licence": LICENCE, **checkpoint, "date": datetime.now().isoformat()}, temporary
            )
        except RuntimeError as error:  # torch reports a failed write this way, a full disk above all
            raise OSError(None, str(error).splitlines()[0]) from error


def load_checkpoint(path) -> dict:
    """Read a checkpoint of this project. Raises UsageError for no file, UserError for any other kind of file."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # anything at all may be wrong with a file that is no checkpoint
        raise UserError(f"{path}: is not a checkpoint that can be opened safely") from error
    if not isinstance(checkpoint, dict) or "format" not in checkpoint:
        raise UserError(f"{path}: is not a checkpoint of this project")
    if checkpoint["format"] != FORMAT:
        raise UserError(f"{path}: has format {checkpoint['format']}; this program reads format {FORMAT}")
    return checkpoint


def build_network(model: str, shape: dict) -> nn.Module:
    """An untrained network: `shape` holds the keyword arguments of its class."""
    return {"srcnn": SRCNN}[model](**shape)


def load_network(checkpoint: dict) -> nn.Module:
    """The network of a checkpoint with its best weights, ready to upscale. Raises UserError if they do not fit."""
    try:
        network = build_network(checkpoint["model"], checkpoint["shape"])
        network.load_state_dict({key: value.float() for key, value in checkpoint["params"].items()})
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"the checkpoint's weights fit no network here ({str(error).splitlines()[0]})") from error
    return network.eval().requires_grad_(False)


def find_latest(folder: Path, measured: bool = False, **wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in a folder whose entries are as `wanted`, for instance model="srcnn", scale=2.

    With `measured`, only those that have been through an epoch at least: earlier ones are no use but to go on.
    Files that cannot be opened are named and passed over; a file of another program is none of ours.
    """
    found = []
    for path in sorted(folder.glob("*.pt")):
        if not re.search(r"_x\d+\.", path.name):
            continue
        try:
            checkpoint = load_checkpoint(path)
        except UserError as error:
            note(f"passed over: {error}")
            continue
        if measured and not checkpoint["history"]:
            continue
        if all(checkpoint.get(key) == value for key, value in wanted.items()):
            found.append((checkpoint["date"], path, checkpoint))
    return max(found, key=lambda entry: entry[:2])[1:] if found else None
