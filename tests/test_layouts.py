"""Published key layouts, told apart by their tensors alone, and networks blended."""

import json
import struct
import sys
import types

import pytest
import torch
from torch import nn

from engine import checkpoints
from engine.checkpoints import load_checkpoint
from engine.layouts import recognise
from engine.weights import blend
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError


def read_published(path):
    """Model, shape and weights of a file."""
    checkpoint = load_checkpoint(path)
    return checkpoint["model"], checkpoint["shape"], checkpoint["params"]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of equal size everywhere, so that two parameters that changed places would show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture
def small():
    return randomised(RRDBNet(4, features=4, growth=2, blocks=2))


def as_basicsr(state: dict) -> dict:
    return dict(state)


def as_repository(state: dict) -> dict:
    """The names of the ESRGAN repository's RRDBNet_arch.py."""
    renamed = {}
    for key, value in state.items():
        name, *rest = key.split(".")
        if name == "body":
            block, dense, *rest = rest
            name = f"RRDB_trunk.{block}.{dense.upper()}"
        name = {"conv_body": "trunk_conv", "conv_hr": "HRconv"}.get(name, name.replace("conv_up", "upconv"))
        renamed[".".join([name, *rest])] = value
    return renamed


def as_oldest(state: dict) -> dict:
    """The names of the first ESRGAN: one long nn.Sequential, in which enlarging and activations have numbers too."""
    doublings = sum(key.startswith("conv_up") for key in state) // 2
    blocks = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("body."))
    names = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    names |= {f"conv_up{number}": f"model.{3 * number}" for number in range(1, doublings + 1)}
    names |= {"conv_hr": f"model.{3 * doublings + 2}", "conv_last": f"model.{3 * doublings + 4}"}
    renamed = {}
    for key, value in state.items():
        name, *rest = key.split(".")
        if name == "body":
            block, dense, conv, kind = rest
            renamed[f"model.1.sub.{block}.{dense.upper()}.{conv}.0.{kind}"] = value
        else:
            renamed[".".join([names[name], *rest])] = value
    return renamed


LAYOUTS = [as_basicsr, as_repository, as_oldest]


def test_the_layouts_of_this_test_are_the_published_ones():
    """A few names as they stand in published files, lest the test and the code err alike."""
    with torch.device("meta"):
        names = {scale: list(as_oldest(RRDBNet(scale, 4, 2, 3).state_dict())) for scale in (1, 2, 4, 8)}
        repository = list(as_repository(RRDBNet(4, 4, 2, 3).state_dict()))
    tails = {scale: [int(key.split(".")[1]) for key in names[scale] if key.count(".") == 2] for scale in names}
    row = {scale: sorted(set(numbers)) for scale, numbers in tails.items()}
    assert row == {1: [0, 2, 4], 2: [0, 3, 5, 7], 4: [0, 3, 6, 8, 10], 8: [0, 3, 6, 9, 11, 13]}
    assert {"model.0.weight", "model.1.sub.2.RDB3.conv5.0.bias", "model.1.sub.3.weight"} < set(names[4])
    expected = ["conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last", "RRDB_trunk.0.RDB1.conv1"]
    assert {f"{name}.weight" for name in expected} < set(repository)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("scale", "unshuffle"), [(1, False), (2, False), (4, False), (8, False), (1, True), (2, True)])
def test_every_layout_gives_the_same_network(layout, scale, unshuffle):
    blocks = 11 if scale == 4 else 2  # sorted as words, 10 would come before 2
    network = randomised(RRDBNet(scale, features=3, growth=2, blocks=blocks, unshuffle=unshuffle))
    model, shape, state = recognise(layout(network.state_dict()))
    assert (model, shape) == ("rrdb", network.shape)
    again = RRDBNet(**shape).eval()
    again.load_state_dict(state)
    low = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again(low), network(low))


@pytest.mark.parametrize(("scale", "convolutions"), [(1, 3), (2, 1), (3, 4), (4, 16)])
def test_srvgg(scale, convolutions):
    network = randomised(SRVGGNetCompact(scale, features=5, convolutions=convolutions))
    model, shape, state = recognise({"params": network.state_dict()})
    assert (model, shape) == ("srvgg", network.shape)
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


WRAPPED = {
    "params": lambda state: {"params": state},
    "averaged first": lambda state: {
        "params": {key: value + 1 for key, value in state.items()},
        "params_ema": state,
    },
    "params-ema": lambda state: {"params-ema": state, "epoch": 3},
    "nested": lambda state: {"model_state_dict": {"state_dict": state}},
    "model": lambda state: {"model": state, "optimizer": {"lr": torch.tensor(1.0)}},
    "net": lambda state: {"net": state},
    "DataParallel": lambda state: {f"module.{key}": value for key, value in state.items()},
    "GAN": lambda state: {"state_dict": {f"netG.{key}": value for key, value in state.items()}},
    "compiled": lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    "with a number": lambda state: {**state, "iteration": 7},
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrappers_and_prefixes(small, wrapped, layout):
    model, shape, state = recognise(wrapped(layout(small.state_dict())))
    assert (model, shape) == ("rrdb", small.shape)
    assert all(torch.equal(state[key], value) for key, value in small.state_dict().items())


def test_half_precision_becomes_single(small):
    halves = {key: value.half() for key, value in small.state_dict().items()}
    _, _, state = recognise(as_oldest(halves))
    assert all(value.dtype == torch.float32 for value in state.values())
    assert all(torch.equal(state[key], value.float()) for key, value in halves.items())


def without(state: dict, key: str) -> dict:
    return {name: value for name, value in state.items() if name != key}


def unknown_files():
    state = RRDBNet(4, features=4, growth=2, blocks=2).state_dict()
    oldest, srvgg = as_oldest(state), SRVGGNetCompact(2, 4, 1).state_dict()
    yield "ESRGAN+", {**oldest, "model.1.sub.0.RDB1.conv1x1.weight": torch.ones(2, 4, 1, 1)}, r"ESRGAN\+.*conv1x1"
    yield "another network", {"patch_embed.proj.weight": torch.ones(4, 3, 2, 2)}, r"patch_embed\.proj\.weight \(4×3×2×2"
    yield "another with numbers", {f"model.{n}.weight": torch.ones(2, 2) for n in range(4)}, r"model\.0\.weight \(2×2"
    yield "another with a body", {"body.0.weight": torch.ones(4, 3, 3, 3), "body.x.weight": torch.ones(1)}, "body"
    yield "grey pictures", {**state, "conv_first.weight": torch.ones(4, 1, 3, 3)}, r"conv_first\.weight \(4×1×3×3"
    twelve = {**state, "conv_first.weight": torch.ones(4, 12, 3, 3)}
    yield "unshuffle ×4", {**twelve, **up(3)}, "no RRDB or SRVGG network"
    one_doubling = without(without(twelve, "conv_up2.weight"), "conv_up2.bias")
    yield "unshuffle, one doubling", one_doubling, r"conv_first\.weight is 4×12×3×3 in it, not 4×48×3×3"
    yield "×32", {**state, **up(3), **up(4), **up(5)}, "no RRDB or SRVGG network"
    yield "a layer missing", without(state, "conv_hr.bias"), r"conv_hr\.bias is missing in it, not 4"
    yield "a layer missing, oldest", without(oldest, "model.8.bias"), r"conv_hr\.bias is missing"
    yield "a layer too many", {**state, "attention.weight": torch.ones(3)}, r"attention\.weight is 3 in it, not missing"
    yield "a layer of another size", {**state, "conv_hr.weight": torch.ones(4, 4, 1, 1)}, "4×4×1×1 in it, not 4×4×3×3"
    yield "six colours", {**srvgg, "body.4.weight": torch.ones(24, 4, 3, 3)}, r"body\.4\.weight is 24×4×3×3 in it"
    yield "no activations", without(srvgg, "body.1.weight"), r"body\.1\.weight is missing"
    yield "a scalar", {**state, "conv_first.weight": torch.tensor(1.0)}, "no RRDB or SRVGG network"
    yield "nothing", {}, "no tensors.*empty"
    yield "no tensors", {"epoch": 3, "loss": 0.1}, "no tensors, only epoch, loss"
    yield "a list", [torch.ones(1)], "a list"


def up(number: int) -> dict:
    return {f"conv_up{number}.weight": torch.ones(4, 4, 3, 3), f"conv_up{number}.bias": torch.ones(4)}


@pytest.mark.parametrize(("kind", "content", "message"), list(unknown_files()))
def test_unknown_files_are_refused_with_what_is_in_them(tmp_path, kind, content, message):
    path = tmp_path / "RRDB_x4.pth"  # a name that promises much
    torch.save(content, path)
    with pytest.raises(UserError, match=message) as caught:
        read_published(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_the_name_of_a_file_means_nothing(small, tmp_path):
    torch.save({"params_ema": small.state_dict()}, tmp_path / "realesr-srvgg-x2.safetensors")
    assert read_published(tmp_path / "realesr-srvgg-x2.safetensors")[:2] == ("rrdb", small.shape)


def test_files_that_cannot_be_opened(small, tmp_path):
    with pytest.raises(UsageError, match=r"none\.pth: no such checkpoint"):
        read_published(tmp_path / "none.pth")
    (tmp_path / "bytes.pth").write_bytes(b"these are no weights")
    torch.save(small, tmp_path / "module.pth")
    whole = tmp_path / "whole.pth"
    torch.save(small.state_dict(), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:-200])
    for name, what in ("bytes", "is a text file"), ("module", "is a whole module"), ("cut", "is cut off or damaged"):
        with pytest.raises(UserError, match=f"{name}.pth: {what}"):
            read_published(tmp_path / f"{name}.pth")


@pytest.fixture
def safetensors_file(small, tmp_path):
    """The format written out: the header's length, the header in JSON, the values."""
    header, data = {}, b""
    for key, value in small.state_dict().items():
        offsets = [len(data), len(data) + 4 * value.numel()]
        header[key] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
        data += struct.pack(f"<{value.numel()}f", *value.flatten().tolist())
    encoded = json.dumps(header).encode()
    path = tmp_path / "weights.bin"
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return path


def test_safetensors_without_the_package(safetensors_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(UserError, match=r"weights\.bin: .*pip install safetensors"):
        read_published(safetensors_file)


def test_safetensors_with_the_package(safetensors_file, small, monkeypatch):
    try:
        import safetensors.torch  # noqa: F401
    except ImportError:  # then one that reads just this file stands in for it
        monkeypatch.setitem(sys.modules, "safetensors", types.ModuleType("safetensors"))
        stand_in = types.ModuleType("safetensors.torch")
        stand_in.load_file = lambda path: {safetensors_file: as_repository(small.state_dict())}[path]
        monkeypatch.setitem(sys.modules, "safetensors.torch", stand_in)
    model, shape, state = read_published(safetensors_file)
    assert (model, shape) == ("rrdb", small.shape)
    assert all(torch.equal(state[key], value) for key, value in small.state_dict().items())


# ---------------------------------------------------------------------------------------------
# Blending two networks
# ---------------------------------------------------------------------------------------------


def test_alpha_is_the_share_of_the_first():
    first, second = {"weight": torch.tensor([1.0, 10.0])}, {"weight": torch.tensor([3.0, -10.0])}
    assert blend(first, second, 0.75)["weight"].tolist() == pytest.approx([1.5, 5.0])


@pytest.mark.parametrize("alpha", [0.2, 0.5])
def test_blend_mixes_weight_by_weight(small, alpha):
    other = randomised(RRDBNet(**small.shape), seed=5)
    mixed = blend(small.state_dict(), other.state_dict(), alpha)
    assert mixed.keys() == small.state_dict().keys()
    for key, value in mixed.items():
        flat = [state[key].flatten()[:9].tolist() for state in (mixed, small.state_dict(), other.state_dict())]
        for weight, a, b in zip(*flat, strict=True):
            assert weight == pytest.approx(alpha * a + (1 - alpha) * b, abs=1e-6)
        assert value.dtype == torch.float32


def test_the_ends_are_exactly_the_one_or_the_other():
    # 0 · ∞ is not a number, and 0 · 5 − 0 is a positive zero: computed, these would not come out as they went in.
    first = {"weight": torch.tensor([-0.0, 0.1, 3e38, 1.0])}
    second = {"weight": torch.tensor([5.0, 1e-45, -3e38, float("inf")])}
    for alpha, wanted in ((1, first), (1.0, first), (0, second), (0.0, second)):
        found = blend(first, second, alpha)["weight"]
        assert torch.equal(found.view(torch.int32), wanted["weight"].view(torch.int32))


def test_unlike_networks_are_refused(small):
    state = small.state_dict()
    longer = RRDBNet(4, features=4, growth=2, blocks=3).state_dict()
    wider = RRDBNet(4, features=5, growth=2, blocks=2).state_dict()
    for pair, message in (
        ((state, longer), r"body\.2\.rdb1\.conv1\.weight is missing and 2×4×3×3"),
        ((longer, state), r"body\.2\.rdb1\.conv1\.weight is 2×4×3×3 and missing"),
        ((state, wider), r"conv_first\.weight is 4×3×3×3 and 5×3×3×3"),
    ):
        for alpha in (0, 0.5, 1):
            with pytest.raises(UserError, match=message):
                blend(*pair, alpha)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range(small, alpha):
    with pytest.raises(UsageError, match="--alpha"):
        blend(small.state_dict(), small.state_dict(), alpha)


def test_ours_open_by_the_rules_for_other_programs_files(small, tmp_path):
    """Our own checkpoints keep BasicSR's names, where BasicSR looks for them."""
    entries = {"model": "rrdb", "scale": 4, "degradation": "bicubic", "shape": small.shape, "history": []}
    checkpoints.save_checkpoint({**entries, "params": small.state_dict()}, tmp_path / "ours.pt")
    loaded = torch.load(tmp_path / "ours.pt", weights_only=True)
    RRDBNet(**small.shape).load_state_dict(loaded["params"])
    for model, shape, state in (recognise(loaded), read_published(tmp_path / "ours.pt")):
        assert (model, shape) == ("rrdb", small.shape)
        assert all(torch.equal(state[key], value) for key, value in small.state_dict().items())
