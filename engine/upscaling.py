"""Any picture through any network, in tiles.

large = upscale(network, low, scale)        # (1, 3, H, W) → (1, 3, scale·H, scale·W)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.devices import autocast
from engine.networks import Network, is_given_enlarged
from imaging.console import UserError, note, out_of_memory
from imaging.images import apply_taps, cut_taps, resize, resize_taps, rgb_to_ycbcr, size_of, ycbcr_to_rgb

FADE = 4  # where a network sees farther than its margin, so many more pixels are mixed with the neighbour's: no seam
MIN_TILE = 32
# A picture is mirrored by so many pixels beyond its edges, and the surplus is cut off: convolutions pad with zeros, and
# a row of black around a white sheet colours its rim. Wider changes nothing that can be seen.
BORDER = 8
LEVEL = 9  # pixels a side of the squares of the low picture whose means a network must keep


# ---------------------------------------------------------------------------------------------
# Tiles: a picture of any size in little memory
# ---------------------------------------------------------------------------------------------


@dataclass
class Tiling:
    """How a network is run over a picture; when memory runs out, `side` is halved for all that follows."""

    side: int = 0  # 0: as it suits the network
    precision: str = "fp32"

    def choose_side(self, network: Network) -> None:
        """Set the side, unless one was asked for."""
        self.side = self.side or network.tile


def tiles(render, size: tuple[int, int], tiling: Tiling, unit: float, fade: int):
    """Yield (top, left, piece) until the pieces fill a picture of `size` (height, width); later ones replace earlier.

    `render(top, bottom, left, right)` gives any window of that picture, (1, C, rows, columns), exactly or nearly.
    `unit` is how many pixels of it one pixel of a tile makes. Where the network sees farther than the margin of a
    tile, neighbours overlap by 2·`fade` pixels and are cross-faded: no seam, and only a band as high as the overlap
    has to be kept. Raises UserError if memory runs out even with the smallest tiles.
    """
    top = 0
    above = None
    while top < size[0]:
        step = max(4 * fade, round(tiling.side * unit), 1)
        bottom = _next_seam(top, size[0], step)
        try:
            below = yield from _row_of_tiles(render, top, bottom, size, step, fade, above)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
        else:
            top, above = bottom, below
            continue
        # Out of the except clause, for as long as it lasts the traceback holds what has to be freed.
        if tiling.side <= MIN_TILE:
            raise UserError(f"out of memory, even with tiles of {tiling.side} pixels")
        tiling.side = max(MIN_TILE, tiling.side // 2)
        note(f"out of memory: going on with tiles of {tiling.side} pixels")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _next_seam(start: int, length: int, step: int) -> int:
    """Where a tile ends that begins at `start`, so that the rest is cut into equal parts of at most `step`."""
    left = length - start
    return start + math.ceil(left / math.ceil(left / step))


def _row_of_tiles(render, top: int, bottom: int, size: tuple[int, int], step: int, fade: int, above: Tensor | None):
    """The pieces between two seams. `above` is the band of 2·`fade` rows around the upper seam; returns the lower's."""
    height, width = size
    start, stop = top - fade if above is not None else top, bottom + fade if bottom < height else height
    overlap = 2 * fade if bottom < height else 0
    left = 0
    before = below = None
    while left < width:
        right = _next_seam(left, width, step)
        first, last = left - fade if before is not None else left, right + fade if right < width else width
        part = render(start, stop, first, last)
        if before is not None:
            part = _cross_fade(before, part, -1)
        if right < width:
            part, before = part.split((last - first - 2 * fade, 2 * fade), dim=-1)
        if above is not None:
            part = _cross_fade(above[..., first : first + part.shape[-1]], part, -2)
        part, band = part.split((stop - start - overlap, overlap), dim=-2)
        if below is None:
            below = band.new_empty((*band.shape[:-1], width))
        below[..., first : first + part.shape[-1]] = band
        yield start, first, part
        left = right
    return below


def _cross_fade(before: Tensor, part: Tensor, axis: int) -> Tensor:
    """`part` with its first rows (axis −2) or columns (−1) fading in from those of its neighbour `before`."""
    count = before.shape[axis]
    if not count:
        return part
    share = (torch.arange(count, dtype=part.dtype) + 0.5) / count
    common, rest = part.split((count, part.shape[axis] - count), dim=axis)
    return torch.cat((torch.lerp(before, common, share[:, None] if axis == -2 else share), rest), dim=axis)


def in_tiles(network: Network, picture: Tensor, scale: int = 1, tiling: Tiling | None = None) -> Tensor:
    """The network over what it takes, RGB or luma, of any size: (1, C, H, W) → (1, C, scale·H, scale·W) on the CPU.

    Each tile is cut with a margin as wide as the network sees, so that the result is the same as in one go; where that
    is very far, a narrower margin and a cross-fade must do.
    """
    tiling = tiling or Tiling()
    tiling.choose_side(network)
    height, width = picture.shape[-2:]

    def render(top: int, bottom: int, left: int, right: int) -> Tensor:
        rows, columns = _seen(network, top, bottom, scale, height), _seen(network, left, right, scale, width)
        restored = run(network, picture[..., slice(*rows), slice(*columns)], tiling.precision)
        return crop(restored, top - scale * rows[0], bottom - top, left - scale * columns[0], right - left)

    size = scale * height, scale * width
    return _filled(tiles(render, size, tiling, scale, _fade(network, scale)), size)


def _filled(pieces, size: tuple[int, int]) -> Tensor:
    result = torch.empty(0)
    for top, left, piece in pieces:
        if not len(result):
            result = piece.new_empty((*piece.shape[:2], *size))
        crop(result, top, piece.shape[-2], left, piece.shape[-1]).copy_(piece)
    return result


def _fade(network: Network, unit: float) -> int:
    """How far a tile reaches over its seams, in pixels of the result of which a tile's pixel makes `unit`."""
    return 0 if network.margin >= network.radius else int(FADE * unit)


def _seen(network: Network, start: int, stop: int, scale: int, length: int, border: int = 0) -> tuple[int, int]:
    """First and last row (or column) of the low picture that the network gets for rows start:stop of its result.

    They reach at most `border` beyond the picture.
    """
    margin = max(1, network.margin)
    first, last = max(-border, start // scale - margin), -(-stop // scale) + margin
    return first - first % network.fold, min(length + border, last + -last % network.fold)


def crop(picture: Tensor, top: int, height: int, left: int, width: int) -> Tensor:
    """`height` rows from `top` on and `width` columns from `left` on, of (…, H, W); a view."""
    return picture[..., top : top + height, left : left + width]


def run(network: Network, part: Tensor, precision: str) -> Tensor:
    """The network over one tile on its own device; once more in float32 if half precision overflowed."""
    device = next(network.parameters()).device
    on_device = part.to(device, memory_format=torch.channels_last)  # the faster order for wide networks
    with autocast(precision, device):
        restored = network(on_device)
    if precision != "fp32" and not restored.isfinite().all():
        restored = network(on_device)
    return restored.to(part.dtype).cpu().contiguous()  # in this order what follows is fastest


# ---------------------------------------------------------------------------------------------
# Pictures: luma and RGB, grey and colour, alpha, any factor
# ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def upscale(
    network: Network, low: Tensor, scale: int, tiling: Tiling | None = None, size: tuple[int, int] | None = None
) -> Tensor:  # fmt: skip
    """(1, 1 or 3, H, W), grey or RGB in 0..1 → (1, 1 or 3, scale·H, scale·W) in 0..1, on the CPU; or on to `size`.

    A luma network restores the Y of the bicubically enlarged picture; Cb and Cr stay bicubic.
    """
    size = size or (scale * low.shape[-2], scale * low.shape[-1])
    channels = low.shape[1]

    def read(top: int, bottom: int, left: int, right: int) -> Tensor:
        return low[..., top:bottom, left:right]

    if channels == 3 and torch.equal(low[:, 0], low[:, 1]) and torch.equal(low[:, 0], low[:, 2]):
        return thrice(upscale(network, low[:, :1], scale, tiling, size))  # a network on RGB would tint it
    return _filled(enlarged_pieces(network, read, channels, size_of(low), scale, size, tiling or Tiling()), size)


@torch.inference_mode()
def upscale_luma(network: Network, luma: Tensor, scale: int, size: tuple[int, int], tiling: Tiling) -> Tensor:
    """Luma of a film, (1, 1, H, W), black 0 and white 1 → (1, 1, *size). SRCNN keeps what is beyond both."""
    if not is_given_enlarged(network):
        return upscale(network, luma.clamp(0, 1), scale, tiling, size)
    studio = (resize(luma, scale) * 219 + 16) / 255
    restored = (in_tiles(network, studio, 1, tiling) * 255 - 16) / 219
    return restored if size_of(restored) == size else resize(restored, size=size)


def one_of_three(read):
    """What reads windows of a grey picture with equal channels, with one of them, and alpha if there is one."""

    def read_one(top: int, bottom: int, left: int, right: int) -> Tensor:
        return read(top, bottom, left, right)[:, 2:]

    return read_one


def mirrored(read, size: tuple[int, int]):
    """What reads windows of a picture of `size`, with a mirror at its edges: ... c b a | a b c ..."""

    def read_over_edges(top: int, bottom: int, left: int, right: int) -> Tensor:
        rows, columns = _mirrored(top, bottom, size[0]), _mirrored(left, right, size[1])
        row, column = int(rows.min()), int(columns.min())
        window = read(row, int(rows.max()) + 1, column, int(columns.max()) + 1)
        inside = top >= 0 and bottom <= size[0] and left >= 0 and right <= size[1]
        return window if inside else window[..., rows - row, :][..., columns - column]

    return read_over_edges


def _mirrored(start: int, stop: int, length: int) -> Tensor:
    """Places start:stop on a line that continues 0 … length − 1 by its mirror image, again and again."""
    places = torch.arange(start, stop) % (2 * length)
    return torch.minimum(places, 2 * length - 1 - places)


def thrice(planes: Tensor) -> Tensor:
    """Grey as three equal channels, and alpha as it is."""
    return torch.cat((planes[:, :1].expand(-1, 3, -1, -1), planes[:, 1:]), dim=1)


def enlarged_pieces(
    network: Network, read, channels: int, low_size: tuple[int, int], scale: int, size: tuple[int, int],
    tiling: Tiling, alpha_bicubic: bool = False,
):  # fmt: skip
    """The picture that `read` gives, of `low_size`, through a network and, bicubically, on to `size`: see `tiles`."""
    tiling.choose_side(network)
    render = Enlarged(network, read, channels, low_size, scale, tiling, alpha_bicubic)
    full_size = scale * low_size[0], scale * low_size[1]
    if size != full_size:
        render = rescaled(render, full_size, size)
    unit = max(size) / max(full_size if is_given_enlarged(network) else low_size)
    return tiles(render, size, tiling, unit, _fade(network, unit))


def rescaled(render, full_size: tuple[int, int], size: tuple[int, int]):
    """What gives windows of a picture of `full_size` as one that gives windows of it resized, as `resize` does it."""
    row_taps, column_taps = (resize_taps(old, new, new / old) for old, new in zip(full_size, size, strict=True))

    def render_resized(top: int, bottom: int, left: int, right: int) -> Tensor:
        first_row, last_row, rows = cut_taps(row_taps, top, bottom)
        first_column, last_column, columns = cut_taps(column_taps, left, right)
        part = render(first_row, last_row, first_column, last_column)
        return apply_taps(apply_taps(part, -2, rows), -1, columns).clamp(0, 1)

    return render_resized


@dataclass
class Enlarged:
    """Gives any window of an enlarged picture: (1, channels, rows, columns) in 0..1.

    `read(top, bottom, left, right)` gives windows of the low picture, (1, channels, …): 1 grey, 2 grey and alpha,
    3 RGB, 4 RGB and alpha.
    """

    network: Network
    read: Callable
    channels: int
    size: tuple[int, int]  # of the low picture
    scale: int
    tiling: Tiling
    alpha_bicubic: bool = False

    def __post_init__(self):
        self.taps = [resize_taps(length, self.scale * length, self.scale) for length in self.size]

    def __call__(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        scale, (height, width) = self.scale, self.size
        if is_given_enlarged(self.network):  # it sees the picture enlarged by bicubic interpolation
            margin = self.network.margin
            row, column = max(0, top - margin), max(0, left - margin)
            seen = self.bicubic(row, min(scale * height, bottom + margin), column, min(scale * width, right + margin))
        else:
            rows = _seen(self.network, top, bottom, scale, height, BORDER)
            columns = _seen(self.network, left, right, scale, width, BORDER)
            seen = mirrored(self.read, self.size)(*rows, *columns)
            row, column = scale * rows[0], scale * columns[0]

        def cut(planes: Tensor) -> Tensor:
            return crop(planes, top - row, bottom - top, left - column, right - left)

        has_alpha = self.channels % 2 == 0
        colour = cut(restore(self.network, seen[:, : self.channels - has_alpha], self.tiling.precision))
        if not has_alpha:
            return colour
        lowest, highest = self.range_of_alpha(top, bottom, left, right)
        if torch.equal(lowest, highest):
            alpha = lowest
        elif self.alpha_bicubic:
            alpha = self.bicubic(top, bottom, left, right)[:, -1:]
        else:
            alpha = cut(restore(self.network, seen[:, -1:], self.tiling.precision))
        return torch.cat((colour, torch.minimum(torch.maximum(alpha, lowest), highest)), dim=1)

    def bicubic(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """A window of the picture enlarged by bicubic interpolation, exactly as `resize` enlarges the whole."""
        first_row, last_row, rows = cut_taps(self.taps[0], top, bottom)
        first_column, last_column, columns = cut_taps(self.taps[1], left, right)
        return apply_taps(apply_taps(self.read(first_row, last_row, first_column, last_column), -2, rows), -1, columns)

    def range_of_alpha(self, top: int, bottom: int, left: int, right: int) -> tuple[Tensor, Tensor]:
        """The lowest and the highest alpha of the 3×3 low pixels around each new one, which it may not leave.

        What is opaque stays opaque and what is not there stays away, whatever a network makes of it.
        """
        (height, width), scale = self.size, self.scale
        row, column = max(0, top // scale - 1), max(0, left // scale - 1)
        low = self.read(row, min(height, -(-bottom // scale) + 1), column, min(width, -(-right // scale) + 1))[:, -1:]
        rows, columns = torch.arange(top, bottom) // scale - row, torch.arange(left, right) // scale - column
        highest, lowest = F.max_pool2d(low, 3, 1, 1), -F.max_pool2d(-low, 3, 1, 1)
        return lowest[..., rows[:, None], columns], highest[..., rows[:, None], columns]


def restore(network: Network, seen: Tensor, precision: str) -> Tensor:
    """One plane of grey or alpha, or three of RGB, in 0..1, through a network on luma or RGB, and back.

    Chroma that a network on luma does not enlarge is enlarged by bicubic interpolation.
    """
    grey = seen.shape[1] == 1
    if not network.luma:
        rgb = seen.expand(-1, 3, -1, -1)
        restored = keep_level(run(network, rgb, precision), rgb)
        restored = restored.mean(dim=1, keepdim=True) if grey else restored
    elif grey:  # from 0..1 to the studio swing of luma, 16/255..235/255, and back
        restored = (restored_luma(network, (seen * 219 + 16) / 255, precision) * 255 - 16) / 219
    else:
        luma, chroma = rgb_to_ycbcr(seen).split((1, 2), dim=1)
        chroma = chroma if is_given_enlarged(network) else resize(chroma, network.scale)
        restored = ycbcr_to_rgb(torch.cat((restored_luma(network, luma, precision), chroma), dim=1))
    return restored.clamp_(0, 1)


def restore_enlarged(network: Network, picture: Tensor, tiling: Tiling | None = None) -> Tensor:
    """RGB (1, 3, H, W) that is enlarged already, as SRCNN wants it: its luma restored tile by tile, on the CPU."""
    luma, chroma = rgb_to_ycbcr(picture).split((1, 2), dim=1)
    return ycbcr_to_rgb(torch.cat((in_tiles(network, luma, tiling=tiling), chroma), dim=1)).clamp_(0, 1)


def restored_luma(network: Network, luma: Tensor, precision: str) -> Tensor:
    """Luma (1, 1, H, W) through a network on luma; what enlarges it keeps its level."""
    restored = run(network, luma, precision)
    return restored if is_given_enlarged(network) else keep_level(restored, luma)


def keep_level(restored: Tensor, low: Tensor) -> Tensor:
    """(1, C, scale·H, scale·W) moved, smoothly, to the local means of the low picture (1, C, H, W) that it shows.

    A network may be a few levels off wherever it is; in a flat colour that is seen, and a loss hardly sees it. Back-
    projection (Irani and Peleg 1991) corrects every pixel by what the result, shrunk again, differs from the input.
    Corrected here is only the mean over LEVEL × LEVEL pixels, twice averaged: noise and JPEG blocks do not come back.
    """
    scale = restored.shape[-1] // low.shape[-1]
    restored = restored.clamp_(0, 1)
    rows, columns = (means_along(length).to(low) for length in low.shape[-2:])
    difference = rows @ (low - F.avg_pool2d(restored, scale)) @ columns.T
    # Each plane as a picture of its own: of pictures with three PyTorch would reorder the pixels, there and back.
    planes = difference.flatten(0, 1)[:, None]
    enlarged = F.interpolate(planes, scale_factor=scale, mode="bilinear", align_corners=False)
    return restored.add_(enlarged.view_as(restored))


@lru_cache(4)
def means_along(length: int) -> Tensor:
    """What takes the mean of LEVEL pixels in a row around each of `length`, or of those that are there, and that twice.

    One product of matrices is several times as fast as pooling is.
    """
    places = torch.arange(length)
    near = ((places[:, None] - places).abs() <= LEVEL // 2).float()
    means = near / near.sum(dim=1, keepdim=True)
    return means @ means
