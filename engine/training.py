"""Training, as one visible loop: draw a batch, update the network, and once an epoch measure and save.

`run_epochs` is that loop. What an update is, updates.py says; which run goes on, and from where, resume.py; what a
training shows, progress.py. Every random choice of a step comes from a generator seeded with (seed, step), so that a
run that was stopped goes on exactly as if it had not been. Under torchrun several processes share each batch; the
first of them alone measures, shows and writes.
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
from torch import Tensor

from engine.checkpoints import save_checkpoint
from engine.data import HELD_OUT_SIDE, Data, Pair, center_crop, read_pairs
from engine.degrading import DegradedData
from engine.devices import autocast, mean_over_processes, rank_and_size, run_on_first
from engine.following import Watch, summary_writer, watching
from engine.networks import Network
from engine.progress import progress_bar, show_progress, show_step
from engine.resume import RunState, check_validation, find_or_start_run, find_run, load_parts, same_pictures
from engine.settings import Settings
from engine.updates import AdversarialStage, PixelStage, make_stage, network_input
from engine.upscaling import in_tiles
from imaging.console import UsageError, UserError, locked, note
from imaging.images import psnr

MAX_SKIPPED = 10  # so many bad gradients in a row are no accident


def run_epochs(
    stage: PixelStage | AdversarialStage, checkpoint: dict, state: RunState, path: Path, data: Data,
    watch: Watch, save_every: float,
) -> bool:  # fmt: skip
    """The loop. Updates `checkpoint` and `state` and saves both; False if it was asked to stop before the end."""
    is_first = rank_and_size()[0] == 0
    saved = time.monotonic()
    epoch_started = saved - state.seconds
    shown = -math.inf  # when pictures were last drawn
    skipped = 0  # updates in a row
    with stop_when_asked() as asked, progress_bar(state, stage.settings) as bar:
        if is_first:
            save(stage, checkpoint, state, path)  # better to learn now than after an epoch that this fails
        for step, low, high in batches(data, state.step, state.last_step, stage.device):
            learning_rate = learning_rate_at(step, state.first_step, state.last_step, stage.settings)
            figures = stage.update(low, high, learning_rate, step)  # forward, loss, backward, step
            figures = mean_over_processes({**figures, "stopping": float(bool(asked))}, stage.device)
            stopping = figures.pop("stopping") > 0
            skipped = count_skipped(figures.pop("skipped"), skipped, step, learning_rate, path)
            state.step = step + 1
            if not skipped:
                state.add_to_sums(figures)
                watch.step(state.step, learning_rate, figures)
            # The last is over too where other processes, and so other epochs, go on with ready-cut samples.
            epoch_is_over = state.step % data.updates_per_epoch == 0 or state.step == state.last_step
            if epoch_is_over and is_first:
                state.seconds, epoch_started = time.monotonic() - epoch_started, time.monotonic()
                measure_epoch(stage, checkpoint, state, data, watch.pairs, learning_rate)
                watch.epoch(checkpoint["history"][-1], stage.ema_network)
            if is_first and (epoch_is_over or stopping or time.monotonic() - saved > 60 * save_every):
                state.seconds = time.monotonic() - epoch_started  # of the epoch in hand
                if is_sound(stage, data):
                    save(stage, checkpoint, state, path)
                elif stopping or state.step == state.last_step:
                    raise UserError(f"the weights have gone bad: {way_out(learning_rate, path)}")
                saved = time.monotonic()
            if is_first and epoch_is_over and (state.step == state.last_step or time.monotonic() - shown > 60):
                show_progress(checkpoint, data, path)
                shown = time.monotonic()
            show_step(bar, figures, checkpoint["history"], stage.settings.samples_per_update)
            if stopping:
                break
        if is_first and checkpoint["history"] and shown == -math.inf:  # nothing was left to do
            show_progress(checkpoint, data, path)
    return state.step == state.last_step


def train(
    settings: Settings, sources: list[Path], epochs: int, new: bool, validation: list[Path], device,
    start: Path | None = None, given=(), save_every: float = 5.0, resume: Path | None = None,
    discriminator: Path | None = None, tensorboard: bool = False, val_pictures: bool = False,
) -> Path:  # fmt: skip
    """Train for `epochs` epochs, or finish the unfinished run, and return the checkpoint's path.

    It is saved after every epoch, and every `save_every` minutes. `given` names the settings that stood on the
    command line: "epochs" and "learning_rate" may change in an unfinished run. `resume` is the file of the run that
    goes on, where it is not the newest of its kind; `discriminator` one with weights for a new run's. Beside the
    checkpoint it leaves the history as a table, a plot of the curves and a before/after picture. Raises UserError, and
    SystemExit where it was asked to stop: everything is saved then.
    """
    rank, size = rank_and_size()
    if settings.batch % size:
        raise UsageError(f"-b {settings.batch}: does not divide among {size} processes")
    if tensorboard:
        summary_writer()  # better to learn now that it is missing
    beginning = run_on_first(lambda: find_run(settings, new, start, given, resume, discriminator))
    data = DegradedData(sources, settings, device, rank, size)
    watched = data.degraded_pairs(read_pairs(validation, settings.scale, data.enlarge)[0]) if validation else []
    note(f"training on {data}")
    checkpoint, state, path = run_on_first(lambda: find_or_start_run(beginning, settings, data, epochs, given))
    data.hold_out(set(state.data.get("held_out", ())))
    if settings.choose_by_val:
        check_validation(state, sorted({pair.photograph for pair in watched}), path)
    if not same_pictures(state.data, data.summary()):
        raise UserError("the processes have unlike photographs: every machine needs the same")
    kept = {name: state.settings[name] for name in ("learning_rate", "mild")}
    data.settings = used = replace(settings, patch=data.patch, **kept)
    stage = make_stage(used, checkpoint["params"], device)
    if data.pool:
        stage.parts["pool"] = data.pool
    load_parts(stage.parts, state.parts, path)
    told = "another training is at it: wait for it, or give -n to start another"
    lock = locked(path, told) if rank == 0 else nullcontext()
    with lock, watching(watched, path, state, tensorboard, val_pictures) as watch:
        if run_epochs(stage, checkpoint, state, path, data, watch, save_every):
            return path
    done, goal = (step / data.updates_per_epoch for step in (state.step, state.last_step))
    note(
        f"stopped and saved in {path} after {done:.1f} of {goal:.0f} epochs: "
        f"the same command without -n and --from resumes it, and so does --resume {path}"
    )
    raise SystemExit(130)  # what a shell expects of a program that was interrupted


def save(stage: PixelStage | AdversarialStage, checkpoint: dict, state: RunState, path: Path) -> None:
    """Write the best weights and all that is needed to resume. Raises UserError."""
    state.parts = {name: part.state_dict() for name, part in stage.parts.items()}
    save_checkpoint({**checkpoint, "training": state.to_dict()}, path)


def learning_rate_at(step: int, first: int, last: int, settings: Settings) -> float:
    """The learning rate of a step: halved at every milestone, else half a cosine over this run's steps, down to 0.

    It rises to that over the first steps, at most a fifth of the run, if the settings have a warm-up.
    """
    done = step - first
    steps = last - first
    warm_up = max(1, min(settings.warm_up, steps // 5))
    rate = settings.learning_rate * min(1, (done + 1) / warm_up)
    if settings.milestones:
        return rate * 0.5 ** sum(step >= milestone for milestone in settings.milestones)
    return rate * 0.5 * (1 + math.cos(math.pi * done / steps))


def batches(data: Data, first: int, last: int, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step, low and high of all steps. For a GPU the next patches are cut while it computes, in another thread."""
    ahead = ThreadPoolExecutor(1) if device.type == "cuda" else None

    def cut_and_pin(step: int) -> tuple[Tensor, ...]:
        return tuple(patches.pin_memory() for patches in data.cut(step))  # pinned, they travel while the GPU computes

    try:
        coming = ahead.submit(cut_and_pin, first) if ahead and first < last else None
        for step in range(first, last):
            low, high = coming.result() if coming else data.cut(step)
            if ahead and step + 1 < last:
                coming = ahead.submit(cut_and_pin, step + 1)
            yield step, *data.finish((low, high), step)
    finally:
        if ahead:
            ahead.shutdown(cancel_futures=True)


@contextmanager
def stop_when_asked() -> Iterator[list[int]]:
    """Yield a list that fills when Ctrl-C or SIGTERM arrives, so that the step in hand can be finished.

    A second signal of the same kind does not wait for that.
    """
    asked: list[int] = []

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


@torch.inference_mode()
def is_sound(stage: PixelStage | AdversarialStage, data: Data) -> bool:
    """Whether the weights are numbers, and make numbers of a picture: else they must not replace what was saved.

    A step may spoil weights that only the next one would notice.
    """
    networks = (stage.network, stage.ema_network)
    modules = [*networks, *([stage.discriminator] if isinstance(stage, AdversarialStage) else [])]
    if not all(value.isfinite().all() for module in modules for value in module.state_dict().values()):
        return False
    for network in networks:
        low = network_input(network, data.held_out[0].small[None])
        with autocast(stage.settings.precision, low.device):
            if not network(low).isfinite().all():
                return False
    return True


def way_out(learning_rate: float, path: Path) -> str:
    """What to do where training has come to grief."""
    return (
        "most likely the learning rate is too high or the precision too low; go on from what was saved before by "
        f"--resume {path} with --learning-rate {learning_rate / 4:.1g} or --precision fp32, or start anew (-n) with "
        "--clip 1"
    )


def count_skipped(skipped: float, in_a_row: int, step: int, learning_rate: float, path: Path) -> int:
    """How many steps in a row had a gradient that is no number. Raises UserError after ten."""
    if not skipped:
        return 0
    note(f"step {step + 1}: the gradient is no number; this update is skipped")
    if in_a_row + 1 == MAX_SKIPPED:
        raise UserError(
            f"{MAX_SKIPPED} updates in a row had a gradient that is no number: {way_out(learning_rate, path)}"
        )
    return in_a_row + 1


# ---------------------------------------------------------------------------------------------
# Once an epoch
# ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure_epoch(
    stage: PixelStage | AdversarialStage, checkpoint: dict, state: RunState, data: Data, watched: list[Pair],
    learning_rate: float,
) -> None:  # fmt: skip
    """Add the epoch to the history, and keep the weights if they are the best so far on held-out photographs.

    The best are those with the highest PSNR; ESRGAN's, which trades PSNR for looks, those nearest to VGG19. With
    `choose_by_val` the pictures of `--val` decide in place of the held-out ones.
    """
    network = stage.ema_network
    entry = {"epoch": len(checkpoint["history"]) + 1, "step": state.step, "seconds": state.seconds, **state.means()}
    entry["learning_rate"] = learning_rate
    entry["psnr"] = validate(network, data.held_out, checkpoint["scale"])
    if watched:
        entry["validation_psnr"] = validate(network, watched, checkpoint["scale"])
    if isinstance(stage, AdversarialStage):
        entry["held_out_perceptual"] = perceptual_distance(stage, data.held_out)
        if watched:
            entry["validation_perceptual"] = perceptual_distance(stage, watched)
    by_val = stage.settings.choose_by_val  # else --val chooses nothing: it may be a test set
    if isinstance(stage, AdversarialStage):
        score = -entry["validation_perceptual" if by_val else "held_out_perceptual"]
    else:
        score = entry["validation_psnr" if by_val else "psnr"]
    state.sums = {}
    checkpoint["history"].append(entry)
    if score > state.best:
        state.best = score
        checkpoint["params"] = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


@torch.inference_mode()
def perceptual_distance(stage: AdversarialStage, pairs: list[Pair]) -> float:
    """The mean perceptual loss of what the network makes of the middles of pictures; each pair counts once."""
    network, total = stage.ema_network, 0.0
    for pair in pairs:
        middle = center_crop(pair, HELD_OUT_SIDE)
        low, high = (network_input(network, part[None]) for part in (middle.small, middle.large))
        total += stage.perceptual(network(low), high).item()
    return total / len(pairs)


@torch.inference_mode()
def validate(network: Network, pairs: list[Pair], scale: int) -> float:
    """Mean PSNR in dB of what the network makes of the low pictures; each pair counts once."""
    total = 0.0
    for pair in pairs:
        low, high = (network_input(network, part[None]) for part in (pair.small, pair.large))
        # A patch of plain sky may be restored without any error: its infinity would hide all others.
        restored = in_tiles(network, low, network.scale)
        total += psnr(restored, high, scale).clamp(max=100).item()
    return total / len(pairs)
