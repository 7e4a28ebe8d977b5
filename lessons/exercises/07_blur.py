"""The checks of the exercises of lesson 7; the paragraphs of each docstring are the hints."""

from comparing import compare
from course import crop, photograph

import torch

from imaging.images import resize


def patches() -> tuple[torch.Tensor, torch.Tensor]:
    """Two places of one lawn."""
    grass = photograph("grass.png")
    return crop(grass, 100, 100, 48), crop(grass, 300, 40, 48)


def check_07a(with_foreign_detail):
    """A picture is what its small version shows, plus what was lost. Which of the two parts comes from which
    picture?

    Shrink `high` and enlarge it again: that is what the small picture shows. Do the same with `other` and subtract
    the result from `other`: that is its lost detail. Add the two.
    """
    high, other = patches()
    expect_detail(with_foreign_detail, high, other, 4, "Two patches of grass")
    coffee = photograph("coffee.png")
    high, other = (
        torch.cat([crop(coffee, top, left, 24, 32) for top, left in places])
        for places in (((60, 100), (200, 300)), ((120, 400), (300, 60)))
    )
    expect_detail(with_foreign_detail, high, other, 2, "Two patches in colour, no squares, scale 2")


def expect_detail(with_foreign_detail, high, other, scale, what):
    """A Mismatch unless the answer keeps the large shapes of `high` and takes the detail of `other`."""

    def shown(x):
        return resize(resize(x, 1 / scale), scale)

    expected = shown(high) + other - shown(other)
    mistakes = {
        "this has its own detail, or none: the detail must come from `other`.": shown(high),
        "the two pictures have changed places: large shapes from `high`, detail from `other`.": shown(other)
        + high
        - shown(high),
        "the whole of `other` is added. Only what shrinking takes from it is expected.": shown(high) + other,
        "`high` keeps its own detail too: shrink and enlarge it first.": high + other - shown(other),
        "the detail is subtracted.": shown(high) - other + shown(other),
        "it is enlarged first and then shrunk, which takes no detail away.": (
            resize(resize(high - other, scale), 1 / scale) + other
        ),
        "it is cut off at 0 and 1. Nothing is cut off here: detail may reach beyond.": expected.clamp(0, 1),
    }
    compare(with_foreign_detail(high, other, scale), expected, what, mistakes, 1e-4, picture=True)


def check_07b(expected_error):
    """The ground truth may be any of the n pictures, each with the same probability. What is the mean over all of
    them?

    The guess has one picture and `plausible` n of them: subtracting spreads it over all n by itself. Square, and
    take the mean over everything.
    """
    plausible = torch.rand(7, 1, 5, 6, generator=torch.Generator().manual_seed(4))
    guess = torch.full((1, 1, 5, 6), 0.4)
    squares = (guess - plausible).square()
    mistakes = {
        "this is the error against the average picture. The variance around it is missing.": (
            (guess - plausible.mean(dim=0)).square().mean()
        ),
        "the variance divides by n − 1. All n pictures are known: divide by n.": (
            (guess - plausible.mean(dim=0)).square().mean() + plausible.var(dim=0).mean()
        ),
        "this is a sum. Each picture counts 1/n, each pixel too.": squares.sum(),
        "this is the error against the nearest picture. Any of them may be the ground truth.": (
            squares.mean(dim=(1, 2, 3)).min()
        ),
        "these are absolute differences. Squared ones are expected.": (guess - plausible).abs().mean(),
    }
    compare(expected_error(guess, plausible), squares.mean(), "A grey guess for seven pictures", mistakes)
    colours = plausible[:6].view(2, 3, 5, 6).repeat(2, 1, 1, 1) ** torch.arange(1, 5).view(4, 1, 1, 1)
    guess = colours[:1]
    compare(expected_error(guess, colours), (guess - colours).square().mean(), "The first of four in colour")


def check_07c(best_answer):
    """For one pixel with the values a, b and c: at which number has the expected squared distance its least value?

    The weighted mean: each picture times its probability, summed over the pictures. To multiply, the probabilities
    need the shape (n, 1, 1, 1); to keep the first dimension, sum with keepdim=True.
    """
    plausible = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(5))
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    expected = (plausible * probabilities.view(3, 1, 1, 1)).sum(dim=0, keepdim=True)
    mistakes = {
        "this is the most probable picture. It is sharp, but its expected squared error is larger.": plausible[:1],
        "the probabilities are not used: this is the plain mean.": plausible.mean(dim=0, keepdim=True),
        "this is the median, which belongs to the absolute error.": plausible.median(dim=0, keepdim=True).values,
        "the products are averaged, not summed: the probabilities sum to 1 already.": expected / 3,
        "the first dimension is gone. Sum with keepdim=True.": expected[0],
    }
    compare(best_answer(plausible, probabilities), expected, "Three pictures with 0.6, 0.3, 0.1", mistakes)
    plausible = torch.rand(5, 3, 2, 4, generator=torch.Generator().manual_seed(6))
    probabilities = torch.tensor([0.1, 0.15, 0.05, 0.25, 0.45])
    expected = torch.einsum("nchw,n->chw", plausible, probabilities)[None]
    compare(best_answer(plausible, probabilities), expected, "Five pictures in colour")
