"""What is told of a picture's past: made with known qualities, and read back."""

import io

import pytest
import torch
from PIL import Image

from imaging import distortions, traces
from imaging.files import open_picture
from imaging.images import rgb_to_luma, to_image
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
    assert found == traces.Traces(None, 1.0)
