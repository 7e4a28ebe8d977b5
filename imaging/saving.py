"""Pictures to files of every kind; what a kind of file cannot hold is told in one line.

    save_picture("photo.png", picture)      # with all that lies beside the colours
    write_picture("photo.png", tensor)      # (1, 3, H, W) in 0..1, with 8 bits

Pillow does nearly all of it, tifffile writes TIFF, and imaging/png.py 16 bits with several channels.
"""

import io
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from torch import Tensor

from imaging.colours import describe_coding
from imaging.console import UsageError, UserError, note, quiet
from imaging.frames import MODES, Frame, Picture, frame_channels, frame_size, to_8_bits
from imaging.images import to_image
from imaging.metadata import fit_metadata, pillow_options
from imaging.png import write_deep_png
from imaging.tiff import write_tiff
from imaging.writing import check_writable, replacing

WRITTEN_FORMATS = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP",
    ".gif": "GIF",
}  # fmt: skip
ANIMATED = {"GIF": ".gif", "WEBP": ".webp", "PNG": ".png"}  # the kinds that can hold several frames when written
FULL_COLOURS = 90  # the quality from which a JPEG keeps the colour of every pixel (4:4:4)
MAX_SIDE = {"JPEG": 65500, "WEBP": 16383, "GIF": 65535}  # pixels
MAX_DURATION = {"GIF": 655_350, "WEBP": 2**24 - 1, "PNG": 65_535}  # milliseconds of a frame
MAX_PLAYS = {"GIF": 2**16, "WEBP": 2**16 - 1, "PNG": 2**31 - 1}


def best_suffix(picture: Picture) -> str:
    """The kind of file that holds all of a picture: PNG, but an animation keeps its own."""
    return ANIMATED.get(picture.kind, ".png") if len(picture.frames) > 1 else ".png"


def check_target(path: Path) -> None:
    """Raise UsageError or UserError now if `save_picture` could not write there after minutes of work."""
    _kind_of(path)
    check_writable(path)


def _kind_of(path: Path) -> str:
    """The format that a name asks for. Raises UsageError where it asks for none."""
    if path.suffix.lower() not in WRITTEN_FORMATS:
        raise UsageError(f"{path}: cannot write such a picture; its name must end in {', '.join(WRITTEN_FORMATS)}")
    return WRITTEN_FORMATS[path.suffix.lower()]


def check_size(path: Path, height: int, width: int) -> None:
    """Raise UserError now if that kind of file cannot hold so many pixels, and not after minutes of work."""
    kind = WRITTEN_FORMATS[path.suffix.lower()]
    if max(height, width) > (limit := MAX_SIDE.get(kind, math.inf)):
        raise UserError(f"{path}: {kind} cannot hold {width}×{height} pixels, only {limit} a side; use .png")


def save_picture(path, picture: Picture, quality: int = 95) -> None:
    """Write a picture in the format that the name asks for.

    `quality`, 1 to 100, is for JPEG and WebP; with 100, WebP is lossless.
    Raises UsageError for an unknown suffix, UserError if the file cannot be written.
    """
    path = Path(path)
    kind = _kind_of(path)
    check_size(path, *frame_size(picture.frames[0]))
    picture = _fitted(picture, kind, path)
    with replacing(path) as temporary:
        try:
            if kind == "TIFF":
                write_tiff(temporary, picture)
            else:
                with quiet():
                    _save_through_pillow(temporary, picture, kind, quality)
        except (ValueError, RuntimeError, OverflowError, struct.error) as error:
            raise UserError(f"{path}: {kind} cannot hold it ({error}); use .png") from error


def write_picture(path, picture: Tensor) -> None:
    """Write one picture (1, 3, H, W) or luma (1, 1, H, W) with 8 bits; the rest is as with `save_picture`."""
    save_picture(path, Picture([to_image(picture)]))


def _fitted(picture: Picture, kind: str, path: Path) -> Picture:
    """The picture as that kind of file can hold it; what is lost is told in one line."""
    frames = picture.frames
    lost: list[str] = []
    channels = frame_channels(frames[0])
    if len(frames) > 1 and kind not in ANIMATED:
        lost.append("an animation (this is its first frame)")
        frames = frames[:1]
    if not isinstance(frames[0], Image.Image) and kind not in ("PNG", "TIFF"):
        lost.append("16 bits of this picture (8 are left; .png and .tif hold them)")
        frames = [to_8_bits(frame) for frame in frames]
    if channels in (2, 4) and kind in ("JPEG", "BMP"):
        lost.append("transparency (laid on white)")
        frames = [_on_white(to_8_bits(frame)) for frame in frames]
    profile = picture.profile
    if profile and (kind in ("GIF", "BMP") or (kind == "WEBP" and channels < 3)):
        lost.append("the colour profile")
        profile = None
    coding = picture.coding
    if coding and kind != "PNG":
        lost.append(f"what its colours are ({describe_coding(coding)})")
        coding = {}
    words, lost_words = fit_metadata(picture, kind)
    lost += lost_words
    durations, plays = picture.durations, picture.plays
    if len(frames) > 1:
        durations, plays = [_nearest_duration(duration, kind) for duration in durations], min(plays, MAX_PLAYS[kind])
        if any(abs(new - old) > 0.1 * old for new, old in zip(durations, picture.durations, strict=True)):
            lost.append("how long each frame is shown (the nearest that it knows is written)")
        if plays < picture.plays:
            lost.append(f"{picture.plays} repetitions ({plays} are written)")
    if kind == "GIF":
        if picture.kind != "GIF":
            lost.append("more than 256 colours")
            if any(_is_half_transparent(frame) for frame in frames):
                lost.append("half-transparent pixels")
        frames = [_with_palette(to_8_bits(frame)) for frame in frames]
    if lost:
        note(f"{path}: {kind} cannot hold {', '.join(lost)}")
    return replace(
        picture, frames=frames, durations=durations, plays=plays, profile=profile, coding=coding, **words
    )  # fmt: skip


def _nearest_duration(duration: float, kind: str) -> float:
    """Milliseconds as a kind of file can hold them: a GIF counts hundredths of a second, and players mind no 0 or 1."""
    if kind == "GIF" and duration:
        duration = max(20, 10 * round(duration / 10))
    return duration


def _long_enough(frames: list[Image.Image], durations: list[float], kind: str) -> tuple[list[Image.Image], list[int]]:
    """Frames and whole milliseconds in which that kind of file can count: who stands longer is written several times.

    Pillow joins equal frames and fails where the sum is too much, so that some must differ: by a level, in one colour.
    """
    most, together = MAX_DURATION[kind], 0
    long: list[Image.Image] = []
    times: list[int] = []
    for frame, duration in zip(frames, map(round, durations), strict=True):
        for start in range(0, max(1, duration), most):
            part = min(most, duration - start)
            together = together + part if long and frame == long[-1] else part
            if together > most:
                frame, together = _a_level_off(frame), part
            long.append(frame)
            times.append(part)
    return long, times


def _a_level_off(frame: Image.Image) -> Image.Image:
    """The same with its first pixel, or where there is a palette all pixels of that colour, one level off."""
    other = frame.copy()
    if other.mode == "P":
        palette, place = other.getpalette() or [], 3 * int(other.getpixel((0, 0)))  # type: ignore[arg-type]
        palette[place] ^= 1
        other.putpalette(palette)
    else:
        pixel = numpy.asarray(other.crop((0, 0, 1, 1))).ravel() ^ [1, 0, 0, 0][: len(other.getbands())]
        other.putpixel((0, 0), tuple(map(int, pixel)))
    return other


def _is_half_transparent(frame: Frame) -> bool:
    if frame_channels(frame) not in (2, 4):
        return False
    return any(to_8_bits(frame).getchannel("A").histogram()[1:255])


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
        colours = (palette.getpalette() or [])[: 3 * 255]
        palette.putpalette(colours + [0] * (768 - len(colours)))
        palette.paste(255, mask=transparent)
        palette.info["transparency"] = 255
    return palette


def _save_through_pillow(temporary: Path, picture: Picture, kind: str, quality: int) -> None:
    options: dict[str, Any] = pillow_options(picture, kind)
    options |= {"icc_profile": picture.profile} if picture.profile else {}
    options |= {"quality": quality} if kind in ("JPEG", "WEBP") else {}
    options |= {"subsampling": 0} if kind == "JPEG" and quality >= FULL_COLOURS else {}
    options |= {"lossless": True} if kind == "WEBP" and quality == 100 else {}
    if picture.dpi and kind in ("PNG", "BMP", "JPEG"):
        options["dpi"] = tuple(map(round, picture.dpi)) if kind == "JPEG" else picture.dpi
    first = picture.frames[0]
    if not isinstance(first, Image.Image) and first.shape[2] > 1:
        write_deep_png(temporary, first, options)
        return
    frames = [frame if isinstance(frame, Image.Image) else Image.fromarray(frame[:, :, 0]) for frame in picture.frames]
    if len(frames) > 1:
        frames, durations = _long_enough(frames, picture.durations, kind)
        options |= {"save_all": True, "append_images": frames[1:], "duration": durations}
        options |= {"loop": picture.plays} if kind != "GIF" else {}
    if kind == "GIF":
        options |= {"optimize": False}
        options |= {"loop": max(0, picture.plays - 1)} if len(frames) > 1 and picture.plays != 1 else {}
        if "transparency" in frames[0].info:
            options |= {"transparency": 255, "disposal": 2}
    with _ThroughPython(io.FileIO(temporary, "w")) as file:
        frames[0].save(file, format=kind, **options)


class _ThroughPython(io.BufferedWriter):
    """A file that has no number, by which Pillow would write itself, and take half a block on a full disk for all."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")
