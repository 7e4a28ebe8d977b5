"""Sheets and pages to look at: tables of pictures, a picture beside its enlargement, a page with a slider."""

import base64
import html
import math
from io import BytesIO
from pathlib import Path

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from imaging.frames import Frame, to_8_bits
from imaging.images import apply_taps, cut_taps, from_bytes, resize_taps, to_image
from imaging.writing import replacing

# ---------------------------------------------------------------------------------------------
# Tables of pictures
# ---------------------------------------------------------------------------------------------

CELL = 300  # pixels a side, up to which small pictures in a table are enlarged
GAP = 12
LINE = 20  # pixels from one line of a caption to the next


def draw_sheet(rows: list[list[tuple[str, Tensor]]], path: Path) -> None:
    """A table of pictures (1, 3, H, W) with a caption above each, as a PNG; small ones are enlarged, up to `CELL`."""

    def shown(picture: Tensor) -> Image.Image:
        return zoomed(on_white(to_image(picture)), max(1, CELL // max(picture.shape[-2:])))

    sheet = table_of([[(caption, shown(picture)) for caption, picture in row] for row in rows])
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def zoomed(image: Image.Image, times: int) -> Image.Image:
    """Every pixel as a square of that many: none is lost or doubled, which would be a resize of its own."""
    return image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)


def table_of(rows: list[list[tuple[str, Image.Image]]], min_width: int = 0) -> Image.Image:
    """Rows of (caption, picture) on white, pixels as they are; a column is as wide as what is in it, or `min_width`."""
    from matplotlib import get_data_path  # slow to import, and most commands draw nothing

    # matplotlib's font, for Pillow's own has no ×.
    font = ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 15)

    def width_of(caption: str, image: Image.Image) -> int:
        return max(image.width, *(math.ceil(font.getlength(line)) for line in caption.split("\n")))

    columns = [
        max(min_width, *(width_of(*row[number]) for row in rows if number < len(row)))
        for number in range(max(map(len, rows)))
    ]
    titles = [LINE * max(caption.count("\n") + 1 for caption, _ in row) + 6 for row in rows]
    heights = [max(image.height for _, image in row) for row in rows]
    size = sum(columns) + GAP * (len(columns) + 1), sum(titles) + sum(heights) + GAP * (len(rows) + 1)
    sheet = Image.new("RGB", size, "white")
    draw, top = ImageDraw.Draw(sheet), GAP
    for row, title, height in zip(rows, titles, heights, strict=True):
        left = GAP
        for (caption, image), width in zip(row, columns, strict=False):
            draw.multiline_text((left, top), caption, fill="black", font=font, spacing=LINE - 15)
            sheet.paste(image, (left, top + title))
            left += width + GAP
        top += title + height + GAP
    return sheet


# ---------------------------------------------------------------------------------------------
# A picture beside its enlargement
# ---------------------------------------------------------------------------------------------

PANEL = 440  # pixels a side of a picture in a comparison
DETAIL = 48  # pixels a side of the low picture that its detail shows
MAX_PAGE_SIDE = 2000  # pixels a side of what a slider page shows at most: it carries both pictures in itself


def draw_comparison(low: Frame, high: Frame, label: str, path: Path) -> None:
    """Nearest neighbour, bicubic and the model side by side: the whole picture above, its richest detail below."""
    low, high = on_white(to_8_bits(low)), to_8_bits(high)  # of a large result only what is shown is converted
    whole = on_white(high if max(high.size) <= PANEL else high.resize(_fitting(high.size), reducing_gap=2))
    left, top, side = richest_detail(low)
    factors = high.width / low.width, high.height / low.height
    spot = (round(left * factors[0]), round(top * factors[1]))
    size = max(1, round(min(side, low.width) * factors[0])), max(1, round(min(side, low.height) * factors[1]))
    zoom = max(1, PANEL // max(size))
    above, below = [], []
    ways = (
        ("nearest neighbour", Image.Resampling.NEAREST, nearest_part),
        ("bicubic", Image.Resampling.BICUBIC, bicubic_part),
    )
    for name, method, part_of in ways:
        # Where it must be shown smaller than it is, every way of enlarging would look the same.
        small = whole.width < low.width
        picture = low.resize(whole.size, reducing_gap=2) if small else low.resize(whole.size, method)
        above.append((name, picture))
        below.append(part_of(low, high.size, spot, size))
    above.append((label, whole))
    below.append(on_white(high.crop((*spot, spot[0] + size[0], spot[1] + size[1]))))
    sheet = table_of([above, [(f"detail, pixels ×{zoom}", zoomed(detail, zoom)) for detail in below]], PANEL)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """A size of the same proportions that fits into a panel."""
    width, height = (max(1, round(side * PANEL / max(size))) for side in size)
    return width, height


def on_white(image: Image.Image) -> Image.Image:
    """RGB, for looking at, with transparency laid on white."""
    if "A" not in image.mode:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def nearest_part(low: Image.Image, size: tuple[int, int], spot: tuple[int, int], part: tuple[int, int]) -> Image.Image:
    """`part` (width, height) pixels at `spot` (left, top) of a picture enlarged to `size`, without the rest of it."""
    across, down = low.width / size[0], low.height / size[1]
    return low.transform(
        part, Image.Transform.AFFINE, (across, 0, spot[0] * across, 0, down, spot[1] * down), Image.Resampling.NEAREST
    )


def bicubic_part(low: Image.Image, size: tuple[int, int], spot: tuple[int, int], part: tuple[int, int]) -> Image.Image:
    """The same by bicubic interpolation, as `resize` does it."""
    windows = [
        cut_taps(resize_taps(old, new, new / old), start, start + count)
        for old, new, start, count in zip(low.size, size, spot, part, strict=True)
    ]
    (left, right, columns), (top, bottom, rows) = windows
    pixels = torch.from_numpy(numpy.array(low.crop((left, top, right, bottom)))).permute(2, 0, 1)[None]
    return to_image(apply_taps(apply_taps(from_bytes(pixels), -2, rows), -1, columns))


def richest_detail(image: Image.Image, side: int = DETAIL) -> tuple[int, int, int]:
    """(left, top, side) of the square in which brightness changes most from pixel to pixel."""
    side = min(side, *image.size) if min(image.size) > 8 else min(side, max(image.size))
    shrink = max(1, math.ceil(max(image.size) / 1024))
    grey = numpy.asarray(image.convert("L").reduce(shrink), dtype=numpy.float32)
    change = numpy.zeros_like(grey)
    change[:, 1:] += numpy.abs(numpy.diff(grey, axis=1))
    change[1:] += numpy.abs(numpy.diff(grey, axis=0))
    window = max(1, side // shrink)
    sums = numpy.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    tall, wide = min(window, grey.shape[0]), min(window, grey.shape[1])
    energy = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    top, left = numpy.unravel_index(energy.argmax(), energy.shape)
    left, top = (
        int(min(at * shrink, max(0, length - side))) for at, length in zip((left, top), image.size, strict=True)
    )
    return left, top, side


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ margin: 0; padding: 1em; background: #222; color: #eee; font: 16px sans-serif }}
main {{ position: relative; width: {width}px; max-width: 100%; --cut: 50% }}
img {{ display: block; width: 100%; image-rendering: {rendering} }}
#after {{ position: absolute; inset: 0; clip-path: inset(0 0 0 var(--cut)) }}
hr {{ position: absolute; inset: 0 auto 0 var(--cut); margin: 0 0 0 -1px; border: 0; width: 2px; background: #fff }}
input {{ position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize }}
p {{ display: flex; justify-content: space-between; width: {width}px; max-width: 100% }}
</style></head><body>
<p><span>◀ bicubic</span><span>{title}{note}</span><span>{label} ▶</span></p>
<main><img id="before" alt="bicubic" src="{before}"><img id="after" alt="{label}" src="{after}"><hr>
<input type="range" min="0" max="100" step="0.1" value="50" aria-label="how much is bicubic"></main>
<script>
const main = document.querySelector("main");
document.querySelector("input").oninput = event => main.style.setProperty("--cut", event.target.value + "%");
</script></body></html>
"""


def write_slider(low: Frame, high: Frame, label: str, path: Path) -> None:
    """A page that needs nothing but a browser: a slider wipes between bicubic interpolation and the model.

    Of a picture too large for that, the part around its richest detail.
    """
    low, high = on_white(to_8_bits(low)), to_8_bits(high)
    left, top, side = richest_detail(low)
    part = min(high.width, MAX_PAGE_SIDE), min(high.height, MAX_PAGE_SIDE)
    centre_of = (left + side / 2) * high.width / low.width, (top + side / 2) * high.height / low.height
    column, row = (
        int(min(max(0, middle - wanted / 2), whole - wanted))
        for middle, wanted, whole in zip(centre_of, part, high.size, strict=True)
    )
    spot = column, row
    after = on_white(high.crop((*spot, spot[0] + part[0], spot[1] + part[1])))
    before = bicubic_part(low, high.size, spot, part)
    width = part[0] if part[0] >= 600 else part[0] * math.ceil(600 / part[0])  # small pictures are hard to look at
    page = PAGE.format(
        title=html.escape(path.name.removesuffix(".compare.html")), label=html.escape(label), width=width,
        rendering="pixelated" if width > part[0] else "auto", before=_as_link(before), after=_as_link(after),
        note="" if part == high.size else f" ({part[0]}×{part[1]} of {high.width}×{high.height} pixels)",
    )  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _as_link(image: Image.Image) -> str:
    """The picture itself in the form of an address."""
    file = BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
