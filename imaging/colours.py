"""What the numbers of a picture mean: colour profiles, CMYK, HDR.

A profile travels along, since a network changes no colours. CMYK has to become RGB. By `to_srgb` all else can be sRGB.
"""

import io
from dataclasses import replace

import numpy
from PIL import Image, ImageCms

from imaging.frames import Frame, Picture, frame_channels, to_8_bits
from imaging.metadata import forget_colour_space

TRANSFERS = {16: "PQ", 18: "HLG"}  # those of HDR, by the code points of ITU-T H.273
PRIMARIES = {1: "BT.709", 9: "BT.2020", 12: "Display P3"}
LIKE_SRGB = (1, 6, 13, 14, 15, 2)  # transfers that are shown as sRGB, or are not named
SRGB_CHROMATICITIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)


def cicp_chunk(primaries: int, transfer: int) -> dict[bytes, bytes]:
    """PNG's chunk for colours of these code points, full range; empty for what is sRGB or does not say."""
    known = primaries in PRIMARIES and transfer != 2
    return {b"cICP": bytes((primaries, transfer, 0, 1))} if known and not _is_srgb(primaries, transfer) else {}


def _is_srgb(primaries: int, transfer: int) -> bool:
    return primaries in (1, 2) and transfer in LIKE_SRGB


def cicp_of_profile(profile: bytes | None) -> dict[bytes, bytes]:
    """The same for what a profile says beside its curves: HDR pictures have such ones (ICC.1:2022, section 9.2.17)."""
    profile = profile or b""
    for place in range(132, 132 + 12 * min(100, int.from_bytes(profile[128:132], "big")), 12):
        name, start = profile[place : place + 4], int.from_bytes(profile[place + 4 : place + 8], "big")
        if name == b"cicp" and len(data := profile[start + 8 : start + 10]) == 2:
            return cicp_chunk(*data)
    return {}


def describe_coding(coding: dict[bytes, bytes]) -> str:
    """In words what such chunks say, such as "PQ, BT.2020"."""
    if b"cICP" in coding:
        primaries, transfer = coding[b"cICP"][:2]
        names = TRANSFERS.get(transfer, f"transfer {transfer}"), PRIMARIES.get(primaries, f"primaries {primaries}")
        return ", ".join(names)
    return "gamma and primaries"


def is_hdr(coding: dict[bytes, bytes]) -> bool:
    """Whether colours go beyond white."""
    return coding.get(b"cICP", b"\0\0")[1] in TRANSFERS


def png_coding(chunks: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Of a PNG's chunks before its pixels those that make its colours other than sRGB."""
    cicp = chunks.get(b"cICP", b"")
    if len(cicp) == 4:
        return {} if _is_srgb(*cicp[:2]) and cicp[3] == 1 else {b"cICP": cicp}  # 1: of all codes, not 16 to 235
    if b"iCCP" in chunks or b"sRGB" in chunks:  # these decide
        return {}
    coding = {}
    gamma, chromaticities = chunks.get(b"gAMA", b""), chunks.get(b"cHRM", b"")
    if len(gamma) == 4 and abs(int.from_bytes(gamma, "big") - 45455) > 1000:
        coding[b"gAMA"] = gamma
    if len(chromaticities) == 32:
        values = numpy.frombuffer(chromaticities, ">u4") / 100_000
        if numpy.abs(values - SRGB_CHROMATICITIES).max() > 0.002:
            coding[b"cHRM"] = chromaticities
    return coding


def check_profile(picture: Picture) -> None:
    """Drop a profile that is not for the channels that the picture has."""
    colours = "RGB" if frame_channels(picture.frames[0]) > 2 else "GRAY"
    if picture.profile and picture.profile[16:20].decode("latin-1").strip() != colours:
        picture.remarks.append(f"its colour profile is not for {colours.replace('GRAY', 'grey')} and is dropped")
        picture.profile = None


def cmyk_to_rgb(image: Image.Image, picture: Picture) -> Image.Image:
    """Through the embedded profile to sRGB; without one by a formula that knows no ink, and a remark in both cases."""
    profile, picture.profile = picture.profile, None
    if profile and profile[16:20] == b"CMYK":
        try:
            converted = _convert(image, profile)
        except ImageCms.PyCMSError:
            picture.remarks.append("its colour profile is damaged")
        else:
            picture.remarks.append("CMYK becomes sRGB by its colour profile")
            forget_colour_space(picture)
            return converted
    picture.remarks.append("CMYK becomes RGB, roughly, for it has no colour profile")
    return image.convert("RGB")


def _convert(image: Image.Image, profile: bytes) -> Image.Image:
    """To sRGB."""
    srgb, exactly = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE  # dark grey would be 10 levels off
    converted = ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB", flags=exactly)
    assert converted is not None  # only when it is asked to work in place
    return converted


def to_srgb(picture: Picture) -> Picture:
    """Colours converted to sRGB, with 8 bits, if a profile says that they are others; remarks tell what cannot be."""
    if picture.coding:
        picture.remarks.append(f"its colours ({describe_coding(picture.coding)}) cannot be converted to sRGB")
    if not picture.profile:
        return picture
    try:
        if _leaves_as_it_is(picture):
            return picture
        frames: list[Frame] = [_frame_to_srgb(to_8_bits(frame), picture.profile) for frame in picture.frames]
    except ImageCms.PyCMSError:
        return replace(picture, remarks=[*picture.remarks, "its colour profile is damaged: not converted to sRGB"])
    deep = ["converted to sRGB it has 8 bits"] if isinstance(picture.frames[0], numpy.ndarray) else []
    converted = replace(picture, frames=frames, profile=None, remarks=picture.remarks + deep)
    forget_colour_space(converted)
    return converted


def _leaves_as_it_is(picture: Picture) -> bool:
    """Whether a profile is sRGB by whatever name: it changes colours, sampled evenly, by no more than rounding."""
    assert picture.profile
    mode = "RGB" if frame_channels(picture.frames[0]) > 2 else "L"
    levels = numpy.arange(0, 256, 15, dtype=numpy.uint8)
    samples = levels[None]
    if mode == "RGB":
        samples = numpy.stack(numpy.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    converted = numpy.asarray(_frame_to_srgb(Image.fromarray(samples), picture.profile))
    return int(numpy.abs(converted.astype(int) - samples).max()) <= 2


def _frame_to_srgb(frame: Image.Image, profile: bytes) -> Image.Image:
    """Of mode L, LA, RGB or RGBA, which it stays."""
    bands = frame.split()
    colours, alpha = (bands[:-1], bands[-1:]) if frame.mode.endswith("A") else (bands, ())
    converted = _convert(Image.merge("RGB" if len(colours) > 1 else "L", colours), profile)
    return Image.merge(frame.mode, (*converted.split()[: len(colours)], *alpha))  # of grey three equal ones come back
