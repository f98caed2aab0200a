"""VAL of many worlds in compiled loops: each world's arrays are read once, while they lie in the core's cache.

Letters: W worlds, S states, A actions, R rewards. Needs Numba; imported when it is used. The compiled functions have no
annotations, because the tests' shape checks would wrap them.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plaudit.core.compiled import compiled
from plaudit.tasks.tabular import TabularMDP


def forms(parts: list[Float[Tensor, "*b R S A S"]], mdp: TabularMDP, policy: Float[Tensor, "S A"],
          ) -> tuple[Float[Tensor, "*b N S A"], Float[Tensor, "*b N"]]:
    """E[R + discount * V(S') - V(s)] of the rewards of all parts, and the largest sqrt(E[R^2]) of each.

    The dynamics have all leading axes `*b`; N is the number of rewards of all parts together.
    """
    head, (S, A) = parts[0].shape[:-4], (mdp.S, mdp.A)
    tau = mdp.transition.reshape(-1, S, A, S).numpy()  # pyright: ignore[reportAttributeAccessIssue]
    arrays = [part.reshape(len(tau), -1, S, A, S).numpy() for part in parts]
    out = np.empty((len(tau), sum(a.shape[1] for a in arrays), S, A))
    scale = np.zeros(out.shape[:2])
    _forms(tau, arrays[0], arrays[-1], len(arrays), policy.numpy(), mdp.discount, out, scale)
    return torch.from_numpy(out).reshape(*head, -1, S, A), torch.from_numpy(scale).reshape(*head, -1)


@compiled
def _forms(tau, first, second, parts, policy, discount, out, scale):
    W, S, A, _ = tau.shape
    R = out.shape[1]
    matrix, value = np.empty((S, S)), np.empty((R, S))
    for w in range(W):
        _expect(tau[w], first[w], out[w], scale[w])
        if parts == 2:
            _expect(tau[w], second[w], out[w, first.shape[1]:], scale[w, first.shape[1]:])
        _equations(tau[w], policy, discount, matrix)
        for r in range(R):
            for s in range(S):
                value[r, s] = 0.0
                for a in range(A):
                    value[r, s] += policy[s, a] * out[w, r, s, a]
        _solve(matrix, value)
        for r in range(R):
            for s in range(S):
                for a in range(A):
                    after = 0.0
                    for t in range(S):
                        after += tau[w, s, a, t] * value[r, t]
                    out[w, r, s, a] += discount * after - value[r, s]


@compiled
def _expect(tau, reward, mean, scale):
    """E[R] of every state and action, and the largest sqrt(E[R^2]); NaN and infinity end up in both."""
    R, S, A, _ = reward.shape
    for r in range(R):
        most = 0.0
        for s in range(S):
            for a in range(A):
                x, xx = 0.0, 0.0
                for t in range(S):
                    paid = tau[s, a, t] * reward[r, s, a, t]
                    x += paid
                    xx += paid * reward[r, s, a, t]
                mean[r, s, a] = x
                most = xx if xx > most or xx != xx else most
        scale[r] = np.sqrt(most)


@compiled
def _equations(tau, policy, discount, matrix):
    """I - discount * P under the policy."""
    S, A, _ = tau.shape
    for s in range(S):
        for t in range(S):
            matrix[s, t] = 0.0
        for a in range(A):
            share = discount * policy[s, a]
            for t in range(S):
                matrix[s, t] -= share * tau[s, a, t]
        matrix[s, s] += 1.0


@compiled
def _solve(matrix, right):
    """Gaussian elimination in place; `right` [R, S] becomes the solutions.

    Each diagonal entry outweighs the rest of its row (1 - g p > g (1 - p)), so pivots would change nothing.
    """
    S, R = matrix.shape[0], right.shape[0]
    for k in range(S):
        inverse = 1.0 / matrix[k, k]
        for i in range(k + 1, S):
            factor = matrix[i, k] * inverse
            for j in range(k + 1, S):
                matrix[i, j] -= factor * matrix[k, j]
            for r in range(R):
                right[r, i] -= factor * right[r, k]
    for r in range(R):
        for i in range(S - 1, -1, -1):
            x = right[r, i]
            for j in range(i + 1, S):
                x -= matrix[i, j] * right[r, j]
            right[r, i] = x / matrix[i, i]
