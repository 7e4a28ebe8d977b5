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
    picture = torch.rand(2, 3, 4, 4)
    mistakes = {
        "nothing has changed: this is the mistake that tints pictures.": picture,
        "the division by the deviation is missing.": picture - MEAN,
        "the mean is not subtracted.": picture / DEVIATION,
        "divide by the deviation; you multiply.": (picture - MEAN) * DEVIATION,
        "the pictures go from 0 to 1, not to 255.": (picture * 255 - MEAN) / DEVIATION,
        "this maps 0..1 to −1..1. VGG19 wants ImageNet's mean and deviation.": picture * 2 - 1,
        "the colours are in the order blue, green, red.": (picture - MEAN.flip(1)) / DEVIATION.flip(1),
    }
    compare(normalised(picture), (picture - MEAN) / DEVIATION, "Two random pictures", mistakes, 1e-4)


def check_09b(perceptual_loss):
    """Which of the two pictures needs a gradient? How is the sum over the layers made?

    Get both dictionaries. Sum over the layers: weight times the mean absolute difference.

    The ground truth needs no gradient (torch.no_grad), the restored picture does. Never wrap the result in
    torch.tensor(…).
    """
    weights = {"conv1_2": 2.0, "conv1_1": 0.5}  # not in the order in which the features come
    vgg = VGG19Features(sorted(weights))
    randomise(vgg)
    high = torch.rand(1, 3, 12, 12)
    restored = torch.rand(1, 3, 12, 12, requires_grad=True)
    a, b = vgg(restored), vgg(high)
    mistakes = {
        "the weights of the layers are not used.": sum(F.l1_loss(a[name], b[name]) for name in weights),
        "the features are compared after the activation. Take them as they come.": sum(
            weight * F.l1_loss(a[name].relu(), b[name].relu()) for name, weight in weights.items()
        ),
        "these are squared differences. ESRGAN's are absolute.": sum(
            weight * F.mse_loss(a[name], b[name]) for name, weight in weights.items()
        ),
        "the differences are summed, not averaged.": sum(
            weight * (a[name] - b[name]).abs().sum() for name, weight in weights.items()
        ),
        "the sum is divided by the number of layers.": sum(
            weight * F.l1_loss(a[name], b[name]) for name, weight in weights.items()
        )
        / 2,
    }
    mistakes = {text: value.detach() for text, value in mistakes.items()}
    loss = perceptual_loss(vgg, restored, high, weights)
    expected = PerceptualLoss(vgg, weights)(restored, high)
    compare(loss, expected.detach(), "Two layers of a random VGG19", mistakes, 1e-4)
    if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
        raise Mismatch("The number is right, but its gradient is lost: the loss would train nothing.")


def check_09c(gram):
    """Which features occur together, no matter where? So which axis must vanish in a product of matrices?

    Flatten rows and columns to one axis of places, (N, C, H·W). The matrix product of that with its transpose has
    the shape (N, C, C).
    """
    values = torch.rand(2, 3, 4, 5)
    flat = values.flatten(2)
    product = flat @ flat.transpose(1, 2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    mistakes = {
        "it is not divided by C·H·W: a larger picture would have a larger Gram matrix.": product,
        "it is divided by H·W only.": product / 20,
        "places are compared with places. Features with features are expected: (N, C, C).": (
            flat.transpose(1, 2) @ flat / 60
        ),
        "the mean is subtracted first: that is a covariance.": centred @ centred.transpose(1, 2) / 60,
        "the pictures of the batch are mixed: each has a matrix of its own.": (product / 60).mean(dim=0),
    }
    compare(gram(values), product / 60, "Two pictures with three features", mistakes)
