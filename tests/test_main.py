"""The command line as a stranger types it."""

import json
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
from test_checkpoints import make_checkpoint
from test_srcnn import delta_network

import main
from engine.checkpoints import save_checkpoint
from gen_samples import cut_samples
from imaging.files import read_picture
from imaging.saving import write_picture

PROGRAM = Path(main.__file__)


@dataclass
class Finished:
    """What a command left: exit code, standard output, and the lines on standard error that are no progress bars."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def lines(self):
        return [line for line in self.stderr.splitlines() if line.strip() and "it/s]" not in line]


def run(*arguments):
    """Run the command line in this process: importing torch anew for each command would take minutes."""
    with redirect_stdout(StringIO()) as stdout, redirect_stderr(StringIO()) as stderr:
        try:
            code = main.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Finished(code, stdout.getvalue(), stderr.getvalue())


def run_script(*arguments):
    """Run a script as a shell does."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def model(place):
    """A checkpoint that leaves the bicubic picture as it is."""
    params = delta_network((9, 1, 5)).state_dict()
    save_checkpoint(make_checkpoint(params=params), place / "models" / "srcnn_x2.test.pt")
    return place / "models" / "srcnn_x2.test.pt"


def test_help_answers_at_once_and_without_torch():
    for command in ([], ["train"], ["upscale"], ["evaluate"]):
        finished = run_script("-X", "importtime", PROGRAM, *command, "--help")
        assert finished.returncode == 0 and "usage: main.py" in finished.stdout
        assert "torch" not in finished.stderr and "numpy" not in finished.stderr
        times = []
        for _ in range(3):
            started = time.perf_counter()
            run_script(PROGRAM, *command, "--help")
            times.append(time.perf_counter() - started)
        assert min(times) < 0.3


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "-e", "0"], ["train", "-e", "many"], ["train", "-s", "1"], ["train", "--seed", "-1"],
        ["train", "--learning-rate", "nan"], ["train", "-b", "0"], ["train", "--kernels", "3-3-3"],
        ["train", "-m", "unknown"], ["train", "--seed", "9" * 30], ["upscale"], ["evaluate"], ["dance"],
        ["train", "--dance"], ["upscale", "-i", "x.png", "--tile", "8"], ["upscale", "-i", "x.png", "--quality", "0"],
        ["upscale", "-i", "x.png", "--outscale", "0"], ["upscale", "-i", "x.png", "--precision", "fp64"],
        ["upscale", "-i", "x.png", "--outscale", "1e308"],
    ],
)  # fmt: skip
def test_wrong_use_is_one_line_and_exit_code_2(place, arguments):
    finished = run(*arguments)
    assert finished.returncode == 2 and len(finished.lines) == 1 and finished.lines[0].startswith("error: ")


def test_a_network_that_ships_is_used_and_said(place, photograph):
    write_picture(place / "x.png", photograph[..., :20, :30])
    finished = run("upscale", "-i", "x.png", "-o", "large.png", "--cpu", "--precision", "fp32")
    told = "pretrained/esrgan-photo_x4.pt (esrgan-photo ×4; suits a picture without plain areas)"
    assert finished.returncode == 0 and told in finished.stdout
    assert read_picture(place / "large.png").shape == (1, 3, 80, 120)


def test_no_network_yet(place, photograph, monkeypatch):
    monkeypatch.setattr("engine.checkpoints.PRETRAINED", place / "nothing ships")
    write_picture(place / "x.png", photograph[..., :30, :30])
    finished = run("upscale", "-i", "x.png", "-m", "srvgg")
    assert finished.returncode == 2 and "main.py train -m srvgg" in finished.lines[0]
    finished = run("evaluate", "-i", ".", "-m", "srvgg")
    assert finished.returncode == 2 and "-s" in finished.lines[0]
    finished = run("evaluate", "-i", ".", "-s", "5")
    assert finished.returncode == 0 and "bicubic alone" in finished.lines[0] and "x.png" in finished.stdout


def test_bad_input_is_one_line(model, photograph):
    write_picture("good.png", photograph[..., :40, :30])
    Path("empty").mkdir()
    Path("text.jpg").write_text("hello")
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:600])
    Path("folder.png").mkdir()
    Path("file").write_text("")
    for code, words, *arguments in (
        (2, "none.png: no such file", "upscale", "-i", "none.png"),
        (2, "empty: no pictures", "upscale", "-i", "empty"),
        (2, "folder.png: no pictures", "upscale", "-i", "folder.png"),
        (1, "text.jpg: not a picture", "upscale", "-i", "text.jpg"),
        (1, "cut.png: damaged", "upscale", "-i", "cut.png"),
        (1, "text.jpg: is a text file, not weights", "upscale", "-i", "good.png", "-m", "text.jpg"),
        (2, "none.pt: no such checkpoint", "upscale", "-i", "good.png", "-m", "none.pt"),
        (1, "cannot write file/x.png", "upscale", "-i", "good.png", "-o", "file/x.png"),
        (2, "good.png: is the picture", "upscale", "-i", "good.png", "-o", "good.png"),
        (2, "no such file or folder", "evaluate", "-i", "none"),
        (2, "empty: no pictures", "evaluate", "-i", "empty"),
        (2, "not ×3", "evaluate", "-i", ".", "-m", model, "-s", "3"),
        (1, "cannot write file/x.json", "evaluate", "-i", ".", "--json", "file/x.json"),
        (2, "empty: no pictures", "train", "-i", "empty"),
        (2, "none: no such", "train", "-i", "none"),
        (1, "nothing to train on", "train", "-i", "text.jpg"),
        (2, "--gan-weight", "train", "--gan-weight", "0"),
        (2, "--blocks: srcnn has none", "train", "--blocks", "3"),
        (2, "--kernels: rrdb has none", "train", "-m", "rrdb", "--kernels", "9-1-5"),
        (2, "-s 3: rrdb enlarges", "train", "-m", "rrdb", "-s", "3"),
        (2, "give the other network", "upscale", "-i", "good.png", "--alpha", "0.3"),
        (2, "must end in", "upscale", "-i", "good.png", "-o", "x.pcx"),
        (2, "is one file for 2", "upscale", "-i", "good.png", "-i", "good.png", "-o", "x.png"),
        (2, "is a folder", "evaluate", "-i", ".", "--json", "empty"),
        (2, "for GPUs", "upscale", "-i", "good.png", "--precision", "fp16", "--cpu"),
        (2, "for GPUs", "evaluate", "-i", ".", "--precision", "fp16", "--cpu"),
        (1, "GB of memory", "upscale", "-i", "good.png", "--outscale", "90000"),
        (1, "File name too long", "upscale", "-i", "x" * 300),
    ):
        finished = run(*arguments)
        assert finished.returncode == code, (arguments, finished.stderr)
        assert finished.lines[-1].startswith("error: ") and words in finished.lines[-1], (arguments, finished.stderr)
        assert sum(line.startswith("error: ") for line in finished.lines) == 1


def test_from_nothing_to_an_enlarged_picture(place, photographs, photograph):
    photographs.rename(place / "images_raw")
    write_picture(place / "photo.jpg", photograph)
    assert run_script(PROGRAM.parent / "gen_samples.py", "12").returncode == 0
    finished = run_script(PROGRAM, "train", "-e", "1", "--kernels", "9-1-5", "--val", "images_raw")
    assert finished.returncode == 0, finished.stderr
    checkpoint, curves, before_after = map(Path, finished.stdout.splitlines()[-3:])
    assert all(path.exists() for path in (checkpoint, curves, before_after))
    assert "going on" in run("train", "-e", "1", "--kernels", "9-1-5").stderr

    finished = run("upscale", "-i", "photo.jpg")
    assert finished.returncode == 0 and "models/srcnn_x2" in finished.stdout
    (result,) = (place / "images_upscaled").iterdir()
    assert str(result.name) in finished.stdout and result.name.startswith("photo.x2.srcnn.")
    assert read_picture(result).shape == (1, 3, 240, 300)

    finished = run("evaluate", "-i", "images_raw", "--json", "figures.json")
    assert finished.returncode == 0 and "mean" in finished.stdout
    report = json.loads(Path("figures.json").read_text(encoding="utf-8"))
    figures = report["sets"]["images_raw"]
    assert set(figures) == {"bicubic", "model", "images"} and len(figures["images"]) == 5
    assert set(figures["model"]) == {"psnr", "ssim"} and "luma" in report["protocol"]


def test_the_folder_of_photographs_is_filled_when_it_is_named_too(place, monkeypatch):
    monkeypatch.setattr("engine.data.UPDATES_PER_EPOCH", 1)
    (place / "images_raw").mkdir()
    (place / "images_raw" / "README.md").touch()
    flags = "-m rrdb -e 1 -b 1 --blocks 1 --features 4 --growth 2 -i images_raw"
    finished = run("train", *flags.split())
    assert finished.returncode == 0 and "free photographs" in finished.stderr, finished.stderr


def test_samples_for_another_scale_stay(place, photographs):
    photographs.rename(place / "images_raw")
    cut_samples(8, 32, 2, 0, place / "images_raw", place / "samples_gen_32")
    before = {path: path.read_bytes() for path in (place / "samples_gen_32").iterdir()}
    finished = run("train", "-e", "1", "-s", "3", "--kernels", "9-1-5", "-b", "1")
    assert finished.returncode == 0 and "no samples for ×3" in finished.stderr
    assert before == {path: path.read_bytes() for path in (place / "samples_gen_32").iterdir()}


def test_a_model_by_name_and_by_file_is_said(model, photograph):
    write_picture("x.png", photograph[..., :20, :20])
    for choice in (["-m", "srcnn"], ["-m", model], []):
        finished = run("upscale", "-i", "x.png", "-o", "out.png", *choice)
        assert finished.returncode == 0 and "network:" in finished.stdout and "srcnn_x2.test.pt" in finished.stdout


def test_every_flag_of_upscale(model, photograph):
    write_picture("in/x.png", photograph[..., :20, :30])
    flags = "-i in -o out --outscale 3.5 --tile 64 --precision fp32 --quality 90 --alpha-bicubic --compare --huge --cpu"
    finished = run("upscale", *flags.split(), "-m", model, "--blend", model, "--alpha", "0.3")
    assert finished.returncode == 0, finished.stderr
    assert "device: cpu (fp32)" in finished.stdout and "0.3 of it" in finished.stdout
    names = sorted(path.name for path in Path("out").iterdir())
    assert len(names) == 3 and all(name.startswith("x.x3.5.srcnn.blend30-") for name in names)
    assert read_picture(Path("out") / next(name for name in names if name.count(".") == 6)).shape[-2:] == (70, 105)
    finished = run("upscale", *flags.split(), "-m", model, "--blend", model, "--alpha", "0.3", "--skip-existing")
    assert finished.returncode == 0 and len(list(Path("out").iterdir())) == 3


def test_half_precision_is_asked_for_in_evaluation(place, photograph):
    write_picture("in/x.png", photograph)
    figures = []
    for flags in ([], ["--precision", "bf16", "--cpu"]):
        finished = run("evaluate", "-i", "in", "-m", "rrdb", "--json", "figures.json", *flags)
        assert finished.returncode == 0, finished.stderr
        figures.append(json.loads(Path("figures.json").read_text(encoding="utf-8"))["sets"]["in"]["model"]["psnr"])
    assert 0 < abs(figures[0] - figures[1]) < 0.01
