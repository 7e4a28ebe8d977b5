"""What training draws from: the pairs that pairs.py reads, and of them the batch of every step.

    split_by_photograph which pairs are learnt from and which are only measured on
    Data                cuts the patches of a step; on degraded pictures makes them too, and mixes them in a pool

Every random choice of a step comes from a generator seeded with (seed, step): a run can go on from any step.
"""

import math
import zlib
from collections.abc import Iterable
from functools import reduce
from pathlib import Path

import numpy
import torch
from torch import Tensor

import degrade
from engine.layouts import on_meta
from engine.networks import is_given_enlarged
from engine.packed import FOLDER, is_grey
from engine.pairs import MIN_SIDE, Pair, make_pair, read_pairs
from engine.sources import Named, find_sources
from imaging import distortions
from imaging.console import UsageError, note
from imaging.images import crop_to_multiple, from_bytes, resize, size_of, to_bytes

__all__ = ["Data", "Pair", "PairPool", "center_crop", "make_pair", "read_pairs", "sample_batch", "seeded"]

HELD_OUT_SHARE, MAX_HELD_OUT = 0.1, 10
# Of each held-out photograph the central square of this side is measured: enough to compare epochs.
HELD_OUT_SIDE = 192
REAL_MARGIN = 8  # pixels of the low picture around a patch while degraded pictures are made
# Over photographs an epoch has no natural end, so it is this many updates of the network.
UPDATES_PER_EPOCH = 250


def seeded(*numbers: int) -> torch.Generator:
    """A generator for one purpose, such as (seed, step): what a step draws depends on nothing before it."""
    return torch.Generator().manual_seed(int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0]))


def random_below(bounds: list[int], generator: torch.Generator) -> list[int]:
    """One whole number 0 ≤ n < bound for each bound."""
    return [int(torch.randint(bound, (), generator=generator)) for bound in bounds]


def choose_held_out(pairs: list[Pair], seed: int) -> set[str]:
    """The names of a tenth of the photographs, at least one and at most ten; those in colour before grey ones."""
    by_name = {pair.photograph: pair for pair in pairs}
    names = sorted(by_name)
    count = max(1, min(MAX_HELD_OUT, int(HELD_OUT_SHARE * len(names))))
    order = [names[index] for index in torch.randperm(len(names), generator=seeded(seed, 0x5EED)).tolist()]
    order.sort(key=lambda name: is_grey(by_name[name].large))
    return set(order[:count])


def split_by_photograph(pairs: list[Pair], held_out: set[str]) -> tuple[list[Pair], list[Pair]]:
    """Training pairs, and held-out pairs, which are those of the photographs named, as large as those are."""
    training = [pair for pair in pairs if pair.photograph not in held_out]
    if not training:
        note("only one photograph: PSNR is measured on what the network is trained on")
        training = pairs
    return training, [pair for pair in pairs if pair.photograph in held_out and pair.shrunk == 1]


def large_enough_to_cut(pairs: list[Pair], patch: int) -> list[Pair]:
    """The pairs whose low picture has a whole patch; the others are named. Raises UsageError if none has."""
    small = [pair for pair in pairs if min(pair.small.shape[-2:]) < patch]
    if len(small) == len(pairs):
        raise UsageError(f"all low pictures are smaller than a patch of {patch}×{patch}: give larger ones")
    for pair in small:
        height, width = pair.small.shape[-2:]
        note(f"left out: {pair.photograph}: its low picture has {width}×{height}, a patch {patch}×{patch} pixels")
    return [pair for pair in pairs if min(pair.small.shape[-2:]) >= patch]


def sample_batch(pairs: list[Pair], patch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A patch of each pair at a random place, flipped and turned at random: uint8 small and large, (N, 3, …).

    `patch` is the side in the small picture; the large patch is as many times larger as its picture is.
    """
    smalls: list[Tensor] = []
    larges: list[Tensor] = []
    for pair in pairs:
        scale = pair.large.shape[-1] // pair.small.shape[-1]
        rows, columns = (side - patch + 1 for side in pair.small.shape[-2:])
        top, left, flip, turns = random_below([rows, columns, 2, 4], generator)
        for picture, factor, patches in ((pair.small, 1, smalls), (pair.large, scale, larges)):
            y, x, side = top * factor, left * factor, patch * factor
            cut = picture[:, y : y + side, x : x + side]
            patches.append((cut.flip(-1) if flip else cut).rot90(turns, (-2, -1)))
    return torch.stack(smalls), torch.stack(larges)


class PairPool:
    """Real-ESRGAN's pool of 180 pairs, from which batches are mixed (the training pair pool of section 4.1).

    The pictures of a batch are shrunk by one factor in one mode, and share the kind of noise: see degrade.py. Learnt
    from as they come, every step would pull the network towards another kind of degradation. So a new batch goes into
    the pool, and one of pairs that were made at many different steps comes out.
    """

    def __init__(self, size: int = 180):
        self.size = size
        self.low = self.high = torch.empty(0, dtype=torch.uint8)  # of the first batch's shape, once it is there

    def exchange(self, low: Tensor, high: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Put a batch in and take as many pairs out at random; until the pool is full, the batch itself."""
        # It is empty before the first batch, and may have been loaded elsewhere.
        self.low = self.low.to(low.device) if len(self.low) else low[:0]
        self.high = self.high.to(high.device) if len(self.high) else high[:0]
        free = self.size - len(self.low)
        if free > 0:
            self.low = torch.cat((self.low, low[:free]))
            self.high = torch.cat((self.high, high[:free]))
            return low, high
        places = torch.randperm(self.size, generator=generator)[: len(low)].to(low.device)
        count = len(places)  # a batch may be larger than the pool: the rest passes by
        mixed = torch.cat((self.low[places], low[count:])), torch.cat((self.high[places], high[count:]))
        self.low[places], self.high[places] = low[:count], high[:count]
        return mixed

    def state_dict(self) -> dict:
        """What is in the pool; nothing before the first batch."""
        return {"low": self.low, "high": self.high} if len(self.low) else {}

    def load_state_dict(self, state: dict) -> None:
        """Go on with what was in a pool."""
        self.low, self.high = state["low"], state["high"]


class Data:
    """Training pairs, held-out pairs, and the batch of every step."""

    def __init__(
        self, sources: Iterable[Named], settings, device="cpu", rank: int = 0, processes: int = 1,
        cache: Path = FOLDER, share: tuple[int, int] = (0, 1),
    ):  # fmt: skip
        """`settings` are those of the run; of `processes` this is number `rank`; the rest is as in `read_pairs`."""
        # Apple's GPUs have no Poisson noise: degraded pictures are made on the CPU there.
        self.device = torch.device("cpu" if torch.device(device).type == "mps" else device)
        self.settings = settings
        self.rank, self.processes = rank, processes
        self.enlarge = is_given_enlarged(on_meta(settings.model, settings.shape))
        self.degrades = settings.degradation in degrade.DEGRADATIONS  # else the low pictures are shrunk or given ones
        self.pool = PairPool() if settings.degradation == "real" else None
        patch = settings.patch
        factor = 1 if self.enlarge else settings.scale
        # Degraded pictures are made of larger patches, of which the middle is used: a blur invents what lies outside.
        self.margin = REAL_MARGIN * (settings.scale if self.enlarge else 1) if self.degrades else 0
        found = find_sources(sources)
        if self.degrades and any(source.small for source in found):
            raise UsageError(f"-d {settings.degradation} degrades pictures itself: give photographs, not samples")
        min_side = max(
            MIN_SIDE, (patch + 2 * self.margin) * factor + (settings.scale if self.degrades and self.enlarge else 0)
        )
        pairs, ready_made = read_pairs(
            found, settings.scale, self.enlarge, min_side, self.degrades, cache, share, settings.multiscale
        )
        sides = {side for pair in pairs for side in pair.small.shape[-2:]}
        # Pairs of one size are patches already and used whole; large or unlike ones are cut as photographs are.
        self.ready_cut = ready_made and len(sides) == 1 and max(sides) <= 2 * patch
        self.patch = min(sides) if self.ready_cut else patch
        self.pairs = pairs if self.ready_cut else large_enough_to_cut(pairs, patch)
        self.held_out: list[Pair] = []
        self.hold_out(choose_held_out(self.pairs, settings.seed))

    def hold_out(self, photographs: set[str]) -> None:
        """Measure on these photographs and learn from the others, if all are there: what a run began with, it keeps."""
        if not photographs or not photographs <= {pair.photograph for pair in self.pairs}:
            return
        if photographs == {pair.photograph for pair in self.held_out}:  # as it is already: nothing to do again
            return
        settings = self.settings
        self.training, held_out = split_by_photograph(self.pairs, photographs)
        self.held_out = self.degraded_pairs([center_crop(pair, HELD_OUT_SIDE) for pair in held_out])
        self.batch_size = settings.batch * settings.accumulate
        self.updates_per_epoch = UPDATES_PER_EPOCH
        if self.ready_cut:  # one pass; a rest that is too small to be shared is left out
            passes, rest = divmod(len(self.training), self.batch_size)
            self.updates_per_epoch = passes + (rest >= self.processes)
            if not self.updates_per_epoch:
                raise UsageError(f"{len(self.training)} samples are too few for {self.processes} processes")

    def cut(self, step: int) -> tuple[Tensor, Tensor]:
        """This process's share of the small and large patches of a step, uint8 (N, 3, …).

        The same step always cuts the same; on degraded pictures with a margin, for `finish` to work on.
        """
        seed = self.settings.seed
        generator = seeded(seed, step)
        if self.ready_cut:  # every sample once an epoch, in an order that the epoch decides
            epoch, place = divmod(step, self.updates_per_epoch)
            order = torch.randperm(len(self.training), generator=seeded(seed, epoch, 0xE90C))
            chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        else:
            chosen = torch.randint(len(self.training), (self.batch_size,), generator=generator)
        side = self.patch + 2 * self.margin
        if self.degrades and self.enlarge:
            side += -side % self.settings.scale  # so that it can be shrunk by the scale
        low, high = sample_batch([self.training[index] for index in chosen.tolist()], side, generator)
        share = len(chosen) // self.processes
        mine = slice(self.rank * share, (self.rank + 1) * share)
        return low[mine], high[mine]

    def finish(self, patches: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """What `cut` gave, ready to learn from: on degraded pictures low is made anew, on the device, and pooled."""
        return self.mix(self.degrade(patches, step))

    def degrade(self, patches: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Tensor, torch.Generator | None]:
        """The part of `finish` that depends on nothing but the step, and the generator with which `mix` goes on."""
        if not self.degrades:
            return patches[0].to(self.device, non_blocking=True), patches[1].to(self.device, non_blocking=True), None
        generator = seeded(self.settings.seed, step, self.rank, 0xDE64)
        high = from_bytes(patches[1].to(self.device, non_blocking=True))
        if self.settings.degradation == "photo":
            high = degrade.some_grey(high, self.settings.photo.grey, generator)
        # Of the sharpened picture, if that is what the network is to give: see updates.sharp_target.
        sharp = distortions.usm_sharpen(high) if self.settings.sharpen else high
        whole = self._degraded(sharp, generator, self.settings.mild)
        low, high = (self._middle(to_bytes(part), whole.shape[-1]) for part in (whole, high))
        return low, high, generator

    def mix(self, made: tuple[Tensor, Tensor, torch.Generator | None]) -> tuple[Tensor, Tensor]:
        """The other part: batches go through the pool in the order of the steps."""
        low, high, generator = made
        return self.pool.exchange(low, high, generator) if self.pool and generator else (low, high)

    def degraded_pairs(self, pairs: list[Pair]) -> list[Pair]:
        """Pairs to measure on: with degraded pictures where the run is on such, always the same for the same seed.

        Few pictures are drawn several times each, ten pairs in all: one draw may be of a picture that stays clean.
        """
        if not self.degrades:
            return pairs
        degraded = []
        for draw in range(math.ceil(MAX_HELD_OUT / len(pairs))):
            for number, pair in enumerate(pairs):
                large = crop_to_multiple(pair.large[:], self.settings.scale)
                again = (draw,) if draw else ()  # the first as it was when each was drawn once
                generator = seeded(self.settings.seed, number, 0x7E57, *again)
                small = self._degraded(from_bytes(large[None]), generator)
                degraded.append(Pair(to_bytes(small)[0], large, pair.photograph))
        return degraded

    def _degraded(self, high: Tensor, generator: torch.Generator, mild: float = 0.0) -> Tensor:
        settings = self.settings
        if settings.degradation == "photo":
            low = degrade.photo(high, settings.scale, generator, settings.photo)
        elif mild:
            low = degrade.real_or_mild(high, settings.scale, generator, mild, settings.real, settings.photo)
        else:
            low = degrade.second_order(high, settings.scale, generator, settings.real)
        return resize(low, size=size_of(high)) if self.enlarge else low

    def _middle(self, picture: Tensor, low_side: int) -> Tensor:
        """Cut the margin off, of a low picture or of a high one, which is larger in proportion."""
        factor = picture.shape[-1] // low_side
        first = self.margin * factor
        side = self.patch * factor
        return picture[..., first : first + side, first : first + side]

    def __str__(self) -> str:
        held_out = len({pair.photograph for pair in self.held_out})
        size = f"{self.patch}×{self.patch}; photographs held out: {held_out}"
        if self.ready_cut:
            return f"{len(self.training)} samples, {size}"
        smaller = sum(pair.shrunk > 1 for pair in self.training)
        told = f" and {smaller} smaller copies" if smaller else ""
        return f"{len(self.training) - smaller} pictures{told}, patches cut as it goes, {size}"

    def summary(self) -> dict:
        """What is remembered of the pictures: an unfinished run goes on only with the same."""
        summary = {
            "pairs": len(self.training),
            "photographs": sorted({pair.photograph for pair in self.training}),
            "held_out": sorted({pair.photograph for pair in self.held_out}),
        }
        if self.ready_cut:  # others may have been cut from the same photographs
            summary["samples"] = reduce(
                lambda crc, pair: zlib.crc32(pair.large[:].numpy().tobytes(), crc), self.training, 0
            )
        return summary


def center_crop(pair: Pair, side: int) -> Pair:
    """The central square of a pair, of at most `side` pixels in the sharp picture."""
    scale = pair.large.shape[-1] // pair.small.shape[-1]
    height, width = pair.small.shape[-2:]
    side //= scale
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    small = pair.small[:, top : top + side, left : left + side]
    large = pair.large[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
    return Pair(small, large, pair.photograph)
