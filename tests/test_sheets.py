"""What there is to look at, looked at by a program."""

import shutil
import subprocess

import numpy
import pytest
import torch
from corpus import planes
from PIL import Image

from imaging import sheets
from imaging.images import resize, to_image

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def screenshot(page, folder):
    """The page as a browser without a window shows it, (H, W, 3)."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --hide-scrollbars --force-device-scale-factor=1 "
        "--window-size=800,700"
    )
    command = [BROWSER, *flags.split(), f"--user-data-dir={folder / 'profile'}", f"--screenshot={folder / 'shot.png'}"]
    subprocess.run([*command, page.as_uri()], capture_output=True, timeout=200, check=True)
    return numpy.asarray(Image.open(folder / "shot.png").convert("RGB")).astype(int)


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_the_slider_moves_and_shows_both_pictures(tmp_path):
    low, high = Image.new("RGB", (50, 40), (200, 0, 0)), Image.new("RGB", (100, 80), (0, 0, 200))
    page = tmp_path / "x.html"
    sheets.write_slider(low, high, "model ×2", page)
    text = page.read_text(encoding="utf-8")
    shares = {}
    for cut in (None, 10, 80):
        if cut is not None:  # as a hand would do it
            moved = f'const i = document.querySelector("input"); i.value = {cut}; i.dispatchEvent(new Event("input"));'
            page.write_text(text.replace("</body>", f"<script>{moved}</script></body>"), encoding="utf-8")
        pixels = screenshot(page, tmp_path)
        red, blue = (numpy.abs(pixels - colour).max(axis=2) < 5 for colour in ((200, 0, 0), (0, 0, 200)))
        assert red.sum() + blue.sum() > 0.95 * 600 * 480
        assert red.any(axis=0).nonzero()[0].max() < blue.any(axis=0).nonzero()[0].min()  # before | after
        shares[cut] = red.sum() / (red.sum() + blue.sum())
    assert shares == pytest.approx({None: 0.5, 10: 0.1, 80: 0.8}, abs=0.02)


def test_a_part_enlarged_is_that_part_of_the_whole(photograph):
    low, whole = to_image(photograph), to_image(resize(photograph, 3).clamp(0, 1))
    part = sheets.bicubic_part(low, (450, 360), (100, 90), (60, 50))
    assert numpy.array_equal(numpy.asarray(part), numpy.asarray(whole)[90:140, 100:160])
    part = sheets.nearest_part(low, (450, 360), (100, 90), (60, 50))
    nearest = numpy.asarray(low).repeat(3, axis=0).repeat(3, axis=1)
    assert numpy.array_equal(numpy.asarray(part), nearest[90:140, 100:160])


def test_the_richest_detail_is_found():
    for shape, spot in (((3000, 2000), (2500, 300)), ((90, 400), (30, 350)), ((60, 60), (0, 0))):
        pixels = numpy.full((*shape, 3), 90, dtype=numpy.uint8)
        rows, columns = slice(spot[0], spot[0] + 48), slice(spot[1], spot[1] + 48)
        pixels[rows, columns] = planes(3, height=48, width=48)[: pixels[rows, columns].shape[0]]
        left, top, side = sheets.richest_detail(Image.fromarray(pixels))
        assert side == 48 and abs(left - spot[1]) < 12 and abs(top - spot[0]) < 12


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2500, 3), (700, 900)])
def test_a_comparison_of_any_size(tmp_path, size):
    low = Image.fromarray(planes(3, height=size[0], width=size[1]))
    high = to_image(torch.rand(1, 3, 2 * size[0], 2 * size[1]))
    sheets.draw_comparison(low, high, "model", tmp_path / "x.png")
    sheet = numpy.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert sheet.shape[1] > 3 * sheets.PANEL and (sheet[:, -sheets.PANEL :] < 255).any()
    sheets.write_slider(low, high, "model", tmp_path / "x.html")
    assert (tmp_path / "x.html").stat().st_size < 25e6
