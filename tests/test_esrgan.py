"""ESRGAN's parts, against their formulas written out: generators, discriminators and losses."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import esrgan
from esrgan import (
    DenseBlock,
    RRDBNet,
    SRVGGNetCompact,
    UNetDiscriminator,
    VGGDiscriminator,
)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def with_random_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Large weights everywhere: as initialised, the blocks add so little that a fault in them would hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            deviation = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.2
            parameter.normal_(0, deviation, generator=generator)
    return network.eval().requires_grad_(False)


def rand(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def folded(picture: torch.Tensor, side: int) -> torch.Tensor:
    """Pixel-unshuffle, one channel at a time: channel, row in the square, column in the square."""
    parts = [
        picture[:, channel, y::side, x::side]
        for channel, y, x in itertools.product(range(picture.shape[1]), range(side), range(side))
    ]
    return torch.stack(parts, dim=1)


def enlarged(picture: torch.Tensor, scale: int) -> torch.Tensor:
    """Nearest neighbour."""
    return picture.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


# ---------------------------------------------------------------------------------------------
# Generators
# ---------------------------------------------------------------------------------------------


def test_parameter_counts():
    with torch.device("meta"):
        assert parameters(DenseBlock(64, 32)) == 239_808
        assert parameters(RRDBNet(4, features=64, growth=32, blocks=23)) == 16_697_987
        assert parameters(RRDBNet(2, features=64, growth=32, blocks=23, unshuffle=True)) == 16_703_171
        assert parameters(RRDBNet(4, features=64, growth=32, blocks=6)) == 4_467_779
        assert parameters(VGGDiscriminator(128)) == 14_499_401
    assert parameters(UNetDiscriminator()) == 4_376_897


def rrdb_written_out(state: dict, low: torch.Tensor, blocks: int, doublings: int) -> torch.Tensor:
    """The generator from its formulas and its state dict alone."""

    def conv(x, name):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def activated(x):
        return torch.where(x > 0, x, 0.2 * x)

    first = trunk = conv(low, "conv_first")
    for block in range(blocks):
        outer = trunk
        for number in (1, 2, 3):
            inner, seen = trunk, [trunk]
            for layer in (1, 2, 3, 4):
                seen.append(activated(conv(torch.cat(seen, 1), f"body.{block}.rdb{number}.conv{layer}")))
            trunk = inner + 0.2 * conv(torch.cat(seen, 1), f"body.{block}.rdb{number}.conv5")
        trunk = outer + 0.2 * trunk
    x = first + conv(trunk, "conv_body")
    for stage in range(doublings):
        x = activated(conv(enlarged(x, 2), f"conv_up{stage + 1}"))
    return conv(activated(conv(x, "conv_hr")), "conv_last")


@pytest.mark.parametrize(
    ("scale", "unshuffle", "fold", "doublings"),
    [(1, False, 1, 0), (2, False, 1, 1), (4, False, 1, 2), (8, False, 1, 3), (1, True, 4, 2), (2, True, 2, 2)],
)
def test_rrdb_is_its_formula(scale, unshuffle, fold, doublings):
    network = with_random_weights(RRDBNet(scale, features=6, growth=4, blocks=2, unshuffle=unshuffle))
    low = rand(2, 3, 8, 12)
    expected = rrdb_written_out(network.state_dict(), folded(low, fold), 2, doublings)
    assert expected.shape == (2, 3, 8 * scale, 12 * scale) and expected.std() > 0.1
    torch.testing.assert_close(network(low), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 7), (8, 6)])
@pytest.mark.parametrize(("scale", "unshuffle"), [(1, True), (2, True), (1, False), (2, False), (4, False), (8, False)])
def test_any_size_goes_in(size, scale, unshuffle):
    network = with_random_weights(RRDBNet(scale, features=4, growth=2, blocks=1, unshuffle=unshuffle))
    assert network(rand(1, 3, *size)).shape == (1, 3, scale * size[0], scale * size[1])


def test_sizes_that_do_not_divide_are_mirrored_and_cropped():
    network = with_random_weights(RRDBNet(1, features=4, growth=2, blocks=1, unshuffle=True))
    low = rand(1, 3, 5, 6)
    padded = low[:, :, [0, 1, 2, 3, 4, 3, 2, 1]][..., [0, 1, 2, 3, 4, 5, 4, 3]]
    assert torch.equal(network(low), network(padded)[..., :5, :6])


def test_sizes_too_small_to_mirror_are_replicated():
    network = with_random_weights(RRDBNet(1, features=4, growth=2, blocks=1, unshuffle=True))
    low = rand(1, 3, 5, 2)  # two more columns would need three to mirror
    padded = low[:, :, [0, 1, 2, 3, 4, 4, 4, 4]][..., [0, 1, 1, 1]]
    assert torch.equal(network(low), network(padded)[..., :5, :2])


def test_small_initialisation_only_inside_the_dense_blocks():
    torch.manual_seed(0)
    network = RRDBNet(4, features=32, growth=32, blocks=1)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            inputs = 9 * module.in_channels
            dense = "rdb" in name
            # He: √(2/n), here times 0.1. PyTorch's default is uniform in ±1/√n, of deviation 1/√(3n).
            expected = 0.1 * (2 / inputs) ** 0.5 if dense else (1 / (3 * inputs)) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1), name
            assert (module.bias.abs().max() == 0) == dense, name


@pytest.mark.parametrize(
    "network", [RRDBNet(2, 8, 4, 1, unshuffle=True), RRDBNet(4, 8, 4, 1), SRVGGNetCompact(3, 8, 2)], ids=str
)
def test_generators_describe_themselves(network):
    again = type(network)(**network.shape)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in network.state_dict().items()
    }
    assert again.scale == network.scale and again.luma is False
    assert all(type(value) in (int, bool) for value in network.shape.values())


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (4, 2)])
def test_the_short_way_to_convolve_doubled_pixels(size):
    conv, x = nn.Conv2d(3, 5, 3, padding=1).double(), rand(2, 3, *size).double().requires_grad_()
    short, long = esrgan.convolve_doubled(x, conv), conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(short, long)
    towards = torch.rand_like(long)
    wanted = torch.autograd.grad(long, (x, conv.weight, conv.bias), towards)
    torch.testing.assert_close(torch.autograd.grad(short, (x, conv.weight, conv.bias), towards), wanted)


@pytest.mark.parametrize("shape", [(1,), (2,), (4,), (8,), (1, True), (2, True)], ids=str)
@pytest.mark.parametrize("strip", [1, 40, 300])
def test_strips_give_what_the_whole_gives(shape, strip, monkeypatch):
    monkeypatch.setattr(esrgan, "STRIP", strip)
    monkeypatch.setattr(esrgan, "MIN_ROWS", 1)
    network, low = with_random_weights(RRDBNet(shape[0], 4, 4, 1, *shape[1:])).double(), rand(2, 3, 9, 7).double()
    whole = network(low)
    with torch.no_grad():
        torch.testing.assert_close(network(low), whole)


@pytest.mark.parametrize("network", [RRDBNet(4, 8, 4, 2), RRDBNet(2, 8, 4, 1, True), SRVGGNetCompact(4, 8, 2)], ids=str)
def test_channels_last_stays_and_changes_nothing(network):
    low = rand(2, 3, 6, 6)
    expected = with_random_weights(network)(low)
    restored = network.to(memory_format=torch.channels_last)(low.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(restored, expected, rtol=1e-4, atol=1e-4)
    assert restored.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("scale", "unshuffle"), [(3, False), (0, False), (32, False), (4, True), (8, True)])
def test_scales_that_are_not_built(scale, unshuffle):
    with pytest.raises(ValueError, match=f"not ×{scale}"):
        RRDBNet(scale, unshuffle=unshuffle)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_srvgg_is_its_formula(scale):
    network = with_random_weights(SRVGGNetCompact(scale, features=5, convolutions=2))
    low, state = rand(2, 3, 4, 5), network.state_dict()
    assert len(state) == 11  # four convolutions with a bias each, three slopes
    x = low
    for number in (0, 2, 4, 6):
        x = F.conv2d(x, state[f"body.{number}.weight"], state[f"body.{number}.bias"], padding=1)
        if number < 6:
            slope = state[f"body.{number + 1}.weight"].view(-1, 1, 1)
            x = torch.where(x > 0, x, slope * x)
    expected = enlarged(low, scale)
    for channel, y, column in itertools.product(range(3), range(scale), range(scale)):
        expected[:, channel, y::scale, column::scale] += x[:, (channel * scale + y) * scale + column]
    torch.testing.assert_close(network(low), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "features"), [(1, 8), (2, 64), (4, 8), (4, 3)])
def test_a_new_srvgg_carries_the_picture_and_interpolates_it(scale, features):
    network = SRVGGNetCompact(scale, features, convolutions=5)
    low = rand(2, 3, 7, 6)
    with torch.no_grad():
        network.body[-1].weight[:, 3:] = 0  # what the other channels add
        restored = network(low)
    inside = (..., slice(scale, -scale), slice(scale, -scale))  # beyond the border the convolution sees black
    expected = F.interpolate(low, scale_factor=scale, mode="bilinear")
    torch.testing.assert_close(restored[inside], expected[inside], rtol=0, atol=1e-6)


def test_what_enters_a_new_srvgg_reaches_its_end():
    torch.manual_seed(0)
    network, x, variances = SRVGGNetCompact(), rand(1, 3, 24, 24), []
    with torch.no_grad():
        for layer in network.body[:-1]:
            x = layer(x)
            variances.append(x[:, 3:].var(dim=(2, 3)).mean().item())
    assert 0.3 < variances[-1] / variances[1] < 3  # by PyTorch's usual start it is 0.0003


@pytest.mark.parametrize("features", [1, 2])
def test_srvgg_is_built_with_fewer_channels_than_colours(features):
    assert SRVGGNetCompact(2, features, 1)(rand(1, 3, 4, 4)).shape == (1, 3, 8, 8)


# ---------------------------------------------------------------------------------------------
# Discriminators
# ---------------------------------------------------------------------------------------------


def test_vgg_discriminator_has_batch_norm_after_all_but_the_first():
    layers = [type(layer).__name__ for layer in VGGDiscriminator(128, features=4).body]
    assert layers == ["Conv2d", "LeakyReLU"] + 9 * ["Conv2d", "BatchNorm2d", "LeakyReLU"]


@pytest.mark.parametrize("patch", [32, 100, 128, 192])
def test_nothing_is_pooled_at_the_patch_itself(patch):
    discriminator = VGGDiscriminator(patch, features=4).eval()
    picture = rand(2, 3, patch, patch)
    seen = discriminator.body(picture).flatten(1)
    expected = discriminator.linear2(F.leaky_relu(discriminator.linear1(seen), 0.2))
    assert seen.shape[1] == 32 * (patch // 32) ** 2
    assert torch.equal(discriminator(picture), expected) and expected.shape == (2, 1)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (75, 120), (160, 160)])
def test_the_discriminator_of_128_takes_other_sizes(size):
    discriminator = VGGDiscriminator(128, features=4).eval()
    logits = discriminator(rand(3, 3, *size))
    assert logits.shape == (3, 1) and logits.std() > 0


def test_a_larger_grid_is_averaged():
    discriminator, picture = VGGDiscriminator(64, features=4).eval(), rand(2, 3, 128, 128)
    averaged = F.avg_pool2d(discriminator.body(picture), 2).flatten(1)
    torch.testing.assert_close(
        discriminator(picture), discriminator.linear2(F.leaky_relu(discriminator.linear1(averaged), 0.2))
    )


def test_what_the_vgg_discriminator_refuses():
    with pytest.raises(ValueError, match="31×64"):
        VGGDiscriminator(128, features=4)(rand(1, 3, 31, 64))
    with pytest.raises(ValueError, match="16 pixels"):
        VGGDiscriminator(16)
    with pytest.raises(ValueError, match="layer"):
        VGGDiscriminator(128, normalisation="layer")


def spectral_norms(discriminator: nn.Module, picture: torch.Tensor) -> dict[str, float]:
    """The largest singular value of every layer's weight, after it has seen some pictures in training."""
    discriminator.train()
    for _ in range(60):  # each time one step of the power iteration
        discriminator(picture)
    return {
        name: torch.linalg.matrix_norm(module.weight.detach().flatten(1), 2).item()
        for name, module in discriminator.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def test_spectral_norm_instead_of_batch_norm():
    torch.manual_seed(0)
    discriminator = VGGDiscriminator(32, features=4, normalisation="spectral")
    norms = spectral_norms(discriminator, rand(1, 3, 32, 32))
    assert len(norms) == 12
    assert all(norm == pytest.approx(1, abs=0.03) for norm in norms.values()), norms
    assert not any(isinstance(module, nn.BatchNorm2d) for module in discriminator.modules())


def test_unet_has_spectral_norm_on_all_but_the_first_and_last():
    torch.manual_seed(0)
    norms = spectral_norms(UNetDiscriminator(features=4), rand(1, 3, 16, 16))
    bounded = {name for name, norm in norms.items() if norm == pytest.approx(1, abs=0.03)}
    assert bounded == {f"conv{number}" for number in range(1, 9)}


def test_unet_is_its_formula():
    discriminator = UNetDiscriminator(features=4).eval()
    picture = rand(2, 3, 16, 24)

    def conv(x, number):
        module = getattr(discriminator, f"conv{number}")
        return F.conv2d(x, module.weight, module.bias, stride=2 if number in (1, 2, 3) else 1, padding=1)

    def activated(x):
        return torch.where(x > 0, x, 0.2 * x)

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    found = discriminator(picture)  # it is called first: only then do its layers hold the bounded weights
    down = [activated(conv(picture, 0))]
    for number in (1, 2, 3):
        down.append(activated(conv(down[-1], number)))
    x = down.pop()
    for number in (4, 5, 6):
        x = activated(conv(doubled(x), number)) + down.pop()
    expected = conv(activated(conv(activated(conv(x, 7)), 8)), 9)
    torch.testing.assert_close(found, expected)
    assert expected.shape == (2, 1, 16, 24) and discriminator.conv1.bias is None


@pytest.mark.parametrize("size", [(8, 8), (13, 22), (17, 9)])
def test_unet_gives_a_logit_for_every_pixel(size):
    assert UNetDiscriminator(features=4)(rand(2, 3, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize(
    "discriminator", [VGGDiscriminator(32, 4), VGGDiscriminator(32, 4, "spectral"), UNetDiscriminator(4)]
)
def test_gradient_of_the_discriminator_reaches_the_picture_and_every_weight(discriminator):
    picture = rand(2, 3, 32, 32).requires_grad_()
    discriminator(picture).square().sum().backward()
    assert picture.grad.abs().sum() > 0
    # A bias that is batch-normalised away would have none; there is none such.
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters()
    )


# ---------------------------------------------------------------------------------------------
# Adversarial losses
# ---------------------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def relativistic_by_loops(real: list[float], fake: list[float], generator: bool) -> float:
    """The two terms of RaGAN from the paper's formulas, averaged as in the authors' code."""
    mean_real, mean_fake = sum(real) / len(real), sum(fake) / len(fake)
    on_real = on_fake = 0.0
    for logit in real:
        d = sigmoid(logit - mean_fake)
        on_real += -math.log(1 - d if generator else d) / len(real)
    for logit in fake:
        d = sigmoid(logit - mean_real)
        on_fake += -math.log(d if generator else 1 - d) / len(fake)
    return (on_real + on_fake) / 2


@pytest.mark.parametrize("shape", [(5, 1), (2, 1, 3, 4)])
def test_relativistic_losses_are_the_formula(shape):
    generator = torch.Generator().manual_seed(3)
    real = 1 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    fake = torch.randn(shape, generator=generator, dtype=torch.float64)
    lists = real.flatten().tolist(), fake.flatten().tolist()
    discriminator_loss = esrgan.relativistic_discriminator_loss(real, fake).item()
    assert discriminator_loss == pytest.approx(relativistic_by_loops(*lists, generator=False), rel=1e-12)
    generator_loss = esrgan.relativistic_generator_loss(real, fake).item()
    assert generator_loss == pytest.approx(relativistic_by_loops(*lists, generator=True), rel=1e-12)
    assert abs(discriminator_loss - generator_loss) > 0.1


def test_vanilla_losses_are_the_formula():
    real, fake = torch.tensor([2.0, -0.5, 0.25]), torch.tensor([-1.0, 0.5, 3.0])
    on_real = -sum(math.log(sigmoid(logit)) for logit in real.tolist()) / 3
    on_fake = -sum(math.log(1 - sigmoid(logit)) for logit in fake.tolist()) / 3
    assert esrgan.vanilla_discriminator_loss(real, fake).item() == pytest.approx(on_real + on_fake, rel=1e-6)
    fooled = -sum(math.log(sigmoid(logit)) for logit in fake.tolist()) / 3
    assert esrgan.vanilla_generator_loss(fake).item() == pytest.approx(fooled, rel=1e-6)


def test_a_discriminator_that_cannot_tell_gives_ln_2():
    same = torch.full((4, 1), 1.7)
    assert esrgan.relativistic_discriminator_loss(same, same).item() == pytest.approx(math.log(2))
    assert esrgan.relativistic_generator_loss(same, same).item() == pytest.approx(math.log(2))
    nought = torch.zeros(4, 1)
    assert esrgan.vanilla_discriminator_loss(nought, nought).item() == pytest.approx(2 * math.log(2))


def test_a_sure_discriminator_gives_finite_losses():
    real, fake = torch.full((2, 1), 400.0), torch.full((2, 1), -400.0)
    assert esrgan.relativistic_discriminator_loss(real, fake).item() == 0
    assert esrgan.relativistic_generator_loss(real, fake).item() == pytest.approx(800)
    assert esrgan.vanilla_generator_loss(fake).item() == pytest.approx(400)


def test_the_real_half_teaches_the_generator():
    real, fake = torch.tensor([[1.0], [3.0]], requires_grad=True), torch.tensor([[0.5], [0.0]], requires_grad=True)
    esrgan.relativistic_generator_loss(real, fake).backward()
    assert real.grad is None
    # By hand: each fake logit moves its own D(fake), and by a share of 1/2 the mean that D(real) is measured by.
    for logit, gradient in zip((0.5, 0.0), fake.grad.flatten().tolist(), strict=True):
        through_fake = -(1 - sigmoid(logit - 2)) / 2
        through_real = -sum(sigmoid(other - 0.25) / 2 for other in (1.0, 3.0)) / 2
        assert gradient == pytest.approx((through_fake + through_real) / 2, rel=1e-5)
