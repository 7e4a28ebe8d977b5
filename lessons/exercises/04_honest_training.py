"""The checks of the exercises of lesson 4; the paragraphs of each docstring are the hints."""

import math

from comparing import Mismatch, compare

import torch


def check_04a(split):
    """What is chosen at random: patches, or photographs? How many different photographs are there?

    Make the list of different photographs first, `sorted(set(names))`: a set alone has another order in every run.
    Sample from it with a generator of your own, `torch.randperm(n, generator=torch.Generator().manual_seed(seed))`.

    Then each patch follows its photograph.
    """
    names = ["cat", "wall", "cat", "sea", "wall", "tree", "sea", "cat", "bird", "tree"]
    for count in (1, 2):
        training, held_out = ([int(index) for index in side] for side in split(names, count, 7))
        if missing := set(range(len(names))) - {*training, *held_out}:
            raise Mismatch(f"The patches {sorted(missing)} are on neither side.")
        if len(training) + len(held_out) != len(names):
            raise Mismatch("Some patches are on both sides, or there twice.")
        sides = [{names[index] for index in side} for side in (training, held_out)]
        if both := sides[0] & sides[1]:
            raise Mismatch(
                f"The photographs {sorted(both)} are on both sides: this is a split by patch. The network would be "
                "examined on what it has memorised."
            )
        if len(sides[1]) != count:
            raise Mismatch(f"{len(sides[1])} photographs are held out; {count} was asked for.")
        if [training, held_out] != [[int(index) for index in side] for side in split(names, count, 7)]:
            raise Mismatch("The same seed gave another split when it was called again.")
    if len({tuple(map(int, split(names, 2, seed)[1])) for seed in range(20)}) < 3:
        raise Mismatch("Every seed gives the same split: the photographs are not sampled at random.")


def check_04b(cosine_rate):
    """What does a cosine do while its angle goes from 0 to π? Bring that to the range that you want.

    The cosine goes from 1 to −1 while its angle goes from 0 to π. Add 1 and halve it: it goes from 1 to 0. The
    angle is π · step / steps.
    """
    for step in (0, 25, 50, 80, 99):
        expected = 0.3 * 0.5 * (1 + math.cos(math.pi * step / 100))
        mistakes = {
            "this goes down to −learning_rate: add 1 to the cosine and halve it.": 0.3 * math.cos(math.pi * step / 100),
            "this starts at twice the learning rate: halve it.": 0.3 * (1 + math.cos(math.pi * step / 100)),
            "this is a quarter of a wave. Use half a wave, (1 + cos) / 2.": 0.3 * math.cos(math.pi * step / 200),
            "math.cos wants radians: half a wave is π, not 180.": 0.15 * (1 + math.cos(180 * step / 100)),
            "this rises: the cosine of 0 is 1.": 0.15 * (1 - math.cos(math.pi * step / 100)),
            "this is a straight line.": 0.3 * (1 - step / 100),
        }
        compare(cosine_rate(step, 100, 0.3), expected, f"Step {step} of 100, learning rate 0.3", mistakes, 1e-6)
    compare(cosine_rate(1, 4, 2.0), 1 + math.cos(math.pi / 4), "Step 1 of 4, learning rate 2", tolerance=1e-6)


def check_04c(best_guess):
    """Try it on paper with the values 0, 0 and 1. Which number has the least sum of squares, which the least sum of
    distances?

    One of the two is the mean of the values, the other the median, which a single far value does not move. L2 squares a
    large distance and so minds it most.
    """
    values = torch.tensor([0.1, 0.15, 0.2, 0.25, 0.9])
    compare(best_guess(values, "L2"), values.mean(), "L2", {"this is the median. L2 answers the mean.": 0.2}, 1e-3)
    mistakes = {
        "this is the mean. L1 answers the median, which one far value does not move.": values.mean(),
        "this is the middle between the least and the largest value.": 0.5,
    }
    compare(best_guess(values, "L1"), 0.2, "L1", mistakes, 1e-3)


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
    compare(mean_of_batches([torch.tensor([20.0, 22, 27])]), 23.0, "A single batch")
