"""Sharp pictures → poor ones: where the training pairs and the test pairs come from."""

from torch import Tensor

from images import crop_to_multiple, resize, round_to_8_bits


def bicubic(high: Tensor, scale: int) -> Tensor:
    """(N, C, H, W) → (N, C, H/scale, W/scale): MATLAB's bicubic, rounded to the 8 bits that a file would hold.

    Every published table of ESRGAN's time shrinks this way. SRCNN's authors shrink luma itself in floating point;
    upscaling.py does too where it measures against their tables.
    Both sides must divide by `scale`; see `crop_to_multiple`.
    """
    assert crop_to_multiple(high, scale).shape == high.shape, "crop the picture to a multiple of the scale first"
    return round_to_8_bits(resize(high, 1 / scale))
