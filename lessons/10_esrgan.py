# %% [markdown]
# # 10. ESRGAN whole
#
# **Goal.** Put the parts together: generator, discriminator, three losses, two stages. Make one update by hand. Train
# the second stage, see it stall when the discriminator wins, and mend it. Then walk from the faithful network to the
# sharp one, weight by weight, and plot what each step gains and costs.
#
# **You will see:** a discriminator that wins, what it does to the generator, and one knob from faithful to sharp.
#
# Takes two minutes on two cores. You bring from [lesson 7](07_blur.py) why the best PSNR is blurred, and from
# lessons [8](08_discriminators.py) and [9](09_perceptual_loss.py) the two losses that ask for more.

# %%
import copy
from dataclasses import replace

import diagrams
from checks import check, hint
from course import FAST, crop, photograph, photograph_pairs, promise, seed, show, show_pictures
from play import play
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch

import degrade
from engine import checkpoints, networks
from engine.data import sample_batch
from engine.settings import Adversarial, Settings
from engine.updates import make_stage
from engine.upscaling import upscale
from engine.weights import blend, load_vgg19
from imaging.images import from_bytes, psnr, round_to_8_bits

# %% [markdown]
# ## The idea
#
# ESRGAN is trained in two stages. The first compares pixels alone and gives the **PSNR-oriented** network. The second
# goes on from its weights, with a discriminator beside it and this loss:
#
# $$L = L_\mathrm{percep} + \lambda\,L_G + \eta\,L_1$$
#
# - $L_\mathrm{percep}$: the perceptual loss, lesson 9
# - $L_G$: the generator's relativistic average loss, lesson 8; $\lambda = 0.005$
# - $L_1$: the mean absolute difference of pixels; $\eta = 0.01$
#
# Afterwards there are two networks of the same shape. **Network interpolation** (Wang et al., 2018) makes any number of
# others:
#
# $$\theta = (1-\alpha)\,\theta_\mathrm{PSNR} + \alpha\,\theta_\mathrm{GAN}$$
#
# - $\theta$: all weights of a network; $\alpha$: from 0, faithful, to 1, sharp

# %% [markdown]
# ## What the program has
#
# A **checkpoint** is a file with the weights of a network (`"params"`) and its shape. We load the two that ship.
#
# `Settings` says all that decides a training. Its part `Adversarial` is about the second stage: the weights of the
# losses, the layers of the perceptual loss, the width of the discriminator. To be quick, ours is narrow, and the
# features are lesson 9's small ones.
#
# `make_stage(settings, weights, device)` builds from them what makes updates: here an `AdversarialStage`, in
# `engine/updates.py`. It holds a generator with these weights, a fresh discriminator, the perceptual loss and two
# optimisers. Its `update(low, high, learning_rate, step)` makes one step of both networks.

# %%
first, second = (checkpoints.load_checkpoint(checkpoints.PRETRAINED / f"{model}_x4.pt") for model in ("rrdb", "esrgan"))
print("both stages:", second["shape"])
settings = Settings(
    model="esrgan", scale=4, shape=second["shape"], patch=16, batch=4,
    adversarial=Adversarial(layers={"conv2_2": 1.0}, perceptual="small", features=8),
)  # fmt: skip
LEARNING_RATE = 2e-4
stage = make_stage(settings, first["params"], "cpu")
diagrams.draw_adversarial_step(stage)
show()

# %% [markdown]
# Each of the three upper losses has its task. The features ask for texture. The discriminator asks for pictures that
# look real. The pixels, with little weight, hold the colours; with more, they would also hold back every detail that is
# not exactly right.
#
# ## One update, by hand
#
# Both networks learn from the same batch. First comes the generator's loss: its gradient runs *through* the
# discriminator. Then comes the discriminator's loss: its gradient must not run back into the generator. **Now you.**


# %%
def generator_loss(restored, high, discriminator, perceptual):
    """Restored pictures and their ground truth → ESRGAN's loss for the generator, a number.

    `discriminator(pictures)` gives logits, `perceptual(restored, high)` the perceptual loss. The weights are the
    paper's: 1, 0.005 and 0.01. `relativistic_generator_loss` of esrgan.py may be used.
    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


generator_loss = check("10a", generator_loss)


# %%
def discriminator_loss(restored, high, discriminator):
    """Restored pictures and their ground truth → the discriminator's relativistic average loss, a number.

    No gradient of it may reach `restored`. The discriminator has batch norm: give it real and restored pictures in two
    calls. Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


discriminator_loss = check("10b", discriminator_loss)

# %% [markdown]
# A **batch** is four patches of 16×16 pixels, cut at random from seven photographs that were shrunk by 4, and the large
# patches that belong to them.

# %%
training, held_out = photograph_pairs(4, enlarge=False)


def batch_of(step):
    """The low and the high patches of a step, as bytes."""
    generator = seed(step)
    chosen = [training[i] for i in torch.randint(len(training), (settings.batch,), generator=generator).tolist()]
    return sample_batch(chosen, settings.patch, generator)


network = copy.deepcopy(stage.network)
discriminator = copy.deepcopy(stage.discriminator)
optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, (0.9, settings.beta2))
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), LEARNING_RATE, (0.9, settings.beta2))

low, high = map(from_bytes, batch_of(0))
restored = network(low)
loss = generator_loss(restored, high, discriminator, stage.perceptual)
loss.backward()
discriminator.zero_grad()  # the generator's loss ran through the discriminator, and left gradients there
own_loss = discriminator_loss(restored, high, discriminator)
own_loss.backward()
optimizer.step()
discriminator_optimizer.step()

figures = stage.update(*batch_of(0), LEARNING_RATE, step=0)
print(f"by hand:          loss {loss:.6f}, the discriminator's {own_loss:.6f}")
print(f"AdversarialStage: loss {figures['loss']:.6f}, the discriminator's {figures['discriminator_loss']:.6f}")
for name, own, real in (("generator", network, stage.network), ("discriminator", discriminator, stage.discriminator)):
    apart = max((a - b).abs().max().item() for a, b in zip(own.parameters(), real.parameters(), strict=True))
    print(f"{name}: the weights differ by {apart:.1e} at most after the update")

# %% [markdown]
# ## It wins, it stalls, it is mended
#
# Now train: sixty updates. After every tenth we measure on two photographs that nothing was trained on: the perceptual
# distance, which the generator should make smaller. And at every update the discriminator's **margin**,
# $C(\mathrm{real}) - C(\mathrm{restored})$: how far it is ahead.
#
# Three trainings:
#
# - **it wins**: the generator starts from random weights, and the discriminator learns at every update
# - **it waits**: the same start, but the discriminator waits whenever its own loss is under 0.5 (0.69 is a coin)
# - **from stage one**: it waits too, and the generator starts from stage one's weights
#
# **Predict before you run.** How large is the margin of each at the end? And which of the three brings the distance
# down the farthest?

# %%
predict("10", None)

# %%
UPDATES = 10 if FAST else 60
LEARNING_RATE = 1e-4
eager = replace(
    settings.adversarial, layers={"conv2_2": 1.0, "conv3_4": 1.0}, relative=True, adversarial_weight=0.1,
    discriminator_rate=2.0,
)  # fmt: skip
patient = replace(eager, discriminator_waits=0.5)
kinds = {"it wins": (None, eager), "it waits": (None, patient), "from stage one": (first["params"], patient)}


@torch.no_grad()
def held_out_distance(stage):
    """The mean perceptual distance of what the generator makes of the held-out photographs."""
    total = 0.0
    for pair in held_out:
        low, high = (crop(picture, 0, 0, picture.shape[-1] // 2) for picture in pair.pictures())
        total += stage.perceptual(stage.network(low), high).item()
    return total / len(held_out)


def run(weights, adversarial):
    """The margin at every update, the held-out distance at every tenth, and the stage."""
    torch.manual_seed(0)
    weights = weights or networks.build_network("esrgan", second["shape"]).state_dict()
    stage = make_stage(replace(settings, adversarial=adversarial), weights, "cpu")
    margins, distances = [], [held_out_distance(stage)]
    for step in range(UPDATES):
        margins.append(stage.update(*batch_of(step), LEARNING_RATE, step)["margin"])
        if (step + 1) % 10 == 0:
            distances.append(held_out_distance(stage))
    return margins, distances, stage


figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
stages, told = {}, []
for name, kind in kinds.items():
    margins, distances, stages[name] = run(*kind)
    axes[0].plot(margins, label=name)
    axes[1].plot([10 * number for number in range(len(distances))], distances, marker=".", label=name)
    told.append(f"{name}: margin {sum(margins[-10:]) / 10:.2f}, distance {distances[0]:.3f} → {distances[-1]:.3f}")
axes[0].set(xlabel="update", title="C(real) − C(restored)")
axes[1].set(xlabel="update", title="distance on held-out photographs", ylim=(0, None))
axes[0].legend()
show()
outcome("10", "; ".join(told))

# %%
patch_low, patch_high = (crop(picture, *place) for picture, place in zip(
    held_out[0].pictures(), ((8, 8, 24), (32, 32, 96)), strict=True))  # fmt: skip
panels = [("stage one alone", networks.load_network(first)(patch_low).detach())]
panels += [(f"{UPDATES} updates later", stages["from stage one"].network(patch_low).detach())]
show_pictures([*panels, ("ground truth", patch_high)])

# %% [markdown]
# **It wins.** From random weights the margin grows with every update, to about 6 in our run: the discriminator tells
# everything restored from everything real. $L_G$ says "fake", ever louder, and nothing that the generator does helps:
# that part of the game has **stalled**. What still falls, the features bring down.
#
# **It waits.** With the very same start, the margin stays under 1. What a discriminator knows that is hardly ahead is
# what is wrong *now*, and that is what a generator can use. In `main.py train` this is
# `--set adversarial.discriminator_waits=0.5`; the compact settings have it.
#
# **From stage one** the margin is near 0 and the distance falls the farthest. The discriminator finds little to hold on
# to, and the game is close. Good pictures first, then the game: that is why there are two stages.
#
# After sixty updates the picture is crisper, and restless: strokes and specks of colour that are not there. The weights
# of the losses, the width of the discriminator and thousands of updates are spent on taming that.
#
# ## Between the two
#
# Sixty updates are a beginning. The shipped network has had thousands. It has the shape of stage one's, and its
# training started from that. So their weights can be mixed one by one: `upscale --blend` does it with `blend` in
# `engine/weights.py`. **Now you.**


# %%
def interpolated(psnr_weights, gan_weights, alpha):
    """Two state dicts with the same keys → a new one: the share `alpha` of the second, the rest of the first.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


interpolated = check("10c", interpolated)


# %%
weights_of = [{key: value.float() for key, value in one["params"].items()} for one in (first, second)]


def between(alpha):
    """The network at the share `alpha` of the way from the first stage to the second."""
    return networks.load_network({**second, "params": interpolated(*weights_of, alpha)})


real = blend(second["params"], first["params"], 0.3)
own = between(0.3).state_dict()
print("largest difference from blend:", max((own[key] - real[key]).abs().max().item() for key in real))

# %% tags=["cover"]
PLACES = {"grass.png": (100, 100), "astronaut.png": (20, 150), "chelsea.png": (50, 100), "coffee.png": (100, 200)}
ALPHAS = (0, 0.5, 1) if FAST else (0, 0.25, 0.5, 0.75, 1)
highs = {name: crop(photograph(name), *place, 192) for name, place in PLACES.items()}
restored = {
    (name, alpha): round_to_8_bits(upscale(between(alpha), degrade.bicubic(high, 4), 4))
    for name, high in highs.items()
    for alpha in ALPHAS
}
rows = []
for name in list(PLACES)[:2]:
    panels = [(f"α = {alpha}", restored[name, alpha]) for alpha in (0, 0.5, 1)] + [("ground truth", highs[name])]
    rows.append([(caption, crop(picture, 40, 40, 112)) for caption, picture in panels])
show_pictures(*rows)

# %% [markdown]
# At α = 1 the grass is no longer smooth, and its grain is about as strong as in the photograph. But look closely: it is
# **invented**, and hardly a blade grows where it grew. Many kinds of grass shrink to the same pixels. The network has
# learnt *that* something must be there, and what such things look like. The face gains edges, and a little of its skin.
#
# Turn the knob yourself (a slider, where the package ipywidgets is installed):

# %%
play(lambda alpha: (f"α = {alpha}", crop(restored["chelsea.png", alpha], 40, 40, 112)), alpha=ALPHAS)

# %% [markdown]
# ## The price
#
# No method can be best at both: beyond some point, whatever looks more real is less faithful (Blau and Michaeli, 2018).
# This is the **perception-distortion trade-off**. PSNR measures the **distortion**. For the **perception** we take
# `conv5_4` of lesson 9's small features, on which the second stage was *not* trained. They know damages, and nothing of
# what people like: the distance calls invented blades nearer to grass than a smooth patch is.
#
# There is a cheaper way to mix: restore with both networks and mix the two *pictures*.
#
# **Predict before you run.** How many decibels does the way from α = 0 to α = 1 cost? Where does the curve of mixed
# pictures lie beside that of mixed weights?

# %%
predict("10.2", None)

# %%
vgg = load_vgg19("small", ("conv5_4",))
with torch.no_grad():
    reference = {name: vgg(high)["conv5_4"] for name, high in highs.items()}


def metrics_of(pictures):
    """Means over the photographs: PSNR, and the distance of the features as a share of the features."""
    decibels = sum(psnr(pictures[name], high, 4).item() for name, high in highs.items())
    far = 0.0
    with torch.no_grad():
        for name, features in reference.items():
            far += ((vgg(pictures[name])["conv5_4"] - features).abs().mean() / features.abs().mean()).item()
    return decibels / len(highs), far / len(highs)


def mixed_picture(name, alpha):
    return (1 - alpha) * restored[name, 0] + alpha * restored[name, 1]


curves = {
    "weights mixed": [metrics_of({name: restored[name, alpha] for name in highs}) for alpha in ALPHAS],
    "pictures mixed": [metrics_of({name: mixed_picture(name, alpha) for name in highs}) for alpha in ALPHAS],
}
plt.figure(figsize=(6.4, 3.8))
for (name, points), style in zip(curves.items(), ("o-", "s--"), strict=True):
    plt.plot([far for _, far in points], [decibels for decibels, _ in points], style, label=name)
for alpha, (decibels, far) in zip(ALPHAS, curves["weights mixed"], strict=True):
    place = (8, -12) if alpha else (-12, 9)
    plt.annotate(f"α = {alpha}", (far, decibels), xytext=place, textcoords="offset points", fontsize=9)
    print(f"α = {alpha}: {decibels:.2f} dB, features {far:.3f} apart")
plt.gca().set(xlabel="distance of deep features: left is nearer", ylabel="PSNR: up is more faithful")
plt.margins(0.15)
plt.legend()
show()
(most, _), *_, (least, _) = curves["weights mixed"]
outcome("10.2", most - least)
promise("PSNR lost from α = 0 to α = 1, in dB", most - least, 0.9, 0.2)

# %% [markdown]
# The way costs 0.9 ± 0.2 dB. Which of all these points should one choose from? Only from those that no other point
# beats. **Now you.**


# %%
def not_beaten(points):
    """A list of (PSNR, distance) → the indices of those that no other point beats, ascending, a list.

    A point beats another if it is at least as good in both figures and better in one. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


not_beaten = check("10d", not_beaten)

# %%
names = [f"{name}, α = {alpha}" for name in curves for alpha in ALPHAS]
points = [point for curve in curves.values() for point in curve]
for index in not_beaten(points):
    print(f"not beaten: {names[index]}: {points[index][0]:.2f} dB, {points[index][1]:.3f}")

# %% [markdown]
# In our run the mixed pictures lie *nearer* than the mixed weights at the same PSNR, and little more than the ends of
# the other curve is left beside them: half a sharp picture is still half sharp, while a network half-way has nearly no
# texture yet. But mixed pictures need both networks, and show some of the one's blur and some of the other's mistakes.
# A mixed network is one network, which decides anew at every pixel.
#
# No α is *right*. To measure in a picture, take α = 0. To hang it on a wall, a larger one, and know what is invented.
#
# ## Recap
#
# ![Grass and a face, by the faithful network, by the sharp one, and by one between them](pictures/10_esrgan.png)
#
# - First the right pixels. Then features, a discriminator and a little of the pixels: stage two starts from stage one.
# - The generator's loss runs through the discriminator; the discriminator's stops at the restored picture.
# - Watch the margin. A discriminator that has won teaches nothing: let it wait, or learn more slowly.
# - The weights of the two stages can be mixed: one knob from faithful to sharp, to be turned after training.
# - What looks more real is less faithful. Say which of the two you measured, and by whose features.
#
# Next: [lesson 11](11_real_pictures.py), pictures that were not shrunk by bicubic.
