"""Which run goes on, and how: where a new one starts, and what may change in an unfinished one."""

import math
from dataclasses import asdict
from pathlib import Path

import torch

from engine import checkpoints, networks
from engine.data import Data
from engine.settings import Adversarial, Settings
from imaging.console import UsageError, note

UNTRAINED = Path("random")  # what `--from` calls a seeded draw


def starting_weights(settings: Settings, fresh: bool, start: Path | None) -> dict:
    """What a new run begins with: `start`'s weights; the latest of the stage before; else a seeded draw.

    The stage before esrgan is rrdb, and before rrdb on poor pictures rrdb on bicubic ones, if there is one.
    Raises UsageError if ESRGAN has none to begin with and `fresh` does not say that noise is meant.
    """
    if start and start != UNTRAINED:
        checkpoint = checkpoints.load_checkpoint(start)
        if checkpoint["shape"] != settings.shape:
            raise UsageError(f"--from {start}: is {checkpoint['shape']}, not {settings.shape}")
        note(f"starting from {start}")
        return checkpoint["params"]
    if start == UNTRAINED:
        before, fresh = None, True
    elif settings.model == "esrgan":
        before = {"model": "rrdb"}
    else:
        before = {"degradation": "bicubic"} if settings.degradation != "bicubic" else None
    if before and (found := networks.find_trained(**{**settings.kind(), **before})):
        note(f"starting from {found[0]}")
        return found[1]["params"]
    if settings.model == "esrgan" and not fresh:
        first = "train -m rrdb" + ("" if settings.degradation == "bicubic" else f" -d {settings.degradation}")
        raise UsageError(
            f"esrgan starts from a trained rrdb, and there is none of this shape: `{first}` first, "
            "or give --from FILE, or -n to start from noise, which seldom ends well"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return networks.build_network(settings.model, settings.shape).state_dict()


def new_run(settings: Settings, data: Data, weights: dict) -> dict:
    """A checkpoint of a network that has seen nothing yet."""
    training = {
        "settings": asdict(settings), "data": data.summary(), "parts": {}, "sums": {},
        "step": 0, "first_step": 0, "last_step": 0, "best": -math.inf,
    }  # fmt: skip
    return {**settings.kind(), "history": [], "params": weights, "training": training}


def go_on(checkpoint: dict, path: Path, settings: Settings, data: Data, said=()) -> Path:
    """Prepare a checkpoint for more training; returns the file to write: its own if its run is unfinished.

    An unfinished run keeps its learning rate unless it is among what was `said` on the command line, and may change
    its precision, for another machine may have no bf16. Raises UsageError where anything else has changed.
    """
    training = checkpoint["training"]
    unfinished = training["step"] < training["last_step"]
    same_data = same_pictures(training["data"], data.summary())
    before, now = training["settings"], asdict(settings)
    if unfinished and "learning_rate" not in said:
        now["learning_rate"] = before["learning_rate"]
    changed = changes(before, now) + ([] if same_data else ["other pictures"])
    if unfinished and changed:
        raise UsageError(
            f"{path} is an unfinished run with other settings ({', '.join(changed)}): "
            "give the same ones to finish it, or -n to start anew"
        )
    if unfinished:
        if now["learning_rate"] != before["learning_rate"]:
            note(f"learning rate {before['learning_rate']:g} → {now['learning_rate']:g}")
        training["settings"] = now
        return path
    if not same_data or changes(before.get("adversarial") or {}, now["adversarial"] or {}):
        training["best"] = -math.inf  # measured on other pictures, or in another unit
    if changed:
        training["parts"].pop("pool", None)  # its pairs are of other pictures, or of another size
    if before.get("muon", False) != now["muon"]:
        training["parts"].pop("optimizer", None)  # it remembers what another kind of step needs
    training.update(settings=now, data=data.summary(), sums={})
    # Steps are counted in epochs of the new data, so that every epoch draws a fresh order.
    training["step"] = training["last_step"] = len(checkpoint["history"]) * data.updates_per_epoch
    return checkpoints.new_path(checkpoint)


def same_pictures(before: dict, now: dict) -> bool:
    """Whether two summaries of data are of the same; what the older one did not hold yet counts as the same."""
    return all(before.get(name, value) == value for name, value in now.items())


def changes(before: dict, now: dict) -> list[str]:
    """The settings in which two runs differ, but for those that a run may take over."""
    before, now = ({**settings, **(settings.get("adversarial") or {})} for settings in (before, now))
    for settings in (before, now):  # a file of VGG19's weights may lie elsewhere on another machine
        settings |= {"perceptual": Path(settings["perceptual"]).name} if settings.get("perceptual") else {}
    defaults = asdict(Settings()) | asdict(Adversarial())
    before = {name: defaults[name] for name in now} | before  # runs that began before there was a choice
    names = sorted((before.keys() | now.keys()) - {"precision", "learning_rate", "adversarial"})
    return [f"{name} {before.get(name)} → {now.get(name)}" for name in names if before.get(name) != now.get(name)]


def plan_epochs(training: dict, epochs: int, said, updates: int) -> None:
    """Set the last step: of a new run `epochs` from here, of an unfinished one only if they were said."""
    if training["step"] == training["last_step"]:
        training["first_step"] = training["step"]
    elif "epochs" not in said:
        return
    # Not before the end of the epoch in hand: a run that has had more than its epochs is finished.
    reached = math.ceil(training["step"] / updates) * updates
    training["last_step"] = max(reached, training["first_step"] + epochs * updates)


def prepare(settings: Settings, data: Data, epochs: int, fresh: bool, start: Path | None, said) -> tuple[dict, Path]:
    """The checkpoint that a run starts from, new or found, and the file that it is written to."""
    found = None if fresh or start else checkpoints.find_latest(checkpoints.MODELS, **settings.kind())
    if found and "training" not in found[1]:  # weights alone, such as ship with the program
        found, start = None, found[0]
    if found:
        path, checkpoint = found
        target = go_on(checkpoint, path, settings, data, said)
        goal = "finishing" if target == path else "going on from"
        note(f"{goal} {path} after {len(checkpoint['history'])} epochs (-n starts anew)")
    else:
        checkpoint = new_run(settings, data, starting_weights(settings, fresh, start))
        target = checkpoints.new_path(checkpoint)
    plan_epochs(checkpoint["training"], epochs, said, data.updates_per_epoch)
    return checkpoint, target
