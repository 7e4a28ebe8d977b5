"""What a network learns by: one update of each of the two kinds.

    PixelStage          compare pixels: SRCNN, ECBSR, SRVGG, the PSNR-oriented RRDB; on degraded pictures Real-ESRNet
    AdversarialStage    compare features and convince a discriminator: ESRGAN, on degraded pictures Real-ESRGAN

A stage is told a batch and a learning rate and makes one step; it knows nothing of epochs, files and plots.
Under torchrun each process computes its share of the batch and PyTorch averages the gradients.
"""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from engine.devices import autocast, channels_last, data_parallel, mean_over_processes
from engine.discriminators import make_discriminator
from engine.ecbsr import ECBSR
from engine.losses import adversarial_loss, pixel_loss, spectrum_distance, style_distance
from engine.networks import AnyNetwork, Network, RestoringNetwork, build_network, is_given_enlarged
from engine.optimizers import AdamFromGrey, Muon
from engine.settings import Settings
from engine.weights import load_vgg19
from esrgan import PerceptualLoss
from imaging import distortions
from imaging.images import from_bytes, rgb_to_luma
from srcnn import SRCNN

# ---------------------------------------------------------------------------------------------
# What both kinds of update need
# ---------------------------------------------------------------------------------------------


def network_input(network: Network, pixels: Tensor) -> Tensor:
    """uint8 (N, 3, …) as the network wants it: RGB or luma in 0..1, channels-last, where convolutions are fastest."""
    picture = from_bytes(pixels.to(next(network.parameters()).device, non_blocking=True))
    picture = rgb_to_luma(picture) if network.luma else picture
    return picture.contiguous(memory_format=torch.channels_last)


def build(settings: Settings, weights: dict, device) -> AnyNetwork:
    """The network of a run with these weights, ready to train."""
    network = build_network(settings.model, settings.shape)
    network.load_state_dict(weights)
    if isinstance(network, ECBSR):
        network.learns_8_bits = settings.eight_bits
    return channels_last(network, device)


def adam(network: nn.Module, settings: Settings) -> torch.optim.Adam:
    """The optimiser of discriminators, and of all papers but SRCNN's; the learning rate is set at every step."""
    return torch.optim.Adam(network.parameters(), betas=(0.9, settings.beta2), fused=True)


def make_optimizer(network: nn.Module, settings: Settings) -> torch.optim.Adam:
    """What the network learns by: Adam, or one of its two kin that learn faster."""
    if settings.muon:
        return Muon(network, betas=(0.9, settings.beta2))
    if isinstance(network, SRCNN):
        return AdamFromGrey(network, betas=(0.9, settings.beta2), fused=True)
    return adam(network, settings)


def make_ema(network: nn.Module, settings: Settings) -> AveragedModel:
    """A copy that follows the network's weights slowly (EMA): what is measured, kept and used for upscaling."""

    def follow(averages: Any, current: Any, updates: Any) -> None:
        # Faster at first: at 0.999 alone the untrained weights would still count a third after 1000 updates.
        decay = min(settings.ema, (1 + int(updates)) / (10 + int(updates)))
        torch._foreach_lerp_(averages, current, 1 - decay)

    return AveragedModel(network, multi_avg_fn=follow)


def make_scaler(settings: Settings, device) -> torch.amp.GradScaler:
    """float16 has no room for small gradients: they are computed times a large number. Others need no such thing."""
    return torch.amp.GradScaler(torch.device(device).type, init_scale=2.0**12, enabled=settings.precision == "fp16")


def take_step(
    optimizer: torch.optim.Optimizer, learning_rate: float, clip: float, scaler: torch.amp.GradScaler
) -> bool:
    """One step along the gradient, which is cut first if it is longer than `clip` (0: never).

    False, and no step, if there is anything but numbers in the gradient: one bad batch must not spoil all weights.
    """
    (group,) = optimizer.param_groups
    group["lr"] = learning_rate
    scaler.unscale_(optimizer)
    length = nn.utils.clip_grad_norm_(group["params"], clip or math.inf)
    finite = bool(length.isfinite())
    if finite or scaler.is_enabled():  # a scaler sees that by itself, and lowers its number
        scaler.step(optimizer)
    optimizer.zero_grad()
    return finite


def micro_batches(low: Tensor, high: Tensor, count: int, *modules: nn.Module) -> Iterator[tuple[Tensor, Tensor, float]]:
    """A batch in `count` parts, for less memory: (low, high, their share of the batch).

    Gradients add up over the parts, and only with the last one are they averaged over the processes.
    """
    parts = list(zip(low.chunk(count), high.chunk(count), strict=True))
    for number, (small, large) in enumerate(parts, start=1):
        for module in modules:
            if isinstance(module, DistributedDataParallel):
                module.require_backward_grad_sync = number == len(parts)  # what its no_sync() does
        yield small, large, len(small) / len(low)


# ---------------------------------------------------------------------------------------------
# Stage one: the right pixels
# ---------------------------------------------------------------------------------------------


class PixelLoss(nn.Module):
    """How far restored pixels are from the true ones."""

    def __init__(self, network: AnyNetwork, settings: Settings):
        super().__init__()
        self.network = network
        self.settings = settings
        self.valid = is_given_enlarged(network)
        self.loss = pixel_loss(settings, self.valid)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        network = self.network
        with autocast(self.settings.precision, low.device):
            restored = cast(RestoringNetwork, network).forward_valid(low) if self.valid else network(low)
        if self.valid:  # no padding in training: the neighbours of a patch are unknown, so its border is left out
            border = network.radius
            high = high[..., border:-border, border:-border]
        return self.loss(restored.to(high.dtype), high)


class PixelStage:
    """The network learns to give the right pixels, and where they cannot be known their average.

    `parts` are all that a checkpoint must hold to resume, by name; `ema_network` is what is measured and kept.
    """

    def __init__(self, settings: Settings, weights: dict, device):
        self.settings, self.device = settings, torch.device(device)
        self.network = build(settings, weights, device)
        self.loss = data_parallel(PixelLoss(self.network, settings), device)
        self.ema = make_ema(self.network, settings)
        self.optimizer = make_optimizer(self.network, settings)
        self.scaler = make_scaler(settings, device)
        self.parts: dict[str, Any] = {
            "network": self.network, "ema": self.ema, "optimizer": self.optimizer, "scaler": self.scaler
        }  # fmt: skip

    @property
    def ema_network(self) -> AnyNetwork:
        """The network with its averaged weights."""
        return cast(AnyNetwork, self.ema.module)

    def update(self, low: Tensor, high: Tensor, learning_rate: float, step: int) -> dict[str, float]:
        """One step on uint8 pictures (N, 3, …): the loss, and how many updates were skipped for a bad gradient.

        Every step is alike to it, whatever its number.
        """
        total = 0.0
        for small, large, share in micro_batches(low, high, self.settings.accumulate, self.loss):
            target = sharp_target(network_input(self.network, large), self.settings)
            loss = share * self.loss(network_input(self.network, small), target)
            self.scaler.scale(loss).backward()
            total += loss.item()
        finite = take_step(self.optimizer, learning_rate, self.settings.clip, self.scaler)
        self.scaler.update()
        if finite:
            self.ema.update_parameters(self.network)
        return {"loss": total, "skipped": float(not finite)}


def sharp_target(high: Tensor, settings: Settings) -> Tensor:
    """What to aim at: the photograph, or that photograph sharpened, as for Real-ESRGAN+ (section 4.1 of its paper)."""
    return distortions.usm_sharpen(high) if settings.sharpen else high


# ---------------------------------------------------------------------------------------------
# Stage two: what looks right
# ---------------------------------------------------------------------------------------------


class DiscriminatorLoss(nn.Module):
    """What the discriminator learns by: (its loss, C(real), C(restored)), the latter averaged."""

    def __init__(self, discriminator: nn.Module, loss, precision: str):
        super().__init__()
        self.discriminator, self.loss, self.precision = discriminator, loss, precision

    def forward(self, restored: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with autocast(self.precision, high.device):
            # One after the other: batch norm must not mix the statistics of the two kinds.
            real, fake = self.discriminator(high).float(), self.discriminator(restored).float()
        return self.loss(real, fake), real.mean(), fake.mean()


class AdversarialStage:
    """The generator learns to look right, to VGG19 and to a discriminator that learns beside it.

    `--accumulate` computes a batch in parts here too, but that is not the update of the whole batch: the average
    logits of RaGAN and the batch norm of the discriminator see only a part at a time. Nor do they see the other
    processes' shares under torchrun. `parts` and `ema_network` are as in PixelStage.
    """

    def __init__(self, settings: Settings, weights: dict, device, perceptual: PerceptualLoss):
        assert settings.adversarial, "the second stage has settings of its own"
        self.settings, self.weights, self.device = settings, settings.adversarial, torch.device(device)
        self.network = build(settings, weights, device)
        self.generator = data_parallel(self.network, device)
        self.ema = make_ema(self.network, settings)
        self.optimizer = make_optimizer(self.network, settings)
        self.perceptual = channels_last(perceptual, device)
        self.discriminator = channels_last(make_discriminator(settings), device)
        self.pixel_loss, self.adversarial_loss = pixel_loss(settings, self.network.luma), adversarial_loss(settings)
        self.discriminator_loss = data_parallel(
            DiscriminatorLoss(self.discriminator, self.adversarial_loss.of_discriminator, settings.precision), device
        )
        self.discriminator_optimizer = adam(self.discriminator, settings)
        self.scaler = make_scaler(settings, device)
        self.parts: dict[str, Any] = {
            "network": self.network, "ema": self.ema, "optimizer": self.optimizer, "scaler": self.scaler,
            "discriminator": self.discriminator, "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    @property
    def ema_network(self) -> AnyNetwork:
        """The network with its averaged weights."""
        return cast(AnyNetwork, self.ema.module)

    def update(self, low: Tensor, high: Tensor, learning_rate: float, step: int) -> dict[str, float]:
        """One step of both on uint8 pictures (N, 3, …).

        Gives every part of the loss, what the discriminator said, and how many updates were skipped for a bad gradient.
        """
        figures: dict[str, float] = {}
        statistics = [buffer.clone() for buffer in self.discriminator.buffers()]
        discriminator_learns = step % self.weights.discriminator_every == 0
        generator_learns = step >= self.weights.head_start and step % self.weights.generator_every == 0
        for small, large, share in micro_batches(
            low, high, self.settings.accumulate, self.generator, self.discriminator_loss
        ):
            target = network_input(self.network, large)
            restored, told = self.generator_backward(network_input(self.network, small), target, share)
            if discriminator_learns:
                told |= self.discriminator_backward(restored.detach(), target, share)
            for name, value in told.items():
                figures[name] = figures.get(name, 0.0) + share * value
        finite = []
        if discriminator_learns and self.is_ahead(figures):
            discriminator_learns = False
            self.discriminator_optimizer.zero_grad()
        if discriminator_learns:
            discriminator_rate = learning_rate * self.weights.discriminator_rate
            finite.append(take_step(self.discriminator_optimizer, discriminator_rate, self.settings.clip, self.scaler))
        if generator_learns:
            finite.append(take_step(self.optimizer, learning_rate, self.settings.clip, self.scaler))
            if finite[-1]:
                self.ema.update_parameters(self.network)
        else:
            self.optimizer.zero_grad()
        if finite:
            self.scaler.update()
        if not all(finite):  # batch norm has seen what is no number, and would never forget it
            for buffer, before in zip(self.discriminator.buffers(), statistics, strict=True):
                buffer.copy_(before)
        return figures | {"skipped": float(not all(finite))}

    def is_ahead(self, figures: dict[str, float]) -> bool:
        """Whether the discriminator's loss, over all processes, is so small that it must wait for the generator."""
        loss = mean_over_processes(figures, self.device)["discriminator_loss"]
        return loss < self.weights.discriminator_waits

    def generator_backward(self, low: Tensor, high: Tensor, share: float) -> tuple[Tensor, dict[str, float]]:
        """Gradients for the generator alone: L = L_percep + λ L_G + η L1 (equation 3), and what else has a weight."""
        self.discriminator.requires_grad_(False)
        target = sharp_target(high, self.settings)  # the discriminator sees photographs that nobody has sharpened
        with autocast(self.settings.precision, low.device):
            restored = self.generator(low).float()
            features = self.perceptual.features(restored, target)
            perceptual = self.perceptual.distance(*features)
            fake = self.discriminator(restored).float()
            real = self.discriminator(high).float() if self.adversarial_loss.relativistic else fake
        parts = {
            "pixel": self.pixel_loss(restored, target),
            "consistency": F.avg_pool2d(restored - target, self.settings.scale).abs().mean(),
            "perceptual": perceptual,
            "adversarial": self.adversarial_loss.of_generator(real, fake),
        }
        if self.weights.style_weight:
            parts["style"] = style_distance(*features, self.weights.layers)
        if self.weights.spectrum_weight:
            parts["spectrum"] = spectrum_distance(restored, target)
        loss = sum(getattr(self.weights, f"{name}_weight") * value for name, value in parts.items())
        self.scaler.scale(share * loss).backward()
        self.discriminator.requires_grad_(True)
        return restored, {name: value.item() for name, value in (parts | {"loss": loss}).items()}

    def discriminator_backward(self, restored: Tensor, high: Tensor, share: float) -> dict[str, float]:
        """Gradients for the discriminator alone. Its margin C(real) − C(restored) says how far it is ahead."""
        loss, real, fake = self.discriminator_loss(restored, high)
        self.scaler.scale(share * loss).backward()
        real, fake = real.item(), fake.item()
        return {
            "discriminator_loss": loss.item(), "discriminator_real": real, "discriminator_restored": fake,
            "margin": real - fake,
        }  # fmt: skip


def make_stage(settings: Settings, weights: dict, device) -> PixelStage | AdversarialStage:
    """What updates the network of these settings. Raises UserError where VGG19's weights cannot be had."""
    if not settings.adversarial:
        return PixelStage(settings, weights, device)
    layers = settings.adversarial.layers
    vgg = load_vgg19(settings.adversarial.perceptual, layers)
    perceptual = PerceptualLoss(vgg, layers, settings.adversarial.relative)
    return AdversarialStage(settings, weights, device, perceptual)
