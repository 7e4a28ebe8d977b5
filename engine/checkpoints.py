"""Networks on disk: one file each, written whole or not at all, and safe to open.

A checkpoint is a dictionary of plain values and state dicts, read with `weights_only=True`, so that
opening a stranger's file runs none of the stranger's code:

    format 1 · model · scale · degradation · shape      what network this is, enough to build it again
    date · licence · history                            where it comes from
    params                                              the best weights so far: what upscaling uses
    training                                            what is needed to resume: see RunState in resume.py
"""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from engine.entries import FORMAT, checked_entries, fitting_network
from engine.layouts import Found, find_network, generator_of, likelier_activation
from engine.opening import open_weights
from imaging.console import UserError, note
from imaging.writing import replacing, unused

MODELS = Path("models")  # what is trained here
PRETRAINED = Path(__file__).parents[1] / "models" / "pretrained"  # what ships with the program
OURS = re.compile(r"_x\d+\.")  # in all names that `new_path` gives
WEIGHTS = (".pt", ".pth", ".safetensors")
LICENCE = "These weights belong to whoever trained them; the pictures they were trained on may have terms of their own."


def now() -> str:
    """The date and time as they stand in names of files: sortable, without a colon, which Windows forbids."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def model_name(checkpoint: dict) -> str:
    """What a network is called: srcnn, rrdb-photo by what it was trained on, esrgan-srvgg-real by its generator too."""
    words = [checkpoint["model"]]
    if words == ["esrgan"] and generator_of("esrgan", checkpoint["shape"]) == "srvgg":
        words.append("srvgg")
    if checkpoint["degradation"] != "bicubic":
        words.append(checkpoint["degradation"])
    return "-".join(words)


def new_path(checkpoint: dict, folder: Path | None = None) -> Path:
    """models/srcnn_x2.2026-01-31_12-00-00.pt, a name that no file in the folder has yet."""
    return unused((folder or MODELS) / f"{model_name(checkpoint)}_x{checkpoint['scale']}.{now()}.pt")


def is_dated(path: Path) -> bool:
    """Whether a file has a name as `new_path` gives it, which says no more than its network and when it was made."""
    return bool(re.search(r"_x\d+\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?$", path.stem))


def save_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint; the file that was there before stays whole until this one is. Raises UserError."""
    with replacing(path) as temporary:
        try:
            # What is not needed to tell checkpoints apart comes last: reading a head ends there.
            about = {"format": FORMAT, "licence": LICENCE, "date": "", **checkpoint}
            last = {name: about.pop(name) for name in ("params", "training") if name in about}
            torch.save({**about, "date": datetime.now().isoformat(), **last}, temporary)
        except RuntimeError as error:  # torch reports a failed write this way, and not why it failed
            reason = str(error).splitlines()[0]
            if "writ" in reason or "inline_container" in reason:
                reason = "the disk is full or takes no more; what was saved before is whole"
            raise OSError(None, reason) from error


def load_checkpoint(path) -> dict:
    """Read a checkpoint of this project, or weights in a published layout as a checkpoint without a history.

    Its weights are float32. Raises UsageError for no file, UserError for one that is neither, is damaged, or says of
    itself what is not so.
    """
    try:
        head, load = open_weights(path)
        if is_ours(head):
            checkpoint = checked_entries(head)
            found = fitting_network(checkpoint)
        else:
            found = find_network(head)
            checkpoint = without_history(found)
        loaded = load()
        checkpoint["params"] = found.weights(loaded)
    except UserError as error:
        raise type(error)(f"{path}: {error}") from error
    if "training" in checkpoint:
        checkpoint["training"] = loaded["training"]
    if found.shape.get("activation") == "leaky relu" and not is_ours(head):
        activation = likelier_activation(found.shape, checkpoint["params"])
        checkpoint["shape"] = {**found.shape, "activation": activation}
        note(f"{path}: its activations have no weights; {activation} restores a drawn picture best")
    if found.remark:
        note(f"{path}: {found.remark}")
    return checkpoint


def read_head(path) -> dict:
    """A checkpoint without its tensors' values, which are neither read nor checked. Raises as load_checkpoint does."""
    try:
        head, _ = open_weights(path, last="training")
        if not is_ours(head) or "date" not in head:  # older versions wrote that at the end
            head, _ = open_weights(path)
        return checked_entries(head) if is_ours(head) else without_history(find_network(head))
    except UserError as error:
        raise type(error)(f"{path}: {error}") from error


def is_ours(head: Any) -> bool:
    """Whether what a file holds is a checkpoint of this project."""
    return isinstance(head, dict) and "format" in head


def without_history(found: Found) -> dict:
    """A network of another program as a checkpoint, but for its weights."""
    entries = {"model": found.model, "scale": found.shape["scale"], "degradation": "bicubic", "shape": found.shape}
    return {**entries, "history": [], "date": ""}


def find_latest(folder: Path, measured: bool = False, **wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in a folder whose entries are as `wanted`, for instance model="srcnn", scale=2.

    With `measured`, only those that have been through an epoch at least: earlier ones are no use but to go on.
    """
    tell_others(folder, wanted)
    found = fitting_heads(folder, wanted)
    if measured:
        found = ((path, head) for path, head in found if "training" not in head or head["history"])
    return first_that_loads(sorted(found, key=lambda pair: pair[1]["date"], reverse=True))


def tell_others(folder: Path, wanted: dict) -> None:
    """Name the files of weights in a folder that would do but for their names.

    A training that goes on writes over its file, and who gave one another name, or put it there, may want to keep it.
    """
    for path in sorted(path for path in folder.glob("*") if path.suffix.lower() in WEIGHTS):
        if path.suffix == ".pt" and OURS.search(path.name):
            continue
        head = other_head(path, *version(path))
        if head and all(head.get(key) == value for key, value in wanted.items()):
            how = f"to use it, name it: -m {path}, in train --from or --resume"
            pass_over(f"{path}: is not called as a training calls its files; {how}", *version(path))


def fitting_heads(folder: Path, wanted: dict) -> Iterator[tuple[Path, dict]]:
    """The heads of the checkpoints in a folder whose entries are as `wanted`, by name.

    Files that cannot be opened are named and passed over; a file of another program is none of ours.
    """
    for path in sorted(folder.glob("*.pt")):
        if not OURS.search(path.name):
            continue
        head = known_head(path, *version(path))
        if head and all(head.get(key) == value for key, value in wanted.items()):
            yield path, head


def first_that_loads(found: Iterable[tuple[Path, dict]]) -> tuple[Path, dict] | None:
    """The first of these checkpoints, whole; those with a good head and damaged weights are named and passed over."""
    for path, _ in found:
        try:
            return path, load_checkpoint(path)
        except UserError as error:
            pass_over(f"{error}", *version(path))
    return None


# Whoever chooses a network looks through folders several times: what has been read or said of a file stands while the
# file is the same.


def version(path: Path) -> tuple[int, ...]:
    """What changes with a file; nothing if it has gone."""
    try:
        about = path.stat()
    except OSError:
        return ()
    return about.st_ino, about.st_size, about.st_mtime_ns


@cache
def known_head(path: Path, *version: int) -> dict | None:
    """The head of a file; None, and a line, for one that cannot be opened."""
    try:
        return read_head(path)
    except UserError as error:
        pass_over(f"{error}", *version)
        return None


@cache
def other_head(path: Path, *version: int) -> dict | None:
    """The same without a line: what lies there under a name of its own may be anything."""
    try:
        return read_head(path)
    except UserError:
        return None


@cache
def pass_over(reason: str, *version: int) -> None:
    """Say why a file is left out."""
    note(f"passed over: {reason}")
