"""Photographs → training samples for SRCNN.

    python gen_samples.py 400          # 400 random patches of 32×32 from images_raw/ into samples_gen_32/
    python gen_samples.py 400 -64      # of 64×64, into samples_gen_64/
    python gen_samples.py 400 -s 3     # shrunk and enlarged by 3 instead of 2

Each sample is a pair: ID.large.png, as it was, and ID.small.png, shrunk and enlarged again, at the same
size. samples.csv records the photograph of each, because training and validation must be split by
photograph: two patches of one wall, one on either side, make every network look better than it is.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has an older one should be told, not shown a traceback)
    sys.exit("error: needs Python 3.11 or newer; see Start in README.md")

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import argparse
import csv
import importlib.resources
import shutil
from pathlib import Path

import torch
from tqdm import tqdm

from engine.data import make_pair, random_below, seeded
from engine.sources import RECORD, photograph_name, read_record
from imaging.console import Parser, UserError, note, run_command
from imaging.files import read_picture
from imaging.folders import find_pictures
from imaging.images import from_bytes, to_image
from imaging.writing import check_folder, replacing

PHOTOGRAPHS = Path("images_raw")  # where your own lie
# Natural photographs inside the scikit-image package, free to use: images_raw/README.md has the licences.
FREE_PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "rocket.jpg",
)


def fill_with_free_photographs(folder: Path) -> None:
    """Copy the photographs that come with scikit-image into an empty folder; nothing is downloaded."""
    data = importlib.resources.files("skimage") / "data"
    for name in FREE_PHOTOGRAPHS:
        with importlib.resources.as_file(data / name) as path, replacing(folder / name) as temporary:
            shutil.copyfile(path, temporary)
    note(f"{folder}: was empty, now has {len(FREE_PHOTOGRAPHS)} free photographs that come with scikit-image")


def fill_if_empty(folder: Path) -> None:
    """Fill a folder of photographs if there is nothing in it but its README.md."""
    if not folder.is_dir() or all(path.name == "README.md" or path.name[0] == "." for path in folder.iterdir()):
        fill_with_free_photographs(folder)


def find_or_fill(folder: Path) -> list[Path]:
    """The photographs in a folder, after filling it if it is empty."""
    fill_if_empty(folder)
    return find_pictures(folder)


def sample_scale(folder: Path) -> int | None:
    """By how much the samples in a folder were shrunk and enlarged; None where there is no record of it."""
    scales = {row["scale"] for row in read_record(folder).values()}
    return scales.pop() if len(scales) == 1 else None


def usable_photographs(paths: list[Path], patch: int) -> list[Path]:
    """Those that can be read and are large enough for a patch; the others are named."""
    usable = []
    for path in tqdm(paths, desc="photographs", leave=False):
        try:
            height, width = read_picture(path).shape[-2:]
        except UserError as error:
            note(f"skipped: {error}")
            continue
        if min(height, width) < patch:
            note(f"skipped: {path}: {width}×{height} is smaller than a patch of {patch}×{patch}")
            continue
        usable.append(path)
    if not usable:
        raise UserError(f"no photograph is left that has {patch}×{patch} pixels: put larger ones there")
    return usable


MAX_SAMPLES = 10_000_000


def sample_count(text: str) -> int:
    """As many samples as a folder may hold."""
    count = console.positive(text)
    if count > MAX_SAMPLES:
        raise argparse.ArgumentTypeError(
            f"{text}: at most {MAX_SAMPLES} samples; train cuts from photographs without end"
        )
    return count


def cut_samples(count: int, patch: int, scale: int, seed: int, source: Path, target: Path) -> None:
    """Fill the folder `target` with `count` samples from the photographs in `source`, replacing older samples.

    The same seed and photographs give the same files. A photograph is shrunk whole and cut
    afterwards, so that a patch has real neighbours at its border. Raises UserError.
    """
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: is a file, where the samples go; move it away")
    if target.exists() and any(target.iterdir()) and not (target / RECORD).exists():
        raise UserError(f"{target}: is not a folder of samples that may be replaced (no {RECORD}); move it away")
    check_folder(target.parent)
    paths = usable_photographs(find_or_fill(source), patch)
    generator = seeded(seed)
    origins = torch.randint(len(paths), (count,), generator=generator).tolist()
    part, old = (target.with_name(f".{target.name}.{state}") for state in ("part", "old"))
    try:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)
        part.mkdir(parents=True)
        rows = []
        with tqdm(total=count, desc="samples", leave=False) as bar:
            for origin in sorted(set(origins)):
                identities = [index for index, one in enumerate(origins) if one == origin]
                rows += _cut_photograph(paths[origin], identities, patch, scale, generator, part)
                bar.update(len(identities))
        with open(part / RECORD, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, ["id", "photograph", "left", "top", "scale"])
            writer.writeheader()
            writer.writerows(sorted(rows, key=lambda row: row["id"]))
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write samples into {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not target.exists():  # on Windows, a file that is open elsewhere may end it half-way
            old.rename(target)


def _cut_photograph(path, identities, patch, scale, generator, folder) -> list[dict]:
    """Write the samples of one photograph; the rows for the record."""
    high = read_picture(path)
    # A photograph that is only just large enough must not lose its last rows to the scale.
    whole = torch.nn.functional.pad(high, (0, -high.shape[-1] % scale, 0, -high.shape[-2] % scale), mode="replicate")
    small, large = make_pair(whole, scale, enlarge=True)
    rows = []
    for identity in identities:
        top, left = random_below([high.shape[-2] - patch + 1, high.shape[-1] - patch + 1], generator)
        for kind, picture in (("small", small), ("large", large)):
            cut = picture[None, :, top : top + patch, left : left + patch]
            to_image(from_bytes(cut)).save(folder / f"{identity:06d}.{kind}.png")
        rows.append(
            {"id": f"{identity:06d}", "photograph": photograph_name(path), "left": left, "top": top, "scale": scale}
        )
    return rows


def main(arguments: list[str]) -> None:
    """The command line of this script."""
    parser = Parser(description="Cut random patches from the photographs in images_raw/ as training samples for SRCNN.")
    parser.add_argument("count", type=sample_count, metavar="COUNT", help="how many samples")
    parser.add_argument("-64", dest="patch", action="store_const", const=64, default=32, help="64×64 pixels, not 32×32")
    parser.add_argument(
        "-s", "--scale", type=console.scale, default=2, help="how far they are shrunk and enlarged again (default 2)"
    )
    parser.add_argument(
        "--seed", type=console.not_negative, default=0, help="the same seed gives the same files (default 0)"
    )
    options = parser.parse_args(arguments)
    target = Path(f"samples_gen_{options.patch}")
    cut_samples(options.count, options.patch, options.scale, options.seed, PHOTOGRAPHS, target)
    print(f"{options.count} samples of {options.patch}×{options.patch} for ×{options.scale} in {target}/")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
