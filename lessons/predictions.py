"""Predictions: a guess is kept before the cell is run, and the answer told after it.

    predict("03", 28.5)               # None asks in the terminal; in a notebook, write the guess in its place
    ...
    outcome("03", 29.3)               # what came out, beside what was predicted, by you and by the class

A guess is a number, or words. Guesses are kept in lessons/answers/predictions/NAME.json, or in a folder that a class
shares, SR_CLASS=FOLDER. Several such files are the class. A guess that was told its answer stays as it was.
"""

import getpass
import json
import os
import re
import statistics
import sys
import textwrap
from collections import Counter
from pathlib import Path

from course import ANSWERS, IN_NOTEBOOK


def predict(question: str, guess=None) -> None:
    """Keep a guess, a number or words, and show how far the class is apart; None keeps what was guessed before."""
    if isinstance(guess, bool) or not isinstance(guess, int | float | str | None):
        raise TypeError(f"a guess is a number or words, not a {type(guess).__name__}")
    kept = _read(_own_file()).get(question)
    if guess is None and kept is None and not IN_NOTEBOOK and not sys.stdin.closed and sys.stdin.isatty():
        print(question_in(Path(sys.argv[0]), question))
        typed = input(f"{question}: your prediction (Enter: none)? ").strip()
        guess = _as_number(typed) if typed else None
    if kept and kept["told"] and guess not in (None, kept["guess"]):
        print(f"{question}: your prediction stays {kept['guess']}: you have seen the answer since")
    elif guess is not None:
        kept = {"guess": guess, "told": False}
        _keep(question, kept)
    print(f"{question}: you predict {kept['guess']}" if kept else f"{question}: write your prediction instead of None")
    if kept:
        _tell_spread(question)


def outcome(question: str, answer) -> None:
    """Tell the answer to a prediction beside what was predicted."""
    shown = f"{answer:.3g}" if isinstance(answer, float) else str(answer)
    kept = _read(_own_file()).get(question)
    print(f"{question}: you predicted {kept['guess']}; it is {shown}" if kept else f"{question}: it is {shown}")
    if kept:
        _keep(question, {**kept, "told": True})
        _tell_spread(question)


def question_in(script: Path, question: str) -> str:
    """The paragraph of a lesson's script that asks for this prediction; nothing if one above has shown it."""
    text = script.read_text(encoding="utf-8") if script.is_file() else ""
    before, found, _ = text.partition(f'predict("{question}"')
    asked = before.rfind("**Predict before you run.**")
    if not found or asked < 0 or "predict(" in before[asked:]:
        return ""
    start, end = before.rfind("\n#\n", 0, asked), re.compile(r"\n(#?\n|# %%)").search(before, asked)
    lines = before[max(start, before.rfind("# %%", 0, asked)) : end and end.start()].splitlines()
    words = " ".join(line.removeprefix("#").strip() for line in lines if not line.startswith("# %%"))
    return "\n" + textwrap.fill(words.replace("**", "").strip(), 100)


def _tell_spread(question: str) -> None:
    """One line about the guesses of all, if there are several."""
    guesses = [kept[question]["guess"] for path in _folder().glob("*.json") if question in (kept := _read(path))]
    numbers = sorted(guess for guess in guesses if not isinstance(guess, str))
    if len(numbers) > 1:
        quarters = statistics.quantiles(numbers, n=4, method="inclusive")
        print(
            f"  the class, {len(numbers)} predictions: {numbers[0]:g} to {numbers[-1]:g}, half of them "
            f"{quarters[0]:g} to {quarters[2]:g}, in the middle {quarters[1]:g}"
        )
    words = Counter(guess.strip().lower() for guess in guesses if isinstance(guess, str))
    if sum(words.values()) > 1:
        told = ", ".join(f"{count} × {word}" for word, count in words.most_common(5))
        print(f"  the class, {sum(words.values())} predictions: {told}")


def _as_number(text: str):
    try:
        return float(text.replace(",", ".").replace("−", "-"))
    except ValueError:
        return text


def _folder() -> Path:
    return Path(os.environ.get("SR_CLASS") or ANSWERS / "predictions")


def _own_file() -> Path:
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no account, as in some containers
        name = "you"
    return _folder() / f"{''.join(letter if letter.isalnum() else '_' for letter in name)}.json"


def _read(path: Path) -> dict:
    """Question → {"guess", "told"}; nothing of what cannot be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {key: value for key, value in kept.items() if {"guess", "told"} <= set(value)}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _keep(question: str, kept: dict) -> None:
    path = _own_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".part")
    new.write_text(json.dumps({**_read(path), question: kept}, indent=1), encoding="utf-8")
    new.replace(path)
