"""Films: every picture at its time, in its colours, once; sound as it was; a run that is stopped goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy
import pytest
import torch
from test_checkpoints import Always, make_checkpoint
from test_srcnn import delta_network

av = pytest.importorskip("av", reason="films need PyAV")
from clips import TICK, make_clip, make_rich_clip, moving, packets, shown  # noqa: E402 (it needs PyAV)

from engine import video  # noqa: E402
from engine.batch import upscale_files  # noqa: E402
from engine.ensembles import Ensemble  # noqa: E402
from engine.settings import UpscaleSettings  # noqa: E402
from imaging import film_colours, films  # noqa: E402
from imaging.console import UsageError, UserError  # noqa: E402
from imaging.film_writing import chosen_form, decoding_times  # noqa: E402
from imaging.films import duration, open_film, read_pictures  # noqa: E402

EVEN = range(1024, 1024 + 30 * 512, 512)
UNEVEN = [1024, 1536, 2048, 3500, 4012, 5100, 5600, 6500, *range(7000, 18000, 512)]
FFV1 = UpscaleSettings(codec="ffv1")


def upscaled(path: Path, target: Path, settings=FFV1, network=None, scale: int = 1) -> Path:
    """A film through a network, by default one that changes nothing."""
    chooser = Always(network or delta_network(), make_checkpoint(scale=scale))
    upscale_files([(path, Path(path.name))], target, chooser, settings)
    return target


def planes_of(path: Path) -> list:
    film = open_film(path)
    return [planes for _, planes in read_pictures(film, 0, len(film.stamps))]


class Nearest(torch.nn.Module):
    """On RGB: every pixel four times. It counts what it has done."""

    luma, scale, radius, margin, tile, fold = False, 2, 0, 0, 256, 1
    shape: ClassVar[dict] = {}

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, rgb):
        self.calls += 1
        return torch.nn.functional.interpolate(rgb * self.weight, scale_factor=2)


# ---------------------------------------------------------------------------------------------
# Time
# ---------------------------------------------------------------------------------------------

CONTAINERS = {
    "h264.mp4": {}, "h264.mov": {}, "h264.mkv": {}, "h264.ts": {"time_base": Fraction(1, 90000)},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "h265.mp4": {"codec": "libx265", "size": (64, 96), "options": {"x265-params": "log-level=none"}},
}  # fmt: skip


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_picture_and_sound_keeps_its_time(place, name):
    given = CONTAINERS[name]
    ticks = [round(stamp * TICK / given.get("time_base", TICK)) for stamp in UNEVEN]
    make_clip(place / name, ticks, sound=None if name == "vp9.webm" else 9600, **given)
    target = place / f"out.{'mkv' if name.endswith('webm') else name.split('.')[1]}"
    upscaled(place / name, target, UpscaleSettings(preset="veryfast"))
    assert shown(target) == shown(place / name)
    assert len(shown(target)) == len(UNEVEN)
    if name != "vp9.webm":
        assert packets(target) == packets(place / name)


def contents(path):
    """Of a film: kinds of streams, chapters in ms, title, what its subtitles say and when, its length in seconds."""
    with av.open(str(path)) as film:
        kinds = sorted(stream.type for stream in film.streams)
        chapters = [
            (*(round(1000 * one[side] * one["time_base"]) for side in ("start", "end")), one["metadata"]["title"])
            for one in film.chapters()
        ]
        words = [
            (packet.pts * packet.time_base, packet.duration * packet.time_base, bytes(packet))
            for stream in film.streams.subtitles
            for packet in film.demux(stream)
            if packet.size
        ]
        languages = [stream.metadata.get("language") for stream in film.streams.subtitles]
        return kinds, chapters, film.metadata.get("title"), words, languages, film.duration / 1e6


def test_all_else_of_a_film_is_copied(place, capsys):
    make_rich_clip(place / "rich.mkv")
    before = contents(place / "rich.mkv")
    assert before[0] == ["attachment", "subtitle", "video"] and len(before[1]) == len(before[3]) == 2
    assert contents(upscaled(place / "rich.mkv", place / "out.mkv")) == before
    with av.open("out.mkv") as film:
        assert film.streams.attachments[0].data == b"of the day"
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suffix", "chapters", "told"),
    [
        ("mp4", True, ["subtitle (subrip)", "attachment"]),
        ("mov", True, ["subtitle (subrip)", "attachment"]),
        ("ts", False, ["title", "subtitle (subrip)", "attachment", "2 chapters"]),
        ("avi", False, ["subtitle (subrip)", "attachment", "2 chapters"]),
    ],
)
def test_what_a_container_cannot_hold_is_told(place, capsys, suffix, chapters, told):
    make_rich_clip(place / "rich.mkv")
    upscaled(place / "rich.mkv", place / f"out.{suffix}", UpscaleSettings(preset="veryfast"))
    lines = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert [line.split("its ")[1] for line in lines] == [f"{what} cannot be in .{suffix}: left out" for what in told]
    found = contents(place / f"out.{suffix}")
    assert bool(found[1]) == chapters and "attachment" not in found[0] and "subtitle" not in found[0]
    assert suffix in ("avi", "ts") or found[-1] == pytest.approx(contents(place / "rich.mkv")[-1], abs=0.03)


AVI = {  # without and with pictures that wait for later ones
    "mpeg4": {"codec": "mpeg4"}, "h264": {"options": {"bf": "0"}}, "ffv1": {"codec": "ffv1"},
    "mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p"}, "mpeg4 with B": {"codec": "mpeg4", "options": {"bf": "2"}},
    "h264 with B": {},
}  # fmt: skip
GAPS = [0, 1, 2, 10, 11, 12, 30, 31, *range(40, 140)]


@pytest.mark.parametrize("kind", AVI)
def test_avi_keeps_its_gaps(place, kind):
    """Where AVI drops pictures it has empty chunks: what comes after them is later."""
    gaps = range(140) if "B" in kind else GAPS  # FFmpeg cannot write gaps among pictures that wait
    made = make_clip(place / "x.avi", gaps, time_base=Fraction(1, 25), **AVI[kind])
    film = open_film(place / "x.avi")
    whole = list(read_pictures(film, 0, len(film.stamps)))
    assert [stamp * film.time_base for stamp, _ in whole] == [Fraction(stamp, 25) for stamp in gaps]
    assert all(numpy.abs(one[0] - two[0].astype(int)).mean() < 12 for one, (_, two) in zip(made, whole, strict=True))
    assert float(duration(film)) == 5.6
    for start, stop in ((3, 4), (5, 30), (30, 54), (40, 42), (107, 108)):
        part = list(read_pictures(film, start, stop))
        assert [stamp for stamp, _ in part] == film.stamps[start:stop]
        for (_, one), (_, two) in zip(part, whole[start:stop], strict=True):
            assert all(numpy.array_equal(first, second) for first, second in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", AVI)
def test_pieces_of_an_avi_are_not_each_decoded_from_its_start(place, kind, monkeypatch):
    make_clip(place / "x.avi", range(120), time_base=Fraction(1, 25), **AVI[kind])
    film, count, decoded = open_film(place / "x.avi"), 0, films._decoded

    def counting(*given):
        nonlocal count
        for frame in decoded(*given):
            count += 1
            yield frame

    monkeypatch.setattr(films, "_decoded", counting)
    for start in range(0, 120, 24):
        assert len(list(read_pictures(film, start, start + 24))) == 24
    assert count < 200


def test_a_damaged_picture_of_an_avi_moves_no_other(place):
    make_clip(place / "x.avi", GAPS, time_base=Fraction(1, 25), **AVI["mjpeg"])
    with av.open("x.avi") as film:
        content, packet = (place / "x.avi").read_bytes(), list(film.demux(video=0))[4]
    (place / "x.avi").write_bytes(content.replace(bytes(packet), bytes(packet.size)))
    film = open_film(place / "x.avi")
    assert [stamp for stamp, _ in read_pictures(film, 0, len(GAPS))] == [stamp for stamp in GAPS if stamp != 11]
    assert [stamp for stamp, _ in read_pictures(film, 5, 8)] == GAPS[5:8]


def since_first(path: Path) -> list[Fraction]:
    return [when - shown(path)[0] for when in shown(path)]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
@pytest.mark.parametrize("earlier", [0, 10])
def test_a_film_as_avi_and_back(place, rate, earlier):
    """Its rate is that of its pictures, so that a player and this program find their times."""
    ticks = [round((number + 25) / rate * 90000) for number in range(30)]
    sound = round((25 - earlier) / rate * 48000)
    make_clip(place / "x.mp4", ticks, time_base=Fraction(1, 90000), rate=rate, sound=sound)
    upscaled(place / "x.mp4", place / "y.avi", replace(FFV1, compare=True))
    upscaled(place / "y.avi", place / "z.mp4", UpscaleSettings(preset="veryfast"))
    heard = {content: when - shown(place / "x.mp4")[0] for when, content in packets(place / "x.mp4")}
    for name in ("y.avi", "z.mp4"):
        assert since_first(place / name) == pytest.approx(since_first(place / "x.mp4"), abs=1e-4)
        assert float(duration(open_film(place / name))) == pytest.approx(30 / rate, abs=1e-3)
        tone = packets(place / name)
        assert len(tone) >= len(heard) - 2 - earlier / rate * 48000 / 1024
        assert all(abs(when - shown(place / name)[0] - heard[content]) < 0.03 for when, content in tone)
    for name in ("y.avi", "y.compare.avi", "z.mp4"):
        with av.open(name) as film:
            assert film.streams.video[0].average_rate == rate


def test_a_film_of_no_one_rate_as_avi_and_back(place):
    make_clip(place / "x.mp4", UNEVEN)
    upscaled(place / "x.mp4", place / "y.avi")
    upscaled(place / "y.avi", place / "z.mkv")
    for name in ("y.avi", "z.mkv"):
        assert since_first(place / name) == pytest.approx(since_first(place / "x.mp4"), abs=2e-3)


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov", "ts", "avi", pytest.param("webm", marks=pytest.mark.slow)])
def test_the_rate_of_a_film_is_stated(place, suffix):
    make_clip(place / "x.mp4", EVEN, size=(64, 96))
    settings = UpscaleSettings(codec="av1" if suffix == "webm" else "h264", preset=None if suffix == "webm" else "fast")
    upscaled(place / "x.mp4", place / f"y.{suffix}", settings)
    with av.open(f"y.{suffix}") as film:
        assert film.streams.video[0].average_rate == 25
    assert open_film(place / f"y.{suffix}").rate == 25


@pytest.mark.parametrize("name", ["x.mkv", "x.avi"])
def test_a_rate_that_pictures_do_not_have_is_not_believed(place, name):
    make_clip(place / name, range(0, 1200, 40), codec="mpeg4", time_base=Fraction(1, 1000), rate=1000)
    upscaled(place / name, place / "y.avi")
    for each in (name, "y.avi"):
        assert open_film(place / each).rate == 25
        assert shown(place / each) == [Fraction(number, 25) for number in range(30)]
    assert duration(open_film(place / "y.avi")) == Fraction(6, 5)
    with av.open("y.avi") as film:
        assert film.streams.video[0].average_rate == 25


def test_a_flash_and_a_beep_stay_together(place):
    def flash(number, height, width, bits):
        return numpy.full((height, width), 235 if number == 12 else 16, numpy.uint8)

    make_clip(place / "x.mp4", EVEN, picture=flash, sound=round(EVEN[12] * TICK * 48000))
    upscaled(place / "x.mp4", place / "y.mp4", UpscaleSettings())
    bright = [number for number, planes in enumerate(planes_of(place / "y.mp4")) if planes[0].mean() > 200]
    assert bright == [12]
    assert abs(shown(place / "y.mp4")[12] - packets(place / "y.mp4")[0][0]) < Fraction(3, 100)  # AAC begins earlier


@pytest.mark.parametrize("seed", range(5))
def test_decoding_times_rise_and_are_never_later(seed):
    generator = random.Random(seed)
    stamps = sorted(generator.sample(range(1000), 40))
    for place in range(0, 40, 5):  # each five in some order
        part = stamps[place : place + 5]
        generator.shuffle(part)
        stamps[place : place + 5] = part
    times = decoding_times(stamps)
    assert len(times) == 40 and times == sorted(set(times))
    assert all(time <= stamp for time, stamp in zip(times, stamps, strict=True))
    assert decoding_times([3, 5, 9]) == [3, 5, 9]


def test_any_part_is_as_in_the_whole(place):
    make_clip(place / "x.mp4", UNEVEN)
    film = open_film(place / "x.mp4")
    whole = list(read_pictures(film, 0, len(film.stamps)))
    for start, stop in ((0, 7), (7, 12), (11, 13), (23, 30), (29, 30)):
        part = list(read_pictures(film, start, stop))
        assert [stamp for stamp, _ in part] == film.stamps[start:stop]
        for (_, one), (_, two) in zip(part, whole[start:stop], strict=True):
            assert all(numpy.array_equal(first, second) for first, second in zip(one, two, strict=True))


def test_a_part_of_a_film_begins_at_0(place):
    make_clip(place / "x.mp4", EVEN, sound=0)
    first = EVEN[0] * TICK
    upscaled(place / "x.mp4", place / "y.mp4", UpscaleSettings(start=0.2, end=0.6))
    assert shown(place / "y.mp4") == [EVEN[number] * TICK - first - Fraction(1, 5) for number in range(5, 15)]
    assert len(packets(place / "y.mp4")) < len(packets(place / "x.mp4"))
    with pytest.raises(UserError, match=r"no pictures there; it lasts 1\.2 seconds"):
        upscaled(place / "x.mp4", place / "z.mp4", UpscaleSettings(start=2.0))


# ---------------------------------------------------------------------------------------------
# Pictures
# ---------------------------------------------------------------------------------------------

KINDS = {
    "4:2:0": {}, "4:2:0 full": {"tags": (1, 1, 1, 2)}, "4:2:2": {"pixels": "yuv422p"}, "4:4:4": {"pixels": "yuv444p"},
    "odd": {"size": (31, 47)}, "odd 4:2:2": {"size": (33, 41), "pixels": "yuv422p"},
    "10 bits": {"pixels": "yuv420p10le"}, "12 bits": {"pixels": "yuv444p12le"}, "grey": {"pixels": "gray"},
    "grey 10": {"pixels": "gray10le"}, "BT.2020": {"pixels": "yuv420p10le", "tags": (9, 9, 14, 1)},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_changes_nothing_changes_nothing(place, kind):
    """On luma there is no detour over RGB: every code comes back, those beyond black and white too."""
    generator = numpy.random.default_rng(0)

    def noise(number, height, width, bits):
        kind = numpy.uint8 if bits == 8 else numpy.uint16
        return generator.integers(0, 2**bits, (height, width)).astype(kind)

    given = {"codec": "ffv1", "time_base": Fraction(1, 1000), "picture": noise, **KINDS[kind]}
    made = make_clip(place / "x.mkv", range(0, 120, 40), **given)
    upscaled(place / "x.mkv", place / "y.mkv")
    result = planes_of(place / "y.mkv")
    assert len(result) == 3
    for before, after in zip(made, result, strict=True):
        for one, two in zip(before, after, strict=True):
            assert two.dtype == one.dtype and numpy.array_equal(one, two)


def test_h264_at_quality_100_is_nearly_the_same(place):
    made = make_clip(place / "x.mkv", range(0, 400, 40), codec="ffv1", time_base=Fraction(1, 1000))
    upscaled(place / "x.mkv", place / "y.mkv", UpscaleSettings(quality=100))
    for before, after in zip(made, planes_of(place / "y.mkv"), strict=True):
        for one, two in zip(before, after, strict=True):
            assert numpy.abs(one.astype(int) - two).max() <= 2


def rgb_of(luma, blue, red, matrix, full):
    """ITU-T H.273, section 8.3, for 8 bits."""
    y = luma / 255 if full else (luma - 16) / 219
    cb, cr = ((part - 128) / (255 if full else 224) for part in (blue, red))
    if matrix == 8:  # cb is Cg, cr is Co
        return numpy.array([y - cb + cr, y + cb, y - cb - cr])
    red_share, blue_share = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]
    r, b = y + 2 * (1 - red_share) * cr, y + 2 * (1 - blue_share) * cb
    return numpy.array([r, (y - red_share * r - blue_share * b) / (1 - red_share - blue_share), b])


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (6, 6, 6, 1), (9, 9, 14, 1), (8, 1, 1, 1), (1, 1, 1, 2), None])
def test_colours_through_a_network_on_rgb(place, tags, pixels):
    """Mean colours stay within a level, whatever the matrix, and the network sees the RGB that is meant."""
    colours = [(90, 100, 160), (180, 120, 120), (60, 140, 110)]

    def flat(number, height, width, bits):
        return numpy.full((height, width), colours[number % 10][number // 10], numpy.uint8)

    network, seen = Nearest(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean(dim=(0, 2, 3)).numpy()))
    make_clip(
        place / "x.mkv", [0, 40, 80], codec="ffv1", pixels=pixels, picture=flat, tags=tags, time_base=Fraction(1, 1000)
    )
    upscaled(place / "x.mkv", place / "y.mkv", network=network, scale=2)
    matrix, full = (tags[0], tags[3] == 2) if tags else (6, False)  # so small a film is BT.601
    for codes, rgb, after in zip(colours, seen, planes_of(place / "y.mkv"), strict=True):
        assert numpy.abs(255 * (rgb - rgb_of(*codes, matrix, full))).max() < 0.1
        assert after[0].shape == (64, 96)
        assert all(abs(plane.mean() - code) <= 0.5 for plane, code in zip(after, codes, strict=True))
    again = open_film(place / "y.mkv")
    assert (again.colours.matrix, again.colours.full) == (matrix, full)


@pytest.mark.parametrize("position", film_colours.POSITIONS)
@pytest.mark.parametrize(("step", "new_step"), [((2, 2), (2, 2)), ((2, 2), (1, 1)), ((1, 2), (1, 2)), ((1, 1), (2, 2))])
def test_samples_of_colour_are_shown_where_they_were(position, step, new_step):
    """Bicubic interpolation keeps a ramp exactly, so that each sample must say where it lies."""
    size, new_size, scale = (32, 48), (96, 144), 3
    down, across = film_colours.POSITIONS[position]

    def places(length, step, first):  # in pixels, of the samples
        return torch.arange(length // step, dtype=torch.float64) * step + first * (step - 1)

    rows, columns = places(size[0], step[0], down), places(size[1], step[1], across)
    new_rows, new_columns = places(new_size[0], new_step[0], down), places(new_size[1], new_step[1], across)
    ramp = (rows[:, None] + 2 * columns)[None, None]
    result = film_colours.enlarge_chroma(ramp, size, new_size, position, new_step)[0, 0]
    expected = (new_rows[:, None] + 2 * new_columns - 1.5 * (scale - 1)) / scale
    assert result.shape == expected.shape
    inside = (slice(16, -16), slice(16, -16))
    torch.testing.assert_close(result[inside], expected[inside])


def test_codes_and_numbers():
    for bits in (8, 10, 12):
        codes = numpy.arange(2**bits).reshape(1, -1).astype(numpy.uint8 if bits == 8 else numpy.uint16)
        for full in (False, True):
            for is_chroma in (False, True):
                numbers = film_colours.to_numbers(codes, bits, full, is_chroma)
                assert numpy.array_equal(film_colours.to_codes(numbers, bits, full, is_chroma), codes)
    rgb = torch.rand(1, 3, 4, 5)
    for matrix in (*film_colours.MATRICES, film_colours.YCGCO):
        torch.testing.assert_close(film_colours.to_rgb(*film_colours.from_rgb(rgb, matrix), matrix), rgb)


def test_what_a_film_says_of_itself_is_kept(place):
    make_clip(
        place / "x.mp4", EVEN, tags=(9, 9, 18, 1), pixels="yuv420p10le", rotation=90, aspect=Fraction(4, 3),
        position="topleft", sound=0,
    )  # fmt: skip
    upscaled(place / "x.mp4", place / "y.mp4", UpscaleSettings(preset="veryfast"))
    before, after = open_film(place / "x.mp4"), open_film(place / "y.mp4")
    assert before.colours.position == "topleft" and before.colours.hdr == "HLG" and before.rotation == 90
    assert after.colours == before.colours and after.bits == 10
    assert (after.rotation, after.sample_aspect) == (90, Fraction(4, 3))


def test_the_last_row_is_doubled_for_codecs_that_want_even_sides(place):
    make_clip(place / "x.mkv", [0, 40], size=(31, 47), codec="ffv1", time_base=Fraction(1, 1000))
    upscaled(place / "x.mkv", place / "y.mp4", UpscaleSettings(quality=100))
    luma = planes_of(place / "y.mp4")[0][0]
    assert luma.shape == (32, 48)
    assert numpy.abs(luma[31].astype(int) - luma[30]).max() < 6


@pytest.mark.parametrize("codec", ["h264", "h265", "prores", "ffv1", pytest.param("av1", marks=pytest.mark.slow)])
def test_every_codec(place, codec, capfd):
    make_clip(place / "x.mkv", range(0, 120, 40), size=(64, 64), codec="ffv1", time_base=Fraction(1, 1000))
    upscaled(place / "x.mkv", place / "y.mkv", UpscaleSettings(codec=codec))
    with av.open(str(place / "y.mkv")) as film:
        name = film.streams.video[0].codec_context.codec.canonical_name
    assert name == {"h265": "hevc"}.get(codec, codec)
    assert shown(place / "y.mkv") == [Fraction(number, 25) for number in range(3)]
    luma = [planes[0] for planes in planes_of(place / "y.mkv")]
    made = [moving(number, 64, 64, 8) for number in range(3)]
    shift = 4 if codec == "prores" else 1
    assert all(numpy.abs(one / shift - two).mean() < 2 for one, two in zip(luma, made, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_h265_of_few_pictures(place, count):
    """Its encoder takes decoding times from memory that a third picture fills; here it holds nonsense before."""
    make_clip(place / "x.mkv", range(1000, 1000 + 40 * count, 40), codec="ffv1", size=(64, 96))
    code = "from test_video import *; upscaled(Path('x.mkv'), Path('y.mkv'), UpscaleSettings(codec='h265'))"
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}", "MALLOC_PERTURB_": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert len(shown(place / "y.mkv")) == count


def test_what_its_pictures_carry_along_is_told(place):
    mastering = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    colours = "colorprim=9:transfer=16:colormatrix=9"
    options = {"x265-params": f"{colours}:master-display={mastering}:max-cll=1000,400:log-level=none"}
    kind = {"codec": "libx265", "pixels": "yuv420p10le", "size": (64, 96)}
    make_clip(place / "x.mkv", EVEN[:3], options=options, tags=(9, 9, 16, 1), **kind)
    told = open_film(place / "x.mkv").told
    assert told[0].startswith("its colours are HDR (PQ)")
    assert told[1:] == ["mastering data of HDR in its pictures: left out"]


@pytest.mark.parametrize(("matrix", "told"), [(11, True), (14, True), (2, False), (0, False), (1, False), (8, False)])
def test_a_matrix_that_is_unknown_is_told(place, capsys, matrix, told):
    make_clip(place / "x.mkv", [0, 40], codec="ffv1", tags=(matrix, 1, 1, 1), time_base=Fraction(1, 1000))
    upscaled(place / "x.mkv", place / "y.mkv")
    line = f"x.mkv: its colours follow matrix {matrix} of H.273, unknown here: taken, and tagged, as BT.601"
    assert (line in capsys.readouterr().err) == told
    assert open_film(place / "y.mkv").colours.matrix == (matrix if matrix in (1, 8) else 6)


def test_interlaced_and_transparent_films_are_told(place, capsys):
    def combs(number, height, width, bits):
        plane = numpy.full((height, width), 60, numpy.uint8)
        plane[::2, (4 * number) % 40 :] = 200
        plane[1::2, (4 * number + 2) % 40 :] = 200
        return plane

    make_clip(
        place / "x.mp4", EVEN, picture=combs, options={"x264-params": "interlaced=1"}, size=(64, 96)
    )  # fmt: skip
    upscaled(place / "x.mp4", place / "y.mkv")
    assert "is interlaced" in capsys.readouterr().err
    upscaled(place / "x.mp4", place / "z.mkv", replace(FFV1, deinterlace=True))
    assert "is interlaced" not in capsys.readouterr().err
    combed, whole = ([planes[0].astype(int) for planes in planes_of(place / name)] for name in ("y.mkv", "z.mkv"))
    assert shown(place / "z.mkv") == shown(place / "y.mkv")

    def combing(pictures):
        return numpy.mean([numpy.abs(plane[1:-1] * 2 - plane[:-2] - plane[2:]).mean() for plane in pictures[2:-2]])

    assert combing(whole) < 0.5 * combing(combed)
    film = open_film(place / "x.mp4", deinterlace=True)
    pieces = [planes for start in (0, 13) for _, planes in read_pictures(film, start, 13 if start == 0 else 30)]
    assert all(numpy.array_equal(one[0], two) for one, two in zip(pieces, whole, strict=True))


def test_equal_pictures_in_a_row_are_enlarged_once(place):
    make_clip(
        place / "x.mkv", range(0, 320, 40), codec="ffv1", time_base=Fraction(1, 1000),
        picture=lambda number, height, width, bits: moving(number % 10 // 4 * 4, height, width, bits),
    )  # fmt: skip
    network = Nearest()
    upscaled(place / "x.mkv", place / "y.mkv", network=network, scale=2)
    assert network.calls == 2 and len(shown(place / "y.mkv")) == 8


@pytest.mark.parametrize("pixels", ["yuv420p", "gray", "gbrp10le"])
def test_a_comparison_beside_the_result(place, pixels):
    made = make_clip(
        place / "x.mkv", range(400, 800, 40), codec="ffv1", pixels=pixels, time_base=Fraction(1, 1000), size=(32, 48)
    )
    upscaled(place / "x.mkv", place / "y.mkv", replace(FFV1, compare=True), network=Nearest(), scale=2)
    left_and_right, right = planes_of(place / "y.compare.mkv"), planes_of(place / "y.mkv")
    assert len(left_and_right) == len(right) == 10 and shown(place / "y.compare.mkv")[0] == 0
    for both, one, low in zip(left_and_right, right, made, strict=True):
        assert numpy.array_equal(both[0][:, 96:], one[0])
        assert abs(both[0][:, :96].mean() - low[0].mean()) < 0.002 * low[0].max()
    assert "data:image" in (place / "y.compare.html").read_text()


# ---------------------------------------------------------------------------------------------
# Long work
# ---------------------------------------------------------------------------------------------


class Failing(Nearest):
    """Fails at its n-th picture."""

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def forward(self, rgb):
        if self.calls == self.at:
            raise KeyboardInterrupt
        return super().forward(rgb)


def test_a_stopped_run_goes_on(place, monkeypatch, capsys):
    monkeypatch.setattr(video, "PIECE", 4)
    make_clip(place / "x.mkv", range(0, 600, 40), codec="ffv1", time_base=Fraction(1, 1000))
    whole = upscaled(place / "x.mkv", place / "whole.mkv", network=Nearest(), scale=2)
    with pytest.raises(KeyboardInterrupt):
        upscaled(place / "x.mkv", place / "y.mkv", network=Failing(9), scale=2)
    assert not (place / "y.mkv").exists() and list(place.glob(".y.mkv.*.parts"))
    network = Nearest()
    capsys.readouterr()
    upscaled(place / "x.mkv", place / "y.mkv", network=network, scale=2)
    assert "going on after 2 of 4 pieces" in capsys.readouterr().err and network.calls == 7
    assert packets(place / "y.mkv", "video") == packets(whole, "video")
    assert {path.name for path in place.iterdir()} == {"x.mkv", "y.mkv", "whole.mkv"}


@pytest.mark.parametrize("ensemble", [False, True])
def test_other_settings_do_not_go_on_with_the_pieces(place, monkeypatch, capsys, ensemble):
    """Nor does an ensemble with those of its network: their weights are the same, their pictures are not."""
    monkeypatch.setattr(video, "PIECE", 4)
    make_clip(place / "x.mkv", range(0, 600, 40), codec="ffv1", time_base=Fraction(1, 1000))
    with pytest.raises(KeyboardInterrupt):
        upscaled(place / "x.mkv", place / "y.mkv", network=Failing(9), scale=2)
    network = Nearest()
    if ensemble:
        upscaled(place / "x.mkv", place / "y.mkv", network=Ensemble(network), scale=2)
    else:
        upscaled(place / "x.mkv", place / "y.mkv", replace(FFV1, outscale=1.5), network=network, scale=2)
    assert "other settings left it" in capsys.readouterr().err and network.calls == (8 * 15 if ensemble else 15)


def test_work_ahead_passes_items_and_errors_on():
    def items():
        yield from range(5)
        raise UserError("enough")

    got = []
    with pytest.raises(UserError, match="enough"):
        for item in video.ahead(items()):
            got.append(item)
    assert got == [0, 1, 2, 3, 4]
    endless = video.ahead(iter(int, 1))
    assert next(endless) == 0
    endless.close()  # and its thread ends


RUN = """
import sys
from pathlib import Path
from test_checkpoints import Always, make_checkpoint
from test_srcnn import delta_network
import torch
from engine import video
from engine.batch import upscale_files
from engine.devices import joined_processes
from engine.settings import UpscaleSettings
from imaging.console import run_command
video.PIECE = 5
def main(options):
    with joined_processes(torch.device("cpu")):
        chooser = Always(delta_network(), make_checkpoint(scale=4))
        settings = UpscaleSettings(codec="ffv1", outscale=8)
        upscale_files([(Path("x.mkv"), Path("x.mkv"))], Path("y.mkv"), chooser, settings)
sys.exit(run_command(main, None))
"""


def start(*launcher: str) -> subprocess.Popen:
    """A process, or several, that enlarge x.mkv in the working folder."""
    Path("run.py").write_text(RUN)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "run.py"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_killed_five_times_it_ends_as_if_it_had_not_been(place):
    make_clip(place / "x.mkv", range(0, 4000, 40), codec="ffv1", size=(64, 96), time_base=Fraction(1, 1000))
    assert start().wait(120) == 0
    whole = packets(place / "y.mkv", "video")
    (place / "y.mkv").unlink()
    generator, kills = random.Random(0), 0
    while kills < 5:
        process = start()
        before = len(list(place.glob(".y.mkv.*.parts/*.nut")))
        while len(list(place.glob(".y.mkv.*.parts/*.nut"))) < min(before + 2, 19) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.1))
        process.send_signal(generator.choice([signal.SIGKILL, signal.SIGINT]))
        process.communicate()
        assert not (place / "y.mkv").exists()
        kills += 1
    assert start().wait(120) == 0
    assert packets(place / "y.mkv", "video") == whole
    assert {path.name for path in place.iterdir()} == {"x.mkv", "y.mkv", "run.py"}


@pytest.mark.slow
def test_two_processes_share_a_film(place):
    make_clip(place / "x.mkv", range(0, 1600, 40), codec="ffv1", time_base=Fraction(1, 1000))
    assert start().wait(120) == 0
    whole = packets(place / "y.mkv", "video")
    (place / "y.mkv").unlink()
    process = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 0, told
    assert packets(place / "y.mkv", "video") == whole
    assert {path.name for path in place.iterdir()} == {"x.mkv", "y.mkv", "run.py"}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(place):
    peaks = []
    for count in (10, 2000):
        make_clip(place / "x.mp4", range(0, 512 * count, 512), size=(64, 96))
        code = (
            "import resource, sys; from test_video import *; upscaled(Path('x.mp4'), Path('y.mp4'), UpscaleSettings());"
        )
        code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        here = Path(__file__).parent
        environment = {**os.environ, "PYTHONPATH": f"{here.parent}:{here}", "OMP_NUM_THREADS": "1"}
        told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        peaks.append(int(told.stdout.split()[-1]) / 1024)
        (place / "y.mp4").unlink()
    assert peaks[1] - peaks[0] < 50, peaks


# ---------------------------------------------------------------------------------------------
# What is no film
# ---------------------------------------------------------------------------------------------


def test_bad_input_is_one_line(place):
    (place / "text.mp4").write_text("not a film")
    with pytest.raises(UserError, match=r"text\.mp4: Invalid data"):
        upscaled(place / "text.mp4", place / "y.mp4", UpscaleSettings())
    make_clip(place / "x.mp4", EVEN)
    (place / "cut.mp4").write_bytes((place / "x.mp4").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut\.mp4: "):
        upscaled(place / "cut.mp4", place / "y.mp4", UpscaleSettings())
    with pytest.raises(UsageError, match=r"cannot write such a film; its name must end in \.mp4"):
        upscaled(place / "x.mp4", place / "y.txt", UpscaleSettings())
    with pytest.raises(UsageError, match=r"\.webm cannot hold h264; \.mp4, .* can"):
        upscaled(place / "x.mp4", place / "y.webm", UpscaleSettings())
    with pytest.raises(UsageError, match=r"--preset often: h264 has ultrafast"):
        chosen_form(open_film(place / "x.mp4"), (8, 8), "h264", 95, "often")
    assert not list(place.glob("y.*")) and not list(place.glob(".y*"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["12:30.mp4", "file:x.mp4", "pipe:1.avi", "-x.mp4", "%03d.mp4"])
def test_a_name_is_a_name_to_ffmpeg_too(place, name):
    """No protocol, no option, no pattern."""
    make_clip(place / "x.mkv", range(0, 120, 40), time_base=Fraction(1, 1000))
    settings = UpscaleSettings(preset="veryfast", compare=True)
    upscaled(Path("x.mkv"), Path(name), settings)
    upscaled(Path(name), Path("z.mkv"), settings)
    assert len(shown(place / name)) == len(shown(place / "z.mkv")) == 3


def test_a_film_that_is_cut_off_ends_where_it_is(place):
    made = make_clip(place / "x.mkv", range(0, 1200, 40), codec="ffv1", time_base=Fraction(1, 1000))
    content = (place / "x.mkv").read_bytes()
    (place / "cut.mkv").write_bytes(content[: len(content) // 2])
    upscaled(place / "cut.mkv", place / "y.mkv")
    after = planes_of(place / "y.mkv")
    assert 5 < len(after) < 25
    assert all(numpy.array_equal(one[0], two[0]) for one, two in zip(made, after[:-1], strict=False))


def test_without_pyav_a_line_says_what_to_do(place, monkeypatch):
    make_clip(place / "x.mp4", EVEN)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="films need PyAV: pip install av"):
        open_film(place / "x.mp4")
