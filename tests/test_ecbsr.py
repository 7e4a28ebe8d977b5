"""ECBSR against its branches one by one, and its way through training, files and pictures."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_upscaling import expected_of

from engine import checkpoints, networks, upscaling
from engine.data import Data
from engine.ecbsr import ECBSR, EdgeBlock, in_8_bits
from engine.evaluation import restore_as_published
from engine.graphs import graph_of
from engine.settings import preset
from engine.starting import GO_ON
from engine.training import train, validate
from engine.updates import PixelStage
from imaging.images import resize, rgb_to_luma, rgb_to_ycbcr, round_to_8_bits

CPU = torch.device("cpu")
TINY = replace(preset("ecbsr", 2), shape={"scale": 2, "features": 4, "blocks": 1}, batch=4, patch=12)


def branch_by_branch(block: EdgeBlock, x: torch.Tensor) -> torch.Tensor:
    """The block as figure 3 of the paper draws it, edge filters written down once more."""
    total = F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)
    between = F.conv2d(x, block.expand.weight, block.expand.bias)
    padded = block.expand.bias.view(1, -1, 1, 1).expand(len(x), -1, x.shape[2] + 2, x.shape[3] + 2).clone()
    padded[..., 1:-1, 1:-1] = between
    total = total + F.conv2d(padded, block.squeeze.weight, block.squeeze.bias)
    outputs = block.conv.out_channels
    filters = (
        ([1, 0, -1], [2, 0, -2], [1, 0, -1]),
        ([1, 2, 1], [0, 0, 0], [-1, -2, -1]),
        ([0, 1, 0], [1, -4, 1], [0, 1, 0]),
    )
    for number, edge in enumerate(filters):
        mixed = F.conv2d(x, block.mix.weight[number * outputs : (number + 1) * outputs])
        filtered = F.conv2d(mixed, torch.tensor(edge).to(x).expand(outputs, 1, 3, 3), padding=1, groups=outputs)
        total = total + block.strength[number].view(1, -1, 1, 1) * filtered
    return total


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    """Weights of which none is so small that it does not count."""
    torch.manual_seed(5)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("inputs", "outputs", "size"), [(1, 6, (9, 7)), (6, 6, (5, 8)), (6, 4, (1, 3)), (3, 2, (2, 1))]
)
def test_a_block_is_the_sum_of_its_branches_borders_included(inputs, outputs, size):
    block = randomised(EdgeBlock(inputs, outputs).double())
    x = torch.rand(2, inputs, *size, dtype=torch.float64)
    expected = branch_by_branch(block, x)
    torch.testing.assert_close(block(x), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(block.folded().double()(x), expected, atol=1e-5, rtol=1e-5)


def test_folded_it_is_the_same_network_of_plain_convolutions():
    network = randomised(ECBSR(scale=4, features=5, blocks=2))
    low = torch.rand(2, 1, 11, 14)
    expected = network(low)
    assert expected.shape == (2, 1, 44, 56)
    folded = copy.deepcopy(network).folded()
    assert not any(isinstance(layer, EdgeBlock) for layer in folded.modules())
    torch.testing.assert_close(folded(low), expected, atol=1e-5, rtol=1e-5)


def test_weights_and_radius():
    network = ECBSR().folded()
    weights = [layer.weight.numel() + layer.bias.numel() for layer in network.body if hasattr(layer, "bias")]
    assert sum(weights) == 160 + 4 * 2320 + 580 and sum(weight.numel() for weight in network.parameters()) == 10_100
    low = torch.rand(1, 1, 31, 31, requires_grad=True)
    ECBSR()(low)[0, 0, 30, 30].backward()
    seen = low.grad[0, 0].ne(0).nonzero()
    assert seen.min() == 15 - network.radius == 9 and seen.max() == 15 + network.radius


def test_nothing_learnt_is_the_nearest_neighbour_and_chroma_is_bicubic(photograph):
    network = ECBSR()
    for weight in network.parameters():
        weight.data.zero_()
    low = 0.2 + 0.6 * photograph[..., :50, :61]
    torch.testing.assert_close(expected_of(network, low[:, :1]), F.interpolate(low[:, :1], scale_factor=2))
    for side in (32, 500):
        restored = rgb_to_ycbcr(upscaling.upscale(network, low, 2, upscaling.Tiling(side)))
        torch.testing.assert_close(restored[:, 1:], rgb_to_ycbcr(resize(low, 2))[:, 1:], atol=2e-6, rtol=0)
        torch.testing.assert_close(restored[:, :1], F.interpolate(rgb_to_luma(low), scale_factor=2), atol=2e-6, rtol=0)


def test_tiles_equal_the_whole(photograph):
    network = randomised(ECBSR(4, features=4, blocks=1))
    low = photograph[..., :70, :83]
    whole = upscaling.upscale(network, low, 4, upscaling.Tiling(500))
    torch.testing.assert_close(upscaling.upscale(network, low, 4, upscaling.Tiling(32)), whole, atol=1e-4, rtol=0)
    grey = upscaling.upscale(network, low[:, :1].expand(-1, 3, -1, -1), 4)
    assert grey.shape == (1, 3, 280, 332) and torch.equal(grey[:, 0], grey[:, 2])


def test_it_is_measured_on_small_luma(photograph):
    network = randomised(ECBSR(2, features=4, blocks=1))
    restored = restore_as_published(network, photograph, 2)
    low = resize(round_to_8_bits(rgb_to_luma(photograph)), 1 / 2)
    expected = upscaling.keep_level(network(low), low)
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=0)


def test_it_learns_small_luma_by_its_absolute_difference(photographs):
    data = Data([photographs], TINY)
    low, high = data.cut(0)
    assert low.shape == (4, 3, 12, 12) and high.shape == (4, 3, 24, 24)
    weights = networks.build_network("ecbsr", TINY.shape).state_dict()
    expected = networks.build_network("ecbsr", TINY.shape)
    expected.load_state_dict(weights)
    loss = F.l1_loss(expected(rgb_to_luma(low / 255)), rgb_to_luma(high / 255))
    assert PixelStage(TINY, weights, CPU).update(low, high, 0.1, 0)["loss"] == pytest.approx(loss.item())


@pytest.mark.parametrize("of_filters", [False, True])
def test_rounded_to_8_bits(of_filters):
    torch.manual_seed(2)
    values = (torch.randn(6, 5, 3, 3) * 10 ** torch.arange(-2.0, 4).view(-1, 1, 1, 1)).requires_grad_()
    rounded = in_8_bits(values, of_filters)
    rounded.mul(torch.arange(6.0).view(-1, 1, 1, 1)).sum().backward()
    assert torch.equal(values.grad, torch.arange(6.0).view(-1, 1, 1, 1).expand_as(values))
    for part, old in zip(rounded, values, strict=True) if of_filters else [(rounded, values)]:
        assert len(part.unique()) <= 256
        step = 2 * old.abs().max() / 254 if of_filters else (old.max() - old.min()) / 255
        assert (part - old).abs().max() <= 0.51 * step
    assert not in_8_bits(torch.zeros(2, 1, 3, 3), of_filters).any()  # and no division by 0


def test_it_learns_with_the_rounding_of_the_exported_file(photograph):
    """The same filters and maps are rounded, so as much is lost. (The same it is not: there the ranges are those in
    float, and a range that is a little wider rounds everything otherwise.)
    """
    quantising, onnx_files = (pytest.importorskip(f"engine.{name}") for name in ("quantising", "onnx_files"))
    network = randomised(ECBSR(2, features=4, blocks=2))
    low = rgb_to_luma(photograph[..., :40, :56])
    network.learns_8_bits = True
    whole, rounded = network(low), network.train()(low)
    model = onnx_files.make_model(graph_of(network.eval().folded()), {"scale": "2"})
    expected = onnx_files.runner(quantising.in_8_bits(model, [low]).SerializeToString())(low)
    lost, lost_there = ((made - whole).square().mean().sqrt().item() for made in (rounded, expected))
    assert lost == pytest.approx(lost_there, rel=0.1)


@pytest.mark.parametrize("eight_bits", [False, True])
def test_whether_it_learns_so_is_a_setting(photographs, eight_bits):
    settings = replace(TINY, eight_bits=eight_bits)
    low, high = Data([photographs], settings).cut(0)
    weights = networks.build_network("ecbsr", TINY.shape).state_dict()
    network = networks.build_network("ecbsr", TINY.shape)
    network.load_state_dict(weights)
    network.learns_8_bits = eight_bits
    expected = F.l1_loss(network.train()(rgb_to_luma(low / 255)), rgb_to_luma(high / 255)).item()
    assert PixelStage(settings, weights, CPU).update(low, high, 0.1, 0)["loss"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_run_goes_on_from_its_branches(photographs, monkeypatch):
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 2)
    path = train(TINY, [photographs], 1, GO_ON, CPU)
    checkpoint = checkpoints.load_checkpoint(path)
    assert path.with_suffix(".before_after.png").exists() and "body.0.squeeze.weight" in checkpoint["params"]
    figure = validate(networks.load_network(checkpoint), Data([photographs], TINY).held_out, 2)
    assert figure == pytest.approx(checkpoint["history"][0]["psnr"], abs=1e-3)
    assert len(checkpoints.load_checkpoint(train(TINY, [photographs], 1, GO_ON, CPU))["history"]) == 2


@pytest.mark.parametrize("shape", [{}, {"scale": 4}, {"scale": 3, "features": 5, "blocks": 7}])
def test_its_shape_is_told_by_its_tensors(place, shape):
    network = ECBSR(**shape)
    entries = {"model": "ecbsr", "scale": network.scale, "degradation": "bicubic", "history": []}
    checkpoints.save_checkpoint({**entries, "shape": network.shape, "params": network.state_dict()}, place / "a_x2.pt")
    checkpoint = checkpoints.load_checkpoint(place / "a_x2.pt")
    assert checkpoint["shape"] == network.shape
    low = torch.rand(1, 1, 8, 9)
    loaded = networks.load_network(checkpoint)
    torch.testing.assert_close(loaded(low), expected_of(network, low), atol=1e-6, rtol=1e-5)
