# %% [markdown]
# # 15. Into the browser, onto a phone
#
# **Goal.** Make a network small enough for thirty pictures a second, and take it out of Python: fold its branches,
# count its work, round its numbers to eight bits, and write it down as a file that other programs run.
#
# **You will see:** a fold that forgets one thing, and where that shows: by up to 48 ± 3 of 255 levels.
#
# Takes a quarter of a minute on two cores. You bring from [lesson 13](13_into_use.py) how a 1×1 beside a 3×3 folds, and
# what eight bits a weight cost.

# %%
import copy
import importlib.util

from checks import check, hint
from course import crop, photograph, promise, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from engine import checkpoints, networks
from engine.ecbsr import EDGES, EdgeBlock
from engine.graphs import graph_of
from engine.layouts import class_of
from imaging.images import psnr, resize, rgb_to_luma, round_to_8_bits
from srcnn import SRCNN

# %% [markdown]
# ## The idea
#
# A convolution is linear. So a sum of convolutions is one, and so is a chain of them, if nothing stands between:
#
# $$W = W_3 + \sum_m W_{\text{squeeze}}[m]\,W_{\text{expand}}[m] + \sum_e s_e\,E_e\,W_e$$
#
# - $W_3$: a plain 3×3
# - expand, squeeze: a 1×1 to twice the channels, then a 3×3 back
# - $E_e$: Sobel's filters and the Laplacian, which look for edges; $s_e$ is learnt
#
# **ECBSR** (Zhang et al., 2021) learns the right side and uses the left: more ways to learn, nothing more to compute.
# That is called *re-parameterisation*. It enlarges the small **luma** itself; chroma stays bicubic.
#
# What a phone can do is counted in products a second. A network for a camera must need few of them for each pixel,
# thirty times a second. Then its numbers may shrink from 32 bits to 8.

# %%
checkpoint = checkpoints.load_checkpoint(checkpoints.PRETRAINED / "ecbsr_x2.pt")
branched = networks.build_network("ecbsr", checkpoint["shape"]).eval().requires_grad_(False)
branched.load_state_dict(checkpoint["params"])
plain = networks.load_network(checkpoint)  # as it is used
for name, network in (("in branches", branched), ("folded", plain)):
    print(f"{name}: {sum(weight.numel() for weight in network.parameters()):,} weights")

high = round_to_8_bits(rgb_to_luma(crop(photograph("astronaut.png"), 0, 140, 160)))
low = resize(high, 1 / 2)
restored = plain(low)
print(f"bicubic {psnr(resize(low, 2), high, 2).item():.2f} dB, ECBSR {psnr(restored, high, 2).item():.2f} dB")

# %% [markdown]
# ## Folding by hand
#
# First the chain alone: a 1×1, then a 3×3. **Now you.**


# %%
def collapsed(expand, bias1, squeeze, bias3):
    """Weights (M, C, 1, 1) and (O, M, 3, 3) and biases (M,), (O,) → (weight (O, C, 3, 3), bias (O,)) of one 3×3.

    It must give conv3(conv1(x)), with x padded by zeros before the 1×1. Difficulty 3 of 3, 20 minutes.
    """
    raise NotImplementedError


collapsed = check("15a", collapsed)

# %%
block = next(layer for layer in branched.body if isinstance(layer, EdgeBlock))
weight, bias = collapsed(block.expand.weight, block.expand.bias, block.squeeze.weight, block.squeeze.bias)
x = torch.rand(1, weight.shape[1], 8, 9)
chain = block.squeeze(block.expand(F.pad(x, [1] * 4)))
print(f"the chain of a shipped block, folded: {(F.conv2d(x, weight, bias, padding=1) - chain).abs().max():.1e} apart")

# %% [markdown]
# The branches one by one, as the paper draws them. One thing is easily overlooked: between expand and squeeze the
# picture has a border, too. A 1×1 makes its **bias** of the zeros beyond the border, so it is this bias that the 3×3
# must find there, not zeros.


# %%
def by_branches(block, x, border):
    """The block's branches, computed and summed; `border` lies around what expand gives: "bias" or "zeros"."""
    total = F.conv2d(x, block.conv.weight, block.conv.bias, padding=1)
    wide = {
        "bias": block.expand(F.pad(x, [1] * 4)),  # of zeros it makes its bias
        "zeros": F.pad(block.expand(x), [1] * 4),
    }
    total = total + block.squeeze(wide[border])
    for edge, mix, strength in zip(EDGES, block.mix.weight.chunk(3), block.strength, strict=True):
        filters = (strength[:, None, None] * edge)[:, None]  # one for each channel
        total = total + F.conv2d(F.conv2d(x, mix), filters, padding=1, groups=len(filters))
    return total


class Branches(nn.Module):
    """A block that computes its branches."""

    def __init__(self, block, border):
        super().__init__()
        self.block, self.border = block, border

    def forward(self, x):
        return by_branches(self.block, x, self.border)


def with_border(border):
    """The network in branches."""
    network = copy.deepcopy(branched)
    layers = [Branches(layer, border) if isinstance(layer, EdgeBlock) else layer for layer in network.body]
    network.body = nn.Sequential(*layers)
    return network(low)


# %% [markdown]
# **Predict before you run.** The folded network is compared with both. From its border inwards, how many pixels of the
# enlarged picture are wrong in the one with zeros? (The network has six convolutions of 3×3 on the small picture.)

# %%
predict("15", None)

# %% tags=["cover"]
right, wrong = (with_border(border) for border in ("bias", "zeros"))
apart = 255 * (wrong - restored).abs()
print(f"padded by the bias: {255 * (right - restored).abs().max():.5f} levels apart, by zeros: {apart.max():.1f}")
places = (apart[0, 0] > 1e-2).nonzero()  # row and column of every wrong pixel
to_border = torch.minimum(places, torch.tensor(apart.shape[-2:]) - 1 - places).amin(dim=1)
reach = int(to_border.max()) + 1
outcome("15", reach)
print(f"farther inside: {apart[..., reach:-reach, reach:-reach].max():.5f}")
show_pictures([
    ("folded", restored[..., -48:, :48]),
    ("branches, padded by zeros", wrong[..., -48:, :48]),
    ("difference × 4", (4 * apart / 255)[..., -48:, :48]),
])  # fmt: skip

# %%
promise("levels at the edge, padded by zeros", apart.max().item(), 48, 3)

# %% [markdown]
# Six convolutions see six pixels far, which are twelve of the result: so far the wrong border reaches. A test that
# looks at the middle of a picture never sees it. Edge filters need no such care: their weights sum to zero, so a bias
# before them vanishes. `EdgeBlock` in `engine/ecbsr.py` therefore has none there, and adds up its weights before the
# convolution even while it learns: the gradients are the same, and a step takes a third of the time.
#
# ## Thirty pictures a second
#
# A convolution takes $k^2\,c_{in}\,c_{out}$ products at every pixel that it makes. Layers of the small picture are
# cheaper by scale² than layers of the large one. **Now you.**


# %%
def frames_a_second(weights, width, height, speed):
    """How many pictures of width×height small pixels a second, if `speed` products are computed a second.

    `weights` are the sides of the filters, (outputs, inputs, k, k) each, of convolutions that all work on the small
    picture. Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


frames_a_second = check("15b", frames_a_second)

# %%
WIDTH, HEIGHT = 640, 360  # of the small picture; twice as large is 720p
candidates = {"ECBSR ×2": (plain, 1), "SRCNN ×2": (SRCNN(), 4)}  # and of the pixels that its layers work on
candidates["SRVGG ×2"] = class_of("srvgg", {})(2, 64, 16), 1
candidates["RRDB ×2"] = class_of("rrdb", {})(2), 1
work = {}
for name, (network, pixels) in candidates.items():
    layers = [(which, layer) for which, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    enlarged = {"conv_up1": 4, "conv_hr": 4, "conv_last": 4}  # RRDB's layers after the enlarging
    products = sum(layer.weight.numel() * enlarged.get(which, pixels) for which, layer in layers)
    work[name] = products * WIDTH * HEIGHT * 30 / 1e9
    print(f"{name}: {products:,} products for each small pixel, {work[name]:,.0f} billion a second")
sides = [tuple(layer.weight.shape) for layer in plain.modules() if isinstance(layer, nn.Conv2d)]
print(f"ECBSR with 10¹² products a second: {frames_a_second(sides, WIDTH, HEIGHT, 1e12):.0f} pictures a second")
plt.figure(figsize=(7, 2.6))
plt.barh(list(work), list(work.values()))
plt.xscale("log")
plt.axvline(1000, color="grey", linestyle="--")
plt.title("The work of 720p at 30 pictures a second")
plt.xlabel("billions of products a second; dashed: what a phone's GPU computes, about")
plt.xlim(10, None)
show()

# %% [markdown]
# A phone's GPU computes about a million million products a second in half precision, and reaches a part of that. ECBSR
# leaves it room for the rest of its work. The others do not.
#
# ## Eight bits for what flows through
#
# Lesson 13 rounded weights. To *compute* with eight bits, what flows between the layers must be rounded as well: 256
# values from the least to the greatest that occurs. Which these are, is seen on photographs: that is **calibration**.
# **Now you.** Eight bits, with a number that stands for zero.


# %%
def to_bytes_with_zero(x):
    """x, with values of both signs → (numbers of type torch.uint8, step, zero): x ≈ step · (numbers − zero).

    The range goes from the least to the greatest value, in 255 steps, and `zero` is a whole number: 0 stays exactly 0.
    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


to_bytes_with_zero = check("15c", to_bytes_with_zero)

# %%
ranges = {}
with torch.no_grad():
    x = low
    for place, layer in enumerate(plain.body):
        x = layer(x)
        ranges[place] = x.min().item(), x.max().item()


def rounded(x, low_end, high_end, bits):
    """x with 2^bits values between the ends, one of which is exactly 0."""
    step = (high_end - low_end) / (2**bits - 1)
    zero = round(-low_end / step)
    return ((x / step + zero).round().clamp(0, 2**bits - 1) - zero) * step


def enlarge_rounded(bits, whole):
    """The network with rounded maps; if not `whole`, but for those of the first and the last convolution."""
    x = low
    for place, layer in enumerate(plain.body):
        x = layer(x)
        ends = min(0, ranges[place][0]), max(0, ranges[place][1])
        if whole or 1 < place < len(plain.body) - 1:
            x = rounded(x, *ends, bits)
    return F.pixel_shuffle(x, 2) + F.interpolate(low, scale_factor=2, mode="nearest")


with torch.no_grad():
    x = plain.body[0](low)
    numbers, step, zero = to_bytes_with_zero(x)
    own = step * (numbers.float() - zero)
print(f"the first map: yours differs from `rounded` by {(own - rounded(x, *ranges[0], 8)).abs().max():.1e}, ", end="")
print(f"and from the map itself by {(own - x).abs().max() / step:.2f} steps")
for bits in (10, 8, 6, 4):
    figures = [psnr(enlarge_rounded(bits, whole), high, 2).item() for whole in (True, False)]
    print(f"{bits} bits: all maps {figures[0]:.2f} dB, all but the outermost {figures[1]:.2f} dB")
show_pictures([(f"{bits} bits", enlarge_rounded(bits, True)[..., 40:104, 40:104]) for bits in (8, 6, 4)])

# %% [markdown]
# `main.py export --int8` does it so: ranges from your photographs, the first and the last convolution in float, and it
# says what that cost. A network can also learn to bear it: `train -m ecbsr --set eight_bits=true` rounds while it
# trains (**quantisation-aware training**). Rounding has a gradient of 0 nearly everywhere, so gradients pass as if
# nothing had been rounded, by the **straight-through estimator** of
# [Jacob et al., 2018](https://arxiv.org/abs/1712.05877).
#
# ## Out of Python
#
# A file for other programs is a list of plain operations with their weights. That is what `graph_of` in
# `engine/graphs.py` makes, and `export` writes as ONNX or for ncnn:

# %%
for node in graph_of(plain).nodes[:3] + graph_of(plain).nodes[-4:]:
    sizes = {name: "×".join(map(str, value.shape)) for name, value in node.weights.items()}
    print(f"{node.output:12} {node.kind}({', '.join(node.inputs)}) {node.settings or ''} {sizes or ''}")
if all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
    from engine.onnx_files import make_model, runner

    run = runner(make_model(graph_of(plain), {}).SerializeToString())
    print(f"onnxruntime differs by {(run(low) - restored).abs().max():.1e}")
else:
    print("pip install onnx onnxruntime, and this cell runs the file too")

# %% [markdown]
# The page in `web/` runs these files in a browser, the camera through ECBSR. It does what `engine/upscaling.py` does,
# and a test compares every pixel: an exported network is right only together with what is done before and after it.

# %% [markdown]
# ## Recap
#
# ![A picture's corner folded with the right border, with the wrong one, and the difference](pictures/15_browser.png)
#
# - What is linear folds: learn in branches, use one convolution.
# - Test a fold at the border, where padding shows.
# - Count products for each small pixel; on the large picture they are scale² times as many.
# - Eight bits: ranges from photographs, zero exact, and the layers that hold the picture left alone.
# - A file is right if another program makes the same pixels of it, edges and all.
#
# That is the end of the course. Your own network goes the same way: `python main.py export -m FILE -o model.onnx`.
