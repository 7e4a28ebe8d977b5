# %% [markdown]
# # 7. The best PSNR is blurred
#
# **Goal.** See why a network that is trained on pixels must blur: it gives the average of all pictures that could be
# right.
#
# **You will see:** many plausible sharp pictures of one small one, and which answer is nearest to all of them.
#
# Takes half a minute on two cores. You bring from [lesson 4](04_honest_training.py) that L2 answers the mean, and
# from [lesson 6](06_rrdb.py) the RRDB generator.

# %%
from checks import check, hint
from course import FAST, crop, photograph, photograph_pairs, promise, seed, show, show_pictures, trained
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from engine import networks
from engine.data import sample_batch
from esrgan import RRDBNet
from imaging.images import from_bytes, psnr, resize, rgb_to_luma

# %% [markdown]
# ## The idea
#
# Many sharp pictures $h$ shrink to the same small picture $x$: the question is **ill-posed**. The small one cannot tell
# which of them is the ground truth. If the loss is the squared difference, the answer with the least expected loss is
#
# $$R(x) = \mathbf{E}[h \mid x]$$
#
# - $\mathbf{E}[h \mid x]$: the mean of all pictures $h$ that are possible when $x$ is seen, each with its probability
#
# Where all of them agree, on large shapes, the mean is sharp. Where they differ, in the blades of grass, it is
# blurred. For any guess $g$ the expected squared error splits into two parts:
#
# $$\mathbf{E}\,(g-h)^2 = (g-\mathbf{E}h)^2 + \mathrm{Var}\,h$$
#
# - $\mathrm{Var}\,h$: the variance, the mean squared distance of the possible pictures from their mean

# %% [markdown]
# ## Plausible pictures, made by hand
#
# Can we find many sharp patches that shrink to the same small one? A trick: every patch is what its small version
# shows, plus the detail that was lost. Take the small version of *one* patch of grass and the lost detail of *another*.
# **Now you.**


# %%
def with_foreign_detail(high, other, scale):
    """A patch that shrinks (nearly) like `high` but has the lost detail of `other`; both (N, C, H, W).

    Difficulty 1 of 3, 10 minutes. Use `resize` of imaging.images.
    """
    raise NotImplementedError


with_foreign_detail = check("07a", with_foreign_detail)

# %%
grass = rgb_to_luma(photograph("grass.png"))
high = crop(grass, 200, 200, 64)
low = resize(high, 1 / 4)
places = torch.randint(512 - 64, (300, 2), generator=seed(1)).tolist()
others = torch.cat([crop(grass, top, left, 64) for top, left in places])
plausible = with_foreign_detail(high.expand_as(others), others, 4)
for _ in range(5):  # shrinking and enlarging are not exact opposites: take off what does not agree
    plausible = plausible + resize(low - resize(plausible, 1 / 4), 4)
print(f"they shrink to the same small patch within {255 * (resize(plausible, 1 / 4) - low).abs().mean():.2f} levels")

# %% [markdown]
# **Predict before you run.** What does the average of all 300 look like? And by how many dB is the PSNR of a sharp one,
# chosen at random, above that of the average, or below it (then negative)?

# %%
predict("07", None)

# %% [markdown]
# **Now you.** The answer with the least expected error, for any probabilities; and that error.


# %%
def best_answer(plausible, probabilities):
    """n plausible pictures (n, C, H, W) with their probabilities (n,), which sum to 1 → the picture (1, C, H, W) with
    the least expected squared error.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


best_answer = check("07c", best_answer)


# %%
def expected_error(guess, plausible):
    """A guess (1, C, H, W) and n plausible pictures (n, C, H, W) → the expected mean squared error, a number.

    Without a loop. Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


expected_error = check("07b", expected_error)

# %% tags=["cover"]
average = best_answer(plausible, torch.full((300,), 1 / 300))
print("largest difference from the plain mean:", (average - plausible.mean(dim=0)).abs().max().item())
of_the_average = psnr(average, high, 4).item()
decibels = psnr(plausible, high.expand_as(plausible), 4)
show_pictures(
    [("small, 16 pixels", low), ("ground truth", high), (f"average of 300\n{of_the_average:.1f} dB", average)],
    [(f"plausible {number + 1}\n{decibels[number]:.1f} dB", plausible[number : number + 1]) for number in range(3)],
)

# Any of the 300 may be the ground truth. The error of the average, and that of another one chosen at random:
of_average = torch.as_tensor(expected_error(average, plausible))
of_sharp = (plausible - plausible.roll(1, dims=0)).square().mean()
outcome("07", -10 * (of_sharp / of_average).log10().item())
promise("the average is ahead by, in dB", 10 * (of_sharp / of_average).log10().item(), 3.0, 0.2)

# %% [markdown]
# Promised: 3.0 ± 0.2 dB for the average. It pays the variance once. A plausible sharp picture pays it twice, for the
# ground truth and for itself, and twice the error is 3 dB less.
#
# The average is the most faithful and the least like grass. No network, no better training and no larger data set can
# change that: it lies in the question. "Which pixels have the least squared error?" The blur *is* the right answer.
#
# ## A network does the same
#
# We train a small RRDB generator ×4 on L1 for a short time. This is ESRGAN's first stage, called **PSNR-oriented**. If
# you have trained a better one, or one came with the project, that is shown too.
#
# How blurred is it? Shrinking destroys the high frequencies, so we measure them. The **fine detail** of a picture is
# the mean square of what a small blur takes away.


# %%
def fine_detail(picture):
    """The mean square of luma minus its 3×3 binomial blur: the finest octave."""
    luma = rgb_to_luma(picture)
    binomial = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).view(1, 1, 3, 3) / 16
    return (luma[..., 1:-1, 1:-1] - F.conv2d(luma, binomial)).square().mean().item()


training, held_out = photograph_pairs(4, enlarge=False)
torch.manual_seed(0)
network = RRDBNet(scale=4, features=16, growth=8, blocks=2)
generator = seed()
learning_rate = 2e-3
optimizer = torch.optim.Adam(network.parameters(), learning_rate)
steps = 10 if FAST else 300
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
for _ in range(steps):
    chosen = [training[i] for i in torch.randint(len(training), (4,), generator=generator).tolist()]
    low, high = map(from_bytes, sample_batch(chosen, 24, generator))
    loss = F.l1_loss(resize(low, 4) + network(low), high)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()

# %%
low, high = held_out[0].pictures()
with torch.no_grad():
    restored = {"bicubic": resize(low, 4), "RRDB, trained here": resize(low, 4) + network(low)}
    if found := trained(model="rrdb", scale=4, degradation="bicubic"):
        restored[f"RRDB, {found[0].name}"] = networks.load_network(found[1])(low)
for name, picture in restored.items():
    share = fine_detail(picture) / fine_detail(high)
    print(f"{name}: {psnr(picture, high, 4).item():.2f} dB, {100 * share:.0f} % of the fine detail")
panels = [(name, crop(picture, 40, 40, 96)) for name, picture in restored.items()]
show_pictures([*panels, ("ground truth", crop(high, 40, 40, 96))])

# %% [markdown]
# ## Which frequencies are missing?
#
# The Fourier transform writes a picture as waves. We average their power over all directions. The finest wave that
# the small picture can hold has 1/8 of a wave per large pixel.


# %%
def spectrum(picture):
    """Mean power of the waves, by frequency in waves per pixel: 40 values from 0 to 0.5."""
    luma = rgb_to_luma(picture)[0, 0]
    window = torch.hann_window(luma.shape[0])[:, None] * torch.hann_window(luma.shape[1])
    power = torch.fft.fft2((luma - luma.mean()) * window).abs().square()
    rows, columns = (torch.fft.fftfreq(side).abs() for side in luma.shape)
    ring = ((rows[:, None] ** 2 + columns**2).sqrt() * 80).long()
    return [power[ring == number].mean().item() for number in range(40)]


plt.figure(figsize=(6.4, 3.4))
for name, picture in {**restored, "ground truth": high}.items():
    plt.semilogy([number / 80 for number in range(40)], spectrum(picture), label=name)
plt.axvline(1 / 8, color="grey", linestyle="--", label="finest wave of the small picture")
plt.gca().set(xlabel="waves per pixel", ylabel="power", title="What a pixel loss leaves out")
plt.legend(fontsize=8)
show()

# %% [markdown]
# Left of the dashed line the network agrees with the ground truth. Right of it lies what the small picture does not
# say, and there the network adds little. For sharp grass we must ask another question than "which pixels?". That begins
# in the next lesson.

# %% [markdown]
# ## Recap
#
# ![One small patch, several sharp patches that shrink to it, and their average](pictures/07_blur.png)
#
# - Many sharp pictures shrink to the same small one. A pixel loss answers with their mean, or their median.
# - The mean has the best PSNR. It is blurred wherever the sharp ones differ.
# - A sharp, plausible guess costs about 3 dB. High PSNR and real-looking texture are two goals.
#
# Next: [lesson 8](08_discriminators.py), a discriminator that knows how grass looks.
