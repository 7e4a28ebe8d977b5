"""Films written: pieces of a few pictures, encoded one by one, and joined with the sound and all else of the old file.

    write_piece("00000.nut", film, form, pictures)      # (stamp, planes) of its pictures
    join(film, form, ["00000.nut", …], "large.mp4", …)  # packets are copied: nothing is encoded twice

Pieces are what a run that is stopped has in hand. Each begins with a key frame and refers to no other.
"""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy

from imaging.console import UsageError, UserError, note
from imaging.film_colours import RGB, FilmColours
from imaging.film_copying import CONTAINERS, copied_streams, copy_chapters, copy_metadata, other_packets
from imaging.films import Film, Planes, ffmpeg_name, opened, video_library, video_stream

ENCODERS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1", "ffv1": "ffv1", "prores": "prores_ks"}
UNFIT = {  # what a container cannot hold, or hardly anything would read
    ".mp4": {"ffv1", "prores"}, ".m4v": {"ffv1", "prores"}, ".mov": {"ffv1", "av1"},
    ".webm": {"h264", "h265", "ffv1", "prores"}, ".ts": {"ffv1", "av1", "prores"}, ".avi": {"prores", "h265", "av1"},
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How a new film is stored."""

    codec: str
    pixel_format: str
    bits: int
    size: tuple[int, int]  # height, width of what is encoded
    colours: FilmColours
    options: tuple[tuple[str, str], ...]  # of the encoder

    @property
    def chroma_step(self) -> tuple[int, int]:
        """For how many rows and columns there is one sample of colour."""
        name = self.pixel_format
        return (2, 2) if "420" in name else (1, 2) if "422" in name else (1, 1)


def chosen_form(film: Film, size: tuple[int, int], codec: str, quality: int, preset: str | None) -> Form:
    """How a film of `size` is stored: as the old one, as far as the codec can. What it cannot is told.

    `quality`, 1 to 100, is turned into CRF: 95 into 15, 80 into 27, 50 into 39 of H.264's 51. FFV1 is without loss,
    and ProRes knows no such thing. Raises UsageError for a preset that there is not.
    """
    if codec == "h265" and min(size) < 64:  # its encoder writes beyond its memory there
        raise UserError(f"{film.path}: {size[1]}×{size[0]} is too small for h265; take h264")
    bits = film.bits if codec == "ffv1" else 10 if codec == "prores" or film.bits > 8 else 8
    bits = next(known for known in (8, 10, 12, 16) if known >= bits)
    kind, layout = film.colours.kind, _layout(film, codec)
    if kind == "rgb" and codec == "ffv1":
        pixel_format = {8: "bgr0"}.get(bits, f"gbrp{bits}le")
    elif kind == "grey" and codec == "ffv1":
        pixel_format = {8: "gray"}.get(bits, f"gray{bits}le")
    else:
        pixel_format = f"yuv{layout}p" + {8: ""}.get(bits, f"{bits}le")
    if film.bits > bits:
        note(f"{film.path}: of its {film.bits} bits {codec} keeps {bits}")
    if layout == "420" and codec != "ffv1":
        size = size[0] + size[0] % 2, size[1] + size[1] % 2  # the last row or column is doubled
    colours = film.colours
    if kind == "rgb" and "b" not in pixel_format:
        colours = FilmColours("yuv", 1, False, colours.primaries, colours.transfer, "left")
    return Form(codec, pixel_format, bits, size, colours, _options(codec, quality, preset, colours.position))


def _layout(film: Film, codec: str) -> str:
    """Of luma and colour: 4:2:0, 4:2:2 or 4:4:4."""
    name = film.pixel_format
    own = next((layout for layout in ("444", "422", "420") if layout in name), "420" if "nv12" in name else "")
    if film.colours.kind != "yuv":
        own = "444" if codec in ("ffv1", "prores") and film.colours.kind == "rgb" else "420"
    own = own or ("422" if "yuyv" in name or "uyvy" in name else "444")
    if codec == "av1" and own != "420":
        note(f"{film.path}: its colours are {':'.join(own)}; the encoder for AV1 knows 4:2:0 alone")
        return "420"
    if codec == "prores" and own == "420":
        return "422"
    return own


def _options(codec: str, quality: int, preset: str | None, position: str) -> tuple[tuple[str, str], ...]:
    crf = max(1, round(51 * (1 - quality / 100) ** 0.4))
    options = {
        "h264": {"crf": str(crf), "preset": preset or "medium"},
        "h265": {"crf": str(crf), "preset": preset or "medium", "x265-params": "log-level=none"},
        "av1": {"crf": str(max(1, round(crf * 63 / 51))), "preset": preset or "8"},
        "ffv1": {"level": "3", "slicecrc": "1"},
        "prores": {"profile": "hq"},
    }[codec]
    known = {"h264": PRESETS, "h265": PRESETS, "av1": [str(number) for number in range(14)]}.get(codec, [])
    if preset and preset not in known:
        raise UsageError(f"--preset {preset}: {codec} has {', '.join(known) or 'none'}")
    return (*options.items(), ("chroma_sample_location", position))


PRESETS = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"]


def check_container(path: Path, codec: str) -> None:
    """Raises UsageError for a name that says no container, or one that cannot hold what the codec makes."""
    suffix = path.suffix.lower()
    if suffix not in CONTAINERS:
        raise UsageError(f"-o {path}: cannot write such a film; its name must end in {', '.join(CONTAINERS)}")
    if codec in UNFIT.get(suffix, ()):
        holding = [name for name in CONTAINERS if codec not in UNFIT.get(name, ())]
        raise UsageError(f"-o {path}: {suffix} cannot hold {codec}; {', '.join(holding)} can")


def suitable_container(path: Path, codec: str) -> str:
    """The suffix of a result that has no name yet: that of its film if that can hold what the codec makes."""
    for suffix in (path.suffix.lower(), ".mp4", ".mkv"):
        if suffix in CONTAINERS and codec not in UNFIT.get(suffix, ()):
            return suffix
    raise AssertionError("Matroska holds them all")


# ---------------------------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------------------------


def piece_suffix(codec: str) -> str:
    """The container of pieces: NUT, which holds every codec but ProRes, and stamps as fine as they come."""
    return "mov" if codec == "prores" else "nut"


def write_piece(
    path: Path, film: Film, form: Form, container: str, pictures: Iterable[tuple[int, Planes]], as_whole: bool = False
) -> None:  # fmt: skip
    """Encode pictures into a file of their own, for a film that will be in `container`; an empty one if there are none.

    With `as_whole` it is such a container itself, for a film that has no other streams. Raises UserError, OSError.
    """
    av = video_library()
    pictures = iter(pictures)
    first = next(pictures, None)
    if first is None:  # they are damaged
        path.touch()
        return
    options = {} if as_whole else {"avoid_negative_ts": "disabled"}
    kind = container if as_whole else piece_suffix(form.codec)
    with av.open(ffmpeg_name(path), "w", format=kind, options=options) as output:
        stream = output.add_stream(ENCODERS[form.codec], rate=film.rate, options=dict(form.options))
        stream.height, stream.width = form.size
        stream.pix_fmt = form.pixel_format
        stream.time_base = stream.codec_context.time_base = time_base(film, kind)
        context = stream.codec_context
        context.sample_aspect_ratio = film.sample_aspect
        tag(context, form.colours)
        if container == "avi":
            context.max_b_frames = 0  # AVI has no stamps by which pictures could be put in order again
        count = 0
        for stamp, planes in itertools.chain([first], pictures):
            frame = frame_of(planes, form)
            frame.pts, frame.time_base = stamp, film.time_base
            output.mux(stream.encode(frame))
            count += 1
        left = stream.encode()
        if form.codec == "h265" and count < 3:  # x265 takes their dts from memory that a third picture would fill
            for packet in left:
                packet.dts = packet.pts
        output.mux(left)


def tag(context, colours: FilmColours) -> None:
    """Say what the numbers mean."""
    context.color_range = 2 if colours.full else 1
    context.colorspace = colours.matrix if colours.kind != "rgb" else RGB
    context.color_primaries, context.color_trc = colours.primaries, colours.transfer


def frame_of(planes: Planes, form: Form):
    """A picture for the encoder. One that is a row or a column short of its size gets its last one twice."""
    in_planes = "gbrp" if form.pixel_format == "bgr0" else form.pixel_format
    frame = video_library().VideoFrame(form.size[1], form.size[0], in_planes)
    parts = frame.format.components
    if len(planes) == 1 and len(parts) == 3:  # grey in a codec that wants colours
        neutral = numpy.full((parts[1].height, parts[1].width), 2 ** (form.bits - 1), planes[0].dtype)
        planes = (planes[0], neutral, neutral)
    for values, part in zip(planes, parts, strict=True):
        plane = frame.planes[part.plane]
        missing = [(0, part.height - values.shape[0]), (0, part.width - values.shape[1])]
        values = numpy.pad(values, missing, mode="edge")
        padding = plane.line_size // values.itemsize - values.shape[1]
        plane.update(numpy.pad(values, [(0, plane.height - values.shape[0]), (0, padding)]).tobytes())
    return frame if in_planes == form.pixel_format else frame.reformat(format=form.pixel_format)


# ---------------------------------------------------------------------------------------------
# The whole
# ---------------------------------------------------------------------------------------------


def join(
    film: Film, form: Form, pieces: list[Path], path: Path, container: str, window: tuple[int, int] | None
) -> None:  # fmt: skip
    """Write a film of its pieces, and copy sound, subtitles, chapters, attachments and metadata of the old one.

    `window` are the stamps of the first picture and after the last, if not all of the film is wanted: then it begins
    at 0. An AVI always does, and its sound not before its pictures. What the container cannot hold is told. Raises
    UserError.
    """
    av = video_library()
    options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
    options |= {"mpegts_copyts": "1"} if container == "mpegts" else {}
    with (
        opened(film.path) as old,
        opened(pieces[0]) as piece,
        av.open(ffmpeg_name(path), "w", format=container, options=options) as output,
    ):
        video = _copied_video(output, old, piece, film)
        tag(video.codec_context, form.colours)  # not every codec says it in what it makes
        copy_metadata(output, old, film.path)
        others = copied_streams(output, old, film.path)
        if not window:
            copy_chapters(output, old, film.path)
        first, end = window or (0, film.end)
        until: Fraction | float | None = end * film.time_base if window else None
        if container == "avi" and not window:
            first, until = film.stamps[0], math.inf
        moving = _video_packets(pieces, film, video, first, end)
        rest = other_packets(old, others, first * film.time_base, until)
        for _, _, packet in heapq.merge(moving, rest, key=lambda item: item[:2]):
            output.mux(packet)


def _copied_video(output, old, piece, film: Film):
    source = video_stream(old, film.path)
    video = output.add_stream_from_template(piece.streams.video[0], opaque=True)  # no encoder is needed
    video.time_base = time_base(film, output.format.name)
    video.codec_context.framerate = film.rate  # else Matroska states that of the clock
    video.metadata.update(source.metadata)
    video.disposition = source.disposition
    if film.rotation:
        video.set_display_rotation(film.rotation)
    return video


def time_base(film: Film, container: str) -> Fraction:
    """The seconds in which `container` shall count; FFmpeg may take a part of them.

    AVI fills the time in which nothing new is shown with empty chunks, and states their rate as that of the film: they
    are as long as they can be.
    """
    if container != "avi":
        return film.time_base
    since_first = [stamp - film.stamps[0] for stamp in film.stamps]
    longest, step = Fraction(math.gcd(*since_first)), 1 / film.rate / film.time_base
    numbers = [round(stamp / step) for stamp in since_first]
    rounded = all(abs(number * step - stamp) <= 1 for number, stamp in zip(numbers, since_first, strict=True))
    if rounded and len(set(numbers)) == len(numbers):  # stamps that were rounded to ms have no other divisor
        longest = max(longest, step)
    return longest * film.time_base


def _video_packets(pieces: list[Path], film: Film, stream, zero: int, end: int) -> Iterator[tuple]:
    """(seconds, 0, packet) of all pieces in the order of decoding, with the decoding times that a container wants.

    `end` is the stamp at which the last picture is shown no longer: for a container only this says how long it stands.
    """
    stamps = []  # in the order of decoding
    for path in pieces:
        with opened(path) as piece:
            own = piece.streams.video[0]
            stamps += [round(packet.pts * own.time_base / film.time_base) for packet in piece.demux(own) if packet.size]
    times, until = iter(decoding_times(stamps)), dict(itertools.pairwise([*sorted(stamps), end]))
    for path in pieces:
        with opened(path) as piece:
            own = piece.streams.video[0]
            for packet in piece.demux(own):
                if not packet.size:
                    continue
                stamp = round(packet.pts * own.time_base / film.time_base)
                packet.pts, packet.dts, packet.duration = stamp - zero, next(times) - zero, until[stamp] - stamp
                packet.time_base = film.time_base
                packet.stream = stream
                yield packet.dts * film.time_base, 0, packet


def decoding_times(stamps: list[int]) -> list[int]:
    """For pictures in the order of decoding, when each is shown → when each is decoded: rising, and never later.

    Where no picture waits for another both are the same; else decoding runs ahead by as many pictures as wait.
    """
    order = sorted(stamps)
    place = {stamp: number for number, stamp in enumerate(order)}
    ahead = max((number - place[stamp] for number, stamp in enumerate(stamps)), default=0)
    step = order[1] - order[0] if len(order) > 1 else 1
    return [order[0] - step * number for number in range(ahead, 0, -1)] + order[: len(order) - ahead]
