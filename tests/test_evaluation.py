"""Figures: by hand what evaluation does by itself."""

import math
import statistics
import zlib

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from test_srcnn import delta_network

import degrade
import main
from engine import evaluation
from engine.data import seeded
from engine.evaluation import (
    DRAWS,
    EvaluationSettings,
    evaluate_folder,
    evaluate_sets,
    perceptual_metrics,
    restore_as_published,
)
from engine.weights import load_vgg19
from gen_samples import cut_samples
from imaging.console import UsageError, UserError
from imaging.images import crop_to_multiple, psnr, resize, rgb_to_luma, round_to_8_bits, ssim
from imaging.saving import write_picture


def test_what_looks_measures(photograph):
    vgg = load_vgg19("random", ("conv3_4", "conv5_4"))
    same = perceptual_metrics(photograph, photograph, vgg)
    assert same == {"conv3_4": 0, "conv5_4": 0, "detail": 1, "colour": 0, "weave": 0, "chroma": 0}
    tinted = photograph * 0.5
    tinted[:, 2] += 10 / 255
    figures = perceptual_metrics(tinted, photograph * 0.5, vgg)
    assert figures["colour"] == pytest.approx(10, abs=1e-3) and figures["detail"] == pytest.approx(1, abs=1e-3)
    blurred = perceptual_metrics(resize(resize(photograph, 0.5), 2), photograph, vgg)
    assert blurred["detail"] < 0.5 and blurred["conv3_4"] > 0
    assert perceptual_metrics(photograph * 2, photograph, vgg)["detail"] == pytest.approx(4, rel=1e-4)


def test_evaluation_by_hand(place, photograph):
    sizes = {"one": (60, 71), "two": (47, 90)}
    for name, (height, width) in sizes.items():
        write_picture(place / "Set" / f"{name}.png", photograph[..., :height, :width])
    (place / "Set" / "broken.png").write_text("no picture")
    write_picture(place / "Set" / "tiny.png", photograph[..., :12, :12])
    figures = evaluate_folder(place / "Set", EvaluationSettings(3, delta_network()))
    assert [row["name"] for row in figures["images"]] == ["one.png", "two.png"]
    for row, (height, width) in zip(figures["images"], sizes.values(), strict=True):
        high = crop_to_multiple(photograph[..., :height, :width], 3)
        luma = round_to_8_bits(rgb_to_luma(high))
        restored = resize(resize(luma, 1 / 3), 3)
        assert row["bicubic"] == {"psnr": psnr(restored, luma, 3).item(), "ssim": ssim(restored, luma, 3).item()}
        assert row["model"]["psnr"] == pytest.approx(row["bicubic"]["psnr"], abs=1e-3)
    mean = sum(row["bicubic"]["psnr"] for row in figures["images"]) / 2
    assert figures["bicubic"]["psnr"] == pytest.approx(mean)
    assert "model" not in evaluate_folder(place / "Set", EvaluationSettings(3))
    (row,) = evaluate_folder(place / "Set" / "one.png", EvaluationSettings(3))["images"]
    assert row["name"] == "one.png"
    (place / "bad").mkdir()
    (place / "bad" / "x.png").write_text("")
    with pytest.raises(UserError, match="no picture that can be measured"):
        evaluate_folder(place / "bad", EvaluationSettings(2))


class Bicubic(torch.nn.Conv2d):
    """Enlarges RGB as `resize` does; by 1 it gives what it gets."""

    luma, radius, margin, tile, fold = False, 4, 4, 256, 1

    def __init__(self, scale=2):
        super().__init__(1, 1, 1)
        self.scale = scale

    def forward(self, low):
        return resize(low, self.scale)


def test_grey_files_are_measured_on_their_own_values(place, photograph, capsys):
    grey = photograph[:, 1:2, :96, :128]
    write_picture(place / "Set" / "grey.png", grey)
    write_picture(place / "Set" / "rgb.png", grey.expand(-1, 3, -1, -1))
    for network in (delta_network(), Bicubic()):
        row, of_rgb = evaluate_folder(place / "Set", EvaluationSettings(2, network))["images"]
        assert "1 of 2 files are grey" in capsys.readouterr().err
        low = round_to_8_bits(resize(grey, 0.5)) if network.scale == 2 else resize(grey, 0.5)
        for method, seen in (("bicubic", resize(grey, 0.5)), ("model", low)):
            restored = (resize(seen, 2).clamp(0, 1) * 255).round()[0, 0, 2:-2, 2:-2].numpy()
            original = (grey * 255).round()[0, 0, 2:-2, 2:-2].numpy()
            by_hand = peak_signal_noise_ratio(original, restored, data_range=255)
            assert row[method]["psnr"] == pytest.approx(by_hand, abs=0.01)  # `upscale` keeps the level
            # Luma of the same picture as RGB has 219 levels for the file's 255.
            assert of_rgb[method]["psnr"] - by_hand == pytest.approx(20 * math.log10(255 / 219), abs=0.05)
    vgg = load_vgg19("random", ("conv3_4", "conv5_4"))
    row, of_rgb = evaluate_folder(place / "Set", EvaluationSettings(2, delta_network(), vgg))["images"]
    assert row["model"]["conv3_4"] == pytest.approx(of_rgb["model"]["conv3_4"], rel=0.02)


def test_a_network_that_does_not_enlarge_stands_beside_its_input(place, photograph, monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "DRAWS", 2)
    write_picture(place / "Set" / "x.png", photograph[..., :60, :60])
    figures = evaluate_folder(place / "Set", EvaluationSettings(1, Bicubic(1), degradation="photo"))
    assert "bicubic" not in figures and figures["input"]["psnr"] < 50
    assert figures["model"]["psnr"] == pytest.approx(figures["input"]["psnr"])  # it changes nothing
    assert not capsys.readouterr().err
    figures = evaluate_folder(place / "Set", EvaluationSettings(1, Bicubic(1)))
    assert figures["input"]["psnr"] == 100 and "the input is the ground truth itself" in capsys.readouterr().err
    report = evaluate_sets([place / "Set"], EvaluationSettings(1, Bicubic(1)))
    main.print_report(report)
    head = capsys.readouterr().out.splitlines()[1].split()
    assert head == ["input", "model"]


def test_networks_on_rgb_are_measured_on_rgb(photograph):
    high = photograph[..., :60, :60]
    restored = restore_as_published(Bicubic(), high, 2)
    expected = resize(degrade.bicubic(high, 2), 2).clamp(0, 1)
    torch.testing.assert_close(restored, expected, atol=1e-3, rtol=0)  # `upscale` keeps the level besides


@pytest.fixture
def enlarged_pairs(place, photograph):
    """Writes pairs of grey or RGB of one size, as SRCNN's samples are; gives their two folders."""

    def write(low, grey=False, blur=2):
        sharp = photograph[:, 1:2, :96, :128] if grey else photograph[..., :96, :128]
        write_picture(place / "HQ" / "a.png", sharp)
        write_picture(place / low / "a.png", resize(resize(sharp, 1 / blur), blur))
        return place / "HQ", place / low

    return write


@pytest.mark.parametrize("grey", [False, True])
def test_a_low_picture_of_the_high_ones_size_is_restored_as_it_is(enlarged_pairs, grey):
    """By a network that gives back what it gets, the figures are those of the low picture, of grey too."""
    vgg = load_vgg19("random", ("conv3_4", "conv5_4"))
    settings = EvaluationSettings(2, delta_network(), vgg, degradation="pairs")
    seen = set()
    for low, blur in (("LQ", 2), ("worse", 8)):
        (row,) = evaluate_folder(enlarged_pairs(low, grey, blur), settings)["images"]
        for name, figure in row["bicubic"].items():
            assert row["model"][name] == pytest.approx(figure, rel=0.02, abs=0.02), name
        seen.add(round(row["model"]["conv3_4"], 3))
    assert len(seen) == 2  # of another low picture VGG19 sees another result


def test_what_enlarges_by_itself_gets_no_low_picture_of_the_high_ones_size(enlarged_pairs, capsys):
    class OnLuma(Bicubic):
        luma = True

    for network in (OnLuma(2), Bicubic(2)):
        with pytest.raises(UserError, match=r"HQ and .*LQ: no picture"):
            evaluate_folder(enlarged_pairs("LQ"), EvaluationSettings(2, network, degradation="pairs"))
        assert "is not 1/2 of its sharp picture" in capsys.readouterr().err


def test_a_network_that_does_not_enlarge_restores_pairs_too(enlarged_pairs):
    class Blur(Bicubic):
        def forward(self, low):
            return resize(resize(low, 1 / 8), 8)

    figures = evaluate_folder(enlarged_pairs("LQ"), EvaluationSettings(1, Blur(1), degradation="pairs"))
    assert figures["model"]["psnr"] < figures["input"]["psnr"] - 3


def test_two_low_versions_of_one_set_stay_apart(enlarged_pairs):
    report = evaluate_sets([enlarged_pairs("LQ"), enlarged_pairs("worse", blur=8)], EvaluationSettings(2))
    better, worse = (found["bicubic"]["psnr"] for found in report["sets"].values())
    assert better > worse + 3 and [name.split("/")[-1] for name in report["sets"]] == ["LQ", "worse"]


def test_samples_are_measured_as_they_were_cut(place, photographs, capsys):
    cut_samples(4, 48, 2, 0, photographs, place / "samples")
    report = evaluate_sets([place / "samples"], EvaluationSettings(2, delta_network()))
    assert report["protocol"].startswith("low pictures as they are given")
    (figures,) = report["sets"].values()
    assert figures["model"]["psnr"] == pytest.approx(figures["bicubic"]["psnr"], abs=0.02)
    with pytest.raises(UsageError, match="samples: cut for ×2, not ×3"):
        evaluate_sets([place / "samples"], EvaluationSettings(3))
    for flags, words in (
        (["-i", "samples", "-d", "photo"], "pairs and samples are measured as they are: leave out -d"),
        (["-i", "samples", "photographs"], "measure each apart"),
    ):
        assert main.main(["evaluate", "-s", "2", *flags]) == 2
        assert words in capsys.readouterr().err


def test_sets_of_one_name_stay_apart(place, photograph):
    for folder in ("a/Set5", "b/Set5"):
        write_picture(place / folder / "x.png", photograph[..., :40, :40])
    report = evaluate_sets([place / "a" / "Set5", place / "b" / "Set5"], EvaluationSettings(2))
    assert len(report["sets"]) == 2


def test_poor_pictures_are_measured_over_draws(place, photograph, monkeypatch):
    monkeypatch.setattr(evaluation, "DRAWS", 3)
    for name in ("one", "two"):
        write_picture(place / "Set" / f"{name}.png", photograph[..., :61, :75])
    figures = evaluate_folder(place / "Set", EvaluationSettings(3, delta_network(), degradation="real", seed=4))
    high, row = photograph[..., :60, :75], figures["images"][0]
    number = zlib.crc32(b"one.png")
    lows = [degrade.second_order(high, 3, seeded(4, number, draw)) for draw in range(3)]
    expected = [psnr(resize(low, 3), high, 3).item() for low in lows]
    assert row["bicubic"]["psnr"] == pytest.approx(statistics.mean(expected))
    assert row["bicubic"]["error"] == pytest.approx(statistics.stdev(expected) / 3**0.5)
    assert row["model"]["psnr"] == pytest.approx(row["bicubic"]["psnr"], abs=0.05)  # the same draws, luma alone
    errors = [row["bicubic"]["error"] for row in figures["images"]]
    assert figures["bicubic"]["error"] == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2)
    assert figures["images"][0]["bicubic"] != figures["images"][1]["bicubic"]  # one picture, other draws
    again = evaluate_folder(place / "Set", EvaluationSettings(3, degradation="real", seed=4))
    assert again["bicubic"] == figures["bicubic"]
    other = evaluate_folder(place / "Set", EvaluationSettings(3, degradation="real", seed=5))
    assert other["bicubic"] != figures["bicubic"] and DRAWS == 20
