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
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
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


class InUseError(UsageError):
    """Another process is making the same file."""


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


# ---------------------------------------------------------------------------------------------
# Files: written whole or not at all
# ---------------------------------------------------------------------------------------------


MAX_NAME = 255  # bytes in the name of a file; Windows counts UTF-16 units, which are never more


def shortened(name: str, most: int = MAX_NAME) -> str:
    """A name of at most `most` bytes: the end of a longer one gives way to a hash of it, so that names stay unlike."""
    data = os.fsencode(name)
    if len(data) <= most:
        return name
    ending = f"~{zlib.crc32(data):08x}"
    return data[: most - len(ending)].decode(errors="ignore") + ending


def _hidden(path: Path, ending: str) -> Path:
    """What belongs to the file `path` while it is made, beside it."""
    return path.with_name(f".{shortened(path.name, MAX_NAME - 1 - len(ending))}{ending}")


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; what was written there replaces `path` when all went well.

    A reader sees the old file or the whole new one, and a full disk leaves the old one as it was.
    Raises UserError where the folder or the file cannot be written.
    """
    path = Path(path)
    if not path.name or path.is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no ordinary file; give another name")
    if path.is_symlink():
        path = path.resolve()  # the link stays, and its file is replaced
    temporary = _hidden(path, f".{os.getpid()}.part")
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
    for leftover in (*folder.glob(".*.part"), *folder.glob(".*.lock")):
        with suppress(OSError):
            is_ours = re.fullmatch(r"\..+(\.\d+\.part|\.lock)", leftover.name)
            if not is_ours or time.time() - leftover.stat().st_mtime < 3600:
                continue
            if leftover.suffix == ".part":
                leftover.unlink()
            elif (descriptor := _locked_file(leftover)) is not None:  # no process has it
                leftover.unlink()
                os.close(descriptor)


def unused(path: Path) -> Path:
    """The path itself if nothing has that name yet, else NAME-2.SUFFIX, NAME-3.SUFFIX …"""
    return next(candidate for candidate in _numbered(path) if not candidate.exists())


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


@contextmanager
def locked(path: Path, told: str = "another run is at it"):
    """Hold the lock of a file that is being made: another process would make the same.

    Raises InUseError where another one has it, UserError where nothing can be written. The system lets go of it when a
    process ends, however it ends.
    """
    lock = _hidden(path, ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _locked_file(lock)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    if descriptor is None:
        raise InUseError(f"{path}: {told}")
    try:
        yield
    finally:
        with suppress(OSError):
            if sys.platform != "win32":  # which does not delete what is open
                lock.unlink()
        os.close(descriptor)
        with suppress(OSError):
            if sys.platform == "win32":
                lock.unlink()


def _locked_file(lock: Path) -> int | None:
    """The open file `lock` with its lock, None if another process has it. Raises OSError if it cannot be opened."""
    for attempt in count():
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return None
        except OSError:  # a file system that knows no locks
            return descriptor
        with suppress(FileNotFoundError):
            # Some file systems of networks number files anew all the time.
            if os.path.samestat(os.fstat(descriptor), lock.stat()) or attempt >= 9:
                return descriptor
        os.close(descriptor)  # who had it deleted it in between, and another process may have made a new one
    return None


@contextmanager
def claimed(path: Path):
    """Yield a name that no file has and no other process is about to give, numbered as by `unused`, and hold it."""
    for candidate in _numbered(path):
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(candidate))
            except InUseError:
                continue
            if not candidate.exists():
                yield candidate
                return
