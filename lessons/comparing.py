"""What the checks of the exercises compare answers with: `compare`, and `Mismatch`, which says what is wrong."""

import numpy
import torch
from torch import Tensor

CHANGED = "It changes what it was given: whoever calls still needs it. Make new ones."


class Mismatch(Exception):
    """An answer is wrong: the message says what differs and where; pictures (caption, picture) may show it."""

    def __init__(self, message: str, *pictures: tuple[str, Tensor]):
        super().__init__(message)
        self.pictures = list(pictures)


def compare(actual, expected, what: str, mistakes: dict | None = None, tolerance: float = 1e-5, picture: bool = False):
    """Raise Mismatch unless `actual` equals `expected`, numbers or tensors, to within the tolerance.

    `mistakes` maps an explanation to the value that this mistake would give. Where one fits, it is named.
    With `picture`, both are shown.
    """
    if actual is None:
        raise Mismatch(f"{what}: your function returns nothing. Is there a `return`?")
    actual = _as_tensor(actual, what)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    for explanation, value in (mistakes or {}).items():
        value = torch.as_tensor(value, dtype=torch.float64)
        if _close(actual, value, tolerance) and not _close(actual, expected, tolerance):
            raise Mismatch(f"{what}: {explanation}", *(_both(actual, expected) if picture else []))
    if actual.shape != expected.shape:
        raise Mismatch(f"{what}: the shape is {_shape(actual)}, not {_shape(expected)}.")
    if not actual.isfinite().all() and expected.isfinite().all():
        raise Mismatch(f"{what}: it is not finite (NaN or infinity).")
    if _close(actual, expected, tolerance):
        return
    if expected.ndim == 0:
        raise Mismatch(f"{what}: {actual.item():.6g}, but it should be {expected.item():.6g}.")
    worst = int((actual - expected).abs().argmax())
    place = ", ".join(map(str, numpy.unravel_index(worst, expected.shape)))  # torch's takes seconds at its first call
    raise Mismatch(
        f"{what}: it differs most at [{place}], where it is {actual.flatten()[worst]:.6g} and should be "
        f"{expected.flatten()[worst]:.6g}.",
        *(_both(actual, expected) if picture else []),
    )


def parts_of(actual, count: int, expected: str) -> list:
    """The parts of an answer that is several things, in a tuple, a list or a tensor; else Mismatch(expected)."""
    parts = list(actual) if isinstance(actual, tuple | list) or getattr(actual, "ndim", 0) else []
    if len(parts) != count:
        raise Mismatch(expected)
    return parts


def compare_gradients(actual, expected: Tensor, of: list[Tensor], what: str, mistakes: dict | None = None):
    """Raise Mismatch unless the sums of `actual` and `expected` have the same gradient for the tensors in `of`.

    `mistakes` maps an explanation to a tensor whose sum has the gradient that this mistake gives.
    """
    if not getattr(actual, "requires_grad", False):
        raise Mismatch(
            f"{what}: what comes back is right, but its gradient is lost: nothing could be learnt. Keep it a tensor, "
            "and detach nothing."
        )

    def gradient(value: Tensor) -> Tensor:
        if not value.requires_grad:
            return torch.zeros(sum(part.numel() for part in of))
        parts = torch.autograd.grad(value.sum(), of, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    own, right = gradient(actual), gradient(expected)
    size = right.abs().max()

    def is_own(other: Tensor) -> bool:
        return _close(own / size, other / size, 1e-4)

    told = f"{what}: what comes back is right, its gradient is not: "
    for explanation, value in (mistakes or {}).items():
        if is_own(gradient(value)) and not is_own(right):
            raise Mismatch(told + explanation)
    if not is_own(right):
        raise Mismatch(f"{told}is a part of it detached, or made a plain number?")


def _as_tensor(value, what: str) -> Tensor:
    if isinstance(value, numpy.ndarray):
        value = numpy.array(value)  # PyTorch takes no array that runs backwards
    try:
        return torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Mismatch(f"{what}: a {type(value).__name__} came back, not a number or a tensor.") from error


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def _shape(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) if value.ndim else "that of a single number"


def _both(actual: Tensor, expected: Tensor) -> list[tuple[str, Tensor]]:
    """Both as pictures for the eye. A matrix becomes one, black at its least value and white at its largest."""
    if expected.ndim == 2:
        least, most = expected.min(), expected.max()
        actual, expected = (((part - least) / (most - least))[None, None] for part in (actual, expected))
    panels = [("yours", actual[:1]), ("expected", expected[:1])]
    if actual.shape == expected.shape:
        apart = (actual - expected)[:1]
        factor = max(1, int(0.5 / apart.abs().max().clamp(min=1e-3)))  # so strong that it can be seen
        panels.append((f"difference × {factor}, grey is none", (0.5 + factor * apart).clamp(0, 1)))
    return [(caption, panel.float()) for caption, panel in panels]
