"""The small features that ship know damages, and the tool that trains them does what it says."""

import hashlib
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

import train_features as tool

from engine.checkpoints import PRETRAINED
from engine.weights import SMALL_VGG19, load_vgg19, randomise
from esrgan import SMALL_WIDTHS, PerceptualLoss, VGG19Features
from imaging.console import UserError
from imaging.images import psnr, ssim
from imaging.saving import write_picture

LAYERS = ("conv3_4", "conv4_4", "conv5_4")
STRENGTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
BY_STRENGTH = [tool.blur, tool.shrink, tool.add_noise, tool.save_as_jpeg, tool.sharpen, tool.tint]


@pytest.fixture(scope="module")
def small():
    return load_vgg19("small", LAYERS)


@pytest.fixture(scope="module")
def held_out(photograph):
    """Of a photograph that no weights were trained on."""
    return photograph[..., 10:106, 20:116]


def damaged(picture, damage, strength):
    return damage(picture, torch.tensor([strength]), torch.Generator().manual_seed(0)).clamp(0, 1)


def distance(features, one, other, layer):
    return (features(one)[layer] - features(other)[layer]).abs().mean().item()


def test_the_file_is_as_its_card_says():
    card = (PRETRAINED / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"## {re.escape(SMALL_VGG19.name)}\n(.*?)(\n## |\Z)", card, re.DOTALL).group(1)
    assert hashlib.sha256(SMALL_VGG19.read_bytes()).hexdigest() in section
    state = torch.load(SMALL_VGG19, weights_only=True)
    assert all(value.dtype == torch.float16 and value.isfinite().all() for value in state.values())
    assert f"{sum(value.numel() for value in state.values()):,} weights" in section
    assert SMALL_VGG19.stat().st_size < 500_000


@pytest.mark.parametrize("damage", BY_STRENGTH, ids=lambda one: one.__name__)
def test_the_distance_grows_with_the_damage(small, held_out, damage):
    pictures = [damaged(held_out, damage, strength) for strength in STRENGTHS]
    for layer in LAYERS:
        distances = [0.0, *(distance(small, picture, held_out, layer) for picture in pictures)]
        assert distances == sorted(distances), layer


def test_a_shift_that_no_eye_sees_is_nearer_than_a_blur_that_pixels_prefer(small, held_out):
    moved, blurred = held_out.roll(-1, dims=-1), damaged(held_out, tool.blur, 0.75)
    assert psnr(blurred, held_out) > psnr(moved, held_out)
    ratios = [distance(small, blurred, held_out, layer) / distance(small, moved, held_out, layer) for layer in LAYERS]
    assert min(ratios) > 1.5 and ratios[-1] > 4  # 2.5 with random weights


def test_it_ranks_damages_more_as_ssim_does_than_by_chance(small, held_out):
    kinds = [(damage, strength) for damage in BY_STRENGTH[:4] for strength in STRENGTHS]
    pictures = [damaged(held_out, *kind) for kind in kinds]
    by_ssim = torch.tensor([-ssim(picture, held_out).item() for picture in pictures]).argsort().argsort().float()
    for layer in LAYERS:
        distances = torch.tensor([distance(small, picture, held_out, layer) for picture in pictures])
        assert torch.corrcoef(torch.stack((by_ssim, distances.argsort().argsort().float())))[0, 1] > 0.5, layer


def test_features_of_photographs_have_about_the_deviation_one(small, held_out):
    assert all(0.4 < features.std() < 2.5 for features in small(held_out).values())


def test_a_picture_is_drawn_towards_the_sharp_one_by_its_gradient(small, held_out):
    blurred = damaged(held_out, tool.blur, 0.6).requires_grad_()
    loss = PerceptualLoss(small, {"conv3_4": 1.0})
    (gradient,) = torch.autograd.grad(loss(blurred, held_out), blurred)
    step = 1e-3 * gradient / gradient.abs().max()
    assert loss(blurred - step, held_out) < loss(blurred, held_out)


# ---------------------------------------------------------------------------------------------
# The tool
# ---------------------------------------------------------------------------------------------


def patches(count=4):
    return torch.rand(count, 3, tool.PATCH, tool.PATCH, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("damage", BY_STRENGTH, ids=lambda one: one.__name__)
def test_a_stronger_damage_is_farther_away(held_out, damage):
    errors = [(damaged(held_out, damage, strength) - held_out).square().mean() for strength in STRENGTHS]
    assert errors == sorted(errors) and errors[0] > 0


def test_folding_changes_no_feature():
    features = VGG19Features([tool.DEEPEST], SMALL_WIDTHS)
    randomise(features)
    network = tool.Answers(features, 3)
    network(patches(8))  # batch norm sees something
    for layer in network.body:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.2)
            nn.init.normal_(layer.bias, 0, 0.2)
    network.eval()
    x = (patches() - features.mean) / features.deviation
    with torch.no_grad():
        expected = network.body[:-2](x)  # without the last ReLU and pooling
        torch.testing.assert_close(network.fold()(patches())[tool.DEEPEST], expected, rtol=1e-3, atol=1e-4)


def test_scaling_gives_every_layer_the_deviation_one():
    names = [f"conv{block}_{len(widths)}" for block, widths in enumerate(SMALL_WIDTHS, start=1)]
    features = VGG19Features(names, SMALL_WIDTHS)
    randomise(features)
    before = features(patches())
    tool.scale_to_one(features, patches())
    for name, after in features(patches()).items():
        assert after.std().item() == pytest.approx(1, abs=1e-3)
        torch.testing.assert_close(after * before[name].std(), before[name], rtol=1e-3, atol=1e-3)  # and nothing else


def test_a_batch_has_every_kind_and_the_held_out_part_is_never_taught():
    edge = torch.zeros(3, 200, 300, dtype=torch.uint8)
    edge[..., 240:] = 255  # the rightmost fifth
    generator = torch.Generator().manual_seed(0)
    assert all(tool.cut([edge], False, generator).max() == 0 for _ in range(20))
    assert all(tool.cut([edge], True, generator).min() == 1 for _ in range(20))
    batch, numbers, kinds, strengths = tool.sample([[edge], [edge]], False, generator)
    assert batch.shape == (8 * tool.EACH, 3, tool.PATCH, tool.PATCH) and batch.min() >= 0 and batch.max() <= 1
    assert kinds.bincount().tolist() == 8 * [tool.EACH] and set(numbers.tolist()) == {0, 1}
    assert ((strengths >= 0) & (strengths <= 1)).all()


def test_pictures_without_room_for_patches_are_left_out_by_name(place, photograph, capsys):
    write_picture(place / "small" / "flat.png", photograph[..., :95, :])
    with pytest.raises(UserError, match=r"small.*: no picture to learn from"):
        tool.read_all([place / "small"])
    assert "left out: small/flat.png: only 150×95 pixels" in capsys.readouterr().err.replace(f"{place}/", "")
    write_picture(place / "large" / "good.png", photograph[..., :96, :])
    (place / "large" / "broken.png").write_bytes(b"no picture")
    pictures = tool.read_all([place / "small", place / "large"])
    assert [[size.shape for size in sizes] for sizes in pictures] == [[(3, 96, 150)]]
    assert "flat.png" in (told := capsys.readouterr().err) and "broken.png" in told
    tool.sample(pictures, False, torch.Generator().manual_seed(0))
