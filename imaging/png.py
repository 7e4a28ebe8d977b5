"""PNG: its chunks, and pixels of 16 bits in several channels, which no library here writes and Pillow reads with 8.

The format: https://www.w3.org/TR/png-3/
"""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from PIL.PngImagePlugin import PngStream, getchunks

from imaging.frames import STRIP

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → PNG's number


def read_chunks(path) -> dict[bytes, bytes]:
    """Name → data of the chunks that stand before the pixels, as far as they are whole; of equal ones the first."""
    chunks: dict[bytes, bytes] = {}
    with open(path, "rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length, name = struct.unpack(">I4s", head)
            if name in (b"cICP", b"gAMA", b"cHRM"):
                chunks.setdefault(name, file.read(length))
            else:
                chunks.setdefault(name, b"")
                file.seek(length, 1)
            file.seek(4, 1)  # the checksum, which Pillow looks at
    return chunks


def read_texts(path) -> dict[str, str]:
    """Every text of a file by its keyword. Of several under one, of which Pillow keeps the last, none is lost."""
    found: dict[str, list[str]] = {}

    class Kept(dict):
        def __setitem__(self, key, text):
            super().__setitem__(key, text)
            found.setdefault(key, []).append(text)

    with open(path, "rb") as file, suppress(OSError, SyntaxError, ValueError, struct.error):  # where it is cut off
        file.seek(len(SIGNATURE))
        stream = PngStream(file)
        stream.im_text = Kept()
        while True:
            name, place, length = stream.read()
            if name == b"IEND":
                break
            if name in (b"tEXt", b"zTXt", b"iTXt"):
                stream.call(name, place, length)
            file.seek(place + length + 4)  # behind the checksum, at which Pillow has looked
    return {key: texts[0] if len(texts) == 1 else "\n".join(dict.fromkeys(texts)) for key, texts in found.items()}


def composed_frames(path) -> Iterator[Image.Image]:
    """The frames of an animated PNG as a player shows them, RGBA (section 13.3).

    Pillow, which decodes them, pastes a frame that is to be laid over the one before; half-transparent pixels must be
    mixed with what is there.
    """
    before: list[bytes] = []  # chunks that all frames need, a palette above all
    canvas = None
    for control, data in _animation(path, before):
        width, height, left, top, _, _, dispose, blend = struct.unpack(">IIIIHHBB", control[4:])
        header = before[0]
        canvas = canvas or Image.new("RGBA", struct.unpack(">II", header[8:16]))
        own = header[:8] + struct.pack(">II", width, height) + header[16:21]
        parts = [own + struct.pack(">I", zlib.crc32(own[4:])), *before[1:], _chunk(b"IDAT", data), _chunk(b"IEND", b"")]
        with Image.open(io.BytesIO(SIGNATURE + b"".join(parts))) as image:
            frame = image.convert("RGBA")
        old = canvas.copy()
        if blend:
            canvas.alpha_composite(frame, (left, top))
        else:
            canvas.paste(frame, (left, top))
        yield canvas.copy()
        if dispose == 1:
            canvas.paste((0, 0, 0, 0), (left, top, left + width, top + height))
        elif dispose == 2:
            canvas = old


def _animation(path, before: list[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """What controls each frame and its compressed pixels; chunks that stand before all of them go into `before`."""
    control, data = b"", b""
    with open(path, "rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            content = file.read(length)
            checksum = file.read(4)
            if name in (b"fcTL", b"IEND"):
                if control:
                    yield control, data
                control, data = content, b""
            elif name == b"IDAT":
                data += content
            elif name == b"fdAT":
                data += content[4:]
            elif name in (b"IHDR", b"PLTE", b"tRNS"):
                before.append(head + content + checksum)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), name) + data + struct.pack(">I", zlib.crc32(name + data))


def write_deep_png(path: Path, pixels: numpy.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 2 to 4 channels); `options` are those of Pillow's `save`, for what lies beside the pixels."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    with open(path, "wb") as file:
        file.write(SIGNATURE + _chunk(b"IHDR", header))
        for name, data, _ in getchunks(Image.new("RGB", (1, 1)), **options):  # Pillow knows how to write all these
            if name not in (b"IHDR", b"IDAT", b"IEND"):
                file.write(_chunk(name, data))
        for data in _packed(pixels):
            file.write(_chunk(b"IDAT", data))
        file.write(_chunk(b"IEND", b""))


def _packed(pixels: numpy.ndarray) -> Iterator[bytes]:
    """The rows compressed, in pieces: of each byte what the one above it does not foretell (filter 2, section 9.2).

    To choose among the filters row by row takes twice the time and saves one or two per cent.
    """
    packer = zlib.compressobj(3)
    above = numpy.zeros((1, 2 * pixels.shape[1] * pixels.shape[2]), dtype=numpy.uint8)
    for top in range(0, len(pixels), STRIP):
        strip = pixels[top : top + STRIP].astype(">u2")
        rows = strip.view(numpy.uint8).reshape(len(strip), -1)
        filtered = rows - numpy.vstack((above, rows[:-1]))
        yield packer.compress(numpy.pad(filtered, ((0, 0), (1, 0)), constant_values=2).tobytes())
        above = rows[-1:]
    yield packer.flush()
