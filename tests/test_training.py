"""Training: the data of every step, going on exactly, stopping safely. Nothing here depends on luck."""

import math
import os
import signal

import pytest
import torch
from PIL import Image

import training
from checkpoints import load_checkpoint
from gen_samples import cut_samples, read_pairs
from images import UsageError, psnr, rgb_to_luma
from training import Data, Settings, cosine, train, validate

TINY = Settings(shape={"kernels": [9, 1, 5]}, batch=4, patch=20)
CPU = torch.device("cpu")


@pytest.fixture
def samples(photographs, place):
    """Twenty samples of 32×32 from five photographs."""
    cut_samples(20, 32, 2, 0, photographs, place / "samples_gen_32")
    return [place / "samples_gen_32"]


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr(training, "UPDATES_PER_EPOCH", 3)


def same_weights(one, two):
    return all(torch.equal(one["params"][key], two["params"][key]) for key in one["params"])


def test_an_epoch_is_one_pass_over_the_samples(samples):
    data = Data(samples, TINY)
    assert data.updates_per_epoch == math.ceil(len(data.training) / 4) and data.patch == 32
    seen = [large for step in range(data.updates_per_epoch) for large in data.batch(step)[1]]
    # A flip or a turn keeps the sum and the spread of the values, which tells the samples apart.
    marks = sorted((int(part.sum()), int(part.int().pow(2).sum())) for part in seen)
    assert marks == sorted((int(p.large.sum()), int(p.large.int().pow(2).sum())) for p in data.training)
    again = Data(samples, TINY)
    assert all(torch.equal(a, b) for step in (0, 7) for a, b in zip(data.batch(step), again.batch(step), strict=True))
    assert not torch.equal(data.batch(0)[1], data.batch(data.updates_per_epoch)[1])


def test_over_photographs_an_epoch_has_a_fixed_number_of_updates(photographs):
    data = Data([photographs], TINY)
    assert data.updates_per_epoch == 3
    small, large = data.batch(0)
    assert small.shape == large.shape == (4, 3, 20, 20) and small.dtype == torch.uint8
    held_out = {pair.photograph for pair in data.held_out}
    assert len(held_out) == 1 and held_out.isdisjoint(pair.photograph for pair in data.training)


def test_the_learning_rate_is_half_a_cosine():
    rates = [cosine(step, 100, 200, 0.5) for step in (100, 150, 199, 200)]
    assert rates[0] == 0.5 and rates[1] == pytest.approx(0.25) and 0 < rates[2] < 2e-4 and rates[3] == 0


def test_validation_is_the_mean_of_each_pictures_psnr(photographs):
    pairs, _ = read_pairs([photographs], 2, enlarge=True)
    expected = [
        psnr(rgb_to_luma(pair.small[None] / 255), rgb_to_luma(pair.large[None] / 255), 2).item() for pair in pairs
    ]
    assert validate(lambda luma: luma, pairs, 2) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_a_run_leaves_checkpoint_curves_and_picture(samples, place, capsys):
    path = train(TINY, samples, 2, False, samples, CPU)
    checkpoint = load_checkpoint(path)
    assert [entry["epoch"] for entry in checkpoint["history"]] == [1, 2]
    assert all(
        math.isfinite(entry[key]) for entry in checkpoint["history"] for key in ("loss", "psnr", "validation_psnr")
    )
    best = max(entry["psnr"] for entry in checkpoint["history"])
    assert checkpoint["training"]["best_psnr"] == best
    for suffix in (".curves.png", ".before_after.png"):
        with Image.open(path.with_suffix(suffix)) as picture:
            assert min(picture.size) > 200
    assert f"{best:.2f} dB" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_weights(samples):
    first, second, other = (
        load_checkpoint(train(settings, samples, 1, True, [], CPU))
        for settings in (TINY, TINY, Settings(**{**vars(TINY), "seed": 1}))
    )
    assert same_weights(first, second) and not same_weights(first, other)


@pytest.mark.parametrize("stop_after", [1, 4, 7])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(samples, monkeypatch, capsys, stop_after):
    whole = load_checkpoint(train(TINY, samples, 2, True, [], CPU))
    assert whole["training"]["last_step"] > 7
    batch, calls = Data.batch, []

    def stopping_batch(self, step):
        calls.append(step)
        if len(calls) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Data, "batch", stopping_batch)
        with pytest.raises(SystemExit) as caught:
            train(TINY, samples, 2, True, [], CPU)
    assert caught.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    with pytest.raises(UsageError, match="batch 4 → 8"):
        train(Settings(**{**vars(TINY), "batch": 8}), samples, 2, False, [], CPU)
    resumed = load_checkpoint(train(TINY, samples, 2, False, [], CPU))
    assert same_weights(whole, resumed)
    assert [entry["loss"] for entry in whole["history"]] == [entry["loss"] for entry in resumed["history"]]


def test_a_finished_run_gets_more_epochs_in_a_new_file(samples):
    first = train(TINY, samples, 1, False, [], CPU)
    before = first.read_bytes()
    second = train(TINY, samples, 2, False, [], CPU)
    assert second != first and first.read_bytes() == before
    assert [entry["epoch"] for entry in load_checkpoint(second)["history"]] == [1, 2, 3]
    third = train(TINY, samples, 1, True, [], CPU)
    assert len(load_checkpoint(third)["history"]) == 1
    other = train(Settings(**{**vars(TINY), "shape": {"kernels": [9, 3, 5]}}), samples, 1, False, [], CPU)
    assert len(load_checkpoint(other)["history"]) == 1


def test_other_pictures_start_the_best_figure_anew(samples, photographs):
    train(TINY, samples, 1, False, [], CPU)
    checkpoint = load_checkpoint(train(TINY, [photographs], 1, False, [], CPU))
    assert len(checkpoint["history"]) == 2
    assert checkpoint["training"]["best_psnr"] == checkpoint["history"][-1]["psnr"]
