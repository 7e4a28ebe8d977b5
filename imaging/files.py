"""Picture files of every kind, in and out, with nothing lost on the way that can be kept.

    picture = open_picture("photo.tif")     # upright; depth, alpha, frames, profile and resolution as in the file
    save_picture("photo.png", picture)      # what that kind of file cannot hold is told in one line

Pillow does nearly all of it; 16 bits with several channels pass through tifffile, which comes with scikit-image.
"""

import logging
import math
import struct
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy
from PIL import Image, ImageOps

from imaging.console import UserError, note, replacing
from imaging.images import WRITTEN_FORMATS, check_target, opened, reading

# A frame holds its pixels as the file that will be written wants them, so that a large one is never copied:
# with 8 bits a Pillow image of mode L, LA, RGB or RGBA, with 16 an array (H, W, 1 to 4 channels) of uint16.
Frame = Image.Image | numpy.ndarray
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
ANIMATED = {"GIF": ".gif", "WEBP": ".webp", "PNG": ".png"}  # the kinds that can hold several frames when written
LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535}  # pixels
LONGEST_FRAME = {"GIF": 655_350, "WEBP": 2**24 - 1, "PNG": 65_535}  # milliseconds
MOST_PIXELS_PER_BYTE = 100_000  # a blank fax page has 80,000
STRIP = 256  # rows at a time, where a whole frame as numbers would be too much


@dataclass
class Picture:
    """What a picture file holds. Several frames, all of one size and mode, are an animation."""

    frames: list[Frame]
    kind: str = "PNG"  # Pillow's name of the format it was read from
    durations: list[float] = field(default_factory=list)  # of the frames, in milliseconds
    plays: int = 0  # how often an animation is shown; 0 is for ever
    profile: bytes | None = None  # ICC
    dpi: tuple[float, float] | None = None


def frame_size(frame: Frame) -> tuple[int, int]:
    """(height, width) in pixels."""
    return frame.size[::-1] if isinstance(frame, Image.Image) else frame.shape[:2]


def frame_channels(frame: Frame) -> int:
    """1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    return len(frame.getbands()) if isinstance(frame, Image.Image) else frame.shape[2]


def new_frame(like: Frame, size: tuple[int, int]) -> Frame:
    """An empty frame of the same channels and depth, of another size (height, width)."""
    if isinstance(like, Image.Image):
        return Image.new(like.mode, size[::-1])
    return numpy.zeros((*size, like.shape[2]), dtype=numpy.uint16)


def frame_window(frame: Frame, top: int, bottom: int, left: int, right: int) -> numpy.ndarray:
    """Rows top:bottom and columns left:right as an array (rows, columns, channels) of uint8 or uint16."""
    if isinstance(frame, Image.Image):
        pixels = numpy.array(frame.crop((left, top, right, bottom)))
        return pixels[:, :, None] if pixels.ndim == 2 else pixels
    return frame[top:bottom, left:right]


def paste(frame: Frame, pixels: numpy.ndarray, top: int, left: int) -> None:
    """Put an array (rows, columns, channels) into a frame of its depth."""
    if isinstance(frame, Image.Image):
        frame.paste(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), (left, top))
    else:
        frame[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels


def to_8_bits(frame: Frame) -> Image.Image:
    """A frame as a Pillow image, rounded and not truncated."""
    if isinstance(frame, Image.Image):
        return frame
    image = Image.new(MODES[frame.shape[2]], frame.shape[1::-1])
    for top in range(0, len(frame), STRIP):
        paste(
            image, ((frame[top : top + STRIP].astype(numpy.uint32) * 255 + 32767) // 65535).astype(numpy.uint8), top, 0
        )
    return image


# ---------------------------------------------------------------------------------------------
# In
# ---------------------------------------------------------------------------------------------


def open_picture(path, huge: bool = False) -> Picture:
    """Read a file of any kind. Depth comes from the file, never from its values.

    With `huge`, more pixels than Pillow thinks safe. Raises UsageError if there is no such file, UserError if it is
    not a whole picture.
    """
    with _pixel_limit(huge):
        with reading(path):
            picture = _deep_tiff(path)
        if picture is None:
            with opened(path) as image:
                picture = _through_pillow(image, path)
    colours = "RGB" if frame_channels(picture.frames[0]) > 2 else "GRAY"
    if picture.profile and picture.profile[16:20].decode("latin-1").strip() != colours:
        note(f"{path}: its colour profile is not for {colours.replace('GRAY', 'grey')} and is dropped")
        picture.profile = None
    return picture


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
    limit, there = 2 * (Image.MAX_IMAGE_PIXELS or math.inf), width * height * frames
    if there > limit:
        raise Image.DecompressionBombError(f"{frames} of {width}×{height} pixels, the limit is {limit:.0f}")
    size = Path(path).stat().st_size
    if there > max(4_000_000, MOST_PIXELS_PER_BYTE * size) and limit < math.inf:
        raise Image.DecompressionBombError(f"{width}×{height} pixels in a file of {size} bytes")


def _through_pillow(image: Image.Image, path) -> Picture:
    """Every frame of an animation, the first of what has pages."""
    kind, count, first = image.format, getattr(image, "n_frames", 1), 0
    raw = str(image.tile[0][3]) if image.tile else ""  # how the pixels lie in the file
    picture = Picture([], kind, profile=image.info.get("icc_profile"), dpi=_checked_dpi(image.info.get("dpi")))
    if count > 1 and kind not in (*ANIMATED, "AVIF"):
        if kind != "MPO":  # the further pictures of a camera's file are previews
            note(f"{path}: has {count} pages: the first is enlarged")
        count = 1
    if count > 1:
        first = int(image.info.get("default_image", False))  # an APNG's picture for who cannot play it: no frame
        picture.plays = _plays(image, kind)
        if kind == "GIF":
            _check_gif_ends(path)
    _check_pixels(path, *image.size, count)
    if kind == "TIFF" and max(part[1][3] for part in image.tile) < image.tag_v2[257]:  # Pillow leaves the rest black
        raise OSError("its pixels end too early")
    for index in range(first, count):
        if count > 1:
            image.seek(index)
        image.load()
        turned = image.getexif().get(0x0112, 1) > 4  # the orientations with height and width exchanged
        frame = _plain(ImageOps.exif_transpose(image), kind, path)
        picture.frames.append(frame.convert("LA") if "LA;16" in raw else frame)  # Pillow makes RGBA of these
        picture.durations.append(float(image.info.get("duration", 0)))
    if picture.dpi and turned:
        picture.dpi = picture.dpi[::-1]
    if ";16" in raw and isinstance(picture.frames[0], Image.Image):
        note(f"{path}: Pillow reads its 16 bits as 8: save it as a TIFF without LZW to keep them")
    modes = {frame.mode for frame in picture.frames if isinstance(frame, Image.Image)}
    if len(modes) > 1:  # an animation whose later frames have more colours or become transparent
        mode = "RGBA" if any(mode.endswith("A") for mode in modes) else "RGB"
        picture.frames = [frame.convert(mode) for frame in picture.frames]
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


UPRIGHT = {  # EXIF orientation → what brings an array (H, W, …) upright
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}  # fmt: skip


def _deep_tiff(path) -> Picture | None:
    """A TIFF of 16 bits and several channels, which Pillow would read with 8; None for everything else."""
    with open(path, "rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
    import tifffile  # slow to import, and few files need it

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # it talks about everything odd in a file
    try:
        file = tifffile.TiffFile(path)
        page = file.pages[0]
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
            note(f"{path}: has {len(file.pages)} pages: the first is enlarged")
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


# ---------------------------------------------------------------------------------------------
# Out
# ---------------------------------------------------------------------------------------------


def best_suffix(picture: Picture) -> str:
    """The kind of file that holds all of a picture: an animation keeps its own; PNG, but for 16-bit colour TIFF."""
    if len(picture.frames) > 1:
        return ANIMATED.get(picture.kind, ".png")
    deep = not isinstance(picture.frames[0], Image.Image)
    return ".tif" if deep and frame_channels(picture.frames[0]) > 1 else ".png"


def check_size(path: Path, height: int, width: int) -> None:
    """Raise UserError now if that kind of file cannot hold so many pixels, and not after minutes of work."""
    kind = WRITTEN_FORMATS[path.suffix.lower()]
    if max(height, width) > (limit := LONGEST_SIDE.get(kind, math.inf)):
        raise UserError(f"{path}: {kind} cannot hold {width}×{height} pixels, only {limit} a side; use .png")


def save_picture(path, picture: Picture, quality: int = 95) -> None:
    """Write a picture in the format that the name asks for.

    `quality`, 1 to 100, is for JPEG and WebP; with 100, WebP is lossless.
    Raises UsageError for an unknown suffix, UserError if the file cannot be written.
    """
    path = Path(path)
    check_target(path)
    kind = WRITTEN_FORMATS[path.suffix.lower()]
    check_size(path, *frame_size(picture.frames[0]))
    picture = _fitted(picture, kind, path)
    with replacing(path) as temporary:
        try:
            if isinstance(picture.frames[0], Image.Image) or picture.frames[0].shape[2] == 1:
                _save_through_pillow(temporary, picture, kind, quality)
            else:
                _save_deep_tiff(temporary, picture)
        except (ValueError, RuntimeError, OverflowError, struct.error) as error:
            raise UserError(f"{path}: {kind} cannot hold it ({error}); use .png") from error


def _fitted(picture: Picture, kind: str, path: Path) -> Picture:
    """The picture as that kind of file can hold it; what is lost is told in one line."""
    frames, lost = picture.frames, []
    channels = frame_channels(frames[0])
    if len(frames) > 1 and kind not in ANIMATED:
        lost.append("an animation (this is its first frame)")
        frames = frames[:1]
    if not isinstance(frames[0], Image.Image) and not (kind == "TIFF" or (kind == "PNG" and channels == 1)):
        lost.append("16 bits of this picture (8 are left; .tif holds them)")
        frames = [to_8_bits(frame) for frame in frames]
    if channels in (2, 4) and kind in ("JPEG", "BMP"):
        lost.append("transparency (laid on white)")
        frames = [_on_white(frame) for frame in frames]
    profile = picture.profile
    if profile and (kind in ("GIF", "BMP") or (kind == "WEBP" and channels < 3)):
        lost.append("the colour profile")
        profile = None
    if kind == "GIF":
        if picture.kind != "GIF":
            lost.append("more than 256 colours")
        frames = [_with_palette(frame) for frame in frames]
    if lost:
        note(f"{path}: {kind} cannot hold {', '.join(lost)}")
    return replace(picture, frames=frames, profile=profile)


def _on_white(frame: Image.Image) -> Image.Image:
    white = Image.new(MODES[len(frame.getbands()) - 1], frame.size, "white")
    white.paste(frame.convert(white.mode), mask=frame.getchannel("A"))
    return white


def _with_palette(frame: Image.Image) -> Image.Image:
    """256 colours for a GIF, or 255 and a transparent one: a GIF's pixels are either opaque or not there at all."""
    if frame.mode == "L":
        return frame
    transparent = frame.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0) if "A" in frame.mode else None
    palette = frame.convert("RGB").quantize(255 if transparent else 256)
    if transparent:
        palette.putpalette(palette.getpalette()[: 3 * 255] + [0] * (768 - len(palette.getpalette()[: 3 * 255])))
        palette.paste(255, mask=transparent)
        palette.info["transparency"] = 255
    return palette


def _save_through_pillow(temporary: Path, picture: Picture, kind: str, quality: int) -> None:
    frames = picture.frames
    if not isinstance(frames[0], Image.Image):
        frames = [Image.fromarray(frames[0][:, :, 0])]
    options = {"icc_profile": picture.profile} if picture.profile else {}
    options |= {"quality": quality} if kind in ("JPEG", "WEBP") else {}
    options |= {"lossless": True} if kind == "WEBP" and quality == 100 else {}
    if picture.dpi and kind in ("PNG", "JPEG", "TIFF", "BMP"):
        options["dpi"] = tuple(map(round, picture.dpi)) if kind == "JPEG" else picture.dpi
    if kind == "TIFF":
        options |= {"compression": "tiff_deflate"}
        if math.prod(frames[0].size) * len(frames[0].getbands()) > 2**31:  # offsets of a TIFF have 32 bits
            options |= {"big_tiff": True}
    if len(frames) > 1:
        durations = [min(round(duration), LONGEST_FRAME[kind]) for duration in picture.durations]
        options |= {"save_all": True, "append_images": frames[1:], "duration": durations}
        options |= {"loop": picture.plays} if kind != "GIF" else {}
    if kind == "GIF":
        options |= {"optimize": False}
        options |= {"loop": max(0, picture.plays - 1)} if len(frames) > 1 and picture.plays != 1 else {}
        if "transparency" in frames[0].info:
            options |= {"transparency": 255, "disposal": 2}
    frames[0].save(temporary, format=kind, **options)


def _save_deep_tiff(temporary: Path, picture: Picture) -> None:
    import tifffile

    (pixels,) = picture.frames
    channels = pixels.shape[2]
    tifffile.imwrite(
        temporary, pixels, photometric="rgb" if channels > 2 else "minisblack", compression="zlib", metadata=None,
        planarconfig="contig", extrasamples=["unassalpha"] if channels in (2, 4) else None, software=False,
        bigtiff=pixels.nbytes > 2**31,
        iccprofile=picture.profile, resolution=picture.dpi, resolutionunit="inch" if picture.dpi else None,
    )  # fmt: skip
