"""Where enlarged pictures go: names that say what made them, what is there already, what another run is at.

    NAME.x4.rrdb.2026-01-31_12-00-00.png                      by a network that ships
    NAME.x4.rrdb.UltraSharp-3f9a1c.2026-01-31_12-00-00.png    by other weights: `choosing.weights_tag`
    NAME.png                                                  with --keep-names

They lie in images_upscaled/ or what -o names, below it as their pictures lie in their folder.
"""

import glob
import os
import re
from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from engine.checkpoints import model_name, now
from engine.settings import UpscaleSettings
from imaging.console import UsageError, note
from imaging.film_writing import CONTAINERS
from imaging.films import SUFFIXES, is_film
from imaging.folders import find_pictures
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

    def made_by(self, checkpoint: dict, outscale: float | None) -> "Target":
        """The same with the factor and the network in its name, which is a dated one."""
        ending = f".x{outscale or checkpoint['scale']:g}.{model_name(checkpoint)}"
        ending += f".{checkpoint['tag']}" if checkpoint.get("tag") else ""
        return replace(self, path=_fitting(self.path, ending))

    def is_there(self) -> bool:
        """Whether an earlier run has made it."""
        if self.kind == "whole":
            return self.path.exists()
        suffixes = (self.suffix,) if self.suffix else SUITABLE
        if self.kind == "kept":
            return any(self.path.with_name(self.path.name + suffix).exists() for suffix in suffixes)
        endings = re.compile(rf"\.[^.]*({'|'.join(map(re.escape, suffixes))})", re.IGNORECASE)
        names = self.path.parent.glob(glob.escape(self.path.name) + ".*")
        return any(endings.fullmatch(name.name.removeprefix(self.path.name)) for name in names)

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
    alike = Counter(_key(below.parent / below.stem) for _, below in set(inputs))
    twins = Counter(_key(below) for _, below in set(inputs))
    for path, below in inputs:
        # Results of a.jpg and a.png beside it are told apart; --keep-names promises the name, and refuses the second.
        shared = alike[_key(below.parent / below.stem)] > 1 and not settings.keep_names
        nothing_left = not below.stem.strip(".")  # of ..png
        name = below.name if shared or nothing_left else below.stem
        if twins[_key(below)] > 1 and not settings.keep_names:  # from two folders that were named
            name = f"{path.parent.name}.{name}"
        target = (output or UPSCALED) / below.parent / name
        suffix = f".{settings.format}" if settings.format and not is_film(path) else ""
        if not settings.keep_names:
            plan.append((path, Target(target, "dated", suffix)))
            continue
        if target.parent.resolve() == path.parent.resolve():
            raise UsageError(f"--keep-names: {target.parent} has the pictures themselves; give another folder with -o")
        key = _key(target)
        plan.append((path, Target(_fitting(target), "kept", suffix, before.get(key))))
        before.setdefault(key, path)
    return plan


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
    return Target(output, "whole")
