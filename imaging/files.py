"""Every way in from disk, one door for all commands: files become frames or tensors here and nowhere else.

    photo = open_picture("photo.tif")       # upright; depth, alpha, frames, profile and resolution as in the file
    picture = read_picture("photo.tif")     # (1, 3, H, W) in 0..1, for training and measuring

Pillow does nearly all of it; 16 bits with several channels pass through tifffile, which comes with scikit-image.
"""

import logging
import math
import re
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from imaging.console import UsageError, UserError, note
from imaging.frames import Frame, Picture, frame_channels, to_8_bits, to_picture
from imaging.saving import ANIMATED

# A folder is searched for these names; a file named on the command line is taken for what its content is.
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"}
MAX_PIXELS_PER_BYTE = 100_000  # a blank fax page has 80,000


def find_pictures(folder) -> list[Path]:
    """All pictures in a folder and the folders below it, sorted, hidden ones left out.

    Raises UsageError if there is no such folder or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: {'is a file; give its folder' if folder.exists() else 'no such folder'}")
    # Broken links and the like are in, to be named when they cannot be read.
    named = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES and not path.is_dir())
    hidden = re.compile(r"(^|[/\\])\.")
    pictures = sorted(path for path in named if not hidden.search(str(path.relative_to(folder))))
    if not pictures:
        raise UsageError(f"{folder}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return pictures


@contextmanager
def reading(path):
    """What goes wrong in here with the picture file `path` is told in one line that names it.

    Raises UsageError if there is no such file, UserError if it is not a whole picture.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, not a picture")
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise UserError(f"{path}: is not a regular file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on large or odd files are no errors
        with _told(path):
            yield


@contextmanager
def _told(path: Path):
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except PermissionError as error:
        raise UserError(f"{path}: no permission to read it") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not a picture, or of a kind that Pillow cannot read") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too many pixels to open safely; `upscale --huge` opens it ({error})") from error
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory") from error
    except Exception as error:  # decoders raise nearly anything on a damaged file
        raise UserError(f"{path}: damaged or cut short ({error})") from error


@contextmanager
def opened(path):
    """Yield a picture file as Pillow sees it: the content decides what kind of file it is. Errors as in `reading`."""
    with reading(path), Image.open(path) as image:
        if image.format == "EPS":  # Pillow would have Ghostscript run the program that such a file is
            raise UserError("is a drawing (EPS); save it as a picture of pixels")
        yield image


def open_picture(path, huge: bool = False) -> Picture:
    """Read a file of any kind. Depth comes from the file, never from its values.

    With `huge`, more pixels than Pillow thinks safe. Raises UsageError if there is no such file, UserError if it is
    not a whole picture.
    """
    picture = _open(path, huge)
    colours = "RGB" if frame_channels(picture.frames[0]) > 2 else "GRAY"
    if picture.profile and picture.profile[16:20].decode("latin-1").strip() != colours:
        note(f"{path}: its colour profile is not for {colours.replace('GRAY', 'grey')} and is dropped")
        picture.profile = None
    return picture


def read_picture(path) -> Tensor:
    """The first frame of a file as (1, 3, H, W) in 0..1, for training and measuring; errors as in `open_picture`.

    Grey becomes RGB, transparency is laid on white, 16 bits keep their precision.
    """
    return to_picture(_open(path, first_frame_only=True).frames[0])


def _open(path, huge: bool = False, first_frame_only: bool = False) -> Picture:
    with _pixel_limit(huge):
        with reading(path):
            picture = _deep_tiff(path)
        if picture is None:
            with opened(path) as image:
                picture = _through_pillow(image, path, first_frame_only)
    return picture


# ---------------------------------------------------------------------------------------------
# What Pillow reads
# ---------------------------------------------------------------------------------------------


@contextmanager
def _pixel_limit(huge: bool):
    """Pillow's guard against decompression bombs, small files that unpack to more pixels than memory holds."""
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None if huge else limit
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(path, width: int, height: int, frames: int = 1) -> None:
    """The same guard, at the same limit, for what Pillow does not look at, and against a few bytes that are a wall."""
    if width < 1 or height < 1:
        raise UserError("has no pixels")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
    there = width * height * frames
    if there > limit:
        raise Image.DecompressionBombError(f"{frames} of {width}×{height} pixels, the limit is {limit:.0f}")
    size = Path(path).stat().st_size
    if there > max(4_000_000, MAX_PIXELS_PER_BYTE * size) and limit < math.inf:
        raise Image.DecompressionBombError(f"{width}×{height} pixels in a file of {size} bytes")


def _through_pillow(image: Image.Image, path, first_frame_only: bool) -> Picture:
    """Every frame of an animation, unless only the first is wanted; the first of what has pages."""
    kind = image.format or ""
    count = getattr(image, "n_frames", 1)
    first = 0
    parts = getattr(image, "tile", [])
    raw = str(parts[0][3]) if parts else ""  # how the pixels lie in the file
    picture = Picture([], kind, profile=image.info.get("icc_profile"), dpi=_checked_dpi(image.info.get("dpi")))
    if count > 1 and kind not in (*ANIMATED, "AVIF"):
        if kind != "MPO":  # the further pictures of a camera's file are previews
            note(f"{path}: has {count} pages: the first is taken")
        count = 1
    if first_frame_only:
        count = 1
    if count > 1:
        first = int(image.info.get("default_image", False))  # an APNG's picture for who cannot play it: no frame
        picture.plays = _plays(image, kind)
        if kind == "GIF":
            _check_gif_ends(path)
    _check_pixels(path, *image.size, count)
    # Pillow leaves the rest black. Tag 257 is the height.
    if isinstance(image, TiffImageFile) and max(part[1][3] for part in parts) < image.tag_v2[257]:
        raise OSError("its pixels end too early")
    for index in range(first, count):
        if count > 1:
            image.seek(index)
        image.load()
        turned = image.getexif().get(0x0112, 1) > 4  # the orientations with height and width exchanged
        frame = _plain(ImageOps.exif_transpose(image), kind, path)
        if isinstance(frame, Image.Image) and "LA;16" in raw:
            frame = frame.convert("LA")  # Pillow makes RGBA of these
        picture.frames.append(frame)
        picture.durations.append(float(image.info.get("duration", 0)))
    if picture.dpi and turned:
        picture.dpi = picture.dpi[::-1]
    if ";16" in raw and isinstance(picture.frames[0], Image.Image):
        note(f"{path}: Pillow reads its 16 bits as 8: save it as a TIFF without LZW to keep them")
    modes = {frame.mode for frame in picture.frames if isinstance(frame, Image.Image)}
    if len(modes) > 1:  # an animation whose later frames have more colours or become transparent
        mode = "RGBA" if any(mode.endswith("A") for mode in modes) else "RGB"
        picture.frames = [to_8_bits(frame).convert(mode) for frame in picture.frames]
    return picture


def _plays(image: Image.Image, kind: str) -> int:
    """How often an animation is shown. A GIF counts the repetitions, and says nothing if there is none."""
    loop = image.info.get("loop")
    if kind == "GIF":
        return 1 if loop is None else loop + 1 if loop else 0
    return int(loop or 0)


def _check_gif_ends(path) -> None:
    """A GIF that is cut between two frames is read without complaint: only its last byte, a semicolon, is missing."""
    with open(path, "rb") as file:
        file.seek(max(0, Path(path).stat().st_size - 4096))
        if not file.read().rstrip(b"\0\r\n ").endswith(b";"):
            raise OSError("the end of the animation is missing")


def _plain(image: Image.Image, kind: str, path) -> Frame:
    """A Pillow image of any mode as a frame."""
    if image.mode.startswith("I;16") or (image.mode == "I" and kind in ("PNG", "PPM")):
        return _deep_grey(image)
    if image.mode in ("F", "I"):
        raise UserError("its pixels have no agreed range (32 bits): save it with 8 or 16 bits")
    if image.mode in ("LAB", "HSV"):
        raise UserError(f"its colours are {image.mode}: save it as RGB")
    if image.mode == "CMYK":
        note(f"{path}: CMYK becomes RGB")
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        mode += "A"
    return image.copy() if image.mode == mode and "transparency" not in image.info else image.convert(mode)


def _deep_grey(image: Image.Image) -> numpy.ndarray:
    """16-bit grey (H, W, 1), or with alpha (H, W, 2) where the file names a grey value that is transparent."""
    grey = numpy.asarray(image).clip(0, 65535).astype(numpy.uint16)
    bits = getattr(image, "tag_v2", {}).get(258, (16,))
    bits = bits[0] if isinstance(bits, tuple) else bits
    if 8 < bits < 16:  # scanners and microscopes give 10, 12 or 14 bits
        grey = (grey.astype(numpy.uint32) * 65535 // (2**bits - 1)).clip(0, 65535).astype(numpy.uint16)
    if "transparency" in image.info:
        alpha = numpy.where(grey == image.info["transparency"], 0, 65535).astype(numpy.uint16)
        return numpy.stack((grey, alpha), axis=2)
    return grey[:, :, None]


def _checked_dpi(dpi) -> tuple[float, float] | None:
    """A resolution that makes sense, or None; a TIFF without one is read by Pillow as having 1."""
    try:
        across, down = map(float, dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 1 < across < 1e6 and 1 < down < 1e6 else None


# ---------------------------------------------------------------------------------------------
# What tifffile reads
# ---------------------------------------------------------------------------------------------


UPRIGHT = {  # EXIF orientation → what brings an array (H, W, …) upright
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}  # fmt: skip


def _deep_tiff(path) -> Picture | None:
    """A TIFF of 16 bits and several channels, which Pillow would read with 8; None for everything else."""
    with open(path, "rb") as head:
        if head.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    import tifffile  # slow to import, and few files need it

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it talks about everything odd in a file
    try:
        file = tifffile.TiffFile(path)
        page = file.pages.first
        several = page.samplesperpixel > 1 and page.bitspersample == 16 and page.dtype == numpy.uint16
        colours = {"RGB": 3, "MINISBLACK": 1}.get(getattr(page.photometric, "name", ""))
    except Exception:  # a damaged directory: Pillow will say so
        return None
    with file:
        if not several or not colours:
            return None
        _check_pixels(path, page.imagewidth, page.imagelength)
        ends = (start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > Path(path).stat().st_size or len(page.dataoffsets) < math.prod(page.chunked):
            raise OSError("its pixels end too early")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):  # LZW and rarer kinds of compression: Pillow reads them, with 8 bits
                return None
            raise
        if len(file.pages) > 1:
            note(f"{path}: has {len(file.pages)} pages: the first is taken")
        pixels = numpy.moveaxis(pixels, 0, 2) if page.planarconfig == 2 else pixels
        alpha = int(page.extrasamples[0]) if page.extrasamples else 0  # 1: colours are multiplied by it, 2: not
        pixels = pixels[:, :, : colours + (alpha in (1, 2))]
        if alpha == 1:
            opacity = numpy.maximum(pixels[:, :, -1:], 1) / numpy.float32(65535)
            pixels[:, :, :-1] = (pixels[:, :, :-1] / opacity).round().clip(0, 65535)
        orientation = page.tags.valueof(274, default=1)
        pixels = UPRIGHT.get(orientation, lambda a: a)(pixels)
        dpi = _checked_dpi(page.get_resolution("inch"))
        dpi = dpi[::-1] if dpi and orientation > 4 else dpi
        return Picture([numpy.ascontiguousarray(pixels)], "TIFF", [0.0], profile=page.tags.valueof(34675), dpi=dpi)
