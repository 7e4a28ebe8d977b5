"""What can be watched while a training runs: a table of its steps, TensorBoard's files, pictures by step.

models/NAME.steps.csv       learning rate, seconds and losses, a line for every ten updates
models/NAME.tensorboard/    the same, and every epoch's figures, with --tensorboard
models/NAME.val/            what the network makes of --val's pictures after each epoch, with --val-pictures
"""

import csv
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.data import Pair
from engine.devices import rank_and_size
from engine.networks import Network, is_given_enlarged
from engine.resume import RunState
from engine.upscaling import restore_enlarged, upscale
from imaging.console import UserError, note
from imaging.saving import write_picture

EVERY = 10  # updates to a line
COLUMNS = (
    "step", "learning_rate", "seconds", "loss", "pixel", "consistency", "perceptual", "style", "spectrum",
    "adversarial", "discriminator_loss", "discriminator_real", "discriminator_restored", "margin",
)  # fmt: skip


@dataclass(frozen=True)
class Following:
    """What is watched besides the table: of `--val`'s photographs or pairs, and by TensorBoard."""

    validation: Sequence[Path] = ()
    pictures: bool = False  # keep what the network makes of them after each epoch
    tensorboard: bool = False


def summary_writer() -> Any:
    """TensorBoard's writer. Raises UserError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard: needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter


class Watch:
    """What a run shows of its steps and epochs, of the first process alone; `pairs` are the pictures of --val.

    `seconds` are those of an update. What was written after the step that was saved last is written anew.
    """

    def __init__(self, pairs: list[Pair], path: Path, state: RunState, following: Following):
        self.pairs, self.pictures = pairs, following.pictures
        self.path = path.with_suffix(".steps.csv")
        self.rows: list[dict[str, float]] = []  # of the steps since the last line
        self.began = time.monotonic()
        self.is_first = rank_and_size()[0] == 0
        self.told = False
        self.board = None
        if self.is_first:
            self.write(earlier_lines(self.path, state.step))
            if following.tensorboard:
                self.board = summary_writer()(str(path.with_suffix(".tensorboard")), purge_step=state.step)

    def step(self, step: int, learning_rate: float, figures: dict[str, float]) -> None:
        """Take in a step, and write a line with the means if it is time for one."""
        if not self.is_first:
            return
        self.rows.append(figures)
        if step % EVERY:
            return
        line: dict[str, Any] = {"step": step, "learning_rate": learning_rate}
        line["seconds"] = (time.monotonic() - self.began) / len(self.rows)
        for name in COLUMNS[3:]:
            values = [row[name] for row in self.rows if name in row]
            line |= {name: sum(values) / len(values)} if values else {}
        self.rows, self.began = [], time.monotonic()
        self.write([line])
        self.show(line, step, "steps")

    def epoch(self, entry: dict[str, float], network: Network) -> None:
        """Show an epoch's figures, and keep what the network makes of the pictures if that is wanted."""
        self.show(entry, int(entry["step"]), "epochs")
        if self.pictures:
            keep_pictures(network, self.pairs, int(entry["step"]), self.path.with_suffix("").with_suffix(".val"))

    def show(self, figures: dict[str, float], step: int, group: str) -> None:
        """Hand figures to TensorBoard."""
        if self.board:
            for name, value in figures.items():
                if name != "step":
                    self.board.add_scalar(f"{group}/{name}", value, step)
            self.board.flush()

    def write(self, lines: list[dict]) -> None:
        """Add lines to the table, the head first where it is new; what cannot be written is no reason to stop."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerows(lines)
        except OSError as error:
            if not self.told:
                note(f"cannot write {self.path}: {error.strerror or error}; training goes on")
            self.told = True


@contextmanager
def watching(pairs: list[Pair], path: Path, state: RunState, following: Following):
    """Yield a Watch, and at the end write what TensorBoard still holds."""
    watch = Watch(pairs, path, state, following)
    try:
        yield watch
    finally:
        if watch.board:
            watch.board.close()


def earlier_lines(path: Path, step: int) -> list[dict]:
    """The lines of a table up to a step; the file itself goes, for it is written anew."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = [row for row in csv.DictReader(file) if int(row["step"]) <= step and row.keys() <= {*COLUMNS}]
        path.unlink()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        path.unlink(missing_ok=True)
        return []
    return lines


@torch.inference_mode()
def keep_pictures(network: Network, pairs: list[Pair], step: int, folder: Path) -> None:
    """Write what a network makes of pictures into a folder, called after them and the step."""
    try:
        for number, pair in enumerate(pairs, start=1):
            restored = _restored(network, pair.pictures()[0])
            write_picture(folder / f"{number:03}-{Path(pair.photograph).stem}.step{step:07}.png", restored)
    except UserError as error:
        note(f"{error}; training goes on")


def _restored(network: Network, low: Tensor) -> Tensor:
    """A pair's low picture (1, 3, H, W), enlarged already where the network wants it so, tile by tile: on the CPU."""
    return restore_enlarged(network, low) if is_given_enlarged(network) else upscale(network, low, network.scale)
