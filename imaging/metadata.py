"""What files say in words, EXIF, XMP and comments: read, rid of what is no longer true, and written again.

Thumbnails and sizes are those of the old picture, a maker's notes cannot be moved, and the pixels are upright now.
A PNG's tIME says when those of the old picture were changed.
"""

import re
import struct
from contextlib import suppress
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imaging.frames import Picture
from imaging.png import read_texts
from imaging.profiles import EXIF_BOX, XMP_BOX, box_of_jpeg2000

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005  # where EXIF's inner directories hang
ORIENTATION, XMP, DESCRIPTION, COLOUR_SPACE = 0x0112, 700, 0x010E, 0xA001
# Of the outer directory only what describes the photograph: in a TIFF all others say how the pixels lie.
DESCRIBING = {
    0x010D, DESCRIPTION, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x8298,  # name … maker … copyright
    0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F,  # the same for Windows
}  # fmt: skip
MOST_DPI = 65535  # that a JPEG can state
UNTRUE = {0xA002, 0xA003, 0x927C}  # width, height, the maker's notes
XMP_KEY = "XML:com.adobe.xmp"  # of PNG
ACROSS, DOWN, UNIT = 0x011A, 0x011B, 0x0128  # the resolution


class Words(str):
    """A text of EXIF, which Pillow reads as Latin-1 whatever it is and writes as ASCII: written as the bytes it was."""

    def encode(self, *_: Any) -> bytes:
        return str.encode(self, "latin-1", "replace")


def as_it_was(directory: dict[int, Any]) -> dict[int, Any]:
    """A directory of EXIF whose texts will be written byte by byte as they were read."""
    return {tag: Words(value) if isinstance(value, str) else value for tag, value in directory.items()}


def set_words(picture: Picture, image: Image.Image, path) -> None:
    """Keep XMP and comments of a file that Pillow has opened and loaded."""
    info = image.info
    segments = b"".join(data for name, data in getattr(image, "applist", []) if name in ("APP1", "APP13"))
    if EXTENDED_XMP in segments:
        picture.remarks.append("has more XMP than one segment of a JPEG takes: only the first part is kept")
    if IPTC_WORDS in segments or _resource(image, 1028):
        picture.remarks.append(IPTC)
    set_xmp(picture, info.get("xmp") or _resource(image, 1060) or _box(image, XMP_BOX))
    if image.format == "PNG":
        _set_texts(picture, read_texts(path))
    elif comment := info.get("comment"):
        picture.texts = {"Comment": _decoded(comment)}


def _set_texts(picture: Picture, texts: dict[str, str]) -> None:
    """Keep the texts of a PNG, and what ImageMagick and others write as such."""
    generic = raw_profile(texts, "APP1")
    if not picture.xmp:
        set_xmp(picture, raw_profile(texts, "xmp") or generic.removeprefix(XMP_SEGMENT))
    if not picture.profile and not picture.coding:
        picture.profile = raw_profile(texts, "icc", "icm") or None
    raw = {key.removeprefix(RAW) for key in texts if key.startswith(RAW)}
    if "iptc" in raw or IPTC_WORDS in raw_profile(texts, "8bim"):
        picture.remarks.append(IPTC)
    if unknown := raw - {"exif", "APP1", "xmp", "icc", "icm", "iptc", "8bim"}:
        picture.remarks.append(f"has raw profiles that are left out: {', '.join(sorted(unknown))}")
    picture.texts = {key: text for key, text in texts.items() if key != XMP_KEY and not key.startswith(RAW)}


def raw_profile(texts: dict[str, str], *kinds: str) -> bytes:
    """What stands under "Raw profile type KIND": a line each for its name and length, and hexadecimal digits."""
    for kind in kinds:
        with suppress(ValueError):
            if data := bytes.fromhex("".join(texts.get(RAW + kind, "").split("\n")[3:])):
                return data
    return b""


def _resource(image: Image.Image, number: int) -> bytes:
    """Of a PSD what it holds under that number; of other kinds nothing."""
    return next((data for one, _, data in getattr(image, "resources", []) if one == number), b"")


def _box(image: Image.Image, kind: bytes) -> bytes:
    """Of a JPEG 2000 what its box of that kind holds; of other kinds nothing."""
    return box_of_jpeg2000(getattr(image, "filename", ""), kind) if image.format == "JPEG2000" else b""


def exif_of(image: Image.Image) -> Image.Exif:
    """The EXIF of a file, empty where it is damaged: that is no reason to refuse the picture."""
    try:
        exif = image.getexif()
        data = _resource(image, 1058) or _box(image, EXIF_BOX)
        if image.format == "PNG" and not len(exif):
            data = raw_profile(getattr(image, "text", {}), "exif", "APP1")
        if data[:6] == b"Exif\0\0" or data[:2] in (b"II", b"MM"):
            exif = Image.Exif()
            exif.load(data)
        exif.get(ORIENTATION)
        return exif
    except Exception:
        return Image.Exif()


def dpi_of(image: Image.Image, exif: Image.Exif) -> Any:
    """The resolution that a file states, in whatever way; to be checked."""
    if "dpi" in image.info:
        return image.info["dpi"]
    if len(data := _resource(image, 1005)) == 16:
        across, down = struct.unpack(">I4xI4x", data)
        return across / 65536, down / 65536
    unit = {2: 1, 3: 2.54}.get(exif.get(UNIT, 2))  # inches, centimetres
    try:
        return tuple(unit * float(exif[tag]) for tag in (ACROSS, DOWN)) if unit else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def orientation_of(exif: Image.Exif) -> int:
    """From 1, upright, to 8."""
    orientation = exif.get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def checked_dpi(dpi: Any, orientation: int) -> tuple[float, float] | None:
    """A resolution across and down in the upright picture; None where it makes no sense, as the 1 that means "none"."""
    try:
        across, down = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (1 < across < 1e6 and 1 < down < 1e6):
        return None
    return (down, across) if orientation > 4 else (across, down)


def set_exif(picture: Picture, exif: Image.Exif) -> None:
    """Keep of EXIF what is still true; that it cannot be kept is a remark."""
    try:
        picture.exif = _still_true(exif)
    except Exception:  # nearly anything, when it is damaged
        picture.remarks.append("its EXIF is damaged and is dropped")


def _still_true(exif: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag, value in as_it_was({tag: exif[tag] for tag in DESCRIBING & set(exif)}).items():
        kept[tag] = value
    if str(kept.get(DESCRIPTION, "")).startswith(('{"shape"', "ImageJ=", "<?xml")):  # how the pixels lie, once more
        del kept[DESCRIPTION]
    empty = not len(kept)
    for pointer in (EXIF, GPS):
        inner = {tag: value for tag, value in exif.get_ifd(pointer).items() if tag not in UNTRUE}
        if pointer == EXIF and INTEROPERABILITY in inner:
            inner[INTEROPERABILITY] = exif.get_ifd(INTEROPERABILITY)
        if inner:
            kept.get_ifd(pointer).update(as_it_was(inner))
            empty = False
    if empty:
        return b""
    kept[ORIENTATION] = 1
    return kept.tobytes()


def forget_colour_space(picture: Picture) -> None:
    """Drop from EXIF what it says of colours, once these are others."""
    exif = Image.Exif()
    exif.load(picture.exif)
    if picture.exif:
        inner = exif.get_ifd(EXIF)
        for tag in {COLOUR_SPACE, INTEROPERABILITY} & set(inner):
            del inner[tag]
        set_exif(picture, exif)


LONGEST = 65533 - len(b"http://ns.adobe.com/xap/1.0/\0")  # bytes in a segment of a JPEG
RAW = "Raw profile type "
XMP_SEGMENT, EXTENDED_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
IPTC_WORDS = b"8BIM\x04\x04"  # where they begin among Photoshop's
IPTC = "has words as IPTC, which are left out"
GAIN_MAP = "is a picture with an HDR gain map: the map is left out"


def set_xmp(picture: Picture, xmp: Any) -> None:
    """Keep of XMP what is still true."""
    if not isinstance(xmp, bytes) or b"rdf:RDF" not in xmp:
        return
    if b"hdrgm:" in xmp:  # it says where in the file to look for what makes an HDR picture of this one
        if GAIN_MAP not in picture.remarks:
            picture.remarks.append(GAIN_MAP)
        return
    if b"MotionPhoto" in xmp or b"MicroVideo" in xmp:
        picture.remarks.append("is a motion photo: its film is left out")
    for name in (
        rb"exif:PixelXDimension", rb"exif:PixelYDimension", rb"tiff:ImageWidth", rb"tiff:ImageLength",
        rb"xmpNote:HasExtendedXMP", rb"GCamera:Mo\w+", rb"GCamera:Micro\w+",
    ):  # fmt: skip
        xmp = re.sub(rb"<%s>[^<]*</%s>|\s%s\s*=\s*(\"[^\"]*\"|'[^']*')" % (name, name, name), b"", xmp)
    xmp = re.sub(rb"<xmp:Thumbnails>.*?</xmp:Thumbnails>", b"", xmp, flags=re.DOTALL)
    picture.xmp = re.sub(rb"(tiff:Orientation(?:>|\s*=\s*[\"']))[2-8]", rb"\g<1>1", xmp)


def _decoded(comment: bytes | str) -> str:
    if isinstance(comment, str):
        return comment
    comment = comment.rstrip(b"\0")
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def fit_metadata(picture: Picture, kind: str) -> tuple[dict[str, Any], list[str]]:
    """What of EXIF, XMP and texts a kind of file can hold, as fields of Picture, and what is lost, in words."""
    holds = kind in ("PNG", "JPEG", "WEBP", "TIFF")
    room = LONGEST if kind == "JPEG" else 2**31
    lost: list[str] = []
    fields: dict[str, Any] = {"exif": picture.exif, "xmp": picture.xmp, "texts": picture.texts}
    if picture.dpi and kind == "WEBP":
        fields["exif"] = _with_dpi(picture.exif, picture.dpi)
    elif picture.dpi and (kind == "GIF" or (kind == "JPEG" and max(picture.dpi) > MOST_DPI)):
        lost.append(f"its resolution ({' × '.join(f'{one:g}' for one in picture.dpi)} dpi)")
        fields["dpi"] = None
    for name in ("exif", "xmp"):
        if fields[name] and not (holds and len(fields[name]) <= room):
            lost.append(f"{name.upper()}{f' of more than {room} bytes' if holds else ''}")
            fields[name] = b""
    if kind != "PNG":
        comment = picture.texts.get("Comment", "")
        holds = kind in ("JPEG", "GIF", "TIFF") and len(comment.encode()) <= room
        fields["texts"] = {"Comment": comment} if comment and holds else {}
        if names := sorted(picture.texts.keys() - fields["texts"].keys()):
            lost.append(f"texts ({', '.join(names)})")
    return fields, lost


def _with_dpi(data: bytes, dpi: tuple[float, float]) -> bytes:
    """EXIF with a resolution, which has no other place in a WebP."""
    exif = Image.Exif()
    exif.load(data)
    words = as_it_was({tag: exif[tag] for tag in exif if tag not in (EXIF, GPS)})
    for tag, value in {**words, ACROSS: dpi[0], DOWN: dpi[1], UNIT: 2}.items():
        exif[tag] = value
    for pointer in (EXIF, GPS):
        if inner := exif.get_ifd(pointer):
            exif.get_ifd(pointer).update(as_it_was(dict(inner)))
    return exif.tobytes()


def pillow_options(picture: Picture, kind: str) -> dict[str, Any]:
    """The arguments of Pillow's `save` for a picture that `fit_metadata` has fitted to that kind of file."""
    options: dict[str, Any] = {"exif": picture.exif, "xmp": picture.xmp}
    options = {name: value for name, value in options.items() if value and kind in ("PNG", "JPEG", "WEBP")}
    if kind == "PNG":
        options["pnginfo"] = _png_info(picture)
        options.pop("xmp", None)
    elif comment := picture.texts.get("Comment"):
        options["comment"] = comment.encode()
    return options


def _png_info(picture: Picture) -> PngInfo:
    info = PngInfo()
    for name, data in picture.coding.items():
        info.add(name, data)
    if picture.xmp:
        info.add_itxt(XMP_KEY, picture.xmp.decode("utf-8", "replace"))
    for key, text in picture.texts.items():  # not compressed: what is long and packed, many programs refuse
        info.add_text(key, text)
    return info
