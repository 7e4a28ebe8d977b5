"""Files are written whole or not at all, by one program at a time, and under names that no other file has.

    check_writable, check_folder    better told now than after the work
    replacing   a temporary name, which becomes the file's when all went well
    locked      while a file is made, no other process makes the same
    unused, claimed, shortened    names

Pictures and films have rooms of their own: imaging/saving.py, imaging/film_writing.py.
"""

import os
import re
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

from imaging.console import UsageError, UserError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_NAME = 255  # bytes in the name of a file; Windows counts UTF-16 units, which are never more


class InUseError(UsageError):
    """Another process is making the same file."""


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


def _ordinary(path) -> Path:
    """The file that is replaced: of a link that where it leads. Raises UsageError for what is no ordinary file."""
    path = Path(path)
    if not path.name or path.is_dir():
        raise UsageError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: is no ordinary file; give another name")
    return path.resolve() if path.is_symlink() else path


def check_writable(path) -> None:
    """Raise now what `replacing` would raise after the work; the folder is made where there is none."""
    path = Path(path)
    try:
        _try_to_write(_ordinary(path).parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_folder(folder) -> None:
    """The same for a folder: UsageError for a file of that name, UserError where nothing can be written in it."""
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"cannot write {folder}/: is a file; give a folder")
        _try_to_write(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}/: {error.strerror or error}") from error


def _try_to_write(folder: Path) -> None:
    """Only the attempt tells: of rights, read-only disks and folders of the system each says something else."""
    folder.mkdir(parents=True, exist_ok=True)
    attempt = folder / f".attempt.{os.getpid()}.part"
    attempt.touch()
    attempt.unlink(missing_ok=True)


@contextmanager
def replacing(path):
    """Yield a temporary path beside `path`; what was written there replaces `path` when all went well.

    A reader sees the old file or the whole new one, and a full disk leaves the old one as it was.
    Raises UserError where the folder or the file cannot be written.
    """
    path = _ordinary(path)  # a link stays, and its file is replaced
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
