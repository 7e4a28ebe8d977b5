"""What a checkpoint of this project says of itself: checked entry by entry, and against its tensors."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from torch import Tensor

from engine.contents import Made
from engine.layouts import (
    Found,
    check_sizes,
    ecbsr_shape,
    generator_of,
    on_meta,
    rrdb_shape,
    srcnn_shape,
    srvgg_shape,
)
from imaging.console import UserError, printable

FORMAT = 1
ENTRIES = frozenset({"model", "scale", "degradation", "shape", "date", "history", "params"})
MAX_SCALE = 16
SHAPES = {"srcnn": srcnn_shape, "rrdb": rrdb_shape, "srvgg": srvgg_shape, "ecbsr": ecbsr_shape}

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


def checked_entries(head: dict) -> dict:
    """The entries of a checkpoint: what they say must be what its tensors are. Raises UserError for what is wrong.

    `head` is what the file holds, with values or without. No network is built.
    """
    require("format", head["format"], is_count(head["format"]), "a whole number")
    if head["format"] != FORMAT:
        raise UserError(f"has format {head['format']}; this program reads format {FORMAT}")
    if missing := ENTRIES - head.keys():
        raise UserError(f"is not a whole checkpoint: it has no {', '.join(sorted(missing))}")
    is_known = isinstance(head["model"], str) and head["model"] in (*SHAPES, "esrgan")
    require("model", head["model"], is_known, "one that is known")
    require("scale", head["scale"], is_count(head["scale"], 1, MAX_SCALE), f"a whole number from 1 to {MAX_SCALE}")
    require("degradation", head["degradation"], is_word(head["degradation"]), "a word")
    require("date", head["date"], is_date(head["date"]), "a date")
    require("history", head["history"], is_history(head["history"]), "a list of figures by epochs")
    if "training" in head:
        require("training", head["training"], is_plain_dict(head["training"]), "what a run remembers")
    shape = checked_shape(head)
    kept = {name: value for name, value in head.items() if name in ("params", "training") or is_plain(value)}
    return {**kept, "shape": shape, "history": [with_new_names(entry) for entry in head["history"]]}


def checked_shape(head: dict) -> dict:
    """The shape of a checkpoint's network, as its tensors have it. Raises UserError where the entries say another."""
    params, model, shape = head["params"], head["model"], head["shape"]
    plain = is_plain_dict(params) and params and all(isinstance(value, Tensor) for value in params.values())
    require("params", params, plain, "tensors by name")
    require("shape", shape, is_plain_dict(shape) and is_plain(shape), "sizes by name")
    with fitting(model):
        deduced = SHAPES[generator_of(model, shape)](params)
    if deduced.get("activation") == "leaky relu" and shape.get("activation") == "relu":
        deduced["activation"] = "relu"  # the tensors do not tell
    as_is = all(name in deduced and as_list(shape[name]) == deduced[name] for name in shape)
    require("shape", shape, as_is, f"{deduced}, as its tensors are")
    scale = deduced.get("scale", head["scale"])
    require("scale", head["scale"], head["scale"] == scale, f"{scale}, as its tensors are")
    return deduced


def fitting_network(checkpoint: dict) -> Found:
    """The network of a checked checkpoint, and where its weights lie. Raises UserError for tensors that do not fit."""
    model = checkpoint["model"]
    with fitting(model):
        network = on_meta(model, checkpoint["shape"])
    check_sizes(model, network, checkpoint["params"])
    return Found(model, network.shape, {name: ("params", name) for name in network.state_dict()})


@contextmanager
def fitting(model: str) -> Iterator[None]:
    """Raises UserError where a network cannot be told from its tensors."""
    try:
        yield
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"its weights fit no network here: they are not those of {model}") from error


def as_list(value) -> Any:
    """A tuple as a list, anything else as it is."""
    return list(value) if isinstance(value, tuple) else value


def require(name: str, value, fits: bool, wanted: str) -> None:
    """Raises UserError unless an entry fits."""
    if not fits:
        raise UserError(f"its {name} is {said(value)}, not {wanted}")


def said(value) -> str:
    """What stands in an entry, short and fit for a terminal."""
    if isinstance(value, str):
        return repr(printable(value, 40))
    if isinstance(value, Made):
        return f"a {printable(value.name)}"
    if value is None or isinstance(value, (int, float)):
        return printable(value, 40)
    return f"a {type(value).__name__}" + (f" of {len(value)}" if isinstance(value, (list, tuple, dict)) else "")


# ---------------------------------------------------------------------------------------------
# Kinds of values
# ---------------------------------------------------------------------------------------------


def is_count(value, least: int = 0, most: int = 2**53) -> bool:
    """Whether it is a whole number in a range."""
    return type(value) is int and least <= value <= most


def is_number(value) -> bool:
    """Whether it is a number that can be counted with."""
    return (type(value) is int and abs(value) <= 2**53) or type(value) is float


def is_finite(value) -> bool:
    """Whether it is a number, and neither infinite nor none at all."""
    return is_number(value) and math.isfinite(value)


def is_word(value) -> bool:
    """Whether it can be a part of the name of a file."""
    return isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value) is not None


def is_date(value) -> bool:
    """Whether it is a date in ISO format, or nothing."""
    try:
        return isinstance(value, str) and (not value or bool(datetime.fromisoformat(value)))
    except ValueError:
        return False


MOST_EPOCHS = 2**53  # parts of one count too


def is_history(value) -> bool:
    """Whether it is a list of an epoch's figures each."""
    return isinstance(value, list) and all(
        is_plain_dict(entry) and all(map(is_number, entry.values())) and 0 <= entry.get("epoch", -1) <= MOST_EPOCHS
        for entry in value
    )


def is_plain_dict(value) -> bool:
    """Whether it is a dictionary whose keys are names."""
    return isinstance(value, dict) and all(isinstance(key, str) and key.isprintable() for key in value)


def is_plain(value, depth: int = 6, seen: set[int] | None = None) -> bool:
    """Whether it is made of words, numbers, lists and dictionaries alone, and not too deep."""
    seen = set() if seen is None else seen
    if value is None or isinstance(value, (str, bool)) or is_number(value):
        return True
    if id(value) in seen:  # what is mentioned many times counts once
        return True
    seen.add(id(value))
    parts = value.values() if is_plain_dict(value) else value
    return (
        isinstance(parts, (list, tuple, type({}.values())))
        and depth > 0
        and all(is_plain(part, depth - 1, seen) for part in parts)
    )
