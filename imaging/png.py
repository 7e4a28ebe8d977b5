"""PNG: its chunks, and pixels of 16 bits in several channels, which no library here writes and Pillow reads with 8.

The format: https://www.w3.org/TR/png-3/
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from PIL.PngImagePlugin import getchunks

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels → PNG's number
ROWS = 64  # filtered and packed at a time


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
    """The rows filtered and compressed, in pieces."""
    packer = zlib.compressobj(6)
    height, width, channels = pixels.shape
    above = numpy.zeros((1, width * channels * 2), dtype=numpy.int16)
    for top in range(0, height, ROWS):
        rows = pixels[top : top + ROWS].astype(">u2").view(numpy.uint8).reshape(-1, width * channels * 2)
        rows = rows.astype(numpy.int16)
        yield packer.compress(_filtered(rows, numpy.vstack((above, rows[:-1])), 2 * channels))
        above = rows[-1:]
    yield packer.flush()


def _filtered(rows: numpy.ndarray, above: numpy.ndarray, step: int) -> bytes:
    """Rows of bytes with what their neighbours foretell taken off, each behind the number of its filter.

    The filter is the one that leaves the least, as section 12.7 of the standard advises; a pixel has `step` bytes.
    """

    def shifted(bytes_: numpy.ndarray) -> numpy.ndarray:
        return numpy.pad(bytes_, ((0, 0), (step, 0)))[:, :-step]

    left, corner = shifted(rows), shifted(above)
    foretold: dict[int, Callable[[], numpy.ndarray]] = {
        1: lambda: left,
        2: lambda: above,
        4: lambda: _paeth(left, above, corner),
    }
    best = numpy.full(len(rows), numpy.iinfo(numpy.int64).max)
    result = numpy.empty((len(rows), rows.shape[1] + 1), dtype=numpy.uint8)
    for number, predict in foretold.items():
        rest = (rows - predict()).astype(numpy.uint8)
        cost = numpy.abs(rest.view(numpy.int8).astype(numpy.int64)).sum(axis=1)
        better = cost < best
        result[better, 0], result[better, 1:], best[better] = number, rest[better], cost[better]
    return result.tobytes()


def _paeth(left: numpy.ndarray, above: numpy.ndarray, corner: numpy.ndarray) -> numpy.ndarray:
    """Of three neighbours the one nearest to left + above − corner (section 9.4)."""
    to_left, to_above = numpy.abs(above - corner), numpy.abs(left - corner)
    to_corner = numpy.abs(left + above - 2 * corner)
    nearest = numpy.where(to_above <= to_corner, above, corner)
    return numpy.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
