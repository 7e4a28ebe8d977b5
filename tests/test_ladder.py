"""tools/ladder.py: what is measured, what is left out, and what is refused."""

import argparse
import json
import shutil

import pytest
from test_checkpoints import make_checkpoint

from engine.checkpoints import save_checkpoint
from imaging.console import UsageError, UserError
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


def test_two_networks_of_one_name_are_refused(place, photograph):
    write_picture(place / "high" / "good.png", photograph[..., :48, :64])
    save_checkpoint(make_checkpoint(scale=2), place / "x.pt")
    assert "x" in climb(place, place / "x.pt")
    (place / "other").mkdir()
    shutil.copy("x.pt", "other/x.pt")
    with pytest.raises(UsageError, match="two files of one name"):
        climb(place, place / "x.pt", place / "other" / "x.pt")
