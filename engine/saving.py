"""How a run is kept: when it is saved and measured, where its files lie, and the thread that writes them.

with Saver(path) as saver:
    saver.save(checkpoint, state, parts)     # copies, and goes on; the file is written beside the training
"""

import copy
import re
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engine import checkpoints
from engine.checkpoints import save_checkpoint
from engine.packed import FOLDER
from engine.resume import RunState


@dataclass(frozen=True)
class Upkeep:
    """What the command line says of how a run is kept; none of it has a part in the weights."""

    save_minutes: float = 5.0  # besides after epochs
    save_updates: int | None = None  # and after every so many updates
    validate_updates: int | None = None  # measured after so many instead of after epochs
    keep: int = 0  # so many of the latest weights stay
    name: str | None = None  # a folder of its own in models/
    cache: Path = FOLDER  # where pictures are packed that memory cannot hold

    @property
    def folder(self) -> Path:
        """Where its checkpoints lie."""
        return checkpoints.MODELS / self.name if self.name else checkpoints.MODELS


class Saver:
    """Writes checkpoints to `path`, one at a time, while the training goes on.

    What fails to be written is raised as UserError by the next call, or at the end.
    """

    def __init__(self, path: Path):
        self.path = path
        self.pool = ThreadPoolExecutor(1)
        self.pending: list[Future] = []

    def save(self, checkpoint: dict, state: RunState, parts: dict[str, dict]) -> None:
        """The best weights and all that is needed to resume, as they are now."""
        self.wait()
        training = {**state.to_dict(), "parts": parts}
        self._write(copy.deepcopy({**checkpoint, "training": training}), self.path)

    def keep(self, checkpoint: dict, weights: dict[str, Tensor], step: int, count: int) -> None:
        """These weights, for use, in a file of their own; the `count` latest such files stay."""
        folder = kept_folder(self.path)
        path = folder / f"{self.path.stem}.{step:07d}.pt"
        weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
        self._write({**checkpoint, "history": list(checkpoint["history"]), "params": weights}, path)
        self.pending.append(self.pool.submit(_remove_all_but, folder, count))

    def _write(self, checkpoint: dict, path: Path) -> None:
        self.pending.append(self.pool.submit(save_checkpoint, checkpoint, path))

    def wait(self) -> None:
        """Until all is on the disk. Raises UserError where it could not be written."""
        pending, self.pending = self.pending, []
        for future in pending:
            future.result()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind, *_) -> None:
        self.pool.shutdown()
        if kind is None:
            self.wait()


def kept_folder(path: Path) -> Path:
    """Where the weights of earlier updates lie, beside the checkpoint at `path`."""
    return path.with_suffix(".kept")


def _remove_all_but(folder: Path, count: int) -> None:
    """Delete all but the latest `count` of what `keep` has written."""
    kept = [path for path in folder.glob("*.pt") if re.search(r"\.\d{7,}\.pt$", path.name)]
    kept.sort(key=lambda path: int(path.suffixes[-2][1:]))
    for path in kept[:-count]:
        with suppress(OSError):
            path.unlink()
