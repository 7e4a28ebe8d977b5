# %% [markdown]
# # 12. Real-ESRGAN
#
# **Goal.** Take apart the four devices that make ESRGAN work on real pictures: a pool of training pairs, sharpened
# targets, a discriminator that speaks about every pixel and cannot be too steep, and averaged weights.
#
# ![Each batch's resize factors: all alike as made, all different from the pool](pictures/12_real_esrgan.png)
#
# **You will see:** mixed by the pool, batches of six swing 2.4 ± 0.3 times less than as they were made.
#
# Takes a quarter of a minute on two cores. You bring from [lesson 11](11_real_pictures.py) the degraded pictures, and from
# [lesson 8](08_discriminators.py) the discriminator.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from checks import check, hint
from course import FAST, crop, photograph, promise, seed, show, show_pictures, trained

import degrade
import esrgan
from engine import networks
from engine.data import PairPool
from engine.settings import Settings
from engine.updates import averaged
from engine.upscaling import upscale
from imaging.images import resize

# %% [markdown]
# ## The idea
#
# Real-ESRGAN is ESRGAN's generator on lesson 11's pictures. First it learns pixels alone (**Real-ESRNet**), then with
# five layers of VGG19 and a new discriminator:
#
# $$L = |R - u(h)| + L_\mathrm{percep}(R, u(h)) + 0.1\,L_G$$
#
# - $R, h$: the restored and the sharp picture; $L_G$: the standard game's loss
# - $u(h)$: $h$ **sharpened**, which the degraded picture is made of too; the discriminator compares with $h$ itself
#
# The **spectral norm** of a layer with the matrix $W$ is the most that it can stretch a vector:
#
# $$\sigma(W) = \max_{|v| = 1} |W v|$$
#
# The discriminator's layers use $W/\sigma(W)$. What is used in the end is not the last weights but their **average** (EMA):
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$$
#
# - $\theta$: the weights after an update; $d$: the decay, 0.999

# %% [markdown]
# ## The pool
#
# A batch is one tensor, so its pictures must have one size. At every resize they share the factor and the mode, and
# the kind of noise too. A batch of strongly shrunk pictures pulls the network one way, the next one back.
#
# So the pairs wait in a **pool** of 180. A new batch goes in and takes the places of others, drawn at random, which
# come out. Here the "picture" is only the factor of the first resize. `data.PairPool` does not mind.
#
# **Predict before you run.** From how many different batches do the six pictures come that leave the pool?


# %%
def factors(count, generator):
    """The factor of the first resize in a batch of second_order, once for each picture of the batch."""
    steps = degrade.sample_second_order((count, 3, 64, 64), 4, generator)
    return torch.full((count, 1, 1, 1), steps[1].parameters["factor"])


pool, generator, made, mixed = PairPool(180), seed(), [], []
for number in range(900):
    new = factors(6, generator)
    old, _ = pool.exchange(new, torch.full_like(new, number), generator)
    if number >= 100:  # by then the pool is full
        made.append(new.flatten())
        mixed.append(old.flatten())
made, mixed = torch.stack(made), torch.stack(mixed)

# %% tags=["cover"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True)
for axis, values, title in zip(axes, (made, mixed), ("as made", "from the pool"), strict=True):
    axis.plot(values[:60], ".", color="tab:blue", alpha=0.6)
    axis.plot(values[:60].mean(dim=1), color="tab:orange", label="mean of the batch")
    axis.set(xlabel="batch", title=f"Six pictures {title}")
axes[0].set(ylabel="factor of the first resize", ylim=(0.1, 1.9))
axes[1].legend(loc="upper right")
show()
promise("so many times less", (made.mean(dim=1).std() / mixed.mean(dim=1).std()).item(), 2.4, 0.3)

# %% [markdown]
# Four times in five from six batches, and otherwise nearly always from five. The mean of six independent values swings
# $\sqrt 6$ times less than one of them.
#
# ## Sharpened targets
#
# **Unsharp masking** (USM) adds what a wide blur takes away, half of it once more. Only where that is more than 10
# levels, so that noise in flat places stays as it is.


# %%
def usm_by_hand(high):
    taps = torch.arange(51.0) - 25
    bell = torch.exp(-(taps**2) / (2 * 8**2))
    bell = bell / bell.sum()

    def blurred(picture):
        padded = F.pad(picture, (25, 25, 25, 25), mode="reflect").transpose(0, 1)  # each colour by itself
        return F.conv2d(F.conv2d(padded, bell.view(1, 1, 51, 1)), bell.view(1, 1, 1, 51)).transpose(0, 1)

    detail = high - blurred(high)
    mask = blurred((255 * detail.abs() > 10).float())
    return high + mask * ((high + 0.5 * detail).clamp(0, 1) - high)


high = crop(photograph("astronaut.png"), 20, 150, 192)
sharpened = degrade.usm_sharpen(high)
print("largest difference from degrade.usm_sharpen:", (usm_by_hand(high) - sharpened).abs().max().item())
added = (0.5 + 4 * (sharpened - high)).clamp(0, 1)
show_pictures([("as it was", high), ("sharpened", sharpened), ("what was added, × 4", added)])

# %% [markdown]
# ## The discriminator: steep, but not too steep
#
# To find $\sigma(W)$ without taking $W$ apart, send a vector through $W$ and back, again and again: the direction that
# is stretched most wins. This is **power iteration**. PyTorch does *one* round at each update and remembers the vector:
# $W$ changes little, so it is never far off.

# %%
torch.manual_seed(0)
layer = nn.utils.spectral_norm(nn.Conv2d(8, 16, 3, bias=False))
matrix = layer.weight_orig.detach().flatten(1)  # one row for each channel that comes out
u, stretches = layer.weight_u.clone(), []
for _ in range(30):
    v = F.normalize(matrix.T @ u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    stretches.append((u @ matrix @ v).item())
    if len(stretches) == 1:
        layer(torch.zeros(1, 8, 3, 3))  # a forward pass: PyTorch's one round
        own = layer.weight_orig / stretches[0]
        print("after one round, largest difference from PyTorch:", (own - layer.weight).abs().max().item())
print(f"σ after 1, 5 and 30 rounds: {stretches[0]:.4f}, {stretches[4]:.4f}, {stretches[29]:.4f}")
print(f"the largest singular value: {torch.linalg.matrix_norm(matrix, 2):.4f}")

# %% [markdown]
# What is it good for? A toy: real "pictures" are numbers around +1, restored ones around −1. The generator's gradient
# is what would push a restored number upwards.
#
# **Predict before you run.** Which discriminator is right more often, the one with spectral norm or the one without? How hard
# does each push?


# %%
def trained_judge(bounded):
    """Three linear layers that have learnt to tell numbers around +1 from numbers around −1."""
    torch.manual_seed(0)
    linear = [nn.Linear(inputs, outputs) for inputs, outputs in ((1, 64), (64, 64), (64, 1))]
    one, two, three = map(nn.utils.spectral_norm, linear) if bounded else linear
    discriminator, generator = nn.Sequential(one, nn.LeakyReLU(0.2), two, nn.LeakyReLU(0.2), three), seed()
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    for _ in range(50 if FAST else 1000):
        real, fake = (side + 0.3 * torch.randn(64, 1, generator=generator) for side in (1, -1))
        loss = esrgan.vanilla_discriminator_loss(discriminator(real), discriminator(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return discriminator.eval()


line = torch.linspace(-1.5, 1.5, 200)[:, None].requires_grad_()
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, bounded in (("spectral norm", True), ("without", False)):
    logits = trained_judge(bounded)(line)
    (slope,) = torch.autograd.grad(logits.sum(), line, retain_graph=True)
    (push,) = torch.autograd.grad(F.softplus(-logits).sum(), line)
    axes[0].plot(line.detach(), logits.detach(), label=name)
    axes[1].plot(line.detach(), -push, label=name)
    print(f"{name}: steepest {slope.max():.2f}; at −1 the generator is pushed by {-push[33, 0]:.4f}")
axes[0].set(xlabel="number", ylabel="C", title="What the discriminator says")
axes[1].set(xlabel="number", ylabel="gradient", title="How hard a generator is pushed upwards")
axes[0].legend()
show()

# %% [markdown]
# Linear layers with σ = 1 and leaky ReLUs cannot stretch anything, so the bounded discriminator is nowhere steeper than 1.
# Both are right about nearly every number. But the free one pushes many times harder, harder with every update, and at
# some places twice as hard as beside them. The weight 0.1 of $L_G$ then means something else at every step. The bounded
# discriminator pushes gently, everywhere. (Of a convolution, the norm of its matrix is a bound but for a factor. The U-Net's
# first and last layer are left free, as published.)
#
# ## The discriminator: pixel by pixel
#
# ESRGAN's discriminator says one number for a whole patch. The U-Net goes down to an eighth of the size, comes up again, and
# says a number for every pixel. On which pixels of the picture does *one* number depend? Its gradient shows it.

# %%
torch.manual_seed(0)
part = crop(high, 40, 60, 64).requires_grad_()
vgg_style, u_net = esrgan.VGGDiscriminator(64, 16, "spectral").eval(), esrgan.UNetDiscriminator(16).eval()
panels = [("a patch", part.detach())]
for name, logits in (
    ("ESRGAN's discriminator", vgg_style(part)),
    ("U-Net, its middle", u_net(part)[..., 32:33, 32:33]),
):
    (seen,) = torch.autograd.grad(logits.sum(), part)
    seen = seen.abs().sum(dim=1, keepdim=True)
    panels.append((f"{name}\ndepends on", (seen / seen.max()).sqrt()))
print("logits of a patch:", tuple(vgg_style(part).shape), "and", tuple(u_net(part).shape))
show_pictures(panels)

# %% [markdown]
# The one discriminators the patch as a whole, the other place by place, each from what lies around it: "this hair is real, that
# cheek is painted". The generator is told *where* to improve.
#
# ## Averaged weights
#
# Near the end of a training the weights tremble around a good place: every batch pulls them elsewhere. Their average
# stands still. `updates.make_ema` follows faster at first, or the untrained weights would count for long:
# $d = \min(0.999, (1+n)/(10+n))$ after $n$ updates.

# %%
weights = nn.Linear(1, 1, bias=False)
follower = averaged(weights, Settings(ema=0.999))
generator, own, paths = seed(), None, []
with torch.no_grad():
    for number in range(3000):
        weights.weight.fill_(1 - 0.998**number).add_(0.3 * torch.randn((), generator=generator))  # learns, and trembles
        follower.update_parameters(weights)
        now = weights.weight.item()
        decay = min(0.999, (1 + number) / (10 + number))
        own = now if own is None else decay * own + (1 - decay) * now
        paths.append((now, own, follower.module.weight.item()))
now, by_hand, real = torch.tensor(paths).T
print("largest difference from updates.make_ema:", (by_hand - real).abs().max().item())
plt.figure(figsize=(6.4, 2.8))
plt.plot(now, linewidth=0.4, label="a weight")
plt.plot(by_hand, label="its average")
plt.gca().set(xlabel="update", title="A weight that learns and trembles")
plt.legend()
show()

# %% [markdown]
# The price of calm: the average is late, by about a thousand updates at $d = 0.999$.
#
# ## Real-ESRGAN at work
#
# Its two stages, beside their sister who knows bicubic alone.

# %%
low = degrade.second_order(high, 4, seed(9))
panels = [("low", low), ("bicubic", resize(low, 4))]
kinds = ("trained on bicubic", "rrdb", "bicubic"), ("Real-ESRNet", "rrdb", "real"), ("Real-ESRGAN", "esrgan", "real")
for name, model, degradation in kinds:
    _, checkpoint = trained(model=model, scale=4, degradation=degradation)
    panels.append((name, upscale(networks.load_network(checkpoint), low, 4)))
show_pictures([(name, picture) for name, picture in [*panels, ("as it was", high)]])

# %% [markdown]
# The sister sharpens the spots. Real-ESRNet smooths them away, and with them what looks like spots: it is trained on
# pixels alone, and where it cannot know, it blurs. The second stage, with features and the discriminator
# (`python main.py train -m esrgan -d real`), gives firm edges and a grain back, and makes a painting of a face as small
# as this one. What it puts there need not be true: it is what such pictures usually have.
#
# ## Exercises


# %%
def pooled(pool, size, batch, generator):
    """A list of pairs, its largest length, and a list of new pairs → the pairs to learn from, as many as are new.

    While the pool is too short, the new ones join it and are also the answer. When it is full, as many are drawn from
    it at random, none twice, and the new ones take their places. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


check("12a", pooled)


# %%
def sharpened_like_usm(high, blur, weight, threshold):
    """Pictures in 0..1 and a blur, callable → unsharp masking; `threshold` is in levels of 255.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


check("12b", sharpened_like_usm)


# %%
def normalised_by_stretch(weight, u):
    """A convolution's weight (out, in, K, K) and a vector u (out,) → (weight/σ, the next u), by one round.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


check("12c", normalised_by_stretch)

# %%
hint("12c")

# %% [markdown]
# ## Recap
#
# - Pictures of a batch share what one tensor must share; a pool mixes batches.
# - Aim at sharpened pictures, but show the discriminator true ones.
# - Spectral norm bounds how steep a discriminator can be, so that it keeps teaching.
# - Use the average of the weights, not the last ones.
#
# You have now taken all of Real-ESRGAN apart. The project's README has the commands to train it.
#
# Next: [lesson 13](13_into_use.py), networks at work.
