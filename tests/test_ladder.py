"""tools/ladder.py: what is measured, what is left out, and what is refused."""

import argparse
import json
import math
import shutil

import numpy
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from test_checkpoints import make_checkpoint

from engine.checkpoints import save_checkpoint
from imaging.console import UsageError, UserError
from imaging.images import resize
from imaging.saving import write_picture
from tools import ladder


def climb(place, *models):
    """What the script writes of the folder `high`."""
    options = argparse.Namespace(input=[place / "high"], model=list(models), json=place / "figures.json")
    ladder.main(options)
    return json.loads((place / "figures.json").read_text())


def test_what_cannot_be_measured_is_left_out_by_name(place, photograph, capsys):
    write_picture(place / "high" / "good.png", photograph[..., :48, :64])
    alone = climb(place)
    assert alone["ground truth"]["clean"]["psnr"] == 100 and alone["bicubic"]["q50"]["psnr"] > 20
    write_picture(place / "high" / "small.png", photograph[..., :18, :40])
    (place / "high" / "broken.png").write_bytes(b"no picture")
    assert climb(place) == alone
    assert "left out: " in (told := capsys.readouterr().err) and "small.png" in told and "broken.png" in told
    (place / "high" / "good.png").unlink()
    with pytest.raises(UserError, match="no picture that can be measured"):
        climb(place)


def test_grey_files_are_measured_on_their_own_values(place, photograph):
    grey = photograph[:, 1:2, :96, :128]
    write_picture(place / "high" / "grey.png", grey)
    of_grey = climb(place)
    low = Image.open(place / "high" / "grey.png").resize((32, 24), Image.Resampling.BICUBIC)
    seen = torch.from_numpy(numpy.array(low))[None, None] / 255
    restored, original = ((255 * one[0, 0, 4:-4, 4:-4]).numpy().round() for one in (resize(seen, 4).clamp(0, 1), grey))
    by_hand = peak_signal_noise_ratio(original, restored, data_range=255)
    assert of_grey["bicubic"]["clean"]["psnr"] == pytest.approx(by_hand, abs=0.01)
    (place / "high" / "grey.png").unlink()
    write_picture(place / "high" / "rgb.png", grey.expand(-1, 3, -1, -1))
    for rung, figures in climb(place)["bicubic"].items():  # luma has 219 levels for the file's 255, in every rung
        more = figures["psnr"] - of_grey["bicubic"][rung]["psnr"]
        assert more == pytest.approx(20 * math.log10(255 / 219), abs=0.05), rung


def test_two_networks_of_one_name_are_refused(place, photograph):
    write_picture(place / "high" / "good.png", photograph[..., :48, :64])
    save_checkpoint(make_checkpoint(scale=2), place / "x.pt")
    assert "x" in climb(place, place / "x.pt")
    (place / "other").mkdir()
    shutil.copy("x.pt", "other/x.pt")
    with pytest.raises(UsageError, match="two files of one name"):
        climb(place, place / "x.pt", place / "other" / "x.pt")
