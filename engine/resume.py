"""Which run goes on, and how: what may change in an unfinished one."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine import checkpoints
from engine.checkpoints import find_latest, load_checkpoint, new_path
from engine.data import Data
from engine.devices import rank_and_size
from engine.discriminators import load_discriminator
from engine.entries import is_count, is_finite, is_number, is_plain, is_plain_dict, require, with_new_names
from engine.optimizers import Muon
from engine.overrides import by_dotted_names, check, merged, with_usual
from engine.settings import NEWLY_ADVERSARIAL, NEWLY_PRESET, Adversarial, Settings
from engine.starting import GO_ON, Start, starting_weights
from imaging.console import UsageError, UserError, note, printable


@dataclass
class RunState:
    """Where a run stands: with the weights, all that is needed to resume it. `training` in a checkpoint."""

    settings: dict  # a dataclass Settings as a dictionary: it may have been written by an older version
    data: dict  # a summary of the pictures: an unfinished run goes on only with the same
    parts: dict[str, dict] = field(default_factory=dict)  # state dicts of networks, optimisers, pool, scaler
    sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # of each figure in this epoch, and how many
    step: int = 0  # updates made, over all runs that went on from each other
    first_step: int = 0  # of this run
    last_step: int = 0
    best: float = -math.inf  # the score of the weights that are kept
    seconds: float = 0.0  # that the epoch in hand has taken
    validation: list[str] = field(default_factory=list)  # the pictures of --val, where they choose the best weights

    def to_dict(self) -> dict:
        """Plain values and state dicts, as a checkpoint holds them."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, entry: dict) -> "RunState":
        """What `to_dict` gave, in this version or an older one. Raises UserError for what neither gave."""
        if strange := entry.keys() - FIELDS.keys() or {"settings", "data"} - entry.keys():
            names = ", ".join(printable(name) for name in sorted(strange)[:3])
            raise UserError(f"remembers its run in a way that this version does not know ({names})")
        for name, value in entry.items():
            require(name, value, FIELDS[name](value), "what a run remembers")
        state = cls(**entry)
        state.settings, state.parts, state.sums = map(with_new_names, (state.settings, state.parts, state.sums))
        if state.settings.get("adversarial"):
            state.settings["adversarial"] = with_new_names(state.settings["adversarial"])
        return state

    @property
    def unfinished(self) -> bool:
        """Whether steps are left."""
        return self.step < self.last_step

    def add_to_sums(self, figures: dict[str, float]) -> None:
        """Add a step's figures to those of the epoch."""
        for name, value in figures.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total + value, count + 1)

    def means(self) -> dict[str, float]:
        """The mean of each figure over the epoch."""
        return {name: total / count for name, (total, count) in self.sums.items()}


def are_settings(value) -> bool:
    """Whether it can be settings, of whatever version."""
    return (
        is_plain_dict(value)
        and is_plain(value)
        and is_finite(value.get("learning_rate"))
        and (value.get("adversarial") is None or is_plain_dict(value["adversarial"]))
        and isinstance((value.get("adversarial") or {}).get("perceptual", ""), str)
    )


def is_summary(value) -> bool:
    """Whether it can be a summary of pictures."""
    held_out = value.get("held_out", []) if is_plain_dict(value) and is_plain(value) else None
    return isinstance(held_out, list) and all(isinstance(name, str) for name in held_out)


def are_sums(value) -> bool:
    """Whether it can be the sums of figures, each with how many were added."""
    return is_plain_dict(value) and all(
        isinstance(sum_, (tuple, list)) and len(sum_) == 2 and is_number(sum_[0]) and is_count(sum_[1], 1)
        for sum_ in value.values()
    )


# What each field of a run must be, whoever wrote it.
FIELDS: dict[str, Callable[[Any], bool]] = {
    "settings": are_settings, "data": is_summary, "sums": are_sums,
    "parts": lambda value: is_plain_dict(value) and all(isinstance(part, dict) for part in value.values()),
    "validation": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "step": is_count, "first_step": is_count, "last_step": is_count, "best": is_number, "seconds": is_finite,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------
# New or found
# ---------------------------------------------------------------------------------------------


@dataclass
class Beginning:
    """What a run begins with, as far as that is known before the pictures are."""

    settings: Settings  # of an unfinished run with what it keeps
    checkpoint: dict
    found: tuple[Path, RunState] | None = None  # the run that goes on, and its file; without, it is a new one
    discriminator: dict[str, Tensor] = field(default_factory=dict)  # weights that a new one has for it


def find_run(settings: Settings, start: Start, given=(), folder: Path | None = None) -> Beginning:
    """The run that goes on, the one that `start` names or else the newest in `folder`, or the weights of a new one.

    Without a folder it is looked for in models/.

    Raises UsageError where an unfinished one has other settings, and where there is nothing to start from.
    """
    found = None
    if start == GO_ON:
        found = find_latest(folder or checkpoints.MODELS, **settings.kind())
    if start.run:
        found = start.run, load_checkpoint(start.run)
        if "training" not in found[1]:
            raise UsageError(f"--resume {start.run}: holds weights and no run: --from starts a new one from them")
    if found and "training" in found[1]:
        path, checkpoint = found
        try:
            state = RunState.from_dict(checkpoint.pop("training"))
        except UserError as error:
            raise UserError(f"{path}: {error}: -n starts anew") from error
        settings = as_begun(path, state, settings, given)
        if state.unfinished and (changed := changes(state.settings, asdict(settings))):
            refuse_changes(path, changed)
        refuse_other_kind(path, checkpoint, settings)
        return Beginning(settings, checkpoint, (path, state))
    if found:  # weights alone, such as ship with the program
        start = Start(weights=found[0])
    weights = starting_weights(settings, start, folder)
    known = load_discriminator(start.discriminator, settings)[1] if start.discriminator else {}
    return Beginning(settings, {**settings.kind(), "history": [], "params": weights}, None, known)


def find_or_start_run(
    beginning: Beginning, data: Data, epochs: int, given, folder: Path
) -> tuple[dict, RunState, Path]:
    """The checkpoint that a run starts from, where it stands, and the file that it is written to."""
    settings, checkpoint = beginning.settings, beginning.checkpoint
    if beginning.found:
        path, state = beginning.found
        data.hold_out(set(state.data.get("held_out", ())))
        target = continue_run(checkpoint, state, path, settings, data)
        if target == path:
            goal, done = "finishing", round(state.step / data.updates_per_epoch, 1)
        else:
            goal, done = "going on from", epochs_done(checkpoint["history"])
        note(f"{goal} {path} after {in_epochs(done)} (-n starts anew)")
    else:
        state = RunState(asdict(settings), data.summary())
        if beginning.discriminator:
            state.parts["discriminator"] = beginning.discriminator
        target = new_path(checkpoint, folder)
    plan_epochs(state, epochs, given, data.updates_per_epoch)
    return checkpoint, state, target


def epochs_done(history: list[dict]) -> float:
    """How many epochs, or parts of one, a history tells of."""
    return history[-1].get("epoch", len(history)) if history else 0


def in_epochs(done: float) -> str:
    """1 epoch, 2 epochs, 2.5 epochs."""
    return f"{done:g} epoch" + ("" if done == 1 else "s")


# ---------------------------------------------------------------------------------------------
# Going on
# ---------------------------------------------------------------------------------------------


def continue_run(checkpoint: dict, state: RunState, path: Path, settings: Settings, data: Data) -> Path:
    """Prepare a checkpoint for more training; returns the file to write: its own if its run is unfinished.

    An unfinished run may change its learning rate, its precision, for another machine may have no bf16, and its batch
    against `accumulate`. Raises UsageError where anything else has changed.
    """
    same_data = same_pictures(state.data, data.summary())
    if state.unfinished and not same_data and (added := added_photographs(state.data, data.summary())):
        same_data = True
        names = ", ".join(printable(name) for name in added[:3])
        note(f"{len(added)} photographs added ({names}{', …' if added[3:] else ''}); those held out stay")
        state.data = data.summary()
    before, now = state.settings, asdict(settings)
    changed = changes(before, now) + ([] if same_data else ["other pictures"])
    if state.unfinished and changed:
        refuse_changes(path, changed)
    state.settings = now
    if state.unfinished:
        if now["learning_rate"] != before["learning_rate"]:
            note(f"learning rate {before['learning_rate']:g} → {now['learning_rate']:g}")
        return path
    if changed:
        note(f"other than before: {', '.join(changed)}")
    if not same_data or any(change.startswith(MEASURED_BY) for change in changed):
        state.best = -math.inf  # measured on other pictures, or in another unit: nothing might ever beat it
    if changed:
        state.parts.pop("pool", None)  # its pairs are of other pictures, or of another size
    if before.get("muon", False) != now["muon"]:
        state.parts.pop("optimizer", None)  # it remembers what another kind of step needs
    state.data, state.sums = data.summary(), {}
    # Steps are counted in epochs of the new data, so that every epoch draws a fresh order.
    state.step = state.last_step = math.ceil(epochs_done(checkpoint["history"])) * data.updates_per_epoch
    return new_path(checkpoint, path.parent)


# Settings that decide what the held-out pictures are, or in what they are measured.
MEASURED_BY = ("adversarial.", "choose_by_val", "mild", "multiscale", "photo.", "real.", "seed", "sharpen")


def added_photographs(before: dict, now: dict) -> list[str]:
    """The photographs that were added to those of an unfinished run; none if anything else has changed."""
    if "samples" in {**before, **now} or before.get("held_out") != now["held_out"]:
        return []
    old, new = set(before.get("photographs", ())), set(now["photographs"])
    return sorted(new - old) if old and old <= new else []


def same_pictures(before: dict, now: dict) -> bool:
    """Whether two summaries of data are of the same; what the older one did not hold yet counts as the same."""
    return all(before.get(name, value) == value for name, value in now.items())


# What an unfinished run keeps unless it was given: a rate that may have been changed in its midst, and what was usual
# when it began; of the second stage NEWLY_ADVERSARIAL.
KEPT = ("learning_rate", "photo", *NEWLY_PRESET)


def as_begun(path: Path, state: RunState, settings: Settings, given=()) -> Settings:
    """The settings; of an unfinished run with what it keeps unless that was `given`. Raises UsageError."""
    if not state.unfinished:
        return settings
    before = with_usual(state.settings)
    named = {name.split(".")[0] for name in given}
    kept = {name: before[name] for name in KEPT if name not in named}
    if settings.adversarial and before.get("adversarial"):
        names = [name for name in NEWLY_ADVERSARIAL if f"adversarial.{name}" not in given]
        kept["adversarial"] = {name: before["adversarial"][name] for name in names}
    where = f"{path}: its "
    settings = merged(settings, kept, where)
    check(settings, where)
    return settings


def refuse_changes(path: Path, changed: list[str]) -> None:
    """Raises UsageError that says what an unfinished run may not take over."""
    raise UsageError(
        f"{path} is an unfinished run with other settings ({', '.join(changed)}): "
        f"give the same ones to finish it, or --resume {path}, which takes them from there, or -n to start anew"
    )


def refuse_other_kind(path: Path, checkpoint: dict, settings: Settings) -> None:
    """Raises UsageError where a run would go on as another network, or on other low pictures, than it is called by."""
    for name, wanted in settings.kind().items():
        if checkpoint[name] != wanted:
            raise UsageError(
                f"{path}: is a run with {name} {printable(checkpoint[name])}, not {wanted}: "
                f"--from {path} starts a new one with its weights"
            )


def changes(before: dict, now: dict) -> list[str]:
    """The settings in which two runs differ, by dotted names, but for those that a run may take over."""
    defaults = by_dotted_names(asdict(Settings(adversarial=Adversarial())))
    before, now = by_dotted_names(before), by_dotted_names(now)
    for settings in (before, now):  # a file of VGG19's weights may lie elsewhere on another machine
        if name := settings.get("adversarial.perceptual"):
            settings["adversarial.perceptual"] = Path(name).name
    before = {name: defaults[name] for name in now if name in defaults} | before  # began before there was a choice
    free = {"precision", "learning_rate"}
    if samples_per_update(before) == samples_per_update(now):
        free |= {"batch", "accumulate"}
    names = sorted((before.keys() | now.keys()) - free)
    return [
        f"{printable(name)} {printable(before.get(name))} → {now.get(name)}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def samples_per_update(settings: dict) -> tuple:
    """How many samples an update has, of settings that anybody may have written."""
    batch, accumulate = settings.get("batch"), settings.get("accumulate")
    return (batch * accumulate,) if type(batch) is type(accumulate) is int else (batch, accumulate)


def check_validation(state: RunState, names: list[str], path: Path) -> None:
    """Note by which pictures the best weights are chosen. Raises UsageError where others have chosen in this run."""
    if state.validation not in ([], names):
        if state.step > state.first_step:
            raise UsageError(f"{path} chooses its best weights by other pictures than --val has: name the same")
        state.best = -math.inf
    state.validation = names


def plan_epochs(state: RunState, epochs: int, given, updates: int) -> None:
    """Set the last step: of a new run `epochs` from here, of an unfinished one only if they were given."""
    if not state.unfinished:
        state.first_step = state.step
    elif "epochs" not in given:
        return
    # Not before the end of the epoch in hand: a run that has had more than its epochs is finished.
    reached = math.ceil(state.step / updates) * updates
    state.last_step = max(reached, state.first_step + epochs * updates)


def load_parts(parts: dict[str, Any], states: dict[str, dict], path: Path) -> None:
    """Give the parts of a stage what a checkpoint remembers. Raises UsageError for what is none of theirs."""
    for name, state in states.items():
        if not state or (name == "pool" and rank_and_size()[0]):
            continue  # a scaler that does nothing remembers nothing; the saved pool is that of the first process
        try:
            parts[name].load_state_dict(state)
            check_part(parts[name])
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            what = f"{path}: its {printable(name)} is damaged or another version's: -n starts anew"
            if name.startswith("discriminator"):
                what = f"{path} has another discriminator: give its settings, or -n to start anew"
            raise UsageError(what) from error


def check_part(part: Any) -> None:
    """Raises ValueError for a part that has loaded what it cannot go on with."""
    if isinstance(part, nn.Module) and not all(value.isfinite().all() for value in part.state_dict().values()):
        raise ValueError("not numbers")
    if isinstance(part, torch.optim.Optimizer):
        for group in part.param_groups:
            group.update(part.defaults)  # the settings of the run decide, not those that were saved
        hidden = {id(weight) for weight in part.hidden} if isinstance(part, Muon) else set()
        for weight, remembered in part.state.items():
            averages = ("average",) if id(weight) in hidden else ("exp_avg", "exp_avg_sq")
            tensors = {name: value for name, value in remembered.items() if isinstance(value, Tensor)}
            sides = {name: value.shape for name, value in tensors.items()}
            if sides != {"step": torch.Size(), **dict.fromkeys(averages, weight.shape)}:
                raise ValueError("other sizes")
            for name, value in tensors.items():  # a mean of squares, and a count of steps, are not negative
                if not value.isfinite().all() or (name in ("step", "exp_avg_sq") and value.min() < 0):
                    raise ValueError("not numbers")
