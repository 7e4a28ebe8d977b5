"""Files of weights, opened as if a stranger had made them: nothing in them runs, and what is damaged is refused.

    head, load = open_weights(path)     # tensors without their values; then, once they are wanted, those too

What a file says of itself is read first (see contents.py) and measured against what the file holds. torch.load comes
last, with `weights_only=True`, and finds an inert class in place of every one that is none of PyTorch's own.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from engine.contents import Contents, Made, read_contents
from imaging.console import UsageError, UserError, printable

# ---------------------------------------------------------------------------------------------
# What kind of file it is
# ---------------------------------------------------------------------------------------------

ARCHIVE = b"PK\x03\x04"  # torch.save since 1.6
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before: the pickled number that marks its files

# Other things that are given for weights: how they begin, and what to say.
KINDS = {
    rb"\Z": "is empty",
    rb"version https://git-lfs": "is only a pointer of Git LFS: `git lfs pull` fetches the file itself",
    rb"(?i)\s*<(!doctype|html|head|body)": "is a web page: fetch the file itself",
    rb"\s*<": "is a text file in XML, not weights",
    rb"7767517\s": "is a network of ncnn (.param), which holds no weights of PyTorch",
    rb"\0+\Z": "is full of zeros, as after a download that did not end: fetch it again",
    rb"\x47\x6b\x30\x01|\0\0\0\0": "is a file of numbers as ncnn (.bin) has them, not weights of PyTorch",
    rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x3a\x42]": "is an ONNX network, not weights of PyTorch",
    rb"\x89HDF": "is an HDF5 file, as Keras has them, not weights of PyTorch",
    rb".{4}TFL3": "is a TensorFlow Lite network, not weights of PyTorch",
    rb"GGUF": "is a GGUF file, not weights of PyTorch",
    rb"MATLAB": "is a MATLAB file, not weights of PyTorch",
    rb"\x93NUMPY": "is a NumPy array, not weights of PyTorch",
    rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|BM|II\*\0|MM\0\*|8BPS|.{4}(ftyp|jP  )": "is a picture: -i takes it",
    rb"%PDF": "is a PDF",
    rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd|.{257}ustar": "is packed: unpack it first",
    rb"\x80[\x02-\x05]": "is a pickle of Python objects, which could run code, not weights alone",
}
BEGINNING = 512  # bytes, in which the kind shows


def named_kind(beginning: bytes) -> str:
    """What to say of a file that is no kind of weights."""
    for pattern, what in KINDS.items():
        if re.match(pattern, beginning, re.DOTALL):
            return what
    text = beginning.decode("utf-8", "replace")[:-1]  # the last letter may be cut
    if all((letter.isprintable() and letter != "\ufffd") or letter in "\t\r\n" for letter in text):
        return "is a text file, not weights"
    return "is no file of weights, or its beginning is damaged"


# ---------------------------------------------------------------------------------------------
# Opening it
# ---------------------------------------------------------------------------------------------

BLOCKED = re.compile(r"(os|nt|posix|sys|subprocess|builtins\.(eval|exec|compile|__import__))\b")
MAX_NAMES = 100  # of classes and functions that one file names
MAX_PICKLE = 2**26  # bytes of what an archive says of itself; that of a whole training of ESRGAN takes 0.1 MB

Result = TypeVar("Result")
Loader = Callable[[], Any]  # reads a whole file, whose checksums it verifies


def open_weights(path, last: str = "") -> tuple[Any, Loader]:
    """What a file of weights holds, .safetensors or torch's own kind: without values, and what reads it with them.

    Without values it may end at the entry `last`.
    Raises UsageError for no file, UserError for one that cannot be opened, as `load` does; the caller knows its name.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(
            "is a folder, not a checkpoint"
            if path.is_dir()
            else "is no ordinary file"
            if path.exists()
            else "no such checkpoint"
        )
    try:
        with open(path, "rb") as file:
            beginning = file.read(BEGINNING)
            if beginning[4:9] == b"\0\0\0\0{":  # eight bytes of length, then JSON: the content decides
                loaded = load_safetensors(path)
                return loaded, lambda: loaded
            contents = read_archive(file, last) if beginning.startswith(ARCHIVE) else read_legacy(file, beginning)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}") from error
    check_names(contents)
    return contents.value, lambda: load_torch(path, contents)


def load_safetensors(path: Path) -> dict:
    """The tensors of a .safetensors file."""
    try:
        from safetensors.torch import load_file  # only who has such files needs the package

        return load_file(path)
    except ImportError as error:
        raise UserError("is a .safetensors file: to read it, pip install safetensors") from error
    except Exception as error:  # anything at all may be wrong with a file
        raise UserError(f"is a .safetensors file that is damaged ({printable(error)})") from error


def read_archive(file, last: str = "") -> Contents:
    """What an archive by torch.save says that it holds."""
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:
        raise UserError("is cut off or damaged, as by a download that did not end: fetch it again") from error
    records = {entry.filename: entry for entry in archive.infolist()}
    tops = [name.removesuffix("data.pkl") for name in records if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if not tops:
        what = "NumPy's arrays" if any(name.endswith(".npy") for name in records) else "other files"
        raise UserError(f"is a .zip archive of {what}, not weights of PyTorch: unpack it first")
    if f"{tops[0]}constants.pkl" in records:
        raise UserError("is a TorchScript program, not weights alone: save its state_dict() with torch.save")
    file.seek(0, io.SEEK_END)
    if any(entry.compress_type for entry in records.values()):
        raise UserError("is a compressed archive, which torch.save never writes: unpack it, and save it again")
    if sum(entry.file_size for entry in archive.infolist()) > file.tell() or len(records) < len(archive.infolist()):
        raise UserError("is damaged: it says that it holds more than it does")
    if records[f"{tops[0]}data.pkl"].file_size > MAX_PICKLE:
        raise UserError("says more of itself than weights ever need: it is not opened")
    pickled = io.BytesIO(understood(lambda: archive.read(f"{tops[0]}data.pkl")))
    contents = understood(lambda: read_contents(pickled, last=last))
    for stored in contents.stored:
        record = records.get(f"{tops[0]}data/{stored.record}")
        if record is None or record.file_size != stored.count * stored.dtype.itemsize:
            raise UserError("is damaged: its tensors are not what it says of them")
    return contents


def read_legacy(file, beginning: bytes) -> Contents:
    """What a file by an old torch.save says that it holds: the fourth of its pickles."""
    if not beginning.startswith(LEGACY):
        raise UserError(named_kind(beginning))
    file.seek(0)
    contents = understood(lambda: read_contents(file, pickles=4))
    start, end = file.tell(), file.seek(0, io.SEEK_END)
    if sum({stored.record: stored.count * stored.dtype.itemsize for stored in contents.stored}.values()) > end - start:
        raise UserError("is cut off, as by a download that did not end: fetch it again")
    return contents


def understood(read: Callable[[], Result]) -> Result:
    """What `read` returns. Raises UserError where it fails."""
    try:
        return read()
    except Exception as error:  # anything at all may be wrong with a stranger's pickle
        raise UserError("is damaged, or holds what cannot be opened safely") from error


def check_names(contents: Contents) -> None:
    """Raises UserError for a file that asks for what no weights need, or holds a whole network as Python objects."""
    for name in sorted(contents.names):
        if BLOCKED.match(name):
            raise UserError(f"asks for {printable(name)}, as an attack does: it is not opened")
    if len(contents.names) > MAX_NAMES:
        raise UserError(f"names {len(contents.names)} classes and functions: it is not opened")
    if isinstance(contents.value, Made):
        raise UserError(
            f"is a whole module, pickled ({printable(contents.value.name)}), which could run code: "
            "save its state_dict() instead"
        )


class Foreign:
    """Stands for every class and function that is not PyTorch's own: takes anything and does nothing."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, _):
        pass


def load_torch(path: Path, contents: Contents) -> Any:
    """All that a file by torch.save holds. Raises UserError where a checksum or anything else does not fit."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a refusal is one line
            check_sums(file)
            file.seek(0)
            with torch.serialization.safe_globals([(Foreign, name) for name in contents.names]):
                return torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:
        others = [name for name in sorted(contents.names) if not name.startswith(("torch.", "collections."))]
        classes = f" (it names {', '.join(map(printable, others[:3]))})" if others else ""
        raise UserError(f"is damaged, or holds what cannot be opened safely{classes}") from error


def check_sums(file) -> None:
    """Raises UserError for an archive in which a byte is not what was written. Older files have no checksums."""
    if file.read(len(ARCHIVE)) != ARCHIVE:
        return
    try:
        spoilt = zipfile.ZipFile(file).testzip()
    except Exception:  # the local header of an entry is spoilt
        spoilt = "an entry"
    if spoilt:
        raise UserError(f"is damaged: {printable(spoilt)} is not what was written, by its checksum: fetch it again")
