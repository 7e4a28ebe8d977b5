"""What is refused before it fills the memory: small files that unpack to walls of pixels or of text."""

import math
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, PngImagePlugin

from imaging.console import UserError

MAX_PIXELS_PER_BYTE = 100_000  # a blank fax page has 80,000


@contextmanager
def guarded(huge: bool):
    """Pillow's guards: with `huge` none against many pixels, and always a wider one against long texts.

    Its own is 1 MB for each text of a PNG that is compressed, and for a profile. Sound files have longer ones.
    """
    pixels, text = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    try:
        Image.MAX_IMAGE_PIXELS = None if huge else pixels
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # 64 MB for all texts of a file together
        yield
    finally:
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, text


def check_pixels(path, width: int, height: int, frames: int = 1) -> None:
    """The guard for what Pillow does not look at, with its limit, and against a few bytes that are a wall.

    Raises UserError for no pixels, Pillow's DecompressionBombError for too many.
    """
    if width < 1 or height < 1:
        raise UserError("has no pixels")
    limit = 2 * (Image.MAX_IMAGE_PIXELS or math.inf)
    there = width * height * frames
    if there > limit:
        raise Image.DecompressionBombError(f"{frames} of {width}×{height} pixels, the limit is {limit:.0f}")
    size = Path(path).stat().st_size
    if there > max(4_000_000, MAX_PIXELS_PER_BYTE * size) and limit < math.inf:
        raise Image.DecompressionBombError(f"{width}×{height} pixels in a file of {size} bytes")
