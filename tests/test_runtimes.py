"""What computes a network: OpenVINO gives the pictures that PyTorch gives, and PyTorch goes on where it fails."""

import json
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from test_export import NETWORKS, lively
from test_main import run

from engine import choosing, runtimes
from engine.batch import upscale_frame
from engine.ensembles import Ensemble
from engine.graphs import graph_of
from engine.runtimes import OpenVINONetwork, Runtime, choose_runtime
from engine.upscaling import Tiling, in_tiles, upscale
from esrgan import RRDBNet, SRVGGNetCompact
from imaging.console import UsageError, UserError
from imaging.files import read_picture
from imaging.images import to_image
from imaging.saving import write_picture
from srcnn import SRCNN

LEVEL = 1 / 255


@pytest.fixture
def openvino(monkeypatch, tmp_path):
    """OpenVINO as it is installed, with an empty cache."""
    module = pytest.importorskip("openvino")
    monkeypatch.setattr(runtimes, "is_installed", lambda: True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path / "cache")
    return module


@pytest.mark.parametrize("name", NETWORKS)
@torch.inference_mode()
def test_it_computes_what_pytorch_does(name, openvino):
    network = lively(name)
    ours = OpenVINONetwork(network)
    for size in ((40, 30), (13, 7), (1, 30)):
        picture = torch.rand(1, 1 if network.luma else 3, *size)
        expected = network(picture)
        found = ours(picture)
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, atol=2e-5 * max(1, expected.abs().max().item()), rtol=0)
    assert ours.works and len(ours.compiled) == 1  # once for all sizes


@pytest.mark.parametrize("name", ["rrdb", "rrdb-unshuffle", "rrdb-grey"])
@torch.inference_mode()
def test_in_half_precision_the_picture_itself_is_not_rounded(name, openvino):
    """The first layer, its picture and weights rounded as half precision does it, gives what it gives in float32."""
    from engine.openvino_models import halves, make_model, with_exact_input

    network = lively(name)
    first, channels = graph_of(network), network.conv_first.in_channels // network.fold**2
    while first.nodes[-1].kind != "conv" or "conv" in [node.kind for node in first.nodes[:-1]]:
        first.nodes.pop()
    exact = with_exact_input(first.finish())
    for node in exact.nodes:
        if node.kind == "conv":
            node.weights["weight"] = torch.from_numpy(node.weights["weight"]).bfloat16().float().numpy()
    picture = torch.rand(1, channels, 12, 16)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}  # processors with bfloat16 would round again
    run = openvino.Core().compile_model(make_model(exact, (-1, -1)), "CPU", hint)
    found = torch.from_numpy(run({0: halves(picture).bfloat16().float().numpy()})[0])
    folded, conv = F.pixel_unshuffle(picture, network.fold), network.conv_first
    expected = conv(folded)
    rounded = F.conv2d(folded.bfloat16().float(), conv.weight.bfloat16().float(), conv.bias, padding=1)
    assert (found - expected).abs().max() < 0.05 * (rounded - expected).abs().max()


@pytest.mark.parametrize("network", [SRCNN((9, 1, 5)), SRVGGNetCompact(2, 4, 1), RRDBNet(2, 4, 2, 1)])
def test_pictures_in_tiles_are_those_of_pytorch(network, openvino, photograph):
    network, low = network.eval(), photograph[..., :37, :45]
    ours, scale = OpenVINONetwork(network), 2 if network.luma else network.scale
    for one, two in ((ours, network), (Ensemble(ours), Ensemble(network))):
        expected = upscale(two, low, scale, Tiling(32))
        found = upscale(one, low, scale, Tiling(32))
        assert (found - expected).abs().max() < LEVEL / 10
    frame = to_image(low)
    size = 90, 110
    one, two = (upscale_frame(each, frame, scale, size, Tiling(32)) for each in (ours, network))
    differences = [abs(a - b) for a, b in zip(one.tobytes(), two.tobytes(), strict=True)]
    assert max(differences) <= 1 and ours.works


def test_a_result_outlives_the_next_tile(openvino):
    network = OpenVINONetwork(SRVGGNetCompact(2, 4, 1).eval())
    first = in_tiles(network, torch.rand(1, 3, 20, 20), 2)
    kept = first.clone()
    in_tiles(network, torch.rand(1, 3, 20, 20), 2)
    assert torch.equal(first, kept)


def test_what_was_compiled_is_kept_and_what_is_damaged_is_not_used(openvino, monkeypatch):
    from engine import openvino_runs
    from engine.openvino_runs import Compiled

    network, picture = SRVGGNetCompact(2, 4, 1).eval().requires_grad_(False), torch.rand(1, 3, 9, 12)
    expected = Compiled(network, "CPU", torch.float32)(picture)
    again = Compiled(network, "CPU", torch.float32)
    assert again.was_kept and torch.equal(again(picture), expected)
    (path,) = openvino_runs.cache_folder().glob("*")
    content = bytearray(path.read_bytes())
    for damaged in (content[:-9], content[:40] + b"\xff" * 4 + content[44:], b""):
        path.write_bytes(damaged)
        again = Compiled(network, "CPU", torch.float32)
        assert not again.was_kept and torch.equal(again(picture), expected)
    assert Compiled(network, "CPU", torch.float32).was_kept  # it was written anew
    network.body[0].bias += 0.5
    assert not Compiled(network, "CPU", torch.float32).was_kept  # other weights, another name
    monkeypatch.setattr(openvino_runs, "KEPT", 1)
    network.body[0].bias += 0.5
    Compiled(network, "CPU", torch.float32)
    assert len(list(openvino_runs.cache_folder().glob("*"))) == 1


def test_a_cache_that_cannot_be_written_breaks_nothing(openvino, monkeypatch):
    from engine import openvino_runs

    def no_home():
        raise RuntimeError("could not determine home directory")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert not openvino_runs.cache_folder().exists()
    network = OpenVINONetwork(SRVGGNetCompact(2, 4, 1).eval().requires_grad_(False))
    network(torch.rand(1, 3, 8, 8))
    assert network.works


@pytest.mark.parametrize("cause", ["it raises", "another picture"])
@torch.inference_mode()
def test_where_it_fails_pytorch_goes_on(cause, openvino, monkeypatch, capsys):
    from engine import openvino_runs

    network, picture = RRDBNet(2, 4, 2, 1).eval(), torch.rand(1, 3, 20, 24)
    if cause == "it raises":
        monkeypatch.setattr(openvino_runs, "make_model", lambda *_: 1 / 0)
    else:
        make = openvino_runs.graph_of
        other = RRDBNet(2, 4, 2, 1).eval()
        monkeypatch.setattr(openvino_runs, "graph_of", lambda _: make(other))
    ours = OpenVINONetwork(network)
    for _ in range(2):
        assert torch.equal(ours(picture), network(picture))
    told = capsys.readouterr().err
    assert told.startswith("OpenVINO fails, and PyTorch goes on: ") and told.count("\n") == 1
    assert ("another picture" in told) == (cause == "another picture")


def test_a_precision_that_the_processor_has_not_is_told(openvino, capsys):
    network = OpenVINONetwork(SRVGGNetCompact(2, 4, 1).eval().requires_grad_(False))
    for _ in range(2):  # once is enough
        in_tiles(network, torch.rand(1, 3, 8, 8), 2, Tiling(precision="bf16"))
    can = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    told = "" if can else "OpenVINO computes in float32: CPU has no bfloat16 here\n"
    assert capsys.readouterr().err == told


def test_half_precision_is_asked_for_under_autocast(monkeypatch):
    """OpenVINO's own rounding can be seen on few processors; what it is asked for, on all."""
    asked = []

    def compiled(network, device, precision, size):
        asked.append((type(network).__name__, device, precision, size))
        return network

    monkeypatch.setitem(
        sys.modules, "engine.openvino_runs", types.SimpleNamespace(Compiled=compiled, ANY=(-1, -1), PROBE=(24, 20))
    )
    srvgg, srcnn = SRVGGNetCompact(2, 4, 1).eval(), SRCNN((9, 1, 5)).eval()
    in_tiles(OpenVINONetwork(srvgg), torch.rand(1, 3, 8, 8), 2, Tiling(precision="bf16"))
    in_tiles(OpenVINONetwork(srcnn), torch.rand(1, 1, 8, 8), 1, Tiling(precision="bf16"))
    in_tiles(OpenVINONetwork(srvgg, "NPU"), torch.rand(1, 3, 8, 9), 2, Tiling(precision="fp16"))
    assert asked == [
        ("SRVGGNetCompact", "CPU", torch.bfloat16, (-1, -1)),
        ("SRCNN", "CPU", torch.float32, (-1, -1)),
        ("SRVGGNetCompact", "NPU", torch.float16, (24, 20)),
        ("SRVGGNetCompact", "NPU", torch.float16, (8, 9)),
    ]


def test_which_runtime_is_chosen(monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda: True)
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "AMD64")
    for precision, network, expected in (
        ("fp32", SRCNN(), True), ("fp32", RRDBNet(2, 4, 2, 1), True), ("bf16", SRVGGNetCompact(2, 4, 1), True),
        ("bf16", SRCNN(), False), ("bf16", RRDBNet(4, 4, 2, 1), True), ("bf16", RRDBNet(2, 4, 2, 1), False),
    ):  # fmt: skip
        assert Runtime(precision=precision, wanted="auto").is_openvino(network) is expected
        assert Runtime(precision=precision, wanted="openvino").is_openvino(network)
        assert not Runtime(precision=precision, wanted="torch").is_openvino(network)
        assert not Runtime(torch.device("cuda"), precision, "auto").is_openvino(network)
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "arm64")
    assert not Runtime(wanted="auto").is_openvino(SRCNN())


def test_without_the_package_auto_is_silent_and_openvino_says_what_to_do(monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda: False)
    assert not choose_runtime("auto", "fp32", None, cpu=True).is_openvino(SRCNN())
    for arguments in (("openvino", "fp32", None), ("auto", "fp32", "NPU")):
        with pytest.raises(UserError, match="pip install openvino"):
            choose_runtime(*arguments, cpu=False)


def test_a_device_that_is_not_there_is_refused(openvino, monkeypatch):
    for runtime, cpu in (("torch", False), ("auto", True)):
        with pytest.raises(UsageError, match="--device NPU: is for OpenVINO"):
            choose_runtime(runtime, "auto", "NPU", cpu)
    monkeypatch.setattr(openvino, "Core", lambda: types.SimpleNamespace(available_devices=["CPU", "GPU.0", "GPU.1"]))
    with pytest.raises(UsageError, match=r"sees no such device here, only CPU, GPU\.0, GPU\.1"):
        choose_runtime("auto", "auto", "NPU", cpu=False)
    runtime = choose_runtime("auto", "auto", "GPU", cpu=False)
    assert str(runtime) == "Intel GPU (fp16)" and runtime.ready(SRCNN()).device == "GPU"


def test_the_command_line_uses_it_and_says_so(openvino, place, photograph, monkeypatch):
    monkeypatch.setattr(runtimes.platform, "machine", lambda: "x86_64")
    write_picture(place / "in" / "x.png", photograph[..., :40, :50])
    results = {}
    for name in ("auto", "torch", "openvino"):
        finished = run(
            "upscale", "-i", "in/x.png", "-o", f"{name}.png", "-m", "srvgg", "--cpu", "--precision", "fp32",
            "--runtime", name,
        )  # fmt: skip
        assert finished.returncode == 0 and (", by OpenVINO" in finished.stdout) == (name != "torch"), finished
        results[name] = read_picture(place / f"{name}.png")
    assert torch.equal(results["auto"], results["openvino"])
    assert (results["auto"] - results["torch"]).abs().max() < 1.5 * LEVEL
    figures = {}
    for name in ("auto", "torch"):
        finished = run("evaluate", "-i", "in", "-m", "srvgg", "--cpu", "--runtime", name, "--json", "found.json")
        assert finished.returncode == 0 and (", by OpenVINO" in finished.stdout) == (name != "torch")
        figures[name] = json.loads((place / "found.json").read_text())["sets"]["in"]["model"]["psnr"]
    assert figures["auto"] == pytest.approx(figures["torch"], abs=0.01)


def test_names_of_weights_do_not_depend_on_it():
    """A film that was begun by PyTorch goes on by OpenVINO."""
    network = SRVGGNetCompact(2, 4, 1)
    assert choosing.weights_digest(OpenVINONetwork(network)) == choosing.weights_digest(network)
