"""Checkpoints: round trips, the newest one, and files that are none."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from engine.checkpoints import find_latest, load_checkpoint, new_path, save_checkpoint
from engine.choosing import Chosen
from engine.networks import build_network, load_network
from imaging.console import UsageError, UserError
from srcnn import SRCNN


def make_checkpoint(kernels=(9, 1, 5), scale=2, **entries):
    """A checkpoint of an untrained SRCNN, as training writes it."""
    return {
        "model": "srcnn", "scale": scale, "degradation": "bicubic", "shape": {"kernels": list(kernels)},
        "history": [{"epoch": 1}], "params": SRCNN(kernels).state_dict(), **entries,
    }  # fmt: skip


class Always:
    """A chooser that has one network for all pictures."""

    def __init__(self, network, checkpoint):
        self.fixed = Chosen(network, checkpoint, "")


def make_rrdb(scale=2, **entries):
    """A checkpoint of an untrained, tiny RRDB."""
    shape = {"scale": scale, "features": 4, "growth": 2, "blocks": 1}
    network = build_network("rrdb", shape)
    entries = {"model": "rrdb", "shape": shape, "params": network.state_dict(), **entries}
    return make_checkpoint(scale=scale) | entries


def test_round_trip(place):
    checkpoint = make_checkpoint()
    path = new_path(checkpoint)
    assert path.parent.name == "models" and path.name.startswith("srcnn_x2.") and path.suffix == ".pt"
    save_checkpoint(checkpoint, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    network, luma = SRCNN((9, 1, 5)), torch.rand(1, 1, 20, 20)
    network.load_state_dict(checkpoint["params"])
    restored = load_network(load_checkpoint(path))
    assert torch.equal(restored(luma), network(luma)) and not restored.training
    assert new_path(checkpoint) != path or not path.exists()


def test_half_precision_is_half_the_file_and_opens(place):
    checkpoint = make_checkpoint()
    checkpoint["params"] = {key: value.half() for key, value in checkpoint["params"].items()}
    save_checkpoint(checkpoint, place / "half.pt")
    network = load_network(load_checkpoint(place / "half.pt"))
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_the_newest_that_fits(place):
    folder = place / "models"
    for date, name, checkpoint in (
        ("2026-01-03", "srcnn_x2.a.pt", make_checkpoint(scale=2)),
        ("2026-01-02", "srcnn_x2.b.pt", make_checkpoint((9, 5, 5))),
        ("2026-01-01", "srcnn_x3.c.pt", make_checkpoint(scale=3)),
        ("2026-01-04", "srcnn-real_x2.d.pt", make_checkpoint(degradation="real")),
        ("2026-01-05", "srcnn_x2.e.pt", make_checkpoint(history=[], training={})),
        ("2026-01-06", "mine.pt", make_checkpoint()),
    ):
        save_checkpoint(checkpoint, folder / name)
        torch.save({**load_checkpoint(folder / name), "date": date}, folder / name)
    (folder / "srcnn_x2.z.pt").write_bytes(b"broken")

    def newest(**wanted):
        return find_latest(folder, **wanted)[0].name

    assert newest(model="srcnn", scale=3) == "srcnn_x3.c.pt"
    assert newest(scale=2, degradation="bicubic", shape={"kernels": [9, 5, 5]}) == "srcnn_x2.b.pt"
    assert newest(scale=2, degradation="bicubic", measured=True) == "srcnn_x2.a.pt"
    assert newest(scale=2, degradation="bicubic") == "srcnn_x2.e.pt"
    assert newest() == "srcnn_x2.e.pt"
    assert find_latest(folder, model="rrdb") is None and find_latest(place / "none") is None


class Malicious:
    """Unpickling this would create a file."""

    def __reduce__(self):
        return open, ("ran", "w")


def test_what_is_no_checkpoint_is_refused_and_runs_no_code(place):
    with pytest.raises(UsageError, match="no such checkpoint"):
        load_checkpoint("none.pt")
    (place / "text.pt").write_text("hello")
    torch.save(SRCNN(), place / "module.pt")
    (place / "evil.pt").write_bytes(pickle.dumps({"format": Malicious()}, protocol=2))
    save_checkpoint(make_checkpoint(), place / "whole.pt")
    (place / "cut.pt").write_bytes((place / "whole.pt").read_bytes()[:5000])
    for name, what in (
        ("text", "is a text file"), ("module", r"is a whole module, pickled \(srcnn\.SRCNN\)"),
        ("evil", "is a pickle of Python objects"), ("cut", "is cut off or damaged"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=rf"{name}.pt: {what}"):
            load_checkpoint(place / f"{name}.pt")
    assert not (place / "ran").exists()
    torch.save(torch.rand(3), place / "tensor.pt")
    with pytest.raises(UserError, match=r"tensor\.pt: holds no state dict but a Tensor"):
        load_checkpoint(place / "tensor.pt")
    torch.save({"format": 1, "model": "srcnn"}, place / "part.pt")
    with pytest.raises(UserError, match="it has no date, degradation, history"):
        load_checkpoint(place / "part.pt")
    torch.save({"format": 99}, place / "future.pt")
    with pytest.raises(UserError, match="format 99"):
        load_checkpoint(place / "future.pt")


def test_weights_that_do_not_fit_are_told():
    checkpoint = make_checkpoint(shape={"kernels": [9, 5, 5]})
    with pytest.raises(UserError, match="fit no network"):
        load_network(checkpoint)
    with pytest.raises(UserError, match="fit no network"):
        load_network(make_checkpoint(shape={"sides": 3}))


def test_a_full_disk_leaves_the_old_checkpoint(place, monkeypatch):
    save_checkpoint(make_checkpoint(), place / "x.pt")
    before = (place / "x.pt").read_bytes()

    def fails(*_):
        raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file\nframe #0")

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(UserError, match=r"cannot write .*x\.pt.*the disk is full or takes no more") as caught:
        save_checkpoint(make_checkpoint(), place / "x.pt")
    assert "frame" not in str(caught.value)
    assert (place / "x.pt").read_bytes() == before and len(list(place.iterdir())) == 1


LIMITED = """
import resource, sys
sys.path.insert(0, {root!r})
import torch
from pathlib import Path
from engine.checkpoints import save_checkpoint
from imaging.console import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
weights = {{"x": torch.zeros(100_000)}}
sys.exit(run_command(lambda _: save_checkpoint({{"params": weights}}, Path("models/x.pt")), None))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_a_write_that_fails_is_told_in_plain_words(place):
    """The system takes no more than 100 kB: what a full disk does, without filling one."""
    (place / "models").mkdir()
    (place / "models" / "x.pt").write_bytes(b"before")
    code = LIMITED.format(root=str(Path(__file__).parents[1]))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and told.stderr == (
        "error: cannot write models/x.pt: the disk is full or takes no more; what was saved before is whole\n"
    )
    assert [path.read_bytes() for path in (place / "models").iterdir()] == [b"before"]
