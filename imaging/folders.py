"""Folders of pictures: every kind that can be read is taken, and what is left out is told with the reason.

    find_pictures("holiday")        # sorted, with those of the folders below it

Links to other folders are followed; no picture is taken twice that way, and a link that leads back ends nothing.
"""

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

from PIL import Image

from imaging import heif
from imaging.console import UsageError, UserError, note

# Kinds that Pillow has a name for and no pixels, or that are no pictures: measurements, drawings, a film.
NO_PICTURES = {"BUFR", "GRIB", "HDF5", "EPS", "WMF", "MPEG"}
WINDOWS_LOOP = 1921  # Windows' number for a link that leads to itself


@cache
def picture_suffixes() -> set[str]:
    """How the names of pictures end that can be read here. A file named alone is taken for what its content is."""
    Image.init()
    kinds = (Image.OPEN.keys() | {"MPO"}) - NO_PICTURES  # MPO, two JPEG in one, is opened as JPEG
    suffixes = {suffix for suffix, kind in Image.registered_extensions().items() if kind in kinds}
    return suffixes | (heif.SUFFIXES if heif.has_reader() else set())


def find_pictures(folder, others_too: Set[str] = frozenset()) -> list[Path]:
    """All pictures in a folder and the folders below it, sorted, hidden ones left out; one line says what else is.

    `others_too` are suffixes of what else is wanted.

    Raises UsageError if there is no such folder or no picture in it, UserError if it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"{folder}: {'is a file; give its folder' if folder.exists() else 'no such folder'}")
    pictures: list[Path] = []
    others: Counter[str] = Counter()
    for path in _files_below(folder):
        if path.suffix.lower() in picture_suffixes() | others_too:
            pictures.append(path)
        else:
            others[path.suffix.lower()] += 1
    left_out = _left_out(others) if others else ""
    if not pictures:
        raise UsageError(f"{folder}: no pictures in this folder{left_out and '; '}{left_out}")
    if left_out:
        note(f"{folder}: {left_out}")
    return sorted(pictures)


def _left_out(others: Counter[str]) -> str:
    """In words, how many files of which kinds are no pictures."""
    kinds = [f"{number} {suffix[:12] or 'without a suffix'}" for suffix, number in others.most_common(8)]
    words = f"left out, not named like pictures: {', '.join(kinds)}{', …' if len(others) > 8 else ''}"
    return words + (f" ({heif.ADVICE})" if heif.SUFFIXES & others.keys() else "")


def _files_below(folder: Path) -> Iterator[Path]:
    """Every file that is not hidden. What cannot be looked into, and links that lead back, are named."""
    trees = [folder.resolve()]  # what has been searched or will be
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            paths = sorted(path for path in here.iterdir() if not path.name.startswith("."))
        except OSError as error:
            if here == folder:
                raise UserError(f"{folder}: {error.strerror or error}") from error
            note(f"left out: {here}: {error.strerror or error}")
            continue
        for path in paths:
            try:
                there = path.stat()
                is_link = not os.path.samestat(there, path.lstat())  # Windows' junctions are links too
            except OSError as error:
                if error.errno == errno.ELOOP or getattr(error, "winerror", None) == WINDOWS_LOOP:
                    note(f"left out: {path}: is a link that leads to itself")
                else:
                    yield path  # to be named where it cannot be read
                continue
            if not stat.S_ISDIR(there.st_mode):
                yield path
            elif not is_link or _is_new(path, trees):
                waiting.append(path)


def _is_new(link: Path, trees: list[Path]) -> bool:
    """Whether a link to a folder leads where the search neither has been nor will come to."""
    target = link.resolve()
    for tree in trees:
        if target == tree or target in tree.parents or tree in target.parents:
            note(f"left out: {link}: is a link to {target}, where pictures are searched for already")
            return False
    trees.append(target)
    return True


def absolute(folder: Path) -> Path:
    """The folder from the root on. Links keep their names, save before `..`, which leads up from where they lead."""
    parts = folder.parts
    above = max((place for place, part in enumerate(parts, start=1) if part == ".."), default=0)
    return Path(*parts[:above]).resolve().joinpath(*parts[above:])
