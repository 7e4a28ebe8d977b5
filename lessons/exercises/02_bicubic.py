"""The checks of the exercises of lesson 2; the paragraphs of each docstring are the hints."""

from functools import partial

from comparing import Mismatch, compare
from course import crop, photograph

import torch

from imaging.images import cubic, resize, resize_taps


def keys(x: torch.Tensor, a: float) -> torch.Tensor:
    """The cubic kernel with any a."""
    x = x.abs()
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, (a + 2) * x**3 - (a + 3) * x**2 + 1, torch.where(x <= 2, far, torch.zeros(())))


def matrix_of(length: int, new_length: int, scale: float | None = None) -> torch.Tensor:
    """images.resize_taps as a dense matrix."""
    index, weights = resize_taps(length, new_length, scale or new_length / length)
    matrix = torch.zeros(new_length, length, dtype=torch.float64)
    rows = torch.arange(new_length).expand_as(index)
    return matrix.index_put((rows, index), weights, accumulate=True)


def check_02a(cubic_weight):
    """The kernel has two pieces and is 0 beyond them. Every element of the tensor must choose its own piece,
    without `if`.

    Take the absolute value first. Then torch.where(x <= 1, near, torch.where(x <= 2, far, 0)) chooses the piece for
    every element. The kernel is 1 at distance 0 and 0 at the distances 1 and 2.
    """
    x = torch.linspace(-2.6, 2.6, 53)
    for a in (-0.5, -0.75):
        expected = keys(x, a)
        cut = expected * (x.abs() <= 1)
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        signed = torch.where(x <= 1, (a + 2) * x**3 - (a + 3) * x**2 + 1, torch.where(x <= 2, far, torch.zeros(())))
        endless = torch.where(x.abs() <= 1, expected, a * x.abs() ** 3 - 5 * a * x**2 + 8 * a * x.abs() - 4 * a)
        mistakes = {
            f"a is {a} in this call, but you compute with another one.": keys(x, -1.25 - a),
            "the outer piece, for distances from 1 to 2, is missing.": cut,
            "beyond the distance 2 the weight must be 0; yours goes on.": endless,
            "the absolute value is missing: the kernel is the same to the left and to the right.": signed,
        }
        compare(cubic_weight(x, a), expected, f"The kernel with a = {a}", mistakes, 1e-4)
    compare(cubic_weight(x.double(), -0.5), cubic(x.double()), "images.cubic on the same distances", tolerance=1e-4)
    for shape in ((4, 6), (2, 1, 3, 5), ()):
        part = 5 * torch.rand(shape) - 2.5
        compare(cubic_weight(part, -0.5), keys(part, -0.5), f"Distances of the shape {tuple(shape)}", tolerance=1e-4)


def check_02b(centres):
    """Draw two lines of pixels over the same length, one of 4 and one of 2. Where do the centres lie?

    Pixel i covers the stretch from i to i + 1, so its centre is i + 0.5 from the left edge. Divide by the scale to
    count in old pixels, and take the half pixel of the old picture off again. torch.arange gives all i at once.
    """
    for new_length, scale in ((4, 0.5), (6, 2.0), (5, 1 / 3), (8, 1.5), (3, 0.4)):
        whole = round(scale) if scale > 1 else 1 / round(1 / scale)
        i = torch.arange(new_length, dtype=torch.float64)
        mistakes = {
            "the half pixels are missing: the picture would be shifted towards the upper left corner.": i / scale,
            "the first and last pixels are laid on each other (that is called align_corners). "
            "Here both pictures cover the same area.": i * (new_length / scale - 1) / (new_length - 1),
            "the last − 0.5 is missing: the picture would be shifted by half a pixel.": (i + 0.5) / scale,
            "you multiply by the scale. New pixels are counted in old ones: divide.": (i + 0.5) * scale - 0.5,
            "the scale is rounded. It need not be whole, nor 1 divided by it.": (i + 0.5) / whole - 0.5,
            "the old length is rounded, and need not be whole. Divide by the scale itself.": (
                (i + 0.5) * int(new_length / scale) / new_length - 0.5
            ),
        }
        compare(centres(new_length, scale), (i + 0.5) / scale - 0.5, f"Centres for scale {scale:.3g}", mistakes)


def matrix_by_kernel(length, new_length, stretch, border="mirror", divisor=None, a=-0.5):
    """The resize matrix by a kernel stretched so far, with another border, divisor than the sum, or parameter."""
    j = torch.arange(-length, 2 * length, dtype=torch.float64)
    middle = (torch.arange(new_length, dtype=torch.float64)[:, None] + 0.5) * length / new_length - 0.5
    weights = keys((middle - j) / stretch, a)
    if border == "left out":
        weights = weights * ((j >= 0) & (j < length))
    weights = weights / (divisor or weights.sum(dim=1, keepdim=True))
    left, matrix, right = weights.split(length, dim=1)
    if border == "mirror":
        return matrix + left.flip(1) + right.flip(1)
    if border == "mirrored between":
        return matrix + left.flip(1).roll(1, 1) + right.flip(1).roll(-1, 1)
    matrix = matrix.clone()
    if border == "repeated":
        matrix[:, 0] += left.sum(dim=1)
        matrix[:, -1] += right.sum(dim=1)
    return matrix


def wrong_matrices(length, new_length, expected):
    """Explanation → the matrix that a mistake gives."""
    stretch = max(1.0, length / new_length)
    make = partial(matrix_by_kernel, length, new_length)
    return {
        "no anti-aliasing: when shrinking, divide the distances by the stretch 1/scale.": make(1.0),
        "the rows do not sum to 1, so the picture changes its brightness. Divide each row by its sum.": (
            make(stretch, divisor=1.0)
        ),
        "the rows are divided by the stretch, which is their sum only for some ratios. Divide each row by its sum.": (
            make(stretch, divisor=stretch)
        ),
        "pixels beyond the border are left out, as Pillow does. Mirror the picture there.": make(stretch, "left out"),
        "beyond the border the last pixel is repeated. Mirror the picture there.": make(stretch, "repeated"),
        "the border pixel itself is not mirrored. It is: … 1 0 | 0 1 2 …": make(stretch, "mirrored between"),
        "the kernel is narrower than it was when enlarging. It is stretched when shrinking, and never narrower.": (
            make(length / new_length)
        ),
        "a is −0.75 here, as in OpenCV. It should be −0.5.": make(stretch, a=-0.75),
        "the matrix is transposed: one row for each new pixel is expected.": expected.T,
    }


def check_02c(resize_matrix):
    """Think of the table of all distances at once: a row for each new pixel, a column for each old one, and columns
    for the mirror images too.

    Make the table of distances first: centres as a column minus positions −length … 2·length − 1 as a row. Divide
    by the stretch, take the kernel, divide each row by its sum.

    The three thirds of the columns are the mirrored picture, the picture, and the mirrored one again: flip the
    outer two and add all three.
    """
    for length, new_length in ((12, 24), (12, 6), (20, 5), (12, 7), (7, 12)):
        what = f"From {length} to {new_length} pixels"
        expected = matrix_of(length, new_length)
        actual = resize_matrix(length, new_length)
        compare(actual, expected, what, wrong_matrices(length, new_length, expected), 1e-4, True)
    high = crop(photograph("coffee.png"), 100, 150, 96)
    matrix = torch.as_tensor(resize_matrix(96, 48)).to(high)
    if not torch.allclose(matrix @ high @ matrix.T, resize(high, 1 / 2), atol=1e-4):
        raise Mismatch("On a photograph your matrix differs from images.resize.")
