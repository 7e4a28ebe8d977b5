"""Pictures that memory cannot hold: packed on disk, every pixel within reach, and nothing else about a run changes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from engine import packed, pairs
from engine.data import Data
from engine.packed import Packed, in_parallel
from engine.pairs import read_pairs
from engine.settings import Settings, preset
from imaging.console import UserError
from imaging.files import read_picture
from imaging.images import to_bytes
from imaging.saving import write_picture


@pytest.fixture
def no_memory(monkeypatch):
    """As if nothing fitted."""
    monkeypatch.setattr(pairs, "PIXELS_IN_MEMORY", 0)


def test_a_packed_picture_is_the_picture(photographs, place):
    picture = Packed(place / "cache").picture(photographs / "1.png")
    expected = to_bytes(read_picture(photographs / "1.png"))[0]
    assert picture.shape == expected.shape and torch.equal(picture[:], expected)
    assert torch.equal(picture[:, 3:30, 11:50], expected[:, 3:30, 11:50])
    part = picture.cropped(40, 41)
    assert part.shape == (3, 40, 41) and torch.equal(part[:], expected[:, :40, :41])
    assert torch.equal(part[:, 30:, 40:], expected[:, 30:40, 40:41])


def test_grey_takes_a_third_of_the_room(place):
    grey = torch.rand(1, 1, 20, 30).expand(-1, 3, -1, -1)
    write_picture(place / "grey.png", grey)
    picture = Packed(place / "cache").picture(place / "grey.png")
    assert picture.is_grey and picture.path.stat().st_size < 20 * 30 + 200
    assert torch.equal(picture[:], to_bytes(grey)[0])


def test_what_is_packed_is_used_again_until_the_file_changes(photographs, place, monkeypatch):
    read = []
    monkeypatch.setattr(packed, "read_picture", lambda path: read.append(path) or read_picture(path))
    cache, path = Packed(place / "cache"), photographs / "1.png"
    first = cache.picture(path)
    assert cache.picture(path) == first and Packed(place / "cache").picture(path) == first and len(read) == 1
    first.path.write_bytes(first.path.read_bytes()[:-1])  # cut short
    assert torch.equal(cache.picture(path)[:], to_bytes(read_picture(path))[0]) and len(read) == 2
    about = path.stat()
    write_picture(path, torch.zeros(1, 3, 9, 9))
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # another size alone tells
    assert cache.picture(path).shape == (3, 9, 9) and len(read) == 3
    os.utime(path, ns=(0, 0))
    assert cache.picture(path).shape == (3, 9, 9) and len(read) == 4
    assert not list((place / "cache").rglob("*.part"))


def test_a_packed_picture_that_has_gone_is_told(photographs, place):
    picture = Packed(place / "cache").picture(photographs / "1.png")
    picture.path.unlink()
    with pytest.raises(UserError, match="has gone"):
        picture[:]


@pytest.mark.parametrize("settings", [
    Settings("srcnn", 2, batch=3, patch=20),
    replace(preset("rrdb", 2), batch=3, patch=8),
    replace(preset("srvgg", 2), batch=3, patch=8, multiscale=True),
    pytest.param(replace(preset("rrdb", 4), degradation="real", batch=1, patch=8), marks=pytest.mark.slow),
], ids=lambda settings: f"{settings.model}-{settings.degradation}")  # fmt: skip
def test_patches_from_disk_are_those_from_memory(large_photographs, place, settings, monkeypatch, capsys):
    monkeypatch.setattr("engine.sources.MIN_SHRUNK_SIDE", 40)
    in_memory = Data([large_photographs], settings)
    monkeypatch.setattr(pairs, "PIXELS_IN_MEMORY", 0)
    count = len(in_memory.pairs)
    assert (count > 3) == settings.multiscale
    for told in (f"{count} are packed there now", "packed before"):
        on_disk = Data([large_photographs], settings, cache=place / "cache")
        assert told in capsys.readouterr().err
        for step in range(2):
            batches = [data.finish(data.cut(step), step) for data in (in_memory, on_disk)]
            assert all(torch.equal(one, two) for one, two in zip(*batches, strict=True))
        assert in_memory.summary() == on_disk.summary()
        assert torch.equal(in_memory.held_out[0].small, on_disk.held_out[0].small)
    assert isinstance(on_disk.training[0].large, packed.PackedPicture)


def test_every_place_of_a_packed_picture_is_drawn(place, no_memory):
    """Of a picture whose pixels tell where they are, every one turns up in some patch."""
    place_of = torch.arange(40 * 48).view(40, 48)
    picture = torch.stack((place_of // 256, place_of % 256, place_of * 0)).to(torch.uint8)
    for name in "ab":
        write_picture(place / "photographs" / f"{name}.png", picture[None] / 255)
    data = Data([place / "photographs"], replace(preset("rrdb", 2), batch=8, patch=16), cache=place / "cache")
    assert isinstance(data.training[0].large, packed.PackedPicture)
    seen = set()
    for step in range(60):
        high = data.cut(step)[1].int()
        seen |= set((256 * high[:, 0] + high[:, 1]).flatten().tolist())
    assert seen == set(range(40 * 48))


def test_a_disk_that_is_too_small_is_told_before(photographs, no_memory, place, monkeypatch):
    monkeypatch.setattr(packed.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(UserError, match=r"GB when packed, and its disk has 0.0 GB free: make room, give --cache"):
        read_pairs([photographs], 2, False, cache=place / "cache")


def test_bad_files_are_named_when_packed(photographs, no_memory, place, capsys):
    (photographs / "9.png").write_bytes(b"broken")
    found, _ = read_pairs([photographs], 2, False, cache=place / "cache")
    assert len(found) == 5 and "left out" in (told := capsys.readouterr().err) and "9.png" in told


def test_the_cache_is_shared_by_scales_and_networks(photographs, no_memory, place, monkeypatch):
    read_pairs([photographs], 2, False, cache=place / "cache")
    monkeypatch.setattr(packed, "read_picture", lambda path: pytest.fail("decoded again"))
    for scale, enlarge in ((4, False), (3, True)):
        found, _ = read_pairs([photographs], scale, enlarge, cache=place / "cache")
        assert all(pair.large.shape[1] == pair.small.shape[1] * (1 if enlarge else scale) for pair in found)


def twice(number):
    return os.getpid(), 2 * number


@pytest.mark.slow
def test_many_jobs_are_done_by_several_processes(monkeypatch):
    monkeypatch.setattr(packed.os, "cpu_count", lambda: 2)
    results = list(in_parallel(twice, list(range(40))))
    assert [result for _, result in results] == [2 * number for number in range(40)]
    assert os.getpid() not in {process for process, _ in results}


WORK = """
import sys, time
sys.path.insert(0, sys.argv[1])
from engine import packed
def work(number):
    print("at work", flush=True)
    time.sleep(600)
if __name__ == "__main__":
    packed.os.cpu_count = lambda: 2
    list(packed.in_parallel(work, list(range(40))))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_no_worker_outlives_its_parent(place):
    (place / "work.py").write_text(WORK)
    command = [sys.executable, place / "work.py", Path(packed.__file__).parents[1]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        for _ in range(2):
            assert parent.stdout.readline() == b"at work\n"
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=60)  # which ends only when nobody is left who could write


def test_the_file_is_a_plain_npy(photographs, place):
    picture = Packed(place / "cache").picture(photographs / "1.png")
    assert numpy.load(picture.path).shape == picture.stored
