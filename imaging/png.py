"""PNG: its chunks, and pixels of 16 bits in several channels, which no library here writes and Pillow reads with 8.

The format: https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from PIL.PngImagePlugin import getchunks

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


def write_deep_png(path: Path, pixels: numpy.ndarray, options: dict[str, Any]) -> None:
    """Write uint16 (H, W, 2 to 4 channels); `options` are those of Pillow's `save`, for what lies beside the pixels."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    with open(path, "wb") as file:

        def write(name: bytes, data: bytes) -> None:
            file.write(struct.pack(">I4s", len(data), name) + data + struct.pack(">I", zlib.crc32(name + data)))

        file.write(SIGNATURE)
        write(b"IHDR", header)
        for name, data, _ in getchunks(Image.new("RGB", (1, 1)), **options):  # Pillow knows how to write all these
            if name not in (b"IHDR", b"IDAT", b"IEND"):
                write(name, data)
        for data in _packed(pixels):
            write(b"IDAT", data)
        write(b"IEND", b"")


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
