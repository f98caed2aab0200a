"""The hunter that need not search: exact plans where the whole process is written out."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor

from plaudit.core.errors import PlauditError
from plaudit.core.tree import Tree
from plaudit.optimize.hunting.arena import Arena, Candidate
from plaudit.optimize.tabular import finite_horizon, policy_iteration
from plaudit.tasks.tabular import TabularMDP

Index = Callable[[Tree], Int[Tensor, "B"]]
"""Observations [B, ...] to states."""
DISCOUNTS = (0.5, 0.9, 0.99)
_MOST_NUMBERS = 20_000_000


class Planned:
    """Acts by a table: [S] actions, or [K, S] with one row for each step (the last is repeated)."""

    def __init__(self, index: Index, table: Int[Tensor, "..."], first_action: int = 0) -> None:
        self.index, self.table, self.first_action = index, table, first_action

    def start(self, rows: int) -> None:
        """Nothing is remembered."""

    def act(self, obs: Tree, carry: None, *, step: int) -> tuple[Tensor, None]:
        """The table's actions."""
        table = self.table if self.table.ndim == 1 else self.table[min(step, len(self.table) - 1)]
        return table[self.index(obs)] + self.first_action, None


def hunt_planned(arena: Arena, mdp: TabularMDP, *, discount: float) -> list[Candidate]:
    """Optimal behaviours: for the sum over the horizon, and for the discounted sum at several discounts.

    Costs no steps. Needs a task that says which state an observation shows (`task.index`).

    Raises:
        PlauditError: when the task does not say it, or the plan would not fit into memory.
    """
    index = getattr(arena.task, "index", None)
    if index is None:
        raise PlauditError(f"{arena.task.name} does not say which state an observation shows (it has no `index`)")
    first = int(getattr(arena.task.action_space, "start", 0))
    found: list[Candidate] = []

    def add(name: str, table: Tensor, score: float, keep: bool) -> None:
        found.append(Candidate(name=name, origin="planned", policy=Planned(index, table, first), effort=arena.spent,
                               score=score, keep=keep))

    if mdp.S * arena.horizon <= _MOST_NUMBERS:
        whole = finite_horizon(mdp, arena.horizon, discount=1.0)
        add(f"optimal plan for {arena.horizon} steps", whole.policy, float(whole.expected_return), keep=True)
    for gamma in sorted({discount, *DISCOUNTS}, reverse=True):
        if gamma < 1:
            plan = policy_iteration(mdp.with_discount(gamma))
            add(f"optimal plan, discount {gamma:g}", plan.policy, float("nan"), keep=gamma == discount)
    return found
