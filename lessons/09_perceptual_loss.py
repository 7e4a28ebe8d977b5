# %% [markdown]
# # 9. Perceptual loss
#
# **Goal.** Compare pictures by what a network sees in them. Know the two details on which it depends: features are
# taken before the activation, and pictures are normalised first, or they come out tinted.
#
# ![A picture, blurred, shifted and tinted, with distances by pixels and by features](pictures/09_perceptual_loss.png)
#
# **You will see:** without the normalisation a tint costs 2.0 ± 0.3 times less at the layer that ESRGAN uses. A
# generator will do whatever is cheap.
#
# Takes a quarter of a minute. You bring from [lesson 7](07_blur.py): for texture, pixels are the wrong question.

# %%
import os

from checks import check, hint
from course import crop, photograph, promise, show, show_pictures

import matplotlib.pyplot as plt
import torch

from engine.weights import load_vgg19
from esrgan import ESRGAN_LAYERS, PerceptualLoss
from imaging.images import psnr, resize

# %% [markdown]
# ## The idea
#
# **VGG19** is a network of 16 convolutions that has learnt to name things in photographs (Simonyan and Zisserman,
# 2015). Its layers turn a picture into **features**: first edges and colours, later textures, at last parts of things.
# The deeper the layer, the less its features depend on an exact place. The **perceptual loss** compares features
# instead of pixels:
#
# $$L_\mathrm{percep} = \sum_l w_l\,\mathrm{mean}\,|\phi_l(R)-\phi_l(h)|$$
#
# - $R, h$: the restored picture and the ground truth
# - $\phi_l$: the features of layer $l$; ESRGAN takes `conv5_4`, the last of all
# - $w_l$: the weight of layer $l$
#
# VGG19 itself is **frozen**: its weights never change, but the gradient passes through it to the picture.

# %% [markdown]
# ## Weights
#
# The trained weights are a download of 548 MB. This lesson does without: it takes random ones. Strangely, much of what
# follows holds for those too (Liu et al., 2021). The structure alone, with ever larger windows and ever more channels,
# makes a useful distance. If you have a file of the trained weights, set `SR_VGG19=FILE`. Where they give another
# result, the text says so.

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
# before. Half of random features are negative. With the trained weights, **98 %** of `conv5_4` are, on this picture. So
# after the ReLU only two features of a hundred are left to teach the generator. Where both pictures give zero, there is
# no gradient.

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
# VGG19 wants pictures like those it was trained on: minus ImageNet's mean, divided by its standard deviation, for each
# colour. Our `VGG19Features` does it inside, so that nobody can forget it.

# %%
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def by_hand(picture, normalised=True):
    """The features before activation of every layer in LAYERS."""
    x = (picture - MEAN) / DEVIATION if normalised else picture
    features = {}
    for place, layer in enumerate(vgg.features):
        x = layer(x)
        if place in vgg.layers:
            features[vgg.layers[place]] = x
    return features


def distance(one, other, layer, normalised=True):
    """The mean absolute difference of features, as a share of the other picture's features."""
    features = by_hand(one, normalised)[layer]
    reference = by_hand(other, normalised)[layer]
    return ((features - reference).abs().mean() / reference.abs().mean()).item()


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
panels = [("ground truth", high)]
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
# By PSNR the shifted picture is the worst of the three, though no eye sees a difference. The deeper the layer, the less
# it minds the shift, and blur becomes the larger fault. With the trained weights, `conv5_4` puts the shifted picture
# 0.06 from the ground truth and the blurred one 0.49. That is the question we wanted: is the texture there, wherever
# exactly?
#
# ## The tint
#
# Many public programs feed VGG19 with 0…1 and no normalisation. It runs, and the pictures come out with a colour cast.
#
# **Predict before you run.** Does a tint cost more or less without the normalisation?

# %%
costs = {flag: distance(damaged["tinted"], high, "conv5_4", flag) for flag in (True, False)}
print(f"a tint of 14 levels costs {costs[True]:.3f} with normalisation, {costs[False]:.3f} without")
promise("so many times less without", costs[True] / costs[False], 2.0, 0.3)

# %% [markdown]
# Without it, colours take only a quarter of the range that VGG19 knows, on top of a constant. Differences of colour
# become small beside the features. The loss hardly objects to a tint, so the generator drifts into one. Measure the
# mean colour of your results: among its perceptual metrics, `evaluate --perceptual` prints the shift as `colour`.
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
reference = by_hand(grass)["conv3_4"]
style_of_reference = gram_by_hand(reference)
for name, other in (("more grass", more_grass), ("bricks", brick)):
    features = by_hand(other)["conv3_4"]
    places = (features - reference).abs().mean() / reference.abs().mean()
    style = (gram_by_hand(features) - style_of_reference).abs().mean() / style_of_reference.abs().mean()
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
    """The perceptual loss, a number with a gradient for `restored`.

    `vgg(picture)` gives a dictionary from layer to features; `weights` is a dictionary from layer to weight.

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
# You now have every part of ESRGAN: generator, discriminator and perceptual loss. Next: [lesson 10](10_esrgan.py) puts
# them together.
