"""Pictures of every kind for the tests, made on the spot, with what each of them shows."""

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


def deep_png(path: Path, pixels: numpy.ndarray) -> None:
    """A PNG of 16 bits a channel, which Pillow cannot write unless it is grey."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def to_image(pixels: numpy.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def make_corpus(folder: Path) -> dict[str, Expected | None]:
    """Fill a folder with good and bad files: name → what is expected of it, None if it must be refused."""
    folder.mkdir(parents=True)
    expected = {}
    for part in (_plain_modes, _special_modes, _deep, _turned, _animations, _sizes_and_names, _bad, _cut_short):
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
    expected["deep_key.png"] = Expected([numpy.dstack((dark, alpha))], suffix=".tif")
    for channels in (2, 3, 4):
        pixels = planes(channels, numpy.uint16)
        deep_png(folder / f"deep_{channels}.png", pixels)
        expected[f"deep_{channels}.png"] = Expected([(pixels >> 8).astype(numpy.uint8)], tolerance=1)
        options = {"extrasamples": ["unassalpha"]} if channels != 3 else {}
        kind = "rgb" if channels > 2 else "minisblack"
        for name, more in (("plain", {}), ("zip", {"compression": "zlib", "predictor": True}), ("planar", {})):
            laid = numpy.moveaxis(pixels, 2, 0) if name == "planar" else pixels
            more = {"planarconfig": "separate"} if name == "planar" else more
            tifffile.imwrite(folder / f"deep_{channels}_{name}.tif", laid, photometric=kind, **options, **more)
            expected[f"deep_{channels}_{name}.tif"] = Expected([pixels], suffix=".tif")
    turned = planes(3, numpy.uint16)[::-1].swapaxes(0, 1)
    tifffile.imwrite(
        folder / "deep_turned.tif", planes(3, numpy.uint16), photometric="rgb", extratags=[(274, 3, 1, 6, True)]
    )
    expected["deep_turned.tif"] = Expected([turned], suffix=".tif")
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
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    names = ["empty.png", "text.jpg", "zeros.tif", "magic.tif", "magic.png", "drawing.png", "float.tif", "int32.tif"]
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
