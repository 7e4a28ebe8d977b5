# %% [markdown]
# # 9. Perceptual loss
#
# **Goal.** Compare pictures by what a network sees in them, and know two details without which it goes wrong: before
# or after the activation, and the normalisation whose absence tints pictures.
#
# ![A picture, blurred, shifted and tinted, with distances by pixels and by features](pictures/09_perceptual_loss.png)
#
# **You will see:** without the normalisation a tint costs 2.0 ± 0.3 times less at the layer that ESRGAN uses. What is
# cheap, a generator will do.
#
# Takes a quarter of a minute. You bring from [lesson 7](07_blur.py): pixels are the wrong question for texture.

# %%
import os

import matplotlib.pyplot as plt
import torch

from checks import check, hint
from course import crop, photograph, promise, show, show_pictures

from engine.weights import load_vgg19
from esrgan import ESRGAN_LAYERS, PerceptualLoss
from imaging.images import psnr, resize

# %% [markdown]
# ## The idea
#
# **VGG19** is a network of 16 convolutions that has learnt to name things in photographs (Simonyan and Zisserman,
# 2015). Its layers turn a picture into **features**: first edges and colours, later textures, at last parts of
# things, ever less bound to an exact place. The **perceptual loss** compares features instead of pixels:
#
# $$L_\mathrm{percep} = \sum_l w_l\,\mathrm{mean}\,|\phi_l(R)-\phi_l(h)|$$
#
# - $R, h$: the restored and the true picture
# - $\phi_l$: the features of layer $l$; ESRGAN takes `conv5_4`, the last of all
# - $w_l$: the weight of layer $l$
#
# VGG19 itself is **frozen**: its weights never change, but the gradient passes through it to the picture.

# %% [markdown]
# ## Weights
#
# The trained weights are a download of 548 MB, which this lesson does not need: it takes random ones. Strangely, much
# of what follows holds for those too (Liu et al., 2021): the structure alone, ever larger windows and ever more
# channels, makes a useful distance. With a file of the real ones, say `SR_VGG19=FILE`. Where they differ, the text
# says it.

# %%
LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
vgg = load_vgg19(os.environ.get("SR_VGG19", "random"), LAYERS)
high = crop(photograph("astronaut.png"), 20, 150, 128)
features = vgg(high)
for name, values in features.items():
    print(f"{name}: {tuple(values.shape[1:])}, {100 * (values < 0).float().mean():.0f} % are negative")

# %% [markdown]
# ## Before or after the activation?
#
# After each convolution stands a ReLU, which makes negative values zero. SRGAN compared features after it, ESRGAN
# before. Of random features half are negative. Of the trained network's `conv5_4` we measured **98 %** on this
# picture. After the ReLU, two features of a hundred are left to teach the generator; where both pictures give zero,
# there is no gradient.

# %%
deep = features["conv5_4"][0, :6]
figure, axes = plt.subplots(2, 6, figsize=(9, 3.4))
for row, values, title in zip(axes, (deep, deep.relu()), ("before", "after the ReLU"), strict=True):
    for axis, value in zip(row, values, strict=True):
        axis.imshow(value, cmap="RdBu", vmin=-deep.abs().max(), vmax=deep.abs().max())
        axis.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)
figure.suptitle("Six features of conv5_4")
show()

# %% [markdown]
# ## By hand
#
# VGG19 wants pictures as it was trained on: minus ImageNet's mean, divided by its deviation, for each colour. Our
# `VGG19Features` does it inside, so that nobody can forget it.

# %%
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def by_hand(picture, normalised=True):
    """The features before activation of every layer in LAYERS."""
    x, found = (picture - MEAN) / DEVIATION if normalised else picture, {}
    for place, layer in enumerate(vgg.features):
        x = layer(x)
        if place in vgg.layers:
            found[vgg.layers[place]] = x
    return found


def distance(one, other, layer, normalised=True):
    """The mean absolute difference of features, as a share of their own size."""
    found, wanted = by_hand(one, normalised)[layer], by_hand(other, normalised)[layer]
    return ((found - wanted).abs().mean() / wanted.abs().mean()).item()


blurred = resize(resize(high, 1 / 4), 4)
loss = PerceptualLoss(vgg, ESRGAN_LAYERS)(blurred, high)
own = (by_hand(blurred)["conv5_4"] - by_hand(high)["conv5_4"]).abs().mean()
print(f"by hand {own:.6f}, PerceptualLoss {loss:.6f}")

# %% [markdown]
# ## Three damages
#
# **Predict before you run.** A picture is blurred, moved by one pixel, or tinted. Order the three by pixels, then by
# the deepest features.

# %% tags=["cover"]
tint = torch.tensor([1.0, 0, -1]).view(1, 3, 1, 1) * 0.055
damaged = {"blurred": blurred, "one pixel to the left": high.roll(-1, dims=-1), "tinted": high + tint}
panels = [("true", high)]
for name, picture in damaged.items():
    far = distance(picture, high, "conv5_4")
    panels.append((f"{name}\n{psnr(picture, high).item():.1f} dB, conv5_4 {far:.2f}", picture))
show_pictures(panels)

# %%
plt.figure(figsize=(6.4, 3.2))
for name, picture in damaged.items():
    plt.plot(LAYERS, [distance(picture, high, layer) for layer in LAYERS], marker=".", label=name)
plt.gca().set(ylim=(0, None), ylabel="distance, share of the features", title="The deeper, the less a shift counts")
plt.legend()
show()

# %% [markdown]
# By PSNR the moved picture is the worst of the three, though no eye sees a difference. The deeper the layer, the less
# it minds the shift, and blur becomes the larger fault. With the trained weights the two are 0.06 and 0.49 apart from
# the truth at `conv5_4`. That is the question we wanted: is the texture there, wherever exactly?
#
# ## The tint
#
# Many public programs feed VGG19 with 0…1 and no normalisation. It runs, and the pictures come out with a cast.
#
# **Predict before you run.** Does a tint cost more or less without the normalisation?

# %%
costs = {flag: distance(damaged["tinted"], high, "conv5_4", flag) for flag in (True, False)}
print(f"a tint of 14 levels costs {costs[True]:.3f} with normalisation, {costs[False]:.3f} without")
promise("so many times less without", costs[True] / costs[False], 2.0, 0.3)

# %% [markdown]
# Without it, colours are squeezed into a quarter of the range that VGG19 knows, on top of a constant. Differences of
# colour become small beside the features. The loss hardly objects to a tint, so the generator drifts into one.
# Measure the mean colour of your results: `evaluate` prints its shift as `colour`.
#
# ## Aside: style, or Gram matrices
#
# Which features occur *together*, anywhere in the picture? The **Gram matrix** of a layer says it:
#
# $$G_{ij} = \frac{1}{C\,H\,W}\sum_{p} \phi_i(p)\,\phi_j(p)$$
#
# - $\phi_i(p)$: feature $i$ at place $p$, after the activation; $C, H, W$: features, height, width
#
# It forgets all places. Style transfer and some texture-minded super-resolution use it as a loss.


# %%
def gram_by_hand(values):
    flat = values.relu().flatten(2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


grass, more_grass, brick = (
    crop(photograph(name), top, 100, 128) for name, top in (("grass.png", 0), ("grass.png", 300), ("brick.png", 0))
)
wanted = by_hand(grass)["conv3_4"]
for name, other in (("more grass", more_grass), ("bricks", brick)):
    found = by_hand(other)["conv3_4"]
    places, style = (
        (a - b).abs().mean() / b.abs().mean() for a, b in ((found, wanted), map(gram_by_hand, (found, wanted)))
    )
    print(f"grass and {name}: features {places:.2f}, Gram matrices {style:.2f}")

# %% [markdown]
# ## Exercises


# %%
def normalised(picture):
    """(N, 3, H, W) RGB in 0..1 → as VGG19 was trained on; MEAN and DEVIATION are above, but write them here again.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


check("09a", normalised)


# %%
def perceptual_loss(vgg, restored, high, weights):
    """`vgg(picture)` gives a dictionary layer → features; `weights` is layer → weight. The loss, a number that can be
    differentiated by `restored`.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


check("09b", perceptual_loss)


# %%
def gram(values):
    """Features (N, C, H, W), already after activation → Gram matrices (N, C, C), divided by C·H·W.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


check("09c", gram)

# %%
hint("09b")

# %% [markdown]
# ## Recap
#
# - Deep features ask whether the texture is there, not where each pixel lies.
# - Take them before the activation, where they are not mostly zero.
# - Normalise the picture as VGG19 knows it, or colours drift.
# - Freeze VGG19, but let the gradient through.
#
# You now have every part of ESRGAN: generator, discriminator and perceptual loss. Next: [lesson 10](10_esrgan.py) puts them
# together.
