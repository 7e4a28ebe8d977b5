"""The script that makes the README's results: its tables reach their places, its pictures show what they should."""

import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import results

from engine.checkpoints import save_checkpoint
from esrgan import RRDBNet
from imaging.console import UserError
from imaging.saving import write_picture

SMALL = {"scale": 4, "features": 8, "growth": 4, "blocks": 1, "unshuffle": False}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Three untrained networks as if they shipped, and a README with places for the tables."""
    monkeypatch.setattr(results.checkpoints, "PRETRAINED", tmp_path)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for model, degradation in ("esrgan", "bicubic"), ("rrdb", "bicubic"), ("rrdb", "real"):
        torch.manual_seed(0)
        checkpoint = {"model": model, "scale": 4, "degradation": degradation, "shape": SMALL, "history": []}
        save_checkpoint(
            {**checkpoint, "params": RRDBNet(**SMALL).state_dict()}, tmp_path / f"{model}-{degradation}_x4.pt"
        )
    marks = [f"<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in ("clean pictures", "degraded pictures")]
    (tmp_path / "README.md").write_text("before\n" + "between\n".join(marks) + "after\n")
    return results.shipped()


def test_networks_come_in_the_order_of_the_course(shipped):
    assert list(shipped) == [("rrdb", "bicubic", 4), ("esrgan", "bicubic", 4), ("rrdb", "real", 4)]


def test_a_table_replaces_what_was_between_its_marks_alone(shipped, tmp_path):
    for _ in range(2):
        results.write_into_readme("clean pictures", "| new |\n")
    text = (tmp_path / "README.md").read_text()
    assert text.count("| new |") == 1 and text.count("old") == 1 and text.startswith("before\n<!-- clean pictures -->")
    assert "between" in text and text.endswith("after\n")
    with pytest.raises(UserError, match="no place for nothing"):
        results.write_into_readme("nothing", "")


def test_the_tables_hold_what_was_measured(shipped, photograph, tmp_path, monkeypatch):
    folder = tmp_path / "set"
    write_picture(folder / "a.png", photograph[..., :96, :96])
    monkeypatch.setattr("engine.evaluation.DRAWS", 2)
    report = results.evaluate_folder(folder, results.EvaluationSettings(4))["bicubic"]
    clean = results.clean_table(folder, shipped, None)
    _, _, first, *rows = clean.splitlines()[2:]  # bicubic ×2, ×3, ×4, then the networks
    assert f"{report['psnr']:.2f} / {report['ssim']:.4f}".replace(" 0.", " .") in first and "28.42 / .8104" in first
    assert len(rows) == 2 and "-m esrgan -s 4" in rows[1] and re.search(r"\| \d+\.\d \|", rows[1])
    table = results.degraded_table(folder, shipped)
    assert [row.split(" | ")[0] for row in table.splitlines()[2:]] == [
        "| bicubic", "| RRDB, 6 blocks", "| ESRGAN, 6 blocks", "| Real-ESRNet, 6 blocks",
    ]  # fmt: skip


def test_the_poor_photograph_is_poor_and_the_same_every_time(photograph):
    high = results.crop(photograph, 0, 0, 96)
    low, again = results.degraded_copy(high), results.degraded_copy(high)
    assert torch.equal(low, again) and low.shape[-2:] == (high.shape[-2] // 4, high.shape[-1] // 4)
    clean = results.resize(high, 1 / 4)
    assert 18 < results.psnr(low, clean, 4).item() < 32


def test_the_pictures_have_a_column_for_each_way(shipped, tmp_path):
    results.draw_gallery(shipped, tmp_path / "gallery.png")
    results.draw_degraded_photograph(shipped, tmp_path / "degraded.png")
    for name, columns, rows in ("gallery", 5, 3), ("degraded", 5, 2):
        width, height = Image.open(tmp_path / f"{name}.png").size
        assert columns - 0.5 < width / height * rows < columns + 0.5
