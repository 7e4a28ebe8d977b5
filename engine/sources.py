"""What `-i` and `--lq` name, as files: photographs, pairs that somebody else has made, and samples of gen_samples.py.

    find_sources([Path("PHOTOS")])                  photographs: their low pictures are made here
    find_sources([(Path("HQ"), Path("LQ"))])        pairs by name, of two folders or two lists
    find_sources([Path("DIV2K")])                   pairs too, where it holds gt/ and lq/, hq/ and lq/, or HR/ and LR/
    find_sources([Path("meta_info.txt")])           a list of paths, or of pairs, as BasicSR writes them

Names alone decide, and of few files the size: no pixel is decoded. What looks like pairs and is not understood is
refused: learnt from as photographs, low pictures would teach a network to leave its input as it is.
"""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from imaging.console import UsageError, UserError, note, printable
from imaging.folders import absolute, find_pictures, picture_suffixes

RECORD = "samples.csv"
HIGH_NAMES, LOW_NAMES = ("gt", "hq", "hr"), ("lq", "lr")  # of the two folders of pairs, in either case
PART = re.compile(r"(.+)\.(large|small)\.[^.]+")  # ID.large.png and ID.small.png
# What may follow the name in one of both folders: x4, _x4, x4m and x4w1 in DIV2K, _HR and _LR in test sets.
TAIL = re.compile(r"(?<=.)[-_. ]?(x\d+[a-z]?\d*|gt|hq|hr|lq|lr)$", re.IGNORECASE)
SIZE = re.compile(r"\s*\(\d+, *\d+(, *\d+)?\)$")  # after a path in BasicSR's lists
SCALES = range(2, 9)
# Pixel by pixel a camera's photographs are soft; shrunk they are sharp. Real-ESRGAN's code shrinks its own to 3/4, 1/2
# and 1/3, and to 400 pixels a side.
SHRINK_FACTORS = (2, 3)
MIN_SHRUNK_SIDE = 300
OWN = "pairs"  # the degradation of networks that learn from pairs: whatever was done to those


@dataclass(frozen=True)
class Source:
    """A picture to learn from or to measure on, its low one if that is given, and by which photograph it is known."""

    large: Path
    small: Path | None
    photograph: str
    scale: int | None = None  # by how much gen_samples.py has shrunk it; None if it has not
    shrunk: int = 1  # it is used at 1/shrunk of its size

    @property
    def is_pair(self) -> bool:
        """Whether somebody else has made its low picture."""
        return self.small is not None and self.scale is None


# A folder, a list or a picture; high and low ones; or what has been found already.
Named: TypeAlias = Path | tuple[Path, Path] | Source


def with_low(high: list[Path], low: list[Path] | None) -> list[Path | tuple[Path, Path]]:
    """What `-i` and `--lq` name, side by side. Raises UsageError unless there are as many of both."""
    if low is None:
        return [*high]
    if len(high) != len(low):
        raise UsageError(f"--lq: names {len(low)} folders or lists of low pictures, -i {len(high)} of sharp ones")
    return list(zip(high, low, strict=True))


def find_sources(named: Iterable[Named]) -> list[Source]:
    """All that is named; no photograph is there twice. Raises UsageError, UserError."""
    found: list[Source] = []
    photographs: dict[Path, Path] = {}  # by their resolved path
    for one in named:
        if isinstance(one, Source):
            found.append(one)
        elif isinstance(one, tuple):
            found += match(*one)
        elif (pairs := _find_pairs(Path(one))) is not None:
            found += pairs
        else:
            photographs |= {path.resolve(): path for path in _find_photographs(Path(one))}
    refuse_hidden_pairs(list(photographs.values()))
    if photographs and any(source.is_pair for source in found):
        raise UsageError(f"{next(iter(photographs.values()))}: is a photograph among pairs: train on either")
    return found + [Source(path, None, photograph_name(path)) for path in photographs.values()]


def said(named: Named) -> str:
    """What was named, in words."""
    if isinstance(named, tuple):
        return " and ".join(map(str, named))
    return str(named.large if isinstance(named, Source) else named)


def refuse_other_scales(sources: list[Source], scale: int) -> None:
    """Raises UsageError for samples that gen_samples.py cut for another scale."""
    for source in sources:
        if source.scale not in (None, scale):
            where = source.large.parent
            raise UsageError(f"{where}: cut for ×{source.scale}, not ×{scale}: run gen_samples.py with -s {scale}")


def photograph_name(path: Path) -> str:
    """By what a photograph is known: its name and its folder's, the same from wherever the program is run."""
    return "/".join(path.resolve().parts[-2:])


def at_smaller_sizes(source: Source, min_side: int) -> list[Source]:
    """A photograph as it is, and at a half and a third of its size where that leaves `min_side` pixels."""
    side = min(size_in_head(source.large) or (0,)) if source.small is None else 0
    fitting = [factor for factor in SHRINK_FACTORS if side // factor >= max(MIN_SHRUNK_SIDE, min_side)]
    return [source, *(replace(source, shrunk=factor) for factor in fitting)]


# ---------------------------------------------------------------------------------------------
# Photographs
# ---------------------------------------------------------------------------------------------


def _find_photographs(source: Path) -> list[Path]:
    """The photographs in a folder, a list, or the file itself."""
    paths = find_pictures(source) if source.is_dir() else [source]
    if source.suffix.lower() == ".txt" and not source.is_dir():
        paths = [high for high, _ in _read_list(source)]
    for path in paths:
        if _part_of_sample(path):
            raise UsageError(f"{source}: has samples below it; give {path.parent} itself")
    return paths


MAX_LINE = 2 * 4096  # letters: two of the longest paths that a system takes


def _read_list(path: Path) -> list[tuple[Path, Path | None]]:
    """The paths in a text file, one a line, or two with a comma between, as BasicSR's meta_info lists have them.

    They are relative to the list's folder, to the one above it, or to the working folder.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows begins such files with a mark
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of paths ({error})") from error
    lines = [SIZE.sub("", line.strip()) for line in lines if line.strip()]
    if not lines:
        raise UserError(f"{path}: no paths in this list")
    if strange := next((line for line in lines if "\0" in line or len(line) > MAX_LINE), None):
        raise UserError(f"{path}: is no list of paths, one a line: {printable(strange)}")
    bases = [path.parent, path.parent / "..", Path()]
    first = next((line for line in lines if not Path(line).is_absolute()), lines[0])  # an absolute one tells no base
    for base in bases:
        if (base / first).exists():
            return [(base / line, None) for line in lines]
        pair = first.split(",")
        if len(pair) == 2 and all((base / part.strip()).exists() for part in pair):
            return [_two_of(line, base, path) for line in lines]
    if first.count(",") == 1:
        raise UsageError(
            f"{path}: {first}: neither a pair below its folder nor below the one above: "
            "put the list into the folder that its paths start from"
        )
    return [(path.parent / line, None) for line in lines]  # to be named where they cannot be read


def _two_of(line: str, base: Path, path: Path) -> tuple[Path, Path]:
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 2:
        raise UsageError(f"{path}: {line}: is no pair, as the first line is: high.png, low.png")
    return base / parts[0], base / parts[1]


def refuse_hidden_pairs(photographs: list[Path]) -> None:
    """Raise UsageError where of like-named photographs one is a whole number of times as large as the other.

    Names that occur twice may be those of two cameras, so half of them at least must be in such a ratio.
    """
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in photographs:
        groups[_core(path.stem).lower()].append(path)
    doubled = [group for group in groups.values() if len(group) > 1]
    pairs = [pair for group in doubled if (pair := _in_ratio(group))]
    if pairs and 2 * len(pairs) >= len(doubled):
        high, low, scale = pairs[0]
        raise UsageError(
            f"{low}: is 1/{scale} of {high} in size and has its name ({len(pairs)} such): give pairs by "
            "-i HIGH --lq LOW, or the sharp ones alone"
        )


def _in_ratio(group: list[Path]) -> tuple[Path, Path, int] | None:
    """The largest of these pictures, one that it is a whole number of times as large as, and that number."""
    sizes = sorted(((size, path) for path in group if (size := size_in_head(path))), reverse=True)
    for size, path in sizes[1:]:
        for scale in SCALES:
            if all(0 <= large - scale * small < scale for large, small in zip(sizes[0][0], size, strict=True)):
                return sizes[0][1], path, scale
    return None


def size_in_head(path: Path) -> tuple[int, int] | None:
    """Width and height as the head of a file has them, before it is turned upright; None where it has none."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # whatever a decoder raises: what is wrong is told where the file is read
        return None


# ---------------------------------------------------------------------------------------------
# Pairs
# ---------------------------------------------------------------------------------------------


def _find_pairs(source: Path) -> list[Source] | None:
    """The pairs in a folder or a list; None if it has photographs."""
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    if source.is_dir():
        parts = [(path, part) for path in sorted(source.iterdir()) if (part := _part_of_sample(path))]
        return _find_samples(source, parts) if parts else _find_two_folders(source)
    if source.suffix.lower() != ".txt":
        return None
    listed = _read_list(source)
    return [Source(high, low, photograph_name(high)) for high, low in listed if low] or None


def _find_two_folders(source: Path) -> list[Source] | None:
    """The pairs in gt/ and lq/, hq/ and lq/, or HR/ and LR/ of a folder; None where it has no low ones."""
    folders = [path for path in source.iterdir() if path.is_dir()]
    high, low = ([path for path in folders if path.name.lower() in names] for names in (HIGH_NAMES, LOW_NAMES))
    if not low:
        return None
    if len(high) != 1 or len(low) != 1:
        names = ", ".join(f"{path.name}/" for path in sorted(high + low))
        raise UsageError(f"{source}: has {names}: say which are pairs by -i HIGH --lq LOW")
    for path in find_pictures(source):
        if path.relative_to(source).parts[0] not in (high[0].name, low[0].name):
            raise UsageError(
                f"{path}: is beside {high[0].name}/ and {low[0].name}/: give the pairs by -i HIGH --lq LOW"
            )
    return match(high[0], low[0])


def match(high: Path, low: Path) -> list[Source]:
    """The pairs of two folders or lists, by name; kind of file and a tail such as x4 may differ, subfolders may not.

    Raises UsageError where a high picture has no low one, or two; low ones without a high one are told and left out.
    """
    highs, lows = (_by_place(source) for source in (high, low))
    exact = _grouped(lows, lambda stem: stem)
    by_core = _grouped(lows, _core)
    pairs, missing = [], []
    for (folder, stem), path in highs:
        partners = exact.get((folder, stem)) or by_core.get((folder, _core(stem)), [])
        if len(partners) > 1:
            raise UsageError(f"{partners[0]} and {partners[1].name}: are both the low picture of {path}: take one away")
        if partners:
            pairs.append(Source(path, partners[0], photograph_name(path)))
        else:
            missing.append(path)
    if missing:
        others = f" (nor have {len(missing) - 1} others)" if missing[1:] else ""
        raise UsageError(
            f"{missing[0]}: has no low picture of its name{others} in {low}, where {lows[0][1].name} is, for one: "
            "names and subfolders must agree, up to a tail such as x4"
        )
    if len(shared := {source.small for source in pairs}) < len(pairs):
        raise UsageError(f"{low}: {len(pairs)} pictures of {high} have only {len(shared)} low ones there")
    if left := len(lows) - len(pairs):
        note(f"{low}: {left} pictures have no sharp one in {high}: left out")
    return pairs


def _by_place(source: Path) -> list[tuple[tuple[str, str], Path]]:
    """The pictures of a folder or a list, each with the folder that it has below it and its name without its kind."""
    if source.suffix.lower() == ".txt" and source.is_file():
        paths = [high for high, _ in _read_list(source)]
        folders = [absolute(path.parent) for path in paths]
        top = _common_folder(folders, source)
    else:
        paths, top = find_pictures(source), source
        folders = [path.parent for path in paths]
    places = [folder.relative_to(top).as_posix() for folder in folders]
    return [((place, path.stem), path) for place, path in zip(places, paths, strict=True)]


def _common_folder(folders: list[Path], source: Path) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:  # on Windows
        raise UsageError(f"{source}: has pictures on several drives: make a list of each") from error


def _core(stem: str) -> str:
    """A name without its tail."""
    return TAIL.sub("", stem)


def _grouped(places: Sequence[tuple[tuple[str, str], Path]], shortened) -> dict[tuple[str, str], list[Path]]:
    groups: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for (folder, stem), path in places:
        groups[folder, shortened(stem)].append(path)
    return groups


# ---------------------------------------------------------------------------------------------
# ID.large.png and ID.small.png
# ---------------------------------------------------------------------------------------------


def _part_of_sample(path: Path) -> tuple[str, str] | None:
    """ID, and "large" or "small"; None for another picture."""
    found = PART.fullmatch(path.name)
    return (found[1], found[2]) if found and path.suffix.lower() in picture_suffixes() else None


def _find_samples(folder: Path, parts: list[tuple[Path, tuple[str, str]]]) -> list[Source]:
    """The pairs ID.large.* and ID.small.* of a folder; what has no partner is named and left out."""
    record = read_record(folder)
    if not record:
        note(f"{folder}: no {RECORD}, so every sample counts as a photograph of its own")
    found: dict[str, dict[str, Path]] = {"large": {}, "small": {}}
    for path, (identity, part) in parts:
        if identity in found[part]:
            raise UsageError(f"{path} and {found[part][identity].name}: are both one sample: take one away")
        found[part][identity] = path
    larges, smalls = found["large"], found["small"]
    if not larges.keys() & smalls.keys():
        raise UsageError(f"{folder}: no ID.large.* here has an ID.small.*, or the other way round: give whole pairs")
    for identity in sorted(larges.keys() ^ smalls.keys()):
        there, wanted = (larges, "small") if identity in larges else (smalls, "large")
        note(f"left out: {there[identity]}: has no {identity}.{wanted}{there[identity].suffix}")
    if others := sum(path.suffix.lower() in picture_suffixes() for path in folder.iterdir()) - len(parts):
        note(f"{folder}: {others} pictures are not named ID.large or ID.small: left out")
    sources = []
    for identity in sorted(larges.keys() & smalls.keys()):
        row = record.get(identity, {})
        photograph, scale = row.get("photograph", identity), row.get("scale")
        sources.append(Source(larges[identity], smalls[identity], photograph, scale))
    return sources


def read_record(folder: Path) -> dict[str, dict]:
    """ID → row of samples.csv; empty where there is none."""
    try:
        with open(folder / RECORD, newline="", encoding="utf-8") as file:
            return {
                row["id"]: {"photograph": row["photograph"], "scale": int(row["scale"])} for row in csv.DictReader(file)
            }
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / RECORD}: cannot be read ({error}); run gen_samples.py again") from error
