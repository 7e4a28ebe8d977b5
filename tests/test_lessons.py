"""The lessons run, ask for what the checks want, and say what is true."""

import ast
import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"
sys.path[:0] = [str(LESSONS), str(ROOT / "tests"), str(ROOT / "tools")]

import checks  # noqa: E402
import grading  # noqa: E402

from planted_mistakes import PLANTED  # noqa: E402
from tried_answers import TRIED, attempt  # noqa: E402

SCRIPTS = sorted(LESSONS.glob("[0-9][0-9]_*.py"))
IDENTITIES = sorted(grading.exercises())
# What these lessons promise is computed, not trained: it must come out in a shortened run too.
COMPUTED = {"01", "02", "09", "11", "13", "14", "15"}
TRAINED = {"03", "04", "05", "08"}  # the numbers of these are decided by a training, which threads may change


def lesson_of(identity: str, folder: Path = LESSONS) -> Path:
    return next(folder.glob(f"{identity[:2]}_*.py"))


@pytest.fixture
def quiet(monkeypatch, tmp_path):
    """Figures that a check shows are saved in the test's own folder, and nobody's answers are looked at."""
    monkeypatch.setattr("course.FIGURES", tmp_path)
    monkeypatch.setattr("grading.ANSWERS", tmp_path / "answers")


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_lesson_runs(script, tmp_path):
    environment = os.environ | {"SR_FAST": "1", "SR_FIGURES": str(tmp_path / "figures"), "PYTHONIOENCODING": "utf-8"}
    environment["SR_ANSWERS"] = str(tmp_path / "answers")
    result = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    for identity in IDENTITIES:
        if identity[:2] == script.name[:2]:
            assert f"{identity}: not yet" in result.stdout
            assert f"{identity}, hint" not in result.stdout  # nobody asked
    assert "(promised " in result.stdout
    if script.name[:2] in COMPUTED:
        assert "as promised" in result.stdout and "cuts it short" not in result.stdout
    assert len(list((tmp_path / "figures").glob("*.png"))) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_lesson_keeps_its_promise(script, threads, tmp_path):
    """With what ships, and nothing that anybody has trained here or written."""
    if threads > 1 and script.name[:2] not in TRAINED:
        pytest.skip("computes its number, and trains nothing that decides it")
    environment = os.environ | {
        "SR_FIGURES": str(tmp_path), "SR_ANSWERS": str(tmp_path), "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": str(threads),
    }  # fmt: skip
    environment.pop("SR_FAST", None)
    only_what_ships = (
        f"import runpy, sys; sys.path[:0] = [{str(ROOT)!r}, {str(LESSONS)!r}]; from pathlib import Path; "
        "from engine import checkpoints; checkpoints.MODELS = Path('nothing trained'); "
        f"sys.argv = [{str(script)!r}]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", only_what_ships],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    promises = [line for line in result.stdout.splitlines() if "(promised " in line]
    assert promises and all(line.endswith(": as promised") for line in promises), promises


def test_there_are_exercises_for_every_lesson():
    for script in SCRIPTS:
        most = 10 if script.name == "14_bug_museum.py" else 4
        assert 2 <= sum(identity[:2] == script.name[:2] for identity in IDENTITIES) <= most, script
        for folder in ("exercises", "solutions"):
            assert (LESSONS / folder / script.name).exists()


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_stub_is_unsolved_and_says_what_it_wants(identity):
    name = grading.answer_name(identity)
    stub = grading.answers_in(lesson_of(identity))[0][name]
    assert grading.grade(identity, stub).status == "not yet"
    assert re.search(r"Difficulty [123] of 3, \d+ minutes\.", stub.__doc__), "difficulty and minutes"
    assert f'check("{identity}", {name})' in lesson_of(identity).read_text(encoding="utf-8")


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_solution_passes(identity):
    solution = grading.solution_of(identity)
    verdict = grading.grade(identity, solution)
    assert verdict.status == "correct", verdict.message


@pytest.mark.parametrize(("identity", "wrong", "said"), PLANTED, ids=[f"{one[0]}-{one[2]}" for one in PLANTED])
def test_a_planted_mistake_is_named(identity, wrong, said, quiet, capsys):
    verdict = grading.grade(identity, wrong)
    assert verdict.status == "wrong"
    assert said in verdict.message
    checks.check(identity, wrong)
    assert "not right yet" in capsys.readouterr().out


QUICK = ("01", "02", "10b", "13")  # of the others it takes a while


@pytest.mark.parametrize(
    "identity", [one if one.startswith(QUICK) else pytest.param(one, marks=pytest.mark.slow) for one in IDENTITIES]
)
def test_every_answer_that_was_tried_is_judged_rightly(identity):
    for old, new, said in TRIED[identity]:
        verdict = grading.grade(identity, attempt(identity, old, new))
        expected = "correct" if said is None else "wrong"
        assert verdict.status == expected and (said or "") in verdict.message, (new, verdict)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_ten_answers_were_tried_for_every_exercise(identity):
    planted = {(id(wrong), said) for one, wrong, said in PLANTED if one == identity}
    tried = set(TRIED[identity])
    assert len(planted) + len(tried) >= 10
    assert sum(said is None for _, _, said in tried) >= 2


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("nonsense", [lambda *_: None, lambda *_: "three", lambda: 1])
def test_no_answer_breaks_a_check(identity, nonsense):
    verdict = grading.grade(identity, nonsense)
    assert verdict.status == "wrong"
    assert verdict.message


# ---------------------------------------------------------------------------------------------
# Words
# ---------------------------------------------------------------------------------------------


def markdown_cells(script: Path) -> list[str]:
    cells = re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in cells if cell.startswith(" [markdown]")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(script):
    text = script.read_text(encoding="utf-8")
    for part in ("**Goal.**", "**You will see:**", "**Predict before you run.**", "## Recap"):
        assert part in text, part
    for part in (f"](pictures/{script.stem}.png)", 'tags=["cover"]'):
        assert part in text, part
    idea = next(cell for cell in markdown_cells(script) if "## The idea" in cell)
    assert len(idea.split()) <= 200  # 150 words, and the signs of the formula


def cells_of(script: Path) -> list[str]:
    return re.split(r"^# %%", script.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lesson_is_predicted_then_written_then_run(script):
    cells = cells_of(script)
    code = [cell if not cell.startswith(" [markdown]") else "" for cell in cells]
    asked = [
        (number, question) for number, cell in enumerate(code) for question in re.findall(r'predict\("(.+?)"', cell)
    ]
    assert asked
    for number, question in asked:
        assert "**Predict before you run.**" in cells[number - 1] + cells[number - 2], question
        told = [at for at, cell in enumerate(code) if f'outcome("{question}"' in cell]
        assert told and min(told) > number, question
    for identity in (one for one in IDENTITIES if one[:2] == script.name[:2] != "14"):
        name = grading.answer_name(identity)
        written = next(number for number, cell in enumerate(code) if f'{name} = check("{identity}"' in cell)
        used = [number for number, cell in enumerate(code) if re.search(rf"(?<![.\w]){name}\(", cell)]
        assert min(used) == written, f"{name} is used before it is written"
        assert max(used) > written, f"the lesson does not run on {name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lessons_promise_is_the_one_in_its_text_and_not_given_away_in_the_readme(script):
    calls = [node for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    promises = [call for call in calls if getattr(call.func, "id", "") == "promise"]
    rows = [line for line in (LESSONS / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    row = next(row for row in rows if script.name in row)
    for call in promises:
        expected, tolerance = (ast.literal_eval(argument) for argument in call.args[2:4])
        stated = f"{expected} ± {tolerance}".replace("-", "−")
        assert stated in " ".join(" ".join(markdown_cells(script)).split()), f"{stated} in the lesson's words"
        assert f"{expected} ±" not in row, "lessons/README.md gives a prediction away"
    assert promises


PAGES = [
    *sorted(LESSONS.glob("*.md")),
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "models/pretrained/README.md")),
]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES, *SCRIPTS], ids=lambda path: path.stem)
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8") if page.suffix == ".md" else "\n".join(markdown_cells(page))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|#", link):
            assert (page.parent / link.split("#")[0]).exists(), link


@pytest.mark.parametrize("page", [*PAGES, *SCRIPTS], ids=lambda path: path.stem)
def test_every_file_that_is_named_exists(page):
    for name in re.findall(r"`(?!handed_in|\w*/?NN_)((?:[\w/]+/)?\w+\.(?:py|md|ipynb|txt))`", page.read_text("utf-8")):
        assert (ROOT / name).exists() or (LESSONS / name).exists(), name


def test_every_name_in_the_differences_is_in_its_file():
    text = (LESSONS / "DIFFERENCES.md").read_text("utf-8")
    names = re.findall(r"\[`(\w+)\.(\w+)`\]\(\.\./((?:\w+/)?\w+\.py)\)", text)
    assert len(names) > 30
    for module, name, file in names:
        assert module == Path(file).stem
        assert re.search(rf"^ *(?:def |class |){name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE), name


def test_every_word_of_the_glossary_is_in_bold_in_its_lesson():
    text = (LESSONS / "GLOSSARY.md").read_text("utf-8")
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| .+ \| \[(\d+)\]\((.+)\) \|$", text, re.MULTILINE)
    assert len(rows) > 40
    assert [term.lower() for term, _, _ in rows] == sorted(term.lower() for term, _, _ in rows)
    for term, number, script in rows:
        assert int(number) == int(script[:2])
        words = " ".join(" ".join(markdown_cells(LESSONS / script)).split())
        assert re.search(rf"\*\*{re.escape(term)}", words, re.IGNORECASE), f"{term}: not in bold in {script}"


def test_every_paper_of_the_glossary_has_an_address_that_fits_its_number():
    papers = (LESSONS / "GLOSSARY.md").read_text("utf-8").split("## Papers")[1]
    links = re.findall(r"\[(.+?)\]\((.+?)\)", papers)
    assert len(links) > 30 and len(set(links)) == len(links)
    for name, address in links:
        kind, _, number = name.partition(":")
        assert address in (f"https://arxiv.org/abs/{number}", f"https://doi.org/{number}", f"https://{name}"), name
        assert kind != "arXiv" or re.fullmatch(r"\d{4}\.\d{5}|\d{4}\.\d{4}", number)


# ---------------------------------------------------------------------------------------------
# Notebooks
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_is_the_script(script):
    nbformat = pytest.importorskip("nbformat")
    from build_notebooks import LARGEST, notebook_of

    path = LESSONS / "notebooks" / f"{script.stem}.ipynb"
    notebook, wanted = nbformat.read(path, as_version=4), notebook_of(script)
    nbformat.validate(notebook)
    again = "run: python tools/build_notebooks.py " + script.name[:2]
    assert notebook.metadata.get("sources") == wanted.metadata["sources"], f"a module or weights changed; {again}"
    assert [cell.cell_type for cell in notebook.cells] == [cell.cell_type for cell in wanted.cells], again
    for found, expected in zip(notebook.cells, wanted.cells, strict=True):
        assert found.source == expected.source, again
        assert found.get("attachments") == expected.get("attachments"), again
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), again
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    assert any("image/" in kind for cell in code for output in cell.outputs for kind in output.get("data", {}))
    assert path.stat().st_size <= LARGEST


LESSON = """\
# %% [markdown]
# ![](pictures/01_a.png)

# %% tags=["cover"]
print("drawn")
"""


@pytest.mark.parametrize(
    ("printed", "refusal"),
    [("as promised", None), ("NOT as promised", "does not keep its promise"), (400_000 * "x", "are allowed")],
    ids=["kept", "broken", "too large"],
)
def test_a_cover_is_replaced_with_its_notebook_or_not_at_all(printed, refusal, tmp_path, monkeypatch):
    pytest.importorskip("jupytext")
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    import build_notebooks

    def execute(client, **_):
        """What a kernel would make of the lesson's last cell: words, and a picture, all black."""
        picture = base64.b64encode(picture_of("black")).decode()
        shown = nbformat.v4.new_output("display_data", {"image/png": picture})
        client.nb.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed), shown]

    monkeypatch.setattr(nbclient.NotebookClient, "execute", execute)
    for name, value in ("ROOT", tmp_path), ("LESSONS", tmp_path), ("NOTEBOOKS", tmp_path / "books"), ("FAST", False):
        monkeypatch.setattr(build_notebooks, name, value)
    cover, notebook = tmp_path / "pictures" / "01_a.png", tmp_path / "books" / "01_a.ipynb"
    (tmp_path / "01_a.py").write_text(LESSON, "utf-8")
    cover.parent.mkdir()
    cover.write_bytes(before := picture_of("white"))
    if refusal:
        with pytest.raises(SystemExit, match=refusal):
            build_notebooks.main([])
        assert cover.read_bytes() == before and not notebook.exists()
        return
    build_notebooks.main([])
    assert Image.open(cover).convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    attached = nbformat.read(notebook, as_version=4).cells[1].attachments["01_a.png"]["image/png"]
    assert base64.b64decode(attached) == cover.read_bytes()
    cover.write_bytes(before)  # only words are renewed, the picture that lies there is taken
    build_notebooks.main([])
    assert cover.read_bytes() == before


def picture_of(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(file, "PNG")
    return file.getvalue()


def test_a_notebook_is_stale_when_what_it_uses_changes(tmp_path, monkeypatch):
    import notebook_sources

    rooms, shipped = (tmp_path, tmp_path / "lessons"), tmp_path / "weights"
    monkeypatch.setattr(notebook_sources, "ROOMS", rooms)
    monkeypatch.setattr(notebook_sources, "SHIPPED", shipped)
    shipped.mkdir()
    module, lesson = tmp_path / "net.py", tmp_path / "01_a.py"
    lesson.write_text("import net\nfrom net import SIDE as side\nnet.first(trained(model='rrdb'), \"rrdb\")\n", "utf-8")

    def now(code="SIDE = 2\ndef first(x):\n    return x\n", weights=b"one", other=b"two"):
        module.write_text(code, "utf-8")
        (shipped / "rrdb_x4.pt").write_bytes(weights)
        (shipped / "srcnn_x2.pt").write_bytes(other)
        return notebook_sources.digest(lesson)

    before = now()
    assert now('SIDE = 2\ndef first(x):\n    """Words."""\n    return x  # more\ndef second(): pass\n') == before
    assert now(other=b"others") == before
    for change in (
        {"code": "SIDE = 3\ndef first(x):\n    return x\n"},
        {"code": "SIDE = 2\ndef first(x):\n    return -x\n"},
        {"weights": b"others"},
    ):
        assert now(**change) != before, change


def test_the_lessons_name_the_weights_that_they_use():
    import notebook_sources

    used = {script.name[:2]: {path.stem for path in notebook_sources.used_weights(script)} for script in SCRIPTS}
    assert not used["01"] and not used["14"]
    assert {"rrdb_x4", "esrgan_x4", "small_vgg19"} <= used["10"]
    assert "rrdb_x4" in used["11"] and {"rrdb-real_x4", "esrgan-real_x4"} <= used["12"]
    assert "ecbsr_x2" in used["15"] and "small_vgg19" in used["09"]


def test_every_notebook_has_its_script():
    names = {path.stem for path in SCRIPTS}
    assert {path.stem for path in (LESSONS / "notebooks").glob("*.ipynb")} == names
