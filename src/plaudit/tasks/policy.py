"""What acts: anything with `start` and `act`, and the two policies that need no learning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import gymnasium
import torch
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.core.seeds import Seeds, counter_uniform
from plaudit.core.tree import Tree, leaves


@runtime_checkable
class Policy(Protocol):
    """Chooses the actions of all rows at once; what it remembers travels in the carry, not in the object."""

    def start(self, rows: int) -> Any:
        """The carry of `rows` fresh episodes (None where nothing is remembered)."""
        ...

    def act(self, obs: Tree, carry: Any, *, step: int) -> tuple[Tensor, Any]:
        """Actions [B, ...] in the environment's units for obs [B, ...], and the next carry; `step` counts from 0."""
        ...


class ActionSequence:
    """Replays logged actions, whatever it sees.

    Args:
        actions: [B, T, ...] for as many rows; or, with `shared=True`, [T, ...] for all rows alike.
        shared: one sequence for all rows.

    Raises:
        BadInput: when asked for more rows, or for a later step, than there are.

    Example:
        >>> policy = ActionSequence(torch.tensor([0, 1, 1]), shared=True)
        >>> policy.act(torch.zeros(2, 4), policy.start(2), step=1)[0].tolist()
        [1, 1]
    """

    def __init__(self, actions: Tensor, *, shared: bool = False) -> None:
        if actions.ndim < (1 if shared else 2):
            raise BadInput("actions", expected="a tensor [T, ...]" if shared else "a tensor [B, T, ...]",
                           received=list(actions.shape), fix="" if shared else "pass shared=True for one sequence")
        self.actions, self.shared = actions, shared

    def start(self, rows: int) -> int:
        if not self.shared and rows != self.actions.shape[0]:
            raise BadInput("actions", expected=f"{rows} rows", received=list(self.actions.shape))
        return rows

    def act(self, obs: Tree, carry: int, *, step: int) -> tuple[Tensor, int]:
        length = self.actions.shape[0 if self.shared else 1]
        if step >= length:
            raise BadInput("step", expected=f"below the {length} logged actions", received=step,
                           fix=f"pass max_steps={length}")
        now = self.actions[step].expand(carry, *self.actions.shape[1:]) if self.shared else self.actions[:, step]
        return now.to(next(leaves(obs))[1].device), carry


class RandomPolicy:
    """Uniform actions (normal ones along unbounded axes) that depend on the row's seed and the step alone.

    Args:
        space: the task's action space: Discrete, MultiDiscrete, MultiBinary or Box.
        seeds: one for each row, or one integer from which every row gets its own.

    Example:
        >>> policy = RandomPolicy(gymnasium.spaces.Discrete(2), seeds=[5, 6])
        >>> policy.act(torch.zeros(2, 4), policy.start(2), step=0)[0].shape
        torch.Size([2])
    """

    def __init__(self, space: gymnasium.Space[Any], seeds: Sequence[int] | int) -> None:
        kinds = (gymnasium.spaces.Discrete, gymnasium.spaces.MultiDiscrete, gymnasium.spaces.MultiBinary,
                 gymnasium.spaces.Box)
        if not isinstance(space, kinds):
            raise Unsupported(f"no random policy for {space}; it knows Discrete, MultiDiscrete, MultiBinary and Box")
        self.space, self.seeds = space, seeds

    def start(self, rows: int) -> Tensor:
        if isinstance(self.seeds, int):
            return torch.tensor(Seeds(self.seeds).child("random policy").integers(rows))
        if len(self.seeds) != rows:
            raise BadInput("seeds", expected=f"one for each of the {rows} rows", received=len(self.seeds))
        return torch.tensor([Seeds(int(s)).child("random policy").integer() for s in self.seeds])

    def act(self, obs: Tree, carry: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        size = math.prod(self.space.shape or ())
        u = counter_uniform(carry, step, 2 * size)
        action = _spread(self.space, u[:, :size], u[:, size:])
        return action.reshape(len(carry), *(self.space.shape or ())).to(next(leaves(obs))[1].device), carry


def _spread(space: gymnasium.Space[Any], u: Tensor, v: Tensor) -> Tensor:
    """Actions [B, size] from two uniform numbers for each."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return (u * int(space.n)).long() + int(space.start)
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return (u * torch.from_numpy(space.nvec.astype("int64")).flatten()).long() + torch.from_numpy(
            space.start.astype("int64")).flatten()
    if isinstance(space, gymnasium.spaces.MultiBinary):
        return (u * 2).long()
    assert isinstance(space, gymnasium.spaces.Box)
    low, high = (torch.from_numpy(x.astype("float64")).flatten() for x in (space.low, space.high))
    exponential = -torch.log1p(-u)
    normal = torch.sqrt(2 * exponential) * torch.cos(2 * math.pi * v)
    below, above = torch.isfinite(low), torch.isfinite(high)
    finite_low, finite_high = torch.where(below, low, 0.0), torch.where(above, high, 0.0)
    half = torch.where(below, finite_low + exponential, torch.where(above, finite_high - exponential, normal))
    return torch.where(below & above, finite_low + u * (finite_high - finite_low), half).float()
