"""Block diagrams of the networks, drawn from the real modules: every number in them is read from a layer.

    import diagrams
    diagrams.draw_chain(SRCNN())
    diagrams.draw_dense_block(DenseBlock(64, 32))
    diagrams.draw_rrdb(RRDB(64, 32))
    diagrams.draw_rrdbnet(RRDBNet())
    diagrams.draw_unet(UNetDiscriminator())
    diagrams.draw_adversarial_step(stage)                      # an AdversarialStage of engine/updates.py

Each makes a figure; `show()` of the course shows it. One unit of a diagram is 12 screen pixels.
"""

from dataclasses import dataclass
from itertools import pairwise

import course  # noqa: F401  # first: it makes the project's modules importable

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

import esrgan
from esrgan import RRDB, DenseBlock, RRDBNet, UNetDiscriminator

LAYER, DATA, SUM, LOSS = "#cfe2f3", "#eeeeee", "#fff2cc", "#f4cccc"
UNIT = 1 / 6  # of an inch: 12 pixels of 72 in an inch
STEP = 10  # units from one layer to the next


# ---------------------------------------------------------------------------------------------
# What a diagram is made of
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """A box by its middle and its sides, in units."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> tuple[float, float]:
        """The middle of its left side; the three others likewise."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> tuple[float, float]:
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> tuple[float, float]:
        return self.x, self.y - self.height / 2


def new_diagram(width: float, height: float, title: str) -> Axes:
    """An empty figure of so many units, from (0, 0) at the lower left."""
    figure = plt.figure(figsize=(width * UNIT, (height + 2.5) * UNIT))
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(0, height + 2.5))
    axis.set_axis_off()
    axis.text(width / 2, height + 1, title, ha="center", va="center", fontsize=11)
    return axis


def draw_box(axis: Axes, x: float, y: float, text: str, colour: str = LAYER, width: float | None = None) -> Box:
    """A box with a text, as large as the text needs it."""
    lines = text.splitlines()
    box = Box(x, y, width or max(2.4, 0.56 * max(map(len, lines)) + 1), 1.25 * len(lines) + 0.8)
    corner = x - box.width / 2, y - box.height / 2
    axis.add_patch(plt.Rectangle(corner, box.width, box.height, facecolor=colour, edgecolor="#555555", linewidth=0.8))
    axis.text(x, y, text, ha="center", va="center", fontsize=9, linespacing=1.15)
    return box


def draw_arrow(axis: Axes, *points: tuple[float, float], text: str = "", colour: str = "#333333", dashed=False) -> None:
    """An arrow through these points; a text stands over the middle of its longest part."""
    style = {"color": colour, "linewidth": 1.0, "linestyle": "--" if dashed else "-"}
    for start, stop in pairwise(points[:-1]):
        axis.plot(*zip(start, stop, strict=True), **style, solid_capstyle="round")
    head = {"arrowstyle": "->", "shrinkA": 0, "shrinkB": 1, **style}
    axis.annotate("", points[-1], points[-2], arrowprops=head)
    if text:
        parts = list(pairwise(points))
        (x, y), (to_x, to_y) = max(parts, key=lambda part: abs(part[1][0] - part[0][0]) + abs(part[1][1] - part[0][1]))
        upright = abs(to_y - y) > abs(to_x - x)
        place = ((x + to_x) / 2 + (0.4 if upright else 0), (y + to_y) / 2 + (0 if upright else 0.7))
        axis.text(*place, text, ha="left" if upright else "center", va="center", fontsize=8, color=colour)


# ---------------------------------------------------------------------------------------------
# What is read from a module
# ---------------------------------------------------------------------------------------------


def shapes_of(network: nn.Module, picture: Tensor, kinds=(nn.Conv2d,)) -> dict[str, tuple[nn.Module, torch.Size]]:
    """Name → (layer, shape that it gives), of all layers of these kinds, in the order in which they run."""
    found: dict[str, tuple[nn.Module, torch.Size]] = {}

    names = {layer: name for name, layer in network.named_modules() if isinstance(layer, kinds)}

    def remember(layer, _, output) -> None:
        found.setdefault(names[layer], (layer, output.shape))

    hooks = [layer.register_forward_hook(remember) for layer in names]
    try:
        with torch.no_grad():
            network(picture)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def told(name: str, conv: nn.Conv2d) -> str:
    """A convolution in two lines: its name, its filters and its channels; its stride, if it has one."""
    stride = f", stride {conv.stride[0]}" if conv.stride[0] > 1 else ""
    return f"{name}\n{conv.kernel_size[0]}×{conv.kernel_size[1]}{stride}\n{conv.in_channels} → {conv.out_channels}"


def weights_told(module: nn.Module) -> str:
    """How many numbers it has to learn."""
    return f"{sum(parameter.numel() for parameter in module.parameters()):,} weights and biases"


# ---------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------


def draw_chain(network: nn.Module) -> None:
    """A network whose convolutions run one after the other without padding, with the size of what is between them."""
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)}
    first = next(iter(layers.values()))
    axis = new_diagram(STEP * len(layers) + 14, 7, f"{type(network).__name__}: {weights_told(network)}")
    before, lost = draw_box(axis, 4, 4, f"input\n{first.in_channels} × H", DATA), 0
    for number, (name, conv) in enumerate(layers.items()):
        box = draw_box(axis, 13 + STEP * number, 4, told(name, conv))
        draw_arrow(axis, before.right, box.left, text="" if number == 0 else "ReLU")
        lost += conv.kernel_size[0] - 1
        axis.text(box.x, 0.7, f"H − {lost}", ha="center", va="center", fontsize=8)
        before = box
    draw_arrow(axis, before.right, (before.right[0] + 3, 4))


def draw_dense_block(block: DenseBlock) -> None:
    """Every convolution, with an arrow from each of those before it: what it sees is joined."""
    convolutions = dict(block.named_children())
    axis = new_diagram(STEP * len(convolutions) + 20, 17, f"Dense block: {weights_told(block)}")
    boxes = [draw_box(axis, 4, 8, f"x\n{convolutions['conv1'].in_channels}", DATA, 5)]
    for number, (name, conv) in enumerate(convolutions.items()):
        boxes.append(draw_box(axis, 13 + STEP * number, 8, told(name, conv)))
    for place, box in enumerate(boxes[1:], start=1):
        draw_arrow(axis, boxes[place - 1].right, box.left)
        for earlier in range(place - 1):
            height = 11 + 0.75 * (place - earlier) + 0.4 * earlier
            start, stop = boxes[earlier].top[0] + 0.4 * place, box.top[0] - 1.6 + 0.7 * earlier
            points = (start, boxes[earlier].top[1]), (start, height), (stop, height), (stop, box.top[1])
            draw_arrow(axis, *points, colour=f"C{earlier}")
    plus = draw_box(axis, boxes[-1].right[0] + 7, 8, "+", SUM)
    draw_arrow(axis, boxes[-1].right, plus.left, text=f"× {esrgan.RESIDUAL_SCALING}")
    draw_arrow(axis, boxes[0].bottom, (boxes[0].x, 3), (plus.x, 3), plus.bottom, text="the shortcut: x as it is")
    draw_arrow(axis, plus.right, (plus.right[0] + 2.5, 8))
    axis.text(2, 1, "Arrows above: joined along the channels. After conv1 to conv4: leaky ReLU.", fontsize=8)


def draw_rrdb(block: RRDB) -> None:
    """Three dense blocks and the shortcut around them."""
    names = [name for name, _ in block.named_children()]
    axis = new_diagram(11 * len(names) + 20, 8, f"RRDB, residual in residual: {weights_told(block)}")
    first = before = draw_box(axis, 4, 5.5, "x", DATA)
    for number, name in enumerate(names):
        box = draw_box(axis, 13 + 11 * number, 5.5, f"{name}\ndense block")
        draw_arrow(axis, before.right, box.left)
        before = box
    plus = draw_box(axis, before.right[0] + 6, 5.5, "+", SUM)
    draw_arrow(axis, before.right, plus.left, text=f"× {esrgan.RESIDUAL_SCALING}")
    draw_arrow(axis, first.bottom, (first.x, 1.5), (plus.x, 1.5), plus.bottom, text="the shortcut: x as it is")
    draw_arrow(axis, plus.right, (plus.right[0] + 3, 5.5))


def draw_rrdbnet(network: RRDBNet) -> None:
    """From the low picture to the restored one; the sizes are those of a low picture of H pixels a side."""
    layers = dict(network.named_children())
    axis = new_diagram(STEP * len(layers) + 24, 10, f"RRDBNet ×{network.scale}: {weights_told(network)}")
    before, x, size = draw_box(axis, 4, 5, f"low\n{network.colours} × H", DATA), 13.0, 1
    for name, layer in layers.items():
        if isinstance(layer, nn.Conv2d):
            text = told(name, layer)
        else:
            text, around = f"{name}\n{len(layer)} × RRDB\n{layer[0].rdb1.conv1.in_channels} channels", before.right
        doubles = name.startswith("conv_up")
        size *= 2 if doubles else 1
        shift = 2.5 if doubles else 0  # room for the word
        box = draw_box(axis, x + shift, 5, text)
        draw_arrow(axis, before.right, box.left, text="nearest ×2" if doubles else "")
        axis.text(box.x, 1.6, "H" if size == 1 else f"{size}H", ha="center", va="center", fontsize=8)
        before, x = box, box.x + STEP
        if name == "conv_body":
            plus = draw_box(axis, box.right[0] + 3, 5, "+", SUM)
            draw_arrow(axis, box.right, plus.left)
            points = (around[0] + 0.8, 5), (around[0] + 0.8, 8.6), (plus.x, 8.6), plus.top
            draw_arrow(axis, *points, text="a shortcut around all blocks")
            before, x = plus, plus.x + 8
    draw_arrow(axis, before.right, (before.right[0] + 3, 5))


def draw_unet(discriminator: UNetDiscriminator) -> None:
    """Down and up again: a layer stands the lower the smaller its features are, its partner at the same height."""
    side = 64
    layers = shapes_of(discriminator, torch.zeros(1, 3, side, side))
    axis = new_diagram(STEP * len(layers) + 13, 27, f"U-Net discriminator: {weights_told(discriminator)}")
    height = {side >> level: 22.5 - 6 * level for level in range(4)}
    widest = max(conv.out_channels for conv, _ in layers.values())  # at the bottom, where it turns round
    before = draw_box(axis, 4, height[side], "picture\n3 × H", DATA)
    waiting: dict[int, Box] = {}  # by the number of pixels: what was seen on the way down
    for number, (name, (conv, shape)) in enumerate(layers.items()):
        box = draw_box(axis, 13 + STEP * number, height[shape[-1]], told(name, conv))
        draw_arrow(axis, before.right, box.left, text="×2" if box.y > before.y else "")
        going_down = box.y < before.y or number == 0
        partner = None if going_down else waiting.pop(shape[-1], None)
        before = box
        if partner:
            before = draw_box(axis, box.right[0] + 1.8, box.y, "+", SUM, 1.6)
            draw_arrow(axis, box.right, before.left)
            level = box.top[1] + 0.7
            points = partner.top, (partner.x, level), (before.x, level), before.top
            draw_arrow(axis, *points, text="what was seen at this size", colour="C1", dashed=True)
        elif going_down and conv.out_channels < widest:
            waiting[shape[-1]] = box
    draw_arrow(axis, before.right, (before.right[0] + 3, before.y))
    sizes = ", ".join("H" if size == side else f"H/{side // size}" for size in height)
    axis.text(2, 1, f"From top to bottom: features of {sizes}. At the end: a logit for every pixel.", fontsize=8)


# ---------------------------------------------------------------------------------------------
# One step of the second stage
# ---------------------------------------------------------------------------------------------


def draw_adversarial_step(stage) -> None:
    """Where the numbers of one update go, and how far back each loss sends its gradient."""
    weights = stage.weights
    axis = new_diagram(74, 31, "One update of the second stage")
    low = draw_box(axis, 5, 22, "low", DATA)
    generator = draw_box(axis, 17, 22, f"generator\n{type(stage.network).__name__}")
    restored = draw_box(axis, 31, 22, "restored", DATA)
    high = draw_box(axis, 31, 11, "high", DATA)
    perceptual = draw_box(axis, 46, 28, f"features\n{', '.join(weights.layers)}", width=14)
    discriminator = draw_box(axis, 46, 16.5, f"discriminator\n{type(stage.discriminator).__name__}", width=14)
    pixels = draw_box(axis, 65, 22, f"pixels\n× {weights.pixel_weight:g}", LOSS, 12)
    features = draw_box(axis, 65, 28, f"perceptual loss\n× {weights.perceptual_weight:g}", LOSS, 12)
    fooled = draw_box(axis, 65, 16.5, f"adversarial loss\n× {weights.adversarial_weight:g}", LOSS, 12)
    own = draw_box(axis, 65, 5, "discriminator's\nown loss", LOSS, 12)
    other = draw_box(axis, 46, 5, "discriminator\nthe same", width=14)
    draw_arrow(axis, low.right, generator.left)
    draw_arrow(axis, generator.right, restored.left)
    draw_arrow(axis, restored.top, (31, 28), perceptual.left)
    draw_arrow(axis, restored.right, pixels.left)
    draw_arrow(axis, (33, 20.9), (33, 17.2), (39, 17.2))
    draw_arrow(axis, (29, 20.9), (29, 15), (27, 15), (27, 5.8), (39, 5.8), dashed=True, colour="C3")
    axis.text(26.5, 8, "detached: here the\ngradient stops", ha="right", va="center", fontsize=8, color="C3")
    draw_arrow(axis, high.right, (35.5, 11), (35.5, 27.2), (39, 27.2), colour="C0")
    if stage.adversarial_loss.relativistic:  # it asks for more than the real pictures' average
        draw_arrow(axis, (35.5, 15.8), (39, 15.8), colour="C0")
    draw_arrow(axis, (35.5, 21), (59, 21), colour="C0")
    draw_arrow(axis, (35.5, 11), (35.5, 4.2), (39, 4.2), colour="C0")
    for start, stop in ((perceptual, features), (discriminator, fooled), (other, own)):
        draw_arrow(axis, start.right, stop.left)
    axis.text(2, 28, "Three losses teach\nthe generator,", fontsize=8, va="center")
    axis.text(2, 3, "the fourth teaches\nthe discriminator.", fontsize=8, va="center")
