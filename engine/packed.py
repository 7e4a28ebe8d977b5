"""Pictures that memory cannot hold: decoded once into files of plain bytes, of which every patch reads what it needs.

    packed = Packed(Path("photographs_packed"))
    picture = packed.picture(path)           # decodes it, unless it is there already
    picture[:, 100:196, 40:136]              # uint8 (3, 96, 96), read from the disk

Each picture is a file of its own, an .npy of uint8 (height, width, 3), or (height, width, 1) if it is grey. Its name
says of which file it was made, with size and date, so that it is made anew when that file changes. It is written whole
or not at all: all processes of a machine can read and fill one such folder.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy
import torch
from torch import Tensor

from imaging.console import UserError
from imaging.files import read_picture
from imaging.images import to_bytes
from imaging.writing import replacing

FOLDER = Path("photographs_packed")
MOST_WORKERS = 8  # each takes 0.3 GB; what is faster is the disk's doing
FILES_PER_WORKER = 16  # it takes seconds to start


@dataclass(frozen=True)
class PackedPicture:
    """A picture on disk that is used like a uint8 tensor (3, height, width): it has a shape, and slices of it are read.

    `stored` is the shape (height, width, channels) of the file, of which rows below and columns at the right may be
    cropped away.
    """

    path: Path
    offset: int  # bytes before the first pixel
    stored: tuple[int, int, int]
    height: int
    width: int

    @property
    def shape(self) -> torch.Size:
        """(3, height, width)."""
        return torch.Size((3, self.height, self.width))

    @property
    def is_grey(self) -> bool:
        """Whether red, green and blue are the same."""
        return self.stored[2] == 1

    def cropped(self, height: int, width: int) -> "PackedPicture":
        """Its upper left part; nothing is read."""
        return replace(self, height=height, width=width)

    def __getitem__(self, place) -> Tensor:
        """A copy of `[:]` or `[:, rows, columns]`. Raises UserError if the file has gone."""
        _, rows, columns = (slice(None),) * 3 if place == slice(None) else place
        try:
            # Mapped for each patch alone, or all that was ever read would count as this program's memory.
            whole = numpy.memmap(self.path, numpy.uint8, "r", self.offset, self.stored)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path}: has gone or was cut short while it was in use ({error})") from error
        part = torch.from_numpy(numpy.array(whole[: self.height, : self.width][rows, columns]))
        return part.movedim(-1, 0).expand(3, -1, -1)


class Packed:
    """A folder of packed pictures."""

    def __init__(self, folder: Path):
        self.folder = folder

    def picture(self, path: Path) -> PackedPicture:
        """The picture of a file. Raises UserError for one that cannot be read, and where the disk is full."""
        return self.derived(path, "", lambda: to_bytes(read_picture(path))[0])

    def derived(self, path: Path, form: str, make: Callable[[], Tensor]) -> PackedPicture:
        """What `make` gives, uint8 (3, height, width), under a name for what has been done to the file's picture."""
        target = self.place(path, form)
        found = _open(target)
        if found is None:
            pixels = make().movedim(0, -1)
            if torch.equal(pixels[..., 0], pixels[..., 1]) and torch.equal(pixels[..., 0], pixels[..., 2]):
                pixels = pixels[..., :1]
            with replacing(target) as temporary, open(temporary, "wb") as file:
                numpy.save(file, numpy.ascontiguousarray(pixels.numpy()))
            found = _open(target)
            assert found, "what was just written can be read"
        return found

    def place(self, path: Path, form: str = "") -> Path:
        """The file that holds a picture's pixels. Raises UserError if there is no such picture."""
        try:
            about = path.stat()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from error
        known_by = f"{_resolved(path.parent) / path.name}|{about.st_size}|{about.st_mtime_ns}"
        name = hashlib.sha256(os.fsencode(known_by)).hexdigest()[:32]
        return self.folder / name[:2] / f"{name[2:]}{form and '.'}{form}.npy"

    def has(self, path: Path, form: str = "") -> bool:
        """Whether it is there already."""
        return self.place(path, form).exists()

    def make_room(self, size: float) -> None:
        """Raises UserError if the disk cannot take so many bytes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror or error}") from error
        if size > free:
            raise UserError(
                f"{self.folder}: the pictures take {size / 1e9:.1f} GB when packed, and its disk has "
                f"{free / 1e9:.1f} GB free: make room, give --cache a folder on another disk, or fewer pictures"
            )


_resolved = cache(Path.resolve)  # a folder's, for its thousands of pictures


def _open(path: Path) -> PackedPicture | None:
    """A packed picture; None if there is none, or it is not whole."""
    try:
        with open(path, "rb") as file:
            if numpy.lib.format.read_magic(file) != (1, 0):
                return None
            stored, _, kind = numpy.lib.format.read_array_header_1_0(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        return None
    if kind != numpy.uint8 or len(stored) != 3 or size != offset + numpy.prod(stored):
        return None
    return PackedPicture(path, offset, stored, *stored[:2])


# ---------------------------------------------------------------------------------------------
# In several processes
# ---------------------------------------------------------------------------------------------

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(work: Callable[[Job], Result], jobs: list[Job], processes: int = 1) -> Iterator[Result]:
    """`work` of each job, in order; in several processes if there are many. `processes` more of us are at it too."""
    workers = min(MOST_WORKERS, (os.cpu_count() or 1) // processes, len(jobs) // FILES_PER_WORKER)
    if workers < 2:
        yield from map(work, jobs)
        return
    # Not by fork: PyTorch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin_worker) as pool:
        try:
            yield from pool.map(work, jobs, chunksize=4)
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """One thread each, Ctrl-C is the parent's affair, and none outlives it."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed tells nobody."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def is_grey(picture: Tensor | PackedPicture) -> bool:
    """Whether red and blue are the same."""
    return picture.is_grey if isinstance(picture, PackedPicture) else torch.equal(picture[0], picture[2])


def cropped(picture: Tensor | PackedPicture, height: int, width: int):
    """Its upper left part."""
    return picture.cropped(height, width) if isinstance(picture, PackedPicture) else picture[:, :height, :width]
