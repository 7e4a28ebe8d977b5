"""What is taken of a folder, and what is said of the rest: for every command, since all look through one function."""

import inspect
import struct
import sys
from pathlib import Path

import numpy
import pytest
from PIL import Image, features

from engine.data import read_pairs
from engine.evaluation import EvaluationSettings, evaluate_folder
from gen_samples import cut_samples
from imaging import folders, heif
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.folders import absolute, find_pictures

# Suffix → the kind that Pillow writes there, and whether it keeps every pixel.
KINDS = {
    ".png": ("PNG", True), ".apng": ("PNG", True), ".jpg": ("JPEG", False), ".jpeg": ("JPEG", False),
    ".jpe": ("JPEG", False), ".jfif": ("JPEG", False), ".jp2": ("JPEG2000", True), ".webp": ("WEBP", False),
    ".gif": ("GIF", False), ".tif": ("TIFF", True), ".tiff": ("TIFF", True), ".bmp": ("BMP", True),
    ".dib": ("DIB", True), ".ico": ("ICO", True), ".tga": ("TGA", True), ".pbm": ("PPM", False),
    ".pgm": ("PPM", False), ".ppm": ("PPM", True), ".pcx": ("PCX", True), ".sgi": ("SGI", True),
}  # fmt: skip


def names(folder):
    return [path.relative_to(folder).as_posix() for path in find_pictures(folder)]


def write_psd(path, pixels):
    """The smallest PSD: header, three empty sections, planes that are not compressed."""
    height, width, channels = pixels.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, 3)
    path.write_bytes(header + bytes(12) + bytes(2) + pixels.transpose(2, 0, 1).tobytes())


def test_pictures_are_sorted_and_hidden_ones_left_out(tmp_path, capsys):
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden.png", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.jpg", "b.PNG", "deep/c.webp"]
    assert capsys.readouterr().err == ""
    with pytest.raises(UsageError, match="no such folder"):
        find_pictures(tmp_path / "none")
    with pytest.raises(UsageError, match=r"a\.jpg: is a file; give its folder"):
        find_pictures(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no pictures in this folder$"):
        find_pictures(tmp_path / "empty")


def test_every_kind_of_picture_is_taken_and_read(tmp_path):
    pixels = numpy.full((48, 64, 3), 255, numpy.uint8)
    pixels[:, 20:40] = (200, 30, 60)  # flat colours come through every kind of compression
    expected = {}
    for suffix, (kind, exact) in KINDS.items():
        picture = Image.fromarray(pixels)
        picture = picture.convert({".pbm": "1", ".pgm": "L"}.get(suffix, "RGB"))
        options = {"ICO": {"sizes": [(64, 48)]}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(kind, {})
        picture.save(tmp_path / f"x{suffix}", format=kind, **options)
        expected[f"x{suffix}"] = exact
    if features.check("avif"):
        Image.fromarray(pixels).save(tmp_path / "x.avif", quality=95)
        expected["x.avif"] = False
    write_psd(tmp_path / "x.psd", pixels)
    expected["x.psd"] = True
    assert set(names(tmp_path)) == set(expected)
    for name, exact in expected.items():
        picture = (255 * read_picture(tmp_path / name)[0].permute(1, 2, 0)).round().numpy().astype(int)
        assert picture.shape == pixels.shape, name
        if Path(name).suffix not in (".pbm", ".pgm"):
            away = numpy.abs(picture - pixels)[:, [5, 30, 55]]
            assert away.max() <= (0 if exact else 8), name


def test_what_is_left_out_is_counted_in_one_line_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(heif, "has_reader", lambda: False)
    folders.picture_suffixes.cache_clear()
    for name in (
        "a.png",
        "notes.txt",
        "deep/more.TXT",
        "film.mp4",
        "Makefile",
        "IMG_1.HEIC",
        "sketch.eps",
        "x.\x1b[31m",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert names(tmp_path) == ["a.png"]
    (line,) = capsys.readouterr().err.splitlines()
    for words in ("left out", "2 .txt", "1 .mp4", "1 without a suffix", "1 .heic", "1 .eps", "pip install pillow-heif"):
        assert words in line, line
    assert "\x1b" not in line
    (tmp_path / "a.png").unlink()
    with pytest.raises(UsageError, match=r"no pictures in this folder; left out.* 2 \.txt"):
        find_pictures(tmp_path)
    folders.picture_suffixes.cache_clear()


def test_a_heic_without_a_reader_says_what_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "x.jpg").write_bytes(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(100))  # as phones send them
    with pytest.raises(UserError, match=r"x\.jpg: is HEIC: .*pip install pillow-heif"):
        read_picture(tmp_path / "x.jpg")


def test_a_heic_is_read_where_a_reader_is(tmp_path):
    reader = pytest.importorskip("pillow_heif")
    folders.picture_suffixes.cache_clear()
    pixels = numpy.full((48, 64, 3), 90, numpy.uint8)
    reader.from_pillow(Image.fromarray(pixels)).save(tmp_path / "x.heic", quality=95)
    assert names(tmp_path) == ["x.heic"]
    assert abs(255 * read_picture(tmp_path / "x.heic") - 90).max() < 4


def test_links_that_lead_back_are_named_and_passed(tmp_path, capsys):
    home, outside = tmp_path / "home", tmp_path / "outside"
    for path in (home / "a.png", home / "deep" / "b.png", outside / "c.png", outside / "far" / "d.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    links = {
        "self.png": "self.png", "one.png": "two.png", "two.png": "one.png", "deep/up": "..", "deep/top": str(tmp_path),
        "aunt": "deep", "linked": str(outside), "linked_again": str(outside / "far"),
    }  # fmt: skip
    for name, target in links.items():
        (home / name).symlink_to(target)
    (outside / "back").symlink_to(home)
    (home / "gone.png").symlink_to("nowhere.png")
    # A link that leads nowhere stays, to be named where it cannot be read.
    assert names(home) == ["a.png", "deep/b.png", "gone.png", "linked/c.png", "linked/far/d.png"]
    told = capsys.readouterr().err.splitlines()
    for name in ("self.png", "one.png", "two.png", "deep/up", "deep/top", "aunt", "linked_again", "linked/back"):
        assert sum(f"left out: {home / name}: is a link" in line for line in told) == 1, (name, told)
    assert len(told) == 8


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch, capsys):
    for name in ("a.png", "closed/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    real = Path.iterdir

    def iterdir(self):  # the superuser, who runs tests in containers, may read everything
        if self.name in closed:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    closed = {"closed"}
    assert names(tmp_path) == ["a.png"]
    assert capsys.readouterr().err == f"left out: {tmp_path / 'closed'}: Permission denied\n"
    closed = {tmp_path.name}
    with pytest.raises(UserError, match=f"{tmp_path.name}: Permission denied"):
        find_pictures(tmp_path)


def test_more_folders_in_one_another_than_python_nests_calls(tmp_path):
    deepest = tmp_path.joinpath(*["d"] * 150)
    deepest.mkdir(parents=True)
    (deepest / "a.png").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert find_pictures(tmp_path) == [deepest / "a.png"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_folder_from_the_root_on_keeps_the_names_of_links(place):
    (place / "there" / "deep").mkdir(parents=True)
    (place / "link").symlink_to(place / "there" / "deep")
    expected = {
        "": place, "link": place / "link", str(place / "link"): place / "link", "link/..": place / "there",
        "there/../link": place / "link", "link/../new": place / "there" / "new", "../x": place.parent / "x",
    }  # fmt: skip
    assert {folder: absolute(Path(folder)) for folder in expected} == expected
    assert absolute(Path("../" + "d/" * 4000)).parts[-4000:] == ("d",) * 4000  # as a list of anything may have it


def test_every_command_takes_and_tells_the_same(place, photograph, capsys):
    picture = Image.fromarray((255 * photograph[0].permute(1, 2, 0)).byte().numpy())
    (place / "in").mkdir()
    picture.save(place / "in" / "a.jfif", format="JPEG")
    picture.save(place / "in" / "b.tga")
    (place / "in" / "notes.txt").touch()
    (place / "in" / "loop.png").symlink_to("loop.png")
    assert len(evaluate_folder(place / "in", EvaluationSettings(2))["images"]) == 2
    assert len(read_pairs([place / "in"], 2, False)[0]) == 2
    cut_samples(4, 32, 2, 0, place / "in", place / "samples")
    told = capsys.readouterr().err
    assert told.count("1 .txt") == 3 and told.count("loop.png: is a link that leads to itself") == 3
