"""What degrades a picture, piece by piece: blur kernels, careless resizing, noise and JPEG.

Plain functions of pictures and numbers, each for a whole batch with a setting for every picture; degrade.py says how
much of each and in which order. Pictures are RGB in 0..1, (N, 3, H, W); nothing is random but with a generator.
"""

import io
import math
from collections.abc import Callable

import numpy
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from imaging.images import box, cubic, from_bytes, lanczos, resize, round_to_8_bits, to_image, triangle

# ---------------------------------------------------------------------------------------------
# Blur: a kernel for each picture
# ---------------------------------------------------------------------------------------------

REACH = 10  # pixels from the middle of a kernel to its edge: all kernels lie in 21×21, the largest published size


def _coordinates() -> tuple[Tensor, ...]:
    """x (to the right) and y (downwards) of every tap, each (21, 21), 0 in the middle."""
    return torch.meshgrid([torch.arange(-REACH, REACH + 1.0)] * 2, indexing="xy")


def _cut_and_normalise(kernels: Tensor, size: Tensor) -> Tensor:
    """(N, 21, 21): nothing outside the middle size×size taps, and a sum of 1, so that brightness stays."""
    x, y = _coordinates()
    inside = torch.maximum(x.abs(), y.abs()) <= (size // 2).view(-1, 1, 1)
    kernels = kernels * inside
    return kernels / kernels.sum(dim=(1, 2), keepdim=True)


def squared_distance(sigma: Tensor, theta: Tensor) -> Tensor:
    """Distance from the middle in units of σ, squared: d = zᵀ Σ⁻¹ z for every tap z, (N, 21, 21).

    sigma (N, 2) in pixels along the ellipse's own two axes; theta (N,) in radians turns them from x towards y, which
    on the screen is clockwise. Σ⁻¹ is the diagonal 1/σ² between two rotations.
    """
    x, y = _coordinates()
    cosine, sine = torch.cos(theta).view(-1, 1, 1), torch.sin(theta).view(-1, 1, 1)
    along, across = cosine * x + sine * y, -sine * x + cosine * y
    return (along / sigma[:, 0].view(-1, 1, 1)) ** 2 + (across / sigma[:, 1].view(-1, 1, 1)) ** 2


def gaussian_kernels(size: Tensor, sigma: Tensor, theta: Tensor) -> Tensor:
    """exp(−d/2), (N, 21, 21); size (N,) is odd, sigma and theta as in `squared_distance`. Isotropic if both σ agree."""
    return generalised_gaussian_kernels(size, sigma, theta, torch.ones(len(size)))


def generalised_gaussian_kernels(size: Tensor, sigma: Tensor, theta: Tensor, beta: Tensor) -> Tensor:
    """exp(−d^β/2), (N, 21, 21): under β (N,) = 1 peaked with long tails, at 1 the bell, over 1 flat on top."""
    return _cut_and_normalise(torch.exp(-(squared_distance(sigma, theta) ** beta.view(-1, 1, 1)) / 2), size)


def plateau_kernels(size: Tensor, sigma: Tensor, theta: Tensor, beta: Tensor) -> Tensor:
    """1/(1 + d^β), (N, 21, 21): flat in the middle and slow to fall, somewhat like a lens out of focus."""
    return _cut_and_normalise(1 / (1 + squared_distance(sigma, theta) ** beta.view(-1, 1, 1)), size)


def sinc_kernels(size: Tensor, cutoff: Tensor) -> Tensor:
    """ω J₁(ωr)/(2πr), (N, 21, 21): passes waves slower than cutoff ω (N,), 0 to π radians a pixel, in all directions.

    The sharp edge in frequency rings in space: this makes the halos of oversharpened pictures. J₁ is Bessel's function;
    the value in the middle is the limit ω²/(4π).
    """
    x, y = _coordinates()
    radius = torch.hypot(x, y)
    omega = cutoff.view(-1, 1, 1)
    ring = omega * torch.special.bessel_j1(omega * radius) / (2 * math.pi * radius.clamp(min=1))
    return _cut_and_normalise(torch.where(radius > 0, ring, omega**2 / (4 * math.pi)), size)


def pad(pictures: Tensor, margin: int) -> Tensor:
    """Mirror the pictures beyond their border, the border pixel not repeated; repeat it where they are too small."""
    mode = "reflect" if min(pictures.shape[-2:]) > margin else "replicate"
    return F.pad(pictures, (margin, margin, margin, margin), mode=mode)


def filter_each(pictures: Tensor, kernels: Tensor) -> Tensor:
    """(N, C, H, W) filtered with (N, K, K), K odd: picture n with kernel n, the same size again."""
    count, channels = pictures.shape[:2]
    padded = pad(pictures, kernels.shape[-1] // 2)
    # Every channel of every picture becomes a group of its own in one convolution.
    weights = kernels.to(pictures).repeat_interleave(channels, dim=0)[:, None]
    stack = padded.reshape(1, count * channels, *padded.shape[-2:])
    return F.conv2d(stack, weights, groups=count * channels).view(pictures.shape)


# "none" is a kernel too, a single 1, so that every picture of a batch is blurred or not for itself. (The authors' code
# leaves out the second blur for a whole batch; the odds are the same.)
KERNELS = (
    "isotropic", "anisotropic", "generalised isotropic", "generalised anisotropic",
    "plateau isotropic", "plateau anisotropic", "sinc", "none",
)  # fmt: skip


def make_kernels(kind: Tensor, size: Tensor, sigma: Tensor, theta: Tensor, beta: Tensor, cutoff: Tensor) -> Tensor:
    """The kernels (N, 21, 21) that `sample_blur` drew. Every kind is made for every picture: they are small."""
    bell, plateau = generalised_gaussian_kernels(size, sigma, theta, beta), plateau_kernels(size, sigma, theta, beta)
    none = torch.zeros_like(bell)
    none[:, REACH, REACH] = 1
    made = torch.stack([bell] * 4 + [plateau] * 2 + [sinc_kernels(size, cutoff), none])  # in the order of KERNELS
    return made[kind, torch.arange(len(kind))]


def blur(pictures: Tensor, **parameters: Tensor) -> Tensor:
    """Filter each picture with the kernel that its parameters describe. What sinc throws out of 0..1 is clipped."""
    return filter_each(pictures, make_kernels(**parameters)).clamp(0, 1)


# ---------------------------------------------------------------------------------------------
# Colour: JFIF's, as noise and JPEG see it
# ---------------------------------------------------------------------------------------------

# JFIF's YCbCr: BT.601 like that of images.py, but with the full swing, Y and chroma from 0 to 255.
_RGB_TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_YCC_TO_RGB = torch.tensor([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])


def to_grey(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) with JFIF's luma in all three channels."""
    return torch.einsum("c,nchw->nhw", _RGB_TO_YCC[0].to(pictures), pictures)[:, None].expand_as(pictures)


# ---------------------------------------------------------------------------------------------
# Resize and noise
# ---------------------------------------------------------------------------------------------

RESIZE_MODES = ("area", "bilinear", "bicubic")


def rescale(pictures: Tensor, reference: tuple[int, int], factor: float, mode: str) -> Tensor:
    """To `factor` times the size `reference` (height, width), rounded down; mode is one of RESIZE_MODES.

    Not anti-aliased (only area averages what it leaves out), as in Real-ESRGAN: the false patterns are part of what
    is to be learnt. `images.resize` is the careful one. Bicubic has a = −0.75 here, as in PyTorch and OpenCV; what it
    throws out of 0..1 is clipped. (The authors clip later, with the noise; here every step gives a picture.)
    """
    size = tuple(max(1, int(factor * side)) for side in reference)
    return pictures if size == tuple(pictures.shape[-2:]) else F.interpolate(pictures, size, mode=mode).clamp(0, 1)


SHRINKING_KERNELS = {"bicubic": cubic, "area": box, "bilinear": triangle, "Lanczos": lanczos}


def shrink(pictures: Tensor, size: tuple[int, int], kernel: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, *size), anti-aliased: picture n with the kernel number kernel[n] of SHRINKING_KERNELS."""
    small = pictures.new_empty((*pictures.shape[:2], *size))
    for number, function in enumerate(SHRINKING_KERNELS.values()):
        chosen = kernel == number
        if chosen.any():
            small[chosen] = resize(pictures[chosen], size=size, kernel=function)
    return small.clamp(0, 1)


def sharpen(pictures: Tensor, amount: Tensor, sigma: Tensor) -> Tensor:
    """Add amount (N,) times what a Gaussian of sigma (N,) pixels takes away, as cameras and web sites do: halos too."""
    size = torch.full((len(amount),), 2 * REACH + 1)
    kernels = gaussian_kernels(size, sigma[:, None].expand(-1, 2), torch.zeros(len(amount)))
    detail = pictures - filter_each(pictures, kernels)
    return (pictures + amount.view(-1, 1, 1, 1).to(pictures) * detail).clamp(0, 1)


def _add_noise(pictures: Tensor, grey: Tensor, strength: Tensor, error_of: Callable[[Tensor], Tensor]) -> Tensor:
    """Add strength (N,) times `error_of` what it lies on: the three channels, or where grey (N,) is true the luma."""
    error = torch.empty_like(pictures)
    luma = to_grey(pictures[grey])[:, :1]
    error[grey], error[~grey] = error_of(luma).expand(-1, 3, -1, -1), error_of(pictures[~grey])
    return (pictures + strength.view(-1, 1, 1, 1).to(pictures) * error).clamp(0, 1)


def gaussian_noise(pictures: Tensor, sigma: Tensor, grey: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise of standard deviation sigma (N,), on the scale 0..1; equal in all channels where grey (N,) is true.

    The generator lives on the pictures' device. The result is clipped to 0..1.
    """

    def bell(channels: Tensor) -> Tensor:
        return torch.randn(channels.shape, generator=generator, device=channels.device, dtype=channels.dtype)

    return _add_noise(pictures, grey, sigma, bell)


def poisson_noise(pictures: Tensor, strength: Tensor, grey: Tensor, generator: torch.Generator) -> Tensor:
    """Add strength (N,) times the error of counting photons, whose σ is √(brightness / photons at white).

    As in the authors' code, white has as many photons as the picture has different levels, rounded up to a power of
    two: 256 for nearly every photograph. Grey noise is that of the luma, for all channels.
    The generator lives on the pictures' device. The result is clipped to 0..1.
    """

    def counting_error(channels: Tensor) -> Tensor:
        channels = round_to_8_bits(channels)
        seen = torch.zeros(len(channels), 256, device=channels.device)
        seen.scatter_(1, (255 * channels).round().long().flatten(1), 1.0)
        # A hair less, lest log2(256) be a hair over 8 on some processor: that would double the photons.
        photons = (2 ** (seen.sum(dim=1).log2() - 0.001).ceil()).view(-1, 1, 1, 1)
        return torch.poisson(channels * photons, generator=generator) / photons - channels

    return _add_noise(pictures, grey, strength, counting_error)


def noise(pictures: Tensor, kind: str, strength: Tensor, grey: Tensor, seed: int) -> Tensor:
    """Gaussian or Poisson noise; the same seed gives the same grain."""
    generator = torch.Generator(pictures.device).manual_seed(seed)
    return (gaussian_noise if kind == "Gaussian" else poisson_noise)(pictures, strength, grey, generator)


# ---------------------------------------------------------------------------------------------
# JPEG
# ---------------------------------------------------------------------------------------------

# How coarsely each frequency is stored at quality 50: Annex K of the JPEG standard (ITU-T T.81). The eye sees fine
# detail badly, and finest of all fine colours: larger numbers to the right and the bottom, and in the second table.
_LUMA_TABLE = torch.tensor([
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
])  # fmt: skip
_CHROMA_TABLE = torch.full((8, 8), 99)
_CHROMA_TABLE[:4, :4] = torch.tensor([[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]])


def _dct_matrix() -> Tensor:
    """The 8×8 discrete cosine transform as an orthogonal matrix: row u is a cosine of u half waves."""
    u, x = torch.arange(8.0)[:, None], torch.arange(8.0)
    matrix = torch.cos((2 * x + 1) * u * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


_DCT = _dct_matrix()


def quantisation_tables(quality: Tensor) -> Tensor:
    """Whole qualities 1 to 100, (N,) → the steps for luma and chroma, (2, N, 8, 8), by libjpeg's formula."""
    percent = torch.where(quality < 50, 5000 // quality, 200 - 2 * quality).view(-1, 1, 1)
    tables = torch.stack([(table * percent + 50) // 100 for table in (_LUMA_TABLE, _CHROMA_TABLE)])
    return tables.clamp(1, 255)


def round_straight_through(x: Tensor) -> Tensor:
    """Rounded on the way forwards; on the way back the gradient passes as if nothing had been done."""
    return x.round() + (x - x.detach()) if x.requires_grad else x.round()


def _quantise_blocks(planes: Tensor, tables: Tensor) -> Tensor:
    """What is left of each 8×8 block of (N, C, H, W), values around 0, when its frequencies are rounded to whole steps.

    tables (N, 8, 8). The sides divide by 8. A plane is cut into blocks by views alone: (N, C, H/8, 8, W/8, 8).
    """
    count, channels, height, width = planes.shape
    dct = _DCT.to(planes)
    steps = tables.to(planes).view(count, 1, 1, 8, 1, 8)
    columns = dct @ planes.reshape(-1, 8, width)
    frequencies = (columns.view(-1, 8) @ dct.T).view(count, channels, height // 8, 8, width // 8, 8)
    frequencies = round_straight_through(frequencies / steps) * steps
    rows = (frequencies.view(-1, 8) @ dct).view(-1, 8, width)
    return (dct.T @ rows).view(planes.shape)


def jpeg(pictures: Tensor, quality: Tensor, halve_chroma: bool = True) -> Tensor:
    """Save (N, 3, H, W) as JPEG and open it again; quality (N,) is one whole number for each picture.

    In 4:2:0, with the chroma of two by two pixels as one, or without `halve_chroma` in 4:4:4. Agrees with libjpeg,
    which Pillow uses, to a level in most pixels: it rounds where libjpeg rounds, for a step of quantisation multiplies
    the difference. Gradients pass straight through the rounding. Pictures may have any size.
    """
    height, width = pictures.shape[-2:]
    luma_tables, chroma_tables = quantisation_tables(quality)
    # Columns are filled up before chroma is halved, rows (but for an odd one) after it, each by repeating the last.
    padded = F.pad(255 * pictures.clamp(0, 1), (0, -width % 16, 0, height % 2), mode="replicate")
    ycc = torch.einsum("yc,nchw->nyhw", _RGB_TO_YCC.to(padded), padded)
    # A file's Y lies in 0..255 and its chroma around 128; cosines want both around 0, so only Y is shifted here.
    luma, chroma = round_straight_through(ycc[:, :1]) - 128, round_straight_through(ycc[:, 1:])
    if halve_chroma:
        # The mean of four whole numbers often ends in a half: libjpeg rounds it down and up in turns.
        nudge = torch.tensor([-0.1, 0.1]).to(padded).repeat(padded.shape[-1] // 4)
        chroma = round_straight_through(F.avg_pool2d(chroma, 2) + nudge)
    luma, chroma = (F.pad(plane, (0, 0, 0, -plane.shape[-2] % 8), mode="replicate") for plane in (luma, chroma))
    luma, chroma = _quantise_blocks(luma, luma_tables), _quantise_blocks(chroma, chroma_tables)
    luma, chroma = (round_straight_through(plane.clamp(-128, 127)) for plane in (luma, chroma))
    if halve_chroma:
        # Decoders smooth the halved chroma with weights ¾ and ¼ when they double it, which is bilinear interpolation.
        chroma = F.interpolate(chroma[..., : (height + 1) // 2, : (width + 1) // 2], scale_factor=2, mode="bilinear")
    ycc = torch.cat([luma[..., :height, :width] + 128, chroma[..., :height, :width]], dim=1)
    rgb = torch.einsum("cy,nyhw->nchw", _YCC_TO_RGB.to(ycc), ycc)
    return round_straight_through(rgb.clamp(0, 255)) / 255


def webp(pictures: Tensor, quality: Tensor) -> Tensor:
    """Save (N, 3, H, W) as lossy WebP and open it again, by Pillow; quality (N,) as in `jpeg`. No gradients."""
    opened = []
    for picture, number in zip(pictures, quality.tolist(), strict=True):
        file = io.BytesIO()
        to_image(picture[None]).save(file, "WEBP", quality=number, method=2)
        opened.append(torch.from_numpy(numpy.array(Image.open(file).convert("RGB"))))
    return from_bytes(torch.stack(opened).permute(0, 3, 1, 2)).to(pictures.device)


COMPRESSIONS = ("JPEG 4:2:0", "JPEG 4:4:4", "WebP", "none")


def compress(pictures: Tensor, kind: Tensor, quality: Tensor) -> Tensor:
    """Each picture through the kind of file that kind (N,), a place in COMPRESSIONS, says, with its quality (N,)."""
    ways = (jpeg, lambda some, number: jpeg(some, number, halve_chroma=False), webp)
    saved = pictures.clone()
    for number, way in enumerate(ways):
        chosen = kind == number
        if chosen.any():
            saved[chosen] = way(pictures[chosen], quality[chosen])
    return saved


# ---------------------------------------------------------------------------------------------
# The sharpened target
# ---------------------------------------------------------------------------------------------

USM_TAPS = 51
USM_SIGMA = 0.3 * ((USM_TAPS - 1) * 0.5 - 1) + 0.8  # = 8 pixels, what OpenCV takes for so many taps


def wide_blur(pictures: Tensor) -> Tensor:
    """The Gaussian of `usm_sharpen`, with mirrored borders: rows and columns one after the other.

    Along an axis a blur is a matrix, and what it does to each unit vector are the matrix's columns. Multiplying by it
    is several times faster than a convolution with 51 taps.
    """
    reach = USM_TAPS // 2
    bell = torch.exp(-((torch.arange(USM_TAPS, dtype=torch.float64) - reach) ** 2) / (2 * USM_SIGMA**2))
    bell = (bell / bell.sum()).view(1, 1, -1)

    def matrix(length: int) -> Tensor:
        units = torch.eye(length, dtype=torch.float64)[:, None]
        padded = F.pad(units, (reach, reach), mode="reflect" if length > reach else "replicate")
        return F.conv1d(padded, bell)[:, 0].T.to(pictures)

    height, width = pictures.shape[-2:]
    return matrix(height) @ pictures @ matrix(width).T


def usm_sharpen(high: Tensor, weight: float = 0.5, threshold: float = 10.0) -> Tensor:
    """Unsharp masking of (N, C, H, W): what a blur takes away is added once more, `weight` times.

    Only where that is more than `threshold` of 255, so that noise in flat places stays; the mask is blurred too, so
    that it has no edges of its own. Real-ESRGAN+ is trained towards such targets (section 4.1 of the paper).
    """
    detail = high - wide_blur(high)
    mask = wide_blur((255 * detail.abs() > threshold).to(high))
    return high + mask * ((high + weight * detail).clamp(0, 1) - high)
