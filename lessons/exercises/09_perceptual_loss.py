"""The checks of the exercises of lesson 9; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare

import torch
import torch.nn.functional as F

from engine.weights import randomise
from esrgan import PerceptualLoss, VGG19Features

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def check_09a(normalised):
    """Each colour has its own mean and its own deviation. Which shape must they have?

    Subtract ImageNet's mean of each colour and divide by its standard deviation. Both need the shape (1, 3, 1, 1)
    to meet the channels.
    """
    for shape in ((2, 3, 4, 4), (1, 3, 5, 7)):
        picture = torch.rand(shape)
        own = picture - picture.mean(dim=(0, 2, 3), keepdim=True)
        mistakes = {
            "nothing has changed: this is the mistake that tints pictures.": picture,
            "the division by the deviation is missing.": picture - MEAN,
            "the mean is not subtracted.": picture / DEVIATION,
            "divide by the deviation; you multiply.": (picture - MEAN) * DEVIATION,
            "the pictures go from 0 to 1, not to 255.": (picture * 255 - MEAN) / DEVIATION,
            "this maps 0..1 to −1..1. VGG19 wants ImageNet's mean and deviation.": picture * 2 - 1,
            "the colours are in the order blue, green, red.": (picture - MEAN.flip(1)) / DEVIATION.flip(1),
            "the pictures' own mean and deviation are used. VGG19 was trained with ImageNet's.": (
                own / picture.std(dim=(0, 2, 3), keepdim=True)
            ),
        }
        what = f"Random pictures, {'×'.join(map(str, shape))}"
        compare(normalised(picture), (picture - MEAN) / DEVIATION, what, mistakes, 1e-4)


def check_09b(perceptual_loss):
    """Which of the two pictures needs a gradient? How is the sum over the layers made?

    Get both dictionaries. Sum over the layers: weight times the mean absolute difference.

    The ground truth needs no gradient (torch.no_grad), the restored picture does. Never wrap the result in
    torch.tensor(…).
    """
    # not in the order in which the features come
    expect_distance(perceptual_loss, {"conv1_2": 2.0, "conv1_1": 0.5}, torch.rand(2, 1, 3, 12, 12))
    expect_distance(perceptual_loss, {"conv2_1": 0.3, "conv1_1": 1.5, "conv1_2": 1.0}, torch.rand(2, 2, 3, 8, 12))


def expect_distance(perceptual_loss, weights, pictures):
    """The number and its gradient, for a random VGG19."""
    vgg = VGG19Features(sorted(weights))
    randomise(vgg)
    restored, high = pictures[0].requires_grad_(), pictures[1]
    a, b = vgg(restored), vgg(high)
    parts = {name: F.l1_loss(a[name], b[name]) for name in weights}
    total = sum(weight * parts[name] for name, weight in weights.items())
    mistakes = {
        "the weights of the layers are not used.": sum(parts.values()),
        "the features are compared after the activation. Take them as they come.": sum(
            weight * F.l1_loss(a[name].relu(), b[name].relu()) for name, weight in weights.items()
        ),
        "these are squared differences. ESRGAN's are absolute.": sum(
            weight * F.mse_loss(a[name], b[name]) for name, weight in weights.items()
        ),
        "the differences are summed, not averaged.": sum(
            weight * (a[name] - b[name]).abs().sum() for name, weight in weights.items()
        ),
        "the sum is divided by the number of layers.": total / len(weights),
        "the pictures of the batch are summed: the mean goes over them too.": total * len(high),
    }
    mistakes = {text: value.detach() for text, value in mistakes.items()}
    loss = perceptual_loss(vgg, restored, high, weights)
    expected = PerceptualLoss(vgg, weights)(restored, high)
    what = f"{len(weights)} layers of a random VGG19, batch of {len(high)}"
    compare(loss, expected.detach(), what, mistakes, 1e-4)
    if restored.grad is not None:
        raise Mismatch("It calls backward itself. Return the number: whoever trains calls backward.")
    lost = Mismatch("The number is right, but its gradient is lost: the loss would train nothing.")
    if not getattr(loss, "requires_grad", False):
        raise lost
    (own,) = torch.autograd.grad(loss, restored, allow_unused=True)
    if own is None:
        raise lost
    (gradient,) = torch.autograd.grad(expected, restored)
    size = gradient.abs().max()
    if not torch.allclose(own / size, gradient / size, atol=0.01):
        raise Mismatch(
            "The number is right, but some of the layers have lost their gradient: they would teach nothing."
        )


def check_09c(gram):
    """Which features occur together, no matter where? So which axis must vanish in a product of matrices?

    Flatten rows and columns to one axis of places, (N, C, H·W). The matrix product of that with its transpose has
    the shape (N, C, C).
    """
    expect_gram(gram, torch.rand(2, 3, 4, 5), "Two pictures with three features")
    expect_gram(gram, torch.rand(3, 2, 6, 4), "Three pictures with two features")


def expect_gram(gram, values, what):
    """The Gram matrices of some features."""
    flat = values.flatten(2)
    product = flat @ flat.transpose(1, 2)
    size = flat[0].numel()
    centred = flat - flat.mean(dim=2, keepdim=True)
    mistakes = {
        "it is not divided by C·H·W: a larger picture would have a larger Gram matrix.": product,
        "it is divided by H·W only.": product / flat.shape[2],
        "places are compared with places. Features with features are expected: (N, C, C).": (
            flat.transpose(1, 2) @ flat / size
        ),
        "the mean is subtracted first: that is a covariance.": centred @ centred.transpose(1, 2) / size,
        "the pictures of the batch are mixed: each has a matrix of its own.": (product / size).mean(dim=0),
        "reshape turns nothing, it only cuts the numbers otherwise. Use transpose.": (
            flat @ flat.reshape(len(flat), -1, flat.shape[1]) / size
        ),
    }
    compare(gram(values), product / size, what, mistakes)
