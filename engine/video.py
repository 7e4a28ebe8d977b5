"""Films through a network, picture by picture, in pieces: a run that is stopped loses the piece in hand, no more.

    upscale_film(open_film(path), Path("large"), Path("large.mp4"), chosen, UpscaleSettings(), Tiling())

Each piece of a few pictures is a file in a hidden folder beside the result. When all are there, they are
joined with the sound and all else of the old film, and the folder goes. Several processes may share the pieces: each
takes those that no other is at.
"""

import glob
import hashlib
import queue
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy
import torch
from torch import Tensor
from tqdm import tqdm

from engine.checkpoints import model_name
from engine.choosing import Chosen, weights_digest
from engine.devices import gathered, rank_and_size, run_on_first
from engine.ensembles import WAYS, Ensemble
from engine.film_comparison import compare_films
from engine.networks import Network
from engine.settings import UpscaleSettings
from engine.upscaling import Tiling, upscale, upscale_luma
from imaging import film_colours
from imaging.console import UserError, note, one_line
from imaging.film_copying import CONTAINERS
from imaging.film_writing import Form, check_container, chosen_form, join, piece_suffix, write_piece
from imaging.films import Film, Planes, between, read_pictures
from imaging.images import resize
from imaging.writing import MAX_NAME, InUseError, locked, replacing, shortened

PIECE = 24  # pictures
AHEAD = 2  # pictures that wait between decoding, network and encoding, which run at the same time
WAIT = 2.0  # seconds between two looks at what other processes have done

Item = TypeVar("Item")


# ---------------------------------------------------------------------------------------------
# One picture
# ---------------------------------------------------------------------------------------------


@dataclass
class Enlarging:
    """How the pictures of one film are enlarged: planes in, planes out."""

    film: Film
    form: Form
    size: tuple[int, int]  # of the result
    network: Network
    scale: int
    tiling: Tiling

    @torch.inference_mode()
    def __call__(self, planes: Planes) -> Planes:
        """The planes of a picture → those of the enlarged one, as `form` stores them.

        A network on luma gets Y as it is, and colours are enlarged by bicubic interpolation: nothing goes through RGB.
        """
        numbers = self.numbers(planes)
        if self.film.colours.kind != "rgb" and (self.network.luma or len(numbers) == 1):
            luma = upscale_luma(self.network, numbers[0], self.scale, self.size, self.tiling)
            refuse_no_numbers(luma)
            return self.with_bicubic_colours(luma, numbers[1:])
        rgb = film_colours.as_rgb(numbers, self.film.size, self.film.colours)
        result = upscale(self.network, rgb, self.scale, self.tiling, self.size)
        refuse_no_numbers(result)
        return self.stored(result)

    @torch.inference_mode()
    def bicubic(self, planes: Planes) -> Planes:
        """The planes of a picture → those of the picture enlarged by bicubic interpolation alone."""
        numbers = self.numbers(planes)
        if self.film.colours.kind == "rgb":
            return self.stored(resize(torch.cat(numbers, dim=1), size=self.size))
        return self.with_bicubic_colours(resize(numbers[0], size=self.size), numbers[1:])

    def numbers(self, planes: Planes) -> list[Tensor]:
        """What the planes of the film mean."""
        return film_colours.numbers_of(planes, self.film.bits, self.film.colours)

    def with_bicubic_colours(self, luma: Tensor, chroma: list[Tensor]) -> Planes:
        """Enlarged luma, and colours enlarged by bicubic interpolation, as planes of the new film."""
        return self.codes(luma, *(self.moved(part, self.film.size) for part in chroma))

    def stored(self, rgb: Tensor) -> Planes:
        """RGB as the planes of the new film."""
        if self.form.colours.kind == "rgb":
            return tuple(film_colours.to_codes(part, self.form.bits, full=True) for part in rgb.split(1, dim=1))
        luma, *chroma = film_colours.from_rgb(rgb, self.form.colours.matrix)
        return self.codes(luma, *(self.moved(part, self.size) for part in chroma))

    def codes(self, luma: Tensor, *chroma: Tensor) -> Planes:
        """Luma and colour differences as planes of code values."""
        bits, full = self.form.bits, self.form.colours.full
        planes = [film_colours.to_codes(luma, bits, full)]
        return (*planes, *(film_colours.to_codes(part, bits, full, is_chroma=True) for part in chroma))

    def moved(self, chroma: Tensor, size: tuple[int, int]) -> Tensor:
        """Colour samples of a picture of `size` as those of the new film."""
        position, step = self.film.colours.position, self.form.chroma_step
        return film_colours.enlarge_chroma(chroma, size, self.size, position, step)


def refuse_no_numbers(result: Tensor) -> None:
    """Raises UserError for the results of weights that are damaged."""
    if not result.isfinite().all():
        raise UserError("the network's results are not numbers: its weights are damaged")


def enlarged_pictures(pictures: Iterable[tuple[int, Planes]], enlarging: Enlarging) -> Iterator[tuple[int, Planes]]:
    """Each picture enlarged; of equal ones in a row, as animation has them, the first alone."""
    before: Planes = ()
    result: Planes = ()
    for stamp, planes in pictures:
        equal = bool(before) and all(numpy.array_equal(one, two) for one, two in zip(before, planes, strict=True))
        if not equal:
            before, result = planes, enlarging(planes)
        yield stamp, result


def ahead(items: Iterable[Item], most: int = AHEAD) -> Iterator[Item]:
    """The same items, made in another thread, a few of them before they are asked for."""
    ready: queue.Queue = queue.Queue(most)
    stopping = threading.Event()

    def put(item) -> bool:
        while not stopping.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.1)
                return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # is raised where the items are used
            put((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopping.set()
        thread.join()


# ---------------------------------------------------------------------------------------------
# The whole film
# ---------------------------------------------------------------------------------------------


def upscale_film(
    film: Film, begun: Path, target: Path, chosen: Chosen, settings: UpscaleSettings, tiling: Tiling
) -> list[Path]:  # fmt: skip
    """Enlarge a film into the file `target`, going on with what an earlier run left; returns what was written.

    `begun` is how the name of the result begins on every run. All processes that torchrun started call this together,
    and the first of them writes. Raises UserError, UsageError.
    """
    check_container(target, settings.codec)
    for line in film.told:
        note(f"{film.path}: {line}")
    scale = chosen.checkpoint["scale"]
    factor = settings.outscale or scale
    size = max(1, round(film.size[0] * factor)), max(1, round(film.size[1] * factor))
    form = chosen_form(film, size, settings.codec, settings.quality, settings.preset)
    pieces = Pieces(film, form, CONTAINERS[target.suffix.lower()], between(film, settings.start, settings.end))
    pieces.lie_beside(begun, fingerprint(chosen, size))
    enlarging = Enlarging(film, form, size, chosen.network, scale, tiling)
    problem = None
    try:
        pieces.make_all(enlarging)
    except UserError as error:
        problem = error
    if first_problem := next(filter(None, gathered(problem)), None):  # the others have gone on as far as they could
        raise first_problem
    run_on_first(lambda: pieces.join(target))
    if not settings.compare:
        return [target]
    label = f"{model_name(chosen.checkpoint)} ×{factor:g}"
    return [
        target,
        *run_on_first(lambda: compare_films(film, target, form, pieces.pictures, enlarging.bicubic, label)),
    ]


@dataclass
class Pieces:
    """The pieces of a film on the disk."""

    film: Film
    form: Form
    container: str
    pictures: tuple[int, int]  # number of the first, and of the one after the last
    folder: Path = Path()

    def __post_init__(self):
        first, last = self.pictures
        self.spans = [(start, min(start + PIECE, last)) for start in range(first, last, PIECE)]

    @property
    def missing(self) -> list[int]:
        """Numbers of the pieces that are still to be made."""
        there = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        return [number for number in range(len(self.spans)) if self.path(number).name not in there]

    def path(self, number: int) -> Path:
        """The file of a piece."""
        return self.folder / f"{number:06}.{piece_suffix(self.form.codec)}"

    def lie_beside(self, begun: Path, network: str) -> None:
        """Choose the folder: that of an earlier run of the same film, network and form, if there was one."""
        there = self.film.path.stat()
        same = (self.film.path.resolve(), there.st_size, there.st_mtime_ns, self.spans, self.film.deinterlaced)
        digest = hashlib.sha256(repr((same, network, self.form, self.container)).encode()).hexdigest()[:8]
        name = shortened(begun.name, MAX_NAME - 30)
        self.folder = begun.with_name(f".{name}.{digest}.parts")
        if len(self.missing) < len(self.spans):
            done = len(self.spans) - len(self.missing)
            note(f"{self.film.path}: going on after {done} of {len(self.spans)} pieces of an earlier run")
        for other in begun.parent.glob(f".{glob.escape(name)}.*.parts"):
            if other != self.folder:
                note(f"{other}: an earlier run with other settings left it; delete it if you will not go on with it")

    def make_all(self, enlarging: Enlarging) -> None:
        """Make what is missing and no other process is at, until all are there. Raises UserError."""
        rank, count = rank_and_size()
        self.folder.mkdir(parents=True, exist_ok=True)
        first, last = self.pictures
        with tqdm(total=last - first, unit=" pictures", desc=one_line(self.film.path.name), leave=False) as bar:
            bar.initial = bar.n = self.done()
            while missing := self.missing:
                for number in sorted(missing, key=lambda number: number % count != rank):  # first its share
                    with suppress(InUseError), locked(self.path(number)):
                        self.make(number, enlarging, bar)
                if self.missing == missing:
                    time.sleep(WAIT)  # another process is at the rest

    def make(self, number: int, enlarging: Enlarging, bar: tqdm) -> None:
        """One piece, unless it is there."""
        if self.path(number).exists():
            return
        pictures = ahead(enlarged_pictures(ahead(read_pictures(self.film, *self.spans[number])), enlarging))
        with replacing(self.path(number)) as temporary:
            write_piece(temporary, self.film, self.form, self.container, counted(pictures, bar))
        bar.n = self.done()

    def done(self) -> int:
        """How many pictures are in the pieces that are there."""
        missing = set(self.missing)
        return sum(stop - start for number, (start, stop) in enumerate(self.spans) if number not in missing)

    def join(self, target: Path) -> None:
        """Put them together under the result's name, and remove them."""
        stamps, (first, last) = self.film.stamps, self.pictures
        end = stamps[last] if last < len(stamps) else self.film.end
        window = None if last - first == len(stamps) else (stamps[first], end)
        with replacing(target) as temporary:
            paths = [path for path in map(self.path, range(len(self.spans))) if path.stat().st_size]
            if not paths:
                raise UserError(f"{self.film.path}: none of its pictures can be decoded")
            join(self.film, self.form, paths, temporary, self.container, window)
        shutil.rmtree(self.folder, ignore_errors=True)


def counted(items: Iterable[Item], bar: tqdm) -> Iterator[Item]:
    """The same items; the bar moves on with each."""
    for item in items:
        yield item
        bar.update()


def fingerprint(chosen: Chosen, size: tuple[int, int]) -> str:
    """What tells a network, how often it is run, and the size of what it makes, from others."""
    ways = WAYS if isinstance(chosen.network, Ensemble) else 1
    return f"{chosen.checkpoint['scale']} {size} {ways} {weights_digest(chosen.network)}"
