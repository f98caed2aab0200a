"""A small MAP-Elites: of candidates that look alike the best is kept, so that many ways to earn live on.

Letters: K candidates, N parameters, M descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.errors import BadInput


class Archive:
    """A grid of cells over M descriptors; each cell keeps the best candidate that fell into it.

    The grid is laid over the 2% to 98% span of the first candidates told, widened by half on each side; what lies
    outside falls into the border cells. New candidates come from pairs of elites: a step along the line between them
    and a random one.

    Args:
        size: N.
        bins: the cells along each descriptor.
        rng: where variation comes from.
        spread: the standard deviation of a fresh candidate.
        iso: that of the random step.
        line: that of the step along the line between two elites.

    Source:
        Mouret and Clune (2015), Illuminating search spaces by mapping elites; the variation operator: Vassiliades and
        Mouret (2018), Discovering the elite hypervolume by leveraging interspecies correlation, equation 3.

    Example:
        >>> archive = Archive(2, bins=(4, 4), rng=np.random.default_rng(0))
        >>> for _ in range(30):
        ...     x = archive.ask(32)
        ...     _ = archive.tell(x, -x.square().sum(-1), descriptor_KM=x)
        >>> archive.filled > 8, archive.best()[1] > -0.1
        (True, True)
    """

    def __init__(self, size: int, *, bins: Sequence[int], rng: np.random.Generator, spread: float = 1.0,
                 iso: float = 0.1, line: float = 0.3) -> None:
        if size < 1 or not bins or min(bins) < 1:
            raise BadInput("size, bins", expected="positive integers", received=(size, tuple(bins)))
        self.size, self.bins, self.rng, self.spread = size, tuple(int(b) for b in bins), rng, spread
        self.iso, self.line = iso * spread, line
        cells = int(np.prod(self.bins))
        self.theta = torch.zeros(cells, size)
        self.score = torch.full((cells,), -torch.inf, dtype=torch.float64)
        self.taken = torch.zeros(cells, dtype=torch.bool)
        self._low = self._high = torch.zeros(len(self.bins), dtype=torch.float64)
        self._laid = False

    @property
    def filled(self) -> int:
        """The number of cells that hold a candidate."""
        return int(self.taken.sum())

    def ask(self, K: int) -> Float[Tensor, "K N"]:
        """Candidates: fresh ones while fewer than 4 cells are filled, else children (one in ten fresh)."""
        fresh = torch.from_numpy(self.rng.standard_normal((K, self.size)).astype(np.float32)) * self.spread
        cells = self.taken.nonzero()[:, 0]
        if len(cells) < 4:
            return fresh
        first, second = (self.theta[cells[torch.from_numpy(self.rng.integers(len(cells), size=K))]] for _ in range(2))
        along = torch.from_numpy(self.rng.standard_normal((K, 1)).astype(np.float32)) * self.line
        child = first + self.iso / self.spread * fresh + along * (second - first)
        newcomer = torch.from_numpy(self.rng.random((K, 1)) < 0.1)
        return torch.where(newcomer, fresh, child)

    def tell(self, theta_KN: Float[Tensor, "K N"], score_K: Float[Tensor, "K"], *,
             descriptor_KM: Float[Tensor, "K M"]) -> Tensor:
        """Files candidates; a score that is NaN or -inf is not filed.

        Returns:
            [K] bool: which of them took a cell.
        """
        if not self._laid:
            self._lay(descriptor_KM.double())
        entered = torch.zeros(len(score_K), dtype=torch.bool)
        cell = self.cell(descriptor_KM).tolist()
        for i, score in enumerate(score_K.double().tolist()):
            if score > float(self.score[cell[i]]):
                self.theta[cell[i]], self.score[cell[i]] = theta_KN[i], score
                self.taken[cell[i]] = entered[i] = True
        return entered

    def cell(self, descriptor_KM: Float[Tensor, "K M"]) -> Tensor:
        """The index of the cell that each candidate falls into."""
        share = (descriptor_KM.double() - self._low) / (self._high - self._low).clamp(min=1e-9)
        index = torch.zeros(len(descriptor_KM), dtype=torch.int64)
        for m, bins in enumerate(self.bins):
            index = index * bins + (torch.nan_to_num(share[:, m]) * bins).long().clamp(0, bins - 1)
        return index

    def best(self) -> tuple[Tensor, float]:
        """The best candidate and its score.

        Raises:
            BadInput: when no cell is filled.
        """
        if not self.filled:
            raise BadInput("archive", expected="at least one scored candidate", received="none")
        i = int(self.score.argmax())
        return self.theta[i], float(self.score[i])

    def elites(self) -> tuple[Float[Tensor, "C N"], Float[Tensor, "C"]]:
        """All C candidates that hold a cell and their scores, best first."""
        cells = self.taken.nonzero()[:, 0]
        cells = cells[self.score[cells].argsort(descending=True, stable=True)]
        return self.theta[cells], self.score[cells]

    def _lay(self, descriptor_KM: Tensor) -> None:
        low, high = descriptor_KM.quantile(0.02, 0), descriptor_KM.quantile(0.98, 0)
        margin = 0.5 * (high - low)
        self._low, self._high, self._laid = low - margin, high + margin, True
