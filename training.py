"""Training, as one visible loop: draw a batch, update the network, and once an epoch measure and save.

There are two kinds of update: `PixelStage` compares pixels (SRCNN, the PSNR-oriented RRDB), `AdversarialStage` adds
a perceptual loss and a judge (ESRGAN). Every random choice of a step comes from a generator seeded with
(seed, step), so that a run that was stopped goes on exactly as if it had not been.
"""

import math
import signal
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

import checkpoints
import esrgan
from drawing import draw_progress
from gen_samples import Data, Pair, read_pairs
from images import UsageError, UserError, from_bytes, note, psnr, rgb_to_luma
from upscaling import computing_in, in_tiles


@dataclass(frozen=True)
class Adversarial:
    """ESRGAN's second stage. The defaults are the paper's (Wang et al. 2018, section 4.1)."""

    pixel_weight: float = 1e-2  # η, of the mean absolute difference
    perceptual_weight: float = 1.0
    adversarial_weight: float = 5e-3  # λ
    layers: dict = field(default_factory=lambda: dict(esrgan.ESRGAN_LAYERS))
    perceptual: str = "imagenet"
    features: int = 64
    normalisation: str = "batch"
    judge_rate: float = 1.0  # the discriminator's learning rate, as a share of the generator's
    judge_every: int = 1  # the discriminator is updated at every so many steps
    head_start: int = 0  # so many steps at the start of the stage update the discriminator alone


@dataclass(frozen=True)
class Settings:
    """What decides the result of a run, together with the pictures. The defaults are for SRCNN on two CPU cores."""

    model: str = "srcnn"
    scale: int = 2
    degradation: str = "bicubic"
    shape: dict = field(default_factory=lambda: {"kernels": [9, 5, 5]})
    batch: int = 16  # SRCNN's paper does not say; its released settings take 128
    patch: int = 48  # pixels a side of the poor picture; SRCNN's paper: 33, of which 17 remain after 9-5-5, here 32
    learning_rate: float = 7e-4
    beta2: float = 0.99  # of Adam; 0.999 learnt 0.04 dB less in the same few thousand steps
    milestones: list = field(default_factory=list)  # the rate halves at these steps; without: half a cosine down to 0
    average: float = 0.0  # weights are averaged over training with this decay (EMA); 0: they are not
    accumulate: int = 1  # so many batches are computed, one after the other, for one update
    clip: float = 0.0  # the gradient's norm is cut to this; 0: it is not
    precision: str = "fp32"  # of the convolutions; weights, their averages and the losses are always float32
    seed: int = 0
    adversarial: Adversarial | None = None

    def kind(self) -> dict:
        """What a checkpoint must share to be the same network: a run goes on from the newest of its kind."""
        return {name: getattr(self, name) for name in ("model", "scale", "degradation", "shape")}


def preset(model: str, scale: int, paper: bool = False) -> Settings:
    """Settings for a kind of network: compact ones for two CPU cores, or the paper's, for GPUs and days."""
    if model == "srcnn":
        return Settings(scale=scale)
    if model == "srvgg":
        shape = {"scale": scale, "features": 64, "convolutions": 16}
    else:
        features, growth, blocks = (64, 32, 23) if paper else (32, 16, 6)
        shape = {"scale": scale, "features": features, "growth": growth, "blocks": blocks, "unshuffle": False}
    common = {"model": model, "scale": scale, "shape": shape, "average": 0.999}
    if paper:
        # Sections 4.1 and 4.2; 1,000,000 updates of the first stage and 400,000 of the second, as the code does.
        common |= {"batch": 16, "patch": 128 // scale, "beta2": 0.999}
        pixels = {"learning_rate": 2e-4, "milestones": [200_000, 400_000, 600_000, 800_000]}
        judged = {"learning_rate": 1e-4, "milestones": [50_000, 100_000, 200_000, 300_000]}
        return Settings(**common, **(judged | {"adversarial": Adversarial()} if model == "esrgan" else pixels))
    common |= {"batch": 8, "patch": 32}
    if model == "esrgan":
        return Settings(**common, learning_rate=1e-4, adversarial=COMPACT_ADVERSARIAL)
    return Settings(**common, learning_rate=4e-4)


# A short training needs a judge that does not win outright: half as wide, its steepness bounded by spectral norm.
COMPACT_ADVERSARIAL = Adversarial(features=32, normalisation="spectral")


def rate_at(step: int, first: int, last: int, settings: Settings) -> float:
    """The learning rate of a step: halved at every milestone, else half a cosine over this run's steps, down to 0."""
    if settings.milestones:
        return settings.learning_rate * 0.5 ** sum(step >= milestone for milestone in settings.milestones)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - first) / (last - first)))


# ---------------------------------------------------------------------------------------------
# The two kinds of update
# ---------------------------------------------------------------------------------------------


def as_seen_by(network: nn.Module, pixels: Tensor) -> Tensor:
    """uint8 (N, 3, …) as the network wants it: RGB or luma in 0..1, channels-last, where convolutions are fastest."""
    picture = from_bytes(pixels.to(next(network.parameters()).device))
    picture = rgb_to_luma(picture) if network.luma else picture
    return picture.contiguous(memory_format=torch.channels_last)


def build(settings: Settings, weights: dict, device) -> nn.Module:
    """The network of a run with these weights, ready to train."""
    network = checkpoints.build_network(settings.model, settings.shape)
    network.load_state_dict(weights)
    return network.to(device, memory_format=torch.channels_last)


def adam(network: nn.Module, settings: Settings) -> torch.optim.Adam:
    """The optimiser of both papers; the learning rate is set at every step."""
    return torch.optim.Adam(network.parameters(), betas=(0.9, settings.beta2), fused=True)  # one pass over the weights


def averaged(network: nn.Module, settings: Settings) -> AveragedModel:
    """A copy that follows the network's weights slowly (EMA): what is measured, kept and used for upscaling."""

    def follow(average: Tensor, current: Tensor, updates) -> Tensor:
        # Faster at first: at 0.999 alone the untrained weights would still count a third after 1000 updates.
        decay = min(settings.average, (1 + int(updates)) / (10 + int(updates)))
        return average.lerp(current, 1 - decay)

    return AveragedModel(network, avg_fn=follow)


def take_step(
    optimizer: torch.optim.Optimizer, learning_rate: float, clip: float, scaler: torch.amp.GradScaler
) -> None:
    """One step of an optimiser along the gradient, which is cut first if it is longer than `clip` (0: never)."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(group["params"], clip)
    scaler.step(optimizer)
    optimizer.zero_grad()


def new_scaler(settings: Settings, device) -> torch.amp.GradScaler:
    """float16 has no room for small gradients: they are computed times a large number. Others need no such thing."""
    return torch.amp.GradScaler(torch.device(device).type, enabled=settings.precision == "fp16")


class PixelStage:
    """The network learns to give the right pixels: SRCNN by squared differences, the others by absolute ones."""

    def __init__(self, settings: Settings, weights: dict, device):
        self.settings = settings
        self.network = build(settings, weights, device)
        self.average = averaged(self.network, settings)
        self.optimizer = adam(self.network, settings)
        self.scaler = new_scaler(settings, device)
        self.parts = {
            "network": self.network, "average": self.average, "optimizer": self.optimizer, "scaler": self.scaler
        }  # fmt: skip

    def update(self, low: Tensor, high: Tensor, learning_rate: float, step: int) -> dict[str, float]:
        """One step on uint8 pictures (N, 3, …); the loss by name. Every step is alike to it, whatever its number."""
        total = 0.0
        for small, large in zip(low.chunk(self.settings.accumulate), high.chunk(self.settings.accumulate), strict=True):
            loss = self.loss(as_seen_by(self.network, small), as_seen_by(self.network, large))
            loss = loss * (len(small) / len(low))  # so that the parts add up to the mean over the batch
            self.scaler.scale(loss).backward()
            total += loss.item()
        take_step(self.optimizer, learning_rate, self.settings.clip, self.scaler)
        self.scaler.update()
        self.average.update_parameters(self.network)
        return {"loss": total}

    def loss(self, low: Tensor, high: Tensor) -> Tensor:
        """The mean difference of restored and true pixels."""
        with computing_in(self.settings.precision, low.device):
            restored = self.network.forward_valid(low) if self.network.luma else self.network(low)
        if not self.network.luma:
            return F.l1_loss(restored.float(), high)
        # No padding in training: the true neighbours of a patch are unknown, so its border is not judged.
        border = self.network.radius
        return F.mse_loss(restored.float(), high[..., border:-border, border:-border])


class AdversarialStage:
    """ESRGAN: the generator learns to look right, to VGG19 and to a discriminator that learns beside it.

    `--accumulate` computes a batch in parts here too, but that is not the update of the whole batch: the average
    logits of RaGAN and the batch norm of the discriminator see only a part at a time.
    """

    def __init__(self, settings: Settings, weights: dict, device, perceptual: nn.Module):
        self.settings, self.weights = settings, settings.adversarial
        self.network = build(settings, weights, device)
        self.average = averaged(self.network, settings)
        self.optimizer = adam(self.network, settings)
        self.perceptual = perceptual.to(device, memory_format=torch.channels_last)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 1)
            judge = esrgan.VGGDiscriminator(
                settings.patch * settings.scale, self.weights.features, self.weights.normalisation
            )
        self.judge = judge.to(device, memory_format=torch.channels_last)
        self.judge_optimizer = adam(self.judge, settings)
        self.scaler = new_scaler(settings, device)
        self.parts = {
            "network": self.network, "average": self.average, "optimizer": self.optimizer, "scaler": self.scaler,
            "judge": self.judge, "judge_optimizer": self.judge_optimizer,
        }  # fmt: skip

    def update(self, low: Tensor, high: Tensor, learning_rate: float, step: int) -> dict[str, float]:
        """One step of both on uint8 pictures (N, 3, …); every part of the loss by name, and what the judge said."""
        figures: dict[str, float] = {}
        judging = step % self.weights.judge_every == 0
        for small, large in zip(low.chunk(self.settings.accumulate), high.chunk(self.settings.accumulate), strict=True):
            share = len(small) / len(low)
            target = as_seen_by(self.network, large)
            restored, told = self.generator_backward(as_seen_by(self.network, small), target, share)
            if judging:
                told |= self.judge_backward(restored.detach(), target, share)
            for name, value in told.items():
                figures[name] = figures.get(name, 0.0) + share * value
        if step >= self.weights.head_start:
            take_step(self.optimizer, learning_rate, self.settings.clip, self.scaler)
        else:
            self.optimizer.zero_grad()
        if judging:
            judge_rate = learning_rate * self.weights.judge_rate
            take_step(self.judge_optimizer, judge_rate, self.settings.clip, self.scaler)
        self.scaler.update()
        self.average.update_parameters(self.network)
        return figures

    def generator_backward(self, low: Tensor, high: Tensor, share: float) -> tuple[Tensor, dict[str, float]]:
        """Gradients for the generator alone: L = L_percep + λ L_RaGAN + η L1 (equation 3)."""
        self.judge.requires_grad_(False)
        with computing_in(self.settings.precision, low.device):
            restored = self.network(low).float()
            perceptual = self.perceptual(restored, high)
            real, fake = self.judge(high).float(), self.judge(restored).float()
        pixel = F.l1_loss(restored, high)
        adversarial = esrgan.relativistic_generator_loss(real, fake)
        weights = self.weights
        loss = weights.pixel_weight * pixel + weights.perceptual_weight * perceptual
        loss = loss + weights.adversarial_weight * adversarial
        self.scaler.scale(share * loss).backward()
        self.judge.requires_grad_(True)
        parts = {"loss": loss, "pixel": pixel, "perceptual": perceptual, "adversarial": adversarial}
        return restored, {name: value.item() for name, value in parts.items()}

    def judge_backward(self, restored: Tensor, high: Tensor, share: float) -> dict[str, float]:
        """Gradients for the discriminator alone. Its margin C(real) − C(restored) says how far it is ahead."""
        with computing_in(self.settings.precision, high.device):
            real, fake = self.judge(high).float(), self.judge(restored).float()
        loss = esrgan.relativistic_discriminator_loss(real, fake)
        self.scaler.scale(share * loss).backward()
        real, fake = real.mean().item(), fake.mean().item()
        return {"judge_loss": loss.item(), "judge_real": real, "judge_restored": fake, "margin": real - fake}


# ---------------------------------------------------------------------------------------------
# The run: start it, go on with it, keep it
# ---------------------------------------------------------------------------------------------


@contextmanager
def stop_when_asked():
    """Yield a list that fills when Ctrl-C or SIGTERM arrives, so that the step in hand can be finished.

    A second one does not wait for that.
    """
    asked = []

    def handle(*_) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)

    handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def starting_weights(settings: Settings, fresh: bool, start: Path | None) -> dict:
    """What a new run begins with: `start`'s weights; for ESRGAN the latest PSNR-oriented ones; else a seeded draw.

    Raises UsageError if ESRGAN has none to begin with and `fresh` does not say that noise is meant.
    """
    if start:
        checkpoint = checkpoints.load_checkpoint(start)
        if checkpoint["shape"] != settings.shape:
            raise UsageError(f"--from {start}: is {checkpoint['shape']}, not {settings.shape}")
        note(f"starting from {start}")
        return checkpoint["params"]
    if settings.model == "esrgan":
        if found := checkpoints.find_trained(**{**settings.kind(), "model": "rrdb"}):
            note(f"starting from {found[0]}")
            return found[1]["params"]
        if not fresh:
            raise UsageError(
                "esrgan starts from a trained rrdb, and there is none of this shape: `train -m rrdb` first, "
                "or give --from FILE, or -n to start from noise, which seldom ends well"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return checkpoints.build_network(settings.model, settings.shape).state_dict()


def new_run(settings: Settings, data: Data, weights: dict) -> dict:
    """A checkpoint of a network that has seen nothing yet."""
    training = {
        "settings": asdict(settings), "data": data.summary(), "parts": {}, "sums": {},
        "step": 0, "first_step": 0, "last_step": 0, "best": -math.inf,
    }  # fmt: skip
    return {**settings.kind(), "history": [], "params": weights, "training": training}


def go_on(checkpoint: dict, path: Path, settings: Settings, data: Data) -> Path:
    """Prepare a checkpoint for more training; returns the file to write: its own if its run is unfinished.

    Raises UsageError where an unfinished run was started with other settings or pictures.
    """
    training = checkpoint["training"]
    unfinished = training["step"] < training["last_step"]
    same_data = training["data"] == data.summary()
    before, now = training["settings"], asdict(settings)
    compared = now.keys() - {"precision"}  # a run may go on where the other machine has no bf16
    changed = [f"{name} {before.get(name)} → {now[name]}" for name in sorted(compared) if before.get(name) != now[name]]
    changed += [] if same_data else ["other pictures"]
    if unfinished and changed:
        raise UsageError(
            f"{path} is an unfinished run with other settings ({', '.join(changed)}): "
            "give the same ones to finish it, or -n to start anew"
        )
    if unfinished:
        training["settings"] = now
        return path
    if not same_data or before.get("adversarial") != now["adversarial"]:
        training["best"] = -math.inf  # measured on other pictures, or in another unit
    training.update(settings=now, data=data.summary(), sums={})
    # Steps are counted in epochs of the new data, so that every epoch draws a fresh order.
    training["step"] = training["last_step"] = len(checkpoint["history"]) * data.updates_per_epoch
    return checkpoints.new_path(checkpoint)


def train(
    settings: Settings, sources: list[Path], epochs: int, fresh: bool, validation: list[Path], device, start=None
) -> Path:
    """Train for `epochs` epochs, or finish the unfinished run, and return the checkpoint's path.

    Beside the checkpoint it leaves a plot of the curves and a before/after picture. Raises UserError, and
    SystemExit where it was asked to stop: everything is saved then.
    """
    wanted = settings.kind()
    found = None if fresh or start else checkpoints.find_latest(checkpoints.MODELS, **wanted)
    if found and "training" not in found[1]:  # weights alone, such as ship with the program
        found, start = None, found[0]
    weights = found[1]["params"] if found else starting_weights(settings, fresh, start)

    enlarge = settings.model == "srcnn"
    batch = settings.batch * settings.accumulate
    data = Data(sources, settings.scale, enlarge, batch, settings.patch, settings.seed)
    watched = read_pairs(validation, settings.scale, enlarge)[0] if validation else []
    note(f"training on {data}")
    if found:
        checkpoint, path = found[1], go_on(found[1], found[0], settings, data)
        goal = "finishing" if path == found[0] else "going on from"
        note(f"{goal} {found[0]} after {len(checkpoint['history'])} epochs (-n starts anew)")
    else:
        checkpoint = new_run(settings, data, weights)
        path = checkpoints.new_path(checkpoint)
    training = checkpoint["training"]
    if training["step"] == training["last_step"]:
        training["first_step"] = training["step"]
        training["last_step"] = training["step"] + epochs * data.updates_per_epoch

    stage = make_stage(replace(settings, patch=data.patch), weights, device)
    try:
        for name, state in training["parts"].items():
            if state:  # a scaler that has nothing to do has nothing to remember
                stage.parts[name].load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{found[0]} has another discriminator: give its settings, or -n to start anew") from error
    if run_epochs(stage, checkpoint, path, data, watched):
        return path
    done, goal = (training[key] / data.updates_per_epoch for key in ("step", "last_step"))
    note(
        f"stopped and saved in {path} after {done:.1f} of {goal:.0f} epochs: "
        "the same command without -n and --from goes on from there"
    )
    raise SystemExit(130)  # what a shell expects of a program that was interrupted


def make_stage(settings: Settings, weights: dict, device) -> PixelStage | AdversarialStage:
    """What updates the network of these settings. Raises UserError where VGG19's weights cannot be had."""
    if not settings.adversarial:
        return PixelStage(settings, weights, device)
    layers = settings.adversarial.layers
    perceptual = esrgan.PerceptualLoss(esrgan.load_vgg19(settings.adversarial.perceptual, layers), layers)
    return AdversarialStage(settings, weights, device, perceptual)


def run_epochs(stage, checkpoint: dict, path: Path, data: Data, watched: list[Pair]) -> bool:
    """The loop. Updates `checkpoint` and saves it once an epoch; False if it was asked to stop before the end."""
    training, history = checkpoint["training"], checkpoint["history"]
    first, last = training["first_step"], training["last_step"]
    started = drawn = time.monotonic()
    checkpoints.save_checkpoint(checkpoint, path)  # better to learn now than after an epoch that this cannot be done
    with stop_when_asked() as asked, tqdm(total=last, initial=training["step"], unit="step") as bar:
        for step in range(training["step"], last):
            low, high = data.batch(step)
            figures = stage.update(low, high, rate_at(step, first, last, stage.settings), step)
            if not math.isfinite(figures["loss"]):
                raise UserError(
                    f"the loss is no number any more at step {step + 1}: try -n with a lower --learning-rate"
                )
            stopping = bool(asked)

            training["step"] = step + 1
            for name, value in figures.items():
                total, count = training["sums"].get(name, (0.0, 0))
                training["sums"][name] = (total + value, count + 1)
            epoch_is_over = (step + 1) % data.updates_per_epoch == 0
            if epoch_is_over:
                seconds, started = time.monotonic() - started, time.monotonic()
                measure_epoch(stage, checkpoint, data, watched, seconds)
            if epoch_is_over or stopping:
                training["parts"] = {name: part.state_dict() for name, part in stage.parts.items()}
                checkpoints.save_checkpoint(checkpoint, path)
            if epoch_is_over and (step + 1 == last or time.monotonic() - drawn > 60):
                draw_progress(checkpoint, data.held_out, path)
                drawn = time.monotonic()
            bar.update()
            shown = {"loss": f"{figures['loss']:.2e}"} | ({"PSNR": f"{history[-1]['psnr']:.2f} dB"} if history else {})
            if "margin" in figures:
                shown["D(real)"], shown["D(restored)"] = (
                    f"{figures['judge_real']:.2f}",
                    f"{figures['judge_restored']:.2f}",
                )
            bar.set_postfix(shown, refresh=False)
            if stopping:
                break
    return training["step"] == last


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
    if "perceptual" in entry:
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
