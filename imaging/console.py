"""How a program deals with the person at the keyboard.

    run_command     errors in one line, exit codes
    positive …      numbers on the command line: types for argparse

Imports nothing that has to be installed, so that a command can complain before it is.
"""

import argparse
import os
import sys
from contextlib import contextmanager, suppress
from pathlib import Path


class UserError(Exception):
    """Something that only the person at the keyboard can mend, told in one line; the work failed."""

    exit_code = 1


class UsageError(UserError):
    """The command itself asks for something impossible: no such file, a flag out of range."""

    exit_code = 2


def one_line(text) -> str:
    """A text as it can be printed: names of files may hold line breaks, and what a terminal takes for commands."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).splitlines()))


def note(message: str) -> None:
    """Tell the person at the keyboard something in one line, without disturbing a progress bar."""
    line = one_line(message)
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # nothing is installed yet, which is what this line is about
        print(line, file=sys.stderr)
    else:
        tqdm.write(line, file=sys.stderr)


def printable(value, limit: int = 60) -> str:
    """What a stranger's file says, fit for a line on a terminal: no control characters, and no more than `limit`."""
    line = one_line(str(value)[: limit + 1])
    return line[:limit] + ("…" if line[limit:] else "")


@contextmanager
def quiet():
    """While this lasts, what C libraries write to standard error goes nowhere: they return their errors besides."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()
    try:
        terminal = os.dup(2)
    except OSError:  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


class Parser(argparse.ArgumentParser):
    """argparse, but wrong use is told in one line instead of after a page of usage."""

    def error(self, message: str):
        """Say what is wrong and leave with exit code 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: PyTorch has no one exception for it, so its words count too."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


@contextmanager
def one_of_many(path):
    """Whatever goes wrong in here with the file `path` is a UserError that names it: the other files go on."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise UserError(f"{path}: out of memory") from error
        if isinstance(error, OSError):
            raise UserError(f"{path}: {error.strerror or error}") from error
        import traceback  # slow to import, and rarely needed

        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{path}: a fault in this program: please report this line, and the file if you may "
            f"({type(error).__name__} in {Path(place.filename).name}, line {place.lineno}: {error})"
        ) from error


def run_command(command, options) -> int:
    """Call `command(options)` and return an exit code; what the person must know ends in one line, not a traceback."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by a service or by 2>&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (for as long as we run)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a file's name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        command(options)
        return 0
    except UserError as error:
        note(f"error: {error}")
        return error.exit_code
    except ModuleNotFoundError as error:
        return tell_missing(error)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        note("error: out of memory: try smaller pictures, with train a smaller -b, with upscale a smaller --tile")
        return 1
    except KeyboardInterrupt:
        note("stopped")
        return 130
    except BrokenPipeError:  # the reader of our output has left, as `head` does
        sys.stdout = None
        return 1
    except OSError as error:
        note(f"error: {error.filename or 'file system'}: {error.strerror or error}")
        return 1


def tell_missing(error: ModuleNotFoundError) -> int:
    """Say in one line which package is not installed; returns the exit code."""
    note(f"error: {error.name} is not installed here: activate .venv, or see Start in README.md")
    return 1


def explain_missing_packages() -> None:
    """Have a package that is missing told in one line; for scripts that import some on top: call it before that."""

    def hook(kind, error, traceback) -> None:
        if isinstance(error, ModuleNotFoundError):
            tell_missing(error)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = hook


# ---------------------------------------------------------------------------------------------
# Numbers on the command line: types for argparse
# ---------------------------------------------------------------------------------------------


def positive(text: str) -> int:
    """A whole number from 1 up."""
    return _number(text, int, lambda number: number >= 1, "a whole number from 1 up")


def not_negative(text: str) -> int:
    """A whole number from 0 up, within 63 bits."""
    return _number(text, int, lambda number: 0 <= number < 2**63, "a whole number from 0 up")


def percent(text: str) -> int:
    """A whole number from 1 to 100."""
    return _number(text, int, lambda number: 1 <= number <= 100, "a whole number from 1 to 100")


def tile_side(text: str) -> int:
    """Pixels a side of a tile."""
    return _number(text, int, lambda number: number >= 32, "a whole number from 32 up")


def scale(text: str) -> int:
    """How many times larger."""
    return _number(text, int, lambda number: 2 <= number <= 8, "a whole number from 2 to 8")


def positive_real(text: str) -> float:
    """A finite number above 0."""
    return _number(text, float, lambda number: 0 < number < float("inf"), "a number above 0")


def enlargement(text: str) -> float:
    """A factor that pictures can be enlarged or shrunk by."""
    return _number(text, float, lambda number: 1e-3 <= number <= 1e5, "a number from 0.001 to 100000")


def not_negative_real(text: str) -> float:
    """A finite number from 0 up."""
    return _number(text, float, lambda number: 0 <= number < float("inf"), "a number from 0 up")


def moment(text: str) -> float:
    """A time in a film: seconds, or hours, minutes and seconds with colons between them."""
    parts = text.split(":")
    wanted = "a time such as 90, 1:30 or 0:01:30.5"
    numbers = [_number(part, float, lambda number: 0 <= number < float("inf"), wanted) for part in parts]
    if len(parts) > 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return sum(number * 60**power for power, number in enumerate(reversed(numbers)))


def not_empty(text: str) -> str:
    """A name; none at all, as a variable gives that is not set, would mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a name")
    return text


def file_name(text: str) -> Path:
    """The name of a file or a folder."""
    return Path(not_empty(text))


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def plain_name(text: str) -> str:
    """The name of a folder in another one."""
    if text in ("", ".", "..", "pretrained") or text.startswith(".") or any(sign in text for sign in '/\\:*?"<>|'):
        raise argparse.ArgumentTypeError(f"{text!r} is not a plain name for a folder")
    return text


def _number(text, kind, allowed, wanted):
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not allowed(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number
