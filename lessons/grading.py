"""Finds answers to the exercises, and grades them.

What each exercise expects is in lessons/exercises/NN_name.py: a function `check_01a`. Its parameter has the name of the
answer; the paragraphs of its docstring are the hints, the vaguest first. The course's own answers are in
lessons/solutions/NN_name.py.

Of a file with answers, a script or a notebook, only imports, functions, classes and CONSTANTS are run, not the lesson.
That is no sandbox: look at strangers' files before you run them.
"""

import ast
import codecs
import contextlib
import importlib.util
import inspect
import io
import json
import linecache
import os
import re
import tokenize
import traceback
import warnings
from dataclasses import dataclass, field
from functools import cache, wraps
from pathlib import Path

from comparing import CHANGED, Mismatch
from course import ANSWERS, LESSONS

import numpy
import torch

CHANGING = {"12a"}  # its answer is to fill and change the list that it is given
ENDINGS = (Exception, SystemExit)  # what students' code may stop with: exit() too, but not Ctrl+C
SETTINGS = (  # of the whole program, each read by the one function and set by the other
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, torch.set_default_device),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (Path.cwd, os.chdir),
)
MAGIC = re.compile(  # a line that is for Jupyter alone
    r"""^([ \t]*)(?:
    (?:[\w.,\[\] ]+=[ ]*)?(?:%{1,2}[a-zA-Z]|!(?!=))  # %magic, !command, name = %magic, name = !command
    | \? | %{0,2}[\w.*]+\?{1,2}[ \t]*$  # ?name, name?
    )(?:.*\\\n)*.*  # to the end of the last line on which it goes on""",
    re.MULTILINE | re.VERBOSE,
)
OTHER_LANGUAGE = re.compile(r"\s*%%(?!time|capture|prun)")  # these measure Python, or hide what it prints


@dataclass
class Verdict:
    """The result of a check: `status` is "not yet", "correct", "wrong", or "late" for no answer in time."""

    status: str
    message: str = ""
    pictures: list = field(default_factory=list)

    @property
    def worth(self) -> int:
        """To choose the best of several."""
        return ("not yet", "late", "wrong", "correct").index(self.status)


# ---------------------------------------------------------------------------------------------
# Exercises
# ---------------------------------------------------------------------------------------------


@cache
def exercises() -> dict:
    """Identity → check function, of all lessons."""
    found = {}
    for path in sorted((LESSONS / "exercises").glob("[0-9]*.py")):
        specification = importlib.util.spec_from_file_location(f"exercises_{path.stem}", path)
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        for name, function in vars(module).items():
            if name.startswith("check_"):
                found[name.removeprefix("check_")] = function
    return found


def answer_name(identity: str) -> str:
    """What the function that the student writes is called: the name of the check's parameter."""
    return next(iter(inspect.signature(exercises()[identity]).parameters))


def hints_of(identity: str) -> list[str]:
    """The hints for an exercise, each a step further: the paragraphs of its check's docstring."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(exercises()[identity]) or "")
    return [" ".join(paragraph.split()) for paragraph in paragraphs]


@cache
def lesson_names() -> list[str]:
    """The names of all lessons, such as "01_pixels"."""
    return sorted(path.stem for path in (LESSONS / "exercises").glob("[0-9]*.py"))


def lesson_of(identity: str) -> str:
    """The name of an exercise's lesson."""
    return next(lesson for lesson in lesson_names() if lesson[:2] == identity[:2])


def find_lesson(stem: str) -> tuple[str, re.Match] | None:
    """The lesson that the name of a file contains, and where: 01_pixels, 01-pixels and 01 Pixels are the same."""
    for lesson in lesson_names():
        if match := re.search(lesson.replace("_", "[-_ ]"), stem, re.IGNORECASE):
            return lesson, match
    return None


@cache
def solutions(lesson: str) -> dict:
    """What the course's own answers to a lesson define."""
    return answers_in(LESSONS / "solutions" / f"{lesson}.py")[0]


def solution_of(identity: str):
    """The course's own answer to an exercise."""
    return solutions(lesson_of(identity))[answer_name(identity)]


# ---------------------------------------------------------------------------------------------
# Grading
# ---------------------------------------------------------------------------------------------


def grade(identity: str, answer) -> Verdict:
    """Try an answer; whatever it does, this returns."""
    try:
        with _settings_kept():
            torch.manual_seed(0)
            exercises()[identity](answer if identity in CHANGING else _leaving_its_arguments(answer))
        return Verdict("correct")
    except NotImplementedError as error:
        # A stub raises it bare; PyTorch says something with it.
        return Verdict("wrong", f"It stops with NotImplementedError: {error}") if error.args else Verdict("not yet")
    except Mismatch as mismatch:
        return Verdict("wrong", str(mismatch), mismatch.pictures)
    except ENDINGS as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.name == getattr(answer, "__name__", None)]
        line = f' at "{own[-1].line}"' if own and own[-1].line else ""
        return Verdict("wrong", f"It stops with {type(error).__name__}{line}: {error}")


@contextlib.contextmanager
def _settings_kept():
    """What an answer sets for the whole program is as before afterwards: other answers are right or wrong without it.

    The lesson's own random numbers stay as they were.
    """
    before = [read() for read, _ in SETTINGS]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), numpy.errstate():
        try:
            yield
        finally:
            for (read, write), value in zip(SETTINGS, before, strict=True):
                if read() != value:
                    write(value)


def _leaving_its_arguments(answer):
    """The answer; a Mismatch if it changes what it was given, or a tensor or an array therein."""

    @wraps(answer)
    def guarded(*arguments, **named):
        given = [arguments, named]
        before = _copied(given)
        result = answer(*arguments, **named)
        if not _is_as_before(given, before):
            raise Mismatch(CHANGED)
        return result

    return guarded


def _copied(value):
    """Tensors and arrays copied, also those in lists and dictionaries; anything else is itself."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, list | tuple):
        return [_copied(part) for part in value]
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return value.copy() if isinstance(value, numpy.ndarray) else value


def _is_as_before(now, before) -> bool:
    if isinstance(before, torch.Tensor | numpy.ndarray):
        if getattr(now, "shape", None) != before.shape:
            return False
        learns = getattr(now, "requires_grad", None) == getattr(before, "requires_grad", None)
        return learns and bool((now == before).all())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(_is_as_before, now, before))
    if isinstance(before, dict):
        return now.keys() == before.keys() and all(_is_as_before(now[key], before[key]) for key in before)
    return now is before or bool(now == before)


def grade_in(identity: str, names: dict, problems: list[str]) -> Verdict:
    """Grade what a file defines; where the answer is not among it, what was wrong with the file."""
    answer = names.get(answer_name(identity))
    verdict = grade(identity, answer) if answer else Verdict("not yet")
    return Verdict("wrong", problems[0]) if verdict.status == "not yet" and problems else verdict


def best(one: Verdict | None, other: Verdict) -> Verdict:
    """The better of two verdicts on the same exercise."""
    return other if one is None or other.worth > one.worth else one


# ---------------------------------------------------------------------------------------------
# Answers in files
# ---------------------------------------------------------------------------------------------


def own_files(lesson: str) -> list[Path]:
    """Where your own answers to a lesson may be: in lessons/answers/, in the lesson, in its notebook."""
    places = [*sorted(ANSWERS.glob(f"{lesson}*")), LESSONS / f"{lesson}.py", LESSONS / "notebooks" / f"{lesson}.ipynb"]
    return [path for path in places if path.suffix in (".py", ".ipynb") and path.exists()]


def kept_answer(identity: str):
    """The answer to an exercise in lessons/answers/; None if there is none, or nothing but the stub."""
    for path in own_files(lesson_of(identity)):
        if path.parent == ANSWERS:
            names, _ = answers_in(path)
            answer = names.get(answer_name(identity))
            if answer and grade(identity, answer).status != "not yet":
                return answer
    return None


def answers_in(path: Path) -> tuple[dict, list[str]]:
    """What a file with answers defines, and what is wrong with the file.

    What else its functions call is the lesson's; exercises that are not written are the solution's, as in the lesson.
    They are nobody's answers, nor are those that a teacher wrote into the lesson. A stub never hides an answer.
    """
    names = {"__name__": "answers", "__file__": str(path)}
    found = find_lesson(path.stem)
    wanted = {answer_name(one): one for one in exercises() if found and one[:2] == found[0][:2]}
    if found and path != (lesson := LESSONS / f"{found[0]}.py"):
        _run(_definitions(lesson)[0], names)
        for name in wanted:
            names.pop(name, None)
    definitions, problems = _definitions(path)
    problems += _run([pair for pair in definitions if _is_stub(pair[0])], names)
    unwritten = {name: names.get(name) for name in wanted}
    problems += _run([pair for pair in definitions if not _is_stub(pair[0])], names)
    answers = dict(names)
    for name, identity in wanted.items():
        if names.get(name) is unwritten[name]:
            names[name] = solution_of(identity)
    return answers, problems


def _run(definitions: list[tuple[ast.stmt, str]], names: dict) -> list[str]:
    """Run definitions in `names`; which of them stop."""
    problems = []
    for node, source in definitions:
        try:
            exec(compile(ast.Module([node], []), source, "exec"), names)
        except ENDINGS as error:
            problems.append(f'Its line "{ast.unparse(node).splitlines()[0]}" stops with {_told(error)}')
    return problems


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def lesson_by_content(path: Path, named: str | None) -> str | None:
    """The lesson to which a file has answers, two at least, if it has nothing of the one that its name says."""
    functions = [node for node, _ in _definitions(path)[0] if isinstance(node, ast.FunctionDef)]
    there = {node.name for node in functions}
    written = {node.name for node in functions if not _is_stub(node)}
    wanted = {lesson: {answer_name(one) for one in exercises() if one[:2] == lesson[:2]} for lesson in lesson_names()}
    if named and wanted[named] & there:
        return None
    best_fit = max(wanted, key=lambda lesson: len(wanted[lesson] & written))
    return best_fit if len(wanted[best_fit] & written) > 1 else None


def _definitions(path: Path) -> tuple[list[tuple[ast.stmt, str]], list[str]]:
    """The definitions of a file, each with the name of its source; and which parts of it cannot be read."""
    found, problems = [], []
    try:
        text = _text_of(path)
        cells = _notebook_cells(text) if path.suffix == ".ipynb" else [text]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [], [f"The file cannot be read: {_told(error)}"]
    for number, cell in enumerate(cells, 1):
        name = str(path) if path.suffix == ".py" else f"{path}, code cell {number}"
        if path.suffix == ".ipynb":  # so that a message can show the line where an answer stops
            linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        for part in _parts(cell):
            try:
                found += [(node, name) for node in ast.parse(part, name).body if _is_definition(node)]
            except (SyntaxError, ValueError) as error:
                problems.append(f"A part of the file cannot be read: {_told(error)}")
    return found, problems


def _text_of(path: Path) -> str:
    """A file's text, in the encoding that it names; what is no UTF-8, as Python wants it, in one byte a letter."""
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's
        return data.decode("utf-16", "replace")
    try:
        return data.decode(tokenize.detect_encoding(io.BytesIO(data).readline)[0])
    except (SyntaxError, UnicodeDecodeError):
        return data.decode("latin-1")


def _parts(cell: str) -> list[str]:
    """The whole of it; where it has a mistake, its functions, so that one mistake does not take the others along."""
    cell = cell.replace("\r\n", "\n").replace("\0", "")
    if _is_python(cell):
        return [cell]
    parts = re.sub(r"(?m)^((?:@.*\n)*(?:# %%|def |class |import |from ))", "\0\\1", cell).split("\0")
    above = 0
    for at, part in enumerate(parts):
        parts[at] = "\n" * above + part  # every line keeps its number
        above += part.count("\n")
    return parts


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def _notebook_cells(text: str) -> list[str]:
    """The code cells of a notebook without the lines that are for Jupyter alone."""
    sources = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return [_without_magics("\n".join(source.splitlines())) for source in sources]


def _without_magics(cell: str) -> str:
    """A cell with `pass` in the place of each line for Jupyter alone; as it is, if it is Python: % may be an operator.

    Nothing is left of a cell in another language, such as %%bash.
    """
    if _is_python(cell):
        return cell
    python = MAGIC.sub(lambda magic: magic[1] + "pass" + "\n" * magic[0].count("\n"), cell)
    return "" if OTHER_LANGUAGE.match(cell) and not _is_python(python) else python


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        function = isinstance(node.value, ast.Lambda) and all(isinstance(target, ast.Name) for target in targets)
        return function or (node.value is not None and all(map(_is_constant, targets)))
    if isinstance(node, ast.If | ast.For | ast.With):
        return all(map(_is_definition, [*node.body, *getattr(node, "orelse", [])]))
    if isinstance(node, ast.Try):  # an import with a substitute
        return all(isinstance(part, ast.Import | ast.ImportFrom) for part in node.body)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def _is_constant(target: ast.expr) -> bool:
    """Whether a name in CAPITALS is assigned to, or several, or a part of what has such a name."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(map(_is_constant, target.elts))
    while isinstance(target, ast.Subscript | ast.Starred):
        target = target.value
    return isinstance(target, ast.Name) and target.id.isupper()


def _is_stub(node: ast.stmt) -> bool:
    """Whether a function does nothing but raise NotImplementedError."""
    if not isinstance(node, ast.FunctionDef):
        return False
    *words, last = node.body
    documented = all(isinstance(word, ast.Expr) and isinstance(word.value, ast.Constant) for word in words)
    return documented and isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)
