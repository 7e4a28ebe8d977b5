"""Training, as one visible loop: draw a batch, update the network, and once an epoch measure and save.

`run_epochs` is that loop. What an update is, updates.py says; which run goes on, and from where, resume.py; what a
training shows, progress.py. Every random choice of a step comes from a generator seeded with (seed, step), so that a
run that was stopped goes on exactly as if it had not been. Under torchrun several processes share each batch; the
first of them alone measures, shows and writes.
"""

import math
import signal
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engine.data import HELD_OUT_SIDE, Data, Pair, center_crop, read_pairs
from engine.devices import (
    autocast,
    local_rank_and_size,
    mean_over_processes,
    rank_and_size,
    run_on_first,
    wait_for_first,
)  # fmt: skip
from engine.following import Following, Watch, summary_writer, watching
from engine.networks import Network
from engine.progress import progress_bar, show_progress, show_step
from engine.resume import (
    RunState,
    check_validation,
    epochs_done,
    find_or_start_run,
    find_run,
    load_parts,
    same_pictures,
)  # fmt: skip
from engine.saving import Saver, Upkeep
from engine.settings import Settings
from engine.sources import OWN, Named, Source, find_sources
from engine.starting import UNTRAINED, Start
from engine.updates import AdversarialStage, PixelStage, make_stage, network_input
from engine.upscaling import in_tiles
from engine.weights import check_vgg19
from imaging.console import UsageError, UserError, note
from imaging.images import psnr
from imaging.writing import check_folder, locked

NORMAL_UPKEEP, NOTHING_MORE = Upkeep(), Following()
PREPARED = 2  # steps ahead
MAX_SKIPPED = 10  # so many bad gradients in a row are no accident
OF_DEGRADING = {"mild", "multiscale", "sharpen", "photo", "real"}  # settings of how pairs are made


def run_epochs(
    stage: PixelStage | AdversarialStage, checkpoint: dict, state: RunState, path: Path, data: Data,
    watch: Watch, upkeep: Upkeep,
) -> bool:  # fmt: skip
    """The loop. Updates `checkpoint` and `state` and saves both; False if it was asked to stop before the end."""
    is_first = rank_and_size()[0] == 0
    between = upkeep.validate_updates or data.updates_per_epoch  # updates from one measurement to the next
    saved = time.monotonic()
    epoch_started = saved - state.seconds
    shown = -math.inf  # when pictures were last drawn
    skipped = 0  # updates in a row
    with stop_when_asked() as asked, progress_bar(state, stage.settings) as bar, Saver(path) as saver:
        if is_first:
            save(stage, checkpoint, state, saver)
            saver.wait()  # better to learn now than after an epoch that this fails
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
            epoch_is_over = state.step % between == 0 or state.step == state.last_step
            if epoch_is_over and is_first:
                state.seconds, epoch_started = time.monotonic() - epoch_started, time.monotonic()
                measure_epoch(stage, checkpoint, state, data, watch.pairs, learning_rate, upkeep)
                watch.epoch(checkpoint["history"][-1], stage.ema_network)
            if is_first and (epoch_is_over or stopping or is_time_to_save(state.step, saved, upkeep)):
                state.seconds = time.monotonic() - epoch_started  # of the epoch in hand
                if is_sound(stage, data):
                    save(stage, checkpoint, state, saver)
                elif stopping or state.step == state.last_step:
                    raise UserError(f"the weights have gone bad: {way_out(learning_rate, path)}")
                saved = time.monotonic()
            if is_first and upkeep.keep and state.step % (upkeep.save_updates or between) == 0:
                saver.keep(checkpoint, stage.ema_network.state_dict(), state.step, upkeep.keep)
            if is_first and epoch_is_over and (state.step == state.last_step or time.monotonic() - shown > 60):
                show_progress(checkpoint, data, path)
                shown = time.monotonic()
            if epoch_is_over:
                wait_for_first()  # which may have measured for long
            show_step(bar, figures, checkpoint["history"], stage.settings.samples_per_update)
            if stopping:
                break
        if is_first and checkpoint["history"] and shown == -math.inf:  # nothing was left to do
            show_progress(checkpoint, data, path)
    return state.step == state.last_step


def train(
    settings: Settings, sources: Iterable[Named], epochs: int, start: Start, device: torch.device,
    given=(), upkeep: Upkeep = NORMAL_UPKEEP, following: Following = NOTHING_MORE,
) -> Path:  # fmt: skip
    """Train for `epochs` epochs, or finish the unfinished run, and return the checkpoint's path.

    `upkeep` says when it is saved, and where. `given` names the settings that were named, by dotted names: "epochs" and
    "learning_rate" may change in an unfinished run. Beside the checkpoint it leaves the history as a table, a plot of
    the curves and a before/after picture. Raises UserError, and SystemExit where it was asked to stop: everything is
    saved then.
    """
    check_start(settings, following, upkeep)
    found = find_sources(sources)
    settings = for_pairs(settings, found, given)
    beginning = run_on_first(lambda: find_run(settings, start, given, upkeep.folder))
    settings = beginning.settings
    data = Data(found, settings, device, *rank_and_size(), upkeep.cache, local_rank_and_size())
    watched = read_watched(following.validation, settings, data, upkeep.cache)
    note(f"training on {data}")
    checkpoint, state, path = run_on_first(lambda: find_or_start_run(beginning, data, epochs, given, upkeep.folder))
    stage = prepare_stage(settings, checkpoint, state, path, data, device)
    if settings.choose_by_val:
        check_validation(state, sorted({pair.photograph for pair in watched}), path)
    told = "another training is at it: wait for it, or give -n to start another"
    lock = locked(path, told) if rank_and_size()[0] == 0 else nullcontext()
    with lock, watching(watched, path, state, following) as watch:
        if run_epochs(stage, checkpoint, state, path, data, watch, upkeep):
            return path
    done, goal = (step / data.updates_per_epoch for step in (state.step, state.last_step))
    way = f"--resume {path} resumes it"
    if start.weights in (None, UNTRAINED):  # else kind, shape and scale may be those of a file
        way = f"the same command without -n and --from resumes it, and so does --resume {path}"
    note(f"stopped and saved in {path} after {done:.1f} of {goal:.0f} epochs: {way}")
    raise SystemExit(130)  # what a shell expects of a program that was interrupted


def check_start(settings: Settings, following: Following, upkeep: Upkeep) -> None:
    """Raises UsageError and UserError for what would only fail after all pictures have been read."""
    _, size = rank_and_size()
    if settings.batch % size:
        raise UsageError(f"-b {settings.batch}: does not divide among {size} processes")
    if following.tensorboard:
        summary_writer()
    if settings.adversarial:
        check_vgg19(settings.adversarial.perceptual)
    run_on_first(lambda: check_folder(upkeep.folder))
    if upkeep.cache.exists() and not upkeep.cache.is_dir():
        raise UsageError(f"--cache {upkeep.cache}: is a file; give a folder")


def prepare_stage(
    settings: Settings, checkpoint: dict, state: RunState, path: Path, data: Data, device: torch.device
) -> PixelStage | AdversarialStage:
    """Networks and optimisers as the run left them; `data` gets what the run has decided. Raises UserError."""
    data.hold_out(set(state.data.get("held_out", ())))
    if not same_pictures(state.data, data.summary()):
        raise UserError("the processes have unlike photographs: every machine needs the same")
    data.settings = replace(settings, patch=data.patch)
    stage = make_stage(data.settings, checkpoint["params"], device)
    if data.pool:
        stage.parts["pool"] = data.pool
    load_parts(stage.parts, state.parts, path)
    state.parts = {}  # the stage has them now
    return stage


def for_pairs(settings: Settings, sources: list[Source], given: Collection[str] = ()) -> Settings:
    """The settings as they are, or, for pairs that somebody else has made, with those pairs' own degradation.

    `-d` has then chosen the losses and the discriminator alone: nothing is degraded or sharpened here. Raises
    UsageError where settings of that were `given`.
    """
    if not any(source.is_pair for source in sources):
        return settings
    if idle := sorted(name for name in given if name.split(".")[0] in OF_DEGRADING):
        raise UsageError(f"{idle[0]}: changes nothing, for pairs are learnt from as they are: leave it out")
    return replace(settings, degradation=OWN, mild=0.0, multiscale=False, sharpen=False)


def read_watched(validation: Sequence[Path], settings: Settings, data: Data, cache: Path) -> list[Pair]:
    """What `--val` names, as pairs. Raises UsageError for pairs that are degraded in another way than the run's."""
    if not validation:
        return []
    found = find_sources(validation)
    if not all(source.is_pair == (settings.degradation == OWN) for source in found):
        wanted = "wants pairs, in gt/ and lq/ of a folder" if settings.degradation == OWN else "wants photographs"
        raise UsageError(f"--val {validation[0]}: this run {wanted}")
    pairs, _ = read_pairs(found, settings.scale, data.enlarge, cache=cache, share=local_rank_and_size())
    return data.degraded_pairs(pairs)


def is_time_to_save(step: int, saved: float, upkeep: Upkeep) -> bool:
    """Whether so many minutes or updates have passed, in the middle of an epoch."""
    after_updates = upkeep.save_updates and step % upkeep.save_updates == 0
    return bool(after_updates) or time.monotonic() - saved > 60 * upkeep.save_minutes


def save(stage: PixelStage | AdversarialStage, checkpoint: dict, state: RunState, saver: Saver) -> None:
    """Have the best weights and all that is needed to resume written. Raises UserError."""
    saver.save(checkpoint, state, {name: part.state_dict() for name, part in stage.parts.items()})


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
    """Step, low and high of all steps. While the network computes, another thread prepares what the next steps need.

    Prepared is what depends on the step alone. What depends on the steps before, Real-ESRGAN's pool, waits its turn.
    """
    on_gpu = device.type == "cuda"
    stream = torch.cuda.Stream(device) if on_gpu and data.device.type == "cuda" else None

    def prepare(step: int) -> tuple:
        patches = data.cut(step)
        if on_gpu:
            patches = patches[0].pin_memory(), patches[1].pin_memory()  # pinned, they travel while the GPU computes
        if stream is None:  # on a CPU the network has all cores, and degrading beside it would gain nothing
            return patches, None
        with torch.cuda.stream(stream):
            return data.degrade(patches, step), stream.record_event()

    with ThreadPoolExecutor(1) as ahead:
        coming = deque(ahead.submit(prepare, step) for step in range(first, min(first + PREPARED, last)))
        try:
            for step in range(first, last):
                prepared, done = coming.popleft().result()
                if step + PREPARED < last:
                    coming.append(ahead.submit(prepare, step + PREPARED))
                yield step, *taken_over(prepared, done, data, step)
        finally:
            ahead.shutdown(cancel_futures=True)


def taken_over(prepared: tuple, done, data: Data, step: int) -> tuple[Tensor, Tensor]:
    """Low and high of what was prepared: on a GPU by another stream, which is `done` then."""
    if done is None:
        return data.finish(prepared, step)
    now = torch.cuda.current_stream()
    now.wait_event(done)
    for picture in prepared[:2]:
        picture.record_stream(now)  # or its memory might be used again too soon
    return data.mix(prepared)


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
    learning_rate: float, upkeep: Upkeep = NORMAL_UPKEEP,
) -> None:  # fmt: skip
    """Add the epoch, or part of one, to the history, and keep the weights if they are the best so far on held-out ones.

    The best are those with the highest PSNR; ESRGAN's, which trades PSNR for looks, those nearest to VGG19. With
    `choose_by_val` the pictures of `--val` decide in place of the held-out ones.
    """
    network = stage.ema_network
    epoch: float = math.floor(epochs_done(checkpoint["history"])) + 1
    if upkeep.validate_updates:
        epoch = round(state.step / data.updates_per_epoch, 3)
    entry = {"epoch": epoch, "step": state.step, "seconds": state.seconds, **state.means()}
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
        low, high = (network_input(network, part[:][None]) for part in (pair.small, pair.large))
        # A patch of plain sky may be restored without any error: its infinity would hide all others.
        restored = in_tiles(network, low, network.scale)
        total += psnr(restored, high, scale).clamp(max=100).item()
    return total / len(pairs)
