"""The checks of the exercises of lesson 12; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare, parts_of

import torch
import torch.nn.functional as F
from torch import nn

from imaging import distortions


def check_12a(pooled):
    """Two cases: there is still room, or there is none. Who leaves in each?

    While len(pool) + len(batch) is at most `size`: pool.extend(batch), and the answer is the batch.

    Then torch.randperm(size, generator=generator)[: len(batch)] gives places: take what lies there, and put the new
    ones in.
    """
    told = forty_batches(pooled, 0)
    for number, (out, pool) in enumerate(told):
        batch = list(range(4 * number, 4 * number + 4))
        what = f"Batch {number + 1} of four pairs, a pool for twelve"
        if number >= 3:
            exchange_rules(what, batch, out, pool, before=told[number - 1][1])
        elif out != batch:
            raise Mismatch(f"{what}: the pool is not full yet. The answer is the batch itself, not {out}.")
        elif sorted(pool) != list(range(4 * number + 4)):
            raise Mismatch(f"{what}: the new ones do not join the pool, which has {len(pool)} pairs afterwards.")
    expect_mixture(told)
    if forty_batches(pooled, 1) == told:
        raise Mismatch("Another seed gives the same places: they are not sampled with `generator`.")
    if forty_batches(pooled, 0) != told:
        raise Mismatch("The same seed gives other places when called again: pass the generator on.")
    pool, generator = list(range(5)), torch.Generator().manual_seed(2)
    out = pooled(pool, 5, [7, 8], generator)
    if len(out) != 2 or sorted([*out, *pool]) != [0, 1, 2, 3, 4, 7, 8]:
        raise Mismatch(f"Two pairs into a full pool of five: {list(out)} came out, and {pool} are left.")


def forty_batches(pooled, number):
    """Forty batches of four through a pool of twelve: what comes out of each, and the pool after it."""
    generator = torch.Generator().manual_seed(number)
    pool = []
    told = []
    for first in range(0, 160, 4):
        batch = list(range(first, first + 4))
        out = pooled(pool, 12, batch, generator)
        if batch != list(range(first, first + 4)):
            raise Mismatch("It changes the list of new pairs, which belongs to whoever calls. Make a new list.")
        if out is None:
            raise Mismatch("Your function returns nothing. Is there a `return`?")
        if not isinstance(out, list | tuple):
            raise Mismatch(f"A {type(out).__name__} came back, not a list of pairs.")
        told.append((list(out), list(pool)))
    return told


def expect_mixture(told):
    """Those that leave a full pool lay in places of all kinds."""
    leaving = [out for out, _ in told[3:]]
    if any(out == list(range(4 * number, 4 * number + 4)) for number, out in enumerate(leaving)):
        raise Mismatch("The oldest four leave together, as a batch: nothing is mixed. Sample the places at random.")
    left = [sorted(told[at - 1][1].index(pair) for pair in told[at][0]) for at in range(3, len(told))]
    if all(places[-1] - places[0] == 3 for places in left):
        raise Mismatch("Four neighbours leave together every time: nothing is mixed. Sample each place by itself.")
    if never := set(range(12)).difference(*left):
        raise Mismatch(
            f"37 times four pairs left a pool of twelve, and never from the places {sorted(never)}: some pairs would "
            "stay for ever. Sample among all places, with the generator as it comes."
        )


def exchange_rules(what, batch, out, pool, before):
    """Four pairs go into a full pool of twelve, and four others come out."""
    if len(pool) > 12:
        raise Mismatch(f"{what}: the pool has {len(pool)} pairs: new ones must take the places of those that leave.")
    if len(out) != 4:
        raise Mismatch(f"{what}: {len(out)} pairs come out. As many as go in are expected.")
    if out == batch:
        raise Mismatch(f"{what}: the pool is full, and still the batch itself comes out.")
    if len(set(out)) < 4:
        raise Mismatch(f"{what}: a pair comes out twice, {out}. Sample places without repeating: torch.randperm.")
    if not set(batch) <= set(pool):
        raise Mismatch(f"{what}: the new ones are not in the pool afterwards.")
    if set(out) & set(pool):
        raise Mismatch(f"{what}: {out} came out, but some of them are still in the pool and would come again.")
    if sorted(out + pool) != sorted(before + batch):
        raise Mismatch(f"{what}: pairs have been lost.")


def check_12b(sharpened_like_usm):
    """What does the wide blur take away? Where is it worth giving half of it back?

    detail = high − blur(high). The mask is 1 where 255·|detail| is more than the threshold, else 0, and is blurred.

    The sharp version is high + weight·detail, clipped to 0..1; the mask says how much of it is taken.
    """
    high = torch.rand(1, 3, 60, 60).cumsum(-1) % 1
    high[..., 30:] = high[..., 30:] * 0.02 + 0.6  # a nearly flat part, where nothing may happen

    def variant(clip=True, soft=True, masked=True, sign=1.0, unit=255, absolute=True, blur=distortions.wide_blur):
        detail = high - blur(high)
        large = unit * (detail.abs() if absolute else detail) > 20
        mask = blur(large.float()) if soft else large.float()
        sharp = high + sign * 0.7 * detail
        sharp = sharp.clamp(0, 1) if clip else sharp
        return high + (mask if masked else 1) * (sharp - high)

    mistakes = {
        "the mask is not blurred: it leaves edges of its own.": variant(soft=False),
        "the mask is missing: noise in flat places is sharpened too.": variant(masked=False),
        "the sharp version is not clipped to 0..1.": variant(clip=False),
        "the sharp version itself is not clipped to 0..1, only the mixture.": variant(clip=False).clamp(0, 1),
        "the detail is taken off: this blurs.": variant(sign=-1.0),
        "the threshold is in levels of 255, and the detail in 0..1: nothing passes.": variant(unit=1),
        "detail below zero counts too: take its absolute value for the mask.": variant(absolute=False),
        "the threshold is turned round: only flat places are sharpened.": (
            high
            + distortions.wide_blur((255 * (high - distortions.wide_blur(high)).abs() <= 20).float())
            * ((high + 0.7 * (high - distortions.wide_blur(high))).clamp(0, 1) - high)
        ),
    }
    expected = distortions.usm_sharpen(high, 0.7, 20.0)
    actual = sharpened_like_usm(high, distortions.wide_blur, 0.7, 20.0)
    compare(actual, expected, "Weight 0.7, threshold 20", mistakes, 1e-5, True)

    def narrow(pictures):
        return F.avg_pool2d(pictures, 5, 1, 2, count_include_pad=False)

    detail = high - narrow(high)
    expected = high + narrow((255 * detail.abs() > 9).float()) * ((high + 0.4 * detail).clamp(0, 1) - high)
    actual = sharpened_like_usm(high, narrow, 0.4, 9.0)
    compare(actual, expected, "Weight 0.4, threshold 9, and a narrow blur", tolerance=1e-5, picture=True)


def check_12c(normalised_by_stretch):
    """Send u back through the matrix, then forth again. What has become longer, and by how much?

    matrix = weight.flatten(1): a row for each channel that comes out.

    v = F.normalize(matrix.T @ u, dim=0), then the next u = F.normalize(matrix @ v, dim=0), and σ = u @ matrix @ v.
    """
    torch.manual_seed(12)
    for layer in (nn.Conv2d(5, 7, 3, bias=False), nn.Conv2d(4, 6, 1, bias=False)):
        expect_rounds(normalised_by_stretch, nn.utils.spectral_norm(layer).requires_grad_(False))


def power_round(matrix, u):
    """v and the next u."""
    v = F.normalize(matrix.T @ u, dim=0)
    return v, F.normalize(matrix @ v, dim=0)


def expect_rounds(normalised_by_stretch, layer):
    """Three rounds, as PyTorch makes them."""
    weight = layer.weight_orig.clone()
    u = layer.weight_u.clone()
    matrix = weight.flatten(1)
    exact = weight / torch.linalg.matrix_norm(matrix, 2)
    swapped = weight.transpose(0, 1).flatten(1)
    shape = "×".join(map(str, weight.shape))
    for _ in range(3):
        layer.weight_u.copy_(u)
        layer(torch.zeros(1, weight.shape[1], 3, 3))  # PyTorch's own round
        actual = normalised_by_stretch(weight.clone(), u.clone())
        actual = parts_of(actual, 2, "Two things are expected: the weight divided by σ, and the next u.")
        v, following = power_round(matrix, u)
        second_v, second_u = power_round(matrix, following)
        mistakes = {
            "the weight is multiplied by σ. Divide.": weight * (weight.norm() / layer.weight.norm()),
            "this is the Frobenius norm, the root of the sum of all squares. It is larger than σ.": (
                weight / weight.norm()
            ),
            "this is exact, by a decomposition. One round of power iteration is expected: it is cheaper.": exact,
            "these are two rounds. One is expected; the next step of the training makes the next.": (
                weight / (second_u @ matrix @ second_v)
            ),
            "σ is computed with the old u.": weight / (u @ matrix @ v),
            "the weight comes back undivided.": weight,
            "the matrix must have a row for each channel that comes out.": weight
            / torch.linalg.matrix_norm(swapped, 2),
        }
        compare(actual[0], layer.weight, f"A weight of {shape}", mistakes)
        unscaled = {
            "the next u is not normalised to length 1.": matrix @ v,
            "the same u comes back: the next round would begin where this one did.": u,
        }
        compare(actual[1], layer.weight_u, "The next u", unscaled)
        u = torch.as_tensor(actual[1]).clone()
