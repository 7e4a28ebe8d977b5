"""Networks on disk: one file each, written whole or not at all, and safe to open.

A checkpoint is a dictionary of plain values and state dicts, read with `weights_only=True`, so that
opening a stranger's file runs none of the stranger's code:

    format 1 · model · scale · degradation · shape      what network this is, enough to build it again
    date · licence · history                            where it comes from
    params                                              the best weights so far: what upscaling uses
    training                                            what is needed to resume: see RunState in resume.py
"""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import torch

from engine.weights import read_weights, recognise
from imaging.console import UserError, note, replacing, unused

FORMAT = 1
ENTRIES = {"model", "scale", "degradation", "shape", "date", "history", "params"}
MODELS = Path("models")  # what is trained here
PRETRAINED = Path(__file__).parents[1] / "models" / "pretrained"  # what ships with the program
LICENCE = "These weights belong to whoever trained them; the pictures they were trained on may have terms of their own."


# What settings, parts of a run and figures were called in checkpoints that older versions wrote.
NEW_NAMES = {
    "judge": "discriminator", "judge_optimizer": "discriminator_optimizer", "judge_loss": "discriminator_loss",
    "judge_real": "discriminator_real", "judge_restored": "discriminator_restored",
    "judge_rate": "discriminator_rate", "judge_every": "discriminator_every", "judge_waits": "discriminator_waits",
    "average": "ema",
}  # fmt: skip


def with_new_names(entries: dict) -> dict:
    """A dictionary from a checkpoint with the names of today."""
    return {NEW_NAMES.get(name, name): value for name, value in entries.items()}


def now() -> str:
    """The date and time as they stand in names of files: sortable, without a colon, which Windows forbids."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def generator_of(model: str, shape: dict) -> str:
    """Whose layers a network has: ESRGAN's generator is RRDB, or SRVGG where its shape says so; else its own."""
    if model != "esrgan":
        return model
    return "srvgg" if "convolutions" in shape else "rrdb"


def model_name(checkpoint: dict) -> str:
    """What a network is called: srcnn, rrdb-photo by what it was trained on, esrgan-srvgg-real by its generator too."""
    words = [checkpoint["model"]]
    if words == ["esrgan"] and generator_of("esrgan", checkpoint["shape"]) == "srvgg":
        words.append("srvgg")
    if checkpoint["degradation"] != "bicubic":
        words.append(checkpoint["degradation"])
    return "-".join(words)


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
    """Read a checkpoint of this project, or weights in a published layout as a checkpoint without a history.

    Raises UsageError for no file, UserError for a file that is neither or is damaged.
    """
    try:
        loaded = read_weights(path)
        if not isinstance(loaded, dict) or "format" not in loaded:
            model, shape, params = recognise(loaded)
            return {
                "model": model, "scale": shape["scale"], "degradation": "bicubic", "shape": shape,
                "params": params, "history": [], "date": "",
            }  # fmt: skip
        if loaded["format"] != FORMAT:
            raise UserError(f"has format {loaded['format']}; this program reads format {FORMAT}")
        if missing := ENTRIES - loaded.keys():
            raise UserError(f"is not a whole checkpoint: it has no {', '.join(sorted(missing))}")
        return {**loaded, "history": [with_new_names(entry) for entry in loaded["history"]]}
    except UserError as error:
        raise type(error)(f"{path}: {error}") from error


def find_latest(folder: Path, measured: bool = False, **wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in a folder whose entries are as `wanted`, for instance model="srcnn", scale=2.

    With `measured`, only those that have been through an epoch at least: earlier ones are no use but to go on.
    """
    found = fitting_checkpoints(folder, wanted)
    if measured:
        found = ((path, one) for path, one in found if "training" not in one or one["history"])
    return max(found, key=lambda pair: pair[1]["date"], default=None)


def fitting_checkpoints(folder: Path, wanted: dict) -> Iterator[tuple[Path, dict]]:
    """The checkpoints in a folder whose entries are as `wanted`, by name; one at a time, for they may be large.

    Files that cannot be opened are named and passed over; a file of another program is none of ours.
    """
    for path in sorted(folder.glob("*.pt")):
        if not re.search(r"_x\d+\.", path.name):  # a file of another program
            continue
        try:
            checkpoint = load_checkpoint(path)
        except UserError as error:
            note(f"passed over: {error}")
            continue
        if all(checkpoint.get(key) == value for key, value in wanted.items()):
            yield path, checkpoint
