"""Pictures of every kind for the tests, made on the spot, with what each of them shows."""

import io
import itertools
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy
import tifffile
from PIL import Image, ImageCms

HEIGHT, WIDTH = 9, 13


@dataclass
class Expected:
    """What an upright, enlarged picture must show, before enlarging: (H, W, C) uint8 or uint16, one for each frame."""

    frames: list[numpy.ndarray]
    tolerance: int = 0
    suffix: str = ".png"
    durations: tuple = ()


def planes(channels: int, dtype=numpy.uint8, seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> numpy.ndarray:
    """A picture (height, width, channels) in few, far colours; its alpha is 0, middle and full by columns."""
    generator = numpy.random.default_rng(seed)
    peak = numpy.iinfo(dtype).max
    pixels = generator.integers(0, peak, (height, width, channels), dtype=dtype, endpoint=True)
    if channels in (2, 4):
        pixels[:, : width // 3, -1], pixels[:, width // 3 : width // 2, -1] = 0, peak // 2
        pixels[:, width // 2 :, -1] = peak
    return pixels


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_png(path: Path, pixels: numpy.ndarray, extra: bytes = b"", interlaced: bool = False) -> None:
    """A PNG of 16 bits a channel by the standard, row by row, with all five filters in turn; `extra` are chunks."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    passes = [pixels[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [pixels]
    rows = b"".join(_filtered(part, 2 * channels) for part in passes if part.size)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def _filtered(pixels: numpy.ndarray, step: int) -> bytes:
    """The bytes of a picture behind PNG's filters 0 to 4, byte by byte as section 9.2 of the standard has them."""
    rows = [row.astype(">u2").tobytes() for row in pixels]
    above = bytes(len(rows[0]))
    result = bytearray()
    for number, row in enumerate(rows):
        result.append(number % 5)
        for place, value in enumerate(row):
            a = row[place - step] if place >= step else 0
            b, c = above[place], above[place - step] if place >= step else 0
            nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            result.append((value - (0, a, b, (a + b) // 2, nearest)[number % 5]) % 256)
        above = row
    return bytes(result)


def packed(pixels: numpy.ndarray, bits: int) -> bytes:
    """Rows of whole numbers as a TIFF has them with an odd number of bits: packed, each row from a new byte on."""
    rows = []
    for row in pixels.reshape(len(pixels), -1):
        digits = "".join(f"{int(value):0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows.append(int(digits, 2).to_bytes(len(digits) // 8, "big"))
    return b"".join(rows)


def tiff(path: Path, data: bytes, tags: dict[int, tuple[int, ...]], order: str = "<") -> None:
    """A TIFF written out: data, one strip unless tags say otherwise, and tags of whole numbers."""
    if 322 not in tags:
        tags = {273: (8,), 278: tags[257], 279: (len(data),)} | tags
    place = 8 + len(data) + len(data) % 2
    entries, beyond = b"", b""
    free = place + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        letter, kind = ("H", 3) if max(values) < 65536 else ("I", 4)
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > 4:
            beyond, value = beyond + value, struct.pack(f"{order}I", free + len(beyond))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + value.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, place)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + beyond
    path.write_bytes(head + data.ljust(place - 8, b"\0") + directory)


def lzw(data: bytes) -> bytes:
    """What Pillow packs them to in a TIFF that it writes of bytes: the packing does not know what they mean."""
    file = io.BytesIO()
    Image.frombytes("L", (len(data), 1), data).save(file, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as written:
        (start,), (length,) = written.pages[0].dataoffsets, written.pages[0].databytecounts
    return file.getvalue()[start : start + length]


def psd(path: Path, pixels: numpy.ndarray, resources: bytes = b"", bits: int = 8) -> None:
    """A Photoshop file without layers, not compressed."""
    height, width, channels = pixels.shape
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, bits, 3)
    planes = numpy.moveaxis(pixels, 2, 0).tobytes()
    path.write_bytes(header + bytes(4) + struct.pack(">I", len(resources)) + resources + bytes(4) + bytes(2) + planes)


def retag(path: Path, **tags: tuple[int, ...]) -> None:
    """Change tags of a TIFF on the disk."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, values in tags.items():
            file.pages[0].tags[name].overwrite(values if len(values) > 1 else values[0])


def to_image(pixels: numpy.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def make_corpus(folder: Path) -> dict[str, Expected | None]:
    """Fill a folder with good and bad files: name → what is expected of it, None if it must be refused."""
    folder.mkdir(parents=True)
    expected = {}
    kinds = (_plain_modes, _special_modes, _other_kinds, _deep, _odd_tiffs, _packed_tiffs, _turned, _animations,
             _sizes_and_names)  # fmt: skip
    for part in (*kinds, _bad, _cut_short):
        expected |= part(folder)
    return expected


def _plain_modes(folder: Path) -> dict:
    expected, grey, rgb = {}, planes(1), planes(3)
    grey_alpha, rgba = planes(2), planes(4)
    holds = {"png": (grey, grey_alpha, rgb, rgba), "tif": (grey, grey_alpha, rgb, rgba), "bmp": (grey, rgb)}
    for suffix, kinds in holds.items():
        for pixels in kinds:
            name = f"{suffix}_{pixels.shape[2]}.{suffix}"
            to_image(pixels).save(folder / name)
            expected[name] = Expected([pixels])
    for name, pixels in (("webp_3.webp", rgb), ("webp_4.webp", rgba)):
        to_image(pixels).save(folder / name, lossless=True, exact=True)
        expected[name] = Expected([pixels])
    smooth = numpy.linspace(30, 200, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH, 1).astype(numpy.uint8)
    for name, channels in (("jpeg_1.jpg", 1), ("jpeg_3.jpeg", 3)):
        to_image(smooth.repeat(channels, 2)).save(folder / name, quality=100)
        expected[name] = Expected([smooth.repeat(channels, 2)], tolerance=3)
    to_image(smooth.repeat(3, 2)).save(folder / "webp_lossy.webp", quality=100)
    expected["webp_lossy.webp"] = Expected([smooth.repeat(3, 2)], tolerance=8)
    to_image(rgba).save(folder / "alpha.bmp")  # Pillow writes the alpha, and takes it for padding when it reads
    expected["alpha.bmp"] = Expected([rgba[:, :, :3]])
    return expected


def _special_modes(folder: Path) -> dict:
    expected, black = {}, planes(1) // 128 * 255
    for name in ("bits.png", "bits.tif", "bits.bmp"):
        to_image(black).convert("1", dither=Image.Dither.NONE).save(folder / name)
        expected[name] = Expected([black])
    index = planes(1) % 5
    colours = numpy.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [9, 9, 9], [240, 230, 0]], dtype=numpy.uint8)
    palette = to_image(index)
    palette.putpalette(colours.tobytes())
    shown = colours[index[:, :, 0]]
    for name in ("palette.png", "palette.gif", "palette.bmp", "palette.tif"):
        palette.save(folder / name)
        expected[name] = Expected([shown])
    transparent = numpy.where(index == 2, 0, 255).astype(numpy.uint8)
    for name in ("hole.png", "hole.gif"):
        palette.save(folder / name, transparency=2)
        expected[name] = Expected([numpy.dstack((shown, transparent))])
    opacity = numpy.array([255, 10, 128, 0, 255], dtype=numpy.uint8)
    palette.save(folder / "levels.png", transparency=opacity.tobytes())
    expected["levels.png"] = Expected([numpy.dstack((shown, opacity[index]))])
    grey = planes(1) // 40 * 40
    to_image(grey).save(folder / "key_grey.png", transparency=40)
    expected["key_grey.png"] = Expected([numpy.dstack((grey, numpy.where(grey == 40, 0, 255).astype(numpy.uint8)))])
    to_image(shown).save(folder / "key_rgb.png", transparency=(0, 0, 250))
    expected["key_rgb.png"] = Expected([numpy.dstack((shown, transparent))])
    ink = planes(4, seed=3)
    ink[:, :, 3] = 0  # no black: then RGB is what the three inks leave
    for name in ("cmyk.tif", "cmyk.jpg"):
        pixels = ink if name.endswith("tif") else numpy.full_like(ink, 60)
        Image.fromarray(pixels, mode="CMYK").save(folder / name, **({} if name.endswith("tif") else {"quality": 100}))
        rest = 255 - pixels[:, :, :3] if name.endswith("tif") else numpy.full((HEIGHT, WIDTH, 3), 149, numpy.uint8)
        expected[name] = Expected([rest], tolerance=0 if name.endswith("tif") else 3)
    return expected


def _deep(folder: Path) -> dict:
    expected = {}
    dark = planes(1, numpy.uint16) // 600  # no value above 109: only the file says that these are 16 bits
    for name in ("deep_dark.png", "deep_dark.tif"):
        to_image(dark).save(folder / name)
        expected[name] = Expected([dark])
    tifffile.imwrite(folder / "deep_big_endian.tif", dark[:, :, 0], byteorder=">")
    expected["deep_big_endian.tif"] = Expected([dark])
    to_image(dark).save(folder / "deep_key.png", transparency=int(dark[0, 0, 0]))
    alpha = numpy.where(dark == dark[0, 0, 0], 0, 65535).astype(numpy.uint16)
    expected["deep_key.png"] = Expected([numpy.dstack((dark, alpha))])
    for channels in (1, 2, 3, 4):
        pixels = planes(channels, numpy.uint16)
        for name, interlaced in ((f"deep_{channels}.png", False), (f"deep_{channels}_interlaced.png", True)):
            deep_png(folder / name, pixels, interlaced=interlaced)
            expected[name] = Expected([pixels])
        if channels == 1:
            continue
        options = {"extrasamples": ["unassalpha"]} if channels != 3 else {}
        kind = "rgb" if channels > 2 else "minisblack"
        for name, more in (("plain", {}), ("zip", {"compression": "zlib", "predictor": True}), ("planar", {})):
            laid = numpy.moveaxis(pixels, 2, 0) if name == "planar" else pixels
            more = {"planarconfig": "separate"} if name == "planar" else more
            tifffile.imwrite(folder / f"deep_{channels}_{name}.tif", laid, photometric=kind, **options, **more)
            expected[f"deep_{channels}_{name}.tif"] = Expected([pixels])
    rgb = planes(3, numpy.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    tifffile.imwrite(folder / "deep_turned.tif", rgb, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    deep_png(folder / "deep_turned.png", rgb, chunk(b"eXIf", exif.tobytes()[6:]))
    to_image(planes(1, numpy.uint16)).save(folder / "deep_turned_grey.png", exif=exif)
    for name, pixels in (("deep_turned.tif", rgb), ("deep_turned.png", rgb)):
        expected[name] = Expected([pixels[::-1].swapaxes(0, 1)])
    expected["deep_turned_grey.png"] = Expected([planes(1, numpy.uint16)[::-1].swapaxes(0, 1)])
    key = struct.pack(">3H", *rgb[2, 3])
    deep_png(folder / "deep_key_rgb.png", rgb, chunk(b"tRNS", key))
    alpha = numpy.where((rgb == rgb[2, 3]).all(axis=2), 0, 65535).astype(numpy.uint16)
    expected["deep_key_rgb.png"] = Expected([numpy.dstack((rgb, alpha))])
    for peak in (65535, 1023):
        values = rgb & peak  # of all ones
        head = f"P%d\n# made by hand\n{WIDTH} {HEIGHT}\n{peak}\n"
        (folder / f"deep_{peak}.ppm").write_bytes((head % 6).encode() + values.astype(">u2").tobytes())
        words = "\n# twelve\n".join(" ".join(map(str, row.ravel())) for row in values)
        (folder / f"deep_{peak}_plain.ppm").write_text(head % 3 + words)
        shown = (values * (65535 / peak)).round().astype(numpy.uint16)
        for name in (f"deep_{peak}.ppm", f"deep_{peak}_plain.ppm"):
            expected[name] = Expected([shown])
    return expected


def _other_kinds(folder: Path) -> dict:
    """Of every kind of file that Pillow reads and people have."""
    expected, grey, rgb, rgba = {}, planes(1), planes(3), planes(4)
    kinds = {"tga": rgba, "ppm": rgb, "pgm": grey, "dib": rgb, "jp2": rgba, "pcx": rgb, "sgi": rgba, "qoi": rgba}
    for suffix, pixels in kinds.items():
        to_image(pixels).save(folder / f"kind.{suffix}", **({"irreversible": False} if suffix == "jp2" else {}))
        expected[f"kind.{suffix}"] = Expected([pixels])
    icon = planes(4, height=16, width=16)
    to_image(icon).save(folder / "kind.ico")
    expected["kind.ico"] = Expected([icon])
    black = grey // 128 * 255
    to_image(black).convert("1", dither=Image.Dither.NONE).save(folder / "kind.pbm")
    expected["kind.pbm"] = Expected([black])
    version = struct.pack(">4sHHIIB", b"8BIM", 1057, 0, 5, 1, 0) + b"\0"  # says that the whole was left blank
    for name, resources in (("kind.psd", b""), ("layers_only.psd", version)):
        psd(folder / name, rgb, resources)
        expected[name] = Expected([rgb])
    smooth = numpy.linspace(30, 200, WIDTH * HEIGHT).reshape(HEIGHT, WIDTH, 1).astype(numpy.uint8).repeat(3, 2)
    for suffix, kind in (("jfif", "JPEG"), ("jpe", "JPEG"), ("avif", "AVIF")):
        to_image(smooth).save(folder / f"kind.{suffix}", format=kind, quality=100)
        expected[f"kind.{suffix}"] = Expected([smooth], tolerance=4)
    text = b"parameters\0\0" + zlib.compress(b"a prompt " * 200_000)
    with_text = (folder / "png_3.png").read_bytes()
    (folder / "bigtext.png").write_bytes(with_text[:33] + chunk(b"zTXt", text) + with_text[33:])
    expected["bigtext.png"] = Expected([rgb])
    return expected


def _odd_tiffs(folder: Path) -> dict:
    """TIFFs that have to be read in an unusual way: white is zero, planes, odd numbers of bits."""
    expected = {}
    for dtype, channels, order in itertools.product((numpy.uint8, numpy.uint16), (1, 2), "<>"):
        pixels = planes(channels, dtype)
        stored = pixels.copy()
        stored[:, :, 0] = numpy.iinfo(dtype).max - stored[:, :, 0]
        name = f"white_is_zero_{channels}_{pixels.itemsize}_{'big' if order == '>' else 'little'}.tif"
        tifffile.imwrite(
            folder / name, stored.squeeze(), photometric="miniswhite", byteorder=order, metadata=None,
            extrasamples=["unassalpha"] if channels == 2 else None,
        )  # fmt: skip
        expected[name] = Expected([pixels])
    for channels, kind in ((2, "minisblack"), (3, "rgb"), (4, "rgb")):
        pixels = planes(channels)
        tifffile.imwrite(
            folder / f"planar_{channels}.tif", numpy.moveaxis(pixels, 2, 0), photometric=kind, metadata=None,
            planarconfig="separate", extrasamples=["unassalpha"] if channels != 3 else None,
        )  # fmt: skip
        expected[f"planar_{channels}.tif"] = Expected([pixels])
    for bits, channels, order in itertools.product((10, 12, 14), (1, 3), "<>"):
        values = planes(channels, numpy.uint16) >> (16 - bits)
        shown = (values * (65535 / (2**bits - 1))).round().astype(numpy.uint16)
        tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (bits,) * channels, 259: (1,), 277: (channels,)}
        tags[262] = (1 if channels == 1 else 2,)
        name = f"bits_{bits}_{channels}_{'big' if order == '>' else 'little'}"
        tiff(folder / f"{name}.tif", packed(values, bits), tags, order)
        tiff(folder / f"{name}_zip.tif", zlib.compress(packed(values, bits)), tags | {259: (8,)}, order)
        tiff(folder / f"{name}_in_two_bytes.tif", values.astype(f"{order}u2").tobytes(), tags, order)
        if (bits, channels) == (12, 1):  # which Pillow unpacks
            tiff(folder / f"{name}_lzw.tif", lzw(packed(values, bits)), tags | {259: (5,)}, "<")
            expected[f"{name}_lzw.tif"] = Expected([shown])
        row = -(-WIDTH * channels * bits // 8)
        starts, lengths = (8, 8 + 4 * row, 8 + 8 * row), (4 * row, 4 * row, row)
        strips = {273: starts, 278: (4,), 279: lengths}
        tiff(folder / f"{name}_strips.tif", packed(values, bits), tags | strips, order)
        for ending in ("", "_zip", "_in_two_bytes", "_strips"):
            expected[f"{name}{ending}.tif"] = Expected([shown])
    index = planes(1) % 4
    colours = numpy.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [9, 9, 9]], dtype=numpy.uint8)
    palette = to_image(index)
    palette.putpalette(colours.tobytes())
    palette.save(folder / "old_palette.tif")
    entries = numpy.zeros((3, 256), dtype=int)
    entries[:, :4] = colours.T  # 8 bits, where 16 are due
    retag(folder / "old_palette.tif", ColorMap=tuple(entries.ravel().tolist()))
    expected["old_palette.tif"] = Expected([colours[index[:, :, 0]]])
    full, small = planes(3), planes(3, height=4, width=6)
    with tifffile.TiffWriter(folder / "small_first.tif") as file:
        file.write(small, photometric="rgb", subfiletype=1, metadata=None)
        file.write(full, photometric="rgb", metadata=None)
    expected["small_first.tif"] = Expected([full])
    return expected


def _packed_tiffs(folder: Path) -> dict:
    """LZW: grey with white or black as zero, RGB, with alpha; 8 and 16 bits; in planes, as differences, in a tile."""
    expected = {}
    orders, booleans = "<>", (False, True)
    for channels, dtype, order, planar, differences in itertools.product(
        (1, 2, 3, 4), (numpy.uint8, numpy.uint16), orders, booleans, booleans
    ):
        pixels = planes(channels, dtype)
        white_is_zero = channels < 3 and planar  # either is tried with either
        stored = pixels.copy()
        if white_is_zero:
            stored[:, :, 0] = numpy.iinfo(dtype).max - stored[:, :, 0]
        if differences:
            stored[:, 1:] = stored[:, 1:] - stored[:, :-1]
        parts = [stored[:, :, [place]] for place in range(channels)] if planar else [stored]
        strips = [lzw(part.astype(pixels.dtype.newbyteorder(order)).tobytes()) for part in parts]
        tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (8 * pixels.itemsize,) * channels, 259: (5,), 277: (channels,)}
        tags |= {262: (2 if channels > 2 else 0 if white_is_zero else 1,), 284: (2 if planar else 1,)}
        tags |= {317: (2 if differences else 1,)} | ({338: (2,)} if channels in (2, 4) else {})
        starts = [8 + sum(map(len, strips[:place])) for place in range(len(strips))]
        tags |= {273: tuple(starts), 279: tuple(map(len, strips))}
        kind = f"{'big' if order == '>' else 'little'}{'_planar' * planar}{'_differences' * differences}"
        name = f"lzw_{channels}_{pixels.itemsize}_{kind}.tif"
        tiff(folder / name, b"".join(strips), tags, order)
        expected[name] = Expected([pixels])
    pixels = planes(3, numpy.uint16)
    tile = numpy.zeros((16, 16, 3), numpy.uint16)
    tile[:HEIGHT, :WIDTH] = pixels
    data = lzw(tile.tobytes())
    tags = {256: (WIDTH,), 257: (HEIGHT,), 258: (16,) * 3, 259: (5,), 262: (2,), 277: (3,)}
    tiff(folder / "lzw_tile.tif", data, tags | {322: (16,), 323: (16,), 324: (8,), 325: (len(data),)})
    expected["lzw_tile.tif"] = Expected([pixels])
    return expected


def _turned(folder: Path) -> dict:
    expected, pixels = {}, planes(3)
    upright = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.swapaxes(0, 1),
        6: pixels[::-1].swapaxes(0, 1), 7: pixels[::-1, ::-1].swapaxes(0, 1), 8: pixels[:, ::-1].swapaxes(0, 1),
    }  # fmt: skip
    for orientation, shown in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix, options in (("png", {}), ("tif", {}), ("webp", {"lossless": True})):
            name = f"turned_{orientation}.{suffix}"
            to_image(pixels).save(folder / name, exif=exif, **options)
            expected[name] = Expected([shown])
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    to_image(pixels).save(folder / "profile.png", icc_profile=profile, dpi=(300, 150))
    expected["profile.png"] = Expected([pixels])
    return expected


def _animations(folder: Path) -> dict:
    expected = {}
    colours = numpy.array([[250, 0, 0], [0, 250, 0], [0, 0, 250]], dtype=numpy.uint8)
    frames = [colours[planes(1, seed=seed)[:, :, 0] % 3] for seed in range(3)]
    durations = (100, 250, 70)
    pictures = [Image.fromarray(frame) for frame in frames]
    for name, options in (("film.gif", {}), ("film.webp", {"lossless": True}), ("film.png", {})):
        pictures[0].save(
            folder / name, save_all=True, append_images=pictures[1:], duration=list(durations), loop=2, **options
        )
        shown = [numpy.dstack((frame, numpy.full_like(frame[:, :, :1], 255))) for frame in frames]
        expected[name] = Expected(
            shown if name == "film.webp" else frames, suffix=Path(name).suffix, durations=durations
        )  # Pillow gives every animated WebP an alpha
    seen = [planes(4, seed=seed) for seed in range(2)]
    pictures = [Image.fromarray(frame) for frame in seen]
    pictures[0].save(folder / "ghost.png", save_all=True, append_images=pictures[1:], duration=[50, 60], blend=0)
    expected["ghost.png"] = Expected(seen, durations=(50, 60))
    pages = [to_image(planes(3, seed=seed)) for seed in range(3)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    expected["pages.tif"] = Expected([planes(3, seed=0)])
    return expected


def _sizes_and_names(folder: Path) -> dict:
    expected = {}
    for height, width in ((1, 1), (1, 40), (40, 1), (3, 5000), (2, 2)):
        for channels in (1, 4):
            name = f"size_{height}x{width}_{channels}.png"
            pixels = planes(channels, height=height, width=width)
            to_image(pixels).save(folder / name)
            expected[name] = Expected([pixels])
    for name in (
        "two words.png",
        "line\nbreak.png",
        "Бильд 絵 ünd.png",
        "[glob]*?.png",
        "\x1b[31mred.png",
        "no.x2.dot.png",
    ):
        to_image(planes(3)).save(folder / name)
        expected[name] = Expected([planes(3)])
    to_image(planes(3)).save(folder / "is_a_png.jpg", format="PNG")
    expected["is_a_png.jpg"] = Expected([planes(3)])
    (folder / "x.png").mkdir()  # a folder with a picture's name, and a picture in it
    to_image(planes(1)).save(folder / "x.png" / "inside.png")
    expected["x.png/inside.png"] = Expected([planes(1)])
    return expected


def _bad(folder: Path) -> dict:
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "zeros.tif").write_bytes(bytes(1000))
    (folder / "magic.tif").write_bytes(b"II*\0" + bytes(100))
    (folder / "magic.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    Image.fromarray(planes(1)[:, :, 0].astype(numpy.float32)).save(folder / "float.tif")
    Image.fromarray(planes(1)[:, :, 0].astype(numpy.int32)).save(folder / "int32.tif")
    with tifffile.TiffWriter(folder / "raw.dng") as file:  # a camera's: pixels below a preview
        file.write(planes(3), photometric="rgb", subfiletype=1, subifds=1, metadata=None)
        file.write(planes(1, numpy.uint16), photometric="minisblack", metadata=None)
    psd(folder / "deep.psd", planes(3, numpy.uint16).byteswap(), bits=16)
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    names = ["empty.png", "text.jpg", "zeros.tif", "magic.tif", "magic.png", "drawing.png", "float.tif", "int32.tif",
             "raw.dng", "deep.psd"]  # fmt: skip
    if os.geteuid():  # nothing is unreadable for root
        to_image(planes(1)).save(folder / "locked.png")
        (folder / "locked.png").chmod(0)
        names.append("locked.png")
    return dict.fromkeys([*names, "gone.png"])


CUT = ("png_4.png", "jpeg_3.jpeg", "webp_4.webp", "tif_3.tif", "bmp_3.bmp", "palette.gif", "film.gif", "film.webp",
       "film.png", "deep_3_zip.tif", "deep_3_plain.tif", "deep_dark.png")  # fmt: skip


def _cut_short(folder: Path) -> dict:
    """Every kind of file, without its end: ten lengths each."""
    for name in CUT:
        whole = (folder / name).read_bytes()
        for tenth in range(10):
            (folder / f"cut_{tenth}_{name}").write_bytes(whole[: len(whole) * tenth // 10])
    return {}
