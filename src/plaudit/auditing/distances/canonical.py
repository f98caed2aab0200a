"""Canonical rewards: one representative for all rewards that a finite process cannot tell apart.

Two rewards order all policies alike if they differ by a positive factor, by potential shaping
(R + discount * potential(s') - potential(s)) or by redistribution over next states (anything that keeps
E[R(s, a, S')]). A canonicalisation of STARC (Skalse et al. 2024, arXiv 2309.15257, definition 1) removes
the last two. EPIC (Gleave et al. 2021, arXiv 2006.13900) and DARD (Wulfe et al. 2022, arXiv 2201.10081)
remove shaping only.

Letters: R rewards, S states, A actions, N stored transitions, K the entries of a canonical reward.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plaudit.core.errors import BadInput, Unsupported
from plaudit.optimize.tabular import evaluate_rewards
from plaudit.tasks.tabular import TabularMDP

Canonical = Literal["none", "val", "val_potential", "minimal", "minimal_potential", "epic", "dard"]
Weighting = Literal["uniform", "transition"]
States = Literal["all", "reachable"]

_MANY = 2**27
"""Numbers of rewards (1 GiB) from which compiled loops are worth the second that they take to load."""
_REFINEMENTS = 2
"""Normal equations square the condition; solving again for what is left of the potential mends that."""


@dataclass(frozen=True, eq=False, kw_only=True)
class CanonicalRewards:
    """Canonical rewards as flat vectors, with the weight of each entry in a norm."""

    values: Float[Tensor, "*b R K"]
    uniform: Float[Tensor, "*w 1 K"] | None
    """How many transitions of S x A x S the entry stands for; None where some of those are not stored."""
    transition: Float[Tensor, "*w 1 K"]
    """The transition probability that the entry stands for."""
    expected: Float[Tensor, "*b R S A"]
    """Averaged over the next state."""
    scale: Float[Tensor, "*b R"]
    """The size of the reward before it was made canonical: the largest sqrt(E[R^2]) of a state and action."""

    def weight(self, kind: Weighting) -> Float[Tensor, "*w 1 K"]:
        """The weights of a norm.

        Raises:
            Unsupported: for uniform weights over transitions that a sparse process does not store.
        """
        if kind == "transition":
            return self.transition
        if self.uniform is None:
            raise Unsupported("a sparse process stores no rewards for impossible transitions, so a uniform norm of "
                              "this canonicalisation is undefined; use a norm and metric that begin with 'weighted_', "
                              "or canonical='val'")
        return self.uniform


def canonicalise(rewards: Tensor, mdp: TabularMDP, *, to: Tensor | None = None, canonical: Canonical = "val",
                 weighting: Weighting = "uniform", policy: Tensor | None = None, states: States = "all",
                 compiled: bool | None = None) -> CanonicalRewards:
    """Makes many rewards of one world canonical at once.

    Args:
        rewards: [*, R, S, A, S], where `*` are the leading axes of the dynamics; [R, N] for a sparse process.
        mdp: the dynamics and the discount; its own reward is not read.
        to: more rewards of the same shape; their canonical forms come behind those of the others.
        canonical: `val` E[R + discount * V(S') - V(s)] with V the value of `policy`; `val_potential` the
            same without the expectation (not invariant to redistribution); `minimal` the representative of
            least L2 norm; `minimal_potential` the same over potentials only; `epic`; `dard`; `none`.
        weighting: the weights of the L2 norm that the minimal ones minimise.
        policy: [S, A] of `val`; uniform by default.
        states: `reachable` gives no weight to states that no policy visits.
        compiled: whether `val` of dense worlds runs in compiled loops (extra `fast`), which differ in the last bits;
            None takes them where the arrays are so large that compiling pays.

    Raises:
        BadInput: for wrong shapes, unknown names, or rewards that pay in terminal states.
        Unsupported: EPIC and DARD of a sparse process.
        MissingExtra: for compiled loops without Numba.
    """
    if canonical not in get_args(Canonical):
        raise BadInput("canonical", expected=f"one of {get_args(Canonical)}", received=canonical)
    if states not in get_args(States):
        raise BadInput("states", expected=f"one of {get_args(States)}", received=states)
    parts = [_checked(x, mdp) for x in ((rewards,) if to is None else (rewards, to))]
    rows = mdp.reachable() if states == "reachable" else torch.ones_like(mdp.terminal)
    world = _World(mdp, rows)
    policy = mdp.uniform_policy() if policy is None else policy
    if canonical == "val" and worth_compiling(compiled, parts[0], mdp, policy):
        from plaudit.auditing.distances.compiled_val import forms

        form, scale = forms(parts, mdp, policy)
        _must_be_finite(scale, parts)
        return world.compact(form, scale)
    squares = world.mean_squares(parts)
    _must_be_finite(squares, parts)
    scale = squares.amax((-1, -2)).sqrt()
    if bool(mdp.terminal.any()) and bool((squares.amax(-1) * mdp.terminal.unsqueeze(-2) > 0).any()):
        raise BadInput("rewards", expected="0 on every transition out of a terminal state",
                       received="a terminal state that pays", fix="pay on the transition into it")
    if canonical == "val":
        expected = torch.cat([world.expected(x) for x in parts], -3)
        return world.compact(world.shaped_mean(expected, evaluate_rewards(mdp, expected, policy)), scale)
    rewards = parts[0] if to is None else torch.cat(parts, -2 if mdp.sparse else -4)
    if canonical == "val_potential":
        value = evaluate_rewards(mdp, world.expected(rewards), policy)
        return world.full(world.shaped(rewards, value), scale)
    if canonical == "minimal":
        return _minimal(rewards, world, weighting, scale)
    if canonical == "minimal_potential":
        for _ in range(_REFINEMENTS):
            rewards = world.shaped(rewards, _least_potential(rewards, world, weighting))
        return world.full(rewards, scale)
    if canonical == "none":
        return world.full(rewards, scale)
    if mdp.sparse:
        raise Unsupported(f"{canonical.upper()} reads the rewards of impossible transitions, which a sparse process "
                          "does not store; use mdp.dense(), or canonical='val'")
    return world.full(_epic(rewards, world) if canonical == "epic" else _dard(rewards, world), scale)


class _World:
    """The dense or sparse arrays of one process behind the few operations that canonicalisations need."""

    def __init__(self, mdp: TabularMDP, rows: Bool[Tensor, "*b S"]) -> None:
        self.mdp, self.gamma = mdp, mdp.discount
        self.here = (rows & ~mdp.terminal).double()
        """States whose rewards count: terminal ones have none."""
        self.there = rows.double()
        if isinstance(mdp.transition, Tensor):
            self.tau = mdp.transition
            self.transition = mdp.transition.unsqueeze(-4)
            self.source = self.target = torch.empty(0, dtype=torch.long)
        else:
            self.tau = torch.from_numpy(mdp.transition.data)
            self.transition = self.tau.unsqueeze(0)
            row, self.target = mdp.entries()
            self.row, self.source = row, row.div(mdp.A, rounding_mode="floor")

    def mean_squares(self, parts: list[Tensor]) -> Float[Tensor, "*b R S A"]:
        """E[R^2] over the next state, of the rewards of all parts."""
        if self.mdp.sparse or self.tau.device.type != "cpu":
            return torch.cat([self.expected(x * x) for x in parts], -3)
        tau = self.transition.numpy()
        return torch.cat([torch.from_numpy(np.einsum("...t,...t,...t->...", tau, x.numpy(), x.numpy()))
                          for x in parts], -3)

    def expected(self, x: Tensor) -> Float[Tensor, "*b R S A"]:
        """E over the next state of [*, R, S, A, S] or [R, N]."""
        if not self.mdp.sparse and self.tau.device.type == "cpu":  # one pass, and nothing as large in between
            return torch.from_numpy(np.einsum("...t,...t->...", self.transition.numpy(), x.numpy()))
        if not self.mdp.sparse:
            return (self.transition * x).sum(-1)
        out = x.new_zeros(x.shape[0], self.mdp.S * self.mdp.A).index_add_(-1, self.row, x * self.tau)
        return out.reshape(-1, self.mdp.S, self.mdp.A)

    def shaped_mean(self, expected: Float[Tensor, "*b R S A"],
                    potential: Float[Tensor, "*b R S"]) -> Float[Tensor, "*b R S A"]:
        if isinstance(self.mdp.transition, Tensor):
            after = self._after(self.tau, potential)
        else:
            after = torch.from_numpy((self.mdp.transition @ potential.numpy().T).T.copy()).reshape(expected.shape)
        return expected + self.gamma * after - potential.unsqueeze(-1)

    @staticmethod
    def _after(tau: Float[Tensor, "*w S A S"], potential: Float[Tensor, "*b R S"]) -> Float[Tensor, "*c R S A"]:
        """E[potential(S')]."""
        rows, columns = tau.flatten(-3, -2), potential.transpose(-1, -2)
        after = torch.from_numpy(np.matmul(rows.numpy(), columns.numpy())) if tau.device.type == "cpu" \
            else rows @ columns
        return after.transpose(-1, -2).unflatten(-1, tau.shape[-3:-1])

    def shaped(self, rewards: Tensor, potential: Float[Tensor, "*b R S"]) -> Tensor:
        """R + discount * potential(s') - potential(s)."""
        if self.mdp.sparse:
            return rewards + self.gamma * potential[..., self.target] - potential[..., self.source]
        return rewards + self.gamma * potential[..., None, None, :] - potential[..., :, None, None]

    def compact(self, values: Float[Tensor, "*b R S A"], scale: Tensor) -> CanonicalRewards:
        """Values that do not depend on the next state: S x A numbers stand for S x A x S."""
        here = self.here.unsqueeze(-1).expand(*self.here.shape, self.mdp.A).flatten(-2).unsqueeze(-2)
        counts = here * self.there.sum(-1)[..., None, None]
        return CanonicalRewards(values=values.flatten(-2), uniform=counts, transition=here, expected=values,
                                scale=scale)

    def full(self, values: Tensor, scale: Tensor) -> CanonicalRewards:
        expected = self.expected(values)
        uniform, transition = self.weights("uniform"), self.weights("transition")
        if self.mdp.sparse:
            return CanonicalRewards(values=values, uniform=None, transition=transition.unsqueeze(0), expected=expected,
                                    scale=scale)
        return CanonicalRewards(values=values.flatten(-3), uniform=uniform.flatten(-3).unsqueeze(-2),
                                transition=transition.flatten(-3).unsqueeze(-2), expected=expected, scale=scale)

    def weights(self, kind: Weighting) -> Tensor:
        """[*, S, A, S] or [N]."""
        if self.mdp.sparse:
            return self.here[self.source] * (self.tau if kind == "transition" else 1.0)
        live = self.here[..., :, None, None] * self.there[..., None, None, :]
        return live * self.tau if kind == "transition" else live.expand(
            *torch.broadcast_shapes(live.shape[:-3], self.tau.shape[:-3]), *self.tau.shape[-3:])


def _minimal(rewards: Tensor, world: _World, weighting: Weighting, scale: Tensor) -> CanonicalRewards:
    """Least L2 norm over shaping and redistribution.

    Redistribution first: of all x(s') with mean m = sum_s' tau x, the least sum of squares is
    m^2 / sum(tau^2), at x = m tau / sum(tau^2); with weights tau it is m^2, at x = m. What is left is
    least squares in the potential.
    """
    mean = world.expected(rewards)
    if weighting == "transition":
        cost = torch.ones_like(mean[..., 0, :, :])
    elif world.mdp.sparse:
        squares = world.tau.new_zeros(world.mdp.S * world.mdp.A).index_add_(0, world.row, world.tau**2)
        cost = (1 / squares).reshape(world.mdp.S, world.mdp.A)
    else:
        cost = 1 / (world.tau**2).sum(-1)
    for _ in range(_REFINEMENTS):
        mean = world.shaped_mean(mean, _least_mean_potential(mean, world, cost * world.here.unsqueeze(-1)))
    if weighting == "transition":
        return world.compact(mean, scale)
    spread = mean * cost.unsqueeze(-3)
    if not world.mdp.sparse:
        return world.full(spread.unsqueeze(-1) * world.transition, scale)
    values = spread.flatten(-2)[..., world.row] * world.tau
    uniform = world.weights("uniform")  # all impossible transitions are 0 here, so the stored ones say it all
    return CanonicalRewards(values=values, uniform=uniform.unsqueeze(0), expected=mean, scale=scale,
                            transition=world.weights("transition").unsqueeze(0))


def _least_mean_potential(mean: Tensor, world: _World, cost: Tensor) -> Float[Tensor, "*b R S"]:
    """argmin over potentials of sum cost * (mean + discount * P potential - potential)^2."""
    S, gamma = world.mdp.S, world.gamma
    if not isinstance(world.mdp.transition, Tensor):
        from scipy.sparse import diags_array, eye_array, kron

        stay = kron(eye_array(S), torch.ones(world.mdp.A, 1).numpy())
        design = (gamma * world.mdp.transition - stay).tocsr()
        weighted = diags_array(cost.reshape(-1).numpy()) @ design
        right = -(weighted.T @ mean.flatten(-2).numpy().T).T
        return _sparse_normal(design.T @ weighted, right, world.here)
    design = gamma * world.tau - torch.eye(S, dtype=world.tau.dtype).unsqueeze(-2)
    weighted = cost.unsqueeze(-1) * design
    left = torch.einsum("...sai,...saj->...ij", weighted, design)
    right = -torch.einsum("...sai,...rsa->...ri", weighted, mean)
    return _normal(left, right, world.here)


def _least_potential(rewards: Tensor, world: _World, weighting: Weighting) -> Float[Tensor, "*b R S"]:
    """argmin over potentials of sum w * (R + discount * potential(s') - potential(s))^2."""
    gamma, S = world.gamma, world.mdp.S
    weight = world.weights(weighting)
    if world.mdp.sparse:
        from scipy.sparse import coo_array, diags_array

        if weighting == "uniform":
            raise Unsupported("a sparse process stores no rewards for impossible transitions; use norm='weighted_l2'")
        total = lambda index, x: x.new_zeros(*x.shape[:-1], S).index_add_(-1, index, x)  # noqa: E731
        between = coo_array((weight.numpy(), (world.source.numpy(), world.target.numpy())), shape=(S, S)).tocsr()
        diagonal = gamma**2 * total(world.target, weight) + total(world.source, weight)
        left = diags_array(diagonal.numpy()) - gamma * (between + between.T)
        right = total(world.source, weight * rewards) - gamma * total(world.target, weight * rewards)
        return _sparse_normal(left, right.numpy(), world.here)
    between = weight.sum(-2)
    diagonal = gamma**2 * between.sum(-2) + between.sum(-1)
    left = torch.diag_embed(diagonal) - gamma * (between + between.transpose(-1, -2))
    paid = weight.unsqueeze(-4) * rewards
    return _normal(left, paid.sum((-1, -2)) - gamma * paid.sum((-2, -3)), world.here)


def _normal(left: Tensor, right: Float[Tensor, "*b R S"], free: Tensor) -> Float[Tensor, "*b R S"]:
    """Solves the normal equations with the potential fixed at 0 where it is not free (terminal, without weight)."""
    free = free.expand(left.shape[:-1])
    left = left * free.unsqueeze(-1) * free.unsqueeze(-2) + torch.diag_embed(1 - free)
    return torch.linalg.solve(left, (right * free.unsqueeze(-2)).transpose(-1, -2)).transpose(-1, -2)


def _sparse_normal(left: Any, right: np.ndarray, free: Tensor) -> Float[Tensor, "R S"]:
    from scipy.sparse.linalg import splu

    keep = np.flatnonzero(free.numpy())
    out = torch.zeros(right.shape, dtype=torch.float64)
    solved = splu(left.tocsr()[keep][:, keep].tocsc()).solve(np.ascontiguousarray(right[:, keep].T))
    out[:, torch.from_numpy(keep)] = torch.from_numpy(np.ascontiguousarray(solved.T))
    return out


def _epic(rewards: Tensor, world: _World) -> Tensor:
    """R + E[discount * R(s', A, S') - R(s, A, S') - discount * R(S, A, S')] with uniform S, A, S'."""
    share = world.there / world.there.sum(-1, keepdim=True)
    mean = torch.einsum("...rsat,...t->...rs", rewards, share) / world.mdp.A
    overall = torch.einsum("...rs,...s->...r", mean, share)
    return world.shaped(rewards, mean) - world.gamma * overall[..., None, None, None]


def _dard(rewards: Tensor, world: _World) -> Tensor:
    """R + E[discount * R(s', A, S'') - R(s, A, S') - discount * R(S', A, S'')], S' after (s, A), S'' after (s', A)."""
    mean = world.expected(rewards).mean(-1)
    by_action = world.tau.movedim(-2, -3).unsqueeze(-4)
    crossed = (by_action @ rewards.movedim(-2, -3) @ by_action.transpose(-1, -2)).mean(-3)
    return world.shaped(rewards, mean) - world.gamma * crossed.unsqueeze(-2)


def _checked(rewards: Tensor, mdp: TabularMDP) -> Tensor:
    rewards = torch.as_tensor(rewards)
    if isinstance(mdp.transition, Tensor):
        wanted = (mdp.S, mdp.A, mdp.S)
        worlds = torch.broadcast_shapes(mdp.transition.shape[:-3], mdp.initial.shape[:-1], mdp.terminal.shape[:-1])
        good = rewards.ndim == 4 + len(worlds) and tuple(rewards.shape[-3:]) == wanted
        good = good and rewards.shape[:len(worlds)] == worlds
        form = f"shape {[*worlds, 'R', *wanted]}"
    else:
        good = rewards.ndim == 2 and rewards.shape[-1] == mdp.transition.nnz
        form = f"shape ['R', {mdp.transition.nnz}] (one number for each stored transition)"
    if not good:
        raise BadInput("rewards", expected=form, received=list(rewards.shape),
                       fix="stack the rewards along one axis R before the transition axes")
    return rewards.to(torch.float64)


def _must_be_finite(squares: Tensor, parts: list[Tensor]) -> None:
    """NaN and infinity stay in every sum of squares, also beside a probability of 0."""
    if not bool(torch.isfinite(squares).all()) and not all(bool(torch.isfinite(x).all()) for x in parts):
        raise BadInput("rewards", expected="finite numbers", received="NaN or infinity")


def worth_compiling(compiled: bool | None, rewards: Tensor, mdp: TabularMDP, policy: Tensor | None = None) -> bool:
    """Whether the compiled loops can and shall make these rewards canonical."""
    if compiled is None:
        compiled = rewards.numel() >= _MANY and importlib.util.find_spec("numba") is not None
    if not compiled or not isinstance(mdp.transition, Tensor) or bool(mdp.terminal.any()):
        return False
    plain = policy is None or tuple(policy.shape) == (mdp.S, mdp.A) and policy.is_floating_point()
    return plain and mdp.transition.device.type == "cpu" and mdp.transition.shape[:-3] == rewards.shape[:-4]
