"""Checkpoints as a stranger, a broken download or a mistake makes them: one line, or the right network. Never more."""

import copy
import math
import pickle
import random
import struct
import time
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from test_checkpoints import make_checkpoint, make_rrdb

from engine import opening, resume
from engine.checkpoints import find_latest, load_checkpoint, read_head, save_checkpoint
from engine.contents import MAX_STEPS
from engine.networks import build_network, load_network
from engine.settings import Settings
from engine.updates import PixelStage
from esrgan import SRVGGNetCompact
from imaging.console import UserError

SECONDS = 1.0  # of a processor, for any file
TINY = Settings(shape={"kernels": [5, 1, 3]}, batch=2, patch=16)


def opened(path, network: bool = True):
    """What a file is opened to, or the line that refuses it; either way soon, and fit for a terminal."""
    started = time.process_time()
    result = None
    for open_it in (read_head, load_checkpoint):
        try:
            result = open_it(path)
        except UserError as error:
            result = str(error)
    assert time.process_time() - started < SECONDS
    if isinstance(result, str):
        assert result.isprintable() and len(result) < len(str(path)) + 400, result
    elif network:
        low = torch.rand(1, 1 if result["model"] == "srcnn" else 3, 12, 12)
        assert load_network(result)(low).isfinite().all()
    return result


def same(loaded, params: dict) -> bool:
    """Whether a file was opened to just these weights."""
    return not isinstance(loaded, str) and all(torch.equal(loaded["params"][key], params[key]) for key in params)


# ---------------------------------------------------------------------------------------------
# What the entries say
# ---------------------------------------------------------------------------------------------


def nested(depth: int):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def circle():
    value: list = []
    value.append(value)
    return value


WRONG = {
    "none": None, "true": True, "zero": 0, "negative": -1, "large": 2**40, "huge": 10**300, "real": 1.5,
    "nan": math.nan, "infinite": math.inf, "empty": "", "word": "x", "escapes": "\x1b[31mred\x07\n\u202etxt.exe",
    "surrogate": "\udcff", "long": "A" * 10**6, "bytes": b"\xff\0", "list": [], "numbers": [1, 2] * 500,
    "dictionary": {}, "keys": {1: 2, "\x1b[2J": [3]}, "pair": (1, 2), "tensor": torch.zeros(2),
    "scalar": torch.tensor(2.0), "deep": nested(200), "circle": circle(), "class": Settings, "object": SRVGGNetCompact,
    "set": {1, 2}, "complex": 1j, "wide": {"a" * 10**5: "b" * 10**5}, "history": [{"epoch": "1"}, {"loss": "\n"}],
}  # fmt: skip
FIELDS = ("format", "model", "scale", "degradation", "shape", "date", "history", "params", "training", "licence")


@pytest.mark.parametrize("field", FIELDS)
def test_an_entry_that_is_anything(tmp_path, field):
    """Whatever it is, the file is refused in a line, or the network is the right one."""
    checkpoint = {"format": 1, "date": "2026-01-01", **make_rrdb(2)}
    for name, value in WRONG.items():
        path = tmp_path / f"{name}.pt"
        torch.save({**checkpoint, field: value}, path)
        result = opened(path, network=False)
        assert isinstance(result, str) or same(result, checkpoint["params"]), name
        if not isinstance(result, str):
            right = {"degradation": ["word"], "date": ["empty"], "history": ["list"], "shape": ["dictionary"]}
            assert name in right.get(field, WRONG if field == "licence" else ["dictionary", "wide"]), field


@pytest.mark.parametrize("part", ["scale", "features", "growth", "blocks", "unshuffle", "colours", "activation", "new"])
def test_a_shape_that_is_anything(tmp_path, part):
    checkpoint = {"format": 1, "date": "", **make_rrdb(2)}
    for name in (
        "none",
        "true",
        "zero",
        "huge",
        "nan",
        "escapes",
        "numbers",
        "dictionary",
        "tensor",
        "class",
        "circle",
    ):
        value = WRONG[name]
        path = tmp_path / f"{name}.pt"
        torch.save({**checkpoint, "shape": {**checkpoint["shape"], part: value}}, path)
        result = opened(path, network=False)
        assert isinstance(result, str) or same(result, checkpoint["params"]), name
        if not isinstance(result, str):
            assert part in ("blocks", "unshuffle") and value == checkpoint["shape"].get(part, False)


def test_entries_that_are_missing(tmp_path):
    checkpoint = {"format": 1, "date": "", **make_checkpoint()}
    for name in checkpoint:
        path = tmp_path / f"{name}.pt"
        torch.save({key: value for key, value in checkpoint.items() if key != name}, path)
        result = opened(path)
        assert isinstance(result, str) and (name in result or name == "format")


def test_entries_that_are_not_what_the_tensors_are(tmp_path):
    checkpoint = {"format": 1, "date": "", **make_rrdb(2)}
    for name, changed, message in (
        ("model", {"model": "srcnn"}, "not those of srcnn"),
        ("other", {"model": "srvgg"}, "not those of srvgg"),
        ("scale", {"scale": 4}, "its scale is 4, not 2, as its tensors are"),
        ("blocks", {"shape": {**checkpoint["shape"], "blocks": 10**9}}, "its shape is .*'blocks': 1.*as its tensors"),
        ("srcnn", {**make_checkpoint(), "shape": {"kernels": [9, 5, 5]}}, r"its shape is .*\[9, 1, 5\]"),
        ("kernels", {**make_checkpoint(), "shape": {"kernels": 5}}, r"its shape is .*\[9, 1, 5\]"),
    ):
        torch.save({**checkpoint, **changed}, tmp_path / f"{name}.pt")
        with pytest.raises(UserError, match=message):
            load_checkpoint(tmp_path / f"{name}.pt")
    for kernels in ((4, 1, 3), (33, 1, 3)):
        torch.save({"format": 1, "date": "", **make_checkpoint(kernels)}, tmp_path / "kernels.pt")
        with pytest.raises(UserError, match="not those of srcnn"):
            load_checkpoint(tmp_path / "kernels.pt")
    torch.save({**checkpoint, "model": "esrgan"}, tmp_path / "esrgan.pt")  # the same network by another name
    assert same(opened(tmp_path / "esrgan.pt"), checkpoint["params"])


# ---------------------------------------------------------------------------------------------
# Tensors
# ---------------------------------------------------------------------------------------------


def changed_tensors():
    """Name, what becomes of a tensor, and whether the right network comes of it."""
    yield "half", lambda value: value.half(), True
    yield "bfloat16", lambda value: value.bfloat16(), True
    yield "double", lambda value: value.double(), True
    yield "parameter", torch.nn.Parameter, True
    yield "channels last", lambda value: value.to(memory_format=torch.channels_last), True
    yield "a part of a larger one", lambda value: torch.stack([value, value])[1], True
    yield "whole numbers", lambda value: value.long(), False
    yield "bytes", lambda value: value.to(torch.int8), False
    yield "truth values", lambda value: value > 0, False
    yield "complex", lambda value: value.to(torch.complex64), False
    yield "nan", lambda value: value * math.nan, False
    yield "infinite", lambda value: value / 0, False
    yield "too large for float32", lambda value: value.double() + 1e300, False
    yield "one value for all", lambda value: torch.ones(1, 1, 1, 1).expand_as(value), False
    yield "one value for very many", lambda _: torch.ones(1).expand(10**6, 10**6), False
    yield "sparse", lambda value: value.to_sparse(), False
    yield "no values", lambda value: value.to("meta"), False
    yield "quantised", lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), False
    yield "transposed", lambda value: value.transpose(0, 1), False
    yield "flat", lambda value: value.flatten(), False
    yield "empty", lambda value: value[:0], False
    yield "a scalar", lambda value: value.sum(), False
    yield "many sides", lambda value: value[(None,) * 40], False
    yield "wider", lambda value: torch.cat([value, value]), False
    yield "a list", lambda value: value.tolist(), False
    yield "numpy", lambda value: value.numpy(), False
    yield "nothing", lambda _: None, False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "change", "right"), list(changed_tensors()))
@pytest.mark.parametrize("ours", [True, False])
def test_a_tensor_that_is_anything(tmp_path, kind, change, right, ours):
    checkpoint = make_rrdb(4)
    params = checkpoint["params"]
    for key in ("conv_first.weight", "conv_last.weight") if ours else ("body.0.rdb2.conv3.weight",):
        altered = {**params, key: change(params[key])}
        torch.save({"format": 1, "date": "", **checkpoint, "params": altered} if ours else altered, tmp_path / "x.pt")
        result = opened(tmp_path / "x.pt")
        assert isinstance(result, str) is not right, result
        if right:
            assert torch.allclose(result["params"][key], params[key], atol=1e-2)


def test_tensors_of_one_storage_fill_no_memory(tmp_path):
    """Five megabytes, said to be 400 layers: in float32 they would be four gigabytes."""
    shared = torch.zeros(512, 512, 3, 3).half()
    params = {"body.0.weight": torch.zeros(512, 3, 3, 3), "body.0.bias": torch.zeros(512)}
    for number in range(1, 400):
        params |= {f"body.{2 * number}.weight": shared, f"body.{2 * number}.bias": params["body.0.bias"]}
    params |= {"body.800.weight": torch.zeros(12, 512, 3, 3), "body.800.bias": torch.zeros(12)}
    torch.save(params, tmp_path / "x.pth")
    assert "more than the file does" in opened(tmp_path / "x.pth")


def test_two_tensors_exchanged(tmp_path):
    checkpoint = make_rrdb(2)
    params = dict(checkpoint["params"])
    params["conv_first.weight"], params["conv_last.weight"] = params["conv_last.weight"], params["conv_first.weight"]
    torch.save({"format": 1, "date": "", **checkpoint, "params": params}, tmp_path / "ours.pt")
    torch.save(params, tmp_path / "theirs.pt")
    assert isinstance(opened(tmp_path / "ours.pt"), str) and isinstance(opened(tmp_path / "theirs.pt"), str)


def huge_networks():
    """Names that promise more than there is."""
    conv = torch.zeros(4, 4, 3, 3)
    yield "last layer", {"body.0.weight": torch.zeros(4, 3, 3, 3), f"body.{10**11}.weight": torch.zeros(48, 4, 3, 3)}
    yield (
        "blocks",
        {"conv_first.weight": torch.zeros(4, 3, 3, 3), "conv_last.weight": torch.zeros(3, 4, 3, 3)}
        | {f"body.{number}.rdb1.conv1.weight": conv for number in range(5000)},
    )
    yield "layers", {f"body.{2 * number}.weight": conv for number in range(5000)}
    yield (
        "doublings",
        {"conv_first.weight": torch.zeros(4, 3, 3, 3), "conv_last.weight": torch.zeros(3, 4, 3, 3)}
        | {f"conv_up{number}.weight": conv for number in range(10)}
        | {"body.0.rdb1.conv1.weight": conv},
    )
    yield "width", {"body.0.weight": torch.zeros(10**5, 3, 1, 1), "body.2.weight": torch.zeros(3, 10**5, 1, 1)}
    yield "numbers", {f"model.{number}.weight": conv for number in range(3000)}
    yield "digits", {f"model.{'9' * 5000}.weight": conv, "model.1.weight": conv, "model.0.weight": conv}
    yield "no width", {"body.0.weight": torch.zeros(0, 3, 3, 3), "body.2.weight": torch.zeros(12, 0, 3, 3)}
    yield "wrappers", {"module." * 5000 + "conv_first.weight": conv}


@pytest.mark.parametrize(("kind", "state"), list(huge_networks()))
def test_names_that_promise_much(tmp_path, kind, state):
    torch.save(state, tmp_path / "x_x4.pth")
    assert isinstance(opened(tmp_path / "x_x4.pth"), str)


def test_wrappers_that_hold_each_other(tmp_path):
    """Entries that programs look into, all of them the same dictionary: 24 ways at every depth."""
    inner: dict = {}
    for name in ("params_ema", "params", "state_dict", "generator", "net_g", "network", "model", "net", "ema"):
        inner[name] = inner
    torch.save(inner, tmp_path / "circle.pth")
    assert "no tensors" in opened(tmp_path / "circle.pth")


# ---------------------------------------------------------------------------------------------
# Bytes
# ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """A small whole checkpoint, and its weights."""
    path = tmp_path_factory.mktemp("whole") / "srvgg_x2.pt"
    network = SRVGGNetCompact(2, 6, 1)
    entries = {"model": "srvgg", "scale": 2, "degradation": "bicubic", "shape": network.shape, "history": []}
    save_checkpoint({**entries, "params": network.state_dict()}, path)
    return path, network.state_dict()


def test_a_file_that_is_cut_off(small_file, tmp_path):
    path, _ = small_file
    whole = path.read_bytes()
    for length in (*range(0, 64, 7), *range(64, len(whole), len(whole) // 30), len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:length])
        assert isinstance(opened(tmp_path / "cut.pt"), str)


def test_no_flipped_byte_passes(small_file, tmp_path):
    """Wherever one lies: it is noticed, or the weights are still the right ones."""
    path, params = small_file
    whole = path.read_bytes()
    draw = random.Random(0)
    noticed = 0
    for place in [*range(0, len(whole), len(whole) // 60), *(draw.randrange(len(whole)) for _ in range(60))]:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << draw.randrange(8)
        (tmp_path / "spoilt.pt").write_bytes(spoilt)
        result = opened(tmp_path / "spoilt.pt")
        assert isinstance(result, str) or same(result, params), place
        noticed += isinstance(result, str)
    assert noticed > 60


def test_a_flipped_byte_in_a_tensor_is_named(small_file, tmp_path):
    path, params = small_file
    whole = path.read_bytes()
    place = whole.index(params["body.2.weight"].numpy().tobytes())
    (tmp_path / "spoilt.pt").write_bytes(whole[: place + 9] + bytes([whole[place + 9] ^ 64]) + whole[place + 10 :])
    with pytest.raises(UserError, match=r"data/\d+ is not what was written, by its checksum"):
        load_checkpoint(tmp_path / "spoilt.pt")


def test_random_bytes_in_old_files(tmp_path):
    """They have no checksums: what can be noticed is, and nothing else happens."""
    network = SRVGGNetCompact(2, 6, 1)
    torch.save(network.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(opened(tmp_path / "old.pth"), network.state_dict())
    whole = (tmp_path / "old.pth").read_bytes()
    draw = random.Random(0)
    for _ in range(60):
        spoilt = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.choice([0, 1, 20])):
            spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
        (tmp_path / "spoilt.pth").write_bytes(spoilt)
        opened(tmp_path / "spoilt.pth", network=False)


# ---------------------------------------------------------------------------------------------
# Archives and pickles written by hand
# ---------------------------------------------------------------------------------------------


def write_archive(path, pickled: bytes, records=(("data/0", bytes(4)),), compress: int = zipfile.ZIP_STORED) -> None:
    """An archive as torch.save writes it, with any pickle in it."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little"), *records):
            archive.writestr(f"x/{name}", content)


def tensor_of(count: int, sides=(1,), record: bytes = b"0", steps=(1,)) -> bytes:
    """The pickle of a tensor of so many values, which lie in a record, with these sides and strides."""
    numbers = [b"(" + b"".join(b"J" + struct.pack("<i", one) for one in some) + b"t" for some in (sides, steps)]
    stored = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(record)) + record
    stored += b"X\x03\0\0\0cpuJ" + struct.pack("<i", count) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\0" + b"".join(numbers) + b"\x89NtR"


def state(*values: bytes) -> bytes:
    """The pickle of a state dict: names and values, both pickled."""
    return b"\x80\x02}(" + b"".join(values) + b"u."


NAME = b"X\x11\0\0\0conv_first.weight"


def crafted():
    """Pickles that no torch.save has written, and a word of what is said of them."""
    yield "more than is stored", state(NAME, tensor_of(2**30, (2**30,))), "not what it says of them"
    yield "less than is stored", state(NAME, tensor_of(0, (0,))), "not what it says of them"
    yield "a negative count", state(NAME, tensor_of(-4)), "cannot be opened"
    yield "a record that is not there", state(NAME, tensor_of(1, record=b"../../etc/passwd")), "not what it says of"
    yield "values beyond the end", state(NAME, tensor_of(1, (10**9,), steps=(0,))), "cannot be opened"
    yield "negative sides", state(NAME, tensor_of(1, (-1,))), "cannot be opened"
    yield "a step back", state(NAME, tensor_of(1, (1, 1), steps=(-1, 1))), "holds 1 tensors"
    yield "too many steps", b"\x80\x02" + b"]0" * MAX_STEPS + b".", "cannot be opened"
    yield "a long memo", b"\x80\x02]r\xff\xff\xff\xff.", "holds no state dict but a list"
    yield "an endless number", b"\x80\x02\x8b\xff\xff\xff\x7f1.", "cannot be opened"
    yield "an endless word", b"\x80\x02X\xff\xff\xff\x7fabc.", "cannot be opened"
    yield "no end", b"\x80\x02}", "cannot be opened"
    yield "nothing", b"", "cannot be opened"
    yield "noise", bytes(range(256)), "cannot be opened"
    yield "an empty stack", b"\x80\x02R.", "cannot be opened"
    yield "an unknown memo", b"\x80\x02h\x07.", "cannot be opened"
    yield "a system call", b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", "asks for posix.system"
    yield "another", b"\x80\x02cos\npopen\nX\x04\0\0\0true\x85R.", "asks for os.popen"
    yield "an evaluation", b"\x80\x02c__builtin__\neval\nX\x04\0\0\0true\x85R.", "asks for builtins.eval"
    yield "a protocol's stack", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.", "cannot be opened"
    yield "a search for attributes", b"\x80\x02c__builtin__\ngetattr\n(NNtR.", "whole module, pickled"
    yield "a file that is opened", state(NAME, b"cio\nopen\nX\x03\0\0\0ranX\x01\0\0\0w\x86R"), "no tensors"
    yield "much memory", state(NAME, b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R"), "no tensors"
    yield "many names", state(NAME, b"(" + b"".join(b"cfoo\nbar%d\n" % n for n in range(5000)) + b"t"), "names 5000"
    nest = b"(K\x01K\x02t" + b"".join(b"q%c(h%ch%ct" % (n, n, n) for n in range(60))
    yield "a key of many keys", state(nest, b"K\x01"), "cannot be opened"
    yield "a key that is none", state(b"]", b"K\x01"), "cannot be opened"
    yield "an escape as a name", state(b"X\x06\0\0\0a\x1b[2J\n", tensor_of(1)), "a?[2J,"


@pytest.mark.parametrize(("kind", "pickled", "message"), list(crafted()))
def test_crafted_pickles(place, kind, pickled, message):
    write_archive(place / "x.pt", pickled)
    assert message in opened(place / "x.pt")
    assert not (place / "ran").exists()


def test_crafted_archives(small_file, tmp_path):
    path, _ = small_file
    whole = path.read_bytes()
    bomb = state(NAME, tensor_of(25 * 10**6, (25 * 10**6,)))
    write_archive(tmp_path / "bomb.pt", bomb, [("data/0", bytes(10**8))], zipfile.ZIP_DEFLATED)
    assert (tmp_path / "bomb.pt").stat().st_size < 10**6 and "compressed" in opened(tmp_path / "bomb.pt")
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_archive(tmp_path / "twice.pt", state(), [("data/0", bytes(4)), ("data/0", bytes(4))])
    assert "is damaged" in opened(tmp_path / "twice.pt")
    claims = bytearray(whole)
    directory = whole.index(b"PK\1\2")
    claims[directory + 20 : directory + 28] = struct.pack("<II", 2**31, 2**31)
    (tmp_path / "claims.pt").write_bytes(claims)
    assert isinstance(opened(tmp_path / "claims.pt"), str)
    (tmp_path / "longer.pt").write_bytes(b"junk" + whole)
    assert isinstance(opened(tmp_path / "longer.pt"), str)
    (tmp_path / "twofold.pt").write_bytes(whole[: len(whole) // 2] + whole)
    assert isinstance(opened(tmp_path / "twofold.pt"), str)


def test_a_file_that_says_too_much_of_itself_is_not_read(small_file, monkeypatch):
    assert not isinstance(opened(small_file[0]), str)
    monkeypatch.setattr(opening, "MAX_PICKLE", 1000)
    assert "more of itself" in opened(small_file[0])


# ---------------------------------------------------------------------------------------------
# Other kinds of files
# ---------------------------------------------------------------------------------------------


def other_kinds():
    yield "empty", b"", "empty"
    yield "zeros", bytes(10**4), "full of zeros"
    yield "lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "pointer of Git LFS"
    yield "page", b"\n<!DOCTYPE html>\n<html><head><title>404</title>", "a web page"
    yield "shouted page", b"<HTML>", "a web page"
    yield "xml", b"<?xml version='1.0'?><net name='x'>", "XML"
    yield "text", "Gewichte für das Netz\n".encode() * 50, "a text file"
    yield "json", b'{"params": [1, 2]}', "a text file"
    yield "ncnn param", b"7767517\n75 83\nInput data 0 1 data\n", r"ncnn \(.param\)"
    yield "ncnn bin", b"\x47\x6b\x30\x01" + bytes(range(100)), r"ncnn \(.bin\)"
    yield "ncnn floats", bytes(4) + struct.pack("<9f", *range(1, 10)), r"ncnn \(.bin\)"
    yield "onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x80", "an ONNX network"
    yield "keras", b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"
    yield "tflite", b"\x1c\0\0\0TFL3" + bytes(20), "TensorFlow Lite"
    yield "numpy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'", "NumPy array"
    yield "matlab", b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "MATLAB"
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(20), "a picture"
    yield "jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF", "a picture"
    yield "gzip", b"\x1f\x8b\x08\0", "packed: unpack it"
    yield "tar", b"weights.pth".ljust(257, b"\0") + b"ustar\x0000", "packed: unpack it"
    yield "pickle", pickle.dumps({"params": [1]}), "pickle of Python objects"
    yield "noise", bytes(random.Random(0).randrange(128, 256) for _ in range(999)), "no file of weights"


@pytest.mark.parametrize(("kind", "content", "message"), list(other_kinds()))
def test_other_kinds_are_named(tmp_path, kind, content, message):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=rf"weights\.pth: is .*{message}"):
        load_checkpoint(tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore")
def test_other_archives_are_named(tmp_path):
    network = SRVGGNetCompact(2, 4, 1).eval()
    torch.jit.save(torch.jit.trace(network, torch.rand(1, 3, 8, 8)), tmp_path / "script.pt")
    torch.save(network, tmp_path / "module.pt")
    torch.save(network, tmp_path / "old module.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": network, "epoch": 3}, tmp_path / "inner.pt")
    with zipfile.ZipFile(tmp_path / "packed.pt", "w") as archive:
        archive.writestr("weights/net.pth", b"x")
    with zipfile.ZipFile(tmp_path / "arrays.pt", "w") as archive:
        archive.writestr("conv.npy", b"x")
    (tmp_path / "folder.pt").mkdir()
    for name, message in (
        ("script", "a TorchScript program"), ("module", r"a whole module, pickled \(esrgan\.SRVGGNetCompact\)"),
        ("old module", "a whole module, pickled"), ("inner", "holds a whole module, pickled"),
        ("packed", "archive of other files"), ("arrays", "archive of NumPy's arrays"), ("folder", "is a folder"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as caught:
            load_checkpoint(tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------
# A folder of them
# ---------------------------------------------------------------------------------------------


def test_bad_files_in_models_break_nothing(place, small_file, capsys):
    """Each is named in a line, and the newest good one is found; one with damaged weights is no good one."""
    folder = place / "models"
    good = {"format": 1, **make_checkpoint()}
    save_checkpoint(good, folder / "srcnn_x2.good.pt")
    for name, value in {"scale": 0, "date": 5, "params": [1, 2], "degradation": "\x1b[31mred\n", "shape": None}.items():
        torch.save({**good, "date": "2999-01-01", name: value}, folder / f"srcnn_x2.{name}.pt")
    torch.save({**good, "format": torch.zeros(2), "date": "2999-01-01"}, folder / "srcnn_x2.format.pt")
    torch.save({**good, "date": "2999-01-01"}, folder / "srcnn_x2.spoilt.pt")
    spoilt = bytearray((folder / "srcnn_x2.spoilt.pt").read_bytes())
    spoilt[spoilt.index(good["params"]["map.weight"].numpy().tobytes()) + 40] ^= 8
    (folder / "srcnn_x2.spoilt.pt").write_bytes(spoilt)
    (folder / "rrdb_x4.empty.pt").write_bytes(b"")
    (folder / "rrdb_x4.folder.pt").mkdir()
    path, checkpoint = find_latest(folder, model="srcnn", scale=2)
    assert path.name == "srcnn_x2.good.pt" and same(checkpoint, good["params"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9 and all(line.startswith("passed over: ") and line.isprintable() for line in lines)


def test_a_folder_is_told_apart_without_reading_weights(place, monkeypatch):
    """Only of the one that is taken: `load` is asked for once."""
    for number in range(4):
        save_checkpoint(make_checkpoint(training={"step": 3}), place / "models" / f"srcnn_x2.{number}.pt")
    loaded = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: loaded.append(file.name) or load(file, **options))
    path, _ = find_latest(place / "models", model="srcnn")
    assert path.name == "srcnn_x2.3.pt" and loaded == [str(path)]
    assert find_latest(place / "models", model="rrdb") is None and len(loaded) == 1


def test_a_head_ends_before_what_a_run_remembers(tmp_path):
    """What is not needed to choose a checkpoint is not read: here it could not be."""
    remembered = {"parts": {"optimizer": {number: torch.ones(2) for number in range(50)}}}
    save_checkpoint({**make_checkpoint(), "training": remembered}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        records = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickled = records["data.pkl"]
    place = pickled.rindex(b"optimizer")
    write_archive(
        tmp_path / "y.pt", pickled[:place] + b"\xff" * 99,
        [(name, content) for name, content in records.items() if name.startswith("data/")],
    )  # fmt: skip
    head = read_head(tmp_path / "y.pt")
    assert head["model"] == "srcnn" and "training" in head and head["history"] == [{"epoch": 1}]
    with pytest.raises(UserError):
        load_checkpoint(tmp_path / "y.pt")


# ---------------------------------------------------------------------------------------------
# What a run remembers
# ---------------------------------------------------------------------------------------------


def test_a_run_that_remembers_anything():
    run = resume.RunState(asdict(TINY), {"pairs": 3, "held_out": ["a.png"]}).to_dict()
    assert resume.RunState.from_dict(run).to_dict() == run
    for field in (*run, "unknown"):
        for value in WRONG.values():
            try:
                state = resume.RunState.from_dict({**run, field: value})
            except UserError as error:
                assert str(error).isprintable() and len(str(error)) < 400
            else:
                assert resume.changes(state.settings, asdict(TINY)) is not None
                assert set(state.data.get("held_out", ())) <= {"a.png"} and state.means() == {}
    with pytest.raises(UserError, match=r"does not know \(unknown\)"):
        resume.RunState.from_dict({**run, "unknown": 1})
    with pytest.raises(UserError, match=r"does not know \(data\)"):
        resume.RunState.from_dict({"settings": asdict(TINY)})
    for name in asdict(TINY):
        for value in WRONG.values():
            try:
                state = resume.RunState.from_dict({**run, "settings": {**run["settings"], name: value}})
            except UserError as error:
                assert str(error).isprintable()
            else:
                assert all(line.isprintable() for line in resume.changes(state.settings, asdict(TINY)))
                state.last_step = state.step + 1
                try:
                    resume.as_begun(Path("a.pt"), state, TINY)
                except UserError as error:
                    assert str(error).isprintable() and "a.pt: its " in str(error)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("muon", [False, True])
def test_parts_that_are_anything(tmp_path, muon):
    """Each is refused in a line, or the next update can be made."""
    settings = Settings("srvgg", shape={"scale": 2, "features": 4, "convolutions": 1}, batch=2, patch=8, muon=muon)
    settings = replace(settings, ema=0.9)
    weights = build_network("srvgg", settings.shape).state_dict()

    def fresh() -> PixelStage:
        return PixelStage(settings, weights, "cpu")

    low, high = torch.randint(0, 256, (2, 3, 8, 8)), torch.randint(0, 256, (2, 3, 16, 16))
    low, high = low.byte(), high.byte()
    trained = fresh()
    trained.update(low, high, 1e-3, 0)
    states = {name: copy.deepcopy(part.state_dict()) for name, part in trained.parts.items()}
    resume.load_parts(fresh().parts, states, tmp_path)
    refused = 0
    for name in ("network", "ema", "optimizer"):
        for at in paths_into(states[name]):
            for value in (None, "x", -1, math.nan, torch.zeros(7), {}, []):
                changed = copy.deepcopy(states[name])
                put(changed, at, value)
                stage = fresh()
                try:
                    resume.load_parts(stage.parts, {name: changed}, tmp_path)
                except UserError as error:
                    refused += 1
                    assert str(error).isprintable()
                else:
                    stage.update(low, high, 1e-3, 1)
    assert refused > 50


def paths_into(value, above=()):
    """The paths of keys to all that lies in dictionaries and lists, at most five of each."""
    keys = list(value)[:5] if isinstance(value, dict) else range(min(5, len(value))) if isinstance(value, list) else []
    for key in keys:
        yield (*above, key)
        yield from paths_into(value[key], (*above, key))


def put(value, path, new) -> None:
    for key in path[:-1]:
        value = value[key]
    value[path[-1]] = new
