"""Files and folders through networks made by hand: every kind of picture, and everything that goes wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
import torch
from corpus import Expected, make_corpus, planes, to_image
from PIL import Image
from test_checkpoints import Always, make_checkpoint
from test_files import corpus, pixels_of, random_tries, same  # noqa: F401 (corpus is a fixture)
from test_srcnn import delta_network
from torch import nn

import main
from engine import batch
from engine.batch import Batch, upscale_files, upscale_frame
from engine.checkpoints import save_checkpoint
from engine.devices import choose_precision
from engine.settings import UpscaleSettings
from engine.targets import Target, list_inputs
from engine.upscaling import Tiling
from imaging.console import UsageError, UserError
from imaging.files import open_picture, read_picture
from imaging.folders import picture_suffixes
from imaging.frames import Picture
from imaging.saving import save_picture, write_picture


class Doubling(nn.Conv2d):
    """A network on RGB that repeats every pixel: what it gives is known without computing."""

    luma, scale, radius, margin, tile, fold = False, 2, 0, 0, 256, 1

    def __init__(self):
        super().__init__(1, 1, 1)

    def forward(self, low):
        return low.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def doubled(expected):
    frames = [frame.repeat(2, axis=0).repeat(2, axis=1) for frame in expected.frames]
    return Expected(frames, expected.tolerance, expected.suffix, expected.durations)


def run(inputs, output=None, network=None, **settings):
    """Enlarge ×2."""
    checkpoint = make_checkpoint()
    inputs = list_inputs(inputs, output)
    upscale_files(inputs, output, Always((network or Doubling()).eval(), checkpoint), UpscaleSettings(**settings))


def test_a_folder_with_every_kind_of_file(place, capsys):
    expected = make_corpus(place / "in")
    with pytest.raises(UserError, match="pictures failed"):
        run([place / "in"], place / "out", quality=100)
    told = capsys.readouterr()
    lines = told.err.splitlines()
    for name, wanted in expected.items():
        last = name.rsplit("/")[-1]  # which is whole in the names of results where several files share a stem
        begun = tuple(f"{known}.x2.srcnn.20" for known in (last, last.rsplit(".", 1)[0]))
        results = [path for path in (place / "out").rglob("*") if path.name.startswith(begun)]
        results = [path for path in results if path.suffix == (wanted.suffix if wanted else path.suffix)]
        if Path(name).suffix.lower() not in picture_suffixes():
            assert "1 .dng" in told.err, name  # left out, for its name is no picture's
            continue
        if wanted is None:
            assert sum(f"/{name}: " in line and line.startswith("failed: ") for line in lines) == 1, name
            continue
        assert results, name
        pictures = [open_picture(path) for path in results]  # upper and lower case
        fitting = [same([pixels_of(frame) for frame in picture.frames], doubled(wanted)) for picture in pictures]
        assert any(fitting), name
        picture = pictures[fitting.index(True)]
        assert not wanted.durations or tuple(picture.durations) == wanted.durations, name
    profiled = next((place / "out").glob("profile.x2*"))
    assert open_picture(profiled).profile and open_picture(profiled).dpi == pytest.approx((300, 150), rel=1e-3)
    assert "Traceback" not in told.err + told.out
    assert len(told.out.splitlines()) == len(list((place / "out").rglob("*.*"))) - 1  # x.png is a folder
    assert not [path for path in place.rglob("*.part")]


def test_the_same_from_the_command_line(place, capsys):
    make_corpus(place / "in")
    save_checkpoint(make_checkpoint(params=delta_network((9, 1, 5)).state_dict()), place / "models" / "srcnn_x2.a.pt")
    for _ in range(2):  # once as a fresh program, which takes a second to warm up, and once at full speed
        assert main.main(["upscale", "-i", "in", "-o", "out", "--cpu"]) == 1
        told = capsys.readouterr()
        assert "Traceback" not in told.err + told.out and told.err.splitlines()[-1].startswith("error: ")
    assert f"device: cpu ({choose_precision('auto', torch.device('cpu'))})" in told.out


@pytest.mark.slow
def test_two_thousand_damaged_files(tmp_path, corpus, monkeypatch):  # noqa: F811
    monkeypatch.setattr(os, "fsync", lambda file: None)  # the disk is not what is tested
    one_run = Batch(Always(Doubling().eval(), make_checkpoint()), UpscaleSettings(), Tiling())
    survived = 0
    for data in random_tries(corpus, 2000):
        path = tmp_path / "x.png"
        path.write_bytes(data)
        started = time.perf_counter()
        try:
            target = tmp_path / "y.png"
            one_run.upscale(path, Target(target, "whole"))
            survived += 1
        except UserError as error:
            assert str(path) in str(error)
        assert time.perf_counter() - started < 20
    assert survived > 100


@pytest.mark.parametrize("kind", ["L", "LA", "RGB", "RGBA", "deep"])
def test_delta_kernels_at_scale_1_give_every_pixel_back(place, kind):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "deep": 1}[kind]
    pixels = planes(channels, numpy.uint16 if kind == "deep" else numpy.uint8, height=300, width=290)
    if channels in (2, 4):
        pixels[:, :, -1] = planes(1, seed=7, height=300, width=290)[:, :, 0]
    to_image(pixels).save(place / "x.png")
    checkpoint = make_checkpoint(scale=1)
    for tile in (256, 64):
        chooser = Always(delta_network(), checkpoint)
        upscale_files([(place / "x.png", place / "x.png")], place / "y.png", chooser, UpscaleSettings(tile=tile))
        (frame,) = open_picture(place / "y.png").frames
        again = pixels_of(frame)
        visible = pixels[:, :, -1:] > 0 if channels in (2, 4) else True
        assert again.dtype == pixels.dtype
        assert ((again == pixels) | ~numpy.broadcast_to(visible, pixels.shape))[..., :channels].all()
        if channels in (2, 4):
            assert (again[:, :, -1] == pixels[:, :, -1]).all()


class Wild(Doubling):
    """A network whose results have nothing to do with what it sees."""

    def forward(self, low):
        return torch.rand(low.shape[0], 3, 2 * low.shape[2], 2 * low.shape[3]) * 3 - 1


@pytest.mark.parametrize("alpha_bicubic", [False, True])
@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_alpha_stays_what_it_is(place, alpha_bicubic, level):
    pixels = planes(4, height=40, width=50)
    pixels[:, :, 3] = level
    to_image(pixels).save(place / "x.png")
    for network in (Wild(), delta_network(shift=(2, 2))):
        run([place / "x.png"], place / "y.png", network, alpha_bicubic=alpha_bicubic)
        assert (numpy.asarray(Image.open(place / "y.png"))[:, :, 3] == level).all()


@pytest.mark.parametrize("network", [delta_network, Doubling])
def test_no_fringe_around_what_is_visible(place, network):
    # An orange disc, and black, as usual, under the pixels that are not there.
    row, column = numpy.mgrid[:40, :40]
    disc = (row - 20) ** 2 + (column - 20) ** 2 < 150
    pixels = numpy.zeros((40, 40, 4), dtype=numpy.uint8)
    pixels[disc] = (250, 130, 10, 255)
    to_image(pixels).save(place / "x.png")
    for outscale in (None, 3.5, 1.3):
        run([place / "x.png"], place / "y.png", network(), outscale=outscale)
        result = numpy.asarray(Image.open(place / "y.png")).astype(int)
        assert numpy.abs(result[result[:, :, 3] > 0][:, :3] - (250, 130, 10)).max() <= 1
        assert set(numpy.unique(result[:, :, 3])) >= {0, 255}


def test_outscale_names_and_sizes(place, photograph):
    write_picture(place / "x.png", photograph[..., :31, :40])
    for factor, size in ((3.5, (108, 140)), (0.5, (16, 20)), (2, (62, 80)), (0.001, (1, 1))):
        run([place / "x.png"], place / "out", delta_network(), outscale=factor)
        (result,) = (place / "out").glob(f"x.x{factor:g}.srcnn.*.png")
        assert read_picture(result).shape[-2:] == size
    with pytest.raises(UserError, match=r"GB of memory; .* --outscale"):
        run([place / "x.png"], place / "out", outscale=50_000)


class Tinting(Doubling):
    """Repeats every pixel and makes it redder."""

    def forward(self, low):
        return super().forward(low) + torch.tensor([0.2, 0.0, -0.1]).view(3, 1, 1)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_a_file_with_equal_channels_stays_grey(channels, deep):
    pixels = planes(channels, numpy.uint16 if deep else numpy.uint8, height=300, width=290)
    pixels[:, :, 1:3] = pixels[:, :, :1]
    for grey in (True, False):
        if not grey:
            pixels[299, 289, 1] ^= 1  # one pixel with a hint of green, in the last strip
        frame = pixels if deep else Image.fromarray(pixels)
        large = upscale_frame(Tinting(), frame, 2, (600, 580), Tiling())
        result = numpy.asarray(large)
        assert result.shape == (600, 580, channels)
        assert bool((result[:, :, 0] == result[:, :, 1]).all() and (result[:, :, 0] == result[:, :, 2]).all()) is grey


def test_skipping_what_is_there(place, photograph, capsys):
    for name in ("a.png", "a.jpg", "deep/b [x].png", "c.png"):
        write_picture(place / "in" / name, photograph[..., :20, :30])
    run([place / "in"], place / "out", skip_existing=True)
    assert len(list((place / "out").rglob("*.png"))) == 4
    capsys.readouterr()
    run([place / "in"], place / "out", skip_existing=True)
    assert len(list((place / "out").rglob("*.png"))) == 4
    assert capsys.readouterr().out == "0 enlarged, 4 were there already\n"
    next((place / "out").glob("c.x2*")).unlink()
    next((place / "out").glob("a.png.x2*")).unlink()
    run([place / "in"], place / "out", skip_existing=True)
    assert len(list((place / "out").rglob("*.png"))) == 4
    assert capsys.readouterr().out.splitlines()[-1] == "2 enlarged, 2 were there already"
    run([place / "in"], place / "out", skip_existing=True, outscale=3)
    assert len(list((place / "out").rglob("*.png"))) == 8
    run([place / "in" / "c.png"], place / "single.png")
    before = (place / "single.png").stat().st_mtime_ns
    run([place / "in" / "c.png"], place / "single.png", skip_existing=True)
    assert (place / "single.png").stat().st_mtime_ns == before


def test_results_in_the_folder_itself_are_not_enlarged_again(place, photograph):
    write_picture(place / "in" / "a.png", photograph[..., :20, :30])
    write_picture(place / "in" / "b.png", photograph[..., :20, :30])
    for _ in range(2):
        run([place / "in"], place / "in" / "large")
    assert len(list((place / "in" / "large").iterdir())) == 4


def test_inputs_are_never_overwritten(place, photograph):
    write_picture(place / "a.png", photograph[..., :20, :30])
    (place / "link.png").symlink_to(place / "a.png")
    (place / "hard.png").hardlink_to(place / "a.png")
    before = (place / "a.png").read_bytes()
    for name in ("a.png", "link.png", "hard.png", "./a.png"):
        with pytest.raises(UsageError, match="choose another name"):
            run([place / "a.png"], place / name)
    assert (place / "a.png").read_bytes() == before


def test_quality_is_that_of_jpeg_and_webp(place, photograph):
    write_picture(place / "x.png", photograph)
    for suffix in (".jpg", ".webp"):
        sizes = []
        for quality in (10, 50, 95):
            run([place / "x.png"], place / f"y{suffix}", quality=quality)
            sizes.append((place / f"y{suffix}").stat().st_size)
        assert sizes == sorted(set(sizes))


def test_animations_in_a_file_that_cannot_hold_one(place, capsys):
    frames = [to_image(planes(3, seed=seed)) for seed in range(3)]
    frames[0].save(place / "x.gif", save_all=True, append_images=frames[1:], duration=[50, 60, 70])
    run([place / "x.gif"], place / "y.jpg")
    assert "first frame" in capsys.readouterr().err
    run([place / "x.gif"], place / "y.png")
    assert open_picture(place / "y.png").durations == [50, 60, 70]


class Failing(Doubling):
    """Runs out of memory with tiles of more than `most` pixels a side; keeps the sides that it saw."""

    def __init__(self, most, error=torch.OutOfMemoryError):
        super().__init__()
        self.most, self.error, self.seen = most, error, []

    def forward(self, low):
        self.seen.append(max(low.shape[-2:]))
        if max(low.shape[-2:]) > self.most:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return super().forward(low)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_out_of_memory_halves_the_tile(place, capsys, error):
    (place / "in").mkdir()
    for name in ("a.png", "b.png"):
        to_image(planes(4, height=300, width=310)).save(place / "in" / name)
    network = Failing(100, error)
    run([place / "in"], place / "out", network)
    results = sorted((place / "out").iterdir())
    for result in results:
        expected = doubled(Expected([planes(4, height=300, width=310)]))
        assert same([pixels_of(frame) for frame in open_picture(result).frames], expected)
    told = capsys.readouterr().err
    assert "tiles of 128 pixels" in told and "tiles of 64 pixels" in told
    assert sum(side > 100 for side in network.seen) == 2  # the second picture starts where the first ended
    with pytest.raises(UserError, match="out of memory, even with tiles of 32"):
        run([place / "in" / "a.png"], place / "y.png", Failing(10, error))


def test_a_network_without_numbers_is_refused(place):
    network = delta_network()
    network.reconstruct.bias.data.fill_(float("nan"))
    to_image(planes(3)).save(place / "x.png")
    with pytest.raises(UserError, match="not numbers"):
        run([place / "x.png"], place / "y.png", network)
    assert not (place / "y.png").exists()


MANY = """
import sys
sys.path.insert(0, {root!r})
import torch
from engine import batch
from engine.choosing import Chooser
from engine.settings import UpscaleSettings
from engine.targets import list_inputs

def release_memory(released=batch.release_memory):
    released()
    resident.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6)

resident = []
batch.release_memory = release_memory
torch.set_num_threads(1)
batch.upscale_files(list_inputs([batch.Path("in")]), None, Chooser({model!r}), UpscaleSettings())
print(resident[29], resident[-1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says so easily what memory is used")
@pytest.mark.parametrize("model", ["srcnn", "srvgg"])
def test_memory_stays_what_it_is_over_pictures_of_unlike_sizes(place, model):
    (place / "in").mkdir()
    for number, (height, width) in enumerate(numpy.random.default_rng(0).integers(30, 130, (150, 2))):
        to_image(planes(3, height=height, width=width)).save(place / "in" / f"{number:03d}.png")
    script = MANY.format(root=str(main.Path(main.__file__).parent), model=model)
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    after_30, at_the_end = map(float, finished.stdout.splitlines()[-1].split())
    assert at_the_end - after_30 < 50, finished.stdout.splitlines()[-1]  # megabytes


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.path.insert(0, {root!r})
import main
sys.exit(main.main(["upscale", "-i", "x.png", "-o", "y{suffix}", "-m", "models/srcnn_x2.a.pt", "--cpu", "--compare"]))
"""


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_a_full_disk_leaves_nothing(place, suffix):
    save_checkpoint(make_checkpoint(params=delta_network((9, 1, 5)).state_dict()), place / "models" / "srcnn_x2.a.pt")
    to_image(planes(3, height=120, width=120)).save(place / "x.png")
    (place / f"y{suffix}").write_text("what was there")
    script = LIMITED.format(root=str(main.Path(main.__file__).parent), suffix=suffix)
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 1 and "Traceback" not in finished.stderr
    assert f"error: cannot write y{suffix}" in finished.stderr
    assert (place / f"y{suffix}").read_text() == "what was there"
    assert sorted(path.name for path in place.iterdir()) == ["models", "x.png", f"y{suffix}"]


def test_ctrl_c_ends_in_one_line(place, monkeypatch, capsys):
    save_checkpoint(make_checkpoint(params=delta_network((9, 1, 5)).state_dict()), place / "models" / "srcnn_x2.a.pt")
    to_image(planes(3)).save(place / "x.png")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    assert main.main(["upscale", "-i", "x.png", "-o", "y.png"]) == 130
    assert capsys.readouterr().err.strip() == "stopped"
    assert sorted(path.name for path in place.iterdir()) == ["models", "x.png"]


def test_comparison_and_slider_page(place, photograph):
    write_picture(place / "x.png", photograph)
    frame = Image.new("RGBA", (3, 2), (9, 9, 9, 0))
    frame.save(place / "<tiny> & é.png")
    save_picture(place / "deep.tif", Picture([planes(2, numpy.uint16, height=700, width=500)]))
    for name in ("x.png", "<tiny> & é.png", "deep.tif"):
        run([place / name], place / "out", compare=True)
    sheets, pages = sorted((place / "out").glob("*.compare.png")), sorted((place / "out").glob("*.compare.html"))
    assert len(sheets) == len(pages) == 3
    for sheet in sheets:
        assert Image.open(sheet).width > 1300
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.count("data:image/png;base64,") == 2 and "http" not in text and "<tiny>" not in text
    run([place / "x.png"], place / "half.png", compare=True, outscale=0.5)
    assert (place / "half.compare.png").exists()


def test_the_bar_counts_pictures_and_parts_of_them(place, monkeypatch):
    for number in range(2):
        write_picture(place / "in" / f"{number}.png", torch.rand(1, 3, 300, 300))
    shares = []

    class Bar(batch.tqdm):
        def update(self, n=1):
            shares.append(n)
            return super().update(n)

    monkeypatch.setattr(batch, "tqdm", Bar)
    run([place / "in"], place / "out")
    assert len(shares) > 8 and sum(shares) == pytest.approx(2)


@pytest.mark.parametrize("outscale", [2, 0.5, 1e-3, 12.34567])
def test_a_folder_may_hold_its_own_results(place, capsys, outscale):
    for name in ("a.png", "b.x2.png"):
        to_image(planes(3)).save(place / name)
    for again in (False, True):
        run([place], place, outscale=outscale, compare=True, skip_existing=again)
    assert len(list(place.iterdir())) == 2 + 2 * 3
    assert capsys.readouterr().out.endswith("0 enlarged, 2 were there already\n")


def test_what_other_processes_make_and_what_fails_there_is_told(place, photograph, monkeypatch, capsys):
    """Under torchrun only the first is heard."""
    for name in "acd":
        write_picture(place / "in" / f"{name}.png", photograph[..., :16, :16])
    (place / "in" / "b.png").write_text("no picture")
    found: dict[int, tuple] = {}
    for rank in (1, 0):  # a and c are the first's, b and d the other's

        def gathered(own, rank=rank):
            found[rank] = own
            return [found[one] for one in sorted(found)]

        monkeypatch.setattr(batch, "rank_and_size", lambda rank=rank: (rank, 2))
        monkeypatch.setattr(batch, "gathered", gathered)
        capsys.readouterr()
        with pytest.raises(UserError) as caught:
            run([place / "in"], place / "out")
    told = capsys.readouterr()
    assert "1 of 4 pictures failed, 3 were enlarged" in str(caught.value)
    assert all(told.out.count(f"{name}.x2") == 1 for name in "acd") and told.err.count("failed: ") == 1
    assert "b.png" in told.err
