"""What web/ has of the networks and samples:  python tools/build_web.py

It exports the networks that ship into web/networks/, writes the list that the page reads, and cuts the samples. Run it
when weights that ship change. A test keeps what lies there equal to models/pretrained/.
"""

import json
import sys
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from imaging.console import explain_missing_packages

explain_missing_packages()

from PIL import Image, ImageDraw

from engine.checkpoints import PRETRAINED, load_checkpoint
from engine.export import ExportSettings, export, metadata
from engine.networks import load_network

WEB = ROOT / "web"
# File of weights → the page's name for it, and what it says; the first is what the page begins with.
NETWORKS = {
    "srvgg_x4.pt": ("SRVGG", "Enlarges colours: the best here for clean pictures."),
    "srvgg-photo_x4.pt": (
        "SRVGG photo",
        "Enlarges colours: the best here for photographs as they are, JPEGs above all.",
    ),
    "srcnn_x2.pt": (
        "SRCNN",
        "Sharpens the brightness of a picture enlarged as usual. 2014, the first of its kind, and the slowest here.",
    ),
    "srcnn_x3.pt": (
        "SRCNN",
        "Sharpens the brightness of a picture enlarged as usual. 2014, the first of its kind, and the slowest here.",
    ),
    "srcnn_x4.pt": (
        "SRCNN",
        "Sharpens the brightness of a picture enlarged as usual. 2014, the first of its kind, and the slowest here.",
    ),
    "ecbsr_x2.pt": ("ECBSR", "Enlarges brightness by ten thousand weights: the fastest."),
    "ecbsr_x4.pt": ("ECBSR", "Enlarges brightness by twelve thousand weights: the fastest."),
}
LIVE = "ecbsr_x2.pt"  # fast enough for a camera
SUITS = {"srvgg_x4.pt": "lossless", "srvgg-photo_x4.pt": "lossy"}  # files that the page gives it, if nobody has chosen


def entry(file: str, about: dict[str, str]) -> dict:
    """What the page has to know of a network."""
    name, said = NETWORKS[file]
    return {
        "name": name, "file": f"networks/{Path(file).stem}.onnx", "scale": int(about["scale"]),
        "luma": about["colours"] == "luma", "enlarged": about["enlarged"] != "no", "margin": int(about["margin"]),
        "live": file == LIVE, "about": said,
        "suits": SUITS.get(file, ""),
    }  # fmt: skip


def build_networks() -> None:
    """Export what ships, and write the list."""
    entries = []
    for file in NETWORKS:
        if not (PRETRAINED / file).exists():
            continue
        checkpoint = load_checkpoint(PRETRAINED / file)
        network = load_network(checkpoint)
        told = export(network, checkpoint, ExportSettings(WEB / "networks" / f"{Path(file).stem}.onnx"))
        print(f"{file}: {told}")
        entries.append(entry(file, metadata(network, checkpoint)))
    (WEB / "networks" / "networks.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def build_samples() -> None:
    """Two photographs of scikit-image, under CC0 and in the public domain, made small; and a drawing."""
    folder = WEB / "samples"
    folder.mkdir(exist_ok=True)
    for name, found, box in (("cat", "chelsea", (60, 0, 360, 300)), ("astronaut", "astronaut", (90, 0, 390, 300))):
        with resources.as_file(resources.files("skimage") / "data" / f"{found}.png") as path, Image.open(path) as image:
            image.convert("RGB").crop(box).resize((150, 150), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    drawing(600).resize((150, 150), Image.Resampling.BOX).save(folder / "drawing.png")


def drawing(side: int) -> Image.Image:
    """Thin rays, rings and letters on nothing: sharp edges, and a ground that is transparent."""
    image = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, side - 20, side - 20), fill="#fff7e0", outline="#222", width=12)
    for number in range(6):
        inset = 60 + 24 * number
        draw.ellipse((inset, inset, side - inset, side - inset), outline=("#c33", "#37c")[number % 2], width=6)
    for degrees in range(0, 180, 15):
        draw.arc((40, 40, side - 40, side - 40), degrees, degrees + 4, fill="#222", width=60)
    draw.text((side / 2, side / 2), "SR", fill="#222", anchor="mm", font_size=170)
    return image


if __name__ == "__main__":
    build_networks()
    build_samples()
