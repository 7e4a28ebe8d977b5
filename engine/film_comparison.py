"""A film and its enlarged one side by side: a clip, and a page with a slider for the picture in its middle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy
from PIL import Image

from imaging import film_colours
from imaging.film_copying import CONTAINERS
from imaging.film_writing import Form, write_piece
from imaging.films import Film, Planes, open_film, read_pictures
from imaging.images import to_image
from imaging.sheets import write_slider
from imaging.writing import replacing, unused


def compare_films(
    film: Film, result: Path, form: Form, pictures: tuple[int, int], bicubic: Callable[[Planes], Planes], label: str
) -> list[Path]:  # fmt: skip
    """NAME.compare.mp4 (or what the result is), bicubic on the left, and NAME.compare.html; returns what was written.

    `pictures` are the numbers of the first that was enlarged and of the one after the last. The clip has no sound.
    """
    clip, page = (unused(result.with_name(f"{result.stem}.compare{suffix}")) for suffix in (result.suffix, ".html"))
    large, (first, last) = open_film(result), pictures
    wide = replace(form, size=(form.size[0], 2 * form.size[1]))

    def pairs() -> Iterator[tuple[int, Planes]]:
        before, after = read_pictures(film, first, last), read_pictures(large, 0, last - first)
        for (stamp, low), (_, high) in zip(before, after, strict=False):
            yield stamp - film.stamps[first], side_by_side(bicubic(low), high)

    with replacing(clip) as temporary:
        write_piece(temporary, film, wide, CONTAINERS[result.suffix.lower()], pairs(), as_whole=True)
    middle = (last - first) // 2
    low = next(read_pictures(film, first + middle, first + middle + 1), None)
    high = next(read_pictures(large, middle, middle + 1), None)
    if low is None or high is None:  # damaged
        return [clip]
    write_slider(seen(low[1], film), seen(high[1], large), label, page)
    return [clip, page]


def side_by_side(left: Planes, right: Planes) -> Planes:
    """Two pictures, of which the right may be a row and a column larger, as one."""
    if len(left) < len(right):  # grey beside a codec that has colours
        left = (*left, *(numpy.full_like(plane, plane.flat[0]) for plane in right[1:]))
    sized = [
        numpy.pad(one, [(0, two.shape[0] - one.shape[0]), (0, two.shape[1] - one.shape[1])], mode="edge")
        for one, two in zip(left, right, strict=True)
    ]
    return tuple(numpy.concatenate(parts, axis=1) for parts in zip(sized, right, strict=True))


def seen(planes: Planes, film: Film) -> Image.Image:
    """A picture as a player shows it, but not turned."""
    numbers = film_colours.numbers_of(planes, film.bits, film.colours)
    return to_image(film_colours.as_rgb(numbers, film.size, film.colours))
