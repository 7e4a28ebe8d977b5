# %% [markdown]
# # 4. Honest training
#
# **Goal.** Tell learning from memorising, choose a learning rate and a loss, and know what a healthy curve looks
# like.
#
# **You will see:** a network that learns two patches by heart, and what that is worth on new photographs.
#
# Takes a minute and a half on one core. You bring from [lesson 3](03_srcnn.py): SRCNN and its loop.

# %%
import math

from checks import check, hint
from course import FAST, photograph_pairs, promise, seed, show
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from engine.data import sample_batch, split_by_photograph
from engine.optimizers import AdamFromGrey
from engine.training import validate
from imaging.images import from_bytes, psnr, rgb_to_luma
from srcnn import SRCNN

# %% [markdown]
# ## The idea
#
# Training makes the loss small on the pictures that are shown. What we want is a small loss on pictures that are
# *not* shown. The difference is the **generalisation gap**:
#
# $$\mathrm{gap} = \mathrm{PSNR}_\mathrm{training} - \mathrm{PSNR}_\mathrm{held\ out}$$
#
# A network with more freedom than examples can store them: it **overfits**. So pictures are **split** before
# training. Some teach. Others are **held out**, for validation: they are only measured. The split must be by
# *photograph*. Two patches of one brick wall are nearly the same picture. With one on either side, the network is
# examined on what it has memorised.
#
# `validate` in `engine/training.py` measures held-out pairs by the protocol of lesson 1.

# %%
training, held_out = photograph_pairs(2, enlarge=True)


class Unchanged(torch.nn.Identity):
    """No network: its input is the bicubic picture already."""

    # What every network here offers: see Network in engine/networks.py.
    luma = True
    scale = fold = 1
    radius = margin = 0
    tile = 256

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(()))  # `validate` looks on which device the weights are


bicubic = validate(Unchanged(), held_out, 2)
print(f"bicubic on the held-out photographs: {bicubic:.2f} dB")

# %% [markdown]
# A held-out set comes in batches, and the last of them may be smaller. **Now you.**


# %%
def mean_of_batches(batches):
    """A list of tensors, the PSNR of each picture in each batch → the mean over all pictures.

    The last batch may be smaller. Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


mean_of_batches = check("04d", mean_of_batches)

# %%
lumas = [[rgb_to_luma(picture) for picture in pair.pictures()] for pair in training + held_out]
decibels = torch.cat([psnr(low, high, 2) for low, high in lumas])
print(f"nine photographs, in batches of four: {mean_of_batches(decibels.split(4)):.3f} dB, ", end="")
print(f"by validate: {validate(Unchanged(), training + held_out, 2):.3f} dB")

# %% [markdown]
# The **learning rate** rises at first and then falls to zero along half a cosine. **Now you.** The fall.


# %%
def cosine_rate(step, steps, learning_rate):
    """The rate of a step from 0 to steps − 1: `learning_rate` at step 0, half of it half-way, near 0 at the end.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


cosine_rate = check("04b", cosine_rate)

# %% [markdown]
# One loop serves all experiments. `sample` gives the patches of a step.
# Where nothing else is said, the middle layer is 1×1, which is faster, and the weights are those of seed 0.


# %%
def luma_patches(pairs, count, generator):
    """Random patches of 33×33 as luma: low and high."""
    chosen = [pairs[i] for i in torch.randint(len(pairs), (count,), generator=generator).tolist()]
    return [rgb_to_luma(from_bytes(part)) for part in sample_batch(chosen, 33, generator)]


def plain_psnr(restored, target):
    """PSNR of luma as it is, without the protocol's border and rounding."""
    return -10 * math.log10(F.mse_loss(restored, target).item())


def run(sample, steps, learning_rate=1e-3, loss=F.mse_loss, kernels=(9, 1, 5), weights=0):
    """Train SRCNN; its curves of PSNR on the batch and on the held-out photographs, eight points each."""
    torch.manual_seed(weights)
    network = SRCNN(kernels)
    generator = seed()
    steps = 16 if FAST else steps
    optimizer = AdamFromGrey(network, lr=learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, 10 * (step + 1) / steps) * cosine_rate(step, steps, 1.0)
    )
    border = network.radius
    own, new = [], []
    for step in range(steps):
        low, high = sample(generator)
        restored = network.forward_valid(low)
        target = high[..., border:-border, border:-border]
        optimizer.zero_grad()
        loss(restored, target).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % (steps // 8) == 0:
            own.append(plain_psnr(restored, target))
            new.append(validate(network, held_out, 2))
    return network, own, new


# %% [markdown]
# ## Overfitting on purpose
#
# We show SRCNN the same two patches 400 times. And all that four times, from other random weights. The first filters
# hand the picture through as in lesson 3, so each run begins near bicubic.
#
# **Predict before you run.** Draw the two curves, of the patches and of the held-out photographs. By how many dB do the
# held-out photographs end above bicubic, or below it (then negative), in the mean of the four runs?

# %%
predict("04", None)

# %% tags=["cover"]
two = luma_patches(training, 2, seed(0))
runs = [run(lambda generator: two, 400, kernels=(9, 5, 5), weights=number) for number in range(4)]
own, new = (torch.tensor([result[place] for result in runs]) for place in (1, 2))  # a row for each run
bicubic_on_two = plain_psnr(*(F.pad(patch, [-runs[0][0].radius] * 4) for patch in two))

plt.figure(figsize=(6.4, 3.4))
for curves, level, colour, name in (
    (own, bicubic_on_two, "tab:blue", "the two patches"),
    (new, bicubic, "tab:orange", "held-out photographs"),
):
    lines = plt.plot(range(50, 450, 50), curves.T, marker=".", color=colour)
    lines[0].set_label(f"{name}, four runs")
    plt.axhline(level, color=colour, linestyle=":", label=f"{name}, bicubic")
plt.gca().set(xlabel="step", ylabel="PSNR (dB)", title="57,281 numbers learn two patches by heart")
plt.legend()
show()
print("held-out against bicubic, in dB:", *(f"{gain:+.1f}" for gain in (new[:, -1] - bicubic).tolist()))
outcome("04", (new[:, -1] - bicubic).mean().item())
promise("generalisation gap, mean of four, in dB", (own - new)[:, -1].mean().item(), 19.5, 3)

# %% [markdown]
# The training curves alone look splendid: 21 dB above bicubic. The held-out ones are below bicubic after the first 50
# steps and stay there: between the two lies a gap (promised: 19.5 ± 3 dB). How far below is a matter of chance: the two
# patches say nothing about what the network should do elsewhere. It has learnt these two and little else. If you see
# only one curve, ask for the other one.
#
# A loop that *cannot* overfit two patches has a bug. That makes this the first test of every new network.
#
# ## Split by photograph
#
# Now the same mistake in its usual form: patches are split, not photographs. **Now you.** Split as it should be.


# %%
def split(names, held_out_count, seed):
    """The photograph of each patch, such as ["cat", "cat", "wall"] → (training, held_out), lists of patch indices.

    `held_out_count` photographs, sampled at random, are held out with all their patches. `seed` is a number; the same
    one gives the same split. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


split = check("04a", split)

# %%
patches = [pair for pair in training + held_out for _ in range(3)]  # as if three had been cut from each photograph
names = [patch.photograph for patch in patches]
kept, apart = split(names, 2, 0)
chosen = {names[index] for index in apart}
print("held out:", sorted(chosen))
real_sides = split_by_photograph(patches, chosen)
for what, side, real in zip(("to train on", "held out"), (kept, apart), real_sides, strict=True):
    alike = [names[index] for index in sorted(side)] == [patch.photograph for patch in real]
    print(f"{what}: {len(side)} patches, the same as by engine.data.split_by_photograph: {alike}")

# %% [markdown]
# What if we do not? We train on the left two thirds of one photograph, the brick wall. Then we
# measure the gain over bicubic on two held-out sets: the rest of that wall, and two other photographs.

# %%
wall = next(pair for pair in training if pair.photograph == "brick.png")
cut = 2 * wall.large.shape[-1] // 3
left, right = (
    type(wall)(wall.small[..., part], wall.large[..., part], "brick.png") for part in (slice(cut), slice(cut, None))
)
network, _, new = run(lambda generator: luma_patches([left], 8, generator), 240, kernels=(9, 5, 5))
gains = {
    "by patch: the rest of the wall": validate(network, [right], 2) - validate(Unchanged(), [right], 2),
    "by photograph: two others": new[-1] - bicubic,
}
for name, gain in gains.items():
    print(f"held out {name}: {gain:+.2f} dB against bicubic")

# %% [markdown]
# Same network, two stories. The first split reports what the network knows about *this wall*. The second reports what
# it knows about photographs. For this reason `gen_samples.py` writes the photograph of every patch into samples.csv,
# and `split_by_photograph` in `engine/data.py` reads it.
#
# ## The learning rate
#
# **Predict before you run.** Five learning rates: 0.03, 0.01, 0.001, 0.0001, 0.00001. What do the curves of the two
# extremes look like? Keep the one that ends best.

# %%
predict("04.2", None)

# %%
LEARNING_RATES = (3e-2, 1e-2, 1e-3, 1e-4, 1e-5)
curves = {}
for learning_rate in LEARNING_RATES:
    _, _, curves[learning_rate] = run(lambda generator: luma_patches(training, 16, generator), 300, learning_rate)

# What the learning rate 0.001 gave with four seeds, and some room.
BAND = [(31.1, 32), (32, 32.3), (32.1, 32.45), (32.2, 32.55), (32.25, 32.6), (32.3, 32.6), (32.3, 32.65), (32.3, 32.65)]
places = [300 * part / 8 for part in range(1, 9)]
plt.figure(figsize=(6.4, 3.6))
plt.fill_between(places, *zip(*BAND, strict=True), color="tab:green", alpha=0.2, label="expected of 0.001")
for learning_rate, curve in curves.items():
    plt.plot(places, curve, marker=".", label=f"{learning_rate:g}")
plt.axhline(bicubic, color="grey", linestyle="--", label="bicubic")
plt.gca().set(ylim=(29.5, 32.9), xlabel="step", ylabel="held-out PSNR (dB)", title="Five learning rates")
plt.legend(fontsize=8, ncols=2)
show()
outcome("04.2", max(curves, key=lambda rate: curves[rate][-1]))
inside = sum(least <= value <= most for value, (least, most) in zip(curves[1e-3], BAND, strict=True))
print(f"{inside} of 8 points of your curve lie in the expected band")

# %% [markdown]
# At 0.03 the steps jump over the valley. The start as bicubic is destroyed and never found again; that curve lies below
# the plot. At 0.01 the network falls out of the valley once, and finds it again while the learning rate sinks. In our
# run it ends a little ahead of 0.001, by hardly more than two seeds differ. At 0.00001 nothing happens in the time. A
# factor of ten too low costs 0.5 dB here. A factor of ten too high may cost nothing, and a little more costs
# everything. Search in factors of ten, then of three.
#
# The green band lets somebody else check a training: by the shape of the curve, not by the third decimal. Four seeds
# that we tried ended 0.1 dB apart. So a gain of 0.05 dB in one run proves nothing: compare two methods with several
# seeds each.
#
# ## L1 and L2
#
# The mean squared difference is called **L2**, the mean absolute one **L1**. Suppose that a pixel is 0 in seven of ten
# equally plausible pictures, and 1 in three. **Predict before you run.** What should a network answer that learns by
# L1, and what by L2? Keep the one for L1.

# %%
predict("04.3", None)

# %% [markdown]
# **Now you.** The numbers, for any values.


# %%
def best_guess(plausible, loss):
    """A tensor of equally plausible values, shape (n,) → the number with the least mean "L1" or "L2" loss.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


best_guess = check("04c", best_guess)

# %%
plausible = torch.tensor([0.0] * 7 + [1.0] * 3)
guesses = torch.linspace(0, 1, 101)
apart = guesses[:, None] - plausible
plt.figure(figsize=(6.4, 3))
for name, loss in (("L2", apart.square().mean(dim=1)), ("L1", apart.abs().mean(dim=1))):
    lines = plt.plot(guesses, loss, label=f"{name}, least at {guesses[loss.argmin()]:.2f}")
    plt.axvline(float(best_guess(plausible, name)), color=lines[0].get_color(), linestyle=":")
plt.gca().set(xlabel="guess", ylabel="loss", title="Seven zeros and three ones; dotted: yours")
plt.legend()
show()
outcome("04.3", float(best_guess(plausible, "L1")))

# %% [markdown]
# L2 answers the **mean**. L1 answers the **median**, the middle one of the sorted values. L2 minds large errors more
# and is what PSNR measures, so SRCNN uses it. L1 is less ruled by rare, large errors. Deep networks train better with
# it, and ESRGAN's first stage uses it. Either way the answer is a compromise between pictures: see [lesson
# 7](07_blur.py).

# %% [markdown]
# ## Recap
#
# ![Two curves: training patches get better, held-out photographs get worse](pictures/04_honest_training.png)
#
# - Overfit a few patches once, on purpose: it tests the loop. Then never again.
# - Hold out by photograph. Show the training curve and the held-out curve.
# - Search the learning rate in factors of ten, then of three; let it fall to zero.
# - L2 answers the mean, L1 the median.
#
# Next: [lesson 5](05_upsampling.py), the network enlarges by itself.
