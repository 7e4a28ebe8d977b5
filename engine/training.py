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
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from engine import checkpoints
from engine.data import Data, Pair, read_pairs
from engine.devices import from_the_first, mean_over_processes, rank_and_size
from engine.progress import progress_bar, show, show_progress
from engine.resume import prepare, same_pictures
from engine.settings import Settings
from engine.updates import as_seen_by, make_stage
from engine.upscaling import in_tiles
from imaging import console
from imaging.console import UsageError, UserError, note
from imaging.images import psnr

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
