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

import checkpoints
from checkpoints import load_checkpoint
from images import UserError

HERE = Path(__file__).parent
# A run of 24 steps in 4 epochs, saved after every step.
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
import data
from images import run_command
from stages import Adversarial, Settings
from training import train

data.UPDATES_PER_EPOCH = 6
data.REAL_MARGIN = 2
SHAPE = {"scale": 4, "features": 8, "growth": 4, "blocks": 1}
JUDGED = Adversarial(layers={"conv1_2": 1.0}, features=4, perceptual="random")
SETTINGS = {
    "srcnn": Settings(shape={"kernels": [9, 1, 5]}, batch=4, patch=20),
    "rrdb": Settings("rrdb", 4, shape=SHAPE, batch=4, patch=8, average=0.9, accumulate=2),
    "esrgan": Settings("esrgan", 4, shape=SHAPE, batch=4, patch=8, average=0.9, adversarial=JUDGED),
    "rrdb-real": Settings("rrdb", 4, "real", shape=SHAPE, batch=4, patch=8, average=0.9),
}
def main(options):
    settings = SETTINGS[sys.argv[1]]
    train(settings, [Path("photographs")], 4, "-n" in sys.argv, [], torch.device("cpu"), save_every=0)
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
    model, _, degradation = model.partition("-")
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


def left_in_peace(model: str) -> tuple[dict, float]:
    """The checkpoint of a run that nothing happened to, and how many seconds it trained."""
    process = start(model, "-n")
    wait_for_a_checkpoint(process)
    began = time.monotonic()
    finish(process)
    return newest(model)[1], time.monotonic() - began


def wait_for_a_checkpoint(process: subprocess.Popen) -> None:
    before = set(Path().glob("models/*.pt"))
    while set(Path().glob("models/*.pt")) <= before and process.poll() is None:
        time.sleep(0.01)


def kill_and_go_on(model: str, after: float) -> dict:
    """Kill a new run with SIGKILL so many seconds after its first checkpoint, and finish it."""
    process = start(model, "-n")
    wait_for_a_checkpoint(process)
    time.sleep(after)
    process.kill()
    process.communicate()
    path, checkpoint = newest(model)  # whole, whenever it was
    finish(start(model))
    finished_before = checkpoint["training"]["step"] == checkpoint["training"]["last_step"]
    return load_checkpoint(path) if not finished_before else checkpoint


@pytest.mark.parametrize("model", ["srcnn", "rrdb", "esrgan", "rrdb-real"])
def test_a_killed_run_goes_on_to_the_same_weights(photographs, model):
    whole, seconds = left_in_peace(model)
    assert whole["training"]["step"] == 24
    time.sleep(1)  # names of files and dates have whole seconds
    assert_same(whole, kill_and_go_on(model, random.uniform(0, 0.9 * seconds)))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["srcnn", "rrdb", "esrgan"])
def test_a_run_may_be_killed_at_any_moment(photographs, model):
    whole, seconds = left_in_peace(model)
    for _ in range(7 if model != "esrgan" else 6):
        time.sleep(1)
        assert_same(whole, kill_and_go_on(model, random.uniform(0, seconds)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on(photographs, number):
    process = start("srcnn", "-n")
    wait_for_a_checkpoint(process)
    process.send_signal(number)
    told = finish(process, 130)
    path, checkpoint = newest("srcnn")
    assert f"stopped and saved in {path}" in told and "goes on from there" in told
    assert 0 < checkpoint["training"]["step"] < 24


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


def test_a_folder_that_may_not_be_written_is_one_line(photographs):
    finish(start("srcnn", "-n"))
    path, _ = newest("srcnn")
    content = path.read_bytes()
    if os.geteuid() == 0:  # root may write anywhere: let something stand in the way instead
        path.parent.rename("kept")
        Path("models").write_text("no folder")
        kept = Path("kept") / path.name
    else:
        path.parent.chmod(0o500)
        kept = path
    try:
        told = finish(start("srcnn", "-n"), 1).strip().splitlines()[-1]
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
import stages
import training
from data import Data

build, from_bytes = stages.build, stages.from_bytes
stages.build = lambda *arguments: build(*arguments).double()
stages.from_bytes = lambda pixels: from_bytes(pixels).double()
shape = {"scale": 4, "features": 8, "growth": 4, "blocks": 1}
settings = stages.Settings("rrdb", 4, shape=shape, batch=4, patch=8, accumulate=2)
device = torch.device("cpu")
with training.joined_processes(device):
    rank, size = training.rank_and_size()
    data = Data([Path("photographs")], settings, device, rank, size)
    weights = training.starting_weights(settings, True, None)
    stage = stages.make_stage(settings, weights, device)
    kept = {}
    stage.optimizer.step = lambda: kept.update({n: p.grad.clone() for n, p in stage.network.named_parameters()})
    low, high = data.cut(0)
    figures = training.mean_over_processes(stage.update(low, high, 1e-3, 0), device)
    torch.save({"low": low, "high": high, "gradient": kept, "loss": figures["loss"]}, f"share{rank}of{size}.pt")
"""


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


def test_two_processes_train_and_the_first_alone_writes(photographs):
    model = "esrgan"
    told = finish(start(model, "-n", launcher=TORCHRUN))
    checkpoint = newest(model)[1]
    assert len(list(Path("models").glob("*.pt"))) == 1 and told.count("training on") == 1
    assert checkpoint["training"]["step"] == 24 and len(checkpoint["history"]) == 4
    finish(start(model, launcher=TORCHRUN))  # goes on in several processes too
    assert len(newest(model)[1]["history"]) == 8
