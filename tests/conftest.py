"""What several tests share: a small photograph, and an empty place to work in."""

import importlib.resources
import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # with -n each core has a process: threads would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from engine import runtimes
from imaging.files import read_picture
from imaging.images import resize
from imaging.saving import write_picture


@pytest.fixture(scope="session")
def photograph():
    """A natural photograph of 120×150 pixels, (1, 3, 120, 150), with values on the 8-bit grid."""
    with importlib.resources.as_file(importlib.resources.files("skimage") / "data" / "astronaut.png") as path:
        return read_picture(path)[..., :120, 150:300]


@pytest.fixture(autouse=True)
def by_pytorch(monkeypatch):
    """Networks are computed by PyTorch, whether OpenVINO is installed or not; tests/test_runtimes.py tests that."""
    monkeypatch.setattr(runtimes, "is_installed", lambda: False)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder, as after cloning: models/ and the rest appear in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photographs(place, photograph):
    """A folder of five small, different photographs."""
    for number in range(5):
        part = resize(photograph, size=(60 + 4 * number, 70)).roll(7 * number, -1)
        write_picture(place / "photographs" / f"{number}.png", part)
    return place / "photographs"


@pytest.fixture
def large_photographs(place, photograph):
    """Three different photographs, large enough for patches with a margin."""
    for number in range(3):
        write_picture(place / "large" / f"{number}.png", resize(photograph, 2).roll(40 * number, -1).clamp(0, 1))
    return place / "large"
