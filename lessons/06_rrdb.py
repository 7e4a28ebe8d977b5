# %% [markdown]
# # 6. RRDB: going deep
#
# **Goal.** Build the block that ESRGAN's generator is made of, and break each of its safety devices to see what it is
# for.
#
# **You will see:** what becomes of the signal on its way through 23 blocks, with two safety devices and without them.
#
# Takes a minute and a half on one core. You bring from [lesson 5](05_upsampling.py): residuals and upsampling.

# %%
import math
from unittest.mock import patch

from checks import check, hint
from course import FAST, photograph_pairs, promise, seed, show
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import esrgan
from engine.data import sample_batch
from engine.optimizers import Muon
from esrgan import RRDB, DenseBlock, RRDBNet
from imaging.images import from_bytes

# %% [markdown]
# ## The idea
#
# A **dense block** has five convolutions. Each sees $x$ and the outputs of all before it, **concatenated** along the
# channels, $[\cdot,\cdot]$:
#
# $$k_1 = [x, a(c_1 x)],\quad k_{i} = [k_{i-1}, a(c_i k_{i-1})],\quad \mathrm{out} = x + \beta\, c_5 k_4$$
#
# - $x$: the features that come in, 64 channels in the paper
# - $c_i$: convolutions of 3×3; the first four add `growth` channels each, 32 in the paper
# - $a$: the **leaky ReLU**: values below zero are multiplied by 0.2
# - $\beta = 0.2$: the **residual scaling**
#
# An **RRDB** is three dense blocks in a row with the same scaled shortcut around them: a residual in a residual. The
# published generator has 23 of them: 351 convolutions, 345 of them one after the other in its body.

# %% [markdown]
# ## A dense block by hand
#
# **Now you.** First the sizes, then the block.


# %%
def dense_inputs(features, growth):
    """How many channels each of the five convolutions of a dense block takes in, a list.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


dense_inputs = check("06a", dense_inputs)


# %%
def dense_block(x, convolutions, beta):
    """(N, features, H, W) and the five convolutions, callable → what the dense block gives.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


dense_block = check("06b", dense_block)

# %%
FEATURES, GROWTH = 16, 8
outputs = [GROWTH] * 4 + [FEATURES]
convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in zip(dense_inputs(FEATURES, GROWTH), outputs, strict=True)]
real = DenseBlock(FEATURES, GROWTH)
for own, original in zip(convolutions, real.children(), strict=True):
    own.load_state_dict(original.state_dict())
x = torch.randn(1, FEATURES, 20, 20, generator=seed())
print("largest difference from esrgan.DenseBlock:", (dense_block(x, convolutions, 0.2) - real(x)).abs().max().item())

# %%
import diagrams

diagrams.draw_dense_block(DenseBlock(64, 32))  # the paper's
show()
diagrams.draw_rrdb(RRDB(64, 32))
show()
diagrams.draw_rrdbnet(RRDBNet(scale=4, features=64, growth=32, blocks=23))
show()

# %%
parts = ["x", "1", "2", "3", "4"]
widths = torch.tensor([FEATURES] + 4 * [GROWTH])
plt.figure(figsize=(5.4, 2.6))
for number in range(5):
    for part in range(number + 1):
        left = int(widths[:part].sum())
        plt.barh(number + 1, widths[part] - 0.4, left=left, color=f"C{part}")
        plt.text(left + widths[part] / 2 - 0.2, number + 1, parts[part], ha="center", va="center", color="white")
plt.gca().invert_yaxis()
plt.gca().set(xlabel="channel", ylabel="convolution", title="What each convolution sees: x and all outputs so far")
show()

# %% [markdown]
# **Now you.** Three of them, with a shortcut around; and how many weights that takes.


# %%
def residual_in_residual(x, blocks, beta):
    """x and three dense blocks, callable → what the RRDB around them gives.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


residual_in_residual = check("06c", residual_in_residual)


# %%
def weights_of_rrdb(features, growth):
    """How many weights one RRDB has, biases included, by a formula of your own.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


weights_of_rrdb = check("06d", weights_of_rrdb)

# %%
real = RRDB(FEATURES, GROWTH)
apart = (residual_in_residual(x, list(real.children()), 0.2) - real(x)).abs().max().item()
print("largest difference from esrgan.RRDB:", apart)
print("weights of the paper's RRDB:", weights_of_rrdb(64, 32), "counted in esrgan.RRDB:", end=" ")
print(sum(parameter.numel() for parameter in RRDB(64, 32).parameters()))

# %% [markdown]
# ## Two safety devices
#
# **Small initialisation**: the weights start ten times smaller than **He's initialisation** says (He et al., 2015).
# That rule keeps the strength of a signal from layer to layer when nothing is added. Here every block adds something.
#
# Where its $\sqrt{2/n}$ comes from: an output $y = \sum_i w_i x_i$ of $n$ inputs, with independent weights of mean 0,
# has
#
# $$\mathbf{E}\,y^2 = n\,\mathrm{Var}(w)\,\mathbf{E}\,x^2,\qquad \mathbf{E}\max(0,y)^2 = \tfrac12\,\mathbf{E}\,y^2$$
#
# - $n$: the inputs of one output, 9 · channels for a 3×3
#
# The second holds because $y$ is as often negative as positive, and the ReLU keeps one half. So the strength stays if
# $n\,\mathrm{Var}(w) = 2$: a deviation of $\sqrt{2/n}$, with a $\sqrt 2$ for the ReLU.
#
# **Residual scaling**: only a fifth of what a block computes is added.
#
# **Predict before you run.** With neither of them, by which power of ten is the signal stronger after 23 blocks (3 for
# a thousand times)? And with which of the two left out alone is it stronger, "small initialisation" or
# "residual scaling"?

# %%
predict("06", None)
predict("06.1", None)


# %%
def strength_along(initialisation, beta):
    """The standard deviation of the features after each of 23 RRDBs, before any training."""
    torch.manual_seed(0)
    x = torch.randn(1, FEATURES, 16, 16)
    strengths = []
    with torch.no_grad(), patch.object(esrgan, "RESIDUAL_SCALING", beta):
        for _ in range(23):
            block = RRDB(FEATURES, GROWTH)
            for parameter in block.parameters():
                parameter *= initialisation / 0.1  # esrgan.py has multiplied by 0.1 already
            x = block(x)
            strengths.append(x.std().item())
    return strengths


# %% tags=["cover"]
kinds = {
    "as published": (0.1, 0.2),
    "no residual scaling": (0.1, 1.0),
    "no small initialisation": (1.0, 0.2),
    "neither": (1.0, 1.0),
}
strengths = {name: strength_along(*settings) for name, settings in kinds.items()}
plt.figure(figsize=(6.4, 3.4))
for (name, values), style in zip(strengths.items(), ("-", "-", "--", "-"), strict=True):
    plt.semilogy(range(1, 24), values, style, marker=".", label=name)
plt.gca().set(xlabel="block", ylabel="standard deviation", title="The signal on its way, before training")
plt.legend()
show()
power = math.log10(strengths["neither"][-1])
outcome("06", power)
left_out = {name: strengths[f"no {name}"][-1] for name in ("small initialisation", "residual scaling")}
outcome("06.1", max(left_out, key=left_out.get))
promise("without both it grows by 10 to the power of", power, 16, 3)

# %% [markdown]
# Promised: 10 to the power of 16 ± 3. Even as published the signal grows, 1.2 times in a block: the three inner blocks
# hand x on, and a fifth of that is added to x again. 1.2²³ is 66, which does no harm. Without the scaling every block
# gives x + x, and 2²³ is eight million. With the scaling, a large initialisation alone does little. With both devices
# gone, each makes the other worse.
#
# What the blocks add beyond x is small at first. So a deep network starts as little more than its shortcuts, and every
# block can learn a small correction.
#
# ## Break each one
#
# Now the same in training. Lesson 4 has the quickest test there is: can the network overfit one small batch? We train
# four kinds of it, with four blocks each:
#
# - **as published**: both safety devices;
# - **small initialisation everywhere**: the convolutions before and after the blocks start ten times smaller, too;
# - **batch norm**: after every convolution of the blocks stands a layer that shifts and scales every channel by the
#   mean and the standard deviation of the batch; after training, by averages of those. It made deep classifiers
#   trainable;
# - **neither**: no safety device.
#
# **Predict before you run.** Which of the four has the least loss after eighty steps: "as published", "small
# initialisation everywhere", "batch norm" or "neither"? Then: which of them restores a patch differently when it comes
# alone, without the others of its batch?
#
# (`patch.object` of Python's unittest replaces a constant of esrgan.py for a while, here β.)

# %%
predict("06.2", None)
predict("06.3", None)

# %%
training, _ = photograph_pairs(2, enlarge=False)
low, high = map(from_bytes, sample_batch(training[:4], 24, seed(3)))
STEPS = 8 if FAST else 80


def network_of(kind):
    torch.manual_seed(0)
    network = RRDBNet(scale=2, features=FEATURES, growth=GROWTH, blocks=4)
    with torch.no_grad():
        if kind == "neither":
            for parameter in network.body.parameters():
                parameter *= 10
        if kind == "small initialisation everywhere":
            for layer in (network.conv_first, network.conv_body, network.conv_up1, network.conv_hr, network.conv_last):
                layer.weight *= 0.1
    if kind == "batch norm":
        for block in network.body.modules():
            if isinstance(block, DenseBlock):
                for name, conv in list(block.named_children()):
                    setattr(block, name, nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels)))
    return network


def overfit(kind, optimizer_of=lambda network: torch.optim.Adam(network.parameters(), 1e-3)):
    """The L1 loss at every step on the same batch; then how many levels a patch changes when it comes alone."""
    network = network_of(kind)
    optimizer = optimizer_of(network)
    losses = []
    with patch.object(esrgan, "RESIDUAL_SCALING", 1.0 if kind == "neither" else 0.2):
        for _ in range(STEPS):
            loss = F.l1_loss(network(low), high)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        with torch.no_grad():
            return losses, 255 * (network(low)[:1] - network(low[:1])).abs().mean().item()


kinds = ("as published", "small initialisation everywhere", "batch norm", "neither")
last, changes = {}, {}
plt.figure(figsize=(6.4, 3.6))
for kind in kinds:
    losses, changes[kind] = overfit(kind)
    last[kind] = losses[-1]
    plt.semilogy(range(1, STEPS + 1), losses, label=kind)
    print(
        f"{kind}: {losses[0]:.2f} at first, {losses[-1]:.3f} at the end; a patch alone differs by {changes[kind]:.1f}"
    )
plt.gca().set(xlabel="step", ylabel="L1 on the batch", title="Overfitting one batch")
plt.legend()
show()
outcome("06.2", min(last, key=last.get))
outcome("06.3", max(changes, key=changes.get))

# %% [markdown]
# - **Neither**: the signal of the first step is so large that training spends its time bringing it down.
# - **Small initialisation everywhere**, first and last convolution included: the picture itself hardly gets through
#   at first. The authors' code, and ours, shrink only the convolutions *inside the blocks*.
# - **Batch norm** learns this batch fastest. Its fault is another one: the same patch is restored differently in other
#   company, by 7 of 255 levels in our run. To a network that must give exact brightness, that is noise. After training,
#   averages stand in for the batch, and a picture unlike them comes out with blotches. So ESRGAN's authors left it out.
#
# ## Every direction alike
#
# Adam made every step so far. Read the gradient of a convolution as a matrix, one row for each output channel. Its
# **singular values** say how far a step along it changes the layer in each direction.

# %%
network = network_of("as published")
F.l1_loss(network(low), high).backward()
lengths = torch.linalg.svdvals(network.body[1].rdb2.conv3.weight.grad.flatten(1))
print("singular values, of the largest:", *(f"{length:.3f}" for length in lengths / lengths[0]))

# %% [markdown]
# What lies in the short directions is learnt slowly. **Muon** (Jordan et al., 2024) takes a gradient $USV^\top$ and
# steps along $UV^\top$: the same directions, all of one length. [`engine/optimizers.py`](../engine/optimizers.py) finds
# it by a few products of matrices.
#
# **Predict before you run.** Both optimisers take steps of about the same length here. Which one is ahead after eighty,
# "Adam" or "Muon"?

# %%
predict("06.4", None)

# %%
LEARNING_RATE = 3e-3
last = {}
optimizers = {
    "Adam": lambda network: torch.optim.Adam(network.parameters(), LEARNING_RATE),
    "Muon": lambda network: Muon(network, lr=LEARNING_RATE),
}
plt.figure(figsize=(6.4, 3.4))
for name, optimizer_of in optimizers.items():
    losses, _ = overfit("as published", optimizer_of)
    last[name] = losses[-1]
    plt.semilogy(range(1, STEPS + 1), losses, label=name)
    print(f"{name}: {losses[-1]:.4f} at the end")
plt.gca().set(xlabel="step", ylabel="L1 on the batch", title="The same network, two optimisers")
plt.legend()
show()
outcome("06.4", min(last, key=last.get))

# %% [markdown]
# On many photographs the lead is larger. In 300 updates, the RRDB that this project trains reached 30.2 dB on held-out
# photographs by Muon, and 29.2 to 29.6 dB by Adam at two learning rates.

# %% [markdown]
# ## Recap
#
# ![How strong the signal is after each of 23 blocks, for four kinds of network](pictures/06_rrdb.png)
#
# - Dense: every convolution sees all that is known. Residual in residual: a shortcut inside, and a shortcut around.
# - Start small inside the blocks, and add only a fifth. Then depth is no danger.
# - No batch norm where exact values matter.
# - Steps that change every direction alike learn faster.
#
# Next: [lesson 7](07_blur.py), the best picture by PSNR, and why it is blurred.
