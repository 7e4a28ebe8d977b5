"""What training draws from: nothing crosses from training to validation, and every step's batch is its own."""

from dataclasses import replace

import pytest
import torch

import degrade
from engine.data import (
    HELD_OUT_SIDE,
    Data,
    Pair,
    PairPool,
    choose_held_out,
    make_pair,
    read_pairs,
    sample_batch,
    seeded,
    split_by_photograph,
)
from engine.settings import Settings, preset
from gen_samples import cut_samples
from imaging import distortions
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import crop_to_multiple, psnr, resize, to_bytes
from imaging.saving import write_picture


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


def test_large_photographs_are_learnt_from_at_smaller_sizes_too(place, monkeypatch, capsys):
    torch.manual_seed(0)
    for name, side in ("a", 100), ("b", 130), ("c", 199):
        write_picture(place / "photographs" / f"{name}.png", torch.rand(1, 3, side, side + 41))
    monkeypatch.setattr("engine.sources.MIN_SHRUNK_SIDE", 60)
    settings = replace(preset("rrdb", 2), patch=16, multiscale=True)
    pairs, _ = read_pairs([place / "photographs"], 2, False, min_side=32, multiscale=True)
    assert [(pair.photograph[-5], pair.shrunk) for pair in pairs] == [
        ("a", 1), ("b", 1), ("b", 2), ("c", 1), ("c", 2), ("c", 3),
    ]  # fmt: skip
    whole, half = crop_to_multiple(read_picture(place / "photographs" / "c.png"), 2), pairs[4]
    expected = crop_to_multiple(degrade.bicubic(whole, 2).clamp(0, 1), 2)
    assert torch.equal(half.large, to_bytes(expected)[0])
    assert torch.equal(half.small, to_bytes(degrade.bicubic(half.pictures()[1], 2))[0])
    data = Data([place / "photographs"], settings)
    (held_out,) = data.held_out
    side = read_picture(place / held_out.photograph).shape[-2]
    assert held_out.large.shape[-2] == min(side - side % 2, HELD_OUT_SIDE)  # of the whole, not of a copy
    assert held_out.photograph not in {pair.photograph for pair in data.training}
    assert "smaller copies" in str(data)
    assert "left out" not in capsys.readouterr().err
    whole_file = (place / "photographs" / "c.png").read_bytes()
    (place / "photographs" / "d.png").write_bytes(whole_file[: len(whole_file) // 2])
    read_pairs([place / "photographs"], 2, False, min_side=32, multiscale=True)
    assert capsys.readouterr().err.count("left out") == 1  # for its smaller copies nothing more is said
    (place / "photographs" / "d.png").unlink()
    fewer, _ = read_pairs([place / "photographs"], 2, False, min_side=80, multiscale=True)  # none to be left out
    assert [pair.shrunk for pair in fewer] == [1, 1, 1, 2]
    assert all(pair.shrunk == 1 for pair in Data([place / "photographs"], replace(settings, multiscale=False)).pairs)


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


def test_too_small_pictures_are_named_and_left_out(photographs, place, capsys):
    pairs, _ = read_pairs([photographs], 2, enlarge=True, min_side=66)
    assert len(pairs) == 3  # of heights 60, 64, 68, 72 and 76
    assert "0.png: 70×60 is smaller than 66×66" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing to train on"):
        read_pairs([photographs], 2, enlarge=True, min_side=200)
    write_picture(place / "tiny" / "a.large.png", torch.rand(1, 3, 20, 40))
    write_picture(place / "tiny" / "a.small.png", torch.rand(1, 3, 20, 40))
    with pytest.raises(UserError, match="nothing to train on"):
        read_pairs([place / "tiny"], 2, enlarge=True)
    assert "a.large.png: 40×20 is smaller than 32×32" in capsys.readouterr().err


def test_pairs_with_the_small_one_at_low_resolution(photographs, place):
    for path in photographs.iterdir():
        small, large = make_pair(read_picture(path), 2, enlarge=False)
        write_picture(place / "pairs" / f"{path.stem}.small.png", small[None] / 255)
        write_picture(place / "pairs" / f"{path.stem}.large.png", large[None] / 255)
    write_picture(place / "pairs" / "0.small.png", torch.rand(1, 3, 30, 30))
    data = Data([place / "pairs"], replace(preset("rrdb", 2), batch=3, patch=24))
    assert len(data.training) + len(data.held_out) == 4  # one does not match and is left out
    assert not data.ready_cut and data.patch == 24  # of unlike sizes, so they are cut as photographs are
    small, large = data.cut(0)
    assert small.shape == (3, 3, 24, 24) and large.shape == (3, 3, 48, 48)


def test_the_split_is_by_photograph():
    blank = torch.zeros(3, 4, 4, dtype=torch.uint8)
    pairs = [Pair(blank, blank, f"{index % 25}.png") for index in range(200)]
    training, held_out = split_by_photograph(pairs, choose_held_out(pairs, seed=0))
    names = [{pair.photograph for pair in side} for side in (training, held_out)]
    assert len(names[1]) == 2 and not names[0] & names[1] and len(training) + len(held_out) == 200
    assert split_by_photograph(pairs[:1], choose_held_out(pairs[:1], seed=0)) == (pairs[:1], pairs[:1])
    assert len(choose_held_out(pairs[:2], seed=0)) == 1


def test_a_photograph_in_colour_is_held_out_before_grey_ones():
    grey = torch.zeros(3, 4, 4, dtype=torch.uint8)
    coloured = grey.clone()
    coloured[2] = 9
    for seed in range(5):
        pairs = [Pair(part, part, f"{index}.png") for index, part in enumerate([grey] * 7 + [coloured] * 2)]
        assert choose_held_out(pairs, seed) < {"7.png", "8.png"}
        assert len(choose_held_out(pairs[:7], seed)) == 1


def test_a_run_keeps_the_photographs_that_it_began_to_hold_out(large_photographs):
    data = Data([large_photographs], replace(preset("rrdb", 4), batch=2, patch=8))
    before = data.summary()["held_out"]
    other = sorted({pair.photograph for pair in data.training})[0]
    data.hold_out({other})
    assert data.summary()["held_out"] == [other] != before
    assert {pair.photograph for pair in data.held_out} == {other}
    assert other not in {pair.photograph for pair in data.training}
    data.hold_out({"somewhere else.png"})  # of other pictures: nothing to keep
    assert data.summary()["held_out"] == [other]


@pytest.mark.parametrize("scale", [1, 2])
def test_patches_of_a_pair_stay_together_and_turn_every_way(scale):
    # A picture whose value tells its place: nearest enlargement of small must always give large.
    small = torch.arange(10 * 12, dtype=torch.uint8).view(1, 10, 12).expand(3, -1, -1)
    large = small.repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    pair = Pair(small, large, "x")
    smalls, larges = sample_batch([pair] * 900, 4, seeded(3))
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


# ---------------------------------------------------------------------------------------------
# Degraded pictures, made while training
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [
    replace(preset("rrdb", 4), degradation="real", batch=2, patch=8),
    Settings("srcnn", 2, "real", batch=2, patch=20),
    Settings("srcnn", 5, "real", batch=2, patch=61),
])  # fmt: skip
def test_poor_pairs_show_the_same_place(large_photographs, settings, monkeypatch):
    """With a chain that only shrinks, low and high agree: nothing is shifted or mirrored."""
    monkeypatch.setitem(degrade.DEGRADATIONS, "real", lambda high, scale, _: degrade.bicubic(high, scale))
    data = Data([large_photographs], settings)
    low, high = data.finish(data.cut(3), 3)
    side = settings.patch * (1 if data.enlarge else settings.scale)
    assert low.dtype == high.dtype == torch.uint8
    assert high.shape == (2, 3, side, side) and low.shape == (2, 3, settings.patch, settings.patch)
    enlarged = resize(low / 255, size=high.shape[-2:])
    shifted = (high / 255).roll((3, 3), (-2, -1))
    for near, far in zip(psnr(enlarged, high / 255, 4), psnr(enlarged, shifted, 4), strict=True):
        assert near > far + 0.5


def test_only_where_the_target_is_sharpened_the_poor_picture_is_made_of_a_sharpened_one(large_photographs, monkeypatch):
    made_of = []
    monkeypatch.setattr(degrade, "second_order", lambda high, *_: made_of.append(high) or high[..., ::4, ::4])
    settings = replace(preset("rrdb", 4), degradation="real", batch=2, patch=8)
    for sharpen in (False, True):
        data = Data([large_photographs], replace(settings, sharpen=sharpen))
        made_of.clear()  # of what is measured on: never sharpened
        _, high = data.finish(data.cut(0), 0)
        margin = 4 * data.margin
        photograph = made_of[0][..., margin:-margin, margin:-margin]
        assert torch.equal(to_bytes(photograph), high) is not sharpen
    torch.testing.assert_close(made_of[0], distortions.usm_sharpen(data.cut(0)[1] / 255))


def test_degraded_pictures_are_the_same_for_the_same_step_and_seed(large_photographs):
    settings = replace(preset("rrdb", 4), degradation="real", batch=2, patch=8)

    def batch(settings, step):
        data = Data([large_photographs], settings)
        return data.finish(data.cut(step), step)

    first = batch(settings, 1)
    assert all(torch.equal(one, two) for one, two in zip(first, batch(settings, 1), strict=True))
    assert not torch.equal(first[0], batch(settings, 2)[0])
    assert not torch.equal(first[0], batch(replace(settings, seed=1), 1)[0])
    one, two = (Data([large_photographs], settings).held_out for _ in range(2))
    assert torch.equal(one[0].small, two[0].small)
    bicubic = Data([large_photographs], replace(settings, degradation="bicubic")).held_out[0]
    assert torch.equal(one[0].large, bicubic.large) and not torch.equal(one[0].small, bicubic.small)


@pytest.mark.parametrize("count, draws", [(1, 10), (3, 4), (10, 1), (12, 1)])
def test_few_held_out_pictures_are_degraded_several_times(large_photographs, count, draws):
    data = Data([large_photographs], replace(preset("rrdb", 4), degradation="real", batch=2, patch=8))
    pairs = [replace(data.pairs[0], photograph=f"{number}.png") for number in range(count)]
    degraded = data.degraded_pairs(pairs)
    assert [pair.photograph for pair in degraded] == [pair.photograph for pair in pairs] * draws
    assert len({pair.small.numpy().tobytes() for pair in degraded}) == len(degraded)


def test_degraded_pictures_are_not_made_of_ready_made_pairs(photographs, place):
    cut_samples(4, 32, 2, 0, photographs, place / "samples")
    with pytest.raises(UsageError, match="degrades pictures itself: give photographs"):
        Data([place / "samples"], Settings("srcnn", 2, "real"))


def number(value):
    """Pictures that tell where they come from."""
    return torch.full((1, 3, 2, 2), value, dtype=torch.uint8)


def test_the_pool_mixes_batches_and_loses_no_pair():
    pool, out = PairPool(size=6), []
    for step in range(10):
        low = torch.cat([number(4 * step + index) for index in range(4)])
        given, high = pool.exchange(low, low + 100, seeded(0, step))
        assert torch.equal(given + 100, high) and given.shape == low.shape
        out.append(given[:, 0, 0, 0].tolist())
        if step < 2:  # filling: what comes in goes out
            assert torch.equal(given, low)
    assert len(pool.low) == 6
    assert any(len({value // 4 for value in batch}) > 1 for batch in out[2:])  # from several steps
    # Each pair of the full pool goes out once, except those that it was filled with, which had been out before.
    later = [value for batch in out[2:] for value in batch]
    assert len(set(later)) == len(later)
    assert set(later) | set(pool.low[:, 0, 0, 0].tolist()) >= set(range(8, 40))


def test_a_batch_larger_than_the_pool_passes_through():
    pool = PairPool(size=2)
    low = torch.cat([number(index) for index in range(5)])
    for step in range(2):
        given, _ = pool.exchange(low, low, seeded(step))
        assert given.shape == low.shape


def test_a_pool_loaded_on_the_cpu_goes_on_elsewhere():
    pool = PairPool(size=3)
    pool.load_state_dict({"low": torch.cat([number(1)] * 3), "high": torch.cat([number(1)] * 3)})
    given, _ = pool.exchange(number(2).to("meta"), number(2).to("meta"), seeded(0))
    assert given.device.type == pool.low.device.type == "meta"


def test_the_pool_goes_on_where_it_was():
    pool, other = PairPool(size=3), PairPool(size=3)
    assert pool.state_dict() == {}
    for step in range(3):
        pool.exchange(number(step), number(step), seeded(step))
    other.load_state_dict({name: value.clone() for name, value in pool.state_dict().items()})
    for step in range(3, 9):
        pairs = [each.exchange(number(step), number(step), seeded(step))[0] for each in (pool, other)]
        assert torch.equal(*pairs)
