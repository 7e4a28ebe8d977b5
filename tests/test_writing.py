"""Files written whole or not at all, by one program at a time."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import degrade
import gen_samples
import main
from imaging import console, saving, writing
from imaging.console import UsageError, UserError
from imaging.writing import locked, replacing, unused


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UserError, match="disk is full"), replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "disk is full")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        saving.write_picture(tmp_path / "file" / "x.png", torch.rand(1, 3, 2, 2))
    with pytest.raises(UsageError, match=r"\.xyz"):
        saving.write_picture(tmp_path / "x.xyz", torch.rand(1, 3, 2, 2))


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with replacing(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_ordinary_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: is no ordinary file"), replacing(tmp_path / "pipe"):
        raise AssertionError
    assert (tmp_path / "pipe").is_fifo()


def test_old_locks_of_killed_processes_go(tmp_path):
    for name in ("left", "held", "young"):
        (tmp_path / f".{name}.png.lock").touch()
    for name in ("left", "held"):
        os.utime(tmp_path / f".{name}.png.lock", (0, 0))
    with locked(tmp_path / "held.png"):
        os.utime(tmp_path / ".held.png.lock", (0, 0))
        with replacing(tmp_path / "x.png") as temporary:
            temporary.touch()
        assert {path.name for path in tmp_path.iterdir()} == {"x.png", ".held.png.lock", ".young.png.lock"}


def test_unused_never_names_a_file_that_is_there(tmp_path):
    path = tmp_path / "x.png"
    assert unused(path) == path
    path.touch()
    (tmp_path / "x-2.png").touch()
    assert unused(path) == tmp_path / "x-3.png"


@pytest.mark.parametrize(("free_after", "kept"), [(2, "new"), (9, "old")])
def test_a_file_that_another_program_reads_is_replaced_when_it_is_free(tmp_path, monkeypatch, free_after, kept):
    """As on Windows, where a file that is open cannot be replaced."""
    path, real, waits = tmp_path / "x.txt", Path.replace, []
    path.write_text("old")

    def replace(self, target):
        if len(waits) < free_after:
            raise PermissionError(13, "used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(writing.time, "sleep", waits.append)
    with suppress(UserError), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == kept and len(list(tmp_path.iterdir())) == 1 and len(waits) <= 3


def test_leftovers_of_killed_processes_are_deleted_once_they_are_old(tmp_path):
    names = (".a.png.123.part", ".b.2026-11-21.png.9.part", ".c.png.5.part", "film.part", ".film.part", ".d.part.5")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0) if name[1] != "c" else None)
    saving.write_picture(tmp_path / "other.png", torch.rand(1, 3, 2, 2))
    assert {path.name for path in tmp_path.iterdir()} == {"other.png", *names[2:]}


def commands():
    """Every command with every flag that names what it writes, and the work that must not be begun."""
    sheet = "degrade.draw_stages"
    return [
        (main, ["upscale", "-i", "in.png", "-o", "text.txt/x.png"], "engine.batch.Batch.upscale"),
        (main, ["upscale", "-i", "in.png", "-o", "text.txt/"], "engine.batch.Batch.upscale"),
        (main, ["upscale", "-i", "in.png", "in.png", "-o", "plain"], "engine.batch.Batch.upscale"),
        (main, ["upscale", "-i", "in.png", "-o", "plain"], "engine.batch.Batch.upscale"),
        (main, ["upscale", "-i", "in.png", "-o", "closed/x.png"], "engine.batch.Batch.upscale"),
        (main, ["upscale", "-i", "in.png", "-o", "closed"], "engine.batch.Batch.upscale"),
        (main, ["evaluate", "-i", "in.png", "--json", "text.txt/x.json"], "engine.evaluation.evaluate_sets"),
        (main, ["evaluate", "-i", "in.png", "--json", "closed/x.json"], "engine.evaluation.evaluate_sets"),
        (main, ["evaluate", "-i", "in.png", "--json", "folder"], "engine.evaluation.evaluate_sets"),
        (main, ["export", "-m", "srcnn", "-o", "text.txt/x.onnx"], "engine.choosing.choose_network"),
        (main, ["export", "-m", "srcnn", "-o", "other.param"], "engine.choosing.choose_network"),
        (main, ["train", "-i", "in.png", "--cache", "plain"], "engine.training.Data"),
        (main, ["train", "-i", "in.png", "--name", "closed"], "engine.training.Data"),
        (degrade, ["-i", "in.png", "-o", "closed/x.png"], sheet),
        (degrade, ["-i", "in.png", "-o", "folder.png"], sheet),
        (gen_samples, ["5"], "gen_samples.usable_photographs"),
    ]


@pytest.mark.parametrize(("program", "arguments", "work"), commands(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_cannot_be_written_is_refused_before_the_work(program, arguments, work, place, monkeypatch, capsys):
    """As root everything is permitted: `closed` stands for folders that take no file."""
    real = Path.touch

    def touch(self, *rest, **more):
        if self.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(self, *rest, **more)

    saving.write_picture("in.png", torch.rand(1, 3, 40, 40))
    Path("images_raw").mkdir()
    for name in ("text.txt", "plain", "samples_gen_32", "images_raw/x.png"):
        Path(name).write_text("old")
    for name in ("folder", "folder.png", "other.bin"):
        Path(name).mkdir()
    monkeypatch.setattr(Path, "touch", touch)
    monkeypatch.setattr(work, lambda *_, **__: pytest.fail("the work was begun"))
    if program is main:
        assert main.main(arguments) in (1, 2)
    else:
        assert console.run_command(program.main, arguments) in (1, 2)
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1
    assert all(Path(name).read_text() == "old" for name in ("text.txt", "plain", "samples_gen_32"))
    assert not list(Path().rglob(".*.part"))
