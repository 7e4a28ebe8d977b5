"""What stands around the exercises: answers in files, hints, predictions, and the teacher's sheet."""

import io
import json
import re
import shutil
import subprocess
import sys
import time
import unicodedata
import warnings
from pathlib import Path

import numpy
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"
sys.path[:0] = [str(LESSONS)]

import checks  # noqa: E402
import grading  # noqa: E402
import predictions  # noqa: E402
import sheet  # noqa: E402

LUMA = (LESSONS / "solutions" / "01_pixels.py").read_text(encoding="utf-8")


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """lessons/answers/, empty."""
    folder = tmp_path / "answers"
    folder.mkdir()
    monkeypatch.setattr("grading.ANSWERS", folder)
    monkeypatch.setattr("predictions.ANSWERS", folder)
    monkeypatch.delenv("SR_CLASS", raising=False)
    monkeypatch.setattr("course.FIGURES", tmp_path)
    return folder


def notebook(*cells: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]})


def stub(rgb):
    raise NotImplementedError


# ---------------------------------------------------------------------------------------------
# Answers in files
# ---------------------------------------------------------------------------------------------


def test_a_lesson_goes_on_with_what_is_right(answers, capsys):
    assert checks.check("01a", stub) is grading.solution_of("01a")
    assert "01a: not yet; the lesson goes on with the solution" in capsys.readouterr().out
    right = grading.answers_in(LESSONS / "solutions" / "01_pixels.py")[0]["luma_of"]
    assert checks.check("01a", right) is right
    assert capsys.readouterr().out == "01a: correct\n"


def test_an_answer_in_lessons_answers_comes_first(answers, capsys):
    (answers / "01_pixels.py").write_text(LUMA, encoding="utf-8")
    found = checks.check("01a", stub)
    assert found.__code__.co_filename == str(answers / "01_pixels.py")
    assert "01a: correct, in lessons/answers/" in capsys.readouterr().out
    (answers / "01_pixels.py").write_text("def luma_of(rgb):\n    raise NotImplementedError\n", encoding="utf-8")
    assert checks.check("01a", stub) is grading.solution_of("01a")


def test_an_answers_file_may_use_what_its_lesson_has(answers):
    (answers / "11_real_pictures.py").write_text(
        "def quantised(block, steps):\n    d = dct_matrix()\n"
        "    return d.T @ ((d @ (block - 128) @ d.T / steps).round() * steps) @ d + 128\n",
        encoding="utf-8",
    )
    names, problems = grading.answers_in(answers / "11_real_pictures.py")
    assert not problems
    assert grading.grade("11c", names["quantised"]).status == "correct"


UNREADABLE = "def luma_of(rgb):\n    return rgb.sum(\n"


@pytest.mark.parametrize("luma", ["", "def luma_of(rgb):\n    raise NotImplementedError\n", UNREADABLE])
def test_nobody_is_given_what_the_teacher_wrote_into_the_lesson(answers, tmp_path, monkeypatch, luma):
    assert grading.solution_of("01a")  # is kept, with the exercises: the folder below has the lesson alone
    lesson = tmp_path / "01_pixels.py"
    lesson.write_text((LESSONS / "01_pixels.py").read_text(encoding="utf-8") + LUMA, encoding="utf-8")
    monkeypatch.setattr(grading, "LESSONS", tmp_path)
    assert grading.grade("01a", grading.answers_in(lesson)[0]["luma_of"]).status == "correct"
    (answers / "01_pixels.py").write_text("def psnr_of_each(restored, high):\n    return 3\n\n\n" + luma, "utf-8")
    verdict = grading.grade_in("01a", *grading.answers_in(answers / "01_pixels.py"))
    assert verdict.status == ("wrong" if luma is UNREADABLE else "not yet")
    assert ("SyntaxError" in verdict.message) == (luma is UNREADABLE)
    assert grading.kept_answer("01a") is None


@pytest.mark.parametrize("centres", ["", "def centres(new_length, scale):\n    raise NotImplementedError\n\n\n"])
def test_an_answer_may_call_one_that_is_not_written_yet(answers, centres):
    """As in the lesson, which goes on with the solution."""
    script = (LESSONS / "solutions" / "02_bicubic.py").read_text(encoding="utf-8")
    last = script[script.index("def resize_matrix") :]
    (answers / "02_bicubic.py").write_text("import torch\n\n\n" + centres + last, encoding="utf-8")
    names, problems = grading.answers_in(answers / "02_bicubic.py")
    marks = [grading.grade_in(one, names, problems).status for one in ("02a", "02b", "02c")]
    assert marks == ["not yet", "not yet", "correct"]
    assert grading.kept_answer("02c") and not grading.kept_answer("02b")


def test_one_mistake_does_not_take_the_other_answers_along(tmp_path):
    script = LUMA.replace("def psnr_of_each", "# %%\ndef psnr_of_each(:\n\n# %%\nimport no_such_package\n\n\ndef other")
    (tmp_path / "01_pixels.py").write_text(script, encoding="utf-8-sig")
    names, problems = grading.answers_in(tmp_path / "01_pixels.py")
    marks = {one: grading.grade_in(one, names, problems) for one in ("01a", "01b", "01c")}
    assert [verdict.status for verdict in marks.values()] == ["correct", "wrong", "correct"]
    assert "SyntaxError" in marks["01b"].message
    assert any("no_such_package" in problem for problem in problems)


def test_a_stub_never_hides_an_answer_and_a_lambda_is_one(tmp_path):
    cells = [
        "%matplotlib inline\n" + LUMA,
        "def luma_of(rgb):\n    raise NotImplementedError",
        "psnr_of_each = lambda *_: 1",
    ]
    (tmp_path / "01_pixels.ipynb").write_text(notebook(*cells), encoding="utf-8")
    names, problems = grading.answers_in(tmp_path / "01_pixels.ipynb")
    assert not problems
    assert grading.grade("01a", names["luma_of"]).status == "correct"
    assert grading.grade("01b", names["psnr_of_each"]).status == "wrong"


@pytest.mark.parametrize("name", ["01_pixels.py", "01_pixels.ipynb"])
def test_a_mistake_takes_only_its_own_function_along(tmp_path, name):
    script = LUMA.replace("def psnr_of_each(restored, high):", "def psnr_of_each(restored, high)")
    (tmp_path / name).write_text(script if name.endswith("py") else notebook(script), encoding="utf-8")
    names, problems = grading.answers_in(tmp_path / name)
    marks = {one: grading.grade_in(one, names, problems) for one in ("01a", "01b", "01c")}
    assert [verdict.status for verdict in marks.values()] == ["correct", "wrong", "correct"]
    line = script[: script.index("def psnr_of_each")].count("\n") + 1
    assert "SyntaxError: expected ':' (" in marks["01b"].message and f"line {line})" in marks["01b"].message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1", "utf-16", "latin-1 with a cookie"])
def test_a_file_in_another_encoding(tmp_path, encoding):
    cookie = "# coding: latin-1\n" if "cookie" in encoding else ""
    script = (cookie + "# Lösung von José\n" + LUMA.encode("ascii", "replace").decode()).replace("\n", "\r\n")
    (tmp_path / "01_pixels.py").write_bytes(script.encode(encoding.split()[0]))
    names, problems = grading.answers_in(tmp_path / "01_pixels.py")
    assert not problems
    assert grading.grade("01a", names["luma_of"]).status == "correct"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": [{}]}', '{"cells": [{"cell_type": "code"}]}'])
def test_a_notebook_that_is_none(tmp_path, content):
    (tmp_path / "01_pixels.ipynb").write_text(content, encoding="utf-8")
    names, problems = grading.answers_in(tmp_path / "01_pixels.ipynb")
    assert "cannot be read" in grading.grade_in("01a", names, problems).message


@pytest.mark.parametrize(
    "constants",
    [
        "WEIGHTS = torch.tensor([65.481, 128.553, 24.966])",
        "WEIGHTS: torch.Tensor = torch.tensor([65.481, 128.553, 24.966])",
        "RED, (GREEN, *REST) = 65.481, (128.553, 24.966)\nWEIGHTS = torch.tensor([RED, GREEN, *REST])",
        "WEIGHTS = torch.zeros(3)\nWEIGHTS[0], WEIGHTS[1:] = 65.481, torch.tensor([128.553, 24.966])",
        "WEIGHTS = torch.tensor([0.065481, 0.128553, 0.024966])\nWEIGHTS *= 1000",
        "WEIGHTS = torch.zeros(3)\nfor AT, WEIGHT in enumerate([65.481, 128.553, 24.966]):\n    WEIGHTS[AT] = WEIGHT",
        "if torch.is_grad_enabled():\n    WEIGHTS = torch.tensor([65.481, 128.553, 24.966])\nelse:\n    WEIGHTS = 1",
        "with torch.no_grad():\n    WEIGHTS = torch.tensor([65.481, 128.553, 24.966])",
    ],
)
def test_constants_in_capitals_are_run(tmp_path, constants):
    luma = "def luma_of(rgb):\n    return (16 + torch.einsum('nchw,c->nhw', rgb, WEIGHTS)[:, None]) / 255\n"
    (tmp_path / "01_pixels.py").write_text(f"import torch\n\n{constants}\n\n\n{luma}", encoding="utf-8")
    verdict = grading.grade_in("01a", *grading.answers_in(tmp_path / "01_pixels.py"))
    assert verdict.status == "correct", verdict.message


@pytest.mark.parametrize("line", ["size = 1 / 0", "size: int = 1 / 0", "SIZE, side = 1 / 0", "SIZE: no", "F.pad = 1"])
def test_nothing_else_of_the_lesson_is_run(tmp_path, line):
    (tmp_path / "01_pixels.py").write_text(line + "\n", encoding="utf-8")
    assert grading.answers_in(tmp_path / "01_pixels.py")[1] == []


REMAINDER = """def centres(new_length, scale):
    import torch
    return (
        (torch.arange(new_length) + 0.5) / scale - 0.5 + torch.arange(new_length)
        % 1
    )
"""


@pytest.mark.parametrize(
    "before",
    [
        "",
        "%matplotlib inline\n",
        "%%time\n",
        "\n%%capture out\n",
        "%pip install -q \\\n    einops\n",
        "!pip install 'torch\n",
    ],
)
def test_a_line_may_begin_with_the_remainder(tmp_path, before):
    (tmp_path / "02_bicubic.ipynb").write_text(notebook(before + REMAINDER), encoding="utf-8")
    names, problems = grading.answers_in(tmp_path / "02_bicubic.ipynb")
    assert not problems
    assert grading.grade("02b", names["centres"]).status == "correct"


@pytest.mark.parametrize(
    "magic",
    [
        "luma_of?",
        "torch.nn??",
        "?luma_of",
        "files = !ls",
        "first, last = !ls | head -2",
        "took = %timeit -o luma_of(torch.ones(1, 3, 2, 2))",
        "for i in range(3):\n    %timeit luma_of(torch.ones(1, 3, 2, 2))",
        "if True:\n    !ls",
    ],
)
def test_what_is_for_jupyter_alone_costs_no_answer(tmp_path, magic):
    (tmp_path / "01_pixels.ipynb").write_text(notebook(LUMA + magic + "\n"), encoding="utf-8")
    names, problems = grading.answers_in(tmp_path / "01_pixels.ipynb")
    assert not problems
    assert grading.grade("01c", names["ssim_of_window"]).status == "correct"


def test_a_cell_in_another_language_is_no_mistake(tmp_path):
    cells = ["%%bash\nif [ -e x ]; then ls; fi\n", "%%capture\ndef luma_of(rgb)\n    return rgb\n"]
    (tmp_path / "01_pixels.ipynb").write_text(notebook(*cells[:1]), encoding="utf-8")
    assert grading.grade_in("01a", *grading.answers_in(tmp_path / "01_pixels.ipynb")).status == "not yet"
    (tmp_path / "01_pixels.ipynb").write_text(notebook(*cells), encoding="utf-8")
    assert "expected ':'" in grading.grade_in("01a", *grading.answers_in(tmp_path / "01_pixels.ipynb")).message


def test_a_mistake_below_a_magic_is_told_with_its_line(tmp_path):
    cell = "%%time\n!pip install \\\n  einops\nimport torch\n\ndef luma_of(rgb):\n    return rgb.sum(\n"
    (tmp_path / "01_pixels.ipynb").write_text(notebook(cell), encoding="utf-8")
    verdict = grading.grade_in("01a", *grading.answers_in(tmp_path / "01_pixels.ipynb"))
    assert verdict.status == "wrong" and "line 7)" in verdict.message


def test_a_message_shows_the_line_of_a_notebook(tmp_path):
    (tmp_path / "01_pixels.ipynb").write_text(notebook("def luma_of(rgb):\n    return rgb.nonsense"), encoding="utf-8")
    names, _ = grading.answers_in(tmp_path / "01_pixels.ipynb")
    assert 'at "return rgb.nonsense"' in grading.grade("01a", names["luma_of"]).message


@pytest.mark.parametrize(
    "setting",
    [
        "torch.set_grad_enabled(False)",
        "torch.set_default_dtype(torch.float64)",
        "torch.set_default_device('meta')",
        "torch.set_num_threads(torch.get_num_threads() + 1)",
        "torch.use_deterministic_algorithms(True)",
        "torch.autograd.set_detect_anomaly(True)",
        "torch.set_float32_matmul_precision('medium')",
        "numpy.seterr(all='raise')",
        "warnings.simplefilter('error')",
        "__import__('os').chdir('..')",
    ],
)
def test_what_an_answer_sets_is_not_what_others_are_graded_with(setting):
    def settings():
        return (
            torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled(), numpy.geterr(),
            torch.get_float32_matmul_precision(), warnings.filters[:], Path.cwd(),
        )  # fmt: skip

    before = settings()
    changed = []

    def luma_of(rgb):
        luma = grading.solution_of("01a")(rgb)
        exec(setting)
        changed.append(settings() != before)
        return luma

    grading.grade("01a", luma_of)
    assert all(changed) and changed
    assert settings() == before
    assert grading.grade("08a", grading.solution_of("08a")).status == "correct"


# ---------------------------------------------------------------------------------------------
# In a terminal
# ---------------------------------------------------------------------------------------------


def test_one_exercise_or_one_lesson(answers, capsys):
    (answers / "01_pixels.py").write_text(LUMA.replace("16 +", "17 +"), encoding="utf-8")
    assert checks.main(["01b"]) == 0
    assert checks.main(["1"]) == 1
    told = capsys.readouterr().out
    assert "01b: correct" in told and "01a: not right yet" in told and "it differs most" in told
    with pytest.raises(SystemExit):
        checks.main(["99"])
    assert "no such exercise" in capsys.readouterr().err


ENDS = "import sys\n\nSIZE = sys.exit(3)\n\n\ndef luma_of(rgb):\n    sys.exit('bad')\n"


@pytest.mark.parametrize("arguments", [["01a"], ["01a", "--watch"]])
def test_an_answer_that_ends_the_program_is_wrong(answers, monkeypatch, capsys, arguments):
    path = answers / "01_pixels.py"
    path.write_text(ENDS, encoding="utf-8")
    assert "stops with SystemExit: 3" in grading.answers_in(path)[1][0]
    monkeypatch.setattr(checks.time, "sleep", lambda seconds: path.write_text(LUMA, encoding="utf-8"))
    assert checks.main(arguments) == (0 if "--watch" in arguments else 1)
    assert "It stops with SystemExit at \"sys.exit('bad')\": bad" in capsys.readouterr().out


def test_watching_checks_again_at_every_save(answers, monkeypatch, capsys):
    path = answers / "01_pixels.py"
    path.write_text(LUMA.replace("16 +", "17 +"), encoding="utf-8")
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            path.write_text(LUMA, encoding="utf-8")
        assert len(naps) < 5

    monkeypatch.setattr(checks.time, "sleep", nap)
    assert checks.main(["01a", "--watch"]) == 0
    assert re.findall("01a: .*", capsys.readouterr().out) == ["01a: not right yet", "01a: correct"]


def test_hints_come_in_steps(capsys):
    for identity in grading.exercises():
        hints = grading.hints_of(identity)
        assert len(hints) >= 2, f"{identity} has one hint only"
        assert all(len(hint) > 20 for hint in hints), identity
    assert checks.main(["03c", "--hint"]) == 0
    first = capsys.readouterr().out
    assert "hint 1 of" in first and "--hint 2" in first
    assert checks.main(["03c", "--hint", "9"]) == 0
    assert "still stuck" not in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------
# Predictions
# ---------------------------------------------------------------------------------------------


def test_a_prediction_is_kept_and_told_its_answer(answers, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    monkeypatch.setattr("predictions.IN_NOTEBOOK", True)
    predictions.predict("01")
    assert "write your prediction" in capsys.readouterr().out
    predictions.predict("01", 2)
    predictions.predict("01", 1.5)  # the answer is not known yet
    predictions.outcome("01", 1.3245)
    assert "you predicted 1.5; it is 1.32" in capsys.readouterr().out
    predictions.predict("01", 1.32)
    assert "stays 1.5" in capsys.readouterr().out
    predictions.predict("01")
    assert "you predict 1.5" in capsys.readouterr().out
    with pytest.raises(TypeError):
        predictions.predict("01", [1])


def test_nobody_is_asked_where_an_answer_has_ended_the_input(answers, capsys, monkeypatch):
    """As Python's exit() does."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    sys.stdin.close()
    predictions.predict("01")
    assert "write your prediction" in capsys.readouterr().out


def test_a_script_asks_in_words(tmp_path):
    lesson = tmp_path / "lesson.py"
    lesson.write_text(
        "# %% [markdown]\n# Before.\n#\n# A grey. **Predict before you run.** How\n# bright?\n#\n# After.\n\n"
        '# %%\npredict("07", None)\npredict("07.2", None)\n',
        encoding="utf-8",
    )
    assert predictions.question_in(lesson, "07").strip() == "A grey. Predict before you run. How bright?"
    assert predictions.question_in(lesson, "07.2") == ""  # the same paragraph
    assert predictions.question_in(lesson, "08") == predictions.question_in(tmp_path, "07") == ""


def test_the_spread_of_a_class(answers, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "class"
    folder.mkdir()
    monkeypatch.setenv("SR_CLASS", str(folder))
    for number, guess in enumerate([1, 2, 3, 30]):
        kept = {"05": {"guess": guess, "told": False}, "02": {"guess": "Rings ", "told": False}}
        (folder / f"student{number}.json").write_text(json.dumps(kept), encoding="utf-8")
    (folder / "broken.json").write_text("{", encoding="utf-8")
    predictions.predict("05", 4)
    assert "5 predictions: 1 to 30, half of them 2 to 4, in the middle 3" in capsys.readouterr().out
    predictions.predict("02", "stripes")
    assert "5 predictions: 4 × rings, 1 × stripes" in capsys.readouterr().out


# ---------------------------------------------------------------------------------------------
# The teacher's sheet
# ---------------------------------------------------------------------------------------------


def run_sheet(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, str(LESSONS / "checks.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=900)


@pytest.mark.slow
def test_the_sheet_of_the_solutions_is_complete():
    result = run_sheet(LESSONS / "solutions")
    count = len(grading.exercises())
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{count} of {count}" in result.stdout


def class_of_twelve(folder: Path) -> None:
    """Twelve students, each of whom hands in otherwise."""
    wrong = LUMA.replace("16 +", "17 +")
    files = {
        "anna/01_pixels.py": LUMA + "\nprint(open('no such file'))\n",
        "ben/01_pixels (1).py": LUMA,
        "cem_01_pixels.py": LUMA,
        "01_pixels_dora.py": LUMA,
        "eva/lessons/notebooks/01_pixels.ipynb": notebook("%matplotlib inline", LUMA),
        "eva/lessons/solutions/01_pixels.py": LUMA,
        "fritz/01-Pixels.py": wrong,
        "gina/01_pixels.py": "def luma_of(rgb):\n    while True: pass\n",
        "hugo/01_pixels.ipynb": notebook("def luma_of(rgb):\n    __import__('os')._exit(0)"),
        "ida/01_pixels.py": wrong,
        "ida/01_pixels - Copy.py": LUMA.split("def psnr_of_each")[0],
        "jan/answers/01_pixels.py": "def broken(:\n",
        "kim/pixels.py": LUMA,
        "kim/01_pixels.docx": "",
        "lea/01_pixels.ipynb": "{",
        "lea/first try/01_pixels.py": LUMA,
        "mia/01_pixels.zip": "",
        "nora/02_bicubic.py": LUMA,
        "Ömer/01_pixels.py": LUMA,
        unicodedata.normalize("NFD", "Ömer") + "/02_bicubic.py": "",
        "Ömer/.ipynb_checkpoints/01_pixels-checkpoint.ipynb": "{",
        "Ömer/.DS_Store": "",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


def test_the_sheet_finds_everybody_and_names_what_it_ignores(tmp_path):
    class_of_twelve(tmp_path)
    found = sheet.find_files(tmp_path)
    names = "anna ben cem dora eva fritz gina hugo ida jan kim lea mia nora ömer"  # Ö is sorted as an O
    assert " ".join(found.files).lower() == names
    assert [path.name for path in found.files["ida"]["01_pixels"]] == ["01_pixels - Copy.py", "01_pixels.py"]
    assert len(found.files["lea"]["01_pixels"]) == 2 and len(found.files["Ömer"]) == 2
    assert found.files["mia"] == {}
    ignored = sorted(Path(place).as_posix() + f": {why}" for place, why in found.ignored)
    for line, (place, why) in zip(
        ignored,
        {
            "eva/lessons/solutions/01_pixels.py": "of the course itself",
            "kim/01_pixels.docx": "neither a script nor a notebook",
            "kim/pixels.py": "has answers to 01_pixels",
            "mia/01_pixels.zip": "unpack it",
            "nora/02_bicubic.py": "has answers to 01_pixels",
        }.items(),
        strict=True,
    ):
        assert line.startswith(place) and why in line


def test_a_whole_folder_of_the_course_is_ignored_in_few_lines(tmp_path, capsys):
    for number in range(30):
        (tmp_path / "pia" / "lessons" / "pictures").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pia" / "lessons" / "pictures" / f"{number:02}.png").touch()
    sheet._name_ignored(sheet.find_files(tmp_path).ignored)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and "00.png" in told[0] and "and 27 more" in told[0]


def test_names_of_students():
    for stem, student in {
        "01_pixels": "", "anna_01_pixels": "anna", "01_pixels (12)": "", "01 Pixels-2": "", "01_pixels copy 2": "",
        "01_pixels_final": "", "01_pixels_4711042": "4711042", "Meier_01_pixels_Anna": "Meier Anna",
        "Copy of 01_pixels": "", "Copy of Copy of 01_pixels (1)": "", "Kopie von anna_01_pixels": "anna",
        "copy_of_01_pixels": "", "Copyofthis_01_pixels": "Copyofthis",
    }.items():  # fmt: skip
        assert sheet.student_and_lesson(stem) == (student, "01_pixels"), stem
    assert sheet.student_and_lesson("pixels") is None


@pytest.mark.slow
def test_the_sheet_of_a_class(tmp_path, monkeypatch, capsys):
    class_of_twelve(tmp_path)
    for alike in (
        "anna",
        "ben",
        "eva",
        "jan",
        "lea",
        "nora",
        "Ömer",
    ):  # to be quick: a test above finds them
        shutil.rmtree(tmp_path / alike)
    monkeypatch.setattr(sheet, "SECONDS", 3)
    assert not sheet.sheet(tmp_path, verbose=True)
    told = capsys.readouterr().out
    for student, marks in {
        "cem": "+++",
        "dora": "+++",
        "fritz": "x++",
        "gina": "?..",
        "hugo": "x..",
        "ida": "+++",
    }.items():
        assert re.search(rf"^{student} +{re.escape(marks)} ", told, re.MULTILINE), (student, told)
    assert "ended the whole program" in told and "3 seconds of processor time" in told
    assert re.search(r"^mia +0 of ", told, re.MULTILINE)
    assert "ignored: kim" in told


@pytest.mark.slow
def test_time_is_counted_in_what_an_answer_computes(tmp_path, monkeypatch):
    """An answer that waits for others is not late; one that computes too long is."""
    waits = LUMA.replace("def luma_of(rgb):\n", "def luma_of(rgb):\n    import time\n    time.sleep(1.2)\n")
    (tmp_path / "01_pixels.py").write_text(
        waits.replace("def ssim_of_window(x, y):\n", "def ssim_of_window(x, y):\n    while True: pass\n"),
        encoding="utf-8",
    )
    monkeypatch.setattr(sheet, "SECONDS", 1)
    verdicts = sheet.grade_student({"01_pixels": [tmp_path / "01_pixels.py"]})
    assert [verdict.status for verdict in verdicts.values()] == ["correct", "correct", "late"]


@pytest.mark.slow
def test_an_answer_that_waits_for_ever(tmp_path, monkeypatch):
    (tmp_path / "01_pixels.py").write_text("def luma_of(rgb):\n    __import__('time').sleep(1e6)\n", encoding="utf-8")
    monkeypatch.setattr(sheet, "SECONDS", 2)
    monkeypatch.setattr(sheet, "PATIENCE", 2)
    begun = time.monotonic()
    verdicts = sheet.grade_student({"01_pixels": [tmp_path / "01_pixels.py"]})
    assert [verdict.status for verdict in verdicts.values()] == ["late", "not yet", "not yet"]
    assert time.monotonic() - begun < 120


def test_what_an_answer_has_a_subprocess_print_is_no_verdict(tmp_path, capfd):
    said = "def luma_of(rgb):\n    import os\n    os.system('echo hello')\n    print('→')\n"
    (tmp_path / "01_pixels.py").write_text(LUMA.replace("def luma_of(rgb):\n", said), encoding="utf-8")
    sheet.grade_files([tmp_path / "01_pixels.py"], set(), seconds=600)
    told = capfd.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line[1:3] for line in lines[1::2]] == [["01a", "correct"], ["01b", "correct"], ["01c", "correct"]]
    assert "hello" in told.err and "→" in told.err


def test_a_line_that_is_no_verdict_is_passed_over(tmp_path, monkeypatch):
    """A library may print one when it is imported."""
    lines = ["Welcome!", "", "5", "[1]", '"01"', '[0, "01a"]', "{", '[0, "01a", "correct", ""]', '[0, "01b"]', "\x00"]
    (tmp_path / "checks.py").write_text(f"print(*{lines}, sep='\\n')", encoding="utf-8")
    monkeypatch.setattr(sheet, "LESSONS", tmp_path)
    verdicts = {}
    assert sheet._grade_until_stuck([tmp_path / "01_pixels.py"], verdicts) == ((0, "01b"), False)
    assert verdicts == {(0, "01a"): grading.Verdict("correct")}


def test_a_folder_without_lessons(tmp_path, capsys):
    (tmp_path / "notes.txt").touch()
    assert checks.main([str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "no files named like lessons" in told.err
    assert "ignored: notes.txt (neither a script nor a notebook)" in told.out
