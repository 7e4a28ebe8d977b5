"""SRCNN: the first convolutional network for super-resolution, on luma.

Dong et al., "Learning a Deep Convolutional Network for Image Super-Resolution" (ECCV 2014) and
"Image Super-Resolution Using Deep Convolutional Networks" (TPAMI 2016). The picture is enlarged by
bicubic interpolation first; three convolutions then restore the detail:

    9×9, 1 → 64    patch extraction      which patterns are here?
    5×5, 64 → 32   non-linear mapping    what would they look like when sharp?   (1×1 and 3×3 in other settings)
    5×5, 32 → 1    reconstruction        average the overlapping answers

Colour is left to bicubic interpolation: the eye sees fine detail in brightness alone.

What differs from the paper, and why:
- Adam with one learning rate and a cosine decay, told of differences from grey (`AdamFromGrey` in
  engine/optimizers.py). The paper takes plain gradient descent with 1e-4 and 1e-5 for 8·10⁸ back-propagations: days
  on a GPU, where this takes minutes on a laptop.
- It starts as bicubic: the first filter of every layer passes the picture on, the last layer's other weights are a
  tenth of PyTorch's usual size, and no feature is dead. The paper starts from noise of deviation 0.001 and has to
  learn first what a picture is. The network is the same: what is learnt still flows through three layers.
- The picture keeps its size: its border is replicated by the radius of the network. The paper
  leaves the border out and gives a smaller picture; so does our training, where a patch's border
  would be an invented one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GREY = 0.45  # luma of a photograph on average, about

KERNELS = {"9-1-5": (9, 1, 5), "9-3-5": (9, 3, 5), "9-5-5": (9, 5, 5)}


class SRCNN(nn.Module):
    """Luma in, luma of the same size out: (N, 1, H, W) in 0..1, already enlarged by bicubic interpolation.

    `kernels` are the sides of the three filters: (9, 1, 5) has 8,129 parameters, (9, 5, 5) has 57,281.
    """

    # What its users ask of a network: see Network in engine/networks.py.
    luma = True  # works on enlarged luma; networks that enlarge RGB themselves say False
    scale = 1  # so its output is as large as its input
    tile = 256
    fold = 1

    def __init__(self, kernels: tuple[int, int, int] = (9, 5, 5)):
        super().__init__()
        self.kernels = tuple(kernels)
        self.shape = {"kernels": list(kernels)}  # what builds it again
        self.radius = self.margin = sum(kernel // 2 for kernel in kernels)  # how far it sees: 8 for 9-5-5, 6 for 9-1-5
        self.extract = nn.Conv2d(1, 64, kernels[0])
        self.map = nn.Conv2d(64, 32, kernels[1])
        self.reconstruct = nn.Conv2d(32, 1, kernels[2])
        self._start_as_bicubic()
        # In channels-last memory the two wide layers are fastest. (PyTorch's types do not know this form of `to`.)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _start_as_bicubic(self) -> None:
        """Feature 0 carries the picture through all layers by Dirac kernels; luma is positive, so no ReLU cuts it.

        The others answer 0 to an even grey picture: half of what they see is above it. By PyTorch's usual biases
        19 of 64 would be below 0 in every photograph, and what a ReLU always cuts never learns.
        """
        with torch.no_grad():
            self.reconstruct.weight *= 0.1
            for weight in (self.extract.weight[:1], self.map.weight[:1], self.reconstruct.weight[:, :1]):
                nn.init.dirac_(weight)
            even = torch.tensor([GREY])
            for layer in (self.extract, self.map):
                layer.bias.zero_()
                layer.bias[1:] = -constant_response(even, layer)[1:]
                even = F.relu(constant_response(even, layer))
            self.reconstruct.bias.zero_()

    def forward_valid(self, luma: Tensor) -> Tensor:
        """Only the pixels that see no border: (N, 1, H, W) → (N, 1, H − 2·radius, W − 2·radius)."""
        if not torch.is_autocast_enabled(luma.device.type):
            return self.last(F.relu_(self.map(F.relu_(self.extract(luma)))))
        with torch.autocast(luma.device.type, enabled=False):  # the first and the last layer stay in float32
            features = F.relu_(self.extract(luma))
        mapped = self.map_from_grey(features)
        with torch.autocast(luma.device.type, enabled=False):
            return self.last(F.relu_(mapped))

    def last(self, features: Tensor) -> Tensor:
        """The layer `reconstruct`."""
        return convolve_to_one(features, self.reconstruct.weight, self.reconstruct.bias)

    def map_from_grey(self, features: Tensor) -> Tensor:
        """The middle layer, nearly all of the work, in half precision: only what differs from an even grey picture.

        bfloat16 has 8 significant bits, and the picture itself, which the features carry, needs more: the result would
        lose up to 0.04 dB. A difference is small, and so are its rounding errors: 0.02 dB. For upscaling even that is
        won back, by float32 for the first feature, in which the picture starts and after training mostly still is, and
        for the sum with it.
        """
        weight = self.map.weight
        grey = F.relu(constant_response(features.new_tensor([GREY]), self.extract)).detach()  # the features of grey
        difference, mapped_grey = features - grey[:, None, None], constant_response(grey, self.map)
        if features.requires_grad:  # learning takes the rounding for noise
            return F.conv2d(difference, weight).to(features.dtype) + mapped_grey[:, None, None]
        with torch.autocast(features.device.type, enabled=False):
            mapped = F.conv2d(difference[:, :1], weight[:, :1], mapped_grey)
        others = weight.clone()
        others[:, 0] = 0  # a slice without the first channel would be copied, and not be a multiple of 16
        return mapped.add_(F.conv2d(difference, others))

    def forward(self, luma: Tensor) -> Tensor:
        return self.forward_valid(F.pad(luma, [self.radius] * 4, mode="replicate"))


# ---------------------------------------------------------------------------------------------
# For a processor, and for features that are alive from the start
# ---------------------------------------------------------------------------------------------


def constant_response(even: Tensor, layer: nn.Conv2d) -> Tensor:
    """What a convolution makes of a picture in which every pixel is the same: (inputs,) → (outputs,)."""
    return (layer.weight.sum((2, 3)) * even).sum(1) + layer.bias  # autocast would round what a matrix product gives


def convolve_to_one(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """F.conv2d with a single filter, (N, C, H, W) and (1, C, K, K) → (N, 1, H − K + 1, W − K + 1), faster on a CPU.

    A processor computes 16 output channels at once, and one channel takes it as long. So the 16 pixels of every 4×4
    square become channels: the same filter at 16 places in a larger one, applied to every fourth pixel.
    """
    side = weight.shape[-1] + 3
    height, width = (length - weight.shape[-1] + 1 for length in features.shape[-2:])
    windows = F.pad(weight[0], (3, 3, 3, 3)).unfold(1, side, 1).unfold(2, side, 1)  # C, 4, 4, side, side
    filters = windows.flip(1, 2).permute(1, 2, 0, 3, 4).flatten(0, 1)
    whole_squares = F.pad(features, (0, -width % 4, 0, -height % 4)) if height % 4 or width % 4 else features
    squares = F.conv2d(whole_squares, filters, bias.expand(16), stride=4)
    return F.pixel_shuffle(squares, 4)[..., :height, :width]
