"""Pairs of a low and a high picture, made or read: in memory as bytes, or packed on disk where they are too many.

read_pairs(["PHOTOS"], scale=4, enlarge=False)     folders of photographs, lists, or pairs → pairs
make_pair(high, scale, enlarge)                    one photograph → its low and its high picture
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Protocol, TypeAlias, cast

import torch
from torch import Tensor
from tqdm import tqdm

import degrade
from engine.packed import FOLDER, Packed, PackedPicture, cropped, in_parallel
from engine.sources import Named, Source, at_smaller_sizes, find_sources, refuse_other_scales, said, size_in_head
from imaging.console import UsageError, UserError, note
from imaging.files import read_picture
from imaging.images import crop_to_multiple, from_bytes, resize, to_bytes

# Pictures are kept in memory as bytes. Where they have more than this many pixels together, they are packed on disk.
PIXELS_IN_MEMORY = 300_000_000
MIN_SIDE = 32  # pixels a side: what SRCNN's radius and a discriminator need

Picture: TypeAlias = Tensor | PackedPicture


@dataclass(frozen=True)
class Pair:
    """A low and a high picture as uint8 (3, height, width), and the photograph that they come from.

    Either may lie on disk: then it has a shape, and slices of it, `[:]` too, are tensors.
    """

    small: Tensor
    large: Tensor
    photograph: str
    shrunk: int = 1  # both are made of the photograph at 1/shrunk of its size

    def pictures(self) -> tuple[Tensor, Tensor]:
        """Both as (1, 3, height, width) in 0..1."""
        return from_bytes(self.small[:][None]), from_bytes(self.large[:][None])


def make_pair(high: Tensor, scale: int, enlarge: bool) -> tuple[Tensor, Tensor]:
    """(1, 3, H, W) in 0..1 → small and large as uint8 (3, …): large is cropped to a multiple of the scale.

    Small is 1/scale of large, or the same size again if `enlarge`, as SRCNN wants it.
    """
    large = crop_to_multiple(high, scale)
    small = degrade.bicubic(large, scale)
    if enlarge:
        small = resize(small, scale)
    return to_bytes(small)[0], to_bytes(large)[0]


class Store(Protocol):
    """Where pictures are kept: in memory or packed."""

    def picture(self, path: Path) -> Picture:
        """The picture of a file; raises UserError."""

    def derived(self, path: Path, form: str, make: Callable[[], Tensor]) -> Picture:
        """What is made of it."""


class Memory:
    """Pictures as they are read. The last one is kept, for more than one pair may be made of it."""

    def __init__(self) -> None:
        self.last: tuple[Path, Tensor] | None = None

    def picture(self, path: Path) -> Tensor:
        """The picture of a file as uint8 (3, height, width)."""
        if self.last is None or self.last[0] != path:
            self.last = path, to_bytes(read_picture(path))[0]
        return self.last[1]

    def derived(self, path: Path, form: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives."""
        return make()


@dataclass(frozen=True)
class Wanted:
    """What pairs are for."""

    scale: int
    enlarge: bool  # the low picture to the size of the high one, as SRCNN wants it
    degrade: bool = False  # the low pictures are made at every step: here they are blank
    min_side: int = MIN_SIDE  # pixels a side of a photograph


class MisfitError(UserError):
    """Two pictures are no pair for this scale."""


def read_pairs(
    named: Iterable[Named], scale: int, enlarge: bool, min_side: int = MIN_SIDE, degrade: bool = False,
    cache: Path = FOLDER, share: tuple[int, int] = (0, 1), multiscale: bool = False,
) -> tuple[list[Pair], bool]:  # fmt: skip
    """Everything that `-i` names: see sources.py. More pixels than PIXELS_IN_MEMORY are packed in the folder `cache`.

    Returns the pairs, and whether they are all ready-made. With `degrade` all low pictures are blank. Bad files, and
    photographs with fewer than `min_side` pixels a side, are named and left out. `share` is the number of this process
    among those of the machine, and how many they are. `multiscale` adds large photographs at a half and a third of
    their size. Raises UserError where nothing usable is left, where all pairs are for another scale, and where the disk
    is full.
    """
    named = list(named)
    sources = find_sources(named)
    if multiscale:
        sources = [size for source in sources for size in at_smaller_sizes(source, min_side)]
    wanted = Wanted(scale, enlarge, degrade, min_side)
    if enlarge:
        refuse_other_scales(sources, scale)
    pairs: list[Pair] = []
    misfits: list[str] = []
    told: set[str] = set()  # of a photograph that cannot be read its smaller copies say the same
    for result in tqdm(_read(sources, wanted, cache, share), "pictures", len(sources), leave=False):
        if isinstance(result, Pair):
            pairs.append(result)
        elif isinstance(result, MisfitError):
            misfits.append(str(result))
        elif str(result) not in told:
            note(f"left out: {result}")
            told.add(str(result))
    if misfits and not pairs:
        raise UsageError(f"{misfits[0]} (and {len(misfits) - 1} more such pairs)")
    for misfit in misfits:
        note(f"left out: {misfit}")
    if not pairs:
        raise UserError(f"nothing to train on in {', '.join(map(said, named))}")
    return pairs, all(source.small for source in sources)


def _read(sources: list[Source], wanted: Wanted, cache: Path, share: tuple[int, int]) -> Iterator[Pair | UserError]:
    """A pair of each source, or why there is none."""
    pixels = [_pixels_in_head(source) for source in sources]
    if sum(pixels) <= PIXELS_IN_MEMORY:
        memory = Memory()
        yield from (_pair_or_error(source, memory, wanted) for source in sources)
        return
    packed = Packed(cache)
    missing = [not _is_packed(source, packed, wanted) for source in sources]
    low = 0 if wanted.degrade else 1 if wanted.enlarge else 1 / wanted.scale**2  # pixels for each of the high picture
    size, rest = (3 * (1 + low) * sum(some) for some in (pixels, compress(pixels, missing)))
    packed.make_room(rest)
    told = f"{sum(missing)} are packed there now" if any(missing) else "packed before"
    note(
        f"{len(sources)} pictures, too many for memory, are read from {cache}/, which takes {size / 1e9:.1f} GB for "
        f"them ({told}); it may be deleted between runs"
    )
    rank, processes = share
    work = partial(_pair_or_error, store=packed, wanted=wanted)
    jobs = list(compress(sources, missing))
    first = rank * len(jobs) // processes  # each process begins elsewhere, and finds done what others have done
    jobs = jobs[first:] + jobs[:first]
    for _ in tqdm(in_parallel(work, jobs, processes), "packing", len(jobs), leave=False, disable=not jobs):
        pass
    yield from map(work, sources)


def _pixels_in_head(source: Source) -> int:
    """How many pixels the high picture has, as far as its head says; else as many as the file has bytes."""
    try:
        width, height = size_in_head(source.large) or (source.large.stat().st_size, 1)
    except OSError:  # to be named where it is read
        return 0
    return width * height // source.shrunk**2


def _is_packed(source: Source, store: Packed, wanted: Wanted) -> bool:
    """Whether both of its pictures are there."""
    try:
        forms = [(source.large, _form_of_high(source))] + ([] if wanted.degrade else [_form_of_low(source, wanted)])
        return all(store.has(*form) for form in forms)
    except UserError:  # no such file
        return True


def _form_of_high(source: Source) -> str:
    """What is done to a photograph."""
    return f"by{source.shrunk}" if source.shrunk > 1 else ""


def _form_of_low(source: Source, wanted: Wanted) -> tuple[Path, str]:
    """The file that the low picture is made of, and what for."""
    if source.small is None:
        return source.large, f"{_form_of_high(source)}x{wanted.scale}{'-enlarged' * wanted.enlarge}"
    return source.small, ""


def _pair_or_error(source: Source, store: Store, wanted: Wanted) -> Pair | UserError:
    try:
        return _pair(source, store, wanted)
    except UserError as error:
        return error


def _pair(source: Source, store: Store, wanted: Wanted) -> Pair:
    """The pair of a source. Raises UserError for files that cannot be read, and for pictures that are too small."""
    high = _high(source, store)
    if source.small is None:
        height, width = (side - side % wanted.scale for side in high.shape[-2:])
        if min(height, width) < wanted.min_side:
            raise UserError(_too_small(source.large, high, wanted.min_side))
        large = cropped(high, height, width)
        if wanted.degrade:
            low_side = 1 if wanted.enlarge else wanted.scale
            small = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, height // low_side, width // low_side)
            return Pair(small, cast(Tensor, large), source.photograph, source.shrunk)
        path, form = _form_of_low(source, wanted)
        shrunk = store.derived(
            path, form, lambda: make_pair(from_bytes(large[:][None]), wanted.scale, wanted.enlarge)[0]
        )
        return Pair(cast(Tensor, shrunk), cast(Tensor, large), source.photograph, source.shrunk)
    low, large = _fitting(source, store.picture(source.small), high, wanted)
    if min(large.shape[-2:]) < MIN_SIDE:
        raise UserError(_too_small(source.large, large, MIN_SIDE))
    if wanted.enlarge and low.shape != large.shape:
        form = f"enlarged-x{wanted.scale}"
        low = store.derived(source.small, form, lambda: to_bytes(resize(from_bytes(low[:][None]), wanted.scale))[0])
    return Pair(cast(Tensor, low), cast(Tensor, large), source.photograph)


def _high(source: Source, store: Store) -> Picture:
    """The high picture of a source at the size that is wanted."""
    if source.shrunk == 1:
        return store.picture(source.large)

    def make() -> Tensor:
        whole = from_bytes(store.picture(source.large)[:][None])
        return to_bytes(degrade.bicubic(crop_to_multiple(whole, source.shrunk), source.shrunk))[0]

    return store.derived(source.large, _form_of_high(source), make)


def _fitting(source: Source, low: Picture, high: Picture, wanted: Wanted) -> tuple[Picture, Picture]:
    """Both pictures of a pair, the high one cropped to a multiple of the low one. Raises MisfitError."""
    small, large = low.shape[-2:], high.shape[-2:]
    if wanted.enlarge and small == large:
        return low, high
    sides = [wanted.scale * side for side in small]
    if all(0 <= there - side < wanted.scale for there, side in zip(large, sides, strict=True)):
        return low, cropped(high, *sides)
    sizes = " beside ".join("×".join(map(str, reversed(size))) for size in (small, large))
    raise MisfitError(f"{source.small}: {sizes}; this model wants a small one of 1/{wanted.scale} the size")


def _too_small(path: Path, picture: Picture, side: int) -> str:
    size = f"{picture.shape[-1]}×{picture.shape[-2]}"
    return f"{path}: {size} is smaller than {side}×{side}"
