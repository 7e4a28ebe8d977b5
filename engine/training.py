"""Training, as one visible loop: draw a batch, update the network, and once an epoch measure and save.

What an update is, stages.py says. Every random choice of a step comes from a generator seeded with (seed, step), so
that a run that was stopped goes on exactly as if it had not been. Under torchrun several processes share each batch;
the first of them alone measures, draws, tells and writes.
"""

import math
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from engine import checkpoints, networks
from engine.data import Data, Pair, read_pairs
from engine.devices import from_the_first, mean_over_processes, rank_and_size
from engine.progress import progress_bar, show, show_progress
from engine.settings import Adversarial, Settings
from engine.stages import as_seen_by, make_stage
from engine.upscaling import in_tiles
from imaging import console
from imaging.console import UsageError, UserError, note
from imaging.images import psnr

UNTRAINED = Path("random")  # what `--from` calls a seeded draw
SKIPPED_MOST = 10  # so many bad gradients in a row are no accident


def rate_at(step: int, first: int, last: int, settings: Settings) -> float:
    """The learning rate of a step: halved at every milestone, else half a cosine over this run's steps, down to 0.

    It rises to that over the first steps, at most a fifth of the run, if the settings have a warm-up.
    """
    done, steps = step - first, last - first
    warm_up = max(1, min(settings.warm_up, steps // 5))
    rate = settings.learning_rate * min(1, (done + 1) / warm_up)
    if settings.milestones:
        return rate * 0.5 ** sum(step >= milestone for milestone in settings.milestones)
    return rate * 0.5 * (1 + math.cos(math.pi * done / steps))


# ---------------------------------------------------------------------------------------------
# Several processes, which torchrun starts
# ---------------------------------------------------------------------------------------------


# ---------------------------------------------------------------------------------------------
# The run: start it, go on with it
# ---------------------------------------------------------------------------------------------


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


def train(
    settings: Settings, sources: list[Path], epochs: int, fresh: bool, validation: list[Path], device,
    start: Path | None = None, said=(), save_every: float = 5.0,
) -> Path:  # fmt: skip
    """Train for `epochs` epochs, or finish the unfinished run, and return the checkpoint's path.

    It is saved after every epoch, and every `save_every` minutes. `said` names the settings that were given on the
    command line: "epochs" and "learning_rate" may change in an unfinished run. Beside the checkpoint it leaves the
    history as a table, a plot of the curves and a before/after picture. Raises UserError, and SystemExit where it
    was asked to stop: everything is saved then.
    """
    rank, size = rank_and_size()
    if settings.batch % size:
        raise UsageError(f"-b {settings.batch}: does not divide among {size} processes")
    data = Data(sources, settings, device, rank, size)
    watched = data.poor_versions(read_pairs(validation, settings.scale, data.enlarge)[0]) if validation else []
    note(f"training on {data}")
    checkpoint, path = from_the_first(lambda: prepare(settings, data, epochs, fresh, start, said))
    training = checkpoint["training"]
    if not same_pictures(training["data"], data.summary()):
        raise UserError("the processes have unlike photographs: every machine needs the same")
    used = replace(settings, patch=data.patch, learning_rate=training["settings"]["learning_rate"])
    stage = make_stage(used, checkpoint["params"], device)
    if data.pool:
        stage.parts["pool"] = data.pool
    load_parts(stage, training["parts"], path)
    with console.locked(path) if rank == 0 else nullcontext():
        if run_epochs(stage, checkpoint, path, data, watched, save_every):
            return path
    done, goal = (training[key] / data.updates_per_epoch for key in ("step", "last_step"))
    note(
        f"stopped and saved in {path} after {done:.1f} of {goal:.0f} epochs: "
        "the same command without -n and --from goes on from there"
    )
    raise SystemExit(130)  # what a shell expects of a program that was interrupted


def load_parts(stage, parts: dict, path: Path) -> None:
    """Give a stage the state that a checkpoint remembers. Raises UsageError for another discriminator's."""
    for name, state in parts.items():
        if not state or (name == "pool" and rank_and_size()[0]):
            continue  # a scaler that does nothing remembers nothing; the saved pool is that of the first process
        try:
            stage.parts[name].load_state_dict(state)
        except (KeyError, RuntimeError, ValueError) as error:
            if not name.startswith("judge"):
                raise
            raise UsageError(f"{path} has another discriminator: give its settings, or -n to start anew") from error


# ---------------------------------------------------------------------------------------------
# The loop
# ---------------------------------------------------------------------------------------------


@contextmanager
def stop_when_asked():
    """Yield a list that fills when Ctrl-C or SIGTERM arrives, so that the step in hand can be finished.

    A second signal of the same kind does not wait for that.
    """
    asked = []

    def handle(number, _) -> None:
        if number in asked:
            raise KeyboardInterrupt
        asked.append(number)

    handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def batches(data: Data, first: int, last: int, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step, low and high of all steps. For a GPU the next patches are cut while it computes, in another thread."""
    ahead = ThreadPoolExecutor(1) if device.type == "cuda" else None

    def cut_and_pin(step: int) -> tuple[Tensor, ...]:
        return tuple(patches.pin_memory() for patches in data.cut(step))  # pinned, they travel while the GPU computes

    try:
        coming = ahead.submit(cut_and_pin, first) if ahead and first < last else None
        for step in range(first, last):
            patches = coming.result() if ahead else data.cut(step)
            if ahead and step + 1 < last:
                coming = ahead.submit(cut_and_pin, step + 1)
            yield step, *data.finish(patches, step)
    finally:
        if ahead:
            ahead.shutdown(cancel_futures=True)


def run_epochs(stage, checkpoint: dict, path: Path, data: Data, watched: list[Pair], save_every: float) -> bool:
    """The loop. Updates `checkpoint` and saves it; False if it was asked to stop before the end."""
    training, history, settings = checkpoint["training"], checkpoint["history"], stage.settings
    first, last, device = training["first_step"], training["last_step"], next(stage.network.parameters()).device
    is_first = rank_and_size()[0] == 0
    saved = time.monotonic()
    started = saved - training.get("seconds", 0.0)
    drawn, skipped = -math.inf, 0
    with stop_when_asked() as asked, progress_bar(training, settings) as bar:
        if is_first:
            checkpoints.save_checkpoint(checkpoint, path)  # better to learn now than after an epoch that this fails
        for step, low, high in batches(data, training["step"], last, device):
            figures = stage.update(low, high, rate_at(step, first, last, settings), step)
            figures = mean_over_processes({**figures, "stopping": float(bool(asked))}, stage.network)
            stopping = figures.pop("stopping") > 0
            skipped = count_skipped(figures.pop("skipped"), skipped, step)
            training["step"] = step + 1
            if not skipped:
                add_to_sums(training["sums"], figures)
            # The last is over too where other processes, and so other epochs, go on with ready-cut samples.
            epoch_is_over = (step + 1) % data.updates_per_epoch == 0 or step + 1 == last
            if epoch_is_over and is_first:
                seconds, started = time.monotonic() - started, time.monotonic()
                measure_epoch(stage, checkpoint, data, watched, seconds)
            if is_first and (epoch_is_over or stopping or time.monotonic() - saved > 60 * save_every):
                training["parts"] = {name: part.state_dict() for name, part in stage.parts.items()}
                training["seconds"] = time.monotonic() - started  # of the epoch in hand
                checkpoints.save_checkpoint(checkpoint, path)
                saved = time.monotonic()
            if is_first and epoch_is_over and (step + 1 == last or time.monotonic() - drawn > 60):
                show_progress(checkpoint, data, path)
                drawn = time.monotonic()
            show(bar, figures, history, settings.batch * settings.accumulate)
            if stopping:
                break
        if is_first and history and drawn == -math.inf:  # nothing was left to do
            show_progress(checkpoint, data, path)
    return training["step"] == last


def add_to_sums(sums: dict[str, tuple[float, int]], figures: dict[str, float]) -> None:
    """Add a step's figures to the (sum, count) of the epoch, of which the history has the mean."""
    for name, value in figures.items():
        total, count = sums.get(name, (0.0, 0))
        sums[name] = (total + value, count + 1)


def count_skipped(skipped: float, in_a_row: int, step: int) -> int:
    """How many steps in a row had a gradient that is no number. Raises UserError after ten."""
    if not skipped:
        return 0
    note(f"step {step + 1}: the gradient is no number; this update is skipped")
    if in_a_row + 1 == SKIPPED_MOST:
        raise UserError(
            f"{SKIPPED_MOST} updates in a row had a gradient that is no number: most likely the learning rate is too "
            "high or the precision too low; go on with a lower --learning-rate or --precision fp32, "
            "or start anew (-n) with --clip 1"
        )
    return in_a_row + 1


@torch.inference_mode()
def measure_epoch(stage, checkpoint: dict, data: Data, watched: list[Pair], seconds: float) -> None:
    """Add the epoch to the history, and keep the weights if they are the best so far on held-out photographs.

    The best are those with the highest PSNR; ESRGAN's, which trades PSNR for looks, those nearest to VGG19.
    """
    training, network = checkpoint["training"], stage.average.module
    entry = {"epoch": len(checkpoint["history"]) + 1, "step": training["step"], "seconds": seconds}
    entry |= {name: total / count for name, (total, count) in training["sums"].items()}
    entry["psnr"] = validate(network, data.held_out, checkpoint["scale"])
    score = entry["psnr"]
    if stage.settings.adversarial:
        distances = [
            stage.perceptual(network(as_seen_by(network, pair.small[None])), as_seen_by(network, pair.large[None]))
            for pair in data.held_out
        ]
        entry["held_out_perceptual"] = sum(map(float, distances)) / len(distances)
        score = -entry["held_out_perceptual"]
    if watched:  # never used to choose: it may be a test set
        entry["validation_psnr"] = validate(network, watched, checkpoint["scale"])
    training["sums"] = {}
    checkpoint["history"].append(entry)
    if score > training["best"]:
        training["best"] = score
        checkpoint["params"] = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


@torch.inference_mode()
def validate(network: nn.Module, pairs: list[Pair], scale: int) -> float:
    """Mean PSNR in dB of what the network makes of the poor pictures; each pair counts once."""
    total = 0.0
    for pair in pairs:
        low, high = (as_seen_by(network, part[None]) for part in (pair.small, pair.large))
        # A patch of plain sky may be restored without any error: its infinity would hide all others.
        restored = in_tiles(network, low, 1 if network.luma else scale)
        total += psnr(restored, high, scale).clamp(max=100).item()
    return total / len(pairs)
