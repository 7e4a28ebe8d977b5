"""What a training run survives: being killed, interrupted, a full disk; and being spread over processes.

These start real processes on tiny networks. What they must leave is compared bit for bit with a run left in peace.
"""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from engine import checkpoints
from engine.checkpoints import load_checkpoint
from imaging.console import UserError

HERE = Path(__file__).parent
# A run of 24 steps in 4 epochs, saved after every step.
RUN = """
import os
import signal
import sys
from datetime import timedelta
from dataclasses import replace
from pathlib import Path
import torch
from engine import data, devices, pairs
from imaging.console import run_command
from engine.settings import Adversarial, Settings
from engine.devices import joined_processes
from engine.saving import Upkeep
from engine.starting import Start
from engine.training import train

data.UPDATES_PER_EPOCH = 6
data.REAL_MARGIN = 2
pairs.PIXELS_IN_MEMORY = 0 if "packed" in sys.argv[1] else 300_000_000
data.PairPool.__init__.__defaults__ = (12,)  # soon full, so that pairs of earlier steps come out
SHAPE = {"scale": 4, "features": 8, "growth": 4, "blocks": 1, "unshuffle": False}
ADVERSARIAL = Adversarial(layers={"conv1_2": 1.0}, features=4, perceptual="random")
SETTINGS = {
    "srcnn": Settings(shape={"kernels": [9, 1, 5]}, batch=4, patch=20),
    "rrdb": Settings("rrdb", 4, shape=SHAPE, batch=4, patch=8, ema=0.9, accumulate=2),
    "esrgan": Settings("esrgan", 4, shape=SHAPE, batch=4, patch=8, ema=0.9, adversarial=ADVERSARIAL),
    "esrgan-real": Settings(
        "esrgan", 4, "real", shape=SHAPE, batch=4, patch=8, ema=0.9,
        adversarial=replace(ADVERSARIAL, discriminator="unet"),
    ),
}
if "freezing" in sys.argv[1]:
    devices.TIMEOUT = timedelta(seconds=3)
    cut = data.Data.cut
    def freezing_cut(self, step):
        if step == 9 and self.rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        return cut(self, step)
    data.Data.cut = freezing_cut
def main(options):
    settings = SETTINGS[sys.argv[1].removesuffix("-packed").removesuffix("-freezing")]
    with joined_processes(torch.device("cpu")):
        train(settings, [Path("photographs")], 4, Start("-n" in sys.argv), torch.device("cpu"), upkeep=Upkeep(0))
sys.exit(run_command(main, None))
"""


def start(*arguments: str, launcher=()) -> subprocess.Popen:
    """A process that trains in the working folder."""
    Path("run.py").write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "run.py", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen, expected: int = 0) -> str:
    """Wait for it; what it said."""
    told = process.communicate(timeout=120)[1]
    assert process.returncode == expected, told
    assert "Traceback" not in told
    return told


def newest(model: str) -> tuple[Path, dict]:
    model, _, degradation = model.removesuffix("-packed").partition("-")
    return checkpoints.find_latest(checkpoints.MODELS, model=model, degradation=degradation or "bicubic")


def everything(checkpoint: dict) -> dict:
    """All that must be equal of two runs: tensors and numbers by name, but for the time that it took."""
    found = {}

    def collect(name: str, value) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                collect(f"{name}.{key}", inner)
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                collect(f"{name}.{index}", inner)
        elif not name.endswith((".seconds", ".date")):
            found[name] = value

    collect("", checkpoint)
    return found


def assert_same(one: dict, two: dict) -> None:
    first, second = everything(one), everything(two)
    assert first.keys() == second.keys()
    for name, value in first.items():
        same = torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]
        assert same, name


def wait_for_step(process: subprocess.Popen, step: int) -> None:
    """Wait until a checkpoint of that step or a later one is on the disk."""
    before = {path: path.stat().st_mtime_ns for path in Path().glob("models/*.pt")}
    while process.poll() is None:
        for path in Path().glob("models/*.pt"):
            if before.get(path) != path.stat().st_mtime_ns:
                before[path] = path.stat().st_mtime_ns
                if load_checkpoint(path)["training"]["step"] >= step:
                    return
        time.sleep(0.002)


def kill_and_go_on(model: str, generator: random.Random) -> dict:
    """Kill a new run with SIGKILL at some step, in the midst of whatever it does, and finish it."""
    for _ in range(5):
        process = start(model, "-n")
        wait_for_step(process, generator.randrange(0, 15))
        time.sleep(generator.uniform(0, 0.03))
        process.kill()
        process.communicate()
        path, checkpoint = newest(model)  # whole, whenever it was
        if checkpoint["training"]["step"] < 24:  # else this machine was so slow to kill it that it had finished
            finish(start(model))
            return load_checkpoint(path)
        time.sleep(1)
    raise AssertionError("every run was finished before it could be killed")


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize("model", ["srcnn", "srcnn-packed", "rrdb", "esrgan", "esrgan-real"])
def test_a_killed_run_goes_on_to_the_same_weights(photographs, model):
    finish(start(model, "-n"))
    whole = newest(model)[1]
    assert whole["training"]["step"] == 24
    time.sleep(1)  # names of files and dates have whole seconds
    assert_same(whole, kill_and_go_on(model, random.Random(model)))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["srcnn", "esrgan-real"])
def test_a_run_may_be_killed_at_any_moment(photographs, model):
    finish(start(model, "-n"))
    whole, generator = newest(model)[1], random.Random(f"many of {model}")
    for _ in range(3):
        time.sleep(1)
        assert_same(whole, kill_and_go_on(model, generator))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=SLOW), signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(photographs, number):
    process = start("srcnn", "-n")
    wait_for_step(process, 0)
    process.send_signal(number)
    told = finish(process, 130)
    path, checkpoint = newest("srcnn")
    assert f"stopped and saved in {path}" in told and "resumes it" in told
    assert checkpoint["training"]["step"] < 24


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_checkpoint(photographs, monkeypatch):
    finish(start("srcnn", "-n"))
    path, before = newest("srcnn")
    content = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        checkpoints.save_checkpoint(before, path)
    assert path.read_bytes() == content
    assert sorted(path.parent.iterdir()) == sorted(path.parent.glob(f"{path.stem}.*"))  # nothing half-written is left


@pytest.mark.slow
def test_a_folder_that_may_not_be_written_is_one_line(photographs):
    finish(start("srcnn", "-n"))
    path, _ = newest("srcnn")
    content = path.read_bytes()
    if os.geteuid() == 0:  # root may write anywhere: let something stand in the way instead
        path.parent.rename("kept")
        Path("models").write_text("no folder")
        kept, expected = Path("kept") / path.name, 2
    else:
        path.parent.chmod(0o500)
        kept, expected = path, 1
    try:
        told = finish(start("srcnn", "-n"), expected).strip().splitlines()[-1]
    finally:
        kept.parent.chmod(0o700)
    assert told.startswith("error: cannot write models") and kept.read_bytes() == content


# ---------------------------------------------------------------------------------------------
# Several processes
# ---------------------------------------------------------------------------------------------

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# One update of rrdb in float64: each process keeps its share of the batch and the gradient that it would follow.
SHARE = """
import sys
from pathlib import Path
import torch
from engine import devices, updates
from engine.data import Data
from engine.settings import Settings
from engine.starting import ANEW, starting_weights

build, from_bytes = updates.build, updates.from_bytes
updates.build = lambda *arguments: build(*arguments).double()
updates.from_bytes = lambda pixels: from_bytes(pixels).double()
shape = {"scale": 4, "features": 8, "growth": 4, "blocks": 1}
settings = Settings("rrdb", 4, shape=shape, batch=4, patch=8, accumulate=2)
device = torch.device("cpu")
with devices.joined_processes(device):
    rank, size = devices.rank_and_size()
    data = Data([Path("photographs")], settings, device, rank, size)
    weights = starting_weights(settings, ANEW)
    stage = updates.make_stage(settings, weights, device)
    kept = {}
    stage.optimizer.step = lambda: kept.update({n: p.grad.clone() for n, p in stage.network.named_parameters()})
    low, high = data.cut(0)
    figures = devices.mean_over_processes(stage.update(low, high, 1e-3, 0), stage.device)
    torch.save({"low": low, "high": high, "gradient": kept, "loss": figures["loss"]}, f"share{rank}of{size}.pt")
"""


@pytest.mark.slow
def test_two_processes_make_the_update_of_one(photographs):
    Path("share.py").write_text(SHARE)
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    for launcher in ((), TORCHRUN):
        subprocess.run([sys.executable, *launcher, "share.py"], env=environment, check=True, timeout=120)
    whole, first, second = (torch.load(f"share{name}.pt") for name in ("0of1", "0of2", "1of2"))
    for name in ("low", "high"):
        assert torch.equal(whole[name], torch.cat((first[name], second[name])))
    assert whole["loss"] == pytest.approx(first["loss"], rel=1e-6) and first["loss"] == second["loss"]
    for name, gradient in whole["gradient"].items():
        for share in (first, second):
            torch.testing.assert_close(share["gradient"][name], gradient, atol=1e-10, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["esrgan", "esrgan-real"])
def test_two_processes_train_and_the_first_alone_writes(photographs, model):
    told = finish(start(model, "-n", launcher=TORCHRUN))
    checkpoint = newest(model)[1]
    assert len(list(Path("models").glob("*.pt"))) == 1 and told.count("training on") == 1
    assert checkpoint["training"]["step"] == 24 and len(checkpoint["history"]) == 4
    finish(start(model, launcher=TORCHRUN))  # goes on in several processes too
    assert len(newest(model)[1]["history"]) == 8


@pytest.mark.slow
def test_a_process_that_freezes_ends_the_run_in_one_line(photographs):
    """Of two processes the second stops as if its machine hung: the first says so, and what was saved stays."""
    process = start("srcnn-freezing", "-n", launcher=TORCHRUN)
    told = process.communicate(timeout=300)[1]
    lines = [line for line in told.splitlines() if "error: process 0 of 2" in line]
    assert process.returncode and len(lines) == 1 and "has not answered for 3 seconds" in lines[0]
    assert "training.py" not in told and newest("srcnn")[1]["training"]["step"] < 24


@pytest.mark.slow
def test_a_mistake_in_two_processes_is_told_once(photographs):
    process = start("esrgan", launcher=TORCHRUN)  # there is no rrdb to start from
    told = process.communicate(timeout=120)[1]
    assert process.returncode and told.count("error: esrgan starts from a trained rrdb") == 1
    assert "training.py" not in told  # torchrun prints a report of its own, but there is no traceback of ours
