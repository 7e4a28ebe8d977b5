"""SRCNN: the first convolutional network for super-resolution, on luma.

Dong et al., "Learning a Deep Convolutional Network for Image Super-Resolution" (ECCV 2014) and
"Image Super-Resolution Using Deep Convolutional Networks" (TPAMI 2016). The picture is enlarged by
bicubic interpolation first; three convolutions then restore the detail:

    9×9, 1 → 64    patch extraction      which patterns are here?
    5×5, 64 → 32   non-linear mapping    what would they look like when sharp?   (1×1 and 3×3 in other settings)
    5×5, 32 → 1    reconstruction        average the overlapping answers

Colour is left to bicubic interpolation: the eye sees fine detail in brightness alone.

What differs from the paper, and why:
- Adam with one learning rate and a cosine decay instead of plain gradient descent with 1e-4 and 1e-5
  for 8·10⁸ back-propagations: minutes on a laptop instead of days on a GPU.
- It starts as bicubic: the first filter of every layer passes the picture on, the last layer's other
  weights are a tenth of PyTorch's usual size. The paper starts from noise of deviation 0.001 and has to
  learn first what a picture is. The network is the same: what is learnt still flows through three layers.
- The picture keeps its size: its border is replicated by the radius of the network. The paper
  leaves the border out and gives a smaller picture; so does our training, where a patch's border
  would be an invented one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNELS = {"9-1-5": (9, 1, 5), "9-3-5": (9, 3, 5), "9-5-5": (9, 5, 5)}


class SRCNN(nn.Module):
    """Luma in, luma of the same size out: (N, 1, H, W) in 0..1, already enlarged by bicubic interpolation.

    `kernels` are the sides of the three filters: (9, 1, 5) has 8,129 parameters, (9, 5, 5) has 57,281.
    """

    luma = True  # works on enlarged luma; networks that enlarge RGB themselves say False

    def __init__(self, kernels: tuple[int, int, int] = (9, 5, 5)):
        super().__init__()
        self.kernels = tuple(kernels)
        self.extract = nn.Conv2d(1, 64, kernels[0])
        self.map = nn.Conv2d(64, 32, kernels[1])
        self.reconstruct = nn.Conv2d(32, 1, kernels[2])
        self._start_as_bicubic()

    def _start_as_bicubic(self) -> None:
        """Feature 0 carries the picture through all layers by Dirac kernels; luma is positive, so no ReLU cuts it."""
        with torch.no_grad():
            self.reconstruct.weight *= 0.1
            for weight in (self.extract.weight[:1], self.map.weight[:1], self.reconstruct.weight[:, :1]):
                nn.init.dirac_(weight)
            for layer in (self.extract, self.map, self.reconstruct):
                layer.bias[0] = 0

    @property
    def radius(self) -> int:
        """How far, in pixels, an output pixel sees: 8 for 9-5-5, 6 for 9-1-5."""
        return sum(kernel // 2 for kernel in self.kernels)

    def forward_valid(self, luma: Tensor) -> Tensor:
        """Only the pixels that see no border: (N, 1, H, W) → (N, 1, H − 2·radius, W − 2·radius)."""
        return self.reconstruct(F.relu(self.map(F.relu(self.extract(luma)))))

    def forward(self, luma: Tensor) -> Tensor:
        return self.forward_valid(F.pad(luma, [self.radius] * 4, mode="replicate"))
