"""Picture files of every kind: what is in them, what is left of it when they are written, and what is refused."""

import random

import numpy
import pytest
import tifffile
import torch
from corpus import CUT, deep_png, make_corpus, planes, to_image
from PIL import Image, ImageCms

from imaging import files
from imaging.console import UserError
from imaging.files import Picture, open_picture, save_picture
from imaging.images import read_picture


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder, and what is expected of each file in it."""
    folder = tmp_path_factory.mktemp("files") / "corpus"
    return folder, make_corpus(folder)


def pixels_of(frame):
    """A whole frame as an array (H, W, C)."""
    height, width = files.frame_size(frame)
    return files.frame_window(frame, 0, height, 0, width)


def same(frames, expected) -> bool:
    """Whether frames show what they must; the colour of what is not visible is free."""
    if [frame.shape for frame in frames] != [frame.shape for frame in expected.frames]:
        return False
    for frame, wanted in zip(frames, expected.frames, strict=True):
        visible = wanted[:, :, -1:] > 0 if wanted.shape[2] in (2, 4) else True
        difference = numpy.abs(frame.astype(int) - wanted) * visible
        if frame.dtype != wanted.dtype or difference.max() > expected.tolerance:
            return False
        if visible is not True and numpy.abs(frame[:, :, -1].astype(int) - wanted[:, :, -1]).max() > 0:
            return False
    return True


def test_the_corpus_is_read_rightly_or_refused_in_one_line(corpus):
    folder, expected = corpus
    assert sum(wanted is not None for wanted in expected.values()) > 60
    for name, wanted in expected.items():
        if wanted is None:
            with pytest.raises(UserError) as refused:
                open_picture(folder / name)
            assert name in str(refused.value) and "\n" not in str(refused.value)
        else:
            picture = open_picture(folder / name)
            assert same([pixels_of(frame) for frame in picture.frames], wanted), name
            assert not wanted.durations or tuple(picture.durations) == wanted.durations, name


def test_what_is_cut_short_is_refused_or_whole(corpus):
    folder, expected = corpus
    for name in CUT:
        for tenth in range(10):
            try:
                picture = open_picture(folder / f"cut_{tenth}_{name}")
            except UserError:
                continue
            assert same([pixels_of(frame) for frame in picture.frames], expected[name]), f"{name} at {tenth} tenths"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif", ".webp", ".jpg"])
def test_round_trip(tmp_path, capsys, channels, dtype, suffix):
    pixels = planes(channels, dtype)
    if suffix in (".gif", ".jpg", ".webp"):  # few colours, and flat ones: what compression leaves as it is
        pixels[:] = pixels[4, 10]
        pixels[: pixels.shape[0] // 2, :, -1] = 0 if channels in (2, 4) else pixels[4, 10, -1]
    frame = to_image(pixels) if dtype == numpy.uint8 else pixels
    path = tmp_path / f"x{suffix}"
    save_picture(path, Picture([frame], dpi=(200, 100)), quality=100)
    again = open_picture(path)
    read, told = pixels_of(again.frames[0]), capsys.readouterr().err
    deep = dtype == numpy.uint16 and (suffix == ".tif" or (suffix, channels) == (".png", 1))
    assert (read.dtype == numpy.uint16) == deep == (dtype == numpy.uint16 and "16 bits" not in told)
    wanted = (
        pixels if deep or dtype == numpy.uint8 else ((pixels.astype(int) * 255 + 32767) // 65535).astype(numpy.uint8)
    )
    keeps_alpha = channels in (1, 3) or suffix not in (".bmp", ".jpg")
    assert keeps_alpha == ("transparency" not in told)
    if not keeps_alpha:
        share = wanted[:, :, -1:] / 255
        wanted = (wanted[:, :, :-1] * share + 255 * (1 - share)).round().astype(numpy.uint8)
    if suffix in (".webp", ".gif") and read.shape[2] != wanted.shape[2]:  # these have no grey
        colours = wanted.shape[2] - (wanted.shape[2] in (2, 4))
        wanted = numpy.dstack([wanted[:, :, :1]] * 3 + [wanted[:, :, colours:]]) if colours == 1 else wanted
    visible = read[:, :, -1:] > 0 if read.shape[2] in (2, 4) else True
    if suffix == ".gif" and channels in (2, 4):
        wanted[:, :, -1] = numpy.where(wanted[:, :, -1] < 128, 0, 255)
    tolerance = {".jpg": 40 if channels in (2, 4) else 3, ".webp": 6, ".gif": 4, ".bmp": 1}.get(suffix, 0)
    assert (numpy.abs(read.astype(int) - wanted) * visible).max() <= tolerance
    if suffix in (".png", ".tif", ".jpg", ".bmp"):
        assert again.dpi == pytest.approx((200, 100), rel=1e-3)


def test_the_profile_travels_if_it_fits(tmp_path, capsys):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    to_image(planes(3)).save(tmp_path / "x.png", icc_profile=profile)
    picture = open_picture(tmp_path / "x.png")
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        save_picture(tmp_path / f"y{suffix}", picture)
        assert open_picture(tmp_path / f"y{suffix}").profile == profile
    deep = Picture([planes(3, numpy.uint16)], profile=profile, dpi=(72, 72))
    save_picture(tmp_path / "deep.tif", deep)
    again = open_picture(tmp_path / "deep.tif")
    assert again.profile == profile and again.dpi == (72, 72)
    assert not capsys.readouterr().err
    save_picture(tmp_path / "y.bmp", picture)
    assert "profile" in capsys.readouterr().err
    to_image(planes(1)).save(tmp_path / "grey.png", icc_profile=profile)
    Image.fromarray(planes(4), mode="CMYK").save(tmp_path / "ink.tif", icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 108)
    for name in ("grey.png", "ink.tif"):
        assert open_picture(tmp_path / name).profile is None
        assert f"{name}: its colour profile" in capsys.readouterr().err


def test_animations_keep_their_frames_and_timing(tmp_path, corpus, capsys):
    folder, expected = corpus
    for name in ("film.gif", "film.webp", "film.png", "ghost.png"):
        picture = open_picture(folder / name)
        for suffix in (".gif", ".webp", ".png"):
            save_picture(tmp_path / f"x{suffix}", picture, quality=100)
            again = open_picture(tmp_path / f"x{suffix}")
            assert tuple(again.durations) == expected[name].durations, (name, suffix)
            assert again.plays == picture.plays, (name, suffix)
            if suffix == ".png" or (suffix, name) == (".gif", "film.gif"):
                for frame, wanted in zip(again.frames, picture.frames, strict=True):
                    difference = numpy.abs(pixels_of(frame).astype(int) - pixels_of(wanted))
                    assert (difference * (pixels_of(wanted)[:, :, -1:] > 0)).max() <= 1, (name, suffix)
        capsys.readouterr()
        save_picture(tmp_path / "x.jpg", picture)
        assert "first frame" in capsys.readouterr().err


def test_a_gif_becomes_transparent_again(tmp_path):
    frames = [Image.new("RGBA", (4, 4), (200, 0, 0, 255)) for _ in range(3)]
    frames[1].putpixel((1, 1), (0, 0, 0, 0))
    save_picture(tmp_path / "x.gif", Picture(frames, "GIF", [50, 50, 50]))
    again = open_picture(tmp_path / "x.gif")
    assert [pixels_of(frame)[1, 1, 3] for frame in again.frames] == [255, 0, 255]
    assert [pixels_of(frame)[0, 0].tolist() for frame in again.frames] == [[200, 0, 0, 255]] * 3


def test_premultiplied_alpha_and_scanners_bits(tmp_path):
    straight = planes(4, numpy.uint16)
    share = straight[:, :, 3:] / 65535
    multiplied = numpy.dstack(((straight[:, :, :3] * share).round().astype(numpy.uint16), straight[:, :, 3:]))
    tifffile.imwrite(tmp_path / "x.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"])
    (frame,) = open_picture(tmp_path / "x.tif").frames
    visible = straight[:, :, 3] > 0
    assert numpy.abs(frame[visible].astype(int) - straight[visible]).max() <= 2
    tifffile.imwrite(tmp_path / "plain.tif", planes(4, numpy.uint16), photometric="rgb", extrasamples=["unspecified"])
    assert open_picture(tmp_path / "plain.tif").frames[0].shape[2] == 3


def test_a_bomb_is_refused_unless_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    to_image(planes(3)).save(tmp_path / "x.png")
    deep_png(tmp_path / "deep.png", planes(3, numpy.uint16))
    tifffile.imwrite(tmp_path / "x.tif", planes(3, numpy.uint16), photometric="rgb")
    frames = [to_image(planes(1, seed=seed)) for seed in range(3)]
    frames[0].resize((6, 6)).save(
        tmp_path / "x.gif", save_all=True, append_images=[frame.resize((6, 6)) for frame in frames[1:]]
    )
    for name in ("x.png", "deep.png", "x.tif", "x.gif"):
        with pytest.raises(UserError, match=f"{name}: too many pixels .*--huge"):
            open_picture(tmp_path / name)
        assert open_picture(tmp_path / name, huge=True).frames
    assert Image.MAX_IMAGE_PIXELS == 40


def test_few_bytes_that_would_be_many_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_PIXELS_PER_BYTE", 10_000)
    # A blank WebP is as small as that; and a TIFF whose directory promises more rows than it has.
    Image.new("RGB", (4000, 4000)).save(tmp_path / "x.webp", lossless=True)
    with pytest.raises(UserError, match=r"4000×4000 pixels in a file of \d+ bytes"):
        open_picture(tmp_path / "x.webp")
    assert files.frame_size(open_picture(tmp_path / "x.webp", huge=True).frames[0]) == (4000, 4000)
    for name, pixels in (("grey.tif", planes(1)), ("deep.tif", planes(3, numpy.uint16))):
        tifffile.imwrite(tmp_path / name, pixels.squeeze(), photometric="minisblack" if name == "grey.tif" else "rgb")
        with tifffile.TiffFile(tmp_path / name, mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(5000)
        with pytest.raises(UserError, match="damaged or cut short"):
            open_picture(tmp_path / name)


def test_what_a_format_cannot_hold_is_told_before_work(tmp_path):
    for suffix, side in ((".jpg", 65501), (".webp", 16384), (".gif", 65536)):
        with pytest.raises(UserError, match=r"cannot hold .* use .png"):
            files.check_size(tmp_path / f"x{suffix}", 1, side)
        files.check_size(tmp_path / f"x{suffix}", side - 1, 1)
    files.check_size(tmp_path / "x.png", 10**6, 1)


def random_tries(corpus, count):
    """Seeded: random bytes behind true beginnings of files, and whole files with one byte changed."""
    folder, _ = corpus
    generator = random.Random(5)
    names = ("png_4.png", "jpeg_3.jpeg", "webp_4.webp", "tif_3.tif", "bits.tif", "bmp_3.bmp", "palette.gif", "film.gif",
             "film.webp", "film.png", "deep_3_zip.tif", "deep_2_plain.tif", "deep_dark.png", "levels.png")  # fmt: skip
    whole = {name: (folder / name).read_bytes() for name in names}
    for number in range(count):
        original = whole[generator.choice(names)]
        if number % 4 == 0:
            beginning = original[: generator.choice((0, 4, 8, 16, 40))]
            yield beginning + generator.randbytes(generator.randrange(400))
        else:
            place = generator.randrange(len(original))
            yield original[:place] + generator.randbytes(1) + original[place + 1 :]


def test_a_deep_tiff_may_grow_beyond_four_gigabytes(monkeypatch):
    asked = {}
    monkeypatch.setattr(tifffile, "imwrite", lambda path, pixels, **options: asked.update(options))
    for side in (30_000, 3_000):
        pixels = numpy.broadcast_to(numpy.zeros(3, numpy.uint16), (side, side, 3))
        files._save_deep_tiff("x.tif", Picture([pixels]))
        assert asked["bigtiff"] == (side == 30_000)


def test_deep_grey_of_netpbm(tmp_path):
    pixels = planes(1, numpy.uint16)
    height, width = pixels.shape[:2]
    (tmp_path / "x.pgm").write_bytes(b"P5 %d %d 65535\n" % (width, height) + pixels.astype(">u2").tobytes())
    assert (open_picture(tmp_path / "x.pgm").frames[0] == pixels).all()
    expected = torch.from_numpy(pixels.astype(numpy.float32) / 65535).permute(2, 0, 1).expand(1, 3, -1, -1)
    torch.testing.assert_close(read_picture(tmp_path / "x.pgm"), expected)
