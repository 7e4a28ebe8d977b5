"""What a picture file holds, in memory: frames of 8 or 16 bits, and what lies beside the colours."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy
import torch
from PIL import Image
from torch import Tensor

# A frame holds its pixels as the file that will be written wants them, so that a large one is never copied:
# with 8 bits a Pillow image of mode L, LA, RGB or RGBA, with 16 an array (H, W, 1 to 4 channels) of uint16.
Frame = Image.Image | numpy.ndarray

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
STRIP = 256  # rows at a time, where a whole frame as numbers would be too much
TURN = Image.Transpose
UPRIGHT: dict[int, tuple[Image.Transpose, Callable]] = {  # EXIF orientation → what brings an image or array upright
    2: (TURN.FLIP_LEFT_RIGHT, lambda a: a[:, ::-1]),
    3: (TURN.ROTATE_180, lambda a: a[::-1, ::-1]),
    4: (TURN.FLIP_TOP_BOTTOM, lambda a: a[::-1]),
    5: (TURN.TRANSPOSE, lambda a: a.swapaxes(0, 1)),
    6: (TURN.ROTATE_270, lambda a: a[::-1].swapaxes(0, 1)),
    7: (TURN.TRANSVERSE, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
    8: (TURN.ROTATE_90, lambda a: a[:, ::-1].swapaxes(0, 1)),
}


@dataclass
class Picture:
    """What a picture file holds. Several frames, all of one size and mode, are an animation."""

    frames: list[Frame]
    kind: str = "PNG"  # Pillow's name of the format it was read from
    durations: list[float] = field(default_factory=list)  # of the frames, in milliseconds
    plays: int = 0  # how often an animation is shown; 0 is for ever
    profile: bytes | None = None  # ICC
    coding: dict[bytes, bytes] = field(default_factory=dict)  # PNG's chunks for colours that no profile describes
    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    xmp: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)  # by PNG's keywords; "Comment" is what JPEG and GIF have too
    quality: int | None = None  # of the JPEG that it was, 1 to 100
    lossy: bool = False  # it was a WebP, AVIF, HEIC or TIFF that had left something out
    remarks: list[str] = field(default_factory=list)  # what its reader must be told of it


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


def read_window(frame: Frame, top: int, bottom: int, left: int, right: int) -> Tensor:
    """The same window as a tensor (1, channels, rows, columns) in 0..1."""
    pixels = frame_window(frame, top, bottom, left, right)
    peak = 255 if pixels.dtype == numpy.uint8 else 65535
    return torch.from_numpy(pixels.astype(numpy.float32) / peak).permute(2, 0, 1)[None].contiguous()


def is_grey(frame: Frame) -> bool:
    """Whether red, green and blue are equal in every pixel."""
    (height, width), channels = frame_size(frame), frame_channels(frame)
    if channels < 3:
        return True
    for top in range(0, height, STRIP):
        pixels = frame_window(frame, top, min(height, top + STRIP), 0, width)
        if not (pixels[:, :, 1:3] == pixels[:, :, :1]).all():
            return False
    return True


def upright(frame: Frame, orientation: int) -> Frame:
    """A frame as it is to be seen, from how it lies in a file of that EXIF orientation."""
    if orientation not in UPRIGHT:
        return frame
    method, turn = UPRIGHT[orientation]
    return frame.transpose(method) if isinstance(frame, Image.Image) else numpy.ascontiguousarray(turn(frame))


def to_opaque(frame: Frame) -> Tensor:
    """A frame as (1, 1 or 3, H, W) in 0..1, with its transparency laid on white."""
    height, width = frame_size(frame)
    planes = read_window(frame, 0, height, 0, width)
    if planes.shape[1] % 2 == 0:
        colour, alpha = planes[:, :-1], planes[:, -1:]
        planes = colour * alpha + (1 - alpha)
    return planes


def to_frame(pixels: numpy.ndarray) -> Frame:
    """An array (H, W, channels) of uint8 or uint16 as a frame."""
    if pixels.dtype != numpy.uint8:
        return numpy.ascontiguousarray(pixels)
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


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
