"""The networks and their training steps in the usual way: float32, channels first, nothing rearranged.

What benchmark.py measures the program against. State keys are those of the program's own networks.
"""

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import esrgan
from esrgan import RRDBNet, SRVGGNetCompact, conv3x3
from srcnn import SRCNN


class PlainSRCNN(nn.Module):
    """Three convolutions with replicated borders."""

    def __init__(self, kernels):
        super().__init__()
        self.extract = nn.Conv2d(1, 64, kernels[0])
        self.map = nn.Conv2d(64, 32, kernels[1])
        self.reconstruct = nn.Conv2d(32, 1, kernels[2])
        self.border = sum(kernel // 2 for kernel in kernels)

    def forward_valid(self, luma: Tensor) -> Tensor:
        """Only the pixels that see no border."""
        return self.reconstruct(torch.relu(self.map(torch.relu(self.extract(luma)))))

    def forward(self, luma: Tensor) -> Tensor:
        return self.forward_valid(F.pad(luma, [self.border] * 4, mode="replicate"))


class PlainDenseBlock(nn.Module):
    """Every convolution gets all maps before it, joined anew."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        for number in range(1, 5):
            self.add_module(f"conv{number}", conv3x3(features + (number - 1) * growth, growth))
        self.conv5 = conv3x3(features + 4 * growth, features)
        self.activate = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.activate(self.conv1(x))
        x2 = self.activate(self.conv2(torch.cat((x, x1), 1)))
        x3 = self.activate(self.conv3(torch.cat((x, x1, x2), 1)))
        x4 = self.activate(self.conv4(torch.cat((x, x1, x2, x3), 1)))
        return self.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


class PlainRRDB(nn.Module):
    """Three dense blocks and a scaled shortcut."""

    def __init__(self, features: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (PlainDenseBlock(features, growth) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class PlainRRDBNet(nn.Module):
    """×4."""

    def __init__(self, features: int, growth: int, blocks: int):
        super().__init__()
        self.conv_first = conv3x3(3, features)
        self.body = nn.Sequential(*(PlainRRDB(features, growth) for _ in range(blocks)))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (conv3x3(features, features) for _ in range(4))
        self.conv_last = conv3x3(features, 3)
        self.activate = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, low: Tensor) -> Tensor:
        x = self.conv_first(low)
        x = x + self.conv_body(self.body(x))
        x = self.activate(self.conv_up1(F.interpolate(x, scale_factor=2, mode="nearest")))
        x = self.activate(self.conv_up2(F.interpolate(x, scale_factor=2, mode="nearest")))
        return self.conv_last(self.activate(self.conv_hr(x)))


def plain(network: nn.Module) -> nn.Module:
    """The same network with the same weights, in the usual way."""
    if isinstance(network, SRCNN):
        made = PlainSRCNN(network.kernels)
    elif isinstance(network, RRDBNet):
        made = PlainRRDBNet(**{name: network.shape[name] for name in ("features", "growth", "blocks")})
    else:
        made = SRVGGNetCompact(**network.shape)  # it is written in the usual way
    made.load_state_dict({key: weight.contiguous() for key, weight in network.state_dict().items()})
    return made.to(next(network.parameters()).device)


class PlainPixelStep:
    """One update by the difference of pixels."""

    def __init__(self, network: nn.Module):
        self.network = plain(network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))

    def __call__(self, low: Tensor, high: Tensor) -> float:
        if isinstance(self.network, PlainSRCNN):
            border = self.network.border
            loss = F.mse_loss(self.network.forward_valid(low), high[..., border:-border, border:-border])
        else:
            loss = F.l1_loss(self.network(low), high)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


class PlainAdversarialStep:
    """One update of the generator and one of the discriminator, with VGG19 and the relativistic loss."""

    def __init__(self, network: nn.Module, discriminator: nn.Module, perceptual: nn.Module, weights):
        self.network, self.discriminator, self.perceptual, self.weights = (
            plain(network),
            discriminator,
            perceptual,
            weights,
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), betas=(0.9, 0.99))

    def __call__(self, low: Tensor, high: Tensor) -> float:
        self.discriminator.requires_grad_(False)
        restored = self.network(low)
        loss = self.weights.pixel_weight * F.l1_loss(restored, high) + self.perceptual(restored, high)
        squares = F.avg_pool2d(restored - high, high.shape[-1] // low.shape[-1])
        loss = loss + self.weights.consistency_weight * squares.abs().mean()
        real, fake = self.discriminator(high), self.discriminator(restored)
        loss = loss + self.weights.adversarial_weight * esrgan.relativistic_generator_loss(real, fake)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.discriminator.requires_grad_(True)
        real, fake = self.discriminator(high), self.discriminator(restored.detach())
        discriminator_loss = esrgan.relativistic_discriminator_loss(real, fake)
        self.discriminator_optimizer.zero_grad()
        discriminator_loss.backward()
        self.discriminator_optimizer.step()
        return loss.item()


def plain_batch(paths: list, count: int, side: int, scale: int) -> tuple[Tensor, Tensor]:
    """Open, cut and shrink a photograph for every sample, as most training programs do: low and high in 0..1."""
    pairs = []
    for number in torch.randint(len(paths), (count,)).tolist():
        photograph = Image.open(paths[number]).convert("RGB")
        left, top = (int(torch.randint(length - side + 1, ())) for length in photograph.size)
        large = photograph.crop((left, top, left + side, top + side))
        small = large.resize((side // scale, side // scale), Image.BICUBIC)
        pairs.append([torch.from_numpy(numpy.array(part)).permute(2, 0, 1) / 255 for part in (small, large)])
    return tuple(torch.stack(parts) for parts in zip(*pairs, strict=True))
