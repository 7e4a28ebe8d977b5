"""Builds lessons/notebooks/*.ipynb from the lessons: executed, with their pictures, for reading on the web.

    python tools/build_notebooks.py            # where code, modules or weights have changed; else the words
    python tools/build_notebooks.py 03 04      # these, whatever has changed

The scripts are the truth; a notebook is never edited. The picture of the cell with the tag "cover" also becomes
lessons/pictures/NN_name.png, the picture at the top of the lesson and in lessons/README.md.
Needs what requirements-dev.txt names.
"""

import base64
import copy
import io
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "lessons")]

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

from course import FAST, LESSONS

import jupytext
import nbclient
import nbformat
import notebook_sources
from PIL import Image

from imaging.writing import replacing

NOTEBOOKS = LESSONS / "notebooks"
LARGEST = 400_000  # bytes
# Quality of JPEG, and size: the first with which a notebook is small enough.
STEPS = ((92, 1.0), (85, 1.0), (75, 1.0), (60, 1.0), (60, 0.8), (60, 0.65), (50, 0.5))

# The first cell of every notebook. Jupyter starts in the notebook's own folder, Colab in an empty one.
FIRST_CELL = """\
# This cell makes the course's modules importable. In Colab, put the address of the course's repository here first:
REPOSITORY = ""

import subprocess
import sys
from pathlib import Path

if REPOSITORY and not Path("course").exists():
    subprocess.run(["git", "clone", "--depth", "1", REPOSITORY, "course"], check=True)
places = [Path.cwd(), *Path.cwd().parents, Path("course").resolve()]
root = next((place for place in places if (place / "lessons" / "course.py").exists()), None)
if root is None:
    raise SystemExit("The course's files are not here: open this notebook inside them, or fill in REPOSITORY above.")
sys.path.insert(0, str(root / "lessons"))"""


def scripts() -> list[Path]:
    """The lessons, in order."""
    return sorted(LESSONS.glob("[0-9][0-9]_*.py"))


def cover_of(script: Path) -> Path:
    """The picture at the top of a lesson."""
    return LESSONS / "pictures" / f"{script.stem}.png"


def notebook_of(script: Path, cover: bytes | None = None) -> nbformat.NotebookNode:
    """The notebook of a lesson as it is before it is run: links lead from its own folder, pictures are inside.

    `cover` is the lesson's picture from now on; without it, the file that there is.
    """
    notebook = jupytext.read(script)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "sources": notebook_sources.digest(script),
    }
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FIRST_CELL))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # else random, and every build would differ
        if cell.cell_type == "markdown":
            _mend_links(cell, {cover_of(script): cover} if cover else {})
    return notebook


def _mend_links(cell: nbformat.NotebookNode, renewed: dict[Path, bytes]) -> None:
    """Pictures become attachments, links to lessons lead to notebooks, links to other files one folder up."""
    for name in re.findall(r"!\[[^]]*\]\(pictures/([^)]+)\)", cell.source):
        picture = LESSONS / "pictures" / name
        if picture in renewed or picture.exists():
            kind = f"image/{picture.suffix[1:]}"
            content = renewed.get(picture) or picture.read_bytes()
            inside = {name: {kind: base64.b64encode(content).decode()}}
            cell.attachments = {**cell.get("attachments", {}), **inside}
            cell.source = cell.source.replace(f"](pictures/{name})", f"](attachment:{name})")
    cell.source = re.sub(r"\]\((\d\d_\w+)\.py\)", r"](\1.ipynb)", cell.source)
    cell.source = re.sub(r"\]\((?!https?:|attachment:|#|\d\d_\w+\.ipynb)", "](../", cell.source)


def run(script: Path) -> tuple[nbformat.NotebookNode, bytes]:
    """The notebook of a lesson, run from top to bottom, and its new cover, which is inside."""
    notebook = notebook_of(script)
    client = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(NOTEBOOKS)}})
    with tempfile.TemporaryDirectory() as nobody:  # whose answers and predictions nobody shall read in it
        client.execute(env={**os.environ, "SR_ANSWERS": nobody, "SR_CLASS": nobody})
    covers = [cell for cell in notebook.cells if "cover" in cell.metadata.get("tags", [])]
    drawn = next(output.data["image/png"] for output in covers[0].outputs if "image/png" in output.get("data", {}))
    cover = _smaller(drawn, "PNG")
    filled = with_outputs(script, notebook, cover)
    if filled is None:
        raise SystemExit(f"{script.name}: what it uses has changed while it ran: run it again")
    return with_small_pictures(filled), cover


def with_small_pictures(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same, each picture as PNG or JPEG, whichever is smaller, and as good as there is room."""
    for step in STEPS:
        small = copy.deepcopy(notebook)
        for output in (output for cell in small.cells for output in cell.get("outputs", [])):
            if picture := output.get("data", {}).pop("image/png", None):
                kind, file = min(((kind, _smaller(picture, kind, *step)) for kind in ("PNG", "JPEG")), key=_size)
                output.data[f"image/{kind.lower()}"] = base64.b64encode(file).decode()
        if len(nbformat.writes(small).encode()) <= LARGEST:
            break
    return small


def _size(pair: tuple[str, bytes]) -> int:
    return len(pair[1])


def with_outputs(
    script: Path, executed: nbformat.NotebookNode, cover: bytes | None = None
) -> nbformat.NotebookNode | None:
    """The notebook of a lesson with the outputs of an executed one; None if their code or what it uses differs."""
    notebook = notebook_of(script, cover)
    if executed.metadata.get("sources") != notebook.metadata["sources"]:
        return None
    old, new = ([cell for cell in one.cells if cell.cell_type == "code"] for one in (executed, notebook))
    if [cell.source for cell in old] != [cell.source for cell in new]:
        return None
    for before, after in zip(old, new, strict=True):
        after.outputs, after.execution_count = before.outputs, before.execution_count
    return notebook


def _smaller(picture: str, kind: str, quality: int = 92, size: float = 1.0) -> bytes:
    """A PNG in base64 in full colour, as a PNG without loss or as JPEG: the page must stay small."""
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    red, green, blue = (channel.tobytes() for channel in image.split())
    image = image.convert("L") if red == green == blue else image
    if size < 1:
        image = image.resize((round(size * image.width), round(size * image.height)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if kind == "PNG":
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return file.getvalue()


def main(wanted: list[str]) -> None:
    """Build the notebooks of the lessons whose numbers are given, or all that need it."""
    if FAST:
        raise SystemExit("SR_FAST is set: notebooks must show the real numbers")
    NOTEBOOKS.mkdir(exist_ok=True)
    for script in scripts():
        if wanted and script.name[:2] not in wanted:
            continue
        target = NOTEBOOKS / f"{script.stem}.ipynb"
        notebook = cover = None
        if target.exists() and not wanted:
            notebook = with_outputs(script, nbformat.read(target, as_version=4))
        if notebook is None:
            notebook, cover = run(script)
        printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
        if "NOT as promised" in printed:
            raise SystemExit(f"{script.name}: does not keep its promise:\n{printed}")
        text = nbformat.writes(notebook)
        if len(text.encode()) > LARGEST:
            raise SystemExit(f"{script.name}: its notebook has {len(text.encode())} bytes; {LARGEST} are allowed")
        if cover:
            with replacing(cover_of(script)) as temporary:
                temporary.write_bytes(cover)
        with replacing(target) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        print(f"{target.relative_to(ROOT)}: {len(text) // 1000} KB")


if __name__ == "__main__":
    sys.exit(console.run_command(main, sys.argv[1:]))
