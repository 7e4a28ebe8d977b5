"""How a program deals with the person at the keyboard and with the disk.

    run_command     errors in one line, exit codes
    positive …      numbers on the command line: types for argparse
    replacing       a file is written whole or not at all; locked: by one program at a time

Imports nothing that has to be installed, so that a command can complain before it is.
"""

import argparse
import os
import re
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class UserError(Exception):
    """Something that only the person at the keyboard can mend, told in one line; the work failed."""

    exit_code = 1


class UsageError(UserError):
    """The command itself asks for something impossible: no such file, a flag out of range."""

    exit_code = 2


def note(message: str) -> None:
    """Tell the person at the keyboard something in one line, without disturbing a progress bar."""
    line = " ".join(message.splitlines())
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # nothing is installed yet, which is what this line is about
        print(line, file=sys.stderr)
    else:
        tqdm.write(line, file=sys.stderr)


def printable(value, limit: int = 60) -> str:
    """What a stranger's file says, fit for a line on a terminal: no control characters, and no more than `limit`."""
    letters = [letter if letter.isprintable() else " " for letter in str(value)[: limit + 1]]
    return "".join(letters[:limit]) + ("…" if letters[limit:] else "")


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


def run_command(command, options) -> int:
    """Call `command(options)` and return an exit code; what the person must know ends in one line, not a traceback."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the terminal cannot show
        if hasattr(stream, "reconfigure"):
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


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _number(text, float, lambda number: 0 <= number <= 1, "a number from 0 to 1")


def _number(text, kind, allowed, wanted):
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not allowed(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number


# ---------------------------------------------------------------------------------------------
# Files: written whole or not at all
# ---------------------------------------------------------------------------------------------


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; what was written there replaces `path` when all went well.

    A reader sees the old file or the whole new one, and a full disk leaves the old one as it was.
    Raises UserError where the folder or the file cannot be written.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _move(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _move(temporary: Path, path: Path) -> None:
    """Give the file its name; on Windows that must wait while another program, a virus scanner above all, reads it."""
    for wait in (0.1, 0.4, 1.5):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(wait)
    temporary.replace(path)


def _remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed while writing a file here have left, once it is an hour old."""
    for leftover in folder.glob(".*.part"):
        with suppress(OSError):
            if re.fullmatch(r"\..+\.\d+\.part", leftover.name) and time.time() - leftover.stat().st_mtime > 3600:
                leftover.unlink()


def unused(path: Path) -> Path:
    """The path itself if nothing has that name yet, else NAME-2.SUFFIX, NAME-3.SUFFIX …"""
    candidate = path
    count = 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.stem}-{count}{path.suffix}")
    return candidate


@contextmanager
def locked(path: Path):
    """Hold the lock of a checkpoint: two trainings of the same kind would write the same file.

    Raises UsageError where another one has it, UserError where nothing can be written. The system lets go of it when
    a process ends, however it ends.
    """
    lock = path.with_name(f".{path.stem}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    with open(lock, "w") as file:
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise UsageError(f"{path}: another training is at it: wait for it, or give -n to start another") from error
        except OSError:  # a file system that knows no locks
            pass
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not delete what is open: an empty file is left
                lock.unlink()
