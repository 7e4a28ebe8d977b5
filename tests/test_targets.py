"""Names of results: what they say, that they fit, and that several runs at once lose nothing."""

import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
import torch
from corpus import planes, to_image
from PIL import Image
from test_batch import Doubling, run
from test_checkpoints import make_checkpoint
from test_srcnn import delta_network

import main
from engine.checkpoints import new_path, save_checkpoint
from engine.choosing import choose_network
from engine.settings import UpscaleSettings
from engine.targets import list_inputs, plan_targets, ways_to
from imaging.console import UsageError, UserError
from imaging.writing import MAX_NAME, InUseError, claimed, locked, shortened

ROOT = Path(main.__file__).parent


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        to_image(planes(3)).save(folder / name)


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------------------------------
# Whose result it is
# ---------------------------------------------------------------------------------------------


def test_a_result_is_of_its_own_picture(place, capsys):
    """a.jpg, which fails at first, is not taken for enlarged because a.png beside it was."""
    put(place / "in", "a.png", "b.png")
    (place / "in" / "a.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(UserError):
        run([place / "in"], place / "out", skip_existing=True)
    before = set(results(place / "out"))
    put(place / "in", "a.jpg")
    run([place / "in"], place / "out", skip_existing=True)
    (new,) = set(results(place / "out")) - before
    assert new.startswith("a.jpg.x2.") and len(before) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "1 enlarged, 2 were there already"


def enlarged_anew(capsys):
    """How many pictures the last run enlarged, by the line at its end."""
    return int(capsys.readouterr().out.splitlines()[-1].split(" enlarged")[0])


def again(place, capsys, **settings):
    run([place / "in"], place / "out", skip_existing=True, **settings)
    return enlarged_anew(capsys)


def test_what_was_made_of_another_picture_of_that_name_is_not_its_result(place, capsys):
    put(place / "in", "a.jpg", "b.png")
    put(place, "kept.webp")
    os.utime(place / "kept.webp", (0, 0))  # its date says nothing: it comes into the folder later
    assert [again(place, capsys) for _ in range(2)] == [2, 0]
    (place / "in" / "a.jpg").unlink()
    (place / "kept.webp").rename(place / "in" / "a.webp")
    assert [again(place, capsys) for _ in range(2)] == [1, 0]
    put(place / "in", "b.png")  # another picture of the same name
    assert [again(place, capsys) for _ in range(2)] == [1, 0]
    assert len(results(place / "out")) == 4


def test_a_second_picture_of_a_stem_leaves_the_first_its_result(place, capsys):
    put(place / "in", "a.jpg", "b.png")
    assert again(place, capsys) == 2
    put(place / "in", "a.png")
    assert [again(place, capsys) for _ in range(2)] == [1, 0]
    assert [name.split(".x2")[0] for name in results(place / "out")] == ["a.png", "a", "b"]
    (place / "in" / "a.jpg").unlink()  # now a.png is alone, and the lone name is another's
    assert again(place, capsys) == 0
    for name in results(place / "out"):
        if name.startswith("a.png"):
            (place / "out" / name).unlink()
    assert again(place, capsys) == 1


def test_pictures_of_a_stem_that_are_named_one_by_one(place, capsys):
    put(place / "in", "a.jpg", "a.png", "a.jpg.png")
    names = ("a.png", "a.jpg.png", "a.jpg")
    for expected in ([1, 1, 1], [0, 0, 0]):
        made = []
        for name in names:
            run([place / "in" / name], place / "out", skip_existing=True)
            made.append(0 if "there already" in capsys.readouterr().out else 1)
        assert made == expected
    assert again(place, capsys) == 0  # and so are they in their folder


def test_a_picture_called_like_another_with_its_suffix(place, capsys):
    put(place / "in", "a.jpg", "a.png", "a.jpg.png")
    assert [again(place, capsys) for _ in range(2)] == [3, 0]
    assert [name.split(".x2")[0] for name in results(place / "out")] == ["a.jpg.png", "a.jpg", "a.png"]


def test_a_kept_name_of_an_older_picture_is_told(place, capsys):
    put(place / "in", "a.jpg")
    for _ in range(2):
        run([place / "in"], place / "out", keep_names=True)
    assert "left as it is" not in capsys.readouterr().err
    put(place / "in", "a.jpg")
    run([place / "in"], place / "out", keep_names=True)
    told = capsys.readouterr()
    assert "0 enlarged, 1 were there" in told.out
    assert f"left as it is: {place / 'out' / 'a.png'}, which is older than {place / 'in' / 'a.jpg'}" in told.err


def test_a_whole_name_is_made_anew_of_a_newer_picture(place, capsys):
    put(place, "a.png")
    for there in (False, True):
        run([place / "a.png"], place / "o.png", skip_existing=True)
        assert ("were there already" in capsys.readouterr().out) == there
    put(place, "a.png")
    run([place / "a.png"], place / "o.png", skip_existing=True)
    assert "were there already" not in capsys.readouterr().out


def test_pictures_of_one_name_from_two_folders(place, capsys):
    put(place, "one/a.png", "two/a.png")
    for told in ("2 enlarged, 0 were", "0 enlarged, 2 were"):
        run([place / "one", place / "two"], place / "out", skip_existing=True)
        assert told in capsys.readouterr().out
    assert {name[:8] for name in results(place / "out")} == {"one.a.pn", "two.a.pn"}


@pytest.mark.parametrize(("inputs", "pictures", "expected"), [
    ("A B", "A/DCIM/1.png B/DCIM/1.png", "DCIM/A.DCIM.1.png DCIM/B.DCIM.1.png"),
    ("2023/summer 2024/summer", "2023/summer/1.png 2024/summer/1.png", "2023.summer.1.png 2024.summer.1.png"),
    ("A/DCIM B/DCIM C", "A/DCIM/1.png B/DCIM/1.png C/1.png", "A.DCIM.1.png B.DCIM.1.png C.1.png"),
    ("A/DCIM B/DCIM A.DCIM", "A/DCIM/1.png B/DCIM/1.png A.DCIM/1.png", "A.DCIM.1.png B.DCIM.1.png here.A.DCIM.1.png"),
    ("1.png A/1.png", "1.png A/1.png", "A.1.png here.1.png"),
    (". ../B", "1.png ../B/1.png", "B.1.png here.1.png"),
    ("../1.png A/1.png", "../1.png A/1.png", "A.1.png above.1.png"),
    (".cache cache", ".cache/1.png cache/1.png", "cache.1.png here..cache.1.png"),
    ("A A.x", "A/x.1.png A/1.png A.x/1.png", "A.1.png A.x.1.png x.1"),
])  # fmt: skip
def test_names_say_from_which_folder_a_picture_is(place, monkeypatch, capsys, inputs, pictures, expected):
    here = place / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    put(here, *pictures.split())
    count = len(pictures.split())
    for told in (f"{count} enlarged, 0 were", f"0 enlarged, {count} were"):
        run([Path(name) for name in inputs.split()], place / "out", skip_existing=True)
        assert told in capsys.readouterr().out
    assert sorted(name.split(".x2.")[0] for name in results(place / "out")) == expected.split()


def test_a_picture_that_is_named_in_two_ways_is_one(place, capsys):
    put(place, "in/a.png")
    inputs = [Path("in"), place / "in", Path("in/../in")]
    run(inputs, place / "out", skip_existing=True)
    assert "1 enlarged, 2 were there already" in capsys.readouterr().out
    assert [name.split(".x2.")[0] for name in results(place / "out")] == ["in.a.png"]


@pytest.mark.parametrize(("folder", "expected"), [
    (PurePosixPath("/"), ["root"]),
    (PurePosixPath("/a/.../.b"), ["a......b", "root.a......b"]),
    (PureWindowsPath("C:/"), ["C"]),
    (PureWindowsPath("//server/share/x"), ["x", "server.share.x"]),
])  # fmt: skip
def test_how_a_name_can_say_where_its_picture_lies(folder, expected):
    *names, last = ways_to(folder)
    assert names == expected and re.fullmatch(rf"{names[0]}~[0-9a-f]{{8}}", last)


FOLDERS = ("A", "a.A", "A.a", "DCIM", "DCIM.1", ".A", "..b", "b")
PICTURES = ("1.png", "1.jpg", "1.png.jpg", "A.1.png", "DCIM.1.png", "DCIM.1.png.jpg", ".1.png", "a.A.1.png")


def random_inputs(generator, top):
    """Pictures in folders below `top`, and some of both, spelled in one way or another from the working folder."""
    folders = [top.joinpath(*generator.choices(FOLDERS, k=generator.randint(0, 3))) for _ in range(6)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name in generator.sample(PICTURES, 3):
            (folder / name).touch()
    os.chdir(generator.choice(folders))
    named = [generator.choice([folder, *folder.glob("*.*g")]) for folder in folders]
    there = [path for path in named if path.is_file() or any(path.glob("[!.]*.*g"))]
    spelled = (
        str,
        os.path.relpath,
        lambda path: Path(os.path.relpath(path.parent)) / ".." / path.parent.name / path.name,
    )
    return [Path(generator.choice(spelled)(path)) for path in there]


def test_no_two_pictures_share_a_name_and_none_is_hidden(place):
    generator = random.Random(0)
    for number in range(300):
        top = place / str(number)
        inputs = list_inputs(random_inputs(generator, top), place / "out")
        sources = {}
        for path, target in plan_targets(inputs, place / "out", UpscaleSettings()):
            assert path.name.startswith(".") or not target.path.name.startswith("."), (path, target.path)
            assert sources.setdefault(str(target.path).casefold(), path.resolve()) == path.resolve(), target.path


def test_originals_in_the_output_folder_are_told(place, capsys):
    put(place / "in", "a.png", "best/b.png")
    run([place / "in"], place / "in" / "best")
    assert f"left out: 1 pictures in {place / 'in' / 'best'}" in capsys.readouterr().err
    assert len(results(place / "in" / "best")) == 2


@pytest.mark.parametrize("name", ["..png", "...png"])
def test_names_that_are_nearly_all_dots(place, name):
    put(place / "in", "x.png")
    (place / "in" / "x.png").rename(place / name)
    run([place / name], place / "out")
    assert len(results(place / "out")) == 1


@pytest.mark.parametrize("flags", [["-i", ""], ["-i", "x.png", "-o", ""]])
def test_an_empty_name_is_not_the_current_folder(place, capsys, flags):
    put(place, "x.png")
    with pytest.raises(SystemExit) as stopped:
        main.main(["upscale", *flags])
    assert stopped.value.code == 2 and "is empty: give a name" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------
# Long names
# ---------------------------------------------------------------------------------------------


def test_shortened_names_fit_and_stay_unlike():
    generator = random.Random(0)
    letters = "aé字🐈\udcff"  # of one to four bytes, and one that is no letter
    names = {"".join(generator.choices(letters, k=length)) for length in range(1, 300)}
    for most in (40, 255):
        short = [shortened(name, most) for name in names]
        assert all(len(name.encode(errors="surrogateescape")) <= most for name in short)
        assert len(set(short)) == len(names)
    assert shortened("x" * 255) == "x" * 255 and shortened("x" * 256) == shortened("x" * 256)


@pytest.mark.parametrize("stem", ["x" * 216, "字" * 80, "x" * 251])
def test_long_names_are_enlarged(place, stem):
    put(place / "in", f"{stem}.png", f"{stem[:-1]}y.png")
    for _ in range(2):
        run([place / "in"], place / "out", compare=True, skip_existing=True)
    names = results(place / "out")
    assert len(names) == 6 and all(len(name.encode()) <= MAX_NAME for name in names)
    assert all(".x2.srcnn.20" in name for name in names)
    run([place / "in"], place / "kept", keep_names=True)
    assert len(results(place / "kept")) == 2


def test_the_longest_name_that_can_be_asked_for(place):
    put(place, "x.png")
    name = "y" * (MAX_NAME - 4) + ".png"
    run([place / "x.png"], Path(name))
    assert results(place) == ["x.png", name]


# ---------------------------------------------------------------------------------------------
# Which weights
# ---------------------------------------------------------------------------------------------


def tag(*arguments):
    return choose_network(*arguments).checkpoint.get("tag", "")


def test_names_say_which_weights(place):
    for name in ("one", "two"):
        torch.manual_seed(ord(name[0]))
        save_checkpoint(make_checkpoint(), place / f"{name} 4x.pt")
    (place / "same.pt").write_bytes((place / "one 4x.pt").read_bytes())
    own = new_path(make_checkpoint())
    save_checkpoint(make_checkpoint(), own)
    one, two, same = (tag(f"{name}.pt") for name in ("one 4x", "two 4x", "same"))
    assert one.startswith("one-4x-") and two.startswith("two-4x-") and same.startswith("same-")
    assert one[-6:] == same[-6:] != two[-6:] and one == tag("one 4x.pt")
    assert len(tag(str(own))) == len(tag("srcnn")) == 6  # its date would stand beside that of the result
    assert tag("rrdb") == tag("models/pretrained/rrdb_x4.pt".replace("models", str(ROOT / "models"))) == ""
    blends = {tag("one 4x.pt", Path("two 4x.pt"), alpha) for alpha in (0.2, 0.5, 0.8)}
    assert len(blends) == 3 and all(blend.startswith("blend") for blend in blends)
    assert tag("one 4x.pt", Path("two 4x.pt"), 1)[-6:] == one[-6:]


def test_another_network_of_the_same_kind_makes_its_own_results(place, capsys):
    put(place / "in", "a.png", "b.png")
    for name, shift in (("first", 0), ("second", 1)):
        params = delta_network((9, 1, 5), shift=(shift, 0)).state_dict()
        save_checkpoint(make_checkpoint(params=params), place / f"{name}.pt")
    for name in ("first", "second", "first", "second"):
        assert main.main(["upscale", "-i", "in", "-o", "out", "-m", f"{name}.pt", "--skip-existing", "--cpu"]) == 0
    assert sum(".srcnn.first-" in name for name in results(place / "out")) == 2
    assert sum(".srcnn.second-" in name for name in results(place / "out")) == 2
    assert capsys.readouterr().out.count("0 enlarged, 2 were there already") == 2
    # An output folder that is the input folder: results are known by their names, tags or not.
    for _ in range(2):
        assert main.main(["upscale", "-i", "in", "-o", "in", "-m", "first.pt", "--cpu"]) == 0
    assert len(results(place / "in")) == 6


# ---------------------------------------------------------------------------------------------
# What the flags say
# ---------------------------------------------------------------------------------------------


def test_kept_names(place, capsys):
    put(place / "in", "a.png", "deep/a.bmp", "b.c.webp")
    run([place / "in"], place / "out", keep_names=True)
    assert results(place / "out") == ["a.png", "b.c.png", "deep/a.png"]
    before = (place / "out" / "a.png").read_bytes()
    put(place / "in", "d.png")
    capsys.readouterr()
    run([place / "in"], place / "out", keep_names=True, outscale=3)  # what is there stays: it may be an original
    assert capsys.readouterr().out.splitlines()[-1] == "1 enlarged, 3 were there already"
    assert (place / "out" / "a.png").read_bytes() == before
    run([place / "in"], place / "out", keep_names=True, format="jpg")
    assert sum(name.endswith(".jpg") for name in results(place / "out")) == 4
    with pytest.raises(UsageError, match="has the pictures themselves"):
        run([place / "in"], place / "in", keep_names=True)
    with pytest.raises(UsageError, match=r"-o y\.png: names the result itself"):
        run([place / "in" / "a.png"], Path("y.png"), keep_names=True)


def test_kept_names_that_would_collide_are_told(place, capsys):
    put(place / "in", "a.bmp", "a.png", "A.webp", "b.png")
    for settings in ({}, {"format": "jpg"}, {"skip_existing": True}):
        with pytest.raises(UserError, match="2 of "):
            run([place / "in"], place / "out", keep_names=True, **settings)
        told = capsys.readouterr().err
        assert told.count("would have the name of that of") == 2
    assert results(place / "out") == ["A.jpg", "A.png", "b.jpg", "b.png"]


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"), ("png", "PNG")])
def test_the_format_of_a_folder(place, suffix, kind):
    put(place / "in", "a.png", "b.bmp")
    for _ in range(2):
        run([place / "in"], place / "out", format=suffix, skip_existing=True)
    assert len(results(place / "out")) == 2
    for name in results(place / "out"):
        assert name.endswith(f".{suffix}") and Image.open(place / "out" / name).format == kind
    run([place / "in"], place / "out", format="png", skip_existing=True)
    assert len(results(place / "out")) == (2 if suffix == "png" else 4)


def test_a_slash_at_the_end_means_a_folder_and_an_input_takes_many_words(place, capsys):
    put(place, "a.png", "b.png", "c.png")
    save_checkpoint(make_checkpoint(params=delta_network((9, 1, 5)).state_dict()), place / "n.pt")
    common = ["-m", "n.pt", "--cpu"]
    assert main.main(["upscale", "-i", "a.png", "-o", "out.v2/", *common]) == 0
    assert main.main(["upscale", "-i", "a.png", "b.png", "-i", "c.png", "-o", "out.png/", *common]) == 0
    assert len(results(place / "out.v2")) == 1 and len(results(place / "out.png")) == 3
    assert main.main(["upscale", "-i", "a.png", "-o", "new.v2", *common]) == 2
    assert "a slash at the end means a folder" in capsys.readouterr().err
    assert main.main(["upscale", "-i", "a.png", "-o", "b.png/", *common]) == 2  # is a file
    (place / "loop.png").symlink_to("loop.png")
    assert main.main(["upscale", "-i", "loop.png", *common]) == 2
    assert "error: loop.png: is a link that leads nowhere" in capsys.readouterr().err
    assert main.main(["upscale", "-i", "a.png", "loop.png", "c.png", "-o", "more", *common]) == 1
    assert "failed: loop.png: is a link that leads nowhere" in capsys.readouterr().err
    assert len(results(place / "more")) == 2


# ---------------------------------------------------------------------------------------------
# Several runs at once, and what nobody foresaw
# ---------------------------------------------------------------------------------------------


def test_many_at_once_never_get_the_same_name(tmp_path):
    path, rounds, workers = tmp_path / "x.png", 10, 6

    def work():
        for _ in range(rounds):
            with claimed(path) as mine, open(mine, "x"):  # fails if it is there
                pass

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results(tmp_path)) == rounds * workers


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        for _ in range(150):
            try:
                with locked(tmp_path / "x.png"):
                    inside += 1
                    most = max(most, inside)
                    inside -= 1
            except InUseError:
                pass

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and not results(tmp_path)


HOLDING = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path, PurePosixPath, PureWindowsPath
from imaging.writing import locked
with locked(Path("out/a.x2.srcnn")):
    print("held", flush=True)
    time.sleep(600)
"""


def test_what_another_run_makes_is_left_to_it_until_it_is_killed(place, capsys):
    put(place / "in", "a.png", "b.png")
    other = subprocess.Popen([sys.executable, "-c", HOLDING.format(root=str(ROOT))], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        run([place / "in"], place / "out", skip_existing=True)
        told = capsys.readouterr()
        assert f"passed over: {place / 'in' / 'a.png'}: another run is at it" in told.err
        assert told.out.splitlines()[-1] == "1 enlarged, 0 were there already, 1 left to another run"
        run([place / "in"], place / "out")  # without the flag every run makes results of its own
        assert sum("a.x2.srcnn.20" in name for name in results(place / "out")) == 1
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    run([place / "in"], place / "again", skip_existing=True)
    for path in (place / "out").glob("a.x2*"):
        path.unlink()
    run([place / "in"], place / "out", skip_existing=True)
    assert sum("a.x2.srcnn.20" in name for name in results(place / "out")) == 1
    assert not [name for name in results(place / "out") if name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(("flags", "expected"), [([], 30), (["--skip-existing"], 10), (["--keep-names"], 10)])
def test_three_runs_at_once_into_one_folder(place, flags, expected):
    put(place / "in", *(f"{number}.png" for number in range(10)))
    save_checkpoint(make_checkpoint(params=delta_network((9, 1, 5)).state_dict()), place / "n.pt")
    command = [sys.executable, ROOT / "main.py", "upscale", "-i", "in", "-o", "out", "-m", "n.pt", "--cpu", *flags]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    told = [process.communicate() for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0], told
    made = [line for out, _ in told for line in out.splitlines() if line.startswith("out")]
    assert len(results(place / "out")) == len(set(made)) == len(made) == expected
    for name in results(place / "out"):
        Image.open(place / "out" / name).load()


class Faulty(Doubling):
    """Has a fault that shows at one size of picture."""

    def forward(self, low):
        if low.shape[-1] > 60:
            raise KeyError("nobody thought of this")
        return super().forward(low)


def test_a_fault_of_ours_ends_one_picture_and_is_told_in_a_line(place, capsys):
    put(place / "in", "a.png", "c.png")
    to_image(planes(3, height=9, width=80)).save(place / "in" / "b.png")
    with pytest.raises(UserError, match="1 of 3 pictures failed, 2 were enlarged"):
        run([place / "in"], place / "out", Faulty())
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "fault" in line)  # a bar may stand there too
    assert line.startswith(f"failed: {place / 'in' / 'b.png'}: a fault in this program: please report this line")
    assert "KeyError in test_targets.py, line" in line and "nobody thought of this" in line
    with pytest.raises(UserError, match="a fault in this program"):
        run([place / "in" / "b.png"], place / "y.png", Faulty())
