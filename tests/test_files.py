"""Picture files of every kind: what is in them, what is left of it when they are written, and what is refused."""

import io
import os
import random
import re
import struct
import sys
import zlib

import numpy
import pytest
import tifffile
import torch
from corpus import CUT, HEIGHT, WIDTH, chunk, deep_png, make_corpus, planes, to_image
from corpus import tiff as write_tiff
from PIL import Image, ImageCms

from imaging import files, frames, images, limits, saving, tiff
from imaging.console import UsageError, UserError
from imaging.files import open_picture, read_colours, read_picture
from imaging.frames import Picture, to_frame, to_opaque
from imaging.saving import save_picture


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder, and what is expected of each file in it."""
    folder = tmp_path_factory.mktemp("files") / "corpus"
    return folder, make_corpus(folder)


def pixels_of(frame):
    """A whole frame as an array (H, W, C)."""
    height, width = frames.frame_size(frame)
    return frames.frame_window(frame, 0, height, 0, width)


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


@pytest.mark.parametrize("name", ["film.gif", "film.png", "film.webp"])
@pytest.mark.parametrize("tail", [b"\0", b"\r\n", b"words of another program", bytes(range(256)) * 20])
def test_an_animation_with_bytes_behind_its_end_is_whole(corpus, tmp_path, name, tail):
    folder, expected = corpus
    (tmp_path / name).write_bytes((folder / name).read_bytes() + tail)
    assert same([pixels_of(frame) for frame in open_picture(tmp_path / name).frames], expected[name])


def test_a_gif_that_is_cut_anywhere_behind_its_second_frame_is_refused(corpus, tmp_path):
    folder, _ = corpus
    whole = (folder / "film.gif").read_bytes()
    last = whole.rindex(b"\x21\xf9")  # where the third frame begins
    whole = whole[:last] + b"\x21\xfe\x0bnot; ended;\0" + whole[last:]  # a comment, whose semicolons end nothing
    path = tmp_path / "x.gif"
    path.write_bytes(whole)
    assert len(open_picture(path).frames) == 3
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"x\.gif: damaged or cut short"):
            open_picture(path)


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
    deep = dtype == numpy.uint16 and suffix in (".tif", ".png")
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


@pytest.mark.parametrize("suffix, dtype", [(".tif", numpy.uint8), (".tif", numpy.uint16), (".png", numpy.uint16)])
def test_more_rows_than_are_written_at_once(tmp_path, suffix, dtype):
    for channels in (1, 2, 3, 4):
        pixels = planes(channels, dtype, height=2 * frames.STRIP + 7, width=31)
        save_picture(tmp_path / f"x{suffix}", Picture([to_frame(pixels)]))
        assert (pixels_of(open_picture(tmp_path / f"x{suffix}").frames[0]) == pixels).all()


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


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("planar", [False, True])
def test_premultiplied_alpha(tmp_path, dtype, planar):
    straight = planes(4, dtype)
    share = straight[:, :, 3:] / numpy.iinfo(dtype).max
    multiplied = numpy.dstack(((straight[:, :, :3] * share).round().astype(dtype), straight[:, :, 3:]))
    laid = {"planarconfig": "separate"} if planar else {}
    multiplied = numpy.moveaxis(multiplied, 2, 0) if planar else multiplied
    tifffile.imwrite(tmp_path / "x.tif", multiplied, photometric="rgb", extrasamples=["assocalpha"], **laid)
    (frame,) = open_picture(tmp_path / "x.tif").frames
    visible = straight[:, :, 3] > 0
    assert numpy.abs(pixels_of(frame)[visible].astype(int) - straight[visible]).max() <= 2


def test_a_channel_that_nobody_knows_is_told(tmp_path, capsys):
    tifffile.imwrite(tmp_path / "plain.tif", planes(4, numpy.uint16), photometric="rgb", extrasamples=["unspecified"])
    assert open_picture(tmp_path / "plain.tif").frames[0].shape[2] == 3
    assert "has 4 channels, of which 3 are taken" in capsys.readouterr().err


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
    monkeypatch.setattr(limits, "MAX_PIXELS_PER_BYTE", 10_000)
    # A blank WebP is as small as that; and a TIFF whose directory promises more rows than it has.
    Image.new("RGB", (4000, 4000)).save(tmp_path / "x.webp", lossless=True)
    with pytest.raises(UserError, match=r"4000×4000 pixels in a file of \d+ bytes"):
        open_picture(tmp_path / "x.webp")
    assert frames.frame_size(open_picture(tmp_path / "x.webp", huge=True).frames[0]) == (4000, 4000)
    for name, pixels in (("grey.tif", planes(1)), ("deep.tif", planes(3, numpy.uint16))):
        tifffile.imwrite(tmp_path / name, pixels.squeeze(), photometric="minisblack" if name == "grey.tif" else "rgb")
        with tifffile.TiffFile(tmp_path / name, mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(5000)
        with pytest.raises(UserError, match="damaged or cut short"):
            open_picture(tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is Unix's")
@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".webp", ".bmp", ".gif"])
def test_a_full_disk_is_told_and_leaves_what_was_there(tmp_path, dtype, suffix, capsys):
    import resource

    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    pixels = planes(3, dtype, height=60, width=50)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for limit in (0, 100, 1_000):
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, hard)
            )  # what is written beyond it fails, as on a full disk
            with pytest.raises(UserError, match=re.escape(f"cannot write {path}: ") + ".*large"):
                save_picture(path, Picture([to_frame(pixels)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_what_c_libraries_say_stays_off_the_terminal(tmp_path, capfd):
    Image.effect_noise((90, 90), 99).save(tmp_path / "x.tif", compression="tiff_lzw")
    whole = bytearray((tmp_path / "x.tif").read_bytes())
    for place in range(500, 6000, 7):
        whole[place] ^= 0x55
    (tmp_path / "x.tif").write_bytes(whole)
    os.write(2, b"before\n")
    with pytest.raises(UserError, match=r"x\.tif: damaged") as refused:
        open_picture(tmp_path / "x.tif")
    os.write(2, b"behind\n")
    assert "\n" not in str(refused.value) and capfd.readouterr().err == "before\nbehind\n"


def test_lost_depth_is_told(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.jp2", irreversible=False)
    whole = bytearray((tmp_path / "x.jp2").read_bytes())
    whole[whole.find(b"\xff\x4f\xff\x51") + 42] = 11  # twelve bits, says the code stream
    (tmp_path / "x.jp2").write_bytes(whole)
    header = struct.pack("<4s7I44x", b"DDS ", 124, 0x1007, 8, 8, 0, 0, 0)
    pixel_format = struct.pack("<2I4s5I", 32, 4, b"DX10", 0, 0, 0, 0, 0)
    floats = struct.pack("<5I5I", 0x1000, 0, 0, 0, 0, 95, 3, 0, 1, 0)  # BC6H_UF16
    (tmp_path / "x.dds").write_bytes(header + pixel_format + floats + bytes(64))
    pixels = planes(3, numpy.uint16)
    head = struct.pack(">hBBHHHHll", 474, 0, 2, 3, WIDTH, HEIGHT, 3, 0, 65535).ljust(512, b"\0")
    (tmp_path / "x.sgi").write_bytes(head + numpy.moveaxis(pixels[::-1], 2, 0).astype(">u2").tobytes())
    index = planes(1) % 4
    tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (8,), 259: (1,), 262: (3,), 277: (1,)}
    for name, entry in (("deep", 0x1234), ("shallow", 0x1212)):
        write_tiff(tmp_path / f"{name}.tif", index.tobytes(), tags | {320: (entry,) * 768})
    ink = planes(4, numpy.uint16)
    write_tiff(tmp_path / "ink.tif", ink.tobytes(), tags | {258: (16,) * 4, 262: (5,), 277: (4,)})
    told = {
        "x.jp2": "12 bits",
        "x.dds": "BC6H",
        "x.sgi": "16 bits",
        "deep.tif": "16 bits of its palette",
        "ink.tif": "16 bits",
    }
    for name, words in told.items():
        picture = open_picture(tmp_path / name)
        assert words in (said := capsys.readouterr().err) and "8 " in said, name
    assert numpy.abs(pixels_of(open_picture(tmp_path / "x.sgi").frames[0]).astype(int) - (pixels >> 8)).max() <= 1
    assert "8 are left" in capsys.readouterr().err
    picture = open_picture(tmp_path / "shallow.tif")
    assert (pixels_of(picture.frames[0]) == 0x12).all() and not capsys.readouterr().err


def test_grey_of_measurements_is_refused(tmp_path):
    cards = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 4", "NAXIS2  = 4", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880)
    (tmp_path / "x.fits").write_bytes(header.encode() + bytes(2880))
    with pytest.raises(UserError, match=r"x\.fits: its pixels have no agreed range"):
        open_picture(tmp_path / "x.fits")


def test_a_frame_larger_than_the_screen_is_not_squeezed(tmp_path):
    """Two frames of a GIF: a red one of the screen's 4×4, a blue one of 3×3 that begins at (3, 3)."""
    colours = bytes((255, 0, 0, 0, 0, 255))

    def frame(left, top, side, index):
        file = io.BytesIO()
        plain = Image.new("P", (side, side), index)
        plain.putpalette(colours)
        plain.save(file, "GIF", optimize=False)
        data = file.getvalue()
        start = data.index(b"\x2c", 13 + 6)
        body = data[start + 10 : -1]
        return b"\x2c" + struct.pack("<4HB", left, top, side, side, 0) + body

    head = b"GIF89a" + struct.pack("<2H3B", 4, 4, 0x80, 0, 0) + colours
    delay = b"\x21\xf9\x04\x04\x0a\0\0\0"
    whole = head + delay + frame(0, 0, 4, 0) + delay + frame(3, 3, 3, 1) + b";"
    (tmp_path / "x.gif").write_bytes(whole)
    first, second = (pixels_of(one) for one in open_picture(tmp_path / "x.gif").frames)
    assert first.shape == second.shape == (6, 6, 3)
    red, blue = (255, 0, 0), (0, 0, 255)
    assert (first[:4, :4] == red).all() and (first[4:] == 0).all() and (first[:, 4:] == 0).all()
    assert (second[3:, 3:] == blue).all() and (second[:3, :4] == red).all()
    far = whole.replace(struct.pack("<4H", 3, 3, 3, 3), struct.pack("<4H", 5_000, 5_000, 3, 3))
    (tmp_path / "far.gif").write_bytes(far)
    with pytest.raises(UserError, match=r"5003×5003 pixels in a file of \d+ bytes"):
        open_picture(tmp_path / "far.gif")


def test_what_a_format_cannot_hold_is_told_before_work(tmp_path):
    for suffix, side in ((".jpg", 65501), (".webp", 16384), (".gif", 65536)):
        with pytest.raises(UserError, match=r"cannot hold .* use .png"):
            saving.check_size(tmp_path / f"x{suffix}", 1, side)
        saving.check_size(tmp_path / f"x{suffix}", side - 1, 1)
    saving.check_size(tmp_path / "x.png", 10**6, 1)


def random_tries(corpus, count, seed=5):
    """Seeded: random bytes behind true beginnings of files of every kind, and whole files with a few places changed."""
    folder, expected = corpus
    generator = random.Random(seed)
    whole = [(folder / name).read_bytes() for name, wanted in expected.items() if wanted and "x5000" not in name]
    numbers = (b"\0\0", b"\xff\xff", b"\0\1", b"\1\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\xff" * 4)
    for number in range(count):
        data = bytearray(generator.choice(whole))
        if number % 8 == 0:
            yield bytes(data[: generator.choice((0, 4, 8, 16, 40))]) + generator.randbytes(generator.randrange(400))
            continue
        for _ in range(generator.choice((1, 1, 2, 8))):
            place = generator.randrange(min(len(data), generator.choice((200, 10**6))))  # sizes stand at the beginning
            changed = generator.choice((generator.randbytes(1), generator.randbytes(1), *numbers))
            length = generator.choice((len(changed), len(changed), 0))  # in the place of what was there, or before it
            data[place : place + length] = changed
        yield bytes(data if generator.random() < 0.9 else data[: generator.randrange(len(data))])


def test_damaged_files_of_every_kind_are_read_or_refused_in_one_line(tmp_path, corpus):
    path, suffixes = tmp_path / "x", (".png", ".jpg", ".tif", ".webp", ".gif", ".bmp")
    survived = 0
    for number, data in enumerate(random_tries(corpus, 200, seed=6)):
        path.write_bytes(data)
        try:
            picture = open_picture(path, srgb=True)
            assert read_colours(path).shape[1] in (1, 3)
            if max(frames.frame_size(picture.frames[0])) < 500:
                save_picture(tmp_path / f"y{suffixes[number % 6]}", picture)
            survived += 1
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert 20 < survived < 180


def test_a_deep_tiff_may_grow_beyond_four_gigabytes(monkeypatch):
    asked = {}
    monkeypatch.setattr(tifffile, "imwrite", lambda path, pixels, **options: asked.update(options))
    for side in (30_000, 3_000):
        pixels = numpy.broadcast_to(numpy.zeros(3, numpy.uint16), (side, side, 3))
        tiff.write_tiff("x.tif", Picture([pixels]))
        assert asked["bigtiff"] == (side == 30_000)


def test_deep_grey_of_netpbm(tmp_path):
    pixels = planes(1, numpy.uint16)
    height, width = pixels.shape[:2]
    (tmp_path / "x.pgm").write_bytes(b"P5 %d %d 65535\n" % (width, height) + pixels.astype(">u2").tobytes())
    assert (open_picture(tmp_path / "x.pgm").frames[0] == pixels).all()
    expected = torch.from_numpy(pixels.astype(numpy.float32) / 65535).permute(2, 0, 1).expand(1, 3, -1, -1)
    torch.testing.assert_close(read_picture(tmp_path / "x.pgm"), expected)


def test_round_trip_through_a_file(tmp_path, photograph):
    path = tmp_path / "Бильд ünd 絵.png"
    saving.write_picture(path, photograph)
    assert torch.equal(files.read_picture(path), photograph)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_writing_rounds_and_clips(tmp_path):
    picture = torch.tensor([-0.3, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.4, 0.5]).view(1, 1, 2, 3)
    saving.write_picture(tmp_path / "x.png", picture)
    assert numpy.asarray(Image.open(tmp_path / "x.png")).ravel().tolist() == [0, 0, 1, 255, 255, 128]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, orientation):
    # What a viewer shows is given by the EXIF standard: 6 means "turn clockwise by 90° to see it upright".
    pixels = numpy.arange(6, dtype=numpy.uint8).reshape(2, 3) * 40
    upright = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.T, 6: pixels[::-1].T, 7: pixels[::-1, ::-1].T, 8: pixels[:, ::-1].T,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    picture = files.read_picture(tmp_path / "x.png")
    assert images.to_bytes(picture)[0, 0].tolist() == upright[orientation].tolist()


def test_every_mode_becomes_rgb(tmp_path):
    grey = numpy.array([[0, 100], [200, 255]], dtype=numpy.uint8)
    for mode in ("L", "RGB", "P", "CMYK", "LA", "RGBA", "1"):
        Image.fromarray(grey).convert(mode).save(tmp_path / "x.tif")
        picture = files.read_picture(tmp_path / "x.tif")
        assert picture.shape == (1, 3, 2, 2) and picture.dtype == torch.float32
        if mode != "1":
            assert torch.equal(images.to_bytes(picture)[0, 1], torch.from_numpy(grey)), mode


def test_16_bit_grey_keeps_its_precision_even_when_dark(tmp_path):
    pixels = numpy.array([[0, 1, 200], [255, 256, 65535]], dtype=numpy.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    picture = files.read_picture(tmp_path / "x.png")
    assert (picture[0, 0] * 65535).round().int().tolist() == pixels.tolist()


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (2, 1), (10, 20, 30, 0)).save(tmp_path / "x.png")
    assert files.read_picture(tmp_path / "x.png").eq(1).all()


def test_content_decides_and_bad_files_are_told(tmp_path, photograph):
    saving.write_picture(tmp_path / "real.png", photograph)
    whole = (tmp_path / "real.png").read_bytes()
    (tmp_path / "named.jpg").write_bytes(whole)
    assert torch.equal(files.read_picture(tmp_path / "named.jpg"), photograph)

    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(UserError, match=f"{name}: not a picture"):
            files.read_picture(tmp_path / name)
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.png").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"cut.png: damaged or cut short"):
            files.read_picture(tmp_path / "cut.png")
    with pytest.raises(UsageError, match="no such file"):
        files.read_picture(tmp_path / "nothing.png")
    with pytest.raises(UsageError, match="is a folder"):
        files.read_picture(tmp_path)


@pytest.mark.parametrize("bits, planar", [(12, False), (16, False), (16, True)])
def test_every_command_reads_the_same_pixels(tmp_path, bits, planar):
    """What is measured and trained on is what would be enlarged: TIFF of 12 bits, and with a plane for each channel."""
    generator, shape = numpy.random.default_rng(0), (3, 20, 30) if planar else (20, 30)
    pixels = generator.integers(0, 2**bits, shape, dtype=numpy.uint16)
    kind = {"photometric": "rgb", "planarconfig": "separate"} if planar else {"photometric": "minisblack"}
    tags = [(258, "H", 1, bits, True)] if bits < 16 else []  # how many bits are used, as scanners write it
    tifffile.imwrite(tmp_path / "deep.tif", pixels, extratags=tags, **kind)
    enlarged, measured = open_picture(tmp_path / "deep.tif").frames[0], read_picture(tmp_path / "deep.tif")
    assert torch.equal(measured, to_opaque(enlarged).expand(-1, 3, -1, -1))
    if bits == 16:
        expected = pixels if planar else numpy.repeat(pixels[None], 3, axis=0)
        numpy.testing.assert_allclose(measured[0], expected / 65535, atol=1e-6)


def grey_png(bits: int, clear: int, values: numpy.ndarray) -> bytes:
    """A grey PNG of fewer bits than 8, in which one value is transparent."""
    rows = numpy.unpackbits(values.astype(numpy.uint8)[..., None], axis=-1)[..., -bits:].reshape(len(values), -1)
    packed = b"".join(b"\0" + numpy.packbits(row).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], len(values), bits, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", clear))
    return b"\x89PNG\r\n\x1a\n" + chunks + chunk(b"IDAT", zlib.compress(packed)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_one_grey_is_transparent(tmp_path, bits):
    values = numpy.arange(24).reshape(3, 8) % 2**bits
    (tmp_path / "x.png").write_bytes(grey_png(bits, 1, values))
    pixels = pixels_of(open_picture(tmp_path / "x.png").frames[0])
    assert numpy.array_equal(pixels[:, :, -1] == 0, values == 1)
    assert numpy.array_equal(pixels[:, :, 0], values * (255 // (2**bits - 1)))


def animated_png(frames, size=(6, 8), default=False) -> bytes:
    """RGBA frames (pixels, left, top, dispose, blend), laid over each other as chapter 11 of the standard says."""
    height, width = size

    def packed(pixels):
        return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))]
    chunks.append(chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    if default:
        chunks.append(chunk(b"IDAT", packed(numpy.full((height, width, 4), 9, numpy.uint8))))
    number = 0
    for index, (pixels, left, top, dispose, blend) in enumerate(frames):
        rows, columns = pixels.shape[:2]
        control = struct.pack(">IIIIIHHBB", number, columns, rows, left, top, 1, 10, dispose, blend)
        chunks.append(chunk(b"fcTL", control))
        number += 1
        if index or default:
            chunks.append(chunk(b"fdAT", struct.pack(">I", number) + packed(pixels)))
            number += 1
        else:
            chunks.append(chunk(b"IDAT", packed(pixels)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def test_half_transparent_frames_are_mixed_with_what_is_there(tmp_path):
    clear = numpy.zeros((6, 8, 4), numpy.uint8)
    opaque = planes(4, seed=1, height=6, width=8)
    opaque[:, :, 3] = 255
    half = numpy.full((3, 4, 4), (200, 100, 0, 128), numpy.uint8)
    frames = [(clear, 0, 0, 0, 0), (half, 1, 2, 2, 1), (opaque, 0, 0, 0, 0), (half, 1, 2, 1, 1), (half, 4, 3, 0, 0)]
    (tmp_path / "x.png").write_bytes(animated_png(frames))
    shown = [pixels_of(frame).astype(float) for frame in open_picture(tmp_path / "x.png").frames]
    expected = [clear.astype(float) for _ in range(2)] + [opaque.astype(float) for _ in range(3)]
    expected = [picture.copy() for picture in expected]
    expected[1][2:5, 1:5] = (200, 100, 0, 128)
    mixed = (half[:, :, :3] * (128 / 255.0) + opaque[2:5, 1:5, :3] * (127 / 255.0)).round()
    expected[3][2:5, 1:5, :3] = mixed
    expected[4][2:5, 1:5] = 0
    expected[4][3:6, 4:8] = (200, 100, 0, 128)
    for one, two in zip(shown, expected, strict=True):
        visible = two[:, :, 3:] > 0
        assert numpy.abs((one - two)[:, :, :3] * visible).max() <= 1 and numpy.array_equal(one[:, :, 3], two[:, :, 3])


def test_an_animation_of_one_frame_is_that_frame(tmp_path):
    only = planes(4, seed=2, height=6, width=8)
    (tmp_path / "x.png").write_bytes(animated_png([(only, 0, 0, 0, 0)], default=True))
    (frame,) = open_picture(tmp_path / "x.png").frames
    visible = only[:, :, 3:] > 0
    assert numpy.array_equal(pixels_of(frame) * visible, only * visible)
    assert torch.equal(read_colours(tmp_path / "x.png"), to_opaque(frame))


def test_a_page_that_is_unknown_does_not_spoil_the_first(tmp_path, capsys):
    pixels = planes(3)
    with tifffile.TiffWriter(tmp_path / "x.tif") as writer:
        writer.write(pixels, photometric="rgb")
        writer.write(numpy.ones((9, 13), numpy.complex64))
    assert numpy.array_equal(pixels_of(open_picture(tmp_path / "x.tif").frames[0]), pixels)
    assert "has pages that cannot be read: number 1 is taken" in capsys.readouterr().err


def test_numbers_of_exif_that_need_32_bits_reach_a_tiff(tmp_path):
    exif = Image.Exif()
    exif[0x4746] = 70000  # a rating, far too good
    to_image(planes(3)).save(tmp_path / "x.jpg", exif=exif)
    save_picture(tmp_path / "y.tif", open_picture(tmp_path / "x.jpg"))
    with Image.open(tmp_path / "y.tif") as image:
        assert image.getexif()[0x4746] == 70000


def test_animations_of_16_bits_in_grey_say_what_is_lost(tmp_path, capsys):
    def packed(number):
        return zlib.compress(b"".join(b"\0" + bytes([number, 7]) * 8 for _ in range(6)))

    chunks = [chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 0, 0, 0, 0)), chunk(b"acTL", struct.pack(">II", 2, 0))]
    for index in range(2):
        chunks.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", index, 8, 6, 0, 0, 1, 10, 0, 0)))
        number = struct.pack(">I", 2) if index else b""
        chunks.append(chunk(b"fdAT" if index else b"IDAT", number + packed(index)))
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b""))
    assert len(open_picture(tmp_path / "x.png").frames) == 2
    assert "of its 16 bits 8 are left" in capsys.readouterr().err


def test_a_big_tiff_that_pillow_does_not_know(tmp_path):
    pixels = planes(3, height=40, width=50)
    tifffile.imwrite(
        tmp_path / "x.tif", pixels, bigtiff=True, byteorder=">", tile=(16, 16), compression="zlib", photometric="rgb"
    )
    assert numpy.array_equal(pixels_of(open_picture(tmp_path / "x.tif").frames[0]), pixels)


def test_timing_that_a_kind_of_animation_cannot_hold_is_told(tmp_path, capsys):
    def saved(name, durations, plays=0, frame=None):
        images = [frame or to_image(planes(3, seed=number)) for number in range(len(durations))]
        save_picture(tmp_path / name, Picture(images, "GIF" if name == "a.gif" else "PNG", durations, plays=plays))
        return capsys.readouterr().err, open_picture(tmp_path / name)

    told, again = saved("a.gif", [40.0, 100.0], plays=3)
    assert not told and again.durations == [40, 100] and again.plays == 3
    told, again = saved("b.gif", [5.0, 100.0])
    assert "how long each frame is shown" in told and again.durations == [20, 100]
    told, again = saved("d.webp", [50.0, 50.0], plays=100_000)
    assert "100000 repetitions (65535 are written)" in told and again.plays == 65535
    half = Image.new("RGBA", (8, 8), (200, 0, 0, 128))
    assert "half-transparent pixels" in saved("e.gif", [50.0, 70.0], frame=half)[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize(("name", "most"), [("a.gif", 655_350), ("a.png", 65_535), ("a.webp", 2**24 - 1)])
def test_no_time_of_an_animation_is_lost(tmp_path, capsys, name, most, mode):
    """Frames longer than a kind of file can count, and equal ones that are as long together."""
    one, other = (to_image(planes({"RGB": 3, "RGBA": 4, "L": 1}[mode], seed=seed)).convert(mode) for seed in (0, 1))
    one.paste(one.getpixel((0, 0)), (0, 0, 4, 4))
    for shown, durations in (
        ([one, one], [most - 10_000, 20_000]),
        ([one] * 3 + [other], [most // 10 * 10, 30, most // 20 * 10, 100]),
        ([other, one], [50, 2 * most // 10 * 10 + 70]),
    ):
        save_picture(tmp_path / name, Picture(shown, name[2:].upper(), list(map(float, durations))))
        again = open_picture(tmp_path / name)
        assert sum(again.durations) == sum(durations) and max(again.durations) <= most
        assert "how long" not in capsys.readouterr().err
        if name == "a.png":  # of the others colours are not exact
            sums = {int(pixels_of(image).astype(int).sum()) for image in (one, other)}
            found = {int(pixels_of(frame).astype(int).sum()) for frame in again.frames}
            assert all(min(abs(total - known) for known in sums) <= 3 for total in found)


# ---------------------------------------------------------------------------------------------
# Transparency that Pillow leaves out or takes for another
# ---------------------------------------------------------------------------------------------


def write_bmp(path, numbers, masks=None, size=40):
    """Whole numbers (H, W), uint16 or uint32, as the pixels of a BMP, with masks if its header has room for them."""
    height, width = numbers.shape
    rows = (
        numpy.pad(numbers, ((0, 0), (0, width % 2 if numbers.itemsize == 2 else 0)))[::-1]
        .astype(f"<u{numbers.itemsize}")
        .tobytes()
    )
    compression = 3 if masks else 0
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, 8 * numbers.itemsize, compression, len(rows), 0, 0, 0, 0)
    head = (head + struct.pack("<4I", *masks or (0,) * 4)).ljust(size, b"\0")[: max(size, 52 if masks else 40)]
    start = (
        b"" if path.suffix == ".dib" else struct.pack("<2sIII", b"BM", 14 + len(head) + len(rows), 0, 14 + len(head))
    )
    path.write_bytes(start + head + rows)


def write_tga(path, pixels, bits, depth=32, meaning=None):
    """Bytes (H, W, depth / 8) as a TGA that says how many of its bits are transparency; `meaning` in version 2.0."""
    height, width = pixels.shape[:2]
    data = struct.pack("<BBB5xHHHHBB", 0, 0, 2, 0, 0, width, height, depth, bits | 0x20) + pixels.tobytes()
    if meaning is not None:
        extension = len(data)
        data += struct.pack("<H", 495).ljust(494, b"\0") + bytes([meaning])
        data += struct.pack("<II", extension, 0) + b"TRUEVISION-XFILE.\0"
    path.write_bytes(data)


def alpha_of(path, capsys):
    """The alpha of a file, None where it has none, and what was told."""
    pixels = pixels_of(open_picture(path).frames[0])
    return (pixels[:, :, 3] if pixels.shape[2] == 4 else None), capsys.readouterr().err


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("suffix", [".bmp", ".dib"])
def test_alpha_of_a_bmp(tmp_path, capsys, width, suffix):
    random = numpy.random.default_rng(0)
    numbers, path = random.integers(0, 2**16, (5, width), dtype=numpy.uint16), tmp_path / f"x{suffix}"
    five = (0x7C00, 0x3E0, 0x1F, 0x8000)
    for size in (56, 108, 124):
        write_bmp(path, numbers, five, size)
        alpha, told = alpha_of(path, capsys)
        assert (alpha == numpy.where(numbers & 0x8000, 255, 0)).all() and not told
        red = pixels_of(open_picture(path).frames[0])[:, :, 0]
        assert (numpy.abs(red - (numbers >> 10 & 31) * 255 / 31) <= 1).all()
    for masks in (None, (*five[:3], 0)):  # nobody says that the bit is transparency
        write_bmp(path, numbers, masks, 108 if masks else 40)
        alpha, told = alpha_of(path, capsys)
        assert alpha is None and "to some programs transparency: left out" in told
        write_bmp(path, numbers & 0x7FFF, masks, 108 if masks else 40)
        assert alpha_of(path, capsys) == (None, "")
    deep = random.integers(0, 2**32, (5, width), dtype=numpy.uint32)
    write_bmp(path, deep)
    alpha, told = alpha_of(path, capsys)
    assert alpha is None and "to some programs transparency: left out" in told
    for byte in (0, 0xFF000000):
        write_bmp(path, deep & 0xFFFFFF | byte)
        assert alpha_of(path, capsys) == (None, "")
    write_bmp(path, deep, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 108)
    alpha, told = alpha_of(path, capsys)
    assert (alpha == deep >> 24).all() and not told
    write_bmp(path, deep & 0xFFFFFF, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 108)
    alpha, told = alpha_of(path, capsys)
    assert alpha is None and "would hide all of it" in told


def test_alpha_of_a_tga(tmp_path, capsys):
    path = tmp_path / "x.tga"
    pixels = numpy.random.default_rng(0).integers(1, 256, (5, 6, 4), dtype=numpy.uint8)  # B, G, R, A
    invisible = pixels * numpy.array([1, 1, 1, 0], dtype=numpy.uint8)
    for bits, meaning, kept, words in (
        (8, None, True, ""), (8, 3, True, ""), (0, None, True, "and has some: kept"), (8, 0, False, ""),
        (8, 1, False, ""),
    ):  # fmt: skip
        write_tga(path, pixels, bits, meaning=meaning)
        alpha, told = alpha_of(path, capsys)
        assert (alpha == pixels[:, :, 3]).all() if kept else alpha is None
        assert words in told and bool(words) == bool(told)
    write_tga(path, invisible, 0)
    assert alpha_of(path, capsys) == (None, "")
    write_tga(path, invisible, 8)
    assert "would hide all of it" in alpha_of(path, capsys)[1]
    write_tga(path, numpy.minimum(pixels, pixels[:, :, 3:]), 8, meaning=4)
    seen = pixels_of(open_picture(path).frames[0])
    share = numpy.minimum(pixels, pixels[:, :, 3:])[:, :, 2::-1] / (pixels[:, :, 3:] / 255)
    assert numpy.abs(seen[:, :, :3] - share).max() <= 1
    words = numpy.random.default_rng(1).integers(0, 2**16, (5, 6), dtype=numpy.uint16)
    for bits in (0, 1):
        write_tga(path, words[:, :, None].view(numpy.uint8).reshape(5, 6, 2), bits, depth=16)
        alpha, told = alpha_of(path, capsys)
        assert not told and (alpha is None if not bits else (alpha == numpy.where(words & 0x8000, 255, 0)).all())


def test_an_icon_whose_alpha_is_empty_is_seen(tmp_path, capsys):
    """As of old programs, which wrote 32 bits and no alpha."""
    colours = numpy.random.default_rng(0).integers(0, 2**24, (16, 16), dtype=numpy.uint32)
    write_bmp(tmp_path / "x.dib", colours)
    data = bytearray((tmp_path / "x.dib").read_bytes())
    data[8:12] = struct.pack("<i", 32)  # of an icon the height counts colours and mask
    data += bytes(16 * 4)
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(data), 22)
    (tmp_path / "x.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + data)
    alpha, told = alpha_of(tmp_path / "x.ico", capsys)
    assert alpha is None and "would hide all of it" in told


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [("i1", "signed"), ("i2", "signed"), ("i4", "signed"), ("u4", "32 bits"), ("f2", "16 bits"), ("f4", "32 bits"),
     ("f8", "64 bits"), ("c8", "64 bits")],
)  # fmt: skip
def test_a_tiff_of_numbers_without_black_and_white_is_refused(tmp_path, channels, layout, kind, words):
    """Of three channels they came out black, or the file was called damaged."""
    values = numpy.arange(20 * 30 * channels).reshape(20, 30, channels)
    laid = {"photometric": "rgb", "planarconfig": layout} if channels > 1 else {"photometric": "minisblack"}
    if layout == "separate":
        values = numpy.moveaxis(values, 2, 0)
    values = values.squeeze()
    tifffile.imwrite(tmp_path / "x.tif", (values % 120).astype(kind), **laid)
    with pytest.raises(UserError, match=rf"x\.tif: its (values are|pixels have no agreed range \().*{words}"):
        open_picture(tmp_path / "x.tif")
