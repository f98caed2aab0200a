"""Is a part of a reward a potential difference, discount * phi(s') - phi(s)? The share of it that is not.

Shaping of this form changes no optimal policy (Ng, Harada and Russell 1999); anything else may. phi is 0 where the
episode has ended, else the end itself would be paid for. In a finite process the least-squares potential is exact;
elsewhere phi is a ridge regression on random features, judged on episodes that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.auditing.checks.ranking import flat
from plaudit.core.algebra import Node
from plaudit.core.episodes import Episodes
from plaudit.core.errors import BadInput
from plaudit.core.needs import Needs
from plaudit.core.reward import Reward
from plaudit.core.score import Score
from plaudit.core.tree import Tree, tree_map
from plaudit.tasks.tabular import TabularMDP

DENSE = "what is paid before the end"
"""The name of everything that a reward pays at steps that do not end the episode."""
_DENSE_NUMBERS = 20_000_000
_FEATURES = 192
_MOST = 8000


class Term(Node):
    """What one term of a reward pays, its weight included; `DENSE` names all that is paid before the end.

    Example:
        >>> from plaudit.core.functions import reward
        >>> both = reward(lambda next_obs: {"a": next_obs[..., 0], "b": 2 * next_obs[..., 0]})
        >>> e = Episodes.of_steps(obs=torch.zeros(2, 1), action=torch.zeros(2), next_obs=torch.ones(2, 1))
        >>> Term(both, "b")(e).tolist()
        [[2.0, 2.0]]
    """

    def __init__(self, inner: Reward, term: str) -> None:
        super().__init__([inner], name=term)
        self.term = term
        self.needs = self.needs.including("terminated")

    def combine(self, scores: Sequence[Score], episodes: Episodes) -> Score:
        return Score.of(paid_by(scores[0], self.term, episodes.terminated), mask=scores[0].mask, why=scores[0].why)


def paid_by(score: Score, term: str, terminated_BT: Tensor) -> Float[Tensor, "B T"]:
    """What a term paid at each step.

    Raises:
        BadInput: when the reward has no such term.
    """
    if term == DENSE:
        return torch.where(terminated_BT, 0.0, score.value)
    if term not in score.terms:
        raise BadInput("term", expected=f"one of {sorted(score.terms)}", received=term)
    return score.contribution(term)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """The potential that comes closest to a reward."""

    unexplained: float
    """The share of the reward's square that is no potential difference, in [0, 1]."""
    discount: float
    potential: Reward
    """phi, a reward that reads `obs` alone."""
    exact: bool
    """Whether it rests on the whole process rather than on samples."""


# --- exact -------------------------------------------------------------------------------------------------


def exact_fit(mdp: TabularMDP, *, discount: float | None = None) -> tuple[float, Float[Tensor, "S"]]:
    """The share of the reward of a finite process that is no potential difference, and the best potential.

    Least squares over all transitions that can happen from reachable states, each counted once, at the
    discount of the process or another one (1 is allowed).

    Example:
        >>> mdp = TabularMDP.of_transitions(state=[0, 1], action=[0, 0], next_state=[1, 2], probability=[1.0, 1.0],
        ...     reward=[3.0, -7.0], states=3, actions=1, initial=[1.0, 0.0, 0.0], terminal=[False, False, True],
        ...     discount=0.5)
        >>> round(exact_fit(mdp)[0], 9)
        0.0
    """
    gamma = mdp.discount if discount is None else discount
    one = mdp.to_sparse()
    row, column = one.entries()
    source = row // mdp.A
    live = mdp.reachable()[source] & ~mdp.terminal[source]
    source, column, reward = source[live].numpy(), column[live].numpy(), one.reward[live].numpy()
    size = float(reward @ reward)
    if size == 0:
        return 0.0, torch.zeros(mdp.S, dtype=torch.float64)
    after = np.where(mdp.terminal.numpy()[column], 0.0, gamma)
    phi = _solve(source, column, after, reward, mdp.S)
    left = reward - (after * phi[column] - phi[source])
    return min(1.0, float(left @ left) / size), torch.from_numpy(phi)


def _solve(source: np.ndarray, column: np.ndarray, after: np.ndarray, reward: np.ndarray, S: int) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import lsqr

    n = np.arange(reward.size)
    design = coo_array((np.concatenate([after, -np.ones(n.size)]), (np.tile(n, 2), np.concatenate([column, source]))),
                       shape=(n.size, S)).tocsr()
    if n.size * S <= _DENSE_NUMBERS:
        return np.linalg.lstsq(design.toarray(), reward, rcond=1e-12)[0]
    return lsqr(design, reward, atol=1e-12, btol=1e-12, iter_lim=4 * S)[0]


class TablePotential(Reward):
    """A potential that looks its state up in a table; `index` turns observations into states."""

    def __init__(self, index: Callable[[Any], Tensor], phi_S: Float[Tensor, "S"], *, name: str = "potential") -> None:
        self.index, self.phi_S, self.name = index, phi_S, name
        self.needs = Needs(fields=frozenset({"obs"}))

    def evaluate(self, episodes: Episodes) -> Score:
        state = self.index(episodes.obs)
        return Score.of(self.phi_S[state].float().to(episodes.device), mask=episodes.mask)


# --- sampled -----------------------------------------------------------------------------------------------


class FittedPotential(Reward):
    """A potential on random Fourier features of the observation, beside the observation and its squares."""

    def __init__(self, mean_D: Tensor, std_D: Tensor, *, seed: int = 0, name: str = "potential") -> None:
        self.mean_D, self.std_D, self.name = mean_D, std_D, name
        self.needs = Needs(fields=frozenset({"obs"}))
        generator = torch.Generator().manual_seed(seed)
        D = len(mean_D)
        scale = torch.tensor([0.3, 1.0, 2.0]).repeat(_FEATURES // 3 + 1)[:_FEATURES] / math.sqrt(D)
        self.frequency_DK = torch.randn(D, _FEATURES, generator=generator, dtype=torch.float64) * scale
        self.phase_K = torch.rand(_FEATURES, generator=generator, dtype=torch.float64) * 2 * math.pi
        self.weight = torch.zeros(1 + 2 * D + _FEATURES, dtype=torch.float64)

    def features(self, obs_ND: Float[Tensor, "N D"]) -> Float[Tensor, "N K"]:
        """A constant, the scaled observation, its squares, and cosines of it."""
        z = ((obs_ND.double() - self.mean_D) / self.std_D).clamp(-10, 10)
        waves = torch.cos(z @ self.frequency_DK + self.phase_K) * math.sqrt(2 / _FEATURES)
        return torch.cat([torch.ones(len(z), 1, dtype=torch.float64), z, z.square(), waves], 1)

    def evaluate(self, episodes: Episodes) -> Score:
        B, T = episodes.B, episodes.T
        obs = flat_steps(episodes.obs, B, T)
        return Score.of((self.features(obs) @ self.weight).float().reshape(B, T), mask=episodes.mask)


def flat_steps(obs: Tree, B: int, T: int) -> Float[Tensor, "N D"]:
    """Observations [B, T, ...] as numbers [B * T, D]."""
    return flat(tree_map(lambda x: x.reshape(B * T, *x.shape[2:]), obs))


def sampled_fit(episodes: Sequence[Episodes], reward: Reward, *, discount: float, seed: int = 0) -> Fit | None:
    """The potential that explains a reward best on some episodes, judged on the others.

    Every second batch is held out, so that phi must hold for behaviours that it was not fitted to: along one
    behaviour alone, every reward is the difference of its own value function.

    Args:
        episodes: batches of different behaviours, random ones among them; at least two.
        reward: the term.
        discount: in [0, 1].
        seed: of the random features and of the choice of transitions.

    Returns:
        The fit, or None where the reward is unknown at a step or never pays.
    """
    parts = [_parts(e, reward) for e in episodes]
    if len(parts) < 2 or any(p is None for p in parts):
        return None
    seen, unseen = ([p for p in parts[i::2] if p is not None] for i in (0, 1))
    fit, test = (_sample([torch.cat(x) for x in zip(*some, strict=True)], seed) for some in (seen, unseen))
    size = float(test[3].square().sum())
    if size == 0 or float(fit[3].square().sum()) == 0:
        return None
    both = torch.cat([fit[0], test[0]]).double()
    phi = FittedPotential(both.mean(0), both.std(0, correction=0).clamp(min=1e-6), seed=seed)

    def design(obs: Tensor, next_obs: Tensor, ended: Tensor) -> Tensor:
        return discount * torch.where(ended.unsqueeze(1), 0.0, phi.features(next_obs)) - phi.features(obs)

    X, y = design(*fit[:3]), fit[3].double()
    gram = X.T @ X
    ridge = 1e-8 * float(gram.diagonal().mean()) * torch.eye(len(gram), dtype=torch.float64)
    phi.weight = torch.linalg.solve(gram + ridge, X.T @ y)
    left = test[3].double() - design(*test[:3]) @ phi.weight
    unexplained = min(1.0, float(left.square().sum()) / size)
    return Fit(unexplained=unexplained, discount=discount, potential=phi, exact=False)


def _parts(episodes: Episodes, reward: Reward) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    score, where = reward.score(episodes), episodes.mask.flatten()
    if not score.all_known:
        return None
    obs, after = (flat_steps(x, episodes.B, episodes.T)[where] for x in (episodes.obs, episodes.next_obs))
    return obs, after, episodes.terminated.flatten()[where], score.value.flatten()[where]


def _sample(parts: Sequence[Tensor], seed: int) -> list[Tensor]:
    n = len(parts[0])
    if n <= _MOST:
        return list(parts)
    keep = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:_MOST]
    return [p[keep] for p in parts]
