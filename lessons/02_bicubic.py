# %% [markdown]
# # 2. Bicubic and aliasing
#
# **Goal.** Build the matrix that resizes a picture, see the false patterns that a careless shrink makes, and know why
# two libraries shrink the same picture differently.
#
# **You will see:** the same photograph, shrunk in four ways and enlarged again in one, gets different PSNRs. Which of
# them is the highest will surprise you.
#
# Takes a few seconds. You bring from [lesson 1](01_pixels.py): PSNR by the protocol.

# %%
import math

from checks import check, hint
from course import crop, photograph, promise, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import numpy
import torch
import torch.nn.functional as F
from PIL import Image

from imaging import images

# %% [markdown]
# ## The idea
#
# Every pixel of the new picture is a weighted sum of old pixels near it. The weight depends on the distance and comes
# from a **kernel**. Bicubic is Keys' cubic kernel of 1981:
#
# $$k(x) = \begin{cases}(a+2)|x|^3-(a+3)|x|^2+1 & |x|\le 1\\ a|x|^3-5a|x|^2+8a|x|-4a & 1<|x|\le 2\end{cases}$$
#
# - $x$: the distance, in old pixels; beyond 2 the kernel is 0
# - $a$: how far it dips below zero, −0.5 in MATLAB and Pillow, −0.75 in OpenCV
#
# One row of weights for each new pixel makes a **resize matrix** $M$. Rows and columns are resized one after the
# other:
#
# $$\mathrm{new} = M_\mathrm{rows}\;\mathrm{old}\;M_\mathrm{columns}^\top$$
#
# When we shrink, the kernel must be stretched so that every old pixel counts. That is **anti-aliasing**.


# %% [markdown]
# **Now you.** Write the kernel.


# %%
def cubic_weight(x, a):
    """Tensor of distances in pixels, any shape → the weights of Keys' kernel with parameter a, the same shape.

    Difficulty 1 of 3, 10 minutes.
    """
    raise NotImplementedError


cubic_weight = check("02a", cubic_weight)

# %%
plt.figure(figsize=(6, 2.8))
points = torch.linspace(-3, 3, 301)
for a in (-0.5, -0.75):
    plt.plot(points, cubic_weight(points, a), label=f"a = {a}")
plt.gca().set(title="Keys' kernel", xlabel="distance in old pixels", ylabel="weight")
plt.legend()
show()

# %% [markdown]
# ## The matrix by hand
#
# Where does new pixel $i$ lie among the old ones? Both pictures cover the same area, and a pixel's centre is half a
# pixel from its edge. The **scale** is the new length divided by the old one: 2 to double, 0.5 to halve.
#
# **Now you.** Draw it for four pixels that become two, then write the formula.


# %%
def centres(new_length, scale):
    """Where the centres of new pixels 0 … new_length − 1 lie; shape (new_length,).

    Counted in old pixels: the centre of old pixel 0 is 0, that of old pixel 1 is 1.
    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


centres = check("02b", centres)

# %% [markdown]
# The centre of new pixel $i$, counted in old pixels, at the scale $s$, is
#
# $$c_i = \frac{i + 0.5}{s} - 0.5$$
#
# What about old pixels that do not exist, beyond the border? MATLAB mirrors the picture at its edge, so the pixels
# $a\,b\,c$ go on as $\dots c\,b\,a\,|\,a\,b\,c\,|\,c\,b\,a \dots$, the outermost pixel twice. When it shrinks, the
# kernel is stretched: distances are divided by $1/s$. And the weights of a new pixel are divided by their sum, so that
# an even grey stays the same grey. **Now you.** Write it before you read on: the next cell builds a similar matrix.


# %%
def resize_matrix(length, new_length):
    """The bicubic resize matrix (new_length, length), a = −0.5, anti-aliased, mirrored at the border.

    The kernel is stretched only when the picture shrinks. Call `cubic_weight` and `centres` from above.
    Difficulty 3 of 3, 30 minutes.
    """
    raise NotImplementedError


resize_matrix = check("02c", resize_matrix)


# %%
def by_hand(length, new_length, antialias=True):
    """The matrix from above; without anti-aliasing, the same from a kernel that is never stretched."""
    if antialias:
        return torch.as_tensor(resize_matrix(length, new_length)).float()
    positions = torch.arange(-length, 2 * length)
    weights = cubic_weight(centres(new_length, new_length / length)[:, None] - positions, -0.5)
    left, middle, right = (weights / weights.sum(dim=1, keepdim=True)).split(length, dim=1)
    return middle + left.flip(1) + right.flip(1)


figure, axes = plt.subplots(1, 3, figsize=(9, 2.9), width_ratios=[12, 12, 8])
cases = {
    "halve 12 pixels": by_hand(12, 6),
    "the same, no anti-aliasing": by_hand(12, 6, antialias=False),
    "double 6": by_hand(6, 12),
}
for axis, (title, matrix) in zip(axes, cases.items(), strict=True):
    drawing = axis.imshow(matrix, cmap="RdBu", vmin=-0.9, vmax=0.9)
    axis.set(title=title, xlabel="old pixel", ylabel="new pixel")
figure.colorbar(drawing, ax=axes, label="weight")
show()

# %% [markdown]
# A row is one new pixel, a column one old pixel; blue weights are positive, red ones negative. Without anti-aliasing
# a new pixel looks at four old ones, however far the picture shrinks.
#
# Now the real module. `images.resize` uses the same weights, without storing the zeros:

# %%
high = crop(photograph("astronaut.png"), 0, 150, 192)
matrix = by_hand(192, 96)
half = matrix @ high @ matrix.T
print("largest difference from images.resize:", (half - images.resize(high, 1 / 2)).abs().max().item())

# %% [markdown]
# ## Aliasing
#
# The rings below get finer towards the right and lower edge: at the distance $r$ from the upper left corner one ring
# comes every $560/r$ pixels. Shrunk to a quarter, the fine ones cannot be shown any more: they should fade to grey.
#
# **Predict before you run.** What do you see instead when each new pixel looks at four old ones only? Keep it in a few
# words. And from which distance $r$ on, in old pixels, is what you see false?

# %%
predict("02.1", None)
predict("02", None)

# %% tags=["cover"]
row = torch.arange(192.0)
radius = (row[:, None] ** 2 + row**2).sqrt()
rings = (0.5 + 0.5 * torch.cos(math.pi * radius**2 / 560))[None, None]
smooth = by_hand(192, 48)
aliased = by_hand(192, 48, antialias=False)
grass = crop(photograph("grass.png"), 0, 0, 192)
show_pictures(
    [
        ("rings, 192 pixels", rings),
        ("48 pixels, anti-aliased", smooth @ rings @ smooth.T),
        ("48 pixels, not anti-aliased", aliased @ rings @ aliased.T),
    ],
    [
        ("grass", grass),
        ("48 pixels, anti-aliased", smooth @ grass @ smooth.T),
        ("48 pixels, not anti-aliased", aliased @ grass @ aliased.T),
    ],
)

# %%
outcome("02.1", "new rings, round centres that were never there")
outcome("02", 70)

# %% [markdown]
# From $r = 70$ on, a ring comes every 8 old pixels or less, that is every two new ones or less. There the rings are
# false, and grass turns to noise: this is **aliasing**. Stripes that repeat within less than two new pixels do not
# vanish by themselves. They come back as a pattern that was never there. A network trained on such pictures learns to
# undo damage that no real camera does.
#
# **Why.** Take a grating with $f$ waves per new pixel and look at it only where new pixels lie, at $n = 0, 1, 2, …$:
#
# $$\cos(2\pi f n) = \cos(2\pi f n - 2\pi n) = \cos(2\pi(1-f)\,n)$$
#
# A whole turn at each pixel changes nothing. So the waves $f$ and $1-f$ have the same pixels. Half a wave per pixel is
# the border between them, the **Nyquist frequency** (Shannon, 1949). What is finer must be taken away *before* pixels
# are left out: afterwards nothing tells the two apart. In the spectrum of the pixels everything beyond the border is
# folded back at it. We measure it on gratings that are shrunk to a quarter:

# %%
plt.figure(figsize=(6.4, 2.8))
new_waves = torch.arange(0.1, 1.0, 0.05)  # waves per new pixel; an old pixel is a quarter of one
for name, matrix in (("not anti-aliased", aliased), ("anti-aliased", smooth)):
    shrunk = matrix @ torch.cos(2 * math.pi * row[:, None] * new_waves / 4)
    strengths = torch.fft.rfft(shrunk * torch.hann_window(48)[:, None], n=480, dim=0).abs()  # 480: a finer scale
    found = strengths[15:].argmax(dim=0).add(15) / 480
    marks = [max(4.0, 60 * float(strength)) for strength in strengths[15:].amax(dim=0) / strengths[15:].max()]
    plt.scatter(new_waves, found, marks, alpha=0.6, label=name)
plt.plot([0, 0.5, 1], [0, 0.5, 0], "k--", linewidth=0.8, label="f, folded at one half")
plt.gca().set(xlabel="waves per new pixel that went in", ylabel="that come out", title="Large dots are strong waves")
plt.legend(fontsize=8)
show()

# %% [markdown]
# Beyond one half the wave of $f = 0.8$ comes out as one of 0.2: at full strength without anti-aliasing, and faint with
# it.
#
# ## Why libraries disagree
#
# We shrink one photograph by half in four ways and enlarge it each time by `images.resize`: MATLAB's way, PyTorch's
# with `antialias=True`, Pillow's, and PyTorch's default, which does not anti-alias.
#
# **Predict before you run.** Which of the four gets the highest PSNR, MATLAB's, PyTorch's anti-aliased, Pillow's or
# PyTorch's default?

# %%
predict("02.2", None)

# %%
bytes_of_high = images.to_image(high)
pillow = torch.from_numpy(numpy.array(bytes_of_high.resize((96, 96), Image.Resampling.BICUBIC), dtype="float32") / 255)
halves = {
    "MATLAB's, images.resize": images.resize(high, 1 / 2),
    "PyTorch, antialias=True": F.interpolate(high, scale_factor=1 / 2, mode="bicubic", antialias=True),
    "Pillow": pillow.permute(2, 0, 1)[None],
    "PyTorch's default, OpenCV's": F.interpolate(high, scale_factor=1 / 2, mode="bicubic"),
}
reference = halves["MATLAB's, images.resize"]
panels = []
decibels = {}
for name, small in halves.items():
    restored = images.resize(images.round_to_8_bits(small), 2)
    decibels[name] = images.psnr(restored, high, border=2).item()
    apart = (0.5 + 3 * (small - reference)).clamp(0, 1)
    panels.append((f"{name}\n{decibels[name]:.2f} dB", apart))
show_pictures(panels)
outcome("02.2", max(decibels, key=decibels.get))
gap = decibels["PyTorch's default, OpenCV's"] - decibels["MATLAB's, images.resize"]
promise("without anti-aliasing, in dB", gap, 0.6, 0.05)

# %% [markdown]
# The pictures show the difference from MATLAB's small picture, three times as strong. Grey is no difference, so the
# first is plain. PyTorch with `antialias=True` and Pillow differ only along the border: they leave missing pixels out
# instead of mirroring. Look at the lower edge. Without anti-aliasing, and with $a$ = −0.75, the whole picture differs.
#
# Now look at the numbers. Without anti-aliasing, the PSNR at ×2 is *higher* (promised: by 0.6 ± 0.05 dB): the jagged
# small picture keeps more detail. Two things differ in the last of the four, so we separate them, at ×2 and at ×4:

# %%
for scale in (2, 4):
    side = 192 // scale
    reference = images.psnr(images.resize(images.round_to_8_bits(images.resize(high, 1 / scale)), scale), high, scale)
    for cause, small in (
        ("no anti-aliasing, a = −0.5", by_hand(192, side, False) @ high @ by_hand(192, side, False).T),
        ("no anti-aliasing, a = −0.75", F.interpolate(high, size=(side, side), mode="bicubic")),
    ):
        gained = images.psnr(images.resize(images.round_to_8_bits(small), scale), high, scale) - reference
        print(f"×{scale}, {cause}: {gained.item():+.2f} dB")

# %% [markdown]
# At ×2 nearly all of it is the anti-aliasing. At ×4 the parameter $a$ costs 0.2 dB more. And what is a gain at ×2 is a
# loss at ×4, where the false patterns weigh more than the detail. **A PSNR tells nothing until you know how the picture
# was shrunk.** Papers shrink by MATLAB's bicubic, and so does `degrade.bicubic`.

# %% [markdown]
# ## Recap
#
# ![A pattern of rings, shrunk with and without anti-aliasing](pictures/02_bicubic.png)
#
# - Resizing is a matrix: one row of weights for each new pixel.
# - Shrinking needs a stretched kernel. Without it, fine detail returns as false patterns.
# - Libraries differ in the border, in the parameter a, and above all in anti-aliasing.
# - `images.resize` is MATLAB's, because the tables were made with it.
#
# Next: [lesson 3](03_srcnn.py), the first network.
