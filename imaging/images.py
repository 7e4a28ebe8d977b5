"""Pictures as tensors: colour, size and quality, everything that knows what a pixel is.

A picture is a float32 tensor, RGB, 0..1, of shape (N, 3, H, W); its luma is (N, 1, H, W). An image is Pillow's.

    small = resize(picture, 1 / 2)                  # as MATLAB's imresize does it
    decibels = psnr(restored, high, border=4)       # as the published tables measure it
"""

import math

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# ---------------------------------------------------------------------------------------------
# Bytes
# ---------------------------------------------------------------------------------------------


def to_image(picture: Tensor) -> Image.Image:
    """One picture (1, 3, H, W) or luma (1, 1, H, W) in 0..1 as an 8-bit Pillow image."""
    pixels = to_bytes(picture)[0].permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


def to_bytes(picture: Tensor) -> Tensor:
    """0..1 → uint8, rounded and not truncated: truncation darkens every picture by half a level."""
    return (picture.detach().float() * 255).round_().clamp_(0, 255).to(torch.uint8)


def from_bytes(pixels: Tensor) -> Tensor:
    """uint8 → float32 in 0..1."""
    return pixels.float() / 255


def round_to_8_bits(picture: Tensor) -> Tensor:
    """What is left of a picture once it has been through an 8-bit file; values stay in 0..1."""
    return (picture.clamp(0, 1) * 255).round() / 255


# ---------------------------------------------------------------------------------------------
# Colour: ITU-R BT.601, studio swing, as in MATLAB's rgb2ycbcr
# ---------------------------------------------------------------------------------------------

# Rows give Y, Cb, Cr on the scale 0..255 for R, G, B in 0..1. Y runs from 16 (black) to 235 (white).
# The "full swing" of JPEG runs from 0 to 255 instead: PSNR measured on it is 1.32 dB lower.
_RGB_TO_YCBCR = torch.tensor(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64
)
_YCBCR_OFFSET = torch.tensor([16.0, 128.0, 128.0], dtype=torch.float64)


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in 0..1 → Y, Cb, Cr divided by 255: Y in 16/255..235/255, chroma in 16/255..240/255."""
    matrix, offset = (_RGB_TO_YCBCR / 255).to(rgb), (_YCBCR_OFFSET / 255).to(rgb)
    return torch.einsum("yc,nchw->nyhw", matrix, rgb) + offset.view(3, 1, 1)


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """The exact inverse of `rgb_to_ycbcr`; colours outside RGB's cube are not clipped here."""
    matrix, offset = torch.linalg.inv(_RGB_TO_YCBCR / 255).to(ycbcr), (_YCBCR_OFFSET / 255).to(ycbcr)
    return torch.einsum("cy,nyhw->nchw", matrix, ycbcr - offset.view(3, 1, 1))


def rgb_to_luma(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB → (N, 1, H, W), the Y of `rgb_to_ycbcr`. SRCNN sees nothing else."""
    weights = (_RGB_TO_YCBCR[0] / 255).to(rgb)
    return torch.einsum("c,nchw->nhw", weights, rgb)[:, None] + 16 / 255


# ---------------------------------------------------------------------------------------------
# Size: MATLAB's imresize with the bicubic kernel
# ---------------------------------------------------------------------------------------------


def cubic(x: Tensor) -> Tensor:
    """The cubic convolution kernel of Keys (1981) with a = −0.5, which is MATLAB's (OpenCV takes −0.75)."""
    x = x.abs()
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return near * (x <= 1) + far * ((x > 1) & (x <= 2))


def box(x: Tensor) -> Tensor:
    """The kernel that averages areas."""
    return ((x >= -0.5) & (x < 0.5)).to(x.dtype)


def triangle(x: Tensor) -> Tensor:
    """The kernel of bilinear interpolation."""
    return (1 - x.abs()).clamp(min=0)


def lanczos(x: Tensor) -> Tensor:
    """The kernel of Lanczos with three lobes: a sinc under the middle lobe of a wider one."""
    return torch.sinc(x) * torch.sinc(x / 3) * (x.abs() < 3)


KERNEL_REACH = {box: 0.5, triangle: 1, cubic: 2, lanczos: 3}  # pixels from its middle to where it ends


def resize_taps(
    length: int, new_length: int, scale: float, kernel=cubic, shift: float = 0.0
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Which old pixels make each new pixel along one axis: indices and float64 weights, both (taps, new_length).

    When shrinking, the kernel is stretched by 1/scale, so that every old pixel counts: without this
    anti-aliasing, detail finer than the new pixels comes back as false patterns. The new pixels are `shift` old ones
    farther on than those that cover the same area.
    """
    reach = KERNEL_REACH[kernel] * max(1.0, 1 / scale)
    # The centre of new pixel i, on the axis of the old pixels: both pictures cover the same area, but for `shift`.
    centre = (torch.arange(new_length, dtype=torch.float64) + 0.5) / scale - 0.5 + shift
    first = torch.floor(centre - reach)
    position = first + torch.arange(math.ceil(2 * reach) + 2, dtype=torch.float64)[:, None]
    weights = kernel((centre - position) / max(1.0, 1 / scale))
    weights = weights / weights.sum(dim=0)
    # Beyond its border the picture is mirrored, the border pixel included: … 1 0 | 0 1 2 … n-1 | n-1 …
    index = position.long() % (2 * length)
    index = torch.where(index < length, index, 2 * length - 1 - index)
    used = weights.ne(0).any(dim=1)
    return index[used], weights[used]


def resize(picture: Tensor, scale: float | None = None, size: tuple[int, int] | None = None, kernel=cubic) -> Tensor:
    """Resize (N, C, H, W), anti-aliased and differentiable; with the kernel `cubic` equal to MATLAB's `imresize`.

    Give either `scale` (the new size is rounded up, as in MATLAB) or `size` as (height, width).
    Values may overshoot 0..1 at sharp edges; they are not clipped here.
    """
    if (scale is None) == (size is None):
        raise ValueError("resize needs either a scale or a size")
    for axis, length in ((-2, picture.shape[-2]), (-1, picture.shape[-1])):
        new_length = size[axis] if size else math.ceil(length * (scale or 1) - 1e-9)
        taps = resize_taps(length, new_length, scale or new_length / length, kernel)
        picture = apply_taps(picture, axis, taps)
    return picture.contiguous()


def apply_taps(picture: Tensor, axis: int, taps: tuple[Tensor, Tensor]) -> Tensor:
    """Each new row of pixels is a weighted sum of a few old rows, which is what `embedding_bag` computes."""
    index, weights = taps
    rows = picture.movedim(axis, 0)
    table = rows.reshape(len(rows), -1)
    bags = F.embedding_bag(
        index.T.contiguous().to(table.device), table, per_sample_weights=weights.T.contiguous().to(table), mode="sum"
    )
    return bags.view(index.shape[1], *rows.shape[1:]).movedim(0, axis)


def cut_taps(taps: tuple[Tensor, Tensor], start: int, stop: int) -> tuple[int, int, tuple[Tensor, Tensor]]:
    """For a window of a resized picture, new pixels start:stop along one axis: (first, last, taps).

    Old pixels first:last are all that it needs, and the taps count from `first`: a picture can be resized window by
    window, with the same result as in one go.
    """
    index, weights = taps[0][:, start:stop], taps[1][:, start:stop]
    first = int(index.min())
    return first, int(index.max()) + 1, (index - first, weights)


def size_of(picture: Tensor) -> tuple[int, int]:
    """(height, width) of a picture (N, C, H, W)."""
    return picture.shape[-2], picture.shape[-1]


def crop_to_multiple(picture: Tensor, scale: int) -> Tensor:
    """Cut a few pixels off the right and the bottom, so that both sides divide by `scale`."""
    height, width = (side - side % scale for side in picture.shape[-2:])
    return picture[..., :height, :width]


# ---------------------------------------------------------------------------------------------
# Quality: PSNR and SSIM as the published tables measure them
# ---------------------------------------------------------------------------------------------

PROTOCOL = (
    "cropped to a multiple of the scale and shrunk by MATLAB's bicubic: RGB with 8 bits for networks on RGB, luma for "
    "bicubic and networks on luma; rounded to 8 bits; luma of BT.601 studio swing, rounded; grey files on their own "
    "values; border of `scale` pixels shaved; PSNR with peak 255; SSIM 11x11 Gaussian, sigma 1.5; mean of the "
    "per-image values"
)


def _measured_luma(picture: Tensor, border: int) -> Tensor:
    """What the protocol compares: luma on the scale 0..255 in float64, with the border shaved.

    Rounded to 8 bits twice, as RGB and as luma, because MATLAB's rgb2ycbcr gives 8-bit luma for an
    8-bit picture. Without the second rounding bicubic on Set5 (×2, ×3, ×4) measures 0.03 / 0.02 / 0.01 dB higher.
    """
    picture = round_to_8_bits(picture.cpu().double())  # on the CPU, for Apple's GPUs have no float64
    luma = rgb_to_luma(picture) if picture.shape[1] == 3 else picture
    luma = (255 * luma).round()
    return luma[..., border : luma.shape[-2] - border, border : luma.shape[-1] - border]


def psnr(restored: Tensor, high: Tensor, border: int = 0) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture, shape (N,): on luma, peak 255, border shaved.

    RGB pictures or lumas in 0..1. Average these values over pictures: PSNR of a pooled error is
    another, larger number. Equal pictures give infinity.
    """
    difference = _measured_luma(restored, border) - _measured_luma(high, border)
    return 10 * torch.log10(255**2 / difference.square().mean(dim=(1, 2, 3)))


def ssim(restored: Tensor, high: Tensor, border: int = 0) -> Tensor:
    """Structural similarity of each picture, shape (N,), at most 1 (Wang et al. 2004): on luma, border shaved.

    11×11 Gaussian window with σ = 1.5, only where it fits inside the picture. Raises ValueError for
    pictures smaller than the window.
    """
    x, y = _measured_luma(restored, border), _measured_luma(high, border)
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs 11 pixels a side inside the border, not {x.shape[-2]}×{x.shape[-1]}")
    bell = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    bell = bell / bell.sum()

    def local_mean(picture: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(picture, bell.view(1, 1, 11, 1)), bell.view(1, 1, 1, 11))

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x = local_mean(x * x) - mean_x**2
    variance_y = local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return similarity.mean(dim=(1, 2, 3))
