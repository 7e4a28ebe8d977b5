"""VGG19 as torchvision builds it, against its formula, and its weights from good and bad files."""

import math
import sys
import urllib.error

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.weights import load_vgg19
from esrgan import PerceptualLoss, VGG19Features
from imaging.console import UsageError, UserError


def rand(*size: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vgg():
    """Random weights, down to conv3_4."""
    return load_vgg19("random", ("conv1_2", "conv2_1", "conv3_4"))


def test_vgg_is_built_and_named_as_in_torchvision():
    with torch.device("meta"):
        deepest = VGG19Features(["conv5_4"])
    numbers = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    assert list(deepest.state_dict()) == [f"features.{n}.{kind}" for n in numbers for kind in ("weight", "bias")]
    widths = [deepest.features[n].out_channels for n in numbers]
    assert widths == [64, 64, 128, 128, *4 * [256], *8 * [512]]


def test_vgg_is_only_as_deep_as_asked_for(vgg):
    assert len(vgg.features) == 17 and isinstance(vgg.features[-1], nn.Conv2d)
    features = vgg(rand(2, 3, 16, 24))
    sizes = {name: tuple(value.shape) for name, value in features.items()}
    assert sizes == {"conv1_2": (2, 64, 16, 24), "conv2_1": (2, 128, 8, 12), "conv3_4": (2, 256, 4, 6)}


@pytest.mark.parametrize("layers", [["conv6_1"], ["conv1_3", "conv1_1"], ["relu1_1"], [], "conv1_1"])
def test_layers_that_vgg_does_not_have(layers):
    with torch.device("meta"), pytest.raises(ValueError, match="conv1_1 to conv5_4"):
        VGG19Features(layers)


def test_vgg_is_its_formula(vgg):
    """Normalised, activated between the layers and not after the last, pooled between the blocks."""
    picture, state = rand(2, 3, 16, 16), vgg.state_dict()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (picture - mean.view(1, 3, 1, 1)) / deviation.view(1, 3, 1, 1)
    expected = {}
    for number in (0, 2, 5, 7, 10, 12, 14, 16):
        if number:
            x = x.clamp(min=0)
        if number in (5, 10):
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax(dim=(-2, -1))
        x = F.conv2d(x, state[f"features.{number}.weight"], state[f"features.{number}.bias"], padding=1)
        expected[number] = x
    features = vgg(picture)
    for name, number in (("conv1_2", 2), ("conv2_1", 5), ("conv3_4", 16)):
        torch.testing.assert_close(features[name], expected[number], rtol=1e-4, atol=1e-4)
        assert 0.3 < (features[name] < 0).float().mean() < 0.7  # before activation


def test_gradient_reaches_the_picture_and_vgg_has_none(vgg):
    loss = PerceptualLoss(vgg, {"conv3_4": 1.0})
    restored, high = rand(1, 3, 16, 16).requires_grad_(), rand(1, 3, 16, 16, seed=2).requires_grad_()
    loss(restored, high).backward()
    assert restored.grad.abs().sum() > 0
    assert high.grad is None
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in loss.parameters())


def test_perceptual_loss_is_a_weighted_sum_of_mean_differences(vgg):
    restored, high = rand(2, 3, 16, 16), rand(2, 3, 16, 16, seed=2)
    distances = {name: (vgg(restored)[name] - vgg(high)[name]).abs().mean().item() for name in ("conv2_1", "conv3_4")}
    loss = PerceptualLoss(vgg, {"conv2_1": 0.1, "conv3_4": 3.0})
    expected = 0.1 * distances["conv2_1"] + 3.0 * distances["conv3_4"]
    assert loss(restored, high).item() == pytest.approx(expected, rel=1e-5) and expected > 0.1
    assert loss(high, high).item() == 0


def test_relative_loss_is_the_same_however_large_a_file_makes_the_features(vgg):
    scaled = VGG19Features(tuple(vgg.layers.values()))
    scaled.load_state_dict(vgg.state_dict())
    with torch.no_grad():  # a ReLU network lets the size of a layer's features be chosen freely
        scaled.features[5].weight.mul_(10)  # conv2_1
        scaled.features[7].weight.div_(5)  # conv2_2
    restored, high, weights = rand(2, 3, 16, 16), rand(2, 3, 16, 16, seed=2), {"conv2_1": 0.1, "conv3_4": 3.0}
    small, large = (PerceptualLoss(net, weights, relative=True)(restored, high).item() for net in (vgg, scaled))
    assert large == pytest.approx(small, rel=1e-5) and small > 0.1
    raw_small, raw_large = (PerceptualLoss(net, weights)(restored, high).item() for net in (vgg, scaled))
    assert raw_large > 1.5 * raw_small
    wanted, found = vgg(high)["conv3_4"], vgg(restored)["conv3_4"]
    alone = PerceptualLoss(vgg, {"conv3_4": 1.0}, relative=True)(restored, high)
    assert alone.item() == pytest.approx(((wanted - found).abs().mean() / wanted.std()).item(), rel=1e-5)


def test_relative_loss_of_plain_pictures_is_finite(vgg):
    with torch.no_grad():
        plain = torch.zeros(1, 3, 16, 16)
        assert math.isfinite(PerceptualLoss(vgg, {"conv3_4": 1.0}, relative=True)(plain, plain).item())


def test_random_weights_are_the_same_every_time_and_loud(vgg, capsys):
    torch.manual_seed(99)  # they depend neither on this nor on how deep the net is
    again = load_vgg19("random", ("conv2_2",))
    assert "RANDOM WEIGHTS" in capsys.readouterr().err
    for key, value in again.state_dict().items():
        assert torch.equal(value, vgg.state_dict()[key])
        if key.endswith("weight"):
            assert value.std().item() == pytest.approx((2 / value[0].numel()) ** 0.5, rel=0.1)
        else:
            assert not value.any()


@pytest.fixture
def weights(vgg):
    """A state dict as torchvision's file holds it: other layers are in it too."""
    return {**vgg.state_dict(), "classifier.0.weight": torch.ones(2, 2)}


@pytest.mark.parametrize("prefix", ["features.", ""])
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_weights_from_a_file(weights, tmp_path, prefix, precision):
    renamed = {key.replace("features.", prefix): value.to(precision) for key, value in weights.items()}
    torch.save(renamed, tmp_path / "vgg19.pth")
    loaded = load_vgg19(str(tmp_path / "vgg19.pth"), ("conv2_1",))
    for key, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, weights[key].to(precision).float())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def bad_vgg_files():
    smaller = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.0.bias": torch.zeros(32)}
    yield "other shapes", smaller, r"features\.0\.bias of 64"
    yield "no tensors", {"features.0.weight": "none"}, r"features\.0\.weight of 64×3×3×3"
    yield "a list", [1, 2], "holds a list"
    yield "a module", nn.Conv2d(3, 64, 3), "whole module"
    yield "bytes", b"not a file of weights", "text file"


@pytest.mark.parametrize(("kind", "content", "message"), list(bad_vgg_files()))
def test_files_that_are_not_vgg19(tmp_path, kind, content, message):
    path = tmp_path / f"{kind}.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        load_vgg19(str(path), ("conv1_1",))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_such_file(tmp_path):
    with pytest.raises(UsageError, match=r"vgg\.pth: no such file"):
        load_vgg19(str(tmp_path / "vgg.pth"))


def test_imagenet_weights_that_cannot_be_fetched(monkeypatch):
    def no_network(url, **_):
        raise urllib.error.URLError("Name or service not known\nmore of it")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    with pytest.raises(UserError, match="Name or service not known") as caught:
        load_vgg19("imagenet", ("conv1_1",))
    message = str(caught.value)
    assert "--perceptual FILE" in message and "--perceptual small" in message and "\n" not in message


def test_imagenet_weights_need_no_torchvision(monkeypatch, weights):
    asked = {}

    def fetch(url, **options):
        asked.update(options, url=url)
        return weights

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # whoever imports it now fails
    loaded = load_vgg19("imagenet", ("conv2_1",))
    assert torch.equal(loaded.features[2].weight, weights["features.2.weight"])
    assert asked["url"].endswith("/vgg19-dcbb9e9d.pth") and asked["weights_only"] and asked["check_hash"]
