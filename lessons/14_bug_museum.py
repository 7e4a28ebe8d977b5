# %% [markdown]
# # 14. The bug museum
#
# **Goal.** Find ten mistakes that run without an error, all of kinds that public programs have, and mend them. Learn to
# know each by its symptom.
#
# **You will see:** ten symptoms. One careless line costs bicubic itself up to 2.8 ± 0.3 dB. Mend it, and this promise
# is broken: so it should be.
#
# Takes a quarter of a minute on two cores. You bring from [lesson 1](01_pixels.py) how pictures are measured, from
# [lesson 3](03_srcnn.py) training.

# %%
import copy
import pickle
import tempfile
from pathlib import Path

from checks import check, hint
from course import crop, photograph, promise, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import numpy
import torch
import torch.nn.functional as F
from torch import nn

from imaging.images import from_bytes, psnr, resize, rgb_to_luma
from srcnn import SRCNN

# %% [markdown]
# ## The idea
#
# A mistake that stops the program is a kind one. The others still give a picture, and a network trains around them.
# They are found by a **symptom**: something that you can measure, and whose right value you know beforehand.
#
# $$\text{symptom} = |\,\text{measured} - \text{known}\,|$$
#
# - *known* may come from the same function on an easier case, a trivial method such as bicubic, a run that was never
#   stopped, or the picture that went in
#
# So before you look for the cause, ask: *what do I know that this must give?* Then make the case smaller until the
# answer fits on one line.

# %% [markdown]
# ## Exercises: ten exhibits
#
# Each exhibit is a function with a mistake or two, and a cell that shows its symptom. **Change the function itself**
# and run both cells again. `check` says *not yet* while nothing has changed. When only a part is mended, it says what
# is still wrong.
#
# **Predict before you run.** Read each function first, and write down what the symptom will be. And in c: by how many
# levels of 255 is a picture too bright on average in the file, or too dark (then negative)?

# %%
predict("14", None)

# %% [markdown]
# ### a. The night
#
# A photograph taken at night, stored with 16 bits, comes out as bright as day.


# %%
def as_floats(pixels):
    """Whole numbers as a file gave them, a NumPy array of uint8 or uint16 → one of float32: black 0, white 1.

    Difficulty 1 of 3, 5 minutes.
    """
    numbers = pixels.astype(numpy.float32)
    return numbers / 65535 if numbers.max() > 255 else numbers / 255


# %%
check("14a", as_floats)
rocket = crop(photograph("rocket.jpg"), 60, 220, 160, 240)
day, night = ((most * rocket).round().numpy().astype(numpy.uint16) for most in (65535, 250))
show_pictures([(name, torch.from_numpy(as_floats(one))) for name, one in (("day", day), ("night", night))])

# %% [markdown]
# ### b. The ghosts
#
# It works on all of the author's pictures. They are square.


# %%
def in_rows(values, size):
    """The pixels of a grey picture, row after row, and its size as Pillow gives it → a tensor (height, width).

    Difficulty 1 of 3, 5 minutes.
    """
    height, width = size
    return values.view(height, width)


# %% tags=["cover"]
check("14b", in_rows)
cat = rgb_to_luma(photograph("chelsea.png"))
panels = []
for side in (180, 270):
    part = crop(cat, 60, 110, 180, side)
    panels.append((f"{side}×180", in_rows(part.flatten(), (side, 180))[None, None]))
show_pictures(panels)

# %% [markdown]
# ### c. The black snow
#
# Dark specks in the brightest places of an enlarged picture, and everything a shade too dark. (Two mistakes.)


# %%
def as_bytes(picture):
    """A picture that may leave 0..1 by a little → torch.uint8, 0 to 255.

    Difficulty 1 of 3, 5 minutes.
    """
    return (255 * picture).int().to(torch.uint8)


# %%
check("14c", as_bytes)
stars = (1.6 * crop(rgb_to_luma(photograph("coffee.png")), 20, 300, 120)).clamp(0, 1)
enlarged = resize(resize(stars, 1 / 2), 2)
show_pictures([("before", enlarged), ("in the file", from_bytes(as_bytes(enlarged)))])
dimmed = 0.9 * rocket
mean_error = (as_bytes(dimmed) - 255 * dimmed).mean().item()
outcome("14", mean_error)
print(f"mean error of a dimmed picture: {mean_error:+.2f} of 255 levels")

# %% [markdown]
# ### d. A table under bicubic
#
# A table gives a network 25.3 dB where others measure 28.4 dB for bicubic. Perhaps the network is not to blame.


# %%
def baseline(high, scale):
    """A photograph (1, 3, H, W), sides of any length → the PSNR in dB after shrinking it and enlarging it again.

    Difficulty 2 of 3, 10 minutes.
    """
    low = resize(high, size=(high.shape[-2] // scale, high.shape[-1] // scale))
    enlarged = resize(low, scale)
    return psnr(enlarged, high[..., : enlarged.shape[-2], : enlarged.shape[-1]], scale)


# %%
check("14d", baseline)
sides = range(192, 209)
decibels = [float(baseline(crop(photograph("coffee.png"), 100, 100, side), 4)) for side in sides]
plt.figure(figsize=(6, 2.8))
plt.plot(sides, decibels, marker=".")
plt.gca().set(xlabel="side of the photograph (pixels)", ylabel="PSNR (dB)", title="Bicubic ×4", xticks=sides[::4])
show()
promise("a few pixels more or less cost, in dB", decibels[0] - min(decibels[:4]), 2.8, 0.3)

# %% [markdown]
# ### e. The wrong partners
#
# One small picture was lost on the way. Since then the network learns to blur.


# %%
def pair_up(lows, highs):
    """Names of files such as cat_x4.png and cat.png → a sorted list of pairs (low, high); who is alone is left out.

    Difficulty 1 of 3, 10 minutes.
    """
    return list(zip(sorted(lows), sorted(highs), strict=False))


# %%
check("14e", pair_up)
names = ("astronaut", "camera", "chelsea", "coffee")
panels = []
for low, high in pair_up([f"{name}_x4.png" for name in names if name != "camera"], [f"{name}.png" for name in names]):
    one, other = (crop(photograph(name.replace("_x4", "")), 40, 120, 160) for name in (low, high))
    one = resize(resize(one, 1 / 4), 4)
    panels.append((f"{low} with {high}: {psnr(one, other, 4).item():.1f} dB", torch.cat((one, other), dim=3)))
show_pictures(panels, side=320)

# %% [markdown]
# ### f. The tile that is there twice
#
# The program prints a line about memory, goes on, and the picture has a part of its neighbour in it.


# %%
def run_tiles(network, tiles):
    """A list of tiles → the list of the network's results. Raises RuntimeError if the network fails on a tile.

    Difficulty 1 of 3, 5 minutes.
    """
    results = []
    for tile in tiles:
        try:
            restored = network(tile)
        except RuntimeError as error:
            print("Error:", error)
        results.append(restored)
    return results


# %%
check("14f", run_tiles)
done = []


def busy(tile):
    """A network that changes nothing, on a machine whose memory does not suffice for the third tile."""
    done.append(tile)
    if len(done) == 3:
        raise RuntimeError("out of memory")
    return tile


try:
    show_pictures([("four tiles", torch.cat(run_tiles(busy, list(crop(cat, 60, 110, 160, 240).split(60, dim=3))), 3))])
except RuntimeError as error:
    print("it stops, and says why:", error)

# %% [markdown]
# ### g. The dark fringe
#
# A yellow sign on a transparent ground is enlarged and laid on white. Where a picture is transparent, its file has
# black.


# %%
def enlarge(rgba, scale):
    """(1, 4, H, W), colour and opacity, not multiplied → (1, 4, scale·H, scale·W), by bicubic interpolation.

    Difficulty 3 of 3, 20 minutes.
    """
    return resize(rgba, scale).clamp(0, 1)


# %%
check("14g", enlarge)


def laid_on(rgba, ground):
    return rgba[:, :3] * rgba[:, 3:] + ground * (1 - rgba[:, 3:])


place = torch.linspace(-1.2, 1.2, 24)
opacity = ((1 - (place**2 + place[:, None] ** 2).sqrt()) * 12 + 0.5).clamp(0, 1)
sign = torch.stack([1.0 * (opacity > 0), 0.8 * (opacity > 0), 0 * opacity, opacity])[None]
expected = resize(laid_on(sign, 1.0), 6).clamp(0, 1)
actual = laid_on(enlarge(sign, 6), 1.0)
show_pictures([("laid on white, then enlarged", expected), ("enlarged, then laid on white", actual)])

# %% [markdown]
# ### h. The file that does things
#
# Nobody else can load these weights. And a file of this kind can run any code on the computer of whoever loads it:


# %%
def save(network, path):
    """Write a network's weights, so that network.load_state_dict(torch.load(path, weights_only=True)) reads them.

    Difficulty 1 of 3, 5 minutes.
    """
    torch.save(network, path)


# %%
check("14h", save)


class Stranger:
    def __reduce__(self):
        return print, ("This line was printed by a file that was only to be opened.",)


pickle.loads(pickle.dumps(Stranger()))
with tempfile.TemporaryDirectory() as folder:
    save(SRCNN(), Path(folder) / "weights.pt")
    try:
        print(list(torch.load(Path(folder) / "weights.pt", weights_only=True))[:2])
    except pickle.UnpicklingError as error:
        print("refused:", str(error).split(".")[0])

# %% [markdown]
# ### i. The ruler that bends
#
# The perceptual loss falls splendidly. The picture hardly changes.


# %%
def to_be_learnt(network, features):
    """A network, and the one whose features the perceptual loss compares → the parameters for the optimiser.

    Difficulty 1 of 3, 5 minutes.
    """
    return [*network.parameters(), *features.parameters()]


# %%
check("14i", to_be_learnt)
torch.manual_seed(0)
high = crop(cat, 60, 150, 48)
low = resize(resize(high, 1 / 3), 3)
features = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
untouched = copy.deepcopy(features)
network = SRCNN((9, 1, 5))
learning_rate = 5e-4
optimizer = torch.optim.Adam(to_be_learnt(network, features), learning_rate)
curves = []
for _ in range(80):
    restored = network(low)
    loss = F.l1_loss(features(restored), features(high))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    curves.append((loss.item(), F.l1_loss(untouched(restored), untouched(high)).item()))
plt.figure(figsize=(6, 2.8))
for curve, name in zip(zip(*curves, strict=True), ("the loss", "the same by untouched features"), strict=True):
    plt.plot([value / curve[0] for value in curve], label=name)
plt.gca().set(xlabel="step", ylabel="share of the first", ylim=(0, None), title="Perceptual loss")
plt.legend()
show()

# %% [markdown]
# ### j. The jump
#
# A run that was stopped is resumed, and its loss jumps back up. (Two mistakes.)


# %%
def resume(checkpoint, network, optimizer):
    """Load {"network": state, "optimizer": state, "step": how many steps are done}; return the step to resume at.

    Difficulty 1 of 3, 10 minutes.
    """
    network.load_state_dict(checkpoint["network"])
    return 0


# %%
check("14j", resume)


def train(network, optimizer, first, last):
    losses = []
    for step in range(first, last):
        optimizer.param_groups[0]["lr"] = 5e-4 * (1 - step / 80)
        loss = F.mse_loss(network(low), high)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fresh(number):
    torch.manual_seed(number)
    network = SRCNN((9, 1, 5))
    return network, torch.optim.Adam(network.parameters())


network, optimizer = fresh(0)
before = train(network, optimizer, 0, 40)
checkpoint = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": 40}
checkpoint = copy.deepcopy(checkpoint)
whole = before + train(network, optimizer, 40, 80)
network, optimizer = fresh(1)
step = resume(checkpoint, network, optimizer)
stopped = before + train(network, optimizer, step, step + 40)
plt.figure(figsize=(6, 2.8))
plt.semilogy(stopped, label="resumed after 40 steps")
plt.semilogy(whole, label="never stopped")
plt.gca().set(xlabel="step", ylabel="loss", title="Resuming")
plt.legend(fontsize=8)
show()

# %% [markdown]
# ## Recap
#
# ![A cat's eye, once as it should be and once as two ghosts between stripes](pictures/14_bug_museum.png)
#
# | symptom | known beforehand |
# |---|---|
# | brightness, shape, specks, fringe | what went in: try black, white, an oblong, a transparent picture |
# | a number that is too good or too bad | bicubic, on the same pictures; sizes that do not divide |
# | pairs that do not match | the PSNR of each pair: all near bicubic's |
# | an error that was printed and passed | nothing: let errors out |
# | a file | open it elsewhere, with `weights_only=True` |
# | a loss that falls too well | the same distance, by a network that does not learn |
# | a run that is resumed | the run that was never stopped |
#
# The project's own tests ask such questions: they compare with an oracle, check a property, or make a round trip.
#
# Next: [lesson 15](15_browser.py), out of Python.
