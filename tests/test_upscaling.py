"""Upscaling and evaluation with networks made by hand, whose results are known."""

import numpy
import pytest
import torch
import torch.nn.functional as F
from test_checkpoints import Always, make_checkpoint
from test_srcnn import delta_network
from torch import nn

from engine import batch, devices, upscaling
from engine.settings import UpscaleSettings
from engine.targets import list_inputs
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import resize, rgb_to_ycbcr, to_bytes, ycbcr_to_rgb
from imaging.saving import write_picture
from srcnn import SRCNN


@pytest.mark.parametrize("scale", [2, 3])
def test_a_network_that_changes_nothing_gives_bicubic(photograph, scale):
    expected = resize(photograph, scale).clamp(0, 1)
    result = upscaling.upscale(delta_network().eval(), photograph, scale)
    torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)


def test_only_luma_is_restored(photograph):
    network = delta_network()
    network.reconstruct.bias.data.fill_(0.02)
    low = 0.25 + 0.5 * photograph  # away from black and white, where clipping would touch chroma
    result, plain = (rgb_to_ycbcr(picture) for picture in (upscaling.upscale(network, low, 2), resize(low, 2)))
    torch.testing.assert_close(result[:, 1:], plain[:, 1:], atol=2e-6, rtol=0)
    torch.testing.assert_close(result[:, :1], plain[:, :1] + 0.02, atol=2e-6, rtol=0)


@pytest.mark.parametrize("tile", [16, 50, 500])
@pytest.mark.parametrize("size", [(70, 83), (1, 40), (17, 16)])
def test_tiles_equal_the_whole(tile, size):
    network = SRCNN().double().eval()
    luma = torch.rand(1, 1, *size, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(
            upscaling.in_tiles(network, luma, tiling=upscaling.Tiling(tile)), network(luma), atol=1e-12, rtol=0
        )


def test_tiles_of_a_network_that_enlarges():
    network = RRDBNet(2, features=4, growth=2, blocks=1).double().eval()
    assert network.radius <= network.margin
    picture = torch.rand(1, 3, 50, 61, dtype=torch.float64)
    with torch.inference_mode():
        tiled = upscaling.in_tiles(network, picture, 2, upscaling.Tiling(20))
        torch.testing.assert_close(tiled, network(picture), atol=1e-12, rtol=0)
    result = upscaling.upscale(network.float(), picture.float(), 2)
    assert result.shape == (1, 3, 100, 122) and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("convolutions", [1, 2, 4, 8])
def test_tiles_of_a_short_network_keep_the_level_of_the_whole(photograph, convolutions):
    """It sees less far than the squares over whose mean the level is kept."""
    network = SRVGGNetCompact(2, features=8, convolutions=convolutions).eval()
    with torch.inference_mode():
        network.body[-1].bias += 0.1 * torch.rand(12, generator=torch.Generator().manual_seed(1))
    whole, tiled = (upscaling.upscale(network, photograph, 2, upscaling.Tiling(side)) for side in (1000, 40))
    assert (whole - tiled).abs().max() < 0.1 / 255


def expected_of(network, picture):
    with torch.inference_mode():
        return network(picture)


def test_upscaling_by_tiles_is_upscaling_the_whole(photograph):
    photograph = photograph[..., :70, :90]
    torch.manual_seed(1)
    network = SRCNN().eval()
    ycbcr = rgb_to_ycbcr(resize(photograph, 4))
    luma = expected_of(network, ycbcr[:, :1])
    expected = ycbcr_to_rgb(torch.cat((luma, ycbcr[:, 1:]), dim=1)).clamp(0, 1)
    for side in (50, 256, 10_000):
        tiled = upscaling.in_tiles(network, ycbcr[:, :1], tiling=upscaling.Tiling(side))
        torch.testing.assert_close(tiled, luma, atol=1e-6, rtol=0)
        result = upscaling.upscale(network, photograph, 4, upscaling.Tiling(side))
        torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tile", [16, 33, 64, 100])
@pytest.mark.parametrize("size", [(97, 203), (33, 17), (1, 150), (129, 128)])
@pytest.mark.parametrize("fade", [0, 4])
def test_cross_fades_of_tiles_that_agree_change_nothing(tile, size, fade):
    picture = torch.rand(1, 2, *size, dtype=torch.float64)

    def render(top, bottom, left, right):
        assert 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]
        return picture[..., top:bottom, left:right]

    result = torch.full_like(picture, torch.nan)
    for top, left, piece in upscaling.tiles(render, size, upscaling.Tiling(tile), 1, fade):
        result[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    torch.testing.assert_close(result, picture, atol=1e-14, rtol=0)  # the weights sum to 1 everywhere


def test_tiles_that_differ_meet_in_a_ramp():
    levels = iter((0.0, 1.0, 0.0, 1.0))

    def render(top, bottom, left, right):
        return torch.full((1, 1, bottom - top, right - left), next(levels))

    row = torch.empty(1, 1, 40, 80)
    for top, left, piece in upscaling.tiles(render, (40, 80), upscaling.Tiling(40), 1, 8):
        row[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    assert row[0, 0, 0].diff().max().item() == pytest.approx(1 / 16) and row[0, 0, 0].diff().min() >= 0
    assert row[..., :32].max() == 0 and row[..., 48:].min() == 1


def test_no_seam_of_a_network_that_sees_beyond_its_tiles():
    torch.manual_seed(4)
    network = RRDBNet(2, features=8, growth=4, blocks=3).eval()
    for parameter in network.parameters():  # far from the smooth start that it is given, so that it sees far
        parameter.data.mul_(1.6)
    assert network.radius > network.margin
    smooth = resize(torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(1)), size=(190, 170)).clamp(0, 1)
    result = upscaling.in_tiles(network, smooth, 2, upscaling.Tiling(48))
    steps = result.diff(dim=-1).abs().amax(dim=(0, 1, 2))
    seams = {round(2 * 170 * part / 4) + offset for part in (1, 2, 3) for offset in range(-18, 18)}
    beside = [step.item() for column, step in enumerate(steps) if column not in seams]
    assert max(step.item() for column, step in enumerate(steps) if column in seams) <= max(beside) * 1.001
    flat = torch.full((1, 3, 120, 130), 0.4)
    whole = expected_of(network, flat)[..., 100:140, 100:160]
    tiled = upscaling.in_tiles(network, flat, 2, upscaling.Tiling(48))[..., 100:140, 100:160]
    assert (tiled - whole).abs().max() < 2 / 255


@pytest.mark.parametrize(
    ("network", "margin"),
    [
        (RRDBNet(4, features=4, growth=2, blocks=1), 19),  # all it sees
        (RRDBNet(4, features=4, growth=2, blocks=3), 16),
        (RRDBNet(2, features=4, growth=2, blocks=3, unshuffle=True), 32),  # a pixel of its grid is two of the picture
        (SRVGGNetCompact(4, features=4, convolutions=16), 18),
        (SRVGGNetCompact(4, features=4, convolutions=40), 32),  # it says nothing of what is enough: the most
    ],
)
def test_how_much_a_network_sees_around_its_tile(network, margin):
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-1]))
    fade = 0 if network.radius <= network.margin else upscaling.FADE
    with torch.inference_mode():
        upscaling.in_tiles(network, torch.rand(1, 3, 8, 300), network.scale, upscaling.Tiling(100))
    assert seen == [100 + margin + fade, 100 + 2 * (margin + fade), 100 + margin + fade]


@pytest.mark.parametrize("luma", [True, False])
@pytest.mark.parametrize("size", [(211, 263), (61, 76), (240, 75), (960, 1200), (1, 1)])
def test_any_factor_is_a_resize_of_the_whole_result(photograph, luma, size):
    network = delta_network() if luma else RRDBNet(2, features=4, growth=2, blocks=1).eval()
    expected = resize(upscaling.upscale(network, photograph, 2), size=size).clamp(0, 1)

    def read(top, bottom, left, right):
        return photograph[..., top:bottom, left:right]

    pieces = upscaling.enlarged_pieces(network, read, 3, (120, 150), 2, size, upscaling.Tiling(50))
    result = torch.full((1, 3, *size), torch.nan)
    with torch.inference_mode():
        for top, left, piece in pieces:
            result[..., top : top + piece.shape[-2], left : left + piece.shape[-1]] = piece
    torch.testing.assert_close(result, expected, atol=3e-6, rtol=0)


def test_tiles_of_a_folded_network_keep_its_grid():
    network = RRDBNet(2, features=4, growth=2, blocks=1, unshuffle=True).double().eval()
    picture = torch.rand(1, 3, 61, 75, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(network, "margin", network.radius)
        tiled = upscaling.in_tiles(network, picture, 2, upscaling.Tiling(33))
        torch.testing.assert_close(tiled, network(picture), atol=1e-12, rtol=0)


def test_half_precision_that_overflows_is_done_again():
    class Overflowing(torch.nn.Conv2d):
        """Gives infinity in half precision, the picture itself in float32."""

        luma, scale, radius, margin, tile, fold, calls = False, 1, 0, 0, 256, 1, 0

        def forward(self, low):
            self.calls += 1
            return low / 0 if torch.is_autocast_enabled("cpu") and low[..., 0, 0].max() > 0.5 else low.clone()

    network, picture = Overflowing(1, 1, 1), torch.zeros(1, 3, 40, 80)
    picture[..., 39:] = 1
    result = upscaling.in_tiles(network, picture, 1, upscaling.Tiling(40, "bf16"))
    assert torch.equal(result, picture) and network.calls == 3


def run_upscale(inputs, output=None):
    batch.upscale_files(list_inputs(inputs), output, Always(delta_network(), make_checkpoint()), UpscaleSettings())


@pytest.mark.parametrize(
    ("able", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_half_precision_where_the_processor_has_it(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    cpu = torch.device("cpu")
    assert devices.choose_precision("auto", cpu) == expected
    assert devices.choose_precision("bf16", cpu) == "bf16"
    with pytest.raises(UsageError, match="for GPUs"):
        devices.choose_precision("fp16", cpu)


def test_files_and_folders(place, photograph):
    for name in ("a.png", "deep/a.png", "deep/a.bmp", "b.png"):
        write_picture(place / "in" / name, photograph[..., :20, :30])
    run_upscale([place / "in", place / "in" / "b.png"])
    results = sorted((place / "images_upscaled").rglob("*.png"))
    assert len(results) == 5 and sum(path.parent.name == "deep" for path in results) == 2
    assert all(read_picture(path).shape == (1, 3, 40, 60) for path in results)
    assert all(".x2.srcnn.20" in path.name for path in results)
    run_upscale([place / "in" / "b.png"], place / "out.bmp")
    expected = upscaling.upscale(delta_network(), photograph[..., :20, :30], 2)
    assert torch.equal(to_bytes(read_picture(place / "out.bmp")), to_bytes(expected))
    run_upscale([place / "in" / "b.png"], place / "folder")
    assert len(list((place / "folder").iterdir())) == 1


def test_a_bad_picture_is_named_and_the_rest_goes_on(place, photograph, capsys):
    write_picture(place / "in" / "a.png", photograph[..., :20, :30])
    (place / "in" / "bad.png").write_text("no picture")
    with pytest.raises(UserError, match="1 of 2 pictures failed, 1 were enlarged"):
        run_upscale([place / "in"])
    assert "bad.png: not a picture" in capsys.readouterr().err
    assert len(list((place / "images_upscaled").iterdir())) == 1


def test_an_input_is_never_overwritten(place, photograph):
    write_picture(place / "a.png", photograph[..., :20, :30])
    with pytest.raises(UsageError, match="choose another name"):
        run_upscale([place / "a.png"], place / "a.png")
    with pytest.raises(UsageError, match="no such file"):
        run_upscale([place / "b.png"])


@pytest.mark.parametrize("luma", [True, False])
def test_grey_stays_grey(photograph, luma):
    """With equal channels in, equal channels out, though the network prefers red; colours are left to it."""
    network = delta_network() if luma else RRDBNet(2, features=4, growth=2, blocks=1).eval()
    if not luma:
        network.conv_last.bias.data = torch.tensor([0.2, 0.0, -0.1])
    grey = photograph[:, :1].expand(-1, 3, -1, -1)
    restored = upscaling.upscale(network, grey, 2)
    assert restored.shape == (1, 3, 240, 300)
    assert torch.equal(restored[:, 0], restored[:, 1]) and torch.equal(restored[:, 0], restored[:, 2])
    coloured = upscaling.upscale(network, photograph, 2)
    assert not torch.equal(coloured[:, 0], coloured[:, 1])


# ---------------------------------------------------------------------------------------------
# Edges and levels
# ---------------------------------------------------------------------------------------------


def test_a_mirror_continues_a_picture_beyond_its_edges():
    picture = torch.arange(12.0).view(1, 1, 3, 4)

    def read(top, bottom, left, right):
        assert 0 <= top < bottom <= 3 and 0 <= left < right <= 4
        return picture[..., top:bottom, left:right]

    read_over_edges = upscaling.mirrored(read, (3, 4))
    expected = torch.from_numpy(numpy.pad(picture.numpy()[0, 0], ((7, 5), (9, 3)), mode="symmetric"))
    torch.testing.assert_close(read_over_edges(-7, 8, -9, 7)[0, 0], expected, atol=0, rtol=0)
    torch.testing.assert_close(read_over_edges(1, 3, 0, 2), picture[..., 1:3, :2], atol=0, rtol=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_level_is_that_of_the_low_picture_and_detail_is_the_networks(scale):
    low = resize(torch.rand(1, 3, 5, 6, generator=torch.Generator().manual_seed(3)), size=(50, 60)).clamp(0.1, 0.9)
    detail = 0.02 * (-1) ** torch.arange(60 * scale)  # of mean 0 within a low pixel or two
    restored = resize(low, scale) + detail
    shifted = upscaling.keep_level(restored + torch.tensor([0.05, -0.03, 0.01]).view(1, 3, 1, 1), low)
    torch.testing.assert_close(shifted, upscaling.keep_level(restored.clone(), low), atol=1e-6, rtol=0)
    assert (shifted - restored).abs().max() < 2 / 255


class Shifting(nn.Module):
    """Enlarges by two, a third darker at its edges, as zeros beyond them make it, and ten levels too light."""

    luma, scale, radius, margin, tile, fold = False, 2, 1, 8, 64, 1

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, picture):
        return F.interpolate(F.avg_pool2d(picture, 3, 1, 1), scale_factor=2, mode="nearest") + 10 / 255


@pytest.mark.parametrize("colour", [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0.2, 0.6, 0.4)])
def test_flat_colours_keep_their_level_to_the_very_edge(colour):
    network = Shifting()
    low = torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 20, 23)
    assert (expected_of(network, low) - low[..., :1, :1]).abs().max() > 8 / 255
    result = upscaling.upscale(network, low, 2)
    torch.testing.assert_close(result, low[..., :1, :1].expand_as(result), atol=2 / 255, rtol=0)


def test_levels_do_not_depend_on_tiles(photograph):
    torch.manual_seed(2)
    network = SRVGGNetCompact(scale=2, features=8, convolutions=12).eval()
    low = photograph[..., :90, :100]
    whole = upscaling.upscale(network, low, 2, upscaling.Tiling(500))
    torch.testing.assert_close(upscaling.upscale(network, low, 2, upscaling.Tiling(32)), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(30, 41), (3, 12), (1, 1)])
def test_the_means_of_a_level_are_those_of_pooling(size):
    planes = expected = torch.rand(1, 2, *size)
    for kernel in ((upscaling.LEVEL, 1), (1, upscaling.LEVEL)) * 2:
        padding = kernel[0] // 2, kernel[1] // 2
        expected = F.avg_pool2d(expected, kernel, 1, padding, count_include_pad=False)
    rows, columns = map(upscaling.means_along, size)
    torch.testing.assert_close(rows @ planes @ columns.T, expected, atol=1e-6, rtol=0)
