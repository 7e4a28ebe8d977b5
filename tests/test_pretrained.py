"""The weights that ship: each is the file that its card describes, loads, and does what it did."""

import hashlib
import re

import pytest
import torch

from engine import checkpoints, networks
from engine.data import make_pair
from engine.upscaling import Tiling, upscale
from imaging.images import psnr

FILES = sorted(checkpoints.PRETRAINED.glob("*.pt"))
# PSNR in dB on the small test photograph, measured when the weights were added.
EXPECTED = {
    "esrgan_x4.pt": 28.02, "rrdb-real_x4.pt": 28.42, "rrdb_x2.pt": 33.19, "rrdb_x4.pt": 28.65,
    "srcnn_x2.pt": 32.73, "srcnn_x3.pt": 29.96, "srcnn_x4.pt": 28.47, "srvgg_x4.pt": 28.70,
    "rrdb-photo_x4.pt": 28.59,
    "srvgg-photo_x4.pt": 28.27, "esrgan-photo_x4.pt": 28.38,
    "esrgan-real_x4.pt": 28.33, "srvgg-real_x4.pt": 27.31, "ecbsr_x2.pt": 32.81,
    "ecbsr_x4.pt": 28.43,
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_as_its_card_says(path, photograph):
    card = (checkpoints.PRETRAINED / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"## {re.escape(path.name)}\n(.*?)(\n## |\Z)", card, re.DOTALL).group(1)
    assert hashlib.sha256(path.read_bytes()).hexdigest() in section
    checkpoint = checkpoints.load_checkpoint(path)
    stored = torch.load(path, weights_only=True)["params"]
    assert all(value.dtype == torch.float16 for value in stored.values())
    network, scale = networks.load_network(checkpoint), checkpoint["scale"]
    low, high = (part[None] / 255 for part in make_pair(photograph, scale, enlarge=False))
    figure = psnr(upscale(network, low, scale), high, scale).item()
    assert figure == pytest.approx(EXPECTED[path.name], abs=0.01)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_half_precision_costs(path, photograph):
    checkpoint = checkpoints.load_checkpoint(path)
    network, scale = networks.load_network(checkpoint), checkpoint["scale"]
    low, high = (part[None] / 255 for part in make_pair(photograph, scale, enlarge=False))
    exact, half = (upscale(network, low, scale, Tiling(precision=name)) for name in ("fp32", "bf16"))
    assert (psnr(exact, high, scale) - psnr(half, high, scale)).abs().item() < 0.01
    assert 255 * (exact - half).square().mean().sqrt().item() < 0.25  # 0.4 where the shortcuts of RRDB are rounded too


def test_all_of_them_are_small_enough_to_ship():
    assert FILES and sum(path.stat().st_size for path in FILES) < 25e6
