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

What each exercise expects is in lessons/exercises/NN_name.py: a function `check_01a`. Its parameter has the name of the
answer; its docstring is the hint.
"""

import argparse
import ast
import contextlib
import importlib.util
import inspect
import json
import queue
import re
import subprocess
import sys
import textwrap
import threading
import traceback
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from course import LESSONS, show_pictures

import torch
from torch import Tensor

SECONDS = 60  # an answer that has not come by then, counted from when it is begun, is too slow
SECONDS_TO_START = 300  # for Python, torch and what a file imports
LESSON_NAME = re.compile(r"(?P<student>.*?)_?(?P<lesson>\d\d_[a-z_]+)$")


class Mismatch(Exception):
    """An answer is wrong: the message says what differs and where; pictures (caption, picture) may show it."""

    def __init__(self, message: str, *pictures: tuple[str, Tensor]):
        super().__init__(message)
        self.pictures = list(pictures)


@dataclass
class Verdict:
    """The result of a check: `status` is "not yet", "correct" or "wrong"."""

    status: str
    message: str = ""
    pictures: list = field(default_factory=list)


# ---------------------------------------------------------------------------------------------
# In a lesson
# ---------------------------------------------------------------------------------------------


def check(identity: str, answer) -> None:
    """Print whether the answer to exercise `identity` is right; if not, what differs. Pictures are shown."""
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


def compare(actual, expected, what: str, mistakes: dict | None = None, tolerance: float = 1e-5, picture: bool = False):
    """Raise Mismatch unless `actual` equals `expected`, numbers or tensors, to within the tolerance.

    `mistakes` maps an explanation to the value that this mistake would give. Where one fits, it is named.
    With `picture`, both are shown.
    """
    if actual is None:
        raise Mismatch(f"{what}: your function returns nothing. Is there a `return`?")
    actual = _as_tensor(actual, what)
    expected = torch.as_tensor(expected, dtype=torch.float64)
    for explanation, value in (mistakes or {}).items():
        value = torch.as_tensor(value, dtype=torch.float64)
        if _close(actual, value, tolerance) and not _close(actual, expected, tolerance):
            raise Mismatch(f"{what}: {explanation}", *(_both(actual, expected) if picture else []))
    if actual.shape != expected.shape:
        raise Mismatch(f"{what}: the shape is {_shape(actual)}, not {_shape(expected)}.")
    if not actual.isfinite().all() and expected.isfinite().all():
        raise Mismatch(f"{what}: it is not finite (NaN or infinity).")
    if _close(actual, expected, tolerance):
        return
    if expected.ndim == 0:
        raise Mismatch(f"{what}: {actual.item():.6g}, but it should be {expected.item():.6g}.")
    worst = (actual - expected).abs().argmax()
    place = ", ".join(str(int(index)) for index in torch.unravel_index(worst, expected.shape))
    raise Mismatch(
        f"{what}: it differs most at [{place}], where it is {actual.flatten()[worst]:.6g} and should be "
        f"{expected.flatten()[worst]:.6g}.",
        *(_both(actual, expected) if picture else []),
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


def _both(actual: Tensor, expected: Tensor) -> list[tuple[str, Tensor]]:
    """Both as pictures for the eye. A matrix becomes one, black at its least value and white at its largest."""
    if expected.ndim == 2:
        least, most = expected.min(), expected.max()
        actual, expected = (((part - least) / (most - least))[None, None] for part in (actual, expected))
    panels = [("yours", actual[:1]), ("expected", expected[:1])]
    if actual.shape == expected.shape:
        apart = (actual - expected)[:1]
        factor = max(1, int(0.5 / apart.abs().max().clamp(min=1e-3)))  # so strong that it can be seen
        panels.append((f"difference × {factor}, grey is none", (0.5 + factor * apart).clamp(0, 1)))
    return [(caption, panel.float()) for caption, panel in panels]


# ---------------------------------------------------------------------------------------------
# The teacher's sheet
# ---------------------------------------------------------------------------------------------


def find_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Student → lesson → file. If the folder itself has lessons, only those count; else those of its subfolders."""
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
    """What a student's file defines: imports, functions, classes and CONSTANTS. The rest is not run."""
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
    """What the child process does: for every exercise a line of JSON when it is begun, and one with its verdict."""
    for path in files:
        lesson = LESSON_NAME.match(path.stem)["lesson"][:2]
        unsettled = [identity for identity in exercises() if identity[:2] == lesson and identity not in settled]
        with contextlib.redirect_stdout(sys.stderr):
            try:
                names = answers_in(path)
                problem = None
            except Exception as error:
                names = {}
                problem = f"The file cannot be read: {type(error).__name__}: {error}"
        for identity in unsettled:
            print(json.dumps([identity]), flush=True)  # from now on its time is counted
            with contextlib.redirect_stdout(sys.stderr):
                answer = names.get(answer_name(identity))
                verdict = grade(identity, answer) if answer else Verdict("wrong" if problem else "not yet", problem)
            print(json.dumps([identity, verdict.status, verdict.message]), flush=True)


def grade_student(files: dict[str, Path]) -> dict[str, Verdict]:
    """Identity → verdict for all exercises of a student's files, graded in a process that may be stopped."""
    identities = [identity for identity in exercises() if any(lesson[:2] == identity[:2] for lesson in files)]
    verdicts: dict[str, Verdict] = {}
    while open_ones := [identity for identity in identities if identity not in verdicts]:
        in_hand, late = _grade_until_stuck(files, verdicts)
        stuck = in_hand or next((identity for identity in open_ones if identity not in verdicts), None)
        if stuck:  # it is what stopped the others
            why = f"No answer within {SECONDS} seconds." if late else "It ended the whole program."
            verdicts[stuck] = Verdict("wrong", why)
    return verdicts


def _grade_until_stuck(files: dict[str, Path], verdicts: dict[str, Verdict]) -> tuple[str | None, bool]:
    """Add the verdicts of one process; which exercise was in hand when it ended, and whether for want of time.

    The clock runs from when an answer is begun: starting Python and importing torch is not the student's time.
    """
    command = [sys.executable, str(LESSONS / "checks.py"), "--grade", ",".join(verdicts) or "-"]
    lines: queue.Queue[bytes | None] = queue.Queue()
    with subprocess.Popen(
        [*command, *map(str, files.values())], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:

        def read() -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        in_hand = None
        try:
            while line := lines.get(timeout=SECONDS if in_hand else SECONDS_TO_START):
                identity, *verdict = json.loads(line)
                in_hand = None if verdict else identity
                if verdict:
                    verdicts[identity] = Verdict(verdict[0], verdict[1] or "")
        except queue.Empty:
            process.kill()
            return in_hand, True
    return in_hand, False


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
