"""The mean over eight flips and turns: of each network, in tiles, with alpha, and from the command line."""

import json

import numpy
import pytest
import torch
from PIL import Image
from test_main import run

from engine import upscaling
from engine.ensembles import WAYS, Ensemble, turned, turned_back
from engine.upscaling import Tiling
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.saving import write_picture
from srcnn import SRCNN


def picture(*size, channels=3):
    generator = torch.Generator().manual_seed(sum(size))
    return torch.randint(256, (1, channels, *size), generator=generator, dtype=torch.uint8) / 255


def lively(network):
    """A network that is not nearly the identity, so that flips and turns make a difference."""
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=generator) * (0.3 / max(1, weight[0].numel()) ** 0.5))
    return network.eval()


def networks():
    return [
        lively(SRCNN()),
        lively(SRVGGNetCompact(2, 4, 1)),
        lively(RRDBNet(4, 4, 2, 1)),
        lively(RRDBNet(2, 4, 2, 1, unshuffle=True)),
    ]


def test_each_way_is_another_and_is_undone():
    one = picture(2, 3)
    ways = [turned(one, way) for way in range(WAYS)]
    assert len({tuple(way.shape) + tuple(way.flatten().tolist()) for way in ways}) == 8
    assert all(torch.equal(turned_back(way, number), one) for number, way in enumerate(ways))


@pytest.mark.parametrize("network", networks())
def test_it_is_the_mean_written_out_and_has_no_preferred_direction(network):
    ensemble, fold = Ensemble(network), network.fold
    channels = 1 if network.luma else 3
    one = picture(12 * fold, 16 * fold, channels=channels)
    with torch.inference_mode():
        expected = torch.stack([
            network(one), network(one.rot90(1, (2, 3))).rot90(3, (2, 3)),
            network(one.rot90(2, (2, 3))).rot90(2, (2, 3)), network(one.rot90(3, (2, 3))).rot90(1, (2, 3)),
            network(one.flip(3)).flip(3), network(one.flip(2)).flip(2),
            network(one.mT).mT, network(one.mT.flip((2, 3))).flip((2, 3)).mT,
        ]).mean(dim=0)  # fmt: skip
        torch.testing.assert_close(ensemble(one), expected, atol=1e-5, rtol=0)
        assert (network(one) - expected).abs().max() > 1e-3
        for way in range(1, WAYS):
            torch.testing.assert_close(ensemble(turned(one, way)), turned(ensemble(one), way), atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", networks())
@pytest.mark.parametrize("size", [(41, 67), (33, 32)])
def test_tiles_are_the_whole(network, size):
    ensemble, one = Ensemble(network).double(), picture(*size, channels=1 if network.luma else 3).double()
    ensemble.margin = ensemble.radius  # exactly, not nearly
    tiled = upscaling.in_tiles(ensemble, one, network.scale, Tiling(32))
    with torch.inference_mode():
        torch.testing.assert_close(tiled, ensemble(one), atol=1e-10, rtol=0)


def test_pictures_with_flips_and_tiles_come_out_alike():
    ensemble, low = Ensemble(lively(RRDBNet(4, 4, 2, 1))), picture(40, 50)
    whole = upscaling.upscale(ensemble, low, 4)
    torch.testing.assert_close(upscaling.upscale(ensemble, low, 4, Tiling(32)), whole, atol=1e-5, rtol=0)
    torch.testing.assert_close(upscaling.upscale(ensemble, low.flip(3), 4).flip(3), whole, atol=1e-4, rtol=0)


def test_the_command_line_says_it_and_keeps_alpha(place, photograph):
    write_picture("in/x.png", torch.cat((photograph[..., :20, :30], photograph[:, :1, :20, :30]), dim=1))
    for name, flags in (("one.png", []), ("eight.png", ["--ensemble"]), ("again.png", ["--ensemble", "--tile", "32"])):
        finished = run("upscale", "-i", "in/x.png", "-o", name, "-m", "srcnn", "--cpu", *flags)
        assert finished.returncode == 0 and ("eight flips" in finished.stdout) == bool(flags), finished.stderr
    one, eight, again = (
        torch.from_numpy(numpy.array(Image.open(name))) for name in ("one.png", "eight.png", "again.png")
    )
    assert one.shape == eight.shape and one.shape[-1] == 4 and not torch.equal(one, eight)
    assert (again.int() - eight.int()).abs().max() <= 1
    run("upscale", "-i", "in", "-o", "out", "-m", "srcnn", "--cpu")
    finished = run("upscale", "-i", "in", "-o", "out", "-m", "srcnn", "--cpu", "--ensemble", "--skip-existing")
    assert "x.x4.srcnn.ensemble." in finished.stdout  # another network's result is none of this one's


def test_it_is_measured_too(place, photograph):
    write_picture("in/x.png", photograph[..., :60, :60])
    figures = []
    for flags in ([], ["--ensemble"]):
        finished = run("evaluate", "-i", "in", "-m", "srcnn", "-s", "2", "--json", "f.json", *flags)
        assert finished.returncode == 0, finished.stderr
        report = json.loads((place / "f.json").read_text(encoding="utf-8"))
        assert ("eight flips" in report["protocol"]) == ("eight flips" in finished.stdout) == bool(flags)
        figures.append(report["sets"]["in"])
    assert figures[0]["bicubic"] == figures[1]["bicubic"] and figures[0]["model"] != figures[1]["model"]
