"""Training, as one visible loop: draw a batch, restore it, compare, step; once an epoch measure and save.

Every random choice of a step comes from a generator seeded with (seed, step), so that a run that was
stopped goes on exactly as if it had not been: the number of the step is all it must remember.
"""

import math
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import checkpoints
from gen_samples import Pair, draw_batch, read_pairs, seeded, split_by_photograph
from images import (
    UsageError,
    from_bytes,
    note,
    psnr,
    replacing,
    rgb_to_luma,
    rgb_to_ycbcr,
    to_image,
    ycbcr_to_rgb,
)

# Over photographs an epoch has no natural end, so it is this many updates of the network.
UPDATES_PER_EPOCH = 250
# Of each held-out photograph the central square of this side is measured: enough to compare epochs.
HELD_OUT_SIDE = 192


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run, together with the pictures. The defaults are for SRCNN on two CPU cores."""

    model: str = "srcnn"
    scale: int = 2
    degradation: str = "bicubic"
    shape: dict = field(default_factory=lambda: {"kernels": [9, 5, 5]})
    batch: int = 16  # the paper does not say; its released settings take 128
    patch: int = 48  # pixels a side; the paper: 33, of which 17 are left by 9-5-5's valid convolutions, here 32
    learning_rate: float = 1e-3  # Adam's, falling to 0 by a half cosine
    seed: int = 0


class Data:
    """Training pairs, held-out pairs, and the batch of every step."""

    def __init__(self, sources: list[Path], settings: Settings):
        pairs, ready_cut = read_pairs(sources, settings.scale, enlarge=True)
        self.training, held_out = split_by_photograph(pairs, settings.seed)
        self.held_out = [_centre(pair, HELD_OUT_SIDE) for pair in held_out]
        smallest = min(min(pair.small.shape[-2:]) for pair in self.training)
        # Samples are used whole: they are patches already.
        self.patch = smallest if ready_cut else min(settings.patch, smallest)
        self.batch_size, self.seed = settings.batch, settings.seed
        self.updates_per_epoch = math.ceil(len(self.training) / self.batch_size) if ready_cut else UPDATES_PER_EPOCH
        self.ready_cut = ready_cut

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The small and large patches of a step, uint8 (N, 3, …); the same step always draws the same."""
        generator = seeded(self.seed, step)
        if self.ready_cut:  # every sample once an epoch, in an order that the epoch decides
            epoch, place = divmod(step, self.updates_per_epoch)
            order = torch.randperm(len(self.training), generator=seeded(self.seed, epoch, 0xE90C))
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        else:
            chosen = torch.randint(len(self.training), (self.batch_size,), generator=generator)
        return draw_batch([self.training[index] for index in chosen.tolist()], self.patch, generator)

    def summary(self) -> dict:
        """What is remembered of the pictures: a run goes on only with the same."""
        return {
            "pairs": len(self.training),
            "photographs": sorted({pair.photograph for pair in self.training}),
            "held_out": sorted({pair.photograph for pair in self.held_out}),
        }


def _centre(pair: Pair, side: int) -> Pair:
    """The central square of a pair of equal sizes, smaller where the pair is."""
    height, width = pair.large.shape[-2:]
    rows, columns = (slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in (height, width))
    return Pair(pair.small[:, rows, columns], pair.large[:, rows, columns], pair.photograph)


def cosine(step: int, first: int, last: int, learning_rate: float) -> float:
    """The learning rate of a step: a half cosine from `learning_rate` down to 0 over the steps of this run."""
    return learning_rate * 0.5 * (1 + math.cos(math.pi * (step - first) / (last - first)))


@torch.inference_mode()
def validate(restore: Callable[[Tensor], Tensor], pairs: list[Pair], border: int, device="cpu") -> float:
    """Mean PSNR in dB over pairs of what `restore` makes of the poor luma; each pair counts once."""
    total = 0.0
    for pair in pairs:
        small, large = (rgb_to_luma(from_bytes(part[None].to(device))) for part in (pair.small, pair.large))
        # A patch of plain sky may be restored without any error: its infinity would hide all others.
        total += psnr(restore(small), large, border).clamp(max=100).item()
    return total / len(pairs)


@contextmanager
def stop_when_asked():
    """Yield a list that fills when Ctrl-C or SIGTERM arrives, so that the step in hand can be finished."""
    asked = []
    handlers = {
        number: signal.signal(number, lambda *_: asked.append(True)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------
# The run: start it, go on with it, keep it
# ---------------------------------------------------------------------------------------------


def new_run(settings: Settings, data: Data) -> dict:
    """A checkpoint of a network that has seen nothing yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = checkpoints.build_network(settings.model, settings.shape)
    return {
        "model": settings.model,
        "scale": settings.scale,
        "degradation": settings.degradation,
        "shape": settings.shape,
        "history": [],
        "params": network.state_dict(),
        "training": {
            "settings": asdict(settings),
            "data": data.summary(),
            "network": network.state_dict(),
            "optimizer": None,
            "step": 0,
            "first_step": 0,
            "last_step": 0,
            "loss_sum": 0.0,
            "best_psnr": -math.inf,
        },
    }


def go_on(checkpoint: dict, path: Path, settings: Settings, data: Data) -> Path:
    """Prepare a checkpoint for more training; returns the file to write: its own if its run is unfinished.

    Raises UsageError where an unfinished run was started with other settings or pictures.
    """
    training = checkpoint["training"]
    unfinished = training["step"] < training["last_step"]
    same_data = training["data"] == data.summary()
    changed = [
        f"{name} {training['settings'].get(name)} → {value}"
        for name, value in asdict(settings).items()
        if training["settings"].get(name) != value
    ] + ([] if same_data else ["other pictures"])
    if unfinished and changed:
        raise UsageError(
            f"{path} is an unfinished run with other settings ({', '.join(changed)}): "
            "give the same ones to finish it, or -n to start anew"
        )
    if unfinished:
        return path
    if not same_data:
        training["best_psnr"] = -math.inf  # measured on other pictures: no figure to hold the next epochs to
    training.update(settings=asdict(settings), data=data.summary(), loss_sum=0.0)
    # Steps are counted in epochs of the new data, so that every epoch draws a fresh order.
    training["step"] = training["last_step"] = len(checkpoint["history"]) * data.updates_per_epoch
    return checkpoints.new_path(checkpoint)


def train(settings: Settings, sources: list[Path], epochs: int, fresh: bool, validation: list[Path], device) -> Path:
    """Train for `epochs` epochs, or finish the unfinished run, and return the checkpoint's path.

    Beside the checkpoint it leaves a plot of the curves and a before/after picture.
    """
    data = Data(sources, settings)
    validation_pairs = read_pairs(validation, settings.scale, enlarge=True)[0] if validation else []
    found = None if fresh else _find_run(settings)
    if found:
        path, checkpoint = found[0], found[1]
        path = go_on(checkpoint, path, settings, data)
        note(f"going on from {found[0]} after {len(checkpoint['history'])} epochs (-n starts anew)")
    else:
        checkpoint = new_run(settings, data)
        path = checkpoints.new_path(checkpoint)
    training = checkpoint["training"]
    if training["step"] == training["last_step"]:
        training["first_step"] = training["step"]
        training["last_step"] = training["step"] + epochs * data.updates_per_epoch

    bicubic = validate(lambda luma: luma, data.held_out, settings.scale)
    finished = run_epochs(checkpoint, path, data, validation_pairs, device)
    if not finished:
        done, goal = (training[key] / data.updates_per_epoch for key in ("step", "last_step"))
        note(f"stopped and saved in {path} after {done:.1f} of {goal:.0f} epochs: the same command goes on from there")
        raise SystemExit(130)  # what a shell expects of a program that was interrupted
    draw_curves(checkpoint["history"], bicubic, path.with_suffix(".curves.png"))
    draw_before_after(
        checkpoints.load_network(checkpoint), data.held_out, settings, path.with_suffix(".before_after.png")
    )
    print(
        f"held-out photographs: {training['best_psnr']:.2f} dB, bicubic {bicubic:.2f} dB "
        f"({len(data.summary()['held_out'])} photographs, {len(data.held_out)} pictures)"
    )
    return path


def _find_run(settings: Settings) -> tuple[Path, dict] | None:
    wanted = {key: getattr(settings, key) for key in ("model", "scale", "degradation", "shape")}
    return checkpoints.find_latest(checkpoints.MODELS, **wanted)


def run_epochs(checkpoint: dict, path: Path, data: Data, validation_pairs: list[Pair], device) -> bool:
    """The loop. Updates `checkpoint` and saves it once an epoch; False if it was asked to stop before the end."""
    training = checkpoint["training"]
    settings = Settings(**training["settings"])
    network = checkpoints.build_network(settings.model, settings.shape)
    network.load_state_dict(training["network"])
    # Channels-last memory: the convolutions of the CPU and of tensor cores run fastest on it.
    network = network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    if training["optimizer"]:
        optimizer.load_state_dict(training["optimizer"])
    border = network.radius
    first, last = training["first_step"], training["last_step"]
    started = time.monotonic()

    with stop_when_asked() as asked, tqdm(total=last, initial=training["step"], unit="step") as bar:
        for step in range(training["step"], last):
            low, high = (rgb_to_luma(from_bytes(part.to(device))) for part in data.batch(step))
            for group in optimizer.param_groups:
                group["lr"] = cosine(step, first, last, settings.learning_rate)
            # No padding in training: the true neighbours of a patch are unknown, so its border is not judged.
            restored = network.forward_valid(low.contiguous(memory_format=torch.channels_last))
            loss = F.mse_loss(restored, high[..., border:-border, border:-border])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

            training["step"] = step + 1
            training["loss_sum"] += loss.item()
            epoch_is_over = (step + 1) % data.updates_per_epoch == 0
            if epoch_is_over:
                seconds, started = time.monotonic() - started, time.monotonic()
                measure_epoch(checkpoint, network, data, validation_pairs, seconds)
            if epoch_is_over or asked:
                training["network"] = network.state_dict()
                training["optimizer"] = optimizer.state_dict()
                checkpoints.save_checkpoint(checkpoint, path)
            bar.update()
            figures = {"loss": f"{loss.item():.2e}"}
            if checkpoint["history"]:
                figures["PSNR"] = f"{checkpoint['history'][-1]['psnr']:.2f} dB"
            bar.set_postfix(figures, refresh=False)
            if asked:
                return training["step"] == last
    return True


def measure_epoch(
    checkpoint: dict, network: nn.Module, data: Data, validation_pairs: list[Pair], seconds: float
) -> None:
    """Add the epoch to the history, and keep the weights if they are the best so far on held-out photographs."""
    training = checkpoint["training"]
    device = next(network.parameters()).device
    entry = {
        "epoch": len(checkpoint["history"]) + 1,
        "step": training["step"],
        "loss": training["loss_sum"] / data.updates_per_epoch,
        "psnr": validate(network, data.held_out, checkpoint["scale"], device),
        "seconds": seconds,
    }
    if validation_pairs:  # watched and never used to choose: it may be a test set
        entry["validation_psnr"] = validate(network, validation_pairs, checkpoint["scale"], device)
    training["loss_sum"] = 0.0
    checkpoint["history"].append(entry)
    if entry["psnr"] > training["best_psnr"]:
        training["best_psnr"] = entry["psnr"]
        checkpoint["params"] = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}


# ---------------------------------------------------------------------------------------------
# What a run leaves to look at
# ---------------------------------------------------------------------------------------------


def _new_figure(rows: int, columns: int, size: tuple[float, float]):
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_curves(history: list[dict], bicubic: float, path: Path) -> None:
    """The loss and the PSNR of every epoch, with bicubic's as the line to beat."""
    figure, ((left, right),) = _new_figure(1, 2, (10, 4))
    epochs = [entry["epoch"] for entry in history]
    left.semilogy(epochs, [entry["loss"] for entry in history], marker=".")
    left.set(title="Training loss", xlabel="epoch", ylabel="mean squared error of luma (0..1)")
    right.plot(epochs, [entry["psnr"] for entry in history], marker=".", label="held-out photographs")
    right.axhline(bicubic, color="grey", linestyle="--", label="bicubic on the same")
    if any("validation_psnr" in entry for entry in history):
        right.plot(epochs, [entry.get("validation_psnr", math.nan) for entry in history], marker=".", label="--val")
    right.set(title="Quality", xlabel="epoch", ylabel="PSNR of luma (dB)")
    right.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


@torch.inference_mode()
def draw_before_after(network: nn.Module, held_out: list[Pair], settings: Settings, path: Path) -> None:
    """The most detailed held-out pictures (at most three): bicubic, restored, as they were."""

    def detail(pair: Pair) -> float:
        return rgb_to_luma(from_bytes(pair.large[None])).diff(dim=-1).abs().mean().item()

    chosen = [_centre(pair, 96) for pair in sorted(held_out, key=detail, reverse=True)[:3]]
    figure, axes = _new_figure(len(chosen), 3, (9, 3.2 * len(chosen)))
    for row, pair in zip(axes, chosen, strict=True):
        small, large = from_bytes(pair.small[None]), from_bytes(pair.large[None])
        ycbcr = rgb_to_ycbcr(small)
        ycbcr[:, :1] = network(ycbcr[:, :1])
        titles = (f"bicubic ×{settings.scale}", f"{settings.model} ×{settings.scale}", "as it was")
        for axis, picture, title in zip(row, (small, ycbcr_to_rgb(ycbcr), large), titles, strict=True):
            figure_of_merit = "" if picture is large else f", {psnr(picture, large, settings.scale).item():.2f} dB"
            axis.imshow(to_image(picture), interpolation="nearest")
            axis.set_title(title + figure_of_merit, fontsize=10)
            axis.set_axis_off()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
