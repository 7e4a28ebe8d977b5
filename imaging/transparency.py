"""Transparency where Pillow and the file do not agree: BMP, TGA and icons.

    image, remark = true_alpha(image, path)

BMP: "Bitmap Header Types" in Microsoft's documentation. TGA: Truevision TGA File Format Specification 2.0.
"""

import struct
from pathlib import Path
from typing import cast

import numpy
from PIL import Image
from PIL.ImageFile import ImageFile

from imaging.depth import undo_multiplication

KINDS = ("BMP", "DIB", "TGA", "ICO", "CUR")
BITFIELDS = 3  # of BMP: masks say where the colours are
NO_ALPHA, PREMULTIPLIED = (0, 1), 4  # of TGA's attributes type
FOOTER, EXTENSION = 26, 494  # bytes of TGA's footer, and before the attributes type in its extension area


def true_alpha(image: ImageFile, path) -> tuple[Image.Image, str]:
    """A loaded image of one of these kinds with the transparency that its file says, and what must be told of it."""
    fitted: Image.Image = image
    remark = ""
    if image.format == "TGA":
        fitted, remark = _of_tga(image, path)
    elif image.format in ("BMP", "DIB") and image.mode == "RGB":
        fitted, remark = _of_bmp(image, path)
    if fitted.mode in ("RGBA", "LA") and fitted.getchannel("A").getextrema() == (0, 0):  # as icons without any have it
        return fitted.convert(fitted.mode[:-1]), "its transparency would hide all of it, and is left out"
    return fitted, remark


def _of_bmp(image: ImageFile, path) -> tuple[Image.Image, str]:
    """With the alpha that masks name in 16 bits, which Pillow leaves out; what no mask names is told if it varies."""
    data = Path(path).read_bytes()
    start = 14 if data[:2] == b"BM" else 0
    size, compression = struct.unpack_from("<I12xI", data, start)
    (bits,) = struct.unpack_from("<H", data, start + 14)
    if size < 40 or bits not in (16, 32):
        return image, ""
    with Image.open(path) as again:  # of a loaded image it is forgotten
        _, _, offset, arguments = again.tile[0]
    _, stride, direction = cast("tuple[str, int, int]", arguments)
    masks = struct.unpack_from("<4I", data, start + 40) if compression == BITFIELDS else (0x7C00, 0x3E0, 0x1F, 0)
    if bits == 32 and compression != BITFIELDS:
        masks = 0xFF0000, 0xFF00, 0xFF, 0
    named = masks[3] if size >= 56 else 0
    mask = named or ~(masks[0] | masks[1] | masks[2]) & (2**bits - 1)
    if not mask:
        return image, ""
    numbers = numpy.frombuffer(data, f"<u{bits // 8}", stride * image.height // (bits // 8), offset)
    numbers = numbers.reshape(image.height, -1)[::direction, : image.width] & mask
    if not named:
        varies = numbers.min() != numbers.max()
        return image, "has bits beside its colours, to some programs transparency: left out" if varies else ""
    lowest = mask & -mask
    alpha = (numbers.astype(numpy.float64) / lowest * 255 / (mask // lowest)).round().astype(numpy.uint8)
    fitted = image.copy()
    fitted.putalpha(Image.fromarray(alpha))
    return fitted, ""


def _of_tga(image: ImageFile, path) -> tuple[Image.Image, str]:
    """As its header and its extension area, where there is one, say; Pillow reads neither."""
    data = Path(path).read_bytes()
    bits, depth = data[17] & 15, data[7] if data[1] else data[16]
    if not image.has_transparency_data:
        return image, ""
    fitted = image if image.mode == "LA" else image.convert("RGBA")
    alpha = fitted.getchannel("A")
    opaque = fitted.convert(fitted.mode[:-1])
    if depth == 16 and image.mode != "LA":  # one bit: set where the pixel is seen, but to Pillow where it is not
        fitted.putalpha(alpha.point(lambda value: 255 - value))
        return (fitted if bits else opaque), ""
    meaning = None
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        (place,) = struct.unpack_from("<I", data, len(data) - FOOTER)
        meaning = data[place + EXTENSION] if 0 < place < len(data) - EXTENSION else None
    if meaning in NO_ALPHA or (not bits and len(set(alpha.tobytes())) == 1):
        return opaque, ""
    if meaning == PREMULTIPLIED:
        return Image.fromarray(undo_multiplication(numpy.asarray(fitted))), ""
    return fitted, "" if bits else "says that it has no transparency, and has some: kept"
