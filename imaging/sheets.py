"""What there is to look at: the curves of a training, pictures before and after, a page with a slider."""

import base64
import html
import math
from io import BytesIO
from pathlib import Path

import numpy
import torch
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from imaging.console import replacing
from imaging.frames import Frame, to_8_bits
from imaging.images import apply_taps, cut_taps, from_bytes, resize_taps, to_image

# ---------------------------------------------------------------------------------------------
# What a training leaves
# ---------------------------------------------------------------------------------------------


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
    columns = []
    ways = (
        ("nearest neighbour", Image.Resampling.NEAREST, nearest_part),
        ("bicubic", Image.Resampling.BICUBIC, bicubic_part),
    )
    for name, method, part_of in ways:
        # Where it must be shown smaller than it is, every way of enlarging would look the same.
        small = whole.width < low.width
        picture = low.resize(whole.size, reducing_gap=2) if small else low.resize(whole.size, method)
        columns.append((name, picture, part_of(low, high.size, spot, size)))
    columns.append((label, whole, on_white(high.crop((*spot, spot[0] + size[0], spot[1] + size[1])))))
    columns = [
        (name, picture, detail.resize((zoom * size[0], zoom * size[1]), Image.Resampling.NEAREST))
        for name, picture, detail in columns
    ]
    sheet = _sheet_of(columns, zoom)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _fitting(size: tuple[int, int]) -> tuple[int, int]:
    """A size of the same proportions that fits into a panel."""
    width, height = (max(1, round(side * PANEL / max(size))) for side in size)
    return width, height


def _sheet_of(columns: list[tuple[str, Image.Image, Image.Image]], zoom: int) -> Image.Image:
    """Columns of (name, whole picture, detail) on white, with a caption above every picture."""
    # matplotlib's font, for Pillow's own has no ×.
    font, line, gap = ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 16), 30, 12
    width = max(PANEL, *(max(whole.width, detail.width) for _, whole, detail in columns)) + gap
    heights = max(whole.height for _, whole, _ in columns), max(detail.height for _, _, detail in columns)
    sheet = Image.new("RGB", (len(columns) * width + gap, sum(heights) + 2 * line + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (name, whole, detail) in enumerate(columns):
        x, y = gap + number * width, 0
        for caption, picture, height in ((name, whole, heights[0]), (f"detail, pixels ×{zoom}", detail, heights[1])):
            draw.text((x, y + 4), caption, fill="black", font=font)
            sheet.paste(picture, (x, y + line))
            y += line + height + gap
    return sheet


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


def draw_sheet(rows: list[list[tuple[str, Tensor]]], path: Path) -> None:
    """A table of pictures (1, 3, H, W) with a caption above each, as a PNG; pixels are shown as they are."""
    from matplotlib.figure import Figure  # not pyplot: no window and no global state; slow to import, so only here

    columns = max(map(len, rows))
    figure = Figure(figsize=(3 * columns, 3.2 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, pictures in zip(axes, rows, strict=True):
        for axis, (caption, picture) in zip(row, pictures, strict=False):
            axis.imshow(to_image(picture), interpolation="nearest", cmap="grey", vmin=0, vmax=255)
            axis.set_title(caption, fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, bbox_inches="tight", pad_inches=0.1)
