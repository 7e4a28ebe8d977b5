"""Megapixels a second that the page computes in Chromium, beside ONNX Runtime and this program with the same weights.

benchmark.py's section `page` prints it. It needs Node, Chromium and `npm ci` in web/, and is left out without them.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from peak_memory import synthetic_photograph
from peers import by_onnxruntime
from torch import Tensor

from engine.checkpoints import PRETRAINED, load_checkpoint
from engine.networks import Network, is_given_enlarged, load_network
from engine.runtimes import Runtime
from engine.upscaling import Tiling, upscale
from imaging.images import from_bytes, resize

WEB = Path(__file__).parents[1] / "web"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def can_run() -> bool:
    """Whether the page can be opened here."""
    return bool(CHROMIUM and shutil.which("node") and (WEB / "node_modules" / "playwright-core").is_dir())


def listed() -> list[dict]:
    """networks.json's entries, the largest scale of each network."""
    entries = json.loads((WEB / "networks" / "networks.json").read_text(encoding="utf-8"))
    return list({entry["name"]: entry for entry in sorted(entries, key=lambda entry: entry["scale"])}.values())


def side_for(entry: dict) -> int:
    """Pixels a side of the low picture that takes the page some seconds."""
    return 512 if entry["luma"] else 320


@contextmanager
def opened_page(entry: dict, file: Path) -> Iterator[Callable[[], str]]:
    """What enlarges a file in the page by one of networks.json's entries, and tells by which runtime."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "CHROMIUM": CHROMIUM}
    with subprocess.Popen([sys.executable, "-u", WEB / "serve.py", "-p", "0"], **pipes) as server:
        address = re.search(r"http://[^ )]+", server.stdout.readline())[0]
        command = ["node", WEB / "measure.mjs", address, entry["name"], str(entry["scale"]), file]
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, **pipes) as node:

            def ask(line: str = "\n") -> str:
                node.stdin.write(line)
                node.stdin.flush()
                return node.stdout.readline().strip()

            try:
                if ask("") != "ready":
                    raise RuntimeError("the page did not open in Chromium")
                yield ask
            finally:
                node.stdin.close()
                node.wait(30)
                server.terminate()


def bare_input(network: Network, low: Tensor, scale: int) -> Tensor:
    """What the bare network is given of a low picture (1, 3, H, W): for those on luma one of its channels will do."""
    picture = low[:, :1] if network.luma else low
    return resize(picture, scale).clamp(0, 1) if is_given_enlarged(network) else picture


def make_jobs(entry: dict, folder: Path, stack: ExitStack) -> dict[str, Callable[[], object]]:
    """Name → what enlarges one photograph, for one of networks.json's entries: first the page."""
    side = side_for(entry)
    file = folder / f"{side}.png"
    image = synthetic_photograph(1).crop((0, 0, side, side))
    image.save(file)
    low = from_bytes(torch.from_numpy(numpy.array(image)).movedim(2, 0)[None])
    network = load_network(load_checkpoint(PRETRAINED / f"{Path(entry['file']).stem}.pt")).eval().requires_grad_(False)
    jobs: dict[str, Callable[[], object]] = {"page": stack.enter_context(opened_page(entry, file))}
    if find_spec("onnxruntime"):
        session, given = by_onnxruntime(network), bare_input(network, low, entry["scale"])
        jobs["ONNX Runtime, network alone"] = lambda: session(given)
    for runtime in ("torch", "openvino")[: 1 + bool(find_spec("openvino"))]:
        ready = Runtime(precision="fp32", wanted=runtime).ready(network)
        jobs[f"here, {runtime}"] = lambda ready=ready: upscale(ready, low, entry["scale"], Tiling(precision="fp32"))
    return jobs
