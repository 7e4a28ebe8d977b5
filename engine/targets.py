"""Where enlarged pictures go: names that say what made them, what is there already, what another run is at.

    NAME.x4.rrdb.2026-01-31_12-00-00.png                      by a network that ships
    NAME.x4.rrdb.UltraSharp-3f9a1c.2026-01-31_12-00-00.png    by other weights: `choosing.weights_tag`
    FOLDER.NAME.jpg.x4.rrdb.2026-01-31_12-00-00.png           where pictures of several folders have that name
    NAME.png                                                  with --keep-names

They lie in images_upscaled/ or what -o names, below it as their pictures lie in their folder.
"""

import glob
import os
import re
import zlib
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from engine.checkpoints import model_name, now
from engine.settings import UpscaleSettings
from imaging.console import UsageError, note
from imaging.film_copying import CONTAINERS
from imaging.films import SUFFIXES, is_film
from imaging.folders import absolute, find_pictures, picture_suffixes
from imaging.saving import WRITTEN_FORMATS
from imaging.writing import MAX_NAME, check_folder, check_writable, claimed, locked, shortened

UPSCALED = Path("images_upscaled")
# How dated names end, and those of the comparisons beside them.
RESULT = re.compile(
    r"\.x[\d.]+(e[+-]\d+)?(\.[\w+-]+){1,2}\.\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(-\d+)?(\.compare(-\d+)?)?\.\w+$"
)
# What `best_suffix` gives, and what it gave for 16 bits; of films the containers that are written.
SUITABLE = (".png", ".gif", ".webp", ".tif", *CONTAINERS)
LATER = 45  # bytes that follow in the longest name: date and suffix, numbers, ".compare"


@dataclass(frozen=True)
class Target:
    """Where the result of a picture goes, as far as that is known before the picture is opened."""

    path: Path  # the whole name, or how it begins
    kind: str  # "whole"; "kept": a suffix follows; "dated": factor, network, date and suffix follow
    suffix: str = ""  # of --format; without, what suits the picture
    rival: Path | None = None  # the picture whose result has this name already, which one file alone can have
    source: Path | None = None  # the picture
    other: Path | None = None  # how its name begins where other pictures of its stem lie beside it, or where none does
    alike: tuple[Path, ...] = ()  # those others

    def made_by(self, checkpoint: dict, outscale: float | None) -> "Target":
        """The same with the factor and the network in its name, which is a dated one."""
        ending = f".x{outscale or checkpoint['scale']:g}.{model_name(checkpoint)}"
        ending += f".{checkpoint['tag']}" if checkpoint.get("tag") else ""
        return replace(self, path=_fitting(self.path, ending), other=self.other and _fitting(self.other, ending))

    def found(self) -> list[Path]:
        """Every file that has its name."""
        if self.kind == "whole":
            return [self.path] if self.path.exists() else []
        suffixes = (self.suffix,) if self.suffix else SUITABLE
        if self.kind == "kept":
            names = [self.path.with_name(self.path.name + suffix) for suffix in suffixes]
            return [name for name in names if name.exists()]
        return _dated(self.path, suffixes)

    def is_there(self) -> bool:
        """Whether an earlier run has made it of this picture: not of another one that had the name before."""
        came = _came(self.source) if self.source else 0
        if any(_came(result) >= came for result in self.found()):
            return True
        if not self.other or self.kind != "dated":
            return False
        others = [_came(one) for one in self.alike]
        results = map(_came, _dated(self.other, (self.suffix,) if self.suffix else SUITABLE))
        return any(result >= came and all(result < other for other in others) for result in results)

    def held(self, skip_existing: bool):
        """A context in which no other run makes the same result. Raises InUseError where one is at it."""
        together = self.kind == "dated" and not skip_existing  # each run gives a name of its own
        return nullcontext() if together else locked(self.path.with_name(self.path.name + self.suffix))

    @contextmanager
    def named(self, suitable: str):
        """Yield the whole name, with the suffix that suits its content; it is this run's until the context ends."""
        suffix = self.suffix or suitable
        if self.kind == "whole":
            yield self.path
        elif self.kind == "kept":
            yield self.path.with_name(self.path.name + suffix)
        else:
            with claimed(self.path.with_name(f"{self.path.name}.{now()}{suffix}")) as path:
                yield path


def _dated(begun: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The files in whose names a date and one of these suffixes follow."""
    endings = re.compile(rf"\.[^.]*({'|'.join(map(re.escape, suffixes))})", re.IGNORECASE)
    names = begun.parent.glob(glob.escape(begun.name) + ".*")
    return [name for name in names if endings.fullmatch(name.name.removeprefix(begun.name))]


def _came(path: Path) -> int:
    """When a file came to its place, or was written, in nanoseconds: copied or renamed it may keep an old date."""
    try:
        states = path.stat(), path.lstat()
    except OSError:
        return 0
    births = (int(1e9 * getattr(about, "st_birthtime", 0)) or about.st_ctime_ns for about in states)
    return max(*births, *(about.st_mtime_ns for about in states))


def _fitting(path: Path, ending: str = "") -> Path:
    """A path and what its name goes on with; long names are shortened, so that what follows later fits too."""
    return path.with_name(shortened(path.name, MAX_NAME - LATER - len(ending)) + ending)


def chosen_output(named: str | None) -> Path | None:
    """What `-o` says as a path; a slash at its end means a folder, which is made now: a path cannot say so later."""
    if named is None:
        return None
    if named.endswith(("/", os.sep)):
        check_folder(named)
    return Path(named)


def list_inputs(inputs: list[Path], output: Path | None = None) -> list[tuple[Path, Path]]:
    """Every picture and film that `-i` names, files and folders: (path, path below its folder).

    Results of earlier runs, in an output folder inside a folder of pictures or the same one, are left out.
    Raises UsageError for what is not there and for folders without pictures.
    """
    found: list[tuple[Path, Path]] = []
    results = (output or UPSCALED).resolve()
    for path in inputs:
        if path.is_dir():
            pictures = find_pictures(path, SUFFIXES)
            if path.resolve() in results.parents:
                inside = [picture for picture in pictures if results in picture.resolve().parents]
                pictures = [picture for picture in pictures if picture not in set(inside)]
                if originals := sum(not RESULT.search(picture.name) for picture in inside):
                    note(f"left out: {originals} pictures in {output or UPSCALED}, where the results go")
            elif path.resolve() == results:
                pictures = [picture for picture in pictures if not RESULT.search(picture.name)]
            found += [(picture, picture.relative_to(path)) for picture in pictures]
        elif path.exists() or path.is_symlink():  # one that leads nowhere, among many, ends nothing
            found.append((path, Path(path.name)))
        else:
            raise UsageError(f"{path}: no such file")
    return found


def plan_targets(
    inputs: list[tuple[Path, Path]], output: Path | None, settings: UpscaleSettings
) -> list[tuple[Path, Target]]:
    """Where the result of every picture goes: to the file `output`, else into that folder, below it as in its own.

    Raises UsageError where one file is named for several pictures, and where a picture itself would be overwritten.
    """
    if output and output.suffix and not output.is_dir():
        if len(inputs) == 1:
            return [(inputs[0][0], _named_alone(inputs[0][0], output, settings))]
        if output.suffix.lower() in (*WRITTEN_FORMATS, *CONTAINERS):
            raise UsageError(f"-o {output}: is one file for {len(inputs)} pictures; give a folder")
    check_folder(output or UPSCALED)
    plan = []
    before: dict[str, Path] = {}
    names = Names(inputs)
    for path, below in inputs:
        suffix = f".{settings.format}" if settings.format and not is_film(path) else ""
        folder = (output or UPSCALED) / below.parent
        if not settings.keep_names:
            name, other, rivals = names.of(path, below)
            plan.append((path, Target(folder / name, "dated", suffix, None, path, folder / other, rivals)))
            continue
        if folder.resolve() == path.parent.resolve():
            raise UsageError(f"--keep-names: {folder} has the pictures themselves; give another folder with -o")
        target = folder / names.stem(below)
        key = _key(target)
        plan.append((path, Target(_fitting(target), "kept", suffix, before.get(key), path)))
        before.setdefault(key, path)
    return plan


class Names:
    """How the names of results begin, so that each says of which picture it is."""

    def __init__(self, inputs: list[tuple[Path, Path]]):
        self.by_name: dict[str, set[Path]] = {}
        self.by_stem: dict[str, set[Path]] = {}
        self.folders = {folder: absolute(folder) for folder in {path.parent for path, _ in inputs}}
        pictures = set(inputs)
        # What lies beside them counts whether this run enlarges it or not: another one may.
        for folder, below in {(path.parent, below.parent) for path, below in inputs}:
            pictures |= {(folder / name, below / name) for name in pictures_in(folder)}
        for path, below in pictures:
            self.by_name.setdefault(_key(below), set()).add(path)
            self.by_stem.setdefault(_key(below.parent / self.stem(below)), set()).add(path)
        self.begun = _told_apart({self._one(*picture): self._possible(*picture) for picture in pictures})

    def of(self, path: Path, below: Path) -> tuple[str, str, tuple[Path, ...]]:
        """The beginning of a name, what it would be with or without other pictures of that stem, and these.

        Results of a.jpg and a.png beside it are told apart, and from those of a.jpg.png.
        """
        rivals = self._rivals(path, below)
        return self.begun[self._one(path, below)], self.stem(below) if rivals else below.name, tuple(rivals)

    def stem(self, below: Path) -> str:
        """Of a.jpg a; of ..png, where no stem is left, the whole name."""
        return below.stem if below.stem.strip(".") else below.name

    def _one(self, path: Path, below: Path) -> tuple[Path, Path]:
        """What a picture is known by, however its folder is spelled."""
        return self.folders[path.parent] / path.name, below

    def _rivals(self, path: Path, below: Path) -> set[Path]:
        """Other pictures of its stem, or called like it."""
        stem = _key(below.parent / self.stem(below))
        return (self.by_stem[stem] | self.by_name.get(stem, set())) - {path}

    def _possible(self, path: Path, below: Path) -> list[str]:
        """The names that a result may have, the best first."""
        name = below.name if self._rivals(path, below) else self.stem(below)
        if len(self.by_name[_key(below)]) == 1:
            return [name]
        return [f"{way}.{name}" for way in ways_to(self.folders[path.parent])]  # from several folders that were named


def _told_apart(possible: dict[tuple[Path, Path], list[str]]) -> dict[tuple[Path, Path], str]:
    """Of the names that each picture may have the first that no other wants, or has wanted, in the same folder."""
    begun: dict[tuple[Path, Path], str] = {}
    wanted: set[str] = set()
    while possible:
        keys = {picture: _key(picture[1].parent / names[0]) for picture, names in possible.items()}
        count = Counter(keys.values())
        for picture, key in keys.items():
            name, *longer = possible.pop(picture)
            if longer and (count[key] > 1 or key in wanted):
                possible[picture] = longer
            else:
                begun[picture] = name
        wanted |= count.keys()
    return begun


def ways_to(folder: PurePath) -> list[str]:
    """What can stand for an absolute folder in a name: its own, that with the one above, and so on up to the root.

    None makes a hidden file of it. The last has a number: A.B/C and A/B.C give the same words, however many.
    """
    words = [re.sub(r"\W+", ".", folder.anchor).strip(".") or "root", *folder.parts[1:]]
    ways = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
    ways = [way for way in ways if not way.startswith(".")]
    return [*ways, f"{ways[0]}~{zlib.crc32(os.fsencode(folder)):08x}"]


def pictures_in(folder: Path) -> list[str]:
    """The names of pictures and films in a folder, without results; none where it cannot be read."""
    try:
        names = [path.name for path in folder.iterdir() if not RESULT.search(path.name)]
    except OSError:
        return []
    return [name for name in names if Path(name).suffix.lower() in picture_suffixes() | SUFFIXES]


def _key(path: Path) -> str:
    """What two names have in common that are one on some disks: there A.png is a.png."""
    return str(path).casefold()


def _named_alone(path: Path, output: Path, settings: UpscaleSettings) -> Target:
    if settings.format or settings.keep_names:
        raise UsageError(f"-o {output}: names the result itself; --format and --keep-names are for folders")
    if output.suffix.lower() not in WRITTEN_FORMATS and not is_film(path):
        raise UsageError(
            f"-o {output}: cannot write such a picture; its name must end in {', '.join(WRITTEN_FORMATS)}; "
            "a slash at the end means a folder"
        )
    if output.exists() and output.samefile(path):
        raise UsageError(f"{output}: is the picture to enlarge; choose another name for -o")
    check_writable(output)
    return Target(output, "whole", source=path)
