"""Training: the data of every step, going on exactly, stopping safely. Nothing here depends on luck."""

import copy
import math
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import degrade
import esrgan
from degrade import PHOTO
from engine import checkpoints, layouts, resume, training, updates
from engine.checkpoints import load_checkpoint, save_checkpoint
from engine.data import Data, read_pairs
from engine.entries import NEW_NAMES, SHAPES
from engine.following import Following
from engine.networks import load_network
from engine.saving import Upkeep
from engine.settings import Adversarial, Settings, preset
from engine.starting import ANEW, GO_ON, UNTRAINED, Start, starting_weights
from engine.training import learning_rate_at, train, validate
from engine.updates import AdversarialStage, PixelStage
from engine.weights import load_vgg19
from esrgan import REAL_ESRGAN_LAYERS, PerceptualLoss, RRDBNet
from gen_samples import cut_samples
from imaging import distortions
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import from_bytes, psnr, rgb_to_luma
from imaging.saving import write_picture
from imaging.writing import locked

TINY = Settings(shape={"kernels": [9, 1, 5]}, batch=4, patch=20)
SMALL = {"scale": 4, "features": 8, "growth": 4, "blocks": 1, "unshuffle": False}
RRDB = Settings("rrdb", 4, shape=SMALL, batch=4, patch=8, ema=0.9, muon=True)
ADVERSARIAL = replace(RRDB, model="esrgan", adversarial=Adversarial(features=4, perceptual="random"))
CPU = torch.device("cpu")


@pytest.fixture
def samples(photographs, place):
    """Twenty samples of 32×32 from five photographs."""
    cut_samples(20, 32, 2, 0, photographs, place / "samples_gen_32")
    return [place / "samples_gen_32"]


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 3)


def read(sources, settings=TINY):
    """The data of a run with these settings."""
    return Data(sources, settings)


def same_weights(one, two):
    return all(torch.equal(one["params"][key], two["params"][key]) for key in one["params"])


def test_an_epoch_is_one_pass_over_the_samples(samples):
    data = read(samples)
    assert data.updates_per_epoch == math.ceil(len(data.training) / 4) and data.patch == 32
    seen = [large for step in range(data.updates_per_epoch) for large in data.cut(step)[1]]
    # A flip or a turn keeps the sum and the spread of the values, which tells the samples apart.
    marks = sorted((int(part.sum()), int(part.int().pow(2).sum())) for part in seen)
    assert marks == sorted((int(p.large.sum()), int(p.large.int().pow(2).sum())) for p in data.training)
    again = read(samples)
    assert all(torch.equal(a, b) for step in (0, 7) for a, b in zip(data.cut(step), again.cut(step), strict=True))
    assert not torch.equal(data.cut(0)[1], data.cut(data.updates_per_epoch)[1])


def test_over_photographs_an_epoch_has_a_fixed_number_of_updates(photographs):
    data = read([photographs])
    assert data.updates_per_epoch == 3
    small, large = data.cut(0)
    assert small.shape == large.shape == (4, 3, 20, 20) and small.dtype == torch.uint8
    held_out = {pair.photograph for pair in data.held_out}
    assert len(held_out) == 1 and held_out.isdisjoint(pair.photograph for pair in data.training)


def test_the_learning_rate_is_half_a_cosine_or_halves_at_milestones():
    settings = Settings(learning_rate=0.5, warm_up=0)
    rates = [learning_rate_at(step, 100, 200, settings) for step in (100, 150, 199, 200)]
    assert rates[0] == 0.5 and rates[1] == pytest.approx(0.25) and 0 < rates[2] < 2e-4 and rates[3] == 0
    settings = preset("rrdb", 4, paper=True)
    steps = (0, 199_999, 200_000, 500_000, 999_999)
    assert [learning_rate_at(step, 0, 10**6, settings) for step in steps] == [2e-4, 2e-4, 1e-4, 5e-5, 1.25e-5]
    second = preset("esrgan", 4, paper=True)
    assert [learning_rate_at(step, 0, 400_000, second) for step in (0, 50_000, 350_000)] == [1e-4, 5e-5, 6.25e-6]


def test_the_learning_rate_rises_first():
    settings = Settings(learning_rate=0.5, warm_up=20)
    cold, warm = (
        [learning_rate_at(step, 100, 300, one) for step in range(100, 300)]
        for one in (replace(settings, warm_up=0), settings)
    )
    assert [b / a for a, b in zip(cold[:20], warm, strict=False)] == pytest.approx([(n + 1) / 20 for n in range(20)])
    assert cold[20:] == warm[20:]
    assert learning_rate_at(1, 0, 10, settings) == learning_rate_at(
        1, 0, 10, replace(settings, warm_up=0)
    )  # a fifth of the run at most


class Unchanged(torch.nn.Linear):
    """A luma network that leaves its input as it is."""

    luma, scale, radius, margin, tile, fold = True, 1, 0, 0, 256, 1

    def __init__(self):
        super().__init__(1, 1)

    def forward(self, luma):
        return luma


def test_validation_is_the_mean_of_each_pictures_psnr(photographs):
    pairs, _ = read_pairs([photographs], 2, enlarge=True)
    expected = [
        psnr(rgb_to_luma(pair.small[None] / 255), rgb_to_luma(pair.large[None] / 255), 2).item() for pair in pairs
    ]
    assert validate(Unchanged(), pairs, 2) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_a_run_leaves_checkpoint_curves_and_picture(samples):
    path = train(TINY, samples, 2, GO_ON, CPU, following=Following(samples))
    checkpoint = load_checkpoint(path)
    assert [entry["epoch"] for entry in checkpoint["history"]] == [1, 2]
    assert all(
        math.isfinite(entry[key]) for entry in checkpoint["history"] for key in ("loss", "psnr", "validation_psnr")
    )
    best = max(entry["psnr"] for entry in checkpoint["history"])
    assert checkpoint["training"]["best"] == best
    for suffix in (".curves.png", ".before_after.png"):
        with Image.open(path.with_suffix(suffix)) as picture:
            assert min(picture.size) > 200


def test_the_best_weights_are_kept_and_not_the_last(samples, monkeypatch):
    # A constant learning rate, so that the first of two epochs is the same as one alone.
    monkeypatch.setattr(training, "learning_rate_at", lambda *_: 1e-3)
    first = load_checkpoint(train(TINY, samples, 1, ANEW, CPU))
    figures = iter([30.0, 20.0])
    monkeypatch.setattr(training, "validate", lambda *_: next(figures))
    second = load_checkpoint(train(TINY, samples, 2, ANEW, CPU))
    assert second["training"]["best"] == 30 and [entry["psnr"] for entry in second["history"]] == [30, 20]
    assert same_weights(first, second)
    assert not torch.equal(second["params"]["map.weight"], second["training"]["parts"]["network"]["map.weight"])


@pytest.mark.parametrize("settings", [TINY, RRDB, ADVERSARIAL])
def test_a_gradient_that_is_no_number_is_skipped_and_ten_in_a_row_stop_the_run(photographs, monkeypatch, settings):
    def training_with(bad_steps, epochs):
        monkeypatch.setattr(updates, "from_bytes", from_bytes)
        seen = []

        def spoilt(pixels):
            picture = from_bytes(pixels)
            if not torch.is_inference_mode_enabled():
                seen.append(0)
                step = (len(seen) - 1) // 2  # a low and a high picture for every step
                picture = picture * math.nan if step in bad_steps else picture
            return picture

        monkeypatch.setattr(updates, "from_bytes", spoilt)
        return load_checkpoint(train(settings, [photographs], epochs, ANEW, CPU))

    checkpoint = training_with({1}, 1)
    assert all(value.isfinite().all() for value in checkpoint["training"]["parts"]["network"].values())
    assert all(math.isfinite(value) for value in checkpoint["history"][0].values())
    training_with(set(range(9)), 4)
    with pytest.raises(UserError, match="10 updates in a row"):
        training_with(set(range(10)), 4)


def test_a_skipped_step_leaves_everything_as_it_was():
    low, high = make_batch()
    for stage in (PixelStage(RRDB, fresh_weights(RRDB), CPU), make_stage()):
        stage.update(low, high, 1e-3, 0)
        before = copy.deepcopy({name: stage.parts[name].state_dict() for name in ("network", "ema", "optimizer")})
        for parameter in stage.network.parameters():
            parameter.register_hook(lambda gradient: gradient * math.inf)
        figures = stage.update(low, high, 1e-3, 1)
        assert figures["skipped"] == 1 and math.isfinite(figures["loss"])
        for name in ("network", "ema"):
            after = stage.parts[name].state_dict()
            assert all(torch.equal(value, after[key]) for key, value in before[name].items()), name
        after = stage.optimizer.state_dict()["state"]
        for number, state in before["optimizer"]["state"].items():
            assert all(torch.equal(value, after[number][key]) for key, value in state.items())


def test_a_folder_that_cannot_be_written_is_told_before_training(samples, place, monkeypatch):
    (place / "models").write_text("in the way")
    monkeypatch.setattr(PixelStage, "update", lambda *_: pytest.fail("it trained"))
    with pytest.raises(UserError, match="cannot write models"):
        train(TINY, samples, 1, ANEW, CPU)


def test_the_same_seed_gives_the_same_weights(samples):
    first, second, other = (
        load_checkpoint(train(settings, samples, 1, ANEW, CPU)) for settings in (TINY, TINY, replace(TINY, seed=1))
    )
    assert same_weights(first, second) and not same_weights(first, other)


@pytest.mark.parametrize(
    ("settings", "stop_after"),
    [(TINY, 1), (TINY, 4), (RRDB, 5), pytest.param(ADVERSARIAL, 2, marks=pytest.mark.slow), (ADVERSARIAL, 4)],
)
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(photographs, monkeypatch, capsys, settings, stop_after):
    samples = [photographs]
    whole = load_checkpoint(train(settings, samples, 2, ANEW, CPU))
    assert whole["training"]["last_step"] == 6
    rate_at, calls = training.learning_rate_at, []

    def stopping_rate_at(*arguments):
        calls.append(arguments)
        if len(calls) == stop_after:  # a real Ctrl-C has killed workers of pytest; test_survival sends such
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)
        return rate_at(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(training, "learning_rate_at", stopping_rate_at)
        with pytest.raises(SystemExit) as caught:
            train(settings, samples, 2, ANEW, CPU)
    assert len(calls) == stop_after
    assert caught.value.code == 130 and "the same command without -n" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"clip 0\.0 → 8"):
        train(replace(settings, clip=8), samples, 2, GO_ON, CPU)
    resumed = load_checkpoint(train(settings, samples, 2, GO_ON, CPU))
    assert same_weights(whole, resumed)
    for before, after in zip(whole["history"], resumed["history"], strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}


def test_a_finished_run_gets_more_epochs_in_a_new_file(samples):
    first = train(TINY, samples, 1, GO_ON, CPU)
    before = first.read_bytes()
    second = train(TINY, samples, 2, GO_ON, CPU)
    assert second != first and first.read_bytes() == before
    assert [entry["epoch"] for entry in load_checkpoint(second)["history"]] == [1, 2, 3]
    third = train(TINY, samples, 1, ANEW, CPU)
    assert len(load_checkpoint(third)["history"]) == 1
    other = train(replace(TINY, shape={"kernels": [9, 3, 5]}), samples, 1, GO_ON, CPU)
    assert len(load_checkpoint(other)["history"]) == 1


def test_weights_alone_are_a_start(samples, capsys):
    path = train(TINY, samples, 1, GO_ON, CPU)
    checkpoint = load_checkpoint(path)
    del checkpoint["training"]
    save_checkpoint(checkpoint, path)
    again = load_checkpoint(train(replace(TINY, learning_rate=1e-30), samples, 1, GO_ON, CPU))
    assert f"starting from {path}" in capsys.readouterr().err
    assert len(again["history"]) == 1 and same_weights(checkpoint, again)


def test_other_pictures_start_the_best_figure_anew(samples, photographs):
    train(TINY, samples, 1, GO_ON, CPU)
    checkpoint = load_checkpoint(train(TINY, [photographs], 1, GO_ON, CPU))
    assert len(checkpoint["history"]) == 2
    assert checkpoint["training"]["best"] == checkpoint["history"][-1]["psnr"]


# ---------------------------------------------------------------------------------------------
# The two stages of ESRGAN
# ---------------------------------------------------------------------------------------------


def make_batch(count=8, side=8, scale=4):
    """Low and high pictures as uint8."""
    generator = torch.Generator().manual_seed(5)
    high = torch.randint(256, (count, 3, side * scale, side * scale), generator=generator, dtype=torch.uint8)
    return high[..., ::scale, ::scale].contiguous(), high


def fresh_weights(settings):
    return starting_weights(replace(settings, model="rrdb"), ANEW)


def test_a_run_starts_from_untrained_weights_where_asked_though_trained_ones_are_there(place):
    one = replace(RRDB, degradation="photo")
    weights = dict(RRDBNet(**RRDB.shape).state_dict())
    entries = {**RRDB.kind(), "history": [{"epoch": 1, "psnr": 1.0}], "params": weights}
    save_checkpoint(entries, place / "models" / "rrdb_x4.2026-01-01_00-00-00.pt")
    assert torch.equal(starting_weights(one, ANEW)["conv_last.weight"], weights["conv_last.weight"])
    untrained = starting_weights(one, Start(weights=UNTRAINED))
    torch.manual_seed(one.seed)
    expected = RRDBNet(**one.shape).state_dict()
    assert all(torch.equal(untrained[name], weight) for name, weight in expected.items())
    assert not torch.equal(untrained["conv_last.weight"], weights["conv_last.weight"])


def test_accumulating_is_the_update_of_the_whole_batch():
    low, high = make_batch()
    gradients = []
    for count in (1, 4):
        stage = PixelStage(replace(RRDB, accumulate=count), fresh_weights(RRDB), CPU)
        stage.optimizer.step = lambda stage=stage: gradients.append(  # what the step would go along
            [parameter.grad.clone() for parameter in stage.network.parameters()]
        )
        loss = stage.update(low, high, 1e-3, 0)["loss"]
        assert loss == pytest.approx(F.l1_loss(stage.network(low / 255), high / 255).item(), rel=1e-5)
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-7, rtol=1e-4)


def test_half_precision_computes_nearly_the_same_and_keeps_float32_weights():
    """bf16 has three digits: the gradient of either stage points the same way, and what is stored stays exact."""
    low, high = make_batch()
    vgg = PerceptualLoss(load_vgg19("random", ("conv1_2",)), {"conv1_2": 1.0})
    for make in (
        lambda precision: PixelStage(replace(RRDB, precision=precision), fresh_weights(RRDB), CPU),
        lambda precision: AdversarialStage(
            replace(ADVERSARIAL, precision=precision), fresh_weights(ADVERSARIAL), CPU, vgg
        ),
    ):
        gradients, losses = [], []
        for precision in ("fp32", "bf16"):
            stage = make(precision)
            stage.optimizer.step = lambda stage=stage, gradients=gradients: gradients.append(
                torch.cat([parameter.grad.flatten() for parameter in stage.network.parameters()])
            )
            losses.append(stage.update(low, high, 1e-3, 0)["loss"])
            assert all(parameter.dtype == torch.float32 for parameter in stage.ema.parameters())
        exact, rounded = gradients
        assert not torch.equal(exact, rounded) and F.cosine_similarity(exact, rounded, dim=0) > 0.99
        assert losses[0] == pytest.approx(losses[1], rel=2e-2)


def test_an_unfinished_run_goes_on_in_another_precision(photographs, monkeypatch):
    unfinished(photographs, monkeypatch)
    path = train(replace(RRDB, precision="bf16"), [photographs], 1, GO_ON, CPU)
    assert load_checkpoint(path)["training"]["settings"]["precision"] == "bf16"


def unfinished(source, monkeypatch, epochs=2, settings=RRDB):
    """Leave a run, of RRDB if nothing else is said, that was killed before its fifth step."""
    cut = Data.cut
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Data, "cut", lambda self, step: cut(self, step) if step < 4 else raised(InterruptedError()))
        train(settings, [source], epochs, ANEW, CPU)


def raised(error):
    raise error


def test_what_an_unfinished_run_takes_over(photographs, monkeypatch, capsys):
    """What was said on the command line: the number of epochs and the learning rate. Nothing else may change."""
    unfinished(photographs, monkeypatch)
    faster = replace(RRDB, learning_rate=1e-3)
    path = train(faster, [photographs], 9, GO_ON, CPU)
    assert load_checkpoint(path)["training"]["settings"]["learning_rate"] == RRDB.learning_rate  # it was not said
    assert len(load_checkpoint(path)["history"]) == 2
    unfinished(photographs, monkeypatch)
    path = train(faster, [photographs], 3, GO_ON, CPU, given=("epochs", "learning_rate"))
    assert len(load_checkpoint(path)["history"]) == 3
    assert load_checkpoint(path)["training"]["settings"]["learning_rate"] == 1e-3
    assert "learning rate 0.0005 → 0.001" in capsys.readouterr().err
    unfinished(photographs, monkeypatch, epochs=3)
    path = train(RRDB, [photographs], 1, GO_ON, CPU, given=("epochs",))  # it has had that already
    assert len(load_checkpoint(path)["history"]) == 1


def test_saving_between_epochs_loses_no_more_than_a_step(photographs, monkeypatch):
    whole = load_checkpoint(train(RRDB, [photographs], 2, ANEW, CPU))
    cut = Data.cut
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Data, "cut", lambda self, step: cut(self, step) if step < 5 else raised(InterruptedError()))
        train(RRDB, [photographs], 2, ANEW, CPU, upkeep=Upkeep(0))
    found, checkpoint = checkpoints.find_latest(checkpoints.MODELS, model="rrdb")
    assert checkpoint["training"]["step"] == 5
    resumed = load_checkpoint(train(RRDB, [photographs], 2, GO_ON, CPU))
    assert same_weights(whole, resumed) and found.with_suffix(".history.csv").read_text().count("\n") == 3


def test_the_pixel_loss_falls_when_one_batch_is_learnt():
    stage, (low, high) = PixelStage(RRDB, fresh_weights(RRDB), CPU), make_batch(4)
    losses = [stage.update(low, high, 2e-3, step)["loss"] for step in range(30)]
    assert losses[-1] < 0.8 * losses[0]


class OwnNetwork(torch.nn.Module):
    """What somebody may bring who works on luma: nothing but what Network and RestoringNetwork ask for."""

    luma, scale, radius, margin, tile, fold = True, 1, 1, 1, 64, 1

    def __init__(self):
        super().__init__()
        self.shape = {}
        self.filter = torch.nn.Conv2d(1, 1, 3)

    def forward_valid(self, luma):
        return self.filter(luma)

    def forward(self, luma):
        return self.filter(F.pad(luma, (1, 1, 1, 1), mode="replicate"))


def test_a_network_of_ones_own_on_luma_learns_as_srcnn_does(photographs, monkeypatch):
    monkeypatch.setitem(layouts.CLASSES, "own", OwnNetwork)
    monkeypatch.setitem(SHAPES, "own", lambda _: {})
    settings = replace(TINY, model="own", shape={}, muon=True)
    low, high = read([photographs], settings).cut(0)
    assert low.shape == high.shape == (4, 3, 20, 20)  # enlarged for it
    weights = OwnNetwork().state_dict()
    restored = F.conv2d(rgb_to_luma(low / 255), weights["filter.weight"], weights["filter.bias"])
    expected = F.mse_loss(restored, rgb_to_luma(high / 255)[..., 1:-1, 1:-1])
    assert PixelStage(settings, weights, CPU).update(low, high, 0.1, 0)["loss"] == pytest.approx(expected.item())
    path = train(settings, [photographs], 1, GO_ON, CPU)
    assert load_checkpoint(path)["model"] == "own" and path.with_suffix(".before_after.png").exists()


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_the_average_follows_the_weights_and_forgets_its_start(decay):
    settings = replace(RRDB, ema=decay)
    stage, (low, high) = PixelStage(settings, fresh_weights(RRDB), CPU), make_batch(4)
    expected = None
    for step in range(6):
        stage.update(low, high, 1e-3, step)
        now = stage.network.conv_last.weight.detach().clone()
        share = min(decay, (1 + step) / (10 + step))  # of the past
        expected = now if expected is None else share * expected + (1 - share) * now
    torch.testing.assert_close(stage.ema.module.conv_last.weight, expected)


def make_stage(settings=ADVERSARIAL):
    layers = settings.adversarial.layers
    vgg = load_vgg19("random", layers)
    return AdversarialStage(settings, fresh_weights(settings), CPU, PerceptualLoss(vgg, layers))


def test_each_half_leaves_the_others_gradient_alone():
    stage, (low, high) = make_stage(), make_batch(4)
    low, high = low / 255, high / 255
    restored, _ = stage.generator_backward(low, high, 1.0)
    assert all(parameter.grad is None for parameter in stage.discriminator.parameters())
    assert all(parameter.grad is not None for parameter in stage.network.parameters())
    before = [parameter.grad.clone() for parameter in stage.network.parameters()]
    stage.discriminator_backward(restored.detach(), high, 1.0)
    assert all(parameter.grad is not None for parameter in stage.discriminator.parameters())
    after = [parameter.grad for parameter in stage.network.parameters()]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
    assert all(parameter.grad is None for parameter in stage.perceptual.parameters())


def test_the_parts_add_up_and_the_margin_is_told():
    weighted = replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, consistency_weight=3.0))
    figures = make_stage(weighted).update(*make_batch(4), 1e-4, 0)
    expected = 1e-2 * figures["pixel"] + figures["perceptual"] + 5e-3 * figures["adversarial"]
    expected += 3 * figures["consistency"]
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)
    assert figures["margin"] == pytest.approx(
        figures["discriminator_real"] - figures["discriminator_restored"], abs=1e-6
    )


@pytest.mark.parametrize(("tint", "consistency"), [(0.0, 0.0), (0.02, 0.02)])
def test_consistency_minds_what_shrinking_leaves_and_nothing_else(tint, consistency):
    stage, (low, high) = make_stage(), make_batch(4)
    checks = 0.1 * (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))  # even squares of 4×4 average to 0
    stage.generator = lambda low: (from_bytes(high) + checks + tint).requires_grad_()
    figures = stage.update(low, high, 1e-4, 0)
    assert figures["consistency"] == pytest.approx(consistency, abs=1e-6)
    assert figures["pixel"] == pytest.approx(0.1, abs=1e-6)


def test_how_often_and_from_when_each_half_learns():
    settings = replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, discriminator_every=2, head_start=3))
    stage, (low, high) = make_stage(settings), make_batch(4)

    def weights():
        return stage.network.conv_last.weight.detach().clone(), stage.discriminator.linear2.weight.detach().clone()

    moved = []
    for step in range(6):
        before = weights()
        stage.update(low, high, 1e-3, step)
        moved.append(tuple(not torch.equal(one, two) for one, two in zip(before, weights(), strict=True)))
    assert moved == [(False, True), (False, False), (False, True), (True, False), (True, True), (True, False)]


@pytest.mark.parametrize(("waits", "moves"), [(0.0, True), (0.1, True), (10.0, False)])
def test_a_discriminator_that_is_ahead_waits(waits, moves):
    stage = make_stage(replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, discriminator_waits=waits)))
    before = stage.discriminator.linear2.weight.detach().clone()
    figures = stage.update(*make_batch(4), 1e-3, 0)
    assert 0.1 < figures["discriminator_loss"] < 10 and figures["skipped"] == 0
    assert torch.equal(before, stage.discriminator.linear2.weight) is not moves
    assert all(parameter.grad is None for parameter in stage.discriminator.parameters())


def test_esrgan_starts_from_the_latest_rrdb(photographs, place, capsys):
    with pytest.raises(UsageError, match="train -m rrdb"):
        train(ADVERSARIAL, [photographs], 1, GO_ON, CPU)
    first = train(RRDB, [photographs], 1, GO_ON, CPU)
    path = train(replace(ADVERSARIAL, learning_rate=1e-30), [photographs], 1, GO_ON, CPU)
    told = capsys.readouterr().err
    assert f"starting from {first}" in told and "RANDOM WEIGHTS" in told
    checkpoint = load_checkpoint(path)
    assert checkpoint["training"]["settings"]["adversarial"]["perceptual"] == "random"
    assert path.name.startswith("esrgan_x4.")
    low = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(load_network(checkpoint)(low), load_network(load_checkpoint(first))(low))
    other = {**SMALL, "growth": 6}
    with pytest.raises(UsageError, match="growth"):
        train(replace(ADVERSARIAL, shape=other), [photographs], 1, Start(True, first), CPU)
    noise = load_checkpoint(train(replace(ADVERSARIAL, shape=other), [photographs], 1, ANEW, CPU))
    assert len(noise["history"]) == 1 and noise["history"][0]["held_out_perceptual"] > 0


def test_the_papers_settings():
    first, second = preset("rrdb", 4, paper=True), preset("esrgan", 4, paper=True)
    assert first.shape == second.shape == esrgan.RRDBNet(4, 64, 32, 23).shape
    assert (
        preset("rrdb", 4).shape == esrgan.RRDBNet().shape
        and preset("srvgg", 2).shape == esrgan.SRVGGNetCompact(2).shape
    )
    assert (first.batch, first.patch * 4, first.learning_rate, first.beta2) == (16, 128, 2e-4, 0.999)
    weights = second.adversarial
    assert (weights.pixel_weight, weights.perceptual_weight, weights.adversarial_weight) == (1e-2, 1, 5e-3)
    assert weights.consistency_weight == 0
    real = preset("esrgan", 4, True, "real").adversarial
    assert (real.pixel_weight, real.perceptual_weight, real.adversarial_weight) == (1, 1, 0.1)
    assert real.consistency_weight == 0 and real.layers == REAL_ESRGAN_LAYERS and real.discriminator == "unet"
    assert weights.layers == {"conv5_4": 1.0} and (weights.features, weights.normalisation) == (64, "batch")


def test_what_is_sharpened():
    """The second stage's target on degraded pictures; the first stage's only where everything is as published."""
    for model, paper, expected in [("rrdb", False, False), ("rrdb", True, True), ("esrgan", False, True)]:
        settings = preset(model, 4, paper, "real")
        assert settings.sharpen is expected and not preset(model, 4, paper).sharpen
    high = make_batch(1, 32)[1] / 255
    assert updates.sharp_target(high, RRDB) is high
    sharpened = updates.sharp_target(high, replace(RRDB, sharpen=True))
    torch.testing.assert_close(sharpened, distortions.usm_sharpen(high))


@pytest.mark.parametrize("paper", [False, True])
def test_who_learns_at_several_sizes_and_by_steps(paper):
    for degradation in ("bicubic", "photo", "real"):
        assert preset("rrdb", 4, paper, degradation).multiscale is (degradation != "bicubic")
        assert preset("rrdb", 4, paper, degradation).gradient_weight == 0
    for settings in (preset("srvgg", 4), preset("srvgg", 4, degradation="photo")):
        assert (settings.pixel_loss, settings.gradient_weight) == ("l2", 4)
    assert preset("esrgan", 4, generator="srvgg").pixel_loss == "auto"  # its second stage is as RRDB's


def test_a_run_that_began_before_there_was_a_choice_of_sharpening_goes_on(photographs, monkeypatch):
    unfinished(photographs, monkeypatch)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    del checkpoint["training"]["settings"]["sharpen"]
    save_checkpoint(checkpoint, path)
    assert train(RRDB, [photographs], 1, GO_ON, CPU) == path


def test_a_run_that_began_with_another_usual_loss_and_without_smaller_copies_keeps_to_that(photographs, monkeypatch):
    monkeypatch.setattr("engine.sources.MIN_SHRUNK_SIDE", 32)
    unfinished(photographs, monkeypatch)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    del checkpoint["training"]["settings"]["multiscale"]
    save_checkpoint(checkpoint, path)
    now = replace(RRDB, multiscale=True, pixel_loss="l2", gradient_weight=4.0)
    for given in ("multiscale",), ("pixel_loss",), ("gradient_weight",):
        with pytest.raises(UsageError, match=f"{given[0]} .* → "):
            train(now, [photographs], 2, GO_ON, CPU, given=given)
    assert train(now, [photographs], 2, GO_ON, CPU) == path
    kept = load_checkpoint(path)["training"]["settings"]
    assert (kept["multiscale"], kept["pixel_loss"], kept["gradient_weight"]) == (False, "auto", 0.0)


def test_a_second_stage_that_began_without_the_spectrum_keeps_to_that(photographs, monkeypatch):
    unfinished(photographs, monkeypatch, settings=ADVERSARIAL)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    del checkpoint["training"]["settings"]["adversarial"]["spectrum_weight"]
    save_checkpoint(checkpoint, path)
    now = replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, spectrum_weight=0.5))
    name = "adversarial.spectrum_weight"
    with pytest.raises(UsageError, match=f"{name} .* → "):
        train(now, [photographs], 2, GO_ON, CPU, given=(name,))
    assert train(now, [photographs], 2, GO_ON, CPU) == path
    assert load_checkpoint(path)["training"]["settings"]["adversarial"]["spectrum_weight"] == 0


@pytest.mark.parametrize("muon", [True, False])
def test_a_finished_run_goes_on_by_the_other_optimizer(photographs, muon):
    train(replace(RRDB, muon=muon), [photographs], 1, ANEW, CPU)
    after = load_checkpoint(train(replace(RRDB, muon=not muon), [photographs], 1, GO_ON, CPU))
    assert len(after["history"]) == 2
    kept = after["training"]["parts"]["optimizer"]["state"].values()
    assert any("average" in state for state in kept) is not muon
    assert all(state.keys() in ({"step", "average"}, {"step", "exp_avg", "exp_avg_sq"}) for state in kept)


@pytest.mark.parametrize(("weight", "best"), [(0.0, 123.0), (1.0, -math.inf)])
def test_what_was_best_stays_so_while_it_is_measured_alike(photographs, weight, best, capsys):
    path = train(ADVERSARIAL, [photographs], 1, ANEW, CPU)
    checkpoint = load_checkpoint(path)
    checkpoint["training"]["best"] = 123.0
    del checkpoint["training"]["settings"]["adversarial"]["consistency_weight"]  # it began before there was this weight
    settings = replace(ADVERSARIAL, adversarial=replace(ADVERSARIAL.adversarial, consistency_weight=weight))
    state = resume.RunState.from_dict(checkpoint["training"])
    resume.continue_run(checkpoint, state, path, settings, training.Data([photographs], settings))
    assert state.best == best
    told = "other than before: adversarial.consistency_weight 0.0 → 1.0" in capsys.readouterr().err
    assert told == bool(weight)


@pytest.mark.parametrize(("change", "kept"), [
    ({"photo": replace(PHOTO, quality=(10, 20))}, False), ({"photo": replace(PHOTO, clean=0.9)}, False),
    ({"seed": 5}, False), ({"sharpen": True}, False), ({"multiscale": True}, False),
    ({"pixel_loss": "l2"}, True), ({"ema": 0.5}, True),
])  # fmt: skip
def test_what_was_best_on_other_low_pictures_gives_way(large_photographs, change, kept):
    """On harder ones nothing would ever beat it, and the new file would have the old weights."""
    begun = replace(RRDB, degradation="photo")
    path = train(begun, [large_photographs], 1, Start(weights=UNTRAINED), CPU)
    checkpoint = load_checkpoint(path)
    state = resume.RunState.from_dict(checkpoint["training"])
    state.best = 123.0
    settings = replace(begun, **change)
    resume.continue_run(checkpoint, state, path, settings, training.Data([large_photographs], settings))
    assert (state.best == 123) == kept


@pytest.mark.parametrize("unfinished_too", [False, True])
def test_no_run_goes_on_as_another_kind(photographs, monkeypatch, unfinished_too):
    if unfinished_too:
        unfinished(photographs, monkeypatch)
        path = checkpoints.find_latest(checkpoints.MODELS)[0]
    else:
        path = train(RRDB, [photographs], 1, ANEW, CPU)
    shape = {**RRDB.shape, "features": 12}
    for name, other in (("degradation", "photo"), ("shape", shape)):
        with pytest.raises(UsageError, match=rf"{path.name}.*{name} ") as caught:
            train(replace(RRDB, **{name: other}), [photographs], 1, Start(run=path), CPU)
        assert unfinished_too or f"--from {path} starts a new one" in str(caught.value)


@pytest.mark.parametrize("named", [False, True])
def test_a_stopped_run_says_what_resumes_it(photographs, monkeypatch, capsys, named):
    """Without the file that --from named the same command might train something else."""
    start = Start(weights=train(RRDB, [photographs], 1, ANEW, CPU)) if named else ANEW
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(training, "stop_when_asked", lambda: nullcontext([2]))
        train(RRDB, [photographs], 1, start, CPU)
    told = capsys.readouterr().err
    assert ("the same command" in told) is not named and "--resume models/" in told
    train(RRDB, [photographs], 1, GO_ON, CPU)
    assert "after 0.3 epochs" in capsys.readouterr().err


def test_a_file_of_vgg_may_lie_elsewhere(photographs):
    here, there, other = (
        {"model": "esrgan", "adversarial": {"perceptual": name}} for name in ("a/v.pth", "v.pth", "w")
    )
    assert resume.changes(here, there) == [] and resume.changes(here, other) == ["adversarial.perceptual v.pth → w"]


def test_an_unfinished_run_refuses_other_samples_from_the_same_photographs(samples, monkeypatch):
    unfinished(samples[0], monkeypatch, settings=TINY)
    for path in samples[0].glob("*.png"):
        write_picture(path, read_picture(path).flip(-1))  # as many of them, and of the same photographs
    with pytest.raises(UsageError, match="other pictures"):
        train(TINY, samples, 2, GO_ON, CPU)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    del checkpoint["training"]["data"]["samples"]  # it began before they were told apart
    save_checkpoint(checkpoint, path)
    assert train(TINY, samples, 2, GO_ON, CPU) == path


def test_a_run_whose_end_is_no_end_of_an_epoch_is_finished(photographs, monkeypatch):
    """More processes may make fewer updates of an epoch of ready-cut samples."""
    unfinished(photographs, monkeypatch)
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 4)
    path = train(RRDB, [photographs], 2, GO_ON, CPU)
    checkpoint = load_checkpoint(path)
    assert checkpoint["training"]["step"] == checkpoint["training"]["last_step"] == 6
    assert [entry["step"] for entry in checkpoint["history"]] == [3, 4, 6]


def test_two_trainings_do_not_write_the_same_file(place):
    path = place / "models" / "x.pt"
    match = "another run is at it"
    with locked(path), pytest.raises(UsageError, match=match), locked(path):
        raise AssertionError("it was given twice")
    with locked(path):
        pass
    assert not list(path.parent.iterdir())


def test_an_interrupted_epoch_took_the_time_of_both_parts(photographs, monkeypatch):
    unfinished(photographs, monkeypatch)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    checkpoint["training"]["seconds"] = 1000.0
    save_checkpoint(checkpoint, path)
    first, second = load_checkpoint(train(RRDB, [photographs], 2, GO_ON, CPU))["history"]
    assert first["seconds"] < 100 and 1000 < second["seconds"] < 1100


@pytest.mark.slow
def test_a_run_that_an_older_version_began_goes_on_to_the_same_weights(photographs, monkeypatch):
    """Its settings, parts and figures have the names of then."""
    whole = load_checkpoint(train(ADVERSARIAL, [photographs], 2, ANEW, CPU))
    unfinished(photographs, monkeypatch, settings=ADVERSARIAL)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS, model="esrgan")
    old = {new: old for old, new in NEW_NAMES.items()}

    def renamed(entries):
        return {old.get(name, name): value for name, value in entries.items()}

    state = checkpoint["training"]
    for name in ("settings", "parts", "sums"):
        state[name] = renamed(state[name])
    state["settings"]["adversarial"] = renamed(state["settings"]["adversarial"])
    del state["seconds"]  # there was no such entry before the first save of a run
    save_checkpoint({**checkpoint, "history": [renamed(entry) for entry in checkpoint["history"]]}, path)
    assert "judge_optimizer" in torch.load(path, weights_only=True)["training"]["parts"]
    assert train(ADVERSARIAL, [photographs], 2, GO_ON, CPU) == path
    resumed = load_checkpoint(path)
    assert same_weights(whole, resumed)
    assert resumed["history"][0].keys() == whole["history"][0].keys()
    assert "discriminator_loss" in resumed["history"][0]


def test_esrgan_of_srvgg_starts_from_the_latest_srvgg(photographs, place, capsys):
    shape = {"scale": 4, "features": 8, "convolutions": 1}
    second = replace(ADVERSARIAL, shape=shape)
    with pytest.raises(UsageError, match="train -m srvgg"):
        train(second, [photographs], 1, GO_ON, CPU)
    train(RRDB, [photographs], 1, GO_ON, CPU)
    first = train(replace(RRDB, model="srvgg", shape=shape), [photographs], 1, GO_ON, CPU)
    path = train(replace(second, learning_rate=1e-30), [photographs], 1, GO_ON, CPU)
    assert f"starting from {first}" in capsys.readouterr().err and path.name.startswith("esrgan-srvgg_x4.")
    low = torch.rand(1, 3, 9, 7)
    torch.testing.assert_close(load_network(load_checkpoint(path))(low), load_network(load_checkpoint(first))(low))


def test_an_unfinished_run_keeps_its_share_of_mild_degradation(large_photographs, monkeypatch):
    real = replace(RRDB, degradation="real", mild=0.0)
    unfinished(large_photographs, monkeypatch, settings=real)
    path, checkpoint = checkpoints.find_latest(checkpoints.MODELS)
    del checkpoint["training"]["settings"]["mild"]  # as runs were before there was such a share
    save_checkpoint(checkpoint, path)
    shares = []
    monkeypatch.setattr("degrade.real_or_mild", lambda *_, mild: shares.append(mild))
    assert train(replace(real, mild=0.5), [large_photographs], 1, GO_ON, CPU) == path
    assert load_checkpoint(path)["training"]["settings"]["mild"] == 0 and not shares


def test_an_unfinished_run_keeps_how_it_degrades_as_photo_does(large_photographs, monkeypatch):
    """The preset of `real` was PHOTO once."""
    real = replace(RRDB, degradation="real", mild=0.5, photo=degrade.PHOTO)
    unfinished(large_photographs, monkeypatch, settings=real)
    today = replace(real, photo=preset("rrdb", 4, degradation="real").photo)
    assert today.photo != degrade.PHOTO
    with pytest.raises(UsageError, match=r"photo.clean 0.3 → 0.25"):
        train(today, [large_photographs], 1, GO_ON, CPU, given={"photo.clean"})
    path = train(today, [large_photographs], 1, GO_ON, CPU)
    assert load_checkpoint(path)["training"]["settings"]["photo"]["quality"] == degrade.PHOTO.quality


@pytest.mark.parametrize("save_every", [0.0, 5.0])
def test_weights_gone_bad_are_not_saved_and_the_advice_works(photographs, save_every):
    """At this rate the first step makes weights of which the next finds no numbers, however finite they are."""
    wild = replace(RRDB, learning_rate=1e30, warm_up=0, muon=False)
    with pytest.raises(UserError, match=r"10 updates in a row .* --resume models/rrdb_x4") as caught:
        train(wild, [photographs], 5, ANEW, CPU, upkeep=Upkeep(save_every))
    path = checkpoints.find_latest(checkpoints.MODELS)[0]
    assert load_checkpoint(path)["training"]["step"] == 0 and "\n" not in str(caught.value)
    mild = replace(wild, learning_rate=1e-4)
    assert train(mild, [photographs], 1, Start(run=path), CPU, given={"learning_rate", "epochs"}) == path
    finished = load_checkpoint(path)
    assert [entry["step"] for entry in finished["history"]] == [3] and math.isfinite(finished["history"][0]["psnr"])


def test_a_last_step_that_spoils_the_weights_is_told(photographs):
    with pytest.raises(UserError, match="the weights have gone bad"):
        train(replace(RRDB, learning_rate=1e30, warm_up=0, milestones=[10**9]), [photographs], 1, ANEW, CPU)
    assert load_checkpoint(checkpoints.find_latest(checkpoints.MODELS)[0])["training"]["step"] == 0
