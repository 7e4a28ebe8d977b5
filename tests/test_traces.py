"""What is told of a picture's past: made with known qualities, and read back."""

import importlib.resources
import io

import pytest
import skimage.data
import torch
from PIL import Image

from imaging import distortions, traces
from imaging.files import open_picture, read_picture
from imaging.images import resize, rgb_to_luma, to_image
from imaging.saving import write_picture


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 85, 90, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_table(photograph, quality):
    file = io.BytesIO()
    to_image(photograph).save(file, "JPEG", quality=quality)
    assert traces.jpeg_quality(Image.open(file).quantization[0]) == quality


def test_a_file_tells_its_quality_and_others_have_none(place, photograph):
    image = to_image(photograph)
    image.save("a.jpg", quality=80)
    image.save("a.png")
    assert abs(traces.look_at(open_picture(place / "a.jpg")).quality - 80) <= 1
    assert traces.look_at(open_picture(place / "a.png")).quality is None


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("x.webp", {"quality": 80}, True),
        ("x.webp", {"lossless": True}, False),
        ("x.webp", {"quality": 80, "icc_profile": b"VP8L" * 101, "exif": b"Exif\0\0VP8L"}, True),
        ("x.webp", {"lossless": True, "icc_profile": b"VP8 " * 101}, False),
        ("x.avif", {"quality": 80}, True),
        ("x.tif", {"compression": "jpeg"}, True),
        ("x.tif", {"compression": "tiff_lzw"}, False),
        ("x.png", {}, False),
        ("x.gif", {}, False),
    ],
)
def test_a_file_tells_whether_it_left_something_out(place, photograph, name, options, lossy):
    to_image(photograph).save(name, **options)
    assert traces.look_at(open_picture(place / name)).lossy is lossy


@pytest.mark.parametrize("lossless", [False, True])
def test_so_does_an_animation(place, photograph, lossless):
    first, second = (to_image(one) for one in (photograph, photograph.flip(-1)))
    first.save("x.webp", save_all=True, append_images=[second], lossless=lossless)
    assert traces.webp_is_lossy(place / "x.webp") is not lossless


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("lossy", [False, True])
def test_a_jpeg_2000_tells_whether_it_left_something_out(place, photograph, suffix, lossy):
    picture = to_image(photograph[..., :64, :64])
    picture.save(place / f"x.{suffix}", irreversible=lossy, quality_mode="rates", quality_layers=[20] if lossy else [0])
    assert open_picture(place / f"x.{suffix}").lossy is lossy


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


def noisy(sigma: float, channels: int = 3) -> torch.Tensor:
    """A slope of grey with noise of the same or of its own in each channel, 8 bits, (1, 3, 120, 150)."""
    noise = sigma / 255 * torch.randn(1, channels, 120, 150, generator=torch.Generator().manual_seed(0))
    return (255 * (torch.linspace(0.2, 0.8, 150) + noise)).round().expand(-1, 3, -1, -1).clamp(0, 255) / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_noise_of_grey_and_of_colours_is_found_in_jpegs_too(place, channels, name):
    to_image(noisy(10, channels)).save(name, **({"quality": 95, "subsampling": 0} if name == "x.jpg" else {}))
    assert traces.look_at(open_picture(place / name)).noise == pytest.approx(10, rel=0.2)


def test_noise_is_found_beside_what_is_too_bright_or_cut_out_for_it(place):
    sky, cut = noisy(10), noisy(10)
    sky[..., :60, :] = (sky[..., :60, :] + 0.9).clamp(0, 1)
    cut[..., 30:90, :60] = 0
    alpha = (cut > 0).all(dim=1, keepdim=True).float()
    write_picture(place / "sky.png", sky)
    write_picture(place / "cut.png", torch.cat((cut, alpha), dim=1))
    beneath = torch.cat((torch.full_like(cut, 0.5), torch.zeros_like(alpha)), dim=1)  # plain, with noise nobody sees
    beneath[:, :3, :60] += 10 / 255 * torch.randn(1, 3, 60, 150, generator=torch.Generator().manual_seed(0))
    write_picture(place / "beneath.png", beneath.clamp(0, 1))
    found = {name: traces.look_at(open_picture(place / f"{name}.png")).noise for name in ("sky", "cut", "beneath")}
    assert found == {"sky": pytest.approx(10, rel=0.2), "cut": pytest.approx(10, rel=0.2), "beneath": 0}


@pytest.mark.parametrize("name", ["grass.png", "gravel.png", "coins.png"])
@pytest.mark.parametrize("shrink", [1, 2, 4])
def test_the_finest_texture_is_no_noise(name, shrink):
    with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / name) as path:
        texture = read_picture(path)
    assert traces.noisiness(resize(texture, 1 / shrink)) == 0


def test_the_quality_is_that_of_the_table_that_luma_has(place, photograph):
    """Tables stand in any order, and one may be there that nothing uses."""
    to_image(photograph).save("x.jpg", quality=60)
    data = (place / "x.jpg").read_bytes()
    luma, colour = (data.index(b"\xff\xdb\x00\x43" + bytes([number])) for number in (0, 1))
    first, second = data[luma : luma + 69], data[colour : colour + 69]
    swapped = data.replace(first, b"?").replace(second, first).replace(b"?", second)
    unused = data[:2] + b"\xff\xdb\x00\x43\x03" + b"\xff" * 64 + data[2:]
    for changed in (swapped, unused):
        (place / "y.jpg").write_bytes(changed)
        assert abs(open_picture(place / "y.jpg").quality - 60) <= 1


def seen(place, image):
    image.save("x.png")
    return traces.look_at(open_picture(place / "x.png"))


def test_drawings_are_told_from_photographs(place, photograph):
    drawn = torch.zeros(1, 3, 20, 30)
    drawn[:, 0, :10], drawn[..., 20:] = 0.5, 1.0
    grey = photograph[:, :1].expand(-1, 3, -1, -1)
    assert seen(place, to_image(drawn)).drawn
    assert not seen(place, to_image(photograph)).drawn and not seen(place, to_image(grey)).drawn
    assert not seen(place, to_image(distortions.jpeg(resize(drawn, 4).clamp(0, 1), torch.tensor([75])))).drawn
    dark = (grey * 50).round() / 255  # of few greys, and a photograph still
    assert 16 < len(dark.unique()) <= 64 and not seen(place, to_image(dark)).drawn


def test_photographs_of_few_colours_are_not_drawn(place):
    """Toned, or as a GIF: large ones have less than one colour for 200 pixels."""
    large = Image.fromarray(skimage.data.coffee())
    tones = ([int(grey * share) for grey in range(256)] for share in (1, 0.8, 0.6))
    toned = Image.merge("RGB", [large.convert("L").point(tone) for tone in tones])
    dithered = large.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).convert("RGB")
    for image in (toned, dithered):
        assert 64 < len(image.getcolors()) <= 256 and not seen(place, image).drawn


def test_drawings_of_many_colours_are_plain_and_neither_a_border_nor_what_is_transparent_is(place, photograph):
    image = to_image(photograph)
    sheet = Image.new("RGB", image.size, "white")  # an eighth of it is a photograph, in two corners
    for corner in ((0, 0), (image.width * 3 // 4, image.height * 3 // 4)):
        sheet.paste(image.resize((image.width // 4, image.height // 4)), corner)
    assert 0.8 < seen(place, sheet).plain < 0.9
    framed = Image.new("RGB", (2 * image.width, 2 * image.height), "white")
    framed.paste(image, (9, 7))
    cut_out = Image.new("RGBA", framed.size, (255, 255, 255, 0))
    for corner in ((0, 0), (image.width, image.height)):  # no row and no column is without it
        cut_out.paste(image, corner)
    for sound in (image, framed, cut_out):
        traced = seen(place, sound)
        assert traced.plain < 0.02 and not traced.drawn
    for side in (20, 1):  # a single pixel has no neighbours
        assert seen(place, Image.new("RGB", (side, side), "red")).plain == (side > 1)
