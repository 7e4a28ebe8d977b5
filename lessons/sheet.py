"""The teacher's sheet: a table with a row for each student and a mark for each exercise.

Each student's functions run in a process of their own. An answer has a limit of processor time, which is counted from
when it is begun: on a busy machine nobody loses a mark to somebody else's program.
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import textwrap
import threading
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from course import LESSONS
from grading import Verdict, answers_in, best, exercises, find_lesson, grade_in, lesson_by_content

SECONDS = 30  # of processor time for an answer
PATIENCE = 20  # times as long by the clock: an answer may also wait for ever and compute nothing
SECONDS_TO_START = 600  # by the clock, for Python, torch and what a file imports

MARKS = {"correct": "+", "wrong": "x", "late": "?", "not yet": "."}
LEGEND = "+ correct   x not right   ? no answer in time   . not yet   one mark for each exercise"
# What a browser or a person adds to the name of a second copy: "(1)", "- Copy", "copy 2", "_2", "final".
COPY = re.compile(r"[-_ ]*(\(\d+\)|(copy|kopie)( \d+)?|v?\d{1,2}|final|new)?[-_ ]*$", re.IGNORECASE)
COPY_OF = re.compile(r"^((copy[-_ ]of|kopie[-_ ]von)[-_ ]+)+", re.IGNORECASE)  # what Google Drive puts before it
NOT_ANSWERS = {"exercises", "solutions"}  # folders of the course itself that a student may hand in with it
PLACES = {"lessons", "notebooks", "answers"}  # in these lies a student's work, but they are no student's name
NOBODYS = {"__pycache__", "__macosx", "thumbs.db", "desktop.ini"}  # what systems leave in folders, as .DS_Store
PACKED = {".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".bz2"}


@dataclass
class HandedIn:
    """What was found: student → lesson → files, and every other file with why it was left out."""

    files: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    ignored: list[tuple[Path, str]] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------
# Finding files
# ---------------------------------------------------------------------------------------------


def student_and_lesson(stem: str) -> tuple[str, str] | None:
    """What the name of a file says: ("anna", "01_pixels") for anna_01_pixels (1); None if it names no lesson."""
    stem = COPY_OF.sub("", stem)
    if not (found := find_lesson(stem)):
        return None
    lesson, match = found
    rest = stem[match.end() :]
    rest = "" if COPY.fullmatch(rest) else rest.strip("-_ ")
    return " ".join(part for part in (stem[: match.start()].strip("-_ "), rest) if part), lesson


def find_files(folder: Path) -> HandedIn:
    """All answers in a folder and below it: NAME/01_pixels.py, NAME_01_pixels.ipynb, and both in one folder.

    Of several files of one student and lesson all count: the best mark of each exercise stands. Who handed in nothing
    that can be checked has no files.
    """
    found = HandedIn()
    answers = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = path.relative_to(folder)
        if any(part.startswith(".") or part.lower() in NOBODYS for part in place.parts):
            continue
        if why := _why_not(path, place):
            found.ignored.append((place, why))
        else:
            answers.append(path)
    homes = {_names_above(path, folder) for path in answers if not student_and_lesson(path.stem)[0]} - {()}
    known: dict[str, str] = {}  # a student's name in small letters → as it was written first
    for path in answers:
        student = _student_of(path, folder, homes)
        student = known.setdefault(student.casefold(), student)
        found.files.setdefault(student, {}).setdefault(student_and_lesson(path.stem)[1], []).append(path)
    heads = {student.split("/")[0].casefold() for student in found.files}
    for place, _ in found.ignored:
        named = student_and_lesson(place.stem)
        head = unicodedata.normalize("NFC", place.parts[0] if len(place.parts) > 1 else named[0] if named else "")
        if head and head.casefold() not in heads | PLACES | NOT_ANSWERS:
            found.files.setdefault(known.setdefault(head.casefold(), head), {})
    order = sorted(found.files, key=lambda student: unicodedata.normalize("NFD", student).casefold())
    found.files = {student: found.files[student] for student in order}
    return found


def _why_not(path: Path, place: Path) -> str:
    """Why a file is left out; empty if it has answers to the lesson that its name says."""
    named = student_and_lesson(path.stem)
    if NOT_ANSWERS & {part.lower() for part in place.parts[:-1]}:
        return "lies in a folder of the course itself"
    if path.suffix.lower() in PACKED:
        return "is packed: unpack it, then check again"
    if path.suffix.lower() not in (".py", ".ipynb"):
        return "neither a script nor a notebook"
    if other := lesson_by_content(path, named and named[1]):
        return f"has answers to {other}: give it that name, then check again"
    return "" if named else "not named like a lesson, such as 01_pixels.py"


def _names_above(path: Path, folder: Path) -> tuple[str, ...]:
    """The folders in which a file lies, without those that every student may have."""
    return tuple(part for part in path.relative_to(folder).parts[:-1] if part.lower() not in PLACES)


def _student_of(path: Path, folder: Path, homes: set[tuple[str, ...]]) -> str:
    """Whose file it is. A folder with answers that are not named after anybody is a student's, with all below it."""
    above, (name, _) = _names_above(path, folder), student_and_lesson(path.stem)
    for length in range(1, len(above) + 1):
        if above[:length] in homes:
            above, name = above[:length], ""
            break
    if above and name.casefold() in above[-1].casefold():
        name = ""
    return unicodedata.normalize("NFC", "/".join([*above, *([name] if name else [])])) or folder.resolve().name


# ---------------------------------------------------------------------------------------------
# Grading in a process of its own
# ---------------------------------------------------------------------------------------------


class _Clock(threading.Thread):
    """Ends this process when the answer in hand has used up its processor time, and says so first."""

    def __init__(self, seconds: float, say):
        super().__init__(daemon=True)
        self.seconds, self.say = seconds, say
        self.in_hand: tuple[int, str] | None = None
        self.begun = 0.0

    def run(self) -> None:
        while True:
            time.sleep(0.1)
            if self.in_hand and time.process_time() - self.begun > self.seconds:
                self.say([*self.in_hand, "late", f"No answer within {self.seconds:g} seconds of processor time."])
                os._exit(0)


def grade_files(files: list[Path], settled: set[tuple[int, str]], seconds: float) -> None:
    """What the child process does: for every exercise a line of JSON when it is begun, and one with its verdict."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the programs print that an answer starts must not come between the lines

    def say(line: list) -> None:
        print(json.dumps(line), file=out, flush=True)

    clock = _Clock(seconds, say)
    clock.start()
    with contextlib.redirect_stdout(sys.stderr):
        for number, path in enumerate(files):
            names, problems = answers_in(path)
            for identity in _exercises_of(path):
                if (number, identity) not in settled:
                    say([number, identity])  # from now on its time is counted
                    clock.begun, clock.in_hand = time.process_time(), (number, identity)
                    verdict = grade_in(identity, names, problems)
                    clock.in_hand = None
                    say([number, identity, verdict.status, verdict.message])


def _exercises_of(path: Path) -> list[str]:
    _, lesson = student_and_lesson(path.stem)
    return [identity for identity in exercises() if identity[:2] == lesson[:2]]


def grade_student(files: dict[str, list[Path]]) -> dict[str, Verdict]:
    """Identity → verdict for all exercises of a student's files; of several files the best counts."""
    paths = [path for several in files.values() for path in several]
    wanted = [(number, identity) for number, path in enumerate(paths) for identity in _exercises_of(path)]
    verdicts: dict[tuple[int, str], Verdict] = {}
    while open_ones := [each for each in wanted if each not in verdicts]:
        before = len(verdicts)
        in_hand, late = _grade_until_stuck(paths, verdicts)
        stuck = in_hand or (open_ones[0] if len(verdicts) == before else None)
        if stuck:  # it is what stopped the others
            waited = f"No answer, and no work either, for {PATIENCE * SECONDS} seconds."
            verdicts[stuck] = Verdict("late", waited) if late else Verdict("wrong", "It ended the whole program.")
    found: dict[str, Verdict] = {}
    for (_, identity), verdict in verdicts.items():
        found[identity] = best(found.get(identity), verdict)
    return {identity: found[identity] for identity in exercises() if identity in found}


def _grade_until_stuck(paths: list[Path], verdicts: dict) -> tuple[tuple[int, str] | None, bool]:
    """Add the verdicts of one process; which exercise was in hand when it ended, and whether it had to be stopped."""
    settled = json.dumps([list(each) for each in verdicts])
    command = [sys.executable, str(LESSONS / "checks.py"), "--grade", str(SECONDS), settled, *map(str, paths)]
    lines: queue.Queue[bytes | None] = queue.Queue()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:

        def read() -> None:
            for line in process.stdout:
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        in_hand = None
        try:
            while line := lines.get(timeout=PATIENCE * SECONDS if in_hand else SECONDS_TO_START):
                match _understood(line):
                    case [int(number), str(identity)]:
                        in_hand = number, identity
                    case [int(number), str(identity), str(status), str(message)]:
                        in_hand = None
                        verdicts[number, identity] = Verdict(status, message)
        except queue.Empty:
            process.kill()
            return in_hand, True
    return in_hand, False


def _understood(line: bytes) -> object:
    """What a line of JSON says; None where it is none, such as what a library prints when it is imported."""
    try:
        return json.loads(line)
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------


def marks_of(verdicts: dict[str, Verdict], lesson: str) -> str:
    """A mark for each exercise of a lesson; a blank where no file of it was handed in."""
    own = [identity for identity in exercises() if identity[:2] == lesson[:2]]
    return "".join(MARKS[verdicts[identity].status] if identity in verdicts else " " for identity in own)


def messages_of(verdicts: dict[str, Verdict]) -> str:
    """What is wrong with each answer, indented; empty if nothing is."""
    told = [f"{identity}: {verdict.message}" for identity, verdict in verdicts.items() if verdict.message]
    return "\n".join(textwrap.indent(textwrap.fill(line, 106), "    ") for line in told)


def sheet(folder: Path, verbose: bool) -> bool:
    """Print the progress of a class as a table; True if everything is solved."""
    found = find_files(folder)
    if not found.files:
        print(f"{folder}: no files named like lessons (01_pixels.py) in this folder", file=sys.stderr)
        _name_ignored(found.ignored)
        return False
    lessons = sorted({lesson for files in found.files.values() for lesson in files})
    total = sum(identity[:2] == lesson[:2] for identity in exercises() for lesson in lessons)
    width = max(len("student"), *map(len, found.files))
    letters = {lesson: max(len(lesson), len(marks_of({}, lesson))) for lesson in lessons}
    print("  ".join(["student".ljust(width), *(lesson.ljust(letters[lesson]) for lesson in lessons), "solved"]))
    complete = True
    for student, files in found.files.items():
        verdicts = grade_student(files)
        solved = sum(verdict.status == "correct" for verdict in verdicts.values())
        complete &= solved == total
        cells = [marks_of(verdicts, lesson).ljust(letters[lesson]) for lesson in lessons]
        print("  ".join([student.ljust(width), *cells, f"{solved} of {total}"]), flush=True)
        if verbose and (messages := messages_of(verdicts)):
            print(messages)
    print(LEGEND)
    _name_ignored(found.ignored)
    return complete


def _name_ignored(ignored: list[tuple[Path, str]]) -> None:
    """A line for each reason in each student's folder, with the first three files."""
    alike: dict[tuple[str, str], list[Path]] = {}
    for place, why in ignored:
        alike.setdefault((place.parts[0] if len(place.parts) > 1 else "", why), []).append(place)
    for (_, why), places in alike.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        print(f"ignored: {', '.join(map(str, places[:3]))}{more} ({why})")
