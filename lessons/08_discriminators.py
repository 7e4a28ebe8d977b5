# %% [markdown]
# # 8. Discriminators
#
# **Goal.** Train a network against a **discriminator**, a second network that learns beside it. Compare four losses on
# a toy that can be plotted. Then look at a discriminator of pictures at work.
#
# **You will see:** five generators that learn the same circle by five losses. With the relativistic average loss the
# answers end near it, at a distance of 0.1 ± 0.05.
#
# Takes half a minute on two cores. You bring from [lesson 7](07_blur.py): the average of all plausible pictures is
# none of them.

# %%
from checks import check, hint
from course import FAST, crop, photograph, photograph_pairs, promise, seed, show, show_pictures
from predictions import outcome, predict

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

import esrgan
from engine.data import sample_batch
from imaging.images import from_bytes, resize

# %% [markdown]
# ## The idea
#
# A **discriminator** gets real pictures and restored ones, and learns to tell them apart. Its answer is one number $C$,
# the **logit**: above zero means real. The **generator** learns to give pictures that are called real. The two play
# against each other: a **generative adversarial network**, GAN.
#
# $$L_D = -\log\sigma(C(\mathrm{real})) - \log(1-\sigma(C(\mathrm{fake})))$$
#
# - $\sigma(C) = 1/(1+e^{-C})$: the probability, from 0 to 1
# - $L_D$: the discriminator's loss; the generator's is $-\log\sigma(C(\mathrm{fake}))$
#
# ESRGAN's discriminator is **relativistic**: is the real picture *more* real than the average restored one?
#
# $$D(\mathrm{real}) = \sigma(C(\mathrm{real}) - \mathbf{E}\,C(\mathrm{fake})),\quad D(\mathrm{fake}) =
# \sigma(C(\mathrm{fake}) - \mathbf{E}\,C(\mathrm{real}))$$
#
# - $\mathbf{E}$: the mean over the batch (Jolicoeur-Martineau, 2018)

# %% [markdown]
# ## A toy: half of a circle is lost
#
# Here a "picture" is a point on a circle, two numbers. Shrinking keeps the first and loses the second. Nearly every
# small picture has two plausible large ones: above and below.
#
# **Predict before you run.** What does a generator learn that minimises the squared error? How far from the circle do
# its answers lie on average? (The circle's radius is 1.)

# %%
predict("08", None)


# %%
def circle(count, generator):
    angle = 2 * torch.pi * torch.rand(count, 1, generator=generator)
    return torch.cat((torch.cos(angle), torch.sin(angle)), dim=1)


def layers(inputs, outputs):
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, outputs)
    )


def restore(network, points, generator):
    """The first number stays; the second is the network's answer to it and to a random number."""
    seen = torch.cat((points[:, :1], torch.randn(len(points), 1, generator=generator)), dim=1)
    return torch.cat((points[:, :1], network(seen)), dim=1)


def distance_from_circle(points):
    return (points.norm(dim=1) - 1).abs().mean().item()


LEARNING_RATE = 2e-3
torch.manual_seed(0)
blurred = layers(2, 1)
generator = seed()
optimizer = torch.optim.Adam(blurred.parameters(), LEARNING_RATE)
for _ in range(20 if FAST else 400):
    real = circle(128, generator)
    loss = F.mse_loss(restore(blurred, real, generator), real)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
restored = restore(blurred, circle(500, seed(1)), seed(2))
print(f"squared error alone: {distance_from_circle(restored):.2f} from the circle")
outcome("08", distance_from_circle(restored))

# %% [markdown]
# ## Four adversarial losses
#
# Each is a pair: the discriminator's loss and the generator's, both of logits for real and fake.
#
# - **Standard** (2014): the logarithms above. `softplus(x)` is $\log(1+e^x)$, the same without overflow.
# - **Least squares**: real should be 1, fake 0, and the distance is squared.
# - **Hinge**: real should be above 1, fake below −1. Logits beyond these limits cost nothing.
# - **Relativistic average**: the real ones enter the generator's loss too.
#
# **Now you.** The discriminator's standard, hinge and relativistic loss, and the generator's relativistic one.


# %%
def standard_loss(real, fake):
    """Logits for real and fake, any shape → the discriminator's standard loss, a number.

    In all four, logits of ±200 must do no harm, and it stays a tensor: the networks learn by its gradient.

    Difficulty 1 of 3, 10 minutes.
    """
    raise NotImplementedError


standard_loss = check("08a", standard_loss)


# %%
def hinge_loss(real, fake):
    """Logits for real and fake → the discriminator's hinge loss, a number.

    Difficulty 1 of 3, 5 minutes.
    """
    raise NotImplementedError


hinge_loss = check("08b", hinge_loss)


# %%
def relativistic_loss(real, fake):
    """Logits for real and fake → the discriminator's relativistic average loss, a number.

    It is the mean of the two terms, as in esrgan.py. Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


relativistic_loss = check("08c", relativistic_loss)


# %%
def relativistic_for_generator(real, fake):
    """Logits for real and fake → the generator's relativistic average loss, a number.

    It is the discriminator's with real and fake exchanged: both terms, and their mean.

    Difficulty 2 of 3, 10 minutes.
    """
    raise NotImplementedError


relativistic_for_generator = check("08d", relativistic_for_generator)


# %%
def standard(real, fake):
    return standard_loss(real, fake), F.softplus(-fake).mean()


def least_squares(real, fake):
    return (real - 1).square().mean() + fake.square().mean(), (fake - 1).square().mean()


def hinge(real, fake):
    return hinge_loss(real, fake), -fake.mean()


def relativistic(real, fake):
    return relativistic_loss(real, fake), relativistic_for_generator(real, fake)


logits = torch.randn(2, 16, 1, generator=seed())
own = relativistic(*logits)
real = esrgan.relativistic_discriminator_loss(*logits), esrgan.relativistic_generator_loss(*logits)
print("largest difference from esrgan.py:", max(abs(a - b).item() for a, b in zip(own, real, strict=True)))


def train(losses):
    """The generator and the discriminator after learning in turns; `losses` gives the discriminator's and the other."""
    torch.manual_seed(1)
    network = layers(2, 1)
    discriminator = layers(2, 1)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, betas=(0.5, 0.99))
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), LEARNING_RATE, betas=(0.5, 0.99))
    generator = seed()
    steps = 20 if FAST else 1200
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: 1 - step / steps)
        for each in (optimizer, discriminator_optimizer)
    ]
    for _ in range(steps):
        real = circle(128, generator)
        fake = restore(network, circle(128, generator), generator)
        # Detached: the discriminator's step leaves the generator alone.
        discriminator_loss, _ = losses(discriminator(real), discriminator(fake.detach()))
        discriminator_optimizer.zero_grad()
        discriminator_loss.backward()
        discriminator_optimizer.step()
        _, generator_loss = losses(discriminator(real), discriminator(fake))
        optimizer.zero_grad()
        generator_loss.backward()
        optimizer.step()
        for schedule in schedules:
            schedule.step()
    return network, discriminator


# %% tags=["cover"]
adversarial = {
    "standard": standard, "least squares": least_squares, "hinge": hinge, "relativistic average": relativistic
}  # fmt: skip
axis_points = torch.linspace(-1.6, 1.6, 60)
grid = torch.cartesian_prod(axis_points, axis_points)
figure, axes = plt.subplots(1, 5, figsize=(12, 3), sharey=True)
real = circle(500, seed(1))
distances = {}
for axis, (name, losses) in zip(axes, {"squared error": None, **adversarial}.items(), strict=True):
    network, discriminator = train(losses) if losses else (blurred, None)
    with torch.no_grad():
        fake = restore(network, real, seed(2))
        if discriminator:
            # Only differences of logits mean something: half-way between real and fake is 0.
            middle = (discriminator(real).mean() + discriminator(fake).mean()) / 2
            logits = discriminator(grid).view(60, 60).T - middle
            axis.imshow(logits.sigmoid(), extent=(-1.6, 1.6, -1.6, 1.6), origin="lower", cmap="RdBu", alpha=0.6)
    distances[name] = distance_from_circle(fake)
    axis.plot(*real.T, ",", color="black")
    axis.plot(*fake.T, ".", color="tab:orange", markersize=3)
    axis.set(title=f"{name}\n{distances[name]:.2f} from real", aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))
show()
promise("relativistic average, distance from the circle", distances["relativistic average"], 0.1, 0.05)

# %% [markdown]
# Black: the real circle. Orange: what the generator gives. Blue: what looks more real to the discriminator than
# half-way between real and fake.
#
# The squared error gives the flat line between above and below, and ignores the random number. Any discriminator would
# call that line fake at once. With the adversarial losses the generator uses the random number to answer above or
# below. The answer may be wrong for a given picture. It is plausible, and these losses ask for nothing else.
#
# **Why relativistic?** Look at the gradients of the generator's losses for one logit $C(\mathrm{fake})$. With
# $\frac{d}{dx}\log\sigma(x) = 1-\sigma(x)$ they are
#
# $$\text{standard: } -(1-\sigma(C(\mathrm{fake}))),\qquad
# \text{relativistic: } -(1-\sigma(C(\mathrm{fake})-\mathbf{E}\,C(\mathrm{real}))) -
# \mathbf{E}\,\sigma(C(\mathrm{real})-\mathbf{E}\,C(\mathrm{fake}))$$
#
# (up to the division by the batch and by two terms). The standard one fades where the fake is called real, wherever the
# real ones stand. The relativistic one depends on differences alone: it pushes as long as the real ones are called
# *more* real. Its second term comes from the real pictures: they teach the generator too.
#
# The four end alike. They differ in how easily they go astray. ESRGAN's generator gets no random number: it must choose
# one answer. (A generator that gives one answer whatever it is asked has **mode collapse**.) Without the random number,
# three of the four did not settle in our runs. As soon as the generator chooses
# "above", everything below looks more real to the discriminator. ESRGAN holds its generator by two other losses, pixels
# and features.
#
# ## A discriminator of pictures
#
# `esrgan.UNetDiscriminator` gives a logit for every pixel. What it sees at every size on its way down is added on the
# way up: these are **skip connections**.

# %%
import diagrams

diagrams.draw_unet(esrgan.UNetDiscriminator())
show()

# %% [markdown]
# We train a narrow one, alone, to tell photographs from pictures enlarged ×4 by bicubic.

# %%
training, held_out = photograph_pairs(4, enlarge=True)
torch.manual_seed(0)
discriminator = esrgan.UNetDiscriminator(features=8)
optimizer = torch.optim.Adam(discriminator.parameters(), LEARNING_RATE)
generator = seed()
margins = []
for _ in range(4 if FAST else 300):
    chosen = [training[i] for i in torch.randint(len(training), (6,), generator=generator).tolist()]
    low, high = map(from_bytes, sample_batch(chosen, 40, generator))
    real = discriminator(high)
    fake = discriminator(low)
    loss = esrgan.vanilla_discriminator_loss(real, fake)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    margins.append((real.mean() - fake.mean()).item())
plt.figure(figsize=(6, 2.6))
plt.plot(margins)
plt.gca().set(xlabel="step", ylabel="C(real) − C(fake)", title="The discriminator's margin")
show()
print(f"margin: {margins[0]:.2f} at first, {margins[-1]:.2f} at the end")

high = crop(photograph("astronaut.png"), 20, 150, 128)
half_degraded = high.clone()
half_degraded[..., 64:] = resize(resize(high, 1 / 4), 4)[..., 64:]
with torch.no_grad():
    probability = discriminator(half_degraded).sigmoid()
show_pictures([("right half enlarged ×4", half_degraded), ("discriminator's output:\nbright is real", probability)])

# %% [markdown]
# After 300 steps the discriminator tells the halves apart wherever there is detail. Such speed is a danger. Once it is
# certain everywhere, its logits hardly depend on the picture, and the generator gets no direction. That is why ESRGAN
# starts its second stage from a *good* first stage. It is also why `main.py train` shows the discriminator's mean
# logits for real and restored pictures.

# %% [markdown]
# ## Recap
#
# ![Four adversarial losses, and what each generator has learnt: arcs of a circle](pictures/08_discriminators.png)
#
# - A discriminator asks "could this be real?", not "are these the right pixels?".
# - Against it, a generator chooses one plausible answer instead of the average.
# - Detach the fake for the discriminator's step. Keep both halves of the relativistic loss.
# - Watch the margin C(real) − C(fake): neither side may win outright.
#
# Next: [lesson 9](09_perceptual_loss.py), a distance that sees what a picture shows.
