"""Pixels against oracles: MATLAB's formula written out, known colours, scikit-image's metrics."""

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imaging import console, images
from imaging.console import UsageError, UserError


def imresize_matrix(length: int, new_length: int, scale: float) -> numpy.ndarray:
    """MATLAB's imresize along one axis as a dense matrix, written out pixel by pixel with its 1-based indices."""

    def kernel(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    antialias = min(scale, 1.0)
    width = 4 / antialias
    matrix = numpy.zeros((new_length, length))
    for row in range(1, new_length + 1):
        u = row / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        candidates = [left + offset for offset in range(math.ceil(width) + 2)]
        weights = [antialias * kernel(antialias * (u - index)) for index in candidates]
        for index, weight in zip(candidates, weights, strict=True):
            aux = [*range(1, length + 1), *range(length, 0, -1)]
            matrix[row - 1, aux[(index - 1) % (2 * length)] - 1] += weight / sum(weights)
    return matrix


@pytest.mark.parametrize("scale", [1 / 2, 1 / 3, 1 / 4, 2, 3, 4, 0.37, 1.7, 1.0, 1 / 11])
@pytest.mark.parametrize("size", [(24, 36), (7, 5), (1, 9)])
def test_resize_is_matlabs_imresize(scale, size):
    picture = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    height, width = (math.ceil(side * scale) for side in size)
    rows, columns = imresize_matrix(size[0], height, scale), imresize_matrix(size[1], width, scale)
    expected = rows @ picture.numpy() @ columns.T
    resized = images.resize(picture, scale)
    assert resized.shape == (2, 3, height, width)
    numpy.testing.assert_allclose(resized.numpy(), expected, atol=1e-12)


def test_resize_to_a_size_is_the_matrix_of_the_ratio():
    picture = torch.rand(1, 1, 31, 17, dtype=torch.float64)
    rows, columns = imresize_matrix(31, 12, 12 / 31), imresize_matrix(17, 40, 40 / 17)
    resized = images.resize(picture, size=(12, 40))
    numpy.testing.assert_allclose(resized.numpy(), rows @ picture.numpy() @ columns.T, atol=1e-12)


@pytest.mark.parametrize(("length", "new_length"), [(50, 200), (50, 31), (7, 40), (1, 9), (40, 3)])
def test_a_window_of_a_resized_picture_is_that_of_the_whole(length, new_length):
    picture = torch.rand(1, 2, length, 5, dtype=torch.float64)
    whole = images.resize(picture, size=(new_length, 5))
    taps = images.resize_taps(length, new_length, new_length / length)
    for start in range(0, new_length, 3):
        first, last, window = images.cut_taps(taps, start, min(start + 3, new_length))
        part = images.apply_taps(picture[..., first:last, :], -2, window)
        torch.testing.assert_close(part, whole[..., start : start + 3, :], atol=1e-14, rtol=0)
    assert last - first <= max(12, 8 * length / new_length)  # and it needs no more than a few old pixels


def test_resize_has_the_right_gradient():
    picture = torch.rand(1, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    for scale in (0.5, 2, 1.3):
        assert torch.autograd.gradcheck(lambda x, scale=scale: images.resize(x, scale), picture)


def test_resize_wants_a_scale_or_a_size():
    with pytest.raises(ValueError, match="either"):
        images.resize(torch.rand(1, 1, 4, 4))


def test_known_colours_in_ycbcr():
    # White, black, red, green, blue: ITU-R BT.601 in 8 bits, as MATLAB's documentation has them.
    rgb = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    expected = [[235, 128, 128], [16, 128, 128], [81, 90, 240], [145, 54, 34], [41, 240, 110]]
    ycbcr = images.rgb_to_ycbcr(rgb.T[None, :, :, None])[0, :, :, 0].T * 255
    assert ycbcr.round().tolist() == expected


def test_ycbcr_inverse_and_luma():
    rgb = torch.rand(2, 3, 9, 8, dtype=torch.float64)
    ycbcr = images.rgb_to_ycbcr(rgb)
    torch.testing.assert_close(images.ycbcr_to_rgb(ycbcr), rgb, atol=1e-12, rtol=0)
    torch.testing.assert_close(images.rgb_to_luma(rgb), ycbcr[:, :1], atol=1e-12, rtol=0)
    single = rgb.float()
    torch.testing.assert_close(images.ycbcr_to_rgb(images.rgb_to_ycbcr(single)), single, atol=1e-5, rtol=0)


def as_measured(picture):
    """8-bit luma as MATLAB's rgb2ycbcr gives it for an 8-bit picture."""
    return numpy.asarray((images.rgb_to_luma(images.round_to_8_bits(picture.double()))[0, 0] * 255).round())


def test_psnr_and_ssim_are_scikit_images(photograph):
    restored = photograph + 0.05 * torch.randn(photograph.shape, generator=torch.Generator().manual_seed(2))
    x, y = as_measured(restored), as_measured(photograph)
    for border in (0, 3):
        inner = (slice(border, -border or None),) * 2
        expected = peak_signal_noise_ratio(y[inner], x[inner], data_range=255)
        assert images.psnr(restored, photograph, border).item() == pytest.approx(expected, abs=1e-9)
        # scikit-image averages over the pixels where the window fits, which is where ours exists.
        expected = structural_similarity(
            y[inner], x[inner], data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert images.ssim(restored, photograph, border).item() == pytest.approx(expected, abs=1e-6)


def test_psnr_is_of_each_picture_and_of_clipped_values():
    high = torch.full((2, 1, 8, 8), 200 / 255)
    restored = high.clone()
    restored[1] += 10 / 255
    assert images.psnr(restored, high).tolist() == [math.inf, pytest.approx(20 * math.log10(25.5))]
    white = torch.ones(1, 3, 8, 8)
    assert images.psnr(1.7 * white, white).item() == math.inf


def test_ssim_of_equal_pictures_and_of_too_small_ones(photograph):
    assert images.ssim(photograph, photograph).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="11 pixels"):
        images.ssim(torch.rand(1, 3, 14, 20), torch.rand(1, 3, 14, 20), border=2)


def test_round_trip_through_a_file(tmp_path, photograph):
    path = tmp_path / "Бильд ünd 絵.png"
    images.write_picture(path, photograph)
    assert torch.equal(images.read_picture(path), photograph)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_writing_rounds_and_clips(tmp_path):
    picture = torch.tensor([-0.3, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1.4, 0.5]).view(1, 1, 2, 3)
    images.write_picture(tmp_path / "x.png", picture)
    assert numpy.asarray(Image.open(tmp_path / "x.png")).ravel().tolist() == [0, 0, 1, 255, 255, 128]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path, orientation):
    # What a viewer shows is given by the EXIF standard: 6 means "turn clockwise by 90° to see it upright".
    pixels = numpy.arange(6, dtype=numpy.uint8).reshape(2, 3) * 40
    upright = {
        1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1],
        5: pixels.T, 6: pixels[::-1].T, 7: pixels[::-1, ::-1].T, 8: pixels[:, ::-1].T,
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    picture = images.read_picture(tmp_path / "x.png")
    assert images.to_bytes(picture)[0, 0].tolist() == upright[orientation].tolist()


def test_every_mode_becomes_rgb(tmp_path):
    grey = numpy.array([[0, 100], [200, 255]], dtype=numpy.uint8)
    for mode in ("L", "RGB", "P", "CMYK", "LA", "RGBA", "1"):
        Image.fromarray(grey).convert(mode).save(tmp_path / "x.tif")
        picture = images.read_picture(tmp_path / "x.tif")
        assert picture.shape == (1, 3, 2, 2) and picture.dtype == torch.float32
        if mode != "1":
            assert torch.equal(images.to_bytes(picture)[0, 1], torch.from_numpy(grey)), mode


def test_16_bit_grey_keeps_its_precision_even_when_dark(tmp_path):
    pixels = numpy.array([[0, 1, 200], [255, 256, 65535]], dtype=numpy.uint16)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    picture = images.read_picture(tmp_path / "x.png")
    assert (picture[0, 0] * 65535).round().int().tolist() == pixels.tolist()


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (2, 1), (10, 20, 30, 0)).save(tmp_path / "x.png")
    assert images.read_picture(tmp_path / "x.png").eq(1).all()


def test_content_decides_and_bad_files_are_told(tmp_path, photograph):
    images.write_picture(tmp_path / "real.png", photograph)
    whole = (tmp_path / "real.png").read_bytes()
    (tmp_path / "named.jpg").write_bytes(whole)
    assert torch.equal(images.read_picture(tmp_path / "named.jpg"), photograph)

    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("text.jpg", "empty.png"):
        with pytest.raises(UserError, match=f"{name}: not a picture"):
            images.read_picture(tmp_path / name)
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.png").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match=r"cut.png: damaged or cut short"):
            images.read_picture(tmp_path / "cut.png")
    with pytest.raises(UsageError, match="no such file"):
        images.read_picture(tmp_path / "nothing.png")
    with pytest.raises(UsageError, match="is a folder"):
        images.read_picture(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(UserError, match="disk is full"), console.replacing(path) as temporary:
        temporary.write_text("half")
        raise OSError(28, "disk is full")
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        images.write_picture(tmp_path / "file" / "x.png", torch.rand(1, 3, 2, 2))
    with pytest.raises(UsageError, match=r"\.xyz"):
        images.write_picture(tmp_path / "x.xyz", torch.rand(1, 3, 2, 2))


def test_find_pictures_is_sorted_deep_and_skips_hidden(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/c.webp", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in images.find_pictures(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "deep/c.webp"]
    with pytest.raises(UsageError, match="no such folder"):
        images.find_pictures(tmp_path / "none")
    with pytest.raises(UsageError, match=r"a\.jpg: is a file; give its folder"):
        images.find_pictures(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no pictures"):
        images.find_pictures(tmp_path / "empty")


def test_unused_never_names_a_file_that_is_there(tmp_path):
    path = tmp_path / "x.png"
    assert console.unused(path) == path
    path.touch()
    (tmp_path / "x-2.png").touch()
    assert console.unused(path) == tmp_path / "x-3.png"


@pytest.mark.parametrize(("free_after", "kept"), [(2, "new"), (9, "old")])
def test_a_file_that_another_program_reads_is_replaced_when_it_is_free(tmp_path, monkeypatch, free_after, kept):
    """As on Windows, where a file that is open cannot be replaced."""
    path, real, waits = tmp_path / "x.txt", Path.replace, []
    path.write_text("old")

    def replace(self, target):
        if len(waits) < free_after:
            raise PermissionError(13, "used by another process")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(images.time, "sleep", waits.append)
    with suppress(UserError), console.replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == kept and len(list(tmp_path.iterdir())) == 1 and len(waits) <= 3


def test_leftovers_of_killed_processes_are_deleted_once_they_are_old(tmp_path):
    names = (".a.png.123.part", ".b.2026-11-21.png.9.part", ".c.png.5.part", "film.part", ".film.part", ".d.part.5")
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0) if name[1] != "c" else None)
    images.write_picture(tmp_path / "other.png", torch.rand(1, 3, 2, 2))
    assert {path.name for path in tmp_path.iterdir()} == {"other.png", *names[2:]}


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_out_of_memory_is_told_in_a_line(error, capsys):
    def command(options):
        raise error

    assert console.run_command(command, None) == 1
    assert capsys.readouterr().err.startswith("error: out of memory: ")


def test_a_mistake_of_ours_is_not_hidden():
    def command(options):
        raise RuntimeError("a fault in the program")

    with pytest.raises(RuntimeError, match="a fault"):
        console.run_command(command, None)
