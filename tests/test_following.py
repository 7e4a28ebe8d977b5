"""What can be watched while a training runs, and which pictures choose the weights that are kept."""

import csv
import math
import sys
from dataclasses import replace

import pytest
import torch
from test_settings import chosen
from test_training import ADVERSARIAL, CPU, RRDB, TINY, short_epochs  # noqa: F401 (a fixture)

import degrade
from engine import following, training
from engine.checkpoints import load_checkpoint
from engine.ecbsr import ECBSR
from engine.following import COLUMNS, Following, Watch, earlier_lines, keep_pictures
from engine.networks import is_given_enlarged, load_network
from engine.pairs import Pair, make_pair
from engine.resume import RunState
from engine.starting import ANEW
from engine.training import learning_rate_at, train
from engine.upscaling import BORDER, Tiling, restore, upscale
from esrgan import RRDBNet
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import crop_to_multiple, to_bytes
from srcnn import SRCNN


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Curves take longer than these trainings, and have tests of their own."""
    monkeypatch.setattr("engine.progress.draw_progress", lambda *_: None)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_lines_are_means_over_steps_and_begin_anew_after_what_was_saved(place, monkeypatch):
    watch = Watch([], place / "x.pt", RunState({}, {}), Following())
    for step in range(1, 26):
        watch.step(step, 1e-3 * step, {"loss": float(step), **({"margin": 2.0} if step % 2 else {})})
    first, second = table(place / "x.steps.csv")
    assert (first["step"], first["loss"], first["margin"], first["style"]) == ("10", "5.5", "2.0", "")
    assert float(second["learning_rate"]) == pytest.approx(0.02) and second["loss"] == "15.5"
    assert math.isfinite(float(first["seconds"])) and tuple(first) == COLUMNS
    again = Watch([], place / "x.pt", RunState({}, {}, step=12), Following())
    for step in range(13, 21):
        again.step(step, 0.5, {"loss": 100.0})
    assert [row["loss"] for row in table(place / "x.steps.csv")] == ["5.5", "100.0"]
    (place / "x.steps.csv").write_text("nonsense\n1\n")
    assert earlier_lines(place / "x.steps.csv", 12) == [] and not (place / "x.steps.csv").exists()


def test_a_table_that_cannot_be_written_is_told_once(place, capsys):
    (place / "x.steps.csv").mkdir()
    watch = Watch([], place / "y.pt", RunState({}, {}), Following())
    watch.path = place / "x.steps.csv"
    for step in range(1, 31):
        watch.step(step, 1e-3, {"loss": 1.0})
    assert capsys.readouterr().err.count("training goes on") == 1


def test_the_history_has_the_rate_of_each_epochs_end(photographs, monkeypatch):
    monkeypatch.setattr(following, "EVERY", 2)
    path = train(TINY, [photographs], 2, ANEW, CPU)
    for entry, row in zip(load_checkpoint(path)["history"], table(path.with_suffix(".history.csv")), strict=True):
        expected = learning_rate_at(entry["step"] - 1, 0, 6, TINY)
        assert entry["learning_rate"] == float(row["learning_rate"]) == expected and float(row["seconds"]) > 0
    assert [row["step"] for row in table(path.with_suffix(".steps.csv"))] == ["2", "4", "6"]


def test_validation_chooses_where_it_is_asked_to(photographs, monkeypatch):
    figures = {"held out": iter([30.0, 40.0]), "val": iter([25.0, 20.0])}
    monkeypatch.setattr(training, "learning_rate_at", lambda *_: 1e-3)

    def validate(_, pairs, __):
        return next(figures["val" if len(pairs) > 1 else "held out"])

    monkeypatch.setattr(training, "validate", validate)
    settings = replace(RRDB, choose_by_val=True)
    path = train(settings, [photographs], 2, ANEW, CPU, following=Following([photographs]))
    checkpoint = load_checkpoint(path)
    assert checkpoint["training"]["best"] == 25 and len(checkpoint["training"]["validation"]) == 5
    state = RunState.from_dict(checkpoint["training"])
    state.first_step = state.step  # it was finished, and goes on: chosen anew
    training.check_validation(state, ["other"], path)
    assert state.best == -math.inf
    state.step += 1
    with pytest.raises(UsageError, match="by other pictures than --val has"):
        training.check_validation(state, ["yet another"], path)


def test_an_adversarial_stage_measures_looks_on_val_and_keeps_pictures(photographs):
    settings = replace(
        ADVERSARIAL, choose_by_val=True, adversarial=replace(ADVERSARIAL.adversarial, layers={"conv1_2": 1.0})
    )
    path = train(settings, [photographs], 2, ANEW, CPU, following=Following([photographs], pictures=True))
    checkpoint = load_checkpoint(path)
    distances = [entry["validation_perceptual"] for entry in checkpoint["history"]]
    assert checkpoint["training"]["best"] == -min(distances)
    assert all(entry["held_out_perceptual"] != entry["validation_perceptual"] for entry in checkpoint["history"])
    kept = sorted(path.with_suffix(".val").iterdir())
    assert len(kept) == 10 and kept[0].name == "001-0.step0000003.png"
    assert read_picture(kept[0]).shape == (1, 3, 60, 68)


def test_pictures_that_are_kept_are_what_the_network_makes(photographs):
    path = train(RRDB, [photographs], 1, ANEW, CPU, following=Following([photographs], pictures=True))
    network = load_network(load_checkpoint(path))
    kept = sorted(path.with_suffix(".val").iterdir())
    for one, photograph in zip(kept, sorted(photographs.iterdir()), strict=True):
        low = degrade.bicubic(crop_to_multiple(read_picture(photograph), 4), 4)
        assert torch.equal(to_bytes(read_picture(one)), to_bytes(upscale(network, low, 4)))
    luma = train(TINY, [photographs], 1, ANEW, CPU, following=Following([photographs], pictures=True))
    assert len(list(luma.with_suffix(".val").iterdir())) == 5


@pytest.mark.parametrize(
    "network", [SRCNN((9, 1, 5)), ECBSR(), RRDBNet(2, 8, 4, 1)], ids=lambda one: type(one).__name__
)
def test_pictures_that_are_kept_go_through_the_network_in_tiles(place, photograph, network):
    network.tile, sides = 40, []
    network.register_forward_hook(lambda _, given, __: sides.append(max(given[0].shape[-2:])))
    pair = Pair(*make_pair(photograph, 2, is_given_enlarged(network)), "photograph.png")
    keep_pictures(network, [pair], 1, place)
    assert max(sides) <= network.tile + 2 * (network.margin + BORDER) and len(sides) > 3
    low = pair.pictures()[0]
    whole = restore(network, low, "fp32") if network.scale == 1 else upscale(network, low, 2, Tiling(1000))
    difference = to_bytes(read_picture(place / "001-photograph.step0000001.png")).int() - to_bytes(whole).int()
    assert difference.shape == pair.large[None].shape and difference.abs().max() <= 1


def test_tensorboard_where_it_is_installed_and_where_not(photographs, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        patch.setattr(training, "find_run", lambda *_: pytest.fail("it began"))
        with pytest.raises(UserError, match="pip install tensorboard"):
            train(TINY, [photographs], 1, ANEW, CPU, following=Following(tensorboard=True))
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(following, "EVERY", 1)
    path = train(TINY, [photographs], 1, ANEW, CPU, following=Following(tensorboard=True))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path.with_suffix(".tensorboard"))).Reload()
    assert [event.step for event in events.Scalars("steps/loss")] == [1, 2, 3]
    (shown,) = events.Scalars("epochs/psnr")
    assert shown.value == pytest.approx(load_checkpoint(path)["history"][0]["psnr"])


def test_flags_that_need_val_say_so():
    for flag in ("--choose-by-val", "--val-pictures"):
        with pytest.raises(UsageError, match="name the pictures by --val"):
            chosen(flag)
    assert chosen("--choose-by-val", "--val", "x").choose_by_val and not chosen("--val", "x").choose_by_val
