"""Slides: every lesson of a meeting is there, with its picture, and no sign of Markdown is left."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import slides  # noqa: E402


def test_four_meetings_share_the_lessons_of_the_table():
    found = [lessons for _, lessons in slides.meetings()]
    assert found == [["01", "02"], ["03", "04"], ["05", "06", "07", "08"], ["09", "10", "11", "12"]]


def test_markdown_becomes_html():
    text = "A **bold** word, *slanted*, `a < b` and [a lesson](01_pixels.py).\n\n- one\n- two,\n  still two"
    assert slides.as_html(text) == (
        "<p>A <b>bold</b> word, <i>slanted</i>, <code>a &lt; b</code> and a lesson.</p>\n"
        "<ul><li>one\n</li><li>two,\n  still two</li></ul>"
    )


def test_a_formula_is_drawn_and_an_unknown_one_is_written():
    drawn = slides.as_html("Here $x_1 < 2$ stands.")
    assert 'alt="x_1 &lt; 2"' in drawn and "image/svg+xml" in drawn and "$" not in drawn
    assert "<code>\\nosuch{x}</code>" in slides.as_html(r"$\nosuch{x}$")
    cases = slides.as_html("$$k = \\begin{cases}x & x \\le 1\\\\ 0 & x > 1\\end{cases}$$")
    assert cases.count("<img") == 2 and "<code>" not in cases and cases.count('alt="k = ') == 2


def test_a_paragraph_ends_before_the_next_and_takes_its_bullets_along():
    text = "before\n\n**Goal.** One\ntwo.\n\n- bullet\n\nafter"
    assert slides.paragraph(text, "**Goal.**") == "**Goal.** One\ntwo.\n\n- bullet"
    assert slides.paragraph(text, "nothing") == ""


@pytest.mark.slow
def test_the_page_has_every_lesson_with_its_picture(tmp_path):
    (tmp_path / "01_pixels.2.png").write_bytes((ROOT / "lessons/pictures/05_upsampling.png").read_bytes())
    page = slides.page(tmp_path)
    sections = re.findall(r"<section>(.*?)</section>", page, re.DOTALL)
    for title in ("1. Pixels", "7. The best PSNR", "12. Real-ESRGAN"):
        assert sum(f"<h1>{title}" in section for section in sections) == 1, title
    assert page.count("data:image/png") == 12 + 1
    words = re.sub(r"<code>.*?</code>|<img[^>]*>", "", page[page.index("<section>") : page.index("<script>")])
    assert not re.search(r"\*\*|\$|\]\(|^- ", words, re.MULTILINE)
    assert not re.search(r"<code>[^<]*\\", page), "a formula is not drawn"
