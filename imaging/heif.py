"""HEIC and AVIF: the reader for the former, if it is installed, and what both say of their depth and colours.

Pillow gives 8 bits and does not say from how many. The boxes of ISO/IEC 14496-12 and 23008-12 do: meta › iprp › ipco
holds the properties of all pictures in a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from imaging.console import UserError

SUFFIXES = {".heic", ".heif", ".hif", ".heics", ".heifs"}
ADVICE = "to read HEIC, pip install pillow-heif"
CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}  # boxes that hold boxes, behind so many bytes of their own


def has_reader() -> bool:
    """Whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def let_pillow_read(head: bytes) -> None:
    """If a file that begins with the 64 bytes `head` is HEIC, make Pillow able to open it.

    Raises UserError where pillow-heif is missing.
    """
    brands = {head[place : place + 4] for place in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)}
    if head[4:8] != b"ftyp" or not brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}:
        return
    try:
        from pillow_heif import register_heif_opener  # slow to import, and few files need it
    except ImportError as error:
        raise UserError(f"is HEIC: {ADVICE}") from error
    register_heif_opener()


@dataclass
class Properties:
    """Of the deepest picture in the file, and of the first that has colours."""

    bits: int = 8
    primaries: int = 2  # code points of ITU-T H.273; 2 is "unspecified"
    transfer: int = 2


def read_properties(data: bytes) -> Properties:
    """The properties in a whole file; defaults where it does not say."""
    properties = Properties()
    for kind, body in _boxes(data, 0, len(data)):
        if kind == b"pixi" and len(body) > 5:  # the bits of every channel
            properties.bits = max(properties.bits, *body[5 : 5 + body[4]])
        elif kind == b"av1C" and len(body) > 2 and body[2] & 0x40:
            properties.bits = max(properties.bits, 12 if body[2] & 0x20 else 10)
        elif kind == b"colr" and body[:4] == b"nclx" and properties.transfer == 2:
            properties.primaries = int.from_bytes(body[4:6], "big")
            properties.transfer = int.from_bytes(body[6:8], "big")
    return properties


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of every box between two places, and of those inside."""
    while start + 8 <= end:
        size, kind, head = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = end if size == 0 else min(end, start + size)  # 0: to the end
        if stop < start + head:
            return
        if kind in CONTAINERS:
            yield from _boxes(data, start + head + CONTAINERS[kind], stop)
        elif kind != b"mdat":  # the pixels
            yield kind, data[start + head : stop]
        start = stop
