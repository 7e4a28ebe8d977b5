"""Samples: what is cut, from where, and what happens to older ones."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import degrade
import gen_samples
from gen_samples import cut_samples
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import crop_to_multiple, resize, to_bytes
from imaging.saving import write_picture


def record(folder):
    with open(folder / "samples.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("scale", [2, 3])
def test_samples_are_cut_where_the_record_says(photographs, place, scale):
    cut_samples(12, 32, scale, seed=4, source=photographs, target=place / "samples")
    rows = record(place / "samples")
    assert [row["id"] for row in rows] == [f"{index:06d}" for index in range(12)]
    assert len(list((place / "samples").iterdir())) == 25
    for row in rows:
        high = read_picture(photographs.parent / row["photograph"])
        left, top = int(row["left"]), int(row["top"])
        large = read_picture(place / "samples" / f"{row['id']}.large.png")
        assert torch.equal(large, high[..., top : top + 32, left : left + 32])
        small = read_picture(place / "samples" / f"{row['id']}.small.png")
        assert small.shape == (1, 3, 32, 32)
        # Away from the right and bottom borders, where the scale may not divide, small is the whole
        # photograph shrunk and enlarged again.
        high = crop_to_multiple(high, scale)
        expected = to_bytes(resize(degrade.bicubic(high, scale), scale))[..., top : top + 32, left : left + 32]
        rows_inside, columns_inside = (max(0, expected.shape[axis] - 4 * scale) for axis in (-2, -1))
        inner = (..., slice(rows_inside), slice(columns_inside))
        assert (to_bytes(small)[inner].int() - expected[inner].int()).abs().max() <= 1


def test_same_seed_same_files(photographs, place):
    contents = []
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        cut_samples(6, 32, 2, seed, photographs, place / name)
        contents.append({path.name: path.read_bytes() for path in (place / name).iterdir()})
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_older_samples_are_replaced_whole_and_strange_folders_are_not(photographs, place):
    cut_samples(9, 32, 2, 0, photographs, place / "samples")
    cut_samples(4, 32, 2, 0, photographs, place / "samples")
    assert len(list((place / "samples").glob("*.png"))) == 8
    (place / "mine").mkdir()
    (place / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="move it away"):
        cut_samples(4, 32, 2, 0, photographs, place / "mine")
    assert (place / "mine" / "thesis.txt").exists()


def test_bad_and_small_photographs_are_named_and_skipped(photographs, place, capsys):
    (photographs / "broken.png").write_bytes((photographs / "1.png").read_bytes()[:300])
    (photographs / "text.jpg").write_text("no picture")
    write_picture(photographs / "tiny.png", torch.rand(1, 3, 31, 80))
    cut_samples(30, 32, 2, 0, photographs, place / "samples")
    told = capsys.readouterr().err
    assert all(name in told for name in ("broken.png", "text.jpg", "tiny.png"))
    assert {row["photograph"] for row in record(place / "samples")} == {
        f"photographs/{number}.png" for number in range(5)
    }
    with pytest.raises(UserError, match="larger"):
        cut_samples(3, 96, 2, 0, photographs, place / "other")
    assert not (place / "other").exists()


def test_an_empty_folder_is_filled_with_free_photographs(place):
    paths = gen_samples.find_or_fill(place / "images_raw")
    assert {path.name for path in paths} == set(gen_samples.FREE_PHOTOGRAPHS)
    readme = (Path(gen_samples.__file__).parent / "images_raw" / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in readme for name in gen_samples.FREE_PHOTOGRAPHS)


def test_a_folder_with_anything_in_it_is_not_filled(place):
    (place / "images_raw").mkdir()
    (place / "images_raw" / "holiday.heic").touch()
    with pytest.raises(UsageError, match="no pictures"):
        gen_samples.find_or_fill(place / "images_raw")
    assert len(list((place / "images_raw").iterdir())) == 1


@pytest.mark.slow
def test_the_script(place, photographs):
    (place / "images_raw").mkdir()
    (photographs / "0.png").rename(place / "images_raw" / "0.png")  # 70×60: no room for 64×64
    script = Path(gen_samples.__file__)

    def run(*arguments):
        return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)

    finished = run("5", "-64", "-s", "3")
    assert finished.returncode == 1 and "larger" in finished.stderr.splitlines()[-1]
    finished = run("5", "-s", "3")
    assert finished.returncode == 0 and "5 samples of 32×32 for ×3" in finished.stdout
    assert gen_samples.sample_scale(place / "samples_gen_32") == 3
    for wrong in (["0"], ["5", "-s", "1"], ["many"], ["5", "--seed", "-1"]):
        finished = run(*wrong)
        assert finished.returncode == 2 and len(finished.stderr.splitlines()) == 1


def test_samples_that_cannot_be_replaced_stay(photographs, place, monkeypatch):
    cut_samples(4, 32, 2, 1, photographs, place / "samples")
    before, real = record(place / "samples"), Path.rename

    def rename(self, target):
        if self.name.endswith(".part"):
            raise PermissionError(13, "used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UserError, match="used by another process"):
        cut_samples(4, 32, 2, 2, photographs, place / "samples")
    assert record(place / "samples") == before
