# %% [markdown]
# # 3. SRCNN: three layers
#
# **Goal.** Build the first network for super-resolution (Dong et al., 2014), train it and beat bicubic.
#
# ![A held-out photograph: bicubic, SRCNN, the ground truth](pictures/03_srcnn.png)
#
# **You will see:** after a minute of training, photographs that the network has never seen come out 2.25 ± 0.15 dB
# better than by bicubic interpolation. How it gets there is for you to predict.
#
# Takes about two minutes on one core. You bring from [lesson 2](02_bicubic.py): how the degraded picture is made.

# %%
import math

from checks import check, hint
from course import FAST, crop, photograph, promise, seed, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
from torch import nn

import degrade
from engine.data import Pair, center_crop, make_pair, sample_batch
from engine.optimizers import AdamFromGrey
from engine.upscaling import upscale
from gen_samples import FREE_PHOTOGRAPHS
from imaging.images import from_bytes, psnr, resize, rgb_to_luma
from srcnn import SRCNN

# %% [markdown]
# ## The idea
#
# Enlarge by bicubic first. Then let three **convolutions** restore the luma. A convolution slides small filters over
# the picture; each gives one **feature** map.
#
# $$F_1=\max(0,W_1*Y+b_1),\quad F_2=\max(0,W_2*F_1+b_2),\quad R=W_3*F_2+b_3$$
#
# - $Y$: the enlarged luma; $R$: the restored one
# - $W_1$: 64 filters of 9×9, "which patterns are here?"
# - $W_2$: 32 filters of 5×5 (1×1 in the first paper), "what would they look like when sharp?"
# - $W_3$: one filter of 5×5, which averages the overlapping answers
# - $b$: one number for each filter, its bias; $*$: convolution; $\max(0,\cdot)$: the ReLU
#
# Colour stays bicubic. The weights $W$ and $b$ are found by **gradient descent**: compare $R$ with the ground truth,
# and change every weight a little in the direction that makes the squared difference smaller.

# %% [markdown]
# A **valid** convolution gives an output only where its filter fits, so the picture becomes smaller. We train with
# those. **Now you.** Three convolutions, as above.


# %%
def build_srcnn(kernels):
    """Sides of the three filters, such as (9, 5, 5) → SRCNN as an nn.Module, (N, 1, H, W) → a smaller (N, 1, h, w).

    64 and 32 features, valid convolutions.
    Difficulty 1 of 3, 10 minutes.
    """
    raise NotImplementedError


build_srcnn = check("03b", build_srcnn)

# %%
by_hand = build_srcnn((9, 5, 5))
print("weights and biases:", sum(parameter.numel() for parameter in by_hand.parameters()))
print("33×33 pixels become", tuple(by_hand(torch.zeros(1, 1, 33, 33)).shape[-2:]))

# %% [markdown]
# 57,281 numbers to learn: 57,184 weights, which the paper counts, and 97 biases.
#
# The pixels that one output pixel depends on are its **receptive field**. How far it reaches to each side is its
# radius, and so many pixels the picture loses on each side. **Now you.**


# %%
def receptive_radius(kernels):
    """Sides of the filters, such as (9, 5, 5) → how many pixels the receptive field reaches in each direction.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


receptive_radius = check("03a", receptive_radius)

# %% [markdown]
# A gradient measures it: which input pixels move the one in the middle?

# %%
picture = torch.rand(1, 1, 33, 33, generator=seed(), requires_grad=True)
by_hand(picture)[0, 0, 8, 8].backward()
plt.figure(figsize=(3.4, 3.2))
plt.imshow(picture.grad[0, 0].abs(), cmap="magma")
plt.title("receptive field of the middle pixel")
show()
rows = (picture.grad[0, 0] != 0).any(dim=1).sum().item()
print(f"measured radius {(rows - 1) // 2}, by your function {receptive_radius((9, 5, 5))}")

# %% [markdown]
# The real module, `SRCNN` in `srcnn.py`, has the same three layers. With the same weights it gives the same pixels. Its
# `forward_valid` is the network above. Its `forward` replicates the border first, so that the picture keeps its size.

# %%
real = SRCNN((9, 5, 5))
real.load_state_dict(dict(zip(real.state_dict(), by_hand.state_dict().values(), strict=True)))
luma = torch.rand(1, 1, 40, 40, generator=seed())
print("largest difference:", (real.forward_valid(luma) - by_hand(luma)).abs().max().item())

# %%
import diagrams

diagrams.draw_chain(real)  # drawn from the module's own layers
show()

# %% [markdown]
# ## Photographs
#
# A **pair** is a photograph and a copy of it that was shrunk and enlarged again. `make_pair` makes both and keeps them
# as bytes; `Pair` holds them with the photograph's name, and its `pictures()` gives them back as tensors (1, 3, H, W)
# from 0 to 1. `center_crop` cuts the middle of both, `sample_batch` the same random patches of both. Two photographs
# are **held out**: the network never trains on them, and only they are measured. Why that matters is the next lesson.

# %%
SCALE = 2
HELD_OUT = ("astronaut.png", "coffee.png")
pairs = [Pair(*make_pair(photograph(name), SCALE, enlarge=True), name) for name in FREE_PHOTOGRAPHS]
training = [pair for pair in pairs if pair.photograph not in HELD_OUT]
held_out = [center_crop(pair, 192) for pair in pairs if pair.photograph in HELD_OUT]


@torch.inference_mode()
def quality(network):
    """Mean PSNR in dB of the held-out photographs; of bicubic if there is no network."""
    total = 0
    for pair in held_out:
        low, high = (rgb_to_luma(picture) for picture in pair.pictures())
        total += psnr(network(low) if network else low, high, SCALE).item()
    return total / len(held_out)


print(f"bicubic {quality(None):.2f} dB")

# %% [markdown]
# ## Training
#
# At every step: cut random patches, restore them, measure the mean squared difference, go one step downhill. Patches
# lose 8 pixels a side, so the target is cut to match. The loop in `engine/training.py` does the same and more.
#
# The optimiser is Adam, which adapts the step to each weight. Ours, `AdamFromGrey` in `engine/optimizers.py`, does the
# same for the differences from an even grey. Pixels are all positive, and their mean would drown what a filter should
# learn, the structure.
#
# The **learning rate** is the length of a step. It rises for 100 steps, then falls to zero along half a cosine. With
# long steps at once, some features would drop below zero, where their ReLU cuts them for ever.
#
# We train twice. One network starts from PyTorch's random weights. The other starts as `SRCNN` does: its first filters
# hand the picture through, so it begins as bicubic.
#
# **Predict before you run.** What PSNR, in dB, has the network of random weights before its first step? (Bicubic's is
# printed above.) And which of the two starts leads at the end, "random" or "bicubic"?

# %%
predict("03", None)
predict("03.2", None)

# %% [markdown]
# **Now you.** The loss. Of a network that loses a border, only the middle of the target can be compared.


# %%
def valid_loss(network, low, high):
    """The mean squared error of network(low) against the part of `high` that it shows.

    network(low) is smaller than `high`: a border is missing on every side. Compute it from the shapes; it may be 0.
    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


valid_loss = check("03c", valid_loss)

# %%
STEPS = 20 if FAST else 900


def train(network):
    """Train on luma; the held-out PSNR after every tenth of the steps."""
    optimizer = AdamFromGrey(network, lr=1e-3, betas=(0.9, 0.99))  # PyTorch's name for the learning rate
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    )
    generator = seed()
    curve = [quality(network)]
    for step in range(STEPS):
        chosen = torch.randint(len(training), (16,), generator=generator).tolist()
        batch = sample_batch([training[index] for index in chosen], 33, generator)
        low, high = (rgb_to_luma(from_bytes(part)) for part in batch)
        loss = valid_loss(network.forward_valid, low, high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % (STEPS // 10) == 0:
            curve.append(quality(network))
    return curve


torch.manual_seed(0)
from_noise = SRCNN()
from_bicubic = SRCNN()
for layer in (from_noise.extract, from_noise.map, from_noise.reconstruct):
    layer.reset_parameters()
untrained_filters = from_noise.extract.weight.detach().clone()
curves = {"from random weights": train(from_noise), "from bicubic": train(from_bicubic)}

# %%
plt.figure(figsize=(6, 3.4))
for name, curve in curves.items():
    plt.plot([STEPS * part / 10 for part in range(len(curve))], curve, marker=".", label=name)
plt.axhline(quality(None), color="grey", linestyle="--", label="bicubic")
plt.gca().set(ylim=(quality(None) - 1, None), xlabel="step", ylabel="held-out PSNR (dB)", title="Two starts")
plt.legend(loc="center right")  # where no curve is
show()
for name, curve in curves.items():
    print(f"{name}: {curve[0]:.2f} dB before the first step, {curve[-1]:.2f} dB at the end")
outcome("03", curves["from random weights"][0])
outcome("03.2", max(curves, key=lambda name: curves[name][-1]).split()[1])
promise("better than bicubic by, in dB", quality(from_bicubic) - quality(None), 2.25, 0.15)

# %% [markdown]
# Random weights know nothing of pictures. Their start lies far below the plot, and most of the training goes into
# reaching bicubic. The other start is a little *below* bicubic, because its remaining filters begin at random. It still
# leads at the end.
#
# ## Colour
#
# Beside its luma Y, a pixel has two numbers for its colour, Cb and Cr: the **chroma**. Only luma goes through the
# network; the chroma stays bicubic. **Now you.**


# %%
def upscale_colour(network, low, scale):
    """(1, 3, h, w) RGB → (1, 3, scale·h, scale·w) in 0..1: luma through the network, chroma by bicubic.

    `network` takes enlarged luma and keeps its size. Import `rgb_to_ycbcr` and `ycbcr_to_rgb` from imaging.images:
    channel 0 is the luma.
    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


upscale_colour = check("03d", upscale_colour)

# %% tags=["cover"]
high = crop(photograph("astronaut.png"), 30, 170, 88)
low = degrade.bicubic(high, SCALE)
bicubic = resize(low, SCALE).clamp(0, 1)
with torch.no_grad():
    restored = upscale_colour(from_bicubic, low, SCALE)
show_pictures(
    [
        (f"bicubic ×2, {psnr(bicubic, high, SCALE).item():.2f} dB", bicubic),
        (f"SRCNN, {psnr(restored, high, SCALE).item():.2f} dB", restored),
        ("ground truth", high),
    ]
)
print("largest difference from upscaling.upscale:", (restored - upscale(from_bicubic, low, SCALE)).abs().max().item())

# %% [markdown]
# ## What the filters learn
#
# Each square is one filter of the first layer, 9×9 weights, each made as strong as fits; grey is zero. This is the run
# from random weights.


# %%
def draw_filters(axis, weights, title):
    strongest = weights.abs().amax(dim=(2, 3), keepdim=True).clamp(min=1e-9)  # a filter may not have changed at all
    sheet = nn.functional.pad(weights / strongest, [1] * 4, value=1)
    axis.imshow(sheet.view(4, 16, 11, 11).permute(0, 2, 1, 3).reshape(44, 176), cmap="gray", vmin=-1, vmax=1)
    axis.set_title(title)
    axis.set_axis_off()


trained_filters = from_noise.extract.weight.detach()
figure, axes = plt.subplots(2, 1, figsize=(8, 4.6))
draw_filters(axes[0], trained_filters, "after training")
draw_filters(axes[1], trained_filters - untrained_filters, "what training has changed")
show()
with torch.inference_mode():
    features = torch.cat([from_noise.extract(rgb_to_luma(pair.pictures()[0])) for pair in held_out])
rarely = ((features > 0).float().mean(dim=(0, 2, 3)) < 0.01).sum().item()
print(f"{rarely} of 64 filters let through less than 1% of the held-out pixels")

# %% [markdown]
# The start from random weights as a film (made by `tools/animate_training.py`): after 400 steps it still lies below
# bicubic, where the other one begins.
#
# ![SRCNN from random weights: a black square becomes a blurred face](pictures/training.gif)
#
# After a minute the filters still look like the noise they began as. What training has *added* has structure: edges
# in one direction, a bright or dark centre, ripples. In the paper, after days, the noise is gone and these remain.
#
# Some squares are nearly black: every weight was pushed down. That can go on until the ReLU gives 0 nearly everywhere.
# A ReLU that gives 0 has no gradient, so such a filter hardly learns any more: it is **dead**. One that is evenly grey
# was dead from the start. Nearly white ones were pushed up: they answer to brightness.

# %% [markdown]
# ## Recap
#
# - SRCNN is three convolutions on enlarged luma. Valid convolutions shrink a patch; cut the target to match.
# - The radius of the receptive field is the sum of the filters' radii.
# - A good start saves time: begin as bicubic, then improve.
# - Measure on held-out photographs, beside bicubic.
#
# The full training is `python main.py train -e 20`.
#
# Next: [lesson 4](04_honest_training.py), why we may believe the number.
