"""Checks your answers to the exercises: in a lesson, in a terminal, and for a teacher a whole folder of files.

In a lesson:

    luma_of = check("01a", luma_of)    # not yet, correct, or what differs; the lesson goes on with what is right
    hint("01a")                        # hint("01a", 2) says more

In a terminal:

    python lessons/checks.py           # your own progress in all lessons
    python lessons/checks.py 03        # lesson 3: what is wrong; or 03c, one exercise
    python lessons/checks.py 03 --watch         # again at every save
    python lessons/checks.py 03c --hint         # --hint 2 says more
    python lessons/checks.py handed_in          # a class: a row for each student
    python lessons/checks.py handed_in -v       # with what is wrong

Answers are found in lessons/answers/, in the lesson itself, and in its notebook; the best counts. The exit code is 1
while anything is unsolved.
"""

import argparse
import json
import re
import sys
import textwrap
import time
from pathlib import Path

from course import show_pictures
from grading import (
    Verdict,
    answers_in,
    best,
    exercises,
    grade,
    grade_in,
    hints_of,
    kept_answer,
    lesson_names,
    own_files,
    solution_of,
)
from sheet import LEGEND, grade_files, grade_student, marks_of, messages_of, sheet

EXHIBITS = "14"  # the lesson whose functions have bodies: it shows what they do, and no solution takes their place
SAID = {"not yet": "not yet", "correct": "correct", "wrong": "not right yet", "late": "no answer in time"}


def check(identity: str, answer):
    """Print whether the answer to exercise `identity` is right, and what differs; return the one to go on with.

    That is your answer if it is right, else the course's own. An answer in lessons/answers/ comes before the one given.
    """
    kept = kept_answer(identity)
    answer = answer if kept is None else kept
    verdict = grade(identity, answer)
    right = verdict.status == "correct"
    where = ", in lessons/answers/" if kept is not None else ""
    going_on = "" if right or identity[:2] == EXHIBITS else "; the lesson goes on with the solution"
    help_ = f' (hint("{identity}") helps)' if verdict.status == "not yet" else ""
    print(f"{identity}: {SAID[verdict.status]}{where}{going_on}{help_}")
    _explain(verdict)
    return answer if right else solution_of(identity)


def _explain(verdict: Verdict) -> None:
    if verdict.message:
        print(textwrap.fill(verdict.message, 100, initial_indent="  ", subsequent_indent="  "))
    if verdict.pictures:
        show_pictures(verdict.pictures)


def hint(identity: str, step: int = 1) -> None:
    """Print a hint for an exercise; a larger step says more."""
    hints = hints_of(identity)
    step = min(max(step, 1), len(hints))
    print(textwrap.fill(f"{identity}, hint {step} of {len(hints)}: {hints[step - 1]}", 100))
    if step < len(hints):
        print(
            f'  still stuck? hint("{identity}", {step + 1}), or: python lessons/checks.py {identity} --hint {step + 1}'
        )


# ---------------------------------------------------------------------------------------------
# In a terminal
# ---------------------------------------------------------------------------------------------


def check_own(identities: list[str]) -> bool:
    """Print what your own files make of some exercises; True if all are right."""
    complete = True
    lessons = {lesson: [one for one in identities if one[:2] == lesson[:2]] for lesson in lesson_names()}
    for lesson, wanted in lessons.items():
        if not wanted:
            continue
        verdicts: dict[str, Verdict] = {}
        for path in own_files(lesson):
            names, problems = answers_in(path)
            for identity in wanted:
                verdicts[identity] = best(verdicts.get(identity), grade_in(identity, names, problems))
        for identity, verdict in verdicts.items():
            print(f"{identity}: {SAID[verdict.status]}")
            _explain(verdict)
            complete &= verdict.status == "correct"
    return complete


def watch(identities: list[str]) -> bool:
    """Check again at every save of a file with answers, until all are right."""
    seen: object = None
    while True:
        files = [path for lesson in {one[:2] for one in identities} for path in _watched(lesson)]
        now = {path: path.stat().st_mtime_ns for path in files if path.exists()}
        if now != seen:
            seen = now
            print(time.strftime("\n%H:%M:%S"), flush=True)
            if check_own(identities):
                return True
            print("  (checks again when you save; Ctrl+C ends it)", flush=True)
        time.sleep(0.3)


def _watched(number: str) -> list[Path]:
    return own_files(next(name for name in lesson_names() if name[:2] == number))


def progress(verbose: bool) -> bool:
    """Print your own progress, a row for each lesson; True if everything is solved."""
    everything = grade_student({lesson: own_files(lesson) for lesson in lesson_names()})
    for lesson in lesson_names():
        verdicts = {identity: verdict for identity, verdict in everything.items() if identity[:2] == lesson[:2]}
        solved = sum(verdict.status == "correct" for verdict in verdicts.values())
        print(f"{lesson:24} {marks_of(verdicts, lesson):10} {solved} of {len(verdicts)}")
        if verbose and (messages := messages_of(verdicts)):
            print(messages)
    print(LEGEND)
    return all(verdict.status == "correct" for verdict in everything.values())


def _selected(what: str) -> list[str] | None:
    """The exercises that 03, 3 or 03c names; None if it looks like something else."""
    match = re.fullmatch(r"(\d{1,2})([a-z]?)", what)
    return match and [one for one in exercises() if one.startswith(match[1].zfill(2) + match[2])]


def main(arguments: list[str]) -> int:
    """The command line of this script; returns the exit code."""
    if arguments[:1] == ["--grade"]:
        settled = {(number, identity) for number, identity in json.loads(arguments[2])}
        grade_files([Path(path) for path in arguments[3:]], settled, float(arguments[1]))
        return 0
    parser = argparse.ArgumentParser(description="Checks answers: your own, or those of a class.")
    parser.add_argument("what", nargs="?", help="03 or 03c, or a folder of a class; default: your own progress")
    parser.add_argument("-v", "--verbose", action="store_true", help="also say what is wrong")
    parser.add_argument("--hint", type=int, nargs="?", const=1, metavar="STEP", help="a hint for an exercise")
    parser.add_argument("--watch", action="store_true", help="check again at every save")
    options = parser.parse_args(arguments)
    identities = _selected(options.what) if options.what else None
    if identities == []:
        parser.error(f"{options.what}: no such exercise; they go from {min(exercises())} to {max(exercises())}")
    if (options.hint or options.watch) and identities is None:
        parser.error("--hint and --watch want an exercise or a lesson, such as 03c or 03")
    if options.hint:
        for identity in identities:
            hint(identity, options.hint)
        return 0
    if identities:
        return 0 if (watch if options.watch else check_own)(identities) else 1
    if options.what is None:
        return 0 if progress(options.verbose) else 1
    if not Path(options.what).is_dir():
        parser.error(f"{options.what}: no such folder, nor an exercise such as 03c")
    return 0 if sheet(Path(options.what), options.verbose) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
