"""The data of a run whose degraded pictures are made as its settings say: their ranges, shares and qualities."""

import torch
from torch import Tensor

import degrade
from engine.data import Data, seeded
from imaging import distortions
from imaging.images import from_bytes, resize, size_of, to_bytes


class DegradedData(Data):
    """Data, but degraded by `photo` and `real` of the settings, not by the published figures alone."""

    def finish(self, patches: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Tensor]:
        """What `cut` gave, ready to learn from: low is made anew, on the device, and pooled."""
        if not self.degrades:
            return patches
        generator = seeded(self.settings.seed, step, self.rank, 0xDE64)
        high = from_bytes(patches[1].to(self.device))
        if self.settings.degradation == "photo":
            high = degrade.some_grey(high, self.settings.photo.grey, generator)
        # Of the sharpened picture, if that is what the network is to give: see updates.sharp_target.
        sharp = distortions.usm_sharpen(high) if self.settings.sharpen else high
        whole = self._degraded(sharp, generator, self.settings.mild)
        low, high = (self._middle(to_bytes(part), whole.shape[-1]) for part in (whole, high))
        return self.pool.exchange(low, high, generator) if self.pool else (low, high)

    def _degraded(self, high: Tensor, generator: torch.Generator, mild: float = 0.0) -> Tensor:
        settings = self.settings
        if settings.degradation == "photo":
            low = degrade.photo(high, settings.scale, generator, settings.photo)
        elif mild:
            low = degrade.real_or_mild(high, settings.scale, generator, mild, settings.real, settings.photo)
        else:
            low = degrade.second_order(high, settings.scale, generator, settings.real)
        return resize(low, size=size_of(high)) if self.enlarge else low
