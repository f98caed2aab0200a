"""Episodes with known numbers in them."""

from __future__ import annotations

import torch

from plaudit.core.episodes import Episodes
from plaudit.core.functions import reward
from plaudit.core.seeds import Seeds

VALUE = reward(lambda obs: obs[..., 0], vectorised=True, backend="torch", name="value")


def numbered(lengths: list[int], D: int = 1) -> Episodes:
    """Rows whose observation counts the steps: 100 * row + step."""
    T = max(lengths)
    step = torch.arange(T).float() + 100 * torch.arange(len(lengths)).float().unsqueeze(1)
    mask = torch.arange(T) < torch.tensor(lengths).unsqueeze(1)
    ends = torch.arange(T) == torch.tensor(lengths).unsqueeze(1) - 1
    obs = torch.where(mask, step, 0.0).unsqueeze(-1).expand(-1, -1, D).contiguous()
    return Episodes(obs=obs, action=torch.zeros(len(lengths), T, 1), next_obs=obs, terminated=ends,
                    truncated=torch.zeros_like(ends), mask=mask)


def gaussian(B: int, T: int, D: int, seed: int = 0) -> Episodes:
    """Normal observations."""
    x = torch.randn(B, T, D, generator=Seeds(seed).torch())
    no = torch.zeros(B, T, dtype=torch.bool)
    return Episodes(obs=x, action=torch.zeros(B, T, 1), next_obs=x, terminated=no, truncated=no, mask=~no)
