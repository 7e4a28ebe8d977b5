"""What a training shows of itself: which part of which picture, pixel by pixel."""

import numpy
import pytest
import torch
from PIL import Image

from engine.data import Pair, make_pair
from engine.progress import SHOWN_SIDE, large_enough, liveliest_part, liveliness
from imaging import sheets
from imaging.images import round_to_8_bits, to_bytes, to_image
from imaging.saving import write_picture


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_liveliest_part_is_the_colourful_one_and_stays_a_pair(scale):
    small = torch.full((3, 40, 60), 128, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    small[:, 16:26, 40:50] = torch.randint(256, (3, 10, 10), generator=generator, dtype=torch.uint8)
    large = small.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    part = liveliest_part(Pair(small, large, "x"), 10 * scale)
    assert torch.equal(part.small, small[:, 16:26, 40:50])
    assert torch.equal(part.large, part.small.repeat_interleave(scale, 1).repeat_interleave(scale, 2))
    assert liveliness(part) > liveliness(Pair(small, large, "x"))
    whole = liveliest_part(Pair(small, large, "x"), 1000)
    assert whole.small.shape == (3, 40, 40)  # a square, as large as there is


def test_in_place_of_a_sample_its_photograph_is_shown(place):
    photograph = round_to_8_bits(torch.rand(1, 3, 200, 220, generator=torch.Generator().manual_seed(1)))
    write_picture(place / "images_raw" / "photo.png", photograph)
    small, large = make_pair(photograph, 2, enlarge=True)
    sample = Pair(small[:, :32, :32], large[:, :32, :32], "images_raw/photo.png")
    shown = large_enough(sample, 2)
    assert torch.equal(shown.large, to_bytes(photograph)[0]) and torch.equal(shown.small, small)
    gone = Pair(sample.small, sample.large, "images_raw/gone.png")
    assert large_enough(gone, 2) is gone
    (place / "images_raw" / "text.png").write_text("no picture")
    unreadable = Pair(sample.small, sample.large, "images_raw/text.png")
    assert large_enough(unreadable, 2) is unreadable
    enough = Pair(small, large, "images_raw/photo.png")
    assert min(large.shape[-2:]) >= SHOWN_SIDE and large_enough(enough, 2) is enough


def test_a_sheet_shows_every_pixel_as_a_square(tmp_path):
    pictures = [torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(side)) for side in (70, 290, 9)]
    sheets.draw_sheet([[("two\nlines", pictures[0]), ("one", pictures[1])], [("", pictures[2])]], tmp_path / "x.png")
    sheet = numpy.asarray(Image.open(tmp_path / "x.png"))
    for picture, zoom in zip(pictures, (4, 1, 33), strict=True):
        wanted = numpy.asarray(to_image(picture)).repeat(zoom, 0).repeat(zoom, 1)
        side = len(wanted)
        places = numpy.argwhere((sheet[: -side + 1, : -side + 1] == wanted[0, 0]).all(axis=2))
        assert any(numpy.array_equal(sheet[top : top + side, left : left + side], wanted) for top, left in places)
