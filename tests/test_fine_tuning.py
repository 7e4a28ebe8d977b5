"""A new run from weights of other programs, in their own layouts and shapes, each by one command."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_layouts import as_oldest
from test_settings import chosen
from test_training import ADVERSARIAL, CPU, RRDB, short_epochs  # noqa: F401 (a fixture)

import esrgan
from engine import resume
from engine.checkpoints import load_checkpoint
from engine.discriminators import load_discriminator, make_discriminator
from engine.starting import Start, untrained_weights
from engine.training import train
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Curves and pictures take longer than these trainings, and have tests of their own."""
    monkeypatch.setattr("engine.training.show_progress", lambda *_: None)


def with_values(network):
    """Weights that are none of a fresh draw."""
    generator = torch.Generator().manual_seed(3)
    return {
        name: 0.02 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }


PUBLISHED = {
    "realesr-general-x4v3": (lambda: SRVGGNetCompact(4, 4, 32), "srvgg", dict),
    "RealESRGAN_x2plus": (lambda: RRDBNet(2, 4, 2, 2, unshuffle=True), "rrdb", dict),
    "RRDB_ESRGAN_x4_old_arch": (lambda: RRDBNet(4, 4, 2, 23), "rrdb", as_oldest),
}


def tuning(name: str, model: str | None):
    """The settings of a run from a file in a published layout, and what is in the file by our names."""
    make, kind, layout = PUBLISHED[name]
    network = make()
    weights = with_values(network)
    torch.save({"params_ema": layout(weights)} if layout is dict else layout(weights), f"{name}.pth")
    flags = ["--from", f"{name}.pth", "-b", "2", "--learning-rate", "1e-30", "--set", f"patch={32 // network.scale}"]
    if model:
        flags += ["-m", model, "--perceptual", "random", "--set", "adversarial.layers.conv1_2=1"]
        flags += ["--set", "adversarial.layers.conv5_4=0", "--set", "adversarial.features=2"]
    settings = chosen(*flags)
    assert settings.shape == network.shape and settings.scale == network.scale
    assert settings.model == (model or kind)
    return settings, weights


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("model", [None, "esrgan"])
def test_a_published_network_is_a_start(place, capsys, name, model):
    settings, weights = tuning(name, model)
    begun = resume.find_run(settings, Start(weights=Path(f"{name}.pth")))
    assert f"starting from {name}.pth" in capsys.readouterr().err
    assert begun.checkpoint["params"].keys() == weights.keys()
    assert all(torch.equal(begun.checkpoint["params"][key], value) for key, value in weights.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("model", [None, "esrgan"])
def test_a_published_network_is_tuned_by_one_command(photographs, name, model):
    settings, weights = tuning(name, model)
    tuned = load_checkpoint(train(settings, [photographs], 1, Start(weights=Path(f"{name}.pth")), CPU))
    assert tuned["shape"] == settings.shape
    for key, value in weights.items():
        torch.testing.assert_close(tuned["params"][key], value)


def test_another_scale_keeps_what_fits_and_says_what_it_left_out(place, capsys):
    old = RRDBNet(4, 4, 2, 1)
    torch.save({"params": with_values(old)}, "x4.pth")
    settings = chosen("--from", "x4.pth", "-s", "2", "--set", "seed=5")
    assert settings.shape == RRDBNet(2, 4, 2, 1).shape
    weights = resume.find_run(settings, Start(weights=Path("x4.pth"))).checkpoint["params"]
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "for ×4" in told and "left out: conv_up2; drawn anew: nothing" in told
    assert all(torch.equal(value, with_values(old)[name]) for name, value in weights.items())
    compact = SRVGGNetCompact(4, 4, 1)
    torch.save({"params": with_values(compact)}, "c4.pth")
    settings = chosen("--from", "c4.pth", "-s", "2")
    weights = resume.find_run(settings, Start(weights=Path("c4.pth"))).checkpoint["params"]
    assert "left out: body.4; drawn anew: body.4" in capsys.readouterr().err
    assert torch.equal(weights["body.0.weight"], with_values(compact)["body.0.weight"])
    assert torch.equal(weights["body.4.weight"], untrained_weights(settings)["body.4.weight"])
    torch.save({"params": with_values(RRDBNet(2, 4, 2, 1, unshuffle=True))}, "x2plus.pth")
    settings = chosen("--from", "x2plus.pth", "-s", "4")
    assert settings.shape == old.shape
    resume.find_run(settings, Start(weights=Path("x2plus.pth")))
    assert "left out: conv_first; drawn anew: conv_first" in capsys.readouterr().err


def test_another_network_is_refused(place):
    torch.save({"params": with_values(RRDBNet(4, 4, 2, 1))}, "x4.pth")
    for flags, words in [
        (["-m", "srvgg"], "is a network of the kind rrdb, not srvgg: give -m rrdb"),
        (["--blocks", "2"], r"--from x4\.pth: is .*'blocks': 1.* not .*'blocks': 2"),
        (["-m", "esrgan", "--generator", "srvgg"], "give --generator rrdb"),
        (["--discriminator-from", "x4.pth"], "is for a new run of -m esrgan"),
        (["-m", "esrgan", "--discriminator-from", "none.pth"], "none.pth: no such checkpoint"),
    ]:
        with pytest.raises(UsageError, match=words):
            chosen("--from", "x4.pth", *flags)
    with pytest.raises(UserError, match="holds no discriminator"):
        chosen("--from", "x4.pth", "-m", "esrgan", "--discriminator-from", "x4.pth")


def published_vgg(features):
    """ESRGAN's discriminator by BasicSR's names, from the order in which its authors' code makes the layers."""
    names = {}
    widths = [features * factor for factor in (1, 2, 4, 8, 8)]
    inputs = 3
    for block, width in enumerate(widths):
        for number, kernel in ((0, 3), (1, 4)):
            names[f"conv{block}_{number}.weight"] = torch.randn(width, inputs, kernel, kernel)
            if (block, number) == (0, 0):
                names["conv0_0.bias"] = torch.randn(width)
            else:
                bn = f"bn{block}_{number}"
                names |= {
                    f"{bn}.{part}": torch.rand(width) for part in ("weight", "bias", "running_mean", "running_var")
                }
                names[f"{bn}.num_batches_tracked"] = torch.tensor(7)
            inputs = width
    names |= {"linear1.weight": torch.randn(100, inputs * 16), "linear1.bias": torch.randn(100)}
    return names | {"linear2.weight": torch.randn(1, 100), "linear2.bias": torch.randn(1)}


def by_hand(weights, picture):
    """Its answer, written out."""
    functional = torch.nn.functional
    x = picture
    for block in range(5):
        for number, stride in ((0, 1), (1, 2)):
            conv, bn = f"conv{block}_{number}", f"bn{block}_{number}"
            x = functional.conv2d(x, weights[f"{conv}.weight"], weights.get(f"{conv}.bias"), stride, padding=1)
            if f"{bn}.weight" in weights:
                parts = (weights[f"{bn}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
                x = functional.batch_norm(x, *parts)
            x = functional.leaky_relu(x, 0.2)
    x = functional.leaky_relu(functional.linear(x.flatten(1), weights["linear1.weight"], weights["linear1.bias"]), 0.2)
    return functional.linear(x, weights["linear2.weight"], weights["linear2.bias"])


def test_the_published_discriminator_of_esrgan(place):
    torch.manual_seed(0)
    weights = published_vgg(2)
    torch.save(weights, "d.pth")
    settings = replace(ADVERSARIAL, patch=32)
    adversarial, loaded = load_discriminator(Path("d.pth"), settings)
    assert (adversarial.discriminator, adversarial.features, adversarial.normalisation) == ("vgg", 2, "batch")
    discriminator = make_discriminator(replace(settings, adversarial=adversarial)).eval()
    discriminator.load_state_dict(loaded)
    picture = torch.rand(2, 3, 128, 128)
    torch.testing.assert_close(discriminator(picture), by_hand(weights, picture))
    torch.save({"params": RRDBNet(2, 4, 2, 1).state_dict()}, "g.pth")
    flags = ["-m", "esrgan", "--from", "g.pth", "--discriminator-from", "d.pth"]
    assert chosen(*flags, "--set", "patch=64").adversarial.features == 2
    for more, words in [([], "another size than 64 pixels"), (["--set", "adversarial.features=3"], "another")]:
        with pytest.raises(UsageError, match=words):
            chosen(*flags, *more)
    with pytest.raises(UsageError, match="another size than 32 pixels"):
        load_discriminator(Path("d.pth"), ADVERSARIAL)


@pytest.mark.slow
def test_a_run_starts_from_a_published_u_net_and_from_its_own(photographs):
    unet = esrgan.UNetDiscriminator(3)
    torch.save({"params": unet.state_dict()}, "net_d.pth")
    torch.save({"params": RRDBNet(**RRDB.shape).state_dict()}, "g.pth")
    flags = ["-m", "esrgan", "--from", "g.pth", "--perceptual", "random", "-b", "1", "--set", "patch=8"]
    flags += ["--set", "adversarial.layers.conv1_2=1", "--set", "adversarial.layers.conv5_4=0"]
    settings = chosen(*flags, "--discriminator-from", "net_d.pth", "--set", "adversarial.discriminator_every=1000")
    assert (settings.adversarial.discriminator, settings.adversarial.features) == ("unet", 3)
    start = Start(weights=Path("g.pth"), discriminator=Path("net_d.pth"))
    begun = resume.find_run(settings, start)
    assert all(torch.equal(begun.discriminator[name], value) for name, value in unet.state_dict().items())
    path = train(settings, [photographs], 1, start, CPU)
    part = load_checkpoint(path)["training"]["parts"]["discriminator"]
    fresh = make_discriminator(settings).state_dict()
    # One update of a thousandth moves it a little; a fresh draw lies far away.
    near, far = ((part["conv9.weight"] - other["conv9.weight"]).abs().max() for other in (unet.state_dict(), fresh))
    assert near < 5e-3 < far
    again = load_discriminator(path, settings)[1]
    assert all(torch.equal(again[name], value) for name, value in part.items())
    assert math.isfinite(load_checkpoint(path)["history"][0]["loss"])
