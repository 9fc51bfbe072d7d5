"""Lays out the paths of a run's sentinels by site and by row: which directions, and in which calls they count.

`L` sites, `B` rows of one denoiser call, `k` sentinels with room for more, `w` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from steering.batch.layout import Layout
from steering.sentinel import Sentinel

__all__ = ["Watch"]


class Watch:
    """The sentinels of one run as tables. `room`: their number up to the next power of two, so that one more of them
    may fit the graphs that are there."""

    def __init__(self, names: Sequence[str], sentinels: Sequence[Sentinel]) -> None:
        index = {name: i for i, name in enumerate(names)}
        self.sentinels = tuple(sentinels)
        self.room = 1 << (len(sentinels) - 1).bit_length() if sentinels else 0
        self.at: Mapping[int, tuple[tuple[int, torch.Tensor], ...]] = {
            index[name]: tuple((k, s.path[name]) for k, s in enumerate(sentinels) if name in s.path)
            for name in dict.fromkeys(name for s in sentinels for name in s.path)
        }

    def open(self, step: int, steps: int) -> tuple[bool, ...]:
        """Which sentinels read at this step."""
        return tuple(s.window.covers(step, steps) for s in self.sentinels)

    def shares(self, opened: Sequence[bool], layout: Layout) -> npt.NDArray[np.float32]:
        """[B, k]: 1 where a row counts for a sentinel: the cond rows, while its window is open."""
        found = np.zeros((layout.batch, self.room), np.float32)
        rows = [row for picture in range(layout.pictures) for row in layout.rows(picture, "cond")]
        found[np.ix_(rows, [k for k, on in enumerate(opened) if on])] = 1.0
        return found

    def directions(self, widths: Sequence[int]) -> dict[int, torch.Tensor]:
        """For each site with an output, its directions [k, w]; zero where no sentinel reads. `widths`: of each site's
        output, 0 for none."""
        found = {}
        for site, width in enumerate(widths):
            if width:
                found[site] = torch.zeros(self.room, width)
                for k, direction in self.at.get(site, ()):
                    found[site][k] = direction.float()
        return found
