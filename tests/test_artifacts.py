"""Figures for artifacts, on pictures that have exactly one of them, of known strength."""

import pytest
import torch

from engine import artifacts
from imaging.images import resize


def flat(*colour):
    return torch.tensor(colour).view(1, 3, 1, 1).expand(1, 3, 64, 80).clone()


@pytest.mark.parametrize("pattern", ["rows", "columns", "checks"])
@pytest.mark.parametrize("strength", [1.0, 4.0])
def test_a_weave_is_measured_in_levels(pattern, strength):
    rows, columns = torch.arange(64)[:, None], torch.arange(80)[None]
    sign = (-1.0) ** {"rows": rows, "columns": columns, "checks": rows + columns}[pattern]
    high = flat(0.4, 0.5, 0.6)
    woven = high + strength / 255 * sign  # in luma 219/255 of that
    assert artifacts.weave(woven, high) == pytest.approx(strength * 219 / 255, rel=0.05)


def test_no_weave_where_the_ground_truth_has_the_same_or_nothing_is_flat(photograph):
    grain = flat(0.5, 0.5, 0.5) + 1 / 255 * torch.randn(1, 1, 64, 80, generator=torch.Generator().manual_seed(1))
    assert artifacts.weave(grain, grain) == 0 and artifacts.weave(flat(0.5, 0.5, 0.5), grain) == 0
    smooth = resize(torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(1)), size=(64, 80))
    assert artifacts.weave(smooth + 0.01, smooth) < 0.05
    checks = (torch.arange(64)[:, None] + torch.arange(80)) % 2
    assert artifacts.weave(flat(0.5, 0.5, 0.5), checks.expand(1, 3, -1, -1).float()) == 0


def test_colour_on_grey_is_counted_only_where_it_should_be_grey():
    high = flat(0.5, 0.5, 0.5)
    high[..., 40:] = flat(0.2, 0.5, 0.8)[..., 40:]
    assert artifacts.chroma_on_grey(high, high) == 0
    tinted = high.clone()
    tinted[:, 2, :, :40] += 10 / 255  # Cb: 112/255 of it
    assert artifacts.chroma_on_grey(tinted, high) == pytest.approx(10 * 112 / 255, abs=0.01)
    tinted = high.clone()
    tinted[..., 40:] = 0.5
    assert artifacts.chroma_on_grey(tinted, high) == 0


@pytest.mark.parametrize("scale", [2, 4])
def test_the_grid_ratio_is_one_without_a_grid_and_counts_steps(scale):
    noise = torch.rand(1, 3, 32 * scale, 30 * scale, generator=torch.Generator().manual_seed(2))
    assert artifacts.grid_ratio(noise, scale) == pytest.approx(1, abs=0.02)
    assert artifacts.grid_ratio(torch.full((1, 3, 64, 64), 0.4), scale) == pytest.approx(1)
    blocks = noise[..., ::scale, ::scale].repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    assert artifacts.grid_ratio(blocks, scale) > 1000  # all steps are between low pixels
    # By hand: luma 0, 1, 5, 6, 10 … in steps of 1 inside and 4 across, for pixels twice as large.
    row = torch.tensor([0.0, 1, 5, 6, 10, 11, 15, 16]) / 100
    assert artifacts.grid_ratio((row + row[:, None]).view(1, 1, 8, 8), 2) == pytest.approx(4, rel=1e-3)


def test_bicubic_shows_its_grid_and_a_photograph_none(photograph):
    low = resize(photograph, 1 / 4).clamp(0, 1)
    assert artifacts.grid_ratio(resize(low, 4).clamp(0, 1), 4) > 1.1
    assert artifacts.grid_ratio(photograph, 4) == pytest.approx(1, abs=0.05)
