"""What is told of a picture's past: made with known qualities, and read back."""

import io

import pytest
import torch
from PIL import Image

from imaging import distortions, traces
from imaging.files import open_picture
from imaging.images import resize, rgb_to_luma, to_image
from imaging.saving import write_picture


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 85, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_table(photograph, quality):
    file = io.BytesIO()
    to_image(photograph).save(file, "JPEG", quality=quality)
    assert traces.jpeg_quality(Image.open(file).quantization[0]) == pytest.approx(quality, abs=1)


def test_a_file_tells_its_quality_and_others_have_none(place, photograph):
    image = to_image(photograph)
    image.save("a.jpg", quality=80)
    image.save("a.png")
    assert abs(traces.look_at(open_picture(place / "a.jpg")).quality - 80) <= 1
    assert traces.look_at(open_picture(place / "a.png")).quality is None


@pytest.mark.parametrize("shift", [0, 3])
def test_blocks_show_where_they_are(photograph, shift):
    """JPEG's grid begins in the corner; a picture cut elsewhere has none there, nor has a sound one."""
    sound = photograph[..., :112, :144]
    saved = distortions.jpeg(sound, torch.tensor([40]))[..., shift:, shift:]
    assert traces.blockiness(rgb_to_luma(sound)) == pytest.approx(1, abs=0.05)
    assert (traces.blockiness(rgb_to_luma(saved)) > 1.15) is (shift == 0)


def test_the_smallest_pictures_have_traces_too(place):
    write_picture(place / "dot.png", torch.full((1, 3, 1, 1), 0.5))
    found = traces.look_at(open_picture(place / "dot.png"))
    assert found == traces.Traces(None, 1.0, 0.0, True)


@pytest.mark.parametrize("sigma", [3, 5, 10])
def test_noise_is_found_and_texture_is_none(photograph, sigma):
    """On a slope of grey noise is all there is; a photograph and a grating have none of it."""
    slope = torch.linspace(0.2, 0.8, 150).expand(1, 1, 120, 150)
    noise = sigma / 255 * torch.randn(1, 1, 120, 150, generator=torch.Generator().manual_seed(0))
    assert traces.noisiness(slope + noise) == pytest.approx(sigma, rel=0.2)
    grating = 0.5 + 0.3 * torch.sin(torch.arange(150.0) / 3).expand(1, 1, 120, 150)
    assert traces.noisiness(slope) == traces.noisiness(grating) == traces.noisiness(rgb_to_luma(photograph)) == 0


def test_drawings_are_told_from_photographs(photograph):
    drawn = torch.zeros(1, 3, 20, 30)
    drawn[:, 0, :10], drawn[..., 20:] = 0.5, 1.0
    grey = photograph[:, :1].expand(-1, 3, -1, -1)
    assert traces.is_drawn(drawn) and not traces.is_drawn(photograph) and not traces.is_drawn(grey)
    saved = distortions.jpeg(resize(drawn, 4).clamp(0, 1), torch.tensor([75]))
    assert not traces.is_drawn(saved)
