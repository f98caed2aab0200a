"""Finite Markov decision processes whose every probability and reward is written out, dense or sparse.

Letters: S states, A actions, N the stored transitions of a sparse process; `*` any leading batch axes.
The world is discounted and infinite: an episode that ends is a state that is left no more and pays nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plaudit.core.errors import BadInput

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_ROW_TOLERANCE = 1e-6
_DENSE_LIMIT = 2**22
"""`of_transitions` stores up to this many numbers densely (32 MiB)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TabularMDP:
    """A finite Markov decision process, dense or sparse.

    The leading axes of `transition`, `reward`, `initial` and `terminal` are broadcast against each other,
    so that one set of dynamics can carry many rewards: transition [S, A, S] with reward [R, S, A, S].

    Raises:
        BadInput: when shapes disagree, a row of `transition` is no distribution, the discount is not in
            [0, 1), or a terminal state can be left or pays.

    Example:
        >>> stay, go = torch.eye(2), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> mdp = TabularMDP(transition=torch.stack([stay, go], 1), reward=torch.zeros(2, 2, 2),
        ...                  initial=torch.tensor([1.0, 0.0]), terminal=torch.tensor([False, True]), discount=0.9)
        >>> (mdp.S, mdp.A, mdp.sparse)
        (2, 2, False)
    """

    transition: Tensor | csr_array
    """Dense [*, S, A, S]: the probability of s' after a in s. Or scipy CSR [S * A, S], row `s * A + a`."""
    reward: Tensor
    """Dense [*, S, A, S]. With a sparse transition [*, N], one for each stored entry, in CSR order."""
    initial: Tensor
    """[*, S] distribution of the first state."""
    terminal: Tensor
    """[*, S] bool: absorbing states that pay nothing."""
    discount: float

    def __post_init__(self) -> None:
        if not 0 <= self.discount < 1:
            raise BadInput("discount", expected="a number in [0, 1)", received=self.discount,
                           fix="pass a discount below 1; for sums without discount plan over a finite horizon "
                               "(plaudit.optimize.tabular.finite_horizon)")
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        set_("initial", torch.as_tensor(self.initial, dtype=torch.float64))
        set_("terminal", torch.as_tensor(self.terminal))
        set_("reward", torch.as_tensor(self.reward, dtype=torch.float64))
        set_("transition", _dense_transition(self.transition) if isinstance(self.transition, Tensor)
             else _sparse_transition(self.transition, self.initial.shape[-1]))
        self._check_shapes()
        _check_distribution("initial", self.initial)
        self._check_reward()

    # --- sizes -------------------------------------------------------------------------------------------

    @property
    def sparse(self) -> bool:
        return not isinstance(self.transition, Tensor)

    @property
    def S(self) -> int:
        """The number of states."""
        return self.initial.shape[-1]

    @property
    def A(self) -> int:
        """The number of actions."""
        if isinstance(self.transition, Tensor):
            return self.transition.shape[-2]
        return (self.transition.indptr.size - 1) // self.S

    @property
    def batch(self) -> torch.Size:
        """The leading axes, after broadcasting."""
        head = self.transition.shape[:-3] if isinstance(self.transition, Tensor) else torch.Size()
        tail = 1 if self.sparse else 3
        return torch.broadcast_shapes(head, self.reward.shape[:-tail], self.initial.shape[:-1],
                                      self.terminal.shape[:-1])

    def __repr__(self) -> str:
        form = f"sparse, N={self.transition.nnz}" if not isinstance(self.transition, Tensor) else "dense"
        return f"TabularMDP(S={self.S}, A={self.A}, {form}, batch={list(self.batch)}, discount={self.discount})"

    # --- changing ----------------------------------------------------------------------------------------

    def with_reward(self, reward: Tensor) -> TabularMDP:
        """The same world with another reward: [*, S, A, S], or [*, N] where sparse."""
        out = object.__new__(TabularMDP)  # the dynamics need no second check
        for f in fields(self):
            object.__setattr__(out, f.name, getattr(self, f.name))
        object.__setattr__(out, "reward", torch.as_tensor(reward, dtype=torch.float64))
        out._check_shapes()
        out._check_reward()
        return out

    def with_discount(self, discount: float) -> TabularMDP:
        """The same world with another discount."""
        return replace(self, discount=discount)

    def __getitem__(self, worlds: int | slice) -> TabularMDP:
        """Some of the processes along the first leading axis (an integer takes that axis away)."""
        if not self.batch or self.sparse:
            raise BadInput("mdp", expected="dense processes with a leading axis", received=repr(self))
        n, depth = self.batch[0], len(self.batch)
        out = object.__new__(TabularMDP)  # parts of what was checked need no second check
        for f in fields(self):
            value, own = getattr(self, f.name), {"transition": 3, "reward": 3, "initial": 1, "terminal": 1}.get(f.name)
            if own is not None and value.ndim == own + depth:
                value = (value if value.shape[0] == n else value.expand(n, *value.shape[1:]))[worlds]
            object.__setattr__(out, f.name, value)
        return out

    def dense(self) -> TabularMDP:
        """The same process with tensors; impossible transitions get reward 0."""
        if isinstance(self.transition, Tensor):
            return self
        row, column = self.entries()
        reward = torch.zeros((*self.reward.shape[:-1], self.S * self.A, self.S), dtype=torch.float64)
        reward[..., row, column] = self.reward
        full = torch.from_numpy(self.transition.toarray())
        return replace(self, transition=full.reshape(self.S, self.A, self.S),
                       reward=reward.reshape(*self.reward.shape[:-1], self.S, self.A, self.S))

    def to_sparse(self) -> TabularMDP:
        """The same process in CSR form, which forgets the rewards of impossible transitions.

        Raises:
            BadInput: when the dynamics have batch axes.
        """
        from scipy.sparse import csr_array

        if not isinstance(self.transition, Tensor):
            return self
        if self.transition.ndim != 3:
            raise BadInput("transition", expected="shape [S, A, S] to become sparse",
                           received=list(self.transition.shape), fix="convert one process at a time")
        matrix = csr_array(self.transition.reshape(-1, self.S).numpy())
        row, column = _entries(matrix)
        flat = self.reward.reshape(*self.reward.shape[:-3], -1, self.S)
        return replace(self, transition=matrix, reward=flat[..., row, column])

    # --- reading -----------------------------------------------------------------------------------------

    def entries(self) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
        """Row `s * A + a` and next state of every stored entry of a sparse transition, in CSR order."""
        if isinstance(self.transition, Tensor):
            raise BadInput("mdp", expected="a sparse process", received="a dense one", fix="call to_sparse() first")
        return _entries(self.transition)

    def expected_reward(self) -> Float[Tensor, "*b S A"]:
        """The reward of each action, averaged over where it leads."""
        if isinstance(self.transition, Tensor):
            return torch.einsum("...sat,...sat->...sa", self.transition, self.reward)
        row, _ = self.entries()
        weighted = self.reward * torch.from_numpy(self.transition.data)
        out = weighted.new_zeros((*weighted.shape[:-1], self.S * self.A)).index_add_(-1, row, weighted)
        return out.reshape(*weighted.shape[:-1], self.S, self.A)

    def uniform_policy(self) -> Float[Tensor, "S A"]:
        """All actions alike in every state."""
        return torch.full((self.S, self.A), 1.0 / self.A, dtype=torch.float64)

    def reachable(self) -> Bool[Tensor, "*b S"]:
        """The states that some policy visits with positive probability from `initial`."""
        found = self.initial > 0
        if isinstance(self.transition, Tensor):
            edge = (self.transition > 0).any(-2).to(torch.float64)
            found = found.expand(torch.broadcast_shapes(found.shape, edge.shape[:-1]))
            step = lambda now: torch.einsum("...s,...st->...t", now.to(torch.float64), edge) > 0  # noqa: E731
        else:
            row, column = self.entries()
            source = row.div(self.A, rounding_mode="floor")
            live = torch.from_numpy(self.transition.data) > 0
            source, column = source[live], column[live]
            step = lambda now: torch.zeros_like(now, dtype=torch.int64).index_add_(  # noqa: E731
                -1, column, now[..., source].long()) > 0
        while True:
            more = found | step(found)
            if bool((more == found).all()):
                return more
            found = more

    # --- making ------------------------------------------------------------------------------------------

    @staticmethod
    def of_transitions(*, state: Any, action: Any, next_state: Any, probability: Any, reward: Any, states: int,
                       actions: int, initial: Any, terminal: Any = None, discount: float,
                       sparse: bool | None = None) -> TabularMDP:
        """Makes a process from a list of its transitions, as a simulator would write them down.

        Transitions named twice are joined: probabilities added, rewards averaged by them. Terminal
        states need no transitions. `sparse=None` stores small processes densely.

        Args:
            state: indices [N].
            action: indices [N].
            next_state: indices [N].
            probability: numbers [N].
            reward: numbers [N].
            states: how many states there are.
            actions: how many actions there are.
            initial: [S] distribution.
            terminal: [S] bool; none by default.
            discount: in [0, 1).
            sparse: the form, or None to let the size decide.

        Example:
            >>> mdp = TabularMDP.of_transitions(state=[0], action=[0], next_state=[1], probability=[1.0], reward=[5.0],
            ...     states=2, actions=1, initial=[1.0, 0.0], terminal=[False, True], discount=0.9)
            >>> mdp.expected_reward().tolist()
            [[5.0], [0.0]]
        """
        s, a, t = (np.asarray(x, dtype=np.int64) for x in (state, action, next_state))
        p, r = (np.asarray(x, dtype=np.float64) for x in (probability, reward))
        ends = np.zeros(states, dtype=bool) if terminal is None else np.asarray(terminal, dtype=bool)
        for name, index, limit in (("state", s, states), ("action", a, actions), ("next_state", t, states)):
            if index.size and not (0 <= index.min() and index.max() < limit):
                raise BadInput(name, expected=f"indices in [0, {limit})", received=f"{index.min()}..{index.max()}")
        stays = ~ends[s]
        absorbing = np.repeat(np.flatnonzero(ends), actions)
        row = np.concatenate([(s * actions + a)[stays], absorbing * actions + np.tile(np.arange(actions), ends.sum())])
        column = np.concatenate([t[stays], absorbing])
        p = np.concatenate([p[stays], np.ones(absorbing.size)])
        r = np.concatenate([r[stays], np.zeros(absorbing.size)])
        return _assemble(row, column, p, r, states=states, actions=actions, initial=torch.as_tensor(initial),
                         terminal=torch.from_numpy(ends), discount=discount, sparse=sparse)

    # --- checks ------------------------------------------------------------------------------------------

    def _check_shapes(self) -> None:
        S, A = self.S, self.A
        if isinstance(self.transition, Tensor):
            wanted, tail = (S, A, S), 3
            form = "[*, S, A, S]"
        else:
            wanted, tail = (self.transition.nnz,), 1
            form = "[*, N], one number for each stored transition"
        if tuple(self.reward.shape[-tail:]) != wanted:
            raise BadInput("reward", expected=f"shape {form} ending in {list(wanted)}",
                           received=list(self.reward.shape))
        if self.terminal.dtype != torch.bool or self.terminal.shape[-1] != S:
            raise BadInput("terminal", expected=f"bool of shape [*, {S}]",
                           received=f"{self.terminal.dtype} {list(self.terminal.shape)}")
        try:
            _ = self.batch
        except RuntimeError as error:
            raise BadInput("mdp", expected="leading axes that broadcast", received=str(error)) from error

    def _check_reward(self) -> None:
        if not bool(torch.isfinite(self.reward).all()):
            raise BadInput("reward", expected="finite numbers", received=f"{int((~torch.isfinite(self.reward)).sum())} "
                           "entries that are not", fix="give impossible transitions any finite reward, such as 0")
        if bool(self.terminal.any()):
            self._check_terminal()

    def _check_terminal(self) -> None:
        if isinstance(self.transition, Tensor):
            stay = self.transition.diagonal(dim1=-3, dim2=-1).movedim(-1, -2).amin(-1)
            pays = ((self.transition > 0) & (self.reward != 0)).any(-1).any(-1)
        else:
            row, column = self.entries()
            source = row.div(self.A, rounding_mode="floor")
            leaves = (source != column) & (torch.from_numpy(self.transition.data) > 0)
            stay = 1.0 - torch.zeros(self.S).index_add_(0, source, leaves.float()).clamp(max=1)
            hit = (self.reward != 0).reshape(-1, row.numel()).any(0).long()
            pays = torch.zeros(self.S, dtype=torch.int64).index_add_(0, source, hit) > 0
        if bool((self.terminal & (stay < 1 - _ROW_TOLERANCE)).any()):
            raise BadInput("terminal", expected="absorbing states (every action leads back to the state)",
                           received="a terminal state that can be left",
                           fix="set transition[s, :, s] = 1, or build with TabularMDP.of_transitions")
        if bool((self.terminal & pays).any()):
            raise BadInput("reward", expected="0 on every transition out of a terminal state",
                           received="a terminal state that pays", fix="pay on the transition into it")


def random_mdp(*, states: int = 32, actions: int = 4, discount: float = 0.95, batch: tuple[int, ...] = (),
               seed: int = 0) -> TabularMDP:
    """Random dense dynamics as in the STARC experiments, with reward 0 and a uniform first state.

    Logits are standard normal; those below one standard deviation become -20 before the softmax, so
    that an action leads to about 16% of the states. (Skalse et al. 2024, arXiv 2309.15257, section 5.)

    Example:
        >>> random_mdp(states=5, actions=2, batch=(3,), seed=1)
        TabularMDP(S=5, A=2, dense, batch=[3], discount=0.95)
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, states, actions, states)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    transition = torch.where(logits < 1.0, -20.0, logits).softmax(-1)
    return TabularMDP(
        transition=transition, reward=torch.zeros(states, actions, states, dtype=torch.float64),
        initial=torch.full((states,), 1.0 / states, dtype=torch.float64),
        terminal=torch.zeros(states, dtype=torch.bool), discount=discount)


def _assemble(row: np.ndarray, column: np.ndarray, p: np.ndarray, r: np.ndarray, *, states: int, actions: int,
              initial: Tensor, terminal: Tensor, discount: float, sparse: bool | None) -> TabularMDP:
    from scipy.sparse import csr_array

    key, where = np.unique(row * states + column, return_inverse=True)
    mass = np.bincount(where, weights=p, minlength=key.size)
    paid = np.bincount(where, weights=p * r, minlength=key.size)
    reward = np.divide(paid, mass, out=np.zeros_like(paid), where=mass > 0)
    matrix = csr_array((mass, (key // states, key % states)), shape=(states * actions, states))
    mdp = TabularMDP(transition=matrix, reward=torch.from_numpy(reward), initial=initial, terminal=terminal,
                     discount=discount)
    small = states * actions * states <= _DENSE_LIMIT
    return mdp if (not small if sparse is None else sparse) else mdp.dense()


def _entries(matrix: csr_array) -> tuple[Tensor, Tensor]:
    row = np.repeat(np.arange(matrix.indptr.size - 1), np.diff(matrix.indptr))
    return torch.from_numpy(row), torch.from_numpy(matrix.indices.astype(np.int64))


def _dense_transition(transition: Tensor) -> Tensor:
    if transition.ndim < 3 or transition.shape[-1] != transition.shape[-3]:
        raise BadInput("transition", expected="shape [*, S, A, S]", received=list(transition.shape))
    out = transition.to(torch.float64)
    _check_distribution("transition", out)
    total = out.sum(-1, keepdim=True)
    return out if bool(((total - 1).abs() < 1e-12).all()) else out / total


def _sparse_transition(transition: Any, S: int) -> csr_array:
    from scipy.sparse import csr_array, issparse

    if not issparse(transition) or transition.format != "csr":
        raise BadInput("transition", expected="a tensor [*, S, A, S] or a scipy CSR matrix [S * A, S]",
                       received=type(transition).__name__)
    rows, columns = transition.shape
    if columns != S or rows == 0 or rows % S:
        raise BadInput("transition", expected=f"shape [S * A, S] with S = {S}", received=list(transition.shape))
    if not transition.has_canonical_format:
        raise BadInput("transition", expected="sorted CSR indices without duplicates", received="another order",
                       fix="build with TabularMDP.of_transitions")
    out = csr_array(transition, dtype=np.float64, copy=True)
    total = np.asarray(out.sum(1)).ravel()
    if (out.data < 0).any() or not (np.abs(total - 1) <= _ROW_TOLERANCE).all():
        worst = int(np.abs(total - 1).argmax())
        raise BadInput("transition", expected="probabilities that sum to 1 for every state and action",
                       received=f"{total[worst]:.6g} in row {worst} (state {worst // (rows // S)})",
                       fix="divide each row by its sum")
    if not (np.abs(total - 1) < 1e-12).all():
        out.data /= np.repeat(total, np.diff(out.indptr))
    return out


def _check_distribution(name: str, probability: Tensor) -> None:
    total = probability.sum(-1)
    good = (probability >= 0).all(-1) & ((total - 1).abs() <= _ROW_TOLERANCE)
    if not bool(good.all()):
        where = [int(i) for i in (~good).nonzero()[0]] if good.ndim else []
        raise BadInput(name, expected="probabilities that sum to 1 along the last axis",
                       received=f"a row with sum {float(total[tuple(where)]):.6g} at index {where}",
                       fix="divide each row by its sum")
