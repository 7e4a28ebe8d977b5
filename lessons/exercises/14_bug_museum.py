"""The checks of the exercises of lesson 14; the paragraphs of each docstring are the hints.

A stub here is a function with a mistake. While an answer still does what that did, it is "not yet" solved.
"""

import contextlib
import io
import tempfile
from pathlib import Path

from comparing import Mismatch, compare
from course import crop, photograph

import numpy
import torch
import torch.nn.functional as F
from torch import nn

from imaging.images import crop_to_multiple, psnr, resize, to_bytes
from srcnn import SRCNN


def not_yet_if(unchanged: bool) -> None:
    """Leave the check as an empty stub would, if the answer does what the exhibit did."""
    if unchanged:
        raise NotImplementedError


def equal(actual, other: torch.Tensor) -> bool:
    """Whether an answer, whatever it is, is that tensor."""
    return isinstance(actual, torch.Tensor) and actual.shape == other.shape and torch.allclose(actual.to(other), other)


def check_14a(as_floats):
    """A picture taken at night may have no bright pixel. What else tells how many bits it has?

    How many bits a picture has is not written in its values: pixels.dtype says it. The largest value of each type
    becomes 1, 255 for numpy.uint8 and 65535 for numpy.uint16.
    """
    dark = numpy.array([[0, 17, 150, 200]], dtype=numpy.uint16)
    expected = torch.tensor([[0, 17, 150, 200]]) / 65535
    actual = as_floats(dark)
    if isinstance(actual, numpy.ndarray):
        actual = torch.from_numpy(actual)
    not_yet_if(equal(actual, 65535 * expected / 255))
    mistakes = {
        "it is divided by its own largest value: every picture becomes equally bright.": expected / expected.max(),
    }
    compare(actual, expected, "A 16-bit picture whose brightest pixel is 200", mistakes, 1e-7)
    eight = numpy.array([[0, 3, 255]], dtype=numpy.uint8)
    white = torch.tensor([[0, 3 / 255, 1]])
    mistakes = {
        "pictures with 8 bits are divided by 65535 too.": white * 255 / 65535,
        "the largest of 256 values is 255: white is not 1.": white * 255 / 256,
    }
    compare(as_floats(eight), white, "An 8-bit picture", mistakes)
    guessed = "how many bits it has is guessed from the values. The type says it: pixels.dtype."
    for row in ([[0, 90, 255]], [[100, 200, 254]]):  # both types may have these values
        for kind, most, other in ((numpy.uint8, 255, 65535), (numpy.uint16, 65535, 255)):
            pixels = numpy.array(row, dtype=kind)
            compare(as_floats(pixels), pixels / most, f"{row} in {kind.__name__}", {guessed: pixels / other}, 1e-6)
    bright = numpy.array([[256, 40000, 65535]], dtype=numpy.uint16)
    white = torch.tensor([[256 / 65535, 40000 / 65535, 1]])
    mistakes = {"the largest of 65536 values is 65535: white is not 1.": white * 65535 / 65536}
    compare(as_floats(bright), white, "A bright 16-bit picture", mistakes, 1e-6)
    if as_floats(bright).dtype not in (numpy.float32, torch.float32):
        raise Mismatch(f"The numbers are right, but of the type {as_floats(bright).dtype}, not float32.")


def check_14b(in_rows):
    """Try it by hand with a picture 4 wide and 3 high: how long is a row?

    Pillow gives (width, height), tensors have (height, width). Which of the two is how long a row is?
    """
    picture = torch.arange(12.0).view(3, 4)
    actual = in_rows(picture.flatten(), (4, 3))
    not_yet_if(equal(actual, picture.flatten().view(4, 3)))
    mistakes = {
        "the shape is right now, but the rows are still cut at the wrong length before they are turned.": (
            picture.flatten().view(4, 3).T
        ),
        "the picture lies on its side: nothing needs to be turned.": picture.T,
    }
    compare(actual, picture, "A picture 4 wide and 3 high", mistakes)
    compare(in_rows(torch.arange(10.0), (2, 5)), torch.arange(10.0).view(5, 2), "A picture 2 wide and 5 high")
    compare(in_rows(torch.arange(4.0), (2, 2)), torch.arange(4.0).view(2, 2), "A square picture")


def check_14c(as_bytes):
    """What happens to 256.3, and what to 254.9? Those are the two mistakes.

    What leaves 0..1 must be cut off before it becomes bytes: 256 has no room in one, and wraps around to 0. And
    int() cuts off the digits behind the point, 254.9 becomes 254: round first.
    """
    picture = torch.tensor([[-0.01, 0.0, 100.7 / 255, 101.2 / 255, 1.0, 1.01]])
    cut, rounded = (255 * picture).int().to(torch.uint8), (255 * picture).round().int().to(torch.uint8)
    actual = as_bytes(picture)
    not_yet_if(equal(actual, cut))
    if isinstance(actual, torch.Tensor) and actual.dtype != torch.uint8:
        raise Mismatch(f"The type is {actual.dtype}. A file wants torch.uint8.")
    mistakes = {
        "what is under 0 or over 1 still wraps around, white to black.": rounded,
        "the digits behind the point are still cut off, not rounded: half a level too dark on average.": (
            (255 * picture.clamp(0, 1)).int()
        ),
        "it is cut off at 0 only: over 1 it still wraps around.": (255 * picture.clamp(min=0)).round().int() % 256,
        "it is cut off at 1 only: under 0 it still wraps around.": (255 * picture.clamp(max=1)).round().int() % 256,
        "each is rounded up.": (255 * picture.clamp(0, 1)).ceil(),
        "the picture is stretched to 0..1: that changes its contrast. Cut off what is outside.": (
            255 * (picture - picture.min()) / (picture.max() - picture.min())
        ).round(),
    }
    compare(actual, to_bytes(picture), "Six pixels from −0.01 to 1.01", mistakes)
    levels = torch.cat([torch.arange(-2, 257) + share for share in (-0.3, 0.0, 0.3)])[None]
    mistakes = {
        "0..1 is cut into 256 parts. Level 255 is 1, so multiply by 255 and round to the nearest.": (
            (256 * levels / 255).floor().clamp(0, 255)
        ),
    }
    expected = levels.round().clamp(0, 255)
    compare(as_bytes(levels / 255), expected, "All levels, and 0.3 beside", mistakes)


def check_14d(baseline):
    """Work out for a side of 199 how many pixels of the photograph one small pixel stands for.

    199 / 4 is 49.75: the small picture of 49 pixels shows all 199, and each of its pixels is a little more than
    four wide. Enlarged by exactly 4 it shows 199 pixels on 196. Crop the photograph to a multiple of the scale
    first; images.crop_to_multiple does it.
    """
    for height, width, scale in ((103, 103, 4), (100, 100, 4), (101, 101, 3), (83, 106, 4)):
        high = crop(photograph("coffee.png"), 100, 100, height, width)
        small = resize(high, size=(height // scale, width // scale))
        enlarged, fitted = resize(small, scale), resize(small, size=(height, width))
        even = crop_to_multiple(high, scale)
        expected = psnr(resize(resize(even, 1 / scale), scale), even, scale)
        actual = baseline(high, scale)
        actual = torch.tensor([actual]) if isinstance(actual, float) else actual
        what = f"A photograph of {height}×{width}, scale {scale}"
        shipped = psnr(enlarged, high[..., : enlarged.shape[-2], : enlarged.shape[-1]], scale)
        not_yet_if(height % scale > 0 and equal(actual, shipped))
        shrunk = resize(high, 1 / scale)  # rounded up
        larger = resize(shrunk, scale)[..., :height, :width]
        mistakes = {
            "it is enlarged to the old size, by a factor that is not the scale. The tables crop before they shrink.": (
                psnr(fitted, high, scale)
            ),
            "the small picture has a row more than the tables', with an invented border. Crop before you shrink.": (
                psnr(larger, high, scale)
            ),
            "the border is not shaved any more: the last argument of psnr.": psnr(
                resize(resize(even, 1 / scale), scale), even
            ),
        }
        compare(actual, expected, what, {k: v for k, v in mistakes.items() if height % scale}, 1e-4)


def check_14e(pair_up):
    """Write down the pairs by hand for names where one is missing in the middle.

    Sorting is no pairing: one missing file moves all that follow.

    Make a dictionary from the name without _x4.png to the low file, and look up each high one by its name without
    .png.
    """
    names = ["fox", "no.1", "10", "b", "my_cat", "1"]
    lows = [f"{name}_x4.png" for name in [*names, "d"]]
    highs = [f"{name}.png" for name in ["d.old", *reversed(names), "a"]]
    try:
        actual = pair_up(list(lows), list(highs))
    except (ValueError, KeyError, AssertionError, IndexError) as error:
        if isinstance(error, ValueError) and "zip()" in str(error):
            raise Mismatch(f"It stops: {error}. Better than before, but the others still have partners.") from error
        raise
    if not isinstance(actual, list):
        raise Mismatch(f"A {type(actual).__name__} came back, not a list of pairs.")
    actual = [tuple(pair) for pair in actual]
    not_yet_if(actual == list(zip(sorted(lows), sorted(highs), strict=False)))
    expect_pairs(actual, [(f"{name}_x4.png", f"{name}.png") for name in names])
    compare(len(pair_up(["a_x4.png", "c_x4.png"], ["b.png", "c.png"])), 1, "Where one low has no high, the pairs")


def expect_pairs(actual: list[tuple], expected: list[tuple]) -> None:
    """Who belongs together, once each, in an order that is the same everywhere."""
    for pair in actual:
        if pair[::-1] in expected:
            raise Mismatch(f"{pair} is the wrong way round: pairs are (low, high).")
        if pair not in expected:
            alike = pair[0].startswith(pair[-1].removesuffix(".png"))
            raise Mismatch(f"{pair[0]} is paired with {pair[-1]}." + (" A name begins like another." if alike else ""))
    if missing := [pair for pair in expected if pair not in actual]:
        raise Mismatch(f"{missing[0][0]} and {missing[0][1]} have been left out.")
    by_high = sorted(actual, key=lambda pair: pair[1])
    if actual not in (sorted(actual), by_high):
        raise Mismatch("The pairs are right, but not sorted: the order would change from machine to machine.")
    if len(actual) != len(expected):
        raise Mismatch("A pair is there twice.")


def check_14f(run_tiles):
    """What is in `restored` when the third tile fails?

    The except clause hides the error, and `restored` is still the tile before. A caller who is told can halve the
    tiles and try again. Take the try away.
    """

    def network(tile):
        if tile == 3:
            raise RuntimeError("out of memory")
        return 10 * tile

    actual = run_tiles(network, [1, 2, 4, 5, 6])
    if not isinstance(actual, list | tuple | torch.Tensor | None):
        raise Mismatch(f"A {type(actual).__name__} came back. A list of the results is expected.")
    compare(actual, [10, 20, 40, 50, 60], "Five tiles without an error")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the exhibit prints
            actual = run_tiles(network, [1, 2, 3, 4])
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise Mismatch(f'The error says "{error}". What the network said is lost.') from error
    else:
        not_yet_if(actual == [10, 20, 20, 40])
        told = {
            3: "the tile is left out, and the others move up.",
            4: "a tile stands there that the network has not made; nobody will notice it.",
        }
        left = len(actual) if isinstance(actual, list) else 0
        raise Mismatch(f"The third of four tiles fails: {told.get(left, 'nobody is told.')} Let the error out.")
    try:
        run_tiles(network, [3])
    except RuntimeError:
        return
    raise Mismatch("The first tile fails, and no RuntimeError comes out.")


def check_14g(enlarge):
    """What colour has a pixel that cannot be seen, and what does the resize do with it?

    Where opacity is 0 the colour means nothing, and yet it is mixed into its neighbours.

    Multiply the colour by the opacity before you resize, and divide by the new opacity afterwards; where that is
    nearly 0, by a small number such as 0.001.
    """
    place = torch.linspace(-1.2, 1.2, 24)
    opacity = ((1 - (place**2 + place[:, None] ** 2).sqrt()) * 4 + 0.5).clamp(0, 1)
    opacity = opacity * opacity * (3 - 2 * opacity)
    seen = (opacity > 0).float()
    disc = torch.stack([seen, 0.8 * seen, 0 * seen, opacity])[None]
    expect_no_fringe(enlarge, disc, 4, "a yellow disc")
    part = slice(3, -3)  # higher than wide
    sign = torch.stack([seen * (0.6 + place / 4), seen * (0.6 - place / 4), 0 * seen, opacity])[None, ..., part]
    expect_no_fringe(enlarge, sign, 3, "an oval of two colours")


def expect_no_fringe(enlarge, rgba, scale, what):
    """What is enlarged and laid on a ground must look as what was laid on it and then enlarged."""

    def laid_on(rgba, ground):
        return rgba[:, :3] * rgba[:, 3:] + ground * (1 - rgba[:, 3:])

    actual = enlarge(rgba, scale)
    not_yet_if(equal(actual, resize(rgba, scale).clamp(0, 1)))
    new_opacity = resize(rgba[:, 3:], scale).clamp(0, 1)
    multiplied = resize(rgba[:, :3] * rgba[:, 3:], scale).clamp(0, 1)
    mistakes = {
        "the colour is multiplied by the opacity, but not divided by it again.": torch.cat(
            (multiplied, new_opacity), 1
        ),
        "the colour is multiplied after it has been enlarged, when black is mixed in already.": torch.cat(
            ((resize(rgba[:, :3], scale) * new_opacity).clamp(0, 1), new_opacity), 1
        ),
    }
    for explanation, wrong in mistakes.items():
        if equal(actual, wrong):
            raise Mismatch(f"{what.capitalize()}: {explanation}")
    shape = (1, 4, *(scale * side for side in rgba.shape[-2:]))
    compare(torch.as_tensor(actual).shape, shape, f"The shape of {what}, enlarged {scale} times")
    compare(actual[:, 3:], new_opacity, f"The opacity of {what}", tolerance=0.02)
    if not actual.isfinite().all() or actual.min() < 0 or actual.max() > 1:
        raise Mismatch("It leaves 0..1, or is no number, where the opacity is near 0. Divide by at least 0.001; clamp.")
    for ground in (1.0, 0.0):
        expected = resize(laid_on(rgba, ground), scale).clamp(0, 1)
        laid = f"{what.capitalize()}, laid on {'white' if ground else 'black'}"
        compare(laid_on(actual, ground), expected, laid, tolerance=0.03, picture=True)


def check_14h(save):
    """What is written by torch.save(network), besides numbers?

    Save network.state_dict(), which is names and tensors, instead of the network, which is a Python object whose
    code has to be found again, and run, when it is loaded.
    """
    network = SRCNN((9, 1, 5))
    with torch.no_grad():
        network.map.bias += 1
    expect_weights(save, network, SRCNN((9, 1, 5)), "An SRCNN")
    network, other = (nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)) for _ in range(2))
    network(torch.rand(2, 1, 5, 5))  # so that the running statistics are not those of a new one
    expect_weights(save, network, other, "A network with batch norm")


def expect_weights(save, network, other, what):
    """Everything that the network has is in `other` after loading, and nothing in it has changed."""
    before = {name: part.clone() for name, part in network.state_dict().items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pt"
        save(network, path)
        if not path.exists():
            raise Mismatch("There is no file.")
        try:
            loaded = torch.load(path, weights_only=True)
        except Exception:
            whole = isinstance(torch.load(path, weights_only=False), nn.Module)
            not_yet_if(whole)
            raise Mismatch("weights_only=True refuses the file: there is more in it than names and tensors.") from None
    if any(part.dtype != before[name].dtype for name, part in network.state_dict().items()):
        raise Mismatch("The network itself has changed by being saved: it has another type of numbers.")
    if not isinstance(loaded, dict):
        raise Mismatch(f"A {type(loaded).__name__} is in the file. load_state_dict wants names and their tensors.")
    if set(loaded) == {name for name, _ in network.named_parameters()} != set(before):
        raise Mismatch(f"{what}: its running statistics are missing. They are buffers, not parameters.")
    try:
        other.load_state_dict(loaded)
    except (RuntimeError, TypeError) as error:
        raise Mismatch(
            f"The file opens, but load_state_dict does not find the weights: its names are {list(loaded)[:3]}, not "
            f"{list(before)[:3]}."
        ) from error
    for name, part in other.state_dict().items():
        compare(part, before[name], f"{what}, {name} after loading", tolerance=1e-7)


def check_14i(to_be_learnt):
    """Who may change so that the loss falls?

    Adam changes every parameter that it is given, so that the loss falls. The features are the ruler that the loss
    measures with: only the network's own parameters may be among them.
    """
    torch.manual_seed(0)
    network = nn.Conv2d(1, 1, 3, padding=1)
    features = nn.Conv2d(1, 4, 3)
    untouched = [part.detach().clone() for part in (*network.parameters(), *features.parameters())]
    given = to_be_learnt(network, features)
    if given is None or isinstance(given, str | nn.Module):
        raise Mismatch(f"A {type(given).__name__} came back. A list of parameters is expected.")
    given = [part for each in given for part in (each["params"] if isinstance(each, dict) else [each])]
    own = {id(part) for part in network.parameters()}
    ruler = {id(part) for part in features.parameters() if part.requires_grad}
    ids = {id(part) for part in given}
    not_yet_if(own | ruler == ids and len(ruler) == 2)
    if ids & ruler:
        raise Mismatch("Some parameters of the features are still there: the ruler bends.")
    if not own <= ids:
        raise Mismatch("Parameters of the network itself are missing: they would never learn.")
    frozen = {id(part) for part in features.parameters()}
    if ids - own - frozen:
        raise Mismatch("Some parameters are neither the network's nor the features': copies teach nobody.")
    if not all(map(torch.equal, (*network.parameters(), *features.parameters()), untouched)):
        raise Mismatch(
            "The numbers of the network or of the features have changed. Choose, and leave them as they are."
        )
    x, y = torch.rand(1, 1, 9, 9), torch.rand(1, 1, 9, 9)
    loss = F.l1_loss(features(network(x)), features(y))
    if not all(part.requires_grad for part in network.parameters()):
        raise Mismatch("The network itself is frozen: requires_grad is False.")
    loss.backward()
    before = [part.clone() for part in features.parameters()]
    torch.optim.Adam(given, lr=0.1).step()
    after = list(features.parameters())
    compare(torch.cat([part.flatten() for part in after]), torch.cat([part.flatten() for part in before]), "The ruler")


def train(network, optimizer, first, last):
    """Some steps with a learning rate that falls; the weights after them."""
    for step in range(first, last):
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        loss = (network(torch.full((1, 2), 1.0 + step)) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cat([part.detach().flatten() for part in network.parameters()])


def small_run():
    """A network and its optimiser."""
    network = nn.Linear(2, 2)
    return network, torch.optim.Adam(network.parameters())


def copied(state):
    """A checkpoint as it comes back from a file."""
    return torch.load(_through_bytes(state), weights_only=True)


def check_14j(resume):
    """Two things are missing after resuming. What does Adam remember, and on what does the learning rate depend?

    Adam remembers the mean and the size of past gradients: optimizer.load_state_dict. And the learning rate depends
    on the step, so go on with the one that the checkpoint names.
    """
    expect_resumed(resume, 5, "five")
    expect_resumed(resume, 3, "three")


def expect_resumed(resume, done, number):
    """A run that is stopped and resumed ends where one does that was never stopped."""
    network, optimizer = small_run()
    train(network, optimizer, 0, done)
    checkpoint = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
    checkpoint = copied(checkpoint)
    stopped_at = copied(network.state_dict())
    expected = train(network, optimizer, done, 9)
    network, optimizer = small_run()
    step = resume(copied(checkpoint), network, optimizer)
    if not all(torch.equal(part, stopped_at[name]) for name, part in network.state_dict().items()):
        raise Mismatch("The weights of the network are not those of the checkpoint.")
    if step is None:
        raise Mismatch("Your function returns nothing: the step to go on with is expected.")
    remembers = bool(optimizer.state)
    not_yet_if(step == 0 and not remembers)
    told = f"{done} steps are done, 0 to {done - 1}, so the next one is {done}."
    mistakes = {
        "the run begins at step 0 again, and with it the learning rate.": 0,
        f"a step is left out: {told}": done + 1,
        f"a step is done twice: {told}": done - 1,
    }
    compare(step, done, f"To go on after {number} steps", mistakes)
    if torch.as_tensor(step).is_floating_point():
        raise Mismatch(f"The step is {step}. Steps are counted: a whole number is expected.")
    if not remembers:
        raise Mismatch("The optimiser has forgotten everything: Adam's means of past gradients begin at zero again.")
    after = train(network, optimizer, step, 9)
    compare(after, expected, f"Stopped after {number} of nine steps: the weights", tolerance=1e-7)


def _through_bytes(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file
