"""What a file of weights says of itself, read without building or running anything of it.

torch.save writes a pickle: a little program that names classes and functions, and where each tensor's values lie.
Here that program is followed with nothing but lists and dictionaries in hand. Tensors come out on the meta device,
shapes without values, and what a class or a function would have made comes out as its name. So a file can be judged
before it is opened, and a folder of large checkpoints is read in a moment.
"""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # what Python 2 called things, and protocol 2 still does
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

MAX_STEPS = 1_000_000  # of the pickle: a whole training of ESRGAN with all it remembers takes 200,000


@dataclass(eq=False)
class Named:
    """A class or a function that a file names."""

    name: str  # with its module


@dataclass(eq=False)
class Made:
    """What a class or a function of that name would have made. Nothing was called."""

    name: str


@dataclass(eq=False)
class Stored:
    """Where the values of a tensor lie."""

    record: str  # the entry data/RECORD of the archive
    dtype: torch.dtype
    count: int  # of values, as the file says


@dataclass
class Contents:
    """What a file holds, and what it needs for that."""

    value: Any = None
    names: set[str] = field(default_factory=set)  # of classes and functions
    stored: list[Stored] = field(default_factory=list)


DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip

VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": lambda: Made("builtins.set"),
}  # fmt: skip
# How many of the last items on the stack an operation takes.
TAKEN = {
    "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2, "REDUCE": 2, "NEWOBJ": 2, "BUILD": 1,
    "BINPERSID": 1,
}  # fmt: skip
TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3"}


def read_contents(stream, pickles: int = 1, last: str = "") -> Contents:
    """The last of so many pickles in a row. It ends at the entry `last` of its dictionary, which is left empty.

    Raises all kinds of exceptions for a stream that is no such thing.
    """
    contents = Contents()
    for _ in range(pickles):
        contents.value = _Reader(contents).read(stream, last)
    return contents


class _Reader:
    """Follows one pickle: a machine with a stack, and a memo of what is mentioned more than once."""

    def __init__(self, contents: Contents):
        self.contents = contents
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, stream, last: str) -> Any:
        push = self.stack.append
        argument: Any
        for steps, (operation, argument, _) in enumerate(pickletools.genops(stream)):
            name = operation.name
            if steps == MAX_STEPS:
                raise ValueError("too long")
            if name in ("LONG_BINPUT", "BINPUT"):  # the most frequent ones come first
                self.memo[argument] = self.stack[-1]
            elif name in VALUES:
                push(argument)
                if argument == last and self.marks == [1] and len(self.stack) % 2 == 0:
                    # On the stack lie the dictionary and, by turns, the keys and the values that it will hold.
                    pairs = zip(self.stack[1::2], [*self.stack[2::2], {}], strict=True)
                    return {key_of(key): value for key, value in pairs}
            elif name in ("BINGET", "LONG_BINGET"):
                push(self.memo[argument])
            elif name in CONSTANTS:
                push(CONSTANTS[name]())
            elif name == "MARK":
                self.marks.append(len(self.stack))
            elif name in ("TUPLE", "APPENDS", "SETITEMS"):
                start = self.marks.pop()
                items = self.stack[start:]
                del self.stack[start:]
                self.put_together(name, items)
            elif count := TAKEN.get(name):
                items = self.stack[-count:]
                del self.stack[-count:]
                self.put_together(name, items)
            elif name == "GLOBAL":
                push(self.named(*argument.split(" ", 1)))
            elif name == "STOP":
                return self.stack.pop()
            elif name != "PROTO":
                raise ValueError(f"{name} is nothing that torch.save writes")
        raise EOFError

    def put_together(self, name: str, items: list) -> None:
        """What the last items on the stack become, or what they do to what lies under them."""
        if name.startswith("TUPLE"):
            self.stack.append(tuple(items))
        elif name.startswith("APPEND"):
            if isinstance(self.stack[-1], list):
                self.stack[-1].extend(items)
        elif name.startswith("SETITEM"):
            if isinstance(self.stack[-1], dict):  # else it is Made, and of no use
                self.stack[-1].update((key_of(key), value) for key, value in zip(items[::2], items[1::2], strict=True))
        elif name == "BINPERSID":
            self.stack.append(self.stored(*items[0]))
        elif name != "BUILD":  # attributes are of no use: it leaves what it is given as it was
            self.stack.append(self.made(*items))

    def named(self, module: str, name: str) -> Named:
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.contents.names.add(f"{module}.{name}")
        return Named(f"{module}.{name}")

    def stored(self, kind: str, storage: Named, record: str, _, count: int | None = None, *__) -> Stored | Named:
        """From what stands in the place of a tensor's values; old files put classes of modules in such places too."""
        if kind == "module":
            return storage
        if kind != "storage" or not isinstance(count, int) or count < 0:
            raise ValueError("no storage")
        stored = Stored(record, DTYPES[storage.name.split(".")[-1]], count)
        self.contents.stored.append(stored)
        return stored

    def made(self, maker, arguments) -> Any:
        """What would be made of `arguments`: dictionaries and tensors are, of the rest only the name is kept."""
        if not isinstance(maker, Named):
            raise ValueError("calls what is no name")
        if maker.name in ("collections.OrderedDict", "collections.Counter"):
            pairs = arguments[0] if arguments else ()
            return {key_of(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}
        if maker.name == "torch._utils._rebuild_parameter":
            return arguments[0]
        if maker.name in TENSORS and isinstance(arguments[0], Stored):
            return meta_tensor(*arguments)
        return Made(maker.name)


def key_of(key):
    """The key of a dictionary; tuples in tuples are refused, as hashing them may take forever."""
    if isinstance(key, tuple) and not all(isinstance(part, (str, int, float, Made)) for part in key):
        raise ValueError("a key that is none")
    return key


def meta_tensor(stored: Stored, _, size, stride, *others) -> Tensor:
    """A tensor's shape and type. Raises ValueError for one that has more values than are stored of it."""
    dtype = stored.dtype
    if len(others) > 2 and isinstance(others[2], Named):  # of the newest types there are no storages
        dtype = getattr(torch, others[2].name.removeprefix("torch."))
    tensor = torch.empty(size, dtype=dtype, device="meta")
    if tensor.numel() * tensor.itemsize > stored.count * stored.dtype.itemsize:
        raise ValueError("a tensor is larger than what is stored of it")
    return tensor
