# %% [markdown]
# # 9. Perceptual loss
#
# **Goal.** Compare pictures by what a network sees in them. Know the two details on which it depends: features are
# taken before the activation, and pictures are normalised first, or they come out tinted.
#
# **You will see:** three damages, put in one order by PSNR and in another by a network; and what happens to colours
# when one line is forgotten.
#
# Takes a quarter of a minute. You bring from [lesson 7](07_blur.py): for texture, pixels are the wrong question.

# %%
import os
from itertools import pairwise

from checks import check, hint
from course import crop, photograph, promise, seed, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch

from engine.weights import load_vgg19, randomise
from esrgan import ESRGAN_LAYERS, SMALL_WIDTHS, PerceptualLoss, VGG19Features
from imaging import distortions
from imaging.images import psnr, resize

# %% [markdown]
# ## The idea
#
# **VGG19** is a network of 16 convolutions that has learnt to name things in photographs (Simonyan and Zisserman,
# 2015). Its layers turn a picture into **features**: first edges and colours, later textures, at last parts of things.
# The deeper the layer, the less its features depend on an exact place. The **perceptual loss** (Johnson et al., 2016)
# compares features instead of pixels:
#
# $$L_\mathrm{percep} = \sum_l w_l\,\mathrm{mean}\,|\phi_l(R)-\phi_l(h)|$$
#
# - $R, h$: the restored picture and the ground truth
# - $\phi_l$: the features of layer $l$; ESRGAN takes `conv5_4`, the last of all
# - $w_l$: the weight of layer $l$
#
# The network itself is **frozen**: its weights never change, but the gradient passes through it to the picture.

# %% [markdown]
# ## Three networks
#
# VGG19's trained weights are a download of 548 MB. So the course brings a **small** one: the same sixteen convolutions,
# an eighth as wide, 400 KB. It has never named a thing. It was shown patches of free pictures and asked: from which of
# them is this cut, what was done to it (blur, noise, JPEG, …), and how strongly? To answer it had to see textures, and
# what is wrong with them. A third network has the small one's form and random weights: it has never seen a picture.
#
# If you have a file of VGG19's own weights, set `SR_VGG19=FILE`. Where they give another result, the text says so.

# %%
LAYERS = ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4")
vgg = load_vgg19(os.environ.get("SR_VGG19", "small"), LAYERS)
untrained = VGG19Features(LAYERS, SMALL_WIDTHS)
randomise(untrained)
high = crop(photograph("astronaut.png"), 20, 150, 128)
features = vgg(high)
for name, values in features.items():
    print(f"{name}: {tuple(values.shape[1:])}, {100 * (values < 0).float().mean():.0f} % are negative")

# %% [markdown]
# ## Before or after the activation?
#
# After each convolution stands a ReLU, which makes negative values zero. SRGAN compared features after it, ESRGAN
# before. In the small network half of `conv5_4` are negative, in VGG19 **98 %** on this picture. So after the
# ReLU only two features of a hundred are left to teach the generator. Where both pictures give zero, there is no
# gradient.

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
# colour. The means of red, green and blue are 0.485, 0.456 and 0.406, the deviations 0.229, 0.224 and 0.225.
# `VGG19Features` in esrgan.py does it inside, so that nobody can forget it. **Now you.**


# %%
def normalised(picture):
    """(N, 3, H, W) RGB in 0..1 → as VGG19 was trained on.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


normalised = check("09a", normalised)


# %%
def perceptual_loss(vgg, restored, high, weights):
    """The perceptual loss, a number with a gradient for `restored`.

    `vgg(picture)` gives a dictionary from layer to features; `weights` is a dictionary from layer to weight.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


perceptual_loss = check("09b", perceptual_loss)


# %%
def by_hand(picture):
    """The features before activation of every layer in LAYERS."""
    x, found = normalised(picture), {}
    for place, layer in enumerate(vgg.features):
        x = layer(x)
        if place in vgg.layers:
            found[vgg.layers[place]] = x
    return found


blurred = resize(resize(high, 1 / 4), 4)
own = perceptual_loss(by_hand, blurred, high, ESRGAN_LAYERS)
print(f"by hand {own:.6f}, PerceptualLoss {PerceptualLoss(vgg, ESRGAN_LAYERS)(blurred, high):.6f}")

# %% [markdown]
# ## Three damages
#
# From here on a distance is a share: the mean absolute difference of the features, divided by the mean size of the
# ground truth's.
#
# **Predict before you run.** A picture is blurred (shrunk to a quarter and enlarged), moved by one pixel, or tinted by
# 14 levels. Order the three by `conv5_4`, the nearest first, such as "tinted, moved, blurred". Which of them is the
# worst by PSNR?

# %%
predict("09", None)


# %%
def distance(one, other, layer, network=by_hand):
    """The mean absolute difference of features, as a share of the other picture's features."""
    with torch.no_grad():
        features, reference = network(one)[layer], network(other)[layer]
    return ((features - reference).abs().mean() / reference.abs().mean()).item()


# %% tags=["cover"]
tint = torch.tensor([1.0, 0, -1]).view(1, 3, 1, 1) * 0.055
damaged = {"blurred": blurred, "moved": high.roll(-1, dims=-1), "tinted": high + tint}
far = {name: distance(picture, high, "conv5_4") for name, picture in damaged.items()}
panels = [("ground truth", high)]
for name, picture in damaged.items():
    panels.append((f"{name}\n{psnr(picture, high).item():.1f} dB, conv5_4 {far[name]:.2f}", picture))
show_pictures(panels)
outcome("09", ", ".join(sorted(far, key=far.get)))

# %% [markdown]
# By PSNR the moved picture is the worst of the three, though no eye sees a difference.
#
# And the tinted face has more than 40 dB? PSNR by the protocol is of **luma** (lesson 1). Our tint adds 14 levels of
# red and takes 14 of blue away, and in luma that nearly cancels. In colour:

# %%
for name, picture in damaged.items():
    in_colour = -10 * (picture - high).square().mean().log10().item()
    print(f"{name}: {psnr(picture, high).item():.1f} dB of luma, {in_colour:.1f} dB of red, green and blue")

# %% [markdown]
# So the published number is blind to a tint: a second reason to look at features, and at the picture.
#
# Does a shift count less in a deeper layer? And does it take a *trained* network to see that?

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
for axis, network, title in zip(axes, (by_hand, untrained), ("trained", "random weights"), strict=True):
    for name, picture in damaged.items():
        axis.plot(LAYERS, [distance(picture, high, layer, network) for layer in LAYERS], marker=".", label=name)
    axis.set(ylim=(0, None), title=title)
axes[0].set_ylabel("distance, share of the features")
axes[0].legend()
show()

# %% [markdown]
# The structure alone does a part of the work: windows that grow with the depth make a place less exact, in both
# networks (Liu et al., 2021, build a loss on random ones). But only in the trained one does the *blur* become the
# larger fault with every layer, until it lies twelve times as far as the shift. With VGG19's own weights, `conv5_4`
# puts the moved picture 0.06 from the ground truth and the blurred one 0.49. That is the question we wanted: is the
# texture there, wherever exactly?
#
# ## Does the distance mean anything?
#
# A distance must grow with the damage. That is the least. It should also put *different* damages in an order that we
# agree with, where pixels see no difference: so we give blur, noise and JPEG the same PSNR.
#
# **Predict before you run.** At 27 dB each: which of the three do the trained features call the nearest to the ground
# truth, which the farthest?

# %%
predict("09.2", None)


# %%
def with_blur(sigma):
    kernel = distortions.gaussian_kernels(torch.tensor([21]), torch.tensor([[sigma, sigma]]), torch.zeros(1))
    return distortions.filter_each(high, kernel)


def with_noise(sigma):
    return distortions.gaussian_noise(high, torch.tensor([sigma / 255]), torch.tensor([False]), seed())


def with_jpeg(quality):
    return distortions.jpeg(high, torch.tensor([int(quality)]))


ladders = {
    "blur": (with_blur, torch.linspace(0.4, 4, 19).tolist()),
    "noise": (with_noise, torch.linspace(2, 40, 20).tolist()),
    "JPEG": (with_jpeg, list(range(95, 4, -5))),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
at_27 = {}
for name, (damage, strengths) in ladders.items():
    pictures = [damage(strength) for strength in strengths]
    decibels = [psnr(picture, high).item() for picture in pictures]
    for axis, network in zip(axes, (by_hand, untrained), strict=True):
        distances = [distance(picture, high, "conv5_4", network) for picture in pictures]
        axis.plot(decibels, distances, marker=".", label=name)
        if network is by_hand:
            nearest = min(range(len(decibels)), key=lambda i: abs(decibels[i] - 27))
            at_27[name] = distances[nearest]
            rises = sum(b > a for a, b in pairwise(distances)) / (len(distances) - 1)
            print(f"{name}: the distance grows in {100 * rises:.0f} % of the steps; near 27 dB it is {at_27[name]:.2f}")
for axis, title in zip(axes, ("trained", "random weights"), strict=True):
    axis.axvline(27, color="grey", linewidth=0.8)
    axis.set(xlabel="PSNR, dB", title=title, xlim=(42, 20))
axes[0].set_ylabel("conv5_4, share of the features")
axes[0].legend()
show()
outcome("09.2", ", ".join(sorted(at_27, key=at_27.get)))

# %% [markdown]
# Every curve rises with the damage, until it cannot look worse to this network. At one PSNR the curves lie far apart:
# it minds a blur most.
#
# But it sees what it was asked for. "What was done to it?" has eight answers, so its deepest layer tells blurred from
# sharp rather than how blurred. We ranked sixteen damages of three photographs by each network and compared with
# VGG19's own `conv5_4`: our small one agrees better than PSNR does (rank correlation 0.66 against 0.60), yet a *random*
# network of VGG19's full width agrees better still (0.84). A perceptual distance is the opinion of one network, and
# needs checking like any other. People may rank once more differently: **LPIPS** (Zhang et al., 2018) fits the weights
# of features to what people say.
#
# ## The tint
#
# Many public programs feed VGG19 with 0…1 and no normalisation. It runs, and the pictures come out with a colour cast.
# We try it with random weights and VGG19's full width, to see what the *form* of the network does.
#
# **Predict before you run.** How many times less does the tint cost without the normalisation?

# %%
predict("09.3", None)

# %%
full = load_vgg19("random", ("conv5_4",))


def without_normalisation(picture):
    """The features of a picture that was not normalised: as if it had been so already."""
    return full(picture * full.deviation + full.mean)


costs = [distance(damaged["tinted"], high, "conv5_4", network) for network in (full, without_normalisation)]
print(f"a tint of 14 levels costs {costs[0]:.3f} with normalisation, {costs[1]:.3f} without")
outcome("09.3", costs[0] / costs[1])
promise("so many times less without", costs[0] / costs[1], 2.0, 0.3)

# %% [markdown]
# Without it a tint costs 2.0 ± 0.3 times less: colours take only a quarter of the range that VGG19 knows, on top of a
# constant. Differences of colour become small beside the features. The loss hardly objects to a tint, so the generator
# drifts into one. Measure the mean colour of your results: among its perceptual metrics, `evaluate --perceptual small`
# prints the shift as `colour`.
#
# ## Aside: style, or Gram matrices
#
# Which features occur *together*, anywhere in the picture? The **Gram matrix** of a layer says it (Gatys et al., 2016):
#
# $$G_{ij} = \frac{1}{C\,H\,W}\sum_{p} \phi_i(p)\,\phi_j(p)$$
#
# - $\phi_i(p)$: feature $i$ at place $p$, after the activation; $C, H, W$: features, height, width
#
# It forgets all places. Style transfer and some texture-minded super-resolution use it as a loss. **Now you.**


# %%
def gram(values):
    """Features (N, C, H, W), already after activation → Gram matrices (N, C, C), divided by C·H·W.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


gram = check("09c", gram)

# %% [markdown]
# **Predict before you run.** One piece of grass is compared with another and with bricks, by features and by Gram
# matrices. In which of the two is the other grass nearer than the bricks?

# %%
predict("09.4", None)

# %%
grass, more_grass, brick = (
    crop(photograph(name), top, 100, 128) for name, top in (("grass.png", 0), ("grass.png", 300), ("brick.png", 0))
)
reference = by_hand(grass)["conv3_4"]
style_of_reference = gram(reference.relu())
nearer = []
for name, other in (("more grass", more_grass), ("bricks", brick)):
    features = by_hand(other)["conv3_4"]
    places = ((features - reference).abs().mean() / reference.abs().mean()).item()
    style = ((gram(features.relu()) - style_of_reference).abs().mean() / style_of_reference.abs().mean()).item()
    nearer.append((places, style))
    print(f"grass and {name}: features {places:.2f}, Gram matrices {style:.2f}")
ratios = [bricks / grass for grass, bricks in zip(*nearer, strict=True)]
outcome("09.4", f"the bricks are {ratios[0]:.1f} times as far in features, {ratios[1]:.1f} times in Gram matrices")

# %% [markdown]
# ## Recap
#
# ![A picture, blurred, moved and tinted, with distances by pixels and by features](pictures/09_perceptual_loss.png)
#
# - Deep features ask whether the texture is there, not where each pixel lies.
# - Take them before the activation, where they are not mostly zero.
# - Normalise the picture as VGG19 knows it, or colours drift. PSNR of luma would not even notice.
# - Freeze the network, but let the gradient through.
# - A perceptual distance is a network's opinion: say whose.
#
# You now have every part of ESRGAN: generator, discriminator and perceptual loss. Next: [lesson 10](10_esrgan.py) puts
# them together.
