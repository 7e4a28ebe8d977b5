"""Something to turn: sliders where the notebook has them, else a series of pictures.

    play(draw, alpha=(0, 0.5, 1), quality=(90, 30, 10))    # draw(alpha=…, quality=…) gives (caption, picture)

Sliders need the package ipywidgets and a notebook that runs. The series shows each choice in a row of its own, with the
first of the others; it is all there is in a script, and on a page that is only read.
"""

from collections.abc import Callable, Sequence

from course import IN_NOTEBOOK, show_pictures

from torch import Tensor


def play(draw: Callable[..., tuple[str, Tensor]], **choices: Sequence) -> None:
    """Show what `draw` gives: in a series, one row for each choice, and below it by sliders if there can be any."""
    show_pictures(*series(draw, choices))
    if not IN_NOTEBOOK:
        return
    try:
        import ipywidgets
    except ImportError:
        print("sliders: pip install ipywidgets")
        return
    sliders = {
        name: ipywidgets.SelectionSlider(options=list(values), description=name) for name, values in choices.items()
    }
    ipywidgets.interact(lambda **chosen: show_pictures([draw(**chosen)], side=360), **sliders)


def series(draw: Callable[..., tuple[str, Tensor]], choices: dict[str, Sequence]) -> list[list[tuple[str, Tensor]]]:
    """A row for each choice: all its values, with the first of the others."""
    first = {name: values[0] for name, values in choices.items()}
    return [[draw(**first | {name: value}) for value in values] for name, values in choices.items()]
