"""Films for the tests, made on the spot by PyAV."""

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy

TICK = Fraction(1, 12800)


def moving(number: int, height: int, width: int, bits: int) -> numpy.ndarray:
    """A plane of smooth waves that move on with `number`, in the middle nine tenths of all codes."""
    rows, columns = numpy.mgrid[:height, :width]
    waves = numpy.sin((columns + 3 * number) / 7) + numpy.cos((rows + 5 * number) / 9)
    peak = 2**bits - 1
    return (peak / 2 + 0.225 * peak * waves).round().astype(numpy.uint8 if bits == 8 else numpy.uint16)


def make_clip(
    path: Path, stamps, size=(32, 48), codec="libx264", pixels="yuv420p", time_base=TICK, tags=None, sound=None,
    picture=moving, options=None, rotation=0, aspect=None, rate=25, position=None, half_pictures=False,
) -> list[list[numpy.ndarray]]:  # fmt: skip
    """Write a film of pictures shown at `stamps`; returns the planes of each.

    `tags` are matrix, primaries, transfer and range as in H.273; `sound` is the stamp at which a tone begins, in
    1/48000 s.
    """
    made = []
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.height, stream.width = size
        stream.pix_fmt, stream.time_base = pixels, time_base
        context = stream.codec_context
        context.time_base, context.gop_size = time_base, 12
        if tags:
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = tags
        if position:
            context.options = {**context.options, "chroma_sample_location": position}
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        tone = output.add_stream("aac", rate=48000) if sound is not None else None
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame(size[1], size[0], pixels)
            planes = []
            for part in frame.format.components:
                plane = frame.planes[part.plane]
                values = picture(number + 10 * part.plane, part.height, part.width, part.bits)
                planes.append(values)
                padded = numpy.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
                padded[: part.height, : part.width] = values
                plane.update(padded.tobytes())
            frame.pts, frame.time_base = stamp, time_base
            made.append(planes)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if tone:
            for number in range(math.ceil(float((stamps[-1] - stamps[0]) * time_base) * 48000 / 1024)):
                frame = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
                for plane in frame.planes:
                    plane.update(numpy.sin(numpy.arange(1024) / 20 + number).astype(numpy.float32).tobytes())
                frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), sound + 1024 * number
                output.mux(tone.encode(frame))
            output.mux(tone.encode())
    return made


SUBTITLES = """1
00:00:00,100 --> 00:00:00,400
Hello

2
00:00:00,600 --> 00:00:01,100
World
"""
CHAPTERS = [(0, 400, "One"), (400, 1200, "Two")]  # in ms


def make_rich_clip(path: Path) -> None:
    """A film of 30 pictures with subtitles, an attachment, two chapters and a title; the last picture stands 1 s."""
    path.with_suffix(".srt").write_text(SUBTITLES)
    with av.open(str(path), "w") as output, av.open(str(path.with_suffix(".srt"))) as subtitles:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        words = output.add_stream_from_template(subtitles.streams[0])
        words.metadata["language"] = "deu"
        output.add_attachment("notes.txt", "text/plain", b"of the day")
        output.set_chapters(
            [
                {"id": number, "start": start, "end": end, "time_base": Fraction(1, 1000), "metadata": {"title": title}}
                for number, (start, end, title) in enumerate(CHAPTERS, 1)
            ]
        )
        output.metadata["title"] = "A film"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(numpy.full((48, 48), 60 + number, numpy.uint8), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(video.encode(frame))
        *others, last = video.encode()
        last.duration = round(1 / last.time_base)
        output.mux([*others, last])
        for packet in subtitles.demux():
            if packet.size:
                packet.stream = words
                output.mux(packet)
    path.with_suffix(".srt").unlink()


def shown(path: Path) -> list[Fraction]:
    """The seconds at which the pictures of a film are shown."""
    with av.open(str(path)) as film:
        return [frame.pts * Fraction(frame.time_base) for frame in film.decode(video=0)]


def packets(path: Path, kind: str = "audio") -> list[tuple[Fraction, bytes]]:
    """The packets of the first stream of a kind: seconds and content."""
    with av.open(str(path)) as film:
        stream = next(stream for stream in film.streams if stream.type == kind)
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in film.demux(stream) if packet.size]
