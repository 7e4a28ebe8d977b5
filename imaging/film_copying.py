"""What a film has besides its moving pictures, copied as it is: sound, subtitles, chapters, attachments.

What the new container cannot hold is told and left out.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from imaging.console import note, printable
from imaging.films import video_library

CONTAINERS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts"
}  # fmt: skip
ITS_OWN = {"encoder", "software", "duration", "major_brand", "minor_version", "compatible_brands"}
WITH_CHAPTERS = {"mp4", "mov", "matroska", "webm"}
# What FFmpeg would write into these too, players would not find.
READ = {
    "webm": {"opus", "vorbis", "av1", "vp8", "vp9", "webvtt"},
    "mpegts": {
        "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "mp1", "mp2", "mp3", "opus", "s302m", "pcm_bluray",
        "dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle",
    },
}  # fmt: skip


def copied_streams(output, old, path: Path) -> dict:
    """New streams for all but the moving pictures, by the number of the old one."""
    copied = {}
    for stream in old.streams:
        if stream.type == "video" and not stream.disposition & stream.disposition.attached_pic:
            continue
        if not can_hold(output.format.name, stream):
            name = codec_name(stream)
            tell_left_out(output, path, f"{stream.type} ({name})" if name else stream.type)
        elif (new := add_stream(output, stream)) is not None:
            copied[stream.index] = new
    return copied


def codec_name(stream) -> str:
    """As FFmpeg calls it; empty for what has none, as attachments."""
    context = getattr(stream, "codec_context", None)
    return context.codec.canonical_name if context else ""


def add_stream(output, stream):
    """A new stream like the old one; None for an attachment, which has no packets to come."""
    if stream.type == "attachment":
        output.add_attachment(stream.name, stream.mimetype, stream.data)
        return None
    new = output.add_stream_from_template(stream)
    new.metadata.update(stream.metadata)
    new.disposition = stream.disposition
    return new


def can_hold(container: str, stream) -> bool:
    """Whether a container takes such a stream: only writing a head with it tells."""
    if container in READ and codec_name(stream) not in READ[container]:
        return False
    av = video_library()
    try:
        with av.open(io.BytesIO(), "w", format=container) as trial:
            add_stream(trial, stream)
            trial.start_encoding()
    except Exception:  # PyAV has several for what a container does not know
        return False
    return True


def copy_chapters(output, old, path: Path) -> None:
    """Chapters with their titles."""
    chapters = old.chapters()
    if chapters and output.format.name in WITH_CHAPTERS:
        output.set_chapters(chapters)
    elif chapters:
        tell_left_out(output, path, f"{len(chapters)} chapters")


def copy_metadata(output, old, path: Path) -> None:
    """Title, date and the like; not what the old container says of itself."""
    kept = {name: value for name, value in old.metadata.items() if name.lower() not in ITS_OWN}
    output.metadata.update(kept)
    if kept and output.format.name == "mpegts":
        tell_left_out(output, path, ", ".join(printable(name) for name in list(kept)[:5]))


def tell_left_out(output, path: Path, what: str) -> None:
    """In one line."""
    suffix = next(suffix for suffix, container in CONTAINERS.items() if container == output.format.name)
    note(f"{path}: its {what} cannot be in {suffix}: left out")


def other_packets(old, streams: dict, zero: Fraction, end: Fraction | float | None) -> Iterator[tuple]:
    """(seconds, 1, packet) of what is copied, as it lies in the file; with `end` of the seconds zero:end alone."""
    if not streams:
        return
    last = Fraction(0)
    for packet in old.demux([old.streams[number] for number in streams]):
        if not packet.size:
            continue
        when = packet.dts if packet.dts is not None else packet.pts
        if when is not None:
            last = when * packet.time_base
        if end is not None and (last < zero or last >= end):
            continue
        shift = round(zero / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = streams[packet.stream_index]
        yield last - zero, 1, packet
