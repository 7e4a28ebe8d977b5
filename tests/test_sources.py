"""Pairs that somebody else has made: found by name, learnt from as they are, and never taken for photographs."""

import json
from pathlib import Path

import pytest
import torch

import main
from engine.checkpoints import load_checkpoint
from engine.data import Data
from engine.evaluation import EvaluationSettings, evaluate_sets
from engine.following import Following
from engine.pairs import make_pair, read_pairs
from engine.settings import Adversarial, Settings
from engine.sources import Source, find_sources, with_low
from engine.starting import ANEW, GO_ON
from engine.training import train
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import psnr, resize, to_bytes
from imaging.saving import write_picture

CPU = torch.device("cpu")
SMALL = {"scale": 4, "features": 8, "growth": 4, "blocks": 1, "unshuffle": False}
RRDB = Settings("rrdb", 4, shape=SMALL, batch=2, patch=8, ema=0.9)


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 2)


@pytest.fixture
def pairs(place, photograph):
    """Writes pairs of 96×88 and, dark and so unlike any shrunk picture, 24×22; gives their two folders."""

    def write(high="HQ", low="LQ", tail="", suffixes=("png", "png"), names=("a", "b", "c"), scale=4):
        for number, name in enumerate(names):
            sharp = photograph[..., :96, 10 * number : 10 * number + 88]
            write_picture(place / high / f"{name}.{suffixes[0]}", sharp)
            write_picture(place / low / f"{name}{tail}.{suffixes[1]}", resize(sharp, 1 / scale) / 2)
        return place / high, place / low

    return write


def names(sources):
    return [(source.large.stem, source.small and source.small.stem) for source in sources]


@pytest.mark.parametrize("tail", ["", "x4", "_x4", "x4m", "-X4", "_LR"])
@pytest.mark.parametrize("suffixes", [("png", "png"), ("jpg", "webp")])
def test_pairs_of_two_folders_are_found_by_name(pairs, tail, suffixes):
    high, low = pairs(tail=tail, suffixes=suffixes, names=("0001", "sub/0001", "sub/0002"))
    found = find_sources([(high, low)])
    assert [source.small.relative_to(low).parent for source in found] == [
        source.large.relative_to(high).parent for source in found
    ]
    assert names(found) == [("0001", f"0001{tail}"), ("0001", f"0001{tail}"), ("0002", f"0002{tail}")]
    assert all(source.is_pair for source in found)


@pytest.mark.parametrize("folders", [("gt", "lq"), ("HQ", "LQ"), ("HR", "LR"), ("GT", "lr")])
def test_two_folders_in_one_are_recognised(pairs, place, folders):
    pairs(f"set/{folders[0]}", f"set/{folders[1]}", tail="x4")
    assert names(find_sources([place / "set"])) == [("a", "ax4"), ("b", "bx4"), ("c", "cx4")]


def test_lists_of_basicsr_are_understood(pairs, place):
    high, low = pairs("data/HR", "data/LR", tail="x4")
    (place / "data" / "meta").mkdir()
    lists = {
        "data/pair.txt": "HR/a.png, LR/ax4.png\nHR/b.png, LR/bx4.png\n",
        "data/meta/pair.txt": "HR/a.png,LR/ax4.png\n\nHR/b.png,LR/bx4.png\n",  # relative to the folder above
    }
    for name, text in lists.items():
        (place / name).write_text(text)
        found = find_sources([place / name])
        assert names(found) == [("a", "ax4"), ("b", "bx4")] and all(source.small.exists() for source in found)
    (high / "meta_info.txt").write_text("a.png (96,88,3)\nb.png (96,88,3)\n")
    assert names(find_sources([high / "meta_info.txt"])) == [("a", None), ("b", None)]
    assert names(find_sources([(high / "meta_info.txt", low)])) == [("a", "ax4"), ("b", "bx4")]
    (place / "elsewhere.txt").write_text("HR/a.png, LR/ax4.png\n")
    with pytest.raises(UsageError, match="put the list into the folder that its paths start from"):
        find_sources([place / "elsewhere.txt"])
    (place / "data" / "torn.txt").write_text("HR/a.png, LR/ax4.png\nHR/b.png\n")
    with pytest.raises(UsageError, match=r"HR/b\.png: is no pair"):
        find_sources([place / "data" / "torn.txt"])


@pytest.mark.parametrize("mixed", ["HQ", "LQ", "both"])
@pytest.mark.parametrize("absolute", [slice(None, 1), slice(1, None)], ids=["first", "others"])
def test_a_list_may_mix_absolute_and_relative_paths(pairs, place, mixed, absolute):
    """The relative ones start from the folder above the list's: `lists/../HQ` is where the absolute ones lead too."""
    pairs(names=("0001", "sub/0001", "sub/0002"))
    (place / "lists").mkdir()
    for name in ("HQ", "LQ"):
        paths = [path.relative_to(place) for path in sorted((place / name).rglob("*.png"))]
        if mixed in (name, "both"):
            paths[absolute] = [path.absolute() for path in paths[absolute]]
        (place / "lists" / f"{name}.txt").write_text("\n".join(map(str, paths)))
    found = find_sources([(Path("lists/HQ.txt"), Path("lists/LQ.txt"))])
    low = [source.small.resolve().relative_to(place / "LQ") for source in found]
    assert low == [source.large.resolve().relative_to(place / "HQ") for source in found] and len(low) == 3


def test_linked_folders_in_a_list_keep_their_names(pairs, place):
    high, low = pairs(names=("0001", "sub/0001"))
    (high / "sub").rename(place / "elsewhere")
    (high / "sub").symlink_to(place / "elsewhere")
    (high / "list.txt").write_text(f"0001.png\n{high / 'sub' / '0001.png'}\n")
    assert len(find_sources([(Path("HQ/list.txt"), low)])) == 2


def test_a_list_across_drives_is_one_clear_line(pairs, place, monkeypatch):
    high, low = pairs()
    (high / "list.txt").write_text("a.png\nb.png\n")

    def of_windows(_):
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr("os.path.commonpath", of_windows)
    with pytest.raises(UsageError, match=r"list\.txt: has pictures on several drives: make a list of each"):
        find_sources([(high / "list.txt", low)])


def test_a_name_with_a_comma_is_a_photograph(place, photograph):
    write_picture(place / "a, b.png", photograph)
    (place / "list.txt").write_text("a, b.png\n")
    assert names(find_sources([place / "list.txt"])) == [("a, b", None)]


@pytest.mark.parametrize("folders", [("a", "b"), ("DIV2K_HR", "DIV2K_LR/X4")])
def test_what_looks_like_pairs_is_never_taken_for_photographs(pairs, place, folders):
    high, low = pairs(f"set/{folders[0]}", f"set/{folders[1]}", tail="x4")
    for named in ([place / "set"], [high, low]):
        with pytest.raises(UsageError, match=r"is 1/4 of .* \(3 such\): give pairs by -i HIGH --lq LOW"):
            find_sources(named)
    assert len(find_sources([high])) == 3


def test_like_named_photographs_of_two_cameras_are_photographs(place, photograph):
    write_picture(place / "set" / "one" / "1.png", photograph)
    write_picture(place / "set" / "two" / "1.png", photograph[..., :100, :])
    assert len(find_sources([place / "set"])) == 2


def test_pairs_that_are_not_understood_are_refused(pairs, place):
    high, low = pairs()
    (low / "b.png").rename(low / "z.png")
    with pytest.raises(UsageError, match=r"b\.png: has no low picture of its name in .*LQ, where a\.png is"):
        find_sources([(high, low)])
    (low / "z.png").rename(low / "bx4.png")
    (low / "a.png").rename(low / "bx2.png")
    (high / "a.png").unlink()
    with pytest.raises(UsageError, match="are both the low picture of"):
        find_sources([(high, low)])
    pairs("set/HR", "set/LR")
    pairs("set/HR", "set/other")
    with pytest.raises(UsageError, match="is beside HR/ and LR/: give the pairs by -i HIGH --lq LOW"):
        find_sources([place / "set"])
    with pytest.raises(UsageError, match="has LR/: say which are pairs"):
        (place / "low" / "LR").mkdir(parents=True)
        find_sources([place / "low"])
    with pytest.raises(UsageError, match="--lq: names 1 folders or lists"):
        with_low([high, high], [low])
    with pytest.raises(UsageError, match="is a photograph among pairs"):
        find_sources([place / "set" / "HR", (place / "set" / "HR", place / "set" / "LR")])


def test_low_pictures_without_a_sharp_one_are_told(pairs, capsys):
    high, low = pairs()
    (high / "b.png").unlink()
    assert names(find_sources([(high, low)])) == [("a", "a"), ("c", "c")]
    assert "1 pictures have no sharp one" in capsys.readouterr().err


def test_samples_may_be_of_any_kind(pairs, place, capsys):
    high, low = pairs(suffixes=("jpg", "webp"))
    for part, folder in (("large", high), ("small", low)):
        for path in folder.iterdir():
            path.rename(high.parent / f"{path.stem}.{part}{path.suffix}")
    assert names(find_sources([place])) == [(f"{name}.large", f"{name}.small") for name in "abc"]
    for path in place.glob("*.large.jpg"):
        path.unlink()
    with pytest.raises(UsageError, match=r"no ID\.large\.\* here has an ID\.small"):
        find_sources([place])


def test_given_pictures_are_read_as_they_are(pairs):
    high, low = pairs()
    (first, *_), _ = read_pairs([(high, low)], 4, enlarge=False)
    assert torch.equal(first.small, to_bytes(read_picture(low / "a.png"))[0])
    assert torch.equal(first.large, to_bytes(read_picture(high / "a.png"))[0])
    (first, *_), _ = read_pairs([(high, low)], 4, enlarge=True)  # for SRCNN
    assert torch.equal(first.small, to_bytes(resize(read_picture(low / "a.png"), 4))[0])


def test_sharp_pictures_may_have_a_rest_and_other_scales_are_told(pairs, place, capsys):
    high, low = pairs()
    write_picture(high / "b.png", torch.rand(1, 3, 97, 91))  # 22·4 and a rest of 3
    write_picture(high / "c.png", torch.rand(1, 3, 48, 44))
    found, _ = read_pairs([(high, low)], 4, enlarge=False)
    assert [tuple(pair.large.shape[-2:]) for pair in found] == [(96, 88), (96, 88)]
    assert "22×24 beside 44×48; this model wants a small one of 1/4 the size" in capsys.readouterr().err
    with pytest.raises(UsageError, match="this model wants a small one of 1/2 the size"):
        (high / "c.png").unlink()
        read_pairs([(high, low)], 2, enlarge=False)


def test_pairs_smaller_than_a_patch_are_left_out(pairs, place, photograph, capsys):
    high, low = pairs()
    write_picture(high / "tiny.png", photograph[..., :32, :36])
    write_picture(low / "tiny.png", photograph[..., :8, :9])
    data = Data([(high, low)], Settings("rrdb", 4, shape=SMALL, batch=2, patch=9))
    assert data.patch == 9 and len(data.pairs) == 3 and not data.ready_cut
    assert "HQ/tiny.png: its low picture has 9×8, a patch 9×9 pixels" in capsys.readouterr().err
    with pytest.raises(UsageError, match="all low pictures are smaller than a patch of 40×40"):
        Data([(high, low)], Settings("rrdb", 4, shape=SMALL, batch=2, patch=40))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    Settings("srcnn", 4, shape={"kernels": [9, 1, 5]}, batch=2, patch=20),
    Settings("rrdb", 4, "real", shape=SMALL, batch=2, patch=8, sharpen=True, mild=0.3),
], ids=lambda settings: settings.model)  # fmt: skip
def test_training_on_pairs_degrades_nothing_and_says_so(pairs, settings):
    high, low = pairs(tail="x4", suffixes=("jpg", "jpg"))
    path = train(settings, [(high, low)], 1, ANEW, CPU)
    checkpoint = load_checkpoint(path)
    assert checkpoint["degradation"] == "pairs" and path.name.startswith(f"{settings.model}-pairs_x4.")
    written = checkpoint["training"]["settings"]
    assert (written["degradation"], written["mild"], written["sharpen"]) == ("pairs", 0.0, False)
    assert "pool" not in checkpoint["training"]["parts"]


def test_batches_of_pairs_are_cut_from_both_at_one_place(pairs, place):
    """Of pairs whose low picture is the shrunk one, each low patch is its high patch shrunk, far from the border."""
    high, low = pairs()
    for path in high.iterdir():
        write_picture(low / path.name, make_pair(read_picture(path), 4, False)[0][None] / 255)
    small, large = Data([(high, low)], RRDB).cut(3)
    shrunk = make_pair(large / 255, 4, False)[0]
    difference = (small[0].int() - shrunk.int()).abs()[:, 2:-2, 2:-2]
    assert difference.max() <= 1


@pytest.mark.slow
def test_real_esrgan_learns_from_pairs(pairs):
    high, low = pairs()
    adversarial = Adversarial(features=4, perceptual="random", discriminator="unet")
    settings = Settings("esrgan", 4, "real", shape=SMALL, batch=2, patch=8, adversarial=adversarial)
    checkpoint = load_checkpoint(train(settings, [(high, low)], 1, ANEW, CPU))
    assert checkpoint["degradation"] == "pairs"
    assert checkpoint["training"]["settings"]["adversarial"]["discriminator"] == "unet"


@pytest.mark.slow
def test_what_is_watched_must_be_pairs_too(pairs, place):
    high, low = pairs()
    with pytest.raises(UsageError, match=r"--val .*: this run wants pairs"):
        train(RRDB, [(high, low)], 1, ANEW, CPU, following=Following([high]))
    pairs("val/gt", "val/lq")
    with pytest.raises(UsageError, match=r"--val .*: this run wants photographs"):
        train(RRDB, [high], 1, ANEW, CPU, following=Following([place / "val"]))
    path = train(RRDB, [(high, low)], 1, ANEW, CPU, following=Following([place / "val"]))
    (entry,) = load_checkpoint(path)["history"]
    assert entry["validation_psnr"] > 0


@pytest.mark.parametrize("named", ["-i HQ --lq LQ", "-i data/meta_info.txt", "-i data"])
def test_one_command_trains(pairs, place, named):
    pairs("HQ", "LQ", tail="x2", suffixes=("jpg", "jpg"), scale=2)
    pairs("data/HR", "data/LR", scale=2)
    (place / "data" / "meta_info.txt").write_text("".join(f"HR/{name}.png, LR/{name}.png\n" for name in "abc"))
    command = f"train -m rrdb -s 2 --blocks 1 --features 8 --growth 4 -b 2 -e 1 --cpu {named}"
    assert main.main(command.split()) == 0
    assert len(list((place / "models").glob("rrdb-pairs_x2.*.pt"))) == 1


@pytest.mark.parametrize("setting", ["multiscale=true", "sharpen=true", "photo.clean=0.5"])
def test_what_degrades_is_refused_with_pairs(pairs, place, capsys, setting):
    pairs("data/HR", "data/LR", scale=2)
    command = f"train -m rrdb -s 2 -d photo -e 1 --cpu -i data --set {setting}"
    assert main.main(command.split()) == 2
    expected = "changes nothing, for pairs are learnt from as they are: leave it out"
    assert f"{setting.split('=')[0]}: {expected}" in capsys.readouterr().err


def test_pairs_are_measured_as_they_are(pairs, place):
    high, low = pairs(tail="x4")
    pairs("set/gt", "set/lq")
    expected = psnr(resize(read_picture(low / "ax4.png"), 4), read_picture(high / "a.png"), 4).item()
    assert expected < 15  # they are dark
    settings = EvaluationSettings(4, degradation="pairs")
    report = evaluate_sets([(high, low), place / "set"], settings)
    assert report["protocol"].startswith("low pictures as they are given")
    assert [row["name"] for row in report["sets"]["HQ"]["images"]] == ["a.png", "b.png", "c.png"]
    for name in ("HQ", "set"):
        assert report["sets"][name]["images"][0]["bicubic"]["psnr"] == pytest.approx(expected, abs=1e-4)
    with pytest.raises(UserError, match="no picture that can be measured"):
        evaluate_sets([(high, low)], EvaluationSettings(2, degradation="pairs"))


@pytest.mark.slow
def test_the_command_measures_pairs(pairs, place, capsys):
    pairs(tail="x4")
    assert main.main(["evaluate", *["-i", "HQ", "--lq", "LQ", "-m", "srvgg", "--json", "out.json", "--cpu"]]) == 0
    figures = json.loads((place / "out.json").read_text())["sets"]["HQ"]
    assert figures["bicubic"]["psnr"] < 15 and figures["model"]["psnr"] < 15


def test_pairs_are_not_measured_on_another_degradation(pairs, capsys):
    pairs()
    assert main.main(["evaluate", *["-i", "HQ", "--lq", "LQ", "-d", "photo", "-s", "4"]]) == 2
    assert "pairs and samples are measured as they are: leave out -d" in capsys.readouterr().err


def test_a_source_tells_whether_it_is_a_pair(place):
    assert Source(place, place, "x").is_pair and not Source(place, place, "x", 2).is_pair
    assert not Source(place, None, "x").is_pair


def test_esrgan_on_pairs_names_its_first_stage(pairs, monkeypatch):
    high, low = pairs()
    monkeypatch.setattr("engine.data.read_pairs", lambda *_: pytest.fail("read pictures"))
    adversarial = Adversarial(features=4, perceptual="random")
    settings = Settings("esrgan", 4, "real", shape=SMALL, batch=2, patch=8, adversarial=adversarial)
    with pytest.raises(UsageError, match="`train -m rrdb` first"):
        train(settings, [(high, low)], 1, GO_ON, CPU)


@pytest.mark.parametrize("content", ["HR/\0.png\n", "a" * 10_000])
def test_what_is_no_list_of_paths_is_one_short_line(place, content):
    (place / "list.txt").write_text(content)
    with pytest.raises(UserError, match=r"list\.txt: is no list of paths, one a line: ") as caught:
        find_sources([place / "list.txt"])
    assert len(str(caught.value)) < len(str(place)) + 150 and "\0" not in str(caught.value)
