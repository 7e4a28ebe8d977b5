"""Samples and data sets: what is cut, from where, and that nothing crosses from training to validation."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import degrade
import gen_samples
from gen_samples import Pair, cut_samples, draw_batch, read_pairs, seeded, split_by_photograph
from images import UsageError, UserError, crop_to_multiple, read_picture, resize, to_bytes, write_picture
from stages import Settings


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


def test_read_pairs_from_every_kind_of_source(photographs, place):
    cut_samples(10, 32, 2, 0, photographs, place / "samples")
    (place / "list.txt").write_text("photographs/1.png\n\nphotographs/2.png\n", encoding="utf-8")
    samples, ready_cut = read_pairs([place / "samples"], 2, enlarge=True)
    assert ready_cut and len(samples) == 10
    assert {pair.photograph for pair in samples} <= {f"photographs/{number}.png" for number in range(5)}
    several, ready_cut = read_pairs([place / "samples", photographs, place / "list.txt"], 2, enlarge=True)
    assert not ready_cut and len(several) == 10 + 5  # the list names two of the five again
    assert len({pair.photograph for pair in several}) == 5
    with pytest.raises(UsageError, match="has samples below it"):
        read_pairs([place], 2, enlarge=True)
    (single,) = read_pairs([photographs / "3.png"], 3, enlarge=False)[0]
    assert single.large.shape == (3, 72, 69) and single.small.shape == (3, 24, 23)
    high = crop_to_multiple(read_picture(photographs / "3.png"), 3)
    assert torch.equal(single.small, to_bytes(degrade.bicubic(high, 3))[0])


def test_wrong_sources_are_told(photographs, place, capsys):
    cut_samples(4, 32, 2, 0, photographs, place / "samples")
    with pytest.raises(UsageError, match="cut for ×2, not ×3"):
        read_pairs([place / "samples"], 3, enlarge=True)
    with pytest.raises(UsageError, match=r"32×32 beside 32×32; .*and 3 more"):
        read_pairs([place / "samples"], 2, enlarge=False)  # equal sizes are no pairs for a network that enlarges
    with pytest.raises(UsageError, match="no such file or folder"):
        read_pairs([place / "none.txt"], 2, enlarge=True)
    (place / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="no paths"):
        read_pairs([place / "empty.txt"], 2, enlarge=True)
    (place / "samples" / "000001.small.png").unlink()
    (place / "samples" / "000002.large.png").write_bytes(b"broken")
    assert len(read_pairs([place / "samples"], 2, enlarge=True)[0]) == 2
    told = capsys.readouterr().err
    assert "000001.small.png" in told and "000002.large.png" in told


def test_memory_is_bounded_by_windows(photographs, monkeypatch):
    monkeypatch.setattr(gen_samples, "PIXELS_IN_MEMORY", 5 * 2500)
    pairs, _ = read_pairs([photographs], 2, enlarge=True)
    assert len(pairs) == 5
    assert all(2000 < pair.large[0].numel() <= 2500 for pair in pairs)
    again, _ = read_pairs([photographs], 2, enlarge=True)
    assert all(torch.equal(one.large, two.large) for one, two in zip(pairs, again, strict=True))


def test_too_small_pictures_are_named_and_left_out(photographs, place, capsys):
    pairs, _ = read_pairs([photographs], 2, enlarge=True, least=66)
    assert len(pairs) == 3  # of heights 60, 64, 68, 72 and 76
    assert "0.png: 70×60 is smaller than 66×66" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing to train on"):
        read_pairs([photographs], 2, enlarge=True, least=200)
    write_picture(place / "tiny" / "a.large.png", torch.rand(1, 3, 20, 40))
    write_picture(place / "tiny" / "a.small.png", torch.rand(1, 3, 20, 40))
    with pytest.raises(UserError, match="nothing to train on"):
        read_pairs([place / "tiny"], 2, enlarge=True)
    assert "a.large.png: is smaller than 32×32" in capsys.readouterr().err


def test_pairs_with_the_small_one_at_low_resolution(photographs, place):
    for path in photographs.iterdir():
        small, large = gen_samples.make_pair(read_picture(path), 2, enlarge=False)
        write_picture(place / "pairs" / f"{path.stem}.small.png", small[None] / 255)
        write_picture(place / "pairs" / f"{path.stem}.large.png", large[None] / 255)
    write_picture(place / "pairs" / "0.small.png", torch.rand(1, 3, 30, 30))
    data = gen_samples.Data([place / "pairs"], Settings("rrdb", 2, batch=3, patch=24))
    assert len(data.training) + len(data.held_out) == 4  # one does not match and is left out
    assert not data.ready_cut and data.patch == 24  # of unlike sizes, so they are cut as photographs are
    small, large = data.cut(0)
    assert small.shape == (3, 3, 24, 24) and large.shape == (3, 3, 48, 48)


def test_the_split_is_by_photograph():
    blank = torch.zeros(3, 4, 4, dtype=torch.uint8)
    pairs = [Pair(blank, blank, f"{index % 25}.png") for index in range(200)]
    training, held_out = split_by_photograph(pairs, seed=0)
    names = [{pair.photograph for pair in side} for side in (training, held_out)]
    assert len(names[1]) == 2 and not names[0] & names[1] and len(training) + len(held_out) == 200
    assert split_by_photograph(pairs[:1], seed=0) == (pairs[:1], pairs[:1])
    assert len({pair.photograph for pair in split_by_photograph(pairs[:2], seed=0)[1]}) == 1


@pytest.mark.parametrize("scale", [1, 2])
def test_patches_of_a_pair_stay_together_and_turn_every_way(scale):
    # A picture whose value tells its place: nearest enlargement of small must always give large.
    small = torch.arange(10 * 12, dtype=torch.uint8).view(1, 10, 12).expand(3, -1, -1)
    large = small.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    pair = Pair(small, large, "x")
    smalls, larges = draw_batch([pair] * 900, 4, seeded(3))
    assert smalls.shape == (900, 3, 4, 4) and larges.shape == (900, 3, 4 * scale, 4 * scale)
    assert torch.equal(larges, smalls.repeat_interleave(scale, -1).repeat_interleave(scale, -2))
    down, right = (smalls[:, 0, 1, 0].int() - smalls[:, 0, 0, 0], smalls[:, 0, 0, 1].int() - smalls[:, 0, 0, 0])
    ways = set(zip(down.tolist(), right.tolist(), strict=True))
    assert ways == {(a, b) for a in (12, -12) for b in (1, -1)} | {(b, a) for a in (12, -12) for b in (1, -1)}
    assert len({int(corner) for corner in smalls.amin((1, 2, 3))}) == 7 * 9  # every place is drawn


def test_seeded_generators_depend_on_every_number():
    draws = [torch.rand(1, generator=seeded(*numbers)).item() for numbers in ((0, 1), (1, 0), (0, 2), (0, 1, 9))]
    assert len(set(draws)) == 4
    assert torch.rand(1, generator=seeded(0, 1)).item() == draws[0]
