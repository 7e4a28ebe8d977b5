"""Diagrams say what the modules are, and no label is cut off."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lessons"))

import diagrams
import play

import matplotlib.pyplot as plt

from engine.settings import Adversarial
from esrgan import RRDB, DenseBlock, RRDBNet, UNetDiscriminator, VGGDiscriminator
from srcnn import SRCNN


def stage(loss_is_relativistic=True):
    """What is read of an AdversarialStage."""
    return SimpleNamespace(
        weights=Adversarial(), network=RRDBNet(4, 4, 2, 1), discriminator=VGGDiscriminator(32, 2),
        adversarial_loss=SimpleNamespace(relativistic=loss_is_relativistic),
    )  # fmt: skip


DRAWN = {
    "SRCNN": lambda: diagrams.draw_chain(SRCNN((9, 1, 5))),
    "dense block": lambda: diagrams.draw_dense_block(DenseBlock(64, 32)),
    "RRDB": lambda: diagrams.draw_rrdb(RRDB(8, 4)),
    "RRDBNet": lambda: diagrams.draw_rrdbnet(RRDBNet(scale=8, features=64, growth=32, blocks=2)),
    "U-Net": lambda: diagrams.draw_unet(UNetDiscriminator(64)),
    "step": lambda: diagrams.draw_adversarial_step(stage()),
}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def labels() -> list[str]:
    return [text.get_text() for text in plt.gca().texts if text.get_text()]


@pytest.mark.parametrize("name", DRAWN)
def test_no_label_is_cut_off_or_lies_on_another(name):
    DRAWN[name]()
    figure = plt.gcf()
    figure.canvas.draw()
    texts = [text for text in plt.gca().texts if text.get_text()]
    places = [text.get_window_extent() for text in texts]
    boxes = [patch.get_window_extent() for patch in plt.gca().patches if isinstance(patch, plt.Rectangle)]
    for text, place in zip(texts, places, strict=True):
        assert figure.bbox.x0 <= place.x0 and place.x1 <= figure.bbox.x1, text.get_text()
        assert figure.bbox.y0 <= place.y0 and place.y1 <= figure.bbox.y1, text.get_text()
        assert sum(place is not other and place.overlaps(other) for other in places) == 0, text.get_text()
        around = [box for box in boxes if box.overlaps(place)]
        assert len(around) <= 1, text.get_text()
        assert all(box.x0 <= place.x0 and place.x1 <= box.x1 for box in around), text.get_text()
    assert sum(one.overlaps(other) for one in boxes for other in boxes) == len(boxes)


@pytest.mark.parametrize(
    ("name", "module"),
    [("SRCNN", SRCNN((9, 1, 5))), ("dense block", DenseBlock(64, 32)), ("U-Net", UNetDiscriminator(64))],
)
def test_every_convolution_is_there_with_its_channels(name, module):
    DRAWN[name]()
    for inner, conv in module.named_modules():
        if isinstance(conv, nn.Conv2d):
            told = next(label for label in labels() if label.startswith(f"{inner}\n"))
            assert f"{conv.in_channels} → {conv.out_channels}" in told
            assert f"{conv.kernel_size[0]}×{conv.kernel_size[0]}" in told
            assert ("stride 2" in told) == (conv.stride == (2, 2))


def test_rrdbnet_has_its_blocks_and_sizes():
    DRAWN["RRDBNet"]()
    text = "\n".join(labels())
    assert "2 × RRDB" in text and "64 → 3" in text
    assert text.count("nearest ×2") == 3 and "8H" in text


def test_the_u_net_adds_what_it_has_seen_as_often_as_the_module_does():
    DRAWN["U-Net"]()
    assert labels().count("+") == 3 and labels().count("what was seen at this size") == 3


def test_the_real_pictures_reach_the_generators_loss_only_if_it_is_relativistic():
    lines = []
    for relativistic in (True, False):
        diagrams.draw_adversarial_step(stage(relativistic))
        lines.append(len([one for one in plt.gca().texts if getattr(one, "arrow_patch", None) is not None]))
    assert lines[0] == lines[1] + 1


def test_the_step_says_the_weights_of_the_settings():
    DRAWN["step"]()
    numbers = {float(number) for number in re.findall(r"× ([\d.e-]+)", "\n".join(labels()))}
    assert numbers == {0.01, 1, 0.005}


def test_a_series_varies_one_choice_at_a_time():
    def draw(**chosen):
        return repr(chosen), torch.zeros(1)

    rows = play.series(draw, {"a": (1, 2, 3), "b": (7, 8)})
    captions = [[caption for caption, _ in row] for row in rows]
    assert captions[0] == ["{'a': 1, 'b': 7}", "{'a': 2, 'b': 7}", "{'a': 3, 'b': 7}"]
    assert captions[1] == ["{'a': 1, 'b': 7}", "{'a': 1, 'b': 8}"]
