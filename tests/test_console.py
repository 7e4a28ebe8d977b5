"""What reaches the person at the keyboard: errors in one line, and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

import main
from imaging import console
from imaging.saving import write_picture


@pytest.mark.skipif(sys.platform == "win32", reason="the shell closes the streams")
def test_without_any_streams_the_work_is_done(place, photograph):
    write_picture(place / "x.png", photograph[..., :20, :30])
    command = f'"{sys.executable}" "{Path(main.__file__)}" upscale -i x.png -o y.png -m srcnn --cpu <&- >&- 2>&-'
    assert subprocess.run(command, shell=True).returncode == 0
    assert (place / "y.png").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_out_of_memory_is_told_in_a_line(error, capsys):
    def command(options):
        raise error

    assert console.run_command(command, None) == 1
    assert capsys.readouterr().err.startswith("error: out of memory: ")


def test_a_mistake_of_ours_is_not_hidden():
    def command(options):
        raise RuntimeError("a fault in the program")

    with pytest.raises(RuntimeError, match="a fault"):
        console.run_command(command, None)
