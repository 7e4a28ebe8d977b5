"""Slides for the four meetings: `python tools/slides.py` writes lessons/figures/slides.html.

One page for any browser, with everything in it: arrow keys turn the slides, and printing gives one slide a sheet. They
are made from the lessons: goal, idea with its formulas, questions, pictures and recap. The table of meetings is that of
lessons/README.md. Figures that a lesson has drawn (run it first) follow its cover.
"""

import argparse
import base64
import html
import io
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

from matplotlib import mathtext
from matplotlib.font_manager import FontProperties

from imaging.console import note, run_command
from imaging.writing import replacing

LESSONS = ROOT / "lessons"
STYLE = """
body { margin: 0; background: #222; font: 26px/1.45 system-ui, sans-serif; color: #222 }
section { display: none; box-sizing: border-box; width: 100vw; height: 100vh; padding: 5vh 7vw; background: white;
  overflow: auto }
section.on { display: block }
h1 { font-size: 44px; margin: 0 0 3vh } h2 { font-size: 32px; margin: 0 0 2vh }
section > img { display: block; width: 86vw; height: 72vh; object-fit: contain; image-rendering: pixelated }
code { background: #eee; padding: 0 .2em }
footer { position: absolute; right: 2vw; bottom: 1vh; font-size: 16px; color: #888 }
@media print { section { display: block; page-break-after: always; height: auto; min-height: 95vh }
  footer { display: none } }
"""
SCRIPT = """
const slides = [...document.querySelectorAll("section")];
let at = Math.min(Number(location.hash.slice(1)) || 0, slides.length - 1);
function turn(to) {
  at = Math.max(0, Math.min(slides.length - 1, to));
  slides.forEach((slide, number) => slide.classList.toggle("on", number === at));
  history.replaceState(null, "", "#" + at);
}
addEventListener("keydown", (event) => {
  if (["ArrowRight", "PageDown", " "].includes(event.key)) turn(at + 1);
  if (["ArrowLeft", "PageUp"].includes(event.key)) turn(at - 1);
});
addEventListener("click", (event) => turn(event.clientX < innerWidth / 3 ? at - 1 : at + 1));
turn(at);
"""


def cells(script: Path) -> list[str]:
    """The words of a lesson, cell by cell, in Markdown."""
    parts = re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"^# ?", "", part, flags=re.MULTILINE).strip() for part in parts if part.startswith(" [markdown]")]


def meetings() -> list[tuple[str, list[str]]]:
    """(what is done together, numbers of the lessons) of each meeting, from the table of lessons/README.md."""
    rows = re.findall(r"^\| (\d) \| (.*) \| (.*) \| (.*) \|$", (LESSONS / "README.md").read_text("utf-8"), re.MULTILINE)
    found = []
    for _, at_home, together, _ in rows:
        numbers = re.findall(r"\b(\d+)\b", at_home) + re.findall(r"[Ll]esson (\d+)", together)
        found.append((together, [f"{int(number):02}" for number in sorted(set(numbers), key=int)]))
    return found


def paragraph(text: str, start: str) -> str:
    """The paragraph that begins with these words, with its bullets if it has any; nothing if there is none."""
    found = re.search(rf"^{re.escape(start)}.*?(?=\n\n(?!- )|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[0] if found else ""


def formula(tex: str) -> str:
    """A formula as a drawing, each case in a line; as it is written where matplotlib does not know a sign."""
    if cases := re.search(r"\\begin\{cases\}(.+?)\\end\{cases\}", tex, re.DOTALL):
        rows = [row.replace("&", r",\quad ") for row in cases[1].split(r"\\")]
        return "<br>".join(formula(tex[: cases.start()] + row) for row in rows)
    drawing = io.BytesIO()
    known = tex.replace(r"\text{", r"\mathrm{").replace(r"\tfrac", r"\frac").replace("\n", " ").strip()
    known = re.sub(r"\\([lg])e(?![a-z])", r"\\\1eq", known)  # matplotlib's name for them
    try:
        depth = mathtext.math_to_image(f"${known}$", drawing, FontProperties(size=19), 72, "svg")
    except ValueError:
        return f"<code>{html.escape(tex)}</code>"
    drawn = base64.b64encode(drawing.getvalue()).decode()
    style = f"vertical-align: {-depth:.0f}px"
    return f'<img alt="{html.escape(tex)}" style="{style}" src="data:image/svg+xml;base64,{drawn}">'


def as_html(text: str) -> str:
    """The little Markdown that the lessons use: bold, italic, code, links, bullets, and formulas."""
    formulas: list[str] = []

    def put_aside(found: re.Match) -> str:
        formulas.append(formula(found[1]))
        return f"\0{len(formulas) - 1}\0"

    text = re.sub(r"\$\$(.+?)\$\$", put_aside, text, flags=re.DOTALL)
    text = re.sub(r"\$([^$]+)\$", put_aside, text)
    text = html.escape(text, quote=False)
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text, flags=re.DOTALL)
    text = re.sub(r"(?<![*\w])\*([^*\n]+)\*", r"<i>\1</i>", text)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.startswith("- "):
            points = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
            blocks.append("<ul>" + "".join(f"<li>{point}</li>" for point in points) + "</ul>")
        elif block:
            blocks.append(f"<p>{block}</p>")
    return re.sub("\0(\\d+)\0", lambda found: formulas[int(found[1])], "\n".join(blocks))


def picture(path: Path) -> str:
    """A picture inside the page."""
    kind = "jpeg" if path.suffix == ".jpg" else path.suffix[1:]
    return f'<img alt="" src="data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}">'


def slides_of(script: Path, figures: Path) -> list[str]:
    """The slides of one lesson."""
    words = cells(script)
    title = words[0].splitlines()[1 if words[0].startswith("[markdown]") else 0].lstrip("# ")
    whole = "\n\n".join(words)
    goal = as_html(paragraph(whole, "**Goal.**") + "\n\n" + paragraph(whole, "**You will see:**"))
    slides = [f"<h1>{html.escape(title)}</h1>{goal}"]
    idea = next((cell for cell in words if "## The idea" in cell), "")
    slides.append(f"<h2>The idea</h2>{as_html(idea.split('## The idea')[1])}" if idea else "")
    questions = re.findall(r"^\*\*Predict before you run\.\*\*.*?(?=\n\n|\Z)", whole, re.MULTILINE | re.DOTALL)
    if questions:
        slides.append("<h2>Write down first</h2>" + as_html("\n\n".join(questions)))
    cover = LESSONS / "pictures" / f"{script.stem}.png"
    drawn = sorted(figures.glob(f"{script.stem}.*.png"), key=lambda path: int(path.stem.split(".")[-1]))
    slides += [f"<h2>{html.escape(title)}</h2>{picture(path)}" for path in [cover, *drawn] if path.exists()]
    recap = next((cell for cell in words if "## Recap" in cell), "")
    slides.append("<h2>Recap</h2>" + as_html(paragraph(recap, "- ")) if recap else "")
    return [slide for slide in slides if slide]


def page(figures: Path) -> str:
    """All slides as one page."""
    slides = []
    for number, (together, lessons) in enumerate(meetings(), start=1):
        slides.append(f"<h1>Meeting {number}</h1>{as_html(together)}")
        for lesson in lessons:
            slides += slides_of(next(LESSONS.glob(f"{lesson}_*.py")), figures)
    body = "\n".join(
        f"<section>{slide}<footer>{number} of {len(slides)}</footer></section>"
        for number, slide in enumerate(slides, 1)
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Super-resolution, four meetings</title>'
        f"<style>{STYLE}</style>\n{body}\n<script>{SCRIPT}</script></html>\n"
    )


def main(options: argparse.Namespace) -> None:
    """Write the page."""
    text = page(LESSONS / "figures")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(options.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    note(f"{options.output}: {text.count('<section>')} slides, {len(text) / 1e6:.1f} MB")


def read_arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=LESSONS / "figures" / "slides.html")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run_command(main, read_arguments()))
