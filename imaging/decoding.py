"""Files as Pillow reads them, all its frames, and what lies beside the colours.

    picture = decode(path)

What Pillow would give with 8 bits or wrongly is read by imaging/depth.py and imaging/tiff.py.
"""

import logging
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImagePalette, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from imaging import colours, depth, heif, metadata, transparency
from imaging.console import UserError
from imaging.frames import Frame, Picture, to_8_bits, to_frame, upright
from imaging.limits import check_pixels
from imaging.png import composed_frames, read_chunks
from imaging.profiles import unread_profile
from imaging.tiff import read_tiff
from imaging.traces import jpeg2000_is_lossy, jpeg_quality, webp_is_lossy

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its remarks on odd files would reach the terminal

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # the kinds whose frames are an animation; all others have pages
NO_PAGES = ("MPO", "PSD")  # previews of a camera, layers of a drawing
REDUCED, HEIGHT, BITS, SAMPLES, COLOUR_MAP, SAMPLE_FORMAT = 254, 257, 258, 277, 320, 339  # tags of TIFF
X_RESOLUTION = 282  # of EXIF
MASTERING = (b"mDCV", b"cLLI")  # chunks of PNG
VERSION = 1057  # the resource of a PSD that says whether it holds more than layers


def decode(path, pixels_only: bool = False) -> Picture:
    """Read a file; with `pixels_only`, its first frame and no words.

    Raises UserError, or whatever a decoder raises, for what is not a whole picture.
    """
    with open(path, "rb") as file:
        head = file.read(64)
    picture = read_tiff(path, head)
    if picture is None:
        heif.let_pillow_read(head)
        try:
            image = Image.open(path)
        except (KeyError, UnidentifiedImageError) as error:  # its table of such files has no such pixels
            if picture := read_tiff(path, head, last_try=True):
                return picture
            raise UnidentifiedImageError from error
        with image:
            picture = _through_pillow(image, path, pixels_only)
    return picture


def _through_pillow(image: ImageFile, path, pixels_only: bool) -> Picture:
    """Every frame of an animation, unless only its pixels are wanted; the first of what has pages."""
    kind = image.format or ""
    picture = Picture([], kind, profile=image.info.get("icc_profile") or unread_profile(path, kind))
    frames = _choose_frames(image, picture, path, pixels_only)
    check_pixels(path, *image.size, len(frames))
    _refuse(image)
    if _has_layers_only(image):
        picture.remarks.append("says that it has layers only, and may be blank: save it with maximum compatibility")
    _note_losses(image, picture, path)
    _describe_colours(image, picture, path)
    pixels = depth.deep_pixels(image, path) if frames == range(1) else None
    if pixels is None and (lost := depth.lost_depth(image, path, frames != range(1))):
        picture.remarks.append(lost)
    exif = metadata.exif_of(image)  # now: of a loaded TIFF it is gone
    orientation = metadata.orientation_of(exif) if kind != "PSD" else 1  # which Photoshop has turned
    if not pixels_only:
        metadata.set_exif(picture, exif)
    turn = 1 if kind == "TIFF" else orientation  # Pillow turns these itself
    composed = composed_frames(path) if kind == "PNG" and frames != range(1) and image.has_transparency_data else None
    for index in frames:
        if frames != range(1):
            image.seek(index)
            check_pixels(path, *image.size, len(frames))  # a GIF's frames may be larger than its screen
        image.load()
        if composed:
            frame: Frame = next(composed)
        else:
            frame = to_frame(pixels) if pixels is not None else _plain(image, picture, path)
        picture.frames.append(upright(frame, turn))
        picture.durations.append(float(image.info.get("duration", 0)))
    if not pixels_only:
        unsaid = kind == "JPEG" and "jfif_density" not in image.info and X_RESOLUTION not in exif  # Pillow then says 72
        picture.dpi = None if unsaid else metadata.checked_dpi(metadata.dpi_of(image, exif), orientation)
        metadata.set_words(picture, image, path)
    picture.frames = _alike(picture.frames)
    return picture


def _note_losses(image: ImageFile, picture: Picture, path) -> None:
    """Put into the picture how good a JPEG it is, or whether its file left something out."""
    if isinstance(image, JpegImageFile):
        *_, number = image.layer[0]  # of luma's table: in the file it may stand behind others
        if table := image.quantization.get(number):
            picture.quality = jpeg_quality(table)
    elif picture.kind == "WEBP":
        picture.lossy = webp_is_lossy(path)
    elif picture.kind == "JPEG2000":
        picture.lossy = jpeg2000_is_lossy(path)
    else:  # AVIF and HEIC can keep all, and hardly ever do
        picture.lossy = picture.kind in ("AVIF", "HEIF") or image.info.get("compression") == "jpeg"


def _choose_frames(image: ImageFile, picture: Picture, path, pixels_only: bool) -> range:
    """The numbers of the frames to take; an animation's loops are noted in the picture, and pages left out told."""
    kind = picture.kind
    try:
        count = getattr(image, "n_frames", 1) if kind not in NO_PAGES else 1
    except (OSError, SyntaxError):
        if not isinstance(image, TiffImageFile):
            raise
        count = 1  # a page that Pillow does not know, as a mask or one of floating-point numbers
        image.seek(0)
        picture.remarks.append("has pages that cannot be read: number 1 is taken")
    page = 0
    if isinstance(image, TiffImageFile):
        page = next((number for number in range(count) if not _is_reduced(image, number)), 0)
        image.seek(page)
    if count > 1 and kind not in ANIMATED:
        picture.remarks.append(f"has {count} pages: number {page + 1} is taken")
        count = 1
    first = int(image.info.get("default_image", False))  # an APNG's picture for who cannot play it
    if count == 1 or pixels_only:
        return range(first, first + 1) if count > first else range(1)
    picture.plays = _plays(image, kind)
    if kind == "GIF":
        _check_gif_ends(path)
    return range(first, count)


def _is_reduced(image: TiffImageFile, number: int) -> bool:
    """Whether a page is a smaller version of another one."""
    image.seek(number)
    return bool(int(image.tag_v2.get(REDUCED, 0)) & 1)


def _plays(image: ImageFile, kind: str) -> int:
    """How often an animation is shown. A GIF counts the repetitions, and says nothing if there is none."""
    loop = image.info.get("loop")
    if kind == "GIF":
        return 1 if loop is None else loop + 1 if loop else 0
    return int(loop or 0)


def _check_gif_ends(path) -> None:
    """Raise OSError for a GIF without a trailer, a semicolon: cut between two frames it is read without complaint.

    Its blocks are gone through, for the last byte says nothing: a block may hold a semicolon, and a file go on behind
    the trailer.
    """
    with open(path, "rb") as file:
        _skip_colours(file, file.read(13)[10:])
        while (kind := file.read(1)) != b";":
            if not kind:
                raise OSError("the end of the animation is missing")
            if kind == b",":  # a frame
                _skip_colours(file, file.read(9)[8:])
            if kind in b",!":  # what stands between blocks is passed over, as Pillow does
                file.read(1)  # how a frame is coded, or what an extension is for
                while (length := file.read(1)) and file.read(length[0]):
                    pass


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    """Read past the colours that follow the head of a GIF or of a frame, if its flags say so."""
    if flags and flags[0] & 0x80:
        file.read(6 << (flags[0] & 7))


def _refuse(image: ImageFile) -> None:
    """Raise for what Pillow would run as a program, or show as a black area without a word."""
    if image.format == "EPS":  # Pillow would have Ghostscript run the program that such a file is
        raise UserError("is a drawing (EPS); save it as a picture of pixels")
    if isinstance(image, TiffImageFile):
        for form, bits in zip(image.tag_v2.get(SAMPLE_FORMAT, ()), image.tag_v2.get(BITS, ()), strict=False):
            depth.check_samples(form, bits)
    last_rows = (tile.extents[3] for tile in image.tile if tile.extents)
    if isinstance(image, TiffImageFile) and max(last_rows) < image.tag_v2[HEIGHT]:
        raise OSError(depth.ENDED)


def _has_layers_only(image: ImageFile) -> bool:
    """Whether a PSD says that the picture of all its layers, which Pillow reads, has been left blank."""
    return any(number == VERSION and data[4:5] == b"\0" for number, _, data in getattr(image, "resources", []))


def _describe_colours(image: ImageFile, picture: Picture, path) -> None:
    """What colours mean where no profile says so; and a palette that Pillow would misread."""
    if picture.kind == "PNG":
        chunks = read_chunks(path)
        picture.coding = colours.png_coding(chunks)
        if mastering := [name.decode() for name in MASTERING if name in chunks]:
            picture.remarks.append(f"says what screen its HDR colours are for: left out ({', '.join(mastering)})")
        if len(chunks.get(b"cICP", b"")) == 4:  # it decides, whatever profile there is besides
            picture.profile = None
        step = {"L;2": 85, "L;4": 17}.get(str(image.tile[0].args) if image.tile else "", 1)
        if isinstance(clear := image.info.get("transparency"), int):  # as the file has it; Pillow stretches the pixels
            image.info["transparency"] = clear * step
    elif picture.kind in ("AVIF", "HEIF"):
        properties = heif.read_properties(Path(path).read_bytes())
        coding = colours.cicp_chunk(properties.primaries, properties.transfer)
        if not picture.profile or colours.is_hdr(coding):
            picture.coding = coding
    coding = picture.coding or colours.cicp_of_profile(picture.profile)
    if colours.is_hdr(coding):
        meaning = colours.describe_coding(coding)
        picture.remarks.append(f"its colours are HDR ({meaning}): they are taken as they are coded")
    if b"urn:iso:std:iso:ts:21496" in _segments(image, "APP2"):
        picture.remarks.append(metadata.GAIN_MAP)
    if isinstance(image, TiffImageFile) and (samples := image.tag_v2.get(SAMPLES, 1)) > len(image.getbands()):
        picture.remarks.append(f"has {samples} channels, of which {len(image.getbands())} are taken")
    if isinstance(image, TiffImageFile) and image.mode in ("P", "PA"):
        entries = image.tag_v2.get(COLOUR_MAP, ())
        if 0 < max(entries, default=0) < 256:  # old programs wrote 8 bits, where 16 are due
            image.palette = ImagePalette.raw("RGB;L", bytes(entries))


def _segments(image: ImageFile, marker: str) -> bytes:
    """What a JPEG holds behind all markers of that name; of other kinds nothing."""
    return b"".join(data for name, data in getattr(image, "applist", []) if name == marker)


def _plain(image: ImageFile, picture: Picture, path) -> Frame:
    """A loaded Pillow image of any mode as a frame."""
    if picture.kind in transparency.KINDS:
        fitted, remark = transparency.true_alpha(image, path)
        picture.remarks += [remark] if remark else []
        return _of_8_bits(fitted)
    if image.mode.startswith("I;16") or (image.mode == "I" and picture.kind in ("PNG", "PPM")):
        return depth.deep_grey(image, path)
    if image.mode in ("F", "I"):
        raise UserError("its pixels have no agreed range (32 bits): save it with 8 or 16 bits")
    if image.mode in ("LAB", "HSV"):
        raise UserError(f"its colours are {image.mode}: save it as RGB")
    if picture.kind == "PSD" and image.mode == "RGBA" and not getattr(image, "layers", None):
        picture.remarks.append("has a further channel, a saved selection, which is left out")
        return image.convert("RGB")
    if image.mode == "CMYK":
        return colours.cmyk_to_rgb(image, picture)
    return _of_8_bits(image)


def _of_8_bits(image: Image.Image) -> Image.Image:
    """Of mode L, LA, RGB or RGBA."""
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        mode += "A"
    return image.copy() if image.mode == mode and "transparency" not in image.info else image.convert(mode)


def _alike(frames: list[Frame]) -> list[Frame]:
    """Frames of one mode and size: an animation's later ones may have more colours, be transparent, or larger."""
    images = [frame for frame in frames if isinstance(frame, Image.Image)]
    if len(frames) == 1 or len({(image.mode, image.size) for image in images}) == 1 == len(frames) - len(images) + 1:
        return frames
    images = [to_8_bits(frame) for frame in frames]
    width, height = (max(image.size[axis] for image in images) for axis in (0, 1))
    mode = "RGBA" if any(image.mode.endswith("A") for image in images) else "RGB"
    alike: list[Frame] = []
    for image in images:
        whole = Image.new(mode, (width, height))
        whole.paste(image.convert(mode))
        alike.append(whole)
    return alike
