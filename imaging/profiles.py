"""What Pillow does not read: colour profiles of JPEG 2000 and of BMP, and JPEG 2000's EXIF and XMP."""

import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

MOST = 2**24  # bytes of a profile
# What a box of JPEG 2000 holds that is called uuid, by its first bytes; the second are XMP's (ISO 16684-1, part 3).
EXIF_BOX, XMP_BOX = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def unread_profile(path, kind: str) -> bytes | None:
    """The ICC profile in a file of that kind, as Pillow calls it; None where there is none, or one that is damaged."""
    readers = {"JPEG2000": _of_jpeg2000, "BMP": _of_bmp}
    if kind not in readers:
        return None
    try:
        with open(path, "rb") as file:
            profile = readers[kind](file)
    except (struct.error, OSError, ValueError):
        return None
    return profile if profile and len(profile) > 128 and profile[36:40] == b"acsp" else None


def _of_jpeg2000(file) -> bytes | None:
    """In the box colr of the box jp2h, where its method is 2 or 3 (ISO/IEC 15444-1, annex I.5.3.3)."""
    for name, data in _boxes(file, Path(file.name).stat().st_size, wanted=b"jp2h"):
        if name == b"jp2h":
            for inner, content in _boxes(BytesIO(data), len(data), wanted=b"colr"):
                if inner == b"colr" and content[:1] in (b"\2", b"\3"):
                    return content[3:]
    return None


def box_of_jpeg2000(path, kind: bytes) -> bytes:
    """What the first box of that kind holds, EXIF_BOX or XMP_BOX; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            for _, data in _boxes(file, Path(path).stat().st_size, wanted=b"uuid"):
                if data.startswith(kind):
                    return data.removeprefix(kind)
    except (struct.error, OSError, ValueError):
        pass
    return b""


def _boxes(file, end: int, wanted: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and content of the boxes called `wanted`, one after the other."""
    while file.tell() + 8 <= end:
        start = file.tell()
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = struct.unpack(">Q", file.read(8))[0]
        stop = start + length if length else end
        if stop <= file.tell() or stop > end:
            return
        if name == wanted and stop - file.tell() <= MOST:
            yield name, file.read(stop - file.tell())
        file.seek(stop)


def _of_bmp(file) -> bytes | None:
    """Of a header of version 5 that says MBED: behind it, where it says."""
    head = file.read(14 + 124)
    if len(head) < 138 or struct.unpack("<I", head[14:18])[0] < 124 or head[70:74] != b"DEBM":
        return None
    start, length = struct.unpack("<II", head[126:134])
    file.seek(14 + start)
    return file.read(min(length, MOST))
