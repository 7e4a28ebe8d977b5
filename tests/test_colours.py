"""What the numbers of a picture mean: profiles made by hand, whose conversion is a formula; CMYK; HDR; gamma."""

import struct
import zlib

import numpy
import pytest
import tifffile
from corpus import chunk, deep_png, planes, psd, to_image
from PIL import Image, ImageCms

from imaging import colours
from imaging.console import UserError
from imaging.files import open_picture, read_picture
from imaging.frames import Picture
from imaging.heif import Properties, read_properties
from imaging.profiles import unread_profile
from imaging.saving import save_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
D50 = (0.9642, 1.0, 0.8249)


def fixed(*values: float) -> bytes:
    """Numbers as a profile has them: 16 bits before the point and 16 behind it."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def make_profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A colour profile of version 2.4 (ICC.1:2001-04, chapter 6)."""
    tags = {b"wtpt": b"XYZ \0\0\0\0" + fixed(*D50)} | tags
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data.ljust(-(-len(data) // 4) * 4, b"\0")
    head = struct.pack(">I4sI4s4s4s12s4s", place + len(body), b"\0" * 4, 0x02400000, kind, space, connection, bytes(12),
                       b"acsp")  # fmt: skip
    return head.ljust(68, b"\0") + fixed(*D50).ljust(60, b"\0") + table + body


LINEAR = b"curv" + bytes(8)  # no entry: values are what they are
COLORANTS = {b"r": (0.4361, 0.2225, 0.0139), b"g": (0.3851, 0.7169, 0.0971), b"b": (0.1431, 0.0606, 0.7141)}


def linear_rgb() -> bytes:
    """sRGB's primaries without its curve."""
    tags = {letter + b"XYZ": b"XYZ \0\0\0\0" + fixed(*xyz) for letter, xyz in COLORANTS.items()}
    return make_profile(b"mntr", b"RGB ", b"XYZ ", tags | {letter + b"TRC": LINEAR for letter in COLORANTS})


def linear_grey() -> bytes:
    return make_profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": LINEAR})


def black_ink_alone() -> bytes:
    """A press whose cyan, magenta and yellow are water: L* is 100 without black ink, 0 with all of it."""
    straight = bytes(range(256))
    grid = b"".join(bytes((0 if place % 2 else 255, 128, 128)) for place in range(16))  # black changes fastest
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return make_profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table + 4 * straight + grid + 3 * straight})


def srgb_curve(linear):
    """IEC 61966-2-1, from light in 0..1 to values in 0..1."""
    return numpy.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def array(picture: Picture) -> numpy.ndarray:
    (frame,) = picture.frames
    return numpy.asarray(frame)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_srgb_converts_by_the_profile_and_only_when_asked(tmp_path, channels, capsys):
    pixels = planes(channels)
    profile = linear_rgb() if channels > 2 else linear_grey()
    to_image(pixels).save(tmp_path / "x.png", icc_profile=profile)
    as_it_is = open_picture(tmp_path / "x.png")
    assert as_it_is.profile == profile and (array(as_it_is) == pixels.squeeze()).all()
    converted = open_picture(tmp_path / "x.png", srgb=True)
    expected = pixels.astype(float)
    count = channels - (channels in (2, 4))
    expected[:, :, :count] = 255 * srgb_curve(expected[:, :, :count] / 255)
    assert converted.profile is None
    assert numpy.abs(array(converted) - expected.squeeze()).max() <= 1
    assert not capsys.readouterr().err


def test_exif_does_not_name_the_old_colours(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 65535, 0x9003: "1999:01:01 00:00:00", 0xA005: {1: "R03"}})
    to_image(planes(3)).save(tmp_path / "x.jpg", icc_profile=linear_rgb(), exif=exif.tobytes())
    for srgb in (False, True):
        exif.load(open_picture(tmp_path / "x.jpg", srgb=srgb).exif)
        assert set(exif.get_ifd(0x8769)) == ({0x9003} if srgb else {0x9003, 0xA001, 0xA005})
        assert exif.get_ifd(0xA005) == ({} if srgb else {1: "R03"})


def test_srgb_leaves_srgb_and_what_has_no_profile(tmp_path, capsys):
    pixels = planes(3)
    to_image(pixels).save(tmp_path / "srgb.png", icc_profile=SRGB)
    to_image(pixels).save(tmp_path / "none.png")
    for name, profile in (("srgb.png", SRGB), ("none.png", None)):
        picture = open_picture(tmp_path / name, srgb=True)
        assert picture.profile == profile and (array(picture) == pixels).all()
    assert not capsys.readouterr().err


def test_srgb_tells_what_it_cannot(tmp_path, capsys):
    deep_png(
        tmp_path / "deep.png", planes(3, numpy.uint16), chunk(b"iCCP", b"linear\0\0" + zlib.compress(linear_rgb()))
    )
    picture = open_picture(tmp_path / "deep.png", srgb=True)
    assert picture.frames[0].mode == "RGB" and "has 8 bits" in capsys.readouterr().err
    to_image(planes(3)).save(tmp_path / "bad.png", icc_profile=linear_rgb()[:200])
    assert open_picture(tmp_path / "bad.png", srgb=True).profile
    assert "damaged: not converted" in capsys.readouterr().err


def test_cmyk_goes_through_its_profile(tmp_path, capsys):
    ink = planes(4, seed=3)
    Image.fromarray(ink, mode="CMYK").save(tmp_path / "ink.tif", icc_profile=black_ink_alone())
    picture = open_picture(tmp_path / "ink.tif")
    lightness = (100 * (1 - ink[:, :, 3] / 255) + 16) / 116
    luminance = numpy.where(lightness > 6 / 29, lightness**3, 3 * (6 / 29) ** 2 * (lightness - 4 / 29))  # CIE 1976
    expected = 255 * srgb_curve(luminance)
    assert picture.profile is None
    assert numpy.abs(array(picture) - expected[:, :, None]).max() <= 3
    assert capsys.readouterr().err == f"{tmp_path / 'ink.tif'}: CMYK becomes sRGB by its colour profile\n"
    read_picture(tmp_path / "ink.tif")  # training sees the same
    assert "CMYK becomes sRGB by its colour profile" in capsys.readouterr().err
    Image.fromarray(ink, mode="CMYK").save(tmp_path / "bad.tif", icc_profile=black_ink_alone()[:200])
    expected = Image.fromarray(ink, mode="CMYK").convert("RGB")
    assert (array(open_picture(tmp_path / "bad.tif")) == numpy.asarray(expected)).all()
    assert "damaged" in capsys.readouterr().err


def test_a_profile_of_more_than_a_megabyte_survives(tmp_path):
    generator = numpy.random.default_rng(0)
    profile = make_profile(b"mntr", b"RGB ", b"XYZ ", {b"priv": generator.bytes(1_500_000)})
    to_image(planes(3)).save(tmp_path / "x.jpg", icc_profile=profile)
    save_picture(tmp_path / "x.png", open_picture(tmp_path / "x.jpg"))
    assert open_picture(tmp_path / "x.png").profile == profile


PQ = b"\x09\x10\x00\x01"  # BT.2020, PQ


@pytest.mark.parametrize("dtype", [numpy.uint8, numpy.uint16])
def test_hdr_is_told_and_stays_hdr_in_png(tmp_path, capsys, dtype):
    coded = chunk(b"cICP", PQ)
    pixels = planes(3, dtype)
    if dtype == numpy.uint16:
        deep_png(tmp_path / "x.png", pixels, coded)
    else:
        to_image(pixels).save(tmp_path / "x.png")
        whole = (tmp_path / "x.png").read_bytes()
        (tmp_path / "x.png").write_bytes(whole[:33] + coded + whole[33:])
    picture = open_picture(tmp_path / "x.png")
    assert "HDR (PQ, BT.2020)" in capsys.readouterr().err
    save_picture(tmp_path / "y.png", picture)
    assert not capsys.readouterr().err
    assert coded in (tmp_path / "y.png").read_bytes()
    assert (array(open_picture(tmp_path / "y.png")) == pixels).all()
    save_picture(tmp_path / "y.jpg", picture)
    assert "JPEG cannot hold" in (told := capsys.readouterr().err) and "(PQ, BT.2020)" in told
    open_picture(tmp_path / "x.png", srgb=True)
    assert "cannot be converted to sRGB" in capsys.readouterr().err


def test_a_profile_of_hdr_is_told_and_travels(tmp_path, capsys):
    tags = {b"priv": b"else" + bytes(8), b"cicp": b"cicp" + bytes(4) + PQ}
    profile = make_profile(b"mntr", b"RGB ", b"XYZ ", tags)
    to_image(planes(3)).save(tmp_path / "x.jpg", icc_profile=profile)
    assert open_picture(tmp_path / "x.jpg").profile == profile
    assert "HDR (PQ, BT.2020)" in capsys.readouterr().err
    for length in range(len(profile)):
        colours.cicp_of_profile(profile[:length])
    assert colours.cicp_of_profile(SRGB) == colours.cicp_of_profile(None) == {}


def test_of_a_png_what_is_srgb_by_another_name_is_not_told():
    chromaticities = struct.pack(">8I", *(round(100_000 * value) for value in colours.SRGB_CHROMATICITIES))
    gamma = {b"gAMA": struct.pack(">I", 45455), b"cHRM": chromaticities}
    assert colours.png_coding(gamma) == {}
    linear = {b"gAMA": struct.pack(">I", 100_000)}
    assert colours.png_coding(gamma | linear) == linear
    assert colours.png_coding(linear | {b"sRGB": b""}) == colours.png_coding(linear | {b"iCCP": b""}) == {}
    assert colours.png_coding(linear | {b"cICP": PQ}) == {b"cICP": PQ}
    assert colours.png_coding({b"cICP": b"\x01\x0d\x00\x01"}) == {}


def test_cicp_decides_over_a_profile_and_says_the_range_too(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.png", icc_profile=make_profile(b"mntr", b"RGB ", b"XYZ ", {}))
    whole = (tmp_path / "x.png").read_bytes()
    assert open_picture(tmp_path / "x.png").profile
    for cicp, kept in ((b"\x01\x0d\x00\x01", False), (b"\x01\x01\x00\x00", True)):
        (tmp_path / "x.png").write_bytes(whole[:33] + chunk(b"cICP", cicp) + whole[33:])
        picture = open_picture(tmp_path / "x.png")
        assert picture.profile is None and picture.coding == ({b"cICP": cicp} if kept else {})


def test_a_gain_map_is_told_by_its_iso_marker_too(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.jpg")
    whole = (tmp_path / "x.jpg").read_bytes()
    marker = b"urn:iso:std:iso:ts:21496:-1\0" + bytes(4)
    (tmp_path / "x.jpg").write_bytes(whole[:2] + b"\xff\xe2" + struct.pack(">H", len(marker) + 2) + marker + whole[2:])
    open_picture(tmp_path / "x.jpg")
    assert "an HDR gain map" in capsys.readouterr().err


def test_channels_of_tiff_that_are_left_out_are_told_and_signed_ones_refused(tmp_path, capsys):
    pixels = planes(4)
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=["unspecified"])
    assert (array(open_picture(tmp_path / "x.tif")) == pixels[:, :, :3]).all()
    assert "has 4 channels, of which 3 are taken" in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "x.tif", pixels[:, :, 0].astype(numpy.int8))
    with pytest.raises(UserError, match="its values are signed"):
        open_picture(tmp_path / "x.tif")


def test_gamma_travels_from_png_to_png(tmp_path, capsys):
    to_image(planes(3)).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    linear = chunk(b"gAMA", struct.pack(">I", 100_000))
    (tmp_path / "x.png").write_bytes(whole[:33] + linear + whole[33:])
    save_picture(tmp_path / "y.png", open_picture(tmp_path / "x.png"))
    assert linear in (tmp_path / "y.png").read_bytes() and not capsys.readouterr().err
    save_picture(tmp_path / "y.webp", open_picture(tmp_path / "x.png"))
    assert "WEBP cannot hold" in capsys.readouterr().err


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def test_what_avif_says_of_depth_and_colours():
    nclx = box(b"colr", b"nclx", struct.pack(">3HB", 9, 16, 9, 128))
    pixi = box(b"pixi", bytes(4), bytes((3, 10, 10, 10)))
    twelve = box(b"av1C", bytes((0x81, 0, 0x60, 0)))

    def file(*properties: bytes) -> bytes:
        meta = box(b"meta", bytes(4), box(b"hdlr", bytes(24)), box(b"iprp", box(b"ipco", *properties)))
        return box(b"ftyp", b"avifmif1") + meta + box(b"mdat", bytes(40))

    assert read_properties(file(nclx, pixi)) == Properties(10, 9, 16)
    assert read_properties(file(pixi, twelve)) == Properties(12, 2, 2)
    assert read_properties(file()) == read_properties(b"") == Properties(8, 2, 2)
    for length in range(len(file(nclx, pixi))):
        read_properties(file(nclx, pixi)[:length])


def test_an_ordinary_avif_is_read_without_a_word(tmp_path, capsys):
    to_image(numpy.full((16, 16, 3), 90, numpy.uint8)).save(tmp_path / "x.avif", quality=100)
    picture = open_picture(tmp_path / "x.avif")
    assert not picture.coding and not capsys.readouterr().err
    assert numpy.abs(array(picture).astype(int) - 90).max() <= 2


def test_profiles_of_jpeg_2000_travel(tmp_path):
    profile = make_profile(b"mntr", b"RGB ", b"XYZ ", {})
    to_image(planes(3)).save(tmp_path / "x.jp2")
    assert open_picture(tmp_path / "x.jp2").profile is None
    whole = (tmp_path / "x.jp2").read_bytes()
    header, colr = whole.index(b"jp2h") - 4, whole.index(b"colr") - 4
    old = int.from_bytes(whole[colr : colr + 4], "big")
    new = struct.pack(">I", 11 + len(profile)) + b"colr\2\0\0" + profile
    length = int.from_bytes(whole[header : header + 4], "big") + len(new) - old
    parts = whole[:header], struct.pack(">I", length), whole[header + 4 : colr], new, whole[colr + old :]
    (tmp_path / "x.jp2").write_bytes(b"".join(parts))
    picture = open_picture(tmp_path / "x.jp2")
    assert picture.profile == profile and (array(picture) == planes(3)).all()
    for end in range(0, len(new), 7):  # whatever is damaged is no reason to stop
        (tmp_path / "y.jp2").write_bytes(b"".join(parts)[: colr + end])
        assert unread_profile(tmp_path / "y.jp2", "JPEG2000") is None


def test_profiles_of_bmp_travel(tmp_path):
    profile = make_profile(b"mntr", b"RGB ", b"XYZ ", {})
    pixels = planes(3, width=12)
    rows = pixels[::-1, :, ::-1].tobytes()
    masks, place = bytes(16), b"DEBM" + bytes(36 + 12)
    header = struct.pack("<IiiHHIIiiII", 124, 12, len(pixels), 1, 24, 0, len(rows), 0, 0, 0, 0) + masks + place
    header += struct.pack("<IIII", 0, 124 + len(rows), len(profile), 0)
    assert len(header) == 124
    start = struct.pack("<2sIII", b"BM", 138 + len(rows) + len(profile), 0, 138)
    (tmp_path / "x.bmp").write_bytes(start + header + rows + profile)
    picture = open_picture(tmp_path / "x.bmp")
    assert picture.profile == profile and (array(picture) == pixels).all()


def test_a_saved_selection_is_no_transparency(tmp_path, capsys):
    psd(tmp_path / "x.psd", planes(4))
    picture = open_picture(tmp_path / "x.psd")
    assert (array(picture) == planes(4)[:, :, :3]).all()
    assert "a saved selection, which is left out" in capsys.readouterr().err
