# %% [markdown]
# # 11. Real pictures
#
# **Goal.** See why a network that is excellent on test pictures spoils a photograph from a telephone. Then take the
# cure apart: train on pictures that are degraded at random, by blur, resize, noise and JPEG, twice over.
#
# ![A sharp picture on its way through two rounds of blur, resize, noise and JPEG](pictures/11_real_pictures.png)
#
# **You will see:** what the network of lesson 7 makes of noise, and of a photograph that was saved too often.
#
# Takes a quarter of a minute. You bring from [lesson 2](02_bicubic.py) how bicubic shrinks, and the PSNR-oriented
# network of [lesson 7](07_blur.py).

# %%
import math

from checks import check, hint
from course import FAST, crop, photograph, promise, seed, show, show_pictures, trained
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch

import degrade
from engine import networks
from engine.upscaling import upscale
from imaging import distortions
from imaging.images import psnr, resize

# %% [markdown]
# ## The idea
#
# A network learns to undo what was done to its training pictures, and nothing else. Bicubic makes clean small pictures.
# A camera does not:
#
# $$x = \mathrm{JPEG}_q\left[(h * k)\downarrow_r + n\right]$$
#
# - $h * k$: the scene, **blurred** by a **kernel** $k$: lens, motion, focus
# - $\downarrow_r$: **resized** by a factor $r$, seldom as carefully as bicubic does it
# - $n$: **noise**: too few photons, an amplifier
# - $\mathrm{JPEG}_q$: **compressed** with the quality $q$, 1 to 100
#
# This is the **first order**. Then somebody edits the picture, sends it, and saves it again: everything happens once
# more. Real-ESRGAN (Wang et al., 2021) samples all of it at random, twice: the **second-order** degradation.

# %% [markdown]
# ## What goes wrong
#
# **Predict before you run.** A small picture gets noise of σ = 10 levels. How many times as strong is the noise after
# the network has enlarged the picture ×4? And after bicubic?

# %%
predict("11", None)

# %%
_, checkpoint = trained(model="rrdb", scale=4, degradation="bicubic")
network = networks.load_network(checkpoint)
high = crop(photograph("astronaut.png"), 20, 150, 192)
low = degrade.bicubic(high, 4)
noisy = distortions.gaussian_noise(low, torch.tensor([10 / 255]), torch.tensor([False]), seed())
lows = {"clean": low, "noise, σ = 10": noisy, "JPEG, quality 30": distortions.jpeg(low, torch.tensor([30]))}


def middle(picture):
    quarter = picture.shape[-1] // 4
    return crop(picture, quarter, quarter, 2 * quarter)


rows = []
for name, picture in lows.items():
    panels = [(name, picture)]
    for method, large in (("bicubic", resize(picture, 4)), ("RRDB", upscale(network, picture, 4))):
        panels.append((f"{method}, {psnr(large, high, 4).item():.1f} dB", large))
    rows.append([(caption, middle(panel)) for caption, panel in panels])
show_pictures(*rows)


def strength(enlarge):
    """The noise that comes out, as a share of that which went in."""
    return ((enlarge(noisy) - enlarge(low)).std() / (noisy - low).std()).item()


print(f"bicubic: {strength(lambda picture: resize(picture, 4)):.2f} of the noise comes out")
outcome("11", strength(lambda picture: upscale(network, picture, 4)))
promise("through the network", strength(lambda picture: upscale(network, picture, 4)), 1.4, 0.15)

# %% [markdown]
# Promised: through the network 1.4 ± 0.15 times as strong, where bicubic weakens it. On the clean picture the network
# leads by more than two decibels. On the JPEG it is no better than bicubic: it draws the borders of the blocks with
# care. It takes noise for fine detail that must be brought out, for all fine detail that it was trained on was real.
#
# ## Blur
#
# A camera's blur is no exact Gaussian, so **kernels** of many shapes are sampled. Each depends on a distance from the
# middle:
#
# $$d = (x/\sigma_1)^2 + (y/\sigma_2)^2,\quad k_\mathrm{Gaussian} \propto e^{-d^\beta/2},\quad
# k_\mathrm{plateau} \propto \frac{1}{1+d^\beta}$$
#
# - $\sigma_1, \sigma_2$: widths in pixels, along axes that may be turned; $\beta$: the shape, 1 for the plain Gaussian
# - $\propto$: divided by the sum, so that brightness stays
#
# **Now you.** The plateau.


# %%
def plateau_kernel(reach, sigma, beta):
    """The plateau kernel with one width for both axes, (2·reach + 1, 2·reach + 1); its sum is 1.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


plateau_kernel = check("11a", plateau_kernel)


# %%
def gaussian_by_hand(sigma, beta, reach=10):
    y, x = torch.meshgrid(torch.arange(-reach, reach + 1.0), torch.arange(-reach, reach + 1.0), indexing="ij")
    kernel = torch.exp(-(((x / sigma[0]) ** 2 + (y / sigma[1]) ** 2) ** beta) / 2)
    return kernel / kernel.sum()


def settings_of(sigma, beta, angle=0.0):
    """The arguments of the functions of imaging/distortions.py for one kernel of 21×21."""
    return torch.tensor([21]), torch.tensor([sigma]), torch.tensor([angle]), torch.tensor([beta])


real = distortions.generalised_gaussian_kernels(*settings_of((3.0, 1.5), 0.7))[0]
print("largest difference from imaging/distortions.py:", (gaussian_by_hand((3.0, 1.5), 0.7) - real).abs().max().item())
kernels = {
    "Gaussian": distortions.generalised_gaussian_kernels(*settings_of((2.0, 2.0), 1.0)),
    "turned": distortions.generalised_gaussian_kernels(*settings_of((4.0, 1.2), 1.0, 0.6)),
    "peaked, β = 0.5": distortions.generalised_gaussian_kernels(*settings_of((2.0, 2.0), 0.5)),
    "plateau, β = 2": torch.as_tensor(plateau_kernel(10, 3.0, 2.0)).float()[None],
    "sinc: rings": distortions.sinc_kernels(torch.tensor([21]), torch.tensor([math.pi / 3])),
}
real = distortions.plateau_kernels(*settings_of((3.0, 3.0), 2.0))
print("plateau, largest difference:", (kernels["plateau, β = 2"] - real).abs().max().item())
part = crop(high, 30, 30, 96)
show_pictures(
    [(name, (kernel / kernel.max()).clamp(0, 1)[None]) for name, kernel in kernels.items()],
)
show_pictures([(name, distortions.filter_each(part, kernel)) for name, kernel in kernels.items()])

# %% [markdown]
# **Sinc** is the odd one. It cuts off every wave finer than a limit, and leaves **ringing** beside edges: like the
# halos of pictures that were sharpened too much.
#
# ## Noise
#
# **Gaussian** noise is as strong in the dark as in the light. **Poisson** noise comes from counting photons: where $N$
# are expected, $N \pm \sqrt N$ are counted. So it grows with the root of the brightness:
#
# $$\sigma = s\,\sqrt{b / P}$$
#
# - $b$: brightness from 0 to 1; $P$: the photons of white, here 256; $s$: a strength
#
# **Now you.** Count them.


# %%
def counted(picture, photons, generator):
    """A picture in 0..1 → as it looks when photons are counted, `photons` of them at white; not clipped.

    `torch.poisson(expected, generator=generator)` counts. Difficulty 1 of 3, 10 minutes.
    """
    raise NotImplementedError


counted = check("11b", counted)

# %%
ramp = torch.linspace(0, 1, 256).view(1, 1, 1, 256).expand(1, 3, 2000, 256)
grey = torch.tensor([False])
gaussian = distortions.gaussian_noise(ramp, torch.tensor([16 / 255]), grey, seed())
poisson = distortions.poisson_noise(ramp, torch.tensor([1.0]), grey, seed())
plt.figure(figsize=(6.4, 3))
photons = counted(ramp, 256, seed())
for name, picture in (("Gaussian, σ = 16", gaussian), ("Poisson, s = 1", poisson), ("yours, not cut off", photons)):
    plt.plot(255 * ramp[0, 0, 0], 255 * (picture - ramp)[0, 0].std(dim=0), label=name)
plt.plot(255 * ramp[0, 0, 0], 255 * (ramp[0, 0, 0] / 256).sqrt(), "k--", label="the formula")
plt.gca().set(xlabel="brightness", ylabel="σ of the noise, levels", title="Weaker at the ends, where 0..1 is cut off")
plt.legend()
show()

# %% [markdown]
# ## JPEG, by hand
#
# JPEG writes every block of 8×8 pixels as 64 cosine waves, each with a number for how much of it there is. It divides
# the numbers by the **steps** of a table and rounds. Fine waves have large steps, so most of their numbers become 0.
#
# The cosines are the rows of a matrix $D$: the numbers of a block $B$ are $D\,B\,D^\top$, and
# $D^\top$ (numbers) $D$ gives it back.


# %%
def dct_matrix():
    """Row u is a cosine of u half waves over 8 pixels; an orthogonal matrix."""
    u = torch.arange(8.0)[:, None]
    x = torch.arange(8.0)
    matrix = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


# %% [markdown]
# **Now you.** One block, there and back.


# %%
def quantised(block, steps):
    """A block (8, 8) of levels from 0 to 255 and the table of steps (8, 8) → the block as JPEG gives it back.

    Not rounded and not clipped at the end. Use dct_matrix() from above. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


quantised = check("11c", quantised)


# %%
def jpeg_by_hand(grey, quality):
    """Whole levels (H, W), sides that divide by 8 → as JPEG gives them back, and the rounded numbers of all blocks."""
    steps = distortions.quantisation_tables(torch.tensor([quality]))[0, 0].float()
    blocks = grey.unfold(0, 8, 8).unfold(1, 8, 8)  # (rows, columns, 8, 8)
    back = torch.stack([torch.stack([quantised(block, steps) for block in row]) for row in blocks])
    dct = dct_matrix()
    numbers = (dct @ (back - 128) @ dct.T / steps).round()
    return back.transpose(1, 2).reshape(grey.shape).clamp(0, 255).round(), numbers


camera = crop(photograph("camera.png"), 120, 195, 64)
levels = (255 * camera[0, 0]).round()
panels = [("ground truth", camera)]
for quality in (75, 30, 10):
    own, numbers = jpeg_by_hand(levels, quality)
    real = distortions.jpeg(camera, torch.tensor([quality]))
    zeros = 100 * (numbers == 0).float().mean()
    panels.append((f"quality {quality}\n{zeros:.0f} % are zero", own[None, None] / 255))
    print(f"quality {quality}: {(own - 255 * real[0, 0]).abs().max():.0f} levels from distortions.jpeg at most")
show_pictures(panels)

# %% [markdown]
# A number that became zero is gone. What is left of a block does not fit its neighbour: these are the **block
# artifacts** that the network drew so carefully. (JPEG also stores colour at half the size, with larger steps.)
#
# Now a camera, from its lens to its file. **Now you.** In which order?


# %%
def as_the_camera_does(high, kernel, scale, sigma, quality, generator):
    """A picture (1, 3, H, W) → degraded by one first-order round.

    It is filtered by `kernel` (1, K, K), shrunk by bicubic, gets Gaussian noise in colour (`sigma` from 0 to 1), and is
    saved as JPEG. Everything is in imaging.distortions, and `resize` in imaging.images. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


as_the_camera_does = check("11d", as_the_camera_does)

# %%
kernel = kernels["Gaussian"]
camera = as_the_camera_does(high, kernel, 4, 0.03, 60, seed())
noise = torch.tensor([0.03]), torch.tensor([False])
by_steps = distortions.jpeg(
    distortions.gaussian_noise(resize(distortions.filter_each(high, kernel), 1 / 4), *noise, seed()), torch.tensor([60])
)
print("largest difference from the functions of the module, in this order:", (camera - by_steps).abs().max().item())
show_pictures([("scene", high), ("by the camera", camera), ("bicubic alone", low)])

# %% [markdown]
# ## One round, to turn by hand
#
# Blur, shrink, noise, JPEG: in a notebook with the package ipywidgets three sliders stand under the pictures.

# %%
from play import play

face = crop(high, 40, 40, 96)


def one_round(quality, noise, blur):
    kernel = distortions.generalised_gaussian_kernels(*settings_of((blur, blur), 1.0))
    small = resize(distortions.filter_each(face, kernel), 1 / 2)
    noisy = distortions.gaussian_noise(small, torch.tensor([noise / 255]), torch.tensor([False]), seed())
    caption = f"blur {blur}, noise {noise}\nquality {quality}"
    return caption, distortions.jpeg(noisy, torch.tensor([quality]))


play(one_round, quality=(95, 50, 20, 5), noise=(0, 10, 25, 50), blur=(0.4, 1.0, 2.0, 4.0))

# %% [markdown]
# ## Two rounds
#
# `degrade.second_order` first samples a list of steps and then applies them; `step_by_step` gives the picture after
# each. Change the seed: it is the slider of this playground.

# %% tags=["cover"]
SEED = 14
steps = degrade.sample_second_order(face.shape, 4, seed(SEED))
stages = [("ground truth", face)] + [
    (degrade.caption(step, picture), picture) for step, picture in degrade.step_by_step(face, steps)
]
show_pictures(stages[:6], stages[6:], side=96)

# %% [markdown]
# Above each picture stands what was sampled for it. On the way, a picture may be smaller or larger than at the end.
#
# **Predict before you run.** Bicubic gives one small picture. Fifty times we degrade the same picture at random, in two
# rounds. How far apart, in decibels, are the best and the worst?

# %%
predict("11.2", None)

# %%
count = 5 if FAST else 50
decibels = {}
for name, method in (("first order", degrade.first_order), ("second order", degrade.second_order)):
    lows = [method(high, 4, seed(number)) for number in range(count)]
    decibels[name] = [psnr(resize(picture, 4), high, 4).item() for picture in lows]
    print(f"{name}: {min(decibels[name]):.1f} to {max(decibels[name]):.1f} dB")
outcome("11.2", max(decibels["second order"]) - min(decibels["second order"]))
plt.figure(figsize=(6.4, 2.8))
plt.hist(decibels.values(), bins=20, label=list(decibels))
plt.axvline(psnr(resize(low, 4), high, 4).item(), color="black", linestyle="--", label="bicubic alone")
plt.gca().set(xlabel="PSNR after enlarging, dB", ylabel="pictures", title="How much degradation takes away")
plt.legend()
show()

# %% [markdown]
# One network must now restore all of them. It can no longer count on one kind of degradation, so it learns what they
# have in common. The price: on clean pictures it is worse than a network trained on bicubic alone.

# %% [markdown]
# ## Recap
#
# - A network undoes the degradation of its training pictures. Any other degradation it takes for detail.
# - Blur, resize, noise, JPEG: this is the order in which they happen in a camera.
# - Twice, because pictures are edited and sent. At random, because nobody knows what was done.
#
# Next: [lesson 12](12_real_esrgan.py), a network that learns from such pictures.
