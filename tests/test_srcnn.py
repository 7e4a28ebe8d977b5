"""SRCNN against kernels made by hand."""

import pytest
import torch
import torch.nn.functional as F

from srcnn import GREY, KERNELS, SRCNN


def delta_network(kernels=(9, 5, 5), shift=(0, 0)):
    """A network whose first feature passes the picture on, moved by `shift` pixels in the first layer."""
    network = SRCNN(kernels)
    for layer in network.children():
        layer.weight.data.zero_()
        layer.bias.data.zero_()
        middle = layer.kernel_size[0] // 2
        layer.weight.data[0, 0, middle, middle] = 1
    network.extract.weight.data.zero_()
    network.extract.weight.data[0, 0, 4 + shift[0], 4 + shift[1]] = 1
    return network


@pytest.mark.parametrize("kernels", KERNELS.values())
@pytest.mark.parametrize("size", [(20, 31), (1, 1), (3, 1)])
def test_delta_kernels_give_the_picture_back(kernels, size):
    luma = torch.rand(2, 1, *size)
    assert torch.equal(delta_network(kernels)(luma), luma)


def test_a_shifted_delta_shows_the_replicated_border():
    luma = torch.rand(1, 1, 12, 10)
    shifted = delta_network(shift=(3, -2))(luma)
    expected = F.pad(luma, (2, 0, 0, 3), mode="replicate")[..., 3:, :10]
    assert torch.equal(shifted, expected)


def test_the_whole_is_three_convolutions():
    network, luma = SRCNN().double(), torch.rand(1, 1, 23, 25, dtype=torch.float64)
    padded = F.pad(luma, (8, 8, 8, 8), mode="replicate")
    patches = F.unfold(padded, 9).transpose(1, 2)  # the first layer as a matrix product over 9×9 patches
    features = patches @ network.extract.weight.view(64, 81).T + network.extract.bias
    features = features.relu().transpose(1, 2).view(1, 64, 31, 33)
    features = F.conv2d(features, network.map.weight, network.map.bias).clamp(min=0)
    expected = F.conv2d(features, network.reconstruct.weight, network.reconstruct.bias)
    torch.testing.assert_close(network(luma), expected)


@pytest.mark.parametrize(("kernels", "parameters", "radius"), [((9, 1, 5), 8129, 6), ((9, 5, 5), 57281, 8)])
def test_parameters_and_radius(kernels, parameters, radius):
    network = SRCNN(kernels)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert network.radius == radius
    luma = torch.rand(1, 1, 41, 41, requires_grad=True)
    network(luma)[0, 0, 20, 20].backward()
    seen = luma.grad[0, 0].ne(0).nonzero()
    assert seen.min() == 20 - radius and seen.max() == 20 + radius
    assert network.forward_valid(torch.rand(1, 1, 30, 25)).shape == (1, 1, 30 - 2 * radius, 25 - 2 * radius)


@pytest.mark.parametrize("kernels", KERNELS.values())
def test_an_untrained_network_is_nearly_bicubic(kernels):
    luma = 16 / 255 + 0.85 * torch.rand(1, 1, 30, 30)
    change = SRCNN(kernels)(luma) - luma
    assert 0 < change.abs().max() < 0.1
    # The first feature alone is the picture itself.
    network = SRCNN(kernels)
    network.reconstruct.weight.data[:, 1:] = 0
    assert torch.equal(network(luma), luma)


@pytest.mark.parametrize("kernels", KERNELS.values())
def test_no_feature_of_an_untrained_network_is_dead(kernels):
    network = SRCNN(kernels)
    grey = network.extract(torch.full((1, 1, 30, 30), GREY))
    for layer in (grey, network.map(grey.relu())):
        torch.testing.assert_close(layer[0, :, 0, 0], torch.tensor([GREY] + [0.0] * (layer.shape[1] - 1)))


@pytest.mark.parametrize("kernels", KERNELS.values())
def test_an_untrained_network_loses_nothing_by_half_precision(kernels):
    network, luma = SRCNN(kernels), torch.rand(1, 1, 40, 50)
    expected = network(luma).detach()
    with torch.autocast("cpu", torch.bfloat16):
        learning = network(luma)
        with torch.no_grad():
            restored = network(luma)
    assert (restored - expected).abs().max() < 0.02 / 255  # bfloat16 itself rounds to one level of 8 bits
    assert learning.requires_grad and 0.02 / 255 < (learning - expected).abs().max() < 1 / 255
