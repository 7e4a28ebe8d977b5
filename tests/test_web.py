"""The page in web/: its files are those of the networks that ship, and Chromium computes with them what Python does."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import numpy
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from engine.checkpoints import PRETRAINED, load_checkpoint
from engine.export import metadata
from engine.graphs import graph_of
from engine.networks import load_network
from engine.onnx_files import make_model
from imaging.images import resize, to_image

WEB = Path(__file__).parents[1] / "web"
LISTED = json.loads((WEB / "networks" / "networks.json").read_text(encoding="utf-8"))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry["file"])
def test_files_are_those_of_the_networks_that_ship(entry):
    """`python tools/build_web.py` makes them."""
    checkpoint = load_checkpoint(PRETRAINED / f"{Path(entry['file']).stem}.pt")
    network = load_network(checkpoint)
    about = metadata(network, checkpoint)
    expected, actual = make_model(graph_of(network), about), onnx.load(WEB / entry["file"])
    assert [node.op_type for node in actual.graph.node] == [node.op_type for node in expected.graph.node]
    for one, other in zip(actual.graph.initializer, expected.graph.initializer, strict=True):
        assert one.name == other.name and numpy.array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    assert {pair.key: pair.value for pair in actual.metadata_props} == about
    assert (entry["scale"], entry["margin"]) == (int(about["scale"]), network.margin)
    assert entry["luma"] == network.luma and entry["enlarged"] == (about["enlarged"] != "no")


def test_networks_are_small_enough_and_all_are_listed():
    files = set((WEB / "networks").glob("*.onnx"))
    assert files == {WEB / entry["file"] for entry in LISTED}
    assert sum(path.stat().st_size for path in files) < 8e6


@contextmanager
def served(*program):
    """The address of the page, served by a program that prints it first."""
    with subprocess.Popen([sys.executable, "-u", *program], stdout=subprocess.PIPE, text=True) as server:
        try:
            yield re.search(r"http://[^ )]+", server.stdout.readline())[0]
        finally:
            server.terminate()


def test_the_server_sets_the_headers_that_threads_need():
    if not (WEB / "node_modules").is_dir():
        pytest.skip("npm ci has not been run in web/")
    with served(WEB / "serve.py", "-p", "0") as address:
        for name, kind in (
            ("", "text/html"),
            ("worker.js", "text/javascript"),
            ("networks/networks.json", "application/json"),
        ):
            with urlopen(Request(address + name)) as answer:
                assert answer.headers["Content-Type"] == kind
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_without_the_package_the_server_says_so(tmp_path):
    shutil.copy(WEB / "serve.py", tmp_path)
    told = subprocess.run([sys.executable, tmp_path / "serve.py"], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "npm ci" in told.stderr and told.stderr.count("\n") == 1


def make_cases(folder: Path, photograph) -> list[dict]:
    """Pictures of every kind, and which network gets which."""
    image = to_image(photograph[..., 20:60, 30:83])
    image.save(folder / "small.png")
    to_image(resize(photograph, size=(131, 150)).clamp(0, 1)).save(folder / "large.png")  # several tiles, odd sides
    image.save(folder / "photo.jpg")
    image.convert("L").save(folder / "grey.png")
    alpha = Image.radial_gradient("L").resize(image.size)
    image.putalpha(alpha.point(lambda value: max(0, 255 - 2 * value)))
    image.save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned
    to_image(photograph[..., 20:60, 30:83]).save(folder / "turned.png", exif=exif)
    (folder / "note.png").write_text("no picture")
    (folder / "cut.png").write_bytes((folder / "large.png").read_bytes()[:5000])
    Image.new("1", (10_000, 10_000)).save(folder / "huge.png")
    names = {(entry["name"], entry["scale"]) for entry in LISTED}
    cases = [(network, scale, "large.png") for network, scale in sorted(names)]
    cases += [("SRCNN", 2, file) for file in ("grey.png", "alpha.png", "turned.png")]
    cases += [("SRVGG", 4, file) for file in ("grey.png", "alpha.png", "turned.png")]
    cases += [("ECBSR", 2, file) for file in ("grey.png", "alpha.png") if ("ECBSR", 2) in names]
    return [{"network": network, "scale": scale, "file": file} for network, scale, file in cases]


@pytest.mark.slow
def test_chromium_computes_what_python_does_and_refuses_in_sentences(tmp_path, photograph):
    if not (shutil.which("node") and (WEB / "node_modules" / "playwright-core").is_dir() and starts(CHROMIUM)):
        pytest.skip("needs a Chromium that starts, Node and `npm ci` in web/")
    cases = make_cases(tmp_path, photograph)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    static = "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", WEB
    with served(WEB / "serve.py", "-p", "0") as address, served(*static) as host:
        seen = in_chromium(tmp_path, address, host)
    assert seen["errors"] == []
    for case in [*cases, {"network": "ECBSR", "scale": 2, "file": "small.png"}]:  # the last by WebGPU
        compare(tmp_path, case)
    told = seen["told"]
    assert "WebAssembly" in told["runtime"] or "WebGPU" in told["runtime"]
    assert "threads" in told["runtime"] or os.cpu_count() == 1 or "WebGPU" in told["runtime"]
    assert "threads" in told["hosted"] or "WebGPU" in told["hosted"] or os.cpu_count() == 1
    assert told["GPU"] == "WebGPU" and "WebAssembly" in told["software GPU"] and "WebAssembly" in told["lost GPU"]
    assert told["drop"].startswith("Done") and told["paste"].startswith("Done")
    assert told["cancelled"] == "Cancelled." and told["hidden"]
    assert "no picture" in told["note.png"] and "damaged" in told["cut.png"]
    assert "100 megapixels" in told["huge.png"] and "missing" in told["no network"]
    assert "no WebAssembly" in told["no WebAssembly"]
    suited = {entry["suits"]: entry["name"] for entry in LISTED if entry["suits"]}
    assert told["network for small.png"] == suited["lossless"] and told["network for photo.jpg"] == suited["lossy"]
    assert told["network for by hand"] == "ECBSR"
    assert told["named"] and told["slider"] == "51" and {"network", "factor"} <= set(told["reached"])
    assert told["saved late"][0] == "photo.x2.ecbsr.png" and told["saved late"][1].startswith("Done")
    assert told["sample late"] == 53  # the width of what was chosen after it
    for part, (reason, then) in told["fetched anew"].items():
        assert then.startswith("Done"), (part, reason, then)
        assert ("ecbsr_x2" in reason, "onnxruntime" in reason) == ("ecbsr_x2" in part, "ort" in part), (part, reason)
    if any(entry["live"] for entry in LISTED):
        off = ["ended", "The camera is off.", True]
        assert told["late cameras"] == {"stopped": off, "again": off, "picture": ["ended", "finished", True]}
        assert "not allowed" in told["no camera"] and "frames a second" in told["rate"]
        assert told["live"][1] == 640 and told["live"][3] > 50


def starts(browser: str | None) -> bool:
    """Whether a browser shows a page of one word: in some containers it never does."""
    if not browser:
        return False
    flags = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--dump-dom"]
    # Files and no pipes, which a child of it would hold open.
    with open(os.devnull, "r+") as nothing, tempfile.TemporaryFile("w+") as shown:
        command = [browser, *flags, "data:text/html,here"]
        with subprocess.Popen(command, stdin=nothing, stdout=shown, stderr=nothing) as process:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        shown.seek(0)
        return "here" in shown.read()


def in_chromium(folder: Path, address: str, host: str) -> dict:
    """What check.mjs has seen. Its output goes to files: a browser that outlives it would hold a pipe open for ever."""
    printed, complained = folder / "seen.json", folder / "complaints.txt"
    program = ["node", WEB / "check.mjs", address, host, folder]
    with (
        open(printed, "wb") as out,
        open(complained, "wb") as errors,
        subprocess.Popen(program, env={**os.environ, "CHROMIUM": CHROMIUM}, stdout=out, stderr=errors) as process,
    ):
        try:
            process.wait(timeout=700)
        finally:
            process.terminate()  # on which it ends the browser too
    assert printed.stat().st_size, complained.read_text()
    return json.loads(printed.read_text())


def compare(folder: Path, case: dict) -> None:
    """What the page saved beside what `upscale` writes, pixel by pixel: within a level."""
    weights = next(e["file"] for e in LISTED if (e["name"], e["scale"]) == (case["network"], case["scale"]))
    saved = folder / "saved" / f"{case['network']}.x{case['scale']}.{case['file']}"
    result = folder / f"python.{saved.name}"
    command = ["upscale", "-i", folder / case["file"], "-o", result, "-m", PRETRAINED / f"{Path(weights).stem}.pt"]
    subprocess.run([sys.executable, WEB.parent / "main.py", *command, "--precision", "fp32"], check=True)
    actual, expected = (numpy.asarray(Image.open(path).convert("RGBA"), int) for path in (saved, result))
    assert actual.shape == expected.shape, case
    assert numpy.abs(actual - expected).max() <= 1, (case, numpy.abs(actual - expected).max(axis=(0, 1)))
