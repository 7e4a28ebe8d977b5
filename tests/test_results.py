"""The script that makes lessons/RESULTS.md: its tables reach their places, its pictures show what they should."""

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

TABLES = ("clean pictures", "compressed pictures", "degraded pictures")
SMALL = {"scale": 4, "features": 8, "growth": 4, "blocks": 1, "unshuffle": False}


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Four untrained networks as if they shipped, and a page of results with places for the tables."""
    monkeypatch.setattr(results.checkpoints, "PRETRAINED", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    for model, degradation in ("esrgan", "bicubic"), ("rrdb", "bicubic"), ("rrdb", "photo"), ("rrdb", "real"):
        torch.manual_seed(0)
        checkpoint = {"model": model, "scale": 4, "degradation": degradation, "shape": SMALL, "history": []}
        save_checkpoint(
            {**checkpoint, "params": RRDBNet(**SMALL).state_dict()}, tmp_path / f"{model}-{degradation}_x4.pt"
        )
    marks = [f"<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in TABLES]
    results.RESULTS.write_text("before\n" + "between\n".join(marks) + "after\n", encoding="utf-8")
    return results.shipped()


def test_networks_come_in_the_order_of_the_course(shipped):
    assert list(shipped) == [
        ("rrdb", "bicubic", 4), ("esrgan", "bicubic", 4), ("rrdb", "photo", 4), ("rrdb", "real", 4),
    ]  # fmt: skip


def test_a_table_replaces_what_was_between_its_marks_alone(shipped, tmp_path):
    for _ in range(2):
        results.write_into_results("clean pictures", "| new |\n")
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert text.count("| new |") == 1 and text.count("old") == len(TABLES) - 1
    assert text.startswith("before\n<!-- clean pictures -->")
    assert "between" in text and text.endswith("after\n")
    with pytest.raises(UserError, match="no place for nothing"):
        results.write_into_results("nothing", "")


def test_the_page_of_results_has_the_places_and_what_it_links_to():
    text = results.RESULTS.read_text(encoding="utf-8")
    for name in TABLES:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- end of {name} -->") == 1
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        assert re.match(r"https?:|#", link) or (results.RESULTS.parent / link.split("#")[0]).exists(), link


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
        "| bicubic", "| RRDB, 6 blocks", "| ESRGAN, 6 blocks", "| RRDB for photographs", "| Real-ESRNet, 6 blocks",
    ]  # fmt: skip
    first, *rows, truth = results.compressed_table(folder, shipped).splitlines()[2:]
    assert re.fullmatch(r"\| bicubic \|( \d\d\.\d\d \|){6} \d\.\d\d \|", first) and truth.startswith("| ground truth |")
    assert [row.split(" | ")[0] for row in rows] == ["| RRDB, 6 blocks", "| ESRGAN, 6 blocks", "| RRDB for photographs"]
    cells = [float(cell) for cell in first.split(" | ")[1:-1]]
    assert cells == sorted(cells, reverse=True)  # the stronger the compression, the farther off


def test_the_degraded_photograph_is_degraded_and_the_same_every_time(photograph):
    high = results.crop(photograph, 0, 0, 96)
    low, again = results.degraded_copy(high), results.degraded_copy(high)
    assert torch.equal(low, again) and low.shape[-2:] == (high.shape[-2] // 4, high.shape[-1] // 4)
    clean = results.resize(high, 1 / 4)
    assert 18 < results.psnr(low, clean, 4).item() < 32


def test_the_pictures_have_a_column_for_each_way(shipped, tmp_path):
    results.draw_gallery(shipped, tmp_path / "gallery.png")
    results.draw_compressed(shipped, tmp_path / "compressed.png")
    results.draw_degraded_photograph(shipped, tmp_path / "degraded.png")
    for name, columns, rows, side in ("gallery", 5, 3, 256), ("compressed", 5, 3, 256), ("degraded", 5, 2, 192):
        width, height = Image.open(tmp_path / f"{name}.png").size
        assert 1 < width / (columns * side) < 1.2 and 1 < height / (rows * side) < 1.25  # captions and gaps besides
