"""What files say in words: kept where the result can hold it, rid of what is no longer true, told where it is lost."""

import re
import struct

import numpy
import pytest
import tifffile
from corpus import chunk, planes, psd, to_image
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin

from imaging import profiles, tiff
from imaging.files import open_picture
from imaging.frames import Picture
from imaging.metadata import Words, set_exif, set_xmp
from imaging.saving import save_picture

BASE, INNER, GPS = ExifTags.Base, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
WORDS = {BASE.Make: "Måker", BASE.Artist: "絵", BASE.Copyright: "(c) somebody", BASE.DateTime: "2001:02:03 04:05:06"}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6" exif:PixelXDimension="9" '
    b'xmp:Rating="4"><xmp:Thumbnails>old</xmp:Thumbnails><dc:title>Berg</dc:title></rdf:Description></rdf:RDF>'
    b"</x:xmpmeta>"
)


ASCII = {BASE.Make: "Maker", BASE.Artist: "Somebody"}  # all that Pillow writes in TIFF and AVIF
LENS = "Lens", "Lïnse"


def full_exif(words=WORDS) -> Image.Exif:
    """As from a camera: words, a time and a place; sizes, a turn, notes of the maker that nobody else can read."""
    exif = Image.Exif()
    for tag, value in words.items():
        exif[tag] = value.encode()
    exif[BASE.Orientation] = 6
    exif[BASE.XResolution] = exif[BASE.YResolution] = 300.0
    inner = {BASE.DateTimeOriginal: "1999:01:01 00:00:00", BASE.ExposureTime: 0.004, BASE.ISOSpeedRatings: 200}
    inner[BASE.LensModel] = Words(LENS[words is WORDS].encode().decode("latin-1"))
    exif.get_ifd(INNER).update({**inner, BASE.ExifImageWidth: 13, BASE.ExifImageHeight: 9, BASE.MakerNote: b"secret"})
    exif.get_ifd(GPS).update({ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (47.0, 22.0, 30.0)})
    return exif


def check(exif: Image.Exif, words=WORDS) -> None:
    """What is true is there, and nothing else."""
    assert {tag: exif.get(tag, "").encode("latin-1").decode() for tag in words} == words  # Pillow's reading undone
    inner, place = exif.get_ifd(INNER), exif.get_ifd(GPS)
    assert inner[BASE.DateTimeOriginal] == "1999:01:01 00:00:00" and inner[BASE.ISOSpeedRatings] == 200
    assert inner[BASE.LensModel].encode("latin-1").decode() == LENS[words is WORDS]
    assert float(inner[BASE.ExposureTime]) == pytest.approx(0.004)
    assert [float(part) for part in place[ExifTags.GPS.GPSLatitude]] == [47, 22, 30]
    assert exif.get(BASE.Orientation, 1) == 1
    assert not {BASE.ExifImageWidth, BASE.ExifImageHeight, BASE.MakerNote} & set(inner)
    assert not exif.get_ifd(ExifTags.IFD.IFD1)


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_exif_and_xmp_go_through_every_kind_of_file(tmp_path, dtype, channels, suffix):
    pixels = planes(channels, dtype)
    picture = Picture([to_image(pixels) if dtype == numpy.uint8 else pixels], dpi=(300, 150))
    set_exif(picture, full_exif())
    set_xmp(picture, XMP)
    save_picture(tmp_path / f"x{suffix}", picture)
    if (dtype, channels, suffix) != (numpy.uint16, 2, ".tif"):  # which Pillow cannot open
        with Image.open(tmp_path / f"x{suffix}") as image:
            check(image.getexif())  # as other programs see it
    again = open_picture(tmp_path / f"x{suffix}")
    exif = Image.Exif()
    exif.load(again.exif)
    check(exif)
    assert again.xmp == picture.xmp and b"Berg" in again.xmp and b'xmp:Rating="4"' in again.xmp
    assert not re.search(rb'Orientation="6"|Dimension|Thumbnails', again.xmp)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_what_a_photograph_says_is_read_from_every_kind_of_file(tmp_path, suffix):
    words = ASCII if suffix in (".tif", ".avif") else WORDS
    options = {} if suffix in (".tif", ".png") else {"xmp": XMP}
    if suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    to_image(planes(3)).save(tmp_path / f"x{suffix}", exif=full_exif(words).tobytes(), **options)
    picture = open_picture(tmp_path / f"x{suffix}")
    exif = Image.Exif()
    exif.load(picture.exif)
    check(exif, words)
    assert picture.frames[0].size == (9, 13)  # upright
    assert (b"Berg" in picture.xmp) == (suffix != ".tif")


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
def test_exif_of_a_tiff_beyond_four_gigabytes(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(tiff, "LARGEST", 0)
    pixels = planes(3, dtype)
    picture = Picture([to_image(pixels) if dtype == numpy.uint8 else pixels])
    set_exif(picture, full_exif())
    save_picture(tmp_path / "x.tif", picture)
    assert (tmp_path / "x.tif").read_bytes()[:4] == b"II+\0"
    exif = Image.Exif()
    exif.load(open_picture(tmp_path / "x.tif").exif)
    check(exif)


def test_comments_go_where_they_can(tmp_path, capsys):
    image = to_image(planes(3))
    image.save(tmp_path / "x.jpg", comment="héllo")
    info = PngImagePlugin.PngInfo()
    for key, text in (("Comment", "héllo"), ("parameters", "a prompt " * 200_000), ("Title", "絵")):
        info.add_text(key, text)
    image.save(tmp_path / "x.png", pnginfo=info)
    of_jpeg, of_png = open_picture(tmp_path / "x.jpg"), open_picture(tmp_path / "x.png")
    assert of_jpeg.texts == {"Comment": "héllo"} and len(of_png.texts) == 3
    for suffix in (".jpg", ".gif", ".png"):
        save_picture(tmp_path / f"y{suffix}", of_jpeg)
        assert open_picture(tmp_path / f"y{suffix}").texts == of_jpeg.texts
    save_picture(tmp_path / "y.tif", of_jpeg)
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert file.pages.first.description == "héllo"
    for frame in (of_png.frames[0], planes(3, numpy.uint16)):
        save_picture(tmp_path / "y.png", Picture([frame], texts=of_png.texts))
        assert open_picture(tmp_path / "y.png").texts == of_png.texts
        with Image.open(tmp_path / "y.png") as reopened:  # in a program with Pillow's own limits
            assert reopened.text == of_png.texts
    capsys.readouterr()
    save_picture(tmp_path / "y.jpg", of_png)
    assert "JPEG cannot hold texts (Title, parameters)" in capsys.readouterr().err
    assert open_picture(tmp_path / "y.jpg").texts == {"Comment": "héllo"}
    save_picture(tmp_path / "y.webp", of_jpeg)
    assert "WEBP cannot hold texts (Comment)" in capsys.readouterr().err


def test_what_is_lost_or_too_long_is_told(tmp_path, capsys):
    picture = Picture([to_image(planes(3))])
    set_exif(picture, full_exif())
    set_xmp(picture, XMP)
    save_picture(tmp_path / "x.bmp", picture)
    assert "BMP cannot hold EXIF, XMP" in capsys.readouterr().err
    exif = full_exif()
    exif.get_ifd(INNER)[BASE.UserComment] = bytes(70_000)
    set_exif(picture, exif)
    set_xmp(picture, XMP + b" " * 70_000)
    save_picture(tmp_path / "x.png", picture)
    assert not capsys.readouterr().err
    save_picture(tmp_path / "x.jpg", picture)
    told = capsys.readouterr().err
    assert "EXIF of more than" in told and "XMP of more than" in told and not open_picture(tmp_path / "x.jpg").exif


def test_damaged_words_do_not_refuse_a_picture(tmp_path, capsys):
    whole = full_exif().tobytes()
    for length in range(8, len(whole), 5):
        for broken in (whole[:length], whole[:length] + b"\xff" * (len(whole) - length)):
            to_image(planes(3)).save(tmp_path / "x.png", exif=broken)
            picture = open_picture(tmp_path / "x.png")
            save_picture(tmp_path / "y.png", picture)
            assert picture.frames[0].size in ((13, 9), (9, 13))
    assert "Traceback" not in capsys.readouterr().err


def test_how_pixels_once_lay_is_not_told_on(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", planes(3, numpy.uint16), photometric="rgb")  # with a description of the shape
    assert b"shape" not in open_picture(tmp_path / "x.tif").exif
    to_image(planes(3)).save(tmp_path / "y.tif", tiffinfo={BASE.ImageDescription: "a mountain"})
    assert b"a mountain" in (exif := open_picture(tmp_path / "y.tif").exif) and len(exif) < 100


def test_a_gain_map_is_told(tmp_path, capsys):
    xmp = XMP.replace(b"xmp:Rating", b"hdrgm:Version")
    to_image(planes(3)).save(tmp_path / "x.jpg", xmp=xmp)
    assert not open_picture(tmp_path / "x.jpg").xmp
    assert "HDR gain map: the map is left out" in capsys.readouterr().err


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix, deep", [(".tif", False), (".tif", True), (".png", False), (".jpg", False)])
def test_resolution_turns_with_the_picture(tmp_path, orientation, suffix, deep):
    exif = Image.Exif()
    exif[BASE.Orientation] = orientation
    if deep:
        tifffile.imwrite(
            tmp_path / "x.tif", planes(3, numpy.uint16), photometric="rgb", resolution=(300, 150),
            resolutionunit="inch", extratags=[(274, 3, 1, orientation, True)],
        )  # fmt: skip
    else:
        to_image(planes(3)).save(tmp_path / f"x{suffix}", exif=exif, dpi=(300, 150))
    dpi = open_picture(tmp_path / f"x{suffix}").dpi
    assert dpi == pytest.approx((150, 300) if orientation > 4 else (300, 150), rel=1e-3)


@pytest.mark.parametrize("quality, whole", [(80, False), (89, False), (90, True), (100, True)])
def test_jpeg_keeps_every_pixels_colour_from_quality_90_up(tmp_path, quality, whole):
    stripes = numpy.zeros((32, 48, 3), dtype=numpy.uint8)
    stripes[:, ::2, 0], stripes[:, 1::2, 2] = 230, 230
    save_picture(tmp_path / "x.jpg", Picture([to_image(stripes)]), quality)
    with Image.open(tmp_path / "x.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == (0 if whole else 2)
        error = numpy.abs(numpy.asarray(image).astype(int) - stripes).mean()
    assert error < 8 if whole else error > 40


def with_segment(path, marker: bytes, data: bytes) -> None:
    """Put a segment at the beginning of a JPEG."""
    whole = path.read_bytes()
    path.write_bytes(whole[:2] + marker + (len(data) + 2).to_bytes(2, "big") + data + whole[2:])


def test_words_as_iptc_are_told(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.jpg")
    with_segment(
        tmp_path / "x.jpg", b"\xff\xed", b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x08" + b"\x1c\x02x\0\3abc"
    )
    open_picture(tmp_path / "x.jpg")
    assert capsys.readouterr().err.count("words as IPTC, which are left out") == 1
    words = PngImagePlugin.PngInfo()
    words.add_text("Raw profile type iptc", "iptc\n 3\n616263")
    to_image(planes(3)).save(tmp_path / "x.png", pnginfo=words)
    open_picture(tmp_path / "x.png")
    assert capsys.readouterr().err.count("words as IPTC, which are left out") == 1


def test_what_leads_to_parts_that_are_gone_goes_too(tmp_path, capsys):
    picture = Picture([], "JPEG")
    xmp = b'<rdf:RDF><rdf:Description xmpNote:HasExtendedXMP="AB12" GCamera:MotionPhoto="1" xmp:Rating="4"/></rdf:RDF>'
    set_xmp(picture, xmp)
    assert picture.xmp == b'<rdf:RDF><rdf:Description xmp:Rating="4"/></rdf:RDF>'
    assert picture.remarks == ["is a motion photo: its film is left out"]


def test_a_resolution_that_nobody_stated_is_none(tmp_path):
    exif = Image.Exif()
    exif[BASE.Make] = "maker"
    to_image(planes(3)).save(tmp_path / "x.jpg", exif=exif)
    whole = (tmp_path / "x.jpg").read_bytes()
    start = whole.index(b"\xff\xe0")
    length = int.from_bytes(whole[start + 2 : start + 4], "big")
    (tmp_path / "x.jpg").write_bytes(whole[:start] + whole[start + 2 + length :])  # without JFIF's segment
    with Image.open(tmp_path / "x.jpg") as image:
        assert "jfif" not in image.info
    assert open_picture(tmp_path / "x.jpg").dpi is None
    save_picture(tmp_path / "y.jpg", Picture([to_image(planes(3))], "PNG", [0.0], dpi=(100_000, 100_000)))
    with Image.open(tmp_path / "y.jpg") as image:
        assert image.info.get("dpi", (72, 72)) == (72, 72)


def with_chunks(path, *chunks):
    """A small PNG with further chunks before its pixels."""
    to_image(planes(3)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + b"".join(chunk(*one) for one in chunks) + whole[33:])
    return path


def raw(kind, data):
    """As ImageMagick writes it."""
    digits = re.sub("(.{72})", r"\1\n", data.hex())
    return b"tEXt", f"Raw profile type {kind}\0\n{kind}\n{len(data):8}\n{digits}\n".encode()


def test_texts_of_one_keyword_are_all_kept(tmp_path, capsys):
    words = [(b"tEXt", b"Author\0One"), (b"tEXt", b"Author\0Two"), (b"iTXt", b"Author\0\0\0de\0\0Drei")]
    words += [(b"tEXt", b"Author\0Two"), (b"tEXt", b"Title\0Berg"), (b"tEXt", b"Comment\0a"), (b"tEXt", b"Comment\0b")]
    picture = open_picture(with_chunks(tmp_path / "x.png", *words))
    assert picture.texts == {"Author": "One\nTwo\nDrei", "Title": "Berg", "Comment": "a\nb"}
    save_picture(tmp_path / "y.png", picture)
    assert open_picture(tmp_path / "y.png").texts == picture.texts and not capsys.readouterr().err


@pytest.mark.parametrize(("xmp_as", "exif_as"), [("xmp", "exif"), ("APP1", "exif"), ("xmp", "APP1")])
def test_raw_profiles_are_read(tmp_path, capsys, xmp_as, exif_as):
    segment = b"http://ns.adobe.com/xap/1.0/\0" if xmp_as == "APP1" else b""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = with_chunks(
        tmp_path / "x.png", raw(xmp_as, segment + XMP), raw(exif_as, full_exif().tobytes()), raw("icc", profile),
        raw("iptc", b"8BIM"), raw("other", b"abc"),
    )  # fmt: skip
    picture = open_picture(path)
    told = capsys.readouterr().err
    check(load(picture.exif))
    assert b"Berg" in picture.xmp and picture.profile == profile and not picture.texts
    assert pixels_of_first(picture).shape[:2] == planes(3).shape[1::-1]  # turned
    assert "IPTC" in told and "raw profiles that are left out: other" in told and told.count("\n") == 2
    (tmp_path / "bad.png").write_bytes(
        with_chunks(tmp_path / "x.png", raw("exif", b"no"), raw("xmp", b"no")).read_bytes()
    )
    assert not open_picture(tmp_path / "bad.png").exif


def test_words_of_a_psd(tmp_path, capsys):
    number = iter((1058, 1060, 1028, 1005))
    dpi = struct.pack(">IHHIHH", 300 << 16, 1, 1, 150 << 16, 1, 1)
    parts = full_exif().tobytes()[6:], XMP, b"words ", dpi
    resources = b"".join(
        struct.pack(">4sHHI", b"8BIM", next(number), 0, len(part)) + part + b"\0" * (len(part) % 2) for part in parts
    )
    psd(tmp_path / "x.psd", planes(3), resources)
    picture = open_picture(tmp_path / "x.psd")
    check(load(picture.exif))
    assert b"Berg" in picture.xmp and picture.dpi == (300, 150) and "IPTC" in capsys.readouterr().err
    assert pixels_of_first(picture).shape[:2] == planes(3).shape[:2]  # it is upright already


def test_words_of_a_jpeg_2000(tmp_path):
    """In boxes called uuid, as exiftool writes them; the first may be of another program."""
    to_image(planes(3)).save(tmp_path / "x.jp2")
    assert not open_picture(tmp_path / "x.jp2").exif and not open_picture(tmp_path / "x.jp2").xmp
    parts = b"another program!", profiles.EXIF_BOX + full_exif().tobytes()[6:], profiles.XMP_BOX + XMP
    boxes = [struct.pack(">I4s", 8 + len(part), b"uuid") + part for part in parts]
    whole = (tmp_path / "x.jp2").read_bytes()
    start = whole.index(b"jp2c") - 4  # before the codestream, whose length may be left open
    (tmp_path / "y.jp2").write_bytes(whole[:start] + b"".join(boxes) + whole[start:])
    picture = open_picture(tmp_path / "y.jp2")
    check(load(picture.exif))
    assert b"Berg" in picture.xmp


def test_more_xmp_than_a_segment_takes_is_told(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.jpg", xmp=XMP)
    whole = (tmp_path / "x.jpg").read_bytes()
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 9, 0) + b"<further>"
    (tmp_path / "x.jpg").write_bytes(whole[:2] + struct.pack(">HH", 0xFFE1, len(more) + 2) + more + whole[2:])
    assert b"Berg" in open_picture(tmp_path / "x.jpg").xmp and "only the first part is kept" in capsys.readouterr().err


def test_a_resolution_is_kept_or_told(tmp_path, capsys):
    for kind in ("png", "jpg", "bmp", "tif", "webp"):
        for exif in (b"", load(full_exif().tobytes())):
            picture = Picture([to_image(planes(3))], dpi=(300, 150))
            if exif:
                set_exif(picture, exif)
            save_picture(tmp_path / f"x.{kind}", picture)
            again = open_picture(tmp_path / f"x.{kind}")
            assert again.dpi == pytest.approx((300, 150), abs=0.02), kind
            if exif and kind != "bmp":
                check(load(again.exif))
    capsys.readouterr()
    save_picture(tmp_path / "x.gif", Picture([to_image(planes(3))], "GIF", dpi=(300, 150)))
    assert capsys.readouterr().err == f"{tmp_path / 'x.gif'}: GIF cannot hold its resolution (300 × 150 dpi)\n"


def test_data_of_a_mastering_screen_is_told(tmp_path, capsys):
    open_picture(with_chunks(tmp_path / "x.png", (b"cLLI", bytes(8)), (b"mDCV", bytes(24))))
    assert "what screen its HDR colours are for: left out (mDCV, cLLI)" in capsys.readouterr().err


def load(data):
    exif = Image.Exif()
    exif.load(data)
    return exif


def pixels_of_first(picture):
    return numpy.asarray(picture.frames[0])
