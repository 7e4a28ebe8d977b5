# %% [markdown]
# # 1. Pixels, luma, PSNR, SSIM
#
# **Goal.** Measure how far a restored picture is from the **ground truth**, the picture it should be. Know why two
# people who measure the same two pictures get different numbers.
#
# **You will see:** one picture and four "PSNRs" of it, more than a decibel apart.
#
# Takes a few seconds. You bring: Python, and tensors from PyTorch.

# %%
from checks import check, hint
from course import crop, photograph, promise, seed, show_pictures
from predictions import outcome, predict

import torch
import torch.nn.functional as F

from imaging import images

# %% [markdown]
# ## The idea
#
# A **picture** here is a tensor (N, 3, H, W) of numbers from 0 (dark) to 1 (bright): N pictures, three colours, H
# rows, W columns. The **mean squared error** of a restored picture $r$ against the ground truth $h$ is the
# average of $(r-h)^2$ over all pixels. Its logarithm is the **peak signal-to-noise ratio**, in decibels (dB):
#
# $$\mathrm{PSNR} = 10\,\log_{10}\frac{p^2}{\mathrm{MSE}}$$
#
# - $p$: the peak, the largest value a pixel can have (1 here, 255 in bytes)
# - MSE: the mean squared error
#
# Higher is better. Half the MSE is 3 dB more; half of its root, the typical error of a pixel, is 6 dB more.
#
# The formula leaves open *which* numbers are compared. Published tables compare **luma**, the brightness $Y$ of a
# pixel, because the eye sees fine detail in brightness and hardly in colour.

# %% [markdown]
# ## A picture to measure
#
# We need a ground truth and a picture to measure against it. We shrink the ground truth to half its size and enlarge it
# again by bicubic interpolation, which the next lesson explains. Every step is rounded to 8 bits, as a file is.

# %%
high = crop(photograph("astronaut.png"), 0, 140, 176)
low = images.round_to_8_bits(images.resize(high, 1 / 2))
restored = images.round_to_8_bits(images.resize(low, 2))
print("shape", tuple(high.shape), "one pixel:", high[0, :, 60, 90].tolist())
show_pictures([("ground truth", high), ("shrunk to half", low), ("enlarged again", restored)])


# %% [markdown]
# ## PSNR by hand
#
# **Now you.** Replace `raise NotImplementedError` by your code and run the cell. `check` says what is missing. The
# lesson goes on with your function; while it is not right yet, with the course's own. Stuck? `hint("01b")` gives a
# first hint, `hint("01b", 2)` says more. (The letters say nothing of the order: 01a comes below.)


# %%
def psnr_of_each(restored, high):
    """Two tensors (N, C, H, W) in 0..1 → the PSNR of each of the N pictures, shape (N,).

    All C·H·W values of a picture count, as they are: nothing is rounded or cut off.
    Difficulty 1 of 3, 10 minutes.
    """
    raise NotImplementedError


psnr_of_each = check("01b", psnr_of_each)

# %% [markdown]
# We start with all three colours.


# %%
def decibel(one, other):
    """PSNR of two pictures (1, C, H, W) with values in 0..1."""
    return float(psnr_of_each(one, other)[0])


print(f"RGB: {decibel(restored, high):.2f} dB")

# %% [markdown]
# ## Two kinds of luma
#
# The standard BT.601 mixes luma from red, green and blue:
#
# $$Y = 16 + 65.481\,R + 128.553\,G + 24.966\,B$$
#
# - $R, G, B$: the colours, 0 to 1
# - $Y$: the luma, on the scale of bytes; divide by 255 to have it in our range
#
# Black is 16 and white 235: this is **studio swing**. It comes from analogue television, which needed room at both
# ends. JPEG stretches the same mixture to 0…255: **full range**. Every difference is then 255/219 times as large.
#
# **Predict before you run.** The differences grow by 255/219 = 1.16. By how many dB does the PSNR of full-range luma
# differ from that of studio luma? Negative, if it is lower.

# %%
predict("01", None)

# %% [markdown]
# **Now you.**


# %%
def luma_of(rgb):
    """(N, 3, H, W) RGB in 0..1 → (N, 1, H, W): BT.601 studio swing, divided by 255.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


luma_of = check("01a", luma_of)


# %%
def full_range_luma(picture):
    """The studio swing's 16 … 235 stretched to 0 … 255."""
    return (255 * luma_of(picture) - 16) / 219


full_range = decibel(full_range_luma(restored), full_range_luma(high))
studio = decibel(luma_of(restored), luma_of(high))
apart = (luma_of(high) - images.rgb_to_luma(high)).abs().max().item()
print(f"images.rgb_to_luma differs from luma_of by {apart:.1e} at most")
outcome("01", full_range - studio)
promise("studio minus full range, in dB", studio - full_range, 1.32, 0.03)

# %% [markdown]
# 20·log₁₀(255/219) = 1.32 dB: full range gives the *lower* number for the same two pictures (promised: 1.32 ± 0.03 dB).
# It is the commonest reason why somebody "cannot reproduce" a paper.
#
# ## The protocol
#
# Near its border an enlarged picture is partly invented, for there are no pixels beyond. So the published tables leave
# out a border of `scale` pixels. They also round to 8 bits twice, as RGB and as luma, because MATLAB did. That is the
# whole **protocol**. `images.psnr` (in `imaging/images.py`) is the one place where this project measures it.


# %%
def as_measured(picture):
    """Luma with 8 bits, without a border of two pixels."""
    return (255 * luma_of(picture)).round()[..., 2:-2, 2:-2] / 255


by_hand = decibel(as_measured(restored), as_measured(high))
print(f"by hand {by_hand:.4f} dB, images.psnr {images.psnr(restored, high, border=2).item():.4f} dB")

# %% tags=["cover"]
numbers = {
    "RGB": decibel(restored, high),
    "full-range luma": full_range,
    "studio luma": studio,
    "the protocol": images.psnr(restored, high, border=2).item(),
}
difference = (0.5 + 4 * (luma_of(restored) - luma_of(high))).clamp(0, 1)
four = "\n".join(f"{name} {value:.2f} dB" for name, value in numbers.items())
show_pictures([("ground truth", high), (four, restored), ("difference of luma × 4\ngrey is none", difference)])

# %% [markdown]
# None of the four is wrong. But only numbers made in the same way may be compared. So **print the protocol beside the
# number**, always. (Here the border is plain background, easier than the face: without it the number is *lower*.)
#
# ## SSIM: does the structure agree?
#
# PSNR does not care *where* an error lies. **SSIM**, the structural similarity, compares small windows: how bright they
# are, how strong their texture is, and whether the two textures go together.
#
# $$\mathrm{SSIM} = \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}{(\mu_x^2+\mu_y^2+c_1)(\sigma_x^2+\sigma_y^2+c_2)}$$
#
# - $x, y$: the same window in the two pictures
# - $\mu_x, \mu_y$: the mean of each
# - $\sigma_x^2$: the variance, the average of $(x-\mu_x)^2$ over the window; $\sigma_y^2$ likewise
# - $\sigma_{xy}$: the covariance, the average of $(x-\mu_x)(y-\mu_y)$
# - $c_1 = (0.01\,p)^2,\ c_2 = (0.03\,p)^2$: small constants, so that flat windows do not divide by zero
#
# It is 1 for equal windows and falls where texture is lost or invented. `images.ssim` moves a window of 11×11 with
# soft edges (a Gaussian) over the luma and averages.
#
# **Predict before you run.** We damage one picture in three ways, with exactly the same PSNR of 26 dB: brighter
# everywhere, noise, blur. Order them by SSIM, the best first, such as "noise, blur, brighter".

# %%
predict("01.2", None)

# %% [markdown]
# **Now you.** One window first.


# %%
def ssim_of_window(x, y):
    """Two windows of any equal shape in 0..1 → their SSIM by the formula above with p = 1, as one number.

    Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


ssim_of_window = check("01c", ssim_of_window)

# %%
luma = images.rgb_to_luma(high) * 0.8  # darker, so that no damage is cut off at white
error_at_26_db = 10 ** (-26 / 20)  # the root of the mean squared error that gives 26 dB


def with_error(damage):
    """Scale a damage until the PSNR is 26 dB."""
    return luma + damage * error_at_26_db / damage.square().mean().sqrt()


box = torch.ones(1, 1, 9, 9) / 81  # the mean of 9×9 pixels
blurred = F.conv2d(F.pad(luma, [4] * 4, mode="replicate"), box)
damaged = {
    "brighter": with_error(torch.ones_like(luma)),
    "noise": with_error(torch.randn(luma.shape, generator=seed(1))),
    "blur": with_error(blurred - luma),
}
panels = [("ground truth, luma", luma)]
similarities = {}
windows_of_luma = luma.unfold(2, 8, 8).unfold(3, 8, 8).reshape(-1, 8, 8)
for name, picture in damaged.items():
    decibels = images.psnr(picture, luma).item()
    similarity = images.ssim(picture, luma).item()
    panels.append((f"{name}\n{decibels:.1f} dB, SSIM {similarity:.3f}", picture))
    similarities[name] = similarity
    windows = zip(picture.unfold(2, 8, 8).unfold(3, 8, 8).reshape(-1, 8, 8), windows_of_luma, strict=True)
    by_hand = sum(float(ssim_of_window(one, other)) for one, other in windows) / len(windows_of_luma)
    print(f"{name}: SSIM by hand {by_hand:.3f}, images.ssim {similarity:.3f}")
show_pictures(panels)
outcome("01.2", ", ".join(sorted(similarities, key=similarities.get, reverse=True)))

# %% [markdown]
# By hand we averaged over squares of 8×8 beside each other, `images.ssim` over soft windows at every pixel: the numbers
# differ a little, the order does not.
#
# Three pictures, one PSNR, three looks. SSIM hardly minds the shift of brightness, which the eye forgives too. It puts
# the noise last, below the blur. You may prefer the noise, which keeps the face sharp. No single metric tells the whole
# story: look at the picture *and* at the number.

# %% [markdown]
# ## Recap
#
# ![One enlarged picture and the four numbers it gets](pictures/01_pixels.png)
#
# - A picture is numbers from 0 to 1. PSNR is the logarithm of their mean squared error.
# - Luma, its swing, the border and the rounding each move the number. Together they are the protocol.
# - The metrics `images.psnr` and `images.ssim` measure as the published tables do, one value for each picture.
# - Equal PSNR can look very different.
#
# Next: [lesson 2](02_bicubic.py), how the degraded picture was made.
