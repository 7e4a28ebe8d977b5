"""Files for other programs, each run by another program than PyTorch."""

import json
import re
import struct
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from test_ecbsr import randomised
from test_main import run

import main
from engine import checkpoints, export, ncnn_files, onnx_files
from engine.ecbsr import ECBSR
from engine.export import ExportSettings, metadata
from engine.graphs import graph_of
from engine.layouts import recognise
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError
from imaging.images import resize
from imaging.saving import write_picture
from srcnn import SRCNN

TINY_RRDB = {"features": 6, "growth": 4, "blocks": 2}
NETWORKS = {
    "srcnn": lambda: SRCNN((9, 1, 5)),
    "ecbsr": lambda: ECBSR(3, features=6, blocks=2).folded(),
    "srvgg": lambda: SRVGGNetCompact(4, features=6, convolutions=2),
    "srvgg-relu": lambda: SRVGGNetCompact(2, features=6, convolutions=1, activation="leaky relu"),
    "rrdb": lambda: RRDBNet(4, **TINY_RRDB),
    "rrdb-x1": lambda: RRDBNet(1, **TINY_RRDB),
    "rrdb-unshuffle": lambda: RRDBNet(2, **TINY_RRDB, unshuffle=True),
    "rrdb-grey": lambda: RRDBNet(2, **TINY_RRDB, colours=1),
}
SIZES = [(8, 10), (13, 7), (1, 30)]


def lively(name: str) -> torch.nn.Module:
    """A network in which every operation counts, with results about as large as a picture's."""
    network = randomised(NETWORKS[name]())
    for weight in network.parameters():
        if weight.ndim == 4:
            weight.mul_(3 / (weight[0].numel() ** 0.5))
    return network.eval()


def pictures(network, channels):
    """Pictures of even and odd sizes, as its fold allows them."""
    for height, width in SIZES:
        yield torch.rand(1, channels, -(-height // network.fold) * network.fold, width - width % network.fold)


@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_computes_what_pytorch_does(name):
    network = lively(name)
    graph = graph_of(network)
    exact, half = (onnx_files.make_model(graph, {}, kind).SerializeToString() for kind in (False, True))
    run_exact, run_half = onnx_files.runner(exact), onnx_files.runner(half)
    for picture in pictures(network, graph.channels):
        expected = network(picture)
        torch.testing.assert_close(run_exact(picture), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(run_half(picture), expected, atol=1e-2, rtol=1e-2)
        assert not torch.equal(run_half(picture), run_exact(picture))
    batch = torch.rand(3, graph.channels, 8, 12)
    torch.testing.assert_close(run_exact(batch), network(batch), atol=1e-4, rtol=0)
    assert len(half) < len(exact)


@pytest.mark.parametrize("name", NETWORKS)
def test_ncnn_computes_what_pytorch_does(name, tmp_path):
    pytest.importorskip("ncnn")
    network = lively(name)
    graph = graph_of(network)
    for half in (False, True):
        text, numbers = ncnn_files.make_pair(graph, half)
        (tmp_path / "a.param").write_text(text)
        (tmp_path / "a.bin").write_bytes(numbers)
        for picture in pictures(network, graph.channels):
            actual = ncnn_files.run_pair(tmp_path / "a.param", tmp_path / "a.bin", picture)
            torch.testing.assert_close(actual, network(picture), atol=1e-2, rtol=1e-2 if half else 0)


def test_ncnn_names_are_those_that_its_programs_ask_for():
    text, _ = ncnn_files.make_pair(graph_of(lively("rrdb")))
    magic, counts, *layers = text.splitlines()
    assert magic == "7767517" and int(counts.split()[0]) == len(layers)
    made = [blob for line in layers for blob in line.split()[4 + int(line.split()[2]) :][: int(line.split()[3])]]
    used = [blob for line in layers for blob in line.split()[4 : 4 + int(line.split()[2])]]
    assert int(counts.split()[1]) == len(made) == len(set(made))
    assert made[0] == "data" and made[-1] == "output" and sorted(used) == sorted(set(made) - {"output"})  # each once


def test_what_stands_in_the_file(place):
    checkpoint = {"model": "srcnn", "shape": {}, "scale": 4, "degradation": "bicubic", "licence": "mine"}
    told = export.export(lively("srcnn"), checkpoint, ExportSettings(place / "new" / "a.onnx"))
    assert told.startswith("onnxruntime differs from PyTorch by")
    model = onnx.load(place / "new" / "a.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["scale"] == "4" and about["colours"] == "luma" and about["enlarged"] == "by bicubic interpolation"
    assert about["radius"] == about["margin"] == "6" and about["multiple"] == "1" and about["licence"] == "mine"
    assert [end.name for end in (*model.graph.input, *model.graph.output)] == ["input", "output"]
    sides = [side.dim_param or side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", 1, "height", "width"]
    del checkpoint["licence"]  # as of another program's file
    assert "ask where" in metadata(lively("srcnn"), checkpoint)["licence"]


def test_weights_in_basicsr_layout_load_again(place):
    network = lively("rrdb")
    checkpoint = {"model": "rrdb", "shape": network.shape, "scale": 4, "degradation": "bicubic"}
    for suffix in (".pth", ".safetensors"):
        export.export(network, checkpoint, ExportSettings(place / f"a{suffix}"))
        loaded = checkpoints.load_checkpoint(place / f"a{suffix}")
        assert loaded["shape"] == network.shape
        assert all(torch.equal(loaded["params"][name], weight) for name, weight in network.state_dict().items())
    stored = torch.load(place / "a.pth", weights_only=True)["params"]
    assert recognise({"params": stored})[0] == "rrdb" and {value.dtype for value in stored.values()} == {torch.float32}
    header = (place / "a.safetensors").read_bytes()
    about = json.loads(header[8 : 8 + struct.unpack("<Q", header[:8])[0]])["__metadata__"]
    assert about["scale"] == "4" and about["colours"] == "rgb"


def test_ecbsr_leaves_as_a_compact_network_of_one_channel(place):
    """Its file by the layers of BasicSR's SRVGGNetCompact: convolutions and slopes in turn; the input is added."""
    network = lively("ecbsr")
    checkpoint = {"model": "ecbsr", "shape": network.shape, "scale": 3, "degradation": "bicubic"}
    told = export.export(network, checkpoint, ExportSettings(place / "a.pth"))
    assert "SRVGGNetCompact" in told
    state = torch.load(place / "a.pth", weights_only=True)["params"]
    low = torch.rand(1, 1, 9, 8)
    x = low
    for number in range(7):
        layer = [state[f"body.{number}.{kind}"] for kind in ("weight", "bias") if f"body.{number}.{kind}" in state]
        x = F.conv2d(x, *layer, padding=1) if len(layer) == 2 else F.prelu(x, *layer)
    expected = F.pixel_shuffle(x, 3) + F.interpolate(low, scale_factor=3)
    torch.testing.assert_close(network(low), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["srcnn", "ecbsr", "srvgg", "rrdb"])
def test_8_bits_come_near_and_the_loss_is_told(place, photograph, name):
    for number in range(4):
        write_picture(place / "photographs" / f"{number}.png", resize(photograph.roll(40 * number, -1), size=(60, 72)))
    network = NETWORKS[name]()
    checkpoint = {
        "model": name,
        "shape": {},
        "scale": network.scale if name != "srcnn" else 2,
        "degradation": "bicubic",
    }
    settings = ExportSettings(place / "a.onnx", int8=True, photographs=(place / "photographs",))
    told = export.export(network.eval(), checkpoint, settings)
    found = re.match(r"8 bits cost (\S+) dB: (\S+) dB on 2 photographs, (\S+) in", told)
    loss, after, before = map(float, found.groups())
    assert loss == pytest.approx(before - after, abs=0.011) and abs(loss) < 1.5
    model = onnx.load(place / "a.onnx")
    kinds = [node.op_type for node in model.graph.node]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert kinds.count("QuantizeLinear") >= len(convolutions) - 2 and model.metadata_props
    actual = onnx_files.runner(model.SerializeToString())(photograph[:, : graph_of(network).channels])
    exact = network(photograph[:, : graph_of(network).channels])
    assert 0 < (actual - exact).abs().mean() < 4 / 255


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"path": Path("a.txt")}, "must end in .onnx"),
        ({"int8": True}, "go together"),
        ({"photographs": ("x",)}, "go together"),
        ({"int8": True, "half": True, "photographs": ("x",)}, "without --half"),
        ({"path": Path("a.pth"), "half": True}, "always float32"),
    ],
)
def test_what_does_not_go_together(place, settings, told):
    with pytest.raises(UsageError, match=told):
        export.check_settings(replace(ExportSettings(place / "a.onnx"), **settings))


def test_a_wrong_file_never_gets_its_name(place, monkeypatch):
    network = lively("rrdb")
    checkpoint = {"model": "rrdb", "shape": network.shape, "scale": 4, "degradation": "bicubic"}
    monkeypatch.setattr(onnx_files, "runner", lambda _: lambda picture: network(picture) + 0.01)
    with pytest.raises(UserError, match="another picture"):
        export.export(network, checkpoint, ExportSettings(place / "a.onnx"))
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(("package", "suffix"), [("onnx", "onnx"), ("safetensors.torch", "safetensors")])
def test_a_missing_package_is_asked_for_in_one_line(place, monkeypatch, package, suffix):
    monkeypatch.delitem(sys.modules, "engine.onnx_files")
    monkeypatch.delattr("engine.onnx_files")
    monkeypatch.setitem(sys.modules, package, None)
    finished = run("export", "-m", "srvgg", "-o", place / f"a.{suffix}")
    assert finished.returncode == 1 and list(place.iterdir()) == []
    name = package.split(".")[0]
    assert finished.stderr == f"error: export needs a package that is not installed: pip install {name}\n"


def test_the_command(place):
    finished = run("export", "-m", "srcnn", "-s", "2", "-o", place / "a.onnx")
    assert finished.returncode == 0 and "srcnn ×2" in finished.stdout and "differs from PyTorch" in finished.stdout
    finished = run("export", "-m", "srcnn", "-s", "2", "-o", place / "a.pth")
    assert finished.returncode == 2 and "no layout" in finished.stderr
    assert run("export", "-m", "srcnn", "-s", "7", "-o", place / "a.onnx").returncode == 2


def test_no_flag_of_other_commands_is_taken_and_ignored(place, capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["export", "-m", "srcnn", "-o", "x.pth", "--ensemble"])
    assert stopped.value.code == 2 and "--ensemble" in capsys.readouterr().err
