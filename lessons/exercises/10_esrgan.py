"""The checks of the exercises of lesson 10; the paragraphs of each docstring are the hints."""

import copy

from comparing import Mismatch, compare

import torch
import torch.nn.functional as F

import esrgan
from engine import networks, weights
from engine.weights import randomise
from esrgan import PerceptualLoss, VGG19Features


def players():
    """Restored pictures with a gradient, their ground truth, a small discriminator and a small perceptual loss."""
    generator = torch.Generator().manual_seed(10)
    restored, high = (torch.rand(3, 3, 32, 32, generator=generator) for _ in range(2))
    restored = 1.2 * restored - 0.1  # what a network makes leaves 0..1
    torch.manual_seed(10)
    discriminator = esrgan.VGGDiscriminator(32, 4)
    with torch.no_grad():
        discriminator.linear2.weight *= 20  # so sure of itself that the terms of the loss differ
    vgg = VGG19Features(("conv1_2",))
    randomise(vgg)
    return restored.requires_grad_(True), high, discriminator, PerceptualLoss(vgg, {"conv1_2": 1.0})


def expect_no_traces(restored, discriminator):
    """A loss is a number: to compute it must leave the discriminator as it was."""
    if not discriminator.training:
        raise Mismatch("It leaves the discriminator in eval mode. Both losses are computed in training mode.")
    if not all(part.requires_grad for part in discriminator.parameters()):
        raise Mismatch(
            "It leaves the discriminator frozen, which has to learn in the next step. If you freeze it, set "
            "requires_grad to True again before you return."
        )
    if any(part.grad is not None for part in (restored, *discriminator.parameters())):
        raise Mismatch("It calls backward itself. Return the number: whoever trains calls backward.")


def logits_otherwise(restored, high, discriminator):
    """The logits (real, restored) that two mistakes give: both in one batch, and in eval mode."""
    other = copy.deepcopy(discriminator)
    together = other(torch.cat((high, restored))).split(len(high))
    resting = copy.deepcopy(discriminator).eval()
    return together, (resting(high), resting(restored))


IN_ONE_BATCH = (
    "real and restored pictures went through the discriminator in one batch: batch norm mixed their statistics."
)
RESTING = "the discriminator is in eval mode. Both losses are computed in training mode."


def check_10a(generator_loss):
    """Three terms, three weights. Which of them depend on the discriminator, and which logits does it need?

    Add three terms: the perceptual loss; 0.005 times the relativistic generator loss of the discriminator's logits,
    real first and restored second; 0.01 times the mean absolute difference of the pixels.
    """
    restored, high, discriminator, perceptual = players()
    real, fake = discriminator(high), discriminator(restored)
    features = perceptual(restored, high)
    pixel = F.l1_loss(restored, high)
    adversarial = esrgan.relativistic_generator_loss(real, fake)
    expected = features + 0.005 * adversarial + 0.01 * pixel
    opposite = esrgan.relativistic_discriminator_loss(real, fake)
    together, resting = logits_otherwise(restored, high, discriminator)
    clipped = restored.clamp(0, 1)
    mistakes = {
        IN_ONE_BATCH: expected + 0.005 * (esrgan.relativistic_generator_loss(*together) - adversarial),
        RESTING: expected + 0.005 * (esrgan.relativistic_generator_loss(*resting) - adversarial),
        "the two terms of the adversarial loss are added. Our code takes their mean.": expected + 0.005 * adversarial,
        "what was restored is clipped to 0..1 first: where it leaves that, nothing would lead it back.": (
            perceptual(clipped, high)
            + 0.005 * esrgan.relativistic_generator_loss(real, discriminator(clipped))
            + 0.01 * F.l1_loss(clipped, high)
        ),
        "the weights of the discriminator and the pixels have changed places.": (
            features + 0.01 * adversarial + 0.005 * pixel
        ),
        "the three are added without their weights.": features + adversarial + pixel,
        "the pixels are missing: nothing but features would hold the colours.": expected - 0.01 * pixel,
        "the discriminator is missing: this is a perceptual loss with pixels.": expected - 0.005 * adversarial,
        "the discriminator's own loss is in it. For the generator, real and fake are exchanged.": (
            expected + 0.005 * (opposite - adversarial)
        ),
        "this is the standard adversarial loss. ESRGAN's compares with the real pictures.": (
            expected + 0.005 * (esrgan.vanilla_generator_loss(fake) - adversarial)
        ),
        "the pixels' differences are squared. ESRGAN's are absolute.": (
            expected + 0.01 * (F.mse_loss(restored, high) - pixel)
        ),
    }
    mistakes = {text: value.detach() for text, value in mistakes.items()}
    actual = generator_loss(restored, high, discriminator, perceptual)
    compare(actual, expected.detach(), "Three random pictures", mistakes, 1e-6)
    expect_no_traces(restored, discriminator)
    (gradient,) = torch.autograd.grad(expected, restored)
    if not getattr(actual, "requires_grad", False):
        raise Mismatch("The number is right, but its gradient is lost: the loss would train nothing.")
    (own,) = torch.autograd.grad(actual, restored)
    message = "the discriminator's part gives no gradient: it must run through the discriminator into the picture."
    without = torch.autograd.grad(perceptual(restored, high) + 0.01 * F.l1_loss(restored, high), restored)[0]
    compare(1e3 * own, 1e3 * gradient, "Its gradient for the pictures", {message: 1e3 * without})


def expect_learning(actual, restored, high, discriminator):
    """The discriminator must learn from the real pictures and from the restored ones alike."""

    def gradient(loss):
        discriminator.zero_grad()
        loss.backward(retain_graph=True)
        grads = [part.grad for part in discriminator.parameters()]
        return torch.cat([part.flatten() for part in grads if part is not None])

    own = gradient(actual)
    real, fake = discriminator(high), discriminator(restored.detach())
    loss = esrgan.relativistic_discriminator_loss
    cut = {
        "of the restored pictures have none. Detach the pictures, not their logits.": (real, fake.detach()),
        "of the real pictures have none: it would learn half of its task.": (real.detach(), fake),
    }
    mistakes = {f"the logits {text}": gradient(loss(*logits)) for text, logits in cut.items()}
    expected = gradient(loss(discriminator(high), discriminator(restored.detach())))
    size = expected.abs().max()
    mistakes = {text: wrong / size for text, wrong in mistakes.items()}
    compare(own / size, expected / size, "The number is right, the discriminator's gradient is not", mistakes, 1e-3)


def check_10b(discriminator_loss):
    """Who learns from this loss, and who must not? Where do you have to cut?

    Detach the restored pictures, for this loss only. Ask the discriminator for the logits of the real ones, then of
    the restored ones. Give both to relativistic_discriminator_loss of esrgan.py.
    """
    restored, high, discriminator, _ = players()
    real, fake = discriminator(high), discriminator(restored)
    together, resting = logits_otherwise(restored, high, discriminator)
    mistakes = {
        RESTING: esrgan.relativistic_discriminator_loss(*resting),
        "real and restored have changed places: this is the generator's loss.": (
            esrgan.relativistic_discriminator_loss(fake, real)
        ),
        IN_ONE_BATCH: esrgan.relativistic_discriminator_loss(*together),
        "this is the standard adversarial loss. ESRGAN's discriminator is relativistic.": (
            esrgan.vanilla_discriminator_loss(real, fake)
        ),
        "the terms are added. Our code takes their mean.": 2 * esrgan.relativistic_discriminator_loss(real, fake),
    }
    mistakes = {text: value.detach() for text, value in mistakes.items()}
    expected = esrgan.relativistic_discriminator_loss(real, fake).detach()
    actual = discriminator_loss(restored, high, discriminator)
    compare(actual, expected, "Three random pictures", mistakes, 1e-4)
    expect_no_traces(restored, discriminator)
    if not getattr(actual, "requires_grad", False):
        raise Mismatch(
            "The number is right, but no gradient reaches the discriminator: detach the pictures, not the logits."
        )
    expect_learning(actual, restored, high, discriminator)
    if restored.grad is not None:
        raise Mismatch(
            "The number is right, but its gradient reaches the restored pictures: the generator would learn to be "
            "found out. Detach them."
        )


def check_10c(interpolated):
    """What is done with one weight? Then for every name.

    A dictionary comprehension over the keys: (1 − alpha) · first + alpha · second. It must make new tensors: both
    networks are still needed.
    """
    shape = {"scale": 2, "features": 4, "growth": 2, "blocks": 1}
    torch.manual_seed(4)
    one, other = (networks.build_network("rrdb", shape).state_dict() for _ in range(2))
    other = dict(reversed(list(other.items())))  # what belongs together has one name, not one place
    actual = interpolated(one, other, 0.3)
    if not isinstance(actual, dict) or set(actual) != set(one):
        raise Mismatch("A dictionary with the keys of the two is expected.")
    for key in one:
        first, second = one[key], other[key]
        mistakes = {
            "alpha is the share of the first network. It must be that of the second, the GAN.": (
                0.3 * first + 0.7 * second
            ),
            "these are the means: alpha is not used.": (first + second) / 2,
            "the first network counts whole: its share is 1 − alpha.": first + 0.3 * second,
        }
        mistakes = {} if torch.equal(first, second) else mistakes  # biases that are all zero tell nothing
        compare(actual[key], 0.7 * first + 0.3 * second, f"alpha = 0.3, {key}", mistakes)
    network = networks.build_network("rrdb", shape).requires_grad_(False)
    low = torch.rand(1, 3, 8, 8)
    network.load_state_dict(interpolated(one, other, 0.8))
    own = network(low)
    network.load_state_dict(weights.blend(other, one, 0.8))
    compare(own, network(low), "Inside the real RRDBNet, alpha = 0.8", tolerance=1e-4)


POINTS = [(26.0, 0.10), (29.0, 0.12), (28.5, 0.13), (30.0, 0.14), (27.0, 0.12), (29.0, 0.15), (30.0, 0.16)]


def check_10d(not_beaten):
    """First write a function that says whether one point beats another. Then ask it for all pairs.

    Compare every point with every other one. A high PSNR is good, and a small distance. Of two equal points neither
    beats the other.
    """

    def kept(points, better):
        return [i for i, point in enumerate(points) if not any(better(other, point) for other in points)]

    def beats(other, point):
        return other[0] >= point[0] and other[1] <= point[1] and other != point

    def expect(points, what):
        mistakes = {
            "a large distance counts as good. A small one is.": kept(
                points, lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b
            ),
            "a point that is equal in one figure and worse in the other is beaten too.": kept(
                points, lambda a, b: a[0] > b[0] and a[1] < b[1]
            ),
            "a point must be worse in both figures, or equal, to be beaten: yours need only one.": kept(
                points, lambda a, b: a[0] > b[0] or a[1] < b[1]
            ),
            "these are the points with the best PSNR alone.": kept(points, lambda a, b: a[0] > b[0]),
            "these are the points themselves. Their indices are expected.": [
                list(points[i]) for i in kept(points, beats)
            ],
            "these are the points that are beaten.": sorted(set(range(len(points))) - set(kept(points, beats))),
            "two equal points beat each other. Neither is better in any figure.": kept(
                points, lambda a, b: a is not b and a[0] >= b[0] and a[1] <= b[1]
            ),
        }
        actual = not_beaten(list(points))
        if isinstance(actual, list) and actual != sorted(actual) and sorted(actual) == kept(points, beats):
            raise Mismatch(f"{what}: the right points, but their indices are not in ascending order.")
        compare(actual, kept(points, beats), what, mistakes)

    expect(POINTS, "Seven points")
    expect(POINTS[::-1], "The same in the opposite order")
    expect([(30.0, 0.14), tuple([30.0, 0.14]), (29.0, 0.2)], "Two equal points and a worse one")
