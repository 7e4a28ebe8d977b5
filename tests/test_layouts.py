"""Published key layouts, told apart by their tensors alone, and networks blended."""

import argparse
import datetime
import json
import re
import struct
import subprocess
import sys
import types
from collections import Counter, OrderedDict
from pathlib import Path

import numpy
import pytest
import torch
from torch import nn

from engine import checkpoints
from engine.checkpoints import load_checkpoint
from engine.layouts import recognise
from engine.weights import blend
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError
from imaging.images import resize


def test_a_shape_alone_draws_no_start():
    """On the meta device PyTorch takes seconds to draw nothing, and loads its compiler for it."""
    code = (
        "import sys; from engine.layouts import on_meta;"
        "on_meta('srvgg', {'scale': 4, 'features': 64, 'convolutions': 16});"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


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
    names = {scale: list(as_oldest(RRDBNet(scale, 4, 2, 3).state_dict())) for scale in (1, 2, 4, 8)}
    repository = list(as_repository(RRDBNet(4, 4, 2, 3).state_dict()))
    tails = {scale: [int(key.split(".")[1]) for key in names[scale] if key.count(".") == 2] for scale in names}
    row = {scale: sorted(set(numbers)) for scale, numbers in tails.items()}
    assert row == {1: [0, 2, 4], 2: [0, 3, 5, 7], 4: [0, 3, 6, 8, 10], 8: [0, 3, 6, 9, 11, 13]}
    assert {"model.0.weight", "model.1.sub.2.RDB3.conv5.0.bias", "model.1.sub.3.weight"} < set(names[4])
    expected = ["conv_first", "trunk_conv", "upconv1", "upconv2", "HRconv", "conv_last", "RRDB_trunk.0.RDB1.conv1"]
    assert {f"{name}.weight" for name in expected} < set(repository)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("scale", "unshuffle"), [(1, False), (2, False), (4, False), (8, False), (16, False), (1, True), (2, True)]
)
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


def with_counters(state: dict) -> dict:
    """What thop, torch's averages and exponential ones leave beside the weights."""
    counters = {"total_ops": torch.zeros(1).double(), "body.0.total_params": torch.zeros(1).double()}
    return {**state, **counters, "n_averaged": torch.tensor(7), "num_batches_tracked": torch.tensor(3)}


def worse(state: dict) -> dict:
    """Other weights of the same network."""
    return {key: value + 1 for key, value in state.items()}


def beginning(prefix: str, state: dict) -> dict:
    return {f"{prefix}{key}": value for key, value in state.items()}


class Numbers:
    """Pickled, it is what NumPy's numbers are: a call of a function that is none of PyTorch's."""

    def __reduce__(self):
        return numpy.float64(27.3).__reduce__()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", [1, 4])
def test_a_network_for_grey_pictures(layout, scale):
    """It restores each of three colours as a grey picture, and grey stays grey."""
    network = randomised(RRDBNet(scale, features=3, growth=2, blocks=1, colours=1))
    model, shape, state = recognise(layout(network.state_dict()))
    assert (model, shape) == ("rrdb", network.shape) and shape["colours"] == 1
    assert state["conv_first.weight"].shape[1] == state["conv_last.weight"].shape[0] == 1
    low = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
    restored = RRDBNet(**shape).eval().requires_grad_(False)
    restored.load_state_dict(state)
    for colour in range(3):
        torch.testing.assert_close(restored(low)[:, colour], network(low[:, colour, None])[:, 0])
    grey = restored(low[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(grey[:, 0], grey[:, 1]) and grey.shape == (2, 3, 5 * scale, 7 * scale)


@pytest.mark.parametrize("activation", ["shared prelu", "leaky relu", "relu"])
def test_srvgg_with_other_activations(tmp_path, capsys, activation):
    """Those without weights are told by how a drawn picture is restored, and in a line."""
    network = SRVGGNetCompact(2, 8, 2, activation)
    if activation != "shared prelu":
        learn_to_enlarge(network)
    torch.save({"params": network.state_dict()}, tmp_path / "x.pth")
    model, shape, state = read_published(tmp_path / "x.pth")
    assert (model, shape) == ("srvgg", network.shape)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    line = capsys.readouterr().err
    assert line == "" if activation == "shared prelu" else f"{activation} restores a drawn picture best" in line
    save = {"model": model, "scale": 2, "degradation": "bicubic", "shape": shape, "history": [], "params": state}
    checkpoints.save_checkpoint(save, tmp_path / "ours.pt")
    assert read_published(tmp_path / "ours.pt")[1] == shape and capsys.readouterr().err == ""


def learn_to_enlarge(network: SRVGGNetCompact) -> None:
    """A short training on waves and edges in all directions."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for _ in range(120):
        slopes = torch.randn(8, 3, 2, 1, 1, generator=generator)
        waves = torch.sin(0.4 * (slopes[:, :, 0] * rows + slopes[:, :, 1] * columns))
        high = 0.5 + 0.4 * torch.where(slopes[:, :, 0] > 0, waves, waves.sign())
        loss = (network(resize(high, size=(16, 16))) - high).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


WRAPPED = {
    **{
        name: lambda state, name=name: {name: state}
        for name in (
            "generator",
            "g_ema",
            "ema",
            "params_ema",
            "state_dict",
            "weights",
            "network",
            "net_g",
            "netG_A",
        )
    },
    **{
        f"{name}.": lambda state, name=name: beginning(f"{name}.", state)
        for name in (
            "module",
            "model",
            "net_g",
            "generator",
            "generator_ema",
            "netG_A",
            "_orig_mod.generator.module",
        )
    },
    "lightning": lambda state: {
        "state_dict": beginning("generator.", state) | beginning("discriminator.", {"conv0.weight": torch.ones(1)}),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(1)}}}],
        "epoch": 3,
    },
    "EMA entry": lambda state: {"generator": worse(state), "g_ema": state, "discriminator": {"x": torch.ones(1)}},
    "EMA prefix": lambda state: beginning("generator.", worse(state)) | beginning("generator_ema.", state),
    "EMA number": lambda state: {"params": state, "ema": 0.999},
    "EMA list": lambda state: {"ema": {"decay": 0.99, "shadow_params": [torch.ones(1)]}, "state_dict": state},
    "half an EMA": lambda state: {"params": state, "params_ema": dict(list(state.items())[:5])},
    "averaged": lambda state: {"n_averaged": torch.tensor(3), **beginning("module.", state)},
    "ema_model": lambda state: (
        beginning("ema_model.", state)
        | beginning("online_model.", worse(state))
        | {"initted": torch.tensor(True), "step": torch.tensor(9)}
    ),
    "counters": with_counters,
    "counted entry": lambda state: {"params": with_counters(state)},
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
@pytest.mark.parametrize("layout", [as_basicsr, as_oldest])
def test_wrappers_and_prefixes(small, wrapped, layout):
    model, shape, state = recognise(wrapped(layout(small.state_dict())))
    assert (model, shape) == ("rrdb", small.shape)
    assert all(torch.equal(state[key], value) for key, value in small.state_dict().items())


def test_a_sequential_without_a_name(small):
    """The oldest layout, saved from the inner module."""
    bare = {key.removeprefix("model."): value for key, value in as_oldest(small.state_dict()).items()}
    for content in (bare, {"model": bare}, {"state_dict": bare}):
        assert recognise(content)[:2] == ("rrdb", small.shape)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda state: {"params": worse(state), "params_ema": state}, "params_ema is taken, not params"),
        (lambda state: {"ema": state, **worse(state)}, "ema is taken, not what has no name"),
        (lambda state: {"params_ema": dict(list(state.items())[:-1]), "params": state},
         r"params is taken, not params_ema, which looks like rrdb .*conv_last\.bias is missing"),
        (lambda state: {"params": state, "optimizer": worse(state)}, ""),
        (lambda state: {"state_dict": beginning("generator.", state) | {"loss.weight": torch.ones(3)}}, ""),
    ],
)  # fmt: skip
def test_which_one_is_taken_is_told(small, tmp_path, capsys, content, told):
    torch.save(content(small.state_dict()), tmp_path / "x.pth")
    params = load_checkpoint(tmp_path / "x.pth")["params"]
    assert all(torch.equal(params[key], value) for key, value in small.state_dict().items())
    line = capsys.readouterr().err
    assert re.search(told, line) and bool(line) is bool(told) and line.count("\n") <= 1


@pytest.mark.parametrize("zipped", [True, False])
def test_what_stands_beside_the_weights_may_be_anything(small, tmp_path, zipped):
    """Numbers of NumPy, settings, paths: nothing of them is built, and the weights are the right ones."""
    beside = {
        "best_psnr": numpy.float64(27.3), "best": Numbers(), "args": argparse.Namespace(lr=1e-4, path=Path("x")),
        "history": numpy.arange(3), "milestones": Counter({300: 1}), "date": datetime.date(2026, 1, 1),
        "order": OrderedDict(a=1), "type": torch.float16, "size": torch.Size((1, 2)), "kinds": {1, 2}, "c": 1j,
    }  # fmt: skip
    torch.save({"params": small.state_dict(), **beside}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    model, shape, params = read_published(tmp_path / "x.pth")
    assert (model, shape) == ("rrdb", small.shape)
    assert all(torch.equal(params[key], value) for key, value in small.state_dict().items())


def test_two_tensors_for_one_weight_are_refused(small):
    state = small.state_dict()
    with pytest.raises(UserError, match=r"two tensors that are called conv_hr\.weight"):
        recognise({**state, "module.conv_hr.weight": state["conv_hr.weight"] + 1})
    with pytest.raises(UserError, match=r"two tensors for conv_hr\.weight: HRconv\.weight and conv_hr\.weight"):
        recognise({**state, "HRconv.weight": state["conv_hr.weight"] + 1})


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
