"""Pixels against oracles: MATLAB's formula written out, known colours, scikit-image's metrics."""

import math

import numpy
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from imaging import images


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
