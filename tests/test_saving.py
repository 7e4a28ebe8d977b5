"""How a run is kept: what is saved when and where, and that none of it has a part in the weights."""

import math
import threading

import pytest
import torch

import main
from engine import saving, training
from engine.checkpoints import load_checkpoint
from engine.data import Data
from engine.saving import Saver, Upkeep, kept_folder
from engine.settings import Settings
from engine.starting import Start
from engine.training import train
from imaging.console import UsageError, UserError
from imaging.images import resize
from imaging.saving import write_picture

TINY = Settings(shape={"kernels": [9, 1, 5]}, batch=2, patch=20)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short_and_plain(monkeypatch):
    """Four updates an epoch, and nothing drawn."""
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 4)
    monkeypatch.setattr(training, "show_progress", lambda *_: None)


def run(photographs, epochs=2, new=True, **upkeep):
    path = train(TINY, [photographs], epochs, Start(new), CPU, upkeep=Upkeep(**upkeep))
    return path, load_checkpoint(path)


def same(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def test_checkpoints_are_written_after_so_many_updates(photographs, monkeypatch):
    written = []
    save = saving.save_checkpoint
    monkeypatch.setattr(
        saving, "save_checkpoint", lambda what, path: written.append(what["training"]["step"]) or save(what, path)
    )
    run(photographs)
    assert written == [0, 4, 8]
    written.clear()
    run(photographs, save_updates=3)
    assert written == [0, 3, 4, 6, 8]


def test_a_run_can_be_measured_by_updates(photographs):
    whole = run(photographs)[1]
    _, checkpoint = run(photographs, validate_updates=3)
    assert [(entry["step"], entry["epoch"]) for entry in checkpoint["history"]] == [(3, 0.75), (6, 1.5), (8, 2.0)]
    assert all(math.isfinite(entry["psnr"]) and math.isfinite(entry["loss"]) for entry in checkpoint["history"])
    parts = [one["training"]["parts"]["network"] for one in (whole, checkpoint)]
    assert same(*parts)
    more = run(photographs, 1, new=False)[1]  # finished: it gets one more, and epochs are counted on
    assert [entry["epoch"] for entry in more["history"]] == [0.75, 1.5, 2.0, 3]
    assert more["training"]["step"] == 12


def test_the_latest_weights_are_kept_as_they_were(photographs):
    path, checkpoint = run(photographs, 3, keep=2)
    kept = sorted(kept_folder(path).glob("*.pt"))
    assert [one.name for one in kept] == [f"{path.stem}.{step:07d}.pt" for step in (8, 12)]
    loaded = [load_checkpoint(one) for one in kept]
    assert not same(loaded[0]["params"], loaded[1]["params"]) and "training" not in loaded[0]
    assert same(loaded[1]["params"], checkpoint["training"]["parts"]["network"])
    assert [len(one["history"]) for one in loaded] == [2, 3]
    path, _ = run(photographs, 2, keep=9, save_updates=3)
    assert len(list(kept_folder(path).glob("*.pt"))) == 2  # after 3 and 6 updates


def test_a_named_run_has_a_folder_of_its_own(photographs, place, capsys):
    first, _ = run(photographs, 1)
    named, _ = run(photographs, 1, new=False, name="faces")
    assert named.parent == place / "models" / "faces" or named.parent.as_posix() == "models/faces"
    assert "going on" not in capsys.readouterr().err  # it does not go on from what lies in models/
    again, checkpoint = run(photographs, 1, new=False, name="faces")
    assert again.parent == named.parent and len(checkpoint["history"]) == 2
    assert len(list((place / "models").glob("*.pt"))) == 1 and first.exists()
    with pytest.raises(SystemExit):
        main.main(["train", "--name", "../faces"])


def test_what_is_saved_is_as_it_was_when_it_was_saved(place, monkeypatch):
    may_write = threading.Event()
    save = saving.save_checkpoint
    monkeypatch.setattr(saving, "save_checkpoint", lambda *what: may_write.wait(10) and save(*what))
    state = training.RunState({"learning_rate": 1.0}, {})
    weights, history = {"filter.weight": torch.ones(2)}, []
    with Saver(place / "models" / "x.pt") as saver:
        saver.save({"params": {}, "history": history}, state, {"network": weights})
        weights["filter.weight"].zero_()
        history.append({"epoch": 1})
        state.step = 5
        may_write.set()
    written = torch.load(place / "models" / "x.pt", weights_only=True)
    assert written["history"] == [] and written["training"]["step"] == 0
    assert torch.equal(written["training"]["parts"]["network"]["filter.weight"], torch.ones(2))


def test_what_cannot_be_written_ends_the_run_in_one_line(photographs, monkeypatch):
    save, calls = saving.save_checkpoint, []

    def fails_later(what, path):
        calls.append(path)
        if len(calls) == 2:
            raise UserError(f"cannot write {path}: No space left on device")
        save(what, path)

    monkeypatch.setattr(saving, "save_checkpoint", fails_later)
    with pytest.raises(UserError, match="No space left"):
        run(photographs, 3)
    assert len(calls) == 2


def test_flags_are_checked_before_any_picture_is_read(photographs, place, monkeypatch):
    monkeypatch.setattr("engine.data.read_pairs", lambda *_: pytest.fail("read pictures"))
    for start, told in ((place / "none.pt", "none.pt"), (photographs / "1.png", r"1\.png")):
        with pytest.raises(UserError, match=told):
            train(TINY, [photographs], 1, Start(True, start), CPU)
    command = f"train -m esrgan -n -i {photographs} --perceptual none.pth --cpu"
    assert main.main(command.split()) == 2


def killed(photographs, monkeypatch):
    """Leave an unfinished run of two epochs, killed in its second."""
    cut = Data.cut
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):

        def dies(self, step):
            if step == 6:
                raise InterruptedError
            return cut(self, step)

        patch.setattr(Data, "cut", dies)
        run(photographs)


def test_photographs_may_be_added_to_an_unfinished_run(photographs, photograph, monkeypatch, capsys):
    killed(photographs, monkeypatch)
    for name in ("0new", "9new"):
        write_picture(photographs / f"{name}.png", resize(photograph, size=(61, 70)))
    capsys.readouterr()
    _, checkpoint = run(photographs, new=False)
    told = capsys.readouterr().err
    assert "2 photographs added (photographs/0new.png, photographs/9new.png); those held out stay" in told
    assert len(checkpoint["history"]) == 2 and checkpoint["training"]["step"] == 8
    remembered = checkpoint["training"]["data"]
    assert len(remembered["photographs"]) == 6 and len(remembered["held_out"]) == 1
    assert not {"photographs/0new.png", "photographs/9new.png"} & set(remembered["held_out"])


@pytest.mark.parametrize("gone", ["held out", "learnt from"])
def test_photographs_may_not_go_from_an_unfinished_run(photographs, monkeypatch, gone):
    killed(photographs, monkeypatch)
    data = Data([photographs], TINY)
    name = next(iter(data.held_out if gone == "held out" else data.training)).photograph
    (photographs.parent / name).unlink()
    with pytest.raises(UsageError, match="other pictures"):
        run(photographs, new=False)
