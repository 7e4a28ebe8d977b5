# %% [markdown]
# # 5. Upsampling inside the network
#
# **Goal.** Let the network enlarge the picture itself, in three ways, and see which of them leaves **checkerboard
# artifacts**. Then let it learn only what is missing.
#
# **You will see:** three ways to enlarge, of which not all give a flat picture for a flat one; and how much sooner a
# network learns that need not make the whole picture.
#
# Takes a minute on one core. You bring from [lesson 4](04_honest_training.py): held-out photographs and curves.

# %%
import math

from checks import check, hint
from course import FAST, crop, photograph, photograph_pairs, promise, seed, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from engine.data import sample_batch
from engine.training import validate
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.images import from_bytes

# %% [markdown]
# ## The idea
#
# SRCNN computes on the enlarged picture. A network can also compute on the small one and enlarge at its end: the same
# work on $s^2$ times fewer pixels ($s$: the scale). Its last layers must then make $s \times s$ pixels out of one:
#
# - **Transposed convolution**: every small pixel stamps a filter onto the large picture; stamps overlap and add up.
# - **Pixel shuffle**: $s^2$ channels become one channel of $s \times s$ squares.
# - **Nearest + convolution**: repeat every pixel, then convolve.
#
# Most of the large picture is known already. So let the network learn only the rest, the **residual**:
#
# $$R = f(x) + \mathrm{up}(x)$$
#
# - $x$: the small picture; $\mathrm{up}$: a plain enlargement; $f$: the network; $R$: the restored picture

# %% [markdown]
# ## Pixel shuffle by hand
#
# Four channels of one pixel become one channel of 2×2: the first two make the upper row. The order of the axes is
# everything. **Now you.**


# %%
def shuffle(x, scale):
    """(N, C·scale², H, W) → (N, C, scale·H, scale·W) as F.pixel_shuffle does, by `view` and `permute`, without a loop.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


shuffle = check("05a", shuffle)

# %%
print(shuffle(torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1), 2))
several = torch.rand(2, 12, 3, 5)
print("as PyTorch's:", torch.equal(shuffle(several, 2), F.pixel_shuffle(several, 2)))

# %% [markdown]
# ## Checkerboard artifacts
#
# **Predict before you run.** We send a flat grey picture through three untrained upsamplers: "transposed 3, stride 2"
# (a filter of 3×3 pixels, stamped every 2 pixels), "pixel shuffle" and "nearest + convolution". Which of them give back
# a flat picture?

# %%
predict("05", None)

# %% [markdown]
# **Now you.** Count the stamps of the first one, in one dimension. How many does each place get?


# %%
def stamps(length, kernel, stride):
    """How many of `length` pixels reach each pixel that a transposed convolution gives; no padding, one dimension.

    A tensor of (length − 1)·stride + kernel counts. Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


stamps = check("05b", stamps)

# %%
print(stamps(8, 3, 2))

# %% [markdown]
# One, two, one, two: no flat picture, even with the same number everywhere in the filter. In two dimensions the counts
# multiply: 1, 2 and 4. Now all three:

# %% tags=["cover"]
torch.manual_seed(0)
FEATURES = 24
upsamplers = {
    "transposed 3, stride 2": lambda: nn.ConvTranspose2d(FEATURES, FEATURES, 3, 2, 1, output_padding=1),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(FEATURES, 4 * FEATURES, 3, padding=1), nn.PixelShuffle(2)),
    "nearest + convolution": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
    ),
}
flat = torch.full((1, FEATURES, 24, 24), 0.5)
line = torch.as_tensor(stamps(8, 3, 2)).float()
counts = torch.outer(line, line)[None, None, 1:-1, 1:-1]
real = F.conv_transpose2d(torch.ones(1, 1, 8, 8), torch.ones(1, 1, 3, 3), stride=2)[..., 1:-1, 1:-1]
print("stamps as PyTorch lays them:", torch.equal(counts, real))
swing = {}
panels = [("stamps of 3, stride 2: dark 1, white 4", counts / 4)]
for name, make in upsamplers.items():
    with torch.no_grad():
        large = make()(flat)[:, :1, 16:32, 16:32]
    panels.append((name, 0.5 + 2 * (large - large.mean())))
    swing[name] = large.std().item()
show_pictures(panels)
outcome("05", " and ".join(name for name, value in swing.items() if value < 1e-5))

# %% [markdown]
# Only nearest + convolution is flat by construction: equal pixels meet equal weights. The patterns of the other two are
# **checkerboard artifacts** (Odena et al., 2016). Training can remove them, and mostly does. But a trace may stay,
# above all under a loss that likes texture. ESRGAN uses nearest + convolution. Pixel shuffle is the fastest (Shi et
# al., 2016, as "sub-pixel convolution"); Real-ESRGAN's small network uses it.
#
# A pixel shuffle need not begin with a pattern. **Now you.** With which weights does it start flat?


# %%
def flat_start(weight, scale):
    """(C, inputs, 3, 3) → the weight (C·scale², inputs, 3, 3) of the convolution before a pixel shuffle, such that
    convolution + shuffle starts without a pattern: like `weight` followed by nearest enlargement.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


flat_start = check("05c", flat_start)

# %%
with torch.no_grad():
    quiet = upsamplers["pixel shuffle"]()
    quiet[0].weight.copy_(flat_start(quiet[0].weight[:FEATURES], 2))
    quiet[0].bias.zero_()
    large = quiet(flat)[:, :1, 16:32, 16:32]
print(f"pixel shuffle swings by {swing['pixel shuffle']:.3f}, with equal filters in each square by {large.std():.0e}")

# %% [markdown]
# A start with equal filters in each square is called **ICNR** (Aitken et al., 2017).
#
# ## The same small network, three times
#
# We train one small network with each of the three upsamplers. It learns the residual: `up` is nearest enlargement.

# %%
training, held_out = photograph_pairs(2, enlarge=False)
STEPS = 20 if FAST else 300
LEARNING_RATE = 1e-3  # at the start; it falls to zero, so that the end does not hang on the last few patches


class Small(nn.Module):
    """Three convolutions on the small picture, one upsampler, one convolution: ×2, RGB."""

    # What every network here offers: see Network in engine/networks.py.
    luma = False
    scale = 2
    radius = margin = 8
    tile = 256
    fold = 1

    def __init__(self, upsampler, residual):
        super().__init__()
        self.residual = residual
        self.body = nn.Sequential(
            nn.Conv2d(3, FEATURES, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(FEATURES, FEATURES, 3, padding=1),
            nn.LeakyReLU(0.2),
            upsampler,
            nn.LeakyReLU(0.2),
            nn.Conv2d(FEATURES, 3, 3, padding=1),
        )

    def forward(self, low):
        restored = self.body(low)
        return restored + F.interpolate(low, scale_factor=2) if self.residual else restored


def train(network):
    """L1 on random patches; the held-out PSNR after every tenth of the steps."""
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    )
    generator = seed()
    curve = []
    for step in range(STEPS):
        chosen = [training[i] for i in torch.randint(len(training), (8,), generator=generator).tolist()]
        low, high = map(from_bytes, sample_batch(chosen, 24, generator))
        loss = F.l1_loss(network(low), high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % (STEPS // 10) == 0:
            curve.append(validate(network, held_out, 2))
    return curve


networks = {}
for name, make in upsamplers.items():
    torch.manual_seed(1)
    networks[name] = Small(make(), residual=True)
    print(f"{name}: {train(networks[name])[-1]:.2f} dB")

# %%
low = crop(photograph("coffee.png"), 20, 400, 24)
panels = []
for name, network in networks.items():
    with torch.no_grad():
        restored = network(low)
    panels.append((name, (0.5 + 8 * (restored - F.avg_pool2d(restored, 3, 1, 1, count_include_pad=False))).clamp(0, 1)))
show_pictures([("small picture", low), *panels])

# %% [markdown]
# This is the finest detail of a smooth part of the picture, eight times as strong. After so short a training all three
# are close in dB. PSNR does not show the artifacts; a picture may: look for thin stripes and checks.
#
# ## Residual learning
#
# **Predict before you run.** The same network must now make the whole picture: nothing is added to what it gives. By
# how many dB is it behind after 30 steps? And after 300?

# %%
predict("05.2", None)
predict("05.3", None)

# %%
curves = {}
for name, residual in (("residual", True), ("whole picture", False)):
    torch.manual_seed(1)
    curves[name] = train(Small(upsamplers["nearest + convolution"](), residual))
plt.figure(figsize=(6.2, 3.4))
for name, curve in curves.items():
    plt.plot([STEPS * part / 10 for part in range(1, 11)], curve, marker=".", label=name)
plt.gca().set(xlabel="step", ylabel="held-out PSNR (dB)", title="What is left to learn")
plt.legend()
show()
lead = [one - other for one, other in zip(curves["residual"], curves["whole picture"], strict=True)]
outcome("05.2", lead[0])
outcome("05.3", lead[-1])
promise("after 300 steps the residual is ahead by, in dB", lead[-1], 4.0, 0.5)

# %% [markdown]
# Promised: 4.0 ± 0.5 dB. At first the lead is larger still: to learn the whole picture is to learn first what is
# known already.
#
# ## The real modules
#
# `SRVGGNetCompact` is this lesson's idea and nothing more: convolutions on the small picture, pixel shuffle, plus the
# nearest enlargement. **Now you.**


# %%
def residual_forward(body, low, scale):
    """What SRVGGNetCompact gives; `body` turns (N, 3, H, W) into (N, 3·scale², H, W).

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


residual_forward = check("05d", residual_forward)

# %% [markdown]
# `RRDBNet` enlarges twice by nearest + convolution. Its residual lies around its deep part, which
# is the next lesson.

# %%
real = SRVGGNetCompact(scale=2, features=8, convolutions=1)
with torch.no_grad():
    by_parts = residual_forward(real.body, low, 2)
    print("largest difference:", (real(low) - by_parts).abs().max().item())
print([name for name, _ in RRDBNet(4).named_children()])


# %% [markdown]
# ## Recap
#
# ![A flat grey input through three kinds of upsampling, before training](pictures/05_upsampling.png)
#
# - Computing on the small picture saves $s^2$ times the work.
# - Transposed convolutions stamp unevenly where the stride does not divide the filter: checkerboard artifacts.
# - Nearest + convolution never has them.
# - Pixel shuffle only moves numbers.
# - What is known already need not be learnt: add the enlarged input.
#
# Next: [lesson 6](06_rrdb.py), a network that is deep.
