"""TIFF by tifffile, which comes with scikit-image: all that is written, and of what is read what Pillow cannot.

That is more than 8 bits in several channels, odd numbers of bits, planes, and white as zero with alpha.
"""

from __future__ import annotations

import io
import logging
import math
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from imaging.console import UserError
from imaging.depth import ENDED, check_samples, scaled, undo_multiplication
from imaging.frames import STRIP, Frame, Picture, frame_channels, frame_size, frame_window, to_frame, upright
from imaging.limits import check_pixels, guarded
from imaging.metadata import DESCRIPTION, EXIF, GPS, ORIENTATION, XMP, as_it_was, checked_dpi, set_exif, set_xmp

if TYPE_CHECKING:  # else where it is used: most pictures are no TIFF, and it is slow to import
    import tifffile

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it talks about everything odd in a file

COLOURS = {0: 1, 1: 1, 2: 3}  # photometric interpretation (white is zero, black is zero, RGB) → channels
SUB_DIRECTORIES, PROFILE, DNG = 330, 34675, 50706  # tags
LZW = 5  # a compression
MOST_CHANNELS = 16  # more are a damaged file, or no picture
LARGEST = 2**31  # bytes of pixels, of which offsets of 32 bits are sure to reach the end


# ---------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------


def read_tiff(path, head: bytes, last_try: bool = False) -> Picture | None:
    """A TIFF, which begins with `head`, that Pillow does not read rightly, or on the last try not at all.

    None for what is left to Pillow, and for what is no TIFF at all.
    """
    if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    import tifffile

    try:
        file = tifffile.TiffFile(path)
    except Exception:  # a damaged directory: Pillow will say so
        return None
    with file:
        try:
            page, raw = _choose_page(file)
            ours = _is_ours(page)
        except Exception:
            return None
        if raw or head[8:10] == b"CR":  # all that there is of colours is a preview
            raise UserError("is a camera's raw file: develop it first, and save it as TIFF or PNG")
        if not (ours or last_try):
            return None
        for form, bits in zip(_each(page.sampleformat), _each(page.bitspersample), strict=False):
            check_samples(form, bits)
        return _read_page(path, file, page)


def _choose_page(file: tifffile.TiffFile) -> tuple[tifffile.TiffPage, bool]:
    """The first page that is no smaller version of another one, and whether there are only previews of a raw file."""
    pages = (page.aspage() for page in file.pages)
    first = next(pages)
    page = first if _is_full(first) else next(filter(_is_full, pages), first)
    return page, DNG in first.tags or (not _is_full(page) and SUB_DIRECTORIES in page.tags)


def _is_full(page: tifffile.TiffPage) -> bool:
    return not page.subfiletype & 1


def _each(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """What a tag says of each channel, or of all in one word."""
    return value if isinstance(value, tuple) else (value,)


def _read_page(path, file: tifffile.TiffFile, page: tifffile.TiffPage) -> Picture | None:
    check_pixels(path, page.imagewidth, page.imagelength)
    ends = (start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends) > Path(path).stat().st_size or len(page.dataoffsets) < math.prod(page.chunked):
        raise OSError(ENDED)
    try:
        pixels = _pixels(file, page)
    except (KeyError, ValueError, ModuleNotFoundError) as error:
        if "imagecodecs" not in str(error) and not isinstance(error, ModuleNotFoundError):
            raise
        if _has_planes(page) and (page.bitspersample != 8 or page.photometric != 2):  # Pillow would give stripes
            raise UserError("is packed in a way that cannot be read here: save it without compression") from error
        return None  # rarer kinds of compression, which Pillow may read
    return _picture(path, page, pixels, len(file.pages))


def _is_ours(page: tifffile.TiffPage) -> bool:
    """Whether Pillow would read such pixels wrongly, with 8 bits or not at all."""
    samples, bits = page.samplesperpixel, page.bitspersample
    if page.photometric not in COLOURS or page.sampleformat != 1 or not isinstance(bits, int):
        return False
    if bits > 16 or samples > MOST_CHANNELS:
        return False
    white_is_zero = page.photometric == 0 and samples > 1
    return bits not in (1, 2, 4, 8) or (bits == 8 and (_has_planes(page) or white_is_zero))


def _pixels(file: tifffile.TiffFile, page: tifffile.TiffPage) -> numpy.ndarray:
    """All samples as (H, W, channels), uint8 with 8 bits, else uint16 from 0 to 65535."""
    bits, shape = page.bitspersample, (page.imagelength, page.imagewidth, page.samplesperpixel)
    if bits not in (8, 16) or (page.compression == LZW and not page.is_tiled):
        samples = _from_strips(file, page, shape)
        return samples.astype(numpy.uint8) if bits == 8 else scaled(samples, 2**bits - 1)
    pixels = page.asarray()
    return numpy.moveaxis(pixels, 0, 2) if _has_planes(page) else pixels.reshape(shape)


def _has_planes(page: tifffile.TiffPage) -> bool:
    return page.planarconfig == 2 and page.samplesperpixel > 1


def _from_strips(file: tifffile.TiffFile, page: tifffile.TiffPage, shape: tuple[int, int, int]) -> numpy.ndarray:
    """Samples of 3 to 16 bits as (H, W, channels) of uint16, not scaled: what tifffile leaves to imagecodecs."""
    height, width, samples = shape
    if page.is_tiled or (page.predictor != 1 and page.bitspersample not in (8, 16)) or page.predictor > 2:
        raise ValueError("these tiles, or this predictor, need imagecodecs")
    planes = samples if _has_planes(page) else 1
    result = numpy.zeros((planes, height, width, samples // planes), dtype=numpy.uint16)
    rows = min(page.rowsperstrip, height)
    strips = -(-height // rows)  # in a plane
    for index, (start, length) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        file.filehandle.seek(start)
        data = file.filehandle.read(length)
        top = index % strips * rows
        strip = result[index // strips, top : top + rows]
        strip[:] = _samples(data, strip.shape[0], strip[0].size, page).reshape(strip.shape)
        if page.predictor == 2:  # differences to the left
            strip[:] = strip.cumsum(axis=1, dtype=numpy.uint8 if page.bitspersample == 8 else numpy.uint16)
    return result[0] if planes == 1 else numpy.moveaxis(result[..., 0], 0, 2)


def _samples(data: bytes, rows: int, values: int, page: tifffile.TiffPage) -> numpy.ndarray:
    """The samples of a strip, (rows, values): packed, each row from a new byte on, or in two bytes each."""
    import tifffile

    bits, order = page.bitspersample, page.parent.byteorder
    row = -(-values * bits // 8)  # bytes
    data = (
        _unpack_lzw(data, rows, row) if page.compression == LZW else tifffile.TIFF.DECOMPRESSORS[page.compression](data)
    )
    if bits == 16 or len(data) in (2 * rows * values, 2 * page.rowsperstrip * values):
        return numpy.frombuffer(data, f"{order}u2", rows * values).reshape(rows, values)
    if len(data) < rows * row:
        raise OSError(ENDED)
    packed = numpy.frombuffer(data, numpy.uint8, rows * row).reshape(rows, row)
    if bits == 8:
        return packed
    first: Literal["little", "big"] = "little" if page.fillorder == 2 else "big"
    split = numpy.unpackbits(packed, axis=1, count=values * bits, bitorder=first).reshape(rows, values, bits)
    return split @ (1 << numpy.arange(bits, dtype=numpy.uint16)[::-1])


def _unpack_lzw(data: bytes, rows: int, row: int) -> bytes:
    """A strip of rows of so many bytes, by Pillow, as if they were grey of 8 bits: LZW does not know what it packs."""
    directory = ImageFileDirectory_v2()
    tags = {256: row, 257: rows, 258: 8, 259: LZW, 262: 1, 273: 0, 277: 1, 278: rows, 279: len(data)}
    for tag, value in tags.items():
        directory[tag] = value
    file = b"II*\0" + (8).to_bytes(4, "little") + directory.tobytes(8) + data
    with guarded(huge=True), Image.open(io.BytesIO(file)) as image:  # the picture's size has been checked
        return image.tobytes()


def _picture(path, page: tifffile.TiffPage, pixels: numpy.ndarray, pages: int) -> Picture:
    """The pixels as a frame, upright, colours before alpha, with what lies beside them."""
    picture = Picture([], "TIFF", [0.0], profile=page.tags.valueof(PROFILE))
    if pages > 1:
        picture.remarks.append(f"has {pages} pages: number {page.index + 1} is taken")
    colours = COLOURS[page.photometric]
    if pixels.shape[2] < colours:
        raise OSError("a channel is missing")
    alpha = int(page.extrasamples[0]) if page.extrasamples else 0  # 1: colours are multiplied by it, 2: not
    channels = colours + (alpha in (1, 2) and pixels.shape[2] > colours)
    if pixels.shape[2] > channels:
        picture.remarks.append(f"has {pixels.shape[2]} channels, of which {channels} are taken")
    pixels = pixels[:, :, :channels]
    peak = numpy.iinfo(pixels.dtype).max
    if alpha == 1 and channels > colours:
        pixels = undo_multiplication(pixels)
    if page.photometric == 0:
        pixels = numpy.dstack((peak - pixels[:, :, :1], pixels[:, :, 1:]))
    exif = Image.Exif()
    exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
    with open(path, "rb") as file, suppress(Exception):  # damaged words are no reason to refuse a picture
        exif.load_from_fp(file, page.offset)
        set_exif(picture, exif)
    set_xmp(picture, page.tags.valueof(XMP))
    orientation = page.tags.valueof(ORIENTATION, default=1)
    picture.frames = [upright(to_frame(pixels), orientation)]
    picture.dpi = checked_dpi(page.get_resolution("inch"), orientation)
    return picture


# ---------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------


def write_tiff(path: Path, picture: Picture) -> None:
    """Write the one frame of a picture, with 8 or 16 bits."""
    import tifffile

    frame = picture.frames[0]
    (height, width), channels = frame_size(frame), frame_channels(frame)
    dtype = numpy.dtype(numpy.uint8 if isinstance(frame, Image.Image) else numpy.uint16)
    large = height * width * channels * dtype.itemsize > LARGEST
    exif = Image.Exif()
    exif.load(picture.exif)
    tifffile.imwrite(
        path, _strips(frame), shape=(height, width, channels) if channels > 1 else (height, width), dtype=dtype,
        rowsperstrip=STRIP, photometric="rgb" if channels > 2 else "minisblack", compression="zlib", metadata=None,
        planarconfig="contig" if channels > 1 else None, extrasamples=["unassalpha"] if channels in (2, 4) else None,
        software=False, bigtiff=large, byteorder="<", iccprofile=picture.profile, resolution=picture.dpi,
        resolutionunit="inch" if picture.dpi else None, extratags=list(_tags(picture, exif)),
    )  # fmt: skip
    for pointer in {EXIF, GPS} & set(exif):
        _append_directory(path, pointer, exif.get_ifd(pointer))


def _strips(frame: Frame) -> Iterator[bytes]:
    """A frame's rows, a few at a time, compressed."""
    height, width = frame_size(frame)
    for top in range(0, height, STRIP):
        rows = frame_window(frame, top, min(height, top + STRIP), 0, width)
        yield zlib.compress(rows.astype(rows.dtype.newbyteorder("<")).tobytes())


def _tags(picture: Picture, exif: Image.Exif) -> Iterator[tuple[int, str, int, Any, bool]]:
    """EXIF's outer directory, XMP and the comment as tifffile wants them; for the inner ones see _append_directory."""
    words = as_it_was(dict(exif))
    if comment := picture.texts.get("Comment"):
        words.setdefault(DESCRIPTION, comment)
    if picture.xmp:
        words[XMP] = picture.xmp
    for tag, value in words.items():
        if tag in (EXIF, GPS):
            yield tag - 1, "I", 1, 0, True
        elif isinstance(value, str):
            yield tag, "s", 0, value.encode(), True
        elif isinstance(value, bytes):
            yield tag, "B", len(value), value, True
        elif isinstance(value, int):
            yield tag, "H" if 0 <= value < 2**16 else "I" if value >= 0 else "i", 1, value, True


def _append_directory(path: Path, pointer: int, inner: dict[int, Any]) -> None:
    """Put an inner directory of EXIF at the end of a file, and its place into the outer one.

    tifffile writes no such pointer. It has written a tag of the number before, which is nobody's, to be renamed here.
    """
    import tifffile

    with tifffile.TiffFile(path, mode="r+") as file:
        head = b"II+\0" + bytes(12) if file.is_bigtiff else b"II*\0" + bytes(4)
        directory = ImageFileDirectory_v2(head, group=pointer)
        for tag, value in as_it_was(inner).items():
            directory[tag] = value
        handle, entry = file.filehandle, file.pages.first.tags[pointer - 1]
        handle.seek(0, 2)
        place = handle.tell() + handle.tell() % 2
        handle.seek(place)
        handle.write(directory.tobytes(place))
        entry.overwrite(place)
        handle.seek(entry.offset)
        handle.write(pointer.to_bytes(2, "little"))
