# %% [markdown]
# # 12. Real-ESRGAN
#
# **Goal.** Take apart the four devices that make ESRGAN work on real pictures: a pool of training pairs, sharpened
# targets, a discriminator that answers for every pixel and cannot be too steep, and averaged weights (EMA).
#
# **You will see:** the mean of a batch of six swings 2.4 ± 0.3 times less when the pool has mixed the batches.
#
# Takes a quarter of a minute on two cores. You bring from [lesson 11](11_real_pictures.py) the second-order
# degradation, and from [lesson 8](08_discriminators.py) the discriminator.

# %%
from checks import check, hint
from course import FAST, crop, photograph, promise, seed, show, show_pictures, trained
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import degrade
import esrgan
from engine import networks
from engine.data import PairPool
from engine.settings import Settings
from engine.updates import make_ema
from engine.upscaling import upscale
from imaging import distortions
from imaging.images import resize

# %% [markdown]
# ## The idea
#
# Real-ESRGAN trains ESRGAN's generator on lesson 11's pictures. First it learns from pixels alone (**Real-ESRNet**),
# then with five layers of VGG19 and a new discriminator:
#
# $$L = |R - u(h)| + L_\mathrm{percep}(R, u(h)) + 0.1\,L_G$$
#
# - $R, h$: the restored picture and the ground truth; $L_G$: the standard adversarial loss
# - $u(h)$: $h$ **sharpened**; the low picture is made of it too, but the discriminator sees $h$ itself
#
# The **spectral norm** of a layer with the matrix $W$ is how much it can stretch a vector at most:
#
# $$\sigma(W) = \max_{|v| = 1} |W v|$$
#
# The discriminator's layers use $W/\sigma(W)$. In the end we use not the generator's last weights but their exponential
# moving average, the **EMA**:
#
# $$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$$
#
# - $\theta$: the weights after an update; $d$: the decay, 0.999

# %% [markdown]
# ## The pool
#
# A batch is one tensor, so its pictures must have one size. At every resize they share the factor and the mode; they
# share the kind of noise too. A batch of strongly shrunk pictures pulls the network one way, the next batch pulls it
# back.
#
# So the pairs wait in a **pool** of 180. A new batch goes in. As many pairs, chosen at random, come out and leave their
# places to the new ones. Here a "picture" is only the factor of the first resize: `PairPool` in `engine/data.py` does
# not mind.
#
# **Predict before you run.** Six pictures leave the pool together. From how many different batches do they come on
# average?

# %%
predict("12", None)

# %% [markdown]
# **Now you.** The same for lists.


# %%
def pooled(pool, size, batch, generator):
    """A list of pairs, its largest length, and a list of new pairs → the pairs to learn from, as many as are new.

    While there is room in the pool, the new pairs join it and are also the answer. When it is full, as many pairs leave
    it, sampled at random, none twice; the new ones take their places. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


pooled = check("12a", pooled)


# %%
def factors(count, generator):
    """The factor of the first resize in a batch of second_order, once for each picture of the batch."""
    steps = degrade.sample_second_order((count, 3, 64, 64), 4, generator)
    return torch.full((count, 1, 1, 1), steps[1].parameters["factor"])


pool = PairPool(180)
generator = seed()
made, mixed, batches, own_pool = [], [], [], []
alike = True
twin = torch.Generator()  # of the pool's own random numbers
for number in range(900):
    new = factors(6, generator)
    twin.set_state(generator.get_state())
    old, origin = pool.exchange(new, torch.full_like(new, number), generator)
    own = pooled(own_pool, 180, [(factor, number) for factor in new.flatten().tolist()], twin)
    alike &= own == list(zip(old.flatten().tolist(), origin.flatten().tolist(), strict=True))
    if number >= 100:  # by then the pool is full
        made.append(new.flatten())
        mixed.append(old.flatten())
        batches.append(len({number for _, number in own}))
print("the same pictures as from PairPool, which samples by torch.randperm:", alike)
outcome("12", sum(batches) / len(batches))
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
# Four times in five they come from six batches, and otherwise nearly always from five. The mean of six independent
# values swings $\sqrt 6$ times less than one of them.
#
# ## Sharpened targets
#
# **Unsharp masking** (USM) takes what a wide blur removes and adds half of it once more. It does so only where that is
# more than 10 levels, so that noise in flat places stays as it is. **Now you.**


# %%
def sharpened_like_usm(high, blur, weight, threshold):
    """Pictures in 0..1 → the same, sharpened by unsharp masking.

    `blur(pictures)` is the wide blur; `threshold` is in levels, 0 to 255.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


sharpened_like_usm = check("12b", sharpened_like_usm)


# %%
def wide_blur(pictures):
    """A Gaussian of 51 pixels, σ = 8, of each colour and each picture by itself."""
    taps = torch.arange(51.0) - 25
    gaussian = torch.exp(-(taps**2) / (2 * 8**2))
    gaussian = gaussian / gaussian.sum()
    padded = F.pad(pictures, (25, 25, 25, 25), mode="reflect").flatten(0, 1)[:, None]
    rows = F.conv2d(F.conv2d(padded, gaussian.view(1, 1, 51, 1)), gaussian.view(1, 1, 1, 51))
    return rows.view_as(pictures)


high = crop(photograph("astronaut.png"), 20, 150, 192)
sharpened = distortions.usm_sharpen(high)
by_hand = sharpened_like_usm(high, wide_blur, 0.5, 10.0)
print("largest difference from distortions.usm_sharpen:", (by_hand - sharpened).abs().max().item())
added = (0.5 + 4 * (sharpened - high)).clamp(0, 1)
show_pictures([("ground truth", high), ("sharpened", sharpened), ("what was added, × 4", added)])

# %% [markdown]
# ## The discriminator: steep, but not too steep
#
# To find $\sigma(W)$ without decomposing $W$, send a vector through $W$ and back, again and again. The direction that
# is stretched most wins. This is **power iteration**. PyTorch does *one* round at each update and remembers the vector.
# $W$ changes little, so the vector is never far off. **Now you.** One round.


# %%
def normalised_by_stretch(weight, u):
    """A convolution's weight (out, in, K, K) and a vector u (out,) → (weight/σ, the next u), by one power iteration.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


normalised_by_stretch = check("12c", normalised_by_stretch)

# %%
torch.manual_seed(0)
layer = nn.utils.spectral_norm(nn.Conv2d(8, 16, 3, bias=False))
matrix = layer.weight_orig.detach().flatten(1)  # one row for each channel that comes out
u = layer.weight_u.clone()
stretches = []
for _ in range(30):
    normalised, u = normalised_by_stretch(layer.weight_orig.detach(), u)
    stretches.append((layer.weight_orig.norm() / normalised.norm()).item())
    if len(stretches) == 1:
        layer(torch.zeros(1, 8, 3, 3))  # a forward pass: PyTorch's one round
        print("after one round, largest difference from PyTorch:", (normalised - layer.weight).abs().max().item())
print(f"σ after 1, 5 and 30 rounds: {stretches[0]:.4f}, {stretches[4]:.4f}, {stretches[29]:.4f}")
print(f"the largest singular value: {torch.linalg.matrix_norm(matrix, 2):.4f}")

# %% [markdown]
# What is it good for? A toy: real "pictures" are numbers around +1, restored ones around −1. The generator's gradient
# pushes a restored number upwards.
#
# **Predict before you run.** Which discriminator is right more often, the one with spectral norm or the one without?
# And how many times as hard does the one without push a number at −1?

# %%
predict("12.2", None)


# %%
def trained_discriminator(bounded):
    """Three linear layers that have learnt to tell numbers around +1 from numbers around −1."""
    torch.manual_seed(0)
    linear = [nn.Linear(inputs, outputs) for inputs, outputs in ((1, 64), (64, 64), (64, 1))]
    one, two, three = map(nn.utils.spectral_norm, linear) if bounded else linear
    discriminator = nn.Sequential(one, nn.LeakyReLU(0.2), two, nn.LeakyReLU(0.2), three)
    generator = seed()
    learning_rate = 1e-3
    optimizer = torch.optim.Adam(discriminator.parameters(), learning_rate)
    for _ in range(50 if FAST else 1000):
        real, fake = (side + 0.3 * torch.randn(64, 1, generator=generator) for side in (1, -1))
        loss = esrgan.vanilla_discriminator_loss(discriminator(real), discriminator(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return discriminator.eval()


pushes = []
line = torch.linspace(-1.5, 1.5, 200)[:, None].requires_grad_()
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, bounded in (("spectral norm", True), ("without", False)):
    logits = trained_discriminator(bounded)(line)
    (slope,) = torch.autograd.grad(logits.sum(), line, retain_graph=True)
    (push,) = torch.autograd.grad(F.softplus(-logits).sum(), line)
    axes[0].plot(line.detach(), logits.detach(), label=name)
    axes[1].plot(line.detach(), -push, label=name)
    print(f"{name}: steepest {slope.max():.2f}; at −1 the generator is pushed by {-push[33, 0]:.4f}")
    pushes.append(-push[33, 0].item())
outcome("12.2", pushes[1] / pushes[0])
axes[0].set(xlabel="number", ylabel="C", title="Logit of the discriminator")
axes[1].set(xlabel="number", ylabel="gradient", title="How hard a generator is pushed upwards")
axes[0].legend()
show()

# %% [markdown]
# Linear layers with σ = 1 and leaky ReLUs cannot stretch anything, so the slope of the bounded discriminator is never
# over 1. Both are right about nearly every number. But the free one pushes many times harder, and harder with every
# update. At some places it pushes twice as hard as beside them. The weight 0.1 of $L_G$ then means something else at
# every step. The bounded discriminator pushes gently, everywhere.
#
# (A convolution can stretch more than its matrix does, but only by a constant factor. The U-Net's first and last layer
# are left free, as published.)
#
# ## The discriminator: pixel by pixel
#
# ESRGAN's discriminator gives one logit for a whole patch. The U-Net goes down to an eighth of the size, comes up
# again, and gives a logit for every pixel. On which pixels of the picture does *one* logit depend? Its gradient shows
# its receptive field.

# %%
torch.manual_seed(0)
part = crop(high, 40, 60, 64).requires_grad_()
vgg_style = esrgan.VGGDiscriminator(64, 16, "spectral").eval()
u_net = esrgan.UNetDiscriminator(16).eval()
panels = [("a patch", part.detach())]
for name, logits in (
    ("ESRGAN's discriminator", vgg_style(part)),
    ("the middle of the U-Net", u_net(part)[..., 32:33, 32:33]),
):
    (seen,) = torch.autograd.grad(logits.sum(), part)
    seen = seen.abs().sum(dim=1, keepdim=True)
    panels.append((f"what {name}\ndepends on", (seen / seen.max()).sqrt()))
print("logits of a patch:", tuple(vgg_style(part).shape), "and", tuple(u_net(part).shape))
show_pictures(panels)

# %% [markdown]
# ESRGAN's discriminator rates the patch as a whole. The U-Net rates it place by place, each from what lies around it:
# "this hair is real, that cheek is painted". So the generator is told *where* to improve.
#
# ## Averaged weights: EMA
#
# Near the end of a training the weights tremble around a good place: every batch pulls them elsewhere. Their average
# stands still. `make_ema` in `engine/updates.py` follows faster at first, or the untrained weights would count for
# long: after $n$ updates $d = \min(0.999, (1+n)/(10+n))$.

# %%
weights = nn.Linear(1, 1, bias=False)
ema = make_ema(weights, Settings(ema=0.999))
generator = seed()
own = None
paths = []
with torch.no_grad():
    for number in range(3000):
        weights.weight.fill_(1 - 0.998**number).add_(0.3 * torch.randn((), generator=generator))  # learns, and trembles
        ema.update_parameters(weights)
        now = weights.weight.item()
        decay = min(0.999, (1 + number) / (10 + number))
        own = now if own is None else decay * own + (1 - decay) * now
        paths.append((now, own, ema.module.weight.item()))
now, by_hand, real = torch.tensor(paths).T
print("largest difference from make_ema:", (by_hand - real).abs().max().item())
plt.figure(figsize=(6.4, 2.8))
plt.plot(now, linewidth=0.4, label="a weight")
plt.plot(by_hand, label="its EMA")
plt.gca().set(xlabel="update", title="A weight that learns and trembles")
for line in plt.legend().get_lines():
    line.set_linewidth(1.5)  # as thin as in the plot it could not be seen
show()

# %% [markdown]
# The price of calm: the EMA is late, by about a thousand updates at $d = 0.999$.
#
# ## Real-ESRGAN at work
#
# We compare its two stages with a network that was trained on bicubic alone.

# %%
low = degrade.second_order(high, 4, seed(9))
panels = [("low", low), ("bicubic", resize(low, 4))]
kinds = ("trained on bicubic", "rrdb", "bicubic"), ("Real-ESRNet", "rrdb", "real"), ("Real-ESRGAN", "esrgan", "real")
for name, model, degradation in kinds:
    _, checkpoint = trained(model=model, scale=4, degradation=degradation)
    panels.append((name, upscale(networks.load_network(checkpoint), low, 4)))
show_pictures([*panels, ("ground truth", high)])

# %% [markdown]
# The network that was trained on bicubic sharpens the spots. Real-ESRNet smooths them away, and with them whatever
# looks like spots: it is trained on pixels alone, and where it cannot know, it blurs. The second stage, with features
# and the discriminator (`python main.py train -m esrgan -d real`), brings edges back; the one that ships is mixed with
# the first, and keeps a mouth where that has lost it. Of a face as small as this one both make a painting. What the
# second stage adds need not be true: it is what such pictures usually have.

# %% [markdown]
# ## Recap
#
# ![The resize factors in each batch: all alike as made, all different from the pool](pictures/12_real_esrgan.png)
#
# - The pictures of a batch share one size, so their degradations are alike. A pool mixes the batches.
# - Aim at sharpened pictures, but show the discriminator real ones.
# - Spectral norm bounds how steep a discriminator can be, so that it keeps teaching.
# - Use the EMA of the weights, not the last ones.
#
# You have now taken all of Real-ESRGAN apart. The project's README has the commands to train it.
#
# Next: [lesson 13](13_into_use.py), networks at work.
