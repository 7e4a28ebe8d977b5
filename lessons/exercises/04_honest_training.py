"""The checks of the exercises of lesson 4; the paragraphs of each docstring are the hints."""

import math
from unittest.mock import patch

from comparing import Mismatch, compare

import torch


def check_04a(split):
    """What is chosen at random: patches, or photographs? How many different photographs are there?

    Make the list of different photographs first, `sorted(set(names))`: a set alone has another order in every run.
    Sample from it with a generator of your own, `torch.randperm(n, generator=torch.Generator().manual_seed(seed))`.

    Then each patch follows its photograph.
    """
    names = ["cat", "wall", "cat", "sea", "wall", "tree", "sea", "cat", "bird", "tree"]
    for count, seeds in ((1, 10), (2, 40)):
        held_out = []
        for seed in range(seeds):
            first, again = (expect_split(names, count, split(list(names), count, seed)) for _ in range(2))
            if first != again:
                raise Mismatch("The same seed gave another split when it was called again.")
            held_out.append(first)
        if len(set(held_out)) == 1:
            raise Mismatch("Every seed gives the same split: the photographs are not sampled at random.")
    pairs = len(set(held_out))
    if pairs < 6:  # of forty random ones there are nine or ten
        raise Mismatch(f"Forty seeds hold out only {pairs} of the 10 pairs: the photographs are not sampled at random.")
    runs = []
    of_this_run = hash
    for reverse, sign in ((False, 1), (True, -1)):
        other_hash = patch("builtins.hash", lambda value, sign=sign: sign * of_this_run(value))
        with patch("builtins.set", set_in_order(reverse)), other_hash:
            runs.append([list(map(int, split(list(names), 2, seed)[1])) for seed in range(5)])
    if runs[0] != runs[1]:
        raise Mismatch(
            "Another run would give another split: the order of a set, and a hash, change. Sort by the names."
        )


def expect_split(names, count, sides) -> tuple:
    """The indices that are held out; a Mismatch where the rules are broken."""
    try:
        training, held_out = ([int(index) for index in side] for side in sides)
    except ValueError as error:
        raise Mismatch("Two lists are expected, training and held out, with the indices of patches.") from error
    if missing := set(range(len(names))) - {*training, *held_out}:
        raise Mismatch(f"The patches {sorted(missing)} are on neither side.")
    if len(training) + len(held_out) != len(names):
        raise Mismatch("Some patches are on both sides, or there twice.")
    photographs = [{names[index] for index in side} for side in (training, held_out)]
    if both := photographs[0] & photographs[1]:
        raise Mismatch(
            f"The photographs {sorted(both)} are on both sides: this is a split by patch. The network would be "
            "examined on what it has memorised."
        )
    if len(photographs[1]) != count:
        swapped = " Have the two lists changed places? Training comes first." if len(photographs[0]) == count else ""
        raise Mismatch(f"{len(photographs[1])} photographs are held out; {count} was asked for.{swapped}")
    return tuple(sorted(held_out))


def set_in_order(reverse: bool) -> type:
    """A set that is gone through in this order: that of a real one is another in every run."""

    class Ordered(set):
        def __iter__(self):
            return iter(sorted(super().__iter__(), reverse=reverse))

    return Ordered


def check_04b(cosine_rate):
    """What does a cosine do while its angle goes from 0 to π? Bring that to the range that you want.

    The cosine goes from 1 to −1 while its angle goes from 0 to π. Add 1 and halve it: it goes from 1 to 0. The
    angle is π · step / steps.
    """
    steps = [0, 25, 50, 80, 99]
    turns = [math.pi * step / 100 for step in steps]
    mistakes = {
        "this goes down to −learning_rate: add 1 to the cosine and halve it.": [0.3 * math.cos(x) for x in turns],
        "this starts at twice the learning rate: halve it.": [0.3 * (1 + math.cos(x)) for x in turns],
        "this is a quarter of a wave. Use half a wave, (1 + cos) / 2.": [0.3 * math.cos(x / 2) for x in turns],
        "math.cos wants radians: half a wave is π, not 180.": [0.15 * (1 + math.cos(1.8 * step)) for step in steps],
        "this rises: the cosine of 0 is 1.": [0.15 * (1 - math.cos(x)) for x in turns],
        "this is a straight line.": [0.3 * (1 - step / 100) for step in steps],
        "this is 0 at the last step. It is only near 0 at the end: 0 would be reached at step `steps`.": [
            0.15 * (1 + math.cos(math.pi * step / 99)) for step in steps
        ],
    }
    rates = [cosine_rate(step, 100, 0.3) for step in steps]
    expected = [0.15 * (1 + math.cos(x)) for x in turns]
    what = "The rates of the steps 0, 25, 50, 80 and 99 of 100, learning rate 0.3"
    compare(rates if rates[0] is not None else None, expected, what, mistakes, 1e-6)
    compare(cosine_rate(1, 4, 2.0), 1 + math.cos(math.pi / 4), "Step 1 of 4, learning rate 2", tolerance=1e-6)


def check_04c(best_guess):
    """Try it on paper with the values 0, 0 and 1. Which number has the least sum of squares, which the least sum of
    distances?

    One of the two is the mean of the values, the other the median, which a single far value does not move. L2 squares a
    large distance and so minds it most.
    """
    five, seven = [0.217, 0.9, 0.3, 0.1, 0.15], [3.0, -1, 0.5, 7, 2.5, 2, -4]
    for name, values in (("five", torch.tensor(five)), ("seven", torch.tensor(seven)), ("ten", torch.eye(10)[2])):
        median, middle = values.median(), values[len(values) // 2]
        mistakes = {"this is the median. L2 answers the mean.": median}
        compare(best_guess(values, "L2"), values.mean(), f"L2 of {name} values", mistakes, 1e-3)
        mistakes = {
            "this is the mean. L1 answers the median, which one far value does not move.": values.mean(),
            "this is the middle between the least and the largest value.": (values.min() + values.max()) / 2,
            "this is the one that stands in the middle. Sort the values first.": middle,
        }
        compare(best_guess(values, "L1"), median, f"L1 of {name} values", mistakes, 1e-3)


def check_04d(mean_of_batches):
    """A batch of one picture and a batch of four: should they count alike?

    Put all values into one tensor, torch.cat(batches), and take its mean. Or add up sums, and divide by the number
    of pictures.
    """
    batches = [torch.tensor([30.0, 31, 32, 33]), torch.tensor([28.0, 29, 30, 31]), torch.tensor([40.0])]
    mistakes = {
        "this is the mean of the batches' means: the one picture of the small batch counts four times.": (
            sum(batch.mean() for batch in batches) / 3
        ),
        "the means of the batches are divided by the number of pictures.": sum(batch.mean() for batch in batches) / 9,
        "the sums are divided by the number of batches.": sum(batch.sum() for batch in batches) / 3,
    }
    compare(mean_of_batches(batches), torch.cat(batches).mean(), "Batches of 4, 4 and 1", mistakes)
    batches = [torch.tensor([30.0, 31, 32]), torch.tensor([24.0, 25, 29]), torch.tensor([40.0, 41])]
    compare(mean_of_batches(batches), 31.5, "Batches of 3, 3 and 2")
    compare(mean_of_batches([torch.tensor([20.0, 22, 27])]), 23.0, "A single batch")
