"""Checks your answers to the exercises: in a lesson, and for a teacher a whole folder of files.

In a lesson:

    check("01a", luma_of)          # not yet, correct, or what differs and where
    hint("01a")

In a terminal, for one's own progress, or for a folder with a folder for each student:

    python lessons/checks.py                      # the lessons themselves
    python lessons/checks.py handed_in            # handed_in/NAME/01_pixels.py, or handed_in/NAME_01_pixels.ipynb
    python lessons/checks.py handed_in -v         # with what is wrong

The exit code is 1 while anything is unsolved. Of a student's file only imports, functions, classes and CONSTANTS
are run, not the lesson. That is no sandbox: look at strangers' files before you run them.

What each exercise wants is in lessons/exercises/NN_name.py: a function `check_01a` whose parameter has the name
of the answer and whose docstring is the hint.
"""

import argparse
import ast
import contextlib
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import textwrap
import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from course import LESSONS, show_pictures

SECONDS = 60  # an answer that has not come by then is counted as too slow
LESSON_NAME = re.compile(r"(?P<student>.*?)_?(?P<lesson>\d\d_[a-z_]+)$")


class Mismatch(Exception):
    """An answer is wrong: the message says what differs and where; pictures (caption, picture) may show it."""

    def __init__(self, message: str, *pictures: tuple[str, Tensor]):
        super().__init__(message)
        self.pictures = list(pictures)


@dataclass
class Verdict:
    """What is thought of an answer: its status is "not yet", "correct" or "wrong"."""

    status: str
    message: str = ""
    pictures: list = field(default_factory=list)


# ---------------------------------------------------------------------------------------------
# In a lesson
# ---------------------------------------------------------------------------------------------


def check(identity: str, answer) -> None:
    """Print whether the answer to exercise `identity` is right; if not, what differs, with a picture of a picture."""
    verdict = grade(identity, answer)
    words = {"not yet": f'not yet: hint("{identity}") helps', "correct": "correct", "wrong": "not right yet."}
    print(f"{identity}: {words[verdict.status]}")
    if verdict.message:
        print(textwrap.fill(verdict.message, 100, initial_indent="  ", subsequent_indent="  "))
    if verdict.pictures:
        show_pictures(verdict.pictures)


def hint(identity: str) -> None:
    """Print a hint for an exercise."""
    print(textwrap.fill(hint_of(identity), 100))


def hint_of(identity: str) -> str:
    """The hint for an exercise: the docstring of its check."""
    return " ".join((inspect.getdoc(exercises()[identity]) or "").split())


def grade(identity: str, answer) -> Verdict:
    """Try an answer; whatever it does, this returns."""
    try:
        with torch.random.fork_rng(devices=[]):  # the lesson's own random numbers stay as they were
            torch.manual_seed(0)
            exercises()[identity](answer)
        return Verdict("correct")
    except NotImplementedError as error:
        # A stub raises it bare; PyTorch says something with it.
        return Verdict("wrong", f"It stops with NotImplementedError: {error}") if error.args else Verdict("not yet")
    except Mismatch as mismatch:
        return Verdict("wrong", str(mismatch), mismatch.pictures)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.name == getattr(answer, "__name__", None)]
        line = f' at "{own[-1].line}"' if own and own[-1].line else ""
        return Verdict("wrong", f"It stops with {type(error).__name__}{line}: {error}")


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


# ---------------------------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------------------------


def compare(got, wanted, what: str, mistakes: dict | None = None, tolerance: float = 1e-5, picture: bool = False):
    """Raise Mismatch unless `got` equals `wanted`, numbers or tensors, to within the tolerance.

    `mistakes` maps an explanation to the value that this mistake would give: where one fits, it is named.
    With `picture`, both are shown.
    """
    if got is None:
        raise Mismatch(f"{what}: your function returns nothing. Is there a `return`?")
    got, wanted = _as_tensor(got, what), torch.as_tensor(wanted, dtype=torch.float64)
    for explanation, value in (mistakes or {}).items():
        value = torch.as_tensor(value, dtype=torch.float64)
        if _close(got, value, tolerance) and not _close(got, wanted, tolerance):
            raise Mismatch(f"{what}: {explanation}", *(_both(got, wanted) if picture else []))
    if got.shape != wanted.shape:
        raise Mismatch(f"{what}: the shape is {_shape(got)}, not {_shape(wanted)}.")
    if not got.isfinite().all() and wanted.isfinite().all():
        raise Mismatch(f"{what}: it is not finite (NaN or infinity).")
    if _close(got, wanted, tolerance):
        return
    if wanted.ndim == 0:
        raise Mismatch(f"{what}: {got.item():.6g}, but it should be {wanted.item():.6g}.")
    worst = (got - wanted).abs().argmax()
    place = ", ".join(str(int(index)) for index in torch.unravel_index(worst, wanted.shape))
    raise Mismatch(
        f"{what}: it differs most at [{place}], where it is {got.flatten()[worst]:.6g} and should be "
        f"{wanted.flatten()[worst]:.6g}.",
        *(_both(got, wanted) if picture else []),
    )


def _as_tensor(value, what: str) -> Tensor:
    try:
        return torch.as_tensor(value).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise Mismatch(f"{what}: a {type(value).__name__} came back, not a number or a tensor.") from error


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=tolerance, atol=tolerance)


def _shape(value: Tensor) -> str:
    return "×".join(map(str, value.shape)) if value.ndim else "that of a single number"


def _both(got: Tensor, wanted: Tensor) -> list[tuple[str, Tensor]]:
    """Pictures for the eye; a matrix is made one, black at its least value and white at its largest."""
    if wanted.ndim == 2:
        low, high = wanted.min(), wanted.max()
        got, wanted = (((part - low) / (high - low))[None, None] for part in (got, wanted))
    panels = [("yours", got[:1]), ("wanted", wanted[:1])]
    if got.shape == wanted.shape:
        apart = (got - wanted)[:1]
        factor = max(1, int(0.5 / apart.abs().max().clamp(min=1e-3)))  # so strong that it can be seen
        panels.append((f"difference × {factor}, grey is none", (0.5 + factor * apart).clamp(0, 1)))
    return [(caption, panel.float()) for caption, panel in panels]


# ---------------------------------------------------------------------------------------------
# The teacher's sheet
# ---------------------------------------------------------------------------------------------


def find_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Student → lesson → file. Files in the folder itself count alone; without any, those of its subfolders do."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix in (".py", ".ipynb")]
    if not any(LESSON_NAME.match(path.stem) for path in files):
        files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".ipynb")]
    known = {path.stem for path in (LESSONS / "exercises").glob("[0-9]*.py")}
    found: dict[str, dict[str, Path]] = {}
    for path in files:
        match = LESSON_NAME.match(path.stem)
        if match and match["lesson"] in known:
            below = [part for part in (*path.relative_to(folder).parts[:-1], match["student"]) if part]
            found.setdefault("/".join(below) or folder.resolve().name, {})[match["lesson"]] = path
    return found


def answers_in(path: Path) -> dict:
    """What a student's file defines: its imports, functions, classes and CONSTANTS; the rest is not run."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(source)["cells"] if cell["cell_type"] == "code"]
        lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
        source = "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if _is_definition(node)]
    names = {"__name__": "answers", "__file__": str(path)}
    exec(compile(tree, str(path), "exec"), names)
    return names


def _is_definition(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def grade_files(files: list[Path], settled: set[str]) -> None:
    """What the child process does: discriminator every exercise of the files, one line of JSON each on standard output."""
    for path in files:
        lesson = LESSON_NAME.match(path.stem)["lesson"][:2]
        wanted = [identity for identity in exercises() if identity[:2] == lesson and identity not in settled]
        with contextlib.redirect_stdout(sys.stderr):
            try:
                names, problem = answers_in(path), None
            except Exception as error:
                names, problem = {}, f"The file cannot be read: {type(error).__name__}: {error}"
        for identity in wanted:
            with contextlib.redirect_stdout(sys.stderr):
                answer = names.get(answer_name(identity))
                verdict = grade(identity, answer) if answer else Verdict("wrong" if problem else "not yet", problem)
            print(json.dumps([identity, verdict.status, verdict.message]), flush=True)


def grade_student(files: dict[str, Path]) -> dict[str, Verdict]:
    """Identity → verdict for all exercises of a student's files, graded in a process that may be stopped."""
    wanted = [identity for identity in exercises() if any(lesson[:2] == identity[:2] for lesson in files)]
    verdicts: dict[str, Verdict] = {}
    while open_ones := [identity for identity in wanted if identity not in verdicts]:
        command = [sys.executable, str(LESSONS / "checks.py"), "--grade", ",".join(verdicts) or "-"]
        late = False
        try:
            result = subprocess.run([*command, *map(str, files.values())], capture_output=True, timeout=SECONDS)
            output = result.stdout
        except subprocess.TimeoutExpired as expired:
            output, late = expired.stdout or b"", True
        for line in output.decode("utf-8", "replace").splitlines():
            identity, status, message = json.loads(line)
            verdicts[identity] = Verdict(status, message or "")
        if open_ones[0] not in verdicts or late:  # the one in hand is what stopped the others
            stuck = next((identity for identity in open_ones if identity not in verdicts), None)
            if stuck:
                why = f"No answer within {SECONDS} seconds." if late else "It ended the whole program."
                verdicts[stuck] = Verdict("wrong", why)
    return verdicts


def sheet(folder: Path, verbose: bool) -> bool:
    """Print the progress of a folder as a table; True if everything is solved."""
    students = find_files(folder)
    if not students:
        print(f"{folder}: no files named like lessons (01_pixels.py) in this folder", file=sys.stderr)
        return False
    lessons = sorted({lesson for files in students.values() for lesson in files})
    numbers = {lesson: [identity for identity in exercises() if identity[:2] == lesson[:2]] for lesson in lessons}
    width = max(len("student"), *map(len, students))
    letters = {lesson: max(len(lesson), len(numbers[lesson])) for lesson in lessons}
    print("  ".join(["student".ljust(width), *(lesson.ljust(letters[lesson]) for lesson in lessons), "solved"]))
    complete = True
    for student, files in students.items():
        verdicts = grade_student(files)
        marks = {"correct": "+", "wrong": "x", "not yet": "."}
        cells = [
            "".join(marks[verdicts[one].status] if one in verdicts else " " for one in numbers[lesson])
            for lesson in lessons
        ]
        solved = sum(verdict.status == "correct" for verdict in verdicts.values())
        total = sum(map(len, numbers.values()))
        complete &= solved == total
        cells = [cell.ljust(letters[lesson]) for lesson, cell in zip(lessons, cells, strict=True)]
        print("  ".join([student.ljust(width), *cells, f"{solved} of {total}"]), flush=True)
        for identity, verdict in verdicts.items():
            if verbose and verdict.message:
                print(textwrap.indent(textwrap.fill(f"{identity}: {verdict.message}", 106), "    "))
    print("+ correct   x not right   . not yet   one mark for each exercise")
    return complete


def main(arguments: list[str]) -> int:
    """The command line of this script; returns the exit code."""
    if arguments[:1] == ["--grade"]:
        grade_files([Path(path) for path in arguments[2:]], set(arguments[1].split(",")))
        return 0
    parser = argparse.ArgumentParser(description="The progress of a folder of lessons, your own or your students'.")
    parser.add_argument("folder", type=Path, nargs="?", default=LESSONS, help="default: the lessons themselves")
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what is wrong")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"{options.folder}: no such folder")
    return 0 if sheet(options.folder, options.verbose) else 1


if __name__ == "__main__":
    import checks  # the exercises import this module by its name: there must be one Mismatch, not two

    sys.exit(checks.main(sys.argv[1:]))
