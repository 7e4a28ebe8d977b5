"""Pixels of more than 8 bits in several channels, which Pillow opens and would give with 8.

    pixels = deep_pixels(image, path)       # (H, W, channels) of uint16, or None

Where that is impossible, `lost_depth` says in words what is lost. TIFF has a room of its own: imaging/tiff.py.
"""

import re
import sys
from pathlib import Path

import numpy
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from imaging.console import UserError
from imaging.heif import read_properties

RAW = re.compile(r"(L|LA|RGB|RGBA|RGBX|RGBa|CMYK);16([BLN])")  # Pillow's names of how 16 bits lie in a file
NATIVE = "L" if sys.byteorder == "little" else "B"
SIGNED, FLOATS = 2, (3, 5, 6)  # TIFF's SampleFormat: whole numbers, fractions and complex numbers of both
ENDED = "its pixels end too early"
AGREED = ("TIFF", "PNG", "PPM", "JPEG2000")  # kinds whose whole numbers run from black to white


def check_samples(form: int, bits: int) -> None:
    """Raise UserError for samples of a TIFF that have no black and white: `form` is what its tag SampleFormat says."""
    if form == SIGNED:
        raise UserError("its values are signed: save it with values from 0 up")
    if form in FLOATS or bits > 16:
        raise UserError(f"its pixels have no agreed range ({bits} bits): save it with 8 or 16 bits")


def raw_mode(image: ImageFile) -> str:
    """How the pixels of an image that is not loaded yet lie in its file, in Pillow's words."""
    if not image.tile:
        return ""
    codec, _, _, arguments = image.tile[0]
    if codec == "SGI16":
        return f"{image.mode};16B"
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def deep_pixels(image: ImageFile, path) -> numpy.ndarray | None:
    """The pixels of an image that is not loaded yet, as they lie in the file, if they have 16 bits and can be had."""
    raw = RAW.fullmatch(raw_mode(image))
    if image.format == "PPM" and image.mode == "RGB":
        return _deep_ppm(image, path)
    if not raw or image.format not in ("PNG", "TIFF") or raw[1] not in ("LA", "RGB", "RGBA", "RGBa"):
        return None
    pixels = _both_bytes(path, raw[1], raw[2])
    key = image.info.get("transparency")
    if image.format == "PNG" and isinstance(key, tuple):  # a colour that is not there
        alpha = numpy.where((pixels == key).all(axis=2), 0, 65535).astype(numpy.uint16)
        pixels = numpy.dstack((pixels, alpha))
    return undo_multiplication(pixels) if raw[1] == "RGBa" else pixels


def _both_bytes(path, mode: str, order: str) -> numpy.ndarray:
    """16-bit pixels by two readings: Pillow keeps the high bytes, and told the other byte order it keeps the low ones.

    What is packed in the file, LZW or PNG's filters, interlaced or not, is thus undone by Pillow. Grey with alpha has
    four bytes a pixel: all come at once as RGBA of 8 bits.
    """
    if mode == "LA":
        four = _read_as(path, "RGBA").astype(numpy.uint16)
        return four[:, :, ::2] << 8 | four[:, :, 1::2]
    mode = mode.upper()  # RGBa would be divided by its alpha
    other = {"B": "L", "L": "B", "N": "B" if NATIVE == "L" else "L"}[order]
    high, low = (_read_as(path, f"{mode};16{letter}") for letter in (order, other))
    return high.astype(numpy.uint16) << 8 | low


def _read_as(path, raw: str) -> numpy.ndarray:
    """The bytes of a picture's pixels, unpacked as if they lay in the file as `raw` says."""
    with Image.open(path) as image:
        image.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in image.tile
        ]
        image.load()
        return numpy.asarray(image)


def undo_multiplication(pixels: numpy.ndarray) -> numpy.ndarray:
    """Colours, uint8 or uint16, that were multiplied by their alpha, the last channel, as they were before."""
    peak = numpy.iinfo(pixels.dtype).max
    opacity = numpy.maximum(pixels[:, :, -1:], 1) / numpy.float32(peak)
    colours = (pixels[:, :, :-1] / opacity).round().clip(0, peak).astype(pixels.dtype)
    return numpy.dstack((colours, pixels[:, :, -1:]))


def scaled(pixels: numpy.ndarray, peak: int) -> numpy.ndarray:
    """Whole numbers from 0 to `peak` on the scale of uint16."""
    if peak == 65535:
        return pixels.astype(numpy.uint16)
    return ((pixels.clip(0, peak).astype(numpy.uint32) * 65535 + peak // 2) // peak).astype(numpy.uint16)


def _deep_ppm(image: ImageFile, path) -> numpy.ndarray | None:
    """A PPM whose values go beyond 255, as two bytes each or as written numbers; None for another."""
    codec, _, offset, arguments = image.tile[0]
    peak = int(arguments[1]) if isinstance(arguments, tuple) else 255
    if peak < 256:
        return None
    (width, height), count = image.size, 3 * image.size[0] * image.size[1]
    data = Path(path).read_bytes()[offset:]
    if codec == "ppm_plain":
        words = re.sub(rb"#[^\r\n]*", b"", data).split(maxsplit=count)[:count]
        values = numpy.array(words, dtype=numpy.int64)
    else:
        values = numpy.frombuffer(data[: 2 * count], ">u2")
    if len(values) < count:
        raise OSError(ENDED)
    if values.min() < 0:
        raise OSError("a value is negative")
    return scaled(values.reshape(height, width, 3), peak)


def deep_grey(image: ImageFile, path) -> numpy.ndarray:
    """16-bit grey of a loaded image, (H, W, 1), or with alpha (H, W, 2) where a grey value is said to be transparent.

    Raises UserError where nobody has agreed on what is white.
    """
    if image.format not in AGREED:
        raise UserError("its pixels have no agreed range (16 bits of measurements): save it as a PNG or TIFF")
    grey = numpy.asarray(image).clip(0, 65535).astype(numpy.uint16)
    if isinstance(image, TiffImageFile):
        tags = image.tag_v2
        (bits, *_), photometric = tags.get(258, (16,)), tags.get(262)
        grey = scaled(grey, 2**bits - 1) if 8 < bits < 16 else grey  # scanners and microscopes give 10, 12 or 14
        grey = 65535 - grey if photometric == 0 else grey  # white is zero
    if image.format == "JPEG2000" and 8 < (bits := _jpeg2000_bits(path)) < 16:
        grey = scaled(grey >> (16 - bits), 2**bits - 1)  # Pillow shifts them up
    if "transparency" in image.info:
        alpha = numpy.where(grey == image.info["transparency"], 0, 65535).astype(numpy.uint16)
        return numpy.stack((grey, alpha), axis=2)
    return grey[:, :, None]


def _jpeg2000_bits(path) -> int:
    """Bits of the first channel, from the SIZ segment with which a code stream begins (ISO/IEC 15444-1, A.5.1)."""
    with open(path, "rb") as file:
        head = file.read(100_000)
    place = head.find(b"\xff\x4f\xff\x51")
    return (head[place + 42] & 127) + 1 if 0 <= place < len(head) - 42 else 8


def lost_depth(image: ImageFile, path, is_animation: bool) -> str:
    """What Pillow loses of an image that is not loaded yet, in words; empty if nothing."""
    raw = raw_mode(image)
    bits = 16 if RAW.fullmatch(raw) or (is_animation and raw.startswith("I;16")) else 8
    if image.format == "JPEG2000" and image.mode not in ("I", "I;16"):
        bits = _jpeg2000_bits(path)
    elif image.format in ("AVIF", "HEIF"):
        bits = read_properties(Path(path).read_bytes()).bits
    elif image.format == "DDS" and "BC6H" in str(image.tile):
        return "of its floating-point colours (BC6H) 8 bits are left, and nothing brighter than white"
    elif isinstance(image, TiffImageFile) and image.mode in ("P", "PA"):
        entries = numpy.array(image.tag_v2.get(320, ()), dtype=numpy.int64)
        if (entries % 257).any() and (entries % 256).any() and entries.max() > 255:
            return "of the 16 bits of its palette 8 are left"
    return f"of its {bits} bits 8 are left: Pillow reads no more" if bits > 8 else ""
