# %% [markdown]
# # 10. ESRGAN whole
#
# **Goal.** Put the parts together: generator, discriminator, three losses, two stages. Make one update by hand. Then
# walk from the faithful network to the sharp one, weight by weight, and plot what each step gains and costs.
#
# ![Grass and a face, by the faithful network, by the sharp one, and by one between them](pictures/10_esrgan.png)
#
# **You will see:** from the faithful network to the sharp one PSNR falls by 1.2 ± 0.8 dB, while pictures come closer to
# the ground truth in deep features.
#
# Takes half a minute on two cores. You bring from [lesson 7](07_blur.py) why the best PSNR is blurred, and from
# lessons [8](08_discriminators.py) and [9](09_perceptual_loss.py) the two losses that ask for more.

# %%
import copy

from checks import check, hint
from course import FAST, crop, photograph, photograph_pairs, promise, seed, show, show_pictures

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

import degrade
import esrgan
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
# Afterwards there are two networks of the same shape. **Network interpolation** makes any number of others:
#
# $$\theta = (1-\alpha)\,\theta_\mathrm{PSNR} + \alpha\,\theta_\mathrm{GAN}$$
#
# - $\theta$: all weights of a network; $\alpha$: from 0, faithful, to 1, sharp

# %%
# The two that ship. Any other pair does as well, if the training of the second started from the first.
first, second = (checkpoints.load_checkpoint(checkpoints.PRETRAINED / f"{model}_x4.pt") for model in ("rrdb", "esrgan"))
print("both stages:", second["shape"])

# %% [markdown]
# ## One update, by hand
#
# Both networks learn from the same batch. First comes the generator's loss: its gradient runs *through* the
# discriminator. Then comes the discriminator's loss: its gradient must not run back into the generator.
# `AdversarialStage` in `engine/updates.py` does the same. To be quick we take a narrow discriminator and a VGG19 that
# is shallow and random.

# %%
settings = Settings(
    model="esrgan", scale=4, shape=second["shape"], patch=16, batch=4,
    adversarial=Adversarial(layers={"conv2_2": 1.0}, perceptual="random", features=8),
)  # fmt: skip
LEARNING_RATE = 2e-4
training, _ = photograph_pairs(4, enlarge=False)


def batch_of(step):
    generator = seed(step)
    chosen = [training[i] for i in torch.randint(len(training), (settings.batch,), generator=generator).tolist()]
    return sample_batch(chosen, settings.patch, generator)


stage = make_stage(settings, first["params"], "cpu")
network = copy.deepcopy(stage.network)
discriminator = copy.deepcopy(stage.discriminator)
optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, (0.9, settings.beta2))
discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), LEARNING_RATE, (0.9, settings.beta2))

low, high = map(from_bytes, batch_of(0))
restored = network(low)
perceptual = stage.perceptual(restored, high)
adversarial = esrgan.relativistic_generator_loss(discriminator(high), discriminator(restored))
pixel = F.l1_loss(restored, high)
loss = perceptual + 0.005 * adversarial + 0.01 * pixel
loss.backward()
discriminator.zero_grad()  # the generator's loss ran through the discriminator, and left gradients there
discriminator_loss = esrgan.relativistic_discriminator_loss(discriminator(high), discriminator(restored.detach()))
discriminator_loss.backward()
optimizer.step()
discriminator_optimizer.step()

figures = stage.update(*batch_of(0), LEARNING_RATE, step=0)
print(f"by hand:          loss {loss:.6f}, the discriminator's {discriminator_loss:.6f}")
print(f"AdversarialStage: loss {figures['loss']:.6f}, the discriminator's {figures['discriminator_loss']:.6f}")
for name, own, real in (("generator", network, stage.network), ("discriminator", discriminator, stage.discriminator)):
    apart = max((a - b).abs().max().item() for a, b in zip(own.parameters(), real.parameters(), strict=True))
    print(f"{name}: the weights differ by {apart:.1e} at most after the update")
print(f"of the loss: features {perceptual:.4f}, discriminator {0.005 * adversarial:.4f}, pixels {0.01 * pixel:.4f}")

# %% [markdown]
# Each of the three has its task. The features ask for texture. The discriminator asks for pictures that look real. The
# pixels, with little weight, hold the colours; with more, they would also hold back every detail that is not exactly
# right.
#
# The compact settings have a fourth term, `consistency_weight` (here 0): the mean absolute difference of both pictures
# after *averaging* over 4×4 pixels. A tint costs something there. Invented detail that leaves these averages alone
# costs nothing.
#
# ## Why not at once?
#
# Why train a blurred network first, only to leave it?
#
# **Predict before you run.** The discriminator's margin is $C(\mathrm{real}) - C(\mathrm{restored})$. How does it
# change in the first thirty updates if the generator starts from stage one? And if it starts untrained?

# %%
torch.manual_seed(0)
starts = {"from stage one": first["params"]}
starts["untrained"] = networks.build_network("esrgan", second["shape"]).state_dict()
plt.figure(figsize=(6.4, 3.2))
for name, weights in starts.items():
    stage = make_stage(settings, weights, "cpu")
    margins = [stage.update(*batch_of(step), LEARNING_RATE, step)["margin"] for step in range(4 if FAST else 30)]
    plt.plot(margins, label=name)
    print(f"{name}: margin {sum(margins[-4:]) / 4:.2f} at the end")
plt.gca().set(xlabel="update", ylabel="C(real) − C(restored)", title="How far the discriminator is ahead")
plt.legend()
show()

# %% [markdown]
# From stage one the discriminator finds little to hold on to, and the game is close. From untrained weights it has won
# after a few updates: it tells everything restored from everything real. Then $L_G$ says "fake", but no longer in which
# direction to improve. Good pictures first, then the game.
#
# ## Between the two
#
# Both networks have the same shape, and the training of the second started from the first. So their weights can be
# mixed one by one. `upscale --blend` does it with `blend` in `engine/weights.py`.


# %%
def between(alpha):
    """The network at the share `alpha` of the way from the first stage to the second."""
    weights = {key: (1 - alpha) * first["params"][key].float() + alpha * second["params"][key].float() for key in keys}
    return networks.load_network({**second, "params": weights})


keys = list(second["params"])
real = blend(second["params"], first["params"], 0.3)
own = between(0.3).state_dict()
print("largest difference from blend:", max((own[key] - real[key]).abs().max().item() for key in keys))

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
# ## The price
#
# No method can be best at both: beyond some point, whatever looks more real is less faithful (Blau and Michaeli, 2018).
# This is the **perception-distortion trade-off**. PSNR measures the **distortion**. For the **perception** we need a
# metric that cares for texture.
#
# VGG19's trained weights are a large download, so we take `conv5_4` of a *random* VGG19: a bank of filters that has
# never seen a picture and knows nothing of what people like. But it compares structure over wide windows, and the
# second stage was not trained on it. A trained VGG19, or people, may rank two networks differently.
#
# There is a cheaper way to mix: restore with both networks and mix the two *pictures*.
#
# **Predict before you run.** Where does the curve of mixed pictures lie beside that of mixed weights?

# %%
vgg = load_vgg19("random", ("conv5_4",))
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
    place = (8, -12) if alpha else (-12, 9)  # 0 and 0.25 lie close together
    plt.annotate(f"α = {alpha}", (far, decibels), xytext=place, textcoords="offset points", fontsize=9)
    print(f"α = {alpha}: {decibels:.2f} dB, features {far:.3f} apart")
plt.gca().set(xlabel="distance of deep features: left looks more alike", ylabel="PSNR: up is more faithful")
plt.margins(0.15)
plt.legend()
show()
(most, _), *_, (least, _) = curves["weights mixed"]
promise("PSNR lost from α = 0 to α = 1, in dB", most - least, 1.2, 0.8)

# %% [markdown]
# Read the curve from its upper right end: PSNR is paid, likeness is bought. In our run the mixed pictures even lie a
# little better by these two metrics. But they need both networks, and show some of the one's blur and some of the
# other's mistakes. A mixed network is one network, which decides anew at every pixel.
#
# No α is *right*. To measure in a picture, take α = 0. To hang it on a wall, take α = 1.
#
# ## Exercises


# %%
def generator_loss(restored, high, discriminator, perceptual):
    """Restored pictures and their ground truth → ESRGAN's loss for the generator, a number.

    `discriminator(pictures)` gives logits, `perceptual(restored, high)` the perceptual loss. The weights are the
    paper's: 1, 0.005 and 0.01. `relativistic_generator_loss` of esrgan.py may be used.
    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


check("10a", generator_loss)


# %%
def discriminator_loss(restored, high, discriminator):
    """Restored pictures and their ground truth → the discriminator's relativistic average loss, a number.

    No gradient of it may reach `restored`. The discriminator has batch norm: give it real and restored pictures in two
    calls. Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


check("10b", discriminator_loss)


# %%
def interpolated(psnr_weights, gan_weights, alpha):
    """Two state dicts with the same keys → a new one: the share `alpha` of the second, the rest of the first.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


check("10c", interpolated)


# %%
def not_beaten(points):
    """A list of (PSNR, distance) → the indices of those that no other point beats, ascending, a list.

    A point beats another if it is at least as good in both figures and better in one. Difficulty 2 of 3, 15 minutes.
    """
    raise NotImplementedError


check("10d", not_beaten)

# %%
hint("10b")

# %% [markdown]
# ## Recap
#
# - First the right pixels. Then features, a discriminator and a little of the pixels: stage two starts from stage one.
# - The generator's loss runs through the discriminator; the discriminator's stops at the restored picture.
# - The weights of the two stages can be mixed: one knob from faithful to sharp, to be turned after training.
# - What looks more real is less faithful. Say which of the two you measured.
#
# Next: [lesson 11](11_real_pictures.py), pictures that were not shrunk by bicubic.
