"""Every way in from disk, one door for all commands: files become frames or tensors here and nowhere else.

    photo = open_picture("photo.tif")       # upright; depth, alpha, frames, profile and resolution as in the file
    picture = read_picture("photo.tif")     # (1, 3, H, W) in 0..1, for training and measuring

Here is what is told of it; imaging/decoding.py reads.
"""

import warnings
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from imaging.colours import check_profile, to_srgb
from imaging.console import UsageError, UserError, note, printable, quiet
from imaging.decoding import decode
from imaging.frames import Picture, to_opaque
from imaging.limits import guarded


@contextmanager
def reading(path):
    """What goes wrong in here with the picture file `path` is told in one line that names it.

    Raises UsageError if there is no such file, UserError if it is not a whole picture.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, not a picture")
    if path.is_symlink() and not path.exists():
        raise UsageError(f"{path}: is a link that leads nowhere")
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
        words = printable(" ".join(str(error).split()), 200) or type(error).__name__
        raise UserError(f"{path}: damaged or cut short ({words})") from error


def open_picture(path, huge: bool = False, srgb: bool = False) -> Picture:
    """Read a file of any kind. Depth comes from the file, never from its values.

    With `huge`, more pixels than Pillow thinks safe; with `srgb`, colours converted to sRGB. Raises UsageError if
    there is no such file, UserError if it is not a whole picture.
    """
    with reading(path), guarded(huge), quiet():
        picture = decode(path)
        check_profile(picture)
        picture = to_srgb(picture) if srgb else picture
    _tell(path, picture)
    return picture


def read_colours(path) -> Tensor:
    """The first frame of a file as (1, 1 or 3, H, W) in 0..1, for measuring; errors as in `open_picture`.

    What the file holds as grey has one channel. Transparency is laid on white, 16 bits keep their precision.
    """
    with reading(path), guarded(huge=False), quiet():
        picture = decode(path, pixels_only=True)
    _tell(path, picture)
    return to_opaque(picture.frames[0])


def read_picture(path) -> Tensor:
    """The same as (1, 3, H, W), for training: grey becomes RGB."""
    return read_colours(path).expand(-1, 3, -1, -1).contiguous()


def _tell(path, picture: Picture) -> None:
    for remark in dict.fromkeys(picture.remarks):
        note(f"{path}: {remark}")
