"""The perceptual loss: do two pictures look alike to a network that has learnt to name things?

Simonyan and Zisserman's VGG19 (2015), trained on ImageNet, as ESRGAN (Wang et al. 2018, section 3.3) and Real-ESRGAN
use it: as a measure of distance, which stands still while the generator learns.

    VGG19Features     what VGG19 sees in a picture, layer by layer
    PerceptualLoss    how far apart that is for two pictures
    load_vgg19        its weights: torchvision's, random ones, or a file's
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imaging.console import UsageError, UserError, note

# Layer → weight. The deeper the layer, the less it minds where exactly a texture lies.
ESRGAN_LAYERS = {"conv5_4": 1.0}
REAL_ESRGAN_LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}

VGG19_WIDTHS = (64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4
# torchvision's IMAGENET1K_V1; torch.hub keeps it where torchvision does, so that it is fetched once for both.
VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


class VGG19Features(nn.Module):
    """(N, 3, H, W), RGB in 0..1 → {"conv5_4": (N, 512, H/16, W/16), …}, *before* activation, for the layers asked for.

    Before activation because after it most deep features are zero and tell the generator nothing (section 3.3).
    Simonyan and Zisserman 2015, only as deep as needed, named as in torchvision, frozen. The weights are not
    trained here: see `load_vgg19`. Raises ValueError for a layer that VGG19 does not have.
    """

    def __init__(self, layers):
        super().__init__()
        self.layers = {}  # place in self.features → name, of the layers that are asked for
        self.features, inputs = nn.Sequential(), 3
        for block, widths in enumerate(VGG19_WIDTHS, start=1):
            for number, width in enumerate(widths, start=1):
                if f"conv{block}_{number}" in layers:
                    self.layers[len(self.features)] = f"conv{block}_{number}"
                # Not in place: that would turn the features we return into those after activation.
                self.features.extend([nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=False)])
                inputs = width
            self.features.append(nn.MaxPool2d(2))
        if set(self.layers.values()) != set(layers) or not self.layers:
            raise ValueError(f"VGG19 has conv1_1 to conv5_4, not all of {list(layers)}")
        self.features = self.features[: max(self.layers) + 1]
        # What VGG was trained on: without it the loss measures another network's features, and colours drift.
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)  # its weights stand still; the gradient passes through to the picture

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        x, found = (picture - self.mean) / self.deviation, {}
        for place, layer in enumerate(self.features):
            x = layer(x)
            if place in self.layers:
                found[self.layers[place]] = x
        return found


class PerceptualLoss(nn.Module):
    """The mean absolute difference of two pictures' features, summed over layers with `weights` (name → weight).

    relative: each layer's difference is divided by the standard deviation of the photographs' own features there.
    Files of VGG19's weights differ tenfold and more in the size of a layer's features; so the weights of the layers
    mean the same with all of them. Papers take the features as large as their file makes them.
    """

    def __init__(self, vgg: VGG19Features, weights: dict[str, float], relative: bool = False):
        super().__init__()
        self.vgg, self.weights, self.relative = vgg, dict(weights), relative

    def forward(self, restored: Tensor, high: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.vgg(high)
        found = self.vgg(restored)
        return sum(weight * self.difference(found[layer], wanted[layer]) for layer, weight in self.weights.items())

    def difference(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of one layer's features (N, C, H, W)."""
        wanted = wanted.float()
        size = wanted.std().clamp_min(1e-8) if self.relative else 1.0
        return F.l1_loss(found.float(), wanted) / size


def load_vgg19(source: str, layers=("conv5_4",)) -> VGG19Features:
    """VGG19 as deep as `layers` need it, with weights from `source`, what `--perceptual` says:

    "imagenet"  torchvision's (548 MB, fetched once); raises UserError where they cannot be had
    "random"    seeded random weights, for machines without internet; it says so loudly
    FILE        a state dict in torchvision's names, with or without `features.`, of any precision;
                raises UsageError if there is no such file, UserError if it is not VGG19's weights
    """
    vgg = VGG19Features(layers)
    if source == "random":
        randomise(vgg)
        note("PERCEPTUAL LOSS WITH RANDOM WEIGHTS: it compares structure, but has never seen a picture")
        return vgg
    loaded = fetch_imagenet_weights() if source == "imagenet" else read_vgg19_file(Path(source))
    state = {}
    for key, wanted in vgg.state_dict().items():
        found = loaded.get(key, loaded.get(key.removeprefix("features.")))
        if getattr(found, "shape", None) != wanted.shape:
            raise UserError(f"{source}: is not VGG19's weights: no {key} of {'×'.join(map(str, wanted.shape))}")
        state[key] = found  # float16 becomes float32 on its way into the network
    vgg.load_state_dict(state)
    return vgg


def randomise(vgg: VGG19Features, seed: int = 0) -> None:
    """He's initialisation (2015), which keeps the size of the features from layer to layer; no bias.

    That structure alone makes a useful distance is shown by Liu et al., "A Generic Perceptual Loss for Modeling
    Structured Output Dependencies" (CVPR 2021).
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)


def fetch_imagenet_weights() -> dict:
    """torchvision's weights of VGG19, fetched unless its cache has them, by the very call that torchvision makes.

    torchvision itself is not imported: one that was built for another torch fails at once.
    """
    try:
        return torch.hub.load_state_dict_from_url(VGG19_URL, map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # no network, a full disk, a spoilt download: the ways out are the same
        reason = str(error).split("\n")[0]
        raise UserError(
            f"VGG19's ImageNet weights cannot be had ({reason}): "
            "give a file of them by --perceptual FILE, or do without them by --perceptual random"
        ) from error


def read_vgg19_file(path: Path) -> dict:
    """The dictionary in a file, opened safely."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file for --perceptual (or say imagenet, or random)")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # anything at all may be wrong with a file
        raise UserError(f"{path}: is not VGG19's weights, or cannot be opened safely") from error
