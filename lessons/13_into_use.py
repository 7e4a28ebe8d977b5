# %% [markdown]
# # 13. Into use
#
# **Goal.** Take a trained network where it is needed: to pictures larger than the memory, to fast arithmetic, to
# several machines and to a phone. Know each time whether the result is the same, or by how much it differs.
#
# **You will see:** the shipped RRDB in tiles without a margin is wrong by up to 30 ± 3 of 255 levels at the seams. How
# wide a margin it needs is for you to predict.
#
# Takes a quarter of a minute on two cores. You bring from [lesson 3](03_srcnn.py) the receptive field, and from
# [lesson 6](06_rrdb.py) RRDB.

# %%
import copy
import time

from checks import check, hint
from course import crop, photograph, promise, seed, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import degrade
from engine import checkpoints, networks
from engine.devices import autocast
from engine.upscaling import Tiling, in_tiles
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.images import psnr, resize
from srcnn import SRCNN

# %% [markdown]
# ## The idea
#
# A network's memory grows with its picture: every feature of every pixel is kept. So a large picture is cut into
# **tiles**. But an output pixel depends on its neighbours, as far as its **receptive field** reaches: its radius is
# $r$. A tile therefore gets a **margin** of $m$ pixels on each side. What the network makes of the margin is thrown
# away.
#
# $$m \ge r \;\Rightarrow\; \text{tiles} = \text{whole picture},\qquad r = \sum_l \frac{k_l - 1}{2}$$
#
# - $k_l$: the side of the filter of layer $l$, counted in pixels of the small picture
#
# At the picture's own border there is no margin: the whole picture has none there either, and the network pads both
# alike. For SRCNN $r = 8$. For an RRDB net of $B$ blocks $r = 2 + 15B + 2$: 94 for the shipped one, 349 for the
# paper's.


# %% [markdown]
# **Now you.** Along one line: which pixels must a tile be given?


# %%
def window(start, stop, length, margin, fold):
    """A tile makes the pixels start … stop − 1 of a line of `length` → the pair (first, last) that it must be given.

    It gets the pixels first … last − 1, with at least `margin` more on each side, except at the ends of the line.
    `first` is a multiple of `fold`, and so is `last` unless the line ends there. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


window = check("13a", window)


# %%
def by_hand(network, picture, side, margin, scale=1):
    """The network over tiles of `side` pixels: (1, C, H, W) → (1, C, scale·H, scale·W)."""
    height, width = picture.shape[-2:]
    large = torch.empty(1, picture.shape[1], scale * height, scale * width)
    for top in range(0, height, side):
        for left in range(0, width, side):
            bottom, right = min(top + side, height), min(left + side, width)
            first_row, last_row = window(top, bottom, height, margin, 1)
            first_column, last_column = window(left, right, width, margin, 1)
            with torch.no_grad():
                tile = network(picture[..., first_row:last_row, first_column:last_column])
            rows = slice(scale * (top - first_row), scale * (bottom - first_row))
            columns = slice(scale * (left - first_column), scale * (right - first_column))
            large[..., scale * top : scale * bottom, scale * left : scale * right] = tile[..., rows, columns]
    return large


torch.manual_seed(0)
srcnn = SRCNN().requires_grad_(False)
luma = torch.rand(1, 1, 90, 70, generator=seed())
whole = srcnn(luma)
real = in_tiles(srcnn, luma, tiling=Tiling(side=32))
for margin in (0, 7, 8):
    tiled = by_hand(srcnn, luma, 32, margin)
    print(f"margin {margin}: {(tiled - whole).abs().max():.7f} from the whole, {(tiled - real).abs().max():.7f} "
          "from upscaling.in_tiles")  # fmt: skip

# %% [markdown]
# ## Seams
#
# Now the network that ships with the program, which enlarges ×4.
#
# **Predict before you run.** Its receptive field reaches 94 pixels. How wide a margin do you need until the result is
# wrong by less than half a level, so that an 8-bit file hardly differs? And until no computer finds the seams?

# %%
predict("13", None)

# %% tags=["cover"]
rrdb = networks.load_network(checkpoints.load_checkpoint(checkpoints.PRETRAINED / "rrdb_x4.pt"))
low = resize(crop(photograph("chelsea.png"), 40, 110, 192), 1 / 4)
panels, differences = [], []
for margin in (0, 2, 8):
    tiled = by_hand(rrdb, low, 16, margin, scale=4)
    apart = tiled - rrdb(low)
    panels.append((f"tiles of 16, margin {margin}", tiled))
    differences.append((f"wrong by up to {255 * apart.abs().max():.1f} levels", (0.5 + 6 * apart).clamp(0, 1)))
show_pictures(panels, differences)

# %%
strip = resize(crop(photograph("coffee.png"), 120, 80, 48, 400), 1 / 2)  # 24×200 pixels, two tiles
whole = rrdb(strip)
margins = (0, 1, 2, 4, 8, 16, 32, rrdb.radius)
errors = [255 * (by_hand(rrdb, strip, 100, margin, scale=4) - whole).abs().max().item() for margin in margins]
outcome("13", f"at most {next(margin for margin, error in zip(margins, errors, strict=True) if error < 0.5)}")
for margin, error in zip(margins, errors, strict=True):
    print(f"margin {margin:2}: {error:.6f} levels")
plt.figure(figsize=(6, 3))
plt.semilogy(margins, [max(error, 1e-6) for error in errors], marker=".")
plt.axhline(0.5, color="grey", linestyle="--", label="half a level: below it an 8-bit file hardly differs")
plt.gca().set(xlabel="margin (pixels of the small picture)", ylabel="largest error (levels)", title="RRDB, two tiles")
plt.legend()
show()
promise("without a margin, in levels", errors[0], 30, 3)

# %% [markdown]
# The second row of pictures shows the difference from the whole picture, six times as strong. Grey is no difference.
# The last point of the curve is 0; it is drawn at the lower edge.
#
# What a network *can* see and what it *looks at* are two things. Every block adds a fifth of a fifth of what it has
# seen farther away. So eight pixels hide the seam from the eye, 16 leave only the rounding of the processor, and 94 not
# even that.
#
# Another network may look farther. So `in_tiles` asks the network for its margin. Up to a radius of 32 pixels the
# margin is the radius, and the result is exact. For deeper networks `RRDBNet.margin` says 16, and neighbouring tiles
# are cross-faded: what difference is left cannot show as a line.
#
# **Sizes that do not divide.** Real-ESRGAN's ×2 network folds squares of 2×2 pixels into channels, so it needs an even
# size. `RRDBNet` pads on the right and below, and crops the result. A tile must then begin at an even pixel too, or its
# squares hold other pixels:

# %%
folding = RRDBNet(scale=2, features=8, growth=4, blocks=1, unshuffle=True).requires_grad_(False)
odd = torch.rand(1, 3, 33, 81, generator=seed())
print("33×81 becomes", "×".join(map(str, folding(odd).shape[-2:])), "by a network that needs even sizes")
for first in (2, 1):
    inner = (folding(odd[..., first:]) - folding(odd)[..., 2 * first :])[..., 80:].abs().max()
    print(f"begun at column {first}: far inside {inner:.6f} from the whole")

# %% [markdown]
# ## Fewer bits to compute with
#
# A float32 keeps 24 binary digits of a number, a bfloat16 eight. New processors compute with bfloat16 up to twice as
# fast. The stored weights stay float32; for computing, PyTorch's **autocast** rounds them and the features.
# `--precision bf16` switches it on, by `autocast` in `engine/devices.py`.

# %%
high = crop(photograph("astronaut.png"), 20, 160, 128)
low = degrade.bicubic(high, 4)
exact = rrdb(low)
with autocast("bf16", torch.device("cpu")):
    rough = rrdb(low).float()
apart = 255 * (rough - exact).abs()
print(f"bf16: {apart.mean():.2f} levels off, {apart.max():.1f} at most; "
      f"PSNR {psnr(exact, high, 4).item():.3f} and {psnr(rough, high, 4).item():.3f} dB")  # fmt: skip
print("float16 ends at 65504: 70000 becomes", torch.tensor(70000.0).half().item())

# %% [markdown]
# Less than a level on average: PSNR does not notice. float16 has more digits, but it overflows. An infinity becomes
# "not a number" (NaN), and that is written as black: the black tiles of many complaints. `run` in `engine/upscaling.py`
# looks for them, and computes such a tile again in float32.
#
# ## How long must it take?
#
# Count first, then measure. A convolution does one multiplication and one addition for each weight at every pixel:
#
# $$\mathrm{operations} = 2\,k^2\,i\,o\,H\,W,\qquad \mathrm{bytes} = 4\,(i + o)\,H\,W + 4\,k^2\,i\,o$$
#
# - $k$: the filter's side; $i, o$: channels in and out; $H, W$: the picture's sides; 4 bytes are one float32
#
# The processor has a peak of operations a second, its memory a peak of bytes a second. Divide each count by its peak:
# the larger quotient is the shortest time to hope for. As peaks we take what a very wide convolution and a large copy
# reach. **Now you.**


# %%
def cost(inputs, outputs, kernel, height, width):
    """(operations, bytes) of a convolution that keeps height and width, in float32, by the formulas above.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


cost = check("13b", cost)


# %%
def seconds_of(work):
    """The processor's time for one run, the mean of many; what other programs take meanwhile does not count."""
    work()
    start = time.process_time()
    runs = 0
    while time.process_time() - start < 0.2:
        work()
        runs += 1
    return (time.process_time() - start) / runs


def convolution(inputs, outputs, side):
    layer = nn.Conv2d(inputs, outputs, side, padding=side // 2).requires_grad_(False)
    features = torch.rand(1, inputs, 128, 128).contiguous(memory_format=torch.channels_last)
    return layer.to(memory_format=torch.channels_last), features


wide, features = convolution(128, 128, 3)
long = torch.rand(4_000_000)
target = torch.empty_like(long)
operations_a_second = 2 * wide.weight.numel() * 128**2 / seconds_of(lambda: wide(features))
bytes_a_second = 2 * long.nbytes / seconds_of(lambda: target.copy_(long))
print(f"one core here: {operations_a_second / 1e9:.0f} billion operations and {bytes_a_second / 1e9:.0f} GB a second")
for inputs, outputs, side in ((64, 64, 3), (16, 16, 3), (64, 64, 1), (32, 1, 5)):
    layer, features = convolution(inputs, outputs, side)
    operations, traffic = cost(inputs, outputs, side, 128, 128)
    by_operations, by_bytes = 1e3 * operations / operations_a_second, 1e3 * traffic / bytes_a_second
    measured = 1e3 * seconds_of(lambda layer=layer, features=features: layer(features))
    print(f"{side}×{side}, {inputs} → {outputs}: operations {by_operations:.2f} ms, bytes {by_bytes:.2f} ms; "
          f"measured {measured:.2f} ms")  # fmt: skip

# %% [markdown]
# The convolution of 64 channels comes near the count: only fewer operations can make it faster. SRCNN's last one, to a
# single channel, takes many times longer than the count, for it leaves wide arithmetic units empty. Half the operations
# are seldom half the time.
#
# ## Several machines
#
# Two machines with the same weights each take half of a batch. If the shares are equal, the mean of their gradients is
# the gradient of the whole batch. We try it in one process:


# %%
def gradient(low, high):
    network = copy.deepcopy(srcnn).requires_grad_()
    F.mse_loss(network.forward_valid(low), high).backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


lows = torch.rand(8, 1, 25, 25, generator=seed(1))
highs = torch.rand(8, 1, 9, 9, generator=seed(2))
together = gradient(lows, highs)
for share in (4, 6):
    mean = (gradient(lows[:share], highs[:share]) + gradient(lows[share:], highs[share:])) / 2
    print(f"shares of {share} and {8 - share}: off by {(mean - together).norm() / together.norm():.1e} of its length")

# %% [markdown]
# PyTorch's `DistributedDataParallel` (**DDP**) computes that mean over the network cable, while the rest of the
# gradient is still being computed. `data_parallel` in `engine/devices.py` wraps the loss in it. Then every machine
# takes the same step. `-b` must divide among the processes, so that shares are equal. Whatever looks across the batch
# sees only a share: batch norm, and the average logit of the relativistic loss.
#
# ## A phone
#
# What would a phone's camera ask for? **Few channels** first: cost goes with their square.

# %%
candidates = {
    "SRCNN 9-5-5": SRCNN(),
    "RRDB ×4, as shipped": copy.deepcopy(rrdb),
    "SRVGG ×4, 64 features, 16 layers": SRVGGNetCompact(),
    "SRVGG ×4, 16 features, 4 layers": SRVGGNetCompact(4, 16, 4),
}
enlarged = {"conv_up1": 4, "conv_up2": 16, "conv_hr": 16, "conv_last": 16}  # pixels that RRDB's last layers make of one
for name, network in candidates.items():
    layers = [(layer, which) for which, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    products = sum(layer.weight.numel() * enlarged.get(which, 1) for layer, which in layers)
    products /= 1 if network.luma else 16  # SRCNN works on the enlarged picture, the others on the small one
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{name}: {weights:,} weights, {products:,.0f} products a pixel of the result")

# %% [markdown]
# **Fold what was only for training.** A convolution is linear, so the sum of several side by side is *one* convolution.
# A 3×3, a 1×1 and the identity learn better together than a 3×3 alone (RepVGG, Ding et al., 2021). What ships is a
# single 3×3. **Now you.**


# %%
def folded(weight3, bias3, weight1, bias1):
    """Weights (C, C, 3, 3) and (C, C, 1, 1) and their biases (C,) → (weight, bias) of one 3×3 convolution.

    It must give conv3(x) + conv1(x) + x. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


folded = check("13c", folded)

# %%
three, one = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 16, 1)
features = torch.rand(1, 16, 40, 40, generator=seed())
with torch.no_grad():
    branches = three(features) + one(features) + features
    weight, bias = folded(three.weight, three.bias, one.weight, one.bias)
    print(f"folded: {(F.conv2d(features, weight, bias, padding=1) - branches).abs().max():.1e} apart")

# %% [markdown]
# Two convolutions one after the other fold as well, if nothing stands between them. A 1×1 that widens and a 3×3 that
# narrows again become `einsum("omyx,mi->oiyx", three, one)` of their weights. ECBSR (Zhang et al., 2021), made for
# phones, trains such a pair beside its 3×3, and fixed edge filters too.
#
# **Eight bits a weight.** Each weight becomes a whole number $q$ from −127 to 127, each filter gets a step $s$, and
# $w \approx s\,q$. That is a quarter of the memory, and phones have fast units for it. **Now you.**


# %%
def to_8_bits(weight):
    """(o, i, k, k) → (whole numbers of type torch.int8, the same shape; steps (o, 1, 1, 1)): weight ≈ steps · numbers.

    The largest weight of each filter becomes ±127. Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


to_8_bits = check("13d", to_8_bits)

# %% [markdown]
# **Predict before you run.** With 8, 6, 5, 4 and 3 bits a weight: which is the largest number of bits that costs more
# than half a decibel?

# %%
predict("13.2", None)

# %%
BITS = (8, 6, 5, 4, 3)
versions = {32: exact}
for bits in BITS:
    rounded = copy.deepcopy(rrdb)
    for layer in rounded.modules():
        if isinstance(layer, nn.Conv2d):
            numbers, steps = to_8_bits(layer.weight.detach())
            coarser = 127 / (2 ** (bits - 1) - 1)  # with fewer bits the steps are larger; with eight this is 1
            exact_numbers = numbers if bits == 8 else layer.weight / steps
            layer.weight.copy_((exact_numbers / coarser).round() * coarser * steps)
    versions[bits] = rounded(low)
lost = {bits: psnr(exact, high, 4).item() - psnr(versions[bits], high, 4).item() for bits in BITS}
outcome("13.2", next(bits for bits in BITS if lost[bits] > 0.5))
show_pictures([
    (f"{bits} bits\n{psnr(restored, high, 4).item():.2f} dB", restored[..., 60:124, 24:88])
    for bits, restored in versions.items()
])  # fmt: skip

# %% [markdown]
# Eight bits cost nothing. With four the colours are wrong, and three destroy the picture. Here only weights are
# rounded. To *compute* in eight bits, the features must be rounded too, and their range must first be measured on
# pictures.
#
# SRCNN minds more. Three that we trained for 200 steps, as in lesson 3, lost 0.2 to 0.4 dB by eight bits. In each layer
# one weight of about 1 hands the picture through, and the step that suits it is coarse for its neighbours.

# %% [markdown]
# ## Recap
#
# ![A cat in tiles: seams without a margin, none with eight pixels](pictures/13_into_use.png)
#
# - A margin as wide as the receptive field reaches makes tiles exact. Networks look less far than they can see.
# - Measure what a lower precision costs, in levels and dB.
# - Count operations and bytes before you measure, and do not trust operations alone.
# - Equal shares: the mean of the gradients is the gradient of the mean.
# - Few channels, folded branches, eight bits: that is a network for a phone.
#
# Next: [lesson 14](14_bug_museum.py), ten mistakes that run.
