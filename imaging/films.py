"""Films: what a file holds beside its pictures, and its pictures one after the other, never all at once.

    film = open_film("clip.mp4")                      # colours, size, when each picture is shown
    for stamp, planes in read_pictures(film, 0, 24):  # the first 24, as the planes that the file holds

FFmpeg's libraries do the reading, through PyAV (package av). Brightness and colours stay in the planes in which films
store them (Y, Cb, Cr or grey or R, G, B): colours.FilmColours says what their numbers mean.
"""

import bisect
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy

from imaging.console import UserError
from imaging.film_colours import BT709, RGB, UNSAID, FilmColours, colours_of

SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".wmv", ".flv"}
# What a picture of a film may carry along, and no encoder here writes again; by FFmpeg's names.
LOST_WITH_PICTURES = {
    "MASTERING_DISPLAY_METADATA": "mastering data of HDR", "CONTENT_LIGHT_LEVEL": "mastering data of HDR",
    "DYNAMIC_HDR_PLUS": "HDR10+", "DOVI_METADATA": "Dolby Vision", "DOVI_RPU_BUFFER": "Dolby Vision",
    "A53_CC": "closed captions", "SPHERICAL": "the projection of a panorama", "STEREO3D": "a stereo view",
}  # fmt: skip
Planes = tuple[numpy.ndarray, ...]  # uint8 or uint16: Y, Cb, Cr, each as large as it is stored; or R, G, B; or grey


def is_film(path: Path) -> bool:
    """Whether a file is named like a film."""
    return path.suffix.lower() in SUFFIXES


def video_library():
    """The package av. Raises UserError where it is missing."""
    try:
        import av
    except ImportError as error:
        raise UserError("films need PyAV: pip install av") from error
    av.logging.set_level(None)  # what FFmpeg's libraries have to say does not reach the terminal
    os.environ.setdefault("SVT_LOG", "1")  # nor what the encoder of AV1 has, but for errors
    return av


@dataclass
class Film:
    """What a file says of its moving pictures. Stamps count in `time_base` seconds."""

    path: Path
    time_base: Fraction
    stamps: list[int]  # when each picture is shown, in order
    size: tuple[int, int]  # height, width, as stored
    pixel_format: str
    bits: int
    colours: FilmColours
    rate: Fraction  # pictures a second; on average, where it varies
    sample_aspect: Fraction = Fraction(1)  # width of a pixel over its height
    rotation: int = 0  # degrees by which a player turns it
    codec: str = ""
    told: list[str] = field(default_factory=list)  # what the person should know of it
    interlaced: bool = False
    deinterlaced: bool = False
    end: int = 0  # when the last one is shown no longer
    by_chunk: bool = False  # AVI: its chunks have numbers, of which pictures that were dropped have theirs
    counted: bool = False  # a decoded picture does not say its stamp: the n-th is shown at the n-th
    going_on: tuple[int, Iterator] | None = field(default=None, repr=False, compare=False)  # a counted film's next

    @property
    def lossless(self) -> bool:
        """Whether its pictures were stored without loss."""
        return self.codec in {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "qtrle", "magicyuv", "gif"}


def ffmpeg_name(path) -> str:
    """A path as FFmpeg must get it, absolute: of a relative one what comes before a colon would be a protocol."""
    return str(Path(path).absolute())


@contextmanager
def opened(path, **options):
    """The container `path`, closed afterwards. What goes wrong in here with it is a UserError that names it."""
    av = video_library()
    try:
        with av.open(ffmpeg_name(path), metadata_errors="replace", **options) as container:
            yield container
    except av.FFmpegError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read as a film'}") from error


def video_stream(container, path):
    """The moving pictures of a file; a cover is none. Raises UserError where there are none."""
    streams = [stream for stream in container.streams.video if not stream.disposition & stream.disposition.attached_pic]
    if not streams or streams[0].codec_context is None:
        raise UserError(f"{path}: has no moving pictures" + (" that can be decoded here" if streams else ""))
    streams[0].thread_type = "AUTO"
    return streams[0]


def open_film(path, deinterlace: bool = False) -> Film:
    """Read a film's head, and once through its packets for their stamps; only one picture is decoded.

    Raises UserError for what is no film, or one that cannot be decoded.
    """
    path = Path(path)
    with opened(path) as container:
        stream = video_stream(container, path)
        frame = next((frame for frame in container.decode(stream)), None)
        if frame is None:
            raise UserError(f"{path}: none of its pictures can be decoded")
        position = _chroma_position(container, stream)
        film = Film(
            path, Fraction(stream.time_base), [], (frame.height, frame.width), frame.format.name,
            max(part.bits for part in frame.format.components), colours_of(frame, position),
            Fraction(stream.average_rate or stream.guessed_rate or 25),
            Fraction(stream.sample_aspect_ratio or 1), frame.rotation, stream.codec_context.codec.canonical_name,
            interlaced=frame.interlaced_frame, deinterlaced=deinterlace and frame.interlaced_frame,
            by_chunk=container.format.name == "avi",
        )  # fmt: skip
        film.counted = film.by_chunk and stream.codec_context.has_b_frames
    with opened(path) as container:
        stream = video_stream(container, path)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        stamped = [(stamp, _length(packet, film)) for packet in packets if (stamp := _stamp(packet, film)) is not None]
        shown = dict(stamped)
        if len(stamped) < len(packets):
            film.counted, film.time_base = True, 1 / film.rate
            shown = dict.fromkeys(range(len(packets)), 1)
        film.stamps = sorted(shown)
        film.rate = _true_rate(film)
        if film.stamps:
            last = film.stamps[-1]
            film.end = last + (shown[last] or max(1, round(1 / film.rate / film.time_base)))
    film.told = list(_remarks(film, frame))
    return film


def _stamp(packet, film: Film) -> int | None:
    return packet.dts if film.by_chunk or packet.pts is None else packet.pts


def _length(packet, film: Film) -> int:
    """How long its picture is shown, in ticks; 0 where that is unsaid: each chunk of AVI is as long as the others."""
    return 0 if film.by_chunk else packet.duration or 0


def _true_rate(film: Film) -> Fraction:
    """The stated rate; the average where no two pictures follow that fast: AVI and Matroska may state their clock's."""
    steps = [after - before for before, after in itertools.pairwise(film.stamps)]
    if not steps or min(steps) * film.time_base * film.rate < 1.5:
        return film.rate
    return (len(steps) / (sum(steps) * film.time_base)).limit_denominator(100_000)  # FFmpeg has 31 bits for it


def _remarks(film: Film, frame) -> Iterator[str]:
    if film.colours.hdr:
        yield f"its colours are HDR ({film.colours.hdr}): they are taken as they are coded, and tagged so"
    if film.colours.kind == "yuv" and frame.colorspace not in (RGB, UNSAID, film.colours.matrix):
        taken = "BT.709" if film.colours.matrix == BT709 else "BT.601"
        yield f"its colours follow matrix {frame.colorspace} of H.273, unknown here: taken, and tagged, as {taken}"
    if film.interlaced and not film.deinterlaced:
        yield "is interlaced: combs along moving edges are enlarged too; --deinterlace removes them first"
    if any(part.is_alpha for part in frame.format.components):
        yield "has transparency, which is left out"
    lost = dict.fromkeys(name for kind, name in LOST_WITH_PICTURES.items() if kind in frame.side_data)
    if lost:
        yield f"{', '.join(lost)} in its pictures: left out"


def _chroma_position(container, stream) -> str:
    """Where samples of colour lie, as the stream says it: "left", "center", "topleft" …; empty if it does not.

    PyAV has no attribute for it; FFmpeg's description of the file does at its verbose level.
    """
    av = video_library()
    before = av.logging.get_libav_level() if hasattr(av.logging, "get_libav_level") else av.logging.INFO
    av.logging.set_libav_level(av.logging.VERBOSE)
    try:
        lines = [line for line in container.dumps_format().splitlines() if f"#0:{stream.index}" in line]
    finally:
        av.logging.set_libav_level(before)
    words = lines[0].replace("(", ", ").replace(")", ", ").split(", ") if lines else []
    return next((word for word in words if word in ("left", "center", "topleft", "top", "bottomleft", "bottom")), "")


def read_pictures(film: Film, start: int, stop: int) -> Iterator[tuple[int, Planes]]:
    """(stamp, planes) of the pictures start:stop, in the order in which they are shown.

    It seeks to the last key frame before them; where pictures are counted, it goes on where it was, or begins anew.
    Raises UserError where the file cannot be decoded further: what is damaged in the midst is passed over, as players
    do, and not given.
    """
    if film.counted:
        yield from _counted_pictures(film, start, stop)
        return
    first = film.stamps[start]
    end = film.stamps[stop] if stop < len(film.stamps) else None
    for attempt in (start > 0, False):  # an index may lie; then from the start
        with opened(film.path) as container:
            stream = video_stream(container, film.path)
            if attempt:
                container.seek(first, stream=stream)
            missed = attempt  # until a picture before the first that is wanted shows that it has not
            for frame in _decoded(film, container, stream):
                stamp = _frame_stamp(frame, film)
                missed = missed and stamp > first
                if missed or (end is not None and stamp >= end):
                    break
                if stamp >= first:
                    yield stamp, planes_of(frame)
            if not missed:
                return


def _counted_pictures(film: Film, start: int, stop: int) -> Iterator[tuple[int, Planes]]:
    going_on, film.going_on = film.going_on, None  # another reader shall not take it meanwhile
    number, frames = going_on if going_on and going_on[0] <= start else (0, _all_decoded(film))
    for stamp, frame in zip(film.stamps[number:stop], frames, strict=False):
        if stamp >= film.stamps[start]:
            yield stamp, planes_of(frame)
    film.going_on = (stop, frames) if stop < len(film.stamps) else None


def _all_decoded(film: Film) -> Iterator:
    with opened(film.path) as container:
        yield from _decoded(film, container, video_stream(container, film.path))


def _frame_stamp(frame, film: Film) -> int:
    if frame.pts is None:
        raise UserError(f"{film.path}: a picture has no time at which it is shown")
    return round(frame.pts * Fraction(frame.time_base) / film.time_base)


def _decoded(film: Film, container, stream):
    """The pictures of a stream, whole ones out of half ones if that was asked for."""
    av = video_library()
    graph = None
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue  # a damaged packet
        for frame in frames:
            if film.by_chunk and frame.dts is not None:
                frame.pts = frame.dts  # what FFmpeg guesses is not always that
            if not film.deinterlaced:
                yield frame
                continue
            graph = graph or _deinterlacer(av, stream, frame)
            graph.push(frame)
            yield from _pulled(av, graph)
    if graph:
        graph.push(None)
        yield from _pulled(av, graph)


def _deinterlacer(av, stream, frame):
    """BWDIF of FFmpeg's libavfilter, one whole picture for each picture of two halves."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=stream.time_base),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _pulled(av, graph):
    while True:
        try:
            yield graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def planes_of(frame) -> Planes:
    """The planes of a decoded picture, copies: Y, Cb, Cr or grey or R, G, B, without padding and alpha.

    What is stored otherwise, interleaved or with a palette, is rearranged by FFmpeg's libswscale, which then changes
    no value.
    """
    if (wanted := _planar(frame.format)) != frame.format.name:
        frame = frame.reformat(format=wanted)
    parts = [part for part in frame.format.components if not part.is_alpha]
    return tuple(_plane(frame.planes[part.plane], part, frame.format.is_big_endian) for part in parts)


def _planar(format) -> str:
    """The pixel format that holds the same values in planes of their own."""
    alpha = any(part.is_alpha for part in format.components)
    bits = max(part.bits for part in format.components)
    if format.is_rgb or format.has_palette:
        return {8: "gbrp", 10: "gbrp10le", 12: "gbrp12le"}.get(max(bits, 8), "gbrp16le")
    if len(format.components) - alpha == 1:
        return format.name if not alpha else "gray" if bits == 8 else "gray16le"
    planes = {part.plane for part in format.components}
    if len(planes) == len(format.components):
        return format.name
    widths = [part.width for part in format.components[:2]], [part.height for part in format.components[:2]]
    kind = "".join("4" if one == two else "2" for one, two in widths)
    layout = {"44": "444", "24": "422", "22": "420"}[kind]
    return f"yuv{layout}p" + {8: "", 10: "10le", 12: "12le"}.get(bits, "16le")


def _plane(plane, part, big_endian: bool) -> numpy.ndarray:
    kind = numpy.dtype(numpy.uint8 if part.bits <= 8 else ">u2" if big_endian else "<u2")
    rows = numpy.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    return rows[: part.height, : part.width].astype(numpy.uint8 if part.bits <= 8 else numpy.uint16)


def between(film: Film, start: float | None, end: float | None) -> tuple[int, int]:
    """Which pictures are shown from `start` to `end` seconds after the first: numbers first:last.

    Raises UserError where there are none.
    """
    zero = film.stamps[0] if film.stamps else 0
    first, last = (
        bisect.bisect_left(film.stamps, zero + seconds / float(film.time_base)) if seconds is not None else default
        for seconds, default in ((start, 0), (end, len(film.stamps)))
    )
    if first >= last:
        raise UserError(f"{film.path}: has no pictures there; it lasts {float(duration(film)):.1f} seconds")
    return first, last


def duration(film: Film) -> Fraction:
    """Seconds from the first picture to the end of the last."""
    return (film.end - film.stamps[0]) * film.time_base if film.stamps else Fraction(0)
